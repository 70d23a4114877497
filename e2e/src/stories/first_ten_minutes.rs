//! The first chapter of docs/kubernetes.md, word for word.

use crate::cluster::Cluster;
use crate::failure::{Failure, Outcome};
use crate::guide::{self, Told};
use crate::kind::Kind;
use crate::product::milliseconds;
use crate::program::kubectl;
use crate::release;
use std::time::Duration;

/// The document.
const DOCUMENT: &str = "docs/kubernetes.md";
/// Its chapter.
const CHAPTER: &str = "The first ten minutes";
/// How long an installation may take, the mesh ready.
const INSTALLED: Duration = Duration::from_secs(60);
/// How long pods may take from the first word of them to running.
const RUNNING: Duration = Duration::from_secs(15);

/// Tells it.
pub async fn tell(_cluster: &Cluster) -> Outcome<()> {
    let kind = Kind::of_kubeconfig()?;
    release::clear()?;
    kubectl("delete namespace demo --ignore-not-found")?;
    kind.has_our_image()?;
    kind.has_busybox()?;
    kind.has_fresh_disks()?;
    let mut installing = Duration::ZERO;
    for block in guide::blocks(DOCUMENT, CHAPTER)? {
        let told = guide::run(&block)?;
        println!("-- {} ({:.1} s)\n{}", block.section, told.took.as_secs_f64(), told.text.trim_end());
        match block.section.as_str() {
            "Install" => installing += told.took,
            "A volume and two pods" if block.script.contains("rollout status") => {
                within(told.took, RUNNING, "two pods")?
            }
            "Write here, read there" => print_latency(&told)?,
            _ => {}
        }
    }
    within(installing, INSTALLED, "the installation")
}

fn within(took: Duration, limit: Duration, what: &str) -> Outcome<()> {
    println!("{what} took {:.1} s", took.as_secs_f64());
    if took <= limit {
        Ok(())
    } else {
        Err(Failure::new(format!("{what} took {:.1} s, more than {} s", took.as_secs_f64(), limit.as_secs())))
    }
}

/// From the pod's write to the file's appearance on the other node.
fn print_latency(told: &Told) -> Outcome<()> {
    let line = told.text.lines().find_map(|line| line.strip_prefix("written "));
    let took = line.and_then(|line| line.split_once(", here ")).and_then(|(written, here)| milliseconds(written, here));
    let took = took.ok_or_else(|| Failure::new(format!("no two times in: {}", told.text)))?;
    println!("from writing in one pod to being there for the other: {took:.1} ms");
    Ok(())
}
