//! Connections: endpoints as the owner of their service sees them (spec A.9, A.10).

use serde_json::{Value, json};

use crate::{
    app::{
        DEMO_SUBNET, DEMO_VPC, ENDPOINTS, NOBODY, OTHER_DOMAIN, SERVICES, TestApp, endpoint_body,
        service_body, text,
    },
    service::{bad_parameters, ids},
};

#[tokio::test]
async fn accepting_gives_the_endpoint_its_address_and_rejecting_keeps_it() {
    let app = TestApp::start().await;
    let service = app.service(80, true).await;
    let endpoint = app.endpoint(&service, "pendingAcceptance").await;
    let path = format!("{ENDPOINTS}/{endpoint}");
    let before = app.other.get(&path).await.ok();
    assert!(before.get("ip").is_none());

    // The reply shows the new state already; so does everything that is asked after it.
    let decided = app.decide(&service, "receive", &endpoint).await.ok();
    let connection = decided["connections"][0].clone();
    assert_eq!(decided, json!({"connections": [connection]}));
    let expected = json!({
        "id": endpoint, "marker_id": before["marker_id"], "domain_id": OTHER_DOMAIN, "status": "accepted",
        "created_at": before["created_at"], "updated_at": connection["updated_at"], "description": "",
    });
    assert_eq!(connection, expected);
    let shown = app.other.get(&path).await.ok();
    assert_eq!(shown["status"], "accepted");
    let ip = text(&shown["ip"]);

    // Again is no error and no change.
    assert_eq!(app.decide(&service, "receive", &endpoint).await.ok(), decided);
    let list = app
        .demo
        .get(&format!("{SERVICES}/{service}/connections"))
        .await
        .ok();
    assert_eq!(list, json!({"connections": [expected], "total_count": 1}));

    for _ in 0..2 {
        let decided = app.decide(&service, "reject", &endpoint).await.ok();
        assert_eq!(decided["connections"][0]["status"], "rejected");
        let shown = app.other.get(&path).await.ok();
        assert_eq!((&shown["status"], &shown["ip"]), (&json!("rejected"), &json!(ip)));
        assert_eq!(
            app.demo.get(&format!("{SERVICES}/{service}")).await.ok()["connection_count"],
            0
        );
    }
    let decided = app.decide(&service, "receive", &endpoint).await.ok();
    assert_eq!(decided["connections"][0]["status"], "accepted");
    assert_eq!(app.other.get(&path).await.ok()["ip"], ip.as_str());
}

#[tokio::test]
async fn one_that_was_rejected_before_it_was_accepted_never_had_an_address() {
    let app = TestApp::start().await;
    let service = app.service(80, true).await;
    let mut body = endpoint_body(&service);
    body["port_ip"] = json!("10.0.0.9");
    let endpoint = text(&app.other.post(ENDPOINTS, &body).await.ok()["id"]);
    app.decide(&service, "reject", &endpoint).await.ok();
    let shown = app.other.get(&format!("{ENDPOINTS}/{endpoint}")).await.ok();
    assert_eq!(shown["status"], "rejected");
    assert!(shown.get("ip").is_none());
    let decided = app.decide(&service, "receive", &endpoint).await.ok();
    assert_eq!(decided["connections"][0]["status"], "accepted");
    let shown = app.other.get(&format!("{ENDPOINTS}/{endpoint}")).await.ok();
    assert_eq!(shown["ip"], "10.0.0.9");
}

