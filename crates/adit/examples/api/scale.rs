//! The same control plane with ten thousand endpoints, a hundred thousand or more, and a tenth as many services: what a
//! start, a request and a gateway's share of the feed cost. What is on the way of a request must not grow with the total.

use std::{
    collections::HashSet,
    io::{BufRead, BufReader, Read},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use adit_model::{
    feed::{Capabilities, EndpointReport, EndpointSpec, FeedEvent, Report},
    node::{FeedLine, Load, NodeStatus},
};
use serde_json::{Value, json};

use crate::{
    Plan, fill,
    process::{Client, Process},
    region::{self, CONSUMER, PROVIDER},
    table::{grouped, percentile},
};

/// Endpoints, where no sizes are named.
pub(crate) const SIZES: [usize; 3] = [10_000, 100_000, 1_000_000];
/// Endpoints for each service.
const OF_SERVICE: usize = 10;
/// How often each request is made.
const REQUESTS: usize = 500;
/// Gateways that share the endpoints.
const GATEWAYS: usize = 3;
/// Most reports that a gateway sends at once.
const REPORTS_MAX: usize = 10_000;

/// What is known of a size: each row of the table by its name.
type Column = Vec<(&'static str, String)>;

/// Measures, and prints the table.
pub(crate) fn run(plan: &Plan, sizes: &[usize]) {
    let region = plan.folder.join("region.toml");
    region::write(&region);
    let columns: Vec<Column> = sizes
        .iter()
        .map(|size| {
            let data = plan.folder.join(format!("scale-{size}"));
            let column = measure(&data, &region, *size);
            std::fs::remove_dir_all(&data).unwrap();
            column
        })
        .collect();
    let heads: Vec<String> = sizes
        .iter()
        .map(|n| format!("{} + {}", grouped((n / OF_SERVICE) as f64), grouped(*n as f64)))
        .collect();
    println!("| services + endpoints | {} |", heads.join(" | "));
    println!("|---|{}", "---|".repeat(sizes.len()));
    for (row, (name, _)) in columns[0].iter().enumerate() {
        let cells: Vec<&str> = columns.iter().map(|column| column[row].1.as_str()).collect();
        println!("| {name} | {} |", cells.join(" | "));
    }
    println!();
}

fn measure(data: &Path, region: &Path, size: usize) -> Column {
    let begun = Instant::now();
    let json = fill::fill(data, size / OF_SERVICE, size).json_bytes;
    eprintln!(
        "{size} endpoints written in {:.0} s",
        begun.elapsed().as_secs_f64()
    );
    let (server, _, _) = Process::control(data, region, &[], &CONSUMER);
    server.stop();
    let (server, start, consumer) = Process::control(data, region, &[], &CONSUMER);
    server.wait_idle();
    let provider = Client::new(&server, &PROVIDER);
    let mib = |bytes: u64| grouped(bytes as f64 / f64::from(1 << 20));
    let resources = (size + size / OF_SERVICE) as f64;
    let memory = server.memory();
    let mut column = vec![
        (
            "store on disk, MiB",
            mib(std::fs::metadata(data.join("store.redb")).unwrap().len()),
        ),
        ("start to first answer, s", format!("{:.2}", start.as_secs_f64())),
        ("memory, MiB", mib(memory)),
        (
            "memory for each beyond its JSON, bytes",
            grouped((memory as f64 - json as f64) / resources),
        ),
    ];
    let newest = consumer.get("vpc-endpoints?limit=1");
    let id = newest["endpoints"][0]["id"].as_str().unwrap().to_owned();
    let services = provider.get(&format!(
        "vpc-endpoint-services?limit=1&offset={}",
        size / OF_SERVICE - 1
    ));
    let order = json!({
        "endpoint_service_id": services["endpoint_services"][0]["id"],
        "vpc_id": CONSUMER.id::<String>(0, 0), "subnet_id": CONSUMER.id::<String>(0, 1),
    });
    let get = |path: &str| timed(|| drop(consumer.get_text(path)));
    column.push(("GET an endpoint, ms", get(&format!("vpc-endpoints/{id}"))));
    column.push(("list ten, ms", get("vpc-endpoints?limit=10")));
    column.push((
        "list ten from the middle, ms",
        get(&format!("vpc-endpoints?limit=10&offset={}", size / 2)),
    ));
    column.push((
        "list ten by change, ms",
        get("vpc-endpoints?limit=10&sort_key=update_at"),
    ));
    let create = || drop(consumer.post("vpc-endpoints", &order));
    column.push(("POST an endpoint, ms", timed(create)));
    // The rest takes a while.
    column
        .iter()
        .for_each(|(name, value)| eprintln!("  {name}: {value}"));
    column.extend(feed(
        &server,
        data,
        &consumer,
        &format!("vpc-endpoints/{id}"),
        &order,
    ));
    server.stop();
    column
}

/// The median and the 99th percentile of many.
fn timed(mut work: impl FnMut()) -> String {
    work();
    let took = (0..REQUESTS).map(|_| {
        let begun = Instant::now();
        work();
        begun.elapsed()
    });
    spread(took.collect())
}

fn spread(mut took: Vec<Duration>) -> String {
    took.sort_unstable();
    let ms = |share| percentile(&took, share).as_secs_f64() * 1000.0;
    format!("{:.2}, {:.2}", ms(0.5), ms(0.99))
}

/// Gateways come, each gets its share while a tenant asks on, and then each change.
fn feed(server: &Process, data: &Path, consumer: &Client, path: &str, order: &Value) -> Column {
    let total = consumer.get("vpc-endpoints?limit=1")["total_count"]
        .as_u64()
        .unwrap();
    let begun = Instant::now();
    let cpu = server.cpu_us();
    let (told, orders) = mpsc::channel();
    let names = (1..=GATEWAYS).map(|n| format!("gateway-{n}"));
    let gateways: Vec<_> = names
        .map(|name| Gateway::follow(data, &name, told.clone()))
        .collect();
    let held = || {
        gateways
            .iter()
            .map(|g| g.held.load(Ordering::Relaxed))
            .sum::<u64>()
    };
    let waiting = AtomicBool::new(true);
    let slowest = std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let reader = consumer.again();
            let mut slowest = Duration::ZERO;
            while waiting.load(Ordering::Relaxed) {
                let asked = Instant::now();
                drop(reader.get_text(path));
                slowest = slowest.max(asked.elapsed());
            }
            slowest
        });
        // Each has confirmed its own, and nobody has what is another's.
        while held() != total {
            assert!(
                begun.elapsed() < Duration::from_secs(600),
                "{} of {total}",
                held()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
        waiting.store(false, Ordering::Relaxed);
        reader.join().unwrap()
    });
    let took = begun.elapsed();
    let used = server.cpu_us() - cpu;
    let bytes: u64 = gateways.iter().map(|g| g.bytes.load(Ordering::Relaxed)).sum();
    server.wait_idle();
    let changes = (0..REQUESTS).map(|_| {
        while orders.try_recv().is_ok() {}
        let id = consumer.post("vpc-endpoints", order)["id"]
            .as_str()
            .unwrap()
            .to_owned();
        let answered = Instant::now();
        let told = orders.iter().find(|(told, _)| *told == id);
        told.unwrap().1.saturating_duration_since(answered)
    });
    let changes = spread(changes.collect());
    gateways
        .iter()
        .for_each(|g| g.ended.store(true, Ordering::Relaxed));
    vec![
        (
            "three gateways come, until each has confirmed its share, s",
            format!("{:.2}", took.as_secs_f64()),
        ),
        (
            "… server's CPU for it, µs for each endpoint",
            format!("{:.1}", used as f64 / total as f64),
        ),
        ("… bytes for each endpoint", grouped(bytes as f64 / total as f64)),
        (
            "… slowest GET of a tenant's meanwhile, ms",
            format!("{:.1}", slowest.as_secs_f64() * 1000.0),
        ),
        ("endpoint ordered, until its gateway is told, ms", changes),
    ]
}

