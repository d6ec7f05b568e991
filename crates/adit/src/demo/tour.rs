//! The tour: what is shown, in which order, and what has to hold.

use std::{
    net::{Ipv4Addr, SocketAddrV4},
    time::{Duration, Instant},
};

use adit_cloud::{
    Login,
    kernel::{Instance, port_namespace},
};
use adit_model::{id::PortId, network::RESERVED, service::TcpProxy};
use adit_netns::{Directory, Namespace};
use adit_relay::toa::{Cgroup, KIND_DEFAULT, Receiver, ToaError};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{
    Error, Step,
    client::Client,
    inside::{self, Attempt},
};
use crate::{dev::Served, host::Networks, terminal};

/// The backend of the built-in region: the port of the API document's example.
const BACKEND_PORT: &str = "4189d3c2-8882-4871-a3c2-d380272eed88";
/// Its address; the client's network has the same addresses.
const BACKEND: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 10);
/// The client of the built-in region.
const CLIENT_PORT: &str = "5290e4d3-9993-4982-b4d3-e491383ffe98";
/// Its address.
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 20);
/// Its VPC.
const CLIENT_VPC: &str = "5290e4d3-9993-4982-b4d3-e491383ffe90";
/// Its subnet.
const CLIENT_SUBNET: &str = "5290e4d3-9993-4982-b4d3-e491383ffe91";
/// A port of the endpoint that no mapping opens.
const UNMAPPED: u16 = 9999;
/// How long a state may take to come about.
const STATE_TIMEOUT: Duration = Duration::from_secs(10);
/// How often it is asked for.
const POLL: Duration = Duration::from_millis(2);

pub(super) struct Tour {
    pub(super) steps: Vec<Step>,
    aloud: bool,
    interrupted: CancellationToken,
}

impl Tour {
    /// A tour that is told step by step where it is `aloud`, and falls silent when it is `interrupted`.
    pub(super) fn new(aloud: bool, interrupted: CancellationToken) -> Self {
        Self {
            steps: Vec::new(),
            aloud,
            interrupted,
        }
    }

    /// One step: does it, takes the time, and tells what was seen.
    pub(super) fn step<T>(
        &mut self,
        what: &str,
        act: impl FnOnce() -> Result<(T, String), Error>,
    ) -> Result<T, Error> {
        let started = Instant::now();
        let result = act();
        if self.interrupted.is_cancelled() {
            return Err(Error::Interrupted);
        }
        let (seen, held) = match &result {
            Ok((_, seen)) => (seen.clone(), true),
            Err(e) => (e.to_string(), false),
        };
        let step = Step {
            what: what.to_owned(),
            took: started.elapsed(),
            seen,
            held,
        };
        if self.aloud {
            let mark = if step.held { "ok" } else { "FAILED" };
            terminal::print(&format!(
                "{mark:>6} {:>8.1} ms  {}\n{:20}{}\n",
                step.took.as_secs_f64() * 1000.0,
                step.what,
                "",
                step.seen
            ));
        }
        self.steps.push(step);
        result.map(|(value, _)| value)
    }

    /// Tells the whole story on a region that serves.
    pub(super) fn tell(&mut self, place: &Place) -> Result<(), Error> {
        let cast = self.step(
            "Log both tenants in, and start a web server on the provider's backend",
            || {
                Cast::new(place).map(|cast| {
                    let seen =
                        format!("{BACKEND} in one VPC, the client in another VPC with the same addresses");
                    (cast, seen)
                })
            },
        )?;
        let service = self.publish(&cast)?;
        let (endpoint, ip) = self.connect(&cast, &service)?;
        let stream = self.use_it(&cast, ip)?;
        self.name_clients(&cast, &service, ip)?;
        self.must_not(&cast, &service, &endpoint, ip, stream)?;
        self.clean_up(&cast, &service, &endpoint)
    }

