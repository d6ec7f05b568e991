//! Ten thousand connections through one listener: nothing lost, nothing truncated, nothing left
//! behind. Alone in its process, since it counts the process's descriptors and threads.
#![allow(
    clippy::unwrap_used,
    reason = "this is a test, also where no function is marked so"
)]

mod rig;

use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;

use adit_relay::{Close, End};
use rig::{Rig, connect, descriptors, eventually, receive, receive_all, relay_threads, send};

const CONNECTIONS: u64 = 10_000;
/// At once; each takes four descriptors of this process, so it stays far below its limit.
const CLIENTS: u64 = 48;

/// What connection `n` sends and is sent: mostly little, now and then 20 MB, never correlated.
fn sizes(n: u64) -> (u64, u64) {
    let size = |n: u64| {
        let random = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 16;
        match n % 1_000 {
            999 => 20_000_000,
            950.. => random % 1_000_000,
            700.. => random % 100_000,
            300.. => random % 2_000,
            100.. => 1,
            _ => 0,
        }
    };
    (size(n), size(n.wrapping_mul(7) + 3))
}

/// Serves one connection: its first eight bytes say which it is, and so what is to come.
fn serve(stream: &TcpStream) {
    let mut number = [0; 8];
    std::io::Read::read_exact(&mut { stream }, &mut number).unwrap();
    let n = u64::from_le_bytes(number);
    let (up, down) = sizes(n);
    if n.is_multiple_of(2) {
        // The backend hears the client out first.
        receive_all(stream, n, up);
        send(stream, n + 1, down).unwrap();
    } else {
        send(stream, n + 1, down).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        receive_all(stream, n, up);
    }
}

fn converse(stream: &TcpStream, n: u64) {
    let (up, down) = sizes(n);
    std::io::Write::write_all(&mut { stream }, &n.to_le_bytes()).unwrap();
    if n.is_multiple_of(2) {
        send(stream, n, up).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        receive_all(stream, n + 1, down);
    } else {
        // The backend has ended its direction; ours is open still.
        receive_all(stream, n + 1, down);
        send(stream, n, up).unwrap();
        assert_eq!(receive(stream, 0, 1).unwrap(), 0);
    }
}

fn serve_all(backend: &TcpListener) {
    while let Ok((stream, _)) = backend.accept() {
        if stream.peer_addr().unwrap().ip() != rig::SOURCE {
            return;
        }
        serve(&stream);
    }
}

#[test]
fn ten_thousand_connections_lose_nothing_and_leave_nothing() {
    let (descriptors_before, threads_before) = (descriptors(), relay_threads());
    let rig = Rig::new();
    let next = AtomicU64::new(0);
    thread::scope(|scope| {
        // As many that serve as there can be connections, so that none waits for another.
        for _ in 0..CLIENTS {
            scope.spawn(|| serve_all(&rig.backend));
        }
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                scope.spawn(|| {
                    loop {
                        let n = next.fetch_add(1, Relaxed);
                        if n >= CONNECTIONS {
                            return;
                        }
                        converse(&connect(rig.endpoint), n);
                    }
                })
            })
            .collect();
        let results: Vec<_> = clients.into_iter().map(thread::ScopedJoinHandle::join).collect();
        // A stranger's connect sends a server home.
        for _ in 0..CLIENTS {
            drop(TcpStream::connect(rig::address(&rig.backend)));
        }
        assert!(results.iter().all(Result::is_ok), "a client failed");
    });
    rig.ended(End::Closed, CONNECTIONS);
    let stats = rig.stats();
    let (up, down) = (0..CONNECTIONS)
        .map(sizes)
        .fold((0, 0), |(up, down), (u, d)| (up + u + 8, down + d));
    assert_eq!(
        (stats.accepted, stats.bytes_to_backend, stats.bytes_to_client),
        (CONNECTIONS, up, down)
    );

    eventually("the pipes alone to be left", || {
        rig.relay.snapshot().descriptors_used <= 2 + 2 * 2 * 16
    });
    rig.relay.close(rig.id, Close::Cut).unwrap();
    rig.relay.stop(Close::Cut);
    assert_eq!(relay_threads(), threads_before, "threads are joined");
    assert_eq!(rig.relay.snapshot().descriptors_used, 0);
    drop(rig);
    assert_eq!(descriptors(), descriptors_before, "descriptors are closed");
}
