//! How much a caller may ask: buckets of tokens, one for each key.
//!
//! Pure: the time is passed in. A bucket is kept as the moment at which it will be full again, so that a full one is
//! nothing to keep.

use std::{
    collections::HashMap,
    hash::Hash,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

/// How many keys are kept before those are forgotten whose buckets are full again.
const SWEEP_AT_MIN: usize = 1024;

/// How often something may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How long it takes until one more may.
    period: Duration,
    /// How many may at once after a long rest.
    burst: u32,
}

impl Rate {
    /// So many in each `unit`, at most `burst` of them at once. None at all is no limit.
    pub fn new(count: u32, unit: Duration, burst: u32) -> Option<Self> {
        let period = unit.checked_div(count)?;
        Some(Self {
            period: period.max(Duration::from_nanos(1)),
            burst: burst.max(1),
        })
    }

    /// Takes a token out of a bucket that is full at `full_at` (now, if that is past). Answers when it is full then, or how
    /// long it takes until there is a token.
    fn take(self, full_at: Option<Instant>, now: Instant) -> Result<Instant, Duration> {
        let after = full_at.map_or(now, |at| at.max(now)) + self.period;
        let ahead = after.saturating_duration_since(now);
        match ahead.checked_sub(self.period.saturating_mul(self.burst)) {
            None | Some(Duration::ZERO) => Ok(after),
            Some(wait) => Err(wait),
        }
    }
}

struct Full<K> {
    at: HashMap<K, Instant>,
    sweep_at: usize,
}

/// A bucket for each key.
pub struct Buckets<K> {
    rate: Option<Rate>,
    full: Mutex<Full<K>>,
}

impl<K: Eq + Hash + Clone> Buckets<K> {
    /// Full buckets; without a rate they never become empty.
    pub fn new(rate: Option<Rate>) -> Self {
        let full = Full {
            at: HashMap::new(),
            sweep_at: SWEEP_AT_MIN,
        };
        Self {
            rate,
            full: Mutex::new(full),
        }
    }

    /// Takes a token out of a key's bucket.
    ///
    /// # Errors
    /// How long it takes until there is one.
    pub fn take(&self, key: &K, now: Instant) -> Result<(), Duration> {
        let Some(rate) = self.rate else {
            return Ok(());
        };
        let mut full = self.full.lock();
        let after = rate.take(full.at.get(key).copied(), now)?;
        full.at.insert(key.clone(), after);
        if full.at.len() >= full.sweep_at {
            full.at.retain(|_, at| *at > now);
            full.sweep_at = SWEEP_AT_MIN.max(full.at.len() * 2);
        }
        Ok(())
    }

    /// Whether there is a token, which stays.
    ///
    /// # Errors
    /// How long it takes until there is one.
    pub fn check(&self, key: &K, now: Instant) -> Result<(), Duration> {
        match self.rate {
            None => Ok(()),
            Some(rate) => rate.take(self.full.lock().at.get(key).copied(), now).map(drop),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_burst_passes_and_then_one_for_each_period() {
        let buckets = Buckets::new(Rate::new(10, Duration::from_secs(1), 3));
        let begin = Instant::now();
        let at = |ms: u64| begin + Duration::from_millis(ms);
        for _ in 0..3 {
            assert_eq!(buckets.take(&"a", at(0)), Ok(()));
        }
        assert_eq!(buckets.take(&"a", at(0)), Err(Duration::from_millis(100)));
        assert_eq!(buckets.take(&"b", at(0)), Ok(()), "another's bucket");
        assert_eq!(buckets.take(&"a", at(99)), Err(Duration::from_millis(1)));
        assert_eq!(buckets.check(&"a", at(100)), Ok(()));
        assert_eq!(buckets.take(&"a", at(100)), Ok(()));
        assert_eq!(buckets.take(&"a", at(100)), Err(Duration::from_millis(100)));
        for _ in 0..3 {
            assert_eq!(buckets.take(&"a", at(1000)), Ok(()));
        }
        assert!(
            buckets.take(&"a", at(1000)).is_err(),
            "a rest saves no more than a burst"
        );
    }

    #[test]
    fn no_rate_is_no_limit() {
        let buckets = Buckets::new(Rate::new(0, Duration::from_secs(1), 1));
        let now = Instant::now();
        assert!((0..10_000).all(|_| buckets.take(&(), now).is_ok()));
        assert!(buckets.full.lock().at.is_empty());
    }

    #[test]
    fn keys_whose_buckets_are_full_are_forgotten() {
        let buckets = Buckets::new(Rate::new(1, Duration::from_secs(1), 1));
        let begin = Instant::now();
        for n in 0..10 * SWEEP_AT_MIN {
            assert_eq!(
                buckets.take(&n, begin + Duration::from_secs(2 * n as u64)),
                Ok(())
            );
        }
        assert!(buckets.full.lock().at.len() <= SWEEP_AT_MIN);
    }

    proptest! {
        /// However the requests come, no stretch of time sees more than its share and a burst.
        #[test]
        fn no_stretch_of_time_sees_more_than_its_share(
            gaps in proptest::collection::vec(0_u64..50, 1..200),
            burst in 1_u32..20,
        ) {
            let period = Duration::from_millis(10);
            let buckets = Buckets::new(Rate::new(100, Duration::from_secs(1), burst));
            let mut now = Instant::now();
            let mut passed = Vec::new();
            for gap in gaps {
                now += Duration::from_millis(gap);
                if buckets.take(&(), now).is_ok() {
                    passed.push(now);
                }
            }
            for (i, first) in passed.iter().enumerate() {
                for (j, last) in passed.iter().enumerate().skip(i) {
                    let share = (*last - *first).as_nanos() / period.as_nanos();
                    prop_assert!((j - i + 1) as u128 <= share + u128::from(burst));
                }
            }
        }
    }
}
