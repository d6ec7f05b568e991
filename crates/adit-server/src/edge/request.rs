//! What every request passes first and every reply last: its id, its line in the log, its place in the metrics.

use std::{net::IpAddr, panic::AssertUnwindSafe, sync::Arc, sync::OnceLock, time::Instant};

use adit_model::{ApiError, Code, id::ProjectId};
use axum::{
    extract::{MatchedPath, Request, State},
    http::{HeaderName, HeaderValue, Method, StatusCode},
    middleware::Next,
    response::{IntoResponse, Response},
};
use futures_util::FutureExt;
use prometheus_client::metrics::gauge::Gauge;
use tracing::Instrument;
use uuid::Uuid;

use super::{
    Edge, Peer,
    metrics::{Answered, Asked, FAILED_LOGINS, FORBIDDEN, Route, UNAUTHENTICATED},
};
use crate::error::Failure;

/// The header that names a request in our logs.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The longest id that we take over from a client, in bytes.
const REQUEST_ID_BYTES_MAX: usize = 64;

/// A request's id: the one that its reply carries.
struct RequestId(HeaderValue);

impl RequestId {
    /// The client's own, where it is fit to be printed, else a new one.
    fn of(request: &Request) -> Self {
        let fit = |v: &&HeaderValue| {
            v.len() <= REQUEST_ID_BYTES_MAX && !v.is_empty() && v.as_bytes().iter().all(u8::is_ascii_graphic)
        };
        let id = request.headers().get(REQUEST_ID).filter(fit).cloned();
        let mut text = Uuid::encode_buffer();
        let id =
            id.or_else(|| HeaderValue::from_str(Uuid::new_v4().hyphenated().encode_lower(&mut text)).ok());
        Self(id.unwrap_or(HeaderValue::from_static("-")))
    }

    /// As text.
    fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }
}

/// What becomes known of a request on its way, for its line in the log; among its extensions.
#[derive(Clone, Debug, Default)]
pub struct Note(Arc<OnceLock<ProjectId>>);

impl Note {
    /// The project whose request it has turned out to be.
    pub fn project(&self, project: &ProjectId) {
        let _ = self.0.set(project.clone());
    }
}

/// One of the methods that anybody uses: what a client makes up is no label.
fn known(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "POST" => "POST",
        "PUT" => "PUT",
        "DELETE" => "DELETE",
        "PATCH" => "PATCH",
        "HEAD" => "HEAD",
        "OPTIONS" => "OPTIONS",
        _ => "other",
    }
}

/// Counts a request as in progress until it is dropped, also when its client has gone.
struct InProgress<'a>(&'a Gauge);

impl Drop for InProgress<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Observes a request that takes a place among those in progress.
pub(super) async fn bounded(State(edge): State<Arc<Edge>>, request: Request, next: Next) -> Response {
    observe(&edge, request, |request| super::take_place(&edge, request, next)).await
}

/// Observes a request that is answered also where there is no place left.
pub(super) async fn unbounded(State(edge): State<Arc<Edge>>, request: Request, next: Next) -> Response {
    observe(&edge, request, |request| next.run(request)).await
}

async fn observe<F: Future<Output = Response>>(
    edge: &Edge,
    mut request: Request,
    answer: impl FnOnce(Request) -> F,
) -> Response {
    let begun = Instant::now();
    let metrics = &edge.metrics;
    metrics.in_progress.inc();
    let _in_progress = InProgress(&metrics.in_progress);
    let id = RequestId::of(&request);
    let note = Note::default();
    let method = known(request.method());
    let route = Route(request.extensions().get::<MatchedPath>().cloned());
    // A path is a line of the log's and no label.
    let logged = tracing::enabled!(target: "adit::access", tracing::Level::INFO);
    let path = logged.then(|| request.uri().path().to_owned());
    let peer = request.extensions().get::<Peer>().map(|peer| peer.0);
    request.extensions_mut().insert(note.clone());
    let span = tracing::error_span!("request", request.id = %id.as_str());
    let from = peer.map(|peer| peer.ip().to_canonical());
    let mut response = match from.map_or(Ok(()), |from| edge.failed_logins.check(&from, begun)) {
        Ok(()) => {
            let answer = AssertUnwindSafe(answer(request)).catch_unwind().instrument(span);
            answer.await.unwrap_or_else(|_| {
                metrics.panics.inc();
                Failure::from(Code::E0001).into_response()
            })
        }
        Err(_) => {
            metrics.refused.get_or_create(&FAILED_LOGINS).inc();
            too_many_failures().into_response()
        }
    };
    let status = response.status();
    let took = begun.elapsed();
    note_failure(edge, status, from);
    let project = note.0.get().map(tracing::field::display);
    let client = peer.map(tracing::field::display);
    tracing::info!(
        target: "adit::access",
        {
            request.id = id.as_str(),
            client.address = client,
            project.id = project,
            http.method = method,
            http.route = route.as_str(),
            http.path = path.as_deref(),
            http.status = status.as_u16(),
            duration_ms = took.as_secs_f64() * 1000.0,
        },
        "Answered a request."
    );
    let status = status.as_u16();
    metrics
        .seconds
        .get_or_create(&Asked {
            method,
            route: route.clone(),
        })
        .observe(took.as_secs_f64());
    let answered = Answered {
        method,
        route,
        status,
    };
    metrics.requests.get_or_create(&answered).inc();
    response.headers_mut().insert(REQUEST_ID, id.0);
    response
}

fn too_many_failures() -> Failure {
    ApiError::because(
        Code::E0022,
        "Too many requests from this address had no good credentials.",
    )
    .into()
}

fn note_failure(edge: &Edge, status: StatusCode, from: Option<IpAddr>) {
    let reason = match status {
        StatusCode::UNAUTHORIZED => UNAUTHENTICATED,
        StatusCode::FORBIDDEN => FORBIDDEN,
        _ => return,
    };
    edge.metrics.auth_failures.get_or_create(&reason).inc();
    if let (StatusCode::UNAUTHORIZED, Some(from)) = (status, from) {
        // Whether there was a token left is asked before the next request.
        let _ = edge.failed_logins.take(&from, Instant::now());
    }
}
