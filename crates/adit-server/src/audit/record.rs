//! One record, in the terms of CADF (DMTF DSP0262): an event of type `activity` with an action, an outcome and its reason, an
//! initiator, a target and an observer.
//!
//! ```text
//! {"typeURI": "http://schemas.dmtf.org/cloud/audit/1.0/event", "id": …, "eventType": "activity", "eventTime": …,
//!  "action": "create", "name": "vpcep:epservices:create", "outcome": "success",
//!  "reason": {"reasonType": "HTTP", "reasonCode": "200"},
//!  "initiator": {"typeURI": "service/security/account/user", "id": …, "name": …, "domain": …, "project": …,
//!                "host": {"address": …, "agent": …}},
//!  "target": {"typeURI": "service/network/vpc-endpoint-services", "id": …, "project": …},
//!  "observer": {"typeURI": "service/network", "id": "adit", "name": "eu-de"}, "requestPath": …, "requestId": …}
//! ```
//!
//! Pure but for the time and the event's id. Ours beside CADF's: `requestPath` and `requestId`, `project`, and the API's own
//! `errorCode` in the reason of a refusal. Without the query: only paths that a route has are recorded.

use std::{net::IpAddr, sync::Arc, time::SystemTime};

use adit_model::id::ProjectId;
use axum::{
    body::Bytes,
    http::{Method, StatusCode},
};
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use crate::{Caller, iam};

/// How much of a path, or of a part of it, is recorded, in characters.
const TEXT_CHARS_MAX: usize = 256;
/// What stands for what is not known; CADF wants an id everywhere.
const UNKNOWN: &str = "unknown";

/// Somebody tries to change something.
#[derive(Debug)]
pub(crate) struct Attempt {
    at: SystemTime,
    action: &'static str,
    name: Option<&'static str>,
    target_type: String,
    target_id: Option<String>,
    project: Option<String>,
    path: String,
    address: Option<IpAddr>,
    agent: Option<String>,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) status: StatusCode,
    pub(crate) code: Option<&'static str>,
    pub(crate) request_id: Option<String>,
    /// The reply, of what makes something.
    pub(crate) made: Option<Bytes>,
}

/// An attempt with all that is known of it.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) attempt: Attempt,
    pub(crate) initiator: Option<Arc<Caller>>,
    /// None where nobody waited for it.
    pub(crate) outcome: Option<Outcome>,
}

fn short(text: &str) -> String {
    text.chars().take(TEXT_CHARS_MAX).collect()
}

impl Attempt {
    pub(crate) fn new(
        method: &Method,
        pattern: &str,
        path: &str,
        address: Option<IpAddr>,
        agent: Option<String>,
    ) -> Self {
        let (mut kind, mut id, mut project) = (Vec::new(), None, None);
        for (name, value) in pattern.split('/').zip(path.split('/')) {
            match name.strip_prefix('{').and_then(|name| name.strip_suffix('}')) {
                Some("project_id") => project = Some(short(value)),
                Some("resource_type") => kind.push(short(value)),
                Some(_) => id = Some(short(value)),
                None => kind.push(name.to_owned()),
            }
        }
        let versions = ["", "v1", "v2", "v2.0", "v3", "action"];
        kind.retain(|part| !versions.contains(&part.as_str()));
        // In `/admin/v1/projects/{project_id}/…` the project is what is spoken of.
        if kind.first().is_some_and(|part| part == "admin") && id.is_none() {
            id.clone_from(&project);
        }
        let area = if pattern.starts_with("/v3/auth/") {
            "security"
        } else {
            "network"
        };
        Self {
            at: SystemTime::now(),
            action: action(method, pattern, id.is_some()),
            name: iam::action(method, pattern),
            target_type: format!("service/{area}/{}", kind.join("/")),
            target_id: id,
            project,
            path: short(path),
            address,
            agent,
        }
    }

    /// Whether it makes something whose id is in the reply.
    pub(crate) fn makes(&self) -> bool {
        self.target_id.is_none() && ["create", "authenticate"].contains(&self.action)
    }
}

