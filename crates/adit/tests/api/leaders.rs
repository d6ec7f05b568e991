//! Two processes that both believe that they run the reconcilers: one of them was stopped in the middle of something, and goes
//! on with it after the other has done it, and undone it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use adit_server::{App, feed::null_gateway, reconcile};
use serde_json::Value;
use tokio::{sync::Semaphore, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::{
    agreement::agrees,
    app::{ENDPOINTS, Reply, TestApp, endpoint_body, text},
    gateway_endpoint::gateway_body,
    network::{Asked, Hook, Hooked},
};

/// How long a reconciler may take to get where it is to stand still.
const DEADLINE: Duration = Duration::from_secs(20);

/// A process that runs the reconcilers, and a gateway that serves everything.
struct Leader {
    cancel: CancellationToken,
    task: JoinHandle<()>,
}

impl Leader {
    fn start(app: Arc<App>) -> Self {
        tokio::spawn(null_gateway(Arc::clone(&app.feed), "null".parse().unwrap()));
        let cancel = CancellationToken::new();
        let task = tokio::spawn(reconcile::run(app, cancel.clone()));
        Self { cancel, task }
    }

    async fn stop(self) {
        self.cancel.cancel();
        self.task.await.unwrap();
    }
}

/// Another control plane on the same store, whose network has this hook.
fn on_the_same_store(region: &App, hook: impl Fn(Asked) -> Hook + Send + Sync + 'static) -> Arc<App> {
    App::new(
        region.config.clone(),
        Arc::clone(&region.store),
        adit_store::Cache::start(Arc::clone(&region.store), ""),
        Arc::clone(&region.identity),
        Hooked::network(&region.network, hook),
    )
}

/// Stands still the first time that it is asked for, until it may go on.
fn once(question: Asked, reached: &Arc<Semaphore>, go: &Arc<Semaphore>) -> impl Fn(Asked) -> Hook + use<> {
    let (reached, go, done) = (Arc::clone(reached), Arc::clone(go), AtomicBool::new(false));
    move |asked| {
        let waits = asked == question && !done.swap(asked == question, Ordering::SeqCst);
        let (reached, go) = (Arc::clone(&reached), Arc::clone(&go));
        Box::pin(async move {
            if waits {
                reached.add_permits(1);
                go.acquire().await.unwrap().forget();
            }
            Ok(())
        })
    }
}

#[tokio::test]
async fn who_goes_on_after_another_took_over_changes_nothing() {
    for question in [Asked::BeforeReserve, Asked::Reserve, Asked::Release, Asked::Route] {
        let app = TestApp::start().await;
        let service = app.service(80, false).await;
        let TestApp { running, other, .. } = app;
        let region = Arc::clone(&running.app);
        running.stop().await.unwrap();

        let (reached, go) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        let stale = on_the_same_store(&region, once(question, &reached, &go));
        stale.cache.wait_ready().await.unwrap();
        let stale = Leader::start(stale);
        let order: Value = match question {
            Asked::Route => gateway_body(&[]),
            _ => endpoint_body(&service),
        };
        let path = text(&other.post(ENDPOINTS, &order).await.ok()["id"]);
        let path = format!("{ENDPOINTS}/{path}");
        let accepted = |reply: &Reply| reply.body["status"] == "accepted";
        if question == Asked::Release {
            other.until(&path, accepted).await;
            other.delete(&path).await.no_content();
        }
        let held = tokio::time::timeout(DEADLINE, reached.acquire()).await;
        held.expect("it gets so far").unwrap().forget();

        let new = on_the_same_store(&region, |_| Box::pin(async { Ok(()) }));
        new.cache.wait_ready().await.unwrap();
        let new = Leader::start(new);
        if question != Asked::Release {
            other.until(&path, accepted).await;
            other.delete(&path).await.no_content();
        }
        other.until_gone(&path).await;
        new.stop().await;

        // The first one goes on where it was, and then with what is ordered now.
        go.add_permits(1);
        let next = text(&other.post(ENDPOINTS, &endpoint_body(&service)).await.ok()["id"]);
        let next = format!("{ENDPOINTS}/{next}");
        other.until(&next, accepted).await;
        other.get(&path).await.refused();
        agrees(&region).await;
        stale.stop().await;
        // Nothing is kept for what is gone, not for a moment.
        let kept = region.network.list_reserved().await.unwrap();
        let kept: Vec<_> = kept.iter().map(|kept| kept.endpoint.to_string()).collect();
        assert_eq!(kept, [next.rsplit('/').next().unwrap()], "{question:?}");
    }
}
