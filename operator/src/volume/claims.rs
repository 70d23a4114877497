//! What pods mount: for each claim a PersistentVolume that is made for it alone.

use super::{World, refusal};
use crate::mesh::desired::node_terms;
use crate::{labels, names, provision};
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::core::ObjectMeta;
use std::collections::BTreeMap;
use syncmesh_crds::SyncVolume;
use syncmesh_crds::units::Size;
use syncmesh_crds::volume::WriteMode;

/// What every claim asks for, whatever the volume's capacity is: a claim without a class can't be resized later.
const REQUEST: Size = Size(1 << 20);
/// What a PersistentVolume shows whose volume has no limit: 1000Ti. It has to show something.
const NO_LIMIT: Size = Size(1000 << 40);

/// Who made a PersistentVolume for a claim, as Kubernetes' own provisioners say it.
const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";

/// A claim and its PersistentVolume.
#[derive(Clone, Debug, PartialEq)]
pub struct Mount {
    /// Made first, for the claim.
    pub volume: core::PersistentVolume,
    /// Made second, for the volume, unless a user made it.
    pub claim: core::PersistentVolumeClaim,
    /// Whose claim it is.
    pub maker: Maker,
}

/// Whose a claim is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Maker {
    /// The operator makes it for the volume, and deletes it with the volume.
    Operator,
    /// A user made it, of a StorageClass of ours, and the volume was made for it.
    User,
}

impl Mount {
    /// The claim's name.
    pub fn name(&self) -> &str {
        self.claim.metadata.name.as_deref().unwrap_or_default()
    }

    /// The claim as it is, if there is one.
    pub fn found<'a>(&self, world: &World<'a>) -> Found<'a> {
        let Some(claim) = world.claims.iter().find(|claim| claim.metadata.name == self.claim.metadata.name) else {
            return Found::Nothing;
        };
        let volume = claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref());
        let is_ours = match self.maker {
            Maker::Operator => volume == self.volume.metadata.name.as_deref(),
            Maker::User => claim.metadata.uid == self.claim.metadata.uid,
        };
        if !is_ours {
            return Found::Foreign;
        }
        let phase = claim.status.as_ref().and_then(|status| status.phase.as_deref());
        if phase == Some("Bound") { Found::Bound(claim) } else { Found::Unbound(claim) }
    }
}

/// What has a claim's name.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Found<'a> {
    /// Nothing.
    Nothing,
    /// Ours, not bound yet: touching it binds it sooner.
    Unbound(&'a core::PersistentVolumeClaim),
    /// Ours, and pods can use it.
    Bound(&'a core::PersistentVolumeClaim),
    /// Somebody else's. It is never taken over.
    Foreign,
}

/// How pods may use a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    Write,
    WriteAlone,
    Read,
}

impl Access {
    fn as_str(self) -> &'static str {
        match self {
            Self::Write => "ReadWriteMany",
            Self::WriteAlone => "ReadWriteOncePod",
            Self::Read => "ReadOnlyMany",
        }
    }
}

/// All that pods of a volume may mount.
pub fn mounts(world: &World<'_>) -> Vec<Mount> {
    let mut mounts = Vec::new();
    for (name, access) in wanted(world.volume) {
        match provision::claim_of(world.volume) {
            Some(owner) if owner.name == name => {
                let claim = world.claims.iter().find(|claim| claim.metadata.uid.as_ref() == Some(&owner.uid));
                // Without its claim a volume is about to go.
                let Some(claim) = claim else { return Vec::new() };
                mounts.push(provisioned(world, claim));
            }
            _ => mounts.push(mount(world, &name, access)),
        }
    }
    mounts
}

/// The names of a volume's claims.
pub fn names(volume: &SyncVolume) -> Vec<String> {
    wanted(volume).into_iter().map(|(name, _)| name).collect()
}

fn wanted(volume: &SyncVolume) -> Vec<(String, Access)> {
    let spec = &volume.spec;
    let mut claims: Vec<String> = match provision::claim_of(volume) {
        Some(owner) => vec![owner.name.clone()],
        None => spec.claims.iter().map(|claim| claim.name.clone()).collect(),
    };
    if claims.is_empty() {
        claims.push(first(volume));
    }
    let accesses = |name: String| match spec.mode {
        WriteMode::ReadWriteMany => vec![(name, Access::Write)],
        WriteMode::SingleWriter => {
            let readers = names::of_readers(&name);
            vec![(name, Access::WriteAlone), (readers, Access::Read)]
        }
    };
    claims.into_iter().flat_map(accesses).collect()
}

/// The first claim of a volume: that whose pod writes, where one does.
pub fn first(volume: &SyncVolume) -> String {
    let named = volume.spec.claims.first().map(|claim| claim.name.clone());
    named.or_else(|| volume.metadata.name.clone()).unwrap_or_default()
}

