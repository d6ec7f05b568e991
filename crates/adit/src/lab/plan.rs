//! What a lab is made of: namespaces, bridges, links, addresses and command lines, as values. Pure.
//!
//! ```text
//!   fabric ──┬─ bridge control ─┬─ etcd-1…3, api-1…3, gateway-1…3, desk          172.30.0.0/24
//!            ├─ bridge provider ─┬─ each gateway's namespace of that VPC           10.0.0.0/24
//!            │                   └─ backend-1
//!            └─ bridge consumer ─┬─ each gateway's namespace of that VPC           10.0.0.0/24
//!                                └─ client-1, client-2
//! ```
//!
//! A machine is a namespace, whose process sees nothing but its link to `control`; a gateway's machine has one more for each VPC, where it
//! listens and connects. Every link has its port on a bridge in the fabric, a namespace of its own: nothing is made in the host's.

use std::{net::Ipv4Addr, path::Path};

use adit_model::network::RESERVED;
use ipnet::{IpNet, Ipv4Net};

/// How many of each there may be: more than five addresses of gateways there are not in a subnet behind .250.
const EACH_MAX: u8 = 5;
/// Where control planes serve the API, and gateways.
const API_PORT: u16 = 7117;
const NODES_PORT: u16 = 7118;
/// Where etcd serves clients, and its other members.
pub const ETCD_PORT: u16 = 2379;
const PEER_PORT: u16 = 2380;
/// Where the backend listens, and clients of the endpoint connect to.
pub const SERVER_PORT: u16 = 80;
/// What every machine's link is called.
pub const LINK: &str = "eth0";
/// The bridge of the machines.
const CONTROL: &str = "control";
/// The namespace that the bridges are in.
const FABRIC: &str = "fabric";

/// The VPCs: their bridge's name, their id in the lab's region file.
pub const PROVIDER: Vpc = Vpc {
    name: "provider",
    id: "4189d3c2-8882-4871-a3c2-d380272eed80",
};
/// The VPC that has the clients.
pub const CONSUMER: Vpc = Vpc {
    name: "consumer",
    id: "5290e4d3-9993-4982-b4d3-e491383ffe90",
};

/// A VPC that is stretched over all gateways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vpc {
    /// What the lab calls it, and its bridge.
    pub name: &'static str,
    /// Its id.
    pub id: &'static str,
}

/// How many machines of each kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Shape {
    /// Members of etcd.
    pub etcd: u8,
    /// Control planes.
    pub api: u8,
    /// Gateways.
    pub gateway: u8,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            etcd: 3,
            api: 3,
            gateway: 3,
        }
    }
}

/// What a place is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A member of etcd.
    Etcd,
    /// A control plane.
    Api,
    /// A gateway.
    Gateway,
    /// Where a person works from: a machine without a process.
    Desk,
    /// A server in the provider's VPC.
    Backend,
    /// A client in the consumer's.
    Client,
}

/// Which links of a machine.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize, clap::ValueEnum,
)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// To the other machines.
    Control,
    /// To the VPCs.
    Tenants,
}

/// A link from a namespace to a bridge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its port's name in the fabric.
    pub port: String,
    /// The bridge there.
    pub bridge: &'static str,
    /// Whether it leads to machines or into a VPC.
    pub side: Side,
    /// The namespace at its other end, where it is called [`LINK`].
    pub namespace: String,
    /// The MAC address there.
    pub mac: [u8; 6],
    /// The address there.
    pub address: Ipv4Net,
    /// What else is reached over it, without a router.
    pub on_link: Option<IpNet>,
}

/// A machine, or a member of a VPC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub kind: Kind,
    /// The namespace that its process runs in.
    pub namespace: String,
    /// Its links.
    pub links: Vec<Link>,
    /// Its process: the program (`None` is this one) and its words.
    pub process: Option<Process>,
}

/// A process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// The program; `None` is this one.
    pub program: Option<&'static str>,
    /// Its words.
    pub words: Vec<String>,
    /// The address on which it accepts once it is there; `None` where it says so in `run.json`.
    pub accepts: Option<(Ipv4Addr, u16)>,
}

