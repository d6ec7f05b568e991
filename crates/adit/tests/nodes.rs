//! Gateways as processes of their own, with and without a control plane: bytes through them, between real VPCs.
#![expect(clippy::unwrap_used, reason = "a test's panic is its verdict")]

mod process;

use std::{
    fs::File,
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream},
    path::Path,
    process::Command,
    time::Duration,
};

use adit_netns::Namespace;
use process::{
    BACKEND_PORT, CLIENT_PORT, Client,
    cluster::{Control, Role, port_of},
    etcd::Etcd,
    skip_without, skip_without_root, until,
};
use rustix::process::Signal;
use serde_json::json;

/// The endpoint's port.
const PORT: u16 = 7000;
/// How long a connect, or an answer, may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Echoes whatever comes to port 80 of the demo tenant's server.
fn serve(inside: &Namespace) {
    let listener = inside
        .run(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, 80)))
        .unwrap()
        .unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut out = stream.try_clone().unwrap();
                let _ = io::copy(&mut stream, &mut out);
            });
        }
    });
}

/// A client's connection that has had its echo.
fn connect(inside: &Namespace, ip: Ipv4Addr) -> io::Result<TcpStream> {
    let to = SocketAddrV4::new(ip, PORT).into();
    let mut stream = inside
        .run(|| TcpStream::connect_timeout(&to, PATIENCE))
        .unwrap()?;
    stream.set_read_timeout(Some(PATIENCE))?;
    echo(&mut stream)?;
    Ok(stream)
}

fn echo(stream: &mut TcpStream) -> io::Result<()> {
    stream.write_all(b"ping")?;
    let mut four = [0; 4];
    stream.read_exact(&mut four)?;
    assert_eq!(&four, b"ping");
    Ok(())
}

/// Publishes the server, and answers the service's id.
fn service(control: &Control) -> String {
    Client::demo(&control.region.api)
        .publish(&json!([{"client_port": PORT, "server_port": 80, "protocol": "TCP"}]))
}

/// Makes an endpoint to a service, and answers its id and address once it is accepted.
fn endpoint(control: &Control, service: &str) -> (String, Ipv4Addr) {
    let other = Client::other(&control.region.api);
    let (id, ip) = other.connect(service);
    until("the endpoint to be accepted", || {
        (other.must("GET", &format!("vpc-endpoints/{id}"), None)["status"] == "accepted").then_some(())
    });
    (id, ip)
}

/// Makes an endpoint that waits for a gateway, and answers its id and its owner.
fn waiting(control: &Control) -> (String, Client) {
    let service = service(control);
    let other = Client::other(&control.region.api);
    let body = json!({"endpoint_service_id": service, "vpc_id": process::CLIENT_VPC,
        "subnet_id": process::CLIENT_SUBNET});
    let id = other.must("POST", "vpc-endpoints", Some(&body))["id"]
        .as_str()
        .unwrap()
        .to_owned();
    (id, other)
}

/// An endpoint's address, once it is accepted.
fn address(owner: &Client, id: &str) -> Ipv4Addr {
    until("the endpoint to be accepted", || {
        let shown = owner.must("GET", &format!("vpc-endpoints/{id}"), None);
        (shown["status"] == "accepted").then(|| shown["ip"].as_str().unwrap().parse().unwrap())
    })
}

fn written(state: &Path, endpoint: &str) -> Option<()> {
    let text = std::fs::read_to_string(state.join("feed.jsonl")).ok()?;
    let last = text.lines().rfind(|line| line.contains(endpoint))?;
    last.contains("put").then_some(())
}

