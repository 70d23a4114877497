//! What a start would do, in counts. Only looks: opens no file, follows no link, writes nothing.

use std::fs::{self, Metadata};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use syncmesh_config::{Config, Volume};
use syncmesh_core::path::{Name, PathError, RelativePath};
use syncmesh_core::select::Selection;

/// What one volume has in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumePlan {
    /// The volume's name.
    pub name: String,
    /// Its directory.
    pub path: PathBuf,
    /// Regular files that take part; each name of a hard link counts.
    pub files: u64,
    /// Directories that take part, without the root.
    pub directories: u64,
    /// Symbolic links that take part.
    pub links: u64,
    /// Sockets, pipes and devices, which never take part.
    pub special: u64,
    /// Bytes of the files.
    pub bytes: u64,
    /// Names that the patterns exclude; what lies below an excluded directory isn't counted.
    pub excluded: u64,
    /// Names that can't be looked at, or lie on other file systems: they are unknown, and stay as they are.
    pub unreadable: u64,
    /// What a start goes on from.
    pub start: Start,
}

/// What a start goes on from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// A registry.
    Registry,
    /// A directory that was a replica before, and whose registry is gone.
    Rebuilt,
    /// A directory that meets the mesh for the first time, and what the configuration's `seed` makes of it.
    First(Seed),
}

/// Whose contents win at a first meeting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seed {
    /// No member's more than another's.
    Nobodys,
    /// This node's.
    Ours,
    /// That member's.
    Theirs(String),
}

/// Looks at each volume of a configuration.
///
/// # Errors
/// A volume's directory can't be read at all.
pub fn plan(config: &Config) -> Result<Vec<VolumePlan>, String> {
    let registry = fs::symlink_metadata(config.state_dir.join("registry.redb")).is_ok();
    config.volumes.iter().map(|volume| look(volume, start(config, volume, registry))).collect()
}

fn start(config: &Config, volume: &Volume, registry: bool) -> Start {
    let marker = volume.path.join(".syncmesh/marker");
    match &volume.seed {
        _ if registry => Start::Registry,
        _ if fs::symlink_metadata(marker).is_ok() => Start::Rebuilt,
        None => Start::First(Seed::Nobodys),
        Some(seed) if *seed == config.node => Start::First(Seed::Ours),
        Some(seed) => Start::First(Seed::Theirs(seed.to_string())),
    }
}

fn look(volume: &Volume, start: Start) -> Result<VolumePlan, String> {
    let refuse = |why: String| {
        format!(
            "can't look at volume {} in {}: {why}; check its path, or make the directory",
            volume.name,
            volume.path.display()
        )
    };
    let selection =
        Selection::new(&volume.exclude).map_err(|error| refuse(format!("its patterns can't be used: {error}")))?;
    let root = fs::metadata(&volume.path).map_err(|error| refuse(error.to_string()))?;
    if !root.is_dir() {
        return Err(refuse("it is no directory".into()));
    }
    fs::read_dir(&volume.path).map_err(|error| refuse(error.to_string()))?;

    let mut plan = VolumePlan {
        name: volume.name.to_string(),
        path: volume.path.clone(),
        files: 0,
        directories: 0,
        links: 0,
        special: 0,
        bytes: 0,
        excluded: 0,
        unreadable: 0,
        start,
    };
    // Directories still to be read; not recursion, because trees may be deep.
    let mut waiting = vec![(volume.path.clone(), RelativePath::root())];
    while let Some((directory, relative)) = waiting.pop() {
        let Ok(entries) = fs::read_dir(&directory) else {
            plan.unreadable += 1;
            continue;
        };
        for entry in entries {
            let Ok(entry) = entry else {
                plan.unreadable += 1;
                continue;
            };
            let path = match Name::new(entry.file_name().as_bytes()).and_then(|name| relative.join(&name)) {
                Ok(path) => path,
                // Ours: stage and version store.
                Err(PathError::Reserved) => continue,
                Err(_) => {
                    plan.unreadable += 1;
                    continue;
                }
            };
            let found = fs::symlink_metadata(entry.path()).ok();
            if plan.count(&path, found.as_ref(), &selection, root.dev()) == Next::Enter {
                waiting.push((entry.path(), path));
            }
        }
    }
    Ok(plan)
}

#[derive(PartialEq, Eq)]
enum Next {
    Enter,
    Stay,
}

impl VolumePlan {
    fn count(&mut self, path: &RelativePath, found: Option<&Metadata>, selection: &Selection, device: u64) -> Next {
        let Some(found) = found else {
            self.unreadable += 1;
            return Next::Stay;
        };
        if !selection.includes(path, found.is_dir()) {
            self.excluded += 1;
        } else if found.is_dir() && found.dev() != device {
            self.unreadable += 1;
        } else if found.is_dir() {
            self.directories += 1;
            return Next::Enter;
        } else if found.is_file() {
            self.files += 1;
            self.bytes += found.len();
        } else if found.is_symlink() {
            self.links += 1;
        } else {
            self.special += 1;
        }
        Next::Stay
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;
    use std::path::Path;

    fn config(directory: &Path, volumes: &str) -> Config {
        let head = "node: a\nstateDir: state\nidentity: { ca: ca.pem, certificate: a.pem, key: a.key }\n";
        Config::parse(&format!("{head}volumes: [ {volumes} ]\n"), directory).unwrap()
    }

    #[test]
    fn everything_is_counted_once_and_nothing_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let docs = dir.path().join("docs");
        for made in ["docs/sub/deep", "docs/cache/inside", "docs/.syncmesh/store"] {
            fs::create_dir_all(dir.path().join(made)).unwrap();
        }
        for (name, text) in [("a", "12345"), ("sub/deep/b", "1"), ("x.swp", "no"), ("cache/inside/c", "no")] {
            fs::write(docs.join(name), text).unwrap();
        }
        fs::write(docs.join(".syncmesh/store/old"), "ours").unwrap();
        symlink("/", docs.join("link")).unwrap();
        drop(UnixListener::bind(docs.join("socket")).unwrap());
        let config = config(dir.path(), "{ name: docs, path: docs, select: { exclude: [ \"*.swp\", \"cache/\" ] } }");

        let expected = VolumePlan {
            name: "docs".into(),
            path: docs,
            files: 2,
            directories: 2,
            links: 1,
            special: 1,
            bytes: 6,
            excluded: 2,
            unreadable: 0,
            start: Start::First(Seed::Nobodys),
        };
        assert_eq!(plan(&config), Ok(vec![expected.clone()]));
        assert!(!dir.path().join("state").exists());

        fs::create_dir(dir.path().join("state")).unwrap();
        fs::write(dir.path().join("state/registry.redb"), "").unwrap();
        assert_eq!(plan(&config), Ok(vec![VolumePlan { start: Start::Registry, ..expected }]));
    }

    #[test]
    fn a_missing_directory_is_named() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("file"), "").unwrap();
        for path in ["none", "file"] {
            let why = plan(&config(dir.path(), &format!("{{ name: docs, path: {path} }}"))).unwrap_err();
            assert!(why.contains("volume docs") && why.contains(path) && why.contains("make the directory"), "{why}");
        }
    }
}
