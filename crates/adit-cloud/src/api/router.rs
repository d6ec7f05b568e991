//! Neutron v2: routers, which are VPCs, with their interfaces and routes.

use std::{net::Ipv4Addr, sync::Arc};

use adit_model::{
    id::VpcId,
    network::{Route, Vpc},
};
use axum::{Json, extract::State, http::StatusCode};
use serde_json::{Value, json};

use super::{call::ProjectCall, error::NeutronError, fields::Fields, listing::page, neutron::check_project};
use crate::{
    cloud::Cloud,
    network::{
        Failure, Kind,
        route_table::RouterRoutes,
        router::{Interface, RouterInterface},
        vpc::{VpcCreate, VpcUpdate},
    },
};

type Reply = Result<Json<Value>, NeutronError>;

pub(super) async fn router_create(
    State(cloud): State<Arc<Cloud>>,
    call: ProjectCall,
) -> Result<(StatusCode, Json<Value>), NeutronError> {
    let json = call.json()?;
    let fields = Fields::of(&json, "router")?;
    check_project(&call, &fields)?;
    check_no_gateway(&fields)?;
    // As in Neutron: a route's next hop lies in a subnet, and a new router has none.
    if fields.list("routes")?.is_some_and(|routes| !routes.is_empty()) {
        return Err(fields
            .wrong("routes", "cannot be set before the router has an interface")
            .into());
    }
    let wanted = VpcCreate {
        id: VpcId::random(),
        name: fields.text_or_empty("name")?,
        description: fields.text_or_empty("description")?,
        cidr: None,
    };
    let vpc = cloud.vpc_create(&call.project, wanted).await?;
    Ok((
        StatusCode::CREATED,
        Json(json!({"router": router_view(&vpc, &[])})),
    ))
}

pub(super) async fn router_list(State(cloud): State<Arc<Cloud>>, call: ProjectCall) -> Reply {
    let mut all = Vec::new();
    for vpc in cloud.vpc_list(&call.project).await? {
        match cloud.router_routes(&call.project, vpc.id).await {
            Ok(routes) => all.push((vpc.created, router_view(&vpc, &routes))),
            // Deleted since the list was read.
            Err(Failure::NotFound { .. }) => {}
            Err(failure) => return Err(failure.into()),
        }
    }
    Ok(Json(json!({"routers": page(&call.query, all)?})))
}

pub(super) async fn router_show(State(cloud): State<Arc<Cloud>>, call: ProjectCall) -> Reply {
    show(&cloud, &call).await
}

pub(super) async fn router_update(State(cloud): State<Arc<Cloud>>, call: ProjectCall) -> Reply {
    let json = call.json()?;
    let fields = Fields::of(&json, "router")?;
    check_no_gateway(&fields)?;
    let id = call.id(Kind::Vpc)?;
    let routes = fields.list("routes")?.map(routes).transpose()?;
    let update = VpcUpdate {
        name: fields.new_text("name")?,
        description: fields.new_text("description")?,
        cidr: None,
    };
    cloud.vpc_update(&call.project, id, update).await?;
    if let Some(routes) = routes {
        cloud
            .router_routes_update(&call.project, id, RouterRoutes::Replace, routes)
            .await?;
    }
    show(&cloud, &call).await
}

