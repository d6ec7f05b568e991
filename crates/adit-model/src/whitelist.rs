//! Whitelist records: which accounts may connect to a service (spec A.11, A.12, semantics 9).
//!
//! Owns their syntax and what they admit. The owner's account needs no record and is never listed. Checked when an endpoint
//! is created, never afterwards.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    body::{self, Body},
    catalogue::{ApiError, Code},
    id::{DomainId, RecordId},
    time::Created,
};

/// At most so many records on one service: the largest page of the listing.
pub const RECORDS_MAX: usize = 500;

/// What stands before the account's id.
const DOMAIN_PREFIX: &str = "iam:domain::";

/// One record, as it was sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WhitelistRecord {
    /// Its id.
    pub id: RecordId,
    /// `iam:domain::{account}`, `iam:domain::*` or `*`.
    pub permission: String,
    /// Free text.
    #[serde(default)]
    pub description: String,
    /// When it was added.
    pub created: Created,
}

/// All records of one service: one document, so that an action applies as a whole or not at all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Whitelist {
    /// In the order of their adding.
    pub records: Vec<WhitelistRecord>,
}

impl Whitelist {
    /// Whether the account may connect. An asterisk inside a longer id is legal text that matches nothing.
    pub fn admits(&self, domain: &DomainId) -> bool {
        self.records.iter().any(|r| match r.permission.as_str() {
            "*" => true,
            p => p
                .strip_prefix(DOMAIN_PREFIX)
                .is_some_and(|id| id == "*" || id == domain.as_str()),
        })
    }

    /// These records and those of `permissions` that are not there yet.
    ///
    /// # Errors
    /// 3049 where they would be more than 500.
    pub fn add(
        &self,
        permissions: &[String],
        mut created: impl FnMut() -> Created,
    ) -> Result<Whitelist, ApiError> {
        let mut records = self.records.clone();
        for permission in permissions {
            if records.iter().any(|r| r.permission == *permission) {
                continue;
            }
            if records.len() == RECORDS_MAX {
                return Err(ApiError::because(
                    Code::E3049,
                    format!("The service would have more than {RECORDS_MAX} whitelist records."),
                ));
            }
            records.push(WhitelistRecord {
                id: RecordId::random(),
                permission: permission.clone(),
                description: String::new(),
                created: created(),
            });
        }
        Ok(Whitelist { records })
    }

    /// These records without those of `permissions`; what is not there is no error.
    #[must_use]
    pub fn remove(&self, permissions: &[String]) -> Whitelist {
        Whitelist {
            records: self
                .records
                .iter()
                .filter(|r| !permissions.contains(&r.permission))
                .cloned()
                .collect(),
        }
    }
}

/// `add` or `remove`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Add what is not there.
    Add,
    /// Remove what is there.
    Remove,
}

/// A well-formed request to add or remove records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WhitelistAction {
    /// What to do.
    pub action: Action,
    /// The records as sent, repeats left in.
    pub permissions: Vec<String>,
}

impl WhitelistAction {
    /// The field rules of spec A.12, in the table's order.
    ///
    /// # Errors
    /// 3036 (list missing or empty), 3002 (a record's form), 3035 (action).
    pub fn parse(body: &Body) -> Result<Self, ApiError> {
        let list = match body::get(body, "permissions") {
            Some(Value::Array(list)) if !list.is_empty() => list,
            None => return Err(ApiError::because(Code::E3036, "permissions is missing.")),
            Some(other) => {
                return Err(ApiError::because(
                    Code::E3036,
                    format!("permissions: {} is not a list of records.", body::show(other)),
                ));
            }
        };
        let permissions = list
            .iter()
            .enumerate()
            .map(|(i, value)| match value.as_str() {
                Some(text) if is_permission(text) => Ok(text.to_owned()),
                _ => Err(ApiError::because(
                    Code::E3002,
                    format!(
                        "permissions[{i}]: {} is neither * nor iam:domain:: and 1 to 64 letters, digits and *.",
                        body::show(value)
                    ),
                )),
            })
            .collect::<Result<Vec<_>, _>>()?;
        let action = match body.get("action") {
            Some(Value::String(s)) if s == "add" => Action::Add,
            Some(Value::String(s)) if s == "remove" => Action::Remove,
            other => {
                let shown = other.map_or_else(|| "nothing".to_owned(), body::show);
                return Err(ApiError::because(
                    Code::E3035,
                    format!("action: {shown} is neither add nor remove."),
                ));
            }
        };
        Ok(Self { action, permissions })
    }
}

