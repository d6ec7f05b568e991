//! The thirty rules of creating a service (spec A.4).

use std::collections::BTreeSet;

use adit_model::{
    ApiError, Code,
    body::{self, Body},
    id::{PoolId, PortId, ServiceId, VpcId},
    network::{PortKind, PortView, VpcView},
    port_mapping::{Claim, Claims, Protocol},
    quota::Usage,
    service::{ServiceCreate, ServiceFacts},
};
use serde_json::{Value, json};

use crate::{
    broken::{Breaker, Change, check_boundaries, check_table},
    sample::{add_route, object, set, uuid, vpc_view},
};

/// A request and all that it meets.
struct World {
    /// Bytes that stand in for the body.
    raw: Option<&'static [u8]>,
    body: Body,
    strict_toa: bool,
    vpc_found: bool,
    vpc: VpcView,
    port_found: bool,
    port: PortView,
    pools: Vec<PoolId>,
    claims: Claims,
    services_per_port_max: Option<usize>,
    quota: Usage,
}

/// Everything is there, and everything that has a limit is at it.
fn world() -> World {
    let ports: Vec<_> = (0..10)
        .map(|i| json!({"client_port": 1000 + i, "server_port": 2000 + i, "protocol": "TCP"}))
        .collect();
    let tags: Vec<_> = (0..10)
        .map(|i| json!({"key": format!("k{i}"), "value": format!("v{i}")}))
        .collect();
    World {
        raw: None,
        body: object(json!({
            "port_id": uuid(1), "vpc_id": uuid(2), "server_type": "LB", "service_name": "orders-api",
            "approval_enabled": true, "service_type": "interface", "ports": ports, "tcp_proxy": "proxy_open",
            "tags": tags, "description": "Orders", "pool_id": uuid(4), "unknown": {"is": "ignored"},
        })),
        strict_toa: true,
        vpc_found: true,
        vpc: vpc_view(
            VpcId(uuid(2)),
            &["10.0.0.0/8", "198.19.0.0/17"],
            &["198.20.0.0/16"],
        ),
        port_found: true,
        port: PortView {
            id: PortId(uuid(1)),
            vpc: Some(VpcId(uuid(2))),
            ip: Some([10, 0, 0, 9].into()),
            kind: PortKind::LoadBalancer,
        },
        pools: vec![PoolId(uuid(4)), PoolId(uuid(40))],
        claims: Claims {
            claims: vec![claim(1999)],
        },
        services_per_port_max: Some(2),
        quota: Usage { used: 19, quota: 20 },
    }
}

/// Another service's claim on this port.
fn claim(server_port: u16) -> Claim {
    Claim {
        server_port,
        protocol: Protocol::Tcp,
        service: ServiceId(uuid(30)),
    }
}

fn order(world: &World) -> Result<(), ApiError> {
    let body = match world.raw {
        Some(raw) => body::parse(raw)?,
        None => body::parse(&serde_json::to_vec(&world.body).unwrap())?,
    };
    let id = ServiceId(uuid(3));
    let request = ServiceCreate::parse(&body, world.strict_toa)?;
    let claims = request.check(
        id,
        &ServiceFacts {
            vpc: world.vpc_found.then_some(&world.vpc),
            port: world.port_found.then_some(&world.port),
            pools: &world.pools,
            claims: &world.claims,
            services_per_port_max: world.services_per_port_max,
            quota: world.quota,
        },
    )?;
    for mapping in &request.ports {
        let held = |c: &&Claim| c.server_port == mapping.server_port;
        assert_eq!(claims.claims.iter().find(held).unwrap().service, id);
    }
    Ok(())
}

/// A breaker that sets one field of the body.
fn field(row: (u8, u8), code: Code, name: &'static str, value: Value) -> Breaker<World> {
    let shown = value.to_string();
    Breaker::new(row, code, &[name, &shown], move |w: &mut World| {
        w.body.insert(name.to_owned(), value.clone());
    })
}

