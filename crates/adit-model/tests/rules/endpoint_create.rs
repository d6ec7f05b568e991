//! The rules of creating an interface endpoint (spec A.13); `endpoint_gateway` has the other type.

use std::{collections::BTreeSet, net::Ipv4Addr};

use adit_model::{
    ApiError, Code,
    body::{self, Body},
    endpoint::{EndpointCreate, EndpointDraft, InterfaceLeg, Leg, parse_entry},
    id::{DomainId, NeutronSubnetId, SubnetId, VpcId},
    network::{SubnetRange, SubnetView, VpcView},
    quota::Usage,
    service::{Service, ServiceStatus},
};
use serde_json::{Value, json};

use crate::{
    broken::{Breaker, Change, check_boundaries, check_table},
    sample::{self, object, set, uuid},
};

/// A request and all that it meets.
struct World {
    raw: Option<&'static [u8]>,
    body: Body,
    service: Option<Service>,
    caller: DomainId,
    admitted: bool,
    vpc_found: bool,
    vpc: VpcView,
    subnet_found: bool,
    subnet: SubnetView,
    range: SubnetRange,
    taken: BTreeSet<Ipv4Addr>,
    quota: Usage,
}

/// A stranger who is on the whitelist asks; everything that has a limit is at it.
fn world() -> World {
    let tags: Vec<_> = (0..20).map(|i| json!({"key": format!("k{i}")})).collect();
    let whitelist: Vec<_> = (0..20).map(|i| format!("10.20.7.{i}/24")).collect();
    World {
        raw: None,
        body: object(json!({
            "endpoint_service_id": uuid(3), "vpc_id": uuid(5), "subnet_id": uuid(6), "port_ip": "10.20.5.40",
            "enable_dns": true, "specification_name": "default", "tags": tags, "description": "From the shop",
            "whitelist": whitelist, "enable_whitelist": true, "policy_statement": [], "routetables": [uuid(9)],
        })),
        service: Some(sample::service(ServiceStatus::Available)),
        caller: "a-stranger".parse().unwrap(),
        admitted: true,
        vpc_found: true,
        vpc: sample::vpc_view(VpcId(uuid(5)), &["10.20.0.0/16"], &["0.0.0.0/0", "198.19.0.0/17"]),
        subnet_found: true,
        subnet: SubnetView {
            id: SubnetId(uuid(6)),
            vpc: Some(VpcId(uuid(5))),
            range: None,
        },
        range: SubnetRange {
            id: NeutronSubnetId(uuid(60)),
            name: String::new(),
            cidr: "10.20.5.0/24".parse().unwrap(),
            gateway: [10, 20, 5, 1].into(),
            dhcp: true,
            dns: Vec::new(),
        },
        taken: BTreeSet::from([[10, 20, 5, 39].into()]),
        quota: Usage { used: 49, quota: 50 },
    }
}

fn create(world: &World) -> Result<EndpointCreate, ApiError> {
    let body = match world.raw {
        Some(raw) => body::parse(raw)?,
        None => body::parse(&serde_json::to_vec(&world.body).unwrap())?,
    };
    let draft = EndpointDraft::parse(body)?;
    draft.check_service(world.service.as_ref(), &world.caller, world.admitted)?;
    draft.check_vpc(world.vpc_found.then_some(&world.vpc))?;
    let subnet_id = draft.subnet()?;
    let subnet = SubnetView {
        range: world.subnet.range.clone().or_else(|| Some(world.range.clone())),
        ..world.subnet.clone()
    };
    draft.finish(
        &world.vpc,
        subnet_id,
        world.subnet_found.then_some(&subnet),
        |ip| !world.taken.contains(&ip),
        world.quota,
    )
}

fn order(world: &World) -> Result<(), ApiError> {
    create(world).map(drop)
}

/// A breaker that sets one field of the body.
fn field(row: (u8, u8), code: Code, name: &'static str, value: Value) -> Breaker<World> {
    let shown = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    Breaker::new(row, code, &[name, &shown], move |w: &mut World| {
        w.body.insert(name.to_owned(), value.clone());
    })
}

fn id_field(row: u8, name: &'static str, missing: Code, malformed: Code) -> Vec<Breaker<World>> {
    let says = format!("{name} is missing");
    let mut all = vec![
        Breaker::new((row, 0), missing, &[&says], move |w: &mut World| {
            w.body.remove(name);
        }),
        Breaker::new((row, 0), missing, &[&says], move |w: &mut World| {
            w.body[name] = Value::Null;
        }),
        field((row, 0), missing, name, json!(" ")),
    ];
    for bad in [json!("x"), json!(1), json!("00000000000000000000000000000001")] {
        all.push(field((row, 1), malformed, name, bad));
    }
    all
}

