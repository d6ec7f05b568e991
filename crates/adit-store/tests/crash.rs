//! SIGKILL at random moments: every acknowledged commit is there after reopening, and none is half there.
//!
//! A round starts this very test binary as the child (`crash_child`, ignored otherwise). Its tasks commit as fast as they
//! can and print each acknowledged commit as one line; the parent collects the lines, kills the child, opens the
//! file and compares. All rounds use one file, so that each one also recovers what the earlier ones left.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test reports by panicking")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use adit_store::conformance::list_all;
use adit_store::{Commit, Entry, RedbStore, Revision, Store, Txn};

const ROUNDS: usize = 50;
const TASKS: usize = 8;
/// Keys of one transaction, all of them written or none.
const KEYS: usize = 3;
/// The latest moment of the kill after the child's start, in milliseconds: from before the file is open to well into the load.
const KILL_MS_MAX: u64 = 200;
const FILE_ENV: &str = "ADIT_STORE_CRASH_FILE";
const ROUND_ENV: &str = "ADIT_STORE_CRASH_ROUND";

/// The load: each task commits transactions of several keys, some of which replace the task's `last` key under a compare.
#[test]
#[ignore = "the child of acknowledged_commits_survive_sigkill"]
fn crash_child() {
    let (Ok(file), Ok(round)) = (std::env::var(FILE_ENV), std::env::var(ROUND_ENV)) else {
        return;
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let store = Arc::new(RedbStore::open(file).unwrap());
        let tasks: Vec<_> = (0..TASKS)
            .map(|task| tokio::spawn(load(store.clone(), format!("{round}.{task}"))))
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    });
}

async fn load(store: Arc<RedbStore>, task: String) {
    let mut last: Option<Revision> = None;
    for n in 0u64.. {
        let value = format!("{task}/{n}/").repeat(1 + usize::try_from(n % 50).unwrap());
        let mut txn = (0..KEYS).fold(Txn::new(), |txn, key| {
            txn.put(format!("load/{task}/{n}/{key}"), value.as_bytes())
        });
        let last_key = format!("last/{task}");
        txn = match last {
            Some(revision) => txn.unchanged(last_key.clone(), revision),
            None => txn.absent(last_key.clone()),
        };
        let Commit::Committed(revision) = store.commit(txn.put(last_key, n.to_be_bytes())).await.unwrap()
        else {
            panic!("nobody else writes these keys")
        };
        last = Some(revision);
        // One write of less than PIPE_BUF: the parent never reads half a line.
        let line = format!("ack {task}/{n} {revision}\n");
        std::io::stdout().write_all(line.as_bytes()).unwrap();
    }
}

/// The child, killed also when the test fails.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs the child for a random time. Returns what it acknowledged: transaction → revision.
fn run_child(file: &Path, round: usize) -> BTreeMap<String, Revision> {
    let mut child = Killed(
        Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "crash_child",
                "--ignored",
                "--nocapture",
                "--test-threads=1",
            ])
            .env(FILE_ENV, file)
            .env(ROUND_ENV, format!("{round:03}"))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    let output = BufReader::new(child.0.stdout.take().unwrap());
    let reader = thread::spawn(move || {
        let acknowledged = output.lines().map_while(Result::ok).filter_map(|line| {
            // The test harness of the child prints its own lines, one of them without an end.
            let (_, ack) = line.split_once("ack ")?;
            let (txn, revision) = ack.split_once(' ')?;
            Some((txn.to_owned(), Revision(revision.parse().unwrap())))
        });
        acknowledged.collect()
    });
    thread::sleep(Duration::from_millis(rand::random_range(0..KILL_MS_MAX)));
    assert!(child.0.try_wait().unwrap().is_none(), "the child ended by itself");
    drop(child);
    reader.join().unwrap()
}

/// Opens what the child left, and holds it against all that was ever acknowledged.
async fn check(file: &Path, acknowledged: &BTreeMap<String, Revision>) {
    let store = RedbStore::open(file).unwrap();
    let newest = store.barrier().await.unwrap();
    let mut found: BTreeMap<String, Vec<Entry>> = BTreeMap::new();
    for entry in list_all(&store, "load/", 1000).await.0 {
        let txn = entry
            .key
            .strip_prefix("load/")
            .and_then(|key| key.rsplit_once('/'))
            .unwrap()
            .0;
        found.entry(txn.to_owned()).or_default().push(entry);
    }
    for (txn, revision) in acknowledged {
        assert!(*revision <= newest);
        let entries = found
            .get(txn)
            .unwrap_or_else(|| panic!("{txn} was acknowledged at {revision} and is gone"));
        assert_eq!(entries[0].mod_revision, *revision);
    }
    let mut last: BTreeMap<&str, u64> = BTreeMap::new();
    for (txn, entries) in &found {
        assert_eq!(entries.len(), KEYS, "{txn} is half there");
        for entry in entries {
            assert_eq!(
                (entry.mod_revision, &entry.value),
                (entries[0].mod_revision, &entries[0].value)
            );
            assert!(entry.value.starts_with(format!("{txn}/").as_bytes()) && entry.mod_revision <= newest);
        }
        let (task, n) = txn.split_once('/').unwrap();
        let last = last.entry(task).or_default();
        *last = (*last).max(n.parse().unwrap());
    }
    for (task, n) in last {
        let entry = store.get(&format!("last/{task}")).await.unwrap().unwrap();
        assert_eq!(
            *entry.value,
            n.to_be_bytes(),
            "the last transaction of {task} is half there"
        );
    }
}

#[tokio::test]
async fn acknowledged_commits_survive_sigkill() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("store.redb");
    let mut acknowledged = BTreeMap::new();
    for round in 0..ROUNDS {
        acknowledged.extend(run_child(&file, round));
        check(&file, &acknowledged).await;
    }
    println!("{ROUNDS} kills, {} acknowledged commits", acknowledged.len());
    assert!(
        acknowledged.len() >= ROUNDS,
        "the children were killed before they did anything"
    );
}
