//! Whether an object is as it should be, so that nothing is written over what is right already.

use crate::labels;
use kube::{Resource, ResourceExt};
use serde::Serialize;
use serde_json::Value;

/// The object with a digest of itself. It shows that something was taken out since, which `covers` can't see.
pub fn signed<K: Resource + Serialize>(mut object: K) -> K {
    let text = serde_json::to_vec(&object).expect("objects have keys that are texts");
    let digest = blake3::hash(&text).to_hex()[..16].to_owned();
    object.annotations_mut().insert(labels::DIGEST.to_owned(), digest);
    object
}

/// Whether all that a signed object says is so in the object that is there.
pub fn is_there<K: Resource + Serialize>(desired: &K, existing: &K) -> bool {
    let value = |object: &K| serde_json::to_value(object).expect("objects have keys that are texts");
    covers(&value(existing), &value(desired))
}

/// Whether one value has all that another has. Lists are as long as each other: the API server fills in fields, no elements.
fn covers(existing: &Value, desired: &Value) -> bool {
    match (existing, desired) {
        (Value::Object(existing), Value::Object(desired)) => desired
            .iter()
            .all(|(key, desired)| existing.get(key).map_or(is_nothing(desired), |one| covers(one, desired))),
        (Value::Array(existing), Value::Array(desired)) => {
            existing.len() == desired.len() && existing.iter().zip(desired).all(|(one, other)| covers(one, other))
        }
        (existing, desired) => existing == desired,
    }
}

/// What the API server stores by leaving it out.
fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(fields) => fields.is_empty(),
        Value::Array(elements) => elements.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn fields_that_the_api_server_fills_in_are_no_difference() {
        let desired = json!({ "ports": [{ "port": 1 }], "labels": {} });
        assert!(covers(&json!({ "ports": [{ "port": 1, "protocol": "TCP" }], "clusterIP": "None" }), &desired));
        assert!(!covers(&json!({ "ports": [{ "port": 2, "protocol": "TCP" }] }), &desired));
        assert!(!covers(&json!({ "ports": [{ "port": 1 }, { "port": 3 }] }), &desired));
    }

    #[test]
    fn what_was_taken_out_shows_in_the_signature() {
        let mut service = k8s_openapi::api::core::v1::Service::default();
        let short = signed(service.clone());
        service.spec.get_or_insert_default().external_name = Some("x".into());
        let long = signed(service);
        assert!(is_there(&long, &long));
        assert!(!is_there(&short, &long));
    }
}
