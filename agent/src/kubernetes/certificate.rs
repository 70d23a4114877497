//! The node's certificate, asked of the operator by a CertificateSigningRequest: the API server stamps pod and node of the requester
//! into it, so that no token leaves the pod. It is renewed each day and lives for two weeks: a site without uplink goes on.

use super::directories::replace;
use super::surroundings::Surroundings;
use crate::control::question::Loop;
use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestSpec};
use kube::api::PostParams;
use kube::core::ObjectMeta;
use kube::{Api, Client, ResourceExt};
use rcgen::{CertificateParams, DnType, KeyPair, PKCS_ECDSA_P256_SHA256};
use std::fs;
use std::sync::Arc;
use std::time::Duration;
use syncmesh_config::{IdentityFiles, NodeName};
use syncmesh_core::backoff::backoff;
use syncmesh_engine::identity::Identity;
use syncmesh_engine::wall::unix_now;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};
use tracing::{info, warn};

/// Who signs.
const SIGNER: &str = "syncmesh.io/agent";
/// How long a certificate should live, in seconds: 14 days.
const LIFE_SECONDS: i32 = 14 * 24 * 3600;
/// How old a certificate gets before it is renewed.
const RENEW: Duration = Duration::from_secs(24 * 3600);
/// How often it is looked whether that is so, whether the mesh's CA has changed, and whether this node is revoked.
const LOOK: Duration = Duration::from_secs(5);
/// How long the loop may take to say how it is.
const ANSWER: Duration = Duration::from_secs(5);
/// How often a request is looked at, and for how long.
const POLL: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_secs(120);
/// What was signed, until it was looked at.
const SIGNED: &str = "identity-signed.pem";
/// First and longest wait after a request that came to nothing.
const AGAIN: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(120));

/// Gets a certificate, and renews it, for as long as the process lives. `renewed` is told when there is another one.
///
/// # Errors
/// There is no way to the API server.
pub async fn keep(surroundings: Arc<Surroundings>, agent: Loop, renewed: Arc<Notify>) -> Result<(), String> {
    let client = Client::try_default().await.map_err(|why| format!("can't ask for a certificate: {why}"))?;
    let requests: Api<CertificateSigningRequest> = Api::all(client);
    let mut attempt = 0;
    loop {
        let files = surroundings.places.identity();
        let revoked = agent.status_within(ANSWER).await.ok().and_then(|(status, _)| status.revoked_before);
        match why_another(&files, &surroundings.node, revoked) {
            None => sleep(LOOK).await,
            Some(why) => {
                info!(%why, "asking the operator for a certificate");
                match renew(&requests, &surroundings, revoked).await {
                    Ok(()) => {
                        attempt = 0;
                        info!("the operator has signed");
                        renewed.notify_one();
                    }
                    Err(why) => {
                        warn!("no certificate: {why}");
                        sleep(backoff(AGAIN.0, AGAIN.1, attempt, random())).await;
                        attempt += 1;
                    }
                }
            }
        }
    }
}

/// For waits that aren't those of all other agents. Without random numbers they are short.
fn random() -> u64 {
    let mut bytes = [0; 8];
    let _ = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    u64::from_le_bytes(bytes)
}

/// Why another certificate is needed, if it is. Those that begin before the moment `revoked` count no more.
fn why_another(files: &IdentityFiles, node: &NodeName, revoked: Option<u64>) -> Option<String> {
    let Ok(found) = fs::metadata(&files.certificate) else { return Some("there is none yet".into()) };
    match Identity::load(files, node, unix_now()) {
        Err(why) => return Some(why.to_string()),
        Ok(identity) if revoked.is_some_and(|moment| identity.not_before < moment) => {
            return Some("it is revoked".into());
        }
        Ok(_) => {}
    }
    let age = found.modified().ok().and_then(|written| written.elapsed().ok());
    age.is_some_and(|age| age >= RENEW).then(|| "it is a day old".into())
}

async fn renew(
    requests: &Api<CertificateSigningRequest>,
    surroundings: &Surroundings,
    revoked: Option<u64>,
) -> Result<(), String> {
    let (key, request) = request(&surroundings.node)?;
    let made = requests.create(&PostParams::default(), &request).await.map_err(|why| why.to_string())?;
    let name = made.name_any();
    let deadline = Instant::now() + PATIENCE;
    let certificate = loop {
        let found = requests.get(&name).await.map_err(|why| format!("request {name}: {why}"))?;
        if let Some(certificate) = answer(&found).map_err(|why| format!("request {name}: {why}"))? {
            break certificate;
        }
        if Instant::now() >= deadline {
            return Err(format!("nobody has answered request {name}: is the operator running?"));
        }
        sleep(POLL).await;
    };
    let text = format!("{certificate}\n{key}");
    let state = surroundings.places.state();
    // What can't be used isn't put in the place of what can.
    replace(&state, SIGNED, text.as_bytes())?;
    let new = state.join(SIGNED);
    let files = IdentityFiles { certificate: new.clone(), key: new, ..surroundings.places.identity() };
    let signed =
        Identity::load(&files, &surroundings.node, unix_now()).map_err(|why| format!("what was signed: {why}"))?;
    if revoked.is_some_and(|moment| signed.not_before < moment) {
        return Err(
            "what was signed is revoked already: the clocks of operators differ, or one hasn't seen the list yet"
                .into(),
        );
    }
    replace(&state, "identity.pem", text.as_bytes())
}

