//! `adit gateway run`: a gateway as a process of its own.
//!
//! Owns the order in which its parts start and stop, and where on the node the VPCs are. What it is told and says is
//! `adit_gateway::control`'s, what it does `adit_gateway::gateway`'s.

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use adit_cloud::kernel::Instance;
use adit_gateway::{
    Contact, Gateway, StartError,
    connection_log::ConnectionLog,
    control::{Follower, LastGood, LastGoodError, Node, TrustError, Vpcs},
    succession::{Succession, TakeOverError, take_over},
};
use adit_model::error_chain;
use adit_netns::{Directory, DirectoryError, userns};
use adit_relay::{Inherited, toa::Sender};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use crate::{
    cli::{GatewayRun, OnControlLoss},
    control as questions,
    data::{self, DataDir, DataError, Run},
    dev::modes,
    door,
    gateway_watch::Watch,
    networks,
    pattern::Pattern,
    region::{self, open_connection_log},
    secret::SecretError,
    signals::{Asked, Signals},
    terminal,
    who::readable,
};

/// Events that may wait for the gateway.
const EVENTS_MAX: usize = 64;
/// After how many seconds an endpoint's address goes when this process is dead or stopped.
const ADDRESS_LIFE_S: u32 = 2;
/// Reports that may wait to be noted.
const REPORTS_MAX: usize = 1024;

/// Where a gateway waits for the next, in its directory.
const DOOR: &str = "hand-over.sock";
/// What its directory's lock is handed over as: no endpoint has this id.
const LOCK: u128 = 0;

