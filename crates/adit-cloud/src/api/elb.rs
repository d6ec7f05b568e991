//! ELB v2 and v3: load balancers. Both show the same ones, each in its own form.

use std::sync::Arc;

use adit_model::id::LoadBalancerId;
use axum::{Json, extract::State, http::StatusCode};
use serde_json::{Value, json};

use super::{call::ProjectCall, error::ElbError, fields::Fields, listing::page};
use crate::{
    cloud::Cloud,
    network::{
        Kind,
        load_balancer::{LoadBalancerCreate, LoadBalancerSeen},
    },
};

type Reply = Result<Json<Value>, ElbError>;
type Created = Result<(StatusCode, Json<Value>), ElbError>;

/// Most availability zones of a load balancer.
const ZONES_MAX: usize = 10;

pub(super) async fn v2_create(State(cloud): State<Arc<Cloud>>, call: ProjectCall) -> Created {
    let json = call.json()?;
    let fields = Fields::of(&json, "loadbalancer")?;
    let wanted = LoadBalancerCreate {
        name: fields.text_or_empty("name")?,
        description: fields.text_or_empty("description")?,
        subnet: fields.needed("vip_subnet_id", "the id of a subnet")?,
        ip: fields.parsed("vip_address", "an IPv4 address")?,
        vpc: None,
        v3: false,
        zones: Vec::new(),
    };
    let seen = cloud.load_balancer_create(&call.project, wanted).await?;
    Ok((StatusCode::CREATED, Json(json!({"loadbalancer": v2_view(&seen)}))))
}

pub(super) async fn v3_create(State(cloud): State<Arc<Cloud>>, call: ProjectCall) -> Created {
    let json = call.json()?;
    let fields = Fields::of(&json, "loadbalancer")?;
    let wanted = LoadBalancerCreate {
        name: fields.text_or_empty("name")?,
        description: fields.text_or_empty("description")?,
        subnet: fields.needed("vip_subnet_cidr_id", "the id of a subnet")?,
        ip: fields.parsed("vip_address", "an IPv4 address")?,
        vpc: fields.parsed("vpc_id", "the id of a VPC")?,
        v3: true,
        zones: fields
            .texts("availability_zone_list", ZONES_MAX)?
            .unwrap_or_default(),
    };
    let seen = cloud.load_balancer_create(&call.project, wanted).await?;
    Ok((StatusCode::CREATED, Json(json!({"loadbalancer": v3_view(&seen)}))))
}

pub(super) async fn v2_list(State(cloud): State<Arc<Cloud>>, call: ProjectCall) -> Reply {
    list(&cloud, &call, v2_view).await
}

pub(super) async fn v3_list(State(cloud): State<Arc<Cloud>>, call: ProjectCall) -> Reply {
    list(&cloud, &call, v3_view).await
}

pub(super) async fn v2_show(State(cloud): State<Arc<Cloud>>, call: ProjectCall) -> Reply {
    show(&cloud, &call, v2_view).await
}

pub(super) async fn v3_show(State(cloud): State<Arc<Cloud>>, call: ProjectCall) -> Reply {
    show(&cloud, &call, v3_view).await
}

pub(super) async fn v2_update(State(cloud): State<Arc<Cloud>>, call: ProjectCall) -> Reply {
    update(&cloud, &call, v2_view).await
}

pub(super) async fn v3_update(State(cloud): State<Arc<Cloud>>, call: ProjectCall) -> Reply {
    update(&cloud, &call, v3_view).await
}

pub(super) async fn balancer_delete(
    State(cloud): State<Arc<Cloud>>,
    call: ProjectCall,
) -> Result<StatusCode, ElbError> {
    cloud
        .load_balancer_delete(&call.project, call.id(Kind::LoadBalancer)?)
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A list of groups of zones, of which a load balancer takes its zones from one.
pub(super) async fn zone_list(State(cloud): State<Arc<Cloud>>, _call: ProjectCall) -> Json<Value> {
    let zone = |name: &String| {
        json!({
            "code": name,
            "state": "ACTIVE",
            "protocol": ["L4", "L7"],
            "public_border_group": "center",
            "category": 0,
        })
    };
    let zones: Vec<Value> = cloud.region().availability_zones.iter().map(zone).collect();
    Json(json!({"availability_zones": [zones]}))
}

async fn list(cloud: &Cloud, call: &ProjectCall, view: impl Fn(&LoadBalancerSeen) -> Value) -> Reply {
    let all = cloud.load_balancer_list(&call.project).await?;
    let all = all
        .iter()
        .map(|seen| (seen.balancer.created, view(seen)))
        .collect();
    Ok(Json(json!({"loadbalancers": page(&call.query, all)?})))
}

async fn show(cloud: &Cloud, call: &ProjectCall, view: impl Fn(&LoadBalancerSeen) -> Value) -> Reply {
    let id: LoadBalancerId = call.id(Kind::LoadBalancer)?;
    let seen = cloud.load_balancer_show(&call.project, id).await?;
    Ok(Json(json!({"loadbalancer": view(&seen)})))
}

async fn update(cloud: &Cloud, call: &ProjectCall, view: impl Fn(&LoadBalancerSeen) -> Value) -> Reply {
    let json = call.json()?;
    let fields = Fields::of(&json, "loadbalancer")?;
    let id: LoadBalancerId = call.id(Kind::LoadBalancer)?;
    let (name, description) = (fields.new_text("name")?, fields.new_text("description")?);
    let seen = cloud
        .load_balancer_update(&call.project, id, name, description)
        .await?;
    Ok(Json(json!({"loadbalancer": view(&seen)})))
}

/// What both forms show.
fn common_view(seen: &LoadBalancerSeen) -> Value {
    let balancer = &seen.balancer;
    json!({
        "id": balancer.id,
        "name": balancer.name,
        "description": balancer.description,
        "vip_port_id": balancer.port,
        "vip_address": seen.port.as_ref().and_then(|port| port.ip),
        "provider": "vlb",
        "admin_state_up": true,
        "operating_status": "ONLINE",
        "provisioning_status": "ACTIVE",
        "listeners": [],
        "pools": [],
        "tags": [],
        "project_id": balancer.project,
        "created_at": balancer.created.at,
        "updated_at": balancer.updated_at,
    })
}

fn range_id(seen: &LoadBalancerSeen) -> Value {
    json!(
        seen.subnet
            .as_ref()
            .and_then(|subnet| subnet.range.as_ref())
            .map(|range| range.id)
    )
}

fn v2_view(seen: &LoadBalancerSeen) -> Value {
    let mut view = common_view(seen);
    view["tenant_id"] = json!(seen.balancer.project);
    view["vip_subnet_id"] = range_id(seen);
    view
}

fn v3_view(seen: &LoadBalancerSeen) -> Value {
    let subnet = seen.subnet.as_ref();
    let mut view = common_view(seen);
    view["vip_subnet_cidr_id"] = range_id(seen);
    view["vpc_id"] = json!(subnet.and_then(|subnet| subnet.vpc));
    view["elb_virsubnet_ids"] = subnet.iter().map(|subnet| json!(subnet.id)).collect();
    view["availability_zone_list"] = json!(seen.balancer.zones);
    view["guaranteed"] = json!(seen.balancer.v3);
    view["eips"] = json!([]);
    view["publicips"] = json!([]);
    view["ip_target_enable"] = json!(false);
    view["deletion_protection_enable"] = json!(false);
    view["enterprise_project_id"] = json!("0");
    view
}
