//! A watch on etcd: its answers as whole revisions of the store.
//!
//! Everything below the root is followed, so that the head tells of revisions that changed nothing under the prefix. etcd
//! delivers a revision in one answer, whole.

use std::collections::VecDeque;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::watch;
use tokio::time::timeout;
use tonic::{Status, Streaming};

use super::client::Client;
use super::connection::Connection;
use super::failure::Failure;
use super::proto::{Event, WatchCreateRequest, WatchRequest, WatchRequestUnion, WatchResponse};
use super::request::{Keys, number, revision};
use crate::store::{Batch, Change, Revision, StoreError, Watch, WatchError};

const PATH: &str = "/etcdserverpb.Watch/Watch";
/// How long etcd may take to say that it watches.
const CREATE_TIMEOUT: Duration = Duration::from_secs(3);

/// The answers to one watch.
pub(crate) struct Answers {
    connection: Connection,
    stream: Streaming<WatchResponse>,
    broken: watch::Receiver<bool>,
    known: Revision,
}

impl Answers {
    /// Watches keys from the revision after `known` on. A watch that is refused in its first answer may be so for its token:
    /// etcd's words differ by version, so it is asked for with another, once.
    pub(crate) async fn open(
        client: &Client,
        range: (Vec<u8>, Vec<u8>),
        known: Revision,
    ) -> Result<Self, WatchError> {
        match Self::try_open(client, range.clone(), known).await {
            Err(WatchError::Unavailable(_)) if client.forget_token() => {
                Self::try_open(client, range, known).await
            }
            opened => opened,
        }
    }

    async fn try_open(
        client: &Client,
        (key, range_end): (Vec<u8>, Vec<u8>),
        known: Revision,
    ) -> Result<Self, WatchError> {
        let create = WatchCreateRequest {
            key,
            range_end,
            start_revision: number(known).saturating_add(1),
            progress_notify: true,
        };
        let request = WatchRequest {
            request: Some(WatchRequestUnion::Create(create)),
        };
        let opened = client.stream(PATH, request, client.attempt_timeout()).await;
        let (connection, stream) = opened.map_err(|failure| unavailable(failure.into_source()))?;
        let broken = connection.broken();
        let mut answers = Self {
            connection,
            stream,
            broken,
            known,
        };
        let created = timeout(CREATE_TIMEOUT, answers.next()).await;
        let refused = match created {
            Ok(Ok(answer)) if answer.created => return Ok(answers),
            Ok(Ok(_)) => unavailable("etcd did not say that it watches"),
            Ok(Err(error)) => error,
            Err(elapsed) => unavailable(elapsed),
        };
        client.leave(&answers.connection).await;
        Err(refused)
    }

    /// The next answer. May be dropped half-way.
    async fn next(&mut self) -> Result<WatchResponse, WatchError> {
        let answer = tokio::select! {
            answer = self.stream.message() => answer,
            _ = self.broken.wait_for(|broken| *broken) => Err(Status::unavailable("the connection to etcd was given up")),
        };
        match answer {
            Ok(Some(answer)) if answer.compact_revision > 0 => {
                Err(WatchError::Compacted { revision: self.known })
            }
            Ok(Some(answer)) if answer.canceled => Err(unavailable(answer.cancel_reason)),
            Ok(Some(answer)) => Ok(answer),
            Ok(None) => Err(unavailable("etcd ended the watch")),
            Err(status) => Err(unavailable(status)),
        }
    }

    /// The next events; none where etcd says only how far it is.
    pub(crate) async fn events(&mut self) -> Result<(Revision, Vec<Event>), WatchError> {
        let answer = self.next().await?;
        let newest = answer.header.map_or(0, |header| header.revision);
        Ok((revision(newest), answer.events))
    }
}

/// A watch under a prefix.
pub(crate) struct EtcdWatch {
    pub(crate) answers: Answers,
    pub(crate) keys: Keys,
    pub(crate) prefix: Box<str>,
    /// Whole revisions that have come and were not asked for yet.
    pub(crate) ready: VecDeque<Batch>,
}

#[async_trait]
impl Watch for EtcdWatch {
    async fn next(&mut self) -> Result<Batch, WatchError> {
        loop {
            if let Some(batch) = self.try_next() {
                return Ok(batch);
            }
            let (newest, events) = self.answers.events().await?;
            let known = self.answers.known;
            self.ready = batches(&self.keys, &self.prefix, &events);
            // Nothing of ours has happened, and etcd vouches for it: a resumed watch need not go so far back.
            if events.is_empty() && newest > known {
                self.ready.push_back(Batch {
                    revision: newest,
                    changes: [].into(),
                });
            }
        }
    }

    fn try_next(&mut self) -> Option<Batch> {
        let batch = self.ready.pop_front()?;
        self.answers.known = batch.revision;
        Some(batch)
    }
}

/// Events as whole revisions. Those that are neither of an entry nor of the head are none of the store's.
fn batches(keys: &Keys, prefix: &str, events: &[Event]) -> VecDeque<Batch> {
    let mut batches: VecDeque<(Revision, Vec<Change>)> = VecDeque::new();
    for event in events {
        let Some(kv) = &event.kv else {
            continue;
        };
        let key = keys.entry_key(&kv.key);
        if key.is_none() && kv.key != keys.head() {
            continue;
        }
        let revision = revision(kv.mod_revision);
        if batches.back().is_none_or(|(last, _)| *last != revision) {
            batches.push_back((revision, Vec::new()));
        }
        let Some(key) = key.filter(|key| key.starts_with(prefix)) else {
            continue;
        };
        let change = Change {
            key: key.into(),
            entry: if event.is_delete() { None } else { keys.entry(kv) },
        };
        if let Some((_, changes)) = batches.back_mut() {
            changes.push(change);
        }
    }
    let batch = |(revision, changes): (Revision, Vec<Change>)| Batch {
        revision,
        changes: changes.into(),
    };
    batches.into_iter().map(batch).collect()
}

fn unavailable(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> WatchError {
    WatchError::Unavailable(StoreError::unavailable("watch", source))
}

/// A failure of a call in a watch's words.
pub(crate) fn watch_error(failure: Failure) -> WatchError {
    unavailable(failure.into_source())
}

#[cfg(test)]
mod tests {
    use super::super::proto::KeyValue;
    use super::*;

    fn event(key: Vec<u8>, mod_revision: i64, kind: i32) -> Event {
        Event {
            kind,
            kv: Some(KeyValue {
                key,
                mod_revision,
                create_revision: 1,
                value: Vec::new(),
                lease: 0,
            }),
        }
    }

    #[test]
    fn events_become_whole_revisions() {
        let keys = Keys::new("r");
        let events = [
            event(keys.data("in/a"), 5, 0),
            event(keys.data("out"), 5, 0),
            event(keys.head(), 5, 0),
            event(keys.head(), 6, 0),
            event(keys.incarnation(), 7, 0),
            event(keys.data("in/a"), 8, 1),
            event(b"other/data/in/a".to_vec(), 9, 0),
        ];
        let batches = batches(&keys, "in/", &events);
        let shape: Vec<_> = batches
            .iter()
            .map(|batch| {
                let changes = batch.changes.iter();
                let changes: Vec<_> = changes.map(|c| (&*c.key, c.entry.is_some())).collect();
                (batch.revision.0, changes)
            })
            .collect();
        assert_eq!(
            shape,
            [(5, vec![("in/a", true)]), (6, vec![]), (8, vec![("in/a", false)])]
        );
    }
}
