//! Whitelist records: which accounts may connect to a service (spec A.11, A.12, semantics 9).
//!
//! Owns their syntax and what they admit. The owner's account needs no record and is never listed. Checked when an endpoint
//! is created, never afterwards. Read next: [`crate::whitelist_batch`], for what only Huawei's API does with them.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    body::{self, Body},
    catalogue::{ApiError, Code},
    fitted,
    id::{DomainId, RecordId},
    service::words,
    time::Created,
};

/// At most so many records on one service: the largest page of the listing.
pub const RECORDS_MAX: usize = 500;

/// What stands before the account's id.
const DOMAIN_PREFIX: &str = "iam:domain::";

/// What stands before an organisation's path.
const ORG_PREFIX: &str = "organizations:orgPath::";

/// Whom a record names; told by its prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PermissionType {
    /// An account, or everybody.
    Domain,
    /// A part of an organisation; only Huawei's API has it.
    OrgPath,
}

words!(PermissionType: Domain = "domainId", OrgPath = "orgPath");

impl PermissionType {
    /// The `permission_type` of a request. Without Huawei's operations there is one, and the field is not looked at.
    ///
    /// # Errors
    /// 0002.
    pub fn parse(body: &Body, superset: bool) -> Result<Self, ApiError> {
        let word = match superset {
            true => body::string(body, "permission_type", Code::E0002)?,
            false => None,
        };
        let Some(word) = word else {
            return Ok(Self::Domain);
        };
        Self::from_wire(word).ok_or_else(|| {
            ApiError::because(
                Code::E0002,
                format!("permission_type: \"{word:.80}\" is neither domainId nor orgPath."),
            )
        })
    }

    /// Whether a text is a record of this type.
    fn is(self, text: &str) -> bool {
        match self {
            Self::Domain => {
                text == "*"
                    || text.strip_prefix(DOMAIN_PREFIX).is_some_and(|id| {
                        (1..=64).contains(&id.len())
                            && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'*')
                    })
            }
            Self::OrgPath => text.strip_prefix(ORG_PREFIX).is_some_and(|path| {
                let allowed = |b: u8| b.is_ascii_alphanumeric() || b"/-*?".contains(&b);
                (1..=1024).contains(&path.len()) && path.bytes().all(allowed)
            }),
        }
    }

    /// Reads one record of a request.
    ///
    /// # Errors
    /// 3002.
    pub(crate) fn read(self, at: &str, value: &Value) -> Result<String, ApiError> {
        if let Some(text) = value.as_str().filter(|text| self.is(text)) {
            return Ok(text.to_owned());
        }
        let form = match self {
            Self::Domain => "neither * nor iam:domain:: and 1 to 64 letters, digits and *",
            Self::OrgPath => "not organizations:orgPath:: and 1 to 1024 letters, digits, /, -, * and ?",
        };
        Err(ApiError::because(
            Code::E3002,
            format!("{at}: {} is {form}.", body::show(value)),
        ))
    }
}

/// One record, as it was sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WhitelistRecord {
    /// Its id.
    pub id: RecordId,
    /// `iam:domain::{account}`, `iam:domain::*` or `*`; or `organizations:orgPath::{path}`.
    pub permission: String,
    /// Free text.
    #[serde(default)]
    pub description: String,
    /// When it was added.
    pub created: Created,
}

impl WhitelistRecord {
    /// Whom it names.
    pub fn permission_type(&self) -> PermissionType {
        match self.permission.starts_with(ORG_PREFIX) {
            true => PermissionType::OrgPath,
            false => PermissionType::Domain,
        }
    }
}

/// All records of one service: one document, so that an action applies as a whole or not at all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Whitelist {
    /// In the order of their adding.
    #[serde(deserialize_with = "fitted::list")]
    pub records: Vec<WhitelistRecord>,
}

impl Whitelist {
    /// Whether the account may connect. An asterisk inside a longer id is legal text that matches nothing; so is a path of an
    /// organisation, since no identity service here knows organisations.
    pub fn admits(&self, domain: &DomainId) -> bool {
        self.records.iter().any(|r| match r.permission.as_str() {
            "*" => true,
            p => p
                .strip_prefix(DOMAIN_PREFIX)
                .is_some_and(|id| id == "*" || id == domain.as_str()),
        })
    }

