//! Keystone v3, as far as clients of VPCEP call it: discovery, tokens, the catalog, projects and domains.

use std::sync::Arc;

use adit_model::{error_chain, time::Timestamp};
use adit_server::{Rejection, audit::Initiator, edge::Origin, error::Failure, iam::ROLE_OPERATOR};
use axum::{
    Json, Router,
    extract::{FromRequestParts, Path, State},
    http::{Extensions, HeaderValue, StatusCode, request::Parts},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Claims, Scope,
    accounts::{Account, Named},
    catalog::{base_url, catalog, stable_id},
    verified::Verified,
};
use crate::{
    api::call::Call,
    cloud::Cloud,
    region::{Domain, Project},
};

/// The header that carries a token that is spoken of.
const SUBJECT_TOKEN: &str = "x-subject-token";

pub(crate) fn router() -> Router<Arc<Cloud>> {
    Router::new()
        .route("/v3", get(version_show))
        .route("/v3/", get(version_show))
        .route(
            "/v3/auth/tokens",
            post(token_create).get(token_show).delete(token_revoke),
        )
        .route("/v3/auth/catalog", get(catalog_show))
        .route("/v3/auth/projects", get(own_project_list))
        .route("/v3/auth/domains", get(domain_list))
        .route("/v3/projects", get(project_list))
        .route("/v3/projects/{id}", get(project_show))
        .route("/v3/domains", get(domain_list))
        .route("/v3/users/{id}/projects", get(user_project_list))
}

/// A refusal in Keystone's form, or in that of the gateway which checks signatures for every API of the cloud.
#[derive(Debug)]
pub(crate) enum KeystoneError {
    /// Keystone's.
    Refused { status: StatusCode, message: String },
    /// A signature that does not fit.
    Signature(Failure),
}

impl KeystoneError {
    pub(crate) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self::Refused {
            status,
            message: message.into(),
        }
    }

    fn invalid(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// One text for every reason, so that nothing is learnt about who exists.
    fn unauthorized() -> Self {
        Self::new(
            StatusCode::UNAUTHORIZED,
            "The request you have made requires authentication.",
        )
    }

    fn not_found(what: &str, id: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, format!("Could not find {what}: {id:.64}."))
    }
}

impl From<Rejection> for KeystoneError {
    fn from(rejection: Rejection) -> Self {
        match rejection {
            Rejection::Invalid(message) => Self::new(StatusCode::UNAUTHORIZED, message),
            Rejection::Signature(message) => Self::Signature(Failure::Signature(message)),
            Rejection::Unavailable(message) => Self::new(StatusCode::SERVICE_UNAVAILABLE, message),
        }
    }
}

impl IntoResponse for KeystoneError {
    fn into_response(self) -> Response {
        let (status, message) = match self {
            Self::Refused { status, message } => (status, message),
            Self::Signature(failure) => return failure.into_response(),
        };
        let title = status.canonical_reason().unwrap_or("Error");
        (
            status,
            Json(json!({"error": {"code": status.as_u16(), "title": title, "message": message}})),
        )
            .into_response()
    }
}

/// The body of a request for a token.
#[derive(Deserialize)]
struct TokenRequest {
    auth: Auth,
}

#[derive(Deserialize)]
struct Auth {
    identity: IdentityPart,
    #[serde(default)]
    scope: Value,
}

#[derive(Deserialize)]
struct IdentityPart {
    methods: Vec<String>,
    password: Option<PasswordPart>,
    token: Option<TokenPart>,
}

#[derive(Deserialize)]
struct PasswordPart {
    user: UserPart,
}

#[derive(Deserialize)]
struct UserPart {
    #[serde(flatten)]
    named: NamedPart,
    domain: Option<NamedPart>,
    password: String,
}

#[derive(Deserialize)]
struct TokenPart {
    id: String,
}

#[derive(Deserialize)]
struct ScopedPart {
    #[serde(flatten)]
    named: NamedPart,
    domain: Option<NamedPart>,
}

#[derive(Deserialize)]
struct NamedPart {
    id: Option<String>,
    name: Option<String>,
}

impl NamedPart {
    fn named(self, field: &str) -> Result<Named, KeystoneError> {
        match (self.id, self.name) {
            (Some(id), _) => Ok(Named::Id(id)),
            (None, Some(name)) => Ok(Named::Name(name)),
            (None, None) => Err(KeystoneError::invalid(format!(
                "{field} has neither id nor name."
            ))),
        }
    }
}

