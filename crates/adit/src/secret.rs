//! The secret that gateways of their own processes show to the control plane, in a file.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use adit_server::node::NodeSecret;

/// Why there is no secret.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file.
    #[error("cannot {action} the nodes' secret {}", path.display())]
    File {
        /// What was attempted.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is none.
    #[error("the nodes' secret {} has to be one line of 16 or more visible characters", .0.display())]
    Form(PathBuf),
}

/// Reads the secret; one that is not there is made up, for its owner alone to read.
///
/// # Errors
/// Where the file can neither be read nor made, and where it holds no secret.
pub fn keep(path: &Path) -> Result<NodeSecret, SecretError> {
    match read(path) {
        Err(SecretError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => make(path)?,
        other => drop(other?),
    }
    let text = read(path)?;
    NodeSecret::new(&text).ok_or_else(|| SecretError::Form(path.to_owned()))
}

/// A secret that nobody has had.
pub fn made() -> String {
    let (one, other) = (uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple());
    format!("{one}{other}")
}

fn make(path: &Path) -> Result<(), SecretError> {
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    let written = file.and_then(|mut file| {
        writeln!(file, "{}", made())?;
        file.sync_all()
    });
    match written {
        // Another process was quicker.
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        written => written.map_err(|source| SecretError::File {
            action: "make",
            path: path.to_owned(),
            source,
        }),
    }
}

/// Reads the secret.
///
/// # Errors
/// Where the file cannot be read, and where it holds none.
pub fn read(path: &Path) -> Result<String, SecretError> {
    let text = fs::read_to_string(path).map_err(|source| SecretError::File {
        action: "read",
        path: path.to_owned(),
        source,
    })?;
    let text = text.trim();
    match text.len() >= 16 && text.bytes().all(|b| b.is_ascii_graphic()) {
        true => Ok(text.to_owned()),
        false => Err(SecretError::Form(path.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_secret_is_made_once_and_is_its_owners() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node-token");
        keep(&path).unwrap();
        let made = read(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        keep(&path).unwrap();
        assert_eq!(read(&path).unwrap(), made);
        for wrong in ["", "short", "with a space in it, and long enough"] {
            fs::write(&path, wrong).unwrap();
            assert!(matches!(keep(&path), Err(SecretError::Form(_))), "{wrong}");
        }
    }
}
