//! The node feed, seen from the control plane: what gateways should serve, and what they say they do.
//!
//! Owns the derivation of specifications from documents ([`specify`], pure) and the record of what was sent and answered.
//! Never decides a status: the endpoint's reconciler does, on what it finds here. What a gateway said is kept in memory
//! only; a gateway that comes back says it again.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use adit_model::{
    diagnosis::Examination,
    endpoint::{Endpoint, EndpointStatus, InterfaceLeg, Leg},
    feed::{ConsumerLeg, EndpointReport, EndpointSpec, FeedEvent, Ingress, ProbedPort, ProviderLeg, Report},
    id::{EndpointId, ServiceId},
    service::{Backend, Service, ServiceStatus},
};
use adit_store::{State, Stored};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot, watch};

use crate::config::Config;

/// Events that may wait for a gateway; a slower one holds the reconcilers up, which is right.
const EVENTS_MAX: usize = 1024;
/// Examinations that may be under way: each has a gateway call a backend.
const EXAMINATIONS_MAX: usize = 16;
/// How long a gateway may take to answer one; it waits for a backend no longer than three seconds.
const EXAMINATION_TIMEOUT: Duration = Duration::from_secs(8);

/// What one endpoint's gateway should do and has said.
#[derive(Clone, Debug, Default)]
struct Line {
    /// What was sent last; `None` after a removal.
    spec: Option<EndpointSpec>,
    /// What was answered last.
    report: Option<EndpointReport>,
}

#[derive(Default)]
struct Inner {
    lines: HashMap<EndpointId, Line>,
    subscriber: Option<mpsc::Sender<FeedEvent>>,
    /// How the backends of services have answered when they were asked last.
    backends: HashMap<ServiceId, Vec<ProbedPort>>,
    /// Who waits for which examination, by its number.
    examinations: HashMap<u64, oneshot::Sender<Examination>>,
    /// The number of the last examination.
    examined: u64,
}

/// The feed.
#[derive(Default)]
pub struct Feed {
    inner: Mutex<Inner>,
    /// Counts reports, so that a waiter misses none.
    reported: watch::Sender<u64>,
}

/// What the reconciler makes of an endpoint's line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Serving {
    /// Every mapping of the present specification is listened on.
    Yes,
    /// Not yet; what it waits for, if the gateway has said.
    NotYet(Option<String>),
}

impl Feed {
    /// An empty feed that nobody listens to.
    pub fn new() -> Self {
        Self::default()
    }

    /// A gateway comes: it gets everything as a snapshot, then each change. A former subscriber is let go of.
    pub fn subscribe(&self) -> mpsc::Receiver<FeedEvent> {
        let (sender, receiver) = mpsc::channel(EVENTS_MAX);
        let mut inner = self.inner.lock();
        // What the former gateway said is not what this one does.
        inner.lines.retain(|_, line| line.spec.is_some());
        let endpoints = inner.lines.values_mut().filter_map(|line| {
            line.report = None;
            line.spec.clone()
        });
        let snapshot = FeedEvent::Snapshot {
            endpoints: endpoints.collect(),
        };
        // A new channel has room.
        let _ = sender.try_send(snapshot);
        inner.subscriber = Some(sender);
        receiver
    }

    /// Says what should be served for an endpoint; the same again is nothing new.
    pub async fn put(&self, spec: EndpointSpec) {
        let send = {
            let mut inner = self.inner.lock();
            let line = inner.lines.entry(spec.id).or_default();
            // A document may change without a change of what is served: then there is nothing to say.
            if line.spec.as_ref().is_some_and(|old| is_same(old, &spec)) {
                return;
            }
            line.spec = Some(spec.clone());
            line.report = None;
            inner.subscriber.clone()
        };
        if let Some(subscriber) = send {
            let _ = subscriber.send(FeedEvent::Put { endpoint: spec }).await;
        }
    }

    /// Says that nothing should be served for an endpoint, whose connections may go on for so many seconds. Answers whether
    /// nothing is.
    pub async fn remove(&self, id: EndpointId, drain_s: u32) -> bool {
        let send = {
            let mut inner = self.inner.lock();
            let subscriber = inner.subscriber.clone();
            match inner.lines.get_mut(&id) {
                None => return true,
                Some(_) if subscriber.is_none() => {
                    inner.lines.remove(&id);
                    return true;
                }
                Some(line) if line.spec.is_none() => return false,
                Some(line) => {
                    line.spec = None;
                    line.report = None;
                    subscriber
                }
            }
        };
        if let Some(subscriber) = send {
            let _ = subscriber.send(FeedEvent::Remove { id, drain_s }).await;
        }
        false
    }

