//! A.13, A.15, A.16: creating, showing and deleting an endpoint.

use serde_json::{Value, json};

use crate::{
    ask::{Asker, NOBODY, set, with},
    process::{BACKEND_SUBNET, BACKEND_VPC, CLIENT_SUBNET, CLIENT_VPC, PROJECT, until},
};

const CREATE: (&str, &str) = ("POST", "vpc-endpoints");

#[test]
fn an_endpoint_s_rules() {
    let mut ask = Asker::start();
    let service = ask.service(json!({"approval_enabled": false}));
    let good = Asker::endpoint_body(&service);
    for body in [json!([]), json!(1), Value::Null] {
        ask.refuse("no object", CREATE, Some(&body), (400, "1004"));
    }
    ask.refuse("no body", CREATE, None, (400, "1004"));
    let blocks = |n: usize| Value::from_iter((0..n).map(|i| json!(format!("10.0.{i}.0/24"))));
    for (field, value, status, code) in [
        ("endpoint_service_id", Value::Null, 400, "2029"),
        ("endpoint_service_id", json!(""), 400, "2029"),
        ("endpoint_service_id", json!("x"), 400, "3062"),
        ("endpoint_service_id", json!(1), 400, "3062"),
        ("vpc_id", Value::Null, 400, "2011"),
        ("vpc_id", json!(" "), 400, "2011"),
        ("vpc_id", json!("x"), 400, "0020"),
        ("vpc_id", json!([]), 400, "0020"),
        ("enable_dns", json!("true"), 400, "2033"),
        ("enable_dns", json!(0), 400, "2033"),
        ("specification_name", json!(1), 400, "0015"),
        ("specification_name", json!("large"), 400, "2009"),
        ("tags", json!([{"key": "a b"}]), 400, "3068"),
        ("tags", json!([{}]), 400, "3066"),
        ("description", json!("<"), 400, "0002"),
        ("endpoint_service_id", json!(NOBODY), 400, "2003"),
        ("vpc_id", json!(NOBODY), 400, "2001"),
        ("vpc_id", json!(CLIENT_VPC), 400, "2001"),
        ("subnet_id", Value::Null, 400, "2010"),
        ("subnet_id", json!(""), 400, "2010"),
        ("subnet_id", json!("x"), 400, "0023"),
        ("subnet_id", json!(5), 400, "0023"),
        ("subnet_id", json!(NOBODY), 404, "4004"),
        ("subnet_id", json!(CLIENT_SUBNET), 404, "4004"),
        ("port_ip", json!("x"), 400, "2041"),
        ("port_ip", json!("::1"), 400, "2041"),
        ("port_ip", json!(1), 400, "2041"),
        ("port_ip", json!("10.0.0.256"), 400, "2041"),
        ("port_ip", json!("10.1.0.5"), 400, "2043"),
        ("port_ip", json!("10.0.0.0"), 400, "2043"),
        ("port_ip", json!("10.0.0.255"), 400, "2043"),
        ("port_ip", json!("10.0.0.10"), 400, "2042"),
        ("whitelist", json!("10.0.0.0/8"), 400, "2044"),
        ("whitelist", json!(["x"]), 400, "2044"),
        ("whitelist", json!([1]), 400, "2044"),
        ("whitelist", json!(["::/0"]), 400, "2044"),
        ("whitelist", json!(["10.0.0.0/33"]), 400, "2044"),
        ("whitelist", blocks(21), 400, "2045"),
        ("enable_whitelist", json!("x"), 400, "0002"),
        (
            "policy_statement",
            json!([{"Effect": "Allow", "Action": ["*"], "Resource": ["*"]}]),
            400,
            "2048",
        ),
    ] {
        let what = format!("{field} = {value:.60}");
        ask.refuse(&what, CREATE, Some(&set(&good, field, value)), (status, code));
    }
    // A subnet of another of the project's VPCs.
    let vpc = json!({"vpc": {"name": "v", "cidr": "10.7.0.0/16"}});
    let vpc = ask.demo.must("POST", "vpcs", Some(&vpc))["vpc"]["id"].take();
    ask.refuse(
        "subnet of another VPC",
        CREATE,
        Some(&set(&good, "vpc_id", vpc.clone())),
        (400, "2037"),
    );
    // A whole subnet in the reserved range, in a VPC that it is a part of.
    let wide = json!({"vpc": {"name": "w", "cidr": "198.18.0.0/15"}});
    let wide = ask.demo.must("POST", "vpcs", Some(&wide))["vpc"]["id"].take();
    for (cidr, code) in [("198.19.128.0/24", Some("3009")), ("198.19.0.0/24", None)] {
        let subnet = json!({"subnet": {"name": "s", "cidr": cidr, "vpc_id": wide}});
        let subnet = ask.demo.must("POST", "subnets", Some(&subnet))["subnet"]["id"].take();
        let body = with(good.clone(), json!({"vpc_id": wide, "subnet_id": subnet}));
        match code {
            Some(code) => ask.refuse(cidr, CREATE, Some(&body), (400, code)),
            None => drop(ask.demo.must(CREATE.0, CREATE.1, Some(&body))),
        }
    }
    // Who may: the owner, whoever is on the whitelist, and nobody else.
    let other = ask.other.clone();
    let foreign = Asker::foreign_endpoint_body(&service);
    ask.refuse_to(
        &other,
        "not on the whitelist",
        CREATE,
        Some(&foreign),
        (400, "2012"),
    );
    for permission in ["iam:domain::*b4e2", "iam:domain::nobody"] {
        let add = json!({"permissions": [permission], "action": "add"});
        ask.demo.must(
            "POST",
            &format!("vpc-endpoint-services/{service}/permissions/action"),
            Some(&add),
        );
    }
    ask.refuse_to(&other, "still not", CREATE, Some(&foreign), (400, "2012"));
    let add = json!({"permissions": ["iam:domain::*"], "action": "add"});
    ask.demo.must(
        "POST",
        &format!("vpc-endpoint-services/{service}/permissions/action"),
        Some(&add),
    );
    ask.other.must(CREATE.0, CREATE.1, Some(&foreign));
    // The order: fields before existence, permission before the caller's own network.
    ask.refuse(
        "two faults",
        CREATE,
        Some(&with(
            good.clone(),
            json!({"endpoint_service_id": NOBODY, "enable_dns": 1}),
        )),
        (400, "2033"),
    );
    ask.refuse(
        "two faults",
        CREATE,
        Some(&with(good.clone(), json!({"vpc_id": NOBODY, "subnet_id": "x"}))),
        (400, "2001"),
    );
    ask.refuse(
        "two faults",
        CREATE,
        Some(&with(good.clone(), json!({"port_ip": "x", "whitelist": 1}))),
        (400, "2041"),
    );
    // Quota, last.
    let quota = json!({"endpoint": 1});
    ask.operator.must(
        "PUT",
        &format!("/admin/v1/projects/{PROJECT}/quotas"),
        Some(&quota),
    );
    ask.refuse("quota", CREATE, Some(&good), (400, "1018"));
    ask.refuse(
        "quota is last",
        CREATE,
        Some(&set(&good, "enable_whitelist", json!(1))),
        (400, "0002"),
    );
    ask.end();
}

