//! Questions to people: what replicas list becomes SyncConflicts, and the answers become decisions of the replica that asks.

pub(crate) mod reconcile;

use crate::{labels, names};
use kube::core::ObjectMeta;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use syncmesh_crds::conflict::{Progress, Question, SyncConflictSpec, SyncConflictStatus};
use syncmesh_crds::replica::Decision;
use syncmesh_crds::{SyncConflict, SyncReplica, limits};

/// Most questions of a volume that have an object. The true number is in the volume's status.
pub const OBJECTS: usize = 100;

/// What should be there of a volume's questions.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Desired {
    /// New questions, with their status, which is written once they are there.
    pub asked: Vec<SyncConflict>,
    /// Names and statuses of questions that are there and changed.
    pub changed: Vec<(String, SyncConflictStatus)>,
    /// Names of questions that are none any more.
    pub settled: Vec<String>,
}

/// What should be there of the questions that a volume's replicas ask. `existing` are its SyncConflicts.
pub fn desired(replicas: &[Arc<SyncReplica>], existing: &[Arc<SyncConflict>]) -> Desired {
    let questions = questions(replicas);
    let mut desired = Desired::default();
    let mut there = BTreeSet::new();
    for object in existing {
        let name = object.metadata.name.clone().unwrap_or_default();
        match questions.get(&name) {
            Some(question) if is_asked_still(object, replicas) => {
                let status = status(object, question, replicas);
                if object.status.as_ref() != Some(&status) {
                    desired.changed.push((name.clone(), status));
                }
            }
            // Where another node asks the same, its question comes once this one is gone.
            Some(_) | None => desired.settled.push(name.clone()),
        }
        there.insert(name);
    }
    // The oldest first, so that with too many of them the same ones are shown each time.
    let mut new: Vec<(String, SyncConflict)> =
        questions.into_iter().filter(|(name, _)| !there.contains(name)).collect();
    new.sort_by_key(|(name, question)| (since(question), name.clone()));
    desired.asked = new.into_iter().map(|(_, question)| question).take(OBJECTS.saturating_sub(there.len())).collect();
    desired
}

/// The decisions that a replica is to be told: answers to what it asks.
pub fn decisions(replica: &SyncReplica, existing: &[Arc<SyncConflict>]) -> Vec<Decision> {
    let asks: BTreeSet<&str> = listed(replica).collect();
    let answer = |object: &Arc<SyncConflict>| {
        let is_asked = object.spec.node == replica.spec.node && asks.contains(object.spec.id.as_str());
        let resolution = object.spec.resolution.clone().filter(|_| is_asked)?;
        Some(Decision { id: object.spec.id.clone(), resolution })
    };
    let mut decisions: Vec<Decision> = existing.iter().filter_map(answer).collect();
    decisions.sort_by(|one, other| one.id.cmp(&other.id));
    decisions.truncate(limits::RESOLUTIONS as usize);
    decisions
}

/// Whether the node that asks lists it still: it is the one that would get the answer.
fn is_asked_still(object: &SyncConflict, replicas: &[Arc<SyncReplica>]) -> bool {
    let asker = replicas.iter().find(|replica| replica.spec.node == object.spec.node);
    asker.is_some_and(|replica| listed(replica).any(|id| id == object.spec.id))
}

fn listed(replica: &SyncReplica) -> impl Iterator<Item = &str> {
    let status = replica.status.iter();
    status.flat_map(|status| {
        let conflicts = status.conflicts.iter().map(|conflict| conflict.id.as_str());
        conflicts.chain(status.holds.iter().map(|hold| hold.id.as_str()))
    })
}

/// All that replicas ask, by the name of the object. A conflict that several list is asked by the first of them.
fn questions(replicas: &[Arc<SyncReplica>]) -> BTreeMap<String, SyncConflict> {
    let mut questions = BTreeMap::new();
    let mut sorted: Vec<&SyncReplica> = replicas.iter().map(Arc::as_ref).collect();
    sorted.sort_by(|one, other| one.spec.node.cmp(&other.spec.node));
    for replica in sorted {
        let volume = &replica.spec.volume;
        let Some(status) = &replica.status else { continue };
        for conflict in &status.conflicts {
            let name = names::of_conflict(volume, &conflict.id);
            let status = SyncConflictStatus { contents: Some(conflict.contents.clone()), ..open() };
            let question = || question(replica, &name, Question::Contents, &conflict.id, status);
            questions.entry(name.clone()).or_insert_with(question);
        }
        for hold in &status.holds {
            let name = names::of_hold(volume, &replica.spec.node, &hold.id);
            let status = SyncConflictStatus { deletions: Some(hold.deletions.clone()), ..open() };
            questions.insert(name.clone(), question(replica, &name, Question::Deletions, &hold.id, status));
        }
    }
    questions
}

