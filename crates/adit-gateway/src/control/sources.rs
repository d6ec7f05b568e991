//! Which source address each endpoint has, out of the gateway's own slice: its own among those of its provider's VPC. Pure.
//!
//! An endpoint keeps its address for as long as it is here, also over a restart (the address is written down with the
//! specification); it is free again once the gateway has let go of the endpoint.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    net::Ipv4Addr,
    sync::Arc,
};

use adit_model::{feed::EndpointSpec, id::EndpointId, placement::shard};
use ipnet::Ipv4Net;

/// Who has what.
#[derive(Debug, Default)]
pub(super) struct Sources {
    of: HashMap<EndpointId, (Arc<str>, Ipv4Addr)>,
    /// By provider's VPC.
    taken: HashMap<Arc<str>, HashSet<Ipv4Addr>>,
    /// Endpoints that there was no address for.
    without: BTreeSet<EndpointId>,
}

impl Sources {
    /// What has been picked before.
    pub(super) fn note(&mut self, spec: &EndpointSpec) {
        if spec.provider.slice.is_some() && !spec.provider.source.is_unspecified() {
            self.give(spec.id, &spec.provider.namespace, spec.provider.source);
        }
    }

    /// Picks the source address of an endpoint that has one out of a slice; the unspecified one where none is free.
    pub(super) fn pick(&mut self, spec: &mut EndpointSpec) {
        let (Some(slice), vpc) = (spec.provider.slice, &spec.provider.namespace) else {
            return;
        };
        if let Some((of, source)) = self.of.get(&spec.id)
            && of == vpc
            && slice.contains(source)
        {
            spec.provider.source = *source;
            return;
        }
        self.release(spec.id);
        let taken = self.taken.get(vpc);
        let free = addresses(slice, shard(spec.id)).find(|ip| taken.is_none_or(|taken| !taken.contains(ip)));
        match free {
            Some(source) => self.give(spec.id, vpc, source),
            None => drop(self.without.insert(spec.id)),
        }
        spec.provider.source = free.unwrap_or(Ipv4Addr::UNSPECIFIED);
    }

    fn give(&mut self, id: EndpointId, vpc: &Arc<str>, source: Ipv4Addr) {
        self.release(id);
        self.of.insert(id, (Arc::clone(vpc), source));
        self.taken.entry(Arc::clone(vpc)).or_default().insert(source);
    }

    /// Lets others have an endpoint's address. Answers whom there was none for.
    pub(super) fn release(&mut self, id: EndpointId) -> BTreeSet<EndpointId> {
        self.without.remove(&id);
        let Some((vpc, source)) = self.of.remove(&id) else {
            return BTreeSet::new();
        };
        if let Some(taken) = self.taken.get_mut(&vpc) {
            taken.remove(&source);
            if taken.is_empty() {
                self.taken.remove(&vpc);
            }
        }
        self.without.clone()
    }
}

/// The addresses of a slice but its first and last, from anywhere on: an address that was freed seldom comes back soon.
fn addresses(slice: Ipv4Net, from: usize) -> impl Iterator<Item = Ipv4Addr> {
    let first = u32::from(slice.network()) + 1;
    let count = u32::from(slice.broadcast()).saturating_sub(first);
    let from = u32::try_from(from).unwrap_or(0);
    (0..count).map(move |n| Ipv4Addr::from(first + (from + n) % count))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::control::sample;

    fn spec(id: EndpointId, vpc: &str, slice: &str) -> EndpointSpec {
        let mut spec = EndpointSpec { id, ..sample::spec() };
        spec.provider.namespace = vpc.into();
        spec.provider.source = [198, 19, 200, 7].into();
        spec.provider.slice = Some(slice.parse().unwrap());
        spec
    }

    proptest! {
        #[test]
        fn of_one_vpc_each_endpoint_has_its_own_and_keeps_it(
            steps in proptest::collection::vec((0..24_usize, any::<bool>(), "[ab]"), 1..80)
        ) {
            let ids: Vec<_> = (0..24).map(|_| EndpointId::random()).collect();
            let mut sources = Sources::default();
            let mut has: HashMap<(String, EndpointId), Ipv4Addr> = HashMap::new();
            for (n, comes, vpc) in steps {
                let id = ids[n];
                if !comes {
                    sources.release(id);
                    has.retain(|(_, of), _| *of != id);
                    continue;
                }
                let mut spec = spec(id, &vpc, "198.19.132.0/28");
                sources.pick(&mut spec);
                let source = spec.provider.source;
                let former = has.get(&(vpc.clone(), id)).copied();
                has.retain(|(_, of), _| *of != id);
                let others: HashSet<_> = has.iter().filter(|((of, _), _)| *of == vpc).map(|(_, ip)| *ip).collect();
                if source.is_unspecified() {
                    prop_assert_eq!(others.len(), 14, "all are taken");
                } else {
                    prop_assert!(!others.contains(&source));
                    prop_assert!(former.is_none_or(|former| former == source));
                    has.insert((vpc, id), source);
                }
            }
        }
    }

    #[test]
    fn whoever_waits_is_named_once_there_is_one() {
        let mut sources = Sources::default();
        let ids: Vec<_> = (0..3).map(|_| EndpointId::random()).collect();
        let pick = |sources: &mut Sources, id| {
            let mut spec = spec(id, "vpc", "198.19.132.0/30");
            sources.pick(&mut spec);
            spec.provider.source
        };
        let first = pick(&mut sources, ids[0]);
        pick(&mut sources, ids[1]);
        assert!(pick(&mut sources, ids[2]).is_unspecified());
        assert_eq!(sources.release(ids[0]), [ids[2]].into());
        assert_eq!(pick(&mut sources, ids[2]), first);
        assert!(sources.release(ids[1]).is_empty());
    }

    #[test]
    fn what_was_picked_before_stays_and_another_slice_means_another_address() {
        let mut sources = Sources::default();
        let id = EndpointId::random();
        let mut former = spec(id, "vpc", "198.19.132.0/22");
        former.provider.source = [198, 19, 133, 9].into();
        sources.note(&former);
        let mut again = spec(id, "vpc", "198.19.132.0/22");
        sources.pick(&mut again);
        assert_eq!(again.provider.source, former.provider.source);
        let mut moved = spec(id, "vpc", "198.19.136.0/22");
        sources.pick(&mut moved);
        assert!(moved.provider.slice.unwrap().contains(&moved.provider.source));
    }

    #[test]
    fn who_has_the_whole_range_is_told_the_address() {
        let mut whole = spec(EndpointId::random(), "vpc", "198.19.132.0/22");
        whole.provider.slice = None;
        Sources::default().pick(&mut whole);
        assert_eq!(whole.provider.source, Ipv4Addr::new(198, 19, 200, 7));
    }
}
