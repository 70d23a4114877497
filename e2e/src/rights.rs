//! Accounts with the rights that the chart gives, for stories that run without it. They go with their namespace.

use crate::cluster::Cluster;
use crate::failure::{Failure, Outcome};
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::rbac::v1::PolicyRule;
use kube::api::{Api, DynamicObject, Patch, PatchParams, PostParams};
use kube::config::{AuthInfo, Kubeconfig};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use syncmesh_operator::mesh::desired::ACCOUNT;
use syncmesh_operator::rights;

/// The operator's account.
const OPERATOR: &str = "syncmesh-operator";
/// How long its token holds, in seconds: longer than any story.
const SECONDS: i64 = 3600;

/// Gives the agents' account of a namespace its rights.
pub async fn of_agents(cluster: &Cluster, namespace: &str) -> Outcome<()> {
    give(cluster, namespace, ACCOUNT, rights::of_agent(), rights::of_agent_at_home()).await
}

/// Gives the operator's account of a namespace its rights, and writes a kubeconfig with which the operator has them.
pub async fn of_operator(cluster: &Cluster, namespace: &str, kubeconfig: &Path) -> Outcome<()> {
    let account = json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": OPERATOR } });
    apply(cluster, namespace, account).await?;
    give(cluster, namespace, OPERATOR, rights::of_operator(), rights::of_operator_at_home()).await?;
    let accounts: Api<ServiceAccount> = Api::namespaced(cluster.client(), namespace);
    let spec = TokenRequestSpec { expiration_seconds: Some(SECONDS), ..TokenRequestSpec::default() };
    let request = TokenRequest { spec, ..TokenRequest::default() };
    let token = accounts.create_token_request(OPERATOR, &PostParams::default(), &request).await;
    let token = token.map_err(Failure::to("get a token for the operator"))?.status;
    let token = token.ok_or_else(|| Failure::new("the API server gave no token"))?.token;
    let mut config = Kubeconfig::read().map_err(Failure::to("read $KUBECONFIG"))?;
    for named in &mut config.auth_infos {
        named.auth_info = Some(AuthInfo { token: Some(token.clone().into()), ..AuthInfo::default() });
    }
    // JSON is YAML, too.
    let text = serde_json::to_string(&config).map_err(Failure::to("write a kubeconfig"))?;
    fs::write(kubeconfig, text).map_err(Failure::to(format!("write {}", kubeconfig.display())))
}

async fn give(
    cluster: &Cluster,
    namespace: &str,
    account: &str,
    everywhere: Vec<PolicyRule>,
    at_home: Vec<PolicyRule>,
) -> Outcome<()> {
    let name = format!("{namespace}-{account}");
    let owner = cluster.namespace(namespace).await?;
    let owner = json!([{ "apiVersion": "v1", "kind": "Namespace", "name": namespace, "uid": owner.metadata.uid }]);
    let whole = json!({ "name": name, "ownerReferences": owner });
    let subjects = json!([{ "kind": "ServiceAccount", "name": account, "namespace": namespace }]);
    let role = |kind: &str| json!({ "apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name });
    let rbac = |kind: &str, metadata: &Value| json!({ "apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": metadata });
    let here = json!({ "name": name });
    let mut objects = [
        rbac("ClusterRole", &whole),
        rbac("ClusterRoleBinding", &whole),
        rbac("Role", &here),
        rbac("RoleBinding", &here),
    ];
    objects[0]["rules"] = json!(everywhere);
    objects[1]["roleRef"] = role("ClusterRole");
    objects[1]["subjects"] = subjects.clone();
    objects[2]["rules"] = json!(at_home);
    objects[3]["roleRef"] = role("Role");
    objects[3]["subjects"] = subjects;
    for object in objects {
        apply(cluster, namespace, object).await?;
    }
    Ok(())
}

async fn apply(cluster: &Cluster, namespace: &str, object: Value) -> Outcome<()> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (version, kind) = (text(&object["apiVersion"]), text(&object["kind"]));
    let (group, version) = version.split_once('/').unwrap_or(("", &version));
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, &kind));
    let api: Api<DynamicObject> = if kind.starts_with("Cluster") {
        Api::all_with(cluster.client(), &resource)
    } else {
        Api::namespaced_with(cluster.client(), namespace, &resource)
    };
    let name = text(&object["metadata"]["name"]);
    let by = PatchParams::apply("syncmesh-e2e").force();
    let applied = api.patch(&name, &by, &Patch::Apply(&object)).await;
    applied.map(drop).map_err(Failure::to(format!("apply {kind} {name}")))
}
