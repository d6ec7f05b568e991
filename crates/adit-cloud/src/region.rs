//! The region file: who exists, and which networks there are at the first start.
//!
//! Owns the file's form and its checks. It is read whole at every start; what of it is written to the store, and when, is
//! `crate::seed`'s. Secrets in it are never shown by `Debug`.

use std::{
    collections::{BTreeMap, HashSet},
    fmt,
    net::Ipv4Addr,
    sync::Arc,
};

use adit_model::{
    iam::Policy,
    id::{DomainId, NeutronSubnetId, PoolId, PortId, ProjectId, ServiceId, SubnetId, VpcId},
    network::overlaps,
    quota::Limits,
    service::{OWNER, PublicCreate, ServerType},
};
use adit_server::iam;
use ipnet::Ipv4Net;
use serde::Deserialize;
use serde_json::{Value, json};

/// The file that is used where the user names none.
const EMBEDDED: &str = include_str!("region.toml");

/// A region, as its file describes it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Region {
    /// Its name: letters, digits, `_` and `-`.
    pub name: String,
    /// The pool of gateways that serves endpoints.
    pub pool: PoolId,
    /// The names of its availability zones.
    pub availability_zones: Vec<String>,
    /// Where clients reach it; without one, at the address that each of them calls.
    pub public_url: Option<String>,
    /// How long a token is good, in seconds.
    #[serde(default = "token_lifetime_s")]
    pub token_lifetime_s: u32,
    /// The accounts.
    pub domains: Vec<Domain>,
}

/// How long a token is good where the file does not say, in seconds: a day, as in the cloud.
fn token_lifetime_s() -> u32 {
    24 * 3600
}

/// An account, with its users and projects.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Domain {
    /// Its name, unique in the region.
    pub name: String,
    /// Its id.
    pub id: DomainId,
    /// Its users.
    #[serde(default)]
    pub users: Vec<User>,
    /// Its projects.
    #[serde(default)]
    pub projects: Vec<Project>,
    /// Its own policies, which its users can have as roles.
    #[serde(default)]
    pub policies: Vec<NamedPolicy>,
}

/// An account's own policy.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NamedPolicy {
    /// Its name as a role, unique in the domain.
    pub name: String,
    /// What it says.
    pub document: Arc<Policy>,
}

/// A user.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// The name, unique in the domain.
    pub name: String,
    /// The id.
    pub id: String,
    /// The password.
    pub password: Secret,
    /// The names of the roles that the user has, by the names of the domain's projects.
    #[serde(default)]
    pub roles: BTreeMap<String, Vec<String>>,
    /// Keys to sign requests with.
    #[serde(default)]
    pub access_keys: Vec<AccessKey>,
}

/// A key to sign requests with.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccessKey {
    /// The name of the key.
    pub access: String,
    /// What signs.
    pub secret: Secret,
    /// The project that is meant where a request names none.
    pub project: String,
}

/// A project, with its networks.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Project {
    /// Its name, unique in the domain.
    pub name: String,
    /// Its id.
    pub id: ProjectId,
    /// How many services and endpoints it may have.
    #[serde(default)]
    pub quotas: Quotas,
    /// Its VPCs.
    #[serde(default)]
    pub vpcs: Vec<VpcSeed>,
    /// The services that it runs for everybody.
    #[serde(default)]
    pub public_services: Vec<PublicServiceSeed>,
}

/// A project's quotas.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Quotas {
    /// Endpoint services.
    pub endpoint_service: u32,
    /// Endpoints.
    pub endpoint: u32,
}

impl Default for Quotas {
    fn default() -> Self {
        let Limits {
            endpoint_service,
            endpoint,
        } = Limits::default();
        Self {
            endpoint_service,
            endpoint,
        }
    }
}

impl From<Quotas> for Limits {
    fn from(
        Quotas {
            endpoint_service,
            endpoint,
        }: Quotas,
    ) -> Self {
        Self {
            endpoint_service,
            endpoint,
        }
    }
}

/// A VPC that is made at the first start.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VpcSeed {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: VpcId,
    /// Its block.
    pub cidr: Ipv4Net,
    /// Its subnets.
    #[serde(default)]
    pub subnets: Vec<SubnetSeed>,
}

/// A subnet that is made at the first start.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SubnetSeed {
    /// Its name.
    pub name: String,
    /// Its id, which is the Neutron network's.
    pub id: SubnetId,
    /// Its own id in Neutron.
    pub neutron_subnet_id: NeutronSubnetId,
    /// Its block.
    pub cidr: Ipv4Net,
    /// The router's address.
    pub gateway: Ipv4Addr,
    /// Its ports.
    #[serde(default)]
    pub ports: Vec<PortSeed>,
}

/// A port that is made at the first start.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PortSeed {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: PortId,
    /// Its address.
    pub ip: Ipv4Addr,
    /// The kind of what it belongs to, such as `compute:eu-de-01`.
    #[serde(default)]
    pub device_owner: String,
}

