//! Several gateways on one feed: who is told what, and when.

use std::sync::Arc;

use adit_model::{
    feed::{ConsumerLeg, FeedEvent, Ingress, ProviderLeg},
    id::{MarkerId, ServiceId},
    proxy::ProxyHeader,
    service::TcpProxy,
};
use uuid::Uuid;

use super::*;

fn name(text: &str) -> NodeName {
    text.parse().unwrap()
}

fn id(n: u128) -> EndpointId {
    EndpointId(Uuid::from_u128(n))
}

fn spec(n: u128, generation: u64) -> EndpointSpec {
    EndpointSpec {
        id: id(n),
        generation,
        service: ServiceId(Uuid::from_u128(1)),
        marker: MarkerId::from_random(7),
        consumer: ConsumerLeg {
            namespace: "consumer".to_owned(),
            vni: None,
            ingress: Ingress::Address {
                ip: [10, 0, 0, 1].into(),
                subnet: "10.0.0.0/24".parse().unwrap(),
            },
        },
        provider: ProviderLeg {
            namespace: "provider".to_owned(),
            source: [198, 19, 128, 1].into(),
            backend: None,
            more_backends: Box::default(),
        },
        ports: Vec::new(),
        tcp_proxy: TcpProxy::Close,
        proxy: ProxyHeader::default(),
        // What makes two generations differ.
        connections_max: u32::try_from(generation).unwrap(),
        new_per_second_max: None,
        drain_s: 0,
        allowed: None,
    }
}

/// A placement of everything on these gateways.
fn on(names: &[&str]) -> Arc<Placement> {
    let live = names.iter().map(|text| name(text)).collect();
    Arc::new(Placement::default().next(&live).unwrap())
}

fn moved_to(former: &Placement, names: &[&str]) -> Arc<Placement> {
    let live = names.iter().map(|text| name(text)).collect();
    Arc::new(former.next(&live).unwrap())
}

fn listening(n: u128, generation: u64) -> Report {
    Report {
        id: id(n),
        status: EndpointReport::Listening { generation },
    }
}

/// Everything that there is to hear.
fn heard(subscription: &mut Subscription) -> Vec<FeedEvent> {
    let mut events = Vec::new();
    while let Some(Some((_, event))) = subscription.look() {
        events.push(event);
    }
    events
}

fn put(n: u128, generation: u64) -> FeedEvent {
    FeedEvent::Put {
        endpoint: spec(n, generation),
    }
}

fn removal(n: u128) -> FeedEvent {
    FeedEvent::Remove {
        id: id(n),
        drain_s: 0,
    }
}

#[test]
fn nobody_is_told_anything_before_everything_is_known() {
    let feed = Arc::new(Feed::new());
    let mut here = feed.subscribe_alone(name("here"));
    assert_eq!(heard(&mut here), []);
    feed.open([spec(1, 1), spec(2, 1)], &[], None);
    let [FeedEvent::Snapshot { endpoints }] = &heard(&mut here)[..] else {
        panic!("one snapshot");
    };
    assert_eq!(endpoints.len(), 2);
    feed.close();
    assert!(here.look().is_none());
    assert!(!feed.is_silent(id(1)), "it is not known any more");
}

#[test]
fn what_waits_for_a_slow_gateway_is_the_last_word_on_each_endpoint() {
    let feed = Arc::new(Feed::new());
    let mut here = feed.subscribe_alone(name("here"));
    feed.open([], &[], None);
    heard(&mut here);
    for generation in 1..50 {
        feed.put(spec(1, generation));
    }
    feed.put(spec(2, 1));
    feed.put(spec(2, 1));
    assert!(!feed.remove(id(1), 0));
    assert_eq!(heard(&mut here), [put(2, 1), removal(1)]);
}

#[test]
fn a_moved_endpoint_is_let_go_of_once_its_new_gateway_listens() {
    let feed = Arc::new(Feed::new());
    let placed = on(&["one"]);
    feed.open([spec(1, 1)], &[], Some(Arc::clone(&placed)));
    let mut one = feed.subscribe(name("one"), None);
    let mut two = feed.subscribe(name("two"), None);
    heard(&mut one);
    heard(&mut two);
    feed.report(&name("one"), listening(1, 1));
    assert_eq!(feed.serving(id(1)), Serving::Yes);
    feed.place(moved_to(&placed, &["two"]));
    assert_eq!((heard(&mut one), heard(&mut two)), (vec![], vec![put(1, 1)]));
    assert_eq!(feed.serving(id(1)), Serving::NotYet(None));
    feed.report(&name("two"), listening(1, 1));
    feed.let_go(Duration::from_secs(3600));
    assert_eq!(
        (heard(&mut one), heard(&mut two)),
        (vec![], vec![]),
        "both serve while neighbours hear of it"
    );
    feed.let_go(Duration::ZERO);
    assert_eq!((heard(&mut one), heard(&mut two)), (vec![removal(1)], vec![]));
    assert!(
        !feed.follows(id(1), Some(&spec(1, 1))),
        "the former one has it yet"
    );
    let removed = Report {
        id: id(1),
        status: EndpointReport::Removed,
    };
    feed.report(&name("one"), removed);
    assert!(feed.follows(id(1), Some(&spec(1, 1))));
    assert_eq!(
        (heard(&mut one), heard(&mut two)),
        (vec![], vec![FeedEvent::Defend { id: id(1) }]),
        "who has asked meanwhile hears once more where it is"
    );
}

