//! Tags (spec A.18 to A.20).

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::app::{Client, ENDPOINTS, NOBODY, SERVICES, TestApp, endpoint_body, service_body, text};

const FIND_SERVICES: &str = "endpoint_service/resource_instances/action";
const FIND_ENDPOINTS: &str = "endpoint/resource_instances/action";

fn of_service(id: &str) -> String {
    format!("endpoint_service/{id}/tags/action")
}

fn of_endpoint(id: &str) -> String {
    format!("endpoint/{id}/tags/action")
}

fn change(action: &str, tags: Value) -> Value {
    json!({"action": action, "tags": tags})
}

/// An available service with these tags.
async fn tagged(client: &Client, port: u16, name: &str, tags: Value) -> String {
    let mut body = service_body(port);
    body["service_name"] = json!(name);
    body["tags"] = tags;
    client.service_of(&body).await
}

/// The ids that a query finds.
async fn found(client: &Client, path: &str, query: &Value) -> Vec<String> {
    let reply = client.post(path, query).await.ok();
    let resources = reply["resources"].as_array().unwrap();
    resources.iter().map(|r| text(&r["resource_id"])).collect()
}

#[tokio::test]
async fn tags_are_added_replaced_and_taken_away() {
    let app = TestApp::start().await;
    let service = app.service(80, true).await;
    let endpoint = app.endpoint(&service, "pendingAcceptance").await;
    for (client, path, shown) in [
        (&app.demo, of_service(&service), format!("{SERVICES}/{service}")),
        (
            &app.other,
            of_endpoint(&endpoint),
            format!("{ENDPOINTS}/{endpoint}"),
        ),
    ] {
        let steps = [
            (
                change("create", json!([{"key": "team", "value": "a"}, {"key": "env"}])),
                json!([{"key": "team", "value": "a"}, {"key": "env", "value": ""}]),
            ),
            (
                change(
                    "create",
                    json!([{"key": "team", "value": "b"}, {"key": "x", "value": null}]),
                ),
                json!([{"key": "team", "value": "b"}, {"key": "env", "value": ""}, {"key": "x", "value": ""}]),
            ),
            // Another value than the one that is there, and a key that is not.
            (
                change(
                    "delete",
                    json!([{"key": "team", "value": "a"}, {"key": "nobody"}]),
                ),
                json!([{"key": "team", "value": "b"}, {"key": "env", "value": ""}, {"key": "x", "value": ""}]),
            ),
            (
                change("delete", json!([{"key": "team", "value": "b"}, {"key": "env"}])),
                json!([{"key": "x", "value": ""}]),
            ),
        ];
        for (body, expected) in steps {
            let reply = client.post(&path, &body).await;
            assert_eq!((reply.status, reply.text.as_str()), (200, ""), "{body}");
            assert_eq!(client.get(&shown).await.ok()["tags"], expected, "{body}");
        }
    }
}

#[tokio::test]
async fn every_rule_has_its_code_and_nothing_is_changed() {
    let app = TestApp::start().await;
    let service = app.service(80, true).await;
    let endpoint = app.endpoint(&service, "pendingAcceptance").await;
    let twenty: Value = (0..20).map(|n| json!({"key": format!("k{n}")})).collect();
    let path = of_service(&service);
    app.demo.post(&path, &change("create", twenty)).await.ok();
    let before = app.demo.world().await;
    for (body, code) in [
        (json!({"tags": [{"key": "a"}]}), "0007"),
        (change("add", json!([{"key": "a"}])), "0007"),
        (json!({"action": "create"}), "3066"),
        (change("create", json!([])), "3066"),
        (change("delete", json!([])), "3066"),
        (change("create", json!([{"value": "a"}])), "3066"),
        (change("create", json!([{"key": "k".repeat(37)}])), "3072"),
        (
            change("create", json!([{"key": "k0", "value": "v".repeat(44)}])),
            "3073",
        ),
        (change("create", json!([{"key": "k0", "value": "a b"}])), "3068"),
        (change("create", json!([{"key": "k0"}, {"key": "k0"}])), "3067"),
        (
            change("create", json!([{"key": "k0", "value": "x"}, {"key": "new"}])),
            "3069",
        ),
        (change("create", json!({"key": "a"})), "0002"),
        (json!([]), "1004"),
    ] {
        assert_eq!(app.demo.post(&path, &body).await.refused(), (400, code), "{body}");
    }
    // What is there already can still be given another value.
    app.demo
        .post(&path, &change("delete", json!([{"key": "k0", "value": "x"}])))
        .await
        .ok();
    assert_eq!(app.demo.world().await, before);

    let good = change("create", json!([{"key": "a"}]));
    for (path, expected) in [
        (format!("services/{service}/tags/action"), (400, "3070")),
        ("endpoint_service/x/tags/action".to_owned(), (400, "3062")),
        ("endpoint/x/tags/action".to_owned(), (400, "2017")),
        (of_service(NOBODY), (404, "0005")),
        (of_endpoint(NOBODY), (404, "2006")),
        // One kind's id is not the other's, and another project's is none.
        (of_service(&endpoint), (404, "0005")),
        (of_endpoint(&service), (404, "2006")),
        (of_endpoint(&endpoint), (404, "2006")),
    ] {
        assert_eq!(app.demo.post(&path, &good).await.refused(), expected, "{path}");
    }
    // The path is judged before the body, and the body before what the path names.
    let bad = json!([]);
    assert_eq!(
        app.demo.post("x/x/tags/action", &bad).await.refused(),
        (400, "3070")
    );
    assert_eq!(
        app.demo.post(&of_service(NOBODY), &bad).await.refused(),
        (400, "1004")
    );
    for path in [
        "vpc/resource_instances/action",
        "endpoints/resource_instances/action",
    ] {
        let reply = app.demo.post(path, &json!({"action": "count"})).await;
        assert_eq!(reply.refused(), (400, "3070"), "{path}");
    }
    assert_eq!(app.demo.get("vpc/tags").await.refused(), (400, "3070"));
    // The endpoint's own path is not a kind of resource.
    assert_eq!(app.demo.get("vpc-endpoints/tags").await.refused(), (400, "2017"));
}

