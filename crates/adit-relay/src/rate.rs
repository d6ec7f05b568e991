//! How often something may begin: a token bucket in one word, shared by all workers without a lock.
//!
//! It is kept as the moment at which the bucket would be full again. Each begin moves it on by its share of a second;
//! when it would lie more than a second ahead, the bucket is empty.

use std::num::NonZeroU32;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

const SECOND_NS: u64 = 1_000_000_000;

/// A bucket that holds what may begin within one second, and starts full.
#[derive(Debug, Default)]
pub(crate) struct Bucket {
    /// Nanoseconds since [`EPOCH`]; anything before now means full.
    full_at_ns: AtomicU64,
}

static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);

impl Bucket {
    /// Takes one now, if there is one.
    pub(crate) fn take(&self, per_second: NonZeroU32) -> bool {
        let now = EPOCH.elapsed().as_nanos();
        // Nobody's machine stays up for the 584 years that it takes.
        self.take_at(u64::try_from(now).unwrap_or(u64::MAX / 2), per_second)
    }

    fn take_at(&self, now_ns: u64, per_second: NonZeroU32) -> bool {
        // Rounded down, so that a second's worth fits a second.
        let share_ns = SECOND_NS / u64::from(per_second.get());
        self.full_at_ns
            .fetch_update(Relaxed, Relaxed, |full_at_ns| {
                let next = full_at_ns.max(now_ns) + share_ns;
                (next <= now_ns + SECOND_NS).then_some(next)
            })
            .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rate(per_second: u32) -> NonZeroU32 {
        NonZeroU32::new(per_second).unwrap()
    }

    #[test]
    fn a_seconds_worth_at_once_then_one_by_one() {
        let bucket = Bucket::default();
        let taken = |now_ns, tries| (0..tries).filter(|_| bucket.take_at(now_ns, rate(10))).count();
        assert_eq!(taken(5 * SECOND_NS, 100), 10);
        assert_eq!(taken(5 * SECOND_NS + SECOND_NS / 10, 100), 1);
        assert_eq!(taken(5 * SECOND_NS + SECOND_NS / 2, 100), 4);
        assert_eq!(
            taken(60 * SECOND_NS, 100),
            10,
            "it never holds more than a second's worth"
        );
    }

    proptest! {
        /// In any stretch of time, a second's worth more than the rate allows, and no more.
        #[test]
        fn never_more_than_the_rate(per_second in 1_u32..5_000, gaps in prop::collection::vec(0_u64..30_000_000, 1..500)) {
            let bucket = Bucket::default();
            let (mut now, mut taken) = (0, 0);
            for gap in gaps {
                now += gap;
                taken += u64::from(bucket.take_at(now, rate(per_second)));
                let share = SECOND_NS / u64::from(per_second);
                prop_assert!(taken * share <= now + SECOND_NS);
            }
        }
    }
}