fn is_permission(text: &str) -> bool {
    text == "*"
        || text.strip_prefix(DOMAIN_PREFIX).is_some_and(|id| {
            (1..=64).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'*')
        })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(value: Value) -> Result<WhitelistAction, Code> {
        WhitelistAction::parse(value.as_object().unwrap()).map_err(|e| e.code)
    }

    #[test]
    fn every_rule_has_its_code() {
        assert_eq!(parse(json!({"action": "add"})), Err(Code::E3036));
        assert_eq!(
            parse(json!({"action": "add", "permissions": []})),
            Err(Code::E3036)
        );
        assert_eq!(
            parse(json!({"action": "add", "permissions": "*"})),
            Err(Code::E3036)
        );
        let long = |n: usize| format!("iam:domain::{}", "a".repeat(n));
        for good in [
            "*".into(),
            "iam:domain::*".into(),
            "iam:domain::a*b".into(),
            long(1),
            long(64),
        ] {
            assert!(parse(json!({"action": "add", "permissions": [good]})).is_ok());
        }
        for bad in [
            "".into(),
            "**".into(),
            long(0),
            long(65),
            "iam:domain:a".into(),
            "iam:domain::a-b".into(),
        ] {
            assert_eq!(
                parse(json!({"action": "add", "permissions": ["*", bad]})),
                Err(Code::E3002)
            );
        }
        assert_eq!(
            parse(json!({"action": "add", "permissions": [1]})),
            Err(Code::E3002)
        );
        for bad in [json!("delete"), json!("ADD"), Value::Null, json!(1)] {
            assert_eq!(
                parse(json!({"action": bad, "permissions": ["*"]})),
                Err(Code::E3035)
            );
        }
        // The list is judged before the action.
        assert_eq!(
            parse(json!({"action": "delete", "permissions": ["x"]})),
            Err(Code::E3002)
        );
    }

    fn list(permissions: &[&str]) -> Whitelist {
        let permissions: Vec<_> = permissions.iter().map(|p| (*p).to_owned()).collect();
        Whitelist::default().add(&permissions, Created::default).unwrap()
    }

    #[test]
    fn a_record_admits_its_account_and_an_asterisk_everybody() {
        let me: DomainId = "abc".parse().unwrap();
        assert!(!Whitelist::default().admits(&me));
        assert!(list(&["iam:domain::abc"]).admits(&me));
        assert!(list(&["*"]).admits(&me));
        assert!(list(&["iam:domain::*"]).admits(&me));
        assert!(!list(&["iam:domain::ab", "iam:domain::ab*", "iam:domain::abcd"]).admits(&me));
    }

    #[test]
    fn repeats_collapse_and_500_is_the_end() {
        assert_eq!(list(&["*", "*", "iam:domain::*"]).records.len(), 2);
        let many: Vec<_> = (0..501).map(|i| format!("iam:domain::{i}")).collect();
        let full = Whitelist::default().add(&many[..500], Created::default).unwrap();
        assert_eq!(
            full.add(&many[500..], Created::default).unwrap_err().code,
            Code::E3049
        );
        assert!(full.add(&many[..500], Created::default).is_ok());
        assert_eq!(full.remove(&many).records.len(), 0);
    }
}
