//! The rules of creating a public service: those of spec A.4 that are not about tenants, and its own.

use adit_model::{
    ApiError, Code,
    body::Body,
    id::{PoolId, PortId, ServiceId, VpcId},
    network::{PortKind, PortView, VpcView},
    port_mapping::{Claim, Claims, Protocol},
    quota::Usage,
    service::{Backend, PublicCreate, ServiceFacts, ServiceStatus},
};
use serde_json::{Value, json};

use crate::{
    broken::{Breaker, check_table},
    sample::{add_route, object, project, public_request, public_service, uuid, vpc_view},
};

/// A request and all that it meets.
struct World {
    body: Body,
    vpc: Option<VpcView>,
    port: Option<PortView>,
    claims: Claims,
    quota: Usage,
}

fn gateway() -> World {
    let prefixes: Vec<_> = (0..16).map(|i| format!("100.{}.0.0/16", 100 + i)).collect();
    World {
        body: object(json!({
            "project_id": project(), "service_type": "gateway", "service_name": "com.t-systems.otc.eu-de.obs", "vpc_id": uuid(2),
            "prefixes": prefixes, "ports": [{"client_port": 443, "server_port": 443}], "owner": "x".repeat(64),
            "is_charge": true, "tcp_proxy": "close", "description": "Objects", "pool_id": uuid(4),
            // Of no use to a gateway service.
            "port_id": 1, "server_type": 2, "approval_enabled": 3, "tags": 4,
        })),
        vpc: Some(vpc_view(VpcId(uuid(2)), &["100.125.0.0/16"], &["0.0.0.0/0"])),
        port: None,
        claims: Claims::default(),
        // Quotas are the tenants'.
        quota: Usage { used: 20, quota: 20 },
    }
}

fn interface() -> World {
    let mut world = gateway();
    world.body.extend(object(json!({
        "service_type": null, "port_id": uuid(1), "server_type": "VM", "prefixes": 1,
        "ports": [{"client_port": 53, "server_port": 5353}],
    })));
    world.port = Some(PortView {
        id: PortId(uuid(1)),
        vpc: Some(VpcId(uuid(2))),
        ip: Some([10, 1, 0, 53].into()),
        kind: PortKind::Server,
    });
    world
}

fn order(world: &World) -> Result<(), ApiError> {
    let request = PublicCreate::parse(&world.body)?;
    let facts = ServiceFacts {
        vpc: world.vpc.as_ref(),
        port: world.port.as_ref(),
        pools: &[PoolId(uuid(4))],
        claims: &world.claims,
        services_per_port_max: None,
        quota: world.quota,
    };
    let claims = request.check(ServiceId(uuid(3)), &facts)?;
    let claimed = matches!(request.backend, Backend::Port(_));
    assert_eq!(claims.is_some(), claimed, "only a port is claimed");
    Ok(())
}

fn field(row: u8, code: Code, name: &'static str, value: Value) -> Breaker<World> {
    Breaker::new((row, 0), code, &[name], move |w: &mut World| {
        w.body.insert(name.to_owned(), value.clone());
    })
}

/// The fields that both types have, after those of the backend.
fn breakers_of_fields() -> Vec<Breaker<World>> {
    vec![
        field(4, Code::E2011, "vpc_id", json!(null)),
        field(5, Code::E0020, "vpc_id", json!("x")),
        field(7, Code::E3076, "service_name", json!("a<b")),
        field(7, Code::E3076, "service_name", json!("")),
        field(7, Code::E3076, "service_name", json!(null)),
        field(7, Code::E3076, "service_name", json!(1)),
        field(10, Code::E2028, "ports", json!([])),
        field(
            12,
            Code::E3004,
            "ports",
            json!([{"client_port": 0, "server_port": 1}]),
        ),
        field(16, Code::E0002, "owner", json!("")),
        field(16, Code::E0002, "owner", json!("x".repeat(65))),
        field(17, Code::E0002, "is_charge", json!("true")),
        field(18, Code::E0002, "tcp_proxy", json!("on")),
        field(19, Code::E0002, "description", json!("<")),
        field(20, Code::E0002, "pool_id", json!("x")),
    ]
}

