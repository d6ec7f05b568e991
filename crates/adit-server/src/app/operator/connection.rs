//! Connections of all services: endpoints as the owners of their services see them.

use std::sync::Arc;

use adit_model::{
    Code,
    endpoint::{Endpoint, EndpointStatus},
    id::{EndpointId, ProjectId, ServiceId},
    listing::{LIMIT_MAX, Listing, Query},
};

use super::Whose;
use crate::{
    app::{App, connection::parse_marker},
    error::Failure,
};

/// A connection with the project of its service.
pub type ConnectionInspected = (Arc<Endpoint>, ProjectId);

impl App {
    /// A page of all connections, and how many there are. Whose they are goes by their service; those whose service is gone
    /// are nobody's.
    ///
    /// # Errors
    /// By the query.
    pub async fn operator_connection_list(
        &self,
        query: &Query,
    ) -> Result<(Vec<ConnectionInspected>, usize), Failure> {
        let whose = Whose::parse(query)?;
        let id = query.id::<EndpointId>("id", Code::E2017)?;
        let service = query.id::<ServiceId>("endpoint_service_id", Code::E3062)?;
        let marker = parse_marker(query)?;
        let status = query.status(EndpointStatus::from_wire)?;
        let listing = Listing::parse(query, LIMIT_MAX, false)?;
        self.barrier().await?;
        let state = self.cache.read();
        let matching: Vec<_> = state
            .endpoints()
            .filter(|e| id.is_none_or(|id| e.id == id))
            .filter(|e| service.is_none_or(|service| e.service == service))
            .filter(|e| marker.is_none_or(|marker| marker == Some(e.marker)))
            .filter(|e| status.is_none_or(|status| e.status() == status))
            .filter_map(|e| {
                let service = state.service(&e.service)?;
                whose
                    .fits(&service.project, &service.domain)
                    .then_some((e, &service.project))
            })
            .collect();
        let total = matching.len();
        let page = listing.page(matching, |(e, _)| (e.created, e.updated_at));
        let seen = page
            .into_iter()
            .map(|(e, project)| (Arc::clone(&e.value), project.clone()));
        Ok((seen.collect(), total))
    }
}
