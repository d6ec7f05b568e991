//! TOA from inside a consumer's VPC to unmodified servers behind `adit toa-receiver`, and what is said where it cannot be.
#![expect(clippy::unwrap_used, reason = "a test's panic is its verdict")]

mod process;

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    time::Duration,
};

use adit_netns::Namespace;
use process::{BACKEND_PORT, BACKEND_VPC, CLIENT_PORT, Client, Region, end, skip_without_root, until};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketType, connect, socket, sockopt};
use serde_json::{Value, json};

/// A test that waits longer for something has failed.
const PATIENCE: Duration = Duration::from_secs(30);
/// The tenant's client in its own VPC.
const CLIENT_IP: &str = "10.0.0.20";

/// Whether a program is missing; says so by name. In CI that is a failure.
fn skip_without(program: &str, test: &str) -> bool {
    let folders = ["/usr/sbin", "/usr/bin", "/usr/local/sbin", "/usr/local/bin"];
    if folders
        .iter()
        .any(|folder| Path::new(folder).join(program).exists())
    {
        return false;
    }
    assert!(
        std::env::var_os("CI").is_none(),
        "{test} needs {program}, and CI has to have it"
    );
    eprintln!("SKIPPED: {test} needs {program}; ./test.sh as root installs it");
    true
}

/// A server behind the receiver, in a port's namespace, and the lines that it logs; ended with the test.
struct Server {
    child: Child,
    log: Receiver<String>,
}

impl Server {
    fn start(inside: &Namespace, command: &[&str]) -> Self {
        let mut receiver = Command::new(env!("CARGO_BIN_EXE_adit"));
        receiver.args(["toa-receiver", "--"]).args(command);
        receiver
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = inside.run(|| receiver.spawn()).unwrap().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let (sender, log) = channel();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        Self { child, log }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// Publishes a port of the demo tenant's server in a mode, open to everybody; answers the service's id.
fn publish(provider: &Client, mode: &str, port: u16) -> String {
    let body = json!({"port_id": BACKEND_PORT, "vpc_id": BACKEND_VPC, "server_type": "VM", "tcp_proxy": mode,
        "approval_enabled": false, "ports": [{"client_port": port, "server_port": port}]});
    let service = provider.must("POST", "vpc-endpoint-services", Some(&body));
    let path = format!("vpc-endpoint-services/{}", service["id"].as_str().unwrap());
    until("the service", || {
        (provider.must("GET", &path, None)["status"] == "available").then_some(())
    });
    let body = json!({"permissions": ["*"], "action": "add"});
    provider.must("POST", &format!("{path}/permissions/action"), Some(&body));
    path.rsplit('/').next().unwrap().to_owned()
}

/// One HTTP request; the client's own address, and the answer. It is there as soon as the connection is, since it comes with it.
fn request(inside: &Namespace, to: (Ipv4Addr, u16)) -> std::io::Result<(SocketAddr, String)> {
    let connected = inside.run(|| {
        let socket = socket(AddressFamily::INET, SocketType::STREAM, None)?;
        sockopt::set_tcp_quickack(&socket, false)?;
        connect(&socket, &SocketAddrV4::new(to.0, to.1))?;
        Ok::<_, Errno>(socket)
    });
    let mut stream = TcpStream::from(connected.unwrap()?);
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let from = stream.local_addr()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let body = answer.rsplit("\r\n").next().unwrap_or_default();
    Ok((from, body.to_owned()))
}

#[test]
fn nginx_sees_the_clients_of_another_vpc() {
    let test = "nginx_sees_the_clients_of_another_vpc";
    if skip_without_root(test) || skip_without("nginx", test) {
        return;
    }
    let region = Region::ephemeral();
    let (provider, consumer) = (Client::demo(&region.api), Client::other(&region.api));
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().display();
    let config = format!(
        "daemon off; pid {place}/pid; error_log stderr;
events {{}}
http {{
  client_body_temp_path {place}/a; proxy_temp_path {place}/b; fastcgi_temp_path {place}/c;
  uwsgi_temp_path {place}/d; scgi_temp_path {place}/e;
  access_log off;
  server {{
    listen 8081; listen 8082 proxy_protocol; listen 8083;
    return 200 '$remote_addr:$remote_port $proxy_protocol_addr:$proxy_protocol_port';
  }}
}}
"
    );
    let file = folder.path().join("nginx.conf");
    std::fs::write(&file, config).unwrap();
    let command = [
        "nginx",
        "-p",
        folder.path().to_str().unwrap(),
        "-c",
        file.to_str().unwrap(),
    ];
    let _server = Server::start(&region.port(BACKEND_PORT), &command);
    let client = region.port(CLIENT_PORT);
    let ask = |to| {
        until("an answer", || {
            request(&client, to).ok().filter(|(_, seen)| !seen.is_empty())
        })
    };

    let toa_open = publish(&provider, "toa_open", 8081);
    let (_, ip) = consumer.connect(&toa_open);
    let (from, seen) = ask((ip, 8081));
    assert_eq!(from.ip().to_string(), CLIENT_IP);
    assert_eq!(seen, format!("{from} :"));

    let open = publish(&provider, "open", 8082);
    let (_, both_ip) = consumer.connect(&open);
    let (from, seen) = ask((both_ip, 8082));
    assert_eq!(seen, format!("{from} {from}"));

    let close = publish(&provider, "close", 8083);
    let (_, close_ip) = consumer.connect(&close);
    let (_, seen) = ask((close_ip, 8083));
    assert!(seen.starts_with("198.19."), "{seen}");

    // A service that changes its mind.
    let change = |mode: &str| {
        let path = format!("vpc-endpoint-services/{toa_open}");
        provider.must("PUT", &path, Some(&json!({"tcp_proxy": mode})));
    };
    change("close");
    until("connections without TOA", || {
        request(&client, (ip, 8081))
            .ok()
            .filter(|(_, seen)| seen.starts_with("198.19."))
    });
    change("toa_open");
    until("connections with TOA", || {
        request(&client, (ip, 8081))
            .ok()
            .filter(|(from, seen)| *seen == format!("{from} :"))
    });
    assert!(region.stop(), "a clean stop");
}

#[test]
fn a_server_in_python_logs_the_clients_of_another_vpc() {
    let test = "a_server_in_python_logs_the_clients_of_another_vpc";
    if skip_without_root(test) || skip_without("python3", test) {
        return;
    }
    let region = Region::ephemeral();
    let (provider, consumer) = (Client::demo(&region.api), Client::other(&region.api));
    let command = ["python3", "-u", "-m", "http.server", "8084"];
    let mut server = Server::start(&region.port(BACKEND_PORT), &command);
    let service = publish(&provider, "toa_open", 8084);
    let (_, ip) = consumer.connect(&service);
    let client = region.port(CLIENT_PORT);
    until("an answer", || {
        request(&client, (ip, 8084))
            .ok()
            .filter(|(_, seen)| !seen.is_empty())
    });
    let logged = server.log.recv_timeout(PATIENCE).unwrap();
    let who = logged.split(' ').next().unwrap().trim_start_matches("::ffff:");
    assert_eq!(who, CLIENT_IP, "{logged}");
    // What the receiver is told to end, it tells the server, and its cgroup goes.
    let pid = rustix::process::Pid::from_child(&server.child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    server.child.wait().unwrap();
    let left = adit_relay::toa::Cgroup::own().unwrap().below().unwrap();
    let name = format!("adit-toa-{}", server.child.id());
    assert!(!left.contains(&name), "{left:?}");
    assert!(region.stop(), "a clean stop");
}

/// What `adit gateway check` finds, by the name of what it looked at.
fn check(command: &mut Command) -> (bool, Value) {
    let output = command.args(["gateway", "check", "-o", "json"]).output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["works"], output.status.success(), "{report}");
    let findings = [&report["checks"], &report["modes"]].map(|part| part.as_array().unwrap().clone());
    let findings = findings.concat().into_iter();
    let by_name = findings.map(|f| (f["name"].as_str().unwrap().to_owned(), f));
    (output.status.success(), Value::Object(by_name.collect()))
}

#[test]
fn as_root_every_mode_is_there() {
    if skip_without_root("as_root_every_mode_is_there") {
        return;
    }
    let (works, found) = check(&mut Command::new(env!("CARGO_BIN_EXE_adit")));
    assert!(works);
    for name in [
        "namespaces",
        "close",
        "toa_open",
        "proxy_open",
        "open",
        "proxy_vni",
    ] {
        assert_eq!(found[name]["result"], "ok", "{found:#}");
    }
    for name in ["kernel", "descriptors", "pipes"] {
        assert!(found[name]["detail"].is_string(), "{found:#}");
    }
}

/// `adit` as user and group 65534, without any of root's rights.
fn as_nobody(dir: &Path) -> Command {
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o777)).unwrap();
    let copy = dir.join("adit");
    std::fs::copy(env!("CARGO_BIN_EXE_adit"), &copy).unwrap();
    let mut command = Command::new("setpriv");
    command.args([
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        "--inh-caps=-all",
        "--",
    ]);
    command
        .arg(copy)
        .env("HOME", dir)
        .env("TMPDIR", dir)
        .env_remove("XDG_STATE_HOME")
        .current_dir(dir);
    command
}

