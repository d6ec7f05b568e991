//! Endpoint services: the document, its states, and the thirty rules of creating one (spec A.4).
//!
//! ```text
//! POST ─▶ creating ──▶ available ──DELETE──▶ deleting ─▶ (gone)
//!             └──────▶ failed ────DELETE──────▲
//!                        ▲── available, where a changed tcp_proxy cannot be done by any gateway
//! ```
//!
//! A tenant publishes a port ([`ServiceCreate`]); the operator publishes ports and blocks of addresses for everybody
//! ([`PublicCreate`]). Owns what a service is and when a request about one is refused; never looks anything up: the facts
//! are passed in. Read next: [`crate::port_mapping`] for the list of mappings, [`crate::endpoint`] for the other side.

mod backends;
mod create;
mod public;
mod update;
mod upgrade;

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

pub use backends::{BACKENDS_MAX, MoreBackend, ServerResource, parse_server_resources};
pub use create::{ServiceCreate, ServiceFacts, check_kind, check_port, check_routes};
pub use public::{OWNER, PREFIXES_MAX, PublicCreate, parse_prefixes};
pub use update::{ServiceUpdate, check_private};
pub use upgrade::{parse_endpoint_upgrade, parse_service_upgrade};

use crate::{
    catalogue::{ApiError, Code},
    fitted,
    id::{DomainId, PoolId, PortId, ProjectId, ServiceId, VpcId},
    name,
    port_mapping::PortMapping,
    proxy::ProxyProfile,
    tag::Tag,
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

impl ServiceStatus {
    /// Whether the reconcilers have something to do until it is another.
    #[must_use]
    pub fn is_moving(self) -> bool {
        matches!(self, Self::Creating | Self::Deleting)
    }
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

/// What is behind a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "service_type")]
pub enum Backend {
    /// One port of its VPC; the service is of type `interface`.
    #[serde(rename = "interface")]
    Port(BackendPort),
    /// Whole blocks, which clients reach at the addresses that they have; the service is of type `gateway`.
    #[serde(rename = "gateway")]
    Prefixes {
        /// The blocks, none of which overlaps another; at least one.
        prefixes: Vec<Ipv4Net>,
    },
}

/// A port that is published.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackendPort {
    /// The port.
    #[serde(rename = "port")]
    pub id: PortId,
    /// What it is said to belong to.
    pub server_type: ServerType,
    /// Its address, once it is known; only the store and the gateway see it.
    #[serde(rename = "backend_ip")]
    pub ip: Option<Ipv4Addr>,
}

/// That the operator runs a service for everybody: whoever asks may connect, and no tenant can change it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Public {
    /// Whose it is said to be.
    pub owner: String,
    /// Whether its use is said to cost something.
    pub is_charge: bool,
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
    pub name: Box<str>,
    /// Present for a public service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public: Option<Box<Public>>,
    /// What is behind it.
    #[serde(flatten)]
    pub backend: Backend,
    /// What is behind it beside that; only the store and the gateway see it.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "fitted::list"
    )]
    pub more_backends: Vec<MoreBackend>,
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
    #[serde(deserialize_with = "fitted::list")]
    pub ports: Vec<PortMapping>,
    /// The tags.
    #[serde(deserialize_with = "fitted::list")]
    pub tags: Vec<Tag>,
    /// Free text.
    pub description: Box<str>,
    /// Which of the project's quota slots it fills; a public service fills none.
    pub quota_slot: Option<u32>,
    /// Whether it takes professional endpoints, too; nothing that is served depends on it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    professional: bool,
    status: ServiceStatus,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fault: Option<Box<Fault>>,
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
    /// The quota slot that was free, where one is needed.
    pub quota_slot: Option<u32>,
    /// When.
    pub created: Created,
}

