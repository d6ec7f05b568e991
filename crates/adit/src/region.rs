//! A whole region in one process: store, cache, embedded cloud, control plane, reconcilers, namespaces, gateway.
//!
//! Owns the order in which the parts start and stop. `adit dev` and the tests start the same region; without namespaces it
//! is the control plane alone, with a null gateway in the data plane's place.

use std::{
    io,
    sync::{Arc, Weak},
    time::Duration,
};

use adit_cloud::{
    Cloud,
    kernel::{Instance, Kernel, KernelError, desired::Desired, vpc_namespace},
};
use adit_gateway::{Gateway, StartError as GatewayError, connection_log::ConnectionLog};
use adit_model::{
    ApiError, error_chain, feed::Capabilities, id::VpcId, node::NodeName, planned::Planned,
    service::ServiceStatus, sink::Sink,
};
use adit_netns::Directory;
use adit_relay::Close;
use adit_server::{
    App, Config,
    audit::{self, AuditLog},
    edge::{Edge, Health, Limits},
    feed::{carry, null_gateway},
    leader,
    node::is_network,
    rate::Rates,
    reconcile,
    replica::{self, Replica},
};
use adit_store::{Cache, CacheError, Notice, State, Store};
use axum::Router;
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::{
    data_plane::{DataPlane, Work},
    traffic::Traffic,
};

/// Reports of the gateway of this process that may wait.
const REPORTS_MAX: usize = 1024;
/// Events that may wait for it.
const EVENTS_MAX: usize = 64;
/// How often everything that is not at rest is looked at, signals or not.
const RECONCILE_PERIOD: Duration = Duration::from_secs(10);
/// How often the kernel is compared with the store, changes or not: somebody may have removed a namespace.
const KERNEL_PERIOD: Duration = Duration::from_secs(2);
/// How soon the kernel is looked at again after a step that it refused.
const KERNEL_RETRY: Duration = Duration::from_millis(100);
/// How long a start waits for the operator's services to become available.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long reconcilers may take to end.
const END_TIMEOUT: Duration = Duration::from_secs(3);

/// What a region is made of.
pub struct Settings {
    /// Who exists, and which networks there are at first.
    pub region: adit_cloud::Region,
    /// The region's id in the names of its namespaces.
    pub instance: Instance,
    /// Whether the operations that only Huawei's API has are served.
    pub superset: bool,
    /// Who moves the bytes.
    pub gateways: Gateways,
    /// How connections are treated.
    pub data_plane: DataPlane,
    /// What its gateways can do.
    pub capabilities: Capabilities,
    /// What its gateway sends TOA with, where it can.
    pub toa: Option<Arc<adit_relay::toa::Sender>>,
    /// What the edge lets through.
    pub limits: Limits,
    /// How often each project may ask.
    pub rates: Rates,
    /// Where attempts to change something are recorded.
    pub audit: Option<Sink>,
    /// How long everything stays `creating` at least.
    pub delay: Duration,
    /// What is to fail on purpose.
    pub failures: Vec<Planned>,
    /// What shows the numbers of all parts.
    pub registry: Arc<Mutex<Registry>>,
    /// Cancelled when the process is about to end.
    pub stopping: CancellationToken,
}

impl Settings {
    /// A region without namespaces, whose null gateway serves every mode, and without limits on what a project may ask.
    pub fn new(region: adit_cloud::Region, instance: Instance) -> Self {
        Self {
            region,
            instance,
            superset: true,
            gateways: Gateways::Null,
            data_plane: DataPlane::default(),
            capabilities: adit_gateway::capabilities(Ok(())),
            toa: None,
            limits: Limits::default(),
            rates: Rates::per_second(0, 0),
            audit: None,
            delay: Duration::ZERO,
            failures: Vec::new(),
            registry: Arc::new(Mutex::new(Registry::with_prefix("adit"))),
            stopping: CancellationToken::new(),
        }
    }
}

/// Who moves a region's bytes.
pub enum Gateways {
    /// Nobody: everything is reported as served.
    Null,
    /// A gateway of this process, between VPCs that are namespaces named in this directory.
    Here(Directory),
    /// Gateways of their own processes, which come by themselves; endpoints wait for them. What this process is to others of
    /// the same control plane.
    Remote(Replica),
}

