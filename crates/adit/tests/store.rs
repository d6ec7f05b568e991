//! `adit store` by its executable: on a file, and on a real etcd.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test's panic is its verdict")]

#[path = "../../adit-store/tests/etcd/cluster.rs"]
#[expect(dead_code, reason = "other tests stop and start members, too")]
mod cluster;

use std::{
    path::Path,
    process::{Command, Output},
    sync::Arc,
    time::Duration,
};

use adit::region::{Running, Settings};
use adit_cloud::Region;
use adit_server::{leader::LEADER, replica::Leading};
use adit_store::{Entry, Key, RedbStore, Store, Txn, keys::encode};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use cluster::Cluster;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};

fn adit(arguments: &[&str]) -> Output {
    run("store", arguments)
}

fn run(role: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_adit"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("ADIT_") {
            command.env_remove(name);
        }
    }
    command.arg(role).args(arguments).output().unwrap()
}

/// What an ended command said, where its status is as expected.
fn said(output: &Output, status: i32) -> String {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(status), "{out}{err}");
    out + &err
}

/// A file with the built-in region in it.
async fn region(path: &Path) {
    let store = Arc::new(RedbStore::open(path).unwrap());
    let settings = Settings::new(Region::embedded(), "tests".parse().unwrap());
    let running = Running::start(Arc::clone(&store) as Arc<dyn Store>, settings)
        .await
        .unwrap();
    running.stop().await.unwrap();
    // Its last reader lets go of it a moment later, and a file is one process's, and one opening's, alone.
    let alone = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(5));
        while Arc::strong_count(&store) > 1 {
            ticks.tick().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), alone)
        .await
        .expect("the region lets go of its store");
}

async fn entries(path: &Path) -> Vec<Entry> {
    let store = RedbStore::open(path).unwrap();
    adit_store::conformance::list_all(&store, "", 1000).await.0
}

