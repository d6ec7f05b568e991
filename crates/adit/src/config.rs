//! The configuration file of `adit dev`: TOML whose keys are the command's flags.
//!
//! The file speaks last: what a flag or an environment variable says is not asked of it. Owns no setting itself: keys, their
//! meanings and defaults are those of [`crate::cli`], and [`example`] is made from there.

use std::{collections::BTreeSet, ffi::OsString, fmt::Write as _, fs, io, path::PathBuf};

use clap::{
    Arg, ArgAction, ArgMatches, Command, CommandFactory, FromArgMatches, Parser, builder::PossibleValue,
    parser::ValueSource,
};
use toml::{Table, Value};

use crate::cli::Cli;

/// The command that has a configuration file.
const COMMAND: &str = "dev";
/// Flags that say what to do now, and so are no settings.
const ACTIONS: &[&str] = &[
    "config",
    "print-config-file",
    "print-region-file",
    "help",
    "version",
];
/// How wide the example's lines are, in characters.
const WIDTH: usize = 100;

/// Why the command line and the configuration file do not make a command.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The command line; clap's own word, which may also be the help that was asked for.
    #[error(transparent)]
    CommandLine(#[from] clap::Error),
    /// The file cannot be read.
    #[error("cannot read the configuration file {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is not TOML.
    #[error("the configuration file {} is not TOML", path.display())]
    Form {
        /// The file.
        path: PathBuf,
        /// Where it is not.
        source: toml::de::Error,
    },
    /// A key or a value in it.
    #[error("the configuration file {}: {what}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
}

/// Reads a command line, and the configuration file that it names.
///
/// # Errors
/// For a command line that is none, and for a file that cannot be read or says something unknown.
pub fn read(args: impl IntoIterator<Item = OsString>) -> Result<Cli, Error> {
    let mut args: Vec<OsString> = args.into_iter().collect();
    let matches = Cli::command().try_get_matches_from(&args)?;
    let Some((COMMAND, said)) = matches.subcommand() else {
        return Ok(Cli::from_arg_matches(&matches)?);
    };
    let Some(path) = said.get_one::<PathBuf>("config") else {
        return Ok(Cli::from_arg_matches(&matches)?);
    };
    let text = fs::read_to_string(path).map_err(|source| Error::Read {
        path: path.clone(),
        source,
    })?;
    let content = |what| Error::Content {
        path: path.clone(),
        what,
    };
    let table: Table = text.parse().map_err(|source| Error::Form {
        path: path.clone(),
        source,
    })?;
    args.extend(flags(&table, said).map_err(content)?);
    // Without the file all was well, so what is wrong now is its doing.
    let both = Cli::try_parse_from(&args).map_err(|e| content(reason(&e)))?;
    Ok(both)
}

/// The file's settings as flags: those that neither the command line nor the environment has decided.
fn flags(table: &Table, said: &ArgMatches) -> Result<Vec<OsString>, String> {
    let command = built();
    let settings = settings(&command);
    let decided: BTreeSet<&str> = settings
        .iter()
        .filter(|arg| {
            let source = said.value_source(arg.get_id().as_str());
            matches!(source, Some(ValueSource::CommandLine | ValueSource::EnvVariable))
        })
        .flat_map(|arg| {
            // What excludes a flag that was given is decided with it.
            let others = settings.iter().filter(|other| excludes(&command, arg, other));
            others.chain([arg]).filter_map(|arg| arg.get_long())
        })
        .collect();
    let mut flags = Vec::new();
    for (key, value) in table {
        if !settings.iter().any(|arg| arg.get_long() == Some(key)) {
            let known: Vec<_> = settings.iter().filter_map(|arg| arg.get_long()).collect();
            return Err(format!(
                "there is no setting {key:?}; there are: {}",
                known.join(", ")
            ));
        }
        let values = match value {
            Value::Array(values) => values.iter().collect(),
            value => vec![value],
        };
        for value in values {
            let text = scalar(value).ok_or_else(|| {
                format!(
                    "{key}: a {} is no value of a setting; give a string, a number, true or false, or a list of them",
                    value.type_str()
                )
            })?;
            if !decided.contains(key.as_str()) {
                flags.push(format!("--{key}={text}").into());
            }
        }
    }
    Ok(flags)
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Integer(number) => Some(number.to_string()),
        Value::Float(number) => Some(number.to_string()),
        Value::Boolean(truth) => Some(truth.to_string()),
        Value::Datetime(_) | Value::Array(_) | Value::Table(_) => None,
    }
}

