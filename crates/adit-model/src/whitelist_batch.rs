//! Whitelist records with descriptions, added and removed in numbers (spec B.5 to B.7): what only Huawei's API does with them.
//!
//! Owns the rules of these requests. What a record is, and whom it admits, is [`crate::whitelist`]'s.

use serde_json::Value;

use crate::{
    body::{self, Body},
    catalogue::{ApiError, Code},
    id::RecordId,
    whitelist::{PermissionType, Whitelist, WhitelistRecord, parse_records},
};

/// Records to add.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordsAdd {
    /// Permission and description of each, as sent, repeats left in.
    pub records: Vec<(String, String)>,
}

impl RecordsAdd {
    /// The rules of spec B.5, each over the whole list.
    ///
    /// # Errors
    /// 3036 (list missing or empty), 0002 (type), 3002 (a record's form), 0002 (a description).
    pub fn parse(body: &Body) -> Result<Self, ApiError> {
        let list = parse_records(body)?;
        let kind = PermissionType::parse(body, true)?;
        let permissions = list
            .iter()
            .enumerate()
            .map(|(i, item)| {
                let text = body::field(item, "permission").unwrap_or(&Value::Null);
                kind.read(&format!("permissions[{i}].permission"), text)
            })
            .collect::<Result<Vec<_>, _>>()?;
        let descriptions = list
            .iter()
            .enumerate()
            .map(|(i, item)| description(&format!("permissions[{i}]"), item, Code::E0002))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            records: permissions.into_iter().zip(descriptions).collect(),
        })
    }
}

/// Records to remove.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordsRemove {
    /// Their ids, each once.
    pub ids: Vec<RecordId>,
}

impl RecordsRemove {
    /// The rules of spec B.6.
    ///
    /// # Errors
    /// 3036 (list missing or empty), 0002 (an id).
    pub fn parse(body: &Body) -> Result<Self, ApiError> {
        let mut ids = Vec::new();
        for (i, item) in parse_records(body)?.iter().enumerate() {
            let id = body::field(item, "id").unwrap_or(&Value::Null);
            let parsed = id.as_str().and_then(|text| text.parse().ok());
            let parsed = parsed.ok_or_else(|| {
                ApiError::because(
                    Code::E0002,
                    format!("permissions[{i}].id: {} is not a UUID.", body::show(id)),
                )
            })?;
            if !ids.contains(&parsed) {
                ids.push(parsed);
            }
        }
        Ok(Self { ids })
    }
}

/// Reads the new description of a record (spec B.7).
///
/// # Errors
/// 2002 where it is missing, 0002 where it is none.
pub fn parse_description(body: &Body) -> Result<String, ApiError> {
    let permission = body::get(body, "permission")
        .ok_or_else(|| ApiError::because(Code::E2002, "permission is missing."))?;
    description("permission", permission, Code::E2002)
}

/// The description in an object; `missing` is the answer to none.
pub(crate) fn description(at: &str, object: &Value, missing: Code) -> Result<String, ApiError> {
    let Some(fields) = object.as_object() else {
        return Err(ApiError::because(
            Code::E0002,
            format!("{at}: {} is not an object.", body::show(object)),
        ));
    };
    body::description_at(fields, &format!("{at}.description"))?
        .ok_or_else(|| ApiError::because(missing, format!("{at}.description is missing.")))
}

impl Whitelist {
    /// These records without those of `ids`, and those.
    ///
    /// # Errors
    /// 0005 where one is not there.
    pub fn remove_records(&self, ids: &[RecordId]) -> Result<(Whitelist, Vec<WhitelistRecord>), ApiError> {
        let removed = ids
            .iter()
            .map(|id| self.record(*id).cloned())
            .collect::<Result<Vec<_>, _>>()?;
        let records = self.records.iter().filter(|r| !ids.contains(&r.id));
        let left = Whitelist {
            records: records.cloned().collect(),
        };
        Ok((left, removed))
    }

