//! The thirty rules of creating an endpoint service (spec A.4), each at its boundary and one past it.

use std::sync::Arc;

use adit_server::{App, Config, edge};
use serde_json::{Value, json};

use crate::app::{
    Client, DEMO_PORT, DEMO_SUBNET, DEMO_VPC, NOBODY, OTHER_PORT, OTHER_VPC, SERVICES, TestApp, service_body,
    text,
};

/// One field of the request changed.
fn with(field: &str, value: Value) -> Value {
    let mut body = service_body(80);
    body[field] = value;
    body
}

/// One field of the request left out.
fn without(field: &str) -> Value {
    let mut body = service_body(80);
    body.as_object_mut().unwrap().remove(field);
    body
}

/// Another only mapping.
fn mapping(mapping: Value) -> Value {
    with("ports", json!([mapping]))
}

fn mappings(n: u32) -> Value {
    (1..=n)
        .map(|p| json!({"client_port": p, "server_port": 80}))
        .collect()
}

fn tags(n: u32) -> Value {
    (1..=n)
        .map(|i| json!({"key": format!("k{i}"), "value": "v"}))
        .collect()
}

/// The request is refused with the code, and nothing has changed.
async fn refused(client: &Client, before: &Value, rule: u8, body: &Value, code: &str) {
    let reply = client.post(SERVICES, body).await;
    assert_eq!(reply.refused(), (400, code), "rule {rule}: {body} {}", reply.text);
    assert_eq!(client.world().await, *before, "rule {rule}: {body}");
}

/// The request is accepted; what it made is taken away again.
async fn accepted(client: &Client, rule: u8, body: &Value) -> Value {
    let reply = client.post(SERVICES, body).await;
    assert_eq!(reply.status, 200, "rule {rule}: {body} {}", reply.text);
    client.remove_service(reply.body["id"].as_str().unwrap()).await;
    reply.body
}

