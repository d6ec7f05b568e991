//! One worker thread: its epoll instance, its listeners, its connections, its turn of the loop.
//!
//! A worker shares nothing with the others but counters and the descriptor budget. It blocks in one
//! place, `epoll_wait`; everything else it does is bounded, so a command is answered soon.
//!
//! Read next: `commands` (what the control side asks for), `accept` (from a client's SYN to a session), `session` (the bytes).

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;

use crate::control::{Command, ListenSocket, Mapping, Route};
use crate::descriptors::Budget;
use crate::namespace::Whereabouts;
use crate::pipes::Pipes;
use crate::record::Recorder;
use crate::session::{BUFFER_BYTES, Means, Session, Side, Turn};
use crate::slab::{Key, Slab};
use crate::spec::{Config, ListenerId};
use crate::stats::End;
use crate::toa::{Registrar, Sender};

/// Events taken from the kernel at once.
const EVENTS_MAX: usize = 256;
/// How often time is looked at while there is anything that time can change.
const TICK: Duration = Duration::from_millis(250);
/// A connection that has been there for so long comes before new ones, however many of those there are.
const SETTLED_AFTER: Duration = Duration::from_millis(250);
/// How many turns are given before events are looked at again, if they are short.
const SHORT_TURNS_MAX: u32 = 4;
/// A sweep for connections that took too long visits each one once in so many ticks.
const SWEEP_TICKS: u32 = 4;

/// What an epoll event, or a place in the queue, is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Token {
    Wake,
    Listener(Key),
    Socket(Key, Side),
}

impl Token {
    pub(crate) fn data(self) -> epoll::EventData {
        let pack =
            |key: Key, kind: u64| (u64::from(key.generation) << 32) | (u64::from(key.index) << 2) | kind;
        epoll::EventData::new_u64(match self {
            Self::Wake => 0,
            Self::Listener(key) => pack(key, 1),
            Self::Socket(key, Side::Client) => pack(key, 2),
            Self::Socket(key, Side::Backend) => pack(key, 3),
        })
    }

    fn of(data: u64) -> Self {
        let key = Key {
            index: (data as u32) >> 2,
            generation: (data >> 32) as u32,
        };
        match data & 3 {
            0 => Self::Wake,
            1 => Self::Listener(key),
            2 => Self::Socket(key, Side::Client),
            _ => Self::Socket(key, Side::Backend),
        }
    }
}

/// A listener that this worker serves.
#[derive(Debug)]
pub(crate) struct Serving {
    pub(crate) mapping: Arc<Mapping>,
    pub(crate) route: Route,
    pub(crate) listen: ListenSocket,
    /// Whether it waits for a turn in the queue, or for the next tick.
    pub(crate) queued: bool,
}

/// Whose connections have a deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Draining {
    Listener(ListenerId),
    Owner(u128),
}

impl Draining {
    pub(crate) fn concerns(self, session: &Session) -> bool {
        match self {
            Self::Listener(id) => session.listener() == id,
            Self::Owner(owner) => session.owner() == owner,
        }
    }
}

pub(crate) struct Worker {
    pub(crate) epoll: OwnedFd,
    pub(crate) wake: Arc<OwnedFd>,
    pub(crate) commands: Receiver<Command>,
    pub(crate) budget: Arc<Budget>,
    pub(crate) whereabouts: Whereabouts,
    pub(crate) listeners: Slab<Serving>,
    pub(crate) sessions: Slab<Session>,
    pub(crate) means: Means,
    /// What has more to do than its turn allowed.
    pub(crate) ready: VecDeque<Token>,
    /// Listeners that can accept nothing until something is freed; tried again with each tick.
    pub(crate) stalled: Vec<Key>,
    /// For the listeners whose connections carry the client's address in the TCP header.
    pub(crate) toa: Option<Registrar>,
    /// A descriptor to give up when there is none left, so that a client can still be refused.
    pub(crate) spare: Option<OwnedFd>,
    pub(crate) drains: Vec<(Instant, Draining)>,
    pub(crate) recorder: Option<Recorder>,
    pub(crate) stop_by: Option<Instant>,
    connect_ticks_max: u32,
    idle_ticks_max: u32,
    started: Instant,
    /// When this turn of the loop began.
    now: Instant,
    pub(crate) tick: u32,
    sweep_at: usize,
}

