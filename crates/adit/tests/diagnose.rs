//! `adit diagnose`: the real command on endpoints of a running region that pass traffic, and on others, each for a reason of its own.
#![expect(clippy::unwrap_used, reason = "a test's panic is its verdict")]

mod process;

use std::{
    fs,
    io::Read,
    net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream},
    path::Path,
    process::Command,
    time::Duration,
};

use adit_netns::{Directory, Namespace};
use process::{
    BACKEND_PORT, BACKEND_VPC, CLIENT_PORT, CLIENT_SUBNET, CLIENT_VPC, Client, Region,
    cluster::{Control, Role, port_of},
    skip_without_root, until,
};
use serde_json::{Value, json};

/// A test that waits longer for something has failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs the command, without what the environment of the test may say; its exit status, and what it prints.
fn run(data: &Path, words: &[&str]) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_adit"));
    for name in ["URL", "TOKEN", "USER", "PASSWORD", "CLOUD", "CACERT"] {
        command.env_remove(format!("ADIT_{name}"));
    }
    let output = command
        .env("ADIT_DATA", data)
        .arg("diagnose")
        .args(words)
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    (output.status.code().unwrap(), said.concat())
}

/// The last step, how it came out, and what was seen of it.
#[track_caller]
fn ends_at(data: &Path, words: &[&str], step: &str, seen: &str) {
    let (status, said) = run(data, &[words, &["-o", "json"]].concat());
    assert!(said.starts_with('{'), "{said}");
    let reply: Value = serde_json::from_str(&said).unwrap();
    let last = reply["steps"].as_array().unwrap().last().unwrap();
    assert_eq!(
        (&last["step"], &last["verdict"]),
        (&json!(step), &json!("failed")),
        "{said}"
    );
    assert!(
        last["seen"].as_str().unwrap().contains(seen),
        "{seen:?} is not in {said}"
    );
    assert!(
        last["remedy"].as_str().is_some_and(|remedy| !remedy.is_empty()),
        "{said}"
    );
    assert_eq!((status, &reply["healthy"]), (1, &json!(false)), "{said}");
}

/// Publishes a port of the demo tenant's server, open to everybody; answers the service's id.
fn publish(provider: &Client, server_port: u16, more: Value) -> String {
    let mut body = json!({"port_id": BACKEND_PORT, "vpc_id": BACKEND_VPC, "server_type": "VM",
        "approval_enabled": false, "ports": [{"client_port": 7000, "server_port": server_port}]});
    body.as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    let id = provider.must("POST", "vpc-endpoint-services", Some(&body))["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let path = format!("vpc-endpoint-services/{id}");
    until("the service", || {
        (provider.must("GET", &path, None)["status"] == "available").then_some(())
    });
    let body = json!({"permissions": ["*"], "action": "add"});
    provider.must("POST", &format!("{path}/permissions/action"), Some(&body));
    id
}

fn endpoint(consumer: &Client, service: &str, status: &str) -> String {
    let body = json!({"endpoint_service_id": service, "vpc_id": CLIENT_VPC, "subnet_id": CLIENT_SUBNET});
    let id = consumer.must("POST", "vpc-endpoints", Some(&body))["id"]
        .as_str()
        .unwrap()
        .to_owned();
    until("the endpoint", || {
        (consumer.must("GET", &format!("vpc-endpoints/{id}"), None)["status"] == status).then_some(())
    });
    id
}

fn listen(inside: &Namespace, port: u16) -> TcpListener {
    inside
        .run(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)))
        .unwrap()
        .unwrap()
}

