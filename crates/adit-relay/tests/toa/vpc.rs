//! Namespaces with addresses on `lo`, and what runs in them.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;

use adit_netns::{Directory, Links, Namespace};
use rustix::net::sockopt::set_tcp_quickack;
use rustix::net::{AddressFamily, SocketType, bind, connect, socket};

use crate::PATIENCE;

/// A namespace that goes with the test.
pub struct Vpc {
    directory: Directory,
    namespace: Namespace,
}

impl Vpc {
    pub fn new(name: &str, addresses: &[Ipv4Addr]) -> Self {
        let directory = Directory::at(Directory::SYSTEM).unwrap();
        let name = format!("adit-toa-{}-{name}", std::process::id());
        let vpc = Self {
            namespace: directory.create(&name).unwrap(),
            directory,
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let links = Links::open(&vpc.namespace).await.unwrap();
            links.link_up("lo").await.unwrap();
            for address in addresses {
                let network = ipnet::Ipv4Net::new(*address, 32).unwrap();
                links.address_add("lo", network.into(), None).await.unwrap();
            }
        });
        vpc
    }

    pub fn descriptor(&self) -> Arc<OwnedFd> {
        Arc::new(self.namespace.as_fd().try_clone_to_owned().unwrap())
    }

    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.namespace.run(work).unwrap()
    }

    /// Connects from an address of its choice, with some first words; answers where from, port included. The words are there as
    /// soon as the connection is, since they come with it.
    pub fn connect(&self, from: Ipv4Addr, to: SocketAddrV4, words: &[u8]) -> (TcpStream, SocketAddrV4) {
        self.run(|| {
            let client = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
            bind(&client, &SocketAddrV4::new(from, 0)).unwrap();
            set_tcp_quickack(&client, words.is_empty()).unwrap();
            connect(&client, &to).unwrap();
            let mut client = TcpStream::from(client);
            client.write_all(words).unwrap();
            client.set_read_timeout(Some(PATIENCE)).unwrap();
            let std::net::SocketAddr::V4(from) = client.local_addr().unwrap() else {
                unreachable!("bound to IPv4")
            };
            (client, from)
        })
    }

    /// A program in Python, in here; it says things by lines.
    pub fn python(&self, program: &str, arguments: &[&str]) -> Python {
        let mut command = Command::new("python3");
        command.arg("-uc").arg(program).args(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = self.run(|| command.spawn()).unwrap();
        Python {
            input: child.stdin.take().unwrap(),
            output: BufReader::new(child.stdout.take().unwrap()),
            child,
        }
    }
}

impl Drop for Vpc {
    fn drop(&mut self) {
        let _ = self.directory.remove(self.namespace.name());
    }
}

/// A running program; it ends with the test.
pub struct Python {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Python {
    pub fn tell(&mut self, line: &str) {
        writeln!(self.input, "{line}").unwrap();
    }

    pub fn hear(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
