//! `adit gateway check`: what a gateway can do on this machine, and what to do where it cannot.

use std::{fs, io, sync::Arc};

use adit_model::{
    feed::{Capabilities, MissingMode},
    service::TcpProxy,
};
use adit_relay::toa::{Sender, ToaError};
use rustix::{
    io::Errno,
    pipe::{PipeFlags, fcntl_setpipe_size, pipe_with},
    process::{Resource, getrlimit},
    thread::{CapabilitySet, capabilities},
};
use serde::Serialize;

use crate::{
    cli::{GatewayCheck, Output},
    host::Networks,
    terminal,
};

/// The oldest kernel on which everything works.
const KERNEL_WANTED: &str = "5.10";
/// What one endpoint may have open by default: two sockets for each of 3,000 connections.
const DESCRIPTORS_WANTED: u64 = 6_000;
/// The pipes that bytes are spliced through.
const PIPE_BYTES_WANTED: usize = 1 << 20;
const PIPE_BYTES_MIN: usize = 64 << 10;
/// `fs.pipe-user-pages-soft` counts pages of this size.
const PAGE_BYTES: usize = 4 << 10;
/// Beyond it, a column's text goes on in the next line.
const WIDTH: usize = 100;

/// How something stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    /// As it should be.
    Ok,
    /// It works, and could be better.
    Limited,
    /// It does not work.
    No,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Finding {
    name: String,
    result: Verdict,
    /// What was found, or why it does not work.
    detail: String,
    /// What to do about it, where there is something to be done.
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
}

impl Finding {
    fn new(name: &str, result: Verdict, detail: impl Into<String>) -> Self {
        Self {
            name: name.to_owned(),
            result,
            detail: detail.into(),
            remedy: None,
        }
    }

    fn remedy(self, remedy: impl Into<String>) -> Self {
        Self {
            remedy: Some(remedy.into()),
            ..self
        }
    }
}

/// All of it.
#[derive(Clone, Debug, Serialize)]
struct Report {
    /// Whether a gateway can serve anything here.
    works: bool,
    checks: Vec<Finding>,
    /// The modes of `tcp_proxy`.
    modes: Vec<Finding>,
}

/// Looks, and prints what was found; answers whether a gateway can serve anything here. The process must have one thread.
pub fn run(args: &GatewayCheck) -> bool {
    let networks = Networks::prepare(true);
    // Not where there is nothing to send it through.
    let toa = match networks {
        Networks::None { .. } => None,
        _ => Some(Sender::start(args.toa_kind)),
    };
    let report = Report {
        works: !matches!(networks, Networks::None { .. }),
        checks: vec![kernel(), namespaces(&networks), descriptors(), pipes()],
        modes: modes(&networks, toa.as_ref()),
    };
    match args.output {
        Output::Json => terminal::print(&format!("{:#}\n", serde_json::json!(report))),
        Output::Table => terminal::print(&table(&report)),
    }
    report.works
}

fn kernel() -> Finding {
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy();
    match adit_relay::toa::check_kernel() {
        Ok(()) => Finding::new("kernel", Verdict::Ok, release),
        Err(e) => Finding::new("kernel", Verdict::Limited, release)
            .remedy(format!("{} TOA needs {KERNEL_WANTED}.", e.remedy())),
    }
}

fn namespaces(networks: &Networks) -> Finding {
    match networks {
        Networks::None { reason } => Finding::new("namespaces", Verdict::No, reason.as_str()),
        _ => Finding::new("namespaces", Verdict::Ok, networks.describe()),
    }
}

/// The relay raises the limit as far as it may.
fn descriptors() -> Finding {
    let found = |result, text: String| Finding::new("descriptors", result, text);
    match getrlimit(Resource::Nofile).maximum {
        Some(limit) if limit < DESCRIPTORS_WANTED => found(
            Verdict::Limited,
            format!("{limit} open files, two for each connection: fewer than one endpoint may have connections"),
        )
        .remedy(format!(
            "Raise the hard limit: `ulimit -Hn`, systemd's LimitNOFILE=, Docker's --ulimit nofile={DESCRIPTORS_WANTED}."
        )),
        Some(limit) => found(Verdict::Ok, format!("{limit} open files, two for each connection")),
        None => found(Verdict::Ok, "no limit of open files".to_owned()),
    }
}

fn pipes() -> Finding {
    let found = |result, text: String| Finding::new("pipes", result, text);
    match largest_pipe() {
        Err(e) => found(
            Verdict::Limited,
            format!("none can be had ({e}): bytes are copied"),
        )
        .remedy("Raise the limits of open files and of pipes (fs.pipe-user-pages-soft)."),
        Ok(size) if size < PIPE_BYTES_WANTED => found(
            Verdict::Limited,
            format!("{} KiB at most: bulk is slower than it could be", size >> 10),
        )
        .remedy(format!("`sysctl -w fs.pipe-max-size={PIPE_BYTES_WANTED}`")),
        Ok(_) => match pipes_before_smaller_ones() {
            None => found(
                Verdict::Ok,
                "1 MiB each, without a limit of the user's".to_owned(),
            ),
            Some(count) => found(
                Verdict::Ok,
                format!("1 MiB each, {count} of them; smaller ones then, and copying"),
            )
            .remedy("For more of them, run with cap_sys_resource or raise fs.pipe-user-pages-soft."),
        },
    }
}

