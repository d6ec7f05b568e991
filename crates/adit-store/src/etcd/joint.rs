//! Several transactions as one of etcd's: which can be, what is sent, and what the answer means for each of them. Pure.
//!
//! Together they are as if one came after the other, in their order: none writes what a later one compares, and they write one
//! key only with one value. Where some compare does not hold, etcd writes nothing and says what it found, so that those whose
//! own compares fail are told, and the others go on without them.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::proto::{RangeRequest, TxnRequest, TxnResponse};
use super::request::{
    Keys, absent, changes_certainly, compare_of, put_op, range_one, range_op, ranges, revision, write_of,
};
use crate::store::Revision;
use crate::txn::{Compare, TXN_BYTES_MAX, Txn, Write};

/// Most operations in each list of a request that etcd takes by default.
const LIST_MAX: usize = 128;

/// Whether a transaction may be one of several. One whose lease may be gone, or that may have nothing to change, is sent by itself.
pub(crate) fn is_joinable(txn: &Txn) -> bool {
    let leased = |write: &Write| matches!(write, Write::Put { lease: Some(_), .. });
    changes_certainly(txn) && !txn.writes().iter().any(leased)
}

/// Transactions that go together.
#[derive(Default)]
pub(crate) struct Joint<'a> {
    /// One compare for each key.
    compares: HashMap<&'a Arc<str>, &'a Compare>,
    writes: HashMap<&'a Arc<str>, &'a Write>,
    txns: usize,
    bytes: usize,
}

impl<'a> Joint<'a> {
    /// Takes one more in, if it goes with the others.
    pub(crate) fn take(&mut self, txn: &'a Txn) -> bool {
        let fits = txn.compares().iter().all(|compare| {
            let key = compare.key();
            !self.writes.contains_key(key) && self.compares.get(key).is_none_or(|other| *other == compare)
        }) && txn.writes().iter().all(|write| {
            let key = write.key();
            self.writes.get(key).is_none_or(|other| *other == write)
        });
        let compares = txn
            .compares()
            .iter()
            .filter(|c| !self.compares.contains_key(c.key()));
        let writes = txn.writes().iter().filter(|w| !self.writes.contains_key(w.key()));
        // A fence for each, and the head.
        let compares = self.compares.len() + compares.count() + self.txns + 1;
        let writes = self.writes.len() + writes.count() + 1;
        let bytes = self.bytes + txn.bytes();
        if !fits || compares.max(writes) > LIST_MAX || bytes > TXN_BYTES_MAX {
            return false;
        }
        self.compares.extend(txn.compares().iter().map(|c| (c.key(), c)));
        self.writes.extend(txn.writes().iter().map(|w| (w.key(), w)));
        self.txns += 1;
        self.bytes = bytes;
        true
    }
}

/// The request of transactions that go together.
pub(crate) fn joint_request(keys: &Keys, txns: &[&Txn]) -> TxnRequest {
    let compares = compares(txns);
    let ids: Vec<String> = txns.iter().map(|txn| txn.id().to_string()).collect();
    let fences = || txns.iter().map(|txn| keys.fence(txn.id()));
    let compared = compares.iter().map(|compare| compare_of(keys, compare));
    let found = compares.iter().map(|compare| keys.data(compare.key()));
    let writes = writes(txns);
    let head = put_op(keys.head(), ids.join(" ").into_bytes(), 0);
    let look = |key| {
        range_op(RangeRequest {
            keys_only: true,
            ..range_one(key)
        })
    };
    TxnRequest {
        compare: fences().map(absent).chain(compared).collect(),
        success: writes
            .into_iter()
            .map(|write| write_of(keys, write))
            .chain([head])
            .collect(),
        failure: fences().chain(found).map(look).collect(),
    }
}

/// For each transaction, whether it can still be committed after all that etcd found where the compares did not hold.
pub(crate) fn still_hold(txns: &[&Txn], answer: TxnResponse) -> Vec<bool> {
    let mut found = ranges(answer).map(|range| range.kvs.first().map(|kv| revision(kv.mod_revision)));
    let fenced: Vec<bool> = txns.iter().map(|_| found.next().flatten().is_some()).collect();
    let found: HashMap<&Arc<str>, Option<Revision>> =
        compares(txns).into_iter().map(Compare::key).zip(found).collect();
    let holds = |compare: &Compare| match (compare, found.get(compare.key()).copied().flatten()) {
        (Compare::Absent(_), found) => found.is_none(),
        (Compare::Unchanged(_, revision), found) => found == Some(*revision),
    };
    let all_hold = |txn: &Txn| txn.compares().iter().all(holds);
    txns.iter()
        .zip(fenced)
        .map(|(txn, fenced)| !fenced && all_hold(txn))
        .collect()
}

/// Each compare once, in their order.
fn compares<'a>(txns: &[&'a Txn]) -> Vec<&'a Compare> {
    let mut seen = HashSet::new();
    let all = txns.iter().flat_map(|txn| txn.compares());
    all.filter(|compare| seen.insert(*compare)).collect()
}

