//! A.6 to A.8: showing, changing and deleting a service.

use serde_json::{Value, json};

use crate::{
    ask::{Asker, NOBODY},
    process::{BACKEND_PORT, CLIENT_PORT, until},
};

#[test]
fn a_change_s_rules() {
    let mut ask = Asker::start();
    let id = ask.service(json!({"service_name": "first", "description": "d"}));
    let taken = ask.port();
    ask.service(json!({"ports": [{"client_port": 1, "server_port": taken}]}));
    let path = format!("vpc-endpoint-services/{id}");
    let before = ask.demo.must("GET", &path, None);
    let port =
        |client: Value, server: Value| json!({"ports": [{"client_port": client, "server_port": server}]});
    for (body, code) in [
        (json!({}), "2002"),
        (json!({"unknown": 1}), "2002"),
        (
            json!({"vpc_id": NOBODY, "server_type": "LB", "service_type": "x", "pool_id": 1, "tags": 1}),
            "2002",
        ),
        (json!({"approval_enabled": "x"}), "0002"),
        (json!({"service_name": "a b"}), "3076"),
        (json!({"service_name": "12345678901234567"}), "3076"),
        (json!({"ports": []}), "2028"),
        (json!({"ports": [{"client_port": 1}]}), "2028"),
        (json!({"ports": {}}), "3004"),
        (port(json!(0), json!(1)), "3004"),
        (port(json!(1), json!(0)), "3043"),
        (
            json!({"ports": [{"client_port": 1, "server_port": 1, "protocol": "UDP"}]}),
            "3075",
        ),
        (
            json!({"ports": [{"client_port": 1, "server_port": 1}, {"client_port": 1, "server_port": 1}]}),
            "3004",
        ),
        (port(json!(1), json!(taken)), "3044"),
        (
            json!({"ports": Value::from_iter((1..202).map(|n| json!({"client_port": n, "server_port": n})))}),
            "3074",
        ),
        (json!({"port_id": "x"}), "3063"),
        (json!({"port_id": NOBODY}), "3008"),
        (json!({"tcp_proxy": "x"}), "0002"),
        (json!({"description": "<"}), "0002"),
        (json!({"description": "d".repeat(129)}), "0002"),
        // A good field beside a bad one changes nothing.
        (json!({"service_name": "second", "description": 1}), "0002"),
    ] {
        let what = format!("{:.80}", body.to_string());
        ask.refuse(&what, ("PUT", &path), Some(&body), (400, code));
    }
    // A port of another VPC: it exists for nobody but its owner.
    let (status, reply) = ask
        .demo
        .try_call("PUT", &path, Some(&json!({"port_id": CLIENT_PORT})))
        .unwrap();
    let code = reply["error_code"].as_str().unwrap_or_default();
    let refused = status == 400 && ["EndPoint.3008", "EndPoint.3042"].contains(&code);
    ask.same("a foreign port is refused", &json!(refused), &json!(true));
    let after = ask.demo.must("GET", &path, None);
    ask.same("after refusals", &after, &before);

    ask.refuse(
        "unknown",
        ("PUT", &format!("vpc-endpoint-services/{NOBODY}")),
        Some(&json!({"description": "x"})),
        (404, "0005"),
    );
    ask.refuse(
        "malformed",
        ("PUT", "vpc-endpoint-services/x"),
        Some(&json!({"description": "x"})),
        (400, "3062"),
    );
    let other = ask.other.clone();
    ask.refuse_to(
        &other,
        "foreign",
        ("PUT", &path),
        Some(&json!({"description": "x"})),
        (404, "0005"),
    );
    ask.refuse_to(&other, "foreign", ("GET", &path), None, (404, "0005"));
    ask.refuse_to(&other, "foreign", ("DELETE", &path), None, (404, "0005"));

    // What is left out keeps its value; what is sent is answered.
    let changed = ask.demo.must(
        "PUT",
        &path,
        Some(&json!({"service_name": "", "approval_enabled": false})),
    );
    ask.same(
        "no short name",
        &changed["service_name"],
        &json!(format!("eu-de.{id}")),
    );
    ask.same("kept", &changed["description"], &json!("d"));
    ask.same("status", &changed["status"], &json!("available"));
    let changed = ask.demo.must(
        "PUT",
        &path,
        Some(
            &json!({"description": "", "ports": [{"client_port": 9, "server_port": 9}],
        "tcp_proxy": "close", "port_id": BACKEND_PORT, "service_name": "b"}),
        ),
    );
    ask.same(
        "replaced",
        &changed["ports"],
        &json!([{"client_port": 9, "server_port": 9, "protocol": "TCP"}]),
    );
    ask.same("cleared", &changed["description"], &json!(""));
    // Null is the same as left out.
    ask.refuse(
        "all null",
        ("PUT", &path),
        Some(&json!({"description": null, "ports": null})),
        (400, "2002"),
    );
    let seen = ask.demo.must("GET", &path, None);
    for field in [
        "ports",
        "description",
        "service_name",
        "updated_at",
        "approval_enabled",
    ] {
        ask.same(field, &seen[field], &changed[field]);
    }
    ask.end();
}

#[test]
fn deleting_a_service() {
    let mut ask = Asker::start();
    let id = ask.service(json!({"approval_enabled": false}));
    let path = format!("vpc-endpoint-services/{id}");
    ask.refuse(
        "malformed",
        ("DELETE", "vpc-endpoint-services/x"),
        None,
        (400, "3062"),
    );
    ask.refuse(
        "unknown",
        ("DELETE", &format!("vpc-endpoint-services/{NOBODY}")),
        None,
        (404, "0005"),
    );
    ask.refuse(
        "malformed",
        ("GET", "vpc-endpoint-services/x"),
        None,
        (400, "3062"),
    );
    ask.refuse(
        "unknown",
        ("GET", &format!("vpc-endpoint-services/{NOBODY}")),
        None,
        (404, "0005"),
    );
    let accepted = ask.endpoint(&id, json!({}), "accepted");
    ask.refuse("in use", ("DELETE", &path), None, (400, "3006"));
    // What waits or was refused does not stand in the way, and ends in `failed`; the one who goes neither.
    ask.demo
        .must("PUT", &path, Some(&json!({"approval_enabled": true})));
    let waiting = ask.endpoint(&id, json!({}), "pendingAcceptance");
    let refused = ask.endpoint(&id, json!({}), "pendingAcceptance");
    let reject = json!({"action": "reject", "endpoints": [refused]});
    ask.demo
        .must("POST", &format!("{path}/connections/action"), Some(&reject));
    ask.demo
        .must("DELETE", &format!("vpc-endpoints/{accepted}"), None);
    let (status, reply) = ask.demo.try_call("DELETE", &path, None).unwrap();
    ask.same("deleted", &json!([status, reply]), &json!([204, null]));
    until("the end", || {
        (ask.demo.try_call("GET", &path, None).unwrap().0 == 404).then_some(())
    });
    ask.refuse("gone", ("GET", &path), None, (404, "0005"));
    for endpoint in [waiting, refused] {
        ask.status("vpc-endpoints", &endpoint, "failed");
        let seen = ask.demo.must("GET", &format!("vpc-endpoints/{endpoint}"), None);
        ask.same("why", &seen["error"][0]["error_code"], &json!("EndPoint.2003"));
        ask.same(
            "message",
            &json!(seen["error"][0]["error_message"].is_string()),
            &json!(true),
        );
    }
    ask.end();
}
