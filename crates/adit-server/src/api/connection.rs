//! Connections over HTTP (spec A.9, A.10).

use std::sync::Arc;

use adit_model::{
    body,
    endpoint::{Endpoint, EndpointStatus},
    id::{DomainId, EndpointId, MarkerId},
};
use axum::{Extension, Json, body::Bytes, extract::State};
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};

use super::schema::{EndpointStatusSchema, IdText, OfService, Page};
use super::shape::{Failures, FaultView, QueryString, ServicePath, Time};
use crate::{
    app::{App, Scope},
    config::Config,
    error::Failure,
};

/// An endpoint as the owner of its service sees it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Connection {
    /// The endpoint's id.
    #[schema(value_type = String, format = "uuid")]
    id: EndpointId,
    #[schema(value_type = i32, minimum = 1, maximum = 2147483647)]
    marker_id: MarkerId,
    /// The account of the endpoint's owner.
    #[schema(value_type = String)]
    domain_id: DomainId,
    #[schema(value_type = EndpointStatusSchema)]
    status: EndpointStatus,
    #[schema(value_type = String, format = DateTime)]
    created_at: Time,
    #[schema(value_type = String, format = DateTime)]
    updated_at: Time,
    /// What the service's owner has written beside it. Of the superset.
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    /// Present only in `failed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Vec<FaultView>>,
}

impl Connection {
    pub(super) fn of(e: &Endpoint, config: &Config) -> Self {
        Self {
            description: config.superset.then(|| e.connection_description.clone().into()),
            id: e.id,
            marker_id: e.marker,
            domain_id: e.domain.clone(),
            status: e.status(),
            created_at: e.created.at,
            updated_at: e.updated_at,
            error: FaultView::list(e.fault()),
        }
    }
}

/// A page of connections.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Connections {
    connections: Vec<Connection>,
    /// How many match, on all pages.
    total_count: usize,
}

/// The connections that an operation was about.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DecidedConnections {
    connections: Vec<Connection>,
}

impl DecidedConnections {
    pub(super) fn of(endpoints: &[Arc<Endpoint>], config: &Config) -> Self {
        let connections = endpoints.iter().map(|e| Connection::of(e, config));
        Self {
            connections: connections.collect(),
        }
    }
}

/// A decision on one connection.
#[derive(ToSchema)]
#[expect(
    dead_code,
    reason = "the shape of the body, for the OpenAPI document; the rules are model's"
)]
pub(crate) struct DecideConnection {
    /// `receive` accepts.
    #[schema(pattern = "^(receive|reject)$")]
    action: String,
    /// Exactly one endpoint's id.
    #[schema(min_items = 1, max_items = 1, value_type = Vec<IdText>)]
    endpoints: Vec<String>,
    /// Rejected: how many seconds the connections that there are may go on; without, the region's setting counts. Of the superset.
    #[schema(nullable, minimum = 0, maximum = 86400)]
    drain_s: Option<u32>,
}

/// The parameters of the list of connections.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "the shape of the query, for the OpenAPI document")]
pub(crate) struct ConnectionListParams {
    /// Endpoint id, exact.
    #[param(format = "uuid")]
    id: Option<String>,
    /// Packet id, exact.
    #[param(pattern = "^[0-9]+$")]
    marker_id: Option<String>,
    #[param(inline)]
    status: Option<EndpointStatusSchema>,
}

/// List a service's connections
#[utoipa::path(get, path = "/v1/{project_id}/vpc-endpoint-services/{vpc_endpoint_service_id}/connections",
    tag = "Connections", params(OfService, ConnectionListParams, Page),
    responses((status = 200, description = "Done; the body says what is.", body = Connections), Failures))]
pub(crate) async fn connection_list(
    State(app): State<Arc<App>>,
    Extension(scope): Extension<Scope>,
    ServicePath(id): ServicePath,
    QueryString(query): QueryString,
) -> Result<Json<Connections>, Failure> {
    let (page, total_count) = app.connection_list(&scope, id, &query).await?;
    Ok(Json(Connections {
        connections: page.iter().map(|e| Connection::of(e, &app.config)).collect(),
        total_count,
    }))
}

/// Accept or reject a connection
#[utoipa::path(post, path = "/v1/{project_id}/vpc-endpoint-services/{vpc_endpoint_service_id}/connections/action",
    tag = "Connections", params(OfService),
    request_body = DecideConnection, responses((status = 200, description = "Done; the body says what is.", body = DecidedConnections), Failures))]
pub(crate) async fn connection_action(
    State(app): State<Arc<App>>,
    Extension(scope): Extension<Scope>,
    ServicePath(id): ServicePath,
    bytes: Bytes,
) -> Result<Json<DecidedConnections>, Failure> {
    let body = body::parse(&bytes)?;
    let endpoint = app.connection_action(&scope, id, &body).await?;
    Ok(Json(DecidedConnections::of(&[endpoint], &app.config)))
}
