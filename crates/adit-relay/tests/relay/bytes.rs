//! Every byte arrives, in order, once, and so does the end of each direction.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread;

use adit_relay::End;
use adit_relay::proxy_protocol::{Header, Identity, Profile, TlvTypes};

use crate::rig::{OWNER, Rig, address, assert_ended, config, receive, receive_all, send, target};

/// Around every threshold of the data path, and the 20 MB of the service's own bar.
const SIZES: [u64; 9] = [
    0, 1, 4_096, 65_535, 65_536, 65_537, 262_145, 3_000_000, 20_000_000,
];

#[test]
fn the_client_ends_first_and_the_answer_still_comes() {
    let rig = Rig::new();
    for up in SIZES {
        for down in [0, 1, 65_537, 20_000_000] {
            let (client, accepted) = rig.connection();
            thread::scope(|scope| {
                scope.spawn(|| {
                    receive_all(&accepted, 1, up);
                    send(&accepted, 2, down).unwrap();
                    accepted.shutdown(Shutdown::Write).unwrap();
                });
                send(&client, 1, up).unwrap();
                client.shutdown(Shutdown::Write).unwrap();
                receive_all(&client, 2, down);
            });
        }
    }
    rig.ended(End::Closed, SIZES.len() as u64 * 4);
}

#[test]
fn the_backend_ends_first_and_the_client_goes_on() {
    let rig = Rig::new();
    for down in SIZES {
        let (client, accepted) = rig.connection();
        let up = 20_000_000 - down;
        thread::scope(|scope| {
            scope.spawn(|| {
                send(&accepted, 3, down).unwrap();
                accepted.shutdown(Shutdown::Write).unwrap();
                receive_all(&accepted, 4, up);
            });
            receive_all(&client, 3, down);
            send(&client, 4, up).unwrap();
            client.shutdown(Shutdown::Write).unwrap();
        });
    }
    rig.ended(End::Closed, SIZES.len() as u64);
    let stats = rig.stats();
    let down: u64 = SIZES.iter().sum();
    assert_eq!(
        (stats.bytes_to_client, stats.bytes_to_backend),
        (down, SIZES.len() as u64 * 20_000_000 - down)
    );
}

#[test]
fn a_close_right_after_the_last_byte_loses_none() {
    let rig = Rig::new();
    for size in SIZES {
        let (client, accepted) = rig.connection();
        thread::scope(|scope| {
            scope.spawn(move || {
                send(&accepted, 5, size).unwrap();
                drop(accepted);
            });
            receive_all(&client, 5, size);
        });
        let (client, accepted) = rig.connection();
        thread::scope(|scope| {
            scope.spawn(move || {
                send(&client, 6, size).unwrap();
                drop(client);
            });
            receive_all(&accepted, 6, size);
        });
    }
    rig.ended(End::Closed, SIZES.len() as u64 * 2);
}

#[test]
fn both_directions_at_once() {
    const SIZE: u64 = 40_000_000;
    let rig = Rig::new();
    let (client, accepted) = rig.connection();
    thread::scope(|scope| {
        for (stream, out, back) in [(&client, 7, 8), (&accepted, 8, 7)] {
            scope.spawn(move || {
                send(stream, out, SIZE).unwrap();
                stream.shutdown(Shutdown::Write).unwrap();
            });
            scope.spawn(move || receive_all(stream, back, SIZE));
        }
    });
    rig.ended(End::Closed, 1);
}

/// The client reads now and then; the last time, the backend has ended long since.
#[test]
fn a_stream_goes_on_after_each_standstill() {
    const PART: u64 = 60_000_000;
    let rig = Rig::new();
    let (client, accepted) = rig.connection();
    thread::scope(|scope| {
        scope.spawn(move || {
            send(&accepted, 9, 4 * PART).unwrap();
            drop(accepted);
        });
        for part in 0..4 {
            rig.stands_still();
            assert_eq!(receive(&client, 9 + part * PART, PART).unwrap(), PART);
        }
        let mut client = &client;
        assert_eq!(client.read(&mut [0]).unwrap(), 0);
        client.shutdown(Shutdown::Write).unwrap();
    });
    rig.ended(End::Closed, 1);
}

