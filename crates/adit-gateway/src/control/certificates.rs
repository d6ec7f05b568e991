//! Which certificates are trusted and shown. Read for every connection: who replaces the files need not restart anything.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio_rustls::rustls::{
    self, ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject},
    },
};

/// Why certificates cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// A file that cannot be read, is not PEM, or holds no such thing.
    #[error("{} holds no {what} in PEM form", path.display())]
    Pem {
        /// What was looked for.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What was found.
        source: pem::Error,
    },
    /// Something that is no certificate of an authority.
    #[error("a certificate in {} cannot be trusted", path.display())]
    Untrusted {
        /// The file.
        path: PathBuf,
        /// Why.
        source: rustls::Error,
    },
    /// A certificate and a key that do not go together.
    #[error("the certificate in {} cannot be used with the key in {}", certificate.display(), key.display())]
    Unusable {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// Why.
        source: rustls::Error,
    },
}

/// The files.
#[derive(Clone, Debug)]
pub struct Certificates {
    /// Whom to trust.
    pub trusted: PathBuf,
    /// What to show, its chain following it, and its key.
    pub shown: Option<(PathBuf, PathBuf)>,
}

impl Certificates {
    /// Reads them.
    pub(super) fn read(&self) -> Result<ClientConfig, TrustError> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&self.trusted)? {
            let added = roots.add(certificate);
            added.map_err(|source| TrustError::Untrusted {
                path: self.trusted.clone(),
                source,
            })?;
        }
        #[expect(
            clippy::expect_used,
            reason = "the versions are those that the provider comes with"
        )]
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("the provider's own versions")
            .with_root_certificates(roots);
        let Some((certificate, key)) = &self.shown else {
            return Ok(builder.with_no_client_auth());
        };
        let secret = PrivateKeyDer::from_pem_file(key).map_err(refused("private key", key))?;
        let config = builder.with_client_auth_cert(certificates(certificate)?, secret);
        config.map_err(|source| TrustError::Unusable {
            certificate: certificate.clone(),
            key: key.clone(),
            source,
        })
    }
}

/// The certificates in a file: at least one.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TrustError> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let read = read.and_then(|read| match read.as_slice() {
        [] => Err(pem::Error::NoItemsFound),
        _ => Ok(read),
    });
    read.map_err(refused("certificate", path))
}

fn refused(what: &'static str, path: &Path) -> impl FnOnce(pem::Error) -> TrustError + use<> {
    let path = path.to_owned();
    move |source| TrustError::Pem { what, path, source }
}
