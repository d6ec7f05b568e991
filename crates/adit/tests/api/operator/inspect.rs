//! The operator's look at everything, whosever it is.

use serde_json::{Value, json};

use crate::{
    app::{
        DEMO_PROJECT, DEMO_VPC, ENDPOINTS, NOBODY, OTHER_DOMAIN, OTHER_PROJECT, OTHER_VPC, SERVICES, TestApp,
        text,
    },
    service::{bad_parameters, ids},
};

async fn list(app: &TestApp, noun: &str, query: &str) -> Value {
    app.operator.get(&format!("/admin/v1/{noun}?{query}")).await.ok()
}

#[tokio::test]
async fn services_of_all_projects_are_found() {
    let app = TestApp::start().await;
    let one = app.demo.service(80, true).await;
    let two = app.demo.service(81, true).await;
    // The region's own are among them.
    let all = ids(&list(&app, "services", "limit=1000").await, "services");
    assert!(all.contains(&one) && all.contains(&two));
    let newest = list(&app, "services", &format!("project_id={DEMO_PROJECT}")).await;
    assert_eq!(
        (ids(&newest, "services"), &newest["total_count"]),
        (vec![two.clone(), one.clone()], &json!(2))
    );
    // As the owner's list has it, and whether it is the operator's.
    let mut own = app.demo.get(&format!("{SERVICES}?id={one}")).await.ok();
    own["endpoint_services"][0]["public"] = json!(false);
    assert_eq!(newest["services"][1], own["endpoint_services"][0]);
    let public = list(&app, "services", "public=true").await;
    let names: Vec<_> = public["services"].as_array().unwrap().iter().collect();
    assert!(!names.is_empty() && names.iter().all(|s| s["public"] == true && s["owner"] == "OTC"));
    let reply = app.operator.get("/admin/v1/services?public=yes").await;
    assert_eq!(reply.refused(), (400, "0002"));
    for (query, expected) in [
        (format!("id={one}"), vec![&one]),
        (
            format!("endpoint_service_name={}", one.to_uppercase()),
            vec![&one],
        ),
        (format!("vpc_id={DEMO_VPC}&sort_dir=asc"), vec![&one, &two]),
        (format!("project_id={DEMO_PROJECT}&limit=1&offset=1"), vec![&one]),
        (format!("project_id={DEMO_PROJECT}&status=failed"), vec![]),
        (format!("domain_id={OTHER_DOMAIN}"), vec![]),
        ("public=false&sort_dir=asc".to_owned(), vec![&one, &two]),
        (format!("project_id={DEMO_PROJECT}&pool_id={NOBODY}"), vec![]),
    ] {
        let found = ids(&list(&app, "services", &query).await, "services");
        assert_eq!(found.iter().collect::<Vec<_>>(), expected, "{query}");
    }
    let shown = app.operator.get(&format!("/admin/v1/services/{one}")).await.ok();
    assert_eq!(shown, newest["services"][1]);
    let reply = app.operator.get(&format!("/admin/v1/services/{NOBODY}")).await;
    assert_eq!(reply.refused(), (404, "0005"));
}

