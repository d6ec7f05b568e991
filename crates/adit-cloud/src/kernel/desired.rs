//! What the kernel should hold, derived from the region's network documents. Pure.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::net::Ipv4Addr;

use adit_model::id::{PortId, SubnetId, VpcId};
use adit_model::network::{Mac, OWNER_ENDPOINT, OWNER_ROUTER, Port, RouteTable, Subnet, Vpc};
use adit_store::State;
use ipnet::Ipv4Net;

use super::names::{Instance, bridge, port_namespace, vpc_namespace};

/// What the kernel should hold; the keys of VPCs and ports are their namespaces' names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Desired {
    /// VPCs.
    pub vpcs: BTreeMap<String, VpcSpec>,
    /// Ports, each in a VPC and on a bridge of [`Desired::vpcs`].
    pub ports: BTreeMap<String, PortSpec>,
    /// Ports that cannot have a namespace yet.
    pub waiting: BTreeMap<PortId, Waiting>,
}

impl Desired {
    /// Derives it from all that is stored.
    #[must_use]
    pub fn of(instance: &Instance, state: &State) -> Self {
        desired(
            instance,
            state.vpcs().map(|stored| &**stored),
            state.subnets().map(|stored| &**stored),
            state.ports().map(|stored| &**stored),
            state.route_tables().map(|stored| &**stored),
        )
    }
}

/// A VPC's namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VpcSpec {
    /// The VPC.
    pub id: VpcId,
    /// Its subnets that have addresses, by the names of their bridges.
    pub subnets: BTreeMap<String, SubnetSpec>,
    /// Its custom routes: destination and next hop.
    pub routes: BTreeMap<Ipv4Net, Ipv4Addr>,
}

/// A subnet's bridge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubnetSpec {
    /// The router's address with the length of the subnet's prefix, as in 10.0.0.1/24.
    pub router: Ipv4Net,
    /// The router's hardware address.
    pub mac: Mac,
}

/// A port's namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortSpec {
    /// The port.
    pub id: PortId,
    /// The name of its VPC's namespace.
    pub vpc: String,
    /// The name of its subnet's bridge there.
    pub bridge: String,
    /// Its address with the length of the subnet's prefix.
    pub address: Ipv4Net,
    /// Its hardware address.
    pub mac: Mac,
    /// Where its default route leads: the subnet's router.
    pub router: Ipv4Addr,
}

/// Why a port cannot have a namespace yet. None of them is an error: each can come true.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// The network is not known (yet).
    NoNetwork,
    /// A Neutron network without a router.
    NotJoined,
    /// A Neutron network without a subnet.
    NoAddress,
    /// Another port's id has the same hash (one in four thousand million): this one must be made anew.
    NameTaken,
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoNetwork => "its network does not exist",
            Self::NotJoined => "its network is not joined to a VPC",
            Self::NoAddress => "it has no address",
            Self::NameTaken => "another port has its namespace's name; delete it and create it again",
        })
    }
}

