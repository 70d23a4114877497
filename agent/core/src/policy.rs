//! Conflict policies of a volume: a default, and rules by path pattern.

use crate::entry::{ContentHash, Stamp};
use crate::limits::NAME_BYTES;
use crate::path::{Name, RelativePath};
use globset::{GlobBuilder, GlobMatcher};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// What becomes of the losing one of two concurrent contents.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Policy {
    /// It becomes a file of its own, named after the version that lost.
    KeepBoth,
    /// It goes to the version store.
    LastWriterWins,
    /// There is none until a person decides: each node keeps the version that it has, and remembers the others beside it.
    Manual,
}

impl Policy {
    /// Its name in configurations.
    pub fn name(self) -> &'static str {
        match self {
            Self::KeepBoth => "keepBoth",
            Self::LastWriterWins => "lastWriterWins",
            Self::Manual => "manual",
        }
    }
}

/// A volume's policies. All nodes must have the same, so peers compare [`Policies::digest`].
#[derive(Clone, Debug)]
pub struct Policies {
    default: Policy,
    rules: Vec<(GlobMatcher, Policy)>,
    digest: u64,
}

impl Policies {
    /// A default and rules, of which the first that matches wins. A pattern without `/` matches the name in any
    /// directory.
    pub fn new(default: Policy, rules: &[(String, Policy)]) -> Result<Self, globset::Error> {
        let mut text = default.name().to_owned();
        let mut matchers = Vec::with_capacity(rules.len());
        for (pattern, policy) in rules {
            let anywhere = if pattern.contains('/') { pattern.clone() } else { format!("**/{pattern}") };
            let glob = GlobBuilder::new(&anywhere).literal_separator(true).backslash_escape(true).build()?;
            matchers.push((glob.compile_matcher(), *policy));
            text.push_str(&format!("\n{pattern}\0{}", policy.name()));
        }
        let hash = ContentHash::of(text.as_bytes());
        let digest = u64::from_le_bytes(hash.as_bytes()[..8].try_into().expect("eight bytes of 32"));
        Ok(Self { default, rules: matchers, digest })
    }

    /// The policy for a path.
    pub fn of(&self, path: &RelativePath) -> Policy {
        let path = Path::new(OsStr::from_bytes(path.as_bytes()));
        self.rules.iter().find(|(matcher, _)| matcher.is_match(path)).map_or(self.default, |(_, policy)| *policy)
    }

    /// Equal where default and rules are equal.
    pub fn digest(&self) -> u64 {
        self.digest
    }
}

/// The name of a conflict copy: `stem (conflict NODE DATE HASH8).ext`, all from the losing version, so that every node
/// finds the same one. The stem is cut so that the name has 255 bytes at most.
pub fn conflict_name(name: &Name, node: &str, stamp: Stamp, hash: ContentHash) -> Name {
    let bytes = name.as_bytes();
    let (stem, extension) = match bytes.iter().rposition(|&b| b == b'.') {
        Some(at) if at > 0 && bytes.len() - at <= 16 => bytes.split_at(at),
        _ => (bytes, &b""[..]),
    };
    // A DNS-1123 subdomain may have 253 bytes: enough of it stays to tell nodes apart.
    let node = &node[..node.len().min(63)];
    let middle = format!(" (conflict {node} {} {hash})", date(stamp.hlc.millis()));
    let stem = &stem[..stem.len().min(NAME_BYTES - middle.len() - extension.len())];
    Name::new(&[stem, middle.as_bytes(), extension].concat()).expect("parts of a name, cut to 255 bytes")
}

/// Does a name say that it is the conflict copy of these contents, whoever made it?
pub fn is_copy_of(name: &Name, hash: ContentHash) -> bool {
    let parts = |wanted: &[u8]| name.as_bytes().windows(wanted.len()).any(|part| part == wanted);
    parts(b" (conflict ") && parts(format!(" {hash})").as_bytes())
}

/// `YYYYMMDD-HHMMSS` in UTC, by Howard Hinnant's `civil_from_days`.
fn date(millis: u64) -> String {
    let seconds = millis / 1000;
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let z = days + 719_468;
    let era = z / 146_097;
    let day_of_era = z % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}{month:02}{day:02}-{:02}{:02}{:02}", rest / 3600, rest / 60 % 60, rest % 60)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Hlc;
    use crate::version::{Dot, ReplicaId};

    fn stamp() -> Stamp {
        Stamp { hlc: Hlc::from_millis(1_795_384_335_000), dot: Dot { replica: ReplicaId(1), counter: 1 } }
    }

    #[test]
    fn a_conflict_copy_is_named_after_the_losing_version() {
        let name = |n: &str| Name::new(n.as_bytes()).unwrap();
        let hash = ContentHash::of(b"x");
        let copy = conflict_name(&name("report.odt"), "node-a", stamp(), hash);
        assert_eq!(copy.to_string(), format!("report (conflict node-a 20261122-215215 {hash}).odt"));
        let hidden = conflict_name(&name(".bashrc"), "a", stamp(), hash);
        assert!(hidden.as_bytes().starts_with(b".bashrc (conflict a "));
        let long = conflict_name(&name(&"é".repeat(127)), &"n".repeat(253), stamp(), hash);
        assert_eq!(long.as_bytes().len(), 255);
    }

    #[test]
    fn the_first_rule_that_matches_wins() {
        let rules = [("*.log".to_owned(), Policy::LastWriterWins), ("a/**".to_owned(), Policy::KeepBoth)];
        let policies = Policies::new(Policy::KeepBoth, &rules).unwrap();
        let of = |p: &str| policies.of(&RelativePath::new(p.as_bytes()).unwrap());
        assert_eq!(of("x/y.log"), Policy::LastWriterWins);
        assert_eq!(of("x/y.txt"), Policy::KeepBoth);
        assert_ne!(policies.digest(), Policies::new(Policy::KeepBoth, &[]).unwrap().digest());
    }
}
