//! What is sent to etcd for a transaction, and what its answer means. Pure.

use uuid::Uuid;

use super::proto::{
    Compare as EtcdCompare, CompareWith, DeleteRangeRequest, KeyValue, PutRequest, RangeRequest, Request,
    RequestOp, Response, ResponseOp, TxnRequest, TxnResponse,
};
use crate::store::{Commit, Entry, LeaseId, Revision};
use crate::txn::{CommitId, Compare, Txn, Write};

/// Where a store's keys are in etcd: below a root, so that an etcd can be shared.
///
/// ```text
/// ROOT/incarnation   written once: the format's version and the incarnation
/// ROOT/head          put by every commit: its commit id, or those of several that were committed together. Its last
///                    revision is the newest one
/// ROOT/fence/{id}    the commit of this id must not happen any more; under a lease
/// ROOT/data/{key}    the entries
/// ```
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    root: String,
}

impl Keys {
    pub(crate) fn new(root: &str) -> Self {
        Self {
            root: format!("{}/", root.trim_matches('/')),
        }
    }

    /// As it is configured.
    pub(crate) fn root(&self) -> &str {
        self.root.trim_end_matches('/')
    }

    pub(crate) fn incarnation(&self) -> Vec<u8> {
        format!("{}incarnation", self.root).into_bytes()
    }

    pub(crate) fn head(&self) -> Vec<u8> {
        format!("{}head", self.root).into_bytes()
    }

    pub(crate) fn fence(&self, id: CommitId) -> Vec<u8> {
        format!("{}fence/{id}", self.root).into_bytes()
    }

    pub(crate) fn data(&self, key: &str) -> Vec<u8> {
        format!("{}data/{key}", self.root).into_bytes()
    }

    /// Everything of the store.
    pub(crate) fn all(&self) -> (Vec<u8>, Vec<u8>) {
        let first = self.root.clone().into_bytes();
        let end = after_prefix(&first);
        (first, end)
    }

    /// What an etcd key under `ROOT/data` is to us.
    pub(crate) fn entry_key<'a>(&self, key: &'a [u8]) -> Option<&'a str> {
        let rest = key.strip_prefix(self.root.as_bytes())?;
        std::str::from_utf8(rest.strip_prefix(b"data/")?).ok()
    }

    /// Whether a store has such a key.
    pub(crate) fn is_own(&self, key: &[u8]) -> bool {
        let fence = key
            .strip_prefix(self.root.as_bytes())
            .and_then(|rest| rest.strip_prefix(b"fence/"));
        key == self.incarnation()
            || key == self.head()
            || fence.is_some_and(|id| Uuid::try_parse_ascii(id).is_ok())
            || self.entry_key(key).is_some_and(|key| !key.is_empty())
    }

    pub(crate) fn entry(&self, kv: &KeyValue) -> Option<Entry> {
        Some(Entry {
            key: self.entry_key(&kv.key)?.into(),
            value: kv.value.as_slice().into(),
            mod_revision: revision(kv.mod_revision),
            create_revision: revision(kv.create_revision),
            lease: (kv.lease != 0).then_some(LeaseId(kv.lease.cast_unsigned())),
        })
    }
}

/// etcd's revisions are positive.
pub(crate) fn revision(number: i64) -> Revision {
    Revision(u64::try_from(number).unwrap_or(0))
}

/// One that we did not get from etcd is further than any.
pub(crate) fn number(revision: Revision) -> i64 {
    i64::try_from(revision.0).unwrap_or(i64::MAX)
}

/// Lease ids are etcd's, whose sign means nothing.
pub(crate) fn lease_number(lease: LeaseId) -> i64 {
    lease.0.cast_signed()
}

/// The first key after all that begin so. Never asked of a prefix of 0xff alone: ours are UTF-8.
pub(crate) fn after_prefix(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            break;
        }
    }
    end
}

fn op(request: Request) -> RequestOp {
    RequestOp {
        request: Some(request),
    }
}

/// Reads one key, newest.
pub(crate) fn range_one(key: Vec<u8>) -> RangeRequest {
    RangeRequest {
        key,
        ..RangeRequest::default()
    }
}

pub(crate) fn range_op(range: RangeRequest) -> RequestOp {
    op(Request::Range(range))
}

pub(crate) fn put_op(key: Vec<u8>, value: Vec<u8>, lease: i64) -> RequestOp {
    op(Request::Put(PutRequest { key, value, lease }))
}

pub(crate) fn absent(key: Vec<u8>) -> EtcdCompare {
    EtcdCompare {
        target: 0,
        key,
        with: Some(CompareWith::Version(0)),
    }
}

fn unchanged(key: Vec<u8>, revision: Revision) -> EtcdCompare {
    EtcdCompare {
        target: 2,
        key,
        with: Some(CompareWith::ModRevision(number(revision))),
    }
}

/// The request of a transaction. Each of its lists has at most one operation more than the transaction, which is within
/// etcd's default limit of 128.
///
/// One that changes something puts the head with it. Where that is not certain before (nothing but deletes, of keys that
/// may be absent), etcd decides: if all of them are absent, nothing is written; else the whole of it happens inside.
pub(crate) fn txn_request(keys: &Keys, txn: &Txn) -> TxnRequest {
    let mut compare: Vec<_> = txn.compares().iter().map(|c| compare_of(keys, c)).collect();
    let fence = absent(keys.fence(txn.id()));
    let head = || range_op(range_one(keys.head()));
    if txn.writes().is_empty() {
        return TxnRequest {
            compare,
            success: vec![head()],
            failure: Vec::new(),
        };
    }
    let mut writes: Vec<_> = txn.writes().iter().map(|w| write_of(keys, w)).collect();
    writes.push(put_op(keys.head(), txn.id().to_string().into_bytes(), 0));
    if changes_certainly(txn) {
        compare.push(fence);
        return TxnRequest {
            compare,
            success: writes,
            failure: Vec::new(),
        };
    }
    let nothing_to_delete = txn.writes().iter().map(|write| absent(keys.data(write.key())));
    let outer = compare.iter().cloned().chain(nothing_to_delete).collect();
    compare.push(fence);
    let inner = TxnRequest {
        compare,
        success: writes,
        failure: Vec::new(),
    };
    TxnRequest {
        compare: outer,
        success: vec![head()],
        failure: vec![op(Request::Txn(inner))],
    }
}

