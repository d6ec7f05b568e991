//! Each rule of a query at its boundary, and what the four lists mean, held against the specification's own words.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn parse(value: Value) -> Result<TagQuery, Code> {
    TagQuery::parse(value.as_object().unwrap(), false).map_err(|e| e.code)
}

fn with(field: &str, value: Value) -> Result<TagQuery, Code> {
    parse(json!({"action": "filter", field: value}))
}

#[test]
fn every_rule_of_a_list_has_its_code() {
    let keys = |n: usize| -> Value {
        (0..n)
            .map(|i| json!({"key": format!("k{i}"), "values": []}))
            .collect()
    };
    let values = |n: usize| -> Value {
        let values: Value = (0..n).map(|i| json!(format!("v{i}"))).collect();
        json!([{"key": "k", "values": values}])
    };
    for list in ["tags", "tags_any", "not_tags", "not_tags_any"] {
        for (value, code) in [
            (keys(21), Code::E3069),
            (json!([{"values": []}]), Code::E3066),
            (json!([{"key": " ", "values": []}]), Code::E3066),
            (json!([{"key": "", "values": []}]), Code::E3066),
            (
                json!([{"key": "k", "values": []}, {"key": " k ", "values": []}]),
                Code::E3067,
            ),
            (json!([{"key": "k", "values": ["v", " v"]}]), Code::E3071),
            (json!([{"key": "k".repeat(128), "values": []}]), Code::E3072),
            (json!([{"key": "k", "values": ["v".repeat(256)]}]), Code::E3073),
            (json!([{"key": "k"}]), Code::E0002),
            (json!([{"key": "k", "values": null}]), Code::E0002),
            (values(11), Code::E0002),
            (json!([{"key": "k", "values": "v"}]), Code::E0002),
            (json!([{"key": "k", "values": [1]}]), Code::E0002),
            (json!([{"key": 1, "values": []}]), Code::E0002),
            (json!(["k"]), Code::E0002),
            (json!({"key": "k", "values": []}), Code::E0002),
        ] {
            assert_eq!(with(list, value.clone()).unwrap_err(), code, "{list} {value}");
        }
        for good in [
            keys(20),
            values(10),
            json!([]),
            Value::Null,
            json!([{"key": "ü".repeat(127), "values": ["ü".repeat(255)]}]),
            // What no resource can have may be asked for.
            json!([{"key": "a.b/c", "values": ["*", "<>", ""]}]),
        ] {
            assert!(with(list, good.clone()).is_ok(), "{list} {good}");
        }
    }
}

#[test]
fn every_other_rule_has_its_code() {
    for bad in [json!(null), json!("FILTER"), json!("list"), json!(1)] {
        assert_eq!(parse(json!({"action": bad})), Err(Code::E0007), "{bad}");
    }
    for bad in [
        json!("0"),
        json!(0),
        json!("1001"),
        json!(1001),
        json!("x"),
        json!(""),
    ] {
        assert_eq!(with("limit", bad.clone()).unwrap_err(), Code::E0006, "{bad}");
        // A count has no pages.
        assert!(parse(json!({"action": "count", "limit": bad, "offset": "x"})).is_ok());
    }
    for bad in [
        json!("-1"),
        json!(-1),
        json!(" 1"),
        json!("+1"),
        json!(1.5),
        json!(true),
    ] {
        assert_eq!(with("limit", bad.clone()).unwrap_err(), Code::E0006, "{bad}");
        assert_eq!(with("offset", bad.clone()).unwrap_err(), Code::E0010, "{bad}");
    }
    let page = |value: Value| TagQuery::parse(value.as_object().unwrap(), false).unwrap().wanted;
    assert_eq!(
        page(json!({"action": "filter"})),
        Wanted::Page {
            limit: 1000,
            offset: 0
        }
    );
    assert_eq!(
        page(json!({"action": "filter", "limit": "100", "offset": 7})),
        Wanted::Page {
            limit: 100,
            offset: 7
        }
    );
    let far = json!({"action": "filter", "limit": 1, "offset": "99999999999999999999"});
    assert_eq!(
        page(far),
        Wanted::Page {
            limit: 1,
            offset: usize::MAX
        }
    );
    let name = |key: &str, value: Value| json!({"key": key, "value": value});
    for bad in [
        json!("x"),
        json!([1]),
        json!([name("resource_id", json!("x"))]),
        json!([name("resource_name", json!(1))]),
        json!([{"key": "resource_name"}]),
        json!([{"value": "x"}]),
        json!([name("resource_name", json!("x".repeat(256)))]),
        json!([
            name("resource_name", json!("x")),
            name("resource_name", json!("y"))
        ]),
    ] {
        assert_eq!(with("matches", bad.clone()).unwrap_err(), Code::E0002, "{bad}");
    }
    assert!(with("matches", json!([name("resource_name", json!("x".repeat(255)))])).is_ok());
    // What only Huawei's API has is ignored without the switch.
    assert!(with("without_any_tag", json!("x")).is_ok());
}

