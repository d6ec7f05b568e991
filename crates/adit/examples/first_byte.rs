//! How long it takes from the order of an endpoint to the first byte through it, on a region with a durable store; and how long from
//! a change of its service to the first connection that has it.
//!
//! `first_byte [ROUNDS]`, 200 by default; run it by `bench/first-byte.sh`. Beside it, in the same run and on the same disk,
//! the time of one durable commit of the store is taken, since every order consists of those.

#![expect(clippy::unwrap_used, reason = "a bench that cannot go on has nothing to say")]

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream},
    path::Path,
    time::{Duration, Instant},
};

use adit::{
    cli::Dev,
    dev::{Prepared, Served},
};
use adit_cloud::{
    Login,
    kernel::{Instance, port_namespace},
};
use adit_model::id::PortId;
use adit_netns::{Directory, Namespace};
use adit_store::{RedbStore, Store, Txn};
use serde_json::{Value, json};

const BACKEND_PORT: &str = "4189d3c2-8882-4871-a3c2-d380272eed88";
const BACKEND_VPC: &str = "4189d3c2-8882-4871-a3c2-d380272eed80";
const BACKEND_NETWORK: &str = "4189d3c2-8882-4871-a3c2-d380272eed81";
const CLIENT_PORT: &str = "5290e4d3-9993-4982-b4d3-e491383ffe98";
const CLIENT_VPC: &str = "5290e4d3-9993-4982-b4d3-e491383ffe90";
const CLIENT_SUBNET: &str = "5290e4d3-9993-4982-b4d3-e491383ffe91";

fn main() {
    let rounds = std::env::args().nth(1).map_or(200, |n| n.parse().unwrap());
    let data = std::env::temp_dir().join(format!("adit-bench-{}", std::process::id()));
    let settings = Dev {
        data: Some(data.clone()),
        ephemeral: false,
        ..Dev::passing()
    };
    // Before the first thread: an ordinary user's namespaces begin here.
    let prepared = Prepared::new(&settings).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let served = runtime.block_on(Served::start(prepared)).unwrap();
    let commits = runtime.block_on(commits(&data.join("beside.redb"), rounds));
    let bench = Bench::new(&served);
    let (times, service) = bench.run(rounds);
    let changes = bench.changes(&service, rounds);
    runtime.block_on(served.stop()).unwrap();
    std::fs::remove_dir_all(&data).unwrap();

    println!("{rounds} rounds; milliseconds          median     p90     max");
    let commit = show("one durable commit", commits);
    show("POST answered", times.iter().map(|t| t.answered).collect());
    show(
        "endpoint seen accepted",
        times.iter().map(|t| t.accepted).collect(),
    );
    let first = show(
        "first byte through it",
        times.iter().map(|t| t.first_byte).collect(),
    );
    println!("\nfirst byte / one durable commit = {:.1}", first / commit);

    println!("\nfrom PUT answered to a connection with the change; milliseconds");
    let mut before = 0;
    for change in changes {
        show(change.what, change.seen);
        before += change.before;
    }
    println!("connections before, as they were: {before}");
}

/// What one round took, from the moment before the order is sent.
struct Times {
    answered: Duration,
    accepted: Duration,
    first_byte: Duration,
}

/// How long changes of one kind took to reach connections.
struct Change {
    what: &'static str,
    seen: Vec<Duration>,
    /// Connections that were made after the reply and did not have it yet.
    before: usize,
}

/// The time of single commits of a small document, one after the other.
async fn commits(path: &Path, rounds: usize) -> Vec<Duration> {
    let store = RedbStore::open(path).unwrap();
    let mut times = Vec::new();
    for n in 0..rounds {
        let txn = Txn::new().put(format!("bench/{n}"), vec![0_u8; 1024]);
        let started = Instant::now();
        let _ = store.commit(txn).await.unwrap();
        times.push(started.elapsed());
    }
    times
}

fn show(what: &str, mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_secs_f64() * 1000.0;
    println!("{what:<32} {:>9.2} {:>7.2} {:>7.2}", at(0.5), at(0.9), at(1.0));
    at(0.5)
}