/// Rules 1 to 6.
fn breakers_of_fields() -> Vec<Breaker<World>> {
    let mut all = vec![Breaker::new((1, 0), Code::E1004, &["[]"], |w: &mut World| {
        w.raw = Some(b"[]");
    })];
    all.extend(id_field(2, "endpoint_service_id", Code::E2029, Code::E3062));
    all.extend(id_field(3, "vpc_id", Code::E2011, Code::E0020));
    for bad in [json!("true"), json!(0)] {
        all.push(field((4, 0), Code::E2033, "enable_dns", bad));
    }
    all.push(field((5, 0), Code::E0015, "specification_name", json!(1)));
    all.push(field((5, 1), Code::E2009, "specification_name", json!("large")));
    all.push(Breaker::new(
        (6, 1),
        Code::E3066,
        &["tags[19].key"],
        |w: &mut World| {
            w.body["tags"][19] = json!({"value": "v"});
        },
    ));
    all.push(Breaker::new(
        (6, 2),
        Code::E3069,
        &["tags", "21"],
        |w: &mut World| {
            w.body["tags"].as_array_mut().unwrap().push(json!({"key": "k20"}));
        },
    ));
    all.push(Breaker::new(
        (6, 3),
        Code::E0002,
        &["description", "'>'"],
        |w: &mut World| {
            w.body["description"] = json!("a>b");
        },
    ));
    all
}

/// Rules 7 to 13.
fn breakers_of_facts() -> Vec<Breaker<World>> {
    let service = uuid(3).to_string();
    let (vpc, subnet) = (uuid(5).to_string(), uuid(6).to_string());
    let id = "endpoint_service_id";
    let mut all = vec![
        Breaker::new((7, 0), Code::E2003, &[id, &service], |w: &mut World| {
            w.service = None;
        }),
        Breaker::new(
            (8, 0),
            Code::E2012,
            &[id, &service, "whitelist"],
            |w: &mut World| {
                w.admitted = false;
            },
        ),
    ];
    for status in [
        ServiceStatus::Creating,
        ServiceStatus::Failed,
        ServiceStatus::Deleting,
    ] {
        let says = [id, &service, status.as_str()];
        all.push(Breaker::new((9, 0), Code::E2004, &says, move |w: &mut World| {
            w.service = w.service.as_ref().map(|_| sample::service(status));
        }));
    }
    all.push(Breaker::new(
        (10, 0),
        Code::E2001,
        &["vpc_id", &vpc],
        |w: &mut World| {
            w.vpc_found = false;
        },
    ));
    all.extend(id_field(11, "subnet_id", Code::E2010, Code::E0023));
    let elsewhere = ["subnet_id", subnet.as_str(), vpc.as_str()];
    all.extend([
        Breaker::new((12, 0), Code::E4004, &["subnet_id", &subnet], |w: &mut World| {
            w.subnet_found = false;
        }),
        Breaker::new((12, 1), Code::E2037, &elsewhere, |w: &mut World| {
            w.subnet.vpc = Some(VpcId(uuid(50)));
        }),
        Breaker::new((12, 1), Code::E2037, &elsewhere, |w: &mut World| {
            w.subnet.vpc = None;
        }),
    ]);
    for block in ["198.19.200.0/24", "198.18.0.0/15"] {
        let says = ["subnet_id", block, "198.19.128.0/17"];
        all.push(Breaker::new((13, 0), Code::E3009, &says, |w: &mut World| {
            w.range.cidr = block.parse().unwrap();
        }));
    }
    let says = ["vpc_id", "198.19.255.255/32", "198.19.128.0/17"];
    all.push(Breaker::new((13, 1), Code::E3017, &says, |w: &mut World| {
        sample::add_route(&mut w.vpc, "198.19.255.255/32");
    }));
    all
}

