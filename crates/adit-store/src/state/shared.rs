//! Values that many documents have in common, kept once: the ids of accounts and projects.

use std::{collections::HashMap, hash::Hash};

/// Values with the number of their users.
#[derive(Debug)]
pub(crate) struct Shared<T>(HashMap<T, usize>);

impl<T> Default for Shared<T> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<T: Clone + Eq + Hash> Shared<T> {
    /// Puts the value that is kept in the place of an equal one.
    pub(crate) fn share(&mut self, value: &mut T) {
        if let Some((kept, _)) = self.0.get_key_value(value) {
            *value = kept.clone();
        }
        *self.0.entry(value.clone()).or_default() += 1;
    }

    /// A user of the value is gone; with the last one it goes.
    pub(crate) fn release(&mut self, value: &T) {
        if let Some(users) = self.0.get_mut(value) {
            *users -= 1;
            if *users == 0 {
                self.0.remove(value);
            }
        }
    }
}
