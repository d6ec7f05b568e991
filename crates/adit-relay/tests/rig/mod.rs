//! What the tests stand on: a relay in this process, in this thread's own network namespace, between
//! addresses of 127.0.0.0/8. Needs no root.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part of it")]
#![allow(
    clippy::unwrap_used,
    reason = "this is a test, though in no function that is marked so"
)]

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use adit_relay::{Admission, Config, Consumer, End, Listener, ListenerId, OwnerStats, Relay, Target};

pub const OWNER: u128 = 0x0a0d_1700;
pub const ENDPOINT: Ipv4Addr = Ipv4Addr::new(127, 18, 0, 1);
pub const SOURCE: Ipv4Addr = Ipv4Addr::new(127, 19, 128, 1);
/// A test that waits longer for something has failed. Nothing asserts that it is fast.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// One relay with one listener in front of one backend.
pub struct Rig {
    pub relay: Relay,
    pub id: ListenerId,
    pub endpoint: SocketAddrV4,
    pub backend: TcpListener,
}

impl Rig {
    pub fn new() -> Self {
        Self::with(config(), |_| {})
    }

    pub fn with(config: Config, adjust: impl FnOnce(&mut Listener)) -> Self {
        let backend = backend();
        let relay = Relay::start(config).unwrap();
        let mut listener = listener(address(&backend));
        adjust(&mut listener);
        let id = relay.open(listener).unwrap();
        let endpoint = relay.local_address(id).unwrap();
        Self {
            relay,
            id,
            endpoint,
            backend,
        }
    }

    /// Both ends of a fresh connection: the client's and the backend's.
    pub fn connection(&self) -> (TcpStream, TcpStream) {
        let client = connect(self.endpoint);
        let (accepted, from) = self.backend.accept().unwrap();
        assert_eq!(
            from.ip(),
            SOURCE,
            "the backend sees the endpoint's source address"
        );
        accepted.set_read_timeout(Some(PATIENCE)).unwrap();
        (client, accepted)
    }

    pub fn stats(&self) -> OwnerStats {
        stats(&self.relay, OWNER).expect("the owner is known")
    }

    /// Waits until bytes have gone to the client, and no more go, since nobody reads them.
    pub fn stands_still(&self) {
        eventually("the stream to stand still", || {
            let before = self.stats().bytes_to_client;
            std::thread::sleep(Duration::from_millis(50));
            before > 0 && self.stats().bytes_to_client == before
        });
    }

    /// Waits until `count` connections have ended so, and no other is alive.
    pub fn ended(&self, end: End, count: u64) {
        eventually(&format!("{count} × {}", end.name()), || {
            stats(&self.relay, OWNER).is_some_and(|stats| stats.ended(end) == count && stats.active == 0)
        });
    }
}

pub fn config() -> Config {
    Config {
        workers: 2,
        ..Config::default()
    }
}

pub fn here() -> Arc<OwnedFd> {
    Arc::new(File::open("/proc/thread-self/ns/net").unwrap().into())
}

pub fn backend() -> TcpListener {
    TcpListener::bind("127.17.0.1:0").unwrap()
}

pub fn address(listener: &TcpListener) -> SocketAddrV4 {
    match listener.local_addr().unwrap() {
        SocketAddr::V4(address) => address,
        SocketAddr::V6(_) => unreachable!("bound to IPv4"),
    }
}

pub fn target(backend: SocketAddrV4) -> Target {
    Target {
        namespace: here(),
        source: SOURCE,
        backend: backend.into(),
        header: None,
        toa: false,
    }
}

pub fn listener(backend: SocketAddrV4) -> Listener {
    Listener {
        owner: OWNER.into(),
        consumer: Consumer {
            namespace: here(),
            address: SocketAddrV4::new(ENDPOINT, 0),
        },
        provider: target(backend),
        admission: Admission::default(),
    }
}

pub fn connect(endpoint: SocketAddrV4) -> TcpStream {
    let client = TcpStream::connect(endpoint).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.set_write_timeout(Some(PATIENCE)).unwrap();
    client
}

pub fn stats(relay: &Relay, owner: u128) -> Option<OwnerStats> {
    relay
        .snapshot()
        .owners
        .into_iter()
        .find(|stats| stats.owner == owner)
}

pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain for: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The next thing that this end hears is a reset.
pub fn assert_reset(stream: &mut TcpStream) {
    let heard = stream.read(&mut [0; 1]);
    assert_eq!(
        heard.map_err(|error| error.kind()),
        Err(ErrorKind::ConnectionReset)
    );
}

/// The next thing that this end hears is the end.
pub fn assert_ended(stream: &mut TcpStream) {
    assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0);
}

/// A connect that is refused, or accepted by nobody and reset.
pub fn assert_refused(endpoint: SocketAddrV4) {
    let error = TcpStream::connect(endpoint).expect_err("the port must refuse");
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
}

/// Closes with a reset instead of an end.
pub fn reset(stream: TcpStream) {
    rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
    drop(stream);
}

/// Bytes that repeat with a prime period, so that a lost, doubled or swapped piece shows at once.
static PATTERN: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    (0..1_000_003)
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        })
        .collect()
});

/// The pattern from `at` on, as much as there is before it repeats.
fn pattern(at: u64) -> &'static [u8] {
    &PATTERN[(at % PATTERN.len() as u64) as usize..]
}

/// Writes `len` bytes of the pattern that starts at `seed`.
pub fn send(mut stream: &TcpStream, seed: u64, len: u64) -> io::Result<()> {
    let mut sent = 0;
    while sent < len {
        let piece = pattern(seed + sent);
        let piece = &piece[..piece.len().min((len - sent) as usize)];
        stream.write_all(piece)?;
        sent += piece.len() as u64;
    }
    Ok(())
}

/// Reads until `len` bytes are there or the peer ends; every byte must be the pattern's. Returns how many came.
pub fn receive(mut stream: &TcpStream, seed: u64, len: u64) -> io::Result<u64> {
    let mut buffer = vec![0; 128 << 10];
    let mut got = 0;
    while got < len {
        let room = buffer.len().min((len - got) as usize);
        let n = stream.read(&mut buffer[..room])?;
        if n == 0 {
            break;
        }
        let mut at = 0;
        while at < n {
            let expected = pattern(seed + got);
            let piece = expected.len().min(n - at);
            assert!(
                buffer[at..at + piece] == expected[..piece],
                "wrong bytes after {got}"
            );
            at += piece;
            got += piece as u64;
        }
    }
    Ok(got)
}

/// Reads to the end; exactly `len` bytes of the pattern must come before it.
pub fn receive_all(stream: &TcpStream, seed: u64, len: u64) {
    assert_eq!(receive(stream, seed, len + 1).unwrap(), len);
}

/// Descriptors that this process has open.
pub fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Threads of this process that are a relay's.
pub fn relay_threads() -> usize {
    let name =
        |task: io::Result<std::fs::DirEntry>| std::fs::read_to_string(task.ok()?.path().join("comm")).ok();
    std::fs::read_dir("/proc/self/task")
        .unwrap()
        .filter_map(name)
        .filter(|name| name.starts_with("adit-relay"))
        .count()
}
