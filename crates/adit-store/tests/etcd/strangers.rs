//! Keys of somebody else among ours.

use std::process::Command;

use adit_store::conformance::{committed, list_all};
use adit_store::{Store, Txn};
use base64::prelude::{BASE64_STANDARD, Engine as _};

use crate::cluster::{self, Cluster};

/// Puts a key past us, whatever its bytes are.
fn put(cluster: &Cluster, key: &[u8]) {
    let url = format!("{}/v3/kv/put", cluster.url(0));
    let body = format!(r#"{{"key":"{}"}}"#, BASE64_STANDARD.encode(key));
    let put = Command::new("curl").args(["-sf", &url, "-d", &body]).output();
    let put = put.unwrap();
    assert!(put.status.success(), "{put:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_goes_on_after_names_that_are_no_text() {
    if !cluster::is_installed("a_list_goes_on_after_names_that_are_no_text") {
        return;
    }
    let cluster = Cluster::start(1);
    let store = cluster.open(cluster.config("adit")).await;
    let last = "l/\u{10ffff}";
    committed(&store, Txn::new().put("l/a", *b"").put(last, *b"")).await;
    // Between the two, and after both.
    for n in 0..5 {
        put(&cluster, &[b"adit/data/l/b".as_slice(), &[0xff, n]].concat());
        put(&cluster, &[b"adit/data/l/".as_slice(), &[0xff, n]].concat());
    }
    for limit in [1, 2, 3, 5, 6, 100] {
        let (entries, token) = list_all(&store, "l/", limit).await;
        let keys: Vec<_> = entries.iter().map(|entry| &*entry.key).collect();
        assert_eq!(keys, ["l/a", last], "in pages of {limit}");
        assert_eq!(
            (token.revision, token.incarnation),
            {
                let now = store.list("", None, 1).await.unwrap();
                (now.revision, now.incarnation)
            },
            "of one revision"
        );
    }
    assert_eq!(store.strangers().await.unwrap().len(), 10);
}
