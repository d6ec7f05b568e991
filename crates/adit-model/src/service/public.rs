//! Creating a public service: the operator's, of both types, under a free-form name.
//!
//! The specification knows such services and no call to make them; the body is that of spec A.4 as far as it goes, and the
//! rules 21 to 29 hold for the operator's port and VPC too. Quotas do not.

use ipnet::Ipv4Net;
use serde_json::Value;

use super::create::{check_claims, check_place, parse_server_type, parse_tcp_proxy};
use crate::{
    body::{self, Body},
    catalogue::{ApiError, Code},
    id::{PoolId, PortId, ProjectId, ServiceId, VpcId},
    name,
    network::{RESERVED, overlaps},
    port_mapping::{self, Claims, PortMapping},
    service::{Backend, BackendPort, Public, ServiceFacts, ServiceType, TcpProxy},
};

/// Whose public services are said to be, where nothing else is said.
pub const OWNER: &str = "OTC";

/// At most so many blocks of one gateway service: each is a route in every table of every endpoint, and a table has room
/// for a few hundred.
pub const PREFIXES_MAX: usize = 16;

/// A well-formed request to create a public service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicCreate {
    /// The whole name.
    pub name: String,
    /// What makes it public.
    pub public: Public,
    /// What is behind it.
    pub backend: Backend,
    /// The project whose network the backend is in.
    pub project: ProjectId,
    /// The VPC that the backend is in.
    pub vpc: VpcId,
    /// The port mappings; for a gateway service each leads to its own number.
    pub ports: Vec<PortMapping>,
    /// How the backend learns of the client.
    pub tcp_proxy: TcpProxy,
    /// Free text.
    pub description: String,
    /// The pool, where the caller named one.
    pub pool: Option<PoolId>,
}

impl PublicCreate {
    /// Reads a request, field by field in the order of spec A.4; `prefixes` takes the place of `port_id` and `server_type`
    /// for a gateway service.
    ///
    /// # Errors
    /// The code of the first rule that is broken.
    pub fn parse(body: &Body) -> Result<Self, ApiError> {
        let project = parse_project(body)?;
        let service_type = parse_service_type(body)?;
        let backend = match service_type {
            ServiceType::Interface => Backend::Port(BackendPort {
                id: body::id(body, "port_id", Code::E2002, Code::E3063)?,
                server_type: parse_server_type(body)?,
                ip: None,
            }),
            ServiceType::Gateway => Backend::Prefixes {
                prefixes: parse_prefixes(body::get(body, "prefixes"))?,
            },
        };
        let vpc = body::id(body, "vpc_id", Code::E2011, Code::E0020)?;
        let name = body::string(body, "service_name", Code::E3076)?.unwrap_or_default();
        name::check_public(name)?;
        let ports = port_mapping::parse_list(body.get("ports"))?;
        if service_type == ServiceType::Gateway {
            check_same_ports(&ports)?;
        }
        let owner = body::string(body, "owner", Code::E0002)?.unwrap_or(OWNER);
        name::check_owner(owner)?;
        Ok(Self {
            name: name.to_owned(),
            public: Public {
                owner: owner.to_owned(),
                is_charge: body::boolean(body, "is_charge", Code::E0002)?.unwrap_or(false),
            },
            backend,
            project,
            vpc,
            ports,
            tcp_proxy: parse_tcp_proxy(body, false)?.unwrap_or_default(),
            description: body::description(body)?.unwrap_or_default(),
            pool: body::optional_id(body, "pool_id", Code::E0002)?,
        })
    }

    /// The backend port, where it names one.
    pub fn port(&self) -> Option<PortId> {
        match &self.backend {
            Backend::Port(port) => Some(port.id),
            Backend::Prefixes { .. } => None,
        }
    }

    /// Rules 21 to 29 of spec A.4, in the table's order.
    ///
    /// Answers the claims of the backend port as they will be, where there is one.
    ///
    /// # Errors
    /// The code of the first rule that is broken.
    pub fn check(&self, id: ServiceId, facts: &ServiceFacts<'_>) -> Result<Option<Claims>, ApiError> {
        match &self.backend {
            Backend::Port(port) => {
                check_place(self.vpc, Some((port.id, port.server_type)), self.pool, facts)?;
                check_claims(id, port.id, &self.ports, facts).map(Some)
            }
            Backend::Prefixes { .. } => check_place(self.vpc, None, self.pool, facts).map(|()| None),
        }
    }
}

fn parse_project(body: &Body) -> Result<ProjectId, ApiError> {
    let value = body::get(body, "project_id")
        .ok_or_else(|| ApiError::because(Code::E2002, "project_id is missing."))?;
    value.as_str().and_then(|text| text.parse().ok()).ok_or_else(|| {
        ApiError::because(
            Code::E0014,
            format!("project_id: {} is not 32 hexadecimal digits.", body::show(value)),
        )
    })
}

fn parse_service_type(body: &Body) -> Result<ServiceType, ApiError> {
    let word = body::string(body, "service_type", Code::E0002)?.unwrap_or(ServiceType::Interface.as_str());
    ServiceType::from_wire(&word.to_ascii_lowercase()).ok_or_else(|| {
        ApiError::because(
            Code::E0002,
            format!("service_type: \"{word:.80}\" is neither interface nor gateway."),
        )
    })
}

/// The blocks of a gateway service: 1 to 16, none overlapping another or the reserved range.
///
/// # Errors
/// 2002 (missing or empty), 3017.
pub fn parse_prefixes(value: Option<&Value>) -> Result<Vec<Ipv4Net>, ApiError> {
    let wrong = |why: String| ApiError::because(Code::E3017, format!("prefixes{why}"));
    let list = match value {
        None => return Err(ApiError::because(Code::E2002, "prefixes is missing.")),
        Some(Value::Array(list)) if list.is_empty() => {
            return Err(ApiError::because(Code::E2002, "prefixes: [] holds no block."));
        }
        Some(Value::Array(list)) => list,
        Some(other) => return Err(wrong(format!(": {} is not a list of blocks.", body::show(other)))),
    };
    if list.len() > PREFIXES_MAX {
        return Err(wrong(format!(
            " holds {} blocks, more than {PREFIXES_MAX}.",
            list.len()
        )));
    }
    let mut prefixes: Vec<Ipv4Net> = Vec::with_capacity(list.len());
    for (i, item) in list.iter().enumerate() {
        let shown = body::show(item);
        let block: Ipv4Net = item
            .as_str()
            .and_then(|text| text.parse().ok())
            .filter(|block: &Ipv4Net| *block == block.trunc() && block.prefix_len() > 0)
            .ok_or_else(|| wrong(format!("[{i}]: {shown} is not an IPv4 block.")))?;
        if overlaps(block, RESERVED) {
            return Err(wrong(format!(
                "[{i}]: {block} overlaps {RESERVED}, which gateways connect from."
            )));
        }
        if let Some(other) = prefixes.iter().find(|other| overlaps(**other, block)) {
            return Err(wrong(format!("[{i}]: {block} overlaps {other}.")));
        }
        prefixes.push(block);
    }
    Ok(prefixes)
}

/// A client of a gateway service speaks to the backend's own address, and so to its own port.
fn check_same_ports(ports: &[PortMapping]) -> Result<(), ApiError> {
    match ports.iter().position(|p| p.client_port != p.server_port) {
        None => Ok(()),
        Some(i) => Err(ApiError::because(
            Code::E3043,
            format!(
                "ports[{i}].server_port: {} is not client_port {}, which a gateway service's must be.",
                ports[i].server_port, ports[i].client_port
            ),
        )),
    }
}