pub(super) async fn router_delete(
    State(cloud): State<Arc<Cloud>>,
    call: ProjectCall,
) -> Result<StatusCode, NeutronError> {
    cloud.vpc_delete(&call.project, call.id(Kind::Vpc)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn interface_add(State(cloud): State<Arc<Cloud>>, call: ProjectCall) -> Reply {
    let wanted = interface(&call.json()?)?;
    let added = cloud
        .router_interface_add(&call.project, call.id(Kind::Vpc)?, wanted)
        .await?;
    Ok(Json(interface_view(&call, &added)))
}

pub(super) async fn interface_remove(State(cloud): State<Arc<Cloud>>, call: ProjectCall) -> Reply {
    let wanted = interface(&call.json()?)?;
    let removed = cloud
        .router_interface_remove(&call.project, call.id(Kind::Vpc)?, wanted)
        .await?;
    Ok(Json(interface_view(&call, &removed)))
}

pub(super) async fn extra_routes_add(State(cloud): State<Arc<Cloud>>, call: ProjectCall) -> Reply {
    extra_routes(&cloud, &call, RouterRoutes::Add).await
}

pub(super) async fn extra_routes_remove(State(cloud): State<Arc<Cloud>>, call: ProjectCall) -> Reply {
    extra_routes(&cloud, &call, RouterRoutes::Remove).await
}

async fn extra_routes(cloud: &Cloud, call: &ProjectCall, how: RouterRoutes) -> Reply {
    let json = call.json()?;
    let fields = Fields::of(&json, "router")?;
    let routes = routes(fields.list("routes")?.unwrap_or_default())?;
    cloud
        .router_routes_update(&call.project, call.id(Kind::Vpc)?, how, routes)
        .await?;
    show(cloud, call).await
}

async fn show(cloud: &Cloud, call: &ProjectCall) -> Reply {
    let vpc = cloud.vpc_show(&call.project, call.id(Kind::Vpc)?).await?;
    let routes = cloud.router_routes(&call.project, vpc.id).await?;
    Ok(Json(json!({"router": router_view(&vpc, &routes)})))
}

/// There is no network outside of the region that a router could lead to.
fn check_no_gateway(fields: &Fields<'_>) -> Result<(), Failure> {
    match fields.get("external_gateway_info") {
        Some(Value::Object(info)) if !info.is_empty() => Err(fields.wrong(
            "external_gateway_info",
            "is not possible: the region has no external network",
        )),
        _ => Ok(()),
    }
}

fn interface(json: &Value) -> Result<Interface, Failure> {
    let fields = Fields::bare(json, "The body")?;
    let subnet = fields.parsed("subnet_id", "the id of a subnet")?;
    let port = fields.parsed("port_id", "the id of a port")?;
    match (subnet, port) {
        (Some(subnet), _) => Ok(Interface::Subnet(subnet)),
        (None, Some(port)) => Ok(Interface::Port(port)),
        (None, None) => Err(Failure::Invalid(
            "The body has neither subnet_id nor port_id.".to_owned(),
        )),
    }
}

fn routes(list: &[Value]) -> Result<Vec<Route>, Failure> {
    let route = |json: &Value| {
        let fields = Fields::bare(json, "router.routes")?;
        let destination = fields.block("destination")?;
        let nexthop: Ipv4Addr = fields.needed("nexthop", "an IPv4 address")?;
        Ok(Route {
            kind: "ecs".to_owned(),
            destination: destination.ok_or_else(|| fields.wrong("destination", "is not a block"))?,
            nexthop: nexthop.to_string(),
            description: String::new(),
        })
    };
    list.iter().map(route).collect()
}

fn router_view(vpc: &Vpc, routes: &[Route]) -> Value {
    let route = |route: &Route| json!({"destination": route.destination, "nexthop": route.nexthop});
    let routes: Vec<Value> = routes.iter().map(route).collect();
    json!({
        "id": vpc.id,
        "name": vpc.name,
        "description": vpc.description,
        "status": "ACTIVE",
        "admin_state_up": true,
        "external_gateway_info": null,
        "routes": routes,
        "distributed": false,
        "ha": false,
        "availability_zones": [],
        "availability_zone_hints": [],
        "tags": [],
        "tenant_id": vpc.project,
        "project_id": vpc.project,
        "created_at": vpc.created.at,
        "updated_at": vpc.updated_at,
    })
}

fn interface_view(call: &ProjectCall, interface: &RouterInterface) -> Value {
    json!({
        "id": interface.router,
        "tenant_id": call.project,
        "project_id": call.project,
        "port_id": interface.port,
        "network_id": interface.network,
        "subnet_id": interface.subnet,
        "subnet_ids": [interface.subnet],
    })
}
