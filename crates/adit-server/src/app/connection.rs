//! Operations on connections: endpoints as the owner of their service sees them (spec A.9, A.10).

use std::sync::Arc;

use adit_model::{
    ApiError, Code,
    body::{self, Body},
    endpoint::{ConnectionAction, Decision, Endpoint, EndpointStatus},
    id::{EndpointId, MarkerId, ServiceId},
    listing::{LIMIT_MAX, Listing, Query},
};
use adit_store::{Key, Txn, keys::encode};
use tokio::time::Instant;

use super::{ATTEMPTS_MAX, App, EFFECT_TIMEOUT, Scope, put_guard};
use crate::{error::Failure, replica::Effect};

impl App {
    /// A page of a service's connections, and how many there are.
    ///
    /// # Errors
    /// By spec A.9.
    pub async fn connection_list(
        &self,
        scope: &Scope,
        service: ServiceId,
        query: &Query,
    ) -> Result<(Vec<Arc<Endpoint>>, usize), Failure> {
        let id = query.id::<EndpointId>("id", Code::E2017)?;
        let marker = parse_marker(query)?;
        let status = query.status(EndpointStatus::from_wire)?;
        let listing = Listing::parse(query, LIMIT_MAX, false)?;
        self.barrier().await?;
        let state = self.cache.read();
        Self::own_service(&state, scope, service)?;
        // A packet id names one endpoint, as its id does.
        let id = match marker {
            None => id,
            Some(marker) => {
                let named = marker.and_then(|marker| state.marker(marker));
                let Some(named) = named.filter(|named| id.is_none_or(|id| id == *named)) else {
                    return Ok((Vec::new(), 0));
                };
                Some(named)
            }
        };
        let keep = status.map(|status| move |e: &Endpoint| e.status() == status);
        let (page, total) = state.endpoints_of_service(service).select(&listing, id, keep);
        Ok((page.into_iter().map(|e| Arc::clone(&e.value)).collect(), total))
    }

    /// Accepts or rejects one endpoint, and waits a bounded moment for the effect. What is open through one that is rejected may
    /// go on for as long as the call says.
    ///
    /// # Errors
    /// By spec A.10.
    pub async fn connection_action(
        &self,
        scope: &Scope,
        service: ServiceId,
        body: &Body,
    ) -> Result<Arc<Endpoint>, Failure> {
        let ConnectionAction {
            decision,
            endpoint: id,
            drain_s,
        } = ConnectionAction::parse(body, self.config.superset)?;
        self.barrier().await?;
        let deadline = Instant::now() + EFFECT_TIMEOUT;
        for _ in 0..ATTEMPTS_MAX {
            // A `receive` passes through `creating`: who comes just then waits for its end like its own caller.
            let _ = tokio::time::timeout_at(deadline, self.settled(id)).await;
            let txn = {
                let state = self.cache.read();
                let seen = Self::own_service(&state, scope, service)?;
                seen.check_parts_writable()?;
                let old = state
                    .endpoint(&id)
                    .ok_or_else(|| ApiError::because(Code::E2006, format!("There is no endpoint {id}.")))?;
                if old.service != service {
                    return Err(ApiError::because(
                        Code::E2013,
                        format!("Endpoint {id} is not attached to endpoint service {service}."),
                    )
                    .into());
                }
                let mut new = (*old.value).clone();
                let changed = match decision {
                    Decision::Receive => new.receive(self.now())?,
                    Decision::Reject => new.reject(self.now())?,
                };
                let drains = new.drain(changed, drain_s);
                old.check_usable(state.is_frozen(&old.domain))?;
                if !changed && !drains {
                    return Ok(Arc::clone(&old.value));
                }
                let txn = Txn::new()
                    .unchanged(Key::Endpoint(id), old.revision)
                    .unchanged(Key::Service(service), seen.revision)
                    .put(Key::Endpoint(id), encode(&new));
                put_guard(txn, Key::Service(service))
            };
            if self.commit(txn).await? {
                return self.connection_effect(id, decision).await;
            }
        }
        Err(Failure::Busy(ATTEMPTS_MAX))
    }

    /// Waits until an accepted endpoint listens, or a rejected one no longer does, and answers the endpoint as it is then.
    async fn connection_effect(&self, id: EndpointId, decision: Decision) -> Result<Arc<Endpoint>, Failure> {
        // Late is not wrong: what cannot be shown yet shows as `creating`.
        match decision {
            Decision::Receive => {
                let _ = tokio::time::timeout(EFFECT_TIMEOUT, self.settled(id)).await;
            }
            Decision::Reject => {
                self.effect(Effect::Silent, vec![id]).await;
            }
        }
        let state = self.cache.read();
        let endpoint = state.endpoint(&id).map(|e| Arc::clone(&e.value));
        endpoint.ok_or_else(|| ApiError::because(Code::E2006, format!("Endpoint {id} was deleted.")).into())
    }

    /// Waits until an endpoint is not `creating` any more.
    async fn settled(&self, id: EndpointId) {
        let mut notices = self.cache.subscribe();
        let creating = || {
            let state = self.cache.read();
            let endpoint = state.endpoint(&id);
            endpoint.is_some_and(|e| e.status() == EndpointStatus::Creating)
        };
        while creating() && notices.next().await.is_some() {}
    }
}

/// The `marker_id` filter: digits. A number that no endpoint can have matches none.
pub(super) fn parse_marker(query: &Query) -> Result<Option<Option<MarkerId>>, ApiError> {
    let Some(text) = query.get("marker_id") else {
        return Ok(None);
    };
    if !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(ApiError::because(
            Code::E0021,
            format!("marker_id: {} is not a number.", body::quote(text)),
        ));
    }
    Ok(Some(text.parse().ok().and_then(MarkerId::new)))
}
