//! Relative links in our Markdown lead to files that are there, and to headings that these have.

use crate::failure::{Failure, Outcome};
use crate::repository;
use std::fs;
use std::path::Path;

/// Links that lead nowhere, in all Markdown files that git knows or would add.
pub fn check() -> Outcome<Vec<String>> {
    let root = repository::root();
    let mut complaints = Vec::new();
    for path in repository::files(true)? {
        let full = root.join(&path);
        // Deleted but not yet staged files are still in git's list.
        if path.extension().is_none_or(|e| e != "md") || !full.exists() {
            continue;
        }
        let text = fs::read_to_string(&full).map_err(Failure::io("read", &full))?;
        for (line, target) in links(&text) {
            if let Some(what) = broken(&root, &path, &target).or_else(|| headless(&root, &path, &target)) {
                complaints.push(format!("{}:{line}: {what}", path.display()));
            }
        }
    }
    Ok(complaints)
}

/// Targets of `[text](target)`, `![text](target)` and `[name]: target` outside of code, with their lines.
fn links(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut fence: Option<&str> = None;
    for (number, line) in text.lines().enumerate() {
        let number = number + 1;
        let start = line.trim_start();
        let mark = ["```", "~~~"].into_iter().find(|m| start.starts_with(m));
        match (fence, mark) {
            (None, Some(mark)) => fence = Some(mark),
            (Some(open), Some(mark)) if open == mark => fence = None,
            _ => {}
        }
        if fence.is_some() || mark.is_some() {
            continue;
        }
        let line = without_code(line);
        if let Some(target) = definition(line.trim_start()) {
            found.push((number, target));
        }
        for (at, _) in line.match_indices("](") {
            let rest = &line[at + 2..];
            let end = rest.find([')', ' ']).unwrap_or(rest.len());
            found.push((number, rest[..end].to_owned()));
        }
    }
    found
}

/// The line with what stands between backticks left out.
fn without_code(line: &str) -> String {
    let parts: Vec<&str> = line.split('`').collect();
    // An odd count of backticks closes nothing; then the line is all text.
    if parts.len().is_multiple_of(2) {
        return line.to_owned();
    }
    parts.iter().step_by(2).copied().collect::<Vec<_>>().join("")
}

fn definition(line: &str) -> Option<String> {
    let rest = line.strip_prefix('[')?;
    let (name, target) = rest.split_once("]: ")?;
    // Footnotes look alike.
    (!name.starts_with('^')).then(|| target.split_whitespace().next().unwrap_or_default().to_owned())
}

fn broken(root: &Path, document: &Path, target: &str) -> Option<String> {
    let target = target.trim_start_matches('<').trim_end_matches('>');
    let elsewhere = target.contains("://") || target.starts_with("mailto:");
    if elsewhere || target.starts_with('#') {
        return None;
    }
    let file = target.split('#').next().unwrap_or(target);
    if file.is_empty() {
        return Some("a link has no target".to_owned());
    }
    if file.starts_with('/') {
        return Some(format!("link {target} is absolute; write it relative to the document"));
    }
    let directory = document.parent().unwrap_or(Path::new(""));
    let full = root.join(directory).join(file.replace("%20", " "));
    (!full.exists()).then(|| format!("link {target} leads to nothing"))
}

/// What is wrong with the part of a link behind `#`, if it names no heading of a document of ours.
fn headless(root: &Path, document: &Path, target: &str) -> Option<String> {
    let (file, anchor) = target.split_once('#').filter(|(file, _)| !file.contains("://"))?;
    let full = match file {
        "" => root.join(document),
        file => root.join(document.parent().unwrap_or(Path::new(""))).join(file),
    };
    let text = fs::read_to_string(&full).ok().filter(|_| full.extension().is_some_and(|e| e == "md"))?;
    (!anchors(&text).any(|found| found == anchor)).then(|| format!("link {target} leads to no heading"))
}

/// Anchors of a document's headings, as GitHub makes them: lower case, without punctuation, with `-` for blanks.
fn anchors(text: &str) -> impl Iterator<Item = String> {
    let mut is_code = false;
    text.lines().filter_map(move |line| {
        is_code ^= line.starts_with("```");
        let heading = line.trim_start_matches('#').strip_prefix(' ').filter(|_| line.starts_with('#') && !is_code)?;
        let letter = |letter: char| match letter {
            ' ' => Some('-'),
            '-' | '_' => Some(letter),
            letter => letter.is_alphanumeric().then_some(letter),
        };
        Some(heading.trim().to_lowercase().chars().filter_map(letter).collect())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_and_definitions_are_found_outside_of_code() {
        let text = "[a](x.md) and ![b](y.png \"title\")\n\
                    `[c](no.md)` [d](z.md#part)\n\
                    ```\n[e](no.md)\n```\n\
                    [f]: w.md\n[^1]: a footnote\n";
        assert_eq!(
            links(text),
            [(1, "x.md".to_owned()), (1, "y.png".to_owned()), (2, "z.md#part".to_owned()), (6, "w.md".to_owned()),]
        );
    }

    #[test]
    fn a_link_is_relative_to_its_document() {
        let home = tempfile::tempdir().unwrap();
        fs::create_dir(home.path().join("docs")).unwrap();
        fs::write(home.path().join("README.md"), "").unwrap();
        let document = Path::new("docs/a.md");
        let verdict = |target| broken(home.path(), document, target);
        assert_eq!(verdict("../README.md#top"), None);
        assert_eq!(verdict("https://example.org/x"), None);
        assert_eq!(verdict("#here"), None);
        assert!(verdict("README.md").is_some());
        assert!(verdict("/README.md").is_some());
        assert!(verdict("").is_some());
    }

    #[test]
    fn what_follows_a_hash_is_a_heading_of_that_document() {
        let home = tempfile::tempdir().unwrap();
        fs::create_dir(home.path().join("docs")).unwrap();
        fs::write(home.path().join("README.md"), "# It isn't `here`: 1/2\n```\n# code\n```\n").unwrap();
        fs::write(home.path().join("docs/a.md"), "## Part\n").unwrap();
        let verdict = |target| headless(home.path(), Path::new("docs/a.md"), target).is_none();
        assert!(verdict("../README.md#it-isnt-here-12"));
        assert!(verdict("#part"));
        assert!(verdict("../README.md"));
        assert!(verdict("https://example.org/x#y"));
        assert!(!verdict("#other"));
        assert!(!verdict("../README.md#code"));
    }

    #[test]
    fn all_links_of_our_documents_lead_somewhere() {
        assert_eq!(check().unwrap(), Vec::<String>::new());
    }
}
