//! Load by `wrk`, and what its report says.

use std::{fmt::Write as _, path::Path, process::Command};

use crate::process::{Process, pinned};

/// Requests that are all alike.
pub(crate) struct Load<'a> {
    pub(crate) url: String,
    pub(crate) headers: &'a [(&'a str, String)],
    /// A POST of this body; a GET without.
    pub(crate) body: Option<String>,
    pub(crate) connections: usize,
    /// Whether the load has a core to itself.
    pub(crate) pinned: bool,
}

/// What one measurement said.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measured {
    /// Requests a second.
    pub(crate) rate: f64,
    /// CPU time of the server for one request, in microseconds.
    pub(crate) cpu_us: f64,
    /// 99 of 100 were answered within so many milliseconds.
    pub(crate) p99_ms: f64,
}

impl Load<'_> {
    /// Puts the load on a server for some seconds.
    pub(crate) fn measure(&self, server: &Process, seconds: u64, folder: &Path) -> Measured {
        let mut command = pinned("wrk", self.pinned.then_some(1));
        command.args(["--latency", "-t1", &format!("-c{}", self.connections)]);
        command.arg(format!("-d{seconds}s"));
        for (name, value) in self.headers {
            command.args(["-H", &format!("{name}: {value}")]);
        }
        if let Some(body) = &self.body {
            let script = folder.join("wrk.lua");
            let text = format!("wrk.method = \"POST\"\nwrk.body = [==[{body}]==]\n");
            std::fs::write(&script, text).unwrap();
            command.arg("-s").arg(script);
        }
        let before = server.cpu_us();
        let report = report(command.arg(&self.url));
        let used = server.cpu_us() - before;
        let requests = field(&report, "requests in", |line| line.split_whitespace().next());
        Measured {
            rate: field(&report, "Requests/sec:", |line| line.split_whitespace().nth(1)),
            cpu_us: used as f64 / requests,
            p99_ms: p99_ms(&report),
        }
    }
}

fn report(command: &mut Command) -> String {
    let output = command
        .output()
        .expect("the bench needs wrk (Debian: apt install wrk)");
    let mut report = String::from_utf8(output.stdout).unwrap();
    let bad = ["Non-2xx", "Socket errors"]
        .iter()
        .any(|word| report.contains(word));
    let _ = write!(report, "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && !bad, "{command:?}: {report}");
    report
}

fn field<'a>(report: &'a str, line: &str, pick: impl Fn(&'a str) -> Option<&'a str>) -> f64 {
    let line = report.lines().find(|l| l.contains(line)).expect(report);
    pick(line).unwrap().parse().expect(line)
}

fn p99_ms(report: &str) -> f64 {
    let line = report
        .lines()
        .find(|l| l.trim().starts_with("99%"))
        .expect(report);
    let text = line.split_whitespace().nth(1).unwrap();
    let digits = text.trim_end_matches(char::is_alphabetic);
    let unit = match &text[digits.len()..] {
        "us" => 0.001,
        "ms" => 1.0,
        "s" => 1000.0,
        other => panic!("{other}: {line}"),
    };
    digits.parse::<f64>().unwrap() * unit
}
