//! The table of contents: every path of the VPCEP API, and the OpenAPI document that is generated from it.

use std::sync::Arc;

use axum::{
    Json, Router, middleware,
    routing::{get, put},
};
use utoipa::{
    OpenApi,
    openapi::{
        RefOr, Schema,
        security::{ApiKey, ApiKeyValue, SecurityScheme},
    },
};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    api::{
        access, backend, connection, description, endpoint, operator, policy, public_service, quota,
        route_table, service, shape::ErrorBody, tag, upgrade, version, whitelist, whitelist_batch,
    },
    app::App,
    auth, edge,
};

/// What the document says beyond the operations themselves.
#[derive(OpenApi)]
#[openapi(
    info(title = "Adit: VPC Endpoint API", description = "VPCEP v1. Every reply carries X-Request-Id."),
    tags((name = "Operator", description = "Not part of VPCEP: for callers with the role `admin`, in whatever scope.")),
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
    let mut tenants = tenants();
    if app.config.superset {
        tenants = tenants.merge(superset());
    }
    app.failures.know(tenants.get_openapi());
    let tenants = tenants.route_layer(middleware::from_fn_with_state(Arc::clone(&app), auth::guard));
    let operators = operators().route_layer(middleware::from_fn_with_state(
        Arc::clone(&app),
        auth::guard_operator,
    ));
    let (router, mut document) = OpenApiRouter::with_openapi(Document::openapi())
        .merge(tenants)
        .merge(operators)
        .routes(routes!(version::version_list))
        .routes(routes!(version::version_1))
        .routes(routes!(version::version_2))
        .split_for_parts();
    null_is_no_body(&mut document);
    let served = document.clone();
    let mut router = router;
    if !app.config.superset {
        // Of part B, this alone shares a path with part A, where a method that is not there would be told apart.
        router = router.route(
            "/v1/{project_id}/vpc-endpoints/{vpc_endpoint_id}",
            put(edge::absent),
        );
    }
    let router = router
        .route("/v1/", get(version::version_1))
        .route("/v2/", get(version::version_2))
        .route("/openapi.json", get(async move || Json(served)))
        .with_state(app);
    (router, document)
}

/// A body that can be left out is not `null` where it is sent, as the generated schema of an optional one says.
fn null_is_no_body(document: &mut utoipa::openapi::OpenApi) {
    let bodies = document
        .paths
        .paths
        .values_mut()
        .flat_map(|path| [&mut path.post, &mut path.put])
        .filter_map(|operation| match operation.as_mut()?.request_body.as_mut()? {
            RefOr::T(body) => Some(body),
            RefOr::Ref(_) => None,
        });
    for content in bodies.flat_map(|body| body.content.values_mut()) {
        let RefOr::T(content) = content else { continue };
        if let Some(RefOr::T(Schema::OneOf(either))) = &content.schema {
            content.schema = either.items.first().cloned();
        }
    }
}

/// VPCEP v1 (spec part A).
fn tenants() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(service::service_create, service::service_list))
        .routes(routes!(
            service::service_show,
            service::service_update,
            service::service_delete
        ))
        .routes(routes!(public_service::public_service_list))
        .routes(routes!(public_service::service_describe))
        .routes(routes!(connection::connection_list))
        .routes(routes!(connection::connection_action))
        .routes(routes!(whitelist::whitelist_list))
        .routes(routes!(whitelist::whitelist_action))
        .routes(routes!(endpoint::endpoint_create, endpoint::endpoint_list))
        .routes(routes!(endpoint::endpoint_show, endpoint::endpoint_delete))
        .routes(routes!(quota::quota_show))
        .routes(routes!(tag::tag_query))
        .routes(routes!(tag::tag_action))
        .routes(routes!(tag::tag_list))
}

/// What only Huawei's API has (spec part B): there where the operator wants it. Where not, its paths do not exist, and
/// neither does a method of it on a path of part A.
fn superset() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(whitelist_batch::whitelist_add))
        .routes(routes!(whitelist_batch::whitelist_remove))
        .routes(routes!(whitelist_batch::whitelist_describe))
        .routes(routes!(description::connection_describe))
        .routes(routes!(service::service_rename))
        .routes(routes!(backend::backend_add))
        .routes(routes!(upgrade::service_upgrade))
        .routes(routes!(upgrade::endpoint_upgrade))
        .routes(routes!(access::access_update))
        .routes(routes!(route_table::route_table_update))
        .routes(routes!(policy::policy_update, policy::policy_delete))
}

/// The operator's own, below `/admin/v1`.
fn operators() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(
            operator::failure::failure_list,
            operator::failure::failure_set
        ))
        .routes(routes!(operator::project::project_list))
        .routes(routes!(operator::quota::quota_show, operator::quota::quota_set))
        .routes(routes!(operator::account::account_list))
        .routes(routes!(
            operator::account::account_show,
            operator::account::account_set
        ))
        .routes(routes!(operator::service::service_list))
        .routes(routes!(
            operator::service::service_show,
            operator::service::service_set
        ))
        .routes(routes!(operator::endpoint::endpoint_list))
        .routes(routes!(
            operator::endpoint::endpoint_show,
            operator::endpoint::endpoint_set
        ))
        .routes(routes!(operator::diagnosis::endpoint_diagnose))
        .routes(routes!(operator::gateway::gateway_list))
        .routes(routes!(
            operator::gateway::gateway_set,
            operator::gateway::gateway_forget
        ))
        .routes(routes!(operator::connection::connection_list))
        .routes(routes!(operator::whitelist::whitelist_list))
        .routes(routes!(operator::vpc::vpc_list))
        .routes(routes!(operator::vpc::vpc_show))
        .routes(routes!(operator::pool::pool_list, operator::pool::pool_create))
        .routes(routes!(operator::pool::pool_delete))
        .routes(routes!(operator::public_service::public_service_create))
        .routes(routes!(operator::public_service::public_service_delete))
}
