//! Operations on public services, which the operator runs for everybody: list, describe (spec A.3), and the operator's own.
//!
//! A public service is a service like others, with a mark, a name of its own and no quota slot. Tenants find it here and
//! nowhere else.

use std::sync::Arc;

use adit_model::{
    ApiError, Code,
    body::Body,
    id::{DomainId, PoolId, ServiceId},
    listing::{LIMIT_MAX, Listing, Query},
    name,
    network::{PortView, VpcView},
    port_mapping::Claims,
    quota::Usage,
    service::{PublicCreate, Service, ServiceFacts, ServicePlace, ServiceStatus},
};
use adit_store::{Key, State, Stored, Txn, keys::encode};

use super::{ATTEMPTS_MAX, App, as_seen, fence, service::ServiceSeen};
use crate::{error::Failure, network::Seen};

/// A public service that is to be, and what was looked up for it.
#[derive(Clone, Debug)]
pub struct PublicOrder<'a> {
    /// The request.
    pub request: &'a PublicCreate,
    /// Whose it is and where it is put.
    pub place: ServicePlace<'a>,
    /// The backend's VPC.
    pub vpc: Option<&'a Seen<VpcView>>,
    /// The backend port, where the request names one.
    pub port: Option<&'a Seen<PortView>>,
    /// The pools there are.
    pub pools: &'a [PoolId],
    /// The operator's cap of services on one backend port.
    pub services_per_port_max: Option<usize>,
}

impl PublicOrder<'_> {
    /// The transaction that the service comes to be with, and the service.
    ///
    /// # Errors
    /// By rules 21 to 29 of spec A.4; 3076 where another public service has the name.
    pub fn plan(self, state: &State) -> Result<(Txn, Service), ApiError> {
        let id = self.place.id;
        let port_id = self.port.map(|p| p.view.id);
        let seen_claims = port_id.and_then(|port| state.claims_of(&port));
        let none = Claims::default();
        let claims = self.request.check(
            id,
            &ServiceFacts {
                vpc: self.vpc.map(|v| &v.view),
                port: self.port.map(|p| &p.view),
                pools: self.pools,
                claims: seen_claims.map_or(&none, |c| &c.value),
                services_per_port_max: self.services_per_port_max,
                // Quotas are the tenants'.
                quota: Usage { used: 0, quota: 1 },
            },
        )?;
        let name = &self.request.name;
        if let Some(other) = state.public_name(name) {
            return Err(ApiError::because(
                Code::E3076,
                format!("service_name: \"{name}\" is the name of public service {other}."),
            ));
        }
        let service = Service::new_public(self.request.clone(), self.place);
        let name = Key::PublicName(name.clone());
        let mut txn = Txn::new()
            .absent(Key::Service(id))
            .put(Key::Service(id), encode(&service))
            .absent(name.clone())
            .put(name, encode(&id));
        if let (Some(port), Some(claims)) = (port_id, claims) {
            txn = as_seen(txn, Key::Claims(port), seen_claims).put(Key::Claims(port), encode(&claims));
        }
        txn = fence(txn, self.vpc.map_or(&[], |v| &v.fences));
        txn = fence(txn, self.port.map_or(&[], |p| &p.fences));
        Ok((txn, service))
    }
}

impl App {
    /// A page of the public services, and how many there are.
    ///
    /// # Errors
    /// By spec A.3a.
    pub async fn public_service_list(&self, query: &Query) -> Result<(Vec<Arc<Service>>, usize), Failure> {
        let name = query.get("endpoint_service_name");
        name.map_or(Ok(()), name::check_filter)?;
        let id = query.id::<ServiceId>("id", Code::E3062)?;
        let listing = Listing::parse(query, LIMIT_MAX, false)?;
        let name = name.map(str::to_lowercase);
        self.barrier().await?;
        let state = self.cache.read();
        let keep = |s: &Service| {
            s.status() != ServiceStatus::Deleting
                && name
                    .as_ref()
                    .is_none_or(|name| s.name.to_lowercase().contains(name))
        };
        let (page, total) = state.public_services().select(&listing, id, Some(keep));
        Ok((page.into_iter().map(|s| Arc::clone(&s.value)).collect(), total))
    }

