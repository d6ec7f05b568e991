//! A.3, and A.13 for gateway endpoints: public services, describing a service, route tables and policies.

use serde_json::{Value, json};

use crate::{
    ask::{Asker, NOBODY, names, set, text, with},
    process::{BACKEND_VPC, CLIENT_VPC, until},
};

const PUBLIC: &str = "vpc-endpoint-services/public";
const DESCRIBE: &str = "vpc-endpoint-services/describe";

#[test]
fn public_services() {
    let mut ask = Asker::start();
    let all = ask.demo.must("GET", PUBLIC, None);
    ask.same(
        "the same for everybody",
        &ask.other.must("GET", PUBLIC, None),
        &all,
    );
    let services = all["endpoint_services"].as_array().unwrap().clone();
    ask.same("total", &all["total_count"], &json!(services.len()));
    for service in &services {
        let mut service = service.clone();
        // The superset's.
        service.as_object_mut().unwrap().remove("enable_policy");
        ask.same(
            "fields",
            &names(&service),
            &json!([
                "created_at",
                "id",
                "is_charge",
                "owner",
                "service_name",
                "service_type"
            ]),
        );
        ask.same(
            "is_charge",
            &json!(service["is_charge"].is_boolean()),
            &json!(true),
        );
    }
    let by_name = |ask: &Asker, part: &str| {
        let found = ask
            .demo
            .must("GET", &format!("{PUBLIC}?endpoint_service_name={part}"), None);
        let names: Vec<_> = found["endpoint_services"]
            .as_array()
            .unwrap()
            .iter()
            .map(|s| text(&s["service_name"]))
            .collect();
        json!(names)
    };
    let found = by_name(&ask, "EU-DE.OBS");
    ask.same("by name", &found, &json!(["com.t-systems.otc.eu-de.obs"]));
    let found = by_name(&ask, "com.t-systems.otc.eu-de.dns");
    ask.same("by name", &found, &json!(["com.t-systems.otc.eu-de.dns"]));
    let found = by_name(&ask, "nothing");
    ask.same("by name", &found, &json!([]));
    let id = text(&services[0]["id"]);
    for (query, count, total) in [
        (format!("id={id}"), 1, 1),
        (format!("id={NOBODY}"), 0, 0),
        ("limit=1".into(), 1, services.len()),
        ("limit=0".into(), 0, services.len()),
        (format!("offset={}", services.len()), 0, services.len()),
    ] {
        let page = ask.demo.must("GET", &format!("{PUBLIC}?{query}"), None);
        ask.same(
            &query,
            &json!(page["endpoint_services"].as_array().map(Vec::len)),
            &json!(count),
        );
        ask.same(&query, &page["total_count"], &json!(total));
    }
    let backwards = ask.demo.must("GET", &format!("{PUBLIC}?sort_dir=asc"), None);
    let reversed: Vec<_> = services.iter().rev().cloned().collect();
    ask.same("order", &backwards["endpoint_services"], &json!(reversed));
    for (query, code) in [
        ("id=x", "3062"),
        ("limit=1001", "0006"),
        ("offset=-1", "0010"),
        ("sort_key=x", "0017"),
        ("sort_dir=x", "0018"),
        ("endpoint_service_name=%3C", "1003"),
    ] {
        ask.refuse(query, ("GET", &format!("{PUBLIC}?{query}")), None, (400, code));
    }
    // Nobody's own services are among them, nor they among anybody's own.
    ask.service(json!({}));
    ask.same("unchanged", &ask.demo.must("GET", PUBLIC, None), &all);
    let own = ask.demo.must("GET", "vpc-endpoint-services", None);
    ask.same("own", &own["total_count"], &json!(1));
    let other = ask.other.clone();
    for (method, body) in [
        ("GET", None),
        ("DELETE", None),
        ("PUT", Some(json!({"description": "x"}))),
    ] {
        let (status, _) = other
            .try_call(method, &format!("vpc-endpoint-services/{id}"), body.as_ref())
            .unwrap();
        ask.same(method, &json!([403, 404].contains(&status)), &json!(true));
    }
    ask.end();
}

