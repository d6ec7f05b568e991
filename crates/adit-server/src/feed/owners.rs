//! Who serves what: the placement's word, and which gateways can.
//!
//! A gateway says which VPCs it has namespaces of (its legs) and which modes it can serve; an endpoint goes to its shard's
//! gateway, or to another where that one cannot serve it (`Placement::serving`). Also tells gateways who else is in their
//! VPCs. What follows from one gateway's word, or from a new placement, is told in [`super::settle`].

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    net::Ipv4Addr,
    sync::Arc,
    time::Duration,
};

use adit_model::{
    feed::{Capabilities, EndpointSpec, Peer},
    id::{EndpointId, VpcId},
    network::vpc_hash,
    node::{Legs, NodeName},
    placement::Placement,
    service::TcpProxy,
};
use tokio::time::Instant;

use super::{
    Feed, Inner,
    node::{self, Node},
};

/// How many gateways are named to somebody who waits for one.
const NAMED_MAX: usize = 8;

/// Who serves what.
#[derive(Debug)]
pub(super) enum Owners {
    /// One gateway in this process, everything.
    Alone(NodeName),
    /// Each shard's, and what it cannot serve another's.
    Placed(Arc<Placement>),
}

/// Which endpoints have a leg in which VPC.
#[derive(Debug, Default)]
pub(super) struct Vpcs {
    /// What stands for each VPC ([`vpc_hash`]), by the name of its namespace. Specifications have these names, too: each is in
    /// memory once.
    hashes: HashMap<Arc<str>, Arc<str>>,
    endpoints: HashMap<Arc<str>, HashSet<EndpointId>>,
}

impl Vpcs {
    pub(super) fn insert(&mut self, spec: &mut EndpointSpec) {
        for namespace in [&mut spec.consumer.namespace, &mut spec.provider.namespace] {
            let vpc = if let Some((known, vpc)) = self.hashes.get_key_value(namespace) {
                *namespace = Arc::clone(known);
                Arc::clone(vpc)
            } else {
                // The control plane calls a namespace by the VPC's id.
                let id = namespace.parse::<VpcId>();
                let vpc = id.map_or_else(|_| Arc::clone(namespace), |id| vpc_hash(id).into());
                self.hashes.insert(Arc::clone(namespace), Arc::clone(&vpc));
                vpc
            };
            self.endpoints.entry(vpc).or_default().insert(spec.id);
        }
    }

    pub(super) fn remove(&mut self, spec: &EndpointSpec) {
        for namespace in [&spec.consumer.namespace, &spec.provider.namespace] {
            let Some(vpc) = self.hashes.get(namespace) else {
                continue;
            };
            if let Some(inside) = self.endpoints.get_mut(vpc) {
                inside.remove(&spec.id);
                if inside.is_empty() {
                    self.endpoints.remove(vpc);
                    self.hashes.remove(namespace);
                }
            }
        }
    }

    /// What stands for the VPCs that an endpoint has legs in: the consumer's, and the provider's.
    fn legs(&self, spec: &EndpointSpec) -> [Option<&Arc<str>>; 2] {
        [&spec.consumer.namespace, &spec.provider.namespace].map(|namespace| self.hashes.get(namespace))
    }

    pub(super) fn inside(&self, vpc: &str) -> impl Iterator<Item = EndpointId> {
        self.endpoints.get(vpc).into_iter().flatten().copied()
    }
}

/// Where gateways are in VPCs, those included that are away: what is on its way to them is theirs.
pub(super) type Spots = HashMap<String, BTreeMap<NodeName, Vec<Ipv4Addr>>>;

/// What a gateway can serve.
#[derive(Debug, Default)]
pub(super) struct Abilities {
    /// The VPCs that it has namespaces of; absent where it says nothing of them.
    legs: Option<HashSet<String>>,
    /// The modes that it can serve; where it names none, all.
    pub(super) capabilities: Capabilities,
}

impl Abilities {
    fn has(&self, vpc: &str) -> bool {
        self.legs.as_ref().is_none_or(|legs| legs.contains(vpc))
    }

    fn can_do(&self, mode: TcpProxy) -> bool {
        let modes = &self.capabilities.tcp_proxy;
        modes.is_empty() || modes.contains(&mode)
    }
}

