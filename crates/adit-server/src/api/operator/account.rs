//! Accounts, as the operator sees them and freezes them.

use std::sync::Arc;

use adit_model::{body, id::DomainId};
use axum::{Json, body::Bytes, extract::State};
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};

use super::Whose;
use crate::{
    api::{
        schema::{ActiveStatus, Cut},
        shape::{DomainPath, Failures, QueryString, Time},
    },
    app::{App, operator::account::AccountSeen},
    error::Failure,
};

/// An account.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Account {
    #[schema(value_type = String)]
    domain_id: DomainId,
    /// `active`, or why it is frozen.
    #[schema(value_type = Vec<ActiveStatus>)]
    active_status: Vec<&'static str>,
    /// How many endpoint services it has.
    services: usize,
    /// How many endpoints it has.
    endpoints: usize,
    /// When its standing last changed; not there where it never did.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    updated_at: Option<Time>,
}

impl From<AccountSeen> for Account {
    fn from(a: AccountSeen) -> Self {
        Self {
            domain_id: a.id,
            active_status: a.active_status,
            services: a.services,
            endpoints: a.endpoints,
            updated_at: a.updated_at,
        }
    }
}

/// A page of accounts.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Accounts {
    accounts: Vec<Account>,
    /// How many match, on all pages.
    total_count: usize,
}

/// An account's new standing.
#[derive(ToSchema)]
#[expect(
    dead_code,
    reason = "the shape of the body, for the OpenAPI document; the rules are model's"
)]
pub(crate) struct SetAccount {
    /// `active` alone, or one reason or several.
    #[schema(min_items = 1)]
    active_status: Vec<ActiveStatus>,
    /// Frozen: how many seconds the connections that there are may go on; cut without.
    #[schema(nullable, minimum = 0, maximum = 86400)]
    drain_s: Option<u32>,
}

/// What the operations on an account have in their path.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "the shape of the path, for the OpenAPI document")]
pub(crate) struct OfAccount {
    /// The account's id.
    #[param(pattern = "^[A-Za-z0-9_-]{1,64}$")]
    domain_id: String,
}

/// List the accounts that have something or are frozen
#[utoipa::path(get, path = "/admin/v1/accounts", operation_id = "operator_account_list", tag = "Operator",
    params(Whose, Cut),
    responses((status = 200, description = "Done; the body says what is.", body = Accounts), Failures))]
pub(crate) async fn account_list(
    State(app): State<Arc<App>>,
    QueryString(query): QueryString,
) -> Result<Json<Accounts>, Failure> {
    let (page, total_count) = app.operator_account_list(&query).await?;
    Ok(Json(Accounts {
        accounts: page.into_iter().map(Account::from).collect(),
        total_count,
    }))
}

/// Show an account
#[utoipa::path(get, path = "/admin/v1/accounts/{domain_id}", operation_id = "operator_account_show", tag = "Operator",
    params(OfAccount),
    responses((status = 200, description = "Done; the body says what is.", body = Account), Failures))]
pub(crate) async fn account_show(
    State(app): State<Arc<App>>,
    DomainPath(id): DomainPath,
) -> Result<Json<Account>, Failure> {
    Ok(Json(app.operator_account_show(id).await?.into()))
}

/// Freeze an account, or let it go again
///
/// A frozen account's endpoints show it and pass no traffic: what is open is cut, or may go on for `drain_s` seconds.
#[utoipa::path(put, path = "/admin/v1/accounts/{domain_id}", operation_id = "operator_account_set", tag = "Operator",
    params(OfAccount), request_body = SetAccount,
    responses((status = 200, description = "Done; the body says what is.", body = Account), Failures))]
pub(crate) async fn account_set(
    State(app): State<Arc<App>>,
    DomainPath(id): DomainPath,
    bytes: Bytes,
) -> Result<Json<Account>, Failure> {
    let body = body::parse(&bytes)?;
    Ok(Json(app.operator_account_set(id, &body).await?.into()))
}
