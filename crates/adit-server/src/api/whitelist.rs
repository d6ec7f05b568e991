//! Whitelist records over HTTP (spec A.11, A.12).

use std::sync::Arc;

use adit_model::{body, id::RecordId, whitelist::WhitelistRecord};
use axum::{Extension, Json, body::Bytes, extract::State};
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};

use super::schema::{OfService, PermissionText, PermissionTypeSchema, SortDir, offset};
use super::shape::{Failures, QueryString, ServicePath, Time};
use crate::{
    app::{App, Scope},
    error::Failure,
};

/// A whitelist record.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Permission {
    #[schema(value_type = String, format = "uuid")]
    id: RecordId,
    /// `iam:domain::` and an account's id or `*`; or `*` alone; or `organizations:orgPath::` and a path.
    permission: String,
    #[schema(value_type = PermissionTypeSchema)]
    permission_type: &'static str,
    description: String,
    #[schema(value_type = String, format = DateTime)]
    created_at: Time,
}

impl From<WhitelistRecord> for Permission {
    fn from(r: WhitelistRecord) -> Self {
        Self {
            id: r.id,
            permission_type: r.permission_type().as_str(),
            permission: r.permission,
            description: r.description,
            created_at: r.created.at,
        }
    }
}

/// A page of whitelist records.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Permissions {
    permissions: Vec<Permission>,
    /// How many match, on all pages.
    total_count: usize,
}

/// Records to add or remove, all or none.
#[derive(ToSchema)]
#[expect(
    dead_code,
    reason = "the shape of the body, for the OpenAPI document; the rules are model's"
)]
pub(crate) struct ChangePermissions {
    #[schema(min_items = 1)]
    permissions: Vec<PermissionText>,
    #[schema(pattern = "^(add|remove)$")]
    action: String,
}

/// The records of the request, as sent.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ChangedPermissions {
    permissions: Vec<String>,
}

/// The parameters of the list of whitelist records.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "the shape of the query, for the OpenAPI document")]
pub(crate) struct PermissionListParams {
    /// A part of a record.
    permission: Option<String>,
    /// `create_at` is another spelling.
    #[param(pattern = "^created?_at$")]
    sort_key: Option<String>,
    /// `desc` by default: the newest first.
    #[param(inline)]
    sort_dir: Option<SortDir>,
    /// How many to show, 10 by default; `total_count` does not depend on it.
    #[param(minimum = 0, maximum = 500)]
    limit: Option<u32>,
    /// How many to skip; past the end there is an empty page.
    #[param(schema_with = offset)]
    offset: Option<u64>,
}

/// List a service's whitelist records
#[utoipa::path(get, path = "/v1/{project_id}/vpc-endpoint-services/{vpc_endpoint_service_id}/permissions",
    tag = "Whitelist", params(OfService, PermissionListParams),
    responses((status = 200, description = "Done; the body says what is.", body = Permissions), Failures))]
pub(crate) async fn whitelist_list(
    State(app): State<Arc<App>>,
    Extension(scope): Extension<Scope>,
    ServicePath(id): ServicePath,
    QueryString(query): QueryString,
) -> Result<Json<Permissions>, Failure> {
    let (page, total_count) = app.whitelist_list(&scope, id, &query).await?;
    Ok(Json(Permissions {
        permissions: page.into_iter().map(Permission::from).collect(),
        total_count,
    }))
}

/// Add or remove whitelist records
#[utoipa::path(post, path = "/v1/{project_id}/vpc-endpoint-services/{vpc_endpoint_service_id}/permissions/action",
    tag = "Whitelist", params(OfService),
    request_body = ChangePermissions, responses((status = 200, description = "Done; the body says what is.", body = ChangedPermissions), Failures))]
pub(crate) async fn whitelist_action(
    State(app): State<Arc<App>>,
    Extension(scope): Extension<Scope>,
    ServicePath(id): ServicePath,
    bytes: Bytes,
) -> Result<Json<ChangedPermissions>, Failure> {
    let body = body::parse(&bytes)?;
    Ok(Json(ChangedPermissions {
        permissions: app.whitelist_action(&scope, id, &body).await?,
    }))
}
