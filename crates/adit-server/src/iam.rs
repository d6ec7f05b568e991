//! What a caller may do: the table from route to IAM action, and the system roles.
//!
//! Owns authorisation; never looks at a resource (whose it is, is the operation's business: not yours is not found). A
//! route that is missing in the table is refused to everybody, and a test fails when one is. System roles are policies like
//! an account's own; how policies are evaluated is `adit-model`'s `iam`.

use std::sync::LazyLock;

use adit_model::{
    ApiError, Code,
    iam::{Pattern, Policy, Verdict, decide},
};
use axum::http::Method;

use crate::identity::Caller;

/// Which action a route is (spec: IAM actions).
const ACTIONS: &[(Method, &str, &str)] = &[
    (
        Method::POST,
        "/v1/{project_id}/vpc-endpoint-services",
        "vpcep:epservices:create",
    ),
    (
        Method::GET,
        "/v1/{project_id}/vpc-endpoint-services",
        "vpcep:epservices:list",
    ),
    (
        Method::GET,
        "/v1/{project_id}/vpc-endpoint-services/{vpc_endpoint_service_id}",
        "vpcep:epservices:get",
    ),
    (
        Method::PUT,
        "/v1/{project_id}/vpc-endpoint-services/{vpc_endpoint_service_id}",
        "vpcep:epservices:update",
    ),
    (
        Method::DELETE,
        "/v1/{project_id}/vpc-endpoint-services/{vpc_endpoint_service_id}",
        "vpcep:epservices:delete",
    ),
    (
        Method::GET,
        "/v1/{project_id}/vpc-endpoint-services/{vpc_endpoint_service_id}/connections",
        "vpcep:connections:list",
    ),
    (
        Method::POST,
        "/v1/{project_id}/vpc-endpoint-services/{vpc_endpoint_service_id}/connections/action",
        "vpcep:connections:update",
    ),
    (
        Method::GET,
        "/v1/{project_id}/vpc-endpoint-services/{vpc_endpoint_service_id}/permissions",
        "vpcep:permissions:list",
    ),
    (
        Method::POST,
        "/v1/{project_id}/vpc-endpoint-services/{vpc_endpoint_service_id}/permissions/action",
        "vpcep:permissions:update",
    ),
    (
        Method::GET,
        "/v1/{project_id}/vpc-endpoint-services/public",
        "vpcep:pubEpservices:list",
    ),
    (
        Method::GET,
        "/v1/{project_id}/vpc-endpoint-services/describe",
        "vpcep:epserviceDesc:get",
    ),
    (
        Method::POST,
        "/v1/{project_id}/vpc-endpoints",
        "vpcep:endpoints:create",
    ),
    (
        Method::GET,
        "/v1/{project_id}/vpc-endpoints",
        "vpcep:endpoints:list",
    ),
    (
        Method::GET,
        "/v1/{project_id}/vpc-endpoints/{vpc_endpoint_id}",
        "vpcep:endpoints:get",
    ),
    (
        Method::DELETE,
        "/v1/{project_id}/vpc-endpoints/{vpc_endpoint_id}",
        "vpcep:endpoints:delete",
    ),
    (
        Method::PUT,
        "/v1/{project_id}/vpc-endpoints/{vpc_endpoint_id}/routetables",
        "vpcep:epRouters:update",
    ),
    (
        Method::PUT,
        "/v1/{project_id}/vpc-endpoints/{vpc_endpoint_id}/policy",
        "vpcep:endpoints:update",
    ),
    (
        Method::DELETE,
        "/v1/{project_id}/vpc-endpoints/{vpc_endpoint_id}/policy",
        "vpcep:endpoints:delete",
    ),
    (Method::GET, "/v1/{project_id}/quotas", "vpcep:quotas:get"),
    (
        Method::POST,
        "/v1/{project_id}/{resource_type}/resource_instances/action",
        "vpcep:resource:list",
    ),
    (
        Method::POST,
        "/v1/{project_id}/{resource_type}/{resource_id}/tags/action",
        "vpcep:tags:update",
    ),
    (
        Method::GET,
        "/v1/{project_id}/{resource_type}/tags",
        "vpcep:tags:list",
    ),
    (
        Method::POST,
        "/v1/{project_id}/vpc-endpoint-services/{vpc_endpoint_service_id}/permissions/batch-create",
        "vpcep:permissions:update",
    ),
    (
        Method::POST,
        "/v1/{project_id}/vpc-endpoint-services/{vpc_endpoint_service_id}/permissions/batch-delete",
        "vpcep:permissions:update",
    ),
    (
        Method::PUT,
        "/v1/{project_id}/vpc-endpoint-services/{vpc_endpoint_service_id}/permissions/{permission_id}",
        "vpcep:permissions:update",
    ),
    (
        Method::PUT,
        "/v1/{project_id}/vpc-endpoints/{vpc_endpoint_id}",
        "vpcep:endpoints:update",
    ),
    (
        Method::PUT,
        "/v1/{project_id}/vpc-endpoint-services/{vpc_endpoint_service_id}/connections/description",
        "vpcep:connections:update",
    ),
    (
        Method::PUT,
        "/v1/{project_id}/vpc-endpoint-services/{vpc_endpoint_service_id}/name",
        "vpcep:epservices:update",
    ),
    (
        Method::POST,
        "/v2/{project_id}/vpc-endpoint-services/{vpc_endpoint_service_id}/add-server-resources",
        "vpcep:epservices:update",
    ),
    (
        Method::POST,
        "/v2/{project_id}/vpc-endpoint-services/{vpc_endpoint_service_id}/upgrade",
        "vpcep:epservices:update",
    ),
    (
        Method::POST,
        "/v2/{project_id}/vpc-endpoints/{vpc_endpoint_id}/upgrade",
        "vpcep:endpoints:update",
    ),
];

