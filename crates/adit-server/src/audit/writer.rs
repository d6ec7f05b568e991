//! How records get into the log: a bounded queue, and a thread that writes.
//!
//! A full queue makes requests wait, so that none is lost and memory has its bound. What is in the queue when [`Writer::close`]
//! is called is written before it returns. A record that the system does not take (a full disk) is lost, and said so in the
//! program's own log; the API goes on. A file is opened anew when [`Writer::reopen`] says so, for programs that rotate logs.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    thread,
};

use adit_model::sink::Sink;
use tokio::sync::{mpsc, oneshot};

use super::record::Record;

/// Records that may wait to be written, of about one kilobyte each.
const QUEUE_MAX: usize = 4096;
/// How many records are written at once.
const BATCH_MAX: usize = 256;

/// A place in the queue of the log.
pub(super) struct Place<'a>(mpsc::Permit<'a, Item>);

impl Place<'_> {
    pub(super) fn send(self, record: Record) {
        self.0.send(Item::Record(Box::new(record)));
    }
}

enum Item {
    Record(Box<Record>),
    /// What follows is for the file that has the name now.
    Reopen,
    /// Everything before it has been written when this is dropped.
    End(oneshot::Sender<()>),
}

/// Takes records.
#[derive(Clone)]
pub struct AuditLog(mpsc::Sender<Item>);

/// Writes them.
pub struct Writer(mpsc::Sender<Item>);

impl AuditLog {
    /// Opens the log of a region.
    ///
    /// # Errors
    /// Where the file cannot be opened, or the system has no thread left.
    pub fn open(sink: &Sink, region: &str) -> io::Result<(Self, Writer)> {
        let out = match sink {
            Sink::Stdout => Out::new(Box::new(io::stdout()), None),
            Sink::File(path) => Out::new(Box::new(append(path)?), Some(path.clone())),
        };
        let (sender, receiver) = mpsc::channel(QUEUE_MAX);
        let region = region.to_owned();
        thread::Builder::new()
            .name("audit".to_owned())
            .spawn(move || run(receiver, out, &region))?;
        Ok((Self(sender.clone()), Writer(sender)))
    }

    /// Waits for a place in the queue. None once the log is closed.
    pub(super) async fn reserve(&self) -> Option<Place<'_>> {
        self.0.reserve().await.ok().map(Place)
    }

    /// Puts a record into the queue without waiting; where that is full, somebody else waits.
    pub(super) fn put(&self, record: Record) {
        if !put(&self.0, Item::Record(Box::new(record))) {
            tracing::error!("A record came after the audit log was closed, and is lost.");
        }
    }
}

/// Puts something into the queue without waiting; false once the log is closed.
fn put(queue: &mpsc::Sender<Item>, item: Item) -> bool {
    match (queue.try_send(item), tokio::runtime::Handle::try_current()) {
        (Ok(()), _) => true,
        (Err(mpsc::error::TrySendError::Full(item)), Ok(runtime)) => {
            let queue = queue.clone();
            runtime.spawn(async move { queue.send(item).await });
            true
        }
        (Err(_), _) => false,
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)
}

impl Writer {
    /// Has the file opened anew, since it was renamed: what is recorded from now on is in the new one.
    pub fn reopen(&self) {
        put(&self.0, Item::Reopen);
    }

    /// Waits until everything that was recorded so far is written.
    pub async fn close(self) {
        let (end, ended) = oneshot::channel();
        if self.0.send(Item::End(end)).await.is_ok() {
            // An error is its answer: the sender is dropped when all is written.
            let _ = ended.await;
        }
    }
}

/// The end that lines go to.
struct Out {
    to: Box<dyn Write + Send>,
    /// Where it is a file: its name.
    path: Option<PathBuf>,
    lines: Vec<u8>,
    /// How many records are in `lines`.
    records: usize,
    /// A line that was written in part ends before the next begins.
    torn: bool,
}

impl Out {
    fn new(to: Box<dyn Write + Send>, path: Option<PathBuf>) -> Self {
        Self {
            to,
            path,
            lines: Vec::new(),
            records: 0,
            torn: false,
        }
    }

    fn add(&mut self, line: Vec<u8>) {
        if self.torn && self.lines.is_empty() {
            self.lines.push(b'\n');
        }
        self.lines.extend(line);
        self.records += 1;
    }

    /// Writes what there is.
    fn write(&mut self) {
        if self.lines.is_empty() {
            return;
        }
        let written = self.to.write_all(&self.lines).and_then(|()| self.to.flush());
        self.torn = written.is_err();
        if let Err(e) = written {
            let records = self.records;
            tracing::error!(error = %e, audit.records = records, "Records of the audit log could not be written, and are lost.");
        }
        self.lines.clear();
        self.records = 0;
    }

