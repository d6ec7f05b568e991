//! Endpoints over HTTP (spec A.13 to A.16).

use std::{net::Ipv4Addr, sync::Arc};

use adit_model::{
    body,
    endpoint::{EndpointStatus, SPECIFICATION},
    id::{EndpointId, MarkerId, PoolId, ProjectId, RouteTableId, ServiceId, SubnetId, VpcId},
    name,
    policy::{self, Statement},
    service::ServiceType,
};
use axum::{Extension, Json, body::Bytes, extract::State, http::StatusCode};
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};

use super::schema::{
    ActiveStatus, Address, Block, EnableStatus, EndpointStatusSchema, IdText, NewTag, OfEndpoint, OfProject,
    Page, ServiceTypeSchema, StatementSchema, TagSchema,
};
use super::shape::{EndpointPath, Failures, FaultView, JsonText, QueryString, Tags, Time};
use crate::{
    app::{App, Scope, endpoint::EndpointSeen},
    config::Config,
    error::Failure,
};

/// An endpoint.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Endpoint {
    #[schema(value_type = String, format = "uuid")]
    id: EndpointId,
    #[schema(value_type = ServiceTypeSchema)]
    service_type: ServiceType,
    #[schema(value_type = EndpointStatusSchema)]
    status: EndpointStatus,
    /// The state of the account.
    #[schema(value_type = Vec<ActiveStatus>)]
    active_status: Vec<&'static str>,
    /// The operator's switch.
    #[schema(value_type = EnableStatus)]
    enable_status: &'static str,
    #[schema(value_type = String, format = "uuid")]
    endpoint_service_id: ServiceId,
    endpoint_service_name: String,
    /// The packet id of the connection.
    #[schema(value_type = i32, minimum = 1, maximum = 2147483647)]
    marker_id: MarkerId,
    #[schema(value_type = String, format = "uuid")]
    vpc_id: VpcId,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = "uuid")]
    subnet_id: Option<SubnetId>,
    #[schema(value_type = String)]
    project_id: ProjectId,
    /// Of an interface endpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = bool, required = false)]
    enable_dns: Option<bool>,
    /// Once there is an address to name; never in the reply to a create.
    #[serde(skip_serializing_if = "Option::is_none")]
    dns_names: Option<Vec<String>>,
    /// While `accepted`, or `rejected` after that.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = "ipv4")]
    ip: Option<Ipv4Addr>,
    /// Of an interface endpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Vec<String>, required = false)]
    whitelist: Option<Vec<String>>,
    /// Of an interface endpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = bool, required = false)]
    enable_whitelist: Option<bool>,
    /// Of a gateway endpoint: the route tables that lead to the service.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Vec<String>, required = false)]
    routetables: Option<Vec<RouteTableId>>,
    /// Of a gateway endpoint: what may be done through it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Vec<StatementSchema>, required = false)]
    policy_statement: Option<Vec<Statement>>,
    specification_name: &'static str,
    #[schema(value_type = String, format = "uuid")]
    endpoint_pool_id: PoolId,
    #[schema(value_type = Vec<TagSchema>)]
    tags: Tags,
    description: String,
    #[schema(value_type = String, format = DateTime)]
    created_at: Time,
    #[schema(value_type = String, format = DateTime)]
    updated_at: Time,
    /// Present only in `failed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Vec<FaultView>>,
}

impl Endpoint {
    pub(super) fn of(seen: &EndpointSeen, config: &Config) -> Self {
        let e = &*seen.endpoint;
        let ip = e.shown_ip();
        let dns = ip
            .filter(|_| e.interface().is_some_and(|leg| leg.enable_dns))
            .map(|_| vec![name::dns(e.id, &config.region, &config.dns_suffix)]);
        Self {
            id: e.id,
            service_type: e.service_type(),
            status: e.status(),
            active_status: seen.active_status(),
            enable_status: e.enable_status(),
            endpoint_service_id: e.service,
            endpoint_service_name: seen.service_name().to_owned(),
            marker_id: e.marker,
            vpc_id: e.vpc,
            subnet_id: e.interface().map(|leg| leg.subnet),
            project_id: e.project.clone(),
            enable_dns: e.interface().map(|leg| leg.enable_dns),
            dns_names: dns,
            ip,
            whitelist: e.interface().map(|leg| leg.whitelist.clone()),
            enable_whitelist: e.interface().map(|leg| leg.enable_whitelist),
            routetables: e.gateway().map(|leg| leg.route_tables.clone()),
            policy_statement: e.gateway().map(|leg| {
                if leg.policy.is_empty() {
                    policy::full_access()
                } else {
                    leg.policy.clone()
                }
            }),
            specification_name: SPECIFICATION,
            endpoint_pool_id: e.pool,
            tags: e.tags.clone(),
            description: e.description.clone().into(),
            created_at: e.created.at,
            updated_at: e.updated_at,
            error: FaultView::list(e.fault()),
        }
    }
}

/// A page of endpoints.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the shape of a page, for the OpenAPI document")]
pub(crate) struct Endpoints {
    endpoints: Vec<Endpoint>,
    /// How many match, on all pages.
    total_count: usize,
}

