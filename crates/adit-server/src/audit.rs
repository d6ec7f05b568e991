//! The audit log: who changed what, from where, and what came of it; one record for each attempt, refused ones included.
//!
//! Owns which requests are recorded ([`layer`]) and that no record is lost on the way to the log: a request whose client goes
//! away is recorded as one with an unknown outcome. Never sees what was sent or answered, but for the id of what was made.
//! Whoever authenticates a request says who it is from ([`Initiator::is`]).
//!
//! Read next: [`record`] (what is in a record), [`writer`] (how it gets into the log).

pub mod record;
pub mod writer;

use std::sync::{Arc, OnceLock};

use adit_model::Code;
use axum::{
    Router,
    body::{Body, Bytes, HttpBody},
    extract::{MatchedPath, Request, State},
    http::{Extensions, Method, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use http_body_util::BodyExt;

use self::record::{Attempt, Outcome, Record};
pub use self::writer::{AuditLog, Writer};
use crate::{Caller, edge, error::Failure, iam};

/// The largest reply that the id of what was made is looked for in, in bytes.
const REPLY_BYTES_MAX: usize = 64 * 1024;
/// How much of what a client calls itself is recorded, in bytes.
const AGENT_BYTES_MAX: usize = 128;

/// Who a request turns out to be from; among its extensions where it is recorded.
#[derive(Clone, Debug, Default)]
pub struct Initiator(Arc<OnceLock<Arc<Caller>>>);

impl Initiator {
    /// Says who a request is from, if it is recorded.
    pub fn is(request: &Extensions, caller: &Arc<Caller>) {
        if let Some(initiator) = request.get::<Self>() {
            // Whoever has proven it first is it.
            let _ = initiator.0.set(Arc::clone(caller));
        }
    }
}

/// The catalogue's code of a refusal; among the reply's extensions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ErrorCode(pub(crate) &'static str);

/// Records every attempt to change something through a whole router, its edge included.
pub fn layer(router: Router, log: AuditLog) -> Router {
    router.layer(middleware::from_fn_with_state(log, watch))
}

/// What is a POST for the sake of its body, and changes nothing.
const LOOK: &str = "/admin/v1/endpoints/{vpc_endpoint_id}/diagnosis";

/// Whether a request would change something.
fn changes(method: &Method, pattern: &str) -> bool {
    let reads = |action: &str| action.ends_with(":list") || action.ends_with(":get");
    [Method::POST, Method::PUT, Method::DELETE, Method::PATCH].contains(method)
        && pattern != LOOK
        && !iam::action(method, pattern).is_some_and(reads)
}

async fn watch(State(log): State<AuditLog>, mut request: Request, next: Next) -> Response {
    let pattern = request.extensions().get::<MatchedPath>().cloned();
    let Some(pattern) = pattern.filter(|pattern| changes(request.method(), pattern.as_str())) else {
        return next.run(request).await;
    };
    let initiator = Initiator::default();
    request.extensions_mut().insert(initiator.clone());
    let agent = request.headers().get(header::USER_AGENT);
    let agent = agent.map(|agent| agent.as_bytes().iter().take(AGENT_BYTES_MAX).copied().collect());
    let peer = request.extensions().get::<edge::Peer>();
    let attempt = Attempt::new(
        request.method(),
        pattern.as_str(),
        request.uri().path(),
        peer.map(|peer| peer.0.ip()),
        agent.map(|agent: Vec<u8>| String::from_utf8_lossy(&agent).into_owned()),
    );
    let open = Open {
        log,
        initiator,
        attempt: Some(attempt),
        outcome: None,
    };
    let response = next.run(request).await;
    let code = response.extensions().get::<ErrorCode>().map(|code| code.0);
    let id = response.headers().get(edge::REQUEST_ID);
    let request_id = id.and_then(|id| id.to_str().ok()).map(str::to_owned);
    let status = response.status();
    let makes = open.attempt.as_ref().is_some_and(Attempt::makes);
    let (response, made) = if makes && status.is_success() {
        peek(response).await
    } else {
        (response, None)
    };
    open.end(Outcome {
        status,
        code,
        request_id,
        made,
    })
    .await;
    response
}

/// A short reply's body, beside the reply.
async fn peek(response: Response) -> (Response, Option<Bytes>) {
    let short = response.body().size_hint().exact();
    if short.is_none_or(|size| size > REPLY_BYTES_MAX as u64) {
        return (response, None);
    }
    let (parts, body) = response.into_parts();
    match body.collect().await {
        Ok(whole) => {
            let bytes = whole.to_bytes();
            (
                Response::from_parts(parts, Body::from(bytes.clone())),
                Some(bytes),
            )
        }
        // A body in memory does not break off.
        Err(_) => (Failure::from(Code::E0001).into_response(), None),
    }
}

/// An attempt that is not recorded yet. Dropped, it is, with what is known of its outcome.
struct Open {
    log: AuditLog,
    initiator: Initiator,
    attempt: Option<Attempt>,
    outcome: Option<Outcome>,
}

impl Open {
    fn record(&mut self) -> Option<Record> {
        Some(Record {
            attempt: self.attempt.take()?,
            initiator: self.initiator.0.get().cloned(),
            outcome: self.outcome.take(),
        })
    }

    async fn end(mut self, outcome: Outcome) {
        self.outcome = Some(outcome);
        let log = self.log.clone();
        // Until there is a place, a client that goes away leaves the record to `drop`.
        if let (Some(place), Some(record)) = (log.reserve().await, self.record()) {
            place.send(record);
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if let Some(record) = self.record() {
            self.log.put(record);
        }
    }
}
