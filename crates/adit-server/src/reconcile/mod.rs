//! Reconcilers: they make true what requests have recorded.
//!
//! They take no input but ids, are idempotent, run on signal and on period along one path, and finish each transition with
//! a compare on the document that they acted on; losing that race is a normal no-op, since whoever won woke them again.
//! One piece of work runs at most once at a time. Read next: [`service`], [`endpoint`], then [`crate::feed`].

mod delay;
mod endpoint;
mod metrics;
mod nodes;
mod queue;
mod service;

use std::{collections::HashMap, sync::Arc, time::Duration};

use adit_model::{
    endpoint::EndpointStatus,
    error_chain,
    id::{EndpointId, ServiceId},
};
use adit_store::{Key, Notice};
use tokio::{task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    app::App,
    error::Failure,
    feed::{self, Beginning},
};
pub use metrics::Metrics;
use metrics::Result as Ended;
use queue::Queue;

/// How many pieces of work run at a time: enough for their commits to share an fsync.
const WORKERS_MAX: usize = 64;
/// How often it is looked for addresses whose endpoint is gone. Only a crash leaves any, and the look is at all of them.
const ORPHANS_PERIOD: Duration = Duration::from_secs(600);
/// For how many endpoints the cache stands still while the feed is opened.
const OPENED_AT_ONCE: usize = 1024;

/// One thing to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Work {
    Service(ServiceId),
    Endpoint(EndpointId),
}

/// How a look at one thing ended.
#[derive(Debug)]
enum Outcome {
    /// Nothing more to do until somebody says so; these other things have become worth a look.
    Rest(Vec<Work>),
    /// Something that may pass stands in the way: look again after a while.
    Waiting(String),
    /// It is held back for so long.
    Held(Duration),
}

impl Outcome {
    const REST: Outcome = Outcome::Rest(Vec::new());
}

/// Runs the reconcilers until they are cancelled, and the feed with them.
pub async fn run(app: Arc<App>, cancel: CancellationToken) {
    let mut notices = app.cache.subscribe();
    let mut queue = Queue::default();
    let mut running = JoinSet::new();
    let mut works = HashMap::new();
    let mut period = tokio::time::interval(app.config.reconcile_period);
    period.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut orphans = tokio::time::interval(ORPHANS_PERIOD);
    orphans.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    enqueue_all(&app, &mut queue);
    open_feed(&app).await;
    let mut beside = JoinSet::new();
    beside.spawn(nodes::run(Arc::clone(&app)));
    let settling = Arc::clone(&app);
    beside.spawn(async move { settling.feed.keep_settled().await });
    loop {
        while running.len() < WORKERS_MAX
            && let Some(work) = queue.start(Instant::now())
        {
            let app = Arc::clone(&app);
            let task = running.spawn(async move { look(&app, work).await });
            works.insert(task.id(), work);
        }
        app.reconciled.show(&queue);
        tokio::select! {
            () = cancel.cancelled() => break,
            notice = notices.next() => match notice {
                None => break,
                Some(Notice::Resync) => enqueue_all(&app, &mut queue),
                Some(Notice::Changed(keys)) => keys.iter().for_each(|key| enqueue_changed(&app, &mut queue, key)),
            },
            dirty = app.feed.dirty() => {
                let state = app.cache.read();
                // What rests where it is waits for no gateway's word.
                let moving = dirty.into_iter().filter(|id| state.is_moving(*id));
                moving.for_each(|id| queue.add(Work::Endpoint(id)));
            }
            Some(done) = running.join_next_with_id(), if !running.is_empty() => {
                let (task, result) = match done {
                    Ok((task, result)) => (task, Some(result)),
                    Err(e) => {
                        tracing::error!(error = %e, "A reconciler died.");
                        (e.id(), None)
                    }
                };
                match (works.remove(&task), result) {
                    (Some(work), Some(result)) => {
                        app.reconciled.looked(work.kind(), ended(&result));
                        finish(&mut queue, work, result);
                    }
                    // A panic is our bug; what it was about must not wait for it to be mended.
                    (Some(work), None) => {
                        app.reconciled.looked(work.kind(), Ended::Panicked);
                        queue.retry(work, Instant::now());
                    }
                    (None, _) => {}
                }
            }
            _ = period.tick() => enqueue_unsettled(&app, &mut queue),
            _ = orphans.tick() => release_orphans(&app).await,
            () = sleep_until(queue.next_retry()) => {}
        }
    }
    app.feed.close();
    beside.shutdown().await;
    running.shutdown().await;
}

