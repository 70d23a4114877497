//! Schemas of texts, lists and numbers, for fields whose type alone says too little.

use crate::limits;
use kube::core::Rule;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::json;

/// Lower case, digits and `-`, which neither begins nor ends it: a DNS-1123 label.
pub const LABEL: &str = "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";
/// Labels and dots: a DNS-1123 subdomain.
const SUBDOMAIN: &str = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";
/// Absolute, without empty parts and without parts that begin with a dot, so `..` can't be said.
const DIRECTORY: &str = "^(/[A-Za-z0-9_-][A-Za-z0-9._-]*)+$";
/// No control characters.
const PLAIN: &str = r"^[^\x00-\x1f\x7f]+$";
/// No control characters; a `#` at the beginning would be a comment.
const EXCLUSION: &str = r"^[^#\x00-\x1f\x7f][^\x00-\x1f\x7f]*$";

/// A text of 1 to `most` characters that fits `pattern`.
pub fn text(pattern: &str, most: u32) -> Schema {
    json_schema!({ "type": "string", "minLength": 1, "maxLength": most, "pattern": pattern })
}

/// A text of 1 to `most` characters that fits `pattern`; whoever writes another one reads `advice` instead of the pattern. That
/// takes a rule, because the API server asks no rule about a text that a schema's own pattern has refused.
pub fn advised(pattern: &str, most: u32, advice: &str) -> Schema {
    let rule = Rule::new(format!("self.matches({})", json!(pattern))).message(advice);
    let mut schema = json_schema!({ "type": "string", "minLength": 1, "maxLength": most });
    kube::core::validate(&mut schema, rule).expect("a rule is plain data");
    schema
}

/// A text of up to `most` characters.
fn up_to(most: u32) -> Schema {
    json_schema!({ "type": "string", "maxLength": most })
}

/// The name of a mesh or a volume.
pub fn name(_: &mut SchemaGenerator) -> Schema {
    advised(LABEL, limits::NAME, "write lower case letters, digits and '-', which neither begins nor ends it")
}

/// The name of another object, or of a node.
pub fn subdomain(_: &mut SchemaGenerator) -> Schema {
    text(SUBDOMAIN, limits::SUBDOMAIN)
}

/// The name of a claim.
pub fn claim(_: &mut SchemaGenerator) -> Schema {
    advised(SUBDOMAIN, limits::CLAIM, "write lower case letters, digits, '-' and '.', like a claim's name")
}

/// A uid of an object, or an id that an agent made.
pub fn uid(_: &mut SchemaGenerator) -> Schema {
    text("^[A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?$", limits::UID)
}

/// The path of a directory on nodes.
pub fn directory(_: &mut SchemaGenerator) -> Schema {
    advised(
        DIRECTORY,
        limits::DIRECTORY,
        "write an absolute path like /srv/media, of letters, digits, '-', '_' and '.', no part of which begins with a dot",
    )
}

/// A glob.
pub fn glob(_: &mut SchemaGenerator) -> Schema {
    advised(PLAIN, limits::PATTERN, "a pattern has no control characters: remove them")
}

/// A list of patterns in gitignore syntax.
pub fn exclusions(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": limits::PATTERNS,
        "items": advised(
            EXCLUSION,
            limits::PATTERN,
            "a pattern has no control characters, and one that begins with # is a comment: write \\# for a name that does",
        ),
    })
}

/// A file's name, percent-escaped.
pub fn file(_: &mut SchemaGenerator) -> Schema {
    text("^[!-~]+$", limits::FILE)
}

/// A few files' names.
pub fn files(generator: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "array", "maxItems": limits::SHOWN_FILES, "items": file(generator) })
}

/// A few nodes' names.
pub fn nodes(generator: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "array", "maxItems": limits::LISTED_NODES, "items": subdomain(generator) })
}

/// SHA-256 of a few certificates.
pub fn fingerprints(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": limits::TRUSTED_ROOTS,
        "items": { "type": "string", "maxLength": 64, "pattern": "^[0-9a-f]{64}$" },
        "x-kubernetes-list-type": "set",
    })
}

/// Names of Secrets.
pub fn secrets(generator: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": limits::POD_LISTS,
        "items": subdomain(generator),
        "x-kubernetes-list-type": "set",
    })
}

/// A sentence for people.
pub fn message(_: &mut SchemaGenerator) -> Schema {
    up_to(limits::MESSAGE)
}

/// What stands in a column.
pub fn word(_: &mut SchemaGenerator) -> Schema {
    up_to(limits::WORD)
}

/// What a user waits for.
pub fn token(_: &mut SchemaGenerator) -> Schema {
    up_to(limits::TOKEN)
}

/// An image reference.
pub fn image(_: &mut SchemaGenerator) -> Schema {
    text("^[^ ]+$", limits::IMAGE)
}

/// A moment, as RFC 3339 has it.
pub fn time(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "format": "date-time", "maxLength": limits::WORD })
}

/// A count that can't be negative. Kubernetes knows only signed numbers.
pub fn count(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "integer", "format": "int64", "minimum": 0 })
}

/// A user's or group's number.
pub fn owner(_: &mut SchemaGenerator) -> Schema {
    // The last number means "unchanged" to chown(2).
    json_schema!({ "type": "integer", "format": "int64", "minimum": 0, "maximum": u32::MAX - 1 })
}

/// A share of nodes, as a DaemonSet takes it: a number, or a percentage.
pub fn some_nodes(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "x-kubernetes-int-or-string": true,
        "minimum": 1,
        "maxLength": 4,
        "pattern": "^([1-9][0-9]?|100)%$",
    })
}

/// A list of `T` in which `key` names each once, and by which appliers share it.
pub fn map_list<T: JsonSchema>(generator: &mut SchemaGenerator, key: &str, most: u32) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": most,
        "items": generator.subschema_for::<T>(),
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": [key],
    })
}
