//! schemathesis: requests made from the OpenAPI document, good ones and bad ones, and every reply held against it.
//!
//! All of its checks but one: `positive_data_acceptance` knows statuses alone, and this API refuses with 400 what names things
//! that do not exist. `hooks.py` has a check in its place that reads the code.

use std::{path::Path, process::Output};

use serde_json::json;
use tempfile::TempDir;

use crate::{
    process::{BACKEND_NEUTRON_SUBNET, BACKEND_PORT, BACKEND_SUBNET, BACKEND_VPC, Client, PROJECT, Region},
    venv::Venv,
};

/// What all requests are derived from; with the versions of the requirements they are the same in every run.
const SEED: &str = "1";
/// How many requests are made up for each operation, beside those that go through the document's bounds.
const EXAMPLES_MAX: &str = "40";
/// The pool of the built-in region.
const POOL: &str = "b1d2a7c4-5e6f-4a3b-9c8d-7e6f5a4b3c2d";

/// Runs schemathesis as one caller, on the paths that a pattern does or does not take; what they are about is a tenant's.
fn run(
    venv: &Venv,
    home: &TempDir,
    [caller, tenant]: [&Client; 2],
    paths: [&str; 2],
    load_balancer: &str,
) -> Output {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/schemathesis");
    venv.command("st", home.path())
        .env("SCHEMATHESIS_HOOKS", folder.join("hooks.py"))
        .env("ADIT_API", caller.api())
        .env("ADIT_TENANT_TOKEN", tenant.token())
        .env("ADIT_PROJECT", PROJECT)
        .env("ADIT_VPC", BACKEND_VPC)
        .env("ADIT_SUBNET", BACKEND_SUBNET)
        .env("ADIT_NIC", BACKEND_PORT)
        .env("ADIT_LOAD_BALANCER", load_balancer)
        .env("ADIT_POOL", POOL)
        .arg("--config-file")
        .arg(folder.join("schemathesis.toml"))
        .args(["run", &format!("{}/openapi.json", caller.api()), "--header"])
        .arg(format!("X-Auth-Token: {}", caller.token()))
        .args(paths)
        .args(["--seed", SEED, "--max-examples", EXAMPLES_MAX])
        .args([
            "--exclude-checks",
            "positive_data_acceptance",
            "--warnings",
            "off",
        ])
        .output()
        .unwrap()
}

/// Has requests made as one of the callers, and nothing found.
fn finds_nothing(test: &str, operators: bool) {
    let Some(venv) = Venv::of("schemathesis", test) else {
        return;
    };
    let region = Region::ephemeral();
    let home = tempfile::tempdir().unwrap();
    let (demo, operator) = (Client::demo(&region.api), Client::operator(&region.api));
    let balancer = json!({"loadbalancer": {"name": "balancer", "vip_subnet_id": BACKEND_NEUTRON_SUBNET}});
    let balancer = demo.must("POST", "/v2.0/lbaas/loadbalancers", Some(&balancer));
    let port = balancer["loadbalancer"]["vip_port_id"].as_str().unwrap();
    // More than the requests can use up.
    let quotas = json!({"endpoint_service": 10_000, "endpoint": 10_000});
    operator.must(
        "PUT",
        &format!("/admin/v1/projects/{PROJECT}/quotas"),
        Some(&quotas),
    );
    let (caller, paths) = match operators {
        true => (&operator, ["--include-path-regex", "^/admin/"]),
        false => (&demo, ["--exclude-path-regex", "^/admin/"]),
    };
    let output = run(&venv, &home, [caller, &demo], paths, port);
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{complained}");
}

#[test]
fn schemathesis_as_a_tenant_finds_nothing() {
    finds_nothing("schemathesis_as_a_tenant_finds_nothing", false);
}

#[test]
fn schemathesis_as_the_operator_finds_nothing() {
    finds_nothing("schemathesis_as_the_operator_finds_nothing", true);
}
