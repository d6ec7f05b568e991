//! Lists: oldest first, filtered by the fields that members show, cut by `marker` and `limit`.

use adit_model::time::Created;
use serde_json::Value;

use super::call::Query;
use crate::network::Failure;

/// Parameters that are no filters.
const NOT_FILTERS: &[&str] = &[
    "fields",
    "limit",
    "marker",
    "offset",
    "page_reverse",
    "page_size",
    "sort_key",
    "sort_dir",
];

/// The members that the query asks for, in order.
pub(super) fn page(query: &Query, mut all: Vec<(Created, Value)>) -> Result<Vec<Value>, Failure> {
    all.sort_by_key(|(created, _)| *created);
    let mut views: Vec<Value> = all.into_iter().map(|(_, view)| view).collect();
    views.retain(|view| is_wanted(query, view));
    if let Some(marker) = query.get("marker").filter(|marker| !marker.is_empty()) {
        let at = views.iter().position(|view| view["id"] == marker);
        let at = at.ok_or_else(|| Failure::Invalid(format!("marker: there is no {marker:.80}.")))?;
        views.drain(..=at);
    }
    if let Some(limit) = query.get("limit").filter(|limit| !limit.is_empty()) {
        let limit: usize = limit
            .parse()
            .map_err(|_| Failure::Invalid(format!("limit: {limit:.80} is not a number.")))?;
        // Neutron's word for "all" is 0.
        if limit > 0 {
            views.truncate(limit);
        }
    }
    Ok(views)
}

/// Whether a member has one of the wanted values in every field that the query names. What members do not show is no filter.
fn is_wanted(query: &Query, view: &Value) -> bool {
    query.0.iter().all(|(name, _)| {
        NOT_FILTERS.contains(&name.as_str())
            || view.get(name).is_none_or(|value| {
                let mut wanted = query.0.iter().filter(|(key, _)| key == name);
                wanted.any(|(_, wanted)| fits(value, wanted))
            })
    })
}

fn fits(value: &Value, wanted: &str) -> bool {
    match value {
        Value::String(text) => text == wanted,
        // Python writes True.
        Value::Bool(flag) => wanted.to_lowercase().parse() == Ok(*flag),
        Value::Number(number) => number.to_string() == wanted,
        // Neutron's `fixed_ips=ip_address=10.0.0.7`.
        Value::Array(members) => match wanted.split_once('=') {
            Some((field, wanted)) => members
                .iter()
                .any(|m| m.get(field).is_some_and(|v| fits(v, wanted))),
            None => members.iter().any(|m| fits(m, wanted)),
        },
        Value::Null | Value::Object(_) => wanted.is_empty(),
    }
}
