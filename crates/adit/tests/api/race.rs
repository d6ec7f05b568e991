//! Races with real concurrency: many requests at once, on two control planes over one store, so that no lock of one
//! process decides who wins. After each, the whole store agrees with itself.

mod gateway;

use std::{future::Future, sync::Arc};

use adit_server::{App, edge};
use serde_json::{Value, json};
use tokio::sync::Barrier;

use crate::{
    agreement::agrees,
    app::{
        Client, DEMO_PORT, ENDPOINTS, OTHER_SUBNET, Reply, SERVICES, TestApp, endpoint_body, service_body,
        text,
    },
};

/// Does all of it at once.
async fn together<T: Send + 'static>(
    tasks: impl IntoIterator<Item = impl Future<Output = T> + Send + 'static>,
) -> Vec<T> {
    let tasks: Vec<_> = tasks.into_iter().collect();
    let start = Arc::new(Barrier::new(tasks.len()));
    let spawned: Vec<_> = tasks
        .into_iter()
        .map(|task| {
            let start = Arc::clone(&start);
            tokio::spawn(async move {
                start.wait().await;
                task.await
            })
        })
        .collect();
    let mut answers = Vec::new();
    for task in spawned {
        answers.push(task.await.unwrap());
    }
    answers
}

/// One request, to be sent.
async fn call(client: Client, method: &'static str, path: String, body: Option<Value>) -> Reply {
    client.send(method, &path, body.as_ref()).await
}

/// The same user at the region's own control plane, or at a second one on the same store.
fn planes(app: &TestApp, client: &Client) -> [Client; 2] {
    let first = &app.running.app;
    let second = App::new(
        first.config.clone(),
        Arc::clone(&first.store),
        first.cache.clone(),
        Arc::clone(&first.identity),
        Arc::clone(&first.network),
    );
    [
        client.clone(),
        client.at(edge::finish(adit_server::router(second).0)),
    ]
}

