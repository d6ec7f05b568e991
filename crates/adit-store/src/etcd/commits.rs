//! Commits that wait for etcd, and go to it together.
//!
//! While one request is under way, the transactions that come are gathered; those that go together ([`super::joint`]) are the next
//! request. Who comes alone is sent at once. One that is under way goes on when nobody waits for its answer any more.

use std::error::Error;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::client::Client;
use super::failure::Failure;
use super::joint::{Joint, is_joinable, joint_request, still_hold};
use super::proto::TxnResponse;
use super::request::{Keys, outcome, revision, txn_request};
use super::{TXN, first_lease, is_no_lease};
use crate::store::{Commit, StoreError};
use crate::txn::Txn;

/// For so long the transactions that come wait for the request that is under way. A member that takes longer may hang: they are sent then
/// as if there were none.
const PATIENCE: Duration = Duration::from_millis(200);

type Answer = Result<Commit, StoreError>;

/// Who waits for a commit.
struct Waiting {
    txn: Txn,
    answer: oneshot::Sender<Answer>,
}

struct Queue {
    waiting: Vec<Waiting>,
    under_way: usize,
    /// When the newest request was sent.
    sent: Instant,
}

/// The way of commits to etcd; clones share it.
#[derive(Clone)]
pub(crate) struct Commits {
    client: Arc<Client>,
    keys: Keys,
    queue: Arc<Mutex<Queue>>,
}

impl Commits {
    pub(crate) fn new(client: Arc<Client>, keys: Keys) -> Self {
        Self {
            client,
            keys,
            queue: Arc::new(Mutex::new(Queue {
                waiting: Vec::new(),
                under_way: 0,
                sent: Instant::now(),
            })),
        }
    }

    /// Commits a transaction that was checked.
    pub(crate) async fn commit(&self, txn: Txn) -> Answer {
        if !is_joinable(&txn) {
            return self.commit_alone(&txn).await;
        }
        let (answer, answered) = oneshot::channel();
        {
            let mut queue = self.queue.lock();
            queue.waiting.push(Waiting { txn, answer });
            if queue.under_way == 0 || queue.sent.elapsed() > PATIENCE {
                queue.sent = Instant::now();
                queue.under_way += 1;
                tokio::spawn(self.clone().work());
            }
        }
        // Without an answer the runtime is going down.
        answered.await.unwrap_or(Ok(Commit::Unknown))
    }

    /// Sends what waits until nothing does.
    async fn work(self) {
        loop {
            // What one answer has woken is on its way here together.
            tokio::task::yield_now().await;
            let group = {
                let mut queue = self.queue.lock();
                let group = next_group(&mut queue.waiting);
                if group.is_empty() {
                    queue.under_way -= 1;
                    return;
                }
                queue.sent = Instant::now();
                group
            };
            self.commit_group(group).await;
        }
    }

    async fn commit_group(&self, mut group: Vec<Waiting>) {
        while group.len() > 1 {
            let txns: Vec<&Txn> = group.iter().map(|one| &one.txn).collect();
            let request = joint_request(&self.keys, &txns);
            let answered: Result<TxnResponse, Failure> = self.client.ask_carefully(TXN, request).await;
            match answered {
                Ok(answer) if answer.succeeded => {
                    let commit = answer.header.as_ref().map_or(Commit::Unknown, |header| {
                        Commit::Committed(revision(header.revision))
                    });
                    return answer_all(group, &Ok(commit));
                }
                Ok(answer) => {
                    let hold = still_hold(&txns, answer);
                    // Not an answer of etcd's.
                    if hold.iter().all(|holds| *holds) {
                        return answer_all(group, &Ok(Commit::Unknown));
                    }
                    let mut hold = hold.into_iter();
                    let (others, lost) = group.into_iter().partition(|_| hold.next().unwrap_or(false));
                    answer_all(lost, &Ok(Commit::Conflict));
                    group = others;
                }
                // Perhaps too much for how this etcd is configured: each is told its own.
                Err(Failure::Refused(_)) => break,
                Err(Failure::Lost(source)) => {
                    tracing::info!(
                        error = &*source as &dyn Error,
                        commits = group.len(),
                        "The answer to several commits is missing."
                    );
                    return answer_all(group, &Ok(Commit::Unknown));
                }
                Err(Failure::NotSent(source)) => {
                    return answer_all(group, &Err(StoreError::unavailable("commit", source)));
                }
            }
        }
        for one in group {
            let answer = self.commit_alone(&one.txn).await;
            answer_all(vec![one], &answer);
        }
    }

    async fn commit_alone(&self, txn: &Txn) -> Answer {
        let request = txn_request(&self.keys, txn);
        let answered: Result<TxnResponse, Failure> = self.client.ask_carefully(TXN, request).await;
        match answered {
            Ok(answer) => Ok(outcome(&answer).unwrap_or(Commit::Unknown)),
            Err(Failure::Lost(source)) => {
                tracing::info!(error = &*source as &dyn Error, commit.id = %txn.id(), "A commit's answer is missing.");
                Ok(Commit::Unknown)
            }
            Err(Failure::Refused(status)) if is_no_lease(&status) => match first_lease(txn) {
                Some(lease) => Err(StoreError::LeaseNotFound(lease)),
                None => Err(StoreError::unavailable("commit", status)),
            },
            Err(failure) => Err(StoreError::unavailable("commit", failure.into_source())),
        }
    }
}

/// Takes out of the queue, in order, the first and all that go with it. What nobody waits for any more never happens.
fn next_group(waiting: &mut Vec<Waiting>) -> Vec<Waiting> {
    waiting.retain(|one| !one.answer.is_closed());
    let mut joint = Joint::default();
    let goes: Vec<bool> = waiting.iter().map(|one| joint.take(&one.txn)).collect();
    let mut goes = goes.into_iter();
    let (group, others) = mem::take(waiting)
        .into_iter()
        .partition(|_| goes.next().unwrap_or(false));
    *waiting = others;
    group
}

/// Who has gone meanwhile is not told.
fn answer_all(group: Vec<Waiting>, answer: &Answer) {
    for one in group {
        let _ = one.answer.send(answer.clone());
    }
}
