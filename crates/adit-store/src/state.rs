//! The typed view of the whole key space, indexed for each list and look-up: what the cache keeps for the control plane.
//!
//! Owns the indexes; holds no rule of the product. Like every [`View`] it may be stale: what must be right is compared by
//! the transaction that was decided on it, which is why each document comes with the revision that wrote it.

mod ranked;
mod reading;
mod records;
mod shared;
mod slots;

pub use reading::{Held, Reading};
pub use records::{Listed, Records};

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    hash::Hash,
    net::Ipv4Addr,
    ops::Bound,
    sync::Arc,
};

use adit_model::{
    account::Account,
    endpoint::Endpoint,
    id::{
        DomainId, EndpointId, LoadBalancerId, MarkerId, NeutronSubnetId, PoolId, PortId, ProjectId,
        RouteTableId, ServiceId, SubnetId, VpcId,
    },
    network::{LoadBalancer, Port, RouteTable, Subnet, Vpc},
    node::{Drain, Node, NodeName},
    placement::Placement,
    pool::Pool,
    port_mapping::Claims,
    quota::{Limits, QuotaType, Usage},
    service::Service,
    whitelist::Whitelist,
};

use crate::{
    cache::View,
    keys::Key,
    store::{Change, Entry, Revision},
};
use records::Children;
use shared::Shared;
use slots::Slots;

/// A document with the revision that wrote it.
#[derive(Debug)]
pub struct Stored<T> {
    /// The document.
    pub value: Arc<T>,
    /// The revision to compare with when something is decided on the document.
    pub revision: Revision,
}

impl<T> Clone for Stored<T> {
    fn clone(&self) -> Self {
        Self {
            value: Arc::clone(&self.value),
            revision: self.revision,
        }
    }
}

impl<T> std::ops::Deref for Stored<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

/// Documents of one kind by their id.
type Table<K, T> = HashMap<K, Stored<T>>;

/// Everything that is stored.
#[derive(Debug, Default)]
pub struct State {
    services: Table<ServiceId, Service>,
    services_by_project: Children<ProjectId, ServiceId>,
    public_services: Children<(), ServiceId>,
    public_names: HashMap<String, ServiceId>,
    services_by_port: HashMap<PortId, BTreeSet<ServiceId>>,
    endpoints: Table<EndpointId, Endpoint>,
    endpoints_by_project: Children<ProjectId, EndpointId>,
    endpoints_by_service: Children<ServiceId, EndpointId>,
    endpoints_by_subnet: HashMap<SubnetId, BTreeSet<EndpointId>>,
    /// How many endpoints of a service are in `creating` or `accepted`.
    live: HashMap<ServiceId, usize>,
    /// Those that are on their way to another status.
    moving_services: BTreeSet<ServiceId>,
    moving_endpoints: BTreeSet<EndpointId>,
    whitelists: Table<ServiceId, Whitelist>,
    claims: Table<PortId, Claims>,
    addresses: HashMap<SubnetId, BTreeMap<Ipv4Addr, Held>>,
    sources: HashMap<VpcId, BTreeMap<Ipv4Addr, EndpointId>>,
    bindings: HashMap<RouteTableId, BTreeMap<ServiceId, Stored<EndpointId>>>,
    markers: HashMap<MarkerId, EndpointId>,
    slots: HashMap<(ProjectId, QuotaType), Slots>,
    limits: Table<ProjectId, Limits>,
    accounts: Table<DomainId, Account>,
    pools: Table<PoolId, Pool>,
    nodes: Table<NodeName, Node>,
    placements: Table<PoolId, Placement>,
    drains: Table<NodeName, Drain>,
    guards: HashMap<Key, Revision>,
    vpcs: Table<VpcId, Vpc>,
    subnets: Table<SubnetId, Subnet>,
    subnets_by_vpc: HashMap<VpcId, BTreeSet<SubnetId>>,
    neutron_subnets: HashMap<NeutronSubnetId, SubnetId>,
    ports: Table<PortId, Port>,
    ports_by_subnet: HashMap<SubnetId, BTreeSet<PortId>>,
    route_tables: Table<RouteTableId, RouteTable>,
    route_tables_by_vpc: HashMap<VpcId, BTreeSet<RouteTableId>>,
    load_balancers: Table<LoadBalancerId, LoadBalancer>,
    /// Keys whose meaning is their owner's business.
    others: BTreeMap<Arc<str>, Entry>,
    /// The ids that services, endpoints and ports have of these.
    projects: Shared<ProjectId>,
    domains: Shared<DomainId>,
    /// The largest creation mark of any service or endpoint seen.
    newest_order: u64,
}

