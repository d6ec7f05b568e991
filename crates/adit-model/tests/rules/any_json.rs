//! Whatever a client sends, every parser answers: with a value, or with a code of the catalogue and a message.

use adit_model::{
    ApiError,
    body::{self, Body},
    endpoint::{
        ConnectionAction, EndpointDraft, parse_entry, parse_policy_update, parse_route_tables_update,
        parse_whitelist,
    },
    id::{DomainId, NeutronSubnetId, PortId, ProjectId},
    listing::{LIMIT_MAX, Listing, Query, WHITELIST_LIMIT_MAX},
    name,
    network::{Mac, SubnetRange, SubnetView},
    policy, port_mapping,
    quota::{QuotaType, Usage},
    service::{PublicCreate, ServiceCreate, ServiceStatus, ServiceUpdate, parse_prefixes},
    tag,
    time::Timestamp,
    whitelist::WhitelistAction,
};
use proptest::prelude::*;
use serde_json::{Map, Number, Value, json};

use crate::sample::{object, uuid, vpc_view};

/// The longest message that a client is sent, in characters; it quotes the request in part only.
const MESSAGE_CHARS_MAX: usize = 500;

fn check<T>(found: Result<T, ApiError>) -> Option<T> {
    match found {
        Ok(value) => Some(value),
        Err(ApiError { code, message }) => {
            assert!(message.starts_with(code.message()), "{code}: {message}");
            assert!(
                message.len() > code.message().len(),
                "{code}: {message} names nothing"
            );
            assert!(message.chars().count() <= MESSAGE_CHARS_MAX, "{code}: {message}");
            None
        }
    }
}

/// Text as a client might send it: anything, or something like what a field wants.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[a-z0-9./:<>_@ -]{0,140}",
        Just(uuid(1).to_string()),
        "[0-9]{1,3}(\\.[0-9]{1,3}){3}(/[0-9]{1,3})?",
        prop::sample::select(vec![
            "TCP",
            "LB",
            "open",
            "receive",
            "add",
            "default",
            "*",
            "iam:domain::*"
        ])
        .prop_map(str::to_owned),
    ]
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::from),
        any::<u16>().prop_map(Value::from),
        any::<f64>().prop_map(|f| Number::from_f64(f).map_or(Value::Null, Value::Number)),
        text().prop_map(Value::String),
    ];
    leaf.prop_recursive(4, 48, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Value::Array),
            prop::collection::vec((key(), inner), 0..8)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

/// A field's name: often one that a parser looks for.
fn key() -> impl Strategy<Value = String> {
    let known = prop::sample::select(vec!["client_port", "server_port", "protocol", "key", "value"]);
    prop_oneof![4 => known.prop_map(str::to_owned), 1 => any::<String>()]
}

/// A body with every field of every request, good ones at first.
fn good_body() -> Body {
    object(json!({
        "port_id": uuid(1), "vpc_id": uuid(2), "server_type": "LB", "service_name": "orders-api",
        "approval_enabled": true, "service_type": "interface", "tcp_proxy": "close", "pool_id": uuid(4),
        "ports": [{"client_port": 443, "server_port": 8443, "protocol": "TCP"}],
        "tags": [{"key": "team", "value": "web"}], "description": "Orders",
        "endpoint_service_id": uuid(3), "subnet_id": uuid(6), "port_ip": "10.20.5.40", "enable_dns": true,
        "specification_name": "default", "whitelist": ["10.20.0.0/24"], "enable_whitelist": true,
        "policy_statement": [{"Effect": "Allow", "Action": ["*"], "Resource": ["*"]}], "routetables": [uuid(20)],
        "prefixes": ["100.125.0.0/16"], "owner": "OTC", "project_id": "0".repeat(32), "is_charge": true, "action": "receive", "endpoints": [uuid(7)], "permissions": ["*"],
    }))
}

/// A good body with a few fields replaced by anything.
fn almost_good_body() -> impl Strategy<Value = Body> {
    let names: Vec<String> = good_body().keys().cloned().collect();
    prop::collection::vec((prop::sample::select(names), json_value()), 0..4).prop_map(|changes| {
        let mut body = good_body();
        body.extend(changes);
        body
    })
}

