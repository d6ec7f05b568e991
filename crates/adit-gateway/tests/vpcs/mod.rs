//! Two VPCs with the same addresses, a client in one, backends in the other, and a gateway between them; gone with it.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use adit_gateway::{Config, Gateway};
use adit_model::feed::{ConsumerLeg, EndpointReport, EndpointSpec, FeedEvent, Ingress, ProviderLeg, Report};
use adit_model::id::{EndpointId, MarkerId, ServiceId, Vni};
use adit_model::port_mapping::{PortMapping, Protocol};
use adit_model::proxy::ProxyHeader;
use adit_model::service::TcpProxy;
use adit_netns::{Directory, Links, Namespace, NextHop, Route, Veth, sysctl, userns};
use tokio::sync::mpsc;

/// The consumer's VPC and the port in it, the provider's VPC and the ports in it.
pub(crate) const CONSUMER: &str = "consumer";
pub(crate) const CLIENT: &str = "client";
pub(crate) const PROVIDER: &str = "provider";
pub(crate) const BACKEND: &str = "backend";

pub(crate) const ENDPOINT_IP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 9);
pub(crate) const BACKEND_IP: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 20);
pub(crate) const SOURCE: Ipv4Addr = Ipv4Addr::new(198, 19, 130, 7);
/// The endpoint's marker id, and the number of its VPC's virtual network.
pub(crate) const MARKER: u32 = 201_515_772;
pub(crate) const VNI: u32 = 0x00_12ab;
pub(crate) const CLIENT_PORT: u16 = 8080;
pub(crate) const SERVER_PORT: u16 = 80;
/// A test that waits longer for something has failed. Nothing asserts that it is fast.
const PATIENCE: Duration = Duration::from_secs(30);
/// Events and reports of one test.
const QUEUED_MAX: usize = 64;

/// A folder of namespaces for one test.
pub(crate) struct Sandbox {
    pub(crate) directory: Directory,
    folder: PathBuf,
}

impl Sandbox {
    /// `None` where this process may not make namespaces: says so, or panics under CI.
    pub(crate) fn new(test: &str) -> Option<Self> {
        if let Err(error) = userns::probe() {
            assert!(
                std::env::var_os("CI").is_none(),
                "{test} needs root: {error}: {}",
                error.advice()
            );
            eprintln!("SKIPPED {test}: needs root, run it as `sudo -E cargo test -p adit-gateway {test}`");
            return None;
        }
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let number = COUNT.fetch_add(1, Relaxed);
        let folder = std::env::temp_dir().join(format!("adit-gateway-{}-{number}", std::process::id()));
        let directory = Directory::at(&folder).unwrap();
        Some(Self { directory, folder })
    }

    /// A VPC with a bridge for 10.0.0.0/24.
    pub(crate) async fn vpc(&self, name: &str) {
        self.router(name, 1).await;
    }

    /// A part of a VPC, with a bridge for 10.0.0.0/24 that is 10.0.0.`n` itself.
    pub(crate) async fn router(&self, name: &str, n: u8) {
        let namespace = self.directory.create(name).unwrap();
        for settings in [sysctl::PORT, sysctl::ROUTER] {
            // Read-only in many containers; connections pass all the same.
            let _ = sysctl::apply(&namespace, settings);
        }
        let links = Links::open(&namespace).await.unwrap();
        links.link_up("lo").await.unwrap();
        links.bridge_create("s0", [2, 0xad, 0, 0, 0, n]).await.unwrap();
        let network = format!("10.0.0.{n}/24").parse().unwrap();
        links.address_add("s0", network, None).await.unwrap();
    }

    /// Joins the bridges of two parts of a VPC.
    pub(crate) async fn join(&self, one: &str, other: &str) {
        let far = self.open(other);
        let veth = Veth {
            name: "join",
            bridge: Some("s0"),
            peer_namespace: &far,
            peer_name: "join",
            peer_mac: None,
            mtu: None,
        };
        let near = Links::open(&self.open(one)).await.unwrap();
        near.veth_create(veth).await.unwrap();
        let far = Links::open(&far).await.unwrap();
        far.link_set_bridge("join", "s0").await.unwrap();
        far.link_up("join").await.unwrap();
    }

    /// A port in a VPC, on a veth into its bridge.
    pub(crate) async fn port(&self, vpc: &str, name: &str, ip: Ipv4Addr) {
        let router = Links::open(&self.directory.open(vpc).unwrap()).await.unwrap();
        let namespace = self.directory.create(name).unwrap();
        let veth = Veth {
            name,
            bridge: Some("s0"),
            peer_namespace: &namespace,
            peer_name: "eth0",
            peer_mac: None,
            mtu: None,
        };
        router.veth_create(veth).await.unwrap();
        let links = Links::open(&namespace).await.unwrap();
        links.link_up("lo").await.unwrap();
        links.link_up("eth0").await.unwrap();
        let network = format!("{ip}/24").parse().unwrap();
        links.address_add("eth0", network, None).await.unwrap();
        let default = Route {
            destination: "0.0.0.0/0".parse().unwrap(),
            next_hop: NextHop::Gateway(IpAddr::from([10, 0, 0, 1])),
        };
        links.route_add(&default).await.unwrap();
    }

