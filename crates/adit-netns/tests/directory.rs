//! Names of namespaces, on the real kernel.
#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, also in what its tests share"
)]

use std::fs;
use std::process::Command;

use adit_netns::{Directory, Namespace, enter, sysctl};

mod sandbox;
use sandbox::Sandbox;

/// The inode of the network namespace that the calling thread is in.
fn own_inode() -> u64 {
    use std::os::unix::fs::MetadataExt;
    fs::metadata("/proc/thread-self/ns/net").unwrap().ino()
}

#[test]
fn a_namespace_is_made_once_and_removed_once() {
    let Some(sandbox) = Sandbox::new("a_namespace_is_made_once_and_removed_once") else {
        return;
    };
    let first = sandbox.namespace("one");
    let again = sandbox.namespace("one");
    assert_eq!(first, again);
    assert_eq!(first, sandbox.directory.open("one").unwrap());
    assert_eq!(first.name(), "one");
    let other = sandbox.namespace("two");
    assert_ne!(first, other);
    assert_eq!(sandbox.directory.names("o").unwrap(), ["one"]);
    assert_eq!(sandbox.directory.names("").unwrap(), ["one", "two"]);

    sandbox.directory.remove("one").unwrap();
    sandbox.directory.remove("one").unwrap();
    assert_eq!(sandbox.directory.names("").unwrap(), ["two"]);
    let error = sandbox.directory.open("one").unwrap_err();
    assert_eq!(error.source.kind(), std::io::ErrorKind::NotFound);
    assert!(
        error
            .to_string()
            .starts_with("cannot open the network namespace /")
    );
}

#[test]
fn work_runs_inside_and_the_caller_stays_outside() {
    let Some(sandbox) = Sandbox::new("work_runs_inside_and_the_caller_stays_outside") else {
        return;
    };
    let outside = own_inode();
    let namespace = sandbox.namespace("one");
    assert_eq!(namespace.run(own_inode).unwrap(), namespace.inode());
    assert_eq!(own_inode(), outside);

    let file = fs::File::open("/dev/null").unwrap();
    let refused = enter(std::os::fd::AsFd::as_fd(&file)).unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(22), "EINVAL: not a namespace");
    assert_eq!(own_inode(), outside);
}

#[test]
fn a_namespace_made_anew_under_its_name_is_another() {
    let Some(sandbox) = Sandbox::new("a_namespace_made_anew_under_its_name_is_another") else {
        return;
    };
    let first = sandbox.namespace("one");
    assert!(first.is_current());
    sandbox.directory.remove("one").unwrap();
    assert!(!first.is_current());
    let second = sandbox.namespace("one");
    assert_ne!(first, second);
    assert!(second.is_current());
    assert!(!first.is_current());
    assert_eq!(
        first.run(own_inode).unwrap(),
        first.inode(),
        "it lives on while it is held"
    );
}

#[test]
fn an_empty_file_left_by_a_kill_is_used_and_swept() {
    let Some(sandbox) = Sandbox::new("an_empty_file_left_by_a_kill_is_used_and_swept") else {
        return;
    };
    for name in ["used", "swept"] {
        fs::write(sandbox.directory.path().join(name), "").unwrap();
    }
    sandbox.directory.open("used").unwrap_err();
    assert!(sandbox.namespace("used").is_current());
    sandbox.directory.remove("swept").unwrap();
    assert_eq!(sandbox.directory.names("").unwrap(), ["used"]);
}

/// Removes a name from the system's folder when dropped.
struct SystemName(Directory, String);

impl Drop for SystemName {
    fn drop(&mut self) {
        self.0.remove(&self.1).unwrap();
    }
}

#[test]
fn the_ip_command_sees_the_system_folder() {
    let has_ip = Command::new("ip").arg("-V").output().is_ok();
    if !has_ip || !rustix::process::geteuid().is_root() || !adit_netns::userns::is_privileged() {
        eprintln!("SKIPPED the_ip_command_sees_the_system_folder: needs root and iproute2");
        return;
    }
    let name = format!("adit-test-{}", std::process::id());
    let guard = SystemName(Directory::at(Directory::SYSTEM).unwrap(), name.clone());
    guard.0.create(&name).unwrap();
    let ip = |args: &[&str]| Command::new("ip").args(args).output().unwrap();
    let shown = ip(&["-n", &name, "link", "show", "dev", "lo"]);
    assert!(shown.status.success(), "{shown:?}");
    assert!(ip(&["netns", "delete", &name]).status.success());
    assert!(!guard.0.names("").unwrap().contains(&name));

    assert!(ip(&["netns", "add", &name]).status.success());
    let opened = guard.0.open(&name).unwrap();
    assert!(opened.is_current());
    assert_eq!(opened, guard.0.create(&name).unwrap());
}

#[test]
fn settings_are_the_namespaces_own() {
    let Some(sandbox) = Sandbox::new("settings_are_the_namespaces_own") else {
        return;
    };
    let (router, other) = (sandbox.namespace("router"), sandbox.namespace("other"));
    sysctl::apply(&router, sysctl::PORT).unwrap();
    sysctl::apply(&router, sysctl::ROUTER).unwrap();
    for (key, value) in sysctl::PORT.iter().chain(sysctl::ROUTER) {
        let expected = value.replace(' ', "\t");
        match sysctl::read(&router, key) {
            Err(_) if key.starts_with("ipv6/") => {}
            read => assert_eq!(read.unwrap(), expected, "{key}"),
        }
    }
    assert_eq!(
        sysctl::read(&other, "ipv4/ip_unprivileged_port_start").unwrap(),
        "1024"
    );

    let error = sysctl::apply(&other, &[("ipv4/no_such_setting", "1")]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot set net/ipv4/no_such_setting to \"1\" in namespace other"
    );
}

#[test]
fn a_namespace_without_a_name_is_one_of_its_own_for_as_long_as_it_is_held() {
    let Some(_sandbox) =
        Sandbox::new("a_namespace_without_a_name_is_one_of_its_own_for_as_long_as_it_is_held")
    else {
        return;
    };
    let (first, second) = (
        Namespace::unnamed("first").unwrap(),
        Namespace::unnamed("second").unwrap(),
    );
    assert_ne!(first, second);
    assert!(first.is_current() && first.name() == "first");
    let inode = first.run(own_inode).unwrap();
    assert!(inode == first.inode() && inode != own_inode());
    // Nothing but the descriptor holds it: no mount, no thread.
    let named = fs::read_to_string("/proc/self/mountinfo")
        .unwrap()
        .contains(&format!("net:[{inode}]"));
    assert!(!named);
}
