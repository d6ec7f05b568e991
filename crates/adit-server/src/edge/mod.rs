//! The edge of the process: what every request passes on its way in and out, and the loop that serves connections.
//!
//! Owns request ids, unknown paths, time-outs, TLS and shutdown; never knows what a request is about. Read next: `serve`, `tls`.

mod origin;
mod serve;
mod tls;

use std::net::SocketAddr;

use adit_model::{ApiError, Code};
use axum::{
    Router,
    extract::Request,
    http::{HeaderName, HeaderValue, Method, Uri},
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use tower_http::catch_panic::CatchPanicLayer;
use uuid::Uuid;

use crate::{error::Failure, unread};

/// The header that names a request in our logs.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The longest id that we take over from a client, in bytes.
const REQUEST_ID_BYTES_MAX: usize = 64;
/// How much of a path a message shows, in characters.
const PATH_CHARS_SHOWN_MAX: usize = 120;

pub use origin::Origin;
pub use serve::{Serving, serve};
pub use tls::{Tls, TlsError};

/// The address that a request's connection comes from, among the request's extensions.
///
/// The other end of the TCP connection and no more: behind a proxy it is the proxy's. Requests that came by no socket (a
/// router that is called in process) have none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer(pub SocketAddr);

/// Adds to a whole router what every reply has: an id, and an answer in the usual form where there is no route.
pub fn finish(router: Router) -> Router {
    router
        .method_not_allowed_fallback(async |method: Method, uri: Uri| {
            Failure::Method(format!("{} does not take {method}.", shown(&uri)))
        })
        .fallback(absent)
        .layer(middleware::from_fn(unread::settle))
        .layer(CatchPanicLayer::custom(|_: Box<dyn std::any::Any + Send>| {
            Failure::from(Code::E0001).into_response()
        }))
        .layer(middleware::from_fn(request_id))
}

/// The answer where there is nothing.
pub(crate) async fn absent(uri: Uri) -> Failure {
    ApiError::because(Code::E0005, format!("There is nothing at {}.", shown(&uri))).into()
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
