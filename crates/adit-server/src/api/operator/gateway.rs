//! Gateways that are processes of their own, as the operator sees and drains them.

use std::sync::Arc;

use adit_model::{body, node::NodeName, time::Timestamp};
use axum::{Json, body::Bytes, extract::State, http::StatusCode};
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};

use crate::{
    api::{
        schema::Cut,
        shape::{Failures, GatewayPath, QueryString, Time},
    },
    app::{App, operator::gateway::GatewaySeen},
    error::Failure,
};

/// A gateway that is a process of its own.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Gateway {
    #[schema(value_type = String)]
    name: NodeName,
    /// `up`, `draining` (it gets no endpoints, and has some yet), `drained` (it has none), or `away` (it was not heard of of late).
    status: &'static str,
    /// Where it was heard from.
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    /// The version of its program.
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    /// How many of all 4,096 shards of endpoints are its.
    shards: usize,
    /// Endpoints that it was told to serve, or has yet to let go of.
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoints: Option<u64>,
    /// Connections that are open.
    #[serde(skip_serializing_if = "Option::is_none")]
    connections: Option<u64>,
    /// When it was last heard of, to a few seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    seen_at: Option<Time>,
}

impl From<GatewaySeen> for Gateway {
    fn from(seen: GatewaySeen) -> Self {
        let node = seen.node.as_deref();
        let seen_at: Option<Timestamp> = node.map(|node| node.seen_at);
        Self {
            status: match (node, seen.draining) {
                (_, true) if seen.drained => "drained",
                (Some(_), true) => "draining",
                (Some(_), false) => "up",
                (None, _) => "away",
            },
            address: node.map(|node| node.address.clone()),
            version: node.map(|node| node.version.clone()),
            shards: seen.shards,
            endpoints: node.map(|node| node.load.endpoints),
            connections: node.map(|node| node.load.connections),
            seen_at,
            name: seen.name,
        }
    }
}

/// A page of gateways.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Gateways {
    gateways: Vec<Gateway>,
    /// How many there are, on all pages.
    total_count: usize,
}

/// What a gateway is to do.
#[derive(ToSchema)]
#[expect(
    dead_code,
    reason = "the shape of the body, for the OpenAPI document; the rules are app's"
)]
pub(crate) struct SetGateway {
    /// Whether it is to get no endpoints.
    draining: bool,
}

/// What the operations on a gateway have in their path.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "the shape of the path, for the OpenAPI document")]
pub(crate) struct OfGateway {
    #[param(pattern = "^[a-z0-9][a-z0-9.-]{0,62}$")]
    gateway: String,
}

/// List all gateways
///
/// Those that are processes of their own; the one of `adit dev` is not among them.
#[utoipa::path(get, path = "/admin/v1/gateways", operation_id = "operator_gateway_list", tag = "Operator", params(Cut),
    responses((status = 200, description = "Done; the body says what is.", body = Gateways), Failures))]
pub(crate) async fn gateway_list(
    State(app): State<Arc<App>>,
    QueryString(query): QueryString,
) -> Result<Json<Gateways>, Failure> {
    let (page, total_count) = app.operator_gateway_list(&query).await?;
    Ok(Json(Gateways {
        gateways: page.into_iter().map(Gateway::from).collect(),
        total_count,
    }))
}

/// Drain a gateway, or let it have its share again
///
/// A drained gateway loses its endpoints to the others, each once another one listens for it. What is open on it is cut then.
/// Where there is no other gateway, it keeps them.
#[utoipa::path(put, path = "/admin/v1/gateways/{gateway}", operation_id = "operator_gateway_set", tag = "Operator",
    params(OfGateway), request_body = SetGateway,
    responses((status = 200, description = "Done; the body says what is.", body = Gateway), Failures))]
pub(crate) async fn gateway_set(
    State(app): State<Arc<App>>,
    GatewayPath(name): GatewayPath,
    bytes: Bytes,
) -> Result<Json<Gateway>, Failure> {
    let body = body::parse(&bytes)?;
    Ok(Json(app.operator_gateway_set(name, &body).await?.into()))
}

/// Forget a gateway that is away for good
///
/// It is not listed any more, and its part of the source addresses may be another gateway's. Only one that is `away`, or `drained` and
/// away, and whose endpoints others have. One that comes all the same is as new; until it has heard of a control plane it may serve
/// what it was told last, by addresses that are another's.
#[utoipa::path(delete, path = "/admin/v1/gateways/{gateway}", operation_id = "operator_gateway_forget", tag = "Operator",
    params(OfGateway),
    responses((status = 204, description = "It is forgotten."), Failures))]
pub(crate) async fn gateway_forget(
    State(app): State<Arc<App>>,
    GatewayPath(name): GatewayPath,
) -> Result<StatusCode, Failure> {
    app.operator_gateway_forget(name).await?;
    Ok(StatusCode::NO_CONTENT)
}