/// The word that CADF has for what a route does.
fn action(method: &Method, pattern: &str, names_one: bool) -> &'static str {
    match (method, pattern) {
        (&Method::POST, "/v3/auth/tokens") => "authenticate",
        (&Method::DELETE, "/v3/auth/tokens") => "revoke",
        (&Method::DELETE, _) => "delete",
        (&Method::POST, _) if !names_one => "create",
        _ => "update",
    }
}

/// The id of what a reply says was made: `{"id": …}`, the same in an object of one name, or the name of a token.
fn id_in(reply: &[u8]) -> Option<String> {
    let reply: Value = serde_json::from_slice(reply).ok()?;
    let within = reply
        .as_object()
        .filter(|o| o.len() == 1)
        .and_then(|o| o.values().next());
    let one = |object: &Value| {
        object["id"]
            .as_str()
            .or(object["audit_ids"][0].as_str())
            .map(short)
    };
    one(&reply).or_else(|| one(within?))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Event<'a> {
    #[serde(rename = "typeURI")]
    type_uri: &'static str,
    id: Uuid,
    event_type: &'static str,
    event_time: String,
    action: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'static str>,
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<Reason>,
    initiator: Resource<'a>,
    target: Resource<'a>,
    observer: Resource<'a>,
    request_path: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Reason {
    reason_type: &'static str,
    reason_code: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_code: Option<&'static str>,
}

#[derive(Clone, Copy, Serialize)]
struct Resource<'a> {
    #[serde(rename = "typeURI")]
    type_uri: &'a str,
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    domain: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    project: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<Host<'a>>,
}

#[derive(Clone, Copy, Serialize)]
struct Host<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    agent: Option<&'a str>,
}