fn excludes(command: &Command, one: &Arg, other: &Arg) -> bool {
    let named = |one: &Arg, other: &Arg| {
        let conflicts = command.get_arg_conflicts_with(one);
        conflicts.iter().any(|arg| arg.get_id() == other.get_id())
    };
    named(one, other) || named(other, one)
}

/// The first line of what clap says, without its own beginning.
fn reason(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let first = text.lines().next().unwrap_or_default();
    first.strip_prefix("error: ").unwrap_or(first).to_owned()
}

/// The command with everything that its parents pass on to it.
fn built() -> Command {
    let mut root = Cli::command();
    root.build();
    let found = root.find_subcommand(COMMAND);
    found.cloned().unwrap_or_default()
}

/// What the file may say.
fn settings(command: &Command) -> Vec<&Arg> {
    let arguments = command.get_arguments();
    arguments
        .filter(|arg| arg.get_long().is_some_and(|long| !ACTIONS.contains(&long)))
        .collect()
}

/// A file with every setting at its default, as comments.
pub fn example() -> String {
    let mut text = String::from(
        "# The settings of `adit dev`, each at its default. To change one, take its # away.\n\
         # A flag or an environment variable of the same name (listen: --listen, ADIT_LISTEN) is stronger than this file.\n",
    );
    for arg in settings(&built()) {
        let help = arg.get_long_help().or(arg.get_help());
        let help = help.map(ToString::to_string).unwrap_or_default();
        text.push('\n');
        let help = format!("{}.", help.trim_end_matches('.'));
        for line in help.lines().flat_map(|line| wrapped(line, WIDTH)) {
            let _ = writeln!(text, "{}", format!("# {line}").trim_end());
        }
        let words = arg.get_possible_values();
        if !words.is_empty() && !is_switch(arg) {
            let words: Vec<_> = words.iter().map(PossibleValue::get_name).collect();
            let _ = writeln!(text, "# One of: {}.", words.join(", "));
        }
        let _ = writeln!(
            text,
            "#{} = {}",
            arg.get_long().unwrap_or_default(),
            example_value(arg)
        );
    }
    text
}

fn is_switch(arg: &Arg) -> bool {
    arg.get_num_args().is_some_and(|n| n.min_values() == 0)
}

/// A setting's default in TOML; where it has none, what kind of value it takes.
fn example_value(arg: &Arg) -> String {
    let default = arg.get_default_values().first();
    let text = default.map(|value| value.to_string_lossy().into_owned());
    let bare = text
        .as_ref()
        .filter(|text| is_switch(arg) || text.parse::<i64>().is_ok());
    if let Some(bare) = bare {
        return bare.clone();
    }
    let kind = || {
        let names = arg.get_value_names().unwrap_or_default();
        names.first().map(ToString::to_string).unwrap_or_default()
    };
    let quoted = Value::String(text.unwrap_or_else(kind));
    match arg.get_action() {
        ArgAction::Append => format!("[{quoted}]"),
        _ => quoted.to_string(),
    }
}

