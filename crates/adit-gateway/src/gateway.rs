//! The gateway's loop: what is wanted of each endpoint, one piece of work at a time for each, and what is reported.
//!
//! Owns who holds which address and what is retried when. Endpoints do not wait for one another, unless two want the same
//! address: then the one that comes second waits until the first has let go of it.

mod check;
mod dispute;
mod examine;
mod look;
mod renew;
mod stop;
mod work;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use adit_model::{
    error_chain,
    feed::{EndpointSpec, FeedEvent, Report},
    id::EndpointId,
};
use adit_netns::Directory;
use adit_relay::{Inherited, Relay};
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, mpsc, watch},
    task::JoinSet,
    time::Instant,
};

use crate::{
    apply::Apply,
    claims::Claims,
    contact::Contact,
    health::{Health, probes},
    neighbours::Conflict,
    queue::Queue,
    setback::Setbacks,
    succession::{self, Stage, Succession, knocked},
};
use work::Line;

/// How often the namespaces of live endpoints are looked at: one that was deleted or made anew is seen within this time.
const CHECK_PERIOD: Duration = Duration::from_secs(1);
/// How long the first retry waits; each further one twice as long.
const RETRY_MIN: Duration = Duration::from_millis(20);
/// The longest that a retry waits.
const RETRY_MAX: Duration = Duration::from_secs(2);
/// How many endpoints are worked on at a time.
const WORKERS_MAX: usize = 64;
/// Conflicts that may wait to be looked at.
const CONFLICTS_MAX: usize = 1024;

/// What a gateway does that no control plane answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnControlLoss {
    /// Go on, and leave an address to whoever else announces it.
    #[default]
    Hold,
    /// Stop, before another gateway gets what it serves, until one answers.
    Fence,
}

/// What a gateway needs.
pub struct Config {
    /// Where the VPCs' namespaces are named.
    pub directory: Directory,
    /// How the relay runs.
    pub relay: adit_relay::Config,
    /// How often backends are probed; `None`: never.
    pub probe_period: Option<Duration>,
    /// After how many seconds an endpoint's address goes unless this process lives; `None`: it stays until it is removed.
    pub address_life_s: Option<u32>,
    /// How another process may follow this one; `None`: none may.
    pub succession: Option<Succession>,
    /// Contact with the control plane.
    pub contact: Arc<Contact>,
    /// What is done without.
    pub on_control_loss: OnControlLoss,
}

impl Config {
    /// The defaults, for namespaces named in `directory`.
    pub fn new(directory: Directory) -> Self {
        Self {
            directory,
            relay: adit_relay::Config::default(),
            probe_period: None,
            address_life_s: None,
            succession: None,
            contact: Arc::new(Contact::inside()),
            on_control_loss: OnControlLoss::default(),
        }
    }
}

/// Why a gateway does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The relay's threads.
    #[error("the relay does not start")]
    Relay(#[source] std::io::Error),
}

/// A gateway.
pub struct Gateway {
    pub(crate) relay: Arc<Relay>,
    pub(crate) apply: Arc<Apply>,
    /// What a process before this one has handed over.
    inherited: Option<Arc<Inherited>>,
    pub(crate) succession: Option<Succession>,
    /// Read by whatever changes what is held; written while it is handed over.
    pub(crate) changes: tokio::sync::RwLock<()>,
    pub(crate) stage: watch::Sender<Stage>,
    sends_toa: bool,
    health: Health,
    setbacks: Setbacks,
    probe_period: Option<Duration>,
    lines: Mutex<HashMap<EndpointId, Line>>,
    claims: Mutex<Claims>,
    contact: Arc<Contact>,
    /// Whether there is contact, and everything is known that was told with it.
    in_contact: watch::Sender<bool>,
    on_control_loss: OnControlLoss,
    /// Whether nothing is served for want of a control plane.
    fenced: Mutex<bool>,
    /// Addresses were not renewed in time.
    late: Notify,
    /// Taken by [`Gateway::run`].
    conflicts: tokio::sync::Mutex<mpsc::Receiver<Conflict>>,
    stopping: Notify,
    /// Held while [`Gateway::run`] runs.
    serving: tokio::sync::Mutex<()>,
}

