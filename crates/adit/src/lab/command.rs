//! `adit lab` as a person runs it: what it does is [`Lab`]'s, what it says is here.

use std::{
    io::{self, Write as _},
    net::{SocketAddr, SocketAddrV4, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use adit_cloud::kernel::exec::{self, ExecError};
use adit_model::error_chain;
use adit_netns::Directory;
use serde_json::{Value, json};

use super::{
    Kind, Lab, LabError, Shape, Wish,
    args::{Exec, LabArgs, Matrix, Output, Up, What},
    plan::{CONSUMER, SERVER_PORT},
    record::Endpoint,
    serve,
    tenants::Tenants,
    trial::{cells, failover, report::Report, run::Trial},
};
use crate::terminal::{self, quoted};

/// How long the API may take to say what it sees, where one may be down.
const LOOK_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a connection through the endpoint may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Where a person's requests come from.
const DESK: &str = "desk";
/// Who connects.
const CLIENT: &str = "client-1";

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The lab.
    #[error(transparent)]
    Lab(#[from] LabError),
    /// A command inside.
    #[error(transparent)]
    Exec(ExecError),
    /// The system.
    #[error("the system refuses what a lab needs")]
    System(#[from] io::Error),
}

impl Error {
    /// The exit status, as a shell gives it.
    #[must_use]
    pub fn status(&self) -> u8 {
        match self {
            Self::Exec(ExecError::Start { source, .. }) if source.kind() == io::ErrorKind::NotFound => 127,
            Self::Exec(ExecError::Start { .. }) => 126,
            _ => 1,
        }
    }
}

/// Where a lab is that no directory is named for.
fn default_directory() -> PathBuf {
    crate::data::default_path().with_file_name("adit-lab")
}

/// Does as told; answers whether all was well.
///
/// # Errors
/// By what is missing.
pub fn run(args: LabArgs) -> Result<bool, Error> {
    let directory = args.dir.clone().unwrap_or_else(default_directory);
    let find = || Lab::find(&directory);
    match args.what {
        What::Up(up) => bring_up(&directory, &up)?,
        What::Status(status) => show(&mut find()?, status.output),
        What::Kill(machine) => find()?.kill(&machine.name)?,
        What::Stop(machine) => find()?.stop(&machine.name)?,
        What::Cont(machine) => find()?.cont(&machine.name)?,
        What::Start(machine) => find()?.start(&machine.name)?,
        What::Cut(cut) => find()?.cut(&cut.name, cut.from)?,
        What::Mend(cut) => find()?.mend(&cut.name, cut.from)?,
        What::Fill(machine) => find()?.fill(&machine.name)?,
        What::Free(machine) => find()?.free(&machine.name)?,
        What::Exec(exec) => return Err(Error::Exec(become_command(&find()?, exec)?)),
        What::Down => match find() {
            // Nothing is there to be removed.
            Err(LabError::None(_)) => terminal::print("There is no lab.\n"),
            lab => {
                lab?.down()?;
                terminal::print("Everything of the lab is gone.\n");
            }
        },
        What::Serve { port } => serve::run(port)?,
        What::Matrix(matrix) => return Ok(try_all(args.dir.as_deref(), &matrix)?),
    }
    Ok(true)
}

/// Tries the failures, in a lab of its own unless a directory is named.
fn try_all(directory: Option<&Path>, matrix: &Matrix) -> Result<bool, LabError> {
    let chosen = cells::all()
        .into_iter()
        .filter(|cell| cell.to_string().contains(&matrix.only));
    let chosen: Vec<_> = chosen.collect();
    if matrix.list {
        let names: String = chosen.iter().map(|cell| format!("{cell}\n")).collect();
        terminal::print(&names);
        return Ok(true);
    }
    let own = || std::env::temp_dir().join(format!("adit-matrix-{}", std::process::id()));
    let directory = directory.map_or_else(own, Path::to_owned);
    let mut tell = |line: &str| terminal::warn(line);
    tell(&format!(
        "A lab of its own, in {0} (where this is broken off: adit lab --dir {0} down)",
        quoted(&directory)
    ));
    let mut report = Report::default();
    let tried = Trial::start(&directory, &mut tell).and_then(|mut trial| {
        let tried = try_in(&mut trial, &chosen, matrix, &mut report, &mut tell);
        trial.end().and(tried)
    });
    if let Err(e) = tried {
        report.broken_off = Some(error_chain(&e));
        if let Ok(lab) = Lab::find(&directory) {
            lab.down()?;
        }
    }
    let text = match matrix.output {
        Output::Table => report.markdown(),
        Output::Json => serde_json::to_string_pretty(&report).unwrap_or_default() + "\n",
    };
    terminal::print(&text);
    Ok(report.is_well())
}

fn try_in(
    trial: &mut Trial,
    chosen: &[cells::Cell],
    matrix: &Matrix,
    report: &mut Report,
    tell: &mut dyn FnMut(&str),
) -> Result<(), LabError> {
    for (n, cell) in (1..).zip(chosen) {
        tell(&format!("{n} of {}: {cell} …", chosen.len()));
        let outcome = trial.fail(*cell)?;
        if !outcome.is_well() {
            tell(&format!(
                "NOT WELL: {:?} {:?}",
                outcome.not_recovered, outcome.lost
            ));
        }
        report.cells.push(outcome);
    }
    report.promised = trial
        .callers
        .take()
        .map(|callers| callers.promised())
        .unwrap_or_default();
    if matrix.failovers > 0 {
        report.failovers = Some(failover::failovers(trial, matrix.failovers, tell)?);
    }
    if matrix.endpoints > 0 {
        tell(&format!("{} endpoints, one after the other …", matrix.endpoints));
        report.first_byte = Some(failover::first_bytes(trial, matrix.endpoints)?);
    }
    Ok(())
}

fn bring_up(directory: &Path, up: &Up) -> Result<(), Error> {
    let started = Instant::now();
    let wish = Wish {
        directory: directory.to_owned(),
        program: std::env::current_exe()?,
        shape: Shape {
            etcd: up.etcd,
            api: up.api,
            gateway: up.gateways,
        },
        small_disks: up.small_disks,
    };
    let mut tell = |line: &str| terminal::warn(line);
    tell(&format!(
        "A lab in {0} (where this is broken off: adit lab --dir {0} down)",
        quoted(directory)
    ));
    let mut lab = Lab::up(&wish, &mut tell)?;
    furnish(&mut lab, &mut tell)?;
    let endpoint = lab.record().endpoint.clone();
    if let Some(endpoint) = endpoint {
        terminal::print(&introduction(&lab, &endpoint, directory, started.elapsed()));
    }
    Ok(())
}

/// Makes a service and an endpoint to it, and waits until every gateway has its share.
///
/// # Errors
/// What the API said.
pub fn furnish(lab: &mut Lab, tell: &mut dyn FnMut(&str)) -> Result<(), LabError> {
    let (urls, gateways) = (lab.plan().apis(), lab.plan().of(Kind::Gateway).count());
    tell("Waiting until every gateway has its share …");
    let mut tenants = ask(lab, || {
        let mut tenants = Tenants::login(&urls)?;
        tenants.placed(gateways)?;
        Ok(tenants)
    })?;
    tell("Making a service, and an endpoint to it …");
    let endpoint = ask(lab, move || {
        let service = tenants.publish()?;
        tenants.connect(&service)
    })?;
    lab.show(endpoint)
}

/// Does something from the desk.
///
/// # Errors
/// What it says.
pub fn ask<T: Send>(lab: &Lab, what: impl FnOnce() -> Result<T, String> + Send) -> Result<T, LabError> {
    let asked = lab.namespace(DESK)?.run(what);
    asked
        .map_err(|e| LabError::Api(e.to_string()))?
        .map_err(LabError::Api)
}

fn become_command(lab: &Lab, exec: Exec) -> Result<ExecError, Error> {
    let namespace = lab.namespace(&exec.name)?;
    let mut words = exec.command.into_iter();
    let mut command = Command::new(words.next().unwrap_or_default());
    command.args(words);
    let directory = Directory::at(Directory::SYSTEM).map_err(|e| LabError::Fabric(e.into()))?;
    Ok(exec::replace(&directory, namespace.name(), &mut command))
}

/// What is seen of a lab.
struct Seen {
    machines: Vec<Value>,
    gateways: Result<Vec<Value>, String>,
    endpoint: Option<Value>,
}

fn look(lab: &mut Lab) -> Seen {
    let machines = lab
        .plan()
        .places
        .iter()
        .map(|place| machine(lab, place))
        .collect();
    let urls = lab.plan().apis();
    let gateways = ask(lab, || {
        Tenants::operator(&urls, LOOK_TIMEOUT)?.gateways(LOOK_TIMEOUT)
    });
    let endpoint = lab.record().endpoint.clone();
    Seen {
        machines,
        gateways: gateways.map_err(|e| e.to_string()),
        endpoint: endpoint.map(|endpoint| who_answers(lab, &endpoint)),
    }
}

fn machine(lab: &Lab, place: &super::plan::Place) -> Value {
    let addresses: Vec<_> = place
        .links
        .iter()
        .map(|link| format!("{} ({})", link.address.addr(), link.bridge))
        .collect();
    let started = lab.record().started.get(&place.name);
    let cut: Vec<_> = lab.record().cut.get(&place.name).into_iter().flatten().collect();
    json!({
        "name": place.name, "kind": place.kind, "addresses": addresses,
        "pid": started.map(|started| started.pid), "state": lab.state(&place.name),
        "cut": cut, "disk_full": lab.is_full(&place.name),
    })
}

/// Connects through the endpoint from the client's VPC, and says whose MAC address the client sent to.
fn who_answers(lab: &Lab, endpoint: &Endpoint) -> Value {
    let to = SocketAddr::from(SocketAddrV4::new(endpoint.ip, SERVER_PORT));
    let attempt = || {
        let carried = carries(&to);
        // Each thread's own namespace; `/proc/net` is that of the process.
        (carried, std::fs::read_to_string("/proc/thread-self/net/arp"))
    };
    let inside = lab.namespace(CLIENT).map(|inside| inside.run(attempt));
    let Ok(Ok((carried, Ok(table)))) = inside else {
        return json!({"ip": endpoint.ip, "error": "the client's namespace cannot be looked into"});
    };
    let ip = endpoint.ip.to_string();
    let line = table
        .lines()
        .find(|line| line.split_whitespace().next() == Some(&ip));
    let mac = line.and_then(|line| line.split_whitespace().nth(3));
    let links = lab.plan().of(Kind::Gateway).flat_map(|place| {
        let links = place.links.iter().filter(|link| link.bridge == CONSUMER.name);
        links.map(|link| {
            (
                place.name.clone(),
                link.mac.map(|byte| format!("{byte:02x}")).join(":"),
            )
        })
    });
    let by = links.into_iter().find(|(_, its)| Some(its.as_str()) == mac);
    let error = carried.err().map(|e| e.to_string());
    json!({"id": endpoint.id, "service": endpoint.service, "ip": endpoint.ip, "port": SERVER_PORT,
        "answers": by.map(|(name, _)| name), "carries": error.is_none(), "error": error})
}

/// Sends four bytes and has them back.
///
/// # Errors
/// What stood in the way.
pub fn carries(to: &SocketAddr) -> io::Result<()> {
    use io::Read as _;
    let mut stream = TcpStream::connect_timeout(to, CONNECT_TIMEOUT)?;
    stream.set_read_timeout(Some(CONNECT_TIMEOUT))?;
    stream.write_all(b"ping")?;
    let mut four = [0; 4];
    stream.read_exact(&mut four)?;
    match &four == b"ping" {
        true => Ok(()),
        false => Err(io::ErrorKind::InvalidData.into()),
    }
}

fn show(lab: &mut Lab, output: Output) {
    let seen = look(lab);
    let text = match output {
        Output::Json => {
            let (gateways, error) = match seen.gateways {
                Ok(gateways) => (Some(gateways), None),
                Err(error) => (None, Some(error)),
            };
            let shown = json!({"machines": seen.machines, "gateways": gateways, "api_error": error,
                "endpoint": seen.endpoint});
            format!("{shown:#}\n")
        }
        Output::Table => table(&seen),
    };
    terminal::print(&text);
}

fn table(seen: &Seen) -> String {
    let word = |value: &Value| match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(all) if all.is_empty() => "-".to_owned(),
        Value::Array(all) => {
            let words: Vec<_> = all.iter().filter_map(Value::as_str).collect();
            words.join(" ")
        }
        other => other.to_string(),
    };
    let row = |cells: [&str; 5]| {
        let [name, state, pid, cut, addresses] = cells;
        format!("{name:<11}{state:<9}{pid:<9}{cut:<17}{addresses}\n")
    };
    let mut text = row(["MACHINE", "PROCESS", "PID", "CUT FROM", "ADDRESSES"]);
    for machine in &seen.machines {
        let mut state = word(&machine["state"]);
        if machine["disk_full"] == true {
            state.push_str(", disk full");
        }
        text += &row([
            &word(&machine["name"]),
            &state,
            &word(&machine["pid"]),
            &word(&machine["cut"]),
            &word(&machine["addresses"]),
        ]);
    }
    text.push('\n');
    match &seen.gateways {
        Ok(gateways) => {
            for gateway in gateways {
                text += &format!(
                    "{} is {}: {} shards of 4096, {} endpoint(s), {} connection(s)\n",
                    word(&gateway["name"]),
                    word(&gateway["status"]),
                    word(&gateway["shards"]),
                    word(&gateway["endpoints"]),
                    word(&gateway["connections"]),
                );
            }
        }
        Err(error) => text += &format!("No control plane says which gateway serves what: {error}\n"),
    }
    if let Some(endpoint) = &seen.endpoint {
        let how = match endpoint["carries"] == true {
            true => "carries bytes".to_owned(),
            false => format!("does not carry bytes: {}", word(&endpoint["error"])),
        };
        let (ip, by) = (word(&endpoint["ip"]), word(&endpoint["answers"]));
        text += &format!("The endpoint {ip}:{SERVER_PORT} {how}; {by} answers for it.\n");
    }
    text
}

fn introduction(lab: &Lab, endpoint: &Endpoint, directory: &Path, took: Duration) -> String {
    let dir = match directory == default_directory() {
        true => String::new(),
        false => format!(" --dir {}", quoted(directory)),
    };
    let lab_ = format!("adit lab{dir}");
    let api = lab.plan().apis().into_iter().next().unwrap_or_default();
    let (ip, service) = (endpoint.ip, &endpoint.service);
    let names = |kind| {
        let names: Vec<_> = lab.plan().of(kind).map(|place| place.name.as_str()).collect();
        names.join(", ")
    };
    format!(
        "The lab is up ({:.1} s).\n\n  Machines  {}; {}; {}; desk, where you work from\n  Provider  {} at {} on port {SERVER_PORT}\n  \
         Consumer  {}\n  Service   {service}\n  Endpoint  {ip}:{SERVER_PORT}, in the consumer's VPC\n  Files     {} (logs/NAME)\n\n\
         Try:\n  \
         {lab_} exec client-1 -- curl -s http://{ip}/            # a byte through the endpoint\n  \
         {lab_} status                                           # who does what, and who answers for the endpoint\n  \
         {lab_} kill gateway-1                                   # or whoever answers; then curl and status again\n  \
         {lab_} start gateway-1\n  \
         {lab_} cut gateway-2 --from control                     # it hears no control plane any more\n  \
         {lab_} mend gateway-2\n  \
         {lab_} kill api-1                                       # the other two answer\n  \
         {lab_} exec desk -- adit gateways --url {} --user operator --password operator-password \\\n      \
         --domain operator-domain --project eu-de_operator\n  \
         {lab_} exec gateway-1.consumer -- ip -br address        # a gateway's part of the consumer's VPC\n  \
         {lab_} down\n",
        took.as_secs_f64(),
        names(Kind::Etcd),
        names(Kind::Api),
        names(Kind::Gateway),
        names(Kind::Backend),
        lab.plan()
            .of(Kind::Backend)
            .flat_map(|place| &place.links)
            .map(|link| link.address.addr().to_string())
            .next()
            .unwrap_or_default(),
        names(Kind::Client),
        lab.files().path().display(),
        lab.plan().apis().get(1).unwrap_or(&api),
    )
}

/// The gateway that answers for the lab's endpoint.
///
/// # Errors
/// Where none does.
pub fn serving(lab: &Lab) -> Result<String, LabError> {
    let endpoint = lab.record().endpoint.clone();
    let seen = endpoint
        .map(|endpoint| who_answers(lab, &endpoint))
        .unwrap_or_default();
    let name = seen["answers"].as_str().filter(|_| seen["carries"] == true);
    name.map(str::to_owned)
        .ok_or_else(|| LabError::Api(format!("nobody answers for the endpoint: {seen}")))
}
