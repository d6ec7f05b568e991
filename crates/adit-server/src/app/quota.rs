//! Operations on quotas: the project's look at them (spec A.17), and the operator's word.

use adit_model::{
    body::Body,
    id::ProjectId,
    listing::Query,
    quota::{Limits, LimitsUpdate, QuotaType, Usage},
};
use adit_store::{Key, Txn, keys::encode};

use super::{ATTEMPTS_MAX, App, as_seen};
use crate::error::Failure;

impl App {
    /// The project's quotas: both, endpoints first, or the one that is asked for.
    ///
    /// # Errors
    /// 3070.
    pub async fn quota_show(
        &self,
        project: &ProjectId,
        query: &Query,
    ) -> Result<Vec<(QuotaType, Usage)>, Failure> {
        let only = query.get("type").map(QuotaType::parse).transpose()?;
        self.barrier().await?;
        let state = self.cache.read();
        let kinds = QuotaType::ALL
            .iter()
            .copied()
            .filter(|kind| only.is_none_or(|only| only == *kind));
        Ok(kinds.map(|kind| (kind, state.usage(project, kind))).collect())
    }

    /// The operator sets a project's quotas. Less than what is in use is allowed: it only stops what is new.
    ///
    /// # Errors
    /// 0002, 2002.
    pub async fn quota_set(&self, project: &ProjectId, body: &Body) -> Result<(), Failure> {
        let update = LimitsUpdate::parse(body)?;
        self.barrier().await?;
        for _ in 0..ATTEMPTS_MAX {
            let old = self.cache.read().limits_of(project).cloned();
            let before = old.as_ref().map_or_else(Limits::default, |l| *l.value);
            let key = Key::Limits(project.clone());
            let txn = as_seen(Txn::new(), key.clone(), old.as_ref());
            if self.commit(txn.put(key, encode(&update.apply(before)))).await? {
                return Ok(());
            }
        }
        Err(Failure::Busy(ATTEMPTS_MAX))
    }
}
