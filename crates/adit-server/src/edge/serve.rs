//! The loop that serves connections.

use std::{io, sync::Arc, time::Duration};

use axum::{Router, body::Body};
use hyper::{body::Incoming, server::conn::http1};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use tokio::{net::TcpListener, sync::Semaphore};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::Peer;

/// How long a client may take to send the head of a request, counted anew for each.
const HEADER_TIMEOUT: Duration = Duration::from_secs(15);
/// How many connections are served at a time; further ones wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 4096;
/// How long requests in progress may take after we were asked to stop.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(3);
/// How long accepting rests after the kernel refused it (no descriptors left), so that it does not spin.
const ACCEPT_REST: Duration = Duration::from_millis(50);

/// Serves connections until cancelled, then lets requests in progress end.
///
/// # Errors
/// None so far: a listener that cannot accept is tried again.
pub async fn serve(listener: TcpListener, router: Router, cancel: CancellationToken) -> io::Result<()> {
    // HTTP/1 alone: without TLS there is nobody to agree on HTTP/2 with, and telling the two apart by their first bytes
    // would wait for those without end.
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT);
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let graceful = GracefulShutdown::new();
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
        let service = router.clone().map_request(move |r: hyper::Request<Incoming>| {
            let mut request = r.map(Body::new);
            request.extensions_mut().insert(Peer(peer));
            request
        });
        let connection = builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            let _place = place;
            if let Err(e) = connection.await {
                tracing::debug!(error = %e, "A connection broke off.");
            }
        });
    }
    drop(listener);
    if tokio::time::timeout(SHUTDOWN_TIMEOUT, graceful.shutdown())
        .await
        .is_err()
    {
        tracing::warn!("Requests in progress were cut off.");
    }
    Ok(())
}
