//! What the reconcilers have done, in numbers.

use std::time::Duration;

use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

use super::{Queue, Work};

/// Upper bounds of the time that a look takes, in seconds.
const SECONDS: [f64; 10] = [0.000_1, 0.000_5, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0];

/// A label with one of a few words.
type Word = [(&'static str, &'static str); 1];

/// How a look ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Result {
    Done,
    Waiting,
    Failed,
    Panicked,
}

impl Result {
    const ALL: [Self; 4] = [Self::Done, Self::Waiting, Self::Failed, Self::Panicked];

    fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Waiting => "waiting",
            Self::Failed => "failed",
            Self::Panicked => "panicked",
        }
    }
}

impl Work {
    const KINDS: [&'static str; 2] = ["service", "endpoint"];

    pub(super) fn kind(self) -> &'static str {
        match self {
            Work::Service(_) => "service",
            Work::Endpoint(_) => "endpoint",
        }
    }
}

/// What the reconcilers have done.
#[derive(Clone, Debug)]
pub struct Metrics {
    looks: Family<[(&'static str, &'static str); 2], Counter>,
    seconds: Family<Word, Histogram, fn() -> Histogram>,
    queue: Family<Word, Gauge>,
}

impl Default for Metrics {
    fn default() -> Self {
        let metrics = Self {
            looks: Family::default(),
            seconds: Family::new_with_constructor(|| Histogram::new(SECONDS)),
            queue: Family::default(),
        };
        for kind in Work::KINDS {
            drop(metrics.seconds.get_or_create(&[("kind", kind)]));
            for result in Result::ALL {
                let labels = [("kind", kind), ("result", result.as_str())];
                drop(metrics.looks.get_or_create(&labels));
            }
        }
        metrics
    }
}

impl Metrics {
    /// Has a registry show them.
    pub fn register(&self, registry: &mut Registry) {
        let reconcile = registry.sub_registry_with_prefix("reconcile");
        reconcile.register(
            "looks",
            "Looks of the reconcilers at one thing, by how they ended",
            self.looks.clone(),
        );
        reconcile.register_with_unit(
            "look_duration",
            "How long a look took",
            Unit::Seconds,
            self.seconds.clone(),
        );
        reconcile.register(
            "queue",
            "Things that wait for a look, are looked at, or wait to be looked at again",
            self.queue.clone(),
        );
    }

    pub(super) fn looked(&self, kind: &'static str, result: Result) {
        self.looks
            .get_or_create(&[("kind", kind), ("result", result.as_str())])
            .inc();
    }

    pub(super) fn took(&self, kind: &'static str, took: Duration) {
        self.seconds
            .get_or_create(&[("kind", kind)])
            .observe(took.as_secs_f64());
    }

    pub(super) fn show(&self, queue: &Queue) {
        for (state, length) in queue.lengths() {
            let length = i64::try_from(length).unwrap_or(i64::MAX);
            self.queue.get_or_create(&[("state", state)]).set(length);
        }
    }
}
