//! One gateway's side of the feed: what it was told, in which order, and what it has answered.
//!
//! Changes are numbered. Of one endpoint only the last change counts, so that what waits for a slow gateway is never more
//! than one change for each endpoint, and a gateway that comes again goes on where it was.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
};

use adit_model::{
    feed::{EndpointSpec, FeedEvent, Peer},
    id::EndpointId,
    node::FeedPosition,
};
use ipnet::Ipv4Net;
use tokio::time::Instant;
use uuid::Uuid;

use super::owners::Abilities;

/// What a gateway was told of one endpoint, and has answered.
#[derive(Clone, Debug)]
pub(super) struct Told {
    /// The number of the change that told it.
    revision: u64,
    /// What to serve; `None` is nothing.
    pub(super) spec: Option<Arc<EndpointSpec>>,
    /// The gateway's source addresses, of which it was told with that.
    slice: Option<Ipv4Net>,
    /// How many seconds connections may go on, where nothing is to be served.
    drain_s: u32,
    /// What it answered last to that.
    pub(super) answer: Answer,
    /// Whether it has listened for so long that everybody has heard of it, or was never anybody's before.
    pub(super) is_known: bool,
    /// Whether it is the one to serve the endpoint, as it was looked at last.
    pub(super) is_owner: bool,
}

/// How an endpoint stands on a gateway, by its own word.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    /// It has said nothing yet.
    Nothing,
    /// It listens as it was told.
    Listening,
    /// It does not yet: what it waits for.
    Waiting(Box<str>),
}

impl Told {
    /// Whether it listens as it was told.
    pub(super) fn listens(&self) -> bool {
        self.spec.is_some() && matches!(self.answer, Answer::Listening)
    }

    /// Which word it is.
    pub(super) fn revision(&self) -> u64 {
        self.revision
    }
}

/// One gateway.
#[derive(Debug)]
pub(super) struct Node {
    incarnation: Uuid,
    revision: u64,
    pub(super) told: HashMap<EndpointId, Told>,
    changes: BTreeMap<u64, Subject>,
    /// By VPC, what it was told of who else is there, and by which change.
    peers: HashMap<String, (u64, Vec<Peer>)>,
    /// Questions, and answers to its own, that are told once, and to nobody who comes later.
    pub(super) questions: VecDeque<FeedEvent>,
    /// Counts its subscriptions: the last one is the one that counts.
    pub(super) subscription: u64,
    /// When it was last heard of.
    pub(super) heard: Instant,
    /// What it says of itself.
    pub(super) about: Option<adit_model::node::Node>,
    /// What it says that it can serve.
    pub(super) abilities: Abilities,
    /// Whether nobody is told anything before it has said that.
    pub(super) is_awaited: bool,
}

/// What a change is about.
#[derive(Clone, Debug)]
enum Subject {
    Endpoint(EndpointId),
    /// Who else is in a VPC.
    Vpc(String),
}

impl Node {
    pub(super) fn new() -> Self {
        Self {
            incarnation: Uuid::new_v4(),
            revision: 0,
            told: HashMap::new(),
            changes: BTreeMap::new(),
            peers: HashMap::new(),
            questions: VecDeque::new(),
            subscription: 0,
            heard: Instant::now(),
            about: None,
            abilities: Abilities::default(),
            is_awaited: false,
        }
    }

    /// Whether it shares a machine, and so the VPCs' namespaces, with another: the two cannot listen for one endpoint.
    pub(super) fn is_beside(&self, machine: Option<&str>) -> bool {
        let own = self.about.as_ref().map(|about| about.machine.as_str());
        own.is_some_and(|own| !own.is_empty()) && own == machine
    }