#[tokio::test]
async fn rules_1_to_20_of_the_request_s_own_form() {
    let app = TestApp::start().await;
    let tag = |key: &str, value: &str| with("tags", json!([{"key": key, "value": value}]));
    let port = |client: Value, server: Value| mapping(json!({"client_port": client, "server_port": server}));
    let over = [
        (1, json!([]), "1004"),
        (1, json!(null), "1004"),
        (1, json!("x"), "1004"),
        (2, without("port_id"), "2002"),
        (2, with("port_id", json!(null)), "2002"),
        (2, with("port_id", json!("")), "2002"),
        (2, with("port_id", json!("  ")), "2002"),
        (3, with("port_id", json!("port-1")), "3063"),
        (3, with("port_id", json!(1)), "3063"),
        (3, with("port_id", json!(&DEMO_PORT[1..])), "3063"),
        (3, with("port_id", json!(DEMO_PORT.replace('-', ""))), "3063"),
        (4, without("vpc_id"), "2011"),
        (4, with("vpc_id", json!("")), "2011"),
        (5, with("vpc_id", json!("vpc")), "0020"),
        (5, with("vpc_id", json!([])), "0020"),
        (6, without("server_type"), "3021"),
        (6, with("server_type", json!("vm")), "3021"),
        (6, with("server_type", json!("ECS")), "3021"),
        (6, with("server_type", json!(1)), "3021"),
        (7, with("service_name", json!("a".repeat(17))), "3076"),
        (7, with("service_name", json!("a.b")), "3076"),
        (7, with("service_name", json!("ä")), "3076"),
        (7, with("service_name", json!(5)), "3076"),
        (8, with("approval_enabled", json!("true")), "0002"),
        (8, with("approval_enabled", json!(1)), "0002"),
        (9, with("service_type", json!("gateway")), "0002"),
        (9, with("service_type", json!("other")), "0002"),
        (9, with("service_type", json!(1)), "0002"),
        (10, without("ports"), "2028"),
        (10, with("ports", json!([])), "2028"),
        (10, with("ports", json!({})), "3004"),
        (10, with("ports", json!("80")), "3004"),
        (10, mapping(json!({"client_port": 1})), "2028"),
        (10, mapping(json!({"server_port": 1})), "2028"),
        (11, with("ports", mappings(201)), "3074"),
        (12, port(json!(0), json!(1)), "3004"),
        (12, port(json!(65536), json!(1)), "3004"),
        (12, port(json!(-1), json!(1)), "3004"),
        (12, port(json!("80"), json!(1)), "3004"),
        (12, port(json!(1.5), json!(1)), "3004"),
        (12, port(json!(true), json!(1)), "3004"),
        (13, port(json!(1), json!(0)), "3043"),
        (13, port(json!(1), json!(65536)), "3043"),
        (13, port(json!(1), json!("80")), "3043"),
        (
            14,
            mapping(json!({"client_port": 1, "server_port": 1, "protocol": "UDP"})),
            "3075",
        ),
        (
            14,
            mapping(json!({"client_port": 1, "server_port": 1, "protocol": 6})),
            "3075",
        ),
        (
            15,
            with(
                "ports",
                json!([{"client_port": 1, "server_port": 1}, {"client_port": 1, "server_port": 2}]),
            ),
            "3004",
        ),
        (
            15,
            with(
                "ports",
                json!([{"client_port": 1, "server_port": 1}, {"client_port": 1, "server_port": 1, "protocol": "tcp"}]),
            ),
            "3004",
        ),
        (16, with("tcp_proxy", json!("CLOSE")), "0002"),
        (16, with("tcp_proxy", json!(false)), "0002"),
        (18, with("tags", json!([{"value": "v"}])), "3066"),
        (18, tag("", "v"), "3066"),
        (18, tag(&"ü".repeat(37), "v"), "3072"),
        (18, tag("k", &"ü".repeat(44)), "3073"),
        (18, tag("a b", "v"), "3068"),
        (18, tag("k", "a.b"), "3068"),
        (
            18,
            with("tags", json!([{"key": "k"}, {"key": "k", "value": "v"}])),
            "3067",
        ),
        (18, with("tags", tags(21)), "3069"),
        (18, with("tags", json!({})), "0002"),
        (19, with("description", json!("ü".repeat(129))), "0002"),
        (19, with("description", json!("a<b")), "0002"),
        (19, with("description", json!("a>b")), "0002"),
        (19, with("description", json!(1)), "0002"),
        (20, with("pool_id", json!("pool")), "0002"),
        (20, with("pool_id", json!(1)), "0002"),
    ];
    let before = app.demo.world().await;
    for (rule, body, code) in &over {
        refused(&app.demo, &before, *rule, body, code).await;
    }
    let at = [
        (1, service_body(80)),
        (5, with("vpc_id", json!(DEMO_VPC.to_uppercase()))),
        (6, with("server_type", json!("VIP"))),
        (6, with("server_type", json!("BMS"))),
        (7, with("service_name", json!("a".repeat(16)))),
        (7, with("service_name", json!("-_Zz09"))),
        (7, with("service_name", json!("7"))),
        (7, with("service_name", json!(""))),
        (7, with("service_name", json!(null))),
        (8, with("approval_enabled", json!(null))),
        (9, with("service_type", json!("INTERFACE"))),
        (11, with("ports", mappings(200))),
        (13, port(json!(1), json!(1))),
        (13, port(json!(65535), json!(65535))),
        (
            14,
            mapping(json!({"client_port": 1, "server_port": 1, "protocol": ""})),
        ),
        (
            14,
            mapping(json!({"client_port": 1, "server_port": 1, "protocol": null})),
        ),
        (
            14,
            mapping(json!({"client_port": 1, "server_port": 1, "protocol": "tCp"})),
        ),
        (
            15,
            with(
                "ports",
                json!([{"client_port": 1, "server_port": 1}, {"client_port": 2, "server_port": 1}]),
            ),
        ),
        // All five modes are taken; those that no gateway can serve fail later, and say so.
        (16, with("tcp_proxy", json!("close"))),
        (17, with("tcp_proxy", json!("toa_open"))),
        (17, with("tcp_proxy", json!("open"))),
        (16, with("tcp_proxy", json!("proxy_open"))),
        (16, with("tcp_proxy", json!("proxy_vni"))),
        (18, tag(&"ü".repeat(36), &"7".repeat(43))),
        (18, tag("k", "")),
        (18, with("tags", json!([{"key": "k"}]))),
        (18, with("tags", tags(20))),
        (19, with("description", json!("ü".repeat(128)))),
        (20, with("pool_id", json!(null))),
    ];
    for (rule, body) in &at {
        accepted(&app.demo, *rule, body).await;
    }
}

