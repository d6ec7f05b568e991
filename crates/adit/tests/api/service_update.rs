//! Changing an endpoint service (spec A.7).

use serde_json::{Value, json};

use crate::app::{
    DEMO_PORT, DEMO_SUBNET, ENDPOINTS, NOBODY, OTHER_PORT, SERVICES, TestApp, endpoint_body, service_body,
    text,
};

#[tokio::test]
async fn a_change_shows_at_once_and_what_is_left_out_stays() {
    let app = TestApp::start().await;
    let id = app.demo.service(80, true).await;
    let path = format!("{SERVICES}/{id}");
    let mut expected = app.demo.get(&path).await.ok();
    let mappings = json!([{"client_port": 1, "server_port": 2, "protocol": "TCP"}]);
    for (change, field, shown) in [
        (
            json!({"approval_enabled": false}),
            "approval_enabled",
            json!(false),
        ),
        (json!({"description": "d"}), "description", json!("d")),
        (json!({"description": ""}), "description", json!("")),
        (
            json!({"service_name": "n"}),
            "service_name",
            json!(format!("eu-de.n.{id}")),
        ),
        (
            json!({"service_name": ""}),
            "service_name",
            json!(format!("eu-de.{id}")),
        ),
        (json!({"ports": mappings}), "ports", mappings),
        (json!({"tcp_proxy": "close"}), "tcp_proxy", json!("close")),
        // What cannot be changed is ignored beside what can.
        (
            json!({"description": "e", "vpc_id": NOBODY, "server_type": "LB", "tags": [{"key": "k"}], "pool_id": 1}),
            "description",
            json!("e"),
        ),
        (
            json!({"description": "f", "ports": null}),
            "description",
            json!("f"),
        ),
    ] {
        let changed = app.demo.put(&path, &change).await.ok();
        expected[field] = shown;
        expected["updated_at"] = changed["updated_at"].clone();
        assert_eq!(changed, expected, "{change}");
        assert_eq!(app.demo.get(&path).await.ok(), expected, "{change}");
    }
}

#[tokio::test]
async fn approval_acts_on_later_endpoints_only() {
    let app = TestApp::start().await;
    let service = app.service(80, true).await;
    let waiting = app.endpoint(&service, "pendingAcceptance").await;
    let change = json!({"approval_enabled": false});
    app.demo.put(&format!("{SERVICES}/{service}"), &change).await.ok();
    app.endpoint(&service, "accepted").await;
    let shown = app.other.get(&format!("{ENDPOINTS}/{waiting}")).await.ok();
    assert_eq!(shown["status"], "pendingAcceptance");
    // The owner may decide all the same.
    let decided = app.decide(&service, "receive", &waiting).await.ok();
    assert_eq!(decided["connections"][0]["status"], "accepted");
}

#[tokio::test]
async fn a_rename_follows_to_the_endpoints() {
    let app = TestApp::start().await;
    let service = app.service(80, true).await;
    let endpoint = app.endpoint(&service, "pendingAcceptance").await;
    let change = json!({"service_name": "renamed"});
    app.demo.put(&format!("{SERVICES}/{service}"), &change).await.ok();
    let name = format!("eu-de.renamed.{service}");
    let shown = app.other.get(&format!("{ENDPOINTS}/{endpoint}")).await.ok();
    assert_eq!(shown["endpoint_service_name"], name.as_str());
    let found = app
        .other
        .get(&format!("{ENDPOINTS}?endpoint_service_name=RENAMED"))
        .await
        .ok();
    assert_eq!(found["endpoints"][0], shown);
    // An endpoint that is made now has the new name, and one that outlives its service keeps it.
    let created = app.other.post(ENDPOINTS, &endpoint_body(&service)).await.ok();
    assert_eq!(created["endpoint_service_name"], name.as_str());
    app.demo.remove_service(&service).await;
    let shown = app.other.get(&format!("{ENDPOINTS}/{endpoint}")).await.ok();
    assert_eq!(shown["endpoint_service_name"], name.as_str());
}

