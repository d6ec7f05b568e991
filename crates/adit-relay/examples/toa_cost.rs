//! What TOA costs: connections per second through one relay, in interleaved rounds without the BPF program, with it and no
//! TOA asked for, and with TOA on every connection. Prints ratios with their spread; exits with 1 where TOA costs more than
//! the bar. Beside the rate stands the processor time of a connection, which a machine that has other things to do blurs less:
//! where the processor is the limit, one is the inverse of the other.
//!
//! `cargo run --release -p adit-relay --example toa_cost [ROUNDS [SECONDS]]`, as root. The relay has a cgroup of its own, as a
//! gateway has: the program is attached to that, and does not run for the sockets of the clients and the server, which are
//! another process outside of it. All share this machine, so a rate is the cost of all three: what the relay alone spends more
//! shows smaller there, and is shown beside it.
#![allow(
    clippy::unwrap_used,
    reason = "a bench that cannot be set up has nothing to say"
)]

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use adit_netns::in_fresh_network;
use adit_relay::toa::{Cgroup, KIND_DEFAULT, Sender};
use adit_relay::{Admission, Config, Consumer, Listener, Relay, Target};
use rustix::time::{ClockId, clock_gettime};

/// Connections per second with TOA are at least so many times those without.
const BAR: f64 = 0.97;
const CLIENTS: usize = 8;
const SERVERS: usize = 2;
/// The argument that makes this program the other process.
const LOAD: &str = "load";

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
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|word| word == LOAD) {
        load();
        return ExitCode::SUCCESS;
    }
    let mut numbers = arguments.iter().map(|word| word.parse::<f64>().unwrap());
    let rounds = numbers.next().unwrap_or(40.0) as usize;
    let span = Duration::from_secs_f64(numbers.next().unwrap_or(0.75));
    in_fresh_network(|| {
        // New namespaces inherit the machine's, and bbr paces the few bytes that there are.
        std::fs::write("/proc/sys/net/ipv4/tcp_congestion_control", "reno").unwrap();
        std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", "1024 65535").unwrap();
        std::fs::write("/proc/sys/net/ipv4/tcp_tw_reuse", "1").unwrap();
        // It stays in the cgroup that it begins in.
        let mut load = Load::start();
        in_own_cgroup(|| bench(&mut load, rounds, span))
    })
    .unwrap()
}

/// Does it in a new cgroup below this process's, which goes again.
fn in_own_cgroup<T>(work: impl FnOnce() -> T) -> T {
    let outer = Cgroup::own().unwrap();
    let name = format!("adit-bench-{}", std::process::id());
    outer.create(&name).unwrap().enter().unwrap();
    let answer = work();
    outer.enter().unwrap();
    outer.remove(&name).unwrap();
    answer
}

fn bench(load: &mut Load, rounds: usize, span: Duration) -> ExitCode {
    let mut samples: [Vec<Sample>; 3] = Default::default();
    for round in 0..rounds {
        // Each one is first, second and last equally often.
        for turn in 0..3 {
            let variant = [Variant::Absent, Variant::Idle, Variant::On][(round + turn) % 3];
            samples[variant as usize].push(measure(variant, load, span));
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
        let [rate, all, relay] = VALUES.map(|(_, value)| median(value));
        println!(
            "  {name:16} {rate:7.0} connections/s {all:7.1} us of processor time each, {relay:6.1} the relay's"
        );
    }
    println!("ratios within rounds, median (lower quartile, upper quartile):");
    let ratio = |name: &str, of: &[Sample], to: &[Sample]| {
        let within = |value: fn(&Sample) -> f64| {
            quartiles(of.iter().zip(to).map(|(of, to)| value(of) / value(to)).collect())
        };
        print!("  {name:30}");
        for (what, value) in VALUES {
            let [low, median, high] = within(value);
            print!("  {what} {median:.3} ({low:.3}, {high:.3})");
        }
        println!();
        within(|s| s.rate)[1]
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
    all_us: f64,
    /// Of it, what was spent in the relay's threads. On a loopback whoever sends a segment also receives it.
    relay_us: f64,
}

/// What of a sample is compared.
type Value = fn(&Sample) -> f64;
const VALUES: [(&str, Value); 3] = [
    ("rate", |sample| sample.rate),
    ("time", |sample| sample.all_us),
    ("relay's time", |sample| sample.relay_us),
];

fn measure(variant: Variant, load: &mut Load, span: Duration) -> Sample {
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
            backend: load.backend.into(),
            header: None,
            toa: variant == Variant::On,
        },
        admission: Admission::default(),
    };
    let id = relay.open(listener).unwrap();
    let used = processor_time();
    let Made { made, seconds, cpu } = load.run(relay.local_address(id).unwrap(), span);
    let used = processor_time() - used;
    let missing: u64 = relay
        .snapshot()
        .owners
        .iter()
        .map(|owner| owner.toa_missing)
        .sum();
    assert_eq!(missing, 0, "connections without the TOA that they asked for");
    Sample {
        rate: made / seconds,
        all_us: (used + cpu) * 1e6 / made,
        relay_us: used * 1e6 / made,
    }
}

/// Seconds that this process has used so far, on all cores.
fn processor_time() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// The clients and the server: another process.
struct Load {
    child: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    backend: SocketAddrV4,
}

/// What a load came to.
struct Made {
    made: f64,
    seconds: f64,
    /// Processor time of the process, in seconds.
    cpu: f64,
}

impl Load {
    fn start() -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .arg(LOAD)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let orders = child.stdin.take();
        let mut answers = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        answers.read_line(&mut line).unwrap();
        let backend = line.trim_end().parse().unwrap();
        Self {
            child,
            orders,
            answers,
            backend,
        }
    }

    fn run(&mut self, endpoint: SocketAddrV4, span: Duration) -> Made {
        let orders = self.orders.as_mut().unwrap();
        writeln!(orders, "{endpoint} {}", span.as_secs_f64()).unwrap();
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        let numbers: Vec<f64> = line.split_whitespace().map(|n| n.parse().unwrap()).collect();
        let [made, seconds, cpu] = numbers[..] else {
            unreachable!("the load answers three numbers")
        };
        Made { made, seconds, cpu }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        // It ends with its orders.
        self.orders = None;
        let _ = self.child.wait();
    }
}

/// The other process: says where its server is, and then makes connections as it is told.
fn load() {
    println!("{}", serve());
    for order in std::io::stdin().lines().map_while(Result::ok) {
        let (endpoint, seconds) = order.split_once(' ').unwrap();
        let span = Duration::from_secs_f64(seconds.parse().unwrap());
        let Made { made, seconds, cpu } = connect_again_and_again(endpoint.parse().unwrap(), span);
        println!("{made} {seconds} {cpu}");
    }
}

/// Connect, one byte there and back, close.
fn connect_again_and_again(endpoint: SocketAddrV4, span: Duration) -> Made {
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
    Made {
        made: made.load(Relaxed) as f64,
        seconds: began.elapsed().as_secs_f64(),
        cpu: processor_time() - used,
    }
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
