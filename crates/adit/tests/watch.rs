//! What an operator sees of a region: health, metrics, logs; and how it holds a project back.
#![expect(clippy::unwrap_used, reason = "a test's panic is its verdict")]

mod process;

use std::{
    fs::{self, File},
    path::Path,
};

use process::{
    BACKEND_PORT, BACKEND_SUBNET, BACKEND_VPC, Client, PROJECT, Region,
    metrics::{ask, documented, types},
    until,
};
use rustix::process::Signal;
use serde_json::{Value, json};

#[test]
fn every_metric_is_documented_and_every_documented_one_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let region = Region::start(folder.path(), &["--no-gateway"]);
    Client::demo(&region.api).must("GET", "vpc-endpoints", None);
    let (status, metrics) = ask(&format!("{}/metrics", region.api), None).unwrap();
    assert_eq!(status, 200);
    assert_eq!(documented("Metrics"), types(&metrics));
    // An id is no label.
    assert!(!metrics.contains(PROJECT), "{metrics}");
    let pattern =
        "adit_http_requests_total{method=\"GET\",route=\"/v1/{project_id}/vpc-endpoints\",status=\"200\"} 1";
    assert!(metrics.contains(pattern), "{metrics}");
    // Who comes by a proxy may be anybody.
    let forwarded = Some(("x-forwarded-for", "192.0.2.1"));
    let (status, text) = ask(&format!("{}/metrics", region.api), forwarded).unwrap();
    assert!(status == 404 && text.contains("EndPoint.0005"), "{text}");
    for path in ["healthz", "readyz"] {
        assert_eq!(ask(&format!("{}/{path}", region.api), forwarded).unwrap().0, 200);
    }
    assert!(region.stop());
}

