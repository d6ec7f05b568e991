//! Gateways as processes of their own, with and without a control plane: bytes through them, between real VPCs.
#![expect(clippy::unwrap_used, reason = "a test's panic is its verdict")]

mod process;

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream},
    path::Path,
    time::Duration,
};

use adit_netns::Namespace;
use process::{
    BACKEND_PORT, CLIENT_PORT, Client,
    cluster::{Control, Role, port_of},
    skip_without_root, until,
};
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

/// Publishes the server, and answers the address of an endpoint that serves it.
fn endpoint(control: &Control) -> (String, Ipv4Addr) {
    let service = Client::demo(&control.region.api)
        .publish(&json!([{"client_port": PORT, "server_port": 80, "protocol": "TCP"}]));
    let other = Client::other(&control.region.api);
    let (id, ip) = other.connect(&service);
    until("the endpoint to be accepted", || {
        (other.must("GET", &format!("vpc-endpoints/{id}"), None)["status"] == "accepted").then_some(())
    });
    (id, ip)
}

fn written(state: &Path, endpoint: &str) -> Option<()> {
    let text = std::fs::read_to_string(state.join("feed.json")).ok()?;
    text.contains(endpoint).then_some(())
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
    let (id, ip) = endpoint(&control);
    serve(&port_of(&networks, BACKEND_PORT));
    let client = port_of(&networks, CLIENT_PORT);
    let mut open = connect(&client, ip).unwrap();
    until("the gateway to have written it down", || written(&state, &id));

    control.region.kill();
    echo(&mut open).unwrap();
    connect(&client, ip).unwrap();

    // Connections are their process's; new ones are served by the next, which nobody tells anything.
    gateway.kill();
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
    let (_, ip) = endpoint(&control);
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
    let service = Client::demo(&control.region.api)
        .publish(&json!([{"client_port": PORT, "server_port": 80, "protocol": "TCP"}]));
    let other = Client::other(&control.region.api);
    let body = json!({"endpoint_service_id": service, "vpc_id": process::CLIENT_VPC,
        "subnet_id": process::CLIENT_SUBNET});
    let id = other.must("POST", "vpc-endpoints", Some(&body))["id"]
        .as_str()
        .unwrap()
        .to_owned();
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
