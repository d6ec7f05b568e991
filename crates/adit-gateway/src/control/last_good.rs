//! What a gateway was told last, in a file: it serves that when nobody tells it anything, also after its own restart.
//!
//! The file is replaced as a whole (written beside it, synced, renamed, the directory synced): it is the former one or the
//! new one, never half of either.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use adit_model::{feed::EndpointSpec, id::EndpointId, node::NodeName};
use serde::{Deserialize, Serialize};

/// The version of the file's form.
const VERSION: u32 = 1;

/// Why it cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum LastGoodError {
    /// The file.
    #[error("cannot {action} {}", path.display())]
    File {
        /// What was attempted.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Its content.
    #[error("{} is not what a gateway of this version keeps", path.display())]
    Form {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// Another version's.
    #[error("{} has form {version}, this program reads {VERSION}", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// Its form.
        version: u32,
    },
    /// Another gateway's.
    #[error("{} is of gateway {of}: each has a directory of its own (--state)", path.display())]
    Stranger {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        of: NodeName,
    },
}

/// What a gateway was told, by endpoint.
pub(super) type Told = BTreeMap<EndpointId, Arc<EndpointSpec>>;

#[derive(Serialize, Deserialize)]
struct Written {
    version: u32,
    node: NodeName,
    endpoints: Vec<Arc<EndpointSpec>>,
}

/// The file.
#[derive(Clone, Debug)]
pub struct LastGood {
    path: PathBuf,
    node: NodeName,
}

impl LastGood {
    /// The file of a gateway in its directory.
    pub fn new(directory: &Path, node: NodeName) -> Self {
        Self {
            path: directory.join("feed.json"),
            node,
        }
    }

    fn attempt<T>(&self, action: &'static str, result: io::Result<T>) -> Result<T, LastGoodError> {
        result.map_err(|source| LastGoodError::File {
            action,
            path: self.path.clone(),
            source,
        })
    }

    /// Reads it; nothing where there is none yet.
    ///
    /// # Errors
    /// Where it cannot be read, and where it is another gateway's.
    pub(super) fn read(&self) -> Result<Option<Told>, LastGoodError> {
        let bytes = match fs::read(&self.path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => self.attempt("read", read)?,
        };
        let written: Written = serde_json::from_slice(&bytes).map_err(|source| LastGoodError::Form {
            path: self.path.clone(),
            source,
        })?;
        if written.version != VERSION {
            return Err(LastGoodError::Version {
                path: self.path.clone(),
                version: written.version,
            });
        }
        if written.node != self.node {
            return Err(LastGoodError::Stranger {
                path: self.path.clone(),
                of: written.node,
            });
        }
        Ok(Some(
            written
                .endpoints
                .into_iter()
                .map(|spec| (spec.id, spec))
                .collect(),
        ))
    }

    /// Replaces it.
    ///
    /// # Errors
    /// Where it cannot be written; the former one is there then.
    pub(super) fn write(&self, told: &Told) -> Result<(), LastGoodError> {
        let written = Written {
            version: VERSION,
            node: self.node.clone(),
            endpoints: told.values().cloned().collect(),
        };
        let beside = self.path.with_extension("json.new");
        let replace = || {
            let mut file = BufWriter::new(File::create(&beside)?);
            serde_json::to_writer(&mut file, &written)?;
            file.flush()?;
            file.get_ref().sync_all()?;
            fs::rename(&beside, &self.path)?;
            File::open(self.path.parent().unwrap_or(Path::new(".")))?.sync_all()
        };
        self.attempt("write", replace())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_trusted_is_named_and_not_served() {
        let folder = tempfile::tempdir().unwrap();
        let file = LastGood::new(folder.path(), "one".parse().unwrap());
        assert!(file.read().unwrap().is_none());
        file.write(&Told::new()).unwrap();
        assert_eq!(file.read().unwrap(), Some(Told::new()));
        let other = LastGood::new(folder.path(), "two".parse().unwrap());
        assert!(matches!(other.read(), Err(LastGoodError::Stranger { of, .. }) if of.as_str() == "one"));
        let path = folder.path().join("feed.json");
        fs::write(&path, r#"{"version":2,"node":"one","endpoints":[]}"#).unwrap();
        assert!(matches!(
            file.read(),
            Err(LastGoodError::Version { version: 2, .. })
        ));
        fs::write(&path, "{").unwrap();
        assert!(matches!(file.read(), Err(LastGoodError::Form { .. })));
    }
}
