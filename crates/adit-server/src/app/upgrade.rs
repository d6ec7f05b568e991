//! Editions of services and endpoints (spec B.11, B.12).

use adit_model::{
    body::Body,
    id::{EndpointId, ServiceId},
    service::{check_private, parse_endpoint_upgrade, parse_service_upgrade},
};
use adit_store::{Key, Txn, keys::encode};

use super::{ATTEMPTS_MAX, App, Scope, endpoint::own_endpoint};
use crate::error::Failure;

impl App {
    /// Lets a service take professional endpoints, or no longer.
    ///
    /// # Errors
    /// By spec B.11.
    pub async fn service_upgrade(&self, scope: &Scope, id: ServiceId, body: &Body) -> Result<(), Failure> {
        let up = parse_service_upgrade(body)?;
        self.barrier().await?;
        for _ in 0..ATTEMPTS_MAX {
            let txn = {
                let old = Self::own_service(&self.cache.read(), scope, id)?;
                check_private(&old, None)?;
                let mut new = (*old.value).clone();
                if !new.upgrade(up, self.now())? {
                    return Ok(());
                }
                Txn::new()
                    .unchanged(Key::Service(id), old.revision)
                    .put(Key::Service(id), encode(&new))
            };
            if self.commit(txn).await? {
                return Ok(());
            }
        }
        Err(Failure::Busy(ATTEMPTS_MAX))
    }

    /// Makes an endpoint a professional one, or a basic one again.
    ///
    /// # Errors
    /// By spec B.12.
    pub async fn endpoint_upgrade(&self, scope: &Scope, id: EndpointId, body: &Body) -> Result<(), Failure> {
        let up = parse_endpoint_upgrade(body)?;
        self.barrier().await?;
        for _ in 0..ATTEMPTS_MAX {
            let txn = {
                let state = self.cache.read();
                let old = own_endpoint(&state, scope, id)?;
                let mut new = (*old.value).clone();
                if !new.upgrade(up, state.is_frozen(&old.domain), self.now())? {
                    return Ok(());
                }
                Txn::new()
                    .unchanged(Key::Endpoint(id), old.revision)
                    .put(Key::Endpoint(id), encode(&new))
            };
            if self.commit(txn).await? {
                return Ok(());
            }
        }
        Err(Failure::Busy(ATTEMPTS_MAX))
    }
}
