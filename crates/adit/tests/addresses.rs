//! Whose address it is, among gateways of their own processes on machines of their own: clients reach one, whatever happens to
//! the others.
#![expect(clippy::unwrap_used, reason = "a test's panic is its verdict")]

mod process;

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream},
    path::Path,
    time::Duration,
};

use adit_model::network::RESERVED;
use adit_netns::Namespace;
use ipnet::Ipv4Net;
use process::{
    Client,
    cluster::{Control, Role},
    machines::{Machines, Wire},
    skip_without_root, until,
};
use rustix::process::Signal;
use serde_json::json;

/// The endpoint's port.
const PORT: u16 = 7000;
/// How long a connect, or an answer, may take before another is tried.
const PATIENCE: Duration = Duration::from_secs(3);
/// The gateways, by their machines.
const NAMES: [&str; 2] = ["one", "two"];

/// Two machines with a gateway each, an endpoint, and its backend.
struct Scene {
    machines: Machines,
    control: Control,
    wires: [Wire; 2],
    gateways: Vec<Option<Role>>,
    id: String,
    ip: Ipv4Addr,
    /// The machine whose gateway serves the endpoint.
    at: u8,
    owner: Client,
}

impl Scene {
    fn new(folder: &Path, more: &[&str]) -> Self {
        let machines = Machines::new(2);
        let control = Control::start(&folder.join("api"), &[]);
        let wires = [(); 2].map(|()| Wire::to(&control.nodes));
        serve(&machines.backend());
        let gateways: Vec<_> = (0..2)
            .map(|at| Some(gateway(folder, &machines, &control, &wires, at, more)))
            .collect();
        let mut scene = Self {
            machines,
            owner: Client::other(&control.region.api),
            control,
            wires,
            gateways,
            id: String::new(),
            ip: Ipv4Addr::UNSPECIFIED,
            at: 0,
        };
        until("both to have their share", || {
            let mut listed = NAMES.iter().map(|name| scene.control.listed(name));
            listed
                .all(|listed| listed.is_some_and(|g| g["shards"] == 2048))
                .then_some(())
        });
        until("the machines to know the way to each other", || {
            (0..2)
                .all(|machine| scene.machines.knows_others(machine))
                .then_some(())
        });
        let service = Client::demo(&scene.control.region.api)
            .publish(&json!([{"client_port": PORT, "server_port": 80, "protocol": "TCP"}]));
        (scene.id, scene.ip) = scene.owner.connect(&service);
        until("the endpoint to be accepted", || {
            let shown = scene
                .owner
                .must("GET", &format!("vpc-endpoints/{}", scene.id), None);
            (shown["status"] == "accepted").then_some(())
        });
        (scene.at, _) = until("the endpoint to be served", || scene.serves_alone());
        scene
    }

    fn other(&self) -> u8 {
        1 - self.at
    }

    /// A client's connection that has had its echo; what was seen of it by the backend.
    fn connect(&self) -> io::Result<(TcpStream, Ipv4Addr)> {
        let to = SocketAddrV4::new(self.ip, PORT).into();
        let mut stream = self
            .machines
            .client()
            .run(|| TcpStream::connect_timeout(&to, PATIENCE))
            .unwrap()?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut seen = [0; 4];
        stream.read_exact(&mut seen)?;
        echo(&mut stream)?;
        Ok((stream, seen.into()))
    }

    /// Waits until clients are served by a machine.
    fn until_served_by(&self, machine: u8) -> (TcpStream, Ipv4Addr) {
        let mac = Machines::router_mac(machine)
            .map(|byte| format!("{byte:02x}"))
            .join(":");
        until(&format!("traffic by machine {machine}"), || {
            let before = self.machines.known_at(self.ip);
            let served = self.connect().ok()?;
            let known = [before?, self.machines.known_at(self.ip)?];
            (known == [mac.clone(), mac.clone()]).then_some(served)
        })
    }

    /// Waits until a gateway that has come back has its share again, and one of them alone has the endpoint, whichever.
    fn until_settled(&self, come: u8) -> (u8, Ipv4Addr) {
        let name = NAMES[usize::from(come)];
        until("it to have its share again", || {
            (self.control.listed(name)?["shards"] == 2048).then_some(())
        });
        until("one of them to serve alone", || self.serves_alone())
    }

    /// The one machine that has the endpoint's address, and what the backend sees.
    fn serves_alone(&self) -> Option<(u8, Ipv4Addr)> {
        let (_, seen) = self.connect().ok()?;
        let mut has = (0..2).filter(|machine| self.machines.has(*machine, self.ip));
        Some((has.next()?, seen)).filter(|_| has.next().is_none())
    }

    fn until_gone_from(&self, machine: u8) {
        until("the address to be gone", || {
            (!self.machines.has(machine, self.ip)).then_some(())
        });
    }
}

fn gateway(
    folder: &Path,
    machines: &Machines,
    control: &Control,
    wires: &[Wire; 2],
    at: u8,
    more: &[&str],
) -> Role {
    let name = NAMES[usize::from(at)];
    let urls = [wires[usize::from(at)].url()];
    let pattern = machines.pattern(at);
    let state = folder.join(name);
    Role::gateway_by_pattern_with(name, &urls, &control.token_file(), &state, &pattern, more)
}

