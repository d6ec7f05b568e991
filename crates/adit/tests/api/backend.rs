//! Further backends of a service (spec B.10). What they do on the wire is in `tests/backends.rs`.

use serde_json::{Value, json};

use crate::{
    agreement::agrees,
    app::{Client, NOBODY, SERVICES, TestApp, service_body, text},
};

const NEUTRON_SUBNET: &str = "4189d3c2-8882-4871-a3c2-d380272eed82";

/// A load balancer in a subnet: its id, and its port's.
async fn balancer(client: &Client, subnet: &str) -> (String, String) {
    let body = json!({"loadbalancer": {"name": "b", "vip_subnet_id": subnet}});
    let reply = client.post("/v2.0/lbaas/loadbalancers", &body).await;
    assert_eq!(reply.status, 201, "{}", reply.text);
    let made = &reply.body["loadbalancer"];
    (text(&made["id"]), text(&made["vip_port_id"]))
}

fn behind(port: &str, server_port: u16) -> Value {
    let mut body = service_body(server_port);
    body["port_id"] = json!(port);
    body["server_type"] = json!("LB");
    body
}

fn add(ids: &[&str]) -> Value {
    let resources: Vec<_> = ids.iter().map(|id| json!({"resource_id": id})).collect();
    json!({"server_resources": resources})
}

#[tokio::test]
async fn load_balancers_are_added_and_claimed_like_the_first() {
    let app = TestApp::start().await;
    let mut balancers = Vec::new();
    for _ in 0..3 {
        balancers.push(balancer(&app.demo, NEUTRON_SUBNET).await);
    }
    let service = app.demo.service_of(&behind(&balancers[0].1, 80)).await;
    let path = format!(
        "/v2/{}/{SERVICES}/{service}/add-server-resources",
        app.demo.project
    );
    let mut body = add(&[&balancers[1].0]);
    body["server_resources"][0]["availability_zone_id"] = json!("eu-de-01");
    app.demo.post(&path, &body).await.no_content();
    // Again, and what was the backend from the first, is nothing new.
    app.demo
        .post(&path, &add(&[&balancers[1].0, &balancers[0].0]))
        .await
        .no_content();

    // Its pairs are taken on each backend, and no other's.
    for (at, expected) in [(0, 400), (1, 400), (2, 200)] {
        let reply = app.demo.post(SERVICES, &behind(&balancers[at].1, 80)).await;
        assert_eq!(reply.status, expected, "{at} {}", reply.text);
        if expected == 400 {
            assert_eq!(reply.refused(), (400, "3044"));
        }
    }
    // So the third one, where another service has the pair, cannot be added.
    let refused = app.demo.post(&path, &add(&[&balancers[2].0])).await;
    assert_eq!(refused.refused(), (400, "3044"));
    // Other mappings move the claims on all of them.
    let ports = json!({"ports": [{"client_port": 80, "server_port": 81}]});
    app.demo.put(&format!("{SERVICES}/{service}"), &ports).await.ok();
    let freed = app.demo.service_of(&behind(&balancers[1].1, 80)).await;
    let taken = app.demo.post(SERVICES, &behind(&balancers[1].1, 81)).await;
    assert_eq!(taken.refused(), (400, "3044"));
    app.demo.remove_service(&freed).await;
    // The second one becomes the first, and what was the first is let go of.
    let port = json!({"port_id": balancers[1].1});
    app.demo.put(&format!("{SERVICES}/{service}"), &port).await.ok();
    let freed = app.demo.service_of(&behind(&balancers[0].1, 81)).await;
    app.demo.remove_service(&freed).await;
    app.demo.post(&path, &add(&[&balancers[0].0])).await.no_content();
    agrees(&app.running.app).await;
    // And with the service all of it goes.
    app.demo.remove_service(&service).await;
    for (_, port) in &balancers[..2] {
        let freed = app.demo.service_of(&behind(port, 81)).await;
        app.demo.remove_service(&freed).await;
    }
    agrees(&app.running.app).await;
}

#[tokio::test]
async fn every_rule_has_its_code_and_nothing_is_added() {
    let app = TestApp::start().await;
    let (first, port) = balancer(&app.demo, NEUTRON_SUBNET).await;
    let (second, second_port) = balancer(&app.demo, NEUTRON_SUBNET).await;
    let (theirs, _) = balancer(&app.other, "5290e4d3-9993-4982-b4d3-e491383ffe92").await;
    let (_, subnet) = app.demo.vpc("172.16.0.0/16", "172.16.0.0/24").await;
    let subnet = app.demo.get(&format!("subnets/{subnet}")).await.ok();
    let (elsewhere, _) = balancer(&app.demo, &text(&subnet["subnet"]["neutron_subnet_id"])).await;
    let service = app.demo.service_of(&behind(&port, 80)).await;
    let of = |id: &str| format!("/v2/{}/{SERVICES}/{id}/add-server-resources", app.demo.project);
    let server = app.demo.service(80, true).await;
    let nine: Vec<&str> = std::iter::repeat_n(first.as_str(), 9).collect();
    let good = add(&[&second]);
    for (id, body, expected) in [
        (service.as_str(), json!({}), (400, "2002")),
        (&service, add(&[]), (400, "2002")),
        (&service, json!({"server_resources": [{}]}), (400, "2002")),
        (&service, json!({"server_resources": "x"}), (400, "0002")),
        (&service, add(&["x"]), (400, "0002")),
        (&service, add(&nine), (400, "0016")),
        (&service, add(&[&second, NOBODY]), (400, "3008")),
        (&service, add(&[&second, &theirs]), (400, "3008")),
        (&service, add(&[&second, &elsewhere]), (400, "3042")),
        (&service, json!([]), (400, "1004")),
        (&server, good.clone(), (400, "3021")),
        (NOBODY, good.clone(), (404, "0005")),
        ("x", good.clone(), (400, "3062")),
    ] {
        assert_eq!(
            app.demo.post(&of(id), &body).await.refused(),
            expected,
            "{id} {body}"
        );
    }
    let mut failing = behind(&port, 90);
    failing["tcp_proxy"] = json!("open");
    let failed = text(&app.demo.post(SERVICES, &failing).await.ok()["id"]);
    let path = format!("{SERVICES}/{failed}");
    app.demo.until(&path, |r| r.body["status"] == "failed").await;
    let reply = app.demo.post(&of(&failed), &good).await;
    assert_eq!(reply.refused(), (400, "3045"));
    // None of it has claimed anything.
    app.demo.service_of(&behind(&second_port, 80)).await;
    agrees(&app.running.app).await;
}
