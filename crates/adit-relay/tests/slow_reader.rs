//! A client that does not read must not make the relay hold what it does not read. Alone in its
//! process, since it measures the process's memory. `ADIT_SLOW_READER_MB=3000` makes it the long one.
#![allow(
    clippy::unwrap_used,
    reason = "this is a test, also where no function is marked so"
)]

mod rig;

use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use adit_relay::Config;
use rig::{Rig, config, eventually, receive, receive_all, send};
use rustix::net::{AddressFamily, SocketType, sockopt};

/// What the process may grow by, the test's own buffers included.
const GROWTH_KB_MAX: u64 = 10 << 10;

fn resident_kb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// One test, since two at once would measure each other.
#[test]
fn memory_stays_bounded_while_clients_do_not_read() {
    one_slow_reader();
    more_slow_readers_than_pipes();
}

fn one_slow_reader() {
    let total = std::env::var("ADIT_SLOW_READER_MB").map_or(300, |mb| mb.parse::<u64>().unwrap()) * 1_000_000;
    let rig = Rig::new();
    // Once through everything, so that what is allocated once is allocated.
    let (client, accepted) = rig.connection();
    thread::scope(|scope| {
        scope.spawn(|| send(&accepted, 1, 5_000_000).unwrap());
        assert_eq!(receive(&client, 1, 5_000_000).unwrap(), 5_000_000);
    });
    let before = resident_kb();
    thread::scope(|scope| {
        scope.spawn(move || {
            send(&accepted, 2, total).unwrap();
            drop(accepted);
        });
        let mut got = 0;
        // Stand still eight times, each time until all that can fill up is full.
        while got < total {
            let passed = || rig.stats().bytes_to_client;
            eventually("the stream to stand still", || {
                let so_far = passed();
                thread::sleep(Duration::from_millis(20));
                so_far == passed()
            });
            assert!(
                passed() < got + 50_000_000 + 5_000_000,
                "the relay must wait for the client"
            );
            let growth = resident_kb().saturating_sub(before);
            assert!(
                growth < GROWTH_KB_MAX,
                "grew by {growth} kB with {got} bytes read"
            );
            got += receive(&client, 2 + got, (total / 8).min(total - got)).unwrap();
        }
        receive_all(&client, 0, 0);
    });
}

/// Many readers stand still at once: pipes run out, and what is copied instead is bounded too.
fn more_slow_readers_than_pipes() {
    // One worker has at most 128 pipes.
    const READERS: u64 = 140;
    const EACH: u64 = 8_000_000;
    let rig = Rig::with(
        Config {
            workers: 1,
            ..config()
        },
        |_| {},
    );
    let connections: Vec<_> = (0..READERS)
        .map(|_| connection_with_small_buffers(&rig))
        .collect();
    let before = resident_kb();
    thread::scope(|scope| {
        for (_, accepted) in &connections {
            scope.spawn(move || {
                send(accepted, 3, EACH).unwrap();
                accepted.shutdown(std::net::Shutdown::Write).unwrap();
            });
        }
        eventually("all streams to stand still", || {
            let so_far = rig.stats().bytes_to_client;
            thread::sleep(Duration::from_millis(100));
            so_far == rig.stats().bytes_to_client
        });
        // 64 KiB each for those without a pipe, and as much again for the senders' threads.
        let growth = resident_kb().saturating_sub(before);
        assert!(growth < READERS * 128 + GROWTH_KB_MAX, "grew by {growth} kB");
        for (client, _) in &connections {
            receive_all(client, 3, EACH);
        }
    });
    drop(connections);
    eventually("all to be over", || rig.stats().active == 0);
}

/// The kernel's memory for TCP is limited too, and not what is looked at here.
fn connection_with_small_buffers(rig: &Rig) -> (TcpStream, TcpStream) {
    let client = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    sockopt::set_socket_recv_buffer_size(&client, 65_536).unwrap();
    rustix::net::connect(&client, &rig.endpoint).unwrap();
    let (accepted, _) = rig.backend.accept().unwrap();
    sockopt::set_socket_send_buffer_size(&accepted, 65_536).unwrap();
    (client.into(), accepted)
}