fn tag(key: &str, value: &str) -> Tag {
    Tag {
        key: key.to_owned(),
        value: value.to_owned(),
    }
}

#[test]
fn a_leading_asterisk_asks_for_a_part_and_spaces_do_not_count() {
    let tags = [tag("team", "payments-eu"), tag("empty", "")];
    for (key, values, expected) in [
        ("team", json!([]), true),
        ("team", json!(["payments-eu"]), true),
        (" team ", json!(["  payments-eu  "]), true),
        ("team", json!(["payments"]), false),
        ("team", json!(["*payments"]), true),
        ("team", json!(["*ments-"]), true),
        ("team", json!(["*eu"]), true),
        ("team", json!(["*EU"]), false),
        ("team", json!(["*"]), true),
        ("team", json!(["x", "*eu"]), true),
        ("team", json!(["payments-*"]), false),
        ("team", json!([""]), false),
        ("empty", json!([""]), true),
        ("empty", json!(["*"]), true),
        ("Team", json!([]), false),
    ] {
        let query = with("tags", json!([{"key": key, "values": values}])).unwrap();
        assert_eq!(query.matches("n", &tags), expected, "{key} {values}");
    }
}

#[test]
fn a_name_is_matched_by_any_part_of_it() {
    for (value, expected) in [
        ("orders", true),
        ("ORDERS", true),
        (" eu-de ", true),
        ("eu-de.orders.1", true),
        ("x", false),
        ("", false),
        ("*", false),
    ] {
        let query = with("matches", json!([{"key": "resource_name", "value": value}])).unwrap();
        assert_eq!(query.matches("eu-de.Orders.1", &[]), expected, "{value}");
    }
}

#[test]
fn the_superset_asks_for_what_has_no_tag_or_a_system_tag() {
    let parse = |value: Value| TagQuery::parse(value.as_object().unwrap(), true);
    let untagged = parse(json!({"action": "filter", "without_any_tag": true, "tags": "ignored"})).unwrap();
    assert!(untagged.matches("n", &[]));
    assert!(!untagged.matches("n", &[tag("k", "v")]));
    let off = parse(json!({"action": "filter", "without_any_tag": false})).unwrap();
    assert!(off.matches("n", &[tag("k", "v")]));
    let system = json!([{"key": "_sys_enterprise_project_id", "values": ["0"]}]);
    let query = parse(json!({"action": "count", "sys_tags": system})).unwrap();
    assert!(!query.matches("n", &[]) && !query.matches("n", &[tag("k", "v")]));
    assert!(
        parse(json!({"action": "count", "sys_tags": []}))
            .unwrap()
            .matches("n", &[])
    );
    for bad in [json!({"without_any_tag": 1}), json!({"sys_tags": [{"key": "k"}]})] {
        let mut body = bad;
        body["action"] = json!("filter");
        assert_eq!(parse(body.clone()).unwrap_err().code, Code::E0002, "{body}");
    }
}

fn list() -> impl Strategy<Value = BTreeMap<String, Vec<String>>> {
    let values = prop::collection::btree_set("[xyz]", 0..3).prop_map(|set| set.into_iter().collect());
    prop::collection::btree_map("[abc]", values, 0..3)
}

fn wire(list: &BTreeMap<String, Vec<String>>) -> Value {
    list.iter()
        .map(|(key, values)| json!({"key": key, "values": values}))
        .collect()
}

proptest! {
    #[test]
    fn the_lists_mean_what_the_specification_says(
        (all, any, not_all, not_any) in (list(), list(), list(), list()),
        tags in prop::collection::btree_map("[abc]", "[xyz]", 0..4),
    ) {
        let m = |(key, values): (&String, &Vec<String>)| {
            tags.get(key).is_some_and(|value| values.is_empty() || values.contains(value))
        };
        let expected = all.iter().all(m)
            && (any.is_empty() || any.iter().any(m))
            && (not_all.is_empty() || !not_all.iter().all(m))
            && (not_any.is_empty() || !not_any.iter().any(m));
        let query = parse(json!({
            "action": "filter", "tags": wire(&all), "tags_any": wire(&any),
            "not_tags": wire(&not_all), "not_tags_any": wire(&not_any),
        })).unwrap();
        let tags: Vec<_> = tags.iter().map(|(key, value)| tag(key, value)).collect();
        prop_assert_eq!(query.matches("n", &tags), expected);
    }
}
