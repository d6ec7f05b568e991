//! The embedded cloud's networks, for whoever makes its VPCs on another machine: all of them once, then what has changed.
//!
//! A position is a revision of the store, and so good with every process of the control plane: who comes again gets what has
//! changed since, out of the store's history, and everything where that does not reach so far back. Never says less than what
//! has changed; the same may come twice.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use adit_model::{
    body,
    node::{FeedPosition, NetworkId, Networks, NetworksLine},
};
use adit_store::{Incarnation, Key, Notice, Notices, ResumeToken, Revision, State as Documents};
use axum::{
    extract::{Query, State, rejection::QueryRejection},
    response::Response,
};
use futures_util::{FutureExt as _, stream};
use serde::Deserialize;

use super::{BEAT, Nodes, Refused, bad, lines, written};
use crate::app::App;

/// How long the store may take to tell what has changed since a position; then all is sent.
const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(2);
/// Changed keys of one line: a few megabytes, when all of them are ports.
const KEYS_MAX: usize = 10_000;

#[derive(Deserialize)]
pub(super) struct From {
    from: Option<String>,
}

/// Whose revisions positions are; who does not ask for positions (a former version) gets everything at each change.
type Positions = Option<Incarnation>;

pub(super) async fn networks(
    State(nodes): State<Arc<Nodes>>,
    query: Result<Query<From>, QueryRejection>,
) -> Result<Response, Refused> {
    let Query(From { from }) = query.map_err(|e| bad(e.body_text()))?;
    let mut notices = nodes.app.cache.subscribe();
    let (positions, first) = match from.as_deref() {
        None => (None, all(&nodes.app, None)),
        Some(text) => {
            let from = Some(text).filter(|text| !text.is_empty());
            let from = from.map(|text| {
                text.parse()
                    .map_err(|_| bad(format!("from: {} is no position.", body::quote(text))))
            });
            begin(&nodes.app, &mut notices, from.transpose()?).await
        }
    };
    let state = (nodes, notices, positions, Some(first));
    Ok(lines(stream::unfold(
        state,
        async |(nodes, mut notices, positions, first)| {
            let line = match first {
                Some(first) => first,
                None => tokio::select! {
                    () = nodes.stopping.cancelled() => return None,
                    line = next(&nodes.app, &mut notices, positions) => line?,
                    () = tokio::time::sleep(BEAT) => NetworksLine::Beat,
                },
            };
            Some((written(&line), (nodes, notices, positions, None)))
        },
    )))
}

/// What somebody gets first who has read as far as `from`.
async fn begin(app: &App, notices: &mut Notices, from: Option<FeedPosition>) -> (Positions, NetworksLine) {
    // Whose history it is, is known to the store alone.
    let listed = app.store.list("placement/", None, 1);
    let listed = tokio::time::timeout(CATCH_UP_TIMEOUT, listed).await;
    let Ok(Ok(page)) = listed else {
        return (None, all(app, None));
    };
    let positions = Some(page.incarnation);
    let from = from.filter(|from| from.incarnation == page.incarnation.0);
    if let Some(from) = from
        && let Ok(Some((keys, reached))) = tokio::time::timeout(CATCH_UP_TIMEOUT, since(app, from)).await
    {
        notices.reach(reached);
        return (
            positions,
            changed(app, &keys, position(page.incarnation, reached)),
        );
    }
    (positions, all(app, positions))
}

/// The keys of networks that have changed since a position, and where the view is that shows them; `None` where nobody knows.
async fn since(app: &App, from: FeedPosition) -> Option<(BTreeSet<Arc<str>>, Revision)> {
    let from = ResumeToken {
        incarnation: Incarnation(from.incarnation),
        revision: Revision(from.revision),
    };
    app.barrier().await.ok()?;
    let target = app.cache.read().revision();
    let mut keys = BTreeSet::new();
    let mut reached = from.revision;
    // Another process was further than this one can be: not with the same store.
    if reached > target {
        return None;
    }
    if reached < target {
        let mut watch = app.store.watch("", &from).await.ok()?;
        while reached < target {
            let batch = watch.next().await.ok()?;
            reached = batch.revision;
            let changed = batch.changes.iter().map(|change| Arc::clone(&change.key));
            keys.extend(changed.filter(|key| is_network(key)));
            if keys.len() > KEYS_MAX {
                return None;
            }
        }
    }
    Some((keys, target))
}

