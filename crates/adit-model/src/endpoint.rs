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

mod access;
mod connection;
mod create;
mod descriptions;
mod drain;
mod gateway;
mod switch;

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

pub use access::AccessUpdate;
pub use connection::{ConnectionAction, Decision};
pub use create::{EndpointCreate, EndpointDraft, WHITELIST_MAX, parse_entry, parse_whitelist};
pub use descriptions::{CONNECTIONS_MAX, parse_descriptions};
pub use drain::{parse_drain_s, parse_drain_s_query};
pub use gateway::{check_route_tables, parse_policy_update, parse_route_tables, parse_route_tables_update};
pub use switch::parse_enable_status;

use crate::{
    catalogue::{ApiError, Code},
    fitted,
    id::{DomainId, EndpointId, MarkerId, PoolId, ProjectId, RouteTableId, ServiceId, SubnetId, Vni, VpcId},
    policy::Statement,
    service::{Fault, Service, ServiceType, words},
    tag::Tag,
    time::{Created, Timestamp},
};

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

impl EndpointStatus {
    /// Whether the reconcilers have something to do until it is another.
    #[must_use]
    pub fn is_moving(self) -> bool {
        matches!(self, Self::Creating | Self::Deleting)
    }
}

/// How an endpoint is reached in its VPC, by the type of its service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "service_type", rename_all = "lowercase")]
pub enum Leg {
    /// At an address of its own.
    Interface(InterfaceLeg),
    /// By routes to the service's addresses.
    Gateway(GatewayLeg),
}

/// What an interface endpoint has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterfaceLeg {
    /// The subnet that its address is from.
    pub subnet: SubnetId,
    /// That subnet's block.
    pub subnet_cidr: Ipv4Net,
    /// Its address in the subnet: claimed in the request where the caller chose it, else at convergence.
    pub ip: Option<Ipv4Addr>,
    /// Whether it has a name in the VPC's private DNS.
    pub enable_dns: bool,
    /// Access-control entries (addresses and blocks) as they were sent.
    #[serde(deserialize_with = "fitted::list")]
    pub whitelist: Vec<String>,
    /// Whether the entries are enforced.
    pub enable_whitelist: bool,
}

impl InterfaceLeg {
    /// The blocks that clients may come from where the entries are enforced.
    pub fn allowed(&self) -> Vec<Ipv4Net> {
        self.whitelist
            .iter()
            .filter_map(|entry| parse_entry(entry))
            .collect()
    }
}

