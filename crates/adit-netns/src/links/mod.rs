//! What is inside a namespace: links (here), addresses and routes, by netlink.

mod address;
mod renewal;
mod route;

use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;

use futures_util::TryStreamExt;
use rtnetlink::packet_route::link::{InfoData, InfoVeth, LinkAttribute, LinkFlags, LinkMessage};
use rtnetlink::{Handle, LinkBridge, LinkMessageBuilder, LinkUnspec, LinkVeth};
use rustix::io::Errno;

use crate::Namespace;

pub use address::Address;
pub use renewal::Renewal;
pub use route::{NextHop, Route};

/// A namespace's links, addresses and routes: a handle on one netlink socket that lives inside it. Cheap to clone. The
/// socket, and with it the namespace, lives until the last clone is dropped.
#[derive(Clone, Debug)]
pub struct Links {
    namespace: Namespace,
    handle: Handle,
    /// Requests go one by one: the kernel makes one list at a time for a socket (`EBUSY`), and answers that do not fit
    /// the socket's buffer are lost without a word, so that whoever awaits them waits for ever.
    turn: Arc<tokio::sync::Mutex<()>>,
}

/// A link as the kernel shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The kernel's number of it, unique in its namespace and never used again.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Whether it is set up (administratively: it may still have no carrier).
    pub up: bool,
    /// Its MAC address, if it is an Ethernet link.
    pub mac: Option<[u8; 6]>,
    /// Its MTU, bytes.
    pub mtu: u32,
    /// The index of the bridge that it is a port of.
    pub master: Option<u32>,
}

/// A veth pair to be made: one end in the namespace of the [`Links`], set up; the other in `peer_namespace`, down (the
/// kernel cannot start it before its pair is whole: [`Links::link_up`] there).
#[derive(Clone, Copy, Debug)]
pub struct Veth<'a> {
    /// The name of the near end.
    pub name: &'a str,
    /// The bridge which the near end becomes a port of.
    pub bridge: Option<&'a str>,
    /// Where the far end is to be.
    pub peer_namespace: &'a Namespace,
    /// The name of the far end.
    pub peer_name: &'a str,
    /// The MAC address of the far end; the kernel picks one if `None`.
    pub peer_mac: Option<[u8; 6]>,
    /// The MTU of both ends, bytes; the kernel's default (1500) if `None`.
    pub mtu: Option<u32>,
}

/// Why something could not be done inside a namespace.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {object} in namespace {namespace}")]
pub struct LinkError {
    /// The namespace's name.
    pub namespace: String,
    /// What was attempted, as in "add address".
    pub action: &'static str,
    /// What it was attempted with, as in "10.0.0.1/24 on eth0".
    pub object: String,
    /// What the kernel said.
    pub source: io::Error,
}

impl LinkError {
    /// Whether the link, the address or the namespace it needs is not there (`ENODEV`, `ENOENT`, `EADDRNOTAVAIL`).
    #[must_use]
    pub fn is_missing(&self) -> bool {
        errno_among(&self.source, GONE)
    }
}

/// What the kernel answers when it is asked to remove what is not there. `ESRCH` is for routes.
const GONE: &[Errno] = &[Errno::NODEV, Errno::NOENT, Errno::ADDRNOTAVAIL, Errno::SRCH];

impl Links {
    /// Opens a netlink socket inside `namespace`. Needs a tokio runtime with I/O, which drives it.
    ///
    /// # Errors
    ///
    /// When the namespace cannot be entered or no socket can be had there.
    pub async fn open(namespace: &Namespace) -> Result<Self, LinkError> {
        let runtime = tokio::runtime::Handle::current();
        let inside = namespace.clone();
        let opened = tokio::task::spawn_blocking(move || {
            inside.run(|| {
                let _guard = runtime.enter();
                rtnetlink::new_connection()
            })
        });
        let opened = opened.await.unwrap_or_else(|error| Err(io::Error::other(error)));
        let (connection, handle, _) = opened.and_then(|result| result).map_err(|source| LinkError {
            namespace: namespace.name().to_owned(),
            action: "open",
            object: "a netlink socket".to_owned(),
            source,
        })?;
        tokio::spawn(connection);
        Ok(Self {
            namespace: namespace.clone(),
            handle,
            turn: Arc::default(),
        })
    }

