//! `adit admin`: the real command against a region that runs beside it.
#![expect(clippy::unwrap_used, reason = "a test's panic is its verdict")]

mod process;

use std::{
    path::Path,
    process::{Command, Output},
};

use process::{Client, PROJECT, Region};
use serde_json::{Value, json};

const OTHER_DOMAIN: &str = "b4e2d3c5f6a7182930b4c5d6e7f8091a";

/// Runs the command, without what the environment of the test may say.
fn admin(data: Option<&Path>, words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_adit"));
    for name in [
        "URL", "DATA", "TOKEN", "USER", "PASSWORD", "DOMAIN", "PROJECT", "AUTH_URL", "CLOUD", "CACERT",
    ] {
        command.env_remove(format!("ADIT_{name}"));
    }
    command.env_remove("OS_CLIENT_CONFIG_FILE").arg("admin");
    if let Some(data) = data {
        command.arg("--data").arg(data);
    }
    command.args(words).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// What it prints when it succeeds.
#[track_caller]
fn said(output: &Output) -> String {
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

#[track_caller]
fn json_of(output: &Output) -> Value {
    serde_json::from_str(&said(output)).unwrap()
}

/// What it says when it fails.
#[track_caller]
fn complained(output: &Output) -> String {
    assert!(!output.status.success(), "{}", text(&output.stdout));
    assert_eq!(text(&output.stdout), "");
    text(&output.stderr)
}

#[test]
fn the_operator_of_a_running_region_needs_no_words() {
    let dir = tempfile::tempdir().unwrap();
    let region = Region::start(dir.path(), &["--no-gateway"]);
    let data = Some(dir.path());
    let (provider, consumer) = (Client::demo(&region.api), Client::other(&region.api));
    let service = provider.publish(&json!([{"client_port": 7000, "server_port": 80}]));
    let (endpoint, ip) = consumer.connect(&service);

    let table = said(&admin(data, &["service", "list", "--project-id", PROJECT]));
    let lines: Vec<_> = table.lines().collect();
    assert_eq!(lines.len(), 2, "{table}");
    assert!(lines[0].starts_with("ID  "), "{table}");
    assert!(
        lines[1].starts_with(&service) && lines[1].contains("available"),
        "{table}"
    );
    let list = json_of(&admin(data, &["endpoint", "list", "-o", "json"]));
    assert_eq!(
        (&list["total_count"], &list["endpoints"][0]["id"]),
        (&json!(1), &json!(endpoint))
    );
    let shown = said(&admin(data, &["endpoint", "show", &endpoint]));
    assert!(
        shown
            .lines()
            .any(|line| line.starts_with("ip ") && line.ends_with(&ip.to_string())),
        "{shown}"
    );

    // What is ordered is so.
    let set = said(&admin(data, &["quota", "set", PROJECT, "--services", "1"]));
    assert!(
        set.lines()
            .any(|line| line.split_whitespace().eq(["endpoint_service", "1", "1"])),
        "{set}"
    );
    let quotas = provider.must("GET", "quotas?type=endpoint_service", None);
    assert_eq!(quotas["quotas"]["resources"][0]["quota"], 1);
    said(&admin(data, &["endpoint", "disable", &endpoint]));
    said(&admin(
        data,
        &[
            "account",
            "freeze",
            OTHER_DOMAIN,
            "--as",
            "police",
            "--as",
            "arrear",
        ],
    ));
    let seen = consumer.must("GET", &format!("vpc-endpoints/{endpoint}"), None);
    assert_eq!(seen["enable_status"], "disable");
    assert_eq!(seen["active_status"], json!(["arrear_frozen", "police_frozen"]));
    said(&admin(data, &["endpoint", "enable", &endpoint]));
    said(&admin(data, &["account", "unfreeze", OTHER_DOMAIN]));
    let seen = consumer.must("GET", &format!("vpc-endpoints/{endpoint}"), None);
    assert_eq!(
        (&seen["enable_status"], &seen["active_status"]),
        (&json!("enable"), &json!(["active"]))
    );

    // Every list is a table with a heading, and shows what there is.
    for (words, part) in [
        (&["quota", "list"][..], PROJECT),
        (&["account", "list"], OTHER_DOMAIN),
        (&["connection", "list"], &endpoint),
        (&["whitelist", "list"], "*"),
        (&["vpc", "list"], "vpc-demo"),
        (&["pool", "list"], "default"),
        (&["quota", "show", PROJECT], "endpoint_service"),
        (&["account", "show", OTHER_DOMAIN], "active"),
        (&["service", "show", &service], "available"),
        (&["vpc", "show", process::BACKEND_VPC], "10.0.0.0/24"),
    ] {
        let shown = said(&admin(data, words));
        assert!(
            shown.contains(part) && shown.lines().count() > 1,
            "{words:?} {shown}"
        );
    }
    let words = "public-service create com.example.store --vpc-id 4189d3c2-8882-4871-a3c2-d380272eed80 \
        --prefix 100.64.0.0/16 --port 443 -o json --project-id";
    let words: Vec<_> = words.split_whitespace().chain([PROJECT]).collect();
    let store = json_of(&admin(data, &words));
    let store = store["id"].as_str().unwrap();
    let listed = json_of(&admin(
        data,
        &["public-service", "list", "--name", "EXAMPLE", "-o", "json"],
    ));
    assert_eq!(
        (&listed["total_count"], &listed["services"][0]["prefixes"]),
        (&json!(1), &json!(["100.64.0.0/16"]))
    );
    let table = said(&admin(data, &["public-service", "list"]));
    assert!(
        table.contains("com.t-systems.otc") && !table.contains(&service),
        "{table}"
    );
    let shown = said(&admin(data, &["public-service", "show", store]));
    assert!(shown.contains("com.example.store"), "{shown}");
    let refused = complained(&admin(data, &words));
    assert!(refused.contains("com.example.store"), "{refused}");
    said(&admin(data, &["public-service", "delete", store]));
    let pool = json_of(&admin(data, &["pool", "create", "edge", "-o", "json"]));
    said(&admin(data, &["pool", "delete", pool["id"].as_str().unwrap()]));
    assert!(region.stop(), "a clean stop");
}

#[test]
fn over_https_the_region_s_certificate_is_trusted_where_it_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let region = Region::start(dir.path(), &["--no-gateway", "--tls", "self-signed"]);
    assert!(region.api.starts_with("https://"), "{}", region.api);
    // The running region's own is known.
    let pools = said(&admin(Some(dir.path()), &["pool", "list"]));
    assert!(pools.contains("default"), "{pools}");
    let words = "--user operator --password operator-password --domain operator-domain pool list";
    let at = |more: &[&str]| {
        let words = ["--url", &region.api].into_iter().chain(words.split(' '));
        admin(None, &words.chain(more.iter().copied()).collect::<Vec<_>>())
    };
    let stranger = complained(&at(&[]));
    assert!(
        stranger.contains("certificate") && stranger.contains("--cacert"),
        "{stranger}"
    );
    let cacert = dir.path().join("tls-cert.pem");
    said(&at(&["--cacert", cacert.to_str().unwrap()]));
    let nothing = complained(&at(&["--cacert", dir.path().join("instance").to_str().unwrap()]));
    assert!(nothing.contains("holds no certificate"), "{nothing}");
    assert!(region.stop(), "a clean stop");
}

#[test]
fn another_region_is_named_and_so_is_who_one_is() {
    let dir = tempfile::tempdir().unwrap();
    let region = Region::start(dir.path(), &["--no-gateway"]);
    let url = region.api.as_str();
    let operator = [
        "--user",
        "operator",
        "--password",
        "operator-password",
        "--domain",
        "operator-domain",
    ];
    let with = |more: &[&'static str]| {
        let words: Vec<&str> = ["--url", url].into_iter().chain(more.iter().copied()).collect();
        admin(None, &[&words[..], &["pool", "list"]].concat())
    };
    // For the account, and for a project of it.
    said(&with(&operator));
    said(&with(&[&operator[..], &["--project", "eu-de_operator"]].concat()));
    let clouds = dir.path().join("clouds.yaml");
    let words = [
        "--clouds",
        clouds.to_str().unwrap(),
        "--cloud",
        "operator",
        "vpc",
        "list",
        "-o",
        "json",
    ];
    let vpcs = json_of(&admin(None, &words));
    assert!(vpcs["total_count"].as_u64().unwrap() >= 2, "{vpcs}");

    // What does not work says what to do.
    let nobody = complained(&with(&[]));
    assert!(
        nobody.contains("--token") && nobody.contains("--cloud"),
        "{nobody}"
    );
    let wrong = complained(&with(&[
        "--user",
        "operator",
        "--password",
        "x",
        "--domain",
        "operator-domain",
    ]));
    assert!(
        wrong.contains("--password") && !wrong.contains("operator-password"),
        "{wrong}"
    );
    let tenant = [
        "--user",
        "demo",
        "--password",
        "demo-password",
        "--domain",
        "demo-domain",
    ];
    let tenant = complained(&with(&[&tenant[..], &["--project", "eu-de_demo"]].concat()));
    assert!(tenant.contains("role `admin`"), "{tenant}");
    let token = complained(&with(&["--token", "x"]));
    assert!(token.contains("Log in anew"), "{token}");
    let words = [
        "--clouds",
        clouds.to_str().unwrap(),
        "--cloud",
        "nobody",
        "vpc",
        "list",
    ];
    let cloud = complained(&admin(None, &words));
    assert!(cloud.contains("demo") && cloud.contains("operator"), "{cloud}");
    let refused = complained(&admin(Some(dir.path()), &["endpoint", "show", "x"]));
    assert!(
        refused.contains("EndPoint") || refused.contains("not well-formed"),
        "{refused}"
    );

    // Nobody is there, or something else is.
    let closed = complained(&admin(
        None,
        &["--url", "http://127.0.0.1:1", "--token", "x", "pool", "list"],
    ));
    assert!(closed.contains("--url"), "{closed}");
    let elsewhere = tempfile::tempdir().unwrap();
    let nothing = complained(&admin(Some(elsewhere.path()), &["pool", "list"]));
    assert!(
        nothing.contains("adit dev") && nothing.contains("--url"),
        "{nothing}"
    );
    assert!(region.stop(), "a clean stop");
}
