//! Claims of a StorageClass of ours: each gets a volume of its own, which goes with it.

pub mod quantity;
pub(crate) mod reconcile;

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, PersistentVolumeClaimSpec};
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{Resource, ResourceExt};
use std::fmt;
use syncmesh_crds::contents::Conflicts;
use syncmesh_crds::selector::Selector;
use syncmesh_crds::units::Size;
use syncmesh_crds::volume::{Claim, ReclaimPolicy, SyncVolumeSpec, WriteMode};
use syncmesh_crds::{SyncVolume, limits};

/// The provisioner of our StorageClasses.
pub const PROVISIONER: &str = "syncmesh.io/volume";
/// Who is to answer a claim, as Kubernetes writes it there once it is somebody's turn.
const ASKED: &str = "volume.kubernetes.io/storage-provisioner";
/// The least that a volume can have.
const LEAST: Size = Size(1 << 20);

/// Why a claim gets no volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Its class isn't there.
    NoClass,
    /// Its class says what nobody understands.
    Parameter {
        /// Which parameter.
        name: String,
        /// What to write.
        advice: &'static str,
    },
    /// It asks for what a directory can't be.
    Unsupported {
        /// What.
        what: &'static str,
    },
    /// What it asks for isn't a size.
    Size {
        /// What it asks for.
        found: String,
    },
    /// Its name is too long.
    Name,
    /// The volume's name is taken.
    Taken {
        /// The name.
        name: String,
    },
    /// Where only one may write, the scheduler has to know.
    Access,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoClass => f.write_str("its StorageClass is not there: make it again, or make a claim of another one"),
            Self::Parameter { name, advice } => {
                write!(f, "parameter {name} of its StorageClass can't be obeyed: {advice}")
            }
            Self::Unsupported { what } => write!(f, "{what} is nothing that a directory has: make a claim without it"),
            Self::Size { found } => write!(f, "it asks for {found}, which is no size: make a claim for one like 10Gi"),
            Self::Name => write!(f, "its name has more than {} characters: make a claim with a shorter one", limits::CLAIM),
            Self::Taken { name } => write!(f, "SyncVolume {name} is there already and not this claim's: delete it"),
            Self::Access => f.write_str(
                "its StorageClass has one writer for each volume: make a claim whose only access mode is ReadWriteOncePod",
            ),
        }
    }
}

/// Whether it is our turn to answer a claim that has no volume yet.
pub fn is_asked(claim: &PersistentVolumeClaim) -> bool {
    let is_unbound = spec(claim).volume_name.is_none_or(|name| name.is_empty());
    is_unbound && claim.annotations().get(ASKED).is_some_and(|asked| asked == PROVISIONER)
}

/// The name of a claim's volume, of its directories and of its PersistentVolume: just as long as such a name may be.
pub fn name(claim: &PersistentVolumeClaim) -> String {
    format!("pvc-{}", claim.metadata.uid.as_deref().unwrap_or_default())
}

/// The claim for which a volume was made.
pub fn claim_of(volume: &SyncVolume) -> Option<&OwnerReference> {
    let owners = volume.metadata.owner_references.as_deref().unwrap_or_default();
    owners.iter().find(|owner| owner.kind == "PersistentVolumeClaim" && owner.controller == Some(true))
}

/// Whether a volume was made for this claim.
pub fn is_for(volume: &SyncVolume, claim: &PersistentVolumeClaim) -> bool {
    claim_of(volume).is_some_and(|owner| Some(&owner.uid) == claim.metadata.uid.as_ref())
}

/// What a claim asks for, as a volume's capacity.
///
/// # Errors
/// It is no size.
pub fn capacity(claim: &PersistentVolumeClaim) -> Result<Size, Refusal> {
    let asked = spec(claim).resources.and_then(|resources| resources.requests?.remove("storage"));
    let asked = asked.map(|quantity| quantity.0).unwrap_or_default();
    let bytes = quantity::bytes(&asked).ok_or(Refusal::Size { found: asked })?;
    Ok(Size(bytes).max(LEAST))
}