/// A breaker that sets one field of one item of a list.
fn item(
    row: (u8, u8),
    code: Code,
    list: &'static str,
    i: usize,
    name: &'static str,
    value: Value,
    shown: &str,
) -> Breaker<World> {
    let path = format!("{list}[{i}].{name}");
    Breaker::new(row, code, &[&path, shown], move |w: &mut World| {
        w.body[list][i][name] = value.clone();
    })
}

/// A breaker of what the request meets.
fn fact(row: u8, code: Code, says: &[&str], apply: impl Fn(&mut World) + 'static) -> Breaker<World> {
    Breaker::new((row, 0), code, says, apply)
}

fn absent(row: u8, code: Code, name: &'static str) -> [Breaker<World>; 2] {
    let missing = format!("{name} is missing");
    [
        Breaker::new((row, 0), code, &[&missing], move |w: &mut World| {
            w.body.remove(name);
        }),
        Breaker::new((row, 0), code, &[&missing], move |w: &mut World| {
            w.body[name] = Value::Null;
        }),
    ]
}

fn not_ports() -> Vec<Value> {
    vec![
        json!(0),
        json!(65536),
        json!(-1),
        json!(80.5),
        json!(80.0),
        json!("80"),
        json!(true),
        json!([1]),
    ]
}

/// Rules 1 to 9.
fn breakers_of_fields() -> Vec<Breaker<World>> {
    let mut all = Vec::new();
    for (raw, shown) in [
        ("", "empty"),
        ("nothing", "not JSON"),
        ("{\"port_id\":", "not JSON"),
        ("null", "null"),
        ("[{}]", "[{}]"),
        ("7", "7"),
    ] {
        all.push(Breaker::new(
            (1, 0),
            Code::E1004,
            &[shown],
            move |w: &mut World| {
                w.raw = Some(raw.as_bytes());
            },
        ));
    }
    for (row, name, missing, malformed) in [
        (2, "port_id", Code::E2002, Code::E3063),
        (4, "vpc_id", Code::E2011, Code::E0020),
    ] {
        all.extend(absent(row, missing, name));
        all.push(field((row, 0), missing, name, json!("")));
        all.push(field((row, 0), missing, name, json!("  ")));
        for bad in [
            json!("port-1"),
            json!(17),
            json!({}),
            json!(["00000000-0000-0000-0000-000000000001"]),
            json!("00000000000000000000000000000001"),
            json!("{00000000-0000-0000-0000-000000000001}"),
            json!("00000000-0000-0000-0000-00000000000g"),
        ] {
            all.push(field((row + 1, 0), malformed, name, bad));
        }
    }
    all.extend(absent(6, Code::E3021, "server_type"));
    for bad in [json!("OBS"), json!("lb"), json!(""), json!(1)] {
        all.push(field((6, 0), Code::E3021, "server_type", bad));
    }
    all.push(field(
        (7, 0),
        Code::E3076,
        "service_name",
        json!("orders-api-blue-1"),
    ));
    all.push(field((7, 0), Code::E3076, "service_name", json!(5)));
    for (bad, shown) in [
        ("orders.api", "'.'"),
        ("a b", "' '"),
        ("ä", "'ä'"),
        ("a\n", "'\\n'"),
    ] {
        all.push(Breaker::new(
            (7, 0),
            Code::E3076,
            &["service_name", shown],
            move |w: &mut World| {
                w.body["service_name"] = json!(bad);
            },
        ));
    }
    for bad in [json!("true"), json!(1), json!([])] {
        all.push(field((8, 0), Code::E0002, "approval_enabled", bad));
    }
    for bad in [json!("vlan"), json!(""), json!(true)] {
        all.push(field((9, 0), Code::E0002, "service_type", bad));
    }
    all.push(Breaker::new(
        (9, 0),
        Code::E0002,
        &["service_type", "gateway"],
        |w: &mut World| {
            w.body["service_type"] = json!("Gateway");
        },
    ));
    all
}

