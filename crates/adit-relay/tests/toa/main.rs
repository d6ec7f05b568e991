//! TOA on the wire, between namespaces: captured by tshark, and read by servers behind the receiver. Needs root.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    unreachable_pub,
    reason = "this is a test, also where no function is marked so"
)]

mod capture;
mod receiver;
mod vpc;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use adit_relay::proxy_protocol::{Header, Identity, Profile, TlvTypes};
use adit_relay::toa::{KIND_DEFAULT, Sender};
use adit_relay::{Admission, Close, Config, Consumer, Listener, OpenError, Relay, RetargetError, Target};
use capture::{Capture, Segment};
use vpc::Vpc;

/// A test that waits longer for something has failed. Nothing asserts that it is fast.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often something is tried that a busy machine may upset.
const TRIES: usize = 5;
const OWNER: u128 = 0x70a;
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 20);
const ENDPOINT: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 100), 8_080);
const SOURCE: Ipv4Addr = Ipv4Addr::new(198, 19, 128, 7);
const BACKEND: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 10), 9_090);

/// Whether a test has to be skipped; says so by name. In CI that is a failure.
fn skip(test: &str, tools: &[&str]) -> bool {
    let is_there = |tool: &&str| {
        let mut command = Command::new(tool);
        command
            .arg("--version")
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command.status().is_ok()
    };
    let missing = tools.iter().find(|tool| !is_there(tool));
    let why = match missing {
        _ if !adit_netns::userns::is_privileged() => "root",
        Some(tool) => tool,
        None => return false,
    };
    assert!(
        std::env::var_os("CI").is_none(),
        "{test} needs {why}, and CI has to have it"
    );
    eprintln!("SKIPPED: {test} needs {why}");
    true
}

/// A relay between a consumer and a provider, and the means to send TOA.
struct Stage {
    consumer: Vpc,
    provider: Vpc,
    relay: Relay,
}

impl Stage {
    /// The provider has further addresses that connections may come from.
    fn new(sources: &[Ipv4Addr]) -> Self {
        let config = Config {
            workers: 2,
            toa: Some(Sender::start(KIND_DEFAULT).unwrap()),
            ..Config::default()
        };
        Self {
            consumer: Vpc::new("consumer", &[CLIENT, *ENDPOINT.ip()]),
            provider: Vpc::new("provider", &[&[SOURCE, *BACKEND.ip()], sources].concat()),
            relay: Relay::start(config).unwrap(),
        }
    }

    fn target(&self, toa: bool) -> Target {
        Target {
            namespace: self.provider.descriptor(),
            source: SOURCE,
            backend: BACKEND.into(),
            header: None,
            toa,
        }
    }

    fn listener(&self, provider: Target) -> Listener {
        Listener {
            owner: OWNER.into(),
            consumer: Consumer {
                namespace: self.consumer.descriptor(),
                address: ENDPOINT,
            },
            provider,
            admission: Admission::default(),
        }
    }

    /// A client that has said its first words when the relay sees it, or that waits if there are none.
    fn connect(&self, words: &str) -> (TcpStream, SocketAddrV4) {
        self.consumer.connect(CLIENT, ENDPOINT, words.as_bytes())
    }

