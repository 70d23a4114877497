//! The chart's release in the cluster.

use crate::failure::{Failure, Outcome};
use crate::program::{kubectl, run};
use std::collections::BTreeSet;

/// The release, as documents call it.
pub const RELEASE: &str = "syncmesh";
/// Its namespace.
pub const HOME: &str = "syncmesh-system";
/// The chart.
const CHART: &str = "charts/syncmesh";

/// Installs the chart and waits until its own objects are ready and the mesh is there. The result is what Helm prints, notes included.
pub fn install(flags: &[&str]) -> Outcome<String> {
    let fixed = ["install", RELEASE, CHART, "--namespace", HOME, "--create-namespace", "--wait", "--timeout", "120s"];
    let notes = run("helm", [&fixed[..], flags].concat())?;
    kubectl("wait smesh/default --for=create --timeout=60s")?;
    Ok(notes)
}

/// Upgrades it with these flags, its other values as they were.
pub fn upgrade(flags: &[&str]) -> Outcome<String> {
    let fixed = ["upgrade", RELEASE, CHART, "--namespace", HOME, "--reuse-values", "--wait", "--timeout", "120s"];
    run("helm", [&fixed[..], flags].concat())
}

/// Runs the chart's own test. The result is what its pods said.
pub fn test() -> Outcome<String> {
    run("helm", ["test", RELEASE, "--namespace", HOME, "--timeout", "180s"])
}

/// Fails when operators or agents were refused something: their roles are all that they use, and no less.
pub fn nobody_lacked_a_right() -> Outcome<()> {
    for who in ["syncmesh-operator", "syncmesh-agent"] {
        let log = kubectl(&format!("logs -n {HOME} -l app.kubernetes.io/name={who} --tail=-1 --prefix"))?;
        if let Some(line) = log.lines().find(|line| line.contains("is forbidden: User")) {
            return Err(Failure::new(format!("{who} lacks a right: {line}")));
        }
    }
    Ok(())
}

/// Uninstalls it as people do.
pub fn uninstall() -> Outcome<String> {
    run("helm", ["uninstall", RELEASE, "--namespace", HOME, "--wait", "--timeout", "240s"])
}

/// Takes away whatever an earlier story left, kinds and all.
pub fn clear() -> Outcome<()> {
    let releases = run("helm", ["list", "--namespace", HOME, "--all", "--short"])?;
    if releases.lines().any(|line| line == RELEASE) {
        println!("an earlier story left a release; it is taken away");
        run("helm", ["uninstall", RELEASE, "--namespace", HOME, "--no-hooks", "--wait"])?;
    }
    let kinds = kubectl("get crd -o name")?;
    for kind in ["syncvolumes", "syncreplicas", "syncconflicts", "syncmeshes"] {
        if !kinds.contains(&format!("/{kind}.syncmesh.io")) {
            continue;
        }
        release_all(kind)?;
        kubectl(&format!("delete crd {kind}.syncmesh.io"))?;
    }
    kubectl("delete persistentvolume -l app.kubernetes.io/managed-by=syncmesh --wait=false")?;
    kubectl(&format!("delete namespace {HOME} --ignore-not-found"))?;
    Ok(())
}

/// Takes finalizers away that nobody is left to take away.
fn release_all(kind: &str) -> Outcome<()> {
    let columns = "--no-headers -o custom-columns=N:.metadata.namespace,M:.metadata.name";
    for line in kubectl(&format!("get {kind}.syncmesh.io -A {columns}"))?.lines() {
        let mut words = line.split_whitespace();
        if let (Some(namespace), Some(name)) = (words.next(), words.next()) {
            let inside = if namespace == "<none>" { String::new() } else { format!("-n {namespace}") };
            kubectl(&format!(
                "patch {kind}.syncmesh.io {name} {inside} --type=merge -p {{\"metadata\":{{\"finalizers\":null}}}}"
            ))?;
        }
    }
    Ok(())
}

/// All objects of the cluster, but for those that come and go by themselves.
pub fn objects() -> Outcome<BTreeSet<String>> {
    let kinds = kubectl("api-resources --verbs=list -o name")?;
    let kinds: Vec<&str> =
        kinds.lines().filter(|kind| !kind.starts_with("events") && !kind.starts_with("componentstatuses")).collect();
    let columns = "-o custom-columns=K:.kind,N:.metadata.namespace,M:.metadata.name --no-headers";
    let all = kubectl(&format!("get {} -A {columns}", kinds.join(",")))?;
    let squeezed = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    Ok(all.lines().map(squeezed).filter(|line| !line.starts_with("Lease kube-")).collect())
}

/// Fails when there is something now that wasn't there before, but for our kinds, which stay on purpose.
pub fn nothing_is_left(before: &BTreeSet<String>) -> Outcome<()> {
    let left: Vec<String> = objects()?
        .difference(before)
        // The API server has an APIService for each group of kinds, and the cluster itself clears requests for certificates away, within an
        // hour of their answer.
        .filter(|line| {
            let is_kind = line.starts_with("CustomResourceDefinition ") || line.starts_with("APIService ");
            !(line.starts_with("CertificateSigningRequest ") || is_kind && line.ends_with(".syncmesh.io"))
        })
        .cloned()
        .collect();
    if left.is_empty() { Ok(()) } else { Err(Failure::new(format!("these objects were left:\n{}", left.join("\n")))) }
}
