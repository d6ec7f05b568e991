//! How long something stays `creating` on purpose.
//!
//! Pure, and reckoned from the document alone, so that a restart neither shortens nor prolongs it.

use std::time::Duration;

use adit_model::time::{Created, Timestamp};

/// How long something is still held back that became `creating` at `since`, where everything is for `delay`.
///
/// Since its creation the microsecond is known; since a later change only the second, whose end counts then: it is held
/// back too long rather than too short.
pub(super) fn rest(delay: Duration, created: Created, since: Timestamp, now_us: u64) -> Option<Duration> {
    if delay.is_zero() {
        return None;
    }
    let since_us = if since <= created.at {
        created.order
    } else {
        u64::try_from(since.unix_s())
            .unwrap_or_default()
            .saturating_add(1)
            .saturating_mul(1_000_000)
    };
    let until = Duration::from_micros(since_us).saturating_add(delay);
    let rest = until.checked_sub(Duration::from_micros(now_us))?;
    // A clock that was set back must not hold anything for ever.
    (!rest.is_zero()).then(|| rest.min(delay + Duration::from_secs(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_held_from_when_it_became_so_and_never_too_short() {
        let created = Created {
            order: 100_500_000,
            at: Timestamp::from_unix_s(100),
        };
        let rest = |delay_ms, since_s, now_ms: u64| {
            let rest = rest(
                Duration::from_millis(delay_ms),
                created,
                Timestamp::from_unix_s(since_s),
                now_ms * 1000,
            );
            rest.map(|rest| rest.as_millis())
        };
        for (delay_ms, since_s, now_ms, expected) in [
            (0, 100, 100_500, None),
            (300, 100, 100_500, Some(300)),
            (300, 100, 100_799, Some(1)),
            (300, 100, 100_800, None),
            (300, 100, 200_000, None),
            // Received at some time in second 200.
            (300, 200, 200_000, Some(1300)),
            (300, 200, 200_999, Some(301)),
            (300, 200, 201_300, None),
            // The clock is an hour behind what the document says.
            (300, 3_800, 200_000, Some(1300)),
        ] {
            assert_eq!(
                rest(delay_ms, since_s, now_ms),
                expected,
                "{delay_ms} {since_s} {now_ms}"
            );
        }
    }
}
