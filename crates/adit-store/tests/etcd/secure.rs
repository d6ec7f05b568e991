//! TLS in both directions, and names with passwords.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use adit_store::conformance::committed;
use adit_store::{EtcdConfig, EtcdStore, Store, Txn};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::time::timeout;

use crate::DEADLINE;
use crate::cluster::{self, Cluster};

/// An authority, and what it has signed, as files.
struct Authority {
    ca: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new(folder: &Path, name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let ca = folder.join(format!("{name}.pem"));
        fs::write(&ca, params.self_signed(&key).unwrap().pem()).unwrap();
        Self {
            ca,
            issuer: Issuer::new(params, key),
        }
    }

    fn sign(&self, name: &str) -> (PathBuf, PathBuf) {
        let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let key = KeyPair::generate().unwrap();
        let signed = params.signed_by(&key, &self.issuer).unwrap();
        let (certificate, key_file) = (
            self.ca.with_file_name(format!("{name}.crt")),
            self.ca.with_file_name(format!("{name}.key")),
        );
        fs::write(&certificate, signed.pem()).unwrap();
        fs::write(&key_file, key.serialize_pem()).unwrap();
        (certificate, key_file)
    }
}

async fn is_refused(config: EtcdConfig) -> bool {
    let opened = timeout(DEADLINE, EtcdStore::open(config)).await;
    opened.expect("an answer").is_err()
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_takes_certificates_on_both_sides() {
    if !cluster::is_installed("tls_takes_certificates_on_both_sides") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path(), "ca");
    let (server_certificate, server_key) = authority.sign("server");
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let arguments = [
        "--cert-file".to_owned(),
        text(&server_certificate),
        "--key-file".to_owned(),
        text(&server_key),
        "--trusted-ca-file".to_owned(),
        text(&authority.ca),
        "--client-cert-auth".to_owned(),
    ];
    let cluster = Cluster::start_with(1, "https", &arguments);
    let config = EtcdConfig {
        ca: Some(authority.ca.clone()),
        identity: Some(authority.sign("client")),
        ..cluster.config("adit")
    };
    let store = cluster.open(config.clone()).await;
    committed(&store, Txn::new().put("k", *b"v")).await;
    assert_eq!(*store.get("k").await.unwrap().unwrap().value, *b"v");

    let other = Authority::new(folder.path(), "other");
    for wrong in [
        EtcdConfig {
            identity: None,
            ..config.clone()
        },
        EtcdConfig {
            ca: Some(other.ca.clone()),
            ..config.clone()
        },
        EtcdConfig {
            identity: Some(other.sign("stranger")),
            ..config.clone()
        },
        EtcdConfig {
            ca: Some("/nowhere/ca.pem".into()),
            ..config.clone()
        },
        EtcdConfig {
            urls: vec![format!("http://127.0.0.1:{}", cluster.port(0))],
            ..config
        },
    ] {
        assert!(is_refused(wrong.clone()).await, "{wrong:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_and_a_password_are_asked_for() {
    if !cluster::is_installed("a_name_and_a_password_are_asked_for") {
        return;
    }
    let cluster = Cluster::start(1);
    cluster.open(cluster.config("adit")).await;
    enable_auth(&cluster);

    let login = |password: &str| login(&cluster, password);
    assert!(is_refused(cluster.config("adit")).await);
    assert!(is_refused(login("wrong")).await);
    let store = cluster.open(login("secret")).await;
    committed(&store, Txn::new().put("k", *b"1")).await;
    // Whoever turns it off and on again makes every token worthless.
    call_auth(&cluster, Some(&token(&cluster)), "disable", "{}");
    call_auth(&cluster, None, "enable", "{}");
    committed(&store, Txn::new().put("k", *b"2")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_users_ends_neither_calls_nor_watches() {
    if !cluster::is_installed("a_change_of_users_ends_neither_calls_nor_watches") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (private, public) = (file("jwt.key"), file("jwt.pub"));
    for arguments in [
        ["genrsa", "-out", &private, "2048"].as_slice(),
        &["rsa", "-in", &private, "-pubout", "-out", &public],
    ] {
        let made = Command::new("openssl").args(arguments).output().unwrap();
        assert!(made.status.success(), "{made:?}");
    }
    let arguments = [
        "--auth-token".to_owned(),
        format!("jwt,pub-key={public},priv-key={private},sign-method=RS256,ttl=10m"),
    ];
    let cluster = Cluster::start_with(1, "http", &arguments);
    cluster.open(cluster.config("adit")).await;
    enable_auth(&cluster);
    let store = cluster.open(login(&cluster, "secret")).await;
    committed(&store, Txn::new().put("k", *b"1")).await;
    // Such a token says of which revision of the users it is; any change makes it old.
    let change = |name: &str| {
        let body = format!(r#"{{"name":"{name}","password":"secret"}}"#);
        call_auth(&cluster, Some(&token(&cluster)), "user/add", &body);
    };
    change("one");
    committed(&store, Txn::new().put("k", *b"2")).await;
    let from = store.list("", None, 10).await.unwrap().resume_token();
    change("two");
    let mut watch = store.watch("", &from).await.unwrap();
    committed(&store, Txn::new().put("k", *b"3")).await;
    let batch = timeout(DEADLINE, watch.next()).await.unwrap().unwrap();
    assert_eq!(*batch.changes[0].key, *"k");
}

fn login(cluster: &Cluster, password: &str) -> EtcdConfig {
    EtcdConfig {
        login: Some(("root".to_owned(), password.to_owned())),
        ..cluster.config("adit")
    }
}

fn enable_auth(cluster: &Cluster) {
    call_auth(
        cluster,
        None,
        "user/add",
        r#"{"name":"root","password":"secret"}"#,
    );
    call_auth(cluster, None, "user/grant", r#"{"user":"root","role":"root"}"#);
    call_auth(cluster, None, "enable", "{}");
}

fn token(cluster: &Cluster) -> String {
    let answer = call_auth(
        cluster,
        None,
        "authenticate",
        r#"{"name":"root","password":"secret"}"#,
    );
    let (_, token) = answer.split_once("\"token\":\"").unwrap();
    token.split_once('"').unwrap().0.to_owned()
}

fn call_auth(cluster: &Cluster, token: Option<&str>, path: &str, body: &str) -> String {
    let url = format!("{}/v3/auth/{path}", cluster.url(0));
    let header = format!("Authorization: {}", token.unwrap_or_default());
    let called = Command::new("curl")
        .args(["-sf", "-H", &header, &url, "-d", body])
        .output()
        .unwrap();
    assert!(called.status.success(), "{path}: {called:?}");
    String::from_utf8(called.stdout).unwrap()
}
