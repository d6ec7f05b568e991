//! The embedded engine: one redb file, one writer thread, group commit.
//!
//! - Commits wait in a bounded queue. The writer takes all that wait, applies them one after the other inside one
//!   write transaction (each with its own revision, its compares against what the ones before it wrote), makes
//!   that durable once, publishes, and only then answers: concurrent commits share one fsync.
//! - Readers see durable data only. A list pins a snapshot of the database, so that all of its pages are of one revision.
//! - Watches read a bounded history in memory, which starts empty at every open.
//! - After an I/O error or a panic of the writer the engine stops: commits in flight are answered `Unknown`, and everything
//!   after that is `Unavailable` until the file is opened again. It never guesses what reached the disk.
//! - Leases live with the process: keys under one are deleted at the next open.
//!
//! Never: a network, a second writer, a decision about keys.
//!
//! # Format, version 1
//!
//! | table | key | value |
//! |---|---|---|
//! | `meta` | `format`, `incarnation`, `revision` | u128 |
//! | `entries` | key | (create revision, mod revision, lease or 0, value) |
//! | `leased` | (lease, key) | nothing: the keys of each lease |
//! | `commits` | revision | commit id; the last [`COMMITS_KEPT_MAX`] revisions, for `settle` |
//!
//! All of it is changed by one durable transaction at a time, so that it always agrees with itself. A file of a newer
//! format is refused by name. Read next: `redb/writer.rs`.

mod device;
mod history;
mod metrics;
mod snapshot;
#[cfg(test)]
mod tests;
mod writer;

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ::redb::backends::{FileBackend, InMemoryBackend};
use ::redb::{
    Database, DatabaseError, ReadTransaction, ReadableDatabase, ReadableTable, StorageBackend,
    TableDefinition,
};
use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot, watch};
use uuid::Uuid;

use crate::store::{
    Commit, Entry, Incarnation, LeaseId, Page, PageToken, ResumeToken, Revision, Store, StoreError, Watch,
    WatchError,
};
use crate::txn::{CommitId, Txn};
use device::Device;
use history::{History, HistoryWatch};
pub use metrics::Metrics;
use snapshot::Snapshots;
use writer::{Request, Writer};

/// The format that this version writes, and the newest that it reads.
pub const FORMAT_VERSION: u128 = 1;
/// Most requests waiting for the writer; more wait for a place in the queue. At most two batches.
pub const QUEUE_REQUESTS_MAX: usize = 512;
/// Most requests that share one fsync: bounds the time of one batch.
pub const BATCH_REQUESTS_MAX: usize = 256;
/// How many revisions back a commit can be settled: seconds of the highest commit rate.
pub const COMMITS_KEPT_MAX: u64 = 32_768;
/// Most leases at one time: one per process of the region, with room.
pub const LEASES_MAX: usize = 4096;
/// The database's cache of pages, in bytes. The watch cache holds the state; this serves the writer's tree descents, of
/// which it holds all but the last steps for a million entries, and the system's own cache has the rest.
const PAGE_CACHE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// (create revision, mod revision, lease or 0, value).
type Row = (u64, u64, u64, &'static [u8]);

const META: TableDefinition<&str, u128> = TableDefinition::new("meta");
const ENTRIES: TableDefinition<&str, Row> = TableDefinition::new("entries");
const LEASED: TableDefinition<(u64, &str), ()> = TableDefinition::new("leased");
const COMMITS: TableDefinition<u64, u128> = TableDefinition::new("commits");

const META_FORMAT: &str = "format";
const META_INCARNATION: &str = "incarnation";
const META_REVISION: &str = "revision";

/// Why a store file could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process (or this one) has it open.
    #[error("{path:?} is in use by another process")]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// A newer version of the software wrote it.
    #[error("{path:?} has format {found}, newer than {FORMAT_VERSION}, the newest that this version reads")]
    NewerFormat {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u128,
    },
    /// It holds a redb database of something else.
    #[error("{path:?} is not a store file")]
    NotAStore {
        /// The file.
        path: PathBuf,
    },
    /// The file could not be created or read.
    #[error("cannot open {path:?}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The database in it could not be read or brought up to date.
    #[error("cannot use the database in {path:?}")]
    Database {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Box<::redb::Error>,
    },
}