impl Feed {
    /// A gateway says of itself that it is there, what it can serve, and how its legs have changed; `false` where it is none
    /// that has come.
    pub fn heard(
        &self,
        about: adit_model::node::Node,
        capabilities: Capabilities,
        legs: Option<Legs>,
    ) -> bool {
        let mut inner = self.inner.lock();
        let inner = &mut *inner;
        let name = about.name.clone();
        let Some(node) = inner.nodes.get_mut(&name) else {
            return false;
        };
        node.heard = Instant::now();
        node.about = Some(about);
        let was_awaited = std::mem::replace(&mut node.is_awaited, false);
        let mut anew = node.abilities.capabilities != capabilities;
        node.abilities.capabilities = capabilities;
        anew |= legs.is_some() && node.abilities.legs.is_none();
        let said = legs.map(|legs| inner.take_legs(&name, legs));
        match anew {
            true => inner.unsettle_of(&name),
            // Only what has changed of its legs is about others' endpoints.
            false => said.iter().flatten().for_each(|vpc| inner.unsettle_in(vpc)),
        }
        said.iter().flatten().for_each(|vpc| inner.introduce(vpc));
        if anew || was_awaited || said.is_some() {
            self.settle_first(inner);
            self.told.send_replace(());
        }
        true
    }

    /// Every gateway that has said something of itself, with how many endpoints are its: those that it has yet to let go of
    /// count, so that nobody thinks too early that it has none.
    pub fn nodes(&self) -> Vec<adit_model::node::Node> {
        let inner = self.inner.lock();
        let epoch = match &inner.owners {
            Owners::Alone(_) => 0,
            Owners::Placed(placement) => placement.epoch(),
        };
        let seen = |node: &Node| {
            let mut about = node.about.clone()?;
            about.load.endpoints = node.told.len() as u64;
            about.epoch = epoch;
            Some(about)
        };
        inner.nodes.values().filter_map(seen).collect()
    }

    /// How many gateways have come, and were heard of since.
    pub fn followers(&self) -> u64 {
        let inner = self.inner.lock();
        inner.nodes.values().filter(|node| node.subscription > 0).count() as u64
    }

    /// How many endpoints gateways were told to let go of since others have them.
    pub fn moves(&self) -> u64 {
        self.inner.lock().moves
    }

    /// What a gateway can do, where none of those that are there can serve a mode; `None` where one can, or none has come.
    pub fn lacks_mode(&self, mode: TcpProxy) -> Option<Capabilities> {
        let inner = self.inner.lock();
        let spoken = inner.nodes.values().filter(|node| node.about.is_some());
        let spoken: Vec<_> = spoken.map(|node| &node.abilities).collect();
        if spoken.iter().any(|abilities| abilities.can_do(mode)) {
            return None;
        }
        let one = spoken
            .into_iter()
            .max_by_key(|one| one.capabilities.missing.len())?;
        Some(one.capabilities.clone())
    }

    /// Lets go of gateways that were not heard of for so long. What they served is others' from now on, and what they were
    /// to let go of counts as let go of. Answers the names of those that are left.
    pub fn expire(&self, silence: Duration) -> BTreeSet<NodeName> {
        let mut inner = self.inner.lock();
        let inner = &mut *inner;
        if let Owners::Alone(name) = &inner.owners {
            return [name.clone()].into();
        }
        // What came in while this process was held up itself (a million endpoints to place, a stop) is nobody's silence.
        let late = inner.looked.elapsed().saturating_sub(silence / 4);
        inner.looked = Instant::now();
        inner.nodes.values_mut().for_each(|node| node.heard += late);
        let gone: Vec<_> = inner
            .nodes
            .extract_if(|_, node| node.heard.elapsed() > silence)
            .collect();
        for (name, node) in gone {
            inner.namesakes.forget(&name);
            tracing::warn!(gateway.name = %name, "A gateway was not heard of for {} s.", silence.as_secs());
            inner.dirty.extend(node.told.into_keys());
            self.said();
            // Others may have waited for its word.
            self.told.send_replace(());
        }
        inner.nodes.keys().cloned().collect()
    }