#[tokio::test]
async fn in_which_states_tags_can_be_written() {
    let app = TestApp::start().await;
    let add = change("create", json!([{"key": "a"}]));
    let mut body = service_body(90);
    body["tcp_proxy"] = json!("open");
    let failed = text(&app.demo.post(SERVICES, &body).await.ok()["id"]);
    app.demo
        .until(&format!("{SERVICES}/{failed}"), |r| r.body["status"] == "failed")
        .await;
    assert_eq!(
        app.demo.post(&of_service(&failed), &add).await.refused(),
        (400, "3045")
    );

    let service = app.service(80, true).await;
    let (waiting, rejected) = (
        app.endpoint(&service, "pendingAcceptance").await,
        app.endpoint(&service, "pendingAcceptance").await,
    );
    let accepted = app.endpoint(&service, "pendingAcceptance").await;
    app.decide(&service, "reject", &rejected).await.ok();
    app.decide(&service, "receive", &accepted).await.ok();
    for endpoint in [&waiting, &rejected, &accepted] {
        app.other.post(&of_endpoint(endpoint), &add).await.ok();
        // A tag changes nothing else.
        let path = format!("{ENDPOINTS}/{endpoint}");
        assert_eq!(app.other.get(&path).await.ok()["tags"][0]["key"], "a");
    }
    let path = format!("{ENDPOINTS}/{accepted}");
    assert_eq!(app.other.get(&path).await.ok()["status"], "accepted");

    // Without reconcilers, what is on its way stays there.
    let (open, leaving) = (app.service(81, false).await, app.demo.service(82, true).await);
    let TestApp {
        running, demo, other, ..
    } = app;
    let _stack = (running.router.clone(), running.app.clone());
    running.stop().await.unwrap();
    let creating = text(&other.post(ENDPOINTS, &endpoint_body(&open)).await.ok()["id"]);
    other.post(&of_endpoint(&creating), &add).await.ok();
    let building = text(&demo.post(SERVICES, &service_body(83)).await.ok()["id"]);
    demo.post(&of_service(&building), &add).await.ok();
    other.delete(&format!("{ENDPOINTS}/{waiting}")).await.no_content();
    assert_eq!(
        other.post(&of_endpoint(&waiting), &add).await.refused(),
        (400, "2018")
    );
    demo.delete(&format!("{SERVICES}/{leaving}")).await.no_content();
    assert_eq!(
        demo.post(&of_service(&leaving), &add).await.refused(),
        (404, "0005")
    );
}

#[tokio::test]
async fn writers_side_by_side_lose_nothing() {
    let app = TestApp::start().await;
    let service = app.demo.service(80, true).await;
    let path = of_service(&service);
    let writers = (0..24).map(|n| {
        let (client, path) = (app.demo.clone(), path.clone());
        tokio::spawn(async move {
            let body = change("create", json!([{"key": format!("k{n}"), "value": "v"}]));
            client.post(&path, &body).await.status
        })
    });
    let mut answers: BTreeMap<u16, usize> = BTreeMap::new();
    for writer in writers.collect::<Vec<_>>() {
        *answers.entry(writer.await.unwrap()).or_default() += 1;
    }
    // Twenty fit, whoever they are.
    assert_eq!(answers, BTreeMap::from([(200, 20), (400, 4)]));
    let shown = app.demo.get(&format!("{SERVICES}/{service}")).await.ok();
    assert_eq!(shown["tags"].as_array().unwrap().len(), 20);
}

