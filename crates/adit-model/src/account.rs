//! An account's standing with the operator: active, or frozen for one reason or several (spec 0.7, `active_status`).
//!
//! A frozen account's endpoints show it and pass no traffic. It is independent of what state they are in, and touches
//! nothing else: the account's services go on serving others, and what was made stays. Accounts that nobody ever froze have
//! no document.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    body::{self, Body},
    catalogue::{ApiError, Code},
    service::words,
    time::Timestamp,
};

/// The word for an account that is not frozen.
pub const ACTIVE: &str = "active";

/// Why an account is frozen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Freeze {
    /// It owes money.
    ArrearFrozen,
    /// Its owner is not verified.
    VerifyFrozen,
    /// The police asked for it.
    PoliceFrozen,
    /// It broke the law or the terms.
    IllegalFrozen,
    /// A partner asked for it.
    PartnerFrozen,
}

words!(Freeze:
    ArrearFrozen = "arrear_frozen", VerifyFrozen = "verify_frozen", PoliceFrozen = "police_frozen",
    IllegalFrozen = "illegal_frozen", PartnerFrozen = "partner_frozen");

/// An account's standing. Once it is there it stays, also when it says nothing any more: what gateways are told is
/// numbered by the revisions of documents, which must not go back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Why it is frozen; not at all where there is no reason.
    pub frozen: BTreeSet<Freeze>,
    /// When that last changed.
    pub updated_at: Timestamp,
    /// Frozen: how many seconds its endpoints' connections may go on, where the call said so; else they are cut.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain_s: Option<u32>,
}

impl Account {
    /// Whether its endpoints pass no traffic.
    pub fn is_frozen(&self) -> bool {
        !self.frozen.is_empty()
    }

    /// Its `active_status`.
    pub fn active_status(&self) -> Vec<&'static str> {
        if self.frozen.is_empty() {
            return vec![ACTIVE];
        }
        self.frozen.iter().map(|freeze| freeze.as_str()).collect()
    }
}

/// Reads the operator's word on an account: `["active"]`, or one or more reasons.
///
/// # Errors
/// 2002 where it is missing or empty, 0002 for anything else.
pub fn parse_active_status(body: &Body) -> Result<BTreeSet<Freeze>, ApiError> {
    let list = match body::get(body, "active_status") {
        Some(Value::Array(list)) if !list.is_empty() => list,
        None | Some(Value::Array(_)) => {
            return Err(ApiError::because(
                Code::E2002,
                "active_status is missing or empty; say [\"active\"] or why the account is frozen.",
            ));
        }
        Some(other) => {
            return Err(ApiError::because(
                Code::E0002,
                format!("active_status: {} is not an array.", body::show(other)),
            ));
        }
    };
    if let [Value::String(word)] = list.as_slice()
        && word == ACTIVE
    {
        return Ok(BTreeSet::new());
    }
    let read = |(i, value): (usize, &Value)| {
        value.as_str().and_then(Freeze::from_wire).ok_or_else(|| {
            let words: Vec<_> = Freeze::ALL.iter().map(|freeze| freeze.as_str()).collect();
            ApiError::because(
                Code::E0002,
                format!(
                    "active_status[{i}]: {} is not one of {}; \"{ACTIVE}\" stands alone.",
                    body::show(value),
                    words.join(", ")
                ),
            )
        })
    };
    list.iter().enumerate().map(read).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_account_is_active_or_frozen_for_reasons() {
        let parse = |value: Value| parse_active_status(json!({"active_status": value}).as_object().unwrap());
        let shown = |value: Value| {
            let frozen = parse(value).unwrap();
            Account {
                frozen,
                ..Account::default()
            }
            .active_status()
        };
        assert_eq!(shown(json!(["active"])), ["active"]);
        assert_eq!(
            shown(json!(["police_frozen", "arrear_frozen", "police_frozen"])),
            ["arrear_frozen", "police_frozen"]
        );
        for (bad, code) in [
            (json!(null), Code::E2002),
            (json!([]), Code::E2002),
            (json!("active"), Code::E0002),
            (json!(["frozen"]), Code::E0002),
            (json!(["active", "arrear_frozen"]), Code::E0002),
            (json!(["active", "active"]), Code::E0002),
            (json!([1]), Code::E0002),
        ] {
            assert_eq!(parse(bad.clone()).unwrap_err().code, code, "{bad}");
        }
    }
}
