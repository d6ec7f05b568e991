//! The operator's API.

mod account;
mod diagnosis;
mod endpoint;
mod gateway;
mod inspect;
mod pool;
pub(crate) mod public_service;
mod quota;
mod service;

use serde_json::json;

use crate::app::TestApp;

#[tokio::test]
async fn the_role_counts_and_not_the_scope() {
    let app = TestApp::start().await;
    let path = format!("/admin/v1/projects/{}/quotas", app.demo.project);
    app.operator.get(&path).await.ok();
    let domain = json!({"name": "operator-domain"});
    let user = json!({"name": "operator", "password": "operator-password", "domain": domain});
    let of_account = json!({"auth": {
        "identity": {"methods": ["password"], "password": {"user": user}},
        "scope": {"domain": domain},
    }});
    let reply = app.operator.post("/v3/auth/tokens", &of_account).await;
    let token = reply.headers["x-subject-token"].to_str().unwrap();
    app.operator.with_token(Some(token)).get(&path).await.ok();
    // Without a scope there is no role.
    let unscoped = json!({"auth": {"identity": {"methods": ["password"], "password": {"user": user}},
        "scope": "unscoped"}});
    let reply = app.operator.post("/v3/auth/tokens", &unscoped).await;
    let token = reply.headers["x-subject-token"].to_str().unwrap();
    let reply = app.operator.with_token(Some(token)).get(&path).await;
    assert_eq!(reply.refused(), (403, "0004"));
}

#[tokio::test]
async fn nothing_else_is_there() {
    let app = TestApp::start().await;
    for (method, path, expected) in [
        ("GET", "/admin", (404, "0005")),
        ("GET", "/admin/v1", (404, "0005")),
        ("GET", "/admin/v1/x", (404, "0005")),
        ("GET", "/admin/v1/projects/x/quotas", (400, "0014")),
        (
            "DELETE",
            "/admin/v1/projects/6e9dfd51d1124e8d8498dce894923a0d/quotas",
            (405, "0002"),
        ),
    ] {
        let reply = app.operator.send(method, path, None).await;
        assert_eq!(reply.refused(), expected, "{method} {path}");
    }
}
