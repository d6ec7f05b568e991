//! From what is desired and what was observed to the steps between. Pure.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use adit_model::id::VpcId;
use ipnet::Ipv4Net;

use super::desired::{Desired, PortSpec, SubnetSpec, VpcSpec};

/// What the kernel holds of this region; the keys are those of [`Desired`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// VPCs.
    pub vpcs: BTreeMap<String, ObservedVpc>,
    /// Ports.
    pub ports: BTreeMap<String, Seen<PortSpec>>,
}

/// A VPC's namespace as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObservedVpc {
    /// How it was found. Unless it is whole the rest means nothing.
    pub state: State,
    /// Whether the gateway's source addresses are local in it.
    pub has_sources: bool,
    /// Its bridges.
    pub subnets: BTreeMap<String, Seen<SubnetSpec>>,
    /// Its routes through a next hop.
    pub routes: BTreeMap<Ipv4Net, Ipv4Addr>,
}

/// Something that was made once, and how it was found now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen<T> {
    /// As what it was made.
    pub spec: T,
    /// How it was found.
    pub state: State,
}

/// How something was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// As it was made.
    Whole,
    /// Damaged or gone by somebody else's doing: it is removed and made anew.
    Broken,
    /// The kernel gave no answer: it is left alone, with all that is in it, until it is known.
    Unknown,
}

/// A step. VPCs and ports go by their namespaces' names, subnets by their bridges'.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are named for what they hold")]
pub enum Action {
    /// Remove a port's namespace and its veth.
    RemovePort { port: String },
    /// Remove a route from a VPC.
    RemoveRoute {
        vpc: String,
        destination: Ipv4Net,
        nexthop: Ipv4Addr,
    },
    /// Remove a bridge.
    RemoveSubnet { vpc: String, bridge: String },
    /// Remove a VPC's namespace.
    RemoveVpc { vpc: String },
    /// Make a VPC's namespace, with no subnet and no custom route yet.
    CreateVpc { vpc: String, id: VpcId },
    /// Make the gateway's source addresses local in a VPC again.
    RestoreSources { vpc: String },
    /// Make a bridge.
    CreateSubnet {
        vpc: String,
        bridge: String,
        spec: SubnetSpec,
    },
    /// Add a route to a VPC.
    CreateRoute {
        vpc: String,
        destination: Ipv4Net,
        nexthop: Ipv4Addr,
    },
    /// Make a port's namespace.
    CreatePort { port: String, spec: PortSpec },
}

/// The steps from `observed` to `desired`, in an order that works: all removals first, and from the inside out.
#[must_use]
pub fn plan(desired: &Desired, observed: &Observed) -> Vec<Action> {
    let kept = Kept { desired, observed };
    let mut actions = kept.remove_ports();
    kept.remove_from_vpcs(&mut actions);
    kept.create_vpcs(&mut actions);
    kept.create_ports(&mut actions);
    actions
}

/// Says what stays.
struct Kept<'a> {
    desired: &'a Desired,
    observed: &'a Observed,
}

impl<'a> Kept<'a> {
    fn is_unknown(&self, vpc: &str) -> bool {
        self.observed
            .vpcs
            .get(vpc)
            .is_some_and(|vpc| vpc.state == State::Unknown)
    }

    /// The VPC as observed and as desired, if it stays.
    fn vpc(&self, name: &str) -> Option<(&'a ObservedVpc, &'a VpcSpec)> {
        let observed = self
            .observed
            .vpcs
            .get(name)
            .filter(|vpc| vpc.state == State::Whole)?;
        Some((observed, self.desired.vpcs.get(name)?))
    }

    fn subnet(&self, vpc: &str, bridge: &str) -> bool {
        self.vpc(vpc).is_some_and(|(observed, desired)| {
            observed.subnets.get(bridge).is_some_and(|seen| {
                seen.state == State::Whole && desired.subnets.get(bridge) == Some(&seen.spec)
            })
        })
    }