#[test]
fn a_region_that_ends_says_so_to_those_who_watch_it() {
    let folder = tempfile::tempdir().unwrap();
    let region = Region::start(folder.path(), &["--no-gateway"]);
    let demo = Client::demo(&region.api);
    let body = json!({"port_id": BACKEND_PORT, "vpc_id": BACKEND_VPC, "server_type": "VM",
        "ports": [{"client_port": 80, "server_port": 80}]});
    let service = demo.must("POST", "vpc-endpoint-services", Some(&body))["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let path = format!("vpc-endpoint-services/{service}");
    until("the service", || {
        (demo.must("GET", &path, None)["status"] == "available").then_some(())
    });
    let body = json!({"endpoint_service_id": service, "vpc_id": BACKEND_VPC, "subnet_id": BACKEND_SUBNET});
    let endpoint = demo.must("POST", "vpc-endpoints", Some(&body))["id"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(region.stop());
    // From now on nothing is accepted for an hour; who accepts it waits for a moment, and is told so.
    let flags = ["--no-gateway", "--delay", "1h", "--metrics-listen", "127.0.0.1:0"];
    let region = Region::start(folder.path(), &flags);
    let run: Value = serde_json::from_slice(&fs::read(folder.path().join("run.json")).unwrap()).unwrap();
    let metrics = run["metrics"].as_str().unwrap();
    let base = metrics.strip_suffix("/metrics").unwrap();
    assert!(ask(metrics, None).unwrap().1.contains("adit_build_info{version="));
    assert_eq!(ask(&format!("{base}/readyz"), None).unwrap().0, 200);
    assert_eq!(ask(&format!("{base}/v1"), None).unwrap().0, 404);
    // Beside the API, they are no more.
    assert_eq!(ask(&format!("{}/metrics", region.api), None).unwrap().0, 404);
    assert_eq!(ask(&format!("{}/readyz", region.api), None).unwrap().0, 200);

    let demo = Client::demo(&region.api);
    let receive = std::thread::spawn(move || {
        let body = json!({"endpoints": [endpoint], "action": "receive"});
        demo.must("POST", &format!("{path}/connections/action"), Some(&body))
    });
    until("the request to be in progress", || {
        ask(metrics, None)
            .unwrap()
            .1
            .contains("\nadit_http_requests_in_progress 1\n")
            .then_some(())
    });
    region.signal(Signal::TERM);
    let (status, text) = until("the end to be told", || {
        ask(&format!("{base}/readyz"), None).filter(|(status, _)| *status != 200)
    });
    assert_eq!(status, 503);
    assert_eq!(
        serde_json::from_str::<Value>(&text).unwrap(),
        json!({"ready": false, "reasons": ["stopping"]})
    );
    assert_eq!(receive.join().unwrap()["connections"][0]["status"], "creating");
    assert!(region.stop());
}

#[test]
fn the_log_is_json_where_it_is_asked_for_and_holds_no_secret() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let flags = ["--no-gateway", "--log-format", "json", "--access-log"];
    let region = Region::start_logged(&folder.path().join("data"), &flags, File::create(&log).unwrap());
    let client = Client::demo(&region.api);
    client.must("GET", "vpc-endpoints?limit=1", None);
    client.try_call("GET", "vpc-endpoints/not-an-id", None).unwrap();
    assert!(region.stop());
    let text = fs::read_to_string(log).unwrap();
    let lines: Vec<Value> = text
        .lines()
        .filter(|line| line.starts_with('{'))
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let access: Vec<&Value> = lines
        .iter()
        .filter(|line| line["target"] == "adit::access")
        .collect();
    let seen: Vec<_> = access
        .iter()
        .map(|line| {
            let text = |field: &str| line[field].as_str().unwrap_or("-").to_owned();
            (
                text("http.method"),
                text("http.route"),
                line["http.status"].as_u64().unwrap(),
                text("project.id"),
            )
        })
        .collect();
    let of = |method: &str, route: &str, status, project: &str| {
        (method.to_owned(), route.to_owned(), status, project.to_owned())
    };
    assert_eq!(
        seen,
        [
            of("POST", "/v3/auth/tokens", 201, "-"),
            of("GET", "/v1/{project_id}/vpc-endpoints", 200, PROJECT),
            of(
                "GET",
                "/v1/{project_id}/vpc-endpoints/{vpc_endpoint_id}",
                400,
                PROJECT
            ),
        ]
    );
    for line in access {
        assert!(line["client.address"].as_str().unwrap().starts_with("127.0.0.1:"));
        assert_eq!(line["request.id"].as_str().unwrap().len(), 36);
        assert!(line["duration_ms"].as_f64().unwrap() > 0.0);
    }
    assert!(
        !text.contains("demo-password") && !text.contains("limit=1"),
        "{text}"
    );
}

#[test]
fn a_project_that_writes_too_often_is_held_back_and_may_still_read() {
    let folder = tempfile::tempdir().unwrap();
    let flags = ["--no-gateway", "--rate-writes", "1"];
    let region = Region::start(folder.path(), &flags);
    let (demo, other) = (Client::demo(&region.api), Client::other(&region.api));
    let write = |client: &Client| {
        client
            .try_call("POST", "vpc-endpoints", Some(&json!({})))
            .unwrap()
    };
    let code = |reply: &(u16, Value)| (reply.0, reply.1["error_code"].as_str().unwrap().to_owned());
    // Some pass, since a second's worth comes back as they go.
    let refused = until("a refusal", || {
        Some(write(&demo)).filter(|reply| code(reply).1 == "EndPoint.0022")
    });
    assert_eq!(refused.0, 400);
    let message = refused.1["error_msg"].as_str().unwrap();
    assert!(
        message.contains(PROJECT) && message.contains("writes"),
        "{message}"
    );
    demo.must("GET", "vpc-endpoints", None);
    assert_ne!(code(&write(&other)).1, "EndPoint.0022");
    let metrics = ask(&format!("{}/metrics", region.api), None).unwrap().1;
    let limited = |kind: &str| {
        let name = format!("adit_requests_rate_limited_total{{kind=\"{kind}\"}} ");
        metrics
            .lines()
            .find_map(|line| line.strip_prefix(&name))
            .unwrap()
            .parse::<u64>()
            .unwrap()
    };
    assert!(limited("writes") >= 1);
    assert_eq!(limited("reads"), 0);
    assert!(region.stop());
}

#[test]
fn every_attempt_is_in_the_audit_log_when_the_region_has_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.jsonl");
    let flags = ["--no-gateway", "--audit-log", path.to_str().unwrap()];
    let region = Region::start(&folder.path().join("data"), &flags);
    let demo = Client::demo(&region.api);
    const CLIENTS: usize = 4;
    const EACH: usize = 25;
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                for _ in 0..EACH {
                    let (status, _) = demo.try_call("POST", "vpc-endpoints", Some(&json!({}))).unwrap();
                    assert_eq!(status, 400);
                }
            });
        }
    });
    assert!(region.stop());
    let text = fs::read_to_string(&path).unwrap();
    let records: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    // The login, and what followed it.
    assert_eq!(records.len(), 1 + CLIENTS * EACH);
    for record in &records[1..] {
        assert_eq!(record["outcome"], "failure", "{record}");
        assert_eq!(record["initiator"]["name"], "demo", "{record}");
        assert_eq!(record["initiator"]["host"]["address"], "127.0.0.1", "{record}");
    }
    let mode = std::os::unix::fs::MetadataExt::mode(&fs::metadata(&path).unwrap());
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn an_audit_log_that_is_rotated_goes_on_in_a_new_file() {
    let folder = tempfile::tempdir().unwrap();
    let (path, rotated) = (
        folder.path().join("audit.jsonl"),
        folder.path().join("audit.jsonl.1"),
    );
    let flags = ["--no-gateway", "--audit-log", path.to_str().unwrap()];
    let region = Region::start(&folder.path().join("data"), &flags);
    let demo = Client::demo(&region.api);
    let attempt = |id: &str| {
        demo.try_call("DELETE", &format!("vpc-endpoints/{id}"), None)
            .unwrap();
    };
    attempt("before");
    fs::rename(&path, &rotated).unwrap();
    region.signal(rustix::process::Signal::HUP);
    until("the log to be opened anew", || path.exists().then_some(()));
    attempt("after");
    assert!(region.stop());
    let targets = |path: &Path| -> Vec<Value> {
        let text = fs::read_to_string(path).unwrap();
        let records = text
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap());
        records.map(|record| record["target"]["id"].clone()).collect()
    };
    // The first record is the login's.
    assert_eq!(targets(&rotated)[1..], ["before"]);
    assert_eq!(targets(&path), ["after"]);
}

