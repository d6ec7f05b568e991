//! The network as the embedded cloud keeps it: VPCs, subnets, ports, route tables, load balancers.
//!
//! One model under three APIs (VPC v1, Neutron v2, ELB): a VPC is Neutron's router, a [`Subnet`] is Neutron's network with
//! at most one IPv4 subnet in it. Owns the documents; never decides what a request may do with them (the embedded cloud
//! does) nor how they look in the kernel.

use std::{fmt, net::Ipv4Addr, str::FromStr};

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    id::{
        EndpointId, LoadBalancerId, Malformed, NeutronSubnetId, PortId, ProjectId, RouteTableId, SubnetId,
        Vni, VpcId,
    },
    time::{Created, Timestamp},
};

/// The range that every gateway's connections come from: 198.19.128.0/17 (spec semantics 4).
pub const RESERVED: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(198, 19, 128, 0), 17);

/// Whether two blocks share at least one address.
pub fn overlaps(a: Ipv4Net, b: Ipv4Net) -> bool {
    a.contains(&b.network()) || b.contains(&a.network())
}

/// What stands for a VPC in the name of its namespace: eight hexadecimal digits of the SHA-256 of its id.
#[must_use]
pub fn vpc_hash(vpc: VpcId) -> String {
    let digest = Sha256::digest(vpc.0.as_bytes());
    digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect()
}

/// `device_owner` of the port that holds an endpoint's address; such a port has no namespace of its own.
pub const OWNER_ENDPOINT: &str = "vpcep:endpoint";
/// `device_owner` of a VPC's router interface in a subnet.
pub const OWNER_ROUTER: &str = "network:router_interface";
/// `device_owner` of a load balancer's private address.
pub const OWNER_LOAD_BALANCER: &str = "neutron:LOADBALANCERV2";
/// What the `device_owner` of a server's interface begins with.
pub const OWNER_COMPUTE: &str = "compute:";

/// The type of a route that a gateway endpoint is behind, under the name that the VPC API of such clouds has for it; its
/// `nexthop` is the endpoint's id.
pub const ROUTE_ENDPOINT: &str = "egw";

/// A VPC; Neutron's router of the same id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vpc {
    /// Its id, which is also the router's.
    pub id: VpcId,
    /// The project that owns it.
    pub project: ProjectId,
    /// Its name; may be empty and may repeat.
    pub name: String,
    /// Free text.
    pub description: String,
    /// Its block. Absent for a router that was made through Neutron.
    pub cidr: Option<Ipv4Net>,
    /// The number of its virtual network, its own in the region for as long as it lives.
    pub vni: Vni,
    /// When it was made.
    pub created: Created,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// A subnet of VPC v1; Neutron's network of the same id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subnet {
    /// Its id in VPC v1 and VPCEP, which is the Neutron network's.
    pub id: SubnetId,
    /// The project that owns it.
    pub project: ProjectId,
    /// Its name in VPC v1; the Neutron network's name.
    pub name: String,
    /// Free text.
    pub description: String,
    /// The VPC whose router it is joined to; a Neutron network has none until a router interface is added.
    pub vpc: Option<VpcId>,
    /// Addresses; absent for a Neutron network that has no subnet yet.
    pub range: Option<SubnetRange>,
    /// When it was made.
    pub created: Created,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// The addresses of a subnet; Neutron's subnet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubnetRange {
    /// Neutron's id of it.
    pub id: NeutronSubnetId,
    /// Neutron's name of it.
    pub name: String,
    /// The block.
    pub cidr: Ipv4Net,
    /// The router's address in it.
    pub gateway: Ipv4Addr,
    /// Whether DHCP is asked for; kept and shown, nothing more.
    pub dhcp: bool,
    /// Name servers; kept and shown, nothing more.
    pub dns: Vec<String>,
}

