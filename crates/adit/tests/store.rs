//! `adit store` by its executable: on a file, and on a real etcd.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test's panic is its verdict")]

#[path = "../../adit-store/tests/etcd/cluster.rs"]
#[expect(dead_code, reason = "other tests stop and start members, too")]
mod cluster;

use std::{
    path::Path,
    process::{Command, Output},
    sync::Arc,
    time::Duration,
};

use adit::region::{Running, Settings};
use adit_cloud::Region;
use adit_store::{Entry, Key, RedbStore, Store, Txn};
use cluster::Cluster;
use serde_json::Value;

fn adit(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_adit"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("ADIT_") {
            command.env_remove(name);
        }
    }
    command.arg("store").args(arguments).output().unwrap()
}

/// What an ended command said, where its status is as expected.
fn said(output: &Output, status: i32) -> String {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(status), "{out}{err}");
    out + &err
}

/// A file with the built-in region in it.
async fn region(path: &Path) {
    let store = Arc::new(RedbStore::open(path).unwrap());
    let settings = Settings::new(Region::embedded(), "tests".parse().unwrap());
    let running = Running::start(Arc::clone(&store) as Arc<dyn Store>, settings)
        .await
        .unwrap();
    running.stop().await.unwrap();
    // Its last reader lets go of it a moment later, and a file is one process's, and one opening's, alone.
    let alone = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(5));
        while Arc::strong_count(&store) > 1 {
            ticks.tick().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), alone)
        .await
        .expect("the region lets go of its store");
}

async fn entries(path: &Path) -> Vec<Entry> {
    let store = RedbStore::open(path).unwrap();
    adit_store::conformance::list_all(&store, "", 1000).await.0
}

#[tokio::test(flavor = "multi_thread")]
async fn check_says_what_is_wrong_in_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    let location = format!("redb:{}", path.display());
    let missing = said(&adit(&["check", "--store", &location]), 1);
    assert!(missing.contains("does not exist") && !path.exists(), "{missing}");

    region(&path).await;
    let sound = said(&adit(&["check", "--store", &location]), 0);
    assert!(sound.contains("all of them sound"), "{sound}");

    let damaged = entries(&path)
        .await
        .into_iter()
        .find(|entry| matches!(Key::parse(&entry.key), Some(Key::Address(..))));
    let key = damaged.unwrap().key;
    {
        let store = RedbStore::open(&path).unwrap();
        let damage = Txn::new().delete(key.clone()).put("service/x", *b"\x01{}");
        adit_store::conformance::committed(&store, damage).await;
    }
    let table = said(&adit(&["check", "--store", &location]), 1);
    assert!(table.contains(&*key) && table.contains("service/x"), "{table}");
    let json = said(&adit(&["check", "--store", &location, "-o", "json"]), 1);
    let json: Value = serde_json::from_str(&json).unwrap();
    let keys: Vec<_> = json["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|f| f["key"].as_str().unwrap())
        .collect();
    assert_eq!(keys, [&*key, "service/x"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_moves_into_etcd_and_back_as_it_was() {
    if !cluster::is_installed("a_store_moves_into_etcd_and_back_as_it_was") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    let redb = |name: &str| format!("redb:{}", file(name).display());
    region(&file("a.redb")).await;
    let cluster = Cluster::start(1);
    let etcd = format!("etcd:{}", cluster.url(0));
    // It works from here on.
    cluster.open(cluster.config("other")).await;

    let there = said(&adit(&["migrate", &redb("a.redb"), &etcd]), 0);
    assert!(there.contains("read back and found equal"), "{there}");
    said(&adit(&["check", "--store", &etcd]), 0);
    let again = said(&adit(&["migrate", &redb("a.redb"), &etcd]), 1);
    assert!(again.contains("the target is not empty"), "{again}");
    let itself = said(&adit(&["migrate", &etcd, &etcd]), 1);
    assert!(itself.contains("into itself"), "{itself}");
    said(&adit(&["migrate", &etcd, &redb("b.redb")]), 0);

    let values = async |name: &str| -> Vec<_> {
        let entries = entries(&file(name)).await;
        entries
            .into_iter()
            .map(|entry| (entry.key, entry.value))
            .collect()
    };
    let before = values("a.redb").await;
    assert!(before.len() > 20);
    assert_eq!(before, values("b.redb").await);

    let nobody = said(&adit(&["check", "--store", "etcd:http://127.0.0.1:1"]), 1);
    assert!(nobody.contains("etcd cannot be used"), "{nobody}");
}
