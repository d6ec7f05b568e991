//! The store: a versioned key-value store with watch, and the cache that follows it.
//!
//! Owns the [`Store`] trait, two engines behind it (the embedded [`RedbStore`], and [`EtcdStore`] for more than one machine), and the watch [`Cache`] that keeps a
//! whole subtree in memory. It moves bytes: what a key means and how a document is encoded is decided above.
//! Never decides a rule of the product, never retries a commit on its own.
//!
//! Read next: [`store`] (the trait), then [`cache`], then [`redb`] and [`etcd`].

pub mod cache;
pub mod check;
pub mod conformance;
pub mod etcd;
pub mod keys;
pub mod migrate;
pub mod redb;
pub mod state;
pub mod store;
pub mod txn;

pub use cache::{Cache, CacheError, Notice, Notices, ReadGuard, View};
pub use etcd::{EtcdConfig, EtcdStore};
pub use keys::Key;
pub use redb::{OpenError, RedbStore};
pub use state::{State, Stored};
pub use store::{
    Batch, Change, Commit, Entry, Incarnation, LeaseId, Page, PageToken, ResumeToken, Revision, Store,
    StoreError, Watch, WatchError,
};
pub use txn::{CommitId, Compare, Txn, Write};
