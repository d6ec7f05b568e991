//! Bytes through an endpoint of a running region, between two VPCs with the same addresses: nothing lost, nothing
//! truncated, no descriptor leaked, and no way to anything else.
#![expect(clippy::unwrap_used, reason = "a test's panic is its verdict")]

mod process;

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, SocketAddrV4, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use adit_netns::Namespace;
use process::pattern::Pattern;
use process::{BACKEND_PORT, CLIENT_PORT, CLIENT_VPC, Client, Region, skip_without_root, until};
use serde_json::json;

/// How many connections go through the endpoint.
const CONNECTIONS: usize = 10_000;
/// By how many clients at a time.
const CLIENTS: usize = 24;
/// How long a client waits for what must not come.
const SILENCE: Duration = Duration::from_millis(300);

/// What one connection carries: so much up, so much down, and who ends its direction first.
#[derive(Clone, Copy)]
struct Job {
    up: u32,
    down: u32,
    server_first: bool,
}

impl Job {
    /// Mostly small, some large, a few of up to 20 MB.
    fn number(n: usize) -> Self {
        let mut mixed = (n as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mut size = || {
            mixed ^= mixed >> 29;
            mixed = mixed.wrapping_mul(0xBF58_476D_1CE4_E5B9);
            let largest = match n % 1000 {
                0 => 20_000_000,
                1..=9 => 2_000_000,
                10..=99 => 200_000,
                _ => 2_000,
            };
            (mixed >> 32) as u32 % (largest + 1)
        };
        Self {
            up: size(),
            down: size(),
            server_first: n.is_multiple_of(2),
        }
    }

    fn header(self) -> [u8; 9] {
        let mut header = [0; 9];
        header[..4].copy_from_slice(&self.up.to_be_bytes());
        header[4..8].copy_from_slice(&self.down.to_be_bytes());
        header[8] = u8::from(self.server_first);
        header
    }

    fn of_header(header: [u8; 9]) -> Self {
        let word = |at: usize| u32::from_be_bytes(header[at..at + 4].try_into().unwrap());
        Self {
            up: word(0),
            down: word(4),
            server_first: header[8] != 0,
        }
    }

    fn client(self, block: &Pattern, stream: &mut TcpStream) -> io::Result<()> {
        stream.write_all(&self.header())?;
        if self.server_first {
            block.receive(stream, self.down as usize)?;
            block.send(stream, self.up as usize)?;
            stream.shutdown(Shutdown::Write)?;
            // The server says nothing more; its end of the connection comes when it has everything.
            return Ok(());
        }
        block.send(stream, self.up as usize)?;
        stream.shutdown(Shutdown::Write)?;
        block.receive(stream, self.down as usize)
    }

    fn server(block: &Pattern, stream: &mut TcpStream) -> io::Result<()> {
        let mut header = [0; 9];
        stream.read_exact(&mut header)?;
        let job = Self::of_header(header);
        if job.server_first {
            block.send(stream, job.down as usize)?;
            stream.shutdown(Shutdown::Write)?;
            return block.receive(stream, job.up as usize);
        }
        block.receive(stream, job.up as usize)?;
        block.send(stream, job.down as usize)?;
        stream.shutdown(Shutdown::Write)
    }
}

fn listen(inside: &Namespace, port: u16) -> TcpListener {
    inside
        .run(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)))
        .unwrap()
        .unwrap()
}

fn connect(inside: &Namespace, to: SocketAddrV4) -> io::Result<TcpStream> {
    inside
        .run(|| TcpStream::connect_timeout(&to.into(), Duration::from_secs(10)))
        .unwrap()
}

/// Answers what each client asks for; counts the connections that went well from end to end.
fn serve(listener: TcpListener, block: Pattern, good: Arc<AtomicUsize>) {
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (block, good) = (block.clone(), Arc::clone(&good));
            std::thread::spawn(move || {
                let mut stream = stream;
                Job::server(&block, &mut stream).unwrap();
                good.fetch_add(1, Ordering::Relaxed);
            });
        }
    });
}

#[test]
fn ten_thousand_connections_lose_nothing_and_leak_nothing() {
    if skip_without_root("ten_thousand_connections_lose_nothing_and_leak_nothing") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let region = Region::start(dir.path(), &[]);
    let (provider, consumer) = (Client::demo(&region.api), Client::other(&region.api));
    let service = provider.publish(&json!([{"client_port": 7000, "server_port": 80}]));
    let (_, ip) = consumer.connect(&service);
    let (block, good) = (Pattern::new(), Arc::new(AtomicUsize::new(0)));
    serve(
        listen(&region.port(BACKEND_PORT), 80),
        block.clone(),
        Arc::clone(&good),
    );
    let client = region.port(CLIENT_PORT);
    // The first connections make the relay fill its pools, which it keeps.
    let run = |numbers: &AtomicUsize, until: usize| {
        std::thread::scope(|scope| {
            for _ in 0..CLIENTS {
                scope.spawn(|| {
                    // A thread that stays inside: entering for each connection is not what is tested.
                    client
                        .run(|| {
                            loop {
                                let n = numbers.fetch_add(1, Ordering::Relaxed);
                                if n >= until {
                                    return;
                                }
                                let mut stream = TcpStream::connect((ip, 7000)).unwrap();
                                Job::number(n).client(&block, &mut stream).unwrap();
                            }
                        })
                        .unwrap();
                });
            }
        });
    };
    let numbers = AtomicUsize::new(0);
    run(&numbers, CLIENTS);
    until("the first connections to end", || {
        (good.load(Ordering::Relaxed) == CLIENTS).then_some(())
    });
    let idle = region.descriptors();
    numbers.store(CLIENTS, Ordering::Relaxed);
    run(&numbers, CONNECTIONS);
    until("every connection to end well on the server's side", || {
        (good.load(Ordering::Relaxed) == CONNECTIONS).then_some(())
    });
    // Pipes that are kept for the next large stream are the only thing that may have been added.
    let most = idle + 2 * 2 * CLIENTS;
    until("the region to close its descriptors", || {
        (region.descriptors() <= most).then_some(())
    });
    assert!(region.stop(), "a clean stop");
}

