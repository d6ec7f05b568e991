//! Neutron v2: networks, subnets and ports.

use std::{net::Ipv4Addr, sync::Arc};

use adit_model::{
    id::{NeutronSubnetId, PortId, SubnetId},
    network::{Mac, Port, Subnet, SubnetRange},
};
use axum::{Json, extract::State, http::StatusCode};
use serde_json::{Value, json};

use super::{call::ProjectCall, error::NeutronError, fields::Fields, listing::page, vpc::DNS_MAX};
use crate::{
    cloud::Cloud,
    network::{
        Failure, Kind,
        port::{PortCreate, PortUpdate},
        subnet::{NetworkCreate, SubnetUpdate, check_gateway},
    },
};

type Reply = Result<Json<Value>, NeutronError>;
type Created = Result<(StatusCode, Json<Value>), NeutronError>;
type Deleted = Result<StatusCode, NeutronError>;

/// What clients ask before they send a field that not every Neutron knows.
pub(super) async fn extension_list(_call: ProjectCall) -> Json<Value> {
    let extension = |alias: &str| json!({"alias": alias, "name": alias, "description": "", "links": [], "updated": "2020-04-07T00:00:00Z"});
    let known = ["router", "extraroute", "extraroute-atomic"];
    Json(json!({"extensions": known.map(extension)}))
}

pub(super) async fn network_create(State(cloud): State<Arc<Cloud>>, call: ProjectCall) -> Created {
    let json = call.json()?;
    let fields = Fields::of(&json, "network")?;
    check_project(&call, &fields)?;
    let wanted = NetworkCreate {
        name: fields.text_or_empty("name")?,
        description: fields.text_or_empty("description")?,
    };
    let network = cloud.network_create(&call.project, wanted).await?;
    Ok((
        StatusCode::CREATED,
        Json(json!({"network": network_view(&network)})),
    ))
}

pub(super) async fn network_list(State(cloud): State<Arc<Cloud>>, call: ProjectCall) -> Reply {
    let all = cloud.subnet_list(&call.project).await?;
    let all = all
        .iter()
        .map(|network| (network.created, network_view(network)))
        .collect();
    Ok(Json(json!({"networks": page(&call.query, all)?})))
}

pub(super) async fn network_show(State(cloud): State<Arc<Cloud>>, call: ProjectCall) -> Reply {
    let network = cloud.subnet_show(&call.project, call.id(Kind::Subnet)?).await?;
    Ok(Json(json!({"network": network_view(&network)})))
}

pub(super) async fn network_update(State(cloud): State<Arc<Cloud>>, call: ProjectCall) -> Reply {
    let json = call.json()?;
    let fields = Fields::of(&json, "network")?;
    let update = SubnetUpdate {
        name: fields.new_text("name")?,
        description: fields.new_text("description")?,
        ..SubnetUpdate::default()
    };
    let network = cloud
        .subnet_update(&call.project, call.id(Kind::Subnet)?, update)
        .await?;
    Ok(Json(json!({"network": network_view(&network)})))
}

