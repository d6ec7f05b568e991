//! The recent revisions, in memory, and the watches that read them.
//!
//! Holds only what is durable: the writer publishes after its fsync. Bounded in revisions and in bytes; a watcher
//! that is behind the oldest kept revision is told so. Starts empty at every open.

use std::collections::VecDeque;
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::store::{Batch, Change, Revision, StoreError, Watch, WatchError};

/// Most revisions kept for watchers: seconds of the highest commit rate, far more than a live watcher lags.
pub(crate) const HISTORY_REVISIONS_MAX: usize = 32_768;
/// Most bytes of keys and values kept for watchers.
pub(crate) const HISTORY_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The recent revisions, without a gap.
pub(crate) struct History {
    kept: Mutex<Kept>,
}

struct Kept {
    newest: Revision,
    batches: VecDeque<Batch>,
    bytes: usize,
}

/// What the history knows of a revision.
enum Lookup {
    Found(Batch),
    NotYet,
    Forgotten,
}

impl History {
    /// An empty history of a store whose newest revision is given.
    pub(crate) fn new(newest: Revision) -> Self {
        Self {
            kept: Mutex::new(Kept {
                newest,
                batches: VecDeque::new(),
                bytes: 0,
            }),
        }
    }

    /// The newest durable revision.
    pub(crate) fn newest(&self) -> Revision {
        self.kept.lock().newest
    }

    /// Appends revisions, which follow the newest one without a gap, and forgets the oldest beyond the limits.
    pub(crate) fn publish(&self, batches: Vec<Batch>) {
        let mut kept = self.kept.lock();
        for batch in batches {
            debug_assert_eq!(batch.revision.0, kept.newest.0 + 1);
            kept.newest = batch.revision;
            kept.bytes += batch_bytes(&batch);
            kept.batches.push_back(batch);
        }
        while kept.batches.len() > HISTORY_REVISIONS_MAX || kept.bytes > HISTORY_BYTES_MAX {
            let Some(oldest) = kept.batches.pop_front() else {
                break;
            };
            kept.bytes -= batch_bytes(&oldest);
        }
    }

    /// Forgets everything.
    pub(crate) fn compact(&self) {
        let mut kept = self.kept.lock();
        kept.batches.clear();
        kept.bytes = 0;
    }

    /// Whether a watch may start after this revision.
    pub(crate) fn reaches_back_to(&self, known: Revision) -> bool {
        !matches!(
            self.lookup(Revision(known.0.saturating_add(1))),
            Lookup::Forgotten
        )
    }

    fn lookup(&self, revision: Revision) -> Lookup {
        let kept = self.kept.lock();
        if revision > kept.newest {
            return Lookup::NotYet;
        }
        let age = kept.newest.0 - revision.0;
        // The newest batch is at the back, at age 0.
        match usize::try_from(age)
            .ok()
            .and_then(|age| kept.batches.len().checked_sub(age + 1))
        {
            Some(index) => Lookup::Found(kept.batches[index].clone()),
            None => Lookup::Forgotten,
        }
    }
}

fn batch_bytes(batch: &Batch) -> usize {
    let change_bytes = |change: &Change| {
        size_of::<Change>() + change.key.len() + change.entry.as_ref().map_or(0, |entry| entry.value.len())
    };
    size_of::<Batch>() + batch.changes.iter().map(change_bytes).sum::<usize>()
}

/// A watch that reads the history.
pub(crate) struct HistoryWatch {
    pub(crate) history: Arc<History>,
    pub(crate) prefix: Box<str>,
    /// The last revision delivered.
    pub(crate) known: Revision,
    /// Changes with every publication; closed when the writer has ended.
    pub(crate) published: watch::Receiver<Revision>,
}

#[async_trait]
impl Watch for HistoryWatch {
    async fn next(&mut self) -> Result<Batch, WatchError> {
        loop {
            if let Some(batch) = self.try_next() {
                return Ok(batch);
            }
            match self.history.lookup(Revision(self.known.0 + 1)) {
                // Published between the two looks.
                Lookup::Found(_) => {}
                Lookup::Forgotten => return Err(WatchError::Compacted { revision: self.known }),
                Lookup::NotYet => self.published.changed().await.map_err(|_| {
                    WatchError::Unavailable(StoreError::unavailable("watch", "its writer has ended"))
                })?,
            }
        }
    }

    fn try_next(&mut self) -> Option<Batch> {
        let revision = Revision(self.known.0 + 1);
        let Lookup::Found(batch) = self.history.lookup(revision) else {
            return None;
        };
        self.known = revision;
        Some(under_prefix(batch, &self.prefix))
    }
}

fn under_prefix(batch: Batch, prefix: &str) -> Batch {
    if batch.changes.iter().all(|change| change.key.starts_with(prefix)) {
        return batch;
    }
    let changes = batch
        .changes
        .iter()
        .filter(|change| change.key.starts_with(prefix))
        .cloned()
        .collect();
    Batch {
        revision: batch.revision,
        changes,
    }
}
