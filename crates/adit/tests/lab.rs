//! A lab of many machines on this one: what is played with there holds, and nothing of it is left behind.
#![expect(clippy::unwrap_used, reason = "a test's panic is its verdict")]

mod process;

use std::{
    net::{SocketAddr, SocketAddrV4},
    path::Path,
    process::Command,
};

use adit::lab::{
    Lab, Shape, Side, State, Wish,
    command::{carries, furnish, serving},
    plan::SERVER_PORT,
};
use process::{skip_without, skip_without_root, until};

fn wish(directory: &Path) -> Wish {
    Wish {
        directory: directory.to_owned(),
        program: env!("CARGO_BIN_EXE_adit").into(),
        shape: Shape::default(),
        small_disks: true,
    }
}

/// `adit lab` on a directory.
fn adit(directory: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_adit"));
    command.args(["lab", "--dir"]).arg(directory);
    command
}

/// Takes a lab down, also after a failed test.
struct Down<'a>(&'a Path);

impl Drop for Down<'_> {
    fn drop(&mut self) {
        let _ = adit(self.0).arg("down").status();
    }
}

/// Whether bytes go through the lab's endpoint, from its client.
fn passes(lab: &Lab) -> Option<()> {
    let endpoint = lab.record().endpoint.as_ref().unwrap();
    let to = SocketAddr::from(SocketAddrV4::new(endpoint.ip, SERVER_PORT));
    let carried = lab.namespace("client-1").unwrap().run(|| carries(&to));
    carried.unwrap().ok()
}

/// Who serves the endpoint, once that is clear.
fn server(lab: &Lab) -> String {
    until("somebody to answer for the endpoint", || serving(lab).ok())
}

#[test]
fn a_lab_survives_what_is_done_to_it_and_leaves_nothing() {
    let test = "a_lab_survives_what_is_done_to_it_and_leaves_nothing";
    if skip_without_root(test) || skip_without("etcd", test) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("lab");
    let _down = Down(&directory);
    let mut lab = Lab::up(&wish(&directory), &mut |_| ()).unwrap();
    furnish(&mut lab, &mut |_| ()).unwrap();
    until("a byte through the endpoint", || passes(&lab));

    // Killed: another takes over, and the killed one comes again.
    let killed = server(&lab);
    lab.kill(&killed).unwrap();
    assert_eq!(lab.state(&killed), Some(State::Dead));
    until("a byte through another gateway", || passes(&lab));
    assert_ne!(server(&lab), killed);
    assert!(
        lab.kill(&killed)
            .unwrap_err()
            .to_string()
            .contains("adit lab start")
    );
    lab.start(&killed).unwrap();

    // A control plane and a member of etcd fewer, and a gateway that nobody reaches.
    lab.stop("etcd-1").unwrap();
    assert_eq!(lab.state("etcd-1"), Some(State::Stopped));
    lab.kill("api-1").unwrap();
    let cut = server(&lab);
    lab.cut(&cut, None).unwrap();
    until("a byte past the gateway that is cut off", || passes(&lab));
    assert_ne!(server(&lab), cut);
    assert_eq!(
        lab.record().cut[&cut].iter().copied().collect::<Vec<_>>(),
        [Side::Control, Side::Tenants]
    );
    lab.mend(&cut, None).unwrap();
    lab.cont("etcd-1").unwrap();
    lab.start("api-1").unwrap();
    assert!(lab.record().cut.is_empty());
    until("a byte once all is mended", || passes(&lab));

    // The control plane hears one that no tenant reaches: it says so itself.
    let cut = server(&lab);
    lab.cut(&cut, Some(Side::Tenants)).unwrap();
    until("a byte past the gateway that no tenant reaches", || passes(&lab));
    assert_ne!(server(&lab), cut);
    lab.mend(&cut, None).unwrap();
    until("a byte once that one is mended", || passes(&lab));

    // A disk runs full, and has room again.
    lab.fill("api-2").unwrap();
    assert!(lab.is_full("api-2"));
    lab.free("api-2").unwrap();
    assert!(
        lab.kill("gateway-7")
            .unwrap_err()
            .to_string()
            .contains("gateway-3")
    );

    // As after a crash of the command: somebody else takes it down, with what runs inside.
    let mut inside = adit(&directory)
        .args(["exec", "desk", "--", "sleep", "600"])
        .spawn()
        .unwrap();
    until("the command to be inside", || {
        let name = std::fs::read_to_string(format!("/proc/{}/comm", inside.id())).ok()?;
        (name.trim() == "sleep").then_some(())
    });
    let processes: Vec<_> = lab.record().started.values().copied().collect();
    assert!(adit(&directory).arg("down").status().unwrap().success());
    assert!(!inside.wait().unwrap().success());
    assert_eq!(lab.left().unwrap(), Vec::<String>::new());
    assert!(processes.iter().all(|process| {
        process.reap();
        process.state() == State::Dead
    }));
    assert!(!directory.exists());
    assert!(
        adit(&directory).arg("down").status().unwrap().success(),
        "once more is no error"
    );
}
