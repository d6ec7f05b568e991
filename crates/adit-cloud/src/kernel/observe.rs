//! What became of what was made: looked up in the kernel at every pass.

use std::collections::BTreeMap;

use adit_netns::{Address, Link, LinkError, NextHop, Route};
use ipnet::{IpNet, Ipv4Net};

use super::desired::{PortSpec, SubnetSpec};
use super::plan::{Observed, ObservedVpc, Seen, State};
use super::{KernelError, Made, MadeVpc, names, sources};

/// What one VPC's namespace holds.
struct Inside {
    links: Vec<Link>,
    addresses: Vec<Address>,
    routes: Vec<Route>,
}

/// Looks at every namespace that was made. With it come the VPCs that could not be looked at, and why.
pub(super) async fn observe(made: &Made) -> (Observed, Vec<(String, KernelError)>) {
    let mut observed = Observed::default();
    let mut unknown = Vec::new();
    let mut links = BTreeMap::new();
    for (name, vpc) in &made.vpcs {
        let vpc = if !vpc.links.namespace().is_current() {
            without_content(State::Broken)
        } else {
            match look_inside(vpc).await {
                Ok(inside) => {
                    let seen = vpc_as_found(vpc, &inside);
                    links.insert(name.as_str(), inside.links);
                    seen
                }
                Err(error) => {
                    unknown.push((name.clone(), error.into()));
                    without_content(State::Unknown)
                }
            }
        };
        observed.vpcs.insert(name.clone(), vpc);
    }
    for (name, port) in &made.ports {
        let spec = port.spec.clone();
        let linked = links
            .get(spec.vpc.as_str())
            .is_some_and(|links| is_linked(&spec, links));
        let state = if linked && port.namespace.is_current() {
            State::Whole
        } else {
            State::Broken
        };
        observed.ports.insert(name.clone(), Seen { spec, state });
    }
    (observed, unknown)
}

async fn look_inside(vpc: &MadeVpc) -> Result<Inside, LinkError> {
    Ok(Inside {
        links: vpc.links.links().await?,
        addresses: vpc.links.addresses().await?,
        routes: vpc.links.routes().await?,
    })
}

fn vpc_as_found(vpc: &MadeVpc, inside: &Inside) -> ObservedVpc {
    let subnet = |(bridge, spec): (&String, &SubnetSpec)| {
        let state = if is_bridged(bridge, spec, inside) {
            State::Whole
        } else {
            State::Broken
        };
        (
            bridge.clone(),
            Seen {
                spec: spec.clone(),
                state,
            },
        )
    };
    let route = |route: &Route| match (route.destination, &route.next_hop) {
        (IpNet::V4(destination), NextHop::Gateway(std::net::IpAddr::V4(nexthop))) => {
            Some((destination, *nexthop))
        }
        _ => None,
    };
    ObservedVpc {
        state: State::Whole,
        has_sources: inside.routes.contains(&sources()),
        subnets: vpc.spec.subnets.iter().map(subnet).collect(),
        routes: inside
            .routes
            .iter()
            .filter_map(route)
            .collect::<BTreeMap<Ipv4Net, _>>(),
    }
}

fn without_content(state: State) -> ObservedVpc {
    ObservedVpc {
        state,
        has_sources: false,
        subnets: BTreeMap::new(),
        routes: BTreeMap::new(),
    }
}

/// Other addresses on the bridge are the gateway's and none of our business.
fn is_bridged(bridge: &str, spec: &SubnetSpec, inside: &Inside) -> bool {
    let link = inside.links.iter().find(|link| link.name == bridge);
    let has_address = |address: &Address| address.link == bridge && address.network == spec.router.into();
    link.is_some_and(|link| link.up && link.mac == Some(spec.mac.0))
        && inside.addresses.iter().any(has_address)
}

fn is_linked(spec: &PortSpec, links: &[Link]) -> bool {
    let find = |name: &str| links.iter().find(|link| link.name == name);
    let bridge = find(&spec.bridge).map(|bridge| bridge.index);
    bridge.is_some() && find(&names::veth(spec.id)).is_some_and(|veth| veth.up && veth.master == bridge)
}