    /// Has whoever has listened for as long as `overlap` for what others serve, too, announce that once more, and at the next
    /// call has those let go. Until then neighbours may not have heard that the address has moved, and both serve.
    pub fn let_go(&self, overlap: Duration) {
        let mut inner = self.inner.lock();
        let mut said = false;
        for (name, id, revision) in std::mem::take(&mut inner.announced) {
            let told = inner.nodes.get_mut(&name).and_then(|node| node.told.get_mut(&id));
            // It may have lost it again meanwhile.
            if let Some(told) = told.filter(|told| told.revision() == revision && told.is_owner) {
                told.is_known = true;
                said |= inner.settle(id);
            }
        }
        while let Some((since, ..)) = inner.overlaps.front()
            && since.elapsed() >= overlap
            && let Some((_, name, id, revision)) = inner.overlaps.pop_front()
        {
            inner.announce(id);
            inner.announced.push((name, id, revision));
            said = true;
        }
        if said {
            self.told.send_replace(());
        }
    }

    /// Whether one gateway of this process serves everything.
    pub fn is_alone(&self) -> bool {
        matches!(self.inner.lock().owners, Owners::Alone(_))
    }

    /// Follows a placement from now on, of which only gateways that are `staying` serve what others cannot; the same again is
    /// nothing new.
    pub fn place(&self, placement: Arc<Placement>, staying: &BTreeSet<NodeName>) {
        let mut inner = self.inner.lock();
        let inner = &mut *inner;
        let Owners::Placed(owners) = &mut inner.owners else {
            return;
        };
        let divided = owners.slices() != placement.slices();
        if owners.epoch() == placement.epoch() && inner.staying == *staying {
            return;
        }
        let former = std::mem::replace(owners, Arc::clone(&placement));
        inner.staying.clone_from(staying);
        inner.unsettle_moved(&former, &placement);
        self.settle_first(inner);
        if divided {
            let vpcs: Vec<_> = inner.spots.keys().cloned().collect();
            vpcs.iter().for_each(|vpc| inner.introduce(vpc));
        }
        self.told.send_replace(());
    }
}

impl Inner {
    /// The gateway that serves an endpoint.
    pub(super) fn owner(&self, id: EndpointId) -> Option<&NodeName> {
        let placement = match &self.owners {
            Owners::Alone(name) => return Some(name),
            Owners::Placed(placement) => placement,
        };
        let Some(spec) = self.wanted.get(id) else {
            return placement.owner(id);
        };
        let there = || self.staying.iter().filter(|name| self.nodes.contains_key(*name));
        // Where its shard's gateway is away, the planner is about to move the shard.
        let can = |name: &NodeName| self.nodes.get(name).is_none_or(|node| self.can(node, spec));
        let serving = placement.serving(id, there(), can)?;
        if can(serving) {
            return Some(serving);
        }
        // Where none can, whoever has it keeps it: it may be that all have lost a VPC at once, and one of them only seems to.
        let has = |name: &&NodeName| {
            let told = self.nodes.get(*name).and_then(|node| node.told.get(&id));
            told.is_some_and(|told| told.is_owner)
        };
        there().find(has).or(Some(serving))
    }

    pub(super) fn can(&self, node: &Node, spec: &EndpointSpec) -> bool {
        let mut legs = self.vpcs.legs(spec).into_iter().flatten();
        node.abilities.can_do(spec.tcp_proxy) && legs.all(|vpc| node.abilities.has(vpc))
    }