    /// Waits until the connections that went in have ended; answers those that went out without TOA.
    fn missing(&self, connections: u64) -> u64 {
        let deadline = std::time::Instant::now() + PATIENCE;
        loop {
            let stats = self
                .relay
                .snapshot()
                .owners
                .into_iter()
                .find(|o| o.owner == OWNER);
            if let Some(stats) = stats.filter(|stats| stats.finished() == connections) {
                return stats.toa_missing;
            }
            assert!(std::time::Instant::now() < deadline, "connections do not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// How a conversation begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum First {
    /// By the client, with its connection: what `Stage::connect` has said.
    Client,
    /// By the client, once the backend has its connection.
    ClientLater,
    /// By the server.
    Server,
}

impl First {
    fn words(self) -> &'static str {
        if self == Self::Client { "ping" } else { "" }
    }
}

/// One conversation: there, back, there again, and the ends. Answers where the backend sees it come from.
fn converse(client: &mut TcpStream, backend: &TcpListener, header: usize, first: First) -> SocketAddrV4 {
    let (mut accepted, from) = backend.accept().unwrap();
    accepted.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut buffer = vec![0; header];
    accepted.read_exact(&mut buffer).unwrap();
    let (mut there, mut back) = ([0; 4], [0; 4]);
    if first == First::Server {
        accepted.write_all(b"helo").unwrap();
        client.read_exact(&mut back).unwrap();
        assert_eq!(&back, b"helo");
    }
    for round in 0..3 {
        if round > 0 || first != First::Client {
            client.write_all(b"ping").unwrap();
        }
        accepted.read_exact(&mut there).unwrap();
        accepted.write_all(b"pong").unwrap();
        client.read_exact(&mut back).unwrap();
        assert_eq!((&there, &back), (b"ping", b"pong"), "round {round}");
    }
    client.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(accepted.read(&mut [0]).unwrap(), 0);
    drop(accepted);
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
    match from {
        std::net::SocketAddr::V4(from) => from,
        std::net::SocketAddr::V6(_) => unreachable!("the backend listens on IPv4"),
    }
}

/// The option for a client, as the documents of those who read it have it.
fn expected(client: SocketAddrV4) -> String {
    let [a, b, c, d] = client.ip().octets();
    format!("fe08{:04x}{a:02x}{b:02x}{c:02x}{d:02x}", client.port())
}

/// One connection's segments, by the port that it came from.
fn of(segments: &[Segment], from: SocketAddrV4) -> Vec<&Segment> {
    segments
        .iter()
        .filter(|segment| segment.from == from.port())
        .collect()
}

/// The option is on the segment that completes the handshake, and on each one up to the first data; on nothing before or
/// after. Answers whether that data completed the handshake.
fn assert_toa(segments: &[&Segment], client: SocketAddrV4) -> bool {
    let (first, rest) = segments.split_first().unwrap();
    assert!(first.syn && !first.has_toa(), "the SYN carries none: {first:?}");
    let data = rest.iter().position(|segment| segment.length > 0).unwrap();
    let (with, after) = rest.split_at(data + 1);
    for segment in with {
        assert!(
            segment.options.contains(&expected(client)),
            "{segment:?} for {client}"
        );
        assert_eq!(segment.options.len(), 40, "beside the timestamps: {segment:?}");
    }
    assert!(
        !after.iter().any(|segment| segment.has_toa()),
        "gone after the first acknowledgement: {segments:#?}"
    );
    assert!(after.iter().filter(|segment| segment.length > 0).count() >= 2);
    data == 0
}

#[test]
fn the_option_is_on_the_wire_where_it_has_to_be_and_nowhere_else() {
    let test = "the_option_is_on_the_wire_where_it_has_to_be_and_nowhere_else";
    if skip(test, &["tshark"]) {
        return;
    }
    let stage = Stage::new(&[]);
    let backend = stage.provider.run(|| TcpListener::bind(BACKEND)).unwrap();
    let id = stage.relay.open(stage.listener(stage.target(true))).unwrap();
    let capture = Capture::start(&stage.provider);
    let talk = |first: First, header| {
        let (mut client, address) = stage.connect(first.words());
        (address, converse(&mut client, &backend, header, first))
    };

    // First words that were held up for 200 ms, by a machine that is busy, come after a segment of their own; not each time.
    let speaking: Vec<_> = (0..TRIES).map(|_| talk(First::Client, 0)).collect();
    let waiting = [First::ClientLater, First::Server].map(|first| talk(first, 0));
    // A connection of its own in the same process and namespace, which nobody registered.
    let mut own = stage.provider.run(|| TcpStream::connect(BACKEND)).unwrap();
    let own_source = converse(&mut own, &backend, 0, First::ClientLater);
    // Both: the header is said at once, whoever speaks first, and the option with it.
    let identity = Identity {
        endpoint: OWNER,
        marker: 201_515_772,
        vni: None,
    };
    let header = Header::new(Profile::Vpcep, &identity, TlvTypes::default(), false);
    let both = Target {
        header: Some(header),
        ..stage.target(true)
    };
    stage.relay.retarget(id, both).unwrap();
    let headers: Vec<_> = (0..TRIES)
        .flat_map(|_| [First::Client, First::ClientLater, First::Server].map(|first| talk(first, 35)))
        .collect();
    // The same listener, told otherwise.
    stage.relay.retarget(id, stage.target(false)).unwrap();
    let plain_sources = [First::Client, First::ClientLater].map(|first| talk(first, 0).1);

    let segments = capture.end(BACKEND.port());
    let completes =
        |(client, source): &(SocketAddrV4, SocketAddrV4)| assert_toa(&of(&segments, *source), *client);
    for waiting in &waiting {
        assert!(!completes(waiting), "nothing was there to be said: {waiting:?}");
    }
    for group in [&speaking, &headers] {
        let at_once = group.iter().filter(|talk| completes(talk)).count();
        assert!(
            at_once > 0,
            "first words never complete the handshake: {segments:#?}"
        );
    }
    for (_, source) in &headers {
        let first_data = of(&segments, *source);
        let first_data = first_data.iter().find(|segment| segment.length > 0).unwrap();
        let signature = "0d0a0d0a000d0a515549540a";
        assert!(first_data.payload.starts_with(signature), "{first_data:?}");
    }
    for source in plain_sources.into_iter().chain([own_source]) {
        let plain = of(&segments, source);
        assert!(
            plain.len() > 4 && !plain.iter().any(|segment| segment.has_toa()),
            "{plain:#?}"
        );
    }
    let connections = speaking.len() + waiting.len() + headers.len() + plain_sources.len();
    assert_eq!(stage.missing(connections as u64), 0);
    stage.relay.close(id, Close::Cut).unwrap();
}

#[test]
fn a_client_that_breaks_off_with_its_first_words_is_not_missed() {
    let test = "a_client_that_breaks_off_with_its_first_words_is_not_missed";
    if skip(test, &[]) {
        return;
    }
    let stage = Stage::new(&[]);
    let backend = stage.provider.run(|| TcpListener::bind(BACKEND)).unwrap();
    let id = stage.relay.open(stage.listener(stage.target(true))).unwrap();
    const CLIENTS: u64 = 100;
    for _ in 0..CLIENTS {
        let (client, _) = stage.connect("ping");
        rustix::net::sockopt::set_socket_linger(&client, Some(Duration::ZERO)).unwrap();
    }
    assert_eq!(stage.missing(CLIENTS), 0);
    stage.relay.close(id, Close::Cut).unwrap();
    drop(backend);
}

/// A server to which segments with TOA are lost: empty ones for ever; those with data until it is told that it is enough.
const LOSES_THE_THIRD_ACK: &str = r#"
import ctypes, socket, struct, sys
s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind((sys.argv[1], int(sys.argv[2])))
def lose(flags_mask):
    # Classic BPF over the TCP header: flags are ACK alone but for the mask, and 20 bytes of options are all there is of it.
    code = [(0x30, 0, 0, 13), (0x54, 0, 0, flags_mask), (0x15, 0, 4, 0x10), (0x30, 0, 0, 12), (0x54, 0, 0, 0xf0), (0x15, 0, 1, 0xa0),
            (0x06, 0, 0, 0), (0x06, 0, 0, 0xffffffff)]
    filter = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *i) for i in code))
    s.setsockopt(socket.SOL_SOCKET, 26, struct.pack("HL", len(code), ctypes.addressof(filter)))
