//! Asking why an endpoint does not pass traffic: what the API says to good and bad questions. What gateways find is in
//! `tests/diagnose.rs`.

use adit_model::diagnosis::StepName;
use serde_json::{Value, json};

use crate::app::{NOBODY, TestApp, text};

fn path(id: &str) -> String {
    format!("/admin/v1/endpoints/{id}/diagnosis")
}

#[tokio::test]
async fn the_first_step_that_fails_is_the_last() {
    let app = TestApp::start().await;
    let service = app.service(80, true).await;
    let endpoint = app.endpoint(&service, "pendingAcceptance").await;
    let reply = app.operator.post(&path(&endpoint), &json!({})).await.ok();
    let steps = reply["steps"].as_array().unwrap();
    let names: Vec<_> = steps.iter().map(|step| text(&step["step"])).collect();
    assert_eq!(names, ["state", "service", "account", "switch", "acceptance"]);
    let command = format!("`openstack vpcep service connection set {service} {endpoint} --accept`");
    assert!(text(&steps[4]["remedy"]).contains(&command), "{reply}");
    assert_eq!(reply["healthy"], false);
    app.decide(&service, "receive", &endpoint).await.ok();
    let reply = app
        .operator
        .post(&path(&endpoint), &json!({"client": "10.0.0.1"}))
        .await
        .ok();
    // This region has no gateway that could look.
    let last = reply["steps"].as_array().unwrap().last().unwrap();
    assert_eq!(
        (&last["step"], &last["verdict"]),
        (&json!("gateway"), &json!("failed"))
    );
    assert_eq!(reply["endpoint_id"], endpoint);
}

#[tokio::test]
async fn bad_questions_are_refused() {
    let app = TestApp::start().await;
    let service = app.service(80, false).await;
    let endpoint = app.endpoint(&service, "accepted").await;
    for (id, body, expected) in [
        (endpoint.as_str(), json!([]), (400, "1004")),
        (&endpoint, json!({"port": 0}), (400, "0002")),
        (&endpoint, json!({"port": "80"}), (400, "0002")),
        (&endpoint, json!({"port": 65_536}), (400, "0002")),
        (&endpoint, json!({"client": "10.0.0.256"}), (400, "0002")),
        (&endpoint, json!({"client": {}}), (400, "0002")),
        (NOBODY, json!({}), (404, "2006")),
        ("x", json!({}), (400, "2017")),
    ] {
        let reply = app.operator.post(&path(id), &body).await;
        assert_eq!(reply.refused(), expected, "{id} {body}");
    }
    let reply = app.demo.post(&path(&endpoint), &json!({})).await;
    assert_eq!(reply.refused(), (403, "0004"));
}

#[test]
fn the_document_has_every_step() {
    let document = include_str!("../snapshots/openapi.snap");
    let document = document.splitn(3, "---\n").nth(2).unwrap();
    let document: Value = serde_json::from_str(document).unwrap();
    let words: Vec<_> = StepName::ALL.iter().map(|name| name.as_str()).collect();
    let step = &document["components"]["schemas"]["DiagnosisStep"]["properties"]["step"];
    assert_eq!(step["enum"], json!(words));
}