macro_rules! tables {
    ($($(#[$doc:meta])* $one:ident, $all:ident: $id:ty => $document:ty;)*) => {
        impl State {$(
            $(#[$doc])*
            pub fn $one(&self, id: &$id) -> Option<&Stored<$document>> {
                self.$all.get(id)
            }

            /// All of them, in no particular order.
            pub fn $all(&self) -> impl Iterator<Item = &Stored<$document>> {
                self.$all.values()
            }
        )*}
    };
}

tables! {
    /// An endpoint service.
    service, services: ServiceId => Service;
    /// An endpoint.
    endpoint, endpoints: EndpointId => Endpoint;
    /// A service's whitelist; none is the same as an empty one.
    whitelist, whitelists: ServiceId => Whitelist;
    /// The claims on a backend port; none is the same as none in use.
    claims_of, claims: PortId => Claims;
    /// A project's quotas, where the operator has set them.
    limits_of, limits: ProjectId => Limits;
    /// An account's standing, where the operator has ever changed it.
    account, accounts: DomainId => Account;
    /// A pool that the operator made.
    pool, pools: PoolId => Pool;
    /// A gateway that has been heard of lately.
    node, nodes: NodeName => Node;
    /// Which gateway serves which endpoints of a pool.
    placement, placements: PoolId => Placement;
    /// A gateway that is being drained.
    drain, drains: NodeName => Drain;
    /// A VPC.
    vpc, vpcs: VpcId => Vpc;
    /// A subnet.
    subnet, subnets: SubnetId => Subnet;
    /// A port.
    port, ports: PortId => Port;
    /// A route table.
    route_table, route_tables: RouteTableId => RouteTable;
    /// A load balancer.
    load_balancer, load_balancers: LoadBalancerId => LoadBalancer;
}

impl State {
    /// The public services.
    pub fn public_services(&self) -> Records<'_, ServiceId, Service> {
        Records {
            orders: self.public_services.get(&()),
            table: &self.services,
        }
    }

    /// The public service of a name.
    pub fn public_name(&self, name: &str) -> Option<ServiceId> {
        self.public_names.get(name).copied()
    }

    /// A project's services; those that it runs for everybody are not among them.
    pub fn services_of_project(&self, project: &ProjectId) -> Records<'_, ServiceId, Service> {
        Records {
            orders: self.services_by_project.get(project),
            table: &self.services,
        }
    }

    /// The services on a backend port, in whatever state.
    pub fn services_of_port(&self, port: PortId) -> impl Iterator<Item = ServiceId> {
        members(&self.services_by_port, &port)
    }

    /// A project's endpoints.
    pub fn endpoints_of_project(&self, project: &ProjectId) -> Records<'_, EndpointId, Endpoint> {
        Records {
            orders: self.endpoints_by_project.get(project),
            table: &self.endpoints,
        }
    }

    /// A service's endpoints, in whatever state.
    pub fn endpoints_of_service(&self, service: ServiceId) -> Records<'_, EndpointId, Endpoint> {
        Records {
            orders: self.endpoints_by_service.get(&service),
            table: &self.endpoints,
        }
    }

    /// The endpoints whose address is, or will be, from a subnet.
    pub fn endpoints_of_subnet(&self, subnet: SubnetId) -> impl Iterator<Item = &Stored<Endpoint>> {
        members(&self.endpoints_by_subnet, &subnet).filter_map(|id| self.endpoints.get(&id))
    }

    /// How many endpoints of a service are in `creating` or `accepted`.
    pub fn live_endpoints(&self, service: ServiceId) -> usize {
        self.live.get(&service).copied().unwrap_or(0)
    }

    /// The services that are in `creating` or `deleting`.
    pub fn moving_services(&self) -> impl Iterator<Item = ServiceId> {
        self.moving_services.iter().copied()
    }

    /// The endpoints that are in `creating` or `deleting`.
    pub fn moving_endpoints(&self) -> impl Iterator<Item = EndpointId> {
        self.moving_endpoints.iter().copied()
    }

    /// Whether an endpoint is in `creating` or `deleting`.
    pub fn is_moving(&self, id: EndpointId) -> bool {
        self.moving_endpoints.contains(&id)
    }

    /// Who holds an address of a subnet.
    pub fn address(&self, subnet: SubnetId, ip: Ipv4Addr) -> Option<&Held> {
        self.addresses.get(&subnet)?.get(&ip)
    }

    /// The addresses of a subnet that are held.
    pub fn addresses_of_subnet(&self, subnet: SubnetId) -> impl Iterator<Item = (Ipv4Addr, &Held)> {
        let held = self.addresses.get(&subnet).into_iter().flatten();
        held.map(|(ip, held)| (*ip, held))
    }

    /// Which endpoint's connections come from an address in a provider's VPC.
    pub fn source(&self, vpc: VpcId, ip: Ipv4Addr) -> Option<EndpointId> {
        self.sources.get(&vpc)?.get(&ip).copied()
    }

    /// Which endpoint of a gateway service a route table serves.
    pub fn binding(&self, table: RouteTableId, service: ServiceId) -> Option<&Stored<EndpointId>> {
        self.bindings.get(&table)?.get(&service)
    }

    /// The endpoints that a route table serves, each with its service.
    pub fn bindings_of_table(
        &self,
        table: RouteTableId,
    ) -> impl Iterator<Item = (ServiceId, &Stored<EndpointId>)> {
        let bindings = self.bindings.get(&table).into_iter().flatten();
        bindings.map(|(service, endpoint)| (*service, endpoint))
    }

    /// Which endpoint has a packet id.
    pub fn marker(&self, marker: MarkerId) -> Option<EndpointId> {
        self.markers.get(&marker).copied()
    }

    /// How much of its quota a project uses.
    pub fn usage(&self, project: &ProjectId, kind: QuotaType) -> Usage {
        let used = self.slots.get(&(project.clone(), kind)).map_or(0, Slots::len);
        let limits = self
            .limits
            .get(project)
            .map_or_else(Limits::default, |l| *l.value);
        Usage {
            used: u32::try_from(used).unwrap_or(u32::MAX),
            quota: limits.of(kind),
        }
    }

    /// The quota slots that may be filled next: no more of them than the quota has left, beginning at a place (a share of the
    /// quota, in 1/2³²) and going around, so that processes with places of their own do not race for one slot. While slots
    /// above a quota that was lowered are in use, all begin with the lowest: so requests side by side cannot pass the quota.
    pub fn free_slots(&self, project: &ProjectId, kind: QuotaType, place: u32) -> impl Iterator<Item = u32> {
        let slots = self.slots.get(&(project.clone(), kind)).unwrap_or(Slots::NONE);
        let Usage { used, quota } = self.usage(project, kind);
        let first = match slots.end() > quota {
            true => 0,
            // Less than the quota.
            false => ((u64::from(place) * u64::from(quota)) >> 32) as u32,
        };
        let upwards = slots.free_from(first).take_while(move |n| *n < quota);
        let around = slots.free_from(0).take_while(move |n| *n < first);
        upwards.chain(around).take(quota.saturating_sub(used) as usize)
    }

    /// The projects whose quotas were ever set.
    pub fn limits_ids(&self) -> impl Iterator<Item = &ProjectId> {
        self.limits.keys()
    }

    /// The accounts whose standing was ever changed.
    pub fn account_ids(&self) -> impl Iterator<Item = &DomainId> {
        self.accounts.keys()
    }

    /// Whether an account's endpoints pass no traffic.
    pub fn is_frozen(&self, domain: &DomainId) -> bool {
        self.accounts
            .get(domain)
            .is_some_and(|account| account.is_frozen())
    }

    /// The revision of a guard; `None` where it was never put.
    pub fn guard(&self, of: Key) -> Option<Revision> {
        self.guards.get(&of).copied()
    }

    /// The subnets joined to a VPC.
    pub fn subnets_of_vpc(&self, vpc: VpcId) -> impl Iterator<Item = &Stored<Subnet>> {
        members(&self.subnets_by_vpc, &vpc).filter_map(|id| self.subnets.get(&id))
    }

    /// The subnet with this id in Neutron.
    pub fn neutron_subnet(&self, id: NeutronSubnetId) -> Option<&Stored<Subnet>> {
        self.neutron_subnets.get(&id).and_then(|id| self.subnets.get(id))
    }

    /// The ports of a subnet.
    pub fn ports_of_subnet(&self, subnet: SubnetId) -> impl Iterator<Item = &Stored<Port>> {
        members(&self.ports_by_subnet, &subnet).filter_map(|id| self.ports.get(&id))
    }

    /// The route tables of a VPC.
    pub fn route_tables_of_vpc(&self, vpc: VpcId) -> impl Iterator<Item = &Stored<RouteTable>> {
        members(&self.route_tables_by_vpc, &vpc).filter_map(|id| self.route_tables.get(&id))
    }

    /// A key whose meaning is its owner's business.
    pub fn other(&self, key: &str) -> Option<&Entry> {
        self.others.get(key)
    }

    /// Every entry of that kind whose key begins so, in the keys' order.
    pub fn others<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a Entry)> {
        let from = self
            .others
            .range::<str, _>((Bound::Included(prefix), Bound::Unbounded));
        from.map(|(key, entry)| (&**key, entry))
            .take_while(move |(key, _)| key.starts_with(prefix))
    }

    /// The largest creation mark seen: new ones go above it.
    pub fn newest_order(&self) -> u64 {
        self.newest_order
    }
}

