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

/// The longest name of a public service, in characters.
pub const PUBLIC_NAME_CHARS_MAX: usize = 128;

/// The longest name of a public service's owner, in characters.
pub const OWNER_CHARS_MAX: usize = 64;

/// Checks the name of a public service: free-form, but one that lists can be filtered by.
///
/// # Errors
/// 3076.
pub fn check_public(name: &str) -> Result<(), ApiError> {
    let wrong = |why: &str| {
        Err(ApiError::because(
            Code::E3076,
            format!("service_name: \"{name:.200}\" {why}"),
        ))
    };
    let chars = name.chars().count();
    if name.trim() != name || !(1..=PUBLIC_NAME_CHARS_MAX).contains(&chars) {
        return wrong("does not have 1 to 128 characters without a space at either end.");
    }
    if check_filter(name).is_err() {
        return wrong("has a control character, '<' or '>'.");
    }
    Ok(())
}

/// Checks the name of a public service's owner.
///
/// # Errors
/// 0002.
pub fn check_owner(owner: &str) -> Result<(), ApiError> {
    if (1..=OWNER_CHARS_MAX).contains(&owner.chars().count()) && check_filter(owner).is_ok() {
        return Ok(());
    }
    Err(ApiError::because(
        Code::E0002,
        format!("owner: \"{owner:.200}\" does not have 1 to 64 characters without '<' and '>'."),
    ))
}

/// The composed name: `region.short.id`, or `region.id` without a short name.
pub fn compose(region: &str, short: &str, id: ServiceId) -> String {
    if short.is_empty() {
        format!("{region}.{id}")
    } else {
        format!("{region}.{short}.{id}")
    }
}

/// The id that a composed name ends in, if it does.
pub fn id_of(name: &str) -> Option<ServiceId> {
    name.rsplit('.').next()?.parse().ok()
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
        assert_eq!(id_of(&compose("eu-de", "orders", id)), Some(id));
        assert_eq!(id_of("com.t-systems.otc.eu-de.obs"), None);
    }

    #[test]
    fn the_name_of_a_public_service_is_free_but_can_be_looked_for() {
        for good in ["com.t-systems.otc.eu-de.obs", "a", "Ä b/c", &"x".repeat(128)] {
            assert_eq!(check_public(good), Ok(()), "{good}");
        }
        for bad in ["", " a", "a ", "a\n", "<", &"x".repeat(129)] {
            assert_eq!(check_public(bad).unwrap_err().code, Code::E3076, "{bad}");
        }
        assert_eq!(check_owner("OTC"), Ok(()));
        for bad in ["", "a>", &"x".repeat(65)] {
            assert_eq!(check_owner(bad).unwrap_err().code, Code::E0002, "{bad}");
        }
    }

    #[test]
    fn filters_refuse_control_characters_and_brackets() {
        assert_eq!(check_filter("EU-DE.x"), Ok(()));
        for bad in ["a\u{7}", "<", "a>b"] {
            assert_eq!(check_filter(bad).unwrap_err().code, Code::E1003);
        }
    }
}