#[test]
fn traffic_flows_while_the_whole_control_plane_is_down_also_after_the_gateway_was_killed() {
    if skip_without_root(
        "traffic_flows_while_the_whole_control_plane_is_down_also_after_the_gateway_was_killed",
    ) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let [api, networks, state] = ["api", "networks", "state"].map(|name| folder.path().join(name));
    let control = Control::start(&api, &[]);
    let urls = [control.nodes.clone()];
    let token_file = control.token_file();
    let _networks = Role::networks(&urls, &token_file, &networks);
    let gateway = Role::gateway("one", &urls, &token_file, &state, &networks);
    let (id, ip) = endpoint(&control, &service(&control));
    serve(&port_of(&networks, BACKEND_PORT));
    let client = port_of(&networks, CLIENT_PORT);
    let mut open = connect(&client, ip).unwrap();
    until("the gateway to have written it down", || written(&state, &id));

    control.region.kill();
    echo(&mut open).unwrap();
    connect(&client, ip).unwrap();

    // Connections are their process's; new ones are served by the next, which nobody tells anything.
    gateway.kill();
    // What a disk has spoilt takes nothing else along; and the directory is no other gateway's.
    let file = File::options().append(true).open(state.join("feed.jsonl"));
    file.unwrap().write_all(b"{\"put\":{\"id\n").unwrap();
    let stranger = Command::new(env!("CARGO_BIN_EXE_adit"))
        .args([
            "gateway",
            "run",
            "--node",
            "two",
            "--control",
            &urls[0],
            "--networks",
        ])
        .arg(&networks)
        .arg("--node-token-file")
        .arg(&token_file)
        .arg("--state")
        .arg(&state)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&stranger.stderr).into_owned();
    assert!(
        !stranger.status.success() && said.contains("is of gateway one"),
        "{said}"
    );
    let _gateway = Role::gateway("one", &urls, &token_file, &state, &networks);
    until("traffic", || connect(&client, ip).ok());

    // The control plane comes back, finds its gateway, and is obeyed.
    let listen = urls[0].trim_start_matches("http://").to_owned();
    let control = Control::start(&api, &["--node-listen", &listen]);
    let other = Client::other(&control.region.api);
    let mut open = connect(&client, ip).unwrap();
    other.must("DELETE", &format!("vpc-endpoints/{id}"), None);
    until("its end", || {
        other
            .try_call("GET", &format!("vpc-endpoints/{id}"), None)
            .filter(|(status, _)| *status == 404)
    });
    assert!(echo(&mut open).is_err(), "what is deleted is cut");
    until("the gateway to have written it down", || {
        written(&state, &id).is_none().then_some(())
    });
}

#[test]
fn a_gateway_asks_the_next_address_where_one_does_not_answer() {
    if skip_without_root("a_gateway_asks_the_next_address_where_one_does_not_answer") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let [api, networks, state] = ["api", "networks", "state"].map(|name| folder.path().join(name));
    let control = Control::start(&api, &[]);
    let token_file = control.token_file();
    // One refuses connections, one takes them and says nothing.
    let mute = TcpListener::bind("127.0.0.1:0").unwrap();
    let mute = format!("http://{}", mute.local_addr().unwrap());
    let urls = ["http://127.0.0.1:1".to_owned(), mute, control.nodes.clone()];
    let _networks = Role::networks(&urls, &token_file, &networks);
    let _gateway = Role::gateway("one", &urls, &token_file, &state, &networks);
    let (_, ip) = endpoint(&control, &service(&control));
    serve(&port_of(&networks, BACKEND_PORT));
    connect(&port_of(&networks, CLIENT_PORT), ip).unwrap();
}

#[test]
fn a_vpc_that_is_not_on_the_node_is_named_and_waited_for() {
    if skip_without_root("a_vpc_that_is_not_on_the_node_is_named_and_waited_for") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let [api, networks, state] = ["api", "networks", "state"].map(|name| folder.path().join(name));
    let control = Control::start(&api, &[]);
    let urls = [control.nodes.clone()];
    let token_file = control.token_file();
    let (id, other) = waiting(&control);
    // Whoever makes the VPCs has a name for them, and has gone.
    let pattern = {
        let _networks = Role::networks(&urls, &token_file, &networks);
        format!("a{}v{{hash}}", process::instance(&networks))
    };
    let _gateway = Role::gateway_by_pattern("one", &urls, &token_file, &state, &pattern);
    let name = adit_cloud::kernel::vpc_namespace(
        &process::instance(&networks),
        process::CLIENT_VPC.parse().unwrap(),
    );
    until("the reason", || {
        let shown = control.shown(&id)["waiting_for"].as_str()?.to_owned();
        shown
            .starts_with(&format!("gateway one: namespace {name} is not there"))
            .then_some(())
    });
    let _networks = Role::networks(&urls, &token_file, &networks);
    until("the endpoint to be accepted", || {
        (other.must("GET", &format!("vpc-endpoints/{id}"), None)["status"] == "accepted").then_some(())
    });
    assert!(control.shown(&id)["waiting_for"].is_null());
}

