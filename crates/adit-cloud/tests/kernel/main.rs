//! VPCs and ports on the real kernel, as root and as an ordinary user.
//!
//! This program has a `main` of its own, because a user namespace must be entered before any thread: for the ordinary
//! user's half it runs itself again, without root.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::process::{Command, ExitCode};
use std::time::Instant;

use adit_cloud::kernel::{Status, exec, port_namespace, vpc_namespace};
use adit_model::id::PortId;
use adit_model::network::{OWNER_ENDPOINT, RESERVED};
use adit_netns::{Directory, NextHop, Route};

#[path = "../region/mod.rs"]
mod region;
mod run;
mod world;
use region::route_table;
use run::Scenario;
use world::{Region, ask, ask_from, instance, is_unreachable, serve};

const SCENARIOS: &[(&str, Scenario)] = &[
    ("vpcs_with_one_cidr_are_apart", vpcs_with_one_cidr_are_apart),
    (
        "a_vpc_routes_between_its_subnets",
        a_vpc_routes_between_its_subnets,
    ),
    (
        "damage_is_repaired_and_the_rest_left_alone",
        damage_is_repaired_and_the_rest_left_alone,
    ),
    ("changes_are_followed", changes_are_followed),
    ("a_killed_region_is_swept", a_killed_region_is_swept),
    ("a_port_is_there_in_milliseconds", a_port_is_there_in_milliseconds),
];

fn vpcs_with_one_cidr_are_apart(directory: &Directory) {
    let mut region = Region::start(directory);
    let (a, b) = (region.add_vpc(), region.add_vpc());
    let (net_a, net_b) = (
        region.add_subnet(a, "10.0.0.0/24"),
        region.add_subnet(b, "10.0.0.0/24"),
    );
    let [server_a, client_a] = ["10.0.0.7", "10.0.0.8"].map(|ip| region.add_port(net_a, ip));
    let [server_b, client_b] = ["10.0.0.7", "10.0.0.9"].map(|ip| region.add_port(net_b, ip));
    let only_a = region.add_port(net_a, "10.0.0.20");
    region.apply_all();
    assert_eq!(region.names().len(), 7);

    serve(&region.port(server_a), 80, "a");
    serve(&region.port(server_b), 80, "b");
    serve(&region.port(only_a), 80, "a alone");
    assert_eq!(ask(&region.port(client_a), "10.0.0.7:80"), "a sees 10.0.0.8");
    assert_eq!(ask(&region.port(client_b), "10.0.0.7:80"), "b sees 10.0.0.9");
    assert_eq!(
        ask(&region.port(client_a), "10.0.0.20:80"),
        "a alone sees 10.0.0.8"
    );
    assert!(is_unreachable(&region.port(client_b), "10.0.0.20:80"));
    assert!(is_unreachable(&region.vpc(b), "10.0.0.20:80"));

    // As the gateway will: from the VPC's own namespace, with an endpoint's source address.
    assert_eq!(
        ask_from(&region.vpc(a), "198.19.128.5", "10.0.0.7:80"),
        "a sees 198.19.128.5"
    );
    assert_eq!(
        ask_from(&region.vpc(b), "198.19.255.254", "10.0.0.7:80"),
        "b sees 198.19.255.254"
    );
    // Also when the user has no default route.
    let links = region.links(&region.port(server_a));
    let routes = region.runtime.block_on(links.routes()).unwrap();
    let default = routes
        .iter()
        .find(|route| route.destination.prefix_len() == 0)
        .unwrap();
    region.runtime.block_on(links.route_delete(default)).unwrap();
    assert_eq!(
        ask_from(&region.vpc(a), "198.19.128.5", "10.0.0.7:80"),
        "a sees 198.19.128.5"
    );
    drop(links);

    // An endpoint's address, put on the bridge by the gateway, is nothing that a pass would take away.
    let links = region.links(&region.vpc(a));
    let bridge = region
        .runtime
        .block_on(links.link_in("10.0.0.0/24".parse().unwrap()))
        .unwrap()
        .unwrap();
    let endpoint = "10.0.0.99/32".parse().unwrap();
    region
        .runtime
        .block_on(links.address_add(&bridge.name, endpoint, None))
        .unwrap();
    serve(&region.vpc(a), 8080, "endpoint");
    region.apply_all();
    assert_eq!(
        ask(&region.port(client_a), "10.0.0.99:8080"),
        "endpoint sees 10.0.0.8"
    );
    assert!(is_unreachable(&region.port(client_b), "10.0.0.99:8080"));
    drop(links);

    exec_inside(&region, client_a);
    region.stop();
}