#[test]
fn what_an_endpoint_takes() {
    let mut ask = Asker::start();
    let service = ask.service(json!({"approval_enabled": false}));
    let good = Asker::endpoint_body(&service);
    for (more, seen) in [
        (
            json!({}),
            json!({"status": "creating", "enable_dns": false, "whitelist": [], "enable_whitelist": false, "tags": [],
            "description": "", "specification_name": "default", "active_status": ["active"], "enable_status": "enable",
            "vpc_id": BACKEND_VPC, "subnet_id": BACKEND_SUBNET, "project_id": PROJECT, "service_type": "interface"}),
        ),
        (
            json!({"whitelist": ["10.0.0.1", "10.0.0.0/8", "10.1.2.3/16", "0.0.0.0/0"], "enable_whitelist": true}),
            json!({"whitelist": ["10.0.0.1", "10.0.0.0/8", "10.1.2.3/16", "0.0.0.0/0"], "enable_whitelist": true}),
        ),
        (
            json!({"specification_name": "default", "routetables": ["x"], "policy_statement": []}),
            json!({"specification_name": "default"}),
        ),
        (
            json!({"enable_dns": true, "description": "d", "tags": [{"key": "k"}]}),
            json!({"enable_dns": true, "description": "d", "tags": [{"key": "k", "value": ""}]}),
        ),
    ] {
        let reply = ask
            .demo
            .must(CREATE.0, CREATE.1, Some(&with(good.clone(), more.clone())));
        for (field, value) in seen.as_object().unwrap() {
            ask.same(&format!("{more}: {field}"), &reply[field], value);
        }
        ask.same(
            "marker",
            &json!(
                reply["marker_id"]
                    .as_u64()
                    .is_some_and(|n| (1..1 << 31).contains(&n))
            ),
            &json!(true),
        );
    }
    // The address that was asked for, and no other endpoint's.
    let fixed = ask.endpoint(&service, json!({"port_ip": "10.0.0.3"}), "accepted");
    let seen = ask.demo.must("GET", &format!("vpc-endpoints/{fixed}"), None);
    ask.same("ip", &seen["ip"], &json!("10.0.0.3"));
    ask.refuse(
        "taken",
        CREATE,
        Some(&set(&good, "port_ip", json!("10.0.0.3"))),
        (400, "2042"),
    );
    // Free from the answer on.
    ask.demo.must("DELETE", &format!("vpc-endpoints/{fixed}"), None);
    ask.endpoint(&service, json!({"port_ip": "10.0.0.3"}), "accepted");
    ask.end();
}

#[test]
fn showing_and_deleting_an_endpoint() {
    let mut ask = Asker::start();
    let service = ask.service(json!({}));
    let id = ask.endpoint(&service, json!({}), "pendingAcceptance");
    let path = format!("vpc-endpoints/{id}");
    let other = ask.other.clone();
    for method in ["GET", "DELETE"] {
        ask.refuse("malformed", (method, "vpc-endpoints/x"), None, (400, "2017"));
        ask.refuse(
            "unknown",
            (method, &format!("vpc-endpoints/{NOBODY}")),
            None,
            (404, "2006"),
        );
        ask.refuse_to(&other, "foreign", (method, &path), None, (404, "2006"));
    }
    let seen = ask.demo.must("GET", &path, None);
    ask.same("no address yet", &seen["ip"], &Value::Null);
    let (status, reply) = ask.demo.try_call("DELETE", &path, None).unwrap();
    ask.same("deleted", &json!([status, reply]), &json!([204, null]));
    until("the end", || {
        (ask.demo.try_call("GET", &path, None).unwrap().0 == 404).then_some(())
    });
    let (_, reply) = ask.demo.try_call("GET", &path, None).unwrap();
    let code = reply["error_code"].as_str().unwrap_or_default();
    ask.same(
        "gone",
        &json!(["EndPoint.2006", "EndPoint.2008"].contains(&code)),
        &json!(true),
    );
    ask.end();
}
