//! What the operator tells a pod through its environment, and where things are in its container. The operator's `mesh::desired` says
//! the same from the other side.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener};
use std::path::{Path, PathBuf};
use syncmesh_config::{IdentityFiles, NodeName};

/// Where things are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    /// The storage root.
    pub root: PathBuf,
    /// Below it each listed directory is mounted under its name.
    pub directories: PathBuf,
    /// The certificates of the CAs that the mesh trusts.
    pub ca: PathBuf,
    /// The revocation list, once somebody was revoked.
    pub revoked: PathBuf,
    /// Where a whole file system is mounted, not a directory of one that others share.
    pub own: BTreeSet<PathBuf>,
}

impl Default for Places {
    fn default() -> Self {
        Self {
            root: "/var/lib/syncmesh".into(),
            directories: "/directories".into(),
            ca: "/etc/syncmesh/ca.pem".into(),
            revoked: "/etc/syncmesh/revoked".into(),
            own: BTreeSet::new(),
        }
    }
}

impl Places {
    /// Registry, journal, identity, lock, admin socket.
    pub fn state(&self) -> PathBuf {
        self.root.join("state")
    }

    /// The volumes, by their id.
    pub fn volumes(&self) -> PathBuf {
        self.root.join("volumes")
    }

    /// A volume's directory, with all that belongs to it.
    pub fn volume(&self, id: &str) -> PathBuf {
        self.volumes().join(id)
    }

    /// A listed directory.
    pub fn directory(&self, name: &str) -> PathBuf {
        self.directories.join(name)
    }

    /// How much of a file system stays free where the mesh doesn't say, in percent: so much that no kubelet with default settings
    /// evicts pods (at 15 % free of the images' file system), or little where nothing else is on it. `mounted` is the storage root or
    /// a listed directory.
    pub fn reserve(&self, mounted: &Path) -> u64 {
        if self.own.contains(mounted) { 2 } else { 16 }
    }

    /// What proves who this node is. Certificate and key are one file, so that they change together.
    pub fn identity(&self) -> IdentityFiles {
        let own = self.state().join("identity.pem");
        IdentityFiles { ca: self.ca.clone(), certificate: own.clone(), key: own, revoked: Some(self.revoked.clone()) }
    }

    /// A file in the state directory.
    pub fn in_state(&self, name: &str) -> PathBuf {
        self.state().join(name)
    }
}

/// What the operator tells a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Surroundings {
    /// The node that the pod is on.
    pub node: NodeName,
    /// The namespace of the agents.
    pub namespace: String,
    /// The mesh.
    pub mesh: String,
    /// The headless Service of its agents.
    pub service: String,
    /// The port on which agents listen for each other.
    pub port: u16,
    /// The port of metrics and health.
    pub metrics_port: u16,
    /// All addresses of this machine: of both families where there are two.
    pub all: IpAddr,
    /// Where things are.
    pub places: Places,
}

impl Surroundings {
    /// The ConfigMap with the CAs that the mesh trusts, as the operator calls it.
    pub fn bundle(&self) -> String {
        format!("syncmesh-{}-ca", self.mesh)
    }

    /// From the environment, by a function that gives a variable's value.
    ///
    /// # Errors
    /// A variable is missing or can't be read: which, and who sets it.
    pub fn read(get: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        let want = |name: &str| {
            let value = get(name).filter(|value| !value.is_empty());
            value.ok_or_else(|| {
                format!("{name} isn't set: `run --kubernetes` is for the pods of the operator's DaemonSet, which sets it; elsewhere use `run --config FILE`")
            })
        };
        let port = |name: &str| {
            let value = want(name)?;
            let port = value.parse::<u16>().ok().filter(|port| *port != 0);
            port.ok_or_else(|| format!("{name} is {value:?}, and has to be a port from 1 to 65535"))
        };
        Ok(Self {
            node: NodeName::new(&want("SYNCMESH_NODE")?).map_err(|why| format!("SYNCMESH_NODE: {why}"))?,
            namespace: want("SYNCMESH_NAMESPACE")?,
            mesh: want("SYNCMESH_MESH")?,
            service: want("SYNCMESH_SERVICE")?,
            port: port("SYNCMESH_LISTEN_PORT")?,
            metrics_port: port("SYNCMESH_METRICS_PORT")?,
            all: all(),
            places: Places {
                own: own(&fs::read_to_string("/proc/self/mountinfo").unwrap_or_default()),
                ..Places::default()
            },
        })
    }
}

/// Mount points that show their file system from its root on (proc_pid_mountinfo(5): fourth and fifth field).
fn own(mounts: &str) -> BTreeSet<PathBuf> {
    let fields = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(3);
        Some((fields.next()?, fields.next()?))
    });
    fields.filter(|(root, _)| *root == "/").map(|(_, point)| point.into()).collect()
}

/// Found by listening for a moment.
fn all() -> IpAddr {
    let six = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    if TcpListener::bind((six, 0)).is_ok() { six } else { IpAddr::V4(Ipv4Addr::UNSPECIFIED) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(name: &str) -> Option<String> {
        let value = match name {
            "SYNCMESH_NODE" => "worker-1",
            "SYNCMESH_NAMESPACE" => "syncmesh-system",
            "SYNCMESH_MESH" => "default",
            "SYNCMESH_SERVICE" => "syncmesh-default",
            "SYNCMESH_LISTEN_PORT" => "7400",
            "SYNCMESH_METRICS_PORT" => "9400",
            _ => return None,
        };
        Some(value.into())
    }

    #[test]
    fn what_the_operator_sets_is_read() {
        let read = Surroundings::read(variables).unwrap();
        assert_eq!((read.node.as_str(), read.port), ("worker-1", 7400));
    }

    #[test]
    fn a_file_system_of_its_own_is_told_from_a_shared_one() {
        let mounts = "36 35 98:0 /var/lib/syncmesh /var/lib/syncmesh rw,noatime master:1 - ext4 /dev/root rw\n\
                      37 35 98:1 / /directories/models rw shared:2 - xfs /dev/sdb rw\n";
        let places = Places { own: own(mounts), ..Places::default() };
        assert_eq!(places.reserve(&places.root), 16);
        assert_eq!(places.reserve(&places.directory("models")), 2);
    }

    #[test]
    fn what_is_missing_or_odd_is_named() {
        for (odd, value, part) in [
            ("SYNCMESH_MESH", None, "SYNCMESH_MESH isn't set"),
            ("SYNCMESH_LISTEN_PORT", Some("0"), "SYNCMESH_LISTEN_PORT is \"0\""),
            ("SYNCMESH_NODE", Some("10.0.0.1"), "SYNCMESH_NODE: "),
        ] {
            let get = |name: &str| if name == odd { value.map(Into::into) } else { variables(name) };
            let why = Surroundings::read(get).unwrap_err();
            assert!(why.contains(part), "{why}");
        }
    }
}
