//! Failures that somebody asks for, to see how their own code takes them.
//!
//! Owns how one is written (`endpoint_create:500:2` on a command line, an object in a body) and how it is used up; never
//! knows which operations there are. No tenant can ask for one.

use std::{fmt, str::FromStr};

use serde_json::Value;

use crate::{
    body::{self, Body},
    catalogue::{ApiError, Code},
};

/// At most so many are planned at a time.
pub const PLANNED_MAX: usize = 100;
/// At most so often one happens.
pub const TIMES_MAX: u32 = 1_000_000;

/// What happens in place of success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The request is refused with this status, and the code that goes best with it.
    Status(u16),
    /// The request is refused with this code, and the status that it has.
    Code(Code),
    /// The request is answered as always, and what it has ordered becomes `failed`.
    Failed,
}

impl Effect {
    /// The status and the code of the reply; none where it is as always.
    pub fn reply(self) -> Option<(u16, Code)> {
        match self {
            Self::Failed => None,
            Self::Code(code) => Some((code.status(), code)),
            Self::Status(status) => Some((status, code_of(status))),
        }
    }
}

/// The code that goes best with a status. Where none has it, the general one has to do.
fn code_of(status: u16) -> Code {
    match status {
        401 => Code::E0003,
        403 => Code::E0004,
        404 => Code::E0005,
        504 => Code::E0013,
        400..=499 => Code::E0002,
        _ => Code::E0001,
    }
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => status.fmt(f),
            Self::Code(code) => f.write_str(code.as_str()),
            Self::Failed => f.write_str("failed"),
        }
    }
}

impl FromStr for Effect {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        if word == "failed" {
            return Ok(Self::Failed);
        }
        if let Some(code) = Code::ALL.iter().find(|code| code.as_str() == word) {
            return Ok(Self::Code(*code));
        }
        match word.parse() {
            Ok(status @ 400..=599) => Ok(Self::Status(status)),
            _ => Err(format!(
                "{} is neither a status from 400 to 599, nor a code of the catalogue, nor failed",
                body::quote(word)
            )),
        }
    }
}

/// A failure that is to happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// The operation, by its id in the OpenAPI document.
    pub operation: String,
    /// What happens.
    pub effect: Effect,
    /// How often it is still to happen.
    pub times: u32,
}

impl Planned {
    /// Reads the whole plan, an order of the operator: `{"failures": [{"operation": …, "effect": …, "times": …}]}`.
    ///
    /// # Errors
    /// 0002, 2002; the message names the field.
    pub fn parse_plan(body: &Body) -> Result<Vec<Self>, ApiError> {
        let bad = |what: String| ApiError::because(Code::E0002, what);
        let list = match body::get(body, "failures") {
            None => return Err(ApiError::because(Code::E2002, "failures is missing.")),
            Some(Value::Array(list)) if list.len() <= PLANNED_MAX => list,
            Some(Value::Array(list)) => {
                return Err(bad(format!(
                    "failures: {} of them are more than {PLANNED_MAX}.",
                    list.len()
                )));
            }
            Some(other) => return Err(bad(format!("failures: {} is not a list.", body::show(other)))),
        };
        let item = |(i, item): (usize, &Value)| {
            let text = |name: &str| match body::field(item, name) {
                Some(Value::String(text)) => Ok(text.as_str()),
                Some(other) => Err(bad(format!(
                    "failures[{i}].{name}: {} is not a string.",
                    body::show(other)
                ))),
                None => Err(bad(format!("failures[{i}].{name} is missing."))),
            };
            let operation = text("operation")?.to_owned();
            let effect = text("effect")?
                .parse()
                .map_err(|e| bad(format!("failures[{i}].effect: {e}.")))?;
            let times = match body::field(item, "times") {
                None => 1,
                Some(value) => times(value.as_u64())
                    .ok_or_else(|| bad(format!("failures[{i}].times: {}.", not_times(&body::show(value)))))?,
            };
            Ok(Self {
                operation,
                effect,
                times,
            })
        };
        list.iter().enumerate().map(item).collect()
    }
}

fn times(number: Option<u64>) -> Option<u32> {
    let number = u32::try_from(number?).ok()?;
    (1..=TIMES_MAX).contains(&number).then_some(number)
}

fn not_times(shown: &str) -> String {
    format!("{shown} is not an integer in 1..={TIMES_MAX}")
}

impl FromStr for Planned {
    type Err = String;

    /// `OPERATION:EFFECT`, or `OPERATION:EFFECT:TIMES`.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.split(':');
        let (Some(operation), Some(effect)) = (parts.next().filter(|o| !o.is_empty()), parts.next()) else {
            return Err(
                "it is not of the form OPERATION:EFFECT:TIMES, such as endpoint_create:500:2".to_owned(),
            );
        };
        let effect = effect.parse()?;
        let times = match (parts.next(), parts.next()) {
            (None, _) => 1,
            (Some(number), None) => {
                times(number.parse().ok()).ok_or_else(|| not_times(&body::quote(number)))?
            }
            (Some(_), Some(_)) => return Err("it has more than three parts".to_owned()),
        };
        Ok(Self {
            operation: operation.to_owned(),
            effect,
            times,
        })
    }
}

/// What is still to happen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan(pub Vec<Planned>);

