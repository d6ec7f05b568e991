//! A region to test with: the real assembly on a fresh store, spoken to through its router. No sockets, no kernel.
//!
//! Owns logging in, sending, waiting for conditions, and the few things that most tests make first.

use std::{path::Path, sync::Arc, time::Duration};

use adit::{
    data_plane::DataPlane,
    region::{Running, Settings},
};
use adit_cloud::{Login, Region};
use adit_model::{
    feed::Capabilities,
    service::{ServiceStatus, TcpProxy},
    sink::Sink,
};
use adit_store::{RedbStore, Store};
use axum::{
    Router,
    body::{Body, Bytes},
    http::{HeaderMap, Method, Request, header},
};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::time::Instant;
use tower::ServiceExt;

pub(crate) const DEMO_PROJECT: &str = "6e9dfd51d1124e8d8498dce894923a0d";
pub(crate) const DEMO_VPC: &str = "4189d3c2-8882-4871-a3c2-d380272eed80";
pub(crate) const DEMO_SUBNET: &str = "4189d3c2-8882-4871-a3c2-d380272eed81";
pub(crate) const DEMO_PORT: &str = "4189d3c2-8882-4871-a3c2-d380272eed88";
pub(crate) const OTHER_PROJECT: &str = "7fae0e62e2235f9e95a9edf9a5a34b1e";
pub(crate) const OTHER_DOMAIN: &str = "b4e2d3c5f6a7182930b4c5d6e7f8091a";
pub(crate) const OTHER_VPC: &str = "5290e4d3-9993-4982-b4d3-e491383ffe90";
pub(crate) const OTHER_SUBNET: &str = "5290e4d3-9993-4982-b4d3-e491383ffe91";
pub(crate) const OTHER_PORT: &str = "5290e4d3-9993-4982-b4d3-e491383ffe98";
/// An id that nothing has.
pub(crate) const NOBODY: &str = "deadbeef-dead-4ead-8ead-deadbeefdead";

pub(crate) const SERVICES: &str = "vpc-endpoint-services";
pub(crate) const ENDPOINTS: &str = "vpc-endpoints";

/// How long a condition may take to come true.
const DEADLINE: Duration = Duration::from_secs(20);
/// How often it is asked for.
const POLL: Duration = Duration::from_millis(2);

/// What a test's region is to be.
pub(crate) struct Builder {
    region: Region,
    superset: bool,
    store: Option<Arc<dyn Store>>,
    modes: Vec<TcpProxy>,
    data_plane: DataPlane,
    audit: Option<Sink>,
    delay: Duration,
}

impl Builder {
    /// Every project may have so many services and endpoints.
    pub(crate) fn quotas(mut self, endpoint_service: u32, endpoint: u32) -> Self {
        let projects = self.region.domains.iter_mut().flat_map(|d| &mut d.projects);
        for project in projects {
            project.quotas.endpoint_service = endpoint_service;
            project.quotas.endpoint = endpoint;
        }
        self
    }

    /// Under another name.
    pub(crate) fn region_name(mut self, name: &str) -> Self {
        self.region = self.region.named(name).unwrap();
        self
    }

    /// Part A alone.
    pub(crate) fn without_superset(mut self) -> Self {
        self.superset = false;
        self
    }

    /// What its gateways can serve; nothing but `close` unless told.
    pub(crate) fn modes(mut self, modes: &[TcpProxy]) -> Self {
        self.modes = modes.to_vec();
        self
    }

    /// How its connections are treated.
    pub(crate) fn data_plane(mut self, data_plane: DataPlane) -> Self {
        self.data_plane = data_plane;
        self
    }

    /// Who exists in it.
    pub(crate) fn region(mut self, region: Region) -> Self {
        self.region = region;
        self
    }

    /// Where attempts to change something are recorded.
    pub(crate) fn audit(mut self, path: &Path) -> Self {
        self.audit = Some(Sink::File(path.to_owned()));
        self
    }

    /// How long everything stays `creating` at least.
    pub(crate) fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// A store that is there already.
    pub(crate) fn store(mut self, store: Arc<dyn Store>) -> Self {
        self.store = Some(store);
        self
    }

