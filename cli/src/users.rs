//! Which pods have a volume's directory mounted.

use crate::failure::{Failure, Outcome};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Volume};
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt};
use std::collections::BTreeSet;

/// Pods on these nodes that have the directory mounted, by a claim or as a directory of the node, with their namespaces.
pub async fn users(client: &Client, id: &str, nodes: &[String]) -> Outcome<Vec<String>> {
    let claims: Api<PersistentVolumeClaim> = Api::all(client.clone());
    let claims = claims.list(&ListParams::default()).await.map_err(Failure::call("list claims"))?.items;
    let pods: Api<Pod> = Api::all(client.clone());
    let pods = pods.list(&ListParams::default()).await.map_err(Failure::call("list pods"))?.items;
    Ok(among(&pods, &claims, id, nodes))
}

fn among(pods: &[Pod], claims: &[PersistentVolumeClaim], id: &str, nodes: &[String]) -> Vec<String> {
    let of_volume = |claim: &&PersistentVolumeClaim| {
        let bound_to = claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref());
        bound_to.is_some_and(|name| is_of(name, id))
    };
    let key = |claim: &PersistentVolumeClaim| (claim.namespace(), claim.name_any());
    let claims: BTreeSet<(Option<String>, String)> = claims.iter().filter(of_volume).map(key).collect();
    let below = format!("/volumes/{id}/");
    let uses = |pod: &Pod, volume: &Volume| {
        let claim = volume.persistent_volume_claim.as_ref().map(|claim| (pod.namespace(), claim.claim_name.clone()));
        let path = volume.host_path.as_ref().map(|path| format!("{}/", path.path));
        claim.is_some_and(|claim| claims.contains(&claim)) || path.is_some_and(|path| path.contains(&below))
    };
    let is_there = |pod: &&Pod| {
        let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_ref());
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        node.is_some_and(|node| nodes.contains(node)) && !matches!(phase, Some("Succeeded" | "Failed"))
    };
    let has = |pod: &&Pod| {
        let volumes = pod.spec.as_ref().and_then(|spec| spec.volumes.as_deref()).unwrap_or_default();
        volumes.iter().any(|volume| uses(pod, volume))
    };
    let name = |pod: &Pod| format!("{}/{}", pod.namespace().unwrap_or_default(), pod.name_any());
    pods.iter().filter(is_there).filter(has).map(name).collect()
}

/// Whether a PersistentVolume of this name is of the volume: the operator's `names::of_persistent_volume` says how they are called, and
/// that for a claim of a StorageClass has the volume's own name.
fn is_of(persistent_volume: &str, id: &str) -> bool {
    persistent_volume == id || persistent_volume.starts_with(&format!("syncmesh-{id}-"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(node: &str, phase: &str, volume: Value) -> Pod {
        let pod = json!({
            "metadata": { "name": "p", "namespace": "web" },
            "spec": { "containers": [], "nodeName": node, "volumes": [volume] },
            "status": { "phase": phase },
        });
        serde_json::from_value(pod).unwrap()
    }

    #[test]
    fn pods_on_the_node_that_have_it_are_found_by_claim_and_by_path() {
        let claim = |volume: &str| {
            let claim = json!({ "metadata": { "name": "docs", "namespace": "web" }, "spec": { "volumeName": volume } });
            serde_json::from_value::<PersistentVolumeClaim>(claim).unwrap()
        };
        let by_claim = json!({ "name": "d", "persistentVolumeClaim": { "claimName": "docs" } });
        let by_path = json!({ "name": "d", "hostPath": { "path": "/var/lib/syncmesh/volumes/id/data" } });
        let nodes = ["a".to_owned()];
        let found = |pod: Pod, volume: &str| among(&[pod], &[claim(volume)], "id", &nodes).len();
        assert_eq!(found(pod("a", "Running", by_claim.clone()), "syncmesh-id-0a1b2c3d"), 1);
        assert_eq!(found(pod("a", "Pending", by_claim.clone()), "id"), 1);
        assert_eq!(found(pod("a", "Running", by_claim.clone()), "syncmesh-another-0a1b2c3d"), 0);
        assert_eq!(found(pod("b", "Running", by_claim.clone()), "id"), 0);
        assert_eq!(found(pod("a", "Succeeded", by_claim), "id"), 0);
        assert_eq!(found(pod("a", "Running", by_path), "x"), 1);
    }
}
