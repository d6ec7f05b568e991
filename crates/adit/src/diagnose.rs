//! `adit diagnose`: why an endpoint does, or does not, pass traffic, and what to do about it.
//!
//! Asks the operator's API, which asks the endpoint's gateway; prints what came of it. Read next: `adit-model`'s `diagnosis`.

use std::{fmt::Write as _, net::Ipv4Addr};

use adit_model::diagnosis::{Step, Verdict};
use clap::Args;
use serde_json::{Value, json};

use crate::{
    admin::{self, Error, args::AccessArgs},
    cli::Output,
    terminal,
};

/// Say why an endpoint does not pass traffic.
#[derive(Debug, Args)]
pub struct Diagnose {
    /// The endpoint's id.
    pub endpoint: String,
    /// The client port that clients connect to [default: the first that is mapped].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub port: Option<u16>,
    /// A client's address: whether the endpoint's access control lets it in.
    #[arg(long, value_name = "IP")]
    pub client: Option<Ipv4Addr>,
    /// The form of what is printed.
    #[arg(long, short, default_value = "table")]
    pub output: Output,
    /// Which region, and as whom.
    #[command(flatten)]
    pub access: AccessArgs,
}

/// Asks, prints, and answers whether the endpoint is healthy.
///
/// # Errors
/// Where the region does not answer, or does not know the endpoint.
pub fn run(args: &Diagnose) -> Result<bool, Error> {
    let question = json!({"port": args.port, "client": args.client});
    let reply = admin::diagnose(&args.access, &args.endpoint, question)?;
    let healthy = reply["healthy"] == true;
    match args.output {
        Output::Json => terminal::print(&format!("{reply:#}\n")),
        Output::Table => terminal::print(&text(&reply)),
    }
    Ok(healthy)
}

/// The steps, a line each, and what to do about the one that failed.
fn text(reply: &Value) -> String {
    let steps: Vec<Step> = serde_json::from_value(reply["steps"].clone()).unwrap_or_default();
    let width = steps
        .iter()
        .map(|step| step.step.as_str().len())
        .max()
        .unwrap_or(0);
    let mut text = String::new();
    for step in &steps {
        let mark = match step.verdict {
            Verdict::Passed => "ok",
            Verdict::Skipped => "-",
            Verdict::Failed => "FAIL",
        };
        let _ = writeln!(
            text,
            "{mark:<4}  {:<width$}  {}",
            step.step.as_str(),
            admin::plain(&step.seen)
        );
    }
    let end = match steps.iter().find(|step| step.verdict == Verdict::Failed) {
        None => "Everything that can be looked at holds.".to_owned(),
        Some(failed) => {
            let remedy = failed.remedy.as_deref().unwrap_or("It is not known what to do.");
            format!("What to do: {}", admin::plain(remedy))
        }
    };
    let _ = writeln!(text, "\n{end}");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_lines_and_the_remedy_is_the_last() {
        let reply = json!({"steps": [
            {"step": "state", "verdict": "passed", "seen": "accepted"},
            {"step": "header", "verdict": "skipped", "seen": "none"},
            {"step": "backend", "verdict": "failed", "seen": "10.0.0.10:80 refuses\u{1b}[31m", "remedy": "Start it."},
        ]});
        assert_eq!(
            text(&reply),
            "ok    state    accepted\n-     header   none\nFAIL  backend  10.0.0.10:80 refuses\u{fffd}[31m\n\n\
             What to do: Start it.\n"
        );
        assert!(text(&json!({"steps": []})).contains("holds"));
    }
}
