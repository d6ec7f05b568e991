//! The VPCs that there are on this node, and who else is in them.
//!
//! Owns the watch on the namespaces' names, what of it the control plane was told, and in each VPC the routes to the other
//! gateways' source addresses: a backend's answer may come to any gateway's router, and goes on to the one that asked. A VPC in
//! which this node is cut off from the others counts as gone ([`super::reach`]).

use std::{
    collections::{BTreeSet, HashMap, HashSet, hash_map::Entry},
    net::{IpAddr, Ipv4Addr},
    os::unix::fs::MetadataExt,
    time::Duration,
};

use adit_model::{
    error_chain,
    feed::Peer,
    node::{Leg, Legs},
};
use adit_netns::{Directory, LinkError, Links, NextHop, Route, sysctl};
use ipnet::{IpNet, Ipv4Net};
use parking_lot::Mutex;

use super::reach::{Ear, Verdict};
use tokio::{
    sync::Notify,
    time::{Instant, timeout},
};

/// How often it is looked at which namespaces there are.
const PERIOD: Duration = Duration::from_millis(500);
/// How soon, and how seldom at last, a VPC's own addresses are looked at again: they come after the VPC, and hardly change.
const LOOK_MIN: Duration = Duration::from_millis(500);
const LOOK_MAX: Duration = Duration::from_secs(120);
/// How many VPCs are looked into in a period.
const LOOKS_MAX: usize = 100;
/// In how many VPCs the other gateways are listened for: a socket each.
const EARS_MAX: usize = 1000;
/// What leads packets on to the other gateways.
const FORWARDING: &[sysctl::Setting] = &[("ipv4/ip_forward", "1")];

/// Says which VPC a namespace is, by its name: [`Leg::vpc`].
pub type VpcOf = Box<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// Where a node's VPCs are.
pub struct Vpcs {
    /// The namespaces.
    pub directory: Directory,
    /// Which of them are VPCs.
    pub of: VpcOf,
}

/// The watch.
pub(super) struct Watch {
    vpcs: Vpcs,
    state: Mutex<State>,
    /// By [`Leg::vpc`], where there are others to be heard.
    ears: tokio::sync::Mutex<HashMap<String, Ear>>,
    /// There is something to be done here.
    due: Notify,
    /// There is something to be told.
    pub(super) changed: Notify,
}

#[derive(Default)]
struct State {
    /// By [`Leg::vpc`].
    here: HashMap<String, Here>,
    peers: HashMap<String, Vec<Peer>>,
    unsaid: BTreeSet<String>,
    /// The control plane knows nothing yet.
    says_all: bool,
}

/// A VPC that is there.
#[derive(Clone, Debug)]
struct Here {
    name: String,
    inode: u64,
    /// This node's addresses there, with their subnets.
    networks: Vec<Ipv4Net>,
    look_at: Instant,
    rest: Duration,
    routes: BTreeSet<Route>,
    /// Nobody else is reached there.
    is_cut: bool,
}

impl Here {
    fn new(name: String, inode: u64) -> Self {
        Self {
            name,
            inode,
            networks: Vec::new(),
            look_at: Instant::now(),
            rest: LOOK_MIN,
            routes: BTreeSet::new(),
            is_cut: false,
        }
    }
}

/// Who else is in a VPC.
struct Others {
    here: Here,
    /// Each other's addresses that are next to ours.
    near: Vec<Vec<Ipv4Addr>>,
}

impl Watch {
    pub(super) fn new(vpcs: Vpcs) -> Self {
        Self {
            vpcs,
            state: Mutex::default(),
            ears: tokio::sync::Mutex::default(),
            due: Notify::new(),
            changed: Notify::new(),
        }
    }

    /// Watches for ever.
    pub(super) async fn run(&self) {
        loop {
            self.scan().await;
            self.look().await;
            self.route().await;
            self.listen().await;
            let _ = timeout(PERIOD, self.due.notified()).await;
        }
    }

    /// Whoever is told next knows nothing yet.
    pub(super) fn begin(&self) {
        self.state.lock().says_all = true;
    }

    /// What has to be told; nothing where nothing has changed.
    pub(super) fn news(&self) -> Option<Legs> {
        let mut state = self.state.lock();
        let all = std::mem::take(&mut state.says_all);
        let unsaid = std::mem::take(&mut state.unsaid);
        let is_here = |here: &Here| !here.is_cut;
        let leg = |(vpc, here): (&String, &Here)| Leg {
            vpc: vpc.clone(),
            addresses: here.networks.iter().map(Ipv4Net::addr).collect(),
        };
        if all {
            let here = state.here.iter().filter(|(_, here)| is_here(here));
            let here = here.map(leg).collect();
            let gone = Vec::new();
            return Some(Legs { all, here, gone });
        }
        let (here, gone): (Vec<_>, Vec<_>) = unsaid
            .into_iter()
            .partition(|vpc| state.here.get(vpc).is_some_and(is_here));
        let here = here.iter().filter_map(|vpc| state.here.get_key_value(vpc));
        let here: Vec<_> = here.map(leg).collect();
        (!here.is_empty() || !gone.is_empty()).then_some(Legs { all, here, gone })
    }

