//! The rules of creating a gateway endpoint, in the order of their table (spec A.13).

use serde_json::{Value, json};

use crate::{
    app::{DEMO_VPC, ENDPOINTS, NOBODY, OTHER_SUBNET, OTHER_VPC, TestApp},
    gateway_endpoint::{gateway_body, gateway_endpoint},
    public_service::DNS,
};

fn with(field: &str, value: Value) -> Value {
    let mut body = gateway_body(&[]);
    body[field] = value;
    body
}

#[tokio::test]
async fn each_rule_has_its_code_and_changes_nothing() {
    let app = TestApp::start().await;
    let (vpc, _) = app.other.vpc("10.9.0.0/16", "10.9.0.0/24").await;
    let elsewhere = app.other.default_table(&vpc).await;
    let theirs = app.demo.default_table(DEMO_VPC).await;
    let default = app.other.default_table(OTHER_VPC).await;
    let statement = json!({"Effect": "Allow", "Action": ["*"], "Resource": ["*"]});
    let before = app.other.world().await;
    for (field, value, expected) in [
        ("endpoint_service_id", json!(null), (400, "2029")),
        ("vpc_id", json!(null), (400, "2011")),
        ("enable_dns", json!("x"), (400, "2033")),
        ("endpoint_service_id", json!(NOBODY), (400, "2003")),
        ("vpc_id", json!(NOBODY), (400, "2001")),
        ("vpc_id", json!(DEMO_VPC), (400, "2001")),
        ("whitelist", json!(["10.0.0.1"]), (400, "2044")),
        ("whitelist", json!("10.0.0.1"), (400, "2044")),
        ("whitelist", json!(["x"]), (400, "2044")),
        ("enable_whitelist", json!("x"), (400, "0002")),
        ("enable_whitelist", json!(true), (400, "2044")),
        ("routetables", json!("x"), (400, "1019")),
        ("routetables", json!(["x"]), (400, "1019")),
        ("routetables", json!([default, 1]), (400, "1019")),
        ("routetables", json!([default, elsewhere]), (400, "1019")),
        // Another project's does not exist.
        ("routetables", json!([default, theirs]), (404, "4030")),
        ("routetables", json!([NOBODY]), (404, "4030")),
        ("policy_statement", json!("x"), (400, "2048")),
        ("policy_statement", json!([{}]), (400, "2048")),
        ("policy_statement", json!(vec![statement; 11]), (400, "2048")),
    ] {
        let reply = app.other.post(ENDPOINTS, &with(field, value.clone())).await;
        assert_eq!(reply.refused(), expected, "{field} {value}: {}", reply.text);
        if let Some(shown) = value.as_str() {
            let message = &reply.body["error_msg"];
            let named = message.as_str().unwrap().contains(shown);
            assert!(named, "{field} {value}: {message}");
        }
    }
    app.other.add_route(OTHER_VPC, "198.19.200.0/24").await;
    let reply = app.other.post(ENDPOINTS, &gateway_body(&[])).await;
    assert_eq!(reply.refused(), (400, "3017"));
    assert_eq!(app.other.world().await, before);
}

#[tokio::test]
async fn one_table_serves_one_endpoint_of_a_service() {
    let app = TestApp::start().await;
    let default = app.other.default_table(OTHER_VPC).await;
    gateway_endpoint(&app.other, &gateway_body(&[]), "accepted").await;
    for body in [gateway_body(&[]), gateway_body(&[&default])] {
        assert_eq!(app.other.post(ENDPOINTS, &body).await.refused(), (400, "2039"));
    }
    // Another VPC has tables of its own, and so has another tenant.
    let (vpc, _) = app.other.vpc("10.9.0.0/16", "10.9.0.0/24").await;
    gateway_endpoint(&app.other, &with("vpc_id", json!(vpc)), "accepted").await;
    gateway_endpoint(&app.demo, &with("vpc_id", json!(DEMO_VPC)), "accepted").await;
}

#[tokio::test]
async fn an_interface_endpoint_takes_no_policy_and_minds_no_tables() {
    let app = TestApp::start().await;
    let mut body = json!({"endpoint_service_id": DNS, "vpc_id": OTHER_VPC, "subnet_id": OTHER_SUBNET});
    body["policy_statement"] = json!([{"Effect": "Allow", "Action": ["*"], "Resource": ["*"]}]);
    assert_eq!(app.other.post(ENDPOINTS, &body).await.refused(), (400, "2048"));
    body["policy_statement"] = json!([]);
    body["routetables"] = json!("x");
    let created = app.other.post(ENDPOINTS, &body).await.ok();
    assert!(created.get("routetables").is_none() && created.get("policy_statement").is_none());
}

#[tokio::test]
async fn the_quota_counts_them_too() {
    let app = TestApp::builder().quotas(1, 1).start().await;
    let id = gateway_endpoint(&app.other, &gateway_body(&[]), "accepted").await;
    let table = app.other.route_table(OTHER_VPC).await;
    let more = gateway_body(&[&table]);
    assert_eq!(app.other.post(ENDPOINTS, &more).await.refused(), (400, "1018"));
    app.other.delete(&format!("{ENDPOINTS}/{id}")).await.no_content();
    gateway_endpoint(&app.other, &more, "accepted").await;
}
