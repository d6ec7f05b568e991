//! The rules of creating and changing a gateway endpoint (spec A.13, B.2 to B.4), and the documented exchanges.

use std::collections::BTreeSet;

use adit_model::{
    ApiError, Code,
    body::Body,
    endpoint::{
        Endpoint, EndpointCreate, EndpointDraft, EndpointPlace, EndpointStatus, GatewayLeg, Leg,
        SPECIFICATION, parse_policy_update, parse_route_tables_update,
    },
    id::{DomainId, EndpointId, MarkerId, RouteTableId, VpcId},
    network::{ROUTE_ENDPOINT, Route, RouteClash, RouteTableView, VpcView, route_to_endpoint},
    policy::full_access,
    quota::Usage,
    service::Service,
    time::Created,
};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::{
    broken::{Breaker, check_table},
    endpoint_exchanges::{CREATE, GATEWAY},
    sample::{
        add_route, at, custom_route, endpoint, endpoint_place, gateway_endpoint, object, public_service, set,
        uuid, vpc_view,
    },
    service_exchanges::{Exchange, exchanges},
};

/// A request and all that it meets.
struct World {
    body: Body,
    service: Service,
    vpc: Option<VpcView>,
    /// Route tables of the caller's other VPCs.
    elsewhere: BTreeSet<RouteTableId>,
    /// Route tables that serve an endpoint of this service.
    taken: BTreeSet<RouteTableId>,
    quota: Usage,
}

fn table(n: u128) -> RouteTableId {
    RouteTableId(uuid(n))
}

/// A stranger whom no whitelist names asks for two tables of a VPC with three.
fn world() -> World {
    let mut vpc = vpc_view(VpcId(uuid(5)), &["198.19.0.0/16"], &["0.0.0.0/0"]);
    for n in [22, 23] {
        vpc.route_tables.push(RouteTableView {
            id: table(n),
            default: false,
            routes: Vec::new(),
            routes_max: 200,
        });
    }
    let statement = json!({"Effect": "Allow", "Action": ["obs:*:*"], "Resource": ["obs:*:*:*:*"]});
    World {
        body: object(json!({
            "endpoint_service_id": uuid(3), "vpc_id": uuid(5), "routetables": [uuid(22), uuid(20), uuid(22)],
            "policy_statement": vec![statement; 10], "whitelist": [], "enable_whitelist": false,
            "enable_dns": true,
            // Rule 21.
            "subnet_id": "x", "port_ip": 1,
        })),
        service: public_service(),
        vpc: Some(vpc),
        elsewhere: BTreeSet::from([table(40)]),
        taken: BTreeSet::from([table(23)]),
        quota: Usage { used: 49, quota: 50 },
    }
}

fn create(world: &World) -> Result<EndpointCreate, ApiError> {
    let draft = EndpointDraft::parse(world.body.clone())?;
    let caller: DomainId = "a-stranger".parse().unwrap();
    draft.check_service(Some(&world.service), &caller, false)?;
    let vpc = draft.check_vpc(world.vpc.as_ref())?;
    let foreign = draft.foreign_route_table(vpc);
    let exists = foreign.is_some_and(|id| world.elsewhere.contains(&id));
    draft
        .clone()
        .finish_gateway(vpc, exists, |id| !world.taken.contains(&id), world.quota)
}

fn field(row: (u8, u8), code: Code, name: &'static str, value: Value) -> Breaker<World> {
    Breaker::new(row, code, &[name], move |w: &mut World| {
        w.body.insert(name.to_owned(), value.clone());
    })
}

