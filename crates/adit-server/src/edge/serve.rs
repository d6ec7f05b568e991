//! The loop that serves connections: HTTP/1.1 in the clear, HTTP/1.1 or HTTP/2 by the client's choice over TLS.

use std::{convert::Infallible, io, net::SocketAddr, pin::Pin, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    http::{
        HeaderValue, Version,
        header::{CONNECTION, HOST},
    },
};
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::graceful::{GracefulShutdown, Watcher},
};
use prometheus_client::metrics::gauge::Gauge;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_rustls::rustls;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::{
    Edge, Peer,
    metrics::{HTTP_1, HTTP_2},
    origin::Secured,
    patience::{Paced, Reply, Watch},
    tls::{ClientCertificate, H2, Tls},
};

/// How long a client may take to agree on a key.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a client may take to hear that its certificate is refused.
const ALERT_TIMEOUT: Duration = Duration::from_secs(1);
/// How many connections are served at a time; further ones wait in the kernel's queue.
const CONNECTIONS_MAX: u32 = 4096;
/// How long requests in progress may take after we were asked to stop.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(3);
/// How long idle HTTP/1.1 connections are kept then: a request that comes on one is answered, with the word that it is the
/// last. Closed at once, it would take along what is on its way, and its client could not know whether that was done.
const IDLE_GRACE: Duration = Duration::from_millis(500);
/// How long accepting rests after the kernel refused it (no descriptors left), so that it does not spin.
const ACCEPT_REST: Duration = Duration::from_millis(50);

/// How many requests one HTTP/2 connection may have in progress: as many as a client's pool of connections would.
const H2_STREAMS_MAX: u32 = 128;
/// How large the head of an HTTP/2 request may be, in bytes: Keystone's longest tokens take some ten thousand.
const H2_HEAD_BYTES_MAX: u32 = 64 * 1024;
/// How many requests a client may take back before we have looked at them, until its connection is closed: the attack
/// of taking back every one at once is cheaper than serving it.
const H2_RESETS_PENDING_MAX: usize = 20;
/// How many requests we may have to refuse as malformed until the connection is closed.
const H2_ERRORS_MAX: usize = 256;
/// How often a silent HTTP/2 client is asked whether it is there, and how long it may take to say so.
const H2_PING_PERIOD: Duration = Duration::from_secs(20);
const H2_PING_TIMEOUT: Duration = Duration::from_secs(10);

impl Edge {
    /// Serves connections until cancelled, then lets requests in progress end. Without a certificate, they are in the clear.
    ///
    /// # Errors
    /// None so far: a listener that cannot accept is tried again.
    pub async fn serve(
        self: Arc<Self>,
        listener: TcpListener,
        router: Router,
        tls: Option<Arc<Tls>>,
        cancel: CancellationToken,
    ) -> io::Result<()> {
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX as usize));
        let (one_by_one, multiplexed) = (GracefulShutdown::new(), GracefulShutdown::new());
        // Whatever ends this ends the connections that are left then.
        let cut = CancellationToken::new();
        let _cut = cut.clone().drop_guard();
        loop {
            let place = tokio::select! {
                () = cancel.cancelled() => break,
                place = Arc::clone(&places).acquire_owned() => place,
            };
            let (stream, peer) = tokio::select! {
                () = cancel.cancelled() => break,
                accepted = listener.accept() => match accepted {
                    Ok(accepted) => accepted,
                    Err(e) => {
                        tracing::warn!(error = %e, "A connection could not be accepted.");
                        tokio::time::sleep(ACCEPT_REST).await;
                        continue;
                    }
                },
            };
            // Replies are small and complete: waiting to fill a segment only delays them.
            let _ = stream.set_nodelay(true);
            let connection = Connection {
                peer,
                certificate: None,
                edge: Arc::clone(&self),
                router: router.clone(),
                one_by_one: one_by_one.watcher(),
                multiplexed: multiplexed.watcher(),
                closing: cancel.clone(),
            };
            let (tls, cancel, cut) = (tls.clone(), cancel.clone(), cut.clone());
            tokio::spawn(async move {
                let _place = place;
                let _open = Open::new(&connection.edge);
                let served = async {
                    match tls {
                        None => connection.http_1(stream, false).await,
                        Some(tls) => connection.secured(stream, &tls, cancel).await,
                    }
                };
                let ended = tokio::select! {
                    ended = served => ended,
                    () = cut.cancelled() => return,
                };
                if let Err(e) = ended {
                    tracing::debug!(client.address = %peer, error = &*e, "A connection broke off.");
                }
            });
        }
        drop(listener);
        let idle = async {
            // Or until all connections have ended.
            let all = places.acquire_many(CONNECTIONS_MAX);
            let _ = tokio::time::timeout(IDLE_GRACE, all).await;
            one_by_one.shutdown().await;
        };
        // HTTP/2 says by itself which requests were not begun.
        let ended = async { tokio::join!(idle, multiplexed.shutdown()) };
        if tokio::time::timeout(SHUTDOWN_TIMEOUT, ended).await.is_err() {
            tracing::warn!("Requests in progress were cut off.");
        }
        Ok(())
    }
}

/// Counts a connection as open until it is dropped.
struct Open(Gauge);

