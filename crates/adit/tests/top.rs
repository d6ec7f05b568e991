//! `adit top`: the real command on a running region with traffic, in a terminal and without one.
#![expect(clippy::unwrap_used, reason = "a test's panic is its verdict")]

mod process;

use std::{
    fs::File,
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
};

use adit_netns::Namespace;
use process::{
    BACKEND_PORT, CLIENT_PORT, Client, Region,
    cluster::{Control, Role},
    skip_without_root, until,
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, Signal, kill_process},
    pty::{self, OpenptFlags},
    termios::{self, LocalModes, Winsize},
};
use serde_json::{Value, json};

/// How long the terminal may stay as it is.
const PATIENCE: Timespec = Timespec {
    tv_sec: 30,
    tv_nsec: 0,
};
/// What the clients send with each connection.
const BYTES: usize = 10_000;

fn top(data: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_adit"));
    command
        .env("ADIT_DATA", data)
        .env_remove("ADIT_CACERT")
        .arg("top")
        .args(words);
    command
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

/// A child that is killed where the test does not get as far as its end.
struct Running(Child);

impl Running {
    fn json(data: &Path) -> (Self, impl Iterator<Item = Value>) {
        let mut child = top(data, &["-o", "json"]).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let read = |line: std::io::Result<String>| serde_json::from_str(&line.unwrap()).unwrap();
        (Self(child), lines.map(read))
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).unwrap();
    }

    /// How it ends by itself.
    fn ended(mut self) -> bool {
        until("the end of adit top", || self.0.try_wait().unwrap()).success()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        process::end(&mut self.0);
    }
}

/// A server that reads everything and says nothing, until the test's end.
fn serve(inside: &Namespace) {
    let listener = inside
        .run(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, 80)))
        .unwrap()
        .unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let _ = std::io::copy(&mut &stream, &mut std::io::sink());
        }
    });
}

/// Connects and sends, one connection after the other; what is refused is so on purpose.
fn keep_busy(inside: &Namespace, ips: &[Ipv4Addr], stop: &AtomicBool) {
    inside
        .run(|| {
            while !stop.load(Ordering::Relaxed) {
                for ip in ips {
                    let to = SocketAddrV4::new(*ip, 7000);
                    let sent = TcpStream::connect(to).and_then(|mut client| client.write_all(&[7; BYTES]));
                    let _ = sent;
                }
            }
        })
        .unwrap();
}

fn of<'a>(line: &'a Value, endpoint: &str) -> &'a Value {
    let mut endpoints = line["endpoints"].as_array().unwrap().iter();
    endpoints
        .find(|row| row["endpoint"] == endpoint)
        .unwrap_or(&Value::Null)
}

fn positive(value: &Value) -> bool {
    value.as_f64().is_some_and(|n| n > 0.0)
}

#[test]
fn the_busiest_endpoints_are_shown_live() {
    if skip_without_root("the_busiest_endpoints_are_shown_live") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path();
    let region = Region::start(data, &[]);
    let (provider, consumer) = (Client::demo(&region.api), Client::other(&region.api));
    let service = provider.publish(&json!([{"client_port": 7000, "server_port": 80}]));
    let (open, open_ip) = consumer.connect(&service);
    let (closed, closed_ip) = consumer.connect(&service);
    let nobody = json!({"whitelist": ["192.0.2.1"], "enable_whitelist": true});
    consumer.must("PUT", &format!("vpc-endpoints/{closed}"), Some(&nobody));
    serve(&region.port(BACKEND_PORT));
    let client = region.port(CLIENT_PORT);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let busy = scope.spawn(|| keep_busy(&client, &[open_ip, closed_ip], &stop));
        let tested = std::panic::catch_unwind(|| {
            lines_of_json(data, &open, &closed);
            one_table(data, &open);
            in_a_terminal(data, &open);
        });
        stop.store(true, Ordering::Relaxed);
        busy.join().unwrap();
        tested.unwrap();
    });
    assert!(region.stop(), "a clean stop");
    let gone = top(data, &["--once"]).output().unwrap();
    assert!(!gone.status.success() && text(gone.stderr).contains("--metrics"));
}

