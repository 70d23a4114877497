//! Who gets a certificate, and who doesn't. The agents' image isn't there, so their pods never start; their tokens are real.

use crate::agent::{self, Agent, Wish, condition};
use crate::cluster::Cluster;
use crate::failure::{Failure, Outcome};
use crate::process::Operator;
use crate::rights;
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use syncmesh_crds::SyncMesh;
use syncmesh_crds::condition::Holds;
use syncmesh_operator::labels::ROTATE_CA;
use syncmesh_operator::mesh::desired::ACCOUNT;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate, parse_x509_pem};

/// Where operator and agents are.
const HOME: &str = "syncmesh-identity-home";
/// The mesh.
const MESH: &str = "e2e-identity";
/// Secret and ConfigMap of its authority.
const AUTHORITY: &str = "syncmesh-e2e-identity-ca";
/// A pod that runs under the agents' account and is no agent.
const STRANGER: &str = "stranger";

/// Tells it.
pub async fn tell(cluster: &Cluster) -> Outcome<()> {
    cluster.install_kinds().await?;
    cluster.open_namespace(HOME).await?;
    rights::of_agents(cluster, HOME).await?;
    let _operator = Operator::start(cluster, "identity", HOME).await?;
    cluster.stores(HOME, &mesh()).await?;
    let told = with_mesh(cluster).await;
    cluster.delete(HOME, &mesh()).await?;
    // The operator has to let it go, also after a failure.
    let gone = goes(cluster).await;
    told.and(gone)?;
    cluster.close_namespace(HOME).await
}

async fn with_mesh(cluster: &Cluster) -> Outcome<()> {
    let client = cluster.client();
    let bundles: Api<ConfigMap> = Api::namespaced(client.clone(), HOME);
    let bundle = cluster.see(&bundles, AUTHORITY, "the bundle that agents trust", |_| true).await?;
    let root = bundle.data.unwrap_or_default().remove("ca.pem").unwrap_or_default();
    let pod = agents_pod(cluster, &client).await?;
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).unwrap_or_default();
    println!("pod {} is on {node}", pod.name_any());
    let agent = Agent::of_pod(cluster, HOME, Some(&pod)).await?;
    is_signed(cluster, &agent, &node, &root).await?;
    are_refused(cluster, &agent, &pod, &node).await?;
    is_not_signed_by_approval(cluster, &agent).await?;
    root_changes(cluster, &client, &agent, &node, &root).await
}

/// A pod of the DaemonSet that is on a node.
async fn agents_pod(cluster: &Cluster, client: &Client) -> Outcome<Pod> {
    let agents: Api<DaemonSet> = Api::namespaced(client.clone(), HOME);
    let are_scheduled = |agents: &DaemonSet| {
        agents.status.as_ref().is_some_and(|status| {
            status.desired_number_scheduled > 0 && status.current_number_scheduled == status.desired_number_scheduled
        })
    };
    cluster.see(&agents, &format!("syncmesh-{MESH}"), "the agents' pods", are_scheduled).await?;
    let pods: Api<Pod> = Api::namespaced(client.clone(), HOME);
    let list = pods.list(&ListParams::default().labels(&agent::selector(MESH))).await;
    let list = list.map_err(Failure::to("list the agents' pods"))?.items;
    let first = list.first().map(ResourceExt::name_any).ok_or_else(|| Failure::new("there is no agent's pod"))?;
    let is_placed = |pod: &Pod| pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some());
    cluster.see(&pods, &first, "an agent's pod on a node", is_placed).await
}

async fn is_signed(cluster: &Cluster, agent: &Agent, node: &str, root: &str) -> Outcome<()> {
    let requests: Api<CertificateSigningRequest> = Api::all(cluster.client());
    let name = agent.ask(&Wish::of(node)).await?;
    let has_certificate = |request: &CertificateSigningRequest| {
        request.status.as_ref().is_some_and(|status| status.certificate.is_some())
    };
    let signed = cluster.see(&requests, &name, "the agent's certificate", has_certificate).await?;
    let pem = signed.status.and_then(|status| status.certificate).unwrap_or_default().0;
    let (rest, leaf) = parse_x509_pem(&pem).map_err(Failure::to("read the certificate"))?;
    let (_, root) = parse_x509_pem(root.as_bytes()).map_err(Failure::to("read the root"))?;
    let (_, leaf) = X509Certificate::from_der(&leaf.contents).map_err(Failure::to("read the certificate"))?;
    let (_, root) = X509Certificate::from_der(&root.contents).map_err(Failure::to("read the root"))?;
    leaf.verify_signature(Some(root.public_key())).map_err(Failure::to("verify the certificate by the bundle"))?;
    let names = leaf.subject_alternative_name().map_err(Failure::to("read the certificate's names"))?;
    let names = names.map(|names| names.value.general_names.clone()).unwrap_or_default();
    let days = leaf.validity().time_to_expiration().map(|left| left.whole_hours()).unwrap_or_default();
    if names != [GeneralName::DNSName(node)] || leaf.is_ca() || !rest.iter().all(u8::is_ascii_whitespace) {
        return Err(Failure::new(format!("the certificate has the names {names:?}")));
    }
    println!("signed: {name} for {node}, {days} hours left");
    Ok(())
}

