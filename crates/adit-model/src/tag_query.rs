//! Finding resources by their tags (spec A.18).
//!
//! Owns the query's rules and what it matches. Queries take longer texts than resources do, and any characters.

use std::collections::HashSet;

use serde_json::Value;

use crate::{
    body::{self, Body},
    catalogue::{ApiError, Code},
    listing,
    tag::{TAGS_MAX, Tag},
};

/// At most so many values under one key.
pub const VALUES_MAX: usize = 10;
/// The longest key of a query, in Unicode characters.
pub const KEY_CHARS_MAX: usize = 127;
/// The longest value of a query, in Unicode characters.
pub const VALUE_CHARS_MAX: usize = 255;
/// The largest page, and the one where the caller names none.
pub const LIMIT_MAX: usize = 1000;
/// The one thing beside tags that a query can ask for.
const MATCH_NAME: &str = "resource_name";

/// A well-formed query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagQuery {
    /// What is wanted of the resources that match.
    pub wanted: Wanted,
    filter: Filter,
    /// A part of the name, in lower case; an empty one matches nothing.
    name: Option<String>,
}

/// What is wanted of the resources that match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// A page of them, and how many there are.
    Page {
        /// At most so many, at least 1.
        limit: usize,
        /// Skip so many.
        offset: usize,
    },
    /// How many there are.
    Count,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Filter {
    /// The four lists, all of them to hold.
    Tags {
        all: Vec<Asked>,
        any: Vec<Asked>,
        not_all: Vec<Asked>,
        not_any: Vec<Asked>,
    },
    /// No tag at all.
    Untagged,
    /// System tags, which nothing here has.
    Nothing,
}

/// One key with the values that will do; none of them, and any value does.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Asked {
    key: String,
    values: Vec<String>,
}

impl Asked {
    fn holds(&self, tags: &[Tag]) -> bool {
        let fits = |value: &str| {
            self.values.is_empty()
                || self.values.iter().any(|wanted| match wanted.strip_prefix('*') {
                    Some(part) => value.contains(part),
                    None => value == wanted,
                })
        };
        tags.iter().any(|tag| tag.key == self.key && fits(&tag.value))
    }
}

impl TagQuery {
    /// The field rules of spec A.18, in the table's order. `superset` also reads what only Huawei's API has:
    /// `without_any_tag` and `sys_tags`.
    ///
    /// # Errors
    /// 0007 (action); 3069, 3066, 3067, 3071, 3072, 3073, 0002 (lists of tags); 0006, 0010 (page); 0002 (matches).
    pub fn parse(body: &Body, superset: bool) -> Result<Self, ApiError> {
        let counts = match body.get("action") {
            Some(Value::String(s)) if s == "filter" => false,
            Some(Value::String(s)) if s == "count" => true,
            other => {
                let shown = other.map_or_else(|| "nothing".to_owned(), body::show);
                return Err(ApiError::because(
                    Code::E0007,
                    format!("action: {shown} is neither filter nor count."),
                ));
            }
        };
        let untagged = superset && body::boolean(body, "without_any_tag", Code::E0002)?.unwrap_or(false);
        let mut filter = if untagged {
            Filter::Untagged
        } else {
            Filter::Tags {
                all: parse_list(body, "tags")?,
                any: parse_list(body, "tags_any")?,
                not_all: parse_list(body, "not_tags")?,
                not_any: parse_list(body, "not_tags_any")?,
            }
        };
        if superset && !parse_list(body, "sys_tags")?.is_empty() {
            filter = Filter::Nothing;
        }
        // A count has no pages, whatever is said of them.
        let wanted = if counts {
            Wanted::Count
        } else {
            Wanted::Page {
                limit: parse_number(body, "limit", 1..=LIMIT_MAX, Code::E0006)?.unwrap_or(LIMIT_MAX),
                offset: parse_number(body, "offset", 0..=usize::MAX, Code::E0010)?.unwrap_or(0),
            }
        };
        let name = parse_matches(body)?;
        Ok(Self { wanted, filter, name })
    }

    /// Whether a resource matches.
    pub fn matches(&self, name: &str, tags: &[Tag]) -> bool {
        let named = match &self.name {
            None => true,
            Some(part) => !part.is_empty() && name.to_lowercase().contains(part),
        };
        named
            && match &self.filter {
                Filter::Nothing => false,
                Filter::Untagged => tags.is_empty(),
                // A list without entries asks nothing.
                Filter::Tags {
                    all,
                    any,
                    not_all,
                    not_any,
                } => {
                    all.iter().all(|a| a.holds(tags))
                        && (any.is_empty() || any.iter().any(|a| a.holds(tags)))
                        && (not_all.is_empty() || !not_all.iter().all(|a| a.holds(tags)))
                        && !not_any.iter().any(|a| a.holds(tags))
                }
            }
    }
}

/// Half-width spaces around a key or a value are not part of it.
fn stripped(text: &str) -> String {
    text.trim_matches(' ').to_owned()
}

fn not_a(what: &str, at: &str, value: &Value) -> ApiError {
    ApiError::because(Code::E0002, format!("{at}: {} is not {what}.", body::show(value)))
}

