//! Makes services true: `creating` → `available` or `failed`, `deleting` → gone.

use adit_model::{
    ApiError,
    endpoint::EndpointStatus,
    id::ServiceId,
    service::{Backend, Service, ServiceStatus},
};
use adit_store::{Key, Stored, Txn, keys::encode};

use super::{Outcome, Work, delay};
use crate::{
    app::{App, compare_guard, service::drop_claims},
    config::refuse,
    error::Failure,
};

/// At most so many endpoints are told of their service's end in one pass; the rest follow in the next.
const ORPHANS_MAX: usize = 256;

pub(super) async fn reconcile(app: &App, id: ServiceId) -> Result<Outcome, Failure> {
    let Some(service) = app.cache.read().service(&id).cloned() else {
        app.failures.happened(id.0);
        return Ok(Outcome::REST);
    };
    let cannot_serve = || app.config.cannot_serve(service.tcp_proxy, service.proxy_profile);
    let can_serve = app.config.can_serve(service.tcp_proxy, service.proxy_profile);
    match service.status() {
        ServiceStatus::Creating => {
            let created = service.created;
            if let Some(rest) = delay::rest(app.config.delay, created, created.at, app.now_us()) {
                return Ok(Outcome::Held(rest));
            }
            match app.failures.why(id.0) {
                Some(fault) => fail(app, &service, fault).await,
                None if !can_serve => fail(app, &service, cannot_serve()).await,
                // Before any gateway has come nobody knows; later on it may pass, and its endpoints wait.
                None => match app.feed.lacks_mode(service.tcp_proxy) {
                    Some(gateways) => fail(app, &service, refuse(service.tcp_proxy, &gateways)).await,
                    None => build(app, &service).await,
                },
            }
        }
        ServiceStatus::Available if !can_serve => fail(app, &service, cannot_serve()).await,
        ServiceStatus::Available => Ok(Outcome::REST),
        ServiceStatus::Failed => {
            app.failures.happened(id.0);
            Ok(Outcome::REST)
        }
        ServiceStatus::Deleting => remove(app, &service).await,
    }
}

/// A service is available as soon as its backend's address is known and its mode can be served; blocks of addresses are
/// known from the beginning.
async fn build(app: &App, service: &Stored<Service>) -> Result<Outcome, Failure> {
    let mut new = (*service.value).clone();
    if let Backend::Port(backend) = &mut new.backend
        && backend.ip.is_none()
    {
        let port = app.network.get_port(backend.id, &service.project).await?;
        backend.ip = port.and_then(|p| p.view.ip);
        if backend.ip.is_none() {
            return Ok(Outcome::Waiting(format!(
                "backend port {} has no address",
                backend.id
            )));
        }
    }
    if new.build(app.now()) {
        let txn = Txn::new()
            .unchanged(Key::Service(service.id), service.revision)
            .put(Key::Service(service.id), encode(&new));
        if app.commit(txn).await? {
            tracing::info!(service.id = %service.id, service.name = %service.name, "An endpoint service is available.");
        }
    }
    Ok(Outcome::REST)
}

/// It cannot come true: no gateway of the region can serve its mode (and none ever will by itself), or somebody wants it so.
async fn fail(app: &App, service: &Stored<Service>, fault: ApiError) -> Result<Outcome, Failure> {
    let mut new = (*service.value).clone();
    if new.fail(fault.into(), app.now()) {
        let txn = Txn::new()
            .unchanged(Key::Service(service.id), service.revision)
            .put(Key::Service(service.id), encode(&new));
        let txn = drop_claims(txn, &app.cache.read(), service);
        app.commit(txn).await?;
    }
    Ok(Outcome::REST)
}

/// Ends the service's endpoints that wait or were refused, waits for those on their way out, and then goes.
async fn remove(app: &App, service: &Stored<Service>) -> Result<Outcome, Failure> {
    let (orphans, leaving): (Vec<_>, usize) = {
        let state = app.cache.read();
        let leaving = state
            .endpoints_of_service(service.id)
            .iter()
            .filter(|e| e.status() == EndpointStatus::Deleting)
            .count();
        // Those that have been told are left out before the count, or they would hide the rest.
        let untold = state.endpoints_of_service(service.id).iter().filter_map(|e| {
            let mut new = (*e.value).clone();
            new.orphan(&service.name, app.now()).then_some((e.revision, new))
        });
        (untold.take(ORPHANS_MAX).collect(), leaving)
    };
    let changed = !orphans.is_empty();
    for (revision, orphan) in orphans {
        let key = Key::Endpoint(orphan.id);
        app.commit(
            Txn::new()
                .unchanged(key.clone(), revision)
                .put(key, encode(&orphan)),
        )
        .await?;
    }
    if changed {
        return Ok(Outcome::Rest(vec![Work::Service(service.id)]));
    }
    if leaving > 0 {
        // The last of them to go asks for this again.
        return Ok(Outcome::REST);
    }
    let txn = {
        let state = app.cache.read();
        let txn = Txn::new()
            .unchanged(Key::Service(service.id), service.revision)
            .delete(Key::Service(service.id))
            .delete(Key::Whitelist(service.id))
            .delete(Key::Service(service.id).guard());
        compare_guard(txn, Key::Service(service.id), &state)
    };
    if !app.commit(txn).await? {
        return Ok(Outcome::Rest(vec![Work::Service(service.id)]));
    }
    tracing::info!(service.id = %service.id, "An endpoint service is gone.");
    Ok(Outcome::REST)
}