#[test]
fn each_rule_has_its_code() {
    let mut breakers = vec![
        field((4, 0), Code::E2033, "enable_dns", json!("yes")),
        Breaker::new((9, 0), Code::E2004, &["deleting"], |w: &mut World| {
            assert_eq!(w.service.delete(0, at(1)), Ok(true));
        }),
        Breaker::new((10, 0), Code::E2001, &["vpc_id"], |w: &mut World| w.vpc = None),
        Breaker::new((13, 0), Code::E3017, &["198.19.128.0/24"], |w: &mut World| {
            w.vpc
                .as_mut()
                .into_iter()
                .for_each(|vpc| add_route(vpc, "198.19.128.0/24"));
        }),
    ];
    for bad in [json!(["10.0.0.1"]), json!("10.0.0.1"), json!(["x"]), json!({})] {
        breakers.push(field((17, 0), Code::E2044, "whitelist", bad));
    }
    breakers.push(field((17, 1), Code::E0002, "enable_whitelist", json!("yes")));
    breakers.push(field((17, 1), Code::E2044, "enable_whitelist", json!(true)));
    for bad in [json!("x"), json!([uuid(20), "x"]), json!([null]), json!([1])] {
        breakers.push(field((18, 0), Code::E1019, "routetables", bad));
    }
    breakers.push(field(
        (18, 0),
        Code::E1019,
        "routetables",
        json!([uuid(20), uuid(40)]),
    ));
    breakers.push(field(
        (18, 0),
        Code::E4030,
        "routetables",
        json!([uuid(20), uuid(41)]),
    ));
    breakers.push(field(
        (18, 0),
        Code::E2039,
        "routetables",
        json!([uuid(20), uuid(23)]),
    ));
    breakers.push(Breaker::new(
        (19, 0),
        Code::E4026,
        &["vpc_id"],
        |w: &mut World| {
            w.body["routetables"] = Value::Null;
            w.vpc
                .as_mut()
                .into_iter()
                .for_each(|vpc| vpc.route_tables[0].default = false);
        },
    ));
    breakers.push(field((20, 0), Code::E2048, "policy_statement", json!("x")));
    breakers.push(field(
        (20, 0),
        Code::E2048,
        "policy_statement",
        json!([{"Effect": "Allow"}]),
    ));
    breakers.push(Breaker::new(
        (22, 0),
        Code::E1018,
        &["50 of at most 50"],
        |w: &mut World| {
            w.quota.used = 50;
        },
    ));
    check_table(world, &breakers, |world| create(world).map(drop));
}

#[test]
fn what_is_left_out_has_its_documented_default() {
    for patch in [
        json!({}),
        json!({"routetables": []}),
        json!({"policy_statement": null, "whitelist": null}),
    ] {
        let mut world = world();
        world.body = object(json!({"endpoint_service_id": uuid(3), "vpc_id": uuid(5)}));
        set(&mut world.body, patch);
        let expected = GatewayLeg {
            route_tables: vec![table(20)],
            policy: Vec::new(),
        };
        assert_eq!(create(&world).unwrap().leg, Leg::Gateway(expected));
    }
}

#[test]
fn a_table_that_is_named_twice_counts_once() {
    let Leg::Gateway(leg) = create(&world()).unwrap().leg else {
        panic!("a gateway service has gateway endpoints")
    };
    assert_eq!(leg.route_tables, [table(22), table(20)]);
}

#[test]
fn a_default_table_that_is_taken_is_taken() {
    let mut world = world();
    world.body["routetables"] = Value::Null;
    world.taken.insert(table(20));
    assert_eq!(create(&world).unwrap_err().code, Code::E2039);
}

#[test]
fn a_change_of_tables_needs_one() {
    let code = |body: Value| parse_route_tables_update(&object(body)).unwrap_err().code;
    assert_eq!(code(json!({})), Code::E2002);
    assert_eq!(code(json!({"routetables": null})), Code::E2002);
    assert_eq!(code(json!({"routetables": []})), Code::E2040);
    assert_eq!(code(json!({"routetables": "x"})), Code::E1019);
    let body = object(json!({"routetables": [uuid(20), uuid(20)]}));
    assert_eq!(parse_route_tables_update(&body), Ok(vec![table(20)]));
}

#[test]
fn a_change_of_policy_names_one() {
    let code = |body: Value| parse_policy_update(&object(body)).unwrap_err().code;
    assert_eq!(code(json!({})), Code::E2002);
    assert_eq!(code(json!({"policy_statement": [{}]})), Code::E2048);
    assert_eq!(code(json!({"policy_document": {}})), Code::E2048);
    assert_eq!(
        parse_policy_update(&object(json!({"policy_statement": []}))),
        Ok(Vec::new())
    );
}

