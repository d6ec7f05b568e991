//! Gateways that show a certificate: whose it has to be, and what both sides say where it is none of those.
#![expect(clippy::unwrap_used, reason = "a test's panic is its verdict")]

mod process;

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command},
};

use process::{
    Client,
    cluster::{Control, Role},
    end, skip_without_root, until,
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, KeyUsagePurpose};
use rustix::process::Signal;
use serde_json::Value;

/// An authority of its own, with the certificates that it has given out.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: PathBuf,
}

impl Authority {
    fn new(folder: &Path, name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let folder = folder.join(name);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("ca.pem"), issuer.pem()).unwrap();
        Self { issuer, folder }
    }

    fn file(&self, name: &str) -> String {
        self.folder.join(name).to_str().unwrap().to_owned()
    }

    fn root(&self) -> String {
        self.file("ca.pem")
    }

    /// A certificate for these names, and its key.
    fn issue(&self, names: &[&str]) -> [String; 2] {
        let key = KeyPair::generate().unwrap();
        let names = names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let params = CertificateParams::new(names.clone()).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let files = [format!("{}.pem", names[0]), format!("{}.key", names[0])].map(|name| self.file(&name));
        fs::write(&files[0], certificate.pem()).unwrap();
        fs::write(&files[1], key.serialize_pem()).unwrap();
        files
    }
}

/// `adit api` on a folder, that wants these certificates of gateways.
fn control(folder: &Path, ours: &Authority, more: &[&str]) -> Control {
    let data = folder.join("api");
    fs::create_dir_all(&data).unwrap();
    let [certificate, key] = ours.issue(&["127.0.0.1"]);
    let log = File::create(folder.join("api.log")).unwrap();
    let words = ["--tls-cert", &certificate, "--tls-key", &key, "--log", "info"];
    Control::start_logged(&data, &[&words, more].concat(), log)
}

/// A gateway whose log is read: no namespace has a name of this pattern.
struct Gateway {
    child: Child,
    log: PathBuf,
}

impl Gateway {
    fn start(folder: &Path, name: &str, control: &Control, words: &[&str]) -> Self {
        let state = tempfile::tempdir_in(folder).unwrap().keep();
        let log = state.with_extension("log");
        let child = Command::new(env!("CARGO_BIN_EXE_adit"))
            .args([
                "gateway",
                "run",
                "--node",
                name,
                "--namespaces",
                "adit-nothing-{vpc}",
                "--control",
            ])
            .arg(&control.nodes)
            .args(words)
            .arg("--state")
            .arg(state)
            .stdout(std::process::Stdio::null())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        Self { child, log }
    }

