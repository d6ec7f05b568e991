//! Endpoint services: create, list, show, delete (spec A.4 to A.6, A.8).

use serde_json::{Value, json};

use crate::app::{
    DEMO_PORT, DEMO_PROJECT, DEMO_VPC, ENDPOINTS, NOBODY, OTHER_PROJECT, SERVICES, TestApp, service_body,
    text,
};

/// The request that the API document prints, word for word.
const DOCUMENTED: &str = r#"{
   "port_id":"4189d3c2-8882-4871-a3c2-d380272eed88",
   "vpc_id":"4189d3c2-8882-4871-a3c2-d380272eed80",
   "approval_enabled":false,
   "service_type":"interface",
   "server_type":"VM",
   "ports":
  [
    {
      "client_port":8080,
      "server_port":90,
      "protocol":"TCP"
    },
    {
      "client_port":8081,
      "server_port":80,
      "protocol":"TCP"
    }
  ]
}"#;

#[tokio::test]
async fn the_documented_request_makes_a_service() {
    let app = TestApp::start().await;
    let request = app
        .demo
        .request("POST", SERVICES)
        .body(DOCUMENTED.into())
        .unwrap();
    let created = app.demo.send_raw(request).await.ok();
    let id = text(&created["id"]);
    assert_eq!(created["service_name"], format!("eu-de.{id}"));
    assert_eq!(created["created_at"], created["updated_at"]);
    let mut settings = insta::Settings::clone_current();
    settings.set_sort_maps(true);
    settings.add_redaction(".id", "[id]");
    settings.add_redaction(".service_name", "eu-de.[id]");
    settings.add_redaction(".created_at", "[time]");
    settings.add_redaction(".updated_at", "[time]");
    settings.bind(|| {
        insta::assert_json_snapshot!(created, @r#"
        {
          "approval_enabled": false,
          "connection_count": 0,
          "created_at": "[time]",
          "description": "",
          "enable_policy": false,
          "id": "[id]",
          "ip_version": "ipv4",
          "pool_id": "b1d2a7c4-5e6f-4a3b-9c8d-7e6f5a4b3c2d",
          "port_id": "4189d3c2-8882-4871-a3c2-d380272eed88",
          "ports": [
            {
              "client_port": 8080,
              "protocol": "TCP",
              "server_port": 90
            },
            {
              "client_port": 8081,
              "protocol": "TCP",
              "server_port": 80
            }
          ],
          "project_id": "6e9dfd51d1124e8d8498dce894923a0d",
          "server_type": "VM",
          "service_name": "eu-de.[id]",
          "service_type": "interface",
          "status": "creating",
          "supported_editions": [
            "basic"
          ],
          "tags": [],
          "tcp_proxy": "close",
          "updated_at": "[time]",
          "vpc_id": "4189d3c2-8882-4871-a3c2-d380272eed80"
        }
        "#);
    });

    let path = format!("{SERVICES}/{id}");
    let shown = app.demo.until(&path, |r| r.body["status"] == "available").await;
    let mut expected = created.clone();
    expected["status"] = json!("available");
    expected["updated_at"] = shown["updated_at"].clone();
    assert_eq!(shown, expected);

    // A list shows the owner's account too.
    let mut listed = app.demo.get(SERVICES).await.ok();
    assert_eq!(listed["total_count"], 1);
    let domain = listed["endpoint_services"][0]
        .as_object_mut()
        .unwrap()
        .remove("domain_id");
    assert_eq!(domain, Some(json!("a3f1c2d4e5b60718293a4b5c6d7e8f90")));
    assert_eq!(listed["endpoint_services"][0], expected);
}

#[tokio::test]
async fn defaults_are_the_documented_ones_and_everything_sent_is_shown() {
    let app = TestApp::start().await;
    let created = app.demo.post(SERVICES, &service_body(80)).await.ok();
    let (tcp, none) = (json!("TCP"), json!([]));
    assert_eq!(created["approval_enabled"], true);
    assert_eq!(created["service_type"], "interface");
    assert_eq!(created["tcp_proxy"], "close");
    assert_eq!(created["ports"][0]["protocol"], tcp);
    assert_eq!(created["tags"], none);
    assert_eq!(created["description"], "");
    assert_eq!(created["connection_count"], 0);
    assert_eq!(created["project_id"], DEMO_PROJECT);
    assert!(created.get("domain_id").is_none() && created.get("error").is_none());

    let sent = json!({
        "port_id": DEMO_PORT, "vpc_id": DEMO_VPC, "server_type": "VIP", "pool_id": created["pool_id"],
        "service_name": "orders_Db-1", "approval_enabled": true, "tcp_proxy": "close",
        "ports": [{"client_port": 1, "server_port": 65535, "protocol": "TCP"}],
        "tags": [{"key": "größe", "value": "a@b-c_d"}], "description": "ü",
    });
    let body = {
        let mut body = sent.clone();
        // Unknown fields are ignored, the protocol's case too.
        body["whatever"] = json!([1]);
        body["ports"][0]["protocol"] = json!("tcp");
        body["service_type"] = json!("Interface");
        body
    };
    let created = app.demo.post(SERVICES, &body).await.ok();
    let id = text(&created["id"]);
    for (field, value) in sent.as_object().unwrap() {
        if field != "service_name" {
            assert_eq!(created[field], *value, "{field}");
        }
    }
    assert_eq!(created["service_name"], format!("eu-de.orders_Db-1.{id}"));
}

#[tokio::test]
async fn a_deleted_service_is_gone_and_what_it_used_is_free_at_once() {
    let app = TestApp::builder().quotas(1, 1).start().await;
    let id = app.demo.service(80, true).await;
    let path = format!("{SERVICES}/{id}");
    let refused = app.demo.post(SERVICES, &service_body(81)).await;
    assert_eq!(refused.refused(), (400, "1018"));
    assert_eq!(refused.body["error_code"], "Endpoint.1018");
    assert_eq!(app.demo.used().await, (0, 1));

    app.demo.delete(&path).await.no_content();
    assert_eq!(app.demo.used().await, (0, 0));
    // The same pair of the same port, and the one slot of the quota, right behind the answer.
    let again = app.demo.post(SERVICES, &service_body(80)).await.ok();
    assert_ne!(again["id"], id.as_str());
    let gone = app.demo.until_gone(&path).await;
    assert_eq!(gone["error_code"], "EndPoint.0005");
    let refused = app.demo.delete(&path).await;
    assert_eq!(refused.refused(), (404, "0005"));
}

#[tokio::test]
async fn deleting_again_while_it_is_deleted_is_a_success() {
    let app = TestApp::start().await;
    for port in 1..=20 {
        let path = format!("{SERVICES}/{}", app.demo.service(port, true).await);
        app.demo.delete(&path).await.no_content();
        // It may have gone by now.
        let again = app.demo.delete(&path).await;
        match again.status {
            204 => {}
            _ => assert_eq!(again.refused(), (404, "0005")),
        }
    }
    assert_eq!(app.demo.used().await, (0, 0));
}

#[tokio::test]
async fn a_service_with_live_endpoints_stays() {
    let app = TestApp::start().await;
    let service = app.service(80, false).await;
    let path = format!("{SERVICES}/{service}");
    let endpoint = app.endpoint(&service, "accepted").await;
    let before = app.demo.world().await;
    assert_eq!(app.demo.delete(&path).await.refused(), (400, "3006"));
    assert_eq!(app.demo.world().await, before);
    assert_eq!(app.demo.get(&path).await.ok()["connection_count"], 1);

    // One that is on its way out is not in the way.
    app.other
        .delete(&format!("{ENDPOINTS}/{endpoint}"))
        .await
        .no_content();
    app.demo.delete(&path).await.no_content();
    app.demo.until_gone(&path).await;
    app.other.until_gone(&format!("{ENDPOINTS}/{endpoint}")).await;
}

#[tokio::test]
async fn endpoints_that_wait_or_were_rejected_fail_with_their_service() {
    let app = TestApp::start().await;
    let service = app.service(80, true).await;
    let waiting = app.endpoint(&service, "pendingAcceptance").await;
    let rejected = app.endpoint(&service, "pendingAcceptance").await;
    app.decide(&service, "reject", &rejected).await.ok();
    let name = app.demo.get(&format!("{SERVICES}/{service}")).await.ok()["service_name"].take();
    app.demo
        .delete(&format!("{SERVICES}/{service}"))
        .await
        .no_content();
    app.demo.until_gone(&format!("{SERVICES}/{service}")).await;
    for endpoint in [waiting, rejected] {
        let path = format!("{ENDPOINTS}/{endpoint}");
        let shown = app.other.until(&path, |r| r.body["status"] == "failed").await;
        assert_eq!(shown["error"][0]["error_code"], "EndPoint.2003");
        assert_eq!(shown["endpoint_service_name"], name);
        assert!(shown.get("ip").is_none());
        app.other.delete(&path).await.no_content();
        app.other.until_gone(&path).await;
    }
    assert_eq!(app.other.used().await, (0, 0));
}

#[tokio::test]
async fn more_waiting_endpoints_than_fit_one_pass_all_fail_with_their_service() {
    let app = TestApp::builder().quotas(1, 300).start().await;
    let service = app.service(80, true).await;
    for _ in 0..300 {
        app.other
            .post(ENDPOINTS, &crate::app::endpoint_body(&service))
            .await
            .ok();
    }
    app.demo
        .delete(&format!("{SERVICES}/{service}"))
        .await
        .no_content();
    app.demo.until_gone(&format!("{SERVICES}/{service}")).await;
    let list = app.other.get(&format!("{ENDPOINTS}?limit=1000")).await.ok();
    let list = list["endpoints"].as_array().unwrap();
    let failed = list.iter().filter(|e| e["status"] == "failed").count();
    assert_eq!((list.len(), failed), (300, 300));
}

#[tokio::test]
async fn a_service_cannot_be_deleted_before_it_is_made() {
    let app = TestApp::start().await;
    // A backend without an address keeps its service in `creating`.
    let body = json!({"network": {"name": "n"}});
    let network = app.demo.post("/v2.0/networks", &body).await.body["network"]["id"].take();
    let (network, router) = (
        text(&network),
        app.demo.post("/v2.0/routers", &json!({"router": {}})).await,
    );
    let bare = app.demo.port(&network).await;
    let body = json!({"subnet": {"network_id": network, "cidr": "192.168.7.0/24", "ip_version": 4}});
    let range = app.demo.post("/v2.0/subnets", &body).await.body["subnet"]["id"].take();
    let vpc = text(&router.body["router"]["id"]);
    let path = format!("/v2.0/routers/{vpc}/add_router_interface");
    app.demo.put(&path, &json!({"subnet_id": range})).await.ok();

    let mut body = service_body(80);
    body["port_id"] = json!(bare);
    body["vpc_id"] = json!(vpc);
    let id = text(&app.demo.post(SERVICES, &body).await.ok()["id"]);
    let path = format!("{SERVICES}/{id}");
    let before = app.demo.world().await;
    assert_eq!(app.demo.delete(&path).await.refused(), (400, "3005"));
    let change = json!({"approval_enabled": false});
    assert_eq!(app.demo.put(&path, &change).await.refused(), (400, "3045"));
    let endpoint =
        json!({"endpoint_service_id": id, "vpc_id": DEMO_VPC, "subnet_id": crate::app::DEMO_SUBNET});
    assert_eq!(app.demo.post(ENDPOINTS, &endpoint).await.refused(), (400, "2004"));
    assert_eq!(app.demo.world().await, before);
    // Whitelist records can be written meanwhile.
    let add = json!({"permissions": ["*"], "action": "add"});
    app.demo
        .post(&format!("{path}/permissions/action"), &add)
        .await
        .ok();
}

#[tokio::test]
async fn services_of_others_do_not_exist() {
    let app = TestApp::start().await;
    let id = app.service(80, true).await;
    let add = json!({"permissions": ["*"], "action": "add"});
    let decide = json!({"action": "receive", "endpoints": [NOBODY]});
    for id in [id.as_str(), NOBODY] {
        let path = format!("{SERVICES}/{id}");
        let replies = [
            app.other.get(&path).await,
            app.other.put(&path, &json!({"description": "mine"})).await,
            app.other.delete(&path).await,
            app.other.get(&format!("{path}/connections")).await,
            app.other
                .post(&format!("{path}/connections/action"), &decide)
                .await,
            app.other.get(&format!("{path}/permissions")).await,
            app.other.post(&format!("{path}/permissions/action"), &add).await,
        ];
        for reply in replies {
            assert_eq!(reply.refused(), (404, "0005"));
        }
    }
    assert_eq!(app.other.get(SERVICES).await.ok()["total_count"], 0);
    for bad in ["x", "4189d3c2-8882-4871-a3c2-d380272eed8", "public-"] {
        let path = format!("{SERVICES}/{bad}");
        let replies = [
            app.demo.get(&path).await,
            app.demo.put(&path, &json!({"description": "x"})).await,
            app.demo.delete(&path).await,
            app.demo.get(&format!("{path}/connections")).await,
            app.demo
                .post(&format!("{path}/connections/action"), &decide)
                .await,
            app.demo.get(&format!("{path}/permissions")).await,
            app.demo.post(&format!("{path}/permissions/action"), &add).await,
        ];
        for reply in replies {
            assert_eq!(reply.refused(), (400, "3062"), "{bad}");
        }
    }
    assert_ne!(OTHER_PROJECT, app.demo.project);
}

/// The ids of a list, in its order.
pub(crate) fn ids(list: &Value, name: &str) -> Vec<String> {
    list[name]
        .as_array()
        .unwrap()
        .iter()
        .map(|i| text(&i["id"]))
        .collect()
}

#[tokio::test]
async fn lists_are_filtered_sorted_and_cut_as_asked() {
    let app = TestApp::start().await;
    let mut made = Vec::new();
    for n in 0..12 {
        let mut body = service_body(100 + n);
        body["service_name"] = json!(format!("Name-{n}"));
        made.push(app.demo.service_of(&body).await);
    }
    let list = async |query: &str| app.demo.get(&format!("{SERVICES}?{query}")).await.ok();
    let newest: Vec<String> = made.iter().rev().cloned().collect();

    // Newest first, also within one second; ten by default.
    let all = list("").await;
    assert_eq!(ids(&all, "endpoint_services"), newest[..10]);
    assert_eq!(all["total_count"], 12);
    for (query, expected) in [
        ("limit=0", &newest[..0]),
        ("limit=1000", &newest[..]),
        ("limit=5&offset=10", &newest[10..]),
        ("limit=3&offset=4", &newest[4..7]),
        ("offset=12", &newest[..0]),
        ("offset=99999999999999999999", &newest[..0]),
        ("limit=12&sort_dir=asc", &made[..]),
        ("limit=12&sort_key=created_at&sort_dir=desc", &newest[..]),
        ("limit=12&sort_key=create_at", &newest[..]),
        ("limit=12&status=available&unknown=1", &newest[..]),
        (
            "limit=&offset=&sort_key=&sort_dir=&id=&status=&endpoint_service_name=",
            &newest[..10],
        ),
    ] {
        let reply = list(query).await;
        assert_eq!(ids(&reply, "endpoint_services"), expected, "{query}");
        assert_eq!(reply["total_count"], 12, "{query}");
    }
    // The last to change comes first; in a later second than every other's change, or the order of creation decides.
    let newest_path = format!("{SERVICES}/{}", made[11]);
    app.demo
        .until(&newest_path, |r| text(&r.body["updated_at"]) < now())
        .await;
    let path = format!("{SERVICES}/{}", made[3]);
    app.demo.put(&path, &json!({"description": "new"})).await.ok();
    for key in ["updated_at", "update_at"] {
        let reply = list(&format!("limit=1&sort_key={key}")).await;
        assert_eq!(ids(&reply, "endpoint_services"), made[3..4], "{key}");
        let reply = list(&format!("limit=12&sort_key={key}&sort_dir=asc")).await;
        assert_eq!(ids(&reply, "endpoint_services").last(), Some(&made[3]), "{key}");
    }
    for (query, expected) in [
        (format!("id={}", made[5]), &made[5..6]),
        (format!("id={NOBODY}"), &[][..]),
        ("endpoint_service_name=nAmE-5".to_owned(), &made[5..6]),
        (
            format!("endpoint_service_name=EU-DE.name-7.{}", made[7]),
            &made[7..8],
        ),
        (format!("endpoint_service_name={}", made[2]), &made[2..3]),
        ("endpoint_service_name=nothing".to_owned(), &[][..]),
        ("status=failed".to_owned(), &[][..]),
        (format!("id={}&endpoint_service_name=name-4", made[5]), &[][..]),
        (format!("id={}&status=available", made[5]), &made[5..6]),
    ] {
        let reply = list(&query).await;
        assert_eq!(ids(&reply, "endpoint_services"), expected, "{query}");
        assert_eq!(reply["total_count"], expected.len(), "{query}");
    }
    // A page does not change how many match.
    let reply = list("endpoint_service_name=name-1&limit=1").await;
    assert_eq!(
        (ids(&reply, "endpoint_services").len(), &reply["total_count"]),
        (1, &json!(3))
    );
}

/// The present second as replies show it.
fn now() -> String {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    adit_model::time::Timestamp::from_unix_s(now.as_secs().try_into().unwrap()).to_string()
}

#[tokio::test]
async fn parameters_out_of_range_have_their_codes() {
    let app = TestApp::start().await;
    for (query, code) in bad_parameters().into_iter().chain([
        ("id=x", "3062"),
        ("status=Available", "0019"),
        ("endpoint_service_name=%3C", "1003"),
        ("endpoint_service_name=a%3Eb", "1003"),
        ("endpoint_service_name=%01", "1003"),
    ]) {
        let reply = app.demo.get(&format!("{SERVICES}?{query}")).await;
        assert_eq!(reply.refused(), (400, code), "{query}");
    }
}

/// What no list takes.
pub(crate) fn bad_parameters() -> Vec<(&'static str, &'static str)> {
    vec![
        ("limit=-1", "0006"),
        ("limit=1001", "0006"),
        ("limit=x", "0006"),
        ("limit=1.5", "0006"),
        ("offset=-1", "0010"),
        ("offset=x", "0010"),
        ("offset=1.0", "0010"),
        ("sort_key=name", "0017"),
        ("sort_dir=DESC", "0018"),
        ("sort_dir=up", "0018"),
    ]
}
