//! Machines of one test: each has its own part of both tenants' VPCs, a fabric joins the parts, and a client and a backend are
//! on the fabric. And what cuts a gateway off from its control plane.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use adit_cloud::kernel::vpc_hash;
use adit_netns::{Directory, Links, Namespace, NextHop, Route, Veth, sysctl};

use super::{BACKEND_VPC, CLIENT_VPC};

/// The VPCs, in the order of what is said of them below.
const VPCS: [&str; 2] = [CLIENT_VPC, BACKEND_VPC];
/// Who is on their fabrics.
const HOSTS: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 0, 0, 20), Ipv4Addr::new(10, 0, 0, 10)];

/// The machines, numbered from 0.
pub(crate) struct Machines {
    tag: String,
    directory: Directory,
    runtime: tokio::runtime::Runtime,
}

impl Machines {
    pub(crate) fn new(count: u8) -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let machines = Self {
            tag: format!("t{:x}n{number}", std::process::id()),
            directory: Directory::at(Directory::SYSTEM).unwrap(),
            runtime: tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .enable_all()
                .build()
                .unwrap(),
        };
        machines.runtime.block_on(machines.make(count));
        machines
    }

    async fn make(&self, count: u8) {
        for (kind, host) in HOSTS.iter().enumerate() {
            let fabric = self.namespace(&self.fabric(kind), &[sysctl::PORT]).await;
            let mac = [2, 0xfa, 0, 0, 0, 1 + kind as u8];
            fabric.bridge_create("fab", mac).await.unwrap();
            for machine in 0..count {
                let name = self.vpc(machine, kind);
                let vpc = self.namespace(&name, &[sysctl::PORT, sysctl::ROUTER]).await;
                let mac = Self::router_mac(machine);
                vpc.bridge_create("s0", mac).await.unwrap();
                let address = format!("{}/24", Self::router(machine)).parse().unwrap();
                vpc.address_add("s0", address, None).await.unwrap();
                join(&fabric, &format!("m{machine}"), &vpc).await;
                vpc.link_set_bridge("up", "s0").await.unwrap();
            }
            let inside = self.namespace(&self.host(kind), &[sysctl::PORT]).await;
            join(&fabric, "host", &inside).await;
            let address = format!("{host}/24").parse().unwrap();
            inside.address_add("up", address, None).await.unwrap();
            let default = Route {
                destination: "0.0.0.0/0".parse().unwrap(),
                next_hop: NextHop::Gateway(Self::router(0).into()),
            };
            inside.route_add(&default).await.unwrap();
        }
    }

    async fn namespace(&self, name: &str, settings: &[&[sysctl::Setting]]) -> Links {
        let namespace = self.directory.create(name).unwrap();
        for settings in settings {
            // Read-only in many containers; connections pass all the same.
            let _ = sysctl::apply(&namespace, settings);
        }
        let links = Links::open(&namespace).await.unwrap();
        links.link_up("lo").await.unwrap();
        links
    }

    fn vpc(&self, machine: u8, kind: usize) -> String {
        let hash = vpc_hash(VPCS[kind].parse().unwrap());
        format!("{}m{machine}v{hash}", self.tag)
    }

    fn fabric(&self, kind: usize) -> String {
        format!("{}f{kind}", self.tag)
    }

    fn host(&self, kind: usize) -> String {
        format!("{}h{kind}", self.tag)
    }

    /// How a machine's VPCs are named.
    pub(crate) fn pattern(&self, machine: u8) -> String {
        format!("{}m{machine}v{{hash}}", self.tag)
    }

    /// The address of a machine in both VPCs.
    pub(crate) fn router(machine: u8) -> Ipv4Addr {
        [10, 0, 0, 250 + machine].into()
    }

    /// Its hardware address there.
    pub(crate) fn router_mac(machine: u8) -> [u8; 6] {
        [2, 0xad, 0, 0, 0, 1 + machine]
    }

    /// Where the client is.
    pub(crate) fn client(&self) -> Namespace {
        self.directory.open(&self.host(0)).unwrap()
    }

    /// Where the backend is.
    pub(crate) fn backend(&self) -> Namespace {
        self.directory.open(&self.host(1)).unwrap()
    }

    /// A machine's part of the client's VPC.
    pub(crate) fn consumer(&self, machine: u8) -> Namespace {
        self.directory.open(&self.vpc(machine, 0)).unwrap()
    }

    /// Takes a machine's part of the client's VPC away.
    pub(crate) fn remove_consumer(&self, machine: u8) {
        self.directory.remove(&self.vpc(machine, 0)).unwrap();
    }

    /// Cuts a machine off from the client's VPC, or joins it again.
    pub(crate) fn cut_from_clients(&self, machine: u8, cut: bool) {
        let state = if cut { "down" } else { "up" };
        let fabric = self.directory.open(&self.fabric(0)).unwrap();
        super::stage::Stage::ip(&fabric, &["link", "set", &format!("m{machine}"), state]);
    }

    /// Whether a machine's part of the client's VPC has an address.
    pub(crate) fn has(&self, machine: u8, ip: Ipv4Addr) -> bool {
        let inside = self.consumer(machine);
        let addresses = self.runtime.block_on(async {
            let links = Links::open(&inside).await.unwrap();
            links.addresses().await.unwrap()
        });
        addresses.iter().any(|address| address.network.addr() == ip)
    }

    /// Whether a machine has a route to another one's source addresses.
    pub(crate) fn knows_others(&self, machine: u8) -> bool {
        let inside = self.directory.open(&self.vpc(machine, 1)).unwrap();
        let routes = self.runtime.block_on(async {
            let links = Links::open(&inside).await.unwrap();
            links.routes().await.unwrap()
        });
        let mut routes = routes.iter();
        routes.any(|route| {
            matches!(route.next_hop, NextHop::Gateway(_)) && route.destination.prefix_len() == 22
        })
    }

    /// The hardware address that the client has for an address, by its neighbour table.
    pub(crate) fn known_at(&self, ip: Ipv4Addr) -> Option<String> {
        let show = || {
            std::process::Command::new("ip")
                .args(["neigh", "show", &ip.to_string()])
                .output()
        };
        let shown = self.client().run(show).unwrap().unwrap();
        let shown = String::from_utf8(shown.stdout).unwrap();
        let mut words = shown.split_whitespace();
        words.find(|word| *word == "lladdr")?;
        words.next().map(str::to_owned)
    }
}

