//! What the edge counts. Labels are bounded: patterns of paths, never paths.

use std::{
    fmt,
    hash::{Hash, Hasher},
};

use axum::extract::MatchedPath;
use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

use super::patience::Cut;

/// Upper bounds of the time to an answer, in seconds.
const SECONDS: [f64; 14] = [
    0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0,
];

/// An answered request.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Answered {
    pub(super) method: &'static str,
    pub(super) route: Route,
    pub(super) status: u16,
}

/// Where a request went.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Asked {
    pub(super) method: &'static str,
    pub(super) route: Route,
}

/// The pattern of a path, or `none` where there is no route.
#[derive(Clone, Debug)]
pub(super) struct Route(pub(super) Option<MatchedPath>);

impl Route {
    pub(super) fn as_str(&self) -> &str {
        self.0.as_ref().map_or("none", MatchedPath::as_str)
    }
}

impl PartialEq for Route {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Route {}

impl Hash for Route {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl EncodeLabelValue for Route {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        self.as_str().encode(encoder)
    }
}

/// One label with one of a few words.
pub(super) type Word = [(&'static str, &'static str); 1];

/// The edge's numbers.
#[derive(Clone, Debug)]
pub(super) struct Metrics {
    pub(super) requests: Family<Answered, Counter>,
    pub(super) seconds: Family<Asked, Histogram, fn() -> Histogram>,
    pub(super) in_progress: Gauge,
    pub(super) auth_failures: Family<Word, Counter>,
    pub(super) refused: Family<Word, Counter>,
    pub(super) panics: Counter,
    pub(super) connections: Family<Word, Counter>,
    pub(super) open: Gauge,
    pub(super) cut: Family<Word, Counter>,
    pub(super) handshakes_failed: Counter,
}

pub(super) const UNAUTHENTICATED: Word = [("reason", "unauthenticated")];
pub(super) const FORBIDDEN: Word = [("reason", "forbidden")];
pub(super) const CROWDED: Word = [("reason", "crowded")];
pub(super) const FAILED_LOGINS: Word = [("reason", "failed_logins")];
pub(super) const HTTP_1: Word = [("protocol", "http/1.1")];
pub(super) const HTTP_2: Word = [("protocol", "h2")];

impl Default for Metrics {
    fn default() -> Self {
        let metrics = Self {
            requests: Family::default(),
            seconds: Family::new_with_constructor(|| Histogram::new(SECONDS)),
            in_progress: Gauge::default(),
            auth_failures: Family::default(),
            refused: Family::default(),
            panics: Counter::default(),
            connections: Family::default(),
            open: Gauge::default(),
            cut: Family::default(),
            handshakes_failed: Counter::default(),
        };
        // What has not happened yet is shown as 0.
        for (family, words) in [
            (&metrics.auth_failures, [UNAUTHENTICATED, FORBIDDEN]),
            (&metrics.refused, [CROWDED, FAILED_LOGINS]),
            (&metrics.connections, [HTTP_1, HTTP_2]),
        ] {
            words.iter().for_each(|word| drop(family.get_or_create(word)));
        }
        for cut in Cut::ALL {
            drop(metrics.cut.get_or_create(&[("reason", cut.as_str())]));
        }
        metrics
    }
}

impl Metrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        let http = registry.sub_registry_with_prefix("http");
        http.register(
            "requests",
            "Answered requests, by the pattern of their path",
            self.requests.clone(),
        );
        http.register_with_unit(
            "request_duration",
            "How long requests took until their answer was ready",
            Unit::Seconds,
            self.seconds.clone(),
        );
        http.register(
            "requests_in_progress",
            "Requests that have no answer yet",
            self.in_progress.clone(),
        );
        http.register(
            "auth_failures",
            "Requests that were answered 401 (unauthenticated) or 403 (forbidden)",
            self.auth_failures.clone(),
        );
        http.register(
            "requests_refused",
            "Requests that were refused unseen: too many in progress, or too many failed logins from their address",
            self.refused.clone(),
        );
        http.register(
            "panics",
            "Requests that met a defect of ours",
            self.panics.clone(),
        );
        http.register(
            "connections",
            "Connections that were served",
            self.connections.clone(),
        );
        http.register("connections_open", "Connections that are open", self.open.clone());
        http.register(
            "connections_cut",
            "Connections that were closed because the client kept us waiting, by what for",
            self.cut.clone(),
        );
        http.register(
            "tls_handshakes_failed",
            "Connections that came to no agreement on TLS",
            self.handshakes_failed.clone(),
        );
    }
}
