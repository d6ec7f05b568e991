//! The route tables and the policy of a gateway endpoint: what a request may say of them (spec A.13 rules 18 and 20, B.2
//! and B.3).

use serde_json::Value;

use crate::{
    body::{self, Body},
    catalogue::{ApiError, Code},
    id::RouteTableId,
    network::VpcView,
    policy::{self, Statement},
};

/// Reads a list of route tables; absent is empty, and one that is named twice counts once.
///
/// # Errors
/// 1019.
pub fn parse_route_tables(value: Option<&Value>) -> Result<Vec<RouteTableId>, ApiError> {
    let list = match value {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(list)) => list,
        Some(other) => {
            return Err(ApiError::because(
                Code::E1019,
                format!("routetables: {} is not a list of ids.", body::show(other)),
            ));
        }
    };
    let mut tables = Vec::new();
    for (i, item) in list.iter().enumerate() {
        let id = item.as_str().and_then(|text| text.parse().ok()).ok_or_else(|| {
            ApiError::because(
                Code::E1019,
                format!("routetables[{i}]: {} is not a UUID.", body::show(item)),
            )
        })?;
        if !tables.contains(&id) {
            tables.push(id);
        }
    }
    Ok(tables)
}

/// Rule 18 of spec A.13: each table is of the VPC and serves no other endpoint of the service. `exists` tells whether the
/// first one that is not of the VPC is there at all.
///
/// # Errors
/// 1019, 4030, 2039.
pub fn check_route_tables(
    tables: &[RouteTableId],
    vpc: &VpcView,
    exists: bool,
    is_free: impl Fn(RouteTableId) -> bool,
) -> Result<(), ApiError> {
    if let Some(foreign) = tables.iter().find(|id| vpc.route_table(**id).is_none()) {
        return Err(if exists {
            ApiError::because(
                Code::E1019,
                format!("routetables: {foreign} is not a route table of VPC {}.", vpc.id),
            )
        } else {
            ApiError::because(
                Code::E4030,
                format!("routetables: {foreign} is not one of yours."),
            )
        });
    }
    match tables.iter().find(|id| !is_free(**id)) {
        None => Ok(()),
        Some(taken) => Err(ApiError::because(
            Code::E2039,
            format!("routetables: {taken} serves another endpoint of this service."),
        )),
    }
}

/// The body of a change of route tables (spec B.2): at least one.
///
/// # Errors
/// 2002, 1019, 2040.
pub fn parse_route_tables_update(body: &Body) -> Result<Vec<RouteTableId>, ApiError> {
    let value = body::get(body, "routetables")
        .ok_or_else(|| ApiError::because(Code::E2002, "routetables is missing."))?;
    let tables = parse_route_tables(Some(value))?;
    if tables.is_empty() {
        return Err(ApiError::because(
            Code::E2040,
            "routetables: [] would leave the endpoint without a route table.",
        ));
    }
    Ok(tables)
}

/// The body of a change of policy (spec B.3). `policy_document` is the form of services that Adit does not have.
///
/// # Errors
/// 2002, 2048.
pub fn parse_policy_update(body: &Body) -> Result<Vec<Statement>, ApiError> {
    if body::get(body, "policy_document").is_some() {
        return Err(ApiError::because(
            Code::E2048,
            "policy_document: the policy of a gateway endpoint is its policy_statement.",
        ));
    }
    let value = body::get(body, "policy_statement")
        .ok_or_else(|| ApiError::because(Code::E2002, "policy_statement is missing."))?;
    policy::parse(Some(value))
}
