//! From two looks at the metrics to what is shown: rates, the order, the lines. Pure.

use std::{cmp::Ordering, collections::BTreeMap, fmt::Write as _, time::SystemTime};

use adit_model::error_chain;
use clap::ValueEnum;
use jiff::Timestamp;
use serde::Serialize;

use super::{
    scrape::{Counts, Sample},
    screen::Size,
};

/// Why connections end that had begun well; every other reason is a drop.
const ENDS: [&str; 5] = ["closed", "client_reset", "backend_reset", "idle", "cut"];
/// Lines around those of the endpoints.
const FRAME_LINES: usize = 6;

/// What comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Sort {
    /// Open connections (key `c`).
    Connections,
    /// New connections per second (key `n`).
    New,
    /// Bytes per second, both ways (key `b`).
    Bytes,
    /// Drops per second (key `d`).
    Drops,
    /// How long the backend takes to answer a connect (key `l`).
    Latency,
}

impl Sort {
    pub(super) fn by_key(key: u8) -> Option<Self> {
        match key.to_ascii_lowercase() {
            b'c' => Some(Self::Connections),
            b'n' => Some(Self::New),
            b'b' => Some(Self::Bytes),
            b'd' => Some(Self::Drops),
            b'l' => Some(Self::Latency),
            _ => None,
        }
    }

    fn weight(self, rates: &Rates) -> f64 {
        match self {
            Self::Connections => rates.connections_open,
            Self::New => rates.new_per_s,
            Self::Bytes => rates.bytes_to_backend_per_s + rates.bytes_to_client_per_s,
            Self::Drops => rates.drops(),
            Self::Latency => rates.connect_ms.unwrap_or(-1.0),
        }
    }
}

/// What happened of late at an endpoint, or at all of them.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
struct Rates {
    connections_open: f64,
    new_per_s: f64,
    bytes_to_backend_per_s: f64,
    bytes_to_client_per_s: f64,
    /// By their reasons; those that there were.
    drops_per_s: BTreeMap<String, f64>,
    /// The mean of those that were answered; absent where there were none.
    connect_ms: Option<f64>,
}

impl Rates {
    fn between(before: &Counts, now: &Counts, seconds: f64) -> Self {
        // A gateway that was started anew counts from 0.
        let per_s = |before: f64, now: f64| (now - before).max(0.0) / seconds;
        let drops = now
            .ended
            .iter()
            .filter(|(reason, _)| !ENDS.contains(&reason.as_str()));
        let drops = drops.map(|(reason, n)| {
            let before = before.ended.get(reason).copied().unwrap_or(0.0);
            (reason.clone(), per_s(before, *n))
        });
        let connects = now.connects - before.connects;
        let mean = (now.connect_s - before.connect_s).max(0.0) / connects * 1000.0;
        Self {
            connections_open: now.open,
            new_per_s: per_s(before.taken, now.taken),
            bytes_to_backend_per_s: per_s(before.to_backend, now.to_backend),
            bytes_to_client_per_s: per_s(before.to_client, now.to_client),
            drops_per_s: drops.filter(|(_, n)| *n > 0.0).collect(),
            connect_ms: (connects > 0.0).then_some(mean),
        }
    }

    fn drops(&self) -> f64 {
        self.drops_per_s.values().sum()
    }

    fn cells(&self, name: &str) -> [String; 7] {
        let mut reasons: Vec<_> = self.drops_per_s.iter().collect();
        reasons.sort_by(|a, b| b.1.total_cmp(a.1));
        let reasons = reasons
            .iter()
            .map(|(reason, n)| format!("{reason} {}", count(**n)));
        let drops = reasons.collect::<Vec<_>>().join(", ");
        [
            name.to_owned(),
            count(self.connections_open),
            count(self.new_per_s),
            bytes(self.bytes_to_backend_per_s),
            bytes(self.bytes_to_client_per_s),
            self.connect_ms.map_or("-".to_owned(), |ms| format!("{ms:.2} ms")),
            if drops.is_empty() { "-".to_owned() } else { drops },
        ]
    }
}

