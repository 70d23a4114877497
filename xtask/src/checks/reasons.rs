//! Each condition, each reason of one, and each state that operator and agents can set is explained to users; and what is explained
//! exists.

use crate::failure::{Failure, Outcome};
use crate::repository;
use std::collections::BTreeSet;
use std::fs;

/// Where the source is that can set one.
const SOURCES: [&str; 2] = ["operator/src", "agent/src/kubernetes"];
/// What only a file has that sets conditions or tells events: of such a file every word in CamelCase counts.
const MARKS: [&str; 4] = ["Finding::new(", "fn reason(&self)", "fn condition(", ".complain("];
/// Where the states are, which are reasons of events, too.
const STATES: &str = "crds/src/state.rs";
/// Where they are explained.
const EXPLAINED: [&str; 2] = ["docs/troubleshooting.md", "docs/kubernetes.md"];
/// Headings of columns in which nothing else stands.
const HEADINGS: [&str; 3] = ["condition", "reason", "state"];
/// Shorter words are units.
const SHORTEST: usize = 3;

/// Words that the source can set and no document explains, and words that a document explains and nobody sets.
pub fn check() -> Outcome<Vec<String>> {
    let root = repository::root();
    let read = |path: &str| {
        let full = root.join(path);
        fs::read_to_string(&full).map_err(Failure::io("read", &full))
    };
    let mut set = BTreeSet::new();
    for path in repository::files(true)? {
        let path = path.to_string_lossy();
        let is_source = path.ends_with(".rs") && SOURCES.iter().any(|source| path.starts_with(source));
        if is_source && root.join(&*path).exists() {
            set.extend(words_in(&read(&path)?));
        }
    }
    set.extend(variants_in(&read(STATES)?));
    let documents: Vec<(&str, String)> =
        EXPLAINED.iter().map(|path| Ok((*path, read(path)?))).collect::<Outcome<_>>()?;
    Ok(complaints(&set, &documents))
}

/// Words in CamelCase between quotes, in a file that sets conditions; not those of its tests.
fn words_in(text: &str) -> BTreeSet<String> {
    let text = text.split("#[cfg(test)]").next().unwrap_or_default();
    if !MARKS.iter().any(|mark| text.contains(mark)) {
        return BTreeSet::new();
    }
    let mut words = BTreeSet::new();
    for line in text.lines().map(str::trim_start).filter(|line| !line.starts_with("//")) {
        // Whether a part is inside of quotes doesn't matter: code has no word in CamelCase that stands alone between two of them.
        words.extend(line.split('"').filter(|part| is_word(part)).map(str::to_owned));
    }
    words
}

/// Variants of an enum that have no fields.
fn variants_in(text: &str) -> BTreeSet<String> {
    let lines = text.lines().filter_map(|line| line.trim().strip_suffix(','));
    lines.filter(|line| is_word(line)).map(str::to_owned).collect()
}

fn is_word(text: &str) -> bool {
    text.len() >= SHORTEST
        && text.starts_with(|letter: char| letter.is_ascii_uppercase())
        && text.chars().all(|letter| letter.is_ascii_alphanumeric())
        && text.contains(|letter: char| letter.is_ascii_lowercase())
}

fn complaints(set: &BTreeSet<String>, documents: &[(&str, String)]) -> Vec<String> {
    let is_explained = |word: &String| documents.iter().any(|(_, text)| text.contains(&format!("`{word}`")));
    let places: Vec<&str> = documents.iter().map(|(path, _)| *path).collect();
    let unexplained = set.iter().filter(|word| !is_explained(word));
    let mut found: Vec<String> = unexplained
        .map(|word| format!("{word} can be set, and is explained in none of {}", places.join(", ")))
        .collect();
    for (path, text) in documents {
        let unknown = explained(text).into_iter().filter(|(_, word)| !set.contains(word));
        found.extend(unknown.map(|(line, word)| format!("{path}:{line}: nobody sets {word}")));
    }
    found
}

/// What tables explain in the columns of these headings, with their lines.
fn explained(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut columns: Option<Vec<bool>> = None;
    for (number, line) in text.lines().enumerate() {
        let Some(row) = line.strip_prefix('|').and_then(|rest| rest.trim_end().strip_suffix('|')) else {
            columns = None;
            continue;
        };
        let cells = row.split('|').map(str::trim);
        match &columns {
            None => columns = Some(cells.map(|cell| HEADINGS.contains(&cell)).collect()),
            Some(columns) => {
                for (cell, _) in cells.zip(columns).filter(|(_, is_ours)| **is_ours) {
                    found.extend(cell.split('`').skip(1).step_by(2).map(|word| (number + 1, word.to_owned())));
                }
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(words: &[&str]) -> BTreeSet<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn words_are_those_of_files_that_set_conditions() {
        let text = "// \"Comment\"\nlet a = Finding::new(\"Ready\", Holds::False, \"NotYet\", \"A sentence\");\nlet b = \"Gi\";\n\
                    #[cfg(test)]\nlet c = \"Tested\";\n";
        assert_eq!(words_in(text), set(&["NotYet", "Ready"]));
        assert_eq!(words_in("let a = \"Ready\";"), set(&[]));
    }

    #[test]
    fn states_are_the_variants() {
        assert_eq!(
            variants_in("pub enum State {\n    /// It is.\n    InSync,\n    Held,\n}\n"),
            set(&["Held", "InSync"])
        );
    }

    #[test]
    fn what_is_set_is_explained_and_what_is_explained_is_set() {
        let with = |text: &str| complaints(&set(&["Ready", "NotYet"]), &[("a.md", text.to_owned())]);
        let table = "| condition | reason | means |\n|---|---|---|\n| `Ready` | `NotYet` | see `Other` |\n";
        assert_eq!(with(table), Vec::<String>::new());
        assert_eq!(with("`Ready` and NotYet").len(), 1, "a word that isn't marked as one explains nothing");
        let gone = "| condition | reason |\n|---|---|\n| `Ready` | `NotYet`, `Gone` |\n";
        assert_eq!(with(gone), ["a.md:3: nobody sets Gone"]);
        let other = "| x | y |\n|---|---|\n| `Ready` | `NotYet`, `Gone` |\n";
        assert_eq!(with(other), Vec::<String>::new(), "another table");
    }

    #[test]
    fn the_documents_explain_what_the_source_sets_and_nothing_else() {
        assert_eq!(check().unwrap(), Vec::<String>::new());
    }
}
