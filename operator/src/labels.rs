//! Labels and annotations that the operator writes or reads. Names of nodes are in no label: they can be longer.

use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;
use std::collections::BTreeMap;
use syncmesh_crds::SyncVolume;

/// The mesh that an object belongs to.
pub const MESH: &str = "syncmesh.io/mesh";
/// The volume that an object belongs to, in its namespace.
pub const VOLUME: &str = "syncmesh.io/volume";
/// The namespace of that volume, on objects that have none.
pub const NAMESPACE: &str = "syncmesh.io/namespace";
/// What a user waits for, as an annotation of a SyncVolume.
pub const BARRIER: &str = "syncmesh.io/barrier";
/// The volume's own name, as an annotation of a SyncVolume: its files are to go with it.
pub const CONFIRM_DELETE: &str = "syncmesh.io/confirm-delete";
/// What the operator last wanted of an object, as an annotation.
pub const DIGEST: &str = "syncmesh.io/desired";
/// How often a claim was touched so that it is bound, as its annotation.
pub const TOUCHED: &str = "syncmesh.io/touched";
/// Asks for new roots of a mesh, as an annotation of a SyncMesh: each value does so once.
pub const ROTATE_CA: &str = "syncmesh.io/rotate-ca";
/// Machines whose files are given up, as an annotation of a SyncMesh: uids that their Node objects had, with commas.
pub const FORGET_NODE: &str = "syncmesh.io/forget-node";
/// Nodes whose certificates are revoked, as an annotation of a SyncMesh: names, with commas. Behind a name may stand @ and anything: each
/// that is new revokes once.
pub const REVOKE: &str = "syncmesh.io/revoke";
/// The finalizer of a SyncVolume.
pub const FINALIZER: &str = "syncmesh.io/volume";
/// The finalizer of a SyncMesh.
pub const MESH_FINALIZER: &str = "syncmesh.io/mesh";
/// Selects all that the operator makes.
pub const OURS: &str = "app.kubernetes.io/managed-by=syncmesh";
/// Selects the pods of all agents.
pub const ALL_AGENTS: &str = "app.kubernetes.io/name=syncmesh-agent";

/// Labels by which the pods of a mesh's agents are found.
pub fn of_agents(mesh: &str) -> BTreeMap<String, String> {
    labels([("app.kubernetes.io/name", "syncmesh-agent"), (MESH, mesh)])
}

/// Labels of an object that belongs to a mesh.
pub fn of_mesh(mesh: &str) -> BTreeMap<String, String> {
    labels([("app.kubernetes.io/managed-by", "syncmesh"), (MESH, mesh)])
}

/// Labels of an object that belongs to a volume.
pub fn of_volume(mesh: &str, namespace: &str, volume: &str) -> BTreeMap<String, String> {
    labels([("app.kubernetes.io/managed-by", "syncmesh"), (MESH, mesh), (NAMESPACE, namespace), (VOLUME, volume)])
}

/// The volume that an object's labels name.
pub fn volume(object: &impl ResourceExt) -> Option<ObjectRef<SyncVolume>> {
    let label = |key: &str| object.labels().get(key);
    label(NAMESPACE).zip(label(VOLUME)).map(|(namespace, volume)| ObjectRef::new(volume).within(namespace))
}

fn labels<const N: usize>(pairs: [(&str, &str); N]) -> BTreeMap<String, String> {
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}
