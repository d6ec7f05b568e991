//! Signed requests: what real clients signed is accepted, and nothing else.
//!
//! `signature.json` has the requests. Those of the first form were recorded from Huawei Cloud's SDK for Python 3.1.219 with
//! its clock held at the stage's start; those of the older one were computed from its description by a program of its own.

use std::sync::Arc;

use adit_server::{Caller, Evidence, Identity, Rejection};
use axum::{
    body::Body,
    http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri},
};
use proptest::prelude::*;
use serde_json::Value;

use crate::stage::{Reply, Stage, answer};

const DEMO: &str = "6e9dfd51d1124e8d8498dce894923a0d";
const OTHER: &str = "7fae0e62e2235f9e95a9edf9a5a34b1e";

/// A signed request.
#[derive(Clone, Debug)]
struct Signed {
    name: String,
    method: String,
    target: String,
    headers: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
}

fn vectors() -> Vec<Signed> {
    let read: Vec<Value> = serde_json::from_str(include_str!("signature.json")).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    read.iter()
        .map(|v| Signed {
            name: text(&v["name"]),
            method: text(&v["method"]),
            target: text(&v["target"]),
            headers: v["headers"]
                .as_object()
                .unwrap()
                .iter()
                .map(|(name, value)| (name.clone(), text(value).into_bytes()))
                .collect(),
            body: text(&v["body"]).into_bytes(),
        })
        .collect()
}

impl Signed {
    fn of(name: &str) -> Self {
        vectors().into_iter().find(|v| v.name == name).unwrap()
    }

    /// The same with another value of a header, or without it.
    fn with(mut self, name: &str, value: Option<&str>) -> Self {
        self.headers.retain(|(other, _)| other != name);
        if let Some(value) = value {
            self.headers.push((name.to_owned(), value.as_bytes().to_vec()));
        }
        self
    }

    fn header(&self, name: &str) -> String {
        let (_, value) = self.headers.iter().find(|(other, _)| other == name).unwrap();
        String::from_utf8(value.clone()).unwrap()
    }

    fn header_or_empty(&self, name: &str) -> String {
        let found = self.headers.iter().find(|(other, _)| other == name);
        found.map_or(String::new(), |_| self.header(name))
    }

    /// The same with a part of its header `Authorization` replaced.
    fn authorization(self, from: &str, to: &str) -> Self {
        let old = self.header("authorization");
        assert!(old.contains(from), "{old}");
        self.with("authorization", Some(&old.replacen(from, to, 1)))
    }

    fn parts(&self) -> Option<(Method, Uri, HeaderMap)> {
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers {
            headers.append(
                HeaderName::from_bytes(name.as_bytes()).ok()?,
                HeaderValue::from_bytes(value).ok()?,
            );
        }
        let method = Method::from_bytes(self.method.as_bytes()).ok()?;
        Some((method, self.target.parse().ok()?, headers))
    }

    /// What the region says of it; `None` where it is no request at all.
    fn judge(&self, stage: &Stage) -> Option<Result<Arc<Caller>, Rejection>> {
        let (method, uri, headers) = self.parts()?;
        let evidence = Evidence {
            method: &method,
            uri: &uri,
            headers: &headers,
            body: &self.body,
        };
        // Nothing in it waits.
        let judged = futures_now(stage.cloud.authenticate(evidence));
        Some(judged)
    }

    /// The project that it was accepted for.
    #[track_caller]
    fn accepted(&self, stage: &Stage) -> Option<String> {
        let caller = self
            .judge(stage)
            .unwrap()
            .unwrap_or_else(|e| panic!("{}: {e}", self.name));
        assert_eq!(caller.user_name, "demo", "{}", self.name);
        caller.project.as_ref().map(ToString::to_string)
    }

    /// Why it was refused.
    #[track_caller]
    fn refused(&self, stage: &Stage) -> String {
        match self.judge(stage).unwrap() {
            Err(Rejection::Signature(why)) => why,
            other => panic!("{}: {other:?}", self.name),
        }
    }

