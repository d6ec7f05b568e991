//! What those ask who watch over the process: whether it is alive, whether it should get requests, how it does.

use std::{sync::Arc, time::Duration};

use adit_model::error_chain;
use adit_store::{Cache, State as Documents, Store};
use axum::{
    Json, Router,
    extract::{Request, State},
    http::{StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use parking_lot::Mutex;
use prometheus_client::{
    encoding::prometheus_text,
    metrics::{family::Family, gauge::Gauge},
    registry::Registry,
};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{Peer, absent};

/// How long the store and the cache may take to say that they are there.
const READY_TIMEOUT: Duration = Duration::from_secs(1);
/// What a proxy adds: then the loopback that a request comes from is not its client's.
const FORWARDED: &[&str] = &[
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "via",
];

/// What is watched over.
pub struct Health {
    store: Arc<dyn Store>,
    cache: Cache<Documents>,
    registry: Arc<Mutex<Registry>>,
    stopping: CancellationToken,
    store_up: Gauge,
    store_revision: Gauge,
    cache_revision: Gauge,
    cache_lag: Gauge,
}

impl Health {
    /// `stopping` is cancelled when the process is about to end.
    pub fn new(
        store: Arc<dyn Store>,
        cache: Cache<Documents>,
        registry: Arc<Mutex<Registry>>,
        stopping: CancellationToken,
    ) -> Arc<Self> {
        let health = Self {
            store,
            cache,
            registry,
            stopping,
            store_up: Gauge::default(),
            store_revision: Gauge::default(),
            cache_revision: Gauge::default(),
            cache_lag: Gauge::default(),
        };
        health.register();
        Arc::new(health)
    }

    fn register(&self) {
        let mut registry = self.registry.lock();
        let build = Family::<[(&str, &str); 1], Gauge>::default();
        build
            .get_or_create(&[("version", env!("CARGO_PKG_VERSION"))])
            .set(1);
        registry.register("build_info", "Which Adit this is; always 1", build);
        registry.register(
            "store_up",
            "Whether the store has answered within a second: 1, or 0",
            self.store_up.clone(),
        );
        registry.register(
            "store_revision",
            "The store's newest revision",
            self.store_revision.clone(),
        );
        registry.register(
            "cache_revision",
            "The revision that the cache has reached",
            self.cache_revision.clone(),
        );
        registry.register(
            "cache_lag_revisions",
            "How many revisions the cache is behind the store",
            self.cache_lag.clone(),
        );
    }

    /// Why requests should go elsewhere; nothing, if they need not.
    async fn reasons(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        if self.stopping.is_cancelled() {
            reasons.push("stopping".to_owned());
        }
        let bound = READY_TIMEOUT.as_secs();
        let newest = match tokio::time::timeout(READY_TIMEOUT, self.store.barrier()).await {
            Ok(Ok(newest)) => newest,
            Ok(Err(e)) => {
                reasons.push(format!("store: {e}"));
                return reasons;
            }
            Err(_) => {
                reasons.push(format!("store: no answer within {bound} s"));
                return reasons;
            }
        };
        match tokio::time::timeout(READY_TIMEOUT, self.store.can_write()).await {
            Ok(Ok(())) => {}
            Ok(Err(e)) => reasons.push(format!("store: {}", error_chain(&e))),
            Err(_) => reasons.push(format!(
                "store: no word within {bound} s on whether it takes writes"
            )),
        }
        match tokio::time::timeout(READY_TIMEOUT, self.cache.wait_for(newest)).await {
            Ok(Ok(())) => {}
            Ok(Err(e)) => reasons.push(format!("cache: {e}")),
            Err(_) => reasons.push(format!(
                "cache: at revision {} and not at {newest} within {bound} s",
                self.cache.read().revision()
            )),
        }
        reasons
    }

    /// Looks at what is not counted as it happens.
    async fn look(&self) {
        let newest = tokio::time::timeout(READY_TIMEOUT, self.store.barrier()).await;
        let reached = self.cache.read().revision().0;
        let number = |revision: u64| i64::try_from(revision).unwrap_or(i64::MAX);
        self.cache_revision.set(number(reached));
        if let Ok(Ok(newest)) = newest {
            self.store_up.set(1);
            self.store_revision.set(number(newest.0));
            self.cache_lag.set(number(newest.0.saturating_sub(reached)));
        } else {
            self.store_up.set(0);
        }
    }

    /// The three paths, for a listener of their own.
    pub fn router(self: Arc<Self>) -> Router {
        Router::new()
            .route("/metrics", get(metrics))
            .merge(probes())
            .with_state(self)
            .fallback(absent)
    }

    /// The three paths beside others: `/metrics` for clients on this machine alone, unless it lives elsewhere.
    pub(super) fn beside(self: Arc<Self>, metrics_elsewhere: bool) -> Router {
        let mut router = probes();
        if !metrics_elsewhere {
            let guarded = get(metrics).route_layer(middleware::from_fn(local_only));
            router = router.route("/metrics", guarded);
        }
        router.with_state(self)
    }
}

fn probes() -> Router<Arc<Health>> {
    Router::new()
        .route("/healthz", get(async || "alive\n"))
        .route("/readyz", get(ready))
}

async fn ready(State(health): State<Arc<Health>>) -> (StatusCode, Json<serde_json::Value>) {
    let reasons = health.reasons().await;
    if reasons.is_empty() {
        (StatusCode::OK, Json(json!({"ready": true})))
    } else {
        let body = json!({"ready": false, "reasons": reasons});
        (StatusCode::SERVICE_UNAVAILABLE, Json(body))
    }
}

async fn metrics(State(health): State<Arc<Health>>) -> Response {
    health.look().await;
    let mut text = String::new();
    match prometheus_text::encode(&mut text, &health.registry.lock()) {
        Ok(()) => ([(header::CONTENT_TYPE, prometheus_text::CONTENT_TYPE)], text).into_response(),
        Err(e) => {
            tracing::error!(error = %e, "The metrics cannot be shown.");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// For others, there is nothing here.
async fn local_only(request: Request, next: Next) -> Response {
    let local = |peer: &Peer| peer.0.ip().to_canonical().is_loopback();
    let peer = request.extensions().get::<Peer>();
    let forwarded = FORWARDED.iter().any(|name| request.headers().contains_key(*name));
    if peer.is_some_and(local) && !forwarded {
        next.run(request).await
    } else {
        absent(request.uri().clone()).await.into_response()
    }
}
