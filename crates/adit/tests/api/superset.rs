//! Part B of the specification (Huawei's superset): its switch, and those of its operations that are small.

use serde_json::{Value, json};

use crate::app::{ENDPOINTS, NOBODY, SERVICES, TestApp, endpoint_body, service_body, text};

/// Every operation that only Huawei's API has, on resources that nobody has.
fn operations() -> Vec<(&'static str, String)> {
    let service = |tail: &str| format!("vpc-endpoint-services/{NOBODY}{tail}");
    let endpoint = |tail: &str| format!("vpc-endpoints/{NOBODY}{tail}");
    vec![
        ("PUT", endpoint("")),
        ("PUT", endpoint("/routetables")),
        ("PUT", endpoint("/policy")),
        ("DELETE", endpoint("/policy")),
        ("POST", service("/permissions/batch-create")),
        ("POST", service("/permissions/batch-delete")),
        ("PUT", service(&format!("/permissions/{NOBODY}"))),
        ("PUT", service("/connections/description")),
        ("PUT", service("/name")),
        ("POST", service("/add-server-resources")),
        ("POST", service("/upgrade")),
        ("POST", endpoint("/upgrade")),
    ]
}

#[tokio::test]
async fn without_the_switch_its_paths_do_not_exist() {
    let app = TestApp::builder().without_superset().start().await;
    for (method, path) in operations() {
        let version = if path.ends_with("add-server-resources") || path.ends_with("upgrade") {
            "v2"
        } else {
            "v1"
        };
        let path = format!("/{version}/{}/{path}", app.demo.project);
        let reply = app.demo.send(method, &path, Some(&json!({}))).await;
        assert_eq!(reply.refused(), (404, "0005"), "{method} {path}");
        // As at any unknown path, nobody is asked who they are.
        let reply = app.demo.with_token(None).send(method, &path, None).await;
        assert_eq!(reply.refused(), (404, "0005"), "{method} {path}");
    }
    // What shares a path with one of them is there, and so is what no API has.
    let endpoint = format!("vpc-endpoints/{NOBODY}");
    assert_eq!(app.demo.get(&endpoint).await.refused(), (404, "2006"));
    let reply = app.demo.send("PATCH", &endpoint, None).await;
    assert_eq!(reply.refused(), (405, "0002"));
}

#[tokio::test]
async fn a_service_is_renamed_and_its_endpoints_follow() {
    let app = TestApp::start().await;
    let service = app.service(80, true).await;
    let endpoint = app.endpoint(&service, "pendingAcceptance").await;
    let path = format!("{SERVICES}/{service}/name");
    for (short, full) in [
        ("orders-v3", format!("eu-de.orders-v3.{service}")),
        ("", format!("eu-de.{service}")),
        ("A_1", format!("eu-de.A_1.{service}")),
    ] {
        let body = json!({"endpoint_service_name": short});
        let reply = app.demo.put(&path, &body).await.ok();
        assert_eq!(reply, json!({"endpoint_service_name": full}));
        let shown = app.demo.get(&format!("{SERVICES}/{service}")).await.ok();
        assert_eq!(shown["service_name"], full.as_str());
        let shown = app.other.get(&format!("{ENDPOINTS}/{endpoint}")).await.ok();
        assert_eq!(shown["endpoint_service_name"], full.as_str());
    }
    let before = app.demo.world().await;
    for (path, body, expected) in [
        (path.clone(), json!({}), (400, "2002")),
        (path.clone(), json!({"endpoint_service_name": 1}), (400, "3076")),
        (
            path.clone(),
            json!({"endpoint_service_name": "a.b"}),
            (400, "3076"),
        ),
        (
            path.clone(),
            json!({"endpoint_service_name": "a-very-long-short-name"}),
            (400, "3076"),
        ),
        (
            format!("{SERVICES}/{NOBODY}/name"),
            json!({"endpoint_service_name": "x"}),
            (404, "0005"),
        ),
        (
            format!("{SERVICES}/x/name"),
            json!({"endpoint_service_name": "x"}),
            (400, "3062"),
        ),
    ] {
        assert_eq!(
            app.demo.put(&path, &body).await.refused(),
            expected,
            "{path} {body}"
        );
    }
    let reply = app.other.put(&path, &json!({"endpoint_service_name": "x"})).await;
    assert_eq!(reply.refused(), (404, "0005"));
    assert_eq!(app.demo.world().await, before);
}

