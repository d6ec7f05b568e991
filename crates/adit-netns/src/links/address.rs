//! Addresses of links.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};

use futures_util::TryStreamExt;
use ipnet::IpNet;
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage, CacheInfo};

use super::{Link, LinkError, Links};
use crate::arp::Arp;

/// What the kernel calls a lifetime without end.
const FOREVER_S: u32 = u32::MAX;

/// An address of a link.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Address {
    /// The name of the link.
    pub link: String,
    /// The address with the length of its prefix, as in 10.0.0.1/24.
    pub network: IpNet,
    /// For how many seconds it will yet be there unless it is renewed; `None` is for ever.
    pub valid_s: Option<u32>,
}

impl Links {
    /// Gives a link the address `network`, for ever or for `valid_s` seconds (1 or more). When the address is there,
    /// its lifetime starts anew: repeat this to renew it.
    ///
    /// # Errors
    ///
    /// `ENODEV` when the link is not there.
    pub async fn address_add(
        &self,
        link: &str,
        network: IpNet,
        valid_s: Option<u32>,
    ) -> Result<(), LinkError> {
        const ACTION: &str = "add address";
        let index = self.index(link, ACTION, network).await?;
        let mut request = self
            .handle
            .address()
            .add(index, network.addr(), network.prefix_len())
            .replace();
        let mut lifetime = CacheInfo::default();
        lifetime.ifa_valid = valid_s.unwrap_or(FOREVER_S);
        lifetime.ifa_preferred = lifetime.ifa_valid;
        let attributes = &mut request.message_mut().attributes;
        attributes.push(AddressAttribute::CacheInfo(lifetime));
        self.done(
            ACTION,
            format!("{network} on {link}"),
            self.ask(|| request.execute()).await,
        )
    }

    /// Takes the address `network` from a link.
    ///
    /// # Errors
    ///
    /// What the kernel answers; already gone (or its link gone) is success.
    pub async fn address_delete(&self, link: &str, network: IpNet) -> Result<(), LinkError> {
        let Some(found) = self.link(link).await? else {
            return Ok(());
        };
        let mut add = self
            .handle
            .address()
            .add(found.index, network.addr(), network.prefix_len());
        let message = add.message_mut().clone();
        let deleted = self.ask(|| self.handle.address().del(message).execute()).await;
        self.done_or_gone("delete address", format!("{network} on {link}"), deleted)
    }

    /// Opens a socket for address resolution on `link`.
    ///
    /// # Errors
    ///
    /// When the link is missing or has no hardware address.
    pub async fn arp(&self, link: &str) -> Result<Arp, LinkError> {
        let failed = |source| LinkError {
            namespace: self.namespace.name().to_owned(),
            action: "listen for ARP on",
            object: link.to_owned(),
            source,
        };
        let found = self.link(link).await?;
        let found = found.ok_or_else(|| failed(rustix::io::Errno::NODEV.into()))?;
        Arp::open(&self.namespace, &found).await.map_err(failed)
    }

    /// Tells the neighbours on `link` that `ip` is here now: those that knew it elsewhere would go on sending there.
    ///
    /// # Errors
    ///
    /// When the link is missing or has no hardware address, and when it is down.
    pub async fn announce(&self, link: &str, ip: Ipv4Addr) -> Result<(), LinkError> {
        let arp = self.arp(link).await?;
        let announced = arp.announce(ip).map_err(|source| LinkError {
            namespace: self.namespace.name().to_owned(),
            action: "announce",
            object: format!("{ip} on {link}"),
            source,
        });
        // Closing it takes some 10 ms: the kernel waits until no processor looks at it any more. Nobody has to wait for that.
        drop(tokio::task::spawn_blocking(move || drop(arp)));
        announced
    }

    /// All addresses, with the names of their links.
    ///
    /// # Errors
    ///
    /// When the kernel does not answer.
    pub async fn addresses(&self) -> Result<Vec<Address>, LinkError> {
        Ok(addresses_of(
            &self.links().await?,
            &self.address_messages().await?,
        ))
    }

    /// The link that has an address in `subnet` or in a wider prefix around it; when there are several, that with the
    /// longest prefix, thus the nearest.
    ///
    /// # Errors
    ///
    /// When the kernel does not answer.
    pub async fn link_in(&self, subnet: IpNet) -> Result<Option<Link>, LinkError> {
        let links = self.links().await?;
        let addresses = addresses_of(&links, &self.address_messages().await?);
        let nearest = addresses
            .into_iter()
            .filter(|address| address.network.trunc().contains(&subnet.trunc()))
            .max_by_key(|address| address.network.prefix_len());
        Ok(nearest.and_then(|address| links.into_iter().find(|link| link.name == address.link)))
    }

    async fn address_messages(&self) -> Result<Vec<AddressMessage>, LinkError> {
        let messages: Result<Vec<_>, _> = self
            .ask(|| self.handle.address().get().execute().try_collect())
            .await;
        messages.map_err(|error| self.error("list", "addresses", error))
    }
}

fn addresses_of(links: &[Link], messages: &[AddressMessage]) -> Vec<Address> {
    let names: HashMap<u32, &str> = links
        .iter()
        .map(|link| (link.index, link.name.as_str()))
        .collect();
    let address = |message: &AddressMessage| {
        let (mut local, mut other) = (None, None);
        let mut valid_s = None;
        for attribute in &message.attributes {
            match attribute {
                AddressAttribute::Local(ip) => local = Some(*ip),
                AddressAttribute::Address(ip) => other = Some(*ip),
                AddressAttribute::CacheInfo(lifetime) if lifetime.ifa_valid != FOREVER_S => {
                    valid_s = Some(lifetime.ifa_valid);
                }
                _ => {}
            }
        }
        // IPv6 sends `Address` alone; on a point-to-point link of IPv4 it is the other side's.
        let ip: IpAddr = local.or(other)?;
        Some(Address {
            link: (*names.get(&message.header.index)?).to_owned(),
            network: IpNet::new(ip, message.header.prefix_len).ok()?,
            valid_s,
        })
    };
    messages.iter().filter_map(address).collect()
}