impl Gateway {
    /// Starts the relay; nothing is served before [`Gateway::run`].
    ///
    /// # Errors
    /// Where the relay's threads cannot be started.
    pub fn start(config: Config) -> Result<Self, StartError> {
        let sends_toa = config.relay.toa.is_some();
        let inherited = config.relay.inherited.clone();
        let stage = match inherited {
            Some(_) => Stage::Taking,
            None => Stage::Serving,
        };
        let relay = Arc::new(Relay::start(config.relay).map_err(StartError::Relay)?);
        let (conflicts, heard) = mpsc::channel(CONFLICTS_MAX);
        let fenced = config.on_control_loss == OnControlLoss::Fence && !config.contact.is_there();
        let apply = Apply::new(
            config.directory,
            Arc::clone(&relay),
            inherited.clone(),
            config.address_life_s,
            conflicts,
        );
        Ok(Self {
            relay,
            apply: Arc::new(apply),
            inherited,
            succession: config.succession,
            changes: tokio::sync::RwLock::default(),
            stage: watch::Sender::new(stage),
            sends_toa,
            health: Health::default(),
            setbacks: Setbacks::default(),
            probe_period: config.probe_period,
            lines: Mutex::default(),
            claims: Mutex::default(),
            in_contact: watch::Sender::new(config.contact.is_there()),
            contact: config.contact,
            on_control_loss: config.on_control_loss,
            fenced: Mutex::new(fenced),
            late: Notify::new(),
            conflicts: tokio::sync::Mutex::new(heard),
            stopping: Notify::new(),
            serving: tokio::sync::Mutex::default(),
        })
    }

    /// Follows the feed until it ends or [`Gateway::stop`] is called.
    pub async fn run(self: Arc<Self>, mut events: mpsc::Receiver<FeedEvent>, reports: mpsc::Sender<Report>) {
        let _serving = self.serving.lock().await;
        let mut conflicts = self.conflicts.lock().await;
        let mut in_contact = *self.in_contact.borrow();
        let mut queue = Queue::default();
        let mut running = JoinSet::new();
        let mut at_work = HashMap::new();
        let (mut fed, mut heard) = (true, true);
        let mut check = tokio::time::interval(CHECK_PERIOD);
        check.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut probing = JoinSet::new();
        let mut examining = JoinSet::new();
        let mut next_probe = self.probe_period.map(|period| Instant::now() + period);
        // Open to a successor once it serves itself what it has inherited.
        let (mut inherited, mut door, mut told) = (self.inherited.clone(), None, false);
        if inherited.is_none() {
            door = self.succession.as_ref().and_then(succession::open);
        }
        let mut following = JoinSet::new();
        let mut renewing = JoinSet::new();
        let renewer = Arc::clone(&self);
        renewing.spawn(async move { renewer.renew().await });
        loop {
            while running.len() < WORKERS_MAX
                && let Some(id) = queue.next()
            {
                if let Some(task) = self.begin(id) {
                    let work = running.spawn(Arc::clone(&self).work(task));
                    at_work.insert(work.id(), id);
                }
            }
            // Fenced, it has looked at everything and serves nothing.
            if told
                && running.is_empty()
                && !self.is_fenced()
                && let Some(inherited) = inherited.take()
            {
                served(&inherited);
                self.stage.send_replace(Stage::Serving);
                door = self.succession.as_ref().and_then(succession::open);
            }
            heard &= !self.is_leaving();
            let retry = queue.next_retry();
            tokio::select! {
                () = self.stopping.notified() => break,
                event = events.recv(), if fed => match event {
                    Some(FeedEvent::Examine { id, port, number }) => {
                        examining.spawn(Arc::clone(&self).examine(id, port, number));
                    }
                    Some(FeedEvent::Defend { id }) => self.defend(id),
                    Some(FeedEvent::Announce { id }) => self.announce_anew(id),
                    Some(event) => {
                        self.take_in(event, &mut queue);
                        // The first is a snapshot of everything.
                        told = true;
                    }
                    // Without a control plane it goes on serving what it knows.
                    None => fed = false,
                },
                Some(done) = running.join_next_with_id(), if !running.is_empty() => {
                    let report = self.ended(done, &mut at_work, &mut queue);
                    if let Some(report) = report.filter(|_| heard) {
                        heard = reports.send(report).await.is_ok();
                    }
                }
                there = self.contact.turned(in_contact) => {
                    in_contact = there;
                    // What was told with the contact is known before anything is made of it.
                    while let Ok(event) = events.try_recv() {
                        self.take_in(event, &mut queue);
                        told = true;
                    }
                    self.contact_turned(there, &mut queue);
                }
                Some(conflict) = conflicts.recv() => {
                    if let Some(report) = self.heard(&conflict, &mut queue).filter(|_| heard) {
                        heard = reports.send(report).await.is_ok();
                    }
                }
                () = self.late.notified() => self.lapsed(&mut queue),
                _ = check.tick() => if !self.is_leaving() { self.check(&mut queue).await },
                channel = knocked(door.as_ref()), if following.is_empty() => match channel {
                    Ok(channel) => drop(following.spawn(Arc::clone(&self).follow_up(channel))),
                    Err(e) => {
                        tracing::error!(error = %e, "The door for a successor fails, and is closed.");
                        door = None;
                    }
                },
                Some(_) = following.join_next(), if !following.is_empty() => {}
                () = sleep_until(next_probe), if probing.is_empty() && heard => {
                    next_probe = self.probe_period.map(|period| Instant::now() + period);
                    probing.spawn(Arc::clone(&self).probe());
                }
                Some(news) = probing.join_next(), if !probing.is_empty() => {
                    for report in news.unwrap_or_default() {
                        heard = heard && reports.send(report).await.is_ok();
                    }
                }
                // One that died is not answered.
                Some(Ok(report)) = examining.join_next(), if !examining.is_empty() => {
                    heard = heard && reports.send(report).await.is_ok();
                }
                () = sleep_until(retry) => queue.take_retries(Instant::now()),
            }
        }
        // A hand-over that has begun is ended, so that it is known whose the addresses are.
        while following.join_next().await.is_some() {}
        // What has begun is ended, so that it is known what is held.
        while let Some(done) = running.join_next_with_id().await {
            self.ended(done, &mut at_work, &mut queue);
        }
    }

