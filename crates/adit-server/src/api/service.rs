//! Endpoint services over HTTP (spec A.4 to A.8).

use std::sync::Arc;

use adit_model::{
    Code, body,
    id::{DomainId, PoolId, PortId, ProjectId, ServiceId, VpcId},
    service::{ServerType, ServiceStatus, ServiceType, TcpProxy},
};
use axum::{Extension, Json, body::Bytes, extract::State, http::StatusCode};
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};

use super::schema::{
    IdText, NewPortMapping, NewTag, OfProject, OfService, OwnServiceType, Page, PortMappingSchema,
    ServerTypeSchema, ServiceStatusSchema, ServiceTypeSchema, TagSchema, TcpProxySchema,
};
use super::shape::{Failures, FaultView, JsonText, Ports, QueryString, ServicePath, Tags, Time};
use crate::{
    app::{App, Scope, service::ServiceSeen},
    config::Config,
    error::Failure,
};

/// An endpoint service.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EndpointService {
    #[schema(value_type = String, format = "uuid")]
    id: ServiceId,
    /// The backend port; an operator's gateway service has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, required = false, format = "uuid")]
    port_id: Option<PortId>,
    #[schema(value_type = String, format = "uuid")]
    vpc_id: VpcId,
    #[schema(value_type = String, format = "uuid")]
    pool_id: PoolId,
    /// The composed name: `region.short.id`.
    service_name: String,
    #[schema(value_type = ServiceTypeSchema)]
    service_type: ServiceType,
    /// Of the backend port.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = ServerTypeSchema, required = false)]
    server_type: Option<ServerType>,
    approval_enabled: bool,
    #[schema(value_type = ServiceStatusSchema)]
    status: ServiceStatus,
    #[schema(value_type = String)]
    project_id: ProjectId,
    /// The owner's account; in lists only.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    domain_id: Option<DomainId>,
    /// How many endpoints are in `creating` or `accepted`.
    connection_count: usize,
    #[schema(value_type = Vec<PortMappingSchema>)]
    ports: Ports,
    #[schema(value_type = TcpProxySchema)]
    tcp_proxy: TcpProxy,
    #[schema(value_type = Vec<TagSchema>)]
    tags: Tags,
    description: String,
    #[schema(value_type = String, format = DateTime)]
    created_at: Time,
    #[schema(value_type = String, format = DateTime)]
    updated_at: Time,
    /// Which editions of endpoints it takes: `basic`, `profession`. Of the superset.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<String>>)]
    supported_editions: Option<&'static [&'static str]>,
    /// Whether its endpoints can have policies. Of the superset.
    #[serde(skip_serializing_if = "Option::is_none")]
    enable_policy: Option<bool>,
    /// `ipv4`. Of the superset.
    #[serde(skip_serializing_if = "Option::is_none")]
    ip_version: Option<&'static str>,
    /// Present only in `failed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Vec<FaultView>>,
    /// How the backend's ports answered when a gateway asked last; the status is another thing. In the answer to a GET of one
    /// service, while one of them did not answer (of the superset), and for the operator whenever a gateway has asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    backend_health: Option<Vec<BackendPort>>,
}

/// How a backend's port answered when it was asked last.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BackendPort {
    server_port: u16,
    /// Why it did not answer: a reason as the connection log has it, after the address where there are several backends, for each
    /// that did not; absent where all did.
    #[serde(skip_serializing_if = "Option::is_none")]
    fault: Option<String>,
}

impl BackendPort {
    /// As far as anybody has asked.
    pub(super) fn list(app: &App, seen: &ServiceSeen) -> Option<Vec<Self>> {
        // Without endpoints nobody asks any more, and what was found once says nothing.
        let ports = app
            .backend(seen.service.id)
            .filter(|_| seen.connection_count > 0)?;
        let shown = ports.into_iter().map(|port| Self {
            server_port: port.port,
            fault: port.fault,
        });
        Some(shown.collect())
    }
}

impl EndpointService {
    /// With the owner's account, as in lists.
    pub(super) fn listed(seen: &ServiceSeen, config: &Config) -> Self {
        let domain_id = Some(seen.service.domain.clone());
        Self {
            domain_id,
            ..Self::of(seen, config)
        }
    }

    /// With what is known of the backend.
    pub(super) fn with_health(self, backend_health: Option<Vec<BackendPort>>) -> Self {
        Self {
            backend_health,
            ..self
        }
    }

