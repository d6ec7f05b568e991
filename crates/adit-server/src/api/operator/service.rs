//! Services of all projects, as the operator sees them.

use std::sync::Arc;

use axum::{Json, extract::State};
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};

use super::Whose;
use crate::{
    api::{
        schema::{OfAnyService, Page, ServiceStatusSchema},
        service::EndpointService,
        shape::{Failures, QueryString, ServicePath},
    },
    app::App,
    error::Failure,
};

/// A page of services.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Services {
    services: Vec<EndpointService>,
    /// How many match, on all pages.
    total_count: usize,
}

/// The parameters of the list of services.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "the shape of the query, for the OpenAPI document")]
pub(crate) struct ServiceFilter {
    /// A part of the name; case is ignored.
    #[param(pattern = r"^[^<>\x00-\x1f\x7f-\x9f]*$")]
    endpoint_service_name: Option<String>,
    /// Exact.
    #[param(format = "uuid")]
    id: Option<String>,
    #[param(inline)]
    status: Option<ServiceStatusSchema>,
    /// Exact.
    #[param(format = "uuid")]
    vpc_id: Option<String>,
    /// Exact.
    #[param(format = "uuid")]
    pool_id: Option<String>,
}

/// List all endpoint services
#[utoipa::path(get, path = "/admin/v1/services", operation_id = "operator_service_list", tag = "Operator",
    params(Whose, ServiceFilter, Page),
    responses((status = 200, description = "Done; the body says what is.", body = Services), Failures))]
pub(crate) async fn service_list(
    State(app): State<Arc<App>>,
    QueryString(query): QueryString,
) -> Result<Json<Services>, Failure> {
    let (page, total_count) = app.operator_service_list(&query).await?;
    let services = page
        .into_iter()
        .map(|seen| EndpointService::listed(&seen, &app.config));
    Ok(Json(Services {
        services: services.collect(),
        total_count,
    }))
}

/// Show any endpoint service
#[utoipa::path(get, path = "/admin/v1/services/{vpc_endpoint_service_id}", operation_id = "operator_service_show",
    tag = "Operator", params(OfAnyService),
    responses((status = 200, description = "Done; the body says what is.", body = EndpointService), Failures))]
pub(crate) async fn service_show(
    State(app): State<Arc<App>>,
    ServicePath(id): ServicePath,
) -> Result<Json<EndpointService>, Failure> {
    let seen = app.operator_service_show(id).await?;
    Ok(Json(EndpointService::listed(&seen, &app.config)))
}
