//! The control plane of a gateway that is a process of its own: its feed, over HTTP, from whichever of its addresses has one.
//!
//! ```text
//! Control (one connection, one request) ─► Lines (a stream, its silence bounded) ─► Follower (events down, reports up, the
//! next address where one fails)                                                     └► LastGood (what was told, on disk)
//! ```
//!
//! Owns the connection and what survives without it. Never decides anything on what it carries, and never lets a control
//! plane that is away hold up what works: reports wait here, one for each endpoint.

mod certificates;
mod follower;
mod last_good;
mod legs;
mod reach;
#[cfg(test)]
mod sample;
mod sources;

use std::{fmt, io, str::FromStr, sync::Arc, time::Duration};

use http_body_util::{BodyExt, Full};
use hyper::{
    Method, Request, Response, Uri,
    body::{Bytes, Incoming},
    client::conn::http1::{self, SendRequest},
    header,
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    task::JoinHandle,
    time::timeout,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{self, AlertDescription, pki_types::ServerName},
};

pub use certificates::{Certificates, TrustError};
pub use follower::{Follower, Node};
pub use last_good::{LastGood, LastGoodError};
pub use legs::{VpcOf, Vpcs};

/// How long an address may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a stream may be silent; the control plane sends a line each second.
const SILENCE_MAX: Duration = Duration::from_secs(4);
/// The longest line, in bytes: far more than a piece of a snapshot has, also where its endpoints have long whitelists.
const LINE_BYTES_MAX: usize = 1 << 28;
/// How much of a refusal is read, in bytes.
const REFUSAL_BYTES_MAX: usize = 4096;

/// One address of the control plane: `http://HOST:PORT` or `https://HOST:PORT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlUrl {
    secured: bool,
    host: String,
    port: u16,
}

impl FromStr for ControlUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = || format!("{text:?} is not of the form http://HOST:PORT or https://HOST:PORT");
        let uri: Uri = text.parse().map_err(|_| form())?;
        let secured = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(form()),
        };
        let (Some(host), Some(port)) = (uri.host(), uri.port_u16()) else {
            return Err(form());
        };
        if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
            return Err(form());
        }
        if host.is_empty() {
            return Err(form());
        }
        Ok(Self {
            secured,
            host: host.trim_matches(['[', ']']).to_owned(),
            port,
        })
    }
}

impl fmt::Display for ControlUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.secured { "https" } else { "http" };
        write!(f, "{scheme}://{}", self.authority())
    }
}

impl ControlUrl {
    fn authority(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }
}