    pub(super) fn of(seen: &ServiceSeen, config: &Config) -> Self {
        let s = &*seen.service;
        Self {
            supported_editions: config.superset.then(|| s.supported_editions()),
            enable_policy: config.superset.then(|| s.service_type() == ServiceType::Gateway),
            ip_version: config.superset.then_some("ipv4"),
            id: s.id,
            port_id: s.port().map(|p| p.id),
            vpc_id: s.vpc,
            pool_id: s.pool,
            service_name: s.name.clone().into(),
            service_type: s.service_type(),
            server_type: s.port().map(|p| p.server_type),
            approval_enabled: s.approval_enabled,
            status: s.status(),
            project_id: s.project.clone(),
            domain_id: None,
            connection_count: seen.connection_count,
            ports: s.ports.clone(),
            tcp_proxy: s.tcp_proxy,
            tags: s.tags.clone(),
            description: s.description.clone().into(),
            created_at: s.created.at,
            updated_at: s.updated_at,
            error: FaultView::list(s.fault()),
            backend_health: None,
        }
    }
}

/// A page of services.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the shape of a page, for the OpenAPI document")]
pub(crate) struct EndpointServices {
    endpoint_services: Vec<EndpointService>,
    /// How many match, on all pages.
    total_count: usize,
}

/// What a service is created from.
#[derive(ToSchema)]
#[expect(
    dead_code,
    reason = "the shape of the body, for the OpenAPI document; the rules are model's"
)]
pub(crate) struct CreateEndpointService {
    /// The backend's port: of a load balancer, or the NIC of a server.
    port_id: IdText,
    /// The backend's VPC.
    vpc_id: IdText,
    #[schema(value_type = ServerTypeSchema)]
    server_type: String,
    #[schema(min_items = 1, max_items = 200)]
    ports: Vec<NewPortMapping>,
    /// The pool to put it in.
    #[schema(nullable)]
    pool_id: Option<IdText>,
    /// Its short name.
    #[schema(nullable, max_length = 16, pattern = "^[A-Za-z0-9_-]*$")]
    service_name: Option<String>,
    /// Whether endpoints wait for approval; the default is true.
    #[schema(nullable)]
    approval_enabled: Option<bool>,
    #[schema(nullable, inline)]
    service_type: Option<OwnServiceType>,
    /// `close` by default.
    #[schema(nullable)]
    tcp_proxy: Option<TcpProxySchema>,
    #[schema(nullable, max_items = 20)]
    tags: Option<Vec<NewTag>>,
    #[schema(nullable, max_length = 128, pattern = "^[^<>]*$")]
    description: Option<String>,
}

/// What a service can be changed by; a field left out keeps its value.
#[derive(ToSchema)]
#[expect(
    dead_code,
    reason = "the shape of the body, for the OpenAPI document; the rules are model's"
)]
pub(crate) struct UpdateEndpointService {
    /// Affects endpoints created later only.
    #[schema(nullable)]
    approval_enabled: Option<bool>,
    /// The new short name; empty removes it.
    #[schema(nullable, max_length = 16, pattern = "^[A-Za-z0-9_-]*$")]
    service_name: Option<String>,
    /// Replaces the whole list.
    #[schema(nullable, min_items = 1, max_items = 200)]
    ports: Option<Vec<NewPortMapping>>,
    /// The new backend port, in the same VPC.
    #[schema(nullable)]
    port_id: Option<IdText>,
    #[schema(nullable)]
    tcp_proxy: Option<TcpProxySchema>,
    #[schema(nullable, max_length = 128, pattern = "^[^<>]*$")]
    description: Option<String>,
}

/// The parameters of the list of services.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "the shape of the query, for the OpenAPI document")]
pub(crate) struct ServiceListParams {
    /// A part of the composed name; case is ignored.
    #[param(pattern = r"^[^<>\x00-\x1f\x7f-\x9f]*$")]
    endpoint_service_name: Option<String>,
    /// Exact.
    #[param(format = "uuid")]
    id: Option<String>,
    #[param(inline)]
    status: Option<ServiceStatusSchema>,
}

/// Create an endpoint service
///
/// Answers `creating`; ask for the service until it is `available`.
#[utoipa::path(post, path = "/v1/{project_id}/vpc-endpoint-services", tag = "Endpoint services",
    params(OfProject), request_body = CreateEndpointService,
    responses((status = 200, description = "Done; the body says what is.", body = EndpointService), Failures))]
pub(crate) async fn service_create(
    State(app): State<Arc<App>>,
    Extension(scope): Extension<Scope>,
    bytes: Bytes,
) -> Result<Json<EndpointService>, Failure> {
    let body = body::parse(&bytes)?;
    let seen = app.service_create(&scope, &body).await?;
    Ok(Json(EndpointService::of(&seen, &app.config)))
}

