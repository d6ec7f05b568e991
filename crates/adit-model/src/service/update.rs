//! Changing a service (spec A.7).

use super::create::{parse_short_name, parse_tcp_proxy};
use crate::{
    body::{self, Body},
    catalogue::{ApiError, Code},
    id::PortId,
    name,
    port_mapping::{self, PortMapping},
    service::{Service, TcpProxy},
};

/// A well-formed request to change a service (spec A.7); a field left out keeps its value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceUpdate {
    /// Whether later endpoints wait for approval.
    pub approval_enabled: Option<bool>,
    /// The short name; empty removes it.
    pub short_name: Option<String>,
    /// The whole new list of mappings.
    pub ports: Option<Vec<PortMapping>>,
    /// The new backend port.
    pub port: Option<PortId>,
    /// How the backend learns of the client.
    pub tcp_proxy: Option<TcpProxy>,
    /// Free text.
    pub description: Option<String>,
}

impl ServiceUpdate {
    /// The field rules of spec A.7, in the table's order.
    ///
    /// # Errors
    /// The code of the first rule that is broken; 2002 where no known field is there.
    pub fn parse(body: &Body, strict_toa: bool) -> Result<Self, ApiError> {
        let update = Self {
            approval_enabled: body::boolean(body, "approval_enabled", Code::E0002)?,
            short_name: parse_short_name(body)?,
            ports: match body::get(body, "ports") {
                None => None,
                list => Some(port_mapping::parse_list(list)?),
            },
            port: body::optional_id(body, "port_id", Code::E3063)?,
            tcp_proxy: parse_tcp_proxy(body, strict_toa)?,
            description: body::description(body)?,
        };
        if update == Self::default() {
            return Err(ApiError::because(
                Code::E2002,
                "Name at least one of approval_enabled, service_name, ports, port_id, tcp_proxy, description.",
            ));
        }
        Ok(update)
    }

    /// Reads a request that changes the name alone (spec B.9).
    ///
    /// # Errors
    /// 2002 where there is none, 3076.
    pub fn parse_rename(body: &Body) -> Result<Self, ApiError> {
        let short = body::string(body, "endpoint_service_name", Code::E3076)?
            .ok_or_else(|| ApiError::because(Code::E2002, "endpoint_service_name is missing."))?;
        name::check_short(short)?;
        Ok(Self {
            short_name: Some(short.to_owned()),
            ..Self::default()
        })
    }
}

/// Refuses to let a tenant change a service that the operator runs (spec A.7, A.8).
///
/// # Errors
/// 3054 where another backend port is asked for, else 0004.
pub fn check_private(service: &Service, port: Option<PortId>) -> Result<(), ApiError> {
    if service.public.is_none() {
        return Ok(());
    }
    let code = if port.is_some() { Code::E3054 } else { Code::E0004 };
    Err(ApiError::because(
        code,
        format!("Endpoint service {} is run by the operator.", service.id),
    ))
}
