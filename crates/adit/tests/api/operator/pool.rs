//! Pools.

use serde_json::json;

use crate::app::{NOBODY, SERVICES, TestApp, service_body, text};

const POOLS: &str = "/admin/v1/pools";

#[tokio::test]
async fn a_pool_is_made_used_and_removed_when_it_is_empty() {
    let app = TestApp::start().await;
    let default = app.operator.get(POOLS).await.ok();
    assert_eq!(default["total_count"], 1);
    assert_eq!(
        (&default["pools"][0]["name"], &default["pools"][0]["default"]),
        (&json!("default"), &json!(true))
    );

    let made = app.operator.post(POOLS, &json!({"name": "edge-2"})).await.ok();
    let id = text(&made["id"]);
    let expected = json!({"id": id, "name": "edge-2", "default": false, "services": 0, "endpoints": 0,
        "created_at": made["created_at"]});
    assert_eq!(made, expected);
    let mut body = service_body(80);
    body["pool_id"] = json!(id);
    let service = app.demo.service_of(&body).await;
    let shown = app.demo.get(&format!("{SERVICES}/{service}")).await.ok();
    assert_eq!(shown["pool_id"], id.as_str());
    let listed = app.operator.get(POOLS).await.ok();
    assert_eq!(
        (&listed["pools"][0]["services"], &listed["total_count"]),
        (&json!(1), &json!(2))
    );

    let path = format!("{POOLS}/{id}");
    assert_eq!(app.operator.delete(&path).await.refused(), (400, "0002"));
    app.demo.remove_service(&service).await;
    app.operator.delete(&path).await.no_content();
    assert_eq!(app.operator.delete(&path).await.refused(), (404, "0005"));
    assert_eq!(app.operator.get(POOLS).await.ok(), default);
    // Nothing can be put in it any more.
    assert_eq!(app.demo.post(SERVICES, &body).await.refused(), (400, "2038"));
}

#[tokio::test]
async fn what_is_no_pool_is_refused() {
    let app = TestApp::start().await;
    let default = text(&app.operator.get(POOLS).await.ok()["pools"][0]["id"]);
    for (body, code) in [
        (json!({}), "2002"),
        (json!({"name": ""}), "2002"),
        (json!({"name": "a b"}), "0002"),
        (json!({"name": 1}), "0002"),
        (json!([]), "1004"),
    ] {
        assert_eq!(
            app.operator.post(POOLS, &body).await.refused(),
            (400, code),
            "{body}"
        );
    }
    for (id, expected) in [
        (default.as_str(), (400, "0002")),
        (NOBODY, (404, "0005")),
        ("x", (400, "0002")),
    ] {
        let reply = app.operator.delete(&format!("{POOLS}/{id}")).await;
        assert_eq!(reply.refused(), expected, "{id}");
    }
    assert_eq!(app.operator.get(POOLS).await.ok()["total_count"], 1);
}
