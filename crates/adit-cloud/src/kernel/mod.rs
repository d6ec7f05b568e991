//! VPCs as Linux network namespaces, for `adit dev`.
//!
//! Each VPC is a namespace with a bridge per subnet, which holds the subnet's router address; it forwards between its
//! own subnets and leads nowhere else. Each port is a namespace on a veth into its subnet's bridge. Whoever holds an
//! endpoint's address (`vpcep:endpoint`) has none: the gateway puts that address on the bridge.
//!
//! ```text
//!   documents ─ desired::desired ─► Desired ┐
//!                                           ├─ plan::plan ─► [Action] ─ Kernel::apply ─► namespaces, links, routes
//!   namespaces, links … ─ Kernel ─► Observed┘
//! ```
//!
//! It never touches what the gateway adds (endpoints' addresses), what users do inside a port's namespace, and the
//! namespace of the host. Everything it makes carries the region's [`Instance`] in its name: [`Kernel::start`] sweeps
//! what a killed region left, [`Kernel::stop`] leaves nothing.
//!
//! Read next: [`desired`], [`mod@plan`], then [`exec`] for commands inside a port.

pub mod desired;
pub mod exec;
mod names;
mod observe;
mod perform;
pub mod plan;

use std::collections::BTreeMap;

use adit_model::error_chain;
use adit_model::id::{PortId, VpcId};
use adit_model::network::RESERVED;
use adit_netns::{Directory, DirectoryError, LinkError, Links, Namespace, NextHop, Route};
use tokio::sync::Mutex;

pub use names::{Instance, port_namespace, vpc_hash, vpc_namespace};

use desired::{Desired, PortSpec, VpcSpec};
use plan::{Action, Observed, State, plan};

/// A region's VPCs and ports in this kernel. One per data directory (under its lock), since it sweeps.
#[derive(Debug)]
pub struct Kernel {
    instance: Instance,
    directory: Directory,
    /// Held over a whole pass: passes follow one another.
    made: Mutex<Made>,
}

/// What was made, by the names of the namespaces.
#[derive(Debug, Default)]
struct Made {
    vpcs: BTreeMap<String, MadeVpc>,
    ports: BTreeMap<String, MadePort>,
}

/// A VPC's namespace. The netlink socket stays open: every port goes through it.
#[derive(Debug)]
struct MadeVpc {
    links: Links,
    spec: VpcSpec,
}

#[derive(Debug)]
struct MadePort {
    namespace: Namespace,
    spec: PortSpec,
}

/// How a pass left things.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Each VPC that is to be.
    pub vpcs: BTreeMap<VpcId, Status>,
    /// Each port that is to be, but for those that get no namespace at all.
    pub ports: BTreeMap<PortId, Status>,
}

impl Report {
    /// Whether everything is as it should be.
    #[must_use]
    pub fn is_done(&self) -> bool {
        let mut all = self.vpcs.values().chain(self.ports.values());
        all.all(|status| *status == Status::Done)
    }
}

/// How far a VPC or a port is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// It is there.
    Done,
    /// It is not there yet, for this reason; the next pass tries again.
    Waiting(String),
}

/// Why something could not be made or removed.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// A namespace.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// A link, an address or a route.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// What it needs could not be made earlier in the same pass.
    #[error("its VPC's namespace {0} is not there")]
    NoVpc(String),
    /// The runtime is being shut down.
    #[error("the pass was cut short")]
    Cancelled(#[from] tokio::task::JoinError),
}

impl Kernel {
    /// Takes over `directory` for the region `instance`: removes whatever an earlier run of it left there.
    ///
    /// # Errors
    ///
    /// When the folder cannot be read or a name cannot be removed.
    pub fn start(instance: Instance, directory: Directory) -> Result<Self, KernelError> {
        let kernel = Self {
            instance,
            directory,
            made: Mutex::default(),
        };
        kernel.sweep()?;
        Ok(kernel)
    }

    /// The region's id in names.
    #[must_use]
    pub fn instance(&self) -> &Instance {
        &self.instance
    }

    /// The folder that the namespaces are in.
    #[must_use]
    pub fn directory(&self) -> &Directory {
        &self.directory
    }

    /// One pass: looks at the kernel, and makes of it what is desired. A pass with nothing to do costs three netlink
    /// dumps for each VPC. What fails is in the report and is tried again by the next pass.
    pub async fn apply(&self, desired: &Desired) -> Report {
        let mut made = self.made.lock().await;
        let (observed, unknown) = observe::observe(&made).await;
        let mut report = Failures::default();
        for (vpc, error) in unknown {
            report.add_unknown(desired, vpc, &error);
        }
        tell_damage(&observed);
        for action in plan(desired, &observed) {
            if let Err(error) = perform::perform(&self.directory, &mut made, &action).await {
                tracing::warn!(error = error_chain(&error), action = ?action, "the kernel refused a step");
                report.add(&action, &error);
            }
        }
        report.into_report(desired)
    }

