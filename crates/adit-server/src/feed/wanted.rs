//! What should be served, by shards: the pieces in which gateways are told what follows for many endpoints at once.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use adit_model::{
    feed::EndpointSpec,
    id::EndpointId,
    placement::{SHARDS, shard},
};

/// What should be served.
#[derive(Debug)]
pub(super) struct Wanted {
    shards: Box<[HashMap<EndpointId, Arc<EndpointSpec>>]>,
    len: usize,
}

impl Default for Wanted {
    fn default() -> Self {
        Self {
            shards: vec![HashMap::new(); SHARDS].into(),
            len: 0,
        }
    }
}

impl Wanted {
    pub(super) fn get(&self, id: EndpointId) -> Option<&Arc<EndpointSpec>> {
        self.shards[shard(id)].get(&id)
    }

    /// Puts one in, and answers what was there before.
    pub(super) fn insert(&mut self, spec: EndpointSpec) -> Option<Arc<EndpointSpec>> {
        let former = self.shards[shard(spec.id)].insert(spec.id, Arc::new(spec));
        self.len += usize::from(former.is_none());
        former
    }

    /// Takes one out, if it is there.
    pub(super) fn remove(&mut self, id: EndpointId) -> Option<Arc<EndpointSpec>> {
        let former = self.shards[shard(id)].remove(&id);
        self.len -= usize::from(former.is_some());
        former
    }

    /// How many endpoints there are.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn ids_of(&self, shard: usize) -> Vec<EndpointId> {
        self.shards[shard].keys().copied().collect()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<EndpointSpec>> {
        self.shards.iter().flat_map(HashMap::values)
    }
}

/// Shards of which it has yet to be looked at what follows for their endpoints; each once, in the order in which they came.
#[derive(Debug)]
pub(super) struct Unsettled {
    waiting: VecDeque<usize>,
    /// Whether a shard waits.
    waits: Box<[bool]>,
}

impl Default for Unsettled {
    fn default() -> Self {
        Self {
            waiting: VecDeque::new(),
            waits: vec![false; SHARDS].into(),
        }
    }
}

impl Unsettled {
    pub(super) fn add(&mut self, shard: usize) {
        if !std::mem::replace(&mut self.waits[shard], true) {
            self.waiting.push_back(shard);
        }
    }

    /// Takes the next one.
    pub(super) fn take(&mut self) -> Option<usize> {
        let shard = self.waiting.pop_front()?;
        self.waits[shard] = false;
        Some(shard)
    }

    /// Whether that has been looked at for an endpoint.
    pub(super) fn has(&self, id: EndpointId) -> bool {
        self.waits[shard(id)]
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether every shard waits.
    pub(super) fn is_full(&self) -> bool {
        self.waiting.len() == SHARDS
    }
}