#[test]
fn an_audit_log_that_cannot_be_written_stops_the_region_before_it_starts() {
    let folder = tempfile::tempdir().unwrap();
    let nowhere = folder.path().join("none/audit.jsonl");
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_adit"))
        .args([
            "dev",
            "--ephemeral",
            "--no-gateway",
            "--listen",
            "127.0.0.1:0",
            "--audit-log",
        ])
        .arg(&nowhere)
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        !output.status.success() && said.contains(nowhere.to_str().unwrap()),
        "{said}"
    );
}

/// Sends what nobody else may see, in every place where a client puts it, and answers every reply as text.
fn send_secrets(api: &str, token: &str) -> String {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .build()
        .into();
    let login = |user: Value| {
        json!({"auth": {"identity": {"methods": ["password"], "password": {"user": user}}}}).to_string()
    };
    let domain = json!({"name": "demo-domain"});
    let by_token = json!({"auth": {"identity": {"methods": ["token"], "token": {"id": token}}}});
    let mut replies = String::new();
    let mut send = |method: &str, path: &str, headers: &[(&str, &str)], body: String| {
        let mut request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("{api}{path}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut reply = agent.run(request.body(body).unwrap()).unwrap();
        replies += &reply.body_mut().read_to_string().unwrap();
    };
    for body in [
        login(json!({"name": "demo", "domain": domain, "password": "demo-password"})),
        login(json!({"name": "demo", "domain": domain, "password": "wrong-secret"})),
        login(json!({"name": "demo", "domain": domain, "password": ["wrong-secret"]})),
        login(json!("wrong-secret")),
        "{\"auth\": \"wrong-secret".to_owned(),
        by_token.to_string(),
    ] {
        send("POST", "/v3/auth/tokens", &[], body);
    }
    let signed =
        format!("SDK-HMAC-SHA256 Access=DEMOACCESSKEY, SignedHeaders=host;x-sdk-date, Signature={SIGNATURE}");
    let date = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
    let services = format!("/v1/{PROJECT}/vpc-endpoint-services");
    for (method, path, headers) in [
        ("GET", &*services, &[("x-auth-token", token)][..]),
        ("POST", &services, &[("x-auth-token", token)]),
        ("GET", &services, &[("x-auth-token", "wrong-secret")]),
        (
            "GET",
            &services,
            &[("authorization", &signed), ("x-sdk-date", &date)],
        ),
        (
            "GET",
            "/v3/projects",
            &[("authorization", &signed), ("x-sdk-date", &date)],
        ),
        (
            "GET",
            &services,
            &[("authorization", "SDK-HMAC-SHA256 wrong-secret")],
        ),
        (
            "GET",
            "/v3/auth/tokens",
            &[("x-auth-token", token), ("x-subject-token", "wrong-secret")],
        ),
        (
            "DELETE",
            "/v3/auth/tokens",
            &[("x-auth-token", token), ("x-subject-token", token)],
        ),
        ("GET", &services, &[("x-auth-token", token)]),
    ] {
        send(method, path, headers, String::new());
    }
    replies
}

/// What a signature looks like.
const SIGNATURE: &str = "5ec7e75ec7e75ec7e75ec7e75ec7e75ec7e75ec7e75ec7e75ec7e75ec7e75ec7";

#[test]
fn no_secret_is_in_any_log_or_reply() {
    for format in ["text", "json"] {
        let folder = tempfile::tempdir().unwrap();
        let (log, audit) = (folder.path().join("log"), folder.path().join("audit"));
        let flags = [
            "--no-gateway",
            "--log",
            "trace",
            "--log-format",
            format,
            "--access-log",
            "--audit-log",
            audit.to_str().unwrap(),
        ];
        let data = folder.path().join("data");
        let region = Region::start_logged(&data, &flags, File::create(&log).unwrap());
        let token = Client::demo(&region.api).token().to_owned();
        let replies = send_secrets(&region.api, &token);
        assert!(region.stop());
        let log = fs::read_to_string(log).unwrap();
        let audit = fs::read_to_string(audit).unwrap();
        assert!(log.contains("/v3/auth/tokens"), "{log:.2000}");
        assert_eq!(
            audit
                .lines()
                .filter(|line| line.contains("\"authenticate\""))
                .count(),
            7
        );
        for secret in [
            "demo-password",
            "wrong-secret",
            "DEMOSECRETKEY",
            SIGNATURE,
            &token,
            token.split('.').nth(1).unwrap(),
        ] {
            for (place, text) in [("log", &log), ("audit log", &audit), ("replies", &replies)] {
                let line = text.lines().find(|line| line.contains(secret));
                assert!(line.is_none(), "{secret} is in the {place}: {}", line.unwrap());
            }
        }
    }
}

#[test]
fn no_token_is_in_the_log_of_http_2() {
    let test = "no_token_is_in_the_log_of_http_2";
    if process::skip_without("curl", test) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let flags = ["--no-gateway", "--tls", "self-signed", "--log", "trace"];
    let region = Region::start_logged(&folder.path().join("data"), &flags, File::create(&log).unwrap());
    let said = std::process::Command::new("curl")
        .args([
            "--silent",
            "--insecure",
            "--http2",
            "--max-time",
            "30",
            "--write-out",
            "%{http_version}",
        ])
        .args(["--header", "X-Auth-Token: secret-token"])
        .args(["--header", &format!("X-Subject-Token: {SIGNATURE}")])
        .arg(format!("{}/v3/auth/tokens", region.api))
        .output()
        .unwrap();
    let said = String::from_utf8(said.stdout).unwrap();
    assert!(region.stop());
    assert!(said.contains("401") && said.ends_with('2'), "{said}");
    let log = fs::read_to_string(log).unwrap();
    // The library of HTTP/2 does write what it does.
    assert!(log.contains("h2::"), "{log:.2000}");
    for secret in ["secret-token", SIGNATURE] {
        let line = log.lines().find(|line| line.contains(secret));
        assert!(line.is_none() && !said.contains(secret), "{line:?} {said}");
    }
}
