//! Clients from the Python package index, each set of them in a virtual environment of its own, which is kept between runs.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

/// Where the environments are kept: with the build, so that `cargo clean` takes them too.
const KEPT_IN: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/peers");
/// How long pip waits for an answer of the index, in seconds, each of a few times.
const INDEX_TIMEOUT_S: &str = "15";

/// A virtual environment.
pub(crate) struct Venv(PathBuf);

impl Venv {
    /// The environment with a file of requirements of the folder `requirements` installed. Where that is not possible, the
    /// test is skipped by its name, and fails in CI.
    pub(crate) fn of(requirements: &str, test: &str) -> Option<Self> {
        match Self::install(requirements) {
            Ok(venv) => Some(venv),
            Err(reason) => {
                assert!(
                    std::env::var_os("CI").is_none(),
                    "{test} needs the clients of requirements/{requirements}.txt, and CI has to have them: {reason}"
                );
                eprintln!("SKIPPED: {test} needs python3 with venv, and the package index: {reason}");
                None
            }
        }
    }

    fn install(requirements: &str) -> Result<Self, String> {
        let said = |e: std::io::Error| format!("{KEPT_IN}: {e}");
        fs::create_dir_all(KEPT_IN).map_err(said)?;
        let dir = Path::new(KEPT_IN).join(requirements);
        let file = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/peers/requirements")
            .join(format!("{requirements}.txt"));
        let version = run(Command::new("python3").arg("--version"))?;
        let wanted = version + &fs::read_to_string(&file).map_err(|e| e.to_string())?;
        // Tests are processes that start at the same time: one installs, the others wait for it.
        let lock = File::create(dir.with_extension("lock")).map_err(said)?;
        lock.lock().map_err(said)?;
        let installed = dir.join("installed");
        if fs::read_to_string(&installed).is_ok_and(|found| found == wanted) {
            return Ok(Self(dir));
        }
        if dir.exists() {
            fs::remove_dir_all(&dir).map_err(said)?;
        }
        run(Command::new("python3").args(["-m", "venv"]).arg(&dir))?;
        let venv = Self(dir);
        let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
        run(Command::new(venv.bin("python"))
            .args(pip)
            .args(["--retries", "2", "--timeout", INDEX_TIMEOUT_S, "--requirement"])
            .arg(&file))?;
        fs::write(installed, wanted).map_err(said)?;
        Ok(venv)
    }

    fn bin(&self, program: &str) -> PathBuf {
        self.0.join("bin").join(program)
    }

    /// A program of the environment, which sees nothing of whoever runs the tests: no settings, no proxies.
    pub(crate) fn command(&self, program: &str, home: &Path) -> Command {
        let mut command = Command::new(self.bin(program));
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", home)
            // The command looks its plugins up once and remembers where they are.
            .env("XDG_CACHE_HOME", self.0.join("cache"))
            .env("PYTHONWARNINGS", "ignore")
            // Nothing is to appear beside the scripts.
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .current_dir(home);
        command
    }
}

/// Runs to the end, and answers what was printed, or the last line of what was complained of.
fn run(command: &mut Command) -> Result<String, String> {
    let program = Path::new(command.get_program()).display().to_string();
    let output = command.output().map_err(|e| format!("{program}: {e}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    // venv complains on its standard output.
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let last = said.trim().lines().last().unwrap_or("no reason given");
    Err(format!("{program} says: {last}"))
}
