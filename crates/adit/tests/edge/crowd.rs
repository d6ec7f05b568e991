//! Too many requests at a time, and too many without good credentials.

use std::{net::SocketAddr, time::Duration};

use adit_server::edge::{Limits, limit::Rate};
use tokio::net::TcpSocket;

use crate::rig::{PATIENCE, Server, blocking, get_on};

#[tokio::test(flavor = "multi_thread")]
async fn one_request_too_many_waits_a_moment_and_is_told_to_come_again() {
    let limits = Limits {
        requests_max: 2,
        ..Limits::default()
    };
    let server = Server::start_with(limits).await;
    let ask = |path: &'static str| {
        let stream = server.connect();
        tokio::spawn(blocking(move || get_on(stream, path)))
    };
    let first = [ask("/wait"), ask("/wait")];
    while server.metric("http_requests_in_progress") < 2 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let refused = ask("/").await.unwrap();
    assert!(refused.starts_with("HTTP/1.1 504"), "{refused}");
    assert!(
        refused.contains("EndPoint.0013") && refused.contains("x-request-id"),
        "{refused}"
    );
    assert_eq!(
        server.metric("http_requests_refused_total{reason=\"crowded\"}"),
        1
    );
    // Who waits while a place becomes free gets it.
    let waits = ask("/");
    while server.metric("http_requests_in_progress") < 3 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    server.gate.add_permits(2);
    assert!(waits.await.unwrap().ends_with("here"));
    for first in first {
        assert!(first.await.unwrap().ends_with("waited"));
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_without_good_credentials_is_held_off_and_others_are_not() {
    let limits = Limits {
        failed_logins: Rate::new(3, Duration::from_secs(3600), 3),
        ..Limits::default()
    };
    let server = Server::start_with(limits).await;
    let ask = async |from: &str, path: &'static str| {
        let socket = TcpSocket::new_v4().unwrap();
        socket
            .bind(format!("{from}:0").parse::<SocketAddr>().unwrap())
            .unwrap();
        let stream = socket.connect(server.address).await.unwrap().into_std().unwrap();
        stream.set_nonblocking(false).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        blocking(move || get_on(stream, path)).await
    };
    for _ in 0..3 {
        assert!(ask("127.0.0.2", "/").await.ends_with("here"));
        assert!(ask("127.0.0.2", "/secret").await.starts_with("HTTP/1.1 401"));
    }
    for path in ["/secret", "/"] {
        let refused = ask("127.0.0.2", path).await;
        assert!(refused.starts_with("HTTP/1.1 400"), "{refused}");
        assert!(
            refused.contains("EndPoint.0022") && refused.contains("x-request-id"),
            "{refused}"
        );
    }
    assert!(ask("127.0.0.3", "/").await.ends_with("here"));
    assert!(ask("127.0.0.3", "/secret").await.starts_with("HTTP/1.1 401"));
    assert_eq!(
        server.metric("http_requests_refused_total{reason=\"failed_logins\"}"),
        2
    );
    assert_eq!(
        server.metric("http_auth_failures_total{reason=\"unauthenticated\"}"),
        4
    );
    server.stop().await;
}
