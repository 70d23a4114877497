//! A mesh's authority: made once, changed in time, and shown to its agents.

use crate::error::{Error, unusable};
use crate::identity::revocation::{self, Answer};
use crate::identity::roots::{Phase, Roots};
use crate::identity::rotation::{self, Step, distrusting};
use crate::labels::ROTATE_CA;
use crate::names;
use crate::operator::Operator;
use crate::writes::Manager;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use kube::core::ObjectMeta;
use kube::runtime::reflector::ObjectRef;
use std::sync::Arc;
use std::time::Duration;
use syncmesh_crds::{SyncMesh, SyncReplica};
use tracing::info;

/// How a mesh's authority is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is about to be made.
    Missing,
    /// It can't be used, for this reason, which says what to do.
    Unusable(String),
    /// It signs.
    Signing,
    /// It signs, and another one is to follow once the agents of these nodes trust it.
    Introducing(Vec<String>),
    /// It signs, and the one before is trusted still.
    Retiring,
}

/// The longest time until a look that nobody rings for: timers don't reach ten years.
const LONGEST_REST: Duration = Duration::from_secs(24 * 3600);

/// Makes authority and bundle what they should be. The result is how the authority is, and when to look again without being told.
///
/// # Errors
/// The API server refused a call, or couldn't be reached.
pub async fn reconcile(
    mesh: &SyncMesh,
    replicas: &[Arc<SyncReplica>],
    now: Timestamp,
    operator: &Operator,
) -> Result<(Standing, Option<Duration>), Error> {
    let (name, home, writes) = (mesh.name_any(), &operator.home, &operator.writes);
    let place = names::of_authority(&name);
    let broken = |why| Error::Authority { secret: place.clone(), why };
    let asked = mesh.annotations().get(ROTATE_CA).map(String::as_str);
    let Some(secret) = operator.caches.secrets.get(&ObjectRef::new(&place).within(&home.namespace)) else {
        // The watch brings it, and the mesh again. One that is there already stays as it is.
        let roots = Roots::make(asked, now).map_err(broken)?;
        writes.create(Manager::Authority, &roots.secret(&name, home)).await?;
        return Ok((Standing::Missing, None));
    };
    let roots = match Roots::read(&secret) {
        Ok(roots) => roots,
        Err(why) => return Ok((Standing::Unusable(unusable(&place, &why)), None)),
    };
    let next = match &roots.phase {
        Phase::Introducing { next, .. } => distrusting(replicas.iter().map(Arc::as_ref), &next.root),
        Phase::Steady | Phase::Retiring { .. } => Vec::new(),
    };
    let step = rotation::next(&roots, &next, asked, now);
    let before = roots.clone();
    let (roots, rest) = match step {
        Step::Rest(rest) => (roots, Some(rest.min(LONGEST_REST))),
        Step::Introduce | Step::Switch | Step::Drop => {
            info!("the roots of mesh {name}: {step:?}");
            (rotation::after(roots, &step, asked, now).map_err(broken)?, None)
        }
    };
    let (roots, answers) = revocation::after(roots, &revocation::wishes(mesh), now).map_err(broken)?;
    if roots != before {
        writes.replace(Manager::Authority, &as_read(roots.secret(&name, home), &secret)).await?;
    }
    let bundle = operator.caches.bundles.get(&ObjectRef::new(&place).within(&home.namespace));
    writes.ensure(Manager::Authority, roots.bundle(&name, home, now), bundle.as_deref()).await?;
    for answer in answers {
        let (reason, message) = said(&answer);
        writes.complain(mesh, reason, &message).await?;
    }
    let standing = match roots.phase {
        Phase::Steady => Standing::Signing,
        Phase::Introducing { .. } => Standing::Introducing(next.into_iter().map(Into::into).collect()),
        Phase::Retiring { .. } => Standing::Retiring,
    };
    Ok((standing, rest))
}

/// What an event says of a wish.
fn said(answer: &Answer) -> (&'static str, String) {
    match answer {
        Answer::Revoked(node) => (
            "Revoked",
            format!(
                "what was signed for {node} so far counts no more: its sessions end, and its agent asks for another certificate"
            ),
        ),
        Answer::NoName(text) => {
            ("NotRevoked", format!("no node can be called {:?}: write names of nodes with commas", text))
        }
        Answer::Full(node) => (
            "NotRevoked",
            format!("{node} isn't revoked, the list is full: delete the mesh's Secret for a new authority instead"),
        ),
    }
}

/// With what others have written about the Secret, and the version that was read: whoever was faster makes this one fail.
fn as_read(secret: Secret, read: &Secret) -> Secret {
    Secret {
        metadata: ObjectMeta { managed_fields: None, ..read.metadata.clone() },
        type_: read.type_.clone(),
        ..secret
    }
}
