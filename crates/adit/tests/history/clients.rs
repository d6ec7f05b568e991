//! Clients that make, read, change and delete services and endpoints at whichever control plane, and the record of what each saw.

use std::{
    collections::BTreeMap,
    io::ErrorKind,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU16, AtomicU32, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    bed::REPLICAS,
    checker::{Act, DEEDS_MAX, Deed, Seen},
    process::{BACKEND_PORT, BACKEND_VPC, CLIENT_SUBNET, CLIENT_VPC, Client},
};

pub(crate) const SERVICES: &str = "vpc-endpoint-services";
pub(crate) const ENDPOINTS: &str = "vpc-endpoints";
/// How long a connection, and an answer, may take. A client goes on with something else then.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// How many requests a client would rather send to one that has let it wait, and sends to others.
const AVOIDED: usize = 3;
/// Among how many of the newest things one is chosen to do something with.
const CHOICE: usize = 8;
/// How many things there may be at a time: each endpoint has an address in one subnet.
const THINGS_MAX: usize = 100;
/// How often what is gone is looked at.
const LOOKS_AFTER: usize = 8;
/// Deeds of each thing that are left for the end, when all is read once more.
const DEEDS_LEFT: usize = 4 * REPLICAS;

/// A seeded source of chance.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    /// A number below `n`.
    pub(crate) fn roll(&mut self, n: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % n
    }
}

/// What came back.
enum Answer {
    Said(u16, Value),
    /// Nobody was reached: it has not happened.
    NotAsked,
    /// It may happen, or not.
    Nothing,
}

/// The owner of all services or of all endpoints, at each control plane.
pub(crate) struct Owner {
    agent: ureq::Agent,
    /// The project's root and a token.
    at: Vec<(String, String)>,
}

impl Owner {
    pub(crate) fn login(urls: &[String], project: &str, login: fn(&str) -> Client) -> Self {
        let at = urls
            .iter()
            .map(|url| (format!("{url}/v1/{project}"), login(url).token().to_owned()))
            .collect();
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_global(Some(ANSWER_TIMEOUT))
            .build()
            .into();
        Self { agent, at }
    }

    fn call(&self, replica: usize, method: &str, path: &str, body: &str) -> Answer {
        let (root, token) = &self.at[replica];
        let request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("{root}/{path}"))
            .header("x-auth-token", token)
            .header("content-type", "application/json")
            .body(body.to_owned());
        let mut reply = match self.agent.run(request.unwrap()) {
            Ok(reply) => reply,
            Err(ureq::Error::Timeout(ureq::Timeout::Connect)) => return Answer::NotAsked,
            Err(ureq::Error::Io(e))
                if matches!(
                    e.kind(),
                    ErrorKind::ConnectionRefused | ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable
                ) =>
            {
                return Answer::NotAsked;
            }
            Err(_) => return Answer::Nothing,
        };
        let status = reply.status().as_u16();
        match reply.body_mut().read_to_string() {
            Ok(text) => Answer::Said(status, serde_json::from_str(&text).unwrap_or(Value::Null)),
            Err(_) => Answer::Nothing,
        }
    }

    /// A list as one control plane has it; `None` where that does not answer now.
    pub(crate) fn list(&self, replica: usize, noun: &str) -> Option<Vec<Value>> {
        match self.call(replica, "GET", &format!("{noun}?limit=1000"), "") {
            Answer::Said(200, mut list) => {
                let key = if noun == SERVICES {
                    "endpoint_services"
                } else {
                    "endpoints"
                };
                let Value::Array(listed) = list[key].take() else {
                    panic!("no list of {key}: {list}");
                };
                Some(listed)
            }
            Answer::Said(500.., _) | Answer::NotAsked | Answer::Nothing => None,
            Answer::Said(status, body) => panic!("{status}: {body}"),
        }
    }

    /// Deletes what is there; whether it is gone, or on its way.
    pub(crate) fn delete(&self, replica: usize, path: &str) -> bool {
        matches!(self.call(replica, "DELETE", path, ""), Answer::Said(204 | 404, _))
    }
}

/// An episode: what all clients did in it, by the path of what they did it to.
pub(crate) struct Episode<'a> {
    pub(crate) services: &'a Owner,
    pub(crate) endpoints: &'a Owner,
    /// The service that all endpoints lead to.
    pub(crate) service: &'a str,
    /// The next number of a port, and of a text, that nobody has used.
    pub(crate) ports: &'a AtomicU16,
    pub(crate) texts: &'a AtomicU32,
    pub(crate) begun: Instant,
    pub(crate) over: AtomicBool,
    /// Requests that said something.
    pub(crate) answered: AtomicUsize,
    /// Requests that nobody answered, or with a failure.
    pub(crate) unanswered: AtomicUsize,
    /// Creates whose outcome nobody learnt.
    pub(crate) lost: AtomicUsize,
    /// In the order in which clients learnt of them.
    things: Mutex<Things>,
}

