//! VPCs, and how much is in them: those that the embedded cloud keeps, and those of another network that something is in.

use std::collections::HashMap;

use adit_model::{
    ApiError, Code,
    id::{ProjectId, VpcId},
    listing::{LIMIT_MAX, Listing, Query},
    time::{Created, Timestamp},
};
use adit_store::State;
use ipnet::Ipv4Net;

use super::Whose;
use crate::{app::App, error::Failure};

/// A VPC, as the operator sees it.
#[derive(Clone, Debug)]
pub struct VpcInspected {
    /// Its id.
    pub id: VpcId,
    /// Its project.
    pub project: ProjectId,
    /// Its name, where the embedded cloud keeps it.
    pub name: Option<String>,
    /// Its block.
    pub cidr: Option<Ipv4Net>,
    /// When it was made, where that is known, and when it last changed.
    pub times: Option<(Created, Timestamp)>,
    /// How many subnets are known in it.
    pub subnets: usize,
    /// How many services have their backend in it.
    pub services: usize,
    /// How many endpoints are in it.
    pub endpoints: usize,
}

impl VpcInspected {
    fn unknown(id: VpcId, project: &ProjectId) -> Self {
        Self {
            id,
            project: project.clone(),
            name: None,
            cidr: None,
            times: None,
            subnets: 0,
            services: 0,
            endpoints: 0,
        }
    }
}

impl App {
    /// A page of all VPCs, and how many there are.
    ///
    /// # Errors
    /// By the query.
    pub async fn operator_vpc_list(&self, query: &Query) -> Result<(Vec<VpcInspected>, usize), Failure> {
        let whose = Whose::parse(query)?;
        let id = query.id::<VpcId>("id", Code::E0020)?;
        let listing = Listing::parse(query, LIMIT_MAX, false)?;
        self.barrier().await?;
        let mut found = inspected(&self.cache.read());
        found.retain(|vpc| {
            whose
                .project
                .as_ref()
                .is_none_or(|project| *project == vpc.project)
        });
        found.retain(|vpc| id.is_none_or(|id| id == vpc.id));
        let total = found.len();
        Ok((listing.page(found, |vpc| vpc.times.unwrap_or_default()), total))
    }

    /// Any VPC.
    ///
    /// # Errors
    /// 0005.
    pub async fn operator_vpc_show(&self, id: VpcId) -> Result<VpcInspected, Failure> {
        self.barrier().await?;
        let found = inspected(&self.cache.read()).into_iter().find(|vpc| vpc.id == id);
        found.ok_or_else(|| ApiError::because(Code::E0005, format!("There is no VPC {id}.")).into())
    }
}

fn inspected(state: &State) -> Vec<VpcInspected> {
    let mut found: HashMap<VpcId, VpcInspected> = HashMap::new();
    for vpc in state.vpcs() {
        let seen = VpcInspected {
            name: Some(vpc.name.clone()),
            cidr: vpc.cidr,
            times: Some((vpc.created, vpc.updated_at)),
            subnets: state.subnets_of_vpc(vpc.id).count(),
            ..VpcInspected::unknown(vpc.id, &vpc.project)
        };
        found.insert(vpc.id, seen);
    }
    for s in state.services() {
        let vpc = found
            .entry(s.vpc)
            .or_insert_with(|| VpcInspected::unknown(s.vpc, &s.project));
        vpc.services += 1;
    }
    for e in state.endpoints() {
        let vpc = found
            .entry(e.vpc)
            .or_insert_with(|| VpcInspected::unknown(e.vpc, &e.project));
        vpc.endpoints += 1;
    }
    found.into_values().collect()
}
