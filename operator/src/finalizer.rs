//! Finalizers: an object stays until the operator has done its part. They are written only if the list of them is what was read.

use crate::error::Error;
use crate::writes::{Manager, Writes};
use kube::{Resource, ResourceExt};
use serde_json::json;

/// Whether an object waits for the operator.
pub fn is_on<K: Resource>(object: &K, finalizer: &str) -> bool {
    object.finalizers().iter().any(|one| one == finalizer)
}

/// Adds the finalizer.
///
/// # Errors
/// The API server refused it, or couldn't be reached.
pub async fn hold_on<K>(manager: Manager, object: &K, finalizer: &str, writes: &Writes) -> Result<(), Error>
where
    K: Resource<DynamicType = ()>,
{
    let before = &object.meta().finalizers;
    let after: Vec<&str> = before.iter().flatten().map(String::as_str).chain([finalizer]).collect();
    let operations = vec![
        json!({ "op": "test", "path": "/metadata/finalizers", "value": before }),
        json!({ "op": "add", "path": "/metadata/finalizers", "value": after }),
    ];
    writes.change(manager, object, operations).await
}

/// Takes the finalizer away.
///
/// # Errors
/// The API server refused it, or couldn't be reached.
pub async fn let_go<K>(manager: Manager, object: &K, finalizer: &str, writes: &Writes) -> Result<(), Error>
where
    K: Resource<DynamicType = ()>,
{
    let before = object.finalizers();
    let after: Vec<&String> = before.iter().filter(|one| *one != finalizer).collect();
    let operations = vec![
        json!({ "op": "test", "path": "/metadata/finalizers", "value": before }),
        json!({ "op": "replace", "path": "/metadata/finalizers", "value": after }),
    ];
    writes.change(manager, object, operations).await
}
