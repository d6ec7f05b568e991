//! A region with one service, one endpoint to it, and a client: what a test of connections begins with.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use adit_netns::Namespace;
use serde_json::json;

use super::{BACKEND_PORT, CLIENT_PORT, Client, Region};

/// How long a client waits for what must come.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Stage {
    pub(crate) region: Region,
    pub(crate) provider: Client,
    pub(crate) consumer: Client,
    pub(crate) service: String,
    pub(crate) endpoint: String,
    /// Where the endpoint is: its port 7000 leads to port 80 of the backend.
    pub(crate) at: SocketAddrV4,
    pub(crate) backend: Namespace,
    pub(crate) client: Namespace,
    _data: tempfile::TempDir,
}

impl Stage {
    pub(crate) fn new(flags: &[&str]) -> Self {
        Self::of(|data| Region::start(data, flags))
    }

    /// A region whose process may have so many files open.
    pub(crate) fn with_files(most: usize) -> Self {
        Self::of(|data| {
            let mut command = Command::new("sh");
            let limited = format!("ulimit -n {most}; exec \"$0\" \"$@\"");
            command
                .args(["-c", &limited, env!("CARGO_BIN_EXE_adit"), "dev"])
                .args(["--probe-period-s", "0", "--data", data.to_str().unwrap()]);
            Region::of(command, Stdio::inherit())
        })
    }

    fn of(start: impl FnOnce(&Path) -> Region) -> Self {
        let data = tempfile::tempdir().unwrap();
        let region = start(data.path());
        let (provider, consumer) = (Client::demo(&region.api), Client::other(&region.api));
        let service = provider.publish(&json!([{"client_port": 7000, "server_port": 80}]));
        let (endpoint, ip) = consumer.connect(&service);
        Self {
            backend: region.port(BACKEND_PORT),
            client: region.port(CLIENT_PORT),
            at: SocketAddrV4::new(ip, 7000),
            region,
            provider,
            consumer,
            service,
            endpoint,
            _data: data,
        }
    }

    /// The backend's listener.
    pub(crate) fn listen(&self) -> TcpListener {
        let bind = || TcpListener::bind((Ipv4Addr::UNSPECIFIED, 80));
        self.backend.run(bind).unwrap().unwrap()
    }

    /// A connection, as far as the kernel of the client is concerned.
    pub(crate) fn connect(&self) -> io::Result<TcpStream> {
        let to = SocketAddr::V4(self.at);
        let stream = self
            .client
            .run(|| TcpStream::connect_timeout(&to, PATIENCE))
            .unwrap()?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(stream)
    }

    /// A connection and its other end.
    pub(crate) fn pair(&self, listener: &TcpListener) -> Pair {
        let client = self.connect().unwrap();
        let (backend, _) = listener.accept().unwrap();
        backend.set_read_timeout(Some(PATIENCE)).unwrap();
        Pair { client, backend }
    }

    /// A new connection works, and so does the region.
    pub(crate) fn assert_works(&self, listener: &TcpListener) {
        self.pair(listener).talk();
        self.consumer
            .must("GET", &format!("vpc-endpoints/{}", self.endpoint), None);
    }

    /// `ip` inside a namespace.
    pub(crate) fn ip(inside: &Namespace, words: &[&str]) {
        let status = inside.run(|| Command::new("ip").args(words).status()).unwrap();
        assert!(status.unwrap().success(), "ip {words:?}");
    }
}

/// Both ends of a connection.
pub(crate) struct Pair {
    pub(crate) client: TcpStream,
    pub(crate) backend: TcpStream,
}

impl Pair {
    /// Says something in both directions.
    pub(crate) fn talk(&mut self) {
        say(&mut self.client, &mut self.backend);
        say(&mut self.backend, &mut self.client);
    }

    /// Both ends are reset.
    pub(crate) fn assert_reset(mut self) {
        assert_reset(&mut self.client);
        assert_reset(&mut self.backend);
    }
}

fn say(from: &mut TcpStream, to: &mut TcpStream) {
    from.write_all(b"ping").unwrap();
    let mut heard = [0; 4];
    to.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"ping");
}

/// Reads until the end, which has to be a reset.
pub(crate) fn assert_reset(stream: &mut TcpStream) {
    let mut buffer = [0; 4096];
    let end = loop {
        match stream.read(&mut buffer) {
            Ok(n) if n > 0 => {}
            other => break other.map_err(|e| e.kind()),
        }
    };
    assert_eq!(end, Err(ErrorKind::ConnectionReset));
}
