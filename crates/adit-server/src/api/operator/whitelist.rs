//! Whitelist records of all services, as the operator sees them.

use std::sync::Arc;

use adit_model::id::{ProjectId, ServiceId};
use axum::{Json, extract::State};
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};

use super::Whose;
use crate::{
    api::{
        schema::{Cut, SortDir},
        shape::{Failures, QueryString},
        whitelist::Permission,
    },
    app::App,
    error::Failure,
};

/// A record, with its service.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct InspectedPermission {
    #[serde(flatten)]
    permission: Permission,
    #[schema(value_type = String, format = "uuid")]
    endpoint_service_id: ServiceId,
    /// The project of the service.
    #[schema(value_type = String)]
    project_id: ProjectId,
}

/// A page of records.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct InspectedPermissions {
    permissions: Vec<InspectedPermission>,
    /// How many match, on all pages.
    total_count: usize,
}

/// The parameters of the list of records.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "the shape of the query, for the OpenAPI document")]
pub(crate) struct PermissionFilter {
    /// Exact.
    #[param(format = "uuid")]
    endpoint_service_id: Option<String>,
    /// A part of a record.
    permission: Option<String>,
    /// `create_at` is another spelling.
    #[param(pattern = "^created?_at$")]
    sort_key: Option<String>,
    /// `desc` by default: the newest first.
    #[param(inline)]
    sort_dir: Option<SortDir>,
}

/// List all whitelist records
#[utoipa::path(get, path = "/admin/v1/permissions", operation_id = "operator_whitelist_list", tag = "Operator",
    params(Whose, PermissionFilter, Cut),
    responses((status = 200, description = "Done; the body says what is.", body = InspectedPermissions), Failures))]
pub(crate) async fn whitelist_list(
    State(app): State<Arc<App>>,
    QueryString(query): QueryString,
) -> Result<Json<InspectedPermissions>, Failure> {
    let (page, total_count) = app.operator_whitelist_list(&query).await?;
    let permissions = page
        .into_iter()
        .map(|(record, service, project)| InspectedPermission {
            permission: record.into(),
            endpoint_service_id: service,
            project_id: project,
        });
    Ok(Json(InspectedPermissions {
        permissions: permissions.collect(),
        total_count,
    }))
}
