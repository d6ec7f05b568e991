//! Where the connection log's lines go: standard output, or a file that stays bounded.
//!
//! A file that is full is renamed to `FILE.1`, the one before that to `FILE.2`, and so on; the oldest goes. Who rotates logs
//! by a program of his own sets no bound, and has the file opened anew. Owns the files' names and the renaming.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::{
        fd::AsFd,
        unix::fs::{MetadataExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
};

use adit_model::sink::Sink;

/// How much is kept of a log in files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// How large a file may become, in bytes, before another is begun; `u64::MAX`: as large as it will.
    pub file_bytes_max: u64,
    /// How many former files are kept.
    pub former_max: u16,
}

impl Bounds {
    /// One file, as large as it will become.
    pub const NONE: Self = Self {
        file_bytes_max: u64::MAX,
        former_max: 0,
    };
}

/// The files of a log that there are, the newest first: `path` itself, then its former ones.
///
/// # Errors
/// Where one of them cannot be opened, other than former ones that are not there.
pub fn files(path: &Path) -> io::Result<Vec<File>> {
    let newest = File::open(path)?;
    let identity = |file: &File| file.metadata().map(|data| (data.dev(), data.ino()));
    let mut known = vec![identity(&newest)?];
    let mut files = vec![newest];
    for n in 1..=u16::MAX {
        let file = match File::open(former(path, n)) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => break,
            Err(e) => return Err(e),
        };
        // One that was renamed meanwhile is met twice.
        let id = identity(&file)?;
        if !known.contains(&id) {
            known.push(id);
            files.push(file);
        }
    }
    Ok(files)
}

/// The name of the `n`th former file.
fn former(path: &Path, n: u16) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{n}"));
    name.into()
}

/// Where lines go.
pub(super) enum Out {
    /// A descriptor of its own: whoever else prints does not wait for a reader of lines that stands still.
    Stdout(File),
    /// A file, appended to.
    File(Appended),
    #[cfg(test)]
    Test(Box<dyn Write + Send>),
}

impl Out {
    pub(super) fn open(sink: &Sink, bounds: Bounds) -> io::Result<Self> {
        Ok(match sink {
            Sink::Stdout => Self::Stdout(io::stdout().as_fd().try_clone_to_owned()?.into()),
            Sink::File(path) => Self::File(Appended {
                path: path.clone(),
                file: append(path)?,
                bounds,
                full_at: bounds.file_bytes_max,
            }),
        })
    }

    /// The file of the same name as it is now; the former one where that cannot be had.
    pub(super) fn reopen(&mut self) {
        if let Self::File(appended) = self {
            appended.reopen();
        }
    }

    pub(super) fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        match self {
            Self::Stdout(file) => file.write_all(lines),
            Self::File(appended) => appended.write(lines),
            #[cfg(test)]
            Self::Test(out) => out.write_all(lines),
        }
    }
}

/// A file that is appended to.
pub(super) struct Appended {
    path: PathBuf,
    file: File,
    bounds: Bounds,
    /// At which size another is begun: later than wanted where that has failed.
    full_at: u64,
}

