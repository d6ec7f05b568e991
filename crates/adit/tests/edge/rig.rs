//! A server of the edge alone, with a few routes that do what a test wants.

use std::{
    fs,
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream},
    sync::Arc,
    time::Duration,
};

use adit::certificate;
use adit_model::{ApiError, Code};
use adit_server::{
    auth::read_body,
    edge::{Edge, Limits, Patience, Peer, Tls},
    error::Failure,
};
use axum::{
    Extension, Router,
    body::Body,
    routing::{get, post},
};
use prometheus_client::{encoding::prometheus_text, registry::Registry};
use tokio::{net::TcpListener, sync::Semaphore, task::JoinHandle};
use tokio_rustls::rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio_util::sync::CancellationToken;

/// How long a test waits for what has to come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// Of what `/big` answers.
pub(crate) const BIG_BYTES: usize = 64 * 1024 * 1024;

/// Limits with one time-out that is short, so that it is the one that strikes.
pub(crate) fn short(change: impl FnOnce(&mut Patience)) -> Limits {
    let mut limits = Limits::default();
    let patience = &mut limits.patience;
    for timeout in [
        &mut patience.head,
        &mut patience.body,
        &mut patience.idle,
        &mut patience.stall,
        &mut patience.exchange,
    ] {
        *timeout = 10 * PATIENCE;
    }
    change(patience);
    limits
}

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    /// Requests to `/wait` are answered as this has permits.
    pub(crate) gate: Arc<Semaphore>,
    registry: Registry,
    cancel: CancellationToken,
    pub(crate) serving: JoinHandle<std::io::Result<()>>,
    trust: Option<Arc<ClientConfig>>,
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::start_with(Limits::default()).await
    }

    pub(crate) async fn start_with(limits: Limits) -> Self {
        Self::launch(limits, None).await
    }

    /// With a certificate.
    pub(crate) async fn secured(limits: Limits) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let files = certificate::keep(folder.path(), IpAddr::V4(Ipv4Addr::LOCALHOST)).unwrap();
        let mut roots = RootCertStore::empty();
        let pem = fs::read(&files.certificate).unwrap();
        roots.add(CertificateDer::from_pem_slice(&pem).unwrap()).unwrap();
        let mut trust = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        trust.alpn_protocols = vec![b"h2".to_vec()];
        let tls = Tls::load(files.certificate, files.key).unwrap();
        let mut server = Self::launch(limits, Some(Arc::new(tls))).await;
        server.trust = Some(Arc::new(trust));
        server
    }

    async fn launch(limits: Limits, tls: Option<Arc<Tls>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let gate = Arc::new(Semaphore::new(0));
        let waits = Arc::clone(&gate);
        let wait = async move || {
            waits.acquire().await.unwrap().forget();
            "waited"
        };
        let peer = async |Extension(Peer(peer)): Extension<Peer>| peer.to_string();
        let listens = async |body: Body| read_body(body).await.map(|body| body.len().to_string());
        let secret = async || Failure::from(ApiError::from(Code::E0003));
        let panics = async || -> &'static str { panic!("a bug, on purpose") };
        let router = Router::new()
            .route("/", get(async || "here"))
            .route("/deaf", post(async || "answered without listening"))
            .route("/listens", post(listens))
            .route("/peer", get(peer))
            .route("/big", get(async || vec![b'x'; BIG_BYTES]))
            .route("/wait", get(wait))
            .route("/secret", get(secret))
            .route("/things/{id}", get(panics));
        let edge = Edge::new(limits);
        let mut registry = Registry::default();
        edge.register(&mut registry);
        let router = edge.finish(router, None);
        let cancel = CancellationToken::new();
        let serving = tokio::spawn(edge.serve(listener, router, tls, cancel.clone()));
        Self {
            address,
            gate,
            registry,
            cancel,
            serving,
            trust: None,
        }
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// A connection that has agreed on TLS and HTTP/2. Blocks.
    pub(crate) fn connector(
        &self,
    ) -> impl FnOnce() -> StreamOwned<ClientConnection, TcpStream> + Send + use<> {
        let (stream, trust) = (self.connect(), self.trust.clone().unwrap());
        move || {
            let name = ServerName::try_from("127.0.0.1").unwrap();
            let mut stream = StreamOwned::new(ClientConnection::new(trust, name).unwrap(), stream);
            stream.flush().unwrap();
            assert_eq!(stream.conn.alpn_protocol(), Some(&b"h2"[..]));
            stream
        }
    }

    /// The value of a metric, by its name and labels.
    pub(crate) fn metric(&self, line: &str) -> u64 {
        let mut text = String::new();
        prometheus_text::encode(&mut text, &self.registry).unwrap();
        let value = text.lines().find_map(|l| l.strip_prefix(line)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("{line}: {text}")).parse().unwrap()
    }

    /// Asks to stop, and does not wait for it.
    pub(crate) fn cancel(&self) {
        self.cancel.cancel();
    }

    pub(crate) async fn stop(self) {
        self.cancel.cancel();
        self.serving.await.unwrap().unwrap();
    }
}

/// Runs something that blocks.
pub(crate) async fn blocking<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(f).await.unwrap()
}

/// Sends a GET and answers the whole reply; the connection ends with it.
pub(crate) fn get_on(mut stream: TcpStream, path: &str) -> String {
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    reply
}