/// Reads one of the lists: each rule over the whole of it, in the order in which the table has them.
fn parse_list(body: &Body, name: &str) -> Result<Vec<Asked>, ApiError> {
    let list = match body::get(body, name) {
        None => return Ok(Vec::new()),
        Some(Value::Array(list)) => list,
        Some(other) => return Err(not_a("an array", name, other)),
    };
    if list.len() > TAGS_MAX {
        return Err(ApiError::because(
            Code::E3069,
            format!("{name} holds {} keys, more than {TAGS_MAX}.", list.len()),
        ));
    }
    let read: Vec<(String, Option<Vec<String>>)> = list
        .iter()
        .enumerate()
        .map(|(i, item)| read_item(&format!("{name}[{i}]"), item))
        .collect::<Result<_, _>>()?;
    check_items(name, &read)?;
    read.into_iter()
        .enumerate()
        .map(|(i, (key, values))| match values {
            None => Err(ApiError::because(
                Code::E0002,
                format!("{name}[{i}].values is missing; [] stands for any value."),
            )),
            Some(values) if values.len() > VALUES_MAX => Err(ApiError::because(
                Code::E0002,
                format!(
                    "{name}[{i}].values holds {} values, more than {VALUES_MAX}.",
                    values.len()
                ),
            )),
            Some(values) => Ok(Asked { key, values }),
        })
        .collect()
}

/// The texts of one item, not judged yet.
fn read_item(at: &str, item: &Value) -> Result<(String, Option<Vec<String>>), ApiError> {
    if !item.is_object() {
        return Err(not_a("an object", at, item));
    }
    let key = match body::field(item, "key") {
        None => String::new(),
        Some(Value::String(key)) => stripped(key),
        Some(other) => return Err(not_a("a string", &format!("{at}.key"), other)),
    };
    let values = match body::field(item, "values") {
        None => None,
        Some(Value::Array(values)) => {
            let read = |(i, value): (usize, &Value)| match value {
                Value::String(text) => Ok(stripped(text)),
                other => Err(not_a("a string", &format!("{at}.values[{i}]"), other)),
            };
            Some(values.iter().enumerate().map(read).collect::<Result<_, _>>()?)
        }
        Some(other) => return Err(not_a("an array", &format!("{at}.values"), other)),
    };
    Ok((key, values))
}

fn check_items(name: &str, items: &[(String, Option<Vec<String>>)]) -> Result<(), ApiError> {
    let values = |values: &Option<Vec<String>>| values.clone().unwrap_or_default();
    if let Some(i) = items.iter().position(|(key, _)| key.trim().is_empty()) {
        return Err(ApiError::because(
            Code::E3066,
            format!("{name}[{i}].key is missing or blank."),
        ));
    }
    let mut seen = HashSet::new();
    if let Some((i, (key, _))) = items.iter().enumerate().find(|(_, (key, _))| !seen.insert(key)) {
        return Err(ApiError::because(
            Code::E3067,
            format!("{name}[{i}].key: {} is there twice.", body::quote(key)),
        ));
    }
    for (i, (_, list)) in items.iter().enumerate() {
        let mut seen = HashSet::new();
        if let Some(twice) = values(list).into_iter().find(|value| !seen.insert(value.clone())) {
            return Err(ApiError::because(
                Code::E3071,
                format!("{name}[{i}].values: {} is there twice.", body::quote(&twice)),
            ));
        }
    }
    let too_long = |text: &str, max: usize| text.chars().count() > max;
    if let Some(i) = items.iter().position(|(key, _)| too_long(key, KEY_CHARS_MAX)) {
        return Err(ApiError::because(
            Code::E3072,
            format!("{name}[{i}].key has more than {KEY_CHARS_MAX} characters."),
        ));
    }
    let long = |(_, list): &(String, Option<Vec<String>>)| {
        values(list).iter().any(|value| too_long(value, VALUE_CHARS_MAX))
    };
    match items.iter().position(long) {
        None => Ok(()),
        Some(i) => Err(ApiError::because(
            Code::E3073,
            format!("{name}[{i}].values: one has more than {VALUE_CHARS_MAX} characters."),
        )),
    }
}

/// A number, written as one or as a text.
fn parse_number(
    body: &Body,
    name: &str,
    range: std::ops::RangeInclusive<usize>,
    code: Code,
) -> Result<Option<usize>, ApiError> {
    let Some(value) = body::get(body, name) else {
        return Ok(None);
    };
    let number = match value {
        Value::String(text) => listing::digits(text),
        Value::Number(number) => number.as_u64().map(|n| usize::try_from(n).unwrap_or(usize::MAX)),
        _ => None,
    };
    number.filter(|n| range.contains(n)).map(Some).ok_or_else(|| {
        let range = match *range.end() {
            usize::MAX => "of at least 0".to_owned(),
            max => format!("in {}..={max}", range.start()),
        };
        ApiError::because(
            code,
            format!("{name}: {} is not an integer {range}.", body::show(value)),
        )
    })
}

/// The part of a name that is asked for, in lower case.
fn parse_matches(body: &Body) -> Result<Option<String>, ApiError> {
    let list = match body::get(body, "matches") {
        None => return Ok(None),
        Some(Value::Array(list)) => list,
        Some(other) => return Err(not_a("an array", "matches", other)),
    };
    let mut name = None;
    for (i, item) in list.iter().enumerate() {
        let text = |field: &str| match body::field(item, field) {
            Some(Value::String(text)) => Ok(text),
            other => Err(not_a(
                "a string",
                &format!("matches[{i}].{field}"),
                other.unwrap_or(&Value::Null),
            )),
        };
        let key = text("key")?;
        let value = stripped(text("value")?);
        if stripped(key) != MATCH_NAME {
            return Err(ApiError::because(
                Code::E0002,
                format!("matches[{i}].key: {} is not {MATCH_NAME}.", body::quote(key)),
            ));
        }
        if value.chars().count() > VALUE_CHARS_MAX {
            return Err(ApiError::because(
                Code::E0002,
                format!("matches[{i}].value has more than {VALUE_CHARS_MAX} characters."),
            ));
        }
        if name.replace(value.to_lowercase()).is_some() {
            return Err(ApiError::because(
                Code::E0002,
                format!("matches[{i}].key: {MATCH_NAME} is there twice."),
            ));
        }
    }
    Ok(name)
}

#[cfg(test)]
mod tests;
