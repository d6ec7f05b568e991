//! Who gets through an endpoint of a running region: its own access control, and the owner's word.
#![expect(clippy::unwrap_used, reason = "a test's panic is its verdict")]

mod process;

use std::{
    io::{ErrorKind, Read},
    net::{Ipv4Addr, TcpListener, TcpStream},
    time::Duration,
};

use adit_netns::Namespace;
use process::{
    BACKEND_PORT, CLIENT_PORT, CLIENT_SUBNET, CLIENT_VPC, Client, Region, skip_without_root, until,
};
use serde_json::{Value, json};

/// Connects, and reads what the backend says first.
fn greeting(client: &Namespace, ip: Ipv4Addr) -> Result<String, ErrorKind> {
    let visit = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&(ip, 7000).into(), Duration::from_secs(10))?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        let mut greeting = String::new();
        stream.read_to_string(&mut greeting)?;
        Ok(greeting)
    };
    client.run(visit).unwrap().map_err(|e| e.kind())
}

/// Starts a backend that greets and ends each connection.
fn greet(backend: &Namespace) {
    let listener = backend
        .run(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, 80)))
        .unwrap()
        .unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = std::io::Write::write_all(&mut stream, b"hello");
        }
    });
}

/// Orders an endpoint for the other tenant, and answers its id and, once it has one, its address.
fn order(consumer: &Client, service: &str, access: &Value) -> (String, Ipv4Addr) {
    let mut body = json!({"endpoint_service_id": service, "vpc_id": CLIENT_VPC, "subnet_id": CLIENT_SUBNET});
    body.as_object_mut()
        .unwrap()
        .extend(access.as_object().unwrap().clone());
    let id = consumer.must("POST", "vpc-endpoints", Some(&body))["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let path = format!("vpc-endpoints/{id}");
    let ip = until("the endpoint", || {
        consumer.must("GET", &path, None)["ip"]
            .as_str()
            .map(str::to_owned)
    });
    (id, ip.parse().unwrap())
}

#[test]
fn an_endpoint_lets_in_whom_its_whitelist_names() {
    if skip_without_root("an_endpoint_lets_in_whom_its_whitelist_names") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let region = Region::start(dir.path(), &[]);
    let (provider, consumer) = (Client::demo(&region.api), Client::other(&region.api));
    let service = provider.publish(&json!([{"client_port": 7000, "server_port": 80}]));
    greet(&region.port(BACKEND_PORT));
    // The client is 10.0.0.20.
    let client = region.port(CLIENT_PORT);
    for (access, expected) in [
        (json!({}), Ok("hello")),
        (json!({"whitelist": ["192.0.2.1"]}), Ok("hello")),
        (
            json!({"whitelist": ["192.0.2.1"], "enable_whitelist": false}),
            Ok("hello"),
        ),
        (
            json!({"whitelist": ["10.0.0.20"], "enable_whitelist": true}),
            Ok("hello"),
        ),
        (
            json!({"whitelist": ["192.0.2.1", "10.0.0.99/27"], "enable_whitelist": true}),
            Err(ErrorKind::ConnectionReset),
        ),
        (
            json!({"whitelist": ["192.0.2.1", "10.0.0.1/27"], "enable_whitelist": true}),
            Ok("hello"),
        ),
        (
            json!({"whitelist": [], "enable_whitelist": true}),
            Err(ErrorKind::ConnectionReset),
        ),
    ] {
        let (id, ip) = order(&consumer, &service, &access);
        assert_eq!(greeting(&client, ip), expected.map(str::to_owned), "{access}");
        consumer.must("DELETE", &format!("vpc-endpoints/{id}"), None);
    }
    assert!(region.stop(), "a clean stop");
}

#[test]
fn a_rejected_endpoint_refuses_at_once_and_an_accepted_one_answers_at_once() {
    if skip_without_root("a_rejected_endpoint_refuses_at_once_and_an_accepted_one_answers_at_once") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let region = Region::start(dir.path(), &[]);
    let (provider, consumer) = (Client::demo(&region.api), Client::other(&region.api));
    let service = provider.publish(&json!([{"client_port": 7000, "server_port": 80}]));
    greet(&region.port(BACKEND_PORT));
    let client = region.port(CLIENT_PORT);
    let (id, ip) = order(&consumer, &service, &json!({}));
    let decide = |action: &str| {
        let body = json!({"action": action, "endpoints": [id]});
        provider.must(
            "POST",
            &format!("vpc-endpoint-services/{service}/connections/action"),
            Some(&body),
        )
    };
    for _ in 0..5 {
        assert_eq!(greeting(&client, ip), Ok("hello".to_owned()));
        assert_eq!(decide("reject")["connections"][0]["status"], "rejected");
        assert_eq!(greeting(&client, ip), Err(ErrorKind::ConnectionRefused));
        assert_eq!(decide("receive")["connections"][0]["status"], "accepted");
    }
    assert!(region.stop(), "a clean stop");
}
