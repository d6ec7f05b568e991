//! The process runs out of descriptors through no fault of the relay's: clients are refused, nobody
//! hangs, nothing spins, and all is well again afterwards. Alone in its process, since it lowers its limit.
#![allow(
    clippy::unwrap_used,
    reason = "this is a test, also where no function is marked so"
)]

mod rig;

use std::io::Read;
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::time::Duration;

use adit_relay::{Config, End};
use rig::{PATIENCE, Rig, config};
use rustix::net::{AddressFamily, SocketType};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

#[test]
fn clients_are_refused_while_there_is_no_descriptor() {
    let hard = getrlimit(Resource::Nofile).maximum;
    setrlimit(
        Resource::Nofile,
        Rlimit {
            current: Some(600),
            maximum: Some(600),
        },
    )
    .unwrap();
    assert!(hard.is_none_or(|hard| hard >= 600));
    let rig = Rig::with(
        Config {
            workers: 1,
            ..config()
        },
        |_| {},
    );
    let client = || rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    let clients: Vec<OwnedFd> = (0..100).map(|_| client()).collect();
    let mut hoard: Vec<OwnedFd> = std::iter::from_fn(|| rustix::io::dup(&clients[0]).ok()).collect();
    // Kept, so that the table stays full.
    let mut refused = Vec::new();
    for client in clients {
        rustix::net::connect(&client, &rig.endpoint).unwrap();
        let mut client = TcpStream::from(client);
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        let heard = client.read(&mut [0; 1]).map_err(|error| error.kind());
        assert_eq!(heard, Err(std::io::ErrorKind::ConnectionReset));
        refused.push(client);
    }
    assert_eq!(rig.stats().ended(End::OutOfDescriptors), 100);

    let idle = cpu_time();
    std::thread::sleep(Duration::from_millis(500));
    assert!(cpu_time() - idle < Duration::from_millis(250), "it spins");

    hoard.clear();
    rig.connection();
}

fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.cast_unsigned(), u32::try_from(time.tv_nsec).unwrap())
}