#[tokio::test]
async fn the_first_broken_rule_is_the_one_that_is_told() {
    let app = TestApp::start().await;
    // Each step mends the rule that was told, and the next one is.
    let mut body = json!({
        "port_id": "", "vpc_id": "", "server_type": "X", "service_name": "a.b", "approval_enabled": 1,
        "service_type": "gateway", "ports": [{"client_port": 0, "server_port": 0, "protocol": "UDP"}],
        "tcp_proxy": "x", "tags": [{"key": ""}], "description": "<", "pool_id": "p",
    });
    for (code, field, mended) in [
        ("2002", "port_id", json!("x")),
        ("3063", "port_id", json!(NOBODY)),
        ("2011", "vpc_id", json!("x")),
        ("0020", "vpc_id", json!(NOBODY)),
        ("3021", "server_type", json!("LB")),
        ("3076", "service_name", json!("a")),
        ("0002", "approval_enabled", json!(true)),
        ("0002", "service_type", json!("interface")),
        (
            "3004",
            "ports",
            json!([{"client_port": 1, "server_port": 0, "protocol": "UDP"}]),
        ),
        (
            "3043",
            "ports",
            json!([{"client_port": 1, "server_port": 1, "protocol": "UDP"}]),
        ),
        ("3075", "ports", json!([{"client_port": 1, "server_port": 1}])),
        ("0002", "tcp_proxy", json!("close")),
        ("3066", "tags", json!([])),
        ("0002", "description", json!("")),
        ("0002", "pool_id", json!(NOBODY)),
        ("2001", "vpc_id", json!(DEMO_VPC)),
        ("3008", "port_id", json!(DEMO_PORT)),
        ("3021", "server_type", json!("VM")),
        ("2038", "pool_id", json!(null)),
    ] {
        let reply = app.demo.post(SERVICES, &body).await;
        assert_eq!(reply.refused(), (400, code), "{body}");
        let message = reply.body["error_msg"].as_str().unwrap();
        assert!(message.contains(field), "{message} does not name {field}");
        body[field] = mended;
    }
    app.demo.post(SERVICES, &body).await.ok();
}

#[tokio::test]
async fn rules_21_to_25_of_what_the_request_names() {
    let app = TestApp::start().await;
    let (vpc, subnet) = app.demo.vpc("10.9.0.0/16", "10.9.0.0/24").await;
    let elsewhere = app.demo.port(&subnet).await;
    let neutron = app.demo.get(&format!("subnets/{DEMO_SUBNET}")).await.ok();
    let body =
        json!({"loadbalancer": {"name": "l", "vip_subnet_id": neutron["subnet"]["neutron_subnet_id"]}});
    let balancer = app.demo.post("/v2.0/lbaas/loadbalancers", &body).await;
    let balancer = text(&balancer.body["loadbalancer"]["vip_port_id"]);
    let of = |vpc: &str, port: &str, server_type: &str| {
        let mut body = service_body(80);
        body["vpc_id"] = json!(vpc);
        body["port_id"] = json!(port);
        body["server_type"] = json!(server_type);
        body
    };
    let before = app.demo.world().await;
    for (rule, body, code) in [
        (21, of(NOBODY, DEMO_PORT, "VM"), "2001"),
        // Another tenant's VPC does not exist, and neither does another tenant's port.
        (21, of(OTHER_VPC, DEMO_PORT, "VM"), "2001"),
        (21, of(OTHER_VPC, OTHER_PORT, "VM"), "2001"),
        (22, of(DEMO_VPC, NOBODY, "VM"), "3008"),
        (22, of(DEMO_VPC, OTHER_PORT, "VM"), "3008"),
        (23, of(DEMO_VPC, &elsewhere, "VM"), "3042"),
        (23, of(&vpc, DEMO_PORT, "VM"), "3042"),
        (24, of(DEMO_VPC, DEMO_PORT, "LB"), "3021"),
        (24, of(DEMO_VPC, &balancer, "VM"), "3021"),
        (24, of(DEMO_VPC, &balancer, "BMS"), "3021"),
        (25, with("pool_id", json!(NOBODY)), "2038"),
    ] {
        refused(&app.demo, &before, rule, &body, code).await;
    }
    accepted(&app.demo, 23, &of(&vpc, &elsewhere, "VM")).await;
    accepted(&app.demo, 24, &of(DEMO_VPC, &balancer, "LB")).await;
    accepted(&app.demo, 24, &of(DEMO_VPC, &balancer, "VIP")).await;
    let made = accepted(&app.demo, 24, &of(DEMO_VPC, DEMO_PORT, "BMS")).await;
    accepted(&app.demo, 25, &with("pool_id", made["pool_id"].clone())).await;
}

