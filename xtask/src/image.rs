//! `cargo xtask image`: the image of agent and operator, from static binaries.

use crate::failure::{Failure, Outcome};
use crate::repository;
use clap::Args;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

/// What the image has.
const BINARIES: [&str; 2] = ["syncmesh-agent", "syncmesh-operator"];

/// How the image is called.
#[derive(Args)]
pub struct Options {
    /// The image's name and tag; the chart's own, so that it installs without values
    #[arg(long, value_name = "NAME:TAG", default_value = concat!("syncmesh:", env!("CARGO_PKG_VERSION")))]
    tag: String,
}

/// Builds the binaries and packs them.
pub fn run(options: &Options) -> Outcome<()> {
    let built_in = repository::build(&BINARIES, || {})?;
    let root = repository::root();
    let folder = root.join("target/image");
    fs::create_dir_all(&folder).map_err(Failure::io("make", &folder))?;
    for binary in BINARIES {
        let built = built_in.join(binary);
        // Two thirds of it are for debuggers. Every linker's package has this program.
        let mut strip = Command::new("strip");
        finish(strip.arg("--strip-debug").arg("-o").arg(folder.join(binary)).arg(&built))?;
    }
    pack(&root, &folder, &options.tag)?;
    println!("{}", options.tag);
    Ok(())
}

/// A context with the binaries alone: the whole repository needn't be sent to the engine.
fn pack(root: &Path, folder: &Path, tag: &str) -> Outcome<()> {
    let mut docker = Command::new("docker");
    docker.args(["build", "--quiet", "--tag", tag, "--file"]).arg(root.join("deploy/Dockerfile")).arg(folder);
    docker.stdout(Stdio::null());
    finish(&mut docker)
}

fn finish(command: &mut Command) -> Outcome<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let status = command.status().map_err(|reason| Failure::new(format!("could not run {name}: {reason}")))?;
    if status.success() { Ok(()) } else { Err(Failure::new(format!("{name} ended with {status}: see above"))) }
}
