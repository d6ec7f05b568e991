//! Which clients a listener lets in, by where they come from.

use std::io::{self, ErrorKind, Read};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::num::NonZeroU32;
use std::sync::Arc;

use adit_relay::{Admission, Close, Config, End};
use ipnet::Ipv4Net;
use rustix::net::{AddressFamily, SocketType};

use crate::rig::{PATIENCE, Rig, config, eventually, receive, send};

const LISTED: Ipv4Addr = Ipv4Addr::new(127, 20, 1, 7);
const LISTED_ALONE: Ipv4Addr = Ipv4Addr::new(127, 20, 9, 9);
const STRANGER: Ipv4Addr = Ipv4Addr::new(127, 20, 2, 7);

/// With host bits in the first block, which are of no account.
fn blocks() -> Option<Arc<[Ipv4Net]>> {
    Some(
        ["127.20.1.200/24", "127.20.9.9/32"]
            .map(|block| block.parse().unwrap())
            .into(),
    )
}

fn nobody() -> Option<Arc<[Ipv4Net]>> {
    Some([].into())
}

fn admission(max_connections: u32, allowed: Option<Arc<[Ipv4Net]>>) -> Admission {
    Admission {
        max_connections,
        allowed,
        ..Admission::default()
    }
}

fn connect_from(source: Ipv4Addr, endpoint: SocketAddrV4) -> io::Result<TcpStream> {
    let client = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None)?;
    rustix::net::bind(&client, &SocketAddrV4::new(source, 0))?;
    rustix::net::connect(&client, &endpoint)?;
    let client = TcpStream::from(client);
    client.set_read_timeout(Some(PATIENCE))?;
    Ok(client)
}

fn assert_passes(rig: &Rig, source: Ipv4Addr) -> (TcpStream, TcpStream) {
    let client = connect_from(source, rig.endpoint).unwrap();
    let (accepted, _) = rig.backend.accept().unwrap();
    accepted.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_exchange(&client, &accepted);
    (client, accepted)
}

fn assert_exchange(client: &TcpStream, accepted: &TcpStream) {
    for (from, to) in [(client, accepted), (accepted, client)] {
        send(from, 1, 1_000).unwrap();
        assert_eq!(receive(to, 1, 1_000).unwrap(), 1_000);
    }
}

/// The client is reset, be it before it knows that it was connected, and the backend hears nothing of it.
fn assert_kept_out(rig: &Rig, source: Ipv4Addr) {
    let heard = connect_from(source, rig.endpoint).and_then(|mut client| client.read(&mut [0; 1]));
    assert_eq!(
        heard.map_err(|error| error.kind()),
        Err(ErrorKind::ConnectionReset)
    );
    rig.backend.set_nonblocking(true).unwrap();
    let touched = rig.backend.accept();
    rig.backend.set_nonblocking(false).unwrap();
    assert_eq!(
        touched.expect_err("the backend was touched").kind(),
        ErrorKind::WouldBlock
    );
}

#[test]
fn only_clients_of_the_listed_blocks_pass() {
    for workers in [1, 3] {
        let rig = Rig::with(Config { workers, ..config() }, |listener| {
            listener.admission.allowed = blocks();
        });
        for _ in 0..10 {
            assert_passes(&rig, LISTED);
            assert_kept_out(&rig, STRANGER);
            assert_passes(&rig, LISTED_ALONE);
        }
        rig.ended(End::NotAllowed, 10);
        let stats = rig.stats();
        assert_eq!((stats.accepted, stats.finished()), (30, 30));
    }
}

#[test]
fn an_empty_list_lets_nobody_in() {
    let rig = Rig::with(config(), |listener| listener.admission.allowed = nobody());
    for source in [LISTED, STRANGER, *rig.endpoint.ip()] {
        assert_kept_out(&rig, source);
    }
    rig.ended(End::NotAllowed, 3);
}

#[test]
fn a_change_is_for_the_next_connection() {
    let rig = Rig::new();
    let (client, accepted) = assert_passes(&rig, STRANGER);
    rig.relay.admit(rig.id, admission(10, blocks()));
    assert_kept_out(&rig, STRANGER);
    assert_passes(&rig, LISTED);
    rig.relay.admit(rig.id, admission(10, nobody()));
    assert_kept_out(&rig, LISTED);
    rig.relay.admit(rig.id, admission(10, None));
    assert_passes(&rig, STRANGER);
    assert_exchange(&client, &accepted);
    assert_eq!(rig.stats().ended(End::NotAllowed), 2);

    // Of a closed listener it is of no effect.
    rig.relay.close(rig.id, Close::Cut).unwrap();
    rig.relay.admit(rig.id, admission(10, None));
}

#[test]
fn whoever_is_not_allowed_takes_no_place_of_the_limit() {
    let rig = Rig::with(config(), |listener| {
        listener.admission.max_connections = 1;
        listener.admission.allowed = blocks();
    });
    assert_kept_out(&rig, STRANGER);
    let live = assert_passes(&rig, LISTED);
    // Not allowed is said before the limit is.
    assert_kept_out(&rig, STRANGER);
    assert_kept_out(&rig, LISTED);
    rig.relay.admit(rig.id, admission(2, blocks()));
    assert_passes(&rig, LISTED);
    let stats = rig.stats();
    assert_eq!((stats.ended(End::NotAllowed), stats.ended(End::Limit)), (2, 1));
    assert_exchange(&live.0, &live.1);
}

#[test]
fn beyond_its_rate_an_owner_begins_no_connection() {
    let rig = Rig::with(config(), |listener| {
        listener.admission.new_per_second = NonZeroU32::new(1);
        listener.admission.allowed = blocks();
    });
    // A stranger uses nothing of it up.
    assert_kept_out(&rig, STRANGER);
    let live = assert_passes(&rig, LISTED);
    assert_exchange(&live.0, &live.1);
    // A slow machine may need more than two of them for one second.
    eventually("one to be refused", || {
        let _ = connect_from(LISTED, rig.endpoint);
        rig.stats().ended(End::Rate) > 0
    });
    rig.relay.admit(rig.id, admission(10, None));
    let client = connect_from(STRANGER, rig.endpoint).unwrap();
    send(&client, 1, 1_000).unwrap();
    // Those of the many that were let in, and gone since, are before it in the backend's queue.
    let passed = (0..=rig.stats().accepted).any(|_| {
        let (accepted, _) = rig.backend.accept().unwrap();
        accepted.set_read_timeout(Some(PATIENCE)).unwrap();
        receive(&accepted, 1, 1_000).is_ok_and(|count| count == 1_000)
    });
    assert!(passed);
    assert_exchange(&live.0, &live.1);
}
