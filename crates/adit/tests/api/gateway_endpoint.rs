//! Endpoints of gateway services: what they are, the routes to them, and their changes (spec A.13, B.2 to B.4).

use serde_json::{Value, json};

use crate::{
    agreement::agrees,
    app::{Client, ENDPOINTS, NOBODY, OTHER_VPC, TestApp, endpoint_body, text},
    public_service::{DNS, OBS},
};

const PREFIX: &str = "100.125.0.0/16";

/// The smallest request for a gateway endpoint in `other`'s network.
pub(crate) fn gateway_body(tables: &[&str]) -> Value {
    let mut body = json!({"endpoint_service_id": OBS, "vpc_id": OTHER_VPC});
    if !tables.is_empty() {
        body["routetables"] = json!(tables);
    }
    body
}

/// Orders one, and waits until it is in this state; answers its id.
pub(crate) async fn gateway_endpoint(client: &Client, body: &Value, status: &str) -> String {
    let id = text(&client.post(ENDPOINTS, body).await.ok()["id"]);
    let path = format!("{ENDPOINTS}/{id}");
    client.until(&path, |r| r.body["status"] == status).await;
    id
}

/// Where a route table leads to endpoints: destinations and next hops.
pub(crate) async fn led(client: &Client, table: &str) -> Vec<(String, String)> {
    let shown = client.get(&format!("routetables/{table}")).await.ok();
    let routes = shown["routetable"]["routes"].as_array().unwrap();
    let routes = routes.iter().filter(|r| r["type"] == "egw");
    routes
        .map(|r| (text(&r["destination"]), text(&r["nexthop"])))
        .collect()
}

async fn until_led(client: &Client, table: &str, expected: &[(&str, &str)]) {
    let wanted: Vec<_> = expected
        .iter()
        .map(|(a, b)| ((*a).to_owned(), (*b).to_owned()))
        .collect();
    let found = crate::app::poll(async || (led(client, table).await == wanted).then_some(())).await;
    assert!(found.is_some(), "{:?}", led(client, table).await);
}

