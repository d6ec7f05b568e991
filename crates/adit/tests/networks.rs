//! What `adit networks` is told: everything once, then what has changed, also after a break and by another control plane.
#![expect(clippy::unwrap_used, reason = "a test's panic is its verdict")]

mod process;

use std::io::BufReader;

use process::{Client, cluster::Control, etcd::Etcd, gateway::Lines, skip_without, until};
use serde_json::{Value, json};

/// Follows the networks from a position; without one as a former version does.
fn follow(control: &Control, from: Option<&str>) -> Lines {
    let query = from.map(|from| format!("?from={from}")).unwrap_or_default();
    let (status, body) = control.ask("GET", &format!("/node/v1/networks{query}"), &control.secret, "");
    assert_eq!(status, 200);
    Lines::of(BufReader::new(Box::new(body.into_reader())))
}

fn make(demo: &Client, name: &str) -> String {
    let body = json!({"vpc": {"name": name, "cidr": "10.77.0.0/16"}});
    let made = demo.must("POST", "vpcs", Some(&body));
    made["vpc"]["id"].as_str().unwrap().to_owned()
}

/// Whether a line has all that there is.
fn is_all(line: &Value) -> bool {
    line["line"] == "networks" && line["ports"].as_array().is_some_and(|ports| ports.len() > 1)
}

/// The ids of VPCs that lines bring until this one is among them, and where the stream is then.
fn until_brought(lines: &mut Lines, vpc: &str) -> (Vec<String>, String) {
    let mut brought = Vec::new();
    loop {
        let line = lines.next().unwrap();
        assert_eq!(line["line"], "changes", "{line}");
        assert!(
            line["put"]["ports"].is_null(),
            "what has not changed is not said: {line}"
        );
        let vpcs = line["put"]["vpcs"].as_array().into_iter().flatten();
        brought.extend(vpcs.map(|vpc| vpc["id"].as_str().unwrap().to_owned()));
        if brought.iter().any(|id| id == vpc) {
            return (brought, line["put"]["position"].as_str().unwrap().to_owned());
        }
    }
}

fn gone(line: &Value) -> Vec<&str> {
    let gone = line["gone"].as_array().into_iter().flatten();
    gone.filter_map(|gone| gone["vpc"].as_str()).collect()
}

/// Goes through a stream that breaks off at one control plane and goes on at another, which may be the same.
fn breaks_off_and_goes_on(one: &Control, other: &Control) {
    let demo = Client::demo(&one.region.api);
    let mut lines = follow(one, Some(""));
    let all = lines.next().unwrap();
    assert!(is_all(&all), "{all}");
    let first = make(&demo, "first");
    let (brought, position) = until_brought(&mut lines, &first);
    assert_eq!(brought, std::slice::from_ref(&first));
    drop(lines);

    // Meanwhile one comes and another goes.
    let second = make(&demo, "second");
    demo.must("DELETE", &format!("vpcs/{first}"), None);
    let line = until("what has changed", || {
        let line = follow(other, Some(&position)).next().unwrap();
        (!gone(&line).is_empty()).then_some(line)
    });
    assert_eq!(line["line"], "changes");
    assert_eq!(gone(&line), [first.as_str()]);
    let vpcs = line["put"]["vpcs"].as_array().unwrap();
    assert_eq!(
        (vpcs.len(), vpcs[0]["id"].as_str()),
        (1, Some(second.as_str())),
        "{line}"
    );
    assert!(line["put"]["ports"].is_null(), "{line}");
    // Of another store's history nobody knows anything, and a former version is told everything each time.
    let strange = "00000000000000000000000000000007.1";
    assert!(is_all(&follow(other, Some(strange)).next().unwrap()));
    let mut former = follow(other, None);
    let all = former.next().unwrap();
    assert!(is_all(&all) && all["position"].is_null(), "{all}");
    demo.must("DELETE", &format!("vpcs/{second}"), None);
    assert!(is_all(&former.next().unwrap()));
    let (status, mut body) = other.ask("GET", "/node/v1/networks?from=yesterday", &other.secret, "");
    let text = body.read_to_string().unwrap();
    assert!(status == 400 && text.contains("yesterday"), "{status} {text}");
}

#[test]
fn whoever_comes_again_gets_what_has_changed() {
    let folder = tempfile::tempdir().unwrap();
    let control = Control::start(folder.path(), &[]);
    breaks_off_and_goes_on(&control, &control);
}

#[test]
fn a_stream_goes_on_at_another_control_plane() {
    let test = "a_stream_goes_on_at_another_control_plane";
    if skip_without("etcd", test) {
        return;
    }
    let (folder, etcd) = (tempfile::tempdir().unwrap(), Etcd::start());
    let [first, second] =
        ["first", "second"].map(|name| Control::start(&folder.path().join(name), &["--store", &etcd.store]));
    breaks_off_and_goes_on(&first, &second);
    breaks_off_and_goes_on(&second, &first);
}
