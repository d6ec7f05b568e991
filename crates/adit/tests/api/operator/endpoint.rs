//! Switching endpoints off and on. What it does on the wire is in `tests/access.rs`.

use adit_server::feed;
use serde_json::json;

use crate::app::{ENDPOINTS, NOBODY, TestApp, endpoint_body, text};

fn path(id: &str) -> String {
    format!("/admin/v1/endpoints/{id}")
}

#[tokio::test]
async fn a_disabled_endpoint_shows_it_and_takes_no_action() {
    let app = TestApp::start().await;
    let service = app.service(80, true).await;
    let endpoint = app.endpoint(&service, "pendingAcceptance").await;
    let switch = |word: &str| json!({"enable_status": word});
    let shown = app.operator.put(&path(&endpoint), &switch("disable")).await.ok();
    assert_eq!(shown["enable_status"], "disable");
    assert_eq!(shown["active_status"], json!(["active"]));
    let own = app.other.get(&format!("{ENDPOINTS}/{endpoint}")).await.ok();
    assert_eq!(own["enable_status"], "disable");
    // Again is nothing new.
    assert_eq!(
        app.operator.put(&path(&endpoint), &switch("disable")).await.ok(),
        shown
    );
    for action in ["receive", "reject"] {
        assert_eq!(
            app.decide(&service, action, &endpoint).await.refused(),
            (400, "2050"),
            "{action}"
        );
    }
    app.operator.put(&path(&endpoint), &switch("enable")).await.ok();
    let decided = app.decide(&service, "receive", &endpoint).await.ok();
    assert_eq!(decided["connections"][0]["status"], "accepted");
    let shown = app.operator.put(&path(&endpoint), &switch("disable")).await.ok();
    // Its state is another thing.
    assert_eq!(shown["status"], "accepted");
    app.other
        .delete(&format!("{ENDPOINTS}/{endpoint}"))
        .await
        .no_content();
}

#[tokio::test]
async fn a_bad_word_is_refused_and_changes_nothing() {
    let app = TestApp::start().await;
    let open = app.service(80, false).await;
    let endpoint = app.endpoint(&open, "accepted").await;
    let before = app.operator.get(&path(&endpoint)).await.ok();
    let good = json!({"enable_status": "disable"});
    for (id, body, expected) in [
        (endpoint.as_str(), json!({}), (400, "2002")),
        (&endpoint, json!({"enable_status": "off"}), (400, "0002")),
        (&endpoint, json!({"enable_status": false}), (400, "0002")),
        (&endpoint, json!([]), (400, "1004")),
        (
            &endpoint,
            json!({"enable_status": "disable", "drain_s": -1}),
            (400, "0002"),
        ),
        (
            &endpoint,
            json!({"enable_status": "disable", "drain_s": 86_401}),
            (400, "0002"),
        ),
        (
            &endpoint,
            json!({"enable_status": "disable", "drain_s": "30"}),
            (400, "0002"),
        ),
        (NOBODY, good.clone(), (404, "2006")),
        ("x", good.clone(), (400, "2017")),
    ] {
        assert_eq!(
            app.operator.put(&path(id), &body).await.refused(),
            expected,
            "{id} {body}"
        );
    }
    assert_eq!(app.operator.get(&path(&endpoint)).await.ok(), before);
    // Without reconcilers, what is on its way stays there.
    let TestApp {
        running,
        other,
        operator,
        ..
    } = app;
    let _stack = (running.router.clone(), running.app.clone());
    running.stop().await.unwrap();
    let creating = text(&other.post(ENDPOINTS, &endpoint_body(&open)).await.ok()["id"]);
    assert_eq!(
        operator.put(&path(&creating), &good).await.ok()["enable_status"],
        "disable"
    );
    other
        .delete(&format!("{ENDPOINTS}/{endpoint}"))
        .await
        .no_content();
    assert_eq!(
        operator.put(&path(&endpoint), &good).await.refused(),
        (400, "2018")
    );
}

#[tokio::test]
async fn a_switch_says_how_long_connections_may_go_on() {
    let app = TestApp::start().await;
    let service = app.service(80, false).await;
    let endpoint = app.endpoint(&service, "accepted").await;
    let id = endpoint.parse().unwrap();
    let told = || {
        let spec = feed::specify(&app.running.app.cache.read(), &app.running.app.config, id);
        spec.map(|spec| (spec.ports.len(), spec.drain_s)).unwrap()
    };
    assert_eq!(told(), (1, 0));
    for (body, expected) in [
        (json!({"enable_status": "disable", "drain_s": 30}), (0, 30)),
        // Said again without, the setting counts, which is to cut.
        (json!({"enable_status": "disable"}), (0, 0)),
        (
            json!({"enable_status": "disable", "drain_s": 86_400}),
            (0, 86_400),
        ),
        (json!({"enable_status": "enable"}), (1, 0)),
    ] {
        app.operator.put(&path(&endpoint), &body).await.ok();
        assert_eq!(told(), expected, "{body}");
    }
}
