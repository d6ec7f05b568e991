//! A gateway's life with its control plane: follows the feed of whichever address has one, says what it does there, and goes
//! on by itself while none has.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use adit_model::{
    error_chain,
    feed::{Capabilities, EndpointReport, EndpointSpec, FeedEvent, Pieces, Report},
    id::EndpointId,
    node::{FeedLine, FeedPosition, Legs, Load, NodeName, NodeStatus},
};
use hyper::{Method, body::Bytes};
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, mpsc},
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, sleep},
};
use uuid::Uuid;

use crate::contact::Contact;

use super::{
    Connection, Control, ControlError, ControlUrl, Lines,
    last_good::{Changes, LastGood, LastGoodError, Recalled, Told},
    legs::{Vpcs, Watch},
    sources::Sources,
};

/// How often a gateway says that it is there.
const BEAT: Duration = Duration::from_millis(500);
/// How long it rests after no address had a feed.
const REST: Duration = Duration::from_millis(250);
/// How many reports are sent at once, where none is long: some hundred kilobytes.
const REPORTED_AT_ONCE: usize = 4096;
/// How long the file rests after it could not be written.
const FILE_REST: Duration = Duration::from_secs(1);

/// What a gateway says of itself, and what it makes of what it is told.
pub struct Node {
    /// Its name.
    pub name: NodeName,
    /// The version of its program.
    pub version: String,
    /// Which machine it is on, by whatever names it apart from others.
    pub machine: String,
    /// What it can do.
    pub capabilities: Capabilities,
    /// The name of a VPC's namespace here, out of what the control plane calls it.
    pub namespace: Box<dyn Fn(&str) -> String + Send + Sync>,
    /// The VPCs that are here.
    pub vpcs: Vpcs,
    /// How many connections it has.
    pub connections: Box<dyn Fn() -> u64 + Send + Sync>,
}

/// The same, but for what is watched.
struct About {
    name: NodeName,
    version: String,
    machine: String,
    capabilities: Capabilities,
    namespace: Box<dyn Fn(&str) -> String + Send + Sync>,
    connections: Box<dyn Fn() -> u64 + Send + Sync>,
}

/// Follows a control plane.
pub struct Follower {
    control: Control,
    urls: Vec<ControlUrl>,
    node: About,
    /// Of those that come by its name, which one this is.
    process: Uuid,
    /// The file; away while it is written.
    last_good: Mutex<Option<LastGood>>,
    events: mpsc::Sender<FeedEvent>,
    known: Mutex<Known>,
    sources: Mutex<Sources>,
    legs: Watch,
    /// The file has something to learn.
    unwritten: Notify,
    endpoints: AtomicU64,
    following: AtomicBool,
    outbox: Outbox,
    contact: Arc<Contact>,
}

/// What the gateway was told.
#[derive(Default)]
struct Known {
    told: Told,
    unwritten: Unwritten,
}

/// What the file does not know yet.
enum Unwritten {
    Changes(Changes),
    All,
}

impl Default for Unwritten {
    fn default() -> Self {
        Self::Changes(Changes::new())
    }
}

impl Known {
    fn change(&mut self, id: EndpointId, spec: Option<Arc<EndpointSpec>>) {
        match &spec {
            Some(spec) => drop(self.told.insert(id, Arc::clone(spec))),
            None => drop(self.told.remove(&id)),
        }
        if let Unwritten::Changes(changes) = &mut self.unwritten {
            changes.insert(id, spec);
        }
    }

    /// What the file has to learn now, as the work of writing it.
    fn write(
        &mut self,
        mut file: LastGood,
    ) -> impl FnOnce() -> (LastGood, Result<(), LastGoodError>) + use<> {
        let changes = match std::mem::take(&mut self.unwritten) {
            Unwritten::Changes(changes) if !file.is_spent(self.told.len()) => Ok(changes),
            _ => Err(self.told.clone()),
        };
        move || {
            let written = match changes {
                Ok(changes) => file.append(&changes),
                Err(told) => file.replace(&told),
            };
            (file, written)
        }
    }
}

/// Reports that wait to be sent: the last word on each endpoint.
#[derive(Default)]
struct Outbox {
    waiting: Mutex<HashMap<Subject, Report>>,
    filled: Notify,
}

