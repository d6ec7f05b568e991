//! What unmodified servers see: those in the receiver's cgroup the client, where it may be believed; all others the peer.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, AsRawFd};

use adit_relay::Target;
use adit_relay::toa::{Cgroup, KIND_DEFAULT, Outcomes, Receiver};

use crate::vpc::{Python, Vpc};
use crate::{BACKEND, CLIENT, First, SOURCE, Stage, skip};

/// Out of the block of addresses that is believed.
const STRANGER: Ipv4Addr = Ipv4Addr::new(10, 9, 9, 9);

/// A server that greets its client, and says whom it sees, by `accept` and by `getpeername`. With a third argument it never sees
/// an empty segment with TOA (see `LOSES_THE_THIRD_ACK`); with a cgroup's directory as the first it goes there before it makes
/// a socket.
const SERVER: &str = r#"
import ctypes, socket, struct, sys
cgroup, ip, port, *lossy = sys.argv[1:]
if cgroup:
    open(cgroup + "/cgroup.procs", "w").write("0")
family = socket.AF_INET6 if ":" in ip else socket.AF_INET
s = socket.socket(family)
if family == socket.AF_INET6:
    s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind((ip, int(port)))
if lossy:
    code = [(0x30, 0, 0, 13), (0x15, 0, 3, 0x10), (0x80, 0, 0, 0), (0x15, 0, 1, 40), (0x06, 0, 0, 0), (0x06, 0, 0, 0xffffffff)]
    filter = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *i) for i in code))
    s.setsockopt(socket.SOL_SOCKET, 26, struct.pack("HL", len(code), ctypes.addressof(filter)))
s.listen()
print("listening")
while True:
    c, peer = s.accept()
    c.sendall(b"helo")
    c.sendall(c.recv(4))
    print(*peer[:2], *c.getpeername()[:2])
    c.close()
"#;

/// A cgroup that goes with the test.
struct TestCgroup {
    own: Cgroup,
    name: String,
    cgroup: Cgroup,
}

impl TestCgroup {
    fn new(name: &str) -> Self {
        let own = Cgroup::own().unwrap();
        let name = format!("adit-test-{}-{name}", std::process::id());
        let cgroup = own.create(&name).unwrap();
        Self { own, name, cgroup }
    }

    fn path(&self) -> String {
        format!(
            "/proc/{}/fd/{}",
            std::process::id(),
            self.cgroup.as_fd().as_raw_fd()
        )
    }
}

impl Drop for TestCgroup {
    fn drop(&mut self) {
        // A process that has just been ended may still be on its way out.
        for _ in 0..1000 {
            if self.own.remove(&self.name).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
    }
}

fn server(vpc: &Vpc, arguments: &[&str]) -> Python {
    let mut server = vpc.python(SERVER, arguments);
    assert_eq!(server.hear(), "listening");
    server
}

/// Whom the server sees, when a client connects that we see; which either speaks first, or waits for the server's greeting.
fn seen_of(stage: &Stage, server: &mut Python, first: First) -> (String, SocketAddrV4) {
    let (mut client, address) = stage.connect(first.words());
    let mut answer = [0; 4];
    client.read_exact(&mut answer).unwrap();
    if first == First::Server {
        client.write_all(b"ping").unwrap();
    }
    client.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"ping");
    (server.hear(), address)
}

fn seen(stage: &Stage, server: &mut Python) -> (String, SocketAddrV4) {
    seen_of(stage, server, First::Client)
}

/// As `SERVER` says it, in the form of its own family.
fn shown(address: SocketAddrV4, prefix: &str) -> String {
    let (ip, port) = (address.ip(), address.port());
    format!("{prefix}{ip} {port} {prefix}{ip} {port}")
}

#[test]
fn unmodified_servers_see_the_client_where_its_relay_is_believed() {
    let test = "unmodified_servers_see_the_client_where_its_relay_is_believed";
    if skip(test, &["python3"]) {
        return;
    }
    let stage = Stage::new(&[STRANGER]);
    let inside = TestCgroup::new("inside");
    let mut receiver = Receiver::load("198.19.128.0/17".parse().unwrap(), KIND_DEFAULT).unwrap();
    receiver.attach(&inside.cgroup).unwrap();
    let (path, ip) = (inside.path(), BACKEND.ip().to_string());
    let mut v4 = server(&stage.provider, &[&path, &ip, "9091"]);
    let mut v6 = server(&stage.provider, &[&path, "::", "9092"]);
    let mut lossy = server(&stage.provider, &[&path, &ip, "9093", "lossy"]);
    let mut outside = server(&stage.provider, &["", &ip, "9094"]);
    let to = |port, source, toa| Target {
        source,
        backend: SocketAddrV4::new(*BACKEND.ip(), port).into(),
        ..stage.target(toa)
    };
    let id = stage.relay.open(stage.listener(to(9_091, SOURCE, true))).unwrap();

    for first in [First::Client, First::Server] {
        stage.relay.retarget(id, to(9_091, SOURCE, true)).unwrap();
        let (peer, client) = seen_of(&stage, &mut v4, first);
        assert_eq!(*client.ip(), CLIENT);
        assert_eq!(peer, shown(client, ""));
        stage.relay.retarget(id, to(9_092, SOURCE, true)).unwrap();
        let (peer, client) = seen_of(&stage, &mut v6, first);
        assert_eq!(peer, shown(client, "::ffff:"));
    }
    // The data completes the handshake there.
    stage.relay.retarget(id, to(9_093, SOURCE, true)).unwrap();
    let (peer, client) = seen(&stage, &mut lossy);
    assert_eq!(peer, shown(client, ""));
    assert_eq!(receiver.outcomes(), outcomes(5, 0, 0));

    // The same option from somebody else.
    for (server, port, prefix) in [(&mut v4, 9_091, ""), (&mut v6, 9_092, "::ffff:")] {
        stage.relay.retarget(id, to(port, STRANGER, true)).unwrap();
        let (peer, _) = seen(&stage, server);
        assert!(peer.starts_with(&format!("{prefix}{STRANGER} ")), "{peer}");
    }
    assert_eq!(receiver.outcomes(), outcomes(5, 2, 0));
    // No option, from one who would be believed.
    stage.relay.retarget(id, to(9_091, SOURCE, false)).unwrap();
    let (peer, _) = seen(&stage, &mut v4);
    assert!(peer.starts_with(&format!("{SOURCE} ")), "{peer}");
    assert_eq!(receiver.outcomes(), outcomes(5, 2, 1));
    // A server that is not in the cgroup, and one that is no more attended to.
    stage.relay.retarget(id, to(9_094, SOURCE, true)).unwrap();
    let (peer, _) = seen(&stage, &mut outside);
    assert!(peer.starts_with(&format!("{SOURCE} ")), "{peer}");
    assert_eq!(receiver.outcomes(), outcomes(5, 2, 1));
    drop(receiver);
    stage.relay.retarget(id, to(9_091, SOURCE, true)).unwrap();
    let (peer, _) = seen(&stage, &mut v4);
    assert!(peer.starts_with(&format!("{SOURCE} ")), "{peer}");
}

fn outcomes(believed: u64, not_believed: u64, without: u64) -> Outcomes {
    Outcomes {
        believed,
        not_believed,
        without,
    }
}
