//! A.11, A.12: whitelist records.

use serde_json::{Value, json};

use crate::ask::{Asker, NOBODY};

#[test]
fn records() {
    let mut ask = Asker::start();
    let service = ask.service(json!({}));
    let path = format!("vpc-endpoint-services/{service}/permissions");
    let act = format!("{path}/action");
    for (body, code) in [
        (json!([]), "1004"),
        (json!({"action": "add"}), "3036"),
        (json!({"permissions": [], "action": "add"}), "3036"),
        (json!({"permissions": null, "action": "add"}), "3036"),
        (json!({"permissions": ["x"], "action": "add"}), "3002"),
        (json!({"permissions": ["iam:domain::"], "action": "add"}), "3002"),
        (
            json!({"permissions": [format!("iam:domain::{}", "a".repeat(65))], "action": "add"}),
            "3002",
        ),
        (
            json!({"permissions": ["iam:domain::a-b"], "action": "add"}),
            "3002",
        ),
        (
            json!({"permissions": ["iam:domain::a b"], "action": "add"}),
            "3002",
        ),
        (json!({"permissions": ["**"], "action": "add"}), "3002"),
        (json!({"permissions": [1], "action": "add"}), "3002"),
        (json!({"permissions": ["IAM:domain::a"], "action": "add"}), "3002"),
        (json!({"permissions": ["*", "x"], "action": "add"}), "3002"),
        (json!({"permissions": ["*"]}), "3035"),
        (json!({"permissions": ["*"], "action": "ADD"}), "3035"),
        (json!({"permissions": ["*"], "action": "create"}), "3035"),
        (json!({"permissions": ["*"], "action": 1}), "3035"),
    ] {
        let what = body.to_string();
        ask.refuse(&what, ("POST", &act), Some(&body), (400, code));
    }
    let listed = ask.demo.must("GET", &path, None);
    ask.same(
        "nothing was added, and the owner is not listed",
        &listed,
        &json!({"permissions": [], "total_count": 0}),
    );
    let good = json!({"permissions": ["*"], "action": "add"});
    let other = ask.other.clone();
    for (method, path, body) in [("GET", &path, None), ("POST", &act, Some(&good))] {
        ask.refuse_to(&other, "foreign", (method, path), body, (404, "0005"));
        ask.refuse(
            "unknown",
            (method, &path.replace(&service, NOBODY)),
            body,
            (404, "0005"),
        );
        ask.refuse(
            "malformed",
            (method, &path.replace(&service, "x")),
            body,
            (400, "3062"),
        );
    }
    let add = |records: &[&str], action: &str| json!({"permissions": records, "action": action});
    let a = format!("iam:domain::{}", "a".repeat(64));
    for (body, answer) in [
        // Kept as sent, once; repeats collapse.
        (
            add(
                &["iam:domain::b", &a, "iam:domain::*", "*", "iam:domain::b"],
                "add",
            ),
            None,
        ),
        (add(&["*"], "add"), Some(json!(["*"]))),
        (
            add(&["iam:domain::nobody"], "remove"),
            Some(json!(["iam:domain::nobody"])),
        ),
    ] {
        let reply = ask.demo.must("POST", &act, Some(&body));
        if let Some(answer) = answer {
            ask.same("answer", &reply, &json!({"permissions": answer}));
        }
    }
    let listed = ask.demo.must("GET", &format!("{path}?sort_dir=asc"), None);
    let records: Vec<_> = listed["permissions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| &r["permission"])
        .collect();
    ask.same(
        "as sent",
        &json!(records),
        &json!(["iam:domain::b", a, "iam:domain::*", "*"]),
    );
    for (query, found) in [
        ("permission=iam%3Adomain%3A%3Ab", vec!["iam:domain::b"]),
        ("permission=aaa", vec![&*a]),
        ("permission=%2A", vec!["*", "iam:domain::*"]),
        ("permission=zzz", vec![]),
        ("limit=1", vec!["*"]),
        ("limit=1&offset=3", vec!["iam:domain::b"]),
        (
            "limit=500&sort_key=created_at",
            vec!["*", "iam:domain::*", &a, "iam:domain::b"],
        ),
        ("limit=0", vec![]),
        ("offset=4", vec![]),
    ] {
        let listed = ask.demo.must("GET", &format!("{path}?{query}"), None);
        let records: Vec<_> = listed["permissions"]
            .as_array()
            .unwrap()
            .iter()
            .map(|r| &r["permission"])
            .collect();
        ask.same(query, &json!(records), &json!(found));
        let total = if query.starts_with("permission") {
            found.len()
        } else {
            4
        };
        ask.same(query, &listed["total_count"], &json!(total));
    }
    for (query, code) in [
        ("limit=501", "0006"),
        ("limit=x", "0006"),
        ("offset=-1", "0010"),
        ("sort_key=updated_at", "0017"),
        ("sort_dir=up", "0018"),
    ] {
        ask.refuse(query, ("GET", &format!("{path}?{query}")), None, (400, code));
    }
    // 500 fit, and no more; all or nothing.
    let fill: Vec<_> = (0..496).map(|n| format!("iam:domain::n{n}")).collect();
    ask.demo
        .must("POST", &act, Some(&json!({"permissions": fill, "action": "add"})));
    ask.refuse(
        "501",
        ("POST", &act),
        Some(&add(&["iam:domain::one", "iam:domain::two"], "add")),
        (400, "3049"),
    );
    ask.demo.must("POST", &act, Some(&add(&["*"], "add")));
    let total = ask.demo.must("GET", &format!("{path}?limit=0"), None)["total_count"].take();
    ask.same("total", &total, &json!(500));
    ask.end();
}

#[test]
fn removing_a_record_cuts_nobody() {
    let mut ask = Asker::start();
    let service = ask.service(json!({"approval_enabled": false}));
    let act = format!("vpc-endpoint-services/{service}/permissions/action");
    ask.demo.must(
        "POST",
        &act,
        Some(&json!({"permissions": ["*"], "action": "add"})),
    );
    let body = Asker::foreign_endpoint_body(&service);
    let id = ask.other.must("POST", "vpc-endpoints", Some(&body))["id"].take();
    let path = format!("vpc-endpoints/{}", id.as_str().unwrap());
    crate::process::until("accepted", || {
        (ask.other.must("GET", &path, None)["status"] == "accepted").then_some(())
    });
    ask.demo.must(
        "POST",
        &act,
        Some(&json!({"permissions": ["*"], "action": "remove"})),
    );
    let seen: Value = ask.other.must("GET", &path, None);
    ask.same("still there", &seen["status"], &json!("accepted"));
    let other = ask.other.clone();
    ask.refuse_to(
        &other,
        "a new one",
        ("POST", "vpc-endpoints"),
        Some(&body),
        (400, "2012"),
    );
    ask.end();
}