impl Appended {
    fn reopen(&mut self) {
        match append(&self.path) {
            Ok(fresh) => {
                self.file = fresh;
                self.full_at = self.bounds.file_bytes_max;
            }
            Err(e) => {
                tracing::error!(error = %e, log.path = %self.path.display(), "The connection log cannot be opened anew; it goes on in the former file.");
            }
        }
    }

    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        if let Some(size) = self.is_full(lines.len())
            && let Err(e) = self.begin_another()
        {
            self.full_at = size.saturating_add(self.bounds.file_bytes_max);
            tracing::error!(error = %e, log.path = %self.path.display(), "The connection log is full, and no other file can be begun; it grows on.");
        }
        self.file.write_all(lines)
    }

    /// The file's size, where so much more is too much for it. What is no file has none, and an empty one takes anything.
    fn is_full(&self, more: usize) -> Option<u64> {
        let data = self.file.metadata().ok().filter(fs::Metadata::is_file)?;
        let after = data.len().saturating_add(more as u64);
        (data.len() > 0 && after > self.full_at).then_some(data.len())
    }

    fn begin_another(&mut self) -> io::Result<()> {
        // Another process, which took over from this one, writes to the same file, and may have been first.
        let ours = self.file.metadata()?;
        let is_ours = fs::metadata(&self.path)
            .is_ok_and(|named| (named.dev(), named.ino()) == (ours.dev(), ours.ino()));
        if is_ours {
            for n in (1..self.bounds.former_max).rev() {
                match fs::rename(former(&self.path, n), former(&self.path, n + 1)) {
                    Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                    _ => {}
                }
            }
            match self.bounds.former_max {
                0 => fs::remove_file(&self.path)?,
                _ => fs::rename(&self.path, former(&self.path, 1))?,
            }
        }
        self.file = append(&self.path)?;
        self.full_at = self.bounds.file_bytes_max;
        Ok(())
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    /// Three lines of four bytes fit.
    const BOUNDS: Bounds = Bounds {
        file_bytes_max: 12,
        former_max: 2,
    };

    fn read(path: &Path) -> Vec<String> {
        let read = |mut file: File| {
            let mut text = String::new();
            file.read_to_string(&mut text).unwrap();
            text.replace('\n', " ")
        };
        files(path).unwrap().into_iter().map(read).collect()
    }

    #[test]
    fn a_file_that_is_full_makes_room_and_the_oldest_goes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut out = Out::open(&Sink::File(path.clone()), BOUNDS).unwrap();
        for n in 0..6 {
            out.write(format!("li{n}\n").as_bytes()).unwrap();
        }
        assert_eq!(read(&path), ["li3 li4 li5 ", "li0 li1 li2 "]);
        for n in 6..10 {
            out.write(format!("li{n}\n").as_bytes()).unwrap();
        }
        assert_eq!(read(&path), ["li9 ", "li6 li7 li8 ", "li3 li4 li5 "]);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);
        // More at once than a file may have is not torn.
        out.write(b"a very long line\n").unwrap();
        assert_eq!(read(&path)[0], "a very long line ");
        // What an earlier process has written counts.
        drop(out);
        let mut out = Out::open(&Sink::File(path.clone()), BOUNDS).unwrap();
        out.write(b"new\n").unwrap();
        assert_eq!(read(&path), ["new ", "a very long line ", "li9 "]);
    }

    #[test]
    fn without_former_files_it_begins_anew_and_without_bounds_never() {
        let folder = tempfile::tempdir().unwrap();
        for (name, bounds, left) in [
            (
                "none",
                Bounds {
                    former_max: 0,
                    ..BOUNDS
                },
                "3333 4444 ",
            ),
            ("all", Bounds::NONE, "1111 2222 3333 4444 "),
        ] {
            let path = folder.path().join(name);
            let mut out = Out::open(&Sink::File(path.clone()), bounds).unwrap();
            for line in ["1111\n", "2222\n", "3333\n", "4444\n"] {
                out.write(line.as_bytes()).unwrap();
            }
            let found = read(&path);
            assert_eq!((found.len(), found[0].as_str()), (1, left), "{name}");
        }
    }

    #[test]
    fn of_two_that_write_to_one_file_one_renames_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let open = || Out::open(&Sink::File(path.clone()), BOUNDS).unwrap();
        let (mut former, mut next) = (open(), open());
        former.write(b"old\nold\n").unwrap();
        next.write(b"old\n").unwrap();
        next.write(b"one\n").unwrap();
        former.write(b"two\n").unwrap();
        assert_eq!(read(&path), ["one two ", "old old old "]);
    }

    #[test]
    fn where_no_other_can_be_begun_nothing_is_lost() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut out = Out::open(&Sink::File(path.clone()), BOUNDS).unwrap();
        // A directory cannot be replaced by a file.
        fs::create_dir(folder.path().join("log.1")).unwrap();
        fs::create_dir(folder.path().join("log.2")).unwrap();
        fs::write(folder.path().join("log.2/x"), "").unwrap();
        for line in ["1111\n", "2222\n", "3333\n"] {
            out.write(line.as_bytes()).unwrap();
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), "1111\n2222\n3333\n");
        fs::remove_dir_all(folder.path().join("log.2")).unwrap();
        fs::remove_dir(folder.path().join("log.1")).unwrap();
        for line in ["4444\n", "5555\n"] {
            out.write(line.as_bytes()).unwrap();
        }
        assert_eq!(read(&path)[0], "5555 ", "it is tried again");
    }
}
