//! Several gateways on one feed: who is told what, and when.

mod many;

use std::{sync::Arc, time::Duration};

use adit_model::{
    feed::{Capabilities, ConsumerLeg, FeedEvent, Ingress, Peer, ProviderLeg},
    id::{MarkerId, ServiceId},
    node::{Leg, Legs},
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
            namespace: "consumer".into(),
            vni: None,
            ingress: Ingress::Address {
                ip: [10, 0, 0, 1].into(),
                subnet: "10.0.0.0/24".parse().unwrap(),
            },
        },
        provider: ProviderLeg {
            namespace: "provider".into(),
            source: [198, 19, 128, 1].into(),
            slice: None,
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

fn names(all: &[&str]) -> BTreeSet<NodeName> {
    all.iter().map(|text| name(text)).collect()
}

/// A gateway comes, and says that it is there.
fn come(feed: &Arc<Feed>, text: &str, from: Option<FeedPosition>) -> Subscription {
    let subscription = feed.subscribe(name(text), from);
    assert!(says(feed, text, Capabilities::default(), None));
    subscription
}

/// A gateway says what it can do, and which VPCs it has.
fn says(feed: &Feed, text: &str, capabilities: Capabilities, legs: Option<Legs>) -> bool {
    let about = adit_model::node::Node {
        name: name(text),
        address: String::new(),
        version: String::new(),
        machine: text.to_owned(),
        load: adit_model::node::Load::default(),
        epoch: 0,
        seen_at: adit_model::time::Timestamp::from_unix_s(0),
    };
    feed.heard(about, capabilities, legs)
}

fn leg(vpc: &str, address: u8) -> Leg {
    Leg {
        vpc: vpc.to_owned(),
        addresses: vec![[10, 0, 0, address].into()],
    }
}

/// Just these legs.
fn all(here: Vec<Leg>) -> Option<Legs> {
    let (all, gone) = (true, Vec::new());
    Some(Legs { all, here, gone })
}

fn listening(n: u128, generation: u64) -> Report {
    Report {
        id: id(n),
        status: EndpointReport::Listening { generation },
    }
}

/// Everything that there is to hear, without the slices that are named.
fn heard(subscription: &mut Subscription) -> Vec<FeedEvent> {
    let mut events = Vec::new();
    while let Some(Some((_, mut event))) = subscription.look() {
        match &mut event {
            FeedEvent::Put { endpoint } => endpoint.provider.slice = None,
            FeedEvent::Snapshot { endpoints, .. } => {
                endpoints.iter_mut().for_each(|spec| spec.provider.slice = None);
            }
            _ => {}
        }
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
    feed.open([spec(1, 1), spec(2, 1)].into_iter().collect(), &[], None);
    let [FeedEvent::Snapshot { endpoints, .. }] = &heard(&mut here)[..] else {
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
    feed.open([].into_iter().collect(), &[], None);
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
    feed.open([spec(1, 1)].into_iter().collect(), &[], Some(Arc::clone(&placed)));
    let mut one = come(&feed, "one", None);
    let mut two = come(&feed, "two", None);
    heard(&mut one);
    heard(&mut two);
    feed.report(&name("one"), listening(1, 1));
    assert_eq!(feed.serving(id(1)), Serving::Yes);
    feed.place(moved_to(&placed, &["two"]), &names(&["two"]));
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
    assert_eq!(
        (heard(&mut one), heard(&mut two)),
        (vec![], vec![FeedEvent::Announce { id: id(1) }]),
        "it is said once more before the former one goes"
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
        (vec![], vec![FeedEvent::Announce { id: id(1) }]),
        "who has asked meanwhile hears once more where it is"
    );
}

#[test]
fn an_endpoint_that_moves_back_at_once_is_served_by_both_until_that_is_known() {
    let feed = Arc::new(Feed::new());
    let placed = on(&["one"]);
    feed.open([spec(1, 1)].into_iter().collect(), &[], Some(Arc::clone(&placed)));
    let mut one = come(&feed, "one", None);
    let mut two = come(&feed, "two", None);
    heard(&mut one);
    heard(&mut two);
    feed.report(&name("one"), listening(1, 1));
    let moved = moved_to(&placed, &["two"]);
    feed.place(Arc::clone(&moved), &names(&["two"]));
    heard(&mut two);
    feed.report(&name("two"), listening(1, 1));
    // Clients know it at the second one by now, which therefore does not go yet.
    feed.place(moved_to(&moved, &["one"]), &names(&["one"]));
    let announce = || vec![FeedEvent::Announce { id: id(1) }];
    assert_eq!((heard(&mut one), heard(&mut two)), (announce(), vec![]));
    assert_eq!(feed.serving(id(1)), Serving::Yes);
    feed.let_go(Duration::from_secs(3600));
    assert_eq!((heard(&mut one), heard(&mut two)), (vec![], vec![]));
    // What the second one was to be is over.
    feed.let_go(Duration::ZERO);
    assert_eq!((heard(&mut one), heard(&mut two)), (announce(), vec![]));
    feed.let_go(Duration::ZERO);
    assert_eq!((heard(&mut one), heard(&mut two)), (vec![], vec![removal(1)]));
}

#[test]
fn what_is_changed_while_two_serve_it_is_served_by_its_owner_alone() {
    let feed = Arc::new(Feed::new());
    let placed = on(&["one"]);
    feed.open([spec(1, 1)].into_iter().collect(), &[], Some(Arc::clone(&placed)));
    let mut one = come(&feed, "one", None);
    let mut two = come(&feed, "two", None);
    heard(&mut one);
    feed.report(&name("one"), listening(1, 1));
    feed.place(moved_to(&placed, &["two"]), &names(&["two"]));
    heard(&mut two);
    feed.report(&name("two"), listening(1, 1));
    feed.put(spec(1, 2));
    assert_eq!((heard(&mut one), heard(&mut two)), (vec![], vec![put(1, 2)]));
    feed.report(&name("two"), listening(1, 2));
    assert_eq!((heard(&mut one), heard(&mut two)), (vec![removal(1)], vec![]));
}

#[test]
fn a_contested_address_is_defended_by_its_owner_alone() {
    let feed = Arc::new(Feed::new());
    let placed = on(&["one"]);
    feed.open([spec(1, 1)].into_iter().collect(), &[], Some(Arc::clone(&placed)));
    let mut one = come(&feed, "one", None);
    let mut two = come(&feed, "two", None);
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
    feed.place(moved_to(&placed, &["two"]), &names(&["two"]));
    feed.report(&name("one"), contested());
    assert_eq!((heard(&mut one), heard(&mut two)), (vec![], vec![put(1, 1)]));
}

#[test]
fn what_is_leaving_is_asked_for_after_a_change_of_leaders() {
    let feed = Arc::new(Feed::new());
    feed.open([].into_iter().collect(), &[id(1)], Some(on(&["one"])));
    assert!(
        !feed.remove(id(1), 0),
        "the gateway that is waited for may serve it"
    );
    let mut one = come(&feed, "one", None);
    assert_eq!(heard(&mut one), [snapshot(&[]), removal(1)]);
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
    feed.open([spec(1, 1)].into_iter().collect(), &[], Some(on(&["one"])));
    let mut one = come(&feed, "one", None);
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
    feed.open([spec(1, 1)].into_iter().collect(), &[], Some(on(&["one"])));
    let mut first = come(&feed, "one", None);
    let Some(Some((position, FeedEvent::Snapshot { .. }))) = first.look() else {
        panic!("a snapshot");
    };
    feed.report(&name("one"), listening(1, 1));
    feed.put(spec(2, 1));
    let mut second = come(&feed, "one", Some(position));
    assert!(first.look().is_none());
    assert!(second.resumes());
    assert_eq!(heard(&mut second), [put(2, 1)]);
    assert_eq!(feed.serving(id(1)), Serving::Yes, "it is the same gateway");
    let mut third = come(&feed, "one", None);
    assert!(
        matches!(&heard(&mut third)[..], [FeedEvent::Snapshot { endpoints, .. }] if endpoints.len() == 2)
    );
    assert_eq!(feed.serving(id(1)), Serving::NotYet(None), "it may be another");
}

#[test]
fn of_two_processes_of_one_name_the_newer_one_keeps_it() {
    let feed = Arc::new(Feed::new());
    feed.open([spec(1, 1)].into_iter().collect(), &[], Some(on(&["one"])));
    let [first, second, third] = [1, 2, 3].map(Uuid::from_u128);
    let one = name("one");
    assert_eq!(feed.admit(&one, first), Ok(()));
    let _here = come(&feed, "one", None);
    assert_eq!(feed.admit(&one, first), Ok(()), "it comes again");
    // Started anew, or taken over from.
    assert_eq!(feed.admit(&one, second), Ok(()));
    assert!(feed.admit(&one, first).is_err());
    assert_eq!(feed.admit(&one, second), Ok(()));
    assert_eq!(feed.admit(&one, third), Ok(()));
    assert!(feed.admit(&one, first).is_err() && feed.admit(&one, second).is_err());
    feed.expire(Duration::MAX);
    assert!(feed.admit(&one, first).is_err());
    feed.expire(Duration::ZERO);
    assert_eq!(feed.admit(&one, first), Ok(()), "the other has gone");
}

#[test]
fn of_two_gateways_on_one_machine_the_former_lets_go_first() {
    let feed = Arc::new(Feed::new());
    let placed = on(&["one"]);
    feed.open([spec(1, 1)].into_iter().collect(), &[], Some(Arc::clone(&placed)));
    let mut one = come(&feed, "one", None);
    let mut two = come(&feed, "two", None);
    for node in ["one", "two"] {
        let about = adit_model::node::Node {
            name: name(node),
            address: String::new(),
            version: String::new(),
            machine: "the same".to_owned(),
            load: adit_model::node::Load::default(),
            epoch: 0,
            seen_at: adit_model::time::Timestamp::default(),
        };
        assert!(feed.heard(about, Capabilities::default(), None));
    }
    heard(&mut one);
    heard(&mut two);
    feed.report(&name("one"), listening(1, 1));
    feed.place(moved_to(&placed, &["two"]), &names(&["two"]));
    assert_eq!(
        (heard(&mut one), heard(&mut two)),
        (vec![removal(1)], vec![put(1, 1)])
    );
}

fn snapshot(ids: &[u128]) -> FeedEvent {
    FeedEvent::Snapshot {
        endpoints: ids.iter().map(|n| spec(*n, 1)).collect(),
        more: false,
    }
}

#[test]
fn an_endpoint_is_on_a_gateway_that_has_both_its_vpcs() {
    let feed = Arc::new(Feed::new());
    // Nobody has an address there that others could reach.
    let leg = |vpc: &str| Leg {
        vpc: vpc.to_owned(),
        addresses: vec![],
    };
    let both = || vec![leg("consumer"), leg("provider")];
    feed.open([spec(1, 1)].into_iter().collect(), &[], Some(on(&["one"])));
    feed.place(on(&["one"]), &names(&["one", "two", "three"]));
    let mut one = feed.subscribe(name("one"), None);
    assert_eq!(heard(&mut one), [], "it has not said what it has");
    assert!(says(
        &feed,
        "one",
        Capabilities::default(),
        all(vec![leg("consumer")])
    ));
    let first = heard(&mut one);
    assert_eq!(
        first,
        [snapshot(&[1])],
        "its shard's gateway, as long as nobody has both"
    );
    let serving = feed.serving(id(1));
    assert_eq!(
        serving,
        Serving::NotYet(Some("no gateway (one) has VPC provider".to_owned()))
    );
    let mut two = feed.subscribe(name("two"), None);
    assert!(says(&feed, "two", Capabilities::default(), all(both())));
    assert_eq!(heard(&mut two), [snapshot(&[1])]);
    feed.report(&name("two"), listening(1, 1));
    feed.let_go(Duration::ZERO);
    feed.let_go(Duration::ZERO);
    assert_eq!(heard(&mut one), [removal(1)]);
    // Its shard's gateway gets the VPC, and with that the endpoint.
    let more = Legs {
        all: false,
        here: vec![leg("provider")],
        gone: vec![],
    };
    assert!(says(&feed, "one", Capabilities::default(), Some(more)));
    assert_eq!(heard(&mut one)[..1], [put(1, 1)]);
    // And loses it again.
    let less = Legs {
        all: false,
        here: vec![],
        gone: vec!["consumer".to_owned()],
    };
    assert!(says(&feed, "one", Capabilities::default(), Some(less)));
    assert_eq!(
        feed.serving(id(1)),
        Serving::Yes,
        "the other has not let go of it"
    );
}

#[test]
fn an_endpoint_stays_where_it_is_when_all_gateways_lose_its_vpc() {
    let feed = Arc::new(Feed::new());
    let legs = || {
        let leg = |vpc: &str| Leg {
            vpc: vpc.to_owned(),
            addresses: vec![],
        };
        all(vec![leg("consumer"), leg("provider")])
    };
    let loses = |name: &str| {
        let less = Legs {
            all: false,
            here: vec![],
            gone: vec!["consumer".to_owned()],
        };
        says(&feed, name, Capabilities::default(), Some(less))
    };
    feed.open([spec(1, 1)].into_iter().collect(), &[], Some(on(&["one"])));
    feed.place(on(&["one"]), &names(&["one", "two"]));
    let (mut one, mut two) = (
        feed.subscribe(name("one"), None),
        feed.subscribe(name("two"), None),
    );
    for gateway in ["one", "two"] {
        assert!(says(&feed, gateway, Capabilities::default(), legs()));
    }
    assert_eq!(
        (heard(&mut one), heard(&mut two)),
        (vec![snapshot(&[1])], vec![snapshot(&[])])
    );
    // Its shard's gateway first, then the one that got it, which keeps it.
    assert!(loses("one"));
    assert_eq!(heard(&mut two), [put(1, 1)]);
    feed.report(&name("two"), listening(1, 1));
    assert!(loses("two"));
    assert_eq!((heard(&mut one), heard(&mut two)), (vec![], vec![]));
    assert_eq!(feed.serving(id(1)), Serving::Yes);
}

#[test]
fn an_endpoint_is_on_a_gateway_that_can_serve_its_mode() {
    let feed = Arc::new(Feed::new());
    let mut wanted = spec(1, 1);
    wanted.tcp_proxy = TcpProxy::ToaOpen;
    feed.open([wanted].into_iter().collect(), &[], Some(on(&["one"])));
    feed.place(on(&["one"]), &names(&["one", "two"]));
    let can = |tcp_proxy: &[TcpProxy]| Capabilities {
        tcp_proxy: tcp_proxy.to_vec(),
        missing: vec![],
    };
    let mut one = feed.subscribe(name("one"), None);
    assert!(says(&feed, "one", can(&[TcpProxy::Close]), None));
    heard(&mut one);
    let lack = "no gateway (one) can serve tcp_proxy toa_open".to_owned();
    assert_eq!(feed.serving(id(1)), Serving::NotYet(Some(lack)));
    assert!(feed.lacks_mode(TcpProxy::ToaOpen).is_some() && feed.lacks_mode(TcpProxy::Close).is_none());
    let mut two = feed.subscribe(name("two"), None);
    assert!(says(
        &feed,
        "two",
        can(&[TcpProxy::Close, TcpProxy::ToaOpen]),
        None
    ));
    assert!(matches!(&heard(&mut two)[..], [FeedEvent::Snapshot { endpoints, .. }] if endpoints.len() == 1));
    assert_eq!(feed.lacks_mode(TcpProxy::ToaOpen), None);
}

#[test]
fn gateways_in_one_vpc_know_where_the_others_sources_are() {
    let feed = Arc::new(Feed::new());
    let placed = on(&["one", "two"]);
    feed.open([].into_iter().collect(), &[], Some(Arc::clone(&placed)));
    let [mut one, mut two] = ["one", "two"].map(|text| feed.subscribe(name(text), None));
    assert!(says(
        &feed,
        "one",
        Capabilities::default(),
        all(vec![leg("shared", 1), leg("own", 1)])
    ));
    assert!(says(
        &feed,
        "two",
        Capabilities::default(),
        all(vec![leg("shared", 2)])
    ));
    let peers = |of: &str, address: u8| FeedEvent::Peers {
        vpc: "shared".to_owned(),
        peers: vec![Peer {
            slice: placed.slice(&name(of)).unwrap(),
            addresses: vec![[10, 0, 0, address].into()],
        }],
    };
    assert_eq!(heard(&mut one), [snapshot(&[]), peers("two", 2)]);
    assert_eq!(heard(&mut two), [snapshot(&[]), peers("one", 1)]);
    let moved = Legs {
        all: false,
        here: vec![leg("shared", 3)],
        gone: vec![],
    };
    assert!(says(&feed, "two", Capabilities::default(), Some(moved.clone())));
    assert!(says(&feed, "two", Capabilities::default(), Some(moved)));
    assert_eq!(
        (heard(&mut one), heard(&mut two)),
        (vec![peers("two", 3)], vec![])
    );
}
