//! The fields of a request's body, read one by one; what does not fit is refused with the field's name and value.

use std::str::FromStr;

use ipnet::Ipv4Net;
use serde_json::{Map, Value};

use crate::network::{Failure, subnet::PREFIX_MAX};

/// Longest name or description, in characters.
const TEXT_CHARS_MAX: usize = 255;

/// An object of a request's body. Fields that nobody reads are ignored: clients send many.
#[derive(Clone, Copy)]
pub(crate) struct Fields<'a> {
    of: &'static str,
    map: &'a Map<String, Value>,
}

impl<'a> Fields<'a> {
    /// The object that the body wraps under this name.
    pub(crate) fn of(json: &'a Value, name: &'static str) -> Result<Self, Failure> {
        let map = json.get(name).and_then(Value::as_object);
        let map = map.ok_or_else(|| Failure::Invalid(format!("The body has no object {name:?}.")))?;
        Ok(Self { of: name, map })
    }

    /// A body that is not wrapped, or an object inside of one.
    pub(crate) fn bare(json: &'a Value, name: &'static str) -> Result<Self, Failure> {
        let map = json
            .as_object()
            .ok_or_else(|| Failure::Invalid(format!("{name} is not an object.")))?;
        Ok(Self { of: name, map })
    }

    /// The refusal of a field.
    pub(crate) fn wrong(&self, field: &str, why: &str) -> Failure {
        let value = self.map.get(field).unwrap_or(&Value::Null).to_string();
        let value: String = value.chars().take(80).collect();
        Failure::Invalid(format!("{}.{field}: {value} {why}.", self.of))
    }

    fn missing(&self, field: &str) -> Failure {
        Failure::Invalid(format!("{}.{field} is missing.", self.of))
    }

    /// A field that is there and not null.
    pub(crate) fn get(&self, field: &str) -> Option<&'a Value> {
        self.map.get(field).filter(|value| !value.is_null())
    }

    pub(crate) fn text(&self, field: &str) -> Result<Option<&'a str>, Failure> {
        let Some(value) = self.get(field) else {
            return Ok(None);
        };
        let text = value
            .as_str()
            .ok_or_else(|| self.wrong(field, "is not a string"))?;
        if text.chars().count() > TEXT_CHARS_MAX {
            return Err(self.wrong(field, "is longer than 255 characters"));
        }
        Ok(Some(text))
    }

    /// A text that is kept; empty where it is not sent.
    pub(crate) fn text_or_empty(&self, field: &str) -> Result<String, Failure> {
        Ok(self.text(field)?.unwrap_or_default().to_owned())
    }

    /// A text that changes, where it is sent.
    pub(crate) fn new_text(&self, field: &str) -> Result<Option<String>, Failure> {
        Ok(self.text(field)?.map(str::to_owned))
    }

    /// An id, an address: a text of a form. An empty one counts as not sent, as clients have it.
    pub(crate) fn parsed<T: FromStr>(&self, field: &str, what: &str) -> Result<Option<T>, Failure> {
        match self.text(field)?.filter(|text| !text.is_empty()) {
            Some(text) => text
                .parse()
                .map(Some)
                .map_err(|_| self.wrong(field, &format!("is not {what}"))),
            None => Ok(None),
        }
    }

    pub(crate) fn needed<T: FromStr>(&self, field: &str, what: &str) -> Result<T, Failure> {
        self.parsed(field, what)?.ok_or_else(|| self.missing(field))
    }

    /// A block, written with its first address.
    pub(crate) fn block(&self, field: &str) -> Result<Option<Ipv4Net>, Failure> {
        let Some(block) = self.parsed::<Ipv4Net>(field, "an IPv4 block such as 10.0.0.0/24")? else {
            return Ok(None);
        };
        if block != block.trunc() {
            return Err(self.wrong(
                field,
                &format!("does not begin with its first address, {}", block.network()),
            ));
        }
        Ok(Some(block))
    }

    /// A block that has room for a router and a port.
    pub(crate) fn roomy_block(&self, field: &str) -> Result<Option<Ipv4Net>, Failure> {
        match self.block(field)? {
            Some(block) if !(1..=PREFIX_MAX).contains(&block.prefix_len()) => {
                Err(self.wrong(field, "has a prefix that is not between 1 and 30"))
            }
            // 127.0.0.0/8 and 224.0.0.0/3: no host can have such an address.
            Some(block) if block.network().is_loopback() || block.network().octets()[0] >= 224 => {
                Err(self.wrong(field, "is not a block that hosts can have addresses of"))
            }
            block => Ok(block),
        }
    }

    pub(crate) fn needed_block(&self, field: &str) -> Result<Ipv4Net, Failure> {
        self.roomy_block(field)?.ok_or_else(|| self.missing(field))
    }

    pub(crate) fn flag(&self, field: &str) -> Result<Option<bool>, Failure> {
        let Some(value) = self.get(field) else {
            return Ok(None);
        };
        value
            .as_bool()
            .map(Some)
            .ok_or_else(|| self.wrong(field, "is neither true nor false"))
    }

    pub(crate) fn list(&self, field: &str) -> Result<Option<&'a [Value]>, Failure> {
        let Some(value) = self.get(field) else {
            return Ok(None);
        };
        let list = value
            .as_array()
            .ok_or_else(|| self.wrong(field, "is not a list"))?;
        Ok(Some(list))
    }

    /// A list of texts, at most `max` of them.
    pub(crate) fn texts(&self, field: &str, max: usize) -> Result<Option<Vec<String>>, Failure> {
        let Some(list) = self.list(field)? else {
            return Ok(None);
        };
        if list.len() > max {
            return Err(self.wrong(field, &format!("has more than {max} members")));
        }
        let text = |value: &Value| {
            let text = value
                .as_str()
                .filter(|text| text.chars().count() <= TEXT_CHARS_MAX);
            text.map(str::to_owned)
                .ok_or_else(|| self.wrong(field, "is not a list of short strings"))
        };
        list.iter().map(text).collect::<Result<_, _>>().map(Some)
    }
}
