//! What is not one's own does not exist: no reply tells a resource of somebody else from one that nobody has.

use serde_json::{Value, json};

use super::{Who, operations};
use crate::app::{
    Client, DEMO_SUBNET, DEMO_VPC, NOBODY, OTHER_PORT, OTHER_VPC, Reply, SERVICES, TestApp, endpoint_body,
    service_body, text,
};

/// Resources of one tenant, by the names of parameters.
#[derive(Clone)]
struct Holdings {
    service: String,
    endpoint: String,
    record: String,
}

impl Holdings {
    /// What nobody has.
    fn none() -> Self {
        Self {
            service: NOBODY.to_owned(),
            endpoint: NOBODY.to_owned(),
            record: NOBODY.to_owned(),
        }
    }

    fn of(&self, parameter: &str, resource_type: &str) -> String {
        match (parameter, resource_type) {
            ("vpc_endpoint_service_id", _) | ("resource_id", "endpoint_service") => self.service.clone(),
            ("vpc_endpoint_id", _) | ("resource_id", "endpoint") => self.endpoint.clone(),
            ("permission_id", _) => self.record.clone(),
            ("resource_type", _) => resource_type.to_owned(),
            _ => panic!("{parameter}: say here what it names"),
        }
    }
}

/// A service with a record, and an endpoint on it.
async fn holdings(client: &Client, service: &Value, vpc: &str, subnet: &str) -> Holdings {
    let service = client.service_of(service).await;
    let records = format!("{SERVICES}/{service}/permissions");
    client
        .post(
            &format!("{records}/action"),
            &json!({"action": "add", "permissions": ["iam:domain::somebody"]}),
        )
        .await
        .ok();
    let record = text(&client.get(&records).await.ok()["permissions"][0]["id"]);
    let mut order = endpoint_body(&service);
    order["vpc_id"] = vpc.into();
    order["subnet_id"] = subnet.into();
    let endpoint = text(&client.post("vpc-endpoints", &order).await.ok()["id"]);
    client
        .until(&format!("vpc-endpoints/{endpoint}"), |r| {
            r.body["status"] == "accepted"
        })
        .await;
    Holdings {
        service,
        endpoint,
        record,
    }
}

/// Everything that a reply says, but for the ids that were asked for.
fn said(reply: &Reply, ids: &[&str]) -> (u16, String) {
    let text = ids
        .iter()
        .fold(reply.text.clone(), |text, id| text.replace(id, "[id]"));
    (reply.status, text)
}

#[tokio::test]
async fn what_is_not_one_s_own_does_not_exist() {
    let app = TestApp::start().await;
    let mut service = service_body(80);
    service["approval_enabled"] = false.into();
    let theirs = holdings(&app.demo, &service, DEMO_VPC, DEMO_SUBNET).await;
    service["port_id"] = OTHER_PORT.into();
    service["vpc_id"] = OTHER_VPC.into();
    let own = holdings(
        &app.other,
        &service,
        OTHER_VPC,
        "5290e4d3-9993-4982-b4d3-e491383ffe91",
    )
    .await;
    // Another account, and another project of the same account.
    let scope = json!({"project": {"name": "eu-de", "domain": {"name": "demo-domain"}}});
    let neighbour = app.demo.in_scope(&scope).await;
    let before = (app.demo.world().await, app.other.world().await);
    let mut seen = 0;
    for operation in operations() {
        let Who::Holders(_) = operation.who else {
            continue;
        };
        let names = operation.pattern.split('/').filter(|part| part.ends_with("_id}"));
        let names: Vec<&str> = names.filter(|part| *part != "{project_id}").collect();
        let what = format!("{} {}", operation.method, operation.pattern);
        for (stranger, kind) in [&app.other, &neighbour]
            .into_iter()
            .flat_map(|stranger| ["endpoint_service", "endpoint"].map(|kind| (stranger, kind)))
        {
            if names.is_empty() {
                continue;
            }
            let ask = async |put: &dyn Fn(&str) -> String| {
                let path = operation.path(&stranger.project, put);
                stranger
                    .send(&operation.method, &path, operation.body.as_ref())
                    .await
            };
            let ids = [&*theirs.service, &*theirs.endpoint, &*theirs.record, NOBODY];
            let none = Holdings::none();
            let real = ask(&|name| theirs.of(name, kind)).await;
            let random = ask(&|name| none.of(name, kind)).await;
            assert_eq!(
                real.refused().0,
                404,
                "{what}: {} (or is its body refused first? see auth::body)",
                real.text
            );
            assert_eq!(said(&real, &ids), said(&random, &ids), "{what}");
            // Below what is one's own, too.
            if let ([_, last], true) = (names.as_slice(), stranger.project == app.other.project) {
                let last = last.trim_matches(['{', '}']);
                let pick = |there: &Holdings, name: &str| {
                    if name == last {
                        there.of(name, kind)
                    } else {
                        own.of(name, kind)
                    }
                };
                let real = ask(&|name| pick(&theirs, name)).await;
                let random = ask(&|name| pick(&none, name)).await;
                assert_eq!(real.refused().0, random.refused().0, "{what}");
                assert_eq!(said(&real, &ids), said(&random, &ids), "{what}");
            }
            seen += 1;
        }
    }
    assert!(seen > 0);
    assert_eq!((app.demo.world().await, app.other.world().await), before);
}
