//! What reconcilers make of an order: failed services, and a region that stops and starts again.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use adit::data_plane::{DataPlane, Terms};
use adit_model::{proxy::ProxyProfile, service::TcpProxy};
use adit_server::{App, NetworkError, edge, feed::null_gateway, reconcile};
use adit_store::{RedbStore, Store};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::{
    agreement::agrees,
    app::{ENDPOINTS, OTHER_VPC, SERVICES, TestApp, endpoint_body, poll, service_body, text},
    gateway_endpoint::{gateway_body, gateway_endpoint, led},
    network::{Asked, Hook, Hooked},
};

#[tokio::test]
async fn a_mode_that_no_gateway_serves_fails_the_service_and_says_so() {
    let app = TestApp::start().await;
    for mode in ["toa_open", "proxy_open", "open", "proxy_vni"] {
        let mut body = service_body(80);
        body["tcp_proxy"] = json!(mode);
        let created = app.demo.post(SERVICES, &body).await.ok();
        assert_eq!(created["status"], "creating");
        let path = format!("{SERVICES}/{}", text(&created["id"]));
        let shown = app.demo.until(&path, |r| r.body["status"] == "failed").await;
        let error = shown["error"].as_array().unwrap();
        assert_eq!(error.len(), 1);
        assert_eq!(error[0]["error_code"], "EndPoint.0002");
        assert!(text(&error[0]["error_message"]).contains(mode), "{}", error[0]);
        assert_eq!(shown["tcp_proxy"], mode);
        // It keeps its place in the quota and in the list, and nothing else.
        let listed = app.demo.get(&format!("{SERVICES}?status=failed")).await.ok();
        assert_eq!(listed["endpoint_services"][0]["error"], shown["error"]);
        assert_eq!(app.demo.used().await, (0, 1));
        let again = text(&app.demo.post(SERVICES, &service_body(80)).await.ok()["id"]);
        app.demo.remove_service(&again).await;
        app.demo.remove_service(created["id"].as_str().unwrap()).await;
    }
}

#[tokio::test]
async fn a_service_that_works_is_not_broken_by_the_wish_for_such_a_mode() {
    let app = TestApp::start().await;
    let service = app.service(80, false).await;
    let endpoint = app.endpoint(&service, "accepted").await;
    let path = format!("{SERVICES}/{service}");
    let before = (app.demo.world().await, app.other.world().await);
    for mode in ["toa_open", "proxy_open", "open", "proxy_vni"] {
        let refused = app
            .demo
            .put(&path, &json!({"tcp_proxy": mode, "description": "new"}))
            .await;
        assert_eq!(refused.refused(), (400, "0002"), "{mode}");
        assert!(
            text(&refused.body["error_msg"]).contains(mode),
            "{}",
            refused.body
        );
    }
    assert_eq!((app.demo.world().await, app.other.world().await), before);
    app.demo.put(&path, &json!({"tcp_proxy": "close"})).await.ok();
    let shown = app.other.get(&format!("{ENDPOINTS}/{endpoint}")).await.ok();
    assert_eq!(shown["status"], "accepted");
}

#[tokio::test]
async fn a_mode_that_the_region_serves_can_be_had_and_changed() {
    let app = TestApp::builder().modes(TcpProxy::ALL).start().await;
    for mode in TcpProxy::ALL {
        let mut body = service_body(80);
        body["tcp_proxy"] = json!(mode.as_str());
        let id = text(&app.demo.post(SERVICES, &body).await.ok()["id"]);
        let path = format!("{SERVICES}/{id}");
        app.demo.until(&path, |r| r.body["status"] == "available").await;
        for other in TcpProxy::ALL {
            let changed = app
                .demo
                .put(&path, &json!({"tcp_proxy": other.as_str()}))
                .await
                .ok();
            assert_eq!(changed["tcp_proxy"], other.as_str());
        }
        app.demo.remove_service(&id).await;
    }
}