    /// Whether nothing listens for an endpoint any more; its address may still be held.
    pub fn is_silent(&self, id: EndpointId) -> bool {
        self.inner.lock().lines.get(&id).is_none_or(|line| {
            let no_ports = line.spec.as_ref().is_some_and(|spec| spec.ports.is_empty());
            no_ports && matches!(line.report, Some(EndpointReport::Listening { .. }))
        })
    }

    /// Whether what a specification asks for is so, `None` being that nothing is served.
    pub fn follows(&self, id: EndpointId, spec: Option<&EndpointSpec>) -> bool {
        match (self.inner.lock().lines.get(&id), spec) {
            (None, None) => true,
            (Some(line), Some(wanted)) => {
                let told = line.spec.as_ref().is_some_and(|told| is_same(told, wanted));
                told && matches!(line.report, Some(EndpointReport::Listening { .. }))
            }
            (None, Some(_)) | (Some(_), None) => false,
        }
    }

    /// Changes with every report that counts.
    pub fn reported(&self) -> watch::Receiver<u64> {
        self.reported.subscribe()
    }

    /// Takes in what a gateway says. Answers the endpoint, where it changes anything.
    pub fn report(&self, report: Report) -> Option<EndpointId> {
        let mut inner = self.inner.lock();
        let inner = &mut *inner;
        if let EndpointReport::Examined { number, examination } = report.status {
            // Nobody waits for what came too late.
            if let Some(waiting) = inner.examinations.remove(&number) {
                let _ = waiting.send(examination);
            }
            return None;
        }
        let line = inner.lines.get_mut(&report.id)?;
        match (&line.spec, &report.status) {
            (Some(spec), EndpointReport::Backend { ports }) => {
                inner.backends.insert(spec.service, ports.clone());
                // Services come and go, and nobody tells of those that have gone.
                if inner.backends.len() > inner.lines.len() {
                    let specs = inner.lines.values().filter_map(|line| line.spec.as_ref());
                    let served: HashSet<ServiceId> = specs.map(|spec| spec.service).collect();
                    inner.backends.retain(|service, _| served.contains(service));
                }
                return None;
            }
            (None, EndpointReport::Removed) => {
                inner.lines.remove(&report.id);
            }
            // It speaks of what it did before our last word.
            (None, _) | (Some(_), EndpointReport::Removed | EndpointReport::Examined { .. }) => return None,
            (
                Some(spec),
                EndpointReport::Listening { generation } | EndpointReport::Waiting { generation, .. },
            ) => {
                if *generation != spec.generation {
                    return None;
                }
                line.report = Some(report.status);
            }
        }
        self.reported.send_modify(|n| *n += 1);
        Some(report.id)
    }

    /// Whether a gateway has been told to do this, whether it does it or not.
    pub fn is_told(&self, spec: &EndpointSpec) -> bool {
        let inner = self.inner.lock();
        let told = inner.lines.get(&spec.id).and_then(|line| line.spec.as_ref());
        told.is_some_and(|told| is_same(told, spec))
    }

    /// Has an endpoint's gateway find out how one of its client ports stands. `None` where too many ask at a time.
    pub async fn examine(&self, id: EndpointId, port: u16) -> Option<Examination> {
        let (answer, answered) = oneshot::channel();
        let (subscriber, number) = {
            let mut inner = self.inner.lock();
            // Of those that gave up waiting.
            inner.examinations.retain(|_, waiting| !waiting.is_closed());
            if inner.examinations.len() >= EXAMINATIONS_MAX {
                return None;
            }
            inner.examined += 1;
            let number = inner.examined;
            inner.examinations.insert(number, answer);
            (inner.subscriber.clone(), number)
        };
        let asked = async {
            subscriber?
                .send(FeedEvent::Examine { id, port, number })
                .await
                .ok()?;
            answered.await.ok()
        };
        let examination = tokio::time::timeout(EXAMINATION_TIMEOUT, asked).await;
        Some(examination.ok().flatten().unwrap_or(Examination::Silence))
    }

    /// How a service's backend has answered when it was asked last; `None` where nobody has asked.
    pub fn backend(&self, service: ServiceId) -> Option<Vec<ProbedPort>> {
        self.inner.lock().backends.get(&service).cloned()
    }

    /// How an endpoint is served.
    pub fn serving(&self, id: EndpointId) -> Serving {
        let inner = self.inner.lock();
        match inner.lines.get(&id).and_then(|line| line.report.as_ref()) {
            Some(EndpointReport::Listening { .. }) => Serving::Yes,
            Some(EndpointReport::Waiting { reason, .. }) => Serving::NotYet(Some(reason.clone())),
            Some(
                EndpointReport::Removed | EndpointReport::Backend { .. } | EndpointReport::Examined { .. },
            )
            | None => Serving::NotYet(None),
        }
    }
}