struct Bench {
    agent: ureq::Agent,
    api: String,
    provider: (String, String),
    consumer: (String, String),
    client: Namespace,
    directory: Directory,
    instance: Instance,
}

impl Bench {
    fn new(served: &Served) -> Self {
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .build()
            .into();
        let region = served.running.cloud.region();
        let login = |user: &str| region.logins().into_iter().find(|l| l.user == user).unwrap();
        let instance = served.data.instance().unwrap();
        let directory = served.networks.directory(&served.data.namespaces()).unwrap();
        let directory =
            directory.expect("the bench needs networks: run it as root, or where users may make namespaces");
        let backend = open(&directory, &instance, BACKEND_PORT);
        let listener = backend
            .run(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, 80)))
            .unwrap()
            .unwrap();
        std::thread::spawn(move || {
            listener
                .incoming()
                .for_each(|s| s.unwrap().write_all(b"!").unwrap());
        });
        tell(&backend, 81, b'1');
        tell(&backend, 82, b'2');
        Self {
            provider: token(&agent, &served.api, &login("demo")),
            consumer: token(&agent, &served.api, &login("other")),
            api: served.api.clone(),
            agent,
            client: open(&directory, &instance, CLIENT_PORT),
            directory,
            instance,
        }
    }

    fn call(&self, who: &(String, String), method: &str, path: &str, body: &Value) -> Value {
        let request = ureq::http::Request::builder()
            .method(method)
            .uri(match path.strip_prefix('/') {
                Some(path) => format!("{}/{path}", self.api),
                None => format!("{}/v1/{}/{path}", self.api, who.0),
            })
            .header("x-auth-token", &who.1);
        let mut reply = self.agent.run(request.body(body.to_string()).unwrap()).unwrap();
        let text = reply.body_mut().read_to_string().unwrap();
        assert!(
            reply.status().is_success() || reply.status() == 404,
            "{method} {path}: {text}"
        );
        serde_json::from_str(&text).unwrap_or_default()
    }

    /// The times, and the path of the service.
    fn run(&self, rounds: usize) -> (Vec<Times>, String) {
        let body = json!({"port_id": BACKEND_PORT, "vpc_id": BACKEND_VPC, "server_type": "VM",
            "approval_enabled": false, "ports": [{"client_port": 80, "server_port": 80}]});
        let service = self.call(&self.provider, "POST", "vpc-endpoint-services", &body)["id"].clone();
        let path = format!("vpc-endpoint-services/{}", service.as_str().unwrap());
        while self.call(&self.provider, "GET", &path, &Value::Null)["status"] != "available" {}
        let body = json!({"permissions": ["*"], "action": "add"});
        self.call(
            &self.provider,
            "POST",
            &format!("{path}/permissions/action"),
            &body,
        );
        let order = json!({"endpoint_service_id": service, "vpc_id": CLIENT_VPC, "subnet_id": CLIENT_SUBNET});
        ((0..rounds).map(|_| self.round(&order)).collect(), path)
    }

    /// Changes the mode, the mapping and the backend of a service to and fro.
    fn changes(&self, service: &str, rounds: usize) -> Vec<Change> {
        let port = json!({"port": {"network_id": BACKEND_NETWORK, "device_owner": "compute:eu-de-01"}});
        let port = self.call(&self.provider, "POST", "/v2.0/ports", &port)["port"]["id"].clone();
        let port = port.as_str().unwrap();
        let name = port_namespace(&self.instance, port.parse().unwrap());
        let other = loop {
            // The file is there before the namespace is.
            if let Ok(other) = self.directory.open(&name)
                && other.run(|| ()).is_ok()
            {
                break other;
            }
        };
        tell(&other, 81, b'3');
        let ports = |to: u16| json!({"ports": [{"client_port": 80, "server_port": to}]});
        self.call(&self.provider, "PUT", service, &ports(81));
        let id = service.rsplit('/').next();
        let order = json!({"endpoint_service_id": id, "vpc_id": CLIENT_VPC, "subnet_id": CLIENT_SUBNET});
        let endpoint = self.call(&self.consumer, "POST", "vpc-endpoints", &order);
        let path = format!("vpc-endpoints/{}", endpoint["id"].as_str().unwrap());
        let ip: Ipv4Addr = loop {
            if let Some(ip) = self.call(&self.consumer, "GET", &path, &Value::Null)["ip"].as_str() {
                break ip.parse().unwrap();
            }
        };
        // The first of each is how it is before.
        let mode = |word: &str| json!({"tcp_proxy": word});
        let backend = |id: &str| json!({"port_id": id});
        [
            (
                "tcp_proxy",
                [(mode("close"), *b"1x"), (mode("proxy_open"), *b"1\r")],
            ),
            ("port mappings", [(ports(81), *b"1x"), (ports(82), *b"2x")]),
            (
                "backend",
                [(backend(BACKEND_PORT), *b"1x"), (backend(port), *b"3x")],
            ),
        ]
        .into_iter()
        .map(|(what, states)| {
            let mut change = Change {
                what,
                seen: Vec::new(),
                before: 0,
            };
            for n in 1..=rounds.next_multiple_of(2) {
                let (body, expected) = &states[n % 2];
                self.call(&self.provider, "PUT", service, body);
                let answered = Instant::now();
                while self.heard(ip) != *expected {
                    change.before += 1;
                }
                change.seen.push(answered.elapsed());
            }
            change
        })
        .collect()
    }

    /// Which server a new connection gets to, and what that heard first.
    fn heard(&self, ip: Ipv4Addr) -> [u8; 2] {
        let to = SocketAddrV4::new(ip, 80);
        let mut stream = self.client.run(|| TcpStream::connect(to)).unwrap().unwrap();
        stream.write_all(b"x").unwrap();
        let mut heard = [0; 2];
        stream.read_exact(&mut heard).unwrap();
        heard
    }

    fn round(&self, order: &Value) -> Times {
        let started = Instant::now();
        let endpoint = self.call(&self.consumer, "POST", "vpc-endpoints", order);
        let answered = started.elapsed();
        let path = format!("vpc-endpoints/{}", endpoint["id"].as_str().unwrap());
        let ip: Ipv4Addr = loop {
            let seen = self.call(&self.consumer, "GET", &path, &Value::Null);
            assert_ne!(seen["status"], "failed", "{seen}");
            if let Some(ip) = seen["ip"].as_str() {
                break ip.parse().unwrap();
            }
        };
        let accepted = started.elapsed();
        let mut stream = self
            .client
            .run(|| TcpStream::connect(SocketAddrV4::new(ip, 80)))
            .unwrap()
            .unwrap();
        stream.read_exact(&mut [0]).unwrap();
        let first_byte = started.elapsed();
        self.call(&self.consumer, "DELETE", &path, &Value::Null);
        while self.call(&self.consumer, "GET", &path, &Value::Null)["error_code"] != "EndPoint.2006" {}
        Times {
            answered,
            accepted,
            first_byte,
        }
    }
}