/// The volume for a claim.
///
/// # Errors
/// The claim asks for what can't be had, or its class for what isn't there.
pub fn volume(claim: &PersistentVolumeClaim, class: Option<&StorageClass>) -> Result<SyncVolume, Refusal> {
    let asks = spec(claim);
    let unsupported = |what| Err(Refusal::Unsupported { what });
    if asks.volume_mode.as_deref() == Some("Block") {
        return unsupported("volumeMode Block");
    }
    if asks.selector.is_some() {
        return unsupported("a selector");
    }
    if asks.data_source.is_some() || asks.data_source_ref.is_some() {
        return unsupported("a data source");
    }
    if claim.name_any().len() > limits::CLAIM as usize {
        return Err(Refusal::Name);
    }
    let class = class.filter(|class| class.provisioner == PROVISIONER).ok_or(Refusal::NoClass)?;
    let mut spec = with_parameters(class)?;
    if spec.mode == WriteMode::SingleWriter && asks.access_modes.as_deref() != Some(&["ReadWriteOncePod".to_owned()]) {
        return Err(Refusal::Access);
    }
    let name = name(claim);
    spec.capacity = Some(capacity(claim)?);
    spec.claims = vec![Claim { name: claim.name_any() }];
    spec.volume_id = Some(name.clone());
    // Whatever the class says: files are deleted when somebody says so by name, and a claim's deletion doesn't.
    spec.reclaim_policy = ReclaimPolicy::Retain;
    let mut volume = SyncVolume::new(&name, spec);
    volume.metadata.namespace = claim.namespace();
    // It doesn't keep the claim from going: pods do.
    volume.metadata.owner_references =
        claim.controller_owner_ref(&()).map(|owner| vec![OwnerReference { block_owner_deletion: None, ..owner }]);
    Ok(volume)
}

fn with_parameters(class: &StorageClass) -> Result<SyncVolumeSpec, Refusal> {
    let mut spec = SyncVolumeSpec::default();
    for (name, value) in class.parameters.iter().flatten() {
        let refused = |advice| Refusal::Parameter { name: name.clone(), advice };
        let word = || serde_json::Value::String(value.clone());
        match name.as_str() {
            "mesh" if value.is_empty() => return Err(refused("write the name of a SyncMesh")),
            "mesh" => spec.mesh = value.clone(),
            "nodes" => {
                let advice = "write labels that nodes have, like tier=web,zone=a";
                spec.nodes = Some(selector(value).ok_or_else(|| refused(advice))?);
            }
            "mode" => {
                let mode = serde_json::from_value(word());
                spec.mode = mode.map_err(|_| refused("write ReadWriteMany or SingleWriter"))?;
            }
            "conflicts" => {
                let policy = serde_json::from_value(word());
                let policy =
                    policy.map_err(|_| refused("write a policy that spec.conflicts.policy of a SyncVolume takes"))?;
                spec.conflicts = Some(Conflicts { policy, ..Conflicts::default() });
            }
            _ => return Err(refused("only mesh, nodes, mode and conflicts are known")),
        }
    }
    Ok(spec)
}

fn selector(text: &str) -> Option<Selector> {
    let pair = |pair: &str| {
        let (key, value) = pair.split_once('=')?;
        let (key, value) = (key.trim(), value.trim());
        (!key.is_empty() && !value.contains('=')).then(|| (key.to_owned(), value.to_owned()))
    };
    let match_labels = text.split(',').map(pair).collect::<Option<_>>()?;
    Some(Selector { match_labels, ..Selector::default() })
}