async fn version_show(State(cloud): State<Arc<Cloud>>, origin: Origin) -> Json<Value> {
    let base = base_url(&cloud.region, origin);
    Json(json!({"version": {
        "id": "v3.14",
        "status": "stable",
        "updated": "2020-04-07T00:00:00Z",
        "links": [{"rel": "self", "href": format!("{base}/v3/")}],
        "media-types": [{"base": "application/json", "type": "application/vnd.openstack.identity-v3+json"}],
    }}))
}

async fn token_create(
    State(cloud): State<Arc<Cloud>>,
    origin: Origin,
    extensions: Extensions,
    body: axum::body::Bytes,
) -> Result<Response, KeystoneError> {
    // What serde says of a wrong form may repeat the value, which may be a password: say only where it is.
    let request: TokenRequest = serde_json::from_slice(&body).map_err(|e| {
        KeystoneError::invalid(format!(
            "The body is not a request for a token (line {}, column {}).",
            e.line(),
            e.column()
        ))
    })?;
    let methods = request.auth.identity.methods.clone();
    let (account, old) = prove(&cloud, request.auth.identity)?;
    if let Some(caller) = account.caller(&Scope::Nothing) {
        Initiator::is(&extensions, &Arc::new(caller));
    }
    let scope = scope_of(&cloud, &account, request.auth.scope)?;
    let issued = cloud.now();
    let lapse = issued
        .unix_s()
        .saturating_add(cloud.region.token_lifetime_s.into());
    let audit = uuid::Uuid::new_v4().simple().to_string();
    // A token got by a token lasts no longer, or it could be renewed for ever.
    let (expires, chain) = match old {
        Some(old) => (old.claims.expires, old.claims.chain.clone()),
        None => (Timestamp::from_unix_s(lapse), audit.clone()),
    };
    let claims = Claims {
        user: account.user.id.clone(),
        scope,
        methods,
        issued,
        expires,
        audit,
        chain,
        seal: cloud.token_key.seal(account.user),
    };
    let token = cloud.token_key.sign(&claims);
    let body = token_body(&cloud, &base_url(&cloud.region, origin), &account, &claims);
    Ok((StatusCode::CREATED, [(SUBJECT_TOKEN, token)], Json(body)).into_response())
}

/// Who is asking, and the token that proved it, if one did.
fn prove(
    cloud: &Cloud,
    identity: IdentityPart,
) -> Result<(Account<'_>, Option<Arc<Verified>>), KeystoneError> {
    match (identity.methods.as_slice(), identity.password, identity.token) {
        ([method], Some(password), _) if method == "password" => {
            let UserPart {
                named,
                domain,
                password,
            } = password.user;
            let user = named.named("auth.identity.password.user")?;
            let domain = domain
                .map(|domain| domain.named("auth.identity.password.user.domain"))
                .transpose()?;
            let account = cloud
                .region
                .account_by_password(&user, domain.as_ref(), &password);
            Ok((account.ok_or_else(KeystoneError::unauthorized)?, None))
        }
        ([method], _, Some(token)) if method == "token" => {
            let old = cloud.verify(token.id.as_bytes())?;
            let account = cloud.region.account(&Named::Id(old.claims.user.clone()), None);
            Ok((account.ok_or_else(KeystoneError::unauthorized)?, Some(old)))
        }
        _ => Err(KeystoneError::invalid(
            "auth.identity.methods must be [\"password\"] or [\"token\"], with the object of that name.",
        )),
    }
}

