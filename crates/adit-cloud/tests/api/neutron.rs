//! Neutron v2: networks, subnets, ports, routers.

use serde_json::{Value, json};

use crate::stage::{Client, Stage, id};

const DEMO_NETWORK: &str = "4189d3c2-8882-4871-a3c2-d380272eed81";

async fn network(client: &Client) -> String {
    id(
        &client
            .post("/v2.0/networks", json!({"network": {"name": "n"}}))
            .await
            .expect(201),
        "network",
    )
}

async fn subnet(client: &Client, network: &str, cidr: &str) -> String {
    let body = json!({"subnet": {"network_id": network, "ip_version": 4, "cidr": cidr}});
    id(&client.post("/v2.0/subnets", body).await.expect(201), "subnet")
}

#[tokio::test]
async fn views_have_what_clients_read() {
    let stage = Stage::new().await;
    let demo = stage.demo().await;
    let network = demo
        .get(&format!("/v2.0/networks/{DEMO_NETWORK}"))
        .await
        .expect(200);
    let subnet = demo
        .get("/v2.0/subnets/4189d3c2-8882-4871-a3c2-d380272eed82")
        .await
        .expect(200);
    let port = demo
        .get("/v2.0/ports/4189d3c2-8882-4871-a3c2-d380272eed88")
        .await
        .expect(200);
    insta::assert_json_snapshot!(json!([network, subnet, port]), {
        "[].*.created_at" => "[time]", "[].*.updated_at" => "[time]",
    }, @r#"
    [
      {
        "network": {
          "admin_state_up": true,
          "availability_zone_hints": [],
          "availability_zones": [],
          "created_at": "[time]",
          "description": "",
          "id": "4189d3c2-8882-4871-a3c2-d380272eed81",
          "mtu": 1500,
          "name": "subnet-demo",
          "port_security_enabled": false,
          "project_id": "6e9dfd51d1124e8d8498dce894923a0d",
          "router:external": false,
          "shared": false,
          "status": "ACTIVE",
          "subnets": [
            "4189d3c2-8882-4871-a3c2-d380272eed82"
          ],
          "tags": [],
          "tenant_id": "6e9dfd51d1124e8d8498dce894923a0d",
          "updated_at": "[time]"
        }
      },
      {
        "subnet": {
          "allocation_pools": [
            {
              "end": "10.0.0.254",
              "start": "10.0.0.1"
            }
          ],
          "cidr": "10.0.0.0/24",
          "created_at": "[time]",
          "description": "",
          "dns_nameservers": [],
          "enable_dhcp": true,
          "gateway_ip": "10.0.0.1",
          "host_routes": [],
          "id": "4189d3c2-8882-4871-a3c2-d380272eed82",
          "ip_version": 4,
          "ipv6_address_mode": null,
          "ipv6_ra_mode": null,
          "name": "subnet-demo",
          "network_id": "4189d3c2-8882-4871-a3c2-d380272eed81",
          "project_id": "6e9dfd51d1124e8d8498dce894923a0d",
          "subnetpool_id": null,
          "tags": [],
          "tenant_id": "6e9dfd51d1124e8d8498dce894923a0d",
          "updated_at": "[time]"
        }
      },
      {
        "port": {
          "admin_state_up": true,
          "allowed_address_pairs": [],
          "binding:vnic_type": "normal",
          "created_at": "[time]",
          "description": "",
          "device_id": "",
          "device_owner": "compute:eu-de-01",
          "extra_dhcp_opts": [],
          "fixed_ips": [
            {
              "ip_address": "10.0.0.10",
              "subnet_id": "4189d3c2-8882-4871-a3c2-d380272eed82"
            }
          ],
          "id": "4189d3c2-8882-4871-a3c2-d380272eed88",
          "mac_address": "fa:16:3e:2e:ed:88",
          "name": "nic-backend",
          "network_id": "4189d3c2-8882-4871-a3c2-d380272eed81",
          "port_security_enabled": false,
          "project_id": "6e9dfd51d1124e8d8498dce894923a0d",
          "security_groups": [],
          "status": "ACTIVE",
          "tags": [],
          "tenant_id": "6e9dfd51d1124e8d8498dce894923a0d",
          "updated_at": "[time]"
        }
      }
    ]
    "#);
}

#[tokio::test]
async fn refusals_are_neutron_s() {
    let stage = Stage::new().await;
    let demo = stage.demo().await;
    let kind = |body: &Value| body["NeutronError"]["type"].as_str().unwrap().to_owned();
    let gone = "00000000-0000-4000-8000-000000000000";
    for (path, expected) in [
        (format!("/v2.0/networks/{gone}"), "NetworkNotFound"),
        ("/v2.0/networks/by-name".to_owned(), "NetworkNotFound"),
        (format!("/v2.0/subnets/{gone}"), "SubnetNotFound"),
        (format!("/v2.0/ports/{gone}"), "PortNotFound"),
        (format!("/v2.0/routers/{gone}"), "RouterNotFound"),
    ] {
        let reply = demo.get(&path).await.expect(404);
        assert_eq!(kind(&reply), expected);
        assert!(reply["NeutronError"]["message"].is_string() && reply["NeutronError"]["detail"].is_string());
        assert_eq!(kind(&demo.delete(&path).await.expect(404)), expected);
    }
    for port in [
        json!({}),
        json!({"network_id": "x"}),
        json!({"network_id": DEMO_NETWORK, "fixed_ips": 1}),
        json!({"network_id": DEMO_NETWORK, "fixed_ips": [1]}),
        json!({"network_id": DEMO_NETWORK, "fixed_ips": [{}, {}]}),
        json!({"network_id": DEMO_NETWORK, "fixed_ips": [{"ip_address": "10.0.0.x"}]}),
        json!({"network_id": DEMO_NETWORK, "fixed_ips": [{"ip_address": "10.0.1.7"}]}),
        json!({"network_id": DEMO_NETWORK, "fixed_ips": [{"ip_address": "10.0.0.255"}]}),
        json!({"network_id": DEMO_NETWORK, "fixed_ips": [{"subnet_id": gone}]}),
        json!({"network_id": DEMO_NETWORK, "mac_address": "01:00:5e:00:00:01"}),
        json!({"network_id": DEMO_NETWORK, "mac_address": "fa:16"}),
        json!({"network_id": DEMO_NETWORK, "device_owner": "vpcep:endpoint"}),
        json!({"network_id": DEMO_NETWORK, "device_owner": "network:router_interface"}),
        json!({"network_id": DEMO_NETWORK, "name": ["x"]}),
    ] {
        let reply = demo.post("/v2.0/ports", json!({ "port": port })).await;
        assert_eq!(reply.status, 400, "{port}: {}", reply.body);
    }
    let elsewhere =
        json!({"port": {"network_id": DEMO_NETWORK, "project_id": "7fae0e62e2235f9e95a9edf9a5a34b1e"}});
    demo.post("/v2.0/ports", elsewhere).await.expect(403);
    // What is another's does not exist.
    let foreign = json!({"port": {"network_id": "5290e4d3-9993-4982-b4d3-e491383ffe91"}});
    demo.post("/v2.0/ports", foreign).await.expect(404);
    demo.get("/v2.0/ports/5290e4d3-9993-4982-b4d3-e491383ffe98")
        .await
        .expect(404);
    demo.delete("/v2.0/ports/5290e4d3-9993-4982-b4d3-e491383ffe98")
        .await
        .expect(404);
    for subnet in [
        json!({"network_id": DEMO_NETWORK, "cidr": "10.9.0.0/24"}),
        json!({"network_id": DEMO_NETWORK, "cidr": "x"}),
        json!({"network_id": DEMO_NETWORK, "cidr": "fd00::/64", "ip_version": 6}),
    ] {
        demo.post("/v2.0/subnets", json!({ "subnet": subnet }))
            .await
            .expect(400);
    }
}

#[tokio::test]
async fn ports_get_the_addresses_that_are_theirs() {
    let stage = Stage::new().await;
    let demo = stage.demo().await;
    let port = |ip: &str| json!({"port": {"network_id": DEMO_NETWORK, "fixed_ips": [{"ip_address": ip}]}});
    let first = demo.post("/v2.0/ports", port("10.0.0.7")).await.expect(201);
    let taken = demo.post("/v2.0/ports", port("10.0.0.7")).await.expect(409);
    assert_eq!(taken["NeutronError"]["type"], "IpAddressInUse");
    demo.post("/v2.0/ports", port("10.0.0.1")).await.expect(409);
    demo.post("/v2.0/ports", port("10.0.0.10")).await.expect(409);
    let path = format!("/v2.0/ports/{}", id(&first, "port"));
    let body = json!({"port": {"name": "n", "device_id": "d", "fixed_ips": first["port"]["fixed_ips"]}});
    assert_eq!(demo.put(&path, body).await.expect(200)["port"]["name"], "n");
    demo.put(
        &path,
        json!({"port": {"fixed_ips": [{"ip_address": "10.0.0.8"}]}}),
    )
    .await
    .expect(400);
    demo.put(&path, json!({"port": {"device_owner": "vpcep:endpoint"}}))
        .await
        .expect(400);
    for (query, count) in [
        ("device_id=d", 1),
        ("name=n&device_id=d", 1),
        ("name=n&name=nic-backend", 2),
        ("name=x", 0),
        ("fixed_ips=ip_address%3D10.0.0.7", 1),
        ("admin_state_up=True&name=n", 1),
        ("limit=1", 1),
        ("fields=id&fields=name", 3),
    ] {
        let listed = demo.get(&format!("/v2.0/ports?{query}")).await.expect(200);
        assert_eq!(
            listed["ports"].as_array().unwrap().len(),
            count,
            "{query}: {listed}"
        );
    }
    let one = demo.get("/v2.0/ports?limit=1").await.expect(200);
    let marker = one["ports"][0]["id"].as_str().unwrap();
    let rest = demo
        .get(&format!("/v2.0/ports?marker={marker}"))
        .await
        .expect(200);
    assert_eq!(rest["ports"].as_array().unwrap().len(), 2);
    demo.get("/v2.0/ports?limit=x").await.expect(400);
    demo.get("/v2.0/ports?marker=x").await.expect(400);
    demo.delete(&path).await.expect(204);
    demo.post("/v2.0/ports", port("10.0.0.7")).await.expect(201);
}

#[tokio::test]
async fn a_full_subnet_says_so() {
    let stage = Stage::new().await;
    let demo = stage.demo().await;
    let network = network(&demo).await;
    subnet(&demo, &network, "10.9.0.0/30").await;
    let body = json!({"port": {"network_id": network}});
    let port = demo.post("/v2.0/ports", body.clone()).await.expect(201);
    assert_eq!(port["port"]["fixed_ips"][0]["ip_address"], "10.9.0.2");
    let full = demo.post("/v2.0/ports", body).await.expect(409);
    assert_eq!(full["NeutronError"]["type"], "IpAddressGenerationFailure");
}

#[tokio::test]
async fn a_network_without_subnet_gives_no_address() {
    let stage = Stage::new().await;
    let demo = stage.demo().await;
    let network = network(&demo).await;
    let port = demo
        .post("/v2.0/ports", json!({"port": {"network_id": network}}))
        .await
        .expect(201);
    assert_eq!(port["port"]["fixed_ips"], json!([]));
    let reply = demo
        .delete(&format!("/v2.0/networks/{network}"))
        .await
        .expect(409);
    assert_eq!(reply["NeutronError"]["type"], "NetworkInUse");
    demo.delete(&format!("/v2.0/ports/{}", id(&port, "port")))
        .await
        .expect(204);
    demo.delete(&format!("/v2.0/networks/{network}"))
        .await
        .expect(204);
}

#[tokio::test]
async fn a_router_joins_networks_that_do_not_overlap() {
    let stage = Stage::new().await;
    let demo = stage.demo().await;
    let router = id(
        &demo
            .post("/v2.0/routers", json!({"router": {"name": "r"}}))
            .await
            .expect(201),
        "router",
    );
    let path = |what: &str| format!("/v2.0/routers/{router}/{what}_router_interface");
    let one = network(&demo).await;
    demo.put(&path("add"), json!({"subnet_id": one}))
        .await
        .expect(404);
    demo.put(&path("add"), json!({})).await.expect(400);
    let subnet_one = subnet(&demo, &one, "10.9.0.0/24").await;
    let added = demo
        .put(&path("add"), json!({"subnet_id": subnet_one}))
        .await
        .expect(200);
    demo.put(&path("add"), json!({"subnet_id": subnet_one}))
        .await
        .expect(400);
    let two = network(&demo).await;
    let subnet_two = subnet(&demo, &two, "10.9.0.0/16").await;
    demo.put(&path("add"), json!({"subnet_id": subnet_two}))
        .await
        .expect(400);
    // The subnet is now one of VPC v1's.
    let subnets = demo
        .get(&format!("/v1/P/subnets?vpc_id={router}"))
        .await
        .expect(200);
    assert_eq!(subnets["subnets"][0]["neutron_subnet_id"], subnet_one);
    let reply = demo.delete(&format!("/v2.0/routers/{router}")).await.expect(409);
    assert_eq!(reply["NeutronError"]["type"], "RouterInUse");
    let interface = added["port_id"].as_str().unwrap();
    demo.delete(&format!("/v2.0/ports/{interface}")).await.expect(409);
    let ports = demo
        .get(&format!("/v2.0/ports?device_id={router}"))
        .await
        .expect(200);
    assert_eq!(ports["ports"][0]["device_owner"], "network:router_interface");
    demo.put(&path("remove"), json!({"port_id": interface}))
        .await
        .expect(200);
    demo.put(&path("remove"), json!({"subnet_id": subnet_one}))
        .await
        .expect(404);
    demo.delete(&format!("/v2.0/routers/{router}")).await.expect(204);
    demo.put(&path("add"), json!({"subnet_id": subnet_one}))
        .await
        .expect(404);
}
