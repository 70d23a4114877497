//! The CustomResourceDefinitions, as they are written to files and applied.

use crate::column::Column;
use crate::{SyncConflict, SyncMesh, SyncReplica, SyncVolume};
use crate::{conflict, mesh, replica, volume};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use serde_json::{Value, json};

/// What keeps Helm from deleting a kind, and with it every object of it, when a chart is uninstalled.
const KEEP: (&str, &str) = ("helm.sh/resource-policy", "keep");

/// All kinds, in the order in which people meet them.
pub fn all() -> Vec<CustomResourceDefinition> {
    vec![
        finished(SyncMesh::crd(), mesh::COLUMNS),
        finished(SyncVolume::crd(), volume::COLUMNS),
        finished(SyncReplica::crd(), replica::COLUMNS),
        finished(SyncConflict::crd(), conflict::COLUMNS),
    ]
}

/// What the derived definition doesn't say.
fn finished(mut kind: CustomResourceDefinition, columns: &[Column]) -> CustomResourceDefinition {
    kind.metadata.annotations.get_or_insert_default().insert(KEEP.0.into(), KEEP.1.into());
    for version in &mut kind.spec.versions {
        version.additional_printer_columns = Some(columns.iter().map(Column::definition).collect());
        let schema = version.schema.as_mut().and_then(|validation| validation.open_api_v3_schema.as_mut());
        let schema = schema.expect("kube derives one schema for each version");
        let mut value = serde_json::to_value(&*schema).expect("a schema is JSON");
        plain(&mut value);
        optional_spec(&mut value);
        *schema = serde_json::from_value(value).expect("what was a schema is still one");
    }
    kind
}

/// Takes away what Kubernetes doesn't know, or what has no meaning to us. `null` isn't a value of any field: it would be a second way
/// to be absent, which rules in CEL would have to ask for. Formats of unsigned numbers make the API server warn. Lines of doc comments
/// end where the source's do.
fn plain(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            // A property may have these names, too; then its value is an object.
            fields.retain(|name, value| !(name == "nullable" && value.is_boolean()));
            if fields.get("format").and_then(Value::as_str).is_some_and(|format| format.starts_with("uint")) {
                fields.insert("format".into(), json!("int64"));
            }
            if let Some(Value::String(text)) = fields.get_mut("description") {
                *text = text.replace('\n', " ");
            }
            fields.values_mut().for_each(plain);
        }
        Value::Array(items) => items.iter_mut().for_each(plain),
        _ => {}
    }
}

/// A spec without required fields needn't be written at all. Its own defaults count then, and rules always find one.
fn optional_spec(schema: &mut Value) {
    let spec = &mut schema["properties"]["spec"];
    if spec.get("required").is_none() {
        spec["default"] = json!({});
        let required = schema["required"].as_array_mut().expect("kube requires a spec");
        required.retain(|name| name != "spec");
        if required.is_empty() {
            schema.as_object_mut().expect("a schema is an object").remove("required");
        }
    }
}

/// All definitions as YAML, with the names of their files.
///
/// # Errors
/// A sentence, when the library that writes YAML can't.
pub fn files() -> Result<Vec<(String, String)>, String> {
    let file = |kind: CustomResourceDefinition| {
        let name = &kind.spec.names.plural;
        let text = serde_saphyr::to_string(&kind)
            .map_err(|reason| format!("the definition of {name} can't be written as YAML: {reason}"))?;
        let origin = "# Written by `cargo xtask codegen` from the types in crds/src: change those.";
        Ok((format!("{name}.yaml"), format!("{origin}\n{text}")))
    };
    all().into_iter().map(file).collect()
}
