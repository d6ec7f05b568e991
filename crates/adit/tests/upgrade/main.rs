//! What is ended and started again, one after the other, under load: nothing that was answered is lost.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test's panic is its verdict")]

mod control_planes;
mod gateways;
#[path = "../process/mod.rs"]
mod process;

use std::{
    sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

use adit::lab::{Lab, Shape, State, Wish};
use process::until;
use rustix::process::Signal;

/// How long a request, a connect or an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// Clients at a time.
const CLIENTS: usize = 4;

/// A lab that is taken down with this, also after a failed test.
struct Bed {
    lab: Option<Lab>,
    _folder: tempfile::TempDir,
}

impl Bed {
    fn up(shape: Shape) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let wish = Wish {
            directory: folder.path().join("lab"),
            program: env!("CARGO_BIN_EXE_adit").into(),
            shape,
            small_disks: false,
        };
        let mut bed = Self {
            lab: None,
            _folder: folder,
        };
        let up = Lab::up(&wish, &mut |_| ());
        bed.lab = Lab::find(&wish.directory).ok();
        up.unwrap();
        bed
    }

    fn lab(&mut self) -> &mut Lab {
        self.lab.as_mut().unwrap()
    }

    /// Ends a machine's process as its operator does, and waits until it has gone.
    fn terminate(&mut self, name: &str) {
        let lab = self.lab();
        lab.process(name).unwrap().signal(Signal::TERM).unwrap();
        until("it to end", || {
            (lab.state(name) == Some(State::Dead)).then_some(())
        });
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        if let Some(lab) = self.lab.take() {
            let down = lab.down();
            assert!(down.is_ok() || std::thread::panicking(), "{down:?}");
        }
    }
}

/// Ends the load, also when the test fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// Waits until so much more has been done.
fn more(done: &AtomicUsize, count: usize, failed: &dyn Fn() -> bool) {
    let wanted = done.load(Relaxed) + count;
    until("the load to go on", || {
        (done.load(Relaxed) >= wanted || failed()).then_some(())
    });
}
