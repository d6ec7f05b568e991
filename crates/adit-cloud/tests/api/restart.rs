//! What a restart keeps, and what the region file may still say.

use std::sync::Arc;

use adit_cloud::Region;
use adit_model::quota::QuotaType;
use adit_store::{RedbStore, Store};
use serde_json::json;

use crate::stage::{Client, Stage, id};

fn open(path: &std::path::Path) -> Arc<dyn Store> {
    // The former store's threads may hold the file for a moment longer.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    loop {
        match RedbStore::open(path) {
            Ok(store) => return Arc::new(store),
            Err(error) => assert!(std::time::Instant::now() < deadline, "{error}"),
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn state_and_tokens_survive_a_restart_and_deleted_seeds_stay_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    let (token, port) = {
        let stage = Stage::on(open(&path), Region::embedded()).await;
        let demo = stage.demo().await;
        let body = json!({"port": {"network_id": "4189d3c2-8882-4871-a3c2-d380272eed81", "name": "kept"}});
        let port = id(&demo.post("/v2.0/ports", body).await.expect(201), "port");
        demo.delete("/v2.0/ports/4189d3c2-8882-4871-a3c2-d380272eed88")
            .await
            .expect(204);
        let body = json!({"vpc": {"name": "renamed"}});
        demo.put("/v1/P/vpcs/4189d3c2-8882-4871-a3c2-d380272eed80", body)
            .await
            .expect(200);
        (demo.token, port)
    };
    let text = Region::embedded_text().replacen("endpoint_service = 20", "endpoint_service = 3", 1);
    let stage = Stage::on(open(&path), Region::parse(&text).unwrap()).await;
    let project = "6e9dfd51d1124e8d8498dce894923a0d".to_owned();
    let demo = Client {
        router: stage.router.clone(),
        token,
        project: project.clone(),
    };
    assert_eq!(
        demo.get(&format!("/v2.0/ports/{port}")).await.expect(200)["port"]["name"],
        "kept"
    );
    demo.get("/v2.0/ports/4189d3c2-8882-4871-a3c2-d380272eed88")
        .await
        .expect(404);
    let vpcs = demo.get("/v1/P/vpcs").await.expect(200);
    assert_eq!(vpcs["vpcs"][0]["name"], "renamed");
    assert_eq!(vpcs["vpcs"].as_array().unwrap().len(), 1);
    // Quotas are the file's at every start.
    let usage = stage
        .cache
        .read()
        .usage(&project.parse().unwrap(), QuotaType::EndpointService);
    assert_eq!(usage.quota, 3);
}

#[tokio::test]
async fn a_user_who_left_the_file_is_nobody() {
    let store: Arc<dyn Store> = Arc::new(RedbStore::ephemeral().unwrap());
    let stage = Stage::on(Arc::clone(&store), Region::embedded()).await;
    let viewer = stage.login("viewer", "eu-de_demo").await;
    let text = Region::embedded_text().replacen("0b9a8c7d6e5f4a3b8c2d1e0f9a8b7c6d", "another", 1);
    let stage = Stage::on(store, Region::parse(&text).unwrap()).await;
    Client {
        router: stage.router.clone(),
        ..viewer
    }
    .get("/v1/P/vpcs")
    .await
    .expect(401);
}

#[tokio::test]
async fn a_file_with_more_in_it_adds_and_one_that_no_longer_fits_is_left_out() {
    let store: Arc<dyn Store> = Arc::new(RedbStore::ephemeral().unwrap());
    let stage = Stage::on(Arc::clone(&store), Region::embedded()).await;
    let demo = stage.demo().await;
    let taken = json!({"port": {
        "network_id": "4189d3c2-8882-4871-a3c2-d380272eed81", "fixed_ips": [{"ip_address": "10.0.0.12"}],
    }});
    demo.post("/v2.0/ports", taken).await.expect(201);
    let port = |n: u8| {
        format!(
            "[[domains.projects.vpcs.subnets.ports]]\nname = \"more\"\nip = \"10.0.0.{n}\"\n\
             id = \"4189d3c2-8882-4871-a3c2-d380272eed{n}\"\n\n# Clients that look"
        )
    };
    let text = Region::embedded_text().replacen("# Clients that look", &port(11), 1);
    let text = text.replacen("# Clients that look", &port(12), 1);
    let stage = Stage::on(store, Region::parse(&text).unwrap()).await;
    let demo = stage.demo().await;
    demo.get("/v2.0/ports/4189d3c2-8882-4871-a3c2-d380272eed11")
        .await
        .expect(200);
    demo.get("/v2.0/ports/4189d3c2-8882-4871-a3c2-d380272eed12")
        .await
        .expect(404);
}