/// A public service that is made at the first start: of type `interface` with a `port`, of type `gateway` with `prefixes`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublicServiceSeed {
    /// Its whole name; `{region}` stands for the region's.
    pub name: String,
    /// Its id.
    pub id: ServiceId,
    /// Whose it is said to be.
    #[serde(default = "owner")]
    pub owner: String,
    /// Whether its use is said to cost something.
    #[serde(default)]
    pub is_charge: bool,
    /// The VPC of the same project that its backend is in.
    pub vpc: VpcId,
    /// The backend port.
    pub port: Option<PortId>,
    /// What the backend port belongs to: `LB` or `VM`.
    #[serde(default = "server_type")]
    pub server_type: ServerType,
    /// The blocks that clients reach at the addresses that they have.
    #[serde(default)]
    pub prefixes: Vec<Ipv4Net>,
    /// The TCP ports, the same on the endpoint and on the backend.
    pub ports: Vec<u16>,
}

fn owner() -> String {
    OWNER.to_owned()
}

fn server_type() -> ServerType {
    ServerType::Vm
}

impl PublicServiceSeed {
    /// The request that the operator would have sent, in a region of this name.
    pub(crate) fn request(&self, region: &str, project: &ProjectId) -> serde_json::Map<String, Value> {
        let ports: Vec<Value> = self
            .ports
            .iter()
            .map(|port| json!({"client_port": port, "server_port": port}))
            .collect();
        let (of_port, of_prefixes) = match self.port {
            Some(port) => (Some((port, self.server_type)), None),
            None => (None, Some(&self.prefixes)),
        };
        let fields = [
            ("project_id", json!(project)),
            (
                "service_type",
                json!(if of_port.is_some() { "interface" } else { "gateway" }),
            ),
            ("service_name", json!(self.name.replace("{region}", region))),
            ("owner", json!(self.owner)),
            ("is_charge", json!(self.is_charge)),
            ("vpc_id", json!(self.vpc)),
            ("port_id", json!(of_port.map(|(port, _)| port))),
            ("server_type", json!(of_port.map(|(_, server_type)| server_type))),
            ("prefixes", json!(of_prefixes)),
            ("ports", json!(ports)),
        ];
        fields
            .map(|(name, value)| (name.to_owned(), value))
            .into_iter()
            .collect()
    }

    fn check(&self, region: &str, project: &Project, seen: &mut Seen) -> Result<(), String> {
        seen.once("service id", self.id)?;
        seen.once("public service", &self.name)?;
        if self.port.is_some() != self.prefixes.is_empty() {
            return Err(format!(
                "public service {} needs a port or prefixes, and not both",
                self.name
            ));
        }
        let vpc = project
            .vpcs
            .iter()
            .find(|vpc| vpc.id == self.vpc)
            .ok_or_else(|| {
                format!(
                    "public service {} names VPC {}, which project {} does not have",
                    self.name, self.vpc, project.name
                )
            })?;
        let mut ports = vpc.subnets.iter().flat_map(|subnet| &subnet.ports);
        if let Some(port) = self.port
            && !ports.any(|p| p.id == port)
        {
            return Err(format!(
                "public service {} names port {port}, which VPC {} does not have",
                self.name, self.vpc
            ));
        }
        PublicCreate::parse(&self.request(region, &project.id))
            .map(drop)
            .map_err(|e| format!("public service {}: {e}", self.name))
    }
}

/// A text that is never shown.
#[derive(Clone, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// The text, for those who compare or sign with it.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// Why a text is no region.
#[derive(Debug, thiserror::Error)]
pub enum RegionError {
    /// Not of the file's form; the cause names the line.
    #[error("the region file cannot be read")]
    Form(#[from] toml::de::Error),
    /// Of the right form, but it contradicts itself.
    #[error("the region file contradicts itself: {0}")]
    Contradiction(String),
}

impl Region {
    /// What tells two regions apart whose processes would answer differently: the SHA-256 of everything but where clients reach
    /// this one, in hexadecimal digits.
    #[must_use]
    pub fn digest(&self) -> String {
        use sha2::{Digest as _, Sha256};
        let said = Self {
            public_url: None,
            ..self.clone()
        };
        let digest = Sha256::digest(format!("{said:?}"));
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The region that is used where the user names none.
    pub fn embedded() -> Self {
        #[expect(
            clippy::expect_used,
            reason = "the file is part of the program, and a test reads it"
        )]
        Self::parse(EMBEDDED).expect("the embedded region file is sound")
    }

