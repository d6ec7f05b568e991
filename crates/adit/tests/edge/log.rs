//! What is logged of a request, and of a defect that it met.

use std::{
    io::{self, Write},
    sync::Arc,
};

use adit_server::edge;
use parking_lot::Mutex;
use serde_json::Value;

use crate::rig::{Server, blocking, get_on};

/// Where a test's log goes.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

// One thread, so that the server's tasks log where the test looks.
#[tokio::test]
async fn a_request_s_line_says_what_it_was_and_a_panic_names_the_request() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_span_list(false)
        .with_writer(move || writer.clone())
        .finish();
    let _here = tracing::subscriber::set_default(subscriber);
    let hook = std::panic::take_hook();
    edge::log_panics();
    let server = Server::start().await;
    let (first, second) = (server.connect(), server.connect());
    let own = first.local_addr().unwrap();
    let reply = blocking(move || get_on(first, "/things/17?secret=x")).await;
    let unknown = blocking(move || get_on(second, "/nowhere/at/all")).await;
    std::panic::set_hook(hook);
    assert!(
        reply.starts_with("HTTP/1.1 500") && reply.contains("EndPoint.0001"),
        "{reply}"
    );
    assert!(unknown.starts_with("HTTP/1.1 404"), "{unknown}");
    let id = reply
        .lines()
        .find_map(|line| line.strip_prefix("x-request-id: "))
        .unwrap();
    server.stop().await;

    let text = String::from_utf8(log.0.lock().clone()).unwrap();
    assert!(!text.contains("secret=x"), "{text}");
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let panic = lines
        .iter()
        .find(|line| line["panic.message"] == "a bug, on purpose")
        .unwrap();
    assert_eq!(panic["level"], "ERROR");
    assert_eq!(panic["span"]["request.id"], id);
    assert!(
        panic["panic.location"].as_str().unwrap().contains("rig.rs"),
        "{panic}"
    );
    let access: Vec<&Value> = lines
        .iter()
        .filter(|line| line["target"] == "adit::access")
        .collect();
    assert_eq!(access.len(), 2, "{text}");
    assert_eq!(access[0]["request.id"], id);
    assert_eq!(access[0]["http.route"], "/things/{id}");
    assert_eq!(access[0]["http.method"], "GET");
    assert_eq!(access[0]["http.status"], 500);
    assert_eq!(access[0]["client.address"], own.to_string());
    assert!(access[0]["duration_ms"].as_f64().unwrap() > 0.0);
    assert_eq!(access[1]["http.route"], "none");
    assert_eq!(access[1]["http.status"], 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_have_patterns_and_never_ids() {
    let server = Server::start().await;
    for path in ["/things/1", "/things/2", "/no/such/thing", "/nor/this"] {
        let stream = server.connect();
        blocking(move || get_on(stream, path)).await;
    }
    let requests = |method: &str, route: &str, status: u16| {
        server.metric(&format!(
            "http_requests_total{{method=\"{method}\",route=\"{route}\",status=\"{status}\"}}"
        ))
    };
    assert_eq!(requests("GET", "/things/{id}", 500), 2);
    assert_eq!(requests("GET", "none", 404), 2);
    assert_eq!(
        server.metric("http_request_duration_seconds_count{method=\"GET\",route=\"/things/{id}\"}"),
        2
    );
    assert_eq!(server.metric("http_panics_total"), 2);
    assert_eq!(server.metric("http_requests_in_progress"), 0);
    // A method that somebody makes up is no label.
    let stream = server.connect();
    blocking(move || {
        use std::io::{Read, Write};
        let mut stream = stream;
        write!(
            stream,
            "MADEUP / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        )
        .unwrap();
        stream.read_to_string(&mut String::new()).unwrap();
    })
    .await;
    assert_eq!(requests("other", "/", 405), 1);
    server.stop().await;
}