#[tokio::test]
async fn rule_26_a_block_that_shares_one_address_with_the_reserved_range() {
    let app = TestApp::start().await;
    for (block, subnet, overlaps) in [
        ("198.19.0.0/16", "198.19.0.0/24", true),
        ("198.18.0.0/15", "198.18.7.0/24", true),
        ("198.19.200.0/24", "198.19.200.0/24", true),
        ("198.19.128.0/30", "198.19.128.0/30", true),
        ("198.19.255.252/30", "198.19.255.252/30", true),
        ("128.0.0.0/1", "130.0.0.0/24", true),
        ("198.19.0.0/17", "198.19.0.0/24", false),
        ("198.19.127.252/30", "198.19.127.252/30", false),
        ("198.20.0.0/30", "198.20.0.0/30", false),
    ] {
        let (vpc, subnet) = app.demo.vpc(block, subnet).await;
        let mut body = with("port_id", json!(app.demo.port(&subnet).await));
        body["vpc_id"] = json!(vpc);
        if overlaps {
            refused(&app.demo, &app.demo.world().await, 26, &body, "3009").await;
        } else {
            accepted(&app.demo, 26, &body).await;
        }
    }
}

#[tokio::test]
async fn rule_27_a_custom_route_into_the_reserved_range() {
    let app = TestApp::start().await;
    // A default route is no obstacle: any VPC behind a NAT has one.
    for harmless in ["0.0.0.0/0", "198.19.0.0/17", "198.20.0.0/16"] {
        app.demo.add_route(DEMO_VPC, harmless).await;
    }
    accepted(&app.demo, 27, &service_body(80)).await;
    for overlapping in [
        "198.19.128.0/17",
        "198.18.0.0/15",
        "198.19.255.255/32",
        "128.0.0.0/1",
    ] {
        let (vpc, subnet) = app.demo.vpc("10.9.0.0/16", "10.9.0.0/24").await;
        let mut body = with("port_id", json!(app.demo.port(&subnet).await));
        body["vpc_id"] = json!(vpc);
        accepted(&app.demo, 27, &body).await;
        app.demo.add_route(&vpc, overlapping).await;
        refused(&app.demo, &app.demo.world().await, 27, &body, "3017").await;
    }
}

#[tokio::test]
async fn rule_28_a_pair_is_one_service_s() {
    let app = TestApp::start().await;
    let spare = app.demo.port(DEMO_SUBNET).await;
    let id = app.demo.service(80, true).await;
    let before = app.demo.world().await;
    let mut clash = with(
        "ports",
        json!([{"client_port": 9, "server_port": 79}, {"client_port": 8, "server_port": 80}]),
    );
    refused(&app.demo, &before, 28, &clash, "3044").await;
    clash["port_id"] = json!(spare);
    accepted(&app.demo, 28, &clash).await;
    accepted(&app.demo, 28, &service_body(79)).await;
    app.demo.remove_service(&id).await;
    accepted(&app.demo, 28, &service_body(80)).await;
}

#[tokio::test]
async fn rules_17_and_29_where_the_operator_wants_them() {
    let app = TestApp::start().await;
    let running = &app.running.app;
    let strict = App::new(
        Config {
            strict_toa: true,
            services_per_port_max: Some(2),
            ..running.config.clone()
        },
        Arc::clone(&running.store),
        running.cache.clone(),
        Arc::clone(&running.identity),
        Arc::clone(&running.network),
    );
    let demo = app.demo.at(edge::finish(adit_server::router(strict).0));
    let before = demo.world().await;
    for mode in ["toa_open", "open"] {
        refused(&demo, &before, 17, &with("tcp_proxy", json!(mode)), "0002").await;
    }
    accepted(&demo, 17, &with("tcp_proxy", json!("proxy_open"))).await;

    let first = demo.service(80, true).await;
    demo.service(81, true).await;
    refused(&demo, &demo.world().await, 29, &service_body(82), "3056").await;
    // A change of one of the two is none too many.
    let change = json!({"ports": [{"client_port": 1, "server_port": 82}]});
    demo.put(&format!("{SERVICES}/{first}"), &change).await.ok();
    demo.remove_service(&first).await;
    demo.service(83, true).await;
}

#[tokio::test]
async fn rule_30_the_quota() {
    let app = TestApp::start().await;
    for n in 1..=20 {
        app.demo.post(SERVICES, &service_body(n)).await.ok();
    }
    app.demo
        .until(&format!("{SERVICES}?status=creating"), |r| {
            r.body["total_count"] == 0
        })
        .await;
    let before = app.demo.world().await;
    refused(&app.demo, &before, 30, &service_body(21), "1018").await;
    let reply = app.demo.post(SERVICES, &service_body(21)).await;
    assert_eq!(reply.body["error_code"], "Endpoint.1018");
    // A clash is told before the quota.
    refused(&app.demo, &before, 28, &service_body(20), "3044").await;

    let none = TestApp::builder().quotas(0, 0).start().await;
    let reply = none.demo.post(SERVICES, &service_body(1)).await;
    assert_eq!(reply.refused(), (400, "1018"));
}
