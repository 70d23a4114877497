//! Why a volume can't have what it asks for, as far as a schema can't say it.

use super::World;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use std::fmt;
use std::sync::Arc;
use syncmesh_crds::SyncVolume;
use syncmesh_crds::limits;
use syncmesh_crds::units::Size;

/// What stands against a volume. Nothing is made for it then; what is there already stays as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The mesh isn't for its namespace.
    Namespace {
        /// The mesh.
        mesh: String,
    },
    /// The mesh is being deleted.
    MeshGoing {
        /// The mesh.
        mesh: String,
    },
    /// The mesh lists no such directory.
    NoDirectory {
        /// The directory's name.
        name: String,
    },
    /// The directory isn't for its namespace.
    DirectoryNamespace {
        /// The directory's name.
        name: String,
    },
    /// Another volume has these directories.
    Taken {
        /// The other volume, with its namespace.
        by: String,
    },
    /// The mesh limits the sum of capacities, and the volume has none.
    NoCapacity,
    /// The mesh's capacity is spent.
    Capacity {
        /// What the volume asks for.
        wanted: Size,
        /// What is left.
        left: Size,
    },
    /// The mesh has as many volumes as it may.
    Volumes {
        /// How many.
        most: u64,
    },
    /// The selectors fit more nodes than a volume can have.
    Nodes {
        /// How many they fit.
        found: usize,
    },
}

impl Refusal {
    /// A condition's reason.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Namespace { .. } => "NamespaceNotAllowed",
            Self::MeshGoing { .. } => "MeshTerminating",
            Self::NoDirectory { .. } => "DirectoryNotListed",
            Self::DirectoryNamespace { .. } => "DirectoryNotAllowed",
            Self::Taken { .. } => "DirectoryTaken",
            Self::NoCapacity => "CapacityMissing",
            Self::Capacity { .. } => "CapacityExceeded",
            Self::Volumes { .. } => "TooManyVolumes",
            Self::Nodes { .. } => "TooManyNodes",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Namespace { mesh } => {
                write!(
                    f,
                    "mesh {mesh} is not for this namespace: ask its administrator, or name another mesh in a new volume"
                )
            }
            Self::MeshGoing { mesh } => {
                write!(f, "mesh {mesh} is being deleted: name another mesh in a new volume, or wait and make it again")
            }
            Self::NoDirectory { name } => {
                write!(
                    f,
                    "the mesh lists no directory {name}: ask its administrator, or name another one in a new volume"
                )
            }
            Self::DirectoryNamespace { name } => write!(
                f,
                "directory {name} is not for this namespace: ask the mesh's administrator, or name another one in a new volume"
            ),
            Self::Taken { by } => write!(
                f,
                "volume {by} has the same files: delete one of the two, or make one with another volumeID or directory"
            ),
            Self::NoCapacity => f.write_str("the mesh limits the sum of capacities: write spec.capacity"),
            Self::Capacity { wanted, left } => write!(
                f,
                "capacity {wanted} is more than the {left} that the mesh has left: make a smaller volume, or ask its administrator for more"
            ),
            Self::Volumes { most } => {
                write!(f, "the mesh has its {most} volumes: delete one, or ask its administrator for more")
            }
            Self::Nodes { found } => write!(
                f,
                "{found} nodes fit, and a volume has at most {}: make a new volume whose spec.nodes fits fewer",
                limits::MEMBERS
            ),
        }
    }
}

/// The first thing that stands against a volume. Limits of the mesh stand against new volumes only.
pub fn refusal(world: &World<'_>) -> Option<Refusal> {
    let labels = world.namespace.labels();
    let (mesh, spec) = (&world.mesh.spec, &world.volume.spec);
    if !mesh.namespaces.fits(labels) {
        return Some(Refusal::Namespace { mesh: world.mesh_name().to_owned() });
    }
    if let Some(name) = &spec.directory {
        match mesh.directories.iter().find(|listed| listed.name == *name) {
            None => return Some(Refusal::NoDirectory { name: name.clone() }),
            Some(listed) if !listed.namespaces.fits(labels) => {
                return Some(Refusal::DirectoryNamespace { name: name.clone() });
            }
            Some(_) => {}
        }
    }
    if let Some(other) = world.others.iter().find(|other| has_the_same_files(world, other) && is_ahead(world, other)) {
        let part = |part: &Option<String>| part.clone().unwrap_or_default();
        let by = format!("{}/{}", part(&other.metadata.namespace), part(&other.metadata.name));
        return Some(Refusal::Taken { by });
    }
    let found = world.places().len();
    if found > limits::MEMBERS as usize {
        return Some(Refusal::Nodes { found });
    }
    if world.is_initialized() {
        return None;
    }
    // One that has replicas keeps the mesh until it is gone itself.
    if world.mesh.metadata.deletion_timestamp.is_some() && world.replicas.is_empty() {
        return Some(Refusal::MeshGoing { mesh: world.mesh_name().to_owned() });
    }
    if let Some(most) = mesh.limits.volumes.filter(|most| ahead(world).count() as u64 >= *most) {
        return Some(Refusal::Volumes { most });
    }
    over_capacity(world)
}

