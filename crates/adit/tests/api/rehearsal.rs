//! What people test their own code with: failures on purpose, and everything taking its time.

use std::{sync::Arc, time::Duration};

use adit_store::{RedbStore, Store};
use serde_json::{Value, json};

use crate::app::{ENDPOINTS, NOBODY, SERVICES, TestApp, endpoint_body, service_body, text};

const PLAN: &str = "/admin/v1/failures";
/// Longer than any test.
const FOREVER: Duration = Duration::from_secs(24 * 60 * 60);

async fn plan(app: &TestApp, failures: Value) {
    let planned = app.operator.put(PLAN, &json!({"failures": failures})).await.ok();
    assert_eq!(planned["failures"], failures);
}

async fn left(app: &TestApp) -> Value {
    app.operator.get(PLAN).await.ok()["failures"].take()
}

#[tokio::test]
async fn requests_fail_as_often_as_was_asked_and_only_those() {
    let app = TestApp::start().await;
    plan(
        &app,
        json!([
            {"operation": "endpoint_list", "effect": "504", "times": 2},
            {"operation": "endpoint_list", "effect": "EndPoint.0022", "times": 1},
            {"operation": "service_show", "effect": "503", "times": 1},
        ]),
    )
    .await;
    // Who may not ask does not see it, and does not use it up.
    let nobody = app.demo.with_token(None);
    assert_eq!(nobody.get(ENDPOINTS).await.refused(), (401, "0003"));
    for expected in [(504, "0013"), (504, "0013"), (400, "0022")] {
        let reply = app.demo.get(ENDPOINTS).await;
        assert_eq!(reply.refused(), expected);
        assert!(
            reply.text.contains("This failure was asked for."),
            "{}",
            reply.text
        );
    }
    app.demo.get(ENDPOINTS).await.ok();
    app.demo.get(SERVICES).await.ok();
    assert_eq!(
        left(&app).await,
        json!([{"operation": "service_show", "effect": "503", "times": 1}])
    );
    // Whose it is does not matter; a status that the catalogue does not have is answered all the same.
    let reply = app.other.get(&format!("{SERVICES}/{NOBODY}")).await;
    assert_eq!(reply.refused(), (503, "0001"));
    assert_eq!(left(&app).await, json!([]));
}

#[tokio::test]
async fn what_cannot_be_planned_changes_nothing() {
    let app = TestApp::start().await;
    let before = json!([{"operation": "quota_show", "effect": "500", "times": 7}]);
    plan(&app, before.clone()).await;
    for (body, code, said) in [
        (json!({}), "2002", "failures is missing"),
        (json!({"failures": 1}), "0002", "not a list"),
        (
            json!({"failures": [{"operation": "nothing", "effect": "500"}]}),
            "0005",
            "\"nothing\" is none; there are access_update",
        ),
        (
            json!({"failures": [{"operation": "operator_quota_set", "effect": "500"}]}),
            "0005",
            "operator_quota_set",
        ),
        (
            json!({"failures": [{"operation": "endpoint_list", "effect": "failed"}]}),
            "0002",
            "service_create and endpoint_create",
        ),
        (
            json!({"failures": [{"operation": "quota_show", "effect": "200"}]}),
            "0002",
            "failures[0].effect",
        ),
        (json!([]), "1004", "not an object"),
    ] {
        let reply = app.operator.put(PLAN, &body).await;
        let status = if code == "0005" { 404 } else { 400 };
        assert_eq!(reply.refused(), (status, code), "{body}");
        assert!(
            reply.text.contains(&said.replace('"', "\\\"")),
            "{body}: {}",
            reply.text
        );
    }
    assert_eq!(left(&app).await, before);
    for client in [&app.demo, &app.viewer] {
        assert_eq!(client.get(PLAN).await.refused(), (403, "0004"));
        assert_eq!(
            client.put(PLAN, &json!({"failures": []})).await.refused(),
            (403, "0004")
        );
    }
    plan(&app, json!([])).await;
    app.demo.get("quotas").await.ok();
}

