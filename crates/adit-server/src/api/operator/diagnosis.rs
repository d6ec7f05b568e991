//! Why an endpoint does, or does not, pass traffic.

use std::sync::Arc;

use adit_model::{
    body,
    diagnosis::{Step, is_healthy},
    id::EndpointId,
};
use axum::{Json, body::Bytes, extract::State};
use serde::Serialize;
use utoipa::ToSchema;

use super::endpoint::OfAnyEndpoint;
use crate::{
    api::{
        schema::Address,
        shape::{EndpointPath, Failures},
    },
    app::{App, operator::diagnosis::Diagnosis},
    error::Failure,
};

/// What was found of an endpoint.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Diagnosis)]
pub(crate) struct DiagnosisShown {
    #[schema(value_type = String, format = "uuid")]
    endpoint_id: EndpointId,
    /// The client port that was asked about; not there where it is not mapped.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<i32>, minimum = 1, maximum = 65535)]
    port: Option<u16>,
    /// Whether traffic passes, as far as can be known: none of the steps failed.
    healthy: bool,
    /// In the order in which they were looked at. The first that fails is the last.
    #[schema(value_type = Vec<DiagnosisStep>)]
    steps: Vec<Step>,
}

impl From<Diagnosis> for DiagnosisShown {
    fn from(found: Diagnosis) -> Self {
        Self {
            endpoint_id: found.id,
            port: found.port,
            healthy: is_healthy(&found.steps),
            steps: found.steps,
        }
    }
}

/// One thing that has to hold.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the shape of the reply, for the OpenAPI document")]
pub(crate) struct DiagnosisStep {
    #[schema(inline)]
    step: StepNameSchema,
    #[schema(inline)]
    verdict: VerdictSchema,
    /// What was seen, for a person.
    seen: String,
    /// Where it failed: what to do about it.
    remedy: Option<String>,
}

/// Which step.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
#[expect(dead_code, reason = "the words, for the OpenAPI document")]
enum StepNameSchema {
    State,
    Service,
    Account,
    Switch,
    Acceptance,
    Whitelist,
    Port,
    Gateway,
    Namespace,
    Listener,
    Limit,
    Route,
    Backend,
    Header,
}

/// How it came out.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
#[expect(dead_code, reason = "the words, for the OpenAPI document")]
enum VerdictSchema {
    Passed,
    Skipped,
    Failed,
}

/// What is asked.
#[derive(ToSchema)]
#[expect(
    dead_code,
    reason = "the shape of the body, for the OpenAPI document; the rules are model's"
)]
pub(crate) struct DiagnosisQuestion {
    /// A client port; the first that is mapped, where this is left out.
    #[schema(nullable, minimum = 1, maximum = 65535)]
    port: Option<i32>,
    /// A client whose way is asked about; where it is left out, whether anybody may connect.
    #[schema(nullable)]
    client: Option<Address>,
}

/// Find out why an endpoint does not pass traffic
///
/// Looks at all that has to hold, in order, up to the first thing that does not. Where its state says nothing against it, its gateway
/// calls the backend, from the endpoint's source address, as its probes do. Changes nothing.
#[utoipa::path(post, path = "/admin/v1/endpoints/{vpc_endpoint_id}/diagnosis", operation_id = "operator_endpoint_diagnose",
    tag = "Operator", params(OfAnyEndpoint), request_body = DiagnosisQuestion,
    responses((status = 200, description = "Done; the body says what is.", body = DiagnosisShown), Failures))]
pub(crate) async fn endpoint_diagnose(
    State(app): State<Arc<App>>,
    EndpointPath(id): EndpointPath,
    bytes: Bytes,
) -> Result<Json<DiagnosisShown>, Failure> {
    let body = body::parse(&bytes)?;
    Ok(Json(app.operator_endpoint_diagnose(id, &body).await?.into()))
}
