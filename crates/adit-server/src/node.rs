//! What gateways of their own processes ask of the control plane, on an address of its own.
//!
//! ```text
//! GET  /node/v1/feed?node=NAME&from=POSITION   what to serve, as lines of JSON, for as long as both live
//! POST /node/v1/status                         what is served
//! GET  /node/v1/networks?from=POSITION         the embedded cloud's networks, for gateways that make its VPCs themselves
//! ```
//!
//! Owns the paths and who may use them: whoever has the nodes' secret, or a certificate of the nodes' authority, and nobody
//! else. A tenant's token, or an operator's, is none. A certificate is a gateway's whose name is among its alternative names: by
//! another name nobody follows the feed. What is sent is [`crate::feed`]'s. Only the process whose reconcilers run has a feed; any other answers 503, and
//! the gateway asks the next.

mod networks;
mod said;

use std::{convert::Infallible, sync::Arc, time::Duration};

use adit_model::{
    body,
    node::{FeedLine, Node, NodeName, NodeStatus},
};
use axum::{
    Json, Router,
    body::{Body, Bytes},
    extract::{DefaultBodyLimit, Extension, Query, Request, State, rejection::QueryRejection},
    http::{StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use futures_util::stream;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    app::App,
    edge::{ClientCertificate, Peer},
    feed::Subscription,
    replica,
};

pub use networks::is_network;
use said::Said;

/// How often a line is sent where nothing is new.
pub const BEAT: Duration = Duration::from_secs(1);
/// The largest body: reports on some ten thousand endpoints.
const BODY_BYTES_MAX: usize = 4 * 1024 * 1024;
/// The fewest characters of a secret.
const SECRET_CHARS_MIN: usize = 16;

/// What gateways show: kept as a digest, compared in constant time.
#[derive(Clone)]
pub struct NodeSecret([u8; 32]);

impl NodeSecret {
    /// A secret; `None` for one that is too short to be any.
    #[must_use]
    pub fn new(secret: &str) -> Option<Self> {
        (secret.chars().count() >= SECRET_CHARS_MIN).then(|| Self(digest(secret)))
    }

    pub(crate) fn is(&self, shown: &str) -> bool {
        self.0.ct_eq(&digest(shown)).into()
    }
}

fn digest(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}

/// Who may ask.
#[derive(Clone)]
pub struct NodeAccess {
    /// What they have to show; absent where certificates alone count.
    pub secret: Option<NodeSecret>,
    /// Whether they have to show a certificate.
    pub certificates: bool,
    /// What other processes of the control plane have to show.
    pub replicas: Option<NodeSecret>,
}

struct Nodes {
    app: Arc<App>,
    access: NodeAccess,
    stopping: CancellationToken,
    said: Said,
}

impl Nodes {
    /// A gateway's word counts only where its certificate is its own, if there are certificates.
    fn check_name(&self, name: &NodeName, shown: Option<&ClientCertificate>) -> Result<(), Refused> {
        match self.access.certificates && !shown.is_some_and(|shown| shown.is_of(name.as_str())) {
            false => Ok(()),
            true => {
                let why = format!(
                    "node: {name} is none of the alternative names of the certificate (--control-cert)."
                );
                if self.said.is_new(format!("certificate {name}")) {
                    tracing::warn!(gateway.name = %name, "A gateway has come with a certificate that is not its own.");
                }
                Err(Refused(StatusCode::FORBIDDEN, why))
            }
        }
    }
}

/// The paths for gateways. Their streams end when `stopping` is cancelled.
pub fn router(app: Arc<App>, access: NodeAccess, stopping: CancellationToken) -> Router {
    let replicas = access.replicas.clone();
    let replicas = replicas.map_or_else(Router::new, |secret| replica::router(Arc::clone(&app), secret));
    let nodes = Arc::new(Nodes {
        app,
        access,
        stopping,
        said: Said::default(),
    });
    let router = Router::new()
        .route("/node/v1/feed", get(feed))
        .route("/node/v1/status", post(status))
        .route("/node/v1/networks", get(networks::networks))
        .fallback(async || Refused(StatusCode::NOT_FOUND, "There is nothing here.".to_owned()))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(middleware::from_fn_with_state(Arc::clone(&nodes), guard))
        .with_state(nodes);
    router.merge(replicas)
}

/// Why a gateway is refused.
struct Refused(StatusCode, String);

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        #[derive(Serialize)]
        struct Body {
            error: String,
        }
        (self.0, Json(Body { error: self.1 })).into_response()
    }
}

async fn guard(State(nodes): State<Arc<Nodes>>, request: Request, next: Next) -> Result<Response, Refused> {
    let refuse = |why: &str| Err(Refused(StatusCode::UNAUTHORIZED, why.to_owned()));
    let peer = request.extensions().get::<Peer>();
    let peer = peer.map(|peer| peer.0.ip().to_string()).unwrap_or_default();
    if nodes.access.certificates && request.extensions().get::<ClientCertificate>().is_none() {
        if nodes.said.is_new(format!("no certificate {peer}")) {
            tracing::warn!(client.address = peer, "A gateway has shown no certificate.");
        }
        return refuse("A certificate of the nodes' authority is wanted (--control-cert).");
    }
    let shown = request.headers().get(header::AUTHORIZATION);
    let shown = shown.and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    let secret = nodes.access.secret.as_ref();
    match secret.is_none_or(|secret| shown.is_some_and(|shown| secret.is(shown))) {
        true => Ok(next.run(request).await),
        false => {
            if nodes.said.is_new(format!("no secret {peer}")) {
                tracing::warn!(
                    client.address = peer,
                    "A gateway has not shown the nodes' secret."
                );
            }
            refuse("Authorization: this is not the nodes' secret (--node-token-file).")
        }
    }
}

