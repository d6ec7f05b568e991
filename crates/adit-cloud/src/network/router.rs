//! Router interfaces: how a Neutron network joins a VPC and leaves it.

use adit_model::{
    id::{NeutronSubnetId, PortId, ProjectId, SubnetId, VpcId},
    network::{Holder, Mac, OWNER_ROUTER, Port, Subnet, overlaps},
};
use adit_store::{Key, State, Txn, keys::encode};

use super::{
    Clash, Failure, Kind, compare_guard, own_vpc, put_guard,
    subnet::{live_endpoint, own_range},
};
use crate::cloud::Cloud;

/// Which interface of a router is meant.
#[derive(Clone, Copy, Debug)]
pub enum Interface {
    /// The one in this subnet.
    Subnet(NeutronSubnetId),
    /// This port.
    Port(PortId),
}

/// A router's interface, as replies show it.
#[derive(Clone, Debug)]
pub struct RouterInterface {
    /// The router.
    pub router: VpcId,
    /// Its port in the subnet.
    pub port: PortId,
    /// The network.
    pub network: SubnetId,
    /// The subnet.
    pub subnet: NeutronSubnetId,
}

impl Cloud {
    /// Adds to `txn` what joins a subnet with addresses to a VPC: the VPC in its document, and the router's port.
    ///
    /// Joins of one VPC follow one another (each compares and puts its guard), so that no two overlap unseen.
    pub(super) fn plan_join(
        &self,
        state: &State,
        project: &ProjectId,
        txn: Txn,
        mut subnet: Subnet,
        vpc: VpcId,
    ) -> Result<(Txn, Subnet, Port), Failure> {
        let parent = own_vpc(state, project, vpc)?;
        let Some(range) = &subnet.range else {
            return Err(Failure::Invalid(format!("network {} has no subnet.", subnet.id)));
        };
        for other in state.subnets_of_vpc(vpc) {
            if let Some(theirs) = &other.range
                && overlaps(theirs.cidr, range.cidr)
            {
                return Err(Failure::Invalid(format!(
                    "cidr: {} overlaps {} of subnet {} in VPC {vpc}.",
                    range.cidr, theirs.cidr, other.id
                )));
            }
        }
        if let Some(held) = state.address(subnet.id, range.gateway) {
            return Err(Failure::clash(
                Clash::AddressInUse,
                format!(
                    "The gateway {} of subnet {} is held by {:?}.",
                    range.gateway, range.id, held.holder
                ),
            ));
        }
        let created = self.created();
        let id = PortId::random();
        let port = Port {
            id,
            project: project.clone(),
            name: String::new(),
            subnet: subnet.id,
            ip: Some(range.gateway),
            mac: Mac::of_port(id),
            device_id: vpc.to_string(),
            device_owner: OWNER_ROUTER.to_owned(),
            created,
            updated_at: created.at,
        };
        let address = Key::Address(subnet.id, range.gateway);
        subnet.vpc = Some(vpc);
        subnet.updated_at = self.now().at_least(subnet.updated_at);
        let mut txn = txn.unchanged(Key::Vpc(vpc), parent.revision);
        txn = put_guard(compare_guard(txn, Key::Vpc(vpc), state), Key::Vpc(vpc));
        txn = put_guard(txn, Key::Subnet(subnet.id));
        let txn = txn
            .absent(address.clone())
            .put(address, encode(&Holder::Port(id)))
            .put(Key::Port(id), encode(&port))
            .put(Key::Subnet(subnet.id), encode(&subnet));
        Ok((txn, subnet, port))
    }

    pub(crate) async fn router_interface_add(
        &self,
        project: &ProjectId,
        router: VpcId,
        interface: Interface,
    ) -> Result<RouterInterface, Failure> {
        let id = match interface {
            Interface::Subnet(id) => id,
            // The router's address is the gateway, so that its port is made with the interface.
            Interface::Port(port) => {
                return Err(Failure::Invalid(format!(
                    "port_id: port {port} cannot become an interface; name its subnet_id instead."
                )));
            }
        };
        self.decide(|state| {
            own_vpc(state, project, router)?;
            let old = own_range(state, project, id)?;
            if let Some(vpc) = old.vpc {
                let message = format!("subnet_id: subnet {id} is joined to router {vpc} already.");
                return Err(if vpc == router {
                    Failure::Invalid(message)
                } else {
                    Failure::clash(Clash::AddressInUse, message)
                });
            }
            let txn = Txn::new().unchanged(Key::Subnet(old.id), old.revision);
            let (txn, subnet, port) = self.plan_join(state, project, txn, (*old.value).clone(), router)?;
            Ok((
                txn,
                RouterInterface {
                    router,
                    port: port.id,
                    network: subnet.id,
                    subnet: id,
                },
            ))
        })
        .await
    }

    pub(crate) async fn router_interface_remove(
        &self,
        project: &ProjectId,
        router: VpcId,
        interface: Interface,
    ) -> Result<RouterInterface, Failure> {
        self.decide(|state| {
            own_vpc(state, project, router)?;
            let id = match interface {
                Interface::Subnet(id) => id,
                Interface::Port(port) => subnet_of_interface(state, project, port)?,
            };
            let old = own_range(state, project, id)?;
            let port = state
                .ports_of_subnet(old.id)
                .find(|port| port.device_owner == OWNER_ROUTER && old.vpc == Some(router))
                .ok_or_else(|| Failure::not_found(Kind::Range, format!("{id} at router {router}")))?;
            if let Some(endpoint) = live_endpoint(state, old.id) {
                return Err(Failure::clash(
                    Clash::RouterInterfaceInUse,
                    format!("Router interface for subnet {id} on router {router} cannot be deleted: endpoint {endpoint} lives there."),
                ));
            }
            let mut subnet = (*old.value).clone();
            subnet.vpc = None;
            subnet.updated_at = self.now().at_least(subnet.updated_at);
            let txn = Txn::new().unchanged(Key::Subnet(old.id), old.revision);
            let txn = compare_guard(txn, Key::Subnet(old.id), state).put(Key::Subnet(old.id), encode(&subnet));
            let txn = super::port::plan_removal(state, txn, port);
            Ok((txn, RouterInterface { router, port: port.id, network: old.id, subnet: id }))
        })
        .await
    }
}

fn subnet_of_interface(state: &State, project: &ProjectId, port: PortId) -> Result<NeutronSubnetId, Failure> {
    let not_found = || Failure::not_found(Kind::Port, port);
    let found = state
        .port(&port)
        .filter(|p| p.project == *project && p.device_owner == OWNER_ROUTER);
    let subnet = state.subnet(&found.ok_or_else(not_found)?.subnet);
    subnet
        .and_then(|s| s.range.as_ref())
        .map(|range| range.id)
        .ok_or_else(not_found)
}
