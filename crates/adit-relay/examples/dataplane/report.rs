//! What is printed: medians with their spread, and the bars, each a ratio within rounds.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::gateway::Variant;
use crate::load::{Fairness, Kind, Latency};

/// One measurement.
pub(crate) struct Sample {
    pub(crate) variant: Variant,
    pub(crate) kind: Kind,
    /// Bytes, connections or requests per second.
    pub(crate) rate: f64,
    /// The same in all.
    pub(crate) count: f64,
    /// The gateway's processor time meanwhile, in seconds.
    pub(crate) cpu: Option<f64>,
}

#[derive(Default)]
pub(crate) struct Report {
    rates: BTreeMap<(Variant, Kind), Vec<f64>>,
    /// Processor seconds per byte, connection or request.
    costs: BTreeMap<(Variant, Kind), Vec<f64>>,
    latencies: BTreeMap<Variant, Vec<Latency>>,
    fairness: BTreeMap<Variant, Vec<Fairness>>,
    idle: BTreeMap<Variant, f64>,
}

/// A promise: what Adit makes of something, over what another makes of it.
struct Bar {
    what: String,
    ratios: Vec<f64>,
    goal: f64,
    at_least: bool,
}

impl Bar {
    fn holds(&self) -> bool {
        let ratio = median(&self.ratios);
        if self.at_least {
            ratio >= self.goal
        } else {
            ratio <= self.goal
        }
    }
}

impl Report {
    pub(crate) fn add(&mut self, sample: Sample) {
        let key = (sample.variant, sample.kind);
        self.rates.entry(key).or_default().push(sample.rate);
        if let Some(cpu) = sample.cpu {
            self.costs.entry(key).or_default().push(cpu / sample.count);
        }
    }

    pub(crate) fn latency(&mut self, variant: Variant, latency: Latency) {
        self.latencies.entry(variant).or_default().push(latency);
    }

    pub(crate) fn fairness(&mut self, variant: Variant, fairness: Fairness) {
        self.fairness.entry(variant).or_default().push(fairness);
    }

    pub(crate) fn idle(&mut self, variant: Variant, bytes: u64, connections: usize) {
        self.idle.insert(variant, bytes as f64 / connections as f64);
    }

    pub(crate) fn print(&self, rounds: &str, span: &Duration) {
        println!(
            "{rounds} rounds of {} s each; medians, and in brackets the least and the most.\n",
            span.as_secs()
        );
        println!(
            "| variant | bulk 1, Gb/s | bulk 8, Gb/s | CPU s/GB (8) | conn/s | CPU µs/conn | req/s, 32 conns | CPU µs/req | p50 / p99 µs at half load | bytes per idle conn |"
        );
        println!("|---|---|---|---|---|---|---|---|---|---|");
        for variant in Variant::ALL.into_iter().filter(|v| v.is_throughput()) {
            let rate = |kind, scale: f64, digits| show(self.rates.get(&(variant, kind)), scale, digits);
            let cost = |kind, scale: f64, digits| show(self.costs.get(&(variant, kind)), scale, digits);
            let latency = |of: fn(&Latency) -> f64| {
                let values: Option<Vec<f64>> =
                    self.latencies.get(&variant).map(|l| l.iter().map(of).collect());
                values.map_or_else(|| "–".to_owned(), |values| format!("{:.0}", median(&values)))
            };
            println!(
                "| {} | {} | {} | {} | {} | {} | {} | {} | {} / {} | {} |",
                variant.name(),
                rate(Kind::Bulk1, 8e-9, 1),
                rate(Kind::Bulk8, 8e-9, 1),
                cost(Kind::Bulk8, 1e9, 2),
                rate(Kind::Connections, 1.0, 0),
                cost(Kind::Connections, 1e6, 0),
                rate(Kind::Requests, 1.0, 0),
                cost(Kind::Requests, 1e6, 1),
                latency(|l| l.p50),
                latency(|l| l.p99),
                self.idle
                    .get(&variant)
                    .map_or_else(|| "–".to_owned(), |bytes| format!("{bytes:.0}")),
            );
        }
        println!("\n| promise | goal | measured | holds |\n|---|---|---|---|");
        for bar in self.bars() {
            println!(
                "| {} | {} {} | {} | {} |",
                bar.what,
                if bar.at_least { "≥" } else { "≤" },
                bar.goal,
                show(Some(&bar.ratios), 1.0, 2),
                if bar.holds() { "yes" } else { "**no**" }
            );
        }
        if !self.fairness.is_empty() {
            println!(
                "\n| p99 of one endpoint, µs | alone | beside bytes in bulk | past the gateway, beside the same | beside new connections |\n|---|---|---|---|---|"
            );
        }
        for (variant, fairness) in &self.fairness {
            let column = |of: fn(&Fairness) -> f64| show(Some(&fairness.iter().map(of).collect()), 1.0, 0);
            println!(
                "| {} | {} | {} | {} | {} |",
                variant.name(),
                column(|f| f.quiet),
                column(|f| f.beside_bulk),
                column(|f| f.past_bulk),
                column(|f| f.beside_connections),
            );
        }
    }

