//! What an operator sees of a region: health, metrics, logs; and how it holds a project back.
#![expect(clippy::unwrap_used, reason = "a test's panic is its verdict")]

mod process;

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{Read, Write},
    net::TcpStream,
    path::Path,
};

use process::{Client, PROJECT, Region, until};
use rustix::process::Signal;
use serde_json::{Value, json};

/// A GET by nobody, answered with a status and a text.
fn ask(url: &str, header: Option<(&str, &str)>) -> Option<(u16, String)> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .build()
        .into();
    let request = header.iter().fold(agent.get(url), |request, (name, value)| {
        request.header(*name, *value)
    });
    let mut reply = request.call().ok()?;
    let text = reply.body_mut().read_to_string().ok()?;
    Some((reply.status().as_u16(), text))
}

/// The names and types of metrics, as the text form gives them.
fn types(metrics: &str) -> BTreeSet<(String, String)> {
    let lines = metrics.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    lines
        .map(|line| line.split_once(' ').unwrap())
        .map(|(n, t)| (n.to_owned(), t.to_owned()))
        .collect()
}

#[test]
fn every_metric_is_documented_and_every_documented_one_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let region = Region::start(folder.path(), &["--no-gateway"]);
    Client::demo(&region.api).must("GET", "vpc-endpoints", None);
    let (status, metrics) = ask(&format!("{}/metrics", region.api), None).unwrap();
    assert_eq!(status, 200);
    let page =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/metrics.md")).unwrap();
    let documented = page.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| `")?.split('|');
        let name = cells.next()?.trim().trim_end_matches('`');
        Some((name.to_owned(), cells.next()?.trim().to_owned()))
    });
    assert_eq!(documented.collect::<BTreeSet<_>>(), types(&metrics));
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
    let flags = ["--no-gateway", "--metrics-listen", "127.0.0.1:0"];
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

    // A request whose body does not come holds the end up for a moment.
    let mut half = TcpStream::connect(region.api.strip_prefix("http://").unwrap()).unwrap();
    write!(
        half,
        "POST /v3/auth/tokens HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n"
    )
    .unwrap();
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
    assert!(region.stop());
    let _ = half.read_to_end(&mut Vec::new());
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
