//! Tests that a document names as the proof of what it says exist.

use crate::failure::{Failure, Outcome};
use crate::repository;
use std::collections::BTreeSet;
use std::fs;

/// The document whose tables have a column for tests.
const DOCUMENT: &str = "docs/semantics.md";

/// The heading of that column, which is the last.
const HEADING: &str = "shown by";

/// What stands in it where no test exists yet.
const NONE: &str = "no test yet";

/// Names in the document that are no test's, and rows that name none.
pub fn check() -> Outcome<Vec<String>> {
    let root = repository::root();
    let mut tests = BTreeSet::new();
    for path in repository::files(true)? {
        let full = root.join(&path);
        if path.extension().is_some_and(|e| e == "rs") && full.exists() {
            let text = fs::read_to_string(&full).map_err(Failure::io("read", &full))?;
            tests.extend(tests_in(&text).map(str::to_owned));
        }
    }
    let full = root.join(DOCUMENT);
    let text = fs::read_to_string(&full).map_err(Failure::io("read", &full))?;
    Ok(complaints(&text, &tests))
}

/// Names of functions that are marked as tests.
fn tests_in(text: &str) -> impl Iterator<Item = &str> {
    let mut is_test = false;
    text.lines().filter_map(move |line| {
        let line = line.trim_start();
        if line == "#[test]" {
            is_test = true;
        } else if !line.starts_with("#[") && !line.starts_with("//") {
            let name = line.strip_prefix("fn ").and_then(|rest| rest.split('(').next());
            return name.filter(|_| std::mem::take(&mut is_test));
        }
        None
    })
}

fn complaints(text: &str, tests: &BTreeSet<String>) -> Vec<String> {
    let mut found = Vec::new();
    let mut in_table = false;
    for (number, line) in text.lines().enumerate().map(|(at, line)| (at + 1, line)) {
        let Some(row) = line.strip_prefix('|').and_then(|rest| rest.trim_end().strip_suffix('|')) else {
            in_table = false;
            continue;
        };
        let last = row.rsplit('|').next().unwrap_or_default().trim();
        if last == HEADING {
            in_table = true;
        } else if in_table && !last.starts_with("---") && last != NONE {
            let names: Vec<&str> = last.split('`').skip(1).step_by(2).collect();
            if names.is_empty() {
                found.push(format!("{DOCUMENT}:{number}: the row names no test, and doesn't say `{NONE}`"));
            }
            let unknown = names.into_iter().filter(|name| !tests.contains(*name));
            found.extend(unknown.map(|name| format!("{DOCUMENT}:{number}: there is no test {name}")));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_are_found_by_their_attribute() {
        let text = "fn helper() {}\n#[test]\n#[ignore]\nfn one() {\n}\n    #[test]\n    fn two(a in b()) {";
        assert_eq!(tests_in(text).collect::<Vec<_>>(), ["one", "two"]);
    }

    #[test]
    fn each_row_names_tests_that_exist_or_says_that_there_is_none() {
        let tests = BTreeSet::from(["one".to_owned(), "two".to_owned()]);
        let table = |last: &str| format!("| case | answer | shown by |\n|---|---|---|\n| a | b | {last} |\n");
        for fine in ["`one`", "`one`, `two`", NONE] {
            assert_eq!(complaints(&table(fine), &tests), Vec::<String>::new());
        }
        assert_eq!(complaints(&table("`three`"), &tests).len(), 1);
        assert_eq!(complaints(&table(""), &tests).len(), 1);
        assert!(complaints("| a | b |\n|---|---|\n| c | `three` |\n", &tests).is_empty(), "another table");
    }
}
