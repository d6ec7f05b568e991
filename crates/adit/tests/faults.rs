//! What breaks around a running region: each fault is counted under its name, and the region works afterwards.
#![expect(clippy::unwrap_used, reason = "a test's panic is its verdict")]

mod process;

use std::{
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, TcpListener},
    process::{Child, Command, Stdio},
};

use adit_netns::Directory;
use process::{
    BACKEND_PORT, BACKEND_VPC, CLIENT_PORT, CLIENT_SUBNET, CLIENT_VPC,
    pattern::Pattern,
    skip_without_root,
    stage::{Stage, assert_reset},
    until,
};
use serde_json::{Value, json};

/// Makes this binary a backend that can be killed.
const BACKEND: &str = "ADIT_TEST_BACKEND";

/// No test of its own: takes connections, says one byte on each, and reads none.
#[test]
fn backend_process() {
    if std::env::var_os(BACKEND).is_none() {
        return;
    }
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 80)).unwrap();
    let mut open = Vec::new();
    for mut stream in listener.incoming().flatten() {
        stream.write_all(b"!").unwrap();
        open.push(stream);
    }
}

struct Backend(Child);

impl Backend {
    fn start(stage: &Stage) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", "backend_process"])
            .env(BACKEND, "1")
            .stdout(Stdio::null());
        Self(stage.backend.run(|| command.spawn()).unwrap().unwrap())
    }

    fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_backend_that_dies_in_the_middle_of_it_resets_its_client() {
    if skip_without_root("a_backend_that_dies_in_the_middle_of_it_resets_its_client") {
        return;
    }
    let stage = Stage::new(&[]);
    let backend = Backend::start(&stage);
    let mut client = until("the backend to listen", || {
        let mut client = stage.connect().ok()?;
        client.read_exact(&mut [0]).ok()?;
        Some(client)
    });
    let refused = stage.region.ended("backend_refused");
    // More than is read, so that it is lost with the backend.
    client.write_all(&[7; 100_000]).unwrap();
    until("it to be with the backend", || {
        let passed = stage.region.metric("adit_gateway_bytes_total{to=\"backend\"}");
        (passed >= Some(100_000)).then_some(())
    });
    backend.kill();
    assert_reset(&mut client);
    until("it to be counted", || {
        (stage.region.ended("backend_reset") == 1).then_some(())
    });
    // Nobody listens any more.
    assert_eq!(
        stage
            .connect()
            .and_then(|mut client| client.read(&mut [0]))
            .map_err(|e| e.kind()),
        Err(ErrorKind::ConnectionReset)
    );
    until("it to be counted", || {
        (stage.region.ended("backend_refused") == refused + 1).then_some(())
    });
    stage.assert_works(&stage.listen());
    assert!(stage.region.stop(), "a clean stop");
}

#[test]
fn a_backend_that_does_not_answer_resets_its_client() {
    if skip_without_root("a_backend_that_does_not_answer_resets_its_client") {
        return;
    }
    let stage = Stage::new(&["--connect-timeout-s", "1"]);
    let listener = stage.listen();
    // What it says gets nowhere: nearer than the way to the reserved range.
    let holes = |word| {
        for half in ["198.19.128.0/18", "198.19.192.0/18"] {
            Stage::ip(&stage.backend, &["route", word, "blackhole", half]);
        }
    };
    holes("add");
    assert_eq!(
        stage
            .connect()
            .and_then(|mut client| client.read(&mut [0]))
            .map_err(|e| e.kind()),
        Err(ErrorKind::ConnectionReset)
    );
    until("it to be counted", || {
        (stage.region.ended("backend_timeout") == 1).then_some(())
    });
    holes("del");
    stage.assert_works(&listener);
    assert!(stage.region.stop(), "a clean stop");
}

#[test]
fn a_client_that_vanishes_in_the_middle_of_it_is_given_up() {
    if skip_without_root("a_client_that_vanishes_in_the_middle_of_it_is_given_up") {
        return;
    }
    let stage = Stage::new(&["--idle-timeout-s", "1"]);
    let listener = stage.listen();
    let mut pair = stage.pair(&listener);
    pair.talk();
    // Its cable is pulled while much is on its way to it.
    let mut sending = pair.backend.try_clone().unwrap();
    let sending = std::thread::spawn(move || Pattern::new().send(&mut sending, usize::MAX));
    pair.client.read_exact(&mut [0; 1_000_000]).unwrap();
    Stage::ip(&stage.client, &["link", "set", "eth0", "down"]);
    until("it to be counted", || {
        (stage.region.ended("idle") == 1).then_some(())
    });
    assert_eq!(
        sending.join().unwrap().unwrap_err().kind(),
        ErrorKind::ConnectionReset
    );
    drop(pair);
    Stage::ip(&stage.client, &["link", "set", "eth0", "up"]);
    stage.assert_works(&listener);
    assert!(stage.region.stop(), "a clean stop");
}

