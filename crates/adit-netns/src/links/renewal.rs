//! Many addresses' lifetimes, begun anew at once.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rtnetlink::packet_core::{
    NLM_F_CREATE, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkBuffer, NetlinkMessage, NetlinkPayload,
};
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage, CacheInfo};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily as Family, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with,
};

use super::{LinkError, Links};

/// How many addresses are in one packet: some 80 bytes each, and a socket's buffer has 200 kB.
const BATCH: usize = 256;
/// The longest packet of answers.
const ANSWER_BYTES_MAX: usize = 32 * 1024;

/// A netlink socket in a namespace, for nothing else. The kernel answers only where it refuses something, and before the
/// packet counts as sent: nothing has to be waited for.
#[derive(Clone, Debug)]
pub struct Renewal {
    namespace: String,
    socket: Arc<OwnedFd>,
}

impl Links {
    /// Opens a socket to renew this namespace's addresses by.
    ///
    /// # Errors
    ///
    /// When the namespace cannot be entered or no socket can be had there.
    pub async fn renewal(&self) -> Result<Renewal, LinkError> {
        let inside = self.namespace.clone();
        let opened = tokio::task::spawn_blocking(move || {
            inside.run(|| {
                let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
                // Without a number it is the protocol of routes, links and addresses, NETLINK_ROUTE.
                socket_with(Family::NETLINK, SocketType::RAW, flags, None)
            })
        });
        let namespace = self.namespace.name().to_owned();
        let opened = opened.await.unwrap_or_else(|e| Err(io::Error::other(e)));
        match opened.and_then(|opened| Ok(opened?)) {
            Ok(socket) => Ok(Renewal {
                namespace,
                socket: Arc::new(socket),
            }),
            Err(source) => Err(LinkError {
                namespace,
                action: "open",
                object: "a netlink socket".to_owned(),
                source,
            }),
        }
    }
}

impl Renewal {
    /// Begins the lifetime of addresses anew, each a host's alone (`/32`) on the link of this number. One that is not there is
    /// added. Answers those that the kernel refuses. Blocks for about a microsecond each.
    ///
    /// # Errors
    ///
    /// When the kernel takes no packet.
    pub fn renew(
        &self,
        addresses: &[(u32, Ipv4Addr)],
        valid_s: u32,
    ) -> Result<Vec<(Ipv4Addr, io::Error)>, LinkError> {
        let mut refused = Vec::new();
        for batch in addresses.chunks(BATCH) {
            let mut packet = Vec::new();
            for (n, (link, ip)) in batch.iter().enumerate() {
                put(&mut packet, n as u32, *link, *ip, valid_s);
            }
            let failed = |e: Errno| LinkError {
                namespace: self.namespace.clone(),
                action: "renew",
                object: format!("{} addresses", batch.len()),
                source: e.into(),
            };
            send(&*self.socket, &packet, SendFlags::DONTWAIT).map_err(failed)?;
            self.answers(batch, &mut refused).map_err(failed)?;
        }
        Ok(refused)
    }

    fn answers(
        &self,
        batch: &[(u32, Ipv4Addr)],
        refused: &mut Vec<(Ipv4Addr, io::Error)>,
    ) -> Result<(), Errno> {
        let mut buffer = vec![0; ANSWER_BYTES_MAX];
        loop {
            let length = match recv(&*self.socket, &mut buffer, RecvFlags::DONTWAIT) {
                Ok((length, _)) => length,
                Err(Errno::AGAIN) => return Ok(()),
                Err(e) => return Err(e),
            };
            let mut rest = &buffer[..length];
            while let Ok(head) = NetlinkBuffer::new_checked(rest) {
                let read = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest);
                if let Ok(NetlinkMessage {
                    header,
                    payload: NetlinkPayload::Error(error),
                    ..
                }) = read
                    && error.code.is_some()
                    && let Some((_, ip)) = batch.get(header.sequence_number as usize)
                {
                    refused.push((*ip, error.to_io()));
                }
                let next = (head.length() as usize).next_multiple_of(4);
                rest = rest.get(next..).unwrap_or_default();
            }
        }
    }
}

/// Adds one address to a packet.
fn put(packet: &mut Vec<u8>, number: u32, link: u32, ip: Ipv4Addr, valid_s: u32) {
    let mut message = AddressMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.prefix_len = 32;
    message.header.index = link;
    let mut lifetime = CacheInfo::default();
    lifetime.ifa_valid = valid_s;
    lifetime.ifa_preferred = valid_s;
    message.attributes = vec![
        AddressAttribute::Local(IpAddr::V4(ip)),
        AddressAttribute::Address(IpAddr::V4(ip)),
        AddressAttribute::CacheInfo(lifetime),
    ];
    let mut request = NetlinkMessage::from(RouteNetlinkMessage::NewAddress(message));
    request.header.flags = NLM_F_REQUEST | NLM_F_REPLACE | NLM_F_CREATE;
    request.header.sequence_number = number;
    request.finalize();
    let begin = packet.len();
    packet.resize(begin + request.buffer_len().next_multiple_of(4), 0);
    request.serialize(&mut packet[begin..]);
}