#[tokio::test]
async fn every_rule_of_a_decision_has_its_code() {
    let app = TestApp::start().await;
    let service = app.service(80, true).await;
    let elsewhere = app.service(81, true).await;
    let endpoint = app.endpoint(&service, "pendingAcceptance").await;
    let theirs = app.endpoint(&elsewhere, "pendingAcceptance").await;
    let path = format!("{SERVICES}/{service}/connections/action");
    let before = app.other.world().await;
    let of = |action: &str, endpoints: Value| json!({"action": action, "endpoints": endpoints});
    for (body, expected) in [
        (json!({"endpoints": [endpoint]}), (400, "2027")),
        (of("accept", json!([endpoint])), (400, "2027")),
        (of("Receive", json!([endpoint])), (400, "2027")),
        (json!({"action": 1, "endpoints": [endpoint]}), (400, "2027")),
        (json!({"action": "receive"}), (400, "2002")),
        (of("receive", json!([])), (400, "2002")),
        (of("receive", json!(endpoint)), (400, "0002")),
        (of("receive", json!([endpoint, theirs])), (400, "2031")),
        (of("receive", json!([endpoint, endpoint])), (400, "2031")),
        (of("receive", json!(["x"])), (400, "2017")),
        (of("receive", json!([1])), (400, "2017")),
        (of("reject", json!([NOBODY])), (404, "2006")),
        (of("reject", json!([theirs])), (400, "2013")),
    ] {
        let reply = app.demo.post(&path, &body).await;
        assert_eq!(reply.refused(), expected, "{body}");
        assert_eq!(app.other.world().await, before, "{body}");
    }
    // The endpoint's own tenant does not decide.
    let reply = app.other.post(&path, &of("receive", json!([endpoint]))).await;
    assert_eq!(reply.refused(), (404, "0005"));
}

#[tokio::test]
async fn an_endpoint_on_its_way_cannot_be_decided_on() {
    let app = TestApp::start().await;
    let service = app.service(80, true).await;
    let open = app.service(81, false).await;
    let waiting = app.endpoint(&service, "pendingAcceptance").await;
    let TestApp {
        running,
        demo,
        other,
        viewer,
        operator,
    } = app;
    let (router, stack) = (running.router.clone(), running.app.clone());
    // Without reconcilers, what is on its way stays there.
    running.stop().await.unwrap();
    let creating = text(&other.post(ENDPOINTS, &endpoint_body(&open)).await.ok()["id"]);
    other.delete(&format!("{ENDPOINTS}/{waiting}")).await.no_content();
    for (service, endpoint, code) in [(&open, &creating, "2019"), (&service, &waiting, "2018")] {
        for action in ["receive", "reject"] {
            let body = json!({"action": action, "endpoints": [endpoint]});
            let path = format!("{SERVICES}/{service}/connections/action");
            assert_eq!(demo.post(&path, &body).await.refused(), (400, code), "{action}");
        }
    }
    let shown = other.get(&format!("{ENDPOINTS}/{waiting}")).await.ok();
    assert_eq!(shown["status"], "deleting");
    let list = demo
        .get(&format!("{SERVICES}/{service}/connections?status=deleting"))
        .await
        .ok();
    assert_eq!(
        (&list["total_count"], ids(&list, "connections")),
        (&json!(1), vec![waiting.clone()])
    );
    let list = demo
        .get(&format!("{SERVICES}/{open}/connections?status=creating"))
        .await
        .ok();
    assert_eq!(ids(&list, "connections"), [creating]);

    // One whose service is `deleting` is not decided on any more, and the service is not written to.
    let path = format!("{SERVICES}/{service}");
    let late = text(&other.post(ENDPOINTS, &endpoint_body(&service)).await.ok()["id"]);
    demo.delete(&path).await.no_content();
    demo.delete(&path).await.no_content();
    assert_eq!(demo.get(&path).await.ok()["status"], "deleting");
    let list = demo.get(&format!("{SERVICES}?status=deleting")).await.ok();
    assert_eq!(ids(&list, "endpoint_services"), [&*service]);
    let body = json!({"action": "receive", "endpoints": [late]});
    let refused = demo.post(&format!("{path}/connections/action"), &body).await;
    assert_eq!(refused.refused(), (404, "0005"));
    let body = json!({"permissions": ["*"], "action": "add"});
    let refused = demo.post(&format!("{path}/permissions/action"), &body).await;
    assert_eq!(refused.refused(), (404, "0005"));
    assert_eq!(
        demo.put(&path, &json!({"description": "x"})).await.refused(),
        (400, "3045")
    );
    assert_eq!(
        other.post(ENDPOINTS, &endpoint_body(&service)).await.refused(),
        (400, "2004")
    );
    drop((router, stack, viewer, operator));
}

