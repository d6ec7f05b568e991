//! Endpoint services: the document, its states, and the thirty rules of creating one (spec A.4).
//!
//! ```text
//! POST ─▶ creating ──▶ available ──DELETE──▶ deleting ─▶ (gone)
//!             └──────▶ failed ────DELETE──────▲
//!                        ▲── available, where a changed tcp_proxy cannot be done by any gateway
//! ```
//!
//! Owns what a service is and when a request about one is refused; never looks anything up: the facts are passed in.
//! Read next: [`crate::port_mapping`] for the list of mappings, [`crate::endpoint`] for the other side.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use crate::{
    body::{self, Body},
    catalogue::{ApiError, Code},
    id::{DomainId, PoolId, PortId, ProjectId, ServiceId, VpcId},
    name,
    network::{PortKind, PortView, RESERVED, VpcView, overlaps},
    port_mapping::{self, Claims, PortMapping},
    proxy::ProxyProfile,
    quota::Usage,
    tag::{self, Tag},
    time::{Created, Timestamp},
};

/// The state of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ServiceStatus {
    /// Ordered, not usable yet.
    Creating,
    /// Endpoints can be created.
    Available,
    /// Cannot come true; `error` says why. Only deletion leads out of here.
    Failed,
    /// On its way out.
    Deleting,
}

/// `interface` or `gateway`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ServiceType {
    /// An endpoint is an address in a subnet.
    Interface,
    /// An endpoint is a set of routes. Operators only.
    Gateway,
}

/// The kind of a service's backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum ServerType {
    /// A load balancer.
    Lb,
    /// A server.
    Vm,
    /// A virtual address (deprecated).
    Vip,
    /// A bare-metal server (deprecated).
    Bms,
}

/// How a connection's client is told to the backend (spec semantics 12).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TcpProxy {
    /// Not at all.
    #[default]
    Close,
    /// In a TCP option.
    ToaOpen,
    /// In a PROXY protocol header.
    ProxyOpen,
    /// Both.
    Open,
    /// In a PROXY protocol header that also names the consumer's virtual network.
    ProxyVni,
}