fn breakers_of_place() -> Vec<Breaker<World>> {
    vec![
        Breaker::new((21, 0), Code::E2001, &["vpc_id"], |w: &mut World| w.vpc = None),
        field(25, Code::E2038, "pool_id", json!(uuid(5))),
        Breaker::new((26, 0), Code::E3009, &["198.19.0.0/16"], |w: &mut World| {
            w.vpc
                .as_mut()
                .into_iter()
                .for_each(|vpc| vpc.cidrs.push("198.19.0.0/16".parse().unwrap()));
        }),
        Breaker::new((27, 0), Code::E3017, &["198.19.128.0/24"], |w: &mut World| {
            w.vpc
                .as_mut()
                .into_iter()
                .for_each(|vpc| add_route(vpc, "198.19.128.0/24"));
        }),
    ]
}

#[test]
fn each_rule_of_a_gateway_service_has_its_code() {
    let mut breakers = vec![
        field(0, Code::E2002, "project_id", json!(null)),
        field(0, Code::E0014, "project_id", json!("x")),
        field(0, Code::E0014, "project_id", json!(1)),
        field(1, Code::E0002, "service_type", json!("vlan")),
        field(1, Code::E0002, "service_type", json!(1)),
        field(2, Code::E2002, "prefixes", json!(null)),
        field(2, Code::E2002, "prefixes", json!([])),
    ];
    let too_many: Vec<_> = (0..17).map(|i| format!("100.{}.0.0/16", 100 + i)).collect();
    for bad in [
        json!("100.125.0.0/16"),
        json!(too_many),
        json!(["100.125.0.0"]),
        json!(["100.125.0.1/16"]),
        json!(["0.0.0.0/0"]),
        json!(["fd00::/8"]),
        json!([1]),
        json!(["198.18.0.0/15"]),
        json!(["198.19.200.0/24"]),
        json!(["100.125.0.0/16", "100.0.0.0/8"]),
        json!(["100.125.0.0/16", "100.125.0.0/16"]),
    ] {
        breakers.push(field(3, Code::E3017, "prefixes", bad));
    }
    breakers.extend(breakers_of_fields());
    let at = breakers.iter().position(|b| b.row.0 == 16).unwrap();
    let other = json!([{"client_port": 443, "server_port": 8443}]);
    breakers.insert(at, field(15, Code::E3043, "ports", other));
    breakers.extend(breakers_of_place());
    check_table(gateway, &breakers, order);
}

#[test]
fn each_rule_of_an_interface_service_has_its_code() {
    let mut breakers = vec![
        field(2, Code::E2002, "port_id", json!(null)),
        field(2, Code::E3063, "port_id", json!("x")),
        field(3, Code::E3021, "server_type", json!("vm")),
    ];
    breakers.extend(breakers_of_fields());
    breakers.extend(breakers_of_place());
    let at = breakers.iter().position(|b| b.row.0 == 25).unwrap();
    let port = |row, code, change: fn(&mut Option<PortView>)| {
        Breaker::new((row, 0), code, &["port_id"], move |w: &mut World| {
            change(&mut w.port);
        })
    };
    breakers.splice(
        at..at,
        [
            port(22, Code::E3008, |port| *port = None),
            port(23, Code::E3042, |port| {
                port.iter_mut().for_each(|p| p.vpc = None);
            }),
            port(24, Code::E3021, |port| {
                port.iter_mut().for_each(|p| p.kind = PortKind::LoadBalancer);
            }),
        ],
    );
    breakers.push(Breaker::new((28, 0), Code::E3044, &["5353"], |w: &mut World| {
        w.claims.claims.push(Claim {
            server_port: 5353,
            protocol: Protocol::Tcp,
            service: ServiceId(uuid(30)),
        });
    }));
    check_table(interface, &breakers, order);
}

#[test]
fn what_is_left_out_has_its_default() {
    let body = object(json!({
        "project_id": project(), "service_type": "GATEWAY", "service_name": "com.t-systems.otc.eu-de.obs", "vpc_id": uuid(2),
        "prefixes": ["100.125.0.0/16"], "ports": [{"client_port": 443, "server_port": 443}],
        "description": "Objects",
    }));
    assert_eq!(PublicCreate::parse(&body), Ok(public_request()));
}

#[test]
fn a_public_service_needs_no_approval_and_fills_no_slot() {
    let service = public_service();
    assert_eq!(service.status(), ServiceStatus::Available);
    assert!(!service.approval_enabled);
    assert_eq!((service.quota_slot, service.port()), (None, None));
    assert_eq!(&*service.name, "com.t-systems.otc.eu-de.obs");
}