/// The operator's role.
pub const ROLE_OPERATOR: &str = "admin";

/// The system's roles, and the actions that each allows.
///
/// `te_admin` is the account itself and who it has made its administrator; it may call everything. The clients of this API
/// expect whoever may make endpoints to be able to look after networks too.
const ROLES: &[(&str, &[&str])] = &[
    (ROLE_OPERATOR, EVERYTHING),
    ("te_admin", EVERYTHING),
    ("VPCEndpoint Administrator", EVERYTHING),
    ("VPCEndpoint FullAccess", EVERYTHING),
    ("VPCEndpoint ReadOnlyAccess", &["vpcep:*:get", "vpcep:*:list"]),
    ("VPC Administrator", &["vpc:*:*", "elb:*:*"]),
];
const EVERYTHING: &[&str] = &["vpcep:*:*", "vpc:*:*", "elb:*:*"];

/// The system's roles as policies.
static SYSTEM: LazyLock<Vec<(&str, Policy)>> = LazyLock::new(|| {
    #[expect(
        clippy::expect_used,
        reason = "the table is part of the program, and a test reads it"
    )]
    let policy = |actions| Policy::allow(actions).expect("a system role names actions");
    ROLES
        .iter()
        .map(|(role, actions)| (*role, policy(actions)))
        .collect()
});

/// Whether a role is one of the system's.
pub fn is_system_role(name: &str) -> bool {
    ROLES.iter().any(|(role, _)| *role == name)
}

/// Whether a pattern of VPCEP's actions, in a policy, is for nothing: most likely a slip of the pen.
pub fn is_idle(pattern: &Pattern) -> bool {
    pattern.service() == "vpcep" && !ACTIONS.iter().any(|(.., action)| pattern.matches(action))
}

/// The action of a route, by its method and its pattern.
pub fn action(method: &Method, pattern: &str) -> Option<&'static str> {
    // Every GET route answers HEAD too.
    let method = if method == Method::HEAD {
        &Method::GET
    } else {
        method
    };
    ACTIONS
        .iter()
        .find(|(m, p, _)| m == method && *p == pattern)
        .map(|(_, _, action)| *action)
}

/// What the caller's roles and policies say of an action.
pub fn verdict(caller: &Caller, action: &str) -> Verdict {
    let has = |role: &str| caller.roles.iter().any(|name| name == role);
    let system = SYSTEM
        .iter()
        .filter(|(role, _)| has(role))
        .map(|(_, policy)| policy);
    decide(
        system.chain(caller.policies.iter().map(|policy| &**policy)),
        action,
    )
}

/// Whether the caller's roles and policies allow an action.
///
/// # Errors
/// 0004.
pub fn authorise(caller: &Caller, action: Option<&str>) -> Result<(), ApiError> {
    let user = &caller.user_name;
    let why = match action.map(|action| (action, verdict(caller, action))) {
        Some((_, Verdict::Allowed)) => return Ok(()),
        Some((action, Verdict::Unmentioned)) => format!("User {user} lacks the action {action}."),
        Some((action, Verdict::Denied)) => format!("A policy denies user {user} the action {action}."),
        None => "This route has no action that anybody could be allowed.".to_owned(),
    };
    Err(ApiError::because(Code::E0004, why))
}

