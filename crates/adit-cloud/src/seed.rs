//! What of the region file is written to the store at a start: quotas when the file's have changed, networks and public
//! services once.
//!
//! `region/seeded` lists the keys of every network resource and service that was ever made from a file. What is listed is not
//! made again, so that what was deleted stays deleted; what exists is kept as it is. `region/limits` has the quotas that were
//! last taken from a file: an operator's change stays until the file says something new.

use std::collections::{BTreeMap, BTreeSet};

use adit_model::{
    ApiError,
    id::ProjectId,
    network::{SubnetRange, usable_address},
    quota::Limits,
    service::{PublicCreate, ServicePlace},
};
use adit_server::{Network, NetworkError, app::public_service::PublicOrder};
use adit_store::{Key, State, StoreError, Txn, keys};

use crate::{
    cloud::Cloud,
    network::{Failure, port::PortCreate, subnet::SubnetCreate, vpc::VpcCreate},
    region::{Domain, PortSeed, Project, PublicServiceSeed, SubnetSeed, VpcSeed},
};

/// Where the keys of what was made are listed.
const SEEDED: &str = "region/seeded";
/// Where the quotas are kept that were last taken from a region file.
const SEEDED_LIMITS: &str = "region/limits";

fn invalid(error: ApiError) -> Failure {
    Failure::Invalid(error.message)
}

impl Cloud {
    /// Makes what the region file has and the store has not had yet.
    pub(crate) async fn seed(&self) -> Result<(), Failure> {
        self.seed_limits().await?;
        let projects = || {
            let domains = self.region.domains.iter();
            domains.flat_map(|domain| domain.projects.iter().map(move |project| (domain, project)))
        };
        for (_, project) in projects() {
            for vpc in &project.vpcs {
                self.seed_vpc(&project.id, vpc).await?;
                for subnet in &vpc.subnets {
                    self.seed_subnet(&project.id, vpc, subnet).await?;
                    for port in &subnet.ports {
                        self.seed_port(&project.id, subnet, port).await?;
                    }
                }
            }
        }
        for (domain, project) in projects() {
            for service in &project.public_services {
                self.seed_public_service(domain, project, service).await?;
            }
        }
        Ok(())
    }

    async fn seed_limits(&self) -> Result<(), Failure> {
        let projects = self.region.domains.iter().flat_map(|domain| &domain.projects);
        for project in projects {
            let limits = Limits::from(project.quotas);
            self.decide(|state| {
                let known = state.other(SEEDED_LIMITS);
                let mut seeded: BTreeMap<ProjectId, Limits> = match known {
                    Some(entry) => decode(&entry.value)?,
                    None => BTreeMap::new(),
                };
                if seeded.insert(project.id.clone(), limits) == Some(limits) {
                    return Ok((Txn::new(), ()));
                }
                let txn = match known {
                    Some(entry) => Txn::new().unchanged(SEEDED_LIMITS, entry.mod_revision),
                    None => Txn::new().absent(SEEDED_LIMITS),
                };
                let txn = txn.put(SEEDED_LIMITS, keys::encode(&seeded));
                let key = Key::Limits(project.id.clone());
                Ok((txn.put(key, keys::encode(&limits)), ()))
            })
            .await?;
        }
        Ok(())
    }

    async fn seed_public_service(
        &self,
        domain: &Domain,
        project: &Project,
        seed: &PublicServiceSeed,
    ) -> Result<(), Failure> {
        let request = PublicCreate::parse(&seed.request(&self.region.name, &project.id)).map_err(invalid)?;
        let unavailable = |e: NetworkError| Failure::Invalid(e.to_string());
        let vpc = self.get_vpc(seed.vpc, &project.id).await.map_err(unavailable)?;
        let port = match seed.port {
            Some(port) => self.get_port(port, &project.id).await.map_err(unavailable)?,
            None => None,
        };
        self.seed_one(Key::Service(seed.id), |state| {
            if state.service(&seed.id).is_some() {
                return Ok(None);
            }
            let place = ServicePlace {
                id: seed.id,
                project: project.id.clone(),
                domain: domain.id.clone(),
                region: &self.region.name,
                pool: self.region.pool,
                backend_ip: port.as_ref().and_then(|p| p.view.ip),
                quota_slot: None,
                created: self.created(),
            };
            let order = PublicOrder {
                request: &request,
                place,
                vpc: vpc.as_ref(),
                port: port.as_ref(),
                pools: &[self.region.pool],
                services_per_port_max: None,
            };
            order.plan(state).map(|(txn, _)| Some(txn)).map_err(invalid)
        })
        .await
    }