    /// The namespace that the links are in.
    #[must_use]
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// All links.
    ///
    /// # Errors
    ///
    /// When the kernel does not answer.
    pub async fn links(&self) -> Result<Vec<Link>, LinkError> {
        let messages: Result<Vec<_>, _> = self
            .ask(|| self.handle.link().get().execute().try_collect())
            .await;
        let messages = messages.map_err(|error| self.error("list", "links", error))?;
        Ok(messages.iter().map(link_of).collect())
    }

    /// The link of that name, if there is one.
    ///
    /// # Errors
    ///
    /// When the kernel does not answer.
    pub async fn link(&self, name: &str) -> Result<Option<Link>, LinkError> {
        let request = self.handle.link().get().match_name(name.to_owned());
        match self.ask(async || request.execute().try_next().await).await {
            Ok(message) => Ok(message.as_ref().map(link_of)),
            Err(error) => gone_is_success(error)
                .map(|()| None)
                .map_err(|error| self.error("look up link", name, error)),
        }
    }

    /// Makes a bridge with the given MAC address and sets it up. It gets a MAC address of its own, because the kernel
    /// would otherwise change it with every port that comes and go stale in the neighbours' tables.
    ///
    /// # Errors
    ///
    /// What the kernel answers; a link of that name is taken for the bridge.
    pub async fn bridge_create(&self, name: &str, mac: [u8; 6]) -> Result<(), LinkError> {
        let message = LinkBridge::new(name).address(mac.to_vec()).up().build();
        self.done(
            "create bridge",
            name,
            self.ask(|| self.handle.link().add(message).execute()).await,
        )
    }

    /// Makes a veth pair, each end in its place and under its final name from the start, and sets the near end up.
    ///
    /// # Errors
    ///
    /// `ENODEV` when the bridge is not there, else what the kernel answers. When either name is taken the pair is
    /// taken to be there already.
    pub async fn veth_create(&self, veth: Veth<'_>) -> Result<(), LinkError> {
        const ACTION: &str = "create veth";
        let object = format!(
            "{} with {} in {}",
            veth.name,
            veth.peer_name,
            veth.peer_namespace.name()
        );
        let mut peer = LinkMessageBuilder::<LinkUnspec>::new()
            .name(veth.peer_name)
            .setns_by_fd(veth.peer_namespace.as_fd().as_raw_fd());
        let mut near = LinkVeth::new(veth.name, veth.peer_name).up();
        if let Some(mac) = veth.peer_mac {
            peer = peer.address(mac.to_vec());
        }
        if let Some(mtu) = veth.mtu {
            peer = peer.mtu(mtu);
            near = near.mtu(mtu);
        }
        if let Some(bridge) = veth.bridge {
            near = near.controller(self.index(bridge, ACTION, &object).await?);
        }
        let message = near
            .set_info_data(InfoData::Veth(InfoVeth::Peer(peer.build())))
            .build();
        self.done(
            ACTION,
            object,
            self.ask(|| self.handle.link().add(message).execute()).await,
        )
    }

    /// Sets a link up (`lo` above all: without it a namespace cannot even talk to itself).
    ///
    /// # Errors
    ///
    /// `ENODEV` when it is not there.
    pub async fn link_up(&self, name: &str) -> Result<(), LinkError> {
        let message = LinkUnspec::new_with_name(name).up().build();
        self.change("set up link", name, message).await
    }

    /// Sets a link's MAC address.
    ///
    /// # Errors
    ///
    /// `ENODEV` when it is not there.
    pub async fn link_set_mac(&self, name: &str, mac: [u8; 6]) -> Result<(), LinkError> {
        let message = LinkUnspec::new_with_name(name).address(mac.to_vec()).build();
        self.change("set the MAC address of link", name, message).await
    }

    /// Sets a link's MTU, bytes.
    ///
    /// # Errors
    ///
    /// `ENODEV` when it is not there, `EINVAL` when the kind of link cannot have it.
    pub async fn link_set_mtu(&self, name: &str, mtu: u32) -> Result<(), LinkError> {
        let message = LinkUnspec::new_with_name(name).mtu(mtu).build();
        self.change("set the MTU of link", name, message).await
    }

