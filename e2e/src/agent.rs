//! Somebody who asks for a certificate as an agent does, or as one does who shouldn't get one.

use crate::cluster::Cluster;
use crate::failure::{Failure, Outcome};
use k8s_openapi::ByteString;
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestSpec};
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::api::{Api, PostParams};
use kube::config::AuthInfo;
use kube::core::ObjectMeta;
use kube::{Client, Config, ResourceExt};
use rcgen::{CertificateParams, KeyPair};
use std::collections::BTreeMap;
use syncmesh_operator::identity::{LEAF_LIFE, SIGNER};
use syncmesh_operator::mesh::desired::ACCOUNT;

/// Somebody who asks.
pub struct Agent {
    client: Client,
}

/// What is asked for; an agent of this node would ask for just this.
#[derive(Clone, Debug)]
pub struct Wish {
    /// The names.
    pub names: Vec<String>,
    /// What it is to be used for.
    pub usages: Vec<&'static str>,
    /// How long it is to hold, in seconds.
    pub seconds: i32,
    /// Who is to sign.
    pub signer: &'static str,
}

impl Wish {
    /// What an agent of a node asks for.
    pub fn of(node: &str) -> Self {
        Self {
            names: vec![node.to_owned()],
            usages: vec!["digital signature", "client auth", "server auth"],
            seconds: i32::try_from(LEAF_LIFE.as_secs()).unwrap_or(i32::MAX),
            signer: SIGNER,
        }
    }
}

impl Agent {
    /// With a token of the agents' account, as the kubelet mounts one into a pod; bound to nothing where there is no pod.
    pub async fn of_pod(cluster: &Cluster, namespace: &str, pod: Option<&Pod>) -> Outcome<Self> {
        let accounts: Api<ServiceAccount> = Api::namespaced(cluster.client(), namespace);
        let bound = pod.map(|pod| BoundObjectReference {
            api_version: Some("v1".into()),
            kind: Some("Pod".into()),
            name: pod.metadata.name.clone(),
            uid: pod.metadata.uid.clone(),
        });
        let spec = TokenRequestSpec { audiences: Vec::new(), bound_object_ref: bound, expiration_seconds: Some(600) };
        let request = TokenRequest { spec, ..TokenRequest::default() };
        let token = accounts.create_token_request(ACCOUNT, &PostParams::default(), &request).await;
        let token = token.map_err(Failure::to("get a token of the agents' account"))?.status;
        let token = token.ok_or_else(|| Failure::new("the API server gave no token"))?.token;
        Self::with(|config| config.auth_info = AuthInfo { token: Some(token.into()), ..AuthInfo::default() }).await
    }

    /// As somebody else, whom the API server takes an administrator's word for.
    pub async fn claimed(namespace: &str, pod: &str, uid: &str, node: &str) -> Outcome<Self> {
        let extra = [("pod-name", pod), ("pod-uid", uid), ("node-name", node)];
        let extra = extra.map(|(key, value)| (format!("authentication.kubernetes.io/{key}"), vec![value.to_owned()]));
        Self::with(|config| {
            config.auth_info.impersonate = Some(format!("system:serviceaccount:{namespace}:{ACCOUNT}"));
            config.auth_info.impersonate_user_extra = Some(extra.into());
        })
        .await
    }

    /// Whoever runs the stories: an administrator, and no agent.
    pub fn administrator(cluster: &Cluster) -> Self {
        Self { client: cluster.client() }
    }

    /// For what nobody does in words of its own.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    async fn with(change: impl FnOnce(&mut Config)) -> Outcome<Self> {
        let mut config = Config::infer().await.map_err(Failure::to("read $KUBECONFIG"))?;
        change(&mut config);
        Ok(Self { client: Client::try_from(config).map_err(Failure::to("make a client"))? })
    }

    /// Asks. The result is the request's name.
    pub async fn ask(&self, wish: &Wish) -> Outcome<String> {
        let key = KeyPair::generate().map_err(Failure::to("make a key"))?;
        let params = CertificateParams::new(wish.names.clone()).map_err(Failure::to("make a request"))?;
        let pem = params.serialize_request(&key).and_then(|request| request.pem());
        let pem = pem.map_err(Failure::to("make a request"))?;
        let request = CertificateSigningRequest {
            metadata: ObjectMeta { generate_name: Some("syncmesh-agent-".into()), ..ObjectMeta::default() },
            spec: CertificateSigningRequestSpec {
                request: ByteString(pem.into_bytes()),
                signer_name: wish.signer.into(),
                usages: Some(wish.usages.iter().map(|usage| (*usage).to_owned()).collect()),
                expiration_seconds: Some(wish.seconds),
                ..CertificateSigningRequestSpec::default()
            },
            status: None,
        };
        let requests: Api<CertificateSigningRequest> = Api::all(self.client.clone());
        let made = requests.create(&PostParams::default(), &request).await;
        Ok(made.map_err(Failure::to("ask for a certificate"))?.name_any())
    }
}

/// A request's condition of a type: reason and message.
pub fn condition(request: &CertificateSigningRequest, r#type: &str) -> Option<(String, String)> {
    let conditions = request.status.as_ref()?.conditions.as_ref()?;
    let found = conditions.iter().find(|condition| condition.type_ == r#type)?;
    Some((found.reason.clone().unwrap_or_default(), found.message.clone().unwrap_or_default()))
}

/// Selects pods of a mesh's agents.
pub fn selector(mesh: &str) -> String {
    let labels: BTreeMap<String, String> = syncmesh_operator::labels::of_agents(mesh);
    labels.into_iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
}