    pub(crate) async fn start(self) -> TestApp {
        let logins = self.region.logins();
        let store = match self.store {
            Some(store) => store,
            None => Arc::new(RedbStore::ephemeral().unwrap()),
        };
        let settings = Settings {
            superset: self.superset,
            delay: self.delay,
            data_plane: self.data_plane,
            audit: self.audit,
            capabilities: Capabilities {
                tcp_proxy: self.modes,
                missing: Vec::new(),
            },
            ..Settings::new(self.region, "tests".parse().unwrap())
        };
        let running = Running::start(store, settings).await.unwrap();
        // What the operator runs is there from the first request on.
        let ready = poll(async || {
            let state = running.app.cache.read();
            let mut public = state.public_services().iter();
            public
                .all(|s| s.status() == ServiceStatus::Available)
                .then_some(())
        });
        assert!(ready.await.is_some(), "a public service is not available");
        let of = |user: &str| logins.iter().find(|l| l.user == user).unwrap();
        let router = &running.router;
        TestApp {
            demo: Client::log_in(router, of("demo")).await,
            other: Client::log_in(router, of("other")).await,
            viewer: Client::log_in(router, of("viewer")).await,
            operator: Client::log_in(router, of("operator")).await,
            running,
        }
    }
}

/// A running region and its users.
pub(crate) struct TestApp {
    pub(crate) running: Running,
    /// The tenant who publishes.
    pub(crate) demo: Client,
    /// The tenant who uses.
    pub(crate) other: Client,
    /// Who may look at what `demo` has.
    pub(crate) viewer: Client,
    /// The operator, in a project of its own.
    pub(crate) operator: Client,
}

impl TestApp {
    pub(crate) fn builder() -> Builder {
        Builder {
            region: Region::embedded(),
            superset: true,
            store: None,
            modes: vec![TcpProxy::Close],
            data_plane: DataPlane::default(),
            audit: None,
            delay: Duration::ZERO,
        }
    }

    /// The embedded region on a store of its own.
    pub(crate) async fn start() -> Self {
        Self::builder().start().await
    }

    /// A user of a region that this one was started with.
    pub(crate) async fn log_in(&self, region: &Region, user: &str) -> Client {
        self.demo.log_in_again(region, user).await
    }

    /// An available service of `demo` which both tenants may use.
    pub(crate) async fn service(&self, server_port: u16, approval: bool) -> String {
        let id = self.demo.service(server_port, approval).await;
        let add = json!({"permissions": [format!("iam:domain::{OTHER_DOMAIN}")], "action": "add"});
        let path = format!("{SERVICES}/{id}/permissions/action");
        self.demo.post(&path, &add).await.ok();
        id
    }

    /// An endpoint of `other` in the wanted state, on a service of `demo`.
    pub(crate) async fn endpoint(&self, service: &str, status: &str) -> String {
        let id = self.other.post(ENDPOINTS, &endpoint_body(service)).await.ok()["id"].take();
        let id = id.as_str().unwrap().to_owned();
        self.other
            .until(&format!("{ENDPOINTS}/{id}"), |r| r.body["status"] == status)
            .await;
        id
    }

    /// Accepts or rejects.
    pub(crate) async fn decide(&self, service: &str, action: &str, endpoint: &str) -> Reply {
        let body = json!({"action": action, "endpoints": [endpoint]});
        let path = format!("{SERVICES}/{service}/connections/action");
        self.demo.post(&path, &body).await
    }
}

/// The smallest request for a service on `demo`'s backend.
pub(crate) fn service_body(server_port: u16) -> Value {
    json!({
        "port_id": DEMO_PORT,
        "vpc_id": DEMO_VPC,
        "server_type": "VM",
        "ports": [{"client_port": server_port, "server_port": server_port}],
    })
}

/// The smallest request for an endpoint in `other`'s network.
pub(crate) fn endpoint_body(service: &str) -> Value {
    json!({"endpoint_service_id": service, "vpc_id": OTHER_VPC, "subnet_id": OTHER_SUBNET})
}

/// Somebody who sends requests.
#[derive(Clone)]
pub(crate) struct Client {
    router: Router,
    pub(crate) token: Option<String>,
    pub(crate) project: String,
}

impl Client {
    async fn log_in(router: &Router, login: &Login) -> Self {
        let mut client = Self {
            router: router.clone(),
            token: None,
            project: login.project_id.to_string(),
        };
        let domain = json!({"name": login.domain});
        let body = json!({"auth": {
            "identity": {"methods": ["password"], "password": {
                "user": {"name": login.user, "password": login.password, "domain": domain}}},
            "scope": {"project": {"name": login.project, "domain": domain}},
        }});
        let reply = client.post("/v3/auth/tokens", &body).await;
        assert_eq!(reply.status, 201, "{}", reply.text);
        let token = reply.headers.get("x-subject-token").unwrap();
        client.token = Some(token.to_str().unwrap().to_owned());
        client
    }