#[test]
fn a_conversation_of_small_messages_beyond_the_splice_threshold() {
    let rig = Rig::new();
    let (client, accepted) = rig.connection();
    for round in 0..2_000 {
        let size = 1 + round % 200;
        send(&client, round, size).unwrap();
        assert_eq!(receive(&accepted, round, size).unwrap(), size);
        send(&accepted, round, size).unwrap();
        assert_eq!(receive(&client, round, size).unwrap(), size);
    }
}

#[test]
fn urgent_data_does_not_hold_up_the_rest() {
    let rig = Rig::new();
    let (client, accepted) = rig.connection();
    for round in 0..200 {
        send(&client, round, 100).unwrap();
        rustix::net::send(&client, b"!", rustix::net::SendFlags::OOB).unwrap();
        send(&client, round + 100, 100).unwrap();
        // The urgent byte itself is out of band, and not passed on.
        assert_eq!(receive(&accepted, round, 200).unwrap(), 200);
    }
}

fn header(marker: u32) -> Header {
    let identity = Identity {
        endpoint: OWNER,
        marker,
        vni: Some(7),
    };
    Header::new(Profile::Vpcep, &identity, TlvTypes::default(), false)
}

/// What the backend hears first of a connection is exactly this.
fn assert_heard(rig: &Rig, client: &TcpStream, accepted: &mut TcpStream, header: &Header) {
    let SocketAddr::V4(from) = client.local_addr().unwrap() else {
        unreachable!("connected by IPv4")
    };
    let expected = header.encode(from, rig.endpoint);
    let mut head = vec![0; expected.len()];
    accepted.read_exact(&mut head).unwrap();
    assert_eq!(head, &*expected);
}

#[test]
fn the_header_comes_before_any_client_byte() {
    let rig = Rig::with(config(), |listener| listener.provider.header = Some(header(1)));
    let (client, mut accepted) = rig.connection();
    // It does not wait for the client to speak.
    assert_heard(&rig, &client, &mut accepted, &header(1));
    send(&client, 9, 1_000_000).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    receive_all(&accepted, 9, 1_000_000);
    drop(accepted);
    rig.ended(End::Closed, 1);
    assert_eq!(
        rig.stats().bytes_to_backend,
        1_000_000,
        "the header is not the client's"
    );
}

#[test]
fn another_header_is_for_new_connections() {
    let rig = Rig::new();
    let (plain, mut plain_accepted) = rig.connection();
    for marker in [1, 2] {
        let mut target = target(address(&rig.backend));
        target.header = Some(header(marker));
        rig.relay.retarget(rig.id, target).unwrap();
        let (client, mut accepted) = rig.connection();
        assert_heard(&rig, &client, &mut accepted, &header(marker));
    }
    rig.relay.retarget(rig.id, target(address(&rig.backend))).unwrap();
    let (mut client, mut accepted) = rig.connection();
    for (from, to) in [
        (&mut client, &mut accepted),
        (&mut { plain }, &mut plain_accepted),
    ] {
        from.write_all(b"nothing but this").unwrap();
        let mut heard = [0; 16];
        to.read_exact(&mut heard).unwrap();
        assert_eq!(&heard, b"nothing but this");
    }
}

#[test]
fn what_a_backend_says_before_it_resets_is_passed_on() {
    let rig = Rig::new();
    for _ in 0..50 {
        let (mut client, mut accepted) = rig.connection();
        // It closes with unread bytes, as servers do that have heard enough: data, then a reset.
        client.write_all(b"more than the server wants").unwrap();
        accepted.read_exact(&mut [0; 4]).unwrap();
        accepted.write_all(b"413 no").unwrap();
        drop(accepted);
        let mut answer = [0; 6];
        client.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"413 no");
        crate::rig::assert_reset(&mut client);
    }
    rig.ended(End::BackendReset, 50);
}

#[test]
fn nothing_said_is_an_end_too() {
    let rig = Rig::new();
    let (client, mut accepted) = rig.connection();
    drop(client);
    assert_ended(&mut accepted);
    drop(accepted);
    rig.ended(End::Closed, 1);
}
