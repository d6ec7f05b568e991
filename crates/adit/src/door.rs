//! The doors of a region: where it listens, with which certificate, and what it lets through.
//!
//! Owns what the command line says of them, and the tasks that serve. What goes in and out is `adit_server::edge`'s.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use adit_server::{
    edge::{Edge, Health, Limits, Patience, Tls, TlsError, limit::Rate},
    rate::Rates,
};
use axum::Router;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::{
    certificate::{self, CertificateError},
    cli::{self, TlsMode},
};

/// Failed logins are counted by the minute.
const MINUTE: Duration = Duration::from_secs(60);

/// How long a gateway's stream lasts, at most: it comes again, and goes on where it was.
const NODE_STREAM_MAX: Duration = Duration::from_secs(24 * 3600);

/// Why a door does not open.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An address.
    #[error("cannot listen on {address}; name another address with {flag}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Where it was said.
        flag: &'static str,
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
    /// Certificates of gateways, without one of ours.
    #[error(
        "--node-client-ca takes a certificate of the API, too: give --tls-cert and --tls-key, or --tls self-signed"
    )]
    NoCertificate,
    /// The certificate.
    #[error("cannot serve HTTPS")]
    Tls(#[from] TlsError),
    /// The region's own certificate.
    #[error("cannot serve HTTPS")]
    Certificate(#[from] CertificateError),
}

/// Open sockets that nobody serves yet.
#[derive(Debug)]
pub struct Door {
    api: TcpListener,
    metrics: Option<TcpListener>,
    nodes: Option<TcpListener>,
    /// Whose certificates gateways have to show.
    node_authorities: Option<PathBuf>,
    tls: Option<Arc<Tls>>,
    /// For gateways, where it is another than the API's.
    node_tls: Option<Arc<Tls>>,
    self_signed: bool,
    /// The certificate to trust, where it is the region's own.
    cacert: Option<PathBuf>,
    /// What it lets through.
    pub limits: Limits,
    /// How often each project may ask.
    pub rates: Rates,
}

impl Door {
    /// Opens the sockets and reads the certificate.
    ///
    /// # Errors
    /// By what cannot be used.
    pub fn open(listen: SocketAddr, args: &cli::Edge) -> Result<Self, Error> {
        let tls = match (&args.tls_cert, &args.tls_key) {
            (Some(certificate), Some(key)) => Some(Arc::new(Tls::load(certificate.clone(), key.clone())?)),
            _ => None,
        };
        let self_signed = args.tls == TlsMode::SelfSigned;
        let secured = tls.is_some() || self_signed;
        if !secured && !args.allow_plain_http && !listen.ip().to_canonical().is_loopback() {
            return Err(Error::PlainHttp { address: listen });
        }
        let metrics = args.metrics_listen;
        Ok(Self {
            api: bind(listen, "--listen")?,
            metrics: metrics
                .map(|address| bind(address, "--metrics-listen"))
                .transpose()?,
            nodes: None,
            node_authorities: None,
            node_tls: None,
            tls,
            self_signed,
            cacert: None,
            limits: Limits {
                requests_max: args.http_requests_max.get(),
                failed_logins: Rate::new(args.rate_failed_logins, MINUTE, args.rate_failed_logins),
                patience: Patience {
                    head: args.http_head_timeout,
                    body: args.http_body_timeout,
                    idle: args.http_idle_timeout,
                    stall: args.http_stall_timeout,
                    ..Patience::default()
                },
                metrics_elsewhere: metrics.is_some(),
            },
            rates: Rates::per_second(args.rate_reads, args.rate_writes),
        })
    }

    /// Opens the socket that gateways of their own processes come to.
    ///
    /// # Errors
    /// Where it cannot be used, or others reach it without TLS.
    pub fn open_to_nodes(&mut self, nodes: &cli::NodeArgs, args: &cli::Edge) -> Result<(), Error> {
        let listen = nodes.node_listen;
        let secured = self.tls.is_some() || self.self_signed;
        if !secured && !args.allow_plain_http && !listen.ip().to_canonical().is_loopback() {
            return Err(Error::PlainHttp { address: listen });
        }
        if let Some(authorities) = &nodes.node_client_ca {
            match &self.tls {
                Some(tls) => self.node_tls = Some(Arc::new(tls.with_clients_of(authorities.clone())?)),
                None if self.self_signed => {}
                None => return Err(Error::NoCertificate),
            }
            self.node_authorities = Some(authorities.clone());
        }
        self.nodes = Some(bind(listen, "--node-listen")?);
        Ok(())
    }

    /// Whether there is a certificate that may be read again.
    pub fn reloads(&self) -> bool {
        self.tls.is_some() || self.node_authorities.is_some()
    }

    /// Makes the region's own certificate, where it is to have one, in its data directory; answers it for clients to trust.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub fn certify(&mut self, data: &Path) -> Result<Option<PathBuf>, Error> {
        if self.self_signed && self.tls.is_none() {
            let address = self.api.local_addr().map(|address| address.ip());
            let files = certificate::keep(data, address.unwrap_or(Ipv4Addr::LOCALHOST.into()))?;
            let tls = Tls::load(files.certificate.clone(), files.key)?;
            let authorities = self.node_authorities.clone();
            let for_nodes = authorities.map(|authorities| tls.with_clients_of(authorities));
            self.node_tls = for_nodes.transpose()?.map(Arc::new);
            self.tls = Some(Arc::new(tls));
            self.cacert = Some(files.certificate);
        }
        Ok(self.cacert.clone())
    }

    /// The address of the API for a client on this machine.
    ///
    /// # Errors
    /// Where the system does not say.
    pub fn url(&self) -> io::Result<String> {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        Ok(format!("{scheme}://{}", reachable(self.api.local_addr()?)))
    }

    /// The address of the metrics for a client on this machine, where they have a listener of their own.
    ///
    /// # Errors
    /// Where the system does not say.
    pub fn metrics_url(&self) -> io::Result<Option<String>> {
        let address = self.metrics.as_ref().map(TcpListener::local_addr).transpose()?;
        Ok(address.map(metrics_at))
    }

    /// Where gateways come to, as it was said.
    pub fn nodes_address(&self) -> Option<SocketAddr> {
        self.nodes.as_ref()?.local_addr().ok()
    }

    /// Says what to do where gateways and other control planes come from other machines, and do not get here.
    pub fn warn_where_no_node_comes(&self) {
        let address = self.nodes_address();
        if let Some(address) = address.filter(|address| address.ip().to_canonical().is_loopback()) {
            tracing::warn!(
                node.listen = %address,
                "The address for gateways is this machine's alone: gateways and other `adit api` on other machines do not reach \
                 it. Give --node-listen an address of this machine that they reach, such as 0.0.0.0:{}; on one machine this \
                 is as it should be.",
                address.port()
            );
        }
    }

    /// Where gateways come to, seen from this machine.
    ///
    /// # Errors
    /// Where the system does not say.
    pub fn nodes_url(&self) -> io::Result<Option<String>> {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let address = self.nodes.as_ref().map(TcpListener::local_addr).transpose()?;
        Ok(address.map(|address| format!("{scheme}://{}", reachable(address))))
    }

    /// The certificate that gateways are shown.
    pub fn node_tls(&self) -> Option<Arc<Tls>> {
        self.node_tls.clone().or_else(|| self.tls.clone())
    }

    /// Whether gateways have to show a certificate.
    pub fn wants_node_certificates(&self) -> bool {
        self.node_tls.is_some()
    }

    /// Serves, until [`Serving::stop`].
    ///
    /// # Errors
    /// Where the runtime cannot watch the sockets.
    pub fn serve(
        self,
        edge: &Arc<Edge>,
        router: Router,
        for_nodes: Option<Router>,
        health: Arc<Health>,
        stopping: CancellationToken,
    ) -> io::Result<Serving> {
        let node_tls = self.node_tls();
        let listener = |listener| tokio::net::TcpListener::from_std(listener);
        let api = Arc::clone(edge).serve(listener(self.api)?, router, self.tls.clone(), stopping.clone());
        let metrics = self.metrics.map(listener).transpose()?.map(|metrics| {
            let end = CancellationToken::new();
            let edge = Arc::clone(edge);
            let serving = tokio::spawn(edge.serve(metrics, health.router(), None, end.clone()));
            (serving, end)
        });
        let nodes = self.nodes.map(listener).transpose()?.zip(for_nodes);
        let nodes = nodes.map(|(listener, router)| {
            // Streams are to last: no limit of what a client asks holds for them.
            let edge = Edge::new(Limits {
                patience: Patience {
                    exchange: NODE_STREAM_MAX,
                    ..Patience::default()
                },
                ..Limits::default()
            });
            tokio::spawn(edge.serve(listener, router, node_tls, stopping.clone()))
        });
        Ok(Serving {
            nodes,
            tls: self.tls.into_iter().chain(self.node_tls).collect(),
            stopping,
            api: tokio::spawn(api),
            metrics,
        })
    }
}