/// Rules 10 to 15. The later a rule, the earlier the item that breaks it.
fn breakers_of_ports() -> Vec<Breaker<World>> {
    let mut all = Vec::new();
    all.extend(absent(10, Code::E2028, "ports"));
    all.push(field((10, 0), Code::E2028, "ports", json!([])));
    for bad in [
        json!({"client_port": 1, "server_port": 1}),
        json!("80"),
        json!(80),
    ] {
        all.push(field((10, 0), Code::E3004, "ports", bad));
    }
    all.push(Breaker::new(
        (10, 0),
        Code::E3004,
        &["ports[9]", "80"],
        |w: &mut World| {
            w.body["ports"][9] = json!(80);
        },
    ));
    for name in ["client_port", "server_port"] {
        all.push(item(
            (10, 1),
            Code::E2028,
            "ports",
            9,
            name,
            Value::Null,
            "missing",
        ));
    }
    all.push(Breaker::new(
        (11, 0),
        Code::E3074,
        &["ports", "201"],
        |w: &mut World| {
            let ports = w.body["ports"].as_array_mut().unwrap();
            ports.extend((10..201).map(|i| json!({"client_port": 1000 + i, "server_port": 2000 + i})));
        },
    ));
    for bad in not_ports() {
        let shown = bad.to_string();
        all.push(item((12, 0), Code::E3004, "ports", 5, "client_port", bad, &shown));
    }
    for bad in not_ports() {
        let shown = bad.to_string();
        all.push(item((13, 0), Code::E3043, "ports", 4, "server_port", bad, &shown));
    }
    for bad in [json!("UDP"), json!("TCP "), json!(6), json!(["TCP"])] {
        let shown = bad.to_string();
        all.push(item((14, 0), Code::E3075, "ports", 3, "protocol", bad, &shown));
    }
    all.push(Breaker::new(
        (15, 0),
        Code::E3004,
        &["ports[1].client_port", "1000", "ports[0]"],
        |w: &mut World| w.body["ports"][1]["client_port"] = json!(1000),
    ));
    all
}

/// Rules 16 and 17.
fn breakers_of_the_proxy() -> Vec<Breaker<World>> {
    let mut all = Vec::new();
    for bad in [json!("on"), json!("CLOSE"), json!(""), json!(true)] {
        all.push(field((16, 0), Code::E0002, "tcp_proxy", bad));
    }
    for (mode, shown) in [("toa_open", "toa_open"), ("open", "open")] {
        all.push(Breaker::new(
            (17, 0),
            Code::E0002,
            &["tcp_proxy", shown, "OBS"],
            move |w: &mut World| {
                w.body["tcp_proxy"] = json!(mode);
            },
        ));
    }
    all
}

/// Rule 18. The later a part of it, the earlier the tag that breaks it.
fn breakers_of_tags() -> Vec<Breaker<World>> {
    let mut all = Vec::new();
    for bad in [json!({"key": "k"}), json!("k")] {
        all.push(field((18, 0), Code::E0002, "tags", bad));
    }
    all.push(item((18, 0), Code::E0002, "tags", 9, "key", json!(1), "1"));
    all.push(item(
        (18, 0),
        Code::E0002,
        "tags",
        9,
        "value",
        json!(["v"]),
        "[\"v\"]",
    ));
    for bad in [json!(""), json!(" "), Value::Null] {
        all.push(item((18, 1), Code::E3066, "tags", 9, "key", bad, "blank"));
    }
    let (long_key, long_value) = (json!("ü".repeat(37)), json!("ü".repeat(44)));
    all.push(item((18, 2), Code::E3072, "tags", 8, "key", long_key, "37"));
    all.push(item((18, 3), Code::E3073, "tags", 7, "value", long_value, "44"));
    all.push(item(
        (18, 4),
        Code::E3068,
        "tags",
        6,
        "key",
        json!("my key"),
        "' '",
    ));
    all.push(item(
        (18, 4),
        Code::E3068,
        "tags",
        6,
        "value",
        json!("a.b"),
        "'.'",
    ));
    all.push(item(
        (18, 5),
        Code::E3067,
        "tags",
        1,
        "key",
        json!("k0"),
        "\"k0\"",
    ));
    all.push(Breaker::new(
        (18, 6),
        Code::E3069,
        &["tags", "21"],
        |w: &mut World| {
            let tags = w.body["tags"].as_array_mut().unwrap();
            tags.extend((10..21).map(|i| json!({"key": format!("k{i}")})));
        },
    ));
    all
}

