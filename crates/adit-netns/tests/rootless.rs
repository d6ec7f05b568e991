//! What an ordinary user can do: this program runs itself again without root, enters a user namespace and lets two
//! network namespaces talk. It has a `main` of its own, because a user namespace must be entered before any thread.
#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, also in what its tests share"
)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use adit_netns::{Directory, Links, Veth, sysctl, userns};

const NAME: &str = "an_ordinary_user_makes_namespaces_that_talk";

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    match &arguments.iter().map(String::as_str).collect::<Vec<_>>()[1..] {
        ["inside", folder] => inside(folder.as_ref()),
        ["join", pid, folder] => join(pid.parse().unwrap(), folder.as_ref()),
        // What test runners ask.
        args if args.contains(&"--list") => {
            if !args.contains(&"--ignored") {
                println!("{NAME}: test");
            }
        }
        // A name to filter by, as in `cargo test NAME`.
        args if args
            .iter()
            .any(|arg| !arg.starts_with('-') && !NAME.contains(arg)) => {}
        _ => outside(),
    }
}

/// Runs the test as nobody if this is root, else as who this is.
fn outside() {
    let folder = tempfile::tempdir().unwrap();
    // World-writable and with a copy of the program: nobody may not read the build's folders.
    std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o777)).unwrap();
    let program = folder.path().join("rootless");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let namespaces = folder.path().join("ns");

    let mut inside = as_nobody(&program)
        .arg("inside")
        .arg(&namespaces)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(inside.stdout.take().unwrap()).lines();
    let said = lines.next().expect("it died before its first word").unwrap();
    if let Some(why) = said.strip_prefix("unavailable: ") {
        assert!(std::env::var_os("CI").is_none(), "{NAME}: {why}");
        eprintln!("SKIPPED {NAME}: {why}");
        inside.wait().unwrap();
        return;
    }
    assert_eq!(said, "they talk");
    // Another process of the user's finds the namespaces by joining the first.
    let pid = inside.id().to_string();
    let joined = as_nobody(&program)
        .arg("join")
        .arg(&pid)
        .arg(&namespaces)
        .status();
    let joined = joined.unwrap().success();
    drop(inside.stdin.take());
    assert!(inside.wait().unwrap().success() && joined);
    println!("{NAME}: ok");
}

fn as_nobody(program: &Path) -> Command {
    if !rustix::process::geteuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(program);
    command
}

fn inside(folder: &Path) {
    let entered = userns::enter().and_then(|entered| userns::probe().map(|()| entered));
    let entered = match entered {
        Ok(entered) => entered,
        Err(error) => {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            return println!(
                "unavailable: {error} ({}). {}",
                cause.unwrap_or_default(),
                error.advice()
            );
        }
    };
    assert_ne!(entered.uid, 0);
    assert!(rustix::process::geteuid().is_root(), "root inside");
    assert!(userns::is_privileged());

    let directory = Directory::at(folder).unwrap();
    let (server, client) = (
        directory.create("server").unwrap(),
        directory.create("client").unwrap(),
    );
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let router = directory.create("router").unwrap();
        let bridge = Links::open(&router).await.unwrap();
        bridge.bridge_create("br", [2, 0, 0, 0, 0, 1]).await.unwrap();
        for (namespace, name, address) in [(&server, "p1", "10.0.0.1/24"), (&client, "p2", "10.0.0.2/24")] {
            let veth = Veth {
                name,
                bridge: Some("br"),
                peer_namespace: namespace,
                peer_name: "eth0",
                peer_mac: None,
                mtu: None,
            };
            bridge.veth_create(veth).await.unwrap();
            let links = Links::open(namespace).await.unwrap();
            links.link_up("eth0").await.unwrap();
            links
                .address_add("eth0", address.parse().unwrap(), None)
                .await
                .unwrap();
        }
        sysctl::apply(&router, sysctl::PORT).unwrap();
        sysctl::apply(&router, sysctl::ROUTER).unwrap();
        sysctl::apply(&server, sysctl::PORT).unwrap();
    });
    let listener = server.run(|| TcpListener::bind("10.0.0.1:80")).unwrap().unwrap();
    let mut near = client.run(|| TcpStream::connect("10.0.0.1:80")).unwrap().unwrap();
    near.write_all(b"through").unwrap();
    drop(near);
    let mut text = String::new();
    listener.accept().unwrap().0.read_to_string(&mut text).unwrap();
    assert_eq!(text, "through");
    println!("they talk");
    // Stays until the outside has seen enough.
    std::io::stdin().read_to_string(&mut text).unwrap();
    for name in directory.names("").unwrap() {
        directory.remove(&name).unwrap();
    }
}

fn join(pid: u32, folder: &Path) {
    let directory = Directory::at(folder).unwrap();
    directory
        .open("server")
        .expect_err("its mounts are seen by nobody outside");
    let before = std::env::current_dir().unwrap();
    userns::join(pid).unwrap();
    userns::join(pid).expect("nothing is left to join");
    assert_eq!(std::env::current_dir().unwrap(), before);
    let server = directory.open("server").unwrap();
    // The server's port is taken in there: this is the very namespace.
    let taken = server.run(|| TcpListener::bind("10.0.0.1:80")).unwrap();
    assert_eq!(taken.unwrap_err().kind(), std::io::ErrorKind::AddrInUse);

    std::thread::scope(|scope| {
        scope.spawn(|| {
            let refused = userns::enter().unwrap_err();
            assert!(matches!(refused, userns::UsernsError::Threads { count: 2 }));
        });
    });
}
