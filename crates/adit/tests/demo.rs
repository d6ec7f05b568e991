//! The commands as a person runs them: the demo as root and as an ordinary user, `adit exec`, and what they say when
//! something is amiss.
#![expect(clippy::unwrap_used, reason = "a test's panic is its verdict")]

mod process;

use std::{
    io::{BufRead, BufReader, Write},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Child, Command, Output, Stdio},
};

use adit_cloud::kernel::Instance;
use process::{BACKEND_PORT, BACKEND_SUBNET, Client, Region, skip_without_root, until};
use rustix::process::Signal;
use serde_json::{Value, json};

/// The command, copied to where every user can run it.
fn command_for_everybody(dir: &Path) -> std::path::PathBuf {
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o777)).unwrap();
    let copy = dir.join("adit");
    std::fs::copy(env!("CARGO_BIN_EXE_adit"), &copy).unwrap();
    copy
}

/// As user and group 65534, without any of root's rights, at home in `dir`.
fn as_nobody(dir: &Path, program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command
        .args([
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
            "--inh-caps=-all",
            "--",
        ])
        .arg(program);
    command
        .env("HOME", dir)
        .env("TMPDIR", dir)
        .env_remove("XDG_STATE_HOME")
        .current_dir(dir);
    command
}

fn held(output: &Output) {
    let text = String::from_utf8_lossy(&output.stdout);
    let report: Value = serde_json::from_str(&text).unwrap_or_else(|e| {
        let errors = String::from_utf8_lossy(&output.stderr);
        unreachable!("{e}: {text} {errors}")
    });
    assert!(output.status.success(), "{report}");
    assert_eq!(report["held"], true, "{report}");
    let steps = report["steps"].as_array().unwrap();
    assert!(
        steps.len() >= 15 && steps.iter().all(|s| s["held"] == true),
        "{report}"
    );
}

#[test]
fn the_demo_holds_as_root() {
    if skip_without_root("the_demo_holds_as_root") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let demo = Command::new(env!("CARGO_BIN_EXE_adit"))
        .args(["demo", "--json"])
        .env("TMPDIR", dir.path())
        .output();
    held(&demo.unwrap());
    assert_eq!(
        std::fs::read_dir(dir.path()).unwrap().count(),
        0,
        "the demo leaves no files"
    );
}

#[test]
fn the_demo_holds_as_an_ordinary_user() {
    if skip_without_root("the_demo_holds_as_an_ordinary_user") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let adit = command_for_everybody(dir.path());
    held(
        &as_nobody(dir.path(), &adit)
            .args(["demo", "--json"])
            .output()
            .unwrap(),
    );
    assert_eq!(
        std::fs::read_dir(dir.path()).unwrap().count(),
        1,
        "the demo leaves no files"
    );
}

#[test]
fn exec_runs_inside_a_port_and_passes_the_exit_status_on() {
    if skip_without_root("exec_runs_inside_a_port_and_passes_the_exit_status_on") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let region = Region::start(dir.path(), &[]);
    region.port(BACKEND_PORT);
    let exec = |words: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_adit"));
        command
            .args(["exec", "--data"])
            .arg(dir.path())
            .args(["--port", BACKEND_PORT, "--"])
            .args(words);
        command.output().unwrap()
    };
    let output = exec(&["ip", "-4", "-o", "address", "show", "dev", "eth0"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("10.0.0.10/24"), "{text}");
    assert_eq!(exec(&["sh", "-c", "exit 7"]).status.code(), Some(7));
    let missing = exec(&["/no/such/command"]);
    assert!(String::from_utf8_lossy(&missing.stderr).contains("/no/such/command"));
    assert_eq!(missing.status.code(), Some(127), "not there");
    assert_eq!(exec(&["/"]).status.code(), Some(126), "not to be run");

    let mut command = Command::new(env!("CARGO_BIN_EXE_adit"));
    command.args(["exec", "--data"]).arg(dir.path()).args([
        "--port",
        "00000000-0000-4000-8000-000000000000",
        "--",
        "true",
    ]);
    let unknown = command.output().unwrap();
    let text = String::from_utf8_lossy(&unknown.stderr).into_owned();
    assert!(
        !unknown.status.success() && text.contains("00000000-0000-4000-8000-000000000000 is not there"),
        "{text}"
    );
    assert!(region.stop(), "a clean stop");
    assert!(String::from_utf8_lossy(&exec(&["true"]).stderr).contains("no region runs on"));
}

