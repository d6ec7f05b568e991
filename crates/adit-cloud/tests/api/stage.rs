//! A region on a store of its own, and clients that are logged in to it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, UNIX_EPOCH},
};

use adit_cloud::{Cloud, Region};
use adit_model::feed::Capabilities;
use adit_model::proxy::ProxyHeader;
use adit_model::service::TcpProxy;
use adit_server::{App, Config, feed::null_gateway};
use adit_store::{Cache, RedbStore, State, Store};
use axum::{Router, body::Body, http::HeaderMap, http::Request};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

/// Where the region's clock starts, in seconds since 1970.
const START_S: u64 = 1_800_000_000;

/// A region.
pub(crate) struct Stage {
    pub(crate) cloud: Arc<Cloud>,
    pub(crate) cache: Cache<State>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) router: Router,
    clock_s: Arc<AtomicU64>,
}

impl Stage {
    pub(crate) async fn new() -> Self {
        Self::on(Arc::new(RedbStore::ephemeral().unwrap()), Region::embedded()).await
    }

    /// A region whose clock starts so many seconds earlier than others'.
    pub(crate) async fn starting_before(seconds: u64) -> Self {
        let stage = Self::new().await;
        stage.clock_s.fetch_sub(seconds, Ordering::SeqCst);
        stage
    }

    pub(crate) async fn on(store: Arc<dyn Store>, region: Region) -> Self {
        let cache = Cache::<State>::start(Arc::clone(&store), "");
        let clock_s = Arc::new(AtomicU64::new(START_S));
        let hand = Arc::clone(&clock_s);
        let clock = Arc::new(move || UNIX_EPOCH + Duration::from_secs(hand.load(Ordering::SeqCst)));
        let cloud = Cloud::start_with_clock(Arc::clone(&store), cache.clone(), region, clock)
            .await
            .unwrap();
        let router = adit_cloud::router(Arc::clone(&cloud));
        Self {
            cloud,
            cache,
            store,
            router,
            clock_s,
        }
    }

    pub(crate) fn advance(&self, seconds: u64) {
        self.clock_s.fetch_add(seconds, Ordering::SeqCst);
    }

    /// A region with the control plane beside it, whose gateway says yes to everything. Cancel the token and its
    /// reconcilers rest.
    pub(crate) async fn with_vpcep() -> (Self, CancellationToken) {
        let mut stage = Self::new().await;
        let region = stage.cloud.region();
        let config = Config {
            region: region.name.clone(),
            superset: true,
            pool: region.pool,
            strict_toa: false,
            services_per_port_max: None,
            dns_suffix: "vpcep.internal".to_owned(),
            connections_per_endpoint_max: 3000,
            new_connections_per_second_max: None,
            drain_s: 0,
            proxy: ProxyHeader::default(),
            gateways: Capabilities {
                tcp_proxy: vec![TcpProxy::Close],
                ..Capabilities::default()
            },
            namespace: Arc::new(|vpc| vpc.to_string()),
            embedded_identity: true,
            delay: Duration::ZERO,
            rates: adit_server::rate::Rates::per_second(0, 0),
            reconcile_period: Duration::from_secs(1),
        };
        let identity = Arc::clone(&stage.cloud) as _;
        let network = Arc::clone(&stage.cloud) as _;
        let app = App::new(
            config,
            Arc::clone(&stage.store),
            stage.cache.clone(),
            identity,
            network,
        );
        let (vpcep, _) = adit_server::router(Arc::clone(&app));
        stage.router = adit_server::edge::finish(vpcep.merge(stage.router));
        let cancel = CancellationToken::new();
        tokio::spawn(null_gateway(Arc::clone(&app.feed), "null".parse().unwrap()));
        tokio::spawn(adit_server::reconcile::run(app, cancel.clone()));
        (stage, cancel)
    }

    pub(crate) async fn demo(&self) -> Client {
        self.login("demo", "eu-de_demo").await
    }

    pub(crate) async fn other(&self) -> Client {
        self.login("other", "eu-de_other").await
    }

    pub(crate) async fn login(&self, user: &str, project: &str) -> Client {
        let domain = if user == "viewer" { "demo" } else { user };
        let domain = json!({"name": format!("{domain}-domain")});
        let body = json!({"auth": {
            "identity": {"methods": ["password"], "password": {"user": {
                "name": user, "password": format!("{user}-password"), "domain": domain,
            }}},
            "scope": {"project": {"name": project, "domain": domain}},
        }});
        let reply = self.anybody().post("/v3/auth/tokens", body).await;
        assert_eq!(reply.status, 201, "{}", reply.body);
        Client {
            router: self.router.clone(),
            token: Some(reply.headers["x-subject-token"].to_str().unwrap().to_owned()),
            project: reply.body["token"]["project"]["id"].as_str().unwrap().to_owned(),
        }
    }

    /// A client without a token.
    pub(crate) fn anybody(&self) -> Client {
        Client {
            router: self.router.clone(),
            token: None,
            project: String::new(),
        }
    }
}

/// Somebody who sends requests. `P` as a whole part of a path stands for the client's project.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) router: Router,
    pub(crate) token: Option<String>,
    pub(crate) project: String,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    /// The body; null where it was empty, a string where it was no JSON.
    pub(crate) body: Value,
}

impl Reply {
    /// The body, of a reply that must have this status.
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.body);
        self.body
    }
}

impl Client {
    pub(crate) async fn send(&self, method: &str, path: &str, body: Option<Vec<u8>>) -> Reply {
        let path = path.replace("/P/", &format!("/{}/", self.project));
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "127.0.0.1:7117");
        if let Some(token) = &self.token {
            request = request.header("x-auth-token", token);
        }
        let request = request.body(Body::from(body.unwrap_or_default())).unwrap();
        answer(&self.router, request).await
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.send("GET", path, None).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Reply {
        self.send("POST", path, Some(body.to_string().into_bytes())).await
    }

    pub(crate) async fn put(&self, path: &str, body: Value) -> Reply {
        self.send("PUT", path, Some(body.to_string().into_bytes())).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Reply {
        self.send("DELETE", path, None).await
    }
}

pub(crate) async fn answer(router: &Router, request: Request<Body>) -> Reply {
    let (parts, body) = router.clone().oneshot(request).await.unwrap().into_parts();
    let bytes = body.collect().await.unwrap().to_bytes();
    let body = match bytes.len() {
        0 => Value::Null,
        _ => serde_json::from_slice(&bytes)
            .unwrap_or_else(|_| String::from_utf8_lossy(&bytes).into_owned().into()),
    };
    Reply {
        status: parts.status.as_u16(),
        headers: parts.headers,
        body,
    }
}

/// An id in a body.
#[track_caller]
pub(crate) fn id(body: &Value, of: &str) -> String {
    body[of]["id"].as_str().expect("the body has an id").to_owned()
}
