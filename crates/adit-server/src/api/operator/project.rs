//! Projects, as the operator sees them.

use std::sync::Arc;

use adit_model::{
    id::{DomainId, ProjectId},
    quota::Usage,
};
use axum::{Json, extract::State};
use serde::Serialize;
use utoipa::ToSchema;

use super::Whose;
use crate::{
    api::{
        schema::Cut,
        shape::{Failures, QueryString},
    },
    app::App,
    error::Failure,
};

/// How much of one kind there is and may be.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Used {
    used: u32,
    quota: u32,
}

impl From<Usage> for Used {
    fn from(Usage { used, quota }: Usage) -> Self {
        Self { used, quota }
    }
}

/// A project, and how much of its quotas it uses.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Project {
    #[schema(value_type = String)]
    project_id: ProjectId,
    /// Its account, where it has something.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    domain_id: Option<DomainId>,
    endpoint: Used,
    endpoint_service: Used,
}

/// A page of projects.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Projects {
    projects: Vec<Project>,
    /// How many match, on all pages.
    total_count: usize,
}

/// List the projects that have something or whose quotas were set
#[utoipa::path(get, path = "/admin/v1/projects", operation_id = "operator_project_list", tag = "Operator",
    params(Whose, Cut),
    responses((status = 200, description = "Done; the body says what is.", body = Projects), Failures))]
pub(crate) async fn project_list(
    State(app): State<Arc<App>>,
    QueryString(query): QueryString,
) -> Result<Json<Projects>, Failure> {
    let (page, total_count) = app.operator_project_list(&query).await?;
    let projects = page.into_iter().map(|p| Project {
        project_id: p.id,
        domain_id: p.domain,
        endpoint: p.endpoints.into(),
        endpoint_service: p.services.into(),
    });
    Ok(Json(Projects {
        projects: projects.collect(),
        total_count,
    }))
}
