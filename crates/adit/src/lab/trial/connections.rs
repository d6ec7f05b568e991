//! Clients of the endpoint: new connections without a pause, and one that is to live for long.

use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use adit_netns::Namespace;
use parking_lot::Mutex;

/// How many threads open new ones: so that one which waits for a dead gateway does not hide that another is there.
const OPENERS: usize = 3;
/// How long a new one may take, with its echo.
const TIMEOUT: Duration = Duration::from_millis(300);
/// How long a thread rests between two.
const PACE: Duration = Duration::from_millis(10);
/// How often the long one asks for its echo, and how long that may take: longer than a fault.
const BEAT: Duration = Duration::from_millis(20);
const PATIENCE: Duration = Duration::from_secs(8);

/// What was seen.
#[derive(Debug, Default)]
struct Seen {
    successes: Vec<Instant>,
    errors: BTreeMap<String, u32>,
    /// How often the long one has ended, and by what.
    ends: BTreeMap<String, u32>,
    /// Its moments of success.
    echoes: Vec<Instant>,
}

/// What clients saw since [`Connections::begin`].
#[derive(Clone, Debug)]
pub struct Shown {
    /// Moments at which a new connection had its echo.
    pub successes: Vec<Instant>,
    /// What others met with.
    pub errors: BTreeMap<String, u32>,
    /// How often, and by what, the long one ended.
    pub ends: BTreeMap<String, u32>,
    /// Moments at which it had its echo.
    pub echoes: Vec<Instant>,
}

/// Running clients.
#[derive(Debug)]
pub struct Connections {
    seen: Arc<Mutex<Seen>>,
    end: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Connections {
    /// Starts them inside `client`.
    #[must_use]
    pub fn start(client: &Namespace, to: SocketAddr) -> Self {
        let (seen, end) = (
            Arc::new(Mutex::new(Seen::default())),
            Arc::new(AtomicBool::new(false)),
        );
        let thread = |long: bool| {
            let (seen, end, client) = (Arc::clone(&seen), Arc::clone(&end), client.clone());
            std::thread::spawn(move || {
                let ran = client.run(|| match long {
                    true => live(to, &seen, &end),
                    false => open(to, &seen, &end),
                });
                if let Err(e) = ran {
                    *seen
                        .lock()
                        .errors
                        .entry(format!("no namespace: {e}"))
                        .or_default() += 1;
                }
            })
        };
        let threads = (0..OPENERS)
            .map(|_| thread(false))
            .chain([thread(true)])
            .collect();
        Self { seen, end, threads }
    }

    /// Forgets what was seen.
    pub fn begin(&self) {
        *self.seen.lock() = Seen::default();
    }

    /// What was seen.
    #[must_use]
    pub fn shown(&self) -> Shown {
        let seen = self.seen.lock();
        Shown {
            successes: seen.successes.clone(),
            errors: seen.errors.clone(),
            ends: seen.ends.clone(),
            echoes: seen.echoes.clone(),
        }
    }

    /// Ends them.
    pub fn stop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Drop for Connections {
    fn drop(&mut self) {
        self.stop();
    }
}

fn open(to: SocketAddr, seen: &Mutex<Seen>, end: &AtomicBool) {
    while !end.load(Ordering::Relaxed) {
        let opened = connect(to, TIMEOUT);
        let mut seen = seen.lock();
        match opened {
            Ok(_) => seen.successes.push(Instant::now()),
            Err(e) => *seen.errors.entry(word(&e)).or_default() += 1,
        }
        drop(seen);
        std::thread::sleep(PACE);
    }
}

fn live(to: SocketAddr, seen: &Mutex<Seen>, end: &AtomicBool) {
    let mut stream = None;
    while !end.load(Ordering::Relaxed) {
        let echoed = match &mut stream {
            None => connect(to, TIMEOUT).and_then(|fresh| {
                fresh.set_read_timeout(Some(PATIENCE))?;
                stream = Some(fresh);
                Ok(())
            }),
            Some(stream) => {
                let echoed = echo(stream);
                echoed.inspect_err(|e| {
                    *seen.lock().ends.entry(word(e)).or_default() += 1;
                })
            }
        };
        match echoed {
            Ok(()) => seen.lock().echoes.push(Instant::now()),
            Err(_) => stream = None,
        }
        std::thread::sleep(BEAT);
    }
}

fn connect(to: SocketAddr, timeout: Duration) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect_timeout(&to, timeout)?;
    stream.set_read_timeout(Some(timeout))?;
    echo(&mut stream)?;
    Ok(stream)
}

fn echo(stream: &mut TcpStream) -> io::Result<()> {
    stream.write_all(b"ping")?;
    let mut four = [0; 4];
    stream.read_exact(&mut four)?;
    match &four == b"ping" {
        true => Ok(()),
        false => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// An error in one word.
fn word(e: &io::Error) -> String {
    match e.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => "timeout".to_owned(),
        io::ErrorKind::ConnectionRefused => "refused".to_owned(),
        io::ErrorKind::ConnectionReset => "reset".to_owned(),
        io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof => "ended".to_owned(),
        io::ErrorKind::HostUnreachable => "no neighbour".to_owned(),
        io::ErrorKind::InvalidData => "WRONG BYTES".to_owned(),
        other => other.to_string(),
    }
}
