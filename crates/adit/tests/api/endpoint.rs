//! Endpoints: create, list, show, delete (spec A.13 to A.16).

use serde_json::json;

use crate::{
    app::{
        DEMO_SUBNET, DEMO_VPC, ENDPOINTS, NOBODY, OTHER_PROJECT, OTHER_SUBNET, OTHER_VPC, SERVICES, TestApp,
        endpoint_body, service_body, text,
    },
    service::{bad_parameters, ids},
};

#[tokio::test]
async fn an_endpoint_shows_what_it_is() {
    let app = TestApp::start().await;
    let service = app.service(80, false).await;
    let mut body = endpoint_body(&service);
    body["port_ip"] = json!("10.0.0.3");
    body["enable_dns"] = json!(true);
    body["whitelist"] = json!(["10.0.0.20", "10.0.0.7/24"]);
    body["enable_whitelist"] = json!(true);
    body["tags"] = json!([{"key": "k", "value": "v"}]);
    body["description"] = json!("d");
    // Without effect for an interface endpoint.
    body["routetables"] = json!([NOBODY]);
    let created = app.other.post(ENDPOINTS, &body).await.ok();
    assert!((1..=i64::from(i32::MAX)).contains(&created["marker_id"].as_i64().unwrap()));
    assert_eq!(created["endpoint_service_id"], service.as_str());
    let mut settings = insta::Settings::clone_current();
    settings.set_sort_maps(true);
    settings.add_redaction(".id", "[id]");
    settings.add_redaction(".marker_id", "[marker id]");
    settings.add_redaction(".endpoint_service_id", "[service]");
    settings.add_redaction(".endpoint_service_name", "eu-de.[service]");
    settings.add_redaction(".created_at", "[time]");
    settings.add_redaction(".updated_at", "[time]");
    settings.bind(|| {
        insta::assert_json_snapshot!(created, @r#"
        {
          "active_status": [
            "active"
          ],
          "created_at": "[time]",
          "description": "d",
          "enable_dns": true,
          "enable_status": "enable",
          "enable_whitelist": true,
          "endpoint_pool_id": "b1d2a7c4-5e6f-4a3b-9c8d-7e6f5a4b3c2d",
          "endpoint_service_id": "[service]",
          "endpoint_service_name": "eu-de.[service]",
          "id": "[id]",
          "marker_id": "[marker id]",
          "project_id": "7fae0e62e2235f9e95a9edf9a5a34b1e",
          "service_type": "interface",
          "specification_name": "default",
          "status": "creating",
          "subnet_id": "5290e4d3-9993-4982-b4d3-e491383ffe91",
          "tags": [
            {
              "key": "k",
              "value": "v"
            }
          ],
          "updated_at": "[time]",
          "vpc_id": "5290e4d3-9993-4982-b4d3-e491383ffe90",
          "whitelist": [
            "10.0.0.20",
            "10.0.0.7/24"
          ]
        }
        "#);
    });

    let path = format!("{ENDPOINTS}/{}", text(&created["id"]));
    let shown = app.other.until(&path, |r| r.body["status"] == "accepted").await;
    let mut expected = created.clone();
    expected["status"] = json!("accepted");
    expected["ip"] = json!("10.0.0.3");
    expected["dns_names"] = json!([format!("vpcep-{}.eu-de.vpcep.internal", text(&created["id"]))]);
    expected["updated_at"] = shown["updated_at"].clone();
    assert_eq!(shown, expected);
    let listed = app.other.get(ENDPOINTS).await.ok();
    assert_eq!(listed, json!({"endpoints": [expected], "total_count": 1}));
}

#[tokio::test]
async fn without_approval_it_is_accepted_by_itself_and_with_it_waits() {
    let app = TestApp::start().await;
    let open = app.service(80, false).await;
    let created = app.other.post(ENDPOINTS, &endpoint_body(&open)).await.ok();
    assert_eq!(created["status"], "creating");
    assert!(created.get("ip").is_none() && created.get("dns_names").is_none());
    let path = format!("{ENDPOINTS}/{}", text(&created["id"]));
    let shown = app.other.until(&path, |r| r.body["status"] == "accepted").await;
    // Automatic addresses stay away from the ones that clients ask for by number.
    let ip: std::net::Ipv4Addr = text(&shown["ip"]).parse().unwrap();
    assert!(ip.octets()[..3] == [10, 0, 0] && ip.octets()[3] >= 100, "{ip}");
    assert!(shown.get("dns_names").is_none());

    let asking = app.service(81, true).await;
    let created = app.other.post(ENDPOINTS, &endpoint_body(&asking)).await.ok();
    assert_eq!(created["status"], "pendingAcceptance");
    // The first look of the owner shows it waiting.
    let list = app
        .demo
        .get(&format!("{SERVICES}/{asking}/connections"))
        .await
        .ok();
    assert_eq!(list["connections"][0]["status"], "pendingAcceptance");
    assert_eq!(list["connections"][0]["id"], created["id"]);
    assert_eq!(list["connections"][0]["marker_id"], created["marker_id"]);

    // The owner's own account needs no record, and skips no approval.
    let own = json!({"endpoint_service_id": asking, "vpc_id": DEMO_VPC, "subnet_id": DEMO_SUBNET});
    let created = app.demo.post(ENDPOINTS, &own).await.ok();
    assert_eq!(created["status"], "pendingAcceptance");
}

#[tokio::test]
async fn a_deleted_endpoint_is_gone_and_what_it_used_is_free_at_once() {
    let app = TestApp::builder().quotas(2, 1).start().await;
    let service = app.service(80, false).await;
    let mut body = endpoint_body(&service);
    body["port_ip"] = json!("10.0.0.12");
    for _ in 0..10 {
        let id = text(&app.other.post(ENDPOINTS, &body).await.ok()["id"]);
        let path = format!("{ENDPOINTS}/{id}");
        app.other.delete(&path).await.no_content();
        assert_eq!(app.other.used().await, (0, 0));
        // Again: a success, or gone by now.
        let again = app.other.delete(&path).await;
        assert!(again.status == 204 || again.refused() == (404, "2006"));
    }
    let id = text(&app.other.post(ENDPOINTS, &body).await.ok()["id"]);
    let path = format!("{ENDPOINTS}/{id}");
    app.other.until(&path, |r| r.body["status"] == "accepted").await;
    app.other.delete(&path).await.no_content();
    let taker = json!({"port": {"network_id": OTHER_SUBNET, "fixed_ips": [{"ip_address": "10.0.0.12"}]}});
    assert_eq!(app.other.post("/v2.0/ports", &taker).await.status, 201);
    let gone = app.other.until_gone(&path).await;
    assert_eq!(gone["error_code"], "EndPoint.2006");
    assert_eq!(
        app.demo.get(&format!("{SERVICES}/{service}")).await.ok()["connection_count"],
        0
    );
}

#[tokio::test]
async fn endpoints_are_deleted_in_every_state() {
    let app = TestApp::start().await;
    let open = app.service(80, false).await;
    let asking = app.service(81, true).await;
    let accepted = app.endpoint(&open, "accepted").await;
    let waiting = app.endpoint(&asking, "pendingAcceptance").await;
    let rejected = app.endpoint(&asking, "pendingAcceptance").await;
    app.decide(&asking, "reject", &rejected).await.ok();
    let failed = {
        let doomed = app.service(82, true).await;
        let failed = app.endpoint(&doomed, "pendingAcceptance").await;
        app.demo.remove_service(&doomed).await;
        failed
    };
    let creating = text(&app.other.post(ENDPOINTS, &endpoint_body(&open)).await.ok()["id"]);
    for id in [accepted, waiting, rejected, failed, creating] {
        let path = format!("{ENDPOINTS}/{id}");
        app.other.delete(&path).await.no_content();
        app.other.until_gone(&path).await;
    }
    assert_eq!(
        app.other.get(ENDPOINTS).await.ok(),
        json!({"endpoints": [], "total_count": 0})
    );
}

#[tokio::test]
async fn endpoints_of_others_do_not_exist() {
    let app = TestApp::start().await;
    let service = app.service(80, true).await;
    let id = app.endpoint(&service, "pendingAcceptance").await;
    // The owner of the service is none of the endpoint.
    for id in [id.as_str(), NOBODY] {
        let path = format!("{ENDPOINTS}/{id}");
        assert_eq!(app.demo.get(&path).await.refused(), (404, "2006"));
        assert_eq!(app.demo.delete(&path).await.refused(), (404, "2006"));
    }
    assert_eq!(app.demo.get(ENDPOINTS).await.ok()["total_count"], 0);
    for bad in ["x", "5290e4d3-9993-4982-b4d3-e491383ffe9"] {
        let path = format!("{ENDPOINTS}/{bad}");
        assert_eq!(app.other.get(&path).await.refused(), (400, "2017"));
        assert_eq!(app.other.delete(&path).await.refused(), (400, "2017"));
    }
    let shown = app.other.get(&format!("{ENDPOINTS}/{id}")).await.ok();
    assert_eq!(shown["project_id"], OTHER_PROJECT);
}

#[tokio::test]
async fn lists_are_filtered_sorted_and_cut_as_asked() {
    let app = TestApp::start().await;
    let mut body = service_body(80);
    body["service_name"] = json!("Orders");
    let orders = app.demo.service_of(&body).await;
    let files = app.demo.service(81, true).await;
    let anybody = json!({"permissions": ["*"], "action": "add"});
    for service in [&orders, &files] {
        let path = format!("{SERVICES}/{service}/permissions/action");
        app.demo.post(&path, &anybody).await.ok();
    }
    let (vpc, subnet) = app.other.vpc("10.9.0.0/16", "10.9.0.0/24").await;
    let mut made = Vec::new();
    for n in 0..11 {
        let mut body = endpoint_body(if n < 6 { &orders } else { &files });
        if n == 7 {
            body["vpc_id"] = json!(vpc);
            body["subnet_id"] = json!(subnet);
        }
        made.push(text(&app.other.post(ENDPOINTS, &body).await.ok()["id"]));
    }
    let newest: Vec<String> = made.iter().rev().cloned().collect();
    for (query, expected, total) in [
        (String::new(), &newest[..10], 11),
        ("limit=0".to_owned(), &[][..], 11),
        ("limit=1000".to_owned(), &newest[..], 11),
        ("limit=2&offset=3".to_owned(), &newest[3..5], 11),
        ("offset=11".to_owned(), &[][..], 11),
        ("limit=11&sort_dir=asc".to_owned(), &made[..], 11),
        (format!("id={}", made[4]), &made[4..5], 1),
        (format!("vpc_id={vpc}"), &made[7..8], 1),
        (format!("vpc_id={OTHER_VPC}&limit=3"), &newest[..3], 10),
        (format!("vpc_id={NOBODY}"), &[][..], 0),
        ("endpoint_service_name=oRDERS".to_owned(), &newest[5..], 6),
        (format!("endpoint_service_name=eu-de.{files}"), &newest[..5], 5),
        (format!("endpoint_service_name=orders&vpc_id={vpc}"), &[][..], 0),
        (
            format!("endpoint_service_name=orders&id={}", made[1]),
            &made[1..2],
            1,
        ),
        (
            "id=&vpc_id=&endpoint_service_name=&limit=1".to_owned(),
            &newest[..1],
            11,
        ),
    ] {
        let reply = app.other.get(&format!("{ENDPOINTS}?{query}")).await.ok();
        assert_eq!(ids(&reply, "endpoints"), expected, "{query}");
        assert_eq!(reply["total_count"], total, "{query}");
    }
    for (query, code) in bad_parameters().into_iter().chain([
        ("id=x", "2017"),
        ("vpc_id=x", "0020"),
        ("endpoint_service_name=%3E", "1003"),
    ]) {
        let reply = app.other.get(&format!("{ENDPOINTS}?{query}")).await;
        assert_eq!(reply.refused(), (400, code), "{query}");
    }
}
