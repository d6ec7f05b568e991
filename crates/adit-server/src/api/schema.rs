//! The shapes of model's values for the OpenAPI document: what a schema can say of them is said here, once.
//!
//! Nothing here is ever made: requests are read by model, whose rules have their own order and codes, and replies are
//! serialised from model's own types. A test holds the document against both (`crates/adit/tests/peers`).
#![expect(
    dead_code,
    reason = "shapes for the OpenAPI document, of which there are no values"
)]

use utoipa::{
    IntoParams, ToSchema,
    openapi::schema::{ObjectBuilder, OneOfBuilder, Schema, Type},
};

/// What every operation has in its path.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct OfProject {
    /// The caller's own project.
    #[param(pattern = "^[0-9A-Fa-f]{32}$")]
    project_id: String,
}

/// What an operation on a service has in its path.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct OfService {
    /// The caller's own project.
    #[param(pattern = "^[0-9A-Fa-f]{32}$")]
    project_id: String,
    /// One of the project's own.
    #[param(format = "uuid")]
    vpc_endpoint_service_id: String,
}

/// What an operation on a whitelist record has in its path.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct OfRecord {
    /// The caller's own project.
    #[param(pattern = "^[0-9A-Fa-f]{32}$")]
    project_id: String,
    /// One of the project's own.
    #[param(format = "uuid")]
    vpc_endpoint_service_id: String,
    /// One of the service's.
    #[param(format = "uuid")]
    permission_id: String,
}

/// What an operation on an endpoint has in its path.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct OfEndpoint {
    /// The caller's own project.
    #[param(pattern = "^[0-9A-Fa-f]{32}$")]
    project_id: String,
    /// One of the project's own.
    #[param(format = "uuid")]
    vpc_endpoint_id: String,
}

/// What an operation on a kind of resource has in its path.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct OfType {
    /// The caller's own project.
    #[param(pattern = "^[0-9A-Fa-f]{32}$")]
    project_id: String,
    #[param(inline)]
    resource_type: ResourceTypeSchema,
}

/// What an operation on one resource of a kind has in its path.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct OfResource {
    /// The caller's own project.
    #[param(pattern = "^[0-9A-Fa-f]{32}$")]
    project_id: String,
    #[param(inline)]
    resource_type: ResourceTypeSchema,
    /// One of the project's own.
    #[param(format = "uuid")]
    resource_id: String,
}

/// What the operator's operations on a project have in their path.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct OfAnyProject {
    /// Any project.
    #[param(pattern = "^[0-9A-Fa-f]{32}$")]
    project_id: String,
}

/// Which part of a list is shown.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Cut {
    /// How many to show, 10 by default; `total_count` does not depend on it.
    #[param(minimum = 0, maximum = 1000)]
    limit: Option<u32>,
    /// How many to skip; past the end there is an empty page.
    #[param(schema_with = offset)]
    offset: Option<u64>,
}

/// What the operator's operations on a service have in their path.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
pub(crate) struct OfAnyService {
    /// Anybody's.
    #[param(format = "uuid")]
    vpc_endpoint_service_id: String,
}

/// What most lists take.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Page {
    /// What the order is by, `created_at` by default; `create_at` and `update_at` are other spellings.
    #[param(inline)]
    sort_key: Option<SortKey>,
    /// `desc` by default: the newest first.
    #[param(inline)]
    sort_dir: Option<SortDir>,
    /// How many to show, 10 by default; `total_count` does not depend on it.
    #[param(minimum = 0, maximum = 1000)]
    limit: Option<u32>,
    /// How many to skip; past the end there is an empty page.
    #[param(schema_with = offset)]
    offset: Option<u64>,
}

/// Any number: one too large for us is past every end.
pub(crate) fn offset() -> utoipa::openapi::Object {
    integer().minimum(Some(0)).build()
}

