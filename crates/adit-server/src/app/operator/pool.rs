//! Pools: the default one, which is a setting, and those that the operator makes.

use std::collections::HashMap;

use adit_model::{
    ApiError, Code,
    body::Body,
    id::PoolId,
    listing::{LIMIT_MAX, Listing, Query},
    pool::{Pool, parse_name},
    time::Created,
};
use adit_store::{Key, State, Txn, keys::encode};

use crate::{
    app::{ATTEMPTS_MAX, App, compare_guard, put_guard},
    error::Failure,
};

/// What the default pool is called.
const DEFAULT_NAME: &str = "default";

/// A pool, as the operator sees it.
#[derive(Clone, Debug)]
pub struct PoolSeen {
    /// Its id.
    pub id: PoolId,
    /// Its name.
    pub name: String,
    /// Whether services go there that name none.
    pub default: bool,
    /// When it was made; the default one always was.
    pub created: Option<Created>,
    /// How many services are in it.
    pub services: usize,
    /// How many endpoints are.
    pub endpoints: usize,
}

impl App {
    /// Every pool that a service can be put in.
    pub(crate) fn pools(&self, state: &State) -> Vec<PoolId> {
        let made = state.pools().map(|pool| pool.id);
        made.chain([self.config.pool]).collect()
    }

    /// Keeps a pool from going while something comes to be in it.
    pub(crate) fn hold_pool(&self, txn: Txn, state: &State, pool: PoolId) -> Txn {
        match state.pool(&pool) {
            Some(made) => put_guard(txn.unchanged(Key::Pool(pool), made.revision), Key::Pool(pool)),
            None => txn,
        }
    }

    /// A page of all pools, the default one last.
    ///
    /// # Errors
    /// By the query.
    pub async fn operator_pool_list(&self, query: &Query) -> Result<(Vec<PoolSeen>, usize), Failure> {
        let listing = Listing::parse(query, LIMIT_MAX, true)?;
        self.barrier().await?;
        let found = self.inspected(&self.cache.read());
        let total = found.len();
        let page = listing.page(found, |pool| {
            let created = pool.created.unwrap_or_default();
            (created, created.at)
        });
        Ok((page, total))
    }

    fn inspected(&self, state: &State) -> Vec<PoolSeen> {
        let mut counts: HashMap<PoolId, (usize, usize)> = HashMap::new();
        state
            .services()
            .for_each(|s| counts.entry(s.pool).or_default().0 += 1);
        state
            .endpoints()
            .for_each(|e| counts.entry(e.pool).or_default().1 += 1);
        let seen = |id, name: &str, created| {
            let (services, endpoints) = counts.get(&id).copied().unwrap_or_default();
            PoolSeen {
                id,
                name: name.to_owned(),
                default: id == self.config.pool,
                created,
                services,
                endpoints,
            }
        };
        let made = state.pools().filter(|pool| pool.id != self.config.pool);
        made.map(|pool| seen(pool.id, &pool.name, Some(pool.created)))
            .chain([seen(self.config.pool, DEFAULT_NAME, None)])
            .collect()
    }

    /// Makes a pool.
    ///
    /// # Errors
    /// 2002, 0002 (the name).
    pub async fn operator_pool_create(&self, body: &Body) -> Result<PoolSeen, Failure> {
        let name = parse_name(body)?;
        let pool = Pool {
            id: PoolId::random(),
            name,
            created: self.created(),
        };
        let key = Key::Pool(pool.id);
        let txn = Txn::new().absent(key.clone()).put(key, encode(&pool));
        if !self.commit(txn).await? {
            // Nobody else has drawn this id.
            return Err(Failure::Busy(1));
        }
        Ok(PoolSeen {
            id: pool.id,
            name: pool.name,
            default: false,
            created: Some(pool.created),
            services: 0,
            endpoints: 0,
        })
    }

    /// Removes a pool that nothing is in.
    ///
    /// # Errors
    /// 0005 where there is none, 0002 for the default one and for one that is in use.
    pub async fn operator_pool_delete(&self, id: PoolId) -> Result<(), Failure> {
        if id == self.config.pool {
            let why = format!("pool_id: {id} is the default pool, which is a setting.");
            return Err(ApiError::because(Code::E0002, why).into());
        }
        self.barrier().await?;
        for _ in 0..ATTEMPTS_MAX {
            let txn = {
                let state = self.cache.read();
                let pool = state
                    .pool(&id)
                    .ok_or_else(|| ApiError::because(Code::E0005, format!("There is no pool {id}.")))?;
                let services = state.services().filter(|s| s.pool == id).count();
                if services > 0 {
                    let why = format!("pool_id: {services} endpoint service(s) are in {id}.");
                    return Err(ApiError::because(Code::E0002, why).into());
                }
                let txn = Txn::new()
                    .unchanged(Key::Pool(id), pool.revision)
                    .delete(Key::Pool(id))
                    .delete(Key::Pool(id).guard());
                compare_guard(txn, Key::Pool(id), &state)
            };
            if self.commit(txn).await? {
                return Ok(());
            }
        }
        Err(Failure::Busy(ATTEMPTS_MAX))
    }
}
