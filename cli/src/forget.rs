//! `forget-node`: gives up the files that only a lost machine had.

use crate::failure::{Failure, Outcome};
use crate::session::Session;
use crate::show::print;
use kube::ResourceExt;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;
use syncmesh_crds::SyncMesh;
use syncmesh_crds::mesh::{MemberState, MeshMember};

/// The annotation that the operator reads: uids of machines, with commas.
const FORGET_NODE: &str = "syncmesh.io/forget-node";

/// Which machine.
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// The node that is lost, as the mesh's condition NodeLostWithData names it
    node: String,
    /// Its mesh
    #[arg(long, value_name = "NAME", default_value = "default")]
    mesh: String,
}

/// Gives up what only this machine had.
pub async fn main(session: &Session, arguments: &Arguments) -> Outcome<()> {
    let (name, node) = (&arguments.mesh, &arguments.node);
    let meshes: Api<SyncMesh> = Api::all(session.client.clone());
    let mesh = meshes.get(name).await.map_err(Failure::to(format!("read mesh {name}")))?;
    let (lost, value) = given_up(&mesh, node)?;
    let patch = json!({
        // Whoever gave up another one meanwhile isn't overwritten.
        "metadata": { "resourceVersion": mesh.metadata.resource_version, "annotations": { FORGET_NODE: value } },
    });
    let patched = meshes.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await;
    patched.map_err(Failure::to(format!("annotate mesh {name}")))?;
    let files = lost.only_copy_files.map_or("an unknown number of".to_owned(), |files| files.to_string());
    print(&format!("{node} is given up, with {files} files that no other node has\n"))
}

/// The machine, and what the annotation says with it.
fn given_up<'a>(mesh: &'a SyncMesh, node: &str) -> Outcome<(&'a MeshMember, String)> {
    let members = mesh.status.as_ref().map(|status| status.members.as_slice()).unwrap_or_default();
    let is_lost = |member: &&MeshMember| member.node == node && member.state == MemberState::LostWithData;
    let name = mesh.name_any();
    let lost = members.iter().find(is_lost).ok_or_else(|| {
        Failure::new(format!(
            "mesh {name} misses no node {node}: one that is there leaves by its labels, and one without files of its own is forgotten by itself"
        ))
    })?;
    let uid = lost.node_uid.as_deref().ok_or_else(|| Failure::new(format!("mesh {name} doesn't know {node}'s uid")))?;
    let before = mesh.annotations().get(FORGET_NODE).map(String::as_str).unwrap_or_default();
    let mut uids: Vec<&str> = before.split(',').map(str::trim).filter(|one| !one.is_empty() && *one != uid).collect();
    uids.push(uid);
    Ok((lost, uids.join(",")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_machine_is_given_up_beside_others_and_one_that_is_there_is_not() {
        let mesh = json!({
            "apiVersion": "syncmesh.io/v1alpha1",
            "kind": "SyncMesh",
            "metadata": { "name": "default", "annotations": { FORGET_NODE: "old, " } },
            "spec": {},
            "status": { "members": [
                { "node": "a", "nodeUID": "uid-a", "state": "Ready", "onlyCopyFiles": 1 },
                { "node": "b", "nodeUID": "uid-b", "state": "LostWithData", "onlyCopyFiles": 3 },
            ] },
        });
        let mesh: SyncMesh = serde_json::from_value(mesh).unwrap();
        let (lost, value) = given_up(&mesh, "b").unwrap();
        assert_eq!((lost.only_copy_files, value.as_str()), (Some(3), "old,uid-b"));
        assert!(given_up(&mesh, "a").unwrap_err().to_string().contains("misses no node a"));
    }
}
