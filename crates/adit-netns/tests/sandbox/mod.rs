//! A folder of namespaces for one test, gone with it.

use adit_netns::{Directory, Namespace, userns};

/// Namespaces of one test; dropped, also by a panic, it takes them with it.
pub(crate) struct Sandbox {
    pub(crate) directory: Directory,
    folder: tempfile::TempDir,
}

impl Sandbox {
    /// `None` where this process may not make namespaces: says so, or panics under CI.
    pub(crate) fn new(test: &str) -> Option<Self> {
        if let Err(error) = userns::probe() {
            assert!(
                std::env::var_os("CI").is_none(),
                "{test} needs root: {error}: {}",
                error.advice()
            );
            eprintln!("SKIPPED {test}: needs root, run it as `sudo -E cargo test -p adit-netns {test}`");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let directory = Directory::at(folder.path()).unwrap();
        Some(Self { directory, folder })
    }

    #[allow(dead_code, reason = "not every test file makes namespaces this way")]
    pub(crate) fn namespace(&self, name: &str) -> Namespace {
        self.directory.create(name).unwrap()
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        for name in self.directory.names("").unwrap() {
            self.directory.remove(&name).unwrap();
        }
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
        let left = mounts.contains(self.folder.path().to_str().expect("UTF-8"));
        assert!(!left || std::thread::panicking(), "a mount was left behind");
    }
}
