//! The commands as a person runs them: the demo as root and as an ordinary user, `adit exec`, and what they say when
//! something is amiss.
#![expect(clippy::unwrap_used, reason = "a test's panic is its verdict")]

mod process;

use std::{
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output},
};

use process::{BACKEND_PORT, Region, skip_without_root};
use serde_json::Value;

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
    assert!(
        !missing.status.success() && String::from_utf8_lossy(&missing.stderr).contains("/no/such/command")
    );

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
