//! What a person can say on the command line.

mod nodes;

use std::{
    net::{SocketAddr, SocketAddrV4},
    num::NonZeroUsize,
    path::PathBuf,
    time::Duration,
};

use adit_model::{
    planned::Planned,
    quota::{QUOTA_MAX, QuotaType},
    sink::Sink,
};
use adit_server::edge::Patience;
use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum, builder::BoolishValueParser};

use crate::{
    data_plane::{DataPlane, Terms, Work},
    diagnose::Diagnose,
    store::{EtcdArgs, Location},
    top::Top,
    who::Moment,
};

pub use nodes::{
    ControlArgs, Gateway, GatewayCheck, GatewayDrain, GatewayForget, GatewayRun, Gateways, Networks,
    NodeArgs, OnControlLoss,
};

/// A self-hosted VPC Endpoint service: private endpoints between tenants, with the VPCEP v1 API of Open Telekom Cloud.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true, max_term_width = 100)]
pub struct Cli {
    #[command(flatten)]
    /// How to log.
    pub log: Log,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// How to log; logs go to standard error.
#[derive(Debug, Args)]
pub struct Log {
    /// What to log: a level, or levels by module (`adit_server=debug,info`).
    #[arg(
        long,
        global = true,
        env = "ADIT_LOG",
        default_value = "warn",
        value_name = "FILTER"
    )]
    pub log: String,
    /// Lines for people, or JSON for programs.
    #[arg(long, global = true, env = "ADIT_LOG_FORMAT", default_value = "text")]
    pub log_format: LogFormat,
    /// Log each answered request, whatever the levels.
    #[arg(
        long, global = true, env = "ADIT_ACCESS_LOG",
        action = ArgAction::Set, num_args = 0..=1, require_equals = true, value_name = "BOOL",
        default_value = "false", default_missing_value = "true", value_parser = BoolishValueParser::new(),
        hide_default_value = true
    )]
    pub access_log: bool,
}