#[tokio::test]
async fn the_owner_describes_connections_for_itself() {
    let app = TestApp::start().await;
    let (service, other_service) = (app.service(80, true).await, app.service(81, true).await);
    let one = app.endpoint(&service, "pendingAcceptance").await;
    let two = app.endpoint(&service, "pendingAcceptance").await;
    let elsewhere = app.endpoint(&other_service, "pendingAcceptance").await;
    let path = format!("{SERVICES}/{service}/connections/description");
    let of = |list: Value| json!({"connections": list});
    let text_of = |id: &str, text: &str| json!({"id": id, "description": text});
    let body = of(json!([text_of(&one, "front end"), text_of(&two, "")]));
    let reply = app.demo.put(&path, &body).await.ok();
    assert_eq!(reply["connections"][0]["id"], one.as_str());
    assert_eq!(reply["connections"][0]["description"], "front end");
    assert_eq!(reply["connections"][1]["description"], "");
    let listed = app
        .demo
        .get(&format!("{SERVICES}/{service}/connections?id={one}"))
        .await
        .ok();
    assert_eq!(listed["connections"][0], reply["connections"][0]);
    // The consumer's own text is another one.
    let shown = app.other.get(&format!("{ENDPOINTS}/{one}")).await.ok();
    assert_eq!(shown["description"], "");
    assert!(!shown.to_string().contains("front end"));

    for (body, expected) in [
        (json!({}), (400, "2002")),
        (of(json!([])), (400, "2002")),
        (of(json!([{"id": one}])), (400, "2002")),
        (of(json!([text_of("x", "y")])), (400, "2017")),
        (of(json!([text_of(&one, "<y")])), (400, "0002")),
        (
            of(json!([text_of(&one, "new"), text_of(&elsewhere, "y")])),
            (400, "2013"),
        ),
        (
            of(json!([text_of(&one, "new"), text_of(NOBODY, "y")])),
            (404, "2006"),
        ),
        (of((0..31).map(|_| text_of(&one, "y")).collect()), (400, "0016")),
    ] {
        assert_eq!(app.demo.put(&path, &body).await.refused(), expected, "{body}");
    }
    let again = app
        .demo
        .get(&format!("{SERVICES}/{service}/connections?id={one}"))
        .await
        .ok();
    assert_eq!(again, listed);
    let reply = app.other.put(&path, &body).await;
    assert_eq!(reply.refused(), (404, "0005"));
}

