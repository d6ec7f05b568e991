//! Whitelist records with descriptions, added and removed in numbers (spec B.5 to B.7).

use serde_json::{Value, json};

use crate::app::{ENDPOINTS, NOBODY, OTHER_DOMAIN, SERVICES, TestApp, endpoint_body, text};

fn record(permission: &str, description: &str) -> Value {
    json!({"permission": permission, "description": description})
}

#[tokio::test]
async fn records_are_added_described_and_removed() {
    let app = TestApp::start().await;
    let service = app.demo.service(80, true).await;
    let path = format!("{SERVICES}/{service}/permissions");
    let add = json!({"permission_type": "domainId", "permissions": [
        record("iam:domain::one", "first"), record("*", ""), record("iam:domain::one", "again"),
    ]});
    let added = app.demo.post(&format!("{path}/batch-create"), &add).await.ok();
    let [one, all] = added["permissions"].as_array().unwrap().as_slice() else {
        panic!("{added}")
    };
    let expected = json!({"permissions": [
        {"id": one["id"], "permission": "iam:domain::one", "permission_type": "domainId", "description": "first",
            "created_at": one["created_at"]},
        {"id": all["id"], "permission": "*", "permission_type": "domainId", "description": "",
            "created_at": all["created_at"]},
    ]});
    assert_eq!(added, expected);
    // The last one of a call is the newest.
    let listed = app.demo.get(&path).await.ok();
    assert_eq!(listed["permissions"], json!([all, one]));

    // What is there already is not new, and keeps its description.
    let more = json!({"permissions": [record("*", "other"), record("iam:domain::two", "second")]});
    let added = app.demo.post(&format!("{path}/batch-create"), &more).await.ok();
    let two = added["permissions"][0].clone();
    assert_eq!(
        (added["permissions"].as_array().unwrap().len(), &two["permission"]),
        (1, &json!("iam:domain::two"))
    );

    let change = json!({"permission": {"description": "everybody"}});
    let one_path = |id: &Value| format!("{path}/{}", text(id));
    let described = app.demo.put(&one_path(&all["id"]), &change).await.ok();
    let mut expected = all.clone();
    expected["description"] = json!("everybody");
    assert_eq!(described, json!({"permissions": [expected]}));
    assert_eq!(
        app.demo.get(&path).await.ok()["permissions"],
        json!([two, expected, one])
    );

    let remove = json!({"permissions": [{"id": two["id"]}, {"id": one["id"]}, {"id": two["id"]}]});
    let removed = app.demo.post(&format!("{path}/batch-delete"), &remove).await.ok();
    assert_eq!(removed, json!({"permissions": [two, one]}));
    assert_eq!(app.demo.get(&path).await.ok()["permissions"], json!([expected]));
}

#[tokio::test]
async fn parts_of_organisations_are_kept_and_admit_nobody() {
    let app = TestApp::start().await;
    let service = app.demo.service(80, false).await;
    let path = format!("{SERVICES}/{service}/permissions");
    let org = "organizations:orgPath::o-1/r-2/*";
    let add = json!({"permission_type": "orgPath", "permissions": [record(org, "all of ours")]});
    app.demo.post(&format!("{path}/batch-create"), &add).await.ok();
    let by_action =
        json!({"permission_type": "orgPath", "action": "add", "permissions": [format!("{org}?")]});
    app.demo.post(&format!("{path}/action"), &by_action).await.ok();
    let listed = app.demo.get(&format!("{path}?permission=orgPath")).await.ok();
    assert_eq!(listed["total_count"], 2);
    for record in listed["permissions"].as_array().unwrap() {
        assert_eq!(record["permission_type"], "orgPath");
    }
    let refused = app.other.post(ENDPOINTS, &endpoint_body(&service)).await;
    assert_eq!(refused.refused(), (400, "2012"));
    let add = json!({"permissions": [record(&format!("iam:domain::{OTHER_DOMAIN}"), "them")]});
    app.demo.post(&format!("{path}/batch-create"), &add).await.ok();
    app.other.post(ENDPOINTS, &endpoint_body(&service)).await.ok();
}

