//! Whether etcd has room: one whose database has reached its quota answers reads, and refuses every write until somebody has made
//! room and disarmed its alarm (`docs/etcd.md`).
//!
//! Owns what this process knows of it, and the two lines in the log. Never asks by itself.

use std::sync::atomic::{AtomicBool, Ordering};

use tonic::Status;

use super::failure::Failure;
use super::{LEASE_GRANT, PUT};

/// etcd's words for it.
const FULL: &str = "database space exceeded";

/// Whether the newest write was refused for want of space.
#[derive(Default)]
pub(crate) struct Space {
    is_full: AtomicBool,
}

impl Space {
    /// A call has ended.
    pub(super) fn asked<T>(&self, path: &'static str, answered: &Result<T, Failure>) {
        let is_full = |status: &Status| status.message().contains(FULL);
        match answered {
            Err(Failure::Refused(status)) if is_full(status) => self.has_none(status),
            // These write in any case; a transaction may have read alone.
            Ok(_) if [PUT, LEASE_GRANT].contains(&path) => self.has_room(),
            _ => {}
        }
    }

    fn has_none(&self, status: &Status) {
        if !self.is_full.swap(true, Ordering::Relaxed) {
            tracing::error!(
                error = status.message(),
                "etcd has no space left: it refuses every write until somebody makes room and disarms its alarm (docs/etcd.md)."
            );
        }
    }

    /// A write was taken.
    pub(super) fn has_room(&self) {
        if self.is_full.swap(false, Ordering::Relaxed) {
            tracing::info!("etcd has space again.");
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.is_full.load(Ordering::Relaxed)
    }
}
