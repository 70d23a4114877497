//! What becomes of files when volumes, claims, kinds, releases and namespaces go and come again: nothing, unless somebody orders it.

use crate::cluster::Cluster;
use crate::failure::{Failure, Outcome};
use crate::kind::Kind;
use crate::product::{self, until};
use crate::program::{apply, kubectl, mentions, refused, syncmesh};
use crate::release;
use serde_json::Value;

const SPACE: &str = "syncmesh-lifecycle";
const FILES: usize = 50;
const PODS: [&str; 2] = ["one", "two"];

/// Two nodes, each with a pod while a volume is mounted.
struct Places {
    kind: Kind,
    nodes: [String; 2],
}

/// Tells it.
pub async fn tell(cluster: &Cluster) -> Outcome<()> {
    let kind = Kind::of_kubeconfig()?;
    product::install(&kind)?;
    let nodes = kind.workers()?;
    let places = Places { kind, nodes };
    kubectl(&format!("delete namespace {SPACE} --ignore-not-found"))?;
    cluster.open_namespace(SPACE).await?;
    product::volume(SPACE, "docs", "{}")?;
    places.mount("docs")?;
    product::sh(SPACE, "one", &format!("i=0; while [ $i -lt {FILES} ]; do echo $i >/data/$i; i=$((i + 1)); done"))?;
    let id = product::id(SPACE, "docs")?;
    product::in_sync(SPACE, "docs")?;
    places.claim_made_again("docs")?;
    places.deleted_under_pods(&id)?;
    places.ordered_away()?;
    places.kinds_deleted(&id)?;
    places.installed_again(&id)?;
    places.namespace_made_again(cluster, &id).await?;
    places.purged(&id)?;
    cluster.close_namespace(SPACE).await
}

impl Places {
    /// A claim that was deleted is made again, and leads to the same files.
    fn claim_made_again(&self, volume: &str) -> Outcome<()> {
        unmount()?;
        let uid = |name: &str| kubectl(&format!("get pvc -n {SPACE} {name} -o jsonpath={{.metadata.uid}}"));
        let before = uid(volume)?;
        kubectl(&format!("delete pvc -n {SPACE} {volume}"))?;
        until(
            "another claim",
            || if uid(volume)? == before { Err(Failure::new("it is the old one")) } else { Ok(()) },
        )?;
        kubectl(&format!("wait -n {SPACE} pvc/{volume} --for=jsonpath={{.status.phase}}=Bound --timeout=60s"))?;
        self.mount(volume)?;
        sees_all()?;
        println!("a claim that was deleted is there again, with its files");
        Ok(())
    }

    /// Its pods go on with a volume that is deleted, and are named. Then its files belong to nobody, until they are a volume again.
    fn deleted_under_pods(&self, id: &str) -> Outcome<()> {
        kubectl(&format!("delete svol -n {SPACE} docs --wait=false"))?;
        until("the pods named that use it", || {
            let message = kubectl(&format!(
                "get svol -n {SPACE} docs -o jsonpath={{.status.conditions[?(@.type==\"Terminating\")].message}}"
            ))?;
            if message.contains("delete one, two") { Ok(()) } else { Err(Failure::new(message)) }
        })?;
        product::sh(SPACE, "one", "echo late >/data/late")?;
        until("a file that was written meanwhile", || product::sh(SPACE, "two", "cat /data/late").map(drop))?;
        product::sh(SPACE, "one", "rm /data/late")?;
        until("its deletion", || product::sh(SPACE, "two", "test ! -e /data/late").map(drop))?;
        println!("a volume that is deleted under its pods names them, and goes on");
        let said = refused("purging what a volume has", self.purge(id, "--yes"))?;
        mentions(&said, "docs has")?;
        unmount()?;
        kubectl(&format!("wait svol/docs -n {SPACE} --for=delete --timeout=60s"))?;
        self.keeps(id, 2)?;
        orphan(id, 2, "thisOne")?;
        self.adopted(id)?;
        println!("without them it is gone, its files are on both nodes, and a volume adopts them");
        Ok(())
    }