/// How much work the engine has done since it was opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stats {
    /// Commits that took a revision.
    pub commits: u64,
    /// Syncs of the device, including the few of opening.
    pub fsyncs: u64,
}

/// The embedded engine. Dropping it answers what is queued, then closes the file.
pub struct RedbStore {
    shared: Arc<Shared>,
    /// `None` only while dropping: the writer ends when the queue has no sender.
    requests: Option<mpsc::Sender<Request>>,
    published: watch::Receiver<Revision>,
    writer: Option<JoinHandle<()>>,
}

/// What readers and the writer share.
struct Shared {
    db: Database,
    incarnation: Incarnation,
    history: Arc<History>,
    snapshots: Snapshots,
    metrics: Metrics,
    /// Why the writer stopped, if it met an error.
    failure: Mutex<Option<StoreError>>,
}

impl RedbStore {
    /// Opens the store in a file, creating it if it is not there. Blocks; after a crash for as long as it takes to
    /// read the whole file once.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, OpenError> {
        let path = path.as_ref();
        let io_error = |source| OpenError::Io {
            path: path.to_owned(),
            source,
        };
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            // What signs tokens is in it.
            .mode(0o600)
            .open(path)
            .map_err(io_error)?;
        sync_parent(path).map_err(io_error)?;
        let backend = FileBackend::new(file).map_err(|source| database_error(path, source))?;
        Self::with_backend(backend, path)
    }

    /// A store in memory, gone with the process. Everything else is as with a file.
    pub fn ephemeral() -> Result<Self, OpenError> {
        Self::with_backend(InMemoryBackend::new(), Path::new(":memory:"))
    }

    /// A store on any device of redb; `path` is for messages.
    pub(crate) fn with_backend(backend: impl StorageBackend, path: &Path) -> Result<Self, OpenError> {
        let metrics = Metrics::default();
        let db = Database::builder()
            .set_cache_size(PAGE_CACHE_BYTES_MAX)
            .create_with_backend(Device::new(backend, metrics.clone()))
            .map_err(|source| match source {
                DatabaseError::DatabaseAlreadyOpen => OpenError::InUse {
                    path: path.to_owned(),
                },
                source => database_error(path, source),
            })?;
        let (incarnation, newest) = prepare(&db, path)?;
        let shared = Arc::new(Shared {
            db,
            incarnation,
            history: Arc::new(History::new(newest)),
            snapshots: Snapshots::default(),
            metrics,
            failure: Mutex::new(None),
        });
        let (requests, queue) = mpsc::channel(QUEUE_REQUESTS_MAX);
        let (publisher, published) = watch::channel(newest);
        let writer = Writer::spawn(shared.clone(), queue, publisher).map_err(|source| OpenError::Io {
            path: path.to_owned(),
            source,
        })?;
        Ok(Self {
            shared,
            requests: Some(requests),
            published,
            writer: Some(writer),
        })
    }

    /// How much work was done since opening.
    pub fn stats(&self) -> Stats {
        Stats {
            commits: self.shared.metrics.commits.get(),
            fsyncs: self.shared.metrics.fsyncs.get(),
        }
    }

    /// The same and more, for a registry.
    pub fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }

    /// Forgets the history and the pinned snapshots: watchers that are behind and lists that are half-way are told
    /// [`StoreError::Compacted`], as when a limit is reached.
    pub fn compact_history(&self) {
        self.shared.history.compact();
        self.shared.snapshots.clear();
    }

    /// Refuses to read from an engine that has stopped: what it remembers may differ from what reached the disk.
    fn check_running(&self, doing: &'static str) -> Result<(), StoreError> {
        match &self.requests {
            Some(requests) if !requests.is_closed() => Ok(()),
            _ => Err(self.stopped(doing)),
        }
    }

    fn stopped(&self, doing: &'static str) -> StoreError {
        let failure = self.shared.failure.lock().clone();
        failure.unwrap_or_else(|| StoreError::unavailable(doing, "its writer has ended"))
    }

    /// Hands a request to the writer. The answer's absence means that the writer stopped before it answered.
    async fn ask<T>(
        &self,
        doing: &'static str,
        request: impl FnOnce(oneshot::Sender<T>) -> Request,
    ) -> Result<Option<T>, StoreError> {
        let (reply, answer) = oneshot::channel();
        let requests = self.requests.as_ref().ok_or_else(|| self.stopped(doing))?;
        requests
            .send(request(reply))
            .await
            .map_err(|_| self.stopped(doing))?;
        Ok(answer.await.ok())
    }
}

