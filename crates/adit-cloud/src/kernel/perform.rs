//! Doing one step of a plan. Decides nothing.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use adit_model::id::VpcId;
use adit_model::network::RESERVED;
use adit_netns::sysctl::{self, Setting};
use adit_netns::{Directory, DirectoryError, LinkError, Links, Namespace, NextHop, Route, Veth};
use ipnet::Ipv4Net;

use super::desired::{PortSpec, SubnetSpec, VpcSpec};
use super::plan::Action;
use super::{KernelError, Made, MadePort, MadeVpc, names, sources};

/// The name of a port's link in its namespace.
const PORT_LINK: &str = "eth0";

pub(super) async fn perform(
    directory: &Directory,
    made: &mut Made,
    action: &Action,
) -> Result<(), KernelError> {
    match action {
        Action::RemovePort { port } => remove_port(directory, made, port).await,
        Action::RemoveRoute {
            vpc,
            destination,
            nexthop,
        } => {
            let links = &made.vpc(vpc)?.links;
            Ok(links.route_delete(&route(*destination, *nexthop)).await?)
        }
        Action::RemoveSubnet { vpc, bridge } => {
            let vpc = made.vpc(vpc)?;
            vpc.links.link_delete(bridge).await?;
            vpc.spec.subnets.remove(bridge);
            Ok(())
        }
        Action::RemoveVpc { vpc } => {
            remove(directory, vpc).await?;
            made.vpcs.remove(vpc);
            Ok(())
        }
        Action::CreateVpc { vpc, id } => create_vpc(directory, made, vpc, *id).await,
        Action::RestoreSources { vpc } => Ok(made.vpc(vpc)?.links.route_add(&sources()).await?),
        Action::CreateSubnet { vpc, bridge, spec } => create_subnet(made.vpc(vpc)?, bridge, spec).await,
        Action::CreateRoute {
            vpc,
            destination,
            nexthop,
        } => {
            let links = &made.vpc(vpc)?.links;
            Ok(links.route_add(&route(*destination, *nexthop)).await?)
        }
        Action::CreatePort { port, spec } => create_port(directory, made, port, spec).await,
    }
}

impl Made {
    fn vpc(&mut self, name: &str) -> Result<&mut MadeVpc, KernelError> {
        self.vpcs
            .get_mut(name)
            .ok_or_else(|| KernelError::NoVpc(name.to_owned()))
    }
}

async fn create_vpc(
    directory: &Directory,
    made: &mut Made,
    name: &str,
    id: VpcId,
) -> Result<(), KernelError> {
    let namespace = create(directory, name, &[sysctl::PORT, sysctl::ROUTER]).await?;
    match open_vpc(&namespace).await {
        Ok(links) => {
            // Subnets and routes follow, each by a step of its own.
            let spec = VpcSpec {
                id,
                subnets: BTreeMap::new(),
                routes: BTreeMap::new(),
            };
            made.vpcs.insert(name.to_owned(), MadeVpc { links, spec });
            Ok(())
        }
        Err(error) => {
            remove(directory, name).await?;
            Err(error.into())
        }
    }
}

async fn open_vpc(namespace: &Namespace) -> Result<Links, LinkError> {
    let links = Links::open(namespace).await?;
    links.link_up("lo").await?;
    links.route_add(&sources()).await?;
    Ok(links)
}

async fn create_subnet(vpc: &mut MadeVpc, bridge: &str, spec: &SubnetSpec) -> Result<(), KernelError> {
    vpc.spec.subnets.insert(bridge.to_owned(), spec.clone());
    vpc.links.bridge_create(bridge, spec.mac.0).await?;
    Ok(vpc.links.address_add(bridge, spec.router.into(), None).await?)
}

async fn create_port(
    directory: &Directory,
    made: &mut Made,
    name: &str,
    spec: &PortSpec,
) -> Result<(), KernelError> {
    let vpc = made.vpc(&spec.vpc)?.links.clone();
    let namespace = create(directory, name, &[sysctl::PORT]).await?;
    if let Err(error) = connect_port(&vpc, &namespace, spec).await {
        // The first error is the one to tell. Half a port is removed, or else the next try would stumble over it.
        let _ = vpc.link_delete(&names::veth(spec.id)).await;
        let _ = remove(directory, name).await;
        return Err(error.into());
    }
    made.ports.insert(
        name.to_owned(),
        MadePort {
            namespace,
            spec: spec.clone(),
        },
    );
    Ok(())
}

async fn connect_port(vpc: &Links, namespace: &Namespace, spec: &PortSpec) -> Result<(), LinkError> {
    let veth = Veth {
        name: &names::veth(spec.id),
        bridge: Some(&spec.bridge),
        peer_namespace: namespace,
        peer_name: PORT_LINK,
        peer_mac: Some(spec.mac.0),
        mtu: None,
    };
    vpc.veth_create(veth).await?;
    let links = Links::open(namespace).await?;
    links.link_up("lo").await?;
    links.link_up(PORT_LINK).await?;
    links.address_add(PORT_LINK, spec.address.into(), None).await?;
    // The address may have been another port's, or an endpoint's.
    links.announce(PORT_LINK, spec.address.addr()).await?;
    // The second is in the first, and stays when a user changes his default route.
    for destination in [Ipv4Net::default(), RESERVED] {
        links.route_add(&route(destination, spec.router)).await?;
    }
    Ok(())
}

async fn remove_port(directory: &Directory, made: &mut Made, name: &str) -> Result<(), KernelError> {
    let Some(port) = made.ports.get(name) else {
        return Ok(());
    };
    // The veth first: a process that stays in the namespace must not stay in the VPC.
    if let Some(vpc) = made.vpcs.get(&port.spec.vpc) {
        vpc.links.link_delete(&names::veth(port.spec.id)).await?;
    }
    remove(directory, name).await?;
    made.ports.remove(name);
    Ok(())
}

fn route(destination: Ipv4Net, nexthop: Ipv4Addr) -> Route {
    Route {
        destination: destination.into(),
        next_hop: NextHop::Gateway(nexthop.into()),
    }
}

/// Makes a namespace with settings. That a setting is refused (`/proc/sys` is read-only in many containers) is told, but
/// no reason to do without the namespace: it still carries connections.
async fn create(
    directory: &Directory,
    name: &str,
    settings: &'static [&'static [Setting]],
) -> Result<Namespace, KernelError> {
    let (directory, name) = (directory.clone(), name.to_owned());
    let create = move || -> Result<Namespace, DirectoryError> {
        let namespace = directory.create(&name)?;
        for settings in settings {
            if let Err(error) = sysctl::apply(&namespace, settings) {
                tracing::warn!(%error, cause = %error.source, "a setting of the kernel was not made");
            }
        }
        Ok(namespace)
    };
    Ok(tokio::task::spawn_blocking(create).await??)
}

async fn remove(directory: &Directory, name: &str) -> Result<(), KernelError> {
    let (directory, name) = (directory.clone(), name.to_owned());
    Ok(tokio::task::spawn_blocking(move || directory.remove(&name)).await??)
}
