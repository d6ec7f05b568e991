//! What changes between a look-up and the commit that is decided on it: each interleaving once, on purpose.
//!
//! The network is the region's own, made to wait after its first answer of one kind. Races left to chance are in
//! [`crate::race`].

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use adit_server::{App, edge};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::{
    app::{
        Client, DEMO_VPC, ENDPOINTS, OTHER_DOMAIN, OTHER_VPC, Reply, SERVICES, TestApp, endpoint_body,
        service_body, text,
    },
    network::{Asked, Hook, Hooked},
};

/// Sends a create, does something else while the create has the network's answer and has decided nothing, and lets it go
/// on.
async fn while_creating(
    running: &Arc<App>,
    client: &Client,
    (path, body): (&'static str, Value),
    after: Asked,
    meanwhile: impl AsyncFnOnce(),
) -> Reply {
    let (reached, go) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let once = {
        let (reached, go, done) = (Arc::clone(&reached), Arc::clone(&go), AtomicBool::new(false));
        move |asked| {
            let wait = asked == after && !done.swap(true, Ordering::Relaxed);
            let (reached, go) = (Arc::clone(&reached), Arc::clone(&go));
            Box::pin(async move {
                if wait {
                    reached.add_permits(1);
                    go.acquire().await.unwrap().forget();
                }
                Ok(())
            }) as Hook
        }
    };
    let slow = App::new(
        running.config.clone(),
        Arc::clone(&running.store),
        running.cache.clone(),
        Arc::clone(&running.identity),
        Hooked::network(&running.network, once),
    );
    let client = client.at(edge::finish(adit_server::router(slow).0));
    let creating = tokio::spawn(async move { client.post(path, &body).await });
    reached.acquire().await.unwrap().forget();
    meanwhile().await;
    go.add_permits(1);
    creating.await.unwrap()
}

#[tokio::test]
async fn an_endpoint_is_not_made_on_a_service_that_is_deleted_meanwhile() {
    for (after, reconciled) in [(Asked::Vpc, true), (Asked::Subnet, true), (Asked::Subnet, false)] {
        let app = TestApp::start().await;
        let service = app.service(80, false).await;
        let path = format!("{SERVICES}/{service}");
        let order = (ENDPOINTS, endpoint_body(&service));
        let TestApp {
            running, demo, other, ..
        } = app;
        let stack = Arc::clone(&running.app);
        // Without reconcilers it is `deleting` for good, else it is gone at once.
        if !reconciled {
            running.stop().await.unwrap();
        }
        let reply = while_creating(&stack, &other, order, after, async || {
            demo.delete(&path).await.no_content();
            if reconciled {
                demo.until_gone(&path).await;
            }
        })
        .await;
        let expected = if reconciled { "2003" } else { "2004" };
        assert_eq!(reply.refused(), (400, expected));
        assert_eq!(other.used().await, (0, 0));
    }
}

#[tokio::test]
async fn an_endpoint_is_not_made_by_an_account_that_leaves_the_whitelist_meanwhile() {
    let app = TestApp::start().await;
    let service = app.service(80, false).await;
    let order = (ENDPOINTS, endpoint_body(&service));
    let reply = while_creating(&app.running.app, &app.other, order, Asked::Subnet, async || {
        let remove = json!({"permissions": [format!("iam:domain::{OTHER_DOMAIN}")], "action": "remove"});
        let path = format!("{SERVICES}/{service}/permissions/action");
        app.demo.post(&path, &remove).await.ok();
    })
    .await;
    assert_eq!(reply.refused(), (400, "2012"));
}

#[tokio::test]
async fn an_endpoint_is_made_by_the_service_s_word_of_now() {
    let app = TestApp::start().await;
    let service = app.service(80, false).await;
    let order = (ENDPOINTS, endpoint_body(&service));
    let reply = while_creating(&app.running.app, &app.other, order, Asked::Subnet, async || {
        let change = json!({"approval_enabled": true, "service_name": "n"});
        app.demo.put(&format!("{SERVICES}/{service}"), &change).await.ok();
    })
    .await;
    let created = reply.ok();
    assert_eq!(created["status"], "pendingAcceptance");
    assert_eq!(created["endpoint_service_name"], format!("eu-de.n.{service}"));
}

#[tokio::test]
async fn an_endpoint_is_not_made_in_a_subnet_that_is_deleted_meanwhile() {
    let app = TestApp::start().await;
    let service = app.service(80, false).await;
    let (vpc, subnet) = app.other.vpc("10.9.0.0/16", "10.9.0.0/24").await;
    let order = json!({"endpoint_service_id": service, "vpc_id": vpc, "subnet_id": subnet});
    let reply = while_creating(
        &app.running.app,
        &app.other,
        (ENDPOINTS, order),
        Asked::Subnet,
        async || {
            app.other
                .delete(&format!("vpcs/{vpc}/subnets/{subnet}"))
                .await
                .no_content();
        },
    )
    .await;
    assert_eq!(reply.refused(), (404, "4004"));
}

#[tokio::test]
async fn nothing_is_made_in_a_vpc_that_gets_a_forbidden_route_meanwhile() {
    let app = TestApp::start().await;
    let service = app.service(80, false).await;
    for after in [Asked::Vpc, Asked::Subnet] {
        let order = (ENDPOINTS, endpoint_body(&service));
        let reply = while_creating(&app.running.app, &app.other, order, after, async || {
            app.other.add_route(OTHER_VPC, "198.19.200.0/24").await;
        })
        .await;
        assert_eq!(reply.refused(), (400, "3017"));
        let table = app
            .other
            .get(&format!("routetables?vpc_id={OTHER_VPC}"))
            .await
            .ok();
        let path = format!("routetables/{}", text(&table["routetables"][0]["id"]));
        let delete = json!({"routetable": {"routes": {"del": [{"destination": "198.19.200.0/24"}]}}});
        app.other.put(&path, &delete).await.ok();
    }
    let order = (SERVICES, service_body(81));
    let reply = while_creating(&app.running.app, &app.demo, order, Asked::Port, async || {
        app.demo.add_route(DEMO_VPC, "198.19.200.0/24").await;
    })
    .await;
    assert_eq!(reply.refused(), (400, "3017"));
}

#[tokio::test]
async fn a_service_is_not_made_on_a_port_that_is_deleted_meanwhile() {
    let app = TestApp::start().await;
    let (vpc, subnet) = app.demo.vpc("10.9.0.0/16", "10.9.0.0/24").await;
    let port = app.demo.port(&subnet).await;
    let mut body = service_body(80);
    body["port_id"] = json!(port);
    body["vpc_id"] = json!(vpc);
    let reply = while_creating(
        &app.running.app,
        &app.demo,
        (SERVICES, body),
        Asked::Port,
        async || {
            app.demo.delete(&format!("/v2.0/ports/{port}")).await.no_content();
        },
    )
    .await;
    assert_eq!(reply.refused(), (400, "3008"));
    assert_eq!(app.demo.used().await, (0, 0));
}