#[test]
fn a_vpc_s_namespace_that_is_removed_comes_back_and_is_served() {
    if skip_without_root("a_vpc_s_namespace_that_is_removed_comes_back_and_is_served") {
        return;
    }
    let mut stage = Stage::new(&[]);
    let directory = Directory::at(Directory::SYSTEM).unwrap();
    for (turn, vpc) in [(1, CLIENT_VPC), (2, BACKEND_VPC)] {
        let listener = stage.listen();
        let mut pair = stage.pair(&listener);
        pair.talk();
        let before = [&stage.client, &stage.backend].map(adit_netns::Namespace::inode);
        directory.remove(stage.region.vpc(vpc).name()).unwrap();
        pair.assert_reset();
        until("it to be counted", || {
            (stage.region.ended("cut") == turn).then_some(())
        });
        drop(listener);
        // The port hung on it, and is made anew with it.
        until("the ports to come back", || {
            (stage.client, stage.backend) = (stage.region.port(CLIENT_PORT), stage.region.port(BACKEND_PORT));
            let now = [&stage.client, &stage.backend].map(adit_netns::Namespace::inode);
            (now[turn as usize - 1] != before[turn as usize - 1]).then_some(())
        });
        let listener = stage.listen();
        until("the endpoint to be served again", || {
            let mut client = stage.connect().ok()?;
            client.write_all(b"?").ok()?;
            let (mut backend, _) = listener.accept().ok()?;
            backend.read_exact(&mut [0]).ok()
        });
        stage.assert_works(&listener);
        // A connection that ends by itself ends before the next turn counts.
        until("all to be over", || {
            (stage.region.metric("adit_gateway_connections_open") == Some(0)).then_some(())
        });
    }
    assert!(stage.region.stop(), "a clean stop");
}

#[test]
fn a_port_that_a_stranger_has_is_waited_for() {
    if skip_without_root("a_port_that_a_stranger_has_is_waited_for") {
        return;
    }
    let stage = Stage::new(&[]);
    let listener = stage.listen();
    let setbacks = |reason: &str| {
        let name = format!("adit_gateway_setbacks_total{{reason=\"{reason}\"}}");
        stage.region.metric(&name).unwrap()
    };
    // Whoever has the VPC's namespace may listen on all of its addresses.
    let service = stage
        .provider
        .publish(&json!([{"client_port": 7001, "server_port": 81}]));
    let stranger = || TcpListener::bind((Ipv4Addr::UNSPECIFIED, 7001));
    let stranger = stage.region.vpc(CLIENT_VPC).run(stranger).unwrap().unwrap();
    let order = json!({"endpoint_service_id": service, "vpc_id": CLIENT_VPC, "subnet_id": CLIENT_SUBNET});
    let made = stage.consumer.must("POST", "vpc-endpoints", Some(&order));
    let path = format!("vpc-endpoints/{}", made["id"].as_str().unwrap());
    until("it to be counted", || (setbacks("port_taken") > 0).then_some(()));
    assert_eq!(stage.consumer.must("GET", &path, None)["status"], "creating");
    // Its neighbour is not disturbed.
    stage.assert_works(&listener);
    drop(stranger);
    until("the endpoint to be served", || {
        (stage.consumer.must("GET", &path, None)["status"] == "accepted").then_some(())
    });
    assert!(stage.region.stop(), "a clean stop");
}

/// So few files that the relay has some dozens, after what the rest of the process keeps.
const FILES: usize = 300;

#[test]
fn clients_beyond_the_limit_of_files_are_refused() {
    if skip_without_root("clients_beyond_the_limit_of_files_are_refused") {
        return;
    }
    let stage = Stage::with_files(FILES);
    let listener = stage.listen();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let _ = stream.write_all(b"!");
                // Until the client ends.
                let _ = stream.read(&mut [0]);
            });
        }
    });
    let greeted = |_| {
        let mut client = stage.connect().ok()?;
        client.read_exact(&mut [0]).ok()?;
        Some(client)
    };
    let served: Vec<_> = (0..FILES).filter_map(greeted).collect();
    let refused = (FILES - served.len()) as u64;
    assert!(!served.is_empty() && refused > 0, "{} served", served.len());
    until("all to be counted", || {
        (stage.region.ended("out_of_descriptors") == refused).then_some(())
    });
    // The control plane has files of its own.
    let (another, _) = stage.consumer.connect(&stage.service);
    stage
        .consumer
        .must("DELETE", &format!("vpc-endpoints/{another}"), None);
    drop(served);
    until("somebody to be served again", || greeted(0).map(drop));
    assert!(stage.region.stop(), "a clean stop");
}