#[test]
fn changes_keep_to_the_type_and_the_state() {
    let mut accepted = gateway_endpoint(EndpointStatus::Accepted);
    accepted.set_route_tables(vec![table(22)], at(9000)).unwrap();
    assert_eq!(
        (
            accepted.gateway().unwrap().route_tables.clone(),
            accepted.updated_at
        ),
        (vec![table(22)], at(9000))
    );
    accepted.set_policy(full_access(), at(9001)).unwrap();
    accepted.clear_policy(at(9002)).unwrap();
    assert_eq!(
        (accepted.gateway().unwrap().policy.len(), accepted.updated_at),
        (0, at(9002))
    );
    assert_eq!(accepted.clear_policy(at(9003)).unwrap_err().code, Code::E2049);
    assert_eq!(accepted.status(), EndpointStatus::Accepted);

    for (status, tables, policy) in [
        (EndpointStatus::Creating, Some(Code::E2019), None),
        (EndpointStatus::Failed, Some(Code::E2047), Some(Code::E2047)),
        (EndpointStatus::Deleting, Some(Code::E2018), Some(Code::E2018)),
    ] {
        let mut endpoint = gateway_endpoint(status);
        let before = endpoint.clone();
        let code = |found: Result<(), ApiError>| found.err().map(|e| e.code);
        assert_eq!(
            code(endpoint.set_route_tables(vec![table(22)], at(9000))),
            tables,
            "{status}"
        );
        assert_eq!(endpoint, before);
        assert_eq!(
            code(endpoint.set_policy(full_access(), at(9000))),
            policy,
            "{status}"
        );
        assert_eq!(endpoint == before, policy.is_some());
    }

    let mut other = endpoint(EndpointStatus::Accepted);
    let before = other.clone();
    assert_eq!(
        other
            .set_route_tables(vec![table(22)], at(9000))
            .unwrap_err()
            .code,
        Code::E0002
    );
    assert_eq!(
        other.set_policy(full_access(), at(9000)).unwrap_err().code,
        Code::E2048
    );
    assert_eq!(other.clear_policy(at(9000)).unwrap_err().code, Code::E2049);
    assert_eq!(other, before);
}

/// The document under the names of spec 0.7, as replies show it.
fn shown(e: &Endpoint) -> Value {
    let leg = e.gateway().unwrap();
    let policy = if leg.policy.is_empty() {
        full_access()
    } else {
        leg.policy.clone()
    };
    json!({
        "id": e.id, "status": e.status(), "service_type": e.service_type(), "active_status": ["active"],
        "enable_status": "enable", "endpoint_service_id": e.service, "endpoint_service_name": e.service_name,
        "marker_id": e.marker, "vpc_id": e.vpc, "project_id": e.project, "routetables": leg.route_tables,
        "policy_statement": policy, "specification_name": SPECIFICATION, "endpoint_pool_id": e.pool, "tags": e.tags,
        "description": e.description, "created_at": e.created.at, "updated_at": e.updated_at,
    })
}

/// What a sample asks for, in a VPC that has the samples' tables.
fn sample_endpoint(exchange: &Exchange) -> Result<Endpoint, ApiError> {
    let [first, second] = [
        "ba5ee752-bd4f-5799-8342-cac366e1353e",
        "824cdc3d-eaf4-5a4f-9fb5-7af57dab1a6d",
    ]
    .map(|id| id.parse::<RouteTableId>().unwrap());
    let mut service = public_service();
    service.id = "4bb85683-42e1-5412-a862-16241e1074b1".parse().unwrap();
    service.pool = "1b3aeacf-49de-5c52-9b22-b3d38148c4cd".parse().unwrap();
    let draft = EndpointDraft::parse(exchange.body.clone())?;
    let mut vpc = vpc_view(draft.vpc, &[], &[]);
    vpc.route_tables[0].id = first;
    vpc.route_tables.push(RouteTableView {
        id: second,
        default: false,
        routes: Vec::new(),
        routes_max: 200,
    });
    let request = draft.finish_gateway(
        &vpc,
        false,
        |_| exchange.note != "route table taken",
        Usage { used: 0, quota: 50 },
    )?;
    let reply = &exchange.reply;
    let text = |name: &str| reply[name].as_str();
    let place = EndpointPlace {
        id: text("id").map_or(EndpointId(uuid(7)), |id| id.parse().unwrap()),
        project: "dc7c61a0e3a35523a0b15c59481405d3".parse().unwrap(),
        marker: serde_json::from_value(reply["marker_id"].clone()).unwrap_or(MarkerId::from_random(1)),
        created: Created {
            order: 1,
            at: text("created_at").map_or(at(0), |t| t.parse().unwrap()),
        },
        ..endpoint_place()
    };
    Ok(Endpoint::new(request, &service, place))
}