    /// Tells it what to serve, by a source address of its own; the same again is nothing new. Answers whether it is new.
    pub(super) fn tell(
        &mut self,
        id: EndpointId,
        spec: Option<&Arc<EndpointSpec>>,
        slice: Option<Ipv4Net>,
        drain_s: u32,
    ) -> bool {
        match (self.told.get(&id), spec) {
            (None, None) => return false,
            // A drain that is to end sooner is news, though nothing was to be served before.
            (Some(told), None) if told.spec.is_none() && told.drain_s > drain_s => {}
            (Some(told), _) if is_same(told.spec.as_ref(), spec) && told.slice == slice => return false,
            _ => {}
        }
        self.note(id, spec.cloned(), slice, drain_s);
        true
    }

    /// Tells it to serve nothing; the same again is nothing new. Answers whether it is new.
    pub(super) fn tell_none(&mut self, id: EndpointId, drain_s: u32) -> bool {
        self.tell(id, None, None, drain_s)
    }

    /// Tells it that nothing is to be served, though it is not known whether it ever was.
    pub(super) fn tell_gone(&mut self, id: EndpointId) {
        self.note(id, None, None, 0);
    }

    fn note(
        &mut self,
        id: EndpointId,
        spec: Option<Arc<EndpointSpec>>,
        slice: Option<Ipv4Net>,
        drain_s: u32,
    ) {
        self.revision += 1;
        self.changes.insert(self.revision, Subject::Endpoint(id));
        let told = Told {
            revision: self.revision,
            spec,
            slice,
            drain_s,
            answer: Answer::Nothing,
            is_known: false,
            is_owner: false,
        };
        if let Some(former) = self.told.insert(id, told) {
            self.changes.remove(&former.revision);
        }
    }

    /// Tells it who else is in a VPC; the same again is nothing new.
    pub(super) fn tell_peers(&mut self, vpc: &str, peers: Vec<Peer>) {
        let former = self.peers.get(vpc);
        if former.map_or(&[][..], |(_, peers)| peers) == peers {
            return;
        }
        if let Some((revision, _)) = former {
            self.changes.remove(revision);
        }
        self.revision += 1;
        self.changes.insert(self.revision, Subject::Vpc(vpc.to_owned()));
        self.peers.insert(vpc.to_owned(), (self.revision, peers));
    }

    /// Tells it once that an endpoint's address is its own, whoever else has announced it.
    pub(super) fn defend(&mut self, id: EndpointId) {
        let word = FeedEvent::Defend { id };
        if !self.questions.contains(&word) {
            self.questions.push_back(word);
        }
    }

    /// Tells it once to say where an endpoint's address is.
    pub(super) fn announce(&mut self, id: EndpointId) {
        let word = FeedEvent::Announce { id };
        if !self.questions.contains(&word) {
            self.questions.push_back(word);
        }
    }

    /// It has let go of an endpoint as it was told.
    pub(super) fn forget(&mut self, id: EndpointId) {
        if let Some(told) = self.told.remove(&id) {
            self.changes.remove(&told.revision);
        }
    }

    /// Where a subscription goes on that has read as far as `from`; `None` where it needs everything.
    pub(super) fn resume(&self, from: Option<FeedPosition>) -> Option<u64> {
        let from = from.filter(|from| from.incarnation == self.incarnation)?;
        (from.revision <= self.revision).then_some(from.revision)
    }

    /// Everything, for one that knows nothing: what it answered before was another process's word.
    pub(super) fn snapshot(&mut self) -> (Everything, u64) {
        let mut endpoints = Vec::new();
        let mut rest = VecDeque::new();
        for (id, told) in &mut self.told {
            told.answer = Answer::Nothing;
            match &told.spec {
                Some(spec) => endpoints.push((Arc::clone(spec), told.slice)),
                None => rest.push_back(FeedEvent::Remove {
                    id: *id,
                    drain_s: told.drain_s,
                }),
            }
        }
        rest.extend(self.peers.iter().map(|(vpc, (_, peers))| FeedEvent::Peers {
            vpc: vpc.clone(),
            peers: peers.clone(),
        }));
        let endpoints = Some(endpoints.into_iter());
        (Everything { endpoints, rest }, self.revision)
    }

