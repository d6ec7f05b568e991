//! What was asked of etcd's members, in numbers.

use std::time::Duration;

use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

use super::failure::Failure;

/// Upper bounds of times, in seconds: a read in the same rack takes less than a millisecond, and a member is given up after seconds.
const SECONDS: [f64; 12] = [
    0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0,
];

type Asked = [(&'static str, &'static str); 2];
type Call = [(&'static str, &'static str); 1];

/// The numbers of one store; clones share them.
#[derive(Clone, Debug)]
pub struct Metrics {
    requests: Family<Asked, Counter>,
    seconds: Family<Call, Histogram, fn() -> Histogram>,
    /// Calls that were repeated.
    pub(super) retries: Counter,
    /// By the member's URL.
    members: Family<[(&'static str, String); 1], Gauge>,
}

impl Metrics {
    pub(super) fn new(urls: &[String], first: usize) -> Self {
        let metrics = Self {
            requests: Family::default(),
            seconds: Family::new_with_constructor(|| Histogram::new(SECONDS)),
            retries: Counter::default(),
            members: Family::default(),
        };
        metrics.asks(urls, first);
        metrics
    }

    /// Has a registry show them, as `etcd_…`.
    pub fn register(&self, registry: &mut Registry) {
        let etcd = registry.sub_registry_with_prefix("etcd");
        etcd.register(
            "requests",
            "Calls to members of etcd, each attempt by itself",
            self.requests.clone(),
        );
        etcd.register_with_unit(
            "request_duration",
            "How long members of etcd took to answer, or not to",
            Unit::Seconds,
            self.seconds.clone(),
        );
        etcd.register(
            "retries",
            "Calls that were repeated, with the next member, after one had failed or been silent",
            self.retries.clone(),
        );
        etcd.register(
            "member",
            "Which member of etcd is asked now: 1, and 0 for the others",
            self.members.clone(),
        );
    }

    /// A call has ended.
    pub(super) fn asked<T>(&self, path: &'static str, result: &Result<T, Failure>, took: Duration) {
        let call = name(path);
        let result = match result {
            Ok(_) => "answered",
            Err(Failure::Refused(_)) => "refused",
            Err(Failure::NotSent(_)) => "not_sent",
            Err(Failure::Lost(_)) => "lost",
        };
        self.requests
            .get_or_create(&[("call", call), ("result", result)])
            .inc();
        self.seconds
            .get_or_create(&[("call", call)])
            .observe(took.as_secs_f64());
    }

    /// Another member is asked from now on.
    pub(super) fn asks(&self, urls: &[String], member: usize) {
        for (n, url) in urls.iter().enumerate() {
            let gauge = self.members.get_or_create_owned(&[("url", url.clone())]);
            gauge.set(i64::from(n == member));
        }
    }
}

/// What a path is called among the labels.
fn name(path: &'static str) -> &'static str {
    match path.rsplit('/').next() {
        Some("Range") => "range",
        Some("Txn") => "txn",
        Some("Put") => "put",
        Some("Compact") => "compact",
        Some("Watch") => "watch",
        Some("LeaseGrant") => "lease_grant",
        Some("LeaseRevoke") => "lease_revoke",
        Some("LeaseKeepAlive") => "lease_keep_alive",
        _ => "other",
    }
}