fn question(replica: &SyncReplica, name: &str, r#type: Question, id: &str, status: SyncConflictStatus) -> SyncConflict {
    let namespace = replica.metadata.namespace.clone();
    let labels = labels::of_volume(&replica.spec.mesh, namespace.as_deref().unwrap_or_default(), &replica.spec.volume);
    SyncConflict {
        metadata: ObjectMeta { name: Some(name.to_owned()), namespace, labels: Some(labels), ..ObjectMeta::default() },
        spec: SyncConflictSpec {
            r#type,
            volume: replica.spec.volume.clone(),
            node: replica.spec.node.clone(),
            id: id.to_owned(),
            resolution: None,
        },
        status: Some(status),
    }
}

fn open() -> SyncConflictStatus {
    SyncConflictStatus {
        state: Some(Progress::Open),
        message: Some("set spec.resolution.action".to_owned()),
        ..SyncConflictStatus::default()
    }
}

/// How far a question is that is still asked.
fn status(object: &SyncConflict, question: &SyncConflict, replicas: &[Arc<SyncReplica>]) -> SyncConflictStatus {
    let facts = question.status.clone().unwrap_or_default();
    let asker = replicas.iter().find(|replica| replica.spec.node == object.spec.node);
    let refused = asker.and_then(|replica| replica.status.as_ref()).and_then(|status| {
        let is_ours =
            |id: &str, resolution: &_| id == object.spec.id && Some(resolution) == object.spec.resolution.as_ref();
        status.refused.iter().find(|refused| is_ours(&refused.id, &refused.resolution))
    });
    let (state, message) = match (&object.spec.resolution, refused) {
        (None, _) => (Progress::Open, facts.message.clone()),
        (Some(_), None) => (Progress::Resolving, None),
        (Some(_), Some(refused)) => (Progress::Failed, Some(refused.message.clone())),
    };
    SyncConflictStatus { observed_generation: object.metadata.generation, state: Some(state), message, ..facts }
}

