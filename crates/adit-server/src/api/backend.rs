//! Further backends of a service over HTTP (spec B.10); version 2.

use std::sync::Arc;

use adit_model::body;
use axum::{Extension, body::Bytes, extract::State, http::StatusCode};
use utoipa::ToSchema;

use super::{
    schema::{IdText, OfService},
    shape::{Failures, ServicePath},
};
use crate::{
    app::{App, Scope},
    error::Failure,
};

/// A load balancer to put behind a service.
#[derive(ToSchema)]
#[expect(
    dead_code,
    reason = "the shape of the body, for the OpenAPI document; the rules are model's"
)]
pub(crate) struct ServerResource {
    /// Its id; it is in the service's VPC.
    resource_id: IdText,
    /// Kept, and nothing more.
    #[schema(nullable)]
    availability_zone_id: Option<String>,
}

/// Load balancers to put behind a service, all or none.
#[derive(ToSchema)]
#[expect(
    dead_code,
    reason = "the shape of the body, for the OpenAPI document; the rules are model's"
)]
pub(crate) struct AddServerResources {
    #[schema(min_items = 1, max_items = 8)]
    server_resources: Vec<ServerResource>,
}

/// Put further load balancers behind a service
///
/// Connections go to each backend in turn. There are at most 8 of them.
#[utoipa::path(post, path = "/v2/{project_id}/vpc-endpoint-services/{vpc_endpoint_service_id}/add-server-resources",
    tag = "Endpoint services", params(OfService), request_body = AddServerResources,
    responses((status = 204, description = "Done."), Failures))]
pub(crate) async fn backend_add(
    State(app): State<Arc<App>>,
    Extension(scope): Extension<Scope>,
    ServicePath(id): ServicePath,
    bytes: Bytes,
) -> Result<StatusCode, Failure> {
    app.backend_add(&scope, id, &body::parse(&bytes)?).await?;
    Ok(StatusCode::NO_CONTENT)
}
