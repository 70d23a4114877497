//! Ten thousand files from one pod, and claims that a StatefulSet makes.

use crate::cluster::Cluster;
use crate::failure::{Failure, Outcome};
use crate::kind::Kind;
use crate::product::{self, Demo, until};
use crate::program::{apply, kubectl, run};
use std::time::{Duration, Instant};

const FILES: usize = 10_000;
const SETS: &str = "syncmesh-sets";

/// Tells it.
pub async fn tell(cluster: &Cluster) -> Outcome<()> {
    let kind = Kind::of_kubeconfig()?;
    product::install(&kind)?;
    let demo = Demo::new(cluster, "syncmesh-many", "{}").await?;
    many(&demo)?;
    demo.close(cluster).await?;
    cluster.open_namespace(SETS).await?;
    let told = sets();
    cluster.close_namespace(SETS).await?;
    told
}

fn many(demo: &Demo) -> Outcome<()> {
    let start = Instant::now();
    let write = format!(
        "mkdir /data/many && cd /data/many && i=0; while [ $i -lt {FILES} ]; do echo \"file number $i\" >$i; i=$((i + 1)); done"
    );
    std::thread::scope(|scope| {
        let writing = scope.spawn(|| demo.sh(0, &write));
        let mut shown = 0;
        while shown < 3 && !writing.is_finished() {
            std::thread::sleep(Duration::from_millis(500));
            println!("{}", demo.kubectl("get svol demo --no-headers")?.trim_end());
            shown += 1;
        }
        writing.join().map_err(|_| Failure::new("the writing pod's thread panicked"))?.map(drop)
    })?;
    let written = start.elapsed().as_secs_f64();
    until("all files on the other node", || demo.sh(1, &format!("test $(ls /data/many | wc -l) = {FILES}")).map(drop))?;
    let there = start.elapsed().as_secs_f64();
    println!(
        "{FILES} files were written in {written:.1} s, and on the other node after {there:.1} s: {:.0} files/s",
        FILES as f64 / there
    );
    demo.in_sync()?;
    demo.same_files()?;
    until("what the columns say", || {
        let files = demo.kubectl("get svol demo -o jsonpath={.status.files}")?;
        if files.trim().parse() == Ok(FILES) { Ok(()) } else { Err(Failure::new(format!("FILES is {files}"))) }
    })?;
    println!("{}", demo.kubectl("get svol demo")?.trim_end());
    Ok(())
}

/// Each pod of the set has a volume of its own, on all nodes.
fn sets() -> Outcome<()> {
    let set = "apiVersion: apps/v1
kind: StatefulSet
metadata: { name: set }
spec:
  replicas: 2
  serviceName: set
  selector: { matchLabels: { app: set } }
  template:
    metadata: { labels: { app: set } }
    spec:
      terminationGracePeriodSeconds: 1
      containers:
        - name: set
          image: busybox:1.37
          imagePullPolicy: IfNotPresent
          command: [sh, -c, \"trap exit TERM; while true; do sleep 1; done\"]
          volumeMounts: [{ name: data, mountPath: /data }]
  volumeClaimTemplates:
    - metadata: { name: data }
      spec:
        storageClassName: syncmesh
        accessModes: [ReadWriteMany]
        resources: { requests: { storage: 1Gi } }
";
    let start = Instant::now();
    apply(&format!("-n {SETS}"), set)?;
    kubectl(&format!("rollout status -n {SETS} statefulset/set --timeout=120s"))?;
    println!("a StatefulSet of two, with a volume for each, runs after {:.1} s", start.elapsed().as_secs_f64());
    let sh = |pod: &str, line: &str| run("kubectl", ["exec", "-n", SETS, pod, "--", "sh", "-ec", line]);
    for pod in ["set-0", "set-1"] {
        sh(pod, &format!("echo {pod} >/data/name"))?;
    }
    // Wherever they come back, they have what is theirs.
    kubectl(&format!("delete pods -n {SETS} -l app=set"))?;
    kubectl(&format!("rollout status -n {SETS} statefulset/set --timeout=120s"))?;
    for pod in ["set-0", "set-1"] {
        until("its own file", || sh(pod, &format!("grep -qx {pod} /data/name")).map(drop))?;
    }
    println!("{}", kubectl(&format!("get svol -n {SETS}"))?.trim_end());
    Ok(())
}