/// How long an endpoint's connections may go on once it is served no more.
pub(crate) fn drain_s(config: &Config, endpoint: &Endpoint) -> u32 {
    endpoint.drain_s.unwrap_or(config.drain_s)
}

/// Whether two specifications ask for the same, whichever documents they were made from.
fn is_same(one: &EndpointSpec, other: &EndpointSpec) -> bool {
    let generation = one.generation;
    *one == EndpointSpec {
        generation,
        ..other.clone()
    }
}

/// What a gateway has to do for an endpoint: nothing, unless it is approved, has its addresses, and its service stands.
pub fn specify(state: &State, config: &Config, id: EndpointId) -> Option<EndpointSpec> {
    let endpoint: &Stored<Endpoint> = state.endpoint(&id)?;
    let account = state.account(&endpoint.domain);
    let blocked = endpoint.is_disabled() || account.is_some_and(|account| account.is_frozen());
    // What is rejected, or blocked by the operator, keeps its address, so that clients are refused at once and do not wait
    // in vain.
    let ports = |service: &Service| match endpoint.status() {
        EndpointStatus::Creating | EndpointStatus::Accepted if !blocked => Some(service.ports.clone()),
        EndpointStatus::Creating | EndpointStatus::Accepted | EndpointStatus::Rejected => Some(Vec::new()),
        EndpointStatus::PendingAcceptance | EndpointStatus::Failed | EndpointStatus::Deleting => None,
    };
    let service: &Stored<Service> = state.service(&endpoint.service)?;
    // A service that has become `failed` is not served: its mode cannot be done, and must not be dropped silently.
    let can_serve = config.can_serve(service.tcp_proxy, service.proxy_profile);
    if service.status() != ServiceStatus::Available || !can_serve {
        return None;
    }
    let (ingress, backend) = match (&endpoint.leg, &service.backend) {
        (Leg::Interface(leg), Backend::Port(port)) => {
            let (ip, subnet) = (leg.ip?, leg.subnet_cidr);
            (Ingress::Address { ip, subnet }, Some(port.ip?))
        }
        (Leg::Gateway(_), Backend::Prefixes { prefixes }) => (Ingress::Blocks(prefixes.clone()), None),
        // The type of a service never changes.
        (Leg::Interface(_), Backend::Prefixes { .. }) | (Leg::Gateway(_), Backend::Port(_)) => return None,
    };
    let restricted = endpoint.interface().filter(|leg| leg.enable_whitelist);
    let of_documents = endpoint.revision.max(service.revision);
    Some(EndpointSpec {
        id,
        generation: account
            .map_or(of_documents, |account| account.revision.max(of_documents))
            .0,
        service: service.id,
        marker: endpoint.marker,
        consumer: ConsumerLeg {
            namespace: (config.namespace)(endpoint.vpc),
            vni: endpoint.vni,
            ingress,
        },
        provider: ProviderLeg {
            namespace: (config.namespace)(service.vpc),
            source: endpoint.source?.ip,
            backend,
            more_backends: service.more_backends.iter().map(|more| more.ip).collect(),
        },
        ports: ports(service)?,
        tcp_proxy: service.tcp_proxy,
        proxy: config.proxy.in_profile(service.proxy_profile),
        connections_max: config.connections_per_endpoint_max,
        new_per_second_max: config.new_connections_per_second_max,
        // What the operator blocks is cut, not drained, unless the operator has said so.
        drain_s: match blocked {
            true => endpoint.drain_s.unwrap_or(0),
            false => drain_s(config, endpoint),
        },
        allowed: restricted.map(InterfaceLeg::allowed),
    })
}

/// Stands in for a gateway where there is none: reports every endpoint as served, and serves nothing.
///
/// For regions that run the control plane alone, which say so loudly.
pub async fn null_gateway(mut events: mpsc::Receiver<FeedEvent>, reports: mpsc::Sender<Report>) {
    let listening = |e: &EndpointSpec| Report {
        id: e.id,
        status: EndpointReport::Listening {
            generation: e.generation,
        },
    };
    while let Some(event) = events.recv().await {
        let answers = match &event {
            FeedEvent::Snapshot { endpoints } => endpoints.iter().map(listening).collect(),
            FeedEvent::Put { endpoint } => vec![listening(endpoint)],
            FeedEvent::Remove { id, .. } => vec![Report {
                id: *id,
                status: EndpointReport::Removed,
            }],
            FeedEvent::Examine { id, number, .. } => vec![Report {
                id: *id,
                status: EndpointReport::Examined {
                    number: *number,
                    examination: Examination::NoNetworks,
                },
            }],
        };
        for answer in answers {
            if reports.send(answer).await.is_err() {
                return;
            }
        }
    }
}