    /// The provider's part.
    fn publish(&mut self, cast: &Cast) -> Result<String, Error> {
        let service = self.step(
            "Provider: create an endpoint service with the documented request",
            || {
                let reply =
                    cast.provider
                        .must("POST", "vpc-endpoint-services", Some(&documented_request()))?;
                expect(
                    reply["status"] == "creating",
                    "the new service is creating",
                    &reply,
                )?;
                Ok((
                    text(&reply["id"])?,
                    format!("{} is {}", reply["service_name"], reply["status"]),
                ))
            },
        )?;
        self.step("Wait until it is available", || {
            let reply = wait_for(
                &cast.provider,
                &format!("vpc-endpoint-services/{service}"),
                "available",
            )?;
            let name = format!("eu-de.{service}");
            expect(
                reply["service_name"] == name.as_str(),
                "the name is region.id",
                &reply,
            )?;
            Ok(((), name.clone()))
        })?;
        self.step(
            "Consumer: connect without being on the whitelist (must not work)",
            || {
                let (status, reply) =
                    cast.consumer
                        .call("POST", "vpc-endpoints", Some(&cast.order(&service)))?;
                expect(
                    status == 400 && reply["error_code"] == "EndPoint.2012",
                    "refused with EndPoint.2012",
                    &reply,
                )?;
                Ok(((), format!("{status} {}", reply["error_code"])))
            },
        )?;
        self.step(
            "Provider: put the consumer on the whitelist, and ask for approval of each endpoint",
            || {
                let record = format!("iam:domain::{}", cast.consumer_login.domain_id);
                let body = json!({"permissions": [record], "action": "add"});
                cast.provider.must(
                    "POST",
                    &format!("vpc-endpoint-services/{service}/permissions/action"),
                    Some(&body),
                )?;
                let body = json!({"approval_enabled": true});
                cast.provider
                    .must("PUT", &format!("vpc-endpoint-services/{service}"), Some(&body))?;
                Ok(((), record))
            },
        )?;
        Ok(service)
    }

    /// The consumer's part, and the provider's word.
    fn connect(&mut self, cast: &Cast, service: &str) -> Result<(String, Ipv4Addr), Error> {
        let endpoint = self.step("Consumer: create an endpoint in its own VPC", || {
            let reply = cast
                .consumer
                .must("POST", "vpc-endpoints", Some(&cast.order(service)))?;
            expect(
                reply["status"] == "pendingAcceptance",
                "the endpoint waits for the provider",
                &reply,
            )?;
            Ok((
                text(&reply["id"])?,
                format!("{}, marker id {}", reply["status"], reply["marker_id"]),
            ))
        })?;
        let ip = self.step("Provider: accept it", || {
            let reply = cast.decide(service, &endpoint, "receive")?;
            let status = &reply["connections"][0]["status"];
            expect(*status == "accepted", "the connection is accepted", &reply)?;
            let reply = cast
                .consumer
                .must("GET", &format!("vpc-endpoints/{endpoint}"), None)?;
            let ip = text(&reply["ip"])?
                .parse()
                .map_err(|e| Error::Step(format!("{}: {e}", reply["ip"])))?;
            Ok((ip, format!("{status}, at {ip} in the consumer's VPC")))
        })?;
        Ok((endpoint, ip))
    }

    /// What it is all for. Answers a connection that is left open.
    fn use_it(&mut self, cast: &Cast, ip: Ipv4Addr) -> Result<std::net::TcpStream, Error> {
        let stream = self.step(
            "Fetch a page through the endpoint, from inside the consumer's VPC",
            || {
                let mut stream = inside::connect(&cast.client, SocketAddrV4::new(ip, 8080))?;
                let page = inside::fetch(&mut stream)?;
                let seen = page
                    .rsplit(' ')
                    .next()
                    .map(|word| word.trim().trim_end_matches('.'));
                let seen: Option<Ipv4Addr> = seen.and_then(|word| word.parse().ok());
                let held = seen.is_some_and(|seen| RESERVED.contains(&seen));
                expect(
                    held,
                    "the backend sees an address out of 198.19.128.0/17",
                    &json!(page),
                )?;
                Ok((stream, format!("http://{ip}:8080/ says: {}", page.trim())))
            },
        )?;
        self.step("Fetch another through its second port mapping", || {
            let page = inside::fetch(&mut inside::connect(&cast.client, SocketAddrV4::new(ip, 8081))?)?;
            Ok(((), format!("http://{ip}:8081/ says: {}", page.trim())))
        })?;
        Ok(stream)
    }

