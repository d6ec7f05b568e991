//! Quotas: how many services and endpoints a project may have (spec A.17).
//!
//! A quota in use is a set of numbered slots; each resource holds one, as a key in the store, so that unrelated creates
//! never touch one document.

use serde::{Deserialize, Serialize};

use serde_json::Value;

use crate::{
    body::{self, Body},
    catalogue::{ApiError, Code},
    service::words,
};

/// The largest quota that can be set: ten times what one region is built for.
pub const QUOTA_MAX: u32 = 1_000_000;

/// What a quota counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QuotaType {
    /// Endpoints.
    Endpoint,
    /// Endpoint services.
    EndpointService,
}

words!(QuotaType: Endpoint = "endpoint", EndpointService = "endpoint_service");

impl QuotaType {
    /// Reads the `type` of a query.
    ///
    /// # Errors
    /// 3070.
    pub fn parse(word: &str) -> Result<Self, ApiError> {
        Self::from_wire(word).ok_or_else(|| {
            ApiError::because(
                Code::E3070,
                format!("{} is neither endpoint_service nor endpoint.", body::quote(word)),
            )
        })
    }
}

/// How much a project may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Endpoint services.
    pub endpoint_service: u32,
    /// Endpoints.
    pub endpoint: u32,
}

impl Default for Limits {
    /// The documented figures: 20 services and 50 endpoints.
    fn default() -> Self {
        Self {
            endpoint_service: 20,
            endpoint: 50,
        }
    }
}

impl Limits {
    /// The figure for one kind.
    pub fn of(self, kind: QuotaType) -> u32 {
        match kind {
            QuotaType::Endpoint => self.endpoint,
            QuotaType::EndpointService => self.endpoint_service,
        }
    }
}

/// A well-formed order of the operator to change a project's quotas; a figure left out stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LimitsUpdate {
    /// Endpoint services.
    pub endpoint_service: Option<u32>,
    /// Endpoints.
    pub endpoint: Option<u32>,
}

impl LimitsUpdate {
    /// Reads the order.
    ///
    /// # Errors
    /// 0002 for what is not a number of the range, 2002 where neither figure is there.
    pub fn parse(body: &Body) -> Result<Self, ApiError> {
        let update = Self {
            endpoint_service: parse_figure(body, "endpoint_service")?,
            endpoint: parse_figure(body, "endpoint")?,
        };
        if update == Self::default() {
            return Err(ApiError::because(
                Code::E2002,
                "Name at least one of endpoint_service, endpoint.",
            ));
        }
        Ok(update)
    }

    /// The quotas after the change. They may be less than what is in use: that stays, and nothing new is made.
    #[must_use]
    pub fn apply(self, limits: Limits) -> Limits {
        Limits {
            endpoint_service: self.endpoint_service.unwrap_or(limits.endpoint_service),
            endpoint: self.endpoint.unwrap_or(limits.endpoint),
        }
    }
}

fn parse_figure(body: &Body, name: &str) -> Result<Option<u32>, ApiError> {
    let Some(value) = body::get(body, name) else {
        return Ok(None);
    };
    let figure = Value::as_u64(value).and_then(|n| u32::try_from(n).ok());
    figure.filter(|n| *n <= QUOTA_MAX).map(Some).ok_or_else(|| {
        ApiError::because(
            Code::E0002,
            format!(
                "{name}: {} is not an integer in 0..={QUOTA_MAX}.",
                body::show(value)
            ),
        )
    })
}

/// How much of a quota is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Everything not yet gone, whatever its state.
    pub used: u32,
    /// The limit.
    pub quota: u32,
}

impl Usage {
    /// Whether one more fits.
    ///
    /// # Errors
    /// `Endpoint.1018`.
    pub fn check(self, what: &str) -> Result<(), ApiError> {
        if self.used < self.quota {
            return Ok(());
        }
        Err(ApiError::because(
            Code::E1018,
            format!("The project has {} of at most {} {what}.", self.used, self.quota),
        ))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_last_slot_can_be_used_and_no_more() {
        assert_eq!(Usage { used: 19, quota: 20 }.check("x"), Ok(()));
        assert_eq!(
            Usage { used: 20, quota: 20 }.check("x").unwrap_err().code,
            Code::E1018
        );
        assert_eq!(
            Usage { used: 0, quota: 0 }.check("x").unwrap_err().code,
            Code::E1018
        );
    }

    #[test]
    fn a_figure_left_out_stays() {
        let parse = |value: Value| LimitsUpdate::parse(value.as_object().unwrap());
        let update = parse(json!({"endpoint": 0, "endpoint_service": null})).unwrap();
        let after = update.apply(Limits::default());
        assert_eq!((after.endpoint, after.endpoint_service), (0, 20));
        assert!(parse(json!({"endpoint_service": QUOTA_MAX})).is_ok());
        assert_eq!(parse(json!({"quota": 1})).unwrap_err().code, Code::E2002);
        for bad in [
            json!(-1),
            json!(1.5),
            json!("1"),
            json!(true),
            json!(QUOTA_MAX + 1),
            json!([]),
        ] {
            let error = parse(json!({"endpoint": bad, "endpoint_service": 1})).unwrap_err();
            assert_eq!(error.code, Code::E0002, "{bad}");
        }
    }

    #[test]
    fn only_two_kinds_have_quotas() {
        assert_eq!(QuotaType::parse("endpoint"), Ok(QuotaType::Endpoint));
        assert_eq!(QuotaType::parse("vpc").unwrap_err().code, Code::E3070);
    }
}
