//! What it costs to renew the lifetimes of many addresses: one by one, and at once. Needs root, or user namespaces.
//!
//! ```sh
//! cargo run --release -p adit-netns --example renewal
//! ```
#![expect(clippy::print_stdout, reason = "its result is what it prints")]

use std::{
    error::Error,
    net::{IpAddr, Ipv4Addr},
    time::Instant,
};

use adit_netns::{Links, Namespace};

const ADDRESSES: u32 = 5000;
const ROUNDS: u32 = 5;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let namespace = Namespace::unnamed("renewal")?;
    let links = Links::open(&namespace).await?;
    links.bridge_create("br", [2, 0xad, 0, 0, 0, 1]).await?;
    let link = links.link("br").await?.ok_or("there is no bridge")?.index;
    let all: Vec<_> = (0..ADDRESSES)
        .map(|n| (link, Ipv4Addr::from(0x0a00_0001 + n)))
        .collect();
    let renewal = links.renewal().await?;
    renewal.renew(&all, 1000)?;

    let begun = Instant::now();
    for _ in 0..ROUNDS {
        for (_, ip) in &all {
            links
                .address_add("br", IpAddr::V4(*ip).into(), Some(1000))
                .await?;
        }
    }
    let singly = begun.elapsed() / ROUNDS / ADDRESSES;
    let begun = Instant::now();
    for _ in 0..ROUNDS {
        renewal.renew(&all, 1000)?;
    }
    let at_once = begun.elapsed() / ROUNDS / ADDRESSES;
    let ratio = singly.as_secs_f64() / at_once.as_secs_f64();
    println!(
        "{ADDRESSES} addresses, per address: one by one {singly:?}, at once {at_once:?}: {ratio:.0} times less"
    );
    Ok(())
}
