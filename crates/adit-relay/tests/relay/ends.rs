//! How connections end when they do not end by themselves, and what is counted then.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::os::fd::OwnedFd;
use std::time::Duration;

use adit_relay::{Close, Config, End, Relay};
use rustix::net::{AddressFamily, SocketType};

use crate::rig::{
    OWNER, Rig, SOURCE, address, assert_ended, assert_refused, assert_reset, backend, config, connect,
    eventually, listener, receive, reset, send, stats,
};

#[test]
fn a_reset_is_passed_on_as_a_reset() {
    let rig = Rig::new();
    // Idle, in the copied and in the spliced part of a stream.
    for already_sent in [0, 100, 1_000_000] {
        for client_resets in [true, false] {
            let (client, accepted) = rig.connection();
            let (one, mut other) = if client_resets {
                (client, accepted)
            } else {
                (accepted, client)
            };
            std::thread::scope(|scope| {
                scope.spawn(|| send(&one, 1, already_sent).unwrap());
                assert_eq!(receive(&other, 1, already_sent).unwrap(), already_sent);
            });
            reset(one);
            assert_reset(&mut other);
        }
    }
    rig.ended(End::ClientReset, 3);
    rig.ended(End::BackendReset, 3);
}

#[test]
fn a_reset_passes_after_a_half_close_too() {
    let rig = Rig::new();
    let (client, mut accepted) = rig.connection();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    assert_ended(&mut accepted);
    let mut client = client;
    reset(accepted);
    assert_reset(&mut client);
    rig.ended(End::BackendReset, 1);
}

/// A reset in the middle of a stream that the other side does not read.
#[test]
fn a_reset_passes_a_full_buffer() {
    let rig = Rig::new();
    let (client, accepted) = rig.connection();
    std::thread::scope(|scope| {
        scope.spawn(|| send(&accepted, 1, 200_000_000).expect_err("nobody reads it"));
        rig.stands_still();
        reset(client);
    });
    rig.ended(End::ClientReset, 1);
}

