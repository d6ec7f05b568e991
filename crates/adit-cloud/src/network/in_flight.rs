//! What this process is about to take: picks skip it, so that requests side by side do not race for one key.
//!
//! An optimisation and no more: the compares in the store decide.

use std::{collections::HashSet, hash::Hash, sync::Arc};

use parking_lot::Mutex;

/// Keys that requests in progress have picked. At most as many as there are requests.
pub(crate) struct InFlight<K> {
    keys: Arc<Mutex<HashSet<K>>>,
}

impl<K> Default for InFlight<K> {
    fn default() -> Self {
        Self { keys: Arc::default() }
    }
}

impl<K: Eq + Hash + Clone> InFlight<K> {
    /// Picks a key, told which ones others have picked, and holds it until the answer is dropped.
    pub(crate) fn pick(&self, pick: impl FnOnce(&HashSet<K>) -> Option<K>) -> Option<Held<K>> {
        let mut keys = self.keys.lock();
        let key = pick(&keys)?;
        keys.insert(key.clone()).then(|| Held {
            keys: Arc::clone(&self.keys),
            key,
        })
    }
}

/// A key that others skip.
pub(crate) struct Held<K: Eq + Hash> {
    keys: Arc<Mutex<HashSet<K>>>,
    key: K,
}

impl<K: Eq + Hash> Held<K> {
    /// The key.
    pub(crate) fn key(&self) -> &K {
        &self.key
    }
}

impl<K: Eq + Hash> Drop for Held<K> {
    fn drop(&mut self) {
        self.keys.lock().remove(&self.key);
    }
}
