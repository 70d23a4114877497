//! The mesh that a new installation begins with. It is made once: who deletes it doesn't get it again.

use crate::error::Error;
use crate::operator::Operator;
use crate::writes::Manager;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::core::ObjectMeta;
use kube::{Api, Client};
use serde_json::{Value, json};
use std::time::Duration;
use syncmesh_crds::SyncMesh;
use syncmesh_crds::mesh::SyncMeshSpec;
use tokio::time::sleep;
use tracing::{info, warn};

/// The ConfigMap in which operators remember that it was made. The chart makes it, and takes it away with itself.
pub const MEMORY: &str = "syncmesh-operator";
/// Its key. The value is the mesh's name.
const KEY: &str = "defaultMesh";
/// The pause after a call that failed.
const PAUSE: Duration = Duration::from_secs(5);

/// The mesh that a new installation begins with.
#[derive(Clone, Debug)]
pub struct FirstMesh {
    /// Its name.
    pub name: String,
    /// What is wanted of it.
    pub spec: SyncMeshSpec,
}

/// What to do about it.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// Nothing: it was made, or nobody could remember it.
    Rest,
    /// Only remember: there is a mesh already, and two would share a directory.
    Remember,
    /// Make it, then remember.
    Make,
}

/// Makes it if it never was, and tries until that is settled.
pub async fn make_once(first: &FirstMesh, operator: &Operator, client: Client) {
    while let Err(error) = attempt(first, operator, client.clone()).await {
        warn!("{error}; tried again in {PAUSE:?}");
        sleep(PAUSE).await;
    }
}

async fn attempt(first: &FirstMesh, operator: &Operator, client: Client) -> Result<(), Error> {
    let home = &operator.home.namespace;
    let memories: Api<ConfigMap> = Api::namespaced(client, home);
    let memory = memories.get_opt(MEMORY).await.map_err(Error::call(format!("read ConfigMap {home}/{MEMORY}")))?;
    let step = decide(memory.as_ref(), operator.caches.meshes.state().len());
    if step == Step::Make {
        info!("mesh {} is made, once", first.name);
        operator.writes.create(Manager::FirstMesh, &SyncMesh::new(&first.name, first.spec.clone())).await?;
    }
    if step == Step::Rest {
        return Ok(());
    }
    let memory = ConfigMap {
        metadata: ObjectMeta { name: Some(MEMORY.into()), namespace: Some(home.clone()), ..ObjectMeta::default() },
        ..ConfigMap::default()
    };
    operator.writes.annotate(Manager::FirstMesh, &memory, json!({ "data": { KEY: first.name } })).await
}

fn decide(memory: Option<&ConfigMap>, meshes: usize) -> Step {
    let remembers = |memory: &ConfigMap| memory.data.as_ref().is_some_and(|data| data.contains_key(KEY));
    match memory {
        None => {
            warn!("no default mesh is made, because the ConfigMap {MEMORY} that would remember it isn't there");
            Step::Rest
        }
        Some(memory) if remembers(memory) => Step::Rest,
        Some(_) if meshes > 0 => Step::Remember,
        Some(_) => Step::Make,
    }
}

/// A mesh's spec as JSON. A field that no mesh has is an error here; the API server would leave it out.
///
/// # Errors
/// A sentence about what is wrong.
pub fn read_spec(text: &str) -> Result<SyncMeshSpec, String> {
    let given: Value = serde_json::from_str(text).map_err(|reason| format!("it is no JSON: {reason}"))?;
    let spec: SyncMeshSpec = serde_json::from_value(given.clone()).map_err(|reason| reason.to_string())?;
    let understood = serde_json::to_value(&spec).map_err(|reason| reason.to_string())?;
    match unknown(&given, &understood) {
        Some(field) => Err(format!("a mesh has no field spec{field}: see `kubectl explain smesh.spec`")),
        None => Ok(spec),
    }
}

/// The first field that wasn't understood. One whose value is as good as absent may be left out of what was.
fn unknown(given: &Value, understood: &Value) -> Option<String> {
    let below = |name: String, deeper: Option<String>| deeper.map(|field| format!("{name}{field}"));
    match (given, understood) {
        (Value::Object(given), Value::Object(understood)) => {
            given.iter().find_map(|(key, value)| match understood.get(key) {
                Some(deeper) => below(format!(".{key}"), unknown(value, deeper)),
                None if value.is_null() || *value == json!({}) || *value == json!([]) => None,
                None => Some(format!(".{key}")),
            })
        }
        (Value::Array(given), Value::Array(understood)) => {
            let pairs = given.iter().zip(understood).enumerate();
            pairs.into_iter().find_map(|(index, (one, other))| below(format!("[{index}]"), unknown(one, other)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_made_in_a_cluster_that_has_none_and_never_again() {
        let mut memory = ConfigMap::default();
        assert_eq!(decide(Some(&memory), 0), Step::Make);
        assert_eq!(decide(Some(&memory), 1), Step::Remember);
        memory.data = Some([(KEY.to_owned(), "default".to_owned())].into());
        assert_eq!(decide(Some(&memory), 0), Step::Rest);
        assert_eq!(decide(None, 0), Step::Rest);
    }

    #[test]
    fn a_spec_with_a_misspelt_field_is_refused_with_the_fields_path() {
        let spec =
            read_spec(r#"{"storage":{"root":"/data"},"nodes":{"matchLabels":{"tier":"web"}},"agent":{}}"#).unwrap();
        assert_eq!(spec.storage.root, "/data");
        let refused = read_spec(r#"{"storage":{"roots":"/data"}}"#).unwrap_err();
        assert!(refused.contains("spec.storage.roots"), "{refused}");
        let refused = read_spec(r#"{"agent":{"tolerations":[{"operator":"Exists","keys":"x"}]}}"#).unwrap_err();
        assert!(refused.contains("spec.agent.tolerations[0].keys"), "{refused}");
    }
}
