//! The companions' HTTP APIs: requests in, replies out, and nothing else.
//!
//! [`mod@router`] is the table of contents. Each handler reads its request (`call`, `fields`), calls one operation of
//! [`crate::network`], and shapes the reply in the form of its API (`error`, `*_view`). All of them take a token of a
//! project; other projects' resources do not exist for it.
//!
//! Read next: `vpc`, `neutron`, `elb`.

pub(crate) mod call;
mod elb;
mod error;
mod fields;
mod listing;
mod neutron;
mod route_table;
mod router;
mod vpc;

use std::sync::Arc;

use axum::{
    Router,
    routing::{delete, get, post, put},
};

use crate::{cloud::Cloud, identity::keystone};

/// All of the cloud's APIs, to be merged with the control plane's on one host. Has no fallback of its own.
pub fn router(cloud: Arc<Cloud>) -> Router {
    Router::new()
        .merge(keystone::router())
        .merge(vpc_v1())
        .merge(neutron_v2())
        .merge(elb())
        .with_state(cloud)
}

fn vpc_v1() -> Router<Arc<Cloud>> {
    Router::new()
        .route("/v1/{project_id}/vpcs", post(vpc::vpc_create).get(vpc::vpc_list))
        .route(
            "/v1/{project_id}/vpcs/{id}",
            get(vpc::vpc_show).put(vpc::vpc_update).delete(vpc::vpc_delete),
        )
        .route(
            "/v1/{project_id}/subnets",
            post(vpc::subnet_create).get(vpc::subnet_list),
        )
        .route("/v1/{project_id}/subnets/{id}", get(vpc::subnet_show))
        .route(
            "/v1/{project_id}/vpcs/{vpc_id}/subnets/{id}",
            put(vpc::subnet_update).delete(vpc::subnet_delete),
        )
        .route(
            "/v1/{project_id}/routetables",
            post(route_table::route_table_create).get(route_table::route_table_list),
        )
        .route(
            "/v1/{project_id}/routetables/{id}",
            get(route_table::route_table_show)
                .put(route_table::route_table_update)
                .delete(route_table::route_table_delete),
        )
}

fn neutron_v2() -> Router<Arc<Cloud>> {
    Router::new()
        .route("/v2.0/extensions", get(neutron::extension_list))
        .route(
            "/v2.0/networks",
            post(neutron::network_create).get(neutron::network_list),
        )
        .route(
            "/v2.0/networks/{id}",
            get(neutron::network_show)
                .put(neutron::network_update)
                .delete(neutron::network_delete),
        )
        .route(
            "/v2.0/subnets",
            post(neutron::range_create).get(neutron::range_list),
        )
        .route(
            "/v2.0/subnets/{id}",
            get(neutron::range_show)
                .put(neutron::range_update)
                .delete(neutron::range_delete),
        )
        .route("/v2.0/ports", post(neutron::port_create).get(neutron::port_list))
        .route(
            "/v2.0/ports/{id}",
            get(neutron::port_show)
                .put(neutron::port_update)
                .delete(neutron::port_delete),
        )
        .route(
            "/v2.0/routers",
            post(router::router_create).get(router::router_list),
        )
        .route(
            "/v2.0/routers/{id}",
            get(router::router_show)
                .put(router::router_update)
                .delete(router::router_delete),
        )
        .route(
            "/v2.0/routers/{id}/add_router_interface",
            put(router::interface_add),
        )
        .route(
            "/v2.0/routers/{id}/remove_router_interface",
            put(router::interface_remove),
        )
        .route(
            "/v2.0/routers/{id}/add_extraroutes",
            put(router::extra_routes_add),
        )
        .route(
            "/v2.0/routers/{id}/remove_extraroutes",
            put(router::extra_routes_remove),
        )
}

fn elb() -> Router<Arc<Cloud>> {
    Router::new()
        .route(
            "/v2.0/lbaas/loadbalancers",
            post(elb::v2_create).get(elb::v2_list),
        )
        .route(
            "/v2.0/lbaas/loadbalancers/{id}",
            get(elb::v2_show).put(elb::v2_update).delete(elb::balancer_delete),
        )
        .route("/v3/{project_id}/elb/availability-zones", get(elb::zone_list))
        .route(
            "/v3/{project_id}/elb/loadbalancers",
            post(elb::v3_create).get(elb::v3_list),
        )
        .route(
            "/v3/{project_id}/elb/loadbalancers/{id}",
            get(elb::v3_show)
                .put(elb::v3_update)
                .merge(delete(elb::balancer_delete)),
        )
}
