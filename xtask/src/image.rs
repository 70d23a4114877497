//! `cargo xtask image`: the image of agent and operator, from static binaries.

use crate::failure::{Failure, Outcome};
use crate::repository;
use clap::Args;
use std::fs;
use std::path::{Path, PathBuf};
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
    let built_in = build(&BINARIES)?;
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

/// Builds packages in release, without shared libraries, and gives the folder of their binaries.
pub fn build(packages: &[&str]) -> Outcome<PathBuf> {
    let target = host()?;
    let mut build = repository::cargo();
    build.args(["build", "--quiet", "--release", "--target", &target]);
    for package in packages {
        build.args(["-p", package]);
    }
    // With --target, build scripts and derive macros, which can't be static, stay as they are.
    finish(build.env("RUSTFLAGS", "-C target-feature=+crt-static"))?;
    Ok(repository::root().join("target").join(target).join("release"))
}

/// A context with the binaries alone: the whole repository needn't be sent to the engine.
fn pack(root: &Path, folder: &Path, tag: &str) -> Outcome<()> {
    let mut docker = Command::new("docker");
    docker.args(["build", "--quiet", "--tag", tag, "--file"]).arg(root.join("deploy/Dockerfile")).arg(folder);
    docker.stdout(Stdio::null());
    finish(&mut docker)
}

/// This machine's own target: its name has to be given for `RUSTFLAGS` to leave build scripts alone.
fn host() -> Outcome<String> {
    let output = Command::new("rustc").arg("-vV").output();
    let output = output.map_err(|reason| Failure::new(format!("could not run rustc: {reason}")))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).ok_or_else(|| Failure::new("`rustc -vV` names no host: see whether it runs by itself"))
}

fn finish(command: &mut Command) -> Outcome<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let status = command.status().map_err(|reason| Failure::new(format!("could not run {name}: {reason}")))?;
    if status.success() { Ok(()) } else { Err(Failure::new(format!("{name} ended with {status}: see above"))) }
}
