//! The engine for more than one machine: a store in etcd (v3), shared by any number of processes.
//!
//! - A revision is etcd's. Every commit puts the key `head`, so that the newest revision is one linearizable read of it, and a
//!   watch learns of every commit. Numbers are not without gaps: others may use the same etcd.
//! - Transactions that wait at the same time and do not touch each other's keys are one of etcd's, and one revision. Each is told its
//!   own outcome.
//! - A commit whose answer is missing is `Unknown`, never repeated. It is settled by reading back: a *fence* key first keeps it
//!   from happening any more, then the history of `head` says whether it did.
//! - A list's pages are of the first one's revision; what etcd has compacted is told as such, to lists and watches. etcd
//!   compacts as its operator configures it.
//! - Every call ends in bounded time. Members are asked one at a time; when one fails or is silent, the next is.
//!
//! Never: a decision about keys, a cache of its own. Read next: `etcd/request.rs` for the keys and what a transaction
//! becomes, `etcd/client.rs` for who is asked, `etcd/failure.rs` for what a failure means.

mod client;
mod commits;
mod connection;
mod failure;
mod joint;
mod metrics;
mod proto;
mod request;
mod round;
mod space;
mod watch;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;
use tonic::{Code, Status};
use uuid::Uuid;

use crate::store::{
    Commit, Entry, Incarnation, LeaseId, PAGE_BYTES_MAX, PAGE_ENTRIES_MAX, Page, PageToken, ResumeToken,
    Revision, Store, StoreError, Watch, WatchError,
};
use crate::txn::{CommitId, Txn, Write};
use client::Client;
pub use client::{ATTEMPT_TIMEOUT, EtcdConfig};
use commits::Commits;
use failure::Failure;
pub use metrics::Metrics;
use proto::{
    Answer, CompactionRequest, HeaderResponse, KeyValue, LeaseGrantRequest, LeaseGrantResponse,
    LeaseKeepAliveResponse, LeaseRequest, PutRequest, RangeRequest, RangeResponse, TxnRequest, TxnResponse,
};
use request::{Keys, after_prefix, number, range_one, range_op, ranges, revision};
use watch::{Answers, EtcdWatch, watch_error};

/// The format that this version writes, and the newest that it reads.
pub const FORMAT_VERSION: u32 = 1;
/// How long a fence stays, in seconds: longer than any request can lie on its way, which TCP gives up after some 15 minutes.
const FENCE_TTL_S: i64 = 3600;

const RANGE: &str = "/etcdserverpb.KV/Range";
const PUT: &str = "/etcdserverpb.KV/Put";
const TXN: &str = "/etcdserverpb.KV/Txn";
const COMPACT: &str = "/etcdserverpb.KV/Compact";
const LEASE_GRANT: &str = "/etcdserverpb.Lease/LeaseGrant";
const LEASE_REVOKE: &str = "/etcdserverpb.Lease/LeaseRevoke";
const LEASE_KEEP_ALIVE: &str = "/etcdserverpb.Lease/LeaseKeepAlive";

/// Why a store in etcd cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// etcd does not answer, or refuses.
    #[error("etcd cannot be used")]
    Unavailable(#[from] StoreError),
    /// There is none, and none was to be made.
    #[error("there is no store below {root:?}")]
    Missing {
        /// Where its keys would be.
        root: String,
    },
    /// A newer version of the software wrote it.
    #[error(
        "the store below {root:?} has format {found}, newer than {FORMAT_VERSION}, the newest that this version reads"
    )]
    NewerFormat {
        /// Where its keys are.
        root: String,
        /// Its format.
        found: u32,
    },
    /// There is something else.
    #[error("the key {key:?} is not one of a store")]
    NotAStore {
        /// The key that was read.
        key: String,
    },
}

/// The value of the key `incarnation`.
#[derive(Serialize, Deserialize)]
struct Label {
    format: u32,
    incarnation: Incarnation,
}

/// A store in etcd.
pub struct EtcdStore {
    client: Arc<Client>,
    keys: Keys,
    commits: Commits,
}

impl EtcdStore {
    /// Opens the store below the configured root, and makes it where there is none.
    ///
    /// # Errors
    /// Where etcd does not answer in time, and for a store of a newer format.
    pub async fn open(config: EtcdConfig) -> Result<Self, OpenError> {
        let store = Self::new(config);
        let label = Label {
            format: FORMAT_VERSION,
            incarnation: Incarnation(Uuid::new_v4()),
        };
        let value = serde_json::to_vec(&label).map_err(|e| StoreError::unavailable("make its label", e))?;
        let make = TxnRequest {
            compare: vec![request::absent(store.keys.incarnation())],
            success: vec![
                request::put_op(store.keys.incarnation(), value, 0),
                request::put_op(store.keys.head(), Vec::new(), 0),
            ],
            failure: vec![range_op(range_one(store.keys.incarnation()))],
        };
        let made: TxnResponse = store.ask("open", TXN, make).await?;
        if made.succeeded {
            return Ok(store);
        }
        let found = ranges(made).next().and_then(|range| range.kvs.into_iter().next());
        store.opened(found.as_ref())
    }

