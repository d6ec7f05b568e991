//! Services of all projects, as the operator sees them.

use std::sync::Arc;

use adit_model::{body, proxy::ProxyProfile, service::Backend};
use axum::{Json, body::Bytes, extract::State};
use ipnet::Ipv4Net;
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};

use super::Whose;
use crate::{
    api::{
        schema::{OfAnyService, Page, ServiceStatusSchema},
        service::{BackendPort, EndpointService},
        shape::{Failures, QueryString, ServicePath},
    },
    app::{App, service::ServiceSeen},
    error::Failure,
};

/// A service, with what its owner does not see.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct InspectedService {
    #[serde(flatten)]
    service: EndpointService,
    /// Whose parsers its PROXY header is for: `vpcep`, `aws`, `gcp`, `azure`, `archer` or `v1`; absent for the region's.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    proxy_profile: Option<&'static str>,
    /// Whether it is the operator's, for everybody.
    public: bool,
    /// Whose a public service is said to be.
    #[serde(skip_serializing_if = "Option::is_none")]
    owner: Option<String>,
    /// The blocks behind a gateway service.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<String>>)]
    prefixes: Option<Vec<Ipv4Net>>,
}

impl InspectedService {
    fn of(seen: &ServiceSeen, app: &App) -> Self {
        let public = seen.service.public.as_ref();
        Self {
            public: public.is_some(),
            owner: public.map(|public| public.owner.clone()),
            prefixes: match &seen.service.backend {
                Backend::Prefixes { prefixes } => Some(prefixes.clone()),
                Backend::Port(_) => None,
            },
            service: EndpointService::listed(seen, &app.config).with_health(BackendPort::list(app, seen)),
            proxy_profile: seen.service.proxy_profile.map(ProxyProfile::as_str),
        }
    }
}

/// A service's new settings.
#[derive(ToSchema)]
#[expect(
    dead_code,
    reason = "the shape of the body, for the OpenAPI document; the rules are model's"
)]
pub(crate) struct SetService {
    /// Whose parsers its PROXY header is for: `vpcep`, `aws`, `gcp`, `azure`, `archer` or `v1`; null for the region's.
    #[schema(required, nullable, pattern = "^(vpcep|aws|gcp|azure|archer|v1)$")]
    proxy_profile: Option<String>,
}

/// A page of services.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Services {
    services: Vec<InspectedService>,
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
    /// Public services alone, or the others.
    public: Option<bool>,
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
    let services = page.into_iter().map(|seen| InspectedService::of(&seen, &app));
    Ok(Json(Services {
        services: services.collect(),
        total_count,
    }))
}

/// Show any endpoint service
#[utoipa::path(get, path = "/admin/v1/services/{vpc_endpoint_service_id}", operation_id = "operator_service_show",
    tag = "Operator", params(OfAnyService),
    responses((status = 200, description = "Done; the body says what is.", body = InspectedService), Failures))]
pub(crate) async fn service_show(
    State(app): State<Arc<App>>,
    ServicePath(id): ServicePath,
) -> Result<Json<InspectedService>, Failure> {
    let seen = app.operator_service_show(id).await?;
    Ok(Json(InspectedService::of(&seen, &app)))
}

/// Set whose parsers a service's PROXY header is for
///
/// It counts for new connections.
#[utoipa::path(put, path = "/admin/v1/services/{vpc_endpoint_service_id}", operation_id = "operator_service_set",
    tag = "Operator", params(OfAnyService), request_body = SetService,
    responses((status = 200, description = "Done; the body says what is.", body = InspectedService), Failures))]
pub(crate) async fn service_set(
    State(app): State<Arc<App>>,
    ServicePath(id): ServicePath,
    bytes: Bytes,
) -> Result<Json<InspectedService>, Failure> {
    let seen = app.operator_service_set(id, &body::parse(&bytes)?).await?;
    Ok(Json(InspectedService::of(&seen, &app)))
}
