//! `adit lab matrix`: what clients see, and what is lost, when each kind of process fails in each way; and how soon a gateway's death
//! and a new endpoint are over.
//!
//! ```text
//!   callers (API) and connections (TCP) run ──▶ fault ──▶ held for a while ──▶ mended ──▶ everything answers again ──▶ read back
//! ```
//!
//! Owns the order of a cell and what it finds ([`cells`] lists them, [`report`] shows them). Load is [`callers`]', [`connections`]' and
//! [`watchers`]' (who answers ARP); the lab is a lab like any other.

pub mod callers;
pub mod cells;
pub mod connections;
pub mod failover;
pub mod report;
pub mod run;
pub mod watchers;

use std::time::{Duration, Instant};

/// The longest time without success from `from` on, given the moments of success and when looking ended.
#[must_use]
pub fn longest_gap(successes: &[Instant], from: Instant, until: Instant) -> Duration {
    let mut longest = Duration::ZERO;
    let mut last = from;
    for at in successes.iter().filter(|at| **at > from && **at < until) {
        longest = longest.max(at.duration_since(last));
        last = *at;
    }
    longest.max(until.saturating_duration_since(last))
}

/// The smallest value that so many of a hundred do not exceed; `None` of none.
#[must_use]
pub fn percentile(values: &mut [Duration], percent: usize) -> Option<Duration> {
    values.sort_unstable();
    let at = (values.len() * percent).div_ceil(100).max(1) - 1;
    values.get(at).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_may_be_at_the_beginning_or_the_end() {
        let from = Instant::now();
        let at = |ms| from + Duration::from_millis(ms);
        let gap = |successes: &[Instant]| longest_gap(successes, from, at(100)).as_millis();
        assert_eq!(gap(&[]), 100);
        assert_eq!(gap(&[at(60)]), 60);
        assert_eq!(gap(&[at(10), at(20)]), 80);
        assert_eq!(gap(&[at(10), at(70), at(90)]), 60);
    }

    #[test]
    fn percentiles_are_values_that_were_seen() {
        let ms = Duration::from_millis;
        let mut values: Vec<_> = (1..=10).rev().map(ms).collect();
        assert_eq!(percentile(&mut values, 50), Some(ms(5)));
        assert_eq!(percentile(&mut values, 99), Some(ms(10)));
        assert_eq!(percentile(&mut [], 50), None);
    }
}
