//! Services of all projects.

use std::sync::Arc;

use adit_model::{
    ApiError, Code,
    body::{self, Body},
    id::{PoolId, ServiceId, VpcId},
    listing::{LIMIT_MAX, Listing, Query},
    name,
    proxy::parse_profile,
    service::ServiceStatus,
};
use adit_store::{Key, Txn, keys::encode};

use super::Whose;
use crate::{
    app::{ATTEMPTS_MAX, App, service::ServiceSeen},
    error::Failure,
};

impl App {
    /// A page of all services, and how many there are.
    ///
    /// # Errors
    /// By the query.
    pub async fn operator_service_list(&self, query: &Query) -> Result<(Vec<ServiceSeen>, usize), Failure> {
        let whose = Whose::parse(query)?;
        let name = query.get("endpoint_service_name");
        name.map_or(Ok(()), name::check_filter)?;
        let id = query.id::<ServiceId>("id", Code::E3062)?;
        let status = query.status(ServiceStatus::from_wire)?;
        let vpc = query.id::<VpcId>("vpc_id", Code::E0020)?;
        let pool = query.id::<PoolId>("pool_id", Code::E0002)?;
        let public = parse_public(query)?;
        let listing = Listing::parse(query, LIMIT_MAX, false)?;
        let name = name.map(str::to_lowercase);
        self.barrier().await?;
        let state = self.cache.read();
        let matching: Vec<_> = state
            .services()
            .filter(|s| whose.fits(&s.project, &s.domain))
            .filter(|s| id.is_none_or(|id| s.id == id))
            .filter(|s| status.is_none_or(|status| s.status() == status))
            .filter(|s| vpc.is_none_or(|vpc| s.vpc == vpc))
            .filter(|s| pool.is_none_or(|pool| s.pool == pool))
            .filter(|s| public.is_none_or(|public| s.public.is_some() == public))
            .filter(|s| {
                name.as_ref()
                    .is_none_or(|name| s.name.to_lowercase().contains(name))
            })
            .collect();
        let total = matching.len();
        let page = listing.page(matching, |s| (s.created, s.updated_at));
        let seen = page
            .into_iter()
            .map(|s| ServiceSeen::of(&state, Arc::clone(&s.value)));
        Ok((seen.collect(), total))
    }

    /// Sets whose parsers a service's PROXY header is for.
    ///
    /// # Errors
    /// 0002 (the word, or one that its mode cannot have); 0005; 3045 in any state but `available`.
    pub async fn operator_service_set(&self, id: ServiceId, body: &Body) -> Result<ServiceSeen, Failure> {
        let profile = parse_profile(body)?;
        self.barrier().await?;
        for _ in 0..ATTEMPTS_MAX {
            let txn = {
                let state = self.cache.read();
                let old = state.service(&id).ok_or_else(|| absent(id))?;
                let mut new = (*old.value).clone();
                let changed = new.set_proxy_profile(profile, self.now())?;
                if !self.config.can_serve(new.tcp_proxy, profile) {
                    return Err(self.config.cannot_serve(new.tcp_proxy, profile).into());
                }
                changed.then(|| {
                    Txn::new()
                        .unchanged(Key::Service(id), old.revision)
                        .put(Key::Service(id), encode(&new))
                })
            };
            let done = match txn {
                None => true,
                Some(txn) => self.commit(txn).await?,
            };
            if done {
                return self.operator_service_show(id).await;
            }
        }
        Err(Failure::Busy(ATTEMPTS_MAX))
    }

    /// Any service.
    ///
    /// # Errors
    /// 0005.
    pub async fn operator_service_show(&self, id: ServiceId) -> Result<ServiceSeen, Failure> {
        self.barrier().await?;
        let state = self.cache.read();
        let service = state.service(&id).ok_or_else(|| absent(id))?;
        Ok(ServiceSeen::of(&state, Arc::clone(&service.value)))
    }
}

/// The `public` filter: whether public services are wanted, or the others.
fn parse_public(query: &Query) -> Result<Option<bool>, ApiError> {
    match query.get("public") {
        None => Ok(None),
        Some("true") => Ok(Some(true)),
        Some("false") => Ok(Some(false)),
        Some(other) => Err(ApiError::because(
            Code::E0002,
            format!("public: {} is neither true nor false.", body::quote(other)),
        )),
    }
}

fn absent(id: ServiceId) -> ApiError {
    ApiError::because(Code::E0005, format!("There is no endpoint service {id}."))
}
