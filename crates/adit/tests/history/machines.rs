//! Machines, which are network namespaces on one bridge: their links can be cut, and one can be made unheard of by another.
//!
//! No name of them is anywhere: they go with the processes in them, also where a test is killed.

use std::{
    io::Write as _,
    net::Ipv4Addr,
    process::{Command, Stdio},
};

use adit_netns::{Links, Namespace, Veth};
use ipnet::Ipv4Net;

const BRIDGE: &str = "fabric";
/// A machine's only link.
const LINK: &str = "eth0";
/// A MAC address that nobody has: what is sent there is lost.
const NOBODY: &str = "02:00:00:00:ff:ff";

pub(crate) struct Machine {
    pub(crate) ip: Ipv4Addr,
    pub(crate) inside: Namespace,
    /// The bridge's end of its link.
    port: String,
}

pub(crate) struct Fabric {
    inside: Namespace,
    pub(crate) machines: Vec<Machine>,
}

impl Fabric {
    /// So many machines that reach each other, and nobody else.
    pub(crate) fn new(count: u8) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()
            .unwrap();
        let inside = Namespace::unnamed(BRIDGE).unwrap();
        let machines = runtime.block_on(async {
            let fabric = Links::open(&inside).await.unwrap();
            fabric.bridge_create(BRIDGE, [2, 0, 0, 0, 1, 0]).await.unwrap();
            let mut machines = Vec::new();
            for n in 1..=count {
                machines.push(plug_in(&fabric, n).await);
            }
            machines
        });
        Self { inside, machines }
    }

    /// Cuts a machine's link, or mends it.
    pub(crate) fn cut(&self, machine: usize, cut: bool) {
        let state = if cut { "down" } else { "up" };
        ip(
            &self.inside,
            &format!("link set {} {state}\n", self.machines[machine].port),
        );
    }

    /// Whether what some machines send to others is lost on the way.
    pub(crate) fn mute(&self, from: &[usize], to: &[usize], mute: bool) {
        for from in from {
            let lines: String = to
                .iter()
                .filter(|to| *to != from)
                .map(|to| {
                    let to = self.machines[*to].ip;
                    match mute {
                        true => format!("neigh replace {to} lladdr {NOBODY} nud permanent dev {LINK}\n"),
                        false => format!("neigh del {to} dev {LINK}\n"),
                    }
                })
                .collect();
            ip(&self.machines[*from].inside, &lines);
        }
    }
}

async fn plug_in(fabric: &Links, n: u8) -> Machine {
    let (port, ip) = (format!("machine{n}"), Ipv4Addr::new(10, 77, 0, n));
    let inside = Namespace::unnamed(&port).unwrap();
    let veth = Veth {
        name: &port,
        bridge: Some(BRIDGE),
        peer_namespace: &inside,
        peer_name: LINK,
        peer_mac: Some([2, 0, 0, 0, 0, n]),
        mtu: None,
    };
    fabric.veth_create(veth).await.unwrap();
    let links = Links::open(&inside).await.unwrap();
    for link in ["lo", LINK] {
        links.link_up(link).await.unwrap();
    }
    let network = Ipv4Net::new(ip, 24).unwrap().into();
    links.address_add(LINK, network, None).await.unwrap();
    Machine { ip, inside, port }
}

/// Lines for `ip -batch`, in a namespace.
fn ip(inside: &Namespace, lines: &str) {
    let run = || {
        let mut child = Command::new("ip")
            .args(["-batch", "-"])
            .stdin(Stdio::piped())
            .spawn()?;
        child.stdin.take().unwrap().write_all(lines.as_bytes())?;
        child.wait()
    };
    assert!(inside.run(run).unwrap().unwrap().success(), "ip: {lines}");
}
