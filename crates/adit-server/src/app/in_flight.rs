//! What this process is about to take: picks skip it, so that requests side by side do not race for one key.
//!
//! An optimisation and no more: the compares in the store decide.

use std::{
    collections::{HashMap, HashSet},
    hash::Hash,
    sync::{Arc, Weak},
};

use parking_lot::Mutex;
use tokio::sync::OwnedMutexGuard;

/// Keys that requests in progress have picked.
pub(crate) struct InFlight<K> {
    keys: Mutex<HashSet<K>>,
}

impl<K> Default for InFlight<K> {
    fn default() -> Self {
        Self {
            keys: Mutex::default(),
        }
    }
}

impl<K: Eq + Hash + Clone> InFlight<K> {
    /// Picks a key, knowing which ones are taken, and holds it until the answer is dropped.
    pub(crate) fn pick(&self, pick: impl FnOnce(&HashSet<K>) -> Option<K>) -> Option<Held<'_, K>> {
        let mut keys = self.keys.lock();
        let key = pick(&keys)?;
        keys.insert(key.clone()).then(|| Held { of: self, key })
    }
}

/// A key that others skip.
pub(crate) struct Held<'a, K: Eq + Hash> {
    of: &'a InFlight<K>,
    key: K,
}

impl<K: Eq + Hash> Held<'_, K> {
    /// The key.
    pub(crate) fn key(&self) -> &K {
        &self.key
    }
}

impl<K: Eq + Hash> Drop for Held<'_, K> {
    fn drop(&mut self) {
        self.of.keys.lock().remove(&self.key);
    }
}

/// Lets requests about one key through one by one.
pub(crate) struct Turnstile<K> {
    locks: Mutex<HashMap<K, Weak<tokio::sync::Mutex<()>>>>,
}

impl<K> Default for Turnstile<K> {
    fn default() -> Self {
        Self {
            locks: Mutex::default(),
        }
    }
}

/// How many forgotten keys may gather before they are swept.
const SWEEP_AT: usize = 1024;

impl<K: Eq + Hash + Clone> Turnstile<K> {
    /// Waits for its turn, which lasts until the answer is dropped.
    pub(crate) async fn enter(&self, key: &K) -> OwnedMutexGuard<()> {
        let lock = {
            let mut locks = self.locks.lock();
            if locks.len() >= SWEEP_AT {
                locks.retain(|_, lock| lock.strong_count() > 0);
            }
            let known = locks.get(key).and_then(Weak::upgrade);
            known.unwrap_or_else(|| {
                let lock = Arc::new(tokio::sync::Mutex::new(()));
                locks.insert(key.clone(), Arc::downgrade(&lock));
                lock
            })
        };
        lock.lock_owned().await
    }
}
