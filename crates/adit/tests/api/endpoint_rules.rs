//! The rules of creating an interface endpoint (spec A.13), each at its boundary and one past it.

use serde_json::{Value, json};

use crate::app::{
    DEMO_SUBNET, DEMO_VPC, ENDPOINTS, NOBODY, OTHER_SUBNET, OTHER_VPC, SERVICES, TestApp, endpoint_body,
    service_body, text,
};

/// The request is refused, and nothing has changed for either tenant.
async fn refused(app: &TestApp, rule: u8, body: &Value, expected: (u16, &str)) {
    let before = (app.other.world().await, app.demo.world().await);
    let reply = app.other.post(ENDPOINTS, body).await;
    assert_eq!(reply.refused(), expected, "rule {rule}: {body} {}", reply.text);
    assert_eq!(
        (app.other.world().await, app.demo.world().await),
        before,
        "rule {rule}: {body}"
    );
}

/// The request is accepted; what it made is taken away again.
async fn accepted(app: &TestApp, rule: u8, body: &Value) -> Value {
    let reply = app.other.post(ENDPOINTS, body).await;
    assert_eq!(reply.status, 200, "rule {rule}: {body} {}", reply.text);
    let path = format!("{ENDPOINTS}/{}", text(&reply.body["id"]));
    let shown = app.other.get(&path).await.ok();
    app.other.delete(&path).await.no_content();
    app.other.until_gone(&path).await;
    shown
}

/// A request of one field, changed or (as `Null`) left out.
fn with(service: &str, field: &str, value: Value) -> Value {
    let mut body = endpoint_body(service);
    body[field] = value;
    body
}

#[tokio::test]
async fn rules_1_to_6_of_the_request_s_own_form() {
    let app = TestApp::start().await;
    let service = app.service(80, true).await;
    let of = |field: &str, value: Value| with(&service, field, value);
    let tags = |n: u32| -> Value { (0..n).map(|i| json!({"key": format!("k{i}")})).collect() };
    for (rule, body, code) in [
        (1, json!([]), "1004"),
        (2, of("endpoint_service_id", json!(null)), "2029"),
        (2, of("endpoint_service_id", json!(" ")), "2029"),
        (2, of("endpoint_service_id", json!("x")), "3062"),
        (2, of("endpoint_service_id", json!(1)), "3062"),
        (3, of("vpc_id", json!(null)), "2011"),
        (3, of("vpc_id", json!("")), "2011"),
        (3, of("vpc_id", json!("x")), "0020"),
        (4, of("enable_dns", json!("true")), "2033"),
        (5, of("specification_name", json!(1)), "0015"),
        (5, of("specification_name", json!("large")), "2009"),
        (6, of("tags", json!([{"key": ""}])), "3066"),
        (6, of("tags", json!([{"key": "k".repeat(37)}])), "3072"),
        (
            6,
            of("tags", json!([{"key": "k", "value": "v".repeat(44)}])),
            "3073",
        ),
        (6, of("tags", json!([{"key": "a b"}])), "3068"),
        (6, of("tags", json!([{"key": "k"}, {"key": "k"}])), "3067"),
        (6, of("tags", tags(21)), "3069"),
        (6, of("description", json!("ü".repeat(129))), "0002"),
        (6, of("description", json!("<")), "0002"),
    ] {
        refused(&app, rule, &body, (400, code)).await;
    }
    for (rule, body) in [
        (4, of("enable_dns", json!(true))),
        (5, of("specification_name", json!("default"))),
        (5, of("specification_name", json!(null))),
        (6, of("tags", tags(20))),
        (
            6,
            of("tags", json!([{"key": "k".repeat(36), "value": "v".repeat(43)}])),
        ),
        (6, of("description", json!("ü".repeat(128)))),
    ] {
        accepted(&app, rule, &body).await;
    }
}

