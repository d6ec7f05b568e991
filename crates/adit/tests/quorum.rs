//! A control plane whose etcd has lost most of its members: it says so, and answers every request in bounded time.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test's panic is its verdict")]

#[path = "../../adit-store/tests/etcd/cluster.rs"]
#[expect(dead_code, reason = "this test uses its own part of it")]
mod cluster;
mod process;

use cluster::Cluster;
use process::{BACKEND_PORT, BACKEND_VPC, Client, cluster::Control, metrics::ask, until};
use serde_json::json;

#[test]
fn without_a_quorum_it_is_not_ready_and_answers_nevertheless() {
    if !cluster::is_installed("without_a_quorum_it_is_not_ready_and_answers_nevertheless") {
        return;
    }
    let etcd = Cluster::start(3);
    let members: Vec<_> = (0..3).map(|n| etcd.url(n)).collect();
    tokio::runtime::Runtime::new()
        .unwrap()
        .block_on(etcd.open(etcd.config("other")));
    let folder = tempfile::tempdir().unwrap();
    let control = Control::start(
        folder.path(),
        &["--store", &format!("etcd:{}", members.join(","))],
    );
    let demo = Client::demo(&control.region.api);
    let readyz = format!("{}/readyz", control.region.api);
    let ready = || ask(&readyz, None).unwrap();
    assert_eq!(ready().0, 200);

    etcd.pause(0);
    etcd.pause(1);
    until("it to be not ready", || {
        let (status, text) = ready();
        (status == 503 && text.contains("store: ")).then_some(())
    });
    let body = json!({"port_id": BACKEND_PORT, "vpc_id": BACKEND_VPC, "server_type": "VM",
        "ports": [{"client_port": 80, "server_port": 80}]});
    for (method, body) in [("GET", None), ("POST", Some(&body))] {
        let (status, said) = demo.try_call(method, "vpc-endpoint-services", body).unwrap();
        assert!(matches!(status, 500..=599), "{method}: {status} {said}");
        assert!(
            said["error_code"].as_str().unwrap().starts_with("EndPoint."),
            "{said}"
        );
    }
    // Whether it is alive is another thing.
    assert_eq!(ask(&readyz.replace("readyz", "healthz"), None).unwrap().0, 200);

    etcd.resume(0);
    etcd.resume(1);
    until("it to be ready", || (ready().0 == 200).then_some(()));
    // What was refused is not there, or there once.
    let made = demo.must("GET", "vpc-endpoint-services", None);
    assert!(made["total_count"].as_u64().unwrap() <= 1, "{made}");
    until("the API", || {
        let made = demo.try_call(
            "POST",
            "vpc-endpoint-services",
            Some(&json!({"port_id": BACKEND_PORT, "vpc_id": BACKEND_VPC,
            "server_type": "VM", "ports": [{"client_port": 81, "server_port": 81}]})),
        );
        made.filter(|(status, _)| *status == 200)
    });
}
