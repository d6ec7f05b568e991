//! Quotas, as the operator sets them.

use std::sync::Arc;

use adit_store::{RedbStore, Store};
use serde_json::json;

use crate::app::{DEMO_PROJECT, SERVICES, TestApp, service_body};

fn path() -> String {
    format!("/admin/v1/projects/{DEMO_PROJECT}/quotas")
}

#[tokio::test]
async fn one_figure_or_both_are_set_and_shown_to_the_project() {
    let app = TestApp::start().await;
    let shown = app.operator.get(&path()).await.ok();
    assert_eq!(shown, app.demo.get("quotas").await.ok());
    let reply = app.operator.put(&path(), &json!({"endpoint": 7})).await.ok();
    let expected = json!({"quotas": {"resources": [
        {"type": "endpoint", "used": 0, "quota": 7},
        {"type": "endpoint_service", "used": 0, "quota": 20},
    ]}});
    assert_eq!(reply, expected);
    assert_eq!(app.demo.get("quotas").await.ok(), expected);
    // No other project's.
    assert_ne!(app.other.get("quotas").await.ok(), expected);
    for (body, code) in [
        (json!({}), "2002"),
        (json!({"quota": 1}), "2002"),
        (json!({"endpoint": "7"}), "0002"),
        (json!({"endpoint": -1}), "0002"),
        (json!({"endpoint": 1, "endpoint_service": 1.5}), "0002"),
        (json!({"endpoint_service": 1_000_001}), "0002"),
        (json!([]), "1004"),
    ] {
        let reply = app.operator.put(&path(), &body).await;
        assert_eq!(reply.refused(), (400, code), "{body}");
    }
    assert_eq!(app.demo.get("quotas").await.ok(), expected);
}

#[tokio::test]
async fn less_than_what_is_in_use_only_stops_what_is_new() {
    let app = TestApp::start().await;
    let mut made = Vec::new();
    for port in 80..85 {
        made.push(app.demo.service(port, true).await);
    }
    let set = async |n: u32| {
        let body = json!({"endpoint_service": n});
        app.operator.put(&path(), &body).await.ok();
    };
    set(2).await;
    assert_eq!(app.demo.used().await, (0, 5));
    let refused = app.demo.post(SERVICES, &service_body(90)).await;
    assert_eq!(refused.refused(), (400, "1018"));
    // Whichever of them go first: there are never more than two again.
    for id in &made[..3] {
        app.demo.remove_service(id).await;
        let refused = app.demo.post(SERVICES, &service_body(90)).await;
        assert_eq!(refused.refused(), (400, "1018"));
    }
    app.demo.remove_service(&made[4]).await;
    let (one, two) = tokio::join!(
        async { app.demo.post(SERVICES, &service_body(90)).await },
        async { app.demo.post(SERVICES, &service_body(91)).await },
    );
    let mut answers = [one.status, two.status];
    answers.sort_unstable();
    assert_eq!(answers, [200, 400]);
    assert_eq!(app.demo.used().await, (0, 2));
    set(0).await;
    let refused = app.demo.post(SERVICES, &service_body(92)).await;
    assert_eq!(refused.refused(), (400, "1018"));
}

#[tokio::test]
async fn they_outlive_a_restart_until_the_region_file_says_something_new() {
    let store: Arc<dyn Store> = Arc::new(RedbStore::ephemeral().unwrap());
    let quota = async |app: &TestApp| {
        let quotas = app.demo.get("quotas?type=endpoint").await.ok();
        quotas["quotas"]["resources"][0]["quota"].clone()
    };
    let app = TestApp::builder().store(Arc::clone(&store)).start().await;
    app.operator.put(&path(), &json!({"endpoint": 7})).await.ok();
    app.running.stop().await.unwrap();

    let app = TestApp::builder().store(Arc::clone(&store)).start().await;
    assert_eq!(quota(&app).await, 7);
    app.running.stop().await.unwrap();

    let app = TestApp::builder().quotas(20, 9).store(store).start().await;
    assert_eq!(quota(&app).await, 9);
}
