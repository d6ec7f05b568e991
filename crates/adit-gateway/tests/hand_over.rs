//! One gateway process follows another, under load: no client is refused or reset, and connections that exist go on. Each gateway
//! is this test binary, run again; it follows a feed on its standard input.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking, also in what its tests share"
)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use adit_gateway::succession::{Succession, take_over};
use adit_gateway::{Config, Gateway};
use adit_model::feed::{EndpointReport, EndpointSpec, FeedEvent, Ingress, Report};
use adit_netns::{Directory, Links, NextHop, Route};
use adit_relay::Close;

mod vpcs;
use vpcs::{
    BACKEND, CLIENT, CLIENT_PORT, CONSUMER, ENDPOINT_IP, PROVIDER, SERVER_PORT, Sandbox, mapping, spec,
};

/// Tells a gateway process where namespaces are named, and its door is.
const FOLDER: &str = "ADIT_TEST_FOLDER";
/// Tells it to take over.
const TAKE_OVER: &str = "ADIT_TEST_TAKE_OVER";
/// For how long its connections may go on once it has been followed, in seconds.
const DRAIN_S: &str = "ADIT_TEST_DRAIN_S";
/// Has it die instead of serving what it has received.
const DIE: &str = "ADIT_TEST_DIE";
const DOOR: &str = "hand-over.sock";
/// What a gateway process says when it has handed everything over and ends.
const FOLLOWED: &str = "followed";
const PATIENCE: Duration = Duration::from_secs(60);
const CLIENTS: usize = 6;
/// The generation of a specification of an endpoint that was rejected.
const REJECTED: u64 = 2;
/// A gateway service's block, and the backend in it.
const BLOCK: &str = "100.64.7.0/24";
const IN_BLOCK: Ipv4Addr = Ipv4Addr::new(100, 64, 7, 20);

/// Beside the folder, in which namespaces alone are.
fn door(folder: &Path) -> PathBuf {
    folder.with_extension(DOOR)
}

/// The socket's file, removed with this.
struct Door(PathBuf);

impl Drop for Door {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// No test of its own: what runs in the other processes.
#[tokio::test(flavor = "multi_thread")]
async fn gateway_process() {
    let Some(folder) = std::env::var_os(FOLDER) else {
        return;
    };
    let door = door(Path::new(&folder));
    let mut config = Config::new(Directory::at(&folder).unwrap());
    if std::env::var_os(TAKE_OVER).is_some() {
        config.relay.inherited = Some(take_over(&door).await.unwrap());
    }
    if std::env::var_os(DIE).is_some() {
        std::process::abort();
    }
    let seconds = std::env::var(DRAIN_S).unwrap().parse().unwrap();
    let ending = Close::Drain {
        within: Duration::from_secs(seconds),
    };
    config.succession = Some(Succession {
        door,
        ending,
        keepsakes: Vec::new(),
    });
    let gateway = Arc::new(Gateway::start(config).unwrap());
    let (events, inbox) = tokio::sync::mpsc::channel(64);
    let (outbox, mut reports) = tokio::sync::mpsc::channel(64);
    tokio::spawn(Arc::clone(&gateway).run(inbox, outbox));
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            if events
                .blocking_send(serde_json::from_str(&line).unwrap())
                .is_err()
            {
                break;
            }
        }
    });
    tokio::spawn(async move {
        while let Some(report) = reports.recv().await {
            println!("{}", serde_json::to_string(&report).unwrap());
        }
    });
    gateway.serves().await;
    gateway.followed().await;
    gateway.left().await;
    gateway.stop(Close::Cut).await;
    println!("{FOLLOWED}");
    // The thread that reads would wait for the end of the feed.
    std::process::exit(0);
}

/// A gateway process.
struct Process {
    child: Child,
    feed: ChildStdin,
    said: mpsc::Receiver<String>,
}

