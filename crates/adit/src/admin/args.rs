//! What an operator can say after `adit admin`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

/// Run a region: quotas, accounts, services, endpoints and everything else in it, whosever it is.
#[derive(Debug, Args)]
pub struct Admin {
    #[command(flatten)]
    /// Which region, and as whom.
    pub access: AccessArgs,
    /// A table for people, or JSON for programs.
    #[arg(short, long, global = true, default_value = "table", value_name = "FORM")]
    pub output: Output,
    /// What to do.
    #[command(subcommand)]
    pub what: What,
}

/// How to show replies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// A table, for people.
    Table,
    /// The API's own words, for programs.
    Json,
}

/// Which region, and as whom.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Which region, and as whom")]
pub struct AccessArgs {
    /// Where the API is [default: the region that `adit dev` runs on --data].
    #[arg(long, global = true, env = "ADIT_URL")]
    pub url: Option<String>,
    /// The data directory of a running `adit dev`, whose operator's credentials are used [default: as for `adit dev`].
    #[arg(long, global = true, env = "ADIT_DATA", value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// A token of somebody with the role `admin`.
    #[arg(long, global = true, env = "ADIT_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// Log in as this user, who has the role `admin`.
    #[arg(long, global = true, env = "ADIT_USER", value_name = "NAME")]
    pub user: Option<String>,
    /// The user's password.
    #[arg(long, global = true, env = "ADIT_PASSWORD", hide_env_values = true)]
    pub password: Option<String>,
    /// The user's account [default: Default].
    #[arg(long, global = true, env = "ADIT_DOMAIN", value_name = "NAME")]
    pub domain: Option<String>,
    /// The project, of the same account, that the user has the role in [default: the account itself].
    #[arg(long, global = true, env = "ADIT_PROJECT", value_name = "NAME")]
    pub project: Option<String>,
    /// Where to log in, if not at URL/v3.
    #[arg(long, global = true, env = "ADIT_AUTH_URL", value_name = "URL")]
    pub auth_url: Option<String>,
    /// An entry of a clouds.yaml, as the openstack command reads it.
    #[arg(long, global = true, env = "ADIT_CLOUD", value_name = "NAME")]
    pub cloud: Option<String>,
    /// The clouds.yaml [default: ./clouds.yaml, ~/.config/openstack/clouds.yaml, /etc/openstack/clouds.yaml].
    #[arg(long, global = true, env = "OS_CLIENT_CONFIG_FILE", value_name = "FILE")]
    pub clouds: Option<PathBuf>,
    /// Trust the certificates in this file.
    #[arg(long, global = true, env = "ADIT_CACERT", value_name = "FILE")]
    pub cacert: Option<PathBuf>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum What {
    /// How many services and endpoints projects may have.
    #[command(subcommand)]
    Quota(Quota),
    /// Freeze an account's endpoints, or let them go again.
    #[command(subcommand)]
    Account(Account),
    /// Endpoint services of all projects.
    #[command(subcommand)]
    Service(Service),
    /// Services that the operator runs for everybody.
    #[command(subcommand)]
    PublicService(PublicService),
    /// Endpoints of all projects: look at them, switch them off and on.
    #[command(subcommand)]
    Endpoint(Endpoint),
    /// Endpoints as the owners of their services see them.
    #[command(subcommand)]
    Connection(Connection),
    /// Which accounts may connect to which service.
    #[command(subcommand)]
    Whitelist(Whitelist),
    /// VPCs, and what is in them.
    #[command(subcommand)]
    Vpc(Vpc),
    /// Pools of gateways.
    #[command(subcommand)]
    Pool(Pool),
}

/// What lists have in common.
#[derive(Debug, Default, Args)]
pub struct Listed {
    /// Only those of this project.
    #[arg(long, value_name = "ID")]
    pub project_id: Option<String>,
    /// Only those of this account.
    #[arg(long, value_name = "ID")]
    pub domain_id: Option<String>,
    /// Show at most so many, the newest first [default: all].
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
}

/// Quotas.
#[derive(Debug, Subcommand)]
pub enum Quota {
    /// Every project that has something or whose quotas were set.
    List(Listed),
    /// One project's quotas.
    Show {
        /// The project's id.
        project: String,
    },
    /// Set a project's quotas. Fewer than the project has is allowed: that only stops new ones.
    #[command(
        after_help = "Example:\n  adit admin quota set 6e9dfd51d1124e8d8498dce894923a0d --endpoints 200"
    )]
    Set {
        /// The project's id.
        project: String,
        /// How many endpoint services.
        #[arg(long, value_name = "N", required_unless_present = "endpoints")]
        services: Option<u32>,
        /// How many endpoints.
        #[arg(long, value_name = "N")]
        endpoints: Option<u32>,
    },
}