impl Drop for Machines {
    fn drop(&mut self) {
        for name in self.directory.names(&self.tag).unwrap() {
            self.directory.remove(&name).unwrap();
        }
    }
}

/// A veth from the fabric's bridge to `up` in a namespace.
async fn join(fabric: &Links, name: &str, inside: &Links) {
    let veth = Veth {
        name,
        bridge: Some("fab"),
        peer_namespace: inside.namespace(),
        peer_name: "up",
        peer_mac: None,
        mtu: None,
    };
    fabric.veth_create(veth).await.unwrap();
    inside.link_up("up").await.unwrap();
}

/// A wire between a gateway and its control plane that can be cut.
pub(crate) struct Wire {
    listen: SocketAddr,
    cut: Arc<AtomicBool>,
    open: Arc<Mutex<Vec<TcpStream>>>,
}

impl Wire {
    /// To what `url` names.
    pub(crate) fn to(url: &str) -> Self {
        let to: SocketAddr = url.trim_start_matches("http://").parse().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let wire = Self {
            listen: listener.local_addr().unwrap(),
            cut: Arc::default(),
            open: Arc::default(),
        };
        let (cut, open) = (Arc::clone(&wire.cut), Arc::clone(&wire.open));
        std::thread::spawn(move || {
            for near in listener.incoming().flatten() {
                let Ok(far) = TcpStream::connect(to) else { continue };
                let both = [near.try_clone().unwrap(), far.try_clone().unwrap()];
                let mut open = open.lock().unwrap();
                // Decided under the lock: none slips through while the wire is cut.
                if cut.load(Ordering::SeqCst) {
                    continue;
                }
                open.extend(both);
                for (mut from, mut to) in [(near.try_clone().unwrap(), far.try_clone().unwrap()), (far, near)]
                {
                    std::thread::spawn(move || {
                        let _ = io::copy(&mut from, &mut to);
                        let _ = to.shutdown(std::net::Shutdown::Write);
                    });
                }
            }
        });
        wire
    }

    /// The near end.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.listen)
    }

    /// Cuts it, or mends it.
    pub(crate) fn cut(&self, cut: bool) {
        let mut open = self.open.lock().unwrap();
        self.cut.store(cut, Ordering::SeqCst);
        if cut {
            for stream in open.drain(..) {
                let _ = stream.shutdown(std::net::Shutdown::Both);
            }
        }
    }
}
