//! HTTPS with clients that others wrote: curl and Python.
#![expect(clippy::unwrap_used, reason = "a test's panic is its verdict")]

mod process;

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Write},
    net::{IpAddr, Ipv4Addr},
    path::Path,
    process::{Command, Stdio},
};

use adit::certificate::{self, Files};
use process::{Region, skip_without, until};
use rustix::process::Signal;
use serde_json::Value;

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Puts a new certificate of its own making, and its key, where the region reads them; answers the certificate.
fn renew(folder: &Path, used: &Files) -> String {
    let made = certificate::keep(folder, LOOPBACK).unwrap();
    fs::copy(&made.key, &used.key).unwrap();
    fs::copy(&made.certificate, &used.certificate).unwrap();
    fs::read_to_string(made.certificate).unwrap()
}

/// What curl says of a request: its own words by `--write-out`, and the body.
fn curl(words: &[&str]) -> String {
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--max-time", "30"])
        .args(words)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{words:?}: {text} {}",
        String::from_utf8_lossy(&output.stderr)
    );
    text
}

#[test]
fn curl_speaks_both_versions_of_http_and_is_led_back_to_https() {
    let test = "curl_speaks_both_versions_of_http_and_is_led_back_to_https";
    if skip_without("curl", test) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let region = Region::start(folder.path(), &["--no-gateway", "--tls", "self-signed"]);
    assert!(region.api.starts_with("https://127.0.0.1:"), "{}", region.api);
    let cacert = folder.path().join("tls-cert.pem");
    let cacert = cacert.to_str().unwrap();
    for (flag, version) in [("--http2", "2"), ("--http1.1", "1.1")] {
        let url = format!("{}/v1", region.api);
        let said = curl(&[
            "--cacert",
            cacert,
            flag,
            "--write-out",
            "\n%{http_version} %{http_code}",
            &url,
        ]);
        let (body, last) = said.rsplit_once('\n').unwrap();
        assert_eq!(last, format!("{version} 200"));
        let body: Value = serde_json::from_str(body).unwrap();
        assert_eq!(body["version"]["links"][0]["href"], url, "{flag}");
        let token = r#"{"auth":{"identity":{"methods":["password"],"password":{"user":{"name":"demo",
            "password":"demo-password","domain":{"name":"demo-domain"}}}},
            "scope":{"project":{"name":"eu-de_demo","domain":{"name":"demo-domain"}}}}}"#;
        let url = format!("{}/v3/auth/tokens", region.api);
        let body = curl(&["--cacert", cacert, flag, "--json", token, &url]);
        let body: Value = serde_json::from_str(&body).unwrap();
        let catalog = body["token"]["catalog"].as_array().unwrap();
        assert!(catalog.len() > 3);
        for service in catalog {
            let url = service["endpoints"][0]["url"].as_str().unwrap();
            assert!(url.starts_with(&region.api), "{flag} {url}");
        }
    }
    // Who does not trust it is not served.
    let refused = Command::new("curl")
        .args(["--silent", &region.api])
        .status()
        .unwrap();
    assert_eq!(refused.code(), Some(60));
    let clouds = fs::read_to_string(folder.path().join("clouds.yaml")).unwrap();
    assert!(
        clouds.contains(&format!("auth_url: {}/v3\n", region.api)),
        "{clouds}"
    );
    assert!(clouds.contains(&format!("cacert: \"{cacert}\"\n")), "{clouds}");
    assert!(region.stop());
}

/// Asks over one connection, says which certificate it has, and does so once more for each line that it is given: first on
/// the same connection, then on a new one.
const TWICE: &str = "
import hashlib, http.client, ssl, sys
address, certificates = sys.argv[1], sys.argv[2]
context = ssl.create_default_context(cafile=certificates)
def ask(connection):
    connection.request('GET', '/v1')
    reply = connection.getresponse()
    reply.read()
    print(reply.status, hashlib.sha256(connection.sock.getpeercert(True)).hexdigest(), flush=True)
old = http.client.HTTPSConnection(address, context=context)
ask(old)
kept = old.sock
for line in sys.stdin:
    ask(old)
    assert old.sock is kept
    ask(http.client.HTTPSConnection(address, context=context))
";