/// A port: one address and one MAC in a subnet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    /// Its id.
    pub id: PortId,
    /// The project that owns it.
    pub project: ProjectId,
    /// Its name.
    pub name: String,
    /// The subnet (Neutron network) that it is on.
    pub subnet: SubnetId,
    /// Its address; absent while the network has no subnet.
    pub ip: Option<Ipv4Addr>,
    /// Its hardware address.
    pub mac: Mac,
    /// What it belongs to (a server, a router, an endpoint); free text.
    pub device_id: String,
    /// The kind of what it belongs to, such as [`OWNER_LOAD_BALANCER`]; free text.
    pub device_owner: String,
    /// When it was made.
    pub created: Created,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

impl Port {
    /// What kind of backend this port can be.
    pub fn kind(&self) -> PortKind {
        match self.device_owner.as_str() {
            OWNER_LOAD_BALANCER => PortKind::LoadBalancer,
            OWNER_ENDPOINT => PortKind::Endpoint,
            owner if owner.starts_with(OWNER_COMPUTE) => PortKind::Server,
            _ => PortKind::Unknown,
        }
    }
}

/// What a port belongs to, as far as can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PortKind {
    /// A load balancer's private address.
    LoadBalancer,
    /// A server's interface.
    Server,
    /// An endpoint's own address: what leads to it leads back to a service.
    Endpoint,
    /// A port of which nothing is known; it may be anything.
    Unknown,
}

/// A VPC's route table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteTable {
    /// Its id.
    pub id: RouteTableId,
    /// The project that owns it.
    pub project: ProjectId,
    /// The VPC that it belongs to.
    pub vpc: VpcId,
    /// Its name.
    pub name: String,
    /// Free text.
    pub description: String,
    /// Whether it is the VPC's default table; each VPC has exactly one.
    pub default: bool,
    /// Custom routes; the local routes of the VPC's own subnets are not among them.
    pub routes: Vec<Route>,
    /// When it was made.
    pub created: Created,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// A custom route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// `ecs`, `eni`, `vip`, `nat`, `peering`, `vpn`, `dc` or `local`; [`ROUTE_ENDPOINT`] for an endpoint's own.
    #[serde(rename = "type")]
    pub kind: String,
    /// Where it leads to.
    pub destination: Ipv4Net,
    /// The next hop: an id or an address.
    pub nexthop: String,
    /// Free text.
    pub description: String,
}

impl Route {
    /// The route of a gateway endpoint to one of its service's blocks.
    pub fn of_endpoint(endpoint: EndpointId, destination: Ipv4Net) -> Self {
        Self {
            kind: ROUTE_ENDPOINT.to_owned(),
            destination,
            nexthop: endpoint.to_string(),
            description: String::new(),
        }
    }

    /// Whether it leads to an endpoint: the service writes it and takes it out, the tenant cannot.
    pub fn is_endpoint(&self) -> bool {
        self.kind == ROUTE_ENDPOINT
    }

    /// Whether the tenant made it, and it leads out of the VPC's own subnets.
    pub fn is_custom(&self) -> bool {
        !self.is_endpoint() && self.kind != "local"
    }
}

/// Why a route table cannot lead to a service through an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RouteClash {
    /// It leads elsewhere.
    #[error("it has a route to {0} already")]
    Taken(Ipv4Net),
    /// It leads to another endpoint, which may be on its way out.
    #[error("its route to {0} leads to endpoint {1}")]
    Endpoint(Ipv4Net, String),
    /// It has as many routes as it may.
    #[error("it would have more than {0} routes")]
    Full(usize),
}

