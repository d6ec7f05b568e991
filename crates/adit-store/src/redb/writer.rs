//! The writer thread: drains the queue, applies, makes durable once, publishes, answers.
//!
//! Owns the only write transaction and the leases' deadlines. A request that it drops unanswered (an I/O error, a panic)
//! reads as `Unknown` or `Unavailable` at the caller: nobody waits for ever.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use ::redb::{ReadableTable, Table, WriteTransaction};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout_at};

use super::{
    BATCH_REQUESTS_MAX, COMMITS, COMMITS_KEPT_MAX, ENTRIES, LEASED, LEASES_MAX, META, META_REVISION, Row,
    Shared,
};
use crate::store::{Batch, Change, Commit, Entry, LeaseId, Revision, StoreError};
use crate::txn::{CommitId, Compare, Txn, Write};

/// What the writer is asked to do.
pub(crate) enum Request {
    Commit {
        txn: Txn,
        reply: oneshot::Sender<Result<Commit, StoreError>>,
    },
    Settle {
        id: CommitId,
        since: Revision,
        reply: oneshot::Sender<Result<Option<Revision>, StoreError>>,
    },
    LeaseGrant {
        ttl: Duration,
        reply: oneshot::Sender<Result<LeaseId, StoreError>>,
    },
    LeaseKeepAlive {
        lease: LeaseId,
        reply: oneshot::Sender<Result<(), StoreError>>,
    },
    LeaseRevoke {
        lease: LeaseId,
        reply: oneshot::Sender<()>,
    },
    /// A defect of ours, met while the write transaction is open.
    #[cfg(test)]
    Panic,
}

/// An answer that is sent once what it says is durable. The asker may be gone, which is its affair.
enum Answer {
    Commit(
        oneshot::Sender<Result<Commit, StoreError>>,
        Result<Commit, StoreError>,
    ),
    Settle(
        oneshot::Sender<Result<Option<Revision>, StoreError>>,
        Result<Option<Revision>, StoreError>,
    ),
    LeaseRevoke(oneshot::Sender<()>),
}

struct Lease {
    ttl: Duration,
    deadline: Instant,
}

/// The state of the writer thread.
pub(crate) struct Writer {
    shared: Arc<Shared>,
    queue: mpsc::Receiver<Request>,
    published: watch::Sender<Revision>,
    leases: HashMap<LeaseId, Lease>,
}

