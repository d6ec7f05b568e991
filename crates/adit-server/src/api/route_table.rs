//! The route tables of a gateway endpoint over HTTP (spec B.2).

use std::sync::Arc;

use adit_model::{body, id::RouteTableId};
use axum::{Extension, Json, body::Bytes, extract::State};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    schema::{IdText, OfEndpoint},
    shape::{EndpointPath, Failures},
};
use crate::{
    app::{App, Scope, route_table::RouteTablesSeen},
    error::Failure,
};

/// Which route tables are to lead to the service: these and no others.
#[derive(ToSchema)]
#[expect(
    dead_code,
    reason = "the shape of the body, for the OpenAPI document; the rules are model's"
)]
pub(crate) struct ChangeRouteTables {
    #[schema(min_items = 1)]
    routetables: Vec<IdText>,
}

/// The route tables that lead to the service.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RouteTables {
    #[schema(value_type = Vec<String>)]
    routetables: Vec<RouteTableId>,
    /// What of the change could not be done; only where something could not.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    error: Vec<RouteTableFaults>,
}

/// Route tables that did not change as wanted.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RouteTableFaults {
    bind_failed: Vec<RouteTableFault>,
    unbind_failed: Vec<RouteTableFault>,
}

/// A route table that did not change as wanted, and why.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RouteTableFault {
    #[schema(value_type = String, format = "uuid")]
    id: RouteTableId,
    error_message: String,
}

impl From<RouteTablesSeen> for RouteTables {
    fn from(seen: RouteTablesSeen) -> Self {
        let fault = |(id, error_message)| RouteTableFault { id, error_message };
        let bind_failed: Vec<_> = seen.failed.into_iter().map(fault).collect();
        let error = (!bind_failed.is_empty()).then_some(RouteTableFaults {
            bind_failed,
            unbind_failed: Vec::new(),
        });
        Self {
            routetables: seen.tables,
            error: error.into_iter().collect(),
        }
    }
}

/// Change an endpoint's route tables
///
/// Of an endpoint of a gateway service. A table that has no room for the routes is left out and said.
#[utoipa::path(put, path = "/v1/{project_id}/vpc-endpoints/{vpc_endpoint_id}/routetables", tag = "Endpoints",
    params(OfEndpoint), request_body = ChangeRouteTables,
    responses((status = 200, description = "Done; the body says what is.", body = RouteTables), Failures))]
pub(crate) async fn route_table_update(
    State(app): State<Arc<App>>,
    Extension(scope): Extension<Scope>,
    EndpointPath(id): EndpointPath,
    bytes: Bytes,
) -> Result<Json<RouteTables>, Failure> {
    let body = body::parse(&bytes)?;
    Ok(Json(app.route_table_update(&scope, id, &body).await?.into()))
}