fn spec(claim: &PersistentVolumeClaim) -> PersistentVolumeClaimSpec {
    claim.spec.clone().unwrap_or_default()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use serde_json::json;
    use syncmesh_crds::contents::ConflictPolicy;

    pub fn claim(change: impl FnOnce(&mut serde_json::Value)) -> PersistentVolumeClaim {
        let mut claim = json!({
            "metadata": {
                "name": "data-web-0",
                "namespace": "web",
                "uid": "9d4f7b1e-6c0a-4b52-8f43-0a5d2f1c7e11",
                "annotations": { ASKED: PROVISIONER },
            },
            "spec": {
                "storageClassName": "syncmesh",
                "accessModes": ["ReadWriteOnce"],
                "resources": { "requests": { "storage": "1.5Gi" } },
            },
        });
        change(&mut claim);
        serde_json::from_value(claim).unwrap()
    }

    fn class(parameters: &[(&str, &str)]) -> StorageClass {
        let parameters = parameters.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        StorageClass { provisioner: PROVISIONER.into(), parameters: Some(parameters), ..StorageClass::default() }
    }

    #[test]
    fn a_claim_gets_a_volume_that_goes_with_it_and_leaves_its_files() {
        let claim = claim(|_| ());
        let volume = volume(&claim, Some(&class(&[]))).unwrap();
        assert_eq!(volume.metadata.name.as_deref(), Some("pvc-9d4f7b1e-6c0a-4b52-8f43-0a5d2f1c7e11"));
        assert_eq!(volume.name_any().len(), limits::NAME as usize);
        assert!(is_for(&volume, &claim));
        assert_eq!(volume.spec.claims, [Claim { name: "data-web-0".into() }]);
        assert_eq!(volume.spec.capacity, Some(Size(3 << 29)));
        assert_eq!(volume.spec.reclaim_policy, ReclaimPolicy::Retain);
        assert_eq!(volume.spec.volume_id, volume.metadata.name);
    }

    #[test]
    fn a_claim_is_answered_when_it_is_our_turn_and_it_has_no_volume() {
        assert!(is_asked(&claim(|_| ())));
        assert!(!is_asked(&claim(|claim| claim["metadata"]["annotations"] = json!({}))));
        assert!(!is_asked(&claim(|claim| claim["metadata"]["annotations"][ASKED] = json!("example.com/other"))));
        assert!(!is_asked(&claim(|claim| claim["spec"]["volumeName"] = json!("pvc-1"))));
    }

    #[test]
    fn parameters_of_the_class_are_obeyed_and_others_refused() {
        let parameters = [("mesh", "fast"), ("nodes", "tier=web, zone=a"), ("conflicts", "lastWriterWins")];
        let spec = volume(&claim(|_| ()), Some(&class(&parameters))).unwrap().spec;
        assert_eq!(spec.mesh, "fast");
        assert_eq!(spec.nodes.unwrap().match_labels.len(), 2);
        assert_eq!(spec.conflicts.unwrap().policy, ConflictPolicy::LastWriterWins);
        for odd in [("nodes", "tier"), ("nodes", ""), ("mode", "Two"), ("conflicts", "x"), ("mesh", ""), ("path", "/")]
        {
            let refused = volume(&claim(|_| ()), Some(&class(&[odd]))).unwrap_err();
            assert!(matches!(refused, Refusal::Parameter { .. }), "{odd:?}");
        }
    }

    #[test]
    fn where_one_writes_the_scheduler_has_to_know() {
        let single = class(&[("mode", "SingleWriter")]);
        assert_eq!(volume(&claim(|_| ()), Some(&single)).unwrap_err(), Refusal::Access);
        let alone = claim(|claim| claim["spec"]["accessModes"] = json!(["ReadWriteOncePod"]));
        assert_eq!(volume(&alone, Some(&single)).unwrap().spec.mode, WriteMode::SingleWriter);
    }

    #[test]
    fn what_a_directory_can_not_be_is_refused() {
        let refused = |change: fn(&mut serde_json::Value)| volume(&claim(change), Some(&class(&[]))).unwrap_err();
        let is_unsupported = |refusal| matches!(refusal, Refusal::Unsupported { .. });
        assert!(is_unsupported(refused(|claim| claim["spec"]["volumeMode"] = json!("Block"))));
        assert!(is_unsupported(refused(|claim| claim["spec"]["selector"] = json!({}))));
        let source = json!({ "kind": "PersistentVolumeClaim", "name": "other" });
        let with_source = claim(|claim| claim["spec"]["dataSource"] = source);
        assert!(is_unsupported(volume(&with_source, Some(&class(&[]))).unwrap_err()));
        assert_eq!(volume(&claim(|_| ()), None).unwrap_err(), Refusal::NoClass);
        assert!(matches!(refused(|claim| claim["spec"]["resources"] = json!({})), Refusal::Size { .. }));
    }
}
