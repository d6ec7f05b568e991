//! Operations on whitelist records (spec A.11, A.12).

use adit_model::{
    body::Body,
    id::ServiceId,
    listing::{Listing, Query, WHITELIST_LIMIT_MAX},
    whitelist::{Action, Whitelist, WhitelistAction, WhitelistRecord},
};
use adit_store::{Key, Txn, keys::encode};

use super::{ATTEMPTS_MAX, App, Scope, as_seen};
use crate::error::Failure;

impl App {
    /// A page of a service's whitelist records, and how many there are.
    ///
    /// # Errors
    /// By spec A.11.
    pub async fn whitelist_list(
        &self,
        scope: &Scope,
        service: ServiceId,
        query: &Query,
    ) -> Result<(Vec<WhitelistRecord>, usize), Failure> {
        let listing = Listing::parse(query, WHITELIST_LIMIT_MAX, true)?;
        let wanted = query.get("permission");
        self.barrier().await?;
        let state = self.cache.read();
        Self::own_service(&state, scope, service)?;
        let records = state.whitelist(&service).map_or(&[][..], |w| &w.records);
        let matching: Vec<_> = records
            .iter()
            .filter(|r| wanted.is_none_or(|wanted| r.permission.contains(wanted)))
            .cloned()
            .collect();
        let total = matching.len();
        Ok((listing.page(matching, |r| (r.created, r.created.at)), total))
    }

    /// Adds or removes records, all or none; answers the records as sent.
    ///
    /// # Errors
    /// By spec A.12.
    pub async fn whitelist_action(
        &self,
        scope: &Scope,
        service: ServiceId,
        body: &Body,
    ) -> Result<Vec<String>, Failure> {
        let request = WhitelistAction::parse(body)?;
        let _turn = self.whitelists.enter(&service).await;
        self.barrier().await?;
        for _ in 0..ATTEMPTS_MAX {
            let txn = {
                let state = self.cache.read();
                let seen = Self::own_service(&state, scope, service)?;
                seen.check_parts_writable()?;
                let old = state.whitelist(&service).cloned();
                // Marks are given after the state is let go of: they look at it too.
                drop(state);
                let none = Whitelist::default();
                let before = old.as_ref().map_or(&none, |w| &w.value);
                let after = match request.action {
                    Action::Add => before.add(&request.permissions, || self.created())?,
                    Action::Remove => before.remove(&request.permissions),
                };
                if after == *before {
                    return Ok(request.permissions);
                }
                let key = Key::Whitelist(service);
                let txn = as_seen(Txn::new(), key.clone(), old.as_ref())
                    .unchanged(Key::Service(service), seen.revision);
                if after.records.is_empty() {
                    txn.delete(key)
                } else {
                    txn.put(key, encode(&after))
                }
            };
            if self.commit(txn).await? {
                return Ok(request.permissions);
            }
        }
        Err(Failure::Busy(ATTEMPTS_MAX))
    }
}
