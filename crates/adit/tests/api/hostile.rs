//! What nobody would send on purpose: mutated bodies of every operation, wild queries, paths, headers and methods.
//!
//! Whatever comes, the answer is a success or a refusal in the usual form, with a code of the catalogue and its status; it is
//! never a fault of ours (a panic shows as 500), and a refusal has written nothing to the store.
//!
//! The requests are the same in every run; `PROPTEST_CASES` makes it more of them.

mod companions;
mod mutation;

use std::sync::Arc;

use adit_model::Code;
use adit_store::{RedbStore, Revision, Store};
use axum::{
    body::Body,
    http::{HeaderName, HeaderValue, Method, Request, header},
};
use proptest::{
    prelude::*,
    sample::{Index, select},
    test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner},
};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use mutation::{apply, edit, hostile_text};

use crate::{
    app::{
        Client, DEMO_PORT, DEMO_PROJECT, DEMO_SUBNET, DEMO_VPC, ENDPOINTS, OTHER_PROJECT, Reply, SERVICES,
        TestApp, service_body,
    },
    auth::{Operation, Who, operations},
};

/// How many cases a test tries, unless `PROPTEST_CASES` says so.
const CASES: u32 = 400;
/// How often the store is asked whether everything has come to rest.
const REST_POLLS_MAX: usize = 2_000;

/// Tries cases on one region, the same ones in every run.
fn explore<S: Strategy>(strategy: &S, case: impl AsyncFn(&Arena, S::Value) -> Result<(), TestCaseError>) {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok());
    let config = Config {
        cases: cases.unwrap_or(CASES),
        failure_persistence: None,
        max_shrink_iters: 200,
        ..Config::default()
    };
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(config, rng);
    let runtime = Runtime::new().unwrap();
    let arena = runtime.block_on(Arena::new());
    runner
        .run(strategy, |value| runtime.block_on(case(&arena, value)))
        .unwrap_or_else(|e| panic!("{e}"));
}

/// A region with something of everything, and the store under it.
struct Arena {
    app: TestApp,
    store: Arc<RedbStore>,
}

/// Ids of what there is.
struct Things {
    service: String,
    endpoint: String,
    record: String,
}

impl Arena {
    async fn new() -> Self {
        let store = Arc::new(RedbStore::ephemeral().unwrap());
        let builder = TestApp::builder().quotas(100_000, 100_000).store(store.clone());
        let app = builder.start().await;
        Self { app, store }
    }

    /// Something of everything, made where requests that were taken have removed it.
    async fn things(&self) -> Things {
        let demo = &self.app.demo;
        let ids = async |path: &str, list: &str, wanted: &[&str]| -> Option<String> {
            let found = demo.get(path).await.ok();
            let found = found[list].as_array().unwrap().iter().find(|it| {
                it.get("status")
                    .is_none_or(|status| wanted.contains(&status.as_str().unwrap()))
            });
            found.map(|it| it["id"].as_str().unwrap().to_owned())
        };
        let service = match ids(
            &format!("{SERVICES}?limit=1000"),
            "endpoint_services",
            &["available"],
        )
        .await
        {
            Some(id) => id,
            None => demo.service_of(&service_body(free_port())).await,
        };
        let wanted = ["pendingAcceptance", "accepted", "rejected"];
        let endpoint = match ids(&format!("{ENDPOINTS}?limit=1000"), "endpoints", &wanted).await {
            Some(id) => id,
            None => {
                let body =
                    json!({"endpoint_service_id": service, "vpc_id": DEMO_VPC, "subnet_id": DEMO_SUBNET});
                let id = demo.post(ENDPOINTS, &body).await.ok()["id"].take();
                id.as_str().unwrap().to_owned()
            }
        };
        let records = format!("{SERVICES}/{service}/permissions");
        let record = match ids(&records, "permissions", &[]).await {
            Some(id) => id,
            None => {
                let body = json!({"permissions": ["iam:domain::x"], "action": "add"});
                demo.post(&format!("{records}/action"), &body).await.ok();
                ids(&records, "permissions", &[]).await.unwrap()
            }
        };
        Things {
            service,
            endpoint,
            record,
        }
    }

