//! What existing clients do back to back, without waiting for anything.

use serde_json::{Value, json};

use crate::app::{Client, ENDPOINTS, Reply, SERVICES, TestApp, text};

#[track_caller]
fn created(reply: Reply) -> Value {
    assert_eq!(reply.status, 201, "{}", reply.text);
    reply.body
}

/// A network through Neutron as clients make it: network, subnet, router, interface; and a load balancer and a port in it.
struct Network {
    network: String,
    subnet: String,
    router: String,
    balancer: String,
    balancer_port: String,
    port: String,
}

impl Network {
    async fn make(client: &Client) -> Self {
        let network = created(
            client
                .post("/v2.0/networks", &json!({"network": {"name": "n"}}))
                .await,
        );
        let network = text(&network["network"]["id"]);
        let subnet = json!({"subnet": {"network_id": network, "cidr": "192.168.0.0/16", "ip_version": 4}});
        let subnet = text(&created(client.post("/v2.0/subnets", &subnet).await)["subnet"]["id"]);
        let router = created(
            client
                .post("/v2.0/routers", &json!({"router": {"name": "r"}}))
                .await,
        );
        let router = text(&router["router"]["id"]);
        let path = format!("/v2.0/routers/{router}/add_router_interface");
        client.put(&path, &json!({"subnet_id": subnet})).await.ok();
        let balancer = json!({"loadbalancer": {"name": "l", "vip_subnet_id": subnet}});
        let balancer = created(client.post("/v2.0/lbaas/loadbalancers", &balancer).await);
        Self {
            balancer: text(&balancer["loadbalancer"]["id"]),
            balancer_port: text(&balancer["loadbalancer"]["vip_port_id"]),
            port: client.port(&network).await,
            network,
            subnet,
            router,
        }
    }

    /// Takes it all away, each step right behind the one before.
    async fn remove(&self, client: &Client) {
        let interface = format!("/v2.0/routers/{}/remove_router_interface", self.router);
        client
            .delete(&format!("/v2.0/lbaas/loadbalancers/{}", self.balancer))
            .await
            .no_content();
        client
            .delete(&format!("/v2.0/ports/{}", self.port))
            .await
            .no_content();
        client
            .put(&interface, &json!({"subnet_id": self.subnet}))
            .await
            .ok();
        client
            .delete(&format!("/v2.0/routers/{}", self.router))
            .await
            .no_content();
        client
            .delete(&format!("/v2.0/subnets/{}", self.subnet))
            .await
            .no_content();
        client
            .delete(&format!("/v2.0/networks/{}", self.network))
            .await
            .no_content();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_is_deleted_back_to_back() {
    let app = TestApp::start().await;
    let client = &app.demo;
    // Deleted in the middle of its making, and after it.
    for (round, settled) in [false, true].into_iter().cycle().take(20).enumerate() {
        let network = Network::make(client).await;
        let service = json!({
            "port_id": network.balancer_port, "vpc_id": network.router, "server_type": "LB",
            "service_name": "back-to-back", "approval_enabled": false,
            "ports": [{"client_port": 80, "server_port": 80, "protocol": ""}],
        });
        let service = client.service_of(&service).await;
        let endpoint = json!({
            "endpoint_service_id": service, "vpc_id": network.router, "subnet_id": network.network,
            "port_ip": "192.168.0.3",
        });
        let endpoint = text(&client.post(ENDPOINTS, &endpoint).await.ok()["id"]);
        let path = format!("{ENDPOINTS}/{endpoint}");
        if settled {
            let shown = client.until(&path, |r| r.body["status"] == "accepted").await;
            assert_eq!(shown["ip"], "192.168.0.3", "round {round}");
        }
        client.delete(&path).await.no_content();
        client.delete(&format!("{SERVICES}/{service}")).await.no_content();
        network.remove(client).await;
        client.until_gone(&path).await;
        client.until_gone(&format!("{SERVICES}/{service}")).await;
    }
    assert_eq!(app.demo.used().await, (0, 0));
}

#[tokio::test]
async fn the_next_service_takes_the_same_backend_right_away() {
    let app = TestApp::start().await;
    let network = Network::make(&app.demo).await;
    let body = json!({
        "port_id": network.balancer_port, "vpc_id": network.router, "server_type": "LB",
        "ports": [{"client_port": 80, "server_port": 80, "protocol": "TCP"}],
    });
    for _ in 0..10 {
        let service = app.demo.service_of(&body).await;
        app.demo
            .delete(&format!("{SERVICES}/{service}"))
            .await
            .no_content();
    }
}

#[tokio::test]
async fn a_live_endpoint_keeps_its_network() {
    let app = TestApp::start().await;
    let service = app.service(80, true).await;
    let network = Network::make(&app.other).await;
    let body =
        json!({"endpoint_service_id": service, "vpc_id": network.router, "subnet_id": network.network});
    let endpoint = text(&app.other.post(ENDPOINTS, &body).await.ok()["id"]);
    let interface = format!("/v2.0/routers/{}/remove_router_interface", network.router);
    for accepted in [false, true] {
        if accepted {
            app.decide(&service, "receive", &endpoint).await.ok();
        }
        let replies = [
            app.other
                .delete(&format!("/v2.0/subnets/{}", network.subnet))
                .await,
            app.other
                .delete(&format!("/v2.0/networks/{}", network.network))
                .await,
            app.other
                .put(&interface, &json!({"subnet_id": network.subnet}))
                .await,
            app.other
                .delete(&format!("vpcs/{}/subnets/{}", network.router, network.network))
                .await,
            app.other
                .delete(&format!("/v2.0/routers/{}", network.router))
                .await,
        ];
        for reply in replies {
            assert_eq!(reply.status, 409, "{}", reply.text);
        }
    }
    app.other
        .delete(&format!("{ENDPOINTS}/{endpoint}"))
        .await
        .no_content();
    network.remove(&app.other).await;
}
