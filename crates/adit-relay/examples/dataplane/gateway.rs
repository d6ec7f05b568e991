//! What stands between the two VPCs: nothing, Adit's relay, HAProxy as it comes, HAProxy tuned; each without and with a
//! PROXY header.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use adit_relay::proxy_protocol::{Header, Identity, Profile, TlvTypes};
use adit_relay::{Admission, Config, Consumer, Listener, Relay, Target};

use crate::load::Kind;
use crate::server::{ECHO, HOLD, QUIET, SINK, WITH_HEADER};
use crate::topology::{Place, Process, SERVER, Topology};

/// The unit of `/proc/PID/stat`, the same on every Linux of today (`man 5 proc`: `sysconf(_SC_CLK_TCK)`).
const TICKS_PER_SECOND: f64 = 100.0;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Variant {
    Direct,
    Adit,
    /// Before everybody else on its core; for fairness alone.
    AditFirst,
    AditHeader,
    Haproxy,
    HaproxyHeader,
    Tuned,
    TunedHeader,
}

impl Variant {
    pub(crate) const ALL: [Self; 8] = [
        Self::Direct,
        Self::Adit,
        Self::Haproxy,
        Self::Tuned,
        Self::AditHeader,
        Self::HaproxyHeader,
        Self::TunedHeader,
        Self::AditFirst,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Adit => "Adit, `close`",
            Self::AditFirst => "Adit, `close`, real-time class",
            Self::AditHeader => "Adit, `proxy_open`",
            Self::Haproxy => "HAProxy default",
            Self::HaproxyHeader => "HAProxy default, PROXY v2",
            Self::Tuned => "HAProxy tuned",
            Self::TunedHeader => "HAProxy tuned, PROXY v2",
        }
    }

    pub(crate) fn with_header(self) -> bool {
        matches!(self, Self::AditHeader | Self::HaproxyHeader | Self::TunedHeader)
    }

    /// A header is of no account to bytes in bulk: they are measured without, and once with it for Adit.
    pub(crate) fn runs(self, kind: Kind) -> bool {
        match kind {
            _ if !self.is_throughput() => false,
            Kind::Bulk1 => !self.with_header(),
            Kind::Bulk8 => !self.with_header() || self == Self::AditHeader,
            Kind::Connections | Kind::Requests => true,
        }
    }

    pub(crate) fn is_throughput(self) -> bool {
        self != Self::AditFirst
    }

    pub(crate) fn is_fairness(self) -> bool {
        matches!(self, Self::Direct | Self::Adit | Self::AditFirst | Self::Tuned)
    }

    /// Where it runs when one endpoint is seen beside another.
    pub(crate) fn place(self) -> Place {
        if self == Self::AditFirst {
            Place::GatewayFirst
        } else {
            Place::Gateway
        }
    }

    /// The endpoint's address: each variant has two endpoints, the second one for fairness.
    fn endpoint(self, second: bool) -> Ipv4Addr {
        let index = Self::ALL.iter().position(|v| *v == self).unwrap() as u8;
        Ipv4Addr::new(10, 0, 0, 100 + 2 * index + u8::from(second))
    }
}

/// One variant, running.
pub(crate) struct Gateway {
    pub(crate) variant: Variant,
    process: Option<Process>,
}

impl Gateway {
    pub(crate) fn start(topology: &Topology, variant: Variant, place: Place) -> Self {
        Self {
            variant,
            process: match variant {
                Variant::Direct => None,
                Variant::Adit | Variant::AditFirst | Variant::AditHeader => {
                    Some(start_relay(topology, variant, place))
                }
                _ => Some(start_haproxy(topology, variant, place)),
            },
        }
    }

    /// Where a load has to connect to.
    pub(crate) fn target(&self, kind: Kind) -> SocketAddrV4 {
        self.address(if kind.is_bulk() { SINK } else { ECHO }, false)
    }

    pub(crate) fn address(&self, port: u16, second: bool) -> SocketAddrV4 {
        match self.variant {
            Variant::Direct => direct(port),
            variant => SocketAddrV4::new(variant.endpoint(second), port),
        }
    }

    /// Processor time so far, in seconds: user and system, all threads.
    pub(crate) fn cpu(&self) -> Option<f64> {
        let pid = self.process.as_ref()?.0.id();
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let fields: Vec<&str> = stat[stat.rfind(')').unwrap() + 2..].split(' ').collect();
        let ticks = |n: usize| fields[n].parse::<f64>().unwrap();
        Some((ticks(11) + ticks(12)) / TICKS_PER_SECOND)
    }

    /// Resident memory, in bytes.
    pub(crate) fn resident(&self) -> Option<u64> {
        let pid = self.process.as_ref()?.0.id();
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        Some(kib * 1024)
    }
}

/// The server itself, by the routes that there are for `direct`.
pub(crate) fn direct(port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(SERVER.parse().unwrap(), port)
}