/// A region's doors while it is served.
pub struct Serving {
    nodes: Option<JoinHandle<io::Result<()>>>,
    tls: Vec<Arc<Tls>>,
    stopping: CancellationToken,
    api: JoinHandle<io::Result<()>>,
    metrics: Option<(JoinHandle<io::Result<()>>, CancellationToken)>,
}

impl Serving {
    /// Reads the certificates again.
    ///
    /// # Errors
    /// Where one cannot be used; the former one stays in use.
    pub fn reload(&self) -> Result<(), TlsError> {
        self.tls.iter().try_for_each(|tls| tls.reload())
    }

    /// Lets requests in progress end, or cuts them as soon as `cut` comes true. Whoever watches over the region is answered
    /// until the end.
    ///
    /// # Errors
    /// What ended the serving before its time.
    pub async fn stop(mut self, cut: impl Future<Output = ()>) -> io::Result<()> {
        self.stopping.cancel();
        let served = tokio::select! {
            served = &mut self.api => served.unwrap_or(Ok(())),
            () = cut => {
                self.api.abort();
                Ok(())
            }
        };
        if let Some(nodes) = self.nodes {
            let _ = nodes.await;
        }
        if let Some((serving, end)) = self.metrics {
            end.cancel();
            let _ = serving.await;
        }
        served
    }
}

