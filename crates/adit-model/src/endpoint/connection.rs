//! What a service's owner does to a connection (spec A.10).

use serde_json::Value;

use super::parse_drain_s;
use crate::{
    body::{self, Body},
    catalogue::{ApiError, Code},
    id::EndpointId,
};

/// What a service's owner does to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// `receive` on the wire.
    Receive,
    /// `reject` on the wire.
    Reject,
}

/// A well-formed request to accept or reject one endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionAction {
    /// What to do.
    pub decision: Decision,
    /// To which endpoint.
    pub endpoint: EndpointId,
    /// How many seconds the connections of one that is rejected may go on, as far as it is said. Of the superset.
    pub drain_s: Option<u32>,
}

impl ConnectionAction {
    /// The field rules of spec A.10, in the table's order; `superset` adds `drain_s`.
    ///
    /// # Errors
    /// 2027 (action), 2002 (no endpoint), 2031 (more than one), 2017 (not a UUID), 0002 (`drain_s`).
    pub fn parse(body: &Body, superset: bool) -> Result<Self, ApiError> {
        let decision = match body.get("action") {
            Some(Value::String(s)) if s == "receive" => Decision::Receive,
            Some(Value::String(s)) if s == "reject" => Decision::Reject,
            other => {
                let shown = other.map_or_else(|| "nothing".to_owned(), body::show);
                return Err(ApiError::because(
                    Code::E2027,
                    format!("action: {shown} is neither receive nor reject."),
                ));
            }
        };
        let list = match body::get(body, "endpoints") {
            None => return Err(ApiError::because(Code::E2002, "endpoints is missing.")),
            Some(Value::Array(list)) => list,
            Some(other) => {
                return Err(ApiError::because(
                    Code::E0002,
                    format!("endpoints: {} is not a list.", body::show(other)),
                ));
            }
        };
        let endpoint = match list.as_slice() {
            [] => return Err(ApiError::because(Code::E2002, "endpoints: [] names no endpoint.")),
            [one] => one.as_str().and_then(|s| s.parse().ok()).ok_or_else(|| {
                ApiError::because(
                    Code::E2017,
                    format!("endpoints[0]: {} is not a UUID.", body::show(one)),
                )
            })?,
            more => {
                return Err(ApiError::because(
                    Code::E2031,
                    format!("endpoints names {} endpoints; name one.", more.len()),
                ));
            }
        };
        let drain_s = match superset {
            true => parse_drain_s(body)?,
            false => None,
        };
        Ok(Self {
            decision,
            endpoint,
            drain_s: drain_s.filter(|_| decision == Decision::Reject),
        })
    }
}