/// Accounts.
#[derive(Debug, Subcommand)]
pub enum Account {
    /// Every account that has something or is frozen.
    List(Listed),
    /// One account.
    Show {
        /// The account's id.
        account: String,
    },
    /// Freeze an account: its endpoints show it and pass no traffic until it is unfrozen.
    Freeze {
        /// The account's id.
        account: String,
        /// Why; may be given more than once.
        #[arg(long = "as", value_name = "WHY", default_value = "arrear")]
        why: Vec<Freeze>,
        /// Let the connections that there are go on for so many seconds; else they are cut.
        #[arg(long, value_name = "SECONDS")]
        drain_s: Option<u32>,
    },
    /// Let a frozen account's endpoints pass traffic again.
    Unfreeze {
        /// The account's id.
        account: String,
    },
}

/// Why an account is frozen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Freeze {
    /// It owes money (`arrear_frozen`).
    Arrear,
    /// Its owner is not verified (`verify_frozen`).
    Verify,
    /// The police asked for it (`police_frozen`).
    Police,
    /// It broke the law or the terms (`illegal_frozen`).
    Illegal,
    /// A partner asked for it (`partner_frozen`).
    Partner,
}

/// Services.
#[derive(Debug, Subcommand)]
pub enum Service {
    /// Services, the newest first.
    List {
        #[command(flatten)]
        /// Whose.
        listed: Listed,
        /// Only those whose name has this part; case is ignored.
        #[arg(long)]
        name: Option<String>,
        /// Only those in this state: creating, available, failed or deleting.
        #[arg(long)]
        status: Option<String>,
        /// Only those in this VPC.
        #[arg(long, value_name = "ID")]
        vpc_id: Option<String>,
        /// Only those of this pool.
        #[arg(long, value_name = "ID")]
        pool_id: Option<String>,
    },
    /// One service.
    Show {
        /// Its id.
        id: String,
    },
    /// Set whose parsers a service's PROXY header is for; it counts for new connections.
    Set {
        /// Its id.
        id: String,
        /// `vpcep`, `aws`, `gcp`, `azure`, `archer` or `v1`, or `default` for the region's.
        #[arg(long, value_name = "PROFILE")]
        proxy_profile: String,
    },
}

/// Public services.
#[derive(Debug, Subcommand)]
pub enum PublicService {
    /// Public services, the newest first.
    List {
        #[command(flatten)]
        /// Whose network they are in.
        listed: Listed,
        /// Only those whose name has this part; case is ignored.
        #[arg(long)]
        name: Option<String>,
    },
    /// One of them.
    Show {
        /// Its id.
        id: String,
    },
    /// Publish a port, or blocks of addresses, for everybody.
    #[command(
        after_help = "Examples:\n  adit admin public-service create com.example.dns --project-id P --vpc-id V --port-id PORT \\\n    \
        --server-type VM --port 53:5353\n  \
        adit admin public-service create com.example.store --project-id P --vpc-id V --prefix 100.64.0.0/16 --port 443"
    )]
    Create(Box<NewPublicService>),
    /// Take one away. Its endpoints have to be gone.
    Delete {
        /// Its id.
        id: String,
    },
}

