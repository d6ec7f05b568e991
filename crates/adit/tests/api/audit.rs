//! What is recorded of attempts to change something, and what is not.

use std::{
    fs,
    net::SocketAddr,
    path::PathBuf,
    pin::Pin,
    task::{Context, Poll},
};

use adit_server::edge::Peer;
use axum::{
    body::{Body, Bytes, HttpBody},
    http::Request,
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::app::{Client, DEMO_PROJECT, ENDPOINTS, NOBODY, Reply, SERVICES, TestApp, service_body};

/// A region whose attempts are recorded.
struct Recorded {
    app: TestApp,
    path: PathBuf,
    _folder: TempDir,
}

impl Recorded {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.jsonl");
        Self {
            app: TestApp::builder().audit(&path).start().await,
            path,
            _folder: folder,
        }
    }

    /// Stops the region; what was recorded since the users logged in.
    async fn stop(self) -> (Vec<Value>, String) {
        self.app.running.stop().await.unwrap();
        let text = fs::read_to_string(&self.path).unwrap();
        let records = text
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap());
        let mut records: Vec<Value> = records.collect();
        // The users of a test's region log in first.
        for record in records.drain(..4) {
            assert_eq!(record["action"], "authenticate", "{record}");
        }
        (records, text)
    }
}

/// What most tests look at in a record.
fn gist(record: &Value) -> (&str, &str, &str, &str, &str, &str) {
    let text = |pointer: &str| record.pointer(pointer).and_then(Value::as_str).unwrap_or("-");
    (
        text("/action"),
        text("/target/typeURI"),
        text("/outcome"),
        text("/reason/reasonCode"),
        text("/reason/errorCode"),
        text("/initiator/name"),
    )
}

