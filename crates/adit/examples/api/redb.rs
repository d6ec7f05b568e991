//! redb alone: clients that hand their records to one writer, which commits all that wait with one fsync.
//!
//! The same number of records, keys and values of the same size, the same durability, and no more: nothing is compared,
//! nothing is told to anybody but that it is durable.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use redb::{Database, TableDefinition};
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

const ENTRIES: TableDefinition<&str, &[u8]> = TableDefinition::new("entries");
const COMMITS: TableDefinition<u64, u128> = TableDefinition::new("commits");
/// The next slot.
static NUMBER: AtomicU64 = AtomicU64::new(1);
const META: TableDefinition<&str, u128> = TableDefinition::new("meta");

/// A record of one create, as one was seen.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    /// Its key.
    pub(crate) key: String,
    /// The size of its value.
    pub(crate) bytes: usize,
}

impl Record {
    /// The key that another create would have written: guards belong to the parents, which stay the same; slots are numbered;
    /// everything else has a random name of its own.
    pub(crate) fn key(&self, id: Uuid, number: u64) -> String {
        let (path, _) = self.key.rsplit_once('/').unwrap();
        match path.split('/').next() {
            Some("guard") => self.key.clone(),
            Some("quota") => format!("{path}/{number}"),
            Some("marker") => format!("{path}/{}", id.as_fields().0),
            _ => format!("{path}/{id}"),
        }
    }
}

struct Request {
    entries: Vec<(String, Vec<u8>)>,
    done: oneshot::Sender<()>,
}

/// What a run did.
pub(crate) struct Ran {
    /// Creates a second.
    pub(crate) rate: f64,
    /// Creates that shared one fsync, on the average.
    pub(crate) batch: f64,
}

/// A database, kept between rounds.
pub(crate) struct Bare {
    database: Arc<Database>,
    committed: u64,
}

impl Bare {
    pub(crate) fn open(path: &Path) -> Self {
        Self {
            database: Arc::new(Database::create(path).unwrap()),
            committed: 0,
        }
    }

    /// Lets so many clients create one after the other for some seconds.
    pub(crate) fn run(&mut self, records: &[Record], clients: usize, seconds: u64) -> Ran {
        let (sender, receiver) = mpsc::channel(2 * clients);
        let database = Arc::clone(&self.database);
        let first = self.committed;
        let writer = std::thread::spawn(move || write(&database, receiver, first));
        let started = Instant::now();
        let runtime = tokio::runtime::Builder::new_multi_thread().build().unwrap();
        let tasks: Vec<_> = (0..clients)
            .map(|_| runtime.spawn(client(sender.clone(), records.to_vec(), started, seconds)))
            .collect();
        drop(sender);
        for task in tasks {
            runtime.block_on(task).unwrap();
        }
        let elapsed = started.elapsed().as_secs_f64();
        let (creates, commits) = writer.join().unwrap();
        self.committed += creates;
        Ran {
            rate: creates as f64 / elapsed,
            batch: creates as f64 / commits as f64,
        }
    }
}

async fn client(sender: mpsc::Sender<Request>, records: Vec<Record>, started: Instant, seconds: u64) {
    while started.elapsed().as_secs() < seconds {
        let id = Uuid::new_v4();
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let entry = |record: &Record| (record.key(id, number), vec![b'x'; record.bytes]);
        let (done, answer) = oneshot::channel();
        let entries = records.iter().map(entry).collect();
        sender.send(Request { entries, done }).await.ok().unwrap();
        answer.await.unwrap();
    }
}

/// Answers how many creates there were, and how many commits.
fn write(database: &Database, mut receiver: mpsc::Receiver<Request>, first: u64) -> (u64, u64) {
    let (mut creates, mut commits) = (0, 0);
    let mut waiting = Vec::new();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    while runtime.block_on(receiver.recv_many(&mut waiting, 256)) > 0 {
        let txn = database.begin_write().unwrap();
        {
            let mut entries = txn.open_table(ENTRIES).unwrap();
            let mut ids = txn.open_table(COMMITS).unwrap();
            for request in &waiting {
                for (key, value) in &request.entries {
                    entries.insert(key.as_str(), value.as_slice()).unwrap();
                }
                creates += 1;
                ids.insert(first + creates, Uuid::new_v4().as_u128()).unwrap();
            }
            let mut meta = txn.open_table(META).unwrap();
            meta.insert("revision", u128::from(first + creates)).unwrap();
        }
        txn.commit().unwrap();
        commits += 1;
        for request in waiting.drain(..) {
            let _ = request.done.send(());
        }
    }
    (creates, commits)
}