/// A limit in a body, where it is a text by the documents.
pub(crate) fn limit_in_body() -> Schema {
    let number = integer().minimum(Some(1)).maximum(Some(1000));
    digits(
        "^0*([1-9][0-9]{0,2}|1000)$",
        number,
        "How many to show, 1000 by default; for `filter`.",
    )
}

/// An offset in a body, where it is a text by the documents.
pub(crate) fn offset_in_body() -> Schema {
    digits(
        "^[0-9]+$",
        integer().minimum(Some(0)),
        "How many to skip; for `filter`.",
    )
}

fn integer() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::Integer)
}

/// A number, or its digits as a text.
fn digits(pattern: &str, number: ObjectBuilder, description: &str) -> Schema {
    let text = ObjectBuilder::new()
        .schema_type(Type::String)
        .pattern(Some(pattern));
    OneOfBuilder::new()
        .item(text)
        .item(number)
        .item(ObjectBuilder::new().schema_type(Type::Null))
        .description(Some(description))
        .build()
        .into()
}

/// What a list can be ordered by.
#[derive(ToSchema)]
pub(crate) enum SortKey {
    #[schema(rename = "created_at")]
    Created,
    #[schema(rename = "updated_at")]
    Updated,
    #[schema(rename = "create_at")]
    Create,
    #[schema(rename = "update_at")]
    Update,
}

/// The direction of an order.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
pub(crate) enum SortDir {
    Desc,
    Asc,
}

/// A state of a service.
#[derive(ToSchema)]
#[schema(as = ServiceStatus, rename_all = "lowercase")]
pub(crate) enum ServiceStatusSchema {
    Creating,
    Available,
    Failed,
    Deleting,
}

/// A state of an endpoint, or of a connection, which is the same.
#[derive(ToSchema)]
#[schema(as = EndpointStatus, rename_all = "camelCase")]
pub(crate) enum EndpointStatusSchema {
    PendingAcceptance,
    Creating,
    Accepted,
    Rejected,
    Failed,
    Deleting,
}

/// The standing of an account: active, or why it is frozen.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
pub(crate) enum ActiveStatus {
    Active,
    ArrearFrozen,
    VerifyFrozen,
    PoliceFrozen,
    IllegalFrozen,
    PartnerFrozen,
}

/// The operator's switch of an endpoint.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
pub(crate) enum EnableStatus {
    Enable,
    Disable,
}

/// The type of a service and of its endpoints.
#[derive(ToSchema)]
#[schema(as = ServiceType, rename_all = "lowercase")]
pub(crate) enum ServiceTypeSchema {
    Interface,
    Gateway,
}

/// What tenants can make.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
pub(crate) enum OwnServiceType {
    Interface,
}

/// What a backend is; `VIP` and `BMS` are deprecated in favour of `LB`.
#[derive(ToSchema)]
#[schema(as = ServerType, rename_all = "UPPERCASE")]
pub(crate) enum ServerTypeSchema {
    Lb,
    Vm,
    Vip,
    Bms,
}

/// How the backend learns of the client: not at all, by a TCP option, by the PROXY protocol, by both, by the PROXY protocol
/// with the number of the client's network.
#[derive(ToSchema)]
#[schema(as = TcpProxy, rename_all = "snake_case")]
pub(crate) enum TcpProxySchema {
    Close,
    ToaOpen,
    ProxyOpen,
    Open,
    ProxyVni,
}

/// A port mapping.
#[derive(ToSchema)]
#[schema(as = PortMapping)]
pub(crate) struct PortMappingSchema {
    /// The port that is opened on the endpoint.
    #[schema(minimum = 1, maximum = 65535)]
    client_port: i32,
    /// The backend's port.
    #[schema(minimum = 1, maximum = 65535)]
    server_port: i32,
    #[schema(inline)]
    protocol: ProtocolSchema,
}

/// TCP is all there is.
#[derive(ToSchema)]
#[schema(rename_all = "UPPERCASE")]
pub(crate) enum ProtocolSchema {
    Tcp,
}

