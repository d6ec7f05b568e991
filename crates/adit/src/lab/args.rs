//! What a person can say after `adit lab`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::plan::Side;

/// Make many machines on this one, and break them.
#[derive(Debug, Args)]
pub struct LabArgs {
    /// The lab's directory: what is known of it, its logs and its machines' disks [default: $XDG_STATE_HOME/adit-lab or
    /// ~/.local/state/adit-lab].
    #[arg(long, global = true, env = "ADIT_LAB", value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// What to do.
    #[command(subcommand)]
    pub what: What,
}

/// What to do with a lab.
#[derive(Debug, Subcommand)]
pub enum What {
    /// Bring the lab up: three members of etcd, three control planes, three gateways, two VPCs, a backend and clients.
    ///
    /// Each machine is a network namespace with a real process in it. Takes some seconds, says what it does, and prints what there is and what
    /// to try. One service and one endpoint to it are there then.
    Up(Up),
    /// Show the machines: what their processes do, what is cut, which gateway serves what, and who answers for the endpoint.
    Status(Status),
    /// Kill a machine's process (SIGKILL).
    Kill(Machine),
    /// Stop a machine's process (SIGSTOP): it does nothing, and keeps what it holds.
    Stop(Machine),
    /// Let a stopped process go on (SIGCONT).
    Cont(Machine),
    /// Start a machine's process again.
    Start(Machine),
    /// Cut a machine's links: they stay up, and what is sent over them is lost.
    Cut(Cut),
    /// Mend them.
    Mend(Cut),
    /// Fill a machine's disk up (`up --small-disks`).
    Fill(Machine),
    /// Make room on it again.
    Free(Machine),
    /// Run a command inside a machine, a client or the backend; `gateway-1.consumer` is a gateway's part of that VPC, `fabric` has the
    /// bridges.
    Exec(Exec),
    /// End and remove everything, whatever state it is in.
    Down,
    /// Try every failure in a lab of its own, under load, and print what clients saw, what was lost (nothing may be), and how soon it was
    /// over.
    ///
    /// Every kind of process is killed, stopped, cut off, and given a full disk, while clients create, read and delete through every control
    /// plane, connect through the endpoint all the time, and ask who has its address. Then gateways are killed over and over, and endpoints
    /// created. Takes about ten minutes; the exit status is 0 where everything came back and nothing that was answered was lost.
    #[command(
        after_help = "Examples:\n  adit lab matrix > failures.md\n  adit lab matrix --only 'gateway' --failovers 0 --endpoints 0\n  \
        adit lab matrix --list"
    )]
    Matrix(Matrix),
    /// The backend's process.
    #[command(hide = true)]
    Serve {
        /// Where it listens.
        #[arg(long)]
        port: u16,
    },
}

/// How the lab is to be.
#[derive(Debug, Args)]
pub struct Up {
    /// Members of etcd.
    #[arg(long, value_name = "COUNT", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=5))]
    pub etcd: u8,
    /// Control planes.
    #[arg(long, value_name = "COUNT", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=5))]
    pub api: u8,
    /// Gateways.
    #[arg(long, value_name = "COUNT", default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=3))]
    pub gateways: u8,
    /// Give each machine a disk of its own, in memory, so that `adit lab fill` can fill it up.
    #[arg(long)]
    pub small_disks: bool,
}

/// How to show it.
#[derive(Debug, Args)]
pub struct Status {
    /// A table for people, or JSON for programs.
    #[arg(short, long, value_name = "FORM", default_value = "table")]
    pub output: Output,
}

/// Which failures.
#[derive(Debug, Args)]
pub struct Matrix {
    /// Only failures whose name holds this.
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub only: String,
    /// Name them, and do nothing.
    #[arg(long)]
    pub list: bool,
    /// How often the gateway that serves is killed, for the times.
    #[arg(long, value_name = "COUNT", default_value_t = 20)]
    pub failovers: usize,
    /// How many endpoints are created, for the times to the first byte.
    #[arg(long, value_name = "COUNT", default_value_t = 100)]
    pub endpoints: usize,
    /// A table in Markdown, or JSON for programs.
    #[arg(short, long, value_name = "FORM", default_value = "table")]
    pub output: Output,
}

/// How to show things.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Table,
    /// For programs.
    Json,
}

/// One machine.
#[derive(Debug, Args)]
pub struct Machine {
    /// Its name, as `adit lab status` lists it.
    pub name: String,
}

/// Links of a machine.
#[derive(Debug, Args)]
pub struct Cut {
    /// Its name, as `adit lab status` lists it.
    pub name: String,
    /// A gateway's links to the other machines alone, or to the tenants' VPCs alone.
    #[arg(long, value_name = "SIDE")]
    pub from: Option<Side>,
}

/// A command inside.
#[derive(Debug, Args)]
pub struct Exec {
    /// Where, as `adit lab status` lists it.
    pub name: String,
    /// The command.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub command: Vec<String>,
}
