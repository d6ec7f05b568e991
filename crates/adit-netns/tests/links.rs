//! Links, addresses and routes, on the real kernel.
#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, also in what its tests share"
)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use adit_netns::{Address, Elsewhere, Links, Namespace, NextHop, Route, Veth, sysctl};

mod sandbox;
use sandbox::Sandbox;

const ROUTER_MAC: [u8; 6] = [2, 0xad, 0, 0, 0, 1];
const PORT_MAC: [u8; 6] = [0xfa, 0x16, 0x3e, 0, 0, 2];

/// A router with a bridge at 10.0.0.1/24, and a port behind it at 10.0.0.2.
struct Net {
    router: Links,
    port: Links,
}

async fn net(sandbox: &Sandbox) -> Net {
    let (router, port) = (sandbox.namespace("router"), sandbox.namespace("port"));
    let net = Net {
        router: Links::open(&router).await.unwrap(),
        port: Links::open(&port).await.unwrap(),
    };
    for namespace in [&router, &port] {
        sysctl::apply(namespace, sysctl::PORT).unwrap();
    }
    // Everything twice: what is there already is success.
    for _ in 0..2 {
        net.router.link_up("lo").await.unwrap();
        net.router.bridge_create("br", ROUTER_MAC).await.unwrap();
        net.router
            .address_add("br", ip("10.0.0.1/24"), None)
            .await
            .unwrap();
        net.router.veth_create(veth(&port)).await.unwrap();
        net.port.link_up("lo").await.unwrap();
        net.port.link_up("eth0").await.unwrap();
        net.port
            .address_add("eth0", ip("10.0.0.2/24"), None)
            .await
            .unwrap();
    }
    net
}

fn veth(port: &Namespace) -> Veth<'_> {
    Veth {
        name: "p1",
        bridge: Some("br"),
        peer_namespace: port,
        peer_name: "eth0",
        peer_mac: Some(PORT_MAC),
        mtu: Some(1400),
    }
}

fn ip<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
    text.parse().unwrap()
}

fn via(destination: &str, gateway: &str) -> Route {
    let (destination, gateway) = (ip(destination), ip(gateway));
    Route {
        destination,
        next_hop: NextHop::Gateway(gateway),
    }
}

/// Serves one connection in `server` at `address`; returns who the server saw when `client` connected, or the error.
fn talk(server: &Namespace, client: &Namespace, address: SocketAddr) -> std::io::Result<SocketAddr> {
    let listener = server.run(|| TcpListener::bind(address))??;
    let mut near = client.run(|| TcpStream::connect(listener.local_addr()?))??;
    let (mut far, seen) = listener.accept()?;
    near.write_all(b"through")?;
    drop(near);
    let mut text = String::new();
    far.read_to_string(&mut text)?;
    assert_eq!(text, "through");
    Ok(seen)
}

#[tokio::test]
async fn a_veth_is_born_in_both_namespaces() {
    let Some(sandbox) = Sandbox::new("a_veth_is_born_in_both_namespaces") else {
        return;
    };
    let Net { router, port } = net(&sandbox).await;
    let bridge = router.link("br").await.unwrap().unwrap();
    assert_eq!((bridge.mac, bridge.up), (Some(ROUTER_MAC), true));
    let near = router.link("p1").await.unwrap().unwrap();
    assert_eq!((near.master, near.mtu, near.up), (Some(bridge.index), 1400, true));
    let eth0 = port.link("eth0").await.unwrap().unwrap();
    assert_eq!((eth0.mac, eth0.mtu, eth0.up), (Some(PORT_MAC), 1400, true));
    let names = |links: Vec<adit_netns::Link>| links.into_iter().map(|link| link.name).collect::<Vec<_>>();
    assert_eq!(names(port.links().await.unwrap()), ["lo", "eth0"]);

    let seen = talk(router.namespace(), port.namespace(), ip("10.0.0.1:8080")).unwrap();
    assert_eq!(seen.ip(), ip::<std::net::IpAddr>("10.0.0.2"));

    port.link_set_mac("eth0", [0xfa, 0x16, 0x3e, 0, 0, 3])
        .await
        .unwrap();
    port.link_set_mtu("eth0", 1300).await.unwrap();
    let eth0 = port.link("eth0").await.unwrap().unwrap();
    assert_eq!((eth0.mac, eth0.mtu), (Some([0xfa, 0x16, 0x3e, 0, 0, 3]), 1300));

    for _ in 0..2 {
        router.link_delete("p1").await.unwrap();
    }
    assert_eq!(port.link("eth0").await.unwrap(), None, "the other end goes too");
}

