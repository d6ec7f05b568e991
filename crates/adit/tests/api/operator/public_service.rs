//! Public services, as the operator makes them and takes them away.

use std::sync::Arc;

use adit_store::{RedbStore, Store};
use serde_json::{Value, json};

use crate::{
    agreement::agrees,
    app::{
        Client, DEMO_PORT, DEMO_PROJECT, DEMO_VPC, ENDPOINTS, NOBODY, OTHER_VPC, SERVICES, TestApp,
        endpoint_body, poll, service_body, text,
    },
    gateway_endpoint::{gateway_body, gateway_endpoint},
    public_service::{DNS, OBS, PUBLIC},
    service::ids,
};

const ALL: &str = "/admin/v1/services";

/// A request for a gateway service in `demo`'s network.
fn gateway() -> Value {
    json!({
        "project_id": DEMO_PROJECT, "service_type": "gateway", "service_name": "com.example.store",
        "vpc_id": DEMO_VPC, "prefixes": ["100.64.0.0/16", "100.65.0.0/24"],
        "ports": [{"client_port": 443, "server_port": 443}],
    })
}

/// A request for an interface service in `demo`'s network.
fn interface() -> Value {
    json!({
        "project_id": DEMO_PROJECT, "service_name": "com.example.names", "vpc_id": DEMO_VPC,
        "port_id": DEMO_PORT, "server_type": "VM", "ports": [{"client_port": 53, "server_port": 5353}],
        "owner": "Example", "is_charge": true, "description": "d",
    })
}

async fn until_available(app: &TestApp, id: &str) {
    let id = id.parse().unwrap();
    let ready = poll(async || {
        let state = app.running.app.cache.read();
        let service = state.service(&id)?;
        (service.status().as_str() == "available").then_some(())
    });
    assert!(ready.await.is_some(), "{id} never becomes available");
}

async fn create(app: &TestApp, body: &Value) -> Value {
    let created = app.operator.post(ALL, body).await.ok();
    assert_eq!(created["status"], "creating");
    until_available(app, created["id"].as_str().unwrap()).await;
    created
}

/// An available gateway service of this name; answers its id.
pub(crate) async fn public_gateway(app: &TestApp, name: &str) -> String {
    let mut body = gateway();
    body["service_name"] = json!(name);
    text(&create(app, &body).await["id"])
}

async fn names(client: &Client) -> Vec<String> {
    let listed = client.get(PUBLIC).await.ok();
    let services = listed["endpoint_services"].as_array().unwrap();
    services.iter().map(|s| text(&s["service_name"])).collect()
}

#[tokio::test]
async fn both_types_are_made_used_and_taken_away() {
    let app = TestApp::start().await;
    let store = create(&app, &gateway()).await;
    assert_eq!(store["prefixes"], json!(["100.64.0.0/16", "100.65.0.0/24"]));
    assert_eq!(
        (&store["owner"], &store["is_charge"]),
        (&json!("OTC"), &json!(false))
    );
    assert!(store.get("port_id").is_none() && store.get("server_type").is_none());
    let naming = create(&app, &interface()).await;
    assert_eq!(
        (
            &naming["port_id"],
            &naming["server_type"],
            &naming["service_type"],
            &naming["approval_enabled"]
        ),
        (
            &json!(DEMO_PORT),
            &json!("VM"),
            &json!("interface"),
            &json!(false)
        )
    );
    assert_eq!(
        names(&app.other).await[..2],
        ["com.example.names", "com.example.store"]
    );
    let listed = app.other.get(&format!("{PUBLIC}?limit=1")).await.ok();
    let first = &listed["endpoint_services"][0];
    assert_eq!(
        (&first["owner"], &first["is_charge"]),
        (&json!("Example"), &json!(true))
    );
    // They are nobody's in the tenants' lists and quotas, also not of the project whose network they are in.
    assert_eq!(app.demo.get(SERVICES).await.ok()["total_count"], 0);
    assert_eq!(app.demo.used().await, (0, 0));

    let mut body = gateway_body(&[]);
    body["endpoint_service_id"] = store["id"].clone();
    let behind_routes = gateway_endpoint(&app.other, &body, "accepted").await;
    let table = app.other.default_table(OTHER_VPC).await;
    let shown = app.other.get(&format!("routetables/{table}")).await.ok();
    let routes = shown["routetable"]["routes"].as_array().unwrap();
    let led = routes.iter().filter(|r| r["nexthop"] == behind_routes.as_str());
    assert_eq!(led.count(), 2);
    // Another service may be behind the same table.
    gateway_endpoint(&app.other, &gateway_body(&[]), "accepted").await;
    let of_port = app
        .other
        .post(ENDPOINTS, &endpoint_body(&text(&naming["id"])))
        .await
        .ok();
    let of_port = text(&of_port["id"]);

    for (service, endpoint) in [(&store, &behind_routes), (&naming, &of_port)] {
        let path = format!("{ALL}/{}", text(&service["id"]));
        app.other
            .until(&format!("{ENDPOINTS}/{endpoint}"), |r| {
                r.body["status"] == "accepted"
            })
            .await;
        assert_eq!(app.operator.delete(&path).await.refused(), (400, "3006"));
        app.other
            .delete(&format!("{ENDPOINTS}/{endpoint}"))
            .await
            .no_content();
        app.operator.delete(&path).await.no_content();
        let described = format!("{SERVICES}/describe?id={}", text(&service["id"]));
        app.other.until_gone(&described).await;
        // Asked again while it goes it is done; and then it is not there.
        let gone = poll(async || (app.operator.delete(&path).await.status == 404).then_some(()));
        assert!(gone.await.is_some());
    }
    assert_eq!(names(&app.other).await.len(), 2);
    // Its name and its ports can be had again.
    create(&app, &gateway()).await;
    create(&app, &interface()).await;
    agrees(&app.running.app).await;
}