    fn route(&self, vpc: &str, destination: &Ipv4Net, nexthop: &Ipv4Addr) -> bool {
        self.vpc(vpc).is_some_and(|(observed, desired)| {
            // The kernel drops a route together with the bridge that leads to its next hop.
            let dropped = observed
                .subnets
                .iter()
                .any(|(bridge, seen)| seen.spec.router.contains(nexthop) && !self.subnet(vpc, bridge));
            observed.routes.get(destination) == Some(nexthop)
                && desired.routes.get(destination) == Some(nexthop)
                && !dropped
        })
    }

    fn port(&self, name: &str) -> bool {
        self.observed.ports.get(name).is_some_and(|seen| {
            seen.state == State::Whole
                && self.desired.ports.get(name) == Some(&seen.spec)
                && self.subnet(&seen.spec.vpc, &seen.spec.bridge)
        })
    }

    /// Whether a port is where nothing may be touched. One that shall only go there is not: it goes from where it is, and
    /// waits.
    fn port_is_unknown(&self, name: &str) -> bool {
        let port = self.observed.ports.get(name);
        port.is_some_and(|seen| seen.state == State::Unknown || self.is_unknown(&seen.spec.vpc))
    }

    fn remove_ports(&self) -> Vec<Action> {
        let ports = self.observed.ports.keys();
        ports
            .filter(|port| !self.port(port) && !self.port_is_unknown(port))
            .map(|port| Action::RemovePort { port: port.clone() })
            .collect()
    }

    fn remove_from_vpcs(&self, actions: &mut Vec<Action>) {
        let (mut routes, mut subnets, mut vpcs) = (Vec::new(), Vec::new(), Vec::new());
        for (name, vpc) in &self.observed.vpcs {
            if self.is_unknown(name) {
                continue;
            }
            if self.vpc(name).is_none() {
                vpcs.push(Action::RemoveVpc { vpc: name.clone() });
                continue;
            }
            for (destination, nexthop) in &vpc.routes {
                if !self.route(name, destination, nexthop) {
                    routes.push(Action::RemoveRoute {
                        vpc: name.clone(),
                        destination: *destination,
                        nexthop: *nexthop,
                    });
                }
            }
            for bridge in vpc.subnets.keys().filter(|bridge| !self.subnet(name, bridge)) {
                subnets.push(Action::RemoveSubnet {
                    vpc: name.clone(),
                    bridge: bridge.clone(),
                });
            }
        }
        actions.extend(routes.into_iter().chain(subnets).chain(vpcs));
    }

    fn create_vpcs(&self, actions: &mut Vec<Action>) {
        for (name, spec) in &self.desired.vpcs {
            if self.is_unknown(name) {
                continue;
            }
            match self.vpc(name) {
                None => actions.push(Action::CreateVpc {
                    vpc: name.clone(),
                    id: spec.id,
                }),
                Some((observed, _)) if !observed.has_sources => {
                    actions.push(Action::RestoreSources { vpc: name.clone() });
                }
                Some(_) => {}
            }
            for (bridge, subnet) in &spec.subnets {
                if !self.subnet(name, bridge) {
                    actions.push(Action::CreateSubnet {
                        vpc: name.clone(),
                        bridge: bridge.clone(),
                        spec: subnet.clone(),
                    });
                }
            }
            for (destination, nexthop) in &spec.routes {
                if !self.route(name, destination, nexthop) {
                    actions.push(Action::CreateRoute {
                        vpc: name.clone(),
                        destination: *destination,
                        nexthop: *nexthop,
                    });
                }
            }
        }
    }

    fn create_ports(&self, actions: &mut Vec<Action>) {
        for (port, spec) in &self.desired.ports {
            if !self.port(port) && !self.port_is_unknown(port) && !self.is_unknown(&spec.vpc) {
                actions.push(Action::CreatePort {
                    port: port.clone(),
                    spec: spec.clone(),
                });
            }
        }
    }
}