    /// Delete deletes, once it is confirmed by name.
    fn ordered_away(&self) -> Outcome<()> {
        unmount()?;
        product::volume(SPACE, "scratch", "{ reclaimPolicy: Delete }")?;
        self.mount("scratch")?;
        product::sh(SPACE, "one", "echo 1 >/data/1")?;
        product::in_sync(SPACE, "scratch")?;
        let id = product::id(SPACE, "scratch")?;
        let said = refused("an unconfirmed deletion", kubectl(&format!("delete svol -n {SPACE} scratch")))?;
        mentions(&said, "syncmesh.io/confirm-delete=scratch")?;
        kubectl(&format!("annotate svol -n {SPACE} scratch syncmesh.io/confirm-delete=scratch"))?;
        kubectl(&format!("delete svol -n {SPACE} scratch --wait=false"))?;
        self.nodes.iter().try_for_each(|node| self.kind.on(node, &format!("test -s {}/1", data(&id))).map(drop))?;
        unmount()?;
        kubectl(&format!("wait svol/scratch -n {SPACE} --for=delete --timeout=60s"))?;
        for node in &self.nodes {
            self.kind.on(node, &format!("test ! -e {}", product::place(&id)))?;
        }
        println!("Delete deleted, after it was confirmed and its pods were gone");
        self.mount("docs")
    }

    /// Somebody deletes the kinds: first those that tell agents what to do, then all.
    fn kinds_deleted(&self, id: &str) -> Outcome<()> {
        kubectl("delete crd syncreplicas.syncmesh.io --timeout=60s")?;
        self.keeps(id, 2)?;
        product::sh(SPACE, "one", "echo unseen >/data/unseen")?;
        release::upgrade(&[])?;
        until("what was written without the kind", || product::sh(SPACE, "two", "cat /data/unseen").map(drop))?;
        product::sh(SPACE, "two", "rm /data/unseen")?;
        product::in_sync(SPACE, "docs")?;
        println!("SyncReplica was deleted and came back: pods and files stayed, what was written meanwhile arrived");
        unmount()?;
        let all =
            ["syncvolumes", "syncreplicas", "syncconflicts", "syncmeshes"].map(|kind| format!("{kind}.syncmesh.io"));
        kubectl(&format!("delete crd {} --timeout=180s", all.join(" ")))?;
        self.keeps(id, 2)?;
        release::upgrade(&[])?;
        apply("", "{apiVersion: syncmesh.io/v1alpha1, kind: SyncMesh, metadata: {name: default}}")?;
        kubectl("wait smesh/default --for=condition=Ready --timeout=120s")?;
        orphan(id, 2, "thisOne")?;
        self.adopted(id)?;
        println!("all kinds were deleted: no file went, and a volume has them again");
        Ok(())
    }

    /// The chart goes, by force, and comes again.
    fn installed_again(&self, id: &str) -> Outcome<()> {
        let force = "{\"data\":{\"uninstall\":\"force\"}}";
        kubectl(&format!("patch configmap syncmesh-operator -n {} --type merge -p {force}", release::HOME))?;
        release::uninstall()?;
        self.keeps(id, 2)?;
        product::sh(SPACE, "one", "echo alone >/data/alone")?;
        release::install(&[])?;
        kubectl("wait smesh/default --for=condition=Ready --timeout=120s")?;
        until("what was written without the chart", || product::sh(SPACE, "two", "cat /data/alone").map(drop))?;
        product::sh(SPACE, "two", "rm /data/alone")?;
        product::in_sync(SPACE, "docs")?;
        println!("the chart was uninstalled and installed again: pods stayed, what was written meanwhile arrived");
        Ok(())
    }

    /// A namespace that is made again doesn't get the files by its name, but from an administrator.
    async fn namespace_made_again(&self, cluster: &Cluster, id: &str) -> Outcome<()> {
        kubectl(&format!("delete namespace {SPACE} --timeout=120s"))?;
        self.keeps(id, 2)?;
        orphan(id, 2, "gone")?;
        cluster.open_namespace(SPACE).await?;
        orphan(id, 2, "anEarlierOne")?;
        product::volume(SPACE, "docs", &format!("{{ volumeID: {id} }}"))?;
        until("the refusal", || {
            let wide = kubectl(&format!("get svol -n {SPACE} docs -o wide"))?;
            mentions(&wide, "whose namespace was another one").and_then(|()| mentions(&wide, "orphans adopt"))
        })?;
        self.keeps(id, 2)?;
        self.adopted(id)?;
        println!("a namespace that was made again has its files, by an administrator's command");
        Ok(())
    }

