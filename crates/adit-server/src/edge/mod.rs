//! The edge of the process: what every request passes on its way in and out, and the loop that serves connections.
//!
//! Owns request ids, the log of requests, metrics, unknown paths, limits, time-outs, TLS and shutdown; never knows what a
//! request is about. From the outside in: `serve` (connections; `tls`, `patience`), `request` (id, log, numbers), then a
//! place among those in progress, `crate::unread`, and the routes.

mod health;
pub mod limit;
mod metrics;
mod origin;
mod patience;
mod request;
mod serve;
mod tls;

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use adit_model::{ApiError, Code};
use axum::{
    Router,
    extract::Request,
    http::{Method, Uri},
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use prometheus_client::registry::Registry;
use tokio::sync::Semaphore;

use crate::{error::Failure, unread};
use limit::{Buckets, Rate};
use metrics::{CROWDED, Metrics};
use patience::Cut;

pub use health::Health;
pub use origin::Origin;
pub use patience::Patience;
pub use request::Note;
pub(crate) use request::REQUEST_ID;
pub(crate) use tls::{ClientCertificate, fingerprint};
pub use tls::{Tls, TlsError};

/// How much of a path a message shows, in characters.
const PATH_CHARS_SHOWN_MAX: usize = 120;
/// How long a request waits for a place among those in progress: long enough for a burst to pass, and shorter than the
/// half second after which clients try a 504 again.
const PLACE_TIMEOUT: Duration = Duration::from_millis(400);

/// The address that a request's connection comes from, among the request's extensions.
///
/// The other end of the TCP connection and no more: behind a proxy it is the proxy's. Requests that came by no socket (a
/// router that is called in process) have none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer(pub SocketAddr);

/// What the edge lets through.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How many requests may be in progress.
    pub requests_max: usize,
    /// How often requests from one address may lack good credentials; after that, all of its requests are refused for a
    /// while.
    pub failed_logins: Option<Rate>,
    /// How long clients are waited for.
    pub patience: Patience,
    /// Whether `/metrics` is served by a listener of its own, and not beside the API.
    pub metrics_elsewhere: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // Requests wait for the store and for nothing else: more of them at a time would only wait longer.
            requests_max: 1024,
            failed_logins: None,
            patience: Patience::default(),
            metrics_elsewhere: false,
        }
    }
}

/// What the edge of a process keeps between requests.
pub struct Edge {
    limits: Limits,
    metrics: Metrics,
    places: Semaphore,
    failed_logins: Buckets<IpAddr>,
}

impl Edge {
    /// An edge that has seen nothing yet.
    pub fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            metrics: Metrics::default(),
            places: Semaphore::new(limits.requests_max.min(Semaphore::MAX_PERMITS)),
            failed_logins: Buckets::new(limits.failed_logins),
            limits,
        })
    }

    /// Has a registry show what this edge counts.
    pub fn register(&self, registry: &mut Registry) {
        self.metrics.register(registry);
    }

    fn count(&self, cut: Cut) {
        self.metrics.cut.get_or_create(&[("reason", cut.as_str())]).inc();
    }

    /// Adds to a whole router what every reply has: an id, and an answer in the usual form where there is no route. The
    /// paths of `health` are beside it, and outside of the limit on requests in progress.
    pub fn finish(self: &Arc<Self>, router: Router, health: Option<Arc<Health>>) -> Router {
        let state = || Arc::clone(self);
        let mut router = router
            .method_not_allowed_fallback(async |method: Method, uri: Uri| {
                Failure::Method(format!("{} does not take {method}.", shown(&uri)))
            })
            .fallback(absent)
            // As few layers as there can be: each call of a layer copies all that are within it.
            .layer(middleware::from_fn_with_state(state(), request::bounded));
        if let Some(health) = health {
            let health = health.beside(self.limits.metrics_elsewhere);
            router = router.merge(health.layer(middleware::from_fn_with_state(state(), request::unbounded)));
        }
        router
    }
}

/// [`Edge::finish`] of an edge with the usual limits, without anybody who watches over it.
pub fn finish(router: Router) -> Router {
    Edge::new(Limits::default()).finish(router, None)
}

/// Has panics logged where they happen, so that a request's is with its id.
pub fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(tracing::field::display);
        let text = panic.payload();
        let text = text
            .downcast_ref::<&str>()
            .copied()
            .or(text.downcast_ref::<String>().map(String::as_str));
        let why = text.unwrap_or("no text");
        tracing::error!(
            panic.location = place,
            panic.message = why,
            "A defect of Adit: something panicked."
        );
    }));
}

/// Waits for a place among the requests in progress, for a moment; then answers, and reads what is left of the body.
async fn take_place(edge: &Edge, request: Request, next: Next) -> Response {
    let place = match edge.places.try_acquire() {
        Ok(place) => Ok(Ok(place)),
        Err(_) => tokio::time::timeout(PLACE_TIMEOUT, edge.places.acquire()).await,
    };
    match place {
        Ok(_place) => unread::settle(edge.limits.patience.body, request, next).await,
        Err(_) => {
            edge.metrics.refused.get_or_create(&CROWDED).inc();
            Failure::Crowded.into_response()
        }
    }
}

/// The answer where there is nothing.
pub(crate) async fn absent(uri: Uri) -> Failure {
    ApiError::because(Code::E0005, format!("There is nothing at {}.", shown(&uri))).into()
}

/// A path as a message shows it.
fn shown(uri: &Uri) -> String {
    uri.path().chars().take(PATH_CHARS_SHOWN_MAX).collect()
}