    /// Opens the store below the configured root, and writes nothing.
    ///
    /// # Errors
    /// As [`EtcdStore::open`], and where there is none.
    pub async fn open_existing(config: EtcdConfig) -> Result<Self, OpenError> {
        let store = Self::new(config);
        let found: RangeResponse = store
            .ask("open", RANGE, range_one(store.keys.incarnation()))
            .await?;
        match found.kvs.first() {
            None => Err(OpenError::Missing {
                root: store.keys.root().to_owned(),
            }),
            found => store.opened(found),
        }
    }

    fn new(config: EtcdConfig) -> Self {
        let keys = Keys::new(&config.root);
        let client = Arc::new(Client::new(config));
        Self {
            commits: Commits::new(Arc::clone(&client), keys.clone()),
            client,
            keys,
        }
    }

    /// Itself, where the label that was found is one of ours.
    fn opened(self, label: Option<&KeyValue>) -> Result<Self, OpenError> {
        match label.and_then(|kv| serde_json::from_slice::<Label>(&kv.value).ok()) {
            Some(label) if label.format > FORMAT_VERSION => Err(OpenError::NewerFormat {
                root: self.keys.root().to_owned(),
                found: label.format,
            }),
            Some(_) => Ok(self),
            None => Err(OpenError::NotAStore {
                key: String::from_utf8_lossy(&self.keys.incarnation()).into_owned(),
            }),
        }
    }

    /// The names in etcd of what is below the root and no store's: nobody reads it, and no copy has it.
    ///
    /// # Errors
    /// Where etcd does not answer.
    pub async fn strangers(&self) -> Result<Vec<String>, StoreError> {
        let (mut key, range_end) = self.keys.all();
        let mut strangers = Vec::new();
        loop {
            let range = RangeRequest {
                key,
                range_end: range_end.clone(),
                limit: i64::try_from(PAGE_ENTRIES_MAX).unwrap_or(i64::MAX),
                keys_only: true,
                ..RangeRequest::default()
            };
            let found: RangeResponse = self.ask("list", RANGE, range).await?;
            let names = found.kvs.iter().map(|kv| kv.key.as_slice());
            let foreign = names.filter(|name| !self.keys.is_own(name));
            strangers.extend(foreign.map(|name| String::from_utf8_lossy(name).into_owned()));
            match found.kvs.last().filter(|_| found.more) {
                Some(last) => key = [&*last.key, b"\0"].concat(),
                None => return Ok(strangers),
            }
        }
    }

    /// What it has asked of etcd.
    pub fn metrics(&self) -> &Metrics {
        &self.client.metrics
    }

    /// Has the whole etcd forget its history up to now. For tests; operators have etcd do it by itself.
    ///
    /// # Errors
    /// Where etcd does not answer.
    pub async fn compact_history(&self) -> Result<(), StoreError> {
        let now: RangeResponse = self.ask("compact", RANGE, range_one(self.keys.head())).await?;
        let revision = now.header.map_or(0, |header| header.revision);
        let compacted = self.client.ask(COMPACT, CompactionRequest { revision }).await;
        match compacted {
            Ok(HeaderResponse { .. }) => Ok(()),
            // The first attempt's answer was lost, or another process was faster.
            Err(Failure::Refused(status)) if status.code() == Code::OutOfRange => Ok(()),
            Err(failure) => Err(StoreError::unavailable("compact", failure.into_source())),
        }
    }

    async fn ask<Req, Res>(
        &self,
        doing: &'static str,
        path: &'static str,
        message: Req,
    ) -> Result<Res, StoreError>
    where
        Req: prost::Message + Clone + 'static,
        Res: Answer,
    {
        let answered = self.client.ask(path, message).await;
        answered.map_err(|failure| StoreError::unavailable(doing, failure.into_source()))
    }

    /// What the incarnation's key says now, and one range at a revision (0 for the newest), read together.
    async fn read(
        &self,
        range: RangeRequest,
    ) -> Result<(Option<Incarnation>, RangeResponse, Revision), Failure> {
        let request = TxnRequest {
            compare: Vec::new(),
            success: vec![range_op(range_one(self.keys.incarnation())), range_op(range)],
            failure: Vec::new(),
        };
        let answer: TxnResponse = self.client.ask(TXN, request).await?;
        let newest = revision(answer.header.as_ref().map_or(0, |header| header.revision));
        let mut found = ranges(answer);
        let label = found.next().and_then(|range| range.kvs.into_iter().next());
        let label = label.and_then(|kv| serde_json::from_slice::<Label>(&kv.value).ok());
        let range = found.next().unwrap_or_default();
        Ok((label.map(|label| label.incarnation), range, newest))
    }

