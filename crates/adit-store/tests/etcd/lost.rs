//! Answers and requests that are lost on the way.

use std::net::SocketAddr;
use std::sync::Arc;

use adit_store::conformance::committed;
use adit_store::{Commit, Store, Txn};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::DEADLINE;
use crate::cluster::{self, Cluster};

/// Which way bytes are held up; they wait, and are not lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Held {
    Nothing,
    Requests,
    Answers,
}

/// A link to etcd that can be held up.
struct Link {
    address: SocketAddr,
    held: Arc<watch::Sender<Held>>,
}

impl Link {
    async fn to(port: u16) -> Self {
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

    fn hold(&self, held: Held) {
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

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_whose_answer_is_lost_is_settled_by_reading_back() {
    if !cluster::is_installed("a_commit_whose_answer_is_lost_is_settled_by_reading_back") {
        return;
    }
    let cluster = Cluster::start(1);
    let link = Link::to(cluster.port(0)).await;
    let mut config = cluster.config("adit");
    let direct = cluster.open(config.clone()).await;
    config.urls.insert(0, format!("http://{}", link.address));
    let store = cluster.open(config.clone()).await;
    let since = committed(&store, Txn::new().put("first", [1])).await;

    // The request arrives; the answer does not.
    link.hold(Held::Answers);
    let txn = Txn::new().absent("k").put("k", [1]);
    let id = txn.id();
    let outcome = timeout(DEADLINE, store.commit(txn))
        .await
        .expect("the call ends")
        .unwrap();
    assert_eq!(outcome, Commit::Unknown);
    let others = committed(&direct, Txn::new().put("k", [2])).await;
    let settled = timeout(DEADLINE, store.settle(id, since))
        .await
        .expect("the call ends")
        .unwrap();
    assert!(settled.is_some_and(|revision| since < revision && revision < others));
    link.hold(Held::Nothing);

    // The request itself is held up, and arrives after it was settled that it never happened.
    let late = cluster.open(config).await;
    committed(&late, Txn::new().put("second", [1])).await;
    link.hold(Held::Requests);
    let txn = Txn::new().absent("late").put("late", [1]);
    let id = txn.id();
    let since = direct.barrier().await.unwrap();
    let outcome = timeout(DEADLINE, late.commit(txn))
        .await
        .expect("the call ends")
        .unwrap();
    assert_eq!(outcome, Commit::Unknown);
    assert_eq!(
        timeout(DEADLINE, late.settle(id, since))
            .await
            .expect("the call ends")
            .unwrap(),
        None
    );
    link.hold(Held::Nothing);
    // What lay on the way comes before anything that is sent after it.
    let mut through = cluster.config("adit");
    through.urls = vec![format!("http://{}", link.address)];
    committed(&cluster.open(through).await, Txn::new().put("third", [1])).await;
    assert_eq!(
        direct.get("late").await.unwrap(),
        None,
        "what was settled stays settled"
    );
}