impl Service {
    /// A new service in `creating`.
    pub fn new(request: ServiceCreate, place: ServicePlace<'_>) -> Self {
        Self {
            id: place.id,
            name: name::compose(place.region, &request.short_name, place.id).into(),
            project: place.project,
            domain: place.domain,
            public: None,
            backend: Backend::Port(BackendPort {
                id: request.port,
                server_type: request.server_type,
                ip: place.backend_ip,
            }),
            more_backends: Vec::new(),
            vpc: request.vpc,
            pool: request.pool.unwrap_or(place.pool),
            approval_enabled: request.approval_enabled,
            tcp_proxy: request.tcp_proxy,
            proxy_profile: None,
            ports: request.ports,
            tags: request.tags,
            description: request.description.into(),
            quota_slot: place.quota_slot,
            professional: false,
            status: ServiceStatus::Creating,
            fault: None,
            created: place.created,
            updated_at: place.created.at,
        }
    }

    /// A new public service in `creating`; nobody's approval is needed to connect to it.
    pub fn new_public(request: PublicCreate, place: ServicePlace<'_>) -> Self {
        let mut backend = request.backend;
        if let Backend::Port(port) = &mut backend {
            port.ip = place.backend_ip;
        }
        Self {
            id: place.id,
            name: request.name.into(),
            project: place.project,
            domain: place.domain,
            public: Some(request.public.into()),
            backend,
            more_backends: Vec::new(),
            vpc: request.vpc,
            pool: request.pool.unwrap_or(place.pool),
            approval_enabled: false,
            tcp_proxy: request.tcp_proxy,
            proxy_profile: None,
            ports: request.ports,
            tags: Vec::new(),
            description: request.description.into(),
            quota_slot: place.quota_slot,
            professional: false,
            status: ServiceStatus::Creating,
            fault: None,
            created: place.created,
            updated_at: place.created.at,
        }
    }

    /// `interface` or `gateway`: what is behind it decides.
    pub fn service_type(&self) -> ServiceType {
        match self.backend {
            Backend::Port(_) => ServiceType::Interface,
            Backend::Prefixes { .. } => ServiceType::Gateway,
        }
    }

    /// The backend port, where there is one.
    pub fn port(&self) -> Option<&BackendPort> {
        match &self.backend {
            Backend::Port(port) => Some(port),
            Backend::Prefixes { .. } => None,
        }
    }

    /// Its state.
    pub fn status(&self) -> ServiceStatus {
        self.status
    }

    /// Why it is `failed`.
    pub fn fault(&self) -> Option<&Fault> {
        self.fault.as_deref()
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
        self.fault = Some(fault.into());
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
            self.name = name::compose(region, &short, self.id).into();
        }
        self.ports = ports.unwrap_or_else(|| std::mem::take(&mut self.ports));
        if let (Backend::Port(backend), Some(port)) = (&mut self.backend, port)
            && backend.id != port
        {
            backend.id = port;
            backend.ip = None;
            // One that was behind it already is the first one now.
            self.more_backends.retain(|more| more.port != port);
        }
        self.tcp_proxy = tcp_proxy.unwrap_or(self.tcp_proxy);
        if let Some(description) = description {
            self.description = description.into();
        }
        self.touch(now);
        Ok(())
    }

    fn enter(&mut self, status: ServiceStatus, now: Timestamp) {
        self.status = status;
        self.touch(now);
    }

    /// Sets whose parsers its PROXY header is for; `None` is the region's. Answers `false` where that is so already.
    ///
    /// # Errors
    /// 3045 in any state but `available`.
    pub fn set_proxy_profile(
        &mut self,
        profile: Option<ProxyProfile>,
        now: Timestamp,
    ) -> Result<bool, ApiError> {
        if self.status != ServiceStatus::Available {
            return Err(ApiError::because(
                Code::E3045,
                format!("Endpoint service {} is {}.", self.id, self.status),
            ));
        }
        if self.proxy_profile == profile {
            return Ok(false);
        }
        self.proxy_profile = profile;
        self.touch(now);
        Ok(true)
    }

    fn touch(&mut self, now: Timestamp) {
        self.updated_at = now.at_least(self.updated_at);
    }
}
