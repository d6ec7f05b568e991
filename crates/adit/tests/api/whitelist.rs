//! Whitelist records (spec A.11, A.12).

use serde_json::{Value, json};

use crate::{
    app::{ENDPOINTS, OTHER_DOMAIN, SERVICES, TestApp, service_body, text},
    service::{bad_parameters, ids},
};

fn change(action: &str, permissions: Value) -> Value {
    json!({"permissions": permissions, "action": action})
}

#[tokio::test]
async fn records_are_added_once_listed_and_removed() {
    let app = TestApp::start().await;
    let service = app.demo.service(80, true).await;
    let path = format!("{SERVICES}/{service}/permissions");
    let act = format!("{path}/action");
    // The owner is implied and not listed.
    assert_eq!(
        app.demo.get(&path).await.ok(),
        json!({"permissions": [], "total_count": 0})
    );

    let sent = json!(["iam:domain::one", "*", "iam:domain::one"]);
    let reply = app.demo.post(&act, &change("add", sent.clone())).await.ok();
    assert_eq!(reply, json!({"permissions": sent}));
    let listed = app.demo.get(&path).await.ok();
    assert_eq!(listed["total_count"], 2);
    let first = listed["permissions"][0].clone();
    let expected = json!({
        "id": first["id"], "permission": "*", "permission_type": "domainId", "description": "",
        "created_at": first["created_at"],
    });
    assert_eq!(first, expected);
    assert_eq!(listed["permissions"][1]["permission"], "iam:domain::one");
    assert_eq!(text(&first["id"]).len(), 36);

    // What is there already is no error and no second record.
    app.demo.post(&act, &change("add", json!(["*"]))).await.ok();
    assert_eq!(app.demo.get(&path).await.ok(), listed);

    let sent = json!(["iam:domain::nobody", "*"]);
    let reply = app.demo.post(&act, &change("remove", sent.clone())).await.ok();
    assert_eq!(reply, json!({"permissions": sent}));
    let listed = app.demo.get(&path).await.ok();
    assert_eq!(listed["total_count"], 1);
    app.demo
        .post(&act, &change("remove", json!(["iam:domain::one"])))
        .await
        .ok();
    assert_eq!(app.demo.get(&path).await.ok()["total_count"], 0);
    // Records vanish with their service.
    app.demo.remove_service(&service).await;
    assert_eq!(app.demo.get(&path).await.refused(), (404, "0005"));
}

#[tokio::test]
async fn removing_a_record_cuts_nobody() {
    let app = TestApp::start().await;
    let service = app.service(80, false).await;
    let endpoint = app.endpoint(&service, "accepted").await;
    let remove = change("remove", json!([format!("iam:domain::{OTHER_DOMAIN}")]));
    app.demo
        .post(&format!("{SERVICES}/{service}/permissions/action"), &remove)
        .await
        .ok();
    let shown = app.other.get(&format!("{ENDPOINTS}/{endpoint}")).await.ok();
    assert_eq!(shown["status"], "accepted");
}

#[tokio::test]
async fn every_rule_has_its_code_and_one_bad_record_spoils_all() {
    let app = TestApp::start().await;
    let service = app.demo.service(80, true).await;
    let path = format!("{SERVICES}/{service}/permissions");
    let act = format!("{path}/action");
    app.demo
        .post(&act, &change("add", json!(["iam:domain::kept"])))
        .await
        .ok();
    let before = app.demo.get(&path).await.ok();
    for (body, code) in [
        (json!({"action": "add"}), "3036"),
        (change("add", json!([])), "3036"),
        (change("add", json!("*")), "3036"),
        (change("add", json!(["iam:domain::"])), "3002"),
        (
            change("add", json!([format!("iam:domain::{}", "a".repeat(65))])),
            "3002",
        ),
        (change("add", json!(["iam:domain::a-b"])), "3002"),
        (change("add", json!(["iam:user::a"])), "3002"),
        (change("add", json!(["IAM:domain::a"])), "3002"),
        (change("add", json!(["a"])), "3002"),
        (change("add", json!(["**"])), "3002"),
        (change("add", json!([1])), "3002"),
        (change("add", json!(["iam:domain::good", "bad"])), "3002"),
        (change("remove", json!(["iam:domain::kept", "bad"])), "3002"),
        (json!({"permissions": ["*"]}), "3035"),
        (change("delete", json!(["*"])), "3035"),
        (json!({"permissions": ["*"], "action": 1}), "3035"),
    ] {
        assert_eq!(app.demo.post(&act, &body).await.refused(), (400, code), "{body}");
        assert_eq!(app.demo.get(&path).await.ok(), before, "{body}");
    }
    for fits in [
        "iam:domain::a",
        "iam:domain::Zz09",
        "iam:domain::*",
        "iam:domain::a*b",
    ] {
        app.demo.post(&act, &change("add", json!([fits]))).await.ok();
    }
    let long = format!("iam:domain::{}", "a".repeat(64));
    app.demo.post(&act, &change("add", json!([long]))).await.ok();
}

