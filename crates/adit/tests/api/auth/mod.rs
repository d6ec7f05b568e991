//! Who may call what: every operation of the OpenAPI document with every kind of credentials.
//!
//! The document that is committed (`openapi` holds that it is the one that is served) is asked which operations there are,
//! and `adit-server`'s `iam` which action each is: a new one is tested here without a word, and fails where it is missing in
//! that table. [`hint`] tests that what is not one's own does not exist; an operation on something that exists needs a
//! sound body in [`body`] for that.

mod cast;
mod hint;
mod sign;

use std::collections::BTreeSet;

use adit_server::iam;
use axum::{body::Body, http::Method};
use serde_json::{Value, json};

use self::{
    cast::{Cast, Member},
    sign::Key,
};
use crate::app::{Client, DEMO_PROJECT, ENDPOINTS, NOBODY, Reply, SERVICES, TestApp, service_body};

/// What anybody may call.
const OPEN: [&str; 3] = ["/", "/v1", "/v2"];

/// An operation of the document.
pub(crate) struct Operation {
    pub(crate) method: String,
    /// The path's pattern.
    pub(crate) pattern: String,
    /// A sound body; nothing, for operations without one.
    pub(crate) body: Option<Value>,
    pub(crate) who: Who,
}

/// Who may call an operation.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    Anybody,
    /// Whoever may do this, in the project of the path.
    Holders(&'static str),
    /// Whoever has the operator's role, in whatever scope.
    Operators,
}

/// The operations of the document: method and pattern.
pub(crate) fn documented(document: &Value) -> BTreeSet<(String, String)> {
    let paths = document["paths"].as_object().unwrap();
    let operations = paths.iter().flat_map(|(pattern, item)| {
        let methods = item.as_object().unwrap().keys();
        methods.map(move |method| (method.to_uppercase(), pattern.clone()))
    });
    operations.collect()
}

/// Every operation, with who may call it.
pub(crate) fn operations() -> Vec<Operation> {
    let document = include_str!("../snapshots/openapi.snap");
    let document = document.splitn(3, "---\n").nth(2).unwrap();
    let document: Value = serde_json::from_str(document).unwrap();
    let operation = |(method, pattern): (String, String)| {
        let who = if OPEN.contains(&pattern.as_str()) {
            Who::Anybody
        } else if pattern.starts_with("/admin/v1/") {
            Who::Operators
        } else {
            let action = iam::action(&method.parse::<Method>().unwrap(), &pattern);
            Who::Holders(
                action.unwrap_or_else(|| panic!("{method} {pattern} is missing in the table of iam")),
            )
        };
        let sends = ["POST", "PUT"].contains(&method.as_str());
        Operation {
            body: sends.then(|| body(&method, &pattern)),
            method,
            pattern,
            who,
        }
    };
    documented(&document).into_iter().map(operation).collect()
}

/// A sound body for an operation, on things that nobody has; an empty object where none is written here.
fn body(method: &str, pattern: &str) -> Value {
    let short = pattern
        .split_once("/{project_id}/")
        .map_or(pattern, |(_, short)| short);
    let statement = json!({"Effect": "Allow", "Action": ["obs:*:*"], "Resource": ["obs:*:*:*:*"]});
    match (method, short) {
        ("POST", "vpc-endpoint-services") => service_body(80),
        ("PUT", "vpc-endpoint-services/{vpc_endpoint_service_id}") => json!({"description": "d"}),
        ("PUT", "vpc-endpoint-services/{vpc_endpoint_service_id}/name") => {
            json!({"endpoint_service_name": "n"})
        }
        ("POST", "vpc-endpoint-services/{vpc_endpoint_service_id}/connections/action") => {
            json!({"action": "receive", "endpoints": [NOBODY]})
        }
        ("PUT", "vpc-endpoint-services/{vpc_endpoint_service_id}/connections/description") => {
            json!({"connections": [{"id": NOBODY, "description": "d"}]})
        }
        ("POST", "vpc-endpoint-services/{vpc_endpoint_service_id}/permissions/action") => {
            json!({"action": "add", "permissions": ["*"]})
        }
        ("POST", "vpc-endpoint-services/{vpc_endpoint_service_id}/permissions/batch-create") => {
            json!({"permissions": [{"permission": "*", "description": "d"}]})
        }
        ("POST", "vpc-endpoint-services/{vpc_endpoint_service_id}/permissions/batch-delete") => {
            json!({"permissions": [{"id": NOBODY}]})
        }
        ("PUT", "vpc-endpoint-services/{vpc_endpoint_service_id}/permissions/{permission_id}") => {
            json!({"permission": {"description": "d"}})
        }
        ("POST", "vpc-endpoint-services/{vpc_endpoint_service_id}/add-server-resources") => {
            json!({"server_resources": [{"resource_id": NOBODY}]})
        }
        ("POST", "vpc-endpoint-services/{vpc_endpoint_service_id}/upgrade") => {
            json!({"action": "upgrade"})
        }
        ("POST", "vpc-endpoints/{vpc_endpoint_id}/upgrade") => json!({"action": "start"}),
        ("POST", "vpc-endpoints") => {
            json!({"endpoint_service_id": NOBODY, "vpc_id": NOBODY, "subnet_id": NOBODY})
        }
        ("PUT", "vpc-endpoints/{vpc_endpoint_id}") => {
            json!({"whitelist": ["10.0.0.0/8"], "enable_whitelist": true})
        }
        ("PUT", "vpc-endpoints/{vpc_endpoint_id}/routetables") => json!({"routetables": [NOBODY]}),
        ("PUT", "vpc-endpoints/{vpc_endpoint_id}/policy") => json!({"policy_statement": [statement]}),
        ("POST", "{resource_type}/resource_instances/action") => json!({"action": "count"}),
        ("POST", "{resource_type}/{resource_id}/tags/action") => {
            json!({"action": "create", "tags": [{"key": "k", "value": "v"}]})
        }
        ("PUT", "quotas") => json!({"endpoint": 1}),
        _ => json!({}),
    }
}

