//! Globs of conflict rules and exclusion patterns: compiled here once for checking, and by whoever uses them.

use crate::fields::shorten;
use crate::limits;
use globset::{Glob, GlobBuilder};
use ignore::gitignore::GitignoreBuilder;

/// Compiles the glob of a conflict rule. A `*` doesn't cross a `/`, `**` does; without a `/` the glob is for names in any
/// directory.
///
/// # Errors
/// A sentence that says what is wrong with it and what to do.
pub fn glob(pattern: &str) -> Result<Glob, String> {
    check_text(pattern)?;
    let anywhere;
    let whole = if pattern.contains('/') {
        pattern
    } else {
        anywhere = format!("**/{pattern}");
        &anywhere
    };
    GlobBuilder::new(whole).literal_separator(true).backslash_escape(true).build().map_err(|error| {
        format!("\"{}\" is no glob: {}; write one like \"*.log\" or \"cache/**\"", shorten(pattern), error.kind())
    })
}

/// Checks one exclusion pattern in gitignore syntax; says what is wrong with it and what to do.
pub(crate) fn check_exclusion(pattern: &str) -> Result<(), String> {
    check_text(pattern)?;
    if pattern.starts_with('#') {
        return Err(format!(
            "\"{}\" is a comment in gitignore syntax: remove it, or write \\# for a name that begins with #",
            shorten(pattern)
        ));
    }
    if pattern.trim_end().is_empty() || pattern == "!" {
        return Err("an empty pattern excludes nothing: remove it".into());
    }
    let mut builder = GitignoreBuilder::new("");
    let refuse = |error: ignore::Error| {
        format!(
            "\"{}\" is no pattern: {}; write one in gitignore syntax, like \"*.swp\" or \"cache/\"",
            shorten(pattern),
            shorten(&error.to_string())
        )
    };
    builder.add_line(None, pattern).map_err(refuse)?;
    builder.build().map_err(refuse)?;
    Ok(())
}

fn check_text(pattern: &str) -> Result<(), String> {
    if pattern.is_empty() {
        return Err("an empty pattern fits nothing: remove it, or write one like \"*.log\"".into());
    }
    if pattern.len() > limits::PATTERN_BYTES {
        return Err(format!(
            "the pattern has {} bytes, at most {} are allowed: shorten it",
            pattern.len(),
            limits::PATTERN_BYTES
        ));
    }
    if pattern.chars().any(char::is_control) {
        return Err(format!("\"{}\" has a control character in it: remove it", shorten(pattern)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_glob_without_slash_fits_names_in_any_directory() {
        let glob = glob("*.log").unwrap().compile_matcher();
        assert!(glob.is_match("a.log") && glob.is_match("x/y/a.log") && !glob.is_match("a.log/b"));
    }

    #[test]
    fn a_star_stays_within_a_directory() {
        let glob = glob("logs/*.log").unwrap().compile_matcher();
        assert!(glob.is_match("logs/a.log") && !glob.is_match("logs/x/a.log") && !glob.is_match("x/logs/a.log"));
    }

    #[test]
    fn broken_patterns_are_refused() {
        for bad in ["", "[a", "a{b", "\u{7}", &"x".repeat(257)] {
            assert!(glob(bad).is_err(), "{bad:?}");
        }
        for bad in ["", "# note", "   ", "!", "[z-a]", "a\nb", &"x".repeat(257)] {
            assert!(check_exclusion(bad).is_err(), "{bad:?}");
        }
        for good in ["*.swp", "cache/", "!keep.swp", "/top", "**/x", "\\#name"] {
            assert_eq!(check_exclusion(good), Ok(()), "{good:?}");
        }
    }
}
