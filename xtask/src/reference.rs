//! The reference of the API, written from the committed definitions of the kinds: each field, column and rule, once.

use crate::failure::{Failure, Outcome};
use crate::repository;
use serde_json::Value;
use std::fmt::Write;
use std::fs;

/// Where the definitions are, in the order in which people meet the kinds.
const DEFINITIONS: [&str; 4] = [
    "charts/syncmesh/files/crds/syncmeshes.yaml",
    "charts/syncmesh/files/crds/syncvolumes.yaml",
    "charts/syncmesh/files/crds/syncreplicas.yaml",
    "charts/syncmesh/files/crds/syncconflicts.yaml",
];
/// What is written.
const DOCUMENT: &str = "docs/reference.md";
/// What stands before the kinds.
const HEAD: &str = "\
<!-- Written by `cargo xtask codegen` from charts/syncmesh/files/crds: change the types in crds/src. -->

# API reference

All fields of the kinds in `syncmesh.io/v1alpha1`, as the API server knows them; `kubectl explain svol.spec` says the same for one. How
to use them stands in [kubernetes.md](kubernetes.md), what conditions mean in [troubleshooting.md](troubleshooting.md).

`[]` after a name stands for each entry of a list, `.*` for each value of a map. A default of an object is made of those of its fields;
where an object has none, the defaults of its fields count once it is written. A status has bounds, too, but nobody writes it but
SyncMesh. Rules are CEL; `self` is what stands at the place, `oldSelf` what stood there before. A field that isn't here is dropped by
the API server; `kubectl` refuses it before that.
";

/// Writes the reference and prints its name.
pub fn write() -> Outcome<()> {
    let full = repository::root().join(DOCUMENT);
    fs::write(&full, text()?).map_err(Failure::io("write", &full))?;
    println!("{DOCUMENT}");
    Ok(())
}

/// Whether the reference is what the definitions say.
pub fn check() -> Outcome<Vec<String>> {
    let full = repository::root().join(DOCUMENT);
    let committed = fs::read_to_string(&full).map_err(Failure::io("read", &full))?;
    let complaint = || format!("{DOCUMENT} isn't what the definitions say: run `cargo xtask codegen` and commit");
    Ok((committed != text()?).then(complaint).into_iter().collect())
}

fn text() -> Outcome<String> {
    let mut text = HEAD.to_owned();
    for path in DEFINITIONS {
        let full = repository::root().join(path);
        let definition = fs::read_to_string(&full).map_err(Failure::io("read", &full))?;
        let definition: Value = serde_saphyr::from_str(&definition)
            .map_err(|reason| Failure::new(format!("{path} is no YAML: {reason}; run `cargo xtask codegen`")))?;
        text += &kind(&definition);
    }
    Ok(text)
}

/// A kind's chapter.
fn kind(definition: &Value) -> String {
    let spec = &definition["spec"];
    let (names, version) = (&spec["names"], &spec["versions"][0]);
    let schema = &version["schema"]["openAPIV3Schema"];
    let mut out = format!("\n## {}\n\n{}\n", word(&names["kind"]), word(&schema["description"]));
    let scope = match word(&spec["scope"]) {
        "Cluster" => "Of the whole cluster",
        _ => "In a namespace",
    };
    let short = list(&names["shortNames"]).iter().map(|name| code(word(name))).collect::<Vec<_>>().join(", ");
    let _ = write!(out, "\n{scope}; short name {short}, plural {}.", code(word(&names["plural"])));
    let selectable = list(&version["selectableFields"]);
    if !selectable.is_empty() {
        let paths: Vec<String> = selectable.iter().map(|field| code(plain_path(word(&field["jsonPath"])))).collect();
        let _ = write!(out, " `--field-selector` takes {}.", paths.join(", "));
    }
    out += "\n\n| column | shows | from | |\n|---|---|---|---|\n";
    for column in list(&version["additionalPrinterColumns"]) {
        let (name, shows) = (word(&column["name"]).to_uppercase(), cell(word(&column["description"])));
        let wide = if column["priority"].as_i64().unwrap_or(0) > 0 { "`-o wide`" } else { "" };
        let _ = writeln!(out, "| {name} | {shows} | {} | {wide} |", code(plain_path(word(&column["jsonPath"]))));
    }
    for part in ["spec", "status"] {
        let part_schema = &schema["properties"][part];
        if part_schema.is_null() {
            continue;
        }
        let _ = write!(out, "\n### {} {part}\n\n{}\n", word(&names["kind"]), cell(word(&part_schema["description"])));
        out += "\n| field | type | default | bounds | is |\n|---|---|---|---|---|\n";
        fields(part_schema, part, &mut out);
    }
    out += &rules(word(&names["kind"]), schema);
    out
}

