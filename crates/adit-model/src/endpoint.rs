//! Endpoints: the document, its states, and the rules of creating one (spec A.13).
//!
//! ```text
//! POST ─(approval)──▶ pendingAcceptance ──receive──▶ creating ──▶ accepted ──reject──▶ rejected ──receive──▶ creating
//!   │                        └───reject──▶ rejected      │
//!   └─(no approval)─▶ creating ──────────────────────────┴──▶ failed ◀── pendingAcceptance, rejected: service deleted
//! accepted ─▶ failed, where its service has become `failed`
//! any state ──DELETE──▶ deleting ─▶ (gone)
//! ```
//!
//! `receive` passes through `creating`, because `accepted` is said only once the endpoint answers. Owns what an endpoint is
//! and when a request about one is refused; never looks anything up. An endpoint seen by its service's owner is a
//! *connection*: [`ConnectionAction`] is what the owner can do.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    body::{self, Body},
    catalogue::{ApiError, Code},
    id::{DomainId, EndpointId, MarkerId, PoolId, ProjectId, ServiceId, SubnetId, Vni, VpcId},
    network::{RESERVED, SubnetView, VpcView, overlaps, usable_address},
    quota::Usage,
    service::{Fault, Service, ServiceStatus, ServiceType, check_routes, words},
    tag::{self, Tag},
    time::{Created, Timestamp},
};

/// At most so many access-control entries on one endpoint.
pub const WHITELIST_MAX: usize = 20;

/// The one specification there is.
pub const SPECIFICATION: &str = "default";

/// The state of an endpoint, and of the connection that it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum EndpointStatus {
    /// Waits for the service's owner.
    PendingAcceptance,
    /// Approved, or never in need of it; does not answer yet.
    Creating,
    /// Answers.
    Accepted,
    /// Refused by the service's owner; passes nothing.
    Rejected,
    /// Cannot come true; `error` says why.
    Failed,
    /// On its way out.
    Deleting,
}

words!(EndpointStatus:
    PendingAcceptance = "pendingAcceptance", Creating = "creating", Accepted = "accepted",
    Rejected = "rejected", Failed = "failed", Deleting = "deleting");

/// An endpoint as it is stored. Its status changes through its own methods only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Its id.
    pub id: EndpointId,
    /// The project that owns it.
    pub project: ProjectId,
    /// The account that owns it.
    pub domain: DomainId,
    /// The service that it leads to.
    pub service: ServiceId,
    /// That service's name when the endpoint was made; replies show the present one while the service is there.
    pub service_name: String,
    /// That service's type.
    pub service_type: ServiceType,
    /// The VPC that it lives in.
    pub vpc: VpcId,
    /// That VPC's virtual network, where it has a number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vni: Option<Vni>,
    /// The subnet that its address is from.
    pub subnet: Option<SubnetId>,
    /// That subnet's block.
    pub subnet_cidr: Option<Ipv4Net>,
    /// Its address in the subnet: claimed in the request where the caller chose it, else at convergence.
    pub ip: Option<Ipv4Addr>,
    /// The address that its connections come from in the provider's VPC, out of 198.19.128.0/17.
    pub source: Option<Source>,
    /// Whether it has a name in the VPC's private DNS.
    pub enable_dns: bool,
    /// Access-control entries (addresses and blocks) as they were sent.
    pub whitelist: Vec<String>,
    /// Whether the entries are enforced.
    pub enable_whitelist: bool,
    /// Its packet id.
    pub marker: MarkerId,
    /// The pool of gateways that serves it.
    pub pool: PoolId,
    /// The tags.
    pub tags: Vec<Tag>,
    /// Free text.
    pub description: String,
    /// Which of the project's quota slots it fills.
    pub quota_slot: u32,
    status: EndpointStatus,
    /// Whether it was ever `accepted`: a rejected endpoint that was shows its address.
    accepted_once: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fault: Option<Fault>,
    /// When it was ordered.
    pub created: Created,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// The address that an endpoint's connections come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// The provider's VPC, in which the address is the endpoint's alone.
    pub vpc: VpcId,
    /// The address, out of 198.19.128.0/17.
    pub ip: Ipv4Addr,
}