impl Plan {
    /// Takes the first failure of an operation that `wanted` takes; it has happened once more then.
    pub fn take(&mut self, operation: &str, wanted: impl Fn(Effect) -> bool) -> Option<Effect> {
        let found = self
            .0
            .iter()
            .position(|p| p.operation == operation && wanted(p.effect))?;
        let planned = &mut self.0[found];
        let effect = planned.effect;
        planned.times -= 1;
        if planned.times == 0 {
            self.0.remove(found);
        }
        Some(effect)
    }

    /// Gives back what was taken and did not happen.
    pub fn give_back(&mut self, operation: &str, effect: Effect) {
        let same = |p: &&mut Planned| p.operation == operation && p.effect == effect;
        match self.0.iter_mut().find(same) {
            Some(planned) => planned.times += 1,
            None => self.0.insert(
                0,
                Planned {
                    operation: operation.to_owned(),
                    effect,
                    times: 1,
                },
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_flag_is_an_operation_an_effect_and_a_number() {
        let planned = |text: &str| text.parse::<Planned>().map(|p| (p.operation, p.effect, p.times));
        let op = || "endpoint_create".to_owned();
        assert_eq!(
            planned("endpoint_create:500:2"),
            Ok((op(), Effect::Status(500), 2))
        );
        assert_eq!(planned("endpoint_create:failed"), Ok((op(), Effect::Failed, 1)));
        assert_eq!(
            planned("endpoint_create:EndPoint.0022:1000000"),
            Ok((op(), Effect::Code(Code::E0022), 1_000_000))
        );
        for (text, said) in [
            ("", "of the form"),
            ("endpoint_create", "of the form"),
            (":500", "of the form"),
            ("endpoint_create:399", "\"399\" is neither"),
            ("endpoint_create:600", "\"600\" is neither"),
            ("endpoint_create:EndPoint.9999", "neither"),
            ("endpoint_create:500:0", "\"0\" is not an integer in 1..=1000000"),
            ("endpoint_create:500:1000001", "not an integer"),
            ("endpoint_create:500:x", "not an integer"),
            ("endpoint_create:500:1:1", "more than three"),
        ] {
            let error = planned(text).unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
        }
    }

    #[test]
    fn a_plan_is_read_field_by_field() {
        let parse = |value: Value| Planned::parse_plan(value.as_object().unwrap());
        let good = json!({"failures": [
            {"operation": "a", "effect": "404", "times": 3, "why": "ignored"},
            {"operation": "b", "effect": "failed", "times": null},
        ]});
        let plan = parse(good).unwrap();
        assert_eq!((plan[0].effect, plan[0].times), (Effect::Status(404), 3));
        assert_eq!((plan[1].effect, plan[1].times), (Effect::Failed, 1));
        assert_eq!(parse(json!({"failures": []})), Ok(Vec::new()));
        let many: Vec<_> = (0..101)
            .map(|_| json!({"operation": "a", "effect": "500"}))
            .collect();
        for (body, code, said) in [
            (json!({}), Code::E2002, "failures is missing"),
            (json!({"failures": {}}), Code::E0002, "not a list"),
            (json!({"failures": many}), Code::E0002, "101 of them"),
            (
                json!({"failures": [1]}),
                Code::E0002,
                "failures[0].operation is missing",
            ),
            (
                json!({"failures": [{"operation": 1}]}),
                Code::E0002,
                "failures[0].operation: 1 is not",
            ),
            (
                json!({"failures": [{"operation": "a"}]}),
                Code::E0002,
                "failures[0].effect is missing",
            ),
            (
                json!({"failures": [{"operation": "a", "effect": "ok"}]}),
                Code::E0002,
                "failures[0].effect: \"ok\" is neither",
            ),
            (
                json!({"failures": [{"operation": "a", "effect": "500", "times": 0}]}),
                Code::E0002,
                "failures[0].times: 0 is not",
            ),
            (
                json!({"failures": [{"operation": "a", "effect": "500", "times": 1.5}]}),
                Code::E0002,
                "failures[0].times: 1.5 is not",
            ),
        ] {
            let error = parse(body.clone()).unwrap_err();
            assert_eq!(error.code, code, "{body}");
            assert!(error.message.contains(said), "{body}: {}", error.message);
        }
    }

    #[test]
    fn a_failure_happens_as_often_as_it_was_planned_and_in_order() {
        let plan = |texts: &[&str]| Plan(texts.iter().map(|t| t.parse().unwrap()).collect());
        let mut it = plan(&["a:500:2", "b:404", "a:failed", "a:400"]);
        let any = |_| true;
        assert_eq!(it.take("c", any), None);
        assert_eq!(it.take("a", |e| e == Effect::Failed), Some(Effect::Failed));
        assert_eq!(it.take("a", |e| e == Effect::Failed), None);
        for expected in [500, 500, 400] {
            assert_eq!(it.take("a", any), Some(Effect::Status(expected)));
        }
        assert_eq!(it.take("a", any), None);
        it.give_back("a", Effect::Failed);
        it.give_back("b", Effect::Status(404));
        assert_eq!(it, plan(&["a:failed", "b:404:2"]));
    }

    #[test]
    fn every_status_has_a_code_whose_own_it_is_where_there_is_one() {
        for status in 400..600 {
            let (answered, code) = Effect::Status(status).reply().unwrap();
            assert_eq!(answered, status);
            let own = Code::ALL.iter().any(|c| c.status() == status);
            assert!(!own || code.status() == status, "{status}");
        }
    }
}