fn members<'a, P: Eq + Hash, K: Copy>(
    index: &'a HashMap<P, BTreeSet<K>>,
    parent: &P,
) -> impl Iterator<Item = K> + use<'a, P, K> {
    index.get(parent).into_iter().flatten().copied()
}

/// Adds to, or takes out of, a set that vanishes when it is empty: what is gone leaves no trace.
fn mark<P: Eq + Hash, K: Ord>(index: &mut HashMap<P, BTreeSet<K>>, parent: P, member: K, present: bool) {
    if present {
        index.entry(parent).or_default().insert(member);
    } else if let Some(set) = index.get_mut(&parent) {
        set.remove(&member);
        if set.is_empty() {
            index.remove(&parent);
        }
    }
}

/// Sets, or takes away, what is under a key of a parent that vanishes when it is empty.
fn place<P: Eq + Hash, K: Ord, V>(
    table: &mut HashMap<P, BTreeMap<K, V>>,
    parent: P,
    key: K,
    value: Option<V>,
) {
    if let Some(value) = value {
        table.entry(parent).or_default().insert(key, value);
    } else if let Some(held) = table.get_mut(&parent) {
        held.remove(&key);
        if held.is_empty() {
            table.remove(&parent);
        }
    }
}

/// Replaces a document and answers what was there before.
fn replace<K: Eq + Hash, T>(table: &mut Table<K, T>, id: K, new: Option<Stored<T>>) -> Option<Stored<T>> {
    match new {
        Some(new) => table.insert(id, new),
        None => table.remove(&id),
    }
}