#[test]
fn only_mapped_ports_lead_anywhere_and_the_backend_sees_the_reserved_range() {
    if skip_without_root("only_mapped_ports_lead_anywhere_and_the_backend_sees_the_reserved_range") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let region = Region::start(dir.path(), &[]);
    let (provider, consumer) = (Client::demo(&region.api), Client::other(&region.api));
    let service = provider.publish(&json!([{"client_port": 7000, "server_port": 80}]));
    let (endpoint, ip) = consumer.connect(&service);
    let backend = region.port(BACKEND_PORT);
    let (mapped, unmapped) = (listen(&backend, 80), listen(&backend, 81));
    unmapped.set_nonblocking(true).unwrap();
    let (client, client_vpc) = (region.port(CLIENT_PORT), region.vpc(CLIENT_VPC));

    let mut stream = connect(&client, SocketAddrV4::new(ip, 7000)).unwrap();
    let (mut served, peer) = mapped.accept().unwrap();
    let SocketAddr::V4(peer) = peer else {
        panic!("{peer}")
    };
    assert!(adit_model::network::RESERVED.contains(peer.ip()), "{peer}");
    stream.write_all(b"ping").unwrap();
    let mut four = [0; 4];
    served.read_exact(&mut four).unwrap();
    assert_eq!(&four, b"ping");

    // Every other port of the endpoint is refused, those included that the backend listens on.
    for port in [80, 81, 1, 22, 6999, 7001, 65535] {
        let refused = connect(&client, SocketAddrV4::new(ip, port)).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused, "port {port}");
    }
    // Nothing of the provider's VPC can be reached by its own address, from the client or from its router.
    for from in [&client, &client_vpc] {
        for to in [Ipv4Addr::new(10, 0, 0, 10), *peer.ip()] {
            for port in [80, 81] {
                let to = SocketAddr::from((to, port));
                let reached = from.run(|| TcpStream::connect_timeout(&to, SILENCE)).unwrap();
                assert!(reached.is_err(), "{to} answers");
            }
        }
    }
    assert_eq!(
        unmapped.accept().unwrap_err().kind(),
        io::ErrorKind::WouldBlock,
        "nobody got to the unmapped port"
    );
    // Nor does the provider get into the consumer's VPC: 10.0.0.20 is nobody in its own.
    let consumer_address = SocketAddr::from((Ipv4Addr::new(10, 0, 0, 20), 7000));
    assert!(
        backend
            .run(|| TcpStream::connect_timeout(&consumer_address, SILENCE))
            .unwrap()
            .is_err()
    );

    // Deleting cuts what is open, at once, with a reset.
    consumer.must("DELETE", &format!("vpc-endpoints/{endpoint}"), None);
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    assert_eq!(
        stream.read(&mut four).unwrap_err().kind(),
        io::ErrorKind::ConnectionReset
    );
    assert_eq!(
        served.read(&mut four).unwrap_err().kind(),
        io::ErrorKind::ConnectionReset
    );
    // Creating it again works at once.
    let (_, ip) = consumer.connect(&service);
    connect(&client, SocketAddrV4::new(ip, 7000)).unwrap();
    mapped.accept().unwrap();
    assert!(region.stop(), "a clean stop");
}

#[test]
fn a_killed_region_is_swept_at_the_next_start_and_serves_again() {
    if skip_without_root("a_killed_region_is_swept_at_the_next_start_and_serves_again") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let region = Region::start(dir.path(), &[]);
    let (provider, consumer) = (Client::demo(&region.api), Client::other(&region.api));
    let service = provider.publish(&json!([{"client_port": 7000, "server_port": 80}]));
    let (endpoint, ip) = consumer.connect(&service);
    let (instance, before) = (region.instance(), region.port(CLIENT_PORT).inode());
    region.kill();
    assert!(
        !Region::namespaces(&instance).is_empty(),
        "a kill leaves the namespaces behind"
    );

    let region = Region::start(dir.path(), &[]);
    let consumer = Client::other(&region.api);
    let client = region.port(CLIENT_PORT);
    assert_ne!(client.inode(), before, "what was left is not used again");
    let listener = listen(&region.port(BACKEND_PORT), 80);
    until("the endpoint to serve again", || {
        connect(&client, SocketAddrV4::new(ip, 7000)).ok()
    });
    listener.accept().unwrap();
    let shown = consumer.must("GET", &format!("vpc-endpoints/{endpoint}"), None);
    assert_eq!(
        (&shown["status"], &shown["ip"]),
        (&json!("accepted"), &json!(ip.to_string()))
    );
    drop((client, listener));
    assert!(region.stop(), "a clean stop");
    assert_eq!(
        Region::namespaces(&instance),
        [""; 0],
        "a clean stop leaves nothing"
    );
}
