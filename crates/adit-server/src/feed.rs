//! The node feed, seen from the control plane: what gateways should serve, and what they say they do.
//!
//! Owns the record of what each gateway was told and has answered, and who of them serves which endpoint: all of them one
//! gateway of this process, or each the one that the placement names. Never decides a status: the endpoint's reconciler
//! does, on what it finds here. All of it is in memory, in the process whose reconcilers run; one that takes over fills it
//! from the documents ([`Feed::open`]) before it tells anybody anything, and gateways say again what they do.

mod examine;
mod namesake;
mod node;
mod owners;
mod settle;
mod specify;
mod subscription;
#[cfg(test)]
mod tests;
mod wanted;

use std::{
    collections::{BTreeSet, HashMap, HashSet, VecDeque},
    sync::Arc,
};

use adit_model::{
    feed::{EndpointReport, EndpointSpec, ProbedPort, Report},
    id::{EndpointId, ServiceId},
    node::{FeedPosition, NodeName},
    placement::Placement,
};
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

pub(crate) use examine::EXAMINATION_TIMEOUT;
use examine::Examinations;
use namesake::Namesakes;
use node::{Answer, Everything, Node, Told, asks_the_same};
use owners::{Owners, Spots, Vpcs};
pub(crate) use specify::drain_s;
pub use specify::specify;
pub use subscription::{Subscription, carry, null_gateway};
use wanted::{Unsettled, Wanted};

struct Inner {
    /// Whether what should be is known: nobody is told anything before.
    open: bool,
    wanted: Wanted,
    /// Of what of it gateways have yet to be told what follows.
    unsettled: Unsettled,
    /// Shards of which the gateway cannot serve everything: some of it is another's, or will be once one can.
    unfit: BTreeSet<usize>,
    /// The VPCs of what is wanted.
    vpcs: Vpcs,
    owners: Owners,
    nodes: HashMap<NodeName, Node>,
    namesakes: Namesakes,
    /// Gateways that are there and are to stay.
    staying: BTreeSet<NodeName>,
    /// Where gateways are in VPCs.
    spots: Spots,
    /// How the backends of services have answered when they were asked last.
    backends: HashMap<ServiceId, Vec<ProbedPort>>,
    /// Changes with them; begins anywhere, so that two processes' numbers differ.
    backends_number: u64,
    /// Who has begun to listen for what others serve yet, since when, and on which word.
    overlaps: VecDeque<(Instant, NodeName, EndpointId, u64)>,
    /// When it was last looked who is silent.
    looked: Instant,
    /// Of whom it was said once more that they listen, before others let go.
    announced: Vec<(NodeName, EndpointId, u64)>,
    /// Endpoints whose reconciler has something new to look at.
    dirty: HashSet<EndpointId>,
    examinations: Examinations,
    /// Counts subscriptions.
    subscriptions: u64,
    /// Counts endpoints that one gateway lets go of since another has them.
    moves: u64,
}

/// The feed.
pub struct Feed {
    inner: Mutex<Inner>,
    /// Changes with everything that a gateway is told.
    told: watch::Sender<()>,
    /// Counts reports, so that a waiter misses none.
    reported: watch::Sender<u64>,
    woken: Notify,
    /// There is more to be told than was told at once.
    unsettled: Notify,
}

/// What should be served when the feed opens. May come in pieces.
#[derive(Debug, Default)]
pub struct Beginning {
    wanted: Wanted,
    vpcs: Vpcs,
}

impl Extend<EndpointSpec> for Beginning {
    fn extend<I: IntoIterator<Item = EndpointSpec>>(&mut self, specs: I) {
        for mut spec in specs {
            self.vpcs.insert(&mut spec);
            self.wanted.insert(spec);
        }
    }
}

impl FromIterator<EndpointSpec> for Beginning {
    fn from_iter<I: IntoIterator<Item = EndpointSpec>>(specs: I) -> Self {
        let mut beginning = Self::default();
        beginning.extend(specs);
        beginning
    }
}

/// What the reconciler makes of an endpoint's state on its gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Serving {
    /// Every mapping of the present specification is listened on.
    Yes,
    /// Not yet; what it waits for, if that is known.
    NotYet(Option<String>),
}

