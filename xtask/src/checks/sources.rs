//! Where crates come from, and which we don't want at all.

use crate::repository::Metadata;

/// The only registry. Git dependencies can vanish and have no checksum in the lock file.
const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// Crates that must not be in the graph, with what to take instead.
const BANNED: &[(&str, &str)] = &[
    ("openssl", "rustls is our TLS"),
    ("openssl-sys", "rustls is our TLS"),
    ("native-tls", "rustls is our TLS"),
    ("ring", "aws-lc-rs is our cryptography; two would be two to audit"),
    ("serde_yaml", "unmaintained; serde-saphyr reads our YAML"),
    ("serde_yml", "unsound and abandoned; serde-saphyr reads our YAML"),
    ("async-std", "discontinued; the control thread has tokio"),
    ("atty", "unmaintained; std::io::IsTerminal"),
];

/// Banned crates among those that are built, by name and version. The lock file also has optional ones that nothing
/// builds.
pub fn banned(built: &[(String, String)]) -> Vec<String> {
    let found = built.iter().filter_map(|(name, version)| {
        let (_, instead) = BANNED.iter().find(|(banned, _)| banned == name)?;
        Some(format!("{name} {version} is banned: {instead}; `cargo tree -i {name}` says who wants it"))
    });
    found.collect()
}

/// Packages from elsewhere.
pub fn check(metadata: &Metadata) -> Vec<String> {
    let mut complaints = Vec::new();
    for package in &metadata.packages {
        match &package.source {
            Some(source) if source != REGISTRY => complaints.push(format!(
                "{} {} comes from {source}; only crates.io and our own paths are allowed",
                package.name, package.version
            )),
            None if !metadata.workspace_members.contains(&package.id) => complaints
                .push(format!("{} {} is a path dependency outside of the workspace", package.name, package.version)),
            _ => {}
        }
    }
    complaints
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repository::Package;

    fn complaints(name: &str, source: Option<&str>) -> Vec<String> {
        check(&Metadata {
            workspace_members: vec!["ours".into()],
            packages: vec![Package {
                id: name.into(),
                name: name.into(),
                source: source.map(Into::into),
                ..Package::default()
            }],
        })
    }

    #[test]
    fn only_the_registry_and_our_own_paths_pass() {
        assert_eq!(complaints("x", Some(REGISTRY)), Vec::<String>::new());
        assert_eq!(complaints("ours", None), Vec::<String>::new());
        assert_eq!(complaints("x", None).len(), 1);
        assert_eq!(complaints("x", Some("git+https://host/x")).len(), 1);
    }

    #[test]
    fn banned_crates_are_named_with_what_to_take_instead() {
        let found = banned(&[("openssl-sys".into(), "0.9.1".into()), ("x".into(), "1.0.0".into())]);
        assert!(found[0].contains("rustls"), "{found:?}");
    }
}