/// Whose a new endpoint is and where it is put: what the request itself does not say.
#[derive(Clone, Debug)]
pub struct EndpointPlace {
    /// The new id.
    pub id: EndpointId,
    /// The caller's project.
    pub project: ProjectId,
    /// The caller's account.
    pub domain: DomainId,
    /// The packet id.
    pub marker: MarkerId,
    /// The quota slot that was free.
    pub quota_slot: u32,
    /// When.
    pub created: Created,
}

impl Endpoint {
    /// A new endpoint: `pendingAcceptance` where the service wants approval, else `creating`.
    pub fn new(request: EndpointCreate, service: &Service, place: EndpointPlace) -> Self {
        let status = if service.approval_enabled {
            EndpointStatus::PendingAcceptance
        } else {
            EndpointStatus::Creating
        };
        Self {
            id: place.id,
            project: place.project,
            domain: place.domain,
            service: service.id,
            service_name: service.name.clone(),
            service_type: service.service_type,
            vpc: request.vpc,
            vni: request.vni,
            subnet: Some(request.subnet),
            subnet_cidr: Some(request.subnet_cidr),
            ip: request.port_ip,
            source: None,
            enable_dns: request.enable_dns,
            whitelist: request.whitelist,
            enable_whitelist: request.enable_whitelist,
            marker: place.marker,
            pool: service.pool,
            tags: request.tags,
            description: request.description,
            quota_slot: place.quota_slot,
            status,
            accepted_once: false,
            fault: None,
            created: place.created,
            updated_at: place.created.at,
        }
    }

    /// Its state.
    pub fn status(&self) -> EndpointStatus {
        self.status
    }

    /// Why it is `failed`.
    pub fn fault(&self) -> Option<&Fault> {
        self.fault.as_ref()
    }

    /// Whether it counts in its service's `connection_count` and keeps the service from being deleted.
    pub fn is_live(&self) -> bool {
        matches!(self.status, EndpointStatus::Creating | EndpointStatus::Accepted)
    }

    /// The address that replies show: only while `accepted`, or `rejected` after having been accepted once.
    pub fn shown_ip(&self) -> Option<Ipv4Addr> {
        let shown = match self.status {
            EndpointStatus::Accepted => true,
            EndpointStatus::Rejected => self.accepted_once,
            _ => false,
        };
        self.ip.filter(|_| shown)
    }

    /// The owner's `receive`: `pendingAcceptance` or `rejected` → `creating`. Answers `false` where it was `accepted`
    /// already, which is no error (spec semantics 20, row 26).
    ///
    /// # Errors
    /// 2019, 2018, 2047 by state.
    pub fn receive(&mut self, now: Timestamp) -> Result<bool, ApiError> {
        self.check_action()?;
        if self.status == EndpointStatus::Accepted {
            return Ok(false);
        }
        self.enter(EndpointStatus::Creating, now);
        Ok(true)
    }

    /// The owner's `reject`: `pendingAcceptance` or `accepted` → `rejected`. Answers `false` where it was `rejected`
    /// already.
    ///
    /// # Errors
    /// 2019, 2018, 2047 by state.
    pub fn reject(&mut self, now: Timestamp) -> Result<bool, ApiError> {
        self.check_action()?;
        if self.status == EndpointStatus::Rejected {
            return Ok(false);
        }
        self.enter(EndpointStatus::Rejected, now);
        Ok(true)
    }

    fn check_action(&self) -> Result<(), ApiError> {
        let code = match self.status {
            EndpointStatus::Creating => Code::E2019,
            EndpointStatus::Deleting => Code::E2018,
            EndpointStatus::Failed => Code::E2047,
            EndpointStatus::PendingAcceptance | EndpointStatus::Accepted | EndpointStatus::Rejected => {
                return Ok(());
            }
        };
        Err(ApiError::because(
            code,
            format!("Endpoint {} is {}.", self.id, self.status),
        ))
    }

