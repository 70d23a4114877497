//! What people do with `kubectl syncmesh`: each command on a volume of two nodes. Orphans, lost nodes and revocation have stories of
//! their own.

use crate::cluster::Cluster;
use crate::failure::{Failure, Outcome};
use crate::kind::Kind;
use crate::product::{self, Demo, until};
use crate::program::{mentions, repository, syncmesh};
use serde_json::Value;
use std::fs;
use std::time::Duration;

const SPACE: &str = "syncmesh-commands";
/// In a file, and nowhere in a report.
const SECRET: &str = "cuttlefish";

/// Tells it.
pub async fn tell(cluster: &Cluster) -> Outcome<()> {
    let kind = Kind::of_kubeconfig()?;
    product::install(&kind)?;
    let demo = Demo::new(cluster, SPACE, "{}").await?;
    waits_and_shows(&demo)?;
    pauses(&demo)?;
    brings_back(&demo)?;
    decides_conflicts(&kind, &demo)?;
    decides_holds(&demo)?;
    compares(&demo)?;
    reports(&demo)?;
    mentions(&syncmesh("completion bash")?, "kubectl-syncmesh")?;
    demo.close(cluster).await
}

fn say(line: &str) -> Outcome<String> {
    syncmesh(&format!("{line} -n {SPACE}"))
}

fn json(line: &str) -> Outcome<Value> {
    serde_json::from_str(&say(&format!("{line} -o json"))?).map_err(Failure::to(format!("read `{line}`")))
}

fn waits_and_shows(demo: &Demo) -> Outcome<()> {
    demo.sh(0, &format!("echo {SECRET} >/data/f"))?;
    say("wait demo --written")?;
    demo.sh(1, &format!("grep -qx {SECRET} /data/f"))?;
    println!("`wait --written`: what was written before is on the other node");
    for line in ["status demo", "status demo --live"] {
        let table = say(line)?;
        (0..2).try_for_each(|pod| mentions(&table, demo.node(pod)))?;
        println!("`{line}`:\n{}", table.trim_end());
    }
    mentions(&json("status demo")?.to_string(), demo.node(0))
}

fn pauses(demo: &Demo) -> Outcome<()> {
    say("pause demo")?;
    until("the volume paused", || mentions(&say("status demo")?, "Paused"))?;
    demo.sh(0, "echo held back >/data/g")?;
    std::thread::sleep(Duration::from_secs(2));
    demo.sh(1, "test ! -e /data/g")?;
    say("resume demo")?;
    demo.until(1, "what was written meanwhile", "grep -q held /data/g")?;
    say("wait demo --in-sync")?;
    println!("`pause` and `resume`: what was written meanwhile came afterwards");
    Ok(())
}

fn brings_back(demo: &Demo) -> Outcome<()> {
    demo.sh(0, "echo replaced >/data/f")?;
    say("wait demo --written")?;
    let versions = say("versions f --volume demo")?;
    mentions(&versions, demo.node(1))?;
    println!("`versions`:\n{}", versions.trim_end());
    say("restore f --volume demo")?;
    (0..2).try_for_each(|pod| demo.until(pod, "the version before", &format!("grep -qx {SECRET} /data/f")))?;
    println!("`restore`: the version that was replaced is back on both");
    Ok(())
}

fn decides_conflicts(kind: &Kind, demo: &Demo) -> Outcome<()> {
    demo.write_apart(kind, "/data/both")?;
    let name = asked("conflicts list demo")?;
    println!("`conflicts list`:\n{}", say("conflicts list demo")?.trim_end());
    say(&format!("conflicts resolve {name} winner"))?;
    until("no question any more", || {
        let left = json("conflicts list demo")?;
        if left == Value::Array(Vec::new()) { Ok(()) } else { Err(Failure::new(left.to_string())) }
    })?;
    for pod in 0..2 {
        demo.until(pod, "both versions", "cat /data/both* | sort | tr '\\n' ' ' | grep -qx 'one two '")?;
    }
    demo.same_files()?;
    println!("`conflicts resolve`: the winner has the name, the copy stays an ordinary file");
    Ok(())
}

fn decides_holds(demo: &Demo) -> Outcome<()> {
    demo.sh(0, "mkdir /data/d && cd /data/d && i=0; while [ $i -lt 400 ]; do echo $i >$i; i=$((i + 1)); done")?;
    say("wait demo --written")?;
    for (action, left) in [("reject", 400), ("approve", 0)] {
        demo.sh(0, "rm /data/d/*")?;
        let name = asked("holds list demo")?;
        say(&format!("holds {action} {name}"))?;
        for pod in 0..2 {
            demo.until(pod, &format!("{left} files"), &format!("test $(ls /data/d | wc -l) = {left}"))?;
        }
        say("wait demo --in-sync")?;
        println!("`holds {action}`: {left} files on both nodes");
    }
    Ok(())
}

fn compares(demo: &Demo) -> Outcome<()> {
    let (one, other) = (demo.node(0), demo.node(1));
    let found = json(&format!("diff {one} {other} --volume demo"))?;
    if found != Value::Array(Vec::new()) {
        return Err(Failure::new(format!("nodes in sync differ: {found}")));
    }
    println!("`diff`: nothing differs");
    Ok(())
}

/// A bundle for whoever helps has objects and logs, and no contents of files.
fn reports(demo: &Demo) -> Outcome<()> {
    let folder = repository().join("target/e2e/commands-report");
    let _ = fs::remove_dir_all(&folder);
    say(&format!("report --to {}", folder.display()))?;
    demo.sh(0, &format!("grep -qx {SECRET} /data/f"))?;
    let (mut files, mut folders) = (0, vec![folder]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).map_err(Failure::to("read the report"))? {
            let path = entry.map_err(Failure::to("read the report"))?.path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            files += 1;
            let bytes = fs::read(&path).map_err(Failure::to("read the report"))?;
            if String::from_utf8_lossy(&bytes).contains(SECRET) {
                return Err(Failure::new(format!("{} has the contents of a file", path.display())));
            }
        }
    }
    if files == 0 {
        return Err(Failure::new("the report is empty"));
    }
    println!("`report`: {files} files, and what is in the volume's files in none of them");
    Ok(())
}

/// The name of the only question that a command lists.
fn asked(list: &str) -> Outcome<String> {
    until("one question", || {
        let listed = json(list)?;
        let name = match listed.as_array().map(Vec::as_slice) {
            Some([one]) => one["metadata"]["name"].as_str(),
            _ => None,
        };
        name.map(str::to_owned).ok_or_else(|| Failure::new(format!("`{list}` says {listed}")))
    })
}