impl Default for Feed {
    fn default() -> Self {
        Self::new()
    }
}

impl Feed {
    /// An empty feed that nobody listens to, and that is not open.
    pub fn new() -> Self {
        Self {
            inner: Mutex::new(Inner {
                open: false,
                wanted: Wanted::default(),
                unsettled: Unsettled::default(),
                unfit: BTreeSet::new(),
                vpcs: Vpcs::default(),
                owners: Owners::Placed(Arc::default()),
                nodes: HashMap::new(),
                namesakes: Namesakes::default(),
                staying: BTreeSet::new(),
                spots: Spots::new(),
                backends: HashMap::new(),
                backends_number: rand::random(),
                overlaps: VecDeque::new(),
                looked: Instant::now(),
                announced: Vec::new(),
                dirty: HashSet::new(),
                examinations: Examinations::default(),
                subscriptions: 0,
                moves: 0,
            }),
            told: watch::Sender::default(),
            reported: watch::Sender::default(),
            woken: Notify::new(),
            unsettled: Notify::new(),
        }
    }

    /// Begins to tell gateways what to do: `wanted` is all that is to be served, `leaving` what is on its way out and may be
    /// served yet. Gateways that `placement` names are waited for as if they had been heard of just now, and none is told
    /// anything before all of them have said what they can serve, or are let go of.
    pub fn open(
        &self,
        Beginning { wanted, vpcs }: Beginning,
        leaving: &[EndpointId],
        placement: Option<Arc<Placement>>,
    ) {
        let mut inner = self.inner.lock();
        let inner = &mut *inner;
        inner.wanted = wanted;
        inner.vpcs = vpcs;
        inner.staying.clear();
        if let (Owners::Placed(owners), Some(placement)) = (&mut inner.owners, placement) {
            for name in placement.loads().into_keys() {
                let node = inner.nodes.entry(name.clone()).or_insert_with(Node::new);
                node.is_awaited = node.about.is_none();
                leaving.iter().for_each(|id| node.tell_gone(*id));
                inner.staying.insert(name.clone());
            }
            *owners = placement;
        }
        inner.open = true;
        inner.looked = Instant::now();
        inner.unsettle_all();
        self.settle_first(inner);
        self.told.send_replace(());
    }

    /// Tells nobody anything any more: subscriptions end, and what gateways said is forgotten.
    pub fn close(&self) {
        let mut inner = self.inner.lock();
        inner.open = false;
        inner.wanted = Wanted::default();
        inner.unsettled = Unsettled::default();
        inner.unfit.clear();
        inner.vpcs = Vpcs::default();
        inner.nodes.clear();
        inner.namesakes = Namesakes::default();
        inner.overlaps.clear();
        inner.announced.clear();
        inner.staying.clear();
        inner.spots.clear();
        inner.examinations = Examinations::default();
        inner.backends.clear();
        inner.dirty.clear();
        self.told.send_replace(());
    }

    /// Whether gateways are told things here.
    pub fn is_open(&self) -> bool {
        self.inner.lock().open
    }

    /// The gateway of this process comes, and serves everything.
    pub fn subscribe_alone(self: &Arc<Self>, name: NodeName) -> Subscription {
        self.inner.lock().owners = Owners::Alone(name.clone());
        self.subscribe(name, None)
    }

    /// A gateway comes. One that goes on where it was gets what has changed since, any other everything, then each change. A
    /// former subscription of its name ends.
    pub fn subscribe(self: &Arc<Self>, name: NodeName, from: Option<FeedPosition>) -> Subscription {
        let mut inner = self.inner.lock();
        let inner = &mut *inner;
        inner.subscriptions += 1;
        let serial = inner.subscriptions;
        let known = inner.nodes.contains_key(&name);
        let node = inner.nodes.entry(name.clone()).or_insert_with(Node::new);
        node.subscription = serial;
        node.heard = Instant::now();
        let read = node.resume(from);
        if !known && inner.open {
            inner.unsettle_of(&name);
            self.settle_first(inner);
        }
        self.told.send_replace(());
        Subscription {
            feed: Arc::clone(self),
            changed: self.told.subscribe(),
            name,
            serial,
            read,
            first: Everything::default(),
        }
    }

