//! Quotas: how many services and endpoints a project may have (spec A.17).
//!
//! A quota in use is a set of numbered slots; each resource holds one, as a key in the store, so that unrelated creates
//! never touch one document.

use serde::{Deserialize, Serialize};

use crate::{
    catalogue::{ApiError, Code},
    service::words,
};

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
                format!("\"{word:.80}\" is neither endpoint_service nor endpoint."),
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
    fn only_two_kinds_have_quotas() {
        assert_eq!(QuotaType::parse("endpoint"), Ok(QuotaType::Endpoint));
        assert_eq!(QuotaType::parse("vpc").unwrap_err().code, Code::E3070);
    }
}