#[tokio::test]
async fn a_line_of_text_names_no_network_and_is_not_sent_without() {
    let data_plane = DataPlane {
        terms: Terms {
            proxy_profile: ProxyProfile::V1,
            ..Terms::default()
        },
        ..DataPlane::default()
    };
    let app = TestApp::builder()
        .modes(TcpProxy::ALL)
        .data_plane(data_plane)
        .start()
        .await;
    let mut body = service_body(80);
    body["tcp_proxy"] = json!("proxy_vni");
    let id = text(&app.demo.post(SERVICES, &body).await.ok()["id"]);
    let path = format!("{SERVICES}/{id}");
    let shown = app.demo.until(&path, |r| r.body["status"] == "failed").await;
    let message = text(&shown["error"][0]["error_message"]);
    assert!(
        message.contains("v1") && message.contains("proxy_vni"),
        "{message}"
    );
    app.demo.remove_service(&id).await;

    body["tcp_proxy"] = json!("proxy_open");
    let id = text(&app.demo.post(SERVICES, &body).await.ok()["id"]);
    let path = format!("{SERVICES}/{id}");
    app.demo.until(&path, |r| r.body["status"] == "available").await;
    let refused = app.demo.put(&path, &json!({"tcp_proxy": "proxy_vni"})).await;
    assert_eq!(refused.refused(), (400, "0002"));
    assert!(
        text(&refused.body["error_msg"]).contains("v1"),
        "{}",
        refused.body
    );
}

/// Everything that both tenants see, less what a restart may move on.
async fn seen(app: &TestApp) -> Value {
    let service = app.demo.get(SERVICES).await.ok()["endpoint_services"][0]["id"].take();
    let of_service = async |what: &str| {
        app.demo
            .get(&format!("{SERVICES}/{}/{what}", text(&service)))
            .await
            .ok()
    };
    json!([
        app.demo.world().await,
        app.other.world().await,
        app.demo.get("vpcs").await.ok(),
        app.demo.get("/v2.0/ports").await.ok(),
        app.other.get("/v2.0/ports").await.ok(),
        of_service("connections").await,
        of_service("permissions").await,
    ])
}

#[tokio::test]
async fn a_restart_keeps_everything() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("region.redb");
    let open = || -> Arc<dyn Store> { Arc::new(RedbStore::open(&file).unwrap()) };
    let app = TestApp::builder().store(open()).start().await;
    let service = app.service(80, true).await;
    let accepted = app.endpoint(&service, "pendingAcceptance").await;
    app.decide(&service, "receive", &accepted).await.ok();
    let waiting = app.endpoint(&service, "pendingAcceptance").await;
    let rejected = app.endpoint(&service, "pendingAcceptance").await;
    app.decide(&service, "reject", &rejected).await.ok();
    let before = seen(&app).await;
    let token = app.demo.token.clone();
    stop(app).await;

    let app = TestApp::builder().store(open()).start().await;
    assert_eq!(seen(&app).await, before);
    // Tokens stay good, and what was open can be gone on with.
    app.demo.with_token(token.as_deref()).get(SERVICES).await.ok();
    for endpoint in [&waiting, &rejected, &accepted] {
        let decided = app.decide(&service, "receive", endpoint).await.ok();
        assert_eq!(decided["connections"][0]["status"], "accepted");
    }
    // What is made now is newer than what was made before.
    let newest = app.endpoint(&service, "pendingAcceptance").await;
    let listed = app.other.get(ENDPOINTS).await.ok();
    assert_eq!(listed["endpoints"][0]["id"], newest.as_str());
    stop(app).await;
}

/// Stops a region, and lets go of its store.
pub(crate) async fn stop(app: TestApp) {
    let TestApp {
        running,
        demo,
        other,
        viewer,
        operator,
    } = app;
    let store = Arc::downgrade(&running.app.store);
    drop((demo, other, viewer, operator));
    running.stop().await.unwrap();
    let gone = crate::app::poll(async || store.upgrade().is_none().then_some(())).await;
    assert!(gone.is_some(), "somebody holds the store of a stopped region");
}