    /// These records and those of `wanted` (permission and description) that are not there yet, which come last.
    ///
    /// # Errors
    /// 3049 where they would be more than 500.
    pub fn add<'a>(
        &self,
        wanted: impl IntoIterator<Item = (&'a str, &'a str)>,
        mut created: impl FnMut() -> Created,
    ) -> Result<Whitelist, ApiError> {
        let mut records = self.records.clone();
        for (permission, description) in wanted {
            if records.iter().any(|r| r.permission == permission) {
                continue;
            }
            if records.len() == RECORDS_MAX {
                return Err(ApiError::because(
                    Code::E3049,
                    format!("The service would have more than {RECORDS_MAX} whitelist records."),
                ));
            }
            records.push(WhitelistRecord {
                id: RecordId::random(),
                permission: permission.to_owned(),
                description: description.to_owned(),
                created: created(),
            });
        }
        Ok(Whitelist { records })
    }

    /// These records without those of `permissions`; what is not there is no error.
    #[must_use]
    pub fn remove(&self, permissions: &[String]) -> Whitelist {
        Whitelist {
            records: self
                .records
                .iter()
                .filter(|r| !permissions.contains(&r.permission))
                .cloned()
                .collect(),
        }
    }
}

/// `add` or `remove`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Add what is not there.
    Add,
    /// Remove what is there.
    Remove,
}

/// A well-formed request to add or remove records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WhitelistAction {
    /// What to do.
    pub action: Action,
    /// The records as sent, repeats left in.
    pub permissions: Vec<String>,
}

impl WhitelistAction {
    /// The field rules of spec A.12, in the table's order. `superset` also reads what only Huawei's API has,
    /// `permission_type`.
    ///
    /// # Errors
    /// 3036 (list missing or empty), 0002 (type), 3002 (a record's form), 3035 (action).
    pub fn parse(body: &Body, superset: bool) -> Result<Self, ApiError> {
        let list = parse_records(body)?;
        let kind = PermissionType::parse(body, superset)?;
        let permissions = list
            .iter()
            .enumerate()
            .map(|(i, value)| kind.read(&format!("permissions[{i}]"), value))
            .collect::<Result<Vec<_>, _>>()?;
        let action = match body.get("action") {
            Some(Value::String(s)) if s == "add" => Action::Add,
            Some(Value::String(s)) if s == "remove" => Action::Remove,
            other => {
                let shown = other.map_or_else(|| "nothing".to_owned(), body::show);
                return Err(ApiError::because(
                    Code::E3035,
                    format!("action: {shown} is neither add nor remove."),
                ));
            }
        };
        Ok(Self { action, permissions })
    }
}