fn exec_inside(region: &Region, port: PortId) {
    let name = port_namespace(&instance(), port);
    let inode = region.port(port).inode();
    let mut check = Command::new("sh");
    check.args([
        "-c",
        &format!("[ \"$(readlink /proc/self/ns/net)\" = 'net:[{inode}]' ] && exit 7"),
    ]);
    let status = exec::run(region.kernel.directory(), &name, &mut check).unwrap();
    assert_eq!(status.code(), Some(7));
    let missing = exec::run(
        region.kernel.directory(),
        &name,
        &mut Command::new("no-such-command"),
    );
    assert_eq!(missing.unwrap_err().to_string(), "cannot run no-such-command");
    exec::run(region.kernel.directory(), "no-such-port", &mut check).unwrap_err();
}

fn a_vpc_routes_between_its_subnets(directory: &Directory) {
    let mut region = Region::start(directory);
    let vpc = region.add_vpc();
    let (first, second) = (
        region.add_subnet(vpc, "10.0.0.0/24"),
        region.add_subnet(vpc, "10.0.1.0/24"),
    );
    let client = region.add_port(first, "10.0.0.7");
    let server = region.add_port(second, "10.0.1.7");
    // A router of the tenant's: what lies behind it is reached by a custom route.
    region.tables.push(route_table(
        vpc,
        &[("192.0.2.0/24", "10.0.1.7"), ("192.0.9.0/24", "10.9.9.9")],
    ));
    let report = region.apply();
    assert!(
        report.ports.values().all(|status| *status == Status::Done),
        "{report:?}"
    );
    let Status::Waiting(why) = &report.vpcs[&vpc] else {
        panic!("nothing leads to 10.9.9.9: {report:?}");
    };
    assert!(why.contains("route 192.0.9.0/24 via 10.9.9.9"), "{why}");
    region.tables[0].routes.pop();
    region.apply_all();

    serve(&region.port(server), 80, "server");
    assert_eq!(ask(&region.port(client), "10.0.1.7:80"), "server sees 10.0.0.7");
    let links = region.links(&region.port(server));
    let add = links.address_add("lo", "192.0.2.1/32".parse().unwrap(), None);
    region.runtime.block_on(add).unwrap();
    drop(links);
    assert_eq!(ask(&region.port(client), "192.0.2.1:80"), "server sees 10.0.0.7");

    region.tables.clear();
    region.apply_all();
    let links = region.links(&region.vpc(vpc));
    let routes = region.runtime.block_on(links.routes()).unwrap();
    assert!(
        !routes
            .iter()
            .any(|route| matches!(route.next_hop, NextHop::Gateway(_))),
        "{routes:?}"
    );
    drop(links);
    region.stop();
}

fn damage_is_repaired_and_the_rest_left_alone(directory: &Directory) {
    let mut region = Region::start(directory);
    let (a, b) = (region.add_vpc(), region.add_vpc());
    let (net_a, net_b) = (
        region.add_subnet(a, "10.0.0.0/24"),
        region.add_subnet(b, "10.0.0.0/24"),
    );
    let [a1, a2] = ["10.0.0.7", "10.0.0.8"].map(|ip| region.add_port(net_a, ip));
    let b1 = region.add_port(net_b, "10.0.0.7");
    region.apply_all();
    let works = |region: &Region, round: u16| {
        serve(&region.port(a1), round, "a1");
        assert_eq!(
            ask(&region.port(a2), &format!("10.0.0.7:{round}")),
            "a1 sees 10.0.0.8"
        );
    };
    works(&region, 1);
    let before = [
        region.vpc(a),
        region.port(a1),
        region.port(a2),
        region.vpc(b),
        region.port(b1),
    ];
    let changed = |region: &Region| {
        let after = [
            region.vpc(a),
            region.port(a1),
            region.port(a2),
            region.vpc(b),
            region.port(b1),
        ];
        std::array::from_fn::<bool, 5, _>(|at| before[at] != after[at])
    };
    region.apply_all();
    assert_eq!(changed(&region), [false; 5], "a second pass changes nothing");

    // The way back to the gateway is taken away: nothing else is touched.
    let links = region.links(&region.vpc(a));
    let sources = Route {
        destination: RESERVED.into(),
        next_hop: NextHop::Local,
    };
    region.runtime.block_on(links.route_delete(&sources)).unwrap();
    region.apply_all();
    assert_eq!(changed(&region), [false; 5]);
    let routes = region.runtime.block_on(links.routes()).unwrap();
    assert!(routes.contains(&sources));
    drop(links);

    // A port's namespace is deleted, as by `ip netns delete`.
    region.kernel.directory().remove(region.port(a1).name()).unwrap();
    region.apply_all();
    assert_eq!(changed(&region), [false, true, false, false, false]);
    works(&region, 2);

    // A port's veth is deleted.
    let links = region.links(&region.port(a2));
    region.runtime.block_on(links.link_delete("eth0")).unwrap();
    drop(links);
    region.apply_all();
    assert_eq!(changed(&region), [false, true, true, false, false]);
    works(&region, 3);

    // A bridge is deleted.
    let links = region.links(&region.vpc(a));
    let bridge = region
        .runtime
        .block_on(links.link_in("10.0.0.0/24".parse().unwrap()))
        .unwrap()
        .unwrap();
    region.runtime.block_on(links.link_delete(&bridge.name)).unwrap();
    drop(links);
    region.apply_all();
    works(&region, 4);

    // A VPC's namespace is deleted: its ports cannot stay either.
    region.kernel.directory().remove(region.vpc(a).name()).unwrap();
    region.apply_all();
    assert_eq!(changed(&region), [true, true, true, false, false]);
    works(&region, 5);
    drop(before);
    region.stop();
}

