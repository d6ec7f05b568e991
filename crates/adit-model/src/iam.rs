//! What policies allow: IAM actions, patterns of them, and who wins.
//!
//! Owns the form of a policy document and its evaluation: an explicit `Deny` wins over every `Allow`, and what nothing
//! mentions is not allowed. Never knows who has which policy, nor which route is which action (`adit-server`'s `iam`).
//!
//! ```text
//! {"Version": "1.1", "Statement": [{"Effect": "Allow", "Action": ["vpcep:*:get", "vpcep:endpoints:*"]}]}
//! ```
//!
//! Of a statement, `Effect` and `Action` are evaluated. `Resource` may only say "everything", `Condition` and everything else
//! is refused: a rule that is not understood must not be taken for one that is.

use std::{fmt, str::FromStr};

use serde::Deserialize;

/// The version of documents that is understood; 1.0 are roles of the cloud itself, 5.0 has other actions.
const VERSION: &str = "1.1";
/// Statements in a document.
const STATEMENTS_MAX: usize = 32;
/// Patterns in a statement.
const ACTIONS_MAX: usize = 100;
/// Bytes in a pattern.
const PATTERN_BYTES_MAX: usize = 128;

/// What somebody may do, and may not.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Document")]
pub struct Policy {
    statements: Vec<Statement>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Statement {
    effect: Effect,
    actions: Vec<Pattern>,
}

/// What a statement says of the actions that it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Effect {
    /// They may be done.
    Allow,
    /// They may not, whatever else says that they may.
    Deny,
}

/// What all of somebody's policies say of an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// At least one allows it, and none denies it.
    Allowed,
    /// One denies it.
    Denied,
    /// None mentions it: not allowed.
    Unmentioned,
}

/// Actions by a pattern: `service:resource:operation`, where `*` in the last two parts stands for any text.
#[derive(Clone, PartialEq, Eq)]
pub struct Pattern([String; 3]);

/// The text is not a pattern of actions.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not of the form service:resource:operation with \"*\" in the last two parts only")]
pub struct NoPattern(String);

impl FromStr for Pattern {
    type Err = NoPattern;

    fn from_str(text: &str) -> Result<Self, NoPattern> {
        let refused = || NoPattern(text.chars().take(PATTERN_BYTES_MAX).collect());
        let mut parts = text.split(':').map(str::to_ascii_lowercase);
        let (Some(service), Some(resource), Some(operation), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(refused());
        };
        let word = |part: &str, star: bool| {
            let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-_".contains(&b) || star && b == b'*';
            !part.is_empty() && part.bytes().all(allowed)
        };
        let sound = word(&service, false) && word(&resource, true) && word(&operation, true);
        if !sound || text.len() > PATTERN_BYTES_MAX {
            return Err(refused());
        }
        Ok(Self([service, resource, operation]))
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(":"))
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.to_string())
    }
}

impl Pattern {
    /// Whether an action is one of these. Upper and lower case are the same.
    pub fn matches(&self, action: &str) -> bool {
        let mut parts = action.split(':');
        let all = self.0.iter().all(|pattern| {
            parts
                .next()
                .is_some_and(|part| glob(pattern.as_bytes(), part.as_bytes()))
        });
        all && parts.next().is_none()
    }

    /// The service that the actions are of.
    pub fn service(&self) -> &str {
        &self.0[0]
    }
}

/// Whether a text is a pattern's, whose letters are lower case. Goes back to the last star only, so the work is at most the
/// product of the lengths.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut back: Option<(usize, usize)> = None;
    while let Some(byte) = text.get(t) {
        match pattern.get(p) {
            Some(b'*') => {
                back = Some((p, t));
                p += 1;
            }
            Some(wanted) if *wanted == byte.to_ascii_lowercase() => {
                p += 1;
                t += 1;
            }
            _ => match back {
                Some((star, from)) => {
                    back = Some((star, from + 1));
                    p = star + 1;
                    t = from + 1;
                }
                None => return false,
            },
        }
    }
    pattern.iter().skip(p).all(|b| *b == b'*')
}

