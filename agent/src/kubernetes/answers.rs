//! What waits for a person: as a replica's status lists it, and what becomes of the answers.

use crate::control::question::Loop;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::time::Duration;
use syncmesh_crds::conflict::{Action, Contents, Deletions, Resolution, Version};
use syncmesh_crds::limits;
use syncmesh_crds::replica::{Decision, Hold, OpenConflict, Refused};
use syncmesh_engine::ask::{Ask, Named, Resolve};
use syncmesh_engine::conflicts::{Choice, Conflict, Conflicts, Whereabouts};
use syncmesh_engine::guard::Verdict;
use syncmesh_engine::inquiry::Held;

/// How long the loop may take for a list, or for carrying out a decision.
const PATIENCE: Duration = Duration::from_secs(10);

/// What waits for a person in one volume.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Questions {
    /// Conflicts, the oldest first.
    pub conflicts: Vec<OpenConflict>,
    /// Their paths, by id.
    paths: BTreeMap<String, String>,
    /// Held deletions.
    pub holds: Vec<Hold>,
    /// What was decided, and what came of it: an error, or nothing.
    done: BTreeMap<String, (Resolution, Option<String>)>,
    /// When the present hold began, in seconds since 1970.
    held_since: Option<i64>,
}

impl Questions {
    /// Asks the loop anew what waits in a volume.
    ///
    /// # Errors
    /// The loop doesn't answer.
    pub async fn ask(&mut self, agent: &Loop, volume: &str, now: i64) -> Result<(), String> {
        let name = || Some(volume.to_owned());
        let conflicts = agent.question(PATIENCE, |reply| Ask::Conflicts(name(), reply)).await?;
        self.list_conflicts(conflicts);
        let held = agent.question(PATIENCE, |reply| Ask::Holds(name(), reply)).await?;
        self.list_holds(volume, held, now);
        Ok(())
    }

    /// Nothing waits any more.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    fn list_conflicts(&mut self, found: Vec<Conflicts>) {
        let mut all: Vec<(OpenConflict, String)> = found
            .into_iter()
            .flat_map(|volume| volume.paths)
            .filter_map(|conflict| Some((open(&conflict)?, conflict.path)))
            .collect();
        all.sort_by_key(|(one, _)| (one.contents.since.clone(), one.id.clone()));
        all.truncate(limits::LISTED_CONFLICTS as usize);
        self.paths = all.iter().map(|(one, path)| (one.id.clone(), path.clone())).collect();
        self.conflicts = all.into_iter().map(|(one, _)| one).collect();
    }

    fn list_holds(&mut self, volume: &str, found: Vec<Held>, now: i64) {
        let Some(held) = found.into_iter().next() else {
            (self.holds, self.held_since) = (Vec::new(), None);
            return;
        };
        let since = *self.held_since.get_or_insert(now);
        let shown = held.paths.iter().take(limits::SHOWN_FILES as usize);
        self.holds = vec![Hold {
            id: id(&[volume, &since.to_string()]),
            deletions: Deletions {
                files: held.files,
                bytes: held.paths.iter().map(|path| path.bytes).sum(),
                paths: shown.map(|path| escaped(&path.path)).collect(),
                since: at(since),
            },
        }];
    }

    /// Carries out what people decided about what is listed, each decision once.
    pub async fn obey(&mut self, agent: &Loop, volume: &str, decisions: &[Decision]) {
        for decision in decisions {
            let is_done = self.done.get(&decision.id).is_some_and(|(done, _)| *done == decision.resolution);
            if is_done {
                continue;
            }
            let outcome = if self.holds.iter().any(|hold| hold.id == decision.id) {
                decide(agent, volume, &decision.resolution).await
            } else if let Some(path) = self.paths.get(&decision.id).cloned() {
                self.resolve(agent, volume, &path, &decision.resolution).await
            } else {
                continue;
            };
            match &outcome {
                Ok(()) => tracing::info!(volume, id = decision.id, "a decision was carried out"),
                Err(why) => tracing::warn!(volume, id = decision.id, %why, "a decision can't be carried out"),
            }
            self.done.insert(decision.id.clone(), (decision.resolution.clone(), outcome.err()));
        }
        self.done.retain(|id, _| decisions.iter().any(|decision| decision.id == *id));
    }

    async fn resolve(&self, agent: &Loop, volume: &str, path: &str, how: &Resolution) -> Result<(), String> {
        let choice = match how.action {
            Action::Winner => Choice::Local,
            Action::Loser => Choice::Remote,
            Action::Both => Choice::Both,
            Action::Approve | Action::Reject => return Err("a conflict is resolved by winner, loser or both".into()),
        };
        let mut paths = vec![path.to_owned()];
        if let Some(pattern) = &how.pattern {
            let glob = syncmesh_config::glob(pattern).map_err(|why| format!("pattern {pattern}: {why}"))?;
            let matcher = glob.compile_matcher();
            let fits = |other: &&String| other.as_str() != path && matcher.is_match(Path::new(other));
            paths.extend(self.paths.values().filter(fits).cloned());
        }
        for path in paths {
            let named = Named { volume: Some(volume.to_owned()), typed: path.clone(), absolute: format!("/{path}") };
            let order = Resolve { path: named, choice, contents: None };
            agent.question(PATIENCE, |reply| Ask::Resolve(order, reply)).await?;
        }
        Ok(())
    }

    /// Decisions that couldn't be carried out.
    pub fn refused(&self) -> Vec<Refused> {
        let refused = self.done.iter().filter_map(|(id, (resolution, why))| {
            let message = cut(why.as_ref()?, limits::MESSAGE as usize);
            Some(Refused { id: id.clone(), resolution: resolution.clone(), message })
        });
        refused.take(limits::RESOLUTIONS as usize).collect()
    }
}

