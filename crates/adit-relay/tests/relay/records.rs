//! What is known of connections: while they live, and once they have ended.

use std::net::{SocketAddr, SocketAddrV4, TcpStream};
use std::sync::mpsc::Receiver;
use std::time::{Duration, SystemTime};

use adit_relay::{Admission, Close, Config, End, Owner, Record, Recorder};

use crate::rig::{
    OWNER, PATIENCE, Rig, SOURCE, address, assert_ended, assert_reset, backend, config, connect, eventually,
    receive, reset, send, target,
};

const WHO: Owner = Owner {
    endpoint: OWNER,
    service: 0x5e1,
    marker: 7,
};

fn rig(queued_max: usize) -> (Rig, Receiver<Record>) {
    let (recorder, records) = Recorder::new(queued_max);
    let config = Config {
        recorder: Some(recorder),
        ..config()
    };
    (Rig::with(config, |listener| listener.owner = WHO), records)
}

fn v4(address: SocketAddr) -> SocketAddrV4 {
    match address {
        SocketAddr::V4(address) => address,
        SocketAddr::V6(_) => unreachable!("connected by IPv4"),
    }
}

fn next(records: &Receiver<Record>) -> Record {
    records
        .recv_timeout(PATIENCE)
        .expect("a record of each connection")
}

#[test]
fn a_record_says_who_how_much_and_why() {
    let before = SystemTime::now();
    let (rig, records) = rig(10);
    let (client, mut accepted) = rig.connection();
    let (from, seen) = (
        v4(client.local_addr().unwrap()),
        v4(accepted.peer_addr().unwrap()),
    );
    send(&client, 1, 100_000).unwrap();
    assert_eq!(receive(&accepted, 1, 100_000).unwrap(), 100_000);
    send(&accepted, 1, 7).unwrap();
    assert_eq!(receive(&client, 1, 7).unwrap(), 7);

    // While it lives it can be asked for by what the backend sees.
    eventually("the connection to be counted up", || {
        let live = rig.relay.who(seen).unwrap();
        live.len() == 1 && live[0].bytes_to_client == 7
    });
    let live = rig.relay.who(seen).unwrap().remove(0);
    assert_eq!((live.end, live.client, live.source), (None, from, Some(seen)));
    assert!(
        rig.relay
            .who(SocketAddrV4::new(SOURCE, seen.port() ^ 1))
            .unwrap()
            .is_empty()
    );

    drop(client);
    assert_ended(&mut accepted);
    drop(accepted);
    let record = next(&records);
    let expected = Record {
        owner: WHO,
        client: from,
        endpoint: rig.endpoint,
        source: Some(seen),
        backend: address(&rig.backend),
        began: record.began,
        lasted: record.lasted,
        connected_after: record.connected_after,
        bytes_to_backend: 100_000,
        bytes_to_client: 7,
        end: Some(End::Closed),
    };
    assert_eq!(record, expected);
    // To a millisecond: what is told of two clocks is put together.
    assert!(
        record.began + Duration::from_millis(1) >= before
            && record.began + record.lasted <= SystemTime::now()
    );
    assert!(record.connected_after.unwrap() <= record.lasted);
    assert!(rig.relay.who(seen).unwrap().is_empty());
    assert_eq!(rig.stats().connect_times.count(), 1);
}

#[test]
fn whoever_was_refused_has_a_record_too() {
    let (rig, records) = rig(10);
    rig.relay.retarget(rig.id, target(address(&backend()))).unwrap();
    assert_reset(&mut connect(rig.endpoint));
    let refused = next(&records);
    assert_eq!(refused.end, Some(End::BackendRefused));
    assert!(refused.source.is_some() && refused.connected_after.is_none());

    for (admission, end) in [
        (
            Admission {
                allowed: Some([].into()),
                ..Admission::default()
            },
            End::NotAllowed,
        ),
        (
            Admission {
                max_connections: 0,
                ..Admission::default()
            },
            End::Limit,
        ),
    ] {
        rig.relay.admit(rig.id, admission);
        // It may be reset before it knows that it was connected.
        let _ = TcpStream::connect(rig.endpoint);
        let record = next(&records);
        assert_eq!((record.end, record.source), (Some(end), None));
        assert_eq!(record.endpoint, rig.endpoint);
    }
    assert_eq!(rig.stats().connect_times.count(), 0);
}

#[test]
fn a_full_queue_holds_nobody_up_and_what_is_lost_is_counted() {
    let (rig, records) = rig(2);
    for _ in 0..5 {
        let (client, accepted) = rig.connection();
        reset(client);
        drop(accepted);
    }
    rig.ended(End::ClientReset, 5);
    assert_eq!(rig.relay.snapshot().records_dropped, 3);
    assert_eq!(records.try_iter().count(), 2);
}

#[test]
fn an_owner_s_connections_end_together_whatever_listener_they_came_by() {
    let (rig, records) = rig(10);
    let (mut first, mut first_accepted) = rig.connection();
    // Its listener is gone; the connection was left alone.
    let forever = Close::Drain {
        within: Duration::MAX,
    };
    rig.relay.close(rig.id, forever).unwrap();
    let mut again = crate::rig::listener(address(&rig.backend));
    again.consumer.address = rig.endpoint;
    again.owner = WHO;
    rig.relay.open(again).unwrap();
    let (mut second, mut second_accepted) = rig.connection();
    assert_eq!(rig.relay.active(OWNER), 2);
    rig.relay.end(1, Close::Cut).unwrap();
    assert_eq!(rig.relay.active(OWNER), 2, "somebody else's are left alone");

    rig.relay.end(OWNER, forever).unwrap();
    send(&first, 1, 10).unwrap();
    assert_eq!(receive(&first_accepted, 1, 10).unwrap(), 10);
    let soon = Close::Drain {
        within: Duration::from_millis(100),
    };
    rig.relay.end(OWNER, soon).unwrap();
    for stream in [&mut first, &mut first_accepted, &mut second, &mut second_accepted] {
        assert_reset(stream);
    }
    rig.ended(End::Cut, 2);
    assert_eq!(rig.relay.active(OWNER), 0);
    assert!(
        [next(&records), next(&records)]
            .iter()
            .all(|r| r.end == Some(End::Cut))
    );
}
