//! The policy of a gateway endpoint: which actions on which resources may pass (spec A.13, semantics 17).
//!
//! Owns the form of a statement and the rules of a list of them; what actions and resources there are is the service's
//! business. Keys are written with a capital, and read without one too, since a published client sends them so.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{
    body,
    catalogue::{ApiError, Code},
};

/// At most so many statements (spec semantics 14).
pub const STATEMENTS_MAX: usize = 10;

/// The longest policy, in bytes of JSON: the documents know "too long" and give no figure; this is that of IAM's policies
/// elsewhere.
pub const POLICY_BYTES_MAX: usize = 20_480;

/// Whether a statement allows or denies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Effect {
    /// What it names may pass, unless another statement denies it.
    Allow,
    /// What it names may not pass.
    Deny,
}

/// One statement, as replies show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Statement {
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sid: Option<String>,
    /// Whether it allows or denies.
    pub effect: Effect,
    /// The actions that it names; at least one.
    pub action: Vec<String>,
    /// The resources that it names; at least one.
    pub resource: Vec<String>,
    /// When it holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub condition: Option<Map<String, Value>>,
}

/// The policy of an endpoint that has none of its own.
pub fn full_access() -> Vec<Statement> {
    vec![Statement {
        sid: None,
        effect: Effect::Allow,
        action: vec!["obs:*:*".to_owned()],
        resource: vec!["obs:*:*:*:*/*".to_owned(), "obs:*:*:*:*".to_owned()],
        condition: None,
    }]
}

/// Reads a list of statements; none, and an empty one, stand for full access.
///
/// # Errors
/// 2048.
pub fn parse(value: Option<&Value>) -> Result<Vec<Statement>, ApiError> {
    let list = match value {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(list)) => list,
        Some(other) => {
            return Err(wrong(format!(
                ": {} is not a list of statements.",
                body::show(other)
            )));
        }
    };
    if list.len() > STATEMENTS_MAX {
        return Err(wrong(format!(
            " holds {} statements, more than {STATEMENTS_MAX}.",
            list.len()
        )));
    }
    let statements = list
        .iter()
        .enumerate()
        .map(|(i, item)| statement(item).map_err(|why| wrong(format!("[{i}]{why}"))))
        .collect::<Result<Vec<_>, _>>()?;
    let bytes: usize = list.iter().map(|item| item.to_string().len()).sum();
    if bytes > POLICY_BYTES_MAX {
        return Err(wrong(format!(
            " has {bytes} bytes, more than {POLICY_BYTES_MAX}."
        )));
    }
    Ok(statements)
}

fn wrong(why: String) -> ApiError {
    ApiError::because(Code::E2048, format!("policy_statement{why}"))
}

fn statement(item: &Value) -> Result<Statement, String> {
    if !item.is_object() {
        return Err(format!(": {} is not an object.", body::show(item)));
    }
    let field = |capital: &str| {
        body::field(item, capital).or_else(|| body::field(item, &capital.to_ascii_lowercase()))
    };
    let effect = match field("Effect").and_then(Value::as_str) {
        Some("Allow") => Effect::Allow,
        Some("Deny") => Effect::Deny,
        _ => {
            return Err(format!(
                ".Effect: {} is neither Allow nor Deny.",
                shown(field("Effect"))
            ));
        }
    };
    let names = |capital: &str| {
        let names: Option<Vec<String>> = field(capital)
            .and_then(Value::as_array)
            .filter(|list| !list.is_empty())
            .and_then(|list| list.iter().map(name).collect());
        names.ok_or_else(|| format!(".{capital}: {} is not a list of names.", shown(field(capital))))
    };
    let sid = match field("Sid") {
        None => None,
        Some(Value::String(sid)) => Some(sid.clone()),
        Some(other) => return Err(format!(".Sid: {} is no text.", body::show(other))),
    };
    let condition = match field("Condition") {
        None => None,
        Some(Value::Object(condition)) => Some(condition.clone()),
        Some(other) => return Err(format!(".Condition: {} is not an object.", body::show(other))),
    };
    Ok(Statement {
        sid,
        effect,
        action: names("Action")?,
        resource: names("Resource")?,
        condition,
    })
}

