//! What is to be done for one endpoint, from what is wanted and what is held. Pure.
//!
//! Planned for each endpoint by itself, so an event costs what its own endpoint costs. Removes come before adds; a changed
//! backend, source or header is a retarget, which touches new connections only.

use std::{collections::BTreeMap, net::Ipv4Addr, sync::Arc};

use adit_model::feed::EndpointSpec;
use adit_model::proxy::ProxyProfile;
use adit_relay::Backend;
use adit_relay::proxy_protocol::{Header, Identity, Profile, TlvTypes};
use ipnet::Ipv4Net;

/// A namespace as it was found: a deleted one that was made anew has the same name and another inode.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// Its name.
    pub name: String,
    /// Its identity.
    pub inode: u64,
}

/// An endpoint's address, or the addresses that it stands for, on a link of the consumer's VPC.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HeldAddress {
    /// The consumer's namespace.
    pub place: Place,
    /// The link that they are on, or behind.
    pub link: String,
    /// Which.
    pub at: At,
}

/// What clients connect to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum At {
    /// One address (interface endpoint).
    Address(Ipv4Addr),
    /// Any address of these blocks (gateway endpoint).
    Blocks(Arc<[Ipv4Net]>),
}

impl std::fmt::Display for At {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let blocks: Vec<_> = self.blocks().iter().map(ToString::to_string).collect();
        f.write_str(&blocks.join(", "))
    }
}

impl At {
    /// The blocks that nobody else in the namespace may have, but for blocks' other endpoints to the same service.
    pub fn blocks(&self) -> Vec<Ipv4Net> {
        match self {
            Self::Address(ip) => vec![(*ip).into()],
            Self::Blocks(blocks) => blocks.to_vec(),
        }
    }
}

/// Where a listener leads to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// The provider's namespace.
    pub place: Place,
    /// The address that connections come from.
    pub source: Ipv4Addr,
    /// The backend, with its port.
    pub backend: Backend,
    /// What connections tell the backend of their clients.
    pub header: Option<Header>,
    /// Whether they tell it in the TCP header, too.
    pub toa: bool,
}

/// The PROXY header that an endpoint's mode has.
///
/// # Errors
/// Where it is to name the consumer's virtual network, and that has no number.
pub fn header(spec: &EndpointSpec) -> Result<Option<Header>, NoNetworkNumber> {
    if !spec.tcp_proxy.has_header() {
        return Ok(None);
    }
    let vni = match spec.consumer.vni {
        _ if !spec.tcp_proxy.names_network() => None,
        None => return Err(NoNetworkNumber),
        Some(vni) => Some(vni.get()),
    };
    let identity = Identity {
        endpoint: spec.id.0.as_u128(),
        marker: spec.marker.get(),
        vni,
    };
    let types = TlvTypes {
        marker: spec.proxy.marker_type,
        vni: spec.proxy.vni_type,
    };
    let profile = match spec.proxy.profile {
        ProxyProfile::Vpcep => Profile::Vpcep,
        ProxyProfile::Aws => Profile::Aws,
        ProxyProfile::Gcp => Profile::Gcp,
        ProxyProfile::Azure => Profile::Azure,
        ProxyProfile::Archer => Profile::Archer,
        ProxyProfile::V1 => Profile::V1,
    };
    Ok(Some(Header::new(profile, &identity, types, spec.proxy.checksum)))
}

/// The consumer's virtual network has no number to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the consumer's VPC has no virtual network number (VNI), which tcp_proxy proxy_vni tells the backend"
)]
pub struct NoNetworkNumber;

/// What is wanted of an endpoint, its namespaces found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The address to listen on.
    pub address: HeldAddress,
    /// By client port, where each leads to.
    pub listeners: BTreeMap<u16, Target>,
}

/// What is held for an endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// The address, once it has been added.
    pub address: Option<HeldAddress>,
    /// Whether the address is not in the kernel any more, or may not be.
    pub lost: bool,
    /// By client port, the open listeners; `None` for one of which it is not known where it leads to.
    pub listeners: BTreeMap<u16, Option<Target>>,
    /// Whether there may be connections, also such as came in by listeners that are closed.
    pub connections: bool,
}

/// What becomes of connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// They are cut.
    Cut,
    /// They go on, for as long as they may.
    GoOn,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Close a listener; its connections go on, or are cut.
    Close(u16, Rest),
    /// End all connections: cut them, or let them drain where that is wanted.
    EndConnections(Rest),
    /// Take the address away.
    RemoveAddress(HeldAddress),
    /// Add the address.
    AddAddress(HeldAddress),
    /// Send a listener's new connections elsewhere.
    Retarget(u16, Target),
    /// Open a listener on the address that is held.
    Open(u16, Target),
}