    /// Goes on in the file of the same name as it is now; in the former one where that cannot be had.
    fn reopen(&mut self) {
        self.write();
        let Some(path) = &self.path else { return };
        match append(path) {
            Ok(fresh) => {
                self.to = Box::new(fresh);
                self.torn = false;
            }
            Err(e) => {
                tracing::error!(error = %e, audit.path = %path.display(), "The audit log cannot be opened anew; it goes on in the former file.");
            }
        }
    }
}

fn run(mut queue: mpsc::Receiver<Item>, mut out: Out, region: &str) {
    let mut batch = Vec::with_capacity(BATCH_MAX);
    while queue.blocking_recv_many(&mut batch, BATCH_MAX) > 0 {
        let mut ends = Vec::new();
        for item in batch.drain(..) {
            match item {
                Item::Record(record) => out.add(record.line(region)),
                Item::Reopen => out.reopen(),
                Item::End(end) => ends.push(end),
            }
        }
        out.write();
        drop(ends);
    }
}

#[cfg(test)]
mod tests {
    use axum::http::Method;

    use super::*;
    use crate::audit::record::Attempt;

    fn record(n: usize) -> Record {
        let path = format!("/v1/P/vpc-endpoints/{n}");
        Record {
            attempt: Attempt::new(
                &Method::DELETE,
                "/v1/{project_id}/vpc-endpoints/{id}",
                &path,
                None,
                None,
            ),
            initiator: None,
            outcome: None,
        }
    }

    #[tokio::test]
    async fn closing_waits_for_everything_that_was_recorded() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.jsonl");
        std::fs::write(&path, "before\n").unwrap();
        let (log, writer) = AuditLog::open(&path.to_str().unwrap().parse().unwrap(), "eu-de").unwrap();
        // More than the queue holds, so that some of them wait.
        let many = 3 * QUEUE_MAX;
        for n in 0..many {
            if n % 2 == 0 {
                log.reserve().await.unwrap().send(record(n));
            } else {
                log.put(record(n));
                tokio::task::yield_now().await;
            }
        }
        writer.close().await;
        let text = std::fs::read_to_string(&path).unwrap();
        let mut lines = text.lines();
        assert_eq!(lines.next(), Some("before"));
        let mut seen: Vec<usize> = lines
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
            .map(|event| event["target"]["id"].as_str().unwrap().parse().unwrap())
            .collect();
        seen.sort_unstable();
        assert_eq!(seen, (0..many).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn a_file_that_was_renamed_keeps_what_came_before() {
        let directory = tempfile::tempdir().unwrap();
        let (path, old) = (
            directory.path().join("audit.jsonl"),
            directory.path().join("audit.1"),
        );
        let (log, writer) = AuditLog::open(&Sink::File(path.clone()), "eu-de").unwrap();
        log.put(record(1));
        std::fs::rename(&path, &old).unwrap();
        log.put(record(2));
        writer.reopen();
        log.put(record(3));
        writer.close().await;
        let ids = |path: &Path| -> Vec<String> {
            let text = std::fs::read_to_string(path).unwrap_or_default();
            let events = text
                .lines()
                .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
            events
                .map(|event| event["target"]["id"].as_str().unwrap().to_owned())
                .collect()
        };
        assert_eq!(
            (ids(&old), ids(&path)),
            (vec!["1".into(), "2".into()], vec!["3".into()])
        );
    }

    #[test]
    fn a_failed_write_ends_the_torn_line_and_loses_no_later_record() {
        /// Takes half of the first line, then nothing once, then everything.
        struct Full(std::sync::Arc<parking_lot::Mutex<Vec<u8>>>, u8);
        impl Write for Full {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.1 = self.1.saturating_add(1);
                let n = match self.1 {
                    1 => bytes.len() / 2,
                    2 => return Err(io::ErrorKind::StorageFull.into()),
                    _ => bytes.len(),
                };
                self.0.lock().extend(&bytes[..n]);
                Ok(n)
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let written = std::sync::Arc::default();
        let out = Out::new(Box::new(Full(std::sync::Arc::clone(&written), 0)), None);
        let (sender, receiver) = mpsc::channel(4);
        let writer = thread::spawn(move || run(receiver, out, "eu-de"));
        for n in 0..2 {
            sender.blocking_send(Item::Record(Box::new(record(n)))).unwrap();
            let (end, ended) = oneshot::channel();
            sender.blocking_send(Item::End(end)).unwrap();
            let _ = ended.blocking_recv();
        }
        drop(sender);
        writer.join().unwrap();
        let text = String::from_utf8(written.lock().clone()).unwrap();
        let whole: Vec<_> = text
            .lines()
            .filter(|line| serde_json::from_str::<serde_json::Value>(line).is_ok())
            .collect();
        assert_eq!(whole.len(), 1, "{text}");
        assert!(whole[0].contains("\"id\":\"1\""), "{text}");
    }
}
