//! Tags over HTTP (spec A.18 to A.20).

use std::{collections::BTreeSet, sync::Arc};

use adit_model::{ApiError, Code, body, id::Malformed, quota::QuotaType};
use axum::{
    Extension, Json,
    body::Bytes,
    extract::{FromRequestParts, RawPathParams, State},
    http::request::Parts,
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    schema::{NewTag, OfResource, OfType, TagSchema, limit_in_body, offset_in_body},
    shape::{Failures, Tags},
};
use crate::{
    app::{
        App, Scope,
        tag::{Tagged, TaggedResource, TagsFound},
    },
    error::Failure,
};

/// A resource that matches.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Resource {
    #[schema(format = "uuid")]
    resource_id: String,
    /// A service's composed name; an endpoint's id.
    resource_name: String,
    #[schema(value_type = Vec<TagSchema>)]
    tags: Tags,
    /// Null.
    #[schema(value_type = Option<String>)]
    resource_detail: (),
}

impl From<TaggedResource> for Resource {
    fn from(r: TaggedResource) -> Self {
        Self {
            resource_id: r.id,
            resource_name: r.name,
            tags: r.tags,
            resource_detail: (),
        }
    }
}

/// What was found.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Resources {
    /// A page, newest first; not there for `count`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Vec<Resource>, required = false)]
    resources: Option<Vec<Resource>>,
    /// How many match, on all pages.
    total_count: usize,
}

/// A key with the values that will do.
#[derive(ToSchema)]
#[expect(
    dead_code,
    reason = "the shape of the body, for the OpenAPI document; the rules are model's"
)]
pub(crate) struct AskedTag {
    /// Spaces around it do not count.
    #[schema(min_length = 1, max_length = 127, pattern = r"\S")]
    key: String,
    /// Each of at most 255 characters; none of them stands for any value. One that begins with `*` asks for a part.
    #[schema(max_items = 10)]
    values: Vec<String>,
}

/// A name that is asked for.
#[derive(ToSchema)]
#[expect(
    dead_code,
    reason = "the shape of the body, for the OpenAPI document; the rules are model's"
)]
pub(crate) struct AskedName {
    #[schema(pattern = "^resource_name$")]
    key: String,
    /// A part of the name; case is ignored.
    #[schema(max_length = 255)]
    value: String,
}

/// A query. Lists that are given have to hold together.
#[derive(ToSchema)]
#[expect(
    dead_code,
    reason = "the shape of the body, for the OpenAPI document; the rules are model's"
)]
pub(crate) struct QueryResources {
    #[schema(pattern = "^(filter|count)$")]
    action: String,
    /// All of them hold.
    #[schema(nullable, max_items = 20)]
    tags: Option<Vec<AskedTag>>,
    /// At least one of them holds.
    #[schema(nullable, max_items = 20)]
    tags_any: Option<Vec<AskedTag>>,
    /// Not all of them hold.
    #[schema(nullable, max_items = 20)]
    not_tags: Option<Vec<AskedTag>>,
    /// None of them holds.
    #[schema(nullable, max_items = 20)]
    not_tags_any: Option<Vec<AskedTag>>,
    #[schema(schema_with = limit_in_body)]
    limit: Option<String>,
    #[schema(schema_with = offset_in_body)]
    offset: Option<String>,
    /// By name.
    #[schema(nullable, max_items = 1)]
    matches: Option<Vec<AskedName>>,
}

/// Tags to add or take away, all or none.
#[derive(ToSchema)]
#[expect(
    dead_code,
    reason = "the shape of the body, for the OpenAPI document; the rules are model's"
)]
pub(crate) struct ChangeTags {
    /// `create` replaces the value of a key that is there.
    #[schema(pattern = "^(create|delete)$")]
    action: String,
    /// What to delete has to have the value, where one is given.
    #[schema(min_items = 1, max_items = 20)]
    tags: Vec<NewTag>,
}

