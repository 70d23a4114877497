//! Why a volume can't have what it asks for, as far as a schema can't say it.

use super::World;
use std::fmt;
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
            Self::NoDirectory { .. } => "DirectoryNotListed",
            Self::DirectoryNamespace { .. } => "DirectoryNotAllowed",
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

/// The first thing that stands against a volume.
pub fn refusal(world: &World<'_>) -> Option<Refusal> {
    let labels = world.namespace.metadata.labels.clone().unwrap_or_default();
    let (mesh, spec) = (&world.mesh.spec, &world.volume.spec);
    if !mesh.namespaces.fits(&labels) {
        return Some(Refusal::Namespace { mesh: world.mesh_name().to_owned() });
    }
    if let Some(name) = &spec.directory {
        match mesh.directories.iter().find(|listed| listed.name == *name) {
            None => return Some(Refusal::NoDirectory { name: name.clone() }),
            Some(listed) if !listed.namespaces.fits(&labels) => {
                return Some(Refusal::DirectoryNamespace { name: name.clone() });
            }
            Some(_) => {}
        }
    }
    let found = world.places().len();
    if found > limits::MEMBERS as usize {
        return Some(Refusal::Nodes { found });
    }
    if let Some(most) = mesh.limits.volumes.filter(|most| world.others.volumes >= *most) {
        return Some(Refusal::Volumes { most });
    }
    let limit = mesh.limits.capacity?;
    let Some(wanted) = spec.capacity.or(mesh.defaults.capacity) else {
        return Some(Refusal::NoCapacity);
    };
    let left = Size(limit.0.saturating_sub(world.others.capacity));
    (wanted > left).then_some(Refusal::Capacity { wanted, left })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volume::Usage;
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

    #[test]
    fn limits_of_the_mesh_count_the_other_volumes() {
        let mut cluster = Cluster::with_nodes(&["a"]);
        cluster.others = Usage { volumes: 2, capacity: 3 << 30 };
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
}
