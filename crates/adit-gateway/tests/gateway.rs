//! The gateway on the real kernel: two VPCs with the same addresses, real sockets on both sides.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking, also in what its tests share"
)]

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};

use adit_model::feed::{EndpointReport, FeedEvent, ProbedPort};
use adit_model::network::RESERVED;
use adit_model::service::TcpProxy;
use adit_netns::{Links, NextHop, Route};
use adit_relay::{Close, End};

mod vpcs;
use vpcs::{
    BACKEND, CLIENT, CLIENT_PORT, CONSUMER, ENDPOINT_IP, PROVIDER, Rig, SERVER_PORT, SOURCE, Sandbox, at,
    eventually, served, spec,
};

const ROUTER: &str = "10.0.0.1/24";

#[tokio::test(flavor = "multi_thread")]
async fn bytes_flow_between_vpcs_with_the_same_addresses() {
    let Some(sandbox) = Sandbox::new("bytes_flow_between_vpcs_with_the_same_addresses") else {
        return;
    };
    sandbox.both().await;
    sandbox.serve("web", SERVER_PORT);
    // Open on the backend, but not mapped.
    sandbox.serve("secret", 22);
    let mut rig = Rig::start(&sandbox).await;
    let endpoint = spec();
    rig.serve(&endpoint).await;

    let mut visit = sandbox.visit();
    assert_eq!(visit.greeting, format!("web {SOURCE}"));
    visit.echo("through two VPCs");
    sandbox.assert_refused(22);
    sandbox.assert_refused(SERVER_PORT);

    let owner = endpoint.id.0.as_u128();
    let owners = rig.gateway.snapshot().owners;
    let stats = owners
        .iter()
        .find(|stats| stats.owner == owner)
        .expect("counted by endpoint");
    assert_eq!((stats.accepted, stats.active), (1, 1));
    rig.gateway.stop(Close::Cut).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_is_missing_is_waited_for() {
    let Some(sandbox) = Sandbox::new("a_namespace_that_is_missing_is_waited_for") else {
        return;
    };
    let mut rig = Rig::start(&sandbox).await;
    let endpoint = spec();
    rig.put(&endpoint).await;
    let reason = rig.until_waiting(&endpoint).await;
    assert!(reason.contains(CONSUMER), "{reason}");
    sandbox.consumer().await;
    rig.until(endpoint.id, "the provider is missing", |status| {
        format!("{status:?}").contains(PROVIDER)
    })
    .await;
    // Another endpoint does not wait along: it is within the consumer's VPC.
    let mut inside = spec();
    inside.consumer.ingress = at([10, 0, 0, 8].into());
    inside.provider.namespace = CONSUMER.into();
    rig.serve(&inside).await;

    sandbox.provider().await;
    sandbox.serve("web", SERVER_PORT);
    rig.until_listening(&endpoint).await;
    sandbox.visit().echo("by itself");
    rig.gateway.stop(Close::Cut).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_was_made_anew_is_served_again() {
    let Some((sandbox, mut rig)) = served("a_namespace_that_was_made_anew_is_served_again").await else {
        return;
    };
    let endpoint = spec();
    rig.serve(&endpoint).await;
    sandbox.visit().echo("before");

    sandbox.remove(&[CLIENT, CONSUMER]);
    sandbox.consumer().await;
    rig.until_listening(&endpoint).await;
    sandbox.visit().echo("in the consumer's new VPC");

    sandbox.remove(&[BACKEND, PROVIDER]);
    sandbox.provider().await;
    sandbox.serve("anew", SERVER_PORT);
    rig.until_listening(&endpoint).await;
    let mut visit = sandbox.visit();
    assert_eq!(visit.greeting, format!("anew {SOURCE}"));
    visit.echo("in the provider's new VPC");

    // Gone for good, it is said so.
    sandbox.remove(&[BACKEND, PROVIDER]);
    let reason = rig.until_waiting(&endpoint).await;
    assert!(reason.contains(PROVIDER), "{reason}");
    rig.gateway.stop(Close::Cut).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_endpoint_on_an_address_waits_for_the_first() {
    let Some((sandbox, mut rig)) = served("the_second_endpoint_on_an_address_waits_for_the_first").await
    else {
        return;
    };
    let first = spec();
    let mut second = spec();
    second.provider.source = [198, 19, 200, 2].into();
    rig.serve(&first).await;
    rig.put(&second).await;
    let reason = rig.until_waiting(&second).await;
    assert!(reason.contains(&first.id.to_string()), "{reason}");
    assert_eq!(sandbox.visit().greeting, format!("web {SOURCE}"));

    rig.remove(first.id).await;
    rig.until_listening(&second).await;
    assert_eq!(sandbox.visit().greeting, "web 198.19.200.2");
    rig.gateway.stop(Close::Cut).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_in_a_snapshot_goes() {
    let Some((sandbox, mut rig)) = served("what_is_not_in_a_snapshot_goes").await else {
        return;
    };
    let gone = spec();
    let mut stays = spec();
    stays.consumer.ingress = at([10, 0, 0, 8].into());
    rig.serve(&gone).await;
    rig.serve(&stays).await;
    let visit = sandbox.visit();

    // The newcomer takes over the address in the same breath.
    let newcomer = spec();
    rig.send(FeedEvent::Snapshot {
        endpoints: vec![newcomer.clone(), stays.clone()],
        more: false,
    })
    .await;
    rig.until_listening(&newcomer).await;
    visit.assert_reset();
    sandbox.visit().echo("the newcomer's");
    let mut addresses = sandbox.addresses(CONSUMER).await;
    addresses.sort_unstable();
    assert_eq!(addresses, [ROUTER, "10.0.0.8/32", &format!("{ENDPOINT_IP}/32")]);
    rig.gateway.stop(Close::Cut).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_leaves_nothing_in_the_kernel() {
    let Some((sandbox, mut rig)) = served("a_stop_leaves_nothing_in_the_kernel").await else {
        return;
    };
    let endpoint = spec();
    rig.serve(&endpoint).await;
    let mut visit = sandbox.visit();
    visit.echo("alive");
    rig.gateway.stop(Close::Cut).await;
    visit.assert_reset();
    assert_eq!(sandbox.addresses(CONSUMER).await, [ROUTER]);
    assert_eq!(sandbox.addresses(PROVIDER).await, [ROUTER]);

    // Nor is a namespace held: its veth's other end goes when it is destroyed.
    drop(rig);
    let_go(&sandbox).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vpc_that_nobody_is_served_in_is_let_go_of() {
    let Some(sandbox) = Sandbox::new("a_vpc_that_nobody_is_served_in_is_let_go_of") else {
        return;
    };
    sandbox.both().await;
    let mut rig = Rig::start(&sandbox).await;
    let endpoint = spec();
    rig.serve(&endpoint).await;
    rig.remove(endpoint.id).await;
    let_go(&sandbox).await;
    rig.gateway.stop(Close::Cut).await;
}

/// Removes the consumer's VPC and waits until the kernel has destroyed it, which it does when nothing holds it.
async fn let_go(sandbox: &Sandbox) {
    sandbox.remove(&[CONSUMER]);
    let client = adit_netns::Links::open(&sandbox.open(CLIENT)).await.unwrap();
    eventually("the VPC's namespace is destroyed", async || {
        client.link("eth0").await.unwrap().is_none()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_of_endpoints_of_one_vpc_is_served_without_a_wait() {
    let Some(sandbox) = Sandbox::new("a_burst_of_endpoints_of_one_vpc_is_served_without_a_wait") else {
        return;
    };
    sandbox.both().await;
    let mut rig = Rig::start(&sandbox).await;
    let count = 60;
    for i in 0..count {
        let mut endpoint = spec();
        endpoint.consumer.ingress = at([10, 0, 0, 50 + i].into());
        rig.put(&endpoint).await;
    }
    for _ in 0..count {
        let report = rig.next().await;
        assert!(
            matches!(report.status, EndpointReport::Listening { .. }),
            "{report:?}"
        );
    }
    rig.gateway.stop(Close::Cut).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_does_not_disturb_what_it_repeats() {
    let Some((sandbox, mut rig)) = served("a_snapshot_does_not_disturb_what_it_repeats").await else {
        return;
    };
    let stays = spec();
    rig.serve(&stays).await;
    let mut visit = sandbox.visit();
    for i in 0..20 {
        let mut other = spec();
        other.consumer.ingress = at([10, 0, 0, 100 + i].into());
        let endpoints = vec![other.clone(), stays.clone()];
        rig.send(FeedEvent::Snapshot {
            endpoints,
            more: false,
        })
        .await;
        let mut awaited = vec![other.id, stays.id];
        while !awaited.is_empty() {
            let report = rig.next().await;
            if report.status == EndpointReport::Removed {
                assert_ne!(report.id, stays.id, "the endpoint that stays was removed");
                continue;
            }
            assert!(
                matches!(report.status, EndpointReport::Listening { .. }),
                "{report:?}"
            );
            awaited.retain(|id| *id != report.id);
        }
    }
    visit.echo("still here");
    rig.gateway.stop(Close::Cut).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mode_that_it_cannot_serve_is_not_served_in_another_way() {
    let Some(sandbox) = Sandbox::new("a_mode_that_it_cannot_serve_is_not_served_in_another_way") else {
        return;
    };
    sandbox.both().await;
    let mut rig = Rig::start(&sandbox).await;
    let mut endpoint = spec();
    endpoint.tcp_proxy = TcpProxy::ProxyVni;
    endpoint.consumer.vni = None;
    rig.put(&endpoint).await;
    match rig.next().await.status {
        EndpointReport::Waiting { reason, .. } => assert!(reason.contains("VNI"), "{reason}"),
        other => panic!("{other:?}"),
    }
    rig.gateway.stop(Close::Cut).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lower_limit_counts_for_the_next_connection() {
    let Some((sandbox, mut rig)) = served("a_lower_limit_counts_for_the_next_connection").await else {
        return;
    };
    let mut endpoint = spec();
    rig.serve(&endpoint).await;
    let mut visit = sandbox.visit();
    endpoint.connections_max = 1;
    endpoint.generation += 1;
    rig.serve(&endpoint).await;
    visit.echo("the first one stays");
    sandbox.assert_cut_at_once();
    rig.gateway.stop(Close::Cut).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_somebody_removed_comes_back() {
    let Some((sandbox, mut rig)) = served("an_address_that_somebody_removed_comes_back").await else {
        return;
    };
    let endpoint = spec();
    rig.serve(&endpoint).await;
    let links = adit_netns::Links::open(&sandbox.open(CONSUMER)).await.unwrap();
    let address = format!("{ENDPOINT_IP}/32").parse().unwrap();
    let held = links.addresses().await.unwrap();
    let link = held
        .into_iter()
        .find(|held| held.network == address)
        .unwrap()
        .link;
    links.address_delete(&link, address).await.unwrap();
    rig.until_listening(&endpoint).await;
    sandbox.visit().echo("back again");
    rig.gateway.stop(Close::Cut).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_route_of_the_sources_that_somebody_removed_comes_back() {
    let Some((sandbox, mut rig)) = served("a_route_of_the_sources_that_somebody_removed_comes_back").await
    else {
        return;
    };
    rig.serve(&spec()).await;
    let links = Links::open(&sandbox.open(PROVIDER)).await.unwrap();
    let route = Route {
        destination: RESERVED.into(),
        next_hop: NextHop::Local,
    };
    links.route_delete(&route).await.unwrap();
    eventually("the route to be there", async || {
        links.routes().await.unwrap().contains(&route)
    })
    .await;
    sandbox.visit().echo("back again");
    rig.gateway.stop(Close::Cut).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_neighbour_that_knew_the_address_elsewhere_connects_at_once() {
    let Some((sandbox, mut rig)) =
        served("a_neighbour_that_knew_the_address_elsewhere_connects_at_once").await
    else {
        return;
    };
    let endpoint = spec();
    rig.serve(&endpoint).await;
    sandbox.visit().echo("the client knows its neighbour now");
    rig.remove(endpoint.id).await;
    // The address was with somebody else meanwhile, as far as the client knows.
    let client = sandbox.open(CLIENT);
    let known = client.run(|| {
        let mut ip = std::process::Command::new("ip");
        let entry = [
            "neigh",
            "replace",
            &ENDPOINT_IP.to_string(),
            "lladdr",
            "fa:16:3e:99:99:99",
            "dev",
            "eth0",
            "nud",
            "reachable",
        ];
        ip.args(entry).status().unwrap().success()
    });
    assert!(known.unwrap(), "`ip neigh replace`");
    rig.serve(&endpoint).await;
    sandbox.visit().echo("found again");
    rig.gateway.stop(Close::Cut).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mode_is_for_new_connections_and_leaves_the_listener_open() {
    let Some(sandbox) = Sandbox::new("a_mode_is_for_new_connections_and_leaves_the_listener_open") else {
        return;
    };
    sandbox.both().await;
    let backend = sandbox.open(BACKEND);
    let backend = backend
        .run(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, SERVER_PORT)))
        .unwrap()
        .unwrap();
    let mut rig = Rig::start(&sandbox).await;
    let mut endpoint = spec();
    // Marker id and VNI of the published vectors, in hexadecimal.
    let (marker, vni) = ("e400040c02e2fc", "e500030012ab");
    let mut old = Vec::new();
    for (mode, tlvs) in [
        (TcpProxy::Close, None),
        (TcpProxy::ProxyOpen, Some(marker.to_owned())),
        (TcpProxy::ProxyVni, Some(format!("{marker}{vni}"))),
        (TcpProxy::Close, None),
    ] {
        endpoint.tcp_proxy = mode;
        endpoint.generation += 1;
        rig.serve(&endpoint).await;
        let client = sandbox.connect(CLIENT_PORT).unwrap();
        let (accepted, from) = backend.accept().unwrap();
        assert_eq!(from.ip(), SOURCE, "in every mode");
        let mut connection = Pair { client, accepted };
        if let Some(tlvs) = tlvs {
            // Before the client has said anything.
            let head = connection.head(16 + 12 + tlvs.len() / 2);
            assert_eq!(head, connection.header(&tlvs), "{mode}");
        }
        connection.exchange();
        old.push(connection);
    }
    // What was open when the mode changed has heard nothing of it.
    old.iter_mut().for_each(Pair::exchange);
    rig.gateway.stop(Close::Cut).await;
}

/// Both ends of a connection.
struct Pair {
    client: TcpStream,
    accepted: TcpStream,
}

impl Pair {
    fn head(&mut self, length: usize) -> String {
        let mut head = vec![0; length];
        self.accepted.read_exact(&mut head).unwrap();
        hex(&head)
    }

    /// A header of version 2 for this connection, with these TLVs.
    fn header(&self, tlvs: &str) -> String {
        let SocketAddr::V4(from) = self.client.local_addr().unwrap() else {
            unreachable!("connected by IPv4")
        };
        let length = u16::try_from(12 + tlvs.len() / 2).unwrap();
        let addresses = [from.ip().octets(), ENDPOINT_IP.octets()].concat();
        let ports = [from.port().to_be_bytes(), CLIENT_PORT.to_be_bytes()].concat();
        let (addresses, ports) = (hex(&addresses), hex(&ports));
        format!("0d0a0d0a000d0a515549540a2111{length:04x}{addresses}{ports}{tlvs}")
    }

    fn exchange(&mut self) {
        let (client, accepted) = (&self.client, &self.accepted);
        for (mut from, mut to) in [(client, accepted), (accepted, client)] {
            from.write_all(b"ping").unwrap();
            let mut heard = [0; 4];
            to.read_exact(&mut heard).unwrap();
            assert_eq!(&heard, b"ping");
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_that_goes_and_comes_is_told_once_each() {
    let Some(sandbox) = Sandbox::new("a_backend_that_goes_and_comes_is_told_once_each") else {
        return;
    };
    sandbox.both().await;
    let mut rig = Rig::start_with(&sandbox, |config| {
        config.probe_period = Some(std::time::Duration::from_millis(50));
    })
    .await;
    let mut endpoint = spec();
    endpoint.tcp_proxy = TcpProxy::ProxyOpen;
    rig.serve(&endpoint).await;
    let fault = async |rig: &mut Rig| {
        let backend = |status: &EndpointReport| matches!(status, EndpointReport::Backend { .. });
        match rig.until(endpoint.id, "word of the backend", backend).await {
            EndpointReport::Backend { ports } => {
                assert_eq!((ports.len(), ports[0].port), (1, SERVER_PORT));
                ports[0].fault.clone()
            }
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(fault(&mut rig).await.as_deref(), Some("backend_refused"));
    assert_eq!((rig.gateway.backends().up, rig.gateway.backends().down), (0, 1));
    let listen = || TcpListener::bind((Ipv4Addr::UNSPECIFIED, SERVER_PORT));
    let backend = sandbox.open(BACKEND).run(listen).unwrap().unwrap();
    assert_eq!(fault(&mut rig).await, None);
    // Where a header is expected, it says that the connection is nobody's.
    let (mut probe, from) = backend.accept().unwrap();
    assert_eq!(from.ip(), SOURCE);
    let mut heard = Vec::new();
    probe.read_to_end(&mut heard).unwrap();
    assert_eq!(hex(&heard), "0d0a0d0a000d0a515549540a20000000");
    drop(backend);
    assert_eq!(fault(&mut rig).await.as_deref(), Some("backend_refused"));
    rig.gateway.stop(Close::Cut).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_backends_the_one_that_is_away_is_named() {
    let Some(sandbox) = Sandbox::new("of_several_backends_the_one_that_is_away_is_named") else {
        return;
    };
    sandbox.both().await;
    let second = Ipv4Addr::new(10, 0, 0, 21);
    sandbox.port(PROVIDER, "second", second).await;
    sandbox.serve("first", SERVER_PORT);
    let mut rig = Rig::start_with(&sandbox, |config| {
        config.probe_period = Some(std::time::Duration::from_millis(50));
    })
    .await;
    let mut endpoint = spec();
    endpoint.provider.more_backends = [second].into();
    rig.serve(&endpoint).await;
    let mut until = async |fault: Option<&str>, up| {
        let ports = vec![ProbedPort {
            port: SERVER_PORT,
            fault: fault.map(str::to_owned),
        }];
        let wanted = EndpointReport::Backend { ports };
        rig.until(endpoint.id, "word of the backends", |status| *status == wanted)
            .await;
        let found = rig.gateway.backends();
        assert_eq!((found.up, found.down), (up, 1 - up));
    };
    until(Some("10.0.0.21: backend_refused"), 0).await;
    sandbox.serve_at("second", "second", SERVER_PORT);
    until(None, 1).await;
    rig.gateway.stop(Close::Cut).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_a_stranger_has_is_waited_for_and_said() {
    let Some(sandbox) = Sandbox::new("a_port_that_a_stranger_has_is_waited_for_and_said") else {
        return;
    };
    sandbox.both().await;
    sandbox.serve("web", SERVER_PORT);
    let stranger = || TcpListener::bind((Ipv4Addr::UNSPECIFIED, CLIENT_PORT));
    let stranger = sandbox.open(CONSUMER).run(stranger).unwrap().unwrap();
    let mut rig = Rig::start(&sandbox).await;
    let endpoint = spec();
    rig.put(&endpoint).await;
    let reason = rig.until_waiting(&endpoint).await;
    assert!(reason.contains("in use"), "{reason}");
    drop(stranger);
    rig.until_listening(&endpoint).await;
    sandbox.visit().echo("by itself");
    rig.gateway.stop(Close::Cut).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_vanishes_is_given_up_and_counted() {
    let Some(sandbox) = Sandbox::new("a_client_that_vanishes_is_given_up_and_counted") else {
        return;
    };
    sandbox.both().await;
    sandbox.serve("web", SERVER_PORT);
    let mut rig = Rig::start_with(&sandbox, |config| {
        config.relay.idle_timeout = std::time::Duration::from_secs(1);
    })
    .await;
    let endpoint = spec();
    rig.serve(&endpoint).await;
    let visit = sandbox.visit();
    // Its cable is pulled: it says nothing more, not even that it ends.
    let cable = |word| {
        let mut ip = std::process::Command::new("ip");
        ip.args(["link", "set", "eth0", word]);
        let status = sandbox.open(CLIENT).run(|| ip.status()).unwrap();
        assert!(status.unwrap().success(), "`ip link set eth0 {word}`");
    };
    cable("down");
    let ended = |end| {
        let owners = rig.gateway.snapshot().owners;
        let owner = owners.iter().find(|stats| stats.owner == endpoint.id.0.as_u128());
        owner.map_or((0, 0), |stats| (stats.ended(end), stats.active))
    };
    eventually("it to be given up", async || ended(End::Idle) == (1, 0)).await;
    drop(visit);
    cable("up");
    sandbox.visit().echo("a working gateway after");
    rig.gateway.stop(Close::Cut).await;
}
