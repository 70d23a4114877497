//! `conflicts` and `holds`: questions to people, which are SyncConflict objects, and their answers.

use crate::failure::{Failure, Outcome};
use crate::session::Session;
use crate::show::{Output, cell, print, show, table};
use kube::ResourceExt;
use kube::api::{Api, ListParams, Patch, PatchParams};
use serde_json::json;
use syncmesh_crds::SyncConflict;
use syncmesh_crds::conflict::Question;

/// What can be done about conflicts.
#[derive(clap::Subcommand, Debug)]
pub enum Conflicts {
    /// Show open conflicts
    List {
        /// Only of this volume
        volume: Option<String>,
    },
    /// Answer one, or all of its volume that fit a pattern
    Resolve {
        /// The conflict, as `list` names it
        name: String,
        /// winner leaves the name to the version that has it, loser gives it to the other one, both keeps both. A conflict copy stays
        /// until somebody deletes it
        #[arg(value_parser = ["winner", "loser", "both"])]
        action: String,
        /// All conflicts of the volume whose path fits this glob get the same answer
        #[arg(long, value_name = "GLOB")]
        pattern: Option<String>,
    },
}

/// What can be done about held deletions.
#[derive(clap::Subcommand, Debug)]
pub enum Holds {
    /// Show held deletions
    List {
        /// Only of this volume
        volume: Option<String>,
    },
    /// Carry the deletions out, everywhere
    Approve {
        /// The hold, as `list` names it
        name: String,
    },
    /// Bring the files back
    Reject {
        /// The hold, as `list` names it
        name: String,
    },
}

/// Runs `conflicts`.
pub async fn conflicts(session: &Session, command: &Conflicts, output: Output) -> Outcome<()> {
    match command {
        Conflicts::List { volume } => {
            let found = open(session, Question::Contents, volume.as_deref()).await?;
            let headline = ["NAME", "VOLUME", "PATH", "STATE", "WINNER", "LOSER", "COPY", "MESSAGE"];
            show(output, &found, |found| table(&headline, &found.iter().map(conflict).collect::<Vec<_>>()))
        }
        Conflicts::Resolve { name, action, pattern } => {
            answer(session, name, Question::Contents, action, pattern.as_deref()).await
        }
    }
}

/// Runs `holds`.
pub async fn holds(session: &Session, command: &Holds, output: Output) -> Outcome<()> {
    match command {
        Holds::List { volume } => {
            let found = open(session, Question::Deletions, volume.as_deref()).await?;
            let headline = ["NAME", "VOLUME", "NODE", "FILES", "BYTES", "STATE", "FOR EXAMPLE", "MESSAGE"];
            show(output, &found, |found| table(&headline, &found.iter().map(hold).collect::<Vec<_>>()))
        }
        Holds::Approve { name } => answer(session, name, Question::Deletions, "approve", None).await,
        Holds::Reject { name } => answer(session, name, Question::Deletions, "reject", None).await,
    }
}

async fn open(session: &Session, about: Question, volume: Option<&str>) -> Outcome<Vec<SyncConflict>> {
    let questions: Api<SyncConflict> = session.here();
    let mut all = questions.list(&ListParams::default()).await.map_err(Failure::call("list conflicts"))?.items;
    all.retain(|one| one.spec.r#type == about && volume.is_none_or(|volume| one.spec.volume == volume));
    for one in &mut all {
        one.metadata.managed_fields = None;
    }
    Ok(all)
}

fn conflict(question: &SyncConflict) -> Vec<String> {
    let status = question.status.clone().unwrap_or_default();
    let contents = status.contents.as_ref();
    vec![
        question.name_any(),
        question.spec.volume.clone(),
        cell(contents.map(|contents| &contents.path)),
        cell(status.state.map(|state| format!("{state:?}"))),
        cell(contents.map(|contents| &contents.winner.node)),
        cell(contents.map(|contents| &contents.loser.node)),
        cell(contents.and_then(|contents| contents.copy.as_ref())),
        cell(status.message),
    ]
}

fn hold(question: &SyncConflict) -> Vec<String> {
    let status = question.status.clone().unwrap_or_default();
    let deletions = status.deletions.as_ref();
    vec![
        question.name_any(),
        question.spec.volume.clone(),
        question.spec.node.clone(),
        cell(deletions.map(|deletions| deletions.files)),
        cell(deletions.map(|deletions| deletions.bytes)),
        cell(status.state.map(|state| format!("{state:?}"))),
        cell(deletions.and_then(|deletions| deletions.paths.first())),
        cell(status.message),
    ]
}

async fn answer(session: &Session, name: &str, about: Question, action: &str, pattern: Option<&str>) -> Outcome<()> {
    let questions: Api<SyncConflict> = session.here();
    let question = questions.get(name).await.map_err(Failure::call(format!("read {}/{name}", session.namespace)))?;
    if question.spec.r#type != about {
        let right = match question.spec.r#type {
            Question::Contents => "`kubectl syncmesh conflicts resolve`",
            Question::Deletions => "`kubectl syncmesh holds approve` or `reject`",
        };
        return Err(Failure::new(format!("{name} asks something else: answer with {right}")));
    }
    let mut resolution = json!({ "action": action });
    if let Some(pattern) = pattern {
        resolution["pattern"] = pattern.into();
    }
    let patch = Patch::Merge(json!({ "spec": { "resolution": resolution } }));
    questions.patch(name, &PatchParams::default(), &patch).await.map_err(Failure::call(format!("answer {name}")))?;
    print(&format!(
        "{name} is answered: {action}. It is gone once that is carried out: `kubectl wait --for=delete sconf/{name}`\n"
    ))
}
