//! VPC v1: VPCs and subnets.

use std::{net::Ipv4Addr, sync::Arc};

use adit_model::{
    id::{NeutronSubnetId, SubnetId, VpcId},
    network::{Subnet, SubnetRange, Vpc},
};
use axum::{Json, extract::State, http::StatusCode};
use serde_json::{Value, json};

use super::{call::ProjectCall, error::VpcError, fields::Fields, listing::page};
use crate::{
    cloud::Cloud,
    network::{
        Failure, Kind,
        subnet::{SubnetCreate, SubnetUpdate, check_gateway},
        vpc::{VpcCreate, VpcUpdate},
    },
};

type Reply = Result<Json<Value>, VpcError>;

/// Most name servers of a subnet.
pub(super) const DNS_MAX: usize = 5;

pub(super) async fn vpc_create(State(cloud): State<Arc<Cloud>>, call: ProjectCall) -> Reply {
    let json = call.json()?;
    let fields = Fields::of(&json, "vpc")?;
    let wanted = VpcCreate {
        id: VpcId::random(),
        name: fields.text_or_empty("name")?,
        description: fields.text_or_empty("description")?,
        cidr: fields.roomy_block("cidr")?,
    };
    let vpc = cloud.vpc_create(&call.project, wanted).await?;
    Ok(Json(json!({"vpc": vpc_view(&vpc)})))
}

pub(super) async fn vpc_list(State(cloud): State<Arc<Cloud>>, call: ProjectCall) -> Reply {
    let all = cloud.vpc_list(&call.project).await?;
    let all = all.iter().map(|vpc| (vpc.created, vpc_view(vpc))).collect();
    Ok(Json(json!({"vpcs": page(&call.query, all)?})))
}

pub(super) async fn vpc_show(State(cloud): State<Arc<Cloud>>, call: ProjectCall) -> Reply {
    let vpc = cloud.vpc_show(&call.project, call.id(Kind::Vpc)?).await?;
    Ok(Json(json!({"vpc": vpc_view(&vpc)})))
}

pub(super) async fn vpc_update(State(cloud): State<Arc<Cloud>>, call: ProjectCall) -> Reply {
    let json = call.json()?;
    let fields = Fields::of(&json, "vpc")?;
    let update = VpcUpdate {
        name: fields.new_text("name")?,
        description: fields.new_text("description")?,
        cidr: fields.roomy_block("cidr")?,
    };
    let vpc = cloud
        .vpc_update(&call.project, call.id(Kind::Vpc)?, update)
        .await?;
    Ok(Json(json!({"vpc": vpc_view(&vpc)})))
}

