//! A.4: creating a service, its thirty rules.

use serde_json::{Value, json};

use crate::{
    ask::{Asker, NOBODY, set, with},
    process::{BACKEND_PORT, BACKEND_VPC, CLIENT_PORT, CLIENT_VPC},
};

const CREATE: (&str, &str) = ("POST", "vpc-endpoint-services");

/// What is wrong with one field, and the code for it: rules 2 to 20.
fn wrong_fields() -> Vec<(&'static str, Value, &'static str)> {
    let mapping = |client: Value, server: Value| json!([{"client_port": client, "server_port": server}]);
    let tag = |key: &str, value: &str| json!([{"key": key, "value": value}]);
    let many =
        |n: usize| Value::from_iter((0..n).map(|i| json!({"client_port": i + 1, "server_port": i + 1})));
    let tags = |n: usize| Value::from_iter((0..n).map(|i| json!({"key": format!("k{i}")})));
    vec![
        ("port_id", Value::Null, "2002"),
        ("port_id", json!(""), "2002"),
        ("port_id", json!("  "), "2002"),
        ("port_id", json!("x"), "3063"),
        ("port_id", json!(7), "3063"),
        ("port_id", json!([BACKEND_PORT]), "3063"),
        ("port_id", json!("4189d3c2888248 71a3c2d380272eed88"), "3063"),
        ("vpc_id", Value::Null, "2011"),
        ("vpc_id", json!(""), "2011"),
        ("vpc_id", json!("x"), "0020"),
        ("vpc_id", json!(true), "0020"),
        ("server_type", Value::Null, "3021"),
        ("server_type", json!(""), "3021"),
        ("server_type", json!("vm"), "3021"),
        ("server_type", json!("ECS"), "3021"),
        ("server_type", json!(1), "3021"),
        ("service_name", json!("12345678901234567"), "3076"),
        ("service_name", json!("a b"), "3076"),
        ("service_name", json!("a.b"), "3076"),
        ("service_name", json!("ä"), "3076"),
        ("approval_enabled", json!("true"), "0002"),
        ("approval_enabled", json!(1), "0002"),
        ("service_type", json!("gateway"), "0002"),
        ("service_type", json!("x"), "0002"),
        ("service_type", json!(1), "0002"),
        ("ports", Value::Null, "2028"),
        ("ports", json!([]), "2028"),
        ("ports", json!({}), "3004"),
        ("ports", json!("80"), "3004"),
        ("ports", json!([{"server_port": 1}]), "2028"),
        ("ports", json!([{"client_port": 1}]), "2028"),
        ("ports", json!([{"client_port": null, "server_port": 1}]), "2028"),
        ("ports", many(201), "3074"),
        ("ports", mapping(json!(0), json!(1)), "3004"),
        ("ports", mapping(json!(65_536), json!(1)), "3004"),
        ("ports", mapping(json!(-1), json!(1)), "3004"),
        ("ports", mapping(json!("80"), json!(1)), "3004"),
        ("ports", mapping(json!(80.5), json!(1)), "3004"),
        ("ports", mapping(json!(true), json!(1)), "3004"),
        ("ports", mapping(json!(1), json!(0)), "3043"),
        ("ports", mapping(json!(1), json!(65_536)), "3043"),
        ("ports", mapping(json!(1), json!("80")), "3043"),
        ("ports", mapping(json!(1), json!(1.5)), "3043"),
        ("ports", mapping(json!(1), json!(false)), "3043"),
        (
            "ports",
            json!([{"client_port": 1, "server_port": 1, "protocol": "UDP"}]),
            "3075",
        ),
        (
            "ports",
            json!([{"client_port": 1, "server_port": 1, "protocol": 6}]),
            "3075",
        ),
        (
            "ports",
            json!([{"client_port": 1, "server_port": 1}, {"client_port": 1, "server_port": 2}]),
            "3004",
        ),
        ("tcp_proxy", json!("OPEN"), "0002"),
        ("tcp_proxy", json!("x"), "0002"),
        ("tcp_proxy", json!(1), "0002"),
        ("tags", json!("x"), "0002"),
        ("tags", json!(["x"]), "0002"),
        ("tags", json!([{"value": "v"}]), "3066"),
        ("tags", tag("", "v"), "3066"),
        ("tags", tag("  ", "v"), "3066"),
        ("tags", tag(&"k".repeat(37), "v"), "3072"),
        ("tags", tag("k", &"v".repeat(44)), "3073"),
        ("tags", tag("a b", "v"), "3068"),
        ("tags", tag("a", "v.w"), "3068"),
        ("tags", tag("a", "*"), "3068"),
        (
            "tags",
            json!([{"key": "k", "value": "1"}, {"key": "k", "value": "2"}]),
            "3067",
        ),
        ("tags", tags(21), "3069"),
        ("description", json!("d".repeat(129)), "0002"),
        ("description", json!("a<b"), "0002"),
        ("description", json!("a>b"), "0002"),
        ("description", json!(1), "0002"),
        ("pool_id", json!("x"), "0002"),
        ("pool_id", json!(1), "0002"),
    ]
}

