//! Who is who: the region file's accounts, tokens that prove them, and Keystone's API for both.
//!
//! Tokens are self-contained and signed, so that they outlive a restart without a write per login; what a user may do is
//! looked up in the region file each time. Secrets and tokens are compared in constant time and never shown.
//!
//! Read next: [`accounts`], `token`, [`signature`] (signed requests), then [`keystone`] (the HTTP API).

pub mod accounts;
pub mod catalog;
pub mod keystone;
pub mod signature;
mod token;

use adit_server::{Caller, Evidence, Identity, Rejection};
use async_trait::async_trait;

pub(crate) use token::{Claims, Scope, TokenKey};

use crate::cloud::Cloud;

/// The header that carries the caller's token.
pub(crate) const AUTH_TOKEN: &str = "x-auth-token";

#[async_trait]
impl Identity for Cloud {
    async fn authenticate(&self, evidence: Evidence<'_>) -> Result<Caller, Rejection> {
        if signature::is_signed(&evidence) {
            return signature::verify(&self.region, &evidence, self.now());
        }
        let claims = match evidence.headers.get(AUTH_TOKEN) {
            Some(token) => self.claims_of(token.as_bytes())?,
            None => {
                return Err(Rejection::Invalid("The request has no X-Auth-Token.".to_owned()));
            }
        };
        self.region.caller(&claims).ok_or_else(|| {
            Rejection::Invalid("The token's user or scope is no longer part of the region.".to_owned())
        })
    }
}

impl Cloud {
    /// What a token says, if it is ours and has not lapsed.
    pub(crate) fn claims_of(&self, token: &[u8]) -> Result<Claims, Rejection> {
        let claims = self
            .token_key
            .verify(token)
            .ok_or_else(|| Rejection::Invalid("The token is not one of this region's.".to_owned()))?;
        if claims.expires <= self.now() {
            return Err(Rejection::Invalid(format!(
                "The token expired at {}.",
                claims.expires
            )));
        }
        Ok(claims)
    }
}
