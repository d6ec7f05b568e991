//! Editions: whether a service also takes professional endpoints, and whether an endpoint is one (spec B.11, B.12).
//!
//! Nothing that is served depends on it here: an upgrade is recorded and shown, and done at once.

use serde_json::Value;

use super::{Service, ServiceStatus};
use crate::{
    body::{self, Body},
    catalogue::{ApiError, Code},
    endpoint::Endpoint,
    time::Timestamp,
};

/// The edition that everything has.
const BASIC: &str = "basic";
/// The edition that an upgrade adds.
const PROFESSION: &str = "profession";

/// Whether a service is to take professional endpoints.
///
/// # Errors
/// 0007 for anything but `upgrade` (also where no action is said) and `rollback`; 0002.
pub fn parse_service_upgrade(body: &Body) -> Result<bool, ApiError> {
    let up = match body::get(body, "action") {
        None => true,
        Some(Value::String(word)) if word == "upgrade" => true,
        Some(Value::String(word)) if word == "rollback" => false,
        Some(other) => {
            return Err(ApiError::because(
                Code::E0007,
                format!("action: {} is neither upgrade nor rollback.", body::show(other)),
            ));
        }
    };
    // Several backends can be added to any service: there is nothing to switch on.
    body::boolean(body, "enable_multi_server", Code::E0002)?;
    Ok(up)
}

/// Whether an endpoint is to be a professional one.
///
/// # Errors
/// 0007 for anything but `start` and `rollback`.
pub fn parse_endpoint_upgrade(body: &Body) -> Result<bool, ApiError> {
    match body.get("action") {
        Some(Value::String(word)) if word == "start" => Ok(true),
        Some(Value::String(word)) if word == "rollback" => Ok(false),
        other => {
            let shown = other.map_or_else(|| "nothing".to_owned(), body::show);
            Err(ApiError::because(
                Code::E0007,
                format!("action: {shown} is neither start nor rollback."),
            ))
        }
    }
}

impl Service {
    /// Which editions of endpoints it takes.
    pub fn supported_editions(&self) -> &'static [&'static str] {
        if self.professional {
            &[PROFESSION, BASIC]
        } else {
            &[BASIC]
        }
    }

    /// Lets it take professional endpoints, or no longer. Answers `false` where it is so already.
    ///
    /// # Errors
    /// 3045 in any state but `available`.
    pub fn upgrade(&mut self, up: bool, now: Timestamp) -> Result<bool, ApiError> {
        if self.status() != ServiceStatus::Available {
            return Err(ApiError::because(
                Code::E3045,
                format!("Endpoint service {} is {}.", self.id, self.status()),
            ));
        }
        if self.professional == up {
            return Ok(false);
        }
        self.professional = up;
        self.updated_at = now.at_least(self.updated_at);
        Ok(true)
    }
}

impl Endpoint {
    /// Makes it a professional one, or a basic one again. Answers `false` where it is professional already.
    ///
    /// # Errors
    /// 2019, 2018, 2047 by state; 2015, 2050; 2052 where there is nothing to roll back.
    pub fn upgrade(&mut self, up: bool, frozen: bool, now: Timestamp) -> Result<bool, ApiError> {
        self.check_action()?;
        self.check_usable(frozen)?;
        match (self.professional, up) {
            (true, true) => Ok(false),
            (false, false) => Err(ApiError::because(
                Code::E2052,
                format!("Endpoint {} is a basic one.", self.id),
            )),
            _ => {
                self.professional = up;
                self.updated_at = now.at_least(self.updated_at);
                Ok(true)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_action_is_one_of_two_words() {
        let service = |value: Value| parse_service_upgrade(value.as_object().unwrap()).map_err(|e| e.code);
        assert_eq!(service(json!({})), Ok(true));
        assert_eq!(
            service(json!({"action": null, "enable_multi_server": true})),
            Ok(true)
        );
        assert_eq!(service(json!({"action": "upgrade"})), Ok(true));
        assert_eq!(service(json!({"action": "rollback"})), Ok(false));
        assert_eq!(service(json!({"enable_multi_server": "yes"})), Err(Code::E0002));
        let endpoint = |value: Value| parse_endpoint_upgrade(value.as_object().unwrap()).map_err(|e| e.code);
        assert_eq!(endpoint(json!({"action": "start"})), Ok(true));
        assert_eq!(endpoint(json!({"action": "rollback"})), Ok(false));
        assert_eq!(endpoint(json!({})), Err(Code::E0007));
        for bad in [json!("start"), json!("UPGRADE"), json!(""), json!(1)] {
            assert_eq!(service(json!({"action": bad})), Err(Code::E0007), "{bad}");
        }
        for bad in [json!("upgrade"), json!("finish"), json!(null), json!(1)] {
            assert_eq!(endpoint(json!({"action": bad})), Err(Code::E0007), "{bad}");
        }
    }
}
