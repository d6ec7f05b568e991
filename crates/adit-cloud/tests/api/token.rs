//! How long a token is good: its time, revocation, and what the region file says of its user.

use std::{sync::Arc, time::Duration};

use adit_cloud::Region;
use adit_store::{RedbStore, Store};
use axum::{body::Body, http::Request};
use serde_json::{Value, json};

use crate::stage::{Client, Reply, Stage, answer};

/// How long a test waits for what has to come.
const PATIENCE: Duration = Duration::from_secs(20);

/// The embedded region with something else in its file.
fn region(from: &str, to: &str) -> Region {
    let text = Region::embedded_text();
    assert!(text.contains(from), "{from}");
    Region::parse(&text.replacen(from, to, 1)).unwrap()
}

/// Speaks of a token, with another.
async fn about(client: &Client, method: &str, subject: Option<&str>) -> Reply {
    let mut request = Request::builder().method(method).uri("/v3/auth/tokens");
    for (name, token) in [
        ("x-auth-token", client.token.as_deref()),
        ("x-subject-token", subject),
    ] {
        if let Some(token) = token {
            request = request.header(name, token);
        }
    }
    answer(&client.router, request.body(Body::empty()).unwrap()).await
}

/// A token got by a token.
async fn another(client: &Client) -> Client {
    let scope = json!({"project": {"id": client.project}});
    let identity = json!({"methods": ["token"], "token": {"id": client.token}});
    let body = json!({"auth": {"identity": identity, "scope": scope}});
    let reply = client.post("/v3/auth/tokens", body).await;
    assert_eq!(reply.status, 201, "{}", reply.body);
    Client {
        token: Some(reply.headers["x-subject-token"].to_str().unwrap().to_owned()),
        ..client.clone()
    }
}

#[tokio::test]
async fn a_region_says_how_long_its_tokens_are_good() {
    let store: Arc<dyn Store> = Arc::new(RedbStore::ephemeral().unwrap());
    let region = region("token_lifetime_s = 86400", "token_lifetime_s = 60");
    let stage = Stage::on(store, region).await;
    let demo = stage.demo().await;
    demo.get("/v1/P/vpcs").await.expect(200);
    stage.advance(59);
    demo.get("/v1/P/vpcs").await.expect(200);
    about(&demo, "HEAD", demo.token.as_deref()).await.expect(200);
    stage.advance(1);
    let reply = demo.get("/v1/P/vpcs").await.expect(401);
    let message = reply["error"]["message"].as_str().unwrap();
    assert!(message.contains("expired"), "{message}");
    assert!(Region::parse(&Region::embedded_text().replacen("= 86400", "= 0", 1)).is_err());
}

