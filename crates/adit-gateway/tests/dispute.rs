//! Whose address it is: two gateways, on machines of their own, that share a VPC's link.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking, also in what its tests share"
)]

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use adit_gateway::{Contact, OnControlLoss};
use adit_model::feed::{EndpointReport, EndpointSpec, FeedEvent};
use adit_netns::{Arp, Elsewhere, Links};
use adit_relay::Close;
use tokio::time::Instant;

mod vpcs;
use vpcs::*;

/// The second machine's parts of the VPCs.
const CONSUMER_2: &str = "consumer-2";
const PROVIDER_2: &str = "provider-2";
const BACKEND_2: &str = "backend-2";
/// The routers' hardware addresses.
const FIRST: [u8; 6] = [2, 0xad, 0, 0, 0, 1];
const SECOND: [u8; 6] = [2, 0xad, 0, 0, 0, 2];

/// Both machines; each has a backend of its own, so that it is seen who serves.
async fn machines(test: &str) -> Option<Sandbox> {
    let sandbox = Sandbox::new(test)?;
    sandbox.both().await;
    sandbox.router(CONSUMER_2, 2).await;
    sandbox.join(CONSUMER, CONSUMER_2).await;
    sandbox.vpc(PROVIDER_2).await;
    sandbox.port(PROVIDER_2, BACKEND_2, BACKEND_IP).await;
    sandbox.serve("one", SERVER_PORT);
    sandbox.serve_at(BACKEND_2, "two", SERVER_PORT);
    Some(sandbox)
}

/// The endpoint, on the second machine.
fn elsewhere(spec: &EndpointSpec) -> EndpointSpec {
    let mut spec = spec.clone();
    spec.consumer.namespace = CONSUMER_2.into();
    spec.provider.namespace = PROVIDER_2.into();
    spec
}

async fn arp(sandbox: &Sandbox, namespace: &str, link: &str) -> Arp {
    let links = Links::open(&sandbox.open(namespace)).await.unwrap();
    links.arp(link).await.unwrap()
}

async fn has_address(sandbox: &Sandbox, vpc: &str, ip: Ipv4Addr) -> bool {
    sandbox.addresses(vpc).await.contains(&format!("{ip}/32"))
}

/// A gateway with a contact that the test has in hand.
async fn alone(sandbox: &Sandbox, on_control_loss: OnControlLoss) -> (Rig, Arc<Contact>) {
    let contact = Arc::new(Contact::none());
    let given = Arc::clone(&contact);
    let rig = Rig::start_with(sandbox, |config| {
        config.contact = given;
        config.on_control_loss = on_control_loss;
    });
    (rig.await, contact)
}

