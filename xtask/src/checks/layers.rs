//! Who may know whom among our crates: the table of the architecture document as code. Only normal dependencies
//! count; tests may use what they like.

use crate::repository::{Metadata, Package};

/// What a crate may use of ours.
enum May {
    Use(&'static [&'static str]),
    UseAnything,
}

/// One line for each crate, the lowest first. A new crate needs a line here and in the document.
const TABLE: &[(&str, May)] = &[
    ("syncmesh-core", May::Use(&[])),
    ("syncmesh-io", May::Use(&[])),
    ("syncmesh-crds", May::Use(&[])),
    ("syncmesh-protocol", May::Use(&["syncmesh-core"])),
    ("syncmesh-config", May::Use(&["syncmesh-core"])),
    ("syncmesh-engine", May::Use(&["syncmesh-core", "syncmesh-protocol", "syncmesh-io", "syncmesh-config"])),
    (
        "syncmesh-simulator",
        May::Use(&["syncmesh-engine", "syncmesh-core", "syncmesh-protocol", "syncmesh-io", "syncmesh-config"]),
    ),
    (
        "syncmesh-agent",
        May::Use(&["syncmesh-engine", "syncmesh-core", "syncmesh-io", "syncmesh-config", "syncmesh-crds"]),
    ),
    ("syncmesh-operator", May::Use(&["syncmesh-crds"])),
    ("syncmesh-cli", May::Use(&["syncmesh-crds"])),
    ("syncmesh-e2e", May::UseAnything),
    ("e2e", May::UseAnything),
    ("xtask", May::UseAnything),
];

/// Crates that have no place where files are decided about: whoever waits there for anything but the loop's own completions makes all
/// volumes wait.
const ASYNCHRONOUS: &[&str] = &["tokio", "futures", "hyper", "hyper-util", "kube"];
/// Where they have none.
const DATA_PLANE: &[&str] =
    &["syncmesh-core", "syncmesh-protocol", "syncmesh-io", "syncmesh-config", "syncmesh-engine"];

/// Dependencies that the table doesn't allow.
pub fn check(metadata: &Metadata) -> Vec<String> {
    let ours: Vec<&Package> = metadata.ours().collect();
    let mut complaints = Vec::new();
    for package in &ours {
        let Some((_, may)) = TABLE.iter().find(|(name, _)| *name == package.name) else {
            complaints.push(format!(
                "{} is in no line of the table of crates; add it to docs/architecture.md and xtask/src/checks/layers.rs",
                package.name
            ));
            continue;
        };
        let is_data_plane = DATA_PLANE.contains(&package.name.as_str());
        for dependency in package.dependencies.iter().filter(|dependency| dependency.kind.is_none() && is_data_plane) {
            if ASYNCHRONOUS.contains(&dependency.name.as_str()) {
                complaints.push(format!(
                    "{} depends on {}, which has no place in the data plane",
                    package.name, dependency.name
                ));
            }
        }
        let allowed = match may {
            May::Use(names) => *names,
            May::UseAnything => continue,
        };
        for dependency in &package.dependencies {
            let is_ours = ours.iter().any(|other| other.name == dependency.name);
            if dependency.kind.is_none() && is_ours && !allowed.contains(&dependency.name.as_str()) {
                complaints.push(format!(
                    "{} depends on {}; it may use {}",
                    package.name,
                    dependency.name,
                    if allowed.is_empty() { "nothing of ours".to_owned() } else { allowed.join(", ") }
                ));
            }
        }
    }
    complaints
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repository::Dependency;

    /// Our packages, each with dependencies of a kind.
    fn metadata(packages: &[(&str, &[(&str, Option<&str>)])]) -> Metadata {
        Metadata {
            workspace_members: packages.iter().map(|(name, _)| (*name).into()).collect(),
            packages: packages
                .iter()
                .map(|(name, dependencies)| Package {
                    id: (*name).into(),
                    name: (*name).into(),
                    dependencies: dependencies
                        .iter()
                        .map(|(name, kind)| Dependency { name: (*name).into(), kind: kind.map(Into::into) })
                        .collect(),
                    ..Package::default()
                })
                .collect(),
        }
    }

    #[test]
    fn the_tables_own_dependencies_pass() {
        let good = metadata(&[
            ("syncmesh-core", &[("serde", None)]),
            ("syncmesh-protocol", &[("syncmesh-core", None)]),
            ("xtask", &[("syncmesh-core", None)]),
        ]);
        assert_eq!(check(&good), Vec::<String>::new());
    }

    #[test]
    fn a_dependency_upwards_is_a_violation() {
        let bad = metadata(&[("syncmesh-core", &[("syncmesh-protocol", None)]), ("syncmesh-protocol", &[])]);
        assert_eq!(check(&bad), ["syncmesh-core depends on syncmesh-protocol; it may use nothing of ours"]);
    }

    #[test]
    fn the_data_plane_waits_for_nobody() {
        let bad = metadata(&[("syncmesh-engine", &[("tokio", None)]), ("syncmesh-agent", &[("tokio", None)])]);
        assert_eq!(check(&bad), ["syncmesh-engine depends on tokio, which has no place in the data plane"]);
    }

    #[test]
    fn tests_may_use_what_they_like() {
        let fine = metadata(&[("syncmesh-core", &[("syncmesh-io", Some("dev"))]), ("syncmesh-io", &[])]);
        assert_eq!(check(&fine), Vec::<String>::new());
    }

    #[test]
    fn a_crate_without_a_line_is_a_violation() {
        assert_eq!(check(&metadata(&[("syncmesh-new", &[])])).len(), 1);
    }
}
