//! The product, installed, with a volume that pods on two nodes mount: what most stories begin with.

use crate::cluster::Cluster;
use crate::failure::{Failure, Outcome};
use crate::kind::Kind;
use crate::program::{apply, kubectl};
use crate::release::{self, HOME};
use std::time::{Duration, Instant};

/// How long things get that take a real cluster some seconds.
const PATIENCE: Duration = Duration::from_secs(120);

/// A namespace with a volume `demo`, and a pod on each of two nodes that mounts it at `/data`.
pub struct Demo {
    namespace: String,
    pods: [String; 2],
    nodes: [String; 2],
}

/// Installs the chart, unless an earlier story has.
pub fn install(kind: &Kind) -> Outcome<()> {
    let there = crate::program::run("helm", ["list", "--namespace", HOME, "--short"])?;
    if !there.lines().any(|line| line == release::RELEASE) {
        release::clear()?;
        kind.has_our_image()?;
        kind.has_busybox()?;
        kind.has_fresh_disks()?;
        release::install(&[])?;
    }
    kubectl("wait smesh/default --for=condition=Ready --timeout=120s").map(drop)
}

impl Demo {
    /// Makes them, and waits until the volume is in sync. `spec` stands below `spec:` of the SyncVolume.
    pub async fn new(cluster: &Cluster, namespace: &str, spec: &str) -> Outcome<Self> {
        kubectl(&format!("delete namespace {namespace} --ignore-not-found"))?;
        cluster.open_namespace(namespace).await?;
        apply(&format!("-n {namespace}"), &objects(spec))?;
        kubectl(&format!("rollout status -n {namespace} deployment/demo --timeout=120s"))?;
        let columns = "-o custom-columns=P:.metadata.name,N:.spec.nodeName --no-headers";
        let list = kubectl(&format!("get pods -n {namespace} -l app=demo {columns}"))?;
        let mut found: Vec<(String, String)> = list
            .lines()
            .filter_map(|line| line.split_once(char::is_whitespace))
            .map(|(pod, node)| (pod.to_owned(), node.trim().to_owned()))
            .collect();
        found.sort_by(|one, other| one.1.cmp(&other.1));
        let [(one, first), (other, second)] = <[(String, String); 2]>::try_from(found)
            .map_err(|found| Failure::new(format!("two pods are needed, there are {}", found.len())))?;
        let demo = Self { namespace: namespace.to_owned(), pods: [one, other], nodes: [first, second] };
        demo.in_sync()?;
        Ok(demo)
    }

    /// The node of the first or second pod.
    pub fn node(&self, pod: usize) -> &str {
        &self.nodes[pod]
    }

    /// Where its objects are.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Runs a shell's line in the first or second pod.
    pub fn sh(&self, pod: usize, line: &str) -> Outcome<String> {
        sh(&self.namespace, &self.pods[pod], line)
    }

    /// Waits until a shell's line in a pod succeeds.
    pub fn until(&self, pod: usize, what: &str, line: &str) -> Outcome<()> {
        until(what, || self.sh(pod, line).map(drop))
    }

    /// Waits until everything is on all nodes.
    pub fn in_sync(&self) -> Outcome<()> {
        in_sync(&self.namespace, "demo")
    }

    /// Where the files are on each node.
    pub fn directory(&self) -> Outcome<String> {
        Ok(format!("{}/data", place(&id(&self.namespace, "demo")?)))
    }

    /// Runs kubectl in the namespace.
    pub fn kubectl(&self, line: &str) -> Outcome<String> {
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        kubectl(&format!("{verb} -n {} {rest}", self.namespace))
    }

