//! The edge of the process: what every request passes on its way in and out, and the loop that serves connections.
//!
//! Owns request ids, unknown paths, time-outs and shutdown; never knows what a request is about.

use std::{io, sync::Arc, time::Duration};

use adit_model::{ApiError, Code};
use axum::{
    Router,
    body::Body,
    extract::Request,
    http::{HeaderName, HeaderValue, Method, Uri},
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use hyper::{body::Incoming, server::conn::http1};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use tokio::{net::TcpListener, sync::Semaphore};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;
use tower_http::catch_panic::CatchPanicLayer;
use uuid::Uuid;

use crate::{error::Failure, unread};

/// The header that names a request in our logs.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The longest id that we take over from a client, in bytes.
const REQUEST_ID_BYTES_MAX: usize = 64;
/// How much of a path a message shows, in characters.
const PATH_CHARS_SHOWN_MAX: usize = 120;
/// How long a client may take to send the head of a request, counted anew for each.
const HEADER_TIMEOUT: Duration = Duration::from_secs(15);
/// How many connections are served at a time; further ones wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 4096;
/// How long requests in progress may take after we were asked to stop.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(3);
/// How long accepting rests after the kernel refused it (no descriptors left), so that it does not spin.
const ACCEPT_REST: Duration = Duration::from_millis(50);

/// Adds to a whole router what every reply has: an id, and an answer in the usual form where there is no route.
pub fn finish(router: Router) -> Router {
    router
        .method_not_allowed_fallback(async |method: Method, uri: Uri| {
            Failure::Method(format!("{} does not take {method}.", shown(&uri)))
        })
        .fallback(async |uri: Uri| {
            Failure::from(ApiError::because(
                Code::E0005,
                format!("There is nothing at {}.", shown(&uri)),
            ))
        })
        .layer(middleware::from_fn(unread::settle))
        .layer(CatchPanicLayer::custom(|_: Box<dyn std::any::Any + Send>| {
            Failure::from(Code::E0001).into_response()
        }))
        .layer(middleware::from_fn(request_id))
}

/// A path as a message shows it.
fn shown(uri: &Uri) -> String {
    uri.path().chars().take(PATH_CHARS_SHOWN_MAX).collect()
}

/// Gives each request an id: the client's own, where it is fit to be printed, else a new one.
async fn request_id(request: Request, next: Next) -> Response {
    let fit = |v: &&HeaderValue| {
        v.len() <= REQUEST_ID_BYTES_MAX && !v.is_empty() && v.as_bytes().iter().all(u8::is_ascii_graphic)
    };
    let id = request.headers().get(REQUEST_ID).filter(fit).cloned();
    let id = id.or_else(|| HeaderValue::from_str(&Uuid::new_v4().to_string()).ok());
    let id = id.unwrap_or(HeaderValue::from_static("-"));
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let mut response = next.run(request).await;
    tracing::debug!(
        request.id = id.to_str().unwrap_or_default(), http.method = %method, http.path = path, http.status = response.status().as_u16(),
        "Answered a request."
    );
    response.headers_mut().insert(REQUEST_ID, id);
    response
}

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
        let stream = tokio::select! {
            () = cancel.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(e) => {
                    tracing::warn!(error = %e, "A connection could not be accepted.");
                    tokio::time::sleep(ACCEPT_REST).await;
                    continue;
                }
            },
        };
        // Replies are small and complete: waiting to fill a segment only delays them.
        let _ = stream.set_nodelay(true);
        let service = router
            .clone()
            .map_request(|r: hyper::Request<Incoming>| r.map(Body::new));
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
