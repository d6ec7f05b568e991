//! What is measured: loads that a process inside the client's namespace makes.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, SocketAddrV4, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use crate::gateway::{Gateway, direct};
use crate::server::{ECHO, HOLD, QUIET, SINK};
use crate::topology::{Place, Process, Topology};

/// A load that takes all it can get.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Kind {
    /// One stream of bytes.
    Bulk1,
    /// Eight at a time.
    Bulk8,
    /// Connect, one byte there and back, close; by 16 clients.
    Connections,
    /// 64 bytes there and back on open connections, 32 of them.
    Requests,
}

/// Clients that connect again and again.
const CONNECTORS: usize = 16;
/// Connections that requests travel on.
const REQUESTERS: usize = 32;
/// Connections of a paced load.
const PACED: usize = 8;
/// Bytes of a request.
const REQUEST_BYTES: usize = 64;
/// What one write of a bulk connection is given.
const CHUNK_BYTES: usize = 128 << 10;
/// Requests per second on the quiet endpoint while another is flooded.
const QUIET_RATE: f64 = 400.0;

impl Kind {
    pub(crate) const PEAK: [Self; 4] = [Self::Bulk1, Self::Bulk8, Self::Connections, Self::Requests];

    pub(crate) fn is_bulk(self) -> bool {
        matches!(self, Self::Bulk1 | Self::Bulk8)
    }

    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Bulk1 => "bulk1",
            Self::Bulk8 => "bulk8",
            Self::Connections => "connections",
            Self::Requests => "requests",
        }
    }
}

/// What came of a load: bytes, connections or requests.
pub(crate) struct Measured {
    /// Per second.
    pub(crate) rate: f64,
    /// In all.
    pub(crate) count: f64,
}

/// Microseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Latency {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
}

/// The 99th percentile on one endpoint: alone, while another takes bytes in bulk, while another takes new connections. And what
/// a client sees that goes past the gateway, by routes, beside the same bytes in bulk through it: what the two cores do to
/// everybody.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fairness {
    pub(crate) quiet: f64,
    pub(crate) beside_bulk: f64,
    pub(crate) past_bulk: f64,
    pub(crate) beside_connections: f64,
}

pub(crate) fn run(topology: &Topology, target: SocketAddrV4, kind: Kind, span: Duration) -> Measured {
    let [seconds, count] = answer(start(topology, Place::Anywhere, kind.word(), target, span, 0.0));
    Measured {
        rate: count / seconds,
        count,
    }
}

/// Sends at a fixed rate, whatever the answers do, and says how long they took, counted from when each was due.
pub(crate) fn paced(
    topology: &Topology,
    place: Place,
    target: SocketAddrV4,
    rate: f64,
    span: Duration,
) -> Latency {
    let [p50, p99] = answer(start(topology, place, "paced", target, span, rate));
    Latency { p50, p99 }
}

pub(crate) fn fairness(topology: &Topology, gateway: &Gateway, span: Duration) -> Fairness {
    let through = gateway.address(QUIET, true);
    let quiet = |target| paced(topology, Place::First, target, QUIET_RATE, span).p99;
    let beside = |kind: Kind, port, of| {
        // Longer than what is measured beside it, so that it is there all the while.
        let target = gateway.address(port, false);
        let flood = start(topology, Place::Others, kind.word(), target, span * 2, 0.0);
        let p99 = quiet(of);
        drop(flood);
        p99
    };
    Fairness {
        quiet: quiet(through),
        beside_bulk: beside(Kind::Bulk8, SINK, through),
        past_bulk: beside(Kind::Bulk8, SINK, direct(QUIET)),
        beside_connections: beside(Kind::Connections, ECHO, through),
    }
}

/// What the gateway's memory grows by with so many connections open and silent; `None` for no gateway.
pub(crate) fn idle(topology: &Topology, gateway: &Gateway, connections: usize) -> Option<u64> {
    let before = gateway.resident()?;
    let target = gateway.address(HOLD, false);
    let mut clients = start(
        topology,
        Place::Anywhere,
        "idle",
        target,
        Duration::ZERO,
        connections as f64,
    );
    crate::gateway::wait_ready(&mut clients);
    Some(gateway.resident()?.saturating_sub(before))
}

pub(crate) fn can_connect(topology: &Topology, address: SocketAddrV4) -> bool {
    let mut probe = start(topology, Place::Anywhere, "probe", address, Duration::ZERO, 0.0);
    probe.0.wait().unwrap().success()
}

fn start(
    topology: &Topology,
    place: Place,
    word: &str,
    target: SocketAddrV4,
    span: Duration,
    number: f64,
) -> Process {
    let arguments = [
        "load".to_owned(),
        word.to_owned(),
        target.to_string(),
        span.as_secs_f64().to_string(),
        number.to_string(),
    ];
    topology.spawn("client", place, &arguments)
}

