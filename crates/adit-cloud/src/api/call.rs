//! An authenticated request, read whole.

use std::{ops::Deref, sync::Arc};

use adit_model::{iam::Verdict, id::ProjectId};
use adit_server::{Caller, Evidence, Identity, audit::Initiator, edge::Origin, iam};
use axum::{
    body::{Bytes, to_bytes},
    extract::{FromRequest, FromRequestParts, MatchedPath, Query as AxumQuery, RawPathParams, Request},
    http::{HeaderMap, Method, StatusCode},
};
use std::str::FromStr;

use crate::{
    cloud::Cloud,
    identity::{catalog::base_url, keystone::KeystoneError},
    network::{Failure, Kind},
};

/// Largest body of a request, in bytes.
const BODY_BYTES_MAX: usize = 1024 * 1024;
/// A request of somebody known.
pub(crate) struct Call {
    /// Who.
    pub(crate) caller: Arc<Caller>,
    /// The address that we were reached at.
    pub(crate) base: String,
    /// The path.
    pub(crate) path: String,
    /// The headers.
    pub(crate) headers: HeaderMap,
    /// The query.
    pub(crate) query: Query,
    /// The body.
    pub(crate) body: Bytes,
    params: Vec<(String, String)>,
}

/// A request for a project's resources.
pub(crate) struct ProjectCall {
    call: Call,
    /// The project: the token's, and the path's where it has one.
    pub(crate) project: ProjectId,
}

/// The query of a request, in its order.
#[derive(Debug, Default)]
pub(crate) struct Query(pub(crate) Vec<(String, String)>);

impl Query {
    /// Whether a value passes the filter of this name: there is none, or one that is equal.
    pub(crate) fn allows(&self, name: &str, value: &str) -> bool {
        let mut wanted = self.0.iter().filter(|(key, _)| key == name).peekable();
        wanted.peek().is_none() || wanted.any(|(_, wanted)| wanted == value)
    }

    /// The first value of this name.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }
}

impl FromRequest<Arc<Cloud>> for Call {
    type Rejection = KeystoneError;

    async fn from_request(request: Request, cloud: &Arc<Cloud>) -> Result<Self, KeystoneError> {
        let (mut parts, body) = request.into_parts();
        let body = to_bytes(body, BODY_BYTES_MAX).await.map_err(|_| {
            KeystoneError::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("The body is longer than {BODY_BYTES_MAX} bytes, or broke off."),
            )
        })?;
        let evidence = Evidence {
            method: &parts.method,
            uri: &parts.uri,
            headers: &parts.headers,
            body: &body,
        };
        let caller = cloud.authenticate(evidence).await?;
        Initiator::is(&parts.extensions, &caller);
        let bad = |what: String| KeystoneError::new(StatusCode::BAD_REQUEST, what);
        let params = RawPathParams::from_request_parts(&mut parts, cloud)
            .await
            .map_err(|e| bad(format!("The path cannot be read: {e}.")))?;
        let params = params
            .iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let AxumQuery(query) = AxumQuery::<Vec<(String, String)>>::try_from_uri(&parts.uri)
            .map_err(|e| bad(format!("The query cannot be read: {e}.")))?;
        Ok(Self {
            caller,
            base: base_url(&cloud.region, Origin::of(&parts)),
            path: parts.uri.path().to_owned(),
            headers: parts.headers,
            query: Query(query),
            body,
            params,
        })
    }
}

impl FromRequest<Arc<Cloud>> for ProjectCall {
    type Rejection = KeystoneError;

