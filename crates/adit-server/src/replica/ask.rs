//! One question to the process that leads, by a connection of its own. Its certificate has to be the one that it wrote into the
//! store: no authority has to be named for that.

use std::{io, sync::Arc, time::Duration};

use http_body_util::{BodyExt, Full, Limited};
use hyper::{Method, Request, StatusCode, Uri, body::Bytes, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        self, CertificateError, ClientConfig, DigitallySignedStruct, SignatureScheme,
        client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
        pki_types::{CertificateDer, ServerName, UnixTime},
    },
};
use tokio_util::task::AbortOnDropHandle;

use super::{Answer, Leading, PATH, Question};
use crate::edge::fingerprint;

/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// How long an answer may take on the way, beside what it takes by itself.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// The largest answer, in bytes: the backends of some hundred thousand services.
const ANSWER_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum AskError {
    /// What is written in the store is no address.
    #[error("{0:?} is no address")]
    Address(String),
    /// The connection.
    #[error("cannot be connected to")]
    Connect(#[source] io::Error),
    /// HTTP.
    #[error("does not speak HTTP as it should")]
    Http(#[from] hyper::Error),
    /// The body.
    #[error("does not say all of its answer")]
    Body(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// It said no.
    #[error("answers {0}")]
    Refused(StatusCode),
    /// What it said is nothing that this version knows.
    #[error("says what this version does not know")]
    Unknown(#[from] serde_json::Error),
    /// It said nothing.
    #[error("is silent")]
    Silent,
}

/// Asks once.
pub(super) async fn ask(leading: &Leading, question: &Question) -> Result<Answer, AskError> {
    let asked = async {
        let uri: Uri = leading
            .url
            .parse()
            .map_err(|_| AskError::Address(leading.url.clone()))?;
        let (Some(host), Some(port)) = (uri.host(), uri.port_u16()) else {
            return Err(AskError::Address(leading.url.clone()));
        };
        let host = host.trim_matches(['[', ']']).to_owned();
        let stream = timeout(CONNECT_TIMEOUT, TcpStream::connect((host.as_str(), port))).await;
        let stream = stream.map_err(|_| AskError::Silent)?.map_err(AskError::Connect)?;
        let _ = stream.set_nodelay(true);
        match &leading.certificate {
            None => exchange(stream, leading, &uri, question).await,
            Some(certificate) => {
                let name = ServerName::try_from(host).map_err(|_| AskError::Address(leading.url.clone()))?;
                let connector = TlsConnector::from(Arc::new(pinned(certificate)));
                let stream = connector.connect(name, stream).await.map_err(AskError::Connect)?;
                exchange(stream, leading, &uri, question).await
            }
        }
    };
    timeout(ANSWER_TIMEOUT + question.patience(), asked)
        .await
        .map_err(|_| AskError::Silent)?
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    leading: &Leading,
    uri: &Uri,
    question: &Question,
) -> Result<Answer, AskError> {
    let (mut requests, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let _driver = AbortOnDropHandle::new(tokio::spawn(async move {
        // Whoever waits for the answer hears of it.
        let _ = connection.await;
    }));
    let host = uri.authority().map_or("", |authority| authority.as_str());
    let request = Request::builder()
        .method(Method::POST)
        .uri(PATH)
        .header(header::HOST, host)
        .header(header::AUTHORIZATION, format!("Bearer {}", leading.secret))
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(serde_json::to_vec(question)?)))
        .map_err(|_| AskError::Address(leading.url.clone()))?;
    let reply = requests.send_request(request).await?;
    if reply.status() != StatusCode::OK {
        return Err(AskError::Refused(reply.status()));
    }
    let body = Limited::new(reply.into_body(), ANSWER_BYTES_MAX).collect().await;
    Ok(serde_json::from_slice(&body.map_err(AskError::Body)?.to_bytes())?)
}

/// For one certificate, by its SHA-256, and no other.
fn pinned(fingerprint: &str) -> ClientConfig {
    let provider = Arc::new(ring::default_provider());
    let verifier = Pinned {
        fingerprint: fingerprint.to_owned(),
        provider: Arc::clone(&provider),
    };
    #[expect(
        clippy::expect_used,
        reason = "the versions are those that the provider comes with"
    )]
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider's own versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth()
}

#[derive(Debug)]
struct Pinned {
    fingerprint: String,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match fingerprint(end_entity) == self.fingerprint {
            true => Ok(ServerCertVerified::assertion()),
            false => Err(CertificateError::ApplicationVerificationFailure.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
