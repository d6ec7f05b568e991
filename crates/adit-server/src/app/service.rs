//! Operations on endpoint services (spec A.4 to A.8).

use std::sync::Arc;

use adit_model::{
    ApiError, Code,
    body::Body,
    id::{PortId, ServiceId},
    listing::{Listing, Query},
    name,
    network::PortView,
    port_mapping::{Claims, PortMapping},
    quota::QuotaType,
    service::{
        Backend, Service, ServiceCreate, ServiceFacts, ServicePlace, ServiceStatus, ServiceUpdate,
        check_kind, check_port, check_private,
    },
    superset,
};
use adit_store::{Key, State, Stored, Txn, keys::encode};

use super::{ATTEMPTS_MAX, App, Scope, as_seen, compare_guard, fence};
use crate::{error::Failure, network::Seen, planned};

/// A service with what replies say of it and the document does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceSeen {
    /// The service.
    pub service: Arc<Service>,
    /// How many endpoints it has in `creating` or `accepted`.
    pub connection_count: usize,
}

impl ServiceSeen {
    pub(super) fn of(state: &State, service: Arc<Service>) -> Self {
        Self {
            connection_count: state.live_endpoints(service.id),
            service,
        }
    }
}

impl App {
    /// Orders a service; it is `creating` when this returns.
    ///
    /// # Errors
    /// By the thirty rules of spec A.4.
    pub async fn service_create(&self, scope: &Scope, body: &Body) -> Result<ServiceSeen, Failure> {
        let request = ServiceCreate::parse(body, self.config.strict_toa)?;
        if self.config.superset {
            superset::check_service_create(body)?;
        }
        let _turn = self.backend_ports.enter(&request.port).await;
        self.barrier().await?;
        let failure = self.failures.order(planned::SERVICE_CREATE);
        for _ in 0..ATTEMPTS_MAX {
            let vpc = self.network.get_vpc(request.vpc, &scope.project).await?;
            let port = self.network.get_port(request.port, &scope.project).await?;
            let id = ServiceId::random();
            let created = self.created();
            let (txn, service, _slot) = {
                let state = self.cache.read();
                let seen_claims = state.claims_of(&request.port).cloned();
                let none = Claims::default();
                let claims = request.check(
                    id,
                    &ServiceFacts {
                        vpc: vpc.as_ref().map(|v| &v.view),
                        port: port.as_ref().map(|p| &p.view),
                        pools: &self.pools(&state),
                        claims: seen_claims.as_ref().map_or(&none, |c| &c.value),
                        services_per_port_max: self.config.services_per_port_max,
                        quota: state.usage(&scope.project, QuotaType::EndpointService),
                    },
                )?;
                let (quota_slot, held) = self.pick_slot(&state, &scope.project, QuotaType::EndpointService);
                let service = Service::new(
                    request.clone(),
                    ServicePlace {
                        id,
                        project: scope.project.clone(),
                        domain: scope.domain.clone(),
                        region: &self.config.region,
                        pool: self.config.pool,
                        backend_ip: port.as_ref().and_then(|p| p.view.ip),
                        quota_slot: Some(quota_slot),
                        created,
                    },
                );
                let slot = Key::Quota(scope.project.clone(), QuotaType::EndpointService, quota_slot);
                let mut txn = as_seen(Txn::new(), Key::Claims(request.port), seen_claims.as_ref())
                    .put(Key::Claims(request.port), encode(&claims))
                    .absent(slot.clone())
                    .put(slot, encode(&id))
                    .put(Key::Service(id), encode(&service));
                txn = as_seen(
                    txn,
                    Key::Limits(scope.project.clone()),
                    state.limits_of(&scope.project),
                );
                txn = self.hold_pool(txn, &state, service.pool);
                txn = fence(txn, vpc.as_ref().map_or(&[], |v| &v.fences));
                txn = fence(txn, port.as_ref().map_or(&[], |p| &p.fences));
                (txn, service, held)
            };
            failure.mark(id.0);
            if self.commit(txn).await? {
                failure.done();
                // As it was ordered: the reconciler may have built it by now, and a reply to an order says `creating`.
                return Ok(ServiceSeen {
                    service: Arc::new(service),
                    connection_count: 0,
                });
            }
        }
        Err(Failure::Busy(ATTEMPTS_MAX))
    }

