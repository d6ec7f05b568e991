//! The same for the services beside VPCEP, which refuse in forms of their own.

use axum::body::Body;
use proptest::{prelude::*, sample::Index};
use serde_json::{Value, json};

use super::{
    explore,
    mutation::{apply, edit},
};
use crate::app::{DEMO_PROJECT, DEMO_SUBNET, DEMO_VPC};

/// Whether a path belongs to the services beside VPCEP, which refuse in forms of their own.
pub(super) fn owns(path: &str) -> bool {
    let known = ["vpcs", "subnets", "routetables", "ports", "security-groups"];
    path.starts_with("/v3")
        || path.starts_with("/v2.0")
        || path.split('/').nth(3).is_some_and(|p| known.contains(&p))
}

/// What the services beside VPCEP take, by path.
fn companions() -> Vec<(&'static str, String, Value)> {
    let subnet = "4189d3c2-8882-4871-a3c2-d380272eed82";
    let domain = json!({"name": "demo-domain"});
    let user = json!({"name": "demo", "password": "demo-password", "domain": domain});
    let auth = json!({"auth": {
        "identity": {"methods": ["password", "token"], "password": {"user": user}, "token": {"id": "x"}},
        "scope": {"project": {"name": "eu-de_demo", "domain": domain}}}});
    let in_project = |path: &str| format!("/v1/{DEMO_PROJECT}/{path}");
    let network = json!({"name": "n", "network_id": DEMO_SUBNET});
    vec![
        ("POST", "/v3/auth/tokens".into(), auth),
        (
            "POST",
            in_project("vpcs"),
            json!({"vpc": {"name": "v", "cidr": "192.168.0.0/16", "description": "d"}}),
        ),
        (
            "PUT",
            in_project(&format!("vpcs/{DEMO_VPC}")),
            json!({"vpc": {"name": "v", "cidr": "10.0.0.0/16"}}),
        ),
        (
            "POST",
            in_project("subnets"),
            json!({"subnet": {"name": "s", "cidr": "10.0.1.0/24", "vpc_id": DEMO_VPC,
            "gateway_ip": "10.0.1.1", "dhcp_enable": true}}),
        ),
        (
            "POST",
            in_project("routetables"),
            json!({"routetable": {"name": "t", "vpc_id": DEMO_VPC}}),
        ),
        (
            "POST",
            "/v2.0/networks".into(),
            json!({"network": {"name": "n", "admin_state_up": true}}),
        ),
        (
            "POST",
            "/v2.0/subnets".into(),
            json!({"subnet": {"name": "s", "cidr": "192.168.1.0/24", "ip_version": 4,
            "network_id": DEMO_SUBNET, "gateway_ip": "192.168.1.1"}}),
        ),
        (
            "POST",
            "/v2.0/ports".into(),
            json!({"port": {"name": "p", "network_id": DEMO_SUBNET, "device_owner": "compute:x",
            "fixed_ips": [{"subnet_id": subnet, "ip_address": "10.0.0.33"}]}}),
        ),
        ("POST", "/v2.0/routers".into(), json!({"router": network})),
        (
            "PUT",
            format!("/v2.0/routers/{DEMO_VPC}"),
            json!({"router": {"routes": [{"destination": "10.9.0.0/16",
            "nexthop": "10.0.0.9"}]}}),
        ),
        (
            "POST",
            "/v2.0/lbaas/loadbalancers".into(),
            json!({"loadbalancer": {"name": "l", "vip_subnet_id": subnet,
            "vip_address": "10.0.0.44"}}),
        ),
        (
            "POST",
            format!("/v3/{DEMO_PROJECT}/elb/loadbalancers"),
            json!({"loadbalancer": {"name": "l", "vpc_id": DEMO_VPC,
            "vip_subnet_cidr_id": subnet, "availability_zone_list": ["eu-de-01"]}}),
        ),
    ]
}

#[test]
fn mutated_bodies_of_the_companions() {
    let edits = prop::collection::vec(edit(), 1..4);
    explore(&(any::<Index>(), edits), async |arena, (index, edits)| {
        let table = companions();
        let (method, path, body) = index.get(&table);
        let mut body = body.clone();
        edits.into_iter().for_each(|edit| apply(&mut body, edit));
        let client = &arena.app.demo;
        let request = client
            .request(method, path)
            .body(Body::from(body.to_string()))
            .unwrap();
        arena.judge(client, request, false).await?;
        Ok(())
    });
}
