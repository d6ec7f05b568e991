//! Switching an endpoint off and on (`enable_status`): the operator's alone, and independent of its state.

use serde_json::Value;

use super::{Endpoint, EndpointStatus};
use crate::{
    body::{self, Body},
    catalogue::{ApiError, Code},
    time::Timestamp,
};

/// Reads the operator's word: whether the endpoint is to be on.
///
/// # Errors
/// 2002 where it is missing, 0002 for anything but `enable` and `disable`.
pub fn parse_enable_status(body: &Body) -> Result<bool, ApiError> {
    match body::get(body, "enable_status") {
        None => Err(ApiError::because(Code::E2002, "enable_status is missing.")),
        Some(Value::String(word)) if word == "enable" => Ok(true),
        Some(Value::String(word)) if word == "disable" => Ok(false),
        Some(other) => Err(ApiError::because(
            Code::E0002,
            format!(
                "enable_status: {} is neither enable nor disable.",
                body::show(other)
            ),
        )),
    }
}

/// The longest time that a call can let connections go on, in seconds: a day.
const DRAIN_S_MAX: u64 = 86_400;

/// Reads how many seconds the connections of an endpoint that is switched off may go on; absent, they are cut.
///
/// # Errors
/// 0002 for anything but a whole number from 0 to 86,400.
pub fn parse_drain_s(body: &Body) -> Result<Option<u32>, ApiError> {
    let Some(value) = body::get(body, "drain_s") else {
        return Ok(None);
    };
    let seconds = value.as_u64().filter(|seconds| *seconds <= DRAIN_S_MAX);
    let seconds = seconds.and_then(|seconds| u32::try_from(seconds).ok());
    seconds.map(Some).ok_or_else(|| {
        ApiError::because(
            Code::E0002,
            format!(
                "drain_s: {} is not a whole number of seconds from 0 to {DRAIN_S_MAX}.",
                body::show(value)
            ),
        )
    })
}

impl Endpoint {
    /// Whether it has been switched off: it passes no traffic then, whatever its state.
    pub fn is_disabled(&self) -> bool {
        self.disabled
    }

    /// Its `enable_status`.
    pub fn enable_status(&self) -> &'static str {
        if self.disabled { "disable" } else { "enable" }
    }

    /// Switches it on or off. Answers `false` where it is so already.
    ///
    /// # Errors
    /// 2018 in `deleting`.
    pub fn switch(&mut self, on: bool, now: Timestamp) -> Result<bool, ApiError> {
        if self.status() == EndpointStatus::Deleting {
            return Err(ApiError::because(
                Code::E2018,
                format!("Endpoint {} is deleting.", self.id),
            ));
        }
        if self.disabled != on {
            return Ok(false);
        }
        self.disabled = !on;
        self.updated_at = now.at_least(self.updated_at);
        Ok(true)
    }

    /// Whether anything may be done with it: its account is not frozen, and it has not been switched off.
    ///
    /// # Errors
    /// 2015, 2050.
    pub fn check_usable(&self, frozen: bool) -> Result<(), ApiError> {
        if frozen {
            return Err(ApiError::because(
                Code::E2015,
                format!("The account of endpoint {} is frozen.", self.id),
            ));
        }
        if self.disabled {
            return Err(ApiError::because(
                Code::E2050,
                format!("Endpoint {} has been switched off by the operator.", self.id),
            ));
        }
        Ok(())
    }
}
