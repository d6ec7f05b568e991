//! What a gateway of its own process shows to those who watch it: `/metrics`, `/healthz`, `/readyz`, on an address of its own.
//!
//! Its numbers are those of a region's gateway, with its name on each, and whether it follows a control plane. A gateway without one goes on
//! serving, and so is ready.

use std::{
    fmt, io,
    net::{SocketAddr, TcpListener},
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use adit_gateway::{Gateway, connection_log::Losses, control::Follower};
use adit_model::node::NodeName;
use adit_server::edge::{Edge, Limits};
use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, prometheus_text},
    metrics::{family::Family, gauge::ConstGauge, gauge::Gauge},
    registry::Registry,
};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::traffic::Traffic;

/// How often it is tried whether a former gateway has let go of the address.
const REST: Duration = Duration::from_millis(250);

/// What is shown.
pub(crate) struct Watch {
    registry: Registry,
    ready: AtomicBool,
}

impl Watch {
    pub(crate) fn new(
        node: &NodeName,
        gateway: &Arc<Gateway>,
        follower: &Arc<Follower>,
        losses: Option<Losses>,
        endpoints_max: usize,
    ) -> Arc<Self> {
        let labels = [("node".into(), node.to_string().into())];
        let mut registry = Registry::with_prefix_and_labels("adit", labels.into_iter());
        let build = Family::<[(&str, &str); 1], Gauge>::default();
        build
            .get_or_create(&[("version", env!("CARGO_PKG_VERSION"))])
            .set(1);
        registry.register("build_info", "Which Adit this is; always 1", build);
        let traffic = Traffic::new(Arc::downgrade(gateway), losses, endpoints_max);
        registry.register_collector(Box::new(traffic));
        registry.register_collector(Box::new(Control(Arc::downgrade(follower))));
        Arc::new(Self {
            registry,
            ready: AtomicBool::new(false),
        })
    }

    /// It serves what it was told last, or is about to end.
    pub(crate) fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Ordering::Relaxed);
    }

    /// Serves until it is aborted, from when the address is free on.
    pub(crate) async fn serve(self: Arc<Self>, address: SocketAddr, bound: Option<TcpListener>) {
        let listener = match bound {
            Some(listener) => tokio::net::TcpListener::from_std(listener),
            None => Ok(free(address).await),
        };
        let router = Router::new()
            .route("/metrics", get(metrics))
            .route("/healthz", get(async || "alive\n"))
            .route("/readyz", get(ready))
            .with_state(self);
        let edge = Edge::new(Limits::default());
        let served = async {
            edge.serve(listener?, router, None, CancellationToken::new())
                .await
        };
        if let Err(e) = served.await {
            tracing::error!(error = %e, metrics.address = %address, "The metrics cannot be served.");
        }
    }
}

/// Waits until the former gateway has let go of an address.
async fn free(address: SocketAddr) -> tokio::net::TcpListener {
    loop {
        match tokio::net::TcpListener::bind(address).await {
            Ok(listener) => return listener,
            Err(e) if e.kind() == io::ErrorKind::AddrInUse => {}
            Err(e) => {
                tracing::warn!(error = %e, metrics.address = %address, "The metrics' address cannot be listened on.");
            }
        }
        tokio::time::sleep(REST).await;
    }
}

async fn metrics(State(watch): State<Arc<Watch>>) -> Response {
    let mut text = String::new();
    match prometheus_text::encode(&mut text, &watch.registry) {
        Ok(()) => ([(header::CONTENT_TYPE, prometheus_text::CONTENT_TYPE)], text).into_response(),
        Err(e) => {
            tracing::error!(error = %e, "The metrics cannot be shown.");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

async fn ready(State(watch): State<Arc<Watch>>) -> Response {
    match watch.ready.load(Ordering::Relaxed) {
        true => Json(json!({"ready": true})).into_response(),
        false => {
            let reasons = ["starting, or stopping: what it was told is not all served"];
            let body = Json(json!({"ready": false, "reasons": reasons}));
            (StatusCode::SERVICE_UNAVAILABLE, body).into_response()
        }
    }
}

/// How it stands with the control plane.
struct Control(Weak<Follower>);

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Control").finish_non_exhaustive()
    }
}

impl Collector for Control {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let follower = self.0.upgrade();
        let (follows, told) = follower.map_or((false, 0), |f| (f.is_following(), f.endpoints()));
        for (name, help, value) in [
            (
                "gateway_control_up",
                "Whether the gateway follows a control plane: 1, or 0 while it serves what it was told last",
                u64::from(follows),
            ),
            (
                "gateway_endpoints",
                "Endpoints that the gateway was told to serve",
                told,
            ),
        ] {
            let gauge = ConstGauge::new(value);
            let metric = encoder.encode_descriptor(name, help, None, gauge.metric_type())?;
            gauge.encode(metric)?;
        }
        Ok(())
    }
}
