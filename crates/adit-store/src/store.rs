//! The trait that every engine implements, and the words it speaks.
//!
//! Keys are paths, values are bytes. Every commit that changes something takes one **revision**, a number that
//! only grows; an entry remembers the revision that created it and the one that wrote it last. Nothing here
//! decides what a key means. Read next: [`crate::txn`], then [`crate::redb`] for how one engine keeps the promises.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::txn::{CommitId, KEY_BYTES_MAX, TXN_BYTES_MAX, TXN_OPERATIONS_MAX, Txn};

/// Most entries of one page of [`Store::list`]; a larger limit is taken as this one.
pub const PAGE_ENTRIES_MAX: usize = 1000;
/// A page ends early once its keys and values reach this many bytes.
pub const PAGE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A versioned key-value store with watch. Used as `Arc<dyn Store>`.
///
/// Every method may be called from many tasks at once, and may be dropped half-way; a dropped `commit` is an
/// outcome that nobody learnt, as [`Commit::Unknown`].
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// The entry of a key, as of the newest revision.
    async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError>;

    /// Entries under a prefix in order of key, at most `limit` (1 to [`PAGE_ENTRIES_MAX`]) of them.
    ///
    /// All pages of one list are of one revision, the first page's. [`StoreError::Compacted`] says that it cannot be
    /// read any more: start anew.
    async fn list(&self, prefix: &str, after: Option<&PageToken>, limit: usize) -> Result<Page, StoreError>;

    /// Follows what happens under a prefix after the token's revision.
    async fn watch(&self, prefix: &str, from: &ResumeToken) -> Result<Box<dyn Watch>, WatchError>;

    /// Writes all of a transaction or nothing. An error means that nothing was or will be written.
    async fn commit(&self, txn: Txn) -> Result<Commit, StoreError>;

    /// Settles a [`Commit::Unknown`]: the revision that the commit took, or `None` if it did not happen and never will.
    ///
    /// `since` is a revision from before the commit was tried (the one it was decided on);
    /// [`StoreError::Compacted`] says that the store no longer remembers that far back.
    async fn settle(&self, id: CommitId, since: Revision) -> Result<Option<Revision>, StoreError>;

    /// The newest committed revision: at least that of every commit answered before this call, by any process.
    async fn barrier(&self) -> Result<Revision, StoreError>;

    /// Whether it takes writes, where the last one was refused for a reason that stays until somebody mends it; else nothing is
    /// asked. For who watches over a process.
    async fn can_write(&self) -> Result<(), StoreError> {
        Ok(())
    }

    /// Grants a lease that lapses unless it is kept alive within `ttl`. Engines may round up (etcd: to 2 s).
    async fn lease_grant(&self, ttl: Duration) -> Result<LeaseId, StoreError>;

    /// Starts the lease's `ttl` anew. [`StoreError::LeaseNotFound`] if it has lapsed.
    async fn lease_keep_alive(&self, lease: LeaseId) -> Result<(), StoreError>;

    /// Ends the lease now; its keys are gone when this returns. A lease that has lapsed is no error.
    async fn lease_revoke(&self, lease: LeaseId) -> Result<(), StoreError>;
}

/// The changes under a prefix, one revision after the other.
#[async_trait]
pub trait Watch: Send {
    /// Waits for the next revision. May be dropped half-way without losing anything.
    ///
    /// Every revision of the store is delivered, in order and whole, also one that changed nothing under the
    /// prefix (its `changes` are empty): so a follower always comes to know that it has reached a revision.
    async fn next(&mut self) -> Result<Batch, WatchError>;

    /// The next revision, if it is at hand already: a follower takes in all that came together at once. An engine that
    /// cannot tell says no; whatever is wrong, [`Watch::next`] says.
    fn try_next(&mut self) -> Option<Batch> {
        None
    }
}

/// A point in the history of a store. Only revisions of one incarnation compare.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Revision(pub u64);

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Names one life of a store's data, drawn at random when the data was created.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Incarnation(pub Uuid);

/// A key with its value and history.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// The key.
    pub key: Arc<str>,
    /// The value.
    pub value: Arc<[u8]>,
    /// The revision that wrote the value.
    pub mod_revision: Revision,
    /// The revision that created the key (again, after a delete).
    pub create_revision: Revision,
    /// The lease that the key lives with, if any.
    pub lease: Option<LeaseId>,
}