    /// The ways in which a backend is told of its clients.
    fn name_clients(&mut self, cast: &Cast, service: &str, ip: Ipv4Addr) -> Result<(), Error> {
        // Back to `close` in the end.
        for mode in TcpProxy::ALL.iter().rev() {
            let what = format!("Provider: name the clients to the backend by tcp_proxy {mode}");
            self.step(&what, || {
                let path = format!("vpc-endpoint-services/{service}");
                let body = json!({"tcp_proxy": mode.as_str()});
                let (status, reply) = cast.provider.call("PUT", &path, Some(&body))?;
                // What a machine cannot do is said, and is no failure of the tour.
                if let Err(e) = &cast.receiver
                    && mode.has_toa()
                {
                    expect(
                        status == 400 && reply["error_code"] == "EndPoint.0002",
                        "refused with EndPoint.0002",
                        &reply,
                    )?;
                    return Ok(((), format!("not on this machine: {e}")));
                }
                expect(status == 200, "the service is changed", &reply)?;
                poll(
                    || {
                        let mut stream = inside::connect(&cast.client, SocketAddrV4::new(ip, 8081))?;
                        let page = inside::fetch(&mut stream)?;
                        Ok(is_named(&page, *mode).then(|| ((), page.trim().to_owned())))
                    },
                    "a connection in the new way",
                )
            })?;
        }
        Ok(())
    }

    /// What must not work.
    fn must_not(
        &mut self,
        cast: &Cast,
        service: &str,
        endpoint: &str,
        ip: Ipv4Addr,
        mut stream: std::net::TcpStream,
    ) -> Result<(), Error> {
        self.step("Connect to a port that is not mapped (must not work)", || {
            let seen = inside::attempt(&cast.client, SocketAddrV4::new(ip, UNMAPPED))?;
            expect(seen == Attempt::Refused, "refused", &json!(format!("{seen:?}")))?;
            Ok(((), format!("{ip}:{UNMAPPED} is refused")))
        })?;
        self.step("Connect to the backend's own address (must not work)", || {
            let seen = inside::attempt(&cast.client, SocketAddrV4::new(BACKEND, 80))?;
            expect(
                seen != Attempt::Connected,
                "not connected",
                &json!(format!("{seen:?}")),
            )?;
            Ok(((), format!("{BACKEND}:80: {seen:?}")))
        })?;
        self.step(
            "Provider: reject the endpoint; its connections end and its port closes",
            || {
                cast.decide(service, endpoint, "reject")?;
                expect(
                    inside::is_cut(&mut stream),
                    "the open connection is cut",
                    &Value::Null,
                )?;
                let seen = inside::attempt(&cast.client, SocketAddrV4::new(ip, 8080))?;
                expect(
                    seen != Attempt::Connected,
                    "not connected",
                    &json!(format!("{seen:?}")),
                )?;
                Ok((
                    (),
                    format!("the open connection is cut, a new one meets: {seen:?}"),
                ))
            },
        )?;
        self.step("Provider: accept it again; it works at once", || {
            cast.decide(service, endpoint, "receive")?;
            let page = inside::fetch(&mut inside::connect(&cast.client, SocketAddrV4::new(ip, 8080))?)?;
            Ok(((), page.trim().to_owned()))
        })
    }

    fn clean_up(&mut self, cast: &Cast, service: &str, endpoint: &str) -> Result<(), Error> {
        self.step("Delete the endpoint and, right behind it, the service", || {
            cast.consumer
                .must("DELETE", &format!("vpc-endpoints/{endpoint}"), None)?;
            cast.provider
                .must("DELETE", &format!("vpc-endpoint-services/{service}"), None)?;
            let gone = |client: &Client, path: &str| {
                poll(
                    || Ok((client.call("GET", path, None)?.0 == 404).then_some(())),
                    &format!("{path} to be gone"),
                )
            };
            gone(&cast.consumer, &format!("vpc-endpoints/{endpoint}"))?;
            gone(&cast.provider, &format!("vpc-endpoint-services/{service}"))?;
            Ok(((), "both are gone".to_owned()))
        })
    }
}

/// The region that the tour is of.
#[derive(Clone)]
pub(super) struct Place {
    api: String,
    logins: Vec<Login>,
    pub(super) instance: Instance,
    /// Where its namespaces are named.
    pub(super) directory: Directory,
}

impl Place {
    pub(super) fn of(served: &Served) -> Result<Self, Error> {
        if let Networks::None { reason } = &served.networks {
            return Err(Error::NoNetworks(reason.clone()));
        }
        let directory = served.networks.directory(&served.data.namespaces());
        let directory = directory.map_err(crate::dev::Error::from)?;
        Ok(Self {
            api: served.api.clone(),
            logins: served.running.cloud.region().logins(),
            instance: served.data.instance().map_err(crate::dev::Error::from)?,
            directory: directory.ok_or_else(|| Error::Step("the region has no networks".to_owned()))?,
        })
    }
}