#[test]
fn a_service_s_thirty_rules() {
    let mut ask = Asker::start();
    let good = ask.service_body();
    for (field, value, code) in wrong_fields() {
        let what = format!("{field} = {value:.60}");
        ask.refuse(&what, CREATE, Some(&set(&good, field, value)), (400, code));
    }
    // Rule 1: what is no object, and what is no JSON.
    for body in [json!([]), json!("x"), json!(1), Value::Null] {
        ask.refuse("no object", CREATE, Some(&body), (400, "1004"));
    }
    ask.refuse("no body", CREATE, None, (400, "1004"));
    // One fault alone is reported: the first of the table.
    let fields = [
        "port_id",
        "vpc_id",
        "server_type",
        "service_name",
        "approval_enabled",
        "service_type",
    ];
    let codes = ["2002", "2011", "3021", "3076", "0002", "0002"];
    let mut all =
        json!({"service_name": "?", "approval_enabled": 1, "service_type": 1, "ports": 1, "description": 1});
    for (field, code) in fields.iter().zip(codes) {
        ask.refuse("all wrong from here", CREATE, Some(&all), (400, code));
        all[*field] = good[*field].clone();
    }
    ask.refuse("all wrong from ports", CREATE, Some(&all), (400, "3004"));
    // Rules 21 to 25: what the network knows.
    for (change, code) in [
        (json!({"vpc_id": NOBODY}), "2001"),
        (json!({"vpc_id": CLIENT_VPC}), "2001"),
        (json!({"vpc_id": CLIENT_VPC, "port_id": CLIENT_PORT}), "2001"),
        (json!({"port_id": NOBODY}), "3008"),
        (json!({"server_type": "LB"}), "3021"),
        (json!({"pool_id": NOBODY}), "2038"),
    ] {
        let what = change.to_string();
        ask.refuse(&what, CREATE, Some(&with(good.clone(), change)), (400, code));
    }
    ask.end();
}

#[test]
fn a_service_s_network() {
    let mut ask = Asker::start();
    let good = ask.service_body();
    // Another VPC of the same project: 23.
    let vpc = |ask: &Asker, cidr: &str| {
        let body = json!({"vpc": {"name": "v", "cidr": cidr}});
        ask.demo.must("POST", "vpcs", Some(&body))["vpc"]["id"].take()
    };
    let elsewhere = vpc(&ask, "10.7.0.0/16");
    ask.refuse(
        "port elsewhere",
        CREATE,
        Some(&set(&good, "vpc_id", elsewhere)),
        (400, "3042"),
    );
    // Rules 26 and 27: what overlaps 198.19.128.0/17.
    let nic = |ask: &Asker, vpc: &Value, subnet: &str| {
        let body = json!({"subnet": {"name": "s", "cidr": subnet, "vpc_id": vpc}});
        let network = ask.demo.must("POST", "subnets", Some(&body))["subnet"]["id"].take();
        let body = json!({"port": {"network_id": network, "device_owner": "compute:eu-de-01"}});
        ask.demo.must("POST", "/v2.0/ports", Some(&body))["port"]["id"].take()
    };
    for (cidr, subnet, code) in [
        ("198.19.128.0/17", "198.19.129.0/24", Some("3009")),
        ("198.19.0.0/16", "198.19.1.0/24", Some("3009")),
        ("198.18.0.0/15", "198.18.1.0/24", Some("3009")),
        ("198.19.200.0/24", "198.19.200.0/24", Some("3009")),
        ("198.19.0.0/17", "198.19.1.0/24", None),
    ] {
        let vpc = vpc(&ask, cidr);
        let mut body = with(good.clone(), json!({"port_id": nic(&ask, &vpc, subnet)}));
        body["vpc_id"] = vpc;
        match code {
            Some(code) => ask.refuse(cidr, CREATE, Some(&body), (400, code)),
            None => drop(ask.demo.must(CREATE.0, CREATE.1, Some(&body))),
        }
    }
    for (destination, code) in [
        ("198.19.200.0/24", Some("3017")),
        ("198.0.0.0/8", Some("3017")),
        ("0.0.0.0/0", None),
        ("198.19.0.0/17", None),
    ] {
        let vpc = vpc(&ask, "10.8.0.0/16");
        let mut body = with(good.clone(), json!({"port_id": nic(&ask, &vpc, "10.8.1.0/24")}));
        let tables = ask.demo.must(
            "GET",
            &format!("routetables?vpc_id={}", vpc.as_str().unwrap()),
            None,
        );
        let table = tables["routetables"][0]["id"].as_str().unwrap();
        let route = json!({"type": "nat", "destination": destination, "nexthop": NOBODY});
        let add = json!({"routetable": {"routes": {"add": [route]}}});
        ask.demo.must("PUT", &format!("routetables/{table}"), Some(&add));
        body["vpc_id"] = vpc;
        match code {
            Some(code) => ask.refuse(destination, CREATE, Some(&body), (400, code)),
            None => drop(ask.demo.must(CREATE.0, CREATE.1, Some(&body))),
        }
    }
    // Rule 28, over all mappings and whatever the client port; not for what was deleted.
    let held = ask.service(
        json!({"ports": [{"client_port": 1, "server_port": 7}, {"client_port": 2, "server_port": 8}]}),
    );
    for port in [7, 8] {
        let body = set(&good, "ports", json!([{"client_port": 99, "server_port": port}]));
        ask.refuse(
            "server port of another service",
            CREATE,
            Some(&body),
            (400, "3044"),
        );
    }
    ask.demo
        .must("DELETE", &format!("vpc-endpoint-services/{held}"), None);
    let body = set(&good, "ports", json!([{"client_port": 99, "server_port": 7}]));
    ask.demo.must(CREATE.0, CREATE.1, Some(&body));
    // Rule 30.
    let quota = json!({"endpoint_service": 2});
    let project = crate::process::PROJECT;
    ask.operator.must(
        "PUT",
        &format!("/admin/v1/projects/{project}/quotas"),
        Some(&quota),
    );
    ask.refuse("quota", CREATE, Some(&good), (400, "1018"));
    ask.end();
}