/// The form of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a whole region on this machine: API, identity, networks and real traffic, in one process.
    ///
    /// State is kept in the data directory and survives a restart. Ctrl-C stops the region and removes everything that it
    /// made in the kernel. Needs no root where the system lets users make namespaces.
    Dev(Box<Dev>),
    /// Run the control plane of a region whose gateways are processes of their own (`adit gateway run`).
    ///
    /// Serves the API, identity and networks of the region file, and what gateways follow, on an address of its own. Makes
    /// nothing in the kernel; endpoints wait as `creating` until a gateway serves them.
    Api(Box<Api>),
    /// List the gateways of a region that are processes of their own: what they do, and which are away.
    Gateways(Box<Gateways>),
    /// Make the networks of a region's embedded cloud on this machine, as namespaces, for the gateways here (`adit gateway run`).
    ///
    /// Follows a control plane (`adit api`). What it made stays until a signal ends it; it is removed then.
    Networks(Networks),
    /// Show the main job from one end to the other: two tenants, one service, one endpoint, real bytes.
    ///
    /// Starts a region of its own, does what the API document describes, tries what must not work, prints how long each
    /// step took, and cleans up. The exit status is 0 only if all of it held.
    Demo(Demo),
    /// Run a command inside a port of a running region's network, as if on the machine that has the port.
    ///
    /// For example, a web server on the demo tenant's backend: `adit exec --port 4189d3c2-8882-4871-a3c2-d380272eed88 --
    /// python3 -m http.server 80`
    Exec(Exec),
    /// What a gateway is and can do.
    #[command(subcommand)]
    Gateway(Gateway),
    /// Say whose connection a backend saw: the address and port in its log belong to an endpoint, and the connection log knows
    /// the client.
    ///
    /// Looks among the connections of the region that runs here, and in its connection log. The exit status is 1 where nobody
    /// is found.
    Who(Who),
    /// Let unmodified servers see the client's address of connections through endpoints with `tcp_proxy` `toa_open` or `open`.
    ///
    /// Needs no kernel module: BPF programs on a cgroup have `accept` and `getpeername` answer what the TCP option says. It
    /// goes for listeners that are opened in the cgroup afterwards. Needs root and Linux 5.10. For example: `adit toa-receiver
    /// -- nginx`, or `adit toa-receiver --cgroup /sys/fs/cgroup/system.slice/nginx.service` before nginx is restarted.
    ToaReceiver(ToaReceiver),
    /// Say why an endpoint does not pass traffic, and what to do about it: from its state to a connection to its backend.
    ///
    /// Looks at everything that has to hold, in order, up to the first thing that does not; changes nothing. Asks a running `adit
    /// dev`, or any other region with --url, by the operator's API. The exit status is 0 where everything holds.
    #[command(
        after_help = "Examples:\n  adit diagnose 4c6ffad2-5e6e-4f1c-8c2a-4e2b3a7f9d10\n  \
        adit diagnose 4c6ffad2-5e6e-4f1c-8c2a-4e2b3a7f9d10 --port 8080 --client 10.0.0.20 -o json"
    )]
    Diagnose(Box<Diagnose>),
    /// Show the busiest endpoints of a running region, live: connections, bytes, drops by their reasons, backends' latency.
    ///
    /// Once a second; keys choose the order, `q` ends. Where the output is no terminal, a table follows the other. Reads
    /// /metrics, so it shows as many endpoints as the region's --endpoint-metrics says.
    #[command(
        after_help = "Examples:\n  adit top --sort drops\n  adit top --once\n  adit top -o json | jq .total\n  \
        adit top --metrics http://gateway-1:9117/metrics"
    )]
    Top(Top),
    /// Look after a store: whether it is sound, and moving it from a file into etcd or back.
    #[command(subcommand)]
    Store(crate::store::command::StoreCommand),
    /// Make many machines on this one, to try what no single one shows: what happens when one dies, hangs, or is cut off.
    ///
    /// Each machine is a network namespace with a real process in it: etcd, `adit api`, `adit gateway run`; two VPCs are stretched over all
    /// gateways. Needs root, and Debian's etcd-server.
    #[command(
        after_help = "Examples:\n  adit lab up\n  adit lab status\n  adit lab exec client-1 -- curl -s http://10.0.0.100/\n  \
        adit lab kill gateway-1\n  adit lab start gateway-1\n  adit lab cut gateway-2 --from control\n  \
        adit lab mend gateway-2\n  adit lab stop etcd-1\n  adit lab cont etcd-1\n  adit lab down"
    )]
    Lab(crate::lab::args::LabArgs),
    /// Run a region as its operator: quotas, accounts, and everything that tenants have in it.
    ///
    /// Works on a running `adit dev` without further words, and with --url on any other region. Everything is done through
    /// the operator's API (/admin/v1), by somebody with the role `admin`.
    #[command(
        after_help = "Examples:\n  adit admin service list\n  adit admin quota set 6e9dfd51d1124e8d8498dce894923a0d --endpoints 200\n  \
        adit admin account freeze b4e2d3c5f6a7182930b4c5d6e7f8091a --as arrear\n  \
        adit admin endpoint list --status accepted -o json\n  \
        adit admin --url https://vpcep.example.com --user root --domain ops vpc list"
    )]
    Admin(Box<crate::admin::args::Admin>),
}

/// Run a whole region.
#[derive(Debug, Args)]
pub struct Dev {
    /// The address that the API is served on.
    #[arg(long, env = "ADIT_LISTEN", default_value = "127.0.0.1:7117")]
    pub listen: SocketAddr,
    /// Where state is kept [default: $XDG_STATE_HOME/adit or ~/.local/state/adit].
    #[arg(long, env = "ADIT_DATA", value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Keep nothing: the region's state goes with it.
    #[arg(
        long, env = "ADIT_EPHEMERAL", conflicts_with = "data",
        action = ArgAction::Set, num_args = 0..=1, require_equals = true, value_name = "BOOL",
        default_value = "false", default_missing_value = "true", value_parser = BoolishValueParser::new(),
        hide_default_value = true
    )]
    pub ephemeral: bool,
    /// What region it is.
    #[command(flatten)]
    pub region: RegionArgs,
    /// Run the control plane alone: no namespaces, no traffic; every endpoint is reported ready.
    #[arg(
        long, env = "ADIT_NO_GATEWAY",
        action = ArgAction::Set, num_args = 0..=1, require_equals = true, value_name = "BOOL",
        default_value = "false", default_missing_value = "true", value_parser = BoolishValueParser::new(),
        hide_default_value = true
    )]
    pub no_gateway: bool,
    /// Where else settings come from.
    #[command(flatten)]
    pub file: FileArgs,
    /// How the API is served.
    #[command(flatten)]
    pub edge: Edge,
    /// How connections are treated.
    #[command(flatten)]
    pub data_plane: DataPlane,
    /// What a person's own code is to be tried with.
    #[command(flatten)]
    pub rehearsal: Rehearsal,
}

