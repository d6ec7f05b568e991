//! `adit admin`: the operator's commands, over the operator's API of a region anywhere.
//!
//! Owns how a command becomes a request and a reply a table; decides nothing about the region. Read next: [`args`] (what can
//! be said), `access` (which region, and as whom), `order` (what is asked), `view` (how replies are shown).

pub mod args;

mod access;
mod client;
mod order;
mod view;

use std::{
    io,
    path::PathBuf,
    time::{Duration, Instant},
};

use crate::{
    cli::{GatewayDrain, GatewayForget, Gateways},
    data::DataError,
    terminal,
};
use access::Access;
use args::{AccessArgs, Admin, Output};
use client::Client;
use order::Order;
use serde_json::Value;
pub(crate) use {
    client::{agent, fetch},
    view::plain,
};

/// How often it is looked how far something has come.
const LOOK: Duration = Duration::from_millis(250);
/// After how long in which nothing has come of it somebody who waits hears what may be the matter.
const STILL: Duration = Duration::from_secs(10);

/// Why a command was not carried out. Each says what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No region runs here.
    #[error("{0}; or name the API of another region with --url")]
    NotRunning(#[from] DataError),
    /// What runs there serves no API.
    #[error("what runs on {} serves no API; name the region's with --url", .0.display())]
    NoApi(PathBuf),
    /// The region has no operator.
    #[error(
        "nobody in the region on {} has the role `admin`: give it to a user in the region file, or say who you are with \
         --token, --user or --cloud", .0.display()
    )]
    NoOperator(PathBuf),
    /// A region, but nobody to be there.
    #[error(
        "say who you are at that URL: --token, or --user with --password (and --domain, --project), or --cloud"
    )]
    Nobody,
    /// A user without a password.
    #[error("the user's password is missing: give it with --password or, better, in ADIT_PASSWORD")]
    NoPassword,
    /// No clouds.yaml.
    #[error("there is no clouds.yaml in the usual places; name it with --clouds")]
    NoClouds,
    /// A clouds.yaml that cannot be read.
    #[error("cannot read {}", file.display())]
    Clouds {
        /// The file.
        file: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A cloud that is not in it.
    #[error("{} has no cloud {name:?}; it has: {known}", file.display())]
    NoCloud {
        /// The file.
        file: PathBuf,
        /// The name that was given.
        name: String,
        /// Those that are there.
        known: String,
    },
    /// A cloud that one cannot log in with.
    #[error("cloud {name:?} in {} has no {what}", file.display())]
    Incomplete {
        /// The file.
        file: PathBuf,
        /// The cloud.
        name: String,
        /// What is missing.
        what: &'static str,
    },
    /// Certificates that cannot be read.
    #[error("cannot read the certificates in {}", file.display())]
    Certificates {
        /// The file.
        file: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Nobody answers.
    #[error(
        "cannot reach {url}; is the region running, is this its address (--url), and is its certificate trusted (--cacert)?"
    )]
    Unreachable {
        /// What was called.
        url: String,
        /// What came of it.
        source: Box<ureq::Error>,
    },
    /// The catalog does not say where the API is.
    #[error("the token's catalog has no service of type vpcep; say where the API is with --url")]
    NoUrl,
    /// Wrong credentials.
    #[error("{user} could not log in at {url}: {why} Check --user, --password, --domain and --project.")]
    Login {
        /// The user.
        user: String,
        /// Where.
        url: String,
        /// What was answered.
        why: String,
    },
    /// A gateway whose endpoints nobody else can take.
    #[error(
        "no other gateway is up, so {0} keeps its endpoints; they go once another comes (or take it back: adit gateway drain {0} --undo)"
    )]
    NobodyElse(String),
    /// The API's own no.
    #[error("{why}{}", advice(*status, code, url))]
    Refused {
        /// The status.
        status: u16,
        /// The code.
        code: String,
        /// The message.
        why: String,
        /// Where.
        url: String,
    },
}

