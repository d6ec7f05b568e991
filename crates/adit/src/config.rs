//! The configuration files of the commands that keep running: TOML whose keys are the command's flags.
//!
//! The file speaks last: what a flag or an environment variable says is not asked of it. Owns no setting itself: keys, their
//! meanings and defaults are those of [`crate::cli`], and [`example`] is made from there.

use std::{collections::BTreeSet, ffi::OsString, fmt::Write as _, fs, io, path::PathBuf};

use clap::{
    Arg, ArgAction, ArgMatches, Command, CommandFactory, Parser, builder::PossibleValue, error::ErrorKind,
    parser::ValueSource,
};
use toml::{Table, Value, de::DeTable};

use crate::cli::Cli;

/// The commands that have a configuration file.
const COMMANDS: &[&[&str]] = &[&["dev"], &["api"], &["gateway", "run"], &["networks"]];
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

/// What a command line asks for.
#[derive(Debug)]
pub enum Said {
    /// A command.
    Command(Box<Cli>),
    /// A configuration file, to be printed.
    Example(String),
}

/// Reads a command line, and the configuration file that it names.
///
/// # Errors
/// For a command line that is none, and for a file that cannot be read or says something unknown.
pub fn read(args: impl IntoIterator<Item = OsString>) -> Result<Said, Error> {
    let mut args: Vec<OsString> = args.into_iter().collect();
    let whole = |args: &[OsString]| Ok(Said::Command(Box::new(Cli::try_parse_from(args)?)));
    // What has to be given may be in the file: so far nothing is missed.
    let lenient = Cli::command().ignore_errors(true).try_get_matches_from(&args);
    let Some((words, said)) = lenient.as_ref().ok().and_then(with_file) else {
        return whole(&args);
    };
    // Where something on the line is wrong, not even the flags' defaults are there.
    if said.get_one("print_config_file") == Some(&true) {
        return Ok(Said::Example(example(words)));
    }
    let Some(path) = said.get_one::<PathBuf>("config") else {
        return whole(&args);
    };
    if let Err(e) = Cli::command().try_get_matches_from(&args)
        && e.kind() != ErrorKind::MissingRequiredArgument
    {
        return Err(e.into());
    }
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
    args.extend(flags(words, &text, &table, said).map_err(content)?);
    match Cli::try_parse_from(&args) {
        Ok(both) => Ok(Said::Command(Box::new(both))),
        // Said by nobody.
        Err(e) if e.kind() == ErrorKind::MissingRequiredArgument => Err(e.into()),
        // Without the file all was well, so what is wrong now is its doing.
        Err(e) => {
            let why = reason(&e);
            let keys = table
                .keys()
                .find(|key| why.contains(&format!("--{key} ")) || why.contains(&format!("--{key}'")));
            let at = keys.map(|key| at(&text, key)).unwrap_or_default();
            Err(content(format!("{at}{why}")))
        }
    }
}

/// The command that was given, by its words, where it is one that has a file, and what was said to it.
fn with_file(matches: &ArgMatches) -> Option<(&'static [&'static str], &ArgMatches)> {
    COMMANDS.iter().find_map(|words| {
        let said = words
            .iter()
            .try_fold(matches, |matches, word| matches.subcommand_matches(word));
        said.map(|said| (*words, said))
    })
}

/// `line 3: `, where a key of the file is.
fn at(text: &str, key: &str) -> String {
    let table = DeTable::parse(text).ok();
    let keys = table.as_ref().map(|table| table.get_ref().keys());
    let place = keys.and_then(|mut keys| keys.find(|one| one.get_ref() == key).map(|one| one.span().start));
    place.map_or_else(String::new, |start| {
        let line = text.get(..start).unwrap_or_default().matches('\n').count() + 1;
        format!("line {line}: ")
    })
}

