//! The node feed, seen from the control plane: what gateways should serve, and what they say they do.
//!
//! Owns the record of what each gateway was told and has answered, and who of them serves which endpoint: all of them one
//! gateway of this process, or each the one that the placement names. Never decides a status: the endpoint's reconciler
//! does, on what it finds here. All of it is in memory, in the process whose reconcilers run; one that takes over fills it
//! from the documents ([`Feed::open`]) before it tells anybody anything, and gateways say again what they do.

mod examine;
mod node;
mod specify;
mod subscription;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeSet, HashMap, HashSet, VecDeque},
    sync::Arc,
    time::Duration,
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
use node::{Node, is_same};
pub(crate) use specify::drain_s;
pub use specify::specify;
pub use subscription::{Subscription, carry, null_gateway};

/// Who serves what.
#[derive(Debug)]
enum Owners {
    /// One gateway in this process, everything.
    Alone(NodeName),
    /// Each shard's.
    Placed(Arc<Placement>),
}

struct Inner {
    /// Whether what should be is known: nobody is told anything before.
    open: bool,
    wanted: HashMap<EndpointId, EndpointSpec>,
    owners: Owners,
    nodes: HashMap<NodeName, Node>,
    /// How the backends of services have answered when they were asked last.
    backends: HashMap<ServiceId, Vec<ProbedPort>>,
    /// Changes with them; begins anywhere, so that two processes' numbers differ.
    backends_number: u64,
    /// Who has begun to listen for what others serve yet, since when, and on which word.
    overlaps: VecDeque<(Instant, NodeName, EndpointId, u64)>,
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
                wanted: HashMap::new(),
                owners: Owners::Placed(Arc::default()),
                nodes: HashMap::new(),
                backends: HashMap::new(),
                backends_number: rand::random(),
                overlaps: VecDeque::new(),
                dirty: HashSet::new(),
                examinations: Examinations::default(),
                subscriptions: 0,
                moves: 0,
            }),
            told: watch::Sender::default(),
            reported: watch::Sender::default(),
            woken: Notify::new(),
        }
    }

    /// Begins to tell gateways what to do: `wanted` is all that is to be served, `leaving` what is on its way out and may be
    /// served yet. Gateways that `placement` names are waited for as if they had been heard of just now.
    pub fn open(
        &self,
        wanted: impl IntoIterator<Item = EndpointSpec>,
        leaving: &[EndpointId],
        placement: Option<Arc<Placement>>,
    ) {
        let mut inner = self.inner.lock();
        let inner = &mut *inner;
        inner.wanted = wanted.into_iter().map(|spec| (spec.id, spec)).collect();
        if let (Owners::Placed(owners), Some(placement)) = (&mut inner.owners, placement) {
            for name in placement.loads().into_keys() {
                let node = inner.nodes.entry(name.clone()).or_insert_with(Node::new);
                leaving.iter().for_each(|id| node.tell_gone(*id));
            }
            *owners = placement;
        }
        inner.open = true;
        let ids: Vec<_> = inner.wanted.keys().copied().collect();
        for id in ids {
            inner.settle(id);
        }
        self.told.send_replace(());
    }

    /// Tells nobody anything any more: subscriptions end, and what gateways said is forgotten.
    pub fn close(&self) {
        let mut inner = self.inner.lock();
        inner.open = false;
        inner.wanted.clear();
        inner.nodes.clear();
        inner.overlaps.clear();
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
            inner.settle_all();
        }
        self.told.send_replace(());
        Subscription {
            feed: Arc::clone(self),
            changed: self.told.subscribe(),
            name,
            serial,
            read,
            first: VecDeque::new(),
        }
    }

    /// A gateway says of itself that it is there; `false` where it is none that has come.
    pub fn heard(&self, about: adit_model::node::Node) -> bool {
        let mut inner = self.inner.lock();
        let Some(node) = inner.nodes.get_mut(&about.name) else {
            return false;
        };
        node.heard = Instant::now();
        node.about = Some(about);
        true
    }

    /// Every gateway that has said something of itself.
    pub fn nodes(&self) -> Vec<adit_model::node::Node> {
        let inner = self.inner.lock();
        inner
            .nodes
            .values()
            .filter_map(|node| node.about.clone())
            .collect()
    }

    /// How many gateways have come, and were heard of since.
    pub fn followers(&self) -> u64 {
        let inner = self.inner.lock();
        inner.nodes.values().filter(|node| node.subscription > 0).count() as u64
    }

    /// How many endpoints gateways were told to let go of since others have them.
    pub fn moves(&self) -> u64 {
        self.inner.lock().moves
    }

    /// Lets go of gateways that were not heard of for so long. What they served is others' from now on, and what they were
    /// to let go of counts as let go of. Answers the names of those that are left.
    pub fn expire(&self, silence: Duration) -> BTreeSet<NodeName> {
        let mut inner = self.inner.lock();
        let inner = &mut *inner;
        if let Owners::Alone(name) = &inner.owners {
            return [name.clone()].into();
        }
        let gone: Vec<_> = inner
            .nodes
            .extract_if(|_, node| node.heard.elapsed() > silence)
            .collect();
        for (name, node) in gone {
            tracing::warn!(gateway.name = %name, "A gateway was not heard of for {} s.", silence.as_secs());
            inner.dirty.extend(node.told.into_keys());
            self.said();
        }
        inner.nodes.keys().cloned().collect()
    }

    /// Has gateways let go of what another one has listened for as long as `overlap`. Until then neighbours may not have heard
    /// that the address has moved, and both serve.
    pub fn let_go(&self, overlap: Duration) {
        let mut inner = self.inner.lock();
        let mut said = false;
        while let Some((since, ..)) = inner.overlaps.front()
            && since.elapsed() >= overlap
            && let Some((_, name, id, revision)) = inner.overlaps.pop_front()
        {
            let told = inner.nodes.get_mut(&name).and_then(|node| node.told.get_mut(&id));
            if let Some(told) = told.filter(|told| told.revision() == revision) {
                told.is_known = true;
                said |= inner.settle(id);
            }
        }
        if said {
            self.told.send_replace(());
        }
    }

    /// Whether one gateway of this process serves everything.
    pub fn is_alone(&self) -> bool {
        matches!(self.inner.lock().owners, Owners::Alone(_))
    }

    /// Follows a placement from now on; the same again is nothing new.
    pub fn place(&self, placement: Arc<Placement>) {
        let mut inner = self.inner.lock();
        if let Owners::Placed(owners) = &mut inner.owners
            && owners.epoch() != placement.epoch()
        {
            *owners = placement;
            inner.settle_all();
            self.told.send_replace(());
        }
    }

    /// Says what should be served for an endpoint; the same again is nothing new.
    pub fn put(&self, spec: EndpointSpec) {
        let mut inner = self.inner.lock();
        let id = spec.id;
        // A document may change without a change of what is served: then there is nothing to say.
        if !is_same(inner.wanted.get(&id), Some(&spec)) {
            inner.wanted.insert(id, spec);
        }
        if inner.settle(id) {
            self.told.send_replace(());
        }
    }

    /// Says that nothing should be served for an endpoint, whose connections may go on for so many seconds. Answers whether
    /// nothing is.
    pub fn remove(&self, id: EndpointId, drain_s: u32) -> bool {
        let mut inner = self.inner.lock();
        inner.wanted.remove(&id);
        let mut told = false;
        let mut held = false;
        for node in inner.nodes.values_mut() {
            told |= node.tell(id, None, drain_s);
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
        inner.open
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
            None => inner.open && told.peek().is_none(),
            Some(_) => told.peek().is_some() && told.all(|t| t.listens() && is_same(t.spec.as_ref(), spec)),
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
                    let served: HashSet<_> = inner.wanted.values().map(|spec| spec.service).collect();
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
            (
                Some(spec),
                EndpointReport::Listening { generation } | EndpointReport::Waiting { generation, .. },
            ) => {
                if *generation != spec.generation {
                    return;
                }
                told.report = Some(status);
                inner.overlap(name, id);
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

    /// How an endpoint is served.
    pub fn serving(&self, id: EndpointId) -> Serving {
        let inner = self.inner.lock();
        if !inner.open || !inner.wanted.contains_key(&id) {
            return Serving::NotYet(None);
        }
        let Some(owner) = inner.owner(id) else {
            return Serving::NotYet(Some("no gateway has come yet".to_owned()));
        };
        let Some(node) = inner.nodes.get(owner) else {
            return Serving::NotYet(Some(format!("gateway {owner} has not come")));
        };
        match node.told.get(&id).and_then(|told| told.report.as_ref()) {
            Some(EndpointReport::Listening { .. }) => Serving::Yes,
            Some(EndpointReport::Waiting { reason, .. }) => Serving::NotYet(Some(match &inner.owners {
                Owners::Alone(_) => reason.clone(),
                Owners::Placed(_) => format!("gateway {owner}: {reason}"),
            })),
            _ => Serving::NotYet(None),
        }
    }
}

impl Inner {
    fn owner(&self, id: EndpointId) -> Option<&NodeName> {
        match &self.owners {
            Owners::Alone(name) => Some(name),
            Owners::Placed(placement) => placement.owner(id),
        }
    }

    /// Whether another gateway may serve an endpoint, too.
    fn is_elsewhere(&self, name: &NodeName, id: EndpointId) -> bool {
        let mut others = self.nodes.iter().filter(|(other, _)| *other != name);
        others.any(|(_, other)| other.told.contains_key(&id))
    }

    /// A gateway has said how it serves an endpoint: where others serve it yet, the time begins in which both do.
    fn overlap(&mut self, name: &NodeName, id: EndpointId) {
        let elsewhere = self.is_elsewhere(name, id);
        let told = self.nodes.get_mut(name).and_then(|node| node.told.get_mut(&id));
        let Some(told) = told.filter(|told| told.listens() && !told.is_known) else {
            return;
        };
        match elsewhere {
            false => told.is_known = true,
            true => {
                let entry = (Instant::now(), name.clone(), id, told.revision());
                self.overlaps.push_back(entry);
            }
        }
    }

    /// Another gateway has let go of an endpoint. Whoever has asked for its address meanwhile may have heard of that one.
    fn announce(&mut self, id: EndpointId) {
        let Some(owner) = self.owner(id).cloned() else {
            return;
        };
        let node = self.nodes.get_mut(&owner);
        let listens = |node: &&mut Node| node.told.get(&id).is_some_and(node::Told::listens);
        if let Some(node) = node.filter(listens) {
            node.defend(id);
        }
    }

    /// Tells gateways what follows for one endpoint: its owner is to serve it, and whoever else does is to let go of it, but
    /// not before its owner has listened for a while, unless it cannot listen beside the other, or would serve it in a
    /// way that is over. Answers whether anything was said.
    fn settle(&mut self, id: EndpointId) -> bool {
        let (Some(spec), Some(owner)) = (self.wanted.get(&id), self.owner(id).cloned()) else {
            return false;
        };
        let (spec, drain_s) = (spec.clone(), spec.drain_s);
        let Some(node) = self.nodes.get_mut(&owner) else {
            return false;
        };
        let mut said = node.tell(id, Some(spec), drain_s);
        let told = node.told.get(&id).filter(|told| told.listens());
        let (listens, is_known) = (told.is_some(), told.is_some_and(|told| told.is_known));
        let wanted = self.wanted.get(&id);
        let machine = node.about.as_ref().map(|about| about.machine.clone());
        let others = self.nodes.iter_mut().filter(|(name, _)| **name != owner);
        for (_, other) in others {
            let is_over = |told: &node::Told| !is_same(told.spec.as_ref(), wanted);
            let over = listens && other.told.get(&id).is_some_and(is_over);
            if is_known || over || other.is_beside(machine.as_deref()) {
                let told = other.tell(id, None, 0);
                self.moves += u64::from(told);
                said |= told;
            }
        }
        said
    }

    fn settle_all(&mut self) {
        let ids: Vec<_> = self.wanted.keys().copied().collect();
        for id in ids {
            self.settle(id);
        }
    }
}
