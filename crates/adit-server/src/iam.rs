//! What a caller may do: the table from route to IAM action, and the system roles.
//!
//! Owns authorisation; never looks at a resource (whose it is, is the operation's business: not yours is not found). A
//! route that is missing in the table is refused to everybody, and a test fails when one is.

use adit_model::{ApiError, Code};
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
];

/// The role that may do everything that VPCEP has.
const ROLE_ADMINISTRATOR: &str = "VPCEndpoint Administrator";
/// The same, under its newer name.
const ROLE_FULL: &str = "VPCEndpoint FullAccess";
/// The role that may look.
const ROLE_READ_ONLY: &str = "VPCEndpoint ReadOnlyAccess";
/// The operator's role.
pub const ROLE_OPERATOR: &str = "admin";

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

/// Whether the caller's roles allow an action.
///
/// # Errors
/// 0004.
pub fn authorise(caller: &Caller, action: Option<&str>) -> Result<(), ApiError> {
    let Some(action) = action else {
        return Err(ApiError::because(
            Code::E0004,
            "This route has no action that anybody could be allowed.",
        ));
    };
    let reads = action.ends_with(":get") || action.ends_with(":list");
    let allowed = caller.roles.iter().any(|role| match role.as_str() {
        ROLE_ADMINISTRATOR | ROLE_FULL | ROLE_OPERATOR => true,
        ROLE_READ_ONLY => reads,
        _ => false,
    });
    if allowed {
        return Ok(());
    }
    Err(ApiError::because(
        Code::E0004,
        format!("User {} lacks the action {action}.", caller.user_name),
    ))
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
        }
    }

    #[test]
    fn readers_read_and_administrators_do_everything() {
        for (_, _, action) in ACTIONS {
            let reads = action.ends_with(":get") || action.ends_with(":list");
            assert_eq!(
                authorise(&caller(&[ROLE_READ_ONLY]), Some(action)).is_ok(),
                reads,
                "{action}"
            );
            assert!(authorise(&caller(&["x", ROLE_FULL]), Some(action)).is_ok());
            assert!(authorise(&caller(&[ROLE_ADMINISTRATOR]), Some(action)).is_ok());
            assert_eq!(
                authorise(&caller(&["te_admin"]), Some(action)).unwrap_err().code,
                Code::E0004
            );
            assert_eq!(
                authorise(&caller(&[]), Some(action)).unwrap_err().code,
                Code::E0004
            );
        }
        assert!(authorise(&caller(&[ROLE_FULL]), None).is_err());
        assert!(authorise_operator(&caller(&["x", ROLE_OPERATOR])).is_ok());
        for roles in [
            &[][..],
            &[ROLE_FULL, ROLE_ADMINISTRATOR],
            &["te_admin"],
            &["Admin"],
        ] {
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
