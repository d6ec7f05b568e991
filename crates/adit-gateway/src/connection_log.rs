//! The connection log: one JSON line for each connection that has ended, refused ones included.
//!
//! Owns the form of a line and the thread that writes; workers only put records into a bounded queue (`adit-relay`), and what
//! finds no place there, or is not taken by the system, is lost and counted. Written in batches, a hundred milliseconds
//! behind at most. A file is appended to, and opened anew when [`ConnectionLog::reopen`] says so, for programs that rotate logs;
//! how it stays bounded by itself is `out`'s.

mod out;

use std::{
    io::{self, BufRead},
    net::SocketAddrV4,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
        mpsc::{self, Receiver, RecvTimeoutError},
    },
    thread,
    time::{Duration, SystemTime},
};

use adit_model::{
    id::{EndpointId, ServiceId},
    sink::Sink,
};
use adit_relay::{Record, Recorder};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use out::Out;
pub use out::{Bounds, files};

/// Records that may wait to be written, of about 200 bytes each: two seconds' worth of what a gateway can take in.
const QUEUE_MAX: usize = 16_384;
/// Records written at once.
const BATCH_MAX: usize = 1_024;
/// How long records are gathered, so that workers need not wake anybody for each, and how often it is looked whether the file
/// is to be opened anew.
const PAUSE: Duration = Duration::from_millis(100);
/// How long an end waits for whoever takes no lines any more: a pipe whose reader stands still.
const CLOSE_PATIENCE: Duration = Duration::from_secs(3);

/// One connection, as the log and `adit who` tell of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// When the client was accepted.
    pub began: Timestamp,
    /// When it ended; absent while it lives.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ended: Option<Timestamp>,
    /// The service.
    pub service: ServiceId,
    /// The endpoint.
    pub endpoint: EndpointId,
    /// The endpoint's marker id.
    pub marker_id: u32,
    /// Where the client came from.
    pub client: SocketAddrV4,
    /// Where it connected to.
    pub address: SocketAddrV4,
    /// Where the backend saw it come from; absent for a client that was refused before that was known.
    pub source: Option<SocketAddrV4>,
    /// The backend that it was, or would have been, for.
    pub backend: SocketAddrV4,
    /// How long the backend took to answer, in microseconds; absent if it never did.
    pub connect_us: Option<u64>,
    /// Bytes from the client to the backend.
    pub bytes_to_backend: u64,
    /// Bytes from the backend to the client.
    pub bytes_to_client: u64,
    /// Why it ended; absent while it lives.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub end: Option<String>,
}

impl From<Record> for Entry {
    fn from(record: Record) -> Self {
        // To the microsecond: what is finer is not known of two clocks.
        let at = |time: SystemTime| {
            let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            let us = i64::try_from(since.as_micros()).unwrap_or(i64::MAX);
            Timestamp::from_microsecond(us).unwrap_or(Timestamp::MAX)
        };
        Self {
            began: at(record.began),
            ended: record.end.map(|_| at(record.began + record.lasted)),
            service: ServiceId(Uuid::from_u128(record.owner.service)),
            endpoint: EndpointId(Uuid::from_u128(record.owner.endpoint)),
            marker_id: record.owner.marker,
            client: record.client,
            address: record.endpoint,
            source: record.source,
            backend: record.backend,
            connect_us: record
                .connected_after
                .map(|after| u64::try_from(after.as_micros()).unwrap_or(u64::MAX)),
            bytes_to_backend: record.bytes_to_backend,
            bytes_to_client: record.bytes_to_client,
            end: record.end.map(|end| end.name().to_owned()),
        }
    }
}

impl Entry {
    /// Whether it was alive at some moment from one to another; one that lives has until `now`.
    pub fn lived_within(&self, from: Timestamp, to: Timestamp, now: Timestamp) -> bool {
        self.began <= to && from <= self.ended.unwrap_or(now)
    }
}

/// The entries of a log whose backends saw their clients come from `source`, in the order of their lines. Lines that are none
/// are passed over: a disk may have been full.
///
/// # Errors
/// Where the log cannot be read.
pub fn find(log: impl BufRead, source: SocketAddrV4) -> io::Result<Vec<Entry>> {
    let wanted = format!("\"source\":\"{source}\"");
    let mut found = Vec::new();
    for line in log.split(b'\n') {
        let line = line?;
        // Most lines are somebody else's, and need no reading.
        let maybe = line.windows(wanted.len()).any(|part| part == wanted.as_bytes());
        let entry = maybe
            .then(|| serde_json::from_slice::<Entry>(&line).ok())
            .flatten();
        found.extend(entry.filter(|entry| entry.source == Some(source)));
    }
    Ok(found)
}

/// What the writer is told.
#[derive(Debug, Default)]
struct Word {
    reopen: AtomicBool,
    close: AtomicBool,
    lost: AtomicU64,
    /// Counts what was written at once.
    written: AtomicU64,
}

/// How many records have been lost, for whoever counts them.
#[derive(Clone, Debug)]
pub struct Losses {
    recorder: Recorder,
    word: Arc<Word>,
}

