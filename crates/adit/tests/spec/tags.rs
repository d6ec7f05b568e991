//! A.18 to A.20: tags, and finding by them.

use serde_json::{Value, json};

use crate::ask::{Asker, NOBODY, text};

fn tags_of(ask: &Asker, service: &str) -> Value {
    let mut tags = ask
        .demo
        .must("GET", &format!("vpc-endpoint-services/{service}"), None)["tags"]
        .take();
    tags.as_array_mut().unwrap().sort_by_key(|t| t["key"].to_string());
    tags
}

#[test]
fn changing_tags() {
    let mut ask = Asker::start();
    let service = ask.service(json!({"tags": [{"key": "a", "value": "1"}]}));
    let endpoint = ask.endpoint(&service, json!({}), "pendingAcceptance");
    let path = format!("endpoint_service/{service}/tags/action");
    let change = |action: Value, tags: Value| json!({"action": action, "tags": tags});
    let many = |n: usize| Value::from_iter((0..n).map(|i| json!({"key": format!("k{i}"), "value": "v"})));
    for (body, code) in [
        (json!([]), "1004"),
        (json!({"tags": [{"key": "k"}]}), "0007"),
        (change(json!("add"), json!([{"key": "k"}])), "0007"),
        (change(json!("CREATE"), json!([{"key": "k"}])), "0007"),
        (change(json!("create"), Value::Null), "3066"),
        (change(json!("create"), json!([])), "3066"),
        (change(json!("create"), json!([{"value": "v"}])), "3066"),
        (change(json!("create"), json!([{"key": ""}])), "3066"),
        (change(json!("create"), json!([{"key": "k".repeat(37)}])), "3072"),
        (
            change(json!("create"), json!([{"key": "k", "value": "v".repeat(44)}])),
            "3073",
        ),
        (change(json!("create"), json!([{"key": "a.b"}])), "3068"),
        (
            change(json!("create"), json!([{"key": "k", "value": "a b"}])),
            "3068",
        ),
        (
            change(json!("create"), json!([{"key": "k"}, {"key": "k"}])),
            "3067",
        ),
        (change(json!("create"), many(21)), "3069"),
        (change(json!("create"), many(20)), "3069"),
        (change(json!("create"), json!("x")), "0002"),
    ] {
        let what = format!("{:.80}", body.to_string());
        ask.refuse(&what, ("POST", &path), Some(&body), (400, code));
    }
    let kept = tags_of(&ask, &service);
    ask.same("nothing changed", &kept, &json!([{"key": "a", "value": "1"}]));
    let good = change(json!("create"), json!([{"key": "k"}]));
    for (path, status, code) in [
        (format!("services/{service}/tags/action"), 400, "3070"),
        ("endpoint_service/x/tags/action".to_owned(), 400, "3062"),
        ("endpoint/x/tags/action".to_owned(), 400, "2017"),
        (format!("endpoint_service/{NOBODY}/tags/action"), 404, "0005"),
        (format!("endpoint/{NOBODY}/tags/action"), 404, "2006"),
        (format!("endpoint/{service}/tags/action"), 404, "2006"),
    ] {
        ask.refuse("path", ("POST", &path), Some(&good), (status, code));
    }
    let other = ask.other.clone();
    ask.refuse_to(&other, "foreign", ("POST", &path), Some(&good), (404, "0005"));
    // Replaces a value, takes a missing one as empty; deletes by key, or by key and value; what is absent is no error.
    for (action, tags, after) in [
        (
            "create",
            json!([{"key": "a", "value": "2"}, {"key": "b"}]),
            json!([{"key": "a", "value": "2"}, {"key": "b", "value": ""}]),
        ),
        (
            "delete",
            json!([{"key": "a", "value": "1"}, {"key": "zz"}]),
            json!([{"key": "a", "value": "2"}, {"key": "b", "value": ""}]),
        ),
        (
            "delete",
            json!([{"key": "a"}]),
            json!([{"key": "b", "value": ""}]),
        ),
        (
            "create",
            json!([{"key": "a", "value": "1"}]),
            json!([{"key": "a", "value": "1"}, {"key": "b", "value": ""}]),
        ),
        (
            "delete",
            json!([{"key": "a", "value": "1"}]),
            json!([{"key": "b", "value": ""}]),
        ),
    ] {
        let (status, reply) = ask
            .demo
            .try_call("POST", &path, Some(&change(json!(action), tags.clone())))
            .unwrap();
        ask.same(
            &format!("{action} {tags}"),
            &json!([status, reply]),
            &json!([200, null]),
        );
        let seen = tags_of(&ask, &service);
        ask.same(&format!("after {action} {tags}"), &seen, &after);
    }
    let (status, _) = ask
        .demo
        .try_call("POST", &format!("endpoint/{endpoint}/tags/action"), Some(&good))
        .unwrap();
    ask.same("endpoint", &json!(status), &json!(200));
    let seen = ask.demo.must("GET", &format!("vpc-endpoints/{endpoint}"), None);
    ask.same("endpoint", &seen["tags"], &json!([{"key": "k", "value": ""}]));
    ask.end();
}

