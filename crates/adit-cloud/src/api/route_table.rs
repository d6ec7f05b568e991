//! VPC v1: route tables.

use std::sync::Arc;

use adit_model::network::Route;
use axum::{Json, extract::State, http::StatusCode};
use ipnet::Ipv4Net;
use serde_json::{Value, json};

use super::{call::ProjectCall, error::VpcError, fields::Fields, listing::page};
use crate::{
    cloud::Cloud,
    network::{
        Failure, Kind,
        route_table::{RouteTableCreate, RouteTableSeen, RouteTableUpdate},
    },
};

type Reply = Result<Json<Value>, VpcError>;

/// What the type of a route can be.
const ROUTE_TYPES: &[&str] = &["ecs", "eni", "vip", "nat", "peering", "vpn", "dc", "local"];

pub(super) async fn route_table_create(State(cloud): State<Arc<Cloud>>, call: ProjectCall) -> Reply {
    let json = call.json()?;
    let fields = Fields::of(&json, "routetable")?;
    let routes = match fields.get("routes") {
        // A new table has nothing to change, so that clients may send a plain list.
        Some(Value::Array(list)) => routes(list)?,
        Some(changes) => changed(changes, "add")?,
        None => Vec::new(),
    };
    let wanted = RouteTableCreate {
        name: fields.text_or_empty("name")?,
        description: fields.text_or_empty("description")?,
        vpc: fields.needed("vpc_id", "the id of a VPC")?,
        routes,
    };
    let id = cloud.route_table_create(&call.project, wanted).await?;
    show(&cloud, &call, id).await
}

pub(super) async fn route_table_list(State(cloud): State<Arc<Cloud>>, call: ProjectCall) -> Reply {
    let all = cloud.route_table_list(&call.project).await?;
    let all = all.iter().map(|seen| (seen.table.created, view(seen))).collect();
    Ok(Json(json!({"routetables": page(&call.query, all)?})))
}

pub(super) async fn route_table_show(State(cloud): State<Arc<Cloud>>, call: ProjectCall) -> Reply {
    show(&cloud, &call, call.id(Kind::RouteTable)?).await
}

pub(super) async fn route_table_update(State(cloud): State<Arc<Cloud>>, call: ProjectCall) -> Reply {
    let json = call.json()?;
    let fields = Fields::of(&json, "routetable")?;
    let id = call.id(Kind::RouteTable)?;
    let none = json!({});
    let changes = fields.get("routes").unwrap_or(&none);
    let deleted = Fields::bare(changes, "routetable.routes")?
        .list("del")?
        .unwrap_or_default();
    let update = RouteTableUpdate {
        name: fields.new_text("name")?,
        description: fields.new_text("description")?,
        delete: deleted.iter().map(destination).collect::<Result<_, _>>()?,
        modify: changed(changes, "mod")?,
        add: changed(changes, "add")?,
    };
    cloud.route_table_update(&call.project, id, update).await?;
    show(&cloud, &call, id).await
}

pub(super) async fn route_table_delete(
    State(cloud): State<Arc<Cloud>>,
    call: ProjectCall,
) -> Result<StatusCode, VpcError> {
    cloud
        .route_table_delete(&call.project, call.id(Kind::RouteTable)?)
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn show(cloud: &Cloud, call: &ProjectCall, id: adit_model::id::RouteTableId) -> Reply {
    let seen = cloud.route_table_show(&call.project, id).await?;
    Ok(Json(json!({"routetable": view(&seen)})))
}

fn changed(changes: &Value, how: &'static str) -> Result<Vec<Route>, Failure> {
    let list = Fields::bare(changes, "routetable.routes")?.list(how)?;
    routes(list.unwrap_or_default())
}

fn routes(list: &[Value]) -> Result<Vec<Route>, Failure> {
    list.iter().map(route).collect()
}

fn route(json: &Value) -> Result<Route, Failure> {
    let fields = Fields::bare(json, "routes")?;
    let kind = fields.text_or_empty("type")?;
    if !ROUTE_TYPES.contains(&kind.as_str()) {
        return Err(fields.wrong("type", &format!("is none of {}", ROUTE_TYPES.join(", "))));
    }
    let nexthop = fields.text_or_empty("nexthop")?;
    if nexthop.is_empty() && kind != "local" {
        return Err(fields.wrong("nexthop", "is neither an id nor an address"));
    }
    let description = fields.text_or_empty("description")?;
    Ok(Route {
        kind,
        destination: destination(json)?,
        nexthop,
        description,
    })
}

fn destination(json: &Value) -> Result<Ipv4Net, Failure> {
    let fields = Fields::bare(json, "routes")?;
    let block = fields.block("destination")?;
    block.ok_or_else(|| fields.wrong("destination", "is not a block"))
}

/// A table; the local routes of its subnets come before the custom ones.
fn view(seen: &RouteTableSeen) -> Value {
    let table = &seen.table;
    let blocks = seen
        .subnets
        .iter()
        .filter_map(|subnet| Some(subnet.range.as_ref()?.cidr));
    let local =
        blocks.map(|cidr| json!({"type": "local", "destination": cidr, "nexthop": "", "description": ""}));
    let custom = table.routes.iter().map(|route| json!(route));
    let routes: Vec<Value> = local.chain(custom).collect();
    let subnets: Vec<Value> = seen
        .subnets
        .iter()
        .map(|subnet| json!({"id": subnet.id}))
        .collect();
    json!({
        "id": table.id,
        "name": table.name,
        "description": table.description,
        "vpc_id": table.vpc,
        "tenant_id": table.project,
        "default": table.default,
        "routes": routes,
        "subnets": subnets,
        "created_at": table.created.at,
        "updated_at": table.updated_at,
    })
}
