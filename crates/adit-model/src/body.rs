//! Reading fields out of a JSON body by the rules of spec 0.1: an absent field and `null` are the same, unknown fields
//! are ignored, and a field of the wrong type raises the code that the field's table names.
//!
//! serde's own derive is not used for requests, because its errors know neither the order of the rules nor their codes.

use serde_json::{Map, Value};

use crate::catalogue::{ApiError, Code};

/// A request body: a JSON object.
pub type Body = Map<String, Value>;

/// How much of a value an error message quotes, in characters.
const SHOWN_CHARS_MAX: usize = 80;

/// Reads a body; rule 1 of every operation that has one.
///
/// # Errors
/// 1004 where the bytes are not a JSON object; 0002 for a number that no field could hold, such as `1e400`.
pub fn parse(bytes: &[u8]) -> Result<Body, ApiError> {
    if bytes.is_empty() {
        return Err(ApiError::because(Code::E1004, "The body is empty."));
    }
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(other) => Err(ApiError::because(
            Code::E1004,
            format!("The body is {}, not an object.", show(&other)),
        )),
        // JSON all the same, and of no use to any field.
        Err(e) if e.to_string().starts_with("number out of range") => {
            Err(ApiError::because(Code::E0002, format!("The body holds a {e}.")))
        }
        Err(e) => Err(ApiError::because(
            Code::E1004,
            format!("The body is not JSON: {e}."),
        )),
    }
}

/// A field of an object, where it is present and not `null`.
pub fn field<'a>(object: &'a Value, name: &str) -> Option<&'a Value> {
    object.get(name).filter(|v| !v.is_null())
}

/// A field of the body, where it is present and not `null`.
pub fn get<'a>(body: &'a Body, name: &str) -> Option<&'a Value> {
    body.get(name).filter(|v| !v.is_null())
}

/// A text as a message quotes it: on one line, whatever is in it, and not long.
pub fn quote(text: &str) -> String {
    let (shown, rest) = cut(text);
    let mut quoted = format!("{shown:?}");
    quoted.insert_str(quoted.len() - 1, rest);
    quoted
}

/// A value as an error message quotes it: JSON, on one line, cut to a length that a person reads.
pub fn show(value: &Value) -> String {
    if let Value::String(text) = value {
        return quote(text);
    }
    let text = value.to_string();
    let (shown, rest) = cut(&text);
    // JSON leaves some control characters as they are.
    let printed = |c: char| {
        if c.is_control() {
            char::REPLACEMENT_CHARACTER
        } else {
            c
        }
    };
    shown.chars().map(printed).collect::<String>() + rest
}

/// As much of a text as is shown, and what stands for the rest.
fn cut(text: &str) -> (&str, &str) {
    match text.char_indices().nth(SHOWN_CHARS_MAX) {
        None => (text, ""),
        Some((end, _)) => (&text[..end], "…"),
    }
}

/// An optional boolean.
///
/// # Errors
/// `code` where the field is something else.
pub fn boolean(body: &Body, name: &str, code: Code) -> Result<Option<bool>, ApiError> {
    match get(body, name) {
        None => Ok(None),
        Some(Value::Bool(b)) => Ok(Some(*b)),
        Some(other) => Err(ApiError::because(
            code,
            format!("{name}: {} is not true or false.", show(other)),
        )),
    }
}

/// An optional string.
///
/// # Errors
/// `code` where the field is something else.
pub fn string<'a>(body: &'a Body, name: &str, code: Code) -> Result<Option<&'a str>, ApiError> {
    match get(body, name) {
        None => Ok(None),
        Some(Value::String(s)) => Ok(Some(s)),
        Some(other) => Err(ApiError::because(
            code,
            format!("{name}: {} is not a string.", show(other)),
        )),
    }
}

/// A mandatory identifier: `missing` where it is absent or blank, `malformed` where it is anything but the form of `T`.
///
/// # Errors
/// One of the two codes.
pub fn id<T: std::str::FromStr>(
    body: &Body,
    name: &str,
    missing: Code,
    malformed: Code,
) -> Result<T, ApiError> {
    match get(body, name) {
        None => Err(ApiError::because(missing, format!("{name} is missing."))),
        Some(Value::String(s)) if s.trim().is_empty() => Err(ApiError::because(
            missing,
            format!("{name}: {} is blank.", quote(s)),
        )),
        Some(value) => parse_id(name, value, malformed),
    }
}

