//! What a person can say of gateways: as processes of their own, and where a control plane lets them come to.

use std::{net::SocketAddr, path::PathBuf};

use adit_gateway::control::ControlUrl;
use adit_model::node::NodeName;
use clap::{ArgAction, Args, Subcommand, ValueEnum, builder::BoolishValueParser};

use super::{FileArgs, Output};
use crate::{
    admin::args::{AccessArgs, Output as AdminOutput},
    data_plane::Work,
    pattern::Pattern,
};

/// Where gateways come to.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Gateways")]
pub struct NodeArgs {
    /// The address that gateways come to; with the API's certificate, where it has one.
    #[arg(
        long,
        env = "ADIT_NODE_LISTEN",
        value_name = "ADDRESS",
        default_value = "127.0.0.1:7118"
    )]
    pub node_listen: SocketAddr,
    /// The file with the secret that gateways have to show; made where it is missing [default: node-token in the data
    /// directory, and no secret with --node-client-ca].
    #[arg(long, env = "ADIT_NODE_TOKEN_FILE", value_name = "FILE")]
    pub node_token_file: Option<PathBuf>,
    /// The authorities whose certificates gateways have to show, PEM; a gateway's name has to be one of its certificate's
    /// alternative names (DNS). Read again at SIGHUP. With --node-token-file they have to show its secret, too.
    #[arg(long, env = "ADIT_NODE_CLIENT_CA", value_name = "FILE")]
    pub node_client_ca: Option<PathBuf>,
    /// Where the other `adit api` of an etcd reach --node-listen, to ask what gateways say while this one leads [default: its
    /// address; where that is every address, the one that leads to etcd].
    #[arg(long, env = "ADIT_NODE_URL", value_name = "URL")]
    pub node_url: Option<ControlUrl>,
}

/// Gateways.
#[derive(Debug, Subcommand)]
pub enum Gateway {
    /// Say what a gateway can do on this machine: which modes of `tcp_proxy`, and why not the others.
    ///
    /// Looks at the kernel, namespaces and limits, and tries TOA on a loopback of its own; changes nothing. The exit status is
    /// 0 where a gateway can serve anything at all.
    Check(GatewayCheck),
    /// Serve endpoints on this machine, as a control plane says (`adit api`), until a signal ends it.
    ///
    /// VPCs are namespaces that are there already: named by a pattern (--namespaces), or made by `adit networks` (--networks). While
    /// no control plane answers it serves what it was told last, also after its own restart.
    Run(Box<GatewayRun>),
    /// Take all endpoints off a gateway, each once another gateway listens for it; its connections are cut then.
    ///
    /// Waits until it has none, and may be stopped without anybody's noticing. Ended before, it goes on by itself: `adit gateways`
    /// says when it is `drained`.
    Drain(Box<GatewayDrain>),
    /// Forget a gateway that is away and will not come back: `adit gateways` lists it no more.
    ///
    /// Its part of the source addresses may be another gateway's from then on, so stop it for good before: one that still runs, cut
    /// off from the control plane, would go on using them.
    Forget(Box<GatewayForget>),
}

/// List gateways.
#[derive(Debug, Args)]
pub struct Gateways {
    /// A table for people, or JSON for programs.
    #[arg(short, long, value_name = "FORM", default_value = "table")]
    pub output: AdminOutput,
    /// Which region, and as whom.
    #[command(flatten)]
    pub access: AccessArgs,
}

/// Drain a gateway.
#[derive(Debug, Args)]
pub struct GatewayDrain {
    /// Its name.
    pub name: String,
    /// Let it have its share of the endpoints again.
    #[arg(long)]
    pub undo: bool,
    /// Do not wait until it has no endpoints any more.
    #[arg(long, conflicts_with = "undo")]
    pub no_wait: bool,
    /// A table for people, or JSON for programs.
    #[arg(short, long, value_name = "FORM", default_value = "table")]
    pub output: AdminOutput,
    /// Which region, and as whom.
    #[command(flatten)]
    pub access: AccessArgs,
}

/// Forget a gateway.
#[derive(Debug, Args)]
pub struct GatewayForget {
    /// Its name.
    pub name: String,
    /// A table for people, or JSON for programs.
    #[arg(short, long, value_name = "FORM", default_value = "table")]
    pub output: AdminOutput,
    /// Which region, and as whom.
    #[command(flatten)]
    pub access: AccessArgs,
}

