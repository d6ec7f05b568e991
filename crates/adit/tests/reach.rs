//! What a change of a service reaches: new connections, and none that is open. A real region, real connections.
#![expect(clippy::unwrap_used, reason = "a test's panic is its verdict")]

mod process;

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    time::Duration,
};

use adit_netns::Namespace;
use process::{BACKEND_NEUTRON_SUBNET, BACKEND_PORT, CLIENT_PORT, Client, Region, skip_without_root, until};
use serde_json::{Value, json};

/// A test that waits longer for something has failed.
const PATIENCE: Duration = Duration::from_secs(30);
/// What a PROXY header begins with, in its text form.
const HEADER: u8 = b'P';

/// Serves a port: says its name, one byte, and then everything that it hears.
fn serve(inside: &Namespace, port: u16, name: u8) {
    let listener = inside
        .run(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)))
        .unwrap()
        .unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut back = stream.try_clone()?;
                back.write_all(&[name])?;
                io::copy(&mut stream, &mut back)
            });
        }
    });
}

/// A connection through the endpoint.
struct Connection {
    stream: TcpStream,
    /// Which server it got to.
    server: u8,
    /// The first that this server heard.
    first: u8,
}

impl Connection {
    fn open(inside: &Namespace, to: (Ipv4Addr, u16)) -> io::Result<Self> {
        let mut stream = inside.run(|| TcpStream::connect(to)).unwrap()?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(b"x")?;
        let (mut server, mut first) = ([0], [0]);
        stream.read_exact(&mut server)?;
        stream.read_exact(&mut first)?;
        // Of a header, the rest, and what was sent behind it.
        if first[0] == HEADER {
            let mut byte = first;
            while byte[0] != b'\n' {
                stream.read_exact(&mut byte)?;
            }
            stream.read_exact(&mut byte)?;
            assert_eq!(&byte, b"x");
        }
        Ok(Self {
            stream,
            server: server[0],
            first: first[0],
        })
    }

    /// Sends and hears again, on the connection as it is.
    fn goes_on(&mut self) {
        let mut heard = [0; 5];
        self.stream.write_all(b"still").unwrap();
        self.stream.read_exact(&mut heard).unwrap();
        assert_eq!(&heard, b"still");
    }
}

#[test]
fn a_change_is_for_new_connections_only() {
    if skip_without_root("a_change_is_for_new_connections_only") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let region = Region::start(dir.path(), &["--proxy-profile", "v1"]);
    let (provider, consumer) = (Client::demo(&region.api), Client::other(&region.api));
    let subnet = json!({"fixed_ips": [{"subnet_id": BACKEND_NEUTRON_SUBNET}], "device_owner": "compute:eu-de-01",
        "network_id": "4189d3c2-8882-4871-a3c2-d380272eed81"});
    let other = provider.must("POST", "/v2.0/ports", Some(&json!({"port": subnet})));
    let other = other["port"]["id"].as_str().unwrap();
    let backend = region.port(BACKEND_PORT);
    serve(&backend, 80, b'1');
    serve(&backend, 81, b'2');
    serve(&region.port(other), 81, b'3');

    let service = provider.publish(&json!([{"client_port": 7000, "server_port": 80}]));
    let (_, ip) = consumer.connect(&service);
    let client = region.port(CLIENT_PORT);
    let mut open = vec![Connection::open(&client, (ip, 7000)).unwrap()];
    assert_eq!((open[0].server, open[0].first), (b'1', b'x'));
    for (change, server, first) in [
        (json!({"tcp_proxy": "proxy_open"}), b'1', HEADER),
        (
            json!({"ports": [{"client_port": 7000, "server_port": 81}]}),
            b'2',
            HEADER,
        ),
        (json!({"port_id": other}), b'3', HEADER),
        (json!({"tcp_proxy": "close"}), b'3', b'x'),
    ] {
        set(&provider, &service, &change);
        let new = until("a connection that has the change", || {
            let new = Connection::open(&client, (ip, 7000)).unwrap();
            let changed = (new.server, new.first) == (server, first);
            // What came before the change reached the gateway is as what was open.
            let before = open.last().unwrap();
            assert!(changed || (new.server, new.first) == (before.server, before.first));
            changed.then_some(new)
        });
        open.iter_mut().for_each(Connection::goes_on);
        open.push(new);
    }

    // A mapping that is put in another's place: the old one refuses, and what came in by it goes on.
    set(
        &provider,
        &service,
        &json!({"ports": [{"client_port": 7001, "server_port": 81}]}),
    );
    let moved = until("the other port", || Connection::open(&client, (ip, 7001)).ok());
    assert_eq!((moved.server, moved.first), (b'3', b'x'));
    until("the former port to refuse", || {
        let refused = Connection::open(&client, (ip, 7000)).err()?;
        (refused.kind() == io::ErrorKind::ConnectionRefused).then_some(())
    });
    open.iter_mut().for_each(Connection::goes_on);
    assert!(region.stop(), "a clean stop");
}

fn set(provider: &Client, service: &str, change: &Value) {
    provider.must("PUT", &format!("vpc-endpoint-services/{service}"), Some(change));
}