#[derive(Deserialize)]
struct From {
    node: String,
    from: Option<String>,
    /// Of those that come by this name, which one it is; absent where it does not say.
    process: Option<Uuid>,
}

fn bad(why: String) -> Refused {
    Refused(StatusCode::BAD_REQUEST, why)
}

fn not_leading() -> Refused {
    let why = "The reconcilers run in another process of the control plane: ask that one.";
    Refused(StatusCode::SERVICE_UNAVAILABLE, why.to_owned())
}

async fn feed(
    State(nodes): State<Arc<Nodes>>,
    certificate: Option<Extension<ClientCertificate>>,
    query: Result<Query<From>, QueryRejection>,
) -> Result<Response, Refused> {
    let Query(query) = query.map_err(|e| bad(e.body_text()))?;
    let name: NodeName = query.node.parse().map_err(|_| {
        bad(format!(
            "node: {} is not 1 to 63 of a-z 0-9 - and dots, a letter or digit first.",
            body::quote(&query.node)
        ))
    })?;
    nodes.check_name(&name, certificate.as_deref())?;
    let from = query.from.as_deref().filter(|from| !from.is_empty());
    let from = from.map(|text| {
        text.parse()
            .map_err(|_| bad(format!("from: {} is no position of a feed.", body::quote(text))))
    });
    let from = from.transpose()?;
    if !nodes.app.feed.is_open() {
        return Err(not_leading());
    }
    if let Some(process) = query.process
        && let Err(other) = nodes.app.feed.admit(&name, process)
    {
        let other = other.map(|address| format!(", at {address}")).unwrap_or_default();
        let why = format!(
            "node: another process{other} has come as gateway {name} since. Each needs a name of its own (--node)."
        );
        if nodes.said.is_new(format!("namesake {name}")) {
            tracing::warn!(gateway.name = %name, "Two processes call themselves by one gateway's name; the newer one keeps it.");
        }
        return Err(Refused(StatusCode::CONFLICT, why));
    }
    let subscription = nodes.app.feed.subscribe(name.clone(), from);
    tracing::info!(gateway.name = %name, resumed = subscription.resumes(), "A gateway follows the feed.");
    let state = (subscription, nodes.stopping.clone());
    Ok(lines(stream::unfold(
        state,
        async |(mut subscription, stopping)| {
            let line = next_line(&mut subscription, &stopping).await?;
            Some((written(&line), (subscription, stopping)))
        },
    )))
}

async fn next_line(subscription: &mut Subscription, stopping: &CancellationToken) -> Option<FeedLine> {
    loop {
        tokio::select! {
            () = stopping.cancelled() => return None,
            next = subscription.next() => {
                let event = |(position, what)| FeedLine::Event { position, what: Box::new(what) };
                return next.map(event);
            }
            // Who hears a beat knows everything: nothing is heard before the snapshot.
            () = tokio::time::sleep(BEAT) => if subscription.is_told() {
                return Some(FeedLine::Beat);
            },
        }
    }
}

async fn status(
    State(nodes): State<Arc<Nodes>>,
    peer: Option<Extension<Peer>>,
    certificate: Option<Extension<ClientCertificate>>,
    bytes: Bytes,
) -> Result<StatusCode, Refused> {
    let status: NodeStatus = serde_json::from_slice(&bytes)
        .map_err(|e| bad(format!("The body is no status of a gateway: {e}.")))?;
    let NodeStatus {
        node: name,
        version,
        machine,
        capabilities,
        load,
        reports,
        legs,
    } = status;
    nodes.check_name(&name, certificate.as_deref())?;
    let app = &nodes.app;
    if !app.feed.is_open() {
        return Err(not_leading());
    }
    let about = Node {
        name: name.clone(),
        address: peer
            .map(|Extension(Peer(peer))| peer.ip().to_string())
            .unwrap_or_default(),
        version: version.chars().take(VERSION_CHARS_MAX).collect(),
        machine: machine.chars().take(MACHINE_CHARS_MAX).collect(),
        load,
        epoch: 0,
        seen_at: app.now(),
    };
    if !app.feed.heard(about, capabilities, legs) {
        let why = format!("node: {name} does not follow the feed here (any more).");
        return Err(Refused(StatusCode::CONFLICT, why));
    }
    for report in reports {
        app.feed.report(&name, report);
    }
    Ok(StatusCode::NO_CONTENT)
}

/// How much of a gateway's version, and of its machine's name, is kept.
const VERSION_CHARS_MAX: usize = 64;
const MACHINE_CHARS_MAX: usize = 512;

type Line = Result<Bytes, Infallible>;

fn lines(lines: impl futures_util::Stream<Item = Line> + Send + 'static) -> Response {
    let form = [(header::CONTENT_TYPE, "application/x-ndjson")];
    (form, Body::from_stream(lines)).into_response()
}

fn written(line: &impl Serialize) -> Line {
    #[expect(
        clippy::expect_used,
        reason = "lines are structs with string keys, which have a JSON form"
    )]
    let mut bytes = serde_json::to_vec(line).expect("a line has a JSON form");
    bytes.push(b'\n');
    Ok(bytes.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_long_and_only_itself() {
        assert!(NodeSecret::new("short").is_none());
        let secret = NodeSecret::new("0123456789abcdef").unwrap();
        assert!(secret.is("0123456789abcdef"));
        assert!(!secret.is("0123456789abcdeg") && !secret.is(""));
    }
}
