//! The gateway's loop: what is wanted of each endpoint, one piece of work at a time for each, and what is reported.
//!
//! Owns who holds which address and what is retried when. Endpoints do not wait for one another, unless two want the same
//! address: then the one that comes second waits until the first has let go of it.

mod examine;
mod look;
mod renew;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use adit_model::{
    error_chain,
    feed::{EndpointReport, EndpointSpec, FeedEvent, Report},
    id::EndpointId,
    service::TcpProxy,
};
use adit_netns::Directory;
use adit_relay::{Close, Inherited, Relay};
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, mpsc, watch},
    task::{self, JoinSet},
    time::Instant,
};

use crate::{
    apply::{Apply, ApplyError, Terms},
    claims::{AddressHeld, Claims},
    health::{Health, probes},
    plan::{Action, At, Held, Place, plan},
    queue::Queue,
    setback::{Setback, Setbacks},
    succession::{self, Stage, Succession, knocked},
};

/// How often the namespaces of live endpoints are looked at: one that was deleted or made anew is seen within this time.
const CHECK_PERIOD: Duration = Duration::from_secs(1);
/// How long the first retry waits; each further one twice as long.
const RETRY_MIN: Duration = Duration::from_millis(20);
/// The longest that a retry waits.
const RETRY_MAX: Duration = Duration::from_secs(2);
/// How many endpoints are worked on at a time.
const WORKERS_MAX: usize = 64;

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
    stopping: Notify,
    /// Held while [`Gateway::run`] runs.
    serving: tokio::sync::Mutex<()>,
}

/// How one endpoint stands.
#[derive(Default)]
struct Line {
    wanted: Option<EndpointSpec>,
    /// Until when its connections may go on once nothing is served.
    end_by: Option<Instant>,
    held: Held,
    running: bool,
    /// Something has changed since the work that is running began.
    again: bool,
    failures: u32,
}

/// A piece of work: one endpoint, from what is held to what is wanted.
struct Task {
    id: EndpointId,
    wanted: Option<EndpointSpec>,
    /// Until when connections may go on once nothing is served.
    end_by: Option<Instant>,
    held: Held,
}

impl Task {
    fn ending(&self, now: Instant) -> Close {
        match self.end_by.map(|by| by.saturating_duration_since(now)) {
            None | Some(Duration::ZERO) => Close::Cut,
            Some(within) => Close::Drain { within },
        }
    }
}

/// How a piece of work ended.
struct Done {
    task: Task,
    result: Result<(), Obstacle>,
}

/// What stands in the way for now.
#[derive(Debug, thiserror::Error)]
enum Obstacle {
    #[error(transparent)]
    Apply(#[from] ApplyError),
    #[error(transparent)]
    AddressHeld(#[from] AddressHeld),
    #[error("this gateway cannot serve tcp_proxy {0}")]
    Mode(TcpProxy),
}

impl Obstacle {
    fn setback(&self) -> Option<Setback> {
        match self {
            Self::Apply(error) => Setback::of(error),
            Self::AddressHeld(_) => Some(Setback::AddressHeld),
            Self::Mode(_) => Some(Setback::Mode),
        }
    }
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
        let apply = Apply::new(
            config.directory,
            Arc::clone(&relay),
            inherited.clone(),
            config.address_life_s,
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
            stopping: Notify::new(),
            serving: tokio::sync::Mutex::default(),
        })
    }

