//! ELB v2 and v3.

use serde_json::json;

use crate::stage::{Stage, id};

#[tokio::test]
async fn both_forms_show_one_load_balancer() {
    let stage = Stage::new().await;
    let demo = stage.demo().await;
    let body = json!({"loadbalancer": {
        "name": "lb", "vip_subnet_id": "4189d3c2-8882-4871-a3c2-d380272eed82", "vip_address": "10.0.0.77",
    }});
    let made = demo
        .post("/v2.0/lbaas/loadbalancers", body.clone())
        .await
        .expect(201);
    insta::assert_json_snapshot!(made, {
        ".loadbalancer.id" => "[id]", ".loadbalancer.vip_port_id" => "[id]",
        ".loadbalancer.created_at" => "[time]", ".loadbalancer.updated_at" => "[time]",
    }, @r#"
    {
      "loadbalancer": {
        "admin_state_up": true,
        "created_at": "[time]",
        "description": "",
        "id": "[id]",
        "listeners": [],
        "name": "lb",
        "operating_status": "ONLINE",
        "pools": [],
        "project_id": "6e9dfd51d1124e8d8498dce894923a0d",
        "provider": "vlb",
        "provisioning_status": "ACTIVE",
        "tags": [],
        "tenant_id": "6e9dfd51d1124e8d8498dce894923a0d",
        "updated_at": "[time]",
        "vip_address": "10.0.0.77",
        "vip_port_id": "[id]",
        "vip_subnet_id": "4189d3c2-8882-4871-a3c2-d380272eed82"
      }
    }
    "#);
    let again = demo.post("/v2.0/lbaas/loadbalancers", body).await.expect(409);
    assert_eq!(again["error_code"], "ELB.8904");
    let balancer = id(&made, "loadbalancer");
    let (v2, v3) = (
        format!("/v2.0/lbaas/loadbalancers/{balancer}"),
        format!("/v3/P/elb/loadbalancers/{balancer}"),
    );
    let shown = demo.get(&v3).await.expect(200);
    assert_eq!(
        shown["loadbalancer"]["vpc_id"],
        "4189d3c2-8882-4871-a3c2-d380272eed80"
    );
    assert_eq!(
        shown["loadbalancer"]["vip_subnet_cidr_id"],
        "4189d3c2-8882-4871-a3c2-d380272eed82"
    );
    let changed = demo
        .put(&v2, json!({"loadbalancer": {"name": "x"}}))
        .await
        .expect(200);
    assert_eq!(changed["loadbalancer"]["vip_address"], "10.0.0.77");
    assert_eq!(
        demo.get("/v3/P/elb/loadbalancers?name=x").await.expect(200)["loadbalancers"][0]["id"],
        balancer
    );
    // Its port is of the kind that makes a backend, and goes with it.
    let port = format!(
        "/v2.0/ports/{}",
        made["loadbalancer"]["vip_port_id"].as_str().unwrap()
    );
    assert_eq!(
        demo.get(&port).await.expect(200)["port"]["device_owner"],
        "neutron:LOADBALANCERV2"
    );
    demo.delete(&port).await.expect(409);
    stage.other().await.get(&v2).await.expect(404);
    demo.delete(&v2).await.expect(204);
    demo.get(&port).await.expect(404);
    demo.get(&v3).await.expect(404);
}

#[tokio::test]
async fn a_load_balancer_needs_a_subnet_of_its_vpc() {
    let stage = Stage::new().await;
    let demo = stage.demo().await;
    for (balancer, status) in [
        (json!({"name": "lb"}), 400),
        (json!({"vip_subnet_cidr_id": "x"}), 400),
        (
            json!({"vip_subnet_cidr_id": "5290e4d3-9993-4982-b4d3-e491383ffe92"}),
            404,
        ),
        (
            json!({
                "vip_subnet_cidr_id": "4189d3c2-8882-4871-a3c2-d380272eed82",
                "vpc_id": "5290e4d3-9993-4982-b4d3-e491383ffe90",
            }),
            400,
        ),
        (
            json!({"vip_subnet_cidr_id": "4189d3c2-8882-4871-a3c2-d380272eed82", "vip_address": "1.1.1.1"}),
            400,
        ),
    ] {
        let reply = demo
            .post("/v3/P/elb/loadbalancers", json!({ "loadbalancer": balancer }))
            .await;
        assert!(reply.body["error_msg"].is_string());
        reply.expect(status);
    }
}
