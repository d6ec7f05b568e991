//! One `adit gateway run` takes over from another, under load: no connection is refused or reset, and those that exist go on.
#![expect(clippy::unwrap_used, reason = "a test's panic is its verdict")]

mod process;

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream},
    path::Path,
    process::Command,
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use process::{
    BACKEND_PORT, CLIENT_PORT, Client,
    cluster::{Control, Role, port_of},
    skip_without_root, until,
};
use serde_json::{Value, json};

/// How long a connect, or an answer, may take.
const PATIENCE: Duration = Duration::from_secs(30);
const CLIENTS: usize = 4;
/// Connections of each client before and after.
const CONNECTIONS: u64 = 50;
/// What a gateway's connections get once it is followed, or told to stop.
const DRAIN: [&str; 2] = ["--stop-drain-s", "3600"];

/// From within the client's namespace: a connection that has had its echo.
fn visit(to: SocketAddrV4) -> TcpStream {
    let mut stream = TcpStream::connect_timeout(&SocketAddr::V4(to), PATIENCE).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    echo(&mut stream).unwrap();
    stream
}

fn echo(stream: &mut TcpStream) -> io::Result<()> {
    stream.write_all(b"ping")?;
    let mut four = [0; 4];
    stream.read_exact(&mut four)?;
    assert_eq!(&four, b"ping");
    Ok(())
}

fn pid(state: &Path) -> Option<u64> {
    let run = std::fs::read(state.join("run.json")).ok()?;
    serde_json::from_slice::<Value>(&run).ok()?["pid"].as_u64()
}

/// Whether `adit who` finds a client by one of the addresses that its backend has seen.
fn is_known(state: &Path, sources: &[SocketAddr], client: &TcpStream) -> bool {
    let client = client.local_addr().unwrap().to_string();
    sources.iter().any(|source| {
        let who = Command::new(env!("CARGO_BIN_EXE_adit"))
            .args(["who", "-o", "json", &source.to_string(), "--data"])
            .arg(state)
            .output()
            .unwrap();
        let found = serde_json::from_slice::<Value>(&who.stdout);
        found.is_ok_and(|found| found["client"] == client.as_str())
    })
}

/// Ends the load, also when the test fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

#[test]
fn a_gateway_takes_over_from_another_and_no_client_notices() {
    if skip_without_root("a_gateway_takes_over_from_another_and_no_client_notices") {
        return;
    }
    takes_over("hold");
}

#[test]
fn a_gateway_that_serves_nothing_by_itself_takes_over_as_well() {
    if skip_without_root("a_gateway_that_serves_nothing_by_itself_takes_over_as_well") {
        return;
    }
    takes_over("fence");
}

/// With what either does where no control plane answers.
fn takes_over(on_control_loss: &str) {
    let folder = tempfile::tempdir().unwrap();
    let [api, networks, state] = ["api", "networks", "state"].map(|name| folder.path().join(name));
    std::fs::create_dir_all(&api).unwrap();
    let log = api.join("log");
    let control = Control::start_logged(&api, &["--log", "info"], std::fs::File::create(&log).unwrap());
    let followed = || {
        let log = std::fs::read_to_string(&log).unwrap();
        log.matches("A gateway follows the feed.").count()
    };
    let urls = [control.nodes.clone()];
    let token_file = control.token_file();
    let _networks = Role::networks(&urls, &token_file, &networks);
    let gateway = |more: &[&str]| Role::gateway_with("one", &urls, &token_file, &state, &networks, more);
    let words = [
        "--take-over",
        DRAIN[0],
        DRAIN[1],
        "--on-control-loss",
        on_control_loss,
    ];
    // Where nobody is, there is nothing to take over, and it begins as any other.
    let mut first = gateway(&words);
    let (provider, consumer) = (
        Client::demo(&control.region.api),
        Client::other(&control.region.api),
    );
    let service = provider.publish(&json!([{"client_port": 7000, "server_port": 80}]));
    let [(_, ip), (rejected, other_ip)] = [(); 2].map(|()| consumer.connect(&service));
    let listener = port_of(&networks, BACKEND_PORT).run(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, 80)));
    let listener = listener.unwrap().unwrap();
    let (seen, sources) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = seen.send(stream.peer_addr().unwrap());
            std::thread::spawn(move || {
                let mut out = stream.try_clone().unwrap();
                let _ = io::copy(&mut stream, &mut out);
            });
        }
    });
    let client = port_of(&networks, CLIENT_PORT);
    let (to, other) = (SocketAddrV4::new(ip, 7000), SocketAddrV4::new(other_ip, 7000));
    let (mut old, mut cut) = client.run(|| (visit(to), visit(other))).unwrap();
    let former = pid(&state).unwrap();
    // Probes are among them.
    let sources: Vec<_> = sources.try_iter().collect();

    let over = AtomicBool::new(false);
    let served: [AtomicU64; CLIENTS] = std::array::from_fn(|_| AtomicU64::new(0));
    let load = |n: usize| {
        while !over.load(Relaxed) {
            drop(visit(to));
            served[n].fetch_add(1, Relaxed);
        }
    };
    let more = || {
        for client in &served {
            let wanted = client.load(Relaxed) + CONNECTIONS;
            until("the load to go on", || {
                (client.load(Relaxed) >= wanted).then_some(())
            });
        }
    };
    std::thread::scope(|scope| {
        let (client, load) = (&client, &load);
        let clients: Vec<_> = (0..CLIENTS)
            .map(|n| scope.spawn(move || client.run(move || load(n)).unwrap()))
            .collect();
        let _over = Over(&over);
        more();
        let _second = gateway(&words);
        assert_ne!(pid(&state), Some(former), "the directory is the second one's");
        more();
        // Neither displaces the other on the feed: each has come once. Who needs the feed first does, for a moment.
        until("the second one on the feed", || (followed() >= 2).then_some(()));
        // What the first one has goes on there, is known, and ends when its endpoint is rejected.
        echo(&mut old).unwrap();
        assert!(is_known(&state, &sources, &old), "nobody knows whose it is");
        echo(&mut cut).unwrap();
        let reject = json!({"action": "reject", "endpoints": [rejected]});
        let path = format!("vpc-endpoint-services/{service}/connections/action");
        provider.must("POST", &path, Some(&reject));
        assert_eq!(
            cut.read(&mut [0]).unwrap_err().kind(),
            io::ErrorKind::ConnectionReset
        );
        echo(&mut old).unwrap();
        assert!(!first.has_ended());
        // With the last of them it ends, and leaves everything to the other.
        drop(old);
        assert!(first.wait());
        assert!(pid(&state).is_some_and(|pid| pid != former));
        more();
        // What is made now is served, too.
        let (_, ip) = consumer.connect(&service);
        let to = SocketAddrV4::new(ip, 7000);
        client.run(move || drop(visit(to))).unwrap();
        assert!(followed() == 2 || on_control_loss == "fence");
        over.store(true, Relaxed);
        for client in clients {
            client
                .join()
                .expect("a client was refused, reset or not answered");
        }
    });
}
