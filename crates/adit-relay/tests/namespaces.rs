//! One relay between real network namespaces whose addresses overlap. Needs root, or the
//! privileges that root has in a user namespace.
#![allow(
    clippy::unwrap_used,
    reason = "this is a test, also where no function is marked so"
)]

mod rig;

use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use adit_netns::{Directory, Links, Namespace};
use adit_relay::{Admission, Close, Consumer, End, Listener, OpenError, Relay, Target};
use rig::{assert_reset, config, receive_all, send};

/// Overlapping on purpose: the endpoint's address in one VPC is the backend's in the others.
const SHARED: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 10), 8_080);
const SOURCE: Ipv4Addr = Ipv4Addr::new(198, 19, 128, 1);

/// A namespace that goes with the test.
struct Vpc {
    directory: Directory,
    namespace: Namespace,
}

impl Vpc {
    fn new(name: &str, addresses: &[Ipv4Addr]) -> Self {
        let directory = Directory::at(Directory::SYSTEM).unwrap();
        let name = format!("adit-relay-test-{}-{name}", std::process::id());
        let vpc = Self {
            namespace: directory.create(&name).unwrap(),
            directory,
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let links = Links::open(&vpc.namespace).await.unwrap();
            links.link_up("lo").await.unwrap();
            for address in addresses {
                let network = ipnet::Ipv4Net::new(*address, 32).unwrap();
                links.address_add("lo", network.into(), None).await.unwrap();
            }
        });
        vpc
    }

    fn descriptor(&self) -> Arc<OwnedFd> {
        Arc::new(self.namespace.as_fd().try_clone_to_owned().unwrap())
    }

    fn listen(&self) -> TcpListener {
        self.namespace.run(|| TcpListener::bind(SHARED)).unwrap().unwrap()
    }

    fn connect(&self, address: SocketAddrV4) -> std::io::Result<TcpStream> {
        self.namespace.run(|| TcpStream::connect(address)).unwrap()
    }
}

impl Drop for Vpc {
    fn drop(&mut self) {
        let _ = self.directory.remove(self.namespace.name());
    }
}

fn listener(owner: u128, consumer: &Vpc, provider: &Vpc) -> Listener {
    Listener {
        owner: owner.into(),
        consumer: Consumer {
            namespace: consumer.descriptor(),
            address: SHARED,
        },
        provider: Target {
            namespace: provider.descriptor(),
            source: SOURCE,
            backend: SHARED.into(),
            header: None,
            toa: false,
        },
        admission: Admission::default(),
    }
}

/// Whether a thread of the relay's is in a namespace other than the test's own.
fn relay_is_abroad() -> bool {
    let home = std::fs::read_link("/proc/thread-self/ns/net").unwrap();
    std::fs::read_dir("/proc/self/task").unwrap().any(|task| {
        let task = task.unwrap().path();
        let name = std::fs::read_to_string(task.join("comm")).unwrap_or_default();
        name.starts_with("adit-relay-")
            && std::fs::read_link(task.join("ns/net")).is_ok_and(|here| here != home)
    })
}

fn exchange(consumer: &Vpc, backend: &TcpListener, size: u64) {
    let client = consumer.connect(SHARED).unwrap();
    let (accepted, from) = backend.accept().unwrap();
    assert_eq!(from.ip(), IpAddr::V4(SOURCE));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            send(&accepted, 1, size).unwrap();
            accepted.shutdown(std::net::Shutdown::Write).unwrap();
            receive_all(&accepted, 2, size);
        });
        receive_all(&client, 1, size);
        send(&client, 2, size).unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
    });
}