/// A row for each field below an object.
fn fields(schema: &Value, path: &str, out: &mut String) {
    let required = list(&schema["required"]);
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        let is_required = required.iter().any(|one| word(one) == name);
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} | {} |",
            code(&path),
            kind_of(field),
            default(field),
            bounds(field, is_required),
            cell(word(&field["description"]))
        );
        let (inner, path) = entries(field, path);
        fields(inner, &path, out);
    }
}

/// What a list's entries or a map's values are, with their path; any other schema as it is.
fn entries(schema: &Value, path: String) -> (&Value, String) {
    if schema["items"].is_object() {
        (&schema["items"], format!("{path}[]"))
    } else if schema["additionalProperties"].is_object() {
        (&schema["additionalProperties"], format!("{path}.*"))
    } else {
        (schema, path)
    }
}

fn kind_of(schema: &Value) -> String {
    if schema["x-kubernetes-int-or-string"] == true {
        return "number or string".into();
    }
    let keys: Vec<String> = list(&schema["x-kubernetes-list-map-keys"]).iter().map(|key| code(word(key))).collect();
    match (word(&schema["type"]), word(&schema["format"])) {
        ("array", _) => {
            let kind = kind_of(&schema["items"]);
            match word(&schema["x-kubernetes-list-type"]) {
                "map" => format!("list of {kind}, each {} once", keys.join(" and ")),
                "set" => format!("list of {kind}, each once"),
                _ => format!("list of {kind}"),
            }
        }
        ("object", _) if schema["additionalProperties"].is_object() => {
            format!("map of {}", kind_of(&schema["additionalProperties"]))
        }
        ("string", "date-time") => "time".into(),
        (kind, _) => kind.into(),
    }
}

fn default(schema: &Value) -> String {
    match &schema["default"] {
        Value::Null => String::new(),
        Value::Object(_) if schema["default"] == of_fields(schema) => "its fields'".into(),
        Value::String(text) => code(text),
        other => code(&other.to_string()),
    }
}

/// The object that the defaults of an object's fields make.
fn of_fields(schema: &Value) -> Value {
    let fields = schema["properties"].as_object().into_iter().flatten();
    let with_default = fields.filter(|(_, field)| !field["default"].is_null());
    with_default.map(|(name, field)| (name.clone(), field["default"].clone())).collect::<serde_json::Map<_, _>>().into()
}

