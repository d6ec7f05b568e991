//! The network that endpoints live in: the trait that a network service is behind.
//!
//! Owns what the control plane asks of a network, and the errors that it may get. Look-ups take the caller, for whom what is
//! not theirs does not exist; reservations use the service's own credentials, are idempotent by endpoint, and are the
//! reconcilers', never a request's. The embedded network lives in `adit-cloud`.

use std::{net::Ipv4Addr, sync::Arc};

use adit_model::{
    id::{EndpointId, LoadBalancerId, PortId, ProjectId, RouteTableId, SubnetId, VpcId},
    network::{Mac, PortView, RouteClash, SubnetView, VpcView},
};
use adit_store::Revision;
use async_trait::async_trait;
use ipnet::Ipv4Net;

/// A document that an answer was read from: whoever decides on the answer compares it in the same transaction. Networks
/// outside of our store have none.
pub type Fence = (Arc<str>, Revision);

/// An answer, and what it was read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen<T> {
    /// The answer.
    pub view: T,
    /// What to compare when something is decided on it.
    pub fences: Vec<Fence>,
}

/// An address that is kept for an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reservation {
    /// The port that holds it.
    pub port: PortId,
    /// The endpoint that it is for.
    pub endpoint: EndpointId,
    /// The subnet that it is from.
    pub subnet: SubnetId,
    /// The address.
    pub ip: Ipv4Addr,
    /// The port's hardware address.
    pub mac: Mac,
    /// The largest packet that the subnet carries, in bytes.
    pub mtu_bytes: u16,
}

/// Why the network did not do as asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// What was named does not exist, or not for this caller.
    #[error("{0} does not exist")]
    NotFound(String),
    /// The wanted address is held by somebody else.
    #[error("address {0} is taken")]
    AddressTaken(Ipv4Addr),
    /// No address is left in the subnet.
    #[error("subnet {0} has no free address")]
    NoneLeft(SubnetId),
    /// The wanted address is not one of the subnet's.
    #[error("{0} is not an address of the subnet")]
    BadAddress(Ipv4Addr),
    /// A route table cannot take the routes of an endpoint.
    #[error("route table {table}: {why}")]
    Route {
        /// The table.
        table: RouteTableId,
        /// What is in the way.
        why: RouteClash,
    },
    /// The project's quota of ports is used up.
    #[error("the network's quota is used up")]
    Quota,
    /// The network refuses.
    #[error("the network refuses: {0}")]
    Forbidden(String),
    /// Our own credentials are not accepted.
    #[error("the network does not accept our credentials")]
    Authentication,
    /// The network cannot be asked now; the same question may be answered later.
    #[error("the network is unavailable: {0}")]
    Unavailable(String),
}

/// A network service.
#[async_trait]
pub trait Network: Send + Sync + 'static {
    /// A VPC of the project; `None` where there is none of that id, or another project's.
    ///
    /// # Errors
    /// Where the network cannot be asked.
    async fn get_vpc(&self, id: VpcId, project: &ProjectId) -> Result<Option<Seen<VpcView>>, NetworkError>;

    /// A subnet of the project.
    ///
    /// # Errors
    /// Where the network cannot be asked.
    async fn get_subnet(
        &self,
        id: SubnetId,
        project: &ProjectId,
    ) -> Result<Option<Seen<SubnetView>>, NetworkError>;

    /// A port of the project.
    ///
    /// # Errors
    /// Where the network cannot be asked.
    async fn get_port(&self, id: PortId, project: &ProjectId)
    -> Result<Option<Seen<PortView>>, NetworkError>;

    /// The port that holds the private address of one of the project's load balancers.
    ///
    /// # Errors
    /// Where the network cannot be asked.
    async fn get_load_balancer(
        &self,
        id: LoadBalancerId,
        project: &ProjectId,
    ) -> Result<Option<Seen<PortView>>, NetworkError>;

    /// Whether the project has a route table of this id, in whatever VPC.
    ///
    /// # Errors
    /// Where the network cannot be asked.
    async fn has_route_table(&self, id: RouteTableId, project: &ProjectId) -> Result<bool, NetworkError>;

    /// Makes the route tables of a VPC lead to a gateway endpoint: those in `tables` to exactly the `prefixes`, the VPC's
    /// others not at all. Asked again, nothing changes; a VPC that is gone is done.
    ///
    /// # Errors
    /// [`NetworkError::Route`] by table, where another route is in the way; [`NetworkError::Unavailable`] is worth
    /// another try.
    async fn route(
        &self,
        endpoint: EndpointId,
        vpc: VpcId,
        tables: &[RouteTableId],
        prefixes: &[Ipv4Net],
    ) -> Result<(), NetworkError>;

    /// Keeps an address for an endpoint: the wanted one, or any free one. Asked again for the same endpoint, the answer is
    /// the same. Who asks may be a moment behind: where the network can tell that the endpoint is gone, or about to go, it
    /// keeps none; elsewhere it is given back once [`Network::list_reserved`] was looked at.
    ///
    /// # Errors
    /// By cause; [`NetworkError::Unavailable`] alone is worth another try.
    async fn reserve(
        &self,
        endpoint: EndpointId,
        project: &ProjectId,
        subnet: SubnetId,
        wanted: Option<Ipv4Addr>,
    ) -> Result<Reservation, NetworkError>;

    /// Gives an endpoint's address back. One that is gone already is done.
    ///
    /// # Errors
    /// Where the network cannot be asked.
    async fn release(&self, endpoint: EndpointId) -> Result<(), NetworkError>;

    /// Every reservation that we hold, to find those whose endpoint is gone.
    ///
    /// # Errors
    /// Where the network cannot be asked.
    async fn list_reserved(&self) -> Result<Vec<Reservation>, NetworkError>;
}