impl Writer {
    /// Starts the thread. It ends when the queue has no sender, or at the first I/O error.
    pub(crate) fn spawn(
        shared: Arc<Shared>,
        queue: mpsc::Receiver<Request>,
        published: watch::Sender<Revision>,
    ) -> io::Result<JoinHandle<()>> {
        // Only for waiting on the queue with a deadline.
        let runtime = Builder::new_current_thread().enable_time().build()?;
        let writer = Self {
            shared,
            queue,
            published,
            leases: HashMap::new(),
        };
        std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || writer.run(&runtime))
    }

    fn run(mut self, runtime: &Runtime) {
        while let Some(requests) = runtime.block_on(self.wait()) {
            if let Err(source) = self.process(requests) {
                tracing::error!(
                    error = &source as &dyn std::error::Error,
                    "the store has stopped: it must be opened again"
                );
                *self.shared.failure.lock() =
                    Some(StoreError::unavailable("go on after an earlier failure", source));
                return;
            }
        }
    }

    /// Everything that is queued, or nothing if a lease lapses first; `None` once no request can come any more.
    async fn wait(&mut self) -> Option<Vec<Request>> {
        let mut requests = Vec::new();
        let received = self.queue.recv_many(&mut requests, BATCH_REQUESTS_MAX);
        let received = match self.leases.values().map(|lease| lease.deadline).min() {
            Some(deadline) => timeout_at(deadline, received).await.ok(),
            None => Some(received.await),
        };
        (received != Some(0)).then_some(requests)
    }

    fn process(&mut self, requests: Vec<Request>) -> Result<(), ::redb::Error> {
        // Keep-alives first: one that waited behind a slow fsync has come in time.
        let requests: Vec<Request> = requests
            .into_iter()
            .filter_map(|request| self.answer_in_memory(request))
            .collect();
        let lapsed = self.take_lapsed();
        if requests.is_empty() && lapsed.is_empty() {
            return Ok(());
        }

        self.shared.snapshots.sweep();
        let txn = self.shared.db.begin_write()?;
        let mut round = Round::open(&txn, self.shared.history.newest())?;
        for lease in lapsed {
            round.delete_leased(lease)?;
        }
        let mut answers = Vec::with_capacity(requests.len());
        for request in requests {
            answers.extend(self.apply(&mut round, request)?);
        }

        let batches = round.finish()?;
        if batches.is_empty() {
            txn.abort()?;
        } else {
            txn.commit()?;
            self.shared.metrics.commits.inc_by(batches.len() as u64);
            self.shared.metrics.batch.observe(batches.len() as f64);
            self.shared.history.publish(batches);
            self.published.send_replace(self.shared.history.newest());
        }
        answers.into_iter().for_each(Answer::send);
        Ok(())
    }

    /// Answers what concerns only the leases' deadlines; returns what must go to the database.
    fn answer_in_memory(&mut self, request: Request) -> Option<Request> {
        match request {
            Request::LeaseGrant { ttl, reply } => {
                let _ = reply.send(self.grant(ttl));
                None
            }
            Request::LeaseKeepAlive { lease, reply } => {
                let kept = self
                    .leases
                    .get_mut(&lease)
                    .ok_or(StoreError::LeaseNotFound(lease));
                let _ = reply.send(kept.map(|lease| lease.deadline = deadline_after(lease.ttl)));
                None
            }
            request => Some(request),
        }
    }

    fn grant(&mut self, ttl: Duration) -> Result<LeaseId, StoreError> {
        if self.leases.len() >= LEASES_MAX {
            return Err(StoreError::TooManyLeases { max: LEASES_MAX });
        }
        // Random, so that an id of an earlier process does not name a lease of this one. 0 means no lease.
        let lease = LeaseId(rand::random::<u64>().max(1));
        self.leases.insert(
            lease,
            Lease {
                ttl,
                deadline: deadline_after(ttl),
            },
        );
        Ok(lease)
    }

    fn take_lapsed(&mut self) -> Vec<LeaseId> {
        let now = Instant::now();
        self.leases
            .extract_if(|_, lease| lease.deadline <= now)
            .map(|(id, _)| id)
            .collect()
    }

    fn apply(&mut self, round: &mut Round<'_>, request: Request) -> Result<Option<Answer>, ::redb::Error> {
        Ok(match request {
            Request::Commit { txn, reply } => {
                let lapsed = |write: &Write| match write {
                    Write::Put {
                        lease: Some(lease), ..
                    } => Some(*lease).filter(|id| !self.leases.contains_key(id)),
                    _ => None,
                };
                let result = match txn.writes().iter().find_map(lapsed) {
                    Some(lease) => Err(StoreError::LeaseNotFound(lease)),
                    None => Ok(round.commit(&txn)?),
                };
                if matches!(result, Ok(Commit::Conflict)) {
                    self.shared.metrics.conflicts.inc();
                }
                Some(Answer::Commit(reply, result))
            }
            Request::Settle { id, since, reply } => Some(Answer::Settle(reply, round.settle(id, since)?)),
            Request::LeaseRevoke { lease, reply } => {
                self.leases.remove(&lease);
                round.delete_leased(lease)?;
                Some(Answer::LeaseRevoke(reply))
            }
            #[cfg(test)]
            Request::Panic => panic!("on purpose"),
            Request::LeaseGrant { .. } | Request::LeaseKeepAlive { .. } => {
                self.answer_in_memory(request).and(None)
            }
        })
    }
}

impl Answer {
    fn send(self) {
        match self {
            Self::Commit(reply, result) => drop(reply.send(result)),
            Self::Settle(reply, result) => drop(reply.send(result)),
            Self::LeaseRevoke(reply) => drop(reply.send(())),
        }
    }
}

/// A time to live too long for the clock never lapses in practice; a day stands for it, and keep-alives go on.
fn deadline_after(ttl: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(ttl)
        .unwrap_or_else(|| now + Duration::from_secs(24 * 60 * 60))
}

/// Deletes the keys of leases that died with their process, as one revision.
pub(crate) fn sweep_leases(
    txn: &WriteTransaction,
    newest: Revision,
) -> Result<(Revision, bool), ::redb::Error> {
    let mut round = Round::open(txn, newest)?;
    let mut lapsed = Vec::new();
    for row in round.leased.iter()? {
        lapsed.push(LeaseId(row?.0.value().0));
    }
    lapsed.dedup();
    for lease in lapsed {
        round.delete_leased(lease)?;
    }
    let newest = round.newest;
    Ok((newest, !round.finish()?.is_empty()))
}

/// One write transaction: the state as the requests so far have left it.
struct Round<'txn> {
    entries: Table<'txn, &'static str, Row>,
    leased: Table<'txn, (u64, &'static str), ()>,
    commits: Table<'txn, u64, u128>,
    meta: Table<'txn, &'static str, u128>,
    newest: Revision,
    batches: Vec<Batch>,
}

