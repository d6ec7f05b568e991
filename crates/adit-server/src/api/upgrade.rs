//! Editions of services and endpoints over HTTP (spec B.11, B.12); version 2.

use std::sync::Arc;

use adit_model::body::{self, Body};
use axum::{Extension, body::Bytes, extract::State, http::StatusCode};
use utoipa::ToSchema;

use super::{
    schema::{OfEndpoint, OfService},
    shape::{EndpointPath, Failures, ServicePath},
};
use crate::{
    app::{App, Scope},
    error::Failure,
};

/// What to do with a service.
#[derive(ToSchema)]
#[expect(
    dead_code,
    reason = "the shape of the body, for the OpenAPI document; the rules are model's"
)]
pub(crate) struct UpgradeService {
    /// `upgrade` by default.
    #[schema(nullable, pattern = "^(upgrade|rollback)$")]
    action: Option<String>,
    /// Without effect: several backends can be added to any service.
    #[schema(nullable)]
    enable_multi_server: Option<bool>,
}

/// What to do with an endpoint.
#[derive(ToSchema)]
#[expect(
    dead_code,
    reason = "the shape of the body, for the OpenAPI document; the rules are model's"
)]
pub(crate) struct UpgradeEndpoint {
    #[schema(pattern = "^(start|rollback)$")]
    action: String,
}

/// Let a service take professional endpoints
///
/// Without a body, that is what is meant.
#[utoipa::path(post, path = "/v2/{project_id}/vpc-endpoint-services/{vpc_endpoint_service_id}/upgrade",
    tag = "Endpoint services", params(OfService), request_body = Option<UpgradeService>,
    responses((status = 204, description = "Done."), Failures))]
pub(crate) async fn service_upgrade(
    State(app): State<Arc<App>>,
    Extension(scope): Extension<Scope>,
    ServicePath(id): ServicePath,
    bytes: Bytes,
) -> Result<StatusCode, Failure> {
    let body = match bytes.is_empty() {
        true => Body::new(),
        false => body::parse(&bytes)?,
    };
    app.service_upgrade(&scope, id, &body).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Make an endpoint a professional one
#[utoipa::path(post, path = "/v2/{project_id}/vpc-endpoints/{vpc_endpoint_id}/upgrade", tag = "Endpoints",
    params(OfEndpoint), request_body = UpgradeEndpoint,
    responses((status = 204, description = "Done."), Failures))]
pub(crate) async fn endpoint_upgrade(
    State(app): State<Arc<App>>,
    Extension(scope): Extension<Scope>,
    EndpointPath(id): EndpointPath,
    bytes: Bytes,
) -> Result<StatusCode, Failure> {
    app.endpoint_upgrade(&scope, id, &body::parse(&bytes)?).await?;
    Ok(StatusCode::NO_CONTENT)
}