impl View for State {
    type Reading = Reading;

    fn read(change: &Change) -> Reading {
        Reading::of(change)
    }

    fn apply(&mut self, reading: Reading) {
        match reading {
            Reading::Service(id, new) => self.apply_service(id, new),
            Reading::Endpoint(id, new) => self.apply_endpoint(id, new),
            Reading::Whitelist(service, new) => drop(replace(&mut self.whitelists, service, new)),
            Reading::Claims(port, new) => drop(replace(&mut self.claims, port, new)),
            Reading::Address(subnet, ip, held) => place(&mut self.addresses, subnet, ip, held),
            Reading::Source(vpc, ip, endpoint) => place(&mut self.sources, vpc, ip, endpoint),
            Reading::Binding(table, service, held) => place(&mut self.bindings, table, service, held),
            Reading::PublicName(name, Some(id)) => drop(self.public_names.insert(name, id)),
            Reading::PublicName(name, None) => drop(self.public_names.remove(&name)),
            Reading::Marker(marker, Some(id)) => drop(self.markers.insert(marker, id)),
            Reading::Marker(marker, None) => drop(self.markers.remove(&marker)),
            Reading::Quota(project, kind, n, used) => self.apply_slot((project, kind), n, used),
            Reading::Limits(project, new) => drop(replace(&mut self.limits, project, new)),
            Reading::Account(domain, new) => drop(replace(&mut self.accounts, domain, new)),
            Reading::Pool(id, new) => drop(replace(&mut self.pools, id, new)),
            Reading::Node(name, new) => drop(replace(&mut self.nodes, name, new)),
            Reading::Drain(name, new) => drop(replace(&mut self.drains, name, new)),
            Reading::Placement(pool, new) => drop(replace(&mut self.placements, pool, new)),
            Reading::Guard(of, Some(revision)) => drop(self.guards.insert(of, revision)),
            Reading::Guard(of, None) => drop(self.guards.remove(&of)),
            Reading::Vpc(id, new) => drop(replace(&mut self.vpcs, id, new)),
            Reading::Subnet(id, new) => self.apply_subnet(id, new),
            Reading::Port(id, new) => self.apply_port(id, new),
            Reading::RouteTable(id, new) => self.apply_route_table(id, new),
            Reading::LoadBalancer(id, new) => drop(replace(&mut self.load_balancers, id, new)),
            Reading::Other(key, Some(entry)) => drop(self.others.insert(key, entry)),
            Reading::Other(key, None) => drop(self.others.remove(&key)),
        }
    }
}