    /// Any service by its whole name, its id, or both, as somebody sees it who may want to connect.
    ///
    /// # Errors
    /// By spec A.3b.
    pub async fn service_describe(&self, query: &Query) -> Result<Arc<Service>, Failure> {
        let name = query.get("endpoint_service_name");
        name.map_or(Ok(()), name::check_filter)?;
        let id = query.id::<ServiceId>("id", Code::E3062)?;
        if name.is_none() && id.is_none() {
            let why = "Name the service by endpoint_service_name or by id.";
            return Err(ApiError::because(Code::E2002, why).into());
        }
        self.barrier().await?;
        let state = self.cache.read();
        let named = |name| state.public_name(name).or_else(|| name::id_of(name));
        let found = id
            .or_else(|| name.and_then(named))
            .and_then(|id| state.service(&id))
            .filter(|s| s.status() != ServiceStatus::Deleting)
            .filter(|s| name.is_none_or(|name| *s.name == *name));
        match found {
            Some(service) => Ok(Arc::clone(&service.value)),
            None => {
                let why = format!(
                    "There is no endpoint service {}.",
                    [name.map(str::to_owned), id.map(|id| id.to_string())]
                        .into_iter()
                        .flatten()
                        .collect::<Vec<_>>()
                        .join(" with id ")
                );
                Err(ApiError::because(Code::E0005, why).into())
            }
        }
    }

    /// Orders a public service in a project's network; it is `creating` when this returns.
    ///
    /// # Errors
    /// By [`PublicCreate::parse`] and [`PublicOrder::plan`].
    pub async fn public_service_create(
        &self,
        operator: &DomainId,
        body: &Body,
    ) -> Result<ServiceSeen, Failure> {
        let request = PublicCreate::parse(body)?;
        self.barrier().await?;
        for _ in 0..ATTEMPTS_MAX {
            let vpc = self.network.get_vpc(request.vpc, &request.project).await?;
            let port = match request.port() {
                Some(port) => self.network.get_port(port, &request.project).await?,
                None => None,
            };
            let place = ServicePlace {
                id: ServiceId::random(),
                project: request.project.clone(),
                domain: operator.clone(),
                region: &self.config.region,
                pool: self.config.pool,
                backend_ip: port.as_ref().and_then(|p| p.view.ip),
                quota_slot: None,
                created: self.created(),
            };
            let (txn, service) = {
                let state = self.cache.read();
                let pools = self.pools(&state);
                let order = PublicOrder {
                    request: &request,
                    place,
                    vpc: vpc.as_ref(),
                    port: port.as_ref(),
                    pools: &pools,
                    services_per_port_max: self.config.services_per_port_max,
                };
                let (txn, service) = order.plan(&state)?;
                (self.hold_pool(txn, &state, service.pool), service)
            };
            if self.commit(txn).await? {
                return Ok(ServiceSeen {
                    service: Arc::new(service),
                    connection_count: 0,
                });
            }
        }
        Err(Failure::Busy(ATTEMPTS_MAX))
    }

    /// One public service as the operator sees it.
    ///
    /// # Errors
    /// 0005.
    pub async fn public_service_show(&self, id: ServiceId) -> Result<ServiceSeen, Failure> {
        self.barrier().await?;
        let state = self.cache.read();
        Ok(ServiceSeen::of(&state, public_service(&state, id)?.value))
    }

    /// Orders a public service's deletion, under the rules that hold for others (spec A.8).
    ///
    /// # Errors
    /// 0005, 3005, 3006.
    pub async fn public_service_delete(&self, id: ServiceId) -> Result<(), Failure> {
        self.delete_service(id, |state| public_service(state, id)).await
    }
}

fn public_service(state: &State, id: ServiceId) -> Result<Stored<Service>, ApiError> {
    state
        .service(&id)
        .filter(|s| s.public.is_some())
        .cloned()
        .ok_or_else(|| ApiError::because(Code::E0005, format!("There is no public endpoint service {id}.")))
}
