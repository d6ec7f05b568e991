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
        Client, DEMO_VPC, ENDPOINTS, NOBODY, OTHER_DOMAIN, OTHER_VPC, Reply, SERVICES, TestApp,
        endpoint_body, service_body, text,
    },
    gateway_endpoint::{gateway_body, gateway_endpoint},
    network::{Asked, Hook, Hooked},
    public_service::OBS,
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

#[tokio::test]
async fn a_gateway_endpoint_is_not_made_behind_a_table_that_goes_or_is_taken_meanwhile() {
    let app = TestApp::start().await;
    let table = app.other.route_table(OTHER_VPC).await;
    let order = (ENDPOINTS, gateway_body(&[&table]));
    let reply = while_creating(
        &app.running.app,
        &app.other,
        order.clone(),
        Asked::Vpc,
        async || {
            app.other.post(ENDPOINTS, &gateway_body(&[&table])).await.ok();
        },
    )
    .await;
    assert_eq!(reply.refused(), (400, "2039"));
    let listed = app.other.get(ENDPOINTS).await.ok();
    let path = format!("{ENDPOINTS}/{}", text(&listed["endpoints"][0]["id"]));
    app.other.delete(&path).await.no_content();
    let reply = while_creating(&app.running.app, &app.other, order, Asked::Vpc, async || {
        app.other
            .delete(&format!("routetables/{table}"))
            .await
            .no_content();
    })
    .await;
    assert_eq!(reply.refused(), (404, "4030"));
}

#[tokio::test]
async fn a_gateway_endpoint_is_not_made_on_a_service_that_is_deleted_meanwhile() {
    let app = TestApp::start().await;
    let order = (ENDPOINTS, gateway_body(&[]));
    let reply = while_creating(&app.running.app, &app.other, order, Asked::Vpc, async || {
        app.operator
            .delete(&format!("/admin/v1/services/{OBS}"))
            .await
            .no_content();
        app.other
            .until_gone(&format!("{SERVICES}/describe?id={OBS}"))
            .await;
    })
    .await;
    assert!(
        [(400, "2003"), (400, "2004")].contains(&reply.refused()),
        "{}",
        reply.text
    );
    assert_eq!(app.other.used().await, (0, 0));
}

#[tokio::test]
async fn a_route_that_is_made_meanwhile_fails_a_change_of_tables() {
    let app = TestApp::start().await;
    let table = app.other.route_table(OTHER_VPC).await;
    let id = gateway_endpoint(&app.other, &gateway_body(&[]), "accepted").await;
    let app_of = &app.running.app;
    let route = json!({"type": "nat", "destination": "100.125.0.0/16", "nexthop": NOBODY});
    let add = json!({"routetable": {"routes": {"add": [route]}}});
    let (client, path) = (app.other.clone(), format!("routetables/{table}"));
    let done = Arc::new(AtomicBool::new(false));
    // The tenant's route comes after the look and before the commit.
    let hook = move |asked| {
        let (client, path, add) = (client.clone(), path.clone(), add.clone());
        let first = asked == Asked::Vpc && !done.swap(true, Ordering::Relaxed);
        Box::pin(async move {
            if first {
                client.put(&path, &add).await.ok();
            }
            Ok(())
        }) as Hook
    };
    let slow = App::new(
        app_of.config.clone(),
        Arc::clone(&app_of.store),
        app_of.cache.clone(),
        Arc::clone(&app_of.identity),
        Hooked::network(&app_of.network, hook),
    );
    let client = app.other.at(edge::finish(adit_server::router(slow).0));
    let body = json!({"routetables": [table]});
    let reply = client.put(&format!("{ENDPOINTS}/{id}/routetables"), &body).await;
    assert_eq!(reply.refused(), (400, "4028"));
    let shown = app.other.get(&format!("{ENDPOINTS}/{id}")).await.ok();
    assert_eq!(
        shown["routetables"],
        json!([app.other.default_table(OTHER_VPC).await])
    );
}
