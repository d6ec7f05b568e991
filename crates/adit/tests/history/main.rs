//! Three control planes over three etcd, whose members are killed and stopped, and whose answers are held up on the way, while
//! clients create, read and delete: what they saw has an order, and nothing that was acknowledged is lost.
//!
//! All three run the reconcilers, each believing that it leads. `ADIT_HISTORY_SEEDS=1,2,3` runs it with other seeds than the one.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test's panic is its verdict")]

#[path = "../api/app.rs"]
#[expect(dead_code, reason = "other tests need more of it")]
mod app;
mod checker;
#[path = "../../../adit-store/tests/etcd/cluster.rs"]
mod cluster;
#[path = "../../../adit-store/tests/etcd/link.rs"]
mod link;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use adit_store::{Store, check::check};
use app::{Client, ENDPOINTS, SERVICES, TestApp, endpoint_body, service_body};
use checker::{Act, DEEDS_MAX, Deed, Seen, is_linearizable};
use cluster::Cluster;
use link::{Held, Link};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::watch;

/// How many requests a run answers, and after how many the next fault begins or ends.
const REQUESTS: usize = 480;
const REQUESTS_PER_FAULT: usize = 40;
const REQUESTS_PER_CUT: usize = 12;
/// Clients of each control plane.
const CLIENTS: usize = 2;
/// How long a run may take.
const DEADLINE: Duration = Duration::from_secs(240);
/// The first port that services are made for; each has its own.
const FIRST_PORT: usize = 1000;

/// A seeded source of chance.
struct Dice(u64);

impl Dice {
    /// A number below `n`.
    fn roll(&mut self, n: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % n
    }
}

/// What all clients did, by the path of what they did it to.
#[derive(Default)]
struct Record {
    acts: Mutex<BTreeMap<String, Vec<Act>>>,
    ports: AtomicUsize,
    /// Creates whose outcome nobody learnt.
    lost: AtomicUsize,
    answered: watch::Sender<usize>,
}

impl Record {
    fn note(&self, path: &str, act: Act) {
        self.acts.lock().entry(path.to_owned()).or_default().push(act);
    }

    /// Something to look at that is not looked at too much already.
    fn pick(&self, dice: &mut Dice) -> Option<String> {
        let acts = self.acts.lock();
        let known: Vec<_> = acts
            .iter()
            .filter(|(_, acts)| acts.len() < DEEDS_MAX - 8 * CLIENTS)
            .collect();
        (!known.is_empty()).then(|| known[dice.roll(known.len())].0.clone())
    }
}

async fn client(
    planes: Arc<Vec<TestApp>>,
    record: Arc<Record>,
    service: String,
    begun: Instant,
    mut dice: Dice,
) {
    let now = || u64::try_from(begun.elapsed().as_micros()).unwrap();
    while *record.answered.borrow() < REQUESTS {
        let plane = &planes[dice.roll(planes.len())];
        let known = record.pick(&mut dice);
        let start = now();
        let (path, deed, is_known) = match (dice.roll(10), known) {
            (0..3, _) | (_, None) => {
                let (noun, reply) = if dice.roll(2) == 0 {
                    let order = endpoint_body(&service);
                    (ENDPOINTS, plane.other.post(ENDPOINTS, &order).await)
                } else {
                    let port = FIRST_PORT + record.ports.fetch_add(1, Ordering::Relaxed);
                    let order = service_body(u16::try_from(port).unwrap());
                    (SERVICES, plane.demo.post(SERVICES, &order).await)
                };
                match (reply.status, reply.body["id"].as_str()) {
                    (200, Some(id)) => (format!("{noun}/{id}"), Deed::Create, true),
                    (500.., _) => {
                        record.lost.fetch_add(1, Ordering::Relaxed);
                        continue;
                    }
                    _ => panic!("{}", reply.text),
                }
            }
            (3..5, Some(path)) => {
                let reply = plane.of(&path).delete(&path).await;
                match reply.status {
                    204 => (path, Deed::Delete, true),
                    404 => (path, Deed::Read(Seen::Nothing), true),
                    // Still in the making: nothing was done.
                    400..500 => continue,
                    _ => (path, Deed::Delete, false),
                }
            }
            (_, Some(path)) => {
                let reply = plane.of(&path).get(&path).await;
                match seen(reply.status, &reply.body) {
                    Some(seen) => (path, Deed::Read(seen), true),
                    None => continue,
                }
            }
        };
        let act = Act {
            deed,
            begun: start,
            ended: is_known.then(&now),
        };
        record.note(&path, act);
        record.answered.send_modify(|n| *n += 1);
    }
}

impl TestApp {
    /// Who owns what is under a path.
    fn of(&self, path: &str) -> &Client {
        match path.starts_with(ENDPOINTS) && !path.starts_with(SERVICES) {
            true => &self.other,
            false => &self.demo,
        }
    }
}

/// What a reply shows; nothing where the store did not answer.
fn seen(status: u16, body: &Value) -> Option<Seen> {
    match (status, body["status"].as_str()) {
        (404, _) => Some(Seen::Nothing),
        (200, Some("creating" | "available" | "accepted")) => Some(Seen::Live),
        (200, Some("deleting")) => Some(Seen::Going),
        (500.., _) => None,
        other => panic!("{other:?}: {body}"),
    }
}

/// What goes wrong.
#[derive(Clone, Copy)]
enum Fault {
    /// A member of etcd dies.
    Kill,
    /// A member does nothing for a while.
    Pause,
    /// What a control plane asks arrives, and no answer does.
    Cut,
}