#[tokio::test]
async fn editions_are_upgraded_and_rolled_back() {
    let app = TestApp::start().await;
    let service = app.service(80, true).await;
    let endpoint = app.endpoint(&service, "pendingAcceptance").await;
    let of_service = format!("/v2/{}/{SERVICES}/{service}/upgrade", app.demo.project);
    let of_endpoint = format!("/v2/{}/{ENDPOINTS}/{endpoint}/upgrade", app.other.project);
    let editions =
        async || app.demo.get(&format!("{SERVICES}/{service}")).await.ok()["supported_editions"].take();
    assert_eq!(editions().await, json!(["basic"]));
    // No body means to upgrade, and so does one without a word.
    app.demo.send("POST", &of_service, None).await.no_content();
    assert_eq!(editions().await, json!(["profession", "basic"]));
    app.demo.post(&of_service, &json!({})).await.no_content();
    app.demo
        .post(&of_service, &json!({"action": "rollback"}))
        .await
        .no_content();
    assert_eq!(editions().await, json!(["basic"]));
    app.demo
        .post(
            &of_service,
            &json!({"action": "upgrade", "enable_multi_server": true}),
        )
        .await
        .no_content();
    for (body, code) in [
        (json!({"action": "start"}), "0007"),
        (json!({"enable_multi_server": 1}), "0002"),
        (json!([]), "1004"),
    ] {
        assert_eq!(
            app.demo.post(&of_service, &body).await.refused(),
            (400, code),
            "{body}"
        );
    }
    let mut failing = service_body(90);
    failing["tcp_proxy"] = json!("open");
    let failed = text(&app.demo.post(SERVICES, &failing).await.ok()["id"]);
    app.demo
        .until(&format!("{SERVICES}/{failed}"), |r| r.body["status"] == "failed")
        .await;
    for (id, expected) in [
        (failed.as_str(), (400, "3045")),
        (NOBODY, (404, "0005")),
        ("x", (400, "3062")),
    ] {
        let path = of_service.replace(&service, id);
        assert_eq!(
            app.demo.send("POST", &path, None).await.refused(),
            expected,
            "{id}"
        );
    }

    let start = json!({"action": "start"});
    let rollback = json!({"action": "rollback"});
    assert_eq!(
        app.other.post(&of_endpoint, &rollback).await.refused(),
        (400, "2052")
    );
    app.other.post(&of_endpoint, &start).await.no_content();
    app.other.post(&of_endpoint, &start).await.no_content();
    app.other.post(&of_endpoint, &rollback).await.no_content();
    assert_eq!(
        app.other.post(&of_endpoint, &json!({})).await.refused(),
        (400, "0007")
    );
    assert_eq!(
        app.other.send("POST", &of_endpoint, None).await.refused(),
        (400, "1004")
    );
    let nobody = of_endpoint.replace(&endpoint, NOBODY);
    assert_eq!(app.other.post(&nobody, &start).await.refused(), (404, "2006"));
    // An endpoint that is orphaned cannot be upgraded.
    app.demo
        .delete(&format!("{SERVICES}/{service}"))
        .await
        .no_content();
    app.other
        .until(&format!("{ENDPOINTS}/{endpoint}"), |r| {
            r.body["status"] == "failed"
        })
        .await;
    assert_eq!(
        app.other.post(&of_endpoint, &start).await.refused(),
        (400, "2047")
    );
}

#[tokio::test]
async fn its_fields_are_shown_with_the_switch_alone() {
    let with = TestApp::start().await;
    let without = TestApp::builder().without_superset().start().await;
    for (app, expected) in [(&with, true), (&without, false)] {
        let service = app.service(80, true).await;
        app.endpoint(&service, "pendingAcceptance").await;
        let shown = app.demo.get(&format!("{SERVICES}/{service}")).await.ok();
        let listed = app.demo.get(SERVICES).await.ok()["endpoint_services"][0].take();
        for reply in [&shown, &listed] {
            for field in ["supported_editions", "enable_policy", "ip_version"] {
                assert_eq!(reply.get(field).is_some(), expected, "{field} {reply}");
            }
        }
        let connections = app
            .demo
            .get(&format!("{SERVICES}/{service}/connections"))
            .await
            .ok();
        assert_eq!(
            connections["connections"][0].get("description").is_some(),
            expected
        );
    }
    // What is known of a service to everybody: those of gateways can have policies.
    for (app, expected) in [(&with, [Some(true), Some(false)]), (&without, [None, None])] {
        for (name, expected) in ["obs", "dns"].into_iter().zip(expected) {
            let named = format!("endpoint_service_name=com.t-systems.otc.eu-de.{name}");
            let listed = app.demo.get(&format!("{SERVICES}/public?{named}")).await.ok();
            let described = app.demo.get(&format!("{SERVICES}/describe?{named}")).await.ok();
            for reply in [&listed["endpoint_services"][0], &described] {
                let shown = reply.get("enable_policy").map(|policy| policy.as_bool().unwrap());
                assert_eq!(shown, expected, "{reply}");
            }
        }
    }
    let shown = with.demo.get(SERVICES).await.ok()["endpoint_services"][0].take();
    assert_eq!(
        (&shown["enable_policy"], &shown["ip_version"]),
        (&json!(false), &json!("ipv4"))
    );
}