#[test]
fn what_a_service_takes() {
    let mut ask = Asker::start();
    for (more, seen) in [
        (
            json!({}),
            json!({"approval_enabled": true, "service_type": "interface", "tcp_proxy": "close", "description": "",
            "tags": [], "status": "creating", "connection_count": 0, "vpc_id": BACKEND_VPC}),
        ),
        (json!({"service_name": "1234567890123_-Z"}), json!({})),
        (json!({"service_name": ""}), json!({})),
        (
            json!({"service_type": "Interface"}),
            json!({"service_type": "interface"}),
        ),
        (
            json!({"approval_enabled": false}),
            json!({"approval_enabled": false}),
        ),
        (json!({"server_type": "BMS"}), json!({"server_type": "BMS"})),
        (
            json!({"description": "ü".repeat(128)}),
            json!({"description": "ü".repeat(128)}),
        ),
        (
            json!({"tags": [{"key": "ü@_-9"}, {"key": "k".repeat(36), "value": "v".repeat(43)}]}),
            json!({"tags": [{"key": "ü@_-9", "value": ""}, {"key": "k".repeat(36), "value": "v".repeat(43)}]}),
        ),
        (json!({"unknown": 1, "pool_id": null}), json!({})),
    ] {
        let body = with(ask.service_body(), more.clone());
        let reply = ask.demo.must(CREATE.0, CREATE.1, Some(&body));
        for (field, value) in seen.as_object().unwrap() {
            ask.same(&format!("{more}: {field}"), &reply[field], value);
        }
        let id = reply["id"].as_str().unwrap();
        let name = match body["service_name"].as_str() {
            None | Some("") => format!("eu-de.{id}"),
            Some(short) => format!("eu-de.{short}.{id}"),
        };
        ask.same("name", &reply["service_name"], &json!(name));
        ask.same("times", &reply["created_at"], &reply["updated_at"]);
    }
    for protocol in [json!("tcp"), json!(""), Value::Null, json!("TCP")] {
        let port = ask.port();
        let mut body = ask.service_body();
        body["ports"] = json!([{"client_port": 1, "server_port": port, "protocol": protocol},
            {"client_port": 65_535, "server_port": port}]);
        let reply = ask.demo.must(CREATE.0, CREATE.1, Some(&body));
        ask.same(
            "ports",
            &reply["ports"],
            &json!([{"client_port": 1, "server_port": port, "protocol": "TCP"},
            {"client_port": 65_535, "server_port": port, "protocol": "TCP"}]),
        );
    }
    ask.end();
}
