//! The device under the database: any backend of redb, with its syncs counted and timed.
//!
//! Counting at the device, not at the call that asks for durability, keeps the number honest.

use std::io;
use std::ops::Bound;
use std::time::Instant;

use ::redb::{BackendError, StorageBackend};

use super::Metrics;

/// A backend, and how long its syncs took.
#[derive(Debug)]
pub(crate) struct Device<B> {
    backend: B,
    metrics: Metrics,
}

impl<B> Device<B> {
    /// Counts every sync, also one that fails.
    pub(crate) fn new(backend: B, metrics: Metrics) -> Self {
        Self { backend, metrics }
    }
}

impl<B: StorageBackend> StorageBackend for Device<B> {
    fn len(&self) -> io::Result<u64> {
        self.backend.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.backend.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.backend.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        let begun = Instant::now();
        let synced = self.backend.sync_data();
        self.metrics.fsyncs.inc();
        self.metrics.fsync_seconds.observe(begun.elapsed().as_secs_f64());
        synced
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.backend.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.backend.close()
    }

    // The file's locks are what keeps a second process out: they must reach the backend.
    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.backend.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.backend.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.backend.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.backend.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.backend.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.backend.query_lock_range(start, end)
    }
}
