//! Nodes that are labelled in and out, and one that is lost with files and replaced under its name. No pod ever sees an empty directory.

use crate::cluster::Cluster;
use crate::failure::{Failure, Outcome};
use crate::kind::Kind;
use crate::product::{self, until};
use crate::program::{kubectl, mentions, refused, syncmesh};
use std::time::Instant;

const SPACE: &str = "syncmesh-nodes";
/// Nodes with these labels have the volumes.
const DOCS: &str = "e2e.syncmesh.io/docs";
const LATE: &str = "e2e.syncmesh.io/late";
const FILES: usize = 300;
/// What a pod says first of all: how many files it sees.
const LOOK: &str = "ls /data | wc -l";

/// Two nodes. The first one has all volumes from the beginning.
struct Places {
    kind: Kind,
    home: String,
    other: String,
}

/// Tells it.
pub async fn tell(cluster: &Cluster) -> Outcome<()> {
    let kind = Kind::of_kubeconfig()?;
    product::install(&kind)?;
    let [home, other] = kind.workers()?;
    let places = Places { kind, home, other };
    kubectl(&format!("delete namespace {SPACE} --ignore-not-found"))?;
    cluster.open_namespace(SPACE).await?;
    kubectl(&format!("label node {} {DOCS}- {LATE}-", places.other))?;
    kubectl(&format!("label node {} {DOCS}=yes {LATE}=yes --overwrite", places.home))?;
    volume("docs", DOCS)?;
    volume("late", LATE)?;
    for name in ["docs", "late"] {
        product::pod(SPACE, name, name, &places.home, "true")?;
        product::runs(SPACE, name)?;
        let write =
            format!("i=0; while [ $i -lt {FILES} ]; do head -c 3000 /dev/urandom >/data/$i; i=$((i + 1)); done");
        product::sh(SPACE, name, &write)?;
    }
    places.labelled_in_and_out()?;
    places.first_look()?;
    places.lost_and_replaced()?;
    places.lost_with_nothing()?;
    kubectl(&format!("label node {} {} {DOCS}- {LATE}-", places.home, places.other))?;
    cluster.close_namespace(SPACE).await
}

impl Places {
    /// Files arrive before any pod mounts them; what happens while the node is out is there when it is in again.
    fn labelled_in_and_out(&self) -> Outcome<()> {
        let data = format!("{}/data", product::place(&product::id(SPACE, "docs")?));
        let start = Instant::now();
        self.label(DOCS)?;
        self.has(&data, FILES)?;
        println!("labelled in: {FILES} files are there after {:.1} s, and no pod has mounted them yet", seconds(start));
        product::in_sync(SPACE, "docs")?;
        kubectl(&format!("label node {} {DOCS}-", self.other))?;
        self.replicas("docs", 1)?;
        product::sh(SPACE, "docs", "rm /data/0 && echo new >/data/new")?;
        self.has(&data, FILES)?;
        self.kind.on(&self.home, &format!("cd {data} && test -e new && test ! -e 0"))?;
        println!("labelled out: the replica is gone, the files are on both nodes");
        self.label(DOCS)?;
        until("what happened meanwhile", || {
            self.kind.on(&self.other, &format!("cd {data} && grep -q new new && test ! -e 0")).map(drop)
        })?;
        product::in_sync(SPACE, "docs")?;
        self.kind.on(&self.home, &format!("test ! -e {data}/0"))?;
        println!("labelled in again: what was written and deleted meanwhile is so there, too");
        Ok(())
    }

    /// A pod that is there before the files waits for them.
    fn first_look(&self) -> Outcome<()> {
        let place = product::place(&product::id(SPACE, "late")?);
        self.kind.cut(&self.other, &self.home)?;
        let cut = self.waits(&place);
        self.kind.mend(&self.other)?;
        let inode = cut?;
        product::runs(SPACE, "early")?;
        sees("early", FILES)?;
        if inode != self.kind.on(&self.other, &format!("stat -c %i {place}/data"))? {
            return Err(Failure::new("the directory that pods mount isn't the one that was filled"));
        }
        println!("a pod waited for its first look until all {FILES} files were there");
        Ok(())
    }

    /// The node has the volume, and can reach nobody who has the files. The result is the inode of what will be filled.
    fn waits(&self, place: &str) -> Outcome<String> {
        self.label(LATE)?;
        product::pod(SPACE, "early", "late", &self.other, LOOK)?;
        until("the pod told to wait", || {
            let events = kubectl(&format!("get events -n {SPACE} --field-selector involvedObject.name=early"))?;
            if events.contains("hostPath type check failed") { Ok(()) } else { Err(Failure::new(events)) }
        })?;
        let phase = kubectl(&format!("get pod -n {SPACE} early -o jsonpath={{.status.phase}}"))?;
        if phase != "Pending" {
            return Err(Failure::new(format!("a pod whose files haven't come is {phase}")));
        }
        self.kind.on(&self.other, &format!("test ! -e {place}/data && stat -c %i {place}/incoming"))
    }