/// What a public service is made of.
#[derive(Debug, Args)]
pub struct NewPublicService {
    /// Its whole name; no other public service has it.
    pub name: String,
    /// The project whose network the backend is in.
    #[arg(long, value_name = "ID")]
    pub project_id: String,
    /// The backend's VPC.
    #[arg(long, value_name = "ID")]
    pub vpc_id: String,
    /// The backend's port: endpoints are addresses (type interface).
    #[arg(
        long,
        value_name = "ID",
        requires = "server_type",
        required_unless_present = "prefix",
        conflicts_with = "prefix"
    )]
    pub port_id: Option<String>,
    /// What the port belongs to: LB or VM.
    #[arg(long, value_name = "TYPE")]
    pub server_type: Option<String>,
    /// A block that clients reach at the addresses that it has: endpoints are routes (type gateway). May be repeated.
    #[arg(long, value_name = "CIDR")]
    pub prefix: Vec<String>,
    /// A client port, and the backend's where that is another. May be repeated.
    #[arg(long = "port", value_name = "CLIENT[:SERVER]", required = true, value_parser = mapping)]
    pub ports: Vec<(u16, u16)>,
    /// Whose it is said to be [default: OTC].
    #[arg(long)]
    pub owner: Option<String>,
    /// Say that its use costs something.
    #[arg(long)]
    pub is_charge: bool,
    /// How the backend learns of clients: close, toa_open, proxy_open, open or proxy_vni.
    #[arg(long, value_name = "MODE")]
    pub tcp_proxy: Option<String>,
    /// Free text.
    #[arg(long)]
    pub description: Option<String>,
    /// The pool of gateways that serves it [default: the region's].
    #[arg(long, value_name = "ID")]
    pub pool_id: Option<String>,
}

/// Reads `443` or `53:5353`.
fn mapping(text: &str) -> Result<(u16, u16), String> {
    let (client, server) = text.split_once(':').unwrap_or((text, text));
    let port = |text: &str| {
        let port = text.parse().ok().filter(|port| *port > 0);
        port.ok_or_else(|| format!("{text:?} is not a port from 1 to 65535"))
    };
    Ok((port(client)?, port(server)?))
}

/// Endpoints.
#[derive(Debug, Subcommand)]
pub enum Endpoint {
    /// Endpoints, the newest first.
    List {
        #[command(flatten)]
        /// Whose.
        listed: Listed,
        /// Only those of this service.
        #[arg(long, value_name = "ID")]
        service_id: Option<String>,
        /// Only those of services whose name has this part; case is ignored.
        #[arg(long)]
        service_name: Option<String>,
        /// Only those in this state: pendingAcceptance, creating, accepted, rejected, failed or deleting.
        #[arg(long)]
        status: Option<String>,
        /// Only those in this VPC.
        #[arg(long, value_name = "ID")]
        vpc_id: Option<String>,
        /// Only those that are switched off.
        #[arg(long)]
        disabled: bool,
    },
    /// One endpoint.
    Show {
        /// Its id.
        id: String,
    },
    /// Switch an endpoint on again.
    Enable {
        /// Its id.
        id: String,
    },
    /// Switch an endpoint off: its connections are cut or drain, and it passes no traffic until it is switched on again.
    Disable {
        /// Its id.
        id: String,
        /// Let the connections that there are go on for so many seconds [default: the region's --drain-s].
        #[arg(long, value_name = "SECONDS")]
        drain_s: Option<u32>,
    },
}

/// Connections.
#[derive(Debug, Subcommand)]
pub enum Connection {
    /// Connections, the newest first; --project-id and --domain-id are the services' owners.
    List {
        #[command(flatten)]
        /// Whose.
        listed: Listed,
        /// Only those of this service.
        #[arg(long, value_name = "ID")]
        service_id: Option<String>,
        /// Only the one with this packet id.
        #[arg(long, value_name = "N")]
        marker_id: Option<String>,
        /// Only those in this state.
        #[arg(long)]
        status: Option<String>,
    },
}

/// Whitelist records.
#[derive(Debug, Subcommand)]
pub enum Whitelist {
    /// Records, the newest first.
    List {
        #[command(flatten)]
        /// Whose.
        listed: Listed,
        /// Only those of this service.
        #[arg(long, value_name = "ID")]
        service_id: Option<String>,
        /// Only those with this part, such as an account's id.
        #[arg(long, value_name = "TEXT")]
        permission: Option<String>,
    },
}

/// VPCs.
#[derive(Debug, Subcommand)]
pub enum Vpc {
    /// VPCs, the newest first.
    List(Listed),
    /// One VPC.
    Show {
        /// Its id.
        id: String,
    },
}

/// Pools.
#[derive(Debug, Subcommand)]
pub enum Pool {
    /// All pools.
    List,
    /// A new pool, which services can then ask for.
    Create {
        /// What to call it.
        name: String,
    },
    /// Remove a pool that no service is in.
    Delete {
        /// Its id.
        id: String,
    },
}
