//! How connections of a running region end by its settings and by the owner's word: limits, silence, cut and drain.
#![expect(clippy::unwrap_used, reason = "a test's panic is its verdict")]

mod process;

use std::io::{ErrorKind, Read};

use process::{
    Client, skip_without_root,
    stage::{Stage, assert_reset},
    until,
};
use rustix::process::Signal;
use serde_json::{Value, json};

/// The consumer's account.
const OTHER_DOMAIN: &str = "b4e2d3c5f6a7182930b4c5d6e7f8091a";

/// What a client hears of a connection that is cut before the backend knows of it.
fn refused(stage: &Stage) -> bool {
    let heard = stage.connect().and_then(|mut client| client.read(&mut [0]));
    match heard.map_err(|e| e.kind()) {
        Err(ErrorKind::ConnectionReset) => true,
        Err(ErrorKind::ConnectionRefused) => false,
        other => unreachable!("nobody says anything: {other:?}"),
    }
}

/// The provider's word on the endpoint.
fn decide(stage: &Stage, action: &str) {
    let path = format!("vpc-endpoint-services/{}/connections/action", stage.service);
    let body = json!({"action": action, "endpoints": [stage.endpoint]});
    stage.provider.must("POST", &path, Some(&body));
}

fn able(stage: &Stage, body: &Value) {
    let path = format!("/admin/v1/endpoints/{}", stage.endpoint);
    Client::operator(&stage.region.api).must("PUT", &path, Some(body));
}

fn assert_port_refuses(stage: &Stage) {
    let refused = stage.connect().map(drop).map_err(|e| e.kind());
    assert_eq!(refused, Err(ErrorKind::ConnectionRefused));
}

#[test]
fn beyond_the_limit_of_connections_the_next_is_refused() {
    if skip_without_root("beyond_the_limit_of_connections_the_next_is_refused") {
        return;
    }
    let stage = Stage::new(&["--connections-per-endpoint", "3"]);
    let listener = stage.listen();
    let mut pairs: Vec<_> = (0..3).map(|_| stage.pair(&listener)).collect();
    assert!(refused(&stage));
    until("it to be counted", || {
        (stage.region.ended("limit") == 1).then_some(())
    });
    pairs.iter_mut().for_each(process::stage::Pair::talk);
    // Each endpoint has its own.
    let (_, ip) = stage.consumer.connect(&stage.service);
    let beside = stage.client.run(|| std::net::TcpStream::connect((ip, 7000)));
    let _beside = (beside.unwrap().unwrap(), listener.accept().unwrap());
    pairs.pop();
    until("one to have ended", || {
        (stage.region.metric("adit_gateway_connections_open") == Some(3)).then_some(())
    });
    stage.assert_works(&listener);
    assert!(stage.region.stop(), "a clean stop");
}

#[test]
fn beyond_its_rate_an_endpoint_takes_no_new_connection() {
    if skip_without_root("beyond_its_rate_an_endpoint_takes_no_new_connection") {
        return;
    }
    const BURST: u64 = 200;
    let stage = Stage::new(&["--new-connections-per-second", "5"]);
    let listener = stage.listen();
    listener.set_nonblocking(true).unwrap();
    let burst: Vec<_> = (0..BURST).map(|_| stage.connect()).collect();
    until("all of them to be taken in", || {
        (stage.region.metric("adit_gateway_connections_total") == Some(BURST)).then_some(())
    });
    let over = stage.region.ended("rate");
    // However slow this machine is, so many do not fit into its seconds.
    assert!((1..BURST).contains(&over), "{over} of {BURST} are refused");
    let mut served = 0;
    until("the others to reach the backend", || {
        served += std::iter::from_fn(|| listener.accept().ok()).count() as u64;
        (served + over == BURST).then_some(())
    });
    drop(burst);
    listener.set_nonblocking(false).unwrap();
    // With the next second there is room again.
    let mut client = until("there to be room", || {
        let before = stage.region.ended("rate");
        let client = stage.connect().ok()?;
        until("it to be judged", || {
            let open = stage.region.metric("adit_gateway_connections_open") == Some(1);
            (open || stage.region.ended("rate") > before).then_some(())
        });
        (stage.region.ended("rate") == before).then_some(client)
    });
    let (mut backend, _) = listener.accept().unwrap();
    std::io::Write::write_all(&mut client, b"?").unwrap();
    backend.read_exact(&mut [0]).unwrap();
    assert!(stage.region.stop(), "a clean stop");
}