/// A port mapping, as it is sent.
#[derive(ToSchema)]
pub(crate) struct NewPortMapping {
    /// The port to open on the endpoint; once in a list.
    #[schema(minimum = 1, maximum = 65535)]
    client_port: i32,
    /// The backend's port; for one service on a backend.
    #[schema(minimum = 1, maximum = 65535)]
    server_port: i32,
    /// `TCP`, which empty means too.
    #[schema(nullable, pattern = "^([Tt][Cc][Pp])?$", example = "TCP")]
    protocol: Option<String>,
}

/// A tag.
#[derive(ToSchema)]
#[schema(as = Tag)]
pub(crate) struct TagSchema {
    /// Unique on its resource.
    #[schema(min_length = 1, max_length = 36)]
    key: String,
    #[schema(max_length = 43)]
    value: String,
}

/// A tag, as it is sent.
#[derive(ToSchema)]
pub(crate) struct NewTag {
    /// Letters, digits, `-`, `_`, `@`; unique on its resource.
    #[schema(max_length = 36, pattern = r"^[\p{L}\p{Nd}@_-]+$", example = "environment")]
    key: String,
    /// Of the same characters; empty by default.
    #[schema(
        nullable,
        max_length = 43,
        pattern = r"^[\p{L}\p{Nd}@_-]*$",
        example = "production"
    )]
    value: Option<String>,
}

/// A UUID, as it is sent.
#[derive(ToSchema)]
#[schema(as = Id, value_type = String, format = "uuid", example = "4189d3c2-8882-4871-a3c2-d380272eed88",
    pattern = "^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$")]
pub(crate) struct IdText(String);

/// An IPv4 address, as it is sent.
#[derive(ToSchema)]
#[schema(value_type = String, format = "ipv4", example = "10.1.0.77",
    pattern = r"^((25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])\.){3}(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])$")]
pub(crate) struct Address(String);

/// An IPv4 address or a block of them; bits behind the prefix are ignored.
#[derive(ToSchema)]
#[schema(value_type = String, example = "10.1.0.0/16",
    pattern = r"^((25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])\.){3}(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])(/([0-9]|[12][0-9]|3[0-2]))?$")]
pub(crate) struct Block(String);

/// `iam:domain::` and an account's id or `*`; or `*` alone. `*` means every account.
#[derive(ToSchema)]
#[schema(value_type = String, example = "iam:domain::a3f1c2d4e5b60718293a4b5c6d7e8f90", pattern = r"^(\*|iam:domain::[A-Za-z0-9*]{1,64})$")]
pub(crate) struct PermissionText(String);

/// Whom a whitelist record names: an account, or a part of an organisation.
#[derive(ToSchema)]
#[schema(as = PermissionType, rename_all = "camelCase")]
pub(crate) enum PermissionTypeSchema {
    DomainId,
    OrgPath,
}

/// What there are quotas of, and tags on.
#[derive(ToSchema)]
#[schema(as = ResourceType, rename_all = "snake_case")]
pub(crate) enum ResourceTypeSchema {
    Endpoint,
    EndpointService,
}

/// An action or a resource, as a policy names it; `*` stands for any text.
#[derive(ToSchema)]
#[schema(value_type = String, min_length = 1, pattern = r"\S", example = "obs:*:*")]
pub(crate) struct PolicyName(String);

/// A statement of a policy.
#[derive(ToSchema)]
#[schema(as = PolicyStatement, rename_all = "PascalCase")]
pub(crate) struct StatementSchema {
    /// Its name.
    #[schema(nullable)]
    sid: Option<String>,
    #[schema(inline)]
    effect: EffectSchema,
    /// The actions that it names.
    #[schema(min_items = 1)]
    action: Vec<PolicyName>,
    /// The resources that it names.
    #[schema(min_items = 1)]
    resource: Vec<PolicyName>,
    /// When it holds.
    #[schema(nullable, value_type = Option<Object>)]
    condition: Option<()>,
}

/// Whether a statement allows or denies; who denies wins.
#[derive(ToSchema)]
pub(crate) enum EffectSchema {
    Allow,
    Deny,
}