    /// Files of both pods with their contents' checksums, which have to be the same. How many.
    pub fn same_files(&self) -> Outcome<usize> {
        let list = sums("/data");
        let (one, other) = (self.sh(0, &list)?, self.sh(1, &list)?);
        if one == other {
            return Ok(one.lines().count());
        }
        let missing =
            |a: &str, b: &str| a.lines().filter(|line| !b.contains(line)).take(5).collect::<Vec<_>>().join("\n");
        Err(Failure::new(format!(
            "the pods' files differ. Only in the first:\n{}\nOnly in the second:\n{}",
            missing(&one, &other),
            missing(&other, &one)
        )))
    }

    /// Cuts the two nodes from each other, lets both pods write a file, `one` and `two`, and ends the cut.
    pub fn write_apart(&self, kind: &Kind, path: &str) -> Outcome<()> {
        kind.cut(self.node(0), self.node(1))?;
        let apart = self.write_while_cut(path);
        kind.mend(self.node(0))?;
        apart?;
        println!("the nodes are cut no more");
        Ok(())
    }

    fn write_while_cut(&self, path: &str) -> Outcome<()> {
        until("the cut noticed", || {
            let state = self.kubectl("get svol demo -o jsonpath={.status.state}")?;
            if state == "Degraded" { Ok(()) } else { Err(Failure::new(format!("it says {state}"))) }
        })?;
        println!("{}", self.kubectl("get svol")?.trim_end());
        self.sh(0, &format!("echo one >{path}"))?;
        self.sh(1, &format!("echo two >{path}"))?;
        std::thread::sleep(Duration::from_secs(2));
        let read = format!("cat {path}");
        let (one, other) = (self.sh(0, &read)?, self.sh(1, &read)?);
        if (one.trim(), other.trim()) == ("one", "two") {
            Ok(())
        } else {
            Err(Failure::new(format!("the nodes aren't cut: they have {one:?} and {other:?}")))
        }
    }

    /// Takes the namespace away.
    pub async fn close(self, cluster: &Cluster) -> Outcome<()> {
        cluster.close_namespace(&self.namespace).await
    }
}

