//! Resources as JSON, kept so that they are written out once: clients ask again and again for what seldom changes.
//!
//! Kept with what each was written from, so that it is used for exactly that and can never be stale. Bounded in bytes; what
//! nobody asks for is forgotten first.

use std::{collections::HashMap, hash::Hash, mem};

use axum::body::Bytes;
use parking_lot::RwLock;
use serde::Serialize;

/// How much JSON is remembered in each of two halves, in bytes: some ten thousand resources.
const HALF_BYTES_MAX: usize = 8 * 1024 * 1024;
/// What a text takes beside itself, in bytes.
const ENTRY_BYTES: usize = 128;

/// The JSON of what was seen of each resource. When the young half is full it becomes the old one, and what the old one had
/// is forgotten.
#[derive(Debug)]
pub(crate) struct Written<K, S>(RwLock<Halves<K, S>>);

#[derive(Debug)]
struct Halves<K, S> {
    young: HashMap<K, (S, Bytes)>,
    young_bytes: usize,
    old: HashMap<K, (S, Bytes)>,
}

impl<K, S> Default for Written<K, S> {
    fn default() -> Self {
        Self(RwLock::new(Halves {
            young: HashMap::new(),
            young_bytes: 0,
            old: HashMap::new(),
        }))
    }
}

impl<K: Eq + Hash + Copy, S: PartialEq> Halves<K, S> {
    /// The text of exactly this, and whether it is in the young half.
    fn find(&self, key: &K, seen: &S) -> Option<(Bytes, bool)> {
        let fits = |entry: &&(S, Bytes)| entry.0 == *seen;
        let young = self.young.get(key).filter(fits);
        let found = young.or_else(|| self.old.get(key).filter(fits));
        found.map(|(_, text)| (text.clone(), young.is_some()))
    }

    fn put(&mut self, key: K, seen: S, text: Bytes) {
        if self.young_bytes >= HALF_BYTES_MAX {
            self.old = mem::take(&mut self.young);
            self.young_bytes = 0;
        }
        self.young_bytes += text.len() + ENTRY_BYTES;
        if let Some((_, replaced)) = self.young.insert(key, (seen, text)) {
            self.young_bytes -= replaced.len() + ENTRY_BYTES;
        }
    }
}

impl<K: Eq + Hash + Copy, S: PartialEq> Written<K, S> {
    /// The JSON of each of these, in order; `view` makes the form of one that is not known as it is.
    pub(crate) fn each<V: Serialize>(&self, seen: Vec<(K, S)>, view: impl Fn(&S) -> V) -> Vec<Bytes> {
        let known: Vec<_> = {
            let halves = self.0.read();
            seen.iter().map(|(key, seen)| halves.find(key, seen)).collect()
        };
        let texts = known.into_iter().zip(seen).map(|(known, (key, seen))| {
            let (text, young) = known.unwrap_or_else(|| (text(&view(&seen)), false));
            if !young {
                self.0.write().put(key, seen, Bytes::clone(&text));
            }
            text
        });
        texts.collect()
    }

    /// The JSON of one.
    pub(crate) fn one<V: Serialize>(&self, key: K, seen: S, view: impl Fn(&S) -> V) -> Bytes {
        let known = self.0.read().find(&key, &seen);
        match known {
            Some((text, true)) => text,
            _ => self.each(vec![(key, seen)], view).remove(0),
        }
    }
}

fn text(view: &impl Serialize) -> Bytes {
    #[expect(
        clippy::expect_used,
        reason = "a view without a JSON form is a bug found by the first test that asks for one"
    )]
    let text = serde_json::to_vec(view).expect("a view has a JSON form");
    // What is kept for long takes no more room than it needs.
    text.into_boxed_slice().into()
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn what_was_written_is_used_for_exactly_what_it_was_written_from() {
        let (written, writings) = (Written::default(), Cell::new(0));
        let write = |seen: &(u8, &str)| {
            writings.set(writings.get() + 1);
            format!("{seen:?}")
        };
        let one = |key: u8, seen| written.one(key, seen, write);
        assert_eq!(one(1, (1, "a")), r#""(1, \"a\")""#);
        assert_eq!(one(1, (1, "a")), r#""(1, \"a\")""#);
        assert_eq!(writings.get(), 1);
        assert_eq!(one(1, (1, "b")), r#""(1, \"b\")""#);
        assert_eq!(one(1, (1, "a")), r#""(1, \"a\")""#);
        assert_eq!(writings.get(), 3);
        let page = written.each(vec![(2, (2, "c")), (1, (1, "a"))], write);
        assert_eq!(page, [r#""(2, \"c\")""#, r#""(1, \"a\")""#]);
        assert_eq!(writings.get(), 4);
    }

    #[test]
    fn memory_is_bounded_and_keeps_what_is_used() {
        let written = Written::default();
        let text = "x".repeat(1 << 20);
        for n in 0..40 {
            drop(written.one(n, (), |()| &text));
            drop(written.one(0, (), |()| ""));
        }
        let halves = written.0.read();
        let bytes =
            |half: &HashMap<i32, ((), Bytes)>| half.values().map(|(_, text)| text.len()).sum::<usize>();
        assert!(bytes(&halves.young) <= HALF_BYTES_MAX + text.len());
        assert!(bytes(&halves.old) <= HALF_BYTES_MAX + text.len());
        let (kept, _) = halves.find(&0, &()).unwrap();
        assert_eq!(kept.len(), text.len() + 2);
        assert!(halves.find(&1, &()).is_none());
    }
}
