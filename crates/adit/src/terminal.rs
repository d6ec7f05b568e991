//! What is said to the person who started the command.
//!
//! A closed pipe (`adit demo | head -1`) is nobody's error: what cannot be written is dropped, where `println!` would
//! panic and leave namespaces behind.

use std::{
    io::{self, IsTerminal, Write},
    path::Path,
};

/// Writes to standard output.
pub fn print(text: &str) {
    let mut out = io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Writes a line to standard error.
pub fn warn(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// Whether standard error shows colours: a terminal, unless the user wants none (<https://no-color.org>).
pub fn shows_colours() -> bool {
    let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    !unwanted && io::stderr().is_terminal()
}

/// A path as one word of a shell's command line.
pub fn quoted(path: &Path) -> String {
    let text = path.to_string_lossy();
    let plain = |c: char| c.is_alphanumeric() || "/._-+=:@%,".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.into_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_shell_would_split_or_read_is_quoted() {
        let quoted = |text: &str| quoted(Path::new(text));
        assert_eq!(quoted("/home/me/.local/state/adit"), "/home/me/.local/state/adit");
        assert_eq!(quoted("/my data"), "'/my data'");
        assert_eq!(quoted("it's $HOME"), r"'it'\''s $HOME'");
        assert_eq!(quoted(""), "''");
    }
}
