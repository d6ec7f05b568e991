//! The data plane beside what people use today: two isolated VPCs, and between them, in turns, nothing but routes
//! (`direct`), Adit's relay, HAProxy as it comes, and HAProxy tuned.
//!
//! `bench/dataplane.sh` runs it; it needs root, `ip` (iproute2) and `haproxy`. Everything shares one machine, so a gateway's
//! throughput is its cost in processor time, and only ratios mean anything. Rounds are interleaved: within a round every
//! variant is measured right after the others, and ratios are made within rounds.
//!
//! Read next: [`topology`] (what is built), [`load`] (what is measured), [`report`] (what is printed).
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a bench that cannot be set up has nothing to say"
)]

mod gateway;
mod load;
mod report;
mod server;
mod topology;

use std::collections::BTreeMap;
use std::env;
use std::time::Duration;

use gateway::{Gateway, Variant};
use load::Kind;
use report::{Report, Sample};
use topology::{Place, Topology};

/// What the command line asks for.
struct Plan {
    rounds: usize,
    span: Duration,
    idle: usize,
    /// The only thing that is measured, if not all.
    only: Option<Only>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Only {
    Load(Kind),
    Fairness,
}

impl Only {
    fn named(word: &str) -> Option<Self> {
        let load = Kind::PEAK.into_iter().find(|kind| kind.word() == word);
        load.map(Self::Load)
            .or((word == "fairness").then_some(Self::Fairness))
    }
}

const USAGE: &str = "usage: dataplane [--rounds N] [--seconds S] [--idle CONNECTIONS]
  --rounds N         interleaved rounds of every measurement (default 5)
  --seconds S        how long one measurement runs (default 3)
  --idle N           idle connections for the memory figure (default 8000; 0 leaves it out)
  --only LOAD        bulk1, bulk8, connections, requests or fairness, and nothing else";

fn main() {
    let mut arguments = env::args().skip(1).collect::<Vec<_>>();
    if !arguments.is_empty() && !arguments[0].starts_with('-') {
        // The bench starts itself again for each part, so that each is a process with its own processor time.
        let part = arguments.remove(0);
        return match part.as_str() {
            "serve" => server::main(&arguments),
            "load" => load::main(&arguments),
            "relay" => gateway::relay_main(&arguments),
            _ => panic!("{USAGE}"),
        };
    }
    let plan = plan(&arguments);
    let topology = Topology::build();
    let mut report = Report::default();
    if plan.only != Some(Only::Fairness) {
        throughput(&plan, &topology, &mut report);
    }
    if plan.only.is_none_or(|only| only == Only::Fairness) {
        fairness(&plan, &topology, &mut report);
    }
    report.print(&plan.rounds.to_string(), &plan.span);
    drop(topology);
    if !report.holds() {
        std::process::exit(1);
    }
}

fn throughput(plan: &Plan, topology: &Topology, report: &mut Report) {
    let _server = topology.start_servers(Place::Anywhere);
    let variants = Variant::ALL.into_iter().filter(|variant| variant.is_throughput());
    let gateways: Vec<_> = variants
        .map(|variant| Gateway::start(topology, variant, Place::Anywhere))
        .collect();
    for round in 1..=plan.rounds {
        eprintln!("round {round} of {}", plan.rounds);
        one_round(plan, topology, &gateways, report);
    }
    if plan.idle > 0 && plan.only.is_none() {
        eprintln!("{} idle connections", plan.idle);
        for gateway in &gateways {
            if let Some(bytes) = load::idle(topology, gateway, plan.idle) {
                report.idle(gateway.variant, bytes, plan.idle);
            }
        }
    }
}

/// The gateway on a core of its own, all others on the other; there the quiet endpoint's client and server go first.
fn fairness(plan: &Plan, topology: &Topology, report: &mut Report) {
    let _servers = [Place::Others, Place::First].map(|place| topology.start_servers(place));
    let variants = Variant::ALL.into_iter().filter(|variant| variant.is_fairness());
    let gateways: Vec<_> = variants
        .map(|variant| Gateway::start(topology, variant, variant.place()))
        .collect();
    for round in 1..=plan.rounds {
        eprintln!("fairness, round {round} of {}", plan.rounds);
        for gateway in &gateways {
            report.fairness(gateway.variant, load::fairness(topology, gateway, plan.span));
        }
    }
}

fn one_round(plan: &Plan, topology: &Topology, gateways: &[Gateway], report: &mut Report) {
    let mut rates = BTreeMap::new();
    for kind in Kind::PEAK
        .into_iter()
        .filter(|kind| plan.only.is_none_or(|only| only == Only::Load(*kind)))
    {
        for gateway in gateways.iter().filter(|g| g.variant.runs(kind)) {
            let before = gateway.cpu();
            let measured = load::run(topology, gateway.target(kind), kind, plan.span);
            let cpu = gateway.cpu().zip(before).map(|(after, before)| after - before);
            rates.insert((gateway.variant, kind), measured.rate);
            report.add(Sample {
                variant: gateway.variant,
                kind,
                rate: measured.rate,
                count: measured.count,
                cpu,
            });
        }
    }
    if plan.only.is_some() {
        return;
    }
    // The same load for all: half of what the slowest of them takes.
    let slowest = rates.iter().filter(|((_, kind), _)| *kind == Kind::Requests);
    let slowest = slowest.map(|(_, rate)| *rate).fold(f64::INFINITY, f64::min);
    for gateway in gateways.iter().filter(|g| g.variant.runs(Kind::Requests)) {
        let latencies = load::paced(
            topology,
            Place::Anywhere,
            gateway.target(Kind::Requests),
            slowest / 2.0,
            plan.span,
        );
        report.latency(gateway.variant, latencies);
    }
}

fn plan(arguments: &[String]) -> Plan {
    let mut plan = Plan {
        rounds: 5,
        span: Duration::from_secs(3),
        idle: 8_000,
        only: None,
    };
    let mut rest = arguments.iter();
    while let Some(flag) = rest.next() {
        if flag == "--help" || flag == "-h" {
            println!("{USAGE}");
            std::process::exit(0);
        }
        let word = rest.next();
        if flag == "--only" {
            plan.only = word.and_then(|word| Only::named(word));
            if plan.only.is_some() {
                continue;
            }
        }
        let value = word.and_then(|value| value.parse::<u64>().ok());
        match (flag.as_str(), value) {
            ("--rounds", Some(value)) if value > 0 => plan.rounds = value as usize,
            ("--seconds", Some(value)) if value > 0 => plan.span = Duration::from_secs(value),
            ("--idle", Some(value)) => plan.idle = value as usize,
            _ => {
                eprintln!("{flag}: not understood\n{USAGE}");
                std::process::exit(2);
            }
        }
    }
    plan
}