/// Who follows the feed and serves nothing, though it says that it does.
struct Gateway {
    /// How many endpoints it was told to serve.
    held: AtomicU64,
    /// What it has read.
    bytes: AtomicU64,
    ended: AtomicBool,
}

impl Gateway {
    fn follow(data: &Path, name: &str, told: mpsc::Sender<(String, Instant)>) -> Arc<Self> {
        let run: Value = serde_json::from_slice(&std::fs::read(data.join("run.json")).unwrap()).unwrap();
        let nodes = run["nodes"].as_str().unwrap().to_owned();
        let secret = std::fs::read_to_string(data.join("node-token")).unwrap();
        let secret = format!("Bearer {}", secret.trim());
        let gateway = Arc::new(Self {
            held: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            ended: AtomicBool::new(false),
        });
        let agent: ureq::Agent = ureq::Agent::config_builder().build().into();
        let feed = agent
            .get(format!("{nodes}/node/v1/feed?node={name}"))
            .header("authorization", &secret)
            .call()
            .unwrap();
        let (reports, said) = mpsc::channel();
        let status = NodeStatus {
            node: name.parse().unwrap(),
            version: "0".to_owned(),
            machine: name.to_owned(),
            capabilities: Capabilities::default(),
            load: Load::default(),
            reports: Vec::new(),
            legs: None,
        };
        let speaker = Arc::clone(&gateway);
        std::thread::spawn(move || {
            while !speaker.ended.load(Ordering::Relaxed) {
                let first = said.recv_timeout(Duration::from_millis(500)).ok();
                let reports = first
                    .into_iter()
                    .chain(said.try_iter().take(REPORTS_MAX))
                    .collect();
                let status = NodeStatus {
                    reports,
                    ..status.clone()
                };
                let post = agent
                    .post(format!("{nodes}/node/v1/status"))
                    .header("authorization", &secret);
                let said = post.send_json(&status);
                assert!(said.is_ok() || speaker.ended.load(Ordering::Relaxed), "{said:?}");
            }
        });
        let listener = Arc::clone(&gateway);
        std::thread::spawn(move || listener.listen(feed.into_body().into_reader(), &reports, &told));
        gateway
    }

