//! The exceptions in `xtask/allowed.txt`: sections of `crate: reason` lines.

use crate::failure::{Failure, Outcome};
use crate::repository;
use std::collections::BTreeMap;
use std::fs;

/// Crates by section, each with its reason.
#[derive(Debug, Default)]
pub struct Allowed {
    sections: BTreeMap<String, BTreeMap<String, String>>,
}

impl Allowed {
    /// Reads the repository's file.
    pub fn read() -> Outcome<Self> {
        let path = repository::root().join("xtask/allowed.txt");
        let text = fs::read_to_string(&path).map_err(Failure::io("read", &path))?;
        Self::parse(&text).map_err(|what| Failure::new(format!("{}: {what}", path.display())))
    }

    /// Sections in brackets, `#` comments, and lines with a crate, a colon and a reason.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut allowed = Self::default();
        let mut section = None;
        for (number, line) in text.lines().enumerate() {
            let number = number + 1;
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if let Some(name) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
                allowed.sections.entry(name.to_owned()).or_default();
                section = Some(name.to_owned());
                continue;
            }
            let (name, reason) = line
                .split_once(':')
                .map(|(name, reason)| (name.trim(), reason.trim()))
                .filter(|(name, reason)| !name.is_empty() && !reason.is_empty())
                .ok_or_else(|| format!("line {number}: want `crate: reason`, have `{line}`"))?;
            let section = section.clone().ok_or_else(|| format!("line {number}: stands in no section"))?;
            allowed.sections.entry(section).or_default().insert(name.to_owned(), reason.to_owned());
        }
        Ok(allowed)
    }

    /// Whether the section has the crate.
    pub fn has(&self, section: &str, name: &str) -> bool {
        self.sections.get(section).is_some_and(|crates| crates.contains_key(name))
    }

    /// Complaints about crates of the section that needed no exception.
    pub fn unneeded(&self, section: &str, needed: &[String]) -> Vec<String> {
        self.sections
            .get(section)
            .into_iter()
            .flat_map(BTreeMap::keys)
            .filter(|name| !needed.contains(name))
            .map(|name| format!("xtask/allowed.txt: [{section}] {name} is not needed, remove it"))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_without_a_reason_or_a_section_are_refused() {
        assert!(Allowed::parse("[a]\nx:").unwrap_err().contains("line 2"));
        assert!(Allowed::parse("x: y").unwrap_err().contains("no section"));
    }

    #[test]
    fn exceptions_count_in_their_section_only() {
        let allowed = Allowed::parse("# c\n[a]\nx: because\n\n[b]\ny: because").unwrap();
        assert!(allowed.has("a", "x") && !allowed.has("b", "x"));
        assert_eq!(allowed.unneeded("a", &["x".into()]), Vec::<String>::new());
        assert_eq!(allowed.unneeded("b", &[]).len(), 1);
    }
}
