//! The operator's API over HTTP, below `/admin/v1`: one file for each noun, like the tenants' beside it.
//!
//! Not part of the VPCEP documents. Callers have the role `admin` in whatever project or account their token is for, which
//! [`crate::auth::guard_operator`] has asked before; what is named here belongs to any project.

pub(crate) mod failure;
pub(crate) mod public_service;
pub(crate) mod quota;
