//! Which part of the range of source addresses each gateway has, so that a backend's answers find the one that asked.
//!
//! Owns the parts, and who gets which; a gateway keeps its part for as long as the region lives. Only the reconcilers' leader
//! gives them out.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use crate::{network::RESERVED, node::NodeName};

/// How long a part's prefix is: 1,024 addresses. Part of the document's meaning: it must never change.
const PREFIX: u8 = 22;
/// How many parts there are, and so how many gateways a region can have.
pub const SLICES: u8 = 1 << (PREFIX - RESERVED.prefix_len());

/// Who has which part.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<NodeName, u8>", into = "BTreeMap<NodeName, u8>")]
pub struct Slices(BTreeMap<NodeName, u8>);

impl From<Slices> for BTreeMap<NodeName, u8> {
    fn from(slices: Slices) -> Self {
        slices.0
    }
}

impl TryFrom<BTreeMap<NodeName, u8>> for Slices {
    type Error = String;

    fn try_from(slices: BTreeMap<NodeName, u8>) -> Result<Self, String> {
        let distinct: BTreeSet<_> = slices.values().collect();
        if distinct.len() < slices.len() {
            return Err("two gateways have one slice".to_owned());
        }
        match distinct.last() {
            Some(last) if **last >= SLICES => Err(format!("there are {SLICES} slices, and none is {last}")),
            _ => Ok(Self(slices)),
        }
    }
}

impl Slices {
    /// A gateway's part.
    #[must_use]
    pub fn of(&self, node: &NodeName) -> Option<Ipv4Net> {
        let slice = u32::from(*self.0.get(node)?) << (32 - PREFIX);
        let first = Ipv4Addr::from(u32::from(RESERVED.network()) + slice);
        Ipv4Net::new(first, PREFIX).ok()
    }

    /// All parts, by their gateways.
    pub fn iter(&self) -> impl Iterator<Item = (&NodeName, Ipv4Net)> {
        self.0.keys().filter_map(|node| Some((node, self.of(node)?)))
    }

    /// The same with a part for each of these gateways. Only where none is left a gateway that is not among them loses its own;
    /// where all of [`SLICES`] are among them the last go without.
    #[must_use]
    pub fn with(&self, live: &BTreeSet<NodeName>) -> Self {
        let mut next = self.clone();
        let taken: BTreeSet<u8> = self.0.values().copied().collect();
        let mut free = (0..SLICES).filter(|slice| !taken.contains(slice));
        for node in live {
            if next.0.contains_key(node) {
                continue;
            }
            let slice = free.next().or_else(|| {
                let away = next.0.keys().find(|node| !live.contains(*node)).cloned()?;
                next.0.remove(&away)
            });
            next.0.extend(slice.map(|slice| (node.clone(), slice)));
        }
        next
    }

    /// The same without a gateway: its part is free for another.
    #[must_use]
    pub fn without(&self, node: &NodeName) -> Self {
        let mut next = self.clone();
        next.0.remove(node);
        next
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::btree_set, prelude::*};

    use super::*;

    fn name(number: u8) -> NodeName {
        format!("gateway-{number}").parse().unwrap()
    }

    proptest! {
        #[test]
        fn each_gateway_has_a_part_of_its_own_and_keeps_it(
            steps in proptest::collection::vec(btree_set(0..60_u8, 0..20), 1..6)
        ) {
            let mut slices = Slices::default();
            for step in steps {
                let live: BTreeSet<_> = step.into_iter().map(name).collect();
                let next = slices.with(&live);
                let parts: BTreeSet<_> = next.iter().map(|(_, slice)| slice).collect();
                prop_assert_eq!(parts.len(), next.iter().count());
                prop_assert!(parts.iter().all(|part| RESERVED.contains(part)));
                prop_assert!(live.iter().all(|node| next.of(node).is_some()));
                let is_full = parts.len() == usize::from(SLICES);
                for (node, slice) in slices.iter() {
                    let keeps = next.of(node) == Some(slice);
                    prop_assert!(keeps || (is_full && !live.contains(node)));
                }
                prop_assert_eq!(next.with(&live), next.clone());
                slices = next;
            }
        }
    }

    #[test]
    fn the_first_gateway_has_the_first_addresses() {
        let slices = Slices::default().with(&[name(7), name(8)].into());
        let of = |number| slices.of(&name(number)).map(|slice| slice.to_string());
        assert_eq!(of(7).as_deref(), Some("198.19.128.0/22"));
        assert_eq!(of(8).as_deref(), Some("198.19.132.0/22"));
        assert_eq!(of(9), None);
        assert_eq!(
            serde_json::to_string(&slices).unwrap(),
            r#"{"gateway-7":0,"gateway-8":1}"#
        );
    }

    #[test]
    fn of_too_many_gateways_the_last_go_without() {
        let live: BTreeSet<_> = (10..50).map(name).collect();
        let slices = Slices::default().with(&live);
        assert_eq!(slices.iter().count(), usize::from(SLICES));
        assert_eq!(slices.of(&name(49)), None);
    }

    #[test]
    fn what_is_no_division_is_not_read() {
        for text in [r#"{"a":1,"b":1}"#, r#"{"a":32}"#, r#"{"A":1}"#] {
            assert!(serde_json::from_str::<Slices>(text).is_err(), "{text}");
        }
    }
}
