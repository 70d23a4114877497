//! `revoke`: what was signed for a node so far counts no more.

use crate::failure::{Failure, Outcome};
use crate::session::Session;
use crate::show::print;
use kube::ResourceExt;
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};
use std::time::{SystemTime, UNIX_EPOCH};
use syncmesh_crds::SyncMesh;

/// Nodes that are revoked, with commas, each with @ and what tells one time from another: an annotation of the mesh that the operator
/// reads.
const REVOKE: &str = "syncmesh.io/revoke";

/// Which node.
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// The node
    node: String,
    /// Its mesh
    #[arg(long, value_name = "NAME", default_value = "default")]
    mesh: String,
}

/// Runs the command.
pub async fn main(session: &Session, arguments: &Arguments) -> Outcome<()> {
    let meshes: Api<SyncMesh> = Api::all(session.client.clone());
    let (name, node) = (arguments.mesh.as_str(), arguments.node.as_str());
    let mesh = meshes.get(name).await.map_err(Failure::call(format!("read mesh {name}")))?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let patch = Patch::Merge(revoke(&mesh, node, now));
    let patched = meshes.patch(name, &PatchParams::default(), &patch).await;
    patched.map_err(Failure::call(format!("annotate mesh {name}")))?;
    let members = mesh.status.as_ref().map(|status| status.members.as_slice()).unwrap_or_default();
    let then = if members.iter().any(|member| member.node == node) {
        "Its agent asks for another certificate and goes on. Whoever is root there can do so, too: if it was taken over, take it out of the mesh"
    } else {
        "The mesh has no node of that name now: see that it is written right"
    };
    print(&format!("what was signed for {node} so far is revoked, and its sessions end within seconds. {then}\n"))
}

/// The change that adds a node, if the mesh is as it was read. What was asked for this node before is carried out already.
fn revoke(mesh: &SyncMesh, node: &str, now: u64) -> Value {
    let before = mesh.annotations().get(REVOKE).map(String::as_str).unwrap_or_default();
    let is_another = |one: &&str| !one.is_empty() && one.split('@').next() != Some(node);
    let item = format!("{node}@{now}");
    let all: Vec<&str> = before.split(',').map(str::trim).filter(is_another).chain([item.as_str()]).collect();
    json!({ "metadata": { "resourceVersion": mesh.metadata.resource_version, "annotations": { REVOKE: all.join(",") } } })
}

#[cfg(test)]
mod tests {
    use super::*;
    use syncmesh_crds::mesh::SyncMeshSpec;

    #[test]
    fn a_node_is_revoked_again_and_others_stay_asked_for() {
        let mut mesh = SyncMesh::new("default", SyncMeshSpec::default());
        let item = |mesh: &SyncMesh| revoke(mesh, "b", 7)["metadata"]["annotations"][REVOKE].clone();
        assert_eq!(item(&mesh), "b@7");
        mesh.annotations_mut().insert(REVOKE.into(), "a, b@5,c@6".into());
        assert_eq!(item(&mesh), "a,c@6,b@7");
    }
}