    /// The store's revision, once nothing is being made or removed any more.
    async fn rest(&self) -> Revision {
        let demo = &self.app.demo;
        for _ in 0..REST_POLLS_MAX {
            let before = self.store.barrier().await.unwrap();
            let world = demo.world().await.to_string();
            let moving = ["\"creating\"", "\"deleting\""]
                .iter()
                .any(|state| world.contains(state));
            // The reconciler has had its turn where nothing was written between two looks.
            tokio::task::yield_now().await;
            if !moving && self.store.barrier().await.unwrap() == before {
                return before;
            }
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        panic!("the region does not come to rest");
    }

    /// Sends a request and holds the answer against what every answer is.
    async fn judge(
        &self,
        client: &Client,
        request: Request<Body>,
        ours: bool,
    ) -> Result<Reply, TestCaseError> {
        let what = format!("{request:?}");
        let before = self.rest().await;
        let reply = client.send_raw(request).await;
        prop_assert!(reply.status < 500, "{what}: {} {}", reply.status, reply.text);
        if reply.status < 400 {
            return Ok(reply);
        }
        let after = self.store.barrier().await.unwrap();
        prop_assert_eq!(
            before,
            after,
            "{} was refused and has written: {}",
            what,
            reply.text
        );
        if ours {
            refusal(&reply).map_err(|e| TestCaseError::fail(format!("{what}: {e}: {}", reply.text)))?;
        }
        Ok(reply)
    }
}

/// A server port that nothing uses.
fn free_port() -> u16 {
    use std::sync::atomic::{AtomicU16, Ordering};
    static NEXT: AtomicU16 = AtomicU16::new(30_000);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// What is wrong with a refusal: its form, its code, its status, its message.
fn refusal(reply: &Reply) -> Result<(), String> {
    let body = reply.body.as_object().ok_or("no object")?;
    let (Some(Value::String(code)), Some(Value::String(message)), 2) =
        (body.get("error_code"), body.get("error_msg"), body.len())
    else {
        return Err("not the two fields".into());
    };
    if reply
        .headers
        .get(header::CONTENT_TYPE)
        .is_none_or(|t| t != "application/json")
    {
        return Err("not said to be JSON".into());
    }
    if !reply.headers.contains_key("x-request-id") {
        return Err("no request id".into());
    }
    if message.chars().any(char::is_control) {
        return Err("a message of several lines".into());
    }
    if code == "APIGW.0301" {
        return if reply.status == 401 {
            Ok(())
        } else {
            Err("the status of another code".into())
        };
    }
    let known = Code::ALL
        .iter()
        .find(|known| known.as_str() == code)
        .ok_or("no code of the catalogue")?;
    // The catalogue has no code for a method that a path does not take.
    if known.status() != reply.status && !(reply.status == 405 && *known == Code::E0002) {
        return Err("the status of another code".into());
    }
    if !message.starts_with(known.message()) || message.len() == known.message().len() {
        return Err("a message that names nothing".into());
    }
    Ok(())
}

/// An operation's path and its good body, with what there is in place of what there is not.
fn filled(operation: &Operation, things: &Things) -> (String, Option<Value>) {
    // The operator's requests are about somebody else's project, so that they do not change what the others meet.
    let project = match operation.who == Who::Operators {
        true => OTHER_PROJECT,
        false => DEMO_PROJECT,
    };
    let path = operation
        .pattern
        .replace("{project_id}", project)
        .replace("{vpc_endpoint_service_id}", &things.service)
        .replace("{vpc_endpoint_id}", &things.endpoint)
        .replace("{resource_type}", "endpoint_service")
        .replace("{resource_id}", &things.service)
        .replace("{permission_id}", &things.record);
    let body = operation.body.clone().map(|mut body| {
        fill(&mut body, things);
        body
    });
    (path, body)
}

fn fill(value: &mut Value, things: &Things) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| fill(item, things)),
        Value::Object(map) => {
            for (name, value) in map {
                match name.as_str() {
                    "endpoint_service_id" => *value = json!(things.service),
                    "vpc_id" => *value = json!(DEMO_VPC),
                    "subnet_id" => *value = json!(DEMO_SUBNET),
                    "port_id" => *value = json!(DEMO_PORT),
                    "endpoints" => *value = json!([things.endpoint]),
                    "id" => *value = json!(things.record),
                    "server_port" => *value = json!(free_port()),
                    _ => fill(value, things),
                }
            }
        }
        _ => {}
    }
}

