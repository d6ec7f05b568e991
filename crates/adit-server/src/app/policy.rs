//! The policy of a gateway endpoint (spec B.3, B.4).

use std::sync::Arc;

use adit_model::{
    ApiError,
    body::Body,
    endpoint::{Endpoint, parse_policy_update},
    id::EndpointId,
};
use adit_store::{Key, Txn, keys::encode};

use super::{
    ATTEMPTS_MAX, App, Scope,
    endpoint::{EndpointSeen, own_endpoint},
};
use crate::error::Failure;

impl App {
    /// Replaces an endpoint's policy; an empty one allows everything again.
    ///
    /// # Errors
    /// By spec B.3.
    pub async fn policy_update(
        &self,
        scope: &Scope,
        id: EndpointId,
        body: &Body,
    ) -> Result<EndpointSeen, Failure> {
        let policy = parse_policy_update(body)?;
        self.change_policy(scope, id, |endpoint| {
            endpoint.set_policy(policy.clone(), self.now())
        })
        .await
    }

    /// Takes an endpoint's policy away: everything is allowed again.
    ///
    /// # Errors
    /// By spec B.4.
    pub async fn policy_delete(&self, scope: &Scope, id: EndpointId) -> Result<EndpointSeen, Failure> {
        self.change_policy(scope, id, |endpoint| endpoint.clear_policy(self.now()))
            .await
    }

    async fn change_policy(
        &self,
        scope: &Scope,
        id: EndpointId,
        change: impl Fn(&mut Endpoint) -> Result<(), ApiError>,
    ) -> Result<EndpointSeen, Failure> {
        self.barrier().await?;
        for _ in 0..ATTEMPTS_MAX {
            let old = own_endpoint(&self.cache.read(), scope, id)?;
            let mut new = (*old.value).clone();
            change(&mut new)?;
            let key = Key::Endpoint(id);
            let txn = Txn::new()
                .unchanged(key.clone(), old.revision)
                .put(key, encode(&new));
            if self.commit(txn).await? {
                return Ok(EndpointSeen::of(&self.cache.read(), Arc::new(new)));
            }
        }
        Err(Failure::Busy(ATTEMPTS_MAX))
    }
}