/// The file's settings as flags: those that neither the command line nor the environment has decided.
fn flags(words: &[&str], text: &str, table: &Table, said: &ArgMatches) -> Result<Vec<OsString>, String> {
    let command = built(words);
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
                "{}there is no setting {key:?}; there are: {}",
                at(text, key),
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
                    "{}{key}: a {} is no value of a setting; give a string, a number, true or false, or a list of them",
                    at(text, key),
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
    // Of some, one alone may be given.
    let either = command.get_groups().any(|group| {
        let has = |arg: &Arg| group.get_args().any(|id| id == arg.get_id());
        !group.clone().is_multiple() && has(one) && has(other)
    });
    one.get_id() != other.get_id() && (either || named(one, other) || named(other, one))
}

/// The first line of what clap says, without its own beginning.
fn reason(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let first = text.lines().next().unwrap_or_default();
    first.strip_prefix("error: ").unwrap_or(first).to_owned()
}

/// The command with everything that its parents pass on to it.
fn built(words: &[&str]) -> Command {
    let mut root = Cli::command();
    root.build();
    let found = words
        .iter()
        .try_fold(&root, |command, word| command.find_subcommand(word));
    found.cloned().unwrap_or_default()
}

/// What the file may say.
fn settings(command: &Command) -> Vec<&Arg> {
    let arguments = command.get_arguments();
    arguments
        .filter(|arg| arg.get_long().is_some_and(|long| !ACTIONS.contains(&long)))
        .collect()
}

