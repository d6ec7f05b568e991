//! What follows for endpoints, told to gateways: for one at once, for many in pieces.
//!
//! A gateway that comes, or a new placement, is about many endpoints at a time. Their shards wait to be looked at; a few are
//! looked at by whoever has found out, and the rest one after the other ([`Feed::keep_settled`]), so that nobody who wants
//! the feed meanwhile waits for more than one of them. Until none is left no gateway gets a snapshot: what is not in it, it
//! would end. Which shards that are, never grows with the number of endpoints: a gateway's own, those that move, and those of
//! which the gateway cannot serve everything.

use std::sync::Arc;

use adit_model::{
    id::EndpointId,
    node::NodeName,
    placement::{Placement, SHARDS, shard},
};

use super::{
    Feed, Inner,
    node::{Told, is_same},
    owners::Owners,
};

/// Endpoints in a piece: a millisecond or two.
const PIECE: usize = 1024;

impl Feed {
    /// Tells gateways what follows for the first of what waits, and has the rest be told.
    pub(super) fn settle_first(&self, inner: &mut Inner) {
        inner.settle_some();
        if !inner.unsettled.is_empty() {
            self.unsettled.notify_one();
        }
    }

    /// Tells gateways what follows for whatever waits, in pieces, until it is dropped.
    pub(crate) async fn keep_settled(&self) {
        loop {
            self.unsettled.notified().await;
            while self.settle_piece() {
                tokio::task::yield_now().await;
            }
        }
    }

    /// Answers whether there is more.
    fn settle_piece(&self) -> bool {
        let mut inner = self.inner.lock();
        inner.settle_some();
        self.told.send_replace(());
        !inner.unsettled.is_empty()
    }
}

impl Inner {
    fn settle_some(&mut self) {
        let mut left = PIECE;
        while left > 0
            && let Some(shard) = self.unsettled.take()
        {
            self.unfit.remove(&shard);
            let ids = self.wanted.ids_of(shard);
            left = left.saturating_sub(ids.len());
            for id in ids {
                self.settle(id);
            }
        }
    }

    /// Everything has to be looked at.
    pub(super) fn unsettle_all(&mut self) {
        (0..SHARDS).for_each(|shard| self.unsettled.add(shard));
    }

    /// A gateway has come, or can serve other things than it could.
    pub(super) fn unsettle_of(&mut self, name: &NodeName) {
        let placement = match &self.owners {
            Owners::Alone(alone) if alone == name => return self.unsettle_all(),
            Owners::Alone(_) => return,
            Owners::Placed(placement) => Arc::clone(placement),
        };
        let own = (0..SHARDS).filter(|shard| placement.node(*shard) == Some(name));
        own.for_each(|shard| self.unsettled.add(shard));
        self.unsettle_unfit();
    }

    /// A gateway has come to a VPC, or left it.
    pub(super) fn unsettle_in(&mut self, vpc: &str) {
        for id in self.vpcs.inside(vpc) {
            if self.unsettled.is_full() {
                return;
            }
            self.unsettled.add(shard(id));
        }
    }

    /// One placement has followed another, or other gateways are to stay.
    pub(super) fn unsettle_moved(&mut self, former: &Placement, next: &Placement) {
        if former.epoch() != next.epoch() {
            let place = |placement: &Placement, shard| {
                let node = placement.node(shard)?;
                Some((node.clone(), placement.slice(node)))
            };
            let moved = (0..SHARDS).filter(|shard| place(former, *shard) != place(next, *shard));
            moved.for_each(|shard| self.unsettled.add(shard));
        }
        self.unsettle_unfit();
    }

    fn unsettle_unfit(&mut self) {
        self.unfit.iter().for_each(|shard| self.unsettled.add(*shard));
    }

    /// Tells gateways what follows for one endpoint: its owner is to serve it, and whoever else does is to let go of it, but
    /// not before its owner has listened for a while, unless it cannot listen beside the other, or would serve it in a
    /// way that is over. Answers whether anything was said.
    pub(super) fn settle(&mut self, id: EndpointId) -> bool {
        let (Some(spec), Some(owner)) = (self.wanted.get(id).cloned(), self.owner(id).cloned()) else {
            return false;
        };
        let slice = match &self.owners {
            Owners::Alone(_) => None,
            Owners::Placed(placement) => {
                let own = placement.owner(id).and_then(|own| self.nodes.get(own));
                if own.is_some_and(|own| !self.can(own, &spec)) {
                    self.unfit.insert(shard(id));
                }
                placement.slice(&owner)
            }
        };
        let Some(node) = self.nodes.get_mut(&owner) else {
            return false;
        };
        let mut said = node.tell(id, Some(&spec), slice, spec.drain_s);
        let Some(told) = node.told.get_mut(&id) else {
            return said;
        };
        // It is back where it was before anybody let go of it: who has heard of the other hears of this one again first.
        let returns = !std::mem::replace(&mut told.is_owner, true) && told.listens();
        told.is_known &= !returns;
        let (listens, is_known) = (told.listens(), told.is_known);
        let machine = node.about.as_ref().map(|about| about.machine.clone());
        let others = self.nodes.iter_mut().filter(|(name, _)| **name != owner);
        for (_, other) in others {
            let Some(told) = other.told.get_mut(&id) else {
                continue;
            };
            told.is_owner = false;
            let is_over = |told: &Told| !is_same(told.spec.as_ref(), Some(&spec));
            if is_known || (listens && is_over(told)) || other.is_beside(machine.as_deref()) {
                let told = other.tell_none(id, 0);
                self.moves += u64::from(told);
                said |= told;
            }
        }
        if returns {
            self.announce(id);
            self.overlap(&owner, id);
        }
        said || returns
    }
}
