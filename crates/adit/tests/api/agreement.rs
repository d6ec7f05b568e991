//! Whether a region's store agrees with itself: nothing is left over, and nothing leads nowhere.

use adit_model::{
    endpoint::{Endpoint, EndpointStatus, Leg},
    id::{EndpointId, ServiceId},
    network::{Holder, OWNER_ENDPOINT},
    port_mapping::Claims,
    service::{Service, ServiceStatus},
};
use adit_server::App;
use adit_store::{Entry, Key, State, check::check, keys::decode};

use crate::app::poll;

/// Waits until nothing is on its way, then holds every key of the store against the others.
pub(crate) async fn agrees(app: &App) {
    let cache = &app.cache;
    let settled = poll(async || is_at_rest(&cache.read()).then_some(())).await;
    assert!(settled.is_some(), "something never comes to rest");
    cache.barrier().await.unwrap();
    let entries = entries(app).await;
    assert_eq!(check(&entries), []);
    let state = cache.read();
    for entry in entries {
        let value = String::from_utf8_lossy(&entry.value);
        assert!(holds(&state, &entry), "{} is left over: {value}", entry.key);
    }
}

/// Everything that is stored, in order of key.
pub(crate) async fn entries(app: &App) -> Vec<Entry> {
    let (mut entries, mut after) = (Vec::new(), None);
    loop {
        let page = app.store.list("", after.as_ref(), 1000).await.unwrap();
        entries.extend(page.entries);
        after = page.next;
        if after.is_none() {
            return entries;
        }
    }
}

fn is_at_rest(state: &State) -> bool {
    let service = |s: ServiceStatus| !matches!(s, ServiceStatus::Creating | ServiceStatus::Deleting);
    let endpoint = |s: EndpointStatus| !matches!(s, EndpointStatus::Creating | EndpointStatus::Deleting);
    state.services().all(|s| service(s.status())) && state.endpoints().all(|e| endpoint(e.status()))
}

/// Whether everything that an entry speaks of is there, and speaks of it too.
fn holds(state: &State, entry: &Entry) -> bool {
    match Key::parse(&entry.key) {
        Some(Key::Service(id)) => {
            let service: Service = decode(&entry.value).unwrap();
            let claims = |port| {
                let claims = state.claims_of(&port);
                claims.is_some_and(|c| c.claims.iter().any(|c| c.service == id))
            };
            let claimed = service.port().is_some() && service.backend_ports().all(claims);
            let named = state.public_name(&service.name) == Some(id);
            claimed == (service.status() == ServiceStatus::Available && service.port().is_some())
                && named == service.public.is_some()
        }
        Some(Key::Endpoint(_)) => {
            let endpoint: Endpoint = decode(&entry.value).unwrap();
            let bound = |table| {
                let holder = state.binding(table, endpoint.service);
                holder.is_some_and(|holder| *holder.value == endpoint.id)
            };
            let placed = match &endpoint.leg {
                Leg::Interface(leg) => state.subnet(&leg.subnet).is_some(),
                Leg::Gateway(leg) => leg.route_tables.iter().all(|table| bound(*table)),
            };
            endpoint.status() == EndpointStatus::Failed
                || state.service(&endpoint.service).is_some() && placed
        }
        Some(Key::Whitelist(service)) => state.service(&service).is_some(),
        Some(Key::Claims(port)) => {
            let claims: Claims = decode(&entry.value).unwrap();
            claims.claims.iter().all(|claim| {
                state.service(&claim.service).is_some_and(|s| {
                    s.backend_ports().any(|p| p == port)
                        && s.ports.iter().any(|m| m.server_port == claim.server_port)
                })
            })
        }
        Some(Key::Address(subnet, ip)) => match decode(&entry.value).unwrap() {
            Holder::Port(port) => state
                .port(&port)
                .is_some_and(|p| p.subnet == subnet && p.ip == Some(ip)),
            Holder::Endpoint(id) => state
                .endpoint(&id)
                .and_then(|e| e.interface())
                .is_some_and(|leg| leg.subnet == subnet && leg.ip == Some(ip)),
        },
        Some(Key::Binding(table, service)) => {
            let id: EndpointId = decode(&entry.value).unwrap();
            let endpoint = state.endpoint(&id).filter(|e| e.service == service);
            let leg = endpoint.and_then(|e| e.gateway());
            state.route_table(&table).is_some() && leg.is_some_and(|leg| leg.route_tables.contains(&table))
        }
        Some(Key::PublicName(name)) => {
            let id: ServiceId = decode(&entry.value).unwrap();
            state
                .service(&id)
                .is_some_and(|s| *s.name == *name && s.public.is_some())
        }
        Some(Key::RouteTable(id)) => {
            let table = state.route_table(&id).unwrap();
            // A route to an endpoint is there as long as the endpoint stands behind the table, and no longer.
            let mut routes = table.routes.iter().filter(|r| r.is_endpoint());
            let stands = |endpoint: &Endpoint| {
                let leg = endpoint.gateway();
                endpoint.is_live() && leg.is_some_and(|leg| leg.route_tables.contains(&id))
            };
            let held = routes.all(|route| {
                let id = route.nexthop.parse().unwrap();
                state.endpoint(&id).is_some_and(|e| stands(e))
            });
            state.vpc(&table.vpc).is_some() && held
        }
        Some(Key::Source(vpc, ip)) => {
            let id = state.source(vpc, ip).unwrap();
            let source = state.endpoint(&id).and_then(|e| e.source);
            source.is_some_and(|source| source.vpc == vpc && source.ip == ip)
        }
        Some(Key::Marker(marker)) => {
            let id = state.marker(marker).unwrap();
            state.endpoint(&id).is_some_and(|e| e.marker == marker)
        }
        Some(Key::Quota(project, _, slot)) => {
            let id: uuid::Uuid = decode(&entry.value).unwrap();
            let service = state
                .services()
                .find(|s| s.id.0 == id)
                .and_then(|s| Some((&s.project, s.quota_slot?)));
            let endpoint = state
                .endpoints()
                .find(|e| e.id.0 == id)
                .map(|e| (&e.project, e.quota_slot));
            service.or(endpoint) == Some((&project, slot))
        }
        Some(Key::Guard(of)) => match *of {
            Key::Service(id) => state.service(&id).is_some(),
            Key::Subnet(id) => state.subnet(&id).is_some(),
            Key::Vpc(id) => state.vpc(&id).is_some(),
            Key::Port(id) => state.port(&id).is_some(),
            _ => false,
        },
        Some(Key::Port(id)) => {
            let port = state.port(&id).unwrap();
            let of_endpoint = || {
                let mut legs = state.endpoints().filter(|e| e.id.0 == id.0);
                legs.any(|e| e.interface().is_some_and(|leg| leg.ip == port.ip))
            };
            state.subnet(&port.subnet).is_some() && (port.device_owner != OWNER_ENDPOINT || of_endpoint())
        }
        _ => true,
    }
}
