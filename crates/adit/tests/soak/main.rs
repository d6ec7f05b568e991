//! A region under load for a while, with everything changing underneath: nothing is lost, and nothing is left behind.
//!
//! Some seconds as a test; `bench/soak.sh` runs it for longer. Two kinds of endpoints carry connections: *steady* ones, which
//! nobody touches and on which nothing may ever go wrong, and those that come and go, whose connections may be cut, but never
//! carry a wrong byte or end as if they had been whole. Afterwards the region holds what it held before, and the connection log
//! has a line for each connection.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test's panic is its verdict")]

#[path = "../process/mod.rs"]
mod process;

mod gauge;
mod ledger;
mod load;

use std::{
    fs::File,
    io::{self, ErrorKind},
    net::{Ipv4Addr, SocketAddrV4},
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

use adit_netns::Namespace;
use gauge::Gauge;
use load::{Clients, Faults, Kind, serve, talk};
use process::{
    BACKEND_PORT, BACKEND_VPC, CLIENT_PORT, CLIENT_VPC, Client, Region, pattern::Pattern, skip_without_root,
    until,
};
use serde_json::{Value, json};

/// How long it runs, in seconds, after a warm-up of a quarter of it, or a minute.
const SECONDS: &str = "ADIT_SOAK_S";
const SECONDS_DEFAULT: u64 = 15;
/// No warm-up is longer.
const WARM_UP_MAX: Duration = Duration::from_secs(60);
/// The modes, and whether the backend gets a PROXY header in them.
const MODES: [(&str, bool); 5] = [
    ("close", false),
    ("proxy_open", true),
    ("proxy_vni", true),
    ("toa_open", false),
    ("open", true),
];
/// Clients with short connections, with long ones, and such that break off.
const SHORT: usize = 4;
const LONG: usize = 2;
const BROKEN: usize = 1;
/// Who makes endpoints and services, and takes them away.
const CHURNERS: usize = 4;
/// Clients of an endpoint that comes and goes.
const CHURN_CLIENTS: usize = 2;
/// How often it is looked at what the region holds, less one.
const LOOKS: u32 = 10;
/// Connections that are held from the begin to the end.
const HELD: usize = 40;
/// The operator's gateway service, and its server.
const OBS_PORT: &str = "7d20ab63-8e4f-4c19-8032-6b1d9f5e3c28";
const OBS_SERVICE: &str = "7d20ab63-8e4f-4c19-8032-6b1d9f5e3c2d";
const OBS: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(100, 125, 0, 10), 80);

/// What may be added to what a region holds: pipes that the relay keeps for the next large stream (16 for each of its threads, with
/// two ends each), and connections of the API's clients.
fn descriptors_allowed() -> usize {
    std::thread::available_parallelism().unwrap().get() * 16 * 2 + 8
}

/// What may be added to its memory after so many commits: the store keeps the last 32,768 of them for watches, each with the documents
/// that it wrote, and a page cache; both have a bound that a warm-up does not reach. The rest is what the allocator keeps.
fn resident_allowed_kib(commits: u64) -> usize {
    const HISTORY_COMMITS_MAX: u64 = 32_768;
    const COMMIT_KIB: u64 = 2;
    (24 << 10) + (COMMIT_KIB * commits.min(HISTORY_COMMITS_MAX)) as usize
}

/// The region and what runs through it.
struct Soak {
    region: Region,
    clients: Clients,
    inside: Namespace,
    /// Services that stay, and an endpoint to each that nobody touches.
    steady: Vec<(String, SocketAddrV4)>,
    /// Endpoints and services that came and went.
    churned: AtomicU64,
}

impl Soak {
    fn metric(&self, name: &str) -> u64 {
        self.region.metric(name).unwrap()
    }

