//! Whose turn it is, who waits for whom, and what to report. Pure: it is told the time and does nothing itself.
//!
//! ```text
//!   event, retry due, address freed, namespace changed ─► queued ─ next ─► running ─ done ─► idle
//!                                                           ▲                │ (woken meanwhile)
//!                                                           └────────────────┘
//! ```
//!
//! At most one pass at a time runs over an endpoint. An address belongs to whoever asked first, until a pass has
//! confirmed that nothing is left there; then those that wait are woken. Everything costs the endpoints that it
//! concerns, however many others there are; a snapshot concerns all.

use std::collections::hash_map::Entry as MapEntry;
use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use adit_model::feed::{EndpointReport, EndpointSpec, FeedEvent, Report};
use adit_model::id::EndpointId;

use crate::apply::Outcome;
use crate::gateway::SERVED;
use crate::plan::{Place, address_of};

/// The first retry comes after this; each further one after twice the time.
const RETRY_FIRST: Duration = Duration::from_millis(50);
/// The longest time between two tries. What can be noticed (a namespace that appears, an address that is freed) wakes
/// an endpoint sooner.
const RETRY_MAX: Duration = Duration::from_secs(5);

/// One pass to run.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) id: EndpointId,
    /// What should be there; `None` is nothing.
    pub(crate) wanted: Option<Arc<EndpointSpec>>,
}

/// All endpoints that should be there, or still are.
#[derive(Debug, Default)]
pub(crate) struct Agenda {
    endpoints: HashMap<EndpointId, Endpoint>,
    ready: VecDeque<EndpointId>,
    retries: BTreeSet<(Instant, EndpointId)>,
    places: HashMap<Place, Claim>,
    namespaces: HashMap<String, Users>,
    reports: HashMap<EndpointId, EndpointReport>,
    /// The order in which endpoints got something to report.
    reporting: VecDeque<EndpointId>,
}

#[derive(Debug, Default)]
struct Endpoint {
    desired: Option<Arc<EndpointSpec>>,
    turn: Turn,
    /// Why the pass that runs is not after what is desired.
    blocked: Option<String>,
    /// Addresses that it has, may have, or is about to get: two while it moves.
    places: Vec<Place>,
    failures: u32,
    retry_at: Option<Instant>,
    /// The last report; `None` when the next one is to go out whatever it says.
    told: Option<EndpointReport>,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Turn {
    #[default]
    Idle,
    Queued,
    Running {
        /// Something has changed since the pass began.
        again: bool,
    },
}

/// Who has an address.
#[derive(Debug)]
struct Claim {
    holder: EndpointId,
    /// In the order of their coming.
    waiting: VecDeque<EndpointId>,
}

/// Who is to be served in a namespace.
#[derive(Debug, Default)]
struct Users {
    /// The namespace's inode when it was last seen; `None` while it is not there, or was never looked for.
    inode: Option<u64>,
    endpoints: HashSet<EndpointId>,
}

impl Agenda {
    /// Takes in an event of the feed.
    pub(crate) fn event(&mut self, event: FeedEvent) {
        match event {
            FeedEvent::Snapshot { endpoints } => {
                let kept: HashSet<_> = endpoints.iter().map(|spec| spec.id).collect();
                let gone = self.endpoints.keys().filter(|id| !kept.contains(*id));
                // Those first: others may want their addresses.
                for id in gone.copied().collect::<Vec<_>>() {
                    self.set(id, None);
                }
                for spec in endpoints {
                    self.set(spec.id, Some(spec));
                }
            }
            FeedEvent::Put { endpoint } => self.set(endpoint.id, Some(endpoint)),
            FeedEvent::Remove { id } => self.set(id, None),
        }
    }