/// A lab.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The namespace with the bridges.
    pub fabric: String,
    /// The bridges, with their MAC addresses.
    pub bridges: Vec<(&'static str, [u8; 6])>,
    /// Machines and members, in the order in which they start.
    pub places: Vec<Place>,
    instance: String,
    shape: Shape,
}

/// What the names of a lab's namespaces begin with.
pub fn prefix(instance: &str) -> String {
    format!("lab-{instance}-")
}

/// The control network's address of the `n`th of a kind.
fn machine(kind: Kind, n: u8) -> Ipv4Addr {
    let tens = match kind {
        Kind::Etcd => 10,
        Kind::Api => 20,
        Kind::Gateway => 30,
        Kind::Desk | Kind::Backend | Kind::Client => 0,
    };
    Ipv4Addr::new(172, 30, 0, tens + n)
}

/// Locally administered, and each bridge has its own.
fn mac(bridge: u8, address: Ipv4Addr) -> [u8; 6] {
    let [_, b, c, d] = address.octets();
    [0x02, 0xad, bridge, b, c, d]
}

fn urls(kind: Kind, count: u8, port: u16) -> Vec<String> {
    let url = |n| format!("http://{}:{port}", machine(kind, n));
    (1..=count).map(url).collect()
}

fn words(text: &[&str]) -> Vec<String> {
    text.iter().map(|word| (*word).to_owned()).collect()
}

impl Plan {
    /// The lab of that instance, with its files in `directory`.
    ///
    /// # Errors
    /// Where there are none of a kind that is needed, or too many.
    pub fn new(instance: &str, directory: &Path, shape: Shape) -> Result<Self, String> {
        for (count, least, what) in [
            (shape.etcd, 1, "etcd"),
            (shape.api, 0, "api"),
            (shape.gateway, 0, "gateway"),
        ] {
            if !(least..=EACH_MAX).contains(&count) {
                return Err(format!("{count} of {what}: there can be {least} to {EACH_MAX}"));
            }
        }
        let mut plan = Self {
            fabric: format!("{}{FABRIC}", prefix(instance)),
            bridges: [(CONTROL, 0), (PROVIDER.name, 1), (CONSUMER.name, 2)]
                .map(|(name, n)| (name, mac(n, Ipv4Addr::new(0, 0, 0, 0))))
                .to_vec(),
            places: Vec::new(),
            instance: instance.to_owned(),
            shape,
        };
        for n in 1..=shape.etcd {
            let process = plan.etcd(n, directory);
            plan.machine(Kind::Etcd, n, Some(process));
        }
        for n in 1..=shape.api {
            let process = plan.api(n, directory);
            plan.machine(Kind::Api, n, Some(process));
        }
        plan.machine(Kind::Desk, 1, None);
        if shape.gateway > 0 {
            plan.member(Kind::Backend, 1, PROVIDER, Ipv4Addr::new(10, 0, 0, 10));
            plan.member(Kind::Client, 1, CONSUMER, Ipv4Addr::new(10, 0, 0, 20));
            plan.member(Kind::Client, 2, CONSUMER, Ipv4Addr::new(10, 0, 0, 21));
        }
        for n in 1..=shape.gateway {
            let process = plan.gateway(n, directory);
            plan.machine(Kind::Gateway, n, Some(process));
        }
        Ok(plan)
    }

    /// All namespaces but the fabric.
    pub fn namespaces(&self) -> impl Iterator<Item = &str> {
        let links = self.places.iter().flat_map(|place| &place.links);
        links.map(|link| link.namespace.as_str())
    }

    /// The place of that name.
    pub fn place(&self, name: &str) -> Option<&Place> {
        self.places.iter().find(|place| place.name == name)
    }

    /// The places of a kind.
    pub fn of(&self, kind: Kind) -> impl Iterator<Item = &Place> {
        self.places.iter().filter(move |place| place.kind == kind)
    }

