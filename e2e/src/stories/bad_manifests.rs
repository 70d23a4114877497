//! Manifests that can't be obeyed. Each is refused at once, or its object says in `kubectl get -o wide`, in a condition and in an event
//! what to do. What a schema alone refuses is in story `schema`.

use crate::cluster::Cluster;
use crate::failure::{Failure, Outcome};
use crate::kind::Kind;
use crate::product::{self, until};
use crate::program::{apply, kubectl, mentions, refused, run};

const SPACE: &str = "syncmesh-bad-manifests";

/// A volume that can't be had as it is written.
struct Bad {
    name: &'static str,
    spec: &'static str,
    /// The reason of its condition Ready.
    reason: &'static str,
    /// What it says.
    says: &'static str,
}

/// Those that need nothing but themselves, and volume `docs`.
const BAD: &[Bad] = &[
    Bad {
        name: "nowhere",
        spec: "{ mesh: nowhere }",
        reason: "MeshMissing",
        says: "mesh nowhere is not there: make it",
    },
    Bad {
        name: "unlisted",
        spec: "{ directory: media }",
        reason: "DirectoryNotListed",
        says: "lists no directory media: ask its administrator",
    },
    Bad {
        name: "homeless",
        spec: "{ nodes: { matchLabels: { e2e.syncmesh.io/none: \"yes\" } } }",
        reason: "NoReplicaReady",
        says: "no node fits: see the mesh's nodes and spec.nodes",
    },
    Bad {
        name: "globless",
        spec: "{ select: { exclude: [\"[z-a]\"] } }",
        reason: "NoReplicaReady",
        says: "select.exclude: ",
    },
    Bad {
        name: "taken",
        spec: "{}",
        reason: "ClaimTaken",
        says: "claim taken is there already and not this volume's: delete it, or name another one in spec.claims",
    },
];

/// Those that the mesh's limits stand against.
const OVER_LIMITS: &[Bad] = &[
    Bad {
        name: "endless",
        spec: "{}",
        reason: "CapacityMissing",
        says: "the mesh limits the sum of capacities: write spec.capacity",
    },
    Bad {
        name: "huge",
        spec: "{ capacity: 20Gi }",
        reason: "CapacityExceeded",
        says: "capacity 20Gi is more than the 9Gi that the mesh has left: make a smaller volume",
    },
];

/// Changes of volume `docs` that are refused, and what is said.
const FIXED: &[(&str, &str)] = &[
    ("{\"spec\":{\"mesh\":\"other\"}}", "mesh can't be changed: make a new object with the mesh that you want"),
    ("{\"spec\":{\"mode\":\"SingleWriter\"}}", "mode can't be changed"),
    ("{\"spec\":{\"nodes\":{\"matchLabels\":{\"a\":\"b\"}}}}", "nodes can't be changed"),
    ("{\"spec\":{\"root\":{\"uid\":7}}}", "root can't be changed"),
    ("{\"spec\":{\"volumeID\":\"another\"}}", "volumeID"),
    ("{\"spec\":{\"capacity\":\"1Mi\"}}", "capacity can grow and never shrink: write at least what it was"),
    ("{\"spec\":{\"paused\":\"maybe\"}}", "spec.paused"),
];

/// Tells it.
pub async fn tell(cluster: &Cluster) -> Outcome<()> {
    let kind = Kind::of_kubeconfig()?;
    product::install(&kind)?;
    kubectl(&format!("delete namespace {SPACE} --ignore-not-found"))?;
    cluster.open_namespace(SPACE).await?;
    product::volume(SPACE, "docs", "{ capacity: 1Gi }")?;
    product::in_sync(SPACE, "docs")?;
    fixed()?;
    apply_here(&foreign_claim())?;
    BAD.iter().try_for_each(told)?;
    the_claim_is_left_alone()?;
    one_directory_has_one_volume()?;
    let limited = limits();
    kubectl("patch smesh default --type=merge -p {\"spec\":{\"limits\":{\"capacity\":null}}}")?;
    limited?;
    classes()?;
    product::in_sync(SPACE, "docs")?;
    println!("the good volume is in sync all the same");
    cluster.close_namespace(SPACE).await
}

/// What can't be changed, and what kubectl doesn't even send.
fn fixed() -> Outcome<()> {
    for (change, part) in FIXED {
        let patch = ["patch", "svol", "docs", "-n", SPACE, "--type=merge", "-p", change];
        mentions(&refused(change, run("kubectl", patch))?, part)?;
    }
    let typo =
        refused("a field that isn't there", product::volume(SPACE, "typo", "{ nods: {} }").map(|()| String::new()))?;
    mentions(&typo, "unknown field \"spec.nods\"")?;
    println!("{} changes and a misspelt field were refused, each with what to do", FIXED.len());
    Ok(())
}