#[tokio::test]
async fn every_rule_of_a_change_has_its_code() {
    let app = TestApp::start().await;
    let id = app.demo.service(80, true).await;
    app.demo.service(443, true).await;
    let (vpc, subnet) = app.demo.vpc("10.9.0.0/16", "10.9.0.0/24").await;
    let elsewhere = app.demo.port(&subnet).await;
    let balancer = {
        let neutron = app.demo.get(&format!("subnets/{DEMO_SUBNET}")).await.ok();
        let range = neutron["subnet"]["neutron_subnet_id"].clone();
        let body = json!({"loadbalancer": {"name": "l", "vip_subnet_id": range}});
        let reply = app.demo.post("/v2.0/lbaas/loadbalancers", &body).await;
        text(&reply.body["loadbalancer"]["vip_port_id"])
    };
    let mapping =
        |client: Value, server: Value| json!({"ports": [{"client_port": client, "server_port": server}]});
    let many = |n: u32| -> Value {
        (1..=n)
            .map(|p| json!({"client_port": p, "server_port": 7}))
            .collect()
    };
    let path = format!("{SERVICES}/{id}");
    let before = app.demo.world().await;
    for (change, code) in [
        (json!({}), "2002"),
        (json!({"ports": null, "whatever": 1, "vpc_id": vpc}), "2002"),
        (json!({"approval_enabled": "yes"}), "0002"),
        (json!({"service_name": "seventeen-letters"}), "3076"),
        (json!({"service_name": "a.b"}), "3076"),
        (json!({"service_name": 1}), "3076"),
        (json!({"ports": []}), "2028"),
        (json!({"ports": {}}), "3004"),
        (json!({"ports": [{"client_port": 1}]}), "2028"),
        (mapping(json!(0), json!(1)), "3004"),
        (mapping(json!(1), json!(65536)), "3043"),
        (json!({"ports": many(201)}), "3074"),
        (
            json!({"ports": [{"client_port": 1, "server_port": 1, "protocol": "UDP"}]}),
            "3075",
        ),
        (
            json!({"ports": [{"client_port": 1, "server_port": 1}, {"client_port": 1, "server_port": 2}]}),
            "3004",
        ),
        (mapping(json!(1), json!(443)), "3044"),
        (json!({"port_id": "x"}), "3063"),
        (json!({"port_id": NOBODY}), "3008"),
        (json!({"port_id": OTHER_PORT}), "3008"),
        (json!({"port_id": elsewhere}), "3042"),
        (json!({"port_id": balancer}), "3021"),
        (json!({"tcp_proxy": "on"}), "0002"),
        (json!({"tcp_proxy": true}), "0002"),
        (json!({"description": "ü".repeat(129)}), "0002"),
        (json!({"description": "<"}), "0002"),
        // All or nothing.
        (
            json!({"description": "new", "approval_enabled": false, "ports": [{"client_port": 1, "server_port": 443}]}),
            "3044",
        ),
    ] {
        assert_eq!(
            app.demo.put(&path, &change).await.refused(),
            (400, code),
            "{change}"
        );
        assert_eq!(app.demo.world().await, before, "{change}");
    }
    for fits in [
        json!({"ports": many(200)}),
        json!({"description": "ü".repeat(128)}),
    ] {
        app.demo.put(&path, &fits).await.ok();
    }
}

#[tokio::test]
async fn claims_follow_mappings_and_backend() {
    let app = TestApp::start().await;
    let spare = app.demo.port(DEMO_SUBNET).await;
    let id = app.demo.service(80, true).await;
    let path = format!("{SERVICES}/{id}");
    let on = |port: &str, server_port: u16| {
        let mut body = service_body(server_port);
        body["port_id"] = json!(port);
        body
    };
    let used = async |port: &str, server_port: u16| {
        let reply = app.demo.post(SERVICES, &on(port, server_port)).await;
        if reply.status != 200 {
            assert_eq!(reply.refused(), (400, "3044"));
            return true;
        }
        app.demo.remove_service(reply.body["id"].as_str().unwrap()).await;
        false
    };
    assert!(used(DEMO_PORT, 80).await);
    let ports = |n: u16| json!([{"client_port": 1, "server_port": n}]);

    // Its own pairs are no obstacle; the old ones are free.
    app.demo.put(&path, &json!({"ports": ports(80)})).await.ok();
    app.demo.put(&path, &json!({"ports": ports(81)})).await.ok();
    assert!(!used(DEMO_PORT, 80).await);
    assert!(used(DEMO_PORT, 81).await);

    // Another backend port takes the pairs along.
    let moved = app.demo.put(&path, &json!({"port_id": spare})).await.ok();
    assert_eq!(
        (&moved["port_id"], &moved["status"]),
        (&json!(spare), &json!("available"))
    );
    assert!(!used(DEMO_PORT, 81).await);
    assert!(used(&spare, 81).await);

    // Both at once are checked as the new pair: 81 is taken there, 82 is not.
    let blocker = app.demo.service_of(&on(DEMO_PORT, 81)).await;
    let both = |n: u16| json!({"port_id": DEMO_PORT, "ports": ports(n)});
    assert_eq!(
        app.demo
            .put(&path, &json!({"port_id": DEMO_PORT}))
            .await
            .refused(),
        (400, "3044")
    );
    assert_eq!(app.demo.put(&path, &both(81)).await.refused(), (400, "3044"));
    app.demo.put(&path, &both(82)).await.ok();
    assert!(used(DEMO_PORT, 82).await);
    assert!(!used(&spare, 81).await);
    app.demo.remove_service(&blocker).await;
    app.demo.remove_service(&id).await;
    for (port, server_port) in [(DEMO_PORT, 81), (DEMO_PORT, 82), (&*spare, 81)] {
        assert!(!used(port, server_port).await);
    }
}

#[tokio::test]
async fn only_an_available_service_changes() {
    let app = TestApp::start().await;
    let mut body = service_body(80);
    body["tcp_proxy"] = json!("proxy_open");
    let id = text(&app.demo.post(SERVICES, &body).await.ok()["id"]);
    let path = format!("{SERVICES}/{id}");
    app.demo.until(&path, |r| r.body["status"] == "failed").await;
    let before = app.demo.world().await;
    let change = json!({"tcp_proxy": "close"});
    assert_eq!(app.demo.put(&path, &change).await.refused(), (400, "3045"));
    assert_eq!(app.demo.world().await, before);
}
