//! `adit networks`: the embedded cloud's VPCs on this machine, for gateways that are processes of their own.
//!
//! A process beside the gateways, since gateways come and go and what listens inside the VPCs must not go with them. Owns
//! the order of things; what is made is `adit_cloud::kernel`'s.

use std::{io, sync::Arc, time::Duration};

use adit_cloud::kernel::{
    Kernel, KernelError,
    desired::{Desired, desired},
};
use adit_gateway::control::{Certificates, Control, ControlError, ControlUrl, TrustError};
use adit_model::{
    error_chain,
    node::{KnownNetworks, NetworksLine},
};
use adit_netns::DirectoryError;
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};

use crate::{
    cli::{ControlArgs, Networks as Args},
    data::{DataDir, DataError, Run},
    host::Networks,
    secret::{self, SecretError},
    signals::Signals,
    terminal,
};

/// How often the kernel is compared with what is wanted, changes or not: somebody may have removed a namespace.
const PERIOD: Duration = Duration::from_secs(2);
/// How soon it is looked at again after a step that it refused.
const RETRY: Duration = Duration::from_millis(100);
/// How long it rests after no address answered.
const REST: Duration = Duration::from_millis(250);

/// Why there are no networks.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The directory.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The secret.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The certificates.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// This machine allows none.
    #[error("there can be no networks here. {0}")]
    None(String),
    /// The directory of namespaces.
    #[error("cannot use the directory of namespaces")]
    Namespaces(#[from] DirectoryError),
    /// The kernel.
    #[error("not all namespaces could be set up or removed; the next start on this directory sweeps them")]
    Kernel(#[from] KernelError),
    /// The runtime, or a signal handler.
    #[error("the system refuses what a server needs")]
    System(#[from] io::Error),
}

/// What speaks to a control plane, as the flags say.
///
/// # Errors
/// Where the secret or the certificates cannot be used.
pub(crate) fn control<E: From<SecretError> + From<TrustError>>(args: &ControlArgs) -> Result<Control, E> {
    let secret = args.node_token_file.as_deref().map(secret::read).transpose()?;
    let certificates = args.control_cacert.clone().map(|trusted| Certificates {
        trusted,
        shown: args.control_cert.clone().zip(args.control_key.clone()),
    });
    Ok(Control::new(secret.as_deref(), certificates)?)
}

/// Makes networks until a signal ends it, and removes them then.
///
/// # Errors
/// By what is missing.
pub fn run(args: &Args) -> Result<(), Error> {
    let networks = Networks::prepare(true);
    if let Networks::None { reason } = networks {
        return Err(Error::None(reason));
    }
    let control: Control = control::<Error>(&args.control)?;
    let data = DataDir::take(&args.state)?;
    let instance = data.instance()?;
    let directory = networks.directory(&data.namespaces())?;
    let Some(directory) = directory else {
        return Err(Error::None(String::new()));
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut signals = Signals::open(false)?;
        let kernel = Kernel::start(instance.clone(), directory.clone())?;
        data.announce(&Run {
            pid: std::process::id(),
            api: None,
            nodes: None,
            cacert: None,
            metrics: None,
            operator: None,
            connection_log: None,
            instance: instance.to_string(),
            namespaces: Some(directory.path().to_owned()),
            rootless: networks.is_rootless(),
        })?;
        let (known, wanted) = watch::channel(None);
        let followed = follow(&control, &args.control.control, &known);
        let introduced = Arc::new(tokio::sync::Notify::new());
        let making = make(&kernel, wanted, &introduced);
        let say = async {
            introduced.notified().await;
            terminal::print(&format!(
                "The region's networks are here.\n\n  Data      {}\n  Networks  {}\n",
                data.path().display(),
                networks.describe()
            ));
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = followed => {}
            () = making => {}
            () = say => {}
            () = signals.end() => {}
        }
        Ok(kernel.stop().await?)
    })
}

/// Learns of the networks from whichever address answers, for ever.
async fn follow(control: &Control, urls: &[ControlUrl], known: &watch::Sender<Option<KnownNetworks>>) {
    let mut said = vec![String::new(); urls.len()];
    loop {
        for (url, said) in urls.iter().zip(&mut said) {
            let why = error_chain(&learn(control, url, known).await);
            // Once, and not four times a second.
            if *said != why {
                tracing::warn!(control.url = %url, error = why, "Networks stay as they were told last.");
                *said = why;
            }
        }
        sleep(REST).await;
    }
}

async fn learn(
    control: &Control,
    url: &ControlUrl,
    known: &watch::Sender<Option<KnownNetworks>>,
) -> ControlError {
    let position = known.borrow().as_ref().and_then(|known| known.position);
    let from = position.map(|position| position.to_string()).unwrap_or_default();
    let mut lines = match control
        .lines(url, &format!("/node/v1/networks?from={from}"))
        .await
    {
        Ok(lines) => lines,
        Err(e) => return e,
    };
    loop {
        match lines.next().await {
            Ok(line) => {
                // Before all of them, nothing is known: not even that there are none.
                known.send_if_modified(|known| match (known, line) {
                    (known, line @ NetworksLine::Networks(_)) => known.get_or_insert_default().learn(line),
                    (Some(known), line) => known.learn(line),
                    (None, _) => false,
                });
            }
            Err(e) => return e,
        }
    }
}

/// Keeps the kernel as it is wanted, for ever; says when it is so for the first time.
async fn make(
    kernel: &Kernel,
    mut wanted: watch::Receiver<Option<KnownNetworks>>,
    introduced: &tokio::sync::Notify,
) {
    loop {
        let made = {
            let desired = wanted.borrow_and_update().as_ref().map(|known| of(kernel, known));
            match desired {
                Some(desired) => kernel
                    .apply(&desired)
                    .await
                    .is_done()
                    .then(|| introduced.notify_one()),
                None => None,
            }
        };
        let rest = if made.is_some() { PERIOD } else { RETRY };
        // What is wanted changes, or what is there may have.
        if let Ok(Err(_)) = timeout(rest, wanted.changed()).await {
            return;
        }
    }
}

fn of(kernel: &Kernel, known: &KnownNetworks) -> Desired {
    desired(
        kernel.instance(),
        known.vpcs.values().map(Arc::as_ref),
        known.subnets.values().map(Arc::as_ref),
        known.ports.values().map(Arc::as_ref),
        known.route_tables.values().map(Arc::as_ref),
    )
}
