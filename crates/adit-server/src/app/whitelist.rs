//! Operations on whitelist records (spec A.11, A.12, B.5 to B.7).

use adit_model::{
    ApiError,
    body::Body,
    id::{RecordId, ServiceId},
    listing::{Listing, Query, WHITELIST_LIMIT_MAX},
    whitelist::{Action, Whitelist, WhitelistAction, WhitelistRecord},
    whitelist_batch::{RecordsAdd, RecordsRemove, parse_description},
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
        let request = WhitelistAction::parse(body, self.config.superset)?;
        let permissions = &request.permissions;
        let change = |before: &Whitelist| match request.action {
            Action::Add => {
                let wanted = permissions.iter().map(|permission| (permission.as_str(), ""));
                before.add(wanted, || self.created())
            }
            Action::Remove => Ok(before.remove(permissions)),
        };
        self.whitelist_change(scope, service, change).await?;
        Ok(request.permissions)
    }

    /// Adds records with descriptions, all or none; answers those that are new.
    ///
    /// # Errors
    /// By spec B.5.
    pub async fn whitelist_add(
        &self,
        scope: &Scope,
        service: ServiceId,
        body: &Body,
    ) -> Result<Vec<WhitelistRecord>, Failure> {
        let request = RecordsAdd::parse(body)?;
        let change = |before: &Whitelist| {
            let wanted = request.records.iter().map(|(p, d)| (p.as_str(), d.as_str()));
            before.add(wanted, || self.created())
        };
        let (before, mut after) = self.whitelist_change(scope, service, change).await?;
        Ok(after.records.split_off(before.records.len()))
    }

    /// Removes records by their ids, all or none; answers them.
    ///
    /// # Errors
    /// By spec B.6.
    pub async fn whitelist_remove(
        &self,
        scope: &Scope,
        service: ServiceId,
        body: &Body,
    ) -> Result<Vec<WhitelistRecord>, Failure> {
        let request = RecordsRemove::parse(body)?;
        let change = |before: &Whitelist| Ok(before.remove_records(&request.ids)?.0);
        let (before, _) = self.whitelist_change(scope, service, change).await?;
        Ok(before.remove_records(&request.ids)?.1)
    }

    /// Changes a record's description; answers the record.
    ///
    /// # Errors
    /// By spec B.7.
    pub async fn whitelist_describe(
        &self,
        scope: &Scope,
        service: ServiceId,
        record: RecordId,
        body: &Body,
    ) -> Result<WhitelistRecord, Failure> {
        let description = parse_description(body)?;
        let change = |before: &Whitelist| before.describe(record, &description);
        let (_, after) = self.whitelist_change(scope, service, change).await?;
        Ok(after.record(record)?.clone())
    }

    /// Replaces a service's records by what `change` makes of them; answers them before and after.
    async fn whitelist_change(
        &self,
        scope: &Scope,
        service: ServiceId,
        change: impl Fn(&Whitelist) -> Result<Whitelist, ApiError>,
    ) -> Result<(Whitelist, Whitelist), Failure> {
        let _turn = self.whitelists.enter(&service).await;
        self.barrier().await?;
        for _ in 0..ATTEMPTS_MAX {
            // Marks are given after the state is let go of: they look at it too.
            let (seen, old) = {
                let state = self.cache.read();
                let seen = Self::own_service(&state, scope, service)?;
                (seen, state.whitelist(&service).cloned())
            };
            seen.check_parts_writable()?;
            let before = old.as_ref().map(|w| (*w.value).clone()).unwrap_or_default();
            let after = change(&before)?;
            if after == before {
                return Ok((before, after));
            }
            let key = Key::Whitelist(service);
            let txn = as_seen(Txn::new(), key.clone(), old.as_ref())
                .unchanged(Key::Service(service), seen.revision);
            let txn = match after.records.is_empty() {
                true => txn.delete(key),
                false => txn.put(key, encode(&after)),
            };
            if self.commit(txn).await? {
                return Ok((before, after));
            }
        }
        Err(Failure::Busy(ATTEMPTS_MAX))
    }
}
