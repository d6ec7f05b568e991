//! Refusals in the form of each API.

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

use adit_model::error_chain;

use crate::network::{Clash, Failure, Kind};

/// A refusal in VPC v1's form.
#[derive(Debug)]
pub(crate) struct VpcError(Failure);

/// A refusal in Neutron's form.
#[derive(Debug)]
pub(crate) struct NeutronError(Failure);

/// A refusal in the load balancers' form.
#[derive(Debug)]
pub(crate) struct ElbError(Failure);

macro_rules! from_failure {
    ($($error:ident),*) => {$(
        impl From<Failure> for $error {
            fn from(failure: Failure) -> Self {
                Self(failure)
            }
        }

        impl IntoResponse for $error {
            fn into_response(self) -> Response {
                reply(&self.0, self.body())
            }
        }
    )*};
}

from_failure!(VpcError, NeutronError, ElbError);

fn reply(failure: &Failure, body: Value) -> Response {
    let status = status(failure);
    if status.is_server_error() {
        tracing::error!(error = error_chain(failure), "A request failed on our side.");
    }
    (status, Json(body)).into_response()
}

/// The status says what the client should do next: a store that is away is 503, worth another try.
fn status(failure: &Failure) -> StatusCode {
    match failure {
        Failure::NotFound { .. } => StatusCode::NOT_FOUND,
        Failure::Invalid(_) | Failure::BadAddress { .. } => StatusCode::BAD_REQUEST,
        Failure::Clash { .. } => StatusCode::CONFLICT,
        Failure::Forbidden(_) => StatusCode::FORBIDDEN,
        Failure::Store(_) | Failure::Cache(_) | Failure::Timeout | Failure::Busy(_) => {
            StatusCode::SERVICE_UNAVAILABLE
        }
    }
}

impl NeutronError {
    fn body(&self) -> Value {
        let kind = match &self.0 {
            Failure::NotFound { kind, .. } => match kind {
                Kind::Vpc => "RouterNotFound",
                Kind::Subnet => "NetworkNotFound",
                Kind::Range => "SubnetNotFound",
                Kind::Port => "PortNotFound",
                Kind::RouteTable | Kind::LoadBalancer => "NotFound",
            },
            Failure::Invalid(_) => "BadRequest",
            Failure::BadAddress { .. } => "InvalidIpForSubnet",
            Failure::Clash { clash, .. } => match clash {
                Clash::VpcInUse => "RouterInUse",
                Clash::SubnetInUse => "SubnetInUse",
                Clash::NetworkInUse => "NetworkInUse",
                Clash::PortInUse => "ServicePortInUse",
                Clash::RouterInterfaceInUse => "RouterInterfaceInUse",
                Clash::AddressInUse => "IpAddressInUse",
                Clash::NoAddressLeft => "IpAddressGenerationFailure",
                Clash::Quota => "OverQuota",
                Clash::DefaultTable | Clash::RouteTableInUse | Clash::RouteInUse => "Conflict",
            },
            Failure::Forbidden(_) => "PolicyNotAuthorized",
            Failure::Store(_) | Failure::Cache(_) | Failure::Timeout | Failure::Busy(_) => {
                "ServiceUnavailable"
            }
        };
        json!({"NeutronError": {"type": kind, "message": self.0.to_string(), "detail": ""}})
    }
}

impl VpcError {
    fn body(&self) -> Value {
        let code = match &self.0 {
            Failure::NotFound { kind: Kind::Vpc, .. } => "VPC.0012",
            Failure::NotFound {
                kind: Kind::RouteTable,
                ..
            } => "VPC.2702",
            Failure::NotFound { .. } => "VPC.0202",
            Failure::Invalid(_) => "VPC.0101",
            Failure::BadAddress { .. } => "VPC.0213",
            Failure::Clash { clash, .. } => match clash {
                Clash::VpcInUse => "VPC.0104",
                Clash::SubnetInUse | Clash::NetworkInUse | Clash::PortInUse | Clash::RouterInterfaceInUse => {
                    "VPC.0209"
                }
                Clash::AddressInUse | Clash::NoAddressLeft => "VPC.0212",
                Clash::Quota => "VPC.2701",
                Clash::DefaultTable | Clash::RouteTableInUse | Clash::RouteInUse => "VPC.2703",
            },
            Failure::Forbidden(_) => "VPC.0010",
            Failure::Store(_) | Failure::Cache(_) | Failure::Timeout | Failure::Busy(_) => "VPC.0011",
        };
        json!({"code": code, "message": self.0.to_string()})
    }
}

impl ElbError {
    fn body(&self) -> Value {
        let code = match &self.0 {
            Failure::NotFound { .. } => "ELB.8907",
            Failure::Invalid(_) | Failure::BadAddress { .. } => "ELB.8902",
            Failure::Clash { .. } => "ELB.8904",
            Failure::Forbidden(_) => "ELB.1301",
            Failure::Store(_) | Failure::Cache(_) | Failure::Timeout | Failure::Busy(_) => "ELB.9001",
        };
        json!({"error_code": code, "error_msg": self.0.to_string()})
    }
}
