//! What two tenants do in a lab: one publishes its backend, the other connects to it. Through the API, from the desk.

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    caller::{Caller, DEMO, OPERATOR, OTHER},
    plan::{CONSUMER, PROVIDER, SERVER_PORT},
    record::Endpoint,
};

/// The backend's port in the region file.
pub const BACKEND_PORT: &str = "4189d3c2-8882-4871-a3c2-d380272eed88";
/// The clients' subnet.
pub const CLIENT_SUBNET: &str = "5290e4d3-9993-4982-b4d3-e491383ffe91";
/// How long one request may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// How long anything may take to come about.
const PATIENCE: Duration = Duration::from_secs(40);

/// Both tenants and the operator, logged in.
#[derive(Clone, Debug)]
pub struct Tenants {
    /// Who publishes.
    pub demo: Caller,
    /// Who connects.
    pub other: Caller,
    /// Who runs the region.
    pub operator: Caller,
}

impl Tenants {
    /// Logs all of them in, at any of these addresses.
    ///
    /// # Errors
    /// Where none lets them.
    pub fn login(urls: &[String]) -> Result<Self, String> {
        let login = |account| Caller::login(urls, account, REQUEST_TIMEOUT, PATIENCE);
        Ok(Self {
            demo: login(DEMO)?,
            other: login(OTHER)?,
            operator: login(OPERATOR)?,
        })
    }

    /// Logs the operator in, where that goes soon.
    ///
    /// # Errors
    /// Where it does not.
    pub fn operator(urls: &[String], patience: Duration) -> Result<Operator, String> {
        Caller::login(urls, OPERATOR, patience, patience).map(Operator)
    }

    /// Publishes the backend, open to everybody, and answers the service's id.
    ///
    /// # Errors
    /// What the API said.
    pub fn publish(&mut self) -> Result<String, String> {
        let ports = json!([{"client_port": SERVER_PORT, "server_port": SERVER_PORT, "protocol": "TCP"}]);
        let body = json!({"port_id": BACKEND_PORT, "vpc_id": PROVIDER.id, "server_type": "VM",
            "approval_enabled": true, "ports": ports});
        let made = self
            .demo
            .must("POST", "vpc-endpoint-services", Some(&body), PATIENCE)?;
        let id = text(&made, "id")?;
        let path = format!("vpc-endpoint-services/{id}");
        self.demo.until(&path, PATIENCE, |seen| {
            (seen["status"] == "available").then_some(())
        })?;
        let everybody = json!({"permissions": ["*"], "action": "add"});
        let path = format!("{path}/permissions/action");
        self.demo.must("POST", &path, Some(&everybody), PATIENCE)?;
        Ok(id)
    }

    /// Connects the consumer's VPC to a service, has that accepted, and waits until it is so.
    ///
    /// # Errors
    /// What the API said.
    pub fn connect(&mut self, service: &str) -> Result<Endpoint, String> {
        let body = json!({"endpoint_service_id": service, "vpc_id": CONSUMER.id, "subnet_id": CLIENT_SUBNET});
        let made = self.other.must("POST", "vpc-endpoints", Some(&body), PATIENCE)?;
        let id = text(&made, "id")?;
        let path = format!("vpc-endpoints/{id}");
        self.other.until(&path, PATIENCE, |seen| {
            (seen["status"] == "pendingAcceptance").then_some(())
        })?;
        let action = json!({"action": "receive", "endpoints": [id]});
        let accept = format!("vpc-endpoint-services/{service}/connections/action");
        self.demo.must("POST", &accept, Some(&action), PATIENCE)?;
        let ip = self.other.until(&path, PATIENCE, |seen| {
            (seen["status"] == "accepted").then(|| seen["ip"].clone())
        })?;
        let ip = ip.as_str().and_then(|ip| ip.parse().ok());
        Ok(Endpoint {
            service: service.to_owned(),
            id,
            ip: ip.ok_or("an accepted endpoint without an address")?,
        })
    }

    /// Waits until so many gateways have their share of everything.
    ///
    /// # Errors
    /// Where they have not in time.
    pub fn placed(&mut self, gateways: usize) -> Result<(), String> {
        self.operator.until("/admin/v1/gateways", PATIENCE, |seen| {
            let listed = seen["gateways"].as_array()?;
            let served = listed.iter().filter(|g| g["shards"].as_u64() > Some(0)).count();
            (listed.len() == gateways && served == gateways).then_some(())
        })
    }
}

/// The operator alone, logged in.
#[derive(Clone, Debug)]
pub struct Operator(Caller);

impl Operator {
    /// The gateways, as the operator sees them.
    ///
    /// # Errors
    /// Where nobody answers.
    pub fn gateways(&mut self, patience: Duration) -> Result<Vec<Value>, String> {
        let listed = self.0.must("GET", "/admin/v1/gateways", None, patience)?;
        Ok(listed["gateways"].as_array().cloned().unwrap_or_default())
    }
}

fn text(body: &Value, key: &str) -> Result<String, String> {
    let text = body[key].as_str().map(str::to_owned);
    text.ok_or_else(|| format!("no {key} in {body}"))
}