    /// The gateway says that it listens: `creating` → `accepted`; anything else stays as it is and answers `false`.
    pub fn accept(&mut self, now: Timestamp) -> bool {
        if self.status != EndpointStatus::Creating {
            return false;
        }
        self.accepted_once = true;
        self.enter(EndpointStatus::Accepted, now);
        true
    }

    /// `creating` or `accepted` → `failed`; anything else stays as it is and answers `false`.
    pub fn fail(&mut self, fault: Fault, now: Timestamp) -> bool {
        if !self.is_live() {
            return false;
        }
        self.fault = Some(fault);
        self.enter(EndpointStatus::Failed, now);
        true
    }

    /// Its service is being deleted: `pendingAcceptance`, `rejected` or `failed` → `failed` with `EndPoint.2003` (spec
    /// A.8). Anything else stays as it is and answers `false`.
    pub fn orphan(&mut self, service_name: &str, now: Timestamp) -> bool {
        if self.is_live() || self.status == EndpointStatus::Deleting {
            return false;
        }
        let fault =
            ApiError::because(Code::E2003, format!("{service_name} was deleted by its owner.")).into();
        if self.fault.as_ref() == Some(&fault) {
            return false;
        }
        self.service_name = service_name.to_owned();
        self.fault = Some(fault);
        self.enter(EndpointStatus::Failed, now);
        true
    }

    /// Any state → `deleting` (spec A.16). Answers `false` where it was `deleting` already.
    pub fn delete(&mut self, now: Timestamp) -> bool {
        if self.status == EndpointStatus::Deleting {
            return false;
        }
        self.fault = None;
        self.enter(EndpointStatus::Deleting, now);
        true
    }

    fn enter(&mut self, status: EndpointStatus, now: Timestamp) {
        self.status = status;
        self.updated_at = now.at_least(self.updated_at);
    }
}

/// A request to create an endpoint, judged step by step, because the table's order (spec A.13) puts look-ups between
/// field rules: [`EndpointDraft::parse`] → [`EndpointDraft::check_service`] → [`EndpointDraft::check_vpc`] →
/// [`EndpointDraft::finish`].
#[derive(Clone, Debug)]
pub struct EndpointDraft {
    /// The service to connect to.
    pub service: ServiceId,
    /// The VPC to live in.
    pub vpc: VpcId,
    enable_dns: bool,
    tags: Vec<Tag>,
    description: String,
    body: Body,
}

/// A request to create an interface endpoint that no rule refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointCreate {
    /// The VPC to live in.
    pub vpc: VpcId,
    /// That VPC's virtual network, where it has a number.
    pub vni: Option<Vni>,
    /// The subnet that the address is from.
    pub subnet: SubnetId,
    /// That subnet's block.
    pub subnet_cidr: Ipv4Net,
    /// The address that the caller chose.
    pub port_ip: Option<Ipv4Addr>,
    /// Whether to give it a private name.
    pub enable_dns: bool,
    /// Access-control entries.
    pub whitelist: Vec<String>,
    /// Whether they are enforced.
    pub enable_whitelist: bool,
    /// The tags.
    pub tags: Vec<Tag>,
    /// Free text.
    pub description: String,
}

impl EndpointDraft {
    /// Rules 2 to 6.
    ///
    /// # Errors
    /// The code of the first rule that is broken.
    pub fn parse(body: Body) -> Result<Self, ApiError> {
        let service = body::id(&body, "endpoint_service_id", Code::E2029, Code::E3062)?;
        let vpc = body::id(&body, "vpc_id", Code::E2011, Code::E0020)?;
        let enable_dns = body::boolean(&body, "enable_dns", Code::E2033)?.unwrap_or(false);
        if let Some(name) = body::string(&body, "specification_name", Code::E0015)?
            && name != SPECIFICATION
        {
            return Err(ApiError::because(
                Code::E2009,
                format!("specification_name: \"{name:.80}\" is not \"{SPECIFICATION}\"."),
            ));
        }
        let tags = tag::parse_list(body.get("tags"))?;
        let description = body::description(&body)?.unwrap_or_default();
        Ok(Self {
            service,
            vpc,
            enable_dns,
            tags,
            description,
            body,
        })
    }