#[test]
fn an_ordinary_user_is_told_why_there_is_no_toa() {
    let test = "an_ordinary_user_is_told_why_there_is_no_toa";
    if skip_without_root(test) || skip_without("setpriv", test) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (works, found) = check(&mut as_nobody(dir.path()));
    if !works {
        assert!(
            std::env::var_os("CI").is_none(),
            "{test} needs user namespaces: {found:#}"
        );
        eprintln!("SKIPPED: {test} needs user namespaces");
        return;
    }
    for name in ["close", "proxy_open", "proxy_vni"] {
        assert_eq!(found[name]["result"], "ok", "{found:#}");
    }
    for name in ["toa_open", "open"] {
        assert_eq!(found[name]["result"], "no", "{found:#}");
        assert!(
            found[name]["detail"].as_str().unwrap().contains("user namespace"),
            "{found:#}"
        );
        assert!(
            found[name]["remedy"].as_str().unwrap().contains("Run as root"),
            "{found:#}"
        );
    }

    let mut command = as_nobody(dir.path());
    command.args(["dev", "--ephemeral"]);
    let region = Region::of(command, Stdio::inherit());
    let provider = Client::demo(&region.api);
    for mode in ["toa_open", "open"] {
        let body = json!({"port_id": BACKEND_PORT, "vpc_id": BACKEND_VPC, "server_type": "VM",
            "tcp_proxy": mode, "approval_enabled": false, "ports": [{"client_port": 80, "server_port": 80}]});
        let service = provider.must("POST", "vpc-endpoint-services", Some(&body));
        let path = format!("vpc-endpoint-services/{}", service["id"].as_str().unwrap());
        let failed = until("the service to fail", || {
            let shown = provider.must("GET", &path, None);
            (shown["status"] == "failed").then_some(shown)
        });
        let message = failed["error"][0]["error_message"].as_str().unwrap();
        for part in [
            mode,
            "user namespace",
            "Run as root",
            "close, proxy_open, proxy_vni",
        ] {
            assert!(message.contains(part), "{message}");
        }
        provider.must("DELETE", &path, None);
    }
    assert!(region.stop(), "a clean stop");
}
