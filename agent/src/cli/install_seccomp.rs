//! `install-seccomp`.

use super::{Failure, print};
use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// The profile: what the agent calls, io_uring included, and nothing else.
const PROFILE: &str = include_str!("../../../deploy/seccomp.json");

const EXAMPLES: &str = "\
Examples:
  syncmesh-agent install-seccomp /var/lib/kubelet/seccomp/syncmesh/agent.json
  syncmesh-agent install-seccomp seccomp.json && docker run --security-opt seccomp=seccomp.json …

The operator runs it before agents whose mesh has spec.agent.seccomp: syncmesh. The file is replaced as a whole.";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Where the profile goes; missing directories are made
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// Runs the command.
pub(super) fn main(arguments: &Arguments) -> Result<(), Failure> {
    let file = &arguments.file;
    install(file).map_err(|why| {
        Failure::no(format!(
            "can't write the seccomp profile {}: {why}; check the directory's rights and space",
            file.display()
        ))
    })?;
    print(&format!("{} is the agent's seccomp profile\n", file.display()))
}

/// A container runtime that reads it at the same time sees the old one or the new one.
fn install(file: &Path) -> io::Result<()> {
    let name = file.file_name().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "it names no file"))?;
    let directory = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(directory)?;
    let new = directory.join(format!(".{}.{}", name.to_string_lossy(), std::process::id()));
    let written = write(&new).and_then(|()| fs::rename(&new, file));
    if written.is_err() {
        // It may never have been there.
        let _ = fs::remove_file(&new);
    }
    written?;
    File::open(directory)?.sync_all()
}

fn write(file: &Path) -> io::Result<()> {
    let mut out = File::create(file)?;
    out.set_permissions(Permissions::from_mode(0o644))?;
    out.write_all(PROFILE.as_bytes())?;
    out.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_profile_allows_what_both_engines_need_and_not_what_takes_over_a_node() {
        let profile: serde_json::Value = serde_json::from_str(PROFILE).unwrap();
        let rules = profile["syscalls"].as_array().unwrap();
        let allowed: Vec<&str> =
            rules.iter().flat_map(|rule| rule["names"].as_array().unwrap()).filter_map(|name| name.as_str()).collect();
        for needed in
            ["io_uring_setup", "io_uring_enter", "io_uring_register", "epoll_wait", "openat2", "syncfs", "execve"]
        {
            assert!(allowed.contains(&needed), "{needed}");
        }
        for refused in [
            "mount",
            "ptrace",
            "bpf",
            "unshare",
            "setns",
            "init_module",
            "mknodat",
            "reboot",
            "keyctl",
            "perf_event_open",
        ] {
            assert!(!allowed.contains(&refused), "{refused}");
        }
        // Of a call that it doesn't name the agent and its libraries shall think that the kernel is older.
        assert_eq!(
            (profile["defaultAction"].as_str(), profile["defaultErrnoRet"].as_u64()),
            (Some("SCMP_ACT_ERRNO"), Some(38))
        );
    }

    #[test]
    fn it_is_replaced_as_a_whole_and_directories_are_made() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("deep/er/agent.json");
        install(&file).unwrap();
        fs::write(&file, "another release's").unwrap();
        install(&file).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), PROFILE);
        assert_eq!(fs::read_dir(file.parent().unwrap()).unwrap().count(), 1, "nothing else is left there");
        assert!(install(Path::new("/")).is_err());
    }
}
