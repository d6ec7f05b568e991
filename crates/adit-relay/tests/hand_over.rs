//! Another process takes the listeners over, under load: not one client is refused, and connections that exist go on. The
//! other process is this test binary, run again.
#![allow(
    clippy::unwrap_used,
    reason = "this is a test, also where no function is marked so"
)]

mod rig;

use std::io::{Read, Write};
use std::net::{SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use adit_relay::{Close, Config, HandOverError, Inherited, Relay, hand_over_channel, knock, open_door};
use rig::{OWNER, PATIENCE, Rig, address, assert_reset, config, connect, eventually, listener, stats};

/// Tells the successor which listeners there are: endpoint and backend, separated by a space.
const LISTENERS: &str = "ADIT_TEST_LISTENERS";
const CLIENTS: usize = 8;
const FOREVER: Close = Close::Drain {
    within: Duration::MAX,
};

/// No test of its own: what runs in the other process.
#[test]
fn successor() {
    let Ok(listeners) = std::env::var(LISTENERS) else {
        return;
    };
    let channel = std::io::stdin().as_fd().try_clone_to_owned().unwrap();
    let inherited = Arc::new(Inherited::receive(channel).unwrap());
    // One more than there were: each socket still has one worker.
    let relay = Relay::start(Config {
        workers: 3,
        inherited: Some(Arc::clone(&inherited)),
        ..config()
    })
    .unwrap();
    for line in listeners.lines() {
        let (endpoint, backend) = line.split_once(' ').unwrap();
        let mut listener = listener(backend.parse().unwrap());
        listener.consumer.address = endpoint.parse().unwrap();
        relay.open(listener).unwrap();
    }
    assert_eq!(inherited.unclaimed(), 0);
    inherited.done().unwrap();
    // Until the test is over, and kills it.
    loop {
        thread::park();
    }
}

struct Successor(Child);

impl Successor {
    fn start(channel: OwnedFd, listeners: &str) -> Self {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "successor", "--nocapture"])
            .env(LISTENERS, listeners)
            .stdin(Stdio::from(channel))
            .spawn();
        Self(child.unwrap())
    }
}

impl Drop for Successor {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn echo(backend: TcpListener) {
    thread::spawn(move || {
        for stream in backend.incoming().map_while(Result::ok) {
            thread::spawn(move || {
                let mut stream = stream;
                let mut byte = [0];
                while stream.read(&mut byte).is_ok_and(|n| n > 0) && stream.write_all(&byte).is_ok() {}
            });
        }
    });
}

fn exchange(stream: &mut TcpStream) {
    stream.write_all(b"?").unwrap();
    let mut byte = [0];
    stream.read_exact(&mut byte).unwrap();
    assert_eq!(&byte, b"?");
}

/// Connects again and again, and dies of the first connection that is refused, reset or not answered.
fn load(endpoint: SocketAddrV4, over: &AtomicBool, served: &AtomicU64) {
    while !over.load(Relaxed) {
        exchange(&mut connect(endpoint));
        served.fetch_add(1, Relaxed);
    }
}

#[test]
fn another_process_takes_over_and_no_client_notices() {
    let Rig {
        relay,
        endpoint,
        backend,
        ..
    } = Rig::new();
    let to = address(&backend);
    echo(backend);
    let mut second = listener(to);
    second.consumer.address.set_port(0);
    let second = relay.open(second).unwrap();
    let endpoints = [endpoint, relay.local_address(second).unwrap()];
    let (over, served) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut old = connect(endpoint);
    exchange(&mut old);

    let (ours, theirs) = hand_over_channel().unwrap();
    thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|n| {
                scope.spawn({
                    let (over, served) = (&over, &served);
                    move || load(endpoints[n % 2], over, served)
                })
            })
            .collect();
        eventually("the load to run", || served.load(Relaxed) > 500);
        let listeners = endpoints.map(|endpoint| format!("{endpoint} {to}")).join("\n");
        let _successor = Successor::start(theirs, &listeners);
        let handing = scope.spawn(|| {
            let count = relay.hand_over(&ours, &[], PATIENCE);
            relay.follow(&ours, FOREVER);
            count
        });
        eventually("the old process to stop accepting", || {
            relay.snapshot().listeners == 0 && stats(&relay, OWNER).is_some_and(|stats| stats.active == 1)
        });
        let last = stats(&relay, OWNER).unwrap().accepted;
        let before = served.load(Relaxed);
        eventually("the new process to serve", || {
            served.load(Relaxed) > before + 1_000
        });
        assert_eq!(stats(&relay, OWNER).unwrap().accepted, last);
        // What the old process had goes on there until it ends by itself.
        exchange(&mut old);
        assert!(!handing.is_finished());
        drop(old);
        assert_eq!(handing.join().unwrap().unwrap(), 2);
        over.store(true, Relaxed);
        for client in clients {
            client
                .join()
                .expect("a client was refused, reset or not answered");
        }
    });
    assert!(served.load(Relaxed) > 1_500);
}

