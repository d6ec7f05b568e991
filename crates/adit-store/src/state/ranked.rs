//! A sorted set that knows the place of each key, so that a page costs what is on it, not what lies before it.
//!
//! Keys lie in chunks in order. To find a place, whole chunks are passed over; to put a key in or take it out moves one
//! chunk's keys at most. Almost all keys come in at the end, so that chunks are full. (A B-tree that counts would do the
//! same; the standard library's does not count.)

/// Most keys in a chunk: moving half of them is cheaper than a look at the memory of another one.
const CHUNK_KEYS_MAX: usize = 512;

/// The set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ranked<K> {
    /// None is empty, and each one's keys come before the next one's.
    chunks: Vec<Vec<K>>,
    len: usize,
}

impl<K> Default for Ranked<K> {
    fn default() -> Self {
        Self {
            chunks: Vec::new(),
            len: 0,
        }
    }
}

impl<K: Ord> Ranked<K> {
    /// How many keys there are.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The first chunk whose last key is not before `key`: the only one that may hold it.
    fn chunk_of(&self, key: &K) -> usize {
        self.chunks
            .partition_point(|chunk| chunk.last().is_some_and(|last| last < key))
    }

    /// Whether a key is there.
    pub(crate) fn contains(&self, key: &K) -> bool {
        let chunk = self.chunks.get(self.chunk_of(key));
        chunk.is_some_and(|chunk| chunk.binary_search(key).is_ok())
    }

    /// Puts a key in; one that is there stays.
    pub(crate) fn insert(&mut self, key: K) {
        let n = self.chunk_of(&key);
        if n == self.chunks.len() {
            match self.chunks.last_mut() {
                Some(last) if last.len() < CHUNK_KEYS_MAX => last.push(key),
                _ => self.chunks.push(vec![key]),
            }
            self.len += 1;
            return;
        }
        let chunk = &mut self.chunks[n];
        let Err(place) = chunk.binary_search(&key) else {
            return;
        };
        chunk.insert(place, key);
        self.len += 1;
        if chunk.len() > CHUNK_KEYS_MAX {
            let upper = chunk.split_off(CHUNK_KEYS_MAX / 2);
            self.chunks.insert(n + 1, upper);
        }
    }

    /// Takes a key out, if it is there. Chunks that have become small are left so: there are never more of them than there
    /// were full ones.
    pub(crate) fn remove(&mut self, key: &K) {
        let n = self.chunk_of(key);
        let Some(chunk) = self.chunks.get_mut(n) else {
            return;
        };
        let Ok(place) = chunk.binary_search(key) else {
            return;
        };
        chunk.remove(place);
        self.len -= 1;
        if chunk.is_empty() {
            self.chunks.remove(n);
        }
    }

    /// All keys, the smallest first.
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = &K> {
        self.chunks.iter().flatten()
    }

    /// At most `limit` keys after the first `skip`, counted from the smallest upwards or from the largest downwards.
    pub(crate) fn page(&self, ascending: bool, skip: usize, limit: usize) -> Vec<&K> {
        let Some(left) = self.len.checked_sub(skip) else {
            return Vec::new();
        };
        let limit = limit.min(left);
        // Downwards, the page's keys are the same as those of the page upwards that ends where it begins.
        let mut before = if ascending { skip } else { left - limit };
        let mut page = Vec::with_capacity(limit);
        for chunk in &self.chunks {
            if before >= chunk.len() {
                before -= chunk.len();
                continue;
            }
            page.extend(chunk[before..].iter().take(limit - page.len()));
            before = 0;
            if page.len() == limit {
                break;
            }
        }
        if !ascending {
            page.reverse();
        }
        page
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// Keys put in and taken out, few of them often and more than one chunk's worth.
    fn deeds() -> impl Strategy<Value = Vec<(bool, u16)>> {
        let grow = prop::collection::vec((Just(true), 0u16..3000), 0..2000);
        let mixed = prop::collection::vec((any::<bool>(), 0u16..3000), 0..2000);
        (grow, mixed).prop_map(|(mut all, more)| {
            all.extend(more);
            all
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn it_is_the_standard_set_with_places(deeds in deeds(), skip in 0usize..2200, limit in 0usize..1500) {
            let (mut set, mut expected) = (Ranked::default(), BTreeSet::new());
            for (put, key) in deeds {
                if put {
                    set.insert(key);
                    expected.insert(key);
                } else {
                    set.remove(&key);
                    expected.remove(&key);
                }
            }
            prop_assert!(set.iter().eq(&expected));
            prop_assert_eq!(set.len(), expected.len());
            prop_assert!(set.chunks.iter().all(|chunk| (1..=CHUNK_KEYS_MAX).contains(&chunk.len())));
            for key in [0, 7, 2999] {
                prop_assert_eq!(set.contains(&key), expected.contains(&key));
            }
            let up: Vec<_> = expected.iter().skip(skip).take(limit).collect();
            prop_assert_eq!(set.page(true, skip, limit), up);
            let down: Vec<_> = expected.iter().rev().skip(skip).take(limit).collect();
            prop_assert_eq!(set.page(false, skip, limit), down);
        }
    }

    #[test]
    fn what_comes_in_order_fills_its_chunks() {
        let mut set = Ranked::default();
        (0..10 * CHUNK_KEYS_MAX).for_each(|key| set.insert(key));
        assert_eq!(set.chunks.len(), 10);
        assert_eq!(set.page(false, 3, 2), [&5116, &5115]);
        assert_eq!(set.page(true, usize::MAX, 10), [&0; 0]);
    }
}