/// Rules 14 to 16, 20 and 22; 17 to 19 are about gateway services, and 21 refuses nothing.
fn breakers_of_the_address() -> Vec<Breaker<World>> {
    let mut all = Vec::new();
    for bad in [
        json!("fd00::5"),
        json!("10.20.5.256"),
        json!("10.20.5.40/32"),
        json!(""),
        json!(1),
    ] {
        all.push(field((14, 0), Code::E2041, "port_ip", bad));
    }
    for bad in ["192.0.2.9", "10.20.6.1", "10.20.5.0", "10.20.5.255"] {
        all.push(field((14, 1), Code::E2043, "port_ip", json!(bad)));
    }
    // The router's own address, and one that another endpoint or port has.
    all.push(field((14, 2), Code::E2042, "port_ip", json!("10.20.5.1")));
    all.push(field((14, 2), Code::E2042, "port_ip", json!("10.20.5.39")));
    for bad in [json!("10.20.0.0/24"), json!({"ip": 1}), json!(7)] {
        all.push(field((15, 0), Code::E2044, "whitelist", bad));
    }
    for bad in [
        json!("10.20.0.0/33"),
        json!("10.20.0/24"),
        json!("010.20.0.0/24"),
        json!("10.20.0.010"),
        json!("fd00::/8"),
        json!("*"),
        json!(""),
        json!(" 10.20.0.1"),
        json!("10.20.0.0/24/24"),
        json!("10.20.0.0/"),
        json!(7),
        json!(null),
    ] {
        let shown = bad.to_string();
        all.push(Breaker::new(
            (15, 0),
            Code::E2044,
            &["whitelist[19]", &shown],
            move |w: &mut World| {
                w.body["whitelist"][19] = bad.clone();
            },
        ));
    }
    all.push(Breaker::new(
        (15, 1),
        Code::E2045,
        &["whitelist", "21"],
        |w: &mut World| {
            w.body["whitelist"]
                .as_array_mut()
                .unwrap()
                .push(json!("10.20.7.20"));
        },
    ));
    all.push(field((16, 0), Code::E0002, "enable_whitelist", json!("true")));
    for bad in [json!([{"Effect": "Allow"}]), json!({}), json!("x")] {
        all.push(Breaker::new(
            (20, 0),
            Code::E2048,
            &["policy_statement"],
            move |w: &mut World| {
                w.body["policy_statement"] = bad.clone();
            },
        ));
    }
    all.push(Breaker::new(
        (22, 0),
        Code::E1018,
        &["50 of at most 50"],
        |w: &mut World| w.quota.used = 50,
    ));
    all
}

#[test]
fn each_rule_has_its_code_and_its_place() {
    let mut breakers = breakers_of_fields();
    breakers.extend(breakers_of_facts());
    breakers.extend(breakers_of_the_address());
    let rows: BTreeSet<_> = breakers.iter().map(|b| b.row.0).collect();
    assert!(rows.iter().copied().eq((1..=16).chain([20, 22])), "{rows:?}");
    check_table(world, &breakers, order);
}

#[test]
fn at_its_boundary_no_rule_refuses() {
    let mut all: Vec<Change<World>> = Vec::new();
    for patch in [
        json!({"enable_dns": null, "specification_name": null, "tags": null, "description": null}),
        json!({"port_ip": null}),
        json!({"port_ip": "10.20.5.2"}),
        json!({"port_ip": "10.20.5.254"}),
        json!({"whitelist": []}),
        json!({"whitelist": null, "enable_whitelist": null}),
        json!({"whitelist": ["0.0.0.0/0", "10.20.7.15", "10.20.7.15/32", "10.20.7.15/8"]}),
        json!({"policy_statement": null}),
        // Rule 21: route tables of an interface endpoint are ignored, whatever they are.
        json!({"routetables": "nothing"}),
    ] {
        all.push((
            "a field at its boundary",
            Box::new(move |w| set(&mut w.body, patch.clone())),
        ));
    }
    all.push((
        "the owner needs no record",
        Box::new(|w| {
            w.caller = sample::domain();
            w.admitted = false;
        }),
    ));
    all.push((
        "a subnet next to the reserved range",
        Box::new(|w| {
            w.range.cidr = "198.19.127.0/24".parse().unwrap();
            w.body["port_ip"] = json!("198.19.127.40");
        }),
    ));
    all.push((
        "the VPC's own block is not looked at",
        Box::new(|w| w.vpc.cidrs.push("198.19.0.0/16".parse().unwrap())),
    ));
    check_boundaries(world, all, order);
}

#[test]
fn a_network_without_addresses_is_in_no_vpc() {
    let world = world();
    let draft = EndpointDraft::parse(world.body.clone()).unwrap();
    let found = draft.finish(
        &world.vpc,
        world.subnet.id,
        Some(&world.subnet),
        |_| true,
        world.quota,
    );
    assert_eq!(found.unwrap_err().code, Code::E2037);
}

#[test]
fn what_is_left_out_has_its_documented_default() {
    let mut world = world();
    world.body = object(json!({"endpoint_service_id": uuid(3), "vpc_id": uuid(5), "subnet_id": uuid(6)}));
    let created = create(&world).unwrap();
    assert_eq!(
        created,
        EndpointCreate {
            vpc: VpcId(uuid(5)),
            vni: None,
            leg: Leg::Interface(InterfaceLeg {
                subnet: SubnetId(uuid(6)),
                subnet_cidr: world.range.cidr,
                ip: None,
                enable_dns: false,
                whitelist: Vec::new(),
                enable_whitelist: false,
            }),
            tags: Vec::new(),
            description: String::new(),
        }
    );
}

#[test]
fn an_entry_is_an_address_or_a_block_with_host_bits_or_without() {
    for (text, block) in [
        ("10.20.7.15", "10.20.7.15/32"),
        ("10.20.7.15/24", "10.20.7.15/24"),
        ("0.0.0.0/0", "0.0.0.0/0"),
    ] {
        assert_eq!(parse_entry(text), block.parse().ok(), "{text}");
    }
}