/// Since when it is asked.
fn since(question: &SyncConflict) -> Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time> {
    let status = question.status.as_ref()?;
    let contents = status.contents.as_ref().map(|contents| contents.since.clone());
    contents.or_else(|| status.deletions.as_ref().map(|deletions| deletions.since.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::volume::example::Cluster;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use k8s_openapi::jiff::Timestamp;
    use syncmesh_crds::conflict::{Action, Contents, Deletions, Resolution, Version};
    use syncmesh_crds::replica::{Hold, OpenConflict, Refused};

    fn at(seconds: i64) -> Time {
        Time(Timestamp::from_second(seconds).unwrap())
    }

    fn conflict(id: &str, since: i64) -> OpenConflict {
        let version = |node: &str| Version { node: node.into(), modified: at(1), bytes: 1 };
        let contents =
            Contents { path: "a.txt".into(), winner: version("a"), loser: version("b"), copy: None, since: at(since) };
        OpenConflict { id: id.into(), contents }
    }

    fn hold(id: &str) -> Hold {
        Hold { id: id.into(), deletions: Deletions { files: 600, bytes: 1, paths: Vec::new(), since: at(2) } }
    }

    fn replicas() -> Vec<Arc<SyncReplica>> {
        let mut cluster = Cluster::with_nodes(&["a", "b"]);
        cluster.reconcile();
        for node in ["a", "b"] {
            cluster.report(node, |status| status.conflicts = vec![conflict("c-1", 5)]);
        }
        cluster.report("b", |status| status.holds = vec![hold("h-1")]);
        cluster.replicas
    }

    /// As the caches have them.
    fn there(objects: &[SyncConflict]) -> Vec<Arc<SyncConflict>> {
        objects.iter().cloned().map(Arc::new).collect()
    }

    fn resolved(mut object: SyncConflict, action: Action) -> SyncConflict {
        object.spec.resolution = Some(Resolution { action, pattern: None });
        object
    }

    #[test]
    fn a_conflict_is_asked_once_and_a_hold_by_the_node_that_has_it() {
        let asked = desired(&replicas(), &[]).asked;
        let shown: Vec<(Question, &str)> = asked.iter().map(|one| (one.spec.r#type, one.spec.node.as_str())).collect();
        assert_eq!(shown, [(Question::Deletions, "b"), (Question::Contents, "a")], "the oldest first");
    }

    #[test]
    fn what_is_asked_already_is_not_asked_again_and_what_nobody_asks_is_settled() {
        let asked = desired(&replicas(), &[]).asked;
        assert_eq!(desired(&replicas(), &there(&asked)), Desired::default());
        let settled = desired(&[], &there(&asked)).settled;
        assert_eq!(settled.len(), 2);
    }

    #[test]
    fn an_answer_goes_to_the_replica_that_asks_and_to_no_other() {
        let replicas = replicas();
        let answered: Vec<SyncConflict> = desired(&replicas, &[])
            .asked
            .into_iter()
            .map(|object| match object.spec.r#type {
                Question::Contents => resolved(object, Action::Both),
                Question::Deletions => resolved(object, Action::Approve),
            })
            .collect();
        let ids = |replica| decisions(replica, &there(&answered)).into_iter().map(|one| one.id).collect::<Vec<_>>();
        assert_eq!((ids(&replicas[0]), ids(&replicas[1])), (vec!["c-1".to_owned()], vec!["h-1".to_owned()]));
        let states: Vec<_> =
            desired(&replicas, &there(&answered)).changed.into_iter().map(|(_, status)| status.state).collect();
        assert_eq!(states, [Some(Progress::Resolving); 2]);
    }

    #[test]
    fn an_answer_to_what_a_replica_does_not_ask_any_more_is_not_handed_on() {
        let mut replicas = replicas();
        let answered = vec![resolved(desired(&replicas, &[]).asked.remove(0), Action::Approve)];
        Arc::make_mut(&mut replicas[1]).status.as_mut().unwrap().holds.clear();
        assert_eq!(decisions(&replicas[1], &there(&answered)), Vec::new());
    }

    #[test]
    fn a_question_goes_to_another_node_when_the_one_that_asked_is_gone() {
        let mut replicas = replicas();
        let object = desired(&replicas, &[]).asked.remove(1);
        replicas.remove(0);
        let moving = desired(&replicas, &there(std::slice::from_ref(&object)));
        assert_eq!(moving.settled, [object.metadata.name.clone().unwrap()]);
        assert!(moving.asked.iter().all(|one| one.metadata.name != object.metadata.name), "one after the other");
        let again = desired(&replicas, &[]).asked;
        assert!(again.iter().any(|one| one.metadata.name == object.metadata.name && one.spec.node == "b"));
    }

    #[test]
    fn an_answer_that_failed_says_why_until_another_one_is_given() {
        let mut replicas = replicas();
        let object = resolved(desired(&replicas, &[]).asked.remove(1), Action::Loser);
        let refused = Refused {
            id: "c-1".into(),
            resolution: Resolution { action: Action::Loser, pattern: None },
            message: "the copy is gone: choose winner".into(),
        };
        Arc::make_mut(&mut replicas[0]).status.as_mut().unwrap().refused.push(refused);
        let (_, failed) = desired(&replicas, &there(std::slice::from_ref(&object))).changed.remove(0);
        assert_eq!(
            (failed.state, failed.message.as_deref()),
            (Some(Progress::Failed), Some("the copy is gone: choose winner"))
        );
        let again = resolved(object, Action::Winner);
        assert_eq!(desired(&replicas, &there(&[again])).changed[0].1.state, Some(Progress::Resolving));
    }

    #[test]
    fn no_more_than_a_hundred_questions_have_an_object() {
        let mut cluster = Cluster::with_nodes(&["a"]);
        cluster.reconcile();
        cluster.report("a", |status| {
            status.conflicts = (0..120).map(|number| conflict(&format!("c-{number}"), number)).collect();
        });
        let asked = desired(&cluster.replicas, &[]).asked;
        assert_eq!(asked.len(), OBJECTS);
        assert_eq!(since(&asked[0]), Some(at(0)));
        assert_eq!(desired(&cluster.replicas, &there(&asked)).asked, Vec::new());
    }
}