#[tokio::test]
async fn every_rule_has_its_code() {
    let app = TestApp::start().await;
    create(&app, &interface()).await;
    let before = names(&app.other).await;
    let change = |mut body: Value, field: &str, value: Value| {
        body[field] = value;
        body
    };
    for (body, code) in [
        (change(gateway(), "project_id", json!(null)), "2002"),
        (change(gateway(), "project_id", json!("x")), "0014"),
        (change(gateway(), "service_type", json!("vlan")), "0002"),
        (change(gateway(), "prefixes", json!([])), "2002"),
        (change(gateway(), "prefixes", json!(["100.64.0.1/16"])), "3017"),
        (change(gateway(), "prefixes", json!(["198.19.0.0/16"])), "3017"),
        (change(gateway(), "vpc_id", json!("x")), "0020"),
        (change(gateway(), "service_name", json!("")), "3076"),
        (
            change(gateway(), "ports", json!([{"client_port": 1, "server_port": 2}])),
            "3043",
        ),
        (change(gateway(), "owner", json!("<")), "0002"),
        (change(gateway(), "is_charge", json!("true")), "0002"),
        (change(gateway(), "vpc_id", json!(NOBODY)), "2001"),
        // The VPC is another project's.
        (change(gateway(), "vpc_id", json!(OTHER_VPC)), "2001"),
        (change(gateway(), "pool_id", json!(NOBODY)), "2038"),
        (
            change(gateway(), "service_name", json!("com.example.names")),
            "3076",
        ),
        (change(interface(), "port_id", json!(null)), "2002"),
        (change(interface(), "server_type", json!("LB")), "3021"),
        (change(interface(), "port_id", json!(NOBODY)), "3008"),
        (change(interface(), "service_name", json!("another")), "3044"),
    ] {
        let reply = app.operator.post(ALL, &body).await;
        assert_eq!(reply.refused(), (400, code), "{body}");
    }
    assert_eq!(names(&app.other).await, before);
    // A tenant's service on the same port, and the other way round.
    let tenant = app.demo.post(SERVICES, &service_body(5353)).await;
    assert_eq!(tenant.refused(), (400, "3044"));
    let own = app.demo.service(80, true).await;
    let mut body = interface();
    body["service_name"] = json!("another");
    body["ports"] = json!([{"client_port": 1, "server_port": 80}]);
    assert_eq!(app.operator.post(ALL, &body).await.refused(), (400, "3044"));
    // A tenant's service is not the operator's to take away here.
    let reply = app.operator.delete(&format!("{ALL}/{own}")).await;
    assert_eq!(reply.refused(), (404, "0005"));
    assert_eq!(
        app.operator.delete(&format!("{ALL}/x")).await.refused(),
        (400, "3062")
    );
}

#[tokio::test]
async fn what_was_deleted_stays_deleted_and_what_was_made_stays() {
    let dir = tempfile::tempdir().unwrap();
    let open = || -> Arc<dyn Store> { Arc::new(RedbStore::open(dir.path().join("r.redb")).unwrap()) };
    let app = TestApp::builder().store(open()).start().await;
    let listed = app.other.get(PUBLIC).await.ok();
    assert_eq!(ids(&listed, "endpoint_services"), [OBS, DNS]);
    app.operator.delete(&format!("{ALL}/{DNS}")).await.no_content();
    app.other
        .until_gone(&format!("{SERVICES}/describe?id={DNS}"))
        .await;
    create(&app, &gateway()).await;
    let endpoint = gateway_endpoint(&app.other, &gateway_body(&[]), "accepted").await;
    let table = app.other.default_table(OTHER_VPC).await;
    let seen = async |app: &TestApp| {
        json!([
            app.other.get(PUBLIC).await.ok(),
            app.other.world().await,
            app.other.get(&format!("routetables/{table}")).await.ok(),
        ])
    };
    let before = seen(&app).await;
    crate::lifecycle::stop(app).await;

    let app = TestApp::builder().store(open()).start().await;
    assert_eq!(seen(&app).await, before);
    assert_eq!(
        names(&app.other).await,
        ["com.example.store", "com.t-systems.otc.eu-de.obs"]
    );
    app.other
        .delete(&format!("{ENDPOINTS}/{endpoint}"))
        .await
        .no_content();
    app.other.until_gone(&format!("{ENDPOINTS}/{endpoint}")).await;
    agrees(&app.running.app).await;
    crate::lifecycle::stop(app).await;
}
