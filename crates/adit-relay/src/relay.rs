//! The control side: what callers hold. It never touches a byte of a connection.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddrV4;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;

use parking_lot::{Mutex, RwLock};
use rustix::event::{EventfdFlags, eventfd};

use crate::control::{Answer, COMMANDS_QUEUED_MAX, Command, ListenSocket, Mapping, NoAnswer, Route};
use crate::descriptors::{Budget, ListenerShare};
use crate::error::{OpenError, RetargetError, Stalled};
use crate::hand_over::{Identity, Inherited, Place};
use crate::namespace::Namespace;
use crate::record::{Record, Recorder};
use crate::spec::{Admission, Close, Config, Listener, ListenerId, Target};
use crate::stats::{Counters, OwnerStats, Snapshot};
use crate::worker::Worker;

/// More than any machine this is for has cores.
const WORKERS_MAX: usize = 256;
/// Counters of owners that have nothing open any more, kept for the next snapshot. Beyond it, an
/// open forgets them: nobody seems to take snapshots.
const OWNERS_KEPT_MAX: usize = 16_384;

/// A running relay. All calls may be made from any thread; they block for as long as a worker needs
/// to take its turn (well under a millisecond as a rule, 5 s at most) and are not for an async
/// executor's own threads. Dropping it is `stop(Close::Cut)`.
#[derive(Debug)]
pub struct Relay {
    workers: Vec<WorkerHandle>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    budget: Arc<Budget>,
    register: Mutex<Register>,
    sends_toa: bool,
    recorder: Option<Recorder>,
    inherited: Option<Arc<Inherited>>,
}

#[derive(Debug)]
struct WorkerHandle {
    commands: SyncSender<Command>,
    wake: Arc<OwnedFd>,
}

#[derive(Debug)]
struct Register {
    last_id: u64,
    listeners: HashMap<ListenerId, Opened>,
    owners: HashMap<u128, Arc<Counters>>,
    departed: OwnerStats,
}

#[derive(Debug)]
struct Opened {
    mapping: Arc<Mapping>,
    /// The consumer's.
    namespace: Identity,
    /// The workers', who close them.
    sockets: Vec<Weak<OwnedFd>>,
    workers: Vec<usize>,
}

impl Relay {
    /// Raises the process's descriptor limit to the hard one and starts the workers.
    ///
    /// # Errors
    /// The kernel gives no thread, epoll instance or descriptor.
    #[expect(clippy::needless_pass_by_value, reason = "a configuration is given, not lent")]
    pub fn start(config: Config) -> io::Result<Self> {
        let budget = Arc::new(Budget::raise(config.descriptors_max));
        let mut relay = Self {
            workers: Vec::new(),
            threads: Mutex::default(),
            budget,
            register: Mutex::new(Register::new()),
            sends_toa: config.toa.is_some(),
            recorder: config.recorder.clone(),
            inherited: config.inherited.clone(),
        };
        for number in 0..config.workers.clamp(1, WORKERS_MAX) {
            // On failure the drop of `relay` stops those that run.
            relay.start_worker(number, &config)?;
        }
        Ok(relay)
    }

