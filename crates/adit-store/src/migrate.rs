//! Copying a store into another one, of whatever engine, and comparing the two.
//!
//! What is copied is one revision of the source: nobody may be writing to it, or what is written meanwhile is left behind.
//! Keys under a lease are their processes' and not copied. Revisions begin anew. Never overwrites anything.

use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt, stream};

use crate::store::{Commit, Entry, PAGE_ENTRIES_MAX, PageToken, Store, StoreError};
use crate::txn::{TXN_OPERATIONS_MAX, Txn};

/// Each key is compared and put.
const ENTRIES_PER_TXN: usize = TXN_OPERATIONS_MAX / 2;
/// Bytes of keys and values after which a transaction is full: half of the limit, since a key counts twice.
const BYTES_PER_TXN: usize = crate::txn::TXN_BYTES_MAX / 2;
/// How many commits are under way at a time: enough to share fsyncs.
const COMMITS_MAX: usize = 16;

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// So many entries were copied.
    Copied(u64),
    /// So many were read back and found equal.
    Compared(u64),
}

/// Why a store was not copied.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// The target holds something.
    #[error("the target is not empty: it has the key {key:?}")]
    NotEmpty {
        /// Its first key.
        key: Arc<str>,
    },
    /// Somebody else writes to the target.
    #[error("somebody else writes to the target: not all of {first:?} to {last:?} could be put")]
    Taken {
        /// The first key of the transaction that lost.
        first: Arc<str>,
        /// Its last.
        last: Arc<str>,
    },
    /// Reading back, something else was found.
    #[error("the copy differs from its source at the key {key:?}")]
    Differs {
        /// The first such key.
        key: Arc<str>,
    },
    /// The source cannot be read.
    #[error("the source cannot be read")]
    Source(#[source] StoreError),
    /// The target cannot be used.
    #[error("the target cannot be used")]
    Target(#[source] StoreError),
}

/// Copies everything into an empty store, reads it back and compares. Answers how many entries there are.
///
/// # Errors
/// Where the target is not empty, where either store fails, and where the copy is not the same. The target may then hold a
/// part.
pub async fn migrate(
    from: &dyn Store,
    to: &dyn Store,
    mut progress: impl FnMut(Progress),
) -> Result<u64, MigrateError> {
    let first = to.list("", None, 1).await.map_err(MigrateError::Target)?;
    if let Some(entry) = first.entries.first() {
        return Err(MigrateError::NotEmpty {
            key: entry.key.clone(),
        });
    }
    let mut source = Pages::of(from);
    let mut copied = 0;
    while let Some(entries) = source.next().await.map_err(MigrateError::Source)? {
        let count = entries.len() as u64;
        let commits = stream::iter(batches(entries)).map(|batch| put(to, batch));
        commits.buffer_unordered(COMMITS_MAX).try_collect::<()>().await?;
        copied += count;
        progress(Progress::Copied(copied));
    }
    compare(from, to, progress).await
}

/// Compares two stores, but for what is under a lease. Answers how many entries there are.
async fn compare(
    from: &dyn Store,
    to: &dyn Store,
    mut progress: impl FnMut(Progress),
) -> Result<u64, MigrateError> {
    let (mut source, mut target) = (Pages::of(from), Pages::of(to));
    let (mut expected, mut found) = (Vec::new().into_iter(), Vec::new().into_iter());
    let mut compared = 0;
    loop {
        if expected.len() == 0
            && let Some(entries) = source.next().await.map_err(MigrateError::Source)?
        {
            progress(Progress::Compared(compared));
            expected = entries.into_iter();
            continue;
        }
        if found.len() == 0
            && let Some(entries) = target.next().await.map_err(MigrateError::Target)?
        {
            found = entries.into_iter();
            continue;
        }
        match (expected.next(), found.next()) {
            (None, None) => return Ok(compared),
            (Some(expected), Some(found))
                if (&expected.key, &expected.value) == (&found.key, &found.value) =>
            {
                compared += 1;
            }
            (Some(one), Some(other)) => {
                return Err(MigrateError::Differs {
                    key: one.key.min(other.key),
                });
            }
            (Some(one), None) | (None, Some(one)) => return Err(MigrateError::Differs { key: one.key }),
        }
    }
}

/// A store's entries that are under no lease, page by page, all of one revision.
struct Pages<'a> {
    store: &'a dyn Store,
    after: Option<PageToken>,
    ended: bool,
}

impl<'a> Pages<'a> {
    fn of(store: &'a dyn Store) -> Self {
        Self {
            store,
            after: None,
            ended: false,
        }
    }