/// Has one thing after the other fail, in one way after the other, and come back: each fault at another one of three.
async fn break_things(cluster: &mut Cluster, links: &[Vec<Link>], record: &Record, mut dice: Dice) {
    let mut answered = record.answered.subscribe();
    let first = dice.roll(3);
    let mut until = async |requests: usize| {
        let wanted = REQUESTS.min(requests);
        *answered.wait_for(|n| *n >= wanted).await.unwrap() < REQUESTS
    };
    for round in 0.. {
        let which = (first + round) % 3;
        let fault = [Fault::Kill, Fault::Pause, Fault::Cut][(round + round / 3) % 3];
        let begins = (2 * round + 1) * REQUESTS_PER_FAULT;
        if !until(begins).await {
            return;
        }
        let hold = |held| links[which].iter().for_each(|link| link.hold(held));
        let goes_on = match fault {
            Fault::Kill => {
                cluster.kill(which);
                let goes_on = until(begins + REQUESTS_PER_FAULT).await;
                cluster.restart(which);
                goes_on
            }
            Fault::Pause => {
                cluster.pause(which);
                let goes_on = until(begins + REQUESTS_PER_FAULT).await;
                cluster.resume(which);
                goes_on
            }
            Fault::Cut => {
                hold(Held::Answers);
                // Each client soon waits for that one in vain.
                let goes_on = until(begins + REQUESTS_PER_CUT).await;
                hold(Held::Nothing);
                goes_on
            }
        };
        if !goes_on {
            return;
        }
        // One at a time: two of three are what etcd needs.
        let mut only = cluster.config("adit");
        only.urls = vec![cluster.url(which)];
        cluster.open(only).await;
    }
}

async fn run(seed: u64) {
    let mut cluster = Cluster::start(3);
    cluster.open(cluster.config("adit")).await;
    let (mut apps, mut links) = (Vec::new(), Vec::new());
    for n in 0..3 {
        let mut ways = Vec::new();
        for member in 0..3 {
            ways.push(Link::to(cluster.port(member)).await);
        }
        let mut config = cluster.config("adit");
        config.urls = ways.iter().map(Link::url).collect();
        config.urls.rotate_left(n);
        let store: Arc<dyn Store> = Arc::new(cluster.open(config).await);
        apps.push(
            TestApp::builder()
                .quotas(10_000, 10_000)
                .store(store)
                .start()
                .await,
        );
        links.push(ways);
    }
    let service = apps[0].service(99, false).await;
    let planes = Arc::new(apps);
    let record = Arc::new(Record::default());
    let begun = Instant::now();
    let clients: Vec<_> = (0..3 * CLIENTS)
        .map(|n| {
            let dice = Dice(seed.wrapping_mul(1000) + n as u64);
            tokio::spawn(client(
                Arc::clone(&planes),
                Arc::clone(&record),
                service.clone(),
                begun,
                dice,
            ))
        })
        .collect();
    break_things(&mut cluster, &links, &record, Dice(seed)).await;
    for client in clients {
        client.await.unwrap();
    }

    // What was acknowledged is there for all, and what all of them saw has an order.
    let now = || u64::try_from(begun.elapsed().as_micros()).unwrap();
    let paths: Vec<_> = record.acts.lock().keys().cloned().collect();
    for path in &paths {
        for plane in planes.iter() {
            let start = now();
            let last = plane.of(path).until(path, |reply| reply.status < 500).await;
            let status = if last["id"].is_null() { 404 } else { 200 };
            let act = Act {
                deed: Deed::Read(seen(status, &last).unwrap()),
                begun: start,
                ended: Some(now()),
            };
            record.note(path, act);
        }
    }
    let acts = record.acts.lock().clone();
    for (path, acts) in &acts {
        assert!(is_linearizable(acts), "seed {seed}: {path}: {acts:#?}");
    }
    let deeds = |wanted: fn(&Deed) -> bool| acts.values().flatten().filter(|act| wanted(&act.deed)).count();
    let (creates, deletes, reads) = (
        deeds(|deed| *deed == Deed::Create),
        deeds(|deed| *deed == Deed::Delete),
        deeds(|deed| matches!(deed, Deed::Read(_))),
    );
    let lost = record.lost.load(Ordering::Relaxed);
    println!(
        "seed {seed}: {creates} creates, {deletes} deletes, {reads} reads; {lost} creates of unknown outcome"
    );
    assert!(creates > 0 && deletes > 0 && reads > 0);
    let mut total = 0;
    for path in [SERVICES, ENDPOINTS] {
        let listed = planes[0].of(path).get(&format!("{path}?limit=1")).await.ok();
        total += usize::try_from(listed["total_count"].as_u64().unwrap()).unwrap();
    }
    assert!(
        total <= 1 + creates + lost,
        "{total} things of {creates} creates and {lost} unknown ones"
    );

    let store = cluster.open(cluster.config("adit")).await;
    let (entries, _) = adit_store::conformance::list_all(&store, "", 1000).await;
    assert_eq!(check(&entries), [], "seed {seed}");
    for app in Arc::into_inner(planes).unwrap() {
        app.running.stop().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_clients_saw_has_an_order_while_members_of_etcd_fail() {
    if !cluster::is_installed("what_clients_saw_has_an_order_while_members_of_etcd_fail") {
        return;
    }
    let seeds = std::env::var("ADIT_HISTORY_SEEDS").unwrap_or_else(|_| "1".to_owned());
    for seed in seeds.split(',') {
        let ended = tokio::time::timeout(DEADLINE, run(seed.parse().unwrap())).await;
        ended.unwrap_or_else(|_| panic!("seed {seed}: it takes too long"));
    }
}