    /// Where the API is.
    pub fn apis(&self) -> Vec<String> {
        urls(Kind::Api, self.shape.api, API_PORT)
    }

    /// Where etcd is.
    pub fn etcds(&self) -> Vec<String> {
        urls(Kind::Etcd, self.shape.etcd, ETCD_PORT)
    }

    /// The name of a gateway's namespace of a VPC.
    pub fn leg(&self, gateway: &str, vpc: &str) -> String {
        format!("{}{gateway}-{vpc}", prefix(&self.instance))
    }

    fn machine(&mut self, kind: Kind, n: u8, process: Option<Process>) {
        let name = match kind {
            Kind::Etcd => format!("etcd-{n}"),
            Kind::Api => format!("api-{n}"),
            Kind::Gateway => format!("gateway-{n}"),
            Kind::Desk | Kind::Backend | Kind::Client => "desk".to_owned(),
        };
        let namespace = format!("{}{name}", prefix(&self.instance));
        let address = machine(kind, n);
        let mut links = vec![Link {
            port: name.clone(),
            bridge: CONTROL,
            side: Side::Control,
            namespace: namespace.clone(),
            mac: mac(0, address),
            address: network(address),
            on_link: None,
        }];
        if kind == Kind::Gateway {
            for (at, vpc) in [PROVIDER, CONSUMER].into_iter().enumerate() {
                let own = Ipv4Addr::new(10, 0, 0, 250 + n);
                links.push(Link {
                    port: format!("{name}.{at}"),
                    bridge: vpc.name,
                    side: Side::Tenants,
                    namespace: self.leg(&name, vpc.id),
                    mac: mac(1 + at as u8, own),
                    address: network(own),
                    on_link: None,
                });
            }
        }
        self.places.push(Place {
            name,
            kind,
            namespace,
            links,
            process,
        });
    }

    fn member(&mut self, kind: Kind, n: u8, vpc: Vpc, address: Ipv4Addr) {
        let provider = vpc == PROVIDER;
        let name = format!("{}-{n}", if provider { "backend" } else { "client" });
        let namespace = format!("{}{name}", prefix(&self.instance));
        let process = provider.then(|| Process {
            program: None,
            words: words(&["lab", "serve", "--port", &SERVER_PORT.to_string()]),
            accepts: Some((Ipv4Addr::LOCALHOST, SERVER_PORT)),
        });
        self.places.push(Place {
            links: vec![Link {
                port: name.clone(),
                bridge: vpc.name,
                side: Side::Tenants,
                namespace: namespace.clone(),
                mac: mac(if provider { 1 } else { 2 }, address),
                address: network(address),
                // Whichever gateway a connection comes from answers ARP for its source address.
                on_link: provider.then_some(IpNet::V4(RESERVED)),
            }],
            name,
            kind,
            namespace,
            process,
        });
    }

    fn etcd(&self, n: u8, directory: &Path) -> Process {
        let address = machine(Kind::Etcd, n);
        let (name, data) = (format!("etcd-{n}"), directory.join(format!("etcd-{n}/data")));
        let client = format!("http://{address}:{ETCD_PORT}");
        let peer = format!("http://{address}:{PEER_PORT}");
        let peers = urls(Kind::Etcd, self.shape.etcd, PEER_PORT);
        let cluster: Vec<_> = (1..)
            .zip(&peers)
            .map(|(n, url)| format!("etcd-{n}={url}"))
            .collect();
        let local = format!("http://127.0.0.1:{ETCD_PORT}");
        Process {
            program: Some("etcd"),
            words: words(&[
                "--name",
                &name,
                "--data-dir",
                &data.to_string_lossy(),
                "--listen-client-urls",
                &format!("{client},{local}"),
                "--advertise-client-urls",
                &client,
                "--listen-peer-urls",
                &peer,
                "--initial-advertise-peer-urls",
                &peer,
                "--initial-cluster",
                &cluster.join(","),
                "--initial-cluster-token",
                &prefix(&self.instance),
                "--auto-compaction-mode=periodic",
                "--auto-compaction-retention=1h",
                "--log-level=warn",
            ]),
            accepts: Some((Ipv4Addr::LOCALHOST, ETCD_PORT)),
        }
    }