/// Makes it, and reads what a user sees.
fn told(bad: &Bad) -> Outcome<()> {
    product::volume(SPACE, bad.name, bad.spec)?;
    says(bad)?;
    println!("{}: {}", bad.name, bad.says);
    Ok(())
}

fn says(bad: &Bad) -> Outcome<()> {
    until(&format!("what {} says", bad.name), || {
        mentions(&kubectl(&format!("get svol -n {SPACE} {} -o wide", bad.name))?, bad.says)?;
        let ready = "{.status.conditions[?(@.type==\"Ready\")].reason}";
        mentions(&kubectl(&format!("get svol -n {SPACE} {} -o jsonpath={ready}", bad.name))?, bad.reason)?;
        let about = format!("involvedObject.kind=SyncVolume,involvedObject.name={}", bad.name);
        mentions(&kubectl(&format!("get events -n {SPACE} --field-selector {about}"))?, bad.says)
    })
}

/// Somebody's claim of the volume's name is as it was; once it is gone the volume has one of its own.
fn the_claim_is_left_alone() -> Outcome<()> {
    let owner = kubectl(&format!("get pvc -n {SPACE} taken -o jsonpath={{.metadata.labels}}{{.spec.volumeName}}"))?;
    if owner != "{\"owner\":\"somebody\"}" {
        return Err(Failure::new(format!("somebody's claim was changed: {owner}")));
    }
    kubectl(&format!("delete pvc -n {SPACE} taken"))?;
    kubectl(&format!("wait -n {SPACE} svol/taken --for=condition=Ready --timeout=60s"))?;
    println!("somebody's claim was left alone; without it the volume got its own");
    Ok(())
}

fn one_directory_has_one_volume() -> Outcome<()> {
    let id = product::id(SPACE, "docs")?;
    product::volume(SPACE, "twin", &format!("{{ volumeID: {id} }}"))?;
    let says_so = Bad {
        name: "twin",
        spec: "",
        reason: "DirectoryTaken",
        says: "volume syncmesh-bad-manifests/docs has the same files: delete one of the two",
    };
    says(&says_so)?;
    println!("twin: {}", says_so.says);
    Ok(())
}

/// Limits stand against new volumes; those that have files go on.
fn limits() -> Outcome<()> {
    kubectl(&format!("delete svol -n {SPACE} taken homeless globless"))?;
    kubectl("patch smesh default --type=merge -p {\"spec\":{\"limits\":{\"capacity\":\"10Gi\"}}}")?;
    OVER_LIMITS.iter().try_for_each(told)?;
    kubectl(&format!("patch svol -n {SPACE} docs --type=merge -p {{\"spec\":{{\"capacity\":\"11Gi\"}}}}"))?;
    until("the volume saying that it can't grow", || {
        let quota = "{.status.conditions[?(@.type==\"QuotaExceeded\")].message}";
        mentions(
            &kubectl(&format!("get svol -n {SPACE} docs -o jsonpath={quota}"))?,
            "capacity 11Gi is more than the 10Gi",
        )
    })?;
    product::in_sync(SPACE, "docs")
}

/// A claim whose class can't be obeyed says so in its events.
fn classes() -> Outcome<()> {
    let class = "{apiVersion: storage.k8s.io/v1, kind: StorageClass, metadata: {name: syncmesh-bad}, provisioner: syncmesh.io/volume, \
                 parameters: {mode: Sometimes}}";
    apply("", class)?;
    let claim = "{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: odd}, spec: {storageClassName: syncmesh-bad, \
                 accessModes: [ReadWriteMany], resources: {requests: {storage: 1Mi}}}}";
    apply_here(claim)?;
    let told = until("what the claim says", || {
        let events = kubectl(&format!("get events -n {SPACE} --field-selector involvedObject.name=odd"))?;
        mentions(&events, "parameter mode of its StorageClass can't be obeyed: write ReadWriteMany or SingleWriter")
    });
    kubectl("delete storageclass syncmesh-bad")?;
    told?;
    println!("a claim whose class can't be obeyed says so in its events");
    Ok(())
}

fn foreign_claim() -> String {
    "{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: taken, labels: {owner: somebody}}, spec: {storageClassName: '', \
     accessModes: [ReadWriteMany], resources: {requests: {storage: 1Mi}}}}"
        .into()
}

fn apply_here(object: &str) -> Outcome<()> {
    apply(&format!("-n {SPACE}"), object).map(drop)
}