/// Waits until networks have changed, and says what has; `None` once nothing changes any more.
async fn next(app: &App, notices: &mut Notices, positions: Positions) -> Option<NetworksLine> {
    let mut keys = BTreeSet::new();
    while keys.is_empty() {
        let mut notice = Some(notices.next().await?);
        // What has come meanwhile is said in one line.
        while let Some(now) = notice {
            match now {
                Notice::Changed(changed) => {
                    keys.extend(changed.iter().filter(|key| is_network(key)).cloned());
                }
                Notice::Resync => return Some(all(app, positions)),
            }
            if keys.len() > KEYS_MAX {
                return Some(all(app, positions));
            }
            notice = notices.next().now_or_never().flatten();
        }
    }
    Some(match positions {
        None => all(app, None),
        Some(incarnation) => changed(app, &keys, position(incarnation, notices.reached())),
    })
}

fn position(incarnation: Incarnation, revision: Revision) -> FeedPosition {
    FeedPosition {
        incarnation: incarnation.0,
        revision: revision.0,
    }
}

/// Whether a key is of something that a VPC is made of in the kernel.
pub fn is_network(key: &str) -> bool {
    matches!(
        Key::parse(key),
        Some(Key::Vpc(_) | Key::Subnet(_) | Key::Port(_) | Key::RouteTable(_))
    )
}

fn all(app: &App, positions: Positions) -> NetworksLine {
    let state = app.cache.read();
    NetworksLine::Networks(Networks {
        position: positions.map(|incarnation| position(incarnation, state.revision())),
        vpcs: state.vpcs().map(|stored| Arc::clone(&stored.value)).collect(),
        subnets: state.subnets().map(|stored| Arc::clone(&stored.value)).collect(),
        ports: state.ports().map(|stored| Arc::clone(&stored.value)).collect(),
        route_tables: state
            .route_tables()
            .map(|stored| Arc::clone(&stored.value))
            .collect(),
    })
}

/// What is under these keys now.
fn changed(app: &App, keys: &BTreeSet<Arc<str>>, position: FeedPosition) -> NetworksLine {
    let state = app.cache.read();
    let mut put = Networks {
        position: Some(position),
        ..Networks::default()
    };
    let gone = keys
        .iter()
        .filter_map(|key| pick(&state, key, &mut put))
        .collect();
    NetworksLine::Changes { put, gone }
}

/// Puts what is under a key to the others; answers its id where nothing is.
fn pick(state: &Documents, key: &str, put: &mut Networks) -> Option<NetworkId> {
    match Key::parse(key)? {
        Key::Vpc(id) => match state.vpc(&id) {
            Some(stored) => put.vpcs.push(Arc::clone(&stored.value)),
            None => return Some(NetworkId::Vpc(id)),
        },
        Key::Subnet(id) => match state.subnet(&id) {
            Some(stored) => put.subnets.push(Arc::clone(&stored.value)),
            None => return Some(NetworkId::Subnet(id)),
        },
        Key::Port(id) => match state.port(&id) {
            Some(stored) => put.ports.push(Arc::clone(&stored.value)),
            None => return Some(NetworkId::Port(id)),
        },
        Key::RouteTable(id) => match state.route_table(&id) {
            Some(stored) => put.route_tables.push(Arc::clone(&stored.value)),
            None => return Some(NetworkId::RouteTable(id)),
        },
        _ => {}
    }
    None
}