/// So much of an id is shown where there is room for no more.
const ID_CHARS_MIN: usize = 8;

const HEADING: [&str; 7] = [
    "ENDPOINT",
    "OPEN",
    "NEW/S",
    "TO BACKEND/S",
    "TO CLIENT/S",
    "CONNECT",
    "DROPS/S",
];

#[derive(Clone, Debug, PartialEq, Serialize)]
struct Row {
    endpoint: String,
    #[serde(flatten)]
    rates: Rates,
}

/// One second, for programs.
#[derive(Serialize)]
struct Line<'a> {
    at: Timestamp,
    total: &'a Rates,
    endpoints: &'a [Row],
    /// Endpoints that the metrics do not show one by one.
    unlisted: u64,
}

/// What is shown.
#[derive(Clone, Debug)]
pub(super) struct View {
    pub(super) sort: Sort,
    total: Rates,
    rows: Vec<Row>,
    unlisted: u64,
    /// Why there was nothing new.
    trouble: Option<String>,
}

impl View {
    /// What can be said after one look: what is open.
    pub(super) fn new(sort: Sort, first: &Sample) -> Self {
        let mut view = Self {
            sort,
            total: Rates::default(),
            rows: Vec::new(),
            unlisted: 0,
            trouble: None,
        };
        view.take(first, first);
        view
    }

    /// Takes in what has happened between two looks.
    pub(super) fn take(&mut self, before: &Sample, now: &Sample) {
        let seconds = now
            .at
            .saturating_duration_since(before.at)
            .as_secs_f64()
            .max(1e-3);
        self.total = Rates::between(&before.total, &now.total, seconds);
        // One that was not shown before has begun since, unless there were others that were not shown.
        let nothing = Counts::default();
        let rows = now.endpoints.iter().map(|(id, counts)| {
            let unknown = if before.unlisted == 0 { &nothing } else { counts };
            let before = before.endpoints.get(id).unwrap_or(unknown);
            Row {
                endpoint: id.clone(),
                rates: Rates::between(before, counts, seconds),
            }
        });
        self.rows = rows.collect();
        self.unlisted = now.unlisted;
        self.trouble = None;
    }

    /// There was nothing to be had.
    pub(super) fn lost(&mut self, why: &dyn std::error::Error) {
        self.trouble = Some(error_chain(why));
    }

    fn sorted(&self) -> Vec<Row> {
        let mut rows = self.rows.clone();
        rows.sort_by(|a, b| {
            let by_weight = self.sort.weight(&b.rates).total_cmp(&self.sort.weight(&a.rates));
            match by_weight {
                Ordering::Equal => a.endpoint.cmp(&b.endpoint),
                other => other,
            }
        });
        rows
    }

    /// A line of JSON, without its end.
    pub(super) fn json(&self) -> String {
        let line = Line {
            at: Timestamp::try_from(SystemTime::now()).unwrap_or_default(),
            total: &self.total,
            endpoints: &self.sorted(),
            unlisted: self.unlisted,
        };
        serde_json::to_string(&line).unwrap_or_default()
    }

