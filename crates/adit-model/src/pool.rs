//! Pools of gateways: what a service is put in (spec A.4, `pool_id`).
//!
//! The region's default pool is a setting and has no document. A document is one that the operator made. Which gateways
//! serve a pool is not written here; so far, every gateway serves all of them.

use serde::{Deserialize, Serialize};

use crate::{
    body::{self, Body},
    catalogue::{ApiError, Code},
    id::PoolId,
    time::Created,
};

/// The longest name, in characters.
pub const NAME_CHARS_MAX: usize = 64;

/// A pool that the operator made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// Its id.
    pub id: PoolId,
    /// What the operator calls it.
    pub name: String,
    /// When it was made.
    pub created: Created,
}

/// Reads the name of a new pool: 1 to 64 letters, digits, `_`, `-` and `.`.
///
/// # Errors
/// 2002 where it is missing or empty, 0002 for anything else.
pub fn parse_name(body: &Body) -> Result<String, ApiError> {
    let name = body::string(body, "name", Code::E0002)?.unwrap_or_default();
    if name.is_empty() {
        return Err(ApiError::because(Code::E2002, "name is missing or empty."));
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    if name.chars().count() > NAME_CHARS_MAX || !name.chars().all(allowed) {
        return Err(ApiError::because(
            Code::E0002,
            format!(
                "name: {} is not 1 to {NAME_CHARS_MAX} of A-Z a-z 0-9 _ - and dots.",
                body::quote(name)
            ),
        ));
    }
    Ok(name.to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_name_is_short_and_plain() {
        let parse =
            |value: Value| parse_name(json!({"name": value}).as_object().unwrap()).map_err(|e| e.code);
        for good in ["a", "edge-2.eu_de", &"a".repeat(64)] {
            assert_eq!(parse(json!(good)).unwrap(), good);
        }
        for (bad, code) in [
            (Value::Null, Code::E2002),
            (json!(""), Code::E2002),
            (json!(1), Code::E0002),
            (json!("a b"), Code::E0002),
            (json!("<a>"), Code::E0002),
            (json!("a".repeat(65)), Code::E0002),
        ] {
            assert_eq!(parse(bad.clone()), Err(code), "{bad}");
        }
    }
}