/// Serves a port: tells each connection the server's name, and the first that it heard.
fn tell(inside: &Namespace, port: u16, name: u8) {
    let listener = inside.run(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)));
    let listener = listener.unwrap().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut first = [0];
            // One that was cut by a change says nothing.
            if stream.read_exact(&mut first).is_ok() {
                let _ = stream.write_all(&[name, first[0]]);
                // What was not read would make a reset of the end.
                let _ = std::io::copy(&mut stream, &mut std::io::sink());
            }
        }
    });
}

fn open(directory: &Directory, instance: &Instance, port: &str) -> Namespace {
    directory
        .open(&port_namespace(instance, port.parse::<PortId>().unwrap()))
        .unwrap()
}

/// A tenant's project and token.
fn token(agent: &ureq::Agent, api: &str, login: &Login) -> (String, String) {
    let domain = json!({"name": login.domain});
    let user = json!({"name": login.user, "password": login.password, "domain": domain});
    let body = json!({"auth": {
        "identity": {"methods": ["password"], "password": {"user": user}},
        "scope": {"project": {"name": login.project, "domain": domain}},
    }});
    let reply = agent
        .post(format!("{api}/v3/auth/tokens"))
        .send_json(&body)
        .unwrap();
    (
        login.project_id.to_string(),
        reply.headers()["x-subject-token"].to_str().unwrap().to_owned(),
    )
}
