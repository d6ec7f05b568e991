//! Opening, retargeting and closing listeners.

use std::net::{Ipv4Addr, SocketAddrV4};

use adit_relay::{Close, Config, OpenError, Relay, RetargetError};

use crate::rig::{
    OWNER, PATIENCE, Rig, SOURCE, address, assert_refused, backend, config, connect, listener, receive, send,
    stats, target,
};

#[test]
fn an_address_belongs_to_one_listener() {
    for workers in [1, 3] {
        let rig = Rig::with(Config { workers, ..config() }, |_| {});
        let mut other = listener(address(&rig.backend));
        other.owner = (OWNER + 1).into();
        other.consumer.address = rig.endpoint;
        let error = rig.relay.open(other.clone()).unwrap_err();
        assert!(
            matches!(error, OpenError::AddressInUse(address) if address == rig.endpoint),
            "{error:?}"
        );
        let stranger = Relay::start(config()).unwrap();
        assert!(matches!(stranger.open(other), Err(OpenError::AddressInUse(_))));
        assert_eq!(stranger.snapshot().descriptors_used, 0);
    }
}

#[test]
fn an_address_that_is_not_there_is_named() {
    let relay = Relay::start(config()).unwrap();
    let mut elsewhere = listener(address(&backend()));
    elsewhere.consumer.address = SocketAddrV4::new(Ipv4Addr::new(203, 0, 113, 1), 80);
    assert!(matches!(
        relay.open(elsewhere),
        Err(OpenError::AddressNotAvailable(_))
    ));
}

#[test]
fn beyond_the_descriptor_budget_listeners_are_refused_by_name() {
    let relay = Relay::start(Config {
        descriptors_max: Some(16),
        ..config()
    })
    .unwrap();
    let backend = backend();
    let error = (0..9)
        .find_map(|_| relay.open(listener(address(&backend))).err())
        .expect("a limit");
    assert!(
        matches!(error, OpenError::Descriptors { budget: 16, .. }),
        "{error:?}"
    );
    // Two groups of two sockets are a quarter; four listeners of one socket fill the half.
    assert_eq!(
        (relay.snapshot().listeners, relay.snapshot().descriptors_used),
        (6, 8)
    );
}

#[test]
fn all_workers_of_a_group_serve() {
    let rig = Rig::with(
        Config {
            workers: 4,
            ..config()
        },
        |_| {},
    );
    for _ in 0..100 {
        let (client, accepted) = rig.connection();
        send(&client, 1, 10).unwrap();
        assert_eq!(receive(&accepted, 1, 10).unwrap(), 10);
    }
}

#[test]
fn a_new_target_is_for_new_connections() {
    let rig = Rig::new();
    let (old_client, old_accepted) = rig.connection();
    let other = backend();
    rig.relay.retarget(rig.id, target(address(&other))).unwrap();
    for _ in 0..20 {
        let client = connect(rig.endpoint);
        let (accepted, _) = other.accept().unwrap();
        accepted.set_read_timeout(Some(PATIENCE)).unwrap();
        send(&client, 1, 10).unwrap();
        assert_eq!(receive(&accepted, 1, 10).unwrap(), 10);
    }
    send(&old_client, 2, 1_000).unwrap();
    assert_eq!(receive(&old_accepted, 2, 1_000).unwrap(), 1_000);

    rig.relay.close(rig.id, Close::Cut).unwrap();
    assert!(matches!(
        rig.relay.retarget(rig.id, target(address(&other))),
        Err(RetargetError::Unknown)
    ));
}

#[test]
fn many_listeners_open_and_close_and_leave_nothing() {
    let rig = Rig::new();
    let backend = address(&rig.backend);
    let ids: Vec<_> = (0..200)
        .map(|i| {
            let mut one = listener(backend);
            one.owner = (1_000 + i).into();
            one.consumer.address = SocketAddrV4::new(Ipv4Addr::new(127, 18, 1, 1 + (i % 250) as u8), 7_000);
            rig.relay.open(one).unwrap()
        })
        .collect();
    assert_eq!(rig.relay.snapshot().listeners, 201);
    let endpoints: Vec<_> = ids
        .iter()
        .map(|id| rig.relay.local_address(*id).unwrap())
        .collect();
    connect(endpoints[7]);
    rig.backend.accept().unwrap();
    for id in ids {
        rig.relay.close(id, Close::Cut).unwrap();
    }
    for endpoint in endpoints {
        assert_refused(endpoint);
    }
    assert_eq!(
        stats(&rig.relay, 1_007).map(|stats| (stats.accepted, stats.active)),
        Some((1, 0))
    );
    assert_eq!(
        stats(&rig.relay, 1_007),
        None,
        "a departed owner is reported once more, then forgotten"
    );
    let snapshot = rig.relay.snapshot();
    assert_eq!((snapshot.listeners, snapshot.descriptors_used), (1, 2));
}

/// Every call at once, from several threads, under traffic: no answer is lost, and what a client gets is whole or cut.
#[test]
fn listeners_come_and_go_under_traffic() {
    let rig = Rig::new();
    let backend = address(&rig.backend);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            // A server that echoes until there is nobody left; a stranger's connect sends it home.
            scope.spawn(|| {
                while let Ok((mut stream, from)) = rig.backend.accept() {
                    if from.ip() != SOURCE {
                        return;
                    }
                    // An error is a cut connection, which is what this is about.
                    let _ = std::io::copy(&mut stream.try_clone().unwrap(), &mut stream);
                }
            });
        }
        let callers: Vec<_> = (0..4_u8)
            .map(|caller| {
                let rig = &rig;
                scope.spawn(move || {
                    for round in 0..100_u64 {
                        let mut one = listener(backend);
                        one.owner = u128::from(caller).into();
                        one.consumer.address =
                            SocketAddrV4::new(Ipv4Addr::new(127, 18, 2, caller + 1), 7_000);
                        let id = rig.relay.open(one.clone()).unwrap();
                        let client = connect(one.consumer.address);
                        send(&client, round, 50_000).unwrap();
                        rig.relay.retarget(id, target(backend)).unwrap();
                        if round % 2 == 0 {
                            assert_eq!(receive(&client, round, 50_000).unwrap(), 50_000);
                        }
                        rig.relay.close(id, Close::Cut).unwrap();
                        assert_refused(one.consumer.address);
                    }
                })
            })
            .collect();
        let results: Vec<_> = callers
            .into_iter()
            .map(std::thread::ScopedJoinHandle::join)
            .collect();
        for _ in 0..4 {
            drop(std::net::TcpStream::connect(backend));
        }
        assert!(results.iter().all(Result::is_ok), "a caller failed");
    });
    let snapshot = rig.relay.snapshot();
    assert_eq!(snapshot.listeners, 1);
    assert!(
        snapshot
            .owners
            .iter()
            .all(|stats| stats.active == 0 && stats.accepted == stats.finished())
    );
}