impl Drop for RedbStore {
    fn drop(&mut self) {
        self.requests = None;
        if let Some(writer) = self.writer.take() {
            // A panic of the writer was answered to its callers and printed; there is nobody left to tell.
            let _ = writer.join();
        }
    }
}

#[async_trait]
impl Store for RedbStore {
    /// One descent of the tree, mostly in the page cache: not worth another thread.
    async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        self.check_running("read")?;
        let read = || -> Result<Option<Entry>, ::redb::Error> {
            // Named, so that both outlive the row: redb's guard does not keep its page from being used again.
            let snapshot = self.shared.db.begin_read()?;
            let entries = snapshot.open_table(ENTRIES)?;
            let row = entries.get(key)?;
            Ok(row.map(|row| entry_of(key, row.value())))
        };
        read().map_err(|source| StoreError::unavailable("read", source))
    }

    async fn list(&self, prefix: &str, after: Option<&PageToken>, limit: usize) -> Result<Page, StoreError> {
        self.check_running("list")?;
        let shared = self.shared.clone();
        let (prefix, after) = (prefix.to_owned(), after.cloned());
        tokio::task::spawn_blocking(move || shared.list(&prefix, after.as_ref(), limit))
            .await
            .unwrap_or_else(|panic| Err(StoreError::unavailable("list", panic)))
    }

    async fn watch(&self, prefix: &str, from: &ResumeToken) -> Result<Box<dyn Watch>, WatchError> {
        self.check_running("watch").map_err(WatchError::Unavailable)?;
        let Shared {
            history, incarnation, ..
        } = &*self.shared;
        // A list may have read a revision a moment before it was published; but one that was never written
        // comes from a copy of the file that had another future.
        let from_the_future = || -> Result<bool, ::redb::Error> {
            Ok(from.revision > history.newest()
                && from.revision > read_revision(&self.shared.db.begin_read()?)?)
        };
        let from_the_future = from_the_future()
            .map_err(|source| WatchError::Unavailable(StoreError::unavailable("watch", source)))?;
        if from.incarnation != *incarnation || from_the_future || !history.reaches_back_to(from.revision) {
            return Err(WatchError::Compacted {
                revision: from.revision,
            });
        }
        Ok(Box::new(HistoryWatch {
            history: history.clone(),
            prefix: prefix.into(),
            known: from.revision,
            published: self.published.clone(),
        }))
    }

    async fn commit(&self, txn: Txn) -> Result<Commit, StoreError> {
        txn.check()?;
        let begun = Instant::now();
        let answer = self.ask("commit", |reply| Request::Commit { txn, reply }).await?;
        let metrics = &self.shared.metrics;
        metrics.commit_seconds.observe(begun.elapsed().as_secs_f64());
        answer.unwrap_or(Ok(Commit::Unknown))
    }

    async fn settle(&self, id: CommitId, since: Revision) -> Result<Option<Revision>, StoreError> {
        // Through the queue: behind the commit in question, which may still be waiting in it.
        let answer = self
            .ask("settle", |reply| Request::Settle { id, since, reply })
            .await?;
        answer.unwrap_or_else(|| Err(self.stopped("settle")))
    }

    async fn barrier(&self) -> Result<Revision, StoreError> {
        // This process is the only writer, and a commit is answered after it is published.
        self.check_running("read its newest revision")?;
        Ok(self.shared.history.newest())
    }

    async fn lease_grant(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        let answer = self
            .ask("grant a lease", |reply| Request::LeaseGrant { ttl, reply })
            .await?;
        answer.unwrap_or_else(|| Err(self.stopped("grant a lease")))
    }

    async fn lease_keep_alive(&self, lease: LeaseId) -> Result<(), StoreError> {
        let answer = self
            .ask("keep a lease alive", |reply| Request::LeaseKeepAlive {
                lease,
                reply,
            })
            .await?;
        answer.unwrap_or_else(|| Err(self.stopped("keep a lease alive")))
    }

    async fn lease_revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        let answer = self
            .ask("revoke a lease", |reply| Request::LeaseRevoke { lease, reply })
            .await?;
        answer.ok_or_else(|| self.stopped("revoke a lease"))
    }
}