#[tokio::test]
async fn addresses_are_listed_found_and_removed() {
    let Some(sandbox) = Sandbox::new("addresses_are_listed_found_and_removed") else {
        return;
    };
    let Net { router, .. } = net(&sandbox).await;
    let forever = |network: &str| Address {
        link: "br".to_owned(),
        network: ip(network),
        valid_s: None,
    };
    let on_bridge = async || {
        let mut all = router.addresses().await.unwrap();
        all.retain(|address| address.link == "br");
        all
    };
    assert_eq!(on_bridge().await, [forever("10.0.0.1/24")]);

    // With a lifetime: 1,000 s is renewed to 2,000 s, and then to for ever.
    let (mut shorter, address) = (0, ip("10.0.0.9/32"));
    for valid_s in [1000, 2000] {
        router.address_add("br", address, Some(valid_s)).await.unwrap();
        let now = on_bridge().await.pop().unwrap().valid_s.unwrap();
        assert!(now <= valid_s && now > shorter, "{now} of {valid_s}");
        shorter = valid_s;
    }
    router.address_add("br", address, None).await.unwrap();
    assert_eq!(
        on_bridge().await,
        [forever("10.0.0.1/24"), forever("10.0.0.9/32")]
    );

    let name = async |subnet: &str| router.link_in(ip(subnet)).await.unwrap().map(|link| link.name);
    assert_eq!(name("10.0.0.0/24").await.as_deref(), Some("br"));
    assert_eq!(name("10.0.0.128/25").await.as_deref(), Some("br"));
    assert_eq!(name("127.0.0.1/32").await.as_deref(), Some("lo"));
    assert_eq!(name("10.0.0.0/23").await, None);
    assert_eq!(name("10.0.1.0/24").await, None);

    for _ in 0..2 {
        router.address_delete("br", address).await.unwrap();
        router.address_delete("nowhere", address).await.unwrap();
    }
    assert_eq!(on_bridge().await, [forever("10.0.0.1/24")]);
    let error = router.address_add("nowhere", address, None).await.unwrap_err();
    assert!(error.is_missing());
    assert_eq!(
        error.to_string(),
        "cannot add address 10.0.0.9/32 (link nowhere) in namespace router"
    );
}

#[tokio::test]
async fn another_station_that_has_an_address_is_heard() {
    let Some(sandbox) = Sandbox::new("another_station_that_has_an_address_is_heard") else {
        return;
    };
    let Net { router, port } = net(&sandbox).await;
    let (near, far) = (router.arp("br").await.unwrap(), port.arp("eth0").await.unwrap());
    // Ordinary questions and answers, which are none of it.
    talk(router.namespace(), port.namespace(), ip("10.0.0.1:8080")).unwrap();
    // Nor is what it says itself, and a question without an answer.
    near.announce(ip("10.0.0.1")).unwrap();
    near.probe(ip("10.0.0.99")).unwrap();
    let heard = |ip, mac| Elsewhere { ip, mac };
    assert_eq!(far.hear().await.unwrap(), heard(ip("10.0.0.1"), ROUTER_MAC));
    far.announce(ip("10.0.0.77")).unwrap();
    assert_eq!(near.hear().await.unwrap(), heard(ip("10.0.0.77"), PORT_MAC));
    // Who has it answers a probe; nobody else hears of that.
    near.probe(ip("10.0.0.2")).unwrap();
    assert_eq!(near.hear().await.unwrap(), heard(ip("10.0.0.2"), PORT_MAC));
    router.link_delete("br").await.unwrap();
    near.hear().await.unwrap_err();
    assert!(router.arp("br").await.unwrap_err().is_missing());
}

#[tokio::test]
async fn many_addresses_are_renewed_at_once() {
    let Some(sandbox) = Sandbox::new("many_addresses_are_renewed_at_once") else {
        return;
    };
    let Net { router, .. } = net(&sandbox).await;
    let link = router.link("br").await.unwrap().unwrap().index;
    let all: Vec<(u32, std::net::Ipv4Addr)> = (0..600_u32)
        .map(|n| (link, std::net::Ipv4Addr::from(0x0a00_0400 + n)))
        .collect();
    let renewal = router.renewal().await.unwrap();
    let lives = async || {
        let addresses = router.addresses().await.unwrap();
        addresses
            .iter()
            .filter_map(|address| address.valid_s)
            .collect::<Vec<_>>()
    };
    assert!(renewal.renew(&all, 1000).unwrap().is_empty());
    let now = lives().await;
    assert!(now.len() == 600 && now.iter().all(|s| *s <= 1000), "{now:?}");
    assert!(renewal.renew(&all, 2000).unwrap().is_empty());
    let now = lives().await;
    assert!(now.len() == 600 && now.iter().all(|s| *s > 1000), "{now:?}");
    // What the kernel refuses is named, and all else is done.
    let (nowhere, lost) = (link + 1000, all[300].1);
    let mut some = all.clone();
    some[300] = (nowhere, lost);
    let refused = renewal.renew(&some, 3000).unwrap();
    assert_eq!(refused.len(), 1);
    assert_eq!(refused[0].0, lost);
    let now = lives().await;
    assert_eq!(now.iter().filter(|s| **s > 2000).count(), 599);
}