impl State {
    fn apply_service(&mut self, id: ServiceId, mut new: Option<Stored<Service>>) {
        if let Some(new) = &mut new {
            self.newest_order = self.newest_order.max(new.created.order);
            // Just read, and nobody else's yet.
            if let Some(service) = Arc::get_mut(&mut new.value) {
                self.projects.share(&mut service.project);
                self.domains.share(&mut service.domain);
            }
        }
        let old = replace(&mut self.services, id, new.clone());
        for (service, present) in [(old, false), (new, true)] {
            let Some(service) = service else { continue };
            let document = &*service.value;
            if !present {
                self.projects.release(&document.project);
                self.domains.release(&document.domain);
            }
            match document.public {
                None => {
                    let project = service.project.clone();
                    records::mark(&mut self.services_by_project, project, document, present);
                }
                Some(_) => records::mark(&mut self.public_services, (), document, present),
            }
            if let Some(port) = service.port() {
                mark(&mut self.services_by_port, port.id, id, present);
            }
            if service.status().is_moving() {
                match present {
                    true => self.moving_services.insert(id),
                    false => self.moving_services.remove(&id),
                };
            }
        }
    }

    fn apply_endpoint(&mut self, id: EndpointId, mut new: Option<Stored<Endpoint>>) {
        if let Some(new) = &mut new {
            self.newest_order = self.newest_order.max(new.created.order);
            if let Some(endpoint) = Arc::get_mut(&mut new.value) {
                self.projects.share(&mut endpoint.project);
                self.domains.share(&mut endpoint.domain);
            }
        }
        let old = replace(&mut self.endpoints, id, new.clone());
        for (endpoint, present) in [(old, false), (new, true)] {
            let Some(endpoint) = endpoint else { continue };
            let project = endpoint.project.clone();
            if !present {
                self.projects.release(&project);
                self.domains.release(&endpoint.domain);
            }
            records::mark(&mut self.endpoints_by_project, project, &*endpoint.value, present);
            let service = endpoint.service;
            records::mark(&mut self.endpoints_by_service, service, &*endpoint.value, present);
            if let Some(leg) = endpoint.interface() {
                mark(&mut self.endpoints_by_subnet, leg.subnet, id, present);
            }
            if endpoint.status().is_moving() {
                match present {
                    true => self.moving_endpoints.insert(id),
                    false => self.moving_endpoints.remove(&id),
                };
            }
            if endpoint.is_live() {
                let count = self.live.entry(endpoint.service).or_default();
                *count = if present { *count + 1 } else { *count - 1 };
                if *count == 0 {
                    self.live.remove(&endpoint.service);
                }
            }
        }
    }

    fn apply_slot(&mut self, of: (ProjectId, QuotaType), n: u32, present: bool) {
        if present {
            self.slots.entry(of).or_default().insert(n);
        } else if let Some(slots) = self.slots.get_mut(&of) {
            slots.remove(n);
            if slots.len() == 0 {
                self.slots.remove(&of);
            }
        }
    }

    fn apply_subnet(&mut self, id: SubnetId, new: Option<Stored<Subnet>>) {
        let old = replace(&mut self.subnets, id, new.clone());
        for (subnet, present) in [(old, false), (new, true)] {
            let Some(subnet) = subnet else { continue };
            if let Some(vpc) = subnet.vpc {
                mark(&mut self.subnets_by_vpc, vpc, id, present);
            }
            match &subnet.range {
                Some(range) if present => drop(self.neutron_subnets.insert(range.id, id)),
                Some(range) => drop(self.neutron_subnets.remove(&range.id)),
                None => {}
            }
        }
    }

    fn apply_port(&mut self, id: PortId, mut new: Option<Stored<Port>>) {
        if let Some(port) = new.as_mut().and_then(|new| Arc::get_mut(&mut new.value)) {
            self.projects.share(&mut port.project);
        }
        let old = replace(&mut self.ports, id, new.clone());
        for (port, present) in [(old, false), (new, true)] {
            if let Some(port) = port {
                if !present {
                    self.projects.release(&port.project);
                }
                mark(&mut self.ports_by_subnet, port.subnet, id, present);
            }
        }
    }

    fn apply_route_table(&mut self, id: RouteTableId, new: Option<Stored<RouteTable>>) {
        let old = replace(&mut self.route_tables, id, new.clone());
        for (table, present) in [(old, false), (new, true)] {
            if let Some(table) = table {
                mark(&mut self.route_tables_by_vpc, table.vpc, id, present);
            }
        }
    }
}

#[cfg(test)]
mod tests;