#[test]
fn without_a_pipe_bytes_are_copied() {
    if skip_without_root("without_a_pipe_bytes_are_copied") {
        return;
    }
    const STREAMS: usize = 12;
    const BYTES: usize = 20_000_000;
    let stage = Stage::with_files(FILES);
    let listener = stage.listen();
    let pattern = Pattern::new();
    let refused = || stage.region.metric("adit_gateway_pipes_refused_total").unwrap();
    let before = refused();
    std::thread::scope(|scope| {
        // Nobody reads, so every stream holds what it can.
        let pairs: Vec<_> = (0..STREAMS).map(|_| stage.pair(&listener)).collect();
        let clients: Vec<_> = pairs
            .into_iter()
            .map(|mut pair| {
                let pattern = &pattern;
                scope.spawn(move || {
                    pattern.send(&mut pair.backend, BYTES).unwrap();
                    pair.backend.shutdown(std::net::Shutdown::Write).unwrap();
                });
                pair.client
            })
            .collect();
        until("pipes to be short", || (refused() > before).then_some(()));
        for mut client in clients {
            pattern.receive(&mut client, BYTES).unwrap();
        }
    });
    assert!(stage.region.stop(), "a clean stop");
}

#[test]
fn without_a_source_port_the_next_client_is_refused() {
    const TEST: &str = "without_a_source_port_the_next_client_is_refused";
    if skip_without_root(TEST) {
        return;
    }
    let stage = Stage::new(&[]);
    // An even number: the kernel leaves the last one of an odd range alone.
    const PORTS: usize = 4;
    let range = || std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", "40000 40003");
    if let Err(error) = stage.region.vpc(BACKEND_VPC).run(range).unwrap() {
        assert!(
            std::env::var_os("CI").is_none(),
            "{TEST} sets ip_local_port_range: {error}"
        );
        eprintln!("SKIPPED: {TEST}: /proc/sys is read-only");
        return;
    }
    let listener = stage.listen();
    let mut pairs: Vec<_> = (0..PORTS).map(|_| stage.pair(&listener)).collect();
    assert_eq!(
        stage
            .connect()
            .and_then(|mut client| client.read(&mut [0]))
            .map_err(|e| e.kind()),
        Err(ErrorKind::ConnectionReset)
    );
    until("it to be counted", || {
        (stage.region.ended("source_ports_exhausted") == 1).then_some(())
    });
    pairs.iter_mut().for_each(process::stage::Pair::talk);
    // One that the backend ends last leaves its port free at once.
    let pair = pairs.remove(0);
    drop(pair.backend);
    drop(pair.client);
    until("a port to be free", || {
        let mut client = stage.connect().ok()?;
        client
            .set_read_timeout(Some(std::time::Duration::from_millis(200)))
            .ok()?;
        match client.read(&mut [0]) {
            Err(e) if e.kind() == ErrorKind::WouldBlock => Some(()),
            _ => None,
        }
    });
    assert!(stage.region.stop(), "a clean stop");
}

/// Namespaces of the system are no use to a process that may not speak ARP in them.
#[test]
fn root_without_packet_sockets_has_the_networks_of_an_ordinary_user() {
    let test = "root_without_packet_sockets_has_the_networks_of_an_ordinary_user";
    if skip_without_root(test) || process::skip_without("setpriv", test) {
        return;
    }
    let networks = |words: &[&str]| {
        let checked = Command::new("setpriv")
            .args(words)
            .args([env!("CARGO_BIN_EXE_adit"), "gateway", "check", "-o", "json"])
            .output()
            .unwrap();
        let said: Value = serde_json::from_slice(&checked.stdout).unwrap();
        let checks = said["checks"].as_array().unwrap();
        let namespaces = checks.iter().find(|check| check["name"] == "namespaces");
        namespaces.unwrap()["detail"].as_str().unwrap().to_owned()
    };
    assert_eq!(networks(&[]), "Linux namespaces (seen by `ip netns`)");
    let without = networks(&["--bounding-set=-net_raw", "--inh-caps=-net_raw"]);
    assert_eq!(without, "Linux namespaces in a user namespace");
}