#[tokio::test]
async fn rules_7_to_9_of_the_service() {
    let app = TestApp::start().await;
    refused(&app, 7, &endpoint_body(NOBODY), (400, "2003")).await;

    let service = app.demo.service(80, true).await;
    let path = format!("{SERVICES}/{service}/permissions/action");
    let record = |action: &str, permission: &str| json!({"permissions": [permission], "action": action});
    refused(&app, 8, &endpoint_body(&service), (400, "2012")).await;
    for admits in [
        "iam:domain::b4e2d3c5f6a7182930b4c5d6e7f8091a",
        "*",
        "iam:domain::*",
    ] {
        app.demo.post(&path, &record("add", admits)).await.ok();
        accepted(&app, 8, &endpoint_body(&service)).await;
        app.demo.post(&path, &record("remove", admits)).await.ok();
        refused(&app, 8, &endpoint_body(&service), (400, "2012")).await;
    }
    // Somebody else's record, the project's id, and an asterisk inside of an id admit nobody here.
    for admits_not in [
        "iam:domain::a3f1c2d4e5b60718293a4b5c6d7e8f90",
        "iam:domain::7fae0e62e2235f9e95a9edf9a5a34b1e",
        "iam:domain::b4e2d3c5*",
        "iam:domain::B4E2D3C5F6A7182930B4C5D6E7F8091A",
    ] {
        app.demo.post(&path, &record("add", admits_not)).await.ok();
        refused(&app, 8, &endpoint_body(&service), (400, "2012")).await;
    }
    // Whether it may be used is told before whether it can be.
    let mut body = service_body(81);
    body["tcp_proxy"] = json!("proxy_open");
    let failed = text(&app.demo.post(SERVICES, &body).await.ok()["id"]);
    app.demo
        .until(&format!("{SERVICES}/{failed}"), |r| r.body["status"] == "failed")
        .await;
    refused(&app, 8, &endpoint_body(&failed), (400, "2012")).await;
    let own = json!({"endpoint_service_id": failed, "vpc_id": DEMO_VPC, "subnet_id": DEMO_SUBNET});
    assert_eq!(app.demo.post(ENDPOINTS, &own).await.refused(), (400, "2004"));

    let before = app.demo.world().await;
    app.demo
        .delete(&format!("{SERVICES}/{service}"))
        .await
        .no_content();
    let reply = app.other.post(ENDPOINTS, &endpoint_body(&service)).await;
    assert!(["2012", "2003"].contains(&reply.refused().1), "{}", reply.text);
    app.demo.until_gone(&format!("{SERVICES}/{service}")).await;
    refused(&app, 7, &endpoint_body(&service), (400, "2003")).await;
    assert_ne!(app.demo.world().await, before);
}

#[tokio::test]
async fn rules_10_to_13_of_the_network() {
    let app = TestApp::start().await;
    let service = app.service(80, true).await;
    let of = |field: &str, value: Value| with(&service, field, value);
    let (vpc, subnet) = app.other.vpc("10.9.0.0/16", "10.9.0.0/24").await;
    let place = |vpc: &str, subnet: &str| {
        let mut body = with(&service, "vpc_id", json!(vpc));
        body["subnet_id"] = json!(subnet);
        body
    };
    let alone = app
        .other
        .post("/v2.0/networks", &json!({"network": {"name": "n"}}))
        .await;
    let alone = text(&alone.body["network"]["id"]);
    for (rule, body, expected) in [
        (10, of("vpc_id", json!(NOBODY)), (400, "2001")),
        (10, of("vpc_id", json!(DEMO_VPC)), (400, "2001")),
        (11, of("subnet_id", json!(null)), (400, "2010")),
        (11, of("subnet_id", json!("")), (400, "2010")),
        (11, of("subnet_id", json!("x")), (400, "0023")),
        (12, of("subnet_id", json!(NOBODY)), (404, "4004")),
        (12, of("subnet_id", json!(DEMO_SUBNET)), (404, "4004")),
        (12, of("subnet_id", json!(subnet)), (400, "2037")),
        (12, place(&vpc, OTHER_SUBNET), (400, "2037")),
        (12, of("subnet_id", json!(alone)), (400, "2037")),
    ] {
        refused(&app, rule, &body, expected).await;
    }
    accepted(&app, 12, &place(&vpc, &subnet)).await;
    for (block, subnet, overlaps) in [
        ("198.19.0.0/16", "198.19.128.0/24", true),
        ("198.18.0.0/15", "198.19.255.0/24", true),
        ("128.0.0.0/1", "198.0.0.0/8", true),
        // The subnet counts here, not the whole VPC.
        ("198.18.0.0/15", "198.18.0.0/24", false),
        ("198.19.0.0/16", "198.19.127.0/24", false),
    ] {
        let (vpc, subnet) = app.other.vpc(block, subnet).await;
        let body = place(&vpc, &subnet);
        match overlaps {
            true => refused(&app, 13, &body, (400, "3009")).await,
            false => drop(accepted(&app, 13, &body).await),
        }
    }
    app.other.add_route(&vpc, "0.0.0.0/0").await;
    accepted(&app, 13, &place(&vpc, &subnet)).await;
    app.other.add_route(&vpc, "198.19.128.0/30").await;
    refused(&app, 13, &place(&vpc, &subnet), (400, "3017")).await;
}