#[test]
fn finding_by_tags() {
    let mut ask = Asker::start();
    let tagged =
        |tags: &[(&str, &str)]| Value::from_iter(tags.iter().map(|(k, v)| json!({"key": k, "value": v})));
    let a = ask.service(json!({"service_name": "one", "tags": tagged(&[("env", "prod"), ("team", "x")])}));
    let b = ask.service(json!({"service_name": "two", "tags": tagged(&[("env", "test-prod")])}));
    let c = ask.service(json!({"service_name": "none"}));
    let path = "endpoint_service/resource_instances/action";
    let all = [&c, &b, &a];
    for (query, found) in [
        (json!({}), vec![&c, &b, &a]),
        (json!({"tags": []}), vec![&c, &b, &a]),
        (json!({"tags": [{"key": "env", "values": ["prod"]}]}), vec![&a]),
        (
            json!({"tags": [{"key": "env", "values": ["prod", "test-prod"]}]}),
            vec![&b, &a],
        ),
        (json!({"tags": [{"key": "env", "values": []}]}), vec![&b, &a]),
        (
            json!({"tags": [{"key": " env ", "values": [" prod "]}]}),
            vec![&a],
        ),
        (
            json!({"tags": [{"key": "env", "values": ["*prod"]}]}),
            vec![&b, &a],
        ),
        (json!({"tags": [{"key": "env", "values": ["PROD"]}]}), vec![]),
        (
            json!({"tags": [{"key": "env", "values": []}, {"key": "team", "values": []}]}),
            vec![&a],
        ),
        (
            json!({"tags_any": [{"key": "env", "values": ["test-prod"]}, {"key": "team", "values": []}]}),
            vec![&b, &a],
        ),
        (
            json!({"not_tags": [{"key": "env", "values": []}, {"key": "team", "values": []}]}),
            vec![&c, &b],
        ),
        (
            json!({"not_tags_any": [{"key": "env", "values": ["prod"]}, {"key": "team", "values": []}]}),
            vec![&c, &b],
        ),
        (json!({"not_tags_any": [{"key": "env", "values": []}]}), vec![&c]),
        (
            json!({"tags": [{"key": "env", "values": []}], "not_tags_any": [{"key": "team", "values": []}]}),
            vec![&b],
        ),
        (
            json!({"matches": [{"key": "resource_name", "value": "ONE"}]}),
            vec![&c, &a],
        ),
        (
            json!({"matches": [{"key": "resource_name", "value": ".one."}]}),
            vec![&a],
        ),
        (
            json!({"matches": [{"key": "resource_name", "value": ""}]}),
            vec![],
        ),
    ] {
        // Each as a list and as a number.
        let mut filter = query.clone();
        filter["action"] = json!("filter");
        let reply = ask.demo.must("POST", path, Some(&filter));
        let ids: Vec<_> = reply["resources"]
            .as_array()
            .unwrap()
            .iter()
            .map(|r| text(&r["resource_id"]))
            .collect();
        let mut ids = ids.iter().collect::<Vec<_>>();
        ids.sort_by_key(|id| all.iter().position(|it| it == id));
        ask.same(&query.to_string(), &json!(ids), &json!(found));
        ask.same(&query.to_string(), &reply["total_count"], &json!(found.len()));
        let mut count = query.clone();
        count["action"] = json!("count");
        let reply = ask.demo.must("POST", path, Some(&count));
        ask.same(&count.to_string(), &reply, &json!({"total_count": found.len()}));
    }
    let filter = json!({"action": "filter", "tags": [{"key": "team", "values": ["x"]}]});
    let reply = ask.demo.must("POST", path, Some(&filter));
    ask.same(
        "a resource",
        &reply["resources"][0],
        &json!({"resource_id": a, "resource_name": format!("eu-de.one.{a}"),
        "resource_detail": null, "tags": [{"key": "env", "value": "prod"}, {"key": "team", "value": "x"}]}),
    );
    for (limit, offset, length) in [
        (json!("2"), json!("0"), 2),
        (json!(2), json!("2"), 1),
        (json!("1000"), json!(9), 0),
    ] {
        let body = json!({"action": "filter", "limit": limit, "offset": offset});
        let reply = ask.demo.must("POST", path, Some(&body));
        ask.same(
            &body.to_string(),
            &json!(reply["resources"].as_array().map(Vec::len)),
            &json!(length),
        );
        ask.same(&body.to_string(), &reply["total_count"], &json!(3));
    }
    let used = ask.demo.must("GET", "endpoint_service/tags", None);
    ask.same(
        "in use",
        &used,
        &json!({"tags": [{"key": "env", "values": ["prod", "test-prod"]}, {"key": "team", "values": ["x"]}]}),
    );
    let used = ask.demo.must("GET", "endpoint/tags", None);
    ask.same("in use", &used, &json!({"tags": []}));
    ask.end();
}