    /// Everything at once, for so long.
    fn run(&self, long: Duration) {
        let deadline = Instant::now() + long;
        let on = move || Instant::now() < deadline;
        std::thread::scope(|scope| {
            for n in 0..SHORT {
                scope.spawn(move || {
                    self.steadily(n, on, |n, to| {
                        self.clients.whole(to, n * 7 % 2_000, n * 13 % 3_000)
                    });
                });
            }
            for n in 0..LONG {
                scope.spawn(move || {
                    let large = |n: u32| 1_000_000 + n * 7_919 % 20_000_000;
                    self.steadily(n, on, |n, to| self.clients.whole(to, large(n), large(n + 1)));
                });
            }
            for n in 0..BROKEN {
                scope.spawn(move || self.steadily(n, on, |_, to| self.clients.broken(to)));
            }
            for n in 0..CHURNERS {
                scope.spawn(move || self.churn(n, on));
            }
            // What grows is seen to grow.
            for look in 1..LOOKS {
                let at = deadline - long + long * look / LOOKS;
                std::thread::sleep(at.saturating_duration_since(Instant::now()));
                println!(
                    "{:>4} s: {}, {} came and went",
                    (long * look / LOOKS).as_secs(),
                    Gauge::of(&self.region),
                    self.churned.load(Relaxed)
                );
            }
        });
        self.clients.faults.assert_none();
    }

    /// Connections through endpoints that nobody touches: none may fail.
    fn steadily(
        &self,
        first: usize,
        on: impl Fn() -> bool + Sync,
        connect: impl Fn(u32, SocketAddrV4) -> io::Result<()> + Sync,
    ) {
        let work = || {
            let mut n = first;
            while on() {
                let to = self.steady[n % self.steady.len()].1;
                n += 1;
                if let Err(e) = connect(n as u32, to) {
                    self.clients
                        .faults
                        .note(format!("an undisturbed connection to {to}: {e}"));
                }
            }
        };
        self.inside.run(work).unwrap();
    }

    /// Makes endpoints and services under load, and takes them away again under load.
    fn churn(&self, churner: usize, on: impl Fn() -> bool) {
        let api = &self.region.api;
        let (provider, consumer, operator) = (Client::demo(api), Client::other(api), Client::operator(api));
        let mut turn = churner;
        while on() {
            turn += 1;
            match turn % 4 {
                0 => {
                    let server_port = 95 + churner as u16;
                    let service =
                        provider.publish(&json!([{"client_port": 7000, "server_port": server_port}]));
                    let (endpoint, ip) = consumer.connect(&service);
                    self.under_traffic(SocketAddrV4::new(ip, 7000), |more| {
                        more(10);
                        consumer.must("DELETE", &format!("vpc-endpoints/{endpoint}"), None);
                    });
                    gone(&consumer, &format!("vpc-endpoints/{endpoint}"));
                    let path = format!("vpc-endpoint-services/{service}");
                    provider.must("DELETE", &path, None);
                    gone(&provider, &path);
                }
                // A table has one endpoint of a service.
                1 if churner == 0 => {
                    let body = json!({"endpoint_service_id": OBS_SERVICE, "vpc_id": CLIENT_VPC});
                    let made = consumer.must("POST", "vpc-endpoints", Some(&body));
                    let path = format!("vpc-endpoints/{}", made["id"].as_str().unwrap());
                    until("the gateway endpoint", || {
                        (consumer.must("GET", &path, None)["status"] == "accepted").then_some(())
                    });
                    self.under_traffic(OBS, |more| {
                        more(10);
                        consumer.must("DELETE", &path, None);
                    });
                    gone(&consumer, &path);
                }
                _ => {
                    let (service, to) = &self.steady[turn % self.steady.len()];
                    let (endpoint, ip) = consumer.connect(service);
                    let path = format!("vpc-endpoints/{endpoint}");
                    let decide = |action: &str| {
                        let body = json!({"action": action, "endpoints": [endpoint]});
                        let path = format!("vpc-endpoint-services/{service}/connections/action");
                        provider.must("POST", &path, Some(&body));
                    };
                    let able = |word: &str| {
                        let path = format!("/admin/v1/endpoints/{endpoint}");
                        operator.must("PUT", &path, Some(&json!({"enable_status": word})));
                    };
                    self.under_traffic(SocketAddrV4::new(ip, to.port()), |more| {
                        more(10);
                        decide("reject");
                        decide("receive");
                        more(5);
                        able("disable");
                        able("enable");
                        more(5);
                        consumer.must("DELETE", &path, None);
                    });
                    gone(&consumer, &path);
                }
            }
            self.churned.fetch_add(1, Relaxed);
        }
    }