#[tokio::test]
async fn rules_14_to_16_and_20_of_addresses() {
    let app = TestApp::start().await;
    let service = app.service(80, true).await;
    let of = |field: &str, value: Value| with(&service, field, value);
    let entries = |n: u32| -> Value { (0..n).map(|i| json!(format!("10.0.{i}.0/24"))).collect() };
    // Held by an endpoint from the moment it is ordered, approved or not.
    app.other
        .post(ENDPOINTS, &of("port_ip", json!("10.0.0.50")))
        .await
        .ok();
    let policy = json!([{"Effect": "Allow", "Action": ["obs:*:*"], "Resource": ["obs:*:*:*:*"]}]);
    for (rule, body, code) in [
        (14, of("port_ip", json!("fd00::1")), "2041"),
        (14, of("port_ip", json!("10.0.0")), "2041"),
        (14, of("port_ip", json!("10.0.0.07")), "2041"),
        (14, of("port_ip", json!(167_772_161)), "2041"),
        (14, of("port_ip", json!("10.0.1.1")), "2043"),
        (14, of("port_ip", json!("9.255.255.255")), "2043"),
        (14, of("port_ip", json!("10.0.0.0")), "2043"),
        (14, of("port_ip", json!("10.0.0.255")), "2043"),
        // The gateway, a server's interface, another endpoint.
        (14, of("port_ip", json!("10.0.0.1")), "2042"),
        (14, of("port_ip", json!("10.0.0.20")), "2042"),
        (14, of("port_ip", json!("10.0.0.50")), "2042"),
        (15, of("whitelist", json!(["10.0.0.256"])), "2044"),
        (15, of("whitelist", json!(["10.0.0.0/33"])), "2044"),
        (15, of("whitelist", json!(["::1"])), "2044"),
        (15, of("whitelist", json!(["10.0.0.1", 7])), "2044"),
        (15, of("whitelist", json!("10.0.0.1")), "2044"),
        (15, of("whitelist", entries(21)), "2045"),
        (16, of("enable_whitelist", json!("yes")), "0002"),
        (20, of("policy_statement", policy), "2048"),
    ] {
        refused(&app, rule, &body, (400, code)).await;
    }
    for (rule, field, value) in [
        (14, "port_ip", json!("10.0.0.2")),
        (14, "port_ip", json!("10.0.0.254")),
        (14, "port_ip", json!(null)),
        (15, "whitelist", entries(20)),
        (15, "whitelist", json!(["10.0.0.7/24", "0.0.0.0/0", "1.2.3.4"])),
        (15, "whitelist", json!([])),
        (16, "enable_whitelist", json!(true)),
    ] {
        let shown = accepted(&app, rule, &of(field, value.clone())).await;
        if rule > 14 {
            assert_eq!(shown[field], value);
        }
    }
    accepted(&app, 20, &of("policy_statement", json!([]))).await;
    assert_eq!(app.other.used().await, (1, 0));
}

#[tokio::test]
async fn rule_22_the_quota() {
    let app = TestApp::start().await;
    let service = app.service(80, true).await;
    for _ in 0..50 {
        app.other.post(ENDPOINTS, &endpoint_body(&service)).await.ok();
    }
    refused(&app, 22, &endpoint_body(&service), (400, "1018")).await;
    let reply = app.other.post(ENDPOINTS, &endpoint_body(&service)).await;
    assert_eq!(reply.body["error_code"], "Endpoint.1018");
    // Anything else that is wrong is told before.
    refused(
        &app,
        14,
        &with(&service, "port_ip", json!("10.0.0.1")),
        (400, "2042"),
    )
    .await;
    assert_eq!(app.other.used().await, (50, 0));
    // Quotas are of the project that the endpoint is in.
    let own = json!({"endpoint_service_id": service, "vpc_id": DEMO_VPC, "subnet_id": DEMO_SUBNET});
    app.demo.post(ENDPOINTS, &own).await.ok();
    assert_ne!(OTHER_VPC, DEMO_VPC);
}

#[tokio::test]
async fn the_first_broken_rule_is_the_one_that_is_told() {
    let app = TestApp::start().await;
    let service = app.service(80, true).await;
    let mut body = json!({
        "endpoint_service_id": "x", "vpc_id": "x", "enable_dns": 1, "specification_name": "x", "tags": [{}],
        "description": 1, "subnet_id": "x", "port_ip": "x", "whitelist": 1, "enable_whitelist": 1, "policy_statement": [1],
    });
    for (status, code, field, mended) in [
        (400, "3062", "endpoint_service_id", json!(NOBODY)),
        (400, "0020", "vpc_id", json!(NOBODY)),
        (400, "2033", "enable_dns", json!(false)),
        (400, "2009", "specification_name", json!("default")),
        (400, "3066", "tags", json!([])),
        (400, "0002", "description", json!("")),
        (400, "2003", "endpoint_service_id", json!(service)),
        (400, "2001", "vpc_id", json!(OTHER_VPC)),
        (400, "0023", "subnet_id", json!(NOBODY)),
        (404, "4004", "subnet_id", json!(OTHER_SUBNET)),
        (400, "2041", "port_ip", json!("1.2.3.4")),
        (400, "2043", "port_ip", json!("10.0.0.1")),
        (400, "2042", "port_ip", json!("10.0.0.2")),
        (400, "2044", "whitelist", json!([])),
        (400, "0002", "enable_whitelist", json!(false)),
        (400, "2048", "policy_statement", json!([])),
    ] {
        let reply = app.other.post(ENDPOINTS, &body).await;
        assert_eq!(reply.refused(), (status, code), "{body}");
        let message = reply.body["error_msg"].as_str().unwrap();
        assert!(message.contains(field), "{message} does not name {field}");
        body[field] = mended;
    }
    app.other.post(ENDPOINTS, &body).await.ok();
}