    /// Rules 7 to 9: the service exists, the caller's account may connect to it, and it is available. `admitted` says
    /// whether the whitelist names the account.
    ///
    /// # Errors
    /// 2003, 2012, 2004.
    pub fn check_service(
        &self,
        service: Option<&Service>,
        caller: &DomainId,
        admitted: bool,
    ) -> Result<(), ApiError> {
        let unknown = || ApiError::because(Code::E2003, format!("endpoint_service_id: {}.", self.service));
        let service = service.ok_or_else(unknown)?;
        if service.domain != *caller && !admitted {
            return Err(ApiError::because(
                Code::E2012,
                format!(
                    "endpoint_service_id: {} does not have your account on its whitelist.",
                    self.service
                ),
            ));
        }
        if service.status() != ServiceStatus::Available {
            return Err(ApiError::because(
                Code::E2004,
                format!("endpoint_service_id: {} is {}.", self.service, service.status()),
            ));
        }
        Ok(())
    }

    /// Rules 10 and 11: the VPC is the caller's, and a subnet is named.
    ///
    /// # Errors
    /// 2001, 2010, 0023.
    pub fn check_vpc(&self, vpc: Option<&VpcView>) -> Result<SubnetId, ApiError> {
        if vpc.is_none() {
            return Err(ApiError::because(
                Code::E2001,
                format!("vpc_id: {} is not one of yours.", self.vpc),
            ));
        }
        body::id(&self.body, "subnet_id", Code::E2010, Code::E0023)
    }

    /// Rules 12 to 22 for an interface endpoint. `is_free` tells whether an address of the subnet is.
    ///
    /// # Errors
    /// The code of the first rule that is broken.
    pub fn finish(
        self,
        vpc: &VpcView,
        subnet_id: SubnetId,
        subnet: Option<&SubnetView>,
        is_free: impl Fn(Ipv4Addr) -> bool,
        quota: Usage,
    ) -> Result<EndpointCreate, ApiError> {
        let subnet = subnet.ok_or_else(|| {
            ApiError::because(
                Code::E4004,
                format!("subnet_id: {subnet_id} is not one of yours."),
            )
        })?;
        // A network that has no addresses yet cannot be part of a VPC.
        let (Some(range), true) = (subnet.range.as_ref(), subnet.vpc == Some(vpc.id)) else {
            return Err(ApiError::because(
                Code::E2037,
                format!("subnet_id: {subnet_id} is not a subnet of VPC {}.", vpc.id),
            ));
        };
        if overlaps(range.cidr, RESERVED) {
            return Err(ApiError::because(
                Code::E3009,
                format!(
                    "subnet_id: the subnet's block {} overlaps {RESERVED}.",
                    range.cidr
                ),
            ));
        }
        check_routes(vpc)?;
        let port_ip = parse_port_ip(&self.body)?;
        if let Some(ip) = port_ip {
            if !usable_address(range, ip) {
                return Err(ApiError::because(
                    Code::E2043,
                    format!("port_ip: {ip} is not a usable address of {}.", range.cidr),
                ));
            }
            if ip == range.gateway || !is_free(ip) {
                return Err(ApiError::because(Code::E2042, format!("port_ip: {ip} is taken.")));
            }
        }
        let whitelist = parse_whitelist(body::get(&self.body, "whitelist"))?;
        let enable_whitelist = body::boolean(&self.body, "enable_whitelist", Code::E0002)?.unwrap_or(false);
        if body::get(&self.body, "policy_statement")
            .is_some_and(|p| p.as_array().is_none_or(|p| !p.is_empty()))
        {
            return Err(ApiError::because(
                Code::E2048,
                "policy_statement: only an endpoint of a gateway service can have a policy.",
            ));
        }
        quota.check("endpoints")?;
        Ok(EndpointCreate {
            vpc: self.vpc,
            vni: vpc.vni,
            subnet: subnet_id,
            subnet_cidr: range.cidr,
            port_ip,
            enable_dns: self.enable_dns,
            whitelist,
            enable_whitelist,
            tags: self.tags,
            description: self.description,
        })
    }
}