/// The ids of those that were answered with 200; all others were refused with `code`.
fn winners(replies: Vec<Reply>, code: &str) -> Vec<String> {
    let (won, lost): (Vec<_>, Vec<_>) = replies.into_iter().partition(|r| r.status == 200);
    for reply in lost {
        assert_eq!(reply.refused(), (400, code), "{}", reply.text);
    }
    won.iter().map(|r| text(&r.body["id"])).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_pair_of_a_backend_is_one_service_s() {
    let app = TestApp::start().await;
    let planes = planes(&app, &app.demo);
    for _ in 0..100 {
        let tasks = (0..4).map(|n| {
            call(
                planes[n % 2].clone(),
                "POST",
                SERVICES.into(),
                Some(service_body(80)),
            )
        });
        let won = winners(together(tasks).await, "3044");
        assert_eq!(won.len(), 1);
        app.demo.remove_service(&won[0]).await;
    }
    agrees(&app.running.app).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_change_and_a_create_do_not_share_a_pair() {
    let app = TestApp::start().await;
    let planes = planes(&app, &app.demo);
    let id = app.demo.service(80, true).await;
    let path = format!("{SERVICES}/{id}");
    for n in 0..100 {
        let pair = 81 + n % 2;
        let change = json!({"ports": [{"client_port": 1, "server_port": pair}]});
        let tasks = [
            call(planes[0].clone(), "PUT", path.clone(), Some(change)),
            call(
                planes[1].clone(),
                "POST",
                SERVICES.into(),
                Some(service_body(pair)),
            ),
        ];
        let won = winners(together(tasks).await, "3044");
        assert_eq!(won.len(), 1);
        if won[0] != id {
            app.demo.remove_service(&won[0]).await;
        }
        app.demo
            .put(&path, &json!({"ports": [{"client_port": 1, "server_port": 80}]}))
            .await
            .ok();
    }
    agrees(&app.running.app).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_address_is_one_endpoint_s() {
    let app = TestApp::start().await;
    let planes = planes(&app, &app.other);
    for round in 0..100 {
        let service = app.service(80, round % 2 == 0).await;
        let mut body = endpoint_body(&service);
        body["port_ip"] = json!("10.0.0.9");
        let tasks = (0..4).map(|n| {
            call(
                planes[n % 2].clone(),
                "POST",
                ENDPOINTS.into(),
                Some(body.clone()),
            )
        });
        let won = winners(together(tasks).await, "2042");
        assert_eq!(won.len(), 1);
        app.other
            .delete(&format!("{ENDPOINTS}/{}", won[0]))
            .await
            .no_content();
        app.demo.remove_service(&service).await;
    }
    agrees(&app.running.app).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn an_endpoint_and_a_port_do_not_share_an_address() {
    let app = TestApp::start().await;
    let service = app.service(80, false).await;
    for _ in 0..100 {
        let mut order = endpoint_body(&service);
        order["port_ip"] = json!("10.0.0.9");
        let port = json!({"port": {"network_id": OTHER_SUBNET, "fixed_ips": [{"ip_address": "10.0.0.9"}]}});
        let tasks = [
            call(app.other.clone(), "POST", ENDPOINTS.into(), Some(order)),
            call(app.other.clone(), "POST", "/v2.0/ports".into(), Some(port)),
        ];
        let replies = together(tasks).await;
        match (replies[0].status, replies[1].status) {
            (200, 409) => {
                let path = format!("{ENDPOINTS}/{}", text(&replies[0].body["id"]));
                app.other.delete(&path).await.no_content();
            }
            (400, 201) => {
                assert_eq!(replies[0].refused(), (400, "2042"));
                let path = format!("/v2.0/ports/{}", text(&replies[1].body["port"]["id"]));
                app.other.delete(&path).await.no_content();
            }
            _ => panic!("{replies:?}"),
        }
    }
    agrees(&app.running.app).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_quota_is_filled_and_never_passed() {
    let app = TestApp::builder().quotas(20, 20).start().await;
    let planes_of_demo = planes(&app, &app.demo);
    for _ in 0..10 {
        let tasks = (0..30).map(|n| {
            call(
                planes_of_demo[usize::from(n) % 2].clone(),
                "POST",
                SERVICES.into(),
                Some(service_body(1 + n)),
            )
        });
        let won = winners(together(tasks).await, "1018");
        assert_eq!((won.len(), app.demo.used().await), (20, (0, 20)));
        for id in won {
            app.demo.remove_service(&id).await;
        }
        assert_eq!(app.demo.used().await, (0, 0));
    }
    let service = app.service(80, false).await;
    let planes_of_other = planes(&app, &app.other);
    for _ in 0..10 {
        let body = endpoint_body(&service);
        let tasks = (0..30).map(|n| {
            call(
                planes_of_other[n % 2].clone(),
                "POST",
                ENDPOINTS.into(),
                Some(body.clone()),
            )
        });
        let won = winners(together(tasks).await, "1018");
        assert_eq!((won.len(), app.other.used().await), (20, (20, 0)));
        let tasks = won
            .iter()
            .map(|id| call(app.other.clone(), "DELETE", format!("{ENDPOINTS}/{id}"), None));
        assert!(together(tasks).await.iter().all(|r| r.status == 204));
        assert_eq!(app.other.used().await, (0, 0));
    }
    agrees(&app.running.app).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn records_that_are_added_at_once_are_all_there() {
    let app = TestApp::start().await;
    let planes = planes(&app, &app.demo);
    let service = app.demo.service(80, true).await;
    let path = format!("{SERVICES}/{service}/permissions");
    let act = |action: &str, n: usize| {
        let body = json!({"permissions": [format!("iam:domain::d{n}")], "action": action});
        call(
            planes[n % 2].clone(),
            "POST",
            format!("{path}/action"),
            Some(body),
        )
    };
    for _ in 0..5 {
        for (action, total) in [("add", 64), ("remove", 0)] {
            for reply in together((0..64).map(|n| act(action, n))).await {
                reply.ok();
            }
            assert_eq!(app.demo.get(&path).await.ok()["total_count"], total);
        }
    }
    agrees(&app.running.app).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sixty_four_creates_on_one_backend_all_succeed() {
    let app = TestApp::builder().quotas(128, 128).start().await;
    let planes = planes(&app, &app.demo);
    let tasks = (0..64).map(|n| {
        call(
            planes[usize::from(n) % 2].clone(),
            "POST",
            SERVICES.into(),
            Some(service_body(1 + n)),
        )
    });
    assert_eq!(winners(together(tasks).await, "none").len(), 64);
    let state = |r: &Reply| {
        r.body["endpoint_services"]
            .as_array()
            .unwrap()
            .iter()
            .all(|s| s["status"] == "available")
    };
    let listed = app.demo.until(&format!("{SERVICES}?limit=100"), state).await;
    assert_eq!(listed["total_count"], 64);
    let claims = app
        .running
        .app
        .cache
        .read()
        .claims_of(&DEMO_PORT.parse().unwrap())
        .unwrap()
        .claims
        .len();
    assert_eq!(claims, 64);
    agrees(&app.running.app).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_endpoint_lives_on_a_service_that_is_gone() {
    let app = TestApp::start().await;
    let planes = planes(&app, &app.other);
    for round in 0..100 {
        let approval = round % 2 == 0;
        let service = app.service(80, approval).await;
        let path = format!("{SERVICES}/{service}");
        let mut tasks = vec![call(app.demo.clone(), "DELETE", path.clone(), None)];
        let order = |n: usize| {
            call(
                planes[n % 2].clone(),
                "POST",
                ENDPOINTS.into(),
                Some(endpoint_body(&service)),
            )
        };
        tasks.extend((0..6).map(order));
        let mut replies = together(tasks).await;
        let deleted = replies.remove(0);
        let mut made = Vec::new();
        for reply in replies {
            match reply.status {
                200 => made.push(text(&reply.body["id"])),
                _ => assert!(
                    [(400, "2003"), (400, "2004"), (400, "2012")].contains(&reply.refused()),
                    "{}",
                    reply.text
                ),
            }
        }
        if deleted.status == 204 {
            // Those who came first wait for nobody any more, and none of them was live.
            app.demo.until_gone(&path).await;
            assert!(approval || made.is_empty());
            for id in &made {
                let shown = app.other.get(&format!("{ENDPOINTS}/{id}")).await.ok();
                assert_eq!(shown["status"], "failed");
            }
        } else {
            assert_eq!(deleted.refused(), (400, "3006"));
            assert!(!approval && !made.is_empty());
        }
        for id in made {
            app.other.delete(&format!("{ENDPOINTS}/{id}")).await.no_content();
        }
        if deleted.status != 204 {
            app.demo.remove_service(&service).await;
        }
    }
    agrees(&app.running.app).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_endpoint_lives_in_a_subnet_that_is_gone() {
    let app = TestApp::start().await;
    let planes = planes(&app, &app.other);
    let service = app.service(80, false).await;
    for round in 0..90 {
        let (vpc, subnet) = app.other.vpc("10.9.0.0/16", "10.9.0.0/24").await;
        let shown = app.other.get(&format!("subnets/{subnet}")).await.ok();
        let range = text(&shown["subnet"]["neutron_subnet_id"]);
        let path = match round % 3 {
            0 => format!("/v2.0/networks/{subnet}"),
            1 => format!("/v2.0/subnets/{range}"),
            _ => format!("vpcs/{vpc}/subnets/{subnet}"),
        };
        let mut body = json!({"endpoint_service_id": service, "vpc_id": vpc, "subnet_id": subnet});
        if round % 2 == 0 {
            body["port_ip"] = json!("10.9.0.9");
        }
        let tasks = [
            call(app.other.clone(), "DELETE", path.clone(), None),
            call(planes[round % 2].clone(), "POST", ENDPOINTS.into(), Some(body)),
        ];
        let replies = together(tasks).await;
        match (replies[0].status, replies[1].status) {
            (204, 400 | 404) => {
                assert!(
                    [(404, "4004"), (400, "2037")].contains(&replies[1].refused()),
                    "{}",
                    replies[1].text
                );
            }
            (409, 200) => {
                let id = text(&replies[1].body["id"]);
                app.other
                    .until(&format!("{ENDPOINTS}/{id}"), |r| r.body["status"] == "accepted")
                    .await;
                app.other.delete(&format!("{ENDPOINTS}/{id}")).await.no_content();
                app.other.delete(&path).await.no_content();
            }
            _ => panic!("{replies:?}"),
        }
    }
    agrees(&app.running.app).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn decisions_and_deletions_at_once_leave_one_truth() {
    let app = TestApp::start().await;
    let planes = planes(&app, &app.demo);
    for round in 0..90 {
        let service = app.service(80, true).await;
        let endpoint = app.endpoint(&service, "pendingAcceptance").await;
        let decide = |n: usize, action: &str| {
            let body = json!({"action": action, "endpoints": [endpoint]});
            call(
                planes[n].clone(),
                "POST",
                format!("{SERVICES}/{service}/connections/action"),
                Some(body),
            )
        };
        let of_service = call(app.demo.clone(), "DELETE", format!("{SERVICES}/{service}"), None);
        let of_endpoint = call(
            app.other.clone(),
            "DELETE",
            format!("{ENDPOINTS}/{endpoint}"),
            None,
        );
        let replies = match round % 3 {
            0 => together([decide(0, "receive"), decide(1, "reject")].map(boxed)).await,
            1 => together([boxed(decide(0, "receive")), boxed(of_endpoint)]).await,
            _ => together([boxed(decide(0, "receive")), boxed(of_service)]).await,
        };
        for reply in &replies {
            // Each is done or told why not: on its way (2019, 2018, 2006), failed with its service (2047), or in use (3006).
            let told = [
                (400, "2019"),
                (400, "2018"),
                (404, "2006"),
                (400, "2047"),
                (400, "3006"),
                (404, "0005"),
            ];
            assert!(
                [200, 204].contains(&reply.status) || told.contains(&reply.refused()),
                "{}",
                reply.text
            );
        }
        if round % 3 == 2 {
            // Either the endpoint was accepted and keeps its service, or the service took it along.
            let kept = replies[1].status == 400;
            assert_eq!(kept, replies[0].status == 200, "{replies:?}");
        }
        agrees(&app.running.app).await;
        app.other.delete(&format!("{ENDPOINTS}/{endpoint}")).await;
        app.demo.delete(&format!("{SERVICES}/{service}")).await;
        agrees(&app.running.app).await;
    }
    assert_eq!((app.demo.used().await, app.other.used().await), ((0, 0), (0, 0)));
}

fn boxed<T>(
    task: impl Future<Output = T> + Send + 'static,
) -> std::pin::Pin<Box<dyn Future<Output = T> + Send>> {
    Box::pin(task)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_storm_of_everything_leaves_a_store_that_agrees_with_itself() {
    let app = TestApp::builder().quotas(30, 30).start().await;
    let tenants = [planes(&app, &app.demo), planes(&app, &app.other)];
    for round in 0..6_u16 {
        let tasks = (0..48_u16).map(|n| {
            let [demo, other] = [0, 1].map(|t: usize| tenants[t][usize::from(n) % 2].clone());
            async move {
                let mut body = service_body(1 + (n * 7 + round) % 24);
                body["approval_enabled"] = json!(n % 3 == 0);
                let made = demo.post(SERVICES, &body).await;
                if made.status != 200 {
                    return assert!(["3044", "1018"].contains(&made.refused().1), "{}", made.text);
                }
                let service = text(&made.body["id"]);
                let path = format!("{SERVICES}/{service}");
                demo.until(&path, |r| r.body["status"] == "available").await;
                let everybody = json!({"permissions": ["*"], "action": "add"});
                demo.post(&format!("{path}/permissions/action"), &everybody)
                    .await
                    .ok();
                let ordered = other.post(ENDPOINTS, &endpoint_body(&service)).await;
                let decide = json!({"action": "receive", "endpoints": [ordered.body["id"]]});
                match n % 4 {
                    0 => drop(demo.post(&format!("{path}/connections/action"), &decide).await),
                    1 => drop(demo.put(&path, &json!({"service_name": "x"})).await),
                    2 => drop(demo.delete(&path).await),
                    _ => {}
                }
                if let Some(id) = ordered.body["id"].as_str().filter(|_| n % 5 > 0) {
                    other.delete(&format!("{ENDPOINTS}/{id}")).await.no_content();
                }
                if n % 7 > 0 {
                    demo.delete(&path).await;
                }
            }
        });
        together(tasks).await;
        agrees(&app.running.app).await;
        for (client, what, list) in [
            (&app.other, ENDPOINTS, "endpoints"),
            (&app.demo, SERVICES, "endpoint_services"),
        ] {
            for item in app_items(client, what, list).await {
                client.delete(&format!("{what}/{item}")).await.no_content();
            }
        }
        agrees(&app.running.app).await;
        assert_eq!((app.demo.used().await, app.other.used().await), ((0, 0), (0, 0)));
    }
}

async fn app_items(client: &Client, what: &str, list: &str) -> Vec<String> {
    crate::service::ids(&client.get(&format!("{what}?limit=1000")).await.ok(), list)
}
