//! The chart without values: what it makes, what its policies refuse, how it is upgraded, and that nothing is left of it.

use crate::cluster::Cluster;
use crate::failure::{Failure, Outcome};
use crate::kind::Kind;
use crate::program::{apply, create, kubectl, refused};
use crate::release::{self, HOME};
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Api, ListParams, Patch, PatchParams};
use serde_json::json;
use std::time::Instant;
use syncmesh_crds::{SyncMesh, SyncReplica, SyncVolume};

/// A user's namespace.
const WEB: &str = "syncmesh-install-web";

/// Tells it.
pub async fn tell(cluster: &Cluster) -> Outcome<()> {
    let kind = Kind::of_kubeconfig()?;
    release::clear()?;
    kind.has_our_image()?;
    kind.has_busybox()?;
    kind.has_fresh_disks()?;
    let before = release::objects()?;
    installs(cluster).await?;
    cluster.open_namespace(WEB).await?;
    upgrades(cluster).await?;
    guards(cluster).await?;
    works()?;
    uninstalls(cluster).await?;
    cluster.close_namespace(WEB).await?;
    cluster.close_namespace(HOME).await?;
    release::nothing_is_left(&before)?;
    println!("nothing is left but the kinds");
    installs(cluster).await?;
    println!("it is installed again over the kinds that stayed");
    release::uninstall()?;
    cluster.close_namespace(HOME).await?;
    release::nothing_is_left(&before)
}

/// Operators are ready, and the default mesh has agents on every node that it should.
async fn installs(cluster: &Cluster) -> Outcome<()> {
    let start = Instant::now();
    let notes = release::install(&[])?;
    println!("installed in {:.1} s", start.elapsed().as_secs_f64());
    if !notes.contains("kubectl get smesh") {
        return Err(Failure::new(format!("the notes don't say how to go on: {notes}")));
    }
    let deployments: Api<Deployment> = Api::namespaced(cluster.client(), HOME);
    let both = |one: &Deployment| one.status.as_ref().and_then(|status| status.ready_replicas) == Some(2);
    cluster.see(&deployments, "syncmesh-operator", "both operators ready", both).await?;
    let meshes: Api<SyncMesh> = Api::all(cluster.client());
    let has_status = |mesh: &SyncMesh| mesh.status.as_ref().is_some_and(|status| status.agents.is_some());
    let mesh = cluster.see(&meshes, "default", "the default mesh with a status", has_status).await?;
    let agents: Api<DaemonSet> = Api::namespaced(cluster.client(), HOME);
    let is_scheduled = |set: &DaemonSet| {
        let status = set.status.as_ref();
        status
            .is_some_and(|s| s.desired_number_scheduled > 0 && s.current_number_scheduled == s.desired_number_scheduled)
    };
    let set = cluster.see(&agents, "syncmesh-default", "agents on all nodes", is_scheduled).await?;
    let scheduled = set.status.map_or(0, |status| status.desired_number_scheduled);
    let counted = mesh.status.and_then(|status| status.agents).unwrap_or_default();
    println!("operators are ready, {scheduled} agents are scheduled, the mesh says {counted}");
    if counted.ends_with(&format!("/{scheduled}")) {
        Ok(())
    } else {
        Err(Failure::new(format!("the DaemonSet wants {scheduled} agents, and the mesh says {counted}")))
    }
}

/// The chart's own test passes, and nobody lacked a right meanwhile.
fn works() -> Outcome<()> {
    kubectl("wait smesh/default --for=condition=Ready --timeout=120s")?;
    let start = Instant::now();
    release::test()?;
    println!("helm test passed in {:.1} s", start.elapsed().as_secs_f64());
    release::nobody_lacked_a_right()
}

