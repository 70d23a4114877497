//! Loads the identity again when its files change, and warns before it ends.

use super::limits::{CLUSTER_WARN_DAYS, IDENTITY_POLL, IDENTITY_WARN_DAYS, IDENTITY_WARN_EVERY};
use super::stamp::Stamp;
use super::{Control, CurrentIdentity, Source};
use std::sync::{Arc, PoisonError};
use syncmesh_config::{IdentityFiles, NodeName};
use syncmesh_engine::identity::Identity;
use syncmesh_engine::wall::unix_now;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};
use tracing::{error, info, warn};

/// What to do where people issue certificates.
const ISSUE: &str =
    "issue a new one with \"syncmesh-agent ca issue\" and put it in its place; it is loaded without a restart";
/// What to do where the operator signs them each day.
const SIGN: &str = "it is renewed each day, so the operator hasn't signed for a while: see its log";

/// Keeps one node's identity current.
#[derive(Clone)]
pub struct Renewal {
    node: NodeName,
    files: IdentityFiles,
    stamp: Stamp,
    identity: CurrentIdentity,
    /// Somebody asks for a reload whether or not the files look changed.
    reload: Arc<Notify>,
    /// Warnings begin this many days before the end.
    warn_days: u64,
    /// What they say to do.
    advice: &'static str,
}

impl Renewal {
    /// For the identity of `control`; `reload` is notified to load at once.
    pub fn new(control: &Control, reload: Arc<Notify>) -> Self {
        Self {
            node: control.node.clone(),
            files: control.files.clone(),
            stamp: control.stamps.identity.clone(),
            identity: control.identity.clone(),
            reload,
            warn_days: match control.source {
                Source::File(_) => IDENTITY_WARN_DAYS,
                Source::Cluster(_) => CLUSTER_WARN_DAYS,
            },
            advice: match control.source {
                Source::File(_) => ISSUE,
                Source::Cluster(_) => SIGN,
            },
        }
    }

    /// Looks and warns for as long as the process lives.
    ///
    /// # Errors
    /// None; the type is that of all parts.
    pub async fn run(mut self) -> Result<(), String> {
        let mut warned: Option<Instant> = None;
        loop {
            if warned.is_none_or(|at| at.elapsed() >= IDENTITY_WARN_EVERY) && self.warn() {
                warned = Some(Instant::now());
            }
            let asked = tokio::select! {
                () = self.reload.notified() => true,
                () = sleep(IDENTITY_POLL) => false,
            };
            if self.look(asked) {
                warned = None;
            }
        }
    }

    /// Loads the files if they look changed or it was `asked`; says whether a new identity is in place.
    fn look(&mut self, asked: bool) -> bool {
        // Before the load: what changes during it is seen the next time.
        let stamp = Stamp::of(&self.files.paths());
        if stamp == self.stamp && !asked {
            return false;
        }
        self.stamp = stamp;
        let now = unix_now();
        match Identity::load(&self.files, &self.node, now) {
            Ok(identity) => {
                info!(days = identity.days_left(now), "the identity was loaded again; new sessions use it");
                *self.identity.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(identity));
                true
            }
            Err(why) => {
                error!("the new identity can't be used, the old one stays: {why}");
                false
            }
        }
    }

    /// Warns if the identity ends soon, and says whether it did.
    fn warn(&self) -> bool {
        let now = unix_now();
        let identity = self.identity.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(identity) = identity else { return false };
        let soon = identity.not_after.saturating_sub(now) < self.warn_days * 24 * 3600;
        if soon {
            let (days, file) = (identity.days_left(now), self.files.certificate.display());
            warn!(days, "the certificate {file} or its CA ends soon: {}", self.advice);
        }
        soon
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::sync::Mutex;
    use syncmesh_engine::ca;

    /// A directory with an identity for node `a` of 365 days.
    pub(crate) fn issued() -> (tempfile::TempDir, IdentityFiles, NodeName) {
        let dir = tempfile::tempdir().unwrap();
        let (node, now) = (NodeName::new("a").unwrap(), unix_now());
        ca::create(dir.path(), now).unwrap();
        ca::issue(dir.path(), &node, dir.path(), 365, now).unwrap();
        let [ca, certificate, key] = ["ca.pem", "a.pem", "a.key"].map(|name| dir.path().join(name));
        (dir, IdentityFiles { ca, certificate, key, revoked: None }, node)
    }

    fn replace(dir: &tempfile::TempDir, files: &IdentityFiles, node: &NodeName, days: u32) {
        std::fs::remove_file(&files.certificate).unwrap();
        std::fs::remove_file(&files.key).unwrap();
        ca::issue(dir.path(), node, dir.path(), days, unix_now()).unwrap();
    }

    #[test]
    fn a_valid_identity_takes_the_old_ones_place_and_an_invalid_one_doesnt() {
        let (dir, files, node) = issued();
        let now = unix_now();
        let first = Arc::new(Identity::load(&files, &node, now).unwrap());
        let identity: CurrentIdentity = Arc::new(Mutex::new(Some(first.clone())));
        let current = || identity.lock().unwrap().clone().unwrap();
        let mut renewal = Renewal {
            stamp: Stamp::of(&files.paths()),
            node: node.clone(),
            files: files.clone(),
            identity: identity.clone(),
            reload: Arc::new(Notify::new()),
            warn_days: IDENTITY_WARN_DAYS,
            advice: ISSUE,
        };
        assert!(!renewal.look(false) && Arc::ptr_eq(&current(), &first), "nothing changed");
        assert!(!renewal.warn());

        std::fs::write(&files.certificate, "nonsense").unwrap();
        assert!(!renewal.look(false) && Arc::ptr_eq(&current(), &first), "the old one stays");

        replace(&dir, &files, &node, 20);
        assert!(renewal.look(false));
        let second = current();
        assert_eq!(second.days_left(now), 20);
        assert!(renewal.warn(), "it ends in less than 30 days");

        assert!(!renewal.look(false) && renewal.look(true), "who asks is served");
        assert!(!Arc::ptr_eq(&current(), &second));
    }
}
