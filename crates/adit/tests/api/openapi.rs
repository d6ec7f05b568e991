//! The generated document is what is committed, and says of every operation how it can fail.

use serde_json::{Value, json};

use crate::{
    app::{SERVICES, TestApp},
    auth::documented,
};

#[tokio::test]
async fn the_document_is_the_committed_one() {
    let app = TestApp::start().await;
    let document = app.demo.with_token(None).get("/openapi.json").await.ok();
    let mut settings = insta::Settings::clone_current();
    settings.set_sort_maps(true);
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_json_snapshot!("openapi", document));
}

/// The schema that a reference leads to.
fn follow<'a>(document: &'a Value, schema: &'a Value) -> &'a Value {
    match schema["$ref"].as_str() {
        Some(reference) => document
            .pointer(reference.strip_prefix('#').unwrap())
            .unwrap_or_else(|| panic!("{reference} leads nowhere")),
        None => schema,
    }
}

#[tokio::test]
async fn every_operation_says_how_it_fails() {
    let app = TestApp::start().await;
    let document = app.demo.get("/openapi.json").await.ok();
    assert!(
        document["openapi"].as_str().unwrap().starts_with("3.1."),
        "{}",
        document["openapi"]
    );
    for (method, pattern) in documented(&document) {
        let operation = &document["paths"][&pattern][method.to_lowercase()];
        let responses = operation["responses"].as_object().unwrap();
        for status in ["400", "401", "403", "404", "500", "504"] {
            let schema = &responses[status]["content"]["application/json"]["schema"];
            let schema = follow(&document, schema);
            assert_eq!(
                schema["required"],
                json!(["error_code", "error_msg"]),
                "{method} {pattern} {status}"
            );
        }
        // Of all deletions, that of a policy answers what is left.
        let gone = method == "DELETE" && !pattern.ends_with("/policy")
            || pattern.ends_with("/upgrade")
            || pattern.ends_with("/add-server-resources");
        let success = if gone { "204" } else { "200" };
        let content = responses[success]
            .get("content")
            .filter(|c| !c.as_object().unwrap().is_empty());
        let silent = gone || pattern.ends_with("/tags/action");
        assert_eq!(content.is_some(), !silent, "{method} {pattern}");
        assert_eq!(
            operation.get("requestBody").is_some(),
            ["POST", "PUT"].contains(&&*method),
            "{method} {pattern}"
        );
        assert!(
            operation["summary"].as_str().is_some_and(|s| !s.is_empty()),
            "{method} {pattern}"
        );
        // Versions are open, everything else takes a token.
        let open = operation["security"] == json!([{}]) || operation["security"] == json!([]);
        assert_eq!(
            open,
            !pattern.contains("{project_id}") && !pattern.starts_with("/admin"),
            "{method} {pattern} {}",
            operation["security"]
        );
        for parameter in pattern
            .split('/')
            .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
        {
            let listed = operation["parameters"].as_array().unwrap();
            let found = listed
                .iter()
                .any(|p| p["name"] == parameter && p["in"] == "path" && p["required"] == true);
            assert!(found, "{method} {pattern} {parameter}");
        }
    }
}

#[tokio::test]
async fn replies_have_the_fields_that_the_document_says() {
    let app = TestApp::start().await;
    let service = app.service(80, false).await;
    let endpoint = app.endpoint(&service, "accepted").await;
    let document = app.demo.get("/openapi.json").await.ok();
    let of = async |client: &crate::app::Client, path: &str, pattern: &str| {
        let reply = client.get(path).await.ok();
        let responses = &document["paths"][format!("/v1/{{project_id}}/{pattern}")]["get"]["responses"];
        fits(
            &document,
            &responses["200"]["content"]["application/json"]["schema"],
            &reply,
            pattern,
        );
    };
    let id = "{vpc_endpoint_service_id}";
    let of_service = |tail: &str| {
        (
            format!("{SERVICES}/{service}{tail}"),
            format!("{SERVICES}/{id}{tail}"),
        )
    };
    of(&app.demo, SERVICES, SERVICES).await;
    for tail in ["", "/connections", "/permissions"] {
        let (path, pattern) = of_service(tail);
        of(&app.demo, &path, &pattern).await;
    }
    of(&app.demo, "quotas", "quotas").await;
    of(&app.demo, "endpoint_service/tags", "{resource_type}/tags").await;
    of(&app.other, "vpc-endpoints", "vpc-endpoints").await;
    of(
        &app.other,
        &format!("vpc-endpoints/{endpoint}"),
        "vpc-endpoints/{vpc_endpoint_id}",
    )
    .await;
}

/// Every field of a reply is in its schema and of its type, and none that is required is missing.
fn fits(document: &Value, schema: &Value, value: &Value, at: &str) {
    let schema = follow(document, schema);
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let types = &schema["type"];
    assert!(
        *types == kind || types.as_array().is_some_and(|t| t.contains(&json!(kind))),
        "{at}: {kind}, not {types}"
    );
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                let schema = schema["properties"].get(name);
                fits(
                    document,
                    schema.unwrap_or_else(|| panic!("{at}.{name}")),
                    value,
                    &format!("{at}.{name}"),
                );
            }
            for required in schema["required"].as_array().into_iter().flatten() {
                assert!(
                    map.contains_key(required.as_str().unwrap()),
                    "{at}: no {required}"
                );
            }
        }
        Value::Array(items) => items
            .iter()
            .for_each(|item| fits(document, &schema["items"], item, at)),
        _ => {}
    }
}
