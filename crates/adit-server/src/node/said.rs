//! What the log was told of late: a gateway that is refused comes again four times a second, and for as long as nobody looks.

use std::{collections::HashMap, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

/// After how long the same is said again.
const AGAIN: Duration = Duration::from_secs(60);
/// How much is remembered. Where there is more, as whoever has no secret could bring about, the rest is not said.
const REMEMBERED_MAX: usize = 1024;

/// What was said, and when.
#[derive(Default)]
pub(super) struct Said(Mutex<HashMap<String, Instant>>);

impl Said {
    /// Whether this is to be said now.
    pub(super) fn is_new(&self, what: String) -> bool {
        self.is_new_at(what, Instant::now())
    }

    fn is_new_at(&self, what: String, now: Instant) -> bool {
        let mut said = self.0.lock();
        said.retain(|_, when| now < *when + AGAIN);
        let is_new = said.len() < REMEMBERED_MAX && !said.contains_key(&what);
        if is_new {
            said.insert(what, now);
        }
        is_new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_is_said_once_a_minute_and_never_too_much() {
        let said = Said::default();
        let now = Instant::now();
        let is_new = |what: &str, at| said.is_new_at(what.to_owned(), at);
        assert!(is_new("one", now) && is_new("two", now));
        assert!(!is_new("one", now + AGAIN / 2));
        assert!(is_new("one", now + AGAIN) && !is_new("one", now + AGAIN));
        for n in 0..2 * REMEMBERED_MAX {
            is_new(&n.to_string(), now + AGAIN);
        }
        assert!(!is_new("another", now + AGAIN));
        assert!(is_new("another", now + 2 * AGAIN));
    }
}
