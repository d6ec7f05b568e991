//! `adit exec`: a command inside a port of a running region.

use std::{
    io,
    path::PathBuf,
    process,
    time::{Duration, Instant},
};

use adit_cloud::kernel::{
    Instance,
    exec::{self, ExecError},
    port_namespace,
};
use adit_model::{error_chain, id::PortId};
use adit_netns::{Directory, DirectoryError, userns};

use crate::{
    cli::Exec,
    data::{self, DataError},
};

/// How long a port's namespace may take: it comes some milliseconds after the answer that the port was created.
const NAMESPACE_TIMEOUT: Duration = Duration::from_secs(2);
/// How often it is looked for.
const POLL: Duration = Duration::from_millis(5);

/// Why the command did not run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The region is not there.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The region has no networks.
    #[error(
        "what runs on {} has no networks: name the state of `adit networks` where that makes them, or see why not in the first lines \
         of `adit dev`", .0.display()
    )]
    NoNetworks(PathBuf),
    /// The region's namespaces cannot be entered.
    #[error("{}. {}", error_chain(.0), .0.advice())]
    Join(userns::UsernsError),
    /// The port has no namespace.
    #[error(
        "port {port} is not there: the region has no such port, or its network is not joined to a VPC yet \
         (`openstack port list` shows the ports)"
    )]
    Port {
        /// The port.
        port: PortId,
        /// What the system said.
        source: DirectoryError,
    },
    /// The command.
    #[error(transparent)]
    Exec(ExecError),
    /// The region's own word cannot be read.
    #[error("the region on {} speaks another version of Adit", .0.display())]
    Version(PathBuf),
}

impl Error {
    /// The exit status, as a shell gives it: 127 for a command that is not there, 126 for one that cannot be run, else 1.
    pub fn status(&self) -> u8 {
        match self {
            Error::Exec(ExecError::Start { source, .. }) if source.kind() == io::ErrorKind::NotFound => 127,
            Error::Exec(ExecError::Start { .. }) => 126,
            _ => 1,
        }
    }
}

/// Becomes the command; returns only if that failed.
pub fn run(args: Exec) -> Error {
    match prepare(args) {
        Ok((directory, namespace, port, mut command)) => {
            wait_for(&directory, &namespace);
            match exec::replace(&directory, &namespace, &mut command) {
                ExecError::Namespace(source) => Error::Port { port, source },
                other => Error::Exec(other),
            }
        }
        Err(e) => e,
    }
}

/// Waits for a namespace, for a bounded time; whoever opens it then says what is wrong with it.
fn wait_for(directory: &Directory, namespace: &str) {
    let deadline = Instant::now() + NAMESPACE_TIMEOUT;
    while directory.open(namespace).is_err() && Instant::now() < deadline {
        std::thread::sleep(POLL);
    }
}

fn prepare(args: Exec) -> Result<(Directory, String, PortId, process::Command), Error> {
    let data = args.data.unwrap_or_else(data::default_path);
    let run = data::running(&data)?;
    let namespaces = run.namespaces.ok_or_else(|| Error::NoNetworks(data.clone()))?;
    let instance: Instance = run.instance.parse().map_err(|_| Error::Version(data))?;
    if run.rootless {
        userns::join(run.pid).map_err(Error::Join)?;
    }
    let port = PortId(args.port);
    let directory = Directory::at(namespaces).map_err(|source| Error::Port { port, source })?;
    let mut words = args.command.into_iter();
    let mut command = process::Command::new(words.next().unwrap_or_default());
    command.args(words);
    Ok((directory, port_namespace(&instance, port), port, command))
}