fn answer(mut process: Process) -> [f64; 2] {
    let mut line = String::new();
    BufReader::new(process.0.stdout.as_mut().unwrap())
        .read_line(&mut line)
        .unwrap();
    let numbers: Vec<f64> = line
        .split_whitespace()
        .map(|word| word.parse().unwrap())
        .collect();
    numbers.try_into().expect("a load answers with two numbers")
}

/// The part `load WORD ADDRESS SECONDS NUMBER`.
pub(crate) fn main(arguments: &[String]) {
    let target: SocketAddr = arguments[1].parse().unwrap();
    let span = Duration::from_secs_f64(arguments[2].parse().unwrap());
    let number: f64 = arguments[3].parse().unwrap();
    let [a, b] = match arguments[0].as_str() {
        "bulk1" => bulk(target, span, 1),
        "bulk8" => bulk(target, span, 8),
        "connections" => many(span, CONNECTORS, |until| connect_again_and_again(target, until)),
        "requests" => many(span, REQUESTERS, |until| request_again_and_again(target, until)),
        "paced" => paced_main(target, span, number),
        "idle" => return idle_main(target, number as usize),
        "probe" => {
            let timeout = Duration::from_millis(200);
            std::process::exit(i32::from(TcpStream::connect_timeout(&target, timeout).is_err()))
        }
        other => panic!("no load {other}"),
    };
    println!("{a} {b}");
}

/// Runs the same on so many threads until the time is up; answers seconds and the sum.
fn many(span: Duration, threads: usize, work: impl Fn(&AtomicBool) -> u64 + Sync) -> [f64; 2] {
    let (over, sum, begin) = (AtomicBool::new(false), AtomicU64::new(0), Instant::now());
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| sum.fetch_add(work(&over), Relaxed));
        }
        thread::sleep(span);
        over.store(true, Relaxed);
    });
    [begin.elapsed().as_secs_f64(), sum.load(Relaxed) as f64]
}

/// The server says how much has come through.
fn bulk(target: SocketAddr, span: Duration, streams: usize) -> [f64; 2] {
    many(span, streams, |over| {
        let mut stream = TcpStream::connect(target).unwrap();
        let chunk = vec![0x5a; CHUNK_BYTES];
        while !over.load(Relaxed) {
            stream.write_all(&chunk).unwrap();
        }
        stream.shutdown(Shutdown::Write).unwrap();
        let mut total = [0; 8];
        stream.read_exact(&mut total).unwrap();
        u64::from_be_bytes(total)
    })
}

fn connect_again_and_again(target: SocketAddr, over: &AtomicBool) -> u64 {
    let mut count = 0;
    while !over.load(Relaxed) {
        let mut stream = TcpStream::connect(target).expect("a connection is taken");
        stream.write_all(b"x").unwrap();
        stream.read_exact(&mut [0]).unwrap();
        count += 1;
    }
    count
}

fn request_again_and_again(target: SocketAddr, over: &AtomicBool) -> u64 {
    let mut stream = connected(target);
    let mut count = 0;
    while !over.load(Relaxed) {
        request(&mut stream).unwrap();
        count += 1;
    }
    count
}

fn connected(target: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(target).expect("a connection is taken");
    stream.set_nodelay(true).unwrap();
    stream
}

fn request(stream: &mut TcpStream) -> io::Result<()> {
    let mut buffer = [0x5a; REQUEST_BYTES];
    stream.write_all(&buffer)?;
    stream.read_exact(&mut buffer)
}

fn paced_main(target: SocketAddr, span: Duration, rate: f64) -> [f64; 2] {
    let interval = Duration::from_secs_f64(PACED as f64 / rate);
    let begin = Instant::now();
    let mut latencies: Vec<f64> = thread::scope(|scope| {
        let threads: Vec<_> = (0..PACED)
            .map(|n| {
                scope.spawn(move || {
                    let mut stream = connected(target);
                    let mut due = begin + interval.mul_f64(n as f64 / PACED as f64);
                    let mut latencies = Vec::new();
                    while due < begin + span {
                        thread::sleep(due.saturating_duration_since(Instant::now()));
                        request(&mut stream).unwrap();
                        latencies.push(due.elapsed().as_secs_f64() * 1e6);
                        due += interval;
                    }
                    latencies
                })
            })
            .collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect()
    });
    latencies.sort_by(f64::total_cmp);
    let at = |share: f64| latencies[((latencies.len() - 1) as f64 * share) as usize];
    [at(0.5), at(0.99)]
}

fn idle_main(target: SocketAddr, connections: usize) {
    let _held: Vec<_> = (0..connections)
        .map(|n| TcpStream::connect(target).unwrap_or_else(|error| panic!("connection {n}: {error}")))
        .collect();
    println!("ready");
    let _ = io::copy(&mut io::stdin(), &mut io::sink());
}
