//! Doing what was planned: addresses in the kernel, listeners in the relay.
//!
//! Holds the handles (namespaces, netlink sockets, listener ids) that actions need, and no opinion on which to do.

mod address;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::{Ipv4Addr, SocketAddrV4},
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
    time::Duration,
};

use adit_model::{
    error_chain,
    feed::{EndpointSpec, Ingress},
    id::EndpointId,
    network::RESERVED,
};
use adit_netns::{
    Directory, DirectoryError, LinkError, Links, Namespace, NextHop, Renewal, Route, sysctl::SysctlError,
};
use adit_relay::{
    Admission, Backend, Close, Consumer, Inherited, Listener, ListenerId, OpenError, Owner, Relay,
    RetargetError, Stalled,
};
use ipnet::{IpNet, Ipv4Net};
use parking_lot::Mutex;
use tokio::sync::mpsc;

use crate::gate::{self, Gate};
use crate::neighbours::{Conflict, Neighbours};
use crate::plan::{Action, At, HeldAddress, NoNetworkNumber, Place, Rest, Target, Wanted, header};

/// Why an action was not done. All of them may pass: the action is tried again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApplyError {
    /// A namespace is not there.
    #[error("namespace {name} is not there")]
    Namespace { name: String, source: DirectoryError },
    /// The consumer's VPC has no such subnet on this node.
    #[error("no link in namespace {namespace} has an address of subnet {subnet}")]
    NoLink { namespace: String, subnet: Ipv4Net },
    /// An address or a route.
    #[error("the kernel refuses")]
    Link(#[from] LinkError),
    /// A descriptor of a namespace.
    #[error("no descriptor can be had")]
    Descriptor(#[source] std::io::Error),
    /// Every source address is another endpoint's.
    #[error(
        "no address of {slice}, this gateway's part of the source addresses, is free in namespace {namespace}"
    )]
    NoSource { namespace: String, slice: Ipv4Net },
    /// A socket for address resolution.
    #[error("the neighbours cannot be spoken to")]
    Neighbours(#[source] std::io::Error),
    /// A setting of a namespace.
    #[error("the kernel refuses a setting")]
    Setting(#[from] SysctlError),
    /// The way to a gateway endpoint's blocks.
    #[error("every address of {0} is taken in the consumer's VPC")]
    NoLinkAddress(Ipv4Net),
    /// The plan opens listeners behind a gate that is there, and behind none else.
    #[error("nothing leads to the endpoint's blocks")]
    NoGate,
    /// A listener.
    #[error("the listener cannot be opened")]
    Open(#[from] OpenError),
    /// A listener's target.
    #[error("the listener cannot be sent elsewhere")]
    Retarget(#[from] RetargetError),
    /// The header.
    #[error(transparent)]
    Header(#[from] NoNetworkNumber),
    /// Connections that may go on for a while.
    #[error("{0} connections are being drained")]
    Draining(u32),
    /// The relay is busy.
    #[error("the listener cannot be closed")]
    Close(#[from] Stalled),
    /// The runtime is being shut down.
    #[error("the work was cut short")]
    Cancelled(#[from] tokio::task::JoinError),
}

/// A namespace with what is needed to work in it.
#[derive(Clone)]
struct Entered {
    place: Place,
    namespace: Namespace,
    descriptor: Arc<OwnedFd>,
    links: Links,
    /// By subnet, the link that has an address in it: found once, and again after the kernel has refused it.
    subnets: Arc<Mutex<HashMap<Ipv4Net, String>>>,
    /// By link, who else is on it.
    neighbours: Arc<tokio::sync::Mutex<HashMap<String, Arc<Neighbours>>>>,
    /// The endpoints' addresses that are to be here. Whoever renews or announces one looks here, and keeps this locked
    /// meanwhile: what was removed since the list of them was made would come back otherwise.
    present: Arc<Mutex<HashSet<Ipv4Addr>>>,
    /// By which addresses here are renewed.
    renewal: Arc<tokio::sync::OnceCell<Renewal>>,
    /// The source addresses that are local here: made so when it is first a provider's.
    sources: Arc<tokio::sync::Mutex<HashSet<Ipv4Net>>>,
}

impl Entered {
    async fn link_in(&self, subnet: Ipv4Net) -> Result<String, ApplyError> {
        if let Some(known) = self.subnets.lock().get(&subnet) {
            return Ok(known.clone());
        }
        let link = self.links.link_in(IpNet::V4(subnet)).await?;
        let link = link.ok_or_else(|| ApplyError::NoLink {
            namespace: self.place.name.clone(),
            subnet,
        })?;
        self.subnets.lock().insert(subnet, link.name.clone());
        Ok(link.name)
    }

    /// Makes the source addresses local again that somebody has taken the route of; answers which those were.
    async fn mend_sources(&self) -> Result<Vec<Ipv4Net>, LinkError> {
        let sources = self.sources.lock().await;
        if sources.is_empty() {
            return Ok(Vec::new());
        }
        let routes: HashSet<_> = self.links.routes().await?.into_iter().collect();
        let mut mended = Vec::new();
        for slice in sources.iter() {
            let route = local(*slice);
            if !routes.contains(&route) {
                self.links.route_add(&route).await?;
                mended.push(*slice);
            }
        }
        Ok(mended)
    }

    /// Makes a gateway's source addresses local: `ip route add local 198.19.128.0/17 dev lo`.
    async fn make_local(&self, slice: Ipv4Net) -> Result<(), LinkError> {
        let mut sources = self.sources.lock().await;
        if !sources.contains(&slice) {
            self.links.route_add(&local(slice)).await?;
            sources.insert(slice);
        }
        Ok(())
    }
}

fn local(slice: Ipv4Net) -> Route {
    Route {
        destination: IpNet::V4(slice),
        next_hop: NextHop::Local,
    }
}

/// What holds for all that an endpoint has.
#[derive(Clone)]
pub(crate) struct Terms {
    owner: Owner,
    admission: Admission,
    /// What becomes of connections once nothing is served.
    ending: Close,
}

impl Terms {
    /// Of an endpoint that is served as its specification says.
    pub(crate) fn of(spec: &EndpointSpec, ending: Close) -> Self {
        Self {
            owner: Owner {
                endpoint: spec.id.0.as_u128(),
                service: spec.service.0.as_u128(),
                marker: spec.marker.get(),
            },
            admission: Admission {
                max_connections: spec.connections_max,
                new_per_second: spec.new_per_second_max,
                allowed: spec.allowed.as_ref().map(|allowed| allowed.as_slice().into()),
            },
            ending,
        }
    }

    /// Of an endpoint that is not served any more.
    pub(crate) fn without(id: EndpointId, ending: Close) -> Self {
        Self {
            owner: id.0.as_u128().into(),
            admission: Admission::default(),
            ending,
        }
    }
}

/// The handles.
pub(crate) struct Apply {
    directory: Directory,
    relay: Arc<Relay>,
    /// For how many seconds an address is there unless it is renewed.
    address_life_s: Option<u32>,
    /// By name; an entry whose file denotes another namespace is replaced.
    entered: tokio::sync::Mutex<HashMap<String, Entered>>,
    /// Namespaces that were found replaced since [`Apply::gone`] was last asked.
    replaced: Mutex<Vec<Place>>,
    listeners: Mutex<HashMap<(EndpointId, u16), ListenerId>>,
    /// What blocks lead to. Opened and closed one at a time.
    gates: tokio::sync::Mutex<HashMap<EndpointId, Gate>>,
    /// What a process before this one has handed over.
    inherited: Option<Arc<Inherited>>,
    /// Where it is said who else has an address that is held here.
    conflicts: mpsc::Sender<Conflict>,
}

impl Apply {
    pub(crate) fn new(
        directory: Directory,
        relay: Arc<Relay>,
        inherited: Option<Arc<Inherited>>,
        address_life_s: Option<u32>,
        conflicts: mpsc::Sender<Conflict>,
    ) -> Self {
        Self {
            directory,
            relay,
            address_life_s,
            entered: tokio::sync::Mutex::default(),
            replaced: Mutex::default(),
            listeners: Mutex::default(),
            gates: tokio::sync::Mutex::default(),
            inherited,
            conflicts,
        }
    }

    /// The gates' namespaces, by their endpoints: without names, so another process has them from this one or not at all.
    pub(crate) async fn gates(&self) -> Vec<(u128, Arc<OwnedFd>)> {
        let gates = self.gates.lock().await;
        let each = gates.iter();
        each.map(|(id, gate)| (id.0.as_u128(), Arc::clone(&gate.descriptor)))
            .collect()
    }

    /// Lets go of the gates, which are another process's now.
    pub(crate) async fn forget_gates(&self) {
        self.gates.lock().await.clear();
    }

    /// Finds the namespaces and the link that a specification speaks of.
    pub(crate) async fn find(&self, spec: &EndpointSpec) -> Result<Wanted, ApplyError> {
        let consumer = self.enter(&spec.consumer.namespace).await?;
        let provider = self.enter(&spec.provider.namespace).await?;
        if spec.provider.source.is_unspecified() {
            let (namespace, slice) = (spec.provider.namespace.to_string(), spec.provider.slice);
            let slice = slice.unwrap_or(RESERVED);
            return Err(ApplyError::NoSource { namespace, slice });
        }
        provider
            .make_local(spec.provider.slice.unwrap_or(RESERVED))
            .await?;
        let (link, at) = match &spec.consumer.ingress {
            Ingress::Address { ip, subnet } => (consumer.link_in(*subnet).await?, At::Address(*ip)),
            Ingress::Blocks(blocks) => (gate::link_name(spec.id), At::Blocks(blocks.as_slice().into())),
        };
        let header = header(spec)?;
        let backend = |port| match (spec.provider.backend, &at) {
            (Some(ip), _) if spec.provider.more_backends.is_empty() => SocketAddrV4::new(ip, port).into(),
            (Some(ip), _) => {
                let all = [ip]
                    .into_iter()
                    .chain(spec.provider.more_backends.iter().copied());
                Backend::InTurn(all.map(|ip| SocketAddrV4::new(ip, port)).collect())
            }
            (None, At::Blocks(blocks)) => Backend::AsDialled(Arc::clone(blocks)),
            // Its own address leads nowhere but to itself.
            (None, At::Address(_)) => Backend::AsDialled(Arc::new([])),
        };
        let target = |port| Target {
            place: provider.place.clone(),
            source: spec.provider.source,
            backend: backend(port),
            header: header.clone(),
            toa: spec.tcp_proxy.has_toa(),
        };
        Ok(Wanted {
            listeners: spec
                .ports
                .iter()
                .map(|m| (m.client_port, target(m.server_port)))
                .collect::<BTreeMap<_, _>>(),
            address: HeldAddress {
                place: consumer.place,
                link,
                at,
            },
        })
    }

    /// Opens a namespace, or takes the open one if its file still denotes it.
    async fn enter(&self, name: &str) -> Result<Entered, ApplyError> {
        let mut entered = self.entered.lock().await;
        if let Some(known) = entered.get(name).filter(|e| e.namespace.is_current()) {
            return Ok(known.clone());
        }
        // The former one must be let go of, or it lives on.
        self.replaced
            .lock()
            .extend(entered.remove(name).map(|former| former.place));
        let open = self.directory.open(name);
        let namespace = open.map_err(|source| ApplyError::Namespace {
            name: name.to_owned(),
            source,
        })?;
        let links = Links::open(&namespace).await?;
        let descriptor = namespace
            .as_fd()
            .try_clone_to_owned()
            .map_err(ApplyError::Descriptor)?;
        let place = Place {
            name: name.to_owned(),
            inode: namespace.inode(),
        };
        let fresh = Entered {
            place,
            namespace,
            descriptor: Arc::new(descriptor),
            links,
            subnets: Arc::default(),
            neighbours: Arc::default(),
            present: Arc::default(),
            renewal: Arc::default(),
            sources: Arc::default(),
        };
        entered.insert(name.to_owned(), fresh.clone());
        Ok(fresh)
    }

    /// The namespace of this very identity, if it is still there.
    async fn still(&self, place: &Place) -> Option<Entered> {
        let entered = self.entered.lock().await;
        entered
            .get(&place.name)
            .filter(|e| e.place == *place && e.namespace.is_current())
            .cloned()
    }

    /// The namespace of this very identity, if it is still there.
    pub(crate) async fn namespace(&self, place: &Place) -> Option<Namespace> {
        self.still(place).await.map(|entered| entered.namespace)
    }

    /// Whether there is a namespace of this name.
    pub(crate) async fn is_there(&self, name: &str) -> bool {
        self.enter(name).await.is_ok()
    }

    /// The namespaces that are not there any more, or not as they were. Costs a look at each namespace's file.
    pub(crate) async fn gone(&self) -> HashSet<Place> {
        let mut entered = self.entered.lock().await;
        let mut gone: HashSet<_> = self.replaced.lock().drain(..).collect();
        gone.extend(
            entered
                .extract_if(|_, e| !e.namespace.is_current())
                .map(|(_, e)| e.place),
        );
        gone
    }

    /// Puts back the routes of source addresses that somebody has removed.
    pub(crate) async fn mend_sources(&self) {
        let all: Vec<_> = self.entered.lock().await.values().cloned().collect();
        for entered in all {
            let netns = &entered.place.name;
            match entered.mend_sources().await {
                Ok(mended) => {
                    for slice in mended {
                        tracing::warn!(netns.name = netns, %slice, "Somebody has removed the route of the source addresses; it is put back.");
                    }
                }
                Err(e) => {
                    tracing::warn!(
                        netns.name = netns,
                        error = error_chain(&e),
                        "It is not known whether the source addresses are local."
                    );
                }
            }
        }
    }

    /// Sets who is let in through an endpoint's open listeners from now on.
    pub(crate) fn admit(&self, id: EndpointId, ports: impl Iterator<Item = u16>, terms: &Terms) {
        let listeners = self.listeners.lock();
        for listener in ports.filter_map(|port| listeners.get(&(id, port))) {
            self.relay.admit(*listener, terms.admission.clone());
        }
    }

    /// How many connections an endpoint has, whatever listener they came in by.
    pub(crate) fn connections(&self, id: EndpointId) -> u32 {
        self.relay.active(id.0.as_u128())
    }

    /// Does one thing for an endpoint whose address is held as `address` (where it is needed).
    pub(crate) async fn perform(
        &self,
        id: EndpointId,
        address: Option<&HeldAddress>,
        terms: &Terms,
        action: &Action,
    ) -> Result<(), ApplyError> {
        match action {
            Action::Close(port, rest) => self.close(id, *port, *rest).await,
            Action::EndConnections(rest) => {
                let how = match rest {
                    Rest::Cut => Close::Cut,
                    Rest::GoOn => terms.ending,
                };
                let (relay, owner) = (Arc::clone(&self.relay), terms.owner.endpoint);
                Ok(tokio::task::spawn_blocking(move || relay.end(owner, how)).await??)
            }
            // Without the address they could not go on.
            Action::RemoveAddress(_) if self.connections(id) > 0 => {
                Err(ApplyError::Draining(self.connections(id)))
            }
            Action::RemoveAddress(held) => self.remove_address(id, held).await,
            Action::AddAddress(held) => self.add_address(id, held).await,
            Action::Retarget(port, target) => {
                let target = self.target(target).await?;
                let Some(listener) = self.listeners.lock().get(&(id, *port)).copied() else {
                    return Err(RetargetError::Unknown.into());
                };
                let relay = Arc::clone(&self.relay);
                Ok(tokio::task::spawn_blocking(move || relay.retarget(listener, target)).await??)
            }
            Action::Open(port, target) => match address {
                Some(address) => self.open(id, *port, address, target, terms).await,
                // The plan opens listeners on an address that is held, and on none else.
                None => {
                    Err(OpenError::AddressNotAvailable(SocketAddrV4::new([0, 0, 0, 0].into(), *port)).into())
                }
            },
        }
    }

    async fn target(&self, target: &Target) -> Result<adit_relay::Target, ApplyError> {
        let provider = self.enter(&target.place.name).await?;
        Ok(adit_relay::Target {
            namespace: provider.descriptor,
            source: target.source,
            backend: target.backend.clone(),
            header: target.header.clone(),
            toa: target.toa,
        })
    }

    async fn open(
        &self,
        id: EndpointId,
        port: u16,
        address: &HeldAddress,
        target: &Target,
        terms: &Terms,
    ) -> Result<(), ApplyError> {
        let (namespace, ip) = match &address.at {
            At::Address(ip) => (self.enter(&address.place.name).await?.descriptor, *ip),
            At::Blocks(_) => {
                let gate = self.gates.lock().await.get(&id).cloned();
                let gate = gate.ok_or(ApplyError::NoGate)?;
                (gate.descriptor, Ipv4Addr::UNSPECIFIED)
            }
        };
        let listener = Listener {
            owner: terms.owner,
            consumer: Consumer {
                namespace,
                address: SocketAddrV4::new(ip, port),
            },
            provider: self.target(target).await?,
            admission: terms.admission.clone(),
        };
        let relay = Arc::clone(&self.relay);
        let opened = tokio::task::spawn_blocking(move || relay.open(listener)).await??;
        self.listeners.lock().insert((id, port), opened);
        Ok(())
    }

    async fn close(&self, id: EndpointId, port: u16, rest: Rest) -> Result<(), ApplyError> {
        let Some(listener) = self.listeners.lock().get(&(id, port)).copied() else {
            return Ok(());
        };
        let relay = Arc::clone(&self.relay);
        let how = match rest {
            Rest::Cut => Close::Cut,
            Rest::GoOn => Close::Drain {
                within: Duration::MAX,
            },
        };
        tokio::task::spawn_blocking(move || relay.close(listener, how)).await??;
        self.listeners.lock().remove(&(id, port));
        Ok(())
    }
}
