//! Reads over kept connections: beside a bare server, and with a full store.

use std::path::{Path, PathBuf};

use crate::{
    Plan, fill,
    process::{Client, Process},
    region::{self, PROVIDER},
    signed,
    table::{Spread, grouped},
    wrk::{Load, Measured},
};

/// Connections of the load: enough to keep a core busy, few enough not to measure queues.
const CONNECTIONS: usize = 32;
/// What is read.
const READS: [&str; 2] = ["one service", "ten services"];
/// Services in the small store, and as many endpoints: one page.
const SMALL: usize = 10;
/// How often a server is started for the time that takes.
const STARTS: usize = 3;

/// Who is measured.
struct Subject<'a> {
    name: String,
    server: &'a Process,
    /// The URL of each of [`READS`].
    urls: [String; 2],
    /// The token to send; without one, requests are signed.
    token: Option<String>,
    /// What was measured, by read.
    measured: [Vec<Measured>; 2],
}

impl<'a> Subject<'a> {
    fn new(name: impl Into<String>, server: &'a Process, urls: [String; 2], client: &Client) -> Self {
        Self {
            name: name.into(),
            server,
            urls,
            token: Some(client.token.clone()),
            measured: Default::default(),
        }
    }

    /// The headers that its requests prove themselves with.
    fn headers(&self, read: usize) -> Vec<(&'static str, String)> {
        match &self.token {
            Some(token) => vec![("X-Auth-Token", token.clone())],
            None => signed::headers(&PROVIDER, &self.urls[read]),
        }
    }

    /// How its rate was to another's, in each round.
    fn ratio(&self, of: &Subject<'_>, read: usize) -> Spread {
        let rounds = self.measured[read].iter().zip(&of.measured[read]);
        Spread::of(rounds.map(|(own, other)| own.rate / other.rate))
    }

    fn row(&self, of: &Subject<'_>, read: usize) {
        let column = |pick: fn(&Measured) -> f64| Spread::of(self.measured[read].iter().map(pick));
        println!(
            "| {}: {} | {} | {} | {} | {} |",
            READS[read],
            self.name,
            column(|m| m.rate).show(0),
            self.ratio(of, read).show(2),
            column(|m| m.cpu_us).show(1),
            column(|m| m.p99_ms).show(2),
        );
    }
}

/// A server on a store, with what was learnt while it started.
struct Started {
    server: Process,
    client: Client,
    startup_s: Spread,
    memory: u64,
    json: u64,
}

impl Started {
    /// Fills a store and starts the program on it, a few times.
    fn on(data: &Path, resources: usize, region: &Path) -> Self {
        let json = fill::fill(data, resources, resources).json_bytes;
        let startup_s = Spread::of((0..STARTS).map(|_| {
            let (server, took, _) = Process::adit(data, region, None, &PROVIDER);
            server.stop();
            took.as_secs_f64()
        }));
        let (server, _, client) = Process::adit(data, region, Some(0), &PROVIDER);
        server.wait_idle();
        Self {
            memory: server.memory(),
            server,
            client,
            startup_s,
            json,
        }
    }

    fn paths(&self) -> [String; 2] {
        let newest = self.client.get("vpc-endpoint-services?limit=1");
        let id = newest["endpoint_services"][0]["id"].as_str().unwrap();
        let list = "vpc-endpoint-services";
        [format!("{list}/{id}"), list.to_owned()]
    }

    fn subject(&self, name: impl Into<String>) -> Subject<'_> {
        let urls = self.paths().map(|path| format!("{}/{path}", self.client.base));
        Subject::new(name, &self.server, urls, &self.client)
    }
}

/// Measures, and prints the tables.
pub(crate) fn run(plan: &Plan) {
    let region = plan.folder.join("region.toml");
    region::write(&region);
    let small = Started::on(&plan.folder.join("small"), SMALL, &region);
    let full = Started::on(&plan.folder.join("full"), plan.resources, &region);
    let bodies: Vec<PathBuf> = small
        .paths()
        .iter()
        .enumerate()
        .map(|(i, path)| {
            let file = plan.folder.join(format!("body-{i}"));
            std::fs::write(&file, small.client.get_text(path)).unwrap();
            file
        })
        .collect();
    let bare = Process::bare(&bodies);
    let urls = [0, 1].map(|i| format!("{}/{i}", bare.url));
    let resources = grouped(plan.resources as f64);
    let mut subjects = [
        Subject::new("bare axum", &bare, urls, &small.client),
        small.subject("Adit"),
        Subject {
            token: None,
            ..small.subject("Adit, signed requests")
        },
        full.subject(format!("Adit with {resources} + {resources}")),
    ];
    for _ in 0..plan.rounds {
        for read in 0..READS.len() {
            for subject in &mut subjects {
                let load = Load {
                    url: subject.urls[read].clone(),
                    headers: &subject.headers(read),
                    body: None,
                    connections: CONNECTIONS,
                    pinned: true,
                };
                let measured = load.measure(subject.server, plan.seconds, &plan.folder);
                subject.measured[read].push(measured);
            }
        }
    }
    print_reads(&subjects);
    print_sizes(plan, &subjects, &small, &full);
}

fn print_reads(subjects: &[Subject<'_>]) {
    println!("| reads | requests a second | of bare axum | server's CPU, µs each | 99th percentile, ms |");
    println!("|---|---|---|---|---|");
    for read in 0..READS.len() {
        for subject in subjects {
            subject.row(&subjects[0], read);
        }
    }
    println!();
}

fn print_sizes(plan: &Plan, subjects: &[Subject<'_>; 4], small: &Started, full: &Started) {
    let [_, few, _, many] = subjects;
    let mib = |bytes: u64| format!("{:.1}", bytes as f64 / f64::from(1 << 20));
    let resources = grouped(plan.resources as f64);
    println!(
        "| in the store | {SMALL} services, {SMALL} endpoints | {resources} services, {resources} endpoints |"
    );
    println!("|---|---|---|");
    for (read, name) in READS.iter().enumerate() {
        println!(
            "| {name}, of the small store's rate | 1 | {} |",
            many.ratio(few, read).show(2)
        );
    }
    println!(
        "| start to first answer, s | {} | {} |",
        small.startup_s.show(2),
        full.startup_s.show(2)
    );
    println!("| memory, MiB | {} | {} |", mib(small.memory), mib(full.memory));
    println!(
        "| JSON of services and endpoints, MiB | {} | {} |",
        mib(small.json),
        mib(full.json)
    );
    let more = |of: fn(&Started) -> u64| of(full) as f64 - of(small) as f64;
    let each = (more(|s| s.memory) - more(|s| s.json)) / (2 * (plan.resources - SMALL)) as f64;
    println!("| memory for each beyond its JSON, bytes | | {each:.0} |");
    println!();
}
