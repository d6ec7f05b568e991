//! Creating a service of a tenant's own: the thirty rules of spec A.4.

use crate::{
    body::{self, Body},
    catalogue::{ApiError, Code},
    id::{PoolId, PortId, ServiceId, VpcId},
    name,
    network::{PortKind, PortView, RESERVED, VpcView, overlaps},
    port_mapping::{self, Claims, PortMapping},
    quota::Usage,
    service::{ServerType, TcpProxy},
    tag::{self, Tag},
};

/// A well-formed request to create a service: rules 1 to 20 hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceCreate {
    /// The backend port.
    pub port: PortId,
    /// The backend's VPC.
    pub vpc: VpcId,
    /// The kind of backend.
    pub server_type: ServerType,
    /// The short name; empty for none.
    pub short_name: String,
    /// Whether endpoints wait for approval.
    pub approval_enabled: bool,
    /// The port mappings.
    pub ports: Vec<PortMapping>,
    /// How the backend learns of the client.
    pub tcp_proxy: TcpProxy,
    /// The tags.
    pub tags: Vec<Tag>,
    /// Free text.
    pub description: String,
    /// The pool, where the caller named one.
    pub pool: Option<PoolId>,
}

impl ServiceCreate {
    /// Rules 2 to 20 of spec A.4, in the table's order (rule 1 is [`body::parse`]). `strict_toa` refuses the two modes
    /// that the documents promise for OBS backends only (rule 17).
    ///
    /// # Errors
    /// The code of the first rule that is broken.
    pub fn parse(body: &Body, strict_toa: bool) -> Result<Self, ApiError> {
        let port = body::id(body, "port_id", Code::E2002, Code::E3063)?;
        let vpc = body::id(body, "vpc_id", Code::E2011, Code::E0020)?;
        let server_type = parse_server_type(body)?;
        let short_name = parse_short_name(body)?.unwrap_or_default();
        let approval_enabled = body::boolean(body, "approval_enabled", Code::E0002)?.unwrap_or(true);
        check_service_type(body)?;
        let ports = port_mapping::parse_list(body.get("ports"))?;
        let tcp_proxy = parse_tcp_proxy(body, strict_toa)?.unwrap_or_default();
        let tags = tag::parse_list(body.get("tags"))?;
        let description = body::description(body)?.unwrap_or_default();
        let pool = body::optional_id(body, "pool_id", Code::E0002)?;
        Ok(Self {
            port,
            vpc,
            server_type,
            short_name,
            approval_enabled,
            ports,
            tcp_proxy,
            tags,
            description,
            pool,
        })
    }

    /// Rules 21 to 30 of spec A.4, in the table's order.
    ///
    /// Answers the claims of the backend port as they will be with this service's mappings in them.
    ///
    /// # Errors
    /// The code of the first rule that is broken.
    pub fn check(&self, id: ServiceId, facts: &ServiceFacts<'_>) -> Result<Claims, ApiError> {
        check_place(self.vpc, Some((self.port, self.server_type)), self.pool, facts)?;
        let claims = check_claims(id, self.port, &self.ports, facts)?;
        facts.quota.check("endpoint services")?;
        Ok(claims)
    }
}

/// Rules 21 to 27: the VPC, the backend port in it, the pool, and the reserved range. A service without a port has nothing
/// to look for in rules 22 to 24.
///
/// # Errors
/// The code of the first rule that is broken.
pub(super) fn check_place(
    vpc_id: VpcId,
    port: Option<(PortId, ServerType)>,
    pool: Option<PoolId>,
    facts: &ServiceFacts<'_>,
) -> Result<(), ApiError> {
    let vpc = facts
        .vpc
        .ok_or_else(|| ApiError::because(Code::E2001, format!("vpc_id: {vpc_id} is not one of yours.")))?;
    if let Some((port, server_type)) = port {
        let view = check_port(port, vpc_id, facts.port)?;
        check_kind(server_type, port, view.kind)?;
    }
    if let Some(pool) = pool
        && !facts.pools.contains(&pool)
    {
        return Err(ApiError::because(Code::E2038, format!("pool_id: {pool}.")));
    }
    if let Some(cidr) = vpc.cidrs.iter().find(|c| overlaps(**c, RESERVED)) {
        return Err(ApiError::because(
            Code::E3009,
            format!("vpc_id: the VPC's block {cidr} overlaps {RESERVED}, which gateways connect from."),
        ));
    }
    check_routes(vpc)
}

/// Rules 28 and 29: the claims of a backend port as they will be with this service's mappings in them.
///
/// # Errors
/// 3044, 3056.
pub(super) fn check_claims(
    id: ServiceId,
    port: PortId,
    ports: &[PortMapping],
    facts: &ServiceFacts<'_>,
) -> Result<Claims, ApiError> {
    let claims = facts.claims.replace(id, ports)?;
    if facts
        .services_per_port_max
        .is_some_and(|max| claims.services() > max)
    {
        return Err(ApiError::because(
            Code::E3056,
            format!(
                "port_id: {port} backs {} endpoint services already.",
                claims.services() - 1
            ),
        ));
    }
    Ok(claims)
}