pub(crate) fn bind(address: SocketAddr, flag: &'static str) -> Result<TcpListener, Error> {
    let listener = TcpListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    listener.map_err(|source| Error::Listen {
        address,
        flag,
        source,
    })
}

/// The URL of the metrics that are served on an address, for a client on this machine.
pub(crate) fn metrics_at(address: SocketAddr) -> String {
    format!("http://{}/metrics", reachable(address))
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

/// Where other machines reach the listener that this one reaches at `url`: where it listens on every address, at the one that
/// leads to `neighbour`, a URL.
pub fn reached_from_elsewhere(url: &str, listen: Option<SocketAddr>, neighbour: Option<&str>) -> String {
    let Some(listen) = listen.filter(|listen| listen.ip().is_unspecified()) else {
        return url.to_owned();
    };
    let authority = neighbour
        .and_then(|url| url.split_once("://"))
        .map(|(_, rest)| rest.trim_end_matches('/'));
    // Nothing is sent: the kernel looks up the route.
    let own = authority.and_then(|authority| {
        let socket = UdpSocket::bind(SocketAddr::new(listen.ip(), 0)).ok()?;
        socket.connect(authority).ok()?;
        socket.local_addr().ok()
    });
    match (own, url.split_once("://")) {
        (Some(own), Some((scheme, _))) => format!("{scheme}://{}", SocketAddr::new(own.ip(), listen.port())),
        _ => url.to_owned(),
    }
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