    async fn next(&mut self) -> Result<Option<Vec<Entry>>, StoreError> {
        if self.ended {
            return Ok(None);
        }
        let page = self.store.list("", self.after.as_ref(), PAGE_ENTRIES_MAX).await?;
        self.ended = page.next.is_none();
        self.after = page.next;
        let own = page.entries.into_iter().filter(|entry| entry.lease.is_none());
        Ok(Some(own.collect()))
    }
}

/// Entries in portions that fit a transaction.
fn batches(entries: Vec<Entry>) -> Vec<Vec<Entry>> {
    let mut batches: Vec<Vec<Entry>> = Vec::new();
    let mut bytes = 0;
    for entry in entries {
        let size = 2 * entry.key.len() + entry.value.len();
        let full = bytes + size > BYTES_PER_TXN;
        match batches.last_mut() {
            Some(batch) if batch.len() < ENTRIES_PER_TXN && !full => {
                bytes += size;
                batch.push(entry);
            }
            _ => {
                bytes = size;
                batches.push(vec![entry]);
            }
        }
    }
    batches
}

async fn put(to: &dyn Store, batch: Vec<Entry>) -> Result<(), MigrateError> {
    let key = |entry: Option<&Entry>| entry.map_or_else(|| Arc::from(""), |entry| entry.key.clone());
    let (first, last) = (key(batch.first()), key(batch.last()));
    let since = to.barrier().await.map_err(MigrateError::Target)?;
    let txn = batch.into_iter().fold(Txn::new(), |txn, entry| {
        txn.absent(entry.key.clone()).put(entry.key, entry.value)
    });
    let id = txn.id();
    let committed = match to.commit(txn).await.map_err(MigrateError::Target)? {
        Commit::Committed(_) => true,
        Commit::Conflict => false,
        Commit::Unknown => to
            .settle(id, since)
            .await
            .map_err(MigrateError::Target)?
            .is_some(),
    };
    match committed {
        true => Ok(()),
        false => Err(MigrateError::Taken { first, last }),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::conformance::{committed, list_all};
    use crate::redb::RedbStore;

    #[tokio::test]
    async fn a_copy_is_equal_without_what_is_leased_and_overwrites_nothing() {
        let (from, to) = (RedbStore::ephemeral().unwrap(), RedbStore::ephemeral().unwrap());
        for n in 0..2500u32 {
            let size = if n % 500 == 0 { 400_000 } else { 10 };
            committed(&from, Txn::new().put(format!("k/{n}"), vec![7; size])).await;
        }
        let lease = from.lease_grant(Duration::from_secs(60)).await.unwrap();
        committed(&from, Txn::new().put_leased("leased", *b"", lease)).await;
        let mut seen = Vec::new();
        let copied = migrate(&from, &to, |progress| seen.push(progress)).await.unwrap();
        assert_eq!(copied, 2500);
        assert!(seen.contains(&Progress::Copied(2500)));
        let values = async |store: &RedbStore| {
            let (entries, _) = list_all(store, "k/", 1000).await;
            let values = entries.into_iter().map(|entry| (entry.key, entry.value));
            values.collect::<Vec<_>>()
        };
        assert_eq!(values(&from).await, values(&to).await);
        assert_eq!(to.get("leased").await.unwrap(), None);

        let again = migrate(&from, &to, |_| {}).await.unwrap_err();
        assert!(matches!(again, MigrateError::NotEmpty { key } if &*key == "k/0"));
        for damage in [
            Txn::new().put("k/7", *b"other"),
            Txn::new().delete("k/7"),
            Txn::new().put("z", *b""),
        ] {
            committed(&to, damage).await;
            let differs = compare(&from, &to, |_| {}).await.unwrap_err();
            assert!(matches!(differs, MigrateError::Differs { key } if ["k/7", "z"].contains(&&*key)));
            let value = from.get("k/7").await.unwrap().unwrap().value;
            committed(&to, Txn::new().put("k/7", value).delete("z")).await;
        }
    }

    #[test]
    fn batches_fit_transactions_and_keep_everything() {
        let entry = |n: usize, size: usize| Entry {
            key: format!("k{n}").into(),
            value: vec![0; size].into(),
            mod_revision: crate::Revision(1),
            create_revision: crate::Revision(1),
            lease: None,
        };
        let entries: Vec<_> = (0..200)
            .map(|n| entry(n, if n % 3 == 0 { 300_000 } else { 1 }))
            .collect();
        let batches = batches(entries.clone());
        for batch in &batches {
            let txn = batch.iter().fold(Txn::new(), |txn, entry| {
                txn.absent(entry.key.clone())
                    .put(entry.key.clone(), entry.value.clone())
            });
            txn.check().unwrap();
        }
        assert_eq!(batches.concat(), entries);
    }
}
