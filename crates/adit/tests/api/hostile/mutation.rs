//! What nobody would send on purpose, and how a good body becomes it.

use proptest::{
    prelude::*,
    sample::{Index, select},
};
use serde_json::{Value, json};

/// Texts that have broken programs.
pub(super) fn hostile_text() -> impl Strategy<Value = String> {
    prop_oneof![
        select(vec![
            "",
            " ",
            "\t\n",
            "\0",
            "<script>",
            "*",
            "%",
            "..",
            "null",
            "0",
            "-1",
            "TCP",
            "interface",
            "default",
            "İ",
            "ﬀ",
            "e\u{301}",
            "\u{202e}abc",
            "\u{feff}",
            "👩‍👩‍👧‍👦",
            "198.19.128.0/17",
            "0.0.0.0/0",
            "256.1.1.1",
            "::1",
            "10.0.0.77",
            "iam:domain::",
            "iam:domain::*",
            "organizations:orgPath::*",
            "deadbeef-dead-4ead-8ead-deadbeefdead",
            "{deadbeef-dead-4ead-8ead-deadbeefdea}",
            "_sys_x",
        ])
        .prop_map(str::to_owned),
        ".{0,40}",
        "[a-zA-Z0-9_-]{1,20}",
        (0..300usize).prop_map(|n| "ü".repeat(n)),
    ]
}

/// Values of every type, and of every size that matters.
pub(super) fn hostile_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        select(vec![
            json!(0),
            json!(-1),
            json!(1),
            json!(65_535),
            json!(65_536),
            json!(1.5),
            json!(80.0),
            json!(-0.0)
        ]),
        select(vec![
            json!(i64::MIN),
            json!(u64::MAX),
            json!(f64::MAX),
            json!(2_147_483_648_u64),
            json!(1e-300)
        ]),
        any::<i64>().prop_map(Value::from),
        hostile_text().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec((hostile_text(), inner.clone()), 0..4)
                .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
            (inner, select(vec![11_usize, 21, 201, 501])).prop_map(|(v, n)| Value::from(vec![v; n])),
            // Deep, but no deeper than the parser goes.
            (1..100usize).prop_map(|depth| (0..depth).fold(Value::Null, |v, _| json!([v]))),
        ]
    })
}

/// One change of a body, at some place in it.
#[derive(Clone, Debug)]
pub(super) enum Edit {
    Replace(Index, Value),
    Remove(Index),
    Double(Index),
    Wrap(Index),
    Add(Index, String, Value),
}

pub(super) fn edit() -> impl Strategy<Value = Edit> {
    let at = any::<Index>;
    prop_oneof![
        6 => (at(), hostile_value()).prop_map(|(i, v)| Edit::Replace(i, v)),
        2 => at().prop_map(Edit::Remove),
        1 => at().prop_map(Edit::Double),
        1 => at().prop_map(Edit::Wrap),
        1 => (at(), hostile_text(), hostile_value()).prop_map(|(i, n, v)| Edit::Add(i, n, v)),
    ]
}

/// The places in a value, as JSON pointers; the whole is the first.
fn places(value: &Value, at: String, found: &mut Vec<String>) {
    found.push(at.clone());
    match value {
        Value::Object(map) => map.iter().for_each(|(name, v)| {
            let name = name.replace('~', "~0").replace('/', "~1");
            places(v, format!("{at}/{name}"), found);
        }),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .for_each(|(i, v)| places(v, format!("{at}/{i}"), found)),
        _ => {}
    }
}

pub(super) fn apply(body: &mut Value, edit: Edit) {
    let mut all = Vec::new();
    places(body, String::new(), &mut all);
    let pick = |index: Index| index.get(&all).clone();
    match edit {
        Edit::Replace(i, value) => *body.pointer_mut(&pick(i)).unwrap() = value,
        Edit::Wrap(i) => {
            let place = body.pointer_mut(&pick(i)).unwrap();
            *place = json!([place.take()]);
        }
        Edit::Add(i, name, value) => {
            if let Some(map) = body.pointer_mut(&pick(i)).unwrap().as_object_mut() {
                map.insert(name, value);
            }
        }
        Edit::Remove(i) | Edit::Double(i) => {
            let double = matches!(edit, Edit::Double(_));
            let place = pick(i);
            let Some((parent, last)) = place.rsplit_once('/') else {
                return;
            };
            match body.pointer_mut(parent).unwrap() {
                Value::Array(items) => {
                    let n = last.parse().unwrap();
                    let item: Value = items.remove(n);
                    if double {
                        items.insert(n, item.clone());
                        items.insert(n, item);
                    }
                }
                Value::Object(map) if !double => {
                    map.remove(&last.replace("~1", "/").replace("~0", "~"));
                }
                _ => {}
            }
        }
    }
}