/// A new key in PEM, and the request for its certificate.
fn request(node: &NodeName) -> Result<(String, CertificateSigningRequest), String> {
    let failed = |why: rcgen::Error| format!("can't make a request: {why}");
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)?;
    let mut params = CertificateParams::new(vec![node.as_str().to_owned()]).map_err(failed)?;
    params.distinguished_name.remove(DnType::CommonName);
    let name: String = node.as_str().chars().take(64).collect();
    params.distinguished_name.push(DnType::CommonName, name);
    let text = params.serialize_request(&key).and_then(|request| request.pem()).map_err(failed)?;
    let request = CertificateSigningRequest {
        metadata: ObjectMeta { generate_name: Some("syncmesh-agent-".into()), ..ObjectMeta::default() },
        spec: CertificateSigningRequestSpec {
            signer_name: SIGNER.into(),
            expiration_seconds: Some(LIFE_SECONDS),
            usages: Some(["digital signature", "client auth", "server auth"].map(Into::into).into()),
            request: k8s_openapi::ByteString(text.into_bytes()),
            ..CertificateSigningRequestSpec::default()
        },
        status: None,
    };
    Ok((key.serialize_pem(), request))
}

/// The certificate, once it is signed.
fn answer(request: &CertificateSigningRequest) -> Result<Option<String>, String> {
    let Some(status) = &request.status else { return Ok(None) };
    let no =
        status.conditions.iter().flatten().find(|condition| matches!(condition.type_.as_str(), "Denied" | "Failed"));
    if let Some(no) = no {
        let message = no.message.as_deref().or(no.reason.as_deref()).unwrap_or("without a word");
        return Err(format!("the operator says no: {message}"));
    }
    let Some(certificate) = status.certificate.as_ref().filter(|bytes| !bytes.0.is_empty()) else { return Ok(None) };
    String::from_utf8(certificate.0.clone()).map(Some).map_err(|_| "the certificate is no text".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::certificates::v1::{CertificateSigningRequestCondition, CertificateSigningRequestStatus};

    fn node() -> NodeName {
        NodeName::new("worker-1.site").unwrap()
    }

    #[test]
    fn a_request_names_the_node_alone() {
        let (key, request) = request(&node()).unwrap();
        assert!(key.contains("PRIVATE KEY"));
        let text = String::from_utf8(request.spec.request.0).unwrap();
        let read = rcgen::CertificateSigningRequestParams::from_pem(&text).unwrap();
        assert_eq!(read.params.subject_alt_names, [rcgen::SanType::DnsName("worker-1.site".try_into().unwrap())]);
    }

    #[test]
    fn a_refusal_is_said_and_a_certificate_waited_for() {
        let mut request = request(&node()).unwrap().1;
        assert_eq!(answer(&request), Ok(None));
        let denied = CertificateSigningRequestCondition {
            type_: "Denied".into(),
            message: Some("the pod isn't there".into()),
            ..CertificateSigningRequestCondition::default()
        };
        request.status = Some(CertificateSigningRequestStatus {
            conditions: Some(vec![denied]),
            ..CertificateSigningRequestStatus::default()
        });
        assert!(answer(&request).unwrap_err().contains("the pod isn't there"));
        request.status = Some(CertificateSigningRequestStatus {
            certificate: Some(k8s_openapi::ByteString(b"PEM".to_vec())),
            ..CertificateSigningRequestStatus::default()
        });
        assert_eq!(answer(&request), Ok(Some("PEM".into())));
    }

    #[test]
    fn another_certificate_is_needed_if_there_is_none_or_it_cant_be_used() {
        let (_dir, files, node) = crate::control::renewal::tests::issued();
        let begin = Identity::load(&files, &node, unix_now()).unwrap().not_before;
        assert_eq!(why_another(&files, &node, None), None);
        assert_eq!(why_another(&files, &node, Some(begin)), None);
        assert_eq!(why_another(&files, &node, Some(begin + 1)).as_deref(), Some("it is revoked"));
        assert!(why_another(&files, &NodeName::new("b").unwrap(), None).is_some());
        fs::remove_file(&files.certificate).unwrap();
        assert_eq!(why_another(&files, &node, None).as_deref(), Some("there is none yet"));
    }
}