impl Worker {
    /// To be called on the thread that will run it: it remembers the thread's namespace.
    pub(crate) fn new(
        config: &Config,
        wake: Arc<OwnedFd>,
        commands: Receiver<Command>,
        budget: Arc<Budget>,
    ) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(
            &epoll,
            &wake,
            Token::Wake.data(),
            epoll::EventFlags::IN | epoll::EventFlags::ET,
        )?;
        let pipes = Pipes::new(Arc::clone(&budget));
        Ok(Self {
            epoll,
            wake,
            commands,
            budget,
            whereabouts: Whereabouts::of_this_thread()?,
            listeners: Slab::new(),
            sessions: Slab::new(),
            means: Means {
                buffer: vec![0; BUFFER_BYTES].into_boxed_slice(),
                pipes,
            },
            ready: VecDeque::new(),
            stalled: Vec::new(),
            toa: config.toa.as_ref().map(Sender::registrar).transpose()?,
            spare: spare_descriptor(),
            drains: Vec::new(),
            recorder: config.recorder.clone(),
            stop_by: None,
            connect_ticks_max: ticks(config.connect_timeout),
            idle_ticks_max: ticks(config.idle_timeout),
            started: Instant::now(),
            now: Instant::now(),
            tick: 0,
            sweep_at: 0,
        })
    }

    /// Works until told to stop.
    pub(crate) fn run(&mut self) {
        let mut events = Vec::with_capacity(EVENTS_MAX);
        while !(self.stop_by.is_some() && self.sessions.len() == 0) {
            match epoll::wait(&self.epoll, spare_capacity(&mut events), self.patience().as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => {
                    tracing::error!(%error, "a relay worker cannot wait for events and gives up; its connections are cut");
                    return;
                }
            }
            self.look_at_the_clock();
            let mut woken = false;
            for event in events.drain(..) {
                match Token::of(event.data.u64()) {
                    Token::Wake => woken = true,
                    Token::Listener(key) => self.queue_listener(key),
                    Token::Socket(key, side) => self.socket_event(key, side, event.flags),
                }
            }
            self.next_turns();
            if woken {
                self.obey();
            }
        }
    }

    /// Gives their turn to a few of those that wait for one: one if it is long. Events come first again then: a connection that
    /// has been there for a while and has little to say does not wait for all the others.
    fn next_turns(&mut self) {
        for _ in 0..SHORT_TURNS_MAX {
            match self.ready.pop_front() {
                Some(Token::Listener(key)) => {
                    if let Some(serving) = self.listeners.get_mut(key) {
                        serving.queued = false;
                    }
                    return self.accept_turn(key);
                }
                Some(Token::Socket(key, _)) => {
                    let session = self.sessions.get_mut(key);
                    let long = session.is_some_and(|session| {
                        session.queued = false;
                        session.is_heavy()
                    });
                    self.session_turn(key);
                    if long {
                        return;
                    }
                }
                Some(Token::Wake) | None => return,
            }
        }
    }

    /// How long to wait for events: not at all with work in the queue, for ever with nothing that can become late.
    fn patience(&self) -> Option<Timespec> {
        let time_matters = self.sessions.len() > 0 || !self.stalled.is_empty() || self.stop_by.is_some();
        if !self.ready.is_empty() {
            Some(Timespec {
                tv_sec: 0,
                tv_nsec: 0,
            })
        } else if time_matters {
            Some(Timespec {
                tv_sec: 0,
                tv_nsec: TICK.subsec_nanos().into(),
            })
        } else {
            None
        }
    }

    fn socket_event(&mut self, key: Key, side: Side, flags: epoll::EventFlags) {
        // What is gone has no events any more, but may have been in the batch.
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        match session.event(side, flags, self.tick) {
            Ok(()) if session.is_heavy() || session.age(self.now) < SETTLED_AFTER => self.queue_session(key),
            Ok(()) => self.session_turn(key),
            Err(end) => {
                // What the lost side said before is still there to be read, and is often the reason.
                session.turn(&mut self.means, self.tick);
                self.end(key, end);
            }
        }
    }

    fn session_turn(&mut self, key: Key) {
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        match session.turn(&mut self.means, self.tick) {
            Turn::Wait => self.listen_anew(key),
            Turn::Again => self.queue_session(key),
            Turn::Over(end) => self.end(key, end),
        }
    }

    /// Asks epoll for what a session that waits is to be told of, where that has changed.
    fn listen_anew(&mut self, key: Key) {
        let Some(session) = self.sessions.get_mut(key) else {
            return;
        };
        for side in [Side::Client, Side::Backend] {
            if let Some(flags) = session.changed_interest(side) {
                let data = Token::Socket(key, side).data();
                if let Err(error) = epoll::modify(&self.epoll, session.socket(side), data, flags) {
                    tracing::debug!(%error, "a connection cannot be watched");
                    return self.end(key, End::Failed);
                }
            }
        }
    }

    /// Has a session wait for its turn. It may have a place in the queue already; one is enough.
    fn queue_session(&mut self, key: Key) {
        if let Some(session) = self.sessions.get_mut(key)
            && !std::mem::replace(&mut session.queued, true)
        {
            self.ready.push_back(Token::Socket(key, Side::Client));
        }
    }

    pub(crate) fn end(&mut self, key: Key, end: End) {
        if let Some(mut session) = self.sessions.remove(key) {
            session.check_toa_at_end(self.toa.as_ref());
            self.end_session(session, end);
        }
    }

    pub(crate) fn end_session(&mut self, session: Session, end: End) {
        if let Some(recorder) = &self.recorder {
            recorder.put(session.record(Some(end)));
        }
        session.end(end, &mut self.means.pipes);
        self.budget.give_connection();
    }

    pub(crate) fn end_where(&mut self, end: End, which: impl Fn(&Session) -> bool) {
        let keys: Vec<Key> = self
            .sessions
            .iter()
            .filter(|(_, session)| which(session))
            .map(|(key, _)| key)
            .collect();
        for key in keys {
            self.end(key, end);
        }
    }

    fn look_at_the_clock(&mut self) {
        let now = Instant::now();
        self.now = now;
        let tick = (now.duration_since(self.started).as_millis() / TICK.as_millis()) as u32;
        if tick == self.tick {
            return;
        }
        self.tick = tick;
        self.ready.extend(self.stalled.drain(..).map(Token::Listener));
        self.sweep();
        let due: Vec<Draining> = self
            .drains
            .extract_if(.., |(by, _)| *by <= now)
            .map(|(_, draining)| draining)
            .collect();
        for draining in due {
            self.end_where(End::Cut, |session| draining.concerns(session));
        }
        if self.stop_by.is_some_and(|by| by <= now) {
            self.end_where(End::Cut, |_| true);
        }
    }

    /// Visits a part of the connections and ends those that took too long.
    fn sweep(&mut self) {
        let slots = self.sessions.slots();
        for _ in 0..slots.div_ceil(SWEEP_TICKS as usize) {
            self.sweep_at = if self.sweep_at + 1 < slots {
                self.sweep_at + 1
            } else {
                0
            };
            let Some((key, session)) = self.sessions.at(self.sweep_at) else {
                continue;
            };
            let quiet = self.tick.wrapping_sub(session.last_tick);
            // Who waits for a backend is not silent: that wait has a limit of its own, which may be the longer one.
            let (ticks_max, end) = match session.connecting {
                true => (self.connect_ticks_max, End::BackendTimeout),
                false => (self.idle_ticks_max, End::Idle),
            };
            if quiet > ticks_max {
                self.end(key, end);
            } else if let Some(session) = self.sessions.get_mut(key) {
                session.keep_alive();
                if quiet > 1 {
                    session.check_toa(self.toa.as_ref());
                }
            }
        }
    }
}

impl Drop for Worker {
    /// Also when the loop gave up: nothing is left uncounted or open.
    fn drop(&mut self) {
        self.end_where(End::Cut, |_| true);
    }
}

pub(crate) fn spare_descriptor() -> Option<OwnedFd> {
    rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).ok()
}

fn ticks(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis().div_ceil(TICK.as_millis())).unwrap_or(u32::MAX - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_survive_the_kernel() {
        let key = Key {
            index: (1 << 28) - 1,
            generation: u32::MAX,
        };
        for token in [
            Token::Wake,
            Token::Listener(key),
            Token::Socket(key, Side::Client),
            Token::Socket(key, Side::Backend),
        ] {
            assert_eq!(Token::of(token.data().u64()), token);
        }
    }
}
