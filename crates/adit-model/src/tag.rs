//! Tags of endpoint services and endpoints (spec 0.4).

use std::collections::HashSet;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use unicode_properties::{GeneralCategory, GeneralCategoryGroup, UnicodeGeneralCategory};

use crate::{
    body,
    catalogue::{ApiError, Code},
};

/// At most so many tags on one resource.
pub const TAGS_MAX: usize = 20;
/// The longest key, in Unicode characters.
pub const KEY_CHARS_MAX: usize = 36;
/// The longest value, in Unicode characters.
pub const VALUE_CHARS_MAX: usize = 43;

/// One tag.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Tag {
    /// 1 to 36 letters, digits, `-`, `_`, `@`; unique on its resource.
    pub key: String,
    /// 0 to 43 letters, digits, `-`, `_`, `@`.
    pub value: String,
}

/// Letters and digits are Unicode's classes L and Nd.
fn allowed(c: char) -> bool {
    matches!(c, '-' | '_' | '@')
        || c.general_category_group() == GeneralCategoryGroup::Letter
        || c.general_category() == GeneralCategory::DecimalNumber
}

/// Reads the `tags` of a create body: rule 18 of spec A.4, its parts in the order that the rule prints, each over the
/// whole list.
///
/// # Errors
/// 3066 (key missing or blank), 3072 and 3073 (lengths), 3068 (characters), 3067 (repeated key), 3069 (too many), 0002
/// (not a list of objects).
pub fn parse_list(value: Option<&Value>) -> Result<Vec<Tag>, ApiError> {
    let list = match value {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(list)) => list,
        Some(other) => {
            return Err(ApiError::because(
                Code::E0002,
                format!("tags: {} is not an array.", body::show(other)),
            ));
        }
    };
    let tags = list
        .iter()
        .enumerate()
        .map(|(i, item)| read_tag(i, item))
        .collect::<Result<Vec<_>, _>>()?;
    if let Some(i) = tags.iter().position(|t| t.key.trim().is_empty()) {
        return Err(ApiError::because(
            Code::E3066,
            format!("tags[{i}].key is missing or blank."),
        ));
    }
    check_lengths(&tags, "key", |t| &t.key, KEY_CHARS_MAX, Code::E3072)?;
    check_lengths(&tags, "value", |t| &t.value, VALUE_CHARS_MAX, Code::E3073)?;
    check_characters(&tags)?;
    check_keys_differ(&tags)?;
    if tags.len() > TAGS_MAX {
        return Err(ApiError::because(
            Code::E3069,
            format!("tags holds {} entries, more than {TAGS_MAX}.", tags.len()),
        ));
    }
    Ok(tags)
}

/// The texts of one item, not judged yet; an absent one is empty.
fn read_tag(i: usize, item: &Value) -> Result<Tag, ApiError> {
    if !item.is_object() {
        return Err(ApiError::because(
            Code::E0002,
            format!("tags[{i}]: {} is not an object.", body::show(item)),
        ));
    }
    let text = |name: &str| match body::field(item, name) {
        None => Ok(String::new()),
        Some(Value::String(s)) => Ok(s.clone()),
        Some(other) => Err(ApiError::because(
            Code::E0002,
            format!("tags[{i}].{name}: {} is not a string.", body::show(other)),
        )),
    };
    Ok(Tag {
        key: text("key")?,
        value: text("value")?,
    })
}

fn check_lengths(
    tags: &[Tag],
    name: &str,
    text: impl Fn(&Tag) -> &String,
    max: usize,
    code: Code,
) -> Result<(), ApiError> {
    for (i, tag) in tags.iter().enumerate() {
        let chars = text(tag).chars().count();
        if chars > max {
            return Err(ApiError::because(
                code,
                format!("tags[{i}].{name} has {chars} characters, more than {max}."),
            ));
        }
    }
    Ok(())
}

fn check_characters(tags: &[Tag]) -> Result<(), ApiError> {
    for (i, tag) in tags.iter().enumerate() {
        for (name, text) in [("key", &tag.key), ("value", &tag.value)] {
            if let Some(bad) = text.chars().find(|c| !allowed(*c)) {
                return Err(ApiError::because(
                    Code::E3068,
                    format!(
                        "tags[{i}].{name}: '{}' is not a letter, a digit, '-', '_' or '@'.",
                        bad.escape_debug()
                    ),
                ));
            }
        }
    }
    Ok(())
}

fn check_keys_differ(tags: &[Tag]) -> Result<(), ApiError> {
    let mut seen = HashSet::new();
    match tags.iter().enumerate().find(|(_, tag)| !seen.insert(&tag.key)) {
        None => Ok(()),
        Some((i, tag)) => Err(ApiError::because(
            Code::E3067,
            format!("tags[{i}].key: \"{}\" is there twice.", tag.key),
        )),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn code(value: Value) -> Code {
        parse_list(Some(&value)).unwrap_err().code
    }

    #[test]
    fn every_rule_has_its_code() {
        assert_eq!(parse_list(None), Ok(vec![]));
        assert_eq!(parse_list(Some(&json!([]))), Ok(vec![]));
        assert_eq!(code(json!({})), Code::E0002);
        assert_eq!(code(json!(["k"])), Code::E0002);
        assert_eq!(code(json!([{"key": 1}])), Code::E0002);
        assert_eq!(code(json!([{"value": "v"}])), Code::E3066);
        assert_eq!(code(json!([{"key": "", "value": "v"}])), Code::E3066);
        assert_eq!(code(json!([{"key": "  ", "value": "v"}])), Code::E3066);
        assert_eq!(code(json!([{"key": "k".repeat(37)}])), Code::E3072);
        assert_eq!(code(json!([{"key": "k", "value": "v".repeat(44)}])), Code::E3073);
        assert_eq!(code(json!([{"key": "a b"}])), Code::E3068);
        assert_eq!(code(json!([{"key": "½"}])), Code::E3068);
        assert_eq!(code(json!([{"key": "k", "value": "a.b"}])), Code::E3068);
        assert_eq!(code(json!([{"key": "k"}, {"key": "k"}])), Code::E3067);
        let many = |n: usize| Value::Array((0..n).map(|i| json!({"key": format!("k{i}")})).collect());
        assert_eq!(code(many(21)), Code::E3069);
        assert_eq!(parse_list(Some(&many(20))).unwrap().len(), 20);
    }

    #[test]
    fn each_rule_is_held_against_the_whole_list_before_the_next() {
        let mut many: Vec<Value> = (0..22).map(|i| json!({"key": format!("k{i}")})).collect();
        let mut expect = |i: usize, tag: Value, code| {
            many[i] = tag;
            assert_eq!(parse_list(Some(&json!(many))).unwrap_err().code, code);
        };
        expect(0, json!({"key": "k0"}), Code::E3069);
        expect(17, json!({"key": "k0"}), Code::E3067);
        expect(18, json!({"key": "a b"}), Code::E3068);
        expect(19, json!({"key": "k", "value": "v".repeat(44)}), Code::E3073);
        expect(20, json!({"key": "k".repeat(37)}), Code::E3072);
        expect(21, json!({"key": ""}), Code::E3066);
    }

    #[test]
    fn lengths_count_characters_and_letters_are_unicode() {
        let tags = parse_list(Some(
            &json!([{"key": "ключ".repeat(9), "value": "值".repeat(43)}]),
        ))
        .unwrap();
        assert_eq!(tags[0].key.chars().count(), 36);
        assert!(parse_list(Some(&json!([{"key": "a-_@1"}]))).is_ok());
    }
}