    /// A range, of the incarnation and the revision that a list began at, where it has begun; and which these are.
    async fn list_some(
        &self,
        range: RangeRequest,
        of: Option<(Incarnation, Revision)>,
    ) -> Result<(RangeResponse, Incarnation, Revision), StoreError> {
        let (incarnation, found, newest) = match (self.read(range).await, of) {
            (Ok(read), _) => read,
            (Err(Failure::Refused(status)), Some((_, revision))) if status.code() == Code::OutOfRange => {
                return Err(StoreError::Compacted { revision });
            }
            (Err(failure), _) => return Err(StoreError::unavailable("list", failure.into_source())),
        };
        let incarnation = incarnation.ok_or_else(|| StoreError::unavailable("list", "the store is gone"))?;
        match of {
            None => Ok((found, incarnation, newest)),
            Some((began_in, revision)) if began_in == incarnation => Ok((found, incarnation, revision)),
            Some((_, revision)) => Err(StoreError::Compacted { revision }),
        }
    }

    /// Whether a watch can go on from a token, exactly.
    async fn check_resumable(&self, from: &ResumeToken) -> Result<(), WatchError> {
        let compacted = WatchError::Compacted {
            revision: from.revision,
        };
        // 0 is etcd's word for the newest, and no store's history begins there.
        if from.revision == Revision(0) {
            return Err(compacted);
        }
        let at_token = RangeRequest {
            revision: number(from.revision),
            ..range_one(self.keys.incarnation())
        };
        match self.read(at_token).await {
            Ok((Some(incarnation), then, _)) if incarnation == from.incarnation && !then.kvs.is_empty() => {
                Ok(())
            }
            Ok(_) => Err(compacted),
            // Compacted, or not reached yet: of another future.
            Err(Failure::Refused(status)) if status.code() == Code::OutOfRange => Err(compacted),
            Err(failure) => Err(watch_error(failure)),
        }
    }

    /// Where the history of the head, after `since`, names a commit.
    async fn find(&self, id: CommitId, since: Revision) -> Result<Option<Revision>, StoreError> {
        let newest = self.barrier().await?;
        if newest <= since {
            return Ok(None);
        }
        let id = id.to_string();
        let told = |error| match error {
            WatchError::Compacted { .. } => StoreError::Compacted { revision: since },
            WatchError::Unavailable(error) => error,
        };
        let head = (self.keys.head(), Vec::new());
        let mut answers = Answers::open(&self.client, head, since).await.map_err(told)?;
        loop {
            let (_, events) = answers.events().await.map_err(told)?;
            for kv in events.iter().filter_map(|event| event.kv.as_ref()) {
                if request::names(&kv.value, &id) {
                    return Ok(Some(revision(kv.mod_revision)));
                }
                if revision(kv.mod_revision) >= newest {
                    return Ok(None);
                }
            }
        }
    }

    async fn grant(&self, ttl_s: i64) -> Result<LeaseId, StoreError> {
        let doing = "grant a lease";
        let request = LeaseGrantRequest { ttl_s, id: 0 };
        // Granted twice by a repetition, one of them lapses by itself.
        let granted: LeaseGrantResponse = self.ask(doing, LEASE_GRANT, request).await?;
        match granted.error.is_empty() {
            true => Ok(LeaseId(granted.id.cast_unsigned())),
            false => Err(StoreError::unavailable(doing, granted.error)),
        }
    }
}

fn is_no_lease(status: &Status) -> bool {
    status.code() == Code::NotFound
}

fn first_lease(txn: &Txn) -> Option<LeaseId> {
    txn.writes().iter().find_map(|write| match write {
        Write::Put { lease, .. } => *lease,
        Write::Delete { .. } => None,
    })
}

