//! What the control plane asks of the network.

use adit_model::{
    id::{EndpointId, PortId, ProjectId, SubnetId, VpcId},
    network::{Holder, PortKind},
};
use adit_server::{Network, NetworkError};
use adit_store::{Commit, Key, Txn, keys::encode};
use serde_json::json;

use crate::stage::Stage;

fn demo() -> ProjectId {
    "6e9dfd51d1124e8d8498dce894923a0d".parse().unwrap()
}

fn other() -> ProjectId {
    "7fae0e62e2235f9e95a9edf9a5a34b1e".parse().unwrap()
}

fn vpc() -> VpcId {
    "4189d3c2-8882-4871-a3c2-d380272eed80".parse().unwrap()
}

fn subnet() -> SubnetId {
    "4189d3c2-8882-4871-a3c2-d380272eed81".parse().unwrap()
}

fn nic() -> PortId {
    "4189d3c2-8882-4871-a3c2-d380272eed88".parse().unwrap()
}

/// An endpoint that is creating, as its document says.
async fn endpoint(stage: &Stage) -> EndpointId {
    let id = EndpointId::random();
    written(stage, id, "creating").await;
    id
}

async fn written(stage: &Stage, id: EndpointId, status: &str) {
    let document = json!({
        "id": id, "project": demo(), "domain": "a3f1c2d4e5b60718293a4b5c6d7e8f90", "service": vpc(),
        "service_name": "eu-de.orders", "vpc": vpc(), "service_type": "interface", "subnet": subnet(),
        "subnet_cidr": "10.0.0.0/24", "ip": null, "enable_dns": false, "whitelist": [], "enable_whitelist": false,
        "source": null, "marker": 1, "pool": vpc(), "tags": [], "description": "", "quota_slot": 0, "status": status,
        "accepted_once": false, "created": {"order": 1, "at": "2026-01-01T00:00:00Z"},
        "updated_at": "2026-01-01T00:00:00Z",
    });
    let put = Txn::new().put(Key::Endpoint(id), encode(&document));
    let Commit::Committed(revision) = stage.store.commit(put).await.unwrap() else {
        panic!()
    };
    stage.cache.wait_for(revision).await.unwrap();
}

#[tokio::test]
async fn nothing_is_kept_for_an_endpoint_that_is_gone_or_going() {
    let stage = Stage::new().await;
    let never = EndpointId::random();
    let going = endpoint(&stage).await;
    written(&stage, going, "deleting").await;
    for id in [never, going] {
        let kept = stage.cloud.reserve(id, &demo(), subnet(), None).await;
        assert_eq!(kept, Err(NetworkError::NotFound(id.to_string())));
    }
    assert_eq!(stage.cloud.list_reserved().await, Ok(vec![]));
}

#[tokio::test]
async fn look_ups_answer_the_owner_alone_with_fences_that_hold() {
    let stage = Stage::new().await;
    let cloud = &stage.cloud;
    assert_eq!(cloud.get_vpc(vpc(), &other()).await, Ok(None));
    assert_eq!(cloud.get_subnet(subnet(), &other()).await, Ok(None));
    assert_eq!(cloud.get_port(nic(), &other()).await, Ok(None));
    let seen = cloud.get_port(nic(), &demo()).await.unwrap().unwrap();
    assert_eq!((seen.view.vpc, seen.view.kind), (Some(vpc()), PortKind::Server));
    assert_eq!(seen.view.ip, Some("10.0.0.10".parse().unwrap()));
    let seen = cloud.get_subnet(subnet(), &demo()).await.unwrap().unwrap();
    assert_eq!(seen.view.vpc, Some(vpc()));
    let seen = cloud.get_vpc(vpc(), &demo()).await.unwrap().unwrap();
    assert_eq!(seen.view.cidrs, ["10.0.0.0/24".parse().unwrap()]);
    assert_eq!(seen.view.custom_routes().count(), 0);
    assert!(seen.view.default_route_table().is_some());
    // A route comes in between: what was decided on the old answer is not committed.
    let client = stage.demo().await;
    let routes = json!([{"destination": "198.19.128.0/17", "nexthop": "10.0.0.10"}]);
    let path = format!("/v2.0/routers/{}", vpc());
    client
        .put(&path, json!({"router": {"routes": routes}}))
        .await
        .expect(200);
    let mut txn = Txn::new().put("test", encode(&1));
    for (key, revision) in seen.fences {
        txn = txn.unchanged(key, revision);
    }
    assert_eq!(stage.store.commit(txn).await.unwrap(), Commit::Conflict);
    let seen = cloud.get_vpc(vpc(), &demo()).await.unwrap().unwrap();
    let routes: Vec<_> = seen.view.custom_routes().collect();
    assert_eq!(routes, ["198.19.128.0/17".parse().unwrap()]);
}