    /// Whether every promise is kept.
    pub(crate) fn holds(&self) -> bool {
        self.bars().iter().all(Bar::holds)
    }

    fn bars(&self) -> Vec<Bar> {
        use Kind::{Bulk1, Bulk8, Connections, Requests};
        use Variant::{Adit, AditHeader, Direct, Haproxy, Tuned, TunedHeader};
        let rates = |what: &str, ours, kind, theirs, goal| Bar {
            what: what.to_owned(),
            ratios: ratios(&self.rates, (ours, kind), (theirs, kind)),
            goal,
            at_least: true,
        };
        let costs = |what: &str, ours, theirs| Bar {
            what: what.to_owned(),
            ratios: ratios(&self.costs, (ours, Connections), (theirs, Connections)),
            goal: 0.8,
            at_least: false,
        };
        let mut bars = vec![
            rates(
                "bulk, 1 stream, against HAProxy default",
                Adit,
                Bulk1,
                Haproxy,
                2.0,
            ),
            rates(
                "bulk, 8 streams, against HAProxy default",
                Adit,
                Bulk8,
                Haproxy,
                2.0,
            ),
            rates("bulk, 1 stream, against HAProxy tuned", Adit, Bulk1, Tuned, 1.0),
            rates("bulk, 8 streams, against HAProxy tuned", Adit, Bulk8, Tuned, 1.0),
            rates("bulk, 1 stream, against direct", Adit, Bulk1, Direct, 0.85),
            rates("bulk, 8 streams, against direct", Adit, Bulk8, Direct, 0.85),
            rates("conn/s against HAProxy tuned", Adit, Connections, Tuned, 1.15),
            rates("req/s against HAProxy tuned", Adit, Requests, Tuned, 1.15),
            costs("CPU per connection against HAProxy tuned", Adit, Tuned),
            rates(
                "conn/s with a header, against HAProxy tuned",
                AditHeader,
                Connections,
                TunedHeader,
                1.15,
            ),
            rates(
                "req/s with a header, against HAProxy tuned",
                AditHeader,
                Requests,
                TunedHeader,
                1.15,
            ),
            costs(
                "CPU per connection with a header, against HAProxy tuned",
                AditHeader,
                TunedHeader,
            ),
        ];
        if let Some(bytes) = self.idle.get(&Adit) {
            bars.push(Bar {
                what: "user memory per idle connection, kB".to_owned(),
                ratios: vec![bytes / 1e3],
                goal: 0.5,
                at_least: false,
            });
        }
        bars.extend(self.beside(Adit));
        bars.retain(|bar| !bar.ratios.is_empty());
        bars
    }

    /// How much worse one endpoint fares while another is flooded.
    fn beside(&self, variant: Variant) -> Vec<Bar> {
        let Some(fairness) = self.fairness.get(&variant) else {
            return Vec::new();
        };
        let bar = |what: &str, of: fn(&Fairness) -> f64| Bar {
            what: format!(
                "{}: p99 of one endpoint while another takes {what}, over its quiet one",
                variant.name()
            ),
            ratios: fairness.iter().map(|f| of(f) / f.quiet).collect(),
            goal: 3.0,
            at_least: false,
        };
        vec![
            bar("bytes in bulk", |f| f.beside_bulk),
            bar("new connections", |f| f.beside_connections),
        ]
    }
}

/// Ours over theirs, round by round.
fn ratios<K: Ord>(of: &BTreeMap<K, Vec<f64>>, ours: K, theirs: K) -> Vec<f64> {
    let none = Vec::new();
    let (ours, theirs) = (of.get(&ours).unwrap_or(&none), of.get(&theirs).unwrap_or(&none));
    ours.iter()
        .zip(theirs)
        .map(|(ours, theirs)| ours / theirs)
        .collect()
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[n / 2],
        n => f64::midpoint(sorted[n / 2 - 1], sorted[n / 2]),
    }
}

fn show(values: Option<&Vec<f64>>, scale: f64, digits: usize) -> String {
    let Some(values) = values.filter(|values| !values.is_empty()) else {
        return "–".to_owned();
    };
    let (least, most) = values.iter().fold((f64::INFINITY, 0.0_f64), |(least, most), v| {
        (least.min(*v), most.max(*v))
    });
    let median = median(values) * scale;
    if values.len() == 1 {
        return format!("{median:.digits$}");
    }
    format!(
        "{median:.digits$} ({:.digits$}–{:.digits$})",
        least * scale,
        most * scale
    )
}
