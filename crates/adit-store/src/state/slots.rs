//! Which numbers of a quota are in use: as runs, of which there is mostly one, so that the next free one is found at once.

use std::collections::BTreeMap;

/// A set of numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Slots {
    /// The first number of each run, and the one after its last. Runs do not touch.
    runs: BTreeMap<u32, u32>,
    len: usize,
}

impl Slots {
    /// None in use.
    pub(crate) const NONE: &Self = &Self {
        runs: BTreeMap::new(),
        len: 0,
    };

    /// How many numbers are in use.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The run that holds a number.
    fn run_of(&self, n: u32) -> Option<(u32, u32)> {
        let (start, end) = self.runs.range(..=n).next_back()?;
        (n < *end).then_some((*start, *end))
    }

    /// Marks a number as in use. The largest of all is nobody's, since nothing comes after it.
    pub(crate) fn insert(&mut self, n: u32) {
        let Some(mut end) = n.checked_add(1).filter(|_| self.run_of(n).is_none()) else {
            return;
        };
        self.len += 1;
        if let Some(next_end) = self.runs.remove(&end) {
            end = next_end;
        }
        match self.runs.range_mut(..n).next_back() {
            Some((_, before)) if *before == n => *before = end,
            _ => drop(self.runs.insert(n, end)),
        }
    }

    /// Marks a number as free.
    pub(crate) fn remove(&mut self, n: u32) {
        let Some((start, end)) = self.run_of(n) else {
            return;
        };
        self.len -= 1;
        self.runs.remove(&start);
        if start < n {
            self.runs.insert(start, n);
        }
        if n + 1 < end {
            self.runs.insert(n + 1, end);
        }
    }

    /// One more than the largest number in use.
    pub(crate) fn end(&self) -> u32 {
        self.runs.last_key_value().map_or(0, |(_, end)| *end)
    }

    /// The numbers that are not in use, from one upwards.
    pub(crate) fn free_from(&self, n: u32) -> impl Iterator<Item = u32> {
        let from = self.run_of(n).map_or(n, |(_, end)| end);
        let later = || self.runs.range(from..);
        let ends = std::iter::once(from).chain(later().map(|(_, end)| *end));
        let starts = later().map(|(start, _)| *start).chain(std::iter::once(u32::MAX));
        ends.zip(starts).flat_map(|(from, to)| from..to)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_a_set_and_what_is_not_in_it(deeds in prop::collection::vec((any::<bool>(), 0u32..24), 0..200)) {
            let (mut slots, mut expected) = (Slots::default(), BTreeSet::new());
            for (put, n) in deeds {
                if put {
                    slots.insert(n);
                    expected.insert(n);
                } else {
                    slots.remove(n);
                    expected.remove(&n);
                }
                prop_assert_eq!(slots.len(), expected.len());
            }
            let free: Vec<u32> = (0..30).filter(|n| !expected.contains(n)).collect();
            prop_assert_eq!(slots.end(), expected.last().map_or(0, |n| n + 1));
            for from in 0..26 {
                let free: Vec<u32> = free.iter().copied().filter(|n| *n >= from).collect();
                prop_assert_eq!(slots.free_from(from).take(free.len()).collect::<Vec<_>>(), free);
            }
            let mut runs = slots.runs.iter().zip(slots.runs.iter().skip(1));
            prop_assert!(runs.all(|((_, end), (start, _))| end < start));
        }
    }

    #[test]
    fn the_largest_number_is_nobody_s() {
        let mut slots = Slots::default();
        slots.insert(u32::MAX);
        slots.insert(u32::MAX - 1);
        slots.remove(u32::MAX);
        assert_eq!((slots.len(), slots.free_from(0).next()), (1, Some(0)));
        slots.remove(u32::MAX - 1);
        assert_eq!(slots, Slots::default());
    }
}
