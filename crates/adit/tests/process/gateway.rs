//! A gateway that the test is itself: what it is told it sees, and it says what it wants.

use std::{
    io::{BufRead, BufReader},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use serde_json::{Value, json};

use super::cluster::Control;

/// How often it says that it is there.
const BEAT: Duration = Duration::from_millis(500);

/// The control plane, as a gateway of the test speaks to it.
pub(crate) trait AsGateway {
    /// Follows the feed.
    fn follow(&self, node: &str, from: &str) -> Lines;
    /// Says something.
    fn say(&self, node: &str, reports: &Value) -> u16;
}

impl AsGateway for Control {
    fn follow(&self, node: &str, from: &str) -> Lines {
        let path = format!("/node/v1/feed?node={node}&from={from}");
        let (status, body) = self.ask("GET", &path, &self.secret, "");
        assert_eq!(status, 200);
        Lines(BufReader::new(Box::new(body.into_reader())))
    }

    fn say(&self, node: &str, reports: &Value) -> u16 {
        let status = json!({"node": node, "version": "0", "capabilities": {"tcp_proxy": []},
            "load": {"endpoints": 1, "connections": 0}, "reports": reports});
        self.ask("POST", "/node/v1/status", &self.secret, &status.to_string())
            .0
    }
}

/// Has a gateway of the test be heard of, for as long as this lives.
pub(crate) struct Alive {
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Alive {
    pub(crate) fn new(control: &Arc<Control>, node: &'static str) -> Self {
        let (end, control) = (Arc::new(AtomicBool::new(false)), Arc::clone(control));
        let ended = Arc::clone(&end);
        let thread = std::thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) {
                control.say(node, &json!([]));
                std::thread::park_timeout(BEAT);
            }
        });
        Self {
            end,
            thread: Some(thread),
        }
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

/// What a gateway is sent.
pub(crate) struct Lines(BufReader<Box<dyn std::io::Read + Send>>);

impl Lines {
    pub(crate) fn of(lines: BufReader<Box<dyn std::io::Read + Send>>) -> Self {
        Self(lines)
    }

    /// The next line that says something; `None` at the end.
    pub(crate) fn next(&mut self) -> Option<Value> {
        loop {
            let mut line = String::new();
            if self.0.read_line(&mut line).unwrap_or(0) == 0 {
                return None;
            }
            let line: Value = serde_json::from_str(&line).unwrap();
            if line["line"] != "beat" {
                return Some(line);
            }
        }
    }
}