fn changes_are_followed(directory: &Directory) {
    let mut region = Region::start(directory);
    let vpc = region.add_vpc();
    let net = region.add_subnet(vpc, "10.0.0.0/24");
    let waiting = region.add_port(net, "10.0.0.7");
    region.subnets[net].vpc = None;
    let report = region.apply();
    let why = Status::Waiting("its network is not joined to a VPC".to_owned());
    assert_eq!(report.ports[&waiting], why);
    assert_eq!((region.names().len(), &report.vpcs[&vpc]), (1, &Status::Done));

    region.subnets[net].vpc = Some(vpc);
    let endpoint = region.add_port(net, "10.0.0.9");
    region.ports.last_mut().unwrap().device_owner = OWNER_ENDPOINT.to_owned();
    region.apply_all();
    assert_eq!(region.names().len(), 2, "an endpoint's address gets no namespace");
    region
        .kernel
        .directory()
        .open(&port_namespace(&instance(), endpoint))
        .unwrap_err();

    // Another address, then another router.
    region.ports[0].ip = Some("10.0.0.70".parse().unwrap());
    region.apply_all();
    serve(&region.port(waiting), 80, "moved");
    assert_eq!(
        ask_from(&region.vpc(vpc), "198.19.128.1", "10.0.0.70:80"),
        "moved sees 198.19.128.1"
    );
    region.subnets[net].range.as_mut().unwrap().gateway = "10.0.0.254".parse().unwrap();
    region.apply_all();
    serve(&region.port(waiting), 80, "again");
    assert_eq!(
        ask_from(&region.vpc(vpc), "198.19.128.1", "10.0.0.70:80"),
        "again sees 198.19.128.1"
    );

    region.ports.clear();
    region.apply_all();
    assert_eq!(region.names(), [vpc_namespace(&instance(), vpc)]);
    region.vpcs.clear();
    region.apply_all();
    assert!(region.names().is_empty());
    region.stop();
}

fn a_killed_region_is_swept(directory: &Directory) {
    let mut region = Region::start(directory);
    let vpc = region.add_vpc();
    let net = region.add_subnet(vpc, "10.0.0.0/24");
    region.add_port(net, "10.0.0.7");
    region.apply_all();
    let stranger = directory.create("at3st4v00000000").unwrap();
    // As a kill would: dropped without a stop.
    let Region {
        vpcs, subnets, ports, ..
    } = region;
    assert_eq!(directory.names("").unwrap().len(), 3);
    let region = Region {
        vpcs,
        subnets,
        ports,
        ..Region::start(directory)
    };
    assert_eq!(
        region.names(),
        [stranger.name()],
        "another region's is left alone"
    );
    region.apply_all();
    assert_eq!(region.names().len(), 3);
    directory.remove(stranger.name()).unwrap();
    region.stop();
}

fn a_port_is_there_in_milliseconds(directory: &Directory) {
    const PORTS: u32 = 50;
    let mut region = Region::start(directory);
    let vpc = region.add_vpc();
    let net = region.add_subnet(vpc, "10.0.0.0/16");
    let start = Instant::now();
    region.apply_all();
    let vpc_took = start.elapsed();
    for number in 0..PORTS {
        region.add_port(net, &format!("10.0.{}.{}", number / 200, number % 200 + 10));
    }
    let start = Instant::now();
    region.apply_all();
    let port_took = start.elapsed() / PORTS;
    let start = Instant::now();
    region.apply_all();
    // Printed, never asserted: machines differ.
    println!(
        "VPC {vpc_took:?}, each port {port_took:?}, a pass with nothing to do {:?}",
        start.elapsed()
    );
    region.stop();
}

fn main() -> ExitCode {
    run::main(SCENARIOS)
}