/// A key in use.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct UsedTag {
    key: String,
    #[schema(value_type = Vec<String>)]
    values: BTreeSet<String>,
}

/// Every key in use.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct UsedTags {
    tags: Vec<UsedTag>,
}

/// The kind of resource that the path names.
pub(crate) struct ResourceType(QuotaType);

impl<S: Sync + Send> FromRequestParts<S> for ResourceType {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let word = param(parts, state, "resource_type", Code::E3070).await?;
        Ok(Self(QuotaType::parse(&word)?))
    }
}

/// The resource that the path names.
pub(crate) struct ResourcePath(Tagged);

impl<S: Sync + Send> FromRequestParts<S> for ResourcePath {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let ResourceType(kind) = ResourceType::from_request_parts(parts, state).await?;
        let code = match kind {
            QuotaType::EndpointService => Code::E3062,
            QuotaType::Endpoint => Code::E2017,
        };
        let text = param(parts, state, "resource_id", code).await?;
        let resource = match kind {
            QuotaType::EndpointService => text.parse().map(Tagged::Service),
            QuotaType::Endpoint => text.parse().map(Tagged::Endpoint),
        };
        let resource = resource.map_err(|_: Malformed| {
            ApiError::because(
                code,
                format!("resource_id: {} is not a UUID.", body::quote(&text)),
            )
        })?;
        Ok(Self(resource))
    }
}

async fn param<S: Sync + Send>(
    parts: &mut Parts,
    state: &S,
    name: &str,
    code: Code,
) -> Result<String, Failure> {
    let params = RawPathParams::from_request_parts(parts, state)
        .await
        .map_err(|e| ApiError::because(code, format!("{e}.")))?;
    let found = params.iter().find(|(n, _)| *n == name);
    Ok(found.map_or_else(String::new, |(_, value)| value.to_owned()))
}

/// Find resources by their tags
#[utoipa::path(post, path = "/v1/{project_id}/{resource_type}/resource_instances/action", tag = "Tags",
    params(OfType),
    request_body = QueryResources, responses((status = 200, description = "Done; the body says what is.", body = Resources), Failures))]
pub(crate) async fn tag_query(
    State(app): State<Arc<App>>,
    Extension(scope): Extension<Scope>,
    ResourceType(kind): ResourceType,
    bytes: Bytes,
) -> Result<Json<Resources>, Failure> {
    let TagsFound { page, total } = app.tag_query(&scope, kind, &body::parse(&bytes)?).await?;
    Ok(Json(Resources {
        resources: page.map(|page| page.into_iter().map(Resource::from).collect()),
        total_count: total,
    }))
}

/// Add tags to a resource, or take them away
#[utoipa::path(post, path = "/v1/{project_id}/{resource_type}/{resource_id}/tags/action", tag = "Tags",
    params(OfResource),
    request_body = ChangeTags, responses((status = 200, description = "Done."), Failures))]
pub(crate) async fn tag_action(
    State(app): State<Arc<App>>,
    Extension(scope): Extension<Scope>,
    ResourcePath(resource): ResourcePath,
    bytes: Bytes,
) -> Result<(), Failure> {
    app.tag_action(&scope, resource, &body::parse(&bytes)?).await
}

/// List the tags in use
#[utoipa::path(get, path = "/v1/{project_id}/{resource_type}/tags", tag = "Tags",
    params(OfType),
    responses((status = 200, description = "Done; the body says what is.", body = UsedTags), Failures))]
pub(crate) async fn tag_list(
    State(app): State<Arc<App>>,
    Extension(scope): Extension<Scope>,
    ResourceType(kind): ResourceType,
) -> Result<Json<UsedTags>, Failure> {
    let tags = app.tag_list(&scope, kind).await?;
    let tags = tags.into_iter().map(|(key, values)| UsedTag { key, values });
    Ok(Json(UsedTags { tags: tags.collect() }))
}
