//! Services of all projects.

use std::sync::Arc;

use adit_model::{
    ApiError, Code,
    id::{PoolId, ServiceId, VpcId},
    listing::{LIMIT_MAX, Listing, Query},
    name,
    service::ServiceStatus,
};

use super::Whose;
use crate::{
    app::{App, service::ServiceSeen},
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

    /// Any service.
    ///
    /// # Errors
    /// 0005.
    pub async fn operator_service_show(&self, id: ServiceId) -> Result<ServiceSeen, Failure> {
        self.barrier().await?;
        let state = self.cache.read();
        let service = state
            .service(&id)
            .ok_or_else(|| ApiError::because(Code::E0005, format!("There is no endpoint service {id}.")))?;
        Ok(ServiceSeen::of(&state, Arc::clone(&service.value)))
    }
}
