//! Subnets of VPC v1, which are Neutron's networks; and Neutron's subnets, which are the addresses of one.

use adit_model::{
    endpoint::EndpointStatus,
    id::{EndpointId, NeutronSubnetId, ProjectId, SubnetId, VpcId},
    network::{OWNER_ENDPOINT, OWNER_ROUTER, Port, Subnet, SubnetRange},
};
use adit_store::{Key, State, Stored, Txn, keys::encode};
use std::net::Ipv4Addr;

use super::{Clash, Failure, Kind, compare_guard, own_subnet};
use crate::cloud::Cloud;

/// What a new Neutron network is to be.
#[derive(Clone, Debug)]
pub struct NetworkCreate {
    /// Its name.
    pub name: String,
    /// Free text.
    pub description: String,
}

/// What a new subnet of VPC v1 is to be.
#[derive(Clone, Debug)]
pub struct SubnetCreate {
    /// Its id.
    pub id: SubnetId,
    /// Its name.
    pub name: String,
    /// Free text.
    pub description: String,
    /// The VPC that it is joined to.
    pub vpc: VpcId,
    /// Its addresses.
    pub range: SubnetRange,
}

/// What of a subnet is to change.
#[derive(Clone, Debug, Default)]
pub struct SubnetUpdate {
    /// The name.
    pub name: Option<String>,
    /// Free text.
    pub description: Option<String>,
    /// The Neutron subnet's name.
    pub range_name: Option<String>,
    /// Whether DHCP is asked for.
    pub dhcp: Option<bool>,
    /// Name servers.
    pub dns: Option<Vec<String>>,
    /// The router's address; only while no router has it.
    pub gateway: Option<Ipv4Addr>,
}

impl Cloud {
    pub(crate) async fn network_create(
        &self,
        project: &ProjectId,
        wanted: NetworkCreate,
    ) -> Result<Subnet, Failure> {
        self.decide(|_| {
            let created = self.created();
            let NetworkCreate { name, description } = wanted.clone();
            let subnet = Subnet {
                id: SubnetId::random(),
                project: project.clone(),
                name,
                description,
                vpc: None,
                range: None,
                created,
                updated_at: created.at,
            };
            Ok((Txn::new().put(Key::Subnet(subnet.id), encode(&subnet)), subnet))
        })
        .await
    }

    /// The transaction that makes a subnet inside a VPC, with the VPC's router in it.
    pub(crate) fn plan_subnet(
        &self,
        state: &State,
        project: &ProjectId,
        wanted: SubnetCreate,
    ) -> Result<(Txn, Subnet), Failure> {
        let created = self.created();
        let SubnetCreate {
            id,
            name,
            description,
            vpc,
            range,
        } = wanted;
        let subnet = Subnet {
            id,
            project: project.clone(),
            name,
            description,
            vpc: None,
            range: Some(range),
            created,
            updated_at: created.at,
        };
        let txn = Txn::new().absent(Key::Subnet(id));
        let (txn, joined, _) = self.plan_join(state, project, txn, subnet, vpc)?;
        Ok((txn, joined))
    }

    pub(crate) async fn subnet_create(
        &self,
        project: &ProjectId,
        wanted: SubnetCreate,
    ) -> Result<Subnet, Failure> {
        self.decide(|state| self.plan_subnet(state, project, wanted.clone()))
            .await
    }

    /// Gives a Neutron network its addresses.
    pub(crate) async fn range_create(
        &self,
        project: &ProjectId,
        network: SubnetId,
        range: SubnetRange,
    ) -> Result<Subnet, Failure> {
        self.decide(|state| {
            let old = own_subnet(state, project, network)?;
            let mut subnet = (*old.value).clone();
            if let Some(range) = &subnet.range {
                return Err(Failure::Invalid(format!(
                    "network_id: network {network} has subnet {} already, and takes one.",
                    range.id
                )));
            }
            subnet.range = Some(range.clone());
            subnet.updated_at = self.now().at_least(subnet.updated_at);
            let txn = Txn::new()
                .unchanged(Key::Subnet(network), old.revision)
                .put(Key::Subnet(network), encode(&subnet));
            Ok((txn, subnet))
        })
        .await
    }

