//! From the network's documents to what the kernel should hold.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use adit_cloud::kernel::desired::{Desired, Waiting, desired};
use adit_cloud::kernel::{Instance, port_namespace, vpc_namespace};
use adit_model::id::{PortId, SubnetId, VpcId};
use adit_model::network::{OWNER_ENDPOINT, OWNER_ROUTER, Port, RouteTable, Subnet, Vpc};

mod region;
use region::{port, route_table, subnet, vpc};

fn instance() -> Instance {
    "t3st5".parse().unwrap()
}

fn derive(vpcs: &[Vpc], subnets: &[Subnet], ports: &[Port], tables: &[RouteTable]) -> Desired {
    desired(&instance(), vpcs, subnets, ports, tables)
}

#[test]
fn each_vpc_subnet_and_port_has_its_place() {
    let vpc = vpc();
    let net = subnet(Some(vpc.id), "10.0.0.0/24");
    let port = port(&net, "10.0.0.7");
    let desired = derive(
        std::slice::from_ref(&vpc),
        &[net],
        std::slice::from_ref(&port),
        &[],
    );
    let vpc_name = vpc_namespace(&instance(), vpc.id);
    let spec = &desired.vpcs[&vpc_name];
    assert_eq!(spec.id, vpc.id);
    let (bridge, subnet) = spec.subnets.first_key_value().unwrap();
    assert_eq!(subnet.router.to_string(), "10.0.0.1/24");
    let made = &desired.ports[&port_namespace(&instance(), port.id)];
    assert_eq!((&made.vpc, &made.bridge), (&vpc_name, bridge));
    assert_eq!(made.address.to_string(), "10.0.0.7/24");
    assert_eq!(made.router.to_string(), "10.0.0.1");
    assert_eq!(made.mac, port.mac);
    assert_ne!(made.mac, subnet.mac);
    assert!(desired.waiting.is_empty());
}

#[test]
fn a_port_waits_for_what_its_network_lacks() {
    let vpc = vpc();
    let joined = subnet(Some(vpc.id), "10.0.0.0/24");
    let alone = subnet(None, "10.0.0.0/24");
    let astray = subnet(Some(VpcId::random()), "10.0.0.0/24");
    let mut bare = subnet(Some(vpc.id), "10.0.1.0/24");
    bare.range = None;
    let mut unaddressed = port(&joined, "10.0.0.7");
    unaddressed.ip = None;
    let mut lost = port(&joined, "10.0.0.8");
    lost.subnet = SubnetId::random();
    let cases = [
        (port(&alone, "10.0.0.7"), Waiting::NotJoined),
        (port(&astray, "10.0.0.7"), Waiting::NotJoined),
        (port(&bare, "10.0.1.7"), Waiting::NoAddress),
        (unaddressed, Waiting::NoAddress),
        (lost, Waiting::NoNetwork),
    ];
    let ports: Vec<Port> = cases.iter().map(|(port, _)| port.clone()).collect();
    let desired = derive(&[vpc], &[joined, alone, astray, bare], &ports, &[]);
    assert!(desired.ports.is_empty());
    let expected: Vec<(PortId, Waiting)> = cases.iter().map(|(port, why)| (port.id, *why)).collect();
    assert_eq!(desired.waiting, expected.into_iter().collect());
}

#[test]
fn addresses_of_endpoints_and_routers_get_no_namespace() {
    let vpc = vpc();
    let net = subnet(Some(vpc.id), "10.0.0.0/24");
    let owned = |owner: &str, ip| Port {
        device_owner: owner.to_owned(),
        ..port(&net, ip)
    };
    let ports = [owned(OWNER_ENDPOINT, "10.0.0.9"), owned(OWNER_ROUTER, "10.0.0.1")];
    let desired = derive(&[vpc], std::slice::from_ref(&net), &ports, &[]);
    assert!(desired.ports.is_empty() && desired.waiting.is_empty());
}

#[test]
fn custom_routes_need_an_address_and_leave_the_subnets_alone() {
    let vpc = vpc();
    let net = subnet(Some(vpc.id), "10.0.0.0/24");
    let mut main = route_table(
        vpc.id,
        &[
            ("192.0.2.0/24", "10.0.0.9"),
            ("192.0.3.7/24", "10.0.0.9"),
            ("192.0.4.0/24", "a-nat-gateway"),
            ("10.0.0.0/24", "10.0.0.9"),
        ],
    );
    main.default = true;
    let second = route_table(
        vpc.id,
        &[("192.0.2.0/24", "10.0.0.10"), ("192.0.5.0/24", "10.0.0.10")],
    );
    let foreign = route_table(VpcId::random(), &[("192.0.6.0/24", "10.0.0.9")]);
    let desired = derive(std::slice::from_ref(&vpc), &[net], &[], &[foreign, second, main]);
    let routes = &desired.vpcs[&vpc_namespace(&instance(), vpc.id)].routes;
    let routes: Vec<String> = routes.iter().map(|(to, via)| format!("{to} via {via}")).collect();
    assert_eq!(
        routes,
        [
            "192.0.2.0/24 via 10.0.0.9",
            "192.0.3.0/24 via 10.0.0.9",
            "192.0.5.0/24 via 10.0.0.10"
        ]
    );
}
