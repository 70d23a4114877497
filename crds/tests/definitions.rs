//! The definitions as they are committed, and what must be true of every schema.

#![allow(clippy::unwrap_used, reason = "tests: a failure is a failure")]

use serde_json::Value;
use std::path::Path;
use syncmesh_crds::definitions;

fn schemas() -> Vec<(String, Value)> {
    let kinds = serde_json::to_value(definitions::all()).unwrap();
    let kinds = kinds.as_array().unwrap().iter();
    kinds
        .map(|kind| {
            let name = kind["spec"]["names"]["kind"].as_str().unwrap().to_owned();
            (name, kind["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone())
        })
        .collect()
}

/// Calls `look` with every schema below one, and the path to it.
fn each(path: &str, schema: &Value, look: &mut impl FnMut(&str, &Value)) {
    look(path, schema);
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        each(&format!("{path}.{name}"), field, look);
    }
    for below in ["items", "additionalProperties"] {
        if schema[below].is_object() {
            each(&format!("{path}[]"), &schema[below], look);
        }
    }
}

#[test]
fn the_committed_files_are_what_codegen_writes() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../charts/syncmesh/files/crds");
    let written = definitions::files().unwrap();
    for (name, text) in &written {
        let committed = std::fs::read_to_string(folder.join(name)).unwrap_or_default();
        assert!(committed == *text, "{name} isn't what the types say: run `cargo xtask codegen` and commit");
    }
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), written.len(), "a file there belongs to no kind");
}

#[test]
fn what_is_written_as_yaml_reads_back_as_the_same_definition() {
    for ((name, text), kind) in definitions::files().unwrap().iter().zip(definitions::all()) {
        let read: Value = serde_saphyr::from_str(text).unwrap();
        // Numbers of bounds are written as floats, and may come back as whole ones.
        let (mut read, mut kind) = (read, serde_json::to_value(kind).unwrap());
        floats(&mut read);
        floats(&mut kind);
        assert_eq!(read, kind, "{name}");
    }
}

fn floats(value: &mut Value) {
    match value {
        Value::Number(number) => *value = number.as_f64().unwrap().into(),
        Value::Array(items) => items.iter_mut().for_each(floats),
        Value::Object(fields) => fields.values_mut().for_each(floats),
        _ => {}
    }
}

#[test]
fn every_text_list_and_map_is_bounded_and_every_field_explained() {
    let mut missing = Vec::new();
    for (kind, schema) in schemas() {
        for part in ["spec", "status"] {
            each(&format!("{kind}.{part}"), &schema["properties"][part], &mut |path, schema| {
                let bound = match schema["type"].as_str() {
                    Some("string") if schema["enum"].is_null() => "maxLength",
                    Some("array") => "maxItems",
                    Some("object") if schema["properties"].is_null() => "maxProperties",
                    Some("integer") => "format",
                    _ => "description",
                };
                if schema[bound].is_null() && !(bound == "description" && path.ends_with("[]")) {
                    missing.push(format!("{path} has no {bound}"));
                }
                if schema["description"].is_null() && !path.ends_with("[]") {
                    missing.push(format!("{path} has no description"));
                }
            });
        }
    }
    assert_eq!(missing, Vec::<String>::new());
}

#[test]
fn no_field_takes_null_and_no_choice_is_hidden_in_a_combination() {
    for (kind, schema) in schemas() {
        each(&kind, &schema, &mut |path, schema| {
            for word in ["nullable", "anyOf", "oneOf", "allOf", "not"] {
                assert!(schema[word].is_null(), "{path} has {word}");
            }
        });
    }
}
