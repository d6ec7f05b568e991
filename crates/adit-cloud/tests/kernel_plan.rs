//! The plan of the kernel, against a model of the kernel.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use adit_cloud::kernel::desired::{Desired, PortSpec, SubnetSpec, VpcSpec};
use adit_cloud::kernel::plan::{Action, Observed, ObservedVpc, Seen, State, plan};
use adit_model::id::{PortId, VpcId};
use adit_model::network::Mac;
use ipnet::Ipv4Net;
use proptest::prelude::*;
use uuid::Uuid;

/// Few enough names that desired and observed often share them.
const VPCS: u8 = 3;
const SUBNETS: u8 = 2;
const PORTS: u8 = 5;

/// What one test run draws for one side.
#[derive(Clone, Debug)]
struct Draw {
    /// VPC → subnet → the last number of its router's address.
    vpcs: BTreeMap<u8, BTreeMap<u8, u8>>,
    /// VPC → destination → (subnet, number) of the next hop.
    routes: BTreeMap<(u8, u8), (u8, u8)>,
    /// Port → VPC, subnet, the last number of its address.
    ports: BTreeMap<u8, (u8, u8, u8)>,
}

fn draw() -> impl Strategy<Value = Draw> {
    let subnets = proptest::collection::btree_map(0..SUBNETS, 1..3u8, 0..=2);
    let vpcs = proptest::collection::btree_map(0..VPCS, subnets, 0..=3);
    let routes = proptest::collection::btree_map((0..VPCS, 0..3u8), (0..SUBNETS, 5..7u8), 0..=4);
    let ports = proptest::collection::btree_map(0..PORTS, (0..VPCS, 0..SUBNETS, 10..12u8), 0..=5);
    (vpcs, routes, ports).prop_map(|(vpcs, routes, ports)| Draw { vpcs, routes, ports })
}

fn vpc_name(vpc: u8) -> String {
    format!("vpc{vpc}")
}

fn subnet_spec(subnet: u8, router: u8) -> SubnetSpec {
    SubnetSpec {
        router: Ipv4Net::new_assert(Ipv4Addr::new(10, 0, subnet, router), 24),
        mac: Mac([2; 6]),
    }
}

/// Makes a consistent `Desired` of a draw: routes and ports whose subnet was not drawn are left out.
fn desired(draw: &Draw) -> Desired {
    let mut desired = Desired::default();
    for (vpc, subnets) in &draw.vpcs {
        let subnets = subnets.iter();
        let spec = VpcSpec {
            id: VpcId(Uuid::from_u128(u128::from(*vpc))),
            subnets: subnets
                .map(|(s, router)| (format!("s{s}"), subnet_spec(*s, *router)))
                .collect(),
            routes: BTreeMap::new(),
        };
        desired.vpcs.insert(vpc_name(*vpc), spec);
    }
    for ((vpc, destination), (subnet, number)) in &draw.routes {
        let destination = Ipv4Net::new_assert(Ipv4Addr::new(192, 0, *destination, 0), 24);
        if let Some(spec) = desired.vpcs.get_mut(&vpc_name(*vpc))
            && spec.subnets.contains_key(&format!("s{subnet}"))
        {
            spec.routes
                .insert(destination, Ipv4Addr::new(10, 0, *subnet, *number));
        }
    }
    for (port, (vpc, subnet, number)) in &draw.ports {
        let (vpc, bridge) = (vpc_name(*vpc), format!("s{subnet}"));
        let Some(spec) = desired.vpcs.get(&vpc).and_then(|spec| spec.subnets.get(&bridge)) else {
            continue;
        };
        let spec = PortSpec {
            id: PortId(Uuid::from_u128(u128::from(*port))),
            address: Ipv4Net::new_assert(Ipv4Addr::new(10, 0, *subnet, *number), 24),
            mac: Mac([4; 6]),
            router: spec.router.addr(),
            vpc,
            bridge,
        };
        desired.ports.insert(format!("port{port}"), spec);
    }
    desired
}

/// What would be observed if all of it were made, but for the damage: bits decide what is broken or unknown.
fn observed(desired: &Desired, damage: u32) -> Observed {
    let mut bits = (0..).map(|bit: u32| damage.rotate_right(bit * 7 % 32) & 7 == 0);
    let mut state = |damaged| {
        if bits.next() == Some(true) {
            damaged
        } else {
            State::Whole
        }
    };
    let mut observed = Observed::default();
    for (number, (name, vpc)) in desired.vpcs.iter().enumerate() {
        let vpc_state = state(if number % 2 == 0 {
            State::Broken
        } else {
            State::Unknown
        });
        let mut seen = ObservedVpc {
            state: vpc_state,
            has_sources: state(State::Broken) == State::Whole,
            subnets: BTreeMap::new(),
            routes: vpc.routes.clone(),
        };
        for (bridge, spec) in &vpc.subnets {
            seen.subnets.insert(
                bridge.clone(),
                Seen {
                    spec: spec.clone(),
                    state: state(State::Broken),
                },
            );
        }
        if vpc_state != State::Whole {
            (seen.has_sources, seen.subnets, seen.routes) = Default::default();
        }
        observed.vpcs.insert(name.clone(), seen);
    }
    for (name, spec) in &desired.ports {
        let seen = Seen {
            spec: spec.clone(),
            state: state(State::Broken),
        };
        observed.ports.insert(name.clone(), seen);
    }
    observed
}

