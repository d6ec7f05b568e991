//! Makes what a [`Plan`] says in the kernel, cuts and mends its links, and takes all of it away. Decides nothing.

use std::{fs, io};

use adit_netns::{
    Directory, DirectoryError, LinkError, Links, Namespace, NextHop, Route, Veth,
    sysctl::{self, SysctlError},
};
use ipnet::IpNet;

use super::plan::{LINK, Link, Plan, prefix};

/// Why something could not be made or removed.
#[derive(Debug, thiserror::Error)]
pub enum FabricError {
    /// A namespace.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// What is inside one.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// A setting of one.
    #[error(transparent)]
    Sysctl(#[from] SysctlError),
    /// What the system said.
    #[error(transparent)]
    System(#[from] io::Error),
}

/// For a namespace of a lab, beside [`sysctl::PORT`]: it leads nowhere; it answers ARP for what is local in it and on no link (source
/// addresses), and asks with its own address; and an address outlives the one that it was added after.
const SETTINGS: &[sysctl::Setting] = &[
    ("ipv4/conf/all/arp_announce", "2"),
    ("ipv4/conf/all/promote_secondaries", "1"),
];

/// The namespaces of a lab.
#[derive(Clone, Debug)]
pub struct Fabric {
    directory: Directory,
    name: String,
}

impl Fabric {
    /// That of a plan.
    ///
    /// # Errors
    /// Where there is no directory of namespaces.
    pub fn new(plan: &Plan) -> Result<Self, FabricError> {
        Ok(Self {
            directory: Directory::at(Directory::SYSTEM)?,
            name: plan.fabric.clone(),
        })
    }

    /// The directory of namespaces.
    #[must_use]
    pub fn directory(&self) -> &Directory {
        &self.directory
    }

    /// Opens a namespace.
    ///
    /// # Errors
    /// Where it is not there.
    pub fn open(&self, name: &str) -> Result<Namespace, FabricError> {
        Ok(self.directory.open(name)?)
    }

    /// Makes everything that the plan says; what is there already stays.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub async fn raise(&self, plan: &Plan) -> Result<(), FabricError> {
        let fabric = self.make(&self.name).await?;
        for (bridge, mac) in &plan.bridges {
            fabric.bridge_create(bridge, *mac).await?;
        }
        for link in plan.places.iter().flat_map(|place| &place.links) {
            self.connect(&fabric, link).await?;
        }
        Ok(())
    }

    async fn make(&self, name: &str) -> Result<Links, FabricError> {
        let namespace = self.directory.create(name)?;
        for settings in [sysctl::PORT, sysctl::DEAD_END, SETTINGS] {
            sysctl::apply(&namespace, settings)?;
        }
        let links = Links::open(&namespace).await?;
        links.link_up("lo").await?;
        Ok(links)
    }

    async fn connect(&self, fabric: &Links, link: &Link) -> Result<(), FabricError> {
        let inside = self.make(&link.namespace).await?;
        fabric
            .veth_create(Veth {
                name: &link.port,
                bridge: Some(link.bridge),
                peer_namespace: inside.namespace(),
                peer_name: LINK,
                peer_mac: Some(link.mac),
                mtu: None,
            })
            .await?;
        inside.link_up(LINK).await?;
        inside.address_add(LINK, IpNet::V4(link.address), None).await?;
        if let Some(destination) = link.on_link {
            let next_hop = NextHop::Link(LINK.to_owned());
            inside
                .route_add(&Route {
                    destination,
                    next_hop,
                })
                .await?;
        }
        Ok(())
    }

    /// Cuts a link: it stays up at both ends, and what is sent over it is lost.
    ///
    /// # Errors
    /// Where it is not there.
    pub async fn cut(&self, link: &Link) -> Result<(), FabricError> {
        let fabric = Links::open(&self.open(&self.name)?).await?;
        Ok(fabric.link_leave_bridge(&link.port).await?)
    }

    /// Mends a link that was cut.
    ///
    /// # Errors
    /// Where it is not there.
    pub async fn mend(&self, link: &Link) -> Result<(), FabricError> {
        let fabric = Links::open(&self.open(&self.name)?).await?;
        Ok(fabric.link_set_bridge(&link.port, link.bridge).await?)
    }

    /// The processes inside any of an instance's namespaces, whoever started them.
    ///
    /// # Errors
    /// Where the namespaces or `/proc` cannot be read.
    pub fn inhabitants(&self, instance: &str) -> Result<Vec<i32>, FabricError> {
        let names = self.directory.names(&prefix(instance))?;
        let opened = names.iter().filter_map(|name| self.directory.open(name).ok());
        let inodes: Vec<_> = opened.map(|namespace| namespace.inode()).collect();
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc")? {
            let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            if inode_of(pid).is_some_and(|inode| inodes.contains(&inode)) {
                found.push(pid);
            }
        }
        Ok(found)
    }

    /// Removes every namespace of an instance; gone is success.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn remove(&self, instance: &str) -> Result<(), FabricError> {
        for name in self.directory.names(&prefix(instance))? {
            self.directory.remove(&name)?;
        }
        Ok(())
    }
}

/// The network namespace of a process.
fn inode_of(pid: i32) -> Option<u64> {
    let link = fs::read_link(format!("/proc/{pid}/ns/net")).ok()?;
    let text = link.to_str()?;
    text.strip_prefix("net:[")?.strip_suffix(']')?.parse().ok()
}
