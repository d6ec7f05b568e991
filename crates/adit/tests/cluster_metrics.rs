//! What the processes of a region of several show to those who watch them.
#![expect(clippy::unwrap_used, reason = "a test's panic is its verdict")]

mod process;

use std::{fs, net::TcpListener, path::Path, process::Command};

use process::{
    Client,
    cluster::{Control, Role},
    etcd::Etcd,
    metrics::{Types, ask, documented, number, types},
    skip_without, skip_without_root, until,
};
use serde_json::{Value, json};

fn beginning(all: Types, words: &[&str]) -> Types {
    let begins = |name: &str| words.iter().any(|word| name.starts_with(word));
    all.into_iter().filter(|(name, _)| begins(name)).collect()
}

/// Where a process on a directory serves its metrics.
fn metrics_of(state: &Path) -> String {
    let run: Value = serde_json::from_slice(&fs::read(state.join("run.json")).unwrap()).unwrap();
    run["metrics"].as_str().unwrap().to_owned()
}

#[test]
fn control_planes_on_etcd_say_who_leads_and_how_etcd_does() {
    let test = "control_planes_on_etcd_say_who_leads_and_how_etcd_does";
    if skip_without("etcd", test) {
        return;
    }
    let (folder, etcd) = (tempfile::tempdir().unwrap(), Etcd::start());
    let [leader, second] = ["first", "second"].map(|name| {
        let data = folder.path().join(name);
        Control::start(&data, &["--store", &etcd.store])
    });
    let shown = |control: &Control| ask(&format!("{}/metrics", control.region.api), None).unwrap().1;
    for (control, leads) in [(&leader, 1), (&second, 0)] {
        // The lease is written before the feed opens.
        until("who leads", || {
            (number(&shown(control), "adit_leader") == Some(leads)).then_some(())
        });
    }
    let metrics = shown(&second);
    let of_etcd = beginning(types(&metrics), &["adit_etcd_"]);
    assert_eq!(of_etcd, documented("Of a control plane on etcd"));
    let url = etcd.store.strip_prefix("etcd:").unwrap();
    assert_eq!(
        number(&metrics, &format!("adit_etcd_member{{url=\"{url}\"}}")),
        Some(1)
    );
    let commits = |metrics: &str| {
        number(
            metrics,
            "adit_etcd_requests_total{call=\"txn\",result=\"answered\"}",
        )
    };
    let before = commits(&metrics).unwrap();
    Client::demo(&second.region.api).publish(&json!([{"client_port": 80, "server_port": 80}]));
    let metrics = shown(&second);
    assert!(commits(&metrics).unwrap() > before, "{metrics}");
    let watches = "adit_etcd_request_duration_seconds_count{call=\"watch\"}";
    assert_eq!(number(&metrics, watches), Some(1), "{metrics}");
}

#[test]
fn a_gateway_shows_its_numbers_with_its_name_also_to_adit_top() {
    let test = "a_gateway_shows_its_numbers_with_its_name_also_to_adit_top";
    if skip_without_root(test) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let [api, state] = ["api", "state"].map(|name| folder.path().join(name));
    let control = Control::start(&api, &[]);
    let urls = [control.nodes.clone()];
    // Free a moment ago, and the same for the one that takes over.
    let listen = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .to_string();
    let start = |more: &[&str]| {
        let words = [&["--metrics-listen", &listen], more].concat();
        let token_file = control.token_file();
        Role::gateway_by_pattern_with("one", &urls, &token_file, &state, "adit-nothing-{vpc}", &words)
    };
    let mut first = start(&[]);
    let url = metrics_of(&state);
    assert_eq!(url, format!("http://{listen}/metrics"));
    let up = |url: &str| {
        let shown = ask(url, None)?.1;
        (number(&shown, "adit_gateway_control_up{node=\"one\"}") == Some(1)).then_some(shown)
    };
    let shown = until("the gateway to follow", || up(&url));
    let mut wanted = beginning(
        documented("Metrics"),
        &["adit_gateway_", "adit_endpoint", "adit_build_info"],
    );
    wanted.extend(documented("Of a gateway that is a process of its own"));
    assert_eq!(types(&shown), wanted);
    for line in shown.lines().filter(|line| !line.starts_with('#')) {
        assert!(line.contains("node=\"one\""), "{line}");
    }
    let ready = url.replace("/metrics", "/readyz");
    assert_eq!(ask(&ready, None).unwrap(), (200, "{\"ready\":true}".to_owned()));
    assert_eq!(ask(&url.replace("/metrics", "/healthz"), None).unwrap().0, 200);
    for words in [["--data", state.to_str().unwrap()], ["--metrics", &url]] {
        let top = Command::new(env!("CARGO_BIN_EXE_adit"))
            .args(["top", "--once"])
            .args(words)
            .output()
            .unwrap();
        assert!(top.status.success(), "{}", String::from_utf8_lossy(&top.stderr));
    }
    // What it follows goes: it is as ready as before.
    let control_shown = ask(&format!("{}/metrics", control.region.api), None).unwrap().1;
    assert_eq!(number(&control_shown, "adit_feed_gateways"), Some(1));

    // The next one has the address, as soon as the former one has let go of its listeners.
    let second = start(&["--take-over"]);
    assert!(first.wait());
    until("the other to be asked", || up(&url));
    control.region.kill();
    until("it to notice", || {
        let shown = ask(&url, None)?.1;
        (number(&shown, "adit_gateway_control_up{node=\"one\"}") == Some(0)).then_some(())
    });
    assert_eq!(ask(&ready, None).unwrap().0, 200);
    drop(second);
}
