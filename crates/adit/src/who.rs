//! `adit who`: whose connection a backend saw.
//!
//! Asks the running region for connections that are alive, and reads the connection log for those that have ended.

use std::{
    fmt,
    io::{self, BufReader},
    path::{Path, PathBuf},
    str::FromStr,
};

use adit_gateway::connection_log::{Entry, files, find};
use adit_model::sink::Sink;
use jiff::{SignedDuration, Timestamp};

use crate::{
    cli::{Output, Who},
    control::{self, Answer, Question},
    data, terminal,
};

/// So long after a connection's end its backend may still write down that it was there.
const LATE: SignedDuration = SignedDuration::from_secs(2);

/// A moment, as exact as somebody has written it down: servers log whole seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    from: Timestamp,
    to: Timestamp,
}

impl FromStr for Moment {
    type Err = jiff::Error;

    fn from_str(text: &str) -> Result<Self, jiff::Error> {
        let from: Timestamp = text.parse()?;
        let to = match text.contains(['.', ',']) {
            true => from,
            false => from.saturating_add(SignedDuration::from_micros(999_999))?,
        };
        Ok(Self { from, to })
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.from.fmt(f)
    }
}

/// Why nothing could be looked up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A log.
    #[error("cannot read the connection log {}", path.display())]
    Log {
        /// Its path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There is nothing to look in.
    #[error("no region runs on {}, and no log is named (--connection-log)", .0.display())]
    Nowhere(PathBuf),
    /// The region does not answer.
    #[error("the region on {} does not answer", data.display())]
    Ask {
        /// Its data directory.
        data: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Looks, prints, and answers whether anybody was found.
///
/// # Errors
/// Where there is nothing to look in, or it cannot be read.
pub fn run(args: &Who) -> Result<bool, Error> {
    let data = args.data.clone().unwrap_or_else(data::default_path);
    let mut logs = args.connection_log.clone();
    let mut found = Vec::new();
    let run = data::running(&data).ok();
    if let Some(run) = &run {
        found = alive(&data, args)?;
        found.extend(left(&data, args));
        if logs.is_empty() {
            logs.extend(run.connection_log.clone());
        }
    } else if logs.is_empty() {
        return Err(Error::Nowhere(data));
    }
    let is_logged = !logs.is_empty();
    for path in logs {
        for entry in logged(&path, args).map_err(|source| Error::Log { path, source })? {
            // Somebody may have named a former file, too.
            if !found.contains(&entry) {
                found.push(entry);
            }
        }
    }
    let found = choose(found, args.at, Timestamp::now());
    if found.is_empty() && !is_logged {
        terminal::warn(
            "adit: what runs there keeps no connection log that can be read (--connection-log FILE), so that nothing is known of \
             connections that have ended",
        );
    }
    match args.output {
        Output::Table => terminal::print(&text(args, &found)),
        Output::Json => found
            .iter()
            .filter_map(|entry| serde_json::to_string(entry).ok())
            .for_each(|line| terminal::print(&line)),
    }
    Ok(!found.is_empty())
}

/// Those of a log and its former files, in the order of their lines.
fn logged(path: &Path, args: &Who) -> io::Result<Vec<Entry>> {
    let oldest_first = files(path)?.into_iter().rev();
    let read = oldest_first.map(|file| find(BufReader::new(file), args.source));
    Ok(read.collect::<io::Result<Vec<_>>>()?.concat())
}

/// Connections of a gateway that was taken over from.
fn left(data: &Path, args: &Who) -> Vec<Entry> {
    let answers = control::ask_beside(data, &Question::Who { source: args.source });
    let left = answers.into_iter().filter_map(|answer| match answer {
        Answer::Connections { connections } => Some(connections),
        Answer::Refused { .. } | Answer::Traffic { .. } => None,
    });
    left.flatten().collect()
}

fn alive(data: &Path, args: &Who) -> Result<Vec<Entry>, Error> {
    let question = Question::Who { source: args.source };
    match control::ask(data, &question) {
        Ok(Answer::Connections { connections }) => Ok(connections),
        Ok(Answer::Refused { reason }) => {
            terminal::warn(&format!("adit: {reason}; looking in the log alone"));
            Ok(Vec::new())
        }
        Ok(Answer::Traffic { .. }) => Err(Error::Ask {
            data: data.to_owned(),
            source: io::Error::other("it answers another question"),
        }),
        Err(source) => Err(Error::Ask {
            data: data.to_owned(),
            source,
        }),
    }
}

/// Those that lived at the moment that is asked for, or else shortly before; without one those that live, and else the last
/// that did.
fn choose(mut found: Vec<Entry>, at: Option<Moment>, now: Timestamp) -> Vec<Entry> {
    if let Some(Moment { from, to }) = at {
        let before = from.saturating_sub(LATE).unwrap_or(from);
        found.retain(|entry| entry.lived_within(before, to, now));
        if found.iter().any(|entry| entry.lived_within(from, to, now)) {
            found.retain(|entry| entry.lived_within(from, to, now));
        }
        return found;
    }
    if found.iter().any(|entry| entry.ended.is_none()) {
        found.retain(|entry| entry.ended.is_none());
        return found;
    }
    // One port may be used in several providers' VPCs: the last of each.
    found.sort_by_key(|entry| (entry.endpoint, std::cmp::Reverse(entry.began)));
    found.dedup_by_key(|entry| entry.endpoint);
    found
}

fn text(args: &Who, found: &[Entry]) -> String {
    if found.is_empty() {
        let when = args.at.map(|at| format!(" at {at}")).unwrap_or_default();
        return format!("Nobody is known to have come from {}{when}.", args.source);
    }
    let tell = |entry: &Entry| {
        let end = match (&entry.ended, &entry.end) {
            (Some(ended), Some(end)) => format!("to {ended} ({end})"),
            _ => "and is connected".to_owned(),
        };
        format!(
            "{source} {is} {client}\n  endpoint  {endpoint} (marker id {marker}), {address}\n  service   {service}, {backend}\n  \
             time      from {began} {end}\n  bytes     {up} to the backend, {down} to the client",
            source = args.source,
            is = if entry.ended.is_some() { "was" } else { "is" },
            client = entry.client,
            endpoint = entry.endpoint,
            marker = entry.marker_id,
            address = entry.address,
            service = entry.service,
            backend = entry.backend,
            began = entry.began,
            up = entry.bytes_to_backend,
            down = entry.bytes_to_client,
        )
    };
    found.iter().map(tell).collect::<Vec<_>>().join("\n")
}

/// The log that a region writes, as far as it can be read again.
pub(crate) fn readable(sink: Option<&Sink>) -> Option<PathBuf> {
    match sink {
        Some(Sink::File(path)) => std::path::absolute(path).ok(),
        Some(Sink::Stdout) | None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(endpoint: u128, began: &str, ended: Option<&str>) -> Entry {
        let id = uuid::Uuid::from_u128(endpoint);
        Entry {
            began: began.parse().unwrap(),
            ended: ended.map(|ended| ended.parse().unwrap()),
            service: serde_json::from_value(id.to_string().into()).unwrap(),
            endpoint: serde_json::from_value(id.to_string().into()).unwrap(),
            marker_id: 7,
            client: "10.0.0.20:51234".parse().unwrap(),
            address: "10.0.0.9:8080".parse().unwrap(),
            source: Some("198.19.140.7:41001".parse().unwrap()),
            backend: "10.0.0.10:80".parse().unwrap(),
            connect_us: None,
            bytes_to_backend: 1,
            bytes_to_client: 2,
            end: ended.map(|_| "closed".to_owned()),
        }
    }

    #[test]
    fn who_lived_then_who_lives_now_else_who_did_last() {
        let first = entry(1, "2026-01-01T00:00:00Z", Some("2026-01-01T00:01:00Z"));
        let second = entry(1, "2026-01-01T00:02:00Z", Some("2026-01-01T00:03:00Z"));
        let elsewhere = entry(2, "2026-01-01T00:00:30Z", Some("2026-01-01T00:00:40Z"));
        let live = entry(1, "2026-01-01T00:04:00Z", None);
        let ended = vec![first.clone(), second.clone(), elsewhere.clone()];
        let all = [ended.clone(), vec![live.clone()]].concat();
        let now = "2026-01-01T02:00:00Z".parse().unwrap();
        let choose = |found: &[Entry], at: &str| choose(found.to_vec(), at.parse().ok(), now);
        assert_eq!(
            choose(&all, "2026-01-01T00:00:35Z"),
            [first.clone(), elsewhere.clone()]
        );
        assert_eq!(choose(&all, "2026-01-01T00:03:30Z"), []);
        assert_eq!(choose(&all, "2026-01-01T01:00:00Z"), std::slice::from_ref(&live));
        assert_eq!(choose(&all, "2026-01-01T02:00:01Z"), std::slice::from_ref(&live));
        assert_eq!(choose(&all, "2026-01-01T02:00:03Z"), [], "nobody knows that yet");
        let late = "2026-01-01T00:01:01.5Z";
        assert_eq!(choose(&all, late), [first], "its backend may have told it late");
        assert_eq!(choose(&all, ""), [live]);
        assert_eq!(choose(&ended, ""), [second, elsewhere]);
    }

    #[test]
    fn a_moment_without_fractions_is_a_whole_second() {
        let short = entry(1, "2026-01-01T00:00:43.491Z", Some("2026-01-01T00:00:43.495Z"));
        let next = entry(2, "2026-01-01T00:00:44Z", Some("2026-01-01T00:00:45Z"));
        let all = vec![short.clone(), next];
        for (at, expected) in [
            ("2026-01-01T00:00:43Z", vec![short.clone()]),
            ("2026-01-01T01:00:43+01:00", vec![short.clone()]),
            ("2026-01-01T00:00:43.492Z", vec![short]),
            ("2026-01-01T00:00:43.1Z", vec![]),
        ] {
            assert_eq!(
                choose(all.clone(), at.parse().ok(), Timestamp::MAX),
                expected,
                "{at}"
            );
        }
        assert!("yesterday".parse::<Moment>().is_err());
    }
}
