//! The rules of changing a service (spec A.7).

use adit_model::{
    ApiError, Code,
    body::Body,
    id::PortId,
    service::{Backend, ServiceStatus, ServiceUpdate, check_private},
};
use serde_json::{Value, json};

use crate::{
    broken::{Breaker, check_table},
    sample::{REGION, at, object, public_service, service, set, uuid},
};

fn body() -> Body {
    object(json!({
        "approval_enabled": false, "service_name": "orders-v2",
        "ports": (0..10).map(|i| json!({"client_port": 1 + i, "server_port": 11 + i})).collect::<Vec<_>>(),
        "port_id": uuid(11), "tcp_proxy": "close", "description": "",
    }))
}

fn parse(body: &Body) -> Result<(), ApiError> {
    ServiceUpdate::parse(body, true).map(drop)
}

fn field(row: u8, code: Code, name: &'static str, value: Value, shown: &str) -> Breaker<Body> {
    Breaker::new((row, 0), code, &[name, shown], move |b: &mut Body| {
        b.insert(name.to_owned(), value.clone());
    })
}

#[test]
fn each_rule_has_its_code_and_its_place() {
    let port = |row, code, i: usize, name: &'static str, value: Value| {
        let (path, shown) = (format!("ports[{i}].{name}"), value.to_string());
        Breaker::new(row, code, &[&path, &shown], move |b: &mut Body| {
            b["ports"][i][name] = value.clone();
        })
    };
    let breakers = [
        field(1, Code::E0002, "approval_enabled", json!("false"), "\"false\""),
        field(2, Code::E3076, "service_name", json!("a".repeat(17)), "17"),
        field(2, Code::E3076, "service_name", json!("a.b"), "'.'"),
        field(2, Code::E3076, "service_name", json!(false), "false"),
        field(3, Code::E2028, "ports", json!([]), "[]"),
        field(3, Code::E3004, "ports", json!({}), "{}"),
        Breaker::new((3, 2), Code::E3074, &["ports", "201"], |b: &mut Body| {
            let ports = b["ports"].as_array_mut().unwrap();
            ports.extend((10..201).map(|i| json!({"client_port": 1 + i, "server_port": 1 + i})));
        }),
        port((3, 3), Code::E3004, 9, "client_port", json!(65536)),
        port((3, 4), Code::E3043, 8, "server_port", json!(0)),
        port((3, 5), Code::E3075, 7, "protocol", json!("UDP")),
        Breaker::new(
            (3, 6),
            Code::E3004,
            &["ports[1].client_port", "1"],
            |b: &mut Body| {
                b["ports"][1]["client_port"] = json!(1);
            },
        ),
        field(4, Code::E3063, "port_id", json!("port"), "\"port\""),
        field(4, Code::E3063, "port_id", json!(""), "\"\""),
        field(5, Code::E0002, "tcp_proxy", json!("on"), "on"),
        field(5, Code::E0002, "tcp_proxy", json!("toa_open"), "toa_open"),
        field(6, Code::E0002, "description", json!("a".repeat(129)), "129"),
        field(6, Code::E0002, "description", json!("a<b"), "'<'"),
    ];
    check_table(body, &breakers, parse);
}

#[test]
fn a_body_without_a_known_field_is_empty() {
    for empty in [
        json!({}),
        json!({"approval_enabled": null, "description": null, "ports": null}),
        // What cannot be changed here is ignored, and so is what nobody knows.
        json!({"vpc_id": 1, "server_type": "x", "service_type": 2, "pool_id": 3, "tags": 4, "unknown": 5}),
    ] {
        let error = ServiceUpdate::parse(&object(empty.clone()), false).unwrap_err();
        assert_eq!(error.code, Code::E2002, "{empty}");
        assert!(error.message.contains("approval_enabled"), "{error}");
    }
}

#[test]
fn each_field_alone_changes_itself_and_nothing_else() {
    for patch in [
        json!({"approval_enabled": false}),
        json!({"service_name": "orders-v2"}),
        json!({"service_name": ""}),
        json!({"ports": [{"client_port": 1, "server_port": 2}]}),
        json!({"port_id": uuid(11)}),
        json!({"tcp_proxy": "close"}),
        json!({"description": ""}),
        body().into(),
    ] {
        let before = service(ServiceStatus::Available);
        let mut expected = before.clone();
        let patch = object(patch);
        let update = ServiceUpdate::parse(&patch, true).unwrap();
        for (name, value) in &patch {
            match name.as_str() {
                "approval_enabled" => expected.approval_enabled = false,
                "service_name" => {
                    expected.name = match value.as_str().unwrap() {
                        "" => format!("eu-de.{}", before.id).into(),
                        short => format!("eu-de.{short}.{}", before.id).into(),
                    };
                }
                "ports" => expected.ports = serde_json::from_value(with_protocol(value)).unwrap(),
                "port_id" => {
                    let Backend::Port(port) = &mut expected.backend else {
                        panic!("a tenant publishes a port")
                    };
                    // The new one's address is looked up by whoever changes it.
                    (port.id, port.ip) = (PortId(uuid(11)), None);
                }
                "tcp_proxy" => expected.tcp_proxy = adit_model::service::TcpProxy::Close,
                "description" => expected.description = Box::default(),
                other => panic!("{other}"),
            }
        }
        expected.updated_at = at(5000);
        let mut after = before;
        after.update(update, REGION, at(5000)).unwrap();
        assert_eq!(after, expected, "{patch:?}");
    }
}

fn with_protocol(ports: &Value) -> Value {
    let mut ports = ports.clone();
    for port in ports.as_array_mut().unwrap() {
        port["protocol"] = json!("TCP");
    }
    ports
}

#[test]
fn only_an_available_service_can_be_changed() {
    let mut patch = Body::new();
    set(&mut patch, json!({"description": "new"}));
    let update = ServiceUpdate::parse(&patch, false).unwrap();
    for status in ServiceStatus::ALL {
        let before = service(*status);
        let mut after = before.clone();
        let done = after.update(update.clone(), REGION, at(5000));
        if *status == ServiceStatus::Available {
            assert_eq!(done, Ok(()));
            continue;
        }
        let error = done.unwrap_err();
        assert_eq!(error.code, Code::E3045, "{status}");
        assert!(error.message.contains(status.as_str()), "{error}");
        assert!(error.message.contains(&before.id.to_string()), "{error}");
        assert_eq!(after, before);
    }
}

#[test]
fn no_tenant_changes_what_the_operator_runs() {
    let code = |port| check_private(&public_service(), port).unwrap_err().code;
    assert_eq!(code(None), Code::E0004);
    assert_eq!(code(Some(PortId(uuid(11)))), Code::E3054);
    assert_eq!(
        check_private(&service(ServiceStatus::Available), Some(PortId(uuid(11)))),
        Ok(())
    );
}