fn scope_of(cloud: &Cloud, account: &Account<'_>, scope: Value) -> Result<Scope, KeystoneError> {
    let part = |name: &str| -> Result<Option<ScopedPart>, KeystoneError> {
        let Some(part) = scope.get(name).filter(|part| !part.is_null()) else {
            return Ok(None);
        };
        let read = ScopedPart::deserialize(part);
        read.map(Some).map_err(|_| {
            KeystoneError::invalid(format!("auth.scope.{name} is not an object with id or name."))
        })
    };
    let wanted = if let Some(ScopedPart { named, domain }) = part("project")? {
        let project = named.named("auth.scope.project")?;
        let domain = domain
            .map(|domain| domain.named("auth.scope.project.domain"))
            .transpose()?;
        let found = cloud.region.project(&project, domain.as_ref());
        Scope::Project(found.ok_or_else(KeystoneError::unauthorized)?.1.id.clone())
    } else if let Some(ScopedPart { named, .. }) = part("domain")? {
        let found = cloud.region.domain(&named.named("auth.scope.domain")?);
        Scope::Domain(found.ok_or_else(KeystoneError::unauthorized)?.id.clone())
    } else if scope.is_null()
        || scope == "unscoped"
        || scope
            .as_object()
            .is_some_and(|s| s.is_empty() || s.contains_key("unscoped"))
    {
        Scope::Nothing
    } else {
        return Err(KeystoneError::invalid(
            "auth.scope names neither a project nor a domain.",
        ));
    };
    account
        .roles(&wanted)
        .map(|_| wanted)
        .ok_or_else(KeystoneError::unauthorized)
}

fn token_body(cloud: &Cloud, base: &str, account: &Account<'_>, claims: &Claims) -> Value {
    let Account { domain, user } = account;
    let mut token = json!({
        "methods": claims.methods,
        "user": {
            "id": user.id,
            "name": user.name,
            "domain": {"id": domain.id, "name": domain.name},
            "password_expires_at": null,
        },
        "audit_ids": if claims.audit == claims.chain { vec![&claims.audit] } else { vec![&claims.audit, &claims.chain] },
        "issued_at": claims.issued,
        "expires_at": claims.expires,
    });
    let role = |name: &String| json!({"id": stable_id(&format!("role/{name}")), "name": name});
    let roles = account.roles(&claims.scope).unwrap_or_default();
    match &claims.scope {
        Scope::Nothing => {}
        Scope::Project(id) => {
            if let Some((domain, project)) = cloud.region.project(&Named::Id(id.to_string()), None) {
                token["project"] = json!({
                    "id": project.id,
                    "name": project.name,
                    "domain": {"id": domain.id, "name": domain.name},
                });
            }
            token["is_domain"] = json!(false);
            token["roles"] = roles.iter().map(role).collect();
            token["catalog"] = catalog(&cloud.region, base, Some(id));
        }
        Scope::Domain(_) => {
            token["domain"] = json!({"id": domain.id, "name": domain.name});
            token["roles"] = roles.iter().map(role).collect();
            token["catalog"] = catalog(&cloud.region, base, None);
        }
    }
    json!({ "token": token })
}

/// The token that is spoken of, if it is good and the caller may speak of it.
fn subject(cloud: &Cloud, call: &Call) -> Result<(HeaderValue, Arc<Verified>), KeystoneError> {
    let not_found = || KeystoneError::not_found("token", "it is not valid");
    let subject = call.headers.get(SUBJECT_TOKEN);
    let subject = subject.ok_or_else(|| KeystoneError::invalid("The request has no X-Subject-Token."))?;
    let verified = cloud.verify(subject.as_bytes()).map_err(|_| not_found())?;
    let operates = call.caller.roles.iter().any(|role| role == ROLE_OPERATOR);
    if verified.claims.user != call.caller.user_id && !operates {
        return Err(KeystoneError::new(
            StatusCode::FORBIDDEN,
            "The token is another user's.",
        ));
    }
    Ok((subject.clone(), verified))
}

async fn token_show(State(cloud): State<Arc<Cloud>>, call: Call) -> Result<Response, KeystoneError> {
    let (token, verified) = subject(&cloud, &call)?;
    let claims = &verified.claims;
    let account = cloud.region.account(&Named::Id(claims.user.clone()), None);
    let account = account.ok_or_else(|| KeystoneError::not_found("token", "it is not valid"))?;
    let body = token_body(&cloud, &call.base, &account, claims);
    Ok(([(SUBJECT_TOKEN, token)], Json(body)).into_response())
}

async fn token_revoke(State(cloud): State<Arc<Cloud>>, call: Call) -> Result<StatusCode, KeystoneError> {
    let (_, verified) = subject(&cloud, &call)?;
    cloud.revoke(&verified.claims).await.map_err(|e| {
        tracing::error!(error = error_chain(&e), "A token could not be revoked.");
        KeystoneError::new(StatusCode::SERVICE_UNAVAILABLE, "The token could not be revoked.")
    })?;
    Ok(StatusCode::NO_CONTENT)
}

