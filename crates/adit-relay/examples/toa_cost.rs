//! What TOA costs: connections per second through a relay without the BPF program, through one with it that is asked for no
//! TOA, and through the same one with TOA on every connection. Prints ratios with their spread; exits with 1 where TOA costs
//! more than the bar. Beside the rate stands the processor time of a connection, which a machine that has other things to do
//! blurs less: where the processor is the limit, one is the inverse of the other.
//!
//! `cargo run --release -p adit-relay --example toa_cost [ROUNDS]`, as root. The three take turns of some milliseconds, so that
//! what else the machine does strikes all alike. Each relay is a process in a cgroup of its own, as a gateway is: the program is
//! attached to that, and does not run for the sockets of the clients and the server, which are outside. All share this machine,
//! so a rate is the cost of all of them: what the relay alone spends more shows smaller there, and is shown beside it.
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
const ROUNDS: usize = 20;
/// Turns that each variant has in a round.
const TURNS: usize = 20;
const TURN: Duration = Duration::from_millis(40);
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

impl Variant {
    const ALL: [Self; 3] = [Self::Absent, Self::Idle, Self::On];

    fn name(self) -> &'static str {
        match self {
            Self::Absent => "no program",
            Self::Idle => "program, no TOA",
            Self::On => "TOA on each",
        }
    }
}

/// What of a sample is compared.
type Value = fn(&Sample) -> f64;
const VALUES: [(&str, Value); 3] = [
    ("rate", |sample| sample.made / sample.seconds),
    ("time", |sample| (sample.clients + sample.relay) / sample.made),
    ("relay's time", |sample| sample.relay / sample.made),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match &arguments[..] {
        [part, backend, program] if part == "relay" => {
            in_own_cgroup(|| relay(backend.parse().unwrap(), program.parse().unwrap()));
            ExitCode::SUCCESS
        }
        [] => in_fresh_network(|| bench(ROUNDS)).unwrap(),
        [rounds, ..] => in_fresh_network(|| bench(rounds.parse().unwrap())).unwrap(),
    }
}

fn bench(rounds: usize) -> ExitCode {
    // New namespaces inherit the machine's, and bbr paces the few bytes that there are.
    std::fs::write("/proc/sys/net/ipv4/tcp_congestion_control", "reno").unwrap();
    std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", "1024 65535").unwrap();
    std::fs::write("/proc/sys/net/ipv4/tcp_tw_reuse", "1").unwrap();
    let backend = serve();
    let (mut without, mut with) = (Part::start(backend, false), Part::start(backend, true));
    let samples: Vec<[Sample; 3]> = (0..rounds)
        .map(|_| {
            let mut round: [Sample; 3] = Default::default();
            for turn in 0..TURNS {
                // Each one is first, second and last equally often.
                for at in 0..3 {
                    let variant = Variant::ALL[(turn + at) % 3];
                    let part = match variant {
                        Variant::Absent => &mut without,
                        Variant::Idle | Variant::On => &mut with,
                    };
                    round[variant as usize].add(&part.turn(variant));
                }
            }
            round
        })
        .collect();
    drop((without, with));
    report(&samples)
}

fn report(samples: &[[Sample; 3]]) -> ExitCode {
    let rounds = samples.len();
    println!(
        "{rounds} rounds of {TURNS} turns of {} ms, medians:",
        TURN.as_millis()
    );
    for variant in Variant::ALL {
        let median =
            |of: Value| quartiles(samples.iter().map(|round| of(&round[variant as usize])).collect())[1];
        let [rate, all, relay] = VALUES.map(|(_, value)| median(value));
        println!(
            "  {:16} {rate:7.0} connections/s {:7.1} us of processor time each, {:6.1} the relay's",
            variant.name(),
            all * 1e6,
            relay * 1e6
        );
    }
    println!("ratios within rounds, median (lower quartile, upper quartile):");
    for (of, to) in [
        (Variant::Idle, Variant::Absent),
        (Variant::On, Variant::Idle),
        (Variant::On, Variant::Absent),
    ] {
        print!("  {:32}", format!("{} / {}", of.name(), to.name()));
        for (what, value) in VALUES {
            let [low, median, high] = ratios(samples, of, to, value);
            print!("  {what} {median:.3} ({low:.3}, {high:.3})");
        }
        println!();
    }
    let holds = ratios(samples, Variant::On, Variant::Absent, VALUES[0].1)[1] >= BAR;
    println!(
        "bar: a rate of at least {BAR} of no program: {}",
        if holds { "holds" } else { "DOES NOT HOLD" }
    );
    u8::from(!holds).into()
}

