//! The descriptor budget: who may hold how many, so that the relay says no by name long before the
//! kernel says EMFILE.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What one connection holds: the client's socket and the backend's.
pub(crate) const PER_CONNECTION: usize = 2;
/// What one pipe holds.
pub(crate) const PER_PIPE: usize = 2;

/// The rest of the process (store, API, namespaces, logs) keeps at least so many.
const REST_OF_PROCESS_DESCRIPTORS_MIN: usize = 256;
/// … and at least one in so many.
const REST_OF_PROCESS_SHARE: usize = 16;

/// Listeners in groups (one per worker) may take one in so many; beyond it each mapping has one.
const GROUPS_SHARE: usize = 4;
/// Listeners may take one in so many: a listener that no connection fits behind is of no use.
const LISTENERS_SHARE: usize = 2;
/// One in so many is kept from connections, so that busy endpoints cannot keep new ones from opening.
const KEPT_FROM_CONNECTIONS_SHARE: usize = 8;

#[derive(Debug)]
pub(crate) struct Budget {
    total: usize,
    used: AtomicUsize,
    listeners: AtomicUsize,
    /// How often there was no pipe to be had.
    pipes_refused: AtomicU64,
}

impl Budget {
    /// Raises the process's limit as far as it may and takes what `wanted` says of it.
    pub(crate) fn raise(wanted: Option<usize>) -> Self {
        let limit = getrlimit(Resource::Nofile);
        if limit.current != limit.maximum {
            let raised = Rlimit {
                current: limit.maximum,
                maximum: limit.maximum,
            };
            if let Err(error) = setrlimit(Resource::Nofile, raised) {
                tracing::warn!(%error, "the limit of open files cannot be raised; fewer connections fit");
            }
        }
        // No limit at all does not exist for open files; 2^20 is the kernel's own default ceiling.
        let open_max = getrlimit(Resource::Nofile).current.unwrap_or(1 << 20);
        let open_max = usize::try_from(open_max).unwrap_or(usize::MAX);
        let rest = REST_OF_PROCESS_DESCRIPTORS_MIN.max(open_max / REST_OF_PROCESS_SHARE);
        let ours = open_max.saturating_sub(rest);
        Self::new(wanted.unwrap_or(ours).min(ours))
    }

    pub(crate) fn new(total: usize) -> Self {
        Self {
            total,
            used: AtomicUsize::new(0),
            listeners: AtomicUsize::new(0),
            pipes_refused: AtomicU64::new(0),
        }
    }

    /// Takes descriptors for a listener: as many as there are workers, or one, or none.
    pub(crate) fn take_listeners(self: &Arc<Self>, workers: usize) -> Option<ListenerShare> {
        [workers, 1].into_iter().find_map(|count| {
            let share = if count > 1 { GROUPS_SHARE } else { LISTENERS_SHARE };
            self.take_share(count, share)
        })
    }

    /// Takes descriptors for a listener whose sockets exist already.
    pub(crate) fn take_existing(self: &Arc<Self>, count: usize) -> Option<ListenerShare> {
        self.take_share(count, LISTENERS_SHARE)
    }

    fn take_share(self: &Arc<Self>, count: usize, share: usize) -> Option<ListenerShare> {
        if !take(&self.listeners, count, self.total / share) {
            return None;
        }
        if !take(&self.used, count, self.total) {
            self.listeners.fetch_sub(count, Relaxed);
            return None;
        }
        Some(ListenerShare {
            budget: Arc::clone(self),
            count,
        })
    }

    pub(crate) fn take_connection(&self) -> bool {
        take(
            &self.used,
            PER_CONNECTION,
            self.total - self.total / KEPT_FROM_CONNECTIONS_SHARE,
        )
    }

    pub(crate) fn give_connection(&self) {
        self.used.fetch_sub(PER_CONNECTION, Relaxed);
    }

    /// Pipes only make things faster: the second half of the budget is not theirs.
    pub(crate) fn take_pipe(&self) -> bool {
        take(&self.used, PER_PIPE, self.total / 2)
    }

    /// Counts that somebody had to go without a pipe.
    pub(crate) fn refuse_pipe(&self) {
        self.pipes_refused.fetch_add(1, Relaxed);
    }

    pub(crate) fn pipes_refused(&self) -> u64 {
        self.pipes_refused.load(Relaxed)
    }

    pub(crate) fn give_pipe(&self) {
        self.used.fetch_sub(PER_PIPE, Relaxed);
    }

    pub(crate) fn total(&self) -> usize {
        self.total
    }

    pub(crate) fn used(&self) -> usize {
        self.used.load(Relaxed)
    }
}

fn take(counter: &AtomicUsize, count: usize, max: usize) -> bool {
    counter
        .fetch_update(Relaxed, Relaxed, |used| {
            used.checked_add(count).filter(|sum| *sum <= max)
        })
        .is_ok()
}

/// Descriptors set aside for listening sockets; given back when it goes.
#[derive(Debug)]
pub(crate) struct ListenerShare {
    budget: Arc<Budget>,
    count: usize,
}

impl ListenerShare {
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// Splits one socket's part off.
    pub(crate) fn one(&mut self) -> Self {
        debug_assert!(self.count > 0, "more sockets than were set aside");
        self.count -= 1;
        Self {
            budget: Arc::clone(&self.budget),
            count: 1,
        }
    }
}

impl Drop for ListenerShare {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.count, Relaxed);
        self.budget.listeners.fetch_sub(self.count, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_end_at_a_quarter_and_listeners_at_a_half() {
        let budget = Arc::new(Budget::new(64));
        let shares: Vec<_> = std::iter::from_fn(|| budget.take_listeners(4)).collect();
        assert_eq!(shares.iter().filter(|share| share.count() == 4).count(), 4);
        assert_eq!(shares.iter().map(ListenerShare::count).sum::<usize>(), 32);
        drop(shares);
        assert_eq!((budget.used(), budget.listeners.load(Relaxed)), (0, 0));
    }

    #[test]
    fn connections_leave_room_for_listeners() {
        let budget = Arc::new(Budget::new(64));
        while budget.take_connection() {}
        assert_eq!(budget.used(), 56);
        assert!(!budget.take_pipe());
        assert!(budget.take_listeners(4).is_some());
    }

    #[test]
    fn the_limit_is_raised_and_a_part_is_left_to_others() {
        let budget = Budget::raise(None);
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
        assert!(budget.total() < limit.current.unwrap() as usize);
        assert_eq!(Budget::raise(Some(100)).total(), 100);
    }
}