    /// Says what should be served for an endpoint; the same again is nothing new.
    pub fn put(&self, mut spec: EndpointSpec) {
        let mut inner = self.inner.lock();
        let inner = &mut *inner;
        let id = spec.id;
        // A document may change without a change of what is served: then there is nothing to say.
        let known = inner.wanted.get(id);
        if !known.is_some_and(|known| asks_the_same(known, &spec)) {
            if let Some(known) = known.map(Arc::clone) {
                inner.vpcs.remove(&known);
            }
            inner.vpcs.insert(&mut spec);
            inner.wanted.insert(spec);
        }
        if inner.settle(id) {
            self.told.send_replace(());
        }
    }

    /// Says that nothing should be served for an endpoint, whose connections may go on for so many seconds. Answers whether
    /// nothing is.
    pub fn remove(&self, id: EndpointId, drain_s: u32) -> bool {
        let mut inner = self.inner.lock();
        // Whoever is yet to be told of it may serve it since another process has told so.
        if inner.unsettled.has(id) {
            inner.settle(id);
        }
        if let Some(spec) = inner.wanted.remove(id) {
            inner.vpcs.remove(&spec);
        }
        let mut told = false;
        let mut held = false;
        for node in inner.nodes.values_mut() {
            told |= node.tell_none(id, drain_s);
            held |= node.told.contains_key(&id);
        }
        if told {
            self.told.send_replace(());
        }
        !held
    }

    /// Whether nothing listens for an endpoint any more; its address may still be held.
    pub fn is_silent(&self, id: EndpointId) -> bool {
        let inner = self.inner.lock();
        let mut told = inner.nodes.values().filter_map(|node| node.told.get(&id));
        inner.knows(id)
            && told.all(|told| {
                let no_ports = told.spec.as_ref().is_some_and(|spec| spec.ports.is_empty());
                no_ports && told.listens()
            })
    }

    /// Whether what a specification asks for is so, `None` being that nothing is served.
    pub fn follows(&self, id: EndpointId, spec: Option<&EndpointSpec>) -> bool {
        let inner = self.inner.lock();
        let mut told = inner
            .nodes
            .values()
            .filter_map(|node| node.told.get(&id))
            .peekable();
        match spec {
            None => inner.knows(id) && told.peek().is_none(),
            Some(spec) => {
                let is_so = |told: &Told| told.spec.as_ref().is_some_and(|told| asks_the_same(told, spec));
                told.peek().is_some() && told.all(|told| told.listens() && is_so(told))
            }
        }
    }

    /// Changes with every report that counts.
    pub fn reported(&self) -> watch::Receiver<u64> {
        self.reported.subscribe()
    }

    /// Waits until there are endpoints whose reconciler has something new to look at, and takes them.
    pub async fn dirty(&self) -> HashSet<EndpointId> {
        loop {
            self.woken.notified().await;
            let dirty = std::mem::take(&mut self.inner.lock().dirty);
            if !dirty.is_empty() {
                return dirty;
            }
        }
    }

    fn said(&self) {
        self.reported.send_modify(|n| *n += 1);
        self.woken.notify_one();
    }