    /// The first change after one.
    pub(super) fn after(&self, revision: u64) -> Option<(u64, FeedEvent)> {
        let (revision, subject) = self.changes.range(revision + 1..).next()?;
        let id = match subject {
            Subject::Endpoint(id) => id,
            Subject::Vpc(vpc) => {
                let (_, peers) = self.peers.get(vpc)?;
                let (vpc, peers) = (vpc.clone(), peers.clone());
                return Some((*revision, FeedEvent::Peers { vpc, peers }));
            }
        };
        let told = self.told.get(id)?;
        let event = match &told.spec {
            Some(spec) => FeedEvent::Put {
                endpoint: with_slice(spec, told.slice),
            },
            None => FeedEvent::Remove {
                id: *id,
                drain_s: told.drain_s,
            },
        };
        Some((*revision, event))
    }

    /// A number of its changes as a position in its feed.
    pub(super) fn position(&self, revision: u64) -> FeedPosition {
        FeedPosition {
            incarnation: self.incarnation,
            revision,
        }
    }
}

/// Endpoints in one piece of a snapshot: a line of some hundred kilobytes.
const PIECE: usize = 256;

/// What is left of everything that a gateway is told at first. Holds what the documents say once, however many gateways are
/// told it; each piece is made when its turn comes.
#[derive(Debug, Default)]
pub(super) struct Everything {
    /// What is to be served; `None` once all of it was told.
    endpoints: Option<std::vec::IntoIter<(Arc<EndpointSpec>, Option<Ipv4Net>)>>,
    /// What goes with it.
    rest: VecDeque<FeedEvent>,
}

impl Everything {
    pub(super) fn is_empty(&self) -> bool {
        self.endpoints.is_none() && self.rest.is_empty()
    }

    /// Whether a gateway that has had what came so far knows nothing of what is no more.
    pub(super) fn is_open(&self) -> bool {
        self.endpoints.is_some()
    }
}

impl Iterator for Everything {
    type Item = FeedEvent;

    fn next(&mut self) -> Option<FeedEvent> {
        let Some(left) = &mut self.endpoints else {
            return self.rest.pop_front();
        };
        let piece = left.take(PIECE).map(|(spec, slice)| with_slice(&spec, slice));
        let endpoints = piece.collect();
        let more = left.len() > 0;
        if !more {
            self.endpoints = None;
        }
        Some(FeedEvent::Snapshot { endpoints, more })
    }
}

/// What the documents say, with the gateway's own source addresses.
fn with_slice(spec: &EndpointSpec, slice: Option<Ipv4Net>) -> EndpointSpec {
    let mut spec = spec.clone();
    spec.provider.slice = slice;
    spec
}

/// Whether two specifications ask for the same, whichever documents they were made from.
pub(super) fn is_same(one: Option<&Arc<EndpointSpec>>, other: Option<&Arc<EndpointSpec>>) -> bool {
    match (one, other) {
        (None, None) => true,
        (Some(one), Some(other)) => Arc::ptr_eq(one, other) || asks_the_same(one, other),
        _ => false,
    }
}

/// The same of two that are at hand.
pub(super) fn asks_the_same(one: &EndpointSpec, other: &EndpointSpec) -> bool {
    let EndpointSpec {
        id,
        generation: _,
        service,
        marker,
        consumer,
        provider,
        ports,
        tcp_proxy,
        proxy,
        connections_max,
        new_per_second_max,
        drain_s,
        allowed,
    } = one;
    (id, service, marker, consumer, provider)
        == (
            &other.id,
            &other.service,
            &other.marker,
            &other.consumer,
            &other.provider,
        )
        && (ports, tcp_proxy, proxy) == (&other.ports, &other.tcp_proxy, &other.proxy)
        && (connections_max, new_per_second_max) == (&other.connections_max, &other.new_per_second_max)
        && (drain_s, allowed) == (&other.drain_s, &other.allowed)
}