#[tokio::test]
async fn what_is_made_becomes_failed() {
    let app = TestApp::start().await;
    let service = app.service(80, false).await;
    plan(
        &app,
        json!([
            {"operation": "endpoint_create", "effect": "failed", "times": 2},
            {"operation": "service_create", "effect": "failed", "times": 1},
        ]),
    )
    .await;
    for _ in 0..2 {
        let made = app.other.post(ENDPOINTS, &endpoint_body(&service)).await.ok();
        assert_eq!(made["status"], "creating");
        let path = format!("{ENDPOINTS}/{}", text(&made["id"]));
        let failed = app.other.until(&path, |r| r.body["status"] != "creating").await;
        assert_eq!(failed["status"], "failed");
        assert_eq!(failed["error"][0]["error_code"], "EndPoint.0001");
        assert!(text(&failed["error"][0]["error_message"]).contains("This failure was asked for."));
        app.other.delete(&path).await.no_content();
        app.other.until_gone(&path).await;
    }
    app.endpoint(&service, "accepted").await;

    let made = app.demo.post(SERVICES, &service_body(81)).await.ok();
    assert_eq!(made["status"], "creating");
    let path = format!("{SERVICES}/{}", text(&made["id"]));
    let failed = app.demo.until(&path, |r| r.body["status"] != "creating").await;
    assert_eq!(failed["status"], "failed");
    assert_eq!(failed["error"][0]["error_code"], "EndPoint.0001");
    app.demo.delete(&path).await.no_content();
    app.demo.until_gone(&path).await;
    app.service(81, false).await;
    assert_eq!(left(&app).await, json!([]));
}

#[tokio::test]
async fn an_endpoint_that_waits_for_approval_fails_when_it_has_it_and_an_order_that_is_refused_uses_nothing_up()
 {
    let app = TestApp::start().await;
    let service = app.service(80, true).await;
    let one = json!([{"operation": "endpoint_create", "effect": "failed", "times": 1}]);
    plan(&app, one.clone()).await;
    let mut wrong = endpoint_body(&service);
    wrong["subnet_id"] = NOBODY.into();
    assert_eq!(app.other.post(ENDPOINTS, &wrong).await.status, 404);
    assert_eq!(left(&app).await, one);
    let endpoint = app.endpoint(&service, "pendingAcceptance").await;
    assert_eq!(left(&app).await, json!([]));
    app.decide(&service, "receive", &endpoint).await.ok();
    let path = format!("{ENDPOINTS}/{endpoint}");
    app.other.until(&path, |r| r.body["status"] == "failed").await;
}

#[tokio::test]
async fn everything_takes_as_long_as_it_was_told_and_a_restart_does_not_shorten_it() {
    let store: Arc<dyn Store> = Arc::new(RedbStore::ephemeral().unwrap());
    let start = async |delay: Duration| {
        let builder = TestApp::builder().store(Arc::clone(&store)).delay(delay);
        builder.start().await
    };
    let app = start(Duration::ZERO).await;
    let (open, asks) = (app.service(80, false).await, app.service(81, true).await);
    let waiting = app.endpoint(&asks, "pendingAcceptance").await;
    app.running.stop().await.unwrap();

    let app = start(FOREVER).await;
    let service = text(&app.demo.post(SERVICES, &service_body(82)).await.ok()["id"]);
    let endpoint = text(&app.other.post(ENDPOINTS, &endpoint_body(&open)).await.ok()["id"]);
    let received = app.decide(&asks, "receive", &waiting).await.ok();
    assert_eq!(received["connections"][0]["status"], "creating");
    let paths = [
        (&app.demo, format!("{SERVICES}/{service}"), "available"),
        (&app.other, format!("{ENDPOINTS}/{endpoint}"), "accepted"),
        (&app.other, format!("{ENDPOINTS}/{waiting}"), "accepted"),
    ];
    for (client, path, _) in &paths {
        let shown = client.get(path).await.ok();
        assert_eq!(shown["status"], "creating", "{path}");
        assert_eq!(shown["ip"].as_str().unwrap_or_default(), "", "{path}");
    }
    app.running.stop().await.unwrap();

    let app = start(FOREVER).await;
    for (_, path, _) in &paths {
        let client = if path.starts_with(SERVICES) {
            &app.demo
        } else {
            &app.other
        };
        assert_eq!(client.get(path).await.ok()["status"], "creating", "{path}");
    }
    // It is not served either, and it can be taken back.
    assert_eq!(app.demo.delete(&paths[0].1).await.refused(), (400, "3005"));
    app.running.stop().await.unwrap();

    let app = start(Duration::from_millis(300)).await;
    for (_, path, status) in &paths {
        let client = if path.starts_with(SERVICES) {
            &app.demo
        } else {
            &app.other
        };
        client.until(path, |r| r.body["status"] == *status).await;
    }
    // What is new is held back as well, and no longer than it takes.
    let made = app.demo.post(SERVICES, &service_body(83)).await.ok();
    assert_eq!(made["status"], "creating");
    let path = format!("{SERVICES}/{}", text(&made["id"]));
    app.demo.until(&path, |r| r.body["status"] == "available").await;
}