    /// A user of a region, at the same router.
    pub(crate) async fn log_in_again(&self, region: &Region, user: &str) -> Self {
        let logins = region.logins();
        let login = logins.iter().find(|login| login.user == user).unwrap();
        Self::log_in(&self.router, login).await
    }

    /// The same user in another scope, by a token that is got by this one.
    pub(crate) async fn in_scope(&self, scope: &Value) -> Self {
        let identity = json!({"methods": ["token"], "token": {"id": self.token}});
        let body = json!({"auth": {"identity": identity, "scope": scope}});
        let reply = self.post("/v3/auth/tokens", &body).await;
        assert_eq!(reply.status, 201, "{}", reply.text);
        let token = reply.headers["x-subject-token"].to_str().unwrap();
        Self {
            project: text(&reply.body["token"]["project"]["id"]),
            ..self.with_token(Some(token))
        }
    }

    /// The same user at another router of the same store.
    pub(crate) fn at(&self, router: Router) -> Self {
        Self {
            router,
            ..self.clone()
        }
    }

    /// The same path with another token, or none.
    pub(crate) fn with_token(&self, token: Option<&str>) -> Self {
        Self {
            token: token.map(str::to_owned),
            ..self.clone()
        }
    }

    /// The same token on another project's paths.
    pub(crate) fn in_project(&self, project: &str) -> Self {
        Self {
            project: project.to_owned(),
            ..self.clone()
        }
    }

    /// A path that begins with `/` is whole; others are below the project's of version 1.
    pub(crate) fn request(&self, method: &str, path: &str) -> axum::http::request::Builder {
        let uri = match path.starts_with('/') {
            true => path.to_owned(),
            false => format!("/v1/{}/{path}", self.project),
        };
        let request = Request::builder()
            .method(Method::from_bytes(method.as_bytes()).unwrap())
            .uri(uri)
            .header(header::HOST, "vpcep.test");
        match &self.token {
            Some(token) => request.header("X-Auth-Token", token),
            None => request,
        }
    }

    pub(crate) async fn send_raw(&self, request: Request<Body>) -> Reply {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes: Bytes = body.collect().await.unwrap().to_bytes();
        Reply {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body: serde_json::from_slice(&bytes).unwrap_or(Value::Null),
            text: String::from_utf8(bytes.to_vec()).unwrap(),
        }
    }

