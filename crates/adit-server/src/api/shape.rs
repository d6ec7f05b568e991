//! What requests and replies of several nouns have in common.

use std::str::FromStr;

use adit_model::{
    ApiError, Code, body,
    id::{DomainId, EndpointId, PoolId, ProjectId, RecordId, ServiceId, VpcId},
    listing::Query,
    node::NodeName,
    port_mapping::PortMapping,
    service::Fault,
    tag::Tag,
    time::Timestamp,
};
use axum::{
    body::Bytes,
    extract::{FromRequestParts, RawPathParams},
    http::{HeaderValue, header::CONTENT_TYPE, request::Parts},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::{IntoResponses, ToSchema};

use crate::error::Failure;

/// Reads an identifier out of the path; `code` is the answer to one that is malformed.
async fn path_id<T: FromStr, S: Sync + Send>(
    parts: &mut Parts,
    state: &S,
    name: &str,
    code: Code,
) -> Result<T, Failure> {
    let params = RawPathParams::from_request_parts(parts, state)
        .await
        .map_err(|e| ApiError::because(code, format!("{e}.")))?;
    let text = params
        .iter()
        .find(|(n, _)| *n == name)
        .map_or("", |(_, value)| value);
    let id = text
        .parse()
        .map_err(|_| ApiError::because(code, format!("{name}: {} is not well-formed.", body::quote(text))));
    Ok(id?)
}

/// The service that the path names.
pub(crate) struct ServicePath(pub ServiceId);

impl<S: Sync + Send> FromRequestParts<S> for ServicePath {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        path_id(parts, state, "vpc_endpoint_service_id", Code::E3062)
            .await
            .map(Self)
    }
}

/// The endpoint that the path names.
pub(crate) struct EndpointPath(pub EndpointId);

impl<S: Sync + Send> FromRequestParts<S> for EndpointPath {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        path_id(parts, state, "vpc_endpoint_id", Code::E2017)
            .await
            .map(Self)
    }
}

/// The whitelist record that the path names. What cannot be a record's id is none's.
pub(crate) struct RecordPath(pub RecordId);

impl<S: Sync + Send> FromRequestParts<S> for RecordPath {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        path_id(parts, state, "permission_id", Code::E0005)
            .await
            .map(Self)
    }
}

/// The account that the path names.
pub(crate) struct DomainPath(pub DomainId);

impl<S: Sync + Send> FromRequestParts<S> for DomainPath {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        path_id(parts, state, "domain_id", Code::E0002).await.map(Self)
    }
}

/// The pool that the path names.
pub(crate) struct PoolPath(pub PoolId);

impl<S: Sync + Send> FromRequestParts<S> for PoolPath {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        path_id(parts, state, "pool_id", Code::E0002).await.map(Self)
    }
}

/// The gateway that the path names.
pub(crate) struct GatewayPath(pub NodeName);

impl<S: Sync + Send> FromRequestParts<S> for GatewayPath {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        path_id(parts, state, "gateway", Code::E0002).await.map(Self)
    }
}

/// The VPC that the path names.
pub(crate) struct VpcPath(pub VpcId);

impl<S: Sync + Send> FromRequestParts<S> for VpcPath {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        path_id(parts, state, "vpc_id", Code::E0020).await.map(Self)
    }
}

/// The project that the path names.
pub(crate) struct ProjectPath(pub ProjectId);

impl<S: Sync + Send> FromRequestParts<S> for ProjectPath {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        path_id(parts, state, "project_id", Code::E0014).await.map(Self)
    }
}

/// The query string, decoded; unknown parameters stay in and are never looked at.
pub(crate) struct QueryString(pub Query);

impl<S: Sync> FromRequestParts<S> for QueryString {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        let pairs = axum::extract::Query::<Vec<(String, String)>>::try_from_uri(&parts.uri)
            .map_err(|_| ApiError::because(Code::E0002, "The query string cannot be read."))?;
        Ok(Self(Query(pairs.0)))
    }
}

/// A reply that is JSON already.
pub(crate) struct JsonText(pub Bytes);

impl JsonText {
    /// A page of resources, each of them JSON, with how many there are on all pages.
    pub(crate) fn page(name: &str, resources: &[Bytes], total_count: usize) -> Self {
        let bytes: usize = resources.iter().map(|text| text.len() + 1).sum();
        let mut page = Vec::with_capacity(bytes + PAGE_BYTES);
        page.extend_from_slice(format!("{{\"{name}\":[").as_bytes());
        for (i, text) in resources.iter().enumerate() {
            page.extend_from_slice(if i == 0 { b"" } else { b"," });
            page.extend_from_slice(text);
        }
        page.extend_from_slice(format!("],\"total_count\":{total_count}}}").as_bytes());
        Self(page.into())
    }
}

/// What a page takes beside its resources, in bytes.
const PAGE_BYTES: usize = 64;

impl IntoResponse for JsonText {
    fn into_response(self) -> Response {
        const JSON: HeaderValue = HeaderValue::from_static("application/json");
        ([(CONTENT_TYPE, JSON)], self.0).into_response()
    }
}

/// Shows whole seconds, UTC.
pub(crate) type Time = Timestamp;

/// Why a resource is `failed`.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct FaultView {
    /// A code of the catalogue.
    error_code: String,
    /// What happened.
    error_message: String,
}

impl FaultView {
    /// The `error` array: present only where there is something to say.
    pub(crate) fn list(fault: Option<&Fault>) -> Option<Vec<Self>> {
        fault.map(|f| {
            vec![Self {
                error_code: f.error_code.clone(),
                error_message: f.error_message.clone(),
            }]
        })
    }
}

/// A list of model's mappings or tags, which serialise as their schemas say.
pub(crate) type Ports = Vec<PortMapping>;
/// See [`Ports`].
pub(crate) type Tags = Vec<Tag>;

/// The body of every failed request.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the shape of a failure, for the OpenAPI document")]
pub(crate) struct ErrorBody {
    /// A code of the catalogue; decide by it alone.
    #[schema(example = "EndPoint.0002", pattern = r"^(EndPoint|Endpoint|APIGW)\.[0-9]{4}$")]
    error_code: String,
    /// What is wrong, for a person.
    error_msg: String,
}

/// Every way in which an operation can fail.
#[derive(IntoResponses)]
#[expect(
    dead_code,
    reason = "the failures of every operation, for the OpenAPI document"
)]
pub(crate) enum Failures {
    /// A rule of the API does not hold.
    #[response(status = 400)]
    Rule(ErrorBody),
    /// No token, or one that is not good.
    #[response(status = 401)]
    Credentials(ErrorBody),
    /// The caller may not do this, or not in this project.
    #[response(status = 403)]
    Permission(ErrorBody),
    /// What the path names does not exist in this project.
    #[response(status = 404)]
    Absent(ErrorBody),
    /// A fault of the service.
    #[response(status = 500)]
    Fault(ErrorBody),
    /// Something that the service needs does not answer; try again.
    #[response(status = 504)]
    Timeout(ErrorBody),
}
