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

/// Starts a backend that sends back what it gets, for as long as it is let.
fn echo(backend: &Namespace) {
    let listener = backend
        .run(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, 80)))
        .unwrap()
        .unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut back = stream.try_clone().unwrap();
                let _ = std::io::copy(&mut stream, &mut back);
            });
        }
    });
}

/// Says something and hears it again.
fn talks(stream: &mut TcpStream) -> Result<(), ErrorKind> {
    let mut heard = [0; 2];
    std::io::Write::write_all(stream, b"hi").map_err(|e| e.kind())?;
    stream.read_exact(&mut heard).map_err(|e| e.kind())?;
    assert_eq!(&heard, b"hi");
    Ok(())
}

/// A connection through an endpoint.
fn open(client: &Namespace, ip: Ipv4Addr) -> Result<TcpStream, ErrorKind> {
    let stream = client.run(|| TcpStream::connect((ip, 7000))).unwrap();
    let stream = stream.map_err(|e| e.kind())?;
    // A failed test should end.
    stream
        .set_read_timeout(Some(std::time::Duration::from_secs(30)))
        .unwrap();
    Ok(stream)
}

fn operator(api: &str) -> Client {
    Client::login(
        api,
        "operator",
        "eu-de_operator",
        "80bf1f73f33460afa6bafe0ab6b45c2f",
    )
}

#[test]
fn what_the_operator_switches_off_or_freezes_passes_nothing() {
    if skip_without_root("what_the_operator_switches_off_or_freezes_passes_nothing") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let region = Region::start(dir.path(), &[]);
    let (provider, consumer) = (Client::demo(&region.api), Client::other(&region.api));
    let operator = operator(&region.api);
    let service = provider.publish(&json!([{"client_port": 7000, "server_port": 80}]));
    echo(&region.port(BACKEND_PORT));
    let client = region.port(CLIENT_PORT);
    let (id, ip) = order(&consumer, &service, &json!({}));
    let account = "/admin/v1/accounts/b4e2d3c5f6a7182930b4c5d6e7f8091a";
    for (path, off, on) in [
        (
            format!("/admin/v1/endpoints/{id}"),
            json!({"enable_status": "disable"}),
            json!({"enable_status": "enable"}),
        ),
        (
            account.to_owned(),
            json!({"active_status": ["arrear_frozen", "police_frozen"]}),
            json!({"active_status": ["active"]}),
        ),
    ] {
        let mut stream = open(&client, ip).unwrap();
        assert_eq!(talks(&mut stream), Ok(()), "{path}");
        operator.must("PUT", &path, Some(&off));
        // It is so when the reply comes: what was open is cut, and nobody new gets in.
        assert_eq!(
            stream.read(&mut [0; 8]).map_err(|e| e.kind()),
            Err(ErrorKind::ConnectionReset),
            "{path}"
        );
        assert_eq!(
            open(&client, ip).map(drop),
            Err(ErrorKind::ConnectionRefused),
            "{path}"
        );
        operator.must("PUT", &path, Some(&on));
        assert_eq!(talks(&mut open(&client, ip).unwrap()), Ok(()), "{path}");
    }
    // One that comes while the account is frozen is born so.
    operator.must("PUT", account, Some(&json!({"active_status": ["verify_frozen"]})));
    let (_, fresh) = order(&consumer, &service, &json!({}));
    assert_eq!(open(&client, fresh).map(drop), Err(ErrorKind::ConnectionRefused));
    operator.must("PUT", account, Some(&json!({"active_status": ["active"]})));
    assert_eq!(talks(&mut open(&client, fresh).unwrap()), Ok(()));
    assert!(region.stop(), "a clean stop");
}

#[test]
fn another_whitelist_judges_whoever_comes_after_the_reply() {
    if skip_without_root("another_whitelist_judges_whoever_comes_after_the_reply") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let region = Region::start(dir.path(), &[]);
    let (provider, consumer) = (Client::demo(&region.api), Client::other(&region.api));
    let service = provider.publish(&json!([{"client_port": 7000, "server_port": 80}]));
    echo(&region.port(BACKEND_PORT));
    // The client is 10.0.0.20.
    let client = region.port(CLIENT_PORT);
    let (id, ip) = order(&consumer, &service, &json!({}));
    let mut early = open(&client, ip).unwrap();
    assert_eq!(talks(&mut early), Ok(()));
    let path = format!("vpc-endpoints/{id}");
    for (access, expected) in [
        (
            json!({"whitelist": ["192.0.2.1"], "enable_whitelist": true}),
            false,
        ),
        (json!({"whitelist": ["10.0.0.16/28"]}), true),
        (json!({"whitelist": []}), false),
        (json!({"enable_whitelist": false}), true),
        (json!({"enable_whitelist": true}), false),
        (json!({"whitelist": ["10.0.0.20"]}), true),
    ] {
        consumer.must("PUT", &path, Some(&access));
        let talked = open(&client, ip).and_then(|mut stream| talks(&mut stream));
        assert_eq!(talked.is_ok(), expected, "{access} {talked:?}");
    }
    // What was let in stays.
    assert_eq!(talks(&mut early), Ok(()));
    assert!(region.stop(), "a clean stop");
}
