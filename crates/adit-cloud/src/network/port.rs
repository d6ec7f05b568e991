//! Ports: one address and one hardware address in a subnet.

use std::net::Ipv4Addr;

use adit_model::{
    id::{NeutronSubnetId, PortId, ProjectId, SubnetId},
    network::{
        Holder, Mac, OWNER_ENDPOINT, OWNER_LOAD_BALANCER, OWNER_ROUTER, Port, Subnet, SubnetRange,
        pick_address, usable_address,
    },
};
use adit_store::{Key, State, Stored, Txn, keys::encode};

use super::{Clash, Failure, Kind, in_flight::Held, own_subnet, put_guard, subnet::is_left_over};
use crate::cloud::Cloud;

/// What a new port is to be.
#[derive(Clone, Debug)]
pub struct PortCreate {
    /// Its id.
    pub id: PortId,
    /// Its name.
    pub name: String,
    /// The subnet (Neutron network) that it is on.
    pub subnet: SubnetId,
    /// The Neutron subnet that it must be in, where the caller named one.
    pub range: Option<NeutronSubnetId>,
    /// The wanted address; any free one where none is named.
    pub ip: Option<Ipv4Addr>,
    /// The wanted hardware address.
    pub mac: Option<Mac>,
    /// What it belongs to.
    pub device_id: String,
    /// The kind of what it belongs to.
    pub device_owner: String,
}

/// What of a port is to change.
#[derive(Clone, Debug, Default)]
pub struct PortUpdate {
    /// Its name.
    pub name: Option<String>,
    /// What it belongs to.
    pub device_id: Option<String>,
    /// The kind of what it belongs to.
    pub device_owner: Option<String>,
}

/// A picked address, skipped by others until this is dropped.
pub(super) type Picked = Held<(SubnetId, Ipv4Addr)>;

impl Cloud {
    /// The transaction that makes a port, and the port. The picked address is held until the third is dropped.
    pub(crate) fn plan_port(
        &self,
        state: &State,
        project: &ProjectId,
        wanted: PortCreate,
    ) -> Result<(Txn, Port, Option<Picked>), Failure> {
        let subnet = own_subnet(state, project, wanted.subnet)?;
        if let Some(range) = wanted.range
            && subnet.range.as_ref().is_none_or(|r| r.id != range)
        {
            return Err(Failure::Invalid(format!(
                "fixed_ips.subnet_id: subnet {range} is not in network {}.",
                subnet.id
            )));
        }
        let (ip, held) = self.choose_address(state, &subnet, wanted.ip)?;
        let created = self.created();
        let port = Port {
            id: wanted.id,
            project: project.clone(),
            name: wanted.name,
            subnet: subnet.id,
            ip,
            mac: wanted.mac.unwrap_or_else(|| Mac::of_port(wanted.id)),
            device_id: wanted.device_id,
            device_owner: wanted.device_owner,
            created,
            updated_at: created.at,
        };
        let mut txn = Txn::new()
            .unchanged(Key::Subnet(subnet.id), subnet.revision)
            .absent(Key::Port(port.id))
            .put(Key::Port(port.id), encode(&port));
        txn = put_guard(txn, Key::Subnet(subnet.id));
        if let Some(ip) = ip {
            let address = Key::Address(subnet.id, ip);
            txn = txn
                .absent(address.clone())
                .put(address, encode(&Holder::Port(port.id)));
        }
        Ok((txn, port, held))
    }

    fn choose_address(
        &self,
        state: &State,
        subnet: &Subnet,
        wanted: Option<Ipv4Addr>,
    ) -> Result<(Option<Ipv4Addr>, Option<Picked>), Failure> {
        match (&subnet.range, wanted) {
            (None, None) => Ok((None, None)),
            (None, Some(ip)) => Err(Failure::BadAddress {
                ip,
                subnet: subnet.id,
            }),
            (Some(range), Some(ip)) if !usable_address(range, ip) => Err(Failure::BadAddress {
                ip,
                subnet: subnet.id,
            }),
            (Some(_), Some(ip)) => match state.address(subnet.id, ip) {
                None => Ok((Some(ip), None)),
                Some(held) => Err(Failure::clash(
                    Clash::AddressInUse,
                    format!("{ip} of subnet {} is held by {:?}.", subnet.id, held.holder),
                )),
            },
            (Some(range), None) => {
                let (ip, held) = self.pick_free(state, subnet.id, range)?;
                Ok((Some(ip), held))
            }
        }
    }

    /// A free address of a subnet. Those that others are about to take are left alone while there is another; when there is
    /// none, the transaction's compare decides who gets the last one, since the other may yet fail.
    pub(super) fn pick_free(
        &self,
        state: &State,
        subnet: SubnetId,
        range: &SubnetRange,
    ) -> Result<(Ipv4Addr, Option<Picked>), Failure> {
        let taken = |ip| state.address(subnet, ip).is_some();
        let held = self.addresses.pick(|others| {
            pick_address(range, |ip| taken(ip) || others.contains(&(subnet, ip))).map(|ip| (subnet, ip))
        });
        if let Some(held) = held {
            return Ok((held.key().1, Some(held)));
        }
        pick_address(range, taken).map(|ip| (ip, None)).ok_or_else(|| {
            Failure::clash(
                Clash::NoAddressLeft,
                format!("No address of subnet {subnet} ({}) is free.", range.cidr),
            )
        })
    }