    pub(crate) async fn consumer(&self) {
        self.vpc(CONSUMER).await;
        self.port(CONSUMER, CLIENT, [10, 0, 0, 10].into()).await;
    }

    pub(crate) async fn provider(&self) {
        self.vpc(PROVIDER).await;
        self.port(PROVIDER, BACKEND, BACKEND_IP).await;
    }

    pub(crate) async fn both(&self) {
        self.consumer().await;
        self.provider().await;
    }

    pub(crate) fn remove(&self, names: &[&str]) {
        for name in names {
            self.directory.remove(name).unwrap();
        }
    }

    pub(crate) fn open(&self, name: &str) -> Namespace {
        self.directory.open(name).unwrap()
    }

    /// The addresses on a VPC's bridge.
    pub(crate) async fn addresses(&self, vpc: &str) -> Vec<String> {
        let links = Links::open(&self.open(vpc)).await.unwrap();
        let all = links.addresses().await.unwrap();
        let on_bridge = all.into_iter().filter(|address| address.link == "s0");
        on_bridge.map(|address| address.network.to_string()).collect()
    }

    /// A server on the backend: says its name and whom it sees, then echoes.
    pub(crate) fn serve(&self, name: &'static str, port: u16) {
        self.serve_at(BACKEND, name, port);
    }

    /// The same on another port's namespace.
    pub(crate) fn serve_at(&self, backend: &str, name: &'static str, port: u16) {
        let listener = self
            .open(backend)
            .run(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)))
            .unwrap()
            .unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                std::thread::spawn(move || -> io::Result<()> {
                    let seen = stream.peer_addr()?.ip();
                    writeln!(stream, "{name} {seen}")?;
                    io::copy(&mut stream.try_clone()?, &mut stream)?;
                    Ok(())
                });
            }
        });
    }

    /// The client connects to a port of the endpoint's address.
    pub(crate) fn connect(&self, port: u16) -> io::Result<TcpStream> {
        let endpoint = SocketAddr::V4(SocketAddrV4::new(ENDPOINT_IP, port));
        self.open(CLIENT)
            .run(|| TcpStream::connect_timeout(&endpoint, PATIENCE))?
    }

    /// The client connects through the endpoint.
    pub(crate) fn visit(&self) -> Visit {
        let stream = self.connect(CLIENT_PORT).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut reader = BufReader::new(stream);
        let mut greeting = String::new();
        reader.read_line(&mut greeting).unwrap();
        Visit {
            greeting: greeting.trim_end().to_owned(),
            reader,
        }
    }

    pub(crate) fn assert_refused(&self, port: u16) {
        let error = self.connect(port).expect_err("the port must refuse");
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    }

    /// A client is let in by the kernel and reset by the relay before the backend hears of it.
    pub(crate) fn assert_cut_at_once(&self) {
        let read = |mut stream: TcpStream| {
            stream.set_read_timeout(Some(PATIENCE))?;
            std::io::Read::read(&mut stream, &mut [0])
        };
        // The reset may come before `connect` has returned.
        let error = self
            .connect(CLIENT_PORT)
            .and_then(read)
            .expect_err("the connection must be reset");
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        for name in self.directory.names("").unwrap() {
            self.directory.remove(&name).unwrap();
        }
        let removed = std::fs::remove_dir(&self.folder);
        assert!(removed.is_ok() || std::thread::panicking(), "{removed:?}");
    }
}

/// A connection that lives.
pub(crate) struct Visit {
    /// The backend's name, and whom it sees.
    pub(crate) greeting: String,
    reader: BufReader<TcpStream>,
}

impl Visit {
    pub(crate) fn echo(&mut self, text: &str) {
        self.reader.get_mut().write_all(text.as_bytes()).unwrap();
        let mut back = vec![0; text.len()];
        self.reader.read_exact(&mut back).unwrap();
        assert_eq!(back, text.as_bytes());
    }

    pub(crate) fn assert_reset(mut self) {
        let heard = self.reader.read(&mut [0; 1]).map_err(|error| error.kind());
        assert_eq!(heard, Err(ErrorKind::ConnectionReset));
    }
}

/// Both VPCs with a server, and a gateway between them; `None` as [`Sandbox::new`].
pub(crate) async fn served(test: &str) -> Option<(Sandbox, Rig)> {
    let sandbox = Sandbox::new(test)?;
    sandbox.both().await;
    sandbox.serve("web", SERVER_PORT);
    let rig = Rig::start(&sandbox).await;
    Some((sandbox, rig))
}