fn ratios(samples: &[[Sample; 3]], of: Variant, to: Variant, value: Value) -> [f64; 3] {
    let within = |round: &[Sample; 3]| value(&round[of as usize]) / value(&round[to as usize]);
    quartiles(samples.iter().map(within).collect())
}

fn quartiles(mut values: Vec<f64>) -> [f64; 3] {
    values.sort_unstable_by(f64::total_cmp);
    [1, 2, 3].map(|quarter| values[(values.len() - 1) * quarter / 4])
}

/// What one variant came to in a turn, or in a round.
#[derive(Debug, Default)]
struct Sample {
    /// Connections.
    made: f64,
    seconds: f64,
    /// Processor time of clients and server, in seconds.
    clients: f64,
    /// Processor time of the relay. On a loopback whoever sends a segment also receives it.
    relay: f64,
}

impl Sample {
    fn add(&mut self, other: &Self) {
        self.made += other.made;
        self.seconds += other.seconds;
        self.clients += other.clients;
        self.relay += other.relay;
    }
}

/// Seconds that this process has used so far, on all cores.
fn processor_time() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// A relay in a process and a cgroup of its own.
struct Part {
    child: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    /// Without TOA and with it.
    endpoints: Vec<SocketAddrV4>,
}

impl Part {
    fn start(backend: SocketAddrV4, program: bool) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["relay", &backend.to_string(), &program.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut part = Self {
            orders: child.stdin.take(),
            answers: BufReader::new(child.stdout.take().unwrap()),
            child,
            endpoints: Vec::new(),
        };
        let endpoints = part.answer();
        part.endpoints = endpoints.split_whitespace().map(|a| a.parse().unwrap()).collect();
        part
    }

    fn answer(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// The processor time that it has used so far.
    fn used(&mut self) -> f64 {
        writeln!(self.orders.as_mut().unwrap()).unwrap();
        self.answer().parse().unwrap()
    }

    fn turn(&mut self, variant: Variant) -> Sample {
        let endpoint = self.endpoints[usize::from(variant == Variant::On)];
        let before = self.used();
        let sample = connect_again_and_again(endpoint);
        Sample {
            relay: self.used() - before,
            ..sample
        }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // It ends with its orders.
        self.orders = None;
        assert!(self.child.wait().unwrap().success());
    }
}

/// Does it in a new cgroup below this process's, which goes again.
fn in_own_cgroup(work: impl FnOnce()) {
    let outer = Cgroup::own().unwrap();
    let name = format!("adit-bench-{}", std::process::id());
    outer.create(&name).unwrap().enter().unwrap();
    work();
    outer.enter().unwrap();
    outer.remove(&name).unwrap();
}

/// A part: says where its endpoints are, and then, as often as it is asked, how much processor time it has used.
fn relay(backend: SocketAddrV4, program: bool) {
    let here = Arc::new(File::open("/proc/thread-self/ns/net").unwrap().into());
    let config = Config {
        toa: program.then(|| Sender::start(KIND_DEFAULT).unwrap()),
        ..Config::default()
    };
    let relay = Relay::start(config).unwrap();
    let endpoint = |toa| {
        let listener = Listener {
            owner: 1.into(),
            consumer: Consumer {
                namespace: Arc::clone(&here),
                address: SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, 2), 0),
            },
            provider: Target {
                namespace: Arc::clone(&here),
                source: Ipv4Addr::new(127, 0, 0, 3 + u8::from(program) + u8::from(toa)),
                backend: backend.into(),
                header: None,
                toa,
            },
            admission: Admission::default(),
        };
        relay
            .local_address(relay.open(listener).unwrap())
            .unwrap()
            .to_string()
    };
    let endpoints: Vec<String> = [false, true][..=usize::from(program)]
        .iter()
        .map(|toa| endpoint(*toa))
        .collect();
    println!("{}", endpoints.join(" "));
    for _ in std::io::stdin().lines().map_while(Result::ok) {
        println!("{}", processor_time());
    }
    let owners = relay.snapshot().owners;
    let missing: u64 = owners.iter().map(|owner| owner.toa_missing).sum();
    assert_eq!(missing, 0, "connections without the TOA that they asked for");
}

/// Connect, one byte there and back, close.
fn connect_again_and_again(endpoint: SocketAddrV4) -> Sample {
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
        std::thread::sleep(TURN);
        over.store(true, Relaxed);
    });
    Sample {
        made: made.load(Relaxed) as f64,
        seconds: began.elapsed().as_secs_f64(),
        clients: processor_time() - used,
        relay: 0.0,
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
