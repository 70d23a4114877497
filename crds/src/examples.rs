//! Objects that the API server must accept or refuse, as files: `accepted/KIND/NAME.yaml` and `refused/KIND/NAME.yaml`.
//! Tests here hold them against the types, the end-to-end story `schema` against a real API server.

use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

/// What the first line of a refused example begins with; then comes a part of the API server's message.
const MESSAGE: &str = "# message: ";

/// One example.
#[derive(Clone, Debug)]
pub struct Example {
    /// The kind of its object.
    pub kind: String,
    /// What it shows.
    pub name: String,
    /// What the API server must say to the last document.
    pub verdict: Verdict,
    /// The object, or two versions of it: then it is the change from one to the other that is accepted or refused.
    pub documents: Vec<Value>,
}

/// What the API server must say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Yes.
    Accepted,
    /// No, with a message that has this part.
    Refused(String),
}

/// All examples below a folder, by kind and name.
///
/// # Errors
/// A sentence that names the file which can't be read, or isn't an example.
pub fn read(folder: &Path) -> Result<Vec<Example>, String> {
    let mut examples = Vec::new();
    for verdict in ["accepted", "refused"] {
        for kind in entries(&folder.join(verdict))? {
            for path in entries(&kind)? {
                let text = fs::read_to_string(&path)
                    .map_err(|reason| format!("could not read {}: {reason}", path.display()))?;
                examples.push(example(&path, &kind, verdict, &text)?);
            }
        }
    }
    Ok(examples)
}

fn example(path: &Path, kind: &Path, verdict: &str, text: &str) -> Result<Example, String> {
    let wrong = |what: &str| format!("{} is no example: {what}", path.display());
    let part = text.lines().next().and_then(|line| line.strip_prefix(MESSAGE));
    let verdict = match (verdict, part) {
        ("accepted", None) => Verdict::Accepted,
        ("refused", Some(part)) => Verdict::Refused(part.to_owned()),
        _ => return Err(wrong("a refused one, and no other, begins with a line \"# message: …\"")),
    };
    let documents: Vec<Value> =
        serde_saphyr::from_multiple(text).map_err(|reason| wrong(&format!("it can't be read as YAML: {reason}")))?;
    let kind = last_part(kind);
    if documents.iter().any(|document| document["kind"] != kind) || !(1..=2).contains(&documents.len()) {
        return Err(wrong(&format!("it has one or two documents of kind {kind}")));
    }
    Ok(Example { kind, name: last_part(path), verdict, documents })
}

/// What a folder has, in order.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let mut entries = fs::read_dir(folder)
        .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>, _>>())
        .map_err(|reason| format!("could not list {}: {reason}", folder.display()))?;
    entries.sort();
    Ok(entries)
}

fn last_part(path: &Path) -> String {
    path.file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}