macro_rules! words {
    ($type:ident: $($variant:ident = $word:literal),*) => {
        impl $type {
            /// Every value, in the specification's order.
            pub const ALL: &'static [$type] = &[$($type::$variant),*];

            /// The value as it stands on the wire.
            pub const fn as_str(self) -> &'static str {
                match self { $($type::$variant => $word),* }
            }

            /// Reads a wire value; case matters.
            pub fn from_wire(word: &str) -> Option<Self> {
                match word { $($word => Some($type::$variant),)* _ => None }
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}
pub(crate) use words;

words!(ServiceStatus: Creating = "creating", Available = "available", Failed = "failed", Deleting = "deleting");
words!(ServiceType: Interface = "interface", Gateway = "gateway");
words!(ServerType: Lb = "LB", Vm = "VM", Vip = "VIP", Bms = "BMS");
impl TcpProxy {
    /// Whether the backend gets a PROXY protocol header.
    pub fn has_header(self) -> bool {
        matches!(self, Self::ProxyOpen | Self::Open | Self::ProxyVni)
    }

    /// Whether the backend gets a TCP option.
    pub fn has_toa(self) -> bool {
        matches!(self, Self::ToaOpen | Self::Open)
    }

    /// Whether the header names the consumer's virtual network.
    pub fn names_network(self) -> bool {
        self == Self::ProxyVni
    }
}

words!(TcpProxy: Close = "close", ToaOpen = "toa_open", ProxyOpen = "proxy_open", Open = "open", ProxyVni = "proxy_vni");

/// Why a service, an endpoint or a connection is `failed`: an item of the `error` array.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// A code of the catalogue.
    pub error_code: String,
    /// What happened, for a person.
    pub error_message: String,
}

impl From<ApiError> for Fault {
    fn from(e: ApiError) -> Self {
        Self {
            error_code: e.code.as_str().to_owned(),
            error_message: e.message,
        }
    }
}

/// An endpoint service as it is stored. Its status changes through its own methods only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Its id.
    pub id: ServiceId,
    /// The project that owns it.
    pub project: ProjectId,
    /// The account that owns it.
    pub domain: DomainId,
    /// The composed name, as every reply shows it.
    pub name: String,
    /// `interface` or `gateway`.
    pub service_type: ServiceType,
    /// The kind of backend.
    pub server_type: ServerType,
    /// The backend port.
    pub port: PortId,
    /// The backend port's address, once it is known; only the store and the gateway see it.
    pub backend_ip: Option<Ipv4Addr>,
    /// The backend's VPC.
    pub vpc: VpcId,
    /// The pool of gateways that serves it.
    pub pool: PoolId,
    /// Whether endpoints wait for the owner's word.
    pub approval_enabled: bool,
    /// How the backend learns of the client.
    pub tcp_proxy: TcpProxy,
    /// Whose parsers the PROXY header is for; the operator's word, and without it the region's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy_profile: Option<ProxyProfile>,
    /// The port mappings.
    pub ports: Vec<PortMapping>,
    /// The tags.
    pub tags: Vec<Tag>,
    /// Free text.
    pub description: String,
    /// Which of the project's quota slots it fills.
    pub quota_slot: u32,
    status: ServiceStatus,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fault: Option<Fault>,
    /// When it was ordered.
    pub created: Created,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// Whose a new service is and where it is put: what the request itself does not say.
#[derive(Clone, Debug)]
pub struct ServicePlace<'a> {
    /// The new id.
    pub id: ServiceId,
    /// The caller's project.
    pub project: ProjectId,
    /// The caller's account.
    pub domain: DomainId,
    /// The region's name.
    pub region: &'a str,
    /// The pool to use where the request names none.
    pub pool: PoolId,
    /// The backend port's address, where it has one.
    pub backend_ip: Option<Ipv4Addr>,
    /// The quota slot that was free.
    pub quota_slot: u32,
    /// When.
    pub created: Created,
}

impl Service {
    /// A new service in `creating`.
    pub fn new(request: ServiceCreate, place: ServicePlace<'_>) -> Self {
        Self {
            id: place.id,
            name: name::compose(place.region, &request.short_name, place.id),
            project: place.project,
            domain: place.domain,
            service_type: ServiceType::Interface,
            server_type: request.server_type,
            port: request.port,
            backend_ip: place.backend_ip,
            vpc: request.vpc,
            pool: request.pool.unwrap_or(place.pool),
            approval_enabled: request.approval_enabled,
            tcp_proxy: request.tcp_proxy,
            proxy_profile: None,
            ports: request.ports,
            tags: request.tags,
            description: request.description,
            quota_slot: place.quota_slot,
            status: ServiceStatus::Creating,
            fault: None,
            created: place.created,
            updated_at: place.created.at,
        }
    }

    /// Its state.
    pub fn status(&self) -> ServiceStatus {
        self.status
    }

    /// Why it is `failed`.
    pub fn fault(&self) -> Option<&Fault> {
        self.fault.as_ref()
    }

    /// Whether its port mappings count against others' (spec 0.6, rule 4).
    pub fn holds_claims(&self) -> bool {
        matches!(self.status, ServiceStatus::Creating | ServiceStatus::Available)
    }

    /// Whether its whitelist and its tags can be written: while it is there to stay (spec semantics 6).
    ///
    /// # Errors
    /// 3045 in `failed`, 0005 in `deleting`.
    pub fn check_parts_writable(&self) -> Result<(), ApiError> {
        let code = match self.status {
            ServiceStatus::Creating | ServiceStatus::Available => return Ok(()),
            ServiceStatus::Failed => Code::E3045,
            ServiceStatus::Deleting => Code::E0005,
        };
        Err(ApiError::because(
            code,
            format!("Endpoint service {} is {}.", self.id, self.status),
        ))
    }

    /// `creating` → `available`; anything else stays as it is and answers `false`.
    pub fn build(&mut self, now: Timestamp) -> bool {
        if self.status != ServiceStatus::Creating {
            return false;
        }
        self.enter(ServiceStatus::Available, now);
        true
    }