/// Rules 19 and 20.
fn breakers_of_texts() -> Vec<Breaker<World>> {
    let mut all = Vec::new();
    all.push(field((19, 0), Code::E0002, "description", json!(["a"])));
    for (bad, shown) in [
        ("ü".repeat(129), "129"),
        ("a<b".into(), "'<'"),
        ("a>b".into(), "'>'"),
    ] {
        all.push(Breaker::new(
            (19, 0),
            Code::E0002,
            &["description", shown],
            move |w: &mut World| {
                w.body["description"] = json!(bad);
            },
        ));
    }
    for bad in [json!("pool"), json!(""), json!(4)] {
        all.push(field((20, 0), Code::E0002, "pool_id", bad));
    }
    all
}

/// Blocks that share an address with 198.19.128.0/17.
const OVERLAPPING: [&str; 6] = [
    "198.19.0.0/16",
    "198.18.0.0/15",
    "128.0.0.0/1",
    "198.19.200.0/24",
    "198.19.128.0/32",
    "198.19.255.255/32",
];

/// Rules 21 to 30.
fn breakers_of_facts() -> Vec<Breaker<World>> {
    let (port, vpc) = (uuid(1).to_string(), uuid(2).to_string());
    let mut all = vec![
        fact(21, Code::E2001, &["vpc_id", &vpc], |w| w.vpc_found = false),
        fact(22, Code::E3008, &["port_id", &port], |w| w.port_found = false),
        fact(23, Code::E3042, &["port_id", &port, &vpc], |w| {
            w.port.vpc = Some(VpcId(uuid(20)));
        }),
        fact(23, Code::E3042, &["port_id", &port, &vpc], |w| w.port.vpc = None),
        fact(24, Code::E3021, &["server_type", "LB", &port], |w| {
            w.port.kind = PortKind::Server;
        }),
        fact(24, Code::E3021, &["server_type", "VM", &port], |w| {
            set(&mut w.body, json!({"server_type": "VM"}));
        }),
        fact(24, Code::E3021, &["server_type", "BMS", &port], |w| {
            set(&mut w.body, json!({"server_type": "BMS"}));
        }),
        fact(25, Code::E2038, &["pool_id", &uuid(4).to_string()], |w| {
            w.pools.remove(0);
        }),
    ];
    for block in OVERLAPPING.iter().chain(&["0.0.0.0/0"]) {
        all.push(fact(
            26,
            Code::E3009,
            &["vpc_id", block, "198.19.128.0/17"],
            |w| {
                w.vpc.cidrs.push(block.parse().unwrap());
            },
        ));
    }
    for route in OVERLAPPING {
        all.push(fact(
            27,
            Code::E3017,
            &["vpc_id", route, "198.19.128.0/17"],
            |w| {
                add_route(&mut w.vpc, route);
            },
        ));
    }
    all.push(fact(28, Code::E3044, &["ports[4].server_port", "2004"], |w| {
        w.claims.claims.push(claim(2004));
    }));
    all.push(fact(29, Code::E3056, &["port_id", &port, "1"], |w| {
        w.services_per_port_max = Some(1);
    }));
    all.push(fact(30, Code::E1018, &["20 of at most 20"], |w| {
        w.quota.used = 20;
    }));
    all.push(fact(30, Code::E1018, &["21 of at most 20"], |w| {
        w.quota.used = 21;
    }));
    all
}

#[test]
fn each_of_the_thirty_rules_has_its_code_and_its_place() {
    let mut breakers = breakers_of_fields();
    breakers.extend(breakers_of_ports());
    breakers.extend(breakers_of_the_proxy());
    breakers.extend(breakers_of_tags());
    breakers.extend(breakers_of_texts());
    breakers.extend(breakers_of_facts());
    let rows: BTreeSet<_> = breakers.iter().map(|b| b.row.0).collect();
    assert!(rows.iter().copied().eq(1..=30), "{rows:?}");
    check_table(world, &breakers, order);
}

