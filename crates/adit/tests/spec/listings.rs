//! 0.2, 0.3, A.5, A.14, A.17: generic failures, filters, orders, pages and totals, quotas, versions.

use serde_json::{Value, json};

use crate::{
    ask::{Asker, NOBODY, names, text},
    process::{BACKEND_VPC, CLIENT_VPC, PROJECT, until},
};

/// The ids of a list's page, and its total.
fn page(ask: &Asker, path: &str, query: &str) -> (Vec<String>, Value) {
    let list = match path {
        "vpc-endpoints" => "endpoints",
        _ => "endpoint_services",
    };
    let reply = ask.demo.must("GET", &format!("{path}?{query}"), None);
    let ids = reply[list]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| text(&it["id"]))
        .collect();
    (ids, reply["total_count"].clone())
}

fn expect(ask: &mut Asker, path: &str, query: &str, found: &[&String], total: usize) {
    let (ids, count) = page(ask, path, query);
    ask.same(&format!("{path}?{query}"), &json!(ids), &json!(found));
    ask.same(&format!("{path}?{query}"), &count, &json!(total));
}

#[test]
fn filters_orders_and_pages() {
    let mut ask = Asker::start();
    let services: Vec<_> = ["Alpha", "beta", "alphabet"]
        .map(|name| ask.service(json!({"service_name": name})))
        .into();
    let [a, b, c] = &services[..] else { unreachable!() };
    let path = "vpc-endpoint-services";
    // The whole second, so that the change is later than every creation.
    let created = ask.demo.must("GET", &format!("{path}/{c}"), None)["created_at"].take();
    until("a later second", || {
        let changed = ask
            .demo
            .must("PUT", &format!("{path}/{a}"), Some(&json!({"description": "x"})));
        (changed["updated_at"].as_str() > created.as_str()).then_some(())
    });
    for (query, found) in [
        ("", vec![c, b, a]),
        ("sort_dir=asc", vec![a, b, c]),
        ("sort_key=created_at&sort_dir=desc", vec![c, b, a]),
        ("sort_key=updated_at", vec![a, c, b]),
        ("sort_key=updated_at&sort_dir=asc", vec![b, c, a]),
        ("sort_key=update_at", vec![a, c, b]),
        ("sort_key=create_at", vec![c, b, a]),
        ("endpoint_service_name=ALPHA", vec![c, a]),
        ("endpoint_service_name=alpha.", vec![a]),
        ("endpoint_service_name=EU-DE.", vec![c, b, a]),
        (&format!("endpoint_service_name=eu-de.beta.{b}"), vec![b]),
        ("endpoint_service_name=nothing", vec![]),
        ("endpoint_service_name=%25", vec![]),
        (&format!("id={b}"), vec![b]),
        (&format!("id={}", b.to_uppercase()), vec![b]),
        (&format!("id={NOBODY}"), vec![]),
        ("status=available", vec![c, b, a]),
        ("status=failed", vec![]),
        (&format!("id={b}&endpoint_service_name=alpha"), vec![]),
        (
            "id=&status=&endpoint_service_name=&limit=&offset=&sort_key=&sort_dir=",
            vec![c, b, a],
        ),
        ("unknown=1", vec![c, b, a]),
    ] {
        expect(&mut ask, path, query, &found, found.len());
    }
    for (query, found) in [
        ("limit=2", vec![c, b]),
        ("limit=1&offset=1", vec![b]),
        ("limit=1000&offset=2", vec![a]),
        ("offset=3", vec![]),
        ("offset=99999999999999999999999", vec![]),
        ("limit=0", vec![]),
    ] {
        expect(&mut ask, path, query, &found, 3);
    }
    // Endpoints, the same way.
    let endpoints: Vec<_> = [a, b]
        .map(|service| ask.endpoint(service, json!({}), "pendingAcceptance"))
        .into();
    let [x, y] = &endpoints[..] else { unreachable!() };
    let path = "vpc-endpoints";
    for (query, found) in [
        ("", vec![y, x]),
        ("sort_dir=asc", vec![x, y]),
        ("endpoint_service_name=ALPHA", vec![x]),
        (&format!("endpoint_service_name=eu-de.beta.{b}"), vec![y]),
        (&format!("vpc_id={BACKEND_VPC}"), vec![y, x]),
        (&format!("vpc_id={CLIENT_VPC}"), vec![]),
        (&format!("id={x}"), vec![x]),
        (&format!("id={x}&vpc_id={CLIENT_VPC}"), vec![]),
    ] {
        expect(&mut ask, path, query, &found, found.len());
    }
    // A rename is seen by the endpoints, and by their filter.
    ask.demo.must(
        "PUT",
        &format!("vpc-endpoint-services/{b}"),
        Some(&json!({"service_name": "gamma"})),
    );
    expect(&mut ask, path, "endpoint_service_name=gamma", &[y], 1);
    expect(&mut ask, path, "endpoint_service_name=beta", &[], 0);
    // Without a limit there are ten.
    for _ in 0..8 {
        ask.service(json!({}));
    }
    let (ids, total) = page(&ask, "vpc-endpoint-services", "");
    ask.same("default page", &json!([ids.len(), total]), &json!([10, 11]));
    ask.end();
}

