//! Gateways of their own processes: keeps the list of those that are there, and which of them serves what.
//!
//! One that is silent loses its shards to the others; one that comes gets its share. The documents count, not the plan: a
//! leader that is none any more loses the compare, and tells nobody anything.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use adit_model::{
    error_chain,
    node::{Node, NodeName, SILENCE},
};
use adit_store::{Key, LeaseId, Txn, keys::encode};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::{
    app::{App, as_seen},
    error::Failure,
};

/// How often it is looked at who is there.
const PERIOD: Duration = Duration::from_millis(250);
/// How long a gateway has listened for what another one serves, too, before that one lets go: all announcements have been
/// heard by then.
const OVERLAP: Duration = Duration::from_secs(2);
/// How long the list outlives the process that keeps it.
const LEASE: Duration = Duration::from_secs(5);
/// How often the lease is renewed.
const RENEWAL: Duration = Duration::from_secs(1);
/// How old what the list says of a gateway may be, in seconds.
const AGE_S_MAX: i64 = 5;

/// Runs until it is aborted.
pub(super) async fn run(app: Arc<App>) {
    let mut period = interval(PERIOD);
    period.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut lease: Option<(LeaseId, Instant)> = None;
    loop {
        period.tick().await;
        let live = app.feed.expire(SILENCE);
        app.feed.let_go(OVERLAP);
        if app.feed.is_alone() {
            return;
        }
        let staying: BTreeSet<_> = {
            let state = app.cache.read();
            let staying = live.iter().filter(|name| state.drain(name).is_none());
            staying.cloned().collect()
        };
        if let Err(e) = place(&app, &staying).await {
            tracing::warn!(error = error_chain(&e), "The placement could not be written.");
        }
        if let Err(e) = list(&app, &live, &mut lease).await {
            // The next look gets another.
            lease = None;
            tracing::warn!(
                error = error_chain(&e),
                "The list of gateways could not be written."
            );
        }
    }
}

/// Plans anew where who is there has changed, and has the feed follow what was written.
async fn place(app: &App, live: &BTreeSet<NodeName>) -> Result<(), Failure> {
    let pool = app.config.pool;
    let known = app.cache.read().placement(&pool).cloned();
    let placement = known.as_ref().map(|stored| Arc::clone(&stored.value));
    let placement = placement.unwrap_or_default();
    let Some(next) = placement.next(live) else {
        app.feed.place(placement, live);
        return Ok(());
    };
    let key = Key::Placement(pool);
    let txn = as_seen(Txn::new(), key.clone(), known.as_ref()).put(key, encode(&next));
    if app.commit(txn).await? {
        let epoch = next.epoch();
        tracing::info!(placement.epoch = epoch, placement.loads = ?next.loads(), "Endpoints were placed anew.");
        app.feed.place(Arc::new(next), live);
    }
    // Else somebody else has planned: the next look is at what came of it.
    Ok(())
}

/// Keeps one document for each gateway that is there, as long as this process lives.
async fn list(
    app: &App,
    live: &BTreeSet<NodeName>,
    lease: &mut Option<(LeaseId, Instant)>,
) -> Result<(), Failure> {
    let lease = match lease {
        Some((id, renewed)) => {
            if renewed.elapsed() >= RENEWAL {
                app.store.lease_keep_alive(*id).await?;
                *renewed = Instant::now();
            }
            *id
        }
        None => {
            let id = app.store.lease_grant(LEASE).await?;
            // What is listed lives with the former lease, or with another process.
            *lease = Some((id, Instant::now()));
            for node in app.feed.nodes() {
                write(app, &node, id).await?;
            }
            id
        }
    };
    for node in app.feed.nodes() {
        let listed = app.cache.read().node(&node.name).cloned();
        let fresh = listed.is_some_and(|listed| {
            let age = node.seen_at.unix_s() - listed.seen_at.unix_s();
            // Whoever drains a gateway waits for these.
            let has = (listed.epoch, listed.load.endpoints) == (node.epoch, node.load.endpoints);
            let load = listed.load == node.load || age < 1;
            let same = (&listed.address, &listed.version) == (&node.address, &node.version);
            has && load && same && age < AGE_S_MAX
        });
        if !fresh {
            write(app, &node, lease).await?;
        }
    }
    let gone: Vec<_> = {
        let state = app.cache.read();
        let listed = state.nodes().filter(|node| !live.contains(&node.name));
        listed.cloned().collect()
    };
    for node in gone {
        let key = Key::Node(node.name.clone());
        app.commit(Txn::new().unchanged(key.clone(), node.revision).delete(key))
            .await?;
    }
    Ok(())
}

async fn write(app: &App, node: &Node, lease: LeaseId) -> Result<(), Failure> {
    let key = Key::Node(node.name.clone());
    app.commit(Txn::new().put_leased(key, encode(node), lease))
        .await
        .map(drop)
}