/// What to do about a refusal, where that is not in its own words.
fn advice(status: u16, code: &str, url: &str) -> String {
    match (status, code) {
        (401, _) => " Log in anew, or give another --token.".to_owned(),
        (403, _) => " Use the credentials of somebody with the role `admin`.".to_owned(),
        (404, "") => format!(": there is no operator's API at {url}; name the region's address with --url"),
        _ => String::new(),
    }
}

/// Has the region find out why an endpoint does not pass traffic.
///
/// # Errors
/// By what was missing or refused.
pub(crate) fn diagnose(access: &AccessArgs, endpoint: &str, question: Value) -> Result<Value, Error> {
    let client = Client::login(Access::of(access)?)?;
    client.perform(&Order::diagnosis(endpoint, question))
}

/// Carries out one command, and prints what came of it.
///
/// # Errors
/// By what was missing or refused; nothing was changed then.
pub fn run(args: Admin) -> Result<(), Error> {
    perform(&args.access, args.output, &Order::of(args.what))
}

/// Lists the gateways that are processes of their own.
///
/// # Errors
/// By what was missing or refused.
pub fn gateways(args: &Gateways) -> Result<(), Error> {
    perform(&args.access, args.output, &Order::gateways())
}

/// Takes all endpoints off a gateway, or lets it have its share again.
///
/// # Errors
/// By what was missing or refused; nothing was changed then.
pub fn drain(args: &GatewayDrain) -> Result<(), Error> {
    let client = Client::login(Access::of(&args.access)?)?;
    let order = Order::drain(&args.name, !args.undo);
    let mut seen = client.perform(&order)?;
    if !args.undo && !args.no_wait {
        seen = wait_until_drained(&client, seen)?;
    }
    show(args.output, &order, &seen);
    Ok(())
}

/// Forgets a gateway that is gone for good.
///
/// # Errors
/// By what was missing or refused; nothing was changed then.
pub fn forget(args: &GatewayForget) -> Result<(), Error> {
    perform(&args.access, args.output, &Order::forget(&args.name))
}

/// Waits until a gateway has no endpoints any more, and tells how many it has yet.
fn wait_until_drained(client: &Client, mut seen: Value) -> Result<Value, Error> {
    let name = seen["name"].clone();
    let mut told = None;
    let mut since = Instant::now();
    while seen["status"] != "drained" {
        let listed = client.perform(&Order::gateways())?;
        let gateways = listed["gateways"].as_array().map_or(&[][..], Vec::as_slice);
        let Some(now) = gateways.iter().find(|gateway| gateway["name"] == name) else {
            return Ok(seen);
        };
        seen = now.clone();
        if seen["shards"] != 0 && !gateways.iter().any(|gateway| gateway["status"] == "up") {
            return Err(Error::NobodyElse(name.as_str().unwrap_or_default().to_owned()));
        }
        let left = seen["endpoints"].as_u64();
        if seen["status"] != "drained" && told != Some(left) {
            told = Some(left);
            since = Instant::now();
            let left = left.map_or_else(|| "its".to_owned(), |left| left.to_string());
            terminal::warn(&format!(
                "Waiting for {left} endpoints to be served by other gateways."
            ));
        }
        if since.elapsed() > STILL {
            since = Instant::now();
            terminal::warn(
                "Still the same: perhaps no other gateway has their VPCs, or can serve their mode (adit diagnose ENDPOINT). They are \
                 served on meanwhile.",
            );
        }
        std::thread::sleep(LOOK);
    }
    Ok(seen)
}

fn perform(access: &AccessArgs, output: Output, order: &Order) -> Result<(), Error> {
    let client = Client::login(Access::of(access)?)?;
    show(output, order, &client.perform(order)?);
    Ok(())
}

fn show(output: Output, order: &Order, reply: &Value) {
    let text = match output {
        Output::Table => order.view.text(reply),
        Output::Json if reply.is_null() => String::new(),
        Output::Json => format!("{reply:#}\n"),
    };
    terminal::print(&text);
}