/// What leads from `held` to `wanted` (`None`: nothing), in the order in which it has to be done.
pub fn plan(wanted: Option<&Wanted>, held: &Held) -> Vec<Action> {
    let mut actions = Vec::new();
    // Listeners belong to the address: with another one, all of them go.
    let stays = wanted.filter(|w| held.address.as_ref().is_none_or(|address| *address == w.address));
    let keeps = |port: &u16, present: &Option<Target>| {
        let target = stays.and_then(|w| w.listeners.get(port));
        // Connections into a namespace that is no more go nowhere: they are cut with their listener.
        target.is_some_and(|target| {
            present
                .as_ref()
                .is_none_or(|present| present.place == target.place)
        })
    };
    for (port, present) in &held.listeners {
        if !keeps(port, present) {
            let elsewhere = stays.is_some_and(|w| w.listeners.contains_key(port));
            let rest = if elsewhere { Rest::Cut } else { Rest::GoOn };
            actions.push(Action::Close(*port, rest));
        }
    }
    // A mapping that goes leaves its connections alone, but they end with the last one, and with the address.
    let silent = wanted.is_none_or(|w| w.listeners.is_empty());
    if held.connections && (silent || stays.is_none()) {
        let rest = if silent { Rest::GoOn } else { Rest::Cut };
        actions.push(Action::EndConnections(rest));
    }
    if let Some(address) = &held.address
        && stays.is_none()
    {
        actions.push(Action::RemoveAddress(address.clone()));
    }
    let Some(wanted) = wanted else { return actions };
    if stays.is_none() || held.address.is_none() || held.lost {
        actions.push(Action::AddAddress(wanted.address.clone()));
    }
    for (port, target) in &wanted.listeners {
        match held.listeners.get(port).filter(|present| keeps(port, present)) {
            Some(Some(present)) if present == target => {}
            Some(_) => actions.push(Action::Retarget(*port, target.clone())),
            None => actions.push(Action::Open(*port, target.clone())),
        }
    }
    actions
}

impl Held {
    /// What is held after an action has been done.
    pub fn after(&mut self, action: &Action) {
        match action {
            Action::Close(port, _) => drop(self.listeners.remove(port)),
            Action::EndConnections(_) => self.connections = false,
            Action::RemoveAddress(_) => (self.address, self.lost) = (None, false),
            Action::AddAddress(address) => (self.address, self.lost) = (Some(address.clone()), false),
            Action::Retarget(port, target) | Action::Open(port, target) => {
                self.listeners.insert(*port, Some(target.clone()));
                self.connections = true;
            }
        }
    }