    /// Asks every backend that a listener leads to, and answers what is new.
    async fn probe(self: Arc<Self>) -> Vec<Report> {
        let wanted = {
            let lines = self.lines.lock();
            let served = lines
                .iter()
                .filter_map(|(id, line)| Some((*id, line.wanted.as_ref()?.service, line)));
            probes(served.flat_map(|(id, service, line)| {
                let targets = line.held.listeners.values().flatten();
                targets.map(move |target| (service, id, target))
            }))
        };
        self.health.look(&self.apply, wanted).await
    }

    fn take_in(&self, event: FeedEvent, queue: &mut Queue) {
        let mut lines = self.lines.lock();
        let mut want = |id: EndpointId, drain_s: u32, wanted: Option<EndpointSpec>| {
            let line = lines.entry(id).or_default();
            let end_by = Instant::now().checked_add(Duration::from_secs(drain_s.into()));
            // To hear the same again is no new grace, and may be a shorter one.
            line.end_by = match line.wanted == wanted {
                true => line.end_by.min(end_by),
                false => end_by,
            };
            line.wanted = wanted;
            line.failures = 0;
            line.contest = None;
            queue.add(id);
        };
        match event {
            FeedEvent::Put { endpoint } => want(endpoint.id, endpoint.drain_s, Some(endpoint)),
            FeedEvent::Remove { id, drain_s } => want(id, drain_s, None),
            // Nothing changes by them.
            FeedEvent::Examine { .. }
            | FeedEvent::Defend { .. }
            | FeedEvent::Announce { .. }
            | FeedEvent::Peers { .. } => {}
            // Its pieces were joined on the way here.
            FeedEvent::Snapshot { endpoints, .. } => {
                let known: HashSet<_> = endpoints.iter().map(|e| e.id).collect();
                endpoints.into_iter().for_each(|e| want(e.id, e.drain_s, Some(e)));
                for (id, line) in lines.iter_mut().filter(|(id, _)| !known.contains(id)) {
                    line.wanted = None;
                    queue.add(*id);
                }
            }
        }
    }
}

/// Tells the process before this one that everything it has handed over is served, or was tried.
fn served(inherited: &Inherited) {
    let unclaimed = inherited.unclaimed();
    match inherited.done() {
        Ok(()) => tracing::info!(
            gateway.unclaimed = unclaimed,
            "This process serves what the one before it did."
        ),
        Err(e) => tracing::warn!(
            error = error_chain(&e),
            "The gateway that was taken over from is gone already."
        ),
    }
}

async fn sleep_until(when: Option<Instant>) {
    match when {
        Some(when) => tokio::time::sleep_until(when).await,
        None => std::future::pending().await,
    }
}
