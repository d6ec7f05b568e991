//! The PROXY header as it is read by programs that nobody here wrote: HAProxy, nginx, and Wireshark's dissector, each on
//! the backend's side of a real endpoint.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking, also in what its tests share"
)]

use std::cell::RefCell;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use adit_model::feed::EndpointSpec;
use adit_model::proxy::{ProxyHeader, ProxyProfile};
use adit_model::service::TcpProxy;
use adit_relay::Close;

mod vpcs;
use vpcs::{BACKEND, BACKEND_IP, CLIENT_PORT, ENDPOINT_IP, Rig, SERVER_PORT, Sandbox, spec};

/// A test that waits longer for something has failed. Nothing asserts that it is fast.
const PATIENCE: Duration = Duration::from_secs(30);

/// A program, if it is here; else says so, or panics under CI.
fn program(name: &str, test: &str) -> Option<String> {
    let folders = ["/usr/sbin", "/usr/bin", "/usr/local/sbin", "/usr/local/bin"];
    let found = folders.map(|folder| format!("{folder}/{name}"));
    let found = found.into_iter().find(|path| std::fs::metadata(path).is_ok());
    if found.is_none() {
        assert!(std::env::var_os("CI").is_none(), "{test} needs {name}");
        eprintln!("SKIPPED {test}: needs {name}; ./test.sh as root installs it");
    }
    found
}

/// A program on the backend, and the lines that it prints; ended with the test.
struct Running {
    child: Child,
    lines: Receiver<String>,
    seen: RefCell<Vec<String>>,
}

