//! How a person logs in: what `adit dev` prints at its start, read from the region file.
//!
//! The one place where secrets of the region file are handed out, on purpose: they guard a region on one's own machine.

use crate::region::{Region, RegionError};
use adit_model::id::{DomainId, ProjectId};
use adit_server::iam::ROLE_OPERATOR;

/// A user with one of the projects that the user has roles in.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// The user's name.
    pub user: String,
    /// The password, in clear.
    pub password: String,
    /// The name of the user's and the project's account.
    pub domain: String,
    /// That account's id.
    pub domain_id: DomainId,
    /// The project's name.
    pub project: String,
    /// The project's id.
    pub project_id: ProjectId,
}

impl Region {
    /// Every user, with the first of the account's projects that the user has roles in, in the file's order.
    pub fn logins(&self) -> Vec<Login> {
        let mut logins = Vec::new();
        for domain in &self.domains {
            for user in &domain.users {
                let Some(project) = domain.projects.iter().find(|p| user.roles.contains_key(&p.name)) else {
                    continue;
                };
                logins.push(Login {
                    user: user.name.clone(),
                    password: user.password.expose().to_owned(),
                    domain: domain.name.clone(),
                    domain_id: domain.id.clone(),
                    project: project.name.clone(),
                    project_id: project.id.clone(),
                });
            }
        }
        logins
    }

    /// The first user who is an operator, with a project that the user is one in.
    pub fn operator(&self) -> Option<Login> {
        self.logins().into_iter().find(|login| {
            let domain = self.domains.iter().find(|domain| domain.id == login.domain_id);
            let mut users = domain.into_iter().flat_map(|domain| &domain.users);
            let user = users.find(|user| user.name == login.user);
            let roles = user.and_then(|user| user.roles.get(&login.project));
            roles.is_some_and(|roles| roles.iter().any(|role| role == ROLE_OPERATOR))
        })
    }

    /// The same region under another name.
    ///
    /// # Errors
    /// For a name that is not of letters, digits, `-` and `_`.
    pub fn named(mut self, name: &str) -> Result<Self, RegionError> {
        name.clone_into(&mut self.name);
        self.check().map_err(RegionError::Contradiction)?;
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_of_the_embedded_region_can_log_in() {
        let logins = Region::embedded().logins();
        let names: Vec<_> = logins
            .iter()
            .map(|l| (l.user.as_str(), l.project.as_str()))
            .collect();
        assert_eq!(
            names,
            [
                ("demo", "eu-de_demo"),
                ("viewer", "eu-de_demo"),
                ("other", "eu-de_other"),
                ("operator", "eu-de_operator")
            ]
        );
        let operator = Region::embedded().operator().unwrap();
        assert_eq!(operator.user, "operator");
        assert_eq!(logins[0].project_id.as_str(), "6e9dfd51d1124e8d8498dce894923a0d");
    }

    #[test]
    fn a_region_s_name_is_one_word() {
        assert_eq!(Region::embedded().named("eu-nl").unwrap().name, "eu-nl");
        assert!(Region::embedded().named("eu.de").is_err());
        assert!(Region::embedded().named("").is_err());
    }
}