#[tokio::test]
async fn work_that_was_left_undone_is_taken_up_at_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("region.redb");
    let open = || -> Arc<dyn Store> { Arc::new(RedbStore::open(&file).unwrap()) };
    let app = TestApp::builder().store(open()).start().await;
    let service = app.service(80, false).await;
    let leaving_service = app.demo.service(81, true).await;
    let leaving = app.endpoint(&service, "accepted").await;
    let TestApp {
        running,
        demo,
        other,
        viewer,
        operator,
    } = app;
    let stack = Arc::clone(&running.app);
    // Nobody makes true what is ordered from here on.
    running.stop().await.unwrap();
    let created = text(&demo.post(SERVICES, &service_body(82)).await.ok()["id"]);
    let mut body = service_body(83);
    body["tcp_proxy"] = json!("open");
    let doomed = text(&demo.post(SERVICES, &body).await.ok()["id"]);
    let ordered = text(&other.post(ENDPOINTS, &endpoint_body(&service)).await.ok()["id"]);
    demo.delete(&format!("{SERVICES}/{leaving_service}"))
        .await
        .no_content();
    other.delete(&format!("{ENDPOINTS}/{leaving}")).await.no_content();
    for (client, path, status) in [
        (&demo, format!("{SERVICES}/{created}"), "creating"),
        (&demo, format!("{SERVICES}/{doomed}"), "creating"),
        (&demo, format!("{SERVICES}/{leaving_service}"), "deleting"),
        (&other, format!("{ENDPOINTS}/{ordered}"), "creating"),
        (&other, format!("{ENDPOINTS}/{leaving}"), "deleting"),
    ] {
        assert_eq!(client.get(&path).await.ok()["status"], status, "{path}");
    }
    let store = Arc::downgrade(&stack.store);
    drop((demo, other, viewer, operator, stack));
    assert!(
        crate::app::poll(async || store.upgrade().is_none().then_some(()))
            .await
            .is_some()
    );

    let app = TestApp::builder().store(open()).start().await;
    app.demo
        .until(&format!("{SERVICES}/{created}"), |r| {
            r.body["status"] == "available"
        })
        .await;
    app.demo
        .until(&format!("{SERVICES}/{doomed}"), |r| r.body["status"] == "failed")
        .await;
    app.other
        .until(&format!("{ENDPOINTS}/{ordered}"), |r| {
            r.body["status"] == "accepted"
        })
        .await;
    app.demo
        .until_gone(&format!("{SERVICES}/{leaving_service}"))
        .await;
    app.other.until_gone(&format!("{ENDPOINTS}/{leaving}")).await;
    assert_eq!((app.demo.used().await, app.other.used().await), ((0, 3), (1, 0)));
}

/// The first three answers to one question are lost, by turns as an outage and as a bug.
fn lossy(question: Asked) -> impl Fn(Asked) -> Hook + Send + Sync + 'static {
    let lost = AtomicUsize::new(0);
    move |asked| {
        let n = (asked == question).then(|| lost.fetch_add(1, Ordering::Relaxed));
        Box::pin(async move {
            match n {
                Some(0 | 2) => Err(NetworkError::Unavailable("the answer is lost".to_owned())),
                Some(1) => panic!("a bug, on purpose"),
                _ => Ok(()),
            }
        })
    }
}