impl Running {
    fn start(sandbox: &Sandbox, command: &mut Command) -> Self {
        let command = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = sandbox.open(BACKEND).run(|| command.spawn()).unwrap().unwrap();
        let (out, err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let (sender, lines) = channel();
        for pipe in [Box::new(out) as Box<dyn Read + Send>, Box::new(err)] {
            let sender = sender.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                    let _ = sender.send(line);
                }
            });
        }
        let seen = RefCell::default();
        Self { child, lines, seen }
    }

    /// Waits for a line that fits, be it among those that came before others were waited for.
    fn line(&self, what: &str, fits: impl Fn(&str) -> bool) -> String {
        let mut seen = self.seen.borrow_mut();
        if let Some(line) = seen.iter().find(|line| fits(line)) {
            return line.clone();
        }
        while let Ok(line) = self.lines.recv_timeout(PATIENCE) {
            seen.push(line.clone());
            if fits(&line) {
                return line;
            }
        }
        panic!("waited in vain for {what} in {seen:#?}");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Every header that there is: profile, mode, checksum.
fn headers() -> impl Iterator<Item = (ProxyProfile, TcpProxy, bool)> {
    let profiles = ProxyProfile::ALL.iter();
    profiles.flat_map(|profile| {
        let modes = [TcpProxy::ProxyOpen, TcpProxy::ProxyVni].into_iter();
        modes
            .filter(|mode| profile.can_carry(*mode))
            .flat_map(|mode| [false, true].map(|checksum| (*profile, mode, checksum)))
    })
}

fn with_header(endpoint: &mut EndpointSpec, (profile, mode, checksum): (ProxyProfile, TcpProxy, bool)) {
    endpoint.generation += 1;
    endpoint.tcp_proxy = mode;
    endpoint.proxy = ProxyHeader {
        profile,
        checksum,
        ..ProxyHeader::default()
    };
}

/// What a receiver should say: whom it sees, and where to.
fn addresses(from: SocketAddr) -> String {
    format!("{from} {ENDPOINT_IP}:{CLIENT_PORT}")
}

/// One HTTP request of a client through the endpoint; the client's address, and what was answered.
fn request(sandbox: &Sandbox) -> io::Result<(SocketAddr, String)> {
    let mut stream = sandbox.connect(CLIENT_PORT)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let from = stream.local_addr()?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok((from, answer))
}

/// Waits until the server is up: nothing listens before.
fn until_served(sandbox: &Sandbox) {
    let deadline = std::time::Instant::now() + PATIENCE;
    while request(sandbox).is_err() {
        assert!(
            std::time::Instant::now() < deadline,
            "the server does not come up"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

async fn every_header_names_the_client(sandbox: &Sandbox, server: &Running) {
    let mut rig = Rig::start(sandbox).await;
    let mut endpoint = spec();
    endpoint.tcp_proxy = TcpProxy::ProxyOpen;
    rig.serve(&endpoint).await;
    until_served(sandbox);
    for header in headers() {
        with_header(&mut endpoint, header);
        rig.serve(&endpoint).await;
        let (from, answer) = request(sandbox).unwrap();
        let expected = addresses(from);
        assert!(
            answer.ends_with(&format!("saw {expected}\n")),
            "{header:?}: {answer}"
        );
        server.line("its log", |line| line.ends_with(&format!("logged {expected}")));
    }
    // Without a header the server takes nobody in.
    endpoint.generation += 1;
    endpoint.tcp_proxy = TcpProxy::Close;
    rig.serve(&endpoint).await;
    assert!(!request(sandbox).is_ok_and(|(_, answer)| answer.contains("saw")));
    rig.gateway.stop(Close::Cut).await;
}

/// It verifies the checksum, too.
#[tokio::test(flavor = "multi_thread")]
async fn haproxy_logs_the_client() {
    const TEST: &str = "haproxy_logs_the_client";
    let (Some(haproxy), Some(sandbox)) = (program("haproxy", TEST), Sandbox::new(TEST)) else {
        return;
    };
    sandbox.both().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("haproxy.cfg");
    let config = format!(
        "global
  log stdout format raw local0
defaults
  mode http
  log global
  timeout client 30s
frontend f
  bind {BACKEND_IP}:{SERVER_PORT} accept-proxy
  log-format \"logged %ci:%cp %[dst]:%[dst_port]\"
  http-request return status 200 content-type text/plain lf-string \"saw %[src]:%[src_port] %[dst]:%[dst_port]\\n\"
"
    );
    std::fs::write(&file, config).unwrap();
    let server = Running::start(&sandbox, Command::new(haproxy).args(["-db", "-f"]).arg(&file));
    every_header_names_the_client(&sandbox, &server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nginx_logs_the_client() {
    const TEST: &str = "nginx_logs_the_client";
    let (Some(nginx), Some(sandbox)) = (program("nginx", TEST), Sandbox::new(TEST)) else {
        return;
    };
    sandbox.both().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let place = path.display();
    let config = format!(
        "daemon off; master_process off; pid {place}/pid; error_log stderr;
events {{}}
http {{
  client_body_temp_path {place}/a; proxy_temp_path {place}/b; fastcgi_temp_path {place}/c;
  uwsgi_temp_path {place}/d; scgi_temp_path {place}/e;
  log_format who 'logged $remote_addr:$remote_port $proxy_protocol_server_addr:$proxy_protocol_server_port';
  access_log /dev/stdout who;
  set_real_ip_from 198.19.128.0/17; real_ip_header proxy_protocol;
  server {{
    listen {BACKEND_IP}:{SERVER_PORT} proxy_protocol;
    return 200 'saw $remote_addr:$remote_port $proxy_protocol_server_addr:$proxy_protocol_server_port\\n';
  }}
}}
"
    );
    std::fs::write(path.join("nginx.conf"), config).unwrap();
    let mut command = Command::new(nginx);
    let command = command.arg("-c").arg(path.join("nginx.conf")).arg("-p").arg(path);
    let server = Running::start(&sandbox, command);
    every_header_names_the_client(&sandbox, &server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wireshark_dissects_every_field() {
    const TEST: &str = "wireshark_dissects_every_field";
    let (Some(tshark), Some(sandbox)) = (program("tshark", TEST), Sandbox::new(TEST)) else {
        return;
    };
    sandbox.both().await;
    sandbox.serve("web", SERVER_PORT);
    let fields = [
        "proxy.src.ipv4",
        "proxy.srcport",
        "proxy.dst.ipv4",
        "proxy.dstport",
        "proxy.v2.tlv.type",
        "proxy.v2.tlv.value",
    ];
    let mut command = Command::new(tshark);
    // Else port 80 is HTTP to it, whatever is said there.
    command.args(["-o", "tcp.try_heuristic_first:TRUE"]);
    command.args(["-i", "eth0", "-l", "-n", "-Y", "proxy", "-T", "fields"]);
    for field in fields {
        command.args(["-e", field]);
    }
    let folder = tempfile::tempdir().unwrap();
    // It is killed, and would leave its capture behind.
    command.env("TMPDIR", folder.path());
    let capture = Running::start(&sandbox, &mut command);
    capture.line("the capture to begin", |line| line.contains("Capture started"));
    let mut rig = Rig::start(&sandbox).await;
    let mut endpoint = spec();
    for header in headers() {
        with_header(&mut endpoint, header);
        rig.serve(&endpoint).await;
        let (tlvs, least) = tlvs(&endpoint);
        // Now and then this version shows none of a header's fields beyond the addresses; the next one's it does.
        let read = (0..DISSECTIONS_MAX).find_map(|_| {
            let stream = sandbox.connect(CLIENT_PORT).unwrap();
            let SocketAddr::V4(from) = stream.local_addr().unwrap() else {
                unreachable!("connected by IPv4")
            };
            let line = capture.line("the header", |line| {
                line.contains(&format!("\t{}\t", from.port()))
            });
            let fields: Vec<String> = line.split('\t').map(str::to_owned).collect();
            let expected = [
                from.ip().to_string(),
                from.port().to_string(),
                ENDPOINT_IP.to_string(),
                CLIENT_PORT.to_string(),
            ];
            assert_eq!(fields[..4], expected, "{header:?}");
            (fields[4].split_terminator(',').count() >= least).then_some(fields)
        });
        let read = read.unwrap_or_else(|| panic!("{header:?}: no field is shown"));
        let kinds: Vec<_> = read[4].split_terminator(',').collect();
        let values: Vec<_> = read[5].split_terminator(',').collect();
        for (n, (kind, value)) in tlvs.iter().take(kinds.len()).enumerate() {
            assert_eq!(kinds[n], kind, "{header:?}: {read:?}");
            // The checksum's value is not shown as one.
            assert!(kind == "0x03" || values[n] == value, "{header:?}: {read:?}");
        }
    }
    rig.gateway.stop(Close::Cut).await;
}

/// How many connections one header may take until it is dissected.
const DISSECTIONS_MAX: usize = 5;

/// The types and values that the dissector should show, and how many of them every version does: 4.0 stops where it is as
/// far into the header as the header's length says, which does not count the first 16 bytes.
fn tlvs(endpoint: &EndpointSpec) -> (Vec<(String, String)>, usize) {
    let hex = |bytes: &[u8]| -> String { bytes.iter().map(|byte| format!("{byte:02x}")).collect() };
    let marker = endpoint.marker.get();
    let id = endpoint.id.to_string();
    let first = match endpoint.proxy.profile {
        ProxyProfile::Vpcep => (0xe4, hex(&marker.to_be_bytes())),
        ProxyProfile::Gcp => (0xe0, hex(&u64::from(marker).to_be_bytes())),
        ProxyProfile::Azure => (0xee, format!("01{}", hex(&marker.to_le_bytes()))),
        ProxyProfile::Aws => (0xea, format!("01{}", hex(id.as_bytes()))),
        ProxyProfile::Archer => (0xec, hex(id.as_bytes())),
        ProxyProfile::V1 => return (Vec::new(), 0),
    };
    let mut tlvs = vec![first];
    if endpoint.tcp_proxy == TcpProxy::ProxyVni {
        tlvs.push((0xe5, "0012ab".to_owned()));
    }
    if endpoint.proxy.checksum {
        tlvs.push((0x03, "00000000".to_owned()));
    }
    let sizes = tlvs.iter().map(|(_, value)| 3 + value.len() / 2);
    let length: usize = 12 + sizes.clone().sum::<usize>();
    let mut offset = 28;
    let least = sizes
        .take_while(|size| {
            let begins = offset;
            offset += size;
            begins < length
        })
        .count();
    let tlvs = tlvs
        .into_iter()
        .map(|(kind, value)| (format!("{kind:#04x}"), value));
    (tlvs.collect(), least)
}
