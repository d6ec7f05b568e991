//! Endpoints of all projects, as the operator sees them and switches them.

use std::{net::Ipv4Addr, sync::Arc};

use adit_model::{
    body,
    id::{DomainId, ProjectId},
};
use axum::{Json, body::Bytes, extract::State};
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};

use super::Whose;
use crate::{
    api::{
        endpoint::Endpoint,
        schema::{EnableStatus, EndpointStatusSchema, Page},
        shape::{EndpointPath, Failures, QueryString},
    },
    app::{App, operator::endpoint::EndpointInspected},
    config::Config,
    error::Failure,
};

/// An endpoint, with what its owner does not see.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct InspectedEndpoint {
    #[serde(flatten)]
    endpoint: Endpoint,
    /// The account of its owner.
    #[schema(value_type = String)]
    domain_id: DomainId,
    /// The project of its service, while that is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    service_project_id: Option<ProjectId>,
    /// The address that the backend sees, once it has one; where gateways are processes of their own they alone know it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = "ipv4")]
    source_ip: Option<Ipv4Addr>,
    /// In `creating`: what its gateway waits for, as far as it has said.
    #[serde(skip_serializing_if = "Option::is_none")]
    waiting_for: Option<String>,
}

impl InspectedEndpoint {
    fn of(inspected: EndpointInspected, config: &Config) -> Self {
        let document = &inspected.seen.endpoint;
        Self {
            domain_id: document.domain.clone(),
            source_ip: inspected.source,
            service_project_id: inspected.service_project,
            waiting_for: inspected.waiting_for,
            endpoint: Endpoint::of(&inspected.seen, config),
        }
    }
}

/// A page of endpoints.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct InspectedEndpoints {
    endpoints: Vec<InspectedEndpoint>,
    /// How many match, on all pages.
    total_count: usize,
}

/// The parameters of the list of endpoints.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "the shape of the query, for the OpenAPI document")]
pub(crate) struct EndpointFilter {
    /// A part of the service's name; case is ignored.
    #[param(pattern = r"^[^<>\x00-\x1f\x7f-\x9f]*$")]
    endpoint_service_name: Option<String>,
    /// Exact.
    #[param(format = "uuid")]
    endpoint_service_id: Option<String>,
    /// Exact.
    #[param(format = "uuid")]
    id: Option<String>,
    #[param(inline)]
    status: Option<EndpointStatusSchema>,
    /// Exact.
    #[param(format = "uuid")]
    vpc_id: Option<String>,
    #[param(inline)]
    enable_status: Option<EnableStatus>,
}

/// An endpoint's switch.
#[derive(ToSchema)]
#[expect(
    dead_code,
    reason = "the shape of the body, for the OpenAPI document; the rules are model's"
)]
pub(crate) struct SetEndpoint {
    #[schema(inline)]
    enable_status: EnableStatus,
    /// Off: how many seconds the connections that there are may go on; without, the region's setting counts.
    #[schema(nullable, minimum = 0, maximum = 86400)]
    drain_s: Option<u32>,
}

/// What the operations on an endpoint have in their path.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "the shape of the path, for the OpenAPI document")]
pub(crate) struct OfAnyEndpoint {
    /// Anybody's.
    #[param(format = "uuid")]
    vpc_endpoint_id: String,
}

/// List all endpoints
#[utoipa::path(get, path = "/admin/v1/endpoints", operation_id = "operator_endpoint_list", tag = "Operator",
    params(Whose, EndpointFilter, Page),
    responses((status = 200, description = "Done; the body says what is.", body = InspectedEndpoints), Failures))]
pub(crate) async fn endpoint_list(
    State(app): State<Arc<App>>,
    QueryString(query): QueryString,
) -> Result<Json<InspectedEndpoints>, Failure> {
    let (page, total_count) = app.operator_endpoint_list(&query).await?;
    let endpoints = page.into_iter().map(|e| InspectedEndpoint::of(e, &app.config));
    Ok(Json(InspectedEndpoints {
        endpoints: endpoints.collect(),
        total_count,
    }))
}

/// Show any endpoint
#[utoipa::path(get, path = "/admin/v1/endpoints/{vpc_endpoint_id}", operation_id = "operator_endpoint_show",
    tag = "Operator", params(OfAnyEndpoint),
    responses((status = 200, description = "Done; the body says what is.", body = InspectedEndpoint), Failures))]
pub(crate) async fn endpoint_show(
    State(app): State<Arc<App>>,
    EndpointPath(id): EndpointPath,
) -> Result<Json<InspectedEndpoint>, Failure> {
    let inspected = app.operator_endpoint_show(id).await?;
    Ok(Json(InspectedEndpoint::of(inspected, &app.config)))
}

/// Switch an endpoint off or on
///
/// Off, it takes no connection, whatever its state: what is open is cut, or may go on for `drain_s` seconds.
#[utoipa::path(put, path = "/admin/v1/endpoints/{vpc_endpoint_id}", operation_id = "operator_endpoint_set",
    tag = "Operator", params(OfAnyEndpoint), request_body = SetEndpoint,
    responses((status = 200, description = "Done; the body says what is.", body = InspectedEndpoint), Failures))]
pub(crate) async fn endpoint_set(
    State(app): State<Arc<App>>,
    EndpointPath(id): EndpointPath,
    bytes: Bytes,
) -> Result<Json<InspectedEndpoint>, Failure> {
    let body = body::parse(&bytes)?;
    let inspected = app.operator_endpoint_set(id, &body).await?;
    Ok(Json(InspectedEndpoint::of(inspected, &app.config)))
}