/// What a report is on: of two on the same, the later one counts.
#[derive(PartialEq, Eq, Hash)]
enum Subject {
    Endpoint(EndpointId),
    Backend(EndpointId),
    Contest(EndpointId),
    Examination(u64),
}

impl Outbox {
    fn key(report: &Report) -> Subject {
        match &report.status {
            EndpointReport::Backend { .. } => Subject::Backend(report.id),
            EndpointReport::Contested { .. } => Subject::Contest(report.id),
            EndpointReport::Examined { number, .. } => Subject::Examination(*number),
            EndpointReport::Listening { .. } | EndpointReport::Waiting { .. } | EndpointReport::Removed => {
                Subject::Endpoint(report.id)
            }
        }
    }

    fn put(&self, report: Report) {
        self.waiting.lock().insert(Self::key(&report), report);
        self.filled.notify_one();
    }

    /// Takes as many as go at once; the rest is waited for by whoever is told that there is something.
    fn take(&self) -> Vec<Report> {
        let mut waiting = self.waiting.lock();
        let mut room = REPORTED_AT_ONCE;
        let mut taken = Vec::new();
        for (_, report) in waiting.extract_if(|_, _| true) {
            let ports = match &report.status {
                EndpointReport::Backend { ports } => ports.len(),
                _ => 0,
            };
            taken.push(report);
            room = room.saturating_sub(1 + ports);
            if room == 0 {
                break;
            }
        }
        if !waiting.is_empty() {
            self.filled.notify_one();
        }
        taken
    }

    /// What could not be sent waits again, but for what there is a newer word on.
    fn put_back(&self, reports: Vec<Report>) {
        let mut waiting = self.waiting.lock();
        for report in reports {
            waiting.entry(Self::key(&report)).or_insert(report);
        }
        self.filled.notify_one();
    }
}

impl Follower {
    /// A follower of whichever of these addresses has a feed; `events` leads to the gateway, which learns of its `contact`.
    pub fn new(
        control: Control,
        urls: Vec<ControlUrl>,
        node: Node,
        last_good: LastGood,
        events: mpsc::Sender<FeedEvent>,
        contact: Arc<Contact>,
    ) -> Self {
        let legs = Watch::new(node.vpcs);
        let node = About {
            name: node.name,
            version: node.version,
            machine: node.machine,
            capabilities: node.capabilities,
            namespace: node.namespace,
            connections: node.connections,
        };
        Self {
            control,
            urls,
            node,
            process: Uuid::new_v4(),
            last_good: Mutex::new(Some(last_good)),
            events,
            known: Mutex::default(),
            sources: Mutex::default(),
            legs,
            unwritten: Notify::new(),
            endpoints: AtomicU64::new(0),
            following: AtomicBool::new(false),
            outbox: Outbox::default(),
            contact,
        }
    }

    /// Has the gateway serve what it was told last, before anybody tells it anything. Answers how many endpoints that are; `None`
    /// where it was never told anything.
    ///
    /// A file that cannot be used is told in the log, and nothing is served by it; so is what of it cannot be read.
    ///
    /// # Errors
    /// Where it is another gateway's: then so is the directory.
    pub async fn resume(&self) -> Result<Option<usize>, LastGoodError> {
        let read = self.last_good.lock().as_ref().map(LastGood::read).transpose();
        let Recalled { told, unreadable } = match read.map(Option::flatten) {
            Ok(Some(recalled)) => recalled,
            Ok(None) => return Ok(None),
            Err(e @ LastGoodError::Stranger { .. }) => return Err(e),
            Err(e) => {
                tracing::error!(error = error_chain(&e), "What was served last is not known.");
                return Ok(None);
            }
        };
        if unreadable > 0 {
            tracing::error!(
                file.lines = unreadable,
                "Some of what was served last cannot be read (feed.jsonl; is the disk sound?): the rest is served."
            );
        }
        let count = told.len();
        {
            let mut sources = self.sources.lock();
            told.values().for_each(|spec| sources.note(spec));
        }
        let endpoints = told.values().map(|spec| self.here(spec)).collect();
        self.known.lock().told = told;
        self.endpoints.store(count as u64, Ordering::Relaxed);
        let _ = self
            .events
            .send(FeedEvent::Snapshot {
                endpoints,
                more: false,
            })
            .await;
        Ok(Some(count))
    }