#[test]
fn exec_enters_an_ordinary_user_s_region() {
    if skip_without_root("exec_enters_an_ordinary_user_s_region") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let adit = command_for_everybody(dir.path());
    let data = dir.path().join("data");
    let mut dev = as_nobody(dir.path(), &adit);
    let mut dev = dev
        .args(["dev", "--listen", "127.0.0.1:0", "--data"])
        .arg(&data)
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let output = process::until("a command in the region", || {
        let mut exec = as_nobody(dir.path(), &adit);
        exec.args(["exec", "--data"]).arg(&data).args([
            "--port",
            BACKEND_PORT,
            "--",
            "ip",
            "-4",
            "-o",
            "address",
        ]);
        let output = exec.output().unwrap();
        output.status.success().then_some(output)
    });
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let pid = rustix::process::Pid::from_child(&dev);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert!(dev.wait().unwrap().success(), "a clean stop");
    assert!(text.contains("10.0.0.10/24"), "{text}");
}

#[test]
fn nobody_else_reads_passwords_or_the_store_wherever_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let mode = |path: &Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    mode(dir.path(), 0o755);
    let clouds = dir.path().join("clouds.yaml");
    std::fs::write(&clouds, "of a former version").unwrap();
    mode(&clouds, 0o644);
    let region = Region::start(dir.path(), &["--no-gateway"]);
    for name in ["clouds.yaml", "store.redb"] {
        let file = std::fs::metadata(dir.path().join(name)).unwrap();
        assert_eq!(file.permissions().mode() & 0o777, 0o600, "{name}");
    }
    assert!(region.stop(), "a clean stop");
}

#[test]
fn a_data_directory_has_one_region_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let region = Region::start(dir.path(), &["--no-gateway"]);
    let second = Command::new(env!("CARGO_BIN_EXE_adit"))
        .args(["dev", "--no-gateway", "--listen", "127.0.0.1:0", "--data"])
        .arg(dir.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(
        !second.status.success() && text.contains(&format!("process {}", region.pid())),
        "{text}"
    );
    assert!(region.stop(), "a clean stop");
}

#[test]
fn a_region_file_that_is_wrong_is_refused_by_line() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("region.toml");
    std::fs::write(&file, "name = \"eu-de\"\nnonsense = 1\n").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_adit"))
        .args(["dev", "--ephemeral", "--listen", "127.0.0.1:0", "--region-file"])
        .arg(&file)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        !output.status.success() && text.contains("nonsense") && text.contains("line 2"),
        "{text}"
    );
}

#[test]
fn exec_waits_for_a_port_that_was_just_created() {
    if skip_without_root("exec_waits_for_a_port_that_was_just_created") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let region = Region::start(dir.path(), &[]);
    let order = json!({"port": {"network_id": BACKEND_SUBNET}});
    let port = Client::demo(&region.api).must("POST", "/v2.0/ports", Some(&order));
    let mut exec = Command::new(env!("CARGO_BIN_EXE_adit"));
    exec.args(["exec", "--data"]).arg(dir.path());
    exec.args(["--port", port["port"]["id"].as_str().unwrap(), "--", "true"]);
    let output = exec.output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(region.stop(), "a clean stop");
}

/// A command whose temporary directory is `dir`; it is ended when it goes out of scope.
struct Process(Child);

