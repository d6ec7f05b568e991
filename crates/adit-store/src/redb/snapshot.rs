//! Snapshots that half-way lists have pinned, and reading a page of one.
//!
//! A pinned snapshot keeps pages of the file from being used again, so their number and their idle time are bounded;
//! a list that comes back later is told that its revision is compacted.

use std::ops::Bound;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ::redb::ReadTransaction;
use parking_lot::Mutex;

use super::{ENTRIES, entry_of};
use crate::store::{Entry, PAGE_BYTES_MAX, PAGE_ENTRIES_MAX, Revision};

/// Most pinned snapshots: lists are paged by a few loaders, not by tenants.
const SNAPSHOTS_MAX: usize = 16;
/// How long a list may pause between two pages, in seconds.
const SNAPSHOT_IDLE_S_MAX: u64 = 30;

/// The pinned snapshots, least recently used first.
#[derive(Default)]
pub(crate) struct Snapshots {
    pinned: Mutex<Vec<Pinned>>,
}

struct Pinned {
    revision: Revision,
    snapshot: Arc<ReadTransaction>,
    used: Instant,
}

impl Snapshots {
    /// Keeps a snapshot for the pages that follow.
    pub(crate) fn pin(&self, revision: Revision, snapshot: Arc<ReadTransaction>) {
        let mut pinned = self.pinned.lock();
        pinned.retain(|other| other.revision != revision);
        if pinned.len() >= SNAPSHOTS_MAX {
            pinned.remove(0);
        }
        pinned.push(Pinned {
            revision,
            snapshot,
            used: Instant::now(),
        });
    }

    /// The snapshot of a revision, if it is still pinned.
    pub(crate) fn find(&self, revision: Revision) -> Option<Arc<ReadTransaction>> {
        let pinned = self.pinned.lock();
        pinned
            .iter()
            .find(|pin| pin.revision == revision)
            .map(|pin| pin.snapshot.clone())
    }

    /// Lets go of snapshots whose lists have not come back. The writer calls it before it needs pages.
    pub(crate) fn sweep(&self) {
        let idle_max = Duration::from_secs(SNAPSHOT_IDLE_S_MAX);
        self.pinned.lock().retain(|pin| pin.used.elapsed() < idle_max);
    }

    /// Lets go of all.
    pub(crate) fn clear(&self) {
        self.pinned.lock().clear();
    }
}

/// Reads one page, and whether there is more after it.
pub(crate) fn read_page(
    snapshot: &ReadTransaction,
    prefix: &str,
    after: Option<&str>,
    limit: usize,
) -> Result<(Vec<Entry>, bool), ::redb::Error> {
    let limit = limit.clamp(1, PAGE_ENTRIES_MAX);
    let start = after.map_or(Bound::Included(prefix), Bound::Excluded);
    let mut entries = Vec::new();
    let mut bytes = 0;
    for row in snapshot
        .open_table(ENTRIES)?
        .range::<&str>((start, Bound::Unbounded))?
    {
        let (key, value) = row?;
        if !key.value().starts_with(prefix) {
            break;
        }
        if entries.len() >= limit || bytes >= PAGE_BYTES_MAX {
            return Ok((entries, true));
        }
        let entry = entry_of(key.value(), value.value());
        bytes += entry.key.len() + entry.value.len();
        entries.push(entry);
    }
    Ok((entries, false))
}
