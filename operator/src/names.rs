//! Names of objects that the operator makes. They follow from what the objects are for, so that an operator which starts anew finds
//! them again.

/// The headless Service and the DaemonSet of a mesh.
pub fn of_agents(mesh: &str) -> String {
    format!("syncmesh-{mesh}")
}

/// The mesh whose Service or DaemonSet has this name.
pub fn mesh_of_agents(name: &str) -> Option<&str> {
    name.strip_prefix("syncmesh-")
}

/// The Secret with a mesh's roots and the ConfigMap with the bundle that agents trust.
pub fn of_authority(mesh: &str) -> String {
    format!("syncmesh-{mesh}-ca")
}

/// The replica of a volume on a node. Names of nodes are too long to be part of another name.
pub fn of_replica(volume: &str, node: &str) -> String {
    format!("{volume}-{}", digest(&[node]))
}

/// The PersistentVolume behind a claim. A volume that is made again under its volumeID gets the one that it had.
pub fn of_persistent_volume(volume_id: &str, namespace: &str, claim: &str) -> String {
    format!("syncmesh-{volume_id}-{}", digest(&[namespace, claim]))
}

/// The claim for readers of a SingleWriter volume.
pub fn of_readers(claim: &str) -> String {
    format!("{claim}-ro")
}

/// The question about a conflict of a volume, which is the same on all its nodes.
pub fn of_conflict(volume: &str, id: &str) -> String {
    format!("{volume}-conflict-{}", digest(&[id]))
}

/// The question about deletions that one node of a volume holds.
pub fn of_hold(volume: &str, node: &str, id: &str) -> String {
    format!("{volume}-hold-{}", digest(&[node, id]))
}

/// Eight characters that differ for different texts: with 256 nodes two are the same once in 130,000 volumes, and then the API server
/// refuses the second replica, as its node can't change.
fn digest(texts: &[&str]) -> String {
    let mut hasher = blake3::Hasher::new();
    for text in texts {
        hasher.update(&(text.len() as u64).to_le_bytes()).update(text.as_bytes());
    }
    hasher.finalize().to_hex()[..8].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_the_same_from_one_release_to_the_next() {
        assert_eq!(of_replica("docs", "worker-1"), "docs-0ef467b8");
        assert_eq!(of_persistent_volume("id", "web", "docs"), "syncmesh-id-0f37f95c");
    }

    #[test]
    fn claims_of_different_namespaces_have_different_volumes() {
        assert_ne!(of_persistent_volume("id", "a", "b-c"), of_persistent_volume("id", "a-b", "c"));
    }
}
