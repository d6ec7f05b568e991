//! What TOA costs: connections per second through one relay, in interleaved rounds without the BPF program, with it and no
//! TOA asked for, and with TOA on every connection. Prints ratios with their spread; exits with 1 where TOA costs more than
//! the bar. Beside the rate stands the processor time of a connection, which a machine that has other things to do does
//! not blur: where the processor is the limit, one is the inverse of the other.
//!
//! `cargo run --release -p adit-relay --example toa_cost [ROUNDS [SECONDS]]`, as root. Clients, relay and server share this
//! machine and process, so a rate is the cost of all three: what the relay alone spends more shows smaller here.
#![allow(
    clippy::unwrap_used,
    reason = "a bench that cannot be set up has nothing to say"
)]

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use adit_netns::in_fresh_network;
use adit_relay::toa::{KIND_DEFAULT, Sender};
use adit_relay::{Admission, Config, Consumer, Listener, Relay, Target};
use rustix::time::{ClockId, clock_gettime};

/// Connections per second with TOA are at least so many times those without.
const BAR: f64 = 0.97;
const CLIENTS: usize = 8;
const SERVERS: usize = 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Variant {
    /// Nothing is attached.
    Absent,
    /// The program is attached, and no connection asks for it.
    Idle,
    /// Every connection has TOA.
    On,
}

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1).map(|word| word.parse::<f64>().unwrap());
    let rounds = arguments.next().unwrap_or(15.0) as usize;
    let span = Duration::from_secs_f64(arguments.next().unwrap_or(2.0));
    in_fresh_network(|| bench(rounds, span)).unwrap()
}

fn bench(rounds: usize, span: Duration) -> ExitCode {
    // New namespaces inherit the machine's, and bbr paces the few bytes that there are.
    std::fs::write("/proc/sys/net/ipv4/tcp_congestion_control", "reno").unwrap();
    std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", "1024 65535").unwrap();
    std::fs::write("/proc/sys/net/ipv4/tcp_tw_reuse", "1").unwrap();
    let backend = serve();
    let mut samples: [Vec<Sample>; 3] = Default::default();
    for round in 0..rounds {
        // Each one is first, second and last equally often.
        for turn in 0..3 {
            let variant = [Variant::Absent, Variant::Idle, Variant::On][(round + turn) % 3];
            samples[variant as usize].push(measure(variant, backend, span));
        }
    }
    let [absent, idle, on] = &samples;
    println!(
        "{rounds} interleaved rounds of {} s, medians:",
        span.as_secs_f64()
    );
    for (name, samples) in [
        ("no program", absent),
        ("program, no TOA", idle),
        ("TOA on each", on),
    ] {
        let median = |of: fn(&Sample) -> f64| quartiles(samples.iter().map(of).collect())[1];
        let (rate, cpu) = (median(|s| s.rate), median(|s| s.cpu_us));
        println!("  {name:16} {rate:7.0} connections/s {cpu:7.1} us of processor time each");
    }
    println!("ratios within rounds, median (lower quartile, upper quartile):");
    let ratio = |name: &str, of: &[Sample], to: &[Sample]| {
        let within = |value: fn(&Sample) -> f64| {
            quartiles(of.iter().zip(to).map(|(of, to)| value(of) / value(to)).collect())
        };
        let [low, median, high] = within(|s| s.rate);
        let [cpu_low, cpu_median, cpu_high] = within(|s| s.cpu_us);
        println!(
            "  {name:30} rate {median:.3} ({low:.3}, {high:.3})  time {cpu_median:.3} ({cpu_low:.3}, {cpu_high:.3})"
        );
        median
    };
    ratio("program, no TOA / no program", idle, absent);
    ratio("TOA on each / program, no TOA", on, idle);
    let whole = ratio("TOA on each / no program", on, absent);
    let holds = whole >= BAR;
    println!(
        "bar: a rate of at least {BAR} of no program: {}",
        if holds { "holds" } else { "DOES NOT HOLD" }
    );
    u8::from(!holds).into()
}

/// What one variant came to in one round.
struct Sample {
    /// Connections per second.
    rate: f64,
    /// Processor time of clients, relay and server, in microseconds per connection.
    cpu_us: f64,
}

/// Connect, one byte there and back, close; again and again.
fn measure(variant: Variant, backend: SocketAddrV4, span: Duration) -> Sample {
    let here = Arc::new(File::open("/proc/thread-self/ns/net").unwrap().into());
    let toa = (variant != Variant::Absent).then(|| Sender::start(KIND_DEFAULT).unwrap());
    let config = Config {
        toa,
        ..Config::default()
    };
    let relay = Relay::start(config).unwrap();
    let listener = Listener {
        owner: 1.into(),
        consumer: Consumer {
            namespace: Arc::clone(&here),
            address: SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, 2), 0),
        },
        provider: Target {
            namespace: here,
            source: Ipv4Addr::new(127, 0, 0, 3),
            backend: backend.into(),
            header: None,
            toa: variant == Variant::On,
        },
        admission: Admission::default(),
    };
    let id = relay.open(listener).unwrap();
    let endpoint = relay.local_address(id).unwrap();
    let (made, over) = (AtomicU64::new(0), AtomicBool::new(false));
    let (began, used) = (Instant::now(), processor_time());
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                while !over.load(Relaxed) {
                    let mut client = TcpStream::connect(endpoint).unwrap();
                    client.write_all(b"x").unwrap();
                    client.read_exact(&mut [0]).unwrap();
                    made.fetch_add(1, Relaxed);
                }
            });
        }
        std::thread::sleep(span);
        over.store(true, Relaxed);
    });
    let made = made.load(Relaxed) as f64;
    let sample = Sample {
        rate: made / began.elapsed().as_secs_f64(),
        cpu_us: (processor_time() - used) * 1e6 / made,
    };
    let missing: u64 = relay
        .snapshot()
        .owners
        .iter()
        .map(|owner| owner.toa_missing)
        .sum();
    assert_eq!(missing, 0, "connections without the TOA that they asked for");
    sample
}

/// Seconds that this process has used so far, on all cores.
fn processor_time() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// A server that echoes one byte.
fn serve() -> SocketAddrV4 {
    let listener = Arc::new(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
    let SocketAddr::V4(address) = listener.local_addr().unwrap() else {
        unreachable!("bound to IPv4")
    };
    for _ in 0..SERVERS {
        let listener = Arc::clone(&listener);
        std::thread::spawn(move || {
            let mut byte = [0];
            for mut stream in listener.incoming().map_while(Result::ok) {
                if stream.read_exact(&mut byte).is_ok() {
                    let _ = stream.write_all(&byte);
                }
            }
        });
    }
    address
}

fn quartiles(mut values: Vec<f64>) -> [f64; 3] {
    values.sort_unstable_by(f64::total_cmp);
    [1, 2, 3].map(|quarter| values[(values.len() - 1) * quarter / 4])
}