/// What a value must be, as far as the schema says it without a rule.
fn bounds(schema: &Value, is_required: bool) -> String {
    let mut parts: Vec<String> = Vec::new();
    if is_required {
        parts.push("required".into());
    }
    let range = |least: &str, most: &str, what: &str| {
        let number = |name: &str| schema[name].as_f64().map(|number| format!("{number:.0}"));
        match (number(least), number(most)) {
            (None, None) => None,
            (None, Some(most)) => Some(format!("up to {most}{what}")),
            (Some(least), None) => Some(format!("from {least}{what}")),
            (Some(least), Some(most)) if least == most => Some(format!("{least}{what}")),
            (Some(least), Some(most)) => Some(format!("{least} to {most}{what}")),
        }
    };
    let choices: Vec<String> = list(&schema["enum"]).iter().map(|choice| code(word(choice))).collect();
    if !choices.is_empty() {
        parts.push(choices.join(", "));
    }
    parts.extend(range("minimum", "maximum", ""));
    if word(&schema["format"]) != "date-time" {
        parts.extend(range("minLength", "maxLength", " characters"));
    }
    parts.extend(range("minItems", "maxItems", " entries"));
    parts.extend(range("minProperties", "maxProperties", " entries"));
    if let Some(pattern) = schema["pattern"].as_str() {
        parts.push(code(pattern));
    }
    let (inner, _) = entries(schema, String::new());
    // Fields of objects have rows of their own.
    if !std::ptr::eq(inner, schema) && !inner["properties"].is_object() {
        let inner = bounds(inner, false);
        if !inner.is_empty() {
            parts.push(format!("each {inner}"));
        }
    }
    parts.join("; ")
}

/// A table of the rules, each once with all places where it holds.
fn rules(kind: &str, schema: &Value) -> String {
    let mut found: Vec<Rule> = Vec::new();
    collect(schema, String::new(), &mut found);
    if found.is_empty() {
        return String::new();
    }
    let mut out = format!("\n### {kind} rules\n\n| at | says | rule |\n|---|---|---|\n");
    for rule in found {
        let _ = writeln!(out, "| {} | {} | {} |", rule.places.join(", "), cell(&rule.message), code(&rule.rule));
    }
    out
}

/// A rule, and where it holds.
struct Rule {
    places: Vec<String>,
    message: String,
    rule: String,
}

