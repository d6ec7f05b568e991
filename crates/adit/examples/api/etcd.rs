//! An etcd of three members, and etcd alone: clients that commit one transaction after the other.
//!
//! The same number of records, keys and values of the same size, compared for absence as a create compares what must be
//! unique, and no more: nobody looks at them, nothing is told to anybody but that they are committed.

use std::{
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use tonic::{client::Grpc, codegen::http::uri::PathAndQuery, transport::Channel};
use tonic_prost::ProstCodec;
use uuid::Uuid;

use crate::{process::cpu_us_of, redb::Record};

#[path = "../../../adit-store/src/etcd/proto.rs"]
#[expect(dead_code, reason = "a bench needs few of the store's messages")]
mod proto;
use proto::{Compare, CompareWith, PutRequest, Request, RequestOp, TxnRequest, TxnResponse};

/// Members.
const MEMBERS: usize = 3;
/// Numbers quota slots.
static NUMBER: AtomicU64 = AtomicU64::new(1 << 20);

/// The members, killed when it is dropped.
pub(crate) struct Etcd {
    members: Vec<Child>,
    urls: Vec<String>,
}

impl Drop for Etcd {
    fn drop(&mut self) {
        for member in &mut self.members {
            let _ = member.kill();
            let _ = member.wait();
        }
    }
}

impl Etcd {
    pub(crate) fn start(folder: &Path) -> Self {
        let held: Vec<_> = (0..2 * MEMBERS)
            .map(|_| TcpListener::bind("127.0.0.1:0").unwrap())
            .collect();
        let urls: Vec<_> = held
            .iter()
            .map(|held| format!("http://{}", held.local_addr().unwrap()))
            .collect();
        drop(held);
        let (clients, peers) = urls.split_at(MEMBERS);
        let cluster: Vec<_> = peers
            .iter()
            .enumerate()
            .map(|(n, peer)| format!("m{n}={peer}"))
            .collect();
        let member = |n: usize| {
            Command::new("etcd")
                .args(["--name", &format!("m{n}"), "--data-dir"])
                .arg(folder.join(format!("m{n}")))
                .args([
                    "--listen-client-urls",
                    &clients[n],
                    "--advertise-client-urls",
                    &clients[n],
                ])
                .args([
                    "--listen-peer-urls",
                    &peers[n],
                    "--initial-advertise-peer-urls",
                    &peers[n],
                ])
                .args(["--initial-cluster", &cluster.join(",")])
                .args(["--quota-backend-bytes", "8589934592"])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("the bench needs etcd (Debian: apt install etcd-server)")
        };
        let etcd = Self {
            members: (0..MEMBERS).map(member).collect(),
            urls: clients.to_vec(),
        };
        let begun = Instant::now();
        let healthy = |url: &String| {
            let reply = ureq::get(format!("{url}/health")).call();
            reply.is_ok_and(|r| {
                r.into_body()
                    .read_to_string()
                    .is_ok_and(|t| t.contains("\"true\""))
            })
        };
        while !etcd.urls.iter().all(healthy) {
            assert!(begun.elapsed() < Duration::from_secs(30), "etcd does not start");
            std::thread::sleep(Duration::from_millis(50));
        }
        etcd
    }

    pub(crate) fn urls(&self) -> &[String] {
        &self.urls
    }

    /// User and system time of all members so far, in microseconds.
    pub(crate) fn cpu_us(&self) -> u64 {
        self.members.iter().map(|member| cpu_us_of(member.id())).sum()
    }

    /// How many transactions and how many reads all members together have answered so far.
    pub(crate) fn calls(&self) -> [f64; 2] {
        let mut calls = [0.0; 2];
        for url in &self.urls {
            let reply = ureq::get(format!("{url}/metrics")).call().unwrap();
            let text = reply.into_body().read_to_string().unwrap();
            let handled = text
                .lines()
                .filter(|line| line.starts_with("grpc_server_handled_total"));
            for line in handled {
                let count: f64 = line.rsplit(' ').next().unwrap().parse().unwrap();
                for (call, method) in calls.iter_mut().zip(["\"Txn\"", "\"Range\""]) {
                    *call += if line.contains(method) { count } else { 0.0 };
                }
            }
        }
        calls
    }

    /// Lets so many clients commit one after the other for some seconds, each at one member; answers the rate.
    pub(crate) fn commit(&self, records: &[Record], clients: usize, seconds: u64) -> f64 {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let channels = self
                .urls
                .iter()
                .map(|url| Channel::from_shared(url.clone()).unwrap().connect_lazy());
            let channels: Vec<_> = channels.collect();
            let started = Instant::now();
            let tasks: Vec<_> = (0..clients)
                .map(|n| {
                    let channel = channels[n % MEMBERS].clone();
                    runtime.spawn(client(channel, records.to_vec(), started, seconds))
                })
                .collect();
            let mut commits = 0;
            for task in tasks {
                commits += task.await.unwrap();
            }
            f64::from(commits) / started.elapsed().as_secs_f64()
        })
    }
}

async fn client(channel: Channel, records: Vec<Record>, started: Instant, seconds: u64) -> u32 {
    let mut grpc = Grpc::new(channel);
    let mut commits = 0;
    while started.elapsed().as_secs() < seconds {
        let (id, number) = (Uuid::new_v4(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let keys: Vec<Vec<u8>> = records
            .iter()
            .map(|record| format!("bare/{}", record.key(id, number)).into_bytes())
            .collect();
        let put = |(key, record): (&Vec<u8>, &Record)| RequestOp {
            request: Some(Request::Put(PutRequest {
                key: key.clone(),
                value: vec![b'x'; record.bytes],
                lease: 0,
            })),
        };
        let absent = |(key, record): (&Vec<u8>, &Record)| {
            let fresh = !record.key.starts_with("guard");
            fresh.then(|| Compare {
                target: 0,
                key: key.clone(),
                with: Some(CompareWith::Version(0)),
            })
        };
        let txn = TxnRequest {
            compare: keys.iter().zip(&records).filter_map(absent).collect(),
            success: keys.iter().zip(&records).map(put).collect(),
            failure: Vec::new(),
        };
        grpc.ready().await.unwrap();
        let path = PathAndQuery::from_static("/etcdserverpb.KV/Txn");
        let codec = ProstCodec::<TxnRequest, TxnResponse>::default();
        let answer = grpc.unary(tonic::Request::new(txn), path, codec).await.unwrap();
        assert!(answer.into_inner().succeeded);
        commits += 1;
    }
    commits
}
