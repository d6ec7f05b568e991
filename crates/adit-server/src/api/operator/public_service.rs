//! Public services, as the operator makes them and takes them away.

use std::sync::Arc;

use adit_model::{body, service::Backend};
use axum::{Extension, Json, body::Bytes, extract::State, http::StatusCode};
use ipnet::Ipv4Net;
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    api::{
        schema::{
            Block, IdText, NewPortMapping, OfAnyService, ServerTypeSchema, ServiceTypeSchema, TcpProxySchema,
        },
        service::EndpointService,
        shape::{Failures, ServicePath},
    },
    app::{App, service::ServiceSeen},
    config::Config,
    error::Failure,
    identity::Caller,
};

/// What a public service is created from.
#[derive(ToSchema)]
#[expect(
    dead_code,
    reason = "the shape of the body, for the OpenAPI document; the rules are model's"
)]
pub(crate) struct CreatePublicService {
    /// The project whose network the backend is in.
    #[schema(pattern = "^[0-9A-Fa-f]{32}$")]
    project_id: String,
    /// `interface` by default.
    #[schema(nullable, inline)]
    service_type: Option<ServiceTypeSchema>,
    /// The whole name; no other public service has it.
    #[schema(min_length = 1, max_length = 128, pattern = r"^[^<>\x00-\x1f\x7f-\x9f]*$")]
    service_name: String,
    /// `OTC` by default.
    #[schema(nullable, min_length = 1, max_length = 64)]
    owner: Option<String>,
    /// Whether its use is said to cost something; false by default.
    #[schema(nullable)]
    is_charge: Option<bool>,
    /// The backend's VPC.
    vpc_id: IdText,
    /// Interface services: the backend's port.
    #[schema(nullable)]
    port_id: Option<IdText>,
    /// Interface services: what the port belongs to.
    #[schema(nullable, inline)]
    server_type: Option<ServerTypeSchema>,
    /// Gateway services: the blocks that clients reach at the addresses that they have.
    #[schema(nullable, min_items = 1, max_items = 16)]
    prefixes: Option<Vec<Block>>,
    /// For a gateway service, each client port leads to its own number.
    #[schema(min_items = 1, max_items = 200)]
    ports: Vec<NewPortMapping>,
    #[schema(nullable, inline)]
    tcp_proxy: Option<TcpProxySchema>,
    #[schema(nullable, max_length = 128, pattern = "^[^<>]*$")]
    description: Option<String>,
    #[schema(nullable)]
    pool_id: Option<IdText>,
}

/// A public service, as the operator sees it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PublicService {
    #[serde(flatten)]
    service: EndpointService,
    /// Whose it is said to be.
    owner: String,
    /// Whether its use is said to cost something.
    is_charge: bool,
    /// Of a gateway service.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Vec<String>, required = false)]
    prefixes: Option<Vec<Ipv4Net>>,
}

impl PublicService {
    fn of(seen: &ServiceSeen, config: &Config) -> Self {
        let public = seen.service.public.clone();
        Self {
            owner: public.as_ref().map(|p| p.owner.clone()).unwrap_or_default(),
            is_charge: public.is_some_and(|p| p.is_charge),
            prefixes: match &seen.service.backend {
                Backend::Prefixes { prefixes } => Some(prefixes.clone()),
                Backend::Port(_) => None,
            },
            service: EndpointService::listed(seen, config),
        }
    }
}

/// Create a public endpoint service
///
/// Everybody may connect to it, and nobody but the operator changes it. Answers `creating`.
#[utoipa::path(post, path = "/admin/v1/services", operation_id = "operator_public_service_create", tag = "Operator",
    request_body = CreatePublicService,
    responses((status = 200, description = "Done; the body says what is.", body = PublicService), Failures))]
pub(crate) async fn public_service_create(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Arc<Caller>>,
    bytes: Bytes,
) -> Result<Json<PublicService>, Failure> {
    let body = body::parse(&bytes)?;
    let seen = app.public_service_create(&caller.domain, &body).await?;
    Ok(Json(PublicService::of(&seen, &app.config)))
}

/// Delete a public endpoint service
#[utoipa::path(delete, path = "/admin/v1/services/{vpc_endpoint_service_id}",
    operation_id = "operator_public_service_delete", tag = "Operator", params(OfAnyService),
    responses((status = 204, description = "Ordered; it is gone as soon as that is true."), Failures))]
pub(crate) async fn public_service_delete(
    State(app): State<Arc<App>>,
    ServicePath(id): ServicePath,
) -> Result<StatusCode, Failure> {
    app.public_service_delete(id).await?;
    Ok(StatusCode::NO_CONTENT)
}