/// A gateway that follows a feed.
pub(crate) struct Rig {
    pub(crate) gateway: Arc<Gateway>,
    events: mpsc::Sender<FeedEvent>,
    reports: mpsc::Receiver<Report>,
}

impl Rig {
    /// It has heard an empty snapshot.
    pub(crate) async fn start(sandbox: &Sandbox) -> Self {
        Self::start_with(sandbox, |_| {}).await
    }

    pub(crate) async fn start_with(sandbox: &Sandbox, adjust: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::new(sandbox.directory.clone());
        adjust(&mut config);
        let gateway = Arc::new(Gateway::start(config).unwrap());
        let (events, inbox) = mpsc::channel(QUEUED_MAX);
        let (outbox, reports) = mpsc::channel(QUEUED_MAX);
        let follower = Arc::clone(&gateway);
        tokio::spawn(async move { follower.run(inbox, outbox).await });
        let rig = Self {
            gateway,
            events,
            reports,
        };
        rig.send(FeedEvent::Snapshot {
            endpoints: vec![],
            more: false,
        })
        .await;
        rig
    }

    pub(crate) async fn send(&self, event: FeedEvent) {
        self.events.send(event).await.unwrap();
    }

    pub(crate) async fn put(&self, endpoint: &EndpointSpec) {
        let endpoint = endpoint.clone();
        self.send(FeedEvent::Put { endpoint }).await;
    }

    /// Waits for the next report, whatever it says.
    pub(crate) async fn next(&mut self) -> Report {
        let next = tokio::time::timeout(PATIENCE, self.reports.recv()).await;
        next.expect("waited in vain for a report")
            .expect("the gateway reports")
    }

    /// Waits for a report on an endpoint that fits.
    pub(crate) async fn until(
        &mut self,
        id: EndpointId,
        what: &str,
        fits: impl Fn(&EndpointReport) -> bool,
    ) -> EndpointReport {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let next = tokio::time::timeout_at(deadline.into(), self.reports.recv()).await;
            let report = next.unwrap_or_else(|_| panic!("waited in vain for: {what}"));
            let report = report.expect("the gateway reports");
            if report.id == id && fits(&report.status) {
                return report.status;
            }
        }
    }

    pub(crate) async fn until_listening(&mut self, spec: &EndpointSpec) {
        let generation = spec.generation;
        let wanted = EndpointReport::Listening { generation };
        self.until(spec.id, "listening", |status| *status == wanted).await;
    }

    /// Answers the reason.
    pub(crate) async fn until_waiting(&mut self, spec: &EndpointSpec) -> String {
        let waiting = |status: &EndpointReport| matches!(status, EndpointReport::Waiting { generation, .. } if *generation == spec.generation);
        match self.until(spec.id, "waiting", waiting).await {
            EndpointReport::Waiting { reason, .. } => reason,
            other => panic!("{other:?} is not waiting"),
        }
    }

    pub(crate) async fn serve(&mut self, spec: &EndpointSpec) {
        self.put(spec).await;
        self.until_listening(spec).await;
    }

    pub(crate) async fn remove(&mut self, id: EndpointId) {
        self.send(FeedEvent::Remove { id, drain_s: 0 }).await;
        self.until_removed(id).await;
    }

    pub(crate) async fn until_removed(&mut self, id: EndpointId) {
        self.until(id, "removed", |status| *status == EndpointReport::Removed)
            .await;
    }
}

/// An address in the client's subnet.
pub(crate) fn at(ip: Ipv4Addr) -> Ingress {
    Ingress::Address {
        ip,
        subnet: "10.0.0.0/24".parse().unwrap(),
    }
}

/// An endpoint from the client's VPC to the backend's.
pub(crate) fn spec() -> EndpointSpec {
    EndpointSpec {
        id: EndpointId::random(),
        generation: 1,
        service: ServiceId::random(),
        marker: MarkerId::from_random(MARKER),
        consumer: ConsumerLeg {
            namespace: CONSUMER.into(),
            vni: Vni::new(VNI),
            ingress: at(ENDPOINT_IP),
        },
        provider: ProviderLeg {
            namespace: PROVIDER.into(),
            source: SOURCE,
            slice: None,
            backend: Some(BACKEND_IP),
            more_backends: Box::default(),
        },
        ports: vec![mapping(CLIENT_PORT, SERVER_PORT)],
        tcp_proxy: TcpProxy::Close,
        proxy: ProxyHeader::default(),
        connections_max: 100,
        new_per_second_max: None,
        drain_s: 0,
        allowed: None,
    }
}

pub(crate) fn mapping(client_port: u16, server_port: u16) -> PortMapping {
    PortMapping {
        client_port,
        server_port,
        protocol: Protocol::Tcp,
    }
}

/// Polls a condition.
pub(crate) async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds().await {
        assert!(Instant::now() < deadline, "waited in vain for: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