impl Policy {
    /// A policy that allows actions and denies none.
    ///
    /// # Errors
    /// Where one of them is no pattern.
    pub fn allow(actions: &[&str]) -> Result<Self, NoPattern> {
        let actions = actions.iter().map(|a| a.parse()).collect::<Result<_, _>>()?;
        let effect = Effect::Allow;
        Ok(Self {
            statements: vec![Statement { effect, actions }],
        })
    }

    /// Every pattern that the policy has, allowed or denied.
    pub fn patterns(&self) -> impl Iterator<Item = &Pattern> {
        self.statements.iter().flat_map(|statement| &statement.actions)
    }
}

/// What somebody's policies say of an action, taken together.
pub fn decide<'a>(policies: impl IntoIterator<Item = &'a Policy>, action: &str) -> Verdict {
    let mut verdict = Verdict::Unmentioned;
    for statement in policies.into_iter().flat_map(|policy| &policy.statements) {
        if statement.actions.iter().any(|pattern| pattern.matches(action)) {
            match statement.effect {
                Effect::Deny => return Verdict::Denied,
                Effect::Allow => verdict = Verdict::Allowed,
            }
        }
    }
    verdict
}

/// A policy as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct Document {
    version: String,
    statement: Vec<StatementDocument>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct StatementDocument {
    effect: Effect,
    action: OneOrMore,
    resource: Option<OneOrMore>,
    condition: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

impl OneOrMore {
    fn all(self) -> Vec<String> {
        match self {
            Self::One(text) => vec![text],
            Self::More(texts) => texts,
        }
    }
}

impl TryFrom<Document> for Policy {
    type Error = String;

    fn try_from(document: Document) -> Result<Self, String> {
        let Document { version, statement } = document;
        if version != VERSION {
            return Err(format!("Version: {version:?} is not {VERSION:?}"));
        }
        if statement.is_empty() || statement.len() > STATEMENTS_MAX {
            return Err(format!("Statement: not 1 to {STATEMENTS_MAX} statements"));
        }
        let statements = statement.into_iter().map(Statement::try_from);
        Ok(Self {
            statements: statements.collect::<Result<_, _>>()?,
        })
    }
}

impl TryFrom<StatementDocument> for Statement {
    type Error = String;

    fn try_from(document: StatementDocument) -> Result<Self, String> {
        let StatementDocument {
            effect,
            action,
            resource,
            condition,
        } = document;
        if condition.is_some() {
            return Err("Condition: not supported; a statement holds always or never".to_owned());
        }
        for resource in resource.map(OneOrMore::all).unwrap_or_default() {
            // `*`, or with stars for all five parts: service, region, account, kind, path.
            let everything = resource.split(':').skip(1).all(|part| part == "*")
                && (resource == "*" || resource.split(':').count() == 5);
            if !everything {
                return Err(format!(
                    "Resource: {resource:?} is not \"*\"; a statement holds for all resources"
                ));
            }
        }
        let action = action.all();
        if action.is_empty() || action.len() > ACTIONS_MAX {
            return Err(format!("Action: not 1 to {ACTIONS_MAX} actions"));
        }
        let actions = action.iter().map(|action| action.parse());
        let actions = actions.collect::<Result<_, NoPattern>>();
        let actions = actions.map_err(|e| format!("Action: {e}"))?;
        Ok(Self { effect, actions })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn read(statements: &Value) -> Result<Policy, String> {
        let document = json!({"Version": "1.1", "Statement": statements});
        serde_json::from_value(document).map_err(|e| e.to_string())
    }

    fn statement(effect: &str, actions: &[&str]) -> Policy {
        read(&json!([{"Effect": effect, "Action": actions}])).unwrap()
    }

    #[test]
    fn patterns_match_whole_parts() {
        for (pattern, action, matches) in [
            ("vpcep:*:*", "vpcep:endpoints:create", true),
            ("vpcep:endpoints:*", "vpcep:endpoints:create", true),
            ("vpcep:endpoints:*", "vpcep:epservices:create", false),
            ("vpcep:*:list", "vpcep:epservices:list", true),
            ("vpcep:*:list", "vpcep:epservices:listAll", false),
            ("vpcep:*:list*", "vpcep:epservices:listAll", true),
            ("vpcep:ep*s:get", "vpcep:epservices:get", true),
            ("vpcep:ep*s:get", "vpcep:eps:get", true),
            ("vpcep:ep*s:get", "vpcep:ep:get", false),
            ("vpcep:*p*s*:get", "vpcep:endpoints:get", true),
            ("VPCEP:pubEpservices:LIST", "vpcep:pubEpservices:list", true),
            ("vpcep:endpoints:get", "vpcep:endpoints:get:x", false),
            ("vpcep:endpoints:get", "vpcep:endpoints", false),
            ("vpc:*:*", "vpcep:endpoints:get", false),
        ] {
            let read: Pattern = pattern.parse().unwrap();
            assert_eq!(read.matches(action), matches, "{pattern} {action}");
        }
        for bad in [
            "",
            "*",
            "vpcep",
            "vpcep:*",
            "vpcep:*:*:*",
            "*:*:*",
            "vpc*:*:*",
            "vpcep::get",
            "vpcep:a b:get",
            "vpcep:é:get",
            "vpcep:?:get",
        ] {
            assert!(bad.parse::<Pattern>().is_err(), "{bad}");
        }
        assert!(format!("vpcep:{}:*", "a".repeat(200)).parse::<Pattern>().is_err());
    }

    #[test]
    fn a_denial_wins_and_silence_is_no_permission() {
        let all = statement("Allow", &["vpcep:*:*"]);
        let none = statement("Deny", &["vpcep:endpoints:delete"]);
        let delete = "vpcep:endpoints:delete";
        assert_eq!(decide([&all], delete), Verdict::Allowed);
        assert_eq!(decide([&all, &none], delete), Verdict::Denied);
        assert_eq!(decide([&none, &all], delete), Verdict::Denied);
        assert_eq!(decide([&none, &all], "vpcep:endpoints:get"), Verdict::Allowed);
        assert_eq!(decide([&none], "vpcep:endpoints:get"), Verdict::Unmentioned);
        assert_eq!(decide([], delete), Verdict::Unmentioned);
    }

    #[test]
    fn what_is_not_understood_is_refused_and_named() {
        let allow = |more: Value| {
            let mut statement = json!({"Effect": "Allow", "Action": ["vpcep:*:*"]});
            statement
                .as_object_mut()
                .unwrap()
                .extend(more.as_object().unwrap().clone());
            json!([statement])
        };
        for fine in [
            json!({}),
            json!({"Action": "vpcep:*:get"}),
            json!({"Resource": "*"}),
            json!({"Resource": ["vpcep:*:*:*:*"]}),
        ] {
            assert!(read(&allow(fine.clone())).is_ok(), "{fine}");
        }
        for (more, named) in [
            (json!({"Effect": "allow"}), "allow"),
            (json!({"Effect": "Maybe"}), "Maybe"),
            (json!({"Action": []}), "Action"),
            (json!({"Action": ["vpcep"]}), "Action"),
            (json!({"Action": vec!["vpcep:*:*"; 101]}), "Action"),
            (json!({"Resource": "vpcep:*:*:endpoint:x"}), "Resource"),
            (json!({"Resource": ["*", "x"]}), "Resource"),
            (json!({"Resource": "vpcep:*"}), "Resource"),
            (json!({"Condition": {}}), "Condition"),
            (
                json!({"Condition": {"Bool": {"g:MFAPresent": ["true"]}}}),
                "Condition",
            ),
            (json!({"NotAction": ["vpcep:*:*"]}), "NotAction"),
            (json!({"Depends": []}), "Depends"),
        ] {
            let error = read(&allow(more.clone())).unwrap_err();
            assert!(error.contains(named), "{more}: {error}");
        }
        for (document, named) in [
            (json!({"Version": "1.0", "Statement": allow(json!({}))}), "1.0"),
            (json!({"Version": "5.0", "Statement": allow(json!({}))}), "5.0"),
            (json!({"Statement": allow(json!({}))}), "Version"),
            (json!({"Version": "1.1", "Statement": []}), "Statement"),
            (json!({"Version": "1.1"}), "Statement"),
            (
                json!({"Version": "1.1", "Statement": allow(json!({})), "Id": "x"}),
                "Id",
            ),
        ] {
            let error = serde_json::from_value::<Policy>(document.clone())
                .unwrap_err()
                .to_string();
            assert!(error.contains(named), "{document}: {error}");
        }
    }

    /// Actions and patterns over a small alphabet, so that they often meet.
    fn pattern() -> impl Strategy<Value = String> {
        "vpcep:[ab*]{1,4}:[ab*]{1,4}"
    }

    fn action() -> impl Strategy<Value = String> {
        "vpcep:[ab]{1,4}:[ab]{1,4}"
    }

    fn policies() -> impl Strategy<Value = Vec<(bool, Vec<String>)>> {
        prop::collection::vec((any::<bool>(), prop::collection::vec(pattern(), 1..4)), 0..6)
    }

    fn made(policies: &[(bool, Vec<String>)]) -> Vec<Policy> {
        let made = policies.iter().map(|(allow, actions)| {
            let actions: Vec<&str> = actions.iter().map(String::as_str).collect();
            statement(if *allow { "Allow" } else { "Deny" }, &actions)
        });
        made.collect()
    }

    /// The obvious way to match, for comparison: every way to divide the text.
    fn obvious(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern.split_first(), text.split_first()) {
            (None, None) => true,
            (Some((b'*', rest)), _) => (0..=text.len()).any(|n| obvious(rest, &text[n..])),
            (Some((p, pattern)), Some((t, text))) => p == t && obvious(pattern, text),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn stars_match_as_one_would_expect(pattern in "[ab*]{0,7}", text in "[ab]{0,7}") {
            prop_assert_eq!(glob(pattern.as_bytes(), text.as_bytes()), obvious(pattern.as_bytes(), text.as_bytes()));
        }

        #[test]
        fn the_order_of_policies_does_not_matter(policies in policies(), action in action()) {
            let mut made = made(&policies);
            let verdict = decide(&made, &action);
            made.reverse();
            prop_assert_eq!(decide(&made, &action), verdict);
        }

        #[test]
        fn one_denial_is_enough(policies in policies(), action in action()) {
            let mut made = made(&policies);
            made.push(statement("Deny", &[&action]));
            prop_assert_eq!(decide(&made, &action), Verdict::Denied);
        }

        #[test]
        fn more_permissions_never_take_one_away(policies in policies(), more in pattern(), action in action()) {
            let mut made = made(&policies);
            let before = decide(&made, &action);
            made.push(statement("Allow", &[&more]));
            let after = decide(&made, &action);
            prop_assert_eq!(before == Verdict::Denied, after == Verdict::Denied);
            prop_assert!(before != Verdict::Allowed || after == Verdict::Allowed);
        }

        #[test]
        fn allowed_means_that_something_allows_it(policies in policies(), action in action()) {
            let named = |allow: bool| policies.iter().any(|(a, patterns)| *a == allow
                && patterns.iter().any(|p| p.parse::<Pattern>().unwrap().matches(&action)));
            let expected = match (named(true), named(false)) {
                (_, true) => Verdict::Denied,
                (true, false) => Verdict::Allowed,
                (false, false) => Verdict::Unmentioned,
            };
            prop_assert_eq!(decide(&made(&policies), &action), expected);
        }

        #[test]
        fn no_text_panics(text in ".*", document in "\\PC{0,200}") {
            let _ = text.parse::<Pattern>();
            let _ = serde_json::from_str::<Policy>(&document);
        }
    }
}
