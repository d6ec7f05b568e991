//! Instants as the API shows them, and the order in which things were made.

use std::{fmt, str::FromStr};

use jiff::fmt::{StdFmtWrite, temporal::DateTimePrinter};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// An instant in whole seconds, UTC; on the wire `YYYY-MM-DDTHH:MM:SSZ` (spec 0.1).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The instant this many seconds after 1970-01-01T00:00:00Z.
    pub const fn from_unix_s(seconds: i64) -> Self {
        Self(seconds)
    }

    /// Seconds since 1970-01-01T00:00:00Z.
    pub const fn unix_s(self) -> i64 {
        self.0
    }

    /// The later of this instant and the other: a change never seems older than what it changes.
    #[must_use]
    pub fn at_least(self, other: Timestamp) -> Timestamp {
        self.max(other)
    }
}

/// Prints whole seconds. Every reply and every document holds instants: this is ten times as quick as a format string.
const PRINTER: DateTimePrinter = DateTimePrinter::new().precision(Some(0));

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let instant = jiff::Timestamp::from_second(self.0).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        PRINTER
            .print_timestamp(&instant, StdFmtWrite(f))
            .map_err(|_| fmt::Error)
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Timestamp {
    type Err = jiff::Error;

    /// Also reads the older form with milliseconds and without `Z` (spec 0.1).
    fn from_str(text: &str) -> Result<Self, jiff::Error> {
        let instant = match text.parse::<jiff::Timestamp>() {
            Ok(instant) => instant,
            Err(_) => format!("{text}Z").parse::<jiff::Timestamp>()?,
        };
        Ok(Self(instant.as_second()))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = Timestamp;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an instant")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Timestamp, E> {
                text.parse().map_err(E::custom)
            }
        }

        d.deserialize_str(Visitor)
    }
}

/// When a resource was made: the second that the API shows, and a finer number that orders resources of one second.
///
/// The order is stored with the resource; it is not derived from store revisions, which change when data moves
/// between engines (design, section 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Created {
    /// Position in the order of creation: microseconds since 1970, made strictly increasing within a process.
    pub order: u64,
    /// The second of creation.
    pub at: Timestamp,
}

impl Created {
    /// The creation mark that follows `previous`, given the clock's microseconds since 1970.
    #[must_use]
    pub fn after(previous: u64, clock_us: u64) -> Self {
        let order = clock_us.max(previous + 1);
        Self {
            order,
            at: Timestamp::from_unix_s((order / 1_000_000) as i64),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn times_are_whole_seconds_with_a_z() {
        let t: Timestamp = "2026-03-02T09:14:05Z".parse().unwrap();
        assert_eq!(t.to_string(), "2026-03-02T09:14:05Z");
        let old: Timestamp = "2026-03-02T09:14:05.123".parse().unwrap();
        assert_eq!(old, t);
        assert!("yesterday".parse::<Timestamp>().is_err());
    }

    proptest! {
        #[test]
        fn texts_read_back_and_are_those_of_the_calendar(second in -60_000_000_000i64..253_402_200_000) {
            let instant = Timestamp(second);
            let text = jiff::Timestamp::from_second(second).unwrap().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
            prop_assert_eq!(instant.to_string(), text.clone());
            prop_assert_eq!(text.parse::<Timestamp>().unwrap(), instant);
        }
    }

    #[test]
    fn creation_marks_increase_when_the_clock_does_not() {
        let a = Created::after(0, 5_000_000);
        let b = Created::after(a.order, 4_000_000);
        assert!(b > a);
        assert_eq!(b.at, Timestamp::from_unix_s(5));
    }
}
