//! Whitelist records with descriptions, added and removed in numbers, over HTTP (spec B.5 to B.7).

use std::sync::Arc;

use adit_model::{body, whitelist::WhitelistRecord};
use axum::{Extension, Json, body::Bytes, extract::State};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    schema::{OfRecord, OfService, PermissionTypeSchema},
    shape::{Failures, RecordPath, ServicePath},
    whitelist::Permission,
};
use crate::{
    app::{App, Scope},
    error::Failure,
};

/// The records that an operation was about.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PermissionsConcerned {
    permissions: Vec<Permission>,
}

impl From<Vec<WhitelistRecord>> for PermissionsConcerned {
    fn from(records: Vec<WhitelistRecord>) -> Self {
        Self {
            permissions: records.into_iter().map(Permission::from).collect(),
        }
    }
}

/// A record to add.
#[derive(ToSchema)]
#[expect(
    dead_code,
    reason = "the shape of the body, for the OpenAPI document; the rules are model's"
)]
pub(crate) struct NewPermission {
    /// `iam:domain::` and an account's id or `*`; or `*` alone; or, of type `orgPath`, `organizations:orgPath::` and a path.
    #[schema(
        pattern = r"^(\*|iam:domain::[A-Za-z0-9*]{1,64}|organizations:orgPath::[A-Za-z0-9/*?-]{1,1024})$"
    )]
    permission: String,
    #[schema(max_length = 128, pattern = "^[^<>]*$")]
    description: String,
}

/// Records to add, all or none.
#[derive(ToSchema)]
#[expect(
    dead_code,
    reason = "the shape of the body, for the OpenAPI document; the rules are model's"
)]
pub(crate) struct AddPermissions {
    #[schema(min_items = 1)]
    permissions: Vec<NewPermission>,
    /// `domainId` by default.
    #[schema(nullable, inline)]
    permission_type: Option<PermissionTypeSchema>,
}

/// A record, by its id.
#[derive(ToSchema)]
#[expect(
    dead_code,
    reason = "the shape of the body, for the OpenAPI document; the rules are model's"
)]
pub(crate) struct PermissionId {
    #[schema(format = "uuid")]
    id: String,
}

/// Records to remove, all or none.
#[derive(ToSchema)]
#[expect(
    dead_code,
    reason = "the shape of the body, for the OpenAPI document; the rules are model's"
)]
pub(crate) struct RemovePermissions {
    #[schema(min_items = 1)]
    permissions: Vec<PermissionId>,
}

/// What of a record can be changed.
#[derive(ToSchema)]
#[expect(
    dead_code,
    reason = "the shape of the body, for the OpenAPI document; the rules are model's"
)]
pub(crate) struct PermissionDescription {
    #[schema(max_length = 128, pattern = "^[^<>]*$")]
    description: String,
}

/// A record's new description.
#[derive(ToSchema)]
#[expect(
    dead_code,
    reason = "the shape of the body, for the OpenAPI document; the rules are model's"
)]
pub(crate) struct DescribePermission {
    permission: PermissionDescription,
}

/// Add whitelist records with descriptions
///
/// Answers those that are new.
#[utoipa::path(post, path = "/v1/{project_id}/vpc-endpoint-services/{vpc_endpoint_service_id}/permissions/batch-create",
    tag = "Whitelist", params(OfService),
    request_body = AddPermissions, responses((status = 200, description = "Done; the body says what is.", body = PermissionsConcerned), Failures))]
pub(crate) async fn whitelist_add(
    State(app): State<Arc<App>>,
    Extension(scope): Extension<Scope>,
    ServicePath(id): ServicePath,
    bytes: Bytes,
) -> Result<Json<PermissionsConcerned>, Failure> {
    let body = body::parse(&bytes)?;
    Ok(Json(app.whitelist_add(&scope, id, &body).await?.into()))
}

/// Remove whitelist records by their ids
///
/// Answers them as they were.
#[utoipa::path(post, path = "/v1/{project_id}/vpc-endpoint-services/{vpc_endpoint_service_id}/permissions/batch-delete",
    tag = "Whitelist", params(OfService),
    request_body = RemovePermissions, responses((status = 200, description = "Done; the body says what was.", body = PermissionsConcerned), Failures))]
pub(crate) async fn whitelist_remove(
    State(app): State<Arc<App>>,
    Extension(scope): Extension<Scope>,
    ServicePath(id): ServicePath,
    bytes: Bytes,
) -> Result<Json<PermissionsConcerned>, Failure> {
    let body = body::parse(&bytes)?;
    Ok(Json(app.whitelist_remove(&scope, id, &body).await?.into()))
}

/// Change the description of a whitelist record
#[utoipa::path(put, path = "/v1/{project_id}/vpc-endpoint-services/{vpc_endpoint_service_id}/permissions/{permission_id}",
    tag = "Whitelist", params(OfRecord),
    request_body = DescribePermission, responses((status = 200, description = "Done; the body says what is.", body = PermissionsConcerned), Failures))]
pub(crate) async fn whitelist_describe(
    State(app): State<Arc<App>>,
    Extension(scope): Extension<Scope>,
    ServicePath(id): ServicePath,
    RecordPath(record): RecordPath,
    bytes: Bytes,
) -> Result<Json<PermissionsConcerned>, Failure> {
    let body = body::parse(&bytes)?;
    let record = app.whitelist_describe(&scope, id, record, &body).await?;
    Ok(Json(vec![record].into()))
}