pub(super) async fn vpc_delete(
    State(cloud): State<Arc<Cloud>>,
    call: ProjectCall,
) -> Result<StatusCode, VpcError> {
    cloud.vpc_delete(&call.project, call.id(Kind::Vpc)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn subnet_create(State(cloud): State<Arc<Cloud>>, call: ProjectCall) -> Reply {
    let json = call.json()?;
    let fields = Fields::of(&json, "subnet")?;
    let vpc: VpcId = fields.needed("vpc_id", "the id of a VPC")?;
    let cidr = fields.needed_block("cidr")?;
    let name = fields.text_or_empty("name")?;
    let parent = cloud.vpc_show(&call.project, vpc).await?;
    if parent.cidr.is_some_and(|block| !block.contains(&cidr)) {
        return Err(fields.wrong("cidr", "is not inside of its VPC's block").into());
    }
    let first = Ipv4Addr::from(u32::from(cidr.network()).saturating_add(1));
    let gateway = fields.parsed("gateway_ip", "an IPv4 address")?;
    let range = SubnetRange {
        id: NeutronSubnetId::random(),
        name: name.clone(),
        cidr,
        gateway: gateway.unwrap_or(first),
        dhcp: fields.flag("dhcp_enable")?.unwrap_or(true),
        dns: dns(&fields)?.unwrap_or_default(),
    };
    check_gateway(&range, range.gateway)?;
    let description = fields.text_or_empty("description")?;
    let wanted = SubnetCreate {
        id: SubnetId::random(),
        name,
        description,
        vpc,
        range,
    };
    let subnet = cloud.subnet_create(&call.project, wanted).await?;
    Ok(Json(json!({"subnet": subnet_view(&subnet)})))
}

/// Those that are joined to a VPC and have addresses: what else Neutron knows is no subnet here.
pub(super) async fn subnet_list(State(cloud): State<Arc<Cloud>>, call: ProjectCall) -> Reply {
    let all = cloud.subnet_list(&call.project).await?;
    let all = all
        .iter()
        .filter(|subnet| subnet.vpc.is_some() && subnet.range.is_some());
    let all = all.map(|subnet| (subnet.created, subnet_view(subnet))).collect();
    Ok(Json(json!({"subnets": page(&call.query, all)?})))
}

pub(super) async fn subnet_show(State(cloud): State<Arc<Cloud>>, call: ProjectCall) -> Reply {
    let id = call.id(Kind::Subnet)?;
    let subnet = cloud.subnet_show(&call.project, id).await?;
    if subnet.range.is_none() {
        return Err(Failure::not_found(Kind::Subnet, id).into());
    }
    Ok(Json(json!({"subnet": subnet_view(&subnet)})))
}

pub(super) async fn subnet_update(State(cloud): State<Arc<Cloud>>, call: ProjectCall) -> Reply {
    let json = call.json()?;
    let fields = Fields::of(&json, "subnet")?;
    let id = subnet_of_vpc(&cloud, &call).await?;
    let name = fields.new_text("name")?;
    let update = SubnetUpdate {
        range_name: name.clone(),
        name,
        description: fields.new_text("description")?,
        dhcp: fields.flag("dhcp_enable")?,
        dns: dns(&fields)?,
        gateway: None,
    };
    let subnet = cloud.subnet_update(&call.project, id, update).await?;
    Ok(Json(json!({"subnet": subnet_view(&subnet)})))
}

pub(super) async fn subnet_delete(
    State(cloud): State<Arc<Cloud>>,
    call: ProjectCall,
) -> Result<StatusCode, VpcError> {
    let id = subnet_of_vpc(&cloud, &call).await?;
    cloud.subnet_delete(&call.project, id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The subnet in the path, which must be in the VPC in the path.
async fn subnet_of_vpc(cloud: &Cloud, call: &ProjectCall) -> Result<SubnetId, Failure> {
    let vpc: VpcId = call.param_id("vpc_id", Kind::Vpc)?;
    let id: SubnetId = call.id(Kind::Subnet)?;
    let subnet = cloud.subnet_show(&call.project, id).await?;
    if subnet.vpc == Some(vpc) {
        Ok(id)
    } else {
        Err(Failure::not_found(Kind::Subnet, id))
    }
}

/// Name servers in either of the forms that clients send.
fn dns(fields: &Fields<'_>) -> Result<Option<Vec<String>>, Failure> {
    if let Some(list) = fields.texts("dnsList", DNS_MAX)? {
        return Ok(Some(list));
    }
    let pair = [fields.new_text("primary_dns")?, fields.new_text("secondary_dns")?];
    let sent = pair.iter().any(Option::is_some);
    Ok(sent.then(|| {
        pair.into_iter()
            .flatten()
            .filter(|server| !server.is_empty())
            .collect()
    }))
}

fn vpc_view(vpc: &Vpc) -> Value {
    json!({
        "id": vpc.id,
        "name": vpc.name,
        "description": vpc.description,
        "cidr": vpc.cidr.map(|cidr| cidr.to_string()).unwrap_or_default(),
        "status": "OK",
        "routes": [],
        "enterprise_project_id": "0",
        "enable_shared_snat": false,
        "tenant_id": vpc.project,
        "vni": vpc.vni,
        "created_at": vpc.created.at,
        "updated_at": vpc.updated_at,
    })
}

/// A subnet; one without addresses shows none.
fn subnet_view(subnet: &Subnet) -> Value {
    let range = subnet.range.as_ref();
    let dns = range.map_or(&[][..], |range| &range.dns);
    let server = |n: usize| dns.get(n).cloned().unwrap_or_default();
    json!({
        "id": subnet.id,
        "name": subnet.name,
        "description": subnet.description,
        "cidr": range.map(|range| range.cidr),
        "gateway_ip": range.map(|range| range.gateway),
        "dhcp_enable": range.is_some_and(|range| range.dhcp),
        "ipv6_enable": false,
        "primary_dns": server(0),
        "secondary_dns": server(1),
        "dnsList": dns,
        "availability_zone": "",
        "vpc_id": subnet.vpc.map(|vpc| vpc.to_string()).unwrap_or_default(),
        "status": "ACTIVE",
        "neutron_network_id": subnet.id,
        "neutron_subnet_id": range.map(|range| range.id),
        "extra_dhcp_opts": [],
        "tenant_id": subnet.project,
        "created_at": subnet.created.at,
        "updated_at": subnet.updated_at,
    })
}
