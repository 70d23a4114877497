//! What the API server says to examples of our kinds.

use crate::cluster::{Answer, Cluster, Intent};
use crate::failure::{Failure, Outcome};
use std::path::Path;
use syncmesh_crds::examples::{self, Example, Verdict};

const NAMESPACE: &str = "syncmesh-schema";

/// Installs the kinds, then tries every example. SyncMesh objects have no namespace, so this story comes before anything that obeys
/// them.
pub async fn tell(cluster: &Cluster) -> Outcome<()> {
    cluster.install_kinds().await?;
    cluster.open_namespace(NAMESPACE).await?;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crds/examples");
    let examples = examples::read(&folder).map_err(Failure::new)?;
    let mut wrong = 0;
    for example in &examples {
        let answer = ask(cluster, example).await?;
        let (word, is_right) = match (&example.verdict, &answer) {
            (Verdict::Accepted, Answer::Yes) => ("accepted", true),
            (Verdict::Refused(part), Answer::No(message)) => ("refused", message.contains(part.as_str())),
            (Verdict::Accepted, Answer::No(_)) => ("refused", false),
            (Verdict::Refused(_), Answer::Yes) => ("accepted", false),
        };
        let message = match &answer {
            Answer::Yes => "",
            Answer::No(message) => message,
        };
        println!("{}{word:8} {} {} {message}", if is_right { "" } else { "WRONG: " }, example.kind, example.name);
        wrong += usize::from(!is_right);
    }
    cluster.close_namespace(NAMESPACE).await?;
    println!("{} examples, {wrong} wrong", examples.len());
    if wrong == 0 {
        Ok(())
    } else {
        Err(Failure::new(format!("{wrong} examples were answered otherwise than they say")))
    }
}

/// What the API server says to an example's last document.
async fn ask(cluster: &Cluster, example: &Example) -> Outcome<Answer> {
    let answer = store_and_ask(cluster, example).await;
    match example.documents.first() {
        Some(object) => cluster.delete(NAMESPACE, object).await?,
        None => return Err(Failure::new(format!("{} has no document", example.name))),
    }
    answer
}

/// The same. Stores what comes before it, and an object whose status is asked about.
async fn store_and_ask(cluster: &Cluster, example: &Example) -> Outcome<Answer> {
    let mut answer = Answer::Yes;
    for (index, object) in example.documents.iter().enumerate() {
        let is_last = index + 1 == example.documents.len();
        let intent = if is_last { Intent::Ask } else { Intent::Store };
        answer = cluster.apply(NAMESPACE, object, intent).await?;
        if !object["status"].is_null() && matches!(answer, Answer::Yes) {
            cluster.apply(NAMESPACE, object, Intent::Store).await?;
            answer = cluster.apply_status(NAMESPACE, object, intent).await?;
        }
        if !is_last {
            agreed(&answer, example)?;
        }
    }
    Ok(answer)
}

/// An example that can't even be prepared says nothing.
fn agreed(answer: &Answer, example: &Example) -> Outcome<()> {
    match answer {
        Answer::Yes => Ok(()),
        Answer::No(message) => {
            Err(Failure::new(format!("what {} {} begins with was refused: {message}", example.kind, example.name)))
        }
    }
}