    /// Follows the feed until it ends or [`Gateway::stop`] is called.
    pub async fn run(self: Arc<Self>, mut events: mpsc::Receiver<FeedEvent>, reports: mpsc::Sender<Report>) {
        let _serving = self.serving.lock().await;
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
        renewing.spawn(Arc::clone(&self).renew());
        loop {
            while running.len() < WORKERS_MAX
                && let Some(id) = queue.next()
            {
                if let Some(task) = self.begin(id) {
                    let work = running.spawn(Arc::clone(&self).work(task));
                    at_work.insert(work.id(), id);
                }
            }
            if told
                && running.is_empty()
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

    /// Takes in how a piece of work ended; one that died is done again.
    fn ended(
        &self,
        done: Result<(task::Id, Done), task::JoinError>,
        at_work: &mut HashMap<task::Id, EndpointId>,
        queue: &mut Queue,
    ) -> Option<Report> {
        match done {
            Ok((task, done)) => {
                at_work.remove(&task);
                self.finish(done, queue)
            }
            Err(e) => {
                let id = at_work.remove(&e.id())?;
                tracing::error!(endpoint.id = %id, error = %e, "Work on an endpoint died.");
                if let Some(line) = self.lines.lock().get_mut(&id) {
                    line.running = false;
                    queue.add_at(Instant::now() + RETRY_MAX, id);
                }
                None
            }
        }
    }

    fn take_in(&self, event: FeedEvent, queue: &mut Queue) {
        let mut lines = self.lines.lock();
        let mut want = |id: EndpointId, drain_s: u32, wanted: Option<EndpointSpec>| {
            let line = lines.entry(id).or_default();
            // To hear the same again is no new grace.
            if line.wanted != wanted {
                line.end_by = Instant::now().checked_add(Duration::from_secs(drain_s.into()));
            }
            line.wanted = wanted;
            line.failures = 0;
            queue.add(id);
        };
        match event {
            FeedEvent::Put { endpoint } => want(endpoint.id, endpoint.drain_s, Some(endpoint)),
            FeedEvent::Remove { id, drain_s } => want(id, drain_s, None),
            // Nothing changes by it.
            FeedEvent::Examine { .. } => {}
            FeedEvent::Snapshot { endpoints } => {
                let known: HashSet<_> = endpoints.iter().map(|e| e.id).collect();
                endpoints.into_iter().for_each(|e| want(e.id, e.drain_s, Some(e)));
                for (id, line) in lines.iter_mut().filter(|(id, _)| !known.contains(id)) {
                    line.wanted = None;
                    queue.add(*id);
                }
            }
        }
    }

    /// Takes an endpoint up, unless it is being worked on.
    fn begin(&self, id: EndpointId) -> Option<Task> {
        let mut lines = self.lines.lock();
        let line = lines.get_mut(&id)?;
        if line.running {
            line.again = true;
            return None;
        }
        line.running = true;
        line.again = false;
        Some(Task {
            id,
            wanted: line.wanted.clone(),
            end_by: line.end_by,
            held: line.held.clone(),
        })
    }

    /// Leads one endpoint from what is held to what is wanted, as far as it goes.
    async fn work(self: Arc<Self>, mut task: Task) -> Done {
        let result = self.lead(&mut task).await;
        Done { task, result }
    }

    async fn lead(&self, task: &mut Task) -> Result<(), Obstacle> {
        let _change = self.changes.read().await;
        let id = task.id;
        let mut ending = task.ending(Instant::now());
        let (wanted_spec, held) = (task.wanted.as_ref(), &mut task.held);
        if self.is_leaving() {
            // Only connections are left here, and the other process says when they end.
            *held = Held::default();
            return Ok(());
        }
        held.connections |= self.apply.connections(id) > 0;
        let mut result = Ok(());
        let wanted = match wanted_spec {
            None => None,
            // Served in another way it would be served wrongly.
            Some(spec) if spec.tcp_proxy.has_toa() && !self.sends_toa => {
                result = Err(Obstacle::Mode(spec.tcp_proxy));
                None
            }
            Some(spec) => match self.apply.find(spec).await {
                Ok(found) => Some(found),
                // What is held is of no use without its namespaces.
                Err(e @ ApplyError::Namespace { .. }) => {
                    ending = Close::Cut;
                    result = Err(e.into());
                    None
                }
                // Anything else may pass, and is no reason to touch what works.
                Err(e) => return Err(e.into()),
            },
        };
        let terms = match wanted_spec {
            Some(spec) => Terms::of(spec, ending),
            None => Terms::without(id, ending),
        };
        if wanted_spec.is_some() {
            self.apply.admit(id, held.listeners.keys().copied(), &terms);
        }
        for action in plan(wanted.as_ref(), held) {
            let address = held.address.as_ref();
            match &action {
                Action::AddAddress(added) => {
                    let service = wanted_spec.map(|spec| spec.service);
                    self.claims.lock().claim(id, service, added)?;
                    let performed = self.apply.perform(id, address, &terms, &action).await;
                    performed.inspect_err(|_| self.claims.lock().unclaim(id, added))?;
                }
                Action::RemoveAddress(removed) => {
                    self.apply.perform(id, address, &terms, &action).await?;
                    self.claims.lock().unclaim(id, removed);
                }
                _ => {
                    let performed = self.apply.perform(id, address, &terms, &action).await;
                    performed.inspect_err(|_| held.after_failed(&action))?;
                }
            }
            held.after(&action);
        }
        result
    }

    /// Notes what is held now, and says what is to be reported.
    fn finish(&self, done: Done, queue: &mut Queue) -> Option<Report> {
        let Done { task, result } = done;
        let Task { id, wanted, held, .. } = task;
        let mut lines = self.lines.lock();
        let line = lines.get_mut(&id)?;
        line.running = false;
        line.held = held;
        if line.again || line.wanted != wanted {
            queue.add(id);
            return None;
        }
        let status = match (&wanted, result) {
            (None, Ok(())) => {
                lines.remove(&id);
                EndpointReport::Removed
            }
            (Some(spec), Ok(())) => {
                line.failures = 0;
                EndpointReport::Listening {
                    generation: spec.generation,
                }
            }
            (wanted, Err(obstacle)) => {
                let wait = RETRY_MIN
                    .saturating_mul(1 << line.failures.min(10))
                    .min(RETRY_MAX);
                line.failures = line.failures.saturating_add(1);
                obstacle
                    .setback()
                    .inspect(|setback| self.setbacks.count(*setback));
                queue.add_at(Instant::now() + wait, id);
                let reason = error_chain(&obstacle);
                tracing::debug!(endpoint.id = %id, endpoint.reason = reason, "An endpoint has to wait.");
                match wanted {
                    Some(spec) => EndpointReport::Waiting {
                        generation: spec.generation,
                        reason,
                    },
                    // Said once it is true.
                    None => return None,
                }
            }
        };
        Some(Report { id, status })
    }

    /// Takes up the endpoints whose namespaces or addresses are not what they were.
    async fn check(&self, queue: &mut Queue) {
        let gone = self.apply.gone().await;
        if !gone.is_empty() {
            for (id, line) in self.lines.lock().iter() {
                let address = line.held.address.iter().map(|a| &a.place);
                let targets = line.held.listeners.values().flatten().map(|t| &t.place);
                if address.chain(targets).any(|place| gone.contains(place)) {
                    queue.add(*id);
                }
            }
        }
        self.check_addresses(queue).await;
    }

    /// Takes up the endpoints whose address is no longer where it was put: somebody removed it, or its link.
    async fn check_addresses(&self, queue: &mut Queue) {
        let mut held: HashMap<Place, Vec<(EndpointId, At)>> = HashMap::new();
        for (id, line) in self.lines.lock().iter() {
            if let Some(address) = &line.held.address {
                let inside = held.entry(address.place.clone()).or_default();
                inside.push((*id, address.at.clone()));
            }
        }
        for (place, inside) in held {
            let Some(lost) = self
                .apply
                .lost(&place, inside)
                .await
                .filter(|lost| !lost.is_empty())
            else {
                continue;
            };
            self.apply.forget_links(&place).await;
            let mut lines = self.lines.lock();
            for (id, at) in lost {
                let Some(line) = lines.get_mut(&id).filter(|line| !line.running) else {
                    continue;
                };
                // What listens on the address stays: it works again with the address.
                if line
                    .held
                    .address
                    .take_if(|held| held.place == place && held.at == at)
                    .is_some()
                {
                    tracing::warn!(endpoint.id = %id, endpoint.address = %at, "An endpoint's address was gone.");
                    queue.add(id);
                }
            }
        }
    }

    /// Cuts what a [`Gateway::stop`] lets drain.
    pub async fn cut(&self) {
        let relay = Arc::clone(&self.relay);
        let _ = tokio::task::spawn_blocking(move || relay.stop(Close::Cut)).await;
    }

    /// Ends all service: connections are cut or drained, listeners closed, addresses removed.
    pub async fn stop(&self, how: Close) {
        self.stopping.notify_one();
        let _ended = self.serving.lock().await;
        let relay = Arc::clone(&self.relay);
        let _ = tokio::task::spawn_blocking(move || relay.stop(how)).await;
        if self.is_leaving() {
            return;
        }
        let held: Vec<_> = self
            .lines
            .lock()
            .drain()
            .map(|(id, line)| (id, line.held))
            .collect();
        for (id, held) in held {
            let Some(address) = held.address else { continue };
            let remove = Action::RemoveAddress(address);
            if let Err(e) = self
                .apply
                .perform(id, None, &Terms::without(id, Close::Cut), &remove)
                .await
            {
                tracing::warn!(endpoint.id = %id, error = error_chain(&e), "An endpoint's address could not be removed.");
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
