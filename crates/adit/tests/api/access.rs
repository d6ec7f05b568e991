//! Changing an endpoint's access control (spec B.1). What it does on the wire is in `tests/access.rs`.

use serde_json::{Value, json};

use crate::app::{ENDPOINTS, NOBODY, SERVICES, TestApp, endpoint_body, text};

#[tokio::test]
async fn the_list_and_its_switch_are_replaced_one_by_one() {
    let app = TestApp::start().await;
    let service = app.service(80, false).await;
    let endpoint = app.endpoint(&service, "accepted").await;
    let path = format!("{ENDPOINTS}/{endpoint}");
    let access = |reply: &Value| (reply["whitelist"].clone(), reply["enable_whitelist"].clone());
    for (body, list, on) in [
        (
            json!({"whitelist": ["10.0.0.20", "10.1.0.0/16"]}),
            json!(["10.0.0.20", "10.1.0.0/16"]),
            false,
        ),
        (
            json!({"enable_whitelist": true}),
            json!(["10.0.0.20", "10.1.0.0/16"]),
            true,
        ),
        (
            json!({"whitelist": null, "enable_whitelist": null, "x": 1}),
            json!(["10.0.0.20", "10.1.0.0/16"]),
            true,
        ),
        (
            json!({"whitelist": ["192.0.2.9/32"], "enable_whitelist": true}),
            json!(["192.0.2.9/32"]),
            true,
        ),
        (json!({"whitelist": []}), json!([]), true),
        (json!({}), json!([]), true),
    ] {
        let reply = app.other.put(&path, &body).await.ok();
        assert_eq!(access(&reply), (list, json!(on)), "{body}");
        assert_eq!(reply["status"], "accepted");
        assert_eq!(app.other.get(&path).await.ok(), reply, "{body}");
    }
}

#[tokio::test]
async fn every_rule_has_its_code_and_nothing_is_changed() {
    let app = TestApp::start().await;
    let service = app.service(80, false).await;
    let endpoint = app.endpoint(&service, "accepted").await;
    let path = format!("{ENDPOINTS}/{endpoint}");
    let before = app.other.get(&path).await.ok();
    let many: Value = (0..21).map(|n| json!(format!("10.0.1.{n}"))).collect();
    for (body, code) in [
        (json!({"whitelist": "10.0.0.1"}), "2044"),
        (json!({"whitelist": ["10.0.0.1", "x"]}), "2044"),
        (json!({"whitelist": ["fd00::1"]}), "2044"),
        (json!({"whitelist": [1]}), "2044"),
        (json!({"whitelist": many}), "2045"),
        (
            json!({"whitelist": ["10.0.0.1"], "enable_whitelist": "true"}),
            "0002",
        ),
        (json!([]), "1004"),
    ] {
        assert_eq!(app.other.put(&path, &body).await.refused(), (400, code), "{body}");
    }
    assert_eq!(app.other.get(&path).await.ok(), before);
    let good = json!({"enable_whitelist": true});
    for (client, id, expected) in [
        (&app.other, NOBODY, (404, "2006")),
        (&app.other, "x", (400, "2017")),
        (&app.demo, endpoint.as_str(), (404, "2006")),
    ] {
        let reply = client.put(&format!("{ENDPOINTS}/{id}"), &good).await;
        assert_eq!(reply.refused(), expected, "{id}");
    }
}

#[tokio::test]
async fn in_which_states_it_can_be_changed() {
    let app = TestApp::start().await;
    let (service, open) = (app.service(80, true).await, app.service(81, false).await);
    let good = json!({"enable_whitelist": true});
    let waiting = app.endpoint(&service, "pendingAcceptance").await;
    let rejected = app.endpoint(&service, "pendingAcceptance").await;
    app.decide(&service, "reject", &rejected).await.ok();
    for id in [&waiting, &rejected] {
        let reply = app.other.put(&format!("{ENDPOINTS}/{id}"), &good).await.ok();
        assert_eq!(reply["enable_whitelist"], true);
    }
    let disabled = app.endpoint(&open, "accepted").await;
    let switch = json!({"enable_status": "disable"});
    app.operator
        .put(&format!("/admin/v1/endpoints/{disabled}"), &switch)
        .await
        .ok();
    let reply = app.other.put(&format!("{ENDPOINTS}/{disabled}"), &good).await;
    assert_eq!(reply.refused(), (400, "2050"));
    app.demo
        .delete(&format!("{SERVICES}/{service}"))
        .await
        .no_content();
    app.other
        .until(&format!("{ENDPOINTS}/{waiting}"), |r| {
            r.body["status"] == "failed"
        })
        .await;
    let reply = app.other.put(&format!("{ENDPOINTS}/{waiting}"), &good).await;
    assert_eq!(reply.refused(), (400, "2047"));

    // Without reconcilers, what is on its way stays there.
    let TestApp { running, other, .. } = app;
    let _stack = (running.router.clone(), running.app.clone());
    running.stop().await.unwrap();
    let creating = text(&other.post(ENDPOINTS, &endpoint_body(&open)).await.ok()["id"]);
    let reply = other.put(&format!("{ENDPOINTS}/{creating}"), &good).await;
    assert_eq!(reply.refused(), (400, "2019"));
    other
        .delete(&format!("{ENDPOINTS}/{rejected}"))
        .await
        .no_content();
    let reply = other.put(&format!("{ENDPOINTS}/{rejected}"), &good).await;
    assert_eq!(reply.refused(), (400, "2018"));
}