/// The claim is there already, and says how it is to be mounted; its PersistentVolume is made for it alone, so that it is bound at once.
fn provisioned(world: &World<'_>, claim: &core::PersistentVolumeClaim) -> Mount {
    let asks = claim.spec.clone().unwrap_or_default();
    let Mount { mut volume, .. } = mount(world, claim.metadata.name.as_deref().unwrap_or_default(), Access::Write);
    volume.metadata.name = Some(provision::name(claim));
    volume.metadata.annotations = Some([(PROVISIONED_BY.to_owned(), provision::PROVISIONER.to_owned())].into());
    let spec = volume.spec.get_or_insert_default();
    spec.access_modes = asks.access_modes;
    spec.storage_class_name = asks.storage_class_name;
    spec.claim_ref.get_or_insert_default().uid.clone_from(&claim.metadata.uid);
    Mount { volume, claim: claim.clone(), maker: Maker::User }
}

fn mount(world: &World<'_>, claim: &str, access: Access) -> Mount {
    let volume = names::of_persistent_volume(world.volume_id(), world.namespace_name(), claim);
    let labels = Some(labels::of_volume(world.mesh_name(), world.namespace_name(), world.name()));
    let modes = Some(vec![access.as_str().to_owned()]);
    Mount {
        volume: core::PersistentVolume {
            metadata: ObjectMeta { name: Some(volume.clone()), labels: labels.clone(), ..ObjectMeta::default() },
            spec: Some(core::PersistentVolumeSpec {
                access_modes: modes.clone(),
                capacity: Some(storage(refusal::capacity(world).0.unwrap_or(NO_LIMIT))),
                claim_ref: Some(core::ObjectReference {
                    api_version: Some("v1".into()),
                    kind: Some("PersistentVolumeClaim".into()),
                    namespace: world.namespace.metadata.name.clone(),
                    name: Some(claim.to_owned()),
                    ..core::ObjectReference::default()
                }),
                // The kubelet mounts it only once it is there, which is when the agent says so.
                host_path: Some(core::HostPathVolumeSource { path: path(world), type_: Some("Directory".into()) }),
                node_affinity: affinity(world),
                persistent_volume_reclaim_policy: Some("Retain".into()),
                ..core::PersistentVolumeSpec::default()
            }),
            status: None,
        },
        claim: core::PersistentVolumeClaim {
            metadata: ObjectMeta {
                name: Some(claim.to_owned()),
                namespace: world.namespace.metadata.name.clone(),
                labels,
                ..ObjectMeta::default()
            },
            spec: Some(core::PersistentVolumeClaimSpec {
                access_modes: modes,
                resources: Some(core::VolumeResourceRequirements {
                    requests: Some(storage(REQUEST)),
                    ..core::VolumeResourceRequirements::default()
                }),
                // No class, instead of the cluster's default one.
                storage_class_name: Some(String::new()),
                volume_name: Some(volume),
                ..core::PersistentVolumeClaimSpec::default()
            }),
            status: None,
        },
        maker: Maker::Operator,
    }
}

/// What pods see of a node's disk.
fn path(world: &World<'_>) -> String {
    let listed = world.volume.spec.directory.as_ref().and_then(|name| {
        world.mesh.spec.directories.iter().find(|listed| listed.name == *name).map(|listed| listed.path.clone())
    });
    listed.unwrap_or_else(|| format!("{}/volumes/{}/data", world.mesh.spec.storage.root, world.volume_id()))
}

/// Pods go where the volume is meant to be. Whether it is there yet decides the mount, never the schedule.
fn affinity(world: &World<'_>) -> Option<core::VolumeNodeAffinity> {
    let mut expressions = world.mesh.spec.nodes.expressions();
    expressions.extend(world.volume.spec.nodes.iter().flat_map(|nodes| nodes.expressions()));
    Some(core::VolumeNodeAffinity { required: Some(node_terms(expressions)?) })
}