/// Two gateways between the same VPCs, and the one of them that serves the endpoint.
fn two_gateways(control: &Control, networks: &Path, folder: &Path) -> (Vec<(&'static str, Role)>, usize) {
    let urls = [control.nodes.clone()];
    let gateways = ["one", "two"].map(|name| {
        let state = folder.join(name);
        (
            name,
            Role::gateway(name, &urls, &control.token_file(), &state, networks),
        )
    });
    let gateways = Vec::from(gateways);
    let at = until(
        "the endpoint to be at one of them, and both to have their share",
        || {
            let listed: Option<Vec<_>> = gateways.iter().map(|(name, _)| control.listed(name)).collect();
            let listed = listed.filter(|listed| listed.iter().all(|g| g["shards"] == 2048))?;
            let serving: Vec<_> = (0..2).filter(|at| listed[*at]["endpoints"] == 1).collect();
            (serving.len() == 1).then(|| serving[0])
        },
    );
    (gateways, at)
}

#[test]
fn a_killed_gateway_s_endpoints_are_served_by_another() {
    if skip_without_root("a_killed_gateway_s_endpoints_are_served_by_another") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let [api, networks] = ["api", "networks"].map(|name| folder.path().join(name));
    let control = Control::start(&api, &[]);
    let _networks = Role::networks(
        std::slice::from_ref(&control.nodes),
        &control.token_file(),
        &networks,
    );
    let (id, other) = waiting(&control);
    let (mut gateways, at) = two_gateways(&control, &networks, folder.path());
    let ip = address(&other, &id);
    serve(&port_of(&networks, BACKEND_PORT));
    let client = port_of(&networks, CLIENT_PORT);
    until("traffic", || connect(&client, ip).ok());
    let (killed, process) = gateways.remove(at);
    process.kill();
    let left = gateways[0].0;
    until("the other to have everything", || {
        (control.listed(left)?["shards"] == 4096).then_some(())
    });
    until("traffic through the other", || connect(&client, ip).ok());
    until("it to be listed as away", || {
        let listed = control.listed(killed)?;
        (listed["status"] == "away" && listed["shards"] == 0).then_some(())
    });
}

#[test]
fn gateways_that_are_all_away_are_listed_so_and_come_back() {
    if skip_without_root("gateways_that_are_all_away_are_listed_so_and_come_back") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let [api, networks] = ["api", "networks"].map(|name| folder.path().join(name));
    let control = Control::start(&api, &[]);
    let urls = [control.nodes.clone()];
    let _networks = Role::networks(&urls, &control.token_file(), &networks);
    let (id, other) = waiting(&control);
    let (gateways, _) = two_gateways(&control, &networks, folder.path());
    let ip = address(&other, &id);
    let [(killed, process), (stopped, hung)] = <[_; 2]>::try_from(gateways).ok().unwrap();
    let shown = |gateway: &str, status: &str, shards: usize| {
        until(&format!("{gateway} to be {status} with {shards} shards"), || {
            let listed = control.listed(gateway)?;
            (listed["status"] == status && listed["shards"] == shards).then_some(())
        });
    };
    // One after the other: the last has all shards, and keeps them.
    process.kill();
    shown(stopped, "up", 4096);
    shown(killed, "away", 0);
    hung.signal(Signal::STOP);
    shown(stopped, "away", 4096);
    shown(killed, "away", 0);
    // Who comes back has all, and serves.
    let _process = Role::gateway(
        killed,
        &urls,
        &control.token_file(),
        &folder.path().join(killed),
        &networks,
    );
    shown(killed, "up", 4096);
    shown(stopped, "away", 0);
    hung.signal(Signal::CONT);
    shown(stopped, "up", 2048);
    shown(killed, "up", 2048);
    serve(&port_of(&networks, BACKEND_PORT));
    let client = port_of(&networks, CLIENT_PORT);
    until("traffic", || connect(&client, ip).ok());
}

#[test]
fn a_drained_gateway_gives_everything_to_the_others_and_gets_its_share_again() {
    if skip_without_root("a_drained_gateway_gives_everything_to_the_others_and_gets_its_share_again") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let [api, networks] = ["api", "networks"].map(|name| folder.path().join(name));
    let control = Control::start(&api, &[]);
    let _networks = Role::networks(
        std::slice::from_ref(&control.nodes),
        &control.token_file(),
        &networks,
    );
    let (id, other) = waiting(&control);
    let (gateways, at) = two_gateways(&control, &networks, folder.path());
    let ip = address(&other, &id);
    serve(&port_of(&networks, BACKEND_PORT));
    let client = port_of(&networks, CLIENT_PORT);
    until("traffic", || connect(&client, ip).ok());
    let drained = gateways[at].0;
    let shown = control.operator(&["gateway", "drain", drained]);
    assert_eq!(
        (&shown["name"], &shown["status"]),
        (&json!(drained), &json!("drained"))
    );
    assert_eq!((&shown["shards"], &shown["endpoints"]), (&json!(0), &json!(0)));
    // The other has what it had, and nobody could take it from that one.
    connect(&client, ip).unwrap();
    let other = gateways[1 - at].0;
    let refused = control.refused(&["gateway", "drain", other]);
    assert!(refused.contains("no other gateway is up"), "{refused}");
    control.operator(&["gateway", "drain", other, "--undo"]);
    let shown = control.operator(&["gateway", "drain", drained, "--undo"]);
    assert_eq!(shown["status"], "up");
    until("its share", || {
        (control.listed(drained)?["shards"] == 2048).then_some(())
    });
}

#[test]
fn of_two_control_planes_on_one_etcd_either_may_die() {
    let test = "of_two_control_planes_on_one_etcd_either_may_die";
    if skip_without_root(test) || skip_without("etcd", test) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let [first, second, networks, state] =
        ["first", "second", "networks", "state"].map(|name| folder.path().join(name));
    let etcd = Etcd::start();
    let one = Control::start(&first, &["--store", &etcd.store]);
    let token_file = one.token_file();
    let secret = token_file.to_str().unwrap();
    let two = Control::start(&second, &["--store", &etcd.store, "--node-token-file", secret]);
    let urls = [one.nodes.clone(), two.nodes.clone()];
    let _networks = Role::networks(&urls, &token_file, &networks);
    let _gateway = Role::gateway("gateway", &urls, &token_file, &state, &networks);
    let service = service(&one);
    let (id, ip) = endpoint(&one, &service);
    serve(&port_of(&networks, BACKEND_PORT));
    let client = port_of(&networks, CLIENT_PORT);
    let mut open = connect(&client, ip).unwrap();
    // What one has answered the other knows, and either lists the gateway.
    let path = format!("vpc-endpoints/{id}");
    assert_eq!(
        Client::other(&two.region.api).must("GET", &path, None)["status"],
        "accepted"
    );
    until("the gateway on the list", || two.listed("gateway"));

    // The one that was first leads; the other takes over, also the gateway.
    one.region.kill();
    echo(&mut open).unwrap();
    let (_, next) = endpoint(&two, &service);
    until("traffic through the new endpoint", || connect(&client, next).ok());
    echo(&mut open).unwrap();
    connect(&client, ip).unwrap();
}
