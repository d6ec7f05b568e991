//! The call sequences of the clients' own suites, with the statuses that they insist on.

use std::time::Duration;

use serde_json::{Value, json};

use crate::stage::{Client, Stage, id};

/// Asks until the answer is as wanted.
async fn until(client: &Client, path: &str, wanted: impl Fn(u16, &Value) -> bool) -> Value {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    loop {
        let reply = client.get(path).await;
        if wanted(reply.status, &reply.body) {
            return reply.body;
        }
        assert!(
            tokio::time::Instant::now() < deadline,
            "{path}: {} {}",
            reply.status,
            reply.body
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn service(client: &Client, port: &Value, vpc: &Value, approval: bool) -> String {
    let body = json!({
        "port_id": port, "vpc_id": vpc, "approval_enabled": approval, "server_type": "LB",
        "service_type": "interface", "ports": [{"client_port": 80, "server_port": 80, "protocol": ""}],
    });
    let made = client.post("/v1/P/vpc-endpoint-services", body).await.expect(200);
    let service = made["id"].as_str().unwrap().to_owned();
    let path = format!("/v1/P/vpc-endpoint-services/{service}");
    until(client, &path, |_, body| body["status"] == "available").await;
    service
}

#[tokio::test]
async fn gophertelekomcloud_makes_a_load_balancer_a_service_and_an_endpoint() {
    let (stage, _running) = Stage::with_vpcep().await;
    let demo = stage.demo().await;
    let subnets = demo.get("/v1/P/subnets").await.expect(200);
    let subnet = &subnets["subnets"][0];
    let (vpc, network) = (&subnet["vpc_id"], &subnet["id"]);
    // Twice: everything is reusable at once.
    for _ in 0..2 {
        let body = json!({"loadbalancer": {"name": "lb", "vip_subnet_id": subnet["neutron_subnet_id"]}});
        let balancer = demo.post("/v2.0/lbaas/loadbalancers", body).await.expect(201);
        let service = service(&demo, &balancer["loadbalancer"]["vip_port_id"], vpc, false).await;
        let path = format!("/v1/P/subnets/{}", network.as_str().unwrap());
        assert_eq!(demo.get(&path).await.expect(200)["subnet"]["cidr"], "10.0.0.0/24");
        // Network address + 3, while automatic addresses were given out.
        let body = json!({
            "subnet_id": network, "endpoint_service_id": service, "vpc_id": vpc, "enable_dns": true,
            "port_ip": "10.0.0.3", "tags": [{"key": "k", "value": "v"}],
        });
        let made = demo.post("/v1/P/vpc-endpoints", body).await.expect(200);
        assert_eq!(made["status"], "creating");
        let endpoint = format!("/v1/P/vpc-endpoints/{}", made["id"].as_str().unwrap());
        let accepted = until(&demo, &endpoint, |_, body| body["status"] == "accepted").await;
        assert_eq!(accepted["ip"], "10.0.0.3");
        // Back to back.
        demo.delete(&endpoint).await.expect(204);
        demo.delete(&format!("/v1/P/vpc-endpoint-services/{service}"))
            .await
            .expect(204);
        let balancer = format!("/v2.0/lbaas/loadbalancers/{}", id(&balancer, "loadbalancer"));
        assert_eq!(demo.delete(&balancer).await.expect(204), Value::Null);
        demo.get(&balancer).await.expect(404);
    }
}

/// What the suite makes for each of its tests.
struct Network {
    network: String,
    subnet: String,
    router: String,
    port: String,
}

async fn network(client: &Client) -> Network {
    let network = id(
        &client
            .post("/v2.0/networks", json!({"network": {"name": "n"}}))
            .await
            .expect(201),
        "network",
    );
    let body =
        json!({"subnet": {"name": "s", "ip_version": 4, "network_id": network, "cidr": "192.168.0.0/16"}});
    let subnet = id(&client.post("/v2.0/subnets", body).await.expect(201), "subnet");
    let router = id(
        &client
            .post("/v2.0/routers", json!({"router": {"name": "r"}}))
            .await
            .expect(201),
        "router",
    );
    let path = format!("/v2.0/routers/{router}/add_router_interface");
    let added = client.put(&path, json!({"subnet_id": subnet})).await.expect(200);
    assert_eq!(added["subnet_id"], subnet);
    assert!(added["port_id"].is_string());
    let body = json!({"port": {"name": "p", "network_id": network}});
    let port = id(&client.post("/v2.0/ports", body).await.expect(201), "port");
    Network {
        network,
        subnet,
        router,
        port,
    }
}

impl Network {
    async fn delete(&self, client: &Client) {
        let Self {
            network,
            subnet,
            router,
            port,
        } = self;
        client.delete(&format!("/v2.0/ports/{port}")).await.expect(204);
        client.get(&format!("/v2.0/routers/{router}")).await.expect(200);
        let path = format!("/v2.0/routers/{router}/remove_router_interface");
        let removed = client.put(&path, json!({"subnet_id": subnet})).await.expect(200);
        assert_eq!(removed["subnet_id"], *subnet);
        assert!(removed["port_id"].is_string());
        client
            .delete(&format!("/v2.0/routers/{router}"))
            .await
            .expect(204);
        client
            .delete(&format!("/v2.0/subnets/{subnet}"))
            .await
            .expect(204);
        client
            .delete(&format!("/v2.0/networks/{network}"))
            .await
            .expect(204);
    }
}

#[tokio::test]
async fn otcextensions_sets_up_and_cleans_up_in_reverse() {
    let (stage, _running) = Stage::with_vpcep().await;
    stage.anybody().get("/v3").await.expect(200);
    let demo = stage.demo().await;
    let vpcs = demo.get("/v1/P/vpcs").await.expect(200);
    let vpc = vpcs["vpcs"][0]["id"].as_str().unwrap();
    let subnets = demo.get(&format!("/v1/P/subnets?vpc_id={vpc}")).await.expect(200);
    let subnet = &subnets["subnets"][0];
    assert_eq!(subnet["status"], "ACTIVE");
    let zones = demo.get("/v3/P/elb/availability-zones").await.expect(200);
    assert_eq!(zones["availability_zones"][0][0]["code"], "eu-de-01");
    let body = json!({"loadbalancer": {
        "name": "lb", "description": "", "vip_subnet_cidr_id": subnet["neutron_subnet_id"], "vpc_id": vpc,
        "availability_zone_list": ["eu-de-01"], "guaranteed": true, "provider": "vlb",
    }});
    let balancer = demo.post("/v3/P/elb/loadbalancers", body).await.expect(201);
    let path = format!("/v3/P/elb/loadbalancers/{}", id(&balancer, "loadbalancer"));
    let shown = demo.get(&path).await.expect(200);
    assert_eq!(shown["loadbalancer"]["provisioning_status"], "ACTIVE");
    assert_eq!(shown["loadbalancer"]["vpc_id"], vpc);
    for approval in [true, false] {
        let made = network(&demo).await;
        let service = service(
            &demo,
            &shown["loadbalancer"]["vip_port_id"],
            &json!(vpc),
            approval,
        )
        .await;
        let body = json!({"subnet_id": made.network, "endpoint_service_id": service, "vpc_id": made.router});
        let endpoint = demo.post("/v1/P/vpc-endpoints", body).await.expect(200);
        let wanted = if approval { "pendingAcceptance" } else { "creating" };
        assert_eq!(endpoint["status"], wanted);
        let endpoint = format!("/v1/P/vpc-endpoints/{}", endpoint["id"].as_str().unwrap());
        if !approval {
            until(&demo, &endpoint, |_, body| body["status"] == "accepted").await;
        }
        demo.delete(&endpoint).await.expect(204);
        demo.delete(&format!("/v1/P/vpc-endpoint-services/{service}"))
            .await
            .expect(204);
        made.delete(&demo).await;
    }
    demo.delete(&path).await.expect(204);
    demo.get(&path).await.expect(404);
}

#[tokio::test]
async fn what_a_deleted_endpoint_left_behind_goes_with_its_subnet() {
    let (stage, running) = Stage::with_vpcep().await;
    let demo = stage.demo().await;
    let port = json!("4189d3c2-8882-4871-a3c2-d380272eed88");
    let vpc = json!("4189d3c2-8882-4871-a3c2-d380272eed80");
    let body = json!({
        "port_id": port, "vpc_id": vpc, "approval_enabled": false, "server_type": "VM",
        "ports": [{"client_port": 80, "server_port": 80, "protocol": "TCP"}],
    });
    let service = demo.post("/v1/P/vpc-endpoint-services", body).await.expect(200);
    let path = format!("/v1/P/vpc-endpoint-services/{}", service["id"].as_str().unwrap());
    until(&demo, &path, |_, body| body["status"] == "available").await;
    let made = network(&demo).await;
    let body =
        json!({"subnet_id": made.network, "endpoint_service_id": service["id"], "vpc_id": made.router});
    let endpoint = demo.post("/v1/P/vpc-endpoints", body).await.expect(200);
    let endpoint = format!("/v1/P/vpc-endpoints/{}", endpoint["id"].as_str().unwrap());
    until(&demo, &endpoint, |_, body| body["status"] == "accepted").await;
    // While it lives nothing below it goes, and its port is not the tenant's to delete.
    let ports = demo
        .get(&format!(
            "/v2.0/ports?network_id={}&device_owner=vpcep:endpoint",
            made.network
        ))
        .await;
    let held = ports.expect(200)["ports"][0]["id"].as_str().unwrap().to_owned();
    demo.delete(&format!("/v2.0/ports/{held}")).await.expect(409);
    demo.delete(&format!("/v2.0/ports/{}", made.port))
        .await
        .expect(204);
    demo.delete(&format!("/v2.0/subnets/{}", made.subnet))
        .await
        .expect(409);
    demo.delete(&format!("/v2.0/networks/{}", made.network))
        .await
        .expect(409);
    let remove = format!("/v2.0/routers/{}/remove_router_interface", made.router);
    demo.put(&remove, json!({"subnet_id": made.subnet}))
        .await
        .expect(409);
    // With the reconcilers at rest, nobody but the subnet's deletion takes the port away.
    running.cancel();
    demo.delete(&endpoint).await.expect(204);
    demo.get(&format!("/v2.0/ports/{held}")).await.expect(200);
    demo.put(&remove, json!({"subnet_id": made.subnet}))
        .await
        .expect(200);
    demo.delete(&format!("/v2.0/routers/{}", made.router))
        .await
        .expect(204);
    demo.delete(&format!("/v2.0/subnets/{}", made.subnet))
        .await
        .expect(204);
    demo.delete(&format!("/v2.0/networks/{}", made.network))
        .await
        .expect(204);
    demo.get(&format!("/v2.0/ports/{held}")).await.expect(404);
    let network = made.network.parse().unwrap();
    assert_eq!(stage.cache.read().addresses_of_subnet(network).count(), 0);
}

#[tokio::test]
async fn the_harness_finds_or_makes_a_vpc() {
    let stage = Stage::new().await;
    let demo = stage.demo().await;
    let body = json!({"vpc": {"name": "harness-vpc", "cidr": "10.66.0.0/16"}});
    let vpc = demo.post("/v1/P/vpcs", body).await.expect(200);
    let body = json!({"subnet": {
        "name": "harness-subnet", "cidr": "10.66.1.0/24", "gateway_ip": "10.66.1.1",
        "vpc_id": vpc["vpc"]["id"], "dhcp_enable": true,
    }});
    let subnet = demo.post("/v1/P/subnets", body).await.expect(200);
    assert_eq!(subnet["subnet"]["status"], "ACTIVE");
    assert_eq!(subnet["subnet"]["neutron_network_id"], subnet["subnet"]["id"]);
    let body =
        json!({"loadbalancer": {"name": "lb", "vip_subnet_id": subnet["subnet"]["neutron_subnet_id"]}});
    let balancer = demo.post("/v2.0/lbaas/loadbalancers", body).await.expect(201);
    assert_eq!(balancer["loadbalancer"]["vip_address"], "10.66.1.100");
    // The command line: list, show, list of ports.
    let id = subnet["subnet"]["id"].as_str().unwrap();
    for path in [
        "/v2.0/networks",
        "/v2.0/routers",
        &format!("/v2.0/ports?fields=id&fields=name&network_id={id}"),
    ] {
        demo.get(path).await.expect(200);
    }
}
