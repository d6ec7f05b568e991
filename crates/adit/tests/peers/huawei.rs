//! Huawei Cloud's Python SDK, which signs its requests with an access key: every operation of VPCEP, those too that Open
//! Telekom Cloud does not document. `huawei.py` makes the calls.

use std::path::Path;

use serde_json::json;

use crate::{
    process::{BACKEND_NEUTRON_SUBNET, BACKEND_SUBNET, BACKEND_VPC, Client, DOMAIN, PROJECT, Region},
    signed::AccessKey,
    venv::Venv,
};

/// How many calls `huawei.py` judges.
const CALLS: usize = 42;

#[test]
fn huawei_sdk() {
    let Some(venv) = Venv::of("huawei", "huawei_sdk") else {
        return;
    };
    let region = Region::ephemeral();
    let home = tempfile::tempdir().unwrap();
    let balancer = json!({"loadbalancer": {"name": "balancer", "vip_subnet_id": BACKEND_NEUTRON_SUBNET}});
    let balancer = Client::demo(&region.api).must("POST", "/v2.0/lbaas/loadbalancers", Some(&balancer));
    let port = balancer["loadbalancer"]["vip_port_id"].as_str().unwrap();
    let key = AccessKey::demo();
    let output = venv
        .command("python", home.path())
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/huawei.py"))
        .env("BASE_URL", &region.api)
        .env("ACCESS_KEY", key.access)
        .env("SECRET_KEY", key.secret)
        .env("PROJECT_ID", PROJECT)
        .env("DOMAIN_ID", DOMAIN)
        .env("VPC_ID", BACKEND_VPC)
        .env("NETWORK_ID", BACKEND_SUBNET)
        .env("LB_PORT_ID", port)
        .env("REGION", "eu-de")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let passed = said.lines().filter(|line| line.starts_with("PASS ")).count();
    assert!(
        output.status.success() && passed == CALLS,
        "{passed} of {CALLS} passed:\n{said}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
