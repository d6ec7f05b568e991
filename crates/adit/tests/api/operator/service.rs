//! Whose parsers a service's PROXY header is for.

use adit_model::{
    feed::{EndpointReport, ProbedPort, Report},
    proxy::ProxyProfile,
    service::TcpProxy,
};
use adit_server::feed;
use serde_json::{Value, json};

use crate::app::{NOBODY, SERVICES, TestApp, service_body, text};

fn path(id: &str) -> String {
    format!("/admin/v1/services/{id}")
}

fn profile(profile: impl Into<Value>) -> Value {
    json!({"proxy_profile": profile.into()})
}

#[tokio::test]
async fn a_service_has_the_profile_that_the_operator_gives_it() {
    let app = TestApp::builder().modes(TcpProxy::ALL).start().await;
    let service = app.service(80, false).await;
    let endpoint = app.endpoint(&service, "accepted").await.parse().unwrap();
    let told = || {
        let spec = feed::specify(&app.running.app.cache.read(), &app.running.app.config, endpoint);
        spec.unwrap().proxy.profile
    };
    assert_eq!(told(), ProxyProfile::Vpcep);
    let owned = app.demo.get(&format!("{SERVICES}/{service}")).await.ok();
    for wanted in ProxyProfile::ALL {
        let shown = app
            .operator
            .put(&path(&service), &profile(wanted.as_str()))
            .await
            .ok();
        assert_eq!(shown["proxy_profile"], wanted.as_str());
        assert_eq!(app.operator.get(&path(&service)).await.ok(), shown);
        assert_eq!(told(), *wanted);
    }
    let shown = app
        .operator
        .put(&path(&service), &profile(Value::Null))
        .await
        .ok();
    assert_eq!((shown.get("proxy_profile"), told()), (None, ProxyProfile::Vpcep));
    let mut now = app.demo.get(&format!("{SERVICES}/{service}")).await.ok();
    now["updated_at"] = owned["updated_at"].clone();
    assert_eq!(now, owned, "its owner sees nothing of it");
}

#[tokio::test]
async fn a_profile_that_cannot_be_is_refused_and_changes_nothing() {
    let app = TestApp::builder().modes(TcpProxy::ALL).start().await;
    let mut body = service_body(80);
    body["tcp_proxy"] = json!("proxy_vni");
    let service = text(&app.demo.post(SERVICES, &body).await.ok()["id"]);
    app.demo
        .until(&format!("{SERVICES}/{service}"), |r| {
            r.body["status"] == "available"
        })
        .await;
    let before = app.operator.get(&path(&service)).await.ok();
    for (id, body, expected) in [
        (service.as_str(), json!({}), (400, "0002")),
        (&service, profile("haproxy"), (400, "0002")),
        (&service, profile(1), (400, "0002")),
        // A line of text cannot name the network that the mode is to tell.
        (&service, profile("v1"), (400, "0002")),
        (NOBODY, profile("aws"), (404, "0005")),
    ] {
        assert_eq!(
            app.operator.put(&path(id), &body).await.refused(),
            expected,
            "{id} {body}"
        );
    }
    assert_eq!(
        app.demo.put(&path(&service), &profile("aws")).await.refused(),
        (403, "0004")
    );
    assert_eq!(app.operator.get(&path(&service)).await.ok(), before);
    // And the other way round.
    app.demo
        .put(&format!("{SERVICES}/{service}"), &json!({"tcp_proxy": "close"}))
        .await
        .ok();
    app.operator.put(&path(&service), &profile("v1")).await.ok();
    let refused = app
        .demo
        .put(
            &format!("{SERVICES}/{service}"),
            &json!({"tcp_proxy": "proxy_vni"}),
        )
        .await;
    assert_eq!(refused.refused(), (400, "0002"));
}

#[tokio::test]
async fn a_backend_that_is_away_is_told_and_changes_no_status() {
    let app = TestApp::start().await;
    let service = app.service(80, false).await;
    let endpoint = app.endpoint(&service, "accepted").await;
    let report = |fault: Option<&str>| Report {
        id: endpoint.parse().unwrap(),
        status: EndpointReport::Backend {
            ports: vec![ProbedPort {
                port: 80,
                fault: fault.map(str::to_owned),
            }],
        },
    };
    let owned = format!("{SERVICES}/{service}");
    let before = app.demo.get(&owned).await.ok();
    let feed = &app.running.app.feed;
    let node = "here".parse().unwrap();
    feed.report(&node, report(Some("backend_refused")));
    let expected = json!([{"server_port": 80, "fault": "backend_refused"}]);
    let shown = app.demo.get(&owned).await.ok();
    assert_eq!(
        (&shown["backend_health"], &shown["status"]),
        (&expected, &json!("available"))
    );
    assert_eq!(
        app.operator.get(&path(&service)).await.ok()["backend_health"],
        expected
    );

    feed.report(&node, report(None));
    assert_eq!(
        app.demo.get(&owned).await.ok(),
        before,
        "its owner hears of faults alone"
    );
    let shown = app.operator.get(&path(&service)).await.ok();
    assert_eq!(shown["backend_health"], json!([{"server_port": 80}]));
}
