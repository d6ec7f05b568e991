//! Durable creates: orders of endpoints over HTTP, beside redb alone with the same records.

use std::{collections::HashSet, path::Path};

use adit_store::{RedbStore, Store, store::PAGE_ENTRIES_MAX};
use serde_json::json;

use crate::{
    Plan, fill,
    process::{Client, Process},
    redb::{Bare, Record},
    region::{self, CONSUMER, PROVIDER},
    table::Spread,
    wrk::Load,
};

/// Who create at a time.
const CLIENTS: usize = 64;
/// What the store keeps of each entry beside its value, in bytes: two revisions and a lease.
const HEADER_BYTES: usize = 24;

/// Measures, and prints the table.
pub(crate) fn run(plan: &Plan) {
    let region = plan.folder.join("region.toml");
    region::write(&region);
    let data = plan.folder.join("creates");
    fill::fill(&data, 1, 1);
    let order = approved_service(&data, &region);
    let records = records_of_one(&data, &region, &order);
    let mut bare = Bare::open(&plan.folder.join("bare.redb"));
    let (server, _, client) = Process::adit(&data, &region, None, &CONSUMER);
    let (mut ours, mut theirs, mut batches) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..plan.rounds {
        let ran = bare.run(&records, CLIENTS, plan.seconds);
        theirs.push(ran.rate);
        batches.push(ran.batch);
        let load = Load {
            url: format!("{}/vpc-endpoints", client.base),
            headers: &[
                ("X-Auth-Token", client.token.clone()),
                ("Content-Type", "application/json".to_owned()),
            ],
            body: Some(order.to_string()),
            connections: CLIENTS,
            pinned: false,
        };
        ours.push(load.measure(&server, plan.seconds, &plan.folder));
    }
    let bytes: usize = records.iter().map(|r| r.key.len() + r.bytes).sum();
    println!(
        "{} records of {bytes} bytes together for each create; redb alone had {} of them in one fsync.\n",
        records.len(),
        Spread::of(batches).show(1)
    );
    println!(
        "| creates, 64 clients | a second | of redb alone | server's CPU, µs each | 99th percentile, ms |"
    );
    println!("|---|---|---|---|---|");
    println!(
        "| redb alone | {} | 1 | | |",
        Spread::of(theirs.iter().copied()).show(0)
    );
    println!(
        "| POST endpoint | {} | {} | {} | {} |",
        Spread::of(ours.iter().map(|m| m.rate)).show(0),
        Spread::of(ours.iter().zip(&theirs).map(|(own, bare)| own.rate / bare)).show(2),
        Spread::of(ours.iter().map(|m| m.cpu_us)).show(0),
        Spread::of(ours.iter().map(|m| m.p99_ms)).show(2),
    );
    println!();
}

/// Makes the service of the store one that wants approval, so that an order is one transaction and nothing follows.
/// Answers the body of an order.
fn approved_service(data: &Path, region: &Path) -> serde_json::Value {
    let (server, _, client) = Process::adit(data, region, None, &PROVIDER);
    let order = want_approval(&client);
    server.stop();
    order
}

/// Has one service want approval; answers the body of an order.
pub(crate) fn want_approval(provider: &Client) -> serde_json::Value {
    let services = provider.get("vpc-endpoint-services");
    let id = services["endpoint_services"][0]["id"].as_str().unwrap();
    provider.put(
        &format!("vpc-endpoint-services/{id}"),
        &json!({"approval_enabled": true}),
    );
    json!({"endpoint_service_id": id, "vpc_id": CONSUMER.id::<String>(0, 0), "subnet_id": CONSUMER.id::<String>(0, 1)})
}

/// What one create writes: the difference that one makes in the store.
fn records_of_one(data: &Path, region: &Path, order: &serde_json::Value) -> Vec<Record> {
    let before = entries(data);
    let (server, _, client) = Process::adit(data, region, None, &CONSUMER);
    assert_eq!(client.post("vpc-endpoints", order)["status"], "pendingAcceptance");
    server.stop();
    let after = entries(data);
    records_between(&before, &after, HEADER_BYTES)
}

/// Key, revision and the size of the value of everything in a store.
pub(crate) type Entries = Vec<(String, u64, usize)>;

/// What was written between two looks; each value with so many bytes more.
pub(crate) fn records_between(before: &Entries, after: &Entries, more: usize) -> Vec<Record> {
    let before: HashSet<_> = before.iter().collect();
    let written = after.iter().filter(|entry| !before.contains(entry));
    let records = written.map(|(key, _, bytes)| Record {
        key: key.clone(),
        bytes: bytes + more,
    });
    records.collect()
}

fn entries(data: &Path) -> Entries {
    let store = RedbStore::open(data.join("store.redb")).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().build().unwrap();
    runtime.block_on(entries_of(&store))
}

/// Every key with its revision and the size of its value.
pub(crate) async fn entries_of(store: &dyn Store) -> Entries {
    let mut entries = Vec::new();
    let mut after = None;
    loop {
        let page = store.list("", after.as_ref(), PAGE_ENTRIES_MAX).await.unwrap();
        let entry = |e: &adit_store::Entry| (e.key.to_string(), e.mod_revision.0, e.value.len());
        entries.extend(page.entries.iter().map(entry));
        after = page.next;
        if after.is_none() {
            return entries;
        }
    }
}
