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

fn camel_case(_: &mut SchemaGenerator) -> Schema {
    schema::text("^[A-Z][A-Za-z0-9]*$", limits::WORD)
}

/// The conditions of an object, each type once.
pub(crate) fn list(generator: &mut SchemaGenerator) -> Schema {
    schema::map_list::<Condition>(generator, "type", limits::CONDITIONS)
}