#[test]
fn creating_a_gateway_endpoint_answers_as_documented() {
    let mut all = exchanges(CREATE);
    all.retain(|e| GATEWAY.contains(&e.note.as_str()));
    assert_eq!(all.len(), GATEWAY.len());
    for exchange in &all {
        match sample_endpoint(exchange) {
            Ok(endpoint) => exchange.check_fields(&shown(&endpoint)),
            Err(error) => exchange.check_refusal(&error),
        }
    }
}

#[test]
fn changing_the_policy_answers_as_documented() {
    let created = sample_endpoint(
        &exchanges(CREATE)
            .into_iter()
            .find(|e| e.note == GATEWAY[0])
            .unwrap(),
    )
    .unwrap();
    let updated = |exchange: &Exchange| {
        exchange.reply["updated_at"]
            .as_str()
            .map_or(at(0), |t| t.parse().unwrap())
    };
    let mut endpoint = created.clone();
    assert!(endpoint.accept(at(0)));
    for exchange in exchanges(include_str!("../examples/b03-update-policy.json")) {
        match parse_policy_update(&exchange.body) {
            Ok(policy) => {
                endpoint.set_policy(policy, updated(&exchange)).unwrap();
                exchange.check_fields(&shown(&endpoint));
            }
            Err(error) => exchange.check_refusal(&error),
        }
    }
    for exchange in exchanges(include_str!("../examples/b04-delete-policy.json")) {
        match endpoint.clear_policy(updated(&exchange)) {
            Ok(()) => exchange.check_fields(&shown(&endpoint)),
            Err(error) => exchange.check_refusal(&error),
        }
    }
}

#[test]
fn a_route_in_the_way_is_named() {
    let (own, other) = (EndpointId(uuid(7)), EndpointId(uuid(8)));
    let prefix = "100.125.0.0/16".parse().unwrap();
    let to = |routes: &[Route], max| route_to_endpoint(routes, own, &[prefix], max);
    let custom = custom_route("100.125.0.0/16");
    assert_eq!(to(&[custom], 200), Err(RouteClash::Taken(prefix)));
    let theirs = Route::of_endpoint(other, prefix);
    assert_eq!(
        to(&[theirs], 200),
        Err(RouteClash::Endpoint(prefix, other.to_string()))
    );
    let inside = custom_route("100.125.7.0/24");
    assert_eq!(to(std::slice::from_ref(&inside), 1), Err(RouteClash::Full(1)));
    let written = to(std::slice::from_ref(&inside), 2).unwrap();
    assert_eq!(written, [inside, Route::of_endpoint(own, prefix)]);
    assert_eq!(written[1].kind, ROUTE_ENDPOINT);
}

fn routes() -> impl Strategy<Value = Vec<Route>> {
    // Each destination at most once, as in a table.
    let kinds = prop::collection::vec(0..4u8, 6);
    kinds.prop_map(|kinds| {
        let route = |(n, kind): (usize, &u8)| {
            let destination = format!("10.{n}.0.0/16");
            match kind {
                0 => None,
                1 => Some(custom_route(&destination)),
                kind => Some(Route::of_endpoint(
                    EndpointId(uuid(u128::from(*kind))),
                    destination.parse().unwrap(),
                )),
            }
        };
        kinds.iter().enumerate().filter_map(route).collect()
    })
}

proptest! {
    #[test]
    fn writing_leaves_others_alone_and_is_done_once(
        routes in routes(),
        wanted in prop::collection::btree_set(0..6u8, 0..4),
        max in 0..8usize,
    ) {
        let own = EndpointId(uuid(2));
        let prefixes: Vec<_> = wanted.iter().map(|n| format!("10.{n}.0.0/16").parse().unwrap()).collect();
        let is_own = |r: &Route| r.is_endpoint() && r.nexthop == own.to_string();
        if let Ok(new) = route_to_endpoint(&routes, own, &prefixes, max) {
            let others = |all: &[Route]| all.iter().filter(|r| !is_own(r)).cloned().collect::<Vec<_>>();
            prop_assert_eq!(others(&new), others(&routes));
            let led: BTreeSet<_> = new.iter().filter(|r| is_own(r)).map(|r| r.destination).collect();
            prop_assert_eq!(led, prefixes.iter().copied().collect::<BTreeSet<_>>());
            prop_assert_eq!(route_to_endpoint(&new, own, &prefixes, max), Ok(new.clone()));
            // Taken out again, nothing of it is left.
            prop_assert_eq!(route_to_endpoint(&new, own, &[], max), Ok(others(&routes)));
        }
    }
}
