//! Makes endpoints true: gives them their addresses or routes, has them served, and takes both away again.

use std::net::Ipv4Addr;

use adit_model::{
    ApiError, Code,
    endpoint::{Endpoint, EndpointStatus, GatewayLeg, Leg, Source},
    id::{EndpointId, VpcId},
    network::RESERVED,
    service::{Backend, Service, ServiceStatus},
};
use adit_store::{Key, State, Stored, Txn, keys::encode};
use ipnet::Ipv4Net;

use super::{Outcome, Work, delay};
use crate::{
    app::{App, endpoint::let_go},
    error::Failure,
    feed::{self, Serving},
    network::NetworkError,
};

pub(super) async fn reconcile(app: &App, id: EndpointId) -> Result<Outcome, Failure> {
    let Some(endpoint) = app.cache.read().endpoint(&id).cloned() else {
        app.failures.happened(id.0);
        app.feed.remove(id, 0);
        return Ok(Outcome::REST);
    };
    if endpoint.status() == EndpointStatus::Creating {
        let delay = app.config.delay;
        if let Some(rest) = delay::rest(delay, endpoint.created, endpoint.updated_at, app.now_us()) {
            return Ok(Outcome::Held(rest));
        }
        if let Some(fault) = app.failures.why(id.0) {
            app.feed.remove(id, 0);
            return fail(app, &endpoint, fault).await;
        }
    }
    match endpoint.status() {
        EndpointStatus::Creating | EndpointStatus::Accepted => serve(app, &endpoint).await,
        EndpointStatus::Rejected => {
            tell(app, id);
            Ok(Outcome::REST)
        }
        status @ (EndpointStatus::PendingAcceptance | EndpointStatus::Failed) => {
            if status == EndpointStatus::Failed {
                app.failures.happened(id.0);
            }
            app.feed.remove(id, 0);
            unroute(app, &endpoint).await?;
            Ok(Outcome::REST)
        }
        EndpointStatus::Deleting => remove(app, &endpoint).await,
    }
}

async fn serve(app: &App, endpoint: &Stored<Endpoint>) -> Result<Outcome, Failure> {
    let Some(service) = app.cache.read().service(&endpoint.service).cloned() else {
        return Ok(Outcome::Waiting(format!(
            "endpoint service {} is not there",
            endpoint.service
        )));
    };
    if service.status() == ServiceStatus::Failed {
        let fault = ApiError::because(Code::E2004, format!("{} is failed.", service.name));
        app.feed.remove(endpoint.id, 0);
        return fail(app, endpoint, fault).await;
    }
    if endpoint.source.is_none() {
        return place(app, endpoint, &service).await;
    }
    tell(app, endpoint.id);
    match (&endpoint.leg, &service.backend) {
        (Leg::Gateway(leg), Backend::Prefixes { prefixes }) => route(app, endpoint, leg, prefixes).await,
        (Leg::Gateway(_), Backend::Port(_)) => Ok(Outcome::REST),
        (Leg::Interface(_), _) if endpoint.status() == EndpointStatus::Accepted => Ok(Outcome::REST),
        (Leg::Interface(_), _) => match app.feed.serving(endpoint.id) {
            Serving::Yes => accept(app, endpoint).await,
            // The gateway's word wakes us again; it retries by itself.
            Serving::NotYet(_) => Ok(Outcome::REST),
        },
    }
}

/// Leads the endpoint's route tables to the service's blocks; with that, and a gateway that listens, a gateway endpoint is
/// what it promises.
async fn route(
    app: &App,
    endpoint: &Stored<Endpoint>,
    leg: &GatewayLeg,
    prefixes: &[Ipv4Net],
) -> Result<Outcome, Failure> {
    let routed = app
        .network
        .route(endpoint.id, endpoint.vpc, &leg.route_tables, prefixes)
        .await;
    match routed {
        // The gateway's word wakes us again; it retries by itself.
        Ok(()) => match app.feed.serving(endpoint.id) {
            Serving::Yes if endpoint.status() == EndpointStatus::Creating => accept(app, endpoint).await,
            Serving::Yes | Serving::NotYet(_) => Ok(Outcome::REST),
        },
        Err(e @ (NetworkError::Unavailable(_) | NetworkError::Authentication)) => Err(e.into()),
        // An endpoint that worked is not ended by a route that somebody else has made since.
        Err(e) if endpoint.status() == EndpointStatus::Accepted => Ok(Outcome::Waiting(format!("{e}"))),
        Err(e) => fail(app, endpoint, ApiError::because(Code::E4028, format!("{e}."))).await,
    }
}

/// Takes a gateway endpoint's routes out of every route table of its VPC.
async fn unroute(app: &App, endpoint: &Endpoint) -> Result<(), Failure> {
    if endpoint.gateway().is_some() {
        app.network.route(endpoint.id, endpoint.vpc, &[], &[]).await?;
    }
    Ok(())
}

async fn accept(app: &App, endpoint: &Stored<Endpoint>) -> Result<Outcome, Failure> {
    let mut new = (*endpoint.value).clone();
    if new.accept(app.now()) && replace(app, endpoint, &new).await? {
        tracing::info!(
            endpoint.id = %endpoint.id, endpoint.ip = ?new.shown_ip(), service.id = %endpoint.service,
            "An endpoint is accepted and answers."
        );
    }
    Ok(Outcome::REST)
}

