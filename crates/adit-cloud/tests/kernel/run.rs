//! How the scenarios are run: each as root, and as an ordinary user in a process of its own.

use std::os::unix::fs::PermissionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::{Command, ExitCode};

use adit_netns::{Directory, userns};

/// What is done with a folder of namespaces.
pub(crate) type Scenario = fn(&Directory);

/// Runs the scenarios that the arguments name.
pub(crate) fn main(scenarios: &[(&str, Scenario)]) -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [word, name, folder] = arguments.as_slice()
        && word == "inside"
    {
        return inside(scenarios, name, folder.as_ref());
    }
    let exact = arguments.iter().any(|argument| argument == "--exact");
    let wanted = |name: &str| {
        let mut filters = arguments
            .iter()
            .filter(|argument| !argument.starts_with('-'))
            .peekable();
        let fits = |filter: &String| {
            if exact {
                name == filter
            } else {
                name.contains(filter.as_str())
            }
        };
        filters.peek().is_none() || filters.any(fits)
    };
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    let mut failed = false;
    for (scenario, run) in scenarios {
        for (half, rootless) in [("as_root", false), ("rootless", true)] {
            let name = format!("{scenario}::{half}");
            if has("--ignored") || !wanted(&name) {
                continue;
            }
            if has("--list") {
                println!("{name}: test");
                continue;
            }
            let outcome = if rootless {
                without_root(scenario)
            } else {
                as_root(*run)
            };
            println!("test {name} ... {outcome}");
            failed |= outcome == "FAILED";
        }
    }
    if failed {
        ExitCode::from(101)
    } else {
        ExitCode::SUCCESS
    }
}

fn as_root(run: Scenario) -> String {
    if !userns::is_privileged() {
        return skipped("needs root: run it as `sudo -E cargo test -p adit-cloud --test kernel`");
    }
    let folder = tempfile::tempdir().unwrap();
    if passes(run, folder.path()) {
        "ok".to_owned()
    } else {
        "FAILED".to_owned()
    }
}

fn without_root(scenario: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    // World-writable and with a copy of the program: nobody may not read the build's folders.
    std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o777)).unwrap();
    let program = folder.path().join("kernel");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let mut command = if rustix::process::geteuid().is_root() {
        let mut setpriv = Command::new("setpriv");
        setpriv
            .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
            .arg(&program);
        setpriv
    } else {
        Command::new(&program)
    };
    let status = command
        .arg("inside")
        .arg(scenario)
        .arg(folder.path().join("ns"))
        .status()
        .unwrap();
    match status.code() {
        Some(0) => "ok".to_owned(),
        Some(code) if code == i32::from(UNAVAILABLE) => skipped("needs user namespaces"),
        _ => "FAILED".to_owned(),
    }
}

/// The exit status that says: no user namespaces here.
const UNAVAILABLE: u8 = 77;

fn inside(scenarios: &[(&str, Scenario)], scenario: &str, folder: &Path) -> ExitCode {
    if let Err(error) = userns::enter().and_then(|_| userns::probe()) {
        println!("{error}. {}", error.advice());
        return ExitCode::from(UNAVAILABLE);
    }
    let (_, run) = scenarios.iter().find(|(name, _)| *name == scenario).unwrap();
    if passes(*run, folder) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Runs a scenario and takes away whatever it left.
fn passes(run: Scenario, folder: &Path) -> bool {
    let directory = Directory::at(folder).unwrap();
    let passed = catch_unwind(AssertUnwindSafe(|| run(&directory))).is_ok();
    for name in directory.names("").unwrap() {
        directory.remove(&name).unwrap();
    }
    passed
}

fn skipped(why: &str) -> String {
    if std::env::var_os("CI").is_some() {
        "FAILED".to_owned()
    } else {
        format!("SKIPPED: {why}")
    }
}