/// The routes of a table once exactly `prefixes` in it lead to `endpoint`; routes of others are left alone.
///
/// # Errors
/// Where another route is in the way, and where they would be too many.
pub fn route_to_endpoint(
    routes: &[Route],
    endpoint: EndpointId,
    prefixes: &[Ipv4Net],
    routes_max: usize,
) -> Result<Vec<Route>, RouteClash> {
    let wanted: Vec<Route> = prefixes
        .iter()
        .map(|prefix| Route::of_endpoint(endpoint, *prefix))
        .collect();
    let nexthop = endpoint.to_string();
    let mut new: Vec<Route> = routes
        .iter()
        .filter(|r| !r.is_endpoint() || r.nexthop != nexthop || wanted.contains(r))
        .cloned()
        .collect();
    for route in wanted {
        match new.iter().find(|r| r.destination == route.destination) {
            Some(same) if *same == route => {}
            Some(other) if other.is_endpoint() => {
                return Err(RouteClash::Endpoint(route.destination, other.nexthop.clone()));
            }
            Some(_) => return Err(RouteClash::Taken(route.destination)),
            None => new.push(route),
        }
    }
    if new.len() > routes_max.max(routes.len()) {
        return Err(RouteClash::Full(routes_max));
    }
    Ok(new)
}

/// A load balancer: a name for a port that holds its private address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadBalancer {
    /// Its id.
    pub id: LoadBalancerId,
    /// The project that owns it.
    pub project: ProjectId,
    /// Its name.
    pub name: String,
    /// Free text.
    pub description: String,
    /// The port that holds its private address (`vip_port_id`).
    pub port: PortId,
    /// Whether it was made through ELB v3 (the two APIs show different fields).
    pub v3: bool,
    /// The availability zones that were asked for (v3); kept and shown, nothing more.
    pub zones: Vec<String>,
    /// When it was made.
    pub created: Created,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// What the rules need to know of a VPC, from whichever network service there is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VpcView {
    /// Its id.
    pub id: VpcId,
    /// Its blocks; none for a router without one of its own.
    pub cidrs: Vec<Ipv4Net>,
    /// Its route tables.
    pub route_tables: Vec<RouteTableView>,
    /// The number of its virtual network, where it has one.
    pub vni: Option<Vni>,
}

impl VpcView {
    /// The destinations of the custom routes in its route tables.
    pub fn custom_routes(&self) -> impl Iterator<Item = Ipv4Net> {
        let routes = self.route_tables.iter().flat_map(|table| &table.routes);
        routes
            .filter(|route| route.is_custom())
            .map(|route| route.destination)
    }

    /// One of its route tables.
    pub fn route_table(&self, id: RouteTableId) -> Option<&RouteTableView> {
        self.route_tables.iter().find(|table| table.id == id)
    }

    /// The default one of its route tables.
    pub fn default_route_table(&self) -> Option<&RouteTableView> {
        self.route_tables.iter().find(|table| table.default)
    }
}

/// What the rules need to know of a route table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteTableView {
    /// Its id.
    pub id: RouteTableId,
    /// Whether it is its VPC's default one.
    pub default: bool,
    /// Its routes, other than the local ones of the VPC's subnets.
    pub routes: Vec<Route>,
    /// How many routes it can have.
    pub routes_max: usize,
}

/// What the rules need to know of a subnet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubnetView {
    /// Its id.
    pub id: SubnetId,
    /// The VPC that it is joined to.
    pub vpc: Option<VpcId>,
    /// Its addresses.
    pub range: Option<SubnetRange>,
}

/// What the rules need to know of a backend port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortView {
    /// Its id.
    pub id: PortId,
    /// The VPC that it lies in.
    pub vpc: Option<VpcId>,
    /// Its address.
    pub ip: Option<Ipv4Addr>,
    /// What it belongs to.
    pub kind: PortKind,
}

/// Who holds an address of a subnet: what must be unique is a key, and this is its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Holder {
    /// A port.
    Port(PortId),
    /// An endpoint.
    Endpoint(EndpointId),
}