    /// The table: as much as there is room for, or all of it.
    pub(super) fn text(&self, size: Option<Size>, url: &str) -> String {
        let rows = self.sorted();
        let room = size.map_or(usize::MAX, |size| size.rows.saturating_sub(FRAME_LINES).max(1));
        let mut cells = vec![HEADING.map(str::to_owned)];
        cells.push(self.total.cells("all"));
        cells.extend(rows.iter().take(room).map(|row| row.rates.cells(&row.endpoint)));
        let widths = |cells: &[[String; 7]]| -> Vec<usize> {
            let widest = |i: usize| cells.iter().map(|row| row[i].chars().count()).max().unwrap_or(0);
            (0..HEADING.len()).map(widest).collect()
        };
        let full = widths(&cells).iter().map(|width| width + 2).sum::<usize>();
        if size.is_some_and(|size| full > size.columns + 2) {
            // The numbers are what one looks for; the beginning of an id is enough to know it again.
            let named = cells.iter_mut().skip(2);
            named.for_each(|row| row[0] = row[0].chars().take(ID_CHARS_MIN).collect());
        }
        let widths = widths(&cells);
        let mut text = String::new();
        let hidden = rows.len().saturating_sub(room) as u64 + self.unlisted;
        let _ = writeln!(
            text,
            "adit top   {url}   endpoints: {}, not shown: {hidden}",
            rows.len() as u64 + self.unlisted
        );
        if let Some(trouble) = &self.trouble {
            let _ = writeln!(text, "{trouble}");
        }
        for row in &cells {
            let mut line = String::new();
            for (i, (cell, width)) in row.iter().zip(&widths).enumerate() {
                let _ = match i {
                    // Numbers end in one column; words begin in one.
                    0 | 6 => write!(line, "{cell:<width$}  "),
                    _ => write!(line, "{cell:>width$}  "),
                };
            }
            let _ = writeln!(text, "{}", line.trim_end());
        }
        let Some(size) = size else { return text };
        let _ = writeln!(
            text,
            "\nq ends; sort by: c connections, n new, b bytes, d drops, l latency"
        );
        let cut = |line: &str| line.chars().take(size.columns).chain(['\n']).collect::<String>();
        text.lines().map(cut).collect()
    }
}

/// A number that people read.
fn count(n: f64) -> String {
    if n == 0.0 || n >= 10.0 || n.fract() == 0.0 {
        format!("{n:.0}")
    } else {
        format!("{n:.1}")
    }
}