fn parse_all(body: &Body) {
    for strict_toa in [false, true] {
        check(ServiceCreate::parse(body, strict_toa));
        check(ServiceUpdate::parse(body, strict_toa));
    }
    check(PublicCreate::parse(body));
    check(parse_route_tables_update(body));
    check(parse_policy_update(body));
    check(ConnectionAction::parse(body, true));
    check(WhitelistAction::parse(body, true));
    check(body::description(body));
    let Some(draft) = check(EndpointDraft::parse(body.clone())) else {
        return;
    };
    let vpc = vpc_view(draft.vpc, &[], &[]);
    let quota = Usage { used: 0, quota: 1 };
    draft.foreign_route_table(&vpc);
    check(draft.clone().finish_gateway(&vpc, false, |_| true, quota));
    let Some(subnet_id) = check(draft.subnet()) else {
        return;
    };
    let subnet = SubnetView {
        id: subnet_id,
        vpc: Some(vpc.id),
        range: Some(SubnetRange {
            id: NeutronSubnetId(uuid(60)),
            name: String::new(),
            cidr: "10.20.0.0/16".parse().unwrap(),
            gateway: [10, 20, 0, 1].into(),
            dhcp: false,
            dns: Vec::new(),
        }),
    };
    check(draft.finish(&vpc, subnet_id, Some(&subnet), |_| true, quota));
}

proptest! {
    #[test]
    fn any_json_is_answered(value in json_value()) {
        check(port_mapping::parse_list(Some(&value)));
        check(tag::parse_list(Some(&value)));
        check(parse_whitelist(Some(&value)));
        check(parse_prefixes(Some(&value)));
        check(policy::parse(Some(&value)));
        if let Some(body) = check(body::parse(value.to_string().as_bytes())) {
            parse_all(&body);
        }
        // The same value as every field at once.
        parse_all(&good_body().into_iter().map(|(name, _)| (name, value.clone())).collect::<Map<_, _>>());
    }

    #[test]
    fn any_almost_good_body_is_answered(body in almost_good_body()) {
        parse_all(&body);
    }

    #[test]
    fn any_text_is_answered(text in text()) {
        check(body::parse(text.as_bytes()));
        check(name::check_short(&text));
        check(name::check_filter(&text));
        check(name::check_public(&text));
        check(name::check_owner(&text));
        check(QuotaType::parse(&text));
        if let Some(block) = parse_entry(&text) {
            // What is an access rule reads back as the same.
            prop_assert_eq!(parse_entry(&block.to_string()), Some(block));
        }
        let _ = (text.parse::<PortId>(), text.parse::<ProjectId>(), text.parse::<DomainId>());
        let _ = (text.parse::<Mac>(), text.parse::<Timestamp>());
    }

    #[test]
    fn any_query_is_answered(values in prop::collection::vec(text(), 5)) {
        let names = ["limit", "offset", "sort_key", "sort_dir", "status"];
        let query = Query(names.iter().map(|n| (*n).to_owned()).zip(values).collect());
        check(Listing::parse(&query, LIMIT_MAX, false));
        check(Listing::parse(&query, WHITELIST_LIMIT_MAX, true));
        check(query.status(ServiceStatus::from_wire));
        check(query.id::<PortId>("limit", adit_model::Code::E3062));
    }

    #[test]
    fn any_time_reads_back(seconds in -62_135_596_800i64..253_402_300_800) {
        let time = Timestamp::from_unix_s(seconds);
        prop_assert_eq!(time.to_string().parse::<Timestamp>().unwrap(), time);
    }
}

#[test]
fn a_good_body_is_taken_by_every_parser_but_the_whitelists() {
    let body = good_body();
    assert!(ServiceCreate::parse(&body, true).is_ok());
    assert!(ServiceUpdate::parse(&body, true).is_ok());
    assert!(ConnectionAction::parse(&body, true).is_ok());
    assert!(EndpointDraft::parse(body.clone()).is_ok());
    // One body cannot hold both actions.
    assert!(WhitelistAction::parse(&body, false).is_err());
}
