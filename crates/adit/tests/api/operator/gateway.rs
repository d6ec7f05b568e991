//! Gateways that are processes of their own, as the operator asks for them.

use serde_json::json;

use crate::app::TestApp;

#[tokio::test]
async fn a_region_with_a_gateway_of_its_own_lists_none_and_drains_none() {
    let app = TestApp::start().await;
    let listed = app.operator.get("/admin/v1/gateways").await.ok();
    assert_eq!(listed, json!({"gateways": [], "total_count": 0}));
    for (name, body, refused, named) in [
        ("one", json!({"draining": true}), (404, "0005"), "one"),
        ("one", json!({}), (400, "2002"), "draining"),
        ("one", json!({"draining": "yes"}), (400, "0002"), "draining"),
        ("No_Name", json!({"draining": true}), (400, "0002"), "No_Name"),
    ] {
        let reply = app
            .operator
            .put(&format!("/admin/v1/gateways/{name}"), &body)
            .await;
        assert_eq!(reply.refused(), refused, "{name} {body}");
        let text = reply.body["error_msg"].as_str().unwrap();
        assert!(text.contains(named), "{text}");
    }
    let path = "/admin/v1/gateways/one";
    assert_eq!(app.operator.delete(path).await.refused(), (404, "0005"));
    assert_eq!(app.demo.delete(path).await.refused().0, 403);
    let reply = app
        .demo
        .put("/admin/v1/gateways/one", &json!({"draining": true}))
        .await;
    assert_eq!(reply.refused().0, 403);
}
