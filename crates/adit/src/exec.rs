//! `adit exec`: a command inside a port of a running region.

use std::{path::PathBuf, process};

use adit_cloud::kernel::{
    Instance,
    exec::{self, ExecError},
    port_namespace,
};
use adit_model::id::PortId;
use adit_netns::{Directory, DirectoryError, userns};

use crate::{
    cli::Exec,
    data::{self, DataError},
};

/// Why the command did not run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The region is not there.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The region has no networks.
    #[error("the region on {} runs without networks (its first lines say why)", .0.display())]
    NoNetworks(PathBuf),
    /// The region's namespaces cannot be entered.
    #[error("{source}. {}", source.advice())]
    Join {
        /// Why.
        source: userns::UsernsError,
    },
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

/// Becomes the command; returns only if that failed.
pub fn run(args: Exec) -> Error {
    match prepare(args) {
        Ok((directory, namespace, port, mut command)) => {
            match exec::replace(&directory, &namespace, &mut command) {
                ExecError::Namespace(source) => Error::Port { port, source },
                other => Error::Exec(other),
            }
        }
        Err(e) => e,
    }
}

fn prepare(args: Exec) -> Result<(Directory, String, PortId, process::Command), Error> {
    let data = args.data.unwrap_or_else(data::default_path);
    let run = data::running(&data)?;
    let namespaces = run.namespaces.ok_or_else(|| Error::NoNetworks(data.clone()))?;
    let instance: Instance = run.instance.parse().map_err(|_| Error::Version(data))?;
    if run.rootless {
        userns::join(run.pid).map_err(|source| Error::Join { source })?;
    }
    let port = PortId(args.port);
    let directory = Directory::at(namespaces).map_err(|source| Error::Port { port, source })?;
    let mut words = args.command.into_iter();
    let mut command = process::Command::new(words.next().unwrap_or_default());
    command.args(words);
    Ok((directory, port_namespace(&instance, port), port, command))
}