/// Each kind of refusal, with what it says.
async fn are_refused(cluster: &Cluster, agent: &Agent, pod: &Pod, node: &str) -> Outcome<()> {
    let right = || Wish::of(node);
    let names = |names: &[&str]| Wish { names: names.iter().map(|name| (*name).to_owned()).collect(), ..right() };
    let (name, uid) = (pod.name_any(), pod.uid().unwrap_or_default());
    let unbound = Agent::of_pod(cluster, HOME, None).await?;
    let administrator = Agent::administrator(cluster);
    let gone = Agent::claimed(HOME, "syncmesh-gone", &uid, node).await?;
    let replaced = Agent::claimed(HOME, &name, "00000000-0000-0000-0000-000000000000", node).await?;
    let moved = Agent::claimed(HOME, &name, &uid, "elsewhere").await?;
    let stranger = Agent::of_pod(cluster, HOME, Some(&stranger(cluster, node).await?)).await?;
    let cases = [
        ("another node's name", agent, names(&["elsewhere"]), "OtherNames"),
        ("a second name", agent, names(&[node, "elsewhere"]), "OtherNames"),
        ("no name", agent, names(&[]), "OtherNames"),
        ("an address", agent, names(&["10.0.0.1"]), "OtherNames"),
        ("another use", agent, Wish { usages: vec!["digital signature", "client auth"], ..right() }, "OtherUsages"),
        ("15 days", agent, Wish { seconds: 15 * 24 * 3600, ..right() }, "TooLong"),
        ("a token that is bound to no pod", &unbound, right(), "TokenNotBound"),
        ("another account", &administrator, right(), "NotAnAgent"),
        ("a pod that is gone", &gone, right(), "PodMissing"),
        ("a pod that was made again", &replaced, right(), "AnotherPod"),
        ("a pod of another node", &moved, Wish::of("elsewhere"), "AnotherNode"),
        ("a pod that no mesh has made", &stranger, right(), "NoMesh"),
    ];
    let requests: Api<CertificateSigningRequest> = Api::all(cluster.client());
    let other = Wish { signer: "example.com/other", ..right() };
    let other = agent.ask(&other).await?;
    for (what, who, wish, reason) in cases {
        let name = who.ask(&wish).await?;
        let is_denied = |request: &CertificateSigningRequest| condition(request, "Denied").is_some();
        let denied = cluster.see(&requests, &name, &format!("{what} refused"), is_denied).await?;
        let (found, message) = condition(&denied, "Denied").unwrap_or_default();
        if found != reason || denied.status.is_some_and(|status| status.certificate.is_some()) {
            return Err(Failure::new(format!("{what} was refused for {found}, not for {reason}: {message}")));
        }
        println!("refused: {what}: {message}");
    }
    let other = requests.get(&other).await.map_err(Failure::to("read a request to another signer"))?;
    match other.status {
        Some(status) if status.conditions.is_some() || status.certificate.is_some() => {
            Err(Failure::new("a request to another signer was answered"))
        }
        Some(_) | None => {
            println!("left alone: a request to another signer");
            Ok(())
        }
    }
}

/// A pod under the agents' account that somebody made by hand. With an agent's labels the DaemonSet would adopt it.
async fn stranger(cluster: &Cluster, node: &str) -> Outcome<Pod> {
    let pods: Api<Pod> = Api::namespaced(cluster.client(), HOME);
    let pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": STRANGER },
        "spec": {
            "nodeName": node,
            "serviceAccountName": ACCOUNT,
            "containers": [{ "name": "main", "image": "syncmesh.test/agent:e2e", "imagePullPolicy": "Never" }],
        },
    });
    let pod = serde_json::from_value(pod).map_err(Failure::to("make a pod"))?;
    pods.create(&PostParams::default(), &pod).await.map_err(Failure::to("make a pod"))
}

/// Whoever else may approve: what is wrong stays wrong.
async fn is_not_signed_by_approval(cluster: &Cluster, agent: &Agent) -> Outcome<()> {
    let requests: Api<CertificateSigningRequest> = Api::all(cluster.client());
    // The operator may be faster: then it is denied, and can't be approved any more.
    for _ in 0..20 {
        let name = agent.ask(&Wish::of("elsewhere")).await?;
        let approval = json!({ "status": { "conditions": [
            { "type": "Approved", "status": "True", "reason": "Test", "message": "by hand" },
        ] } });
        let approved = requests.patch_approval(&name, &PatchParams::default(), &Patch::Merge(&approval)).await;
        let is_settled = |request: &CertificateSigningRequest| {
            condition(request, "Denied").is_some() || condition(request, "Failed").is_some()
        };
        let settled = cluster.see(&requests, &name, "a wrong request that was approved", is_settled).await?;
        if settled.status.as_ref().is_some_and(|status| status.certificate.is_some()) {
            return Err(Failure::new("a wrong request was signed, because somebody had approved it"));
        }
        if approved.is_ok() && condition(&settled, "Failed").is_some() {
            println!("failed: a wrong request that an administrator had approved");
            return Ok(());
        }
    }
    println!("not shown: nobody was faster with an approval than the operator with a refusal");
    Ok(())
}