#[test]
fn a_silent_connection_is_reset_on_both_sides() {
    if skip_without_root("a_silent_connection_is_reset_on_both_sides") {
        return;
    }
    let stage = Stage::new(&["--idle-timeout-s", "1"]);
    let listener = stage.listen();
    let mut pair = stage.pair(&listener);
    pair.talk();
    pair.assert_reset();
    until("it to be counted", || {
        (stage.region.ended("idle") == 1).then_some(())
    });
    stage.assert_works(&listener);
    assert!(stage.region.stop(), "a clean stop");
}

#[test]
fn what_ends_an_endpoint_cuts_its_connections() {
    if skip_without_root("what_ends_an_endpoint_cuts_its_connections") {
        return;
    }
    let stage = Stage::new(&[]);
    let listener = stage.listen();
    let mut pair = stage.pair(&listener);
    pair.talk();
    // Whoever has been let in stays, though its record goes: records are looked at when endpoints are made.
    let path = format!("vpc-endpoint-services/{}/permissions/action", stage.service);
    let revoke = json!({"permissions": ["*"], "action": "remove"});
    stage.provider.must("POST", &path, Some(&revoke));
    pair.talk();
    stage.assert_works(&listener);
    decide(&stage, "reject");
    pair.assert_reset();
    assert_port_refuses(&stage);
    decide(&stage, "receive");

    let mut pair = stage.pair(&listener);
    pair.talk();
    able(&stage, &json!({"enable_status": "disable"}));
    pair.assert_reset();
    assert_port_refuses(&stage);
    able(&stage, &json!({"enable_status": "enable"}));

    let mut pair = stage.pair(&listener);
    pair.talk();
    stage
        .consumer
        .must("DELETE", &format!("vpc-endpoints/{}", stage.endpoint), None);
    pair.assert_reset();
    until("all to be counted", || {
        (stage.region.ended("cut") == 3).then_some(())
    });
    assert!(stage.region.stop(), "a clean stop");
}

#[test]
fn what_ends_an_endpoint_drains_its_connections_where_that_is_set() {
    if skip_without_root("what_ends_an_endpoint_drains_its_connections_where_that_is_set") {
        return;
    }
    let stage = Stage::new(&["--drain-s", "3600"]);
    let listener = stage.listen();
    let mut rejected = stage.pair(&listener);
    decide(&stage, "reject");
    assert_port_refuses(&stage);
    rejected.talk();
    decide(&stage, "receive");
    // Accepted again, it serves beside what was drained.
    let mut disabled = stage.pair(&listener);
    rejected.talk();
    able(&stage, &json!({"enable_status": "disable"}));
    assert_port_refuses(&stage);
    disabled.talk();
    able(&stage, &json!({"enable_status": "enable"}));
    let mut deleted = stage.pair(&listener);
    let path = format!("vpc-endpoints/{}", stage.endpoint);
    stage.consumer.must("DELETE", &path, None);
    until("the port to refuse", || stage.connect().err());
    for pair in [&mut rejected, &mut disabled, &mut deleted] {
        pair.talk();
    }
    let shown = stage.consumer.must("GET", &path, None);
    assert_eq!(shown["status"], "deleting");
    // With those that still wait there, of clients that came while the port was being closed.
    drop(listener);
    drop((rejected, disabled, deleted));
    until("it to be gone", || {
        (stage.consumer.try_call("GET", &path, None)?.0 == 404).then_some(())
    });
    assert_eq!(stage.region.ended("cut"), 0);
    assert!(stage.region.stop(), "a clean stop");
}