/// The mappings of each endpoint: client port, server port.
fn mappings(variant: Variant) -> [(u16, u16); 4] {
    let offset = if variant.with_header() { WITH_HEADER } else { 0 };
    [ECHO, SINK, HOLD, QUIET].map(|port| (port, port + offset))
}

fn start_relay(topology: &Topology, variant: Variant, place: Place) -> Process {
    let mut arguments = vec![
        "relay".to_owned(),
        topology.path("consumer").display().to_string(),
        topology.path("provider").display().to_string(),
        variant.with_header().to_string(),
    ];
    for second in [false, true] {
        for (client_port, server_port) in mappings(variant) {
            arguments.push(format!("{}:{client_port}", variant.endpoint(second)));
            arguments.push(source(variant, second).to_string());
            arguments.push(format!("{SERVER}:{server_port}"));
        }
    }
    let mut process = topology.spawn("provider", place, &arguments);
    wait_ready(&mut process);
    process
}

fn source(variant: Variant, second: bool) -> Ipv4Addr {
    let [_, _, _, last] = variant.endpoint(second).octets();
    Ipv4Addr::new(198, 19, 128, last)
}

/// The part `relay CONSUMER PROVIDER HEADER (LISTEN SOURCE BACKEND)…`.
pub(crate) fn relay_main(arguments: &[String]) {
    let open = |path: &str| Arc::new(File::open(path).unwrap().into());
    let (consumer, provider) = (open(&arguments[0]), open(&arguments[1]));
    let header = arguments[2] == "true";
    let relay = Relay::start(Config::default()).unwrap();
    for (owner, listener) in arguments[3..].chunks(3).enumerate() {
        let address: SocketAddrV4 = listener[0].parse().unwrap();
        relay
            .open(Listener {
                // The first four mappings are one endpoint, the others another.
                owner: (1 + owner as u128 / 4).into(),
                consumer: Consumer {
                    namespace: Arc::clone(&consumer),
                    address,
                },
                provider: Target {
                    namespace: Arc::clone(&provider),
                    source: listener[1].parse().unwrap(),
                    backend: listener[2].parse::<SocketAddrV4>().unwrap().into(),
                    header: header.then(proxy_open),
                    toa: false,
                },
                admission: Admission {
                    max_connections: 20_000,
                    ..Admission::default()
                },
            })
            .unwrap();
    }
    println!("ready");
    let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
}

/// What the mode `proxy_open` sends.
fn proxy_open() -> Header {
    let identity = Identity {
        endpoint: 1,
        marker: 201_515_772,
        vni: None,
    };
    Header::new(Profile::Vpcep, &identity, TlvTypes::default(), false)
}

fn start_haproxy(topology: &Topology, variant: Variant, place: Place) -> Process {
    let tuned = matches!(variant, Variant::Tuned | Variant::TunedHeader);
    // Two descriptors each, and 20,000 is a usual limit of a process.
    let mut config = String::from("global\n  maxconn 8500\n");
    if tuned {
        config += "  tune.pipesize 1048576\n  maxpipes 1000\n";
    }
    config += "defaults\n  mode tcp\n  timeout connect 10s\n  timeout client 1h\n  timeout server 1h\n  maxconn 8500\n";
    if tuned {
        config += "  option splice-request\n  option splice-response\n";
    }
    let (consumer, provider) = (topology.name("consumer"), topology.name("provider"));
    let header = if variant.with_header() {
        " send-proxy-v2"
    } else {
        ""
    };
    for second in [false, true] {
        for (client_port, server_port) in mappings(variant) {
            let (endpoint, source) = (variant.endpoint(second), source(variant, second));
            config += &format!(
                "listen e{second}-{client_port}\n  bind {endpoint}:{client_port} namespace {consumer}\n  \
                 server s {SERVER}:{server_port} namespace {provider} source {source}{header}\n"
            );
        }
    }
    let path = std::env::temp_dir().join(format!("adit-bench-{}-{variant:?}.cfg", std::process::id()));
    fs::write(&path, config).unwrap();
    let child = place
        .command("haproxy")
        .args(["-q", "-db", "-f"])
        .arg(&path)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .expect("haproxy (package haproxy) is there");
    let process = Process(child);
    let gateway = Gateway {
        variant,
        process: Some(process),
    };
    wait_listening(topology, gateway.address(ECHO, true));
    let _ = fs::remove_file(&path);
    gateway.process.unwrap()
}

/// Waits until a part says that it is ready.
pub(crate) fn wait_ready(process: &mut Process) {
    let mut line = String::new();
    let output = process.0.stdout.as_mut().unwrap();
    BufReader::new(output).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n", "a part of the bench does not start");
}

/// Waits until somebody listens: tries from inside the client's namespace.
fn wait_listening(topology: &Topology, address: SocketAddrV4) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !crate::load::can_connect(topology, address) {
        assert!(Instant::now() < deadline, "nobody listens on {address}");
        std::thread::yield_now();
    }
}