fn storage(size: Size) -> BTreeMap<String, Quantity> {
    BTreeMap::from([("storage".to_owned(), Quantity(size.to_string()))])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volume::example::Cluster;
    use syncmesh_crds::mesh::Directory;
    use syncmesh_crds::selector::Selector;
    use syncmesh_crds::volume::Claim;

    fn shown(cluster: &Cluster) -> Vec<(String, String)> {
        let shown = |mount: Mount| {
            let modes = mount.volume.spec.clone().unwrap().access_modes.unwrap();
            (mount.name().to_owned(), modes.join(" "))
        };
        mounts(&cluster.world()).into_iter().map(shown).collect()
    }

    fn first_of(cluster: &Cluster) -> Mount {
        mounts(&cluster.world()).remove(0)
    }

    #[test]
    fn a_volume_has_a_claim_of_its_own_name_unless_it_names_others() {
        let mut cluster = Cluster::with_nodes(&["a"]);
        assert_eq!(shown(&cluster), [("docs".into(), "ReadWriteMany".into())]);
        cluster.volume.spec.claims = vec![Claim { name: "one".into() }, Claim { name: "two".into() }];
        let names: Vec<String> = shown(&cluster).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["one", "two"]);
    }

    #[test]
    fn a_single_writer_volume_has_one_claim_to_write_and_one_to_read() {
        let mut cluster = Cluster::with_nodes(&["a"]);
        cluster.volume.spec.mode = WriteMode::SingleWriter;
        let expected = [("docs".into(), "ReadWriteOncePod".into()), ("docs-ro".into(), "ReadOnlyMany".into())];
        assert_eq!(shown(&cluster), expected);
    }

    #[test]
    fn claim_and_volume_are_made_for_each_other_and_belong_to_no_object() {
        let mount = first_of(&Cluster::with_nodes(&["a"]));
        let claim = mount.claim.spec.clone().unwrap();
        let volume = mount.volume.spec.clone().unwrap();
        assert_eq!(claim.volume_name, mount.volume.metadata.name);
        assert_eq!(volume.claim_ref.unwrap().name, mount.claim.metadata.name);
        assert_eq!(volume.persistent_volume_reclaim_policy.as_deref(), Some("Retain"));
        assert_eq!((mount.claim.metadata.owner_references, mount.volume.metadata.owner_references), (None, None));
    }

    #[test]
    fn pods_mount_the_data_below_the_root_or_a_listed_directory_and_only_if_it_is_there() {
        let mut cluster = Cluster::with_nodes(&["a"]);
        let host_path = |cluster: &Cluster| first_of(cluster).volume.spec.unwrap().host_path.unwrap();
        assert_eq!(host_path(&cluster).path, "/var/lib/syncmesh/volumes/volume-uid/data");
        assert_eq!(host_path(&cluster).type_.as_deref(), Some("Directory"));
        cluster.volume.spec.directory = Some("media".into());
        let listed = Directory { name: "media".into(), path: "/srv/media".into(), namespaces: Selector::default() };
        cluster.mesh.spec.directories.push(listed);
        assert_eq!(host_path(&cluster).path, "/srv/media");
    }

    #[test]
    fn a_volume_is_where_its_mesh_and_itself_are_meant_to_be() {
        let mut cluster = Cluster::with_nodes(&["a"]);
        let affinity = |cluster: &Cluster| first_of(cluster).volume.spec.unwrap().node_affinity;
        assert_eq!(affinity(&cluster), None);
        let selector =
            |key: &str| Selector { match_labels: [(key.to_owned(), "x".to_owned())].into(), ..Selector::default() };
        cluster.mesh.spec.nodes = selector("mesh");
        cluster.volume.spec.nodes = Some(selector("volume"));
        let terms = affinity(&cluster).unwrap().required.unwrap().node_selector_terms;
        let keys: Vec<String> = terms[0].match_expressions.clone().unwrap().into_iter().map(|one| one.key).collect();
        assert_eq!((terms.len(), keys), (1, vec!["mesh".to_owned(), "volume".to_owned()]));
    }

    #[test]
    fn a_volume_that_is_made_again_under_its_id_gets_the_persistent_volume_that_it_had() {
        let mut cluster = Cluster::with_nodes(&["a"]);
        let before = first_of(&cluster).volume.metadata.name;
        cluster.volume.metadata.uid = Some("another-uid".into());
        assert_ne!(first_of(&cluster).volume.metadata.name, before);
        cluster.volume.spec.volume_id = Some("volume-uid".into());
        assert_eq!(first_of(&cluster).volume.metadata.name, before);
    }

    #[test]
    fn a_volume_for_a_claim_of_a_class_is_mounted_by_that_claim_as_it_asks() {
        let mut cluster = Cluster::with_nodes(&["a"]);
        let claim = provision::tests::claim(|_| ());
        let class = k8s_openapi::api::storage::v1::StorageClass {
            provisioner: provision::PROVISIONER.into(),
            ..Default::default()
        };
        cluster.volume = provision::volume(&claim, Some(&class)).unwrap();
        assert_eq!(mounts(&cluster.world()), [], "its claim is gone");
        cluster.claims = vec![claim.clone().into()];
        let mount = first_of(&cluster);
        assert_eq!((mount.maker, &mount.claim), (Maker::User, &claim));
        let spec = mount.volume.spec.clone().unwrap();
        assert_eq!(spec.claim_ref.unwrap().uid, claim.metadata.uid);
        assert_eq!(spec.storage_class_name.as_deref(), Some("syncmesh"));
        assert_eq!(spec.access_modes, Some(vec!["ReadWriteOnce".to_owned()]));
        let path = format!("/var/lib/syncmesh/volumes/{}/data", provision::name(&claim));
        assert_eq!(spec.host_path.unwrap().path, path);
        assert!(matches!(mount.found(&cluster.world()), Found::Unbound(_)));
    }

    #[test]
    fn a_claim_of_somebody_else_is_foreign_whatever_its_labels_say() {
        let mut cluster = Cluster::with_nodes(&["a"]);
        let ours = first_of(&cluster);
        assert_eq!(ours.found(&cluster.world()), Found::Nothing);
        let mut claim = ours.claim.clone();
        cluster.claims = vec![claim.clone().into()];
        assert!(matches!(ours.found(&cluster.world()), Found::Unbound(_)));
        claim.spec.as_mut().unwrap().volume_name = Some("pvc-1".into());
        cluster.claims = vec![claim.into()];
        assert_eq!(ours.found(&cluster.world()), Found::Foreign);
    }
}