/// What a gateway endpoint has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewayLeg {
    /// The route tables of the VPC that lead to the service.
    pub route_tables: Vec<RouteTableId>,
    /// What may be done through it; empty stands for everything ([`crate::policy::full_access`]).
    pub policy: Vec<Statement>,
}

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
    pub service_name: Box<str>,
    /// The VPC that it lives in.
    pub vpc: VpcId,
    /// That VPC's virtual network, where it has a number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vni: Option<Vni>,
    /// How it is reached there.
    #[serde(flatten)]
    pub leg: Leg,
    /// The address that its connections come from in the provider's VPC, out of 198.19.128.0/17.
    pub source: Option<Source>,
    /// Its packet id.
    pub marker: MarkerId,
    /// The pool of gateways that serves it.
    pub pool: PoolId,
    /// The tags.
    #[serde(deserialize_with = "fitted::list")]
    pub tags: Vec<Tag>,
    /// Free text.
    pub description: Box<str>,
    /// What the service's owner writes beside it; its own owner never sees it.
    #[serde(default, skip_serializing_if = "str::is_empty")]
    pub connection_description: Box<str>,
    /// Which of the project's quota slots it fills.
    pub quota_slot: u32,
    /// How many seconds its connections may go on once it is served no more, where whoever ended it said so; else the region's
    /// setting counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain_s: Option<u32>,
    /// Whether the operator has switched it off.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    disabled: bool,
    /// Whether it has been upgraded to the professional edition; nothing that is served depends on it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) professional: bool,
    status: EndpointStatus,
    /// Whether it was ever `accepted`: a rejected endpoint that was shows its address.
    accepted_once: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fault: Option<Box<Fault>>,
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
            vpc: request.vpc,
            vni: request.vni,
            leg: request.leg,
            source: None,
            marker: place.marker,
            pool: service.pool,
            tags: request.tags,
            description: request.description.into(),
            connection_description: Box::default(),
            quota_slot: place.quota_slot,
            drain_s: None,
            disabled: false,
            professional: false,
            status,
            accepted_once: false,
            fault: None,
            created: place.created,
            updated_at: place.created.at,
        }
    }

    /// The type of its service.
    pub fn service_type(&self) -> ServiceType {
        match self.leg {
            Leg::Interface(_) => ServiceType::Interface,
            Leg::Gateway(_) => ServiceType::Gateway,
        }
    }

    /// What it has as an interface endpoint, if it is one.
    pub fn interface(&self) -> Option<&InterfaceLeg> {
        match &self.leg {
            Leg::Interface(leg) => Some(leg),
            Leg::Gateway(_) => None,
        }
    }

    /// What it has as a gateway endpoint, if it is one.
    pub fn gateway(&self) -> Option<&GatewayLeg> {
        match &self.leg {
            Leg::Interface(_) => None,
            Leg::Gateway(leg) => Some(leg),
        }
    }

    /// Its state.
    pub fn status(&self) -> EndpointStatus {
        self.status
    }

    /// Why it is `failed`.
    pub fn fault(&self) -> Option<&Fault> {
        self.fault.as_deref()
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
        self.interface()?.ip.filter(|_| shown)
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

    pub(crate) fn check_action(&self) -> Result<(), ApiError> {
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

    /// Replaces the route tables of a gateway endpoint (spec B.2).
    ///
    /// # Errors
    /// 0002 for an interface endpoint; 2019, 2018, 2047 by state.
    pub fn set_route_tables(&mut self, tables: Vec<RouteTableId>, now: Timestamp) -> Result<(), ApiError> {
        if self.gateway().is_some() {
            self.check_action()?;
        }
        let Leg::Gateway(leg) = &mut self.leg else {
            return Err(ApiError::because(
                Code::E0002,
                format!(
                    "routetables: endpoint {} is of type interface and has none.",
                    self.id
                ),
            ));
        };
        leg.route_tables = tables;
        self.touch(now);
        Ok(())
    }

    /// Replaces the policy of a gateway endpoint; an empty one allows everything (spec B.3).
    ///
    /// # Errors
    /// 2048 for an interface endpoint; 2018, 2047 by state.
    pub fn set_policy(&mut self, policy: Vec<Statement>, now: Timestamp) -> Result<(), ApiError> {
        if self.gateway().is_some() && self.status != EndpointStatus::Creating {
            self.check_action()?;
        }
        let Leg::Gateway(leg) = &mut self.leg else {
            return Err(ApiError::because(
                Code::E2048,
                format!(
                    "Endpoint {} is of type interface and can have no policy.",
                    self.id
                ),
            ));
        };
        leg.policy = policy;
        self.touch(now);
        Ok(())
    }

    /// Takes the policy of a gateway endpoint away: everything is allowed again (spec B.4).
    ///
    /// # Errors
    /// 2049 where there is none; 2018, 2047 by state.
    pub fn clear_policy(&mut self, now: Timestamp) -> Result<(), ApiError> {
        if self.gateway().is_none_or(|leg| leg.policy.is_empty()) {
            return Err(ApiError::because(
                Code::E2049,
                format!("Endpoint {} has no policy of its own.", self.id),
            ));
        }
        self.set_policy(Vec::new(), now)
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
        self.fault = Some(fault.into());
        self.enter(EndpointStatus::Failed, now);
        true
    }

    /// Its service is being deleted: `pendingAcceptance`, `rejected` or `failed` → `failed` with `EndPoint.2003` (spec
    /// A.8). Anything else stays as it is and answers `false`.
    pub fn orphan(&mut self, service_name: &str, now: Timestamp) -> bool {
        if self.is_live() || self.status == EndpointStatus::Deleting {
            return false;
        }
        let fault: Fault =
            ApiError::because(Code::E2003, format!("{service_name} was deleted by its owner.")).into();
        if self.fault() == Some(&fault) {
            return false;
        }
        self.service_name = service_name.into();
        self.fault = Some(fault.into());
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
        self.touch(now);
    }

    fn touch(&mut self, now: Timestamp) {
        self.updated_at = now.at_least(self.updated_at);
    }
}