    async fn send(&self, stage: &Stage) -> Reply {
        let mut request = Request::builder().method(self.method.as_str()).uri(&self.target);
        for (name, value) in &self.headers {
            request = request.header(name, HeaderValue::from_bytes(value).unwrap());
        }
        let request = request.body(Body::from(self.body.clone())).unwrap();
        answer(&stage.router, request).await
    }
}

fn futures_now<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    match future
        .as_mut()
        .poll(&mut std::task::Context::from_waker(std::task::Waker::noop()))
    {
        std::task::Poll::Ready(ready) => ready,
        std::task::Poll::Pending => panic!("a signature waits for something"),
    }
}

#[tokio::test]
async fn what_clients_sign_is_accepted() {
    let stage = Stage::new().await;
    for signed in vectors() {
        assert_eq!(signed.accepted(&stage).as_deref(), Some(DEMO), "{}", signed.name);
    }
}

#[tokio::test]
async fn a_signature_is_good_for_fifteen_minutes_before_and_after() {
    for name in ["quotas", "older: list"] {
        let stage = Stage::new().await;
        let signed = Signed::of(name);
        stage.advance(15 * 60);
        signed.accepted(&stage);
        stage.advance(1);
        assert!(signed.refused(&stage).contains("X-Sdk-Date"));
        // The stage's clock starts at the vectors' date; one that is behind has not come so far.
        let behind = Stage::starting_before(15 * 60).await;
        signed.accepted(&behind);
        let behind = Stage::starting_before(15 * 60 + 1).await;
        assert!(signed.refused(&behind).contains("X-Sdk-Date"));
    }
}

#[tokio::test]
async fn whatever_else_is_sent_is_refused() {
    let stage = Stage::new().await;
    for name in ["create service", "older: load balancer"] {
        let signed = Signed::of(name);
        signed.accepted(&stage);
        let credential = |to: &str| signed.clone().authorization("DEMOACCESSKEY", to);
        let refused = |signed: Signed, why: &str| {
            let said = signed.refused(&stage);
            assert!(said.contains(why), "{name}: {said}, not {why}");
        };
        let unknown = credential("NOSUCHKEY").refused(&stage);
        let digit = signed.header("authorization").pop().unwrap();
        let mut wrong = signed.header("authorization");
        wrong.pop();
        wrong.push(if digit == '0' { '1' } else { '0' });
        // Whether a key exists is not told.
        assert_eq!(
            signed.clone().with("authorization", Some(&wrong)).refused(&stage),
            unknown
        );
        assert!(unknown.contains("unknown"));
        refused(
            signed.clone().with("x-security-token", Some("temporary")),
            "X-Security-Token",
        );
        refused(signed.clone().with("x-sdk-date", None), "X-Sdk-Date");
        for date in [
            "",
            "20270115",
            "2027-01-15T08:00:00Z",
            "20271315T080000Z",
            "20270115T080000z",
            "20270115T080000é",
        ] {
            refused(signed.clone().with("x-sdk-date", Some(date)), "X-Sdk-Date");
        }
        refused(signed.clone().authorization("host;", ""), "host");
        refused(signed.clone().authorization(";x-sdk-date", ""), "x-sdk-date");
        refused(signed.clone().with("host", None), "host");
        refused(signed.clone().with("user-agent", None), "user-agent");
        let mut twice = signed.clone();
        twice.headers.push(("user-agent".into(), b"x".to_vec()));
        refused(twice, "more than once");
        let mut twice = signed.clone();
        twice.headers.push((
            "authorization".into(),
            signed.header("authorization").into_bytes(),
        ));
        refused(twice, "more than once");
        refused(
            signed
                .clone()
                .with("x-domain-id", Some("b4e2d3c5f6a7182930b4c5d6e7f8091a")),
            "X-Domain-Id",
        );
        refused(
            signed
                .clone()
                .with("x-sdk-content-sha256", Some("UNSIGNED-PAYLOAD")),
            "signature",
        );
        let hash = "0".repeat(64);
        refused(
            signed.clone().with("x-sdk-content-sha256", Some(&hash)),
            "X-Sdk-Content-Sha256",
        );
        for header in [
            "SDK-HMAC-SHA256",
            "SDK-HMAC-SHA256 ",
            "SDK-HMAC-SHA256 Access=DEMOACCESSKEY",
        ] {
            refused(
                signed.clone().with("authorization", Some(header)),
                "Authorization",
            );
        }
    }
    let other_day = Signed::of("older: list").authorization("/20270115/", "/20270114/");
    assert!(other_day.refused(&stage).contains("day"));
    // The region and the service are part of what is signed.
    Signed::of("older: list")
        .authorization("///", "/eu-de//")
        .refused(&stage);
    Signed::of("older: list")
        .authorization("///", "//vpcep/")
        .refused(&stage);
}

