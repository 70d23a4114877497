//! A volume: its replicas on nodes, what pods mount, and how it is.

mod binding;
pub mod claims;
pub mod desired;
pub mod farewell;
pub mod grant;
pub(crate) mod reconcile;
pub mod refusal;
pub mod status;

use crate::mesh::nodes;
use k8s_openapi::api::core::v1::{Namespace, Node, PersistentVolumeClaim};
use kube::ResourceExt;
use std::sync::Arc;
use syncmesh_crds::volume::Grant;
use syncmesh_crds::{SyncMesh, SyncReplica, SyncVolume};

/// What was read of a volume.
#[derive(Clone, Copy, Debug)]
pub struct World<'a> {
    /// The volume.
    pub volume: &'a SyncVolume,
    /// Its mesh.
    pub mesh: &'a SyncMesh,
    /// Its namespace.
    pub namespace: &'a Namespace,
    /// All nodes of the cluster.
    pub nodes: &'a [Arc<Node>],
    /// Its replicas.
    pub replicas: &'a [Arc<SyncReplica>],
    /// Claims in its namespace that have a name which it wants.
    pub claims: &'a [Arc<PersistentVolumeClaim>],
    /// The mesh's other volumes, of all namespaces.
    pub others: &'a [Arc<SyncVolume>],
    /// Which node may write, where only one may.
    pub writer: Option<&'a Grant>,
    /// Since when that one is to write, in seconds.
    pub granted_seconds: i64,
    /// Pods that use its claims, where it is being deleted.
    pub users: &'a [String],
}

/// A node that should have a volume.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The node's name.
    pub node: String,
    /// Its uid.
    pub uid: String,
}

impl World<'_> {
    /// The volume's name.
    pub fn name(&self) -> &str {
        self.volume.metadata.name.as_deref().unwrap_or_default()
    }

    /// Its namespace's name.
    pub fn namespace_name(&self) -> &str {
        self.namespace.metadata.name.as_deref().unwrap_or_default()
    }

    /// The mesh's name.
    pub fn mesh_name(&self) -> &str {
        &self.volume.spec.mesh
    }

    /// The name of its directories.
    pub fn volume_id(&self) -> &str {
        volume_id(self.volume)
    }

    /// Whether any node has had it ready.
    pub fn is_initialized(&self) -> bool {
        is_initialized(self.volume)
    }

    /// Nodes that should have it: where the mesh's agents should run, and the volume's own selector fits.
    pub fn places(&self) -> Vec<Place> {
        let fits = |node: &&Arc<Node>| {
            let is_selected = self.volume.spec.nodes.as_ref().is_none_or(|nodes| nodes.fits(node.labels()));
            is_selected && nodes::should_run(self.mesh, node)
        };
        let place =
            |node: &Arc<Node>| Some(Place { node: node.metadata.name.clone()?, uid: node.metadata.uid.clone()? });
        let mut places: Vec<Place> = self.nodes.iter().filter(fits).filter_map(place).collect();
        places.sort();
        places
    }
}

/// The name of a volume's directories: what the user pinned, else what it has had, else the object's uid.
fn volume_id(volume: &SyncVolume) -> &str {
    let had = volume.status.as_ref().and_then(|status| status.volume_id.as_deref());
    volume.spec.volume_id.as_deref().or(had).or(volume.metadata.uid.as_deref()).unwrap_or_default()
}

fn is_initialized(volume: &SyncVolume) -> bool {
    volume.status.as_ref().is_some_and(|status| status.initialized)
}

#[cfg(test)]
pub(crate) mod example {
    //! A small cluster for tests: namespace `web`, volume `docs`, mesh `default`.

    use super::*;
    use k8s_openapi::api::core::v1::Namespace;
    use kube::core::ObjectMeta;
    use syncmesh_crds::mesh::SyncMeshSpec;
    use syncmesh_crds::replica::{Data, SyncReplicaStatus};
    use syncmesh_crds::volume::{SyncVolumeSpec, SyncVolumeStatus};

    /// What a `World` borrows.
    pub struct Cluster {
        pub volume: SyncVolume,
        pub mesh: SyncMesh,
        pub namespace: Namespace,
        pub nodes: Vec<Arc<Node>>,
        pub replicas: Vec<Arc<SyncReplica>>,
        pub claims: Vec<Arc<PersistentVolumeClaim>>,
        pub others: Vec<Arc<SyncVolume>>,
        pub writer: Option<Grant>,
        pub granted_seconds: i64,
        pub users: Vec<String>,
    }

    impl Cluster {
        pub fn with_nodes(names: &[&str]) -> Self {
            let mut volume = SyncVolume::new("docs", SyncVolumeSpec::default());
            volume.metadata.uid = Some("volume-uid".into());
            volume.metadata.generation = Some(1);
            let named = |name: &str, uid: String| ObjectMeta {
                name: Some(name.into()),
                uid: Some(uid),
                ..ObjectMeta::default()
            };
            let node = |name: &&str| Arc::new(Node { metadata: named(name, format!("{name}-uid")), ..Node::default() });
            Self {
                volume,
                mesh: SyncMesh::new("default", SyncMeshSpec::default()),
                namespace: Namespace { metadata: named("web", "web-uid".into()), ..Namespace::default() },
                nodes: names.iter().map(node).collect(),
                replicas: Vec::new(),
                claims: Vec::new(),
                others: Vec::new(),
                writer: None,
                granted_seconds: 0,
                users: Vec::new(),
            }
        }

        pub fn world(&self) -> World<'_> {
            World {
                volume: &self.volume,
                mesh: &self.mesh,
                namespace: &self.namespace,
                nodes: &self.nodes,
                replicas: &self.replicas,
                claims: &self.claims,
                others: &self.others,
                writer: self.writer.as_ref(),
                granted_seconds: self.granted_seconds,
                users: &self.users,
            }
        }

        /// Carries out what is desired, as the API server would.
        pub fn reconcile(&mut self) {
            let desired = desired::desired(&self.world());
            let status = |name: &Option<String>| {
                self.replicas.iter().find(|old| old.metadata.name == *name).and_then(|old| old.status.clone())
            };
            let replicas = desired
                .replicas
                .into_iter()
                .map(|replica| Arc::new(SyncReplica { status: status(&replica.metadata.name), ..replica }))
                .collect();
            self.replicas = replicas;
        }

        /// Lets a node's agent report.
        pub fn report(&mut self, node: &str, report: impl FnOnce(&mut SyncReplicaStatus)) {
            let replica = self.replicas.iter_mut().find(|replica| replica.spec.node == node).unwrap();
            report(Arc::make_mut(replica).status.get_or_insert_default());
        }

        /// All replicas are ready, and the operator has seen it.
        pub fn initialize(&mut self) {
            for replica in &mut self.replicas {
                let status = Arc::make_mut(replica).status.get_or_insert_default();
                status.data = Some(Data::Ready);
                status.only_copy_files = Some(0);
            }
            self.volume.status = Some(SyncVolumeStatus { initialized: true, ..SyncVolumeStatus::default() });
        }
    }
}
