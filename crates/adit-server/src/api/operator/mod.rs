//! The operator's API over HTTP, below `/admin/v1`: one file for each noun, like the tenants' beside it.
//!
//! Not part of the VPCEP documents. Callers have the role `admin` in whatever project or account their token is for, which
//! [`crate::auth::guard_operator`] has asked before; what is named here belongs to any project.

pub(crate) mod account;
pub(crate) mod connection;
pub(crate) mod diagnosis;
pub(crate) mod endpoint;
pub(crate) mod failure;
pub(crate) mod gateway;
pub(crate) mod pool;
pub(crate) mod project;
pub(crate) mod public_service;
pub(crate) mod quota;
pub(crate) mod service;
pub(crate) mod vpc;
pub(crate) mod whitelist;

use utoipa::IntoParams;

/// Whose things a list is to have.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "the shape of the query, for the OpenAPI document")]
pub(crate) struct Whose {
    /// Exact.
    #[param(pattern = "^[0-9A-Fa-f]{32}$")]
    project_id: Option<String>,
    /// The account's id, exact.
    #[param(pattern = "^[A-Za-z0-9_-]{1,64}$")]
    domain_id: Option<String>,
}