#[tokio::test]
async fn a_key_means_a_project() {
    let stage = Stage::new().await;
    let eu_de = "3d0c6b8a9f1e4c2b8a7d5e6f4c3b2a19";
    // The older form's clients name none, or name one beside the signature; the path's counts more than such a hint.
    let balancer = Signed::of("older: load balancer");
    let project = |signed: &Signed, id: &str| signed.clone().with("x-project-id", Some(id)).accepted(&stage);
    assert_eq!(balancer.accepted(&stage).as_deref(), Some(DEMO));
    assert_eq!(project(&balancer, eu_de).as_deref(), Some(eu_de));
    assert_eq!(project(&balancer, OTHER), None);
    assert_eq!(project(&balancer, "x"), None);
    let listed = Signed::of("older: list");
    assert_eq!(project(&listed, eu_de).as_deref(), Some(DEMO));
    // Where the header is signed it is the caller's word, and cannot be changed.
    let quotas = Signed::of("quotas");
    quotas.clone().with("x-project-id", Some(eu_de)).refused(&stage);
    quotas.with("x-project-id", None).refused(&stage);
}

#[tokio::test]
async fn every_api_of_the_cloud_takes_signed_requests() {
    let (stage, _cancel) = Stage::with_vpcep().await;
    for (name, status) in [
        ("quotas", 200),
        ("versions", 200),
        ("create service", 200),
        ("project by name of region", 200),
        ("older: projects", 200),
        ("older: list", 200),
        ("older: load balancer", 201),
    ] {
        let signed = Signed::of(name);
        signed.send(&stage).await.expect(status);
        // Another body, under the same signature; and no good signature at all.
        let mut changed = signed.clone();
        changed.body.push(b' ');
        let open = name == "versions";
        for bad in [changed, signed.authorization("DEMOACCESSKEY", "NOSUCHKEY")] {
            let body = bad.send(&stage).await.expect(if open { 200 } else { 401 });
            if !open {
                assert_eq!(body["error_code"], "APIGW.0301", "{name} {body}");
                assert!(
                    body["error_msg"].as_str().is_some_and(|m| !m.is_empty()),
                    "{name} {body}"
                );
            }
        }
    }
    let body = Signed::of("project by name of region")
        .send(&stage)
        .await
        .expect(200);
    assert_eq!(body["projects"].as_array().unwrap().len(), 1);
    assert_eq!(body["projects"][0]["name"], "eu-de");
}

/// Something that is replaced.
#[derive(Clone, Copy, Debug)]
enum Place {
    Method,
    Target,
    Body,
    Header,
    Authorization,
}

fn place() -> impl Strategy<Value = Place> {
    prop_oneof![
        Just(Place::Method),
        Just(Place::Target),
        Just(Place::Body),
        Just(Place::Header),
        Just(Place::Authorization)
    ]
}

