//! Who may call what: every operation of the OpenAPI document with every kind of bad credentials.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::app::{Client, DEMO_PROJECT, ENDPOINTS, NOBODY, SERVICES, TestApp, service_body};

/// An operation, as the document has it and as it is called.
pub(crate) struct Operation {
    pub(crate) method: &'static str,
    /// The path's pattern.
    pub(crate) pattern: &'static str,
    /// What is sent; nothing, for operations without a body.
    pub(crate) body: Option<Value>,
    pub(crate) who: Who,
}

/// Who may call an operation.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    Anybody,
    /// Whoever may look at the project.
    Readers,
    /// Whoever may change what the project has.
    Writers,
    /// Whoever has the operator's role, in whatever scope.
    Operators,
}

/// Every operation. A new one has to be put here, or [`the_table_has_every_operation`] fails.
pub(crate) fn operations() -> Vec<Operation> {
    const PROJECT: &str = "/v1/{project_id}";
    let guarded = |method, pattern: &str, body, reads| Operation {
        method,
        pattern: format!("{PROJECT}{pattern}").leak(),
        body,
        who: if reads { Who::Readers } else { Who::Writers },
    };
    let operators = |method, pattern, body| Operation {
        method,
        pattern,
        body,
        who: Who::Operators,
    };
    let open = |pattern| Operation {
        method: "GET",
        pattern,
        body: None,
        who: Who::Anybody,
    };
    let service = "/vpc-endpoint-services/{vpc_endpoint_service_id}";
    let change = json!({"description": "x"});
    let decide = json!({"action": "receive", "endpoints": [NOBODY]});
    let records = json!({"action": "add", "permissions": ["*"]});
    let order = json!({"endpoint_service_id": NOBODY, "vpc_id": NOBODY, "subnet_id": NOBODY});
    vec![
        open("/"),
        open("/v1"),
        open("/v2"),
        guarded("POST", "/vpc-endpoint-services", Some(service_body(80)), false),
        guarded("GET", "/vpc-endpoint-services", None, true),
        guarded("GET", "/vpc-endpoint-services/public", None, true),
        guarded("GET", "/vpc-endpoint-services/describe", None, true),
        guarded("GET", service, None, true),
        guarded("PUT", service, Some(change), false),
        guarded("DELETE", service, None, false),
        guarded("GET", &format!("{service}/connections"), None, true),
        guarded(
            "POST",
            &format!("{service}/connections/action"),
            Some(decide),
            false,
        ),
        guarded("GET", &format!("{service}/permissions"), None, true),
        guarded(
            "POST",
            &format!("{service}/permissions/action"),
            Some(records),
            false,
        ),
        guarded(
            "POST",
            &format!("{service}/permissions/batch-create"),
            Some(json!({"permissions": [{"permission": "*", "description": ""}]})),
            false,
        ),
        guarded(
            "POST",
            &format!("{service}/permissions/batch-delete"),
            Some(json!({"permissions": [{"id": NOBODY}]})),
            false,
        ),
        guarded(
            "PUT",
            &format!("{service}/permissions/{{permission_id}}"),
            Some(json!({"permission": {"description": ""}})),
            false,
        ),
        guarded("POST", "/vpc-endpoints", Some(order), false),
        guarded("GET", "/vpc-endpoints", None, true),
        guarded("GET", "/vpc-endpoints/{vpc_endpoint_id}", None, true),
        guarded("DELETE", "/vpc-endpoints/{vpc_endpoint_id}", None, false),
        guarded("GET", "/quotas", None, true),
        guarded(
            "POST",
            "/{resource_type}/resource_instances/action",
            Some(json!({"action": "count"})),
            true,
        ),
        guarded(
            "POST",
            "/{resource_type}/{resource_id}/tags/action",
            Some(json!({"action": "create", "tags": [{"key": "k"}]})),
            false,
        ),
        guarded("GET", "/{resource_type}/tags", None, true),
        operators("GET", "/admin/v1/projects/{project_id}/quotas", None),
        operators(
            "PUT",
            "/admin/v1/projects/{project_id}/quotas",
            Some(json!({"endpoint": 1})),
        ),
    ]
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

impl Operation {
    /// Calls it in a project, on resources that nobody has.
    async fn call(&self, client: &Client, project: &str) -> crate::app::Reply {
        let path = self.pattern.replace("{project_id}", project);
        let path = path
            .replace("{vpc_endpoint_service_id}", NOBODY)
            .replace("{vpc_endpoint_id}", NOBODY)
            .replace("{resource_type}", "endpoint_service")
            .replace("{resource_id}", NOBODY)
            .replace("{permission_id}", NOBODY);
        // What is described has to be named.
        let path = match path.strip_suffix("/describe") {
            Some(_) => format!("{path}?id={NOBODY}"),
            None => path,
        };
        client.send(self.method, &path, self.body.as_ref()).await
    }
}

#[tokio::test]
async fn the_table_has_every_operation() {
    let app = TestApp::start().await;
    let document = app.demo.get("/openapi.json").await.ok();
    let table = operations();
    let listed: BTreeSet<_> = table
        .iter()
        .map(|o| (o.method.to_owned(), o.pattern.to_owned()))
        .collect();
    assert_eq!(listed, documented(&document));
    assert_eq!(listed.len(), table.len());
}

#[tokio::test]
async fn bad_credentials_have_their_codes_everywhere() {
    let app = TestApp::start().await;
    let token = app.demo.token.clone().unwrap();
    let flipped: String = {
        let (head, last) = token.split_at(token.len() - 1);
        format!("{head}{}", if last == "A" { "B" } else { "A" })
    };
    let garbage = [
        "",
        "garbage",
        "a.b",
        ".",
        &token[1..],
        &token[..token.len() / 2],
        &flipped,
        "\u{7f}",
    ];
    let before = app.demo.world().await;
    for operation in operations() {
        let what = format!("{} {}", operation.method, operation.pattern);
        if operation.who == Who::Anybody {
            let reply = operation.call(&app.demo.with_token(None), DEMO_PROJECT).await;
            assert_eq!(reply.status, 200, "{what}");
            continue;
        }
        let reply = operation.call(&app.demo.with_token(None), DEMO_PROJECT).await;
        assert_eq!(reply.refused(), (401, "0003"), "{what}");
        for bad in garbage
            .iter()
            .filter(|bad| bad.bytes().all(|b| b.is_ascii_graphic()))
        {
            let reply = operation
                .call(&app.demo.with_token(Some(bad)), DEMO_PROJECT)
                .await;
            assert_eq!(reply.refused(), (401, "0003"), "{what} {bad}");
        }
        if operation.who == Who::Operators {
            for tenant in [&app.demo, &app.other, &app.viewer] {
                let reply = operation.call(tenant, DEMO_PROJECT).await;
                assert_eq!(reply.refused(), (403, "0004"), "{what}");
            }
            continue;
        }
        // Another tenant's token, and one's own elsewhere.
        let reply = operation.call(&app.other, DEMO_PROJECT).await;
        assert_eq!(reply.refused(), (403, "0004"), "{what}");
        let reply = operation.call(&app.demo, &"0".repeat(32)).await;
        assert_eq!(reply.refused(), (403, "0004"), "{what}");
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
        }
        let reply = operation.call(&app.viewer, DEMO_PROJECT).await;
        match operation.who == Who::Readers {
            true => assert!([200, 404].contains(&reply.status), "{what} {}", reply.text),
            false => assert_eq!(reply.refused(), (403, "0004"), "{what}"),
        }
        // And where the caller may, nothing of that stands in the way.
        let reply = operation.call(&app.demo.with_token(None), DEMO_PROJECT).await;
        assert_eq!(reply.status, 401, "{what}");
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