/// Why the gateway did not run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its directory, or that of the networks.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The secret.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// Where the metrics are to be served.
    #[error(transparent)]
    Door(#[from] door::Error),
    /// The certificates.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// What runs on the directory makes no networks.
    #[error("what runs on {} makes no networks (`adit networks` does)", .0.display())]
    NoNetworks(PathBuf),
    /// The networks' namespaces cannot be entered.
    #[error("{}. {}", error_chain(.0), .0.advice())]
    Join(userns::UsernsError),
    /// This process may not enter namespaces.
    #[error(
        "namespaces of the system take root; an ordinary user's are made by `adit networks` (--networks)"
    )]
    Root,
    /// The directory of namespaces.
    #[error("cannot use the directory of namespaces")]
    Namespaces(#[from] DirectoryError),
    /// The directory is another gateway's.
    #[error(transparent)]
    LastGood(#[from] LastGoodError),
    /// The gateway that runs.
    #[error(transparent)]
    TakeOver(#[from] TakeOverError),
    /// The gateway.
    #[error("the gateway does not start")]
    Start(#[from] StartError),
    /// The connection log.
    #[error(transparent)]
    ConnectionLog(#[from] region::StartError),
    /// The runtime, or a signal handler.
    #[error("the system refuses what a server needs")]
    System(#[from] io::Error),
}

/// Where the VPCs are on this node. The process is in the user namespace that they are in, and must have had one thread.
fn vpcs(args: &GatewayRun) -> Result<(Directory, Pattern), Error> {
    match (&args.networks, &args.namespaces) {
        (Some(path), _) => {
            let run = data::running(path)?;
            let none = || Error::NoNetworks(path.clone());
            let namespaces = run.namespaces.ok_or_else(none)?;
            let instance: Instance = run.instance.parse().map_err(|_| none())?;
            if run.rootless {
                userns::join(run.pid).map_err(Error::Join)?;
            }
            Ok((Directory::at(namespaces)?, Pattern::of(&instance)))
        }
        (None, Some(pattern)) if userns::is_privileged() => {
            Ok((Directory::at(Directory::SYSTEM)?, pattern.clone()))
        }
        (None, _) => Err(Error::Root),
    }
}

/// The gateway's directory, with what the gateway that runs on it hands over, where that is wanted and one does.
async fn take(args: &GatewayRun) -> Result<(DataDir, Option<Arc<Inherited>>), Error> {
    if args.take_over {
        match take_over(&args.state.join(DOOR)).await {
            Ok(inherited) => {
                let strange = || DataError::Strange {
                    path: args.state.clone(),
                };
                let lock = inherited.keepsake(LOCK).ok_or_else(strange)?;
                return Ok((DataDir::inherit(&args.state, lock)?, Some(inherited)));
            }
            Err(TakeOverError::Nobody { .. }) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok((DataDir::take(&args.state)?, None))
}

/// The gateway, and what it says of itself to the control plane.
async fn start(
    args: &GatewayRun,
    (directory, pattern): (Directory, Pattern),
    data: &DataDir,
    inherited: Option<Arc<Inherited>>,
    connections: Option<&ConnectionLog>,
    contact: Arc<Contact>,
) -> Result<(Arc<Gateway>, Node), Error> {
    let networks = machine(&directory, &pattern);
    let kind = args.work.toa_kind;
    let toa = tokio::task::spawn_blocking(move || Sender::start(kind)).await;
    let (capabilities, toa) = modes(Some(toa.map_err(io::Error::other)?));
    let named = pattern.clone();
    let vpcs = Vpcs {
        directory: directory.clone(),
        of: Box::new(move |name| named.vpc(name)),
    };
    let gateway = Arc::new(Gateway::start(adit_gateway::Config {
        relay: adit_relay::Config {
            toa,
            recorder: connections.map(ConnectionLog::recorder),
            inherited,
            ..args.work.relay()
        },
        succession: Some(Succession {
            door: data.path().join(DOOR),
            ending: args.work.stop(),
            keepsakes: vec![(LOCK, data.lock())],
        }),
        probe_period: args.work.probe_period(),
        address_life_s: Some(ADDRESS_LIFE_S),
        contact,
        on_control_loss: args.on_control_loss.into(),
        ..adit_gateway::Config::new(directory)
    })?);
    let counted = Arc::clone(&gateway);
    let node = Node {
        name: args.node.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        machine: networks,
        capabilities,
        namespace: Box::new(move |vpc| {
            let id = vpc.parse();
            id.map_or_else(|_| vpc.to_owned(), |id| pattern.namespace(id))
        }),
        vpcs,
        connections: Box::new(move || counted.connections()),
    };
    Ok((gateway, node))
}

/// Runs a gateway until a signal ends it, or another takes over from it.
///
/// # Errors
/// By what is missing.
pub fn run(args: &GatewayRun) -> Result<(), Error> {
    let started = Instant::now();
    // The former gateway, which may be taken over from, has the address yet.
    let bound = args.metrics_listen.filter(|_| !args.take_over);
    let bound = bound
        .map(|address| door::bind(address, "--metrics-listen"))
        .transpose()?;
    let vpcs = vpcs(args)?;
    let control = networks::control::<Error>(&args.control)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let (data, inherited) = take(args).await?;
        let log = readable(args.work.connection_log.as_ref());
        let mut signals = Signals::open(log.is_some())?;
        let connections = open_connection_log(&args.work)?;
        let contact = Arc::new(Contact::none());
        let known = Arc::clone(&contact);
        let (gateway, node) = start(args, vpcs, &data, inherited, connections.as_ref(), known).await?;
        let (events, told) = mpsc::channel(EVENTS_MAX);
        let (reports, said) = mpsc::channel(REPORTS_MAX);
        let last_good = LastGood::new(data.path(), args.node.clone());
        let urls = args.control.control.clone();
        let follower = Arc::new(Follower::new(control, urls, node, last_good, events, contact));
        let losses = connections.as_ref().map(ConnectionLog::losses);
        let watch = Watch::new(
            &args.node,
            &gateway,
            &follower,
            losses,
            args.work.endpoint_metrics.into(),
        );
        let metrics = args.metrics_listen.map(|address| match &bound {
            Some(bound) => bound.local_addr().unwrap_or(address),
            None => address,
        });
        let mut watched = metrics
            .map(|address| AbortOnDropHandle::new(tokio::spawn(Arc::clone(&watch).serve(address, bound))));
        let running = tokio::spawn(Arc::clone(&gateway).run(told, reports));
        let known = follower.resume().await?;
        // Until then the former gateway follows by this name, and who follows anew displaces it. What is in no file, only the feed
        // tells; and who serves nothing without a control plane needs it first.
        let (serving, holds) = (Arc::clone(&gateway), args.on_control_loss == OnControlLoss::Hold);
        let may = async move {
            if known.is_some() && holds {
                serving.serves().await;
            }
        };
        let following = tokio::spawn(follower.run(said, may));
        let mut answering = None;
        let work = async {
            // Until then the directory is the former gateway's, if there is one.
            gateway.serves().await;
            watch.set_ready(true);
            announce(&data, log, metrics)?;
            let asked = questions::open(data.path())?;
            let answers = questions::serve(asked, Some(Arc::clone(&gateway)));
            answering = Some(AbortOnDropHandle::new(tokio::spawn(answers)));
            terminal::print(&banner(args, &data, known.unwrap_or(0), started));
            gateway.followed().await;
            Ok::<_, Error>(())
        };
        let followed = tokio::select! {
            () = told_to_end(&mut signals, connections.as_ref()) => Ok(false),
            worked = work => worked.map(|()| true),
        };
        following.abort();
        let _ = following.await;
        watch.set_ready(false);
        if followed.as_ref().is_ok_and(|followed| *followed) {
            let beside = data.path().to_owned();
            data.hand_over();
            // The next one wants the address, and answers.
            drop((watched.take(), answering.take()));
            let _beside = answer_beside(&beside, &gateway);
            terminal::warn("Another gateway serves; connections that are left here get --stop-drain-s.");
            tokio::select! {
                () = gateway.left() => {}
                () = signals.end() => gateway.cut().await,
            }
        }
        if !followed.as_ref().is_ok_and(|followed| *followed) {
            terminal::warn("Stopping: connections go on as long as --stop-drain-s says; again to cut them.");
        }
        let stopping = gateway.stop(args.work.stop());
        tokio::pin!(stopping);
        tokio::select! {
            () = &mut stopping => {}
            () = signals.end() => {
                gateway.cut().await;
                stopping.await;
            }
        }
        let _ = running.await;
        if let Some(connections) = connections {
            let _ = tokio::task::spawn_blocking(|| connections.close()).await;
        }
        followed.map(|_| ())
    })
}

/// Answers for the connections that are left in this process, beside the one that has taken over.
fn answer_beside(data: &Path, gateway: &Arc<Gateway>) -> Option<(AbortOnDropHandle<()>, questions::Beside)> {
    let opened = questions::open_beside(data).inspect_err(|e| {
        tracing::warn!(error = %e, "`adit who` does not find the connections that are left here.");
    });
    let (asked, file) = opened.ok()?;
    let answers = questions::serve(asked, Some(Arc::clone(gateway)));
    Some((AbortOnDropHandle::new(tokio::spawn(answers)), file))
}

/// Opens the log anew as often as that is asked for, until the gateway is asked to end.
async fn told_to_end(signals: &mut Signals, connections: Option<&ConnectionLog>) {
    while signals.next().await == Asked::Reload {
        if let Some(connections) = connections {
            connections.reopen();
        }
    }
}

/// What names this gateway's networks apart from others for as long as the machine is up; nothing where the kernel does not say.
fn machine(directory: &Directory, pattern: &Pattern) -> String {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
    id.map(|id| format!("{} {pattern} {}", id.trim(), directory.path().display()))
        .unwrap_or_default()
}

/// Says where the gateway is.
fn announce(
    data: &DataDir,
    connection_log: Option<PathBuf>,
    metrics: Option<SocketAddr>,
) -> Result<(), DataError> {
    data.announce(&Run {
        pid: std::process::id(),
        api: None,
        nodes: None,
        cacert: None,
        metrics: metrics.map(door::metrics_at),
        operator: None,
        connection_log,
        instance: String::new(),
        namespaces: None,
        rootless: false,
    })
}

fn banner(args: &GatewayRun, data: &DataDir, known: usize, started: Instant) -> String {
    let urls: Vec<_> = args.control.control.iter().map(ToString::to_string).collect();
    format!(
        "Gateway {} runs ({} ms).\n\n  Control   {}\n  Data      {}\n  Serves    {known} endpoint(s), as it was told last\n",
        args.node,
        started.elapsed().as_millis(),
        urls.join(" "),
        data.path().display(),
    )
}
