//! `adit dev`: a whole region on this machine.

use std::{
    fmt::Write as _,
    fs, io,
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    sync::Arc,
    time::Instant,
};

use adit_cloud::{RegionError, kernel::KernelError};
use adit_netns::DirectoryError;
use adit_server::edge;
use adit_store::{OpenError, RedbStore, Store};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::{
    cli::Dev,
    data::{DataDir, DataError, Run, default_path},
    host::Networks,
    region::{Running, Settings, StartError},
};

/// Why the region did not run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address of the API.
    #[error("cannot listen on {address}; name another address with --listen")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
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
    listener: TcpListener,
    data: DataDir,
    networks: Networks,
    region: adit_cloud::Region,
}

impl Prepared {
    /// Opens the API's socket in the host's network, takes the data directory, and then enters a user namespace where that
    /// is what networks take. The process must have one thread.
    ///
    /// # Errors
    /// By what is missing; nothing is left behind.
    pub fn new(args: &Dev) -> Result<Self, Error> {
        let mut region = match &args.region_file {
            None => adit_cloud::Region::embedded(),
            Some(path) => {
                let text = fs::read_to_string(path).map_err(|source| Error::RegionFile {
                    path: path.clone(),
                    source,
                })?;
                adit_cloud::Region::parse(&text)?
            }
        };
        if let Some(name) = &args.region {
            region = region.named(name)?;
        }
        let listen = |source| Error::Listen {
            address: args.listen,
            source,
        };
        let listener = TcpListener::bind(args.listen).map_err(listen)?;
        listener.set_nonblocking(true).map_err(listen)?;
        let data = match (&args.data, args.ephemeral) {
            (_, true) => DataDir::ephemeral()?,
            (Some(path), false) => DataDir::take(path)?,
            (None, false) => DataDir::take(&default_path())?,
        };
        let networks = Networks::prepare(!args.no_gateway);
        Ok(Self {
            listener,
            data,
            networks,
            region,
        })
    }
}

/// A region that serves its API.
pub struct Served {
    /// Where the API is.
    pub api: String,
    /// The region.
    pub running: Running,
    /// What networks it has.
    pub networks: Networks,
    /// Its files.
    pub data: DataDir,
    cancel: CancellationToken,
    server: tokio::task::JoinHandle<io::Result<()>>,
}

impl Served {
    /// Starts the region and serves it.
    ///
    /// # Errors
    /// By the part that does not start.
    pub async fn start(prepared: Prepared) -> Result<Self, Error> {
        let Prepared {
            listener,
            data,
            networks,
            region,
        } = prepared;
        let api = format!("http://{}", listener.local_addr()?);
        let store: Arc<dyn Store> = if data.is_ephemeral() {
            Arc::new(RedbStore::ephemeral()?)
        } else {
            Arc::new(RedbStore::open(data.store())?)
        };
        let instance = data.instance()?;
        let namespaces = networks.directory(&data.namespaces())?;
        let run = Run {
            pid: std::process::id(),
            api: api.clone(),
            instance: instance.to_string(),
            namespaces: namespaces.as_ref().map(|d| d.path().to_owned()),
            rootless: networks.is_rootless(),
        };
        let running = Running::start(
            store,
            Settings {
                region,
                instance,
                namespaces,
            },
        )
        .await?;
        data.announce(&run)?;
        let cancel = CancellationToken::new();
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let server = tokio::spawn(edge::serve(listener, running.router.clone(), cancel.clone()));
        Ok(Self {
            api,
            running,
            networks,
            data,
            cancel,
            server,
        })
    }

    /// Lets requests in progress end, then stops the region and removes what it made in the kernel.
    ///
    /// # Errors
    /// Where something had to be left; the next start sweeps it.
    pub async fn stop(self) -> Result<(), Error> {
        self.cancel.cancel();
        if let Ok(result) = self.server.await {
            result?;
        }
        Ok(self.running.stop().await?)
    }
}

/// Runs a region until SIGINT or SIGTERM.
///
/// # Errors
/// By the part that does not start or stop.
pub fn run(args: &Dev) -> Result<(), Error> {
    let started = Instant::now();
    if args.print_region_file {
        print!("{}", adit_cloud::Region::embedded_text());
        return Ok(());
    }
    let prepared = Prepared::new(args)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let served = Served::start(prepared).await?;
        let clouds = served.data.leave("clouds.yaml", &clouds_yaml(&served))?;
        print!("{}", banner(&served, &clouds, started));
        if let Networks::None { reason } = &served.networks {
            eprintln!("\nWARNING: control plane only. {reason}\n");
        }
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        eprintln!("Stopping.");
        served.stop().await
    })
}