#[tokio::test]
async fn a_revoked_token_is_worth_nothing_and_neither_is_what_was_got_by_it() {
    let store: Arc<dyn Store> = Arc::new(RedbStore::ephemeral().unwrap());
    let stage = Stage::on(Arc::clone(&store), Region::embedded()).await;
    let (first, second) = (stage.demo().await, stage.demo().await);
    let child = another(&first).await;
    let audit_ids = |reply: Reply| reply.expect(200)["token"]["audit_ids"].take();
    let chain = audit_ids(about(&child, "GET", child.token.as_deref()).await);
    let own = audit_ids(about(&first, "GET", first.token.as_deref()).await);
    assert_eq!((chain.as_array().unwrap().len(), &chain[1]), (2, &own[0]));
    for client in [&first, &second, &child] {
        client.get("/v1/P/vpcs").await.expect(200);
    }
    // One that was got by another ends alone.
    let last = another(&second).await;
    assert_eq!(
        about(&second, "DELETE", last.token.as_deref()).await.expect(204),
        Value::Null
    );
    last.get("/v1/P/vpcs").await.expect(401);
    second.get("/v1/P/vpcs").await.expect(200);
    // The first takes them along, also when it ends itself.
    about(&first, "DELETE", first.token.as_deref()).await.expect(204);
    for client in [&first, &child] {
        let reply = client.get("/v1/P/vpcs").await.expect(401);
        assert!(
            reply["error"]["message"].as_str().unwrap().contains("revoked"),
            "{reply}"
        );
        let scope = json!({"project": {"id": client.project}});
        let identity = json!({"methods": ["token"], "token": {"id": client.token}});
        let body = json!({"auth": {"identity": identity, "scope": scope}});
        stage.anybody().post("/v3/auth/tokens", body).await.expect(401);
        for method in ["GET", "HEAD", "DELETE"] {
            about(&second, method, client.token.as_deref()).await.expect(404);
        }
    }
    // On another replica too, and after a restart.
    let replica = Stage::on(store, Region::embedded()).await;
    for (client, status) in [(&first, 401), (&child, 401), (&second, 200)] {
        let client = Client {
            router: replica.router.clone(),
            ..client.clone()
        };
        client.get("/v1/P/vpcs").await.expect(status);
    }
    about(&second, "DELETE", second.token.as_deref())
        .await
        .expect(204);
    let there = Client {
        router: replica.router.clone(),
        ..second
    };
    let gone = async {
        while there.get("/v1/P/vpcs").await.status != 401 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.unwrap();
}

#[tokio::test]
async fn who_may_speak_of_a_token() {
    let stage = Stage::new().await;
    let (demo, other) = (stage.demo().await, stage.other().await);
    let operator = stage.login("operator", "eu-de_operator").await;
    for method in ["GET", "HEAD", "DELETE"] {
        about(&other, method, demo.token.as_deref()).await.expect(403);
        about(&demo, method, None).await.expect(400);
        about(&demo, method, Some("x")).await.expect(404);
        about(&stage.anybody(), method, demo.token.as_deref())
            .await
            .expect(401);
    }
    let head = about(&demo, "HEAD", demo.token.as_deref()).await;
    assert_eq!(head.headers["x-subject-token"], demo.token.clone().unwrap());
    assert_eq!(head.expect(200), Value::Null);
    about(&operator, "GET", demo.token.as_deref()).await.expect(200);
    about(&operator, "DELETE", demo.token.as_deref())
        .await
        .expect(204);
    demo.get("/v1/P/vpcs").await.expect(401);
}

#[tokio::test]
async fn revocations_are_kept_no_longer_than_the_tokens() {
    let stage = Stage::new().await;
    let kept = || stage.cache.read().others("identity/revoked/").count();
    for _ in 0..40 {
        let client = stage.demo().await;
        about(&client, "DELETE", client.token.as_deref())
            .await
            .expect(204);
    }
    assert_eq!(kept(), 40);
    stage.advance(24 * 3600);
    for left in [40 - 32 + 1, 2] {
        let client = stage.demo().await;
        about(&client, "DELETE", client.token.as_deref())
            .await
            .expect(204);
        assert_eq!(kept(), left);
    }
}

#[tokio::test]
async fn a_token_holds_what_the_region_file_says_now() {
    let store: Arc<dyn Store> = Arc::new(RedbStore::ephemeral().unwrap());
    let demo = Stage::on(Arc::clone(&store), Region::embedded())
        .await
        .demo()
        .await;
    let at = async |region: Region, status: u16, may_write: u16| {
        let stage = Stage::on(Arc::clone(&store), region).await;
        let client = Client {
            router: stage.router.clone(),
            ..demo.clone()
        };
        client.get("/v1/P/vpcs").await.expect(status);
        client.post("/v1/P/vpcs", json!({})).await.expect(may_write);
    };
    let roles = r#""eu-de_demo" = ["VPCEndpoint Administrator", "te_admin"], "#;
    at(Region::embedded(), 200, 400).await;
    at(region("\"demo-password\"", "\"changed\""), 401, 401).await;
    at(region(roles, ""), 401, 401).await;
    at(
        region(roles, r#""eu-de_demo" = ["VPCEndpoint ReadOnlyAccess"], "#),
        200,
        403,
    )
    .await;
    at(
        region(
            "c7d81b2a3e4f4d5c9b8a7f6e5d4c3b2a",
            "00000000000000000000000000000000",
        ),
        401,
        401,
    )
    .await;
    at(Region::embedded(), 200, 400).await;
}