/// What a volume may have on each node, and why that isn't what it asks for, if it isn't. One that has files already keeps what it had.
pub fn capacity(world: &World<'_>) -> (Option<Size>, Option<Refusal>) {
    let wanted = wanted_capacity(world, world.volume);
    let had = world.replicas.iter().filter_map(|replica| replica.spec.capacity).max();
    match over_capacity(world) {
        Some(refusal) if world.is_initialized() && wanted > had => (had, Some(refusal)),
        _ => (wanted, None),
    }
}

fn over_capacity(world: &World<'_>) -> Option<Refusal> {
    let limit = world.mesh.spec.limits.capacity?;
    let Some(wanted) = wanted_capacity(world, world.volume) else {
        return Some(Refusal::NoCapacity);
    };
    let taken = ahead(world).filter_map(|other| wanted_capacity(world, other)).map(|size| size.0);
    let left = Size(limit.0.saturating_sub(taken.fold(0, u64::saturating_add)));
    (wanted > left).then_some(Refusal::Capacity { wanted, left })
}

fn wanted_capacity(world: &World<'_>, volume: &SyncVolume) -> Option<Size> {
    volume.spec.capacity.or(world.mesh.spec.defaults.capacity)
}

/// Volumes that come before this one.
fn ahead<'a>(world: &World<'a>) -> impl Iterator<Item = &'a Arc<SyncVolume>> {
    world.others.iter().filter(|other| is_ahead(world, other))
}

/// Those that have files come before those that don't, then the older ones.
fn is_ahead(world: &World<'_>, other: &SyncVolume) -> bool {
    // Among those that have files everybody counts: whoever grows has to fit beside all of them.
    world.is_initialized() && super::is_initialized(other) || rank(other) < rank(world.volume)
}

fn rank(volume: &SyncVolume) -> (bool, Option<&Time>, Option<&str>) {
    let meta = &volume.metadata;
    (!super::is_initialized(volume), meta.creation_timestamp.as_ref(), meta.uid.as_deref())
}