impl Record {
    /// The record as a line of the log, its end included.
    pub(crate) fn line(&self, region: &str) -> Vec<u8> {
        let Self {
            attempt,
            initiator,
            outcome,
        } = self;
        let made = outcome.as_ref().and_then(|outcome| outcome.made.as_deref());
        let made = made.and_then(id_in);
        let plain = Resource {
            type_uri: "",
            id: UNKNOWN,
            name: None,
            domain: None,
            project: None,
            host: None,
        };
        let event = Event {
            type_uri: "http://schemas.dmtf.org/cloud/audit/1.0/event",
            id: Uuid::new_v4(),
            event_type: "activity",
            event_time: jiff::Timestamp::try_from(attempt.at)
                .unwrap_or_default()
                .strftime("%Y-%m-%dT%H:%M:%S%.6fZ")
                .to_string(),
            action: attempt.action,
            name: attempt.name,
            outcome: match outcome {
                Some(outcome) if outcome.status.is_success() => "success",
                Some(_) => "failure",
                None => "unknown",
            },
            reason: outcome.as_ref().map(|outcome| Reason {
                reason_type: "HTTP",
                reason_code: outcome.status.as_u16().to_string(),
                error_code: outcome.code,
            }),
            initiator: Resource {
                type_uri: "service/security/account/user",
                id: initiator.as_ref().map_or(UNKNOWN, |caller| &caller.user_id),
                name: initiator.as_ref().map(|caller| caller.user_name.as_str()),
                domain: initiator.as_ref().map(|caller| caller.domain.as_str()),
                project: initiator
                    .as_ref()
                    .and_then(|c| c.project.as_ref())
                    .map(ProjectId::as_str),
                host: Some(Host {
                    address: attempt.address,
                    agent: attempt.agent.as_deref(),
                }),
            },
            target: Resource {
                type_uri: &attempt.target_type,
                id: attempt
                    .target_id
                    .as_deref()
                    .or(made.as_deref())
                    .unwrap_or(UNKNOWN),
                project: attempt.project.as_deref(),
                ..plain
            },
            observer: Resource {
                type_uri: "service/network",
                id: "adit",
                name: Some(region),
                ..plain
            },
            request_path: &attempt.path,
            request_id: outcome.as_ref().and_then(|outcome| outcome.request_id.as_deref()),
        };
        #[expect(
            clippy::expect_used,
            reason = "a record is a struct of texts, which always has a JSON form"
        )]
        let mut line = serde_json::to_vec(&event).expect("a record has a JSON form");
        line.push(b'\n');
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt(method: Method, pattern: &str, path: &str) -> Attempt {
        Attempt::new(&method, pattern, path, None, None)
    }

    #[test]
    fn a_route_says_what_is_done_to_what() {
        let service = "/v1/{project_id}/vpc-endpoint-services";
        for (method, pattern, path, expected) in [
            (
                Method::POST,
                service.to_owned(),
                "/v1/P/vpc-endpoint-services",
                ("create", "service/network/vpc-endpoint-services", None),
            ),
            (
                Method::DELETE,
                format!("{service}/{{id}}"),
                "/v1/P/vpc-endpoint-services/S",
                ("delete", "service/network/vpc-endpoint-services", Some("S")),
            ),
            (
                Method::POST,
                format!("{service}/{{id}}/connections/action"),
                "/v1/P/vpc-endpoint-services/S/connections/action",
                (
                    "update",
                    "service/network/vpc-endpoint-services/connections",
                    Some("S"),
                ),
            ),
            (
                Method::POST,
                "/v1/{project_id}/{resource_type}/{resource_id}/tags/action".to_owned(),
                "/v1/P/endpoint/E/tags/action",
                ("update", "service/network/endpoint/tags", Some("E")),
            ),
            (
                Method::PUT,
                "/admin/v1/projects/{project_id}/quotas".to_owned(),
                "/admin/v1/projects/P/quotas",
                ("update", "service/network/admin/projects/quotas", Some("P")),
            ),
            (
                Method::POST,
                "/v3/auth/tokens".to_owned(),
                "/v3/auth/tokens",
                ("authenticate", "service/security/auth/tokens", None),
            ),
            (
                Method::DELETE,
                "/v3/auth/tokens".to_owned(),
                "/v3/auth/tokens",
                ("revoke", "service/security/auth/tokens", None),
            ),
            (
                Method::PUT,
                "/v2.0/routers/{id}/add_router_interface".to_owned(),
                "/v2.0/routers/R/add_router_interface",
                (
                    "update",
                    "service/network/routers/add_router_interface",
                    Some("R"),
                ),
            ),
        ] {
            let attempt = attempt(method, &pattern, path);
            let seen = (
                attempt.action,
                attempt.target_type.as_str(),
                attempt.target_id.as_deref(),
            );
            assert_eq!(seen, expected, "{pattern}");
        }
    }

    #[test]
    fn what_was_made_is_found_in_the_reply() {
        for (reply, expected) in [
            (r#"{"id": "a", "name": "b"}"#, Some("a")),
            (r#"{"vpc": {"id": "a", "name": "b"}}"#, Some("a")),
            (
                r#"{"token": {"audit_ids": ["a", "b"], "user": {"id": "c"}}}"#,
                Some("a"),
            ),
            (r#"{"a": {"id": "b"}, "c": {}}"#, None),
            (r#"{"vpcs": [{"id": "b"}]}"#, None),
            (r#"{"id": 7}"#, None),
            ("[]", None),
            ("", None),
        ] {
            assert_eq!(id_in(reply.as_bytes()).as_deref(), expected, "{reply}");
        }
    }

    #[test]
    fn what_a_client_wrote_cannot_break_a_line() {
        let record = Record {
            attempt: Attempt::new(
                &Method::DELETE,
                "/v1/{project_id}/vpc-endpoints/{id}",
                &format!("/v1/P/vpc-endpoints/{}", "%0a\"".repeat(1000)),
                Some(IpAddr::from([192, 0, 2, 1])),
                Some("a\n\"b\u{2028}".to_owned()),
            ),
            initiator: None,
            outcome: None,
        };
        let line = String::from_utf8(record.line("eu-de")).unwrap();
        assert_eq!(line.lines().count(), 1);
        assert!(line.len() < 4096, "{line}");
        let read: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(read["outcome"], "unknown");
        assert_eq!(read["initiator"]["id"], "unknown");
        assert_eq!(read["initiator"]["host"]["address"], "192.0.2.1");
        assert_eq!(read["reason"], Value::Null);
    }
}
