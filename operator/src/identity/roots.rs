//! The roots of a mesh, as its Secret keeps them and as its ConfigMap shows them to agents.

use super::authority::{Authority, Root, Unusable};
use super::revocation::{List, Revocations};
use crate::mesh::desired::Home;
use crate::{labels, names};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::jiff::Timestamp;
use kube::core::ObjectMeta;
use std::collections::BTreeMap;

/// The bundle in the ConfigMap: what agents trust.
pub const BUNDLE: &str = "ca.pem";
/// The revocation list beside it, once there is one; the Secret has it under the same name.
pub const REVOKED: &str = "revoked";
const REVOKED_FOR: &str = "revoked-for";
const SIGNING: [&str; 2] = ["ca.pem", "ca.key"];
const NEXT: [&str; 2] = ["next.pem", "next.key"];
const PREVIOUS: &str = "previous.pem";
const SINCE: &str = "since";
const ROTATED_FOR: &str = "rotated-for";

/// The roots of a mesh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roots {
    /// Who signs.
    pub signing: Authority,
    /// Who else agents trust.
    pub phase: Phase,
    /// The mesh's annotation for which the last change was begun: each value asks once.
    pub rotated_for: Option<String>,
    /// Whose certificates count no more.
    pub revoked: Revocations,
}

/// Where a change of roots is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// There is none.
    Steady,
    /// The next one is in the bundle and signs nothing yet.
    Introducing {
        /// The next one.
        next: Box<Authority>,
        /// Since when it is in the bundle.
        since: Timestamp,
    },
    /// The previous one signs nothing any more, and certificates of it may still hold.
    Retiring {
        /// The previous one. Its key is gone.
        previous: Root,
        /// Since when it signs nothing.
        since: Timestamp,
    },
}

impl Roots {
    /// Of a new mesh. What its annotation says by then is done by being new.
    ///
    /// # Errors
    /// Keys can't be made here.
    pub fn make(rotated_for: Option<&str>, now: Timestamp) -> Result<Self, Unusable> {
        Ok(Self {
            signing: Authority::make(now)?,
            phase: Phase::Steady,
            rotated_for: rotated_for.map(Into::into),
            revoked: Revocations::default(),
        })
    }

    /// As a Secret has them.
    ///
    /// # Errors
    /// Something of it can't be read.
    pub fn read(secret: &Secret) -> Result<Self, Unusable> {
        let text = |key: &str| {
            let Some(ByteString(bytes)) = secret.data.as_ref().and_then(|data| data.get(key)) else { return Ok(None) };
            let text = std::str::from_utf8(bytes).map_err(|_| Unusable::new(format!("{key} is no text")))?;
            Ok(Some(text))
        };
        let needed =
            |key: &str| text(key).and_then(|found| found.ok_or_else(|| Unusable::new(format!("{key} is missing"))));
        let authority = |[certificate, key]: [&str; 2]| {
            let read = Authority::read(needed(certificate)?, needed(key)?);
            read.map_err(|why| Unusable::new(format!("{certificate} and {key}: {why}")))
        };
        let since = || needed(SINCE)?.parse().map_err(|why| Unusable::new(format!("{SINCE}: {why}")));
        let phase = match (text(NEXT[0])?, text(PREVIOUS)?) {
            (None, None) => Phase::Steady,
            (Some(_), None) => Phase::Introducing { next: Box::new(authority(NEXT)?), since: since()? },
            (None, Some(previous)) => {
                let previous = Root::read(previous).map_err(|why| Unusable::new(format!("{PREVIOUS}: {why}")))?;
                Phase::Retiring { previous, since: since()? }
            }
            (Some(_), Some(_)) => return Err(Unusable::new(format!("it has both {} and {PREVIOUS}", NEXT[0]))),
        };
        let list = text(REVOKED)?.map(List::read).transpose();
        let revoked = Revocations {
            list: list.map_err(|why| Unusable::new(format!("{REVOKED}: {why}")))?,
            done: text(REVOKED_FOR)?.into_iter().flat_map(|done| done.split(',').map(Into::into)).collect(),
        };
        Ok(Self { signing: authority(SIGNING)?, phase, rotated_for: text(ROTATED_FOR)?.map(Into::into), revoked })
    }

    /// The Secret that keeps them.
    pub fn secret(&self, mesh: &str, home: &Home) -> Secret {
        let mut data = BTreeMap::new();
        let mut put = |key: &str, text: &str| drop(data.insert(key.to_owned(), ByteString(text.as_bytes().to_vec())));
        put(SIGNING[0], &self.signing.root.pem);
        put(SIGNING[1], self.signing.key());
        match &self.phase {
            Phase::Steady => {}
            Phase::Introducing { next, since } => {
                put(NEXT[0], &next.root.pem);
                put(NEXT[1], next.key());
                put(SINCE, &since.to_string());
            }
            Phase::Retiring { previous, since } => {
                put(PREVIOUS, &previous.pem);
                put(SINCE, &since.to_string());
            }
        }
        if let Some(rotated_for) = &self.rotated_for {
            put(ROTATED_FOR, rotated_for);
        }
        if let Some(list) = &self.revoked.list {
            put(REVOKED, &list.text);
        }
        if !self.revoked.done.is_empty() {
            let done: Vec<&str> = self.revoked.done.iter().map(String::as_str).collect();
            put(REVOKED_FOR, &done.join(","));
        }
        Secret { metadata: metadata(mesh, home), data: Some(data), ..Secret::default() }
    }

