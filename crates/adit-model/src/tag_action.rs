//! Adding tags to a resource and taking them away (spec A.19).
//!
//! Owns the request's rules, what it makes of a resource's tags, and in which states a resource takes it. What a single
//! tag may be is [`crate::tag`]'s.

use serde_json::Value;

use crate::{
    body::{self, Body},
    catalogue::{ApiError, Code},
    endpoint::{Endpoint, EndpointStatus},
    service::Service,
    tag::{self, TAGS_MAX, Tag},
    time::Timestamp,
};

/// A well-formed request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TagAction {
    /// Add these; one whose key is there replaces the value.
    Create(Vec<Tag>),
    /// Take away what has such a key and, where one is given, such a value.
    Delete(Vec<(String, Option<String>)>),
}

impl TagAction {
    /// The field rules of spec A.19, in the table's order.
    ///
    /// # Errors
    /// 0007 (action), 3066 (no tags), and those of [`tag::parse_list`].
    pub fn parse(body: &Body) -> Result<Self, ApiError> {
        let creates = match body.get("action") {
            Some(Value::String(s)) if s == "create" => true,
            Some(Value::String(s)) if s == "delete" => false,
            other => {
                let shown = other.map_or_else(|| "nothing".to_owned(), body::show);
                return Err(ApiError::because(
                    Code::E0007,
                    format!("action: {shown} is neither create nor delete."),
                ));
            }
        };
        let value = body::get(body, "tags");
        let tags = tag::parse_list(value)?;
        if tags.is_empty() {
            return Err(ApiError::because(Code::E3066, "tags is missing or empty."));
        }
        if creates {
            return Ok(Self::Create(tags));
        }
        // A value that is not there is no condition; an empty one is.
        let given = |i: usize| value.and_then(|list| body::field(&list[i], "value")).is_some();
        let conditions = tags
            .into_iter()
            .enumerate()
            .map(|(i, tag)| (tag.key, given(i).then_some(tag.value)));
        Ok(Self::Delete(conditions.collect()))
    }

    /// A resource's tags after the action. New ones come last, replaced ones keep their place; what is not there is taken
    /// away without effect.
    ///
    /// # Errors
    /// 3069 where they would be more than 20.
    pub fn apply(&self, tags: &[Tag]) -> Result<Vec<Tag>, ApiError> {
        let mut after = tags.to_vec();
        match self {
            Self::Create(new) => {
                for tag in new {
                    match after.iter_mut().find(|t| t.key == tag.key) {
                        Some(present) => present.value.clone_from(&tag.value),
                        None => after.push(tag.clone()),
                    }
                }
                if after.len() > TAGS_MAX {
                    return Err(ApiError::because(
                        Code::E3069,
                        format!(
                            "The resource would have {} tags, more than {TAGS_MAX}.",
                            after.len()
                        ),
                    ));
                }
            }
            Self::Delete(conditions) => after.retain(|tag| {
                let meant = |(key, value): &(String, Option<String>)| {
                    tag.key == *key && value.as_ref().is_none_or(|value| tag.value == *value)
                };
                !conditions.iter().any(meant)
            }),
        }
        Ok(after)
    }
}

/// Replaces tags; answers whether they have changed.
fn retag(
    tags: &mut Vec<Tag>,
    updated_at: &mut Timestamp,
    action: &TagAction,
    now: Timestamp,
) -> Result<bool, ApiError> {
    let after = action.apply(tags)?;
    if after == *tags {
        return Ok(false);
    }
    *tags = after;
    *updated_at = now.at_least(*updated_at);
    Ok(true)
}

impl Service {
    /// Changes the tags. Answers `false` where nothing changes.
    ///
    /// # Errors
    /// By [`Service::check_parts_writable`]; 3069.
    pub fn retag(&mut self, action: &TagAction, now: Timestamp) -> Result<bool, ApiError> {
        self.check_parts_writable()?;
        retag(&mut self.tags, &mut self.updated_at, action, now)
    }
}

