//! How connections through a gateway end: removed, rejected, drained, stopped; and what a change of the backend leaves alone.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking, also in what its tests share"
)]

use adit_model::feed::{EndpointSpec, FeedEvent};
use adit_model::id::EndpointId;
use adit_relay::Close;

mod vpcs;
use vpcs::{
    CLIENT_PORT, CONSUMER, ENDPOINT_IP, Rig, SERVER_PORT, Sandbox, at, eventually, mapping, served, spec,
};

const ROUTER: &str = "10.0.0.1/24";

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_cuts_and_refuses_and_putting_again_serves() {
    let Some((sandbox, mut rig)) = served("a_removal_cuts_and_refuses_and_putting_again_serves").await else {
        return;
    };
    // Never heard of: answered too.
    rig.remove(EndpointId::random()).await;

    let endpoint = spec();
    // A neighbour on the same address cannot be; on another it must not be touched.
    let mut neighbour = spec();
    neighbour.consumer.ingress = at([10, 0, 0, 8].into());
    rig.serve(&neighbour).await;
    for _ in 0..3 {
        rig.serve(&endpoint).await;
        let mut visit = sandbox.visit();
        visit.echo("alive");
        rig.remove(endpoint.id).await;
        visit.assert_reset();
        assert_eq!(sandbox.addresses(CONSUMER).await, [ROUTER, "10.0.0.8/32"]);
    }
    // With the address gone nobody answers for it; with another endpoint's mapping on it the port refuses.
    let mut other = spec();
    other.ports = vec![mapping(9090, SERVER_PORT)];
    rig.serve(&other).await;
    sandbox.assert_refused(8080);
    rig.gateway.stop(Close::Cut).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_backend_is_for_new_connections_only() {
    let Some(sandbox) = Sandbox::new("another_backend_is_for_new_connections_only") else {
        return;
    };
    sandbox.both().await;
    sandbox.serve("first", SERVER_PORT);
    sandbox.serve("second", 81);
    let mut rig = Rig::start(&sandbox).await;
    let mut endpoint = spec();
    rig.serve(&endpoint).await;
    let mut old = sandbox.visit();

    endpoint.generation = 2;
    endpoint.ports[0].server_port = 81;
    endpoint.provider.source = [198, 19, 200, 1].into();
    rig.serve(&endpoint).await;
    let mut new = sandbox.visit();
    assert_eq!(new.greeting, "second 198.19.200.1");
    new.echo("new");
    old.echo("old");

    // A further mapping leaves both alone, and so does one that goes.
    endpoint.generation = 3;
    endpoint.ports.push(mapping(9090, SERVER_PORT));
    rig.serve(&endpoint).await;
    assert!(sandbox.connect(9090).is_ok());
    new.echo("still");
    old.echo("still");
    endpoint.generation = 4;
    endpoint.ports.remove(0);
    rig.serve(&endpoint).await;
    sandbox.assert_refused(8080);
    new.echo("still");
    old.echo("still");
    // They end with the endpoint, though their listener is long gone.
    rig.remove(endpoint.id).await;
    new.assert_reset();
    old.assert_reset();
    rig.gateway.stop(Close::Cut).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_lets_connections_end_before_the_address_goes() {
    let Some((sandbox, mut rig)) = served("a_drain_lets_connections_end_before_the_address_goes").await
    else {
        return;
    };
    let endpoint = spec();
    rig.serve(&endpoint).await;
    let mut visit = sandbox.visit();
    let remove = |drain_s| FeedEvent::Remove {
        id: endpoint.id,
        drain_s,
    };
    rig.send(remove(3_600)).await;
    eventually("the port to refuse", async || {
        sandbox.connect(CLIENT_PORT).is_err()
    })
    .await;
    visit.echo("still here");
    let address = format!("{ENDPOINT_IP}/32");
    assert!(sandbox.addresses(CONSUMER).await.contains(&address));
    drop(visit);
    rig.until_removed(endpoint.id).await;
    assert!(!sandbox.addresses(CONSUMER).await.contains(&address));

    // By the deadline whoever is left is cut.
    rig.serve(&endpoint).await;
    let visit = sandbox.visit();
    rig.send(remove(1)).await;
    visit.assert_reset();
    rig.until_removed(endpoint.id).await;

    // It may be told to come sooner, and never later.
    rig.serve(&endpoint).await;
    let visit = sandbox.visit();
    for drain_s in [3_600, 1, 3_600] {
        rig.send(remove(drain_s)).await;
    }
    visit.assert_reset();
    rig.until_removed(endpoint.id).await;
    rig.gateway.stop(Close::Cut).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_endpoint_drains_and_may_be_served_again_meanwhile() {
    let Some((sandbox, mut rig)) =
        served("a_rejected_endpoint_drains_and_may_be_served_again_meanwhile").await
    else {
        return;
    };
    let mut endpoint = spec();
    rig.serve(&endpoint).await;
    let mut old = sandbox.visit();
    let rejected = |endpoint: &EndpointSpec, drain_s| EndpointSpec {
        ports: Vec::new(),
        generation: endpoint.generation + 1,
        drain_s,
        ..endpoint.clone()
    };
    rig.serve(&rejected(&endpoint, 3_600)).await;
    sandbox.assert_refused(CLIENT_PORT);
    old.echo("still here");
    endpoint.generation += 2;
    rig.serve(&endpoint).await;
    let mut new = sandbox.visit();
    new.echo("again");
    old.echo("still here");
    // Rejected once more, this time for good.
    rig.serve(&rejected(&endpoint, 0)).await;
    old.assert_reset();
    new.assert_reset();
    rig.gateway.stop(Close::Cut).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_drains_and_may_be_hurried() {
    let Some((sandbox, mut rig)) = served("a_stop_drains_and_may_be_hurried").await else {
        return;
    };
    rig.serve(&spec()).await;
    let mut visit = sandbox.visit();
    let gateway = rig.gateway.clone();
    let forever = Close::Drain {
        within: std::time::Duration::MAX,
    };
    let stopping = tokio::spawn(async move { gateway.stop(forever).await });
    eventually("the port to refuse", async || {
        sandbox.connect(CLIENT_PORT).is_err()
    })
    .await;
    visit.echo("still here");
    assert!(!stopping.is_finished());
    rig.gateway.cut().await;
    visit.assert_reset();
    stopping.await.unwrap();
    assert_eq!(sandbox.addresses(CONSUMER).await, [ROUTER]);
}
