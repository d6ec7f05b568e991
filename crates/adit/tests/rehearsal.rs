//! `adit dev` for people who test their own code: what its flags do.
#![expect(clippy::unwrap_used, reason = "a test's panic is its verdict")]

mod process;

use std::process::Command;

use process::{BACKEND_SUBNET, BACKEND_VPC, Client, Region};
use serde_json::json;

#[test]
fn flags_plan_failures_and_set_quotas_and_a_delay() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("adit.toml");
    let text = "delay = \"100ms\"\nquota = [\"endpoints=1\", \"endpoint_services=2\"]\nno-gateway = true\n\
                fail = [\"endpoint_list:EndPoint.0022\", \"service_list:503:2\"]\n";
    std::fs::write(&config, text).unwrap();
    let region = Region::start(
        &folder.path().join("data"),
        &["--config", config.to_str().unwrap()],
    );
    let demo = Client::demo(&region.api);
    let code = |path: &str| {
        let (status, body) = demo.try_call("GET", path, None).unwrap();
        (status, body["error_code"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(code("vpc-endpoints"), (400, "EndPoint.0022".to_owned()));
    assert_eq!(code("vpc-endpoints").0, 200);
    assert_eq!(
        [code("vpc-endpoint-services").0, code("vpc-endpoint-services").0],
        [503, 503]
    );
    assert_eq!(code("vpc-endpoint-services").0, 200);
    let quotas = demo.must("GET", "quotas", None);
    let quotas = quotas["quotas"]["resources"].as_array().unwrap();
    assert_eq!((&quotas[0]["quota"], &quotas[1]["quota"]), (&json!(1), &json!(2)));
    // `publish` waits for `available`, which comes after the delay.
    let service = demo.publish(&json!([{"client_port": 80, "server_port": 80}]));
    let body = json!({"endpoint_service_id": service, "vpc_id": BACKEND_VPC, "subnet_id": BACKEND_SUBNET});
    demo.must("POST", "vpc-endpoints", Some(&body));
    let (status, refused) = demo.try_call("POST", "vpc-endpoints", Some(&body)).unwrap();
    assert_eq!(
        (status, refused["error_code"].as_str().unwrap()),
        (400, "Endpoint.1018")
    );
    assert!(region.stop());
}

#[test]
fn what_the_flags_cannot_mean_is_said() {
    for (words, expected) in [
        (
            ["--fail", "endpoint_make:500"],
            "\"endpoint_make\" is none; there are access_update, backend_add, connection_action",
        ),
        (["--fail", "endpoint_create"], "OPERATION:EFFECT:TIMES"),
        (["--fail", "endpoint_create:200"], "\"200\" is neither"),
        (["--quota", "endpoints"], "endpoints or endpoint_services=NUMBER"),
        (
            ["--quota", "vpcs=1"],
            "a quota is of endpoints or endpoint_services",
        ),
        (["--quota", "endpoints=-1"], "an integer in 0..=1000000"),
        (["--delay", "soon"], "--delay"),
        (["--delay", "-5s"], "negative"),
    ] {
        let [flag, value] = words;
        let refused = Command::new(env!("CARGO_BIN_EXE_adit"))
            .args(["dev", "--ephemeral", "--no-gateway", "--listen", "127.0.0.1:0"])
            .arg(format!("{flag}={value}"))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(
            !refused.status.success() && said.contains(expected),
            "{words:?}: {said}"
        );
    }
}
