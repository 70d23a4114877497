//! Conditions, in the form that all of Kubernetes has.

use crate::{limits, schema};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};

// Kubernetes' own type has the same fields, but no bounds in its schema.
/// One thing that holds, doesn't hold, or isn't known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// What it is about, in CamelCase.
    #[schemars(schema_with = "camel_case")]
    pub r#type: String,
    /// Whether it holds.
    pub status: Holds,
    /// Why, in one CamelCase word for programs.
    #[schemars(schema_with = "camel_case")]
    pub reason: String,
    /// Why, in a sentence that ends in what to do next.
    #[schemars(schema_with = "schema::message")]
    pub message: String,
    /// The generation of the object that this was found for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Since when the status is what it is.
    #[schemars(schema_with = "schema::time")]
    pub last_transition_time: Time,
}

/// Whether a condition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Holds {
    /// It does.
    True,
    /// It doesn't.
    False,
    /// That isn't known.
    Unknown,
}

/// What was found of one condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The condition's type.
    pub about: &'static str,
    /// Whether it holds.
    pub holds: Holds,
    /// Why, in one word.
    pub reason: &'static str,
    /// Why, in a sentence that ends in the next step.
    pub message: String,
}

impl Finding {
    /// A finding.
    pub fn new(about: &'static str, holds: Holds, reason: &'static str, message: impl Into<String>) -> Self {
        Self { about, holds, reason, message: message.into() }
    }
}

/// The conditions after these findings. One whose status stays keeps the time since when it is so; one that wasn't looked for is gone.
pub fn after(before: &[Condition], findings: Vec<Finding>, generation: Option<i64>, now: &Time) -> Vec<Condition> {
    let condition = |finding: Finding| {
        let same = before.iter().find(|old| old.r#type == finding.about && old.status == finding.holds);
        Condition {
            r#type: finding.about.to_owned(),
            status: finding.holds,
            reason: finding.reason.to_owned(),
            message: finding.message,
            observed_generation: generation,
            last_transition_time: same.map_or_else(|| now.clone(), |old| old.last_transition_time.clone()),
        }
    };
    findings.into_iter().map(condition).collect()
}

fn camel_case(_: &mut SchemaGenerator) -> Schema {
    schema::text("^[A-Z][A-Za-z0-9]*$", limits::WORD)
}

/// The conditions of an object, each type once.
pub(crate) fn list(generator: &mut SchemaGenerator) -> Schema {
    schema::map_list::<Condition>(generator, "type", limits::CONDITIONS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Time {
        Time(k8s_openapi::jiff::Timestamp::from_second(seconds).unwrap())
    }

    #[test]
    fn the_time_changes_with_the_status_only() {
        let ready = |holds, reason| vec![Finding::new("Ready", holds, reason, "")];
        let first = after(&[], ready(Holds::False, "Waiting"), Some(1), &at(1));
        let second = after(&first, ready(Holds::False, "StillWaiting"), Some(2), &at(2));
        assert_eq!((second[0].last_transition_time.clone(), second[0].reason.as_str()), (at(1), "StillWaiting"));
        let third = after(&second, ready(Holds::True, "Bound"), Some(2), &at(3));
        assert_eq!(third[0].last_transition_time, at(3));
    }
}
