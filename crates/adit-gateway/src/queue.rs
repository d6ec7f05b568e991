//! Which endpoints are to be worked on, and when.

use std::collections::{BTreeSet, HashSet, VecDeque};

use adit_model::id::EndpointId;
use tokio::time::Instant;

/// Endpoints to take up, each once, now or later.
#[derive(Default)]
pub(crate) struct Queue {
    order: VecDeque<EndpointId>,
    queued: HashSet<EndpointId>,
    later: BTreeSet<(Instant, EndpointId)>,
}

impl Queue {
    pub(crate) fn add(&mut self, id: EndpointId) {
        if self.queued.insert(id) {
            self.order.push_back(id);
        }
    }

    pub(crate) fn add_at(&mut self, when: Instant, id: EndpointId) {
        self.later.insert((when, id));
    }

    pub(crate) fn next(&mut self) -> Option<EndpointId> {
        let id = self.order.pop_front()?;
        self.queued.remove(&id);
        Some(id)
    }

    pub(crate) fn next_retry(&self) -> Option<Instant> {
        self.later.first().map(|(when, _)| *when)
    }

    pub(crate) fn take_retries(&mut self, now: Instant) {
        while let Some((when, id)) = self.later.first().copied()
            && when <= now
        {
            self.later.pop_first();
            self.add(id);
        }
    }
}