#[test]
fn a_new_certificate_is_for_new_connections_and_a_bad_one_for_nobody() {
    let test = "a_new_certificate_is_for_new_connections_and_a_bad_one_for_nobody";
    if skip_without("python3", test) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let inside = |name: &str| folder.path().join(name);
    let used = Files {
        certificate: inside("cert.pem"),
        key: inside("key.pem"),
    };
    for name in ["first", "second", "data"] {
        fs::create_dir(inside(name)).unwrap();
    }
    let first = renew(&inside("first"), &used);
    let second = fs::read_to_string(
        certificate::keep(&inside("second"), LOOPBACK)
            .unwrap()
            .certificate,
    )
    .unwrap();
    fs::write(inside("trusted.pem"), first + &second).unwrap();
    let log = inside("log");
    let words = ["--no-gateway", "--log", "info", "--tls-cert", "--tls-key"];
    let [a, b, c, d, e] = words;
    let flags = [
        a,
        b,
        c,
        d,
        used.certificate.to_str().unwrap(),
        e,
        used.key.to_str().unwrap(),
    ];
    let region = Region::start_logged(&inside("data"), &flags, File::create(&log).unwrap());
    let logged = |what: &str| {
        until(what, || {
            fs::read_to_string(&log).unwrap().contains(what).then_some(())
        });
    };
    let mut python = Command::new("python3")
        .args(["-c", TWICE, region.api.strip_prefix("https://").unwrap()])
        .arg(inside("trusted.pem"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut go_on = python.stdin.take().unwrap();
    let mut seen = BufReader::new(python.stdout.take().unwrap()).lines();
    let mut next = || {
        let line = seen.next().unwrap().unwrap();
        line.strip_prefix("200 ").unwrap().to_owned()
    };
    let before = next();

    // Files that hold nothing of use change nothing.
    fs::write(&used.certificate, "nonsense").unwrap();
    region.signal(Signal::HUP);
    logged("the former one stays in use");
    logged("holds no certificate in PEM form");
    writeln!(go_on).unwrap();
    assert_eq!([next(), next()], [before.clone(), before.clone()]);

    // Nor does a certificate without its key.
    fs::copy(inside("second").join("tls-cert.pem"), &used.certificate).unwrap();
    region.signal(Signal::HUP);
    logged("cannot be used with the key in");
    writeln!(go_on).unwrap();
    assert_eq!([next(), next()], [before.clone(), before.clone()]);

    renew(&inside("second"), &used);
    region.signal(Signal::HUP);
    logged("The certificate was read again");
    writeln!(go_on).unwrap();
    let (kept, new) = (next(), next());
    assert_eq!(kept, before, "the connection goes on with what it was made with");
    assert_ne!(new, before);
    drop(go_on);
    assert!(python.wait().unwrap().success());
    assert!(region.stop());
}

#[test]
fn plain_http_stays_on_the_loopback_unless_it_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let refused = Command::new(env!("CARGO_BIN_EXE_adit"))
        .args(["dev", "--no-gateway", "--listen", "0.0.0.0:0", "--data"])
        .arg(folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{said}");
    for word in [
        "0.0.0.0:0",
        "--tls-cert",
        "--tls self-signed",
        "--allow-plain-http",
    ] {
        assert!(said.contains(word), "{word}: {said}");
    }
    let config = folder.path().join("adit.toml");
    fs::write(&config, "no-gateway = true\nallow-plain-http = true\n").unwrap();
    let region = Region::start(
        folder.path(),
        &["--config", config.to_str().unwrap(), "--listen", "0.0.0.0:0"],
    );
    assert!(region.api.starts_with("http://127.0.0.1:"), "{}", region.api);
    assert!(region.stop());
}

#[test]
fn a_certificate_that_cannot_be_used_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let made = certificate::keep(folder.path(), LOOPBACK).unwrap();
    let (certificate, key) = (made.certificate.to_str().unwrap(), made.key.to_str().unwrap());
    for (words, expected) in [
        (
            ["--tls-cert", "/nowhere.pem", "--tls-key", key],
            "cannot open /nowhere.pem",
        ),
        (
            ["--tls-cert", key, "--tls-key", key],
            "tls-key.pem holds no certificate in PEM form",
        ),
        (
            ["--tls-cert", certificate, "--tls-key", certificate],
            "tls-cert.pem holds no private key in PEM form",
        ),
    ] {
        let refused = Command::new(env!("CARGO_BIN_EXE_adit"))
            .args(["dev", "--no-gateway", "--ephemeral", "--listen", "127.0.0.1:0"])
            .args(words)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && said.contains(expected), "{said}");
    }
}
