//! A region of several processes: the control plane by itself, what gateways see of it, and what it makes of what they say.
#![expect(clippy::unwrap_used, reason = "a test's panic is its verdict")]

mod process;

use std::{fs::File, io::BufReader, sync::Arc};

use process::{
    Client,
    cluster::Control,
    gateway::{Alive, AsGateway, Lines},
    until,
};
use serde_json::{Value, json};

/// A service and an endpoint that nobody serves yet.
fn endpoint(control: &Control) -> (Client, String) {
    let (demo, other) = (
        Client::demo(&control.region.api),
        Client::other(&control.region.api),
    );
    let service = demo.publish(&json!([{"client_port": 80, "server_port": 80, "protocol": "TCP"}]));
    let body = json!({"endpoint_service_id": service, "vpc_id": process::CLIENT_VPC,
        "subnet_id": process::CLIENT_SUBNET});
    let id = other.must("POST", "vpc-endpoints", Some(&body))["id"]
        .as_str()
        .unwrap()
        .to_owned();
    (other, id)
}

#[test]
fn endpoints_wait_until_a_gateway_has_come_and_says_that_it_serves_them() {
    let folder = tempfile::tempdir().unwrap();
    let control = Arc::new(Control::start(folder.path(), &[]));
    let (other, id) = endpoint(&control);
    let path = format!("vpc-endpoints/{id}");
    until("the reason", || {
        (control.shown(&id)["waiting_for"] == "no gateway has come yet").then_some(())
    });
    assert_eq!(other.must("GET", &path, None)["status"], "creating");

    let mut feed = control.follow("one", "");
    let _alive = Alive::new(&control, "one");
    let first = feed.next().unwrap();
    assert_eq!(first["what"]["event"], "snapshot");
    let mut spec = first["what"]["endpoints"][0].clone();
    let mut position = first["position"].clone();
    if spec.is_null() {
        // It was placed on this gateway only now.
        assert_eq!(control.say("one", &json!([])), 204);
        let next = feed.next().unwrap();
        assert_eq!(next["what"]["event"], "put");
        (spec, position) = (next["what"]["endpoint"].clone(), next["position"].clone());
    }
    assert_eq!(spec["id"], json!(id));
    assert_eq!(
        spec["consumer"]["namespace"],
        process::CLIENT_VPC,
        "the node names it"
    );
    let report = |status: Value| json!([{"id": id, "status": status}]);
    let waiting =
        json!({"state": "waiting", "generation": spec["generation"], "reason": "namespace x is not there"});
    assert_eq!(control.say("one", &report(waiting)), 204);
    until("the gateway's reason", || {
        (control.shown(&id)["waiting_for"] == "gateway one: namespace x is not there").then_some(())
    });
    let listening = json!({"state": "listening", "generation": spec["generation"]});
    assert_eq!(control.say("one", &report(listening)), 204);
    until("the endpoint", || {
        (other.must("GET", &path, None)["status"] == "accepted").then_some(())
    });

    // One that comes again goes on where it was, and one that was elsewhere gets everything.
    drop(feed);
    let mut feed = control.follow("one", position.as_str().unwrap());
    other.must("DELETE", &path, None);
    let next = feed.next().unwrap();
    assert_eq!(
        (&next["what"]["event"], &next["what"]["id"]),
        (&json!("remove"), &json!(id))
    );
    let mut anew = control.follow("one", "00000000000000000000000000000007.1");
    assert_eq!(
        anew.next().unwrap()["what"],
        json!({"event": "snapshot", "endpoints": []})
    );
    assert_eq!(
        anew.next().unwrap()["what"]["event"],
        "remove",
        "it was never confirmed"
    );
    assert!(feed.next().is_none(), "a gateway has one feed");
    assert_eq!(other.must("GET", &path, None)["status"], "deleting");
    assert_eq!(control.say("one", &report(json!({"state": "removed"}))), 204);
    until("its end", || {
        other
            .try_call("GET", &path, None)
            .filter(|(status, _)| *status == 404)
    });
}

#[test]
fn only_the_nodes_secret_opens_the_feed() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let control = Control::start_logged(folder.path(), &[], File::create(&log).unwrap());
    let operator = Client::operator(&control.region.api);
    for secret in ["", "0123456789abcdef0123456789abcdef", operator.token()] {
        for (method, path) in [
            ("GET", "/node/v1/feed?node=one"),
            ("GET", "/node/v1/networks"),
            ("POST", "/node/v1/status"),
            ("GET", "/node/v1/nothing"),
        ] {
            assert_eq!(control.ask(method, path, secret, "").0, 401, "{method} {path}");
        }
    }
    // Who is refused comes again and again, and is spoken of once.
    let said = std::fs::read_to_string(&log).unwrap();
    let refusals = said.matches("has not shown the nodes' secret. client.address=\"127.0.0.1\"");
    assert_eq!(refusals.count(), 1, "{said}");
    // The API knows nothing of these paths, and the nodes' address nothing of the API.
    assert_eq!(
        operator
            .try_call("GET", "/node/v1/feed?node=one", None)
            .unwrap()
            .0,
        404
    );
    assert_eq!(control.ask("GET", "/v3", &control.secret, "").0, 404);
    for (path, named) in [
        ("/node/v1/feed", "node"),
        ("/node/v1/feed?node=No%20Name", "No Name"),
        ("/node/v1/feed?node=one&from=yesterday", "yesterday"),
    ] {
        let (status, mut body) = control.ask("GET", path, &control.secret, "");
        let text = body.read_to_string().unwrap();
        assert!(status == 400 && text.contains(named), "{path}: {status} {text}");
    }
    let (status, mut body) = control.ask("POST", "/node/v1/status", &control.secret, "{\"node\": 1}");
    assert!(status == 400 && body.read_to_string().unwrap().contains("no status"));
    assert_eq!(
        control.say("stranger", &json!([])),
        409,
        "it does not follow the feed"
    );
}

