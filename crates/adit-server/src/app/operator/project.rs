//! Projects: which have something, and how much of their quotas they use.

use std::collections::BTreeMap;

use adit_model::{
    id::{DomainId, ProjectId},
    listing::{LIMIT_MAX, Listing, Query},
    quota::{QuotaType, Usage},
};

use super::{Whose, cut};
use crate::{app::App, error::Failure};

/// A project, as the operator sees it.
#[derive(Clone, Debug)]
pub struct ProjectSeen {
    /// Its id.
    pub id: ProjectId,
    /// Its account, where it has something.
    pub domain: Option<DomainId>,
    /// How many services it has and may have.
    pub services: Usage,
    /// How many endpoints it has and may have.
    pub endpoints: Usage,
}

impl App {
    /// A page of the projects that have something or whose quotas were set, by their ids.
    ///
    /// # Errors
    /// By the query.
    pub async fn operator_project_list(&self, query: &Query) -> Result<(Vec<ProjectSeen>, usize), Failure> {
        let whose = Whose::parse(query)?;
        let listing = Listing::parse(query, LIMIT_MAX, false)?;
        self.barrier().await?;
        let state = self.cache.read();
        let mut found: BTreeMap<ProjectId, Option<DomainId>> = BTreeMap::new();
        let limited = state.limits_ids().map(|id| (id.clone(), None));
        found.extend(limited);
        let services = state.services().map(|s| (&s.project, &s.domain));
        let endpoints = state.endpoints().map(|e| (&e.project, &e.domain));
        for (project, domain) in services.chain(endpoints) {
            found.insert(project.clone(), Some(domain.clone()));
        }
        found.retain(|project, domain| match domain {
            Some(domain) => whose.fits(project, domain),
            None => whose.domain.is_none() && whose.project.as_ref().is_none_or(|wanted| wanted == project),
        });
        let total = found.len();
        let page = cut(found.into_iter().collect(), &listing);
        let seen = page.into_iter().map(|(id, domain)| ProjectSeen {
            services: state.usage(&id, QuotaType::EndpointService),
            endpoints: state.usage(&id, QuotaType::Endpoint),
            id,
            domain,
        });
        Ok((seen.collect(), total))
    }
}
