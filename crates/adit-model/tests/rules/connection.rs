//! The rules of accepting and rejecting a connection (spec A.10).

use adit_model::{
    ApiError, Code,
    body::Body,
    endpoint::{ConnectionAction, Decision},
    id::EndpointId,
};
use serde_json::{Value, json};

use crate::{
    broken::{Breaker, check_table},
    sample::{object, uuid},
};

fn body() -> Body {
    object(json!({"action": "receive", "endpoints": [uuid(7)], "unknown": 1}))
}

fn parse(body: &Body) -> Result<(), ApiError> {
    ConnectionAction::parse(body, true).map(drop)
}

#[test]
fn each_rule_has_its_code_and_its_place() {
    let field = |row, code, name: &'static str, value: Value, says: &[&str]| {
        Breaker::new((row, 0), code, says, move |b: &mut Body| {
            b.insert(name.to_owned(), value.clone());
        })
    };
    let mut breakers = vec![Breaker::new(
        (1, 0),
        Code::E2027,
        &["action", "nothing"],
        |b: &mut Body| {
            b.remove("action");
        },
    )];
    for bad in [
        json!("accept"),
        json!("RECEIVE"),
        json!(""),
        json!(null),
        json!(true),
        json!(["reject"]),
    ] {
        let shown = bad.to_string();
        breakers.push(field(1, Code::E2027, "action", bad, &["action", &shown]));
    }
    breakers.extend([
        Breaker::new((2, 0), Code::E2002, &["endpoints", "missing"], |b: &mut Body| {
            b.remove("endpoints");
        }),
        field(
            2,
            Code::E2002,
            "endpoints",
            json!(null),
            &["endpoints", "missing"],
        ),
        field(2, Code::E2002, "endpoints", json!([]), &["endpoints", "[]"]),
        field(2, Code::E0002, "endpoints", json!("x"), &["endpoints", "\"x\""]),
        field(
            2,
            Code::E0002,
            "endpoints",
            json!({"id": 1}),
            &["endpoints", "{\"id\":1}"],
        ),
        // How many there are is judged before what they are.
        field(
            3,
            Code::E2031,
            "endpoints",
            json!([uuid(7), uuid(8)]),
            &["endpoints", "2"],
        ),
        field(
            3,
            Code::E2031,
            "endpoints",
            json!(["x", 1, null]),
            &["endpoints", "3"],
        ),
    ]);
    for bad in [json!("x"), json!(""), json!(1), json!(null), json!([uuid(7)])] {
        let shown = bad.to_string();
        breakers.push(field(
            4,
            Code::E2017,
            "endpoints",
            json!([bad]),
            &["endpoints[0]", &shown],
        ));
    }
    for bad in [json!(-1), json!(86_401), json!("30"), json!(0.5)] {
        let shown = bad.to_string();
        breakers.push(field(5, Code::E0002, "drain_s", bad, &["drain_s", &shown]));
    }
    check_table(body, &breakers, parse);
}

#[test]
fn how_long_connections_go_on_is_read_of_a_rejection_and_in_the_superset() {
    let read =
        |body: Value, superset| ConnectionAction::parse(&object(body), superset).map(|action| action.drain_s);
    let of =
        |action: &str, drain_s: Value| json!({"action": action, "endpoints": [uuid(7)], "drain_s": drain_s});
    assert_eq!(read(of("reject", json!(30)), true), Ok(Some(30)));
    assert_eq!(read(of("reject", json!(null)), true), Ok(None));
    assert_eq!(read(of("receive", json!(30)), true), Ok(None));
    for value in [json!(30), json!("x")] {
        assert_eq!(read(of("reject", value), false), Ok(None));
    }
}

#[test]
fn the_two_wire_values_are_read() {
    for (word, decision) in [("receive", Decision::Receive), ("reject", Decision::Reject)] {
        let mut body = body();
        body["action"] = json!(word);
        let endpoint = EndpointId(uuid(7));
        assert_eq!(
            ConnectionAction::parse(&body, true),
            Ok(ConnectionAction {
                decision,
                endpoint,
                drain_s: None
            })
        );
    }
}
