//! The way from a VPC to a gateway endpoint's blocks.
//!
//! ```text
//!   consumer's VPC ──route BLOCK──▶ gHASH ──veth── eth0   a namespace without a name: every address of the blocks is
//!                  ◀──default route────────────────       its own, and listeners take the ports
//! ```
//!
//! Clients are routed there by the VPC's router and keep their addresses; nothing is forwarded any further, so what is not
//! listened on refuses. Every endpoint has its own; of several to one service in a VPC (on route tables of their own, which are all
//! one router's here) the routes of the first lead there, and those behind them count once it is gone. The namespace has no file: it goes with its [`Gate`], and with this process, and the link and the
//! routes in the VPC go with it. Owns the link, its addresses and the routes; never a listener.

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use adit_model::id::EndpointId;
use adit_netns::{LinkError, Links, Namespace, NextHop, Route, Veth, sysctl};
use ipnet::{IpNet, Ipv4Net};

use crate::apply::ApplyError;

/// Where the links' own addresses are from, four for each. Link-local, so that no VPC has them, and away from
/// 169.254.169.254, which clouds answer on.
const LINKS: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(169, 254, 64, 0), 18);
/// The length of one link's block: two ends, network and broadcast.
const LINK_PREFIX_LEN: u8 = 30;
/// The far end.
const FAR: &str = "eth0";
/// The destination of a default route.
const EVERYWHERE: IpNet = IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0));

/// What is on the other side of the link.
#[derive(Clone)]
pub(crate) struct Gate {
    /// Where listeners belong.
    pub(crate) descriptor: Arc<OwnedFd>,
    namespace: Namespace,
    links: Links,
}

/// The name of the near end, in the consumer's VPC: 13 characters of the 15 that a name may have.
pub(crate) fn link_name(id: EndpointId) -> String {
    let id = id.0.simple().to_string();
    format!("g{}", &id[..12])
}

impl Gate {
    /// A namespace that all addresses of the blocks are of, and that nothing leads to yet.
    pub(crate) async fn new(id: EndpointId, blocks: &[Ipv4Net]) -> Result<Self, ApplyError> {
        let namespace = Namespace::unnamed(&link_name(id)).map_err(ApplyError::Descriptor)?;
        sysctl::apply(&namespace, sysctl::PORT)?;
        sysctl::apply(&namespace, sysctl::DEAD_END)?;
        let links = Links::open(&namespace).await?;
        links.link_up("lo").await?;
        for block in blocks {
            lead(&links, IpNet::V4(*block), NextHop::Local).await?;
        }
        let descriptor = namespace.as_fd().try_clone_to_owned();
        Ok(Self {
            descriptor: Arc::new(descriptor.map_err(ApplyError::Descriptor)?),
            namespace,
            links,
        })
    }

    /// The namespace of a process before this one, as that has left it.
    pub(crate) async fn inherited(id: EndpointId, descriptor: OwnedFd) -> Result<Self, ApplyError> {
        let copy = descriptor.try_clone().map_err(ApplyError::Descriptor)?;
        let namespace = Namespace::unnamed_of(&link_name(id), copy).map_err(ApplyError::Descriptor)?;
        let links = Links::open(&namespace).await?;
        Ok(Self {
            descriptor: Arc::new(descriptor),
            namespace,
            links,
        })
    }

    /// Leads a VPC there, unless it is led there already. One at a time in a VPC: each picks addresses that no link has.
    pub(crate) async fn connect(
        &self,
        vpc: &Links,
        id: EndpointId,
        blocks: &[Ipv4Net],
    ) -> Result<(), ApplyError> {
        let name = link_name(id);
        let routes = vpc.routes().await?;
        if blocks.iter().all(|block| routes.contains(&way(id, *block)))
            && self.links.link(FAR).await?.is_some()
        {
            return Ok(());
        }
        // What an attempt left that broke off.
        vpc.link_delete(&name).await?;
        let (near, far) = free_pair(vpc).await?;
        vpc.veth_create(Veth {
            name: &name,
            bridge: None,
            peer_namespace: &self.namespace,
            peer_name: FAR,
            peer_mac: None,
            mtu: None,
        })
        .await?;
        self.links.link_up(FAR).await?;
        vpc.address_add(&name, near.into(), None).await?;
        self.links.address_add(FAR, far.into(), None).await?;
        lead(&self.links, EVERYWHERE, NextHop::Gateway(near.addr().into())).await?;
        // Not through the far end's address: its neighbour's question for any address of the blocks is answered there, and
        // routes through an address are the VPC's own custom routes.
        for block in blocks {
            // Behind those of another endpoint, whose connections must not come here half-way.
            vpc.route_append(&way(id, *block)).await?;
        }
        Ok(())
    }
}

/// The route in the consumer's VPC that leads to one of an endpoint's blocks.
pub(crate) fn way(id: EndpointId, block: Ipv4Net) -> Route {
    Route {
        destination: IpNet::V4(block),
        next_hop: NextHop::Link(link_name(id)),
    }
}

/// Ends what [`Gate::connect`] did, routes included. Already ended is done.
pub(crate) async fn disconnect(vpc: &Links, id: EndpointId) -> Result<(), LinkError> {
    vpc.link_delete(&link_name(id)).await
}

async fn lead(links: &Links, destination: IpNet, next_hop: NextHop) -> Result<(), LinkError> {
    links
        .route_add(&Route {
            destination,
            next_hop,
        })
        .await
}

/// The addresses of a link's two ends: the first block of [`LINKS`] that no link of the VPC is in.
async fn free_pair(vpc: &Links) -> Result<(Ipv4Net, Ipv4Net), ApplyError> {
    let taken: Vec<Ipv4Addr> = vpc
        .addresses()
        .await?
        .into_iter()
        .filter_map(|address| match address.network.addr() {
            IpAddr::V4(ip) => Some(ip),
            IpAddr::V6(_) => None,
        })
        .collect();
    pick_pair(&taken).ok_or(ApplyError::NoLinkAddress(LINKS))
}

fn pick_pair(taken: &[Ipv4Addr]) -> Option<(Ipv4Net, Ipv4Net)> {
    let mut blocks = LINKS.subnets(LINK_PREFIX_LEN).ok()?;
    let free = blocks.find(|block| !taken.iter().any(|ip| block.contains(ip)))?;
    let mut ends = free
        .hosts()
        .filter_map(|ip| Ipv4Net::new(ip, LINK_PREFIX_LEN).ok());
    Some((ends.next()?, ends.next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_have_blocks_of_their_own_until_there_is_none() {
        let blocks: Vec<_> = LINKS.subnets(LINK_PREFIX_LEN).unwrap().collect();
        let mut taken: Vec<Ipv4Addr> = vec![[10, 0, 0, 1].into()];
        let (near, far) = pick_pair(&taken).unwrap();
        assert_eq!((near.trunc(), far.trunc()), (blocks[0], blocks[0]));
        assert_ne!(near.addr(), far.addr());
        // Either end of a link takes its block.
        taken.extend(blocks[..4095].iter().enumerate().map(|(n, block)| {
            let ends: Vec<_> = block.hosts().collect();
            ends[n % 2]
        }));
        let (near, _) = pick_pair(&taken).unwrap();
        assert_eq!(near.trunc(), blocks[4095]);
        taken.push(near.addr());
        assert_eq!(pick_pair(&taken), None);
    }

    #[test]
    fn a_link_s_name_fits_the_kernel() {
        assert!(link_name(EndpointId::random()).len() <= 15);
    }
}