impl Operation {
    /// Its path in a project, with what is put for the other parameters.
    fn path(&self, project: &str, put: impl Fn(&str) -> String) -> String {
        let parts = self.pattern.split('/').map(|part| {
            match part.strip_prefix('{').and_then(|part| part.strip_suffix('}')) {
                Some("project_id") => project.to_owned(),
                Some(name) => put(name),
                None => part.to_owned(),
            }
        });
        parts.collect::<Vec<_>>().join("/")
    }

    /// Its path in a project, on resources that nobody has.
    fn path_to_nobody(&self, project: &str) -> String {
        self.path(project, |name| match name {
            "resource_type" => "endpoint_service".to_owned(),
            _ => NOBODY.to_owned(),
        })
    }

    /// Calls it in a project, on resources that nobody has, with a body that would change nothing.
    async fn call(&self, client: &Client, project: &str) -> Reply {
        let body = self.body.as_ref().map(|_| json!({}));
        client
            .send(&self.method, &self.path_to_nobody(project), body.as_ref())
            .await
    }

    /// The same, signed, and changed before it is sent.
    async fn call_signed(
        &self,
        client: &Client,
        project: &str,
        key: &Key,
        change: impl Fn(&mut axum::http::Request<Body>),
    ) -> Reply {
        let body = if self.body.is_some() { "{}" } else { "" };
        let request = client
            .with_token(None)
            .request(&self.method, &self.path_to_nobody(project));
        let mut request = key.sign(request, body);
        change(&mut request);
        client.send_raw(request).await
    }
}

/// Whether whoever sent this was let through to the operation, whatever that made of it.
#[track_caller]
fn let_through(what: &str, reply: &Reply) {
    assert!(![401, 403, 405].contains(&reply.status), "{what}: {}", reply.text);
}

#[tokio::test]
async fn only_the_versions_are_open() {
    let app = TestApp::start().await;
    let document = app.demo.get("/openapi.json").await.ok();
    for (method, pattern) in documented(&document) {
        let security = &document["paths"][&pattern][method.to_lowercase()]["security"];
        let open = *security == json!([{}]) || *security == json!([]);
        assert_eq!(open, OPEN.contains(&pattern.as_str()), "{method} {pattern}");
    }
    for path in OPEN.into_iter().chain(["/v1/", "/v2/", "/openapi.json"]) {
        let nobody = app.demo.with_token(None);
        assert_eq!(nobody.get(path).await.status, 200, "{path}");
        assert_eq!(
            app.demo.with_token(Some("x")).get(path).await.status,
            200,
            "{path}"
        );
        let forged = nobody
            .request("GET", path)
            .header("authorization", "SDK-HMAC-SHA256 x");
        let reply = app.demo.send_raw(forged.body(Body::empty()).unwrap()).await;
        assert_eq!(reply.status, 200, "{path}");
    }
}