    /// A page of the project's own services, and how many there are.
    ///
    /// # Errors
    /// By spec A.5.
    pub async fn service_list(
        &self,
        scope: &Scope,
        query: &Query,
    ) -> Result<(Vec<ServiceSeen>, usize), Failure> {
        let name = query.get("endpoint_service_name");
        name.map_or(Ok(()), name::check_filter)?;
        let id = query.id::<ServiceId>("id", Code::E3062)?;
        let status = query.status(ServiceStatus::from_wire)?;
        let listing = Listing::parse(query, adit_model::listing::LIMIT_MAX, false)?;
        let name = name.map(str::to_lowercase);
        self.barrier().await?;
        let state = self.cache.read();
        let filtered = status.is_some() || name.is_some();
        let keep = |s: &Service| {
            status.is_none_or(|status| s.status() == status)
                && name
                    .as_ref()
                    .is_none_or(|name| s.name.to_lowercase().contains(name))
        };
        let services = state.services_of_project(&scope.project);
        let (page, total) = services.select(&listing, id, filtered.then_some(keep));
        Ok((
            page.into_iter()
                .map(|s| ServiceSeen::of(&state, Arc::clone(&s.value)))
                .collect(),
            total,
        ))
    }

    /// One service of the project.
    ///
    /// # Errors
    /// 0005.
    pub async fn service_show(&self, scope: &Scope, id: ServiceId) -> Result<ServiceSeen, Failure> {
        self.barrier().await?;
        let state = self.cache.read();
        Ok(ServiceSeen::of(
            &state,
            Self::own_service(&state, scope, id)?.value,
        ))
    }

    /// Changes a service at once.
    ///
    /// # Errors
    /// By spec A.7.
    pub async fn service_update(
        &self,
        scope: &Scope,
        id: ServiceId,
        body: &Body,
    ) -> Result<ServiceSeen, Failure> {
        let update = ServiceUpdate::parse(body, self.config.strict_toa)?;
        if self.config.superset {
            superset::check_service_update(body)?;
        }
        self.change_service(scope, id, update).await
    }

    /// Gives a service another short name.
    ///
    /// # Errors
    /// By spec B.9.
    pub async fn service_rename(
        &self,
        scope: &Scope,
        id: ServiceId,
        body: &Body,
    ) -> Result<ServiceSeen, Failure> {
        let update = ServiceUpdate::parse_rename(body)?;
        self.change_service(scope, id, update).await
    }

    async fn change_service(
        &self,
        scope: &Scope,
        id: ServiceId,
        update: ServiceUpdate,
    ) -> Result<ServiceSeen, Failure> {
        self.barrier().await?;
        for _ in 0..ATTEMPTS_MAX {
            let old = {
                let state = self.cache.read();
                if let Some(service) = state.service(&id) {
                    check_private(service, update.port)?;
                }
                Self::own_service(&state, scope, id)?
            };
            let Backend::Port(published) = &old.backend else {
                return Err(Code::E0001.into());
            };
            let mut new = (*old.value).clone();
            new.update(update.clone(), &self.config.region, self.now())?;
            // A create is told later, by `failed`; a service that works is not broken by a word.
            let profile = old.proxy_profile;
            if let Some(mode) = update
                .tcp_proxy
                .filter(|mode| !self.config.can_serve(*mode, profile))
            {
                return Err(self.config.cannot_serve(mode, profile).into());
            }
            let to = update.port.unwrap_or(published.id);
            let _turn = self.backend_ports.enter(&to).await;
            let port = match update.port {
                None => None,
                Some(port) => {
                    let found = self.network.get_port(port, &scope.project).await?;
                    let view = check_port(port, old.vpc, found.as_ref().map(|p| &p.view))?;
                    check_kind(published.server_type, port, view.kind)?;
                    if let Backend::Port(backend) = &mut new.backend {
                        backend.ip = view.ip;
                    }
                    found
                }
            };
            let txn = {
                let state = self.cache.read();
                let txn = Txn::new()
                    .unchanged(Key::Service(id), old.revision)
                    .put(Key::Service(id), encode(&new));
                let txn = fence(txn, port.as_ref().map_or(&[], |p: &Seen<PortView>| &p.fences));
                move_claims(txn, &state, &old, &new)?
            };
            if self.commit(txn).await? {
                return Ok(ServiceSeen::of(&self.cache.read(), Arc::new(new)));
            }
        }
        Err(Failure::Busy(ATTEMPTS_MAX))
    }

