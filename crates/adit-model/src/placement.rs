//! Which gateway serves which endpoint: shards of endpoints, each on one gateway.
//!
//! Owns the hash of an endpoint's id to its shard, the planner of a placement from the one before ([`Placement::next`],
//! pure), and who serves an endpoint that its shard's gateway cannot serve ([`Placement::serving`]). Only the reconcilers'
//! leader plans; gateways are told what is theirs and never compute it.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use crate::{id::EndpointId, node::NodeName, slices::Slices};

/// Into how many shards a pool's endpoints are divided. Part of the placement's meaning: it must never change.
pub const SHARDS: usize = 4096;

/// Where each shard is: one document for each pool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct Placement {
    /// Grows with every change.
    epoch: u64,
    /// Each shard's gateway, and the epoch in which it came there; empty where no gateway has ever been.
    shards: Vec<Option<(NodeName, u64)>>,
    /// Which part of the range of source addresses each gateway has.
    slices: Slices,
}

/// A placement as it is written: each name once.
#[derive(Serialize, Deserialize)]
struct Written {
    epoch: u64,
    nodes: Vec<NodeName>,
    /// The place of its name in `nodes`, and its epoch.
    shards: Vec<Option<(usize, u64)>>,
    #[serde(default)]
    slices: Slices,
}

impl From<Placement> for Written {
    fn from(placement: Placement) -> Self {
        let names: BTreeSet<_> = placement.shards.iter().flatten().map(|(node, _)| node).collect();
        let place: BTreeMap<_, _> = names.iter().enumerate().map(|(at, node)| (*node, at)).collect();
        let written = |(node, epoch): &(NodeName, u64)| place.get(node).map(|at| (*at, *epoch));
        Self {
            epoch: placement.epoch,
            shards: placement
                .shards
                .iter()
                .map(|shard| shard.as_ref().and_then(written))
                .collect(),
            nodes: names.into_iter().cloned().collect(),
            slices: placement.slices,
        }
    }
}

impl TryFrom<Written> for Placement {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let Written {
            epoch,
            nodes,
            shards,
            slices,
        } = written;
        if !shards.is_empty() && shards.len() != SHARDS {
            return Err(format!("a placement has {SHARDS} shards, not {}", shards.len()));
        }
        let read = |shard: Option<(usize, u64)>| match shard {
            None => Ok(None),
            Some((at, epoch)) => {
                let node = nodes.get(at).ok_or_else(|| format!("there is no node {at}"))?;
                Ok(Some((node.clone(), epoch)))
            }
        };
        let shards = shards.into_iter().map(read).collect::<Result<_, String>>()?;
        Ok(Self {
            epoch,
            shards,
            slices,
        })
    }
}

/// The shard of an endpoint.
#[must_use]
pub fn shard(id: EndpointId) -> usize {
    // The low bits of a good mix of all bits: ids that people make up often differ in few of them.
    let (high, low) = id.0.as_u64_pair();
    (mix(high ^ mix(low)) % SHARDS as u64) as usize
}

