//! VPC v1: VPCs, subnets, route tables.

use serde_json::{Value, json};

use crate::stage::{Client, Stage, id};

async fn vpc(client: &Client, cidr: &str) -> String {
    id(
        &client
            .post("/v1/P/vpcs", json!({"vpc": {"name": "v", "cidr": cidr}}))
            .await
            .expect(200),
        "vpc",
    )
}

#[tokio::test]
async fn a_vpc_lives() {
    let stage = Stage::new().await;
    let demo = stage.demo().await;
    let made = demo
        .post(
            "/v1/P/vpcs",
            json!({"vpc": {"name": "v", "cidr": "192.168.0.0/16"}}),
        )
        .await
        .expect(200);
    insta::assert_json_snapshot!(made, {
        ".vpc.id" => "[id]", ".vpc.created_at" => "[time]", ".vpc.updated_at" => "[time]", ".vpc.vni" => "[vni]",
    }, @r#"
    {
      "vpc": {
        "cidr": "192.168.0.0/16",
        "created_at": "[time]",
        "description": "",
        "enable_shared_snat": false,
        "enterprise_project_id": "0",
        "id": "[id]",
        "name": "v",
        "routes": [],
        "status": "OK",
        "tenant_id": "6e9dfd51d1124e8d8498dce894923a0d",
        "updated_at": "[time]",
        "vni": "[vni]"
      }
    }
    "#);
    let path = format!("/v1/P/vpcs/{}", id(&made, "vpc"));
    let changed = demo
        .put(&path, json!({"vpc": {"name": "w", "description": "d"}}))
        .await
        .expect(200);
    assert_eq!(
        (&changed["vpc"]["name"], &changed["vpc"]["cidr"]),
        (&json!("w"), &json!("192.168.0.0/16"))
    );
    assert_eq!(changed["vpc"]["vni"], made["vpc"]["vni"]);
    let listed = demo.get("/v1/P/vpcs?name=w").await.expect(200);
    assert_eq!(listed["vpcs"].as_array().unwrap().len(), 1);
    assert!(listed.get("links").is_none());
    // The same thing is a router in Neutron.
    let router = demo
        .get(&path.replace("/v1/P/vpcs", "/v2.0/routers"))
        .await
        .expect(200);
    assert_eq!(router["router"]["name"], "w");
    stage.other().await.get(&path).await.expect(404);
    stage.other().await.delete(&path).await.expect(404);
    assert_eq!(demo.delete(&path).await.expect(204), Value::Null);
    insta::assert_json_snapshot!(demo.get(&path).await.expect(404), {".message" => "[message]"}, @r#"
    {
      "code": "VPC.0012",
      "message": "[message]"
    }
    "#);
    assert!(
        stage
            .cache
            .read()
            .route_tables()
            .all(|table| stage.cache.read().vpc(&table.vpc).is_some())
    );
}

#[tokio::test]
async fn the_documented_vpc_is_there() {
    let stage = Stage::new().await;
    let demo = stage.demo().await;
    let vpc = demo
        .get("/v1/P/vpcs/4189d3c2-8882-4871-a3c2-d380272eed80")
        .await
        .expect(200);
    assert_eq!(vpc["vpc"]["cidr"], "10.0.0.0/24");
    let port = demo
        .get("/v2.0/ports/4189d3c2-8882-4871-a3c2-d380272eed88")
        .await
        .expect(200);
    assert_eq!(port["port"]["fixed_ips"][0]["ip_address"], "10.0.0.10");
    assert_eq!(port["port"]["device_owner"], "compute:eu-de-01");
    let subnets = demo.get("/v1/P/subnets").await.expect(200);
    insta::assert_json_snapshot!(subnets, {
        ".subnets[].created_at" => "[time]", ".subnets[].updated_at" => "[time]",
    }, @r#"
    {
      "subnets": [
        {
          "availability_zone": "",
          "cidr": "10.0.0.0/24",
          "created_at": "[time]",
          "description": "",
          "dhcp_enable": true,
          "dnsList": [],
          "extra_dhcp_opts": [],
          "gateway_ip": "10.0.0.1",
          "id": "4189d3c2-8882-4871-a3c2-d380272eed81",
          "ipv6_enable": false,
          "name": "subnet-demo",
          "neutron_network_id": "4189d3c2-8882-4871-a3c2-d380272eed81",
          "neutron_subnet_id": "4189d3c2-8882-4871-a3c2-d380272eed82",
          "primary_dns": "",
          "secondary_dns": "",
          "status": "ACTIVE",
          "tenant_id": "6e9dfd51d1124e8d8498dce894923a0d",
          "updated_at": "[time]",
          "vpc_id": "4189d3c2-8882-4871-a3c2-d380272eed80"
        }
      ]
    }
    "#);
    let other = stage.other().await;
    let subnets = other.get("/v1/P/subnets").await.expect(200);
    assert_eq!(subnets["subnets"][0]["cidr"], "10.0.0.0/24");
    assert_eq!(subnets["subnets"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn what_is_not_a_vpc_or_subnet_is_refused_by_name() {
    let stage = Stage::new().await;
    let demo = stage.demo().await;
    let vpc = vpc(&demo, "172.16.0.0/16").await;
    for (body, word) in [
        (json!({}), "vpc"),
        (json!({"vpc": 1}), "vpc"),
        (json!({"vpc": {"cidr": "10.0.0.0"}}), "10.0.0.0"),
        (json!({"vpc": {"cidr": "10.0.0.1/24"}}), "10.0.0.1/24"),
        (json!({"vpc": {"cidr": "10.0.0.0/31"}}), "10.0.0.0/31"),
        (json!({"vpc": {"cidr": "0.0.0.0/0"}}), "0.0.0.0/0"),
        (json!({"vpc": {"cidr": "fd00::/64"}}), "fd00::/64"),
        (json!({"vpc": {"cidr": 7}}), "vpc.cidr: 7"),
        (json!({"vpc": {"name": "x".repeat(256)}}), "vpc.name"),
    ] {
        let reply = demo.post("/v1/P/vpcs", body.clone()).await.expect(400);
        assert_eq!(reply["code"], "VPC.0101");
        assert!(
            reply["message"].as_str().unwrap().contains(word),
            "{body}: {reply}"
        );
    }
    for (field, value) in [
        ("vpc_id", json!("x")),
        ("vpc_id", Value::Null),
        ("cidr", json!("10.0.0.0/24")),
        ("cidr", Value::Null),
        ("gateway_ip", json!("172.16.1.0")),
        ("gateway_ip", json!("172.16.1.255")),
        ("gateway_ip", json!("10.0.0.1")),
        ("dhcp_enable", json!("yes")),
        ("dnsList", json!([1])),
    ] {
        let mut subnet = json!({"name": "s", "vpc_id": vpc, "cidr": "172.16.1.0/24"});
        subnet[field] = value;
        let reply = demo
            .post("/v1/P/subnets", json!({ "subnet": subnet }))
            .await
            .expect(400);
        assert!(
            reply["message"].as_str().unwrap().contains(field),
            "{field}: {reply}"
        );
    }
    let reply = demo.send("POST", "/v1/P/vpcs", Some(vec![0xff; 10])).await;
    reply.expect(400);
    demo.send("POST", "/v1/P/vpcs", Some(vec![b' '; 1024 * 1024 + 1]))
        .await
        .expect(413);
    // 198.19.128.0/17 is VPCEP's business, not the network's.
    demo.post("/v1/P/vpcs", json!({"vpc": {"cidr": "198.19.128.0/17"}}))
        .await
        .expect(200);
}

#[tokio::test]
async fn a_subnet_lives_inside_its_vpc() {
    let stage = Stage::new().await;
    let demo = stage.demo().await;
    let vpc = vpc(&demo, "172.16.0.0/16").await;
    let subnet = |cidr: &str| json!({"subnet": {"name": "s", "vpc_id": vpc, "cidr": cidr}});
    let made = demo
        .post("/v1/P/subnets", subnet("172.16.1.0/24"))
        .await
        .expect(200);
    assert_eq!(made["subnet"]["gateway_ip"], "172.16.1.1");
    let overlapping = demo
        .post("/v1/P/subnets", subnet("172.16.0.0/20"))
        .await
        .expect(400);
    assert!(overlapping["message"].as_str().unwrap().contains("overlaps"));
    demo.delete(&format!("/v1/P/vpcs/{vpc}")).await.expect(409);
    let id = id(&made, "subnet");
    let path = format!("/v1/P/vpcs/{vpc}/subnets/{id}");
    let body = json!({"subnet": {"name": "t", "primary_dns": "10.0.0.2"}});
    assert_eq!(
        demo.put(&path, body).await.expect(200)["subnet"]["dnsList"],
        json!(["10.0.0.2"])
    );
    let body = json!({"port": {"network_id": id}});
    let port = demo.post("/v2.0/ports", body).await.expect(201);
    assert_eq!(port["port"]["fixed_ips"][0]["ip_address"], "172.16.1.100");
    assert_eq!(demo.delete(&path).await.expect(409)["code"], "VPC.0209");
    demo.delete(&format!("/v2.0/ports/{}", crate::stage::id(&port, "port")))
        .await
        .expect(204);
    demo.delete(&path).await.expect(204);
    demo.get(&format!("/v1/P/subnets/{id}")).await.expect(404);
    demo.delete(&format!("/v1/P/vpcs/{vpc}")).await.expect(204);
    let state = stage.cache.read();
    assert!(state.ports().all(|port| state.subnet(&port.subnet).is_some()));
}

#[tokio::test]
async fn route_tables_have_local_and_custom_routes() {
    let stage = Stage::new().await;
    let demo = stage.demo().await;
    let vpc = "4189d3c2-8882-4871-a3c2-d380272eed80";
    let listed = demo
        .get(&format!("/v1/P/routetables?vpc_id={vpc}"))
        .await
        .expect(200);
    insta::assert_json_snapshot!(listed, {
        ".routetables[].id" => "[id]",
        ".routetables[].created_at" => "[time]", ".routetables[].updated_at" => "[time]",
    }, @r#"
    {
      "routetables": [
        {
          "created_at": "[time]",
          "default": true,
          "description": "",
          "id": "[id]",
          "name": "rtb-vpc-demo",
          "routes": [
            {
              "description": "",
              "destination": "10.0.0.0/24",
              "nexthop": "",
              "type": "local"
            }
          ],
          "subnets": [
            {
              "id": "4189d3c2-8882-4871-a3c2-d380272eed81"
            }
          ],
          "tenant_id": "6e9dfd51d1124e8d8498dce894923a0d",
          "updated_at": "[time]",
          "vpc_id": "4189d3c2-8882-4871-a3c2-d380272eed80"
        }
      ]
    }
    "#);
    let path = format!(
        "/v1/P/routetables/{}",
        listed["routetables"][0]["id"].as_str().unwrap()
    );
    let change = |what: Value| json!({"routetable": {"routes": what}});
    let route = |destination: &str, nexthop: &str| json!({"type": "ecs", "destination": destination, "nexthop": nexthop, "description": "d"});
    let custom = |body: &Value| -> Vec<(String, String)> {
        let all = body["routetable"]["routes"].as_array().unwrap().iter();
        let text = |route: &Value, field: &str| route[field].as_str().unwrap().to_owned();
        all.filter(|r| r["type"] != "local")
            .map(|r| (text(r, "destination"), text(r, "nexthop")))
            .collect()
    };
    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    let body =
        change(json!({"add": [route("192.168.1.0/24", "10.0.0.10"), route("198.19.128.0/17", "10.0.0.10")]}));
    let changed = demo.put(&path, body).await.expect(200);
    assert_eq!(
        custom(&changed),
        [
            pair("192.168.1.0/24", "10.0.0.10"),
            pair("198.19.128.0/17", "10.0.0.10")
        ]
    );
    let body = change(json!({
        "mod": [route("192.168.1.0/24", "10.0.0.11")],
        "del": [{"destination": "198.19.128.0/17"}],
    }));
    let changed = demo.put(&path, body).await.expect(200);
    assert_eq!(custom(&changed), [pair("192.168.1.0/24", "10.0.0.11")]);
    // Neutron shows the same ones, and replaces them.
    let router = format!("/v2.0/routers/{vpc}");
    let routes = json!([{"destination": "192.168.1.0/24", "nexthop": "10.0.0.11"}]);
    assert_eq!(demo.get(&router).await.expect(200)["router"]["routes"], routes);
    let extra = json!({"router": {"routes": [{"destination": "192.168.2.0/24", "nexthop": "10.0.0.12"}]}});
    let more = demo
        .put(&format!("{router}/add_extraroutes"), extra.clone())
        .await
        .expect(200);
    assert_eq!(more["router"]["routes"].as_array().unwrap().len(), 2);
    let less = demo
        .put(&format!("{router}/remove_extraroutes"), extra)
        .await
        .expect(200);
    assert_eq!(less["router"]["routes"], routes);
    let none = demo
        .put(&router, json!({"router": {"routes": []}}))
        .await
        .expect(200);
    assert_eq!(none["router"]["routes"], json!([]));
    for (bad, word) in [
        (
            json!({"add": [{"type": "x", "destination": "1.0.0.0/8", "nexthop": "1.1.1.1"}]}),
            "type",
        ),
        (
            json!({"add": [{"type": "ecs", "destination": "1.0.0.0", "nexthop": "1.1.1.1"}]}),
            "destination",
        ),
        (
            json!({"add": [{"type": "ecs", "destination": "1.0.0.0/8"}]}),
            "nexthop",
        ),
        (
            json!({"add": [route("1.0.0.0/8", "a"), route("1.0.0.0/8", "b")]}),
            "1.0.0.0/8",
        ),
        (json!({"del": [{"destination": "1.0.0.0/8"}]}), "1.0.0.0/8"),
        (json!({"add": [7]}), "routes"),
        (json!({"add": 7}), "add"),
        (json!(7), "routes"),
    ] {
        let reply = demo.put(&path, change(bad.clone())).await.expect(400);
        assert!(
            reply["message"].as_str().unwrap().contains(word),
            "{bad}: {reply}"
        );
    }
    assert_eq!(demo.delete(&path).await.expect(409)["code"], "VPC.2703");
    let made = demo
        .post(
            "/v1/P/routetables",
            json!({"routetable": {"name": "t", "vpc_id": vpc}}),
        )
        .await
        .expect(200);
    assert_eq!(made["routetable"]["default"], false);
    demo.delete(&format!("/v1/P/routetables/{}", id(&made, "routetable")))
        .await
        .expect(204);
}

#[tokio::test]
async fn every_vpc_has_a_number_of_its_own_and_gives_it_back() {
    let stage = Stage::new().await;
    let demo = stage.demo().await;
    let mut paths = Vec::new();
    for n in 0..20 {
        let made = demo
            .post("/v1/P/vpcs", json!({"vpc": {"name": format!("v{n}")}}))
            .await
            .expect(200);
        paths.push(format!("/v1/P/vpcs/{}", id(&made, "vpc")));
    }
    let numbers = || -> Vec<u32> { stage.cache.read().vpcs().map(|vpc| vpc.vni.get()).collect() };
    let all = numbers();
    let distinct: std::collections::BTreeSet<_> = all.iter().collect();
    assert_eq!(distinct.len(), all.len());
    assert!(all.iter().all(|vni| (1..1 << 24).contains(vni)));
    let held = |vni: &u32| stage.cache.read().other(&format!("vni/{vni}")).is_some();
    assert!(all.iter().all(held));
    for path in &paths {
        demo.delete(path).await.expect(204);
    }
    let left = numbers();
    assert_eq!(left.len(), all.len() - paths.len());
    assert!(all.iter().all(|vni| held(vni) == left.contains(vni)));
}