    /// The next pass to run. It must be answered with [`Agenda::done`].
    pub(crate) fn next(&mut self) -> Option<Job> {
        let id = self.ready.pop_front()?;
        let endpoint = self.endpoints.get_mut(&id)?;
        endpoint.turn = Turn::Running { again: false };
        endpoint.blocked = None;
        let mut wanted = endpoint.desired.clone();
        if let Some(spec) = &wanted {
            if SERVED.contains(&spec.tcp_proxy) {
                endpoint.blocked = claim(&mut self.places, id, endpoint, spec);
            } else {
                let mode = spec.tcp_proxy;
                endpoint.blocked = Some(format!("this gateway cannot do tcp_proxy {mode}"));
            }
        }
        if endpoint.blocked.is_some() {
            wanted = None;
        }
        Some(Job { id, wanted })
    }

    /// Takes in how a pass ended.
    pub(crate) fn done(&mut self, id: EndpointId, outcome: Outcome, now: Instant) {
        for (name, inode) in outcome.served_in {
            self.namespace_seen(&name, Some(inode), Some(id));
        }
        self.release(id, outcome.holds.as_ref());
        let Some(endpoint) = self.endpoints.get_mut(&id) else {
            return;
        };
        let woken = endpoint.turn == Turn::Running { again: true };
        endpoint.turn = Turn::Idle;
        if woken {
            self.wake(id);
            return;
        }
        let failed = outcome.failure.is_some();
        let reason = outcome.failure.or(endpoint.blocked.take());
        let status = match (&endpoint.desired, reason) {
            (None, None) => Some(EndpointReport::Removed),
            // The feed knows no word for "not removed yet": it hears when it is.
            (None, Some(_)) => None,
            (Some(spec), None) => Some(EndpointReport::Listening {
                generation: spec.generation,
            }),
            (Some(spec), Some(reason)) => Some(EndpointReport::Waiting {
                generation: spec.generation,
                reason,
            }),
        };
        if failed {
            let wait = RETRY_FIRST.saturating_mul(1 << endpoint.failures.min(16));
            endpoint.failures = endpoint.failures.saturating_add(1);
            let at = now + wait.min(RETRY_MAX);
            endpoint.retry_at = Some(at);
            self.retries.insert((at, id));
        } else {
            endpoint.failures = 0;
        }
        if let Some(status) = status {
            self.tell(id, status);
        }
    }

    /// Wakes those whose time to retry has come.
    pub(crate) fn retry(&mut self, now: Instant) {
        while let Some(&(at, id)) = self.retries.first() {
            if at > now {
                return;
            }
            self.wake(id);
        }
    }

    /// When [`Agenda::retry`] will have something to do.
    pub(crate) fn retry_at(&self) -> Option<Instant> {
        self.retries.first().map(|(at, _)| *at)
    }

    /// The namespaces that somebody is, or is to be, served in.
    pub(crate) fn namespaces(&self) -> Vec<String> {
        self.namespaces.keys().cloned().collect()
    }

    /// Takes in what a namespace's name denotes now. If it is another one than before, everybody in it is woken but
    /// `knows`, who brings the news.
    pub(crate) fn namespace_seen(&mut self, name: &str, inode: Option<u64>, knows: Option<EndpointId>) {
        let Some(users) = self.namespaces.get_mut(name) else {
            return;
        };
        if users.inode == inode {
            return;
        }
        users.inode = inode;
        for id in users.endpoints.iter().copied().collect::<Vec<_>>() {
            if Some(id) != knows {
                self.hurry(id);
            }
        }
    }

    /// Whether there is something to report.
    pub(crate) fn has_report(&self) -> bool {
        !self.reporting.is_empty()
    }

    /// The next thing to report.
    pub(crate) fn report(&mut self) -> Option<Report> {
        let id = self.reporting.pop_front()?;
        let status = self.reports.remove(&id)?;
        Some(Report { id, status })
    }

    /// Starts nothing more.
    pub(crate) fn rest(&mut self) {
        self.ready.clear();
        self.retries.clear();
    }

