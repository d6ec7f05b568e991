//! Address resolution on a link: saying that an address is here, asking whether it is anywhere else, and hearing of another
//! station that has it (RFC 5227).
//!
//! Owns the packet sockets. What is made of what they hear is the gateway's.
#![expect(
    unsafe_code,
    reason = "packet sockets have no safe wrapper: their address type and their filters are known to libc alone"
)]

use std::io;
use std::mem::{size_of, zeroed};
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, recv, socket_with};
use tokio::io::{Interest, unix::AsyncFd};

use crate::links::Link;
use crate::namespace::Namespace;

/// What an ARP packet for IPv4 over Ethernet is long, in bytes (RFC 826).
const ARP_LEN: usize = 28;
/// What such a packet begins with: Ethernet, IPv4, and the lengths of their addresses.
const HEAD: [u8; 6] = [0, 1, 8, 0, 6, 4];
/// Where in a packet its operation, its sender's addresses and its target's address are.
const OPERATION: usize = 6;
const SENDER_MAC: usize = 8;
const SENDER: usize = 14;
const TARGET: usize = 24;

/// Another station has an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elsewhere {
    /// The address.
    pub ip: Ipv4Addr,
    /// The station's hardware address.
    pub mac: [u8; 6],
}

/// A socket for address resolution on one link. Costs nothing while nobody announces anything: the kernel filters.
#[derive(Debug)]
pub struct Arp {
    socket: AsyncFd<OwnedFd>,
    link: u32,
    mac: [u8; 6],
}

impl Arp {
    /// Opens a socket on `link`, a link of this namespace. Needs a tokio runtime with I/O.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a link without a hardware address; what the kernel answers, such as `EPERM` and `ENODEV`.
    pub async fn open(namespace: &Namespace, link: &Link) -> io::Result<Self> {
        let mac = link.mac.ok_or(io::ErrorKind::InvalidInput)?;
        let (inside, index) = (namespace.clone(), link.index);
        let opened = tokio::task::spawn_blocking(move || inside.run(|| listening(index)));
        let opened = opened.await.unwrap_or_else(|e| Err(io::Error::other(e)));
        // SAFETY: an owned descriptor is open, and the same one, for as long as it lives.
        let socket = unsafe { AsyncFd::register_with_interest(opened??, Interest::READABLE) };
        Ok(Self {
            socket: socket.map_err(|refused| refused.into_parts().1)?,
            link: link.index,
            mac,
        })
    }

    /// The kernel's number of the link.
    #[must_use]
    pub fn link(&self) -> u32 {
        self.link
    }

    /// Says that `ip` is here (a gratuitous request, RFC 5227 section 3): whoever has the address in its neighbour table takes
    /// the link's hardware address for it from now on, and another station that has it hears of a conflict.
    ///
    /// # Errors
    ///
    /// What the kernel answers, such as `ENETDOWN`, and `EAGAIN` where too much waits to be sent.
    pub fn announce(&self, ip: Ipv4Addr) -> io::Result<()> {
        self.send(&request(self.mac, ip, ip))
    }

    /// Asks whether another station has `ip`, without saying that it is here (a probe, RFC 5227 section 2.1.1). One that has
    /// it answers, and is heard.
    ///
    /// # Errors
    ///
    /// As [`Arp::announce`].
    pub fn probe(&self, ip: Ipv4Addr) -> io::Result<()> {
        self.send(&request(self.mac, Ipv4Addr::UNSPECIFIED, ip))
    }

    /// Waits for another station that announces an address, or answers a probe.
    ///
    /// # Errors
    ///
    /// What the kernel answers: `ENETDOWN` once the link goes down, and then as long as it is.
    pub async fn hear(&self) -> io::Result<Elsewhere> {
        loop {
            let mut ready = self.socket.readable().await?;
            let mut packet = [0; ARP_LEN];
            let read = ready.try_io(|socket| {
                let (read, _) = recv(socket.get_ref(), &mut packet, RecvFlags::DONTWAIT)?;
                Ok(read)
            });
            match read {
                Ok(Ok(ARP_LEN)) => {
                    if let Some(heard) = elsewhere(&packet).filter(|heard| heard.mac != self.mac) {
                        return Ok(heard);
                    }
                }
                Ok(Ok(_)) | Err(_) => {}
                Ok(Err(e)) => return Err(e),
            }
        }
    }

    fn send(&self, packet: &[u8; ARP_LEN]) -> io::Result<()> {
        let mut to = on_link(self.link)?;
        to.sll_halen = 6;
        to.sll_addr[..6].fill(0xff);
        // SAFETY: packet and address are valid for the lengths that are given with them, and are only read.
        let sent = unsafe {
            libc::sendto(
                self.socket.as_raw_fd(),
                packet.as_ptr().cast(),
                packet.len(),
                libc::MSG_DONTWAIT,
                (&raw const to).cast(),
                ADDRESS_LEN,
            )
        };
        match sent < 0 {
            true => Err(io::Error::last_os_error()),
            false => Ok(()),
        }
    }
}