#[tokio::test]
async fn the_four_lists_and_the_name_find_what_they_say() {
    let app = TestApp::start().await;
    let tag = |key: &str, value: &str| json!({"key": key, "value": value});
    let one = tagged(
        &app.demo,
        81,
        "one",
        json!([tag("team", "red"), tag("env", "prod")]),
    )
    .await;
    let two = tagged(
        &app.demo,
        82,
        "two",
        json!([tag("team", "blue"), tag("env", "prod")]),
    )
    .await;
    let three = tagged(&app.demo, 83, "three", json!([tag("team", "dark-red")])).await;
    let four = tagged(&app.demo, 84, "four", json!([])).await;
    let ask = |key: &str, values: Value| json!({"key": key, "values": values});
    let red = || ask("team", json!(["red"]));
    let prod = || ask("env", json!(["prod"]));
    let any_team = || ask("team", json!([]));
    for (query, expected) in [
        (json!({}), vec![&four, &three, &two, &one]),
        (json!({"tags": []}), vec![&four, &three, &two, &one]),
        (json!({"tags": [red()]}), vec![&one]),
        (json!({"tags": [any_team()]}), vec![&three, &two, &one]),
        (json!({"tags": [any_team(), prod()]}), vec![&two, &one]),
        (
            json!({"tags": [ask("team", json!(["red", "blue"]))]}),
            vec![&two, &one],
        ),
        (json!({"tags": [ask(" team ", json!([" red "]))]}), vec![&one]),
        (
            json!({"tags": [ask("team", json!(["*red"]))]}),
            vec![&three, &one],
        ),
        (
            json!({"tags": [ask("team", json!(["*"]))]}),
            vec![&three, &two, &one],
        ),
        (json!({"tags_any": [red(), prod()]}), vec![&two, &one]),
        (json!({"not_tags": [red(), prod()]}), vec![&four, &three, &two]),
        (json!({"not_tags_any": [red(), prod()]}), vec![&four, &three]),
        (json!({"not_tags_any": [any_team()]}), vec![&four]),
        (json!({"tags": [prod()], "not_tags_any": [red()]}), vec![&two]),
        (
            json!({"tags": [prod()], "tags_any": [any_team()], "not_tags": [red()]}),
            vec![&two],
        ),
        (
            json!({"matches": [{"key": "resource_name", "value": "EU-DE.T"}]}),
            vec![&three, &two],
        ),
        (
            json!({"matches": [{"key": "resource_name", "value": one}]}),
            vec![&one],
        ),
        (
            json!({"matches": [{"key": "resource_name", "value": ""}]}),
            vec![],
        ),
        (json!({"limit": "2"}), vec![&four, &three]),
        (json!({"limit": 2, "offset": "1"}), vec![&three, &two]),
        (json!({"limit": "1000", "offset": 3}), vec![&one]),
        (json!({"offset": "4"}), vec![]),
        // The superset's: what has no tag, whatever the lists say, and system tags, which nothing has.
        (json!({"without_any_tag": true, "tags": [red()]}), vec![&four]),
        (json!({"without_any_tag": false, "tags": [red()]}), vec![&one]),
        (
            json!({"sys_tags": [ask("_sys_enterprise_project_id", json!(["0"]))]}),
            vec![],
        ),
    ] {
        let mut body = query.clone();
        body["action"] = json!("filter");
        let reply = app.demo.post(FIND_SERVICES, &body).await.ok();
        assert_eq!(
            found(&app.demo, FIND_SERVICES, &body).await,
            expected.into_iter().map(String::as_str).collect::<Vec<_>>(),
            "{query}"
        );
        // A count is of all pages, and says nothing else.
        body["action"] = json!("count");
        let count = app.demo.post(FIND_SERVICES, &body).await.ok();
        assert_eq!(count, json!({"total_count": reply["total_count"]}), "{query}");
    }
    let reply = app
        .demo
        .post(FIND_SERVICES, &json!({"action": "filter", "tags": [red()]}))
        .await
        .ok();
    let expected = json!({
        "resources": [{
            "resource_id": one, "resource_name": format!("eu-de.one.{one}"), "resource_detail": null,
            "tags": [tag("team", "red"), tag("env", "prod")],
        }],
        "total_count": 1,
    });
    assert_eq!(reply, expected);
    // Other projects, and the other kind, have none of it.
    assert!(
        found(&app.other, FIND_SERVICES, &json!({"action": "filter"}))
            .await
            .is_empty()
    );
    assert!(
        found(&app.demo, FIND_ENDPOINTS, &json!({"action": "filter"}))
            .await
            .is_empty()
    );
    // A viewer may ask.
    assert_eq!(
        found(&app.viewer, FIND_SERVICES, &json!({"action": "filter"}))
            .await
            .len(),
        4
    );
}

