//! What is on the wire, as tshark sees it: none of our code reads these bytes.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::PATIENCE;
use crate::vpc::Vpc;

/// Nobody listens here: a connect is a segment that is known, and a refusal.
const BEGIN: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 9);
const END: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 7);
/// How long to wait for a sign that the capture has begun before the next try.
const TRY: Duration = Duration::from_millis(100);

/// One segment.
#[derive(Debug)]
pub struct Segment {
    pub from: u16,
    pub to: u16,
    pub syn: bool,
    pub length: usize,
    /// The options' kinds, in order.
    pub kinds: Vec<u8>,
    /// The options, in hexadecimal.
    pub options: String,
    /// The data, in hexadecimal.
    pub payload: String,
}

impl Segment {
    fn of(line: &str) -> Self {
        let mut fields = line.split('\t').map(str::to_owned);
        let mut next = || fields.next().unwrap_or_default();
        Self {
            from: next().parse().unwrap(),
            to: next().parse().unwrap(),
            syn: matches!(next().as_str(), "1" | "True"),
            length: next().parse().unwrap(),
            kinds: next()
                .split(',')
                .filter(|kind| !kind.is_empty())
                .map(|kind| kind.parse().unwrap())
                .collect(),
            options: next().replace(':', ""),
            payload: next().replace(':', ""),
        }
    }

    pub fn has_toa(&self) -> bool {
        self.kinds.contains(&254)
    }
}

/// A capture on a namespace's `lo`.
pub struct Capture<'a> {
    vpc: &'a Vpc,
    child: Child,
    lines: Receiver<String>,
    seen: Vec<Segment>,
    /// It would leave its file behind.
    _folder: tempfile::TempDir,
}

impl<'a> Capture<'a> {
    /// Begins; whatever is sent after this is seen.
    pub fn start(vpc: &'a Vpc) -> Self {
        let mut command = Command::new("tshark");
        command.args(["-i", "lo", "-l", "-n", "-f", "tcp", "-T", "fields"]);
        for field in [
            "tcp.srcport",
            "tcp.dstport",
            "tcp.flags.syn",
            "tcp.len",
            "tcp.option_kind",
            "tcp.options",
            "tcp.payload",
        ] {
            command.args(["-e", field]);
        }
        let folder = tempfile::tempdir().unwrap();
        command.env("TMPDIR", folder.path());
        command.stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = vpc.run(|| command.spawn()).unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        let capture = Self {
            vpc,
            child,
            lines,
            seen: Vec::new(),
            _folder: folder,
        };
        let deadline = Instant::now() + PATIENCE;
        loop {
            capture.probe(BEGIN);
            match capture.lines.recv_timeout(TRY) {
                Ok(_) => return capture,
                Err(RecvTimeoutError::Disconnected) => panic!("tshark has ended"),
                Err(RecvTimeoutError::Timeout) => assert!(Instant::now() < deadline, "tshark is silent"),
            }
        }
    }

    fn probe(&self, to: SocketAddrV4) {
        assert!(self.vpc.run(|| TcpStream::connect(to)).is_err());
    }

    /// Ends; answers what was sent to `port` since it began.
    pub fn end(mut self, port: u16) -> Vec<Segment> {
        self.probe(END);
        self.wait(|segment| segment.to == END.port());
        let mut seen = std::mem::take(&mut self.seen);
        seen.retain(|segment| segment.to == port);
        seen
    }

    /// Waits for a segment.
    pub fn wait(&mut self, is_it: impl Fn(&Segment) -> bool) {
        loop {
            let segment = Segment::of(&self.lines.recv_timeout(PATIENCE).unwrap());
            let found = is_it(&segment);
            self.seen.push(segment);
            if found {
                return;
            }
        }
    }
}

impl Drop for Capture<'_> {
    fn drop(&mut self) {
        // Killed, it would leave the process behind that captures for it.
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let _ = self.child.wait();
    }
}
