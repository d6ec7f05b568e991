//! 0.7: which fields each reply has, by the columns C, U, G and L.

use serde_json::{Value, json};

use crate::ask::{Asker, names};

/// The names of all, sorted.
fn sorted(mut names: Vec<&str>) -> Value {
    names.sort_unstable();
    json!(names)
}

#[test]
fn of_a_service() {
    let mut ask = Asker::start();
    let body = ask.service_body();
    let create = ask.demo.must("POST", "vpc-endpoint-services", Some(&body));
    let id = create["id"].as_str().unwrap();
    let path = format!("vpc-endpoint-services/{id}");
    ask.status("vpc-endpoint-services", id, "available");
    let common = [
        "id",
        "port_id",
        "vpc_id",
        "pool_id",
        "service_name",
        "service_type",
        "server_type",
        "approval_enabled",
        "status",
        "project_id",
        "connection_count",
        "ports",
        "tcp_proxy",
        "tags",
        "description",
        "created_at",
        "updated_at",
    ];
    // The superset adds fields to all of them; what the documents have is always there, and `error` never without a failure.
    let lacks = |reply: &Value, wanted: &[&str], unwanted: &[&str]| -> Value {
        let missing: Vec<_> = wanted
            .iter()
            .filter(|n| reply.get(**n).is_none_or(Value::is_null))
            .collect();
        let excess: Vec<_> = unwanted.iter().filter(|n| reply.get(**n).is_some()).collect();
        json!([missing, excess])
    };
    let update = ask.demo.must("PUT", &path, Some(&json!({"description": "x"})));
    let get = ask.demo.must("GET", &path, None);
    let list = ask.demo.must("GET", "vpc-endpoint-services", None)["endpoint_services"][0].take();
    for (column, reply) in [("C", &create), ("U", &update), ("G", &get)] {
        ask.same(
            column,
            &lacks(reply, &common, &["domain_id", "error"]),
            &json!([[], []]),
        );
    }
    ask.same(
        "L",
        &lacks(&list, &[&common[..], &["domain_id"]].concat(), &["error"]),
        &json!([[], []]),
    );
    ask.same("C and G agree", &names(&create), &names(&get));
    for field in common
        .iter()
        .filter(|f| !["status", "description", "updated_at"].contains(f))
    {
        ask.same(field, &get[*field], &create[*field]);
        ask.same(field, &list[*field], &create[*field]);
    }
    for reply in [&create, &update, &get, &list] {
        for field in ["created_at", "updated_at"] {
            let time = reply[field].as_str().unwrap();
            let whole = time.len() == 20 && time.ends_with('Z') && &time[10..11] == "T";
            ask.same(time, &json!(whole), &json!(true));
        }
    }
    ask.end();
}

#[test]
fn of_an_endpoint_and_its_connection() {
    let mut ask = Asker::start();
    let service = ask.service(json!({"approval_enabled": true}));
    let common = vec![
        "id",
        "service_type",
        "status",
        "active_status",
        "enable_status",
        "endpoint_service_id",
        "endpoint_service_name",
        "marker_id",
        "vpc_id",
        "project_id",
        "subnet_id",
        "enable_dns",
        "whitelist",
        "enable_whitelist",
        "specification_name",
        "endpoint_pool_id",
        "tags",
        "description",
        "created_at",
        "updated_at",
    ];
    let mut body = Asker::endpoint_body(&service);
    body["enable_dns"] = json!(true);
    let create = ask.demo.must("POST", "vpc-endpoints", Some(&body));
    let id = create["id"].as_str().unwrap();
    let path = format!("vpc-endpoints/{id}");
    let waiting = ask.demo.must("GET", &path, None);
    // An address, and a name for it, only once it was accepted. `routetables` may be there, empty.
    let without = |reply: &Value| {
        let mut reply = reply.clone();
        if reply["routetables"] == json!([]) {
            reply.as_object_mut().unwrap().remove("routetables");
        }
        names(&reply)
    };
    ask.same("C", &without(&create), &sorted(common.clone()));
    ask.same("G, waiting", &without(&waiting), &sorted(common.clone()));
    let connections = format!("vpc-endpoint-services/{service}/connections");
    let decide = json!({"action": "receive", "endpoints": [id]});
    let decided = ask
        .demo
        .must("POST", &format!("{connections}/action"), Some(&decide))["connections"][0]
        .take();
    let accepted = ask.demo.must("GET", &path, None);
    let list = ask.demo.must("GET", "vpc-endpoints", None)["endpoints"][0].take();
    let served = [&common[..], &["ip", "dns_names"]].concat();
    ask.same("G, accepted", &without(&accepted), &sorted(served.clone()));
    ask.same("L", &without(&list), &sorted(served.clone()));
    ask.same(
        "one name",
        &json!(accepted["dns_names"].as_array().map(Vec::len)),
        &json!(1),
    );
    let connection = ask.demo.must("GET", &connections, None)["connections"][0].take();
    let of_connection = vec![
        "id",
        "marker_id",
        "domain_id",
        "status",
        "created_at",
        "updated_at",
    ];
    for reply in [&decided, &connection] {
        // The superset adds a description.
        let mut reply = reply.clone();
        reply.as_object_mut().unwrap().remove("description");
        ask.same("connection", &names(&reply), &sorted(of_connection.clone()));
        ask.same("marker", &reply["marker_id"], &create["marker_id"]);
    }
    let (status, _) = ask
        .demo
        .try_call(
            "POST",
            &format!("{connections}/action"),
            Some(&json!({"action": "reject", "endpoints": [id]})),
        )
        .unwrap();
    ask.same("reject", &json!(status), &json!(200));
    let rejected = ask.demo.must("GET", &path, None);
    ask.same("G, rejected after it", &rejected["ip"], &accepted["ip"]);
    // Without a name there is no list of names, not an empty one.
    let mut body = Asker::endpoint_body(&service);
    body["enable_dns"] = json!(false);
    let plain = ask.demo.must("POST", "vpc-endpoints", Some(&body))["id"].take();
    let decide = json!({"action": "receive", "endpoints": [plain]});
    ask.demo
        .must("POST", &format!("{connections}/action"), Some(&decide));
    let plain = ask
        .demo
        .must("GET", &format!("vpc-endpoints/{}", plain.as_str().unwrap()), None);
    ask.same(
        "no names",
        &json!([plain["ip"].is_string(), plain.get("dns_names")]),
        &json!([true, null]),
    );
    ask.end();
}
