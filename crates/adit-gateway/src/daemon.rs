//! The loop: events and time in, passes out, reports out. Never waits for a pass, a namespace or the relay.

use std::collections::HashMap;
use std::fs;
use std::future::pending;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use adit_model::feed::{FeedEvent, Report};
use adit_model::id::EndpointId;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Interval, MissedTickBehavior, interval, sleep_until};

use crate::agenda::Agenda;
use crate::apply::{Applier, Outcome};

/// Passes that run at the same time. Each is mostly the kernel's work for some 100 µs; the number only has to keep one
/// that hangs from holding up the others.
const PASSES_MAX: usize = 32;
/// How often the names of namespaces are looked at (one `stat` each).
const NAMESPACE_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// What the gateway's holder says.
#[derive(Debug)]
pub(crate) enum Command {
    /// Follow this feed instead of the one before.
    Follow {
        events: mpsc::Receiver<FeedEvent>,
        reports: mpsc::Sender<Report>,
        /// Dropped when the feed has ended.
        done: oneshot::Sender<()>,
    },
    /// Start no further pass.
    Rest,
    /// Remove what is left, and return.
    End,
}

#[derive(Debug)]
struct Feed {
    events: mpsc::Receiver<FeedEvent>,
    reports: mpsc::Sender<Report>,
    /// Held for its drop.
    _done: oneshot::Sender<()>,
}

/// What a task of the daemon's has found.
#[derive(Debug)]
enum Found {
    Passed(EndpointId, Outcome),
    /// What the names of namespaces denote.
    Looked(Vec<(String, Option<u64>)>),
}

enum Input {
    Command(Option<Command>),
    Event(Option<FeedEvent>),
    /// A report was sent, or nobody takes them.
    Reported(bool),
    Found(Result<(Id, Found), JoinError>),
    RetryDue,
    CheckDue,
}

pub(crate) struct Daemon {
    applier: Arc<Applier>,
    commands: mpsc::Receiver<Command>,
    agenda: Agenda,
    feed: Option<Feed>,
    tasks: JoinSet<Found>,
    /// The passes among the tasks.
    passes: HashMap<Id, EndpointId>,
    check: Interval,
    /// No pass is started any more.
    resting: bool,
    looking: bool,
}

impl Daemon {
    pub(crate) fn new(applier: Applier, commands: mpsc::Receiver<Command>) -> Self {
        let mut check = interval(NAMESPACE_CHECK_INTERVAL);
        check.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            applier: Arc::new(applier),
            commands,
            agenda: Agenda::default(),
            feed: None,
            tasks: JoinSet::new(),
            passes: HashMap::new(),
            check,
            resting: false,
            looking: false,
        }
    }

    pub(crate) async fn run(mut self) {
        loop {
            self.start_passes();
            match self.input().await {
                // Without a holder there is nobody left to serve for.
                Input::Command(None | Some(Command::End)) => break,
                Input::Command(Some(Command::Rest)) => {
                    self.resting = true;
                    self.feed = None;
                    self.agenda.rest();
                }
                Input::Command(Some(Command::Follow {
                    events,
                    reports,
                    done,
                })) if !self.resting => {
                    self.feed = Some(Feed {
                        events,
                        reports,
                        _done: done,
                    });
                }
                Input::Command(Some(Command::Follow { .. })) | Input::Reported(true) => {}
                Input::Event(Some(event)) => self.agenda.event(event),
                Input::Event(None) | Input::Reported(false) => {
                    tracing::info!("the feed has ended; the gateway goes on with what it was told last");
                    self.feed = None;
                }
                Input::Found(found) => self.found(found).await,
                Input::RetryDue => self.agenda.retry(Instant::now()),
                Input::CheckDue => self.look(),
            }
        }
        self.end().await;
    }

    async fn input(&mut self) -> Input {
        let (events, reports) = match &mut self.feed {
            Some(feed) => (Some(&mut feed.events), Some(&feed.reports)),
            None => (None, None),
        };
        let event = async {
            match events {
                Some(events) => events.recv().await,
                None => pending().await,
            }
        };
        let room = async {
            match reports {
                Some(reports) if self.agenda.has_report() => reports.reserve().await,
                _ => pending().await,
            }
        };
        let retry_at = self.agenda.retry_at().filter(|_| !self.resting);
        let retry = async {
            match retry_at {
                Some(at) => sleep_until(at.into()).await,
                None => pending().await,
            }
        };
        tokio::select! {
            command = self.commands.recv() => Input::Command(command),
            event = event => Input::Event(event),
            room = room => match room {
                Ok(room) => {
                    if let Some(report) = self.agenda.report() {
                        room.send(report);
                    }
                    Input::Reported(true)
                }
                Err(_) => Input::Reported(false),
            },
            Some(found) = self.tasks.join_next_with_id() => Input::Found(found),
            () = retry => Input::RetryDue,
            _ = self.check.tick() => Input::CheckDue,
        }
    }

    fn start_passes(&mut self) {
        while !self.resting
            && self.passes.len() < PASSES_MAX
            && let Some(job) = self.agenda.next()
        {
            let applier = Arc::clone(&self.applier);
            let id = job.id;
            let pass = self.tasks.spawn(async move {
                let outcome = applier.converge(id, job.wanted.as_deref()).await;
                Found::Passed(id, outcome)
            });
            self.passes.insert(pass.id(), id);
        }
    }

    async fn found(&mut self, found: Result<(Id, Found), JoinError>) {
        match found {
            Ok((task, Found::Passed(id, outcome))) => {
                self.passes.remove(&task);
                self.agenda.done(id, outcome, Instant::now());
            }
            Ok((_, Found::Looked(names))) => {
                self.looking = false;
                for (name, inode) in names {
                    self.agenda.namespace_seen(&name, inode, None);
                }
            }
            Err(error) => {
                tracing::error!(%error, "a task of the gateway's has panicked");
                match self.passes.remove(&error.id()) {
                    Some(id) => {
                        let outcome = Outcome {
                            failure: Some("an error inside the gateway".to_owned()),
                            holds: self.applier.holds(id).await,
                            ..Outcome::default()
                        };
                        self.agenda.done(id, outcome, Instant::now());
                    }
                    None => self.looking = false,
                }
            }
        }
    }

    /// Looks what the namespaces' names denote, aside: there may be thousands.
    fn look(&mut self) {
        if self.looking || self.resting {
            return;
        }
        self.looking = true;
        let names = self.agenda.namespaces();
        let directory = self.applier.directory().clone();
        self.tasks.spawn_blocking(move || {
            let look = |name: String| {
                let inode = fs::metadata(directory.path().join(&name)).ok();
                (name, inode.map(|file| file.ino()))
            };
            Found::Looked(names.into_iter().map(look).collect())
        });
    }

    async fn end(mut self) {
        self.feed = None;
        // A pass is not cut off in the middle: what it has done must be known.
        while self.tasks.join_next().await.is_some() {}
        let applier = Arc::clone(&self.applier);
        let stopped = tokio::task::spawn_blocking(move || applier.stop_relay()).await;
        if let Err(error) = stopped {
            tracing::error!(%error, "the relay's stop was cut short");
        }
        self.applier.remove_addresses().await;
    }
}
