//! The chart: checked by Helm, and its rendered manifests as they are committed. One of them is for users who have no Helm.

use crate::failure::{Failure, Outcome};
use crate::repository;
use std::fs;
use std::io;
use std::process::Command;

/// Where the chart is.
const CHART: &str = "charts/syncmesh";
/// The first line of what is written here.
const ORIGIN: &str = "# Written by `cargo xtask codegen` from charts/syncmesh: change that.\n";

/// What is rendered, and with which flags.
const RENDERED: [(&str, &[&str]); 2] = [
    // For `kubectl apply --server-side -f`. Hooks belong to Helm.
    ("deploy/kubernetes.yaml", &["--no-hooks"]),
    ("charts/syncmesh/snapshots/everything.yaml", &["--values", "charts/syncmesh/snapshots/everything.values.yaml"]),
];

/// Writes the rendered manifests. Without Helm they stay as they are, and that is said.
pub fn write() -> Outcome<()> {
    for (path, flags) in RENDERED {
        let full = repository::root().join(path);
        match render(flags)? {
            Some(text) => fs::write(&full, text).map_err(Failure::io("write", &full))?,
            None => {
                println!("not written, because there is no helm on PATH: {path}");
                continue;
            }
        }
        println!("{path}");
    }
    Ok(())
}

/// What is wrong with the chart; none where there is no Helm to ask.
pub fn check() -> Outcome<Option<Vec<String>>> {
    let Some(lint) = helm(&["lint", "--strict", "--quiet", CHART])? else { return Ok(None) };
    let mut complaints: Vec<String> = lint.err().into_iter().collect();
    for (path, flags) in RENDERED {
        let full = repository::root().join(path);
        let committed = fs::read_to_string(&full).map_err(Failure::io("read", &full))?;
        if render(flags)?.is_some_and(|text| text != committed) {
            complaints.push(format!("{path} isn't what the chart says: run `cargo xtask codegen` and commit"));
        }
    }
    Ok(Some(complaints))
}

/// The manifests, or none without Helm. For the oldest Kubernetes that we support, whatever Helm takes for current.
fn render(flags: &[&str]) -> Outcome<Option<String>> {
    let fixed = ["template", "syncmesh", CHART, "--namespace", "syncmesh-system", "--kube-version", "1.33.0"];
    match helm(&[&fixed[..], flags].concat())? {
        None => Ok(None),
        Some(Ok(text)) => Ok(Some(format!("{ORIGIN}{text}"))),
        Some(Err(said)) => Err(Failure::new(format!("the chart can't be rendered: {said}"))),
    }
}

/// What Helm prints, or what it complains about; none where it isn't installed.
fn helm(arguments: &[&str]) -> Outcome<Option<Result<String, String>>> {
    let output = match Command::new("helm").args(arguments).current_dir(repository::root()).output() {
        Err(reason) if reason.kind() == io::ErrorKind::NotFound => return Ok(None),
        output => output.map_err(|reason| Failure::new(format!("could not run helm: {reason}")))?,
    };
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    Ok(Some(if output.status.success() { Ok(out.into_owned()) } else { Err(format!("{out}{err}")) }))
}
