//! Which paths of a volume take part: exclusion patterns in gitignore syntax.

use crate::path::RelativePath;
use ignore::gitignore::{Gitignore, GitignoreBuilder};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// A volume's selection. Made once from patterns that were validated with the configuration.
#[derive(Clone, Debug)]
pub struct Selection {
    patterns: Gitignore,
}

impl Selection {
    /// From exclusion patterns; the last that matches wins, `!` takes an exclusion back.
    pub fn new(exclude: &[String]) -> Result<Self, ignore::Error> {
        let mut builder = GitignoreBuilder::new("");
        for pattern in exclude {
            builder.add_line(None, pattern)?;
        }
        Ok(Self { patterns: builder.build()? })
    }

    /// Does this path take part? A path below an excluded directory doesn't.
    pub fn includes(&self, path: &RelativePath, is_directory: bool) -> bool {
        if self.patterns.is_empty() || path.is_root() {
            return true;
        }
        let path = Path::new(OsStr::from_bytes(path.as_bytes()));
        !self.patterns.matched_path_or_any_parents(path, is_directory).is_ignore()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gitignore_patterns_exclude_names_and_whole_directories() {
        let exclude = ["*.swp", "cache/", "!keep.swp", "/top"].map(str::to_owned);
        let selection = Selection::new(&exclude).unwrap();
        let includes = |p: &str, dir| selection.includes(&RelativePath::new(p.as_bytes()).unwrap(), dir);
        assert!(!includes("a/b.swp", false) && includes("a/keep.swp", false));
        assert!(!includes("x/cache", true) && includes("x/cache", false));
        assert!(!includes("x/cache/deep/file", false));
        assert!(!includes("top", false) && includes("a/top", false));
    }
}
