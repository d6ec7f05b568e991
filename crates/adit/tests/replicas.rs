//! Two control planes on one etcd: the one that does not lead answers as the one that does, also after that one has died.
#![expect(clippy::unwrap_used, reason = "a test's panic is its verdict")]

mod process;

use std::{fs, path::Path, process::Command, sync::Arc};

use process::{
    Client,
    cluster::Control,
    etcd::Etcd,
    gateway::{Alive, AsGateway},
    skip_without, until,
};
use serde_json::{Value, json};

/// What a control plane logs where it answers before an effect is seen.
const LATE: &str = "What was ordered is not on the wire";

/// A gateway that does what it is told, as far as anybody can see.
fn obey(control: &Arc<Control>, node: &'static str, waits_for: Option<&'static str>) {
    let mut feed = control.follow(node, "");
    // Who tells it things ends when its test does, not when nobody listens any more.
    let control = Arc::downgrade(control);
    std::thread::spawn(move || {
        while let (Some(line), Some(control)) = (feed.next(), control.upgrade()) {
            let what = &line["what"];
            let listening = |spec: &Value| {
                let state = match waits_for {
                    None => json!({"state": "listening", "generation": spec["generation"]}),
                    Some(why) => json!({"state": "waiting", "generation": spec["generation"], "reason": why}),
                };
                let faults = json!([{"port": 80, "fault": "backend_refused"}]);
                vec![
                    json!({"id": spec["id"], "status": state}),
                    json!({"id": spec["id"], "status": {"state": "backend", "ports": faults}}),
                ]
            };
            let reports = match what["event"].as_str().unwrap() {
                "snapshot" => what["endpoints"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .flat_map(listening)
                    .collect(),
                "put" => listening(&what["endpoint"]),
                "remove" => vec![json!({"id": what["id"], "status": {"state": "removed"}})],
                "examine" => vec![
                    json!({"id": what["id"], "status": {"state": "examined", "number": what["number"],
                    "examination": {"result": "unknown"}}}),
                ],
                _ => Vec::new(),
            };
            control.say(node, &json!(reports));
        }
    });
}

/// A service whose owner accepts each endpoint, and one that waits for that.
fn pending(api: &str) -> (Client, String, Client, String) {
    let (demo, other) = (Client::demo(api), Client::other(api));
    let service = demo.publish(&json!([{"client_port": 80, "server_port": 80, "protocol": "TCP"}]));
    let path = format!("vpc-endpoint-services/{service}");
    demo.must("PUT", &path, Some(&json!({"approval_enabled": true})));
    let body = json!({"endpoint_service_id": service, "vpc_id": process::CLIENT_VPC,
        "subnet_id": process::CLIENT_SUBNET});
    let id = other.must("POST", "vpc-endpoints", Some(&body))["id"]
        .as_str()
        .unwrap()
        .to_owned();
    (demo, service, other, id)
}

fn decide(demo: &Client, service: &str, endpoint: &str, action: &str) -> Value {
    let path = format!("vpc-endpoint-services/{service}/connections/action");
    let decided = demo.must(
        "POST",
        &path,
        Some(&json!({"action": action, "endpoints": [endpoint]})),
    );
    decided["connections"][0]["status"].clone()
}

fn two(folder: &Path, etcd: &Etcd, more: &[&str]) -> [Arc<Control>; 2] {
    let first = folder.join("first");
    let token = first.join("node-token");
    let mut controls = ["first", "second"].iter().map(|name| {
        let token = token.to_str().unwrap();
        let words = [
            "--store",
            &etcd.store,
            "--node-token-file",
            token,
            "--log",
            "adit_server=debug",
        ];
        fs::create_dir_all(folder.join(name)).unwrap();
        let log = fs::File::create(folder.join(name).join("log")).unwrap();
        Arc::new(Control::start_logged(
            &folder.join(name),
            &[&words, more].concat(),
            log,
        ))
    });
    [controls.next().unwrap(), controls.next().unwrap()]
}

/// Reads what a control plane has logged.
fn log(folder: &Path, name: &str) -> String {
    fs::read_to_string(folder.join(name).join("log")).unwrap()
}

#[test]
fn a_control_plane_that_does_not_lead_answers_as_the_one_that_does() {
    let test = "a_control_plane_that_does_not_lead_answers_as_the_one_that_does";
    if skip_without("etcd", test) {
        return;
    }
    let (folder, etcd) = (tempfile::tempdir().unwrap(), Etcd::start());
    let [leader, second] = two(folder.path(), &etcd, &[]);
    let (demo, service, other, id) = pending(&second.region.api);
    decide(&demo, &service, &id, "receive");
    assert_eq!(second.shown(&id)["waiting_for"], "no gateway has come yet");
    let listed = second.operator(&["admin", "endpoint", "list"]);
    assert_eq!(listed["endpoints"][0]["waiting_for"], "no gateway has come yet");
    let switch = |status: &str| {
        let operator = Client::operator(&second.region.api);
        let body = json!({"enable_status": status});
        operator.must("PUT", &format!("/admin/v1/endpoints/{id}"), Some(&body))
    };
    // Nobody is there who could do it.
    switch("enable");
    let late = || log(folder.path(), "second").matches(LATE).count();
    assert_eq!(late(), 1);

    let _alive = Alive::new(&leader, "one");
    obey(&leader, "one", None);
    let path = format!("vpc-endpoints/{id}");
    until("the endpoint", || {
        (other.must("GET", &path, None)["status"] == "accepted").then_some(())
    });
    // What gateways say of backends is there a moment later.
    let service_path = format!("vpc-endpoint-services/{service}");
    for control in [&leader, &second] {
        let demo = Client::demo(&control.region.api);
        let health = until("the backend's fault", || {
            let shown = demo.must("GET", &service_path, None);
            shown.get("backend_health").cloned()
        });
        assert_eq!(health, json!([{"server_port": 80, "fault": "backend_refused"}]));
    }
    // A gateway is asked, whoever is asked for it.
    let diagnosed: Vec<_> = [&leader, &second]
        .map(|control| {
            let operator = Client::operator(&control.region.api);
            operator.must(
                "POST",
                &format!("/admin/v1/endpoints/{id}/diagnosis"),
                Some(&json!({})),
            )
        })
        .into();
    assert_eq!(diagnosed[0], diagnosed[1]);
    let last = diagnosed[0]["steps"].as_array().unwrap().last().unwrap();
    assert_eq!(
        (&last["step"], &last["seen"]),
        (
            &json!("gateway"),
            &json!("its gateway knows nothing of this endpoint and port")
        )
    );
    // A reply to a decision comes once the gateway has confirmed it.
    for _ in 0..3 {
        assert_eq!(decide(&demo, &service, &id, "reject"), "rejected");
        assert_eq!(decide(&demo, &service, &id, "receive"), "accepted");
    }
    switch("disable");
    switch("enable");
    assert_eq!(late(), 1, "{}", log(folder.path(), "second"));
}

#[test]
fn who_takes_over_answers_by_itself_and_by_its_own_certificate() {
    let test = "who_takes_over_answers_by_itself_and_by_its_own_certificate";
    if skip_without("etcd", test) {
        return;
    }
    let (folder, etcd) = (tempfile::tempdir().unwrap(), Etcd::start());
    // Each has a certificate of its own making, which nobody was told to trust.
    let [leader, second] = two(folder.path(), &etcd, &["--tls", "self-signed"]);
    let waiting = |control: &Control, id: &str| control.shown(id)["waiting_for"].clone();
    let created = leader.operator(&["admin", "endpoint", "list"]);
    assert_eq!(created["endpoints"], json!([]));
    let (_, _, _, id) = {
        let api = &second.region.api;
        let (demo, service, other, id) = pending(api);
        decide(&demo, &service, &id, "receive");
        (demo, service, other, id)
    };
    assert_eq!(waiting(&second, &id), "no gateway has come yet");
    Arc::into_inner(leader).unwrap().region.kill();
    // Nobody leads until the lease has lapsed, which is said and not guessed; then this one does.
    until("it to lead", || {
        log(folder.path(), "second")
            .contains("runs the reconcilers now")
            .then_some(())
    });
    until("its own answer", || {
        (waiting(&second, &id) == "no gateway has come yet").then_some(())
    });
}

#[test]
fn a_control_plane_with_another_region_file_or_none_to_reach_it_says_so() {
    let test = "a_control_plane_with_another_region_file_or_none_to_reach_it_says_so";
    if skip_without("etcd", test) {
        return;
    }
    let (folder, etcd) = (tempfile::tempdir().unwrap(), Etcd::start());
    let printed = Command::new(env!("CARGO_BIN_EXE_adit"))
        .args(["dev", "--print-region-file"])
        .output()
        .unwrap();
    let region = String::from_utf8(printed.stdout).unwrap();
    let renamed = region.replace("subnet-demo", "subnet-other");
    assert_ne!(region, renamed);
    let (same, other) = (folder.path().join("same.toml"), folder.path().join("other.toml"));
    fs::write(&same, region).unwrap();
    fs::write(&other, renamed).unwrap();
    let token = folder.path().join("token");
    let start = |name: &str, region: &Path, more: &[&str]| {
        let data = folder.path().join(name);
        fs::create_dir_all(&data).unwrap();
        let log = fs::File::create(data.join("log")).unwrap();
        let (region, token) = (region.to_str().unwrap(), token.to_str().unwrap());
        let words = [
            "--region-file",
            region,
            "--node-token-file",
            token,
            "--log",
            "warn",
        ];
        Control::start_logged(&data, &[&words, more].concat(), log)
    };
    let differs = |name: &str| log(folder.path(), name).contains("another region file");
    let alone = |name: &str| log(folder.path(), name).contains("--node-listen");
    // The first one leads; whoever comes later compares, as often as the others do.
    let with_etcd = ["--store", etcd.store.as_str()];
    let _leader = start("leader", &same, &with_etcd);
    let _same = start("same", &same, &with_etcd);
    let _other = start("other", &other, &with_etcd);
    let _file = start("file", &other, &[]);
    until("the warning", || differs("other").then_some(()));
    assert!(!differs("same") && !differs("leader") && !differs("file"));
    assert!(alone("leader") && alone("other") && alone("same"));
    assert!(
        !alone("file"),
        "gateways of a region of one process are often here"
    );
}
