//! Three `adit api` over three members of etcd, each on its machine, which are killed and stopped and cut off from each other, while
//! clients create, read, list, change and delete: what they saw has an order, and nothing that was acknowledged is lost.
//!
//! The machines are started once; each seed is an episode on them, with faults of its own. `ADIT_HISTORY_SEEDS=7,12` names
//! others than the few that are run anywhere and the twenty of CI.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test's panic is its verdict")]

mod bed;
mod checker;
mod clients;
mod faults;
mod machines;
#[path = "../process/mod.rs"]
mod process;

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU16, AtomicU32, Ordering::Relaxed},
};

use adit_store::check::check;
use bed::{Bed, REPLICAS, on_machines};
use checker::{Deed, is_linearizable, smallest};
use clients::{Dice, ENDPOINTS, Episode, Owner, SERVICES};
use faults::{Fault, Kind, schedule, strike};
use process::{Client, OTHER_PROJECT, PROJECT, skip_without, skip_without_root, until};
use serde_json::json;

/// Clients, each of which asks any control plane.
const CLIENTS: u64 = 8;
/// Seeds where the machine is somebody's own, and in CI.
const SEEDS: u64 = 3;
const SEEDS_CI: u64 = 20;
/// Names seeds.
const NAMED: &str = "ADIT_HISTORY_SEEDS";
/// The first port that services are made for, and the first text that they are changed to.
const FIRST_PORT: u16 = 1000;
const FIRST_TEXT: u32 = 0x0a00_0001;

/// The region's tenants, and what is used up over all episodes.
struct Tenants {
    services: Owner,
    endpoints: Owner,
    /// The service that all endpoints lead to.
    service: String,
    ports: AtomicU16,
    texts: AtomicU32,
}

impl Tenants {
    fn new(bed: &Bed) -> Self {
        for project in [PROJECT, OTHER_PROJECT] {
            let status = Command::new(env!("CARGO_BIN_EXE_adit"))
                .args([
                    "admin",
                    "quota",
                    "set",
                    project,
                    "--services",
                    "1000",
                    "--endpoints",
                    "1000",
                ])
                .args(["-o", "json", "--data"])
                .arg(bed.data(0))
                .stdout(std::process::Stdio::null())
                .status();
            assert!(status.unwrap().success(), "the quota of {project}");
        }
        let urls: Vec<_> = (0..REPLICAS).map(|n| bed.url(n)).collect();
        Self {
            services: Owner::login(&urls, PROJECT, Client::demo),
            endpoints: Owner::login(&urls, OTHER_PROJECT, Client::other),
            service: Client::demo(&urls[0]).publish(&json!([{"client_port": 99, "server_port": 99}])),
            ports: AtomicU16::new(FIRST_PORT),
            texts: AtomicU32::new(FIRST_TEXT),
        }
    }

    /// What there is that no episode needs: paths below the project, with their owners.
    fn left(&self) -> Vec<(&Owner, String)> {
        let kinds = [(&self.endpoints, ENDPOINTS), (&self.services, SERVICES)];
        let listed = kinds.into_iter().flat_map(|(owner, noun)| {
            let listed = until("a list", || owner.list(0, noun));
            let ids = listed
                .into_iter()
                .map(|thing| thing["id"].as_str().unwrap().to_owned());
            let ids = ids.filter(|id| *id != self.service);
            ids.map(move |id| (owner, format!("{noun}/{id}")))
        });
        listed.collect()
    }

    /// Deletes everything, and waits until it is gone.
    fn clear(&self) {
        until("everything to be gone", || {
            let left = self.left();
            for (n, (owner, path)) in left.iter().enumerate() {
                // What is still in the making is asked for again.
                owner.delete(n % REPLICAS, path);
            }
            left.is_empty().then_some(())
        });
    }
}