    async fn from_request(request: Request, cloud: &Arc<Cloud>) -> Result<Self, KeystoneError> {
        let pattern = request.extensions().get::<MatchedPath>();
        let action = action(request.method(), pattern.map_or("", MatchedPath::as_str));
        let reads = [Method::GET, Method::HEAD].contains(request.method());
        let call = Call::from_request(request, cloud).await?;
        let Some(project) = call.caller.project.clone() else {
            return Err(KeystoneError::new(
                StatusCode::UNAUTHORIZED,
                "The token is not scoped to a project.",
            ));
        };
        if let Some(named) = call.param("project_id") {
            let named: ProjectId = named.parse().map_err(|_| {
                KeystoneError::new(
                    StatusCode::BAD_REQUEST,
                    format!("{named:?} is not the id of a project."),
                )
            })?;
            if named != project {
                let message = format!("The token is scoped to project {project}, not to {named}.");
                return Err(KeystoneError::new(StatusCode::FORBIDDEN, message));
            }
        }
        match iam::verdict(&call.caller, &action) {
            Verdict::Allowed => {}
            // Whoever has any business in a project may look at its networks.
            Verdict::Unmentioned if reads => {}
            Verdict::Unmentioned | Verdict::Denied => {
                let user = &call.caller.user_name;
                let message = format!("User {user} may not do {action} in this project.");
                return Err(KeystoneError::new(StatusCode::FORBIDDEN, message));
            }
        }
        Ok(Self { call, project })
    }
}

/// The IAM action that a route of the companions is.
fn action(method: &Method, pattern: &str) -> String {
    const NOUNS: [&str; 7] = [
        "vpcs",
        "subnets",
        "routetables",
        "networks",
        "ports",
        "routers",
        "loadbalancers",
    ];
    let noun = pattern.split('/').rfind(|part| NOUNS.contains(part));
    let noun = noun.unwrap_or("resources");
    let service = if pattern.contains("/elb/") || noun == "loadbalancers" {
        "elb"
    } else {
        "vpc"
    };
    let verb = match *method {
        Method::POST => "create",
        Method::PUT => "update",
        Method::DELETE => "delete",
        _ => "get",
    };
    format!("{service}:{noun}:{verb}")
}

impl Deref for ProjectCall {
    type Target = Call;

    fn deref(&self) -> &Call {
        &self.call
    }
}

impl Call {
    fn param(&self, name: &str) -> Option<&str> {
        self.params
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// The id in the path. What is no id is an id of nothing.
    pub(crate) fn id<T: FromStr>(&self, kind: Kind) -> Result<T, Failure> {
        self.param_id("id", kind)
    }

    /// An id in the path, by the name that the route gives it.
    pub(crate) fn param_id<T: FromStr>(&self, name: &str, kind: Kind) -> Result<T, Failure> {
        let text = self.param(name).unwrap_or_default();
        text.parse()
            .map_err(|_| Failure::not_found(kind, text.chars().take(80).collect::<String>()))
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> Result<serde_json::Value, Failure> {
        serde_json::from_slice(&self.body)
            .map_err(|e| Failure::Invalid(format!("The body is not JSON: {e}.")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_s_action_is_its_noun_and_verb() {
        for (method, pattern, expected) in [
            (Method::POST, "/v1/{project_id}/vpcs", "vpc:vpcs:create"),
            (
                Method::DELETE,
                "/v1/{project_id}/vpcs/{vpc_id}/subnets/{id}",
                "vpc:subnets:delete",
            ),
            (
                Method::PUT,
                "/v2.0/routers/{id}/add_router_interface",
                "vpc:routers:update",
            ),
            (Method::GET, "/v2.0/extensions", "vpc:resources:get"),
            (Method::HEAD, "/v2.0/ports/{id}", "vpc:ports:get"),
            (
                Method::POST,
                "/v3/{project_id}/elb/loadbalancers",
                "elb:loadbalancers:create",
            ),
            (
                Method::DELETE,
                "/v2.0/lbaas/loadbalancers/{id}",
                "elb:loadbalancers:delete",
            ),
            (
                Method::GET,
                "/v3/{project_id}/elb/availability-zones",
                "elb:resources:get",
            ),
        ] {
            assert_eq!(action(&method, pattern), expected, "{method} {pattern}");
        }
    }
}
