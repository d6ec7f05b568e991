//! The switch before part B of the specification: without it, its operations do not exist.

use serde_json::json;

use crate::app::{NOBODY, TestApp};

/// Every operation that only Huawei's API has, on resources that nobody has.
fn operations() -> Vec<(&'static str, String)> {
    let service = |tail: &str| format!("vpc-endpoint-services/{NOBODY}{tail}");
    let endpoint = |tail: &str| format!("vpc-endpoints/{NOBODY}{tail}");
    vec![
        ("PUT", endpoint("")),
        ("PUT", endpoint("/routetables")),
        ("PUT", endpoint("/policy")),
        ("DELETE", endpoint("/policy")),
        ("POST", service("/permissions/batch-create")),
        ("POST", service("/permissions/batch-delete")),
        ("PUT", service(&format!("/permissions/{NOBODY}"))),
        ("PUT", service("/connections/description")),
        ("PUT", service("/name")),
        ("POST", service("/add-server-resources")),
        ("POST", service("/upgrade")),
        ("POST", endpoint("/upgrade")),
    ]
}

#[tokio::test]
async fn without_the_switch_its_paths_do_not_exist() {
    let app = TestApp::builder().without_superset().start().await;
    for (method, path) in operations() {
        let version = if path.ends_with("add-server-resources") || path.ends_with("upgrade") {
            "v2"
        } else {
            "v1"
        };
        let path = format!("/{version}/{}/{path}", app.demo.project);
        let reply = app.demo.send(method, &path, Some(&json!({}))).await;
        assert_eq!(reply.refused(), (404, "0005"), "{method} {path}");
        // As at any unknown path, nobody is asked who they are.
        let reply = app.demo.with_token(None).send(method, &path, None).await;
        assert_eq!(reply.refused(), (404, "0005"), "{method} {path}");
    }
    // What shares a path with one of them is there, and so is what no API has.
    let endpoint = format!("vpc-endpoints/{NOBODY}");
    assert_eq!(app.demo.get(&endpoint).await.refused(), (404, "2006"));
    let reply = app.demo.send("PATCH", &endpoint, None).await;
    assert_eq!(reply.refused(), (405, "0002"));
}