#[tokio::test]
async fn an_address_lapses_unless_it_is_renewed() {
    let Some(sandbox) = Sandbox::new("an_address_lapses_unless_it_is_renewed") else {
        return;
    };
    let Net { router, .. } = net(&sandbox).await;
    router
        .address_add("br", ip("10.0.0.9/32"), Some(1))
        .await
        .unwrap();
    assert_eq!(router.addresses().await.unwrap().len(), 3);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while router.addresses().await.unwrap().len() > 2 {
        assert!(std::time::Instant::now() < deadline, "the address did not lapse");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn routes_are_added_replaced_listed_and_removed() {
    let Some(sandbox) = Sandbox::new("routes_are_added_replaced_listed_and_removed") else {
        return;
    };
    let Net { router, port } = net(&sandbox).await;
    assert_eq!(port.routes().await.unwrap(), []);
    let first = via("0.0.0.0/0", "10.0.0.1");
    let second = via("0.0.0.0/0", "10.0.0.7");
    for _ in 0..2 {
        port.route_add(&first).await.unwrap();
    }
    assert_eq!(port.routes().await.unwrap(), std::slice::from_ref(&first));
    port.route_replace(&second).await.unwrap();
    assert_eq!(port.routes().await.unwrap(), std::slice::from_ref(&second));
    port.route_delete(&first).await.unwrap();
    assert_eq!(
        port.routes().await.unwrap(),
        std::slice::from_ref(&second),
        "another's next hop"
    );
    for _ in 0..2 {
        port.route_delete(&second).await.unwrap();
    }
    let on_link = Route {
        destination: ip("192.0.2.0/24"),
        next_hop: NextHop::Link("eth0".to_owned()),
    };
    port.route_add(&on_link).await.unwrap();
    assert_eq!(port.routes().await.unwrap(), std::slice::from_ref(&on_link));
    // One behind another takes its place when that goes.
    let behind = via("192.0.2.0/24", "10.0.0.1");
    for _ in 0..2 {
        port.route_append(&behind).await.unwrap();
    }
    assert_eq!(port.routes().await.unwrap(), [on_link.clone(), behind.clone()]);
    port.route_delete(&on_link).await.unwrap();
    assert_eq!(port.routes().await.unwrap(), std::slice::from_ref(&behind));
    port.route_delete(&behind).await.unwrap();

    let error = port
        .route_add(&via("192.0.3.0/24", "10.9.9.9"))
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot add route 192.0.3.0/24 via 10.9.9.9 in namespace port"
    );
    assert_eq!(error.source.kind(), std::io::ErrorKind::NetworkUnreachable);

    let local = Route {
        destination: ip("198.19.128.0/17"),
        next_hop: NextHop::Local,
    };
    for _ in 0..2 {
        router.route_add(&local).await.unwrap();
    }
    assert_eq!(router.routes().await.unwrap(), std::slice::from_ref(&local));
    port.route_add(&first).await.unwrap();
    let seen = talk(router.namespace(), port.namespace(), ip("198.19.200.1:80"));
    assert_eq!(seen.unwrap().ip(), ip::<std::net::IpAddr>("10.0.0.2"));
    for _ in 0..2 {
        router.route_delete(&local).await.unwrap();
    }
    assert_eq!(router.routes().await.unwrap(), []);
}

#[tokio::test]
async fn a_dropped_handle_lets_the_namespace_go() {
    let Some(sandbox) = Sandbox::new("a_dropped_handle_lets_the_namespace_go") else {
        return;
    };
    let Net { router, port } = net(&sandbox).await;
    // The veth's near end disappears only when the kernel destroys the far namespace.
    sandbox.directory.remove("port").unwrap();
    drop(port);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while router.link("p1").await.unwrap().is_some() {
        assert!(std::time::Instant::now() < deadline, "the namespace lives on");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}