fn has_the_same_files(world: &World<'_>, other: &SyncVolume) -> bool {
    match (&world.volume.spec.directory, &other.spec.directory) {
        (Some(own), Some(theirs)) => own == theirs,
        (None, None) => super::volume_id(other) == world.volume_id(),
        (Some(_), None) | (None, Some(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volume::example::Cluster;
    use syncmesh_crds::mesh::Directory;
    use syncmesh_crds::selector::Selector;

    fn team(name: &str) -> Selector {
        Selector { match_labels: [("team".to_owned(), name.to_owned())].into(), ..Selector::default() }
    }

    #[test]
    fn a_volume_of_three_lines_is_refused_by_nothing() {
        assert_eq!(refusal(&Cluster::with_nodes(&["a"]).world()), None);
    }

    #[test]
    fn a_mesh_is_for_the_namespaces_that_it_selects() {
        let mut cluster = Cluster::with_nodes(&["a"]);
        cluster.mesh.spec.namespaces = team("web");
        assert_eq!(refusal(&cluster.world()), Some(Refusal::Namespace { mesh: "default".into() }));
        cluster.namespace.metadata.labels = Some(team("web").match_labels);
        assert_eq!(refusal(&cluster.world()), None);
    }

    #[test]
    fn a_mesh_that_is_being_deleted_takes_no_new_volume_and_keeps_its_own() {
        let mut cluster = Cluster::with_nodes(&["a"]);
        let now = k8s_openapi::jiff::Timestamp::from_second(1).unwrap();
        cluster.mesh.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now));
        assert_eq!(refusal(&cluster.world()), Some(Refusal::MeshGoing { mesh: "default".into() }));
        cluster.mesh.metadata.deletion_timestamp.take();
        cluster.reconcile();
        cluster.mesh.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now));
        assert_eq!(refusal(&cluster.world()), None);
    }

    #[test]
    fn a_directory_must_be_listed_for_the_namespace() {
        let mut cluster = Cluster::with_nodes(&["a"]);
        cluster.volume.spec.directory = Some("media".into());
        assert_eq!(refusal(&cluster.world()), Some(Refusal::NoDirectory { name: "media".into() }));
        let listed = Directory { name: "media".into(), path: "/srv/media".into(), namespaces: team("shop") };
        cluster.mesh.spec.directories.push(listed);
        assert_eq!(refusal(&cluster.world()), Some(Refusal::DirectoryNamespace { name: "media".into() }));
        cluster.namespace.metadata.labels = Some(team("shop").match_labels);
        assert_eq!(refusal(&cluster.world()), None);
    }

    /// Another volume of the mesh, older if its uid comes before `volume-uid`.
    fn another(uid: &str, capacity: u64) -> Arc<SyncVolume> {
        let mut another = Cluster::with_nodes(&[]).volume;
        another.metadata.uid = Some(uid.into());
        another.metadata.namespace = Some("shop".into());
        another.spec.capacity = Some(Size(capacity));
        Arc::new(another)
    }

    #[test]
    fn limits_of_the_mesh_count_the_volumes_that_come_before() {
        let mut cluster = Cluster::with_nodes(&["a"]);
        cluster.others = vec![another("a", 1 << 30), another("b", 2 << 30), another("z", 9 << 30)];
        cluster.mesh.spec.limits.capacity = Some(Size(4 << 30));
        assert_eq!(refusal(&cluster.world()), Some(Refusal::NoCapacity));
        cluster.volume.spec.capacity = Some(Size(2 << 30));
        let told = refusal(&cluster.world()).unwrap().to_string();
        assert!(told.contains("capacity 2Gi is more than the 1Gi"), "{told}");
        cluster.volume.spec.capacity = Some(Size(1 << 30));
        assert_eq!(refusal(&cluster.world()), None);
        cluster.mesh.spec.limits.volumes = Some(2);
        assert_eq!(refusal(&cluster.world()), Some(Refusal::Volumes { most: 2 }));
    }

    #[test]
    fn a_volume_that_has_files_keeps_its_capacity_when_there_is_none_to_grow_into() {
        let mut cluster = Cluster::with_nodes(&["a"]);
        cluster.volume.spec.capacity = Some(Size(1 << 30));
        cluster.reconcile();
        cluster.initialize();
        cluster.others = vec![another("z", 2 << 30)];
        Arc::make_mut(&mut cluster.others[0]).status = cluster.volume.status.clone();
        cluster.mesh.spec.limits.capacity = Some(Size(3 << 30));
        assert_eq!(capacity(&cluster.world()), (Some(Size(1 << 30)), None));
        cluster.volume.spec.capacity = Some(Size(2 << 30));
        assert_eq!(refusal(&cluster.world()), None);
        let (granted, why) = capacity(&cluster.world());
        assert_eq!(granted, Some(Size(1 << 30)));
        assert!(matches!(why, Some(Refusal::Capacity { .. })));
    }

    #[test]
    fn files_of_another_volume_are_not_to_be_had_by_naming_them() {
        let mut cluster = Cluster::with_nodes(&["a"]);
        cluster.others = vec![another("a", 0)];
        cluster.volume.spec.volume_id = Some("a".into());
        assert_eq!(refusal(&cluster.world()), Some(Refusal::Taken { by: "shop/docs".into() }));
        cluster.volume.spec.volume_id = Some("another".into());
        assert_eq!(refusal(&cluster.world()), None);
    }

    #[test]
    fn a_volume_that_has_files_loses_them_to_no_older_one() {
        let mut cluster = Cluster::with_nodes(&["a"]);
        cluster.reconcile();
        cluster.initialize();
        let mut older = another("a", 0);
        Arc::make_mut(&mut older).spec.volume_id = Some("volume-uid".into());
        cluster.others = vec![older];
        assert_eq!(refusal(&cluster.world()), None);
    }
}