PSH = 0x08
lose(0xff & ~PSH)
s.listen()
print("listening")
sys.stdin.readline()
lose(0xff)
c, peer = s.accept()
print(peer[1])
for _ in range(3):
    c.sendall(b"pong" if c.recv(4) == b"ping" else b"what")
c.recv(1)
"#;

/// With a client that speaks at once, and with one that waits for a moment.
#[test]
fn the_option_survives_the_loss_of_the_third_ack() {
    let test = "the_option_survives_the_loss_of_the_third_ack";
    if skip(test, &["tshark", "python3"]) {
        return;
    }
    let stage = Stage::new(&[]);
    let (ip, port) = (BACKEND.ip().to_string(), BACKEND.port().to_string());
    let id = stage.relay.open(stage.listener(stage.target(true))).unwrap();
    for (before, first) in [First::Client, First::ClientLater].into_iter().enumerate() {
        let mut server = stage.provider.python(LOSES_THE_THIRD_ACK, &[&ip, &port]);
        assert_eq!(server.hear(), "listening");
        let mut capture = Capture::start(&stage.provider);
        let (mut client, address) = stage.connect(first.words());
        if first == First::ClientLater {
            capture.wait(|segment| segment.to == BACKEND.port() && segment.has_toa());
            client.write_all(b"ping").unwrap();
        }
        // The data is lost, and its first retransmission too.
        for _ in 0..2 {
            capture.wait(|segment| segment.to == BACKEND.port() && segment.length > 0);
        }
        server.tell("enough");
        // The server takes the connection in only with the data, which completes the handshake.
        let mut pong = [0; 4];
        for round in 0..3 {
            if round > 0 {
                client.write_all(b"ping").unwrap();
            }
            client.read_exact(&mut pong).unwrap();
            assert_eq!(&pong, b"pong");
        }
        let source = SocketAddrV4::new(SOURCE, server.hear().parse().unwrap());
        drop(client);
        assert_eq!(stage.missing(before as u64 + 1), 0);
        let segments = capture.end(BACKEND.port());
        let segments = of(&segments, source);
        let (lost, last): (Vec<&Segment>, Vec<&Segment>) =
            segments.iter().partition(|segment| segment.has_toa());
        for segment in &lost {
            assert!(segment.options.contains(&expected(address)), "{segment:?}");
        }
        let data = lost.iter().filter(|segment| segment.length > 0);
        assert!(
            data.clone().all(|segment| segment.payload == "70696e67") && data.count() >= 3,
            "the data, each time that it is sent: {segments:#?}"
        );
        if first == First::ClientLater {
            assert!(lost.iter().any(|segment| segment.length == 0), "the lost ACK");
        }
        assert!(
            last.iter().filter(|segment| segment.length > 0).count() >= 2,
            "gone at the end: {segments:#?}"
        );
    }
    stage.relay.close(id, Close::Cut).unwrap();
}