#[test]
fn bad_tag_queries() {
    let mut ask = Asker::start();
    let path = "endpoint/resource_instances/action";
    let keys = |n: usize| Value::from_iter((0..n).map(|i| json!({"key": format!("k{i}"), "values": []})));
    let values = |n: usize| Value::from_iter((0..n).map(|i| json!(format!("v{i}"))));
    let one = |key: Value, values: Value| json!([{"key": key, "values": values}]);
    ask.refuse("no action", ("POST", path), Some(&json!({})), (400, "0007"));
    ask.refuse(
        "action",
        ("POST", path),
        Some(&json!({"action": "find"})),
        (400, "0007"),
    );
    ask.refuse(
        "type",
        ("POST", "x/resource_instances/action"),
        Some(&json!({"action": "count"})),
        (400, "3070"),
    );
    ask.refuse("type", ("GET", "x/tags"), None, (400, "3070"));
    for list in ["tags", "tags_any", "not_tags", "not_tags_any"] {
        for (value, code) in [
            (keys(21), "3069"),
            (one(json!("k"), values(11)), "0002"),
            (json!([{"values": []}]), "3066"),
            (one(json!(""), json!([])), "3066"),
            (one(json!("  "), json!([])), "3066"),
            (
                json!([{"key": "k", "values": []}, {"key": "k", "values": []}]),
                "3067",
            ),
            (
                json!([{"key": "k", "values": []}, {"key": " k", "values": []}]),
                "3067",
            ),
            (one(json!("k"), json!(["v", "v"])), "3071"),
            (one(json!("k".repeat(128)), json!([])), "3072"),
            (one(json!("k"), json!(["v".repeat(256)])), "3073"),
            (json!([{"key": "k"}]), "0002"),
            (json!("x"), "0002"),
        ] {
            let body = json!({"action": "filter", list: value});
            let what = format!("{list} {:.60}", body[list].to_string());
            ask.refuse(&what, ("POST", path), Some(&body), (400, code));
        }
        let body = json!({"action": "count", list: one(json!("k".repeat(127)), values(10))});
        ask.demo.must("POST", path, Some(&body));
        let body = json!({"action": "count", list: keys(20)});
        ask.demo.must("POST", path, Some(&body));
    }
    for (field, value, code) in [
        ("limit", json!("0"), "0006"),
        ("limit", json!("1001"), "0006"),
        ("limit", json!(0), "0006"),
        ("limit", json!("x"), "0006"),
        ("limit", json!(-1), "0006"),
        ("limit", json!(true), "0006"),
        ("offset", json!("-1"), "0010"),
        ("offset", json!(-1), "0010"),
        ("offset", json!("x"), "0010"),
        ("matches", json!([{"key": "name", "value": "x"}]), "0002"),
        (
            "matches",
            json!([{"key": "resource_name", "value": "x".repeat(256)}]),
            "0002",
        ),
        (
            "matches",
            json!([{"key": "resource_name", "value": "x"}, {"key": "resource_name", "value": "y"}]),
            "0002",
        ),
        ("matches", json!("x"), "0002"),
    ] {
        let what = format!("{field} {value:.40}");
        ask.refuse(
            &what,
            ("POST", path),
            Some(&json!({"action": "filter", field: value})),
            (400, code),
        );
        // For a count, pages are ignored.
        if field != "matches" {
            ask.demo
                .must("POST", path, Some(&json!({"action": "count", field: value})));
        }
    }
    ask.end();
}
