//! The operation on quotas (spec A.17).

use adit_model::{
    listing::Query,
    quota::{QuotaType, Usage},
};

use super::{App, Scope};
use crate::error::Failure;

impl App {
    /// The project's quotas: both, endpoints first, or the one that is asked for.
    ///
    /// # Errors
    /// 3070.
    pub async fn quota_show(&self, scope: &Scope, query: &Query) -> Result<Vec<(QuotaType, Usage)>, Failure> {
        let only = query.get("type").map(QuotaType::parse).transpose()?;
        self.barrier().await?;
        let state = self.cache.read();
        let kinds = QuotaType::ALL
            .iter()
            .copied()
            .filter(|kind| only.is_none_or(|only| only == *kind));
        Ok(kinds
            .map(|kind| (kind, state.usage(&scope.project, kind)))
            .collect())
    }
}
