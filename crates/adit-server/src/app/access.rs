//! Changing an endpoint's access control (spec B.1).

use adit_model::{body::Body, endpoint::AccessUpdate, id::EndpointId};
use adit_store::{Key, Txn, keys::encode};

use super::{
    ATTEMPTS_MAX, App, Scope,
    endpoint::{EndpointSeen, own_endpoint},
};
use crate::error::Failure;

impl App {
    /// Changes who may use an endpoint, and waits a bounded moment until gateways know. Connections that are open stay.
    ///
    /// # Errors
    /// By spec B.1.
    pub async fn access_update(
        &self,
        scope: &Scope,
        id: EndpointId,
        body: &Body,
    ) -> Result<EndpointSeen, Failure> {
        let update = AccessUpdate::parse(body)?;
        self.barrier().await?;
        for _ in 0..ATTEMPTS_MAX {
            let txn = {
                let state = self.cache.read();
                let old = own_endpoint(&state, scope, id)?;
                let mut new = (*old.value).clone();
                let changed = new.set_access(&update, state.is_frozen(&old.domain), self.now())?;
                changed.then(|| {
                    Txn::new()
                        .unchanged(Key::Endpoint(id), old.revision)
                        .put(Key::Endpoint(id), encode(&new))
                })
            };
            let done = match txn {
                None => true,
                Some(txn) => self.commit(txn).await?,
            };
            if done {
                self.on_the_wire(vec![id]).await;
                let state = self.cache.read();
                return Ok(EndpointSeen::of(&state, own_endpoint(&state, scope, id)?.value));
            }
        }
        Err(Failure::Busy(ATTEMPTS_MAX))
    }
}