    /// Who else is in a VPC.
    pub(super) fn meet(&self, vpc: String, peers: Vec<Peer>) {
        self.state.lock().peers.insert(vpc, peers);
        self.due.notify_one();
    }

    /// Finds the VPCs that there are.
    pub(super) async fn scan(&self) {
        let directory = self.vpcs.directory.clone();
        let known: HashSet<(String, u64)> = {
            let state = self.state.lock();
            let known = state.here.values().map(|here| (here.name.clone(), here.inode));
            known.collect()
        };
        let found = tokio::task::spawn_blocking(move || {
            let names = directory.names("")?;
            let inode = |name: String| {
                let file = std::fs::metadata(directory.path().join(&name)).ok()?;
                let found = (name, file.ino());
                // Files whose namespace is gone stay behind.
                (known.contains(&found) || directory.has(&found.0)).then_some(found)
            };
            Ok::<_, adit_netns::DirectoryError>(names.into_iter().filter_map(inode).collect::<Vec<_>>())
        });
        let found = match found.await {
            Ok(Ok(found)) => found,
            Ok(Err(e)) => {
                return tracing::warn!(error = error_chain(&e), "The VPCs' namespaces cannot be listed.");
            }
            // The runtime ends.
            Err(_) => return,
        };
        let found: HashMap<String, (String, u64)> = found
            .into_iter()
            .filter_map(|(name, inode)| Some(((self.vpcs.of)(&name)?, (name, inode))))
            .collect();
        let mut state = self.state.lock();
        let state = &mut *state;
        let before = state.unsaid.len();
        for (vpc, _) in state.here.extract_if(|vpc, _| !found.contains_key(vpc)) {
            state.unsaid.insert(vpc);
        }
        for (vpc, (name, inode)) in found {
            if state.here.get(&vpc).is_none_or(|here| here.inode != inode) {
                state.here.insert(vpc.clone(), Here::new(name, inode));
                state.unsaid.insert(vpc);
            }
        }
        if state.unsaid.len() != before {
            self.changed.notify_one();
        }
    }

    /// Looks into the VPCs whose turn it is.
    async fn look(&self) {
        let now = Instant::now();
        let due: Vec<_> = {
            let state = self.state.lock();
            let due = state.here.iter().filter(|(_, here)| here.look_at <= now);
            let due = due.take(LOOKS_MAX);
            due.map(|(vpc, here)| (vpc.clone(), here.name.clone(), here.inode))
                .collect()
        };
        for (vpc, name, inode) in due {
            let networks = self.networks(&name).await;
            let mut state = self.state.lock();
            let Some(here) = state.here.get_mut(&vpc).filter(|here| here.inode == inode) else {
                continue;
            };
            here.rest = (here.rest * 2).min(LOOK_MAX);
            here.look_at = Instant::now() + here.rest;
            if let Some(networks) = networks.filter(|networks| here.networks != *networks) {
                (here.networks, here.rest) = (networks, LOOK_MIN);
                state.unsaid.insert(vpc);
                self.changed.notify_one();
            }
        }
    }

    /// This node's own addresses in a namespace: endpoints' stand alone, without a subnet.
    async fn networks(&self, name: &str) -> Option<Vec<Ipv4Net>> {
        let namespace = self.vpcs.directory.open(name).ok()?;
        let links = Links::open(&namespace).await.ok()?;
        let addresses = links.addresses().await.ok()?;
        let mut networks: Vec<_> = addresses
            .into_iter()
            .filter_map(|address| match address.network {
                IpNet::V4(network) => Some(network),
                IpNet::V6(_) => None,
            })
            .filter(|network| network.prefix_len() < 32 && !network.addr().is_loopback())
            .collect();
        networks.sort_unstable();
        Some(networks)
    }