    /// The text of the embedded region file, for a user to start from.
    pub fn embedded_text() -> &'static str {
        EMBEDDED
    }

    /// Reads a region file.
    ///
    /// # Errors
    /// For an unknown key and everything else that is not of the form (the cause names the line), and for what contradicts
    /// itself.
    pub fn parse(text: &str) -> Result<Self, RegionError> {
        let region: Self = toml::from_str(text)?;
        region.check().map_err(RegionError::Contradiction)?;
        Ok(region)
    }

    /// Whether the file fits together; what does not is said.
    pub(crate) fn check(&self) -> Result<(), String> {
        let word = |b: u8| b.is_ascii_alphanumeric() || b"-_".contains(&b);
        if self.name.is_empty() || !self.name.bytes().all(word) {
            return Err(format!(
                "the region's name {:?} is not of letters, digits, \"-\" and \"_\"",
                self.name
            ));
        }
        if self.token_lifetime_s == 0 {
            return Err("tokens that are good for 0 seconds are good for nothing".to_owned());
        }
        let mut seen = Seen::default();
        for domain in &self.domains {
            domain.check(&self.name, &mut seen)?;
        }
        Ok(())
    }
}

/// What may occur only once, as (kind, value).
#[derive(Default)]
struct Seen(HashSet<(&'static str, String)>);

impl Seen {
    fn once(&mut self, kind: &'static str, value: impl fmt::Display) -> Result<(), String> {
        let value = value.to_string();
        if self.0.insert((kind, value.clone())) {
            Ok(())
        } else {
            Err(format!("the {kind} {value} occurs twice"))
        }
    }
}

/// Ids read from a file have not been through their parser.
fn well_formed<T: std::str::FromStr>(kind: &str, id: &str) -> Result<(), String> {
    id.parse::<T>()
        .map(drop)
        .map_err(|_| format!("{id:?} is not the id of a {kind}"))
}

impl Domain {
    fn check(&self, region: &str, seen: &mut Seen) -> Result<(), String> {
        well_formed::<DomainId>("domain", self.id.as_str())?;
        seen.once("domain id", &self.id)?;
        seen.once("domain", &self.name)?;
        for project in &self.projects {
            well_formed::<ProjectId>("project", project.id.as_str())?;
            seen.once("project id", &project.id)?;
            seen.once("project", format!("{} of domain {}", project.name, self.name))?;
            for vpc in &project.vpcs {
                vpc.check(seen)?;
            }
            for service in &project.public_services {
                service.check(region, project, seen)?;
            }
        }
        for NamedPolicy { name, document } in &self.policies {
            seen.once("policy", format!("{name} of domain {}", self.name))?;
            if iam::is_system_role(name) {
                return Err(format!(
                    "policy {name} of domain {} has a system role's name",
                    self.name
                ));
            }
            if let Some(idle) = document.patterns().find(|pattern| iam::is_idle(pattern)) {
                return Err(format!(
                    "policy {name} of domain {}: there is no action {idle}",
                    self.name
                ));
            }
        }
        let known = |name: &str| self.projects.iter().any(|p| p.name == name);
        for user in &self.users {
            seen.once("user id", &user.id)?;
            seen.once("user", format!("{} of domain {}", user.name, self.name))?;
            let named = user
                .roles
                .keys()
                .chain(user.access_keys.iter().map(|key| &key.project));
            for project in named {
                if !known(project) {
                    return Err(format!(
                        "user {} names project {project}, which domain {} does not have",
                        user.name, self.name
                    ));
                }
            }
            for key in &user.access_keys {
                seen.once("access key", &key.access)?;
            }
        }
        Ok(())
    }
}

impl VpcSeed {
    fn check(&self, seen: &mut Seen) -> Result<(), String> {
        seen.once("VPC id", self.id)?;
        for (i, subnet) in self.subnets.iter().enumerate() {
            seen.once("subnet id", subnet.id)?;
            seen.once("subnet id", subnet.neutron_subnet_id)?;
            let SubnetSeed { cidr, gateway, .. } = subnet;
            if !self.cidr.contains(cidr) || *cidr != cidr.trunc() || cidr.prefix_len() > 30 {
                return Err(format!(
                    "subnet {}: {cidr} is not a block of its VPC's {}",
                    subnet.id, self.cidr
                ));
            }
            let usable =
                |ip: &Ipv4Addr| cidr.contains(ip) && *ip != cidr.network() && *ip != cidr.broadcast();
            if !usable(gateway) {
                return Err(format!(
                    "subnet {}: the gateway {gateway} is not one of its addresses",
                    subnet.id
                ));
            }
            if let Some(other) = self
                .subnets
                .iter()
                .take(i)
                .find(|other| overlaps(other.cidr, *cidr))
            {
                return Err(format!("subnets {} and {} overlap", other.id, subnet.id));
            }
            for port in &subnet.ports {
                seen.once("port id", port.id)?;
                seen.once("address", format!("{} of subnet {}", port.ip, subnet.id))?;
                if !usable(&port.ip) || port.ip == *gateway {
                    return Err(format!(
                        "port {}: {} is not a free address of its subnet",
                        port.id, port.ip
                    ));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