/// A line broken at its spaces.
fn wrapped(line: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in line.split(' ') {
        let last = lines.len() - 1;
        if lines[last].is_empty() {
            lines[last] = word.to_owned();
        } else if lines[last].chars().count() + 1 + word.chars().count() <= width {
            lines[last] = format!("{} {word}", lines[last]);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// Reads a command line without what the environment of the test says of it.
    fn read_with(file: &str, flags: &[&str]) -> Result<crate::cli::Dev, Error> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("adit.toml");
        fs::write(&path, file).unwrap();
        let words = ["adit", "dev", "--config", path.to_str().unwrap()];
        let read = read(words.iter().chain(flags).map(OsString::from))?;
        match read.command {
            crate::cli::Command::Dev(dev) => Ok(*dev),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_example_in_the_documentation_has_every_setting() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/adit.toml");
        let text = fs::read_to_string(path).unwrap();
        assert!(
            text == example(),
            "make it anew: adit dev --print-config-file > docs/adit.toml"
        );
    }

    #[test]
    fn every_setting_has_an_environment_variable_of_its_name() {
        let command = built();
        for arg in settings(&command) {
            let long = arg.get_long().unwrap();
            let expected = format!("ADIT_{}", long.to_uppercase().replace('-', "_"));
            assert_eq!(
                arg.get_env().and_then(|e| e.to_str()),
                Some(&*expected),
                "--{long}"
            );
        }
    }

    #[test]
    fn every_setting_of_the_example_can_be_made_and_defaults_change_nothing() {
        let plain = read_with("", &[]).unwrap();
        for line in example().lines() {
            let Some(setting) = line.strip_prefix('#').filter(|s| !s.starts_with(' ')) else {
                continue;
            };
            let (key, value) = setting.split_once(" = ").unwrap();
            // What stands in capitals is no default but the kind of value.
            if value
                .trim_matches(['"', '[', ']'])
                .chars()
                .all(|c| c.is_uppercase() || "_:=".contains(c))
            {
                continue;
            }
            let dev = read_with(setting, &[]).unwrap_or_else(|e| panic!("{key}: {e}"));
            let same = crate::cli::Dev {
                config: plain.config.clone(),
                ..dev
            };
            assert_eq!(format!("{same:?}"), format!("{plain:?}"), "{key}");
        }
    }

    #[test]
    fn a_flag_is_stronger_than_the_file_and_the_file_than_the_default() {
        let file = "listen = \"127.0.0.1:1\"\nno-gateway = true\nregion = \"here\"\n";
        let dev = read_with(file, &[]).unwrap();
        assert_eq!(dev.listen.port(), 1);
        assert!(dev.no_gateway && !dev.ephemeral);
        let dev = read_with(file, &["--listen", "127.0.0.1:2", "--no-gateway=false"]).unwrap();
        assert_eq!((dev.listen.port(), dev.no_gateway), (2, false));
        assert_eq!(dev.region.region.as_deref(), Some("here"));
        // Of two that exclude each other, the one that was given takes the other's place.
        let dev = read_with("data = \"/x\"", &["--ephemeral"]).unwrap();
        assert!(dev.ephemeral && dev.data.is_none());
        let dev = read_with("ephemeral = true", &["--data", "/x"]).unwrap();
        assert!(!dev.ephemeral && dev.data.is_some());
    }

    #[test]
    fn what_the_file_may_not_say_is_named() {
        for (file, named) in [
            ("speling = 1", "\"speling\""),
            ("[listen]\nx = 1", "listen: a table"),
            ("listen = 1979-05-27", "listen: a datetime"),
            ("listen = \"nowhere\"", "'nowhere' for '--listen"),
            ("no-gateway = 7", "'7' for '--no-gateway"),
            ("listen = [\"127.0.0.1:1\", \"127.0.0.1:2\"]", "--listen"),
            ("ephemeral = true\ndata = \"/x\"", "--data"),
            ("config = \"other\"", "\"config\""),
            ("print-config-file = true", "\"print-config-file\""),
        ] {
            let error = read_with(file, &[]).unwrap_err().to_string();
            assert!(
                error.contains("adit.toml") && error.contains(named),
                "{file}: {error}"
            );
        }
        assert!(matches!(read_with("x = ", &[]), Err(Error::Form { .. })));
        let missing = read(["adit", "dev", "--config", "/nowhere/adit.toml"].map(OsString::from));
        assert!(matches!(missing, Err(Error::Read { .. })));
    }
}
