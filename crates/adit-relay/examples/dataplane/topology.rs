//! Two VPCs and what is in them, as namespaces of this machine; gone when it is dropped.
//!
//! ```text
//!   client ──veth── consumer (bridge, 10.0.0.1/24) ┄┄veth┄┄ provider (bridge, 10.0.1.1/24) ──veth── server
//!   10.0.0.50        endpoints 10.0.0.100 …        direct    198.19.128.0/17 is local        10.0.1.10
//! ```
//!
//! The dotted link is there for `direct` alone, which routes through the same veths; gateways do not use it.

use std::ffi::OsStr;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use adit_netns::{Directory, Namespace, sysctl};

/// Where the server is.
pub(crate) const SERVER: &str = "10.0.1.10";

pub(crate) struct Topology {
    directory: Directory,
    prefix: String,
}

/// Which core a part runs on. For throughput it is all the same; where one endpoint is to be seen beside another, what the
/// gateway does to it is told apart from what a full core does to everybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// Wherever the kernel likes.
    Anywhere,
    /// A core of its own.
    Gateway,
    /// The same core, before everybody else there: also before what the kernel has threads for.
    GatewayFirst,
    /// The other core.
    Others,
    /// The other core too, before everybody else there.
    First,
}

impl Place {
    /// A command that runs there (`taskset` and `chrt` are util-linux's).
    pub(crate) fn command(self, program: impl AsRef<OsStr>) -> Command {
        let words: &[&str] = match self {
            Self::Anywhere => &[],
            Self::Gateway => &["taskset", "--cpu-list", "0"],
            Self::GatewayFirst => &["chrt", "--fifo", "1", "taskset", "--cpu-list", "0"],
            Self::Others => &["taskset", "--cpu-list", "1"],
            Self::First => &["chrt", "--fifo", "1", "taskset", "--cpu-list", "1"],
        };
        let Some((first, rest)) = words.split_first() else {
            return Command::new(program);
        };
        let mut command = Command::new(first);
        command.args(rest).arg(program);
        command
    }
}

/// A process that ends with its handle.
pub(crate) struct Process(pub(crate) Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Topology {
    pub(crate) fn build() -> Self {
        let topology = Self {
            directory: Directory::at(Directory::SYSTEM).expect("/run/netns can be used, as root"),
            prefix: format!("bench{}", std::process::id() % 100_000),
        };
        let (client, consumer, provider, server) = (
            topology.name("client"),
            topology.name("consumer"),
            topology.name("provider"),
            topology.name("server"),
        );
        for name in [&client, &consumer, &provider, &server] {
            let namespace = topology
                .directory
                .create(name)
                .expect("a namespace can be made, as root");
            sysctl::apply(&namespace, sysctl::PORT).unwrap();
            sysctl::apply(&namespace, sysctl::ROUTER).unwrap();
            // The default of the machine decides over everything else that is measured, and reno may be had in every namespace.
            sysctl::apply(&namespace, &[("ipv4/tcp_congestion_control", "reno")]).unwrap();
            topology.ip(name, "link set lo up\n");
        }
        for (vpc, inside, number, address) in [(&consumer, &client, 0, "50"), (&provider, &server, 1, "10")] {
            topology.ip(
                vpc,
                &format!(
                    "link add br0 type bridge\nlink set br0 up\naddress add 10.0.{number}.1/24 dev br0\n\
                     link add p0 type veth peer name eth0 netns {inside}\nlink set p0 master br0\nlink set p0 up\n"
                ),
            );
            topology.ip(
                inside,
                &format!(
                    "link set eth0 up\naddress add 10.0.{number}.{address}/24 dev eth0\n\
                     route add default via 10.0.{number}.1\n"
                ),
            );
        }
        topology.ip(
            &consumer,
            &format!(
                "link add direct type veth peer name direct netns {provider}\nlink set direct up\n\
                 address add 10.255.0.1/30 dev direct\n"
            ),
        );
        topology.ip(
            &provider,
            "link set direct up\naddress add 10.255.0.2/30 dev direct\nroute add 10.0.0.0/24 via 10.255.0.1\n\
             route add local 198.19.128.0/17 dev lo\n",
        );
        topology.ip(&consumer, "route add 10.0.1.0/24 via 10.255.0.2\n");
        for endpoint in 100..116 {
            topology.ip(&consumer, &format!("address add 10.0.0.{endpoint}/32 dev br0\n"));
        }
        topology
    }

    /// The full name of one of the four namespaces.
    pub(crate) fn name(&self, role: &str) -> String {
        format!("{}-{role}", self.prefix)
    }

    pub(crate) fn path(&self, role: &str) -> PathBuf {
        self.directory.path().join(self.name(role))
    }

    fn namespace(&self, role: &str) -> Namespace {
        self.directory.open(&self.name(role)).unwrap()
    }

    /// Starts this program again as one of its parts, inside a namespace.
    pub(crate) fn spawn(&self, role: &str, place: Place, arguments: &[String]) -> Process {
        let start = || {
            place
                .command(std::env::current_exe().unwrap())
                .args(arguments)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
        };
        // A process begins in the namespace of the thread that started it.
        Process(self.namespace(role).run(start).unwrap().unwrap())
    }

    pub(crate) fn start_servers(&self, place: Place) -> Process {
        let quiet = (place == Place::First).to_string();
        let mut server = self.spawn("server", place, &["serve".to_owned(), SERVER.to_owned(), quiet]);
        crate::gateway::wait_ready(&mut server);
        server
    }

    fn ip(&self, namespace: &str, batch: &str) {
        let mut ip = Command::new("ip")
            .args(["-n", namespace, "-batch", "-"])
            .stdin(Stdio::piped())
            .spawn()
            .expect("ip (package iproute2) is there");
        ip.stdin.take().unwrap().write_all(batch.as_bytes()).unwrap();
        assert!(ip.wait().unwrap().success(), "ip -n {namespace}: {batch}");
    }
}

impl Drop for Topology {
    fn drop(&mut self) {
        for role in ["client", "consumer", "provider", "server"] {
            if let Err(error) = self.directory.remove(&self.name(role)) {
                eprintln!("{error}");
            }
        }
    }
}