/// And one by the side that sends, of which no bytes are listened for then.
#[test]
fn a_reset_is_heard_while_nothing_can_be_passed_on() {
    let rig = Rig::new();
    let (client, accepted) = rig.connection();
    accepted
        .set_write_timeout(Some(Duration::from_millis(200)))
        .unwrap();
    send(&accepted, 1, 200_000_000).expect_err("nobody reads it");
    rig.stands_still();
    reset(accepted);
    rig.ended(End::BackendReset, 1);
    let error = receive(&client, 1, 200_000_000).expect_err("a reset after what had come");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[test]
fn a_backend_that_refuses_is_a_reset() {
    let rig = Rig::new();
    let dead = address(&backend());
    rig.relay.retarget(rig.id, crate::rig::target(dead)).unwrap();
    assert_reset(&mut connect(rig.endpoint));
    rig.ended(End::BackendRefused, 1);
    assert_eq!(rig.stats().backend_connect_errors(), 1);
}

#[test]
fn a_backend_that_does_not_answer_is_a_reset() {
    let rig = Rig::with(
        Config {
            connect_timeout: Duration::from_millis(500),
            // The wait for a backend is no silence, however short that may be.
            idle_timeout: Duration::from_millis(100),
            ..config()
        },
        |_| {},
    );
    // A listener whose queue is full drops SYNs.
    let full = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    rustix::net::bind(&full, &SocketAddrV4::new(Ipv4Addr::new(127, 17, 0, 2), 0)).unwrap();
    rustix::net::listen(&full, 0).unwrap();
    let full_address = SocketAddrV4::try_from(rustix::net::getsockname(&full).unwrap()).unwrap();
    let _queued = TcpStream::connect(full_address).unwrap();
    rig.relay
        .retarget(rig.id, crate::rig::target(full_address))
        .unwrap();
    let mut client = connect(rig.endpoint);
    // A client that talks gets no longer for it.
    std::io::Write::write_all(&mut client, b"hello?").unwrap();
    assert_reset(&mut client);
    rig.ended(End::BackendTimeout, 1);
}

#[test]
fn a_source_that_is_not_local_is_a_reset_with_its_own_name() {
    let rig = Rig::with(config(), |listener| {
        listener.provider.source = Ipv4Addr::new(198, 19, 128, 1);
    });
    assert_reset(&mut connect(rig.endpoint));
    rig.ended(End::SourceMissing, 1);
}

#[test]
fn a_silent_connection_is_reset_on_both_sides() {
    let rig = Rig::with(
        Config {
            idle_timeout: Duration::from_secs(1),
            ..config()
        },
        |_| {},
    );
    let (mut client, mut accepted) = rig.connection();
    assert_reset(&mut client);
    assert_reset(&mut accepted);
    rig.ended(End::Idle, 1);
}

#[test]
fn a_cut_resets_both_sides_and_the_port_refuses_then_opens_again_at_once() {
    let rig = Rig::new();
    let mut id = rig.id;
    for _ in 0..20 {
        let connections: Vec<_> = (0..5).map(|_| rig.connection()).collect();
        rig.relay.close(id, Close::Cut).unwrap();
        assert_refused(rig.endpoint);
        for (mut client, mut accepted) in connections {
            assert_reset(&mut client);
            assert_reset(&mut accepted);
        }
        id = reopen(&rig);
    }
    rig.connection();
}

fn reopen(rig: &Rig) -> adit_relay::ListenerId {
    let mut again = listener(address(&rig.backend));
    again.consumer.address = rig.endpoint;
    rig.relay.open(again).unwrap()
}

#[test]
fn a_drain_lets_connections_end_until_its_deadline() {
    let rig = Rig::new();
    let (client, accepted) = rig.connection();
    rig.relay
        .close(
            rig.id,
            Close::Drain {
                within: Duration::from_secs(3_600),
            },
        )
        .unwrap();
    assert_refused(rig.endpoint);
    send(&client, 1, 100_000).unwrap();
    assert_eq!(receive(&accepted, 1, 100_000).unwrap(), 100_000);
    // A new listener there is none of the old one's business.
    let id = reopen(&rig);
    let (mut late, mut late_accepted) = rig.connection();
    rig.relay
        .close(
            id,
            Close::Drain {
                within: Duration::from_millis(300),
            },
        )
        .unwrap();
    assert_reset(&mut late);
    assert_reset(&mut late_accepted);
    drop(client);
    let mut accepted = accepted;
    assert_ended(&mut accepted);
    drop(accepted);
    eventually("both to be counted", || {
        stats(&rig.relay, OWNER)
            .is_none_or(|stats| stats.ended(End::Cut) == 1 && stats.ended(End::Closed) == 1)
    });
}

#[test]
fn a_drain_may_be_turned_into_a_cut() {
    let rig = Rig::new();
    let (mut client, mut accepted) = rig.connection();
    rig.relay
        .close(
            rig.id,
            Close::Drain {
                within: Duration::MAX,
            },
        )
        .unwrap();
    rig.relay.close(rig.id, Close::Cut).unwrap();
    assert_reset(&mut client);
    assert_reset(&mut accepted);
}

#[test]
fn stopping_cuts_or_drains() {
    let rig = Rig::new();
    let (mut client, _accepted) = rig.connection();
    rig.relay.stop(Close::Cut);
    assert_reset(&mut client);
    assert_refused(rig.endpoint);
    rig.relay.stop(Close::Cut);
    assert!(matches!(
        rig.relay.open(listener(address(&rig.backend))),
        Err(adit_relay::OpenError::Stopped)
    ));
    rig.relay.close(rig.id, Close::Cut).unwrap();

    let rig = Rig::new();
    let (client, accepted) = rig.connection();
    let rig_relay = &rig.relay;
    std::thread::scope(|scope| {
        let drain = Close::Drain {
            within: Duration::from_secs(3_600),
        };
        let stopping = scope.spawn(move || rig_relay.stop(drain));
        eventually("the port to refuse", || TcpStream::connect(rig.endpoint).is_err());
        send(&client, 1, 500_000).unwrap();
        assert_eq!(receive(&accepted, 1, 500_000).unwrap(), 500_000);
        assert!(!stopping.is_finished());
        drop((client, accepted));
        // The connects above that were in time are connections too, and wait for the backend's end.
        rig.backend.set_nonblocking(true).unwrap();
        eventually("the drain to end", || {
            let _ = rig.backend.accept();
            stopping.is_finished()
        });
    });
    let stats = rig.stats();
    assert_eq!((stats.active, stats.ended(End::Cut)), (0, 0));

    let rig = Rig::new();
    let (mut client, _accepted) = rig.connection();
    rig.relay.stop(Close::Drain {
        within: Duration::from_millis(100),
    });
    assert_reset(&mut client);
}

#[test]
fn the_limit_on_connections_is_the_owners_and_spares_the_backend() {
    let rig = Rig::with(config(), |listener| listener.admission.max_connections = 3);
    // The owner's second listener counts into the same limit.
    let mut second = listener(address(&rig.backend));
    second.admission.max_connections = 3;
    let second = rig.relay.open(second).unwrap();
    let mut live: Vec<_> = (0..3).map(|_| rig.connection()).collect();
    let mut refused = connect(rig.relay.local_address(second).unwrap());
    assert_reset(&mut refused);
    assert_eq!(rig.stats().ended(End::Limit), 1);
    rig.backend.set_nonblocking(true).unwrap();
    assert!(rig.backend.accept().is_err(), "the backend was touched");
    rig.backend.set_nonblocking(false).unwrap();
    live.pop();
    eventually("a place to be free", || rig.stats().active == 2);
    rig.connection();
}

#[test]
fn beyond_the_descriptor_budget_connections_are_refused_by_name() {
    let rig = Rig::with(
        Config {
            descriptors_max: Some(32),
            ..config()
        },
        |_| {},
    );
    let live: Vec<_> = (0..13).map(|_| rig.connection()).collect();
    assert_reset(&mut connect(rig.endpoint));
    drop(live);
    eventually("descriptors to be free", || rig.stats().active == 0);
    rig.connection();
    assert_eq!(rig.stats().ended(End::OutOfDescriptors), 1);
}

#[test]
fn every_accepted_connection_ends_once() {
    let rig = Rig::new();
    for i in 0..60 {
        let (client, accepted) = rig.connection();
        match i % 3 {
            0 => drop((client, accepted)),
            1 => reset(client),
            _ => reset(accepted),
        }
    }
    eventually("all to be over", || rig.stats().active == 0);
    let stats = rig.stats();
    assert_eq!((stats.accepted, stats.finished()), (60, 60));
    assert_eq!(
        stats.ended(End::Closed) + stats.ended(End::ClientReset) + stats.ended(End::BackendReset),
        60
    );
    assert_eq!(
        rig.relay.snapshot().descriptors_used,
        2,
        "one listener of two sockets is left"
    );
}

#[test]
fn a_descriptor_that_names_no_namespace_is_refused() {
    let relay = Relay::start(config()).unwrap();
    let null: OwnedFd = std::fs::File::open("/dev/null").unwrap().into();
    let mut bad = listener(SocketAddrV4::new(SOURCE, 1));
    bad.provider.namespace = std::sync::Arc::new(null);
    let error = relay.open(bad.clone()).unwrap_err();
    assert!(
        matches!(error, adit_relay::OpenError::Namespace { leg: "provider", .. }),
        "{error:?}"
    );
    bad.consumer.namespace = std::mem::replace(&mut bad.provider.namespace, crate::rig::here());
    let error = relay.open(bad).unwrap_err();
    assert!(
        matches!(error, adit_relay::OpenError::Namespace { leg: "consumer", .. }),
        "{error:?}"
    );
    assert_eq!(relay.snapshot().descriptors_used, 0);
}
