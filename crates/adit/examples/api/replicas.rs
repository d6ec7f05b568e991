//! One, two and three control planes on an etcd of three members: reads, and orders beside etcd alone. All of it shares
//! this machine's cores, so that a rate alone says little; what a request costs each of them says more.

use std::{path::Path, sync::Arc};

use adit_store::{EtcdConfig, EtcdStore, Store};
use serde_json::Value;

use crate::{
    Plan,
    creates::{entries_of, records_between, want_approval},
    etcd::Etcd,
    fill,
    process::{Client, Process},
    redb::Record,
    region::{self, CONSUMER, PROVIDER},
    table::Spread,
    wrk::Load,
};

/// Control planes.
const REPLICAS: usize = 3;
/// Connections of readers, on all replicas together.
const READERS: usize = 48;
/// Who create at a time.
const CLIENTS: usize = 64;

/// What one round of load came to.
#[derive(Clone, Copy)]
struct Round {
    rate: f64,
    cpu_us: f64,
    etcd_us: f64,
    /// Transactions and reads of etcd for each request.
    txns: f64,
    reads: f64,
}

/// What etcd has done so far.
struct Used {
    cpu_us: u64,
    calls: [f64; 2],
}

impl Used {
    fn by(etcd: &Etcd) -> Self {
        Self {
            calls: etcd.calls(),
            cpu_us: etcd.cpu_us(),
        }
    }

    /// What a round came to in which etcd had done so much before.
    fn round(&self, etcd: &Etcd, rate: f64, cpu_us: f64, seconds: u64) -> Round {
        let requests = rate * seconds as f64;
        let etcd_us = (etcd.cpu_us() - self.cpu_us) as f64 / requests;
        let [txns, reads] = etcd.calls();
        Round {
            rate,
            cpu_us,
            etcd_us,
            txns: (txns - self.calls[0]) / requests,
            reads: (reads - self.calls[1]) / requests,
        }
    }
}

/// Measures, and prints the tables.
pub(crate) fn run(plan: &Plan) {
    let region = plan.folder.join("region.toml");
    region::write(&region);
    let etcd = Etcd::start(&plan.folder);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let config = EtcdConfig {
        urls: etcd.urls().to_vec(),
        root: "adit".to_owned(),
        ..EtcdConfig::default()
    };
    let store: Arc<dyn Store> = Arc::new(runtime.block_on(EtcdStore::open(config)).unwrap());
    runtime.block_on(fill::fill_store(Arc::clone(&store), 1, 1));
    let flag = format!("etcd:{}", etcd.urls().join(","));
    let start = |n: usize| {
        Process::control(
            &plan.folder.join(format!("api-{n}")),
            &region,
            &["--store", &flag],
            &CONSUMER,
        )
    };
    let replicas: Vec<_> = (0..REPLICAS).map(start).collect();
    let servers: Vec<&Process> = replicas.iter().map(|(server, ..)| server).collect();
    let clients: Vec<&Client> = replicas.iter().map(|(.., client)| client).collect();
    let order = want_approval(&Client::new(servers[0], &PROVIDER));
    let before = runtime.block_on(entries_of(&*store));
    assert_eq!(
        clients[0].post("vpc-endpoints", &order)["status"],
        "pendingAcceptance"
    );
    let after = runtime.block_on(entries_of(&*store));
    let mut records = records_between(&before, &after, 0);
    // What a gateway or a lease writes meanwhile is no part of it.
    records.retain(|record| !record.key.starts_with("leader") && !record.key.starts_with("node/"));
    reads(plan, &etcd, &servers, &clients);
    creates(plan, &etcd, &servers, &clients, &order, &records);
}