async fn decide(agent: &Loop, volume: &str, how: &Resolution) -> Result<(), String> {
    let verdict = match how.action {
        Action::Approve => Verdict::Approve,
        Action::Reject => Verdict::Reject,
        Action::Winner | Action::Loser | Action::Both => {
            return Err("held deletions are decided by approve or reject".into());
        }
    };
    agent.question(PATIENCE, |reply| Ask::DecideHolds(Some(volume.to_owned()), verdict, reply)).await.map(drop)
}

/// A conflict as people are asked about it: who has the name, and the first of those who haven't.
fn open(conflict: &Conflict) -> Option<OpenConflict> {
    let [winner, loser, ..] = conflict.versions.as_slice() else { return None };
    let version = |rival: &syncmesh_engine::conflicts::Rival| Version {
        node: rival.node.clone(),
        modified: at(i64::try_from(rival.written / 1_000).unwrap_or(0)),
        bytes: rival.size,
    };
    let written = conflict.versions.iter().map(|rival| rival.written).max().unwrap_or(0);
    let mut contents: Vec<&str> = conflict.versions.iter().map(|rival| rival.contents.as_str()).collect();
    // Each node has its own order of what isn't decided.
    contents.sort_unstable();
    let parts: Vec<&str> = std::iter::once(conflict.path.as_str()).chain(contents).collect();
    Some(OpenConflict {
        id: id(&parts),
        contents: Contents {
            path: escaped(&conflict.path),
            winner: version(winner),
            loser: version(loser),
            copy: match &loser.place {
                Whereabouts::Copy(name) => Some(escaped(name)),
                Whereabouts::Here | Whereabouts::Stored | Whereabouts::Elsewhere => None,
            },
            since: at(i64::try_from(written / 1_000).unwrap_or(0)),
        },
    })
}

/// An id that the same texts have everywhere.
fn id(parts: &[&str]) -> String {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes()).update(part.as_bytes());
    }
    hasher.finalize().to_hex()[..32].to_owned()
}