    pub(crate) async fn subnet_list(&self, project: &ProjectId) -> Result<Vec<Stored<Subnet>>, Failure> {
        self.look(|state| {
            state
                .subnets()
                .filter(|s| s.project == *project)
                .cloned()
                .collect()
        })
        .await
    }

    pub(crate) async fn subnet_show(&self, project: &ProjectId, id: SubnetId) -> Result<Subnet, Failure> {
        let subnet = self.look(|state| own_subnet(state, project, id)).await??;
        Ok((*subnet.value).clone())
    }

    /// The network that a Neutron subnet belongs to.
    pub(crate) async fn range_show(
        &self,
        project: &ProjectId,
        id: NeutronSubnetId,
    ) -> Result<Subnet, Failure> {
        let subnet = self.look(|state| own_range(state, project, id)).await??;
        Ok((*subnet.value).clone())
    }

    pub(crate) async fn subnet_update(
        &self,
        project: &ProjectId,
        id: SubnetId,
        update: SubnetUpdate,
    ) -> Result<Subnet, Failure> {
        self.decide(|state| {
            let old = own_subnet(state, project, id)?;
            let mut subnet = (*old.value).clone();
            let SubnetUpdate {
                name,
                description,
                range_name,
                dhcp,
                dns,
                gateway,
            } = update.clone();
            subnet.name = name.unwrap_or(subnet.name);
            subnet.description = description.unwrap_or(subnet.description);
            if let Some(range) = &mut subnet.range {
                range.name = range_name.unwrap_or_else(|| range.name.clone());
                range.dhcp = dhcp.unwrap_or(range.dhcp);
                range.dns = dns.unwrap_or_else(|| range.dns.clone());
                if let Some(gateway) = gateway.filter(|gateway| *gateway != range.gateway) {
                    check_gateway(range, gateway)?;
                    if subnet.vpc.is_some() {
                        return Err(Failure::clash(
                            Clash::SubnetInUse,
                            format!(
                                "gateway_ip: a router has {} in subnet {}.",
                                range.gateway, range.id
                            ),
                        ));
                    }
                    range.gateway = gateway;
                }
            }
            subnet.updated_at = self.now().at_least(subnet.updated_at);
            let txn = Txn::new()
                .unchanged(Key::Subnet(id), old.revision)
                .put(Key::Subnet(id), encode(&subnet));
            Ok((txn, subnet))
        })
        .await
    }

    /// Deletes a subnet of VPC v1.
    pub(crate) async fn subnet_delete(&self, project: &ProjectId, id: SubnetId) -> Result<(), Failure> {
        self.delete_whole(project, id, Clash::SubnetInUse).await
    }

    /// Deletes a Neutron network with its subnet.
    pub(crate) async fn network_delete(&self, project: &ProjectId, id: SubnetId) -> Result<(), Failure> {
        self.delete_whole(project, id, Clash::NetworkInUse).await
    }

    async fn delete_whole(&self, project: &ProjectId, id: SubnetId, clash: Clash) -> Result<(), Failure> {
        self.release_left_over(id).await?;
        self.decide(|state| {
            let old = own_subnet(state, project, id)?;
            let txn = plan_emptying(state, &old, clash, |_| true)?;
            Ok((txn.delete(Key::Subnet(id)).delete(Key::Subnet(id).guard()), ()))
        })
        .await
    }

