//! Public services: what everybody can connect to, and what anybody may know of a service (spec A.3).

use serde_json::{Value, json};

use crate::{
    app::{
        DEMO_PORT, ENDPOINTS, NOBODY, OTHER_SUBNET, OTHER_VPC, SERVICES, TestApp, endpoint_body,
        service_body, text,
    },
    service::{bad_parameters, ids},
};

pub(crate) const PUBLIC: &str = "vpc-endpoint-services/public";
const DESCRIBE: &str = "vpc-endpoint-services/describe";
/// The gateway service of the embedded region, and its interface service.
pub(crate) const OBS: &str = "7d20ab63-8e4f-4c19-8032-6b1d9f5e3c2d";
pub(crate) const DNS: &str = "6c1f9a52-7d3e-4b08-9f21-5a0c8e4d2b1d";

#[tokio::test]
async fn everybody_sees_the_operator_s_services() {
    let app = TestApp::start().await;
    let mut settings = insta::Settings::clone_current();
    settings.set_sort_maps(true);
    settings.add_redaction(".**.created_at", "[time]");
    let listed = app.other.get(PUBLIC).await.ok();
    settings.bind(|| {
        insta::assert_json_snapshot!(listed, @r#"
        {
          "endpoint_services": [
            {
              "created_at": "[time]",
              "enable_policy": true,
              "id": "7d20ab63-8e4f-4c19-8032-6b1d9f5e3c2d",
              "is_charge": false,
              "owner": "OTC",
              "service_name": "com.t-systems.otc.eu-de.obs",
              "service_type": "gateway"
            },
            {
              "created_at": "[time]",
              "enable_policy": false,
              "id": "6c1f9a52-7d3e-4b08-9f21-5a0c8e4d2b1d",
              "is_charge": false,
              "owner": "OTC",
              "service_name": "com.t-systems.otc.eu-de.dns",
              "service_type": "interface"
            }
          ],
          "total_count": 2
        }
        "#);
    });
    for client in [&app.demo, &app.viewer, &app.operator] {
        assert_eq!(client.get(PUBLIC).await.ok(), listed);
    }
}

#[tokio::test]
async fn lists_are_filtered_sorted_and_cut_as_asked() {
    let app = TestApp::start().await;
    for (query, expected) in [
        ("", vec![OBS, DNS]),
        ("?sort_dir=asc", vec![DNS, OBS]),
        ("?sort_key=updated_at&sort_dir=desc&limit=1000", vec![OBS, DNS]),
        ("?limit=1", vec![OBS]),
        ("?limit=1&offset=1", vec![DNS]),
        ("?offset=2", vec![]),
        ("?limit=0", vec![]),
    ] {
        let listed = app.demo.get(&format!("{PUBLIC}{query}")).await.ok();
        let mut expected = expected;
        // In which order they have become available is nobody's promise.
        let mut found = ids(&listed, "endpoint_services");
        if query.contains("updated_at") {
            expected.sort_unstable();
            found.sort_unstable();
        }
        assert_eq!(found, expected, "{query}");
        assert_eq!(listed["total_count"], 2, "{query}");
    }
    for (query, expected) in [
        ("endpoint_service_name=com.t-systems.otc.eu-de.obs", vec![OBS]),
        ("endpoint_service_name=EU-DE.D", vec![DNS]),
        ("endpoint_service_name=apig", vec![]),
        (&format!("id={DNS}"), vec![DNS]),
        (&format!("id={DNS}&endpoint_service_name=obs"), vec![]),
        (&format!("id={NOBODY}"), vec![]),
    ] {
        let listed = app.demo.get(&format!("{PUBLIC}?{query}")).await.ok();
        assert_eq!(ids(&listed, "endpoint_services"), expected, "{query}");
        assert_eq!(listed["total_count"], expected.len(), "{query}");
    }
    let own = [("id=x", "3062"), ("endpoint_service_name=%3C", "1003")];
    for (query, code) in bad_parameters().into_iter().chain(own) {
        let reply = app.demo.get(&format!("{PUBLIC}?{query}")).await;
        assert_eq!(reply.refused(), (400, code), "{query}");
    }
}

#[tokio::test]
async fn the_region_s_name_is_part_of_their_names() {
    let app = TestApp::builder().region_name("eu-nl").start().await;
    let listed = app.demo.get(PUBLIC).await.ok();
    let names: Vec<_> = [0, 1]
        .map(|n| text(&listed["endpoint_services"][n]["service_name"]))
        .into();
    assert_eq!(
        names,
        ["com.t-systems.otc.eu-nl.obs", "com.t-systems.otc.eu-nl.dns"]
    );
}

#[tokio::test]
async fn anybody_can_look_a_service_up_and_sees_nothing_of_its_backend() {
    let app = TestApp::start().await;
    let mut body = service_body(80);
    body["service_name"] = json!("orders");
    let id = app.demo.service_of(&body).await;
    let name = format!("eu-de.orders.{id}");
    let by_id = app.other.get(&format!("{DESCRIBE}?id={id}")).await.ok();
    let own = app.demo.get(&format!("{SERVICES}/{id}")).await.ok();
    let expected = json!({
        "id": id, "service_name": name, "service_type": "interface", "created_at": own["created_at"],
        "is_charge": false, "enable_policy": false,
    });
    assert_eq!(by_id, expected);
    for query in [
        format!("endpoint_service_name={name}"),
        format!("endpoint_service_name={name}&id={id}"),
        format!("endpoint_service_name=&id={id}"),
        format!("unknown=1&id={}", id.to_uppercase()),
    ] {
        let found = app.viewer.get(&format!("{DESCRIBE}?{query}")).await.ok();
        assert_eq!(found, expected, "{query}");
    }
    let public = app
        .other
        .get(&format!(
            "{DESCRIBE}?endpoint_service_name=com.t-systems.otc.eu-de.obs"
        ))
        .await
        .ok();
    assert_eq!(
        (
            &public["id"],
            &public["service_type"],
            public.as_object().unwrap().len()
        ),
        (&json!(OBS), &json!("gateway"), 6)
    );
    let by_id = app.other.get(&format!("{DESCRIBE}?id={OBS}")).await.ok();
    assert_eq!(by_id, public);
}

#[tokio::test]
async fn what_cannot_be_described_has_its_code() {
    let app = TestApp::start().await;
    let id = app.demo.service(80, true).await;
    for (query, expected) in [
        (String::new(), (400, "2002")),
        ("?id=&endpoint_service_name=".to_owned(), (400, "2002")),
        ("?id=x".to_owned(), (400, "3062")),
        ("?endpoint_service_name=a%3Cb".to_owned(), (400, "1003")),
        (format!("?id={NOBODY}"), (404, "0005")),
        ("?endpoint_service_name=eu-de.x".to_owned(), (404, "0005")),
        // A part of the name, or another spelling, is another name.
        (format!("?endpoint_service_name={id}"), (404, "0005")),
        (format!("?endpoint_service_name=EU-DE.{id}"), (404, "0005")),
        (
            "?endpoint_service_name=com.t-systems.otc.eu-de.ob".to_owned(),
            (404, "0005"),
        ),
        // Two names of two services.
        (
            format!("?id={OBS}&endpoint_service_name=eu-de.{id}"),
            (404, "0005"),
        ),
        (
            format!("?id={id}&endpoint_service_name=com.t-systems.otc.eu-de.obs"),
            (404, "0005"),
        ),
        // Both have to be well-formed.
        (format!("?id=x&endpoint_service_name=eu-de.{id}"), (400, "3062")),
    ] {
        let reply = app.other.get(&format!("{DESCRIBE}{query}")).await;
        assert_eq!(reply.refused(), expected, "{query}");
    }
}

#[tokio::test]
async fn a_service_on_its_way_out_is_not_described_any_more() {
    let app = TestApp::start().await;
    let id = app.demo.service(80, true).await;
    let TestApp {
        running, demo, other, ..
    } = app;
    // Nobody makes it go.
    running.stop().await.unwrap();
    demo.delete(&format!("{SERVICES}/{id}")).await.no_content();
    assert_eq!(
        demo.get(&format!("{SERVICES}/{id}")).await.ok()["status"],
        "deleting"
    );
    let reply = other.get(&format!("{DESCRIBE}?id={id}")).await;
    assert_eq!(reply.refused(), (404, "0005"));
    let created = text(&demo.post(SERVICES, &service_body(81)).await.ok()["id"]);
    other.get(&format!("{DESCRIBE}?id={created}")).await.ok();
}

#[tokio::test]
async fn tenants_neither_list_nor_change_them() {
    let app = TestApp::start().await;
    for client in [&app.demo, &app.other, &app.operator] {
        assert_eq!(client.get(SERVICES).await.ok()["total_count"], 0);
        assert_eq!(client.used().await, (0, 0));
        for id in [OBS, DNS] {
            let path = format!("{SERVICES}/{id}");
            for tail in ["", "/connections", "/permissions"] {
                let reply = client.get(&format!("{path}{tail}")).await;
                assert_eq!(reply.refused(), (404, "0005"), "{tail}");
            }
            assert_eq!(client.delete(&path).await.refused(), (403, "0004"));
            let put = async |body: Value| client.put(&path, &body).await;
            assert_eq!(put(json!({"description": "mine"})).await.refused(), (403, "0004"));
            assert_eq!(put(json!({"port_id": DEMO_PORT})).await.refused(), (400, "3054"));
            // The body's own faults come first.
            assert_eq!(put(json!({"port_id": "x"})).await.refused(), (400, "3063"));
            assert_eq!(put(json!({})).await.refused(), (400, "2002"));
            let add = json!({"permissions": ["*"], "action": "add"});
            let reply = client.post(&format!("{path}/permissions/action"), &add).await;
            assert_eq!(reply.refused(), (404, "0005"));
            let tags = json!({"action": "create", "tags": [{"key": "k"}]});
            let reply = client
                .post(&format!("endpoint_service/{id}/tags/action"), &tags)
                .await;
            assert_eq!(reply.refused(), (404, "0005"));
        }
    }
    // The words of the paths are no ids, and have no other method.
    for word in ["public", "describe"] {
        let reply = app.demo.delete(&format!("{SERVICES}/{word}")).await;
        assert_eq!(reply.refused(), (405, "0002"));
    }
}

#[tokio::test]
async fn anybody_can_connect_to_them_without_a_record_and_without_asking() {
    let app = TestApp::start().await;
    app.demo.until(PUBLIC, |r| r.body["total_count"] == 2).await;
    let body = endpoint_body(DNS);
    let created = app.other.post(ENDPOINTS, &body).await.ok();
    assert_eq!(created["status"], "creating");
    assert_eq!(created["service_type"], "interface");
    assert_eq!(created["endpoint_service_name"], "com.t-systems.otc.eu-de.dns");
    let path = format!("{ENDPOINTS}/{}", text(&created["id"]));
    let shown = app.other.until(&path, |r| r.body["status"] == "accepted").await;
    assert!(shown["ip"].is_string());
    let of_service = format!("{ENDPOINTS}?endpoint_service_name=otc.eu-de.DNS");
    let listed = app.other.get(&of_service).await.ok();
    assert_eq!(ids(&listed, "endpoints"), [text(&created["id"])]);
    let mut chosen = json!({"endpoint_service_id": DNS, "vpc_id": OTHER_VPC, "subnet_id": OTHER_SUBNET});
    chosen["port_ip"] = json!("10.0.0.7");
    app.other.post(ENDPOINTS, &chosen).await.ok();
    app.other.delete(&path).await.no_content();
    app.other.until_gone(&path).await;
}