    /// Follows, once it may, until the gateway ends. `reports` is what the gateway says.
    pub async fn run(self: Arc<Self>, mut reports: mpsc::Receiver<Report>, may: impl Future<Output = ()>) {
        let mut beside = JoinSet::new();
        beside.spawn(Arc::clone(&self).keep());
        let collector = Arc::clone(&self);
        beside.spawn(async move {
            while let Some(report) = reports.recv().await {
                if report.status == EndpointReport::Removed {
                    collector.let_go(report.id).await;
                }
                collector.outbox.put(report);
            }
        });
        may.await;
        // Before the first word: what is not said then counts as not there.
        self.legs.scan().await;
        let watch = Arc::clone(&self);
        beside.spawn(async move { watch.legs.run().await });
        let mut position = None;
        let mut lost = true;
        let mut said = vec![String::new(); self.urls.len()];
        loop {
            for (url, said) in self.urls.iter().zip(&mut said) {
                let followed = self.follow(url, &mut position, &mut lost).await;
                self.contact.lost();
                match followed {
                    Ok(()) => return,
                    // It leaves the feed to another, which is the next one to be asked.
                    Err(e @ ControlError::Refused { status: 503, .. }) if lost => {
                        tracing::debug!(control.url = %url, error = error_chain(&e), "No feed here.");
                    }
                    Err(e) if lost => {
                        // Once, and not four times a second.
                        let why = error_chain(&e);
                        if *said != why {
                            tracing::warn!(control.url = %url, error = why, "No feed is to be had here.");
                            *said = why;
                        }
                    }
                    Err(e) => {
                        lost = true;
                        said.clear();
                        tracing::warn!(
                            control.url = %url, error = error_chain(&e),
                            "The control plane is lost; what was told last is served on."
                        );
                    }
                }
            }
            sleep(REST).await;
        }
    }

    /// Follows one address until it fails; well only when the gateway has ended.
    async fn follow(
        &self,
        url: &ControlUrl,
        position: &mut Option<FeedPosition>,
        lost: &mut bool,
    ) -> Result<(), ControlError> {
        let from = position.map(|position| position.to_string()).unwrap_or_default();
        let path = format!(
            "/node/v1/feed?node={}&from={from}&process={}",
            self.node.name, self.process
        );
        let lines = self.control.lines(url, &path).await?;
        let connection = self.control.connect(url).await?;
        if std::mem::take(lost) {
            tracing::info!(control.url = %url, "The feed is followed.");
        }
        self.legs.begin();
        self.following.store(true, Ordering::Relaxed);
        let ended = tokio::select! {
            ended = self.listen(lines, position) => ended,
            failed = self.speak(connection) => Err(failed),
        };
        self.following.store(false, Ordering::Relaxed);
        ended
    }

    /// Whether a control plane is followed just now.
    pub fn is_following(&self) -> bool {
        self.following.load(Ordering::Relaxed)
    }

    /// How many endpoints the gateway was told to serve.
    pub fn endpoints(&self) -> u64 {
        self.endpoints.load(Ordering::Relaxed)
    }

    async fn listen(
        &self,
        mut lines: Lines,
        position: &mut Option<FeedPosition>,
    ) -> Result<(), ControlError> {
        let mut pieces = Pieces::default();
        loop {
            match lines.next::<FeedLine>().await? {
                FeedLine::Beat => self.contact.fed(),
                FeedLine::Event { position: at, what } => {
                    let Some(what) = pieces.join(*what) else {
                        continue;
                    };
                    // Where it goes on where it was, it is not known how much is to come yet.
                    let is_all = matches!(what, FeedEvent::Snapshot { .. });
                    if let Some(what) = self.learn(what)
                        && self.events.send(what).await.is_err()
                    {
                        return Ok(());
                    }
                    *position = Some(at);
                    if is_all {
                        self.contact.fed();
                    }
                }
            }
        }
    }

