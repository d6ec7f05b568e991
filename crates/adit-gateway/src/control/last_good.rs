//! What a gateway was told last, in a file: it serves that when nobody tells it anything, also after its own restart.
//!
//! The file has lines of JSON: whose it is, then what it was told, in order; the last line on an endpoint counts. A change is a
//! line at its end, so that it costs the same among a million endpoints; now and then, and where everything is told anew, the
//! file is replaced as a whole (written beside it, synced, renamed, the directory synced). A last line that is cut off was
//! not written yet. A line that cannot be read (a disk's fault) takes nothing along but what it may have been about.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, BufRead, BufReader, BufWriter, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use adit_model::{feed::EndpointSpec, id::EndpointId, node::NodeName};
use serde::{Deserialize, Serialize};
use uuid::{Uuid, fmt::Hyphenated};

/// The version of the file's form.
const VERSION: u32 = 2;
/// A file is replaced once more of its lines than this are of the past, and more than there are endpoints.
const PAST_LINES_MAX: usize = 1024;

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

/// Changes of it, by endpoint; nothing for one that is served no more.
pub(super) type Changes = BTreeMap<EndpointId, Option<Arc<EndpointSpec>>>;

/// What a file holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Recalled {
    /// What the gateway was told.
    pub(super) told: Told,
    /// How many lines cannot be read.
    pub(super) unreadable: usize,
}

/// The first line.
#[derive(Serialize, Deserialize)]
struct Head {
    version: u32,
    node: NodeName,
}

/// Each line after it.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Put(Arc<EndpointSpec>),
    Remove(EndpointId),
}

/// The file.
#[derive(Debug)]
pub struct LastGood {
    path: PathBuf,
    node: NodeName,
    /// Where changes are added; `None` until it was replaced by this process.
    end: Option<File>,
    /// How many lines it has beside the first.
    lines: usize,
}

impl LastGood {
    /// The file of a gateway in its directory.
    pub fn new(directory: &Path, node: NodeName) -> Self {
        Self {
            path: directory.join("feed.jsonl"),
            node,
            end: None,
            lines: 0,
        }
    }

    fn attempt<T>(&self, action: &'static str, result: io::Result<T>) -> Result<T, LastGoodError> {
        result.map_err(|source| LastGoodError::File {
            action,
            path: self.path.clone(),
            source,
        })
    }

    fn malformed(&self, source: serde_json::Error) -> LastGoodError {
        LastGoodError::Form {
            path: self.path.clone(),
            source,
        }
    }

    /// Reads it; nothing where there is none yet. Of an endpoint that a line names which cannot be read, nothing is known.
    ///
    /// # Errors
    /// Where it cannot be read, and where it is another gateway's.
    pub(super) fn read(&self) -> Result<Option<Recalled>, LastGoodError> {
        let mut file = match File::open(&self.path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => BufReader::new(self.attempt("read", opened)?),
        };
        let mut line = Vec::new();
        self.attempt("read", file.read_until(b'\n', &mut line))?;
        let head: Head = serde_json::from_slice(&line).map_err(|e| self.malformed(e))?;
        if head.version != VERSION {
            return Err(LastGoodError::Version {
                path: self.path.clone(),
                version: head.version,
            });
        }
        if head.node != self.node {
            return Err(LastGoodError::Stranger {
                path: self.path.clone(),
                of: head.node,
            });
        }
        let mut recalled = Recalled::default();
        loop {
            line.clear();
            self.attempt("read", file.read_until(b'\n', &mut line))?;
            if line.pop() != Some(b'\n') {
                return Ok(Some(recalled));
            }
            match serde_json::from_slice(&line) {
                Ok(Line::Put(spec)) => drop(recalled.told.insert(spec.id, spec)),
                Ok(Line::Remove(id)) => drop(recalled.told.remove(&id)),
                Err(_) => {
                    recalled.unreadable += 1;
                    // It may have ended one of them, and what is over must not be served.
                    for id in ids_in(&line) {
                        recalled.told.remove(&id);
                    }
                }
            }
        }
    }

    /// Whether the file is to be replaced, rather than added to, where so many endpoints are served.
    pub(super) fn is_spent(&self, endpoints: usize) -> bool {
        let past = self.lines.saturating_sub(endpoints);
        self.end.is_none() || past > endpoints.max(PAST_LINES_MAX)
    }

    /// Adds changes, and syncs.
    ///
    /// # Errors
    /// Where it cannot be written: then it is to be replaced.
    pub(super) fn append(&mut self, changes: &Changes) -> Result<(), LastGoodError> {
        let lines = changes.iter().map(|(id, spec)| match spec {
            Some(spec) => Line::Put(Arc::clone(spec)),
            None => Line::Remove(*id),
        });
        let written = match self.end.take() {
            Some(file) => write_lines(file, lines),
            None => Err(io::ErrorKind::NotFound.into()),
        };
        self.end = Some(self.attempt("write", written)?);
        self.lines += changes.len();
        Ok(())
    }

    /// Replaces it.
    ///
    /// # Errors
    /// Where it cannot be written; the former one is there then.
    pub(super) fn replace(&mut self, told: &Told) -> Result<(), LastGoodError> {
        let head = Head {
            version: VERSION,
            node: self.node.clone(),
        };
        let beside = self.path.with_extension("new");
        let replace = || {
            let mut file = File::options()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&beside)?;
            write_line(&mut file, &head)?;
            let file = write_lines(file, told.values().map(|spec| Line::Put(Arc::clone(spec))))?;
            fs::rename(&beside, &self.path)?;
            File::open(self.path.parent().unwrap_or(Path::new(".")))?.sync_all()?;
            Ok(file)
        };
        self.end = Some(self.attempt("write", replace())?);
        self.lines = told.len();
        Ok(())
    }
}

