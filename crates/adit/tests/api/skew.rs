//! What changes between a look-up and the commit that is decided on it: each interleaving once, on purpose.
//!
//! The network is the region's own, made to wait after its first answer of one kind. Races left to chance are in
//! [`crate::race`].

use std::{
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use adit_model::{
    id::{EndpointId, PortId, ProjectId, SubnetId, VpcId},
    network::{PortView, SubnetView, VpcView},
};
use adit_server::{App, Network, NetworkError, Reservation, Seen, edge};
use async_trait::async_trait;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::app::{
    Client, DEMO_VPC, ENDPOINTS, OTHER_DOMAIN, OTHER_VPC, Reply, SERVICES, TestApp, endpoint_body,
    service_body, text,
};

/// Which answer is waited after.
#[derive(Clone, Copy, PartialEq, Eq)]
enum After {
    Vpc,
    Subnet,
    Port,
}

/// The region's network, which waits once.
struct Waiting {
    network: Arc<dyn Network>,
    after: After,
    waited: AtomicBool,
    reached: Semaphore,
    go: Semaphore,
}

impl Waiting {
    async fn wait(&self, after: After) {
        if self.after == after && !self.waited.swap(true, Ordering::Relaxed) {
            self.reached.add_permits(1);
            self.go.acquire().await.unwrap().forget();
        }
    }
}

#[async_trait]
impl Network for Waiting {
    async fn get_vpc(&self, id: VpcId, project: &ProjectId) -> Result<Option<Seen<VpcView>>, NetworkError> {
        let answer = self.network.get_vpc(id, project).await;
        self.wait(After::Vpc).await;
        answer
    }

    async fn get_subnet(
        &self,
        id: SubnetId,
        project: &ProjectId,
    ) -> Result<Option<Seen<SubnetView>>, NetworkError> {
        let answer = self.network.get_subnet(id, project).await;
        self.wait(After::Subnet).await;
        answer
    }

    async fn get_port(
        &self,
        id: PortId,
        project: &ProjectId,
    ) -> Result<Option<Seen<PortView>>, NetworkError> {
        let answer = self.network.get_port(id, project).await;
        self.wait(After::Port).await;
        answer
    }

    async fn reserve(
        &self,
        endpoint: EndpointId,
        project: &ProjectId,
        subnet: SubnetId,
        wanted: Option<Ipv4Addr>,
    ) -> Result<Reservation, NetworkError> {
        self.network.reserve(endpoint, project, subnet, wanted).await
    }

    async fn release(&self, endpoint: EndpointId) -> Result<(), NetworkError> {
        self.network.release(endpoint).await
    }

    async fn list_reserved(&self) -> Result<Vec<Reservation>, NetworkError> {
        self.network.list_reserved().await
    }
}

/// Sends a create, does something else while the create has the network's answer and has decided nothing, and lets it go
/// on.
async fn while_creating(
    running: &Arc<App>,
    client: &Client,
    (path, body): (&'static str, Value),
    after: After,
    meanwhile: impl AsyncFnOnce(),
) -> Reply {
    let waiting = Arc::new(Waiting {
        network: Arc::clone(&running.network),
        after,
        waited: AtomicBool::new(false),
        reached: Semaphore::new(0),
        go: Semaphore::new(0),
    });
    let slow = App::new(
        running.config.clone(),
        Arc::clone(&running.store),
        running.cache.clone(),
        Arc::clone(&running.identity),
        Arc::clone(&waiting) as _,
    );
    let client = client.at(edge::finish(adit_server::router(slow).0));
    let creating = tokio::spawn(async move { client.post(path, &body).await });
    waiting.reached.acquire().await.unwrap().forget();
    meanwhile().await;
    waiting.go.add_permits(1);
    creating.await.unwrap()
}

#[tokio::test]
async fn an_endpoint_is_not_made_on_a_service_that_is_deleted_meanwhile() {
    for (after, reconciled) in [(After::Vpc, true), (After::Subnet, true), (After::Subnet, false)] {
        let app = TestApp::start().await;
        let service = app.service(80, false).await;
        let path = format!("{SERVICES}/{service}");
        let order = (ENDPOINTS, endpoint_body(&service));
        let TestApp {
            running, demo, other, ..
        } = app;
        let stack = Arc::clone(&running.app);
        // Without reconcilers it is `deleting` for good, else it is gone at once.
        if !reconciled {
            running.stop().await.unwrap();
        }
        let reply = while_creating(&stack, &other, order, after, async || {
            demo.delete(&path).await.no_content();
            if reconciled {
                demo.until_gone(&path).await;
            }
        })
        .await;
        let expected = if reconciled { "2003" } else { "2004" };
        assert_eq!(reply.refused(), (400, expected));
        assert_eq!(other.used().await, (0, 0));
    }
}

#[tokio::test]
async fn an_endpoint_is_not_made_by_an_account_that_leaves_the_whitelist_meanwhile() {
    let app = TestApp::start().await;
    let service = app.service(80, false).await;
    let order = (ENDPOINTS, endpoint_body(&service));
    let reply = while_creating(&app.running.app, &app.other, order, After::Subnet, async || {
        let remove = json!({"permissions": [format!("iam:domain::{OTHER_DOMAIN}")], "action": "remove"});
        let path = format!("{SERVICES}/{service}/permissions/action");
        app.demo.post(&path, &remove).await.ok();
    })
    .await;
    assert_eq!(reply.refused(), (400, "2012"));
}

#[tokio::test]
async fn an_endpoint_is_made_by_the_service_s_word_of_now() {
    let app = TestApp::start().await;
    let service = app.service(80, false).await;
    let order = (ENDPOINTS, endpoint_body(&service));
    let reply = while_creating(&app.running.app, &app.other, order, After::Subnet, async || {
        let change = json!({"approval_enabled": true, "service_name": "n"});
        app.demo.put(&format!("{SERVICES}/{service}"), &change).await.ok();
    })
    .await;
    let created = reply.ok();
    assert_eq!(created["status"], "pendingAcceptance");
    assert_eq!(created["endpoint_service_name"], format!("eu-de.n.{service}"));
}

#[tokio::test]
async fn an_endpoint_is_not_made_in_a_subnet_that_is_deleted_meanwhile() {
    let app = TestApp::start().await;
    let service = app.service(80, false).await;
    let (vpc, subnet) = app.other.vpc("10.9.0.0/16", "10.9.0.0/24").await;
    let order = json!({"endpoint_service_id": service, "vpc_id": vpc, "subnet_id": subnet});
    let reply = while_creating(
        &app.running.app,
        &app.other,
        (ENDPOINTS, order),
        After::Subnet,
        async || {
            app.other
                .delete(&format!("vpcs/{vpc}/subnets/{subnet}"))
                .await
                .no_content();
        },
    )
    .await;
    assert_eq!(reply.refused(), (404, "4004"));
}

#[tokio::test]
async fn nothing_is_made_in_a_vpc_that_gets_a_forbidden_route_meanwhile() {
    let app = TestApp::start().await;
    let service = app.service(80, false).await;
    for after in [After::Vpc, After::Subnet] {
        let order = (ENDPOINTS, endpoint_body(&service));
        let reply = while_creating(&app.running.app, &app.other, order, after, async || {
            app.other.add_route(OTHER_VPC, "198.19.200.0/24").await;
        })
        .await;
        assert_eq!(reply.refused(), (400, "3017"));
        let table = app
            .other
            .get(&format!("routetables?vpc_id={OTHER_VPC}"))
            .await
            .ok();
        let path = format!("routetables/{}", text(&table["routetables"][0]["id"]));
        let delete = json!({"routetable": {"routes": {"del": [{"destination": "198.19.200.0/24"}]}}});
        app.other.put(&path, &delete).await.ok();
    }
    let order = (SERVICES, service_body(81));
    let reply = while_creating(&app.running.app, &app.demo, order, After::Port, async || {
        app.demo.add_route(DEMO_VPC, "198.19.200.0/24").await;
    })
    .await;
    assert_eq!(reply.refused(), (400, "3017"));
}

#[tokio::test]
async fn a_service_is_not_made_on_a_port_that_is_deleted_meanwhile() {
    let app = TestApp::start().await;
    let (vpc, subnet) = app.demo.vpc("10.9.0.0/16", "10.9.0.0/24").await;
    let port = app.demo.port(&subnet).await;
    let mut body = service_body(80);
    body["port_id"] = json!(port);
    body["vpc_id"] = json!(vpc);
    let reply = while_creating(
        &app.running.app,
        &app.demo,
        (SERVICES, body),
        After::Port,
        async || {
            app.demo.delete(&format!("/v2.0/ports/{port}")).await.no_content();
        },
    )
    .await;
    assert_eq!(reply.refused(), (400, "3008"));
    assert_eq!(app.demo.used().await, (0, 0));
}