/// What each admission policy refuses, and what it lets pass.
async fn guards(cluster: &Cluster) -> Outcome<()> {
    let volume =
        "{apiVersion: syncmesh.io/v1alpha1, kind: SyncVolume, metadata: {name: docs}, spec: {reclaimPolicy: Delete}}";
    apply(&format!("-n {WEB}"), volume)?;
    let replicas: Api<SyncReplica> = Api::namespaced(cluster.client(), WEB);
    let volumes: Api<SyncVolume> = Api::namespaced(cluster.client(), WEB);
    cluster.see(&volumes, "docs", "the volume with a status", |volume| volume.status.is_some()).await?;
    let all = replicas.list(&ListParams::default()).await.map_err(Failure::to("list replicas"))?.items;
    let pods: Api<Pod> = Api::namespaced(cluster.client(), HOME);
    let of_agents = ListParams::default().labels("app.kubernetes.io/name=syncmesh-agent");
    let pods = pods.list(&of_agents).await.map_err(Failure::to("list the agents' pods"))?.items;
    let node_of = |pod: &Pod| pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
    let (Some(pod), [first, second, ..]) = (pods.first(), &all[..]) else {
        return Err(Failure::new(format!(
            "two replicas and an agent are needed, there are {} and {}",
            all.len(),
            pods.len()
        )));
    };
    let own = if node_of(pod).as_deref() == Some(&first.spec.node) { (first, second) } else { (second, first) };
    let token = kubectl(&format!(
        "create token syncmesh-agent -n {HOME} --bound-object-kind Pod --bound-object-name {} --bound-object-uid {}",
        pod.name_any(),
        pod.uid().unwrap_or_default()
    ))?;
    let agent: Api<SyncReplica> = Api::namespaced(cluster.client_of(token.trim()).await?, WEB);
    writes_status(&agent, own.0).await?;
    told("an agent about another node", writes_status(&agent, own.1).await, "node of its own pod only")?;
    let replica = first.name_any();
    let spec = "{\"spec\":{\"paused\":true}}";
    told(
        "a person's change of a replica",
        kubectl(&format!("patch srep {replica} -n {WEB} --type=merge -p {spec}")),
        "only the operator",
    )?;
    let status = "{\"status\":{\"nodes\":\"9/9\"}}";
    let status = kubectl(&format!("patch svol docs -n {WEB} --subresource=status --type=merge -p {status}"));
    told("a person's change of a status", status, "only the operator")?;
    told(
        "an unconfirmed deletion",
        kubectl(&format!("delete svol docs -n {WEB} --wait=false")),
        "syncmesh.io/confirm-delete=docs",
    )?;
    let operator = format!("--as=system:serviceaccount:{HOME}:syncmesh-operator --dry-run=server");
    create(&operator, &persistent_volume("/var/lib/syncmesh/volumes/x/data"))?;
    told(
        "an operator's volume of the node's /etc",
        create(&operator, &persistent_volume("/etc")),
        "neither a volume below the root",
    )?;
    kubectl(&format!(
        "delete svol docs -n {WEB} --dry-run=server --as=system:serviceaccount:kube-system:namespace-controller --as-group=system:masters"
    ))?;
    Ok(())
}

fn told(what: &str, outcome: Outcome<String>, part: &str) -> Outcome<()> {
    let said = refused(what, outcome)?;
    if !said.contains(part) {
        return Err(Failure::new(format!("{what} was refused without `{part}`: {said}")));
    }
    println!("refused: {what}");
    Ok(())
}

/// Whether somebody may write a replica's status.
async fn writes_status(replicas: &Api<SyncReplica>, replica: &SyncReplica) -> Outcome<String> {
    let only_asked = PatchParams { dry_run: true, ..PatchParams::default() };
    let patch = Patch::Merge(json!({ "status": { "pending": 1 } }));
    let written = replicas.patch_status(&replica.name_any(), &only_asked, &patch).await;
    written.map(|_| "it was written".into()).map_err(Failure::to("write a replica's status"))
}

