//! Two incompatible versions of one crate cost build time and size, and types of one don't fit the other.

use super::Allowed;
use std::collections::BTreeMap;

/// Of these names and versions: crates in more than one incompatible version without an exception, and exceptions
/// without need.
pub fn check(packages: &[(String, String)], allowed: &Allowed) -> Vec<String> {
    let mut versions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (name, version) in packages {
        versions.entry(name).or_default().push(version);
    }
    let mut complaints = Vec::new();
    let mut needed = Vec::new();
    for (name, mut found) in versions {
        found.sort_unstable();
        let mut lines: Vec<String> = found.iter().map(|version| line(version)).collect();
        lines.dedup();
        if lines.len() < 2 {
            continue;
        }
        needed.push(name.to_owned());
        if !allowed.has("duplicates", name) {
            complaints.push(format!(
                "{name} is there as {}; see `cargo tree -d`, or give a reason in xtask/allowed.txt under [duplicates]",
                found.join(" and ")
            ));
        }
    }
    complaints.extend(allowed.unneeded("duplicates", &needed));
    complaints
}

/// Versions of one line are compatible with each other (semver.org, item 4, as cargo reads it): the leftmost number
/// that isn't zero decides.
fn line(version: &str) -> String {
    let release = version.split(['-', '+']).next().unwrap_or(version);
    let mut kept = Vec::new();
    for number in release.split('.') {
        kept.push(number);
        if number != "0" {
            break;
        }
    }
    kept.join(".")
}

#[cfg(test)]
mod tests {
    use super::*;
    fn packages(packages: &[(&str, &str)]) -> Vec<(String, String)> {
        packages.iter().map(|(name, version)| ((*name).to_owned(), (*version).to_owned())).collect()
    }

    #[test]
    fn a_line_ends_with_the_first_number_that_is_not_zero() {
        let lines = ["1.2.3", "0.4.1", "0.0.7", "2.0.0-rc.1", "0.12.3+b"].map(line);
        assert_eq!(lines, ["1", "0.4", "0.0.7", "2", "0.12"]);
    }

    #[test]
    fn incompatible_versions_need_a_reason() {
        let two = packages(&[("x", "0.1.0"), ("x", "0.2.0"), ("y", "1.0.0")]);
        assert_eq!(check(&two, &Allowed::default()).len(), 1);
        let allowed = Allowed::parse("[duplicates]\nx: until z moves").unwrap();
        assert_eq!(check(&two, &allowed), Vec::<String>::new());
    }

    #[test]
    fn an_exception_without_need_is_a_complaint() {
        let one = packages(&[("x", "0.1.0")]);
        let allowed = Allowed::parse("[duplicates]\nx: until z moves").unwrap();
        assert_eq!(check(&one, &allowed).len(), 1);
    }
}