/// An optional identifier.
///
/// # Errors
/// `malformed` where it is present and not of the form of `T`.
pub fn optional_id<T: std::str::FromStr>(
    body: &Body,
    name: &str,
    malformed: Code,
) -> Result<Option<T>, ApiError> {
    get(body, name)
        .map(|value| parse_id(name, value, malformed))
        .transpose()
}

fn parse_id<T: std::str::FromStr>(name: &str, value: &Value, malformed: Code) -> Result<T, ApiError> {
    value
        .as_str()
        .and_then(|s| s.parse().ok())
        .ok_or_else(|| ApiError::because(malformed, format!("{name}: {} is not a UUID.", show(value))))
}

/// A description: at most 128 characters, without `<` and `>`; absent is empty (spec A.4, rule 19).
///
/// # Errors
/// 0002.
pub fn description(body: &Body) -> Result<Option<String>, ApiError> {
    description_at(body, "description")
}

/// The description in an object of the body, which a message calls `at`.
///
/// # Errors
/// 0002.
pub fn description_at(object: &Body, at: &str) -> Result<Option<String>, ApiError> {
    let text = match get(object, "description") {
        None => return Ok(None),
        Some(Value::String(text)) => text,
        Some(other) => {
            return Err(ApiError::because(
                Code::E0002,
                format!("{at}: {} is not a string.", show(other)),
            ));
        }
    };
    if text.chars().count() > DESCRIPTION_CHARS_MAX {
        return Err(ApiError::because(
            Code::E0002,
            format!(
                "{at} has {} characters, more than {DESCRIPTION_CHARS_MAX}.",
                text.chars().count()
            ),
        ));
    }
    if let Some(bad) = text.chars().find(|c| matches!(c, '<' | '>')) {
        return Err(ApiError::because(
            Code::E0002,
            format!("{at} must not contain '{bad}'."),
        ));
    }
    Ok(Some(text.clone()))
}

/// The longest description, in characters.
pub const DESCRIPTION_CHARS_MAX: usize = 128;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn body(value: Value) -> Body {
        let Value::Object(map) = value else {
            panic!("not an object")
        };
        map
    }

    #[test]
    fn only_an_object_is_a_body() {
        for bad in ["", "   ", "{", "[]", "null", "\"x\"", "1", "{\"a\":1}x"] {
            assert_eq!(parse(bad.as_bytes()).unwrap_err().code, Code::E1004, "{bad}");
        }
        assert!(parse(b"{}").is_ok());
        assert_eq!(parse(b"{\"a\": 1e400}").unwrap_err().code, Code::E0002);
    }

    #[test]
    fn a_description_has_128_characters_at_most() {
        let of = |s: String| description(&body(json!({"description": s})));
        assert_eq!(of("ü".repeat(128)).unwrap().unwrap().chars().count(), 128);
        assert_eq!(of("ü".repeat(129)).unwrap_err().code, Code::E0002);
        assert_eq!(of("a<b".into()).unwrap_err().code, Code::E0002);
        assert_eq!(of("a>b".into()).unwrap_err().code, Code::E0002);
        assert_eq!(
            description(&body(json!({"description": 1}))).unwrap_err().code,
            Code::E0002
        );
        assert_eq!(description(&body(json!({"description": null}))), Ok(None));
    }

    #[test]
    fn a_quoted_text_is_one_line() {
        assert_eq!(quote("it's \"b\n\u{7f}ü"), r#""it's \"b\n\u{7f}ü""#);
        assert_eq!(quote(&"x".repeat(81)), format!("\"{}…\"", "x".repeat(80)));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn a_quoted_value_is_short(text in ".*") {
            let shown = show(&json!([text])).chars().count();
            prop_assert!(shown <= SHOWN_CHARS_MAX + 1);
            prop_assert!(!(quote(&text) + &show(&json!([text]))).chars().any(char::is_control));
        }
    }
}