/// Bytes that people read.
fn bytes(n: f64) -> String {
    let units = ["B", "kB", "MB", "GB", "TB"];
    let (mut n, mut unit) = (n, 0);
    while n >= 999.5 && unit + 1 < units.len() {
        n /= 1000.0;
        unit += 1;
    }
    match unit {
        0 => format!("{n:.0} B"),
        _ if n < 9.95 => format!("{n:.1} {}", units[unit]),
        _ => format!("{n:.0} {}", units[unit]),
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    fn counts(open: f64, taken: f64, bytes: f64, limit: f64) -> Counts {
        Counts {
            open,
            taken,
            ended: [("closed".to_owned(), taken), ("limit".to_owned(), limit)].into(),
            to_backend: bytes,
            to_client: 2.0 * bytes,
            connect_s: taken * 0.001,
            connects: taken,
        }
    }

    fn sample(at: Instant, endpoints: &[(&str, Counts)], unlisted: u64) -> Sample {
        let total = endpoints.iter().map(|(_, c)| c.taken).sum();
        Sample {
            at,
            total: counts(0.0, total, 0.0, 0.0),
            endpoints: endpoints
                .iter()
                .map(|(id, c)| ((*id).to_owned(), c.clone()))
                .collect(),
            unlisted,
        }
    }

    fn view(sort: Sort) -> View {
        let began = Instant::now();
        let before = sample(
            began,
            &[
                ("a", counts(5.0, 100.0, 0.0, 0.0)),
                ("b", counts(1.0, 10.0, 1e6, 1.0)),
            ],
            0,
        );
        let slow = Counts {
            connect_s: 0.008,
            ..counts(0.0, 2.0, 0.0, 0.0)
        };
        let now = sample(
            began + Duration::from_secs(2),
            &[
                ("a", counts(7.0, 120.0, 3000.0, 0.0)),
                ("b", counts(2.0, 10.0, 5e6, 6.0)),
                ("c", slow),
            ],
            0,
        );
        let mut view = View::new(sort, &before);
        view.take(&before, &now);
        view
    }

    #[test]
    fn what_is_shown_is_what_happened_in_between() {
        let text = view(Sort::Bytes).text(None, "http://x/metrics");
        let expected = "\
adit top   http://x/metrics   endpoints: 3, not shown: 0
ENDPOINT  OPEN  NEW/S  TO BACKEND/S  TO CLIENT/S  CONNECT  DROPS/S
all          0     11           0 B          0 B  1.00 ms  -
b            2      0        2.0 MB       4.0 MB        -  limit 2.5
a            7     10        1.5 kB       3.0 kB  1.00 ms  -
c            0      1           0 B          0 B  4.00 ms  -
";
        assert_eq!(text, expected);
        let line: serde_json::Value = serde_json::from_str(&view(Sort::Bytes).json()).unwrap();
        assert_eq!(line["endpoints"][0]["endpoint"], "b");
        assert_eq!(
            line["endpoints"][0]["drops_per_s"],
            serde_json::json!({"limit": 2.5})
        );
        assert_eq!(line["endpoints"][0]["connect_ms"], serde_json::Value::Null);
        assert_eq!(line["total"]["new_per_s"], 11.0);
    }

    #[test]
    fn the_order_is_the_one_that_was_asked_for() {
        let first = |sort| {
            view(sort)
                .sorted()
                .into_iter()
                .map(|row| row.endpoint)
                .collect::<String>()
        };
        for (key, expected) in [
            (b'c', "abc"),
            (b'N', "acb"),
            (b'b', "bac"),
            (b'd', "bac"),
            (b'l', "cab"),
        ] {
            assert_eq!(first(Sort::by_key(key).unwrap()), expected, "{}", char::from(key));
        }
        assert_eq!(Sort::by_key(b'x'), None);
    }

    #[test]
    fn a_terminal_gets_what_it_has_room_for() {
        let size = Size { rows: 8, columns: 30 };
        let mut view = view(Sort::Connections);
        view.lost(&std::io::Error::other("away"));
        let text = view.text(Some(size), "http://x/metrics");
        assert!(text.lines().count() <= size.rows, "{text}");
        assert!(
            text.lines().all(|line| line.chars().count() <= size.columns),
            "{text}"
        );
        assert!(text.contains("away") && !text.contains("\nc "), "{text}");
    }

    #[test]
    fn where_there_is_little_room_ids_are_short_and_all_columns_shown() {
        let began = Instant::now();
        let id = "dd5b4a1c-0d33-4a4c-9d45-0c2d8b7e5f01";
        let [before, after] = [0.0, 1.0].map(|n| {
            let at = began + Duration::from_secs(n as u64);
            sample(at, &[(id, counts(1.0, 1000.0 * n, 1e9 * n, n))], 0)
        });
        let mut view = View::new(Sort::Bytes, &before);
        view.take(&before, &after);
        let narrow = view.text(
            Some(Size {
                rows: 24,
                columns: 80,
            }),
            "http://x/metrics",
        );
        assert!(
            narrow.contains("dd5b4a1c ") && narrow.contains("CONNECT  DROPS/S"),
            "{narrow}"
        );
        assert!(narrow.contains("limit 1\n"), "{narrow}");
        let wide = view.text(
            Some(Size {
                rows: 24,
                columns: 120,
            }),
            "http://x/metrics",
        );
        assert!(wide.contains(id), "{wide}");
    }

    #[test]
    fn what_was_not_shown_before_has_no_rates_unless_it_is_new() {
        let began = Instant::now();
        let later = sample(
            began + Duration::from_secs(1),
            &[("a", counts(1.0, 50.0, 1e6, 0.0))],
            0,
        );
        for (unlisted, expected) in [(0, 50.0), (1, 0.0)] {
            let before = sample(began, &[], unlisted);
            let mut view = View::new(Sort::New, &before);
            view.take(&before, &later);
            assert_eq!(view.rows[0].rates.new_per_s, expected);
        }
        // Counted anew.
        let before = sample(began, &[("a", counts(1.0, 500.0, 1e9, 9.0))], 0);
        let mut view = View::new(Sort::New, &before);
        view.take(&before, &later);
        assert_eq!(
            view.rows[0].rates,
            Rates {
                connections_open: 1.0,
                ..Rates::default()
            }
        );
    }

    #[test]
    fn numbers_are_short() {
        for (n, expected) in [
            (0.0, "0 B"),
            (999.0, "999 B"),
            (999.6, "1.0 kB"),
            (12_345.0, "12 kB"),
            (9_960_000.0, "10 MB"),
            (1e18, "1000000 TB"),
        ] {
            assert_eq!(bytes(n), expected);
        }
        assert_eq!([0.0, 0.5, 3.0, 12.4].map(count), ["0", "0.5", "3", "12"]);
    }
}