    /// Makes a link a port of `bridge`.
    ///
    /// # Errors
    ///
    /// `ENODEV` when one of them is not there.
    pub async fn link_set_bridge(&self, name: &str, bridge: &str) -> Result<(), LinkError> {
        const ACTION: &str = "set the bridge of link";
        let index = self.index(bridge, ACTION, name).await?;
        let message = LinkUnspec::new_with_name(name).controller(index).build();
        self.change(ACTION, name, message).await
    }

    /// Takes a link from its bridge: it stays up, and whatever is sent over it is lost without a word, as behind a switch that
    /// forwards nothing. The link has to be up.
    ///
    /// # Errors
    ///
    /// `ENODEV` when it is not there.
    pub async fn link_leave_bridge(&self, name: &str) -> Result<(), LinkError> {
        let message = LinkUnspec::new_with_name(name).nocontroller().build();
        self.change("take from its bridge link", name, message).await
    }

    /// Deletes a link, and with a veth its other end.
    ///
    /// # Errors
    ///
    /// What the kernel answers; already gone is success.
    pub async fn link_delete(&self, name: &str) -> Result<(), LinkError> {
        let Some(link) = self.link(name).await? else {
            return Ok(());
        };
        let deleted = self.ask(|| self.handle.link().del(link.index).execute()).await;
        self.done_or_gone("delete link", name, deleted)
    }

    /// Waits for its turn, then sends one request (`execute` of a request does that at once, so it is called here and not
    /// before) and waits for its answer.
    async fn ask<F: Future>(&self, send: impl FnOnce() -> F) -> F::Output {
        let _turn = self.turn.lock().await;
        send().await
    }

    async fn change(&self, action: &'static str, name: &str, message: LinkMessage) -> Result<(), LinkError> {
        let changed = self.ask(|| self.handle.link().change(message).execute()).await;
        changed.map_err(|error| self.error(action, name, error))
    }

    /// The index of a link that `action` on `object` needs.
    async fn index(
        &self,
        name: &str,
        action: &'static str,
        object: impl fmt::Display,
    ) -> Result<u32, LinkError> {
        match self.link(name).await? {
            Some(link) => Ok(link.index),
            None => Err(LinkError {
                namespace: self.namespace.name().to_owned(),
                action,
                object: format!("{object} (link {name})"),
                source: Errno::NODEV.into(),
            }),
        }
    }

    fn done(
        &self,
        action: &'static str,
        object: impl fmt::Display,
        result: Result<(), rtnetlink::Error>,
    ) -> Result<(), LinkError> {
        match result.map_err(|error| self.error(action, object, error)) {
            Err(error) if errno_among(&error.source, &[Errno::EXIST]) => Ok(()),
            result => result,
        }
    }

    fn done_or_gone(
        &self,
        action: &'static str,
        object: impl fmt::Display,
        result: Result<(), rtnetlink::Error>,
    ) -> Result<(), LinkError> {
        match result {
            Ok(()) => Ok(()),
            Err(error) => gone_is_success(error).map_err(|error| self.error(action, object, error)),
        }
    }

    fn error(&self, action: &'static str, object: impl fmt::Display, error: rtnetlink::Error) -> LinkError {
        LinkError {
            namespace: self.namespace.name().to_owned(),
            action,
            object: object.to_string(),
            source: io_error(error),
        }
    }
}

fn io_error(error: rtnetlink::Error) -> io::Error {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.to_io(),
        other => io::Error::other(other),
    }
}

fn errno_among(error: &io::Error, among: &[Errno]) -> bool {
    Errno::from_io_error(error).is_some_and(|errno| among.contains(&errno))
}

fn gone_is_success(error: rtnetlink::Error) -> Result<(), rtnetlink::Error> {
    match &error {
        rtnetlink::Error::NetlinkError(message) if errno_among(&message.to_io(), GONE) => Ok(()),
        _ => Err(error),
    }
}

fn link_of(message: &LinkMessage) -> Link {
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        up: message.header.flags.contains(LinkFlags::Up),
        mac: None,
        mtu: 0,
        master: None,
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Address(mac) => link.mac = mac.as_slice().try_into().ok(),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::Controller(index) => link.master = Some(*index),
            _ => {}
        }
    }
    link
}
