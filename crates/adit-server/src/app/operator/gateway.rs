//! Gateways that are processes of their own: which there are, what they do, and who is to get nothing to do.

use std::{collections::BTreeSet, sync::Arc};

use adit_model::{
    ApiError, Code,
    body::{self, Body},
    listing::{LIMIT_MAX, Listing, Query},
    node::{Drain, Node, NodeName},
};
use adit_store::{Key, State, Txn, keys::encode};

use crate::{
    app::{ATTEMPTS_MAX, App, as_seen},
    error::Failure,
};

/// A gateway, as the operator sees it.
#[derive(Clone, Debug)]
pub struct GatewaySeen {
    /// Its name.
    pub name: NodeName,
    /// What it says of itself; nothing of one that is away.
    pub node: Option<Arc<Node>>,
    /// How many of all shards are its.
    pub shards: usize,
    /// Whether it is to get none.
    pub draining: bool,
    /// Whether it is to get none, and has let go of all that it had.
    pub drained: bool,
}

impl App {
    /// A page of all gateways by their names: those that are there, those that were and have not lost their source addresses
    /// to another since, and those that are drained.
    ///
    /// # Errors
    /// By the query.
    pub async fn operator_gateway_list(&self, query: &Query) -> Result<(Vec<GatewaySeen>, usize), Failure> {
        let listing = Listing::parse(query, LIMIT_MAX, true)?;
        self.barrier().await?;
        let found = self.gateways(&self.cache.read());
        let total = found.len();
        // All of an age: the order of their names stays.
        let page = listing.page(found, |_| Default::default());
        Ok((page, total))
    }

    fn gateways(&self, state: &State) -> Vec<GatewaySeen> {
        let placement = state.placement(&self.config.pool);
        let shards = placement.map(|placement| placement.loads()).unwrap_or_default();
        let known = placement
            .into_iter()
            .flat_map(|placement| placement.slices().iter());
        let mut names: BTreeSet<NodeName> = known.map(|(name, _)| name.clone()).collect();
        names.extend(shards.keys().map(|name| (*name).clone()));
        names.extend(state.nodes().map(|node| node.name.clone()));
        names.extend(state.drains().map(|drain| drain.name.clone()));
        let epoch = placement.map_or(0, |placement| placement.epoch());
        let seen = |name: NodeName| {
            let node = state.node(&name).map(|node| Arc::clone(&node.value));
            let shards = shards.get(&name).copied().unwrap_or(0);
            let draining = state.drain(&name).is_some();
            // Of what it had by a former placement nothing follows.
            let has_none = |node: &Arc<Node>| node.epoch >= epoch && node.load.endpoints == 0;
            GatewaySeen {
                drained: draining && shards == 0 && node.as_ref().is_none_or(has_none),
                node,
                shards,
                draining,
                name,
            }
        };
        names.into_iter().map(seen).collect()
    }

    fn gateway(&self, state: &State, name: &NodeName) -> Result<GatewaySeen, ApiError> {
        let seen = self.gateways(state).into_iter().find(|seen| seen.name == *name);
        seen.ok_or_else(|| ApiError::because(Code::E0005, format!("There is no gateway {name}.")))
    }

    /// Takes all endpoints off a gateway, each once another serves it; or lets it have its share again.
    ///
    /// # Errors
    /// 2002, 0002 (the words); 0005 where there is no such gateway.
    pub async fn operator_gateway_set(&self, name: NodeName, body: &Body) -> Result<GatewaySeen, Failure> {
        let draining = body::boolean(body, "draining", Code::E0002)?
            .ok_or_else(|| ApiError::because(Code::E2002, "draining is missing."))?;
        for _ in 0..ATTEMPTS_MAX {
            self.barrier().await?;
            let txn = {
                let state = self.cache.read();
                let seen = self.gateway(&state, &name)?;
                if seen.draining == draining {
                    return Ok(seen);
                }
                let key = Key::Drain(name.clone());
                let txn = as_seen(Txn::new(), key.clone(), state.drain(&name));
                match draining {
                    true => txn.put(
                        key,
                        encode(&Drain {
                            name: name.clone(),
                            since: self.now(),
                        }),
                    ),
                    false => txn.delete(key),
                }
            };
            if self.commit(txn).await? && !draining {
                let there = self
                    .gateways(&self.cache.read())
                    .into_iter()
                    .find(|seen| seen.name == name);
                // One that is away and has no shards was known by nothing but this.
                return Ok(there.unwrap_or(GatewaySeen {
                    name,
                    node: None,
                    shards: 0,
                    draining: false,
                    drained: false,
                }));
            }
        }
        Err(Failure::Busy(ATTEMPTS_MAX))
    }

    /// Forgets a gateway that is away for good: its source addresses may be another's from then on.
    ///
    /// # Errors
    /// 0005 where there is no such gateway; 0002 where it is there, or its endpoints are nobody else's yet.
    pub async fn operator_gateway_forget(&self, name: NodeName) -> Result<(), Failure> {
        let pool = self.config.pool;
        for _ in 0..ATTEMPTS_MAX {
            self.barrier().await?;
            let txn = {
                let state = self.cache.read();
                let seen = self.gateway(&state, &name)?;
                let reason = match (&seen.node, seen.shards) {
                    (Some(_), _) => Some(format!("gateway {name} is there: stop it first.")),
                    (None, shards @ 1..) => Some(format!(
                        "gateway {name} has {shards} shards of endpoints, and no other gateway is there to have them."
                    )),
                    (None, 0) => None,
                };
                if let Some(reason) = reason {
                    return Err(ApiError::because(Code::E0002, reason).into());
                }
                let mut txn = as_seen(Txn::new(), Key::Node(name.clone()), state.node(&name));
                let placement = state.placement(&pool);
                if let Some(next) = placement.and_then(|placement| placement.value.without(&name)) {
                    let key = Key::Placement(pool);
                    txn = as_seen(txn, key.clone(), placement).put(key, encode(&next));
                }
                let key = Key::Drain(name.clone());
                match state.drain(&name) {
                    Some(drain) => as_seen(txn, key.clone(), Some(drain)).delete(key),
                    None => txn,
                }
            };
            if self.commit(txn).await? {
                return Ok(());
            }
        }
        Err(Failure::Busy(ATTEMPTS_MAX))
    }
}
