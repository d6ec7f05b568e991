//! What every request passes: unknown paths and methods, bodies, ids of requests (spec 0.2).

use axum::body::Body;
use serde_json::json;

use crate::app::{DEMO_PROJECT, ENDPOINTS, NOBODY, Reply, SERVICES, TestApp, service_body};

/// The id that a reply names itself by.
fn id(reply: &Reply) -> &str {
    reply.headers.get("x-request-id").unwrap().to_str().unwrap()
}

#[tokio::test]
async fn unknown_paths_and_methods_are_answered_in_the_usual_form() {
    let app = TestApp::start().await;
    for path in [
        "/nothing".to_owned(),
        "/v1/".to_owned() + DEMO_PROJECT,
        format!("/v1/{DEMO_PROJECT}/nothing"),
        format!("/v1/{DEMO_PROJECT}/{SERVICES}/"),
        format!("/v1/{DEMO_PROJECT}/{SERVICES}/{NOBODY}/nothing"),
        format!("/v1/{DEMO_PROJECT}//{ENDPOINTS}"),
    ] {
        for method in ["GET", "POST", "PUT", "DELETE", "PATCH"] {
            let reply = app.demo.send(method, &path, None).await;
            assert_eq!(reply.refused(), (404, "0005"), "{method} {path}");
        }
    }
    for (method, path) in [
        ("PATCH", SERVICES.to_owned()),
        ("DELETE", SERVICES.to_owned()),
        ("PUT", ENDPOINTS.to_owned()),
        ("POST", format!("{SERVICES}/{NOBODY}")),
        ("PATCH", format!("{ENDPOINTS}/{NOBODY}")),
        ("GET", format!("{SERVICES}/{NOBODY}/connections/action")),
        ("POST", format!("{SERVICES}/{NOBODY}/permissions")),
        ("POST", "quotas".to_owned()),
        ("POST", "/".to_owned()),
        ("DELETE", "/v1".to_owned()),
        ("POST", "/openapi.json".to_owned()),
    ] {
        let reply = app.demo.send(method, &path, None).await;
        assert_eq!(reply.refused(), (405, "0002"), "{method} {path}");
        assert!(reply.headers.contains_key("allow"), "{method} {path}");
    }
}

