//! TLS: a certificate and its key, read from files and read again when the operator says so.
//!
//! Owns what is offered in a handshake (TLS 1.2 and 1.3, HTTP/2 and HTTP/1.1). A connection keeps the certificate that it
//! was made with; files that cannot be used leave the former ones in place.

use std::{
    fmt::{self, Write as _},
    fs::File,
    io::{self, BufReader},
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::RwLock;
use sha2::{Digest, Sha256};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        self, RootCertStore, ServerConfig,
        client::verify_server_name,
        crypto::{CryptoProvider, ring},
        pki_types::{
            CertificateDer, PrivateKeyDer, ServerName,
            pem::{self, PemObject},
        },
        server::{ParsedCertificate, WebPkiClientVerifier, danger::ClientCertVerifier},
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
    /// Whom certificates of clients are to be of.
    #[error("{} holds no authority that can be trusted: {why}", path.display())]
    Authorities {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
}

/// A certificate and its key, and whose certificates of clients are looked at.
pub struct Tls {
    certificate: PathBuf,
    key: PathBuf,
    /// Authorities of clients.
    clients: Option<PathBuf>,
    offered: RwLock<Offered>,
}

/// What is offered now.
#[derive(Clone)]
struct Offered {
    config: Arc<ServerConfig>,
    fingerprint: String,
}

/// A client's certificate, which an authority that is trusted with it has signed, among the extensions of its requests.
#[derive(Clone, Debug)]
pub(crate) struct ClientCertificate(pub(crate) CertificateDer<'static>);

impl ClientCertificate {
    /// Whether it is this client's: one of its alternative names is the client's.
    pub(crate) fn is_of(&self, name: &str) -> bool {
        let (Ok(certificate), Ok(name)) = (ParsedCertificate::try_from(&self.0), ServerName::try_from(name))
        else {
            return false;
        };
        verify_server_name(&certificate, &name).is_ok()
    }
}

impl Tls {
    /// Reads a certificate (its chain following it) and its private key, each from a PEM file.
    ///
    /// # Errors
    /// By the file that cannot be used.
    pub fn load(certificate: PathBuf, key: PathBuf) -> Result<Self, TlsError> {
        Self::read(certificate, key, None)
    }

    /// The same, for clients that may show a certificate of one of the authorities in a file: any other certificate ends the
    /// handshake, and whether one is needed is for whoever answers requests to say.
    ///
    /// # Errors
    /// By the file that cannot be used.
    pub fn with_clients_of(&self, authorities: PathBuf) -> Result<Self, TlsError> {
        Self::read(self.certificate.clone(), self.key.clone(), Some(authorities))
    }

    fn read(certificate: PathBuf, key: PathBuf, clients: Option<PathBuf>) -> Result<Self, TlsError> {
        let offered = RwLock::new(read(&certificate, &key, clients.as_deref())?);
        Ok(Self {
            certificate,
            key,
            clients,
            offered,
        })
    }

    /// Reads the files again, for connections that begin from now on.
    ///
    /// # Errors
    /// By the file that cannot be used; what was used stays in use.
    pub fn reload(&self) -> Result<(), TlsError> {
        let new = read(&self.certificate, &self.key, self.clients.as_deref())?;
        *self.offered.write() = new;
        Ok(())
    }

    /// The SHA-256 of the certificate, in hexadecimal digits.
    pub fn fingerprint(&self) -> String {
        self.offered.read().fingerprint.clone()
    }

    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        Arc::clone(&self.offered.read().config).into()
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("certificate", &self.certificate)
            .field("key", &self.key)
            .field("clients", &self.clients)
            .finish_non_exhaustive()
    }
}

/// The SHA-256 of a certificate, in hexadecimal digits.
pub(crate) fn fingerprint(certificate: &CertificateDer<'_>) -> String {
    let mut text = String::new();
    for byte in Sha256::digest(certificate) {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// The certificates in a PEM file: at least one.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_reader_iter(open(path)?).collect();
    let chain = chain.and_then(|chain| match chain.as_slice() {
        [] => Err(pem::Error::NoItemsFound),
        _ => Ok(chain),
    });
    chain.map_err(refused("certificate", path))
}

fn refused(what: &'static str, path: &Path) -> impl FnOnce(pem::Error) -> TlsError + use<> {
    let path = path.to_owned();
    move |source| TlsError::Pem { what, path, source }
}

fn read(certificate: &Path, key: &Path, clients: Option<&Path>) -> Result<Offered, TlsError> {
    let chain = certificates(certificate)?;
    let fingerprint = chain.first().map(fingerprint).unwrap_or_default();
    let secret = PrivateKeyDer::from_pem_reader(open(key)?).map_err(refused("private key", key))?;
    let unusable = |source| TlsError::Unusable {
        certificate: certificate.to_owned(),
        key: key.to_owned(),
        source,
    };
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(unusable)?;
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(path) => builder.with_client_cert_verifier(verifier(path, provider)?),
    };
    let mut config = builder.with_single_cert(chain, secret).map_err(unusable)?;
    config.alpn_protocols = vec![H2.to_vec(), HTTP_1.to_vec()];
    Ok(Offered {
        config: Arc::new(config),
        fingerprint,
    })
}

/// What looks at clients' certificates.
fn verifier(path: &Path, provider: Arc<CryptoProvider>) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let untrusted = |why: String| TlsError::Authorities {
        path: path.to_owned(),
        why,
    };
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|e| untrusted(e.to_string()))?;
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .allow_unauthenticated()
        .build()
        .map_err(|e| untrusted(e.to_string()))
}

fn open(path: &Path) -> Result<BufReader<File>, TlsError> {
    let file = File::open(path).map_err(|source| TlsError::Open {
        path: path.to_owned(),
        source,
    })?;
    Ok(BufReader::new(file))
}
