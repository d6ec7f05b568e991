//! Operations on endpoints (spec A.13 to A.16).

use std::sync::Arc;

use adit_model::{
    ApiError, Code,
    account::Account,
    body::Body,
    endpoint::{Endpoint, EndpointDraft, EndpointPlace, Leg, parse_drain_s_query},
    id::{EndpointId, MarkerId, RouteTableId, SubnetId, VpcId},
    listing::{LIMIT_MAX, Listing, Query},
    name,
    network::{Holder, SubnetView, VpcView},
    quota::QuotaType,
    service::{Service, ServiceType},
    superset,
};
use adit_store::{Key, State, Stored, Txn, keys::encode};

use super::{ATTEMPTS_MAX, App, Scope, as_seen, fence, in_flight::Held, put_guard};
use crate::{error::Failure, network::Seen, planned};

/// An endpoint with what replies say of it and the document does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointSeen {
    /// The endpoint.
    pub endpoint: Arc<Endpoint>,
    /// Its service, while it is there.
    pub service: Option<Arc<Service>>,
    /// Its account's standing, where the operator has ever changed it.
    pub account: Option<Arc<Account>>,
}

impl EndpointSeen {
    pub(super) fn of(state: &State, endpoint: Arc<Endpoint>) -> Self {
        let service = state.service(&endpoint.service);
        let account = state.account(&endpoint.domain);
        Self {
            account: account.map(|a| Arc::clone(&a.value)),
            service: service.map(|s| Arc::clone(&s.value)),
            endpoint,
        }
    }

    /// Its account's `active_status`.
    pub fn active_status(&self) -> Vec<&'static str> {
        let account = self.account.as_ref();
        account.map_or_else(|| Account::default().active_status(), |a| a.active_status())
    }

    /// Its service's present name; the last one, where the service is gone.
    pub fn service_name(&self) -> &str {
        let service = self.service.as_ref();
        service.map_or(&self.endpoint.service_name, |s| &s.name)
    }
}

/// [`EndpointSeen::service_name`], of an endpoint that is only looked at.
fn present_name<'a>(state: &'a State, endpoint: &'a Endpoint) -> &'a str {
    let service = state.service(&endpoint.service);
    service.map_or(&endpoint.service_name, |s| &s.name)
}

/// Where in its VPC an endpoint is to be.
enum Ground {
    /// In a subnet, if there is one of that id.
    Subnet(SubnetId, Option<Seen<SubnetView>>),
    /// Behind route tables.
    RouteTables {
        /// Whether the first one named that is not of the VPC is there at all.
        foreign_exists: bool,
    },
}

impl App {
    /// Orders an endpoint.
    ///
    /// # Errors
    /// By spec A.13.
    pub async fn endpoint_create(&self, scope: &Scope, body: Body) -> Result<EndpointSeen, Failure> {
        let draft = {
            let extra = self
                .config
                .superset
                .then(|| superset::check_endpoint_create(&body));
            let draft = EndpointDraft::parse(body)?;
            extra.transpose()?;
            draft
        };
        self.barrier().await?;
        let failure = self.failures.order(planned::ENDPOINT_CREATE);
        for _ in 0..ATTEMPTS_MAX {
            let service_type = usable_service(&self.cache.read(), scope, &draft)?.service_type();
            let vpc = self.network.get_vpc(draft.vpc, &scope.project).await?;
            draft.check_vpc(vpc.as_ref().map(|v| &v.view))?;
            let Some(vpc) = vpc else {
                return Err(Code::E2001.into());
            };
            let ground = self.ground(scope, &draft, service_type, &vpc.view).await?;
            let created = self.created();
            let (txn, endpoint, service, _held) = {
                let state = self.cache.read();
                // Looked at again, since it is this state that the compares below are of: during the look-ups the service may
                // have been deleted, or the account taken off its whitelist.
                let service = usable_service(&state, scope, &draft)?;
                let quota = state.usage(&scope.project, QuotaType::Endpoint);
                let request = match &ground {
                    Ground::Subnet(id, subnet) => draft.clone().finish(
                        &vpc.view,
                        *id,
                        subnet.as_ref().map(|s| &s.view),
                        |ip| state.address(*id, ip).is_none(),
                        quota,
                    )?,
                    Ground::RouteTables { foreign_exists } => draft.clone().finish_gateway(
                        &vpc.view,
                        *foreign_exists,
                        |table| state.binding(table, service.id).is_none(),
                        quota,
                    )?,
                };
                let (quota_slot, slot) = self.pick_slot(&state, &scope.project, QuotaType::Endpoint);
                let marker = self.pick_marker(&state);
                let place = EndpointPlace {
                    id: EndpointId::random(),
                    project: scope.project.clone(),
                    domain: scope.domain.clone(),
                    marker: *marker.key(),
                    quota_slot,
                    created,
                };
                let endpoint = Endpoint::new(request, &service, place);
                let mut txn = order(&endpoint, &service);
                txn = as_seen(
                    txn,
                    Key::Limits(scope.project.clone()),
                    state.limits_of(&scope.project),
                );
                if endpoint.domain != service.domain && service.public.is_none() {
                    txn = as_seen(txn, Key::Whitelist(service.id), state.whitelist(&service.id));
                }
                txn = fence(txn, &vpc.fences);
                if let Ground::Subnet(_, Some(subnet)) = &ground {
                    txn = fence(txn, &subnet.fences);
                }
                (txn, endpoint, Arc::clone(&service.value), (slot, marker))
            };
            failure.mark(endpoint.id.0);
            if self.commit(txn).await? {
                failure.done();
                return Ok(EndpointSeen {
                    service: Some(service),
                    ..EndpointSeen::of(&self.cache.read(), Arc::new(endpoint))
                });
            }
        }
        Err(Failure::Busy(ATTEMPTS_MAX))
    }