#[test]
fn bad_parameters() {
    let mut ask = Asker::start();
    let service = ask.service(json!({}));
    let of_service = |tail: &str| format!("vpc-endpoint-services/{service}/{tail}");
    for path in [
        "vpc-endpoint-services".to_owned(),
        "vpc-endpoints".into(),
        of_service("connections"),
        of_service("permissions"),
    ] {
        let too_much = if path.ends_with("permissions") { 501 } else { 1001 };
        let limit = format!("limit={too_much}");
        for (query, code) in [
            (&*limit, "0006"),
            ("limit=-1", "0006"),
            ("limit=1.0", "0006"),
            ("limit=x", "0006"),
            ("limit=%2B1", "0006"),
            ("limit=%201", "0006"),
            ("offset=-1", "0010"),
            ("offset=x", "0010"),
            ("offset=1.5", "0010"),
            ("sort_key=id", "0017"),
            ("sort_key=CREATED_AT", "0017"),
            ("sort_dir=DESC", "0018"),
            ("sort_dir=descending", "0018"),
        ] {
            ask.refuse(query, ("GET", &format!("{path}?{query}")), None, (400, code));
        }
        ask.demo
            .must("GET", &format!("{path}?limit={}", too_much - 1), None);
    }
    for (path, query, code) in [
        ("vpc-endpoint-services", "id=x", "3062"),
        ("vpc-endpoint-services", "status=accepted", "0019"),
        ("vpc-endpoint-services", "status=Available", "0019"),
        ("vpc-endpoint-services", "endpoint_service_name=a%3Cb", "1003"),
        ("vpc-endpoint-services", "endpoint_service_name=a%0Ab", "1003"),
        ("vpc-endpoints", "id=x", "2017"),
        ("vpc-endpoints", "vpc_id=x", "0020"),
        ("vpc-endpoints", "endpoint_service_name=a%3Eb", "1003"),
        ("quotas", "type=x", "3070"),
        ("quotas", "type=Endpoint", "3070"),
    ] {
        ask.refuse(query, ("GET", &format!("{path}?{query}")), None, (400, code));
    }
    ask.end();
}

#[test]
fn generic_failures() {
    let mut ask = Asker::start();
    for (method, path, status, code) in [
        ("GET", format!("/v1/{PROJECT}/nothing"), 404, "0005"),
        ("GET", "/v9".into(), 404, "0005"),
        ("GET", format!("/v2/{PROJECT}/vpc-endpoints"), 404, "0005"),
        ("PATCH", format!("/v1/{PROJECT}/vpc-endpoints"), 405, "0002"),
        (
            "DELETE",
            format!("/v1/{PROJECT}/vpc-endpoint-services"),
            405,
            "0002",
        ),
        ("POST", "/v1".into(), 405, "0002"),
        ("GET", "/v1/x/vpc-endpoints".into(), 400, "0014"),
        (
            "GET",
            format!("/v1/{}/vpc-endpoints", "0".repeat(32)),
            403,
            "0004",
        ),
    ] {
        ask.refuse("generic", (method, &path), None, (status, code));
    }
    let nobody = ask.demo.with_token("x");
    ask.refuse_to(
        &nobody,
        "bad token",
        ("GET", "vpc-endpoints"),
        None,
        (401, "0003"),
    );
    // Before anything else of the request.
    ask.refuse_to(
        &nobody,
        "bad token",
        ("POST", "/v1/x/vpc-endpoints"),
        Some(&json!([])),
        (401, "0003"),
    );
    ask.end();
}

#[test]
fn quotas_count_what_is_there() {
    let mut ask = Asker::start();
    let resources = |ask: &Asker, query: &str| ask.demo.must("GET", &format!("quotas{query}"), None);
    let of = |kind: &str, used: u32, quota: u32| json!({"type": kind, "used": used, "quota": quota});
    let seen = resources(&ask, "");
    ask.same(
        "both",
        &seen,
        &json!({"quotas": {"resources": [of("endpoint", 0, 50), of("endpoint_service", 0, 20)]}}),
    );
    let service = ask.service(json!({}));
    let endpoint = ask.endpoint(&service, json!({}), "pendingAcceptance");
    let seen = resources(&ask, "?type=endpoint_service");
    ask.same(
        "one",
        &seen,
        &json!({"quotas": {"resources": [of("endpoint_service", 1, 20)]}}),
    );
    let seen = resources(&ask, "?type=endpoint");
    ask.same(
        "one",
        &seen,
        &json!({"quotas": {"resources": [of("endpoint", 1, 50)]}}),
    );
    // Free from the answer on.
    ask.demo
        .must("DELETE", &format!("vpc-endpoints/{endpoint}"), None);
    ask.demo
        .must("DELETE", &format!("vpc-endpoint-services/{service}"), None);
    let seen = resources(&ask, "");
    ask.same(
        "none",
        &seen,
        &json!({"quotas": {"resources": [of("endpoint", 0, 50), of("endpoint_service", 0, 20)]}}),
    );
    ask.end();
}

#[test]
fn versions() {
    let mut ask = Asker::start();
    let fields = json!(["id", "links", "min_version", "status", "updated", "version"]);
    let all = ask.demo.must("GET", "/", None);
    let listed = all["versions"].as_array().unwrap();
    let ids: Vec<_> = listed.iter().map(|v| &v["id"]).collect();
    ask.same("ids", &json!(ids), &json!(["v1", "v2", "v3.14"]));
    for (i, (version, updated)) in [("1", "2018-09-30T00:00:00Z"), ("2", "2020-03-30T00:00:00Z")]
        .iter()
        .enumerate()
    {
        ask.same("fields", &names(&listed[i]), &fields);
        ask.same("version", &listed[i]["version"], &json!(version));
        ask.same("updated", &listed[i]["updated"], &json!(updated));
        ask.same("min_version", &listed[i]["min_version"], &json!(""));
        ask.same("rel", &listed[i]["links"][0]["rel"], &json!("self"));
        ask.same("type", &listed[i]["links"][0]["type"], &json!("application/json"));
        for path in [format!("/v{version}"), format!("/v{version}/")] {
            let one = ask.demo.must("GET", &path, None);
            ask.same(&path, &one["version"], &listed[i]);
        }
    }
    ask.end();
}
