//! Answers agents' requests for certificates.

use super::authority::Leaf;
use super::refusal::Refusal;
use super::roots::Roots;
use super::verdict::{Accepted, World, controller, is_ours, requester, verdict};
use crate::error::Error;
use crate::names;
use crate::operator::{Operator, now};
use crate::writes::Manager;
use k8s_openapi::ByteString;
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;
use serde_json::json;
use std::time::Duration;
use tracing::{info, warn};

/// When to look again at a request whose mesh has no authority yet: it is about to be made.
const NO_AUTHORITY_YET: Duration = Duration::from_secs(1);

/// Signs a request, or refuses it. One that is settled, or asks another signer, is left alone.
///
/// # Errors
/// The API server refused a call, or couldn't be reached; or the authority can't be used.
pub async fn reconcile(request: &CertificateSigningRequest, operator: &Operator) -> Result<Option<Duration>, Error> {
    if !is_ours(request) || is_settled(request) {
        return Ok(None);
    }
    let accepted = match judge(request, operator).await? {
        Ok(accepted) => accepted,
        Err(refusal) => return refuse(request, &refusal, operator).await.map(|()| None),
    };
    let authority = names::of_authority(&accepted.mesh);
    let secret = operator.caches.secrets.get(&ObjectRef::new(&authority).within(&operator.home.namespace));
    let Some(secret) = secret else { return Ok(Some(NO_AUTHORITY_YET)) };
    let unusable = |why| Error::Authority { secret: authority.clone(), why };
    let roots = Roots::read(&secret).map_err(unusable)?;
    let uid = request.uid().unwrap_or_default();
    let list = roots.revoked.list.as_ref();
    let not_before = list.and_then(|list| list.moment(&accepted.node));
    let leaf = Leaf { node: &accepted.node, key: &accepted.key, not_before, life: accepted.life, request: &uid };
    let certificate = roots.signing.sign(&leaf, now().0).map_err(unusable)?;
    sign(request, &accepted, certificate, operator).await.map(|()| None)
}

/// Pod and DaemonSet are read from the API server itself: that they were deleted, or are there already, may be news to a cache.
async fn judge(request: &CertificateSigningRequest, operator: &Operator) -> Result<Result<Accepted, Refusal>, Error> {
    let (home, writes) = (operator.home.namespace.as_str(), &operator.writes);
    let requester = match requester(request, home) {
        Ok(requester) => requester,
        Err(refusal) => return Ok(Err(refusal)),
    };
    let pod: Option<Pod> = writes.read(home, requester.pod).await?;
    let agents: Option<DaemonSet> = match pod.as_ref().and_then(controller) {
        Some(owner) => writes.read(home, &owner.name).await?,
        None => None,
    };
    let mesh = agents.as_ref().and_then(|agents| names::mesh_of_agents(agents.metadata.name.as_deref()?));
    let mesh = mesh.and_then(|mesh| operator.caches.meshes.get(&ObjectRef::new(mesh)));
    Ok(verdict(request, &World { home, pod: pod.as_ref(), agents: agents.as_ref(), mesh: mesh.as_deref() }))
}

async fn sign(
    request: &CertificateSigningRequest,
    accepted: &Accepted,
    certificate: String,
    operator: &Operator,
) -> Result<(), Error> {
    if !has(request, "Approved") {
        let message = format!("the agent of mesh {} on node {} asks for itself", accepted.mesh, accepted.node);
        let fields = condition("Approved", "AgentOfNode", &message);
        operator.writes.apply_part(Manager::Certificates, request, "approval", fields).await?;
    }
    let fields = json!({ "status": { "certificate": ByteString(certificate.into_bytes()) } });
    operator.writes.apply_part(Manager::Certificates, request, "status", fields).await?;
    operator.metrics.certificate("signed");
    info!("{} has a certificate for node {} of mesh {}", request.name_any(), accepted.node, accepted.mesh);
    Ok(())
}

/// Whoever approved it before doesn't decide alone: then it has failed.
async fn refuse(request: &CertificateSigningRequest, refusal: &Refusal, operator: &Operator) -> Result<(), Error> {
    let (r#type, part) = if has(request, "Approved") { ("Failed", "status") } else { ("Denied", "approval") };
    let message = refusal.to_string();
    let fields = condition(r#type, refusal.reason(), &message);
    operator.writes.apply_part(Manager::Certificates, request, part, fields).await?;
    operator.metrics.certificate("refused");
    warn!("{} is refused: {message}", request.name_any());
    Ok(())
}

fn condition(r#type: &str, reason: &str, message: &str) -> serde_json::Value {
    let condition = json!({ "type": r#type, "status": "True", "reason": reason, "message": message });
    json!({ "status": { "conditions": [condition] } })
}

fn is_settled(request: &CertificateSigningRequest) -> bool {
    let certificate = request.status.as_ref().and_then(|status| status.certificate.as_ref());
    certificate.is_some_and(|certificate| !certificate.0.is_empty()) || has(request, "Denied") || has(request, "Failed")
}

fn has(request: &CertificateSigningRequest, r#type: &str) -> bool {
    let conditions = request.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    conditions.iter().any(|condition| condition.type_ == r#type)
}