/// Whether the caller is an operator.
///
/// # Errors
/// 0004.
pub fn authorise_operator(caller: &Caller) -> Result<(), ApiError> {
    if caller.roles.iter().any(|role| role == ROLE_OPERATOR) {
        return Ok(());
    }
    Err(ApiError::because(
        Code::E0004,
        format!(
            "User {} lacks the operator's role, {ROLE_OPERATOR}.",
            caller.user_name
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(roles: &[&str]) -> Caller {
        Caller {
            user_id: "u".into(),
            user_name: "u".into(),
            domain: "d".parse().unwrap(),
            project: None,
            roles: roles.iter().map(|r| (*r).to_owned()).collect(),
            policies: Vec::new(),
        }
    }

    fn allowed(roles: &[&str], action: &str) -> bool {
        let result = authorise(&caller(roles), Some(action));
        result.map_err(|e| assert_eq!(e.code, Code::E0004)).is_ok()
    }

    #[test]
    fn readers_read_and_administrators_do_everything() {
        for (_, _, action) in ACTIONS {
            let reads = action.ends_with(":get") || action.ends_with(":list");
            assert_eq!(
                allowed(&["VPCEndpoint ReadOnlyAccess"], action),
                reads,
                "{action}"
            );
            for role in [
                "VPCEndpoint FullAccess",
                "VPCEndpoint Administrator",
                "te_admin",
                ROLE_OPERATOR,
            ] {
                assert!(allowed(&["x", role], action), "{role} {action}");
            }
            for roles in [&[][..], &["VPC Administrator"], &["te_Admin"], &["vpcep:*:*"]] {
                assert!(!allowed(roles, action), "{roles:?} {action}");
            }
        }
        assert!(authorise(&caller(&["te_admin"]), None).is_err());
    }

    #[test]
    fn an_account_s_own_policies_count_beside_the_system_s_roles() {
        let policy = |effect: &str, action: &str| {
            let document =
                serde_json::json!({"Version": "1.1", "Statement": [{"Effect": effect, "Action": action}]});
            std::sync::Arc::new(serde_json::from_value::<Policy>(document).unwrap())
        };
        let mut somebody = caller(&[]);
        somebody.policies = vec![policy("Allow", "vpcep:endpoints:*")];
        assert!(authorise(&somebody, Some("vpcep:endpoints:create")).is_ok());
        assert!(authorise(&somebody, Some("vpcep:epservices:create")).is_err());
        let mut administrator = caller(&["te_admin"]);
        administrator.policies = vec![policy("Deny", "vpcep:*:delete")];
        assert!(authorise(&administrator, Some("vpcep:endpoints:create")).is_ok());
        let denied = authorise(&administrator, Some("vpcep:endpoints:delete")).unwrap_err();
        assert!(denied.message.contains("denies"), "{}", denied.message);
    }

    #[test]
    fn a_pattern_for_nothing_is_told_from_one_of_another_service() {
        for (pattern, idle) in [
            ("vpcep:*:*", false),
            ("vpcep:epservices:get", false),
            ("vpcep:epservice:get", true),
            ("vpcep:endpoints:create*", false),
            ("vpcep:*:drop", true),
            ("obs:bucket:list", false),
        ] {
            assert_eq!(is_idle(&pattern.parse().unwrap()), idle, "{pattern}");
        }
        for (role, actions) in ROLES {
            assert!(Policy::allow(actions).is_ok() && is_system_role(role), "{role}");
        }
        assert!(authorise_operator(&caller(&["x", ROLE_OPERATOR])).is_ok());
        for roles in [&[][..], &["VPCEndpoint Administrator"], &["te_admin"], &["Admin"]] {
            assert_eq!(authorise_operator(&caller(roles)).unwrap_err().code, Code::E0004);
        }
    }

    #[test]
    fn the_table_is_the_specification_s() {
        let part_a = include_str!("../tests/iam-actions.csv").lines().skip(1);
        let part_b = include_str!("../tests/iam-actions-huawei.csv").lines().skip(1);
        let published: Vec<(String, String, String)> = part_a
            .chain(part_b)
            .map(|line| {
                let mut fields = line.split(',').map(str::to_owned);
                let (action, method, path) = (
                    fields.next().unwrap(),
                    fields.next().unwrap(),
                    fields.next().unwrap(),
                );
                (method, path, action)
            })
            .collect();
        for (method, path, action) in ACTIONS {
            let row = (method.to_string(), (*path).to_owned(), (*action).to_owned());
            assert!(published.contains(&row), "{row:?}");
        }
    }
}
