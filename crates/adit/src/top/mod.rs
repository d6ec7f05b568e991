//! `adit top`: the busiest endpoints of a running region, live in the terminal.
//!
//! Reads `/metrics` once a second (or, of a gateway that serves none, the same over its control socket), and shows what has changed since the time before; so it needs no credentials, and sees
//! as many endpoints as the region's `--endpoint-metrics` says. Decides nothing. Read next: [`scrape`] (what is read), [`table`]
//! (what is shown; both pure), [`screen`] (keys and the terminal).

mod scrape;
mod screen;
mod table;

use std::{
    io::{self, IsTerminal},
    path::PathBuf,
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    time::{Duration, Instant},
};

use clap::Args;

use crate::{
    admin,
    cli::Output,
    control::{self, Answer, Question},
    data::{self, DataError},
};
use scrape::Sample;
use screen::{Heard, Screen};
use table::{Sort, View};

/// How often it is looked.
const PERIOD: Duration = Duration::from_secs(1);

/// Show the busiest endpoints, live.
#[derive(Debug, Args)]
pub struct Top {
    /// What comes first.
    #[arg(long, value_name = "BY", default_value = "bytes")]
    pub sort: Sort,
    /// Print one table of the next second, and end.
    #[arg(long)]
    pub once: bool,
    /// A table for people, or a line of JSON for each second.
    #[arg(long, short, default_value = "table")]
    pub output: Output,
    /// Where the metrics are [default: those of the region that `adit dev` runs on --data].
    #[arg(long, value_name = "URL")]
    pub metrics: Option<String>,
    /// The data directory of a region, or of a gateway that is a process of its own [default: as for `adit dev`].
    #[arg(long, env = "ADIT_DATA", value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Trust the certificates in this file.
    #[arg(long, env = "ADIT_CACERT", value_name = "FILE")]
    pub cacert: Option<PathBuf>,
}

/// Why nothing is shown.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No region runs here.
    #[error("{0}; or name the metrics of another with --metrics")]
    NotRunning(#[from] DataError),
    /// What runs there serves none.
    #[error("what runs on {} shows no traffic: {}; name another's metrics with --metrics", .0.display(), .1)]
    NoneServed(PathBuf, String),
    /// Nobody answers.
    #[error("cannot reach {url}; is it running, and is this where its metrics are (--metrics, --data)?")]
    Unreachable {
        /// What was called.
        url: String,
        /// What came of it.
        source: Box<ureq::Error>,
    },
    /// Another trouble with that.
    #[error(transparent)]
    Fetch(admin::Error),
    /// An answer, but no metrics.
    #[error(
        "{url} answers {status}, and no metrics: they are beside the API for clients on the same machine alone, or where \
         --metrics-listen says"
    )]
    NoMetrics {
        /// What was called.
        url: String,
        /// The status.
        status: u16,
    },
    /// The terminal, or a signal handler.
    #[error("the system refuses what a live table needs")]
    System(#[from] io::Error),
}

impl From<admin::Error> for Error {
    fn from(error: admin::Error) -> Self {
        match error {
            admin::Error::Unreachable { url, source } => Self::Unreachable { url, source },
            other => Self::Fetch(other),
        }
    }
}

/// Where metrics are read.
enum Source {
    /// From who serves them.
    Http { url: String, agent: ureq::Agent },
    /// From a gateway that has this directory, and serves none.
    Gateway(PathBuf),
}

impl Source {
    fn of(args: &Top) -> Result<Self, Error> {
        let (url, cacert) = match &args.metrics {
            Some(url) => (url.clone(), args.cacert.clone()),
            None => {
                let data = args.data.clone().unwrap_or_else(data::default_path);
                let run = data::running(&data)?;
                let beside = run.api.map(|api| format!("{api}/metrics"));
                match run.metrics.or(beside) {
                    Some(url) => (url, args.cacert.clone().or(run.cacert)),
                    None => return Ok(Self::Gateway(data)),
                }
            }
        };
        let agent = admin::agent(cacert.as_deref(), true)?;
        Ok(Self::Http { url, agent })
    }

    /// What they are shown to be of.
    fn name(&self) -> String {
        match self {
            Self::Http { url, .. } => url.clone(),
            Self::Gateway(data) => data.display().to_string(),
        }
    }

    fn read(&self) -> Result<Sample, Error> {
        let (status, text) = match self {
            Self::Http { url, agent } => admin::fetch(agent, url)?,
            Self::Gateway(data) => match control::ask(data, &Question::Traffic) {
                Ok(Answer::Traffic { metrics }) => (200, metrics),
                Ok(Answer::Refused { reason }) => return Err(Error::NoneServed(data.clone(), reason)),
                Ok(Answer::Connections { .. }) => (200, String::new()),
                Err(e) => return Err(Error::NoneServed(data.clone(), e.to_string())),
            },
        };
        match Sample::parse(&text, Instant::now()) {
            Some(sample) if status == 200 => Ok(sample),
            _ => Err(Error::NoMetrics {
                url: self.name(),
                status,
            }),
        }
    }
}

/// Shows until it is told to end, or once.
///
/// # Errors
/// Where there are no metrics to be had.
pub fn run(args: &Top) -> Result<(), Error> {
    let source = Source::of(args)?;
    let name = source.name();
    let (sender, heard) = channel();
    screen::hear_signals(sender.clone())?;
    let mut last = source.read()?;
    let lively =
        !args.once && args.output == Output::Table && io::stdout().is_terminal() && io::stdin().is_terminal();
    let mut screen = lively.then(|| Screen::open(sender)).transpose()?;
    let mut view = View::new(args.sort, &last);
    if let Some(screen) = &mut screen {
        screen.show(&view.text(Some(screen.size()), &name))?;
    }
    while wait(&heard, &mut view, screen.as_mut(), &name) {
        match source.read() {
            Ok(sample) => {
                view.take(&last, &sample);
                last = sample;
            }
            // It may come back; what is shown says that it is away.
            Err(e) if screen.is_some() => view.lost(&e),
            Err(e) => return Err(e),
        }
        let shown = match (&mut screen, args.output) {
            (Some(screen), _) => screen.show(&view.text(Some(screen.size()), &name)),
            (None, Output::Json) => screen::print(&format!("{}\n", view.json())),
            (None, Output::Table) => screen::print(&format!("{}\n", view.text(None, &name))),
        };
        // Whoever read it has gone.
        if shown.is_err() || args.once {
            break;
        }
    }
    Ok(())
}

/// Waits for the next second, heeding keys; false when it is to end.
fn wait(heard: &Receiver<Heard>, view: &mut View, mut screen: Option<&mut Screen>, url: &str) -> bool {
    let next = Instant::now() + PERIOD;
    loop {
        match heard.recv_timeout(next.saturating_duration_since(Instant::now())) {
            Err(RecvTimeoutError::Timeout) => return true,
            Err(RecvTimeoutError::Disconnected) | Ok(Heard::End) => return false,
            Ok(Heard::Key(key)) => {
                let Some(sort) = Sort::by_key(key) else { continue };
                view.sort = sort;
                if let Some(screen) = &mut screen
                    && screen.show(&view.text(Some(screen.size()), url)).is_err()
                {
                    return false;
                }
            }
        }
    }
}
