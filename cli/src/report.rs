//! `report`: a folder for whoever helps: objects, events and logs. No contents of files, and no Secrets; names of files are in conflicts
//! and logs.

use crate::failure::{Failure, Outcome};
use crate::session::Session;
use crate::show::print;
use std::fs;
use std::path::PathBuf;

/// Objects of ours, and those that tell why ours are as they are.
const OBJECTS: &[(&str, &str)] = &[
    ("syncmesh.yaml", "get smesh,svol,srep,sconf -A -o yaml"),
    ("workloads.yaml", "get daemonset,deployment,service,pod -A -l app.kubernetes.io/part-of=syncmesh -o yaml"),
    ("agents.yaml", "get daemonset,service,pod -A -l app.kubernetes.io/managed-by=syncmesh -o yaml"),
    ("claims.yaml", "get pv,pvc -A -l app.kubernetes.io/managed-by=syncmesh -o yaml"),
    ("nodes.txt", "get nodes -o wide"),
    ("events.txt", "get events -A --sort-by=.lastTimestamp"),
    ("certificates.txt", "get csr"),
    ("version.yaml", "version -o yaml"),
];

/// Where to.
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// A folder that isn't there yet
    #[arg(long, value_name = "FOLDER", default_value = "syncmesh-report")]
    to: PathBuf,
}

/// Runs the command. What can't be had is written into its file's place.
pub async fn main(session: &Session, arguments: &Arguments) -> Outcome<()> {
    let folder = &arguments.to;
    fs::create_dir(folder)
        .map_err(Failure::to(format!("make {}: choose another folder with --to", folder.display())))?;
    for (name, line) in OBJECTS {
        write(folder, name, &read(session, line)?)?;
    }
    let pods = "get pod -A -l app.kubernetes.io/name --no-headers \
                -o custom-columns=N:.metadata.namespace,P:.metadata.name,A:.metadata.labels.app\\.kubernetes\\.io/name";
    for line in read(session, pods)?.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        if let [namespace, pod, "syncmesh-agent" | "syncmesh-operator"] = words[..] {
            let log = read(session, &format!("logs -n {namespace} {pod} --all-containers --tail=20000"))?;
            write(folder, &format!("{pod}.log"), &log)?;
            let before = read(session, &format!("logs -n {namespace} {pod} --all-containers --tail=20000 --previous"))?;
            write(folder, &format!("{pod}-before.log"), &before)?;
            if pod.starts_with("syncmesh-operator") {
                continue;
            }
            let status =
                read(session, &format!("exec -n {namespace} {pod} -c agent -- /syncmesh-agent status -o json"))?;
            write(folder, &format!("{pod}.json"), &status)?;
        }
    }
    print(&format!(
        "written to {}: look through it before you give it away, it has names of files and nodes\n",
        folder.display()
    ))
}

fn read(session: &Session, line: &str) -> Outcome<String> {
    let output = session.kubectl().args(line.split_whitespace()).output();
    let output = output.map_err(Failure::to("run kubectl, which has to be on PATH"))?;
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    Ok(if output.status.success() { out.into_owned() } else { format!("{out}{err}") })
}

fn write(folder: &std::path::Path, name: &str, text: &str) -> Outcome<()> {
    let path = folder.join(name);
    fs::write(&path, text).map_err(Failure::to(format!("write {}", path.display())))
}