#[async_trait]
impl Store for EtcdStore {
    async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        let found: RangeResponse = self.ask("read", RANGE, range_one(self.keys.data(key))).await?;
        Ok(found.kvs.first().and_then(|kv| self.keys.entry(kv)))
    }

    async fn list(&self, prefix: &str, after: Option<&PageToken>, limit: usize) -> Result<Page, StoreError> {
        let limit = limit.clamp(1, PAGE_ENTRIES_MAX);
        let start = self.keys.data(prefix);
        let mut range = RangeRequest {
            range_end: after_prefix(&start),
            // The first key after the last one delivered.
            key: after.map_or(start, |token| self.keys.data(&format!("{}\0", token.after))),
            limit: i64::try_from(limit).unwrap_or(i64::MAX),
            ..RangeRequest::default()
        };
        let mut of = after.map(|token| (token.incarnation, token.revision));
        loop {
            range.revision = of.map_or(0, |(_, revision)| number(revision));
            let (found, incarnation, revision) = self.list_some(range.clone(), of).await?;
            let mut bytes = 0;
            let goes_in = |kv: &&KeyValue| {
                let goes_in = bytes < PAGE_BYTES_MAX;
                bytes += kv.key.len() + kv.value.len();
                goes_in
            };
            let kept = found.kvs.iter().take_while(goes_in).count();
            let (kept, others) = found.kvs.split_at(kept);
            let entries: Vec<_> = kept.iter().filter_map(|kv| self.keys.entry(kv)).collect();
            let more = found.more || !others.is_empty();
            if let (true, true, Some(last)) = (more, entries.is_empty(), kept.last()) {
                // Somebody else's keys alone, which no token can name; ours may follow.
                range.key = [&*last.key, b"\0"].concat();
                of = Some((incarnation, revision));
                continue;
            }
            let last = entries.last().filter(|_| more).map(|entry| entry.key.clone());
            return Ok(Page {
                entries,
                incarnation,
                revision,
                next: last.map(|after| PageToken {
                    incarnation,
                    revision,
                    after,
                }),
            });
        }
    }

    async fn watch(&self, prefix: &str, from: &ResumeToken) -> Result<Box<dyn Watch>, WatchError> {
        self.check_resumable(from).await?;
        let answers = Answers::open(&self.client, self.keys.all(), from.revision).await?;
        Ok(Box::new(EtcdWatch {
            answers,
            keys: self.keys.clone(),
            prefix: prefix.into(),
            ready: VecDeque::new(),
        }))
    }

    async fn commit(&self, txn: Txn) -> Result<Commit, StoreError> {
        txn.check()?;
        self.commits.commit(txn).await
    }

    async fn settle(&self, id: CommitId, since: Revision) -> Result<Option<Revision>, StoreError> {
        let settled = async {
            let lease = self.grant(FENCE_TTL_S).await?;
            let fence = PutRequest {
                key: self.keys.fence(id),
                value: Vec::new(),
                lease: request::lease_number(lease),
            };
            let HeaderResponse { .. } = self.ask("settle", PUT, fence).await?;
            // From here on the commit happens no more: the head's history is final for it.
            self.find(id, since).await
        };
        match timeout(self.client.call_timeout(), settled).await {
            Ok(settled) => settled,
            Err(elapsed) => Err(StoreError::unavailable("settle", elapsed)),
        }
    }

    async fn barrier(&self) -> Result<Revision, StoreError> {
        let doing = "read its newest revision";
        let head: RangeResponse = self.ask(doing, RANGE, range_one(self.keys.head())).await?;
        match head.kvs.first() {
            Some(kv) => Ok(revision(kv.mod_revision)),
            None => Err(StoreError::unavailable(doing, "the store is gone")),
        }
    }

    async fn can_write(&self) -> Result<(), StoreError> {
        if !self.client.space.is_full() {
            return Ok(());
        }
        // It would write only where there is no store any more; etcd refuses it all the same while it has no space.
        let probe = TxnRequest {
            compare: vec![request::absent(self.keys.incarnation())],
            success: vec![request::put_op(self.keys.head(), Vec::new(), 0)],
            failure: Vec::new(),
        };
        let _: TxnResponse = self.ask("write", TXN, probe).await?;
        self.client.space.has_room();
        Ok(())
    }

    async fn lease_grant(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        let whole = ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0);
        self.grant(i64::try_from(whole.max(1)).unwrap_or(i64::MAX)).await
    }

    async fn lease_keep_alive(&self, lease: LeaseId) -> Result<(), StoreError> {
        let request = LeaseRequest {
            id: request::lease_number(lease),
        };
        // A stream of one request and one answer, which on the wire is a call like any other.
        let answer: LeaseKeepAliveResponse =
            self.ask("keep a lease alive", LEASE_KEEP_ALIVE, request).await?;
        match answer.ttl_s {
            1.. => Ok(()),
            _ => Err(StoreError::LeaseNotFound(lease)),
        }
    }

    async fn lease_revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        let request = LeaseRequest {
            id: request::lease_number(lease),
        };
        match self.client.ask(LEASE_REVOKE, request).await {
            Ok(HeaderResponse { .. }) => Ok(()),
            Err(Failure::Refused(status)) if is_no_lease(&status) => Ok(()),
            Err(failure) => Err(StoreError::unavailable("revoke a lease", failure.into_source())),
        }
    }
}
