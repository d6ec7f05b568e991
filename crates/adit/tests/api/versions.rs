//! The API's versions (spec A.1, A.2).

use serde_json::json;

use crate::app::TestApp;

#[tokio::test]
async fn versions_are_listed_without_a_token() {
    let app = TestApp::start().await;
    let nobody = app.demo.with_token(None);
    let version = |id: &str, version: &str, status: &str, updated: &str, path: &str| {
        let link =
            json!({"href": format!("http://vpcep.test/{path}"), "type": "application/json", "rel": "self"});
        json!({
            "id": id, "version": version, "min_version": "", "status": status, "updated": updated, "links": [link],
        })
    };
    let v1 = version("v1", "1", "SUPPORT", "2018-09-30T00:00:00Z", "v1");
    let v2 = version("v2", "2", "CURRENT", "2020-03-30T00:00:00Z", "v2");
    let listed = nobody.get("/").await.ok();
    assert_eq!(listed["versions"][0], v1);
    assert_eq!(listed["versions"][1], v2);
    // Clients of Keystone that are given the bare address look for it here.
    assert_eq!(listed["versions"][2]["id"], "v3.14");
    assert_eq!(listed["versions"].as_array().unwrap().len(), 3);
    for (path, expected) in [("/v1", &v1), ("/v1/", &v1), ("/v2", &v2), ("/v2/", &v2)] {
        assert_eq!(
            nobody.get(path).await.ok(),
            json!({"version": expected}),
            "{path}"
        );
    }
    // Listed, and yet not served.
    for path in [
        "/v2/x",
        "/v2/6e9dfd51d1124e8d8498dce894923a0d/vpc-endpoints",
        "/v4",
        "/x",
        "/v1x",
    ] {
        assert_eq!(nobody.get(path).await.refused(), (404, "0005"), "{path}");
    }
}
