//! How the namespaces of VPCs are named on a node.

use std::{fmt, str::FromStr};

use adit_cloud::kernel::{Instance, vpc_hash, vpc_namespace};
use adit_model::id::VpcId;

/// The longest name of a file, which a namespace's is.
const NAME_BYTES_MAX: usize = 255;
/// A VPC's id in a pattern, and how long it is.
const ID: (&str, usize) = ("{vpc}", 36);
/// Its hash.
const HASH: (&str, usize) = ("{hash}", 8);

/// A pattern with a VPC's id or hash in it, as `qrouter-{vpc}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(String);

impl FromStr for Pattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let rest = text.replace(ID.0, "").replace(HASH.0, "");
        if rest.len() == text.len() {
            return Err(format!("{} or {} has to stand for the VPC in it", ID.0, HASH.0));
        }
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
        if let Some(bad) = rest.chars().find(|c| !c.is_ascii() || !plain(*c as u8)) {
            return Err(format!(
                "{bad:?} has no place in it: letters, digits, - _ and dots have"
            ));
        }
        let length = rest.len() + text.matches(ID.0).count() * ID.1 + text.matches(HASH.0).count() * HASH.1;
        match length <= NAME_BYTES_MAX && !text.starts_with('.') {
            true => Ok(Self(text.to_owned())),
            false => Err(format!(
                "names have at most {NAME_BYTES_MAX} characters, and begin with no dot"
            )),
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Pattern {
    /// The name of a VPC's namespace.
    #[must_use]
    pub fn namespace(&self, vpc: VpcId) -> String {
        self.0
            .replace(ID.0, &vpc.to_string())
            .replace(HASH.0, &vpc_hash(vpc))
    }

    /// The VPC that a name is of, by its hash; `None` where it is of none.
    #[must_use]
    pub fn vpc(&self, name: &str) -> Option<String> {
        let first = |(token, length): (&str, usize)| {
            let at = self.0.find(token)?;
            // Only tokens are before the first of its kind that make it longer.
            let before = self.0[..at].matches(HASH.0).count() * (HASH.1 - HASH.0.len());
            name.get(at + before..at + before + length)
        };
        if self.0.contains(ID.0) {
            let vpc: VpcId = first(ID)?.parse().ok()?;
            return (self.namespace(vpc) == name).then(|| vpc_hash(vpc));
        }
        let hash = first(HASH)?;
        let is_hash = hash
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        (is_hash && self.0.replace(HASH.0, hash) == name).then(|| hash.to_owned())
    }

    /// The pattern of what `adit networks` makes.
    #[must_use]
    pub fn of(instance: &Instance) -> Self {
        let any = VpcId(uuid::Uuid::nil());
        Self(vpc_namespace(instance, any).replace(&vpc_hash(any), HASH.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_names_each_vpc_and_nothing_that_is_no_file() {
        let vpc: VpcId = "4189d3c2-8882-4871-a3c2-d380272eed80".parse().unwrap();
        let named = |text: &str| text.parse::<Pattern>().unwrap().namespace(vpc);
        assert_eq!(
            named("qrouter-{vpc}"),
            "qrouter-4189d3c2-8882-4871-a3c2-d380272eed80"
        );
        for text in ["qrouter-{vpc}", "{hash}", "a-{hash}-{vpc}.{hash}", "t1m0v{hash}"] {
            let pattern: Pattern = text.parse().unwrap();
            let name = pattern.namespace(vpc);
            assert_eq!(pattern.vpc(&name), Some(vpc_hash(vpc)), "{name}");
            for other in [
                "",
                "qrouter-",
                &name[1..],
                &format!("{name}0"),
                &name.to_uppercase(),
            ] {
                assert_eq!(pattern.vpc(other), None, "{text}: {other}");
            }
        }
        let instance: Instance = "q7x2m".parse().unwrap();
        let pattern = Pattern::of(&instance);
        assert_eq!(pattern.namespace(vpc), vpc_namespace(&instance, vpc));
        assert_eq!(pattern.to_string().parse(), Ok(pattern));
        for bad in [
            "",
            "vpc",
            "a/{vpc}",
            "{vpc} ",
            ".{vpc}",
            "{vpc}ä",
            &"{vpc}".repeat(8),
        ] {
            assert!(bad.parse::<Pattern>().is_err(), "{bad}");
        }
    }
}