    fn set(&mut self, id: EndpointId, desired: Option<EndpointSpec>) {
        let endpoint = self.endpoints.entry(id).or_default();
        let former = std::mem::replace(&mut endpoint.desired, desired.map(Arc::new));
        endpoint.told = None;
        let now = endpoint.desired.clone();
        for name in former.iter().flat_map(|spec| namespaces_of(spec)) {
            self.namespace_left(name, id);
        }
        for name in now.iter().flat_map(|spec| namespaces_of(spec)) {
            let users = self.namespaces.entry(name.to_owned()).or_default();
            users.endpoints.insert(id);
        }
        self.hurry(id);
    }

    fn namespace_left(&mut self, name: &str, id: EndpointId) {
        if let Some(users) = self.namespaces.get_mut(name) {
            users.endpoints.remove(&id);
            if users.endpoints.is_empty() {
                self.namespaces.remove(name);
            }
        }
    }

    /// Wakes an endpoint to something new: what failed before says nothing about it.
    fn hurry(&mut self, id: EndpointId) {
        if let Some(endpoint) = self.endpoints.get_mut(&id) {
            endpoint.failures = 0;
        }
        self.wake(id);
    }

    fn wake(&mut self, id: EndpointId) {
        let Some(endpoint) = self.endpoints.get_mut(&id) else {
            return;
        };
        if let Some(at) = endpoint.retry_at.take() {
            self.retries.remove(&(at, id));
        }
        match &mut endpoint.turn {
            turn @ Turn::Idle => {
                *turn = Turn::Queued;
                self.ready.push_back(id);
            }
            Turn::Queued => {}
            Turn::Running { again } => *again = true,
        }
    }

    /// Gives up the places that an endpoint neither has nor wants, and wakes those that wait for them.
    fn release(&mut self, id: EndpointId, holds: Option<&Place>) {
        let Some(endpoint) = self.endpoints.get_mut(&id) else {
            return;
        };
        let desired = endpoint.desired.as_ref().map(|spec| address_of(spec).place);
        let keeps = |place: &Place| Some(place) == holds || Some(place) == desired.as_ref();
        let (kept, given_up) = endpoint.places.drain(..).partition(keeps);
        endpoint.places = kept;
        let given_up: Vec<Place> = given_up;
        for place in given_up {
            let claim = self.places.remove(&place);
            for waiting in claim.into_iter().flat_map(|claim| claim.waiting) {
                self.hurry(waiting);
            }
        }
    }

    fn tell(&mut self, id: EndpointId, status: EndpointReport) {
        if status == EndpointReport::Removed {
            self.endpoints.remove(&id);
        } else if let Some(endpoint) = self.endpoints.get_mut(&id) {
            if endpoint.told.as_ref() == Some(&status) {
                return;
            }
            endpoint.told = Some(status.clone());
        }
        match self.reports.entry(id) {
            MapEntry::Occupied(mut waiting) => drop(waiting.insert(status)),
            MapEntry::Vacant(free) => {
                free.insert(status);
                self.reporting.push_back(id);
            }
        }
    }
}

/// Takes the address that `spec` wants, or answers why it cannot be had yet.
fn claim(
    places: &mut HashMap<Place, Claim>,
    id: EndpointId,
    endpoint: &mut Endpoint,
    spec: &EndpointSpec,
) -> Option<String> {
    let place = address_of(spec).place;
    match places.entry(place.clone()) {
        MapEntry::Vacant(free) => {
            free.insert(Claim {
                holder: id,
                waiting: VecDeque::new(),
            });
            endpoint.places.push(place);
            None
        }
        MapEntry::Occupied(taken) if taken.get().holder == id => None,
        MapEntry::Occupied(taken) => {
            let claim = taken.into_mut();
            if !claim.waiting.contains(&id) {
                claim.waiting.push_back(id);
            }
            Some(format!(
                "address {} is still held by endpoint {}",
                place.ip, claim.holder
            ))
        }
    }
}

fn namespaces_of(spec: &EndpointSpec) -> [&str; 2] {
    [&spec.consumer.namespace, &spec.provider.namespace]
}