#[tokio::test]
async fn bad_tokens_have_their_code_everywhere() {
    let cast = Cast::start().await;
    let app = &cast.app;
    let token = app.demo.token.clone().unwrap();
    let flipped: String = {
        let (head, last) = token.split_at(token.len() - 1);
        format!("{head}{}", if last == "A" { "B" } else { "A" })
    };
    let (expired, revoked) = (cast.expired().await, cast.revoked().await);
    let before = app.demo.world().await;
    for operation in operations() {
        let what = format!("{} {}", operation.method, operation.pattern);
        if operation.who == Who::Anybody {
            continue;
        }
        let refused = async |token: Option<&str>, why: &str| {
            let reply = operation.call(&app.demo.with_token(token), DEMO_PROJECT).await;
            assert_eq!(reply.refused(), (401, "0003"), "{what} {token:?}");
            assert!(reply.text.contains(why), "{what} {}", reply.text);
        };
        refused(None, "X-Auth-Token").await;
        for garbage in [
            "",
            "garbage",
            "a.b",
            ".",
            &token[1..],
            &token[..token.len() / 2],
            &flipped,
        ] {
            refused(Some(garbage), "not one of this region's").await;
        }
        refused(Some(&expired), "expired").await;
        refused(Some(&revoked), "revoked").await;
    }
    assert_eq!(app.demo.world().await, before);
}

#[tokio::test]
async fn credentials_are_good_for_their_project_alone() {
    let cast = Cast::start().await;
    let app = &cast.app;
    let demo = Key::demo();
    let before = app.demo.world().await;
    for operation in operations() {
        let what = format!("{} {}", operation.method, operation.pattern);
        let Who::Holders(_) = operation.who else {
            continue;
        };
        let nowhere = "0".repeat(32);
        for (client, key, project) in [
            (&app.other, &cast.others_key(), DEMO_PROJECT),
            (&app.demo, &demo, &*nowhere),
            (&app.demo, &demo, &app.other.project),
        ] {
            let reply = operation.call(client, project).await;
            assert_eq!(reply.refused(), (403, "0004"), "{what}");
            let reply = operation.call_signed(client, project, key, |_| {}).await;
            assert_eq!(reply.refused(), (403, "0004"), "{what}, signed");
        }
        for malformed in [
            "x",
            &DEMO_PROJECT[1..],
            &format!("{DEMO_PROJECT}0"),
            &"g".repeat(32),
            "%20",
            "%FF",
        ] {
            let reply = operation.call(&app.demo, malformed).await;
            assert_eq!(reply.refused(), (400, "0014"), "{what} {malformed}");
            if malformed != "%20" && malformed != "%FF" {
                let reply = operation.call_signed(&app.demo, malformed, &demo, |_| {}).await;
                assert_eq!(reply.refused(), (400, "0014"), "{what} {malformed}, signed");
            }
        }
    }
    assert_eq!(app.demo.world().await, before);
}

#[tokio::test]
async fn each_operation_takes_its_own_action_and_no_other() {
    let cast = Cast::start().await;
    let app = &cast.app;
    let before = app.demo.world().await;
    for operation in operations() {
        let what = format!("{} {}", operation.method, operation.pattern);
        let refuses = async |member: &Member| {
            let reply = operation.call(&member.client, DEMO_PROJECT).await;
            assert_eq!(reply.refused(), (403, "0004"), "{what} {}", member.name);
            let reply = operation
                .call_signed(&member.client, DEMO_PROJECT, &member.key, |_| {})
                .await;
            assert_eq!(reply.refused(), (403, "0004"), "{what} {}, signed", member.name);
        };
        match operation.who {
            Who::Anybody => {}
            Who::Operators => {
                for tenant in [&app.demo, &app.other, &app.viewer] {
                    assert_eq!(
                        operation.call(tenant, DEMO_PROJECT).await.refused(),
                        (403, "0004"),
                        "{what}"
                    );
                }
                let reply = operation
                    .call_signed(&app.demo, DEMO_PROJECT, &Key::demo(), |_| {})
                    .await;
                assert_eq!(reply.refused(), (403, "0004"), "{what}, signed");
                refuses(&cast.all).await;
                let_through(&what, &operation.call(&app.operator, DEMO_PROJECT).await);
            }
            Who::Holders(action) => {
                for (name, member) in &cast.only {
                    if *name == action {
                        let_through(&what, &operation.call(&member.client, DEMO_PROJECT).await);
                        let key = &member.key;
                        let reply = operation
                            .call_signed(&member.client, DEMO_PROJECT, key, |_| {})
                            .await;
                        let_through(&what, &reply);
                    } else {
                        refuses(member).await;
                    }
                }
                // Who may do everything but this, and whoever has no role in the project that allows anything.
                refuses(&cast.without[action]).await;
                refuses(&cast.idle).await;
                let reply = operation.call(&app.viewer, DEMO_PROJECT).await;
                match action.ends_with(":get") || action.ends_with(":list") {
                    true => let_through(&what, &reply),
                    false => assert_eq!(reply.refused(), (403, "0004"), "{what}"),
                }
            }
        }
    }
    assert_eq!(app.demo.world().await, before);
}