    /// The ConfigMap that agents' pods mount: who signs first, then whom they trust beside. One that has ended would keep an agent from
    /// starting.
    pub fn bundle(&self, mesh: &str, home: &Home, now: Timestamp) -> ConfigMap {
        let beside = match &self.phase {
            Phase::Steady => None,
            Phase::Introducing { next, .. } => Some(&next.root),
            Phase::Retiring { previous, .. } => Some(previous),
        };
        let holding = std::iter::once(&self.signing.root).chain(beside).filter(|root| root.not_after > now);
        let bundle: String = holding.map(|root| root.pem.as_str()).collect();
        let list = self.revoked.list.as_ref().map(|list| (REVOKED.to_owned(), list.text.clone()));
        ConfigMap {
            metadata: metadata(mesh, home),
            data: Some([(BUNDLE.to_owned(), bundle)].into_iter().chain(list).collect()),
            ..ConfigMap::default()
        }
    }
}

fn metadata(mesh: &str, home: &Home) -> ObjectMeta {
    ObjectMeta {
        name: Some(names::of_authority(mesh)),
        namespace: Some(home.namespace.clone()),
        labels: Some(labels::of_mesh(mesh)),
        ..ObjectMeta::default()
    }
}

#[cfg(test)]
mod tests {
    use super::super::authority::tests::at;
    use super::super::revocation::wishes;
    use super::*;

    fn home() -> Home {
        Home { namespace: "syncmesh-system".into(), image: "agent:1".into() }
    }

    #[test]
    fn what_was_written_is_read_in_every_phase() {
        let make = || Authority::make(at(1_000_000)).unwrap();
        let phases = [
            Phase::Steady,
            Phase::Introducing { next: Box::new(make()), since: at(1_000_001) },
            Phase::Retiring { previous: make().root, since: at(1_000_002) },
        ];
        for phase in phases {
            let roots =
                Roots { signing: make(), phase, rotated_for: Some("one".into()), revoked: Revocations::default() };
            assert_eq!(Roots::read(&roots.secret("default", &home())), Ok(roots));
        }
    }

    #[test]
    fn who_is_revoked_is_kept_and_shown_beside_the_bundle() {
        let mut mesh = syncmesh_crds::SyncMesh::new("default", syncmesh_crds::mesh::SyncMeshSpec::default());
        mesh.metadata.annotations = Some([(crate::labels::REVOKE.to_owned(), "a,b@1".to_owned())].into());
        let roots = Roots::make(None, at(1_000_000)).unwrap();
        assert_eq!(roots.bundle("default", &home(), at(1_000_000)).data.unwrap().get(REVOKED), None);
        let (roots, _) = super::super::revocation::after(roots, &wishes(&mesh), at(1_000_000)).unwrap();
        assert_eq!(Roots::read(&roots.secret("default", &home())), Ok(roots.clone()));
        let shown = roots.bundle("default", &home(), at(1_000_000)).data.unwrap();
        assert_eq!(shown.get(REVOKED), roots.revoked.list.as_ref().map(|list| &list.text));
        let mut secret = roots.secret("default", &home());
        secret.data.as_mut().unwrap().insert(REVOKED.into(), ByteString(b"odd".to_vec()));
        assert!(Roots::read(&secret).unwrap_err().to_string().contains("revoked: it is no revocation list"));
    }

    #[test]
    fn the_bundle_has_both_roots_no_key_and_none_that_has_ended() {
        let make = |now| Authority::make(at(now)).unwrap();
        let (old, new) = (make(1_000_000), make(200_000_000));
        let phase = Phase::Introducing { next: Box::new(new.clone()), since: at(200_000_000) };
        let roots = Roots { signing: old.clone(), phase, rotated_for: None, revoked: Revocations::default() };
        let bundle = |now| roots.bundle("default", &home(), at(now)).data.unwrap().remove(BUNDLE).unwrap();
        assert_eq!(bundle(200_000_000), format!("{}{}", old.root.pem, new.root.pem));
        assert_eq!(bundle(old.root.not_after.as_second()), new.root.pem);
        assert!(!bundle(200_000_000).contains("PRIVATE"));
    }

    #[test]
    fn a_secret_that_lost_a_part_says_which() {
        let roots = Roots::make(None, at(1_000_000)).unwrap();
        let mut secret = roots.secret("default", &home());
        secret.data.as_mut().unwrap().remove("ca.key");
        assert!(Roots::read(&secret).unwrap_err().to_string().contains("ca.key is missing"));
    }
}