    fn start_worker(&mut self, number: usize, config: &Config) -> io::Result<()> {
        let wake = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let (commands, inbox) = sync_channel(COMMANDS_QUEUED_MAX);
        let (started, answer) = Answer::expected();
        let (config, budget, bell) = (config.clone(), Arc::clone(&self.budget), Arc::clone(&wake));
        let thread = std::thread::Builder::new()
            .name(format!("adit-relay-{number}"))
            .spawn(move || match Worker::new(&config, bell, inbox, budget) {
                Ok(mut worker) => {
                    let _ = started.send(Ok(()));
                    worker.run();
                }
                Err(error) => {
                    let _ = started.send(Err(error));
                }
            })?;
        self.threads.get_mut().push(thread);
        self.workers.push(WorkerHandle { commands, wake });
        answer
            .wait()
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    /// Opens a listener. When it returns, clients can connect. Opening the same address twice is
    /// `AddressInUse`, also for the same owner.
    ///
    /// # Errors
    /// See [`OpenError`]; nothing is left open.
    pub fn open(&self, listener: Listener) -> Result<ListenerId, OpenError> {
        let Listener {
            owner,
            consumer,
            provider,
            admission,
        } = listener;
        let of = |leg, descriptor| {
            Namespace::of(descriptor).map_err(|source| OpenError::Namespace { leg, source })
        };
        let consumer_namespace = of("consumer", consumer.namespace)?;
        if provider.toa && !self.sends_toa {
            return Err(OpenError::NoToa);
        }
        let namespace = of("provider", provider.namespace)?;
        let route = Route {
            namespace,
            source: provider.source,
            backend: provider.backend,
            turn: Arc::default(),
            header: provider.header,
            toa: provider.toa,
        };

        let (id, counters) = self.register.lock().announce(owner.endpoint);
        let first = id.0 as usize % self.workers.len();
        let namespace = consumer_namespace.identity();
        let (mut share, address, sockets) =
            self.listen(first, consumer_namespace, consumer.address, &route.namespace)?;
        let mapping = Arc::new(Mapping {
            id,
            address,
            owner,
            counters,
            admission: RwLock::new(admission),
            abandoned: AtomicBool::new(false),
        });
        let sockets: Vec<_> = sockets.into_iter().map(Arc::new).collect();
        let workers: Vec<usize> = (0..sockets.len())
            .map(|i| (first + i) % self.workers.len())
            .collect();
        self.register.lock().listeners.insert(
            id,
            Opened {
                mapping: Arc::clone(&mapping),
                namespace,
                sockets: sockets.iter().map(Arc::downgrade).collect(),
                workers: workers.clone(),
            },
        );
        for (worker, socket) in workers.into_iter().zip(sockets) {
            let socket = ListenSocket {
                socket,
                _share: share.one(),
            };
            let (serve, route) = (Arc::clone(&mapping), route.clone());
            let served = self.ask(worker, |answer| Command::Serve {
                mapping: serve,
                route,
                socket,
                answer,
            });
            let error = match served {
                Ok(Ok(())) => continue,
                Ok(Err(source)) => OpenError::Other { address, source },
                Err(no_answer) => no_answer.into(),
            };
            self.abandon(&mapping);
            return Err(error);
        }
        Ok(id)
    }

    /// Sockets that listen on an address: those of the process before this one, or new ones.
    fn listen(
        &self,
        worker: usize,
        consumer: Namespace,
        address: SocketAddrV4,
        provider: &Namespace,
    ) -> Result<(ListenerShare, SocketAddrV4, Vec<OwnedFd>), OpenError> {
        let no_descriptors = || OpenError::Descriptors {
            used: self.budget.used(),
            budget: self.budget.total(),
        };
        let inherited = self.inherited.as_ref();
        if let Some(sockets) = inherited.and_then(|known| known.claim(consumer.identity(), address)) {
            let share = self.budget.take_existing(sockets.len());
            return Ok((share.ok_or_else(no_descriptors)?, address, sockets));
        }
        let share = self.budget.take_listeners(self.workers.len());
        let share = share.ok_or_else(no_descriptors)?;
        let count = share.count();
        // One worker makes the sockets, so that either all of them exist or none.
        let (address, sockets) = self.ask(worker, |answer| Command::Bind {
            consumer,
            provider: provider.clone(),
            address,
            count,
            answer,
        })??;
        Ok((share, address, sockets))
    }

    /// Every listener's sockets, by where it listens.
    pub(crate) fn listening(&self) -> Vec<(Place, Vec<Arc<OwnedFd>>)> {
        let register = self.register.lock();
        let sockets = |opened: &Opened| opened.sockets.iter().filter_map(Weak::upgrade).collect();
        let key = |opened: &Opened| (opened.namespace, opened.mapping.address);
        let all = register.listeners.values();
        all.map(|opened| (key(opened), sockets(opened))).collect()
    }

    /// Undoes what workers have done, or will do, for a listener that is not to be.
    fn abandon(&self, mapping: &Mapping) {
        mapping.abandoned.store(true, Relaxed);
        if self.close(mapping.id, Close::Cut).is_err() {
            tracing::error!("a relay worker does not answer; a listener may stay open until it does");
        }
    }

    /// The address that a listener is bound to; `None` if it is not open.
    pub fn local_address(&self, id: ListenerId) -> Option<SocketAddrV4> {
        self.register
            .lock()
            .listeners
            .get(&id)
            .map(|opened| opened.mapping.address)
    }

    /// Sets who is let in from now on, as `Listener::admission` does at the start.
    /// Connections that exist stay, whatever they would be told now. Nothing happens if the listener is not open.
    pub fn admit(&self, id: ListenerId, admission: Admission) {
        if let Some(opened) = self.register.lock().listeners.get(&id) {
            *opened.mapping.admission.write() = admission;
        }
    }

    /// Sends new connections to another target. Those that exist keep theirs.
    ///
    /// # Errors
    /// See [`RetargetError`]; only after `Stalled` it is not known which target is in force.
    pub fn retarget(&self, id: ListenerId, target: Target) -> Result<(), RetargetError> {
        let workers = self
            .register
            .lock()
            .listeners
            .get(&id)
            .map(|opened| opened.workers.clone());
        if target.toa && !self.sends_toa {
            return Err(RetargetError::NoToa);
        }
        let namespace = Namespace::of(target.namespace).map_err(RetargetError::Namespace)?;
        let route = Route {
            namespace,
            source: target.source,
            backend: target.backend,
            turn: Arc::default(),
            header: target.header,
            toa: target.toa,
        };
        for worker in workers.ok_or(RetargetError::Unknown)? {
            let route = route.clone();
            match self.ask(worker, |answer| Command::Retarget { id, route, answer }) {
                Ok(Ok(true)) => {}
                Ok(Ok(false)) | Err(NoAnswer::Stopped) => return Err(RetargetError::Unknown),
                Ok(Err(error)) => return Err(RetargetError::Namespace(error)),
                Err(NoAnswer::Stalled) => return Err(RetargetError::Stalled),
            }
        }
        Ok(())
    }

    /// Closes a listener. When it returns, its port refuses and, with `Close::Cut`, its
    /// connections are reset; with `Close::Drain` they go on until the deadline, and this does not wait for them.
    /// Closing what is closed already is fine, and may still turn a drain into a cut.
    ///
    /// # Errors
    /// A worker did not answer within 5 s.
    pub fn close(&self, id: ListenerId, how: Close) -> Result<(), Stalled> {
        self.register.lock().listeners.remove(&id);
        self.ask_all(|answer| Command::Close { id, how, answer })
            .map(|_| ())
    }

    /// Ends the connections of an owner, whatever listener they came in by, those that are closed included, and those that a process
    /// before this one still has. Of two drains the later word counts.
    ///
    /// # Errors
    /// A worker did not answer within 5 s.
    pub fn end(&self, owner: u128, how: Close) -> Result<(), Stalled> {
        if let Some(former) = &self.inherited {
            former.end(owner, how);
        }
        self.ask_all(|answer| Command::End { owner, how, answer })
            .map(|_| ())
    }

    /// How many connections an owner has now.
    pub fn active(&self, owner: u128) -> u32 {
        let register = self.register.lock();
        register
            .owners
            .get(&owner)
            .map_or(0, |counters| counters.stats().active)
    }

    /// The connections that are alive and that a backend sees come from this address: one for each provider's network that has
    /// it. Every connection is looked at.
    ///
    /// # Errors
    /// A worker did not answer within 5 s.
    pub fn who(&self, source: SocketAddrV4) -> Result<Vec<Record>, Stalled> {
        let found = self.ask_all(|answer| Command::Who { source, answer })?;
        Ok(found.into_iter().flatten().collect())
    }

    /// Counters now.
    pub fn snapshot(&self) -> Snapshot {
        let mut register = self.register.lock();
        let owners = register
            .owners
            .values()
            .map(|counters| counters.stats())
            .collect();
        let departed = register.departed;
        register.forget_departed();
        Snapshot {
            departed,
            listeners: register.listeners.len(),
            descriptors_used: self.budget.used(),
            descriptors_budget: self.budget.total(),
            pipes_refused: self.budget.pipes_refused(),
            records_dropped: self.recorder.as_ref().map_or(0, Recorder::dropped),
            owners,
        }
    }

    /// Closes every listener, ends the connections as `how` says, and joins the workers: after it no
    /// thread and no descriptor of the relay's is left. Idempotent; a second call may turn a drain into a cut.
    pub fn stop(&self, how: Close) {
        for worker in &self.workers {
            if worker.commands.send(Command::Stop { how }).is_ok() {
                worker.ring();
            }
        }
        self.register.lock().listeners.clear();
        // Held while joining, so that a second caller returns no earlier than the first.
        for thread in self.threads.lock().drain(..) {
            if thread.join().is_err() {
                tracing::error!("a relay worker panicked");
            }
        }
    }

    /// Sends a command; the answer is to be waited for.
    fn tell<T>(
        &self,
        worker: usize,
        command: impl FnOnce(SyncSender<T>) -> Command,
    ) -> Result<Answer<T>, NoAnswer> {
        let (sender, answer) = Answer::expected();
        let worker = &self.workers[worker];
        worker
            .commands
            .try_send(command(sender))
            .map_err(|error| match error {
                std::sync::mpsc::TrySendError::Full(_) => NoAnswer::Stalled,
                std::sync::mpsc::TrySendError::Disconnected(_) => NoAnswer::Stopped,
            })?;
        worker.ring();
        Ok(answer)
    }

    /// Asks every worker; those that have returned have closed everything, and have nothing to say.
    fn ask_all<T>(&self, command: impl Fn(SyncSender<T>) -> Command) -> Result<Vec<T>, Stalled> {
        let answers: Vec<_> = (0..self.workers.len())
            .map(|worker| self.tell(worker, &command))
            .collect();
        let mut said = Vec::with_capacity(answers.len());
        for answer in answers {
            match answer.and_then(Answer::wait) {
                Ok(answer) => said.push(answer),
                Err(NoAnswer::Stopped) => {}
                Err(NoAnswer::Stalled) => return Err(Stalled),
            }
        }
        Ok(said)
    }

    fn ask<T>(&self, worker: usize, command: impl FnOnce(SyncSender<T>) -> Command) -> Result<T, NoAnswer> {
        self.tell(worker, command)?.wait()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stop(Close::Cut);
    }
}

impl WorkerHandle {
    fn ring(&self) {
        // It can only fail when it has been rung 2^64 times and not heard once.
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }
}

impl Register {
    fn new() -> Self {
        Self {
            last_id: 0,
            listeners: HashMap::new(),
            owners: HashMap::new(),
            departed: OwnerStats::NONE,
        }
    }

    /// An id for a new listener, and its owner's counters.
    fn announce(&mut self, owner: u128) -> (ListenerId, Arc<Counters>) {
        if self.owners.len() >= OWNERS_KEPT_MAX {
            self.forget_departed();
        }
        self.last_id += 1;
        let counters = self
            .owners
            .entry(owner)
            .or_insert_with(|| Arc::new(Counters::new(owner)));
        (ListenerId(self.last_id), Arc::clone(counters))
    }

    /// Listeners and connections hold their owner's counters; what nobody holds is history.
    fn forget_departed(&mut self) {
        self.owners.retain(|_, counters| {
            let present = Arc::strong_count(counters) > 1;
            if !present {
                self.departed.add(&counters.stats());
            }
            present
        });
    }
}

impl From<NoAnswer> for OpenError {
    fn from(no_answer: NoAnswer) -> Self {
        match no_answer {
            NoAnswer::Stopped => Self::Stopped,
            NoAnswer::Stalled => Self::Stalled,
        }
    }
}
