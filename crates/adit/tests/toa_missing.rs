//! A region whose process is moved to another cgroup leaves its TOA program behind, and its metrics tell. Needs root. Alone in its
//! binary, since it moves the whole process.
#![expect(clippy::unwrap_used, reason = "a test's panic is its verdict")]

mod process;

use std::{
    io::Read,
    net::{Ipv4Addr, TcpListener, TcpStream},
};

use adit::{
    cli::Dev,
    dev::{Prepared, Served},
};
use adit_cloud::kernel::port_namespace;
use adit_netns::Namespace;
use adit_relay::toa::Cgroup;
use process::{BACKEND_PORT, BACKEND_VPC, CLIENT_PORT, Client, skip_without_root, until};
use serde_json::json;

#[test]
fn connections_that_go_out_without_toa_are_in_the_metrics() {
    if skip_without_root("connections_that_go_out_without_toa_are_in_the_metrics") {
        return;
    }
    let own = Cgroup::own().unwrap();
    let names = ["first", "second"].map(|name| format!("adit-test-missing-{}-{name}", std::process::id()));
    let [first, second] = names.each_ref().map(|name| own.create(name).unwrap());
    first.enter().unwrap();
    let tested = std::panic::catch_unwind(|| {
        let prepared = Prepared::new(&Dev::passing()).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .unwrap();
        let served = runtime.block_on(Served::start(prepared)).unwrap();
        moved(&served, &second);
        runtime.block_on(served.stop()).unwrap();
    });
    own.enter().unwrap();
    for name in &names {
        own.remove(name).unwrap();
    }
    tested.unwrap();
}

fn moved(served: &Served, elsewhere: &Cgroup) {
    let directory = served
        .networks
        .directory(&served.data.namespaces())
        .unwrap()
        .unwrap();
    let instance = served.data.instance().unwrap();
    let inside = |port: &str| -> Namespace {
        let name = port_namespace(&instance, port.parse().unwrap());
        until(&name, || directory.open(&name).ok())
    };
    let (provider, consumer) = (Client::demo(&served.api), Client::other(&served.api));
    let body = json!({"port_id": BACKEND_PORT, "vpc_id": BACKEND_VPC, "server_type": "VM", "tcp_proxy": "toa_open",
        "approval_enabled": false, "ports": [{"client_port": 7000, "server_port": 80}]});
    let service = provider.must("POST", "vpc-endpoint-services", Some(&body))["id"].take();
    let path = format!("vpc-endpoint-services/{}", service.as_str().unwrap());
    until("the service", || {
        (provider.must("GET", &path, None)["status"] == "available").then_some(())
    });
    let everybody = json!({"permissions": ["*"], "action": "add"});
    provider.must("POST", &format!("{path}/permissions/action"), Some(&everybody));
    let (endpoint, ip) = consumer.connect(service.as_str().unwrap());

    let listener = inside(BACKEND_PORT).run(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, 80)));
    let (listener, client) = (listener.unwrap().unwrap(), inside(CLIENT_PORT));
    let exchange = || {
        let stream = client.run(|| TcpStream::connect((ip, 7000))).unwrap().unwrap();
        let (mut accepted, _) = listener.accept().unwrap();
        drop(stream);
        assert_eq!(accepted.read(&mut [0]).unwrap(), 0);
    };
    let shows = |ended: u32, missing: u32| {
        let lines = [
            format!("adit_gateway_connections_ended_total{{reason=\"closed\"}} {ended}"),
            format!("adit_gateway_toa_missing_total {missing}"),
            format!("adit_endpoint_toa_missing_total{{endpoint=\"{endpoint}\"}} {missing}"),
        ];
        until(&lines.join("\n"), || {
            let metrics = ureq::get(format!("{}/metrics", served.api)).call().unwrap();
            let metrics = metrics.into_body().read_to_string().unwrap();
            lines
                .iter()
                .all(|line| metrics.lines().any(|shown| shown == line))
                .then_some(())
        });
    };
    exchange();
    shows(1, 0);
    elsewhere.enter().unwrap();
    exchange();
    shows(2, 1);
}