pub(super) async fn network_delete(State(cloud): State<Arc<Cloud>>, call: ProjectCall) -> Deleted {
    cloud
        .network_delete(&call.project, call.id(Kind::Subnet)?)
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn range_create(State(cloud): State<Arc<Cloud>>, call: ProjectCall) -> Created {
    let json = call.json()?;
    let fields = Fields::of(&json, "subnet")?;
    check_project(&call, &fields)?;
    if fields
        .get("ip_version")
        .is_some_and(|version| *version != 4 && *version != "4")
    {
        return Err(fields.wrong("ip_version", "is not 4").into());
    }
    let network: SubnetId = fields.needed("network_id", "the id of a network")?;
    let cidr = fields.needed_block("cidr")?;
    if json["subnet"].get("gateway_ip").is_some_and(Value::is_null) {
        return Err(fields
            .wrong("gateway_ip", "is not possible here: every subnet has a gateway")
            .into());
    }
    let first = Ipv4Addr::from(u32::from(cidr.network()).saturating_add(1));
    let gateway = fields.parsed("gateway_ip", "an IPv4 address")?;
    let range = SubnetRange {
        id: NeutronSubnetId::random(),
        name: fields.text_or_empty("name")?,
        cidr,
        gateway: gateway.unwrap_or(first),
        dhcp: fields.flag("enable_dhcp")?.unwrap_or(true),
        dns: fields.texts("dns_nameservers", DNS_MAX)?.unwrap_or_default(),
    };
    check_gateway(&range, range.gateway)?;
    let network = cloud.range_create(&call.project, network, range).await?;
    Ok((StatusCode::CREATED, Json(json!({"subnet": range_view(&network)}))))
}

pub(super) async fn range_list(State(cloud): State<Arc<Cloud>>, call: ProjectCall) -> Reply {
    let all = cloud.subnet_list(&call.project).await?;
    let all = all.iter().filter(|network| network.range.is_some());
    let all = all
        .map(|network| (network.created, range_view(network)))
        .collect();
    Ok(Json(json!({"subnets": page(&call.query, all)?})))
}

pub(super) async fn range_show(State(cloud): State<Arc<Cloud>>, call: ProjectCall) -> Reply {
    let network = cloud.range_show(&call.project, call.id(Kind::Range)?).await?;
    Ok(Json(json!({"subnet": range_view(&network)})))
}

pub(super) async fn range_update(State(cloud): State<Arc<Cloud>>, call: ProjectCall) -> Reply {
    let json = call.json()?;
    let fields = Fields::of(&json, "subnet")?;
    let network = cloud.range_show(&call.project, call.id(Kind::Range)?).await?;
    let update = SubnetUpdate {
        range_name: fields.new_text("name")?,
        dhcp: fields.flag("enable_dhcp")?,
        dns: fields.texts("dns_nameservers", DNS_MAX)?,
        gateway: fields.parsed("gateway_ip", "an IPv4 address")?,
        ..SubnetUpdate::default()
    };
    let network = cloud.subnet_update(&call.project, network.id, update).await?;
    Ok(Json(json!({"subnet": range_view(&network)})))
}

pub(super) async fn range_delete(State(cloud): State<Arc<Cloud>>, call: ProjectCall) -> Deleted {
    cloud.range_delete(&call.project, call.id(Kind::Range)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn port_create(State(cloud): State<Arc<Cloud>>, call: ProjectCall) -> Created {
    let json = call.json()?;
    let fields = Fields::of(&json, "port")?;
    check_project(&call, &fields)?;
    let (range, ip) = fixed_ip(&fields)?;
    let mac: Option<Mac> = fields.parsed("mac_address", "a hardware address such as fa:16:3e:00:00:01")?;
    // The kernel gives no interface a group address or none at all.
    if mac.is_some_and(|mac| mac.0[0] & 1 == 1 || mac.0 == [0; 6]) {
        return Err(fields
            .wrong("mac_address", "is not the address of one interface")
            .into());
    }
    let wanted = PortCreate {
        id: PortId::random(),
        name: fields.text_or_empty("name")?,
        subnet: fields.needed("network_id", "the id of a network")?,
        range,
        ip,
        mac,
        device_id: fields.text_or_empty("device_id")?,
        device_owner: fields.text_or_empty("device_owner")?,
    };
    let (port, range) = cloud.port_create(&call.project, wanted).await?;
    Ok((
        StatusCode::CREATED,
        Json(json!({"port": port_view(&port, range)})),
    ))
}

pub(super) async fn port_list(State(cloud): State<Arc<Cloud>>, call: ProjectCall) -> Reply {
    let all = cloud.port_list(&call.project).await?;
    let all = all
        .iter()
        .map(|(port, range)| (port.created, port_view(port, *range)))
        .collect();
    Ok(Json(json!({"ports": page(&call.query, all)?})))
}

pub(super) async fn port_show(State(cloud): State<Arc<Cloud>>, call: ProjectCall) -> Reply {
    let (port, range) = cloud.port_show(&call.project, call.id(Kind::Port)?).await?;
    Ok(Json(json!({"port": port_view(&port, range)})))
}

pub(super) async fn port_update(State(cloud): State<Arc<Cloud>>, call: ProjectCall) -> Reply {
    let json = call.json()?;
    let fields = Fields::of(&json, "port")?;
    let id = call.id(Kind::Port)?;
    let (port, range) = cloud.port_show(&call.project, id).await?;
    if let Some(ips) = fields.get("fixed_ips")
        && *ips != port_view(&port, range)["fixed_ips"]
    {
        return Err(fields
            .wrong("fixed_ips", "cannot be changed; make another port")
            .into());
    }
    let update = PortUpdate {
        name: fields.new_text("name")?,
        device_id: fields.new_text("device_id")?,
        device_owner: fields.new_text("device_owner")?,
    };
    let (port, range) = cloud.port_update(&call.project, id, update).await?;
    Ok(Json(json!({"port": port_view(&port, range)})))
}

pub(super) async fn port_delete(State(cloud): State<Arc<Cloud>>, call: ProjectCall) -> Deleted {
    cloud.port_delete(&call.project, call.id(Kind::Port)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Nobody makes things for another project, in whichever of its two fields it is named.
pub(super) fn check_project(call: &ProjectCall, fields: &Fields<'_>) -> Result<(), Failure> {
    for field in ["project_id", "tenant_id"] {
        if fields
            .text(field)?
            .is_some_and(|project| !project.is_empty() && project != call.project.as_str())
        {
            return Err(Failure::Forbidden(format!(
                "{field} is not the token's project, {}.",
                call.project
            )));
        }
    }
    Ok(())
}

/// The subnet and the address that a new port asks for. An empty list is no wish: a port has an address where it can.
fn fixed_ip(fields: &Fields<'_>) -> Result<(Option<NeutronSubnetId>, Option<Ipv4Addr>), Failure> {
    match fields.list("fixed_ips")? {
        None | Some([]) => Ok((None, None)),
        Some([one]) => {
            let fixed = Fields::bare(one, "fixed_ips")?;
            let range = fixed.parsed("subnet_id", "the id of a subnet")?;
            Ok((range, fixed.parsed("ip_address", "an IPv4 address")?))
        }
        Some(_) => Err(fields.wrong("fixed_ips", "has more than one member; a port has one address")),
    }
}

fn network_view(network: &Subnet) -> Value {
    let subnets: Vec<NeutronSubnetId> = network.range.iter().map(|range| range.id).collect();
    json!({
        "id": network.id,
        "name": network.name,
        "description": network.description,
        "status": "ACTIVE",
        "admin_state_up": true,
        "shared": false,
        "router:external": false,
        "mtu": 1500,
        "subnets": subnets,
        "availability_zones": [],
        "availability_zone_hints": [],
        "port_security_enabled": false,
        "tags": [],
        "tenant_id": network.project,
        "project_id": network.project,
        "created_at": network.created.at,
        "updated_at": network.updated_at,
    })
}

/// A network's subnet; of a network without one, nothing but who it belongs to.
fn range_view(network: &Subnet) -> Value {
    let range = network.range.as_ref();
    let pool = range.map(|range| {
        let inner = |ip: Ipv4Addr, by: i64| {
            Ipv4Addr::from(u32::try_from(i64::from(u32::from(ip)) + by).unwrap_or(u32::MAX))
        };
        json!({"start": inner(range.cidr.network(), 1), "end": inner(range.cidr.broadcast(), -1)})
    });
    json!({
        "id": range.map(|range| range.id),
        "name": range.map(|range| &range.name),
        "description": "",
        "network_id": network.id,
        "ip_version": 4,
        "cidr": range.map(|range| range.cidr),
        "gateway_ip": range.map(|range| range.gateway),
        "enable_dhcp": range.is_some_and(|range| range.dhcp),
        "dns_nameservers": range.map_or(&[][..], |range| &range.dns),
        "allocation_pools": pool.into_iter().collect::<Vec<_>>(),
        "host_routes": [],
        "ipv6_address_mode": null,
        "ipv6_ra_mode": null,
        "subnetpool_id": null,
        "tags": [],
        "tenant_id": network.project,
        "project_id": network.project,
        "created_at": network.created.at,
        "updated_at": network.updated_at,
    })
}

fn port_view(port: &Port, range: Option<NeutronSubnetId>) -> Value {
    let ips: Vec<Value> = port
        .ip
        .iter()
        .map(|ip| json!({"subnet_id": range, "ip_address": ip}))
        .collect();
    json!({
        "id": port.id,
        "name": port.name,
        "description": "",
        "network_id": port.subnet,
        "status": "ACTIVE",
        "admin_state_up": true,
        "mac_address": port.mac,
        "fixed_ips": ips,
        "device_id": port.device_id,
        "device_owner": port.device_owner,
        "security_groups": [],
        "allowed_address_pairs": [],
        "extra_dhcp_opts": [],
        "binding:vnic_type": "normal",
        "port_security_enabled": false,
        "tags": [],
        "tenant_id": port.project,
        "project_id": port.project,
        "created_at": port.created.at,
        "updated_at": port.updated_at,
    })
}
