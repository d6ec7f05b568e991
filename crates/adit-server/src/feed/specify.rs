//! From documents to what a gateway has to do. Pure.

use adit_model::{
    endpoint::{Endpoint, EndpointStatus, InterfaceLeg, Leg},
    feed::{ConsumerLeg, EndpointSpec, Ingress, ProviderLeg},
    id::EndpointId,
    service::{Backend, Service, ServiceStatus},
};
use adit_store::{State, Stored};

use crate::config::Config;

/// How many seconds an endpoint's connections may go on once it is served no more. To freeze an account is to cut, unless that
/// call says otherwise, whatever has been said of one of its endpoints.
pub(crate) fn drain_s(config: &Config, state: &State, endpoint: &Endpoint) -> u32 {
    let frozen = state
        .account(&endpoint.domain)
        .filter(|account| account.is_frozen());
    match frozen {
        Some(account) => account.drain_s.unwrap_or(0),
        None => endpoint.drain_s.unwrap_or(config.drain_s),
    }
}

/// What a gateway has to do for an endpoint: nothing, unless it is approved, has its addresses, and its service stands.
pub fn specify(state: &State, config: &Config, id: EndpointId) -> Option<EndpointSpec> {
    let endpoint: &Stored<Endpoint> = state.endpoint(&id)?;
    let account = state.account(&endpoint.domain);
    let blocked = endpoint.is_disabled() || account.is_some_and(|account| account.is_frozen());
    // What is rejected, or blocked by the operator, keeps its address, so that clients are refused at once and do not wait
    // in vain.
    let ports = |service: &Service| match endpoint.status() {
        EndpointStatus::Creating | EndpointStatus::Accepted if !blocked => Some(service.ports.clone()),
        EndpointStatus::Creating | EndpointStatus::Accepted | EndpointStatus::Rejected => Some(Vec::new()),
        EndpointStatus::PendingAcceptance | EndpointStatus::Failed | EndpointStatus::Deleting => None,
    };
    let service: &Stored<Service> = state.service(&endpoint.service)?;
    // A service that has become `failed` is not served: its mode cannot be done, and must not be dropped silently.
    let can_serve = config.can_serve(service.tcp_proxy, service.proxy_profile);
    if service.status() != ServiceStatus::Available || !can_serve {
        return None;
    }
    let (ingress, backend) = match (&endpoint.leg, &service.backend) {
        (Leg::Interface(leg), Backend::Port(port)) => {
            let (ip, subnet) = (leg.ip?, leg.subnet_cidr);
            (Ingress::Address { ip, subnet }, Some(port.ip?))
        }
        (Leg::Gateway(_), Backend::Prefixes { prefixes }) => (Ingress::Blocks(prefixes.clone()), None),
        // The type of a service never changes.
        (Leg::Interface(_), Backend::Prefixes { .. }) | (Leg::Gateway(_), Backend::Port(_)) => return None,
    };
    let restricted = endpoint.interface().filter(|leg| leg.enable_whitelist);
    let of_documents = endpoint.revision.max(service.revision);
    Some(EndpointSpec {
        id,
        generation: account
            .map_or(of_documents, |account| account.revision.max(of_documents))
            .0,
        service: service.id,
        marker: endpoint.marker,
        consumer: ConsumerLeg {
            namespace: (config.namespace)(endpoint.vpc).into(),
            vni: endpoint.vni,
            ingress,
        },
        provider: ProviderLeg {
            namespace: (config.namespace)(service.vpc).into(),
            source: endpoint.source?.ip,
            slice: None,
            backend,
            more_backends: service.more_backends.iter().map(|more| more.ip).collect(),
        },
        ports: ports(service)?,
        tcp_proxy: service.tcp_proxy,
        proxy: config.proxy.in_profile(service.proxy_profile),
        connections_max: config.connections_per_endpoint_max,
        new_per_second_max: config.new_connections_per_second_max,
        drain_s: drain_s(config, state, endpoint),
        allowed: restricted.map(InterfaceLeg::allowed),
    })
}