/// A command's configuration file.
#[derive(Clone, Debug, Default, Args)]
pub struct FileArgs {
    /// A file with any of these settings, by the names of their flags; see --print-config-file. Flags and environment
    /// variables are stronger.
    #[arg(long, env = "ADIT_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print a configuration file with every setting at its default, and exit.
    #[arg(long)]
    pub print_config_file: bool,
}

/// What region it is.
#[derive(Clone, Debug, Default, Args)]
pub struct RegionArgs {
    /// The region's name, in place of the region file's.
    #[arg(long, env = "ADIT_REGION", value_name = "NAME")]
    pub region: Option<String>,
    /// Who exists, with which quotas and networks; see --print-region-file.
    #[arg(long, env = "ADIT_REGION_FILE", value_name = "FILE")]
    pub region_file: Option<PathBuf>,
    /// Print the built-in region file, to copy and change, and exit.
    #[arg(long)]
    pub print_region_file: bool,
    /// Serve the documented VPCEP v1 alone: without what only Huawei's API has (rename, batch permissions, v2 and so on).
    #[arg(
        long, env = "ADIT_NO_SUPERSET",
        action = ArgAction::Set, num_args = 0..=1, require_equals = true, value_name = "BOOL",
        default_value = "false", default_missing_value = "true", value_parser = BoolishValueParser::new(),
        hide_default_value = true
    )]
    pub no_superset: bool,
}

/// Run the control plane.
#[derive(Debug, Args)]
pub struct Api {
    /// The address that the API is served on.
    #[arg(long, env = "ADIT_LISTEN", default_value = "127.0.0.1:7117")]
    pub listen: SocketAddr,
    /// Where this process keeps its files [default: $XDG_STATE_HOME/adit or ~/.local/state/adit].
    #[arg(long, env = "ADIT_DATA", value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Where state is kept: `redb:PATH`, a file for one process; or `etcd:http://HOST:PORT,…` (or `https`), the members of an
    /// etcd for any number of processes [default: a file in the data directory].
    #[arg(long, env = "ADIT_STORE", value_name = "STORE")]
    pub store: Option<Location>,
    /// How etcd is reached.
    #[command(flatten)]
    pub etcd: EtcdArgs,
    /// What region it is.
    #[command(flatten)]
    pub region: RegionArgs,
    /// Where gateways come to.
    #[command(flatten)]
    pub nodes: NodeArgs,
    /// How the API is served.
    #[command(flatten)]
    pub edge: Edge,
    /// How long the process that runs the reconcilers may be silent before another one on the same etcd takes over: 2s to 60s. etcd
    /// makes less than one and a half of its election time-outs longer.
    #[arg(
        long, env = "ADIT_LEADER_LEASE", value_name = "DURATION", default_value = "5s", value_parser = lease,
        hide_short_help = true
    )]
    pub leader_lease: Duration,
    /// What endpoints get.
    #[command(flatten)]
    pub terms: Terms,
    /// Where else settings come from.
    #[command(flatten)]
    pub file: FileArgs,
}

/// Reads how long a lease is: whole seconds, which are etcd's.
fn lease(text: &str) -> Result<Duration, String> {
    let lease = duration(text)?;
    let seconds = (2..=60).contains(&lease.as_secs()) && lease.subsec_nanos() == 0;
    seconds
        .then_some(lease)
        .ok_or_else(|| "it is not whole seconds, 2s to 60s".to_owned())
}

