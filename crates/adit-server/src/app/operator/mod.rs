//! The operator's look at everything, whosever it is, and the operator's word on accounts, endpoints and pools.
//!
//! These lists go through all that there is: they are one person's, now and then. Nothing that a tenant asks comes here.
//! Quotas are in [`super::quota`], beside the project's own look at them.

pub mod account;
pub mod connection;
pub mod diagnosis;
pub mod endpoint;
pub mod gateway;
pub mod pool;
pub mod project;
pub mod service;
pub mod vpc;
pub mod whitelist;

use adit_model::{
    ApiError, Code,
    id::{DomainId, ProjectId},
    listing::{Listing, Query},
};

/// Whose things a list is to have.
#[derive(Clone, Debug)]
struct Whose {
    project: Option<ProjectId>,
    domain: Option<DomainId>,
}

impl Whose {
    /// Reads `project_id` and `domain_id`.
    fn parse(query: &Query) -> Result<Self, ApiError> {
        Ok(Self {
            project: query.id("project_id", Code::E0014)?,
            domain: query.id("domain_id", Code::E0002)?,
        })
    }

    /// Whether something of this project and account is among them.
    fn fits(&self, project: &ProjectId, domain: &DomainId) -> bool {
        self.project.as_ref().is_none_or(|wanted| wanted == project)
            && self.domain.as_ref().is_none_or(|wanted| wanted == domain)
    }
}

/// The page of a list that has an order of its own.
fn cut<T>(items: Vec<T>, listing: &Listing) -> Vec<T> {
    items
        .into_iter()
        .skip(listing.offset)
        .take(listing.limit)
        .collect()
}
