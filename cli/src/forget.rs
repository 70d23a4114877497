//! `forget-node`: gives up a machine that went with files which no other node has.

use crate::failure::{Failure, Outcome};
use crate::session::Session;
use crate::show::print;
use kube::ResourceExt;
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};
use syncmesh_crds::SyncMesh;
use syncmesh_crds::mesh::{MemberState, MeshMember};

/// Uids of machines that are given up, with commas: an annotation of the mesh that the operator reads.
const FORGET: &str = "syncmesh.io/forget-node";

/// Which node.
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// The node
    node: String,
    /// Its mesh
    #[arg(long, value_name = "NAME", default_value = "default")]
    mesh: String,
    /// Its files are to be given up
    #[arg(long)]
    yes: bool,
}

/// Runs the command.
pub async fn main(session: &Session, arguments: &Arguments) -> Outcome<()> {
    let meshes: Api<SyncMesh> = Api::all(session.client.clone());
    let name = arguments.mesh.as_str();
    let mesh = meshes.get(name).await.map_err(Failure::call(format!("read mesh {name}")))?;
    let lost = lost(&mesh, &arguments.node)?;
    let files = lost.only_copy_files.map_or_else(|| "an unknown number of".to_owned(), |files| files.to_string());
    if !arguments.yes {
        return Err(Failure::new(format!(
            "{} has {files} files that no other node has. Bring it back, or repeat this with --yes: they are given up then",
            arguments.node
        )));
    }
    let patch = Patch::Merge(forget(&mesh, lost.node_uid.as_deref().unwrap_or_default()));
    meshes
        .patch(name, &PatchParams::default(), &patch)
        .await
        .map_err(Failure::call(format!("annotate mesh {name}")))?;
    print(&format!(
        "{} is forgotten, with {files} files. If it comes back, it is filled again from the others\n",
        arguments.node
    ))
}

/// Only a machine that is lost can be forgotten: one that is there would be a member again at once.
fn lost<'a>(mesh: &'a SyncMesh, node: &str) -> Outcome<&'a MeshMember> {
    let members = mesh.status.as_ref().map(|status| status.members.as_slice()).unwrap_or_default();
    match members.iter().find(|member| member.node == node) {
        Some(member) if member.state == MemberState::LostWithData && member.node_uid.is_some() => Ok(member),
        Some(_) => Err(Failure::new(format!(
            "{node} isn't lost: take it out of the mesh by its labels, or delete its Node if the machine is gone"
        ))),
        None => Err(Failure::new(format!(
            "mesh {} has no member {node} to forget: `kubectl get smesh {} -o yaml` lists them",
            mesh.name_any(),
            mesh.name_any()
        ))),
    }
}

/// The change that adds a machine to those that are given up, if the mesh is as it was read.
fn forget(mesh: &SyncMesh, uid: &str) -> Value {
    let before = mesh.annotations().get(FORGET).map(String::as_str).unwrap_or_default();
    let all: Vec<&str> =
        before.split(',').map(str::trim).filter(|one| !one.is_empty() && *one != uid).chain([uid]).collect();
    json!({ "metadata": { "resourceVersion": mesh.metadata.resource_version, "annotations": { FORGET: all.join(",") } } })
}

#[cfg(test)]
mod tests {
    use super::*;
    use syncmesh_crds::mesh::{SyncMeshSpec, SyncMeshStatus};

    fn mesh() -> SyncMesh {
        let member = |node: &str, state| MeshMember {
            node: node.into(),
            node_uid: Some(format!("{node}-uid")),
            replica_id: None,
            state,
            since: None,
            only_copy_files: Some(3),
        };
        let members = vec![member("a", MemberState::Ready), member("b", MemberState::LostWithData)];
        let mut mesh = SyncMesh::new("default", SyncMeshSpec::default());
        mesh.status = Some(SyncMeshStatus { members, ..SyncMeshStatus::default() });
        mesh
    }

    #[test]
    fn only_a_lost_machine_is_forgotten() {
        assert!(lost(&mesh(), "b").is_ok());
        assert!(lost(&mesh(), "a").is_err());
        assert!(lost(&mesh(), "c").is_err());
    }

    #[test]
    fn machines_that_were_forgotten_before_stay_so() {
        let mut mesh = mesh();
        mesh.annotations_mut().insert(FORGET.into(), "x, b-uid".into());
        assert_eq!(forget(&mesh, "b-uid")["metadata"]["annotations"][FORGET], "x,b-uid");
    }
}
