//! Waiting until a machine's process is there.

use std::{
    fs,
    net::{SocketAddr, SocketAddrV4, TcpStream},
    time::{Duration, Instant},
};

use super::{Lab, LabError, State, machines::system, plan::ETCD_PORT};

/// How long a machine's process may take to be there.
const READY_TIMEOUT: Duration = Duration::from_secs(40);
/// How often it is looked whether it is.
const POLL: Duration = Duration::from_millis(10);
/// How long one look may take.
const LOOK_TIMEOUT: Duration = Duration::from_millis(500);

impl Lab {
    /// Waits until a machine's process is there.
    pub(super) fn await_ready(&self, name: &str) -> Result<(), LabError> {
        let deadline = Instant::now() + READY_TIMEOUT;
        while !self.is_ready(name)? {
            let how = match self.state(name) {
                Some(State::Dead) => format!("has ended: {}", self.last_line(name)),
                _ if Instant::now() > deadline => format!("is not ready after {} s", READY_TIMEOUT.as_secs()),
                _ => String::new(),
            };
            if !how.is_empty() {
                return Err(LabError::NotReady {
                    name: name.to_owned(),
                    how,
                    log: self.files().log(name),
                });
            }
            std::thread::sleep(POLL);
        }
        Ok(())
    }

    /// Waits until a member of etcd knows a leader: it accepts before that.
    pub(super) fn await_leader(&self, name: &str) -> Result<(), LabError> {
        let namespace = self.fabric().open(&self.place(name)?.namespace)?;
        let knows = || {
            let reply = ureq::get(format!("http://127.0.0.1:{ETCD_PORT}/health")).call();
            let text = reply.and_then(|mut reply| reply.body_mut().read_to_string());
            text.is_ok_and(|text| text.contains("\"true\""))
        };
        let deadline = Instant::now() + READY_TIMEOUT;
        while !namespace
            .run(knows)
            .map_err(system(format!("enter the namespace of {name}")))?
        {
            if Instant::now() > deadline {
                return Err(LabError::NotReady {
                    name: name.to_owned(),
                    how: "knows no leader".to_owned(),
                    log: self.files().log(name),
                });
            }
            std::thread::sleep(POLL);
        }
        Ok(())
    }

    /// The last line that a machine's process printed.
    #[must_use]
    pub fn last_line(&self, name: &str) -> String {
        let text = fs::read_to_string(self.files().log(name)).unwrap_or_default();
        text.lines().next_back().unwrap_or_default().to_owned()
    }

    fn is_ready(&self, name: &str) -> Result<bool, LabError> {
        let place = self.place(name)?;
        let Some(process) = &place.process else {
            return Ok(true);
        };
        let Some((ip, port)) = process.accepts else {
            let pid = self
                .record()
                .started
                .get(name)
                .map(|started| started.pid.unsigned_abs());
            let run = crate::data::running(&self.files().machine(name).join("data"));
            return Ok(run.is_ok_and(|run| Some(run.pid) == pid));
        };
        let to = SocketAddr::from(SocketAddrV4::new(ip, port));
        let look = || TcpStream::connect_timeout(&to, LOOK_TIMEOUT).is_ok();
        let looked = self.fabric().open(&place.namespace)?.run(look);
        looked.map_err(system(format!("enter the namespace of {name}")))
    }
}