#[test]
fn a_successor_that_dies_changes_nothing() {
    let rig = Rig::new();
    let (ours, theirs) = hand_over_channel().unwrap();
    let receiving = thread::spawn(|| Inherited::receive(theirs).unwrap());
    thread::scope(|scope| {
        let handing = scope.spawn(|| rig.relay.hand_over(&ours, &[], PATIENCE));
        let inherited = receiving.join().unwrap();
        assert_eq!(inherited.unclaimed(), 1);
        // It has the sockets, and is not done.
        drop(inherited);
        let gone = handing.join().unwrap();
        assert!(matches!(gone, Err(HandOverError::Gone)), "{gone:?}");
    });
    rig.connection();
}

#[test]
fn what_is_no_hand_over_is_not_taken_for_one() {
    let (ours, theirs) = hand_over_channel().unwrap();
    rustix::net::send(&ours, b"hello", rustix::net::SendFlags::empty()).unwrap();
    assert!(matches!(Inherited::receive(theirs), Err(HandOverError::Unknown)));

    // Nobody answers: patience ends, and the relay goes on.
    let rig = Rig::new();
    let (ours, _theirs) = hand_over_channel().unwrap();
    let silence = rig.relay.hand_over(&ours, &[], Duration::from_millis(50));
    assert!(
        matches!(silence, Err(HandOverError::Channel { .. })),
        "{silence:?}"
    );
    let (client, accepted) = rig.connection();
    drop(accepted);
    rig.relay.stop(Close::Cut);
    let mut client = client;
    let _ = client.read(&mut [0]);
}

#[test]
fn what_nobody_claims_is_closed() {
    let rig = Rig::new();
    let (ours, theirs) = hand_over_channel().unwrap();
    let receiving = thread::spawn(|| Inherited::receive(theirs).unwrap());
    let (mut client, _accepted) = rig.connection();
    thread::scope(|scope| {
        let handing = scope.spawn(|| rig.relay.hand_over(&ours, &[], PATIENCE));
        let inherited = receiving.join().unwrap();
        inherited.done().unwrap();
        assert_eq!(handing.join().unwrap().unwrap(), 1);
    });
    rig.relay.stop(Close::Cut);
    assert_reset(&mut client);
    rig::assert_refused(rig.endpoint);
}

#[test]
fn keepsakes_go_along_and_the_door_is_found_by_its_file() {
    let folder = std::env::temp_dir().join(format!("adit-door-{}", std::process::id()));
    std::fs::create_dir(&folder).unwrap();
    let path = folder.join("hand-over.sock");
    assert_eq!(
        knock(&path).unwrap_err().kind(),
        std::io::ErrorKind::NotFound,
        "nobody is there yet"
    );
    // One that was killed leaves its file behind.
    drop(open_door(&path).unwrap());
    assert_eq!(
        knock(&path).unwrap_err().kind(),
        std::io::ErrorKind::ConnectionRefused
    );
    let door = open_door(&path).unwrap();
    assert_eq!(door.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    let theirs = knock(&path).unwrap();
    let ours = OwnedFd::from(door.accept().unwrap().0);

    let rig = Rig::new();
    let (mut one, two) = std::io::pipe().unwrap();
    let keepsakes = [(u128::MAX - 7, Arc::new(OwnedFd::from(two)))];
    thread::scope(|scope| {
        let handing = scope.spawn(|| rig.relay.hand_over(&ours, &keepsakes, PATIENCE));
        let inherited = Inherited::receive(theirs).unwrap();
        assert!(inherited.keepsake(1).is_none());
        let kept = inherited.keepsake(u128::MAX - 7).unwrap();
        assert!(inherited.keepsake(u128::MAX - 7).is_none(), "it is taken once");
        rustix::io::write(&kept, b"!").unwrap();
        inherited.done().unwrap();
        assert_eq!(handing.join().unwrap().unwrap(), 1);
    });
    let mut byte = [0];
    one.read_exact(&mut byte).unwrap();
    assert_eq!(&byte, b"!");
    // Until it is stopped it serves, too.
    rig.connection();
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn the_process_that_was_followed_ends_what_its_successor_is_told_to_end() {
    let rig = Rig::new();
    let (ours, theirs) = hand_over_channel().unwrap();
    let receiving = thread::spawn(|| Inherited::receive(theirs).unwrap());
    let (mut client, _accepted) = rig.connection();
    thread::scope(|scope| {
        let handing = scope.spawn(|| {
            let count = rig.relay.hand_over(&ours, &[], PATIENCE);
            rig.relay.follow(&ours, FOREVER);
            count
        });
        let inherited = Arc::new(receiving.join().unwrap());
        let successor = Relay::start(Config {
            inherited: Some(Arc::clone(&inherited)),
            ..config()
        });
        let successor = successor.unwrap();
        let mut listener = listener(address(&rig.backend));
        listener.consumer.address = rig.endpoint;
        successor.open(listener).unwrap();
        inherited.done().unwrap();
        // Somebody else's end is nothing to it.
        successor.end(OWNER + 1, Close::Cut).unwrap();
        successor.end(OWNER, FOREVER).unwrap();
        eventually("the old one to have only its connection", || {
            rig.relay.snapshot().listeners == 0
        });
        assert!(!handing.is_finished());
        successor.end(OWNER, Close::Cut).unwrap();
        assert_reset(&mut client);
        assert_eq!(handing.join().unwrap().unwrap(), 1);
        // Nobody is left to be told.
        successor.end(OWNER, Close::Cut).unwrap();
    });
}