impl Losses {
    /// Records that were lost so far: the queue was full, or the system did not take them.
    pub fn count(&self) -> u64 {
        self.recorder.dropped() + self.word.lost.load(Relaxed)
    }
}

/// The log of a gateway.
#[derive(Debug)]
pub struct ConnectionLog {
    recorder: Recorder,
    word: Arc<Word>,
    /// Ends with the writer.
    writer: Receiver<()>,
}

impl ConnectionLog {
    /// Opens it; in files it stays within the bounds.
    ///
    /// # Errors
    /// Where the file cannot be opened, or the system has no thread left.
    pub fn open(sink: &Sink, bounds: Bounds) -> io::Result<Self> {
        Self::of(Out::open(sink, bounds)?)
    }

    fn of(out: Out) -> io::Result<Self> {
        let (recorder, records) = Recorder::new(QUEUE_MAX);
        let word = Arc::new(Word::default());
        let told = Arc::clone(&word);
        let (ended, writer) = mpsc::channel();
        thread::Builder::new()
            .name("connection-log".to_owned())
            .spawn(move || {
                run(&records, out, &told);
                drop(ended);
            })?;
        Ok(Self {
            recorder,
            word,
            writer,
        })
    }

    /// For the relay.
    pub fn recorder(&self) -> Recorder {
        self.recorder.clone()
    }

    /// Has the file opened anew: it was renamed.
    pub fn reopen(&self) {
        self.word.reopen.store(true, Relaxed);
    }

    /// What counts the records that were lost.
    pub fn losses(&self) -> Losses {
        Losses {
            recorder: self.recorder.clone(),
            word: Arc::clone(&self.word),
        }
    }

    /// Writes what has been recorded so far, and ends. Blocks for as long, but not on a reader that stands still.
    pub fn close(self) {
        self.close_within(CLOSE_PATIENCE);
    }

    fn close_within(self, patience: Duration) {
        self.word.close.store(true, Relaxed);
        // Nothing is ever sent: it ends by itself, or does not in time.
        let mut written = self.word.written.load(Relaxed);
        while let Err(RecvTimeoutError::Timeout) = self.writer.recv_timeout(patience) {
            let now = self.word.written.load(Relaxed);
            if now == written {
                tracing::error!(
                    "Nobody takes the lines of the connection log; what has not been written is lost."
                );
                return;
            }
            written = now;
        }
    }
}