#[test]
fn a_field_at_its_boundary_is_taken() {
    let mut all: Vec<Change<World>> = Vec::new();
    for patch in [
        json!({"port_id": "ABCDEF00-0000-0000-0000-000000000001"}),
        json!({"server_type": "VIP"}),
        json!({"service_name": "abcdefghij-_0123"}),
        json!({"service_name": "7"}),
        json!({"service_name": ""}),
        json!({"service_name": null}),
        json!({"approval_enabled": false}),
        json!({"approval_enabled": null}),
        json!({"service_type": "INTERFACE"}),
        json!({"service_type": null}),
        json!({"ports": [{"client_port": 1, "server_port": 65535}]}),
        json!({"ports": [{"client_port": 65535, "server_port": 1, "protocol": "tcp"}]}),
        json!({"ports": [{"client_port": 1, "server_port": 1, "protocol": ""}]}),
        json!({"ports": [{"client_port": 1, "server_port": 1, "protocol": null}]}),
        json!({"ports": [{"client_port": 1, "server_port": 1}, {"client_port": 2, "server_port": 1}]}),
        json!({"ports": (1..=200).map(|p| json!({"client_port": p, "server_port": p})).collect::<Vec<_>>()}),
        json!({"tcp_proxy": "close"}),
        json!({"tcp_proxy": "proxy_vni"}),
        json!({"tcp_proxy": null}),
        json!({"tags": null}),
        json!({"tags": [{"key": "ü".repeat(36), "value": "ü".repeat(43)}]}),
        json!({"tags": [{"key": "-_@٣日", "value": "-_@٣日"}, {"key": "k", "value": null}]}),
        json!({"tags": (0..20).map(|i| json!({"key": format!("k{i}")})).collect::<Vec<_>>()}),
        json!({"description": "ü".repeat(128)}),
        json!({"description": ""}),
        json!({"description": null}),
        json!({"pool_id": null}),
    ] {
        all.push((
            "a field at its boundary",
            Box::new(move |w| {
                set(&mut w.body, patch.clone());
            }),
        ));
    }
    check_boundaries(world, all, order);
}

#[test]
fn what_a_request_meets_is_taken_at_its_boundary() {
    let mut all: Vec<Change<World>> = Vec::new();
    for mode in ["toa_open", "open"] {
        all.push((
            "TOA where the region is not strict",
            Box::new(move |w| {
                w.strict_toa = false;
                set(&mut w.body, json!({"tcp_proxy": mode}));
            }),
        ));
    }
    for kind in ["LB", "VM", "VIP", "BMS"] {
        all.push((
            "a port of which nothing is known can be anything",
            Box::new(move |w| {
                w.port.kind = PortKind::Unknown;
                set(&mut w.body, json!({"server_type": kind}));
            }),
        ));
    }
    for kind in ["VM", "VIP", "BMS"] {
        all.push((
            "a server's interface",
            Box::new(move |w| {
                w.port.kind = PortKind::Server;
                set(&mut w.body, json!({"server_type": kind}));
            }),
        ));
    }
    all.push(("a VPC without a block", Box::new(|w| w.vpc.cidrs.clear())));
    all.push((
        "a default route",
        Box::new(|w| add_route(&mut w.vpc, "0.0.0.0/0")),
    ));
    all.push(("no cap", Box::new(|w| w.services_per_port_max = None)));
    check_boundaries(world, all, order);
}

#[test]
fn what_is_left_out_has_its_documented_default() {
    let body = object(json!({
        "port_id": uuid(1), "vpc_id": uuid(2), "server_type": "VM",
        "ports": [{"client_port": 22022, "server_port": 22}],
    }));
    let request = ServiceCreate::parse(&body, true).unwrap();
    insta::assert_debug_snapshot!(request);
}
