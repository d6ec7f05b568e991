//! Requests side by side: what must be unique is, and nothing is left without its parent.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::stage::{Client, Reply, Stage, id};

const DEMO_NETWORK: &str = "4189d3c2-8882-4871-a3c2-d380272eed81";

async fn side_by_side(client: &Client, path: &'static str, bodies: Vec<Value>) -> Vec<Reply> {
    let mut tasks = JoinSet::new();
    for body in bodies {
        let client = client.clone();
        tasks.spawn(async move { client.post(path, body).await });
    }
    tasks.join_all().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn fifty_ports_get_fifty_addresses() {
    let stage = Stage::new().await;
    let demo = stage.demo().await;
    let bodies = vec![json!({"port": {"network_id": DEMO_NETWORK}}); 50];
    let replies = side_by_side(&demo, "/v2.0/ports", bodies).await;
    let addresses: BTreeSet<String> = replies
        .into_iter()
        .map(|reply| {
            reply.expect(201)["port"]["fixed_ips"][0]["ip_address"]
                .as_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    assert_eq!(addresses.len(), 50);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_address_has_one_winner() {
    let stage = Stage::new().await;
    let demo = stage.demo().await;
    for last in 30..40 {
        let ip = format!("10.0.0.{last}");
        let bodies =
            vec![json!({"port": {"network_id": DEMO_NETWORK, "fixed_ips": [{"ip_address": ip}]}}); 4];
        let mut statuses: Vec<u16> = side_by_side(&demo, "/v2.0/ports", bodies)
            .await
            .iter()
            .map(|reply| reply.status)
            .collect();
        statuses.sort_unstable();
        assert_eq!(statuses, [201, 409, 409, 409]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_last_addresses_are_all_given_out() {
    let stage = Stage::new().await;
    let demo = stage.demo().await;
    let network = id(
        &demo
            .post("/v2.0/networks", json!({"network": {}}))
            .await
            .expect(201),
        "network",
    );
    let body = json!({"subnet": {"network_id": network, "cidr": "10.9.0.0/28", "ip_version": 4}});
    demo.post("/v2.0/subnets", body).await.expect(201);
    let replies = side_by_side(
        &demo,
        "/v2.0/ports",
        vec![json!({"port": {"network_id": network}}); 20],
    )
    .await;
    assert_eq!(replies.iter().filter(|reply| reply.status == 201).count(), 13);
    assert_eq!(replies.iter().filter(|reply| reply.status == 409).count(), 7);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_port_is_left_without_its_subnet() {
    let stage = Stage::new().await;
    let demo = stage.demo().await;
    let mut outcomes = BTreeSet::new();
    for round in 0..60 {
        let network = id(
            &demo
                .post("/v2.0/networks", json!({"network": {}}))
                .await
                .expect(201),
            "network",
        );
        let body = json!({"subnet": {"network_id": network, "cidr": "10.9.0.0/24", "ip_version": 4}});
        demo.post("/v2.0/subnets", body).await.expect(201);
        let (maker, deleter) = (demo.clone(), demo.clone());
        let (body, path) = (
            json!({"port": {"network_id": network}}),
            format!("/v2.0/networks/{network}"),
        );
        // Who gets ahead is left to the threads, with a little push in either direction.
        let make = tokio::spawn(async move {
            if round % 2 == 0 {
                tokio::task::yield_now().await;
            }
            maker.post("/v2.0/ports", body).await
        });
        let delete = tokio::spawn(async move { deleter.delete(&path).await });
        let (made, deleted) = (make.await.unwrap(), delete.await.unwrap());
        let pair = (made.status, deleted.status);
        assert!(
            [(201, 409), (404, 204)].contains(&pair),
            "{pair:?} {} {}",
            made.body,
            deleted.body
        );
        outcomes.insert(pair);
    }
    let state = stage.cache.read();
    assert!(
        state.ports().all(|port| state.subnet(&port.subnet).is_some()),
        "{outcomes:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn subnets_that_are_joined_at_once_do_not_overlap() {
    let stage = Stage::new().await;
    let demo = stage.demo().await;
    for _ in 0..20 {
        let vpc = demo
            .post("/v1/P/vpcs", json!({"vpc": {"cidr": "10.0.0.0/8"}}))
            .await
            .expect(200);
        let body = json!({"subnet": {"vpc_id": vpc["vpc"]["id"], "cidr": "10.1.0.0/16"}});
        let replies = side_by_side(&demo, "/v1/P/subnets", vec![body; 6]).await;
        let mut statuses: Vec<u16> = replies.iter().map(|reply| reply.status).collect();
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 400, 400, 400, 400, 400]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_subnet_is_left_without_its_vpc() {
    let stage = Stage::new().await;
    let demo = stage.demo().await;
    for _ in 0..30 {
        let vpc = id(
            &demo
                .post("/v1/P/vpcs", json!({"vpc": {"cidr": "10.0.0.0/8"}}))
                .await
                .expect(200),
            "vpc",
        );
        let (maker, deleter, path) = (demo.clone(), demo.clone(), format!("/v1/P/vpcs/{vpc}"));
        let body = json!({"subnet": {"vpc_id": vpc, "cidr": "10.1.0.0/16"}});
        let make = tokio::spawn(async move { maker.post("/v1/P/subnets", body).await.status });
        let delete = tokio::spawn(async move { deleter.delete(&path).await.status });
        let pair = (make.await.unwrap(), delete.await.unwrap());
        assert!([(200, 409), (404, 204)].contains(&pair), "{pair:?}");
    }
    let state = stage.cache.read();
    assert!(
        state
            .subnets()
            .all(|subnet| subnet.vpc.is_none_or(|vpc| state.vpc(&vpc).is_some()))
    );
    assert!(state.route_tables().all(|table| state.vpc(&table.vpc).is_some()));
}