/// One seed: its faults while clients work, and the verdict.
fn episode(bed: &mut Bed, tenants: &Tenants, seed: u64, faults: &[Fault], logs: &Path) {
    let owners = [&tenants.services, &tenants.endpoints];
    let episode = Episode::new(owners, &tenants.service, &tenants.ports, &tenants.texts);
    let done = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|n| {
                let dice = Dice(seed.wrapping_mul(1000) + n);
                let episode = &episode;
                scope.spawn(move || episode.work(dice))
            })
            .collect();
        // Whatever happens, clients end.
        let _over = Over(&episode);
        let done = strike(bed, &episode, faults);
        drop(_over);
        for client in clients {
            client.join().unwrap();
        }
        done
    });
    read_back(&episode);

    let acts = episode.acts();
    let file = logs.join(format!("seed-{seed}.txt"));
    let mut whole = format!(
        "seed {seed}; microseconds since the episode began\n{}\n",
        done.join("\n")
    );
    for (path, acts) in &acts {
        let _ = write!(whole, "\n{path}\n");
        acts.iter().for_each(|act| whole.push_str(&format!("{act}\n")));
    }
    std::fs::write(&file, whole).unwrap();
    for (path, acts) in &acts {
        if !is_linearizable(acts) {
            let part: Vec<_> = smallest(acts).iter().map(ToString::to_string).collect();
            panic!(
                "seed {seed}: what was seen of {path} has no order:\n{}\nfaults:\n{}\nAll of it is in {}.",
                part.join("\n"),
                done.join("\n"),
                file.display()
            );
        }
    }
    let deeds = |wanted: fn(&Deed) -> bool| acts.values().flatten().filter(|act| wanted(&act.deed)).count();
    let counts = [
        deeds(|deed| *deed == Deed::Create),
        deeds(|deed| matches!(deed, Deed::Update(_))),
        deeds(|deed| *deed == Deed::Delete),
        deeds(|deed| matches!(deed, Deed::Read(_))),
    ];
    let unknown = acts.values().flatten().filter(|act| act.ended.is_none()).count();
    let lost = episode.lost.load(Relaxed);
    let [creates, updates, deletes, reads] = counts;
    println!(
        "seed {seed}: {creates} creates, {updates} updates, {deletes} deletes, {reads} reads; of unknown outcome: {lost} creates, {unknown} \
         others; {} s",
        episode.begun.elapsed().as_secs()
    );
    assert!(counts.iter().all(|count| *count > 0), "seed {seed}: {counts:?}");
    let total = tenants.left().len();
    assert!(
        total <= creates + lost,
        "seed {seed}: {total} things of {creates} creates and {lost} unknown ones"
    );
}

struct Over<'a>(&'a Episode<'a>);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.over.store(true, Relaxed);
    }
}

/// Reads everything from every control plane, once one by one and once by a list: what was acknowledged is there for all.
fn read_back(episode: &Episode<'_>) {
    let paths: Vec<_> = episode.acts().into_keys().collect();
    std::thread::scope(|scope| {
        for replica in 0..REPLICAS {
            let paths = &paths;
            scope.spawn(move || {
                for path in paths {
                    until("it to be read", || episode.read(replica, path).then_some(()));
                }
                for noun in [SERVICES, ENDPOINTS] {
                    until("it to be listed", || episode.list(replica, noun).then_some(()));
                }
            });
        }
    });
}

fn seeds() -> Vec<u64> {
    match std::env::var(NAMED) {
        Ok(seeds) => seeds.split(',').map(|seed| seed.parse().unwrap()).collect(),
        Err(_) if std::env::var_os("CI").is_some() => (1..=SEEDS_CI).collect(),
        Err(_) => (1..=SEEDS).collect(),
    }
}

#[test]
fn what_clients_saw_has_an_order_while_machines_fail() {
    let test = "what_clients_saw_has_an_order_while_machines_fail";
    if skip_without_root(test) || skip_without("etcd", test) {
        return;
    }
    let logs = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("history");
    let _ = std::fs::remove_dir_all(&logs);
    on_machines(|fabric| {
        let mut bed = Bed::start(fabric, &logs);
        let tenants = Tenants::new(&bed);
        let seeds = seeds();
        let mut kinds = BTreeSet::new();
        for seed in &seeds {
            let faults = schedule(*seed);
            episode(&mut bed, &tenants, *seed, &faults, &logs);
            tenants.clear();
            kinds.extend(faults.iter().map(|fault| fault.kind));
        }
        assert!(
            kinds.len() == Kind::ALL.len() || std::env::var_os(NAMED).is_some(),
            "{kinds:?}"
        );
        let (entries, _) = bed.wait(adit_store::conformance::list_all(&bed.store, "", 1000));
        assert_eq!(check(&entries), []);
    });
}