#[tokio::test]
async fn a_record_says_who_changed_what_from_where_and_what_came_of_it() {
    let recorded = Recorded::start().await;
    let demo = &recorded.app.demo;
    let request = demo
        .request("POST", SERVICES)
        .header("user-agent", "a client")
        .header("x-request-id", "request-1");
    let mut request = request.body(Body::from(service_body(80).to_string())).unwrap();
    let peer: SocketAddr = "192.0.2.7:4711".parse().unwrap();
    request.extensions_mut().insert(Peer(peer));
    let id = demo.send_raw(request).await.ok()["id"].take();
    let (records, _) = recorded.stop().await;
    assert_eq!(records.len(), 1, "{records:?}");
    let mut record = records.into_iter().next().unwrap();
    assert_eq!(record["target"]["id"], id);
    for (field, length) in [("id", 36), ("eventTime", "2027-01-15T08:00:00.000000Z".len())] {
        assert_eq!(record[field].as_str().unwrap().len(), length, "{record}");
        record[field] = "[changes]".into();
    }
    record["target"]["id"] = "[the service]".into();
    insta::assert_json_snapshot!(record, @r#"
    {
      "action": "create",
      "eventTime": "[changes]",
      "eventType": "activity",
      "id": "[changes]",
      "initiator": {
        "domain": "a3f1c2d4e5b60718293a4b5c6d7e8f90",
        "host": {
          "address": "192.0.2.7",
          "agent": "a client"
        },
        "id": "c7d81b2a3e4f4d5c9b8a7f6e5d4c3b2a",
        "name": "demo",
        "project": "6e9dfd51d1124e8d8498dce894923a0d",
        "typeURI": "service/security/account/user"
      },
      "name": "vpcep:epservices:create",
      "observer": {
        "id": "adit",
        "name": "eu-de",
        "typeURI": "service/network"
      },
      "outcome": "success",
      "reason": {
        "reasonCode": "200",
        "reasonType": "HTTP"
      },
      "requestId": "request-1",
      "requestPath": "/v1/6e9dfd51d1124e8d8498dce894923a0d/vpc-endpoint-services",
      "target": {
        "id": "[the service]",
        "project": "6e9dfd51d1124e8d8498dce894923a0d",
        "typeURI": "service/network/vpc-endpoint-services"
      },
      "typeURI": "http://schemas.dmtf.org/cloud/audit/1.0/event"
    }
    "#);
}

#[tokio::test]
async fn every_attempt_is_recorded_and_nothing_that_only_looks() {
    let recorded = Recorded::start().await;
    let app = &recorded.app;
    let (demo, nobody) = (&app.demo, app.demo.with_token(None));
    let service = demo.service(80, true).await;
    let path = format!("{SERVICES}/{service}");
    demo.put(&path, &json!({"description": "secret-of-the-body"}))
        .await
        .ok();
    demo.post(
        &format!("{path}/permissions/action"),
        &json!({"action": "add", "permissions": ["*"]}),
    )
    .await
    .ok();
    // Refused, in every way there is.
    nobody.post(ENDPOINTS, &json!({})).await.refused();
    app.viewer.delete(&path).await.refused();
    app.other.in_project(DEMO_PROJECT).delete(&path).await.refused();
    demo.delete(&format!("{ENDPOINTS}/{NOBODY}")).await.refused();
    demo.post(SERVICES, &json!([])).await.refused();
    demo.send("PUT", SERVICES, None).await.refused();
    let forged = nobody.request("DELETE", &path).header(
        "authorization",
        "SDK-HMAC-SHA256 Access=DEMOACCESSKEY, SignedHeaders=host;x-sdk-date, Signature=secret-of-the-header",
    );
    demo.send_raw(forged.body(Body::empty()).unwrap()).await.refused();
    app.operator
        .put(
            &format!("/admin/v1/projects/{DEMO_PROJECT}/quotas"),
            &json!({"endpoint": 7}),
        )
        .await
        .ok();
    demo.put(
        &format!("/admin/v1/projects/{DEMO_PROJECT}/quotas"),
        &json!({"endpoint": 8}),
    )
    .await
    .refused();
    // The companions.
    let port = demo.port("4189d3c2-8882-4871-a3c2-d380272eed81").await;
    assert_eq!(demo.delete(&format!("/v2.0/ports/{port}")).await.status, 204);
    assert_eq!(nobody.post("/v1/P/vpcs", &json!({})).await.status, 401);
    let login = json!({"auth": {"identity": {"methods": ["password"], "password": {"user": {
        "name": "demo", "domain": {"name": "demo-domain"}, "password": "secret-wrong"}}}}});
    assert_eq!(nobody.post("/v3/auth/tokens", &login).await.status, 401);
    // What looks, and what is no route.
    demo.get(&path).await.ok();
    demo.send("HEAD", &path, None).await;
    let query = json!({"action": "count", "tags": [{"key": "k", "values": []}]});
    demo.post("endpoint/resource_instances/action", &query).await.ok();
    demo.post("/nowhere", &json!({})).await.refused();
    // The end of a token.
    let token = demo.token.clone().unwrap();
    let end = demo
        .request("DELETE", "/v3/auth/tokens")
        .header("x-subject-token", &token);
    assert_eq!(demo.send_raw(end.body(Body::empty()).unwrap()).await.status, 204);

    let secrets = [token, app.viewer.token.clone().unwrap()];
    let (records, text) = recorded.stop().await;
    let services = "service/network/vpc-endpoint-services";
    let gists: Vec<_> = records.iter().map(gist).collect();
    assert_eq!(
        gists,
        [
            ("create", services, "success", "200", "-", "demo"),
            ("update", services, "success", "200", "-", "demo"),
            (
                "update",
                &format!("{services}/permissions"),
                "success",
                "200",
                "-",
                "demo"
            ),
            (
                "create",
                "service/network/vpc-endpoints",
                "failure",
                "401",
                "EndPoint.0003",
                "-"
            ),
            ("delete", services, "failure", "403", "EndPoint.0004", "viewer"),
            ("delete", services, "failure", "403", "EndPoint.0004", "other"),
            (
                "delete",
                "service/network/vpc-endpoints",
                "failure",
                "404",
                "EndPoint.2006",
                "demo"
            ),
            ("create", services, "failure", "400", "EndPoint.1004", "demo"),
            ("update", services, "failure", "405", "EndPoint.0002", "-"),
            ("delete", services, "failure", "401", "APIGW.0301", "-"),
            (
                "update",
                "service/network/admin/projects/quotas",
                "success",
                "200",
                "-",
                "operator"
            ),
            (
                "update",
                "service/network/admin/projects/quotas",
                "failure",
                "403",
                "EndPoint.0004",
                "demo"
            ),
            ("create", "service/network/ports", "success", "201", "-", "demo"),
            ("delete", "service/network/ports", "success", "204", "-", "demo"),
            ("create", "service/network/vpcs", "failure", "401", "-", "-"),
            (
                "authenticate",
                "service/security/auth/tokens",
                "failure",
                "401",
                "-",
                "-"
            ),
            (
                "revoke",
                "service/security/auth/tokens",
                "success",
                "204",
                "-",
                "demo"
            ),
        ]
    );
    assert_eq!(records[4]["target"]["id"], service.as_str());
    assert_eq!(records[12]["target"]["id"], port.as_str());
    for record in &records {
        assert_eq!(record["eventType"], "activity");
        assert!(record["requestId"].is_string(), "{record}");
        assert!(record["requestPath"].is_string(), "{record}");
    }
    assert!(!text.contains("secret"), "{text}");
    for secret in secrets {
        assert!(!text.contains(&secret), "{text}");
    }
}

#[tokio::test]
async fn a_client_that_goes_away_leaves_its_record() {
    let recorded = Recorded::start().await;
    let demo: &Client = &recorded.app.demo;
    // A body that never ends: the request waits for it, and then nobody waits for the request.
    let endless = Body::new(Endless);
    let request: Request<Body> = demo.request("POST", SERVICES).body(endless).unwrap();
    {
        let mut gone: Pin<Box<dyn Future<Output = Reply>>> = Box::pin(demo.send_raw(request));
        let once = std::future::poll_fn(|cx| Poll::Ready(gone.as_mut().poll(cx).is_ready()));
        assert!(!once.await);
    }
    let (records, _) = recorded.stop().await;
    let gists: Vec<_> = records.iter().map(gist).collect();
    let expected = (
        "create",
        "service/network/vpc-endpoint-services",
        "unknown",
        "-",
        "-",
        "demo",
    );
    assert_eq!(gists, [expected]);
}

/// Bytes that never come.
struct Endless;

impl HttpBody for Endless {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Self::Error>>> {
        Poll::Pending
    }
}