#[tokio::test]
async fn what_its_requests_ask_for_and_there_is_not_is_refused() {
    let with = TestApp::start().await;
    let without = TestApp::builder().without_superset().start().await;
    for (field, value, code) in [
        ("ip", json!("10.0.0.1"), "3011"),
        ("ip_version", json!("ipv6"), "0002"),
    ] {
        let mut body = service_body(70);
        body[field] = value;
        assert_eq!(
            with.demo.post(SERVICES, &body).await.refused(),
            (400, code),
            "{field}"
        );
        // Without the switch it is one of the fields that nobody knows.
        let id = text(&without.demo.post(SERVICES, &body).await.ok()["id"]);
        without.demo.remove_service(&id).await;
    }
    let service = with.service(80, true).await;
    let path = format!("{SERVICES}/{service}");
    let reply = with
        .demo
        .put(&path, &json!({"ip": "10.0.0.1", "description": "x"}))
        .await;
    assert_eq!(reply.refused(), (400, "3055"));
    for (field, value) in [
        ("ip_version", json!("dualstack")),
        ("ipv6_address", json!("fd00::1")),
    ] {
        let mut body = endpoint_body(&service);
        body[field] = value;
        assert_eq!(
            with.other.post(ENDPOINTS, &body).await.refused(),
            (400, "0002"),
            "{field}"
        );
    }
    let mut body = endpoint_body(&service);
    body["ip_version"] = json!("ipv4");
    with.other.post(ENDPOINTS, &body).await.ok();
}

#[tokio::test]
async fn a_call_that_ends_an_endpoint_says_how_long_its_connections_go_on() {
    for superset in [true, false] {
        let app = match superset {
            true => TestApp::start().await,
            false => TestApp::builder().without_superset().start().await,
        };
        let service = app.service(80, false).await;
        let endpoint = app.endpoint(&service, "accepted").await;
        let (path, id) = (format!("{ENDPOINTS}/{endpoint}"), endpoint.parse().unwrap());
        let decide = async |action: &str, drain_s: Value| {
            let body = json!({"action": action, "endpoints": [endpoint], "drain_s": drain_s});
            app.demo
                .post(&format!("{SERVICES}/{service}/connections/action"), &body)
                .await
        };
        let stored = || {
            let state = app.running.app.cache.read();
            state.endpoint(&id).map(|e| (e.status().to_string(), e.drain_s))
        };
        let is = |status: &str, drain_s: Option<u32>| Some((status.to_owned(), drain_s.filter(|_| superset)));
        if superset {
            for bad in [json!(-1), json!(86_401), json!("30")] {
                let reply = decide("reject", bad.clone()).await;
                assert_eq!(reply.refused(), (400, "0002"), "{bad}");
            }
            for bad in ["-1", "301", "x"] {
                let reply = app.other.delete(&format!("{path}?drain_s={bad}")).await;
                assert_eq!(reply.refused(), (400, "0002"), "{bad:?}");
            }
        }
        assert_eq!(stored(), is("accepted", None));
        decide("reject", json!(30)).await.ok();
        assert_eq!(stored(), is("rejected", Some(30)));
        // Said again it is as it was, unless something else is said.
        decide("reject", json!(null)).await.ok();
        assert_eq!(stored(), is("rejected", Some(30)));
        decide("reject", json!(0)).await.ok();
        assert_eq!(stored(), is("rejected", Some(0)));
        decide("receive", json!(60)).await.ok();
        assert_eq!(stored(), is("accepted", None));

        // What the operator has said of one that is switched off holds when its owner deletes it.
        let kept = app.endpoint(&service, "accepted").await;
        let off = json!({"enable_status": "disable", "drain_s": 7});
        let switch = format!("/admin/v1/endpoints/{kept}");
        app.operator.put(&switch, &off).await.ok();
        let TestApp { running, other, .. } = app;
        let (_router, app) = (running.router.clone(), running.app.clone());
        // Without reconcilers, what is on its way stays there.
        running.stop().await.unwrap();
        let delete = async |id: &str, drain_s: u32| {
            let path = format!("{ENDPOINTS}/{id}?drain_s={drain_s}");
            other.delete(&path).await.no_content();
            let state = app.cache.read();
            let endpoint = state.endpoint(&id.parse().unwrap()).unwrap();
            assert_eq!(endpoint.status().to_string(), "deleting");
            endpoint.drain_s
        };
        for drain_s in [60, 5] {
            let expected = superset.then_some(drain_s);
            assert_eq!(delete(&endpoint, drain_s).await, expected);
            assert_eq!(delete(&kept, drain_s).await, Some(7));
        }
    }
}