#[tokio::test]
async fn bad_signatures_have_their_code_everywhere() {
    let cast = Cast::start().await;
    let app = &cast.app;
    let demo = Key::demo();
    let wrong_secret = Key::new("DEMOACCESSKEY", "wrong");
    let unknown = Key::new("NOSUCHKEY", "DEMOSECRETKEY");
    let before = app.demo.world().await;
    for operation in operations() {
        let what = format!("{} {}", operation.method, operation.pattern);
        if operation.who == Who::Anybody {
            continue;
        }
        let refused = async |key: &Key, change: &dyn Fn(&mut axum::http::Request<Body>), why: &str| {
            let reply = operation.call_signed(&app.demo, DEMO_PROJECT, key, change).await;
            assert_eq!(reply.refused(), (401, "APIGW.0301"), "{what} {why}");
            reply.text
        };
        // Whether there is such a key is not told.
        let unknown = refused(&unknown, &|_| {}, "an unknown key").await;
        assert_eq!(refused(&wrong_secret, &|_| {}, "a wrong secret").await, unknown);
        refused(&demo.an_hour_ago(), &|_| {}, "an old date").await;
        refused(
            &demo,
            &|request| *request.body_mut() = Body::from("{ }"),
            "another body",
        )
        .await;
        refused(
            &demo,
            &|request| *request.uri_mut() = format!("{}?a=b", request.uri()).parse().unwrap(),
            "a query",
        )
        .await;
        let other_host = |request: &mut axum::http::Request<Body>| {
            request
                .headers_mut()
                .insert("host", "elsewhere.test".parse().unwrap());
        };
        refused(&demo, &other_host, "another host").await;
        let temporary = |request: &mut axum::http::Request<Body>| {
            request
                .headers_mut()
                .insert("x-security-token", "t".parse().unwrap());
        };
        refused(&demo, &temporary, "a temporary key").await;
        // A good token beside a bad signature is of no use.
        let token = app.demo.token.clone().unwrap();
        let beside = |request: &mut axum::http::Request<Body>| {
            request
                .headers_mut()
                .insert("x-auth-token", token.parse().unwrap());
        };
        refused(&wrong_secret, &beside, "a good token beside it").await;
    }
    assert_eq!(app.demo.world().await, before);
}

#[tokio::test]
async fn credentials_are_judged_before_the_request() {
    let app = TestApp::start().await;
    // Token, then action, then project, then what the path and the body say.
    let bad = format!("/v1/x/{SERVICES}/x");
    let reply = app.demo.with_token(None).put(&bad, &json!([])).await;
    assert_eq!(reply.refused(), (401, "0003"));
    let reply = app.viewer.put(&bad, &json!([])).await;
    assert_eq!(reply.refused(), (403, "0004"));
    let reply = app.demo.put(&bad, &json!([])).await;
    assert_eq!(reply.refused(), (400, "0014"));
    let reply = app.demo.put(&format!("{SERVICES}/x"), &json!([])).await;
    assert_eq!(reply.refused(), (400, "3062"));
    let reply = app.demo.put(&format!("{SERVICES}/{NOBODY}"), &json!([])).await;
    assert_eq!(reply.refused(), (400, "1004"));
    let reply = app
        .demo
        .put(&format!("{SERVICES}/{NOBODY}"), &json!({"description": "x"}))
        .await;
    assert_eq!(reply.refused(), (404, "0005"));
}

#[tokio::test]
async fn a_viewer_sees_what_the_project_has() {
    let app = TestApp::start().await;
    let service = app.service(80, true).await;
    for path in [
        SERVICES.to_owned(),
        format!("{SERVICES}/{service}"),
        ENDPOINTS.to_owned(),
        "quotas".to_owned(),
    ] {
        assert_eq!(
            app.viewer.get(&path).await.ok(),
            app.demo.get(&path).await.ok(),
            "{path}"
        );
    }
    // Upper case hexadecimal digits are the same project's id, or none at all; never somebody else's.
    let reply = app
        .demo
        .in_project(&DEMO_PROJECT.to_uppercase())
        .get(SERVICES)
        .await;
    assert!([200, 400, 403].contains(&reply.status), "{}", reply.text);
}
