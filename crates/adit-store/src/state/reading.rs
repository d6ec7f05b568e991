//! A change with its key and its document read, which is most of the work of taking it in, and needs nothing but the change.

use std::{net::Ipv4Addr, sync::Arc};

use adit_model::{
    account::Account,
    endpoint::Endpoint,
    id::{
        DomainId, EndpointId, LoadBalancerId, MarkerId, PoolId, PortId, ProjectId, RouteTableId, ServiceId,
        SubnetId, VpcId,
    },
    network::{Holder, LoadBalancer, Port, RouteTable, Subnet, Vpc},
    node::{Drain, Node, NodeName},
    placement::Placement,
    pool::Pool,
    port_mapping::Claims,
    quota::{Limits, QuotaType},
    service::Service,
    whitelist::Whitelist,
};
use serde::de::DeserializeOwned;

use super::Stored;
use crate::{
    keys::{self, Key},
    store::{Change, Entry, Revision},
};

/// Who holds an address, with the revision that wrote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Who.
    pub holder: Holder,
    /// The revision to compare with.
    pub revision: Revision,
}

/// What has become of a key; `None` and `false` where it is gone.
#[derive(Debug)]
pub enum Reading {
    /// An endpoint service.
    Service(ServiceId, Option<Stored<Service>>),
    /// An endpoint.
    Endpoint(EndpointId, Option<Stored<Endpoint>>),
    /// A whitelist.
    Whitelist(ServiceId, Option<Stored<Whitelist>>),
    /// The claims on a backend port.
    Claims(PortId, Option<Stored<Claims>>),
    /// An address of a subnet.
    Address(SubnetId, Ipv4Addr, Option<Held>),
    /// A source address in a provider's VPC.
    Source(VpcId, Ipv4Addr, Option<EndpointId>),
    /// Which endpoint of a gateway service a route table serves.
    Binding(RouteTableId, ServiceId, Option<Stored<EndpointId>>),
    /// Which public service has a name.
    PublicName(String, Option<ServiceId>),
    /// A packet id.
    Marker(MarkerId, Option<EndpointId>),
    /// A quota slot: whether it is in use.
    Quota(ProjectId, QuotaType, u32, bool),
    /// A project's quotas.
    Limits(ProjectId, Option<Stored<Limits>>),
    /// An account's standing.
    Account(DomainId, Option<Stored<Account>>),
    /// A pool.
    Pool(PoolId, Option<Stored<Pool>>),
    /// A gateway.
    Node(NodeName, Option<Stored<Node>>),
    /// A gateway that is being drained.
    Drain(NodeName, Option<Stored<Drain>>),
    /// A pool's placement.
    Placement(PoolId, Option<Stored<Placement>>),
    /// A guard.
    Guard(Key, Option<Revision>),
    /// A VPC.
    Vpc(VpcId, Option<Stored<Vpc>>),
    /// A subnet.
    Subnet(SubnetId, Option<Stored<Subnet>>),
    /// A port.
    Port(PortId, Option<Stored<Port>>),
    /// A route table.
    RouteTable(RouteTableId, Option<Stored<RouteTable>>),
    /// A load balancer.
    LoadBalancer(LoadBalancerId, Option<Stored<LoadBalancer>>),
    /// A key whose meaning is its owner's business.
    Other(Arc<str>, Option<Entry>),
}

impl Reading {
    pub(super) fn of(change: &Change) -> Self {
        let entry = change.entry.as_ref();
        let Some(key) = Key::parse(&change.key) else {
            return Self::Other(Arc::clone(&change.key), entry.cloned());
        };
        match key {
            Key::Service(id) => Self::Service(id, stored(entry)),
            Key::Endpoint(id) => Self::Endpoint(id, stored(entry)),
            Key::Whitelist(service) => Self::Whitelist(service, stored(entry)),
            Key::Claims(port) => Self::Claims(port, stored(entry)),
            Key::Address(subnet, ip) => {
                let held = document(entry).map(|(holder, revision)| Held { holder, revision });
                Self::Address(subnet, ip, held)
            }
            Key::Source(vpc, ip) => Self::Source(vpc, ip, document(entry).map(|(id, _)| id)),
            Key::Binding(table, service) => Self::Binding(table, service, stored(entry)),
            Key::PublicName(name) => Self::PublicName(name, document(entry).map(|(id, _)| id)),
            Key::Marker(marker) => Self::Marker(marker, document(entry).map(|(id, _)| id)),
            Key::Quota(project, kind, n) => Self::Quota(project, kind, n, entry.is_some()),
            Key::Limits(project) => Self::Limits(project, stored(entry)),
            Key::Account(domain) => Self::Account(domain, stored(entry)),
            Key::Pool(id) => Self::Pool(id, stored(entry)),
            Key::Node(name) => Self::Node(name, stored(entry)),
            Key::Drain(name) => Self::Drain(name, stored(entry)),
            Key::Placement(pool) => Self::Placement(pool, stored(entry)),
            Key::Guard(of) => Self::Guard(*of, entry.map(|entry| entry.mod_revision)),
            Key::Vpc(id) => Self::Vpc(id, stored(entry)),
            Key::Subnet(id) => Self::Subnet(id, stored(entry)),
            Key::Port(id) => Self::Port(id, stored(entry)),
            Key::RouteTable(id) => Self::RouteTable(id, stored(entry)),
            Key::LoadBalancer(id) => Self::LoadBalancer(id, stored(entry)),
        }
    }
}

pub(super) fn stored<T: DeserializeOwned>(entry: Option<&Entry>) -> Option<Stored<T>> {
    document(entry).map(|(value, revision)| Stored {
        value: Arc::new(value),
        revision,
    })
}

/// A document out of an entry. One that cannot be read is as good as absent, and said aloud: somebody must act.
fn document<T: DeserializeOwned>(entry: Option<&Entry>) -> Option<(T, Revision)> {
    let entry = entry?;
    match keys::decode(&entry.value) {
        Ok(value) => Some((value, entry.mod_revision)),
        Err(e) => {
            tracing::error!(store.key = %entry.key, error = %e, "A stored document cannot be read and is left out.");
            None
        }
    }
}
