//! The region's own network with something that happens between an answer and the one who asked.

use std::{net::Ipv4Addr, pin::Pin, sync::Arc};

use adit_model::{
    id::{EndpointId, LoadBalancerId, PortId, ProjectId, RouteTableId, SubnetId, VpcId},
    network::{PortView, SubnetView, VpcView},
};
use adit_server::{Network, NetworkError, Reservation, Seen};
use async_trait::async_trait;
use ipnet::Ipv4Net;

/// What was asked, or is about to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    Vpc,
    Subnet,
    Port,
    BeforeReserve,
    Reserve,
    Release,
    RouteTable,
    Route,
}

/// What happens after the answer is known; an error takes the answer's place.
pub(crate) type Hook = Pin<Box<dyn Future<Output = Result<(), NetworkError>> + Send>>;

/// A network with a hook.
pub(crate) struct Hooked<H> {
    network: Arc<dyn Network>,
    hook: H,
}

impl<H: Fn(Asked) -> Hook + Send + Sync + 'static> Hooked<H> {
    pub(crate) fn network(network: &Arc<dyn Network>, hook: H) -> Arc<dyn Network> {
        Arc::new(Self {
            network: Arc::clone(network),
            hook,
        })
    }
}

#[async_trait]
impl<H: Fn(Asked) -> Hook + Send + Sync + 'static> Network for Hooked<H> {
    async fn get_vpc(&self, id: VpcId, project: &ProjectId) -> Result<Option<Seen<VpcView>>, NetworkError> {
        let answer = self.network.get_vpc(id, project).await;
        (self.hook)(Asked::Vpc).await?;
        answer
    }

    async fn get_subnet(
        &self,
        id: SubnetId,
        project: &ProjectId,
    ) -> Result<Option<Seen<SubnetView>>, NetworkError> {
        let answer = self.network.get_subnet(id, project).await;
        (self.hook)(Asked::Subnet).await?;
        answer
    }

    async fn get_port(
        &self,
        id: PortId,
        project: &ProjectId,
    ) -> Result<Option<Seen<PortView>>, NetworkError> {
        let answer = self.network.get_port(id, project).await;
        (self.hook)(Asked::Port).await?;
        answer
    }

    async fn get_load_balancer(
        &self,
        id: LoadBalancerId,
        project: &ProjectId,
    ) -> Result<Option<Seen<PortView>>, NetworkError> {
        let answer = self.network.get_load_balancer(id, project).await;
        (self.hook)(Asked::Port).await?;
        answer
    }

    async fn has_route_table(&self, id: RouteTableId, project: &ProjectId) -> Result<bool, NetworkError> {
        let answer = self.network.has_route_table(id, project).await;
        (self.hook)(Asked::RouteTable).await?;
        answer
    }

    async fn route(
        &self,
        endpoint: EndpointId,
        vpc: VpcId,
        tables: &[RouteTableId],
        prefixes: &[Ipv4Net],
    ) -> Result<(), NetworkError> {
        let answer = self.network.route(endpoint, vpc, tables, prefixes).await;
        (self.hook)(Asked::Route).await?;
        answer
    }

    async fn reserve(
        &self,
        endpoint: EndpointId,
        project: &ProjectId,
        subnet: SubnetId,
        wanted: Option<Ipv4Addr>,
    ) -> Result<Reservation, NetworkError> {
        (self.hook)(Asked::BeforeReserve).await?;
        let answer = self.network.reserve(endpoint, project, subnet, wanted).await;
        (self.hook)(Asked::Reserve).await?;
        answer
    }

    async fn release(&self, endpoint: EndpointId) -> Result<(), NetworkError> {
        let answer = self.network.release(endpoint).await;
        (self.hook)(Asked::Release).await?;
        answer
    }

    async fn list_reserved(&self) -> Result<Vec<Reservation>, NetworkError> {
        self.network.list_reserved().await
    }
}
