//! What the control plane asks of the network: look-ups that it may decide on, routes to endpoints, and addresses kept for
//! them.
//!
//! A reservation is a port whose id is the endpoint's, made in one transaction with its address key. An address that the
//! endpoint's request claimed already (`Holder::Endpoint`) is kept as it is. The control plane frees the address key itself
//! when it answers the DELETE; `Cloud::release_reservation` takes what is left.

use std::net::Ipv4Addr;

use adit_model::{
    error_chain,
    id::{EndpointId, LoadBalancerId, PortId, ProjectId, RouteTableId, SubnetId, VpcId},
    network::{
        Holder, Mac, OWNER_ENDPOINT, Port, PortView, RouteTableView, Subnet, SubnetView, VpcView,
        usable_address,
    },
};
use adit_server::{Fence, Network, NetworkError, Reservation, Seen};
use adit_store::{Key, State, Stored, Txn, keys::encode};
use async_trait::async_trait;
use ipnet::Ipv4Net;

use super::{
    Clash, Failure, Kind, own_subnet, own_vpc,
    port::{Picked, plan_removal},
    put_guard,
    route_table::{ROUTES_MAX, own_table},
};
use crate::cloud::Cloud;

/// The largest packet that a subnet carries, in bytes: what a veth has by default.
const MTU_BYTES: u16 = 1500;

#[async_trait]
impl Network for Cloud {
    async fn get_vpc(&self, id: VpcId, project: &ProjectId) -> Result<Option<Seen<VpcView>>, NetworkError> {
        let state = self.cache.read();
        let Ok(vpc) = own_vpc(&state, project, id) else {
            return Ok(None);
        };
        let mut fences = vec![fence(Key::Vpc(id), &vpc)];
        let mut route_tables = Vec::new();
        for table in state.route_tables_of_vpc(id) {
            fences.push(fence(Key::RouteTable(table.id), table));
            route_tables.push(RouteTableView {
                id: table.id,
                default: table.default,
                routes: table.routes.clone(),
                routes_max: ROUTES_MAX,
            });
        }
        let view = VpcView {
            id,
            cidrs: vpc.cidr.into_iter().collect(),
            route_tables,
            vni: Some(vpc.vni),
        };
        Ok(Some(Seen { view, fences }))
    }

    async fn get_subnet(
        &self,
        id: SubnetId,
        project: &ProjectId,
    ) -> Result<Option<Seen<SubnetView>>, NetworkError> {
        let state = self.cache.read();
        let Ok(subnet) = own_subnet(&state, project, id) else {
            return Ok(None);
        };
        let view = SubnetView {
            id,
            vpc: subnet.vpc,
            range: subnet.range.clone(),
        };
        Ok(Some(Seen {
            view,
            fences: vec![fence(Key::Subnet(id), &subnet)],
        }))
    }

    async fn get_port(
        &self,
        id: PortId,
        project: &ProjectId,
    ) -> Result<Option<Seen<PortView>>, NetworkError> {
        let state = self.cache.read();
        let Some(port) = state.port(&id).filter(|port| port.project == *project) else {
            return Ok(None);
        };
        let mut fences = vec![fence(Key::Port(id), port)];
        let subnet = state.subnet(&port.subnet);
        fences.extend(subnet.map(|subnet| fence(Key::Subnet(subnet.id), subnet)));
        let vpc = subnet.and_then(|subnet| subnet.vpc);
        Ok(Some(Seen {
            view: PortView {
                id,
                vpc,
                ip: port.ip,
                kind: port.kind(),
            },
            fences,
        }))
    }

    async fn get_load_balancer(
        &self,
        id: LoadBalancerId,
        project: &ProjectId,
    ) -> Result<Option<Seen<PortView>>, NetworkError> {
        let found = {
            let state = self.cache.read();
            let balancer = state.load_balancer(&id).filter(|b| b.project == *project);
            balancer.map(|b| (b.port, fence(Key::LoadBalancer(id), b)))
        };
        let Some((port, itself)) = found else {
            return Ok(None);
        };
        let port = self.get_port(port, project).await?;
        Ok(port.map(|mut seen| {
            seen.fences.push(itself);
            seen
        }))
    }

    async fn has_route_table(&self, id: RouteTableId, project: &ProjectId) -> Result<bool, NetworkError> {
        Ok(own_table(&self.cache.read(), project, id).is_ok())
    }

    async fn route(
        &self,
        endpoint: EndpointId,
        vpc: VpcId,
        tables: &[RouteTableId],
        prefixes: &[Ipv4Net],
    ) -> Result<(), NetworkError> {
        self.route_endpoint(endpoint, vpc, tables, prefixes).await
    }

    async fn reserve(
        &self,
        endpoint: EndpointId,
        project: &ProjectId,
        subnet: SubnetId,
        wanted: Option<Ipv4Addr>,
    ) -> Result<Reservation, NetworkError> {
        let decided = self.decide(|state| self.plan_reservation(state, endpoint, project, subnet, wanted));
        match decided.await {
            Ok((reservation, _held)) => Ok(reservation),
            Err(failure) => Err(as_network_error(failure, subnet, wanted)),
        }
    }

    async fn release(&self, endpoint: EndpointId) -> Result<(), NetworkError> {
        self.release_reservation(endpoint).await.map_err(unavailable)
    }