    /// Notes what is told, and makes of it what is meant here; `None` where it is nothing for the gateway.
    fn learn(&self, event: FeedEvent) -> Option<FeedEvent> {
        let mut known = self.known.lock();
        let mut sources = self.sources.lock();
        let mut meant = |mut spec: EndpointSpec| {
            sources.pick(&mut spec);
            (self.here(&spec), (spec.id, Arc::new(spec)))
        };
        let event = match event {
            FeedEvent::Snapshot { endpoints, more } => {
                let (here, all): (Vec<_>, Vec<_>) = endpoints.into_iter().map(meant).unzip();
                known.told = all.into_iter().collect();
                known.unwritten = Unwritten::All;
                FeedEvent::Snapshot {
                    endpoints: here,
                    more,
                }
            }
            FeedEvent::Put { endpoint } => {
                let (here, (id, spec)) = meant(endpoint);
                known.change(id, Some(spec));
                FeedEvent::Put { endpoint: here }
            }
            FeedEvent::Remove { id, .. } => {
                known.change(id, None);
                event
            }
            FeedEvent::Peers { vpc, peers } => {
                self.legs.meet(vpc, peers);
                return None;
            }
            // They change nothing, and so are nothing for the file.
            FeedEvent::Examine { .. } | FeedEvent::Defend { .. } | FeedEvent::Announce { .. } => {
                return Some(event);
            }
        };
        self.endpoints.store(known.told.len() as u64, Ordering::Relaxed);
        self.unwritten.notify_one();
        Some(event)
    }

    /// The gateway has let go of an endpoint: others may wait for its source address.
    async fn let_go(&self, id: EndpointId) {
        let waiting = {
            let known = self.known.lock();
            // It may have been told to serve it again meanwhile.
            if known.told.contains_key(&id) {
                return;
            }
            let waiting = self.sources.lock().release(id);
            let specs = waiting.iter().filter_map(|id| known.told.get(id));
            specs.map(|spec| EndpointSpec::clone(spec)).collect::<Vec<_>>()
        };
        for endpoint in waiting {
            if let Some(event) = self.learn(FeedEvent::Put { endpoint }) {
                let _ = self.events.send(event).await;
            }
        }
    }

    fn here(&self, spec: &EndpointSpec) -> EndpointSpec {
        let mut spec = spec.clone();
        spec.consumer.namespace = (self.node.namespace)(&spec.consumer.namespace).into();
        spec.provider.namespace = (self.node.namespace)(&spec.provider.namespace).into();
        spec
    }

    /// Sends reports as they come, and a sign of life where none do.
    async fn speak(&self, mut connection: Connection) -> ControlError {
        let mut beat = interval(BEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = beat.tick() => {}
                () = self.outbox.filled.notified() => {}
                () = self.legs.changed.notified() => {}
            }
            let legs = self.legs.news();
            let reports = self.outbox.take();
            let spoken = Instant::now();
            if let Err(e) = self.say(&mut connection, &reports, legs).await {
                self.outbox.put_back(reports);
                return e;
            }
            self.contact.answered(spoken);
        }
    }

    async fn say(
        &self,
        connection: &mut Connection,
        reports: &[Report],
        legs: Option<Legs>,
    ) -> Result<(), ControlError> {
        let status = NodeStatus {
            node: self.node.name.clone(),
            version: self.node.version.clone(),
            machine: self.node.machine.clone(),
            capabilities: self.node.capabilities.clone(),
            load: Load {
                endpoints: self.endpoints.load(Ordering::Relaxed),
                connections: (self.node.connections)(),
            },
            reports: reports.to_vec(),
            legs,
        };
        let body = Bytes::from(serde_json::to_vec(&status)?);
        connection
            .ask(Method::POST, "/node/v1/status", body)
            .await
            .map(drop)
    }

    /// Keeps the file as what was told.
    async fn keep(self: Arc<Self>) {
        let Some(mut file) = self.last_good.lock().take() else {
            return;
        };
        loop {
            self.unwritten.notified().await;
            let write = self.known.lock().write(file);
            // It fails where the runtime ends.
            let Ok((back, written)) = tokio::task::spawn_blocking(write).await else {
                return;
            };
            file = back;
            if let Err(e) = written {
                tracing::error!(
                    error = error_chain(&e),
                    "What is served now would not be known after a restart."
                );
                self.known.lock().unwritten = Unwritten::All;
                self.unwritten.notify_one();
                sleep(FILE_REST).await;
            }
        }
    }
}