fn collect(schema: &Value, path: String, found: &mut Vec<Rule>) {
    for given in list(&schema["x-kubernetes-validations"]) {
        let place = if path.is_empty() { "the object".to_owned() } else { code(&path) };
        let (rule, message) = (word(&given["rule"]), word(&given["message"]));
        match found.iter_mut().find(|old| old.rule == rule && old.message == message) {
            Some(old) => old.places.push(place),
            None => found.push(Rule { places: vec![place], message: message.to_owned(), rule: rule.to_owned() }),
        }
    }
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        collect(field, path, found);
    }
    let (inner, deeper) = entries(schema, path);
    if !std::ptr::eq(inner, schema) {
        collect(inner, deeper, found);
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// A JSONPath without the dot that it begins with.
fn plain_path(path: &str) -> &str {
    path.strip_prefix('.').unwrap_or(path)
}

/// Text for a cell of a table: a bar would end the cell, in code, too.
fn cell(text: &str) -> String {
    text.replace('\n', " ").replace('|', "\\|")
}

/// Text as code, for a cell of a table.
fn code(text: &str) -> String {
    let fence = if text.contains('`') { "``" } else { "`" };
    format!("{fence}{}{fence}", cell(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn rows(schema: &Value) -> Vec<String> {
        let mut out = String::new();
        fields(schema, "spec", &mut out);
        out.lines().map(str::to_owned).collect()
    }

    #[test]
    fn nested_fields_are_told_by_dotted_paths() {
        let schema = json!({ "required": ["list"], "properties": {
            "list": { "type": "array", "maxItems": 3, "description": "Many.", "items": { "type": "object", "properties": {
                "name": { "type": "string", "minLength": 1, "maxLength": 4, "pattern": "^a|b$", "description": "One." } } } },
            "map": { "type": "object", "maxProperties": 2, "additionalProperties": { "type": "string", "maxLength": 9 } },
        } });
        assert_eq!(
            rows(&schema),
            [
                "| `spec.list` | list of object |  | required; up to 3 entries | Many. |",
                "| `spec.list[].name` | string |  | 1 to 4 characters; `^a\\|b$` | One. |",
                "| `spec.map` | map of string |  | up to 2 entries; each up to 9 characters |  |",
            ]
        );
    }

    #[test]
    fn numbers_choices_times_and_defaults_are_told_as_people_write_them() {
        let schema = json!({ "properties": {
            "a": { "type": "integer", "minimum": 0.0, "maximum": 1_099_511_627_776.0, "default": 7 },
            "b": { "type": "string", "enum": ["x", "y"], "default": "x" },
            "c": { "type": "string", "format": "date-time", "maxLength": 64 },
            "d": { "x-kubernetes-int-or-string": true, "minimum": 1.0 },
            "e": { "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"], "items": { "type": "object" } },
        } });
        assert_eq!(
            rows(&schema),
            [
                "| `spec.a` | integer | `7` | 0 to 1099511627776 |  |",
                "| `spec.b` | string | `x` | `x`, `y` |  |",
                "| `spec.c` | time |  |  |  |",
                "| `spec.d` | number or string |  | from 1 |  |",
                "| `spec.e` | list of object, each `name` once |  |  |  |",
            ]
        );
    }

    #[test]
    fn a_default_that_follows_from_those_of_the_fields_is_not_repeated() {
        let inner = json!({ "a": { "default": 1 }, "b": {} });
        assert_eq!(default(&json!({ "default": { "a": 1 }, "properties": inner })), "its fields'");
        assert_eq!(default(&json!({ "default": { "a": 2 }, "properties": inner })), "`{\"a\":2}`");
        assert_eq!(default(&json!({ "default": {}, "properties": {} })), "its fields'");
    }

    #[test]
    fn a_rule_of_several_places_is_told_once() {
        let rule = json!([{ "rule": "self || true", "message": "write more" }]);
        let field = json!({ "type": "string", "x-kubernetes-validations": rule });
        let schema = json!({ "x-kubernetes-validations": rule, "properties": { "spec": { "properties": {
            "a": { "type": "array", "items": field }, "b": field } } } });
        let text = rules("Some", &schema);
        assert!(text.ends_with("| the object, `spec.a[]`, `spec.b` | write more | `self \\|\\| true` |\n"), "{text}");
        assert_eq!(rules("Some", &json!({})), "");
    }

    #[test]
    fn every_column_field_and_rule_of_the_definitions_is_told() {
        let text = text().unwrap();
        for line in ["## SyncMesh", "## SyncVolume", "## SyncReplica", "## SyncConflict", "### SyncVolume status"] {
            assert!(text.lines().any(|found| found == line), "{line}");
        }
        for path in DEFINITIONS {
            let definition = fs::read_to_string(repository::root().join(path)).unwrap();
            let definition: Value = serde_saphyr::from_str(&definition).unwrap();
            let version = &definition["spec"]["versions"][0];
            for column in list(&version["additionalPrinterColumns"]) {
                assert!(text.contains(&cell(word(&column["description"]))), "{path}: {column}");
            }
            told(&version["schema"]["openAPIV3Schema"], &text);
        }
        assert!(text.contains("| `spec.root.mode` | string | `0777` |"), "what is in quotes stays a string");
    }

    /// Descriptions and rules of a schema and all below it stand in the text.
    fn told(schema: &Value, text: &str) {
        for rule in list(&schema["x-kubernetes-validations"]) {
            assert!(
                text.contains(&code(word(&rule["rule"]))) && text.contains(&cell(word(&rule["message"]))),
                "{rule}"
            );
        }
        for (name, field) in schema["properties"].as_object().into_iter().flatten() {
            assert!(text.contains(&cell(word(&field["description"]))), "{name}");
            told(field, text);
        }
        let (inner, _) = entries(schema, String::new());
        if !std::ptr::eq(inner, schema) {
            told(inner, text);
        }
    }

    #[test]
    fn the_committed_reference_is_what_the_definitions_say() {
        assert_eq!(check().unwrap(), Vec::<String>::new());
    }
}