/// Has the feed know all that there is before it tells a gateway anything: what is not in the first word to a gateway, the
/// gateway ends.
async fn open_feed(app: &App) {
    if let Err(e) = app.barrier().await {
        tracing::warn!(
            error = error_chain(&e),
            "The feed begins with what was known last."
        );
    }
    let (ids, leaving, placement) = {
        let state = app.cache.read();
        let ids: Vec<_> = state.endpoints().map(|e| e.id).collect();
        let leaving = state
            .endpoints()
            .filter(|e| e.status() == EndpointStatus::Deleting);
        let leaving: Vec<_> = leaving.map(|e| e.id).collect();
        let placement = state.placement(&app.config.pool);
        (ids, leaving, placement.map(|stored| Arc::clone(&stored.value)))
    };
    // In pieces, between which the cache goes on. What changes meanwhile is looked at after.
    let mut beginning = Beginning::default();
    for ids in ids.chunks(OPENED_AT_ONCE) {
        {
            let state = app.cache.read();
            let specs = ids
                .iter()
                .filter_map(|id| feed::specify(&state, &app.config, *id));
            beginning.extend(specs);
        }
        tokio::task::yield_now().await;
    }
    app.feed.open(beginning, &leaving, placement);
}

async fn sleep_until(when: Option<Instant>) {
    match when {
        Some(when) => tokio::time::sleep_until(when).await,
        None => std::future::pending().await,
    }
}

async fn look(app: &App, work: Work) -> Result<Outcome, Failure> {
    let begun = Instant::now();
    let result = match work {
        Work::Service(id) => service::reconcile(app, id).await,
        Work::Endpoint(id) => endpoint::reconcile(app, id).await,
    };
    app.reconciled.took(work.kind(), begun.elapsed());
    result
}

fn ended(result: &Result<Outcome, Failure>) -> Ended {
    match result {
        Ok(Outcome::Rest(_)) => Ended::Done,
        Ok(Outcome::Waiting(_) | Outcome::Held(_)) => Ended::Waiting,
        Err(_) => Ended::Failed,
    }
}

fn finish(queue: &mut Queue, work: Work, result: Result<Outcome, Failure>) {
    match result {
        Ok(Outcome::Rest(more)) => {
            queue.done(work);
            more.into_iter().for_each(|work| queue.add(work));
        }
        Ok(Outcome::Waiting(reason)) => {
            let after = queue.retry(work, Instant::now());
            tracing::debug!(reconcile.work = ?work, reconcile.reason = reason, retry_after_ms = ms(after), "Not yet.");
        }
        Ok(Outcome::Held(rest)) => queue.later(work, Instant::now() + rest),
        Err(failure) => {
            let after = queue.retry(work, Instant::now());
            tracing::warn!(reconcile.work = ?work, error = error_chain(&failure), retry_after_ms = ms(after), "A reconciler failed.");
        }
    }
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn enqueue_changed(app: &App, queue: &mut Queue, key: &str) {
    match Key::parse(key) {
        Some(Key::Service(id)) => {
            queue.add(Work::Service(id));
            // What its endpoints serve depends on it.
            app.cache
                .read()
                .endpoints_of_service(id)
                .iter()
                .for_each(|e| queue.add(Work::Endpoint(e.id)));
        }
        Some(Key::Endpoint(id)) => queue.add(Work::Endpoint(id)),
        // An account is frozen, or let go again, so seldom that all endpoints may be gone through.
        Some(Key::Account(domain)) => {
            let state = app.cache.read();
            let own = state.endpoints().filter(|e| e.domain == domain);
            own.for_each(|e| queue.add(Work::Endpoint(e.id)));
        }
        _ => {}
    }
}

fn enqueue_all(app: &App, queue: &mut Queue) {
    let state = app.cache.read();
    state.services().for_each(|s| queue.add(Work::Service(s.id)));
    state.endpoints().for_each(|e| queue.add(Work::Endpoint(e.id)));
}

/// Everything that is on its way to somewhere.
fn enqueue_unsettled(app: &App, queue: &mut Queue) {
    let state = app.cache.read();
    state
        .moving_services()
        .for_each(|id| queue.add(Work::Service(id)));
    state
        .moving_endpoints()
        .for_each(|id| queue.add(Work::Endpoint(id)));
}

/// Gives back addresses whose endpoint is gone: what a crash between two steps may leave.
async fn release_orphans(app: &App) {
    let reserved = match app.network.list_reserved().await {
        Ok(reserved) => reserved,
        Err(e) => return tracing::warn!(error = %e, "Reservations could not be listed."),
    };
    // A reservation is younger than its endpoint's document, so a cache that is up to date knows the endpoint.
    if app.barrier().await.is_err() {
        return;
    }
    for reservation in reserved {
        let known = app.cache.read().endpoint(&reservation.endpoint).is_some();
        if !known && let Err(e) = app.network.release(reservation.endpoint).await {
            tracing::warn!(endpoint.id = %reservation.endpoint, error = %e, "An address could not be released.");
        }
    }
}
