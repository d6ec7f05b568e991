//! A.9, A.10: connections, and deciding on them.

use serde_json::{Value, json};

use crate::ask::{Asker, NOBODY};

#[test]
fn decisions() {
    let mut ask = Asker::start();
    let service = ask.service(json!({}));
    let elsewhere = ask.service(json!({}));
    let id = ask.endpoint(&service, json!({}), "pendingAcceptance");
    let stranger = ask.endpoint(&elsewhere, json!({}), "pendingAcceptance");
    let path = format!("vpc-endpoint-services/{service}/connections/action");
    let decide = |action: Value, endpoints: Value| json!({"action": action, "endpoints": endpoints});
    for (body, status, code) in [
        (json!([]), 400, "1004"),
        (json!({"endpoints": [id]}), 400, "2027"),
        (decide(json!("accept"), json!([id])), 400, "2027"),
        (decide(json!("Receive"), json!([id])), 400, "2027"),
        (decide(json!(1), json!([id])), 400, "2027"),
        (decide(json!("receive"), Value::Null), 400, "2002"),
        (decide(json!("receive"), json!([])), 400, "2002"),
        (decide(json!("receive"), json!([id, stranger])), 400, "2031"),
        (decide(json!("receive"), json!(["x"])), 400, "2017"),
        (decide(json!("receive"), json!([1])), 400, "2017"),
        (decide(json!("receive"), json!([NOBODY])), 404, "2006"),
        (decide(json!("receive"), json!([stranger])), 400, "2013"),
        // The action is judged first.
        (decide(json!("x"), json!([])), 400, "2027"),
    ] {
        let what = body.to_string();
        ask.refuse(&what, ("POST", &path), Some(&body), (status, code));
    }
    let good = decide(json!("receive"), json!([id]));
    let other = ask.other.clone();
    ask.refuse_to(&other, "foreign", ("POST", &path), Some(&good), (404, "0005"));
    ask.refuse(
        "malformed",
        ("POST", "vpc-endpoint-services/x/connections/action"),
        Some(&good),
        (400, "3062"),
    );
    let unknown = format!("vpc-endpoint-services/{NOBODY}/connections/action");
    ask.refuse("unknown", ("POST", &unknown), Some(&good), (404, "0005"));
    // pendingAcceptance → rejected → accepted → accepted → rejected → rejected, whatever approval says by now.
    ask.demo.must(
        "PUT",
        &format!("vpc-endpoint-services/{service}"),
        Some(&json!({"approval_enabled": false})),
    );
    let endpoint = format!("vpc-endpoints/{id}");
    let mut had_address = false;
    for (action, status) in [
        ("reject", "rejected"),
        ("receive", "accepted"),
        ("receive", "accepted"),
        ("reject", "rejected"),
        ("reject", "rejected"),
        ("receive", "accepted"),
    ] {
        let reply = ask
            .demo
            .must("POST", &path, Some(&decide(json!(action), json!([id]))));
        ask.same(action, &reply["connections"][0]["status"], &json!(status));
        ask.same(
            "one",
            &json!(reply["connections"].as_array().map(Vec::len)),
            &json!(1),
        );
        ask.same("no total", &reply["total_count"], &Value::Null);
        let seen = ask.demo.must("GET", &endpoint, None);
        ask.same("endpoint", &seen["status"], &json!(status));
        had_address |= status == "accepted";
        ask.same("address", &json!(seen["ip"].is_string()), &json!(had_address));
    }
    ask.end();
}

#[test]
fn listing_connections() {
    let mut ask = Asker::start();
    let service = ask.service(json!({}));
    let elsewhere = ask.service(json!({}));
    ask.endpoint(&elsewhere, json!({}), "pendingAcceptance");
    let first = ask.endpoint(&service, json!({}), "pendingAcceptance");
    let second = ask.endpoint(&service, json!({}), "pendingAcceptance");
    let path = format!("vpc-endpoint-services/{service}/connections");
    let accept = json!({"action": "receive", "endpoints": [first]});
    ask.demo.must("POST", &format!("{path}/action"), Some(&accept));
    let marker = ask.demo.must("GET", &format!("vpc-endpoints/{first}"), None)["marker_id"].take();
    for (query, found) in [
        ("", vec![&second, &first]),
        ("?sort_dir=asc", vec![&first, &second]),
        (&format!("?id={first}"), vec![&first]),
        (&format!("?id={NOBODY}"), vec![]),
        (&format!("?marker_id={marker}"), vec![&first]),
        (&format!("?marker_id=0{marker}"), vec![&first]),
        ("?marker_id=99999999999999999999", vec![]),
        ("?status=accepted", vec![&first]),
        ("?status=pendingAcceptance", vec![&second]),
        ("?status=creating", vec![]),
        ("?status=deleting", vec![]),
        (&format!("?status=accepted&id={second}"), vec![]),
        ("?id=&status=&marker_id=", vec![&second, &first]),
    ] {
        let reply = ask.demo.must("GET", &format!("{path}{query}"), None);
        let ids: Vec<_> = reply["connections"]
            .as_array()
            .unwrap()
            .iter()
            .map(|c| &c["id"])
            .collect();
        ask.same(query, &json!(ids), &json!(found));
        ask.same(query, &reply["total_count"], &json!(found.len()));
    }
    for (query, code) in [
        ("id=x", "2017"),
        ("marker_id=x", "0021"),
        ("marker_id=-1", "0021"),
        ("marker_id=1.0", "0021"),
        ("status=available", "0019"),
        ("status=PENDINGACCEPTANCE", "0019"),
    ] {
        ask.refuse(query, ("GET", &format!("{path}?{query}")), None, (400, code));
    }
    let other = ask.other.clone();
    ask.refuse_to(&other, "not the owner", ("GET", &path), None, (404, "0005"));
    ask.refuse(
        "malformed",
        ("GET", "vpc-endpoint-services/x/connections"),
        None,
        (400, "3062"),
    );
    ask.end();
}