/// How long the address of a packet socket is, in bytes.
const ADDRESS_LEN: libc::socklen_t = size_of::<libc::sockaddr_ll>() as libc::socklen_t;

/// All ARP of a link, as a packet socket's address.
fn on_link(link: u32) -> io::Result<libc::sockaddr_ll> {
    // SAFETY: the struct is plain numbers, for which zero is a value.
    let mut address: libc::sockaddr_ll = unsafe { zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = (libc::ETH_P_ARP as u16).to_be();
    address.sll_ifindex = i32::try_from(link).map_err(io::Error::other)?;
    Ok(address)
}

/// A socket of the calling thread's namespace that hears what [`filter`] lets through, and nothing from before.
fn listening(link: u32) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    // Without a protocol it hears nothing until it is bound.
    let socket = socket_with(AddressFamily::PACKET, SocketType::DGRAM, flags, None)?;
    let mut filter = filter();
    let program = libc::sock_fprog {
        len: filter.len() as u16,
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: the program, and the instructions that it points to, are valid for this call and only read; the kernel copies them.
    let attached = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const program).cast(),
            size_of::<libc::sock_fprog>() as libc::socklen_t,
        )
    };
    let address = on_link(link)?;
    // SAFETY: the address is valid for the length that is given with it, and is only read.
    let bound = || unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), ADDRESS_LEN) };
    if attached < 0 || bound() < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(socket)
}

/// Lets through announcements (sender and target are one address), and the answers to probes (which have no target). All
/// else on a busy link stays in the kernel.
fn filter() -> [libc::sock_filter; 11] {
    let op = |code: u32, jt: u8, jf: u8, k: u32| libc::sock_filter {
        code: code as u16,
        jt,
        jf,
        k,
    };
    let load_word = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    let equals = libc::BPF_JMP | libc::BPF_JEQ;
    [
        op(load_word, 0, 0, TARGET as u32),
        op(libc::BPF_MISC | libc::BPF_TAX, 0, 0, 0),
        op(load_word, 0, 0, SENDER as u32),
        // A probe of somebody else's: no sender.
        op(equals | libc::BPF_K, 6, 0, 0),
        // An announcement.
        op(equals | libc::BPF_X, 4, 0, 0),
        op(libc::BPF_LD | libc::BPF_H | libc::BPF_ABS, 0, 0, OPERATION as u32),
        // A reply to a probe.
        op(equals | libc::BPF_K, 0, 3, 2),
        op(libc::BPF_MISC | libc::BPF_TXA, 0, 0, 0),
        op(equals | libc::BPF_K, 0, 1, 0),
        op(libc::BPF_RET | libc::BPF_K, 0, 0, ARP_LEN as u32),
        op(libc::BPF_RET | libc::BPF_K, 0, 0, 0),
    ]
}

/// The packet: who has `target`, says `sender`.
fn request(mac: [u8; 6], sender: Ipv4Addr, target: Ipv4Addr) -> [u8; ARP_LEN] {
    let mut packet = [0; ARP_LEN];
    packet[..6].copy_from_slice(&HEAD);
    packet[OPERATION + 1] = 1;
    packet[SENDER_MAC..SENDER].copy_from_slice(&mac);
    packet[SENDER..SENDER + 4].copy_from_slice(&sender.octets());
    packet[TARGET..].copy_from_slice(&target.octets());
    packet
}

/// Who says in a packet that it has which address.
fn elsewhere(packet: &[u8; ARP_LEN]) -> Option<Elsewhere> {
    let mac = packet[SENDER_MAC..SENDER].try_into().ok()?;
    let sender: [u8; 4] = packet[SENDER..SENDER + 4].try_into().ok()?;
    (packet[..6] == HEAD && sender != [0; 4]).then(|| Elsewhere {
        ip: sender.into(),
        mac,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: [u8; 6] = [0xfa, 0x16, 0x3e, 1, 2, 3];
    const IP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 31);

    #[test]
    fn an_announcement_asks_for_the_address_that_it_comes_from() {
        let packet = request(MAC, IP, IP);
        assert_eq!(
            packet,
            [
                0, 1, 8, 0, 6, 4, 0, 1, 0xfa, 0x16, 0x3e, 1, 2, 3, 10, 0, 0, 31, 0, 0, 0, 0, 0, 0, 10, 0, 0,
                31
            ]
        );
        assert_eq!(elsewhere(&packet), Some(Elsewhere { ip: IP, mac: MAC }));
    }

    #[test]
    fn a_probe_says_nothing_of_an_address() {
        assert_eq!(elsewhere(&request(MAC, Ipv4Addr::UNSPECIFIED, IP)), None);
    }

    #[test]
    fn what_is_no_arp_for_ipv4_says_nothing() {
        let mut packet = request(MAC, IP, IP);
        packet[2] = 0x86;
        assert_eq!(elsewhere(&packet), None);
    }
}