/// The next root is in the bundle at once, and signs later; the one before is trusted for as long as its certificates hold.
async fn root_changes(cluster: &Cluster, client: &Client, agent: &Agent, node: &str, old_root: &str) -> Outcome<()> {
    let meshes: Api<SyncMesh> = Api::all(client.clone());
    let asked = json!({ "metadata": { "annotations": { ROTATE_CA: "one" } } });
    let patched = meshes.patch(MESH, &PatchParams::default(), &Patch::Merge(&asked)).await;
    patched.map_err(Failure::to("ask for another root"))?;
    let bundles: Api<ConfigMap> = Api::namespaced(client.clone(), HOME);
    let has_two = |bundle: &ConfigMap| {
        let text = bundle.data.as_ref().and_then(|data| data.get("ca.pem"));
        text.is_some_and(|text| text.matches("BEGIN CERTIFICATE").count() == 2 && !text.contains("PRIVATE"))
    };
    cluster.see(&bundles, AUTHORITY, "two roots in the bundle", has_two).await?;
    let introduces = |mesh: &SyncMesh| {
        let conditions = mesh.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
        conditions
            .iter()
            .any(|one| one.r#type == "AuthorityReady" && one.status == Holds::True && one.reason == "Introducing")
    };
    cluster.see(&meshes, MESH, "the mesh introducing a root", introduces).await?;
    println!("another root is in the bundle, and signs in ten minutes at the soonest");
    // Ten minutes and two weeks pass as the operator has them: in the Secret.
    pass(client, 3600).await?;
    let stands = |reason: &'static str| {
        move |mesh: &SyncMesh| {
            let conditions = mesh.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
            conditions.iter().any(|one| one.r#type == "AuthorityReady" && one.reason == reason)
        }
    };
    cluster.see(&meshes, MESH, "the root before retiring", stands("Retiring")).await?;
    let bundle = cluster.see(&bundles, AUTHORITY, "both roots in the bundle", has_two).await?;
    let new_root = bundle.data.unwrap_or_default().remove("ca.pem").unwrap_or_default();
    if new_root.starts_with(old_root) {
        return Err(Failure::new("the old root is still the one that signs"));
    }
    is_signed(cluster, agent, node, &new_root).await?;
    pass(client, 15 * 24 * 3600).await?;
    cluster.see(&meshes, MESH, "the old root dropped", stands("Signing")).await?;
    let is_new = |bundle: &ConfigMap| {
        let text = bundle.data.as_ref().and_then(|data| data.get("ca.pem"));
        text.is_some_and(|text| new_root.starts_with(text.as_str()))
    };
    cluster.see(&bundles, AUTHORITY, "the new root alone in the bundle", is_new).await?;
    println!("the new root signs, and the old one is out of the bundle");
    Ok(())
}

/// Lets a phase of the change of roots have begun so long ago.
async fn pass(client: &Client, seconds: i64) -> Outcome<()> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), HOME);
    let since = Timestamp::from_second(Timestamp::now().as_second() - seconds).map_err(Failure::to("count seconds"))?;
    let earlier = json!({ "stringData": { "since": since.to_string() } });
    let patched = secrets.patch(AUTHORITY, &PatchParams::default(), &Patch::Merge(&earlier)).await;
    patched.map(drop).map_err(Failure::to("let time pass in the Secret"))
}

/// A mesh without volumes goes with all that was made for it.
async fn goes(cluster: &Cluster) -> Outcome<()> {
    let client = cluster.client();
    cluster.see_gone::<SyncMesh>(&Api::all(client.clone()), MESH).await?;
    cluster.see_gone::<DaemonSet>(&Api::namespaced(client.clone(), HOME), &format!("syncmesh-{MESH}")).await?;
    cluster.see_gone::<Secret>(&Api::namespaced(client.clone(), HOME), AUTHORITY).await?;
    cluster.see_gone::<ConfigMap>(&Api::namespaced(client.clone(), HOME), AUTHORITY).await?;
    println!("the mesh is gone, with its agents and its authority");
    let pods: Api<Pod> = Api::namespaced(client, HOME);
    match pods.delete(STRANGER, &DeleteParams::default()).await {
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        deleted => deleted.map(drop).map_err(Failure::to("delete the stranger's pod")),
    }
}

fn mesh() -> Value {
    json!({ "apiVersion": "syncmesh.io/v1alpha1", "kind": "SyncMesh", "metadata": { "name": MESH }, "spec": {} })
}
