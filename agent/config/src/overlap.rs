//! Directories must not lie within one another: a volume in a volume would be synchronised twice, state in a volume
//! would be sent to peers, and so would a private key.
//!
//! Compared as written, without looking at the disk; links and mounts are the agent's to see when it opens them.

use crate::fields::Report;
use crate::read::Placed;
use std::path::{Component, Path, PathBuf};

/// A volume's directory.
pub(crate) struct Directory<'a> {
    /// The volume's name where it could be read.
    pub name: Option<&'a str>,
    pub path: &'a Placed<PathBuf>,
}

impl Directory<'_> {
    fn called(&self) -> String {
        self.name.map_or_else(|| "another volume".into(), |name| format!("the volume \"{name}\""))
    }
}

/// All paths that are compared, as far as they could be read.
pub(crate) struct Paths<'a> {
    pub state_dir: Option<&'a Placed<PathBuf>>,
    pub key: Option<&'a Placed<PathBuf>>,
    pub volumes: &'a [Directory<'a>],
}

/// Notes each pair that overlaps, at the later of the two, with the line of the other.
pub(crate) fn check(paths: &Paths<'_>, report: &mut Report) {
    for (index, volume) in paths.volumes.iter().enumerate() {
        let inner = plain(&volume.path.value);
        for other in &paths.volumes[..index] {
            let outer = plain(&other.path.value);
            let relation = if inner == outer {
                "is also the directory of"
            } else if inner.starts_with(&outer) {
                "lies inside the directory of"
            } else if outer.starts_with(&inner) {
                "has inside it the directory of"
            } else {
                continue;
            };
            note(report, volume.path, relation, &other.called(), other.path, "give each volume a directory of its own");
        }
        if let Some(state) = paths.state_dir {
            let state_path = plain(&state.value);
            if state_path.starts_with(&inner) {
                note(
                    report,
                    state,
                    "lies inside the directory of",
                    &volume.called(),
                    volume.path,
                    "move stateDir out of it",
                );
            } else if inner.starts_with(&state_path) {
                note(report, volume.path, "lies inside", "stateDir", state, "move the volume out of it");
            }
        }
        if let Some(key) = paths.key.filter(|key| plain(&key.value).starts_with(&inner)) {
            note(
                report,
                key,
                "lies inside the directory of",
                &volume.called(),
                volume.path,
                "move the key out of it, or it would be copied to every peer",
            );
        }
    }
}

fn note(
    report: &mut Report,
    path: &Placed<PathBuf>,
    relation: &str,
    other: &str,
    place: &Placed<PathBuf>,
    advice: &str,
) {
    let shown = crate::fields::shorten(&path.value.to_string_lossy());
    let message = format!("\"{shown}\" (line {}) {relation} {other} (line {}): {advice}", path.at.line, place.at.line);
    report.place(path.at, path.path.clone(), message);
}

/// The path without `.`, and with `..` taken back, so that paths can be compared.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir if matches!(plain.components().next_back(), Some(Component::Normal(_))) => {
                plain.pop();
            }
            // The parent of / is /.
            Component::ParentDir if plain.has_root() => {}
            other => plain.push(other),
        }
    }
    plain
}
