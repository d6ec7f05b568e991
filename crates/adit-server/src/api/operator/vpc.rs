//! VPCs of all projects, as the operator sees them.

use std::sync::Arc;

use adit_model::id::{ProjectId, VpcId};
use axum::{Json, extract::State};
use ipnet::Ipv4Net;
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};

use super::Whose;
use crate::{
    api::{
        schema::Page,
        shape::{Failures, QueryString, Time, VpcPath},
    },
    app::{App, operator::vpc::VpcInspected},
    error::Failure,
};

/// A VPC, and how much is in it. Of a VPC of another network than the embedded one, no more is known.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Vpc {
    #[schema(value_type = String, format = "uuid")]
    id: VpcId,
    #[schema(value_type = String)]
    project_id: ProjectId,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    cidr: Option<Ipv4Net>,
    subnets: usize,
    /// How many endpoint services have their backend in it.
    services: usize,
    /// How many endpoints are in it.
    endpoints: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    created_at: Option<Time>,
}

impl From<VpcInspected> for Vpc {
    fn from(v: VpcInspected) -> Self {
        Self {
            id: v.id,
            project_id: v.project,
            name: v.name,
            cidr: v.cidr,
            subnets: v.subnets,
            services: v.services,
            endpoints: v.endpoints,
            created_at: v.times.map(|(created, _)| created.at),
        }
    }
}

/// A page of VPCs.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Vpcs {
    vpcs: Vec<Vpc>,
    /// How many match, on all pages.
    total_count: usize,
}

/// What the operations on a VPC have in their path.
#[derive(IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "the shape of the path, for the OpenAPI document")]
pub(crate) struct OfVpc {
    /// Anybody's.
    #[param(format = "uuid")]
    vpc_id: String,
}

/// List all VPCs
#[utoipa::path(get, path = "/admin/v1/vpcs", operation_id = "operator_vpc_list", tag = "Operator",
    params(Whose, ("id" = Option<String>, Query, format = "uuid", description = "Exact."), Page),
    responses((status = 200, description = "Done; the body says what is.", body = Vpcs), Failures))]
pub(crate) async fn vpc_list(
    State(app): State<Arc<App>>,
    QueryString(query): QueryString,
) -> Result<Json<Vpcs>, Failure> {
    let (page, total_count) = app.operator_vpc_list(&query).await?;
    Ok(Json(Vpcs {
        vpcs: page.into_iter().map(Vpc::from).collect(),
        total_count,
    }))
}

/// Show any VPC
#[utoipa::path(get, path = "/admin/v1/vpcs/{vpc_id}", operation_id = "operator_vpc_show", tag = "Operator",
    params(OfVpc),
    responses((status = 200, description = "Done; the body says what is.", body = Vpc), Failures))]
pub(crate) async fn vpc_show(
    State(app): State<Arc<App>>,
    VpcPath(id): VpcPath,
) -> Result<Json<Vpc>, Failure> {
    Ok(Json(app.operator_vpc_show(id).await?.into()))
}
