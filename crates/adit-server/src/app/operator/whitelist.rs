//! Whitelist records of all services.

use adit_model::{
    Code,
    id::{ProjectId, ServiceId},
    listing::{LIMIT_MAX, Listing, Query},
    whitelist::WhitelistRecord,
};

use super::Whose;
use crate::{app::App, error::Failure};

/// A record with its service and that one's project.
pub type RecordInspected = (WhitelistRecord, ServiceId, ProjectId);

impl App {
    /// A page of all records, and how many there are.
    ///
    /// # Errors
    /// By the query.
    pub async fn operator_whitelist_list(
        &self,
        query: &Query,
    ) -> Result<(Vec<RecordInspected>, usize), Failure> {
        let whose = Whose::parse(query)?;
        let service = query.id::<ServiceId>("endpoint_service_id", Code::E3062)?;
        let wanted = query.get("permission");
        let listing = Listing::parse(query, LIMIT_MAX, true)?;
        self.barrier().await?;
        let state = self.cache.read();
        let services = state
            .services()
            .filter(|s| service.is_none_or(|service| s.id == service))
            .filter(|s| whose.fits(&s.project, &s.domain));
        let mut matching = Vec::new();
        for service in services {
            let records = state.whitelist(&service.id).map_or(&[][..], |w| &w.records);
            let fitting = records
                .iter()
                .filter(|r| wanted.is_none_or(|wanted| r.permission.contains(wanted)));
            matching.extend(fitting.map(|r| (r, service.id, &service.project)));
        }
        let total = matching.len();
        let page = listing.page(matching, |(r, ..)| (r.created, r.created.at));
        let seen = page
            .into_iter()
            .map(|(record, service, project)| (record.clone(), service, project.clone()));
        Ok((seen.collect(), total))
    }
}