#[tokio::test]
async fn routes_that_were_left_undone_are_written_and_taken_out_at_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("region.redb");
    let open = || -> Arc<dyn Store> { Arc::new(RedbStore::open(&file).unwrap()) };
    let app = TestApp::builder().store(open()).start().await;
    let (kept, freed) = (
        app.other.route_table(OTHER_VPC).await,
        app.other.route_table(OTHER_VPC).await,
    );
    let leaving = gateway_endpoint(&app.other, &gateway_body(&[]), "accepted").await;
    let changed = gateway_endpoint(&app.other, &gateway_body(&[&freed]), "accepted").await;
    let TestApp {
        running,
        demo,
        other,
        viewer,
        operator,
    } = app;
    let store = Arc::downgrade(&running.app.store);
    let stack = Arc::clone(&running.app);
    // Nobody makes true what is ordered from here on.
    running.stop().await.unwrap();
    other.delete(&format!("{ENDPOINTS}/{leaving}")).await.no_content();
    let created = text(&other.post(ENDPOINTS, &gateway_body(&[])).await.ok()["id"]);
    let body = json!({"routetables": [kept]});
    other
        .put(&format!("{ENDPOINTS}/{changed}/routetables"), &body)
        .await
        .ok();
    assert_eq!(led(&other, &freed).await[0].1, changed);
    drop((demo, other, viewer, operator, stack));
    assert!(
        poll(async || store.upgrade().is_none().then_some(()))
            .await
            .is_some()
    );

    let app = TestApp::builder().store(open()).start().await;
    let default = app.other.default_table(OTHER_VPC).await;
    app.other.until_gone(&format!("{ENDPOINTS}/{leaving}")).await;
    app.other
        .until(&format!("{ENDPOINTS}/{created}"), |r| {
            r.body["status"] == "accepted"
        })
        .await;
    assert_eq!(led(&app.other, &default).await[0].1, created);
    let moved = poll(async || {
        let empty = led(&app.other, &freed).await.is_empty();
        (empty && !led(&app.other, &kept).await.is_empty()).then_some(())
    });
    assert!(moved.await.is_some());
    agrees(&app.running.app).await;
    stop(app).await;
}

#[tokio::test]
async fn reconcilers_outlive_lost_answers_and_bugs() {
    for question in [Asked::Reserve, Asked::Release] {
        let app = TestApp::start().await;
        let service = app.service(80, false).await;
        let TestApp { running, other, .. } = app;
        let region = Arc::clone(&running.app);
        // The region's own reconcilers end; others, whose network loses answers, take over.
        running.stop().await.unwrap();
        let lossy = App::new(
            region.config.clone(),
            Arc::clone(&region.store),
            region.cache.clone(),
            Arc::clone(&region.identity),
            Hooked::network(&region.network, lossy(question)),
        );
        tokio::spawn(null_gateway(Arc::clone(&lossy.feed), "null".parse().unwrap()));
        let cancel = CancellationToken::new();
        let reconcilers = tokio::spawn(reconcile::run(lossy, cancel.clone()));

        let id = text(&other.post(ENDPOINTS, &endpoint_body(&service)).await.ok()["id"]);
        let path = format!("{ENDPOINTS}/{id}");
        other.until(&path, |r| r.body["status"] == "accepted").await;
        agrees(&region).await;
        other.delete(&path).await.no_content();
        other.until_gone(&path).await;
        agrees(&region).await;
        cancel.cancel();
        reconcilers.await.unwrap();
    }
}

#[tokio::test]
async fn requests_outlive_lost_answers_and_bugs() {
    let app = TestApp::start().await;
    let service = app.service(80, true).await;
    let region = &app.running.app;
    for (question, client, path, body) in [
        (Asked::Vpc, &app.demo, SERVICES, service_body(81)),
        (Asked::Port, &app.demo, SERVICES, service_body(82)),
        (Asked::Subnet, &app.other, ENDPOINTS, endpoint_body(&service)),
    ] {
        let lossy = App::new(
            region.config.clone(),
            Arc::clone(&region.store),
            region.cache.clone(),
            Arc::clone(&region.identity),
            Hooked::network(&region.network, lossy(question)),
        );
        let client = client.at(edge::finish(adit_server::router(lossy).0));
        let before = client.world().await;
        // An outage is worth another try, a bug is ours; neither leaves anything behind.
        for expected in [(504, "0013"), (500, "0001"), (504, "0013")] {
            let reply = client.post(path, &body).await;
            assert_eq!(reply.refused(), expected, "{question:?}");
            assert!(reply.headers.contains_key("x-request-id"));
            assert_eq!(client.world().await, before, "{question:?}");
        }
        let made = text(&client.post(path, &body).await.ok()["id"]);
        // At rest, so that the next round sees its own effects alone.
        client
            .until(&format!("{path}/{made}"), |r| r.body["status"] != "creating")
            .await;
    }
    agrees(region).await;
}
