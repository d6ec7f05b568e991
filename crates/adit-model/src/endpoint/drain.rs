//! How long connections may go on once their endpoint is served no more: what the calls that end it say (`drain_s`).
//!
//! What no call has said is the region's setting, or a cut; that is decided where gateways are told.

use super::Endpoint;
use crate::{
    body::{self, Body},
    catalogue::{ApiError, Code},
    listing::Query,
};

/// The longest time that a call can let connections go on, in seconds: a day.
const DRAIN_S_MAX: u32 = 86_400;
/// The same for an endpoint that is deleted: five minutes, since its service's owner cannot end it any more, and its quota is free
/// again.
const DELETED_DRAIN_S_MAX: u32 = 300;

/// Reads how many seconds connections may go on, as far as a call says so.
///
/// # Errors
/// 0002 for anything but a whole number from 0 to 86,400.
pub fn parse_drain_s(body: &Body) -> Result<Option<u32>, ApiError> {
    let Some(value) = body::get(body, "drain_s") else {
        return Ok(None);
    };
    let seconds = value.as_u64().and_then(|seconds| u32::try_from(seconds).ok());
    check(seconds, DRAIN_S_MAX, || body::show(value)).map(Some)
}

/// The same of a deletion, which has no body.
///
/// # Errors
/// 0002 for anything but a whole number from 0 to 300.
pub fn parse_drain_s_query(query: &Query) -> Result<Option<u32>, ApiError> {
    let Some(text) = query.get("drain_s") else {
        return Ok(None);
    };
    let digits = Some(text).filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
    let seconds = digits.and_then(|text| text.parse().ok());
    check(seconds, DELETED_DRAIN_S_MAX, || body::quote(text)).map(Some)
}

fn check(seconds: Option<u32>, max: u32, shown: impl FnOnce() -> String) -> Result<u32, ApiError> {
    seconds.filter(|seconds| *seconds <= max).ok_or_else(|| {
        ApiError::because(
            Code::E0002,
            format!(
                "drain_s: {} is not an integer from 0 to {max}, in seconds.",
                shown()
            ),
        )
    })
}

impl Endpoint {
    /// Takes in what a call that ends it says of its connections: with its end, also that nothing is said; where it had ended
    /// already, only what is said. Answers whether that is new.
    pub fn drain(&mut self, ends: bool, said: Option<u32>) -> bool {
        let drain_s = if ends { said } else { said.or(self.drain_s) };
        std::mem::replace(&mut self.drain_s, drain_s) != drain_s
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_are_whole_and_a_deletion_s_are_small() {
        for (value, expected) in [
            (json!(0), Ok(Some(0))),
            (json!(86_400), Ok(Some(86_400))),
            (
                json!(86_401),
                Err("drain_s: 86401 is not an integer from 0 to 86400, in seconds."),
            ),
            (
                json!(-1),
                Err("drain_s: -1 is not an integer from 0 to 86400, in seconds."),
            ),
            (
                json!(1.5),
                Err("drain_s: 1.5 is not an integer from 0 to 86400, in seconds."),
            ),
        ] {
            let expected = expected.map_err(|detail| ApiError::because(Code::E0002, detail));
            let body = json!({ "drain_s": value });
            assert_eq!(parse_drain_s(body.as_object().unwrap()), expected, "{value}");
        }
        for seconds in [0, 300] {
            let query = Query(vec![("drain_s".to_owned(), seconds.to_string())]);
            assert_eq!(parse_drain_s_query(&query), Ok(Some(seconds)));
        }
        for text in ["301", "-1", "1.5", "+1", " 1", "4294967296", "x"] {
            let query = Query(vec![("drain_s".to_owned(), text.to_owned())]);
            let refused = parse_drain_s_query(&query).unwrap_err();
            assert_eq!(refused.code, Code::E0002, "{text:?}");
        }
        assert_eq!(parse_drain_s(&Body::new()), Ok(None));
        assert_eq!(parse_drain_s_query(&Query(Vec::new())), Ok(None));
    }
}