#[test]
fn the_first_thing_that_is_in_the_way_is_named() {
    if skip_without_root("the_first_thing_that_is_in_the_way_is_named") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path();
    let region = Region::start(data, &[]);
    let (provider, consumer) = (Client::demo(&region.api), Client::other(&region.api));
    let operator = Client::operator(&region.api);
    let backend = region.port(BACKEND_PORT);

    let service = publish(&provider, 80, json!({"tcp_proxy": "proxy_open"}));
    let id = endpoint(&consumer, &service, "accepted");
    ends_at(data, &[&id], "backend", "10.0.0.10:80 refuses");

    // Now somebody is there, and hears that the connection is nobody's.
    let server = listen(&backend, 80);
    let (status, said) = run(data, &[&id, "--port", "7000"]);
    assert_eq!(status, 0, "{said}");
    for line in [
        "ok    backend ",
        "ok    header ",
        "Everything that can be looked at holds.",
    ] {
        assert!(
            said.lines().any(|shown| shown.starts_with(line)),
            "{line:?} is not in\n{said}"
        );
    }
    let (mut heard, from) = server.accept().unwrap();
    assert!(from.ip().to_string().starts_with("198.19."), "{from}");
    heard.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut header = Vec::new();
    heard.read_to_end(&mut header).unwrap();
    assert_eq!(header, b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0");

    // A server whose queue is full drops what comes.
    rustix::net::listen(&server, 0).unwrap();
    let to = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 10), 80);
    let _queued = backend
        .run(|| TcpStream::connect_timeout(&to.into(), PATIENCE))
        .unwrap()
        .unwrap();
    ends_at(data, &[&id], "backend", "10.0.0.10:80 does not answer");
    drop(server);

    ends_at(
        data,
        &[&id, "--port", "80"],
        "port",
        "80 is not mapped; these are: 7000",
    );
    let only = json!({"whitelist": ["10.0.0.20"], "enable_whitelist": true});
    consumer.must("PUT", &format!("vpc-endpoints/{id}"), Some(&only));
    ends_at(
        data,
        &[&id, "--client", "10.0.0.21"],
        "whitelist",
        "not 10.0.0.21",
    );
    ends_at(data, &[&id, "--client", "10.0.0.20"], "backend", "refuses");

    let switch = |word: &str| {
        let body = json!({"enable_status": word});
        operator.must("PUT", &format!("/admin/v1/endpoints/{id}"), Some(&body));
    };
    switch("disable");
    ends_at(data, &[&id], "switch", "switched it off");
    switch("enable");
    let account = |words: Value| {
        let path = "/admin/v1/accounts/b4e2d3c5f6a7182930b4c5d6e7f8091a";
        operator.must("PUT", path, Some(&json!({"active_status": words})));
    };
    account(json!(["arrear_frozen"]));
    ends_at(data, &[&id], "account", "arrear_frozen");
    account(json!(["active"]));

    let approved = publish(&provider, 81, json!({"approval_enabled": true}));
    let waiting = endpoint(&consumer, &approved, "pendingAcceptance");
    ends_at(data, &[&waiting], "acceptance", "waits");
    let decide = |action: &str| {
        let path = format!("vpc-endpoint-services/{approved}/connections/action");
        provider.must(
            "POST",
            &path,
            Some(&json!({"action": action, "endpoints": [waiting]})),
        );
    };
    decide("reject");
    ends_at(data, &[&waiting], "acceptance", "rejected");
    decide("receive");
    ends_at(data, &[&waiting], "backend", "10.0.0.10:81 refuses");

    // A namespace that is gone, and cannot be made anew while something else has its name.
    let name = adit_cloud::kernel::vpc_namespace(&region.instance(), CLIENT_VPC.parse().unwrap());
    let squat = Directory::at(Directory::SYSTEM).unwrap().path().join(&name);
    rustix::mount::unmount(&squat, rustix::mount::UnmountFlags::DETACH).unwrap();
    fs::remove_file(&squat).unwrap();
    fs::create_dir(&squat).unwrap();
    ends_at(data, &[&id], "namespace", &name);
    fs::remove_dir(&squat).unwrap();
    until("the region to mend it", || {
        let (_, said) = run(data, &[&id, "-o", "json"]);
        said.contains("refuses the connection").then_some(())
    });

    for (words, part) in [
        (
            &["4c6ffad2-5e6e-4f1c-8c2a-4e2b3a7f9d10"][..],
            "There is no endpoint",
        ),
        (&["x"], "vpc_endpoint_id"),
        (&[&id, "--port", "0"], "--port"),
        (&[&id, "--client", "localhost"], "--client"),
    ] {
        let (status, said) = run(data, words);
        assert!(status != 0 && said.contains(part), "{part:?} is not in {said}");
    }
    assert!(region.stop(), "a clean stop");
}

#[test]
fn an_endpoint_that_is_full_says_so() {
    if skip_without_root("an_endpoint_that_is_full_says_so") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let region = Region::start(dir.path(), &["--connections-per-endpoint", "1"]);
    let (provider, consumer) = (Client::demo(&region.api), Client::other(&region.api));
    let service = publish(&provider, 80, json!({}));
    let (id, ip) = consumer.connect(&service);
    let server = listen(&region.port(BACKEND_PORT), 80);
    assert_eq!(run(dir.path(), &[&id]).0, 0);
    let client = region.port(CLIENT_PORT);
    let open = client.run(|| TcpStream::connect((ip, 7000))).unwrap().unwrap();
    // The first is the one that was made to find out.
    let accepted = (server.accept().unwrap(), server.accept().unwrap());
    ends_at(dir.path(), &[&id], "limit", "1 connections of 1");
    drop((open, accepted));
    until("the connection to end", || {
        (run(dir.path(), &[&id]).0 == 0).then_some(())
    });
    assert!(region.stop(), "a clean stop");
}

#[test]
fn a_gateway_of_its_own_process_is_asked_too() {
    if skip_without_root("a_gateway_of_its_own_process_is_asked_too") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let [api, networks, state] = ["api", "networks", "state"].map(|name| folder.path().join(name));
    let control = Control::start(&api, &[]);
    let urls = [control.nodes.clone()];
    let token_file = control.token_file();
    let _networks = Role::networks(&urls, &token_file, &networks);
    let gateway = Role::gateway("one", &urls, &token_file, &state, &networks);
    let service = publish(&Client::demo(&control.region.api), 80, json!({}));
    let id = endpoint(&Client::other(&control.region.api), &service, "accepted");
    ends_at(&api, &[&id], "backend", "10.0.0.10:80 refuses");
    let _server = listen(&port_of(&networks, BACKEND_PORT), 80);
    let (status, said) = run(&api, &[&id]);
    assert_eq!(status, 0, "{said}");
    gateway.kill();
    ends_at(&api, &[&id], "gateway", "");
    until("it to be known as away", || {
        let (_, said) = run(&api, &[&id]);
        said.contains("gateway one is away").then_some(())
    });
}

#[test]
fn a_region_without_networks_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let region = Region::start(dir.path(), &["--no-gateway"]);
    let service = publish(&Client::demo(&region.api), 80, json!({}));
    let id = endpoint(&Client::other(&region.api), &service, "accepted");
    ends_at(dir.path(), &[&id], "gateway", "control plane alone");
    assert!(region.stop(), "a clean stop");
}