/// What rules 21 to 30 look at.
#[derive(Clone, Debug)]
pub struct ServiceFacts<'a> {
    /// The VPC, where it exists and belongs to the project.
    pub vpc: Option<&'a VpcView>,
    /// The backend port, where it exists and belongs to the project.
    pub port: Option<&'a PortView>,
    /// The pools there are.
    pub pools: &'a [PoolId],
    /// Who uses which port of the backend port.
    pub claims: &'a Claims,
    /// The operator's cap of services on one backend port; no cap by default.
    pub services_per_port_max: Option<usize>,
    /// The project's quota of services.
    pub quota: Usage,
}

/// Rules 22 and 23: the backend port exists and lies in the VPC.
///
/// # Errors
/// 3008, 3042.
pub fn check_port(port: PortId, vpc: VpcId, found: Option<&PortView>) -> Result<&PortView, ApiError> {
    let view = found.ok_or_else(|| {
        ApiError::because(Code::E3008, format!("port_id: {port} is not one of your ports."))
    })?;
    if view.vpc != Some(vpc) {
        return Err(ApiError::because(
            Code::E3042,
            format!("port_id: {port} is not in VPC {vpc}."),
        ));
    }
    Ok(view)
}

/// Rule 24: a load balancer's port is published as one, a server's interface is not published as a load balancer, an
/// endpoint's address not at all. What
/// cannot be told is taken at the caller's word.
///
/// # Errors
/// 3021.
pub fn check_kind(server_type: ServerType, port: PortId, kind: PortKind) -> Result<(), ApiError> {
    let what = match (kind, server_type) {
        (PortKind::LoadBalancer, ServerType::Vm | ServerType::Bms) => "is a load balancer's port",
        (PortKind::Server, ServerType::Lb) => "is a server's interface",
        // A service behind a service's endpoint could lead into itself.
        (PortKind::Endpoint, _) => "is an endpoint's address",
        _ => return Ok(()),
    };
    Err(ApiError::because(
        Code::E3021,
        format!("server_type: {server_type}, but port_id {port} {what}."),
    ))
}

/// Rule 27 (and rule 13 of spec A.13): no custom route but a default route leads into the reserved range.
///
/// # Errors
/// 3017.
pub fn check_routes(vpc: &VpcView) -> Result<(), ApiError> {
    match vpc
        .custom_routes()
        .find(|r| r.prefix_len() > 0 && overlaps(*r, RESERVED))
    {
        None => Ok(()),
        Some(route) => Err(ApiError::because(
            Code::E3017,
            format!(
                "vpc_id: the VPC's custom route to {route} overlaps {RESERVED}, which gateways connect from."
            ),
        )),
    }
}

pub(super) fn parse_server_type(body: &Body) -> Result<ServerType, ApiError> {
    let value = body::get(body, "server_type")
        .ok_or_else(|| ApiError::because(Code::E3021, "server_type is missing."))?;
    value.as_str().and_then(ServerType::from_wire).ok_or_else(|| {
        ApiError::because(
            Code::E3021,
            format!(
                "server_type: {} is not one of LB, VM, VIP, BMS.",
                body::show(value)
            ),
        )
    })
}

pub(super) fn parse_short_name(body: &Body) -> Result<Option<String>, ApiError> {
    let short = body::string(body, "service_name", Code::E3076)?;
    short
        .map(|s| name::check_short(s).map(|()| s.to_owned()))
        .transpose()
}

/// Rule 9: tenants make interface services only.
fn check_service_type(body: &Body) -> Result<(), ApiError> {
    match body::string(body, "service_type", Code::E0002)? {
        None => Ok(()),
        Some(t) if t.eq_ignore_ascii_case("interface") => Ok(()),
        Some(t) if t.eq_ignore_ascii_case("gateway") => Err(ApiError::because(
            Code::E0002,
            "service_type: gateway services are the operator's; leave it out or say interface.",
        )),
        Some(t) => Err(ApiError::because(
            Code::E0002,
            format!("service_type: \"{t:.80}\" is not interface."),
        )),
    }
}

pub(super) fn parse_tcp_proxy(body: &Body, strict_toa: bool) -> Result<Option<TcpProxy>, ApiError> {
    let Some(word) = body::string(body, "tcp_proxy", Code::E0002)? else {
        return Ok(None);
    };
    let mode = TcpProxy::from_wire(word).ok_or_else(|| {
        ApiError::because(
            Code::E0002,
            format!("tcp_proxy: \"{word:.80}\" is not one of close, toa_open, proxy_open, open, proxy_vni."),
        )
    })?;
    if strict_toa && matches!(mode, TcpProxy::ToaOpen | TcpProxy::Open) {
        return Err(ApiError::because(
            Code::E0002,
            format!("tcp_proxy: {mode} is for OBS backends, and this region refuses it for others."),
        ));
    }
    Ok(Some(mode))
}
