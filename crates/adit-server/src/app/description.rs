//! What the owner of a service writes beside its connections (spec B.8).

use std::sync::Arc;

use adit_model::{
    ApiError, Code,
    body::Body,
    endpoint::{Endpoint, parse_descriptions},
    id::ServiceId,
};
use adit_store::{Key, Txn, keys::encode};

use super::{ATTEMPTS_MAX, App, Scope};
use crate::error::Failure;

impl App {
    /// Describes connections, all or none; answers them.
    ///
    /// # Errors
    /// By spec B.8.
    pub async fn connection_describe(
        &self,
        scope: &Scope,
        service: ServiceId,
        body: &Body,
    ) -> Result<Vec<Arc<Endpoint>>, Failure> {
        let wanted = parse_descriptions(body)?;
        self.barrier().await?;
        for _ in 0..ATTEMPTS_MAX {
            let (txn, described) = {
                let state = self.cache.read();
                let seen = Self::own_service(&state, scope, service)?;
                seen.check_parts_writable()?;
                let mut txn = Txn::new().unchanged(Key::Service(service), seen.revision);
                let mut described = Vec::new();
                for (id, text) in &wanted {
                    let old = state.endpoint(id).ok_or_else(|| {
                        ApiError::because(Code::E2006, format!("There is no endpoint {id}."))
                    })?;
                    if old.service != service {
                        return Err(ApiError::because(
                            Code::E2013,
                            format!("Endpoint {id} is not attached to endpoint service {service}."),
                        )
                        .into());
                    }
                    let mut new = (*old.value).clone();
                    if new.describe_connection(text, self.now())? {
                        txn = txn
                            .unchanged(Key::Endpoint(*id), old.revision)
                            .put(Key::Endpoint(*id), encode(&new));
                    }
                    described.push(Arc::new(new));
                }
                (txn, described)
            };
            if txn.writes().is_empty() || self.commit(txn).await? {
                return Ok(described);
            }
        }
        Err(Failure::Busy(ATTEMPTS_MAX))
    }
}
