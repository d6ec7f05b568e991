//! TLS: a certificate and its key, read from files and read again when the operator says so.
//!
//! Owns what is offered in a handshake (TLS 1.2 and 1.3, HTTP/2 and HTTP/1.1). A connection keeps the certificate that it
//! was made with; files that cannot be used leave the former ones in place.

use std::{
    fmt,
    fs::File,
    io::{self, BufReader},
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::RwLock;
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        self, ServerConfig,
        crypto::ring,
        pki_types::{
            CertificateDer, PrivateKeyDer,
            pem::{self, PemObject},
        },
    },
};

/// The name of HTTP/2 in a handshake.
pub(crate) const H2: &[u8] = b"h2";
/// The name of HTTP/1.1 in a handshake.
const HTTP_1: &[u8] = b"http/1.1";

/// Why a certificate and a key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file.
    #[error("cannot open {}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file that is not PEM, or holds no such thing.
    #[error("{} holds no {what} in PEM form", path.display())]
    Pem {
        /// What was looked for.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What was found.
        source: pem::Error,
    },
    /// The two cannot be used together.
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

/// A certificate and its key.
pub struct Tls {
    certificate: PathBuf,
    key: PathBuf,
    config: RwLock<Arc<ServerConfig>>,
}

impl Tls {
    /// Reads a certificate (its chain following it) and its private key, each from a PEM file.
    ///
    /// # Errors
    /// By the file that cannot be used.
    pub fn load(certificate: PathBuf, key: PathBuf) -> Result<Self, TlsError> {
        let config = RwLock::new(Arc::new(read(&certificate, &key)?));
        Ok(Self {
            certificate,
            key,
            config,
        })
    }

    /// Reads both files again, for connections that begin from now on.
    ///
    /// # Errors
    /// By the file that cannot be used; what was used stays in use.
    pub fn reload(&self) -> Result<(), TlsError> {
        let new = Arc::new(read(&self.certificate, &self.key)?);
        *self.config.write() = new;
        Ok(())
    }

    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        Arc::clone(&self.config.read()).into()
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("certificate", &self.certificate)
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

fn read(certificate: &Path, key: &Path) -> Result<ServerConfig, TlsError> {
    let refused = |what, path: &Path| {
        let path = path.to_owned();
        move |source| TlsError::Pem { what, path, source }
    };
    let chain: Result<Vec<CertificateDer<'_>>, _> =
        CertificateDer::pem_reader_iter(open(certificate)?).collect();
    let chain = chain.and_then(|chain| match chain.as_slice() {
        [] => Err(pem::Error::NoItemsFound),
        _ => Ok(chain),
    });
    let chain = chain.map_err(refused("certificate", certificate))?;
    let secret = PrivateKeyDer::from_pem_reader(open(key)?).map_err(refused("private key", key))?;
    let unusable = |source| TlsError::Unusable {
        certificate: certificate.to_owned(),
        key: key.to_owned(),
        source,
    };
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(unusable)?
        .with_no_client_auth()
        .with_single_cert(chain, secret)
        .map_err(unusable)?;
    config.alpn_protocols = vec![H2.to_vec(), HTTP_1.to_vec()];
    Ok(config)
}

fn open(path: &Path) -> Result<BufReader<File>, TlsError> {
    let file = File::open(path).map_err(|source| TlsError::Open {
        path: path.to_owned(),
        source,
    })?;
    Ok(BufReader::new(file))
}
