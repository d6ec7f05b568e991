//! `adit dev`: a whole region on this machine.

use std::{
    fs, io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener},
    path::PathBuf,
    sync::Arc,
    time::Instant,
};

use adit_cloud::{
    RegionError,
    kernel::{Kernel, KernelError},
};
use adit_model::error_chain;
use adit_netns::DirectoryError;
use adit_server::edge::{self, Serving, Tls, TlsError};
use adit_store::{OpenError, RedbStore, Store};
use tokio_util::sync::CancellationToken;

use crate::{
    banner::{banner, clouds_yaml},
    certificate::{self, CertificateError},
    cli::{Dev, TlsMode},
    config,
    data::{self, DataDir, DataError, Leftover, Run, default_path},
    data_plane::DataPlane,
    host::Networks,
    region::{Running, Settings, StartError},
    signals::{Asked, Signals},
    terminal,
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
    /// An address that others reach, without TLS.
    #[error(
        "{address} is reached from other machines, and without TLS passwords and tokens go there in the clear: give \
         --tls-cert and --tls-key (or --tls self-signed), listen on 127.0.0.1, or accept it with --allow-plain-http"
    )]
    PlainHttp {
        /// The address.
        address: SocketAddr,
    },
    /// The certificate.
    #[error("cannot serve HTTPS")]
    Tls(#[from] TlsError),
    /// The region's own certificate.
    #[error("cannot serve HTTPS")]
    Certificate(#[from] CertificateError),
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
    /// The certificate, unless the region makes its own.
    tls: Option<Arc<Tls>>,
    self_signed: bool,
    /// The data directory; without it one that goes with the region.
    data: Option<PathBuf>,
    networks: Networks,
    region: adit_cloud::Region,
    superset: bool,
    data_plane: DataPlane,
}

impl Prepared {
    /// Opens the API's socket in the host's network, and then enters a user namespace where that is what networks take. The
    /// process must have one thread. Nothing is made yet that would have to be removed.
    ///
    /// # Errors
    /// By what is missing.
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
        let tls = match (&args.edge.tls_cert, &args.edge.tls_key) {
            (Some(certificate), Some(key)) => Some(Arc::new(Tls::load(certificate.clone(), key.clone())?)),
            _ => None,
        };
        let self_signed = args.edge.tls == TlsMode::SelfSigned;
        let secured = tls.is_some() || self_signed;
        if !secured && !args.edge.allow_plain_http && !args.listen.ip().to_canonical().is_loopback() {
            return Err(Error::PlainHttp { address: args.listen });
        }
        let listen = |source| Error::Listen {
            address: args.listen,
            source,
        };
        let listener = TcpListener::bind(args.listen).map_err(listen)?;
        listener.set_nonblocking(true).map_err(listen)?;
        let data = (!args.ephemeral).then(|| args.data.clone().unwrap_or_else(default_path));
        let networks = Networks::prepare(!args.no_gateway);
        Ok(Self {
            listener,
            tls,
            self_signed,
            data,
            networks,
            region,
            superset: !args.no_superset,
            data_plane: args.data_plane.clone(),
        })
    }

    /// Whether there is a certificate that may be read again.
    fn reloads(&self) -> bool {
        self.tls.is_some()
    }
}

/// A region that serves its API.
pub struct Served {
    /// Where the API is.
    pub api: String,
    /// The certificate to trust there, where it is the region's own.
    pub cacert: Option<PathBuf>,
    /// The region.
    pub running: Running,
    /// What networks it has.
    pub networks: Networks,
    /// Its files.
    pub data: DataDir,
    tls: Option<Arc<Tls>>,
    cancel: CancellationToken,
    server: tokio::task::JoinHandle<io::Result<()>>,
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
            listener,
            mut tls,
            self_signed,
            data,
            networks,
            region,
            superset,
            data_plane,
        } = prepared;
        let address = listener.local_addr()?;
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let data = match data {
            Some(path) => DataDir::take(&path)?,
            None => DataDir::ephemeral()?,
        };
        let mut cacert = None;
        if self_signed {
            let files = certificate::keep(data.path(), address.ip())?;
            tls = Some(Arc::new(Tls::load(files.certificate.clone(), files.key)?));
            cacert = Some(files.certificate);
        }
        let api = match &region.public_url {
            Some(url) => url.trim_end_matches('/').to_owned(),
            None => {
                let scheme = if tls.is_some() { "https" } else { "http" };
                format!("{scheme}://{}", reachable(address))
            }
        };
        sweep(&networks);
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
            cacert: cacert.clone(),
            instance: instance.to_string(),
            namespaces: namespaces.as_ref().map(|d| d.path().to_owned()),
            rootless: networks.is_rootless(),
        };
        let running = Running::start(
            store,
            Settings {
                region,
                instance,
                superset,
                namespaces,
                data_plane,
                capabilities: adit_gateway::capabilities(),
            },
        )
        .await?;
        if let Err(e) = data.announce(&run) {
            running.stop().await?;
            return Err(e.into());
        }
        let cancel = CancellationToken::new();
        let serving = Serving { tls: tls.clone() };
        let server = tokio::spawn(edge::serve(
            listener,
            running.router.clone(),
            serving,
            cancel.clone(),
        ));
        Ok(Self {
            api,
            cacert,
            running,
            networks,
            data,
            tls,
            cancel,
            server,
        })
    }

    /// Reads the certificate again. One that cannot be used leaves the former in use, and is told in the log.
    pub fn reload(&self) {
        match self.tls.as_ref().map(|tls| tls.reload()) {
            Some(Ok(())) => tracing::info!("The certificate was read again; new connections get it."),
            Some(Err(e)) => tracing::error!(
                error = error_chain(&e),
                "The new certificate cannot be used; the former one stays in use."
            ),
            None => {}
        }
    }

    /// Lets requests in progress end, then stops the region and removes what it made in the kernel.
    ///
    /// # Errors
    /// Where something had to be left; the next start sweeps it.
    pub async fn stop(self) -> Result<(), Error> {
        self.stop_or_cut(std::future::pending()).await
    }

    /// The same, but cuts requests in progress as soon as `cut` comes true.
    ///
    /// # Errors
    /// Where something had to be left; the next start sweeps it.
    pub async fn stop_or_cut(mut self, cut: impl Future<Output = ()>) -> Result<(), Error> {
        self.cancel.cancel();
        let served = tokio::select! {
            served = &mut self.server => served.unwrap_or(Ok(())),
            () = cut => {
                self.server.abort();
                Ok(())
            }
        };
        self.running.stop().await?;
        Ok(served?)
    }
}

/// Where a client on this machine reaches a listener: one on every address is reached on the loopback.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
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
    if args.print_region_file {
        terminal::print(adit_cloud::Region::embedded_text());
        return Ok(());
    }
    if args.print_config_file {
        terminal::print(&config::example());
        return Ok(());
    }
    let prepared = Prepared::new(args)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut signals = Signals::open(prepared.reloads())?;
        let served = Served::start(prepared).await?;
        let introduced = introduce(&served, started);
        if introduced.is_ok() {
            while signals.next().await == Asked::Reload {
                served.reload();
            }
            terminal::warn("Stopping: requests in progress get 3 s; again to cut them.");
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_on_every_address_is_reached_on_the_loopback() {
        for (listener, reached) in [
            ("0.0.0.0:7117", "127.0.0.1:7117"),
            ("[::]:7117", "[::1]:7117"),
            ("192.0.2.1:80", "192.0.2.1:80"),
        ] {
            assert_eq!(
                reachable(listener.parse().unwrap()).to_string(),
                reached,
                "{listener}"
            );
        }
    }
}