/// Why the control plane does not answer as it should. All of it may pass.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The address.
    #[error("cannot be connected to")]
    Connect(#[source] io::Error),
    /// TLS is wanted and nothing is trusted.
    #[error("no certificate is trusted (--control-cacert)")]
    NoTrust,
    /// The certificates.
    #[error(transparent)]
    Certificates(#[from] TrustError),
    /// It has refused ours.
    #[error("does not accept our certificate (--control-cert): {0:?}")]
    Certificate(AlertDescription),
    /// HTTP.
    #[error("does not speak HTTP as it should")]
    Http(#[from] hyper::Error),
    /// It said no.
    #[error("answers {status}: {why}")]
    Refused {
        /// The status.
        status: u16,
        /// Its words.
        why: String,
    },
    /// It said nothing.
    #[error("is silent")]
    Silent,
    /// What it said is nothing that this version knows.
    #[error("says what this version does not know")]
    Unknown(#[from] serde_json::Error),
    /// It said too much at once.
    #[error("sends a line that is too long")]
    Long,
    /// The stream's end.
    #[error("ended the stream")]
    Ended,
}

impl ControlError {
    /// The same, or, where our certificate is what it was about, that.
    fn or_refused_certificate(self) -> Self {
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&self);
        while let Some(error) = cause {
            let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
            let tls = inner.and_then(|e| e.downcast_ref::<rustls::Error>());
            if let Some(rustls::Error::AlertReceived(alert)) = tls
                && is_about_certificate(*alert)
            {
                return ControlError::Certificate(*alert);
            }
            cause = error.source();
        }
        self
    }
}

fn is_about_certificate(alert: AlertDescription) -> bool {
    matches!(
        alert,
        AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateRequired
            | AlertDescription::DecryptError
    )
}

/// How the control plane is spoken to.
#[derive(Clone)]
pub struct Control {
    secret: Option<Arc<str>>,
    tls: Option<Certificates>,
}

impl Control {
    /// For whoever shows this secret, or a certificate, or both, and trusts these certificates.
    ///
    /// # Errors
    /// Where a file of certificates cannot be used.
    pub fn new(secret: Option<&str>, tls: Option<Certificates>) -> Result<Self, TrustError> {
        if let Some(tls) = &tls {
            tls.read()?;
        }
        Ok(Self {
            secret: secret.map(Into::into),
            tls,
        })
    }

    /// Opens a connection.
    async fn connect(&self, url: &ControlUrl) -> Result<Connection, ControlError> {
        timeout(ANSWER_TIMEOUT, self.connect_in_time(url))
            .await
            .map_err(|_| ControlError::Silent)?
    }

    async fn connect_in_time(&self, url: &ControlUrl) -> Result<Connection, ControlError> {
        let stream = TcpStream::connect((url.host.as_str(), url.port)).await;
        let stream = stream.map_err(ControlError::Connect)?;
        let _ = stream.set_nodelay(true);
        let (requests, driver) = if url.secured {
            let tls = self.tls.as_ref().ok_or(ControlError::NoTrust)?.read()?;
            let name = ServerName::try_from(url.host.clone())
                .map_err(|e| ControlError::Connect(io::Error::other(e)))?;
            let connector = TlsConnector::from(Arc::new(tls));
            let stream = connector.connect(name, stream).await;
            drive(stream.map_err(ControlError::Connect)?).await?
        } else {
            drive(stream).await?
        };
        Ok(Connection {
            requests,
            driver,
            authority: url.authority(),
            secret: self.secret.clone(),
        })
    }

    /// Asks for a stream of lines.
    ///
    /// # Errors
    /// Where the address does not answer with one in time.
    pub async fn lines(&self, url: &ControlUrl, path: &str) -> Result<Lines, ControlError> {
        let mut connection = self.connect(url).await?;
        let reply = connection.ask(Method::GET, path, Bytes::new()).await?;
        Ok(Lines {
            body: reply.into_body(),
            buffer: Vec::new(),
            scanned: 0,
            _connection: connection,
        })
    }
}

type Driven = (SendRequest<Full<Bytes>>, JoinHandle<()>);

async fn drive(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Result<Driven, ControlError> {
    let (requests, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let driver = tokio::spawn(async move {
        // Whoever waits for an answer hears of it.
        let _ = connection.await;
    });
    Ok((requests, driver))
}

/// An open connection.
struct Connection {
    requests: SendRequest<Full<Bytes>>,
    driver: JoinHandle<()>,
    authority: String,
    secret: Option<Arc<str>>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Connection {
    /// One request; answers the reply's head once it is a good one.
    async fn ask(
        &mut self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Response<Incoming>, ControlError> {
        timeout(ANSWER_TIMEOUT, self.ask_in_time(method, path, body))
            .await
            .map_err(|_| ControlError::Silent)?
            .map_err(ControlError::or_refused_certificate)
    }

    async fn ask_in_time(
        &mut self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Response<Incoming>, ControlError> {
        self.requests.ready().await?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, &self.authority)
            .header(header::CONTENT_TYPE, "application/json");
        let request = match &self.secret {
            Some(secret) => request.header(header::AUTHORIZATION, format!("Bearer {secret}")),
            None => request,
        };
        let request = request.body(Full::new(body));
        let request = request.map_err(|e| ControlError::Connect(io::Error::other(e)))?;
        let reply = self.requests.send_request(request).await?;
        let status = reply.status();
        if status.is_success() {
            return Ok(reply);
        }
        let mut why = Vec::new();
        let mut body = reply.into_body();
        while let Some(frame) = body.frame().await
            && why.len() < REFUSAL_BYTES_MAX
        {
            why.extend_from_slice(frame?.data_ref().map_or(&[], |data| &data[..]));
        }
        #[derive(serde::Deserialize)]
        struct Refusal {
            error: String,
        }
        let said: Result<Refusal, _> = serde_json::from_slice(&why);
        Err(ControlError::Refused {
            status: status.as_u16(),
            why: said.map_or_else(|_| String::from_utf8_lossy(&why).into_owned(), |said| said.error),
        })
    }
}

/// A stream of lines, which is never silent for long.
pub struct Lines {
    body: Incoming,
    buffer: Vec<u8>,
    /// So much of the buffer has no end of a line in it.
    scanned: usize,
    _connection: Connection,
}

impl Lines {
    /// The next line, read as what it is.
    ///
    /// # Errors
    /// Where the stream has ended, is silent, or says what nobody knows.
    pub async fn next<T: serde::de::DeserializeOwned>(&mut self) -> Result<T, ControlError> {
        loop {
            if let Some(found) = self.buffer[self.scanned..].iter().position(|b| *b == b'\n') {
                let end = self.scanned + found;
                let line = serde_json::from_slice(&self.buffer[..end]);
                self.buffer.drain(..=end);
                self.scanned = 0;
                return Ok(line?);
            }
            self.scanned = self.buffer.len();
            if self.buffer.len() > LINE_BYTES_MAX {
                return Err(ControlError::Long);
            }
            let frame = timeout(SILENCE_MAX, self.body.frame()).await;
            let frame = frame.map_err(|_| ControlError::Silent)?;
            let frame = frame.ok_or(ControlError::Ended)??;
            self.buffer
                .extend_from_slice(frame.data_ref().map_or(&[], |data| &data[..]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_scheme_a_host_and_a_port() {
        for good in [
            "http://127.0.0.1:7118",
            "https://api-1.example.com:443",
            "http://[::1]:7118",
        ] {
            assert_eq!(good.parse::<ControlUrl>().unwrap().to_string(), good);
        }
        for bad in [
            "",
            "127.0.0.1:7118",
            "http://127.0.0.1",
            "ftp://a:1",
            "http://a:1/path",
            "http://a:1/?x",
            "http://:1",
        ] {
            assert!(bad.parse::<ControlUrl>().is_err(), "{bad}");
        }
    }
}
