//! A way to a member of etcd that can be held up.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Which way bytes are held up; they wait, and are not lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Held {
    Nothing,
    Requests,
    Answers,
}

/// A link to etcd that can be held up.
pub(crate) struct Link {
    address: SocketAddr,
    held: Arc<watch::Sender<Held>>,
}

impl Link {
    /// Leads to a port of this machine.
    pub(crate) async fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let held = Arc::new(watch::Sender::new(Held::Nothing));
        let holding = held.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await else {
                    continue;
                };
                let ((from_client, to_client), (from_server, to_server)) =
                    (client.into_split(), server.into_split());
                tokio::spawn(carry(from_client, to_server, holding.subscribe(), Held::Requests));
                tokio::spawn(carry(from_server, to_client, holding.subscribe(), Held::Answers));
            }
        });
        Self { address, held }
    }

    /// Where it begins, for clients.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Holds bytes up that go this way, and lets the others go on.
    pub(crate) fn hold(&self, held: Held) {
        self.held.send_replace(held);
    }
}

async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut held: watch::Receiver<Held>, way: Held) {
    let mut buffer = [0; 4096];
    while let Ok(count) = from.read(&mut buffer).await {
        if held.wait_for(|held| *held != way).await.is_err()
            || count == 0
            || to.write_all(&buffer[..count]).await.is_err()
        {
            break;
        }
    }
}
