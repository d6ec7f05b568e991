//! Operations on tags (spec A.18 to A.20).

use std::collections::{BTreeMap, BTreeSet};

use adit_model::{
    body::Body,
    id::{EndpointId, ServiceId},
    quota::QuotaType,
    tag::Tag,
    tag_action::TagAction,
    tag_query::{TagQuery, Wanted},
};
use adit_store::{Key, State, Txn, keys::encode};

use super::{ATTEMPTS_MAX, App, Scope, endpoint::own_endpoint};
use crate::error::Failure;

/// What has tags.
#[derive(Clone, Copy, Debug)]
pub enum Tagged {
    /// An endpoint service.
    Service(ServiceId),
    /// An endpoint.
    Endpoint(EndpointId),
}

/// A resource as a query by tags shows it.
#[derive(Clone, Debug)]
pub struct TaggedResource {
    /// Its id.
    pub id: String,
    /// Its name; an endpoint has none, and its id stands in.
    pub name: String,
    /// Its tags.
    pub tags: Vec<Tag>,
}

/// What a query by tags has found.
#[derive(Clone, Debug)]
pub struct TagsFound {
    /// A page, where one was asked for.
    pub page: Option<Vec<TaggedResource>>,
    /// How many match, on all pages.
    pub total: usize,
}

impl App {
    /// Finds the project's services or endpoints by their tags, newest first.
    ///
    /// # Errors
    /// By spec A.18.
    pub async fn tag_query(&self, scope: &Scope, kind: QuotaType, body: &Body) -> Result<TagsFound, Failure> {
        let query = TagQuery::parse(body, self.config.superset)?;
        self.barrier().await?;
        let state = self.cache.read();
        let (limit, offset) = match query.wanted {
            Wanted::Page { limit, offset } => (limit, offset),
            Wanted::Count => (0, 0),
        };
        let (mut total, mut page) = (0, Vec::new());
        for_each_newest_first(&state, scope, kind, |id, name, tags| {
            if query.matches(name, tags) {
                if total >= offset && page.len() < limit {
                    page.push(TaggedResource {
                        id: id.to_owned(),
                        name: name.to_owned(),
                        tags: tags.to_vec(),
                    });
                }
                total += 1;
            }
        });
        Ok(TagsFound {
            page: (query.wanted != Wanted::Count).then_some(page),
            total,
        })
    }

    /// Adds tags to a resource or takes them away, all or none.
    ///
    /// # Errors
    /// By spec A.19.
    pub async fn tag_action(&self, scope: &Scope, of: Tagged, body: &Body) -> Result<(), Failure> {
        let action = TagAction::parse(body)?;
        self.barrier().await?;
        for _ in 0..ATTEMPTS_MAX {
            let txn = {
                let state = self.cache.read();
                match of {
                    Tagged::Service(id) => {
                        let old = Self::own_service(&state, scope, id)?;
                        let mut new = (*old.value).clone();
                        new.retag(&action, self.now())?.then(|| {
                            Txn::new()
                                .unchanged(Key::Service(id), old.revision)
                                .put(Key::Service(id), encode(&new))
                        })
                    }
                    Tagged::Endpoint(id) => {
                        let old = own_endpoint(&state, scope, id)?;
                        let mut new = (*old.value).clone();
                        new.retag(&action, self.now())?.then(|| {
                            Txn::new()
                                .unchanged(Key::Endpoint(id), old.revision)
                                .put(Key::Endpoint(id), encode(&new))
                        })
                    }
                }
            };
            match txn {
                None => return Ok(()),
                Some(txn) => {
                    if self.commit(txn).await? {
                        return Ok(());
                    }
                }
            }
        }
        Err(Failure::Busy(ATTEMPTS_MAX))
    }

    /// Every key in use on the project's services or endpoints, with its values, in their order as texts.
    ///
    /// # Errors
    /// Where the store does not answer.
    pub async fn tag_list(
        &self,
        scope: &Scope,
        kind: QuotaType,
    ) -> Result<BTreeMap<String, BTreeSet<String>>, Failure> {
        self.barrier().await?;
        let state = self.cache.read();
        let mut tags: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for_each_newest_first(&state, scope, kind, |_, _, present| {
            for Tag { key, value } in present {
                tags.entry(key.clone()).or_default().insert(value.clone());
            }
        });
        Ok(tags)
    }
}

/// Calls with the id, the name and the tags of each of the project's resources of a kind. What other projects have costs
/// nothing.
fn for_each_newest_first(
    state: &State,
    scope: &Scope,
    kind: QuotaType,
    mut call: impl FnMut(&str, &str, &[Tag]),
) {
    match kind {
        QuotaType::EndpointService => state
            .services_of_project(&scope.project)
            .iter()
            .rev()
            .for_each(|s| call(&s.id.to_string(), &s.name, &s.tags)),
        QuotaType::Endpoint => state
            .endpoints_of_project(&scope.project)
            .iter()
            .rev()
            .for_each(|e| {
                let id = e.id.to_string();
                call(&id, &id, &e.tags);
            }),
    }
}