    pub(crate) async fn send(&self, method: &str, path: &str, body: Option<&Value>) -> Reply {
        let request = self.request(method, path);
        let request = match body {
            Some(body) => request
                .header(header::CONTENT_TYPE, "application/json")
                .body(Body::from(body.to_string())),
            None => request.body(Body::empty()),
        };
        self.send_raw(request.unwrap()).await
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.send("GET", path, None).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Reply {
        self.send("POST", path, Some(body)).await
    }

    pub(crate) async fn put(&self, path: &str, body: &Value) -> Reply {
        self.send("PUT", path, Some(body)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Reply {
        self.send("DELETE", path, None).await
    }

    /// Asks again and again until the reply is as wanted, for a bounded time.
    pub(crate) async fn until(&self, path: &str, wanted: impl Fn(&Reply) -> bool) -> Value {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let reply = self.get(path).await;
            if wanted(&reply) {
                return reply.body;
            }
            assert!(
                Instant::now() < deadline,
                "waited too long for {path}; last seen: {}",
                reply.text
            );
            tokio::time::sleep(POLL).await;
        }
    }

    /// Waits until there is none.
    pub(crate) async fn until_gone(&self, path: &str) -> Value {
        self.until(path, |r| r.status == 404).await
    }

    /// An available service on `demo`'s backend.
    pub(crate) async fn service(&self, server_port: u16, approval: bool) -> String {
        let mut body = service_body(server_port);
        body["approval_enabled"] = json!(approval);
        self.service_of(&body).await
    }

    /// An available service.
    pub(crate) async fn service_of(&self, body: &Value) -> String {
        let id = self.post(SERVICES, body).await.ok()["id"].take();
        let path = format!("{SERVICES}/{}", id.as_str().unwrap());
        self.until(&path, |r| r.body["status"] == "available").await;
        id.as_str().unwrap().to_owned()
    }

    /// Deletes a service that is being made, as soon as that is possible, and waits until it is gone.
    pub(crate) async fn remove_service(&self, id: &str) {
        let path = format!("{SERVICES}/{id}");
        self.until(&path, |r| r.body["status"] != "creating").await;
        self.delete(&path).await.no_content();
        self.until_gone(&path).await;
    }

    /// How much of each quota is used: endpoints, services.
    pub(crate) async fn used(&self) -> (u64, u64) {
        let quotas = self.get("quotas").await.ok();
        let used = |n: usize| quotas["quotas"]["resources"][n]["used"].as_u64().unwrap();
        (used(0), used(1))
    }

    /// Everything that a refused request must leave as it was.
    pub(crate) async fn world(&self) -> Value {
        json!([
            self.get(&format!("{SERVICES}?limit=1000")).await.ok(),
            self.get(&format!("{ENDPOINTS}?limit=1000")).await.ok(),
            self.get("quotas").await.ok(),
        ])
    }

    /// A VPC with one subnet, of the same block where none is named; answers their ids.
    pub(crate) async fn vpc(&self, cidr: &str, subnet: &str) -> (String, String) {
        let body = json!({"vpc": {"name": "v", "cidr": cidr}});
        let vpc = self.post("vpcs", &body).await.ok()["vpc"]["id"].take();
        let body = json!({"subnet": {"name": "s", "cidr": subnet, "vpc_id": vpc}});
        let subnet = self.post("subnets", &body).await.ok()["subnet"]["id"].take();
        (text(&vpc), text(&subnet))
    }

    /// The id of a VPC's default route table.
    pub(crate) async fn default_table(&self, vpc: &str) -> String {
        let tables = self.get(&format!("routetables?vpc_id={vpc}")).await.ok();
        let tables = tables["routetables"].as_array().unwrap();
        text(&tables.iter().find(|t| t["default"] == true).unwrap()["id"])
    }

    /// A further route table of a VPC.
    pub(crate) async fn route_table(&self, vpc: &str) -> String {
        let body = json!({"routetable": {"name": "further", "vpc_id": vpc}});
        text(&self.post("routetables", &body).await.ok()["routetable"]["id"])
    }

    /// A port of a server in a subnet.
    pub(crate) async fn port(&self, subnet: &str) -> String {
        let body = json!({"port": {"network_id": subnet, "device_owner": "compute:eu-de-01"}});
        let reply = self.post("/v2.0/ports", &body).await;
        assert_eq!(reply.status, 201, "{}", reply.text);
        text(&reply.body["port"]["id"])
    }

    /// Adds a custom route to a VPC's default table.
    pub(crate) async fn add_route(&self, vpc: &str, destination: &str) {
        let tables = self.get(&format!("routetables?vpc_id={vpc}")).await.ok();
        let table = tables["routetables"][0]["id"].as_str().unwrap();
        let route = json!({"type": "nat", "destination": destination, "nexthop": NOBODY});
        let body = json!({"routetable": {"routes": {"add": [route]}}});
        self.put(&format!("routetables/{table}"), &body).await.ok();
    }
}

/// A text out of a reply.
pub(crate) fn text(value: &Value) -> String {
    value
        .as_str()
        .unwrap_or_else(|| panic!("{value} is no text"))
        .to_owned()
}

/// Asks until there is an answer, for a bounded time.
pub(crate) async fn poll<T>(mut ask: impl AsyncFnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + DEADLINE;
    while Instant::now() < deadline {
        if let Some(answer) = ask().await {
            return Some(answer);
        }
        tokio::time::sleep(POLL).await;
    }
    None
}

/// What was answered.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    /// The body as JSON; null where it is none.
    pub(crate) body: Value,
    pub(crate) text: String,
}

impl Reply {
    /// The body of a 200.
    #[track_caller]
    pub(crate) fn ok(self) -> Value {
        assert_eq!(self.status, 200, "{}", self.text);
        self.body
    }

    /// A 204 is empty.
    #[track_caller]
    pub(crate) fn no_content(self) {
        assert_eq!((self.status, self.text.as_str()), (204, ""));
    }

    /// A refusal: its status, and its code without the prefix. Its body has two texts and nothing else.
    #[track_caller]
    pub(crate) fn refused(&self) -> (u16, &str) {
        let code = self.body["error_code"].as_str();
        let code = code.unwrap_or_else(|| panic!("{} {}", self.status, self.text));
        let message = self.body["error_msg"].as_str().unwrap_or_default();
        assert!(!message.is_empty(), "{}", self.text);
        assert_eq!(self.body.as_object().unwrap().len(), 2, "{}", self.text);
        let number = code.strip_prefix("EndPoint.").or(code.strip_prefix("Endpoint."));
        (self.status, number.unwrap_or(code))
    }
}