/// Serve endpoints on this machine.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("vpcs").required(true).args(["networks", "namespaces"]))]
pub struct GatewayRun {
    /// This gateway's name, its own among all: 1 to 63 of a-z 0-9 - and dots.
    #[arg(long, env = "ADIT_NODE", value_name = "NAME", value_parser = node)]
    pub node: NodeName,
    /// The control plane.
    #[command(flatten)]
    pub control: ControlArgs,
    /// Where this gateway keeps what it was told last.
    #[arg(long, env = "ADIT_STATE", value_name = "DIR")]
    pub state: PathBuf,
    /// Take over from the gateway that runs on --state, if one does: its listeners, without one refused connection. Its own connections
    /// go on there for --stop-drain-s.
    #[arg(
        long, env = "ADIT_TAKE_OVER",
        action = ArgAction::Set, num_args = 0..=1, require_equals = true, value_name = "BOOL",
        default_value = "false", default_missing_value = "true", value_parser = BoolishValueParser::new(),
        hide_default_value = true
    )]
    pub take_over: bool,
    /// The directory of the `adit networks` on this machine that makes the VPCs.
    #[arg(long, env = "ADIT_NETWORKS", value_name = "DIR")]
    pub networks: Option<PathBuf>,
    /// The names of VPCs' namespaces here (as `ip netns` lists them): {vpc} stands for the VPC's id, {hash} for eight digits of
    /// its hash. Neutron's are qrouter-{vpc}.
    #[arg(long, env = "ADIT_NAMESPACES", value_name = "PATTERN")]
    pub namespaces: Option<Pattern>,
    /// What to do that no control plane answers: `hold` goes on, and leaves an address to whoever else announces it; `fence` ends
    /// all service after two seconds, before another gateway takes over, until one answers.
    #[arg(
        long,
        env = "ADIT_ON_CONTROL_LOSS",
        value_name = "WHAT",
        value_enum,
        default_value = "hold"
    )]
    pub on_control_loss: OnControlLoss,
    /// Serve /metrics, /healthz and /readyz on this address, to everybody who reaches it. Without it, `adit top --data` reads
    /// the same over the socket in --state.
    #[arg(long, env = "ADIT_METRICS_LISTEN", value_name = "ADDRESS")]
    pub metrics_listen: Option<SocketAddr>,
    /// How it works.
    #[command(flatten)]
    pub work: Work,
    /// Where else settings come from.
    #[command(flatten)]
    pub file: FileArgs,
}

/// What a gateway does that no control plane answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OnControlLoss {
    /// It goes on.
    Hold,
    /// It stops.
    Fence,
}

impl From<OnControlLoss> for adit_gateway::OnControlLoss {
    fn from(said: OnControlLoss) -> Self {
        match said {
            OnControlLoss::Hold => Self::Hold,
            OnControlLoss::Fence => Self::Fence,
        }
    }
}

/// Make a region's networks on this machine.
#[derive(Debug, Args)]
pub struct Networks {
    /// The control plane.
    #[command(flatten)]
    pub control: ControlArgs,
    /// Where it keeps its files; what `adit gateway run --networks` and `adit exec --data` name.
    #[arg(long, env = "ADIT_STATE", value_name = "DIR")]
    pub state: PathBuf,
    /// Where else settings come from.
    #[command(flatten)]
    pub file: FileArgs,
}

/// A control plane of other processes.
#[derive(Clone, Debug, Args)]
pub struct ControlArgs {
    /// Where gateways come to: the --node-listen of each `adit api`, as http://HOST:PORT or https://HOST:PORT.
    #[arg(
        long,
        env = "ADIT_CONTROL",
        value_name = "URL",
        value_delimiter = ',',
        required = true
    )]
    pub control: Vec<ControlUrl>,
    /// The certificates to trust there, PEM: for https. Read again for every connection, as the next two.
    #[arg(long, env = "ADIT_CONTROL_CACERT", value_name = "FILE")]
    pub control_cacert: Option<PathBuf>,
    /// The certificate to show there, PEM, its chain following it: of an authority of --node-client-ca.
    #[arg(
        long,
        env = "ADIT_CONTROL_CERT",
        value_name = "FILE",
        requires_all = ["control_key", "control_cacert"]
    )]
    pub control_cert: Option<PathBuf>,
    /// That certificate's private key, PEM.
    #[arg(
        long,
        env = "ADIT_CONTROL_KEY",
        value_name = "FILE",
        requires = "control_cert"
    )]
    pub control_key: Option<PathBuf>,
    /// The file with the nodes' secret: `adit api` makes it, node-token in its data directory.
    #[arg(
        long,
        env = "ADIT_NODE_TOKEN_FILE",
        value_name = "FILE",
        required_unless_present = "control_cert"
    )]
    pub node_token_file: Option<PathBuf>,
}

/// Reads a gateway's name.
fn node(text: &str) -> Result<NodeName, String> {
    let form = "it is not 1 to 63 of a-z 0-9 - and dots, a letter or digit first";
    text.parse().map_err(|_| form.to_owned())
}

/// Say what a gateway can do on this machine.
#[derive(Debug, Args)]
pub struct GatewayCheck {
    /// A table for people, or JSON for programs.
    #[arg(short, long, value_name = "FORM", default_value = "table")]
    pub output: Output,
    /// The kind of the TCP option that TOA is in, 35 to 255.
    #[arg(
        long, env = "ADIT_TOA_KIND", value_name = "KIND", default_value_t = adit_relay::toa::KIND_DEFAULT,
        value_parser = clap::value_parser!(u8).range(35..)
    )]
    pub toa_kind: u8,
}
