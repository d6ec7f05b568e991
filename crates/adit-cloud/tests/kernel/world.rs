//! A region's documents on the kernel, and servers and clients in its ports.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::time::Duration;

use adit_cloud::kernel::desired::{Desired, desired};
use adit_cloud::kernel::{Instance, Kernel, Report, port_namespace, vpc_namespace};
use adit_model::id::{PortId, VpcId};
use adit_model::network::{Port, RouteTable, Subnet, Vpc};
use adit_netns::{Directory, Links, Namespace};

use crate::region::{port, subnet, vpc};

/// How long a connection that must fail is waited for.
const REFUSAL_MS: u64 = 300;

/// A region's documents and its kernel.
pub(crate) struct Region {
    pub(crate) runtime: tokio::runtime::Runtime,
    pub(crate) kernel: Kernel,
    pub(crate) vpcs: Vec<Vpc>,
    pub(crate) subnets: Vec<Subnet>,
    pub(crate) ports: Vec<Port>,
    pub(crate) tables: Vec<RouteTable>,
}

impl Region {
    pub(crate) fn start(directory: &Directory) -> Self {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let kernel = Kernel::start(instance(), directory.clone()).unwrap();
        let (vpcs, subnets, ports, tables) = Default::default();
        Self {
            runtime,
            kernel,
            vpcs,
            subnets,
            ports,
            tables,
        }
    }

    pub(crate) fn add_vpc(&mut self) -> VpcId {
        self.vpcs.push(vpc());
        self.vpcs.last().unwrap().id
    }

    pub(crate) fn add_subnet(&mut self, vpc: VpcId, cidr: &str) -> usize {
        self.subnets.push(subnet(Some(vpc), cidr));
        self.subnets.len() - 1
    }

    pub(crate) fn add_port(&mut self, subnet: usize, ip: &str) -> PortId {
        self.ports.push(port(&self.subnets[subnet], ip));
        self.ports.last().unwrap().id
    }

    pub(crate) fn desired(&self) -> Desired {
        desired(&instance(), &self.vpcs, &self.subnets, &self.ports, &self.tables)
    }

    pub(crate) fn apply(&self) -> Report {
        self.runtime.block_on(self.kernel.apply(&self.desired()))
    }

    pub(crate) fn apply_all(&self) {
        let report = self.apply();
        assert!(report.is_done(), "{report:?}");
    }

    pub(crate) fn vpc(&self, id: VpcId) -> Namespace {
        self.kernel
            .directory()
            .open(&vpc_namespace(&instance(), id))
            .unwrap()
    }

    pub(crate) fn port(&self, id: PortId) -> Namespace {
        self.kernel
            .directory()
            .open(&port_namespace(&instance(), id))
            .unwrap()
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.kernel.directory().names("").unwrap()
    }

    pub(crate) fn links(&self, namespace: &Namespace) -> Links {
        self.runtime.block_on(Links::open(namespace)).unwrap()
    }

    pub(crate) fn stop(self) {
        let directory = self.kernel.directory().clone();
        self.runtime.block_on(self.kernel.stop()).unwrap();
        assert!(directory.names("").unwrap().is_empty());
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
        assert!(
            !mounts.contains(directory.path().to_str().unwrap()),
            "a mount is left"
        );
    }
}

pub(crate) fn instance() -> Instance {
    "t3st5".parse().unwrap()
}

/// A server that greets each client with its name and then with the client's address.
pub(crate) fn serve(namespace: &Namespace, port: u16, name: &'static str) {
    let listener = namespace
        .run(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)))
        .unwrap()
        .unwrap();
    std::thread::spawn(move || {
        while let Ok((mut client, from)) = listener.accept() {
            // A client that is gone again is no concern of the server's.
            let _ = write!(client, "{name} sees {}", from.ip());
        }
    });
}

/// What the server at `to` says to a client in `namespace`.
pub(crate) fn ask(namespace: &Namespace, to: &str) -> String {
    let address: SocketAddr = to.parse().unwrap();
    answer(
        namespace
            .run(|| TcpStream::connect_timeout(&address, Duration::from_secs(10)))
            .unwrap()
            .unwrap(),
    )
}

/// As [`ask`], from a source address of the client's choice.
pub(crate) fn ask_from(namespace: &Namespace, from: &str, to: &str) -> String {
    use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
    let (from, to): (Ipv4Addr, SocketAddrV4) = (from.parse().unwrap(), to.parse().unwrap());
    let connected = namespace.run(|| {
        let socket = socket(AddressFamily::INET, SocketType::STREAM, None)?;
        bind(&socket, &SocketAddrV4::new(from, 0))?;
        connect(&socket, &to)?;
        rustix::io::Result::Ok(socket)
    });
    answer(connected.unwrap().unwrap().into())
}

pub(crate) fn answer(mut stream: TcpStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

pub(crate) fn is_unreachable(namespace: &Namespace, to: &str) -> bool {
    let (address, patience) = (to.parse().unwrap(), Duration::from_millis(REFUSAL_MS));
    namespace
        .run(|| TcpStream::connect_timeout(&address, patience))
        .unwrap()
        .is_err()
}