#[tokio::test]
async fn a_body_is_a_json_object_of_at_most_one_mebibyte() {
    const MIB: usize = 1024 * 1024;
    let app = TestApp::start().await;
    let service = app.demo.service(80, true).await;
    let big = |size: usize| {
        let head = json!({"description": "ok", "ignored": ""}).to_string();
        let (start, end) = head.split_at(head.len() - 2);
        format!("{start}{}{end}", "x".repeat(size - head.len()))
    };
    for (method, path) in [
        ("POST", SERVICES.to_owned()),
        ("PUT", format!("{SERVICES}/{service}")),
        ("POST", format!("{SERVICES}/{service}/connections/action")),
        ("POST", format!("{SERVICES}/{service}/permissions/action")),
        ("POST", ENDPOINTS.to_owned()),
    ] {
        for bad in [
            "",
            " ",
            "{",
            "[]",
            "[{}]",
            "null",
            "1",
            "\"x\"",
            "{}x",
            "{'a':1}",
            &big(MIB + 1),
        ] {
            let request = app
                .demo
                .request(method, &path)
                .body(Body::from(bad.to_owned()))
                .unwrap();
            let reply = app.demo.send_raw(request).await;
            assert_eq!(reply.refused(), (400, "1004"), "{method} {path} {bad:.10}");
        }
        // No text at all, but not in UTF-8 either.
        let request = app
            .demo
            .request(method, &path)
            .body(Body::from(vec![b'{', 0xff, b'}']))
            .unwrap();
        assert_eq!(app.demo.send_raw(request).await.refused(), (400, "1004"));
    }
    let request = app.demo.request("PUT", &format!("{SERVICES}/{service}"));
    let reply = app
        .demo
        .send_raw(request.body(Body::from(big(MIB))).unwrap())
        .await;
    assert_eq!(reply.ok()["description"], "ok");
    // What the client says of the body's type does not matter; a deep one is refused, not followed.
    let request = app
        .demo
        .request("POST", SERVICES)
        .header("content-type", "text/plain");
    let reply = app
        .demo
        .send_raw(request.body(Body::from(service_body(81).to_string())).unwrap())
        .await;
    reply.ok();
    let deep = format!("{{\"ports\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    let request = app.demo.request("POST", SERVICES).body(Body::from(deep)).unwrap();
    assert_eq!(app.demo.send_raw(request).await.refused(), (400, "1004"));
}

#[tokio::test]
async fn every_reply_has_a_request_id() {
    let app = TestApp::start().await;
    let nobody = app.demo.with_token(None);
    let replies = [
        app.demo.get(SERVICES).await,
        app.demo.get(&format!("{SERVICES}/{NOBODY}")).await,
        app.demo.post(SERVICES, &json!({})).await,
        nobody.get(SERVICES).await,
        nobody.get("/").await,
        nobody.get("/nothing").await,
        nobody.send("PATCH", SERVICES, None).await,
        app.demo.get("vpcs").await,
        app.demo.get("/openapi.json").await,
        app.demo.delete(&format!("{ENDPOINTS}/{NOBODY}")).await,
        app.demo.get("/v1/%FF/vpc-endpoints").await,
    ];
    let ids: std::collections::BTreeSet<&str> = replies.iter().map(id).collect();
    assert_eq!(ids.len(), replies.len());

    // The client's own, where it can be printed.
    let own = async |value: &[u8]| {
        let request = nobody.request("GET", "/").header("x-request-id", value);
        id(&app.demo.send_raw(request.body(Body::empty()).unwrap()).await).to_owned()
    };
    let long = "a".repeat(64);
    for fit in ["req-1", long.as_str()] {
        assert_eq!(own(fit.as_bytes()).await, fit);
    }
    for unfit in ["", "a b", "a\tb", "\u{fc}", &"a".repeat(65)] {
        let given = own(unfit.as_bytes()).await;
        assert!(given != unfit && given.len() == 36, "{unfit}: {given}");
    }
}

#[tokio::test]
async fn a_query_is_decoded_and_never_breaks_the_reply_s_form() {
    let app = TestApp::start().await;
    app.demo.service(80, true).await;
    let total =
        async |query: &str| app.demo.get(&format!("{SERVICES}?{query}")).await.ok()["total_count"].take();
    assert_eq!(total("endpoint_service_name=eu%2Dde").await, 1);
    assert_eq!(
        total("endpoint_service_name=eu-de&endpoint_service_name=x").await,
        1
    );
    assert_eq!(total("&&=&a&%20=1").await, 1);
    for odd in [
        "endpoint_service_name=%FF%FE",
        "endpoint_service_name=%",
        "limit=%00",
        "%FF=%FF",
        "limit=1&limit=x",
    ] {
        let reply = app.demo.get(&format!("{SERVICES}?{odd}")).await;
        if reply.status != 200 {
            assert_eq!(reply.refused().0, 400, "{odd} {}", reply.text);
        }
    }
    let reply = app.demo.get(&format!("{SERVICES}/%FF")).await;
    assert_eq!(reply.refused(), (400, "3062"));
    let reply = app.demo.get(&format!("{ENDPOINTS}/%FF%00")).await;
    assert_eq!(reply.refused(), (400, "2017"));
}

#[tokio::test]
async fn a_defect_of_ours_is_answered_and_ends_nothing_else() {
    use axum::{Router, http::Request, routing::get};
    use tower::ServiceExt;

    async fn defect() -> &'static str {
        panic!("on purpose")
    }

    let router = Router::new()
        .route("/defect", get(defect))
        .route("/fine", get(async || "fine"));
    let router = adit_server::edge::finish(router);
    for (path, status) in [("/defect", 500), ("/fine", 200), ("/defect", 500)] {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let reply = router.clone().oneshot(request).await.unwrap();
        assert_eq!(reply.status(), status);
        assert!(reply.headers().contains_key("x-request-id"));
    }
}