    fn listen(
        &self,
        feed: impl Read,
        reports: &mpsc::Sender<Report>,
        told: &mpsc::Sender<(String, Instant)>,
    ) {
        let mut lines = BufReader::with_capacity(1 << 20, feed);
        let mut held = HashSet::new();
        let mut line = Vec::new();
        // It says at once that it does as it was told.
        let serves = |spec: &EndpointSpec| {
            let status = EndpointReport::Listening {
                generation: spec.generation,
            };
            let _ = reports.send(Report { id: spec.id, status });
        };
        while !self.ended.load(Ordering::Relaxed) && lines.read_until(b'\n', &mut line).unwrap() > 0 {
            let at = Instant::now();
            let event: FeedLine = serde_json::from_slice(&line).unwrap();
            self.bytes.fetch_add(line.len() as u64, Ordering::Relaxed);
            line.clear();
            let FeedLine::Event { what, .. } = event else {
                continue;
            };
            match *what {
                FeedEvent::Snapshot { endpoints, .. } => {
                    endpoints.iter().for_each(&serves);
                    held = endpoints.iter().map(|spec| spec.id).collect();
                }
                FeedEvent::Put { endpoint } => {
                    serves(&endpoint);
                    held.insert(endpoint.id);
                    let _ = told.send((endpoint.id.to_string(), at));
                }
                FeedEvent::Remove { id, .. } => {
                    held.remove(&id);
                    let status = EndpointReport::Removed;
                    let _ = reports.send(Report { id, status });
                }
                FeedEvent::Examine { .. }
                | FeedEvent::Defend { .. }
                | FeedEvent::Announce { .. }
                | FeedEvent::Peers { .. } => {}
            }
            self.held.store(held.len() as u64, Ordering::Relaxed);
        }
    }
}