#[test]
fn what_is_changed_while_two_serve_it_is_served_by_its_owner_alone() {
    let feed = Arc::new(Feed::new());
    let placed = on(&["one"]);
    feed.open([spec(1, 1)], &[], Some(Arc::clone(&placed)));
    let mut one = feed.subscribe(name("one"), None);
    let mut two = feed.subscribe(name("two"), None);
    heard(&mut one);
    feed.report(&name("one"), listening(1, 1));
    feed.place(moved_to(&placed, &["two"]));
    heard(&mut two);
    feed.report(&name("two"), listening(1, 1));
    feed.put(spec(1, 2));
    assert_eq!((heard(&mut one), heard(&mut two)), (vec![], vec![put(1, 2)]));
    feed.report(&name("two"), listening(1, 2));
    assert_eq!((heard(&mut one), heard(&mut two)), (vec![removal(1)], vec![]));
}

#[test]
fn what_moves_back_while_two_serve_it_is_left_by_the_other() {
    let feed = Arc::new(Feed::new());
    let placed = on(&["one"]);
    feed.open([spec(1, 1)], &[], Some(Arc::clone(&placed)));
    let mut one = feed.subscribe(name("one"), None);
    let mut two = feed.subscribe(name("two"), None);
    heard(&mut one);
    feed.report(&name("one"), listening(1, 1));
    let there = moved_to(&placed, &["two"]);
    feed.place(Arc::clone(&there));
    heard(&mut two);
    feed.report(&name("two"), listening(1, 1));
    feed.place(moved_to(&there, &["one"]));
    feed.let_go(Duration::ZERO);
    assert_eq!((heard(&mut one), heard(&mut two)), (vec![], vec![removal(1)]));
}

#[test]
fn a_contested_address_is_defended_by_its_owner_alone() {
    let feed = Arc::new(Feed::new());
    let placed = on(&["one"]);
    feed.open([spec(1, 1)], &[], Some(Arc::clone(&placed)));
    let mut one = feed.subscribe(name("one"), None);
    let mut two = feed.subscribe(name("two"), None);
    heard(&mut one);
    heard(&mut two);
    let contested = || Report {
        id: id(1),
        status: EndpointReport::Contested {
            by: "02:ad:00:00:00:02".to_owned(),
        },
    };
    for _ in 0..2 {
        feed.report(&name("one"), contested());
    }
    assert_eq!(heard(&mut one), [FeedEvent::Defend { id: id(1) }]);
    // The next owner is about to listen: the former is told nothing, until it is to let go.
    feed.place(moved_to(&placed, &["two"]));
    feed.report(&name("one"), contested());
    assert_eq!((heard(&mut one), heard(&mut two)), (vec![], vec![put(1, 1)]));
}

#[test]
fn what_is_leaving_is_asked_for_after_a_change_of_leaders() {
    let feed = Arc::new(Feed::new());
    feed.open([], &[id(1)], Some(on(&["one"])));
    assert!(
        !feed.remove(id(1), 0),
        "the gateway that is waited for may serve it"
    );
    let mut one = feed.subscribe(name("one"), None);
    assert_eq!(
        heard(&mut one),
        [FeedEvent::Snapshot { endpoints: vec![] }, removal(1)]
    );
    let removed = Report {
        id: id(1),
        status: EndpointReport::Removed,
    };
    feed.report(&name("one"), removed);
    assert!(feed.remove(id(1), 0));
}

#[tokio::test]
async fn a_silent_gateway_has_let_go_of_everything() {
    let feed = Arc::new(Feed::new());
    feed.open([spec(1, 1)], &[], Some(on(&["one"])));
    let mut one = feed.subscribe(name("one"), None);
    heard(&mut one);
    assert!(!feed.remove(id(1), 0));
    assert_eq!(feed.expire(Duration::MAX).len(), 1);
    assert!(feed.expire(Duration::ZERO).is_empty());
    assert!(feed.remove(id(1), 0));
    assert!(one.look().is_none());
    assert_eq!(feed.dirty().await, [id(1)].into());
}

#[test]
fn a_gateway_that_comes_again_goes_on_where_it_was() {
    let feed = Arc::new(Feed::new());
    feed.open([spec(1, 1)], &[], Some(on(&["one"])));
    let mut first = feed.subscribe(name("one"), None);
    let Some(Some((position, FeedEvent::Snapshot { .. }))) = first.look() else {
        panic!("a snapshot");
    };
    feed.report(&name("one"), listening(1, 1));
    feed.put(spec(2, 1));
    let mut second = feed.subscribe(name("one"), Some(position));
    assert!(first.look().is_none());
    assert!(second.resumes());
    assert_eq!(heard(&mut second), [put(2, 1)]);
    assert_eq!(feed.serving(id(1)), Serving::Yes, "it is the same gateway");
    let mut third = feed.subscribe(name("one"), None);
    assert!(matches!(&heard(&mut third)[..], [FeedEvent::Snapshot { endpoints }] if endpoints.len() == 2));
    assert_eq!(feed.serving(id(1)), Serving::NotYet(None), "it may be another");
}

#[test]
fn of_two_gateways_on_one_machine_the_former_lets_go_first() {
    let feed = Arc::new(Feed::new());
    let placed = on(&["one"]);
    feed.open([spec(1, 1)], &[], Some(Arc::clone(&placed)));
    let mut one = feed.subscribe(name("one"), None);
    let mut two = feed.subscribe(name("two"), None);
    for node in ["one", "two"] {
        let about = adit_model::node::Node {
            name: name(node),
            address: String::new(),
            version: String::new(),
            machine: "the same".to_owned(),
            load: adit_model::node::Load::default(),
            seen_at: adit_model::time::Timestamp::default(),
        };
        assert!(feed.heard(about));
    }
    heard(&mut one);
    heard(&mut two);
    feed.report(&name("one"), listening(1, 1));
    feed.place(moved_to(&placed, &["two"]));
    assert_eq!(
        (heard(&mut one), heard(&mut two)),
        (vec![removal(1)], vec![put(1, 1)])
    );
}
