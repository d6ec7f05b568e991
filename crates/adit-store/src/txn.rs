//! A transaction: compares and writes that happen together or not at all.
//!
//! Owns its limits, which are the same for every engine and are checked before anything is written.
//! Read next: [`Store::commit`](crate::Store::commit).

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::store::{LeaseId, Revision, StoreError};

/// Most compares and writes, counted together, of one transaction. Half of what etcd allows by default.
pub const TXN_OPERATIONS_MAX: usize = 64;
/// Most bytes of keys and values, counted together, of one transaction: under etcd's limit of a request (1.5 MiB).
pub const TXN_BYTES_MAX: usize = 1024 * 1024;
/// Longest key, in bytes: our keys are paths of a few ids, so a longer one is a mistake.
pub const KEY_BYTES_MAX: usize = 512;

/// Names one attempt to commit, so that an unknown outcome can be settled by reading back.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct CommitId(pub Uuid);

impl fmt::Display for CommitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What must be true for a transaction to be committed.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Compare {
    /// The key does not exist.
    Absent(Arc<str>),
    /// The key exists and was last written at this revision.
    Unchanged(Arc<str>, Revision),
}

impl Compare {
    /// The key that is compared.
    pub fn key(&self) -> &Arc<str> {
        match self {
            Self::Absent(key) | Self::Unchanged(key, _) => key,
        }
    }
}

/// One write of a transaction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Write {
    /// Creates or replaces the key. Replacing takes the key over: a lease it had before no longer counts.
    Put {
        /// The key.
        key: Arc<str>,
        /// The value.
        value: Arc<[u8]>,
        /// The lease that the key lives with, if any.
        lease: Option<LeaseId>,
    },
    /// Removes the key; nothing happens if it does not exist.
    Delete {
        /// The key.
        key: Arc<str>,
    },
}

impl Write {
    /// The key that is written.
    pub fn key(&self) -> &Arc<str> {
        match self {
            Self::Put { key, .. } | Self::Delete { key } => key,
        }
    }
}

/// Compares and writes that happen together or not at all.
///
/// Every compare looks at the state before the first write. A key is written at most once. A transaction that
/// changes nothing (only compares, or deletes of absent keys) takes no revision.
#[derive(Clone, Debug)]
pub struct Txn {
    id: CommitId,
    compares: Vec<Compare>,
    writes: Vec<Write>,
}

impl Default for Txn {
    fn default() -> Self {
        Self::new()
    }
}

impl Txn {
    /// An empty transaction with a new commit id.
    pub fn new() -> Self {
        Self {
            id: CommitId(Uuid::new_v4()),
            compares: Vec::new(),
            writes: Vec::new(),
        }
    }

    /// Commits only if the key does not exist.
    #[must_use]
    pub fn absent(mut self, key: impl Into<Arc<str>>) -> Self {
        self.compares.push(Compare::Absent(key.into()));
        self
    }

    /// Commits only if the key exists and was last written at this revision.
    #[must_use]
    pub fn unchanged(mut self, key: impl Into<Arc<str>>, revision: Revision) -> Self {
        self.compares.push(Compare::Unchanged(key.into(), revision));
        self
    }

    /// Creates or replaces the key.
    #[must_use]
    pub fn put(mut self, key: impl Into<Arc<str>>, value: impl Into<Arc<[u8]>>) -> Self {
        self.writes.push(Write::Put {
            key: key.into(),
            value: value.into(),
            lease: None,
        });
        self
    }

    /// Creates or replaces the key, which vanishes when the lease lapses.
    #[must_use]
    pub fn put_leased(
        mut self,
        key: impl Into<Arc<str>>,
        value: impl Into<Arc<[u8]>>,
        lease: LeaseId,
    ) -> Self {
        self.writes.push(Write::Put {
            key: key.into(),
            value: value.into(),
            lease: Some(lease),
        });
        self
    }

    /// Removes the key, if it exists.
    #[must_use]
    pub fn delete(mut self, key: impl Into<Arc<str>>) -> Self {
        self.writes.push(Write::Delete { key: key.into() });
        self
    }

    /// The id to settle an unknown outcome with; note it before the transaction is handed to `commit`.
    pub fn id(&self) -> CommitId {
        self.id
    }

    /// What must be true.
    pub fn compares(&self) -> &[Compare] {
        &self.compares
    }

    /// What is written.
    pub fn writes(&self) -> &[Write] {
        &self.writes
    }

    /// Compares and writes together, as counted against [`TXN_OPERATIONS_MAX`].
    pub fn operations(&self) -> usize {
        self.compares.len() + self.writes.len()
    }

    /// Keys and values together, as counted against [`TXN_BYTES_MAX`].
    pub fn bytes(&self) -> usize {
        let compared: usize = self.compares.iter().map(|compare| compare.key().len()).sum();
        let written = |write: &Write| match write {
            Write::Put { key, value, .. } => key.len() + value.len(),
            Write::Delete { key } => key.len(),
        };
        compared + self.writes.iter().map(written).sum::<usize>()
    }

    /// Refuses a transaction that no engine takes. Every engine calls it before anything else.
    pub fn check(&self) -> Result<(), StoreError> {
        if self.operations() > TXN_OPERATIONS_MAX {
            return Err(StoreError::TooManyOperations {
                operations: self.operations(),
            });
        }
        if self.bytes() > TXN_BYTES_MAX {
            return Err(StoreError::TooLarge { bytes: self.bytes() });
        }
        for key in self
            .compares
            .iter()
            .map(Compare::key)
            .chain(self.writes.iter().map(Write::key))
        {
            if key.is_empty() || key.len() > KEY_BYTES_MAX {
                return Err(StoreError::InvalidKey { key: key.clone() });
            }
        }
        let mut written = HashSet::new();
        match self.writes.iter().find(|write| !written.insert(write.key())) {
            Some(twice) => Err(StoreError::DuplicateKey {
                key: twice.key().clone(),
            }),
            None => Ok(()),
        }
    }
}