    fn says(&self, what: &str) {
        says(&self.log, what);
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// What the operator's list says of one.
fn listed(control: &Control, gateway: &str) -> Option<Value> {
    let listed = Client::operator(&control.region.api).must("GET", "/admin/v1/gateways", None);
    let mut gateways = listed["gateways"].as_array()?.iter();
    gateways.find(|listed| listed["name"] == gateway).cloned()
}

fn says(log: &Path, what: &str) {
    until(&format!("{} in {}", what, log.display()), || {
        fs::read_to_string(log).unwrap().contains(what).then_some(())
    });
}

#[test]
fn a_gateway_is_who_its_certificate_says() {
    let test = "a_gateway_is_who_its_certificate_says";
    if skip_without_root(test) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (ours, others) = (
        Authority::new(folder.path(), "ours"),
        Authority::new(folder.path(), "others"),
    );
    let root = ours.root();
    let control = control(folder.path(), &ours, &["--node-client-ca", &root]);
    assert!(
        control.nodes.starts_with("https://127.0.0.1:"),
        "{}",
        control.nodes
    );
    let api = folder.path().join("api.log");
    assert!(
        !folder.path().join("api/node-token").exists(),
        "nobody asks for a secret"
    );
    let start = |name: &str, [certificate, key]: &[String; 2]| {
        let words = [
            "--control-cacert",
            &root,
            "--control-cert",
            certificate,
            "--control-key",
            key,
        ];
        Gateway::start(folder.path(), name, &control, &words)
    };
    let one = ours.issue(&["one", "one.example.com"]);
    let _one = start("one", &one);
    until("it on the list", || listed(&control, "one"));

    let impostor = start("two", &one);
    impostor.says("403: node: two is none of the alternative names of the certificate (--control-cert)");
    says(
        &api,
        "has come with a certificate that is not its own. gateway.name=two",
    );
    let stranger = start("three", &others.issue(&["three"]));
    stranger.says("does not accept our certificate (--control-cert): UnknownCA");
    says(&api, "A client's certificate is refused.");
    // Without one, nothing else helps.
    let token = folder.path().join("token");
    fs::write(&token, "0123456789abcdef0123456789abcdef").unwrap();
    let token = token.to_str().unwrap();
    let words = ["--control-cacert", &root, "--node-token-file", token];
    let nobody = Gateway::start(folder.path(), "four", &control, &words);
    nobody.says("401: A certificate of the nodes' authority is wanted (--control-cert).");
    says(&api, "A gateway has shown no certificate.");
    // And who does not trust the control plane does not speak to it.
    let root = others.root();
    let [certificate, key] = &one;
    let words = [
        "--control-cacert",
        &root,
        "--control-cert",
        certificate,
        "--control-key",
        key,
    ];
    let distrustful = Gateway::start(folder.path(), "one", &control, &words);
    distrustful.says("invalid peer certificate: UnknownIssuer");
    for name in ["two", "three", "four"] {
        assert_eq!(listed(&control, name), None);
    }
}

#[test]
fn certificates_are_read_again_on_both_sides() {
    let test = "certificates_are_read_again_on_both_sides";
    if skip_without_root(test) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (
        Authority::new(folder.path(), "old"),
        Authority::new(folder.path(), "new"),
    );
    let root = old.root();
    let control = control(folder.path(), &old, &["--node-client-ca", &root]);
    let start = |name: &str, [certificate, key]: [String; 2]| {
        let words = [
            "--control-cacert",
            &root,
            "--control-cert",
            &certificate,
            "--control-key",
            &key,
        ];
        Gateway::start(folder.path(), name, &control, &words)
    };
    let _one = start("one", old.issue(&["one"]));
    until("it on the list", || listed(&control, "one"));
    let two = start("two", new.issue(&["two"]));
    two.says("UnknownCA");
    // The control plane's own, and whom it and gateways trust, are another authority's from now on.
    let [certificate, key] = new.issue(&["127.0.0.1"]);
    fs::copy(certificate, old.file("127.0.0.1.pem")).unwrap();
    fs::copy(key, old.file("127.0.0.1.key")).unwrap();
    fs::copy(new.root(), &root).unwrap();
    control.region.signal(Signal::HUP);
    says(&folder.path().join("api.log"), "The certificate was read again");
    // Nobody started it anew; a connection that there is goes on.
    until("the other on the list", || listed(&control, "two"));
    assert!(listed(&control, "one").is_some());
    start("three", old.issue(&["three"])).says("UnknownCA");
}

#[test]
fn a_secret_can_be_wanted_beside_the_certificate_and_networks_show_theirs() {
    let test = "a_secret_can_be_wanted_beside_the_certificate_and_networks_show_theirs";
    if skip_without_root(test) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let ours = Authority::new(folder.path(), "ours");
    let (root, token) = (ours.root(), folder.path().join("token"));
    let token = token.to_str().unwrap();
    let more = ["--node-client-ca", &root, "--node-token-file", token];
    let control = control(folder.path(), &ours, &more);
    let [certificate, key] = ours.issue(&["one"]);
    let shown = [
        "--control-cacert",
        &root,
        "--control-cert",
        &certificate,
        "--control-key",
        &key,
    ];
    let bare = Gateway::start(folder.path(), "one", &control, &shown);
    bare.says("401: Authorization: this is not the nodes' secret (--node-token-file).");
    drop(bare);
    let both = [&shown[..], &["--node-token-file", token]].concat();
    let _one = Gateway::start(folder.path(), "one", &control, &both);
    until("it on the list", || listed(&control, "one"));
    // Any certificate of the authority's will do for what makes the networks: that is no gateway.
    let _networks = Role::networks_with(
        std::slice::from_ref(&control.nodes),
        &control.token_file(),
        &folder.path().join("networks"),
        &shown,
    );
}
