//! Does what the plan says, step by step, and remembers what is there. Decides nothing.

use std::collections::{BTreeMap, HashMap};
use std::error::Error;
use std::net::SocketAddrV4;
use std::sync::Arc;

use adit_model::feed::EndpointSpec;
use adit_model::id::EndpointId;
use adit_netns::Directory;
use adit_relay::{Close, Consumer, ListenerId, OpenError, Relay, RetargetError, Stalled};
use ipnet::{IpNet, Ipv4Net};
use parking_lot::Mutex;
use tokio::task::{JoinError, spawn_blocking};

use crate::namespaces::{NamespaceError, Namespaces, Vpc};
use crate::plan::{Action, Address, Observed, Place, Target, plan};

/// What is there of one endpoint, and the handles to it.
#[derive(Debug, Default)]
struct Installed {
    observed: Observed,
    consumer: Option<AddressOn>,
    /// Where connections go.
    provider: Option<Arc<Vpc>>,
    listeners: BTreeMap<u16, ListenerId>,
}

/// Where the address was put.
#[derive(Debug)]
struct AddressOn {
    vpc: Arc<Vpc>,
    link: String,
}

/// How an endpoint stands after a pass.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// Why not all is done, for a person.
    pub(crate) failure: Option<String>,
    /// The address that it may still have.
    pub(crate) holds: Option<Place>,
    /// The namespaces that it is served in, with their inodes.
    pub(crate) served_in: Vec<(String, u64)>,
}

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
enum ApplyError {
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Retarget(#[from] RetargetError),
    #[error("it is not known whether port {port} is closed")]
    Close { port: u16, source: Stalled },
    #[error("the address went away meanwhile")]
    NoAddress,
    #[error("cut short")]
    Cancelled(#[from] JoinError),
}

/// The doer, and what it has done.
#[derive(Debug)]
pub(crate) struct Applier {
    namespaces: Namespaces,
    directory: Directory,
    relay: Arc<Relay>,
    /// Each is locked for as long as a pass over it takes.
    installed: Mutex<HashMap<EndpointId, Arc<tokio::sync::Mutex<Installed>>>>,
}

impl Applier {
    pub(crate) fn new(directory: Directory, slice: Ipv4Net, relay: Arc<Relay>) -> Self {
        Self {
            namespaces: Namespaces::new(directory.clone(), slice),
            directory,
            relay,
            installed: Mutex::default(),
        }
    }

    /// Where the namespaces are found.
    pub(crate) fn directory(&self) -> &Directory {
        &self.directory
    }

    /// One pass: makes of one endpoint what is wanted, as far as it goes; the first failure ends it.
    pub(crate) async fn converge(&self, id: EndpointId, wanted: Option<&EndpointSpec>) -> Outcome {
        let slot = Arc::clone(self.installed.lock().entry(id).or_default());
        let mut installed = slot.lock().await;
        installed.look();
        let mut failure = None;
        for action in plan(wanted, &installed.observed) {
            match self.perform(id, &mut installed, &action).await {
                Ok(()) => installed.observed.done(&action),
                Err(error) => {
                    tracing::debug!(endpoint.id = %id, ?action, error = %chain(&error), "a step failed");
                    installed.observed.failed(&action);
                    failure = Some(chain(&error));
                    break;
                }
            }
        }
        if installed.observed.is_empty() {
            self.installed.lock().remove(&id);
        }
        installed.outcome(failure)
    }

    /// The address that an endpoint may have, whatever became of the last pass.
    pub(crate) async fn holds(&self, id: EndpointId) -> Option<Place> {
        let slot = self.installed.lock().get(&id).cloned()?;
        let installed = slot.lock().await;
        installed.place()
    }

    /// Stops the relay at once, if it has not stopped yet. Blocks.
    pub(crate) fn stop_relay(&self) {
        self.relay.stop(Close::Cut);
    }

    /// Takes every address away. For the end, after the relay has stopped.
    pub(crate) async fn remove_addresses(&self) {
        let all = std::mem::take(&mut *self.installed.lock());
        for (id, slot) in all {
            let mut installed = slot.lock().await;
            let Some(address) = installed.address() else {
                continue;
            };
            let action = Action::DelAddress { address };
            if let Err(error) = self.perform(id, &mut installed, &action).await {
                tracing::warn!(endpoint.id = %id, error = %chain(&error), "an endpoint's address was left behind");
            }
        }
    }

    async fn perform(
        &self,
        id: EndpointId,
        installed: &mut Installed,
        action: &Action,
    ) -> Result<(), ApplyError> {
        match action {
            Action::Close { port } => self.close(installed, *port).await,
            Action::DelAddress { address } => {
                if let Some(on) = &installed.consumer {
                    on.vpc.address_delete(network(address), &on.link).await?;
                }
                installed.consumer = None;
                Ok(())
            }
            Action::AddAddress { address } => {
                let vpc = self.namespaces.get(&address.place.namespace).await?;
                let link = vpc.address_add(network(address), address.subnet).await?;
                installed.consumer = Some(AddressOn { vpc, link });
                Ok(())
            }
            Action::Retarget { port, target } => {
                let target = self.target(installed, target).await?;
                let Some(&listener) = installed.listeners.get(port) else {
                    return Err(RetargetError::Unknown.into());
                };
                let relay = Arc::clone(&self.relay);
                let retargeted = spawn_blocking(move || relay.retarget(listener, target)).await?;
                if matches!(retargeted, Err(RetargetError::Unknown)) {
                    installed.observed.doubt(*port);
                }
                Ok(retargeted?)
            }
            Action::Open {
                port,
                target,
                connections_max,
            } => {
                let provider = self.target(installed, target).await?;
                let (Some(on), Some(address)) = (&installed.consumer, installed.address()) else {
                    return Err(ApplyError::NoAddress);
                };
                let listener = adit_relay::Listener {
                    owner: id.0.as_u128(),
                    consumer: Consumer {
                        namespace: on.vpc.descriptor(),
                        address: SocketAddrV4::new(address.place.ip, *port),
                    },
                    provider,
                    max_connections: *connections_max,
                    preface: None,
                };
                let relay = Arc::clone(&self.relay);
                let opened = spawn_blocking(move || relay.open(listener)).await??;
                installed.listeners.insert(*port, opened);
                Ok(())
            }
        }
    }

    async fn close(&self, installed: &mut Installed, port: u16) -> Result<(), ApplyError> {
        let Some(&listener) = installed.listeners.get(&port) else {
            return Ok(());
        };
        let relay = Arc::clone(&self.relay);
        spawn_blocking(move || relay.close(listener, Close::Cut))
            .await?
            .map_err(|source| ApplyError::Close { port, source })?;
        installed.listeners.remove(&port);
        Ok(())
    }

    async fn target(
        &self,
        installed: &mut Installed,
        target: &Target,
    ) -> Result<adit_relay::Target, ApplyError> {
        let vpc = self.namespaces.get(&target.namespace).await?;
        vpc.make_slice_local().await?;
        let relay_target = adit_relay::Target {
            namespace: vpc.descriptor(),
            source: target.source,
            backend: target.backend,
        };
        installed.provider = Some(vpc);
        Ok(relay_target)
    }
}

impl Installed {
    /// Takes in which of its namespaces are not there any more.
    fn look(&mut self) {
        if self.consumer.as_ref().is_some_and(|on| !on.vpc.is_current()) {
            self.observed.consumer_lost();
        }
        if self.provider.as_ref().is_some_and(|vpc| !vpc.is_current()) {
            self.observed.provider_lost();
        }
    }

    fn address(&self) -> Option<Address> {
        self.observed.address().cloned()
    }

    fn place(&self) -> Option<Place> {
        self.observed.address().map(|address| address.place.clone())
    }

    fn outcome(&self, failure: Option<String>) -> Outcome {
        let consumer = self.consumer.as_ref().map(|on| &on.vpc);
        let vpcs = consumer.into_iter().chain(&self.provider);
        Outcome {
            failure,
            holds: self.place(),
            served_in: vpcs.map(|vpc| (vpc.name().to_owned(), vpc.inode())).collect(),
        }
    }
}

/// An endpoint's address as the kernel wants it: it alone, the block around it is the router's.
fn network(address: &Address) -> IpNet {
    Ipv4Net::from(address.place.ip).into()
}

/// An error with all its causes, in one line.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