    fn api(&self, n: u8, directory: &Path) -> Process {
        let address = machine(Kind::Api, n);
        let file = |name: &str| directory.join(name).to_string_lossy().into_owned();
        Process {
            program: None,
            words: words(&[
                "api",
                "--data",
                &file(&format!("api-{n}/data")),
                "--listen",
                &format!("{address}:{API_PORT}"),
                "--node-listen",
                &format!("{address}:{NODES_PORT}"),
                "--node-token-file",
                &file("node-token"),
                "--region-file",
                &file("region.toml"),
                "--store",
                &format!("etcd:{}", self.etcds().join(",")),
                "--allow-plain-http",
            ]),
            accepts: Some((address, API_PORT)),
        }
    }

    fn gateway(&self, n: u8, directory: &Path) -> Process {
        let name = format!("gateway-{n}");
        let file = |name: &str| directory.join(name).to_string_lossy().into_owned();
        Process {
            program: None,
            words: words(&[
                "gateway",
                "run",
                "--node",
                &name,
                "--state",
                &file(&format!("{name}/data")),
                "--control",
                &urls(Kind::Api, self.shape.api, NODES_PORT).join(","),
                "--node-token-file",
                &file("node-token"),
                "--namespaces",
                &self.leg(&name, "{vpc}"),
                // What is open when another process takes over goes on for so long.
                "--stop-drain-s",
                "60",
            ]),
            accepts: None,
        }
    }
}

/// An address in a network of 256.
fn network(address: Ipv4Addr) -> Ipv4Net {
    Ipv4Net::new_assert(address, 24)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The longest name of a link, with its end (`IFNAMSIZ`).
    const LINK_NAME_MAX: usize = 16;

    fn plan() -> Plan {
        let shape = Shape {
            etcd: EACH_MAX,
            api: EACH_MAX,
            gateway: EACH_MAX,
        };
        Plan::new("x7k2q", Path::new("/lab"), shape).unwrap()
    }

    #[test]
    fn no_two_things_share_a_name_or_an_address() {
        let plan = plan();
        let links: Vec<_> = plan.places.iter().flat_map(|place| &place.links).collect();
        let distinct = |values: Vec<String>| values.iter().collect::<BTreeSet<_>>().len() == values.len();
        assert!(distinct(plan.places.iter().map(|p| p.name.clone()).collect()));
        assert!(distinct(links.iter().map(|l| l.namespace.clone()).collect()));
        assert!(distinct(links.iter().map(|l| l.port.clone()).collect()));
        assert!(distinct(
            links
                .iter()
                .map(|l| format!("{} {}", l.bridge, l.address))
                .collect()
        ));
        assert!(distinct(links.iter().map(|l| format!("{:?}", l.mac)).collect()));
        assert!(links.iter().all(|l| l.port.len() < LINK_NAME_MAX));
        assert!(plan.namespaces().all(|name| name.starts_with(&prefix("x7k2q"))));
    }

    #[test]
    fn each_address_is_a_port_of_the_region_so_that_no_endpoint_gets_it() {
        let plan = Plan::new("x7k2q", Path::new("/lab"), Shape::default()).unwrap();
        for link in plan.places.iter().flat_map(|place| &place.links) {
            if link.side == Side::Tenants {
                assert!(
                    crate::lab::REGION.contains(&format!("ip = \"{}\"", link.address.addr())),
                    "{link:?}"
                );
            }
        }
    }

    #[test]
    fn there_cannot_be_no_etcd_nor_six_gateways() {
        let with = |etcd, gateway| {
            let shape = Shape {
                etcd,
                gateway,
                ..Shape::default()
            };
            Plan::new("x7k2q", Path::new("/lab"), shape)
        };
        assert!(with(0, 3).is_err());
        assert!(with(3, 6).is_err());
        assert!(with(1, 0).is_ok());
    }
}
