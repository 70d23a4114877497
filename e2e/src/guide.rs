//! Shell blocks of a document, run as they stand there, and what it says that they print.

use crate::failure::{Failure, Outcome};
use crate::program::{finish, repository};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
use std::{env, fs};

/// In a comment above a block: people run it, stories don't.
const NOT_RUN: &str = "<!-- not run:";

/// A shell block.
#[derive(Debug, PartialEq, Eq)]
pub struct Block {
    /// The nearest headline above.
    pub section: String,
    /// Its lines.
    pub script: String,
    /// The lines that it prints, in this order and perhaps among others; `...` is whatever.
    pub printed: Vec<String>,
}

/// A block that was run.
pub struct Told {
    /// What it printed.
    pub text: String,
    /// How long it took.
    pub took: Duration,
}

/// Blocks of a document that are to be run, below a headline of the second level.
pub fn blocks(document: &str, chapter: &str) -> Outcome<Vec<Block>> {
    let path = repository().join(document);
    let text = fs::read_to_string(&path).map_err(Failure::to(format!("read {}", path.display())))?;
    let found = parse(&text, chapter);
    if found.is_empty() {
        Err(Failure::new(format!("{document} has no block to run below `{chapter}`")))
    } else {
        Ok(found)
    }
}

fn parse(text: &str, chapter: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let (mut is_inside, mut section, mut is_left_out) = (false, String::new(), false);
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(title) = line.strip_prefix("## ") {
            is_inside = title == chapter;
        } else if let Some(title) = line.strip_prefix("### ") {
            section = title.to_owned();
        } else if line.starts_with(NOT_RUN) {
            is_left_out = true;
        } else if let Some(language) = line.strip_prefix("```") {
            let body: Vec<String> = lines.by_ref().take_while(|line| *line != "```").map(Into::into).collect();
            match language {
                "sh" if is_inside && !is_left_out => {
                    blocks.push(Block { section: section.clone(), script: body.join("\n"), printed: Vec::new() });
                }
                "text" if is_inside => blocks.last_mut().into_iter().for_each(|block| block.printed.clone_from(&body)),
                _ => {}
            }
            is_left_out = false;
        }
    }
    blocks
}

/// Runs a block in the repository, as its reader would, with our programs on PATH.
pub fn run(block: &Block) -> Outcome<Told> {
    let own = env::current_exe().map_err(Failure::to("find this program"))?;
    let own = own.parent().unwrap_or(Path::new("/")).to_path_buf();
    let others = env::var_os("PATH").unwrap_or_default();
    let path =
        env::join_paths(std::iter::once(own).chain(env::split_paths(&others))).map_err(Failure::to("extend PATH"))?;
    let mut shell = Command::new("bash");
    shell.args(["-euo", "pipefail", "-c", &block.script]).env("PATH", path);
    let start = Instant::now();
    let text = finish(shell, None).map_err(|failure| {
        Failure::new(format!("a block of `{}` failed: {failure}\n{}", block.section, block.script))
    })?;
    let took = start.elapsed();
    match missing(&block.printed, &text) {
        None => Ok(Told { text, took }),
        Some(line) => Err(Failure::new(format!("a block of `{}` didn't print `{line}`, but:\n{text}", block.section))),
    }
}

/// The first line that wasn't printed where it should be.
fn missing<'a>(expected: &'a [String], printed: &str) -> Option<&'a str> {
    let mut lines = printed.lines();
    expected.iter().find(|wanted| !lines.any(|line| fits(wanted, line))).map(String::as_str)
}

/// Whether a line is as expected: spaces count once, and `...` stands for whatever.
fn fits(wanted: &str, line: &str) -> bool {
    let squeeze = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let (wanted, line) = (squeeze(wanted), squeeze(line));
    let mut parts = wanted.split("...");
    let Some(mut rest) = parts.next().and_then(|first| line.strip_prefix(first.trim_end())) else { return false };
    let mut is_open = false;
    for part in parts {
        is_open = true;
        let part = part.trim();
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    is_open || rest.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_fit_with_any_spaces_and_with_whatever_dots_stand_for() {
        assert!(fits("demo   2/2 InSync ...", "demo 2/2     InSync   100%"));
        assert!(fits("written ..., here ...", "written 1, here 2"));
        assert!(!fits("written ..., here ...", "written 1, there 2"));
        assert!(!fits("hello", "hello you") && !fits("hello", "say hello"));
    }

    #[test]
    fn blocks_of_one_chapter_are_found_with_what_they_print() {
        let text = "## A\n### One\n```sh\nx\n```\n```text\n1\n```\n<!-- not run: why -->\n```sh\ny\n```\n## B\n```sh\nz\n```\n";
        let found = parse(text, "A");
        assert_eq!(found, [Block { section: "One".into(), script: "x".into(), printed: vec!["1".into()] }]);
    }

    #[test]
    fn lines_are_expected_in_their_order() {
        let expected = ["a".to_owned(), "b".to_owned()];
        assert_eq!(missing(&expected, "a\nx\nb\n"), None);
        assert_eq!(missing(&expected, "b\na\n"), Some("b"));
    }
}