fn comes(contact: &Contact) {
    contact.fed();
    contact.answered(Instant::now());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_contact_an_address_is_left_to_whoever_announces_it() {
    let Some(sandbox) = machines("without_contact_an_address_is_left_to_whoever_announces_it").await else {
        return;
    };
    let (mut one, contact) = alone(&sandbox, OnControlLoss::Hold).await;
    let mut two = Rig::start(&sandbox).await;
    let spec = spec();
    one.serve(&spec).await;
    let open = sandbox.visit();
    assert_eq!(open.greeting, format!("one {SOURCE}"));

    // The other one has the control plane's word.
    two.serve(&elsewhere(&spec)).await;
    let reason = one.until_waiting(&spec).await;
    assert!(
        reason.contains("another station's, 02:ad:00:00:00:02"),
        "{reason}"
    );
    assert!(!has_address(&sandbox, CONSUMER, ENDPOINT_IP).await);
    open.assert_reset();
    assert_eq!(sandbox.visit().greeting, format!("two {SOURCE}"));

    // Once a control plane says that it is the first one's, it is.
    two.remove(spec.id).await;
    comes(&contact);
    one.until_listening(&spec).await;
    assert_eq!(sandbox.visit().greeting, format!("one {SOURCE}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn in_contact_it_is_asked_whose_address_it_is_and_defended_once() {
    let Some(sandbox) = machines("in_contact_it_is_asked_whose_address_it_is_and_defended_once").await else {
        return;
    };
    let mut one = Rig::start(&sandbox).await;
    let spec = spec();
    one.serve(&spec).await;
    let mut open = sandbox.visit();
    let client = arp(&sandbox, CLIENT, "eth0").await;
    let stranger = arp(&sandbox, CONSUMER_2, "s0").await;
    let announced = |ip, mac| Elsewhere { ip, mac };

    stranger.announce(ENDPOINT_IP).unwrap();
    assert_eq!(client.hear().await.unwrap(), announced(ENDPOINT_IP, SECOND));
    let by = "02:ad:00:00:00:02".to_owned();
    let contested = EndpointReport::Contested { by };
    one.until(spec.id, "a question", |status| *status == contested)
        .await;
    // It is ours: the neighbours hear that, once.
    one.send(FeedEvent::Defend { id: spec.id }).await;
    assert_eq!(client.hear().await.unwrap(), announced(ENDPOINT_IP, FIRST));
    one.send(FeedEvent::Defend { id: spec.id }).await;
    let mut other = vpcs::spec();
    other.consumer.ingress = at([10, 0, 0, 77].into());
    one.serve(&other).await;
    assert_eq!(
        client.hear().await.unwrap(),
        announced([10, 0, 0, 77].into(), FIRST)
    );
    open.echo("it goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_contact_an_address_that_somebody_has_is_not_taken() {
    let Some(sandbox) = machines("without_contact_an_address_that_somebody_has_is_not_taken").await else {
        return;
    };
    let somebody = Links::open(&sandbox.open(CONSUMER_2)).await.unwrap();
    let address = format!("{ENDPOINT_IP}/32").parse().unwrap();
    somebody.address_add("s0", address, None).await.unwrap();
    let (mut one, contact) = alone(&sandbox, OnControlLoss::Hold).await;
    let spec = spec();
    one.put(&spec).await;
    let reason = one.until_waiting(&spec).await;
    assert!(
        reason.contains("another station's, 02:ad:00:00:00:02"),
        "{reason}"
    );
    assert!(!has_address(&sandbox, CONSUMER, ENDPOINT_IP).await);
    // With the control plane's word it is taken, and whoever has it hears of that.
    let stranger = arp(&sandbox, CONSUMER_2, "s0").await;
    comes(&contact);
    one.until_listening(&spec).await;
    let heard = Elsewhere {
        ip: ENDPOINT_IP,
        mac: FIRST,
    };
    assert_eq!(stranger.hear().await.unwrap(), heard);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_more_ours_by_the_first_word_is_never_announced() {
    let Some(sandbox) = machines("what_is_no_more_ours_by_the_first_word_is_never_announced").await else {
        return;
    };
    let spec = spec();
    let mut two = Rig::start(&sandbox).await;
    two.serve(&elsewhere(&spec)).await;
    let mut open = sandbox.visit();
    let client = arp(&sandbox, CLIENT, "eth0").await;
    // As a gateway that comes again: it has served the endpoint once, and hears that it is another's now. Which step of its
    // work that comes between is chance.
    for _ in 0..20 {
        let (mut one, contact) = alone(&sandbox, OnControlLoss::Hold).await;
        one.put(&spec).await;
        one.send(FeedEvent::Remove {
            id: spec.id,
            drain_s: 0,
        })
        .await;
        comes(&contact);
        one.until_removed(spec.id).await;
        one.gateway.stop(Close::Cut).await;
    }
    let mut one = Rig::start(&sandbox).await;
    let mut other = vpcs::spec();
    other.consumer.ingress = at([10, 0, 0, 77].into());
    one.serve(&other).await;
    let heard = client.hear().await.unwrap();
    assert_eq!((heard.ip, heard.mac), ([10, 0, 0, 77].into(), FIRST));
    open.echo("nobody has noticed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fenced_gateway_serves_nothing_without_contact() {
    let Some(sandbox) = machines("a_fenced_gateway_serves_nothing_without_contact").await else {
        return;
    };
    let (mut one, contact) = alone(&sandbox, OnControlLoss::Fence).await;
    let spec = spec();
    one.put(&spec).await;
    let reason = one.until_waiting(&spec).await;
    assert!(reason.contains("no control plane answers"), "{reason}");
    assert!(!has_address(&sandbox, CONSUMER, ENDPOINT_IP).await);
    for _ in 0..2 {
        comes(&contact);
        one.until_listening(&spec).await;
        let open = sandbox.visit();
        // Nobody says anything more: what was said last counts for a while, and then no more.
        one.until_waiting(&spec).await;
        open.assert_reset();
        assert!(!has_address(&sandbox, CONSUMER, ENDPOINT_IP).await);
    }
}

/// A gateway that stops, and has its connections drain; it ends with them.
fn stopping(rig: &Rig) -> tokio::task::JoinHandle<()> {
    let gateway = Arc::clone(&rig.gateway);
    let forever = Close::Drain {
        within: Duration::MAX,
    };
    tokio::spawn(async move { gateway.stop(forever).await })
}

#[tokio::test(flavor = "multi_thread")]
async fn what_drains_at_the_end_keeps_its_address_until_another_announces_it() {
    let test = "what_drains_at_the_end_keeps_its_address_until_another_announces_it";
    let Some(sandbox) = machines(test).await else {
        return;
    };
    const LIFE: Duration = Duration::from_secs(1);
    let mut one = Rig::start_with(&sandbox, |config| {
        config.contact = Arc::new(Contact::none());
        config.address_life_s = Some(1);
    })
    .await;
    let mut two = Rig::start(&sandbox).await;
    let (spec, mut other) = (spec(), vpcs::spec());
    other.consumer.ingress = at([10, 0, 0, 77].into());
    one.serve(&spec).await;
    one.serve(&other).await;
    let mut open = sandbox.visit();
    let stopping = stopping(&one);
    eventually("the port to refuse", async || {
        sandbox.connect(CLIENT_PORT).is_err()
    })
    .await;
    let since = Instant::now();
    eventually("its life to be over, were it not renewed", async || {
        since.elapsed() > 2 * LIFE
    })
    .await;
    open.echo("still here");
    assert!(has_address(&sandbox, CONSUMER, ENDPOINT_IP).await);
    // Another gateway has the control plane's word.
    two.serve(&elsewhere(&spec)).await;
    open.assert_reset();
    stopping.await.unwrap();
    assert!(!has_address(&sandbox, CONSUMER, ENDPOINT_IP).await);
    assert_eq!(sandbox.visit().greeting, format!("two {SOURCE}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fenced_gateway_cuts_what_drains_at_the_end_once_it_has_no_contact() {
    let test = "a_fenced_gateway_cuts_what_drains_at_the_end_once_it_has_no_contact";
    let Some(sandbox) = machines(test).await else {
        return;
    };
    let (mut one, contact) = alone(&sandbox, OnControlLoss::Fence).await;
    comes(&contact);
    one.serve(&spec()).await;
    let open = sandbox.visit();
    let stopping = stopping(&one);
    contact.lost();
    open.assert_reset();
    stopping.await.unwrap();
    assert!(!has_address(&sandbox, CONSUMER, ENDPOINT_IP).await);
}