    /// Deletes a Neutron subnet: its network stays, without addresses.
    pub(crate) async fn range_delete(&self, project: &ProjectId, id: NeutronSubnetId) -> Result<(), Failure> {
        let network = self.range_show(project, id).await?.id;
        self.release_left_over(network).await?;
        self.decide(|state| {
            let old = own_range(state, project, id)?;
            let txn = plan_emptying(state, &old, Clash::SubnetInUse, |port| port.ip.is_some())?;
            let mut subnet = (*old.value).clone();
            subnet.range = None;
            subnet.vpc = None;
            subnet.updated_at = self.now().at_least(subnet.updated_at);
            Ok((txn.put(Key::Subnet(subnet.id), encode(&subnet)), ()))
        })
        .await
    }

    /// Endpoints that are gone, or on their way, leave their ports to the reconciler; whoever deletes a subnet does not wait
    /// for it. One by one, since there may be more than fit a transaction.
    async fn release_left_over(&self, subnet: SubnetId) -> Result<(), Failure> {
        let left_over: Vec<EndpointId> = self
            .look(|state| {
                let ports = state
                    .ports_of_subnet(subnet)
                    .filter(|port| is_left_over(state, port));
                ports.map(|port| EndpointId(port.id.0)).collect()
            })
            .await?;
        for endpoint in left_over {
            self.release_reservation(endpoint).await?;
        }
        Ok(())
    }
}

/// The Neutron network of a subnet of the project.
pub(super) fn own_range(
    state: &State,
    project: &ProjectId,
    id: NeutronSubnetId,
) -> Result<Stored<Subnet>, Failure> {
    let found = state
        .neutron_subnet(id)
        .filter(|subnet| subnet.project == *project);
    found.cloned().ok_or_else(|| Failure::not_found(Kind::Range, id))
}

/// Whether a port held the address of an endpoint that is gone or on its way.
pub(super) fn is_left_over(state: &State, port: &Port) -> bool {
    port.device_owner == OWNER_ENDPOINT
        && state
            .endpoint(&EndpointId(port.id.0))
            .is_none_or(|e| e.status() == EndpointStatus::Deleting)
}

/// An endpoint that lives in a subnet, or will.
pub(super) fn live_endpoint(state: &State, subnet: SubnetId) -> Option<EndpointId> {
    let mut endpoints = state.endpoints_of_subnet(subnet);
    endpoints
        .find(|e| e.status() != EndpointStatus::Deleting)
        .map(|e| e.id)
}

/// Refuses if anybody is in the subnet, else begins the transaction that deletes it or its addresses: the router's
/// interface and what endpoints left behind go, and nobody may come while it is decided.
fn plan_emptying(
    state: &State,
    subnet: &Stored<Subnet>,
    clash: Clash,
    counts: impl Fn(&Port) -> bool,
) -> Result<Txn, Failure> {
    let id = subnet.id;
    if let Some(endpoint) = live_endpoint(state, id) {
        return Err(Failure::clash(
            clash,
            format!("Unable to complete operation on subnet {id}: endpoint {endpoint} lives in it."),
        ));
    }
    let mut txn = Txn::new().unchanged(Key::Subnet(id), subnet.revision);
    txn = compare_guard(txn, Key::Subnet(id), state);
    for port in state.ports_of_subnet(id) {
        if port.device_owner == OWNER_ROUTER || is_left_over(state, port) {
            txn = super::port::plan_removal(state, txn, port);
        } else if counts(port) {
            return Err(Failure::clash(
                clash,
                format!(
                    "Unable to complete operation on subnet {id}: port {} ({:?}) is in it.",
                    port.id, port.device_owner
                ),
            ));
        }
    }
    Ok(txn)
}

/// The longest prefix that a block may have: below it there is no room for a router and a port.
pub(crate) const PREFIX_MAX: u8 = 30;

/// Whether the router can have an address of the block.
pub(crate) fn check_gateway(range: &SubnetRange, gateway: Ipv4Addr) -> Result<(), Failure> {
    if adit_model::network::usable_address(range, gateway) {
        return Ok(());
    }
    Err(Failure::Invalid(format!(
        "gateway_ip: {gateway} is not a usable address of {}.",
        range.cidr
    )))
}
