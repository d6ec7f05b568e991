//! Quotas over HTTP (spec A.17).

use std::sync::Arc;

use adit_model::quota::{QuotaType, Usage};
use axum::{Extension, Json, extract::State};
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};

use super::schema::{OfProject, ResourceTypeSchema};
use super::shape::{Failures, QueryString};
use crate::{
    app::{App, Scope},
    error::Failure,
};

/// The project's quotas.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Quotas {
    quotas: QuotaList,
}

impl Quotas {
    /// The quotas of a project, in the order of `quotas`.
    pub(super) fn of(quotas: Vec<(QuotaType, Usage)>) -> Self {
        let resource = |(kind, Usage { used, quota })| Quota { kind, used, quota };
        let resources = quotas.into_iter().map(resource).collect();
        Self {
            quotas: QuotaList { resources },
        }
    }
}

/// One entry for each kind.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct QuotaList {
    resources: Vec<Quota>,
}

/// How much of one kind the project has and may have.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Quota {
    #[serde(rename = "type")]
    #[schema(value_type = ResourceTypeSchema)]
    kind: QuotaType,
    used: u32,
    quota: u32,
}

/// The parameters of the quotas.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "the shape of the query, for the OpenAPI document")]
pub(crate) struct QuotaParams {
    /// Both by default.
    #[param(rename = "type", inline)]
    kind: Option<ResourceTypeSchema>,
}

/// Show the project's quotas
#[utoipa::path(get, path = "/v1/{project_id}/quotas", tag = "Quotas",
    params(OfProject, QuotaParams),
    responses((status = 200, description = "Done; the body says what is.", body = Quotas), Failures))]
pub(crate) async fn quota_show(
    State(app): State<Arc<App>>,
    Extension(scope): Extension<Scope>,
    QueryString(query): QueryString,
) -> Result<Json<Quotas>, Failure> {
    let quotas = app.quota_show(&scope.project, &query).await?;
    Ok(Json(Quotas::of(quotas)))
}