    /// Removes everything that was made. A namespace that a user's process is in lives on, without a name and without
    /// links to anything, until the process ends.
    ///
    /// # Errors
    ///
    /// The first name that could not be removed; the next [`Kernel::start`] tries again.
    pub async fn stop(self) -> Result<(), KernelError> {
        let nothing = Desired::default();
        self.apply(&nothing).await;
        self.sweep()
    }

    fn sweep(&self) -> Result<(), KernelError> {
        let (mut swept, mut failed) = (0, None);
        for name in self.directory.names(&self.instance.prefix())? {
            if !self.instance.owns(&name) {
                continue;
            }
            swept += 1;
            if let Err(error) = self.directory.remove(&name) {
                failed.get_or_insert(error);
            }
        }
        if swept > 0 {
            tracing::info!(count = swept, "removed namespaces that an earlier run had left");
        }
        failed.map_or(Ok(()), |error| Err(error.into()))
    }
}

/// The gateway's connections come from this range, and their answers must come back to the VPC's namespace.
fn sources() -> Route {
    Route {
        destination: RESERVED.into(),
        next_hop: NextHop::Local,
    }
}

/// Says what somebody else has removed or changed: what is made anew takes along what ran in it.
fn tell_damage(observed: &Observed) {
    let is_broken = |state| state == State::Broken;
    for (name, vpc) in &observed.vpcs {
        if is_broken(vpc.state) {
            tracing::warn!(
                netns.name = name,
                "Somebody has removed a VPC's namespace; it and its ports are made anew."
            );
        } else if vpc.state == State::Whole && !vpc.has_sources {
            tracing::warn!(
                netns.name = name,
                "Somebody has removed a VPC's route to the gateway's addresses; it is put back."
            );
        }
        for (bridge, _) in vpc.subnets.iter().filter(|(_, seen)| is_broken(seen.state)) {
            tracing::warn!(
                netns.name = name,
                link.name = bridge,
                "Somebody has removed or changed a subnet's bridge; it and its ports are made anew."
            );
        }
    }
    for (name, port) in observed.ports.iter().filter(|(_, seen)| is_broken(seen.state)) {
        tracing::warn!(
            netns.name = name,
            vpc.netns.name = port.spec.vpc,
            "Somebody has removed a port's namespace, its link or its VPC; it is made anew, without what ran in it."
        );
    }
}

/// What went wrong in a pass, by the namespace that it concerns; of several errors the first, which caused the others.
#[derive(Default)]
struct Failures {
    vpcs: BTreeMap<String, String>,
    ports: BTreeMap<String, String>,
}

impl Failures {
    fn add(&mut self, action: &Action, error: &KernelError) {
        let (failures, name) = match action {
            Action::RemovePort { port } | Action::CreatePort { port, .. } => (&mut self.ports, port),
            Action::RemoveRoute { vpc, .. }
            | Action::RemoveSubnet { vpc, .. }
            | Action::RemoveVpc { vpc }
            | Action::CreateVpc { vpc, .. }
            | Action::RestoreSources { vpc }
            | Action::CreateSubnet { vpc, .. }
            | Action::CreateRoute { vpc, .. } => (&mut self.vpcs, vpc),
        };
        failures.entry(name.clone()).or_insert_with(|| error_chain(error));
    }

    fn add_unknown(&mut self, desired: &Desired, vpc: String, error: &KernelError) {
        let inside = desired.ports.iter().filter(|(_, spec)| spec.vpc == vpc);
        self.ports
            .extend(inside.map(|(name, _)| (name.clone(), error_chain(error))));
        self.vpcs.insert(vpc, error_chain(error));
    }

    fn into_report(mut self, desired: &Desired) -> Report {
        let status = |failure: Option<String>| failure.map_or(Status::Done, Status::Waiting);
        let vpcs = desired.vpcs.iter();
        let ports = desired.ports.iter();
        let mut report = Report {
            vpcs: vpcs
                .map(|(name, spec)| (spec.id, status(self.vpcs.remove(name))))
                .collect(),
            ports: ports
                .map(|(name, spec)| (spec.id, status(self.ports.remove(name))))
                .collect(),
        };
        let waiting = desired.waiting.iter();
        report
            .ports
            .extend(waiting.map(|(id, why)| (*id, Status::Waiting(why.to_string()))));
        report
    }
}
