//! The examples, against the types and the definitions. What the API server says to them is a story of the e2e crate.

#![allow(clippy::unwrap_used, reason = "tests: a failure is a failure")]

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::fmt::Debug;
use std::path::Path;
use syncmesh_crds::examples::{self, Example, Verdict};
use syncmesh_crds::{SyncConflict, SyncMesh, SyncReplica, SyncVolume, definitions};

fn all() -> Vec<Example> {
    examples::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("examples")).unwrap()
}

fn goes_through<K: DeserializeOwned + Serialize + PartialEq + Debug>(object: Value) -> Result<(), String> {
    let read: K = serde_json::from_value(object).map_err(|reason| reason.to_string())?;
    let written = serde_json::to_value(&read).map_err(|reason| reason.to_string())?;
    let again: K = serde_json::from_value(written).map_err(|reason| reason.to_string())?;
    if again == read { Ok(()) } else { Err(format!("{again:?} is not {read:?}")) }
}

/// What the API server stores of an object goes through its type and back.
fn fits_its_type(kind: &str, mut object: Value) -> Result<(), String> {
    if object["spec"].is_null() {
        object["spec"] = json!({});
    }
    match kind {
        "SyncMesh" => goes_through::<SyncMesh>(object),
        "SyncVolume" => goes_through::<SyncVolume>(object),
        "SyncReplica" => goes_through::<SyncReplica>(object),
        "SyncConflict" => goes_through::<SyncConflict>(object),
        _ => Err("there is no such kind".into()),
    }
}

#[test]
fn what_is_accepted_fits_its_type() {
    for example in all() {
        let accepted = match example.verdict {
            Verdict::Accepted => example.documents.len(),
            Verdict::Refused(_) => example.documents.len() - 1,
        };
        for object in &example.documents[..accepted] {
            assert_eq!(fits_its_type(&example.kind, object.clone()), Ok(()), "{} {}", example.kind, example.name);
        }
    }
}

#[test]
fn every_rule_of_every_kind_refuses_an_example() {
    let examples = all();
    let kinds = serde_json::to_value(definitions::all()).unwrap();
    for kind in kinds.as_array().unwrap() {
        let name = kind["spec"]["names"]["kind"].as_str().unwrap();
        let mut messages = Vec::new();
        messages_of_rules(&kind["spec"]["versions"][0]["schema"]["openAPIV3Schema"], &mut messages);
        assert!(!messages.is_empty(), "{name} has rules");
        for message in messages {
            let is_shown = examples.iter().any(|example| match &example.verdict {
                Verdict::Refused(part) => example.kind == name && message.contains(part.as_str()),
                Verdict::Accepted => false,
            });
            assert!(is_shown, "no example of {name} is refused because \"{message}\"");
        }
    }
}

fn messages_of_rules(schema: &Value, messages: &mut Vec<String>) {
    match schema {
        Value::Object(fields) => {
            for rule in fields.get("x-kubernetes-validations").and_then(Value::as_array).into_iter().flatten() {
                messages.push(rule["message"].as_str().unwrap().to_owned());
            }
            fields.values().for_each(|below| messages_of_rules(below, messages));
        }
        Value::Array(items) => items.iter().for_each(|below| messages_of_rules(below, messages)),
        _ => {}
    }
}