/// Does a step as the kernel would, and fails where the kernel would refuse or where something is made twice.
fn step(kernel: &mut Observed, action: &Action) {
    match action.clone() {
        Action::RemovePort { port } => assert!(kernel.ports.remove(&port).is_some()),
        Action::RemoveRoute { vpc, destination, .. } => {
            assert!(
                kernel
                    .vpcs
                    .get_mut(&vpc)
                    .unwrap()
                    .routes
                    .remove(&destination)
                    .is_some()
            );
        }
        Action::RemoveSubnet { vpc, bridge } => {
            let on_it = |seen: &Seen<PortSpec>| seen.spec.vpc == vpc && seen.spec.bridge == bridge;
            assert!(!kernel.ports.values().any(on_it), "a port hangs on the bridge");
            let vpc = kernel.vpcs.get_mut(&vpc).unwrap();
            let gone = vpc.subnets.remove(&bridge).unwrap();
            vpc.routes
                .retain(|_, nexthop| !gone.spec.router.contains(&*nexthop));
        }
        Action::RemoveVpc { vpc } => {
            assert!(
                !kernel.ports.values().any(|seen| seen.spec.vpc == vpc),
                "a port is left in it"
            );
            assert!(kernel.vpcs.remove(&vpc).is_some());
        }
        Action::CreateVpc { vpc, .. } => {
            let made = ObservedVpc {
                state: State::Whole,
                has_sources: true,
                subnets: BTreeMap::new(),
                routes: BTreeMap::new(),
            };
            assert!(kernel.vpcs.insert(vpc, made).is_none());
        }
        Action::RestoreSources { vpc } => {
            let vpc = kernel.vpcs.get_mut(&vpc).unwrap();
            assert!(!std::mem::replace(&mut vpc.has_sources, true));
        }
        Action::CreateSubnet { vpc, bridge, spec } => {
            let seen = Seen {
                spec,
                state: State::Whole,
            };
            assert!(
                kernel
                    .vpcs
                    .get_mut(&vpc)
                    .unwrap()
                    .subnets
                    .insert(bridge, seen)
                    .is_none()
            );
        }
        Action::CreateRoute {
            vpc,
            destination,
            nexthop,
        } => {
            let vpc = kernel.vpcs.get_mut(&vpc).unwrap();
            let reachable = vpc
                .subnets
                .values()
                .any(|seen| seen.spec.router.contains(&nexthop));
            assert!(reachable, "no bridge leads to {nexthop}");
            assert!(vpc.routes.insert(destination, nexthop).is_none());
        }
        Action::CreatePort { port, spec } => {
            assert!(kernel.vpcs[&spec.vpc].subnets.contains_key(&spec.bridge));
            assert!(
                kernel
                    .ports
                    .insert(
                        port,
                        Seen {
                            spec,
                            state: State::Whole
                        }
                    )
                    .is_none()
            );
        }
    }
}

fn is_removal(action: &Action) -> bool {
    use Action::{RemovePort, RemoveRoute, RemoveSubnet, RemoveVpc};
    matches!(
        action,
        RemovePort { .. } | RemoveRoute { .. } | RemoveSubnet { .. } | RemoveVpc { .. }
    )
}

/// What must not change while a VPC is unknown: itself and the ports that are in it.
fn untouched(side: &Observed, unknown: &[String]) -> Observed {
    let mut part = side.clone();
    part.vpcs.retain(|name, _| unknown.contains(name));
    part.ports.retain(|_, seen| unknown.contains(&seen.spec.vpc));
    part
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_plan_makes_observed_what_is_desired(before in draw(), after in draw(), damage: u32) {
        let wanted = desired(&after);
        let mut kernel = observed(&desired(&before), damage);
        let unknown: Vec<String> = kernel.vpcs.iter()
            .filter(|(_, vpc)| vpc.state == State::Unknown)
            .map(|(name, _)| name.clone())
            .collect();
        let left_alone = untouched(&kernel, &unknown);

        let actions = plan(&wanted, &kernel);
        let first_creation = actions.iter().position(|action| !is_removal(action)).unwrap_or(actions.len());
        prop_assert!(!actions[first_creation..].iter().any(is_removal), "removals come first");
        for action in &actions {
            step(&mut kernel, action);
        }

        prop_assert_eq!(untouched(&kernel, &unknown), left_alone.clone());
        let mut expected = observed(&wanted, u32::MAX);
        expected.vpcs.retain(|name, _| !unknown.contains(name));
        expected.ports.retain(|name, seen| !unknown.contains(&seen.spec.vpc) && !left_alone.ports.contains_key(name));
        expected.vpcs.extend(left_alone.vpcs);
        expected.ports.extend(left_alone.ports);
        prop_assert_eq!(&kernel, &expected);

        prop_assert_eq!(plan(&wanted, &kernel), vec![], "a second plan is empty");
    }

    #[test]
    fn what_is_as_desired_is_left_alone(draw in draw()) {
        let wanted = desired(&draw);
        prop_assert_eq!(plan(&wanted, &observed(&wanted, u32::MAX)), vec![]);
    }
}