impl Endpoint {
    /// Changes the tags, in every state but `failed` and `deleting`. Answers `false` where nothing changes.
    ///
    /// # Errors
    /// 2047, 2018 by state; 3069.
    pub fn retag(&mut self, action: &TagAction, now: Timestamp) -> Result<bool, ApiError> {
        let code = match self.status() {
            EndpointStatus::Failed => Some(Code::E2047),
            EndpointStatus::Deleting => Some(Code::E2018),
            EndpointStatus::PendingAcceptance
            | EndpointStatus::Creating
            | EndpointStatus::Accepted
            | EndpointStatus::Rejected => None,
        };
        if let Some(code) = code {
            return Err(ApiError::because(
                code,
                format!("Endpoint {} is {}.", self.id, self.status()),
            ));
        }
        retag(&mut self.tags, &mut self.updated_at, action, now)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn parse(value: Value) -> Result<TagAction, Code> {
        TagAction::parse(value.as_object().unwrap()).map_err(|e| e.code)
    }

    fn tags(pairs: &[(&str, &str)]) -> Vec<Tag> {
        let tag = |(key, value): &(&str, &str)| Tag {
            key: (*key).to_owned(),
            value: (*value).to_owned(),
        };
        pairs.iter().map(tag).collect()
    }

    #[test]
    fn every_rule_has_its_code() {
        let one = json!([{"key": "k", "value": "v"}]);
        for bad in [
            json!(null),
            json!("add"),
            json!("CREATE"),
            json!(1),
            json!("update"),
        ] {
            assert_eq!(
                parse(json!({"action": bad, "tags": one})),
                Err(Code::E0007),
                "{bad}"
            );
        }
        assert_eq!(parse(json!({"tags": [{}]})), Err(Code::E0007));
        for action in ["create", "delete"] {
            for (list, code) in [
                (json!(null), Code::E3066),
                (json!([]), Code::E3066),
                (json!([{"value": "v"}]), Code::E3066),
                (json!({"key": "k"}), Code::E0002),
                (json!([{"key": "k", "value": 1}]), Code::E0002),
                (json!([{"key": "k".repeat(37)}]), Code::E3072),
                (json!([{"key": "k", "value": "v".repeat(44)}]), Code::E3073),
                (json!([{"key": "k."}]), Code::E3068),
                (
                    json!([{"key": "k", "value": "a"}, {"key": "k", "value": "b"}]),
                    Code::E3067,
                ),
            ] {
                assert_eq!(
                    parse(json!({"action": action, "tags": list})),
                    Err(code),
                    "{action} {list}"
                );
            }
            assert!(parse(json!({"action": action, "tags": one})).is_ok());
        }
    }

    #[test]
    fn a_value_that_is_given_has_to_fit_what_is_taken_away() {
        let before = tags(&[("a", "1"), ("b", ""), ("c", "3")]);
        for (list, expected) in [
            (json!([{"key": "a"}]), tags(&[("b", ""), ("c", "3")])),
            (
                json!([{"key": "a", "value": null}]),
                tags(&[("b", ""), ("c", "3")]),
            ),
            (
                json!([{"key": "a", "value": "1"}]),
                tags(&[("b", ""), ("c", "3")]),
            ),
            (json!([{"key": "a", "value": ""}]), before.clone()),
            (
                json!([{"key": "b", "value": ""}]),
                tags(&[("a", "1"), ("c", "3")]),
            ),
            (
                json!([{"key": "x"}, {"key": "c"}]),
                tags(&[("a", "1"), ("b", "")]),
            ),
        ] {
            let action = parse(json!({"action": "delete", "tags": list})).unwrap();
            assert_eq!(action.apply(&before).unwrap(), expected, "{list}");
        }
    }

    #[test]
    fn twenty_after_the_call_and_not_one_more() {
        let many: Vec<_> = (0..20).map(|i| json!({"key": format!("k{i}")})).collect();
        let full = parse(json!({"action": "create", "tags": many}))
            .unwrap()
            .apply(&[])
            .unwrap();
        assert_eq!(full.len(), 20);
        let add = |list| parse(json!({"action": "create", "tags": list})).unwrap();
        let error = add(json!([{"key": "k0", "value": "v"}, {"key": "new"}]))
            .apply(&full)
            .unwrap_err();
        assert_eq!(error.code, Code::E3069);
        let after = add(json!([{"key": "k7", "value": "v"}])).apply(&full).unwrap();
        assert_eq!((after.len(), after[7].value.as_str()), (20, "v"));
    }

    proptest! {
        #[test]
        fn what_was_added_is_there_and_can_be_taken_away(
            before in prop::collection::btree_map("[a-f]", "[xy]?", 0..6),
            new in prop::collection::btree_map("[a-f]", "[xy]?", 1..6),
        ) {
            let list = |map: &std::collections::BTreeMap<String, String>| {
                let tag = |(key, value): (&String, &String)| Tag { key: key.clone(), value: value.clone() };
                map.iter().map(tag).collect::<Vec<_>>()
            };
            let added = TagAction::Create(list(&new)).apply(&list(&before)).unwrap();
            let mut expected = before.clone();
            expected.extend(new.clone());
            let map = |tags: &[Tag]| {
                tags.iter().map(|t| (t.key.clone(), t.value.clone())).collect::<std::collections::BTreeMap<_, _>>()
            };
            prop_assert_eq!(map(&added), expected);
            prop_assert_eq!(map(&added).len(), added.len());
            let conditions = new.iter().map(|(k, v)| (k.clone(), Some(v.clone()))).collect();
            let left = TagAction::Delete(conditions).apply(&added).unwrap();
            let mut expected = before;
            expected.retain(|key, _| !new.contains_key(key));
            prop_assert_eq!(map(&left), expected);
        }
    }
}
