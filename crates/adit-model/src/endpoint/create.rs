//! Creating an endpoint of either type: the rules of spec A.13.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use serde_json::Value;

use super::{GatewayLeg, InterfaceLeg, Leg, SPECIFICATION, check_route_tables, parse_route_tables};
use crate::{
    body::{self, Body},
    catalogue::{ApiError, Code},
    id::{DomainId, RouteTableId, ServiceId, SubnetId, Vni, VpcId},
    network::{RESERVED, SubnetView, VpcView, overlaps, usable_address},
    policy,
    quota::Usage,
    service::{Service, ServiceStatus, check_routes},
    tag::{self, Tag},
};

/// At most so many access-control entries on one endpoint.
pub const WHITELIST_MAX: usize = 20;

/// A request to create an endpoint, judged step by step, because the table's order (spec A.13) puts look-ups between
/// field rules: [`EndpointDraft::parse`] → [`EndpointDraft::check_service`] → [`EndpointDraft::check_vpc`] → for an
/// interface service [`EndpointDraft::subnet`] → [`EndpointDraft::finish`], for a gateway service
/// [`EndpointDraft::finish_gateway`].
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

/// A request to create an endpoint that no rule refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointCreate {
    /// The VPC to live in.
    pub vpc: VpcId,
    /// That VPC's virtual network, where it has a number.
    pub vni: Option<Vni>,
    /// How it is to be reached there.
    pub leg: Leg,
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
        if service.domain != *caller && !admitted && service.public.is_none() {
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

    /// Rule 10: the VPC is the caller's.
    ///
    /// # Errors
    /// 2001.
    pub fn check_vpc<'a>(&self, vpc: Option<&'a VpcView>) -> Result<&'a VpcView, ApiError> {
        vpc.ok_or_else(|| {
            ApiError::because(Code::E2001, format!("vpc_id: {} is not one of yours.", self.vpc))
        })
    }

    /// Rule 11: a subnet is named.
    ///
    /// # Errors
    /// 2010, 0023.
    pub fn subnet(&self) -> Result<SubnetId, ApiError> {
        body::id(&self.body, "subnet_id", Code::E2010, Code::E0023)
    }

    /// The first of the named route tables that is not of the VPC, if they can be read: whether it exists decides what
    /// is wrong with it.
    pub fn foreign_route_table(&self, vpc: &VpcView) -> Option<RouteTableId> {
        let named = parse_route_tables(body::get(&self.body, "routetables")).ok()?;
        named.into_iter().find(|id| vpc.route_table(*id).is_none())
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
            leg: Leg::Interface(InterfaceLeg {
                subnet: subnet_id,
                subnet_cidr: range.cidr,
                ip: port_ip,
                enable_dns: self.enable_dns,
                whitelist,
                enable_whitelist,
            }),
            tags: self.tags,
            description: self.description,
        })
    }

    /// Rules 13 and 17 to 22 for a gateway endpoint, which has no subnet, no address and no name. `exists` tells whether
    /// [`EndpointDraft::foreign_route_table`] is there, `is_free` whether a route table serves no endpoint of this service.
    ///
    /// # Errors
    /// The code of the first rule that is broken.
    pub fn finish_gateway(
        self,
        vpc: &VpcView,
        exists: bool,
        is_free: impl Fn(RouteTableId) -> bool,
        quota: Usage,
    ) -> Result<EndpointCreate, ApiError> {
        check_routes(vpc)?;
        // An access rule must not be dropped in silence (spec semantics 20, row 41).
        let refused = |field: &str, value: &Value| {
            let shown = body::show(value);
            let why =
                format!("{field}: {shown}, but an endpoint of a gateway service has no access control.");
            Err(ApiError::because(Code::E2044, why))
        };
        match body::get(&self.body, "whitelist") {
            None => {}
            Some(Value::Array(list)) if list.is_empty() => {}
            Some(other) => return refused("whitelist", other),
        }
        if body::boolean(&self.body, "enable_whitelist", Code::E0002)? == Some(true) {
            return refused("enable_whitelist", &Value::Bool(true));
        }
        let named = parse_route_tables(body::get(&self.body, "routetables"))?;
        let route_tables = if named.is_empty() {
            let default = vpc.default_route_table().ok_or_else(|| {
                ApiError::because(
                    Code::E4026,
                    format!("vpc_id: VPC {} has no default route table.", vpc.id),
                )
            })?;
            vec![default.id]
        } else {
            named
        };
        check_route_tables(&route_tables, vpc, exists, is_free)?;
        let policy = policy::parse(body::get(&self.body, "policy_statement"))?;
        quota.check("endpoints")?;
        Ok(EndpointCreate {
            vpc: self.vpc,
            vni: vpc.vni,
            leg: Leg::Gateway(GatewayLeg { route_tables, policy }),
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
