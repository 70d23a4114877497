//! Selection by labels, with the fields that Kubernetes' own selectors have, and bounds.

use crate::limits;
use crate::schema;
use kube::KubeSchema;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What must be true of an object's labels: all of it. An empty selector fits everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
    "!has(self.matchLabels) || self.matchLabels.all(key, \
     !format.qualifiedName().validate(key).hasValue() && !format.labelValue().validate(self.matchLabels[key]).hasValue())"
).message("matchLabels has a key or a value that no label can have: correct it"))]
pub struct Selector {
    /// Labels that it has, with these values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "labels")]
    pub match_labels: BTreeMap<String, String>,
    /// What else must be true of its labels.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = limits::SELECTOR))]
    pub match_expressions: Vec<Expression>,
}

/// What must be true of one label.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
    "self.operator in ['In', 'NotIn'] ? has(self.values) && size(self.values) > 0 : !has(self.values) || size(self.values) == 0"
).message("In and NotIn need values, Exists and DoesNotExist have none: add or remove them"))]
#[x_kube(validation = Rule::new(
    "!format.qualifiedName().validate(self.key).hasValue()"
).message("key is one that no label can have: correct it"))]
pub struct Expression {
    /// The label's key.
    #[schemars(schema_with = "label_key")]
    pub key: String,
    /// How it is compared with the values.
    pub operator: Operator,
    /// The values, for In and NotIn.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "label_values")]
    pub values: Vec<String>,
}

/// How a label is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Operator {
    /// It is there, with one of the values.
    In,
    /// It isn't there, or has none of the values.
    NotIn,
    /// It is there.
    Exists,
    /// It isn't there.
    DoesNotExist,
}

impl Selector {
    /// Whether it fits an object with these labels.
    pub fn fits(&self, labels: &BTreeMap<String, String>) -> bool {
        self.expressions().iter().all(|expression| expression.fits(labels))
    }

    /// The whole of it as expressions, as a node affinity wants it.
    pub fn expressions(&self) -> Vec<Expression> {
        let exact = |(key, value): (&String, &String)| Expression {
            key: key.clone(),
            operator: Operator::In,
            values: vec![value.clone()],
        };
        self.match_labels.iter().map(exact).chain(self.match_expressions.iter().cloned()).collect()
    }
}

impl Expression {
    fn fits(&self, labels: &BTreeMap<String, String>) -> bool {
        let value = labels.get(&self.key);
        let is_one_of_the_values = value.is_some_and(|value| self.values.contains(value));
        match self.operator {
            Operator::In => is_one_of_the_values,
            Operator::NotIn => !is_one_of_the_values,
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
        }
    }
}

impl Operator {
    /// As Kubernetes writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::In => "In",
            Self::NotIn => "NotIn",
            Self::Exists => "Exists",
            Self::DoesNotExist => "DoesNotExist",
        }
    }
}

fn labels(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": limits::SELECTOR,
        "additionalProperties": { "type": "string", "maxLength": limits::LABEL_VALUE },
    })
}

fn label_key(_: &mut SchemaGenerator) -> Schema {
    schema::text("^[A-Za-z0-9]", limits::LABEL_KEY)
}

fn label_values(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": limits::SELECTOR_VALUES,
        "items": { "type": "string", "maxLength": limits::LABEL_VALUE, "pattern": "^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$" },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expression(key: &str, operator: Operator, values: &[&str]) -> Expression {
        Expression { key: key.into(), operator, values: values.iter().map(|value| (*value).into()).collect() }
    }

    #[test]
    fn an_empty_selector_fits_everything() {
        assert!(Selector::default().fits(&BTreeMap::new()));
    }

    #[test]
    fn all_of_a_selector_must_be_true() {
        let labels = BTreeMap::from([("tier".to_owned(), "web".to_owned()), ("zone".to_owned(), "a".to_owned())]);
        let cases = [
            (expression("tier", Operator::In, &["db", "web"]), true),
            (expression("tier", Operator::In, &["db"]), false),
            (expression("missing", Operator::In, &["db"]), false),
            (expression("tier", Operator::NotIn, &["web"]), false),
            (expression("missing", Operator::NotIn, &["web"]), true),
            (expression("zone", Operator::Exists, &[]), true),
            (expression("zone", Operator::DoesNotExist, &[]), false),
        ];
        for (expression, fits) in cases {
            let selector = Selector {
                match_labels: BTreeMap::from([("tier".into(), "web".into())]),
                match_expressions: vec![expression.clone()],
            };
            assert_eq!(selector.fits(&labels), fits, "{expression:?}");
            assert!(!selector.fits(&BTreeMap::new()), "the label is missing");
        }
    }
}
