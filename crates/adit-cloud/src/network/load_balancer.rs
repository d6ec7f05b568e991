//! Load balancers: a name for a port that holds a private address. They balance nothing.

use adit_model::{
    id::{LoadBalancerId, NeutronSubnetId, PortId, ProjectId, VpcId},
    network::{LoadBalancer, OWNER_LOAD_BALANCER, Port, Subnet},
};
use adit_store::{Key, State, Stored, Txn, keys::encode};
use std::{net::Ipv4Addr, sync::Arc};

use super::{
    Failure, Kind,
    port::{PortCreate, plan_removal},
    subnet::own_range,
};
use crate::cloud::Cloud;

/// What a new load balancer is to be.
#[derive(Clone, Debug)]
pub struct LoadBalancerCreate {
    /// Its name.
    pub name: String,
    /// Free text.
    pub description: String,
    /// The subnet that its address is from.
    pub subnet: NeutronSubnetId,
    /// The wanted address.
    pub ip: Option<Ipv4Addr>,
    /// The VPC that the subnet must be in, where the caller named one.
    pub vpc: Option<VpcId>,
    /// Whether it is made through ELB v3.
    pub v3: bool,
    /// The availability zones that are asked for.
    pub zones: Vec<String>,
}

/// A load balancer with its port and subnet.
#[derive(Clone, Debug)]
pub struct LoadBalancerSeen {
    /// The load balancer.
    pub balancer: Arc<LoadBalancer>,
    /// The port that holds its address.
    pub port: Option<Arc<Port>>,
    /// The subnet that the address is from.
    pub subnet: Option<Arc<Subnet>>,
}

impl LoadBalancerSeen {
    fn of(state: &State, balancer: &Stored<LoadBalancer>) -> Self {
        let port = state.port(&balancer.port).map(|port| Arc::clone(&port.value));
        let subnet = port.as_ref().and_then(|port| state.subnet(&port.subnet));
        Self {
            balancer: Arc::clone(&balancer.value),
            subnet: subnet.map(|subnet| Arc::clone(&subnet.value)),
            port,
        }
    }
}

impl Cloud {
    pub(crate) async fn load_balancer_create(
        &self,
        project: &ProjectId,
        wanted: LoadBalancerCreate,
    ) -> Result<LoadBalancerSeen, Failure> {
        let decided = self.decide(|state| {
            let LoadBalancerCreate {
                name,
                description,
                subnet: range,
                ip,
                vpc,
                v3,
                zones,
            } = wanted.clone();
            let subnet = own_range(state, project, range)?;
            if let Some(vpc) = vpc.filter(|vpc| subnet.vpc != Some(*vpc)) {
                return Err(Failure::Invalid(format!(
                    "vpc_id: subnet {range} is not in VPC {vpc}."
                )));
            }
            let id = LoadBalancerId::random();
            let wanted = PortCreate {
                id: PortId::random(),
                name: format!("loadbalancer-{id}"),
                subnet: subnet.id,
                range: Some(range),
                ip,
                mac: None,
                device_id: id.to_string(),
                device_owner: OWNER_LOAD_BALANCER.to_owned(),
            };
            let (txn, port, held) = self.plan_port(state, project, wanted)?;
            let balancer = LoadBalancer {
                id,
                project: project.clone(),
                name,
                description,
                port: port.id,
                v3,
                zones,
                created: port.created,
                updated_at: port.updated_at,
            };
            let txn = txn.put(Key::LoadBalancer(id), encode(&balancer));
            let seen = LoadBalancerSeen {
                balancer: Arc::new(balancer),
                port: Some(Arc::new(port)),
                subnet: Some(subnet.value),
            };
            Ok((txn, (seen, held)))
        });
        decided.await.map(|(seen, _held)| seen)
    }

    pub(crate) async fn load_balancer_list(
        &self,
        project: &ProjectId,
    ) -> Result<Vec<LoadBalancerSeen>, Failure> {
        self.look(|state| {
            let own = state
                .load_balancers()
                .filter(|balancer| balancer.project == *project);
            own.map(|balancer| LoadBalancerSeen::of(state, balancer))
                .collect()
        })
        .await
    }

    pub(crate) async fn load_balancer_show(
        &self,
        project: &ProjectId,
        id: LoadBalancerId,
    ) -> Result<LoadBalancerSeen, Failure> {
        self.look(|state| own_balancer(state, project, id).map(|found| LoadBalancerSeen::of(state, &found)))
            .await?
    }

    pub(crate) async fn load_balancer_update(
        &self,
        project: &ProjectId,
        id: LoadBalancerId,
        name: Option<String>,
        description: Option<String>,
    ) -> Result<LoadBalancerSeen, Failure> {
        self.decide(|state| {
            let old = own_balancer(state, project, id)?;
            let mut balancer = (*old.value).clone();
            balancer.name = name.clone().unwrap_or(balancer.name);
            balancer.description = description.clone().unwrap_or(balancer.description);
            balancer.updated_at = self.now().at_least(balancer.updated_at);
            let key = Key::LoadBalancer(id);
            let txn = Txn::new()
                .unchanged(key.clone(), old.revision)
                .put(key, encode(&balancer));
            let seen = LoadBalancerSeen {
                balancer: Arc::new(balancer),
                ..LoadBalancerSeen::of(state, &old)
            };
            Ok((txn, seen))
        })
        .await
    }

    /// Deletes a load balancer with its port: the address is free when this returns.
    pub(crate) async fn load_balancer_delete(
        &self,
        project: &ProjectId,
        id: LoadBalancerId,
    ) -> Result<(), Failure> {
        self.decide(|state| {
            let balancer = own_balancer(state, project, id)?;
            let key = Key::LoadBalancer(id);
            let mut txn = Txn::new().unchanged(key.clone(), balancer.revision).delete(key);
            if let Some(port) = state.port(&balancer.port) {
                txn = plan_removal(state, txn, port);
            }
            Ok((txn, ()))
        })
        .await
    }
}

fn own_balancer(
    state: &State,
    project: &ProjectId,
    id: LoadBalancerId,
) -> Result<Stored<LoadBalancer>, Failure> {
    let found = state
        .load_balancer(&id)
        .filter(|balancer| balancer.project == *project);
    found
        .cloned()
        .ok_or_else(|| Failure::not_found(Kind::LoadBalancer, id))
}