/// What an endpoint is created from.
#[derive(ToSchema)]
#[expect(
    dead_code,
    reason = "the shape of the body, for the OpenAPI document; the rules are model's"
)]
pub(crate) struct CreateEndpoint {
    /// The service to connect to.
    endpoint_service_id: IdText,
    /// The VPC to live in.
    vpc_id: IdText,
    /// Interface services: the subnet that its address is from.
    #[schema(nullable)]
    subnet_id: Option<IdText>,
    /// Its address; any free one by default.
    #[schema(nullable)]
    port_ip: Option<Address>,
    /// Whether to give it a name in the VPC's private DNS.
    #[schema(nullable)]
    enable_dns: Option<bool>,
    /// At most 20 addresses and blocks that may use it.
    #[schema(nullable, max_items = 20)]
    whitelist: Option<Vec<Block>>,
    /// Whether the list is enforced.
    #[schema(nullable)]
    enable_whitelist: Option<bool>,
    /// Gateway services: the route tables that are to lead there; the VPC's default one by default.
    #[schema(nullable)]
    routetables: Option<Vec<IdText>>,
    /// Gateway services: what may be done through it; everything by default.
    #[schema(nullable, max_items = 10)]
    policy_statement: Option<Vec<StatementSchema>>,
    /// There is one.
    #[schema(nullable, pattern = "^default$")]
    specification_name: Option<String>,
    #[schema(nullable, max_items = 20)]
    tags: Option<Vec<NewTag>>,
    #[schema(nullable, max_length = 128, pattern = "^[^<>]*$")]
    description: Option<String>,
}

/// The parameters of the list of endpoints.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "the shape of the query, for the OpenAPI document")]
pub(crate) struct EndpointListParams {
    /// A part of the service's composed name; case is ignored.
    #[param(pattern = r"^[^<>\x00-\x1f\x7f-\x9f]*$")]
    endpoint_service_name: Option<String>,
    /// Exact.
    #[param(format = "uuid")]
    vpc_id: Option<String>,
    /// Exact.
    #[param(format = "uuid")]
    id: Option<String>,
}

/// Create an endpoint
///
/// Answers `pendingAcceptance` where the service's owner decides, else `creating`.
#[utoipa::path(post, path = "/v1/{project_id}/vpc-endpoints", tag = "Endpoints",
    params(OfProject), request_body = CreateEndpoint,
    responses((status = 200, description = "Done; the body says what is.", body = Endpoint), Failures))]
pub(crate) async fn endpoint_create(
    State(app): State<Arc<App>>,
    Extension(scope): Extension<Scope>,
    bytes: Bytes,
) -> Result<Json<Endpoint>, Failure> {
    let body = body::parse(&bytes)?;
    let seen = app.endpoint_create(&scope, body).await?;
    Ok(Json(Endpoint::of(&seen, &app.config)))
}

/// List the project's endpoints
#[utoipa::path(get, path = "/v1/{project_id}/vpc-endpoints", tag = "Endpoints",
    params(OfProject, EndpointListParams, Page),
    responses((status = 200, description = "Done; the body says what is.", body = Endpoints), Failures))]
pub(crate) async fn endpoint_list(
    State(app): State<Arc<App>>,
    Extension(scope): Extension<Scope>,
    QueryString(query): QueryString,
) -> Result<JsonText, Failure> {
    let (page, total_count) = app.endpoint_list(&scope, &query).await?;
    let page = page.into_iter().map(|seen| (seen.endpoint.id, seen));
    let view = |seen: &EndpointSeen| Endpoint::of(seen, &app.config);
    let endpoints = app.written_endpoints.each(page.collect(), view);
    Ok(JsonText::page("endpoints", &endpoints, total_count))
}

/// Show an endpoint
#[utoipa::path(get, path = "/v1/{project_id}/vpc-endpoints/{vpc_endpoint_id}", tag = "Endpoints",
    params(OfEndpoint),
    responses((status = 200, description = "Done; the body says what is.", body = Endpoint), Failures))]
pub(crate) async fn endpoint_show(
    State(app): State<Arc<App>>,
    Extension(scope): Extension<Scope>,
    EndpointPath(id): EndpointPath,
) -> Result<JsonText, Failure> {
    let seen = app.endpoint_show(&scope, id).await?;
    let view = |seen: &EndpointSeen| Endpoint::of(seen, &app.config);
    Ok(JsonText(app.written_endpoints.one(id, seen, view)))
}

/// The parameters of an endpoint's deletion.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "the shape of the query, for the OpenAPI document")]
pub(crate) struct EndpointDeleteParams {
    /// How many seconds the connections that there are may go on; without, the region's setting counts. Of the superset.
    #[param(minimum = 0, maximum = 300)]
    drain_s: Option<u32>,
}

/// Delete an endpoint
#[utoipa::path(delete, path = "/v1/{project_id}/vpc-endpoints/{vpc_endpoint_id}", tag = "Endpoints",
    params(OfEndpoint, EndpointDeleteParams),
    responses((status = 204, description = "Ordered; it is gone as soon as that is true."), Failures))]
pub(crate) async fn endpoint_delete(
    State(app): State<Arc<App>>,
    Extension(scope): Extension<Scope>,
    EndpointPath(id): EndpointPath,
    QueryString(query): QueryString,
) -> Result<StatusCode, Failure> {
    app.endpoint_delete(&scope, id, &query).await?;
    Ok(StatusCode::NO_CONTENT)
}