/// A file's name for an object: percent-escaped where it has anything but what names usually have, and cut. The schema takes no blanks.
fn escaped(name: &str) -> String {
    let mut text = String::new();
    for byte in name.bytes() {
        let plain = byte.is_ascii_alphanumeric() || b"-._~/()+,@=".contains(&byte);
        if text.len() + 3 > limits::FILE as usize {
            break;
        }
        if plain {
            text.push(char::from(byte));
        } else {
            let _ = write!(text, "%{byte:02X}");
        }
    }
    text
}

/// At most so many characters.
pub(super) fn cut(text: &str, most: usize) -> String {
    text.chars().take(most).collect()
}

pub(super) fn at(seconds: i64) -> Time {
    Time(Timestamp::from_second(seconds).unwrap_or(Timestamp::UNIX_EPOCH))
}

#[cfg(test)]
mod tests {
    use super::*;
    use syncmesh_engine::conflicts::Rival;
    use syncmesh_engine::inquiry::{HeldPath, Reason};

    fn rival(node: &str, written: u64, contents: &str, place: Whereabouts) -> Rival {
        Rival { node: node.into(), written, size: 5, contents: contents.into(), place }
    }

    fn conflict(path: &str, versions: Vec<Rival>) -> Conflicts {
        let paths = vec![Conflict { path: path.into(), undecided: false, versions }];
        Conflicts { volume: "id".into(), paths }
    }

    #[test]
    fn a_conflict_has_one_id_on_all_nodes_and_its_names_are_escaped() {
        let a = rival("a", 2_000, "aa", Whereabouts::Here);
        let b = rival("b", 3_000, "bb", Whereabouts::Copy("ä (conflict)".into()));
        let (mut one, mut other) = (Questions::default(), Questions::default());
        one.list_conflicts(vec![conflict("d/ä", vec![a.clone(), b.clone()])]);
        other.list_conflicts(vec![conflict("d/ä", vec![b, a])]);
        assert_eq!(one.conflicts[0].id, other.conflicts[0].id);
        let contents = &one.conflicts[0].contents;
        assert_eq!((contents.path.as_str(), contents.copy.as_deref()), ("d/%C3%A4", Some("%C3%A4%20(conflict)")));
        assert_eq!((contents.winner.node.as_str(), contents.since.clone()), ("a", at(3)));
    }

    #[test]
    fn a_hold_keeps_its_id_while_it_lasts_and_the_next_one_has_another() {
        let held = || {
            let paths = vec![HeldPath { path: "f".into(), reason: Reason::DeletedHere, bytes: 7 }];
            vec![Held { volume: "id".into(), files: 30, paths }]
        };
        let mut questions = Questions::default();
        questions.list_holds("id", held(), 100);
        let first = questions.holds[0].clone();
        questions.list_holds("id", held(), 200);
        assert_eq!(questions.holds, std::slice::from_ref(&first));
        assert_eq!((first.deletions.files, first.deletions.bytes), (30, 7));
        questions.list_holds("id", Vec::new(), 300);
        questions.list_holds("id", held(), 400);
        assert_ne!(questions.holds[0].id, first.id);
    }

    #[test]
    fn what_isnt_listed_is_not_decided_and_what_fails_is_said_once() {
        let fake = crate::control::fake::Fake::start(|| crate::control::fake::status(true, 1));
        let mut questions = Questions::default();
        questions.list_holds("id", vec![Held { volume: "id".into(), files: 30, paths: Vec::new() }], 100);
        let resolution = Resolution { action: Action::Approve, pattern: None };
        let ours = Decision { id: questions.holds[0].id.clone(), resolution: resolution.clone() };
        let stranger = Decision { id: "stranger".into(), resolution };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(questions.obey(&fake.agent, "id", &[ours.clone(), stranger]));
        let refused = questions.refused();
        assert_eq!((refused.len(), refused[0].id.as_str()), (1, ours.id.as_str()));
        assert!(refused[0].message.contains("no deletions are held"));
        runtime.block_on(questions.obey(&fake.agent, "id", &[]));
        assert!(questions.refused().is_empty());
    }
}
