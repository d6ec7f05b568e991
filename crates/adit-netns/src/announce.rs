//! Announcing an address: the neighbours that knew it elsewhere learn at once where it is now.
#![expect(
    unsafe_code,
    reason = "packet sockets have no safe wrapper: their address type is known to libc alone"
)]

use std::io;
use std::mem::{size_of, zeroed};
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use crate::links::Link;
use crate::namespace::Namespace;

/// What an ARP packet for IPv4 over Ethernet is long, in bytes (RFC 826).
const ARP_LEN: usize = 28;

/// Sends a gratuitous ARP request (RFC 5227, section 3) for `ip` from `link`, which has it: whoever has the address in
/// the neighbour table takes the link's hardware address for it from now on. Blocks for well under a millisecond.
///
/// Answers the socket, whose closing takes some 10 ms: the kernel waits until no processor looks at it any more.
///
/// # Errors
///
/// `InvalidInput` for a link without a hardware address; what the kernel answers, such as `ENETDOWN`.
pub(crate) fn announce(namespace: &Namespace, link: &Link, ip: Ipv4Addr) -> io::Result<OwnedFd> {
    let mac = link.mac.ok_or(io::ErrorKind::InvalidInput)?;
    namespace.run(|| send(link.index, &request(mac, ip)))?
}

/// The packet: who has `ip`, says `ip` itself.
fn request(mac: [u8; 6], ip: Ipv4Addr) -> [u8; ARP_LEN] {
    let mut packet = [0; ARP_LEN];
    // Ethernet, IPv4, lengths of their addresses, a request.
    packet[..8].copy_from_slice(&[0, 1, 8, 0, 6, 4, 0, 1]);
    packet[8..14].copy_from_slice(&mac);
    packet[14..18].copy_from_slice(&ip.octets());
    packet[24..28].copy_from_slice(&ip.octets());
    packet
}

fn send(link: u32, packet: &[u8; ARP_LEN]) -> io::Result<OwnedFd> {
    let protocol = (libc::ETH_P_ARP as u16).to_be();
    // SAFETY: no pointer is passed.
    let raw = unsafe {
        libc::socket(
            libc::AF_PACKET,
            libc::SOCK_DGRAM | libc::SOCK_CLOEXEC,
            i32::from(protocol),
        )
    };
    if raw < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just made, and nobody else knows it.
    let socket = unsafe { OwnedFd::from_raw_fd(raw) };
    // SAFETY: the struct is plain numbers, for which zero is a value.
    let mut to: libc::sockaddr_ll = unsafe { zeroed() };
    to.sll_family = libc::AF_PACKET as u16;
    to.sll_protocol = protocol;
    to.sll_ifindex = i32::try_from(link).map_err(io::Error::other)?;
    to.sll_halen = 6;
    to.sll_addr[..6].fill(0xff);
    // SAFETY: packet and address are valid for the lengths that are given with them, and are only read.
    let sent = unsafe {
        libc::sendto(
            socket.as_raw_fd(),
            packet.as_ptr().cast(),
            packet.len(),
            0,
            (&raw const to).cast(),
            size_of::<libc::sockaddr_ll>() as libc::socklen_t,
        )
    };
    if sent < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_packet_asks_for_the_address_that_it_comes_from() {
        let packet = request([0xfa, 0x16, 0x3e, 1, 2, 3], Ipv4Addr::new(10, 0, 0, 31));
        assert_eq!(
            packet,
            [
                0, 1, 8, 0, 6, 4, 0, 1, 0xfa, 0x16, 0x3e, 1, 2, 3, 10, 0, 0, 31, 0, 0, 0, 0, 0, 0, 10, 0, 0,
                31
            ]
        );
    }
}