impl Process {
    fn start(sandbox: &Sandbox, drain_s: u32, more: &[&str]) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", "gateway_process", "--nocapture"])
            .env(FOLDER, sandbox.directory.path())
            .env(DRAIN_S, drain_s.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        for name in more {
            command.env(name, "1");
        }
        let mut child = command.spawn().unwrap();
        let (out, feed) = (child.stdout.take().unwrap(), child.stdin.take().unwrap());
        let (saying, said) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                let _ = saying.send(line);
            }
        });
        Self { child, feed, said }
    }

    fn tell(&mut self, event: &FeedEvent) {
        writeln!(self.feed, "{}", serde_json::to_string(event).unwrap()).unwrap();
    }

    fn snapshot(&mut self, endpoints: &[EndpointSpec]) {
        let endpoints = endpoints.to_vec();
        self.tell(&FeedEvent::Snapshot {
            endpoints,
            more: false,
        });
    }

    fn until<T>(&self, what: &str, mut fits: impl FnMut(&str) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = self.said.recv_timeout(left);
            let line = line.unwrap_or_else(|e| panic!("waited in vain for {what}: {e}"));
            if let Some(found) = fits(&line) {
                return found;
            }
        }
    }

    fn until_listening(&self, endpoints: &[EndpointSpec]) {
        let mut missing: Vec<_> = endpoints.iter().map(|endpoint| endpoint.id).collect();
        self.until("every endpoint to be listened for", |line| {
            let report: Report = serde_json::from_str(line).ok()?;
            // A generation without ports is no service.
            if matches!(report.status, EndpointReport::Listening { generation } if generation != REJECTED) {
                missing.retain(|id| *id != report.id);
            }
            missing.is_empty().then_some(())
        });
    }

    /// Waits until it has been followed and has ended.
    fn until_followed(mut self) {
        self.until("it to be followed", |line| line.contains(FOLLOWED).then_some(()));
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An endpoint with an address, and one that blocks lead to; the backend answers on both.
async fn endpoints(sandbox: &Sandbox) -> Vec<EndpointSpec> {
    sandbox.both().await;
    let provider = Links::open(&sandbox.open(PROVIDER)).await.unwrap();
    let on_bridge = Route {
        destination: BLOCK.parse().unwrap(),
        next_hop: NextHop::Link("s0".to_owned()),
    };
    provider.route_add(&on_bridge).await.unwrap();
    let backend = Links::open(&sandbox.open(BACKEND)).await.unwrap();
    let network = format!("{IN_BLOCK}/32").parse().unwrap();
    backend.address_add("eth0", network, None).await.unwrap();
    sandbox.serve("web", SERVER_PORT);
    let mut one = spec();
    one.ports.push(mapping(9090, SERVER_PORT));
    let mut other = spec();
    other.consumer.ingress = Ingress::Blocks(vec![BLOCK.parse().unwrap()]);
    other.provider.backend = None;
    other.provider.source = [198, 19, 130, 8].into();
    other.ports = vec![mapping(SERVER_PORT, SERVER_PORT)];
    vec![one, other]
}

const TARGETS: [SocketAddrV4; 3] = [
    SocketAddrV4::new(ENDPOINT_IP, CLIENT_PORT),
    SocketAddrV4::new(ENDPOINT_IP, 9090),
    SocketAddrV4::new(IN_BLOCK, SERVER_PORT),
];

/// From within the client's namespace: connects, is greeted, and hears what it says. Dies of the first thing that is not so.
fn visit(to: SocketAddrV4) -> BufReader<TcpStream> {
    let stream = TcpStream::connect_timeout(&to.into(), PATIENCE).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut reader = BufReader::new(stream);
    let mut greeting = String::new();
    reader.read_line(&mut greeting).unwrap();
    assert!(greeting.starts_with("web "), "{greeting}");
    echo(&mut reader);
    reader
}

fn echo(reader: &mut BufReader<TcpStream>) {
    reader.get_mut().write_all(b"ping").unwrap();
    let mut back = [0; 4];
    reader.read_exact(&mut back).unwrap();
    assert_eq!(&back, b"ping");
}

fn assert_reset(reader: &mut BufReader<TcpStream>) {
    let heard = reader.read(&mut [0]).map_err(|error| error.kind());
    assert_eq!(heard, Err(std::io::ErrorKind::ConnectionReset));
}

/// Ends the load, also when the test fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn gateways_follow_one_another_and_no_client_notices() {
    let Some(sandbox) = Sandbox::new("gateways_follow_one_another_and_no_client_notices") else {
        return;
    };
    let _door = Door(door(sandbox.directory.path()));
    let endpoints = endpoints(&sandbox).await;
    let client = sandbox.open(CLIENT);
    let mut first = Process::start(&sandbox, 3_600, &[]);
    first.snapshot(&endpoints);
    first.until_listening(&endpoints);
    let mut old = client.run(|| TARGETS.map(visit)).unwrap();

    let (over, spared) = (AtomicBool::new(false), AtomicBool::new(false));
    let served: [AtomicU64; CLIENTS] = std::array::from_fn(|_| AtomicU64::new(0));
    let load = |n: usize| {
        while !over.load(Relaxed) {
            let among = if spared.load(Relaxed) { 2 } else { TARGETS.len() };
            drop(visit(TARGETS[n % among]));
            served[n].fetch_add(1, Relaxed);
        }
    };
    // Each client has so many connections more.
    let more = |count: u64| {
        let deadline = Instant::now() + PATIENCE;
        for client in &served {
            let before = client.load(Relaxed);
            while client.load(Relaxed) < before + count {
                assert!(Instant::now() < deadline, "the load does not go on");
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    };
    std::thread::scope(|scope| {
        let (client, load) = (&client, &load);
        let clients: Vec<_> = (0..CLIENTS)
            .map(|n| scope.spawn(move || client.run(move || load(n)).unwrap()))
            .collect();
        let _over = Over(&over);
        more(20);
        // One that dies before it serves changes nothing.
        let mut dead = Process::start(&sandbox, 0, &[TAKE_OVER, DIE]);
        assert!(!dead.child.wait().unwrap().success());
        more(20);
        old.iter_mut().for_each(echo);

        let mut second = Process::start(&sandbox, 1, &[TAKE_OVER]);
        second.snapshot(&endpoints);
        second.until_listening(&endpoints);
        more(50);
        // What the first one had goes on there, and ends with its endpoint.
        old.iter_mut().for_each(echo);
        let rejected = EndpointSpec {
            generation: REJECTED,
            ports: Vec::new(),
            ..endpoints[1].clone()
        };
        // The load on it may be reset, too: it goes elsewhere.
        spared.store(true, Relaxed);
        more(2);
        second.tell(&FeedEvent::Put { endpoint: rejected });
        assert_reset(&mut old[2]);
        let again = EndpointSpec {
            generation: 3,
            ..endpoints[1].clone()
        };
        second.tell(&FeedEvent::Put { endpoint: again });
        second.until_listening(&endpoints[1..]);
        spared.store(false, Relaxed);
        old[..2].iter_mut().for_each(echo);
        drop(old);
        first.until_followed();
        more(20);

        // By the deadline the second one's are cut.
        let mut waiting = client.run(|| TARGETS.map(visit)).unwrap();
        let mut third = Process::start(&sandbox, 0, &[TAKE_OVER]);
        third.snapshot(&endpoints);
        third.until_listening(&endpoints);
        waiting.iter_mut().for_each(assert_reset);
        second.until_followed();
        more(50);
        over.store(true, Relaxed);
        for client in clients {
            client
                .join()
                .expect("a client was refused, reset or not answered");
        }

        // It has what it took over in its hand: what goes is removed.
        third.snapshot(&[]);
        for endpoint in &endpoints {
            third.until("both to be removed", |line| {
                let report: Report = serde_json::from_str(line).ok()?;
                (report.status == EndpointReport::Removed).then_some(endpoint)
            });
        }
    });
    assert_eq!(sandbox.addresses(CONSUMER).await, ["10.0.0.1/24"]);
    let left = Links::open(&sandbox.open(CONSUMER)).await.unwrap();
    let gates = left.links().await.unwrap();
    assert!(gates.iter().all(|link| !link.name.starts_with('g')), "{gates:?}");
}