    /// An administrator deletes an orphan: on the named node, after a word, and while no pod uses it.
    fn purged(&self, id: &str) -> Outcome<()> {
        unmount()?;
        kubectl(&format!("delete svol -n {SPACE} docs --timeout=60s"))?;
        orphan(id, 2, "thisOne")?;
        mentions(&refused("purging without a word", self.purge(id, ""))?, &format!("{FILES} files"))?;
        apply(&format!("-n {SPACE}"), &stray(&self.nodes[0], &data(id)))?;
        product::runs(SPACE, "stray")?;
        mentions(&refused("purging what a pod uses", self.purge(id, "--yes"))?, "/stray")?;
        kubectl(&format!("delete pod -n {SPACE} stray"))?;
        self.keeps(id, 2)?;
        println!("{}", self.purge(id, "--yes")?.trim_end());
        self.kind.on(&self.nodes[0], &format!("test ! -e {}", product::place(id)))?;
        self.keeps(id, 1)?;
        orphan(id, 1, "thisOne")
    }

    fn purge(&self, id: &str, yes: &str) -> Outcome<String> {
        syncmesh(&format!("orphans purge {id} --node {} {yes}", self.nodes[0]))
    }

    fn adopted(&self, id: &str) -> Outcome<()> {
        syncmesh(&format!("orphans adopt {id} --volume docs -n {SPACE}"))?;
        self.mount("docs")?;
        sees_all()?;
        product::in_sync(SPACE, "docs")
    }

    /// A pod on each node that mounts a volume.
    fn mount(&self, volume: &str) -> Outcome<()> {
        for (pod, node) in PODS.iter().zip(&self.nodes) {
            product::pod(SPACE, pod, volume, node, "true")?;
        }
        PODS.iter().try_for_each(|pod| product::runs(SPACE, pod))
    }

    /// All files are on the disks of the last so many nodes.
    fn keeps(&self, id: &str, nodes: usize) -> Outcome<()> {
        let count = format!("cd {} && test $(ls | grep -c '^[0-9]*$') = {FILES} && test $(cat 7) = 7", data(id));
        self.nodes.iter().rev().take(nodes).try_for_each(|node| self.kind.on(node, &count).map(drop))
    }
}

fn unmount() -> Outcome<()> {
    kubectl(&format!("delete pod -n {SPACE} --ignore-not-found {}", PODS.join(" "))).map(drop)
}

fn sees_all() -> Outcome<()> {
    let look = format!("test $(ls /data | wc -l) = {FILES} && test $(cat /data/7) = 7");
    PODS.iter().try_for_each(|pod| product::sh(SPACE, pod, &look).map(drop))
}

fn data(id: &str) -> String {
    format!("{}/data", product::place(id))
}

/// Waits until an orphan is listed on so many nodes, with all its files, and with what has become of its namespace.
fn orphan(id: &str, nodes: usize, made_in: &str) -> Outcome<()> {
    until("the orphan listed", || {
        let text = syncmesh("orphans list -o json")?;
        let all: Vec<Value> = serde_json::from_str(&text).map_err(Failure::to("read the list of orphans"))?;
        let fits = |one: &&Value| one["volumeID"] == id && one["madeIn"] == made_in && one["files"] == FILES;
        if all.iter().filter(fits).count() == nodes { Ok(()) } else { Err(Failure::new(text)) }
    })
}

/// A pod that uses a node's directory without asking anybody.
fn stray(node: &str, path: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: stray}}, spec: {{nodeName: {node}, terminationGracePeriodSeconds: 0, \
         containers: [{{name: main, image: 'busybox:1.37', imagePullPolicy: IfNotPresent, command: [sleep, '3600'], \
         volumeMounts: [{{name: data, mountPath: /data}}]}}], volumes: [{{name: data, hostPath: {{path: {path}}}}}]}}}}"
    )
}