/// A bijection of 64 bits in which each bit depends on all (the finalizer of SplitMix64).
fn mix(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// How much a gateway wants a shard: the rendezvous hash. The greatest gets it.
fn weight(node: &NodeName, shard: usize) -> u64 {
    let seed = node
        .as_str()
        .bytes()
        .fold(0, |hash, byte| mix(hash ^ u64::from(byte)));
    mix(seed ^ shard as u64)
}

impl Placement {
    /// Grows with every change.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The gateway of a shard.
    #[must_use]
    pub fn node(&self, shard: usize) -> Option<&NodeName> {
        self.shards.get(shard)?.as_ref().map(|(node, _)| node)
    }

    /// The gateway that serves an endpoint.
    #[must_use]
    pub fn owner(&self, id: EndpointId) -> Option<&NodeName> {
        self.node(shard(id))
    }

    /// The gateway that serves an endpoint which not every gateway can serve: its shard's, where that `can`; else, of the
    /// `others` that can, the one that wants the shard most. So an endpoint moves only from a gateway that cannot serve it any
    /// more, or to one that now can. Where none can it is its shard's, which says what is missing.
    pub fn serving<'a>(
        &'a self,
        id: EndpointId,
        others: impl IntoIterator<Item = &'a NodeName>,
        can: impl Fn(&NodeName) -> bool,
    ) -> Option<&'a NodeName> {
        let shard = shard(id);
        let own = self.node(shard)?;
        if can(own) {
            return Some(own);
        }
        let others = others.into_iter().filter(|node| can(node));
        others
            .max_by_key(|node| (weight(node, shard), *node))
            .or(Some(own))
    }

    /// Which source addresses each gateway has.
    #[must_use]
    pub fn slices(&self) -> &Slices {
        &self.slices
    }

    /// The source addresses that a gateway has for its endpoints.
    #[must_use]
    pub fn slice(&self, node: &NodeName) -> Option<Ipv4Net> {
        self.slices.of(node)
    }

    /// What does not agree in it: a gateway with shards and no slice, and a shard that came later than its placement.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        let shards = self.shards.iter().enumerate();
        let later = shards.filter_map(|(at, shard)| {
            let (_, epoch) = shard.as_ref()?;
            let words = format!(
                "shard {at} is of epoch {epoch}, and the placement of {}",
                self.epoch
            );
            (*epoch > self.epoch).then_some(words)
        });
        // Before there were slices, nobody had one.
        let is_sliced = self.slices.iter().next().is_some();
        let loads = self.loads().into_keys();
        let bare = loads.filter(|node| is_sliced && self.slices.of(node).is_none());
        later
            .chain(bare.map(|node| format!("gateway {node} has shards and no slice of the source addresses")))
            .collect()
    }

    /// Every gateway that has shards, with how many.
    #[must_use]
    pub fn loads(&self) -> BTreeMap<&NodeName, usize> {
        let mut loads = BTreeMap::new();
        for (node, _) in self.shards.iter().flatten() {
            *loads.entry(node).or_default() += 1;
        }
        loads
    }

    /// The placement without a gateway that has no shards: what is left of it is its slice. `None` where it has some, and where
    /// nothing is known of it.
    #[must_use]
    pub fn without(&self, node: &NodeName) -> Option<Placement> {
        let has_none = !self.loads().contains_key(node);
        (has_none && self.slices.of(node).is_some()).then(|| Self {
            epoch: self.epoch + 1,
            shards: self.shards.clone(),
            slices: self.slices.without(node),
        })
    }

    /// The placement that follows when exactly `live` may have shards; `None` where this one will do.
    ///
    /// Each gateway gets at most its even share, rounded up. A shard moves only where its gateway is gone or has more than
    /// that, and then to the gateway that wants it most among those with room. Without any gateway everything stays as it
    /// was: whoever comes back first finds its own. Each of them has a slice of the source addresses, or else no shards.
    #[must_use]
    pub fn next(&self, live: &BTreeSet<NodeName>) -> Option<Placement> {
        let slices = self.slices.with(live);
        let mut live = live.clone();
        live.retain(|node| slices.of(node).is_some());
        if live.is_empty() {
            return None;
        }
        let most = SHARDS.div_ceil(live.len());
        let epoch = self.epoch + 1;
        let mut shards = self.shards.clone();
        shards.resize(SHARDS, None);
        let mut of: BTreeMap<&NodeName, Vec<usize>> = live.iter().map(|node| (node, Vec::new())).collect();
        let mut free = Vec::new();
        for (at, shard) in shards.iter().enumerate() {
            match shard.as_ref().and_then(|(node, _)| of.get_mut(node)) {
                Some(own) => own.push(at),
                None => free.push(at),
            }
        }
        for (node, own) in &mut of {
            if own.len() > most {
                // It keeps those that it wants most.
                own.sort_by_key(|at| std::cmp::Reverse(weight(node, *at)));
                free.extend(own.split_off(most));
            }
        }
        if free.is_empty() && slices == self.slices {
            return None;
        }
        free.sort_unstable();
        for at in free {
            let room = of.iter_mut().filter(|(_, own)| own.len() < most);
            // There is room: `most` for each of them is at least all shards.
            if let Some((node, own)) = room.max_by_key(|(node, _)| (weight(node, at), **node)) {
                own.push(at);
                shards[at] = Some(((*node).clone(), epoch));
            }
        }
        Some(Placement {
            epoch,
            shards,
            slices,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::btree_set, prelude::*};
    use uuid::Uuid;

    use super::*;

    fn nodes() -> impl Strategy<Value = BTreeSet<NodeName>> {
        btree_set(0..20_u8, 1..8).prop_map(|numbers| numbers.into_iter().map(name).collect())
    }

    fn name(number: u8) -> NodeName {
        format!("gateway-{number}").parse().unwrap()
    }

    /// What comes of one set of live gateways after another.
    fn after(steps: &[BTreeSet<NodeName>]) -> Placement {
        steps.iter().fold(Placement::default(), |placement, live| {
            placement.next(live).unwrap_or(placement)
        })
    }

    fn moved(one: &Placement, other: &Placement) -> Vec<usize> {
        (0..SHARDS)
            .filter(|at| one.node(*at) != other.node(*at))
            .collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn every_shard_is_on_a_live_gateway_and_none_has_more_than_its_share(
            steps in proptest::collection::vec(nodes(), 1..6)
        ) {
            let placement = after(&steps);
            let live = steps.last().unwrap();
            for at in 0..SHARDS {
                prop_assert!(live.contains(placement.node(at).unwrap()));
            }
            let most = SHARDS.div_ceil(live.len());
            prop_assert!(placement.loads().values().all(|load| *load <= most));
            prop_assert_eq!(placement.next(live), None, "what is planned is at rest");
        }

        #[test]
        fn when_gateways_go_only_their_shards_move(
            steps in proptest::collection::vec(nodes(), 1..4), gone in any::<prop::sample::Index>()
        ) {
            let before = after(&steps);
            let mut live = steps.last().unwrap().clone();
            prop_assume!(live.len() > 1);
            let gone = live.iter().nth(gone.index(live.len())).unwrap().clone();
            live.remove(&gone);
            let next = before.next(&live).unwrap();
            for at in moved(&before, &next) {
                prop_assert_eq!(before.node(at), Some(&gone));
            }
        }

        #[test]
        fn when_a_gateway_comes_it_gets_its_share_and_nothing_else_moves(
            steps in proptest::collection::vec(nodes(), 1..4)
        ) {
            let before = after(&steps);
            let mut live = steps.last().unwrap().clone();
            let new = name(99);
            live.insert(new.clone());
            let next = before.next(&live).unwrap();
            let moved = moved(&before, &next);
            for at in &moved {
                prop_assert_eq!(next.node(*at), Some(&new));
            }
            prop_assert!(moved.len() <= SHARDS.div_ceil(live.len()));
        }

        #[test]
        fn a_gateway_that_is_gone_is_forgotten_and_nothing_moves(
            steps in proptest::collection::vec(nodes(), 2..4)
        ) {
            let before = after(&steps);
            let live = steps.last().unwrap();
            for (node, _) in before.slices().iter() {
                let next = before.without(node);
                prop_assert_eq!(next.is_some(), !live.contains(node));
                let Some(next) = next else { continue };
                prop_assert_eq!(next.slice(node), None);
                prop_assert_eq!(next.epoch(), before.epoch() + 1);
                prop_assert_eq!(moved(&before, &next), Vec::<usize>::new());
                prop_assert!(live.iter().all(|node| next.slice(node) == before.slice(node)));
                prop_assert_eq!(next.next(live), None, "nobody has to do anything");
                prop_assert_eq!(next.without(node), None);
            }
        }

        #[test]
        fn epochs_grow_and_tell_which_shards_moved(steps in proptest::collection::vec(nodes(), 2..5)) {
            let mut placement = Placement::default();
            for live in &steps {
                let Some(next) = placement.next(live) else { continue };
                prop_assert_eq!(next.epoch(), placement.epoch() + 1);
                for (at, shard) in next.shards.iter().enumerate() {
                    let came = shard.as_ref().unwrap().1;
                    prop_assert_eq!(came == next.epoch(), placement.node(at) != next.node(at));
                }
                placement = next;
            }
        }

        #[test]
        fn an_endpoint_moves_only_where_it_must_or_to_who_now_can_serve_it(
            live in nodes(), id in any::<u128>(), able in nodes(), changed in 0..20_u8
        ) {
            let (placement, id, changed) = (after(std::slice::from_ref(&live)), EndpointId(Uuid::from_u128(id)), name(changed));
            let serving = |able: &BTreeSet<NodeName>| {
                placement.serving(id, &live, |node| able.contains(node)).unwrap().clone()
            };
            let before = serving(&able);
            let shard_s = placement.owner(id).unwrap();
            let any = able.intersection(&live).next().is_some();
            prop_assert!(live.contains(&before));
            prop_assert_eq!(able.contains(&before), any);
            prop_assert!(!able.contains(shard_s) || before == *shard_s);
            prop_assert!(any || before == *shard_s);
            let mut now = able.clone();
            if !now.remove(&changed) {
                now.insert(changed.clone());
            }
            let after = serving(&now);
            if after != before && any && now.intersection(&live).next().is_some() {
                prop_assert!(before == changed || after == changed);
            }
        }

        #[test]
        fn it_is_read_as_it_is_written(steps in proptest::collection::vec(nodes(), 0..4)) {
            let placement = after(&steps);
            let json = serde_json::to_string(&placement).unwrap();
            prop_assert_eq!(serde_json::from_str::<Placement>(&json).unwrap(), placement);
        }
    }

    #[test]
    fn without_gateways_everything_stays() {
        let placement = after(&[[name(1), name(2)].into()]);
        assert_eq!(placement.next(&BTreeSet::new()), None);
    }

    #[test]
    fn a_placement_without_slices_gets_them_and_nothing_moves() {
        let live = [name(1), name(2)].into();
        let placement = after(std::slice::from_ref(&live));
        let mut json: serde_json::Value = serde_json::to_value(&placement).unwrap();
        json.as_object_mut().unwrap().remove("slices");
        let former: Placement = serde_json::from_value(json).unwrap();
        assert_eq!(former.slice(&name(1)), None);
        let next = former.next(&live).unwrap();
        assert!(next.slice(&name(1)).is_some() && next.epoch() == former.epoch() + 1);
        assert!(moved(&former, &next).is_empty());
    }

    #[test]
    fn alike_ids_are_spread_over_the_shards() {
        let shards: BTreeSet<_> = (0..1000)
            .map(|n| shard(EndpointId(Uuid::from_u128(n << 64))))
            .collect();
        assert!(shards.len() > 800, "{}", shards.len());
    }

    #[test]
    fn what_is_no_placement_is_not_read() {
        for text in [
            r#"{"epoch":1,"nodes":[],"shards":[null]}"#,
            &format!(
                r#"{{"epoch":1,"nodes":["a"],"shards":[{}[1,1]]}}"#,
                "null,".repeat(SHARDS - 1)
            ),
        ] {
            assert!(serde_json::from_str::<Placement>(text).is_err());
        }
    }
}