pub(crate) fn compare_of(keys: &Keys, compare: &Compare) -> EtcdCompare {
    match compare {
        Compare::Absent(key) => absent(keys.data(key)),
        Compare::Unchanged(key, revision) => unchanged(keys.data(key), *revision),
    }
}

pub(crate) fn write_of(keys: &Keys, write: &Write) -> RequestOp {
    match write {
        Write::Put { key, value, lease } => {
            put_op(keys.data(key), value.to_vec(), lease.map_or(0, lease_number))
        }
        Write::Delete { key } => op(Request::DeleteRange(DeleteRangeRequest { key: keys.data(key) })),
    }
}

/// Whether a value of the head names a commit.
pub(crate) fn names(head: &[u8], id: &str) -> bool {
    head.split(|byte| *byte == b' ')
        .any(|named| named == id.as_bytes())
}

/// Whether the transaction changes something whenever its compares hold.
pub(crate) fn changes_certainly(txn: &Txn) -> bool {
    let is_there = |key| {
        let mut compares = txn.compares().iter();
        compares.any(|compare| matches!(compare, Compare::Unchanged(other, _) if other == key))
    };
    txn.writes().iter().any(|write| match write {
        Write::Put { .. } => true,
        Write::Delete { key } => is_there(key),
    })
}

/// What became of a transaction that etcd has answered; `None` for an answer that does not fit.
pub(crate) fn outcome(answer: &TxnResponse) -> Option<Commit> {
    let newest = || answer.header.as_ref().map(|header| revision(header.revision));
    let inner = answer.responses.first().and_then(|op| op.response.as_ref());
    match (answer.succeeded, inner) {
        // Nothing was to be changed: the head says which revision is the newest.
        (true, Some(Response::Range(head))) => {
            let head = head.kvs.first()?;
            Some(Commit::Committed(revision(head.mod_revision)))
        }
        (true, _) => newest().map(Commit::Committed),
        (false, Some(Response::Txn(inner))) if inner.succeeded => newest().map(Commit::Committed),
        (false, _) => Some(Commit::Conflict),
    }
}

/// The keys that a read of several ranges found, in their order.
pub(crate) fn ranges(answer: TxnResponse) -> impl Iterator<Item = super::proto::RangeResponse> {
    answer
        .responses
        .into_iter()
        .map(|ResponseOp { response }| match response {
            Some(Response::Range(range)) => range,
            _ => super::proto::RangeResponse::default(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::txn::TXN_OPERATIONS_MAX;

    #[test]
    fn the_largest_transactions_stay_within_etcd_s_limit() {
        let keys = Keys::new("adit");
        let range = 0..TXN_OPERATIONS_MAX;
        for txn in [
            range
                .clone()
                .fold(Txn::new(), |txn, n| txn.put(format!("k{n}"), *b"")),
            range
                .clone()
                .fold(Txn::new(), |txn, n| txn.delete(format!("k{n}"))),
            range
                .clone()
                .fold(Txn::new(), |txn, n| txn.absent(format!("k{n}"))),
        ] {
            txn.check().unwrap();
            let request = txn_request(&keys, &txn);
            for list in [
                request.compare.len(),
                request.success.len(),
                request.failure.len(),
            ] {
                assert!(list <= TXN_OPERATIONS_MAX + 1);
            }
        }
    }

    #[test]
    fn the_head_is_put_where_something_changes() {
        let keys = Keys::new("/adit/");
        let puts_head = |ops: &[RequestOp]| {
            let head =
                |op: &RequestOp| matches!(&op.request, Some(Request::Put(put)) if put.key == b"adit/head");
            ops.iter().any(head)
        };
        let only_compares = txn_request(&keys, &Txn::new().absent("k"));
        assert!(!puts_head(&only_compares.success));
        let put = txn_request(&keys, &Txn::new().put("k", *b""));
        assert!(puts_head(&put.success) && put.compare.len() == 1);
        let compared = txn_request(&keys, &Txn::new().unchanged("k", Revision(5)).delete("k"));
        assert!(puts_head(&compared.success));
        let perhaps = txn_request(&keys, &Txn::new().delete("k"));
        assert!(!puts_head(&perhaps.success));
        assert!(
            matches!(&perhaps.failure[0].request, Some(Request::Txn(inner)) if puts_head(&inner.success))
        );
    }

    #[test]
    fn keys_are_below_the_root_and_come_back() {
        let keys = Keys::new("a/b");
        let (first, end) = keys.all();
        assert_eq!((&*first, &*end), (&b"a/b/"[..], &b"a/b0"[..]));
        assert_eq!(keys.entry_key(&keys.data("service/x")), Some("service/x"));
        assert_eq!(keys.entry_key(&keys.head()), None);
        assert_eq!(keys.entry_key(b"a/c/data/x"), None);
        assert_eq!(after_prefix(b"a\xff"), b"b");
        assert_eq!(lease_number(LeaseId(u64::MAX)), -1);
    }
}
