//! `cargo xtask codegen`: writes the files that are made from others. They are committed; a test in `crds` and a step of
//! `cargo xtask test` fail when they differ from what would be written.

use crate::chart;
use crate::failure::{Failure, Outcome};
use crate::reference;
use crate::repository;

/// Where the chart finds the kinds.
const DEFINITIONS: &str = "charts/syncmesh/files/crds";

/// Writes them all and prints their names.
pub fn run() -> Outcome<()> {
    // A binary of its own, so that whoever runs another command needn't build the kinds first.
    let status = repository::release("run")
        .args(["--quiet", "--bin", "codegen", "--", DEFINITIONS])
        .status()
        .map_err(|reason| Failure::new(format!("could not run cargo: {reason}")))?;
    if !status.success() {
        return Err(Failure::new("the definitions weren't all written: the lines above say why"));
    }
    reference::write()?;
    chart::write()
}
