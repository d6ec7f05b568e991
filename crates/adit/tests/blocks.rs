//! A gateway endpoint of a running region: clients reach the service's own addresses, and nothing else of its network.
#![expect(clippy::unwrap_used, reason = "a test's panic is its verdict")]

mod process;

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream},
    time::Duration,
};

use adit_netns::Namespace;
use process::{
    BACKEND_PORT, CLIENT_PORT, CLIENT_VPC, Client, OTHER_PROJECT, Region, skip_without_root, until,
};
use serde_json::json;

/// The operator's server behind `com.t-systems.otc.eu-de.obs`, and its address.
const OBS_PORT: &str = "7d20ab63-8e4f-4c19-8032-6b1d9f5e3c28";
const OBS_SERVICE: &str = "7d20ab63-8e4f-4c19-8032-6b1d9f5e3c2d";
const OBS: Ipv4Addr = Ipv4Addr::new(100, 125, 0, 10);
/// How long a client waits for what must not come.
const SILENCE: Duration = Duration::from_millis(300);
/// How long it waits for what must.
const PATIENCE: Duration = Duration::from_secs(10);

fn connect(from: &Namespace, to: SocketAddrV4, timeout: Duration) -> io::Result<TcpStream> {
    let stream = from
        .run(|| TcpStream::connect_timeout(&SocketAddr::V4(to), timeout))
        .unwrap()?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn create(consumer: &Client) -> String {
    create_on(consumer, None)
}

/// On a route table of its own, where one is named; else on the default one.
fn create_on(consumer: &Client, table: Option<&str>) -> String {
    let mut body = json!({"endpoint_service_id": OBS_SERVICE, "vpc_id": CLIENT_VPC});
    if let Some(table) = table {
        body["routetables"] = json!([table]);
    }
    let id = consumer.must("POST", "vpc-endpoints", Some(&body))["id"]
        .as_str()
        .unwrap()
        .to_owned();
    until("the gateway endpoint", || {
        let shown = consumer.must("GET", &format!("vpc-endpoints/{id}"), None);
        (shown["status"] == "accepted").then_some(())
    });
    id
}

#[test]
fn a_gateway_endpoint_leads_to_the_service_s_own_addresses_and_to_nothing_else() {
    if skip_without_root("a_gateway_endpoint_leads_to_the_service_s_own_addresses_and_to_nothing_else") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let region = Region::start(dir.path(), &[]);
    let consumer = Client::other(&region.api);
    let obs = region.port(OBS_PORT);
    let server = obs.run(|| TcpListener::bind((OBS, 80))).unwrap().unwrap();
    let unmapped = obs.run(|| TcpListener::bind((OBS, 81))).unwrap().unwrap();
    unmapped.set_nonblocking(true).unwrap();
    let client = region.port(CLIENT_PORT);
    let service = SocketAddrV4::new(OBS, 80);
    assert!(
        connect(&client, service, SILENCE).is_err(),
        "without an endpoint nothing leads there"
    );

    let endpoint = create(&consumer);
    let mut stream = connect(&client, service, PATIENCE).unwrap();
    assert_eq!(stream.peer_addr().unwrap(), SocketAddr::V4(service));
    let (mut served, peer) = server.accept().unwrap();
    served.set_read_timeout(Some(PATIENCE)).unwrap();
    let SocketAddr::V4(peer) = peer else {
        unreachable!("an IPv4 listener")
    };
    assert!(adit_model::network::RESERVED.contains(peer.ip()), "{peer}");
    stream.write_all(b"ping").unwrap();
    let mut four = [0; 4];
    served.read_exact(&mut four).unwrap();
    assert_eq!(&four, b"ping");

    // A port that the service does not have is refused, also where the server listens on it; so is the way there itself.
    let refused = connect(&client, SocketAddrV4::new(OBS, 81), PATIENCE).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    assert_eq!(unmapped.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
    for end in [Ipv4Addr::new(169, 254, 64, 1), Ipv4Addr::new(169, 254, 64, 2)] {
        let reached = connect(&client, SocketAddrV4::new(end, 80), SILENCE);
        let lost = reached.and_then(|mut stream| stream.read(&mut four));
        assert!(lost.is_err(), "{end} answers");
    }
    // An address of the blocks that nobody has ends as one.
    let nobody = connect(
        &client,
        SocketAddrV4::new(Ipv4Addr::new(100, 125, 0, 99), 80),
        PATIENCE,
    );
    assert!(nobody.and_then(|mut stream| stream.read(&mut four)).is_err());
    // Another tenant's VPC has no part in it.
    assert!(connect(&region.port(BACKEND_PORT), service, SILENCE).is_err());

    // Somebody takes the way away: it comes back.
    let vpc = region.vpc(CLIENT_VPC);
    let down = std::process::Command::new("ip")
        .args(["-n", vpc.name(), "route", "del", "100.125.0.0/16"])
        .status()
        .unwrap();
    assert!(down.success());
    until("the way to come back", || connect(&client, service, SILENCE).ok());
    server.accept().unwrap();

    // Deleting cuts what is open, and the way is gone.
    consumer.must("DELETE", &format!("vpc-endpoints/{endpoint}"), None);
    assert_eq!(
        stream.read(&mut four).unwrap_err().kind(),
        io::ErrorKind::ConnectionReset
    );
    until("the way to be gone", || {
        connect(&client, service, SILENCE).is_err().then_some(())
    });

    // Made again it works again, also after a kill, which leaves neither link nor namespace of it.
    create(&consumer);
    connect(&client, service, PATIENCE).unwrap();
    region.kill();
    let region = Region::start(dir.path(), &[]);
    let server = region
        .port(OBS_PORT)
        .run(|| TcpListener::bind((OBS, 80)))
        .unwrap()
        .unwrap();
    let client = region.port(CLIENT_PORT);
    until("the endpoint to serve again", || {
        connect(&client, service, SILENCE).ok()
    });
    server.accept().unwrap();
    assert!(region.stop(), "a clean stop");
}

#[test]
fn endpoints_on_route_tables_of_their_own_are_all_served() {
    if skip_without_root("endpoints_on_route_tables_of_their_own_are_all_served") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let region = Region::start(dir.path(), &[]);
    let consumer = Client::other(&region.api);
    let obs = region.port(OBS_PORT);
    let server = obs.run(|| TcpListener::bind((OBS, 80))).unwrap().unwrap();
    let client = region.port(CLIENT_PORT);
    let pair = || {
        let stream = connect(&client, SocketAddrV4::new(OBS, 80), PATIENCE).unwrap();
        let (served, peer) = server.accept().unwrap();
        served.set_read_timeout(Some(PATIENCE)).unwrap();
        (stream, served, peer.ip())
    };
    let talk = |(stream, served, _): &mut (TcpStream, TcpStream, std::net::IpAddr)| {
        stream.write_all(b"ping").unwrap();
        let mut four = [0; 4];
        served.read_exact(&mut four).unwrap();
        assert_eq!(&four, b"ping");
    };

    // All of them are `accepted`, and the first carries what is connected.
    let first = create(&consumer);
    let mut old = pair();
    let others: Vec<_> = ["one", "two"]
        .into_iter()
        .map(|name| {
            let table = json!({"routetable": {"name": name, "vpc_id": CLIENT_VPC}});
            let made = consumer.must("POST", &format!("/v1/{OTHER_PROJECT}/routetables"), Some(&table));
            create_on(&consumer, made["routetable"]["id"].as_str())
        })
        .collect();
    talk(&mut old);
    let mut beside = pair();
    assert_eq!(old.2, beside.2);
    talk(&mut beside);

    // When it goes, the next one carries on without a moment between.
    let gone = |(stream, _, _): &mut (TcpStream, TcpStream, std::net::IpAddr)| {
        let cut = stream.read(&mut [0]).map_err(|e| e.kind());
        assert_eq!(cut, Err(io::ErrorKind::ConnectionReset));
    };
    consumer.must("DELETE", &format!("vpc-endpoints/{first}"), None);
    gone(&mut old);
    gone(&mut beside);
    until("the first endpoint to be gone", || {
        let asked = consumer.try_call("GET", &format!("vpc-endpoints/{first}"), None);
        (asked.unwrap().0 == 404).then_some(())
    });
    let mut second = pair();
    assert_ne!(old.2, second.2, "each has a source address of its own");
    // One that goes behind it takes nothing along.
    consumer.must("DELETE", &format!("vpc-endpoints/{}", others[1]), None);
    until("the third endpoint to be gone", || {
        let asked = consumer.try_call("GET", &format!("vpc-endpoints/{}", others[1]), None);
        (asked.unwrap().0 == 404).then_some(())
    });
    talk(&mut second);
    consumer.must("DELETE", &format!("vpc-endpoints/{}", others[0]), None);
    gone(&mut second);
    until("the way to be gone", || {
        connect(&client, SocketAddrV4::new(OBS, 80), SILENCE)
            .is_err()
            .then_some(())
    });
    assert!(region.stop(), "a clean stop");
}
