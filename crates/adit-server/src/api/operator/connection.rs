//! Connections of all services, as the operator sees them.

use std::sync::Arc;

use adit_model::id::{ProjectId, ServiceId};
use axum::{Json, extract::State};
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};

use super::Whose;
use crate::{
    api::{
        connection::Connection,
        schema::{EndpointStatusSchema, Page},
        shape::{Failures, QueryString},
    },
    app::App,
    error::Failure,
};

/// A connection, with its service.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct InspectedConnection {
    #[serde(flatten)]
    connection: Connection,
    #[schema(value_type = String, format = "uuid")]
    endpoint_service_id: ServiceId,
    /// The project of the service.
    #[schema(value_type = String)]
    service_project_id: ProjectId,
}

/// A page of connections.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct InspectedConnections {
    connections: Vec<InspectedConnection>,
    /// How many match, on all pages.
    total_count: usize,
}

/// The parameters of the list of connections.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "the shape of the query, for the OpenAPI document")]
pub(crate) struct ConnectionFilter {
    /// Exact.
    #[param(format = "uuid")]
    endpoint_service_id: Option<String>,
    /// Endpoint id, exact.
    #[param(format = "uuid")]
    id: Option<String>,
    /// Packet id, exact.
    #[param(pattern = "^[0-9]+$")]
    marker_id: Option<String>,
    #[param(inline)]
    status: Option<EndpointStatusSchema>,
}

/// List all connections
///
/// `project_id` and `domain_id` are the services' owners.
#[utoipa::path(get, path = "/admin/v1/connections", operation_id = "operator_connection_list", tag = "Operator",
    params(Whose, ConnectionFilter, Page),
    responses((status = 200, description = "Done; the body says what is.", body = InspectedConnections), Failures))]
pub(crate) async fn connection_list(
    State(app): State<Arc<App>>,
    QueryString(query): QueryString,
) -> Result<Json<InspectedConnections>, Failure> {
    let (page, total_count) = app.operator_connection_list(&query).await?;
    let connections = page.into_iter().map(|(endpoint, project)| InspectedConnection {
        connection: Connection::of(&endpoint, &app.config),
        endpoint_service_id: endpoint.service,
        service_project_id: project,
    });
    Ok(Json(InspectedConnections {
        connections: connections.collect(),
        total_count,
    }))
}