#[tokio::test(flavor = "multi_thread")]
async fn check_says_what_is_wrong_in_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb");
    let location = format!("redb:{}", path.display());
    let missing = said(&adit(&["check", "--store", &location]), 1);
    assert!(missing.contains("does not exist") && !path.exists(), "{missing}");

    region(&path).await;
    let sound = said(&adit(&["check", "--store", &location]), 0);
    assert!(sound.contains("all of them sound"), "{sound}");

    let damaged = entries(&path)
        .await
        .into_iter()
        .find(|entry| matches!(Key::parse(&entry.key), Some(Key::Address(..))));
    let key = damaged.unwrap().key;
    {
        let store = RedbStore::open(&path).unwrap();
        let damage = Txn::new().delete(key.clone()).put("service/x", *b"\x01{}");
        adit_store::conformance::committed(&store, damage).await;
    }
    let table = said(&adit(&["check", "--store", &location]), 1);
    assert!(table.contains(&*key) && table.contains("service/x"), "{table}");
    let json = said(&adit(&["check", "--store", &location, "-o", "json"]), 1);
    let json: Value = serde_json::from_str(&json).unwrap();
    let keys: Vec<_> = json["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|f| f["key"].as_str().unwrap())
        .collect();
    assert_eq!(keys, [&*key, "service/x"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_moves_into_etcd_and_back_as_it_was() {
    if !cluster::is_installed("a_store_moves_into_etcd_and_back_as_it_was") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    let redb = |name: &str| format!("redb:{}", file(name).display());
    region(&file("a.redb")).await;
    let cluster = Cluster::start(1);
    let etcd = format!("etcd:{}", cluster.url(0));
    // It works from here on.
    cluster.open(cluster.config("other")).await;

    let there = said(&adit(&["migrate", &redb("a.redb"), &etcd]), 0);
    assert!(there.contains("read back and found equal"), "{there}");
    said(&adit(&["check", "--store", &etcd]), 0);
    let again = said(&adit(&["migrate", &redb("a.redb"), &etcd]), 1);
    assert!(again.contains("the target is not empty"), "{again}");
    let itself = said(&adit(&["migrate", &etcd, &etcd]), 1);
    assert!(itself.contains("into itself"), "{itself}");
    said(&adit(&["migrate", &etcd, &redb("b.redb")]), 0);

    let values = async |name: &str| -> Vec<_> {
        let entries = entries(&file(name)).await;
        entries
            .into_iter()
            .map(|entry| (entry.key, entry.value))
            .collect()
    };
    let before = values("a.redb").await;
    assert!(before.len() > 20);
    assert_eq!(before, values("b.redb").await);

    let nobody = said(&adit(&["check", "--store", "etcd:http://127.0.0.1:1"]), 1);
    assert!(nobody.contains("etcd cannot be used"), "{nobody}");
}

#[tokio::test(flavor = "multi_thread")]
async fn looking_at_etcd_makes_nothing_and_says_what_is_no_stores() {
    if !cluster::is_installed("looking_at_etcd_makes_nothing_and_says_what_is_no_stores") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let redb = format!("redb:{}", folder.path().join("x.redb").display());
    let cluster = Cluster::start(1);
    let etcd = format!("etcd:{}", cluster.url(0));
    cluster.open(cluster.config("adit")).await;

    for arguments in [
        &["check", "--store", &etcd, "--etcd-root", "typo"][..],
        &["migrate", &etcd, &redb, "--etcd-root", "typo"],
    ] {
        let missing = said(&adit(arguments), 1);
        for part in [&*etcd, "\"typo\"", "--etcd-root"] {
            assert!(missing.contains(part), "{missing}");
        }
    }
    assert!(!folder.path().join("x.redb").exists());
    assert!(below(&cluster, "range", "typo/").get("kvs").is_none());

    said(&adit(&["check", "--store", &etcd]), 0);
    for key in [&b"adit/garbage"[..], b"adit/data/port/\xff"] {
        let put = json!({"key": BASE64_STANDARD.encode(key), "value": "eA=="});
        ask_etcd(&cluster, "put", &put);
    }
    let wrong = said(&adit(&["check", "--store", &etcd]), 1);
    assert!(
        wrong.contains("adit/garbage") && wrong.contains("adit/data/port/"),
        "{wrong}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_region_that_runs_is_copied_by_force_alone() {
    if !cluster::is_installed("a_region_that_runs_is_copied_by_force_alone") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("x.redb");
    let redb = format!("redb:{}", file.display());
    let cluster = Cluster::start(1);
    let etcd = format!("etcd:{}", cluster.url(0));
    let store = cluster.open(cluster.config("adit")).await;
    let lease = store.lease_grant(Duration::from_secs(600)).await.unwrap();
    let leading = Leading {
        name: "first".to_owned(),
        url: "http://10.0.0.1:8443".to_owned(),
        secret: "s".to_owned(),
        certificate: None,
        region: None,
    };
    let leads = Txn::new().put_leased(LEADER, encode(&leading), lease).put(
        Key::Limits("6e9dfd51d1124e8d8498dce894923a0d".parse().unwrap()).to_string(),
        *b"\x01{}",
    );
    adit_store::conformance::committed(&store, leads).await;

    let refused = said(&adit(&["migrate", &etcd, &redb]), 1);
    for part in ["in use", "first at http://10.0.0.1:8443", "--force"] {
        assert!(refused.contains(part), "{refused}");
    }
    assert!(!file.exists());
    said(&adit(&["migrate", &etcd, &redb, "--force"]), 0);
    // As after a copy that was cut short.
    let again = said(&adit(&["migrate", &etcd, &redb, "--force"]), 1);
    let clear = format!("rm {}", file.display());
    assert!(again.contains("not empty") && again.contains(&clear), "{again}");
    let back = said(&adit(&["migrate", &redb, &etcd]), 1);
    assert!(back.contains("del --prefix adit/"), "{back}");
    below(&cluster, "deleterange", "adit/");
    said(&adit(&["migrate", &redb, &etcd]), 0);
}

/// etcd with TLS, and who asks it wrongly.
#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_reach_etcd_is_told_which_flag_mends_it() {
    if !cluster::is_installed("who_does_not_reach_etcd_is_told_which_flag_mends_it") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let authority = |name: &str| {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        std::fs::write(file(name), pem).unwrap();
        Issuer::new(params, key)
    };
    let (ours, _) = (authority("ca.pem"), authority("other.pem"));
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    std::fs::write(file("crt"), params.signed_by(&key, &ours).unwrap().pem()).unwrap();
    std::fs::write(file("key"), key.serialize_pem()).unwrap();
    let tls = [
        "--cert-file",
        &file("crt"),
        "--key-file",
        &file("key"),
        "--trusted-ca-file",
        &file("ca.pem"),
        "--client-cert-auth",
    ];
    let cluster = Cluster::start_with(1, "https", &tls.map(str::to_owned));
    let config = adit_store::EtcdConfig {
        ca: Some(file("ca.pem").into()),
        identity: Some((file("crt").into(), file("key").into())),
        ..cluster.config("adit")
    };
    cluster.open(config).await;

    let (https, plain) = (
        format!("etcd:{}", cluster.url(0)),
        format!("etcd:http://127.0.0.1:{}", cluster.port(0)),
    );
    let redb = format!("redb:{}", file("x.redb"));
    let (ca, other, crt, key) = (file("ca.pem"), file("other.pem"), file("crt"), file("key"));
    for (store, flags, told) in [
        (&plain, &[][..], "write https://"),
        (&https, &[], "--etcd-ca has to name"),
        (&https, &["--etcd-ca", &*other], "not from the authority"),
        (&https, &["--etcd-ca", &*ca], "--etcd-cert and --etcd-key"),
        (
            &https,
            &["--etcd-ca", &*key],
            "--etcd-ca has to name a PEM file with a CERTIFICATE",
        ),
        (
            &https,
            &["--etcd-ca", "/nowhere"],
            "--etcd-ca has to name a PEM file",
        ),
        (
            &https,
            &["--etcd-ca", &*ca, "--etcd-cert", &*crt, "--etcd-key", &*crt],
            "with a PRIVATE KEY",
        ),
        (&plain, &["--etcd-ca", &*ca], "--etcd-ca is of no use"),
        (&redb, &["--etcd-ca", &*ca], "--etcd-ca is of no use"),
    ] {
        let arguments = [&["check", "--store", store][..], flags].concat();
        let wrong = said(&adit(&arguments), 1);
        assert!(wrong.contains(told), "{arguments:?}: {wrong}");
    }
    let right = [
        "check",
        "--store",
        &https,
        "--etcd-ca",
        &ca,
        "--etcd-cert",
        &crt,
        "--etcd-key",
        &key,
    ];
    said(&adit(&right), 0);
}

#[test]
fn what_says_how_etcd_is_reached_is_refused_where_none_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let redb = format!("redb:{}", folder.path().join("x.redb").display());
    let api = [
        "--data",
        data.to_str().unwrap(),
        "--listen",
        "127.0.0.1:0",
        "--node-listen",
        "127.0.0.1:0",
    ];
    for flags in [
        &["--etcd-ca", "/x"][..],
        &["--etcd-cert", "/x", "--etcd-key", "/x"],
        &["--etcd-user", "u", "--etcd-password-file", "/x"],
        &["--etcd-root", "r"],
        &["--etcd-timeout", "1s"],
    ] {
        let store = ["--store", &redb];
        for (store, why) in [
            (&[][..], "without --store etcd:…"),
            (&store, "the store is no etcd"),
        ] {
            let wrong = said(&run("api", &[&api, flags, store].concat()), 1);
            let told = format!("{} is of no use: {why}", flags[0]);
            assert!(wrong.contains(&told), "{flags:?}: {wrong}");
        }
        let wrong = said(&adit(&[&["check"], &store[..], flags].concat()), 1);
        assert!(wrong.contains(flags[0]), "{flags:?}: {wrong}");
    }
    assert_eq!(
        std::fs::read_dir(folder.path()).unwrap().count(),
        0,
        "nothing was made"
    );
}

/// A call of etcd's gateway for JSON, of the keys below a prefix.
fn below(cluster: &Cluster, call: &str, prefix: &str) -> Value {
    // The character after '/', as etcd's ranges end.
    let end = prefix.trim_end_matches('/').to_owned() + "0";
    let range = json!({"key": BASE64_STANDARD.encode(prefix), "range_end": BASE64_STANDARD.encode(end)});
    ask_etcd(cluster, call, &range)
}

fn ask_etcd(cluster: &Cluster, call: &str, body: &Value) -> Value {
    let url = format!("{}/v3/kv/{call}", cluster.url(0));
    let output = Command::new("curl")
        .args(["-sf", &url, "-d", &body.to_string()])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}