#[test]
fn a_call_that_ends_an_endpoint_says_how_long_its_connections_go_on() {
    if skip_without_root("a_call_that_ends_an_endpoint_says_how_long_its_connections_go_on") {
        return;
    }
    let mut stage = Stage::new(&[]);
    let listener = stage.listen();
    let reject = |stage: &Stage, more: &str| {
        let path = format!("vpc-endpoint-services/{}/connections/action", stage.service);
        let body = format!(
            r#"{{"action": "reject", "endpoints": ["{}"]{more}}}"#,
            stage.endpoint
        );
        let body = serde_json::from_str(&body).unwrap();
        stage.provider.must("POST", &path, Some(&body));
    };
    let mut pair = stage.pair(&listener);
    for more in [r#", "drain_s": 3600"#, ""] {
        reject(&stage, more);
        assert_port_refuses(&stage);
        pair.talk();
    }
    reject(&stage, r#", "drain_s": 0"#);
    pair.assert_reset();
    decide(&stage, "receive");

    let mut pair = stage.pair(&listener);
    able(&stage, &json!({"enable_status": "disable", "drain_s": 3600}));
    assert_port_refuses(&stage);
    pair.talk();
    able(&stage, &json!({"enable_status": "disable", "drain_s": 0}));
    pair.assert_reset();
    able(&stage, &json!({"enable_status": "enable"}));

    let account = |stage: &Stage, body: Value| {
        let path = format!("/admin/v1/accounts/{OTHER_DOMAIN}");
        Client::operator(&stage.region.api).must("PUT", &path, Some(&body));
    };
    let mut pair = stage.pair(&listener);
    account(
        &stage,
        json!({"active_status": ["arrear_frozen"], "drain_s": 3600}),
    );
    assert_port_refuses(&stage);
    pair.talk();
    account(&stage, json!({"active_status": ["arrear_frozen"]}));
    pair.assert_reset();
    account(&stage, json!({"active_status": ["active"]}));

    // What a deleted one lets go on ends sooner by its owner's word, and by the operator's.
    drop(listener);
    for is_owner in [true, false] {
        // Anew, without clients that came while the port was being closed.
        let listener = stage.listen();
        let mut pair = stage.pair(&listener);
        let path = format!("vpc-endpoints/{}", stage.endpoint);
        let delete = |drain_s: u32| {
            let path = format!("{path}?drain_s={drain_s}");
            stage.consumer.must("DELETE", &path, None);
        };
        delete(300);
        until("the port to refuse", || stage.connect().err());
        pair.talk();
        match is_owner {
            true => delete(0),
            false => account(&stage, json!({"active_status": ["police_frozen"]})),
        }
        pair.assert_reset();
        until("it to be gone", || {
            (stage.consumer.try_call("GET", &path, None)?.0 == 404).then_some(())
        });
        if is_owner {
            let (endpoint, ip) = stage.consumer.connect(&stage.service);
            stage.at.set_ip(ip);
            stage.endpoint = endpoint;
        }
    }
    assert!(stage.region.stop(), "a clean stop");
}

#[test]
fn to_freeze_an_account_is_to_cut_whatever_is_set() {
    if skip_without_root("to_freeze_an_account_is_to_cut_whatever_is_set") {
        return;
    }
    let stage = Stage::new(&["--drain-s", "3600"]);
    let listener = stage.listen();
    let mut pair = stage.pair(&listener);
    pair.talk();
    let path = format!("/admin/v1/accounts/{OTHER_DOMAIN}");
    let body = json!({"active_status": ["arrear_frozen"]});
    Client::operator(&stage.region.api).must("PUT", &path, Some(&body));
    pair.assert_reset();
    assert_port_refuses(&stage);
    assert!(stage.region.stop(), "a clean stop");
}

#[test]
fn a_drain_ends_by_its_deadline() {
    if skip_without_root("a_drain_ends_by_its_deadline") {
        return;
    }
    let stage = Stage::new(&["--drain-s", "1"]);
    let listener = stage.listen();
    let mut pair = stage.pair(&listener);
    pair.talk();
    decide(&stage, "reject");
    pair.assert_reset();
    until("it to be counted", || {
        (stage.region.ended("cut") == 1).then_some(())
    });
    assert!(stage.region.stop(), "a clean stop");
}

#[test]
fn a_region_that_is_told_to_stop_lets_connections_end() {
    if skip_without_root("a_region_that_is_told_to_stop_lets_connections_end") {
        return;
    }
    let stage = Stage::new(&["--stop-drain-s", "3600"]);
    let listener = stage.listen();
    let (mut goes, mut stays) = (stage.pair(&listener), stage.pair(&listener));
    stage.region.signal(Signal::TERM);
    until("the port to refuse", || stage.connect().err());
    goes.talk();
    drop(goes);
    stays.talk();
    // A second word cuts what is left.
    stage.region.signal(Signal::TERM);
    assert_reset(&mut stays.client);
    assert!(stage.region.stop(), "a clean stop");
}