fn reads(plan: &Plan, etcd: &Etcd, servers: &[&Process], clients: &[&Client]) {
    let id = clients[0].get("vpc-endpoints?limit=1")["endpoints"][0]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let mut rounds = vec![Vec::new(); REPLICAS];
    for _ in 0..plan.rounds {
        for n in 1..=REPLICAS {
            let path = format!("vpc-endpoints/{id}");
            let round = load(plan, etcd, &servers[..n], &clients[..n], &path, None, READERS);
            rounds[n - 1].push(round);
        }
    }
    println!(
        "| GET an endpoint | a second | of one replica | replicas' CPU, µs each | etcd's CPU, µs each | its transactions each | its reads each |"
    );
    println!("|---|---|---|---|---|---|---|");
    for (n, of) in rounds.iter().enumerate() {
        row(
            &format!("{} of {REPLICAS} replicas asked", n + 1),
            of,
            rounds[0].iter().map(|r| r.rate),
        );
    }
    println!();
}

fn creates(
    plan: &Plan,
    etcd: &Etcd,
    servers: &[&Process],
    clients: &[&Client],
    order: &Value,
    records: &[Record],
) {
    let (mut ours, mut one, mut bare) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..plan.rounds {
        let used = Used::by(etcd);
        let rate = etcd.commit(records, CLIENTS, plan.seconds);
        bare.push(used.round(etcd, rate, 0.0, plan.seconds));
        let body = Some(order.to_string());
        one.push(load(
            plan,
            etcd,
            &servers[..1],
            &clients[..1],
            "vpc-endpoints",
            body.clone(),
            CLIENTS,
        ));
        ours.push(load(plan, etcd, servers, clients, "vpc-endpoints", body, CLIENTS));
    }
    let bytes: usize = records.iter().map(|r| r.key.len() + r.bytes).sum();
    println!(
        "{} records of {bytes} bytes together for each create.\n",
        records.len()
    );
    println!(
        "| creates, {CLIENTS} clients | a second | of etcd alone | replicas' CPU, µs each | etcd's CPU, µs each | its transactions each | its reads each |"
    );
    println!("|---|---|---|---|---|---|---|");
    for (name, rounds) in [
        ("etcd alone, one transaction each", &bare),
        ("POST endpoint, one replica", &one),
        ("POST endpoint, three replicas", &ours),
    ] {
        row(name, rounds, bare.iter().map(|r| r.rate));
    }
    println!();
}

fn row(name: &str, rounds: &[Round], beside: impl Iterator<Item = f64>) {
    let column = |pick: fn(&Round) -> f64| Spread::of(rounds.iter().map(pick));
    println!(
        "| {name} | {} | {} | {} | {} | {} | {} |",
        column(|r| r.rate).show(0),
        Spread::of(rounds.iter().zip(beside).map(|(own, other)| own.rate / other)).show(2),
        column(|r| r.cpu_us).show(0),
        column(|r| r.etcd_us).show(0),
        column(|r| r.txns).show(2),
        column(|r| r.reads).show(3),
    );
}

/// The same load on each of these replicas at once.
fn load(
    plan: &Plan,
    etcd: &Etcd,
    servers: &[&Process],
    clients: &[&Client],
    path: &str,
    body: Option<String>,
    connections: usize,
) -> Round {
    let used = Used::by(etcd);
    let measured: Vec<_> = std::thread::scope(|scope| {
        let running: Vec<_> = servers
            .iter()
            .zip(clients)
            .enumerate()
            .map(|(n, (server, client))| {
                let headers = vec![
                    ("X-Auth-Token", client.token.clone()),
                    ("Content-Type", "application/json".to_owned()),
                ];
                let (url, body) = (format!("{}/{path}", client.base), body.clone());
                let folder = folder_of(&plan.folder, n);
                scope.spawn(move || {
                    let load = Load {
                        url,
                        headers: &headers,
                        body,
                        connections: connections / servers.len(),
                        pinned: false,
                    };
                    load.measure(server, plan.seconds, &folder)
                })
            })
            .collect();
        running.into_iter().map(|load| load.join().unwrap()).collect()
    });
    let rate: f64 = measured.iter().map(|m| m.rate).sum();
    let cpu = measured.iter().map(|m| m.cpu_us * m.rate).sum::<f64>();
    used.round(etcd, rate, cpu / rate, plan.seconds)
}

/// Each load's script has a folder of its own.
fn folder_of(folder: &Path, n: usize) -> std::path::PathBuf {
    let folder = folder.join(format!("load-{n}"));
    std::fs::create_dir_all(&folder).unwrap();
    folder
}
