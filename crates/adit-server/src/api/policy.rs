//! The policy of a gateway endpoint over HTTP (spec B.3, B.4).

use std::sync::Arc;

use adit_model::body;
use axum::{Extension, Json, body::Bytes, extract::State};
use utoipa::ToSchema;

use super::{
    endpoint::Endpoint,
    schema::{OfEndpoint, StatementSchema},
    shape::{EndpointPath, Failures},
};
use crate::{
    app::{App, Scope},
    error::Failure,
};

/// A new policy.
#[derive(ToSchema)]
#[expect(
    dead_code,
    reason = "the shape of the body, for the OpenAPI document; the rules are model's"
)]
pub(crate) struct ChangePolicy {
    /// What may be done through the endpoint; none is everything.
    #[schema(max_items = 10)]
    policy_statement: Vec<StatementSchema>,
}

/// Change an endpoint's policy
///
/// Of an endpoint of a gateway service.
#[utoipa::path(put, path = "/v1/{project_id}/vpc-endpoints/{vpc_endpoint_id}/policy", tag = "Endpoints",
    params(OfEndpoint), request_body = ChangePolicy,
    responses((status = 200, description = "Done; the body says what is.", body = Endpoint), Failures))]
pub(crate) async fn policy_update(
    State(app): State<Arc<App>>,
    Extension(scope): Extension<Scope>,
    EndpointPath(id): EndpointPath,
    bytes: Bytes,
) -> Result<Json<Endpoint>, Failure> {
    let body = body::parse(&bytes)?;
    let seen = app.policy_update(&scope, id, &body).await?;
    Ok(Json(Endpoint::of(&seen, &app.config)))
}

/// Delete an endpoint's policy
///
/// Everything may be done through it again.
#[utoipa::path(delete, path = "/v1/{project_id}/vpc-endpoints/{vpc_endpoint_id}/policy", tag = "Endpoints",
    params(OfEndpoint), responses((status = 200, description = "Done; the body says what is.", body = Endpoint), Failures))]
pub(crate) async fn policy_delete(
    State(app): State<Arc<App>>,
    Extension(scope): Extension<Scope>,
    EndpointPath(id): EndpointPath,
) -> Result<Json<Endpoint>, Failure> {
    let seen = app.policy_delete(&scope, id).await?;
    Ok(Json(Endpoint::of(&seen, &app.config)))
}
