//! A service with several backends (spec B.10): a real region, real load balancers' ports, real connections.
#![expect(clippy::unwrap_used, reason = "a test's panic is its verdict")]

mod process;

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
};

use adit_netns::Namespace;
use process::{BACKEND_VPC, CLIENT_PORT, Client, PROJECT, Region, skip_without_root, until};
use serde_json::json;

/// Starts a backend that says who it is and ends each connection.
fn say(backend: &Namespace, name: &'static str) {
    let listener = backend
        .run(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, 80)))
        .unwrap()
        .unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.write_all(name.as_bytes());
        }
    });
}

#[test]
fn connections_go_to_each_backend_in_turn() {
    if skip_without_root("connections_go_to_each_backend_in_turn") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let region = Region::start(dir.path(), &[]);
    let (provider, consumer) = (Client::demo(&region.api), Client::other(&region.api));
    let balancer = || {
        let body =
            json!({"loadbalancer": {"name": "b", "vip_subnet_id": "4189d3c2-8882-4871-a3c2-d380272eed82"}});
        let made = provider.must("POST", "/v2.0/lbaas/loadbalancers", Some(&body));
        let field = |name: &str| made["loadbalancer"][name].as_str().unwrap().to_owned();
        (field("id"), field("vip_port_id"))
    };
    let (first, second) = (balancer(), balancer());
    say(&region.port(&first.1), "one");
    say(&region.port(&second.1), "two");
    let body = json!({"port_id": first.1, "vpc_id": BACKEND_VPC, "server_type": "LB", "approval_enabled": false,
        "ports": [{"client_port": 7000, "server_port": 80}]});
    let service = provider.must("POST", "vpc-endpoint-services", Some(&body))["id"].take();
    let path = format!("vpc-endpoint-services/{}", service.as_str().unwrap());
    until("the service", || {
        (provider.must("GET", &path, None)["status"] == "available").then_some(())
    });
    let everybody = json!({"permissions": ["*"], "action": "add"});
    provider.must("POST", &format!("{path}/permissions/action"), Some(&everybody));
    let (_, ip) = consumer.connect(service.as_str().unwrap());
    let client = region.port(CLIENT_PORT);
    let heard = || {
        let mut stream = client.run(|| TcpStream::connect((ip, 7000))).unwrap().unwrap();
        let mut name = String::new();
        stream.read_to_string(&mut name).unwrap();
        name
    };
    for _ in 0..4 {
        assert_eq!(heard(), "one");
    }
    let more = json!({"server_resources": [{"resource_id": second.0}]});
    provider.must(
        "POST",
        &format!("/v2/{PROJECT}/{path}/add-server-resources"),
        Some(&more),
    );
    // The reply comes when gateways know: from here on each gets every second connection.
    let names: Vec<_> = (0..8).map(|_| heard()).collect();
    assert_eq!(names.iter().filter(|name| *name == "one").count(), 4, "{names:?}");
    assert_eq!(names.iter().filter(|name| *name == "two").count(), 4, "{names:?}");
    assert!(region.stop(), "a clean stop");
}