fn name(value: &Value) -> Option<String> {
    value
        .as_str()
        .filter(|text| !text.trim().is_empty())
        .map(str::to_owned)
}

fn shown(value: Option<&Value>) -> String {
    value.map_or_else(|| "nothing".to_owned(), body::show)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn read(value: Value) -> Result<Value, Code> {
        parse(Some(&value))
            .map(|statements| json!(statements))
            .map_err(|e| e.code)
    }

    fn one() -> Value {
        json!({"Effect": "Allow", "Action": ["obs:object:Get*"], "Resource": ["obs:*:*:object:*"]})
    }

    #[test]
    fn nothing_and_an_empty_list_are_no_policy() {
        assert_eq!(parse(None), Ok(Vec::new()));
        assert_eq!(parse(Some(&json!(null))), Ok(Vec::new()));
        assert_eq!(read(json!([])), Ok(json!([])));
    }

    #[test]
    fn keys_are_read_in_both_spellings_and_shown_in_one() {
        let small = json!({"effect": "Deny", "action": ["*"], "resource": ["*"], "Other": 1});
        let capital = json!({"Effect": "Deny", "Action": ["*"], "Resource": ["*"]});
        assert_eq!(read(json!([small])), Ok(json!([capital])));
        let mut whole = one();
        whole["Sid"] = json!("ro");
        whole["Condition"] = json!({"StringEquals": {"g:ServiceName": ["obs"]}});
        assert_eq!(read(json!([whole])), Ok(json!([whole])));
    }

    #[test]
    fn ten_statements_are_the_most() {
        let many = |n: usize| json!(vec![one(); n]);
        assert_eq!(read(many(10)), Ok(many(10)));
        assert_eq!(read(many(11)), Err(Code::E2048));
    }

    #[test]
    fn a_policy_has_a_largest_size() {
        let of = |bytes: usize| {
            let empty = json!({"Effect": "Allow", "Action": [""], "Resource": ["*"]})
                .to_string()
                .len();
            json!([{"Effect": "Allow", "Action": ["x".repeat(bytes - empty)], "Resource": ["*"]}])
        };
        assert!(read(of(POLICY_BYTES_MAX)).is_ok());
        assert_eq!(read(of(POLICY_BYTES_MAX + 1)), Err(Code::E2048));
    }

    #[test]
    fn a_statement_that_is_none_is_refused_by_name() {
        for (field, bad) in [
            ("Effect", json!("Maybe")),
            ("Effect", json!("allow")),
            ("Effect", json!(null)),
            ("Effect", json!(1)),
            ("Action", json!([])),
            ("Action", json!("obs:*:*")),
            ("Action", json!([1])),
            ("Action", json!([" "])),
            ("Action", json!(null)),
            ("Resource", json!([])),
            ("Resource", json!({})),
            ("Sid", json!(1)),
            ("Condition", json!([])),
        ] {
            let mut item = one();
            item[field] = bad.clone();
            let error = parse(Some(&json!([one(), item]))).unwrap_err();
            assert_eq!(error.code, Code::E2048, "{field} {bad}");
            let name = format!("policy_statement[1].{field}");
            assert!(error.message.contains(&name), "{}", error.message);
        }
        for bad in [json!("x"), json!({}), json!([1]), json!([null]), json!(true)] {
            assert_eq!(read(bad.clone()), Err(Code::E2048), "{bad}");
        }
    }

    #[test]
    fn full_access_is_what_is_printed() {
        assert_eq!(
            json!(full_access()),
            json!([{"Effect": "Allow", "Action": ["obs:*:*"], "Resource": ["obs:*:*:*:*/*", "obs:*:*:*:*"]}])
        );
        assert_eq!(parse(Some(&json!(full_access()))), Ok(full_access()));
    }

    proptest! {
        #[test]
        fn what_was_read_reads_back(allow in any::<bool>(), names in prop::collection::vec("[a-z:*]{1,8}", 1..4)) {
            let effect = if allow { "Allow" } else { "Deny" };
            let statements = parse(Some(&json!([{"effect": effect, "action": names, "resource": names}]))).unwrap();
            prop_assert_eq!(parse(Some(&json!(statements))), Ok(statements));
        }
    }
}