fn replace(bytes: &mut [u8], at: prop::sample::Index, by: u8) -> bool {
    if bytes.is_empty() {
        return false;
    }
    let at = at.index(bytes.len());
    let changed = !bytes[at].eq_ignore_ascii_case(&by);
    bytes[at] = by;
    changed
}

/// One for all cases: making a region takes longer than judging a signature.
fn stage() -> Stage {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let stage = runtime.block_on(Stage::new());
    // The store's and the cache's threads live as long as the test.
    std::mem::forget(runtime);
    stage
}

#[test]
fn any_byte_that_was_signed_counts() {
    let stage = stage();
    let vectors = vectors();
    // What the percent signs of a path or a query say can be written in several ways; the changed byte must change what is
    // said, so letters are changed for letters.
    let byte = prop_oneof![
        Just(b'0'),
        Just(b'q'),
        Just(b'Z'),
        Just(b'-'),
        any::<u8>().prop_filter("text", u8::is_ascii_alphanumeric)
    ];
    let strategy = (
        prop::sample::select(vectors),
        place(),
        any::<prop::sample::Index>(),
        any::<prop::sample::Index>(),
        byte,
    );
    proptest!(|((signed, place, which, at, by) in strategy)| {
        let mut changed = signed.clone();
        let names = signed.header("authorization");
        let names = names.split("SignedHeaders=").nth(1).unwrap().split(',').next().unwrap().to_owned();
        let unsigned_body = signed.header_or_empty("x-sdk-content-sha256") == "UNSIGNED-PAYLOAD";
        let meant = match place {
            Place::Method => {
                changed.method = ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD"][which.index(6)].to_owned();
                changed.method != signed.method
            }
            Place::Target => {
                let mut bytes = signed.target.clone().into_bytes();
                let letter = bytes[at.index(bytes.len())].is_ascii_alphanumeric();
                let changes = letter && replace(&mut bytes, at, by) && !signed.target.contains('%');
                changed.target = String::from_utf8(bytes).unwrap();
                changes && changed.target.starts_with('/')
            }
            Place::Body => replace(&mut changed.body, at, by) && !unsigned_body,
            Place::Header => {
                let listed: Vec<&str> = names.split(';').collect();
                let name = listed[which.index(listed.len())];
                let (_, value) = changed.headers.iter_mut().find(|(n, _)| n == name).unwrap();
                replace(value, at, by)
            }
            Place::Authorization => {
                let (_, value) = changed.headers.iter_mut().find(|(n, _)| n == "authorization").unwrap();
                replace(value, at, by)
            }
        };
        prop_assume!(meant);
        let Some(judged) = changed.judge(&stage) else { return Ok(()) };
        prop_assert!(judged.is_err(), "{place:?} {changed:?}");
    });
}

#[test]
fn garbage_is_refused_and_never_panics() {
    let stage = stage();
    let text = || {
        prop_oneof![
            "\\PC{0,40}",
            "(SDK-HMAC-SHA256 )?(Access|Credential)?=?[A-Z/0-9]{0,20}(///sdk_request)?, ?SignedHeaders=[a-z;-]{0,30}, ?Signature=[0-9a-f]{0,70}",
        ]
    };
    let header = (
        prop::sample::select(vec![
            "host",
            "x-sdk-date",
            "x-project-id",
            "x-domain-id",
            "x-sdk-content-sha256",
            "x-auth-token",
            "a",
        ]),
        prop::collection::vec(any::<u8>(), 0..40),
    );
    let strategy = (
        text(),
        prop::collection::vec(header, 0..6),
        "/[ -~]{0,40}",
        prop::collection::vec(any::<u8>(), 0..40),
    );
    proptest!(|((authorization, headers, target, body) in strategy)| {
        let mut signed = Signed {
            name: "garbage".to_owned(),
            method: "GET".to_owned(),
            target,
            headers: headers.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
            body,
        };
        signed.headers.push(("authorization".to_owned(), authorization.into_bytes()));
        if let Some(judged) = signed.judge(&stage) {
            prop_assert!(judged.is_err());
        }
    });
}
