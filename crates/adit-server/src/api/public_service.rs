//! Public services over HTTP (spec A.3): what everybody can connect to, and what a would-be user may know of a service.

use std::sync::Arc;

use adit_model::{
    id::ServiceId,
    service::{Service, ServiceType},
};
use axum::{Json, extract::State};
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};

use super::schema::{OfProject, Page, ServiceTypeSchema};
use super::shape::{Failures, QueryString, Time};
use crate::{app::App, config::Config, error::Failure};

/// A service that the operator runs for everybody.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PublicEndpointService {
    #[schema(value_type = String, format = "uuid")]
    id: ServiceId,
    /// Whose it is.
    owner: String,
    service_name: String,
    #[schema(value_type = ServiceTypeSchema)]
    service_type: ServiceType,
    #[schema(value_type = String, format = DateTime)]
    created_at: Time,
    /// Whether its use costs something.
    is_charge: bool,
    /// Whether its endpoints can have policies. Of the superset.
    #[serde(skip_serializing_if = "Option::is_none")]
    enable_policy: Option<bool>,
}

/// A page of public services.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PublicEndpointServices {
    endpoint_services: Vec<PublicEndpointService>,
    /// How many match, on all pages.
    total_count: usize,
}

/// What anybody may know of a service; never what is behind it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EndpointServiceDescription {
    #[schema(value_type = String, format = "uuid")]
    id: ServiceId,
    service_name: String,
    #[schema(value_type = ServiceTypeSchema)]
    service_type: ServiceType,
    #[schema(value_type = String, format = DateTime)]
    created_at: Time,
    /// Whether its use costs something.
    is_charge: bool,
    /// Whether its endpoints can have policies. Of the superset.
    #[serde(skip_serializing_if = "Option::is_none")]
    enable_policy: Option<bool>,
}

/// Shown where the superset is on.
fn enable_policy(service: &Service, config: &Config) -> Option<bool> {
    config
        .superset
        .then(|| service.service_type() == ServiceType::Gateway)
}

fn is_charge(service: &Service) -> bool {
    service.public.as_ref().is_some_and(|public| public.is_charge)
}

/// The parameters of the list of public services.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "the shape of the query, for the OpenAPI document")]
pub(crate) struct PublicServiceListParams {
    /// A part of the name; case is ignored.
    #[param(pattern = r"^[^<>\x00-\x1f\x7f-\x9f]*$")]
    endpoint_service_name: Option<String>,
    /// Exact.
    #[param(format = "uuid")]
    id: Option<String>,
}

/// The parameters that name a service; at least one.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "the shape of the query, for the OpenAPI document")]
pub(crate) struct ServiceDescribeParams {
    /// The whole name.
    #[param(pattern = r"^[^<>\x00-\x1f\x7f-\x9f]*$")]
    endpoint_service_name: Option<String>,
    /// The id.
    #[param(format = "uuid")]
    id: Option<String>,
}

/// List the public endpoint services
#[utoipa::path(get, path = "/v1/{project_id}/vpc-endpoint-services/public", tag = "Endpoint services",
    params(OfProject, PublicServiceListParams, Page),
    responses((status = 200, description = "Done; the body says what is.", body = PublicEndpointServices), Failures))]
pub(crate) async fn public_service_list(
    State(app): State<Arc<App>>,
    QueryString(query): QueryString,
) -> Result<Json<PublicEndpointServices>, Failure> {
    let (page, total_count) = app.public_service_list(&query).await?;
    let view = |service: Arc<Service>| PublicEndpointService {
        id: service.id,
        owner: service
            .public
            .as_ref()
            .map(|public| public.owner.clone())
            .unwrap_or_default(),
        service_name: service.name.clone().into(),
        service_type: service.service_type(),
        created_at: service.created.at,
        is_charge: is_charge(&service),
        enable_policy: enable_policy(&service, &app.config),
    };
    Ok(Json(PublicEndpointServices {
        endpoint_services: page.into_iter().map(view).collect(),
        total_count,
    }))
}

/// Describe an endpoint service
///
/// Of any account, by its whole name, its id, or both.
#[utoipa::path(get, path = "/v1/{project_id}/vpc-endpoint-services/describe", tag = "Endpoint services",
    params(OfProject, ServiceDescribeParams),
    responses((status = 200, description = "Done; the body says what is.", body = EndpointServiceDescription), Failures))]
pub(crate) async fn service_describe(
    State(app): State<Arc<App>>,
    QueryString(query): QueryString,
) -> Result<Json<EndpointServiceDescription>, Failure> {
    let service = app.service_describe(&query).await?;
    Ok(Json(EndpointServiceDescription {
        id: service.id,
        service_name: service.name.clone().into(),
        service_type: service.service_type(),
        created_at: service.created.at,
        is_charge: is_charge(&service),
        enable_policy: enable_policy(&service, &app.config),
    }))
}