    pub(crate) async fn port_create(
        &self,
        project: &ProjectId,
        wanted: PortCreate,
    ) -> Result<(Port, Option<NeutronSubnetId>), Failure> {
        let decided = self.decide(|state| {
            check_free_owner(&wanted.device_owner)?;
            let (txn, port, held) = self.plan_port(state, project, wanted.clone())?;
            let range = range_id(state, &port);
            Ok((txn, (port, range, held)))
        });
        let (port, range, _held) = decided.await?;
        Ok((port, range))
    }

    /// The project's ports, each with the Neutron subnet that its address is from.
    pub(crate) async fn port_list(
        &self,
        project: &ProjectId,
    ) -> Result<Vec<(Stored<Port>, Option<NeutronSubnetId>)>, Failure> {
        self.look(|state| {
            let own = state.ports().filter(|port| port.project == *project);
            own.map(|port| (port.clone(), range_id(state, port))).collect()
        })
        .await
    }

    pub(crate) async fn port_show(
        &self,
        project: &ProjectId,
        id: PortId,
    ) -> Result<(Port, Option<NeutronSubnetId>), Failure> {
        self.look(|state| {
            let port = own_port(state, project, id)?;
            Ok(((*port.value).clone(), range_id(state, &port)))
        })
        .await?
    }

    pub(crate) async fn port_update(
        &self,
        project: &ProjectId,
        id: PortId,
        update: PortUpdate,
    ) -> Result<(Port, Option<NeutronSubnetId>), Failure> {
        self.decide(|state| {
            let old = own_port(state, project, id)?;
            let mut port = (*old.value).clone();
            let PortUpdate {
                name,
                device_id,
                device_owner,
            } = update.clone();
            if device_id.is_some() || device_owner.is_some() {
                check_free_owner(&port.device_owner)?;
            }
            port.name = name.unwrap_or(port.name);
            port.device_id = device_id.unwrap_or(port.device_id);
            port.device_owner = device_owner.unwrap_or(port.device_owner);
            check_free_owner_kept(&old.device_owner, &port.device_owner)?;
            port.updated_at = self.now().at_least(port.updated_at);
            let range = range_id(state, &port);
            let txn = Txn::new()
                .unchanged(Key::Port(id), old.revision)
                .put(Key::Port(id), encode(&port));
            Ok((txn, (port, range)))
        })
        .await
    }

    pub(crate) async fn port_delete(&self, project: &ProjectId, id: PortId) -> Result<(), Failure> {
        self.decide(|state| {
            let port = own_port(state, project, id)?;
            let owner = port.device_owner.as_str();
            let balanced = || state.load_balancers().any(|balancer| balancer.port == id);
            let kept = match owner {
                OWNER_ROUTER => true,
                OWNER_ENDPOINT => !is_left_over(state, &port),
                OWNER_LOAD_BALANCER => balanced(),
                _ => false,
            };
            if kept {
                return Err(Failure::clash(
                    Clash::PortInUse,
                    format!(
                        "Port {id} cannot be deleted: it belongs to {owner} {}; delete that.",
                        port.device_id
                    ),
                ));
            }
            Ok((plan_removal(state, Txn::new(), &port), ()))
        })
        .await
    }
}

fn own_port(state: &State, project: &ProjectId, id: PortId) -> Result<Stored<Port>, Failure> {
    let found = state.port(&id).filter(|port| port.project == *project);
    found.cloned().ok_or_else(|| Failure::not_found(Kind::Port, id))
}

/// The Neutron subnet that a port's address is from.
pub(super) fn range_id(state: &State, port: &Port) -> Option<NeutronSubnetId> {
    port.ip?;
    state.subnet(&port.subnet)?.range.as_ref().map(|range| range.id)
}

/// Adds to `txn` what removes a port and frees its address at once.
pub(super) fn plan_removal(state: &State, txn: Txn, port: &Stored<Port>) -> Txn {
    let mut txn = txn
        .unchanged(Key::Port(port.id), port.revision)
        .delete(Key::Port(port.id));
    let Some(ip) = port.ip else { return txn };
    let own = [
        Holder::Port(port.id),
        Holder::Endpoint(adit_model::id::EndpointId(port.id.0)),
    ];
    // An endpoint's address is free as soon as its deletion is answered, and may be somebody else's by now.
    if let Some(held) = state
        .address(port.subnet, ip)
        .filter(|held| own.contains(&held.holder))
    {
        let address = Key::Address(port.subnet, ip);
        txn = txn.unchanged(address.clone(), held.revision).delete(address);
    }
    txn
}

/// Kinds of ports that only the service itself makes.
fn is_reserved_owner(owner: &str) -> bool {
    [OWNER_ROUTER, OWNER_ENDPOINT, OWNER_LOAD_BALANCER].contains(&owner)
}

fn check_free_owner(owner: &str) -> Result<(), Failure> {
    if is_reserved_owner(owner) {
        return Err(Failure::Invalid(format!(
            "device_owner: only the service itself makes ports of {owner:?}."
        )));
    }
    Ok(())
}

fn check_free_owner_kept(old: &str, new: &str) -> Result<(), Failure> {
    if old == new { Ok(()) } else { check_free_owner(new) }
}
