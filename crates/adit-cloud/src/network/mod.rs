//! Operations on the region's networks, one file for each noun: one decision on the state, one guarded transaction.
//!
//! One model under three APIs ([`adit_model::network`]): a VPC is a router, a subnet of VPC v1 is a Neutron network. What
//! must be unique is a key (`address/{subnet}/{ip}`), compared for absence. Guards close write skew: whoever makes a
//! dependent puts its parent's guard (VPC ← subnet, VPC ← route table, VPC ← gateway endpoint, subnet ← port), whoever checks that there is none
//! compares it. Knows nothing of HTTP.
//!
//! Read next: [`subnet`], [`port`], then [`reservation`] (what the control plane asks for).

pub(crate) mod in_flight;
pub mod load_balancer;
pub mod port;
pub mod reservation;
pub mod route_table;
pub mod router;
pub mod subnet;
pub mod vpc;

use std::net::Ipv4Addr;

use adit_model::{
    id::{ProjectId, SubnetId, VpcId},
    network::{Subnet, Vpc},
};
use adit_store::{CacheError, Key, State, StoreError, Stored, Txn, keys::encode};

/// What can be missing; each API has its own word for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A VPC; a router.
    Vpc,
    /// A subnet of VPC v1; a network.
    Subnet,
    /// A subnet of Neutron.
    Range,
    /// A port.
    Port,
    /// A route table.
    RouteTable,
    /// A load balancer.
    LoadBalancer,
}

impl Kind {
    fn noun(self) -> &'static str {
        match self {
            Self::Vpc => "VPC or router",
            Self::Subnet => "subnet or network",
            Self::Range => "subnet",
            Self::Port => "port",
            Self::RouteTable => "route table",
            Self::LoadBalancer => "load balancer",
        }
    }
}

/// What a request clashes with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clash {
    /// Subnets are joined to the VPC.
    VpcInUse,
    /// The subnet has ports or endpoints.
    SubnetInUse,
    /// The network has ports or endpoints.
    NetworkInUse,
    /// The port belongs to something that must be removed instead.
    PortInUse,
    /// Endpoints live in the subnet that is to leave its router.
    RouterInterfaceInUse,
    /// The address is held by somebody else.
    AddressInUse,
    /// No address is left.
    NoAddressLeft,
    /// There are as many as there may be.
    Quota,
    /// The VPC's default route table stays as long as the VPC.
    DefaultTable,
    /// An endpoint is behind the route table.
    RouteTableInUse,
    /// The route is an endpoint's.
    RouteInUse,
}

/// Why an operation was not done. What is said here is for the client.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// There is none of that id, or it is another project's.
    #[error("The {} {id} could not be found.", kind.noun())]
    NotFound {
        /// What.
        kind: Kind,
        /// Its id, as it was sent.
        id: String,
    },
    /// Not a request that could ever be fulfilled; names field and value.
    #[error("{0}")]
    Invalid(String),
    /// The wanted address is not one of the subnet's.
    #[error("{ip} is not a usable address of subnet {subnet}.")]
    BadAddress {
        /// The address.
        ip: Ipv4Addr,
        /// The subnet.
        subnet: SubnetId,
    },
    /// Others are in the way.
    #[error("{message}")]
    Clash {
        /// How.
        clash: Clash,
        /// Who.
        message: String,
    },
    /// The caller may not.
    #[error("{0}")]
    Forbidden(String),
    /// The store does not answer.
    #[error("The store could not be asked.")]
    Store(#[source] StoreError),
    /// The cache does not follow the store.
    #[error("The cache does not follow the store.")]
    Cache(#[source] CacheError),
    /// The store takes too long.
    #[error("The store did not answer in time.")]
    Timeout,
    /// The same documents were changed by others again and again.
    #[error("{0} attempts were overtaken by other requests.")]
    Busy(usize),
}

impl Failure {
    pub(crate) fn not_found(kind: Kind, id: impl ToString) -> Self {
        Self::NotFound {
            kind,
            id: id.to_string(),
        }
    }

    pub(crate) fn clash(clash: Clash, message: impl Into<String>) -> Self {
        Self::Clash {
            clash,
            message: message.into(),
        }
    }
}

/// A VPC of the project.
fn own_vpc(state: &State, project: &ProjectId, id: VpcId) -> Result<Stored<Vpc>, Failure> {
    let found = state.vpc(&id).filter(|vpc| vpc.project == *project);
    found.cloned().ok_or_else(|| Failure::not_found(Kind::Vpc, id))
}

/// A subnet of the project.
fn own_subnet(state: &State, project: &ProjectId, id: SubnetId) -> Result<Stored<Subnet>, Failure> {
    let found = state.subnet(&id).filter(|subnet| subnet.project == *project);
    found.cloned().ok_or_else(|| Failure::not_found(Kind::Subnet, id))
}

/// Puts a guard: a dependent of `of` comes to be.
fn put_guard(txn: Txn, of: Key) -> Txn {
    txn.put(of.guard(), encode(&()))
}

/// Compares a guard: no dependent of `of` has come to be since the state was read.
fn compare_guard(txn: Txn, of: Key, state: &State) -> Txn {
    match state.guard(of.clone()) {
        Some(revision) => txn.unchanged(of.guard(), revision),
        None => txn.absent(of.guard()),
    }
}