    async fn seed_vpc(&self, project: &ProjectId, seed: &VpcSeed) -> Result<(), Failure> {
        let wanted = VpcCreate {
            id: seed.id,
            name: seed.name.clone(),
            description: String::new(),
            cidr: Some(seed.cidr),
        };
        self.seed_one(Key::Vpc(seed.id), |state| {
            let exists = state.vpc(&seed.id).is_some();
            if exists {
                return Ok(None);
            }
            self.plan_vpc(state, project, wanted.clone())
                .map(|(txn, _)| Some(txn))
        })
        .await
    }

    async fn seed_subnet(
        &self,
        project: &ProjectId,
        vpc: &VpcSeed,
        seed: &SubnetSeed,
    ) -> Result<(), Failure> {
        let wanted = SubnetCreate {
            id: seed.id,
            name: seed.name.clone(),
            description: String::new(),
            vpc: vpc.id,
            range: SubnetRange {
                id: seed.neutron_subnet_id,
                name: seed.name.clone(),
                cidr: seed.cidr,
                gateway: seed.gateway,
                dhcp: true,
                dns: Vec::new(),
            },
        };
        self.seed_one(Key::Subnet(seed.id), |state| {
            if state.subnet(&seed.id).is_some() || state.vpc(&vpc.id).is_none() {
                return Ok(None);
            }
            self.plan_subnet(state, project, wanted.clone())
                .map(|(txn, _)| Some(txn))
        })
        .await
    }

    async fn seed_port(
        &self,
        project: &ProjectId,
        subnet: &SubnetSeed,
        seed: &PortSeed,
    ) -> Result<(), Failure> {
        let wanted = PortCreate {
            id: seed.id,
            name: seed.name.clone(),
            subnet: subnet.id,
            range: None,
            ip: Some(seed.ip),
            mac: None,
            device_id: String::new(),
            device_owner: seed.device_owner.clone(),
        };
        self.seed_one(Key::Port(seed.id), |state| {
            let range = state.subnet(&subnet.id).and_then(|subnet| subnet.range.as_ref());
            if state.port(&seed.id).is_some() || range.is_none_or(|range| !usable_address(range, seed.ip)) {
                return Ok(None);
            }
            self.plan_port(state, project, wanted.clone())
                .map(|(txn, ..)| Some(txn))
        })
        .await
    }

    /// Makes one resource, if it was never made before, and remembers it. What the file wants and the region no longer
    /// allows (its parent was deleted, its address given away) is left out and said.
    async fn seed_one(
        &self,
        key: Key,
        plan: impl Fn(&State) -> Result<Option<Txn>, Failure>,
    ) -> Result<(), Failure> {
        let name = key.to_string();
        self.decide(|state| {
            let known = state.other(SEEDED);
            let mut seeded: BTreeSet<String> = match known {
                Some(entry) => decode(&entry.value)?,
                None => BTreeSet::new(),
            };
            if !seeded.insert(name.clone()) {
                return Ok((Txn::new(), ()));
            }
            let txn = match plan(state) {
                Ok(txn) => txn.unwrap_or_default(),
                Err(failure @ (Failure::Store(_) | Failure::Cache(_))) => return Err(failure),
                Err(failure) => {
                    tracing::warn!(store.key = %name, error = %failure, "The region file wants what the region does not allow; it is left out.");
                    return Ok((Txn::new(), ()));
                }
            };
            let txn = match known {
                Some(entry) => txn.unchanged(SEEDED, entry.mod_revision),
                None => txn.absent(SEEDED),
            };
            Ok((txn.put(SEEDED, keys::encode(&seeded)), ()))
        })
        .await
    }
}

fn decode<T: serde::de::DeserializeOwned>(value: &[u8]) -> Result<T, StoreError> {
    keys::decode(value).map_err(|e| StoreError::unavailable("read what was made from region files", e))
}