#[test]
fn describing() {
    let mut ask = Asker::start();
    let id = ask.service(json!({"service_name": "shown"}));
    let elsewhere = ask.service(json!({}));
    let name = format!("eu-de.shown.{id}");
    let fields = json!(["created_at", "id", "is_charge", "service_name", "service_type"]);
    for client in [ask.demo.clone(), ask.other.clone()] {
        for query in [
            format!("id={id}"),
            format!("endpoint_service_name={name}"),
            format!("id={id}&endpoint_service_name={name}"),
        ] {
            let mut seen = client.must("GET", &format!("{DESCRIBE}?{query}"), None);
            seen.as_object_mut().unwrap().remove("enable_policy");
            ask.same(&query, &names(&seen), &fields);
            ask.same(
                &query,
                &json!([
                    seen["id"],
                    seen["service_name"],
                    seen["service_type"],
                    seen["is_charge"]
                ]),
                &json!([id, name, "interface", false]),
            );
        }
    }
    for (query, status, code) in [
        (String::new(), 400, "2002"),
        ("id=".into(), 400, "2002"),
        ("id=&endpoint_service_name=".into(), 400, "2002"),
        ("id=x".into(), 400, "3062"),
        (format!("id={NOBODY}"), 404, "0005"),
        ("endpoint_service_name=shown".into(), 404, "0005"),
        (
            format!("endpoint_service_name={}", name.to_uppercase()),
            404,
            "0005",
        ),
        (
            format!("id={elsewhere}&endpoint_service_name={name}"),
            404,
            "0005",
        ),
    ] {
        ask.refuse(
            &query,
            ("GET", &format!("{DESCRIBE}?{query}")),
            None,
            (status, code),
        );
    }
    ask.demo.must(
        "PUT",
        &format!("vpc-endpoint-services/{id}"),
        Some(&json!({"service_name": "renamed"})),
    );
    ask.refuse(
        "by its old name",
        ("GET", &format!("{DESCRIBE}?endpoint_service_name={name}")),
        None,
        (404, "0005"),
    );
    ask.demo.must(
        "GET",
        &format!("{DESCRIBE}?endpoint_service_name=eu-de.renamed.{id}"),
        None,
    );
    ask.demo.must(
        "GET",
        &format!("{DESCRIBE}?endpoint_service_name=com.t-systems.otc.eu-de.obs"),
        None,
    );
    ask.demo
        .must("DELETE", &format!("vpc-endpoint-services/{id}"), None);
    ask.refuse(
        "deleted",
        ("GET", &format!("{DESCRIBE}?id={id}")),
        None,
        (404, "0005"),
    );
    ask.end();
}

/// The public gateway service.
fn gateway(ask: &Asker) -> String {
    let path = format!("{PUBLIC}?endpoint_service_name=.obs");
    text(&ask.demo.must("GET", &path, None)["endpoint_services"][0]["id"])
}

/// The default route table of a VPC.
fn default_table(ask: &Asker, vpc: &str) -> Value {
    let tables = ask.demo.must("GET", &format!("routetables?vpc_id={vpc}"), None);
    let tables = tables["routetables"].as_array().unwrap();
    tables
        .iter()
        .find(|table| table["default"] == true)
        .unwrap()
        .clone()
}