    /// These records, one of them with another description.
    ///
    /// # Errors
    /// 0005 where it is not there.
    pub fn describe(&self, id: RecordId, description: &str) -> Result<Whitelist, ApiError> {
        self.record(id)?;
        let mut after = self.clone();
        for record in after.records.iter_mut().filter(|r| r.id == id) {
            description.clone_into(&mut record.description);
        }
        Ok(after)
    }

    /// One record.
    ///
    /// # Errors
    /// 0005.
    pub fn record(&self, id: RecordId) -> Result<&WhitelistRecord, ApiError> {
        let found = self.records.iter().find(|r| r.id == id);
        found.ok_or_else(|| {
            ApiError::because(
                Code::E0005,
                format!("There is no whitelist record {id} of this endpoint service."),
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::time::Created;

    fn body(value: Value) -> Body {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn every_rule_has_its_code() {
        let add = |value| RecordsAdd::parse(&body(value)).map_err(|e| e.code);
        let one = |permission: Value, description: Value| json!({"permissions": [{"permission": permission, "description": description}]});
        assert!(add(one(json!("*"), json!(""))).is_ok());
        assert!(add(one(json!("iam:domain::a"), json!("d".repeat(128)))).is_ok());
        for (value, code) in [
            (json!({}), Code::E3036),
            (json!({"permissions": []}), Code::E3036),
            (json!({"permissions": "*"}), Code::E3036),
            (json!({"permissions": ["*"]}), Code::E3002),
            (json!({"permissions": [{"description": "d"}]}), Code::E3002),
            (one(json!("iam:user::a"), json!("d")), Code::E3002),
            (one(json!("*"), Value::Null), Code::E0002),
            (one(json!("*"), json!(1)), Code::E0002),
            (one(json!("*"), json!("a<b")), Code::E0002),
            (one(json!("*"), json!("d".repeat(129))), Code::E0002),
        ] {
            assert_eq!(add(value.clone()), Err(code), "{value}");
        }
        let remove = |value| RecordsRemove::parse(&body(value)).map_err(|e| e.code);
        let id = RecordId::random();
        let twice = remove(json!({"permissions": [{"id": id}, {"id": id}]})).unwrap();
        assert_eq!(twice.ids, [id]);
        for (value, code) in [
            (json!({}), Code::E3036),
            (json!({"permissions": []}), Code::E3036),
            (json!({"permissions": [{"id": "x"}]}), Code::E0002),
            (json!({"permissions": [{}]}), Code::E0002),
            (json!({"permissions": [1]}), Code::E0002),
        ] {
            assert_eq!(remove(value.clone()), Err(code), "{value}");
        }
        let describe = |value| parse_description(&body(value)).map_err(|e| e.code);
        assert_eq!(
            describe(json!({"permission": {"description": ""}})),
            Ok(String::new())
        );
        for (value, code) in [
            (json!({}), Code::E2002),
            (json!({"permission": {}}), Code::E2002),
            (json!({"permission": "x"}), Code::E0002),
            (json!({"permission": {"description": ">"}}), Code::E0002),
        ] {
            assert_eq!(describe(value.clone()), Err(code), "{value}");
        }
    }

    #[test]
    fn records_are_removed_all_or_none() {
        let wanted = [("iam:domain::a", "one"), ("iam:domain::b", "two"), ("*", "")];
        let all = Whitelist::default().add(wanted, Created::default).unwrap();
        let ids: Vec<_> = all.records.iter().map(|r| r.id).collect();
        let (left, removed) = all.remove_records(&[ids[2], ids[0]]).unwrap();
        assert_eq!(left.records, [all.records[1].clone()]);
        assert_eq!(removed, [all.records[2].clone(), all.records[0].clone()]);
        let error = all.remove_records(&[ids[0], RecordId::random()]).unwrap_err();
        assert_eq!(error.code, Code::E0005);
        let named = all.describe(ids[1], "new").unwrap();
        assert_eq!(named.record(ids[1]).unwrap().description, "new");
        assert_eq!(named.record(ids[0]).unwrap().description, "one");
        assert_eq!(
            all.describe(RecordId::random(), "x").unwrap_err().code,
            Code::E0005
        );
    }
}
