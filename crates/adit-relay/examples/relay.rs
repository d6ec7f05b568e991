//! A relay of one listener, by hand, in the namespace it is started in: `relay LISTEN SOURCE BACKEND`.
//!
//! For instance `relay 127.0.0.1:7000 127.0.0.2 127.0.0.1:80`. It prints its counters when standard input ends.

use std::error::Error;
use std::fs::File;
use std::net::SocketAddrV4;
use std::sync::Arc;

use adit_relay::{Admission, Close, Config, Consumer, End, Listener, Relay, Target};

fn main() -> Result<(), Box<dyn Error>> {
    let [listen, source, backend] = std::env::args()
        .skip(1)
        .collect::<Vec<_>>()
        .try_into()
        .map_err(|_| "usage: relay LISTEN SOURCE BACKEND")?;
    let here = Arc::new(File::open("/proc/thread-self/ns/net")?.into());
    let relay = Relay::start(Config::default())?;
    let id = relay.open(Listener {
        owner: 1.into(),
        consumer: Consumer {
            namespace: Arc::clone(&here),
            address: listen.parse()?,
        },
        provider: Target {
            namespace: here,
            source: source.parse()?,
            backend: backend.parse::<SocketAddrV4>()?.into(),
            header: None,
            toa: false,
        },
        admission: Admission::default(),
    })?;
    if let Some(address) = relay.local_address(id) {
        println!("{address} -> {backend}, seen as {source}");
    }
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
    for stats in relay.snapshot().owners {
        println!(
            "accepted {} active {} bytes up {} down {}",
            stats.accepted, stats.active, stats.bytes_to_backend, stats.bytes_to_client
        );
        for end in End::ALL.into_iter().filter(|end| stats.ended(*end) > 0) {
            println!("{} {}", end.name(), stats.ended(end));
        }
    }
    relay.stop(Close::Cut);
    Ok(())
}
