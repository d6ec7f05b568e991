//! The documents under one parent, in the orders that lists have.

use std::{collections::HashMap, hash::Hash};

use adit_model::{
    endpoint::Endpoint,
    id::{EndpointId, ServiceId},
    listing::{Listing, SortKey},
    service::Service,
    time::{Created, Timestamp},
};

use super::{Stored, Table, ranked::Ranked};

/// A document that lists are made of.
pub trait Listed {
    /// What it is named by.
    type Id: Copy + Eq + Hash + Ord;

    /// Its id.
    fn id(&self) -> Self::Id;
    /// When it was made, which never changes.
    fn created(&self) -> Created;
    /// When it last changed.
    fn updated_at(&self) -> Timestamp;
}

impl Listed for Service {
    type Id = ServiceId;

    fn id(&self) -> ServiceId {
        self.id
    }

    fn created(&self) -> Created {
        self.created
    }

    fn updated_at(&self) -> Timestamp {
        self.updated_at
    }
}

impl Listed for Endpoint {
    type Id = EndpointId;

    fn id(&self) -> EndpointId {
        self.id
    }

    fn created(&self) -> Created {
        self.created
    }

    fn updated_at(&self) -> Timestamp {
        self.updated_at
    }
}

/// The ids of one parent's documents, in both orders. Ties go by the order of creation (spec semantics 21, row 2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Orders<K> {
    by_creation: Ranked<(u64, K)>,
    by_update: Ranked<(Timestamp, u64, K)>,
}

impl<K> Default for Orders<K> {
    fn default() -> Self {
        Self {
            by_creation: Ranked::default(),
            by_update: Ranked::default(),
        }
    }
}

impl<K: Copy + Ord> Orders<K> {
    fn set(&mut self, document: &impl Listed<Id = K>, present: bool) {
        let (order, id) = (document.created().order, document.id());
        if present {
            self.by_creation.insert((order, id));
            self.by_update.insert((document.updated_at(), order, id));
        } else {
            self.by_creation.remove(&(order, id));
            self.by_update.remove(&(document.updated_at(), order, id));
        }
    }
}

/// The orders of each parent.
pub(crate) type Children<P, K> = HashMap<P, Orders<K>>;

/// Adds a document to its parent's, or takes it out; a parent without any is gone without a trace.
pub(crate) fn mark<P: Eq + Hash, D: Listed>(
    children: &mut Children<P, D::Id>,
    parent: P,
    document: &D,
    present: bool,
) {
    if present {
        children.entry(parent).or_default().set(document, true);
    } else if let Some(orders) = children.get_mut(&parent) {
        orders.set(document, false);
        if orders.by_creation.len() == 0 {
            children.remove(&parent);
        }
    }
}

/// The documents under one parent.
#[derive(Debug)]
pub struct Records<'a, K, T> {
    pub(super) orders: Option<&'a Orders<K>>,
    pub(super) table: &'a Table<K, T>,
}

impl<'a, T: Listed> Records<'a, T::Id, T> {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.orders.map_or(0, |orders| orders.by_creation.len())
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All of them, oldest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &'a Stored<T>> + use<'a, T> {
        let (orders, table) = (self.orders, self.table);
        let ids = orders.into_iter().flat_map(|orders| orders.by_creation.iter());
        ids.filter_map(|(_, id)| table.get(id))
    }

    /// A page, and how many there are on all pages together: of all, of the one with this id, of those that `keep` keeps.
    ///
    /// Costs what is on the page, except where `keep` has to look at every record.
    pub fn select(
        &self,
        listing: &Listing,
        id: Option<T::Id>,
        keep: Option<impl Fn(&T) -> bool>,
    ) -> (Vec<&'a Stored<T>>, usize) {
        let Some(orders) = self.orders else {
            return (Vec::new(), 0);
        };
        let Listing { limit, offset, .. } = *listing;
        if let Some(id) = id {
            let found = self.table.get(&id).filter(|d| {
                orders.by_creation.contains(&(d.created().order, id)) && keep.is_none_or(|keep| keep(d))
            });
            let total = usize::from(found.is_some());
            return (found.into_iter().skip(offset).take(limit).collect(), total);
        }
        match keep {
            None => (self.page(orders, listing), self.len()),
            Some(keep) => {
                let all = Listing {
                    limit: usize::MAX,
                    offset: 0,
                    ..*listing
                };
                let mut matching = self.page(orders, &all);
                matching.retain(|d| keep(d));
                let total = matching.len();
                (matching.into_iter().skip(offset).take(limit).collect(), total)
            }
        }
    }

    fn page(&self, orders: &Orders<T::Id>, listing: &Listing) -> Vec<&'a Stored<T>> {
        let Listing {
            limit,
            offset,
            sort_key,
            ascending,
        } = *listing;
        let get = |id: &T::Id| self.table.get(id);
        match sort_key {
            SortKey::CreatedAt => {
                let ids = orders.by_creation.page(ascending, offset, limit);
                ids.into_iter().filter_map(|(_, id)| get(id)).collect()
            }
            SortKey::UpdatedAt => {
                let ids = orders.by_update.page(ascending, offset, limit);
                ids.into_iter().filter_map(|(.., id)| get(id)).collect()
            }
        }
    }
}
