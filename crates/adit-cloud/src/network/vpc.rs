//! VPCs, which are Neutron's routers.

use adit_model::{
    id::{ProjectId, RouteTableId, Vni, VpcId},
    network::{RouteTable, Vpc},
};
use adit_store::{Key, State, Stored, Txn, keys::encode};
use ipnet::Ipv4Net;

use super::{Clash, Failure, compare_guard, own_vpc, route_table::check_unbound};
use crate::cloud::Cloud;

/// Draws of a network's number before we say that we are busy: with half of the 16 million taken, all miss once in 2^32.
const VNI_PICKS_MAX: usize = 32;

/// What a new VPC is to be.
#[derive(Clone, Debug)]
pub struct VpcCreate {
    /// Its id.
    pub id: VpcId,
    /// Its name.
    pub name: String,
    /// Free text.
    pub description: String,
    /// Its block; a router that is made through Neutron has none.
    pub cidr: Option<Ipv4Net>,
}

/// What of a VPC is to change.
#[derive(Clone, Debug, Default)]
pub struct VpcUpdate {
    /// Its name.
    pub name: Option<String>,
    /// Free text.
    pub description: Option<String>,
    /// Its block.
    pub cidr: Option<Ipv4Net>,
}

impl Cloud {
    /// The transaction that makes a VPC with its default route table.
    pub(crate) fn plan_vpc(
        &self,
        state: &State,
        project: &ProjectId,
        wanted: VpcCreate,
    ) -> Result<(Txn, Vpc), Failure> {
        let created = self.created();
        let vni = pick_vni(state)?;
        let VpcCreate {
            id,
            name,
            description,
            cidr,
        } = wanted;
        let vpc = Vpc {
            id,
            project: project.clone(),
            name,
            description,
            cidr,
            vni,
            created,
            updated_at: created.at,
        };
        let table = RouteTable {
            id: RouteTableId::random(),
            project: project.clone(),
            vpc: id,
            name: format!("rtb-{}", vpc.name),
            description: String::new(),
            default: true,
            routes: Vec::new(),
            created,
            updated_at: created.at,
        };
        let txn = Txn::new()
            .absent(Key::Vpc(id))
            .put(Key::Vpc(id), encode(&vpc))
            .absent(vni_key(vni))
            .put(vni_key(vni), encode(&id))
            .put(Key::RouteTable(table.id), encode(&table));
        Ok((txn, vpc))
    }

    pub(crate) async fn vpc_create(&self, project: &ProjectId, wanted: VpcCreate) -> Result<Vpc, Failure> {
        self.decide(|state| self.plan_vpc(state, project, wanted.clone()))
            .await
    }

    pub(crate) async fn vpc_list(&self, project: &ProjectId) -> Result<Vec<Stored<Vpc>>, Failure> {
        self.look(|state| {
            state
                .vpcs()
                .filter(|vpc| vpc.project == *project)
                .cloned()
                .collect()
        })
        .await
    }

    pub(crate) async fn vpc_show(&self, project: &ProjectId, id: VpcId) -> Result<Vpc, Failure> {
        let vpc = self.look(|state| own_vpc(state, project, id)).await??;
        Ok((*vpc.value).clone())
    }

    pub(crate) async fn vpc_update(
        &self,
        project: &ProjectId,
        id: VpcId,
        update: VpcUpdate,
    ) -> Result<Vpc, Failure> {
        self.decide(|state| {
            let old = own_vpc(state, project, id)?;
            let mut vpc = (*old.value).clone();
            let VpcUpdate {
                name,
                description,
                cidr,
            } = update.clone();
            vpc.name = name.unwrap_or(vpc.name);
            vpc.description = description.unwrap_or(vpc.description);
            let mut txn = Txn::new().unchanged(Key::Vpc(id), old.revision);
            if let Some(cidr) = cidr {
                check_subnets_fit(state, id, cidr)?;
                txn = compare_guard(txn, Key::Vpc(id), state);
                vpc.cidr = Some(cidr);
            }
            vpc.updated_at = self.now().at_least(vpc.updated_at);
            Ok((txn.put(Key::Vpc(id), encode(&vpc)), vpc))
        })
        .await
    }

    /// Deletes a VPC with its route tables.
    pub(crate) async fn vpc_delete(&self, project: &ProjectId, id: VpcId) -> Result<(), Failure> {
        self.decide(|state| {
            let old = own_vpc(state, project, id)?;
            if let Some(subnet) = state.subnets_of_vpc(id).next() {
                return Err(Failure::clash(
                    Clash::VpcInUse,
                    format!("VPC {id} is in use: subnet {} is joined to it.", subnet.id),
                ));
            }
            let mut txn = Txn::new()
                .unchanged(Key::Vpc(id), old.revision)
                .delete(Key::Vpc(id))
                .delete(vni_key(old.vni));
            txn = compare_guard(txn, Key::Vpc(id), state).delete(Key::Vpc(id).guard());
            for table in state.route_tables_of_vpc(id) {
                check_unbound(state, table.id, Clash::VpcInUse)?;
                txn = txn.delete(Key::RouteTable(table.id));
            }
            Ok((txn, ()))
        })
        .await
    }
}

/// Who has the number of a virtual network: what must be unique is a key.
fn vni_key(vni: Vni) -> String {
    format!("vni/{vni}")
}

/// A number that no VPC has, at random, so that one that was freed does not soon mean another network.
fn pick_vni(state: &State) -> Result<Vni, Failure> {
    (0..VNI_PICKS_MAX)
        .map(|_| Vni::from_random(rand::random()))
        .find(|vni| state.other(&vni_key(*vni)).is_none())
        .ok_or(Failure::Busy(VNI_PICKS_MAX))
}

fn check_subnets_fit(state: &State, id: VpcId, cidr: Ipv4Net) -> Result<(), Failure> {
    let outside = state.subnets_of_vpc(id).find_map(|subnet| {
        let block = subnet.range.as_ref()?.cidr;
        (!cidr.contains(&block)).then_some((subnet.id, block))
    });
    match outside {
        Some((subnet, block)) => Err(Failure::Invalid(format!(
            "cidr: {cidr} does not contain {block} of subnet {subnet}."
        ))),
        None => Ok(()),
    }
}