/// List the project's endpoint services
#[utoipa::path(get, path = "/v1/{project_id}/vpc-endpoint-services", tag = "Endpoint services",
    params(OfProject, ServiceListParams, Page),
    responses((status = 200, description = "Done; the body says what is.", body = EndpointServices), Failures))]
pub(crate) async fn service_list(
    State(app): State<Arc<App>>,
    Extension(scope): Extension<Scope>,
    QueryString(query): QueryString,
) -> Result<JsonText, Failure> {
    let (page, total_count) = app.service_list(&scope, &query).await?;
    let page = page.into_iter().map(|seen| ((seen.service.id, true), seen));
    let in_list = |seen: &ServiceSeen| EndpointService::listed(seen, &app.config);
    let services = app.written_services.each(page.collect(), in_list);
    Ok(JsonText::page("endpoint_services", &services, total_count))
}

/// Show an endpoint service
#[utoipa::path(get, path = "/v1/{project_id}/vpc-endpoint-services/{vpc_endpoint_service_id}",
    tag = "Endpoint services", params(OfService),
    responses((status = 200, description = "Done; the body says what is.", body = EndpointService), Failures))]
pub(crate) async fn service_show(
    State(app): State<Arc<App>>,
    Extension(scope): Extension<Scope>,
    ServicePath(id): ServicePath,
) -> Result<JsonText, Failure> {
    let seen = app.service_show(&scope, id).await?;
    let view = |seen: &ServiceSeen| EndpointService::of(seen, &app.config);
    let health = app
        .config
        .superset
        .then(|| BackendPort::list(&app, &seen))
        .flatten();
    let health = health.filter(|ports| ports.iter().any(|port| port.fault.is_some()));
    if health.is_some() {
        // Not what was written for others: it changes without the service.
        let shown = view(&seen).with_health(health);
        let text = serde_json::to_vec(&shown).map_err(|_| Code::E0001)?;
        return Ok(JsonText(text.into()));
    }
    Ok(JsonText(app.written_services.one((id, false), seen, view)))
}

/// Change an endpoint service
#[utoipa::path(put, path = "/v1/{project_id}/vpc-endpoint-services/{vpc_endpoint_service_id}",
    tag = "Endpoint services", params(OfService),
    request_body = UpdateEndpointService, responses((status = 200, description = "Done; the body says what is.", body = EndpointService), Failures))]
pub(crate) async fn service_update(
    State(app): State<Arc<App>>,
    Extension(scope): Extension<Scope>,
    ServicePath(id): ServicePath,
    bytes: Bytes,
) -> Result<Json<EndpointService>, Failure> {
    let body = body::parse(&bytes)?;
    let seen = app.service_update(&scope, id, &body).await?;
    Ok(Json(EndpointService::of(&seen, &app.config)))
}

/// Delete an endpoint service
#[utoipa::path(delete, path = "/v1/{project_id}/vpc-endpoint-services/{vpc_endpoint_service_id}",
    tag = "Endpoint services", params(OfService),
    responses((status = 204, description = "Ordered; it is gone as soon as that is true."), Failures))]
pub(crate) async fn service_delete(
    State(app): State<Arc<App>>,
    Extension(scope): Extension<Scope>,
    ServicePath(id): ServicePath,
) -> Result<StatusCode, Failure> {
    app.service_delete(&scope, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A service's new name.
#[derive(ToSchema)]
#[expect(
    dead_code,
    reason = "the shape of the body, for the OpenAPI document; the rules are model's"
)]
pub(crate) struct RenameEndpointService {
    /// The new short name; empty removes it.
    #[schema(max_length = 16, pattern = "^[A-Za-z0-9_-]*$")]
    endpoint_service_name: String,
}

/// A service's name.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EndpointServiceName {
    /// The composed name: `region.short.id`.
    endpoint_service_name: String,
}

/// Rename an endpoint service
#[utoipa::path(put, path = "/v1/{project_id}/vpc-endpoint-services/{vpc_endpoint_service_id}/name",
    tag = "Endpoint services", params(OfService),
    request_body = RenameEndpointService, responses((status = 200, description = "Done; the body says what is.", body = EndpointServiceName), Failures))]
pub(crate) async fn service_rename(
    State(app): State<Arc<App>>,
    Extension(scope): Extension<Scope>,
    ServicePath(id): ServicePath,
    bytes: Bytes,
) -> Result<Json<EndpointServiceName>, Failure> {
    let body = body::parse(&bytes)?;
    let seen = app.service_rename(&scope, id, &body).await?;
    Ok(Json(EndpointServiceName {
        endpoint_service_name: seen.service.name.clone().into(),
    }))
}
