//! Quotas (spec A.17).

use serde_json::json;

use crate::app::{ENDPOINTS, SERVICES, TestApp, service_body};

#[tokio::test]
async fn both_quotas_endpoints_first_or_the_one_asked_for() {
    let app = TestApp::start().await;
    let service = app.service(80, true).await;
    app.endpoint(&service, "pendingAcceptance").await;
    let services = json!({"type": "endpoint_service", "used": 1, "quota": 20});
    let endpoints = |used: u32| json!({"type": "endpoint", "used": used, "quota": 50});
    let of = |resources| json!({"quotas": {"resources": resources}});
    for (query, expected) in [
        ("", of(json!([endpoints(0), services]))),
        ("?type=", of(json!([endpoints(0), services]))),
        ("?type=endpoint", of(json!([endpoints(0)]))),
        ("?type=endpoint_service", of(json!([services]))),
    ] {
        assert_eq!(
            app.demo.get(&format!("quotas{query}")).await.ok(),
            expected,
            "{query}"
        );
    }
    let theirs = app.other.get("quotas?type=endpoint").await.ok();
    assert_eq!(theirs, of(json!([endpoints(1)])));
    for bad in ["vpc", "Endpoint", "endpoints"] {
        let reply = app.demo.get(&format!("quotas?type={bad}")).await;
        assert_eq!(reply.refused(), (400, "3070"), "{bad}");
    }
}

#[tokio::test]
async fn whatever_is_not_gone_counts() {
    let app = TestApp::builder().quotas(2, 2).start().await;
    let service = app.service(80, true).await;
    let rejected = app.endpoint(&service, "pendingAcceptance").await;
    app.decide(&service, "reject", &rejected).await.ok();
    let mut body = service_body(81);
    body["tcp_proxy"] = json!("open");
    let failed = app.demo.post(SERVICES, &body).await.ok()["id"].take();
    let path = format!("{SERVICES}/{}", failed.as_str().unwrap());
    app.demo.until(&path, |r| r.body["status"] == "failed").await;
    assert_eq!((app.demo.used().await, app.other.used().await), ((0, 2), (1, 0)));
    app.demo.delete(&path).await.no_content();
    app.other
        .delete(&format!("{ENDPOINTS}/{rejected}"))
        .await
        .no_content();
    assert_eq!((app.demo.used().await, app.other.used().await), ((0, 1), (0, 0)));
}