/// One page of [`Store::list`].
#[derive(Clone, Debug)]
pub struct Page {
    /// The entries, in order of key.
    pub entries: Vec<Entry>,
    /// The life of the store that was read.
    pub incarnation: Incarnation,
    /// The revision that was read.
    pub revision: Revision,
    /// Where the next page starts; `None` after the last.
    pub next: Option<PageToken>,
}

impl Page {
    /// Watching from here delivers exactly what happened after the list.
    pub fn resume_token(&self) -> ResumeToken {
        ResumeToken {
            incarnation: self.incarnation,
            revision: self.revision,
        }
    }
}

/// Where a list goes on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PageToken {
    /// The life of the store that is listed.
    pub incarnation: Incarnation,
    /// The revision that is listed.
    pub revision: Revision,
    /// The last key delivered.
    pub after: Arc<str>,
}

/// Where a watch goes on: the last revision already known.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ResumeToken {
    /// The life of the store that the revision belongs to.
    pub incarnation: Incarnation,
    /// The last revision already known.
    pub revision: Revision,
}

/// One revision, whole.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Batch {
    /// The revision.
    pub revision: Revision,
    /// What it changed under the watched prefix, each key at most once.
    pub changes: Arc<[Change]>,
}

/// What happened to one key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    /// The key.
    pub key: Arc<str>,
    /// What the key holds now; `None` if it was deleted.
    pub entry: Option<Entry>,
}

/// A lease, as granted by the engine.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LeaseId(pub u64);

impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// What became of a transaction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Commit {
    /// It is durable, at this revision (the newest one, if it changed nothing).
    Committed(Revision),
    /// A compare did not hold; nothing was written.
    Conflict,
    /// It may be durable or not: the engine failed between the writing and the answer. Settle it with
    /// [`Store::settle`]; never repeat it blindly.
    Unknown,
}

/// Why the store did not do as asked. Nothing was written.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// More compares and writes than a transaction may have.
    #[error("a transaction of {operations} operations; at most {TXN_OPERATIONS_MAX} are allowed")]
    TooManyOperations {
        /// How many it has.
        operations: usize,
    },
    /// More bytes than a transaction may have.
    #[error("a transaction of {bytes} bytes; at most {TXN_BYTES_MAX} are allowed")]
    TooLarge {
        /// How many it has.
        bytes: usize,
    },
    /// A key that is empty or too long.
    #[error("the key {key:?} is not 1 to {KEY_BYTES_MAX} bytes long")]
    InvalidKey {
        /// The key.
        key: Arc<str>,
    },
    /// A transaction that writes a key twice.
    #[error("the transaction writes {key:?} twice")]
    DuplicateKey {
        /// The key.
        key: Arc<str>,
    },
    /// The lease has lapsed, was revoked, or is another store's.
    #[error("no lease {0}")]
    LeaseNotFound(LeaseId),
    /// More leases than the engine keeps.
    #[error("{max} leases are in use, which is the limit")]
    TooManyLeases {
        /// The limit.
        max: usize,
    },
    /// The revision asked for cannot be read any more (or is another incarnation's): start anew.
    #[error("revision {revision} cannot be read any more")]
    Compacted {
        /// The revision.
        revision: Revision,
    },
    /// The store does not work now.
    #[error("the store could not {doing}")]
    Unavailable {
        /// What was attempted.
        doing: &'static str,
        /// Why it failed.
        source: Arc<dyn Error + Send + Sync>,
    },
}

impl StoreError {
    /// An [`StoreError::Unavailable`].
    pub fn unavailable(doing: &'static str, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Unavailable {
            doing,
            source: Arc::from(source.into()),
        }
    }
}

/// Why a watch ended.
#[derive(Clone, Debug, thiserror::Error)]
pub enum WatchError {
    /// The watcher came too late or fell behind, or its token is another incarnation's: list again, start anew.
    #[error("the history after revision {revision} is not kept any more")]
    Compacted {
        /// The last revision that the watcher knows.
        revision: Revision,
    },
    /// The store does not work now; watching again from the same token loses nothing.
    #[error("the watch broke off")]
    Unavailable(#[source] StoreError),
}