#[tokio::test]
async fn five_hundred_records_fit_and_no_more() {
    let app = TestApp::start().await;
    let service = app.demo.service(80, true).await;
    let path = format!("{SERVICES}/{service}/permissions");
    let act = format!("{path}/action");
    let records =
        |from: u32, to: u32| -> Value { (from..to).map(|n| json!(format!("iam:domain::d{n}"))).collect() };
    app.demo.post(&act, &change("add", records(0, 499))).await.ok();
    let refused = app.demo.post(&act, &change("add", records(498, 501))).await;
    assert_eq!(refused.refused(), (400, "3049"));
    assert_eq!(app.demo.get(&path).await.ok()["total_count"], 499);
    app.demo.post(&act, &change("add", records(498, 500))).await.ok();
    // What is there already does not count twice.
    app.demo.post(&act, &change("add", records(0, 500))).await.ok();
    let all = app.demo.get(&format!("{path}?limit=500")).await.ok();
    assert_eq!(
        (&all["total_count"], ids(&all, "permissions").len()),
        (&json!(500), 500)
    );
}

#[tokio::test]
async fn lists_are_filtered_sorted_and_cut_as_asked() {
    let app = TestApp::start().await;
    let service = app.demo.service(80, true).await;
    let path = format!("{SERVICES}/{service}/permissions");
    let add = |n: u32| change("add", json!([format!("iam:domain::d{n}x")]));
    for n in 0..12 {
        app.demo.post(&format!("{path}/action"), &add(n)).await.ok();
    }
    let made: Vec<String> = (0..12).map(|n| format!("iam:domain::d{n}x")).collect();
    let newest: Vec<String> = made.iter().rev().cloned().collect();
    let two = [made[11].clone(), made[10].clone()];
    for (query, expected, total) in [
        ("", &newest[..10], 12),
        ("limit=0", &[][..], 12),
        ("limit=500", &newest[..], 12),
        ("limit=3&offset=2", &newest[2..5], 12),
        ("offset=12", &[][..], 12),
        ("limit=12&sort_key=created_at&sort_dir=asc", &made[..], 12),
        ("permission=d3x", &made[3..4], 1),
        ("permission=iam:domain::d4x", &made[4..5], 1),
        ("permission=d1&sort_dir=desc&limit=2", &two[..], 3),
        ("permission=D3X", &[][..], 0),
        ("permission=&limit=1", &newest[..1], 12),
    ] {
        let reply = app.demo.get(&format!("{path}?{query}")).await.ok();
        let shown: Vec<String> = reply["permissions"]
            .as_array()
            .unwrap()
            .iter()
            .map(|r| text(&r["permission"]))
            .collect();
        assert_eq!(shown, expected, "{query}");
        assert_eq!(reply["total_count"], total, "{query}");
    }
    for (query, code) in bad_parameters()
        .into_iter()
        .chain([("limit=501", "0006"), ("sort_key=updated_at", "0017")])
    {
        assert_eq!(
            app.demo.get(&format!("{path}?{query}")).await.refused(),
            (400, code),
            "{query}"
        );
    }
}

#[tokio::test]
async fn records_of_a_failed_service_can_only_be_read() {
    let app = TestApp::start().await;
    let mut body = service_body(80);
    body["tcp_proxy"] = json!("open");
    let id = text(&app.demo.post(SERVICES, &body).await.ok()["id"]);
    app.demo
        .until(&format!("{SERVICES}/{id}"), |r| r.body["status"] == "failed")
        .await;
    let path = format!("{SERVICES}/{id}/permissions");
    app.demo.get(&path).await.ok();
    let reply = app
        .demo
        .post(&format!("{path}/action"), &change("add", json!(["*"])))
        .await;
    assert_eq!(reply.refused(), (400, "3045"));
}