fn run(records: &Receiver<Record>, mut out: Out, word: &Word) {
    let mut lines = Vec::new();
    // A line that was written in part ends before the next begins.
    let mut torn = false;
    loop {
        // Read first: what was recorded before the word is written before the end.
        let closing = word.close.load(Relaxed);
        let first = match records.recv_timeout(if closing { Duration::ZERO } else { PAUSE }) {
            Ok(record) => Some(record),
            Err(RecvTimeoutError::Timeout) if !closing => None,
            Err(_) => return,
        };
        if word.reopen.swap(false, Relaxed) {
            out.reopen();
        }
        let Some(first) = first else { continue };
        if !closing {
            thread::sleep(PAUSE);
        }
        let mut count = 0;
        if torn {
            lines.push(b'\n');
        }
        for record in std::iter::once(first).chain(records.try_iter()).take(BATCH_MAX) {
            // An entry is a struct with string keys, which always has a JSON form.
            if serde_json::to_writer(&mut lines, &Entry::from(record)).is_ok() {
                lines.push(b'\n');
            }
            count += 1;
        }
        let written = out.write(&lines);
        word.written.fetch_add(1, Relaxed);
        lines.clear();
        // Said at its beginning and at its end: a disk may be full for days.
        match (&written, torn) {
            (Err(e), false) => {
                tracing::error!(error = %e, "Records of the connection log cannot be written, and are lost.");
            }
            (Ok(()), true) => {
                let lost = word.lost.load(Relaxed);
                tracing::warn!(log.records_lost = lost, "The connection log is written again.");
            }
            _ => {}
        }
        torn = written.is_err();
        if torn {
            word.lost.fetch_add(count, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write,
        path::{Path, PathBuf},
    };

    use adit_relay::{End, Owner};
    use parking_lot::Mutex;

    use super::*;

    fn record(port: u16, end: Option<End>) -> Record {
        Record {
            owner: Owner {
                endpoint: 7,
                service: 3,
                marker: 201_515_772,
            },
            client: "10.0.0.20:51234".parse().unwrap(),
            endpoint: "10.0.0.9:8080".parse().unwrap(),
            source: Some(SocketAddrV4::new([198, 19, 140, 7].into(), port)),
            backend: "10.0.0.10:80".parse().unwrap(),
            began: SystemTime::UNIX_EPOCH + Duration::from_micros(1_800_000_000_000_123),
            lasted: Duration::from_millis(1_500),
            connected_after: Some(Duration::from_micros(250)),
            bytes_to_backend: 5,
            bytes_to_client: 6,
            end,
        }
    }

    fn file(name: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        (folder, path)
    }

    #[test]
    fn a_line_says_it_all_and_reads_back() {
        let entry = Entry::from(record(41_001, Some(End::Closed)));
        let line = serde_json::to_string(&entry).unwrap();
        insta::assert_snapshot!(line, @r#"{"began":"2027-01-15T08:00:00.000123Z","ended":"2027-01-15T08:00:01.500123Z","service":"00000000-0000-0000-0000-000000000003","endpoint":"00000000-0000-0000-0000-000000000007","marker_id":201515772,"client":"10.0.0.20:51234","address":"10.0.0.9:8080","source":"198.19.140.7:41001","backend":"10.0.0.10:80","connect_us":250,"bytes_to_backend":5,"bytes_to_client":6,"end":"closed"}"#);
        assert_eq!(serde_json::from_str::<Entry>(&line).unwrap(), entry);
        let live = Entry::from(record(1, None));
        assert_eq!((live.ended, &live.end), (None, &None));
    }

    #[test]
    fn it_is_found_by_what_the_backend_saw_and_by_when() {
        let lines = [
            record(41_001, Some(End::Closed)),
            record(4_100, Some(End::Idle)),
            record(41_001, Some(End::Cut)),
        ];
        let mut text: Vec<u8> = Vec::new();
        for record in lines {
            serde_json::to_writer(&mut text, &Entry::from(record)).unwrap();
            text.extend_from_slice(b"\n{torn\n\xff\n");
        }
        let found = find(&*text, "198.19.140.7:41001".parse().unwrap()).unwrap();
        let ends: Vec<_> = found.iter().map(|entry| entry.end.as_deref()).collect();
        assert_eq!(ends, [Some("closed"), Some("cut")]);
        let moment = |text: &str| text.parse::<Timestamp>().unwrap();
        for (at, lived) in [
            ("2027-01-15T08:00:00Z", false),
            ("2027-01-15T08:00:00.000123Z", true),
            ("2027-01-15T08:00:01.500123Z", true),
            ("2027-01-15T08:00:01.500124Z", false),
        ] {
            let at = moment(at);
            assert_eq!(found[0].lived_within(at, at, Timestamp::MAX), lived, "{at}");
        }
        let [before, after] = ["2027-01-15T08:00:00Z", "2027-01-15T08:00:02Z"].map(moment);
        assert!(found[0].lived_within(before, after, after));
        let live = Entry::from(record(1, None));
        assert!(live.lived_within(after, after, after) && !live.lived_within(after, after, before));
    }

    #[test]
    fn closing_writes_everything_and_a_renamed_file_is_left_alone() {
        let (folder, path) = file("connections.jsonl");
        let log = ConnectionLog::open(&Sink::File(path.clone()), Bounds::NONE).unwrap();
        log.recorder.put(record(1, Some(End::Closed)));
        let deadline = std::time::Instant::now() + Duration::from_secs(30);
        let lines = |path: &Path| std::fs::read_to_string(path).map_or(0, |text| text.lines().count());
        while lines(&path) < 1 {
            assert!(std::time::Instant::now() < deadline, "it is not written");
            thread::yield_now();
        }
        let rotated = folder.path().join("connections.jsonl.1");
        std::fs::rename(&path, &rotated).unwrap();
        log.reopen();
        while !path.exists() {
            assert!(std::time::Instant::now() < deadline, "it is not opened anew");
            thread::yield_now();
        }
        for port in 2..2_002 {
            log.recorder.put(record(port, Some(End::Closed)));
        }
        assert_eq!(log.losses().count(), 0);
        log.close();
        assert_eq!((lines(&rotated), lines(&path)), (1, 2_000));
    }

    #[test]
    fn a_reader_that_stands_still_does_not_hold_up_the_end() {
        let (reader, writer) = io::pipe().unwrap();
        let log = ConnectionLog::of(Out::Stdout(std::os::fd::OwnedFd::from(writer).into())).unwrap();
        // More than a pipe takes in.
        for port in 0..2_000 {
            log.recorder.put(record(port, Some(End::Closed)));
        }
        log.close_within(Duration::from_millis(200));
        drop(reader);
    }

    #[test]
    fn a_full_disk_loses_what_it_does_not_take_and_no_later_line() {
        /// Takes half of the first batch, then everything.
        struct Full(Arc<Mutex<Vec<u8>>>, bool);
        impl Write for Full {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                if std::mem::replace(&mut self.1, true) {
                    self.0.lock().extend(bytes);
                    return Ok(bytes.len());
                }
                self.0.lock().extend(&bytes[..bytes.len() / 2]);
                Err(io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let written = Arc::default();
        let (recorder, records) = Recorder::new(10);
        let word = Word::default();
        let out = Out::Test(Box::new(Full(Arc::clone(&written), false)));
        thread::scope(|scope| {
            scope.spawn({
                let word = &word;
                move || run(&records, out, word)
            });
            recorder.put(record(1, Some(End::Closed)));
            while word.lost.load(Relaxed) < 1 {
                thread::yield_now();
            }
            recorder.put(record(2, Some(End::Closed)));
            word.close.store(true, Relaxed);
        });
        let text = written.lock().clone();
        let found = find(&*text, "198.19.140.7:2".parse().unwrap()).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(word.lost.load(Relaxed), 1);
    }
}