    /// Connections of all kinds through an endpoint while `change` does things to it; `more` waits until so many were whole.
    fn under_traffic(&self, to: SocketAddrV4, change: impl FnOnce(&dyn Fn(u64))) {
        let (over, whole) = (AtomicBool::new(false), AtomicU64::new(0));
        let connect = |n: usize| {
            let mut n = n as u32;
            while !over.load(Relaxed) {
                n += 1;
                let amount = if n.is_multiple_of(5) { 3_000_000 } else { 1_000 };
                match self.clients.whole(to, amount, amount) {
                    Ok(()) => drop(whole.fetch_add(1, Relaxed)),
                    // A cut is a reset: a stream that only seems to end is a loss.
                    Err(e) if matches!(e.kind(), ErrorKind::InvalidData | ErrorKind::UnexpectedEof) => {
                        self.clients
                            .faults
                            .note(format!("a disturbed connection to {to}: {e}"));
                    }
                    Err(_) => std::thread::yield_now(),
                }
            }
        };
        std::thread::scope(|scope| {
            let connect = &connect;
            for n in 0..CHURN_CLIENTS {
                scope.spawn(move || self.inside.run(move || connect(n)).unwrap());
            }
            let _over = Over(&over);
            change(&|count| {
                let wanted = whole.load(Relaxed) + count;
                until("connections to be whole", || {
                    (whole.load(Relaxed) >= wanted).then_some(())
                });
            });
        });
    }

    /// Waits until only those connections are open that are held, and answers what the region holds then.
    fn settle(&self, held: usize, fits: impl Fn(&Gauge) -> bool) -> Gauge {
        until("connections to end", || {
            (self.metric("adit_gateway_connections_open") == held as u64).then_some(())
        });
        let mut last = None;
        let deadline = Instant::now() + Duration::from_secs(60);
        // What it was like says more than that it took too long.
        while Instant::now() < deadline {
            let now = Gauge::of(&self.region);
            if fits(&now) {
                return now;
            }
            last = Some(now);
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("more is held than before: {}", last.unwrap());
    }
}

/// Ends the traffic, also when a test fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

fn gone(client: &Client, path: &str) {
    until(path, || {
        (client.try_call("GET", path, None)?.0 == 404).then_some(())
    });
}

/// A service of a mode, open to everybody, and an endpoint to it; none where this machine cannot do the mode.
fn publish(provider: &Client, consumer: &Client, n: usize) -> Option<(String, SocketAddrV4)> {
    let (mode, _) = MODES[n];
    let (client_port, server_port) = (7_000 + n as u16, 81 + n as u16);
    let body = json!({"port_id": BACKEND_PORT, "vpc_id": BACKEND_VPC, "server_type": "VM", "approval_enabled": false,
        "tcp_proxy": mode, "ports": [{"client_port": client_port, "server_port": server_port}]});
    let made = provider.must("POST", "vpc-endpoint-services", Some(&body));
    let id = made["id"].as_str().unwrap().to_owned();
    let path = format!("vpc-endpoint-services/{id}");
    let status = until("the service", || {
        let status = provider.must("GET", &path, None)["status"].take();
        (status != "creating").then_some(status)
    });
    if status != "available" {
        eprintln!("the mode {mode} is not tried: this machine cannot do it");
        return None;
    }
    let everybody = json!({"permissions": ["*"], "action": "add"});
    provider.must("POST", &format!("{path}/permissions/action"), Some(&everybody));
    let (_, ip) = consumer.connect(&id);
    Some((id, SocketAddrV4::new(ip, client_port)))
}

#[test]
fn a_region_under_load_loses_nothing_and_leaves_nothing_behind() {
    if skip_without_root("a_region_under_load_loses_nothing_and_leaves_nothing_behind") {
        return;
    }
    let seconds = std::env::var(SECONDS).map_or(SECONDS_DEFAULT, |text| text.parse().unwrap());
    let long = Duration::from_secs(seconds);
    let dir = tempfile::tempdir().unwrap();
    let (connections, log) = (dir.path().join("connections.jsonl"), dir.path().join("log.jsonl"));
    let words = [
        "--connection-log",
        connections.to_str().unwrap(),
        "--log-format",
        "json",
    ];
    let region = Region::start_logged(&dir.path().join("data"), &words, File::create(&log).unwrap());
    let instance = region.instance();
    let (provider, consumer) = (Client::demo(&region.api), Client::other(&region.api));
    let (pattern, faults) = (Pattern::new(), Faults::default());
    let backend = region.port(BACKEND_PORT);
    let listen = |port| SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port);
    for (n, (_, has_header)) in MODES.into_iter().enumerate() {
        serve(&backend, listen(81 + n as u16), has_header, &pattern, &faults);
    }
    for churner in 0..CHURNERS {
        serve(&backend, listen(95 + churner as u16), false, &pattern, &faults);
    }
    serve(&region.port(OBS_PORT), OBS, false, &pattern, &faults);
    let steady = (0..MODES.len())
        .filter_map(|n| publish(&provider, &consumer, n))
        .collect();
    let soak = Soak {
        inside: region.port(CLIENT_PORT),
        region,
        clients: Clients {
            pattern,
            ledger: ledger::Ledger::default(),
            faults,
            bytes: AtomicU64::new(0),
        },
        steady,
        churned: AtomicU64::new(0),
    };
    let fresh = Gauge::of(&soak.region);
    let mut held: Vec<_> = (0..HELD)
        .map(|n| {
            let to = soak.steady[n % soak.steady.len()].1;
            soak.inside
                .run(|| soak.clients.open(to, Kind::Held))
                .unwrap()
                .unwrap()
        })
        .collect();
    held.iter_mut().for_each(|stream| talk(stream).unwrap());

