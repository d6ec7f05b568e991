//! Tokens and Keystone's API.

use axum::{body::Body, http::Request};
use serde_json::{Value, json};

use crate::stage::{Client, Stage, answer};

fn password(user: &str, password: &str, domain: Value, scope: Value) -> Value {
    json!({"auth": {
        "identity": {"methods": ["password"],
            "password": {"user": {"name": user, "password": password, "domain": domain}}},
        "scope": scope,
    }})
}

#[tokio::test]
async fn a_password_gives_a_token_with_the_catalog() {
    let stage = Stage::new().await;
    let domain = json!({"name": "demo-domain"});
    let scope = json!({"project": {"name": "eu-de_demo", "domain": domain}});
    let reply = stage
        .anybody()
        .post(
            "/v3/auth/tokens",
            password("demo", "demo-password", domain, scope),
        )
        .await;
    assert!(!reply.headers["x-subject-token"].is_empty());
    let body = reply.expect(201);
    insta::assert_json_snapshot!(body, {".token.audit_ids" => "[audit]"}, @r#"
    {
      "token": {
        "audit_ids": "[audit]",
        "catalog": [
          {
            "endpoints": [
              {
                "id": "cae98fff5bfc5650a991ae8139e20950",
                "interface": "public",
                "region": "eu-de",
                "region_id": "eu-de",
                "url": "http://127.0.0.1:7117/v3"
              }
            ],
            "id": "9ff25f609e14590bb39cccbc29d56699",
            "name": "keystone",
            "type": "identity"
          },
          {
            "endpoints": [
              {
                "id": "ded48fe041595d14ae5bc89239e2f1de",
                "interface": "public",
                "region": "eu-de",
                "region_id": "eu-de",
                "url": "http://127.0.0.1:7117"
              }
            ],
            "id": "3635ec4c66d9513784421f16fd505a96",
            "name": "neutron",
            "type": "network"
          },
          {
            "endpoints": [
              {
                "id": "6cd3d35807b55af38109084818495147",
                "interface": "public",
                "region": "eu-de",
                "region_id": "eu-de",
                "url": "http://127.0.0.1:7117/v1/6e9dfd51d1124e8d8498dce894923a0d"
              }
            ],
            "id": "fa088f3197e05f8ba513d3cbb423f309",
            "name": "vpc",
            "type": "vpc"
          },
          {
            "endpoints": [
              {
                "id": "220e128f32185d9e8e3ea3a186fc969c",
                "interface": "public",
                "region": "eu-de",
                "region_id": "eu-de",
                "url": "http://127.0.0.1:7117/v1/6e9dfd51d1124e8d8498dce894923a0d"
              }
            ],
            "id": "6a4f0cc76ea950918aea5b2d0f4d2ee1",
            "name": "vpcep",
            "type": "vpcep"
          },
          {
            "endpoints": [
              {
                "id": "c8e2e1f0e8685aa7a230e1c27de62285",
                "interface": "public",
                "region": "eu-de",
                "region_id": "eu-de",
                "url": "http://127.0.0.1:7117/v1.0"
              }
            ],
            "id": "519265dcfd6452c0a777f712c19a4928",
            "name": "elb",
            "type": "elb"
          },
          {
            "endpoints": [
              {
                "id": "5c38f14436d35c85adf00886718edd6b",
                "interface": "public",
                "region": "eu-de",
                "region_id": "eu-de",
                "url": "http://127.0.0.1:7117/v3/6e9dfd51d1124e8d8498dce894923a0d"
              }
            ],
            "id": "1c49586fda21523a9966fe3fe3199343",
            "name": "elbv3",
            "type": "elbv3"
          }
        ],
        "expires_at": "2027-01-16T08:00:00Z",
        "is_domain": false,
        "issued_at": "2027-01-15T08:00:00Z",
        "methods": [
          "password"
        ],
        "project": {
          "domain": {
            "id": "a3f1c2d4e5b60718293a4b5c6d7e8f90",
            "name": "demo-domain"
          },
          "id": "6e9dfd51d1124e8d8498dce894923a0d",
          "name": "eu-de_demo"
        },
        "roles": [
          {
            "id": "8454eb10f0d75579ae30327704b25b2b",
            "name": "VPCEndpoint Administrator"
          },
          {
            "id": "e4cd145e7b3756d7a8fd6ffbc0afc69b",
            "name": "te_admin"
          }
        ],
        "user": {
          "domain": {
            "id": "a3f1c2d4e5b60718293a4b5c6d7e8f90",
            "name": "demo-domain"
          },
          "id": "c7d81b2a3e4f4d5c9b8a7f6e5d4c3b2a",
          "name": "demo",
          "password_expires_at": null
        }
      }
    }
    "#);
}

#[tokio::test]
async fn names_and_ids_and_every_scope_are_understood() {
    let stage = Stage::new().await;
    let anybody = stage.anybody();
    let (project, domain) = (
        "6e9dfd51d1124e8d8498dce894923a0d",
        "a3f1c2d4e5b60718293a4b5c6d7e8f90",
    );
    for (user, domain_part, scope, status, expected) in [
        (
            json!({"name": "demo"}),
            json!({"id": domain}),
            json!({"project": {"id": project}}),
            201,
            "project",
        ),
        (
            json!({"id": "c7d81b2a3e4f4d5c9b8a7f6e5d4c3b2a"}),
            json!(null),
            json!({"domain": {"id": domain}}),
            201,
            "domain",
        ),
        (
            json!({"name": "demo"}),
            json!({"name": "demo-domain"}),
            json!({"domain": {"name": "demo-domain"}}),
            201,
            "domain",
        ),
        (
            json!({"name": "demo"}),
            json!({"name": "demo-domain"}),
            json!("unscoped"),
            201,
            "",
        ),
        (
            json!({"name": "demo"}),
            json!({"name": "demo-domain"}),
            json!(null),
            201,
            "",
        ),
        // A name says nothing without its domain.
        (json!({"name": "demo"}), json!(null), json!(null), 401, ""),
        (
            json!({"name": "demo"}),
            json!({"name": "other-domain"}),
            json!(null),
            401,
            "",
        ),
        // Somebody else's project, and a project where one has no role.
        (
            json!({"name": "other"}),
            json!({"name": "other-domain"}),
            json!({"project": {"id": project}}),
            401,
            "",
        ),
        (
            json!({"name": "viewer"}),
            json!({"name": "demo-domain"}),
            json!({"project": {"name": "eu-de", "domain": {"name": "demo-domain"}}}),
            401,
            "",
        ),
        (
            json!({"name": "demo"}),
            json!({"id": domain}),
            json!({"project": {"id": "no such"}}),
            401,
            "",
        ),
        (
            json!({"name": "demo"}),
            json!({"id": domain}),
            json!({"project": 7}),
            400,
            "",
        ),
        (
            json!({"name": "demo"}),
            json!({"id": domain}),
            json!({"planet": {}}),
            400,
            "",
        ),
    ] {
        let mut user = user;
        let name = user["name"].as_str().unwrap_or("demo").to_owned();
        user["password"] = json!(format!("{name}-password"));
        user["domain"] = domain_part;
        let body = json!({"auth": {"identity": {"methods": ["password"], "password": {"user": user}}, "scope": scope}});
        let reply = anybody.post("/v3/auth/tokens", body.clone()).await.expect(status);
        if !expected.is_empty() {
            assert!(reply["token"][expected].is_object(), "{body}: {reply}");
        }
        if status == 401 {
            assert_eq!(reply["error"]["code"], 401);
            assert_eq!(reply["error"]["title"], "Unauthorized");
        }
    }
}

#[tokio::test]
async fn wrong_credentials_are_refused_alike() {
    let stage = Stage::new().await;
    let domain = json!({"name": "demo-domain"});
    let wrong = stage
        .anybody()
        .post(
            "/v3/auth/tokens",
            password("demo", "x", domain.clone(), json!(null)),
        )
        .await;
    let unknown = stage
        .anybody()
        .post("/v3/auth/tokens", password("nobody", "x", domain, json!(null)))
        .await;
    assert_eq!(wrong.expect(401), unknown.expect(401));
    for body in [
        "",
        "{",
        "[]",
        "{\"auth\": 1}",
        "{\"auth\": {\"identity\": {\"methods\": [\"totp\"]}}}",
    ] {
        let reply = stage
            .anybody()
            .send("POST", "/v3/auth/tokens", Some(body.into()))
            .await;
        assert_eq!(reply.expect(400)["error"]["title"], "Bad Request");
    }
}

#[tokio::test]
async fn a_token_gives_another_token_that_lasts_no_longer() {
    let stage = Stage::new().await;
    let demo = stage.demo().await;
    let shown = |token: &str| {
        let request = Request::get("/v3/auth/tokens")
            .header("x-auth-token", token)
            .header("x-subject-token", token);
        (stage.router.clone(), request.body(Body::empty()).unwrap())
    };
    let (router, request) = shown(demo.token.as_ref().unwrap());
    let first = answer(&router, request).await;
    assert_eq!(first.headers["x-subject-token"], demo.token.clone().unwrap());
    let first = first.expect(200);
    stage.advance(3600);
    let scope = json!({"project": {"id": "3d0c6b8a9f1e4c2b8a7d5e6f4c3b2a19"}});
    let body =
        json!({"auth": {"identity": {"methods": ["token"], "token": {"id": demo.token}}, "scope": scope}});
    let second = stage.anybody().post("/v3/auth/tokens", body).await.expect(201);
    assert_eq!(second["token"]["project"]["name"], "eu-de");
    assert_eq!(second["token"]["expires_at"], first["token"]["expires_at"]);
    assert_ne!(second["token"]["issued_at"], first["token"]["issued_at"]);
}

#[tokio::test]
async fn a_token_lapses_and_cannot_be_changed() {
    let stage = Stage::new().await;
    let demo = stage.demo().await;
    let token = demo.token.clone().unwrap();
    demo.get("/v1/P/vpcs").await.expect(200);
    for bad in [
        "",
        "x",
        "a.b",
        &token[1..],
        &token[..token.len() - 1],
        &format!("{token}A"),
    ] {
        let client = Client {
            token: Some(bad.to_owned()),
            ..demo.clone()
        };
        let reply = client.get("/v1/P/vpcs").await.expect(401);
        assert_eq!(reply["error"]["title"], "Unauthorized", "{bad}");
    }
    // Another user in the payload, under the old signature.
    let (payload, mac) = token.split_once('.').unwrap();
    let last = if payload.ends_with('A') { 'B' } else { 'A' };
    let forged = format!("{}{last}.{mac}", &payload[..payload.len() - 1]);
    Client {
        token: Some(forged),
        ..demo.clone()
    }
    .get("/v1/P/vpcs")
    .await
    .expect(401);
    // Another region's token.
    let stranger = Stage::new().await.demo().await;
    Client {
        token: stranger.token,
        ..demo.clone()
    }
    .get("/v1/P/vpcs")
    .await
    .expect(401);
    Client {
        token: None,
        ..demo.clone()
    }
    .get("/v1/P/vpcs")
    .await
    .expect(401);
    stage.advance(24 * 3600 - 1);
    demo.get("/v1/P/vpcs").await.expect(200);
    stage.advance(1);
    demo.get("/v1/P/vpcs").await.expect(401);
}

#[tokio::test]
async fn every_route_wants_a_token_of_a_project() {
    let stage = Stage::new().await;
    let domain = json!({"name": "demo-domain"});
    let unscoped = stage
        .anybody()
        .post(
            "/v3/auth/tokens",
            password("demo", "demo-password", domain, json!(null)),
        )
        .await;
    let unscoped = unscoped.headers["x-subject-token"].to_str().unwrap().to_owned();
    let demo = stage.demo().await;
    let viewer = stage.login("viewer", "eu-de_demo").await;
    let foreign = Client {
        project: "7fae0e62e2235f9e95a9edf9a5a34b1e".to_owned(),
        ..demo.clone()
    };
    for path in [
        "/v1/P/vpcs",
        "/v1/P/subnets",
        "/v1/P/routetables",
        "/v2.0/extensions",
        "/v2.0/networks",
        "/v2.0/subnets",
        "/v2.0/ports",
        "/v2.0/routers",
        "/v2.0/lbaas/loadbalancers",
        "/v3/P/elb/loadbalancers",
        "/v3/P/elb/availability-zones",
    ] {
        Client {
            token: None,
            ..demo.clone()
        }
        .get(path)
        .await
        .expect(401);
        Client {
            token: Some(unscoped.clone()),
            ..demo.clone()
        }
        .get(path)
        .await
        .expect(401);
        demo.get(path).await.expect(200);
        viewer.get(path).await.expect(200);
        if path.contains("/P/") {
            foreign.get(path).await.expect(403);
            Client {
                project: "x".to_owned(),
                ..demo.clone()
            }
            .get(path)
            .await
            .expect(400);
        }
        if !path.ends_with("zones") && !path.ends_with("extensions") {
            viewer.post(path, json!({})).await.expect(403);
            demo.post(path, json!({})).await.expect(400);
        }
    }
}

#[tokio::test]
async fn projects_and_domains_are_the_caller_s_own() {
    let stage = Stage::new().await;
    let demo = stage.demo().await;
    let names = |body: &Value, of: &str| -> Vec<String> {
        body[of]
            .as_array()
            .unwrap()
            .iter()
            .map(|p| p["name"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(
        names(&demo.get("/v3/projects").await.expect(200), "projects"),
        ["eu-de_demo", "eu-de"]
    );
    let one = demo.get("/v3/projects?name=eu-de").await.expect(200);
    assert_eq!(names(&one, "projects"), ["eu-de"]);
    assert_eq!(one["links"]["next"], Value::Null);
    assert_eq!(
        names(
            &demo.get("/v3/auth/domains?name=demo-domain").await.expect(200),
            "domains"
        ),
        ["demo-domain"]
    );
    assert_eq!(
        names(&demo.get("/v3/domains?name=x").await.expect(200), "domains"),
        Vec::<String>::new()
    );
    assert_eq!(
        names(&demo.get("/v3/auth/projects").await.expect(200), "projects").len(),
        2
    );
    let viewer = stage.login("viewer", "eu-de_demo").await;
    assert_eq!(
        names(&viewer.get("/v3/auth/projects").await.expect(200), "projects"),
        ["eu-de_demo"]
    );
    let own = "/v3/users/c7d81b2a3e4f4d5c9b8a7f6e5d4c3b2a/projects";
    assert_eq!(names(&demo.get(own).await.expect(200), "projects").len(), 2);
    stage.other().await.get(own).await.expect(404);
    let project = demo
        .get("/v3/projects/6e9dfd51d1124e8d8498dce894923a0d")
        .await
        .expect(200);
    assert_eq!(project["project"]["name"], "eu-de_demo");
    demo.get("/v3/projects/7fae0e62e2235f9e95a9edf9a5a34b1e")
        .await
        .expect(404);
    let catalog = demo.get("/v3/auth/catalog").await.expect(200);
    assert_eq!(catalog["catalog"].as_array().unwrap().len(), 6);
    let version = stage.anybody().get("/v3").await.expect(200);
    assert_eq!(version["version"]["id"], "v3.14");
    assert_eq!(
        version["version"]["links"][0]["href"],
        "http://127.0.0.1:7117/v3/"
    );
}

#[tokio::test]
async fn no_secret_is_shown() {
    let stage = Stage::new().await;
    let shown = format!("{:?} {:?}", stage.cloud, stage.cloud.region());
    for secret in ["-password", "DEMOSECRETKEY"] {
        assert!(!shown.contains(secret), "{shown}");
    }
}
