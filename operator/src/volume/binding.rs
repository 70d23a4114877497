//! From a claim that a volume wants to one that is bound.

use super::World;
use super::claims::{Found, Maker, Mount};
use crate::labels;
use k8s_openapi::api::core::v1::PersistentVolume;
use kube::ResourceExt;

/// How often a claim is touched before it is left to the controller's own resync.
const TOUCHES: u32 = 3;

/// The next thing to do for a claim. Each is done again until the world shows that it is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing: the claim is bound, or somebody else's.
    Rest,
    /// Make the PersistentVolume, or what it should be now.
    ApplyVolume,
    /// Take the uid of a claim that is gone out of the PersistentVolume.
    Release(String),
    /// Make the claim.
    MakeClaim,
    /// Touch the claim for the nth time: the controller binds it at once then, not at its next resync.
    Touch(u32),
}

/// The next step. `volume` is the mount's PersistentVolume as it is, and `is_right` whether it is as it should be.
pub fn next(world: &World<'_>, mount: &Mount, volume: Option<&PersistentVolume>, is_right: bool) -> Step {
    let found = mount.found(world);
    let Some(volume) = volume.filter(|_| is_right) else {
        return if found == Found::Foreign { Step::Rest } else { Step::ApplyVolume };
    };
    match found {
        Found::Foreign | Found::Bound(_) => Step::Rest,
        // The controller sees a PersistentVolume that names the claim's uid, and binds it at once.
        Found::Nothing | Found::Unbound(_) if mount.maker == Maker::User => Step::Rest,
        Found::Nothing => match stale_claim(volume) {
            Some(uid) => Step::Release(uid),
            None => Step::MakeClaim,
        },
        Found::Unbound(claim) => {
            // It was made again before its PersistentVolume was seen to be released.
            if let Some(uid) = stale_claim(volume).filter(|uid| claim.metadata.uid.as_ref() != Some(uid)) {
                return Step::Release(uid);
            }
            let touched = claim.annotations().get(labels::TOUCHED).and_then(|count| count.parse().ok()).unwrap_or(0);
            if touched < TOUCHES && claim.metadata.deletion_timestamp.is_none() {
                Step::Touch(touched + 1)
            } else {
                Step::Rest
            }
        }
    }
}

/// The uid of the claim that a Released PersistentVolume waits for in vain.
fn stale_claim(volume: &PersistentVolume) -> Option<String> {
    let phase = volume.status.as_ref().and_then(|status| status.phase.as_deref());
    let uid = volume.spec.as_ref()?.claim_ref.as_ref()?.uid.clone()?;
    (phase == Some("Released")).then_some(uid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volume::claims::mounts;
    use crate::volume::example::Cluster;
    use std::sync::Arc;

    fn step(cluster: &Cluster, volume: Option<&PersistentVolume>) -> Step {
        next(&cluster.world(), &mounts(&cluster.world())[0], volume, volume.is_some())
    }

    #[test]
    fn the_volume_comes_first_then_the_claim_which_is_touched_until_it_is_bound() {
        let mut cluster = Cluster::with_nodes(&["a"]);
        let mount = mounts(&cluster.world()).remove(0);
        assert_eq!(step(&cluster, None), Step::ApplyVolume);
        assert_eq!(step(&cluster, Some(&mount.volume)), Step::MakeClaim);
        cluster.claims = vec![mount.claim.clone().into()];
        assert_eq!(step(&cluster, Some(&mount.volume)), Step::Touch(1));
        Arc::make_mut(&mut cluster.claims[0]).annotations_mut().insert(labels::TOUCHED.into(), TOUCHES.to_string());
        assert_eq!(step(&cluster, Some(&mount.volume)), Step::Rest);
        Arc::make_mut(&mut cluster.claims[0]).status.get_or_insert_default().phase = Some("Bound".into());
        assert_eq!(step(&cluster, Some(&mount.volume)), Step::Rest);
    }

    #[test]
    fn a_claim_that_was_deleted_is_made_again_for_the_same_volume() {
        let cluster = Cluster::with_nodes(&["a"]);
        let mut volume = mounts(&cluster.world()).remove(0).volume;
        volume.spec.as_mut().unwrap().claim_ref.as_mut().unwrap().uid = Some("old".into());
        volume.status.get_or_insert_default().phase = Some("Released".into());
        assert_eq!(step(&cluster, Some(&volume)), Step::Release("old".into()));
    }

    #[test]
    fn a_claim_that_was_made_again_too_early_gets_its_volume_once_that_is_released() {
        let mut cluster = Cluster::with_nodes(&["a"]);
        let mut mount = mounts(&cluster.world()).remove(0);
        mount.volume.spec.as_mut().unwrap().claim_ref.as_mut().unwrap().uid = Some("old".into());
        mount.volume.status.get_or_insert_default().phase = Some("Released".into());
        mount.claim.metadata.uid = Some("new".into());
        mount.claim.annotations_mut().insert(labels::TOUCHED.into(), TOUCHES.to_string());
        cluster.claims = vec![mount.claim.into()];
        assert_eq!(step(&cluster, Some(&mount.volume)), Step::Release("old".into()));
        mount.volume.spec.as_mut().unwrap().claim_ref.as_mut().unwrap().uid = None;
        assert_eq!(step(&cluster, Some(&mount.volume)), Step::Rest);
    }

    #[test]
    fn nothing_is_made_for_a_claim_of_somebody_else() {
        let mut cluster = Cluster::with_nodes(&["a"]);
        let mut claim = mounts(&cluster.world()).remove(0).claim;
        claim.spec.as_mut().unwrap().volume_name = Some("pvc-1".into());
        cluster.claims = vec![claim.into()];
        assert_eq!(step(&cluster, None), Step::Rest);
    }
}
