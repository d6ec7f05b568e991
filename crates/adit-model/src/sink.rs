//! Where a log goes: how it is said in a setting. Opening and writing are whoever keeps the log's.

use std::{fmt, path::PathBuf, str::FromStr};

/// Where a log goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sink {
    /// Standard output.
    Stdout,
    /// A file, which is appended to; made, it is for its owner's eyes alone.
    File(PathBuf),
}

impl FromStr for Sink {
    type Err = std::convert::Infallible;

    /// `-` is standard output, anything else a file.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "-" => Self::Stdout,
            path => Self::File(path.into()),
        })
    }
}

impl fmt::Display for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stdout => f.write_str("-"),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_said_as_it_is_read() {
        for (text, sink) in [
            ("-", Sink::Stdout),
            ("/var/log/adit.jsonl", Sink::File("/var/log/adit.jsonl".into())),
            ("./-", Sink::File("./-".into())),
        ] {
            assert_eq!(text.parse(), Ok(sink.clone()));
            assert_eq!(sink.to_string(), text);
        }
    }
}