#[tokio::test]
async fn an_endpoint_s_id_stands_in_for_its_name() {
    let app = TestApp::start().await;
    let service = app.service(80, true).await;
    let one = app.endpoint(&service, "pendingAcceptance").await;
    let two = app.endpoint(&service, "pendingAcceptance").await;
    let add = change("create", json!([{"key": "a", "value": "1"}]));
    app.other.post(&of_endpoint(&one), &add).await.ok();
    let by_name =
        |name: &str| json!({"action": "filter", "matches": [{"key": "resource_name", "value": name}]});
    assert_eq!(
        found(&app.other, FIND_ENDPOINTS, &by_name(&two[..13])).await,
        [two.as_str()]
    );
    let query = json!({"action": "filter", "tags": [{"key": "a", "values": []}]});
    let reply = app.other.post(FIND_ENDPOINTS, &query).await.ok();
    assert_eq!(reply["resources"][0]["resource_name"], one.as_str());
    assert_eq!(reply["total_count"], 1);
}

#[tokio::test]
async fn every_key_in_use_is_listed_with_its_values() {
    let app = TestApp::start().await;
    let none = json!({"tags": []});
    assert_eq!(app.demo.get("endpoint_service/tags").await.ok(), none);
    let tag = |key: &str, value: &str| json!({"key": key, "value": value});
    let one = tagged(&app.demo, 81, "one", json!([tag("b", "2"), tag("a", "x")])).await;
    tagged(&app.demo, 82, "two", json!([tag("b", "1"), tag("c", "")])).await;
    tagged(&app.demo, 83, "three", json!([tag("b", "2")])).await;
    let values = |key: &str, values: Value| json!({"key": key, "values": values});
    let expected = json!({"tags": [
        values("a", json!(["x"])), values("b", json!(["1", "2"])), values("c", json!([""])),
    ]});
    assert_eq!(app.demo.get("endpoint_service/tags").await.ok(), expected);
    assert_eq!(app.demo.get("endpoint/tags").await.ok(), none);
    assert_eq!(app.other.get("endpoint_service/tags").await.ok(), none);
    app.demo.remove_service(&one).await;
    let expected = json!({"tags": [values("b", json!(["1", "2"])), values("c", json!([""]))]});
    assert_eq!(app.demo.get("endpoint_service/tags").await.ok(), expected);
}

#[tokio::test]
async fn a_bad_query_has_its_code() {
    let app = TestApp::start().await;
    let keys: Value = (0..21)
        .map(|n| json!({"key": format!("k{n}"), "values": []}))
        .collect();
    for (query, code) in [
        (json!({}), "0007"),
        (json!({"action": "list"}), "0007"),
        (json!({"action": "filter", "tags": keys}), "3069"),
        (
            json!({"action": "count", "tags_any": [{"key": "", "values": []}]}),
            "3066",
        ),
        (
            json!({"action": "filter", "not_tags": [{"key": "a", "values": []}, {"key": "a", "values": []}]}),
            "3067",
        ),
        (
            json!({"action": "filter", "not_tags_any": [{"key": "a", "values": ["1", "1"]}]}),
            "3071",
        ),
        (
            json!({"action": "filter", "tags": [{"key": "k".repeat(128), "values": []}]}),
            "3072",
        ),
        (
            json!({"action": "filter", "tags": [{"key": "k", "values": ["v".repeat(256)]}]}),
            "3073",
        ),
        (json!({"action": "filter", "tags": [{"key": "k"}]}), "0002"),
        (json!({"action": "filter", "limit": "0"}), "0006"),
        (json!({"action": "filter", "limit": 1001}), "0006"),
        (json!({"action": "filter", "offset": "-1"}), "0010"),
        (
            json!({"action": "filter", "matches": [{"key": "name", "value": ""}]}),
            "0002",
        ),
        (json!([]), "1004"),
    ] {
        let reply = app.demo.post(FIND_SERVICES, &query).await;
        assert_eq!(reply.refused(), (400, code), "{query}");
    }
}