impl Gateways {
    /// What gateways are told of a VPC's namespace: its name, or what they make its name of.
    fn namespaces(&self, instance: &Instance) -> Arc<dyn Fn(VpcId) -> String + Send + Sync> {
        let instance = instance.clone();
        match self {
            Gateways::Null | Gateways::Here(_) => Arc::new(move |vpc| vpc_namespace(&instance, vpc)),
            Gateways::Remote(_) => Arc::new(|vpc| vpc.to_string()),
        }
    }
}

/// The name of the gateway of this process.
fn here() -> NodeName {
    #[expect(clippy::expect_used, reason = "the word is a name")]
    "here".parse().expect("a name of letters")
}

/// Why a region does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store cannot be read.
    #[error("the store cannot be read")]
    Cache(#[from] CacheError),
    /// The embedded cloud.
    #[error("the embedded cloud does not start")]
    Cloud(#[from] adit_cloud::StartError),
    /// A failure that cannot be planned.
    #[error("no such failure can be planned")]
    Failures(#[from] ApiError),
    /// What an earlier run left cannot be swept.
    #[error("the region's namespaces cannot be set up")]
    Kernel(#[from] KernelError),
    /// The settings of the data plane.
    #[error("the PROXY header's settings do not go together: {0}")]
    Proxy(String),
    /// The gateway.
    #[error("the gateway does not start")]
    Gateway(#[from] GatewayError),
    /// The connection log.
    #[error("cannot write the connection log {sink}")]
    ConnectionLog {
        /// Where it goes.
        sink: Sink,
        /// What the system said.
        source: io::Error,
    },
    /// The audit log.
    #[error("cannot write the audit log {sink}")]
    Audit {
        /// Where it goes.
        sink: Sink,
        /// What the system said.
        source: io::Error,
    },
}

/// A running region.
pub struct Running {
    /// The control plane.
    pub app: Arc<App>,
    /// The embedded cloud.
    pub cloud: Arc<Cloud>,
    /// Every API of the region, to be served on one address.
    pub router: Router,
    /// What serves it.
    pub edge: Arc<Edge>,
    /// What is watched over.
    pub health: Arc<Health>,
    cancel: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
    /// They give the lead back at the end, so that another process need not wait for it.
    reconcilers: Option<JoinHandle<()>>,
    kernel: Option<Arc<Kernel>>,
    gateway: Option<Arc<Gateway>>,
    audit: Option<audit::Writer>,
    connections: Option<ConnectionLog>,
    /// What becomes of connections at the end.
    ending: Close,
}

impl Running {
    /// Starts a region on a store. When this returns, its first networks are there, and as a rule the operator's services
    /// can be connected to.
    ///
    /// # Errors
    /// By the part that does not start; the others are stopped again.
    pub async fn start(store: Arc<dyn Store>, settings: Settings) -> Result<Self, StartError> {
        let cache = Cache::<State>::start(Arc::clone(&store), "");
        cache.wait_ready().await?;
        let Settings {
            region,
            instance,
            superset,
            gateways,
            data_plane,
            capabilities,
            toa,
            limits,
            rates,
            audit,
            delay,
            failures,
            registry,
            stopping,
        } = settings;
        let audit = audit.map(|sink| open_audit(sink, &region.name)).transpose()?;
        let cloud = Cloud::start(Arc::clone(&store), cache.clone(), region).await?;
        let config = Config {
            rates,
            delay,
            namespace: gateways.namespaces(&instance),
            ..config(cloud.region(), superset, &data_plane, capabilities)?
        };
        let health = Health::new(Arc::clone(&store), cache.clone(), Arc::clone(&registry), stopping);
        let app = App::new(
            config,
            store,
            cache,
            Arc::clone(&cloud) as _,
            Arc::clone(&cloud) as _,
        );
        let (vpcep, _) = adit_server::router(Arc::clone(&app));
        app.failures.plan(failures)?;
        let edge = Edge::new(limits);
        edge.register(&mut registry.lock());
        app.register(&mut registry.lock());
        let router = vpcep.merge(adit_cloud::router(Arc::clone(&cloud)));
        let router = edge.finish(router, Some(Arc::clone(&health)));
        let (router, audit) = match audit {
            Some((log, writer)) => (audit::layer(router, log), Some(writer)),
            None => (router, None),
        };
        let mut running = Self {
            app,
            cloud,
            router,
            edge,
            health,
            cancel: CancellationToken::new(),
            tasks: Vec::new(),
            reconcilers: None,
            kernel: None,
            gateway: None,
            audit,
            connections: None,
            ending: data_plane.work.stop(),
        };
        let mut replica = None;
        match gateways {
            Gateways::Here(directory) => {
                running.connections = open_connection_log(&data_plane.work)?;
                let relay = adit_relay::Config {
                    toa,
                    recorder: running.connections.as_ref().map(ConnectionLog::recorder),
                    ..data_plane.work.relay()
                };
                if let Err(e) = running
                    .start_data_plane(instance, directory, relay, data_plane.work.probe_period())
                    .await
                {
                    if let Err(e) = running.stop().await {
                        tracing::warn!(
                            error = error_chain(&e),
                            "namespaces are left; the next start sweeps them"
                        );
                    }
                    return Err(e);
                }
            }
            Gateways::Null => {
                let gateway = null_gateway(Arc::clone(&running.app.feed), here());
                running.tasks.push(tokio::spawn(gateway));
            }
            Gateways::Remote(this) => replica = Some(this),
        }
        let gateway = running.gateway.as_ref().map_or_else(Weak::new, Arc::downgrade);
        let losses = running.connections.as_ref().map(ConnectionLog::losses);
        let traffic = Traffic::new(gateway, losses, data_plane.work.endpoint_metrics.into());
        registry.lock().register_collector(Box::new(traffic));
        let (app, cancel) = (Arc::clone(&running.app), running.cancel.clone());
        running.reconcilers = Some(match replica {
            // A region with a gateway of its own is one process.
            None => tokio::spawn(reconcile::run(app, cancel)),
            Some(replica) => {
                let mirror = replica::mirror(Arc::clone(&app), replica.region.clone(), cancel.clone());
                running.tasks.push(tokio::spawn(mirror));
                tokio::spawn(lead(app, replica, cancel))
            }
        });
        if delay.is_zero() {
            running.public_services_settle().await;
        }
        Ok(running)
    }

    /// Waits, for a moment, until the operator's services can be connected to: who starts a region to use it may do so at once.
    async fn public_services_settle(&self) {
        let cache = &self.app.cache;
        let mut notices = cache.subscribe();
        let settled = async {
            while cache
                .read()
                .public_services()
                .iter()
                .any(|service| service.value.status() == ServiceStatus::Creating)
            {
                if notices.next().await.is_none() {
                    return;
                }
            }
        };
        if tokio::time::timeout(SETTLE_TIMEOUT, settled).await.is_err() {
            tracing::warn!("The operator's services are not available yet.");
        }
    }

    async fn start_data_plane(
        &mut self,
        instance: Instance,
        directory: Directory,
        relay: adit_relay::Config,
        probe_period: Option<Duration>,
    ) -> Result<(), StartError> {
        let kernel = Arc::new(Kernel::start(instance, directory.clone())?);
        self.kernel = Some(Arc::clone(&kernel));
        let desired = Desired::of(kernel.instance(), &self.app.cache.read());
        kernel.apply(&desired).await;
        let follower = follow(kernel, self.app.cache.clone(), self.cancel.clone());
        self.tasks.push(tokio::spawn(follower));
        let gateway = Arc::new(Gateway::start(adit_gateway::Config {
            relay,
            probe_period,
            ..adit_gateway::Config::new(directory)
        })?);
        self.gateway = Some(Arc::clone(&gateway));
        let (events, told) = mpsc::channel(EVENTS_MAX);
        let (reports, said) = mpsc::channel(REPORTS_MAX);
        let subscription = self.app.feed.subscribe_alone(here());
        let feed = Arc::clone(&self.app.feed);
        self.tasks
            .push(tokio::spawn(carry(feed, here(), subscription, events, said)));
        self.tasks
            .push(tokio::spawn(async move { gateway.run(told, reports).await }));
        Ok(())
    }

    /// What moves the bytes, where there are networks.
    pub fn gateway(&self) -> Option<&Arc<Gateway>> {
        self.gateway.as_ref()
    }

    /// Opens files that are written to anew: they were renamed.
    pub fn reopen(&self) {
        if let Some(connections) = &self.connections {
            connections.reopen();
        }
        if let Some(audit) = &self.audit {
            audit.reopen();
        }
    }

    /// Stops everything and removes what was made in the kernel. Serving has ended before.
    ///
    /// # Errors
    /// Where a namespace could not be removed; the next start sweeps it.
    pub async fn stop(self) -> Result<(), KernelError> {
        self.stop_or_cut(std::future::pending()).await
    }

    /// The same, but cuts connections that drain as soon as `cut` comes true.
    ///
    /// # Errors
    /// Where a namespace could not be removed; the next start sweeps it.
    pub async fn stop_or_cut(self, cut: impl Future<Output = ()>) -> Result<(), KernelError> {
        self.cancel.cancel();
        if let Some(gateway) = &self.gateway {
            let stopping = gateway.stop(self.ending);
            tokio::pin!(stopping);
            tokio::select! {
                () = &mut stopping => {}
                () = cut => {
                    gateway.cut().await;
                    stopping.await;
                }
            }
        }
        if let Some(mut reconcilers) = self.reconcilers
            && tokio::time::timeout(END_TIMEOUT, &mut reconcilers).await.is_err()
        {
            reconcilers.abort();
            let _ = reconcilers.await;
        }
        for task in self.tasks {
            task.abort();
            let _ = task.await;
        }
        if let Some(writer) = self.audit {
            writer.close().await;
        }
        if let Some(connections) = self.connections {
            let _ = tokio::task::spawn_blocking(|| connections.close()).await;
        }
        match self.kernel.and_then(Arc::into_inner) {
            Some(kernel) => kernel.stop().await,
            None => Ok(()),
        }
    }
}

/// Opens the connection log, where one is wanted.
pub(crate) fn open_connection_log(work: &Work) -> Result<Option<ConnectionLog>, StartError> {
    let Some(sink) = &work.connection_log else {
        return Ok(None);
    };
    let opened = ConnectionLog::open(sink, work.connection_log_bounds());
    let failed = |source| StartError::ConnectionLog {
        sink: sink.clone(),
        source,
    };
    opened.map(Some).map_err(failed)
}

fn open_audit(sink: Sink, region: &str) -> Result<(AuditLog, audit::Writer), StartError> {
    AuditLog::open(&sink, region).map_err(|source| StartError::Audit { sink, source })
}

fn config(
    region: &adit_cloud::Region,
    superset: bool,
    data_plane: &DataPlane,
    gateways: Capabilities,
) -> Result<Config, StartError> {
    Ok(Config {
        region: region.name.clone(),
        superset,
        pool: region.pool,
        strict_toa: false,
        services_per_port_max: None,
        dns_suffix: "vpcep.internal".to_owned(),
        connections_per_endpoint_max: data_plane.terms.connections_per_endpoint,
        new_connections_per_second_max: data_plane.terms.new_connections_per_second,
        drain_s: data_plane.terms.drain_s,
        proxy: data_plane.terms.proxy().map_err(StartError::Proxy)?,
        gateways,
        namespace: Arc::new(|vpc| vpc.to_string()),
        embedded_identity: true,
        delay: Duration::ZERO,
        rates: Rates::default(),
        reconcile_period: RECONCILE_PERIOD,
    })
}

/// Runs the reconcilers whenever this process leads.
async fn lead(app: Arc<App>, replica: Replica, cancel: CancellationToken) {
    let (store, cache) = (Arc::clone(&app.store), app.cache.clone());
    let work = |leading| reconcile::run(Arc::clone(&app), leading);
    leader::lead(store, cache, &replica.lease, || replica.leading(), cancel, work).await;
}

/// Keeps the kernel as the store says.
async fn follow(kernel: Arc<Kernel>, cache: Cache<State>, cancel: CancellationToken) {
    let mut notices = cache.subscribe();
    loop {
        let desired = Desired::of(kernel.instance(), &cache.read());
        let rest = if kernel.apply(&desired).await.is_done() {
            KERNEL_PERIOD
        } else {
            KERNEL_RETRY
        };
        let deadline = tokio::time::sleep(rest);
        tokio::pin!(deadline);
        loop {
            tokio::select! {
                () = cancel.cancelled() => return,
                () = &mut deadline => break,
                notice = notices.next() => match notice {
                    None => return,
                    Some(Notice::Resync) => break,
                    Some(Notice::Changed(keys)) => if keys.iter().any(|key| is_network(key)) { break },
                },
            }
        }
    }
}
