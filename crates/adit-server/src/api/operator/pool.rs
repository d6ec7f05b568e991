//! Pools, as the operator sees and makes them.

use std::sync::Arc;

use adit_model::{body, id::PoolId};
use axum::{Json, body::Bytes, extract::State, http::StatusCode};
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};

use crate::{
    api::{
        schema::Cut,
        shape::{Failures, PoolPath, QueryString, Time},
    },
    app::{App, operator::pool::PoolSeen},
    error::Failure,
};

/// A pool of gateways.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Pool {
    #[schema(value_type = String, format = "uuid")]
    id: PoolId,
    name: String,
    /// Whether services go there that name none.
    default: bool,
    /// How many endpoint services are in it.
    services: usize,
    /// How many endpoints are.
    endpoints: usize,
    /// The default pool always was.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    created_at: Option<Time>,
}

impl From<PoolSeen> for Pool {
    fn from(p: PoolSeen) -> Self {
        Self {
            id: p.id,
            name: p.name,
            default: p.default,
            services: p.services,
            endpoints: p.endpoints,
            created_at: p.created.map(|created| created.at),
        }
    }
}

/// A page of pools.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Pools {
    pools: Vec<Pool>,
    /// How many there are, on all pages.
    total_count: usize,
}

/// A pool to make.
#[derive(ToSchema)]
#[expect(
    dead_code,
    reason = "the shape of the body, for the OpenAPI document; the rules are model's"
)]
pub(crate) struct CreatePool {
    #[schema(pattern = "^[A-Za-z0-9_.-]{1,64}$")]
    name: String,
}

/// What the operations on a pool have in their path.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "the shape of the path, for the OpenAPI document")]
pub(crate) struct OfPool {
    #[param(format = "uuid")]
    pool_id: String,
}

/// List all pools
#[utoipa::path(get, path = "/admin/v1/pools", operation_id = "operator_pool_list", tag = "Operator", params(Cut),
    responses((status = 200, description = "Done; the body says what is.", body = Pools), Failures))]
pub(crate) async fn pool_list(
    State(app): State<Arc<App>>,
    QueryString(query): QueryString,
) -> Result<Json<Pools>, Failure> {
    let (page, total_count) = app.operator_pool_list(&query).await?;
    Ok(Json(Pools {
        pools: page.into_iter().map(Pool::from).collect(),
        total_count,
    }))
}

/// Make a pool
///
/// Services can ask for it from then on. So far, every gateway serves every pool.
#[utoipa::path(post, path = "/admin/v1/pools", operation_id = "operator_pool_create", tag = "Operator",
    request_body = CreatePool,
    responses((status = 200, description = "Done; the body says what is.", body = Pool), Failures))]
pub(crate) async fn pool_create(State(app): State<Arc<App>>, bytes: Bytes) -> Result<Json<Pool>, Failure> {
    let body = body::parse(&bytes)?;
    Ok(Json(app.operator_pool_create(&body).await?.into()))
}

/// Remove a pool that nothing is in
#[utoipa::path(delete, path = "/admin/v1/pools/{pool_id}", operation_id = "operator_pool_delete", tag = "Operator",
    params(OfPool),
    responses((status = 204, description = "It is gone."), Failures))]
pub(crate) async fn pool_delete(
    State(app): State<Arc<App>>,
    PoolPath(id): PoolPath,
) -> Result<StatusCode, Failure> {
    app.operator_pool_delete(id).await?;
    Ok(StatusCode::NO_CONTENT)
}