    /// Orders a service's deletion. Its port pairs and its quota are free when this returns.
    ///
    /// # Errors
    /// By spec A.8.
    pub async fn service_delete(&self, scope: &Scope, id: ServiceId) -> Result<(), Failure> {
        self.delete_service(id, |state| {
            if let Some(service) = state.service(&id) {
                check_private(service, None)?;
            }
            Self::own_service(state, scope, id)
        })
        .await
    }

    /// Orders the deletion of the service that `find` answers; its name is free too, where it was a public one's.
    pub(super) async fn delete_service(
        &self,
        id: ServiceId,
        find: impl Fn(&State) -> Result<Stored<Service>, ApiError>,
    ) -> Result<(), Failure> {
        self.barrier().await?;
        for _ in 0..ATTEMPTS_MAX {
            let txn = {
                let state = self.cache.read();
                let old = find(&state)?;
                let mut new = (*old.value).clone();
                if !new.delete(state.live_endpoints(id), self.now())? {
                    return Ok(());
                }
                let mut txn = Txn::new()
                    .unchanged(Key::Service(id), old.revision)
                    .put(Key::Service(id), encode(&new));
                if let Some(slot) = old.quota_slot {
                    txn = txn.delete(Key::Quota(old.project.clone(), QuotaType::EndpointService, slot));
                }
                if old.public.is_some() {
                    txn = txn.delete(Key::PublicName(old.name.to_string()));
                }
                let txn = compare_guard(txn, Key::Service(id), &state);
                drop_claims(txn, &state, &old)
            };
            if self.commit(txn).await? {
                return Ok(());
            }
        }
        Err(Failure::Busy(ATTEMPTS_MAX))
    }
}

/// Takes a service's claims off its backend ports, in the transaction that makes them end.
pub(crate) fn drop_claims(txn: Txn, state: &State, service: &Service) -> Txn {
    let ports = service.backend_ports();
    ports.fold(txn, |txn, port| drop_claim(txn, state, service.id, port))
}

fn drop_claim(txn: Txn, state: &State, id: ServiceId, port: PortId) -> Txn {
    let key = Key::Claims(port);
    let Some(seen) = state.claims_of(&port) else {
        return txn;
    };
    let rest = seen.without(id);
    let txn = txn.unchanged(key.clone(), seen.revision);
    if rest.claims.is_empty() {
        txn.delete(key)
    } else {
        txn.put(key, encode(&rest))
    }
}

/// Makes a service's claims on a backend port what its mappings need.
///
/// # Errors
/// 3044 where another service has a pair.
pub(super) fn claim(
    txn: Txn,
    state: &State,
    id: ServiceId,
    port: PortId,
    mappings: &[PortMapping],
) -> Result<Txn, ApiError> {
    let seen = state.claims_of(&port);
    let none = Claims::default();
    let before = seen.map_or(&none, |s| &s.value);
    let after = before.replace(id, mappings)?;
    // A change of something else leaves the claims alone, and so does not race with the port's other services.
    if *before == after {
        return Ok(txn);
    }
    Ok(as_seen(txn, Key::Claims(port), seen).put(Key::Claims(port), encode(&after)))
}

/// Replaces a service's claims by what it needs after a change, on the backend ports that it had and has.
fn move_claims(txn: Txn, state: &State, old: &Service, new: &Service) -> Result<Txn, ApiError> {
    let mut txn = txn;
    for port in new.backend_ports() {
        txn = claim(txn, state, new.id, port, &new.ports)?;
    }
    let left = old
        .backend_ports()
        .filter(|port| new.backend_ports().all(|kept| kept != *port));
    Ok(left.fold(txn, |txn, port| drop_claim(txn, state, new.id, port)))
}