/// The `permissions` of a request, which are at least one.
///
/// # Errors
/// 3036.
pub(crate) fn parse_records(body: &Body) -> Result<&[Value], ApiError> {
    match body::get(body, "permissions") {
        Some(Value::Array(list)) if !list.is_empty() => Ok(list),
        None => Err(ApiError::because(Code::E3036, "permissions is missing.")),
        Some(other) => Err(ApiError::because(
            Code::E3036,
            format!("permissions: {} is not a list of records.", body::show(other)),
        )),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(value: Value) -> Result<WhitelistAction, Code> {
        WhitelistAction::parse(value.as_object().unwrap(), false).map_err(|e| e.code)
    }

    #[test]
    fn every_rule_has_its_code() {
        assert_eq!(parse(json!({"action": "add"})), Err(Code::E3036));
        assert_eq!(
            parse(json!({"action": "add", "permissions": []})),
            Err(Code::E3036)
        );
        assert_eq!(
            parse(json!({"action": "add", "permissions": "*"})),
            Err(Code::E3036)
        );
        let long = |n: usize| format!("iam:domain::{}", "a".repeat(n));
        for good in [
            "*".into(),
            "iam:domain::*".into(),
            "iam:domain::a*b".into(),
            long(1),
            long(64),
        ] {
            assert!(parse(json!({"action": "add", "permissions": [good]})).is_ok());
        }
        for bad in [
            "".into(),
            "**".into(),
            long(0),
            long(65),
            "iam:domain:a".into(),
            "iam:domain::a-b".into(),
        ] {
            assert_eq!(
                parse(json!({"action": "add", "permissions": ["*", bad]})),
                Err(Code::E3002)
            );
        }
        assert_eq!(
            parse(json!({"action": "add", "permissions": [1]})),
            Err(Code::E3002)
        );
        for bad in [json!("delete"), json!("ADD"), Value::Null, json!(1)] {
            assert_eq!(
                parse(json!({"action": bad, "permissions": ["*"]})),
                Err(Code::E3035)
            );
        }
        // The list is judged before the action.
        assert_eq!(
            parse(json!({"action": "delete", "permissions": ["x"]})),
            Err(Code::E3002)
        );
    }

    #[test]
    fn the_superset_names_parts_of_organisations_that_admit_nobody() {
        let parse = |kind: Value, record: &str, superset| {
            let body = json!({"action": "add", "permission_type": kind, "permissions": [record]});
            WhitelistAction::parse(body.as_object().unwrap(), superset).map_err(|e| e.code)
        };
        let path = format!("{ORG_PREFIX}o-1/r-2/ou-?*");
        assert!(parse(json!("orgPath"), &path, true).is_ok());
        assert!(
            parse(
                json!("orgPath"),
                &format!("{ORG_PREFIX}{}", "a".repeat(1024)),
                true
            )
            .is_ok()
        );
        for (kind, record) in [
            ("orgPath", "iam:domain::a"),
            ("orgPath", "*"),
            ("orgPath", ORG_PREFIX),
            ("orgPath", &format!("{ORG_PREFIX}{}", "a".repeat(1025))),
            ("orgPath", &format!("{ORG_PREFIX}a_b")),
            ("domainId", path.as_str()),
        ] {
            assert_eq!(
                parse(json!(kind), record, true),
                Err(Code::E3002),
                "{kind} {record}"
            );
        }
        for bad in [json!("domain"), json!(1)] {
            assert_eq!(parse(bad, "*", true), Err(Code::E0002));
        }
        // Without the superset the field is one of those that are ignored.
        assert_eq!(parse(json!("orgPath"), &path, false), Err(Code::E3002));
        assert!(parse(json!(1), "*", false).is_ok());
        let record = &list(&[path.as_str()]).records[0];
        assert_eq!(record.permission_type(), PermissionType::OrgPath);
        assert!(!list(&[&format!("{ORG_PREFIX}*")]).admits(&"a".parse().unwrap()));
    }

    fn list(permissions: &[&str]) -> Whitelist {
        let wanted = permissions.iter().map(|p| (*p, ""));
        Whitelist::default().add(wanted, Created::default).unwrap()
    }

    #[test]
    fn a_record_admits_its_account_and_an_asterisk_everybody() {
        let me: DomainId = "abc".parse().unwrap();
        assert!(!Whitelist::default().admits(&me));
        assert!(list(&["iam:domain::abc"]).admits(&me));
        assert!(list(&["*"]).admits(&me));
        assert!(list(&["iam:domain::*"]).admits(&me));
        assert!(!list(&["iam:domain::ab", "iam:domain::ab*", "iam:domain::abcd"]).admits(&me));
    }

    #[test]
    fn repeats_collapse_and_500_is_the_end() {
        assert_eq!(list(&["*", "*", "iam:domain::*"]).records.len(), 2);
        let many: Vec<_> = (0..501).map(|i| format!("iam:domain::{i}")).collect();
        let add = |to: &Whitelist, from, end| {
            let wanted = many[from..end].iter().map(|p| (p.as_str(), ""));
            to.add(wanted, Created::default)
        };
        let full = add(&Whitelist::default(), 0, 500).unwrap();
        assert_eq!(add(&full, 500, 501).unwrap_err().code, Code::E3049);
        assert!(add(&full, 0, 500).is_ok());
        assert_eq!(full.remove(&many).records.len(), 0);
    }
}