#[test]
fn a_gateway_endpoint_s_rules() {
    let mut ask = Asker::start();
    let service = gateway(&ask);
    let good = json!({"endpoint_service_id": service, "vpc_id": BACKEND_VPC});
    let vpc = json!({"vpc": {"name": "v", "cidr": "10.7.0.0/16"}});
    let elsewhere = text(&ask.demo.must("POST", "vpcs", Some(&vpc))["vpc"]["id"]);
    let foreign_table = default_table(&ask, &elsewhere)["id"].take();
    let statement = |effect: Value, action: Value, resource: Value| json!([{"Effect": effect, "Action": action, "Resource": resource}]);
    let fine = || statement(json!("Allow"), json!(["obs:*:*"]), json!(["*"]));
    for (field, value, status, code) in [
        ("whitelist", json!(["10.0.0.0/8"]), 400, "2044"),
        ("enable_whitelist", json!(true), 400, "2044"),
        ("routetables", json!(["x"]), 400, "1019"),
        ("routetables", json!([1]), 400, "1019"),
        ("routetables", json!([NOBODY]), 404, "4030"),
        ("routetables", json!([foreign_table]), 400, "1019"),
        ("policy_statement", json!("x"), 400, "2048"),
        ("policy_statement", json!(["x"]), 400, "2048"),
        (
            "policy_statement",
            statement(json!("allow"), json!(["*"]), json!(["*"])),
            400,
            "2048",
        ),
        (
            "policy_statement",
            statement(Value::Null, json!(["*"]), json!(["*"])),
            400,
            "2048",
        ),
        (
            "policy_statement",
            statement(json!("Allow"), json!([]), json!(["*"])),
            400,
            "2048",
        ),
        (
            "policy_statement",
            statement(json!("Allow"), json!(["*"]), json!([])),
            400,
            "2048",
        ),
        (
            "policy_statement",
            statement(json!("Allow"), json!("*"), json!(["*"])),
            400,
            "2048",
        ),
        (
            "policy_statement",
            statement(json!("Allow"), json!(["*"]), json!([1])),
            400,
            "2048",
        ),
        (
            "policy_statement",
            Value::from(vec![fine()[0].clone(); 11]),
            400,
            "2048",
        ),
    ] {
        let what = format!("{field} = {value:.80}");
        ask.refuse(
            &what,
            ("POST", "vpc-endpoints"),
            Some(&set(&good, field, value)),
            (status, code),
        );
    }
    ask.refuse(
        "VPC",
        ("POST", "vpc-endpoints"),
        Some(&set(&good, "vpc_id", json!(CLIENT_VPC))),
        (400, "2001"),
    );
    let before = default_table(&ask, BACKEND_VPC);
    ask.same(
        "no route was written",
        &json!(before["routes"].to_string().contains("100.125")),
        &json!(false),
    );
    // What is an interface's is ignored.
    let body = with(
        good.clone(),
        json!({"subnet_id": "x", "port_ip": "x", "whitelist": [], "enable_whitelist": false,
        "enable_dns": true}),
    );
    let created = ask.demo.must("POST", "vpc-endpoints", Some(&body));
    let id = text(&created["id"]);
    let fields = json!([
        "active_status",
        "created_at",
        "description",
        "enable_status",
        "endpoint_pool_id",
        "endpoint_service_id",
        "endpoint_service_name",
        "id",
        "marker_id",
        "policy_statement",
        "project_id",
        "routetables",
        "service_type",
        "specification_name",
        "status",
        "tags",
        "updated_at",
        "vpc_id"
    ]);
    ask.same("C", &names(&created), &fields);
    ask.same(
        "C",
        &json!([
            created["status"],
            created["service_type"],
            created["endpoint_service_name"]
        ]),
        &json!(["creating", "gateway", "com.t-systems.otc.eu-de.obs"]),
    );
    ask.same("default table", &created["routetables"], &json!([before["id"]]));
    ask.same(
        "default policy",
        &created["policy_statement"],
        &json!([{"Effect": "Allow", "Action": ["obs:*:*"], "Resource": ["obs:*:*:*:*/*", "obs:*:*:*:*"]}]),
    );
    ask.status("vpc-endpoints", &id, "accepted");
    let seen = ask.demo.must("GET", &format!("vpc-endpoints/{id}"), None);
    ask.same("G", &names(&seen), &fields);
    let routes = |ask: &Asker| {
        default_table(ask, BACKEND_VPC)["routes"]
            .to_string()
            .contains("100.125.0.0/16")
    };
    let written = routes(&ask);
    ask.same("route", &json!(written), &json!(true));
    // A table serves one endpoint of a service.
    ask.refuse(
        "default table again",
        ("POST", "vpc-endpoints"),
        Some(&good),
        (400, "2039"),
    );
    let named = set(&good, "routetables", json!([before["id"]]));
    ask.refuse(
        "table again",
        ("POST", "vpc-endpoints"),
        Some(&named),
        (400, "2039"),
    );
    let table = json!({"routetable": {"name": "t", "vpc_id": BACKEND_VPC}});
    let table = ask.demo.must("POST", "routetables", Some(&table))["routetable"]["id"].take();
    // Keys in lower case are taken, and shown in capitals; an empty policy is the default.
    let policy = json!([{"effect": "Deny", "action": ["obs:object:GetObject"], "resource": ["*"]}]);
    let body = with(
        good.clone(),
        json!({"routetables": [table], "policy_statement": policy}),
    );
    let second = ask.demo.must("POST", "vpc-endpoints", Some(&body));
    ask.same("tables", &second["routetables"], &json!([table]));
    ask.same(
        "policy",
        &second["policy_statement"],
        &json!([{"Effect": "Deny", "Action": ["obs:object:GetObject"], "Resource": ["*"]}]),
    );
    // Deleting takes the routes away, and the tables are free from the answer on.
    ask.demo.must("DELETE", &format!("vpc-endpoints/{id}"), None);
    // Of two endpoints of one VPC to one service, the data plane serves one: the other goes first.
    ask.demo
        .must("DELETE", &format!("vpc-endpoints/{}", text(&second["id"])), None);
    let body = set(&good, "policy_statement", json!([]));
    let third = ask.demo.must("POST", "vpc-endpoints", Some(&body));
    ask.same(
        "empty policy",
        &third["policy_statement"][0]["Effect"],
        &json!("Allow"),
    );
    let third = text(&third["id"]);
    ask.status("vpc-endpoints", &third, "accepted");
    ask.demo.must("DELETE", &format!("vpc-endpoints/{third}"), None);
    until("the end of the route", || (!routes(&ask)).then_some(()));
    ask.end();
}

#[test]
fn an_interface_to_a_public_service() {
    let mut ask = Asker::start();
    let found = ask
        .demo
        .must("GET", &format!("{PUBLIC}?endpoint_service_name=.dns"), None);
    let service = text(&found["endpoint_services"][0]["id"]);
    // No record on a whitelist, no approval.
    for client in [ask.demo.clone(), ask.other.clone()] {
        let body = match client.token() == ask.demo.token() {
            true => Asker::endpoint_body(&service),
            false => Asker::foreign_endpoint_body(&service),
        };
        let created = client.must("POST", "vpc-endpoints", Some(&body));
        ask.same("status", &created["status"], &json!("creating"));
        let path = format!("vpc-endpoints/{}", text(&created["id"]));
        until("accepted", || {
            (client.must("GET", &path, None)["status"] == "accepted").then_some(())
        });
    }
    ask.end();
}