impl Shared {
    fn list(&self, prefix: &str, after: Option<&PageToken>, limit: usize) -> Result<Page, StoreError> {
        let unavailable = |source: ::redb::Error| StoreError::unavailable("list", source);
        let (revision, snapshot) = match after {
            Some(token) => {
                let snapshot = Some(token)
                    .filter(|token| token.incarnation == self.incarnation)
                    .and_then(|token| self.snapshots.find(token.revision))
                    .ok_or(StoreError::Compacted {
                        revision: token.revision,
                    })?;
                (token.revision, snapshot)
            }
            None => {
                let snapshot = self
                    .db
                    .begin_read()
                    .map_err(|source| unavailable(source.into()))?;
                (read_revision(&snapshot).map_err(unavailable)?, Arc::new(snapshot))
            }
        };
        let after = after.map(|token| &*token.after);
        let (entries, more) = snapshot::read_page(&snapshot, prefix, after, limit).map_err(unavailable)?;
        let last_key = entries
            .last()
            .filter(|_| more)
            .map(|entry: &Entry| entry.key.clone());
        let next = last_key.map(|after| {
            self.snapshots.pin(revision, snapshot);
            PageToken {
                incarnation: self.incarnation,
                revision,
                after,
            }
        });
        Ok(Page {
            entries,
            incarnation: self.incarnation,
            revision,
            next,
        })
    }
}

fn entry_of(key: &str, (create, modified, lease, value): (u64, u64, u64, &[u8])) -> Entry {
    Entry {
        key: key.into(),
        value: value.into(),
        mod_revision: Revision(modified),
        create_revision: Revision(create),
        lease: (lease != 0).then_some(LeaseId(lease)),
    }
}

fn read_revision(snapshot: &ReadTransaction) -> Result<Revision, ::redb::Error> {
    let revision = snapshot
        .open_table(META)?
        .get(META_REVISION)?
        .map_or(0, |revision| revision.value());
    Ok(revision_of(revision))
}

/// `meta` holds revisions as u128 beside the ids; they fit u64 since we wrote them from one.
fn revision_of(stored: u128) -> Revision {
    Revision(u64::try_from(stored).unwrap_or(u64::MAX))
}

/// Checks the format, or writes it into a new file, and deletes the keys whose leases died with their process.
fn prepare(db: &Database, path: &Path) -> Result<(Incarnation, Revision), OpenError> {
    let result = || -> Result<Result<(Incarnation, Revision), OpenError>, ::redb::Error> {
        let txn = db.begin_write()?;
        let is_new = txn.list_tables()?.next().is_none();
        let (incarnation, newest) = {
            let mut meta = txn.open_table(META)?;
            let format = meta.get(META_FORMAT)?.map(|format| format.value());
            match format {
                None if !is_new => {
                    return Ok(Err(OpenError::NotAStore {
                        path: path.to_owned(),
                    }));
                }
                Some(found) if found > FORMAT_VERSION => {
                    return Ok(Err(OpenError::NewerFormat {
                        path: path.to_owned(),
                        found,
                    }));
                }
                Some(_) => {}
                None => {
                    meta.insert(META_FORMAT, FORMAT_VERSION)?;
                    meta.insert(META_INCARNATION, Uuid::new_v4().as_u128())?;
                    meta.insert(META_REVISION, 0)?;
                }
            }
            let read =
                |key| -> Result<u128, ::redb::Error> { Ok(meta.get(key)?.map_or(0, |value| value.value())) };
            (
                Incarnation(Uuid::from_u128(read(META_INCARNATION)?)),
                revision_of(read(META_REVISION)?),
            )
        };
        let (newest, changed) = writer::sweep_leases(&txn, newest)?;
        if is_new || changed {
            txn.commit()?;
        } else {
            txn.abort()?;
        }
        Ok(Ok((incarnation, newest)))
    };
    result().map_err(|source| OpenError::Database {
        path: path.to_owned(),
        source: Box::new(source),
    })?
}

fn database_error(path: &Path, source: DatabaseError) -> OpenError {
    OpenError::Database {
        path: path.to_owned(),
        source: Box::new(source.into()),
    }
}

/// A new file survives power loss only once its folder is on disk as well.
fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    File::open(parent)?.sync_all()
}
