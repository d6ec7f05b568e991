//! `adit dev`: a whole region on this machine.

use std::{
    fs, io,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use adit_cloud::{
    RegionError,
    kernel::{Kernel, KernelError},
};
use adit_model::{error_chain, feed::Capabilities, quota::QuotaType, sink::Sink};
use adit_netns::DirectoryError;
use adit_relay::toa::{Sender, ToaError};
use adit_server::{
    leader::Lease,
    node::{NodeAccess, NodeSecret},
    replica::Replica,
};
use adit_store::{OpenError, RedbStore, Store};
use tokio_util::sync::CancellationToken;

use crate::{
    banner::{banner, clouds_yaml},
    cli::{Api, Dev, RegionArgs, Rehearsal},
    control,
    data::{self, DataDir, DataError, Leftover, Run, default_path},
    data_plane::DataPlane,
    door::{self, Door, Serving},
    host::Networks,
    region::{Gateways, Running, Settings, StartError},
    secret::{self, SecretError},
    signals::{Asked, Signals},
    store::{self, EtcdArgs, Location, StoreError},
    terminal,
    who::readable,
};

/// The file in the data directory with the secret that gateways have to show.
const NODE_TOKEN: &str = "node-token";

/// Why the region did not run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Where the API is to be served.
    #[error(transparent)]
    Door(#[from] door::Error),
    /// The data directory.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The region file cannot be read.
    #[error("cannot read the region file {}", path.display())]
    RegionFile {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The region file is wrong.
    #[error("the region file is not one")]
    Region(#[from] RegionError),
    /// The store.
    #[error("cannot open the store")]
    Store(#[from] OpenError),
    /// The store that was named.
    #[error(transparent)]
    NamedStore(#[from] StoreError),
    /// The secret of gateways.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The directory of namespaces.
    #[error("cannot use the directory of namespaces")]
    Namespaces(#[from] DirectoryError),
    /// A part of the region.
    #[error("the region does not start")]
    Start(#[from] StartError),
    /// The runtime, or a signal handler.
    #[error("the system refuses what a server needs")]
    System(#[from] io::Error),
    /// Something was left in the kernel; the next start sweeps it.
    #[error("not all namespaces could be removed; the next start on this data directory sweeps them")]
    Stop(#[from] KernelError),
}

/// A region that is about to run: everything that must come before the process's second thread.
pub struct Prepared {
    door: Door,
    /// The data directory; without it one that goes with the region.
    data: Option<PathBuf>,
    networks: Networks,
    region: adit_cloud::Region,
    superset: bool,
    data_plane: DataPlane,
    audit: Option<Sink>,
    rehearsal: Rehearsal,
    /// The store, where it is none of the data directory's.
    store: Option<(Location, EtcdArgs)>,
    /// The secret of gateways of their own processes, where it is not in the data directory.
    token_file: Option<PathBuf>,
    /// Where other processes of the control plane reach the listener for gateways, where that was said.
    node_url: Option<String>,
    /// How long the leader may be silent, where there are several processes.
    leader_lease: Duration,
}

impl Prepared {
    /// Opens the API's socket in the host's network, and then enters a user namespace where that is what networks take. The
    /// process must have one thread. Nothing is made yet that would have to be removed.
    ///
    /// # Errors
    /// By what is missing.
    pub fn new(args: &Dev) -> Result<Self, Error> {
        let mut region = region(&args.region)?;
        for (kind, quota) in &args.rehearsal.quota {
            for project in region.domains.iter_mut().flat_map(|domain| &mut domain.projects) {
                match kind {
                    QuotaType::Endpoint => project.quotas.endpoint = *quota,
                    QuotaType::EndpointService => project.quotas.endpoint_service = *quota,
                }
            }
        }
        let door = Door::open(args.listen, &args.edge)?;
        let data = (!args.ephemeral).then(|| args.data.clone().unwrap_or_else(default_path));
        let networks = Networks::prepare(!args.no_gateway);
        Ok(Self {
            door,
            data,
            networks,
            region,
            superset: !args.region.no_superset,
            data_plane: args.data_plane.clone(),
            audit: args.edge.audit_log.clone(),
            rehearsal: args.rehearsal.clone(),
            store: None,
            token_file: None,
            node_url: None,
            leader_lease: Lease::TTL,
        })
    }

    /// The same of a control plane whose gateways are processes of their own: it has no networks.
    ///
    /// # Errors
    /// By what is missing.
    pub fn api(args: &Api) -> Result<Self, Error> {
        let named: Vec<_> = args.store.iter().collect();
        args.etcd.must_concern(&named)?;
        let region = region(&args.region)?;
        let mut door = Door::open(args.listen, &args.edge)?;
        door.open_to_nodes(&args.nodes, &args.edge)?;
        if matches!(args.store, Some(Location::Etcd(_))) {
            door.warn_where_no_node_comes();
        }
        Ok(Self {
            door,
            data: Some(args.data.clone().unwrap_or_else(default_path)),
            networks: Networks::Elsewhere,
            region,
            superset: !args.region.no_superset,
            data_plane: DataPlane {
                terms: args.terms.clone(),
                ..DataPlane::default()
            },
            audit: args.edge.audit_log.clone(),
            rehearsal: Rehearsal::default(),
            store: args.store.clone().map(|location| (location, args.etcd.clone())),
            token_file: args.nodes.node_token_file.clone(),
            node_url: args.nodes.node_url.as_ref().map(ToString::to_string),
            leader_lease: args.leader_lease,
        })
    }

    /// Whether there are files to read, or to open, again.
    fn reloads(&self) -> bool {
        let audit = matches!(self.audit, Some(Sink::File(_)));
        self.door.reloads() || audit || readable(self.data_plane.work.connection_log.as_ref()).is_some()
    }
}

/// Who exists in the region, as the region file says.
fn region(args: &RegionArgs) -> Result<adit_cloud::Region, Error> {
    let region = match &args.region_file {
        None => adit_cloud::Region::embedded(),
        Some(path) => {
            let text = fs::read_to_string(path).map_err(|source| Error::RegionFile {
                path: path.clone(),
                source,
            })?;
            adit_cloud::Region::parse(&text)?
        }
    };
    match &args.region {
        Some(name) => Ok(region.named(name)?),
        None => Ok(region),
    }
}

/// Where gateways of their own processes come to.
pub struct Nodes {
    /// The address.
    pub url: String,
    /// The file with the secret that they have to show, where they have to.
    pub token_file: Option<PathBuf>,
    /// Whether they have to show a certificate.
    pub certificates: bool,
}

/// A region that serves its API.
pub struct Served {
    /// Where gateways come to, where they are processes of their own.
    pub nodes: Option<Nodes>,
    /// Where the API is.
    pub api: String,
    /// The certificate to trust there, where it is the region's own.
    pub cacert: Option<PathBuf>,
    /// Where the metrics are, if not beside the API.
    pub metrics: Option<String>,
    /// The region.
    pub running: Running,
    /// What networks it has.
    pub networks: Networks,
    /// Its files.
    pub data: DataDir,
    serving: Serving,
    control: tokio::task::JoinHandle<()>,
}

impl Served {
    /// Takes the data directory, sweeps what killed regions have left, starts the region and serves it.
    ///
    /// Not to be dropped half-way: have [`Signals`] open before, and stop the region when it is there.
    ///
    /// # Errors
    /// By the part that does not start; nothing is left behind.
    pub async fn start(prepared: Prepared) -> Result<Self, Error> {
        let Prepared {
            mut door,
            data,
            networks,
            region,
            superset,
            data_plane,
            audit,
            rehearsal,
            store,
            token_file,
            node_url,
            leader_lease,
        } = prepared;
        let data = match data {
            Some(path) => DataDir::take(&path)?,
            None => DataDir::ephemeral()?,
        };
        let cacert = door.certify(data.path())?;
        let api = match &region.public_url {
            Some(url) => url.trim_end_matches('/').to_owned(),
            None => door.url()?,
        };
        let metrics = door.metrics_url()?;
        let nodes = match door.nodes_url()? {
            None => None,
            Some(url) => {
                let certificates = door.wants_node_certificates();
                let made = || (!certificates).then(|| data.path().join(NODE_TOKEN));
                let token_file = token_file.or_else(made);
                let secret = token_file.as_deref().map(secret::keep).transpose()?;
                let nodes = Nodes {
                    url,
                    token_file,
                    certificates,
                };
                Some((secret, nodes))
            }
        };
        let toa = tokio::task::spawn_blocking({
            let (networks, kind) = (networks.are_there(), data_plane.work.toa_kind);
            move || networks.then(|| Sender::start(kind))
        });
        sweep(&networks);
        let instance = data.instance()?;
        let namespaces = networks.directory(&data.namespaces())?;
        let run = Run {
            pid: std::process::id(),
            api: Some(api.clone()),
            nodes: nodes.as_ref().map(|(_, nodes)| nodes.url.clone()),
            cacert: cacert.clone(),
            metrics: metrics.clone(),
            operator: region.operator().map(|login| login.user),
            connection_log: readable(data_plane.work.connection_log.as_ref()),
            instance: instance.to_string(),
            namespaces: namespaces.as_ref().map(|d| d.path().to_owned()),
            rootless: networks.is_rootless(),
        };
        let (capabilities, toa) = modes(toa.await.map_err(io::Error::other)?);
        let stopping = CancellationToken::new();
        let others = secret::made();
        let replica = nodes.as_ref().map(|(_, nodes)| {
            let etcd = store.as_ref().and_then(|(location, _)| location.first());
            Replica {
                lease: Lease {
                    name: instance.to_string(),
                    ttl: leader_lease,
                },
                url: node_url
                    .unwrap_or_else(|| door::reached_from_elsewhere(&nodes.url, door.nodes_address(), etcd)),
                secret: others.clone(),
                tls: door.node_tls(),
                region: region.digest(),
            }
        });
        let settings = Settings {
            superset,
            gateways: match (namespaces, replica) {
                (Some(directory), _) => Gateways::Here(directory),
                (None, Some(replica)) => Gateways::Remote(replica),
                (None, None) => Gateways::Null,
            },
            data_plane,
            capabilities,
            toa,
            limits: door.limits,
            audit,
            rates: door.rates,
            delay: rehearsal.delay,
            failures: rehearsal.fail,
            stopping: stopping.clone(),
            ..Settings::new(region, instance)
        };
        let store: Arc<dyn Store> = match store {
            Some((location, etcd)) => store::open(&location, &etcd, Some(&settings.registry)).await?,
            None => {
                let store = match data.is_ephemeral() {
                    true => RedbStore::ephemeral()?,
                    false => RedbStore::open(data.store())?,
                };
                store.metrics().register(&mut settings.registry.lock());
                Arc::new(store)
            }
        };
        let running = Running::start(store, settings).await?;
        let control = match control::open(data.path()).map_err(Error::from) {
            Ok(listener) => tokio::spawn(control::serve(listener, running.gateway().cloned())),
            Err(e) => {
                running.stop().await?;
                return Err(e);
            }
        };
        if let Err(e) = data.announce(&run) {
            control.abort();
            running.stop().await?;
            return Err(e.into());
        }
        let (for_nodes, nodes) = match nodes {
            None => (None, None),
            Some((secret, nodes)) => {
                let app = Arc::clone(&running.app);
                let access = NodeAccess {
                    secret,
                    certificates: nodes.certificates,
                    replicas: NodeSecret::new(&others),
                };
                (
                    Some(adit_server::node::router(app, access, stopping.clone())),
                    Some(nodes),
                )
            }
        };
        let served = door.serve(
            &running.edge,
            running.router.clone(),
            for_nodes,
            Arc::clone(&running.health),
            stopping,
        );
        let serving = match served {
            Ok(serving) => serving,
            Err(e) => {
                running.stop().await?;
                return Err(e.into());
            }
        };
        Ok(Self {
            nodes,
            api,
            cacert,
            metrics,
            running,
            networks,
            data,
            serving,
            control,
        })
    }

    /// Reads the certificate again, and opens logs anew. A certificate that cannot be used leaves the former in use, and is told
    /// in the log.
    pub fn reload(&self) {
        self.running.reopen();
        match self.serving.reload() {
            Ok(()) => tracing::info!("The certificate was read again; new connections get it."),
            Err(e) => tracing::error!(
                error = error_chain(&e),
                "The new certificate cannot be used; the former one stays in use."
            ),
        }
    }

    /// Lets requests in progress end, then stops the region and removes what it made in the kernel.
    ///
    /// # Errors
    /// Where something had to be left; the next start sweeps it.
    pub async fn stop(self) -> Result<(), Error> {
        self.stop_or_cut(std::future::pending()).await
    }

    /// The same, but cuts requests in progress, and connections that drain, as soon as `cut` comes true.
    ///
    /// # Errors
    /// Where something had to be left; the next start sweeps it.
    pub async fn stop_or_cut(self, cut: impl Future<Output = ()>) -> Result<(), Error> {
        tokio::pin!(cut);
        let mut hurried = false;
        let hurry = async {
            cut.as_mut().await;
            hurried = true;
        };
        let served = self.serving.stop(hurry).await;
        // It holds the gateway.
        self.control.abort();
        let _ = self.control.await;
        let cut = async {
            if !hurried {
                cut.await;
            }
        };
        self.running.stop_or_cut(cut).await?;
        Ok(served?)
    }
}

/// What the region's gateway can do, and what it sends TOA with. The null gateway says yes to everything.
pub(crate) fn modes(toa: Option<Result<Arc<Sender>, ToaError>>) -> (Capabilities, Option<Arc<Sender>>) {
    match toa {
        None => (adit_gateway::capabilities(Ok(())), None),
        Some(Ok(sender)) => (adit_gateway::capabilities(Ok(())), Some(sender)),
        Some(Err(e)) => {
            tracing::info!(error = error_chain(&e), "There is no TOA here: {}", e.remedy());
            (adit_gateway::capabilities(Err(&e)), None)
        }
    }
}

/// Removes what killed regions have left that kept nothing: no later start on their directory does it.
fn sweep(networks: &Networks) {
    for leftover in data::leftovers() {
        if let Err(e) = sweep_one(networks, leftover) {
            tracing::warn!(
                error = error_chain(&e),
                "cannot remove what a killed region has left"
            );
        }
    }
}

fn sweep_one(networks: &Networks, leftover: Leftover) -> Result<(), Error> {
    // Root's namespaces are out of an ordinary user's reach, and then its directory is what they are found by.
    if networks.is_rootless() && !leftover.rootless {
        return Ok(());
    }
    if let Some(directory) = networks.directory(&leftover.data.namespaces())? {
        Kernel::start(leftover.instance, directory)?;
        leftover.data.remove();
    }
    Ok(())
}

/// Runs a region until a signal ends it.
///
/// # Errors
/// By the part that does not start or stop.
pub fn run(args: &Dev) -> Result<(), Error> {
    let started = Instant::now();
    if args.region.print_region_file {
        terminal::print(adit_cloud::Region::embedded_text());
        return Ok(());
    }
    serve(Prepared::new(args)?, started)
}

/// Runs the control plane of a region until a signal ends it.
///
/// # Errors
/// By the part that does not start or stop.
pub fn run_api(args: &Api) -> Result<(), Error> {
    let started = Instant::now();
    if args.region.print_region_file {
        terminal::print(adit_cloud::Region::embedded_text());
        return Ok(());
    }
    serve(Prepared::api(args)?, started)
}

fn serve(prepared: Prepared, started: Instant) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut signals = Signals::open(prepared.reloads())?;
        let served = Served::start(prepared).await?;
        let introduced = introduce(&served, started);
        if introduced.is_ok() {
            while signals.next().await == Asked::Reload {
                served.reload();
            }
            terminal::warn(
                "Stopping: requests in progress get 3 s, and connections as long as --stop-drain-s says; again to cut them.",
            );
        }
        let stopped = served.stop_or_cut(signals.end()).await;
        introduced.and(stopped)
    })
}

fn introduce(served: &Served, started: Instant) -> Result<(), Error> {
    let clouds = served.data.leave("clouds.yaml", &clouds_yaml(served))?;
    terminal::print(&banner(served, &clouds, started.elapsed()));
    if let Networks::None { reason } = &served.networks {
        terminal::warn(&format!("\nWARNING: control plane only. {reason}\n"));
    }
    Ok(())
}