#[test]
fn one_relay_connects_namespaces_whose_addresses_overlap() {
    if !adit_netns::userns::is_privileged() {
        assert!(std::env::var_os("CI").is_none(), "this test needs root");
        println!("SKIPPED one_relay_connects_namespaces_whose_addresses_overlap: run it as root");
        return;
    }
    let consumers = ["c0", "c1"].map(|name| Vpc::new(name, &[*SHARED.ip()]));
    let providers = ["p0", "p1"].map(|name| Vpc::new(name, &[*SHARED.ip(), SOURCE]));
    let backends = providers.each_ref().map(Vpc::listen);
    let relay = Relay::start(config()).unwrap();
    let ids = [0, 1].map(|i| {
        relay
            .open(listener(i as u128, &consumers[i], &providers[i]))
            .unwrap()
    });
    assert!(matches!(
        relay.open(listener(9, &consumers[0], &providers[1])),
        Err(OpenError::AddressInUse(_))
    ));

    for round in 0..20 {
        for i in [0, 1] {
            exchange(&consumers[i], &backends[i], round * 20_000);
        }
    }
    // Nothing but the mapped port answers, and nothing of it is seen from anywhere else.
    let unmapped = SocketAddrV4::new(*SHARED.ip(), 8_081);
    assert!(consumers[0].connect(unmapped).is_err());
    assert!(TcpListener::bind(SHARED).is_err(), "the host has no such address");

    // One changes sides; the other's connections stay where they are.
    let target = Target {
        namespace: providers[0].descriptor(),
        source: SOURCE,
        backend: SHARED.into(),
        header: None,
        toa: false,
    };
    relay.retarget(ids[1], target).unwrap();
    exchange(&consumers[1], &backends[0], 100_000);

    let mut client = consumers[0].connect(SHARED).unwrap();
    let (mut accepted, _) = backends[0].accept().unwrap();
    for id in ids {
        relay.close(id, Close::Cut).unwrap();
    }
    assert_reset(&mut client);
    assert_reset(&mut accepted);
    assert!(
        !relay_is_abroad(),
        "a worker that stays in a namespace keeps it alive"
    );
    let again = relay.open(listener(0, &consumers[0], &providers[0])).unwrap();
    exchange(&consumers[0], &backends[0], 10);
    relay.close(again, Close::Cut).unwrap();
}

#[test]
fn a_source_without_a_free_port_refuses_by_name_and_recovers() {
    if !adit_netns::userns::is_privileged() {
        assert!(std::env::var_os("CI").is_none(), "this test needs root");
        println!("SKIPPED a_source_without_a_free_port_refuses_by_name_and_recovers: run it as root");
        return;
    }
    // An even number: the kernel leaves the last one of an odd range alone.
    const PORTS: usize = 4;
    let consumer = Vpc::new("c2", &[*SHARED.ip()]);
    let provider = Vpc::new("p2", &[*SHARED.ip(), SOURCE]);
    let range = || std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", "40000 40003");
    if let Err(error) = provider.namespace.run(range).unwrap() {
        assert!(
            std::env::var_os("CI").is_none(),
            "this test sets ip_local_port_range: {error}"
        );
        println!("SKIPPED a_source_without_a_free_port_refuses_by_name_and_recovers: /proc/sys is read-only");
        return;
    }
    let backend = provider.listen();
    let relay = Relay::start(config()).unwrap();
    relay.open(listener(1, &consumer, &provider)).unwrap();
    let connection = || {
        let client = consumer.connect(SHARED).unwrap();
        (client, backend.accept().unwrap().0)
    };
    let mut live: Vec<_> = (0..PORTS).map(|_| connection()).collect();
    for _ in 0..5 {
        assert_reset(&mut consumer.connect(SHARED).unwrap());
    }
    let refused = |count| {
        let stats = rig::stats(&relay, 1).unwrap();
        assert_eq!(stats.ended(End::SourcePortsExhausted), count);
    };
    refused(5);
    // The backend closes first, so that its side waits in TIME_WAIT, and the port is free.
    let (mut client, accepted) = live.pop().unwrap();
    drop(accepted);
    rig::assert_ended(&mut client);
    drop(client);
    rig::eventually("a port to be free", || rig::stats(&relay, 1).unwrap().active == 3);
    // The kernel may hold it for the moment that the last segments take: whoever comes then is refused, and comes again.
    backend.set_nonblocking(true).unwrap();
    rig::eventually("a client to be served again", || {
        let mut client = consumer.connect(SHARED).unwrap();
        client.set_nonblocking(true).unwrap();
        loop {
            if backend.accept().is_ok() {
                return true;
            }
            match client.read(&mut [0]) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::yield_now(),
                _ => return false,
            }
        }
    });
}
