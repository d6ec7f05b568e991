//! Network documents for tests.
#![allow(dead_code, reason = "not every test file needs each of them")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::Ipv4Addr;

use adit_model::id::{NeutronSubnetId, PortId, ProjectId, RouteTableId, SubnetId, Vni, VpcId};
use adit_model::network::{Mac, Port, Route, RouteTable, Subnet, SubnetRange, Vpc};
use adit_model::time::{Created, Timestamp};
use ipnet::Ipv4Net;

fn project() -> ProjectId {
    "6e9dfd51d1124e8d8498dce894923a0d".parse().unwrap()
}

fn now() -> (Created, Timestamp) {
    (Created::after(0, 0), Timestamp::from_unix_s(0))
}

pub(crate) fn vpc() -> Vpc {
    let (created, updated_at) = now();
    Vpc {
        id: VpcId::random(),
        project: project(),
        name: String::new(),
        description: String::new(),
        cidr: Some(Ipv4Net::new_assert(Ipv4Addr::new(10, 0, 0, 0), 8)),
        vni: Vni::from_random(7),
        created,
        updated_at,
    }
}

/// A subnet whose router has the first address of its block.
pub(crate) fn subnet(vpc: Option<VpcId>, cidr: &str) -> Subnet {
    let (created, updated_at) = now();
    let cidr: Ipv4Net = cidr.parse().unwrap();
    let range = SubnetRange {
        id: NeutronSubnetId::random(),
        name: String::new(),
        cidr,
        gateway: Ipv4Addr::from(u32::from(cidr.network()) + 1),
        dhcp: true,
        dns: Vec::new(),
    };
    Subnet {
        id: SubnetId::random(),
        project: project(),
        name: String::new(),
        description: String::new(),
        vpc,
        range: Some(range),
        created,
        updated_at,
    }
}

pub(crate) fn port(subnet: &Subnet, ip: &str) -> Port {
    let (created, updated_at) = now();
    let id = PortId::random();
    Port {
        id,
        project: project(),
        name: String::new(),
        subnet: subnet.id,
        ip: Some(ip.parse().unwrap()),
        mac: Mac::of_port(id),
        device_id: String::new(),
        device_owner: "compute:eu-de-01".to_owned(),
        created,
        updated_at,
    }
}

/// Routes as (destination, next hop).
pub(crate) fn route_table(vpc: VpcId, routes: &[(&str, &str)]) -> RouteTable {
    let (created, updated_at) = now();
    let route = |(destination, nexthop): &(&str, &str)| Route {
        kind: "ecs".to_owned(),
        destination: destination.parse().unwrap(),
        nexthop: (*nexthop).to_owned(),
        description: String::new(),
    };
    RouteTable {
        id: RouteTableId::random(),
        project: project(),
        vpc,
        name: String::new(),
        description: String::new(),
        default: false,
        routes: routes.iter().map(route).collect(),
        created,
        updated_at,
    }
}
