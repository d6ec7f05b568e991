//! The region file's accounts, looked up.

use std::sync::Arc;

use adit_model::id::DomainId;
use adit_server::Caller;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::Scope;
use crate::region::{AccessKey, Domain, Project, Region, User};

/// How a request names something: by its id, or by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Named {
    /// By its id.
    Id(String),
    /// By its name.
    Name(String),
}

impl Named {
    fn is(&self, id: &str, name: &str) -> bool {
        match self {
            Self::Id(wanted) => wanted == id,
            Self::Name(wanted) => wanted == name,
        }
    }
}

/// A user with the account that it belongs to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Account<'a> {
    /// The account.
    pub(crate) domain: &'a Domain,
    /// The user.
    pub(crate) user: &'a User,
}

impl<'a> Account<'a> {
    /// The roles that the user has in a project; none if it has nothing to do with it.
    pub(crate) fn roles_in(&self, project: &Project) -> &'a [String] {
        let own = self.domain.projects.iter().any(|p| p.id == project.id);
        let roles = self.user.roles.get(&project.name).filter(|_| own);
        roles.map_or(&[], Vec::as_slice)
    }

    /// The projects that the user has roles in.
    pub(crate) fn projects(self) -> impl Iterator<Item = &'a Project> {
        self.domain
            .projects
            .iter()
            .filter(move |project| !self.roles_in(project).is_empty())
    }

    /// The roles that a scope gives the user; `None` where it gives none. An account's own users are at home in it.
    pub(crate) fn roles(&self, scope: &Scope) -> Option<Vec<String>> {
        match scope {
            Scope::Nothing => Some(Vec::new()),
            Scope::Project(id) => {
                let project = self.domain.projects.iter().find(|p| p.id == *id)?;
                let roles = self.roles_in(project);
                (!roles.is_empty()).then(|| roles.to_vec())
            }
            Scope::Domain(id) => {
                let mut roles: Vec<String> = self.user.roles.values().flatten().cloned().collect();
                roles.sort();
                roles.dedup();
                (self.domain.id == *id).then_some(roles)
            }
        }
    }

    /// The user as a caller in a scope; `None` where the scope gives it no roles.
    pub(crate) fn caller(&self, scope: &Scope) -> Option<Caller> {
        let roles = self.roles(scope)?;
        let policies = self.domain.policies.iter().filter(|p| roles.contains(&p.name));
        Some(Caller {
            user_id: self.user.id.clone(),
            user_name: self.user.name.clone(),
            domain: self.domain.id.clone(),
            project: match scope {
                Scope::Project(id) => Some(id.clone()),
                Scope::Nothing | Scope::Domain(_) => None,
            },
            policies: policies.map(|p| Arc::clone(&p.document)).collect(),
            roles,
        })
    }
}

impl Region {
    /// A domain.
    pub(crate) fn domain(&self, domain: &Named) -> Option<&Domain> {
        self.domains.iter().find(|d| domain.is(d.id.as_str(), &d.name))
    }

    /// A user: by id in the whole region, by name in a domain.
    pub(crate) fn account(&self, user: &Named, domain: Option<&Named>) -> Option<Account<'_>> {
        let domains = self.domains.iter().filter(|d| match (domain, user) {
            (Some(domain), _) => domain.is(d.id.as_str(), &d.name),
            (None, Named::Id(_)) => true,
            (None, Named::Name(_)) => false,
        });
        let mut accounts =
            domains.flat_map(|domain| domain.users.iter().map(move |user| Account { domain, user }));
        accounts.find(|account| user.is(&account.user.id, &account.user.name))
    }

    /// A user whose password this is. Takes the same time for an unknown user as for a wrong password.
    pub(crate) fn account_by_password(
        &self,
        user: &Named,
        domain: Option<&Named>,
        password: &str,
    ) -> Option<Account<'_>> {
        let account = self.account(user, domain);
        let expected = account.map_or("", |account| account.user.password.expose());
        // Digests have one length, so that not even the password's is told.
        let fits = Sha256::digest(expected)
            .as_slice()
            .ct_eq(Sha256::digest(password).as_slice());
        account.filter(|_| bool::from(fits))
    }

    /// A project: by id in the whole region, by name in a domain.
    pub(crate) fn project(&self, project: &Named, domain: Option<&Named>) -> Option<(&Domain, &Project)> {
        let domains = self.domains.iter().filter(|d| match (domain, project) {
            (Some(domain), _) => domain.is(d.id.as_str(), &d.name),
            (None, Named::Id(_)) => true,
            (None, Named::Name(_)) => false,
        });
        let mut projects = domains.flat_map(|domain| domain.projects.iter().map(move |p| (domain, p)));
        projects.find(|(_, p)| project.is(p.id.as_str(), &p.name))
    }

    /// An access key, with whose it is.
    pub(crate) fn access_key(&self, access: &str) -> Option<(Account<'_>, &AccessKey)> {
        let accounts = self
            .domains
            .iter()
            .flat_map(|domain| domain.users.iter().map(move |user| Account { domain, user }));
        let mut keys =
            accounts.flat_map(|account| account.user.access_keys.iter().map(move |key| (account, key)));
        keys.find(|(_, key)| key.access == access)
    }

    /// The account that a project belongs to.
    pub(crate) fn domain_of(&self, id: &DomainId) -> Option<&Domain> {
        self.domains.iter().find(|domain| domain.id == *id)
    }
}