/// Derives what the kernel should hold from all of the region's VPCs, subnets, ports and route tables.
///
/// Documents may come in any order and need not fit together: what lacks its other half waits.
#[must_use]
pub fn desired<'a>(
    instance: &Instance,
    vpcs: impl IntoIterator<Item = &'a Vpc>,
    subnets: impl IntoIterator<Item = &'a Subnet>,
    ports: impl IntoIterator<Item = &'a Port>,
    tables: impl IntoIterator<Item = &'a RouteTable>,
) -> Desired {
    let mut desired = Desired::default();
    for vpc in vpcs {
        let spec = VpcSpec {
            id: vpc.id,
            subnets: BTreeMap::new(),
            routes: BTreeMap::new(),
        };
        desired.vpcs.insert(vpc_namespace(instance, vpc.id), spec);
    }
    let subnets: BTreeMap<SubnetId, &Subnet> =
        subnets.into_iter().map(|subnet| (subnet.id, subnet)).collect();
    for subnet in subnets.values() {
        if let Some(vpc) = subnet.vpc
            && let Some(spec) = desired.vpcs.get_mut(&vpc_namespace(instance, vpc))
            && let Some((name, subnet)) = subnet_spec(subnet)
        {
            spec.subnets.insert(name, subnet);
        }
    }
    let mut tables: Vec<&RouteTable> = tables.into_iter().collect();
    // Where two tables lead to one destination the default one counts, then the elder.
    tables.sort_by_key(|table| (!table.default, table.id));
    for table in tables {
        if let Some(spec) = desired.vpcs.get_mut(&vpc_namespace(instance, table.vpc)) {
            add_routes(spec, table);
        }
    }
    // In the order of their ids, so that of two ports with one name it is always the same that waits.
    let ports: BTreeMap<PortId, &Port> = ports.into_iter().map(|port| (port.id, port)).collect();
    for port in ports.into_values().filter(|port| !has_no_namespace(port)) {
        let spec = port_spec(instance, port, subnets.get(&port.subnet).copied(), &desired.vpcs);
        match spec.map(|spec| (desired.ports.entry(port_namespace(instance, port.id)), spec)) {
            Ok((Entry::Vacant(entry), spec)) => {
                entry.insert(spec);
            }
            Ok((Entry::Occupied(_), _)) => {
                desired.waiting.insert(port.id, Waiting::NameTaken);
            }
            Err(waiting) => {
                desired.waiting.insert(port.id, waiting);
            }
        }
    }
    desired
}

/// The gateway holds endpoints' addresses, the VPC's own namespace the router's.
fn has_no_namespace(port: &Port) -> bool {
    [OWNER_ENDPOINT, OWNER_ROUTER].contains(&port.device_owner.as_str())
}

fn subnet_spec(subnet: &Subnet) -> Option<(String, SubnetSpec)> {
    let range = subnet.range.as_ref()?;
    let router = Ipv4Net::new(range.gateway, range.cidr.prefix_len()).ok()?;
    let id = subnet.id.0.as_bytes();
    // Neutron's prefix and the id's end are for ports ([`Mac::of_port`]): routers have one of their own.
    let mac = Mac([0xfa, 0x16, 0x3f, id[13], id[14], id[15]]);
    Some((bridge(subnet.id), SubnetSpec { router, mac }))
}

/// Adds the routes whose next hop is an address. A destination that is a subnet of the VPC's stays the subnet's.
fn add_routes(spec: &mut VpcSpec, table: &RouteTable) {
    for route in &table.routes {
        let destination = route.destination.trunc();
        let own = spec
            .subnets
            .values()
            .any(|subnet| subnet.router.trunc() == destination);
        if let Ok(nexthop) = route.nexthop.parse()
            && !own
        {
            spec.routes.entry(destination).or_insert(nexthop);
        }
    }
}

fn port_spec(
    instance: &Instance,
    port: &Port,
    subnet: Option<&Subnet>,
    vpcs: &BTreeMap<String, VpcSpec>,
) -> Result<PortSpec, Waiting> {
    let subnet = subnet.ok_or(Waiting::NoNetwork)?;
    let vpc = vpc_namespace(instance, subnet.vpc.ok_or(Waiting::NotJoined)?);
    if !vpcs.contains_key(&vpc) {
        return Err(Waiting::NotJoined);
    }
    let (bridge, SubnetSpec { router, .. }) = subnet_spec(subnet).ok_or(Waiting::NoAddress)?;
    let ip = port.ip.ok_or(Waiting::NoAddress)?;
    let address = Ipv4Net::new(ip, router.prefix_len()).map_err(|_| Waiting::NoAddress)?;
    Ok(PortSpec {
        id: port.id,
        vpc,
        bridge,
        address,
        mac: port.mac,
        router: router.addr(),
    })
}