fn client<'a>(arena: &'a Arena, operation: &Operation) -> &'a Client {
    match operation.who == Who::Operators {
        true => &arena.app.operator,
        false => &arena.app.demo,
    }
}

#[test]
fn mutated_bodies() {
    let table: Vec<_> = operations().into_iter().filter(|o| o.body.is_some()).collect();
    let edits = prop::collection::vec(edit(), 1..4);
    explore(&(any::<Index>(), edits), async |arena, (index, edits)| {
        let operation = index.get(&table);
        let things = arena.things().await;
        let (path, body) = filled(operation, &things);
        let mut body = body.unwrap();
        edits.into_iter().for_each(|edit| apply(&mut body, edit));
        let client = client(arena, operation);
        let request = client
            .request(&operation.method, &path)
            .body(Body::from(body.to_string()))
            .unwrap();
        arena.judge(client, request, true).await?;
        Ok(())
    });
}

#[test]
fn bodies_of_any_bytes() {
    let table: Vec<_> = operations().into_iter().filter(|o| o.body.is_some()).collect();
    // Any bytes, good bodies cut off, and with bytes changed.
    let change = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..200).prop_map(Change::Whole),
        any::<Index>().prop_map(Change::Cut),
        (any::<Index>(), any::<u8>()).prop_map(|(i, b)| Change::Byte(i, b)),
        (1..3000usize).prop_map(Change::Deep),
    ];
    explore(&(any::<Index>(), change), async |arena, (index, change)| {
        let operation = index.get(&table);
        let things = arena.things().await;
        let (path, body) = filled(operation, &things);
        let mut bytes = body.unwrap().to_string().into_bytes();
        match change {
            Change::Whole(whole) => bytes = whole,
            Change::Cut(at) => bytes.truncate(at.index(bytes.len())),
            Change::Byte(at, byte) => *at.get_mut(&mut bytes) = byte,
            Change::Deep(depth) => bytes = [vec![b'['; depth], b"{\"a\":".repeat(depth)].concat(),
        }
        let client = client(arena, operation);
        let request = client
            .request(&operation.method, &path)
            .body(Body::from(bytes))
            .unwrap();
        arena.judge(client, request, true).await?;
        Ok(())
    });
}

#[derive(Clone, Debug)]
enum Change {
    Whole(Vec<u8>),
    Cut(Index),
    Byte(Index, u8),
    Deep(usize),
}

/// Text that is fit for a request line, whatever it stands for.
fn encoded(bytes: &[u8]) -> String {
    bytes
        .iter()
        .map(|b| match b {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'*' | b':' => {
                char::from(*b).to_string()
            }
            _ => format!("%{b:02X}"),
        })
        .collect()
}

fn query() -> impl Strategy<Value = String> {
    let name = prop_oneof![
        9 => select(vec![
            "id", "endpoint_service_name", "status", "sort_key", "sort_dir", "limit", "offset", "vpc_id", "marker_id",
            "permission", "type", "x",
        ])
        .prop_map(|name| name.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..8),
    ];
    let value = prop_oneof![
        hostile_text().prop_map(String::into_bytes),
        select(vec![
            "1000",
            "1001",
            "asc",
            "updated_at",
            "available",
            "pendingAcceptance",
            "+5",
            "1e3",
            "٣"
        ])
        .prop_map(|v| v.as_bytes().to_vec()),
        prop::collection::vec(any::<u8>(), 0..30),
    ];
    let pair = (name, value).prop_map(|(n, v)| format!("{}={}", encoded(&n), encoded(&v)));
    // And what is no pair: signs alone, escapes that are none.
    let part = prop_oneof![8 => pair, 1 => "[&=+%?/a-z0-9]{0,12}"];
    prop::collection::vec(part, 0..5).prop_map(|parts| parts.join("&"))
}

