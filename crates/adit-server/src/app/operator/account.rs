//! Accounts: who has something here, and who is frozen.

use std::collections::BTreeMap;

use adit_model::{
    account::{Account, parse_active_status},
    body::Body,
    endpoint::parse_drain_s,
    id::DomainId,
    listing::{LIMIT_MAX, Listing, Query},
    time::Timestamp,
};
use adit_store::{Key, State, Txn, keys::encode};

use super::{Whose, cut};
use crate::{
    app::{ATTEMPTS_MAX, App, as_seen},
    error::Failure,
};

/// An account, as the operator sees it.
#[derive(Clone, Debug)]
pub struct AccountSeen {
    /// Its id.
    pub id: DomainId,
    /// Its standing.
    pub active_status: Vec<&'static str>,
    /// When that last changed, if it ever did.
    pub updated_at: Option<Timestamp>,
    /// How many services it has.
    pub services: usize,
    /// How many endpoints it has.
    pub endpoints: usize,
}

impl AccountSeen {
    fn new(state: &State, id: DomainId) -> Self {
        let account = state.account(&id);
        Self {
            active_status: account.map_or_else(|| Account::default().active_status(), |a| a.active_status()),
            updated_at: account.map(|account| account.updated_at),
            services: 0,
            endpoints: 0,
            id,
        }
    }
}

impl App {
    /// A page of the accounts that have something or whose standing was ever changed, by their ids.
    ///
    /// # Errors
    /// By the query.
    pub async fn operator_account_list(&self, query: &Query) -> Result<(Vec<AccountSeen>, usize), Failure> {
        let whose = Whose::parse(query)?;
        let listing = Listing::parse(query, LIMIT_MAX, false)?;
        self.barrier().await?;
        let state = self.cache.read();
        let mut found: BTreeMap<DomainId, AccountSeen> = BTreeMap::new();
        if whose.project.is_none() {
            let frozen = state
                .account_ids()
                .filter(|id| whose.domain.as_ref().is_none_or(|d| d == *id));
            found.extend(frozen.map(|id| (id.clone(), AccountSeen::new(&state, id.clone()))));
        }
        let new = |id: &DomainId| AccountSeen::new(&state, id.clone());
        for s in state.services().filter(|s| whose.fits(&s.project, &s.domain)) {
            found
                .entry(s.domain.clone())
                .or_insert_with(|| new(&s.domain))
                .services += 1;
        }
        for e in state.endpoints().filter(|e| whose.fits(&e.project, &e.domain)) {
            found
                .entry(e.domain.clone())
                .or_insert_with(|| new(&e.domain))
                .endpoints += 1;
        }
        let total = found.len();
        Ok((cut(found.into_values().collect(), &listing), total))
    }

    /// One account. Which ones there are is the identity service's to know: any id is one.
    ///
    /// # Errors
    /// Where the store does not answer.
    pub async fn operator_account_show(&self, id: DomainId) -> Result<AccountSeen, Failure> {
        self.barrier().await?;
        let state = self.cache.read();
        Ok(AccountSeen {
            services: state.services().filter(|s| s.domain == id).count(),
            endpoints: state.endpoints().filter(|e| e.domain == id).count(),
            ..AccountSeen::new(&state, id)
        })
    }

    /// Freezes an account or lets it go again, and waits a bounded moment until gateways know. What was open is cut, or may
    /// go on for as long as the call says.
    ///
    /// # Errors
    /// 2002, 0002.
    pub async fn operator_account_set(&self, id: DomainId, body: &Body) -> Result<AccountSeen, Failure> {
        let frozen = parse_active_status(body)?;
        let drain_s = parse_drain_s(body)?.filter(|_| !frozen.is_empty());
        self.barrier().await?;
        for _ in 0..ATTEMPTS_MAX {
            let txn = {
                let state = self.cache.read();
                let old = state.account(&id);
                let before = old.map(|account| (*account.value).clone()).unwrap_or_default();
                let changed_at = match before.frozen == frozen {
                    true => before.updated_at,
                    false => self.now().at_least(before.updated_at),
                };
                let new = Account {
                    frozen: frozen.clone(),
                    updated_at: changed_at,
                    drain_s,
                };
                let key = Key::Account(id.clone());
                (before != new).then(|| as_seen(Txn::new(), key.clone(), old).put(key, encode(&new)))
            };
            let done = match txn {
                None => true,
                Some(txn) => self.commit(txn).await?,
            };
            if done {
                let concerned = {
                    let state = self.cache.read();
                    let own = state.endpoints().filter(|e| e.domain == id);
                    own.map(|e| e.id).collect()
                };
                self.on_the_wire(concerned).await;
                return self.operator_account_show(id).await;
            }
        }
        Err(Failure::Busy(ATTEMPTS_MAX))
    }
}