#[test]
fn a_gateway_of_its_own_process_is_looked_at_by_its_directory() {
    if skip_without_root("a_gateway_of_its_own_process_is_looked_at_by_its_directory") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let [api, networks, state] = ["api", "networks", "state"].map(|name| folder.path().join(name));
    let control = Control::start(&api, &[]);
    let urls = [control.nodes.clone()];
    let token_file = control.token_file();
    let _networks = Role::networks(&urls, &token_file, &networks);
    let _gateway = Role::gateway("one", &urls, &token_file, &state, &networks);
    let service =
        Client::demo(&control.region.api).publish(&json!([{"client_port": 7000, "server_port": 80}]));
    let (id, _) = Client::other(&control.region.api).connect(&service);
    until("the endpoint's line", || {
        let output = top(&state, &["--once"]).output().unwrap();
        let table = text(output.stdout);
        table.lines().any(|line| line.starts_with(&id)).then_some(())
    });
    // Who moves no bytes has nothing to show.
    let output = top(&networks, &["--once"]).output().unwrap();
    assert!(!output.status.success() && text(output.stderr).contains("shows no traffic"));
}

fn lines_of_json(data: &Path, open: &str, closed: &str) {
    let (running, mut lines) = Running::json(data);
    let line = lines.by_ref().take(20).find(|line| {
        let (open, closed) = (of(line, open), of(line, closed));
        let rates = ["new_per_s", "bytes_to_backend_per_s", "connect_ms"];
        rates.iter().all(|rate| positive(&open[*rate])) && positive(&closed["drops_per_s"]["not_allowed"])
    });
    let line = line.unwrap();
    assert_eq!(of(&line, open)["drops_per_s"], json!({}), "{line}");
    assert_eq!(of(&line, closed)["connect_ms"], Value::Null, "{line}");
    assert!(
        positive(&line["total"]["new_per_s"]) && line["unlisted"] == 0,
        "{line}"
    );
    running.signal(Signal::INT);
    assert!(running.ended(), "a clean end by Ctrl-C");
    // Whoever reads may have had enough.
    let (running, mut lines) = Running::json(data);
    assert!(lines.next().is_some());
    drop(lines);
    assert!(running.ended(), "a clean end without readers");
}

fn one_table(data: &Path, open: &str) {
    let output = top(data, &["--once", "--sort", "new"]).output().unwrap();
    assert!(output.status.success(), "{}", text(output.stderr));
    let table = text(output.stdout);
    assert!(!table.contains('\x1b'), "{table}");
    let mut lines = table.lines().skip(1);
    assert!(lines.next().unwrap().starts_with("ENDPOINT "), "{table}");
    assert!(lines.next().unwrap().starts_with("all "), "{table}");
    assert!(lines.any(|line| line.starts_with(open)), "{table}");
    let beside = top(data, &["--once", "--metrics", "http://127.0.0.1:1/metrics"])
        .output()
        .unwrap();
    assert!(!beside.status.success() && text(beside.stderr).contains("http://127.0.0.1:1/metrics"));
}

fn in_a_terminal(data: &Path, open: &str) {
    let master = pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    pty::grantpt(&master).unwrap();
    pty::unlockpt(&master).unwrap();
    let name = pty::ptsname(&master, Vec::new()).unwrap();
    let slave = || {
        File::options()
            .read(true)
            .write(true)
            .open(name.to_str().unwrap())
            .unwrap()
    };
    let size = Winsize {
        ws_row: 30,
        ws_col: 120,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    let terminal = slave();
    termios::tcsetwinsize(&terminal, size).unwrap();
    let cooked = |terminal: &File| {
        termios::tcgetattr(terminal)
            .unwrap()
            .local_modes
            .contains(LocalModes::ICANON)
    };
    assert!(cooked(&terminal));
    let child = top(data, &[])
        .stdin(slave())
        .stdout(slave())
        .stderr(slave())
        .spawn()
        .unwrap();
    let running = Running(child);
    let mut master = File::from(master);
    let mut keys = master.try_clone().unwrap();
    let (mut shown, mut buffer) = (String::new(), [0; 4096]);
    let mut shows = |what: &str| {
        while !shown.contains(what) {
            let mut ready = [PollFd::new(&master, PollFlags::IN)];
            assert_eq!(
                poll(&mut ready, Some(&PATIENCE)),
                Ok(1),
                "{what:?} does not come after {shown:?}"
            );
            let n = master.read(&mut buffer).unwrap();
            shown.push_str(&String::from_utf8_lossy(&buffer[..n]));
        }
        shown.clear();
    };
    shows("\x1b[?1049h");
    shows(open);
    assert!(!cooked(&terminal), "keys come one by one");
    // Another table, by another order; then enough.
    shows("q ends");
    keys.write_all(b"d").unwrap();
    shows(open);
    keys.write_all(b"q").unwrap();
    shows("\x1b[?1049l");
    assert!(running.ended(), "a clean end by q");
    assert!(cooked(&terminal), "the terminal is as it was");
}