/// A file with every setting of a command at its default, as comments.
pub fn example(words: &[&str]) -> String {
    let command = built(words);
    let mut text = format!(
        "# The settings of `adit {}`, each at its default. To change one, take its # away.\n\
         # A flag or an environment variable of the same name (log-format: --log-format, ADIT_LOG_FORMAT) is stronger than this file.\n",
        words.join(" ")
    );
    for arg in settings(&command) {
        let help = arg.get_long_help().or(arg.get_help());
        let help = help.map(ToString::to_string).unwrap_or_default();
        text.push('\n');
        let help = format!("{}.", help.trim_end_matches('.'));
        for line in help.lines().flat_map(|line| wrapped(line, WIDTH)) {
            let _ = writeln!(text, "{}", format!("# {line}").trim_end());
        }
        if arg.is_required_set() {
            text.push_str("# It has to be given.\n");
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

    /// What has to be given to each command, beside the file.
    fn given(words: &[&str]) -> &'static [&'static str] {
        match words {
            ["gateway", "run"] => &[
                "--node",
                "a",
                "--control",
                "http://a:1",
                "--node-token-file",
                "/t",
                "--state",
                "/s",
                "--networks",
                "/n",
            ],
            ["networks"] => &[
                "--control",
                "http://a:1",
                "--node-token-file",
                "/t",
                "--state",
                "/s",
            ],
            _ => &[],
        }
    }

    #[test]
    fn a_value_that_is_none_is_an_error_of_its_argument() {
        for line in [
            "dev --toa-kind 8",
            "dev --listen nowhere",
            "dev --idle-timeout-s 0",
            "dev --proxy-profile none",
            "dev --connections-per-endpoint 0",
            "api --store foo:",
            "gateway run --toa-kind 3",
            "networks --control x",
            "dev --no-such-flag",
            "dev --config",
        ] {
            let words = std::iter::once("adit").chain(line.split(' ')).map(OsString::from);
            let error = read(words).expect_err(line);
            assert!(matches!(error, Error::CommandLine(_)), "{line}: {error:?}");
        }
    }

    /// Reads a command line without what the environment of the test says of it.
    fn read_of(words: &[&str], file: &str, flags: &[&str]) -> Result<crate::cli::Command, Error> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("adit.toml");
        fs::write(&path, file).unwrap();
        let read = read(
            [&["adit"], words, &["--config", path.to_str().unwrap()], flags]
                .concat()
                .iter()
                .map(OsString::from),
        )?;
        match read {
            Said::Command(cli) => Ok(cli.command),
            Said::Example(text) => panic!("{text}"),
        }
    }

    fn read_with(file: &str, flags: &[&str]) -> Result<crate::cli::Dev, Error> {
        match read_of(&["dev"], file, flags)? {
            crate::cli::Command::Dev(dev) => Ok(*dev),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_examples_in_the_documentation_have_every_setting() {
        for words in COMMANDS {
            let name = if *words == ["dev"] { "adit" } else { words[0] };
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../docs/{name}.toml"));
            let text = fs::read_to_string(path).unwrap_or_default();
            let words = words.join(" ");
            assert!(
                text == example(&words.split(' ').collect::<Vec<_>>()),
                "make it anew: adit {words} --print-config-file > docs/{name}.toml"
            );
        }
    }

    #[test]
    fn every_setting_has_an_environment_variable_of_its_name() {
        for words in COMMANDS {
            let command = built(words);
            for arg in settings(&command) {
                let long = arg.get_long().unwrap();
                let expected = format!("ADIT_{}", long.to_uppercase().replace('-', "_"));
                assert_eq!(
                    arg.get_env().and_then(|e| e.to_str()),
                    Some(&*expected),
                    "{words:?} --{long}"
                );
            }
        }
    }

    #[test]
    fn every_setting_of_the_examples_can_be_made_and_defaults_change_nothing() {
        for words in COMMANDS {
            let shown = |file: &str| {
                let read = read_of(words, file, given(words));
                let shown = format!("{:?}", read.unwrap_or_else(|e| panic!("{words:?} {file}: {e}")));
                // The file's own name is another one each time.
                let (before, after) = shown.split_once("config: Some(\"").unwrap();
                format!("{before}{}", after.split_once('"').unwrap().1)
            };
            let plain = shown("");
            for line in example(words).lines() {
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
                assert_eq!(shown(setting), plain, "{words:?} {key}");
            }
        }
    }

    #[test]
    fn what_has_to_be_given_may_be_given_by_the_file() {
        let file = "node = \"a\"\ncontrol = [\"http://a:1\", \"http://b:1\"]\nnode-token-file = \"/t\"\nstate = \"/s\"\nnetworks = \"/n\"\n";
        let run = |file: &str, flags: &[&str]| match read_of(&["gateway", "run"], file, flags) {
            Ok(crate::cli::Command::Gateway(crate::cli::Gateway::Run(run))) => Ok(run),
            Ok(other) => panic!("{other:?}"),
            Err(e) => Err(e),
        };
        let read = run(file, &["--control", "http://c:1", "--node", "b"]).unwrap();
        assert_eq!(read.node.as_str(), "b");
        let urls: Vec<_> = read.control.control.iter().map(ToString::to_string).collect();
        assert_eq!(
            urls,
            ["http://c:1"],
            "what was given takes the whole list's place"
        );
        assert_eq!(run(file, &[]).unwrap().control.control.len(), 2);
        let read = run(file, &["--namespaces", "x{vpc}"]).unwrap();
        assert!(read.networks.is_none() && read.namespaces.is_some());
        let missing = run("node = \"a\"\n", &[]).unwrap_err();
        assert!(
            matches!(&missing, Error::CommandLine(e) if e.to_string().contains("--state <DIR>")),
            "{missing}"
        );
        for (words, file, named) in [
            (
                &["gateway", "run"][..],
                "state = \"/s\"\n\nnod = \"a\"\n",
                "line 3: there is no setting \"nod\"",
            ),
            (
                &["gateway", "run"],
                "\nnode = \"No Name\"\n",
                "line 2: invalid value 'No Name' for '--node",
            ),
            (
                &["networks"],
                "node = \"a\"",
                "line 1: there is no setting \"node\"",
            ),
            (
                &["api"],
                "no-gateway = true",
                "there is no setting \"no-gateway\"",
            ),
            (
                &["api"],
                "store = \"x\"",
                "line 1: invalid value 'x' for '--store",
            ),
        ] {
            let error = read_of(words, file, &[]).unwrap_err().to_string();
            assert!(
                error.contains("adit.toml") && error.contains(named),
                "{file}: {error}"
            );
        }
    }

    #[test]
    fn a_file_is_printed_for_each_command_whatever_is_missing() {
        for words in COMMANDS {
            let line = [&["adit"], *words, &["--print-config-file"]].concat();
            let read = read(line.iter().map(OsString::from)).unwrap();
            assert!(matches!(read, Said::Example(text) if text == example(words)));
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