/// Tells the gateways what an endpoint's documents say.
fn tell(app: &App, id: EndpointId) {
    let spec = feed::specify(&app.cache.read(), &app.config, id);
    match spec {
        Some(spec) => app.feed.put(spec),
        None => drop(app.feed.remove(id, 0)),
    }
}

/// Gives an interface endpoint its address in the consumer's subnet, and any endpoint its source address in the provider's VPC.
async fn place(
    app: &App,
    endpoint: &Stored<Endpoint>,
    service: &Stored<Service>,
) -> Result<Outcome, Failure> {
    let _turn = app.placing.enter(&endpoint.id).await;
    if app.cache.read().endpoint(&endpoint.id).map(|e| e.revision) != Some(endpoint.revision) {
        // It has changed while we waited, and whoever changed it woke us again.
        return Ok(Outcome::REST);
    }
    let mut new = (*endpoint.value).clone();
    if let Leg::Interface(leg) = &mut new.leg {
        let reserved = app
            .network
            .reserve(endpoint.id, &endpoint.project, leg.subnet, leg.ip)
            .await;
        leg.ip = match reserved {
            Ok(reserved) => Some(reserved.ip),
            Err(e @ (NetworkError::Unavailable(_) | NetworkError::Authentication)) => return Err(e.into()),
            // Another process has gone on with it, and the network knows.
            Err(_)
                if app.cache.read().endpoint(&endpoint.id).map(|e| e.revision) != Some(endpoint.revision) =>
            {
                return Ok(Outcome::REST);
            }
            Err(e) => return fail(app, endpoint, ApiError::because(Code::E2022, format!("{e}."))).await,
        };
    }
    let Some(source) = pick_source(&app.cache.read(), service.vpc) else {
        return Ok(Outcome::Waiting(format!(
            "no address of {RESERVED} is free in VPC {}",
            service.vpc
        )));
    };
    new.source = Some(Source {
        vpc: service.vpc,
        ip: source,
    });
    let key = Key::Source(service.vpc, source);
    let txn = Txn::new()
        .unchanged(Key::Endpoint(endpoint.id), endpoint.revision)
        .put(Key::Endpoint(endpoint.id), encode(&new))
        .absent(key.clone())
        .put(key, encode(&endpoint.id));
    match app.commit(txn).await? {
        true => Ok(Outcome::REST),
        // Somebody took the source address, or the endpoint has changed: look anew.
        false => Ok(Outcome::Rest(vec![Work::Endpoint(endpoint.id)])),
    }
}

/// A free source address: the first one from a random start, so that one that was freed does not come back soon.
fn pick_source(state: &State, vpc: VpcId) -> Option<Ipv4Addr> {
    let first = u32::from(RESERVED.network()) + 1;
    let count = u32::from(RESERVED.broadcast()) - first;
    let start = rand::random_range(0..count);
    (0..count)
        .map(|n| Ipv4Addr::from(first + (start + n) % count))
        .find(|ip| state.source(vpc, *ip).is_none())
}

async fn fail(app: &App, endpoint: &Stored<Endpoint>, fault: ApiError) -> Result<Outcome, Failure> {
    tracing::warn!(endpoint.id = %endpoint.id, error = %fault, "An endpoint cannot come true.");
    let mut new = (*endpoint.value).clone();
    if new.fail(fault.into(), app.now()) {
        replace(app, endpoint, &new).await?;
    }
    Ok(Outcome::REST)
}

async fn replace(app: &App, old: &Stored<Endpoint>, new: &Endpoint) -> Result<bool, Failure> {
    let key = Key::Endpoint(old.id);
    app.commit(
        Txn::new()
            .unchanged(key.clone(), old.revision)
            .put(key, encode(new)),
    )
    .await
}

/// Once no gateway serves it: gives its addresses back and removes it.
async fn remove(app: &App, endpoint: &Stored<Endpoint>) -> Result<Outcome, Failure> {
    let drain_s = feed::drain_s(&app.config, &app.cache.read(), endpoint);
    if !app.feed.remove(endpoint.id, drain_s) {
        // The gateway's word wakes us again.
        return Ok(Outcome::REST);
    }
    match endpoint.leg {
        Leg::Interface(_) => app.network.release(endpoint.id).await?,
        Leg::Gateway(_) => unroute(app, endpoint).await?,
    }
    let txn = {
        let state = app.cache.read();
        let txn = Txn::new()
            .unchanged(Key::Endpoint(endpoint.id), endpoint.revision)
            .delete(Key::Endpoint(endpoint.id))
            .delete(Key::Marker(endpoint.marker));
        let mut txn = let_go(txn, &state, endpoint);
        if let Some(Source { vpc, ip }) = endpoint.source {
            txn = txn.delete(Key::Source(vpc, ip));
        }
        txn
    };
    if !app.commit(txn).await? {
        return Ok(Outcome::Rest(vec![Work::Endpoint(endpoint.id)]));
    }
    tracing::info!(endpoint.id = %endpoint.id, "An endpoint is gone.");
    // Asked after the commit: a service whose deletion was ordered meanwhile has seen us, and waits for us.
    let state = app.cache.read();
    let service = state.service(&endpoint.service);
    let waits = service.is_some_and(|s| s.status() == ServiceStatus::Deleting);
    Ok(Outcome::Rest(
        waits
            .then_some(Work::Service(endpoint.service))
            .into_iter()
            .collect(),
    ))
}