    /// `creating` or `available` → `failed`; anything else stays as it is and answers `false`.
    pub fn fail(&mut self, fault: Fault, now: Timestamp) -> bool {
        if !self.holds_claims() {
            return false;
        }
        self.enter(ServiceStatus::Failed, now);
        self.fault = Some(fault);
        true
    }

    /// `available` or `failed` → `deleting` (spec A.8). Answers `false` where it was `deleting` already.
    ///
    /// # Errors
    /// 3005 in `creating`; 3006 while `live_endpoints` (those in `creating` or `accepted`) is not 0.
    pub fn delete(&mut self, live_endpoints: usize, now: Timestamp) -> Result<bool, ApiError> {
        match self.status {
            ServiceStatus::Deleting => Ok(false),
            ServiceStatus::Creating => Err(ApiError::because(
                Code::E3005,
                format!("Endpoint service {} is still being created.", self.id),
            )),
            _ if live_endpoints > 0 => Err(ApiError::because(
                Code::E3006,
                format!(
                    "Endpoint service {} has {live_endpoints} endpoint(s) in creating or accepted.",
                    self.id
                ),
            )),
            _ => {
                self.fault = None;
                self.enter(ServiceStatus::Deleting, now);
                Ok(true)
            }
        }
    }

    /// Applies an update (spec A.7); the status stays `available`.
    ///
    /// # Errors
    /// 3045 in any state but `available`.
    pub fn update(&mut self, update: ServiceUpdate, region: &str, now: Timestamp) -> Result<(), ApiError> {
        let ServiceUpdate {
            approval_enabled,
            short_name,
            ports,
            port,
            tcp_proxy,
            description,
        } = update;
        if self.status != ServiceStatus::Available {
            return Err(ApiError::because(
                Code::E3045,
                format!("Endpoint service {} is {}.", self.id, self.status),
            ));
        }
        self.approval_enabled = approval_enabled.unwrap_or(self.approval_enabled);
        if let Some(short) = short_name {
            self.name = name::compose(region, &short, self.id);
        }
        self.ports = ports.unwrap_or_else(|| std::mem::take(&mut self.ports));
        self.port = port.unwrap_or(self.port);
        self.tcp_proxy = tcp_proxy.unwrap_or(self.tcp_proxy);
        self.description = description.unwrap_or_else(|| std::mem::take(&mut self.description));
        self.touch(now);
        Ok(())
    }

    fn enter(&mut self, status: ServiceStatus, now: Timestamp) {
        self.status = status;
        self.touch(now);
    }

    fn touch(&mut self, now: Timestamp) {
        self.updated_at = now.at_least(self.updated_at);
    }
}

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
        let vpc = facts.vpc.ok_or_else(|| {
            ApiError::because(Code::E2001, format!("vpc_id: {} is not one of yours.", self.vpc))
        })?;
        let port = check_port(self.port, self.vpc, facts.port)?;
        check_kind(self.server_type, self.port, port.kind)?;
        if let Some(pool) = self.pool
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
        check_routes(vpc)?;
        let claims = facts.claims.replace(id, &self.ports)?;
        if facts
            .services_per_port_max
            .is_some_and(|max| claims.services() > max)
        {
            return Err(ApiError::because(
                Code::E3056,
                format!(
                    "port_id: {} backs {} endpoint services already.",
                    self.port,
                    claims.services() - 1
                ),
            ));
        }
        facts.quota.check("endpoint services")?;
        Ok(claims)
    }
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
        .custom_routes
        .iter()
        .find(|r| r.prefix_len() > 0 && overlaps(**r, RESERVED))
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

fn parse_server_type(body: &Body) -> Result<ServerType, ApiError> {
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

fn parse_short_name(body: &Body) -> Result<Option<String>, ApiError> {
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

fn parse_tcp_proxy(body: &Body, strict_toa: bool) -> Result<Option<TcpProxy>, ApiError> {
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
}
