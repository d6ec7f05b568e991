//! Whatever a client sends is the client's fault, by status.

use serde_json::{Value, json};

use crate::stage::Stage;

/// Every route, with an object that its body wraps.
const ROUTES: &[(&str, &str)] = &[
    ("/v1/P/vpcs", "vpc"),
    ("/v1/P/vpcs/ID", "vpc"),
    ("/v1/P/subnets", "subnet"),
    ("/v1/P/subnets/ID", "subnet"),
    ("/v1/P/vpcs/ID/subnets/ID", "subnet"),
    ("/v1/P/routetables", "routetable"),
    ("/v1/P/routetables/ID", "routetable"),
    ("/v2.0/networks", "network"),
    ("/v2.0/networks/ID", "network"),
    ("/v2.0/subnets", "subnet"),
    ("/v2.0/subnets/ID", "subnet"),
    ("/v2.0/ports", "port"),
    ("/v2.0/ports/ID", "port"),
    ("/v2.0/routers", "router"),
    ("/v2.0/routers/ID", "router"),
    ("/v2.0/routers/ID/add_router_interface", "router"),
    ("/v2.0/routers/ID/remove_router_interface", "router"),
    ("/v2.0/routers/ID/add_extraroutes", "router"),
    ("/v2.0/routers/ID/remove_extraroutes", "router"),
    ("/v2.0/lbaas/loadbalancers", "loadbalancer"),
    ("/v2.0/lbaas/loadbalancers/ID", "loadbalancer"),
    ("/v3/P/elb/loadbalancers", "loadbalancer"),
    ("/v3/P/elb/loadbalancers/ID", "loadbalancer"),
    ("/v3/P/elb/availability-zones", "x"),
    ("/v3/auth/tokens", "auth"),
    ("/v3/auth/catalog", "x"),
    ("/v3/projects/ID", "x"),
    ("/v3/users/ID/projects", "x"),
];

/// Every field that some route reads.
const FIELDS: &[&str] = &[
    "name",
    "description",
    "cidr",
    "vpc_id",
    "gateway_ip",
    "dhcp_enable",
    "dnsList",
    "primary_dns",
    "routes",
    "network_id",
    "ip_version",
    "enable_dhcp",
    "dns_nameservers",
    "fixed_ips",
    "mac_address",
    "device_id",
    "device_owner",
    "project_id",
    "external_gateway_info",
    "subnet_id",
    "port_id",
    "vip_subnet_id",
    "vip_subnet_cidr_id",
    "vip_address",
    "availability_zone_list",
    "identity",
    "scope",
];

#[tokio::test]
async fn nothing_that_is_sent_is_our_fault() {
    let stage = Stage::new().await;
    let demo = stage.demo().await;
    let values = [
        json!(null),
        json!(true),
        json!(-1),
        json!(1e300),
        json!(""),
        json!("\u{0}\u{202e}%00"),
        json!("255.255.255.255/30"),
        json!("0.0.0.0"),
        json!([]),
        json!([[]]),
        json!([{"destination": {}}]),
        json!({}),
        json!({"add": [{}], "del": 1}),
        json!("x".repeat(100_000)),
    ];
    let wild = |value: &Value| -> Value { FIELDS.iter().map(|f| ((*f).to_owned(), value.clone())).collect() };
    for (route, wrapper) in ROUTES {
        for id in [
            "x",
            "%00",
            "%ff",
            "..%2f",
            "4189d3c2-8882-4871-a3c2-d380272eed80",
            "4189d3c2-8882-4871-a3c2-d380272eed88",
        ] {
            let path = route.replace("ID", id);
            for value in &values {
                let object = wild(value);
                for body in [
                    value.clone(),
                    json!({ *wrapper: value }),
                    json!({ *wrapper: object }),
                    object.clone(),
                ] {
                    for method in ["POST", "PUT"] {
                        let reply = demo
                            .send(method, &path, Some(body.to_string().into_bytes()))
                            .await;
                        assert!(
                            reply.status < 500,
                            "{method} {path} {body:.200}: {}",
                            reply.status
                        );
                    }
                }
            }
            for query in [
                "",
                "?",
                "?limit=-1",
                "?marker=%00",
                "?%ff=%ff&&=&a",
                "?name=%F0%9F%98%80",
                "?fixed_ips==",
            ] {
                let reply = demo.get(&format!("{path}{query}")).await;
                assert!(reply.status < 500, "{path}{query}: {}", reply.status);
            }
            if !route.contains("ID") {
                break;
            }
        }
    }
    for (route, _) in ROUTES {
        let reply = demo
            .delete(&route.replace("ID", "4189d3c2-8882-4871-a3c2-d380272eed88"))
            .await;
        assert!(reply.status < 500, "{route}: {}", reply.status);
    }
}