    /// What is known to be held after an action has failed half-way.
    pub fn after_failed(&mut self, action: &Action) {
        if let Action::Retarget(port, _) = action {
            self.listeners.insert(*port, None);
        }
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.address.is_none() && self.listeners.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddrV4;

    use proptest::prelude::*;

    use super::*;

    fn some(listeners: &BTreeMap<u16, Target>) -> BTreeMap<u16, Option<Target>> {
        listeners
            .iter()
            .map(|(port, target)| (*port, Some(target.clone())))
            .collect()
    }

    fn held_as(wanted: &Wanted) -> Held {
        Held {
            address: Some(wanted.address.clone()),
            lost: false,
            listeners: some(&wanted.listeners),
            connections: true,
        }
    }

    fn place() -> impl Strategy<Value = Place> {
        ("[ab]", 1..3u64).prop_map(|(name, inode)| Place { name, inode })
    }

    fn address() -> impl Strategy<Value = HeldAddress> {
        (place(), 1..3u8).prop_map(|(place, n)| HeldAddress {
            place,
            link: "s0".into(),
            at: At::Address([10, 0, 0, n].into()),
        })
    }

    fn listeners() -> impl Strategy<Value = BTreeMap<u16, Target>> {
        let header = |marker| {
            let identity = Identity {
                endpoint: 1,
                marker,
                vni: None,
            };
            Header::new(Profile::Vpcep, &identity, TlvTypes::default(), false)
        };
        let header = prop::option::of((1..3u32).prop_map(header));
        let target =
            (place(), 1..3u8, 1..3u16, header, any::<bool>()).prop_map(|(place, n, port, header, toa)| {
                Target {
                    place,
                    source: [198, 19, 128, n].into(),
                    backend: SocketAddrV4::new([10, 0, 0, n].into(), port).into(),
                    header,
                    toa,
                }
            });
        prop::collection::btree_map(1..5u16, target, 0..5)
    }

    prop_compose! {
        fn wanted()(address in address(), listeners in listeners()) -> Wanted {
            Wanted { address, listeners }
        }
    }

    prop_compose! {
        // Listeners are never held without their address.
        fn held()(
            address in prop::option::of(address()),
            listeners in listeners(),
            unknown in prop::option::of(1..5u16),
            connections in any::<bool>(),
            lost in any::<bool>(),
        ) -> Held {
            let listeners = if address.is_some() { listeners } else { BTreeMap::new() };
            let known = |(port, target)| (port, Some(target).filter(|_| unknown != Some(port)));
            let connections = connections || !listeners.is_empty();
            let lost = lost && address.is_some();
            Held { address, lost, listeners: listeners.into_iter().map(known).collect(), connections }
        }
    }

    proptest! {
        #[test]
        fn the_plan_leads_to_what_is_wanted_and_then_there_is_none(
            wanted in prop::option::of(wanted()),
            held in held(),
        ) {
            let mut now = held.clone();
            for action in plan(wanted.as_ref(), &held) {
                now.after(&action);
            }
            let expected = wanted.as_ref().map_or_else(Held::default, |w| Held {
                address: Some(w.address.clone()),
                lost: false,
                listeners: some(&w.listeners),
                connections: now.connections,
            });
            prop_assert_eq!(&now, &expected);
            // They end where nothing is served, and nowhere else.
            let served = wanted.as_ref().is_some_and(|w| !w.listeners.is_empty());
            prop_assert!(served || !now.connections);
            prop_assert!(plan(wanted.as_ref(), &now).is_empty());
        }

        #[test]
        fn a_plan_that_broke_off_anywhere_can_be_taken_up_again(
            wanted in prop::option::of(wanted()),
            held in held(),
            done in 0..8usize,
        ) {
            let mut now = held.clone();
            for action in plan(wanted.as_ref(), &held).iter().take(done) {
                now.after(action);
                // No listener is ever without its address.
                prop_assert!(now.address.is_some() || now.listeners.is_empty());
            }
            for action in plan(wanted.as_ref(), &now) {
                now.after(&action);
            }
            prop_assert!(plan(wanted.as_ref(), &now).is_empty());
        }

        #[test]
        fn removes_come_before_adds(wanted in prop::option::of(wanted()), held in held()) {
            let adds = |a: &Action| matches!(a, Action::AddAddress(_) | Action::Open(..) | Action::Retarget(..));
            let actions = plan(wanted.as_ref(), &held);
            let first_add = actions.iter().position(adds).unwrap_or(actions.len());
            prop_assert!(actions[first_add..].iter().all(adds));
        }

        #[test]
        fn a_mapping_that_goes_leaves_connections_alone_unless_it_was_the_last(
            mut wanted in wanted(),
            port in 1..5u16,
        ) {
            let held = held_as(&wanted);
            if wanted.listeners.remove(&port).is_some() {
                let mut expected = vec![Action::Close(port, Rest::GoOn)];
                if wanted.listeners.is_empty() {
                    expected.push(Action::EndConnections(Rest::GoOn));
                }
                prop_assert_eq!(plan(Some(&wanted), &held), expected);
            }
        }

        #[test]
        fn connections_that_can_go_nowhere_are_cut(mut wanted in wanted(), other in place()) {
            let mut held = held_as(&wanted);
            let present = wanted.listeners.first_key_value().map(|(port, target)| (*port, target.place.clone()));
            if let Some((port, place)) = present && place != other {
                for target in wanted.listeners.values_mut().filter(|target| target.place == place) {
                    target.place = other.clone();
                }
                prop_assert!(plan(Some(&wanted), &held).contains(&Action::Close(port, Rest::Cut)));
            }
            // With another address, none is of use.
            held.address = Some(HeldAddress { at: At::Address([10, 9, 9, 9].into()), ..wanted.address.clone() });
            let ends = plan(Some(&wanted), &held).contains(&Action::EndConnections(Rest::Cut));
            prop_assert_eq!(ends, !wanted.listeners.is_empty());
        }

        #[test]
        fn another_backend_or_header_leaves_the_listener_open(
            mut wanted in wanted(),
            port in 1..5u16,
            backend in any::<bool>(),
        ) {
            let held = held_as(&wanted);
            if let Some(target) = wanted.listeners.get_mut(&port) {
                if backend {
                    target.backend = SocketAddrV4::new([10, 9, 9, 9].into(), 1).into();
                } else {
                    target.header = match target.header {
                        None => Some(Header::new(Profile::V1, &Identity { endpoint: 1, marker: 1, vni: None }, TlvTypes::default(), false)),
                        Some(_) => None,
                    };
                }
                let expected = vec![Action::Retarget(port, target.clone())];
                prop_assert_eq!(plan(Some(&wanted), &held), expected);
            }
        }
    }
}