/// How the API is served.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Serving")]
pub struct Edge {
    /// Serve HTTPS with a certificate that is made for this machine and kept in the data directory.
    #[arg(
        long, env = "ADIT_TLS", conflicts_with_all = ["tls_cert", "tls_key"],
        default_value = "off", hide_default_value = true
    )]
    pub tls: TlsMode,
    /// Serve HTTPS with the certificate in this file: PEM, its chain following it. Read again at SIGHUP.
    #[arg(long, env = "ADIT_TLS_CERT", value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// The certificate's private key, PEM.
    #[arg(long, env = "ADIT_TLS_KEY", value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// Serve plain HTTP on an address that others reach, too. Tokens and passwords are sent in the clear.
    #[arg(
        long, env = "ADIT_ALLOW_PLAIN_HTTP",
        action = ArgAction::Set, num_args = 0..=1, require_equals = true, value_name = "BOOL",
        default_value = "false", default_missing_value = "true", value_parser = BoolishValueParser::new(),
        hide_default_value = true
    )]
    pub allow_plain_http: bool,
    /// Serve /metrics, /healthz and /readyz on this address, to everybody who reaches it. Without it, /metrics is beside the
    /// API, for clients on this machine alone.
    #[arg(long, env = "ADIT_METRICS_LISTEN", value_name = "ADDRESS")]
    pub metrics_listen: Option<SocketAddr>,
    /// Where each attempt to change something is recorded, refused ones included, as JSON lines in CADF's terms: a file that is
    /// appended to, and opened anew at SIGHUP, or - for standard output.
    #[arg(long, env = "ADIT_AUDIT_LOG", value_name = "FILE")]
    pub audit_log: Option<Sink>,
    /// How many requests may be in progress; a further one waits a moment, and then is answered 504.
    #[arg(
        long,
        env = "ADIT_HTTP_REQUESTS_MAX",
        value_name = "N",
        default_value = "1024",
        hide_short_help = true
    )]
    pub http_requests_max: NonZeroUsize,
    /// How many requests that read a project may send per second; 0 is no limit.
    #[arg(
        long,
        env = "ADIT_RATE_READS",
        value_name = "N",
        default_value = "0",
        hide_short_help = true
    )]
    pub rate_reads: u32,
    /// How many requests that write a project may send per second; 0 is no limit.
    #[arg(
        long,
        env = "ADIT_RATE_WRITES",
        value_name = "N",
        default_value = "0",
        hide_short_help = true
    )]
    pub rate_writes: u32,
    /// How many requests without good credentials may come from one address per minute; 0 is no limit.
    #[arg(
        long,
        env = "ADIT_RATE_FAILED_LOGINS",
        value_name = "N",
        default_value = "0",
        hide_short_help = true
    )]
    pub rate_failed_logins: u32,
    /// How long a client may take to send the head of a request.
    #[arg(
        long, env = "ADIT_HTTP_HEAD_TIMEOUT", value_name = "DURATION", default_value = "15s", value_parser = duration,
        hide_short_help = true
    )]
    pub http_head_timeout: Duration,
    /// How long a client may take to send the body of a request.
    #[arg(
        long, env = "ADIT_HTTP_BODY_TIMEOUT", value_name = "DURATION", default_value = "15s", value_parser = duration,
        hide_short_help = true
    )]
    pub http_body_timeout: Duration,
    /// How long a connection is kept for a further request.
    #[arg(
        long, env = "ADIT_HTTP_IDLE_TIMEOUT", value_name = "DURATION", default_value = "120s", value_parser = duration,
        hide_short_help = true
    )]
    pub http_idle_timeout: Duration,
    /// How long a client may take nothing of its reply.
    #[arg(
        long, env = "ADIT_HTTP_STALL_TIMEOUT", value_name = "DURATION", default_value = "30s", value_parser = duration,
        hide_short_help = true
    )]
    pub http_stall_timeout: Duration,
}

impl Default for Edge {
    /// What the command line says where nothing is said.
    fn default() -> Self {
        let patience = Patience::default();
        Self {
            tls: TlsMode::Off,
            tls_cert: None,
            tls_key: None,
            allow_plain_http: false,
            metrics_listen: None,
            audit_log: None,
            http_requests_max: const { NonZeroUsize::new(1024).unwrap() },
            rate_reads: 0,
            rate_writes: 0,
            rate_failed_logins: 0,
            http_head_timeout: patience.head,
            http_body_timeout: patience.body,
            http_idle_timeout: patience.idle,
            http_stall_timeout: patience.stall,
        }
    }
}

/// Reads a duration: `30s`, `1m 30s`, `250ms`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let read = text.parse::<jiff::SignedDuration>().map_err(|e| e.to_string())?;
    Duration::try_from(read).map_err(|_| "it is negative".to_owned())
}

/// What a person's own code is to be tried with.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "For testing your own code")]
pub struct Rehearsal {
    /// How long services and endpoints stay `creating` at least, before they are `available` or `accepted`.
    #[arg(long, env = "ADIT_DELAY", value_name = "DURATION", default_value = "0s", value_parser = duration)]
    pub delay: Duration,
    /// A failure on purpose: OPERATION:EFFECT, or OPERATION:EFFECT:TIMES. The operation by its id in /openapi.json; the effect
    /// is a status (`endpoint_create:500:2`), a code (`service_list:EndPoint.0022`), or `failed`: what is made becomes failed.
    #[arg(long, env = "ADIT_FAIL", value_name = "FAILURE", value_delimiter = ',')]
    pub fail: Vec<Planned>,
    /// A quota of every project, in place of the region file's: `endpoints=5`, `endpoint_services=3`.
    #[arg(long, env = "ADIT_QUOTA", value_name = "QUOTA", value_delimiter = ',', value_parser = quota)]
    pub quota: Vec<(QuotaType, u32)>,
}