#[tokio::test]
async fn a_failed_endpoint_cannot_be_decided_on() {
    let app = TestApp::start().await;
    let service = app.service(80, false).await;
    // The subnet has room for its router and one endpoint.
    let (vpc, subnet) = app.other.vpc("10.9.0.0/30", "10.9.0.0/30").await;
    let body = json!({"endpoint_service_id": service, "vpc_id": vpc, "subnet_id": subnet});
    let first = text(&app.other.post(ENDPOINTS, &body).await.ok()["id"]);
    app.other
        .until(&format!("{ENDPOINTS}/{first}"), |r| {
            r.body["status"] == "accepted"
        })
        .await;
    let second = text(&app.other.post(ENDPOINTS, &body).await.ok()["id"]);
    let shown = app
        .other
        .until(&format!("{ENDPOINTS}/{second}"), |r| r.body["status"] == "failed")
        .await;
    assert_eq!(shown["error"][0]["error_code"], "EndPoint.2022");
    for action in ["receive", "reject"] {
        assert_eq!(
            app.decide(&service, action, &second).await.refused(),
            (400, "2047")
        );
    }
    let list = app
        .demo
        .get(&format!("{SERVICES}/{service}/connections?status=failed"))
        .await
        .ok();
    assert_eq!(list["total_count"], 1);
    assert_eq!(list["connections"][0]["error"], shown["error"]);
}

#[tokio::test]
async fn lists_are_filtered_sorted_and_cut_as_asked() {
    let app = TestApp::start().await;
    let service = app.service(80, true).await;
    let mut made = Vec::new();
    for _ in 0..10 {
        made.push(app.endpoint(&service, "pendingAcceptance").await);
    }
    let own = json!({"endpoint_service_id": service, "vpc_id": DEMO_VPC, "subnet_id": DEMO_SUBNET});
    made.push(text(&app.demo.post(ENDPOINTS, &own).await.ok()["id"]));
    app.demo.post(SERVICES, &service_body(81)).await.ok();
    app.decide(&service, "receive", &made[2]).await.ok();
    app.decide(&service, "reject", &made[3]).await.ok();
    let newest: Vec<String> = made.iter().rev().cloned().collect();
    let marker = app.other.get(&format!("{ENDPOINTS}/{}", made[6])).await.ok()["marker_id"].to_string();
    for (query, expected, total) in [
        (String::new(), &newest[..10], 11),
        ("limit=0".to_owned(), &[][..], 11),
        ("limit=1000".to_owned(), &newest[..], 11),
        ("limit=2&offset=9".to_owned(), &newest[9..], 11),
        ("offset=11".to_owned(), &[][..], 11),
        ("limit=11&sort_dir=asc".to_owned(), &made[..], 11),
        ("status=accepted".to_owned(), &made[2..3], 1),
        ("status=rejected".to_owned(), &made[3..4], 1),
        ("status=pendingAcceptance&limit=2".to_owned(), &newest[..2], 9),
        ("status=failed".to_owned(), &[][..], 0),
        (format!("id={}", made[5]), &made[5..6], 1),
        (format!("marker_id={marker}"), &made[6..7], 1),
        ("marker_id=0".to_owned(), &[][..], 0),
        ("marker_id=99999999999999999999".to_owned(), &[][..], 0),
        (format!("marker_id={marker}&id={}", made[5]), &[][..], 0),
        ("id=&marker_id=&status=&limit=1".to_owned(), &newest[..1], 11),
    ] {
        let reply = app
            .demo
            .get(&format!("{SERVICES}/{service}/connections?{query}"))
            .await
            .ok();
        assert_eq!(ids(&reply, "connections"), expected, "{query}");
        assert_eq!(reply["total_count"], total, "{query}");
    }
    for (query, code) in bad_parameters().into_iter().chain([
        ("id=x", "2017"),
        ("marker_id=x", "0021"),
        ("marker_id=-1", "0021"),
        ("marker_id=1.5", "0021"),
        ("status=pending", "0019"),
    ]) {
        let reply = app
            .demo
            .get(&format!("{SERVICES}/{service}/connections?{query}"))
            .await;
        assert_eq!(reply.refused(), (400, code), "{query}");
    }
}
