//! The socket in a region's data directory, over which commands on this machine ask what it knows: a line of JSON each way.
//!
//! A gateway that another process has taken over from answers beside that one, by a socket of its own, for the connections that are left there.
//!
//! Owns the words and the sockets. Whoever may open the file may ask: it is its owner's alone, as the directory's other files
//! are. Changes nothing; what a command has to change goes through the API.

use std::{
    fs::Permissions,
    io,
    net::SocketAddrV4,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use adit_gateway::{Gateway, connection_log::Entry};
use adit_model::error_chain;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
    time::timeout,
};

use crate::traffic;

/// Its name in the data directory.
const NAME: &str = "control.sock";
/// How the names of former processes' sockets begin, and end; the process id is between.
const BESIDE: &str = "control-";
const SOCKET: &str = ".sock";
/// The longest question, in bytes.
const QUESTION_BYTES_MAX: u64 = 4_096;
/// How long a question, or an answer, may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What can be asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "ask")]
pub enum Question {
    /// Whose connections a backend sees come from an address.
    Who {
        /// The address and port that it sees.
        source: SocketAddrV4,
    },
    /// What the gateway's relay counts.
    Traffic,
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "answer")]
pub enum Answer {
    /// The connections that there are.
    Connections {
        /// One for each provider's VPC that has the address.
        connections: Vec<Entry>,
    },
    /// What has been counted.
    Traffic {
        /// In Prometheus' text form, as `/metrics` has it.
        metrics: String,
    },
    /// Why there is no other answer.
    Refused {
        /// For a person.
        reason: String,
    },
}

/// Opens the socket.
///
/// # Errors
/// Where the file cannot be made.
pub fn open(data: &Path) -> io::Result<UnixListener> {
    let path = path(data);
    // The directory is locked by this process, so whoever it was has gone.
    match std::fs::remove_file(&path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let listener = UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// A socket beside the one of the process that has taken over; its file goes with it.
#[derive(Debug)]
pub struct Beside(PathBuf);

impl Drop for Beside {
    fn drop(&mut self) {
        // Whoever asks passes over one that nobody answers at.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Opens a socket beside that of the process that has taken over from this one.
///
/// # Errors
/// Where the file cannot be made.
pub fn open_beside(data: &Path) -> io::Result<(UnixListener, Beside)> {
    for path in beside(data) {
        let asked = std::os::unix::net::UnixStream::connect(&path);
        if asked.is_err_and(|e| e.kind() == io::ErrorKind::ConnectionRefused) {
            drop(Beside(path));
        }
    }
    let path = data.join(format!("{BESIDE}{}{SOCKET}", std::process::id()));
    let listener = UnixListener::bind(&path)?;
    let beside = Beside(path);
    std::fs::set_permissions(&beside.0, Permissions::from_mode(0o600))?;
    Ok((listener, beside))
}

/// The sockets of processes that were taken over from; some may be dead.
fn beside(data: &Path) -> Vec<PathBuf> {
    let is_one = |name: &str| name.starts_with(BESIDE) && name.ends_with(SOCKET);
    let files = std::fs::read_dir(data).into_iter().flatten().flatten();
    files
        .filter(|file| file.file_name().to_str().is_some_and(is_one))
        .map(|file| file.path())
        .collect()
}

/// Answers until it is aborted.
pub async fn serve(listener: UnixListener, gateway: Option<Arc<Gateway>>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let gateway = gateway.clone();
                tokio::spawn(async move {
                    if let Ok(Err(e)) = timeout(PATIENCE, converse(stream, gateway)).await {
                        tracing::debug!(error = %e, "A question on the control socket broke off.");
                    }
                });
            }
            Err(e) => {
                tracing::warn!(error = %e, "The control socket cannot accept.");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn converse(stream: UnixStream, gateway: Option<Arc<Gateway>>) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    let question: Result<Question, _> = read(&mut stream).await;
    let answer = match question {
        Ok(question) => answer(question, gateway).await,
        Err(e) => Answer::Refused {
            reason: format!("that is no question: {e}"),
        },
    };
    write(stream.get_mut(), &answer).await
}

async fn answer(question: Question, gateway: Option<Arc<Gateway>>) -> Answer {
    let Some(gateway) = gateway else {
        return Answer::Refused {
            reason: "there are no connections in this process: it has no gateway, or runs without networks"
                .to_owned(),
        };
    };
    match question {
        Question::Traffic => Answer::Traffic {
            metrics: traffic::text(&gateway),
        },
        Question::Who { source } => match gateway.who(source).await {
            Ok(connections) => Answer::Connections { connections },
            Err(e) => Answer::Refused {
                reason: error_chain(&e),
            },
        },
    }
}

async fn read<T: DeserializeOwned>(stream: &mut BufReader<UnixStream>) -> io::Result<T> {
    let mut line = Vec::new();
    stream
        .take(QUESTION_BYTES_MAX)
        .read_until(b'\n', &mut line)
        .await?;
    Ok(serde_json::from_slice(&line)?)
}

async fn write<T: Serialize>(stream: &mut UnixStream, word: &T) -> io::Result<()> {
    let mut line = serde_json::to_vec(word)?;
    line.push(b'\n');
    stream.write_all(&line).await
}

/// Asks the region on a data directory. Blocks.
///
/// # Errors
/// Where nobody answers.
pub fn ask(data: &Path, question: &Question) -> io::Result<Answer> {
    ask_at(&path(data), question)
}

/// Asks the processes that were taken over from on a data directory; those that are no more are passed over. Blocks.
pub fn ask_beside(data: &Path, question: &Question) -> Vec<Answer> {
    let asked = beside(data).into_iter().map(|path| ask_at(&path, question));
    asked.filter_map(Result::ok).collect()
}

fn ask_at(path: &Path, question: &Question) -> io::Result<Answer> {
    use std::io::{BufRead, Write};
    let mut stream = std::os::unix::net::UnixStream::connect(path)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut line = serde_json::to_vec(question)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    let mut answer = Vec::new();
    std::io::BufReader::new(stream).read_until(b'\n', &mut answer)?;
    Ok(serde_json::from_slice(&answer)?)
}

fn path(data: &Path) -> PathBuf {
    data.join(NAME)
}