#[test]
fn wild_queries() {
    let table: Vec<_> = operations().into_iter().filter(|o| o.method == "GET").collect();
    explore(&(any::<Index>(), query()), async |arena, (index, query)| {
        let operation = index.get(&table);
        let things = arena.things().await;
        let (path, _) = filled(operation, &things);
        let client = client(arena, operation);
        let request = client
            .request("GET", &format!("{path}?{query}"))
            .body(Body::empty())
            .unwrap();
        arena.judge(client, request, true).await?;
        Ok(())
    });
}

#[test]
fn wild_paths_and_methods() {
    let table = operations();
    let segment = prop_oneof![
        hostile_text().prop_map(|t| encoded(t.as_bytes())),
        prop::collection::vec(any::<u8>(), 0..20).prop_map(|b| encoded(&b)),
        select(vec![
            "", ".", "..", "public", "describe", "action", "quotas", "tags", "%2F", "%", "%FF", "v1", "v2"
        ])
        .prop_map(str::to_owned),
    ];
    let method = select(vec![
        "GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE", "PURGE",
    ]);
    let change = (any::<Index>(), any::<Index>(), segment, method, any::<bool>());
    explore(&change, async |arena, (index, at, segment, method, keep)| {
        let operation = index.get(&table);
        let things = arena.things().await;
        let (path, body) = filled(operation, &things);
        let mut parts: Vec<_> = path.split('/').map(str::to_owned).collect();
        *at.get_mut(&mut parts) = segment;
        let path = format!("/{}", parts.join("/").trim_start_matches('/'));
        let client = client(arena, operation);
        let method = if keep { &*operation.method } else { method };
        let request = client.request(method, &path);
        let body = body.map_or(Body::empty(), |body| Body::from(body.to_string()));
        let Ok(request) = request.body(body) else {
            return Ok(());
        };
        // A HEAD has no body to judge.
        let ours = request.method() != Method::HEAD && !companions::owns(&path);
        arena.judge(client, request, ours).await?;
        Ok(())
    });
}

#[test]
fn wild_headers() {
    let table = operations();
    let name = select(vec![
        "x-auth-token",
        "authorization",
        "x-sdk-date",
        "x-sdk-content-sha256",
        "x-project-id",
        "x-domain-id",
        "x-security-token",
        "x-request-id",
        "content-type",
        "accept",
        "host",
        "x-forwarded-proto",
        "x-forwarded-host",
        "expect",
        "te",
        "cookie",
    ]);
    let signature = "SDK-HMAC-SHA256 (Access|Credential)=[A-Z]{0,13}(/[0-9]{0,8}///sdk_request)?,? ?(SignedHeaders=[a-z;-]{0,30},? ?)?\
                     (Signature=[0-9a-f]{0,64})?";
    let value = prop_oneof![
        2 => signature.prop_map(String::into_bytes),
        1 => "(DEMOACCESSKEY|[0-9]{8}T[0-9]{6}Z|application/json|text/xml|https|Bearer [a-z]{0,9}|SDK-[A-Z0-9-]{0,12} .{0,9})"
            .prop_map(String::into_bytes),
        2 => prop::collection::vec(any::<u8>(), 0..60),
        1 => (0..5000usize).prop_map(|n| vec![b'a'; n]),
    ];
    let headers = prop::collection::vec((name, value), 1..5);
    explore(&(any::<Index>(), headers), async |arena, (index, headers)| {
        let operation = index.get(&table);
        let things = arena.things().await;
        let (path, body) = filled(operation, &things);
        let body = body.map_or(Body::empty(), |body| Body::from(body.to_string()));
        let client = client(arena, operation);
        let mut request = client.request(&operation.method, &path).body(body).unwrap();
        for (name, value) in headers {
            if let Ok(value) = HeaderValue::from_bytes(&value) {
                request.headers_mut().insert(HeaderName::from_static(name), value);
            }
        }
        arena.judge(client, request, true).await?;
        Ok(())
    });
}
