//! An endpoint's access control over HTTP (spec B.1).

use std::sync::Arc;

use adit_model::body;
use axum::{Extension, Json, body::Bytes, extract::State};
use utoipa::ToSchema;

use super::{
    endpoint::Endpoint,
    schema::{Block, OfEndpoint},
    shape::{EndpointPath, Failures},
};
use crate::{
    app::{App, Scope},
    error::Failure,
};

/// What of an endpoint can be changed; a field left out keeps its value.
#[derive(ToSchema)]
#[expect(
    dead_code,
    reason = "the shape of the body, for the OpenAPI document; the rules are model's"
)]
pub(crate) struct UpdateEndpoint {
    /// Replaces the list of addresses and blocks that may use it.
    #[schema(nullable, max_items = 20)]
    whitelist: Option<Vec<Block>>,
    /// Whether the list is enforced.
    #[schema(nullable)]
    enable_whitelist: Option<bool>,
}

/// Change who may use an endpoint
///
/// New connections are judged by the list from the reply on; those that are open stay.
#[utoipa::path(put, path = "/v1/{project_id}/vpc-endpoints/{vpc_endpoint_id}", tag = "Endpoints",
    params(OfEndpoint), request_body = UpdateEndpoint,
    responses((status = 200, description = "Done; the body says what is.", body = Endpoint), Failures))]
pub(crate) async fn access_update(
    State(app): State<Arc<App>>,
    Extension(scope): Extension<Scope>,
    EndpointPath(id): EndpointPath,
    bytes: Bytes,
) -> Result<Json<Endpoint>, Failure> {
    let body = body::parse(&bytes)?;
    let seen = app.access_update(&scope, id, &body).await?;
    Ok(Json(Endpoint::of(&seen, &app.config)))
}