impl<'txn> Round<'txn> {
    fn open(txn: &'txn WriteTransaction, newest: Revision) -> Result<Self, ::redb::Error> {
        Ok(Self {
            entries: txn.open_table(ENTRIES)?,
            leased: txn.open_table(LEASED)?,
            commits: txn.open_table(COMMITS)?,
            meta: txn.open_table(META)?,
            newest,
            batches: Vec::new(),
        })
    }

    /// The revisions made. Closes the tables, so that the transaction can be committed.
    fn finish(mut self) -> Result<Vec<Batch>, ::redb::Error> {
        self.meta.insert(META_REVISION, u128::from(self.newest.0))?;
        Ok(self.batches)
    }

    fn commit(&mut self, txn: &Txn) -> Result<Commit, ::redb::Error> {
        for compare in txn.compares() {
            let modified = self
                .entries
                .get(&**compare.key())?
                .map(|row| Revision(row.value().1));
            let holds = match compare {
                Compare::Absent(_) => modified.is_none(),
                Compare::Unchanged(_, revision) => modified == Some(*revision),
            };
            if !holds {
                return Ok(Commit::Conflict);
            }
        }
        let revision = Revision(self.newest.0 + 1);
        let mut changes = Vec::with_capacity(txn.writes().len());
        for write in txn.writes() {
            match write {
                Write::Put { key, value, lease } => {
                    let entry = self.put(key, value, *lease, revision)?;
                    changes.push(Change {
                        key: key.clone(),
                        entry: Some(entry),
                    });
                }
                Write::Delete { key } => changes.extend(self.delete(key)?),
            }
        }
        if self.close_revision(changes) {
            self.commits.insert(revision.0, txn.id().0.as_u128())?;
            if let Some(oldest) = revision.0.checked_sub(COMMITS_KEPT_MAX) {
                self.commits.remove(oldest)?;
            }
        }
        Ok(Commit::Committed(self.newest))
    }

    fn put(
        &mut self,
        key: &Arc<str>,
        value: &Arc<[u8]>,
        lease: Option<LeaseId>,
        revision: Revision,
    ) -> Result<Entry, ::redb::Error> {
        let (holder, lease) = (lease, lease.map_or(0, |lease| lease.0));
        let (created, old_lease) = match self.entries.get(&**key)? {
            Some(old) => (old.value().0, old.value().2),
            None => (revision.0, 0),
        };
        if old_lease != lease {
            self.leased.remove((old_lease, &**key))?;
            if lease != 0 {
                self.leased.insert((lease, &**key), ())?;
            }
        }
        self.entries
            .insert(&**key, (created, revision.0, lease, &**value))?;
        let (mod_revision, create_revision) = (revision, Revision(created));
        Ok(Entry {
            key: key.clone(),
            value: value.clone(),
            mod_revision,
            create_revision,
            lease: holder,
        })
    }

    fn delete(&mut self, key: &Arc<str>) -> Result<Option<Change>, ::redb::Error> {
        let Some(lease) = self.entries.remove(&**key)?.map(|old| old.value().2) else {
            return Ok(None);
        };
        if lease != 0 {
            self.leased.remove((lease, &**key))?;
        }
        Ok(Some(Change {
            key: key.clone(),
            entry: None,
        }))
    }

    /// Deletes all keys of a lease, as one revision.
    fn delete_leased(&mut self, lease: LeaseId) -> Result<(), ::redb::Error> {
        let mut keys: Vec<Arc<str>> = Vec::new();
        for row in self.leased.range((lease.0, "")..)? {
            let row = row?.0;
            let (id, key) = row.value();
            if id != lease.0 {
                break;
            }
            keys.push(key.into());
        }
        let mut changes = Vec::with_capacity(keys.len());
        for key in &keys {
            changes.extend(self.delete(key)?);
        }
        self.close_revision(changes);
        Ok(())
    }

    /// Takes the next revision for these changes, if there are any.
    fn close_revision(&mut self, changes: Vec<Change>) -> bool {
        if changes.is_empty() {
            return false;
        }
        self.newest = Revision(self.newest.0 + 1);
        self.batches.push(Batch {
            revision: self.newest,
            changes: changes.into(),
        });
        true
    }

    fn settle(
        &self,
        id: CommitId,
        since: Revision,
    ) -> Result<Result<Option<Revision>, StoreError>, ::redb::Error> {
        if since.0 < self.newest.0.saturating_sub(COMMITS_KEPT_MAX) {
            return Ok(Err(StoreError::Compacted { revision: since }));
        }
        for row in self.commits.range(since.0.saturating_add(1)..)? {
            let (revision, found) = row?;
            if found.value() == id.0.as_u128() {
                return Ok(Ok(Some(Revision(revision.value()))));
            }
        }
        Ok(Ok(None))
    }
}