impl Open {
    fn new(edge: &Edge) -> Self {
        edge.metrics.open.inc();
        Self(edge.metrics.open.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}

type Ended = Result<(), Box<dyn std::error::Error + Send + Sync>>;

/// One client's connection, before it is known what it speaks.
struct Connection {
    peer: SocketAddr,
    /// The client's, where it has shown one that is trusted.
    certificate: Option<ClientCertificate>,
    edge: Arc<Edge>,
    router: Router,
    /// Say when to stop, and hold the stop up until the connection has ended: where one request follows the other, and where
    /// there are many at a time.
    one_by_one: Watcher,
    multiplexed: Watcher,
    /// Cancelled when every answer is to be the connection's last.
    closing: CancellationToken,
}

impl Connection {
    /// Agrees on a key, and serves what the client wants to speak.
    async fn secured(mut self, stream: TcpStream, tls: &Tls, cancel: CancellationToken) -> Ended {
        let handshake = tls.acceptor().accept(stream).into_fallible();
        let shaken = tokio::select! {
            () = cancel.cancelled() => return Ok(()),
            shaken = tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake) => shaken,
        };
        let stream = match shaken {
            Ok(Ok(stream)) => stream,
            failed => {
                self.edge.metrics.handshakes_failed.inc();
                return match failed {
                    Ok(Err((e, stream))) => {
                        self.say_why(&e, stream).await;
                        Err(e.into())
                    }
                    _ => Err(io::Error::from(io::ErrorKind::TimedOut).into()),
                };
            }
        };
        let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        self.certificate = shown.map(|shown| ClientCertificate(shown.clone().into_owned()));
        match stream.get_ref().1.alpn_protocol() {
            Some(H2) => self.http_2(stream).await,
            _ => self.http_1(stream, true).await,
        }
    }

    /// A client whose certificate is refused is to hear of it: what it has sent meanwhile is read, since a connection that is
    /// closed over unread bytes is reset, and the alert lost.
    async fn say_why(&self, error: &io::Error, mut stream: TcpStream) {
        let inner = error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>());
        if !matches!(inner, Some(rustls::Error::InvalidCertificate(_))) {
            return;
        }
        tracing::warn!(client.address = %self.peer, error = %error, "A client's certificate is refused.");
        let read = async {
            stream.shutdown().await?;
            let mut left = [0; 1024];
            while stream.read(&mut left).await? > 0 {}
            Ok::<_, io::Error>(())
        };
        let _ = tokio::time::timeout(ALERT_TIMEOUT, read).await;
    }

    async fn http_1(
        self,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        secured: bool,
    ) -> Ended {
        self.edge.metrics.connections.get_or_create(&HTTP_1).inc();
        // In the clear there is nobody to agree on HTTP/2 with, and telling the two apart by their first bytes would wait
        // for those without end.
        let mut builder = http1::Builder::new();
        // Our own patience tells a slow head from an idle connection.
        builder.timer(TokioTimer::new()).header_read_timeout(None);
        let watch = Watch::new(self.edge.limits.patience, false);
        let service = service_fn(self.service(&watch, secured));
        let stream = Paced {
            stream,
            watch: watch.clone(),
        };
        let connection = builder.serve_connection(TokioIo::new(stream), service);
        let connection = self.one_by_one.watch(connection);
        Ok(watch
            .over(connection)
            .await
            .inspect_err(|cut| self.edge.count(*cut))??)
    }

    async fn http_2(self, stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Ended {
        self.edge.metrics.connections.get_or_create(&HTTP_2).inc();
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(H2_STREAMS_MAX)
            .max_header_list_size(H2_HEAD_BYTES_MAX)
            .max_pending_accept_reset_streams(H2_RESETS_PENDING_MAX)
            .max_local_error_reset_streams(H2_ERRORS_MAX)
            .keep_alive_interval(H2_PING_PERIOD)
            .keep_alive_timeout(H2_PING_TIMEOUT);
        let watch = Watch::new(self.edge.limits.patience, true);
        let service = service_fn(self.service(&watch, true));
        let stream = Paced {
            stream,
            watch: watch.clone(),
        };
        let connection = builder.serve_connection(TokioIo::new(stream), service);
        let connection = self.multiplexed.watch(connection);
        Ok(watch
            .over(connection)
            .await
            .inspect_err(|cut| self.edge.count(*cut))??)
    }

    /// The router, told what only the connection knows.
    fn service(
        &self,
        watch: &Watch,
        secured: bool,
    ) -> impl Fn(hyper::Request<Incoming>) -> Answer + Send + 'static + use<> {
        let (peer, router, watch) = (Peer(self.peer), self.router.clone(), watch.clone());
        let (certificate, closing) = (self.certificate.clone(), self.closing.clone());
        move |request| {
            let exchange = watch.begin();
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(peer);
            if let Some(certificate) = &certificate {
                request.extensions_mut().insert(certificate.clone());
            }
            if secured {
                request.extensions_mut().insert(Secured);
            }
            name_host(&mut request);
            let (router, closing) = (router.clone(), closing.clone());
            let one_by_one = request.version() < Version::HTTP_2;
            Box::pin(async move {
                let mut reply = router.oneshot(request).await?;
                if one_by_one && closing.is_cancelled() {
                    let headers = reply.headers_mut();
                    headers.insert(CONNECTION, HeaderValue::from_static("close"));
                }
                Ok(reply.map(|body| Reply {
                    body,
                    _exchange: exchange,
                }))
            })
        }
    }
}

type Answer = Pin<Box<dyn Future<Output = Result<hyper::Response<Reply>, Infallible>> + Send>>;

/// HTTP/2 has the host in its target and not among the headers, where everybody looks for it, also who checks signatures.
fn name_host(request: &mut hyper::Request<Body>) {
    if request.headers().contains_key(HOST) {
        return;
    }
    let authority = request
        .uri()
        .authority()
        .map(|host| HeaderValue::from_str(host.as_str()));
    if let Some(Ok(host)) = authority {
        request.headers_mut().insert(HOST, host);
    }
}