impl Process {
    fn spawn(dir: &Path, words: &[&str], pipes: impl Fn() -> Stdio) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_adit"));
        command.args(words).env("TMPDIR", dir);
        Self(command.stdout(pipes()).stderr(pipes()).spawn().unwrap())
    }

    /// The region's id, once it is in the kernel.
    fn instance(&mut self, dir: &Path) -> Instance {
        until("the region's namespaces", || {
            assert!(self.0.try_wait().unwrap().is_none(), "the process has ended");
            let data = std::fs::read_dir(dir).unwrap().next()?.unwrap().path();
            let text = std::fs::read_to_string(data.join("instance")).ok()?;
            let instance = text.split_whitespace().next()?.parse().ok()?;
            (!Region::namespaces(&instance).is_empty()).then_some(instance)
        })
    }

    /// Sends a signal, and answers the exit status.
    fn end_by(&mut self, signal: Signal) -> Option<i32> {
        let pid = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(pid, signal).unwrap();
        self.0.wait().unwrap().code()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        process::end(&mut self.0);
    }
}

/// Where the region on a data directory has its API, once it has one.
fn api(data: &Path) -> Option<String> {
    let run: Value = serde_json::from_slice(&std::fs::read(data.join("run.json")).ok()?).ok()?;
    Some(run["api"].as_str().unwrap().to_owned())
}

fn nothing_is_left(dir: &Path, instance: &Instance) {
    assert_eq!(Region::namespaces(instance), [""; 0], "namespaces are left");
    assert_eq!(std::fs::read_dir(dir).unwrap().count(), 0, "files are left");
}

const EPHEMERAL: &[&str] = &["dev", "--ephemeral", "--listen", "127.0.0.1:0"];

#[test]
fn an_interrupted_demo_leaves_nothing() {
    if skip_without_root("an_interrupted_demo_leaves_nothing") {
        return;
    }
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let dir = tempfile::tempdir().unwrap();
        let mut demo = Process::spawn(dir.path(), &["demo"], Stdio::null);
        let instance = demo.instance(dir.path());
        assert_eq!(demo.end_by(signal), Some(130), "{signal:?}");
        nothing_is_left(dir.path(), &instance);
    }
}

#[test]
fn every_signal_that_ends_a_region_ends_it_cleanly() {
    if skip_without_root("every_signal_that_ends_a_region_ends_it_cleanly") {
        return;
    }
    // The region is still starting when it has its first namespace.
    for signal in [Signal::INT, Signal::TERM, Signal::HUP, Signal::QUIT] {
        let dir = tempfile::tempdir().unwrap();
        let mut dev = Process::spawn(dir.path(), EPHEMERAL, Stdio::null);
        let instance = dev.instance(dir.path());
        assert_eq!(dev.end_by(signal), Some(0), "{signal:?}");
        nothing_is_left(dir.path(), &instance);
    }
}

#[test]
fn a_second_signal_cuts_requests_in_progress_and_still_leaves_nothing() {
    if skip_without_root("a_second_signal_cuts_requests_in_progress_and_still_leaves_nothing") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut dev = Process::spawn(dir.path(), EPHEMERAL, Stdio::piped);
    let instance = dev.instance(dir.path());
    let data = std::fs::read_dir(dir.path())
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let api = until("the region", || api(&data));
    // A request whose body never comes.
    let mut stream = std::net::TcpStream::connect(api.strip_prefix("http://").unwrap()).unwrap();
    stream
        .write_all(b"POST /v3/auth/tokens HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n")
        .unwrap();
    let pid = rustix::process::Pid::from_child(&dev.0);
    rustix::process::kill_process(pid, Signal::INT).unwrap();
    let mut errors = BufReader::new(dev.0.stderr.take().unwrap()).lines();
    let said = errors.find(|line| line.as_ref().unwrap().starts_with("Stopping"));
    assert!(said.unwrap().unwrap().contains("again"));
    assert_eq!(dev.end_by(Signal::INT), Some(0));
    nothing_is_left(dir.path(), &instance);
}

