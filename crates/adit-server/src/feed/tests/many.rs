//! So many endpoints that gateways are told of them in pieces, and that it is not looked at all of them again.

use adit_model::feed::Pieces;
use proptest::prelude::*;

use super::*;

/// More than are looked at at once.
const MANY: u128 = 3000;

fn many() -> impl Iterator<Item = EndpointSpec> {
    (1..=MANY).map(|n| spec(n, 1))
}

/// All that waits is looked at.
async fn settled(feed: &Feed) {
    tokio::select! {
        () = feed.keep_settled() => unreachable!("it goes on"),
        () = async {
            while !feed.inner.lock().unsettled.is_empty() {
                tokio::task::yield_now().await;
            }
        } => {}
    }
}

#[tokio::test]
async fn a_snapshot_waits_until_everything_is_known_and_comes_in_pieces() {
    let feed = Arc::new(Feed::new());
    feed.open(many().collect(), &[id(MANY + 1)], Some(on(&["one"])));
    let mut one = come(&feed, "one", None);
    assert!(one.look().unwrap().is_none(), "it would end what is not in it");
    settled(&feed).await;
    let mut pieces = Pieces::default();
    let mut count = 0;
    let (position, whole) = loop {
        let (position, event) = one.look().unwrap().unwrap();
        count += 1;
        match pieces.join(event) {
            Some(whole) => break (position, whole),
            // Whoever is cut off here gets everything again, also what was.
            None => assert_eq!(position, FeedPosition::NOWHERE),
        }
    };
    assert!(count > 1);
    assert_ne!(position, FeedPosition::NOWHERE);
    let FeedEvent::Snapshot {
        endpoints,
        more: false,
    } = whole
    else {
        panic!("a snapshot");
    };
    let told: BTreeSet<_> = endpoints.iter().map(|spec| spec.id).collect();
    assert_eq!(told, many().map(|spec| spec.id).collect());
    assert_eq!(endpoints.len(), told.len());
    assert_eq!(heard(&mut one), [removal(MANY + 1)]);
    let again = feed.subscribe(name("one"), Some(FeedPosition::NOWHERE));
    assert!(!again.resumes());
}

#[tokio::test]
async fn what_ends_before_it_was_looked_at_is_ended_where_it_is() {
    let feed = Arc::new(Feed::new());
    feed.open(many().collect(), &[], Some(on(&["one"])));
    let waits = |feed: &Feed| {
        let inner = feed.inner.lock();
        many().map(|spec| spec.id).find(|id| inner.unsettled.has(*id))
    };
    let waiting = waits(&feed).expect("it is not looked at so many at once");
    assert!(!feed.is_silent(waiting) && !feed.follows(waiting, None));
    assert!(
        !feed.remove(waiting, 0),
        "the gateway that is waited for may serve it"
    );
    let _one = come(&feed, "one", None);
    settled(&feed).await;
    let removed = Report {
        id: waiting,
        status: EndpointReport::Removed,
    };
    feed.report(&name("one"), removed);
    assert!(feed.remove(waiting, 0));
}

/// Something that has to do with who serves what.
#[derive(Clone, Debug)]
enum Turn {
    Comes(u8),
    Goes,
    /// A gateway has these VPCs of three.
    Has(u8, u8, bool),
    /// A gateway can serve one mode, or both.
    Can(u8, bool),
    /// These gateways stay, of five.
    Stay(u8),
    Listens(u8),
}

fn turn() -> impl Strategy<Value = Turn> {
    prop_oneof![
        (0..5_u8).prop_map(Turn::Comes),
        Just(Turn::Goes),
        (0..5_u8, 0..8_u8, any::<bool>()).prop_map(|(n, vpcs, all)| Turn::Has(n, vpcs, all)),
        (0..5_u8, any::<bool>()).prop_map(|(n, both)| Turn::Can(n, both)),
        (1..32_u8).prop_map(Turn::Stay),
        (0..5_u8).prop_map(Turn::Listens),
    ]
}

fn gateway(n: u8) -> String {
    format!("gateway-{n}")
}

fn vpc(n: u8) -> String {
    format!("vpc-{n}")
}

/// Endpoints between any two of three VPCs, in two modes.
fn mixed() -> Vec<EndpointSpec> {
    let mixed = (0..60_u8).map(|n| {
        let mut spec = spec(u128::from(n) + 1, 1);
        spec.consumer.namespace = vpc(n % 3).into();
        spec.provider.namespace = vpc(n / 3 % 3).into();
        spec.tcp_proxy = if n.is_multiple_of(2) {
            TcpProxy::Close
        } else {
            TcpProxy::ToaOpen
        };
        spec
    });
    mixed.collect()
}

fn stay(feed: &Feed, placement: &mut Arc<Placement>, live: &BTreeSet<NodeName>) {
    if let Some(next) = placement.next(live) {
        *placement = Arc::new(next);
    }
    feed.place(Arc::clone(placement), live);
}

/// Has a turn happen, as far as it can.
fn take(feed: &Arc<Feed>, placement: &mut Arc<Placement>, turn: &Turn) {
    let modes = |both| Capabilities {
        tcp_proxy: if both { vec![] } else { vec![TcpProxy::Close] },
        missing: vec![],
    };
    match turn {
        Turn::Comes(n) => drop(feed.subscribe(name(&gateway(*n)), None)),
        // Who is silent is placed anew at once.
        Turn::Goes => stay(feed, placement, &feed.expire(Duration::ZERO)),
        Turn::Has(n, vpcs, all) => {
            let has = |at: &u8| vpcs & (1 << at) != 0;
            let legs = Legs {
                all: *all,
                here: (0..3).filter(has).map(|at| leg(&vpc(at), *n)).collect(),
                gone: (0..3).filter(|at| !all && !has(at)).map(vpc).collect(),
            };
            says(feed, &gateway(*n), modes(true), Some(legs));
        }
        Turn::Can(n, both) => drop(says(feed, &gateway(*n), modes(*both), None)),
        Turn::Stay(which) => {
            let which = (0..5).filter(|n| which & (1 << n) != 0);
            stay(feed, placement, &which.map(|n| name(&gateway(n))).collect());
        }
        Turn::Listens(n) => (1..=60).for_each(|id| feed.report(&name(&gateway(*n)), listening(id, 1))),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Whatever happened: what it is not looked at again is as if it had been.
    #[test]
    fn each_endpoint_is_told_to_whoever_serves_it_and_to_nobody_else_as_its_owner(
        turns in proptest::collection::vec(turn(), 1..30)
    ) {
        let feed = Arc::new(Feed::new());
        let mut placement = on(&["gateway-0", "gateway-1"]);
        feed.open(mixed().into_iter().collect(), &[], Some(Arc::clone(&placement)));
        for turn in &turns {
            take(&feed, &mut placement, turn);
            let inner = feed.inner.lock();
            prop_assert!(inner.unsettled.is_empty());
            for spec in mixed() {
                let Some(owner) = inner.owner(spec.id).filter(|owner| inner.nodes.contains_key(*owner)) else {
                    continue;
                };
                let told = inner.nodes[owner].told.get(&spec.id);
                prop_assert!(told.is_some_and(|told| told.is_owner && told.spec.is_some()), "{} {:?}", owner, turn);
                let others = inner.nodes.iter().filter(|(name, _)| *name != owner);
                let mut others = others.filter_map(|(_, node)| node.told.get(&spec.id));
                prop_assert!(others.all(|told| !told.is_owner));
            }
        }
    }
}