async fn catalog_show(State(cloud): State<Arc<Cloud>>, call: Call) -> Json<Value> {
    let catalog = catalog(&cloud.region, &call.base, call.caller.project.as_ref());
    Json(json!({"catalog": catalog, "links": {"self": format!("{}/v3/auth/catalog", call.base)}}))
}

/// The account's projects. The one project that a client may look for by name is among them.
async fn project_list(State(cloud): State<Arc<Cloud>>, call: Call) -> Json<Value> {
    let domain = cloud.region.domain_of(&call.caller.domain);
    let all = domain
        .into_iter()
        .flat_map(|domain| domain.projects.iter().map(move |p| (domain, p)));
    project_page(&call, all)
}

/// The projects that the caller has roles in.
async fn own_project_list(State(cloud): State<Arc<Cloud>>, call: Call) -> Json<Value> {
    let account = cloud
        .region
        .account(&Named::Id(call.caller.user_id.clone()), None);
    let own = account
        .into_iter()
        .flat_map(|account| account.projects().map(move |p| (account.domain, p)));
    project_page(&call, own)
}

/// The id that a path names.
struct IdPath(String);

impl<S: Send + Sync> FromRequestParts<S> for IdPath {
    type Rejection = KeystoneError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, KeystoneError> {
        match Path::<String>::from_request_parts(parts, state).await {
            Ok(Path(id)) => Ok(Self(id)),
            // Not even text: nothing has such an id.
            Err(_) => Err(KeystoneError::not_found("resource", parts.uri.path())),
        }
    }
}

async fn user_project_list(
    State(cloud): State<Arc<Cloud>>,
    IdPath(id): IdPath,
    call: Call,
) -> Result<Json<Value>, KeystoneError> {
    let account = cloud.region.account(&Named::Id(id.clone()), None);
    let account = account.filter(|account| account.domain.id == call.caller.domain);
    let account = account.ok_or_else(|| KeystoneError::not_found("user", &id))?;
    Ok(project_page(
        &call,
        account.projects().map(|p| (account.domain, p)),
    ))
}

async fn project_show(
    State(cloud): State<Arc<Cloud>>,
    IdPath(id): IdPath,
    call: Call,
) -> Result<Json<Value>, KeystoneError> {
    let found = cloud.region.project(&Named::Id(id.clone()), None);
    let found = found.filter(|(domain, _)| domain.id == call.caller.domain);
    let (domain, project) = found.ok_or_else(|| KeystoneError::not_found("project", &id))?;
    Ok(Json(
        json!({"project": project_view(&call.base, domain, project)}),
    ))
}

async fn domain_list(State(cloud): State<Arc<Cloud>>, call: Call) -> Json<Value> {
    let own = cloud.region.domain_of(&call.caller.domain).into_iter();
    let own = own.filter(|domain| call.query.allows("name", &domain.name));
    let domains: Vec<Value> = own
        .map(|domain| {
            let links = json!({"self": format!("{}/v3/domains/{}", call.base, domain.id)});
            json!({"id": domain.id, "name": domain.name, "description": "", "enabled": true, "links": links})
        })
        .collect();
    Json(json!({"domains": domains, "links": list_links(&call)}))
}

fn project_page<'a>(call: &Call, projects: impl Iterator<Item = (&'a Domain, &'a Project)>) -> Json<Value> {
    let wanted = projects.filter(|(domain, project)| {
        call.query.allows("name", &project.name) && call.query.allows("domain_id", domain.id.as_str())
    });
    let projects: Vec<Value> = wanted.map(|(d, p)| project_view(&call.base, d, p)).collect();
    Json(json!({"projects": projects, "links": list_links(call)}))
}

fn list_links(call: &Call) -> Value {
    json!({"self": format!("{}{}", call.base, call.path), "previous": null, "next": null})
}

fn project_view(base: &str, domain: &Domain, project: &Project) -> Value {
    json!({
        "id": project.id,
        "name": project.name,
        "description": "",
        "domain_id": domain.id,
        "parent_id": domain.id,
        "enabled": true,
        "is_domain": false,
        "links": {"self": format!("{base}/v3/projects/{}", project.id)},
    })
}
