//! Freezing accounts, and what their endpoints and others see of it.

use serde_json::{Value, json};

use crate::app::{ENDPOINTS, OTHER_DOMAIN, SERVICES, TestApp, endpoint_body, text};

const FROZEN: &str = "fb3f1c2d4e5b60718293a4b5c6d7e8f9";

fn path(account: &str) -> String {
    format!("/admin/v1/accounts/{account}")
}

async fn set(app: &TestApp, account: &str, words: Value) -> Value {
    app.operator
        .put(&path(account), &json!({"active_status": words}))
        .await
        .ok()
}

#[tokio::test]
async fn a_frozen_account_s_endpoints_show_it_and_take_no_action() {
    let app = TestApp::start().await;
    let service = app.service(80, true).await;
    let waiting = app.endpoint(&service, "pendingAcceptance").await;
    let accepted = app.endpoint(&service, "pendingAcceptance").await;
    app.decide(&service, "receive", &accepted).await.ok();
    let reply = set(&app, OTHER_DOMAIN, json!(["police_frozen", "arrear_frozen"])).await;
    let expected = json!({
        "domain_id": OTHER_DOMAIN, "active_status": ["arrear_frozen", "police_frozen"], "services": 0, "endpoints": 2,
        "updated_at": reply["updated_at"],
    });
    assert_eq!(reply, expected);
    assert_eq!(app.operator.get(&path(OTHER_DOMAIN)).await.ok(), expected);
    for id in [&waiting, &accepted] {
        let shown = app.other.get(&format!("{ENDPOINTS}/{id}")).await.ok();
        assert_eq!(shown["active_status"], json!(["arrear_frozen", "police_frozen"]));
        assert_eq!(shown["enable_status"], "enable");
        for action in ["receive", "reject"] {
            assert_eq!(
                app.decide(&service, action, id).await.refused(),
                (400, "2015"),
                "{action}"
            );
        }
        let body = json!({"enable_whitelist": true});
        let reply = app.other.put(&format!("{ENDPOINTS}/{id}"), &body).await;
        assert_eq!(reply.refused(), (400, "2015"));
    }
    // What state they are in is another thing, and they can go.
    let shown = app.other.get(&format!("{ENDPOINTS}/{accepted}")).await.ok();
    assert_eq!(shown["status"], "accepted");
    let fresh = app.other.post(ENDPOINTS, &endpoint_body(&service)).await.ok();
    assert_eq!(fresh["active_status"], json!(["arrear_frozen", "police_frozen"]));
    app.other
        .delete(&format!("{ENDPOINTS}/{}", text(&fresh["id"])))
        .await
        .no_content();

    let reply = set(&app, OTHER_DOMAIN, json!(["active"])).await;
    assert_eq!(reply["active_status"], json!(["active"]));
    let shown = app.other.get(ENDPOINTS).await.ok();
    for endpoint in shown["endpoints"].as_array().unwrap() {
        assert_eq!(endpoint["active_status"], json!(["active"]));
    }
    let decided = app.decide(&service, "receive", &waiting).await.ok();
    assert_eq!(decided["connections"][0]["status"], "accepted");
}

#[tokio::test]
async fn accounts_are_listed_that_have_something_or_are_frozen() {
    let app = TestApp::start().await;
    let service = app.service(80, true).await;
    app.endpoint(&service, "pendingAcceptance").await;
    set(&app, FROZEN, json!(["partner_frozen"])).await;
    // The fourth is the region's operator, whose services are everybody's.
    let list = app.operator.get("/admin/v1/accounts").await.ok();
    assert_eq!(list["total_count"], 4);
    let of = |id: &str| {
        let accounts = list["accounts"].as_array().unwrap();
        accounts.iter().find(|a| a["domain_id"] == id).unwrap().clone()
    };
    let other = of(OTHER_DOMAIN);
    assert_eq!((&other["services"], &other["endpoints"]), (&json!(0), &json!(1)));
    assert_eq!(other["active_status"], json!(["active"]));
    assert!(other.get("updated_at").is_none());
    assert_eq!(of(FROZEN)["active_status"], json!(["partner_frozen"]));
    for (query, count) in [
        (format!("domain_id={FROZEN}"), 1),
        ("domain_id=nobody".to_owned(), 0),
        (format!("project_id={}", app.demo.project), 1),
        ("limit=1".to_owned(), 4),
    ] {
        let list = app
            .operator
            .get(&format!("/admin/v1/accounts?{query}"))
            .await
            .ok();
        assert_eq!(list["total_count"], count, "{query}");
    }
    let cut = app.operator.get("/admin/v1/accounts?limit=1&offset=1").await.ok();
    assert_eq!(cut["accounts"], json!([list["accounts"][1]]));
}

#[tokio::test]
async fn a_bad_word_is_refused_and_changes_nothing() {
    let app = TestApp::start().await;
    let service = app.demo.service(80, true).await;
    let before = app.operator.get(&path(OTHER_DOMAIN)).await.ok();
    for (body, code) in [
        (json!({}), "2002"),
        (json!({"active_status": []}), "2002"),
        (json!({"active_status": "active"}), "0002"),
        (json!({"active_status": ["frozen"]}), "0002"),
        (json!({"active_status": ["active", "police_frozen"]}), "0002"),
        (json!([]), "1004"),
    ] {
        let reply = app.operator.put(&path(OTHER_DOMAIN), &body).await;
        assert_eq!(reply.refused(), (400, code), "{body}");
    }
    assert_eq!(app.operator.get(&path(OTHER_DOMAIN)).await.ok(), before);
    for bad in ["a%20b", &"a".repeat(65), "%FF"] {
        assert_eq!(
            app.operator.get(&path(bad)).await.refused(),
            (400, "0002"),
            "{bad}"
        );
    }
    for query in ["domain_id=a%20b", "project_id=x", "limit=1001", "offset=-1"] {
        let reply = app.operator.get(&format!("/admin/v1/accounts?{query}")).await;
        assert_eq!(reply.status, 400, "{query}");
    }
    // The account's services go on.
    app.demo.get(&format!("{SERVICES}/{service}")).await.ok();
}