    /// Looks up where in its VPC the endpoint is to be: rule 11, and what rules 12 and 18 look at.
    async fn ground(
        &self,
        scope: &Scope,
        draft: &EndpointDraft,
        service_type: ServiceType,
        vpc: &VpcView,
    ) -> Result<Ground, Failure> {
        match service_type {
            ServiceType::Interface => {
                let id = draft.subnet()?;
                let subnet = self.network.get_subnet(id, &scope.project).await?;
                Ok(Ground::Subnet(id, subnet))
            }
            ServiceType::Gateway => {
                let foreign_exists = match draft.foreign_route_table(vpc) {
                    Some(id) => self.network.has_route_table(id, &scope.project).await?,
                    None => false,
                };
                Ok(Ground::RouteTables { foreign_exists })
            }
        }
    }

    /// A packet id that nobody has: random, so that one that was freed does not come back soon.
    fn pick_marker(&self, state: &State) -> Held<'_, MarkerId> {
        loop {
            let held = self.markers.pick(|taken| {
                let marker = MarkerId::from_random(rand::random());
                (!taken.contains(&marker) && state.marker(marker).is_none()).then_some(marker)
            });
            if let Some(held) = held {
                return held;
            }
        }
    }

    /// A page of the project's endpoints, and how many there are.
    ///
    /// # Errors
    /// By spec A.14.
    pub async fn endpoint_list(
        &self,
        scope: &Scope,
        query: &Query,
    ) -> Result<(Vec<EndpointSeen>, usize), Failure> {
        let name = query.get("endpoint_service_name");
        name.map_or(Ok(()), name::check_filter)?;
        let vpc = query.id::<VpcId>("vpc_id", Code::E0020)?;
        let id = query.id::<EndpointId>("id", Code::E2017)?;
        let listing = Listing::parse(query, LIMIT_MAX, false)?;
        let name = name.map(str::to_lowercase);
        self.barrier().await?;
        let state = self.cache.read();
        let filtered = vpc.is_some() || name.is_some();
        let keep = |e: &Endpoint| {
            vpc.is_none_or(|vpc| e.vpc == vpc)
                && name
                    .as_ref()
                    .is_none_or(|name| present_name(&state, e).to_lowercase().contains(name))
        };
        let endpoints = state.endpoints_of_project(&scope.project);
        let (page, total) = endpoints.select(&listing, id, filtered.then_some(keep));
        let page = page
            .into_iter()
            .map(|e| EndpointSeen::of(&state, Arc::clone(&e.value)));
        Ok((page.collect(), total))
    }

    /// One endpoint of the project.
    ///
    /// # Errors
    /// 2006.
    pub async fn endpoint_show(&self, scope: &Scope, id: EndpointId) -> Result<EndpointSeen, Failure> {
        self.barrier().await?;
        let state = self.cache.read();
        Ok(EndpointSeen::of(&state, own_endpoint(&state, scope, id)?.value))
    }

    /// Orders an endpoint's deletion. Its address, its route tables and its quota are free when this returns; its connections
    /// may go on for as long as the call says, and said again, for less.
    ///
    /// # Errors
    /// 2006; 0002 by the query.
    pub async fn endpoint_delete(&self, scope: &Scope, id: EndpointId, query: &Query) -> Result<(), Failure> {
        let drain_s = match self.config.superset {
            true => parse_drain_s_query(query)?,
            false => None,
        };
        let _turn = self.placing.enter(&id).await;
        self.barrier().await?;
        for _ in 0..ATTEMPTS_MAX {
            let txn = {
                let state = self.cache.read();
                let old = own_endpoint(&state, scope, id)?;
                let mut new = (*old.value).clone();
                let ends = new.delete(self.now());
                // Of what the operator has switched off the operator's word holds.
                let drains = !new.is_disabled() && new.drain(ends, drain_s);
                if !ends && !drains {
                    return Ok(());
                }
                let txn = Txn::new()
                    .unchanged(Key::Endpoint(id), old.revision)
                    .put(Key::Endpoint(id), encode(&new));
                match ends {
                    true => {
                        let slot = Key::Quota(old.project.clone(), QuotaType::Endpoint, old.quota_slot);
                        let_go(txn.delete(slot), &state, &old)
                    }
                    false => txn,
                }
            };
            if self.commit(txn).await? {
                return Ok(());
            }
        }
        Err(Failure::Busy(ATTEMPTS_MAX))
    }
}