    /// A node goes with a file that nobody else has. Its name is another machine's then, and what it took is given up.
    fn lost_and_replaced(&self) -> Outcome<()> {
        let data = format!("{}/data", product::place(&product::id(SPACE, "late")?));
        self.kind.cut(&self.home, &self.other)?;
        let alone = product::sh(SPACE, "early", "echo alone >/data/alone").and_then(|_| {
            let of_other = format!("{{.items[?(@.spec.node==\"{}\")].status.onlyCopyFiles}}", self.other);
            until("the mesh knowing that a node has what others don't", || {
                let only = crate::program::run(
                    "kubectl",
                    ["get", "srep", "-n", SPACE, "-o", &format!("jsonpath={of_other}")],
                )?;
                // Both of its volumes told 0 before.
                if only.trim() == "0 0" { Err(Failure::new("it says that all is elsewhere, too")) } else { Ok(()) }
            })
        });
        let lost = alone.and_then(|()| self.kind.lose(&self.other));
        self.kind.mend(&self.home)?;
        lost?;
        kubectl("wait smesh/default --for=condition=NodeLostWithData --timeout=60s")?;
        println!("{}", kubectl("get smesh default -o jsonpath={.status.message}")?);
        kubectl(&format!("delete pod -n {SPACE} early --force --grace-period=0 --ignore-not-found"))?;
        self.kind.replace(&self.other)?;
        self.label(LATE)?;
        product::pod(SPACE, "again", "late", &self.other, LOOK)?;
        product::runs(SPACE, "again")?;
        sees("again", FILES)?;
        self.has(&data, FILES)?;
        println!("a pod on it saw all {FILES} files of the others at once");
        kubectl("wait smesh/default --for=condition=NodeLostWithData --timeout=5s")?;
        let said = refused("giving files up without a word", syncmesh(&format!("forget-node {}", self.other)))?;
        mentions(&said, "--yes")?;
        syncmesh(&format!("forget-node {} --yes", self.other))?;
        self.nothing_is_missed()?;
        println!("the first machine is given up, the second one is a member");
        Ok(())
    }

    /// A node that had nothing of its own is forgotten by itself.
    fn lost_with_nothing(&self) -> Outcome<()> {
        product::in_sync(SPACE, "late")?;
        self.kind.lose(&self.other)?;
        self.replicas("late", 1)?;
        self.nothing_is_missed()?;
        println!("lost with nothing that others don't have: forgotten by itself");
        kubectl(&format!("delete pod -n {SPACE} again --force --grace-period=0 --ignore-not-found"))?;
        self.kind.replace(&self.other)?;
        kubectl("wait smesh/default --for=condition=Ready --timeout=120s").map(drop)
    }

    fn label(&self, label: &str) -> Outcome<()> {
        kubectl(&format!("label node {} {label}=yes --overwrite", self.other)).map(drop)
    }

    fn has(&self, data: &str, files: usize) -> Outcome<()> {
        until(&format!("{files} files on {}", self.other), || {
            self.kind.on(&self.other, &format!("test $(ls {data} | wc -l) = {files}")).map(drop)
        })
    }

    fn replicas(&self, volume: &str, count: usize) -> Outcome<()> {
        until(&format!("{count} replicas"), || {
            let all = kubectl(&format!("get srep -n {SPACE} -o name -l syncmesh.io/volume={volume}"))?;
            if all.lines().count() == count { Ok(()) } else { Err(Failure::new(all)) }
        })
    }

    fn nothing_is_missed(&self) -> Outcome<()> {
        until("no machine missed", || {
            let members = kubectl("get smesh default -o jsonpath={.status.members}")?;
            if members.contains("LostWithData") { Err(Failure::new(members)) } else { Ok(()) }
        })
    }
}

/// How many files were there when a pod looked first.
fn sees(pod: &str, files: usize) -> Outcome<()> {
    let first = product::said(SPACE, pod)?;
    if first.trim() == files.to_string() {
        return Ok(());
    }
    Err(Failure::new(format!("pod {pod} began with {} files instead of {files}", first.trim())))
}

fn volume(name: &str, label: &str) -> Outcome<()> {
    product::volume(SPACE, name, &format!("{{ nodes: {{ matchLabels: {{ {label}: \"yes\" }} }} }}"))
}

fn seconds(start: Instant) -> f64 {
    start.elapsed().as_secs_f64()
}
