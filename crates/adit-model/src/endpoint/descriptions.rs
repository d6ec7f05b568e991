//! What the owner of a service writes beside its connections (spec B.8). It is the owner's: the endpoint's own description
//! is another text, and its owner never sees this one.

use serde_json::Value;

use super::{Endpoint, EndpointStatus};
use crate::{
    body::{self, Body},
    catalogue::{ApiError, Code},
    id::EndpointId,
    time::Timestamp,
    whitelist_batch::description,
};

/// At most so many connections in a call: all of them change in one transaction, which has 64 operations.
pub const CONNECTIONS_MAX: usize = 30;

/// Reads the connections to describe, and how. Of several for one connection the last counts.
///
/// # Errors
/// 2002 (list, id or description missing), 0016 (too many), 2017 (an id), 0002 (a description, or of the wrong type).
pub fn parse_descriptions(body: &Body) -> Result<Vec<(EndpointId, String)>, ApiError> {
    let list = match body::get(body, "connections") {
        Some(Value::Array(list)) if !list.is_empty() => list,
        None | Some(Value::Array(_)) => {
            return Err(ApiError::because(Code::E2002, "connections is missing or empty."));
        }
        Some(other) => {
            return Err(ApiError::because(
                Code::E0002,
                format!("connections: {} is not an array.", body::show(other)),
            ));
        }
    };
    if list.len() > CONNECTIONS_MAX {
        return Err(ApiError::because(
            Code::E0016,
            format!(
                "connections holds {} of them, more than {CONNECTIONS_MAX}.",
                list.len()
            ),
        ));
    }
    let mut described: Vec<(EndpointId, String)> = Vec::new();
    for (i, item) in list.iter().enumerate() {
        let at = format!("connections[{i}]");
        let fields = item.as_object().ok_or_else(|| {
            ApiError::because(
                Code::E0002,
                format!("{at}: {} is not an object.", body::show(item)),
            )
        })?;
        let id = body::id(fields, "id", Code::E2002, Code::E2017)?;
        let text = description(&at, item, Code::E2002)?;
        described.retain(|(known, _)| *known != id);
        described.push((id, text));
    }
    Ok(described)
}

impl Endpoint {
    /// Writes the owner's text beside the connection. Answers `false` where it is there already.
    ///
    /// # Errors
    /// 2018 in `deleting`.
    pub fn describe_connection(&mut self, text: &str, now: Timestamp) -> Result<bool, ApiError> {
        if self.status() == EndpointStatus::Deleting {
            return Err(ApiError::because(
                Code::E2018,
                format!("Endpoint {} is deleting.", self.id),
            ));
        }
        if *self.connection_description == *text {
            return Ok(false);
        }
        self.connection_description = text.into();
        self.updated_at = now.at_least(self.updated_at);
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_rule_has_its_code() {
        let parse = |value: Value| {
            parse_descriptions(json!({"connections": value}).as_object().unwrap()).map_err(|e| e.code)
        };
        let id = EndpointId::random();
        let one = |id: Value, text: Value| json!([{"id": id, "description": text}]);
        let many = |n: usize| -> Value {
            (0..n)
                .map(|_| json!({"id": EndpointId::random(), "description": ""}))
                .collect()
        };
        assert_eq!(parse(one(json!(id), json!("x"))), Ok(vec![(id, "x".to_owned())]));
        assert_eq!(parse(many(30)).unwrap().len(), 30);
        let twice = json!([{"id": id, "description": "x"}, {"id": id, "description": "y"}]);
        assert_eq!(parse(twice), Ok(vec![(id, "y".to_owned())]));
        for (bad, code) in [
            (Value::Null, Code::E2002),
            (json!([]), Code::E2002),
            (json!({}), Code::E0002),
            (json!(["x"]), Code::E0002),
            (many(31), Code::E0016),
            (one(Value::Null, json!("x")), Code::E2002),
            (one(json!("x"), json!("x")), Code::E2017),
            (one(json!(id), Value::Null), Code::E2002),
            (one(json!(id), json!(1)), Code::E0002),
            (one(json!(id), json!("a<b")), Code::E0002),
            (one(json!(id), json!("d".repeat(129))), Code::E0002),
        ] {
            assert_eq!(parse(bad.clone()), Err(code), "{bad}");
        }
    }
}
