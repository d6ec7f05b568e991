//! Names of endpoint services (spec 0.5) and of endpoints in the private DNS (spec semantics 16).

use crate::{
    body,
    catalogue::{ApiError, Code},
    id::{EndpointId, ServiceId},
};

/// The longest short name, in characters.
pub const SHORT_NAME_CHARS_MAX: usize = 16;

/// Checks a short name that a caller gave; the empty name stands for none.
///
/// # Errors
/// 3076.
pub fn check_short(name: &str) -> Result<(), ApiError> {
    if let Some(bad) = name
        .chars()
        .find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '-')))
    {
        return Err(ApiError::because(
            Code::E3076,
            format!(
                "service_name: '{}' is not one of A-Z a-z 0-9 _ -.",
                bad.escape_debug()
            ),
        ));
    }
    if name.len() > SHORT_NAME_CHARS_MAX {
        return Err(ApiError::because(
            Code::E3076,
            format!(
                "service_name: {} has {} characters, more than {SHORT_NAME_CHARS_MAX}.",
                body::quote(name),
                name.len()
            ),
        ));
    }
    Ok(())
}

/// The composed name: `region.short.id`, or `region.id` without a short name.
pub fn compose(region: &str, short: &str, id: ServiceId) -> String {
    if short.is_empty() {
        format!("{region}.{id}")
    } else {
        format!("{region}.{short}.{id}")
    }
}

/// The name of an endpoint in the private DNS of its VPC.
pub fn dns(id: EndpointId, region: &str, suffix: &str) -> String {
    format!("vpcep-{id}.{region}.{suffix}")
}

/// Checks a name that a caller filters or looks up by.
///
/// # Errors
/// 1003 for control characters, `<` and `>`.
pub fn check_filter(name: &str) -> Result<(), ApiError> {
    match name.chars().find(|c| c.is_control() || matches!(c, '<' | '>')) {
        None => Ok(()),
        Some(bad) => Err(ApiError::because(
            Code::E1003,
            format!("endpoint_service_name must not contain '{}'.", bad.escape_debug()),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_have_16_characters_of_a_small_set() {
        for good in ["", "a", "7", "orders-api_V2", "abcdefghij-_0123"] {
            assert_eq!(check_short(good), Ok(()), "{good}");
        }
        for bad in ["abcdefghij-_01234", "a.b", "a b", "ä", "a<b", "a\n"] {
            assert_eq!(check_short(bad).unwrap_err().code, Code::E3076, "{bad}");
        }
    }

    #[test]
    fn the_composed_name_holds_the_id() {
        let id: ServiceId = "2cf745d6-b57a-5b26-823d-dd9761a6cda4".parse().unwrap();
        assert_eq!(compose("eu-de", "orders", id), format!("eu-de.orders.{id}"));
        assert_eq!(compose("eu-de", "", id), format!("eu-de.{id}"));
    }

    #[test]
    fn filters_refuse_control_characters_and_brackets() {
        assert_eq!(check_filter("EU-DE.x"), Ok(()));
        for bad in ["a\u{7}", "<", "a>b"] {
            assert_eq!(check_filter(bad).unwrap_err().code, Code::E1003);
        }
    }
}
