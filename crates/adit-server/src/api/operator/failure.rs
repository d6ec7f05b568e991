//! Failures on purpose, as the operator plans them.

use std::sync::Arc;

use adit_model::{body, planned::Planned};
use axum::{Json, body::Bytes, extract::State};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{api::shape::Failures, app::App, error::Failure};

/// The failures that are to happen.
#[derive(Serialize, ToSchema)]
#[schema(as = PlannedFailures)]
pub(crate) struct Plan {
    /// In the order in which they are looked through.
    #[schema(max_items = 100)]
    failures: Vec<PlannedFailure>,
}

/// A failure that is to happen.
#[derive(Serialize, ToSchema)]
pub(crate) struct PlannedFailure {
    /// The id of an operation of this document; not the operator's own.
    operation: String,
    /// A status from 400 to 599, a code such as `EndPoint.0022`, or `failed`: the order is taken, and what it made becomes
    /// failed (`service_create`, `endpoint_create`).
    #[schema(pattern = "^([45][0-9]{2}|[Ee]nd[Pp]oint\\.[0-9]{4}|failed)$")]
    effect: String,
    /// How often it is still to happen; once, where this is left out.
    #[schema(minimum = 1, maximum = 1000000)]
    times: u32,
}

/// What is to happen from now on.
#[derive(ToSchema)]
#[expect(
    dead_code,
    reason = "the shape of the body, for the OpenAPI document; the rules are model's"
)]
pub(crate) struct SetPlan {
    /// All that is to happen: what was planned before is forgotten.
    #[schema(max_items = 100)]
    failures: Vec<SetFailure>,
}

/// A failure that is to happen.
#[derive(ToSchema)]
#[expect(
    dead_code,
    reason = "the shape of the body, for the OpenAPI document; the rules are model's"
)]
pub(crate) struct SetFailure {
    /// The id of an operation of this document; not the operator's own.
    operation: String,
    /// A status from 400 to 599, a code of the catalogue (these and every other), or `failed`.
    #[schema(pattern = "^([45][0-9]{2}|EndPoint\\.00(01|13|22)|failed)$")]
    effect: String,
    /// How often it is to happen.
    #[schema(nullable, minimum = 1, maximum = 1000000)]
    times: Option<u32>,
}

fn shown(app: &App) -> Json<Plan> {
    let show = |planned: Planned| PlannedFailure {
        effect: planned.effect.to_string(),
        operation: planned.operation,
        times: planned.times,
    };
    Json(Plan {
        failures: app.failures.left().into_iter().map(show).collect(),
    })
}

/// Show the failures that are planned
#[utoipa::path(get, path = "/admin/v1/failures", operation_id = "operator_failure_list", tag = "Operator",
    responses((status = 200, description = "Done; the body says what is.", body = Plan), Failures))]
pub(crate) async fn failure_list(State(app): State<Arc<App>>) -> Json<Plan> {
    shown(&app)
}

/// Plan failures
///
/// For people who test how their own code takes them: the next requests of an operation fail, or what it orders becomes
/// failed. Answers the plan as it is then; a restart forgets it.
#[utoipa::path(put, path = "/admin/v1/failures", operation_id = "operator_failure_set", tag = "Operator",
    request_body = SetPlan, responses((status = 200, description = "Done; the body says what is.", body = Plan), Failures))]
pub(crate) async fn failure_set(State(app): State<Arc<App>>, bytes: Bytes) -> Result<Json<Plan>, Failure> {
    app.failures.plan(Planned::parse_plan(&body::parse(&bytes)?)?)?;
    Ok(shown(&app))
}