/// Whether a page says what the backend is told in a mode: who its peer is, and what a header says.
fn is_named(page: &str, mode: TcpProxy) -> bool {
    let is_client = page.contains(&format!("I see you as {CLIENT}."));
    let has_header = page.contains(&format!("A header says {CLIENT}:"));
    let has_network = page.contains("0xe5");
    (is_client, has_header, has_network) == (mode.has_toa(), mode.has_header(), mode.names_network())
}

/// Who takes part.
struct Cast {
    /// Shows the backend's server the clients that TOA names; the reason where it cannot.
    receiver: Result<Receiver, ToaError>,
    provider: Client,
    consumer: Client,
    consumer_login: Login,
    client: Namespace,
}

impl Cast {
    fn new(place: &Place) -> Result<Self, Error> {
        let login = |user: &str| {
            let found = place.logins.iter().find(|l| l.user == user).cloned();
            found.ok_or_else(|| Error::Step(format!("the region has no user {user}")))
        };
        let consumer_login = login("other")?;
        let (directory, instance) = (&place.directory, &place.instance);
        let backend = open(directory, instance, BACKEND_PORT)?;
        // The server is a part of this process, and so in its cgroup; it has to listen after this.
        let receiver = Receiver::load(RESERVED, KIND_DEFAULT).and_then(|mut receiver| {
            receiver.attach(&Cgroup::own().map_err(ToaError::Cgroup)?)?;
            Ok(receiver)
        });
        // The documented request maps client ports to these.
        inside::serve_pages(&backend, 90)?;
        inside::serve_pages(&backend, 80)?;
        Ok(Self {
            receiver,
            provider: Client::login(&place.api, &login("demo")?)?,
            consumer: Client::login(&place.api, &consumer_login)?,
            consumer_login,
            client: open(directory, instance, CLIENT_PORT)?,
        })
    }

    /// The consumer's request for an endpoint.
    fn order(&self, service: &str) -> Value {
        json!({"endpoint_service_id": service, "vpc_id": CLIENT_VPC, "subnet_id": CLIENT_SUBNET})
    }

    fn decide(&self, service: &str, endpoint: &str, action: &str) -> Result<Value, Error> {
        let body = json!({"endpoints": [endpoint], "action": action});
        self.provider.must(
            "POST",
            &format!("vpc-endpoint-services/{service}/connections/action"),
            Some(&body),
        )
    }
}

/// Opens a port's namespace; ports are made one after the other, so it may take a moment.
fn open(directory: &Directory, instance: &Instance, port: &str) -> Result<Namespace, Error> {
    let port: PortId = port.parse().map_err(|e| Error::Step(format!("{port}: {e}")))?;
    let name = port_namespace(instance, port);
    poll(
        || Ok(directory.open(&name).ok()),
        &format!("the network of port {port}"),
    )
}

/// The request that the API document prints.
fn documented_request() -> Value {
    json!({
        "port_id": BACKEND_PORT,
        "vpc_id": "4189d3c2-8882-4871-a3c2-d380272eed80",
        "approval_enabled": false,
        "service_type": "interface",
        "server_type": "VM",
        "ports": [
            {"client_port": 8080, "server_port": 90, "protocol": "TCP"},
            {"client_port": 8081, "server_port": 80, "protocol": "TCP"},
        ],
    })
}

fn wait_for(client: &Client, path: &str, status: &str) -> Result<Value, Error> {
    let ask = || {
        let reply = client.must("GET", path, None)?;
        expect(reply["status"] != "failed", "it does not fail", &reply)?;
        Ok((reply["status"] == status).then_some(reply))
    };
    poll(ask, &format!("{path} to be {status}"))
}

/// Asks again and again until there is an answer, for a bounded time.
fn poll<T>(mut ask: impl FnMut() -> Result<Option<T>, Error>, what: &str) -> Result<T, Error> {
    let deadline = Instant::now() + STATE_TIMEOUT;
    loop {
        if let Some(answer) = ask()? {
            return Ok(answer);
        }
        if Instant::now() > deadline {
            return Err(Error::Step(format!(
                "waited {} s for {what}",
                STATE_TIMEOUT.as_secs()
            )));
        }
        std::thread::sleep(POLL);
    }
}

fn expect(held: bool, what: &str, seen: &Value) -> Result<(), Error> {
    if held {
        Ok(())
    } else {
        Err(Error::Step(format!("expected: {what}; seen: {seen}")))
    }
}

fn text(value: &Value) -> Result<String, Error> {
    value
        .as_str()
        .map(str::to_owned)
        .ok_or_else(|| Error::Step(format!("expected a text, got {value}")))
}