    /// What an endpoint's gateway lacks to serve it, which every other lacks, too.
    pub(super) fn lack(&self, id: EndpointId) -> Option<String> {
        let spec = self.wanted.get(id)?;
        let staying = self
            .staying
            .iter()
            .filter_map(|name| self.nodes.get_key_value(name));
        let (named, staying): (Vec<_>, Vec<_>) = staying.unzip();
        if staying.is_empty() || staying.iter().any(|node| self.can(node, spec)) {
            return None;
        }
        let mut names: Vec<_> = named.iter().take(NAMED_MAX).map(|name| name.as_str()).collect();
        if named.len() > NAMED_MAX {
            names.push("…");
        }
        let names = names.join(", ");
        let namespaces = [&spec.consumer.namespace, &spec.provider.namespace];
        let legs = self.vpcs.legs(spec).into_iter().flatten();
        let without = legs.zip(namespaces).find(|(vpc, _)| {
            let mut legs = staying.iter().map(|node| node.abilities.has(vpc));
            legs.all(|has| !has)
        });
        let mut modes = staying.iter().map(|node| node.abilities.can_do(spec.tcp_proxy));
        Some(match without {
            Some((_, vpc)) => format!("no gateway ({names}) has VPC {vpc}"),
            None if modes.all(|can| !can) => {
                format!("no gateway ({names}) can serve tcp_proxy {}", spec.tcp_proxy)
            }
            None => format!(
                "no gateway ({names}) has VPC {} and VPC {} and serves tcp_proxy {}",
                namespaces[0], namespaces[1], spec.tcp_proxy
            ),
        })
    }

    /// Whether another gateway may serve an endpoint, too.
    pub(super) fn is_elsewhere(&self, name: &NodeName, id: EndpointId) -> bool {
        let mut others = self.nodes.iter().filter(|(other, _)| *other != name);
        others.any(|(_, other)| other.told.contains_key(&id))
    }

    /// A gateway has said how it serves an endpoint: where others serve it yet, the time begins in which both do.
    pub(super) fn overlap(&mut self, name: &NodeName, id: EndpointId) {
        let elsewhere = self.is_elsewhere(name, id);
        let told = self.nodes.get_mut(name).and_then(|node| node.told.get_mut(&id));
        let Some(told) = told.filter(|told| told.listens() && !told.is_known) else {
            return;
        };
        match elsewhere {
            false => told.is_known = true,
            true => {
                let entry = (Instant::now(), name.clone(), id, told.revision());
                self.overlaps.push_back(entry);
            }
        }
    }

    /// Another gateway serves an endpoint, too, or has until now: whoever has asked for its address may have heard of that one.
    pub(super) fn announce(&mut self, id: EndpointId) {
        let Some(owner) = self.owner(id).cloned() else {
            return;
        };
        let node = self.nodes.get_mut(&owner);
        let listens = |node: &&mut Node| node.told.get(&id).is_some_and(node::Told::listens);
        if let Some(node) = node.filter(listens) {
            node.announce(id);
        }
    }

    /// Notes what a gateway says of its legs, and answers the VPCs that this is about.
    fn take_legs(&mut self, name: &NodeName, legs: Legs) -> BTreeSet<String> {
        let Some(node) = self.nodes.get_mut(name) else {
            return BTreeSet::new();
        };
        let known = node.abilities.legs.get_or_insert_default();
        let mut changed: BTreeSet<String> = legs.gone.into_iter().collect();
        if legs.all {
            let here: HashSet<_> = legs.here.iter().map(|leg| leg.vpc.as_str()).collect();
            let before = self.spots.iter().filter(|(_, spots)| spots.contains_key(name));
            let before = before.map(|(vpc, _)| vpc).chain(&*known);
            changed.extend(before.filter(|vpc| !here.contains(vpc.as_str())).cloned());
        }
        for vpc in &changed {
            known.remove(vpc);
            if let Some(spots) = self.spots.get_mut(vpc) {
                spots.remove(name);
            }
        }
        for leg in legs.here {
            known.insert(leg.vpc.clone());
            let spots = self.spots.entry(leg.vpc.clone()).or_default();
            spots.insert(name.clone(), leg.addresses);
            changed.insert(leg.vpc);
        }
        changed
    }

    /// Tells the gateways in a VPC of one another.
    fn introduce(&mut self, vpc: &str) {
        let (Owners::Placed(placement), Some(spots)) = (&self.owners, self.spots.get(vpc)) else {
            return;
        };
        for name in spots.keys() {
            let others = spots
                .iter()
                .filter(|(other, addresses)| *other != name && !addresses.is_empty());
            let peers = others.filter_map(|(other, addresses)| {
                let (slice, addresses) = (placement.slice(other)?, addresses.clone());
                Some(Peer { slice, addresses })
            });
            if let Some(node) = self.nodes.get_mut(name) {
                node.tell_peers(vpc, peers.collect());
            }
        }
    }
}
