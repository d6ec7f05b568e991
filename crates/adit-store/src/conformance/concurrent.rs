//! Checks of commits side by side.

use std::collections::BTreeMap;

use super::{Bench, committed, list_all, next, now, value};
use crate::store::{Commit, PAGE_ENTRIES_MAX};
use crate::txn::Txn;

pub(super) async fn one_winner_of_concurrent_commits(bench: &impl Bench) {
    let store = bench.store().await;
    for round in 0..20 {
        let attempts: Vec<_> = (0..16)
            .map(|n: u8| {
                let store = store.clone();
                let txn = Txn::new()
                    .absent(format!("k/{round}"))
                    .put(format!("k/{round}"), [n]);
                tokio::spawn(async move { store.commit(txn).await.unwrap() })
            })
            .collect();
        let mut winners = Vec::new();
        for (n, attempt) in attempts.into_iter().enumerate() {
            match attempt.await.unwrap() {
                Commit::Committed(_) => winners.push(u8::try_from(n).unwrap()),
                Commit::Conflict => {}
                Commit::Unknown => panic!("unknown without a failure"),
            }
        }
        assert_eq!(winners.len(), 1, "round {round}");
        assert_eq!(value(&*store, &format!("k/{round}")).await, Some(winners));
    }
}

pub(super) async fn concurrent_commits_lose_no_update(bench: &impl Bench) {
    const TASKS: u64 = 8;
    const ADDS: u64 = 20;
    let store = bench.store().await;
    committed(&*store, Txn::new().put("sum", 0u64.to_be_bytes())).await;
    let tasks: Vec<_> = (0..TASKS)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move {
                let mut added = 0;
                while added < ADDS {
                    let entry = store.get("sum").await.unwrap().unwrap();
                    let sum = u64::from_be_bytes((*entry.value).try_into().unwrap());
                    let txn = Txn::new()
                        .unchanged("sum", entry.mod_revision)
                        .put("sum", (sum + 1).to_be_bytes());
                    added += u64::from(store.commit(txn).await.unwrap() != Commit::Conflict);
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(
        value(&*store, "sum").await,
        Some((TASKS * ADDS).to_be_bytes().to_vec())
    );
}

pub(super) async fn commits_that_wait_together_are_told_apart(bench: &impl Bench) {
    const COMMITS: usize = 200;
    let store = bench.store().await;
    let first = committed(&*store, Txn::new().put("taken", *b"")).await;
    let mut watch = store.watch("u/", &now(&*store).await).await.unwrap();
    let fails = |n: usize| n.is_multiple_of(7);
    let attempts: Vec<_> = (0..COMMITS)
        .map(|n| {
            let store = store.clone();
            let key = format!("u/{n:03}");
            let txn = Txn::new().absent(key.clone()).put(key, *b"").put("guard", *b"");
            let txn = match fails(n) {
                true => txn.absent("taken"),
                false => txn.unchanged("taken", first),
            };
            tokio::spawn(async move { store.commit(txn).await.unwrap() })
        })
        .collect();
    let mut expected = BTreeMap::new();
    for (n, attempt) in attempts.into_iter().enumerate() {
        match attempt.await.unwrap() {
            Commit::Committed(revision) if !fails(n) => drop(expected.insert(format!("u/{n:03}"), revision)),
            Commit::Conflict if fails(n) => {}
            other => panic!("{n}: {other:?}"),
        }
    }
    let (entries, _) = list_all(&*store, "u/", PAGE_ENTRIES_MAX).await;
    let found: BTreeMap<_, _> = entries
        .iter()
        .map(|e| (e.key.to_string(), e.mod_revision))
        .collect();
    assert_eq!(found, expected);
    let newest = expected.values().max().copied();
    assert_eq!(store.get("guard").await.unwrap().map(|e| e.mod_revision), newest);
    let mut told = BTreeMap::new();
    while told.len() < expected.len() {
        let batch = next(&mut watch).await;
        told.extend(
            batch
                .changes
                .iter()
                .map(|change| (change.key.to_string(), batch.revision)),
        );
    }
    assert_eq!(told, expected);
}
