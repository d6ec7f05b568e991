//! Descriptions of connections over HTTP (spec B.8).

use std::sync::Arc;

use adit_model::body;
use axum::{Extension, Json, body::Bytes, extract::State};
use utoipa::ToSchema;

use super::{
    connection::DecidedConnections,
    schema::OfService,
    shape::{Failures, ServicePath},
};
use crate::{
    app::{App, Scope},
    error::Failure,
};

/// A connection and what to write beside it.
#[derive(ToSchema)]
#[expect(
    dead_code,
    reason = "the shape of the body, for the OpenAPI document; the rules are model's"
)]
pub(crate) struct DescribedConnection {
    /// The endpoint's id.
    #[schema(format = "uuid")]
    id: String,
    #[schema(max_length = 128, pattern = "^[^<>]*$")]
    description: String,
}

/// Connections to describe, all or none.
#[derive(ToSchema)]
#[expect(
    dead_code,
    reason = "the shape of the body, for the OpenAPI document; the rules are model's"
)]
pub(crate) struct DescribeConnections {
    #[schema(min_items = 1, max_items = 30)]
    connections: Vec<DescribedConnection>,
}

/// Change the descriptions of connections
///
/// They are the service's owner's, and not shown to the endpoints' owners.
#[utoipa::path(put, path = "/v1/{project_id}/vpc-endpoint-services/{vpc_endpoint_service_id}/connections/description",
    tag = "Connections", params(OfService),
    request_body = DescribeConnections, responses((status = 200, description = "Done; the body says what is.", body = DecidedConnections), Failures))]
pub(crate) async fn connection_describe(
    State(app): State<Arc<App>>,
    Extension(scope): Extension<Scope>,
    ServicePath(id): ServicePath,
    bytes: Bytes,
) -> Result<Json<DecidedConnections>, Failure> {
    let body = body::parse(&bytes)?;
    let described = app.connection_describe(&scope, id, &body).await?;
    Ok(Json(DecidedConnections::of(&described, &app.config)))
}
