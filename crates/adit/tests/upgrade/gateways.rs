//! Gateways that are drained and started again, and taken over from, between VPCs that are stretched over them.

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, SocketAddrV4, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
};

use adit::lab::{
    Kind, Lab, Shape, State,
    caller::{Caller, OPERATOR},
    command::furnish,
    plan::SERVER_PORT,
};
use serde_json::json;

use crate::{
    Bed, CLIENTS, Over, PATIENCE, more,
    process::{end, skip_without, skip_without_root, until},
};

/// Connections that all clients together make between two steps of an upgrade.
const CONNECTIONS: usize = 200;

/// What clients of an endpoint have met.
#[derive(Default)]
struct Traffic {
    served: AtomicUsize,
    /// Connects that were refused, or timed out.
    refused: Mutex<Vec<ErrorKind>>,
    /// Connections that broke off.
    broken: Mutex<Vec<ErrorKind>>,
    over: AtomicBool,
}

/// Says something, and hears it back.
fn echo(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.write_all(b"ping")?;
    let mut heard = [0; 4];
    stream.read_exact(&mut heard)?;
    assert_eq!(&heard, b"ping");
    Ok(())
}

fn connect(to: SocketAddrV4) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&SocketAddr::V4(to), PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

impl Traffic {
    /// One connection after the other.
    fn work(&self, to: SocketAddrV4) {
        while !self.over.load(Relaxed) {
            match connect(to) {
                // It was taken in by one gateway, and the next packet came to the other.
                Err(e) if e.kind() == ErrorKind::ConnectionReset => {
                    self.broken.lock().unwrap().push(e.kind());
                }
                Err(e) => self.refused.lock().unwrap().push(e.kind()),
                Ok(mut stream) => match echo(&mut stream) {
                    Err(e) => self.broken.lock().unwrap().push(e.kind()),
                    Ok(()) => {
                        self.served.fetch_add(1, Relaxed);
                    }
                },
            }
        }
    }

    fn more(&self) {
        more(&self.served, CONNECTIONS, &|| {
            !self.refused.lock().unwrap().is_empty()
        });
    }

    /// How many connections broke off since this was asked last; nobody was refused.
    fn broken(&self) -> usize {
        assert_eq!(
            *self.refused.lock().unwrap(),
            [],
            "nobody who connects is refused"
        );
        std::mem::take(&mut *self.broken.lock().unwrap()).len()
    }
}

/// A gateway that takes over from the one that a machine runs.
struct Successor(Child);

impl Successor {
    fn start(lab: &Lab, name: &str, log: &Path) -> Self {
        let words = lab.place(name).unwrap().process.clone().unwrap().words;
        let mut command = Command::new(env!("CARGO_BIN_EXE_adit"));
        command
            .args(words)
            .arg("--take-over")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(log).unwrap());
        let started = lab.namespace(name).unwrap().run(|| command.spawn());
        Self(started.unwrap().unwrap())
    }
}

impl Drop for Successor {
    fn drop(&mut self) {
        end(&mut self.0);
    }
}

#[test]
fn gateways_are_drained_upgraded_and_taken_over_from_and_nobody_is_refused() {
    let test = "gateways_are_drained_upgraded_and_taken_over_from_and_nobody_is_refused";
    if skip_without_root(test) || skip_without("etcd", test) {
        return;
    }
    let mut bed = Bed::up(Shape {
        etcd: 1,
        api: 1,
        gateway: 2,
    });
    furnish(bed.lab(), &mut |_| ()).unwrap();
    let ip = bed.lab().record().endpoint.as_ref().unwrap().ip;
    let to = SocketAddrV4::new(ip, SERVER_PORT);
    let urls = bed.lab().plan().apis();
    let [desk, inside] = ["desk", "client-1"].map(|name| bed.lab().namespace(name).unwrap());
    let operator = desk.run(|| Caller::login(&urls, OPERATOR, PATIENCE, PATIENCE));
    let mut operator = operator.unwrap().unwrap();
    let mut gateway = |name: &str, draining: bool| {
        let (path, body) = (
            format!("/admin/v1/gateways/{name}"),
            json!({"draining": draining}),
        );
        desk.run(|| {
            operator.must("PUT", &path, Some(&body), PATIENCE).unwrap();
            until("its share", || {
                let listed = operator
                    .must("GET", "/admin/v1/gateways", None, PATIENCE)
                    .unwrap();
                let listed = listed["gateways"].as_array().unwrap().clone();
                let listed = listed.into_iter().find(|listed| listed["name"] == name)?;
                let has_share = listed["shards"].as_u64() > Some(0);
                (if draining {
                    listed["status"] == "drained"
                } else {
                    has_share
                })
                .then_some(())
            });
        })
        .unwrap();
    };
    let names: Vec<_> = bed
        .lab()
        .plan()
        .of(Kind::Gateway)
        .map(|place| place.name.clone())
        .collect();
    let traffic = Traffic::default();
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                let (inside, traffic) = (&inside, &traffic);
                scope.spawn(move || inside.run(|| traffic.work(to)).unwrap())
            })
            .collect();
        let over = Over(&traffic.over);
        traffic.more();
        assert_eq!(traffic.broken(), 0);
        for name in &names {
            // At most those that are open on it at that moment are cut.
            gateway(name, true);
            traffic.more();
            assert!(traffic.broken() <= CLIENTS, "those that were open when it moved");
            bed.terminate(name);
            traffic.more();
            assert_eq!(traffic.broken(), 0, "it has nothing");
            bed.lab().start(name).unwrap();
            gateway(name, false);
            traffic.more();
            assert!(traffic.broken() <= CLIENTS, "those that were open when it moved");
        }
        // What is open on a gateway that is taken over from goes on: with nothing to be served elsewhere, all of it is on this one.
        let (name, other) = (&names[0], &names[1]);
        gateway(other, true);
        let mut open = until("a connection that lasts", || {
            let mut open = inside.run(|| connect(to)).unwrap().ok()?;
            traffic.more();
            echo(&mut open).ok().map(|()| open)
        });
        assert!(
            traffic.broken() <= 2 * CLIENTS,
            "those that were open when it moved"
        );
        let log = bed.lab().files().log(&format!("{name}-successor"));
        let successor = Successor::start(bed.lab(), name, &log);
        until("it to serve", || {
            let run = adit::data::running(&bed.lab().files().machine(name).join("data"));
            run.is_ok_and(|run| run.pid == successor.0.id()).then_some(())
        });
        traffic.more();
        echo(&mut open).unwrap();
        assert_eq!(bed.lab().state(name), Some(State::Alive));
        // With its last connections the former one ends, and leaves everything to the other.
        drop(open);
        until("the former one to end", || {
            (bed.lab().state(name) == Some(State::Dead)).then_some(())
        });
        traffic.more();
        assert_eq!(traffic.broken(), 0, "who is taken over from ends nothing");
        drop(over);
        for client in clients {
            client.join().unwrap();
        }
    });
}