fn persistent_volume(path: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: PersistentVolume, metadata: {{name: e2e-policy, labels: {{syncmesh.io/mesh: default}}}}, \
         spec: {{capacity: {{storage: 1Mi}}, accessModes: [ReadWriteMany], persistentVolumeReclaimPolicy: Retain, \
         hostPath: {{path: {path}}}}}}}"
    )
}

/// Values change, the mesh is its administrator's, and one that was deleted stays so.
async fn upgrades(cluster: &Cluster) -> Outcome<()> {
    let meshes: Api<SyncMesh> = Api::all(cluster.client());
    let uid = |mesh: SyncMesh| mesh.uid();
    let before = meshes.get("default").await.map(uid).map_err(Failure::to("read the mesh"))?;
    release::upgrade(&["--set", "operator.logLevel=debug"])?;
    let after = meshes.get("default").await.map(uid).map_err(Failure::to("read the mesh"))?;
    if before != after {
        return Err(Failure::new("the upgrade made another mesh"));
    }
    println!("upgraded, with the same mesh");
    kubectl("delete smesh default")?;
    release::upgrade(&["--set", "operator.logLevel=info"])?;
    // What the new leader says of a volume shows that it has begun to work.
    apply(&format!("-n {WEB}"), "{apiVersion: syncmesh.io/v1alpha1, kind: SyncVolume, metadata: {name: early}}")?;
    let volumes: Api<SyncVolume> = Api::namespaced(cluster.client(), WEB);
    let misses = |volume: &SyncVolume| {
        let message = volume.status.as_ref().and_then(|status| status.message.as_deref());
        message.is_some_and(|message| message.contains("is not there"))
    };
    cluster.see(&volumes, "early", "the volume missing its mesh", misses).await?;
    if meshes.get_opt("default").await.map_err(Failure::to("read the mesh"))?.is_some() {
        return Err(Failure::new("a mesh that was deleted is there again"));
    }
    println!("a mesh that was deleted stays deleted, also after an upgrade");
    kubectl(&format!("delete svol early -n {WEB}"))?;
    apply("", "{apiVersion: syncmesh.io/v1alpha1, kind: SyncMesh, metadata: {name: default}}").map(drop)
}

/// Not while there are volumes, unless somebody says so; then not a file, claim or volume goes.
async fn uninstalls(cluster: &Cluster) -> Outcome<()> {
    let said = refused("uninstalling with a volume", release::uninstall())?;
    let logs = kubectl(&format!("logs -n {HOME} job/syncmesh-uninstall"))?;
    if !logs.contains(&format!("{WEB}/docs: /var/lib/syncmesh/volumes/")) || !logs.contains("kubectl patch configmap") {
        return Err(Failure::new(format!("the hook doesn't say where files are and how to go on: {logs}\n{said}")));
    }
    println!("refused: uninstalling with a volume:\n{logs}");
    // Helm takes no upgrade once an uninstallation was refused, so this is what the hook says.
    kubectl(&format!(
        "patch configmap syncmesh-operator -n {HOME} --type merge -p {{\"data\":{{\"uninstall\":\"force\"}}}}"
    ))?;
    release::uninstall()?;
    let volumes: Api<SyncVolume> = Api::namespaced(cluster.client(), WEB);
    let volume = volumes.get("docs").await.map_err(Failure::to("read the volume, which has to stay"))?;
    kubectl(&format!("get pvc docs -n {WEB}"))?;
    if !volume.finalizers().is_empty() {
        return Err(Failure::new("the volume has a finalizer that nobody is left to take away"));
    }
    println!("uninstalled by force; the volume and its claim stayed");
    // What the user does who is left with them. Policies that are gone may be obeyed for a second yet.
    kubectl(&format!("annotate svol docs -n {WEB} syncmesh.io/confirm-delete=docs"))?;
    kubectl(&format!("delete svol,srep,pvc --all -n {WEB}"))?;
    kubectl("delete persistentvolume -l app.kubernetes.io/managed-by=syncmesh").map(drop)
}