#[test]
fn the_next_region_sweeps_what_a_killed_one_left_that_kept_nothing() {
    if skip_without_root("the_next_region_sweeps_what_a_killed_one_left_that_kept_nothing") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut killed = Process::spawn(dir.path(), EPHEMERAL, Stdio::null);
    let instance = killed.instance(dir.path());
    assert_eq!(killed.end_by(Signal::KILL), None);
    assert!(!Region::namespaces(&instance).is_empty(), "a kill leaves them");

    // One that runs is left alone.
    let data = tempfile::tempdir_in(dir.path()).unwrap();
    let alive = Region::start(data.path(), &[]);
    let ephemeral = dir.path().join(format!("adit-{}", "0".repeat(32)));
    let beside = Region::start(&ephemeral, &[]);
    let next = Command::new(env!("CARGO_BIN_EXE_adit"))
        .args(["demo", "--json"])
        .env("TMPDIR", dir.path())
        .output();
    held(&next.unwrap());
    assert_eq!(Region::namespaces(&instance), [""; 0], "it is swept");
    assert!(!Region::namespaces(&beside.instance()).is_empty());
    assert!(beside.stop() && alive.stop(), "a clean stop");
    std::fs::remove_dir_all(ephemeral).unwrap();
    drop(data);
    nothing_is_left(dir.path(), &instance);
}

#[test]
fn nobody_needs_to_listen() {
    if skip_without_root("nobody_needs_to_listen") {
        return;
    }
    // A pipe whose reader is gone.
    let closed = || Stdio::from(std::io::pipe().unwrap().1);
    let dir = tempfile::tempdir().unwrap();
    let mut dev = Process::spawn(dir.path(), EPHEMERAL, closed);
    let instance = dev.instance(dir.path());
    assert_eq!(dev.end_by(Signal::TERM), Some(0));
    nothing_is_left(dir.path(), &instance);

    let mut demo = Process::spawn(dir.path(), &["demo"], closed);
    let instance = demo.instance(dir.path());
    assert_eq!(demo.0.wait().unwrap().code(), Some(0));
    nothing_is_left(dir.path(), &instance);
}

#[test]
fn a_copy_of_a_data_directory_leaves_the_original_s_region_alone() {
    if skip_without_root("a_copy_of_a_data_directory_leaves_the_original_s_region_alone") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (original, copy) = (dir.path().join("original"), dir.path().join("copy"));
    assert!(Region::start(&original, &[]).stop(), "a clean stop");
    let copied = Command::new("cp").arg("-r").args([&original, &copy]).status();
    assert!(copied.unwrap().success());

    let first = Region::start(&original, &[]);
    let port = first.port(BACKEND_PORT).inode();
    let second = Region::start(&copy, &[]);
    assert_ne!(first.instance(), second.instance());
    assert_eq!(
        first.port(BACKEND_PORT).inode(),
        port,
        "the original's network is as it was"
    );
    let kept = second.instance();
    assert!(second.stop(), "a clean stop");
    let second = Region::start(&copy, &[]);
    assert_eq!(second.instance(), kept, "the copy keeps its own");
    assert!(second.stop() && first.stop(), "a clean stop");
}

#[test]
fn logs_that_go_to_a_file_have_no_colours() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let data = dir.path().join("data");
    let mut dev = Command::new(env!("CARGO_BIN_EXE_adit"));
    dev.args(["dev", "--log", "trace", "--no-gateway"]);
    dev.args(["--listen", "127.0.0.1:0", "--data"]).arg(&data);
    dev.stdout(Stdio::null())
        .stderr(std::fs::File::create(&log).unwrap());
    let mut dev = Process(dev.spawn().unwrap());
    Client::demo(&until("the region", || api(&data)));
    assert_eq!(dev.end_by(Signal::TERM), Some(0));
    let text = std::fs::read_to_string(log).unwrap();
    assert!(
        text.contains("/v3/auth/tokens") && !text.contains('\u{1b}'),
        "{text}"
    );
}