fn clouds_yaml(served: &Served) -> String {
    let region = served.running.cloud.region();
    let mut text = String::from("# Written by `adit dev` at each start.\nclouds:\n");
    for login in region.logins() {
        let _ = write!(
            text,
            "  {}:\n    auth:\n      auth_url: {}/v3\n      username: {}\n      password: {}\n      \
             user_domain_name: {}\n      project_domain_name: {}\n      project_name: {}\n    region_name: {}\n    \
             interface: public\n",
            login.user,
            served.api,
            login.user,
            login.password,
            login.domain,
            login.domain,
            login.project,
            region.name
        );
    }
    text
}

fn banner(served: &Served, clouds: &std::path::Path, started: Instant) -> String {
    let region = served.running.cloud.region();
    let mut text = String::new();
    let _ = writeln!(
        text,
        "Adit region {} is ready ({} ms).\n",
        region.name,
        started.elapsed().as_millis()
    );
    let _ = writeln!(
        text,
        "  API       {}   (described at {}/openapi.json)",
        served.api, served.api
    );
    let _ = writeln!(text, "  Data      {}", served.data.path().display());
    let _ = writeln!(text, "  Networks  {}\n", served.networks.describe());
    let _ = writeln!(
        text,
        "  {:<8} {:<16} {:<14} {:<12} project id",
        "user", "password", "domain", "project"
    );
    for login in region.logins() {
        let _ = writeln!(
            text,
            "  {:<8} {:<16} {:<14} {:<12} {}",
            login.user, login.password, login.domain, login.project, login.project_id
        );
    }
    let _ = writeln!(
        text,
        "\nWith the openstack command (python-openstackclient, otcextensions):"
    );
    let _ = writeln!(
        text,
        "  export OS_CLIENT_CONFIG_FILE={} OS_CLOUD=demo",
        clouds.display()
    );
    let _ = writeln!(text, "  openstack vpcep service list");
    if let Some(login) = region.logins().into_iter().next() {
        let _ = write!(text, "\n{}", curl(&served.api, &login));
    }
    let data = match served.data.path() {
        path if path == default_path() => String::new(),
        path => format!("--data {} ", path.display()),
    };
    if !matches!(served.networks, Networks::None { .. }) {
        let _ = writeln!(
            text,
            "\nA backend for it, from another terminal:\n  adit exec {data}--port {PORT} -- python3 -m http.server 80"
        );
    }
    text
}

/// The backend's port in the built-in region.
const PORT: &str = "4189d3c2-8882-4871-a3c2-d380272eed88";
/// Its VPC.
const VPC: &str = "4189d3c2-8882-4871-a3c2-d380272eed80";

fn curl(api: &str, login: &adit_cloud::Login) -> String {
    let token = format!(
        r#"{{"auth":{{"identity":{{"methods":["password"],"password":{{"user":{{"name":"{}","password":"{}","domain":{{"name":"{}"}}}}}}}},"scope":{{"project":{{"name":"{}","domain":{{"name":"{}"}}}}}}}}}}"#,
        login.user, login.password, login.domain, login.project, login.domain
    );
    let service = format!(
        r#"{{"port_id":"{PORT}","vpc_id":"{VPC}","approval_enabled":false,"service_type":"interface","server_type":"VM","ports":[{{"client_port":8080,"server_port":90,"protocol":"TCP"}},{{"client_port":8081,"server_port":80,"protocol":"TCP"}}]}}"#
    );
    format!(
        "Publish a service (the API document's own example):\n  \
         TOKEN=$(curl -si {api}/v3/auth/tokens -H 'Content-Type: application/json' -d '{token}' \\\n    \
         | tr -d '\\r' | awk 'tolower($1)==\"x-subject-token:\" {{print $2}}')\n  \
         curl -s {api}/v1/{project}/vpc-endpoint-services -H \"X-Auth-Token: $TOKEN\" -H 'Content-Type: application/json' \\\n    \
         -d '{service}'\n",
        project = login.project_id
    )
}