/// The service that a request is for, if an endpoint to it can be made (rules 7 to 9).
fn usable_service(state: &State, scope: &Scope, draft: &EndpointDraft) -> Result<Stored<Service>, ApiError> {
    let admitted = state
        .whitelist(&draft.service)
        .is_some_and(|w| w.admits(&scope.domain));
    let service = state.service(&draft.service);
    draft.check_service(service.map(|s| &*s.value), &scope.domain, admitted)?;
    service.cloned().ok_or_else(|| Code::E2003.into())
}

/// The transaction that an endpoint comes to be with, less what only some need.
fn order(endpoint: &Endpoint, service: &Stored<Service>) -> Txn {
    let slot = Key::Quota(endpoint.project.clone(), QuotaType::Endpoint, endpoint.quota_slot);
    let mut txn = Txn::new()
        .unchanged(Key::Service(service.id), service.revision)
        .absent(slot.clone())
        .put(slot, encode(&endpoint.id))
        .absent(Key::Marker(endpoint.marker))
        .put(Key::Marker(endpoint.marker), encode(&endpoint.id))
        .put(Key::Endpoint(endpoint.id), encode(endpoint));
    txn = put_guard(txn, Key::Service(service.id));
    match &endpoint.leg {
        Leg::Interface(leg) => {
            txn = put_guard(txn, Key::Subnet(leg.subnet));
            if let Some(ip) = leg.ip {
                let address = Key::Address(leg.subnet, ip);
                txn = txn
                    .absent(address.clone())
                    .put(address, encode(&Holder::Endpoint(endpoint.id)));
            }
            txn
        }
        Leg::Gateway(leg) => bind(txn, endpoint, &leg.route_tables),
    }
}

/// Makes route tables serve a gateway endpoint: none of them may serve another one of its service, and neither they nor the
/// VPC may go meanwhile.
pub(super) fn bind(txn: Txn, endpoint: &Endpoint, tables: &[RouteTableId]) -> Txn {
    let mut txn = put_guard(txn, Key::Vpc(endpoint.vpc));
    for table in tables {
        let binding = Key::Binding(*table, endpoint.service);
        txn = txn.absent(binding.clone()).put(binding, encode(&endpoint.id));
    }
    txn
}

/// Frees what others may have as soon as an endpoint is on its way out: its address, or its route tables.
pub(crate) fn let_go(txn: Txn, state: &State, endpoint: &Endpoint) -> Txn {
    let held: Vec<(Key, adit_store::Revision)> = match &endpoint.leg {
        Leg::Interface(leg) => {
            let held = leg.ip.and_then(|ip| {
                let held = state.address(leg.subnet, ip)?;
                (held.holder == Holder::Endpoint(endpoint.id))
                    .then_some((Key::Address(leg.subnet, ip), held.revision))
            });
            held.into_iter().collect()
        }
        Leg::Gateway(leg) => unbound(state, endpoint, &leg.route_tables),
    };
    held.into_iter().fold(txn, |txn, (key, revision)| {
        txn.unchanged(key.clone(), revision).delete(key)
    })
}

/// The keys of the endpoint's hold on route tables, as far as it has it.
pub(super) fn unbound(
    state: &State,
    endpoint: &Endpoint,
    tables: &[RouteTableId],
) -> Vec<(Key, adit_store::Revision)> {
    let bound = tables.iter().filter_map(|table| {
        let holder = state.binding(*table, endpoint.service)?;
        (*holder.value == endpoint.id).then_some((Key::Binding(*table, endpoint.service), holder.revision))
    });
    bound.collect()
}

/// An endpoint of the caller's project; of another project it does not exist.
pub(crate) fn own_endpoint(
    state: &State,
    scope: &Scope,
    id: EndpointId,
) -> Result<Stored<Endpoint>, ApiError> {
    state
        .endpoint(&id)
        .filter(|e| e.project == scope.project)
        .cloned()
        .ok_or_else(|| ApiError::because(Code::E2006, format!("There is no endpoint {id} in this project.")))
}