#[tokio::test]
async fn every_rule_has_its_code_and_one_bad_record_spoils_all() {
    let app = TestApp::start().await;
    let service = app.demo.service(80, true).await;
    let path = format!("{SERVICES}/{service}/permissions");
    let full: Vec<_> = (0..499)
        .map(|n| record(&format!("iam:domain::d{n}"), "d"))
        .collect();
    let kept = app
        .demo
        .post(&format!("{path}/batch-create"), &json!({"permissions": full}))
        .await
        .ok();
    let id = &kept["permissions"][0]["id"];
    let before = app.demo.get(&format!("{path}?limit=500")).await.ok();
    let of = |permissions: Value| json!({"permissions": permissions});
    for (tail, body, expected) in [
        ("batch-create", json!({}), (400, "3036")),
        ("batch-create", of(json!([])), (400, "3036")),
        ("batch-create", of(json!(["*"])), (400, "3002")),
        (
            "batch-create",
            of(json!([record("iam:domain::", "d")])),
            (400, "3002"),
        ),
        (
            "batch-create",
            of(json!([record("*", "d"), record("*", "a>b")])),
            (400, "0002"),
        ),
        ("batch-create", of(json!([{"permission": "*"}])), (400, "0002")),
        (
            "batch-create",
            of(json!([record("*", ""), record("iam:domain::x", "")])),
            (400, "3049"),
        ),
        (
            "batch-create",
            json!({"permission_type": "orgPath", "permissions": [record("*", "")]}),
            (400, "3002"),
        ),
        (
            "batch-create",
            json!({"permission_type": "x", "permissions": [record("*", "")]}),
            (400, "0002"),
        ),
        ("batch-delete", of(json!([])), (400, "3036")),
        ("batch-delete", of(json!([{"id": "x"}])), (400, "0002")),
        (
            "batch-delete",
            of(json!([{"id": id}, {"id": NOBODY}])),
            (404, "0005"),
        ),
        ("batch-create", json!([]), (400, "1004")),
    ] {
        let reply = app.demo.post(&format!("{path}/{tail}"), &body).await;
        assert_eq!(reply.refused(), expected, "{tail} {body}");
    }
    let good = json!({"permission": {"description": "x"}});
    for (record, body, expected) in [
        (text(id), json!({}), (400, "2002")),
        (text(id), json!({"permission": {}}), (400, "2002")),
        (
            text(id),
            json!({"permission": {"description": "d".repeat(129)}}),
            (400, "0002"),
        ),
        (NOBODY.to_owned(), good.clone(), (404, "0005")),
        ("x".to_owned(), good.clone(), (404, "0005")),
        // A literal path of part A is no record.
        ("action".to_owned(), good.clone(), (405, "0002")),
    ] {
        let reply = app.demo.put(&format!("{path}/{record}"), &body).await;
        assert_eq!(reply.refused(), expected, "{record} {body}");
    }
    assert_eq!(app.demo.get(&format!("{path}?limit=500")).await.ok(), before);
    // Another project's service is none.
    let reply = app
        .other
        .post(&format!("{path}/batch-delete"), &of(json!([{"id": id}])))
        .await;
    assert_eq!(reply.refused(), (404, "0005"));
}

#[tokio::test]
async fn changes_side_by_side_lose_nothing() {
    let app = TestApp::start().await;
    let service = app.demo.service(80, true).await;
    let path = format!("{SERVICES}/{service}/permissions");
    let writers: Vec<_> = (0..16)
        .map(|n| {
            let (client, path) = (app.demo.clone(), path.clone());
            tokio::spawn(async move {
                let body = json!({"permissions": [record(&format!("iam:domain::d{n}"), "d")]});
                let added = client.post(&format!("{path}/batch-create"), &body).await.ok();
                let id = added["permissions"][0]["id"].clone();
                if n % 2 == 0 {
                    let remove = json!({"permissions": [{"id": id}]});
                    client.post(&format!("{path}/batch-delete"), &remove).await.ok();
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    let listed = app.demo.get(&path).await.ok();
    assert_eq!(listed["total_count"], 8);
}