/// Says to whoever connects to the backend's port 80 where he comes from, and echoes the rest.
fn serve(inside: &Namespace) {
    let listener = inside
        .run(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, 80)))
        .unwrap()
        .unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || -> io::Result<()> {
                if let std::net::IpAddr::V4(seen) = stream.peer_addr()?.ip() {
                    stream.write_all(&seen.octets())?;
                }
                let mut out = stream.try_clone()?;
                io::copy(&mut stream, &mut out)?;
                Ok(())
            });
        }
    });
}

fn echo(stream: &mut TcpStream) -> io::Result<()> {
    stream.write_all(b"ping")?;
    let mut four = [0; 4];
    stream.read_exact(&mut four)?;
    assert_eq!(&four, b"ping");
    Ok(())
}

#[test]
fn a_moved_endpoint_comes_from_its_new_gateway_s_part_of_the_sources() {
    let test = "a_moved_endpoint_comes_from_its_new_gateway_s_part_of_the_sources";
    if skip_without_root(test) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut scene = Scene::new(folder.path(), &[]);
    let (at, first) = until("one to serve alone", || scene.serves_alone());
    scene.at = at;
    assert!(RESERVED.contains(&first));
    // Killed, and served by the other: the backend's answers, which the first machine's router gets, find it.
    scene.gateways[usize::from(scene.at)].take().unwrap().kill();
    let (mut open, second) = scene.until_served_by(scene.other());
    let slice = |ip: Ipv4Addr| Ipv4Net::new(ip, 22).unwrap().trunc();
    assert_ne!(slice(first), slice(second));
    // The same one again: it may get the endpoint back, or not.
    let (machines, control, wires) = (&scene.machines, &scene.control, &scene.wires);
    let again = gateway(folder.path(), machines, control, wires, scene.at, &[]);
    scene.gateways[usize::from(scene.at)] = Some(again);
    let (at, third) = scene.until_settled(scene.at);
    let former = if at == scene.at { first } else { second };
    assert_eq!(slice(third), slice(former), "a name keeps its part");
    if at == scene.at {
        assert!(
            echo(&mut open).is_err(),
            "what went through the former one is cut"
        );
    }
}

#[test]
fn an_endpoint_is_served_where_both_its_vpcs_are() {
    let test = "an_endpoint_is_served_where_both_its_vpcs_are";
    if skip_without_root(test) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let scene = Scene::new(folder.path(), &[]);
    scene.until_served_by(scene.at);
    scene.machines.remove_consumer(scene.at);
    scene.until_served_by(scene.other());
}

#[test]
fn a_gateway_that_was_stopped_takes_nothing_back_that_is_another_s() {
    let test = "a_gateway_that_was_stopped_takes_nothing_back_that_is_another_s";
    if skip_without_root(test) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let scene = Scene::new(folder.path(), &[]);
    scene.until_served_by(scene.at);
    let stopped = scene.gateways[usize::from(scene.at)].as_ref().unwrap();
    stopped.signal(Signal::STOP);
    // The kernel takes the address away with nobody's help, and another has it soon.
    scene.until_gone_from(scene.at);
    let (mut open, _) = scene.until_served_by(scene.other());
    // It comes back, and there is nobody to tell it anything: it has to find out by itself.
    scene.wires[usize::from(scene.at)].cut(true);
    stopped.signal(Signal::CONT);
    for _ in 0..50 {
        // Had it only said that the address is there, the connection would have been reset.
        echo(&mut open).unwrap();
        scene.connect().unwrap();
        assert!(!scene.machines.has(scene.at, scene.ip));
    }
    scene.wires[usize::from(scene.at)].cut(false);
    scene.until_settled(scene.at);
}

#[test]
fn a_gateway_that_is_cut_off_from_its_control_plane_yields_to_the_next() {
    let test = "a_gateway_that_is_cut_off_from_its_control_plane_yields_to_the_next";
    if skip_without_root(test) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let scene = Scene::new(folder.path(), &[]);
    scene.until_served_by(scene.at);
    scene.wires[usize::from(scene.at)].cut(true);
    scene.until_served_by(scene.other());
    scene.until_gone_from(scene.at);
    assert!(scene.machines.has(scene.other(), scene.ip));
    scene.wires[usize::from(scene.at)].cut(false);
    scene.until_settled(scene.at);
}

#[test]
fn a_gateway_stops_without_its_control_plane_where_it_is_told_to() {
    let test = "a_gateway_stops_without_its_control_plane_where_it_is_told_to";
    if skip_without_root(test) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let scene = Scene::new(folder.path(), &["--on-control-loss", "fence"]);
    let (mut open, _) = scene.connect().unwrap();
    for wire in &scene.wires {
        wire.cut(true);
    }
    // Nobody else announces the address.
    scene.until_gone_from(0);
    scene.until_gone_from(1);
    assert!(echo(&mut open).is_err(), "what goes through it is cut");
    for wire in &scene.wires {
        wire.cut(false);
    }
    until("traffic", || scene.connect().ok());
}

#[test]
fn a_machine_that_was_cut_off_from_its_clients_serves_them_again() {
    let test = "a_machine_that_was_cut_off_from_its_clients_serves_them_again";
    if skip_without_root(test) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let scene = Scene::new(folder.path(), &[]);
    let (mut open, _) = scene.until_served_by(scene.at);
    scene.machines.cut_from_clients(scene.at, true);
    assert!(scene.connect().is_err());
    scene.machines.cut_from_clients(scene.at, false);
    scene.until_served_by(scene.at);
    echo(&mut open).unwrap();
}
