//! Who that was: the connection log of a running region, and `adit who`.
#![expect(clippy::unwrap_used, reason = "a test's panic is its verdict")]

mod process;

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::Command,
};

use process::{BACKEND_PORT, CLIENT_PORT, Client, Region, skip_without_root, until};
use serde_json::{Value, json};

/// `adit who`, as JSON lines, and whether anybody was found.
fn who(data: &Path, more: &[&str]) -> (Vec<Value>, bool) {
    let output = Command::new(env!("CARGO_BIN_EXE_adit"))
        .args(["who", "--output", "json", "--data"])
        .arg(data)
        .args(more)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
    (lines.collect(), output.status.success())
}

fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn a_backend_learns_who_that_was() {
    if skip_without_root("a_backend_learns_who_that_was") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (data, log) = (dir.path().join("data"), dir.path().join("connections.jsonl"));
    let region = Region::start(&data, &["--connection-log", log.to_str().unwrap()]);
    let (provider, consumer) = (Client::demo(&region.api), Client::other(&region.api));
    let service = provider.publish(&json!([{"client_port": 7000, "server_port": 80}]));
    let (endpoint, ip) = consumer.connect(&service);
    let shown = consumer.must("GET", &format!("vpc-endpoints/{endpoint}"), None);
    let listener = region
        .port(BACKEND_PORT)
        .run(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, 80)));
    let listener = listener.unwrap().unwrap();
    let inside = region.port(CLIENT_PORT);
    let connection = || -> (TcpStream, TcpStream, String) {
        let to = SocketAddr::from((ip, 7000));
        let client = inside.run(|| TcpStream::connect(to)).unwrap().unwrap();
        let (accepted, source) = listener.accept().unwrap();
        (client, accepted, source.to_string())
    };

    // While it lives, and with what it has carried so far.
    let (mut client, mut accepted, source) = connection();
    client.write_all(b"hello").unwrap();
    accepted.read_exact(&mut [0; 5]).unwrap();
    let from = client.local_addr().unwrap().to_string();
    let live = until("the bytes to be counted", || {
        let (found, _) = who(&data, &[&source]);
        (found.len() == 1 && found[0]["bytes_to_backend"] == 5).then(|| found[0].clone())
    });
    let expected = json!({
        "service": service, "endpoint": endpoint, "marker_id": shown["marker_id"],
        "client": from, "address": format!("{ip}:7000"), "source": source, "backend": "10.0.0.10:80",
        "bytes_to_backend": 5, "bytes_to_client": 0,
        "began": live["began"], "connect_us": live["connect_us"],
    });
    assert_eq!(live, expected);

    // Once it has ended, with why.
    drop(client);
    drop(accepted);
    let written = until("the line in the log", || lines(&log).pop());
    assert_eq!(
        (&written["end"], &written["client"]),
        (&json!("closed"), &json!(from))
    );
    assert_eq!(who(&data, &[&source]), (vec![written.clone()], true));
    let began = written["began"].as_str().unwrap();
    assert_eq!(
        who(&data, &[&source, "--at", began]),
        (vec![written.clone()], true)
    );
    assert_eq!(
        who(&data, &[&source, "--at", "2026-01-01T00:00:00Z"]),
        (vec![], false)
    );
    assert_eq!(who(&data, &["198.19.128.1:1"]), (vec![], false));

    // The numbers tell of it, too.
    let metrics = ureq::get(format!("{}/metrics", region.api)).call().unwrap();
    let metrics = metrics.into_body().read_to_string().unwrap();
    for line in [
        "adit_gateway_connections_total 1".to_owned(),
        "adit_gateway_connections_ended_total{reason=\"closed\"} 1".to_owned(),
        "adit_gateway_connection_records_lost_total 0".to_owned(),
        format!("adit_endpoint_bytes_total{{endpoint=\"{endpoint}\",to=\"backend\"}} 5"),
        format!("adit_endpoint_backend_connect_duration_seconds_count{{endpoint=\"{endpoint}\"}} 1"),
        format!("adit_endpoint_connections_ended_total{{endpoint=\"{endpoint}\",reason=\"closed\"}} 1"),
    ] {
        assert!(
            metrics.lines().any(|shown| shown == line),
            "{line} is not in\n{metrics}"
        );
    }

    // A log that is rotated goes on in a new file, and both can be asked.
    let rotated = dir.path().join("connections.jsonl.1");
    std::fs::rename(&log, &rotated).unwrap();
    let pid = rustix::process::Pid::from_raw(region.pid().cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::HUP).unwrap();
    until("the log to be opened anew", || log.exists().then_some(()));
    assert_eq!(who(&data, &[&source]), (vec![written.clone()], true));
    let (mut client, accepted, later) = connection();
    // Rejecting cuts.
    let reject = json!({"action": "reject", "endpoints": [endpoint]});
    provider.must(
        "POST",
        &format!("vpc-endpoint-services/{service}/connections/action"),
        Some(&reject),
    );
    assert!(client.read(&mut [0]).is_err());
    drop(accepted);
    assert!(region.stop(), "a clean stop writes what is left");
    assert_eq!(lines(&rotated), std::slice::from_ref(&written));
    let cut = lines(&log).pop().unwrap();
    assert_eq!((&cut["end"], &cut["source"]), (&json!("cut"), &json!(later)));
    let logs = [log.to_str().unwrap(), rotated.to_str().unwrap()];
    let ask = |source: &str| {
        who(
            &data,
            &[source, "--connection-log", logs[0], "--connection-log", logs[1]],
        )
    };
    assert_eq!(
        (ask(&source), ask(&later)),
        ((vec![written], true), (vec![cut], true))
    );
    assert!(
        !who(&data, &[&source]).1,
        "without a region and a log there is nothing to look in"
    );
}
