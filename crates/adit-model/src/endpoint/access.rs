//! Changing an endpoint's access control (spec B.1).

use super::{Endpoint, Leg, parse_whitelist};
use crate::{
    body::{self, Body},
    catalogue::{ApiError, Code},
    time::Timestamp,
};

/// A well-formed request; what is left out keeps its value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccessUpdate {
    /// The whole new list.
    pub whitelist: Option<Vec<String>>,
    /// Whether it is enforced.
    pub enable_whitelist: Option<bool>,
}

impl AccessUpdate {
    /// The field rules of spec B.1.
    ///
    /// # Errors
    /// 2044, 2045 (list), 0002 (switch).
    pub fn parse(body: &Body) -> Result<Self, ApiError> {
        Ok(Self {
            whitelist: match body::get(body, "whitelist") {
                None => None,
                list => Some(parse_whitelist(list)?),
            },
            enable_whitelist: body::boolean(body, "enable_whitelist", Code::E0002)?,
        })
    }
}

impl Endpoint {
    /// Changes who may use it. Answers `false` where nothing changes.
    ///
    /// # Errors
    /// 2044 for an endpoint of a gateway service, which has no access control; 2019, 2018, 2047 by state; 2015, 2050.
    pub fn set_access(
        &mut self,
        update: &AccessUpdate,
        frozen: bool,
        now: Timestamp,
    ) -> Result<bool, ApiError> {
        if self.interface().is_none() {
            return Err(ApiError::because(
                Code::E2044,
                format!(
                    "Endpoint {} is of type gateway and has no access control.",
                    self.id
                ),
            ));
        }
        self.check_action()?;
        self.check_usable(frozen)?;
        let Leg::Interface(leg) = &mut self.leg else {
            return Ok(false);
        };
        let before = (leg.whitelist.clone(), leg.enable_whitelist);
        if let Some(whitelist) = &update.whitelist {
            leg.whitelist.clone_from(whitelist);
        }
        leg.enable_whitelist = update.enable_whitelist.unwrap_or(leg.enable_whitelist);
        let changed = before != (leg.whitelist.clone(), leg.enable_whitelist);
        if changed {
            self.touch(now);
        }
        Ok(changed)
    }
}