/// The largest pipe that is given, up to what is wanted.
fn largest_pipe() -> io::Result<usize> {
    let (_read, write) = pipe_with(PipeFlags::CLOEXEC)?;
    let mut size = PIPE_BYTES_WANTED;
    loop {
        match fcntl_setpipe_size(&write, size) {
            Ok(_) => return Ok(size),
            Err(Errno::PERM) if size > PIPE_BYTES_MIN => size /= 2,
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// How many large pipes a user may have; `None` for one who is not limited.
fn pipes_before_smaller_ones() -> Option<usize> {
    let has = capabilities(None).ok()?.effective;
    // Only those of the initial user namespace count.
    let exempt = has.intersects(CapabilitySet::SYS_RESOURCE | CapabilitySet::SYS_ADMIN);
    if exempt && !adit_relay::toa::in_user_namespace() {
        return None;
    }
    let pages = fs::read_to_string("/proc/sys/fs/pipe-user-pages-soft").ok()?;
    let pages: usize = pages.trim().parse().ok()?;
    (pages > 0).then_some(pages * PAGE_BYTES / PIPE_BYTES_WANTED)
}

/// Every mode: served, missing for a reason of its own, or missing with everything else.
fn modes(networks: &Networks, toa: Option<&Result<Arc<Sender>, ToaError>>) -> Vec<Finding> {
    let capabilities = match toa {
        None => Capabilities::default(),
        Some(toa) => adit_gateway::capabilities(toa.as_ref().map(drop)),
    };
    let finding = |mode: &TcpProxy| {
        let missing = |m: &&MissingMode| m.tcp_proxy == *mode;
        let name = mode.as_str();
        if capabilities.tcp_proxy.contains(mode) {
            return Finding::new(name, Verdict::Ok, told(*mode));
        }
        match capabilities.missing.iter().find(missing) {
            Some(missing) => {
                Finding::new(name, Verdict::No, missing.reason.as_str()).remedy(missing.remedy.as_str())
            }
            None => Finding::new(
                name,
                Verdict::No,
                format!("no namespaces ({})", networks.describe()),
            ),
        }
    };
    TcpProxy::ALL.iter().map(finding).collect()
}

/// What the backend learns of the client.
fn told(mode: TcpProxy) -> &'static str {
    match mode {
        TcpProxy::Close => "the backend sees the endpoint's source address alone",
        TcpProxy::ToaOpen => "the client's address in a TCP option; seen on a loopback just now",
        TcpProxy::ProxyOpen => "the client's address in a PROXY header",
        TcpProxy::Open => "both: a TCP option and a PROXY header",
        TcpProxy::ProxyVni => "a PROXY header that also names the consumer's network",
    }
}

fn table(report: &Report) -> String {
    let findings = || report.checks.iter().chain(&report.modes);
    let width = findings().map(|f| f.name.len()).max().unwrap_or(0);
    let mut text = String::new();
    let mut section = |title: &str, findings: &[Finding]| {
        text.push_str(title);
        text.push('\n');
        for finding in findings {
            let result = match finding.result {
                Verdict::Ok => "ok",
                Verdict::Limited => "limited",
                Verdict::No => "NO",
            };
            let indent = width + 12;
            let head = format!("  {:width$}  {result:8}", finding.name);
            text.push_str(&format!("{head}{}\n", wrapped(&finding.detail, indent)));
            if let Some(remedy) = &finding.remedy {
                text.push_str(&format!("{:indent$}{}\n", "", wrapped(remedy, indent)));
            }
        }
    };
    section("This machine", &report.checks);
    section("tcp_proxy", &report.modes);
    text
}

/// Breaks a text between words; the lines after the first are indented.
fn wrapped(text: &str, indent: usize) -> String {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if indent + line.chars().count() + word.chars().count() < WIDTH => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines.join(&format!("\n{:indent$}", ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_shows_what_is_missing_and_what_to_do() {
        let toa = Err(ToaError::UserNamespace);
        let report = Report {
            works: true,
            checks: vec![
                Finding::new("kernel", Verdict::Ok, "6.1.0"),
                Finding::new("pipes", Verdict::Limited, "256 KiB at most").remedy("Raise it."),
            ],
            modes: modes(&Networks::Rootless, Some(&toa)),
        };
        insta::assert_snapshot!(table(&report), @r#"
        This machine
          kernel      ok      6.1.0
          pipes       limited 256 KiB at most
                              Raise it.
        tcp_proxy
          close       ok      the backend sees the endpoint's source address alone
          toa_open    NO      the process is in a user namespace, where the kernel loads no BPF programs
                              Run as root, in no user namespace (`adit dev` as an ordinary user is in one).
          proxy_open  ok      the client's address in a PROXY header
          open        NO      the process is in a user namespace, where the kernel loads no BPF programs
                              Run as root, in no user namespace (`adit dev` as an ordinary user is in one).
          proxy_vni   ok      a PROXY header that also names the consumer's network
        "#);
        let toa = Err(ToaError::UserNamespace);
        let json = serde_json::json!(modes(&Networks::Rootless, Some(&toa)));
        insta::assert_snapshot!(format!("{:#}", json[1]), @r#"
        {
          "detail": "the process is in a user namespace, where the kernel loads no BPF programs",
          "name": "toa_open",
          "remedy": "Run as root, in no user namespace (`adit dev` as an ordinary user is in one).",
          "result": "no"
        }
        "#);
    }

    #[test]
    fn without_namespaces_no_mode_works() {
        let networks = Networks::None {
            reason: "They are switched off.".to_owned(),
        };
        let modes = modes(&networks, None);
        assert_eq!(modes.len(), TcpProxy::ALL.len());
        assert!(modes.iter().all(|mode| mode.result == Verdict::No));
        assert_eq!(namespaces(&networks).result, Verdict::No);
    }
}