/// Reads a quota: `endpoints=5`.
fn quota(text: &str) -> Result<(QuotaType, u32), String> {
    let words = || {
        QuotaType::ALL
            .iter()
            .map(|kind| format!("{kind}s"))
            .collect::<Vec<_>>()
            .join(" or ")
    };
    let (kind, number) = text
        .split_once('=')
        .ok_or_else(|| format!("it is not of the form {}=NUMBER", words()))?;
    let kind = QuotaType::from_wire(kind.strip_suffix('s').unwrap_or(kind));
    let kind = kind.ok_or_else(|| format!("a quota is of {}", words()))?;
    let number = number.parse().ok().filter(|n| *n <= QUOTA_MAX);
    let number = number.ok_or_else(|| format!("a quota is an integer in 0..={QUOTA_MAX}"))?;
    Ok((kind, number))
}

/// Where a certificate comes from that no file was named for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum TlsMode {
    /// From nowhere: plain HTTP.
    #[default]
    Off,
    /// Made by the region itself; clients have to be told to trust it.
    SelfSigned,
}

impl Dev {
    /// A region on any free port of the loopback that keeps nothing.
    pub fn passing() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            data: None,
            ephemeral: true,
            region: RegionArgs::default(),
            no_gateway: false,
            edge: Edge::default(),
            // What listens in it is looked at by whoever made it.
            data_plane: DataPlane {
                work: Work {
                    probe_period_s: 0,
                    ..Work::default()
                },
                ..DataPlane::default()
            },
            rehearsal: Rehearsal::default(),
            file: FileArgs::default(),
        }
    }
}

/// Show the main job.
#[derive(Debug, Args)]
pub struct Demo {
    /// Print the result as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Run a command inside a port.
#[derive(Debug, Args)]
pub struct Exec {
    /// The region's data directory [default: as for `adit dev`].
    #[arg(long, env = "ADIT_DATA", value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// The port (a server's interface, a load balancer's port).
    #[arg(long, value_name = "ID")]
    pub port: uuid::Uuid,
    /// The command and its arguments.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub command: Vec<std::ffi::OsString>,
}

/// Say who that was.
#[derive(Debug, Args)]
pub struct Who {
    /// What the backend saw, such as 198.19.140.7:41001.
    #[arg(value_name = "ADDRESS:PORT")]
    pub source: SocketAddrV4,
    /// When, such as 2026-11-25T22:46:00Z, which is the whole of that second, or with fractions of it [default: now, or else the
    /// last time].
    #[arg(long, value_name = "TIME")]
    pub at: Option<Moment>,
    /// The region's data directory [default: as for `adit dev`].
    #[arg(long, env = "ADIT_DATA", value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// A connection log to look in, with its former files (FILE.1 and so on); may be repeated [default: the running region's].
    #[arg(long, value_name = "FILE")]
    pub connection_log: Vec<PathBuf>,
    /// The form of what is printed.
    #[arg(long, short, default_value = "table")]
    pub output: Output,
}

/// The form of what is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Table,
    /// For programs.
    Json,
}

/// Let servers see the client's address.
#[derive(Debug, Args)]
pub struct ToaReceiver {
    /// Whom to believe: the option is passed over on connections from anywhere else. Nobody but the relay may be able to send
    /// from these addresses.
    #[arg(long, value_name = "CIDR", default_value_t = adit_model::network::RESERVED)]
    pub believe: ipnet::Ipv4Net,
    /// The option's kind, 35 to 255.
    #[arg(
        long, value_name = "KIND", default_value_t = adit_relay::toa::KIND_DEFAULT,
        value_parser = clap::value_parser!(u8).range(35..)
    )]
    pub kind: u8,
    /// The cgroup of the servers, a directory of cgroup2; stays attached to it until it is ended.
    #[arg(
        long,
        value_name = "DIR",
        required_unless_present = "command",
        conflicts_with = "command"
    )]
    pub cgroup: Option<PathBuf>,
    /// A server and its arguments, to be run in a cgroup of its own; ends when the server and all that it started have.
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<std::ffi::OsString>,
}