#[tokio::test]
async fn a_reservation_is_idempotent_and_given_back_once() {
    let stage = Stage::new().await;
    let cloud = &stage.cloud;
    let endpoint = endpoint(&stage).await;
    let first = cloud.reserve(endpoint, &demo(), subnet(), None).await.unwrap();
    assert_eq!(first.ip.to_string(), "10.0.0.100");
    assert_eq!((first.port.0, first.mtu_bytes), (endpoint.0, 1500));
    assert_eq!(cloud.reserve(endpoint, &demo(), subnet(), None).await, Ok(first));
    assert_eq!(cloud.list_reserved().await, Ok(vec![first]));
    let holder = stage
        .cache
        .read()
        .address(subnet(), first.ip)
        .map(|held| held.holder);
    assert_eq!(holder, Some(Holder::Endpoint(endpoint)));
    cloud.release(endpoint).await.unwrap();
    cloud.release(endpoint).await.unwrap();
    assert_eq!(cloud.list_reserved().await, Ok(vec![]));
    assert!(stage.cache.read().address(subnet(), first.ip).is_none());
}

#[tokio::test]
async fn an_address_that_was_claimed_is_kept_and_one_of_another_s_is_not_freed() {
    let stage = Stage::new().await;
    let cloud = &stage.cloud;
    let (endpoint, another) = (endpoint(&stage).await, endpoint(&stage).await);
    let ip = "10.0.0.3".parse().unwrap();
    let address = Key::Address(subnet(), ip);
    let claim = Txn::new()
        .absent(address.clone())
        .put(address.clone(), encode(&Holder::Endpoint(endpoint)));
    let Commit::Committed(revision) = stage.store.commit(claim).await.unwrap() else {
        panic!()
    };
    stage.cache.wait_for(revision).await.unwrap();
    let refused = cloud.reserve(another, &demo(), subnet(), Some(ip)).await;
    assert_eq!(refused, Err(NetworkError::AddressTaken(ip)));
    assert_eq!(
        cloud
            .reserve(endpoint, &demo(), subnet(), Some(ip))
            .await
            .unwrap()
            .ip,
        ip
    );
    assert_eq!(
        stage.cache.read().address(subnet(), ip).unwrap().revision,
        revision
    );
    // The control plane freed it with its answer to the DELETE, and somebody else has it by now.
    let successor = Holder::Endpoint(EndpointId::random());
    let Commit::Committed(revision) = stage
        .store
        .commit(Txn::new().put(address, encode(&successor)))
        .await
        .unwrap()
    else {
        panic!()
    };
    stage.cache.wait_for(revision).await.unwrap();
    cloud.release(endpoint).await.unwrap();
    assert_eq!(
        stage.cache.read().address(subnet(), ip).map(|held| held.holder),
        Some(successor)
    );
}

#[tokio::test]
async fn what_cannot_be_reserved_is_named() {
    let stage = Stage::new().await;
    let (cloud, id) = (&stage.cloud, endpoint(&stage).await);
    let reserve = |project, subnet, ip: &str| {
        let wanted = ip.parse().ok();
        async move { cloud.reserve(id, &project, subnet, wanted).await.unwrap_err() }
    };
    let gone = SubnetId::random();
    assert_eq!(
        reserve(demo(), gone, "").await,
        NetworkError::NotFound(gone.to_string())
    );
    assert_eq!(
        reserve(other(), subnet(), "").await,
        NetworkError::NotFound(subnet().to_string())
    );
    for ip in ["10.0.0.0", "10.0.0.255", "10.0.1.7"] {
        assert_eq!(
            reserve(demo(), subnet(), ip).await,
            NetworkError::BadAddress(ip.parse().unwrap())
        );
    }
    for ip in ["10.0.0.1", "10.0.0.10"] {
        assert_eq!(
            reserve(demo(), subnet(), ip).await,
            NetworkError::AddressTaken(ip.parse().unwrap())
        );
    }
}