    /// Asks the other gateways in each VPC whether they are there, and finds where this node is cut off from all of them.
    async fn listen(&self) {
        let wanted: HashMap<String, Others> = {
            let state = self.state.lock();
            let each = state.here.iter().filter_map(|(vpc, here)| {
                let peers = state.peers.get(vpc)?.iter();
                let near: Vec<Vec<Ipv4Addr>> = peers
                    .map(|peer| near(peer, &here.networks))
                    .filter(|near| !near.is_empty())
                    .collect();
                // One that is cut off is not, once there is nobody any more.
                (here.is_cut || !near.is_empty()).then(|| {
                    (
                        vpc.clone(),
                        Others {
                            here: here.clone(),
                            near,
                        },
                    )
                })
            });
            each.collect()
        };
        let mut ears = self.ears.lock().await;
        ears.retain(|vpc, ear| {
            wanted
                .get(vpc)
                .is_some_and(|others| ear.inode() == others.here.inode)
        });
        for (vpc, Others { here, near }) in wanted {
            let Here {
                name,
                inode,
                networks,
                ..
            } = here;
            let known = ears.len();
            let ear = match ears.entry(vpc.clone()) {
                Entry::Occupied(ear) => ear.into_mut(),
                Entry::Vacant(_) if known >= EARS_MAX => continue,
                Entry::Vacant(vacant) => vacant.insert(Ear::new(inode)),
            };
            let Ok(namespace) = self.vpcs.directory.open(&name) else {
                continue;
            };
            let Some(verdict) = ear.ask(&namespace, &networks, &near).await else {
                continue;
            };
            let mut state = self.state.lock();
            let Some(here) = state.here.get_mut(&vpc).filter(|here| here.inode == inode) else {
                continue;
            };
            here.is_cut = verdict == Verdict::Cut;
            match verdict {
                Verdict::Cut => tracing::warn!(
                    netns.name = name,
                    gateways = near.len(),
                    "This node is cut off in a VPC: none of the other gateways there answers. Its endpoints are left to them."
                ),
                Verdict::Reached => {
                    tracing::info!(netns.name = name, "Other gateways are reached in a VPC again.");
                }
            }
            state.unsaid.insert(vpc);
            self.changed.notify_one();
        }
    }

    /// Puts the routes that are missing. One that was put stays: who has lost a VPC has nothing under way there.
    async fn route(&self) {
        let due: Vec<_> = {
            let state = self.state.lock();
            let each = state.here.iter().filter_map(|(vpc, here)| {
                let mut wanted = routes(state.peers.get(vpc)?, &here.networks);
                wanted.retain(|route| !here.routes.contains(route));
                (!wanted.is_empty()).then(|| (vpc.clone(), here.clone(), wanted))
            });
            each.collect()
        };
        for (vpc, here, wanted) in due {
            match self.put(&here.name, &wanted).await {
                Ok(()) => {
                    let mut state = self.state.lock();
                    if let Some(known) = state.here.get_mut(&vpc).filter(|known| known.inode == here.inode) {
                        let same =
                            |route: &Route| wanted.iter().any(|new| new.destination == route.destination);
                        known.routes.retain(|route| !same(route));
                        known.routes.extend(wanted);
                    }
                }
                Err(e) => tracing::warn!(
                    netns.name = here.name,
                    error = error_chain(&*e),
                    "The other gateways cannot be reached in a VPC; trying on."
                ),
            }
        }
    }

    async fn put(
        &self,
        name: &str,
        routes: &BTreeSet<Route>,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let namespace = self.vpcs.directory.open(name)?;
        let links = Links::open(&namespace).await?;
        for route in routes {
            links.route_replace(route).await.map_err(|e: LinkError| e)?;
        }
        Ok(tokio::task::spawn_blocking(move || sysctl::apply(&namespace, FORWARDING)).await??)
    }
}

/// The routes to the others' source addresses, by those of their addresses that are next to one of ours.
fn routes(peers: &[Peer], networks: &[Ipv4Net]) -> BTreeSet<Route> {
    let route = |peer: &Peer| {
        Some(Route {
            destination: IpNet::V4(peer.slice),
            next_hop: NextHop::Gateway(IpAddr::V4(*near(peer, networks).first()?)),
        })
    };
    peers.iter().filter_map(route).collect()
}

/// Those of another gateway's addresses that are next to one of ours.
fn near(peer: &Peer, networks: &[Ipv4Net]) -> Vec<Ipv4Addr> {
    let is_near = |ip: &&Ipv4Addr| {
        // One of the same machine is here.
        let is_own = networks.iter().any(|network| network.addr() == **ip);
        !is_own && networks.iter().any(|network| network.contains(*ip))
    };
    peer.addresses.iter().filter(is_near).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_reached_by_an_address_that_is_next_to_ours() {
        let peer = |slice: &str, addresses: &[[u8; 4]]| Peer {
            slice: slice.parse().unwrap(),
            addresses: addresses.iter().map(|ip| (*ip).into()).collect(),
        };
        let networks = ["10.0.0.2/24", "10.0.1.2/24"].map(|text| text.parse().unwrap());
        let peers = [
            peer("198.19.128.0/22", &[[10, 9, 0, 3], [10, 0, 1, 3], [10, 0, 0, 3]]),
            // On our own machine, and where nothing of ours is.
            peer("198.19.132.0/22", &[[10, 0, 0, 2]]),
            peer("198.19.136.0/22", &[[10, 9, 0, 3]]),
        ];
        let found: Vec<_> = routes(&peers, &networks)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(found, ["198.19.128.0/22 via 10.0.1.3"]);
    }
}