    soak.run((long / 4).min(WARM_UP_MAX));
    let before = soak.settle(HELD, |now| {
        (now.namespaces, now.links) == (fresh.namespaces, fresh.links)
    });
    soak.run(long);
    let commits = soak.metric("adit_store_commits_total");
    let allowed = resident_allowed_kib(commits);
    let after = soak.settle(HELD, |now| {
        now.descriptors <= before.descriptors + descriptors_allowed()
            && now.threads <= fresh.threads
            && (now.namespaces, now.links) == (before.namespaces, before.links)
            && now.resident_kib <= before.resident_kib + allowed
    });
    held.iter_mut().for_each(|stream| talk(stream).unwrap());
    drop(held);
    until("the last connections to end", || {
        (soak.metric("adit_gateway_connections_open") == 0).then_some(())
    });
    let counted = soak.metric("adit_gateway_connections_total");
    assert_eq!(soak.metric("adit_gateway_connection_records_lost_total"), 0);
    soak.clients.faults.assert_none();
    assert!(soak.region.stop(), "a clean stop");
    assert_eq!(
        Region::namespaces(&instance),
        [""; 0],
        "a clean stop leaves nothing"
    );

    let ends = soak.clients.ledger.compare(&connections);
    assert_eq!(ends.values().sum::<u64>(), counted, "{ends:?}");
    for reason in ends.keys() {
        let expected = ["closed", "client_reset", "backend_reset", "cut"];
        assert!(expected.contains(&reason.as_str()), "{ends:?}");
    }
    let log = std::fs::read_to_string(&log).unwrap();
    let bad = |line: &&str| match serde_json::from_str::<Value>(line) {
        Ok(line) => line["level"] == "ERROR",
        // A word to the person at the terminal; or a panic.
        Err(_) => !line.starts_with("Stopping:"),
    };
    assert_eq!(log.lines().filter(bad).collect::<Vec<_>>(), [""; 0]);
    let warnings: Vec<_> = log
        .lines()
        .filter(|line| line.contains("\"level\":\"WARN\""))
        .collect();
    for warning in &warnings[..warnings.len().min(5)] {
        println!("{warning}");
    }
    println!(
        "{seconds} s: {} connections answered ({counted} taken in, {ends:?}), {} MB checked, {} endpoints came and went in {commits} commits, {} warnings\n\
         before: {before}\nafter:  {after}",
        soak.clients.ledger.total(),
        soak.clients.bytes.load(Relaxed) / 1_000_000,
        soak.churned.load(Relaxed),
        warnings.len(),
    );
}