/// What a client does something to.
enum Picked {
    One(String),
    Nothing,
    TooMany(String),
}

#[derive(Default)]
struct Things {
    paths: Vec<String>,
    acts: BTreeMap<String, Vec<Act>>,
}

impl<'a> Episode<'a> {
    pub(crate) fn new(
        [services, endpoints]: [&'a Owner; 2],
        service: &'a str,
        ports: &'a AtomicU16,
        texts: &'a AtomicU32,
    ) -> Self {
        Self {
            services,
            endpoints,
            service,
            ports,
            texts,
            begun: Instant::now(),
            over: AtomicBool::new(false),
            answered: AtomicUsize::new(0),
            unanswered: AtomicUsize::new(0),
            lost: AtomicUsize::new(0),
            things: Mutex::default(),
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_micros()).unwrap()
    }

    /// Who has what is under a path or a noun.
    fn owner(&self, path: &str) -> &Owner {
        match path.starts_with(SERVICES) {
            true => self.services,
            false => self.endpoints,
        }
    }

    fn note(&self, path: &str, act: Act) {
        let mut things = self.things.lock().unwrap();
        if !things.acts.contains_key(path) {
            things.paths.push(path.to_owned());
        }
        let acts = things.acts.entry(path.to_owned()).or_default();
        // A reader that comes too late for the checker says nothing; who changes something must be heard.
        if acts.len() < DEEDS_MAX || !matches!(act.deed, Deed::Read(_)) {
            acts.push(act);
        }
    }

    /// Something that is not looked at too much already, one of the newest; else the oldest that is there yet, to be deleted.
    fn pick(&self, dice: &mut Dice) -> Picked {
        let things = self.things.lock().unwrap();
        let is_deed =
            |path: &String, deed: Deed| things.acts[path].iter().filter(move |act| act.deed == deed);
        let open = |path: &&String| {
            things.acts[*path].len() < DEEDS_MAX - DEEDS_LEFT
                && is_deed(path, Deed::Read(Seen::Nothing)).count() < LOOKS_AFTER
        };
        let newest: Vec<_> = things.paths.iter().rev().filter(open).take(CHOICE).collect();
        let mut living = things
            .paths
            .iter()
            .filter(|path| is_deed(path, Deed::Delete).next().is_none());
        let oldest = living.next().cloned();
        if oldest.is_some() && living.count() >= THINGS_MAX {
            return Picked::TooMany(oldest.unwrap_or_default());
        }
        match newest.len() {
            0 => Picked::Nothing,
            n => Picked::One(newest[dice.roll(n)].clone()),
        }
    }

    /// All that was done to each thing.
    pub(crate) fn acts(&self) -> BTreeMap<String, Vec<Act>> {
        self.things.lock().unwrap().acts.clone()
    }

    /// Works until the episode is over.
    pub(crate) fn work(&self, mut dice: Dice) {
        let (mut avoided, mut rest) = (None, 0);
        while !self.over.load(Relaxed) {
            let replica = dice.roll(REPLICAS);
            if avoided == Some(replica) && rest > 0 {
                rest -= 1;
                continue;
            }
            let before = Instant::now();
            let said = match (dice.roll(24), self.pick(&mut dice)) {
                (_, Picked::TooMany(path)) => self.delete(replica, &path),
                (0..3, _) | (_, Picked::Nothing) => self.create(replica, &mut dice),
                (3..5, Picked::One(path)) => self.delete(replica, &path),
                (5..11, Picked::One(path)) => self.update(replica, &path),
                (11, Picked::One(path)) => self.list(replica, path.split('/').next().unwrap()),
                (_, Picked::One(path)) => self.read(replica, &path),
            };
            if said {
                self.answered.fetch_add(1, Relaxed);
            } else if before.elapsed() >= CONNECT_TIMEOUT {
                (avoided, rest) = (Some(replica), AVOIDED);
            }
        }
    }

    /// Asks, and answers with when.
    fn ask(&self, replica: usize, method: &str, path: &str, body: &str) -> (Answer, Act) {
        let begun = self.now();
        let answer = self.owner(path).call(replica, method, path, body);
        if matches!(
            answer,
            Answer::Said(500.., _) | Answer::NotAsked | Answer::Nothing
        ) {
            self.unanswered.fetch_add(1, Relaxed);
        }
        let act = Act {
            deed: Deed::Read(Seen::Nothing),
            begun,
            ended: Some(self.now()),
            replica,
        };
        (answer, act)
    }

    fn create(&self, replica: usize, dice: &mut Dice) -> bool {
        let (noun, body) = match dice.roll(2) {
            0 => {
                let body = json!({"endpoint_service_id": self.service, "vpc_id": CLIENT_VPC,
                    "subnet_id": CLIENT_SUBNET});
                (ENDPOINTS, body)
            }
            _ => {
                let port = self.ports.fetch_add(1, Relaxed);
                let body = json!({"port_id": BACKEND_PORT, "vpc_id": BACKEND_VPC, "server_type": "VM",
                    "ports": [{"client_port": port, "server_port": port}]});
                (SERVICES, body)
            }
        };
        let (answer, act) = self.ask(replica, "POST", noun, &body.to_string());
        match answer {
            Answer::Said(200, body) => {
                let deed = Deed::Create;
                self.note(
                    &format!("{noun}/{}", body["id"].as_str().unwrap()),
                    Act { deed, ..act },
                );
                true
            }
            Answer::Said(500.., _) | Answer::Nothing => {
                self.lost.fetch_add(1, Relaxed);
                false
            }
            Answer::NotAsked => false,
            Answer::Said(status, body) => panic!("{status}: {body}"),
        }
    }

    fn update(&self, replica: usize, path: &str) -> bool {
        let text = self.texts.fetch_add(1, Relaxed);
        let body = match path.starts_with(SERVICES) {
            true => json!({"description": text.to_string()}),
            false => json!({"whitelist": [std::net::Ipv4Addr::from_bits(text).to_string()]}),
        };
        let (answer, act) = self.ask(replica, "PUT", path, &body.to_string());
        let deed = Deed::Update(text);
        match answer {
            Answer::Said(200, _) => self.note(path, Act { deed, ..act }),
            // Still in the making, or on its way out: nothing was done.
            Answer::Said(400 | 403 | 409, _) | Answer::NotAsked => return false,
            // That it was gone in the end says nothing of before.
            Answer::Said(404 | 500.., _) | Answer::Nothing => {
                let ended = None;
                self.note(path, Act { deed, ended, ..act });
                return false;
            }
            Answer::Said(status, body) => panic!("{status}: {body}"),
        }
        true
    }

    fn delete(&self, replica: usize, path: &str) -> bool {
        let (answer, act) = self.ask(replica, "DELETE", path, "");
        let deed = Deed::Delete;
        match answer {
            Answer::Said(204, _) => self.note(path, Act { deed, ..act }),
            Answer::Said(404, _) => self.note(path, act),
            // Still in the making: nothing was done.
            Answer::Said(400..500, _) | Answer::NotAsked => return false,
            _ => {
                let ended = None;
                self.note(path, Act { deed, ended, ..act });
                return false;
            }
        }
        true
    }

    /// Reads one thing; whether there was an answer.
    pub(crate) fn read(&self, replica: usize, path: &str) -> bool {
        let (answer, act) = self.ask(replica, "GET", path, "");
        let seen = match answer {
            Answer::Said(404, _) => Seen::Nothing,
            Answer::Said(200, body) => seen(&body),
            Answer::Said(500.., _) | Answer::NotAsked | Answer::Nothing => return false,
            Answer::Said(status, body) => panic!("{status}: {body}"),
        };
        let deed = Deed::Read(seen);
        self.note(path, Act { deed, ..act });
        true
    }

    /// Reads all of a kind at once: what is known by then and not listed was not seen.
    pub(crate) fn list(&self, replica: usize, noun: &str) -> bool {
        let known: Vec<_> = {
            let things = self.things.lock().unwrap();
            let of_kind = |path: &&String| path.split('/').next() == Some(noun);
            things.paths.iter().filter(of_kind).cloned().collect()
        };
        let begun = self.now();
        let Some(listed) = self.owner(noun).list(replica, noun) else {
            return false;
        };
        let ended = Some(self.now());
        let listed: BTreeMap<_, _> = listed
            .iter()
            .map(|thing| (format!("{noun}/{}", thing["id"].as_str().unwrap()), seen(thing)))
            .collect();
        for path in known {
            let deed = Deed::Read(listed.get(&path).copied().unwrap_or(Seen::Nothing));
            self.note(
                &path,
                Act {
                    deed,
                    begun,
                    ended,
                    replica,
                },
            );
        }
        true
    }
}

/// What a reply shows of a thing.
fn seen(thing: &Value) -> Seen {
    let whitelist = thing["whitelist"][0].as_str();
    let text = match thing["description"].as_str() {
        Some(text) if whitelist.is_none() && !text.is_empty() => text.parse().unwrap(),
        _ => whitelist.map_or(0, |ip| ip.parse::<std::net::Ipv4Addr>().unwrap().to_bits()),
    };
    match thing["status"].as_str() {
        Some("creating" | "available" | "accepted") => Seen::Live(text),
        Some("deleting") => Seen::Going,
        other => panic!("{other:?}: {thing}"),
    }
}