#[tokio::test]
async fn a_gateway_endpoint_shows_what_it_is() {
    let app = TestApp::start().await;
    let table = app.other.default_table(OTHER_VPC).await;
    let mut body = gateway_body(&[]);
    // Without effect for a gateway endpoint.
    body["subnet_id"] = json!("x");
    body["port_ip"] = json!(1);
    body["enable_dns"] = json!(true);
    body["whitelist"] = json!([]);
    body["enable_whitelist"] = json!(false);
    body["tags"] = json!([{"key": "k", "value": "v"}]);
    body["description"] = json!("d");
    let created = app.other.post(ENDPOINTS, &body).await.ok();
    assert!((1..=i64::from(i32::MAX)).contains(&created["marker_id"].as_i64().unwrap()));
    let mut settings = insta::Settings::clone_current();
    settings.set_sort_maps(true);
    settings.add_redaction(".id", "[id]");
    settings.add_redaction(".marker_id", "[marker id]");
    settings.add_redaction(".created_at", "[time]");
    settings.add_redaction(".updated_at", "[time]");
    settings.add_redaction(".routetables", "[default table]");
    settings.bind(|| {
        insta::assert_json_snapshot!(created, @r#"
        {
          "active_status": [
            "active"
          ],
          "created_at": "[time]",
          "description": "d",
          "enable_status": "enable",
          "endpoint_pool_id": "b1d2a7c4-5e6f-4a3b-9c8d-7e6f5a4b3c2d",
          "endpoint_service_id": "7d20ab63-8e4f-4c19-8032-6b1d9f5e3c2d",
          "endpoint_service_name": "com.t-systems.otc.eu-de.obs",
          "id": "[id]",
          "marker_id": "[marker id]",
          "policy_statement": [
            {
              "Action": [
                "obs:*:*"
              ],
              "Effect": "Allow",
              "Resource": [
                "obs:*:*:*:*/*",
                "obs:*:*:*:*"
              ]
            }
          ],
          "project_id": "7fae0e62e2235f9e95a9edf9a5a34b1e",
          "routetables": "[default table]",
          "service_type": "gateway",
          "specification_name": "default",
          "status": "creating",
          "tags": [
            {
              "key": "k",
              "value": "v"
            }
          ],
          "updated_at": "[time]",
          "vpc_id": "5290e4d3-9993-4982-b4d3-e491383ffe90"
        }
        "#);
    });
    assert_eq!(created["routetables"], json!([table]));

    let id = text(&created["id"]);
    let path = format!("{ENDPOINTS}/{id}");
    let shown = app.other.until(&path, |r| r.body["status"] == "accepted").await;
    let mut expected = created.clone();
    expected["status"] = json!("accepted");
    expected["updated_at"] = shown["updated_at"].clone();
    assert_eq!(shown, expected);
    let listed = app.other.get(ENDPOINTS).await.ok();
    assert_eq!(listed, json!({"endpoints": [expected], "total_count": 1}));
    // Accepted means that the routes are there.
    assert_eq!(led(&app.other, &table).await, [(PREFIX.to_owned(), id.clone())]);

    app.other.delete(&path).await.no_content();
    app.other.until_gone(&path).await;
    assert_eq!(led(&app.other, &table).await, []);
    agrees(&app.running.app).await;
}

#[tokio::test]
async fn a_policy_of_its_own_is_kept_and_shown() {
    let app = TestApp::start().await;
    let mut body = gateway_body(&[]);
    body["policy_statement"] = json!([
        {"effect": "Deny", "action": ["obs:object:Put*"], "resource": ["*"], "unknown": 1},
        {"Sid": "s", "Effect": "Allow", "Action": ["*"], "Resource": ["*"], "Condition": {"Bool": {"a": ["true"]}}},
    ]);
    let id = gateway_endpoint(&app.other, &body, "accepted").await;
    let shown = app.other.get(&format!("{ENDPOINTS}/{id}")).await.ok();
    let expected = json!([
        {"Effect": "Deny", "Action": ["obs:object:Put*"], "Resource": ["*"]},
        {"Sid": "s", "Effect": "Allow", "Action": ["*"], "Resource": ["*"], "Condition": {"Bool": {"a": ["true"]}}},
    ]);
    assert_eq!(shown["policy_statement"], expected);
}

#[tokio::test]
async fn it_is_behind_the_tables_that_were_named_and_they_are_free_when_it_is_deleted() {
    let app = TestApp::start().await;
    let default = app.other.default_table(OTHER_VPC).await;
    let (a, b) = (
        app.other.route_table(OTHER_VPC).await,
        app.other.route_table(OTHER_VPC).await,
    );
    let first = gateway_endpoint(&app.other, &gateway_body(&[&a, &b, &a]), "accepted").await;
    let shown = app.other.get(&format!("{ENDPOINTS}/{first}")).await.ok();
    assert_eq!(shown["routetables"], json!([a, b]));
    for table in [&a, &b] {
        assert_eq!(led(&app.other, table).await, [(PREFIX.to_owned(), first.clone())]);
    }
    assert_eq!(led(&app.other, &default).await, []);
    let again = app.other.post(ENDPOINTS, &gateway_body(&[&default, &b])).await;
    assert_eq!(again.refused(), (400, "2039"));
    let mut held = gateway_endpoint(&app.other, &gateway_body(&[]), "accepted").await;

    // From the answer on, its tables are others'; the routes follow as soon as the first one's are gone.
    for _ in 0..20 {
        app.other
            .delete(&format!("{ENDPOINTS}/{held}"))
            .await
            .no_content();
        held = gateway_endpoint(&app.other, &gateway_body(&[]), "accepted").await;
        assert_eq!(
            led(&app.other, &default).await,
            [(PREFIX.to_owned(), held.clone())]
        );
    }
    agrees(&app.running.app).await;
}

#[tokio::test]
async fn a_route_in_the_way_fails_it_and_leaves_nothing_behind() {
    let app = TestApp::start().await;
    let default = app.other.default_table(OTHER_VPC).await;
    let blocked = app.other.route_table(OTHER_VPC).await;
    let route = json!({"type": "nat", "destination": PREFIX, "nexthop": NOBODY});
    let add = json!({"routetable": {"routes": {"add": [route]}}});
    let path_of_blocked = format!("routetables/{blocked}");
    app.other.put(&path_of_blocked, &add).await.ok();
    let id = gateway_endpoint(&app.other, &gateway_body(&[&default, &blocked]), "failed").await;
    let path = format!("{ENDPOINTS}/{id}");
    let shown = app.other.get(&path).await.ok();
    assert_eq!(shown["error"][0]["error_code"], "EndPoint.4028");
    let message = text(&shown["error"][0]["error_message"]);
    assert!(
        message.contains(&blocked) && message.contains(PREFIX),
        "{message}"
    );
    until_led(&app.other, &default, &[]).await;
    // It keeps its tables until it is deleted, as it keeps its place in the quota.
    let again = app.other.post(ENDPOINTS, &gateway_body(&[&default])).await;
    assert_eq!(again.refused(), (400, "2039"));
    app.other.delete(&path).await.no_content();
    gateway_endpoint(&app.other, &gateway_body(&[&default]), "accepted").await;

    // A table that is full, but for one, and then full.
    let full = app.other.route_table(OTHER_VPC).await;
    let routes: Vec<_> = (0..200)
        .map(|n| json!({"type": "nat", "destination": format!("10.9.{n}.0/24"), "nexthop": NOBODY}))
        .collect();
    let fill = json!({"routetable": {"routes": {"add": routes}}});
    app.other.put(&format!("routetables/{full}"), &fill).await.ok();
    let id = gateway_endpoint(&app.other, &gateway_body(&[&full]), "failed").await;
    let shown = app.other.get(&format!("{ENDPOINTS}/{id}")).await.ok();
    assert!(
        text(&shown["error"][0]["error_message"]).contains("200"),
        "{shown}"
    );
    app.other.delete(&format!("{ENDPOINTS}/{id}")).await.no_content();
    let one = json!({"routetable": {"routes": {"del": [{"destination": "10.9.0.0/24"}]}}});
    app.other.put(&format!("routetables/{full}"), &one).await.ok();
    gateway_endpoint(&app.other, &gateway_body(&[&full]), "accepted").await;
    agrees(&app.running.app).await;
}

#[tokio::test]
async fn the_tenant_cannot_take_its_routes_or_its_tables_away() {
    let app = TestApp::start().await;
    let (vpc, subnet) = app.other.vpc("10.9.0.0/16", "10.9.0.0/24").await;
    app.other
        .delete(&format!("vpcs/{vpc}/subnets/{subnet}"))
        .await
        .no_content();
    let table = app.other.route_table(&vpc).await;
    let mut body = gateway_body(&[&table]);
    body["vpc_id"] = json!(vpc);
    let id = gateway_endpoint(&app.other, &body, "accepted").await;
    let before = app.other.get(&format!("routetables/{table}")).await.ok();
    let route = |kind: &str| json!({"type": kind, "destination": PREFIX, "nexthop": NOBODY});
    let of_default = app.other.default_table(&vpc).await;
    for (table, routes, status) in [
        (&table, json!({"del": [{"destination": PREFIX}]}), 409),
        (&table, json!({"mod": [route("nat")]}), 409),
        (&table, json!({"add": [route("nat")]}), 400),
        // Nobody but the service makes such a route.
        (&of_default, json!({"add": [route("egw")]}), 400),
    ] {
        let body = json!({"routetable": {"routes": routes}});
        let reply = app.other.put(&format!("routetables/{table}"), &body).await;
        assert_eq!(reply.status, status, "{}", reply.text);
    }
    for path in [
        format!("routetables/{table}"),
        format!("vpcs/{vpc}"),
        format!("/v2.0/routers/{vpc}"),
    ] {
        let reply = app.other.delete(&path).await;
        assert_eq!(reply.status, 409, "{path} {}", reply.text);
        assert!(reply.text.contains(&id), "{}", reply.text);
    }
    assert_eq!(app.other.get(&format!("routetables/{table}")).await.ok(), before);
    // Names and other routes are the tenant's still.
    let other = json!({"type": "nat", "destination": "10.7.0.0/16", "nexthop": NOBODY});
    let body = json!({"routetable": {"name": "n", "routes": {"add": [other]}}});
    app.other.put(&format!("routetables/{table}"), &body).await.ok();

    app.other.delete(&format!("{ENDPOINTS}/{id}")).await.no_content();
    app.other
        .delete(&format!("routetables/{table}"))
        .await
        .no_content();
    app.other.delete(&format!("vpcs/{vpc}")).await.no_content();
    app.other.until_gone(&format!("{ENDPOINTS}/{id}")).await;
    agrees(&app.running.app).await;
}

#[tokio::test]
async fn neutron_knows_nothing_of_its_routes_and_keeps_them() {
    let app = TestApp::start().await;
    let id = gateway_endpoint(&app.other, &gateway_body(&[]), "accepted").await;
    let default = app.other.default_table(OTHER_VPC).await;
    let path = format!("/v2.0/routers/{OTHER_VPC}");
    let shown = app.other.get(&path).await.ok();
    assert_eq!(shown["router"]["routes"], json!([]));
    for routes in [
        json!([{"destination": "10.7.0.0/16", "nexthop": "10.0.0.9"}]),
        json!([]),
    ] {
        let replaced = app
            .other
            .put(&path, &json!({"router": {"routes": routes}}))
            .await
            .ok();
        assert_eq!(replaced["router"]["routes"], routes);
        assert_eq!(led(&app.other, &default).await, [(PREFIX.to_owned(), id.clone())]);
    }
}

#[tokio::test]
async fn its_route_tables_can_be_changed() {
    let app = TestApp::start().await;
    let default = app.other.default_table(OTHER_VPC).await;
    let (a, b) = (
        app.other.route_table(OTHER_VPC).await,
        app.other.route_table(OTHER_VPC).await,
    );
    let id = gateway_endpoint(&app.other, &gateway_body(&[]), "accepted").await;
    let path = format!("{ENDPOINTS}/{id}");
    let tables = format!("{path}/routetables");
    let led_to = |table: &str| {
        let (client, table) = (app.other.clone(), table.to_owned());
        async move { !led(&client, &table).await.is_empty() }
    };
    for wanted in [
        vec![&a, &b],
        vec![&b, &default],
        vec![&b, &default],
        vec![&a],
        vec![&default, &a, &b],
    ] {
        let changed = app.other.put(&tables, &json!({"routetables": wanted})).await.ok();
        assert_eq!(changed, json!({"routetables": wanted}));
        let shown = app.other.get(&path).await.ok();
        assert_eq!(
            (&shown["routetables"], &shown["status"]),
            (&json!(wanted), &json!("accepted"))
        );
        // The answer waits for the routes.
        for table in [&default, &a, &b] {
            assert_eq!(led_to(table).await, wanted.contains(&table), "{wanted:?} {table}");
        }
    }
    // What it has let go of is free.
    app.other.put(&tables, &json!({"routetables": [b]})).await.ok();
    let second = gateway_endpoint(&app.other, &gateway_body(&[&a]), "accepted").await;

    // A table that has no room for the routes is left out and said; the rest is done.
    let blocked = app.other.route_table(OTHER_VPC).await;
    let route = json!({"type": "nat", "destination": PREFIX, "nexthop": NOBODY});
    let add = json!({"routetable": {"routes": {"add": [route]}}});
    app.other.put(&format!("routetables/{blocked}"), &add).await.ok();
    let changed = app
        .other
        .put(&tables, &json!({"routetables": [blocked, default]}))
        .await
        .ok();
    assert_eq!(changed["routetables"], json!([default]));
    let faults = &changed["error"][0];
    assert_eq!(faults["bind_failed"][0]["id"], blocked.as_str());
    assert!(
        text(&faults["bind_failed"][0]["error_message"]).contains(PREFIX),
        "{faults}"
    );
    assert_eq!(faults["unbind_failed"], json!([]));
    assert_eq!((led_to(&default).await, led_to(&b).await), (true, false));

    let before = app.other.get(&path).await.ok();
    for (body, expected) in [
        (json!({}), (400, "2002")),
        (json!({"routetables": null}), (400, "2002")),
        (json!({"routetables": []}), (400, "2040")),
        (json!({"routetables": "x"}), (400, "1019")),
        (json!({"routetables": [default, "x"]}), (400, "1019")),
        (
            json!({"routetables": [app.demo.default_table(crate::app::DEMO_VPC).await]}),
            (404, "4030"),
        ),
        (json!({"routetables": [NOBODY]}), (404, "4030")),
        (json!({"routetables": [default, a]}), (400, "2039")),
        (json!({"routetables": [blocked]}), (400, "4028")),
    ] {
        let reply = app.other.put(&tables, &body).await;
        assert_eq!(reply.refused(), expected, "{body}");
    }
    let (vpc, _) = app.other.vpc("10.9.0.0/16", "10.9.0.0/24").await;
    let elsewhere = app.other.default_table(&vpc).await;
    let reply = app.other.put(&tables, &json!({"routetables": [elsewhere]})).await;
    assert_eq!(reply.refused(), (400, "1019"));
    assert_eq!(app.other.get(&path).await.ok(), before);

    let body = json!({"routetables": [default]});
    for (client, id, expected) in [
        (&app.other, NOBODY, (404, "2006")),
        (&app.demo, &*id, (404, "2006")),
        (&app.other, "x", (400, "2017")),
    ] {
        let reply = client.put(&format!("{ENDPOINTS}/{id}/routetables"), &body).await;
        assert_eq!(reply.refused(), expected);
    }
    let interface = text(&app.other.post(ENDPOINTS, &endpoint_body(DNS)).await.ok()["id"]);
    let reply = app
        .other
        .put(&format!("{ENDPOINTS}/{interface}/routetables"), &body)
        .await;
    assert_eq!(reply.refused(), (400, "0002"));
    for id in [&id, &second] {
        app.other.delete(&format!("{ENDPOINTS}/{id}")).await.no_content();
    }
    agrees(&app.running.app).await;
}

#[tokio::test]
async fn its_policy_can_be_changed_and_taken_away() {
    let app = TestApp::start().await;
    let id = gateway_endpoint(&app.other, &gateway_body(&[]), "accepted").await;
    let path = format!("{ENDPOINTS}/{id}");
    let policy = format!("{path}/policy");
    let full =
        json!([{"Effect": "Allow", "Action": ["obs:*:*"], "Resource": ["obs:*:*:*:*/*", "obs:*:*:*:*"]}]);
    let reply = app.other.delete(&policy).await;
    assert_eq!(reply.refused(), (400, "2049"));
    let own = json!([{"Effect": "Deny", "Action": ["*"], "Resource": ["*"]}]);
    let changed = app
        .other
        .put(&policy, &json!({"policy_statement": own}))
        .await
        .ok();
    assert_eq!(changed["policy_statement"], own);
    assert_eq!(changed, app.other.get(&path).await.ok());
    let emptied = app
        .other
        .put(&policy, &json!({"policy_statement": []}))
        .await
        .ok();
    assert_eq!(emptied["policy_statement"], full);
    app.other
        .put(&policy, &json!({"policy_statement": own}))
        .await
        .ok();
    let deleted = app.other.delete(&policy).await.ok();
    assert_eq!(
        (&deleted["policy_statement"], &deleted["status"]),
        (&full, &json!("accepted"))
    );
    assert_eq!(deleted, app.other.get(&path).await.ok());

    let many = json!(vec![own[0].clone(); 11]);
    for (body, code) in [
        (json!({}), "2002"),
        (json!({"policy_statement": null}), "2002"),
        (json!({"policy_statement": {}}), "2048"),
        (
            json!({"policy_statement": [{"Effect": "Maybe", "Action": ["*"], "Resource": ["*"]}]}),
            "2048",
        ),
        (json!({"policy_statement": many}), "2048"),
        (json!({"policy_document": {"Version": "1"}}), "2048"),
    ] {
        let reply = app.other.put(&policy, &body).await;
        assert_eq!(reply.refused(), (400, code), "{body}");
    }
    let interface = text(&app.other.post(ENDPOINTS, &endpoint_body(DNS)).await.ok()["id"]);
    let of_interface = format!("{ENDPOINTS}/{interface}/policy");
    let reply = app
        .other
        .put(&of_interface, &json!({"policy_statement": own}))
        .await;
    assert_eq!(reply.refused(), (400, "2048"));
    assert_eq!(app.other.delete(&of_interface).await.refused(), (400, "2049"));
    let unknown = format!("{ENDPOINTS}/{NOBODY}/policy");
    assert_eq!(app.other.delete(&unknown).await.refused(), (404, "2006"));
    assert_eq!(app.demo.delete(&policy).await.refused(), (404, "2006"));
    let reply = app.demo.put(&policy, &json!({"policy_statement": own})).await;
    assert_eq!(reply.refused(), (404, "2006"));
    assert_eq!(deleted, app.other.get(&path).await.ok());
}

#[tokio::test]
async fn in_which_states_it_can_be_changed() {
    let app = TestApp::start().await;
    let default = app.other.default_table(OTHER_VPC).await;
    let route = json!({"type": "nat", "destination": PREFIX, "nexthop": NOBODY});
    let add = json!({"routetable": {"routes": {"add": [route]}}});
    let blocked = app.other.route_table(OTHER_VPC).await;
    app.other.put(&format!("routetables/{blocked}"), &add).await.ok();
    let failed = gateway_endpoint(&app.other, &gateway_body(&[&blocked]), "failed").await;
    let leaving = gateway_endpoint(&app.other, &gateway_body(&[]), "accepted").await;
    let TestApp { running, other, .. } = app;
    // Nobody makes true what is ordered from here on.
    running.stop().await.unwrap();
    other.delete(&format!("{ENDPOINTS}/{leaving}")).await.no_content();
    let creating = text(&other.post(ENDPOINTS, &gateway_body(&[&default])).await.ok()["id"]);
    let tables = json!({"routetables": [default]});
    let own = json!([{"Effect": "Deny", "Action": ["*"], "Resource": ["*"]}]);
    let policy = json!({"policy_statement": own});
    for (id, of_tables, of_policy) in [
        (&creating, "2019", None),
        (&failed, "2047", Some("2047")),
        (&leaving, "2018", Some("2018")),
    ] {
        let path = format!("{ENDPOINTS}/{id}");
        let reply = other.put(&format!("{path}/routetables"), &tables).await;
        assert_eq!(reply.refused(), (400, of_tables));
        let reply = other.put(&format!("{path}/policy"), &policy).await;
        match of_policy {
            Some(code) => assert_eq!(reply.refused(), (400, code)),
            None => assert_eq!(reply.ok()["policy_statement"], own),
        }
    }
}