    /// Takes in what a gateway says.
    pub fn report(&self, name: &NodeName, report: Report) {
        let mut inner = self.inner.lock();
        let inner = &mut *inner;
        let Report { id, status } = report;
        if let EndpointReport::Examined { number, examination } = status {
            return inner.examinations.answer(number, examination);
        }
        let Some(node) = inner.nodes.get_mut(name) else {
            return;
        };
        let Some(told) = node.told.get_mut(&id) else {
            return;
        };
        if let EndpointReport::Contested { by } = &status {
            // One that is not the owner any more was told to let go of it, or is about to be; and until it has, it is that one.
            if told.spec.is_some() && inner.owner(id) == Some(name) && !inner.is_elsewhere(name, id) {
                tracing::warn!(
                    endpoint.id = %id, gateway.name = %name, station.mac = by,
                    "Another station has announced an endpoint's address: its gateway defends it."
                );
                inner
                    .nodes
                    .get_mut(name)
                    .into_iter()
                    .for_each(|node| node.defend(id));
                self.told.send_replace(());
            }
            return;
        }
        match (&told.spec, &status) {
            (Some(spec), EndpointReport::Backend { ports }) => {
                let former = inner.backends.insert(spec.service, ports.clone());
                if former.as_ref() != Some(ports) {
                    inner.backends_number = inner.backends_number.wrapping_add(1);
                }
                // Services come and go, and nobody tells of those that have gone.
                if inner.backends.len() > inner.wanted.len() {
                    let served: HashSet<_> = inner.wanted.iter().map(|spec| spec.service).collect();
                    inner.backends.retain(|service, _| served.contains(service));
                }
                return;
            }
            (None, EndpointReport::Removed) => {
                node.forget(id);
                inner.announce(id);
                self.told.send_replace(());
            }
            // It speaks of what it did before our last word.
            (None, _)
            | (
                Some(_),
                EndpointReport::Removed | EndpointReport::Examined { .. } | EndpointReport::Contested { .. },
            ) => return,
            (Some(spec), EndpointReport::Listening { generation }) => {
                if *generation != spec.generation {
                    return;
                }
                told.answer = Answer::Listening;
                inner.overlap(name, id);
            }
            (Some(spec), EndpointReport::Waiting { generation, reason }) => {
                if *generation != spec.generation {
                    return;
                }
                told.answer = Answer::Waiting(reason.as_str().into());
            }
        }
        // Whoever had it before may let go of it now.
        if inner.settle(id) {
            self.told.send_replace(());
        }
        inner.dirty.insert(id);
        self.said();
    }

    /// How a service's backend has answered when it was asked last; `None` where nobody has asked.
    pub fn backend(&self, service: ServiceId) -> Option<Vec<ProbedPort>> {
        self.inner.lock().backends.get(&service).cloned()
    }

    /// How all backends have answered when they were asked last, with a number that changes with that; the number alone to
    /// whoever knows it already.
    #[expect(clippy::type_complexity, reason = "pairs, as they are sent")]
    pub fn backends(&self, known: Option<u64>) -> (u64, Option<Vec<(ServiceId, Vec<ProbedPort>)>>) {
        let inner = self.inner.lock();
        let number = inner.backends_number;
        let all = || {
            inner
                .backends
                .iter()
                .map(|(id, ports)| (*id, ports.clone()))
                .collect()
        };
        (number, (known != Some(number)).then(all))
    }

    /// Which gateway is away that is to serve an endpoint, in words; `None` where it is there, or nobody is to.
    pub fn away(&self, id: EndpointId) -> Option<String> {
        let inner = self.inner.lock();
        let is_wanted = inner.open && inner.wanted.get(id).is_some();
        is_wanted.then(|| inner.its_gateway(id).err()).flatten()
    }

    /// How an endpoint is served.
    pub fn serving(&self, id: EndpointId) -> Serving {
        let inner = self.inner.lock();
        if !inner.open || inner.wanted.get(id).is_none() {
            return Serving::NotYet(None);
        }
        let (owner, node) = match inner.its_gateway(id) {
            Ok(there) => there,
            Err(away) => return Serving::NotYet(Some(away)),
        };
        match node.told.get(&id).map(|told| &told.answer) {
            Some(Answer::Listening) => Serving::Yes,
            Some(Answer::Waiting(reason)) => Serving::NotYet(Some(match &inner.owners {
                Owners::Alone(_) => reason.to_string(),
                Owners::Placed(_) => match inner.lack(id) {
                    None => format!("gateway {owner}: {reason}"),
                    Some(lack) => format!("gateway {owner}: {reason}; {lack}"),
                },
            })),
            Some(Answer::Nothing) | None => Serving::NotYet(inner.lack(id)),
        }
    }
}

impl Inner {
    /// The gateway that is to serve an endpoint, or in words that it is not there.
    fn its_gateway(&self, id: EndpointId) -> Result<(&NodeName, &Node), String> {
        let owner = self
            .owner(id)
            .ok_or_else(|| "no gateway has come yet".to_owned())?;
        let node = self.nodes.get(owner);
        node.map(|node| (owner, node))
            .ok_or_else(|| format!("gateway {owner} is away"))
    }

    /// Whether it is known who was told what of an endpoint.
    fn knows(&self, id: EndpointId) -> bool {
        self.open && !self.unsettled.has(id)
    }
}