/// Rule 14, first part.
fn parse_port_ip(body: &Body) -> Result<Option<Ipv4Addr>, ApiError> {
    let Some(value) = body::get(body, "port_ip") else {
        return Ok(None);
    };
    value
        .as_str()
        .and_then(|s| s.parse().ok())
        .map(Some)
        .ok_or_else(|| {
            ApiError::because(
                Code::E2041,
                format!("port_ip: {} is not an IPv4 address.", body::show(value)),
            )
        })
}

/// Reads access-control entries (spec semantics 10): addresses and blocks, host bits allowed, at most 20.
///
/// # Errors
/// 2044 for anything else in the list, 2045 for more.
pub fn parse_whitelist(value: Option<&Value>) -> Result<Vec<String>, ApiError> {
    let list = match value {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(list)) => list,
        Some(other) => {
            return Err(ApiError::because(
                Code::E2044,
                format!("whitelist: {} is not a list of addresses.", body::show(other)),
            ));
        }
    };
    let entries = list
        .iter()
        .enumerate()
        .map(|(i, value)| match value.as_str() {
            Some(text) if parse_entry(text).is_some() => Ok(text.to_owned()),
            _ => Err(ApiError::because(
                Code::E2044,
                format!(
                    "whitelist[{i}]: {} is not an IPv4 address or block.",
                    body::show(value)
                ),
            )),
        })
        .collect::<Result<Vec<_>, _>>()?;
    if entries.len() > WHITELIST_MAX {
        return Err(ApiError::because(
            Code::E2045,
            format!(
                "whitelist holds {} entries, more than {WHITELIST_MAX}.",
                entries.len()
            ),
        ));
    }
    Ok(entries)
}

/// One access-control entry as a block.
pub fn parse_entry(text: &str) -> Option<Ipv4Net> {
    // Only as it would be printed: ipnet alone also reads leading zeros, which some read as octal.
    match text.parse::<Ipv4Net>() {
        Ok(block) => Some(block).filter(|block| block.to_string() == text),
        Err(_) => text.parse::<Ipv4Addr>().ok().map(Ipv4Net::from),
    }
}

/// What a service's owner does to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// `receive` on the wire.
    Receive,
    /// `reject` on the wire.
    Reject,
}

/// A well-formed request to accept or reject one endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionAction {
    /// What to do.
    pub decision: Decision,
    /// To which endpoint.
    pub endpoint: EndpointId,
}

impl ConnectionAction {
    /// The field rules of spec A.10, in the table's order.
    ///
    /// # Errors
    /// 2027 (action), 2002 (no endpoint), 2031 (more than one), 2017 (not a UUID).
    pub fn parse(body: &Body) -> Result<Self, ApiError> {
        let decision = match body.get("action") {
            Some(Value::String(s)) if s == "receive" => Decision::Receive,
            Some(Value::String(s)) if s == "reject" => Decision::Reject,
            other => {
                let shown = other.map_or_else(|| "nothing".to_owned(), body::show);
                return Err(ApiError::because(
                    Code::E2027,
                    format!("action: {shown} is neither receive nor reject."),
                ));
            }
        };
        let list = match body::get(body, "endpoints") {
            None => return Err(ApiError::because(Code::E2002, "endpoints is missing.")),
            Some(Value::Array(list)) => list,
            Some(other) => {
                return Err(ApiError::because(
                    Code::E0002,
                    format!("endpoints: {} is not a list.", body::show(other)),
                ));
            }
        };
        let endpoint = match list.as_slice() {
            [] => return Err(ApiError::because(Code::E2002, "endpoints: [] names no endpoint.")),
            [one] => one.as_str().and_then(|s| s.parse().ok()).ok_or_else(|| {
                ApiError::because(
                    Code::E2017,
                    format!("endpoints[0]: {} is not a UUID.", body::show(one)),
                )
            })?,
            more => {
                return Err(ApiError::because(
                    Code::E2031,
                    format!("endpoints names {} endpoints; name one.", more.len()),
                ));
            }
        };
        Ok(Self { decision, endpoint })
    }
}