/// Whatever in a line could be an endpoint's id.
fn ids_in(line: &[u8]) -> impl Iterator<Item = EndpointId> {
    let ids = line.windows(Hyphenated::LENGTH).map(Uuid::try_parse_ascii);
    ids.flatten().map(EndpointId)
}

fn write_line(to: &mut impl Write, line: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *to, line)?;
    to.write_all(b"\n")
}

/// Writes lines and syncs; answers the file.
fn write_lines(file: File, mut lines: impl Iterator<Item = Line>) -> io::Result<File> {
    let mut buffer = BufWriter::new(file);
    lines.try_for_each(|line| write_line(&mut buffer, &line))?;
    let file = buffer.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.sync_data()?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::control::sample;

    fn spec(generation: u64) -> Arc<EndpointSpec> {
        Arc::new(EndpointSpec {
            generation,
            ..sample::spec()
        })
    }

    fn of(specs: &[Arc<EndpointSpec>]) -> Told {
        specs.iter().map(|spec| (spec.id, Arc::clone(spec))).collect()
    }

    /// What a file holds all of which can be read.
    fn whole(file: &LastGood) -> Told {
        let recalled = file.read().unwrap().unwrap();
        assert_eq!(recalled.unreadable, 0);
        recalled.told
    }

    #[test]
    fn changes_are_read_as_if_everything_had_been_written() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = LastGood::new(folder.path(), "one".parse().unwrap());
        let (stays, goes, comes) = (spec(1), spec(2), spec(3));
        assert!(file.is_spent(0));
        file.replace(&of(&[stays.clone(), goes.clone()])).unwrap();
        assert!(!file.is_spent(2));
        file.append(&[(goes.id, None)].into()).unwrap();
        file.append(&[(comes.id, Some(comes.clone()))].into()).unwrap();
        assert_eq!(whole(&file), of(&[stays.clone(), comes]));
        // What a crash cut off was not written yet.
        let path = folder.path().join("feed.jsonl");
        let all = fs::read(&path).unwrap();
        fs::write(&path, &all[..all.len() - 5]).unwrap();
        assert_eq!(whole(&file), of(&[stays]));
    }

    #[test]
    fn a_file_of_the_past_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = LastGood::new(folder.path(), "one".parse().unwrap());
        let one = spec(1);
        let told = of(std::slice::from_ref(&one));
        file.replace(&told).unwrap();
        let mut appended = 0;
        while !file.is_spent(told.len()) {
            file.append(&[(one.id, Some(one.clone()))].into()).unwrap();
            appended += 1;
        }
        assert_eq!(appended, PAST_LINES_MAX + 1);
        file.replace(&told).unwrap();
        assert!(!file.is_spent(told.len()));
        assert_eq!(whole(&file), told);
    }

    #[test]
    fn nobody_else_may_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = LastGood::new(folder.path(), "one".parse().unwrap());
        file.replace(&Told::new()).unwrap();
        let written = fs::metadata(folder.path().join("feed.jsonl")).unwrap();
        assert_eq!(written.permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn what_cannot_be_trusted_is_named_and_not_served() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = LastGood::new(folder.path(), "one".parse().unwrap());
        assert!(file.read().unwrap().is_none());
        file.replace(&Told::new()).unwrap();
        assert_eq!(whole(&file), Told::new());
        let other = LastGood::new(folder.path(), "two".parse().unwrap());
        assert!(matches!(other.read(), Err(LastGoodError::Stranger { of, .. }) if of.as_str() == "one"));
        let path = folder.path().join("feed.jsonl");
        fs::write(&path, "{\"version\":3,\"node\":\"one\"}\n").unwrap();
        assert!(matches!(
            file.read(),
            Err(LastGoodError::Version { version: 3, .. })
        ));
        for bad in ["", "{"] {
            fs::write(&path, bad).unwrap();
            assert!(matches!(file.read(), Err(LastGoodError::Form { .. })), "{bad:?}");
        }
    }

    #[test]
    fn a_line_that_cannot_be_read_takes_nothing_else_along() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = LastGood::new(folder.path(), "one".parse().unwrap());
        let (kept, ended, changed, broken) = (spec(1), spec(2), spec(3), spec(4));
        file.replace(&of(&[
            kept.clone(),
            ended.clone(),
            changed.clone(),
            broken.clone(),
        ]))
        .unwrap();
        let later = Arc::new(EndpointSpec {
            generation: 5,
            ..EndpointSpec::clone(&changed)
        });
        let line = |line| serde_json::to_vec(&line).unwrap();
        let mut unlucky = line(Line::Put(broken.clone()));
        unlucky[1] = 0;
        let mut over = line(Line::Remove(ended.id));
        over[3] = b'\xff';
        let mut lines = fs::read(folder.path().join("feed.jsonl")).unwrap();
        let noise = b"\0\0\0\0".to_vec();
        for added in [unlucky, over, noise, line(Line::Put(later.clone()))] {
            lines.extend(added);
            lines.push(b'\n');
        }
        fs::write(folder.path().join("feed.jsonl"), lines).unwrap();
        let recalled = file.read().unwrap().unwrap();
        assert_eq!(recalled.unreadable, 3);
        assert_eq!(recalled.told, of(&[kept, later]));
    }
}
