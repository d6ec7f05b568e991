//! How the tables ask: requests with what is wrong in them, and a list of answers that were not as written.

use serde_json::{Map, Value, json};

use crate::process::{
    BACKEND_PORT, BACKEND_SUBNET, BACKEND_VPC, CLIENT_SUBNET, CLIENT_VPC, Client, Region, until,
};

/// A well-formed id that nothing has.
pub(crate) const NOBODY: &str = "deadbeef-dead-4ead-8ead-deadbeefdead";

/// A running region with its tenants, and what was found so far.
pub(crate) struct Asker {
    pub(crate) demo: Client,
    pub(crate) other: Client,
    pub(crate) operator: Client,
    pub(crate) found: Vec<String>,
    server_port: u16,
    _region: Region,
}

impl Asker {
    pub(crate) fn start() -> Self {
        let region = Region::ephemeral();
        Self {
            demo: Client::demo(&region.api),
            other: Client::other(&region.api),
            operator: Client::operator(&region.api),
            found: Vec::new(),
            server_port: 20_000,
            _region: region,
        }
    }

    /// A server port that no service has yet.
    pub(crate) fn port(&mut self) -> u16 {
        self.server_port += 1;
        self.server_port
    }

    /// A good request for a service.
    pub(crate) fn service_body(&mut self) -> Value {
        json!({"port_id": BACKEND_PORT, "vpc_id": BACKEND_VPC, "server_type": "VM",
            "ports": [{"client_port": 80, "server_port": self.port()}]})
    }

    /// A good request for an endpoint of the demo tenant itself.
    pub(crate) fn endpoint_body(service: &str) -> Value {
        json!({"endpoint_service_id": service, "vpc_id": BACKEND_VPC, "subnet_id": BACKEND_SUBNET})
    }

    /// The other tenant's.
    pub(crate) fn foreign_endpoint_body(service: &str) -> Value {
        json!({"endpoint_service_id": service, "vpc_id": CLIENT_VPC, "subnet_id": CLIENT_SUBNET})
    }

    /// An available service of the demo tenant.
    pub(crate) fn service(&mut self, more: Value) -> String {
        let body = with(self.service_body(), more);
        let id = self.demo.must("POST", "vpc-endpoint-services", Some(&body))["id"].take();
        let id = text(&id);
        self.status("vpc-endpoint-services", &id, "available");
        id
    }

    /// An endpoint of the demo tenant, in the state that its service leaves it in.
    pub(crate) fn endpoint(&mut self, service: &str, more: Value, status: &str) -> String {
        let body = with(Self::endpoint_body(service), more);
        let id = text(&self.demo.must("POST", "vpc-endpoints", Some(&body))["id"]);
        self.status("vpc-endpoints", &id, status);
        id
    }

    /// Waits for a state of something of the demo tenant's.
    pub(crate) fn status(&self, kind: &str, id: &str, status: &str) {
        until(status, || {
            (self.demo.must("GET", &format!("{kind}/{id}"), None)["status"] == status).then_some(())
        });
    }

    /// Asks the demo tenant's question, which is refused: by the status and the code, without its prefix.
    pub(crate) fn refuse(
        &mut self,
        what: &str,
        (method, path): (&str, &str),
        body: Option<&Value>,
        code: (u16, &str),
    ) {
        let client = self.demo.clone();
        self.refuse_to(&client, what, (method, path), body, code);
    }

    /// The same, of somebody else's question.
    pub(crate) fn refuse_to(
        &mut self,
        client: &Client,
        what: &str,
        (method, path): (&str, &str),
        body: Option<&Value>,
        (status, code): (u16, &str),
    ) {
        let (got, reply) = client.try_call(method, path, body).unwrap();
        let prefix = if code == "1018" { "Endpoint." } else { "EndPoint." };
        let as_written = got == status
            && reply["error_code"] == format!("{prefix}{code}")
            && reply["error_msg"].is_string()
            && reply.as_object().is_some_and(|o| o.len() == 2);
        if !as_written {
            self.found.push(format!(
                "{method} {path}, {what}: {status} {code} expected, got {got} {reply}"
            ));
        }
    }

    /// Notes a difference.
    pub(crate) fn same(&mut self, what: &str, got: &Value, expected: &Value) {
        if got != expected {
            self.found.push(format!("{what}: {expected} expected, got {got}"));
        }
    }

    /// The verdict.
    pub(crate) fn end(self) {
        assert!(
            self.found.is_empty(),
            "{} differ:\n{}",
            self.found.len(),
            self.found.join("\n")
        );
    }
}

/// A body with fields replaced; `null` takes one out.
pub(crate) fn with(mut body: Value, more: Value) -> Value {
    let fields = body.as_object_mut().unwrap();
    let Value::Object(more) = more else {
        panic!("not an object: {more}")
    };
    for (name, value) in more {
        match value {
            Value::Null => fields.remove(&name),
            value => fields.insert(name, value),
        };
    }
    body
}

/// A body with one field as it is given, `null` too.
pub(crate) fn set(body: &Value, name: &str, value: Value) -> Value {
    let mut body = body.clone();
    body[name] = value;
    body
}

/// The text of a value.
pub(crate) fn text(value: &Value) -> String {
    value
        .as_str()
        .unwrap_or_else(|| panic!("{value} is no text"))
        .to_owned()
}

/// The named fields alone, in the order of their names.
pub(crate) fn names(of: &Value) -> Value {
    let mut names: Vec<_> = of
        .as_object()
        .map_or_else(Vec::new, |o: &Map<_, _>| o.keys().cloned().collect());
    names.sort();
    json!(names)
}
