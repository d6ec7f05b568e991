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
