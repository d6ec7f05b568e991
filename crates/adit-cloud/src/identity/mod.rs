//! Who is who: the region file's accounts, tokens that prove them, and Keystone's API for both.
//!
//! Tokens are self-contained and signed, so that they outlive a restart without a write per login; what a user may do is
//! looked up in the region file. Secrets and tokens are compared in constant time and never shown.
//!
//! Read next: [`accounts`], `token`, `verified` (which tokens are good), [`signature`] (signed requests), then [`keystone`] (the HTTP API).

pub mod accounts;
pub mod catalog;
pub mod keystone;
pub mod signature;
mod token;
mod verified;

use std::sync::Arc;

use adit_server::{Caller, Evidence, Identity, Rejection};
use async_trait::async_trait;

pub(crate) use token::{Claims, Scope, TokenKey};
pub(crate) use verified::Memory;

use crate::cloud::Cloud;

/// The header that carries the caller's token.
pub(crate) const AUTH_TOKEN: &str = "x-auth-token";

#[async_trait]
impl Identity for Cloud {
    async fn authenticate(&self, evidence: Evidence<'_>) -> Result<Arc<Caller>, Rejection> {
        if signature::is_signed(&evidence) {
            return signature::verify(&self.region, &evidence, self.now()).map(Arc::new);
        }
        match evidence.headers.get(AUTH_TOKEN) {
            Some(token) => Ok(Arc::clone(&self.verify(token.as_bytes())?.caller)),
            None => Err(Rejection::Invalid("The request has no X-Auth-Token.".to_owned())),
        }
    }
}
