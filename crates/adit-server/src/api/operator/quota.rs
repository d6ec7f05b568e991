//! A project's quotas, as the operator sets them.

use std::sync::Arc;

use adit_model::{body, listing::Query};
use axum::{Json, body::Bytes, extract::State};
use utoipa::ToSchema;

use crate::{
    api::{
        quota::Quotas,
        schema::OfAnyProject,
        shape::{Failures, ProjectPath},
    },
    app::App,
    error::Failure,
};

/// A project's new quotas; one that is left out stays as it is.
#[derive(ToSchema)]
#[expect(
    dead_code,
    reason = "the shape of the body, for the OpenAPI document; the rules are model's"
)]
pub(crate) struct SetQuotas {
    /// How many endpoint services; fewer than there are only stops new ones.
    #[schema(nullable, minimum = 0, maximum = 1000000)]
    endpoint_service: Option<i32>,
    /// How many endpoints.
    #[schema(nullable, minimum = 0, maximum = 1000000)]
    endpoint: Option<i32>,
}

/// Show a project's quotas
#[utoipa::path(get, path = "/admin/v1/projects/{project_id}/quotas", operation_id = "operator_quota_show", tag = "Operator",
    params(OfAnyProject),
    responses((status = 200, description = "Done; the body says what is.", body = Quotas), Failures))]
pub(crate) async fn quota_show(
    State(app): State<Arc<App>>,
    ProjectPath(project): ProjectPath,
) -> Result<Json<Quotas>, Failure> {
    let quotas = app.quota_show(&project, &Query::default()).await?;
    Ok(Json(Quotas::of(quotas)))
}

/// Set a project's quotas
///
/// Answers them as they are then. The control plane does not know which projects there are: any id is taken.
#[utoipa::path(put, path = "/admin/v1/projects/{project_id}/quotas", operation_id = "operator_quota_set", tag = "Operator",
    params(OfAnyProject),
    request_body = SetQuotas, responses((status = 200, description = "Done; the body says what is.", body = Quotas), Failures))]
pub(crate) async fn quota_set(
    State(app): State<Arc<App>>,
    ProjectPath(project): ProjectPath,
    bytes: Bytes,
) -> Result<Json<Quotas>, Failure> {
    app.quota_set(&project, &body::parse(&bytes)?).await?;
    let quotas = app.quota_show(&project, &Query::default()).await?;
    Ok(Json(Quotas::of(quotas)))
}