#[tokio::test]
async fn endpoints_and_connections_of_all_projects_are_found() {
    let app = TestApp::start().await;
    let (service, open) = (app.service(80, true).await, app.service(81, false).await);
    let waiting = app.endpoint(&service, "pendingAcceptance").await;
    let accepted = app.endpoint(&open, "accepted").await;
    let all = list(&app, "endpoints", "").await;
    assert_eq!(ids(&all, "endpoints"), [accepted.clone(), waiting.clone()]);
    let shown = app
        .operator
        .get(&format!("/admin/v1/endpoints/{accepted}"))
        .await
        .ok();
    assert_eq!(shown, all["endpoints"][0]);
    // What its owner sees, and more.
    let own = app.other.get(&format!("{ENDPOINTS}/{accepted}")).await.ok();
    for (field, value) in own.as_object().unwrap() {
        assert_eq!(shown[field], *value, "{field}");
    }
    assert_eq!(shown["domain_id"], OTHER_DOMAIN);
    assert_eq!(shown["service_project_id"], DEMO_PROJECT);
    assert!(text(&shown["source_ip"]).starts_with("198.19."), "{shown}");
    for (query, expected) in [
        (format!("project_id={OTHER_PROJECT}"), 2),
        (format!("project_id={DEMO_PROJECT}"), 0),
        (format!("endpoint_service_id={service}"), 1),
        (format!("endpoint_service_name={open}"), 1),
        ("status=accepted".to_owned(), 1),
        (format!("vpc_id={OTHER_VPC}"), 2),
        ("enable_status=disable".to_owned(), 0),
        ("enable_status=enable".to_owned(), 2),
        (format!("id={waiting}"), 1),
    ] {
        assert_eq!(
            list(&app, "endpoints", &query).await["total_count"],
            expected,
            "{query}"
        );
    }

    let connections = list(&app, "connections", &format!("project_id={DEMO_PROJECT}")).await;
    assert_eq!(
        ids(&connections, "connections"),
        [accepted.clone(), waiting.clone()]
    );
    let first = &connections["connections"][0];
    assert_eq!(
        (&first["endpoint_service_id"], &first["service_project_id"]),
        (&json!(open), &json!(DEMO_PROJECT))
    );
    let marker = &first["marker_id"];
    for (query, expected) in [
        (format!("endpoint_service_id={service}"), 1),
        (format!("marker_id={marker}"), 1),
        ("status=pendingAcceptance".to_owned(), 1),
        (format!("project_id={OTHER_PROJECT}"), 0),
    ] {
        assert_eq!(
            list(&app, "connections", &query).await["total_count"],
            expected,
            "{query}"
        );
    }

    let records = list(&app, "permissions", &format!("endpoint_service_id={open}")).await;
    let record = &records["permissions"][0];
    assert_eq!(record["permission"], format!("iam:domain::{OTHER_DOMAIN}"));
    assert_eq!(
        (&record["endpoint_service_id"], &record["project_id"]),
        (&json!(open), &json!(DEMO_PROJECT))
    );
    for (query, expected) in [
        ("permission=nobody", 0),
        ("permission=iam:domain", 2),
        ("limit=1", 2),
    ] {
        assert_eq!(
            list(&app, "permissions", query).await["total_count"],
            expected,
            "{query}"
        );
    }
}

#[tokio::test]
async fn vpcs_and_projects_say_how_much_is_in_them() {
    let app = TestApp::start().await;
    let service = app.service(80, true).await;
    app.endpoint(&service, "pendingAcceptance").await;
    let shown = app
        .operator
        .get(&format!("/admin/v1/vpcs/{OTHER_VPC}"))
        .await
        .ok();
    let expected = json!({
        "id": OTHER_VPC, "project_id": OTHER_PROJECT, "name": "vpc-other", "cidr": "10.0.0.0/24", "subnets": 1,
        "services": 0, "endpoints": 1, "created_at": shown["created_at"],
    });
    assert_eq!(shown, expected);
    let mine = list(&app, "vpcs", &format!("project_id={OTHER_PROJECT}")).await;
    assert_eq!(mine["vpcs"], json!([shown]));
    let one = list(&app, "vpcs", &format!("id={DEMO_VPC}")).await;
    assert_eq!(
        (&one["vpcs"][0]["services"], &one["total_count"]),
        (&json!(1), &json!(1))
    );
    let reply = app.operator.get(&format!("/admin/v1/vpcs/{NOBODY}")).await;
    assert_eq!(reply.refused(), (404, "0005"));

    let projects = list(&app, "projects", &format!("project_id={OTHER_PROJECT}")).await;
    let expected = json!({"projects": [{
        "project_id": OTHER_PROJECT, "domain_id": OTHER_DOMAIN, "endpoint": {"used": 1, "quota": 50},
        "endpoint_service": {"used": 0, "quota": 20},
    }], "total_count": 1});
    assert_eq!(projects, expected);
}

#[tokio::test]
async fn a_bad_filter_has_its_code() {
    let app = TestApp::start().await;
    for noun in ["services", "endpoints", "connections", "vpcs"] {
        for (query, code) in bad_parameters() {
            let reply = app.operator.get(&format!("/admin/v1/{noun}?{query}")).await;
            assert_eq!(reply.refused(), (400, code), "{noun} {query}");
        }
    }
    for (path, code) in [
        ("services?id=x", "3062"),
        ("services?status=x", "0019"),
        ("services?pool_id=x", "0002"),
        ("services?endpoint_service_name=%3C", "1003"),
        ("endpoints?id=x", "2017"),
        ("endpoints?vpc_id=x", "0020"),
        ("endpoints?enable_status=on", "0019"),
        ("endpoints?endpoint_service_id=x", "3062"),
        ("connections?marker_id=x", "0021"),
        ("permissions?sort_key=updated_at", "0017"),
        ("vpcs?id=x", "0020"),
        ("projects?project_id=x", "0014"),
        ("projects?domain_id=a%20b", "0002"),
        ("services/x", "3062"),
        ("endpoints/x", "2017"),
        ("vpcs/x", "0020"),
    ] {
        let reply = app.operator.get(&format!("/admin/v1/{path}")).await;
        assert_eq!(reply.refused(), (400, code), "{path}");
    }
}