/// Makes a pod on a node that mounts a claim at `/data`. It begins with a shell's line, whose words [`said`] gives.
pub fn pod(space: &str, name: &str, claim: &str, node: &str, begins: &str) -> Outcome<()> {
    let object = format!(
        "apiVersion: v1
kind: Pod
metadata: {{ name: {name} }}
spec:
  terminationGracePeriodSeconds: 1
  nodeSelector: {{ kubernetes.io/hostname: {node} }}
  containers:
    - name: main
      image: busybox:1.37
      imagePullPolicy: IfNotPresent
      command: [sh, -c, \"{begins}; trap exit TERM; while true; do sleep 1; done\"]
      volumeMounts: [{{ name: data, mountPath: /data }}]
  volumes: [{{ name: data, persistentVolumeClaim: {{ claimName: {claim} }} }}]
"
    );
    apply(&format!("-n {space}"), &object).map(drop)
}

/// Waits until a pod runs.
pub fn runs(space: &str, pod: &str) -> Outcome<()> {
    kubectl(&format!("wait -n {space} pod/{pod} --for=condition=Ready --timeout=120s")).map(drop)
}

/// What a pod has said.
pub fn said(space: &str, pod: &str) -> Outcome<String> {
    kubectl(&format!("logs -n {space} {pod}"))
}

/// Runs a shell's line in a pod.
pub fn sh(space: &str, pod: &str, line: &str) -> Outcome<String> {
    crate::program::run("kubectl", ["exec", "-n", space, pod, "--", "sh", "-ec", line])
}

/// Makes a volume. `spec` stands below `spec:`.
pub fn volume(space: &str, name: &str, spec: &str) -> Outcome<()> {
    let object =
        format!("apiVersion: syncmesh.io/v1alpha1\nkind: SyncVolume\nmetadata: {{ name: {name} }}\nspec: {spec}\n");
    apply(&format!("-n {space}"), &object).map(drop)
}

/// Waits until everything of a volume is on all its nodes.
pub fn in_sync(space: &str, volume: &str) -> Outcome<()> {
    kubectl(&format!("wait -n {space} svol/{volume} --for=condition=InSync --timeout=120s")).map(drop)
}

/// The name of a volume's directories.
pub fn id(space: &str, volume: &str) -> Outcome<String> {
    let id = kubectl(&format!("get svol -n {space} {volume} -o jsonpath={{.status.volumeID}}"))?;
    Ok(id.trim().to_owned())
}

/// Where directories of this name are on each node.
pub fn place(id: &str) -> String {
    format!("/var/lib/syncmesh/volumes/{id}")
}

/// The pod of the operator that leads.
pub fn leader() -> Outcome<String> {
    let holder = kubectl(&format!("get lease -n {HOME} syncmesh-operator -o jsonpath={{.spec.holderIdentity}}"))?;
    let pods = kubectl(&format!("get pods -n {HOME} -o name"))?;
    let mut pods = pods.lines().filter_map(|pod| pod.strip_prefix("pod/"));
    let pod = pods.find(|pod| holder.contains(pod)).map(str::to_owned);
    pod.ok_or_else(|| Failure::new(format!("the Lease is held by {holder:?}, which is no pod")))
}

/// What a field says of the pod of a node's agent, as a JSONPath below the pod: `.metadata.name`.
pub fn agent(node: &str, field: &str) -> Outcome<String> {
    let of_node = format!("-l app.kubernetes.io/name=syncmesh-agent --field-selector spec.nodeName={node}");
    Ok(kubectl(&format!("get pods -n {HOME} {of_node} -o jsonpath={{.items[0]{field}}}"))?.trim().to_owned())
}

/// A shell's line that prints the files below a directory with their contents' checksums.
pub fn sums(directory: &str) -> String {
    format!("cd {directory} && find . -type f -print0 | sort -z | xargs -0 -r sha256sum")
}

/// Tries again and again, for two minutes, and gives what came of it.
pub fn until<T>(what: &str, step: impl Fn() -> Outcome<T>) -> Outcome<T> {
    let start = Instant::now();
    loop {
        match step() {
            Ok(done) => return Ok(done),
            Err(failure) if start.elapsed() > PATIENCE => {
                return Err(Failure::new(format!("could not see {what}: {failure}")));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(300)),
        }
    }
}

/// From one time to another as `stat` prints them (`2026-11-27 20:43:42.123456789 +0000`), less than a day apart. Nodes of kind have one
/// clock, so they may be of different nodes.
pub fn milliseconds(from: &str, to: &str) -> Option<f64> {
    let second_of_day = |time: &str| {
        let mut parts = time.split_whitespace().nth(1)?.split(':');
        let mut next = || parts.next()?.parse::<f64>().ok();
        Some(next()? * 3_600.0 + next()? * 60.0 + next()?)
    };
    let difference = second_of_day(to)? - second_of_day(from)?;
    Some(1e3 * if difference < 0.0 { difference + 86_400.0 } else { difference })
}

fn objects(spec: &str) -> String {
    let spread = "{ maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: DoNotSchedule, labelSelector: { matchLabels: { app: demo } } }";
    format!(
        "apiVersion: syncmesh.io/v1alpha1
kind: SyncVolume
metadata: {{ name: demo }}
spec: {spec}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{ name: demo }}
spec:
  replicas: 2
  selector: {{ matchLabels: {{ app: demo }} }}
  template:
    metadata: {{ labels: {{ app: demo }} }}
    spec:
      terminationGracePeriodSeconds: 1
      topologySpreadConstraints: [ {spread} ]
      containers:
        - name: demo
          image: busybox:1.37
          imagePullPolicy: IfNotPresent
          command: [sh, -c, \"trap exit TERM; while true; do sleep 1; done\"]
          volumeMounts: [{{ name: data, mountPath: /data }}]
      volumes: [{{ name: data, persistentVolumeClaim: {{ claimName: demo }} }}]
"
    )
}