/// Each write once, in their order.
fn writes<'a>(txns: &[&'a Txn]) -> Vec<&'a Write> {
    let mut seen = HashSet::new();
    let all = txns.iter().flat_map(|txn| txn.writes());
    all.filter(|write| seen.insert(write.key())).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::super::proto::{
        CompareWith, KeyValue, RangeResponse, Request, RequestOp, Response, ResponseOp,
    };
    use super::*;

    /// Keys with the revision that wrote them and their values.
    type Kept = BTreeMap<Vec<u8>, (i64, Vec<u8>)>;

    /// What etcd does with a request of one level, as its revision `now`.
    fn etcd(kept: &mut Kept, request: &TxnRequest, now: i64) -> TxnResponse {
        let holds = request.compare.iter().all(|compare| {
            let found = kept.get(&compare.key);
            match compare.with {
                Some(CompareWith::Version(_)) => found.is_none(),
                Some(CompareWith::ModRevision(at)) => found.is_some_and(|(revision, _)| *revision == at),
                None => false,
            }
        });
        let operations = if holds { &request.success } else { &request.failure };
        assert!(request.compare.len() <= LIST_MAX && operations.len() <= LIST_MAX);
        let answer = |operation: &RequestOp| match &operation.request {
            Some(Request::Put(put)) => {
                kept.insert(put.key.clone(), (now, put.value.clone()));
                None
            }
            Some(Request::DeleteRange(delete)) => {
                kept.remove(&delete.key);
                None
            }
            Some(Request::Range(range)) => {
                let kv = kept.get(&range.key).map(|(revision, _)| KeyValue {
                    key: range.key.clone(),
                    mod_revision: *revision,
                    ..KeyValue::default()
                });
                Some(Response::Range(RangeResponse {
                    kvs: kv.into_iter().collect(),
                    ..RangeResponse::default()
                }))
            }
            _ => None,
        };
        let responses = operations
            .iter()
            .map(answer)
            .map(|response| ResponseOp { response })
            .collect();
        TxnResponse {
            succeeded: holds,
            responses,
            ..TxnResponse::default()
        }
    }

    fn txn() -> impl Strategy<Value = Txn> {
        let key = || (0..6u8).prop_map(|n| format!("k{n}"));
        let compare = (key(), 0..3u64);
        let write = (key(), 0..3u8);
        let lists = (
            prop::collection::vec(compare, 0..3),
            prop::collection::vec(write, 1..3),
        );
        lists.prop_map(|(compares, writes)| {
            let compared = compares
                .into_iter()
                .fold(Txn::new(), |txn, (key, revision)| match revision {
                    0 => txn.absent(key),
                    _ => txn.unchanged(key, Revision(revision)),
                });
            let mut written = std::collections::BTreeSet::new();
            let writes = writes.into_iter().filter(|(key, _)| written.insert(key.clone()));
            let put = writes.fold(compared, |txn, (key, value)| match value {
                0 => txn.delete(key),
                _ => txn.put(key, [value]),
            });
            put.put("always", *b"")
        })
    }

    fn data(keys: &Keys, kept: &Kept) -> Kept {
        let data = kept.iter().filter(|(key, _)| keys.entry_key(key).is_some());
        data.map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    proptest! {
        #[test]
        fn together_is_one_after_the_other(
            txns in prop::collection::vec(txn(), 1..8),
            there in prop::collection::btree_map(0..6u8, 1..3i64, 0..6),
            fenced in 0..16usize,
        ) {
            let keys = Keys::new("r");
            let put = |(n, revision): (u8, i64)| (keys.data(&format!("k{n}")), (revision, vec![9]));
            let mut kept: Kept = there.into_iter().map(put).collect();
            if let Some(txn) = txns.get(fenced) {
                kept.insert(keys.fence(txn.id()), (1, Vec::new()));
            }
            let mut joint = Joint::default();
            let mut group: Vec<&Txn> = txns.iter().filter(|txn| joint.take(txn)).collect();
            prop_assert_eq!(group[0].id(), txns[0].id());
            // Alone, one after the other, each at the same revision.
            let mut alone = kept.clone();
            let told: Vec<bool> = group
                .iter()
                .map(|txn| etcd(&mut alone, &super::super::request::txn_request(&keys, txn), 9).succeeded)
                .collect();
            let mut committed = group.clone();
            while !group.is_empty() {
                let answer = etcd(&mut kept, &joint_request(&keys, &group), 9);
                if answer.succeeded {
                    break;
                }
                let mut hold = still_hold(&group, answer).into_iter();
                let before = group.len();
                group.retain(|_| hold.next().unwrap());
                prop_assert!(group.len() < before);
            }
            let mut expected = told.iter();
            committed.retain(|_| *expected.next().unwrap());
            let ids = |txns: &[&Txn]| txns.iter().map(|txn| txn.id()).collect::<Vec<_>>();
            prop_assert_eq!(ids(&group), ids(&committed));
            prop_assert_eq!(data(&keys, &kept), data(&keys, &alone));
            let head = kept.get(&keys.head()).map(|(_, head)| head.clone()).unwrap_or_default();
            for txn in &txns {
                let named = super::super::request::names(&head, &txn.id().to_string());
                prop_assert_eq!(named, group.iter().any(|one| one.id() == txn.id()));
            }
        }
    }

    #[test]
    fn as_many_go_together_as_etcd_takes() {
        let keys = Keys::new("r");
        let own = |n: u32| {
            let (a, b) = (format!("a/{n}"), format!("b/{n}"));
            let txn = Txn::new()
                .unchanged("parent", Revision(5))
                .absent(a.clone())
                .absent(b.clone());
            txn.put(a, *b"1").put(b, *b"1").put("guard", *b"")
        };
        let txns: Vec<Txn> = (0..100).map(own).collect();
        let mut joint = Joint::default();
        let group: Vec<&Txn> = txns.iter().take_while(|txn| joint.take(txn)).collect();
        let request = joint_request(&keys, &group);
        assert_eq!((group.len(), request.compare.len()), (42, 127));
        assert_eq!((request.success.len(), request.failure.len()), (86, 127));
        let large = |n: u32| Txn::new().put(format!("l/{n}"), vec![0; TXN_BYTES_MAX / 2]);
        let (one, two) = (large(1), large(2));
        let mut joint = Joint::default();
        assert!(joint.take(&one) && !joint.take(&two));
    }
}