#[test]
fn another_kind_is_as_good_beside_the_first() {
    if skip("another_kind_is_as_good_beside_the_first", &[]) {
        return;
    }
    // Each has read its own kind back when it is there.
    let senders = [KIND_DEFAULT, 200, KIND_DEFAULT].map(|kind| Sender::start(kind).unwrap());
    assert_eq!(senders.map(|sender| sender.kind()), [254, 200, 254]);
}

#[test]
fn a_relay_that_cannot_send_it_does_not_promise_it() {
    let consumer = Arc::new(std::fs::File::open("/proc/thread-self/ns/net").unwrap().into());
    let target = |toa| Target {
        namespace: Arc::clone(&consumer),
        source: Ipv4Addr::LOCALHOST,
        backend: SocketAddrV4::new(Ipv4Addr::LOCALHOST, 9).into(),
        header: None,
        toa,
    };
    let relay = Relay::start(Config::default()).unwrap();
    let listener = |toa| Listener {
        owner: OWNER.into(),
        consumer: Consumer {
            namespace: Arc::clone(&consumer),
            address: SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0),
        },
        provider: target(toa),
        admission: Admission::default(),
    };
    assert!(matches!(relay.open(listener(true)), Err(OpenError::NoToa)));
    let id = relay.open(listener(false)).unwrap();
    assert!(matches!(
        relay.retarget(id, target(true)),
        Err(RetargetError::NoToa)
    ));
}
