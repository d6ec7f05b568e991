//! Routes.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use futures_util::{StreamExt, TryStreamExt};
use ipnet::IpNet;
use rtnetlink::packet_core::{
    NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};

use super::{LinkError, Links};

/// The link that local routes are on.
const LOOPBACK: &str = "lo";

/// The number of the kernel's table of local routes (`RT_TABLE_LOCAL`).
const TABLE_LOCAL: u8 = 255;

/// A route.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Route {
    /// Where to; 0.0.0.0/0 is the default route. Bits beyond the prefix are ignored.
    pub destination: IpNet,
    /// Through what.
    pub next_hop: NextHop,
}

/// What a route leads to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum NextHop {
    /// A neighbour, by its address (`via ADDRESS`).
    Gateway(IpAddr),
    /// Whoever is on a link (`dev NAME`).
    Link(String),
    /// This namespace itself: all addresses of the prefix are its own (`local PREFIX dev lo`).
    Local,
}

impl fmt::Display for Route {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.next_hop {
            NextHop::Gateway(gateway) => write!(out, "{} via {gateway}", self.destination),
            NextHop::Link(link) => write!(out, "{} dev {link}", self.destination),
            NextHop::Local => write!(out, "local {}", self.destination),
        }
    }
}

impl Links {
    /// Adds a route.
    ///
    /// # Errors
    ///
    /// `ENETUNREACH` when no link leads to the gateway, `ENETDOWN` when the link is down, `ENODEV` when it is not there.
    /// When the destination has a route already this is success: see [`Links::route_replace`].
    pub async fn route_add(&self, route: &Route) -> Result<(), LinkError> {
        const ACTION: &str = "add route";
        let message = self.route_message(route, ACTION).await?;
        self.done(
            ACTION,
            route,
            self.ask(|| self.handle.route().add(message).execute()).await,
        )
    }

    /// Adds a route behind those that the destination has already: it counts once they are gone. IPv4 alone (of IPv6 the
    /// kernel makes one route with several next hops). The very same route once more is success.
    ///
    /// # Errors
    ///
    /// As [`Links::route_add`].
    pub async fn route_append(&self, route: &Route) -> Result<(), LinkError> {
        const ACTION: &str = "append route";
        let message = self.route_message(route, ACTION).await?;
        let mut request = NetlinkMessage::from(RouteNetlinkMessage::NewRoute(message));
        request.header.flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_APPEND;
        let mut handle = self.handle.clone();
        let sent = self.ask(|| async move {
            let mut answers = handle.request(request)?;
            while let Some(answer) = answers.next().await {
                if let NetlinkPayload::Error(error) = answer.payload {
                    return Err(rtnetlink::Error::NetlinkError(error));
                }
            }
            Ok(())
        });
        self.done(ACTION, route, sent.await)
    }

    /// Adds a route, in place of what the destination's route was.
    ///
    /// # Errors
    ///
    /// As [`Links::route_add`].
    pub async fn route_replace(&self, route: &Route) -> Result<(), LinkError> {
        const ACTION: &str = "replace route";
        let message = self.route_message(route, ACTION).await?;
        let request = self.handle.route().add(message).replace();
        self.done(ACTION, route, self.ask(|| request.execute()).await)
    }

    /// Deletes a route with just this next hop.
    ///
    /// # Errors
    ///
    /// What the kernel answers; already gone (or its link gone) is success.
    pub async fn route_delete(&self, route: &Route) -> Result<(), LinkError> {
        const ACTION: &str = "delete route";
        let message = match self.route_message(route, ACTION).await {
            Err(error) if error.is_missing() => return Ok(()),
            message => message?,
        };
        let deleted = self.ask(|| self.handle.route().del(message).execute()).await;
        self.done_or_gone(ACTION, route, deleted)
    }

    /// All routes of the main and the local table that somebody added; those that the kernel keeps for the links'
    /// addresses are left out, and so are multipath, blackhole and multicast routes.
    ///
    /// # Errors
    ///
    /// When the kernel does not answer.
    pub async fn routes(&self) -> Result<Vec<Route>, LinkError> {
        let links = self.links().await?;
        let names: HashMap<u32, String> = links.into_iter().map(|link| (link.index, link.name)).collect();
        let mut routes = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut filter = RouteMessage::default();
            filter.header.address_family = family;
            let messages: Result<Vec<_>, _> = self
                .ask(|| self.handle.route().get(filter).execute().try_collect())
                .await;
            let messages = messages.map_err(|error| self.error("list", "routes", error))?;
            routes.extend(messages.iter().filter_map(|message| route_of(message, &names)));
        }
        Ok(routes)
    }

    async fn route_message(&self, route: &Route, action: &'static str) -> Result<RouteMessage, LinkError> {
        let destination = route.destination.trunc();
        let mut message = RouteMessage::default();
        message.header.address_family = match destination {
            IpNet::V4(_) => AddressFamily::Inet,
            IpNet::V6(_) => AddressFamily::Inet6,
        };
        message.header.protocol = RouteProtocol::Static;
        message.header.destination_prefix_length = destination.prefix_len();
        message
            .attributes
            .push(RouteAttribute::Destination(destination.addr().into()));
        let (table, kind, scope) = match &route.next_hop {
            NextHop::Gateway(gateway) => {
                message
                    .attributes
                    .push(RouteAttribute::Gateway((*gateway).into()));
                (
                    RouteHeader::RT_TABLE_MAIN,
                    RouteType::Unicast,
                    RouteScope::Universe,
                )
            }
            NextHop::Link(link) => {
                let index = self.index(link, action, route).await?;
                message.attributes.push(RouteAttribute::Oif(index));
                (RouteHeader::RT_TABLE_MAIN, RouteType::Unicast, RouteScope::Link)
            }
            NextHop::Local => {
                let index = self.index(LOOPBACK, action, route).await?;
                message.attributes.push(RouteAttribute::Oif(index));
                (TABLE_LOCAL, RouteType::Local, RouteScope::Host)
            }
        };
        message.header.table = table;
        message.header.kind = kind;
        message.header.scope = scope;
        Ok(message)
    }
}

fn route_of(message: &RouteMessage, names: &HashMap<u32, String>) -> Option<Route> {
    let header = &message.header;
    if header.protocol == RouteProtocol::Kernel {
        return None;
    }
    let mut destination = match header.address_family {
        AddressFamily::Inet => IpAddr::from(Ipv4Addr::UNSPECIFIED),
        AddressFamily::Inet6 => IpAddr::from(Ipv6Addr::UNSPECIFIED),
        _ => return None,
    };
    let (mut gateway, mut link) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(ip)) => destination = (*ip).into(),
            RouteAttribute::Destination(RouteAddress::Inet6(ip)) => destination = (*ip).into(),
            RouteAttribute::Gateway(RouteAddress::Inet(ip)) => gateway = Some(IpAddr::from(*ip)),
            RouteAttribute::Gateway(RouteAddress::Inet6(ip)) => gateway = Some(IpAddr::from(*ip)),
            RouteAttribute::Oif(index) => link = names.get(index),
            _ => {}
        }
    }
    let next_hop = match (header.kind, header.table) {
        (RouteType::Local, TABLE_LOCAL) => NextHop::Local,
        (RouteType::Unicast, RouteHeader::RT_TABLE_MAIN) => match gateway {
            Some(gateway) => NextHop::Gateway(gateway),
            None => NextHop::Link(link?.clone()),
        },
        _ => return None,
    };
    let destination = IpNet::new(destination, header.destination_prefix_length).ok()?;
    Some(Route {
        destination,
        next_hop,
    })
}