    async fn list_reserved(&self) -> Result<Vec<Reservation>, NetworkError> {
        self.look(|state| state.ports().filter_map(|port| reservation(port)).collect())
            .await
            .map_err(unavailable)
    }
}

impl Cloud {
    fn plan_reservation(
        &self,
        state: &State,
        endpoint: EndpointId,
        project: &ProjectId,
        subnet: SubnetId,
        wanted: Option<Ipv4Addr>,
    ) -> Result<(Txn, (Reservation, Option<Picked>)), Failure> {
        let id = PortId(endpoint.0);
        if let Some(known) = state.port(&id).and_then(|port| reservation(port)) {
            return Ok((Txn::new(), (known, None)));
        }
        // What is kept for an endpoint that is gone, or on its way, keeps its address from others for a while.
        let stands = state.endpoint(&endpoint).filter(|e| e.is_live());
        let stands = stands.ok_or_else(|| Failure::not_found(Kind::Port, endpoint))?;
        let parent = own_subnet(state, project, subnet)?;
        let (ip, held) = self.choose_for_endpoint(state, &parent, endpoint, wanted)?;
        let created = self.created();
        let port = Port {
            id,
            project: project.clone(),
            name: String::new(),
            subnet,
            ip: Some(ip),
            mac: Mac::of_port(id),
            device_id: endpoint.to_string(),
            device_owner: OWNER_ENDPOINT.to_owned(),
            created,
            updated_at: created.at,
        };
        let txn = Txn::new()
            .unchanged(Key::Endpoint(endpoint), stands.revision)
            .unchanged(Key::Subnet(subnet), parent.revision)
            .absent(Key::Port(id))
            .put(Key::Port(id), encode(&port));
        let txn = put_guard(txn, Key::Subnet(subnet));
        let address = Key::Address(subnet, ip);
        let txn = match state.address(subnet, ip) {
            Some(claimed) => txn.unchanged(address, claimed.revision),
            None => txn
                .absent(address.clone())
                .put(address, encode(&Holder::Endpoint(endpoint))),
        };
        let mac = port.mac;
        Ok((
            txn,
            (
                Reservation {
                    port: id,
                    endpoint,
                    subnet,
                    ip,
                    mac,
                    mtu_bytes: MTU_BYTES,
                },
                held,
            ),
        ))
    }

    fn choose_for_endpoint(
        &self,
        state: &State,
        subnet: &Subnet,
        endpoint: EndpointId,
        wanted: Option<Ipv4Addr>,
    ) -> Result<(Ipv4Addr, Option<Picked>), Failure> {
        let Some(range) = &subnet.range else {
            return Err(Failure::clash(
                Clash::NoAddressLeft,
                format!("Network {} has no subnet to take an address from.", subnet.id),
            ));
        };
        let Some(ip) = wanted else {
            return self.pick_free(state, subnet.id, range);
        };
        if !usable_address(range, ip) {
            return Err(Failure::BadAddress {
                ip,
                subnet: subnet.id,
            });
        }
        match state.address(subnet.id, ip) {
            Some(held) if held.holder != Holder::Endpoint(endpoint) => Err(Failure::clash(
                Clash::AddressInUse,
                format!("{ip} of subnet {} is held by {:?}.", subnet.id, held.holder),
            )),
            _ => Ok((ip, None)),
        }
    }

    /// Removes an endpoint's port, and frees its address if the endpoint holds it still. One that is gone is done.
    pub(super) async fn release_reservation(&self, endpoint: EndpointId) -> Result<(), Failure> {
        self.decide(|state| {
            let port = state
                .port(&PortId(endpoint.0))
                .filter(|port| port.device_owner == OWNER_ENDPOINT);
            Ok((
                port.map_or_else(Txn::new, |port| plan_removal(state, Txn::new(), port)),
                (),
            ))
        })
        .await
    }
}

fn fence<T>(key: Key, document: &Stored<T>) -> Fence {
    (key.into(), document.revision)
}

/// The reservation that a port is, if it is one.
fn reservation(port: &Port) -> Option<Reservation> {
    let ip = port.ip.filter(|_| port.device_owner == OWNER_ENDPOINT)?;
    Some(Reservation {
        port: port.id,
        endpoint: EndpointId(port.id.0),
        subnet: port.subnet,
        ip,
        mac: port.mac,
        mtu_bytes: MTU_BYTES,
    })
}

fn as_network_error(failure: Failure, subnet: SubnetId, wanted: Option<Ipv4Addr>) -> NetworkError {
    match (failure, wanted) {
        (Failure::NotFound { id, .. }, _) => NetworkError::NotFound(id),
        (Failure::BadAddress { ip, .. }, _) => NetworkError::BadAddress(ip),
        (
            Failure::Clash {
                clash: Clash::AddressInUse,
                ..
            },
            Some(ip),
        ) => NetworkError::AddressTaken(ip),
        (
            Failure::Clash {
                clash: Clash::NoAddressLeft,
                ..
            },
            _,
        ) => NetworkError::NoneLeft(subnet),
        (failure, _) => unavailable(failure),
    }
}

pub(super) fn unavailable(failure: Failure) -> NetworkError {
    NetworkError::Unavailable(error_chain(&failure))
}
