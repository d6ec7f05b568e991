//! How often a project may ask: reads and writes apart, so that who watches does not hold up who works.

use std::{
    fmt,
    time::{Duration, Instant},
};

use adit_model::{ApiError, Code, id::ProjectId};
use axum::http::Method;
use prometheus_client::{
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

use crate::edge::limit::{Buckets, Rate};

/// How many seconds' worth of requests a project may send at once after a rest.
const BURST_S: u32 = 2;
/// What a project may read, in requests per second, where the operator says nothing.
const READS_PER_S: u32 = 200;
/// What it may write. Each write waits for a disk, and terraform's usual ten at a time stay far below it.
const WRITES_PER_S: u32 = 50;

/// How often each project may ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rates {
    /// Requests that read.
    pub reads: Option<Rate>,
    /// Requests that may change something.
    pub writes: Option<Rate>,
}

impl Rates {
    /// So many requests per second; 0 is no limit.
    pub fn per_second(reads: u32, writes: u32) -> Self {
        let rate = |count: u32| Rate::new(count, Duration::from_secs(1), count.saturating_mul(BURST_S));
        Self {
            reads: rate(reads),
            writes: rate(writes),
        }
    }
}

impl Default for Rates {
    fn default() -> Self {
        Self::per_second(READS_PER_S, WRITES_PER_S)
    }
}

/// What projects have asked.
pub struct ProjectRates {
    reads: Buckets<ProjectId>,
    writes: Buckets<ProjectId>,
    limited: Family<[(&'static str, &'static str); 1], Counter>,
}

impl ProjectRates {
    /// Nothing yet.
    pub fn new(rates: Rates) -> Self {
        let limited = Family::default();
        for kind in ["reads", "writes"] {
            drop(limited.get_or_create(&[("kind", kind)]));
        }
        Self {
            reads: Buckets::new(rates.reads),
            writes: Buckets::new(rates.writes),
            limited,
        }
    }

    /// Lets a project's request through.
    ///
    /// # Errors
    /// 0022, for one too many.
    pub fn admit(&self, project: &ProjectId, method: &Method) -> Result<(), ApiError> {
        let reads = matches!(*method, Method::GET | Method::HEAD);
        let (buckets, kind) = if reads {
            (&self.reads, "reads")
        } else {
            (&self.writes, "writes")
        };
        buckets.take(project, Instant::now()).map_err(|wait| {
            self.limited.get_or_create(&[("kind", kind)]).inc();
            let wait_ms = wait.as_millis().max(1);
            ApiError::because(
                Code::E0022,
                format!(
                    "Project {project} {kind} more often than it may; the next one passes in {wait_ms} ms."
                ),
            )
        })
    }

    /// Has a registry show how often a project was held back.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "requests_rate_limited",
            "Requests that were refused because their project had sent too many",
            self.limited.clone(),
        );
    }
}

impl fmt::Debug for ProjectRates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProjectRates").finish_non_exhaustive()
    }
}
