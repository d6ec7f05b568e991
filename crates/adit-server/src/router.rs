//! The table of contents: every path of the VPCEP API, and the OpenAPI document that is generated from it.

use std::sync::Arc;

use axum::{Json, Router, middleware, routing::get};
use utoipa::{
    OpenApi,
    openapi::security::{ApiKey, ApiKeyValue, SecurityScheme},
};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    api::{connection, endpoint, quota, service, shape::ErrorBody, version, whitelist},
    app::App,
    auth,
};

/// What the document says beyond the operations themselves.
#[derive(OpenApi)]
#[openapi(
    info(title = "Adit: VPC Endpoint API", description = "VPCEP v1. Every reply carries X-Request-Id."),
    components(schemas(ErrorBody)),
    modifiers(&Token),
    security(("token" = []))
)]
struct Document;

/// The header that a token is sent in.
struct Token;

impl utoipa::Modify for Token {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let components = document.components.get_or_insert_default();
        let header = SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::new("X-Auth-Token")));
        components.add_security_scheme("token", header);
    }
}

/// The VPCEP API and its document. Whoever serves it merges what else lives on the same host and hands the whole to
/// [`crate::edge::finish`].
pub fn router(app: Arc<App>) -> (Router, utoipa::openapi::OpenApi) {
    let guarded = OpenApiRouter::new()
        .routes(routes!(service::service_create, service::service_list))
        .routes(routes!(
            service::service_show,
            service::service_update,
            service::service_delete
        ))
        .routes(routes!(connection::connection_list))
        .routes(routes!(connection::connection_action))
        .routes(routes!(whitelist::whitelist_list))
        .routes(routes!(whitelist::whitelist_action))
        .routes(routes!(endpoint::endpoint_create, endpoint::endpoint_list))
        .routes(routes!(endpoint::endpoint_show, endpoint::endpoint_delete))
        .routes(routes!(quota::quota_show))
        .route_layer(middleware::from_fn_with_state(Arc::clone(&app), auth::guard));
    let (router, document) = OpenApiRouter::with_openapi(Document::openapi())
        .merge(guarded)
        .routes(routes!(version::version_list))
        .routes(routes!(version::version_1))
        .routes(routes!(version::version_2))
        .split_for_parts();
    let served = document.clone();
    let router = router
        .route("/v1/", get(version::version_1))
        .route("/v2/", get(version::version_2))
        .route("/openapi.json", get(async move || Json(served)))
        .with_state(app);
    (router, document)
}