#[test]
fn a_gateway_that_falls_silent_is_let_go_of_and_another_takes_over() {
    let folder = tempfile::tempdir().unwrap();
    let control = Control::start(folder.path(), &[]);
    let (_other, id) = endpoint(&control);
    // The first one falls silent once it has the endpoint; its stream ends when it is let go of.
    let mut silent = control.follow("silent", "");
    let has = |lines: &mut Lines| {
        while let Some(line) = lines.next() {
            let what = &line["what"];
            if what["endpoint"]["id"] == json!(id) || what["endpoints"][0]["id"] == json!(id) {
                return true;
            }
        }
        false
    };
    assert!(has(&mut silent));
    assert!(!has(&mut silent), "it hears no more of it until it is let go of");
    assert_eq!(control.say("silent", &json!([])), 409);
    let mut next = control.follow("next", "");
    assert!(has(&mut next));
}

#[test]
fn a_gateway_that_is_gone_for_good_is_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let control = Arc::new(Control::start(folder.path(), &[]));
    let refused = |name: &str, words: &str| {
        let said = control.refused(&["gateway", "forget", name]);
        assert!(said.contains(words), "{said}");
    };
    refused("one", "There is no gateway one");
    let status = |name: &str| Some(control.listed(name)?["status"].clone());
    let comes = |name: &'static str| {
        control.follow(name, "").next();
        Alive::new(&control, name)
    };
    let one = comes("one");
    until("the first", || (status("one")? == "up").then_some(()));
    refused("one", "gateway one is there: stop it first");
    drop(one);
    until("its end", || (status("one")? == "away").then_some(()));
    refused("one", "gateway one has 4096 shards");
    let two = comes("two");
    until("the second to have all", || {
        (control.listed("two")?["shards"] == 4096).then_some(())
    });
    control.operator(&["gateway", "drain", "one", "--no-wait"]);
    control.done(&["gateway", "forget", "one"]);
    assert_eq!(control.listed("one"), None);
    refused("one", "There is no gateway one");
    assert_eq!(control.listed("two").unwrap()["shards"], 4096);
    // Should it come all the same, it is as new, and no drain is left.
    let _one = comes("one");
    until("its share", || {
        (control.listed("one")?["shards"] == 2048).then_some(())
    });
    drop(two);
}

#[test]
fn who_comes_back_to_a_name_that_another_process_has_taken_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let control = Control::start(folder.path(), &[]);
    let come = |process: &str| {
        let path = format!("/node/v1/feed?node=one&from=&process={process}");
        control.ask("GET", &path, &control.secret, "")
    };
    let (first, second) = (
        "0a8f3a52-6d0c-4b6e-9d6a-3f0b5a1c2d01",
        "0a8f3a52-6d0c-4b6e-9d6a-3f0b5a1c2d02",
    );
    let lines = |(status, body): (u16, ureq::Body)| {
        assert_eq!(status, 200);
        Lines::of(BufReader::new(Box::new(body.into_reader())))
    };
    let snapshot = |lines: &mut Lines| lines.next().unwrap()["what"]["event"].clone();
    let mut former = lines(come(first));
    assert_eq!(snapshot(&mut former), "snapshot");
    // The same process may come as often as it likes, and another takes the name over.
    let mut again = lines(come(first));
    assert_eq!(snapshot(&mut again), "snapshot");
    let mut present = lines(come(second));
    assert_eq!(snapshot(&mut present), "snapshot");
    assert!(again.next().is_none(), "one has a name at a time");
    assert_eq!(control.say("one", &json!([])), 204);

    let (status, mut body) = come(first);
    let why = body.read_to_string().unwrap();
    assert_eq!(status, 409, "{why}");
    for told in ["gateway one", "--node", "127.0.0.1"] {
        assert!(why.contains(told), "{told}: {why}");
    }
    // Who was told has disturbed nobody.
    assert_eq!(control.say("one", &json!([])), 204);
    let (_other, id) = endpoint(&control);
    let put = loop {
        let line = present.next().expect("the one that is there stays");
        if line["what"]["event"] == "put" {
            break line;
        }
    };
    assert_eq!(put["what"]["endpoint"]["id"], json!(id));
}