/// A hardware address.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// The address that a port of this id gets: Neutron's prefix `fa:16:3e` and three bytes of the id.
    pub fn of_port(id: PortId) -> Self {
        let b = id.0.as_bytes();
        Self([0xfa, 0x16, 0x3e, b[13], b[14], b[15]])
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Mac {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().filter(|p| p.len() == 2).ok_or(Malformed)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| Malformed)?;
        }
        if parts.next().is_some() {
            Err(Malformed)
        } else {
            Ok(Self(bytes))
        }
    }
}

impl Serialize for Mac {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Mac {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The first address that automatic allocation gives out, counted from the network address, in a block that is large
/// enough: clients ask for low addresses by number (companion, rule 5), so automatic ones stay away from them.
const AUTOMATIC_FIRST: u32 = 100;

/// Picks a free address of `range`, from the 100th upward and then from the low ones; `None` when none is left.
///
/// The network address, the broadcast address and the router's address are never given out.
pub fn pick_address(range: &SubnetRange, mut taken: impl FnMut(Ipv4Addr) -> bool) -> Option<Ipv4Addr> {
    let network = u32::from(range.cidr.network());
    let broadcast = u32::from(range.cidr.broadcast());
    let first = network.saturating_add(1);
    let middle = network.saturating_add(AUTOMATIC_FIRST).min(broadcast);
    (middle.max(first)..broadcast)
        .chain(first..middle)
        .map(Ipv4Addr::from)
        .find(|ip| *ip != range.gateway && !taken(*ip))
}

/// Whether an address may be held by a port of this range: inside the block, and neither its first, its last nor the
/// router's.
pub fn usable_address(range: &SubnetRange, ip: Ipv4Addr) -> bool {
    range.cidr.contains(&ip) && ip != range.cidr.network() && ip != range.cidr.broadcast()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(cidr: &str, gateway: &str) -> SubnetRange {
        SubnetRange {
            id: NeutronSubnetId::random(),
            name: String::new(),
            cidr: cidr.parse().unwrap(),
            gateway: gateway.parse().unwrap(),
            dhcp: true,
            dns: Vec::new(),
        }
    }

    #[test]
    fn overlap_means_one_shared_address() {
        for (block, expected) in [
            ("198.19.0.0/16", true),
            ("198.18.0.0/15", true),
            ("0.0.0.0/0", true),
            ("198.19.200.0/24", true),
            ("198.19.128.0/32", true),
            ("198.19.255.255/32", true),
            ("198.19.0.0/17", false),
            ("198.20.0.0/16", false),
            ("10.0.0.0/8", false),
        ] {
            assert_eq!(overlaps(block.parse().unwrap(), RESERVED), expected, "{block}");
        }
    }

    #[test]
    fn automatic_addresses_stay_away_from_the_bottom() {
        let r = range("10.0.0.0/24", "10.0.0.1");
        assert_eq!(pick_address(&r, |_| false), Some(Ipv4Addr::new(10, 0, 0, 100)));
        assert_eq!(
            pick_address(&r, |ip| u32::from(ip) & 0xff >= 100),
            Some(Ipv4Addr::new(10, 0, 0, 2))
        );
        assert_eq!(pick_address(&r, |_| true), None);
    }

    #[test]
    fn a_small_block_gives_every_address_but_three() {
        let r = range("10.0.0.8/29", "10.0.0.9");
        let mut given = std::collections::BTreeSet::new();
        while let Some(ip) = pick_address(&r, |ip| given.contains(&ip)) {
            given.insert(ip);
        }
        assert_eq!(given.len(), 5);
        assert!(given.iter().all(|ip| usable_address(&r, *ip) && *ip != r.gateway));
    }

    #[test]
    fn a_mac_reads_back() {
        let mac = Mac::of_port(PortId::random());
        assert_eq!(mac.to_string().parse(), Ok(mac));
        assert_eq!("fa:16:3e:00:00".parse::<Mac>(), Err(Malformed));
        assert_eq!("fa:16:3e:00:00:00:00".parse::<Mac>(), Err(Malformed));
    }
}
