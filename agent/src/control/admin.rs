//! The admin socket: one JSON request a line, one JSON reply a line, for this node's own user and root.
//!
//! ```text
//! {"status":{}}                                  -> the status, as `status -o json` prints it
//! {"wait":{"volume":"docs","timeoutMs":60000}}   -> {"ok":true} or {"ok":false,"why":"…"}
//! {"holds":{}}                                   -> [{"volume":"docs","files":600,"paths":[…]}]
//! {"approveHolds":{"volume":"docs"}}             -> {"decided":600}; {"rejectHolds":…} alike
//! {"pause":{}}, {"resume":{}}, {"rescan":{"contents":true}} -> {"volumes":["docs"]}
//! {"versions":{"volume":null,"typed":…,"absolute":…}} -> [{"version":1764000000000,"size":12,…}]
//! {"restore":{"path":{…},"which":"newest","to":null}} -> {"files":1,"bytes":12,"left":[]}
//! {"history":{"path":{…},"number":20}}          -> [{"at":1764000000000,"path":"f","what":"written",…}]
//! {"forget":{"node":"b"}}                       -> {"node":"b","dropped":3,"kept":2,"paths":40}
//! {"conflicts":{"volume":"docs"}}               -> [{"volume":"docs","paths":[…]}]
//! {"resolve":{"path":{…},"choice":"local","contents":null}} -> {"contents":"0a1b2c3d","over":1}
//! {"orphans":{}}                                -> [{"volumeID":"…","namespace":"web","volume":"docs","files":1,…}]
//! {"purgeOrphan":{"volumeId":"…"}}              -> {"volumeID":"…","files":1,"bytes":12,…}
//! {"handOverOrphan":{"volumeID":"…","owner":{…}}} -> the same
//! anything else                                  -> {"error":"…"}
//! ```

use super::Source;
use super::limits::{ADMIN_CONNECTIONS, ADMIN_IDLE, ANSWER, HISTORY, LINE_BYTES, RESTORE, WORST};
use super::question::Loop;
use super::wait;
use crate::kubernetes::Cluster;
use crate::kubernetes::orphans::HandOver;
use serde::{Deserialize, Serialize};
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use syncmesh_engine::ask::{Ask, Named, Past, Resolve, Restore};
use syncmesh_engine::guard::Verdict;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tracing::{debug, info, warn};

/// What can be asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub enum Request {
    /// How the node is.
    Status {},
    /// Answer once a volume, or every volume, is in sync, or the time is over.
    Wait {
        /// The volume; none means all.
        volume: Option<String>,
        /// The time in milliseconds; at most a day counts.
        timeout_ms: u64,
    },
    /// Which deletions are held.
    Holds {
        /// The volume; none means all.
        volume: Option<String>,
    },
    /// Which versions of a path are stored here.
    Versions(Named),
    /// Bring a path back.
    Restore(Restore),
    /// What changed.
    History(Past),
    /// Forget a node that is no member any more.
    Forget {
        /// Its name.
        node: String,
    },
    /// Which conflicts there are.
    Conflicts {
        /// The volume; none means all.
        volume: Option<String>,
    },
    /// Decide a conflict.
    Resolve(Resolve),
    /// Stand still.
    Pause {
        /// The volume; none means all.
        volume: Option<String>,
    },
    /// Go on.
    Resume {
        /// The volume; none means all.
        volume: Option<String>,
    },
    /// Look at everything again.
    Rescan {
        /// The volume; none means all.
        volume: Option<String>,
        /// Read all contents, too.
        #[serde(default)]
        contents: bool,
    },
    /// Let held deletions go.
    ApproveHolds {
        /// The volume; none means all.
        volume: Option<String>,
    },
    /// Take held deletions back.
    RejectHolds {
        /// The volume; none means all.
        volume: Option<String>,
    },
    /// Which directories no object of the cluster asks for.
    Orphans {},
    /// Delete one of them.
    PurgeOrphan {
        /// Its name.
        volume_id: String,
    },
    /// Give one of them to another volume.
    HandOverOrphan(HandOver),
}

/// Who answers.
#[derive(Clone)]
pub struct Asked {
    /// The loop.
    agent: Loop,
    /// What follows the cluster, where there is one.
    cluster: Option<Arc<Cluster>>,
}

impl Asked {
    /// An agent whose configuration comes from there.
    pub fn new(agent: &Loop, source: &Source) -> Self {
        let cluster = match source {
            Source::File(_) => None,
            Source::Cluster(cluster) => Some(cluster.clone()),
        };
        Self { agent: agent.clone(), cluster }
    }

    fn cluster(&self) -> Result<&Cluster, String> {
        let none = "this agent runs from a file, and its directories are those that the file names";
        self.cluster.as_deref().ok_or_else(|| none.into())
    }
}

/// The answer to [`Request::ApproveHolds`] and [`Request::RejectHolds`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decided {
    /// Deletions of files and links that were decided.
    pub decided: u64,
}

/// The answer to [`Request::Pause`], [`Request::Resume`] and [`Request::Rescan`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ordered {
    /// The volumes that it is about.
    pub volumes: Vec<String>,
}

/// The answer to [`Request::Wait`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waited {
    /// It is in sync.
    pub ok: bool,
    /// Why it isn't.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// The answer to what can't be answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// Why not, and what to do.
    pub error: String,
}

/// Serves the socket until that isn't possible any more.
///
/// # Errors
/// The socket can't be made, or no connections can be accepted.
pub async fn serve(path: PathBuf, asked: Asked) -> Result<(), String> {
    let listener = bind(&path)?;
    info!(socket = %path.display(), "the admin socket answers");
    let room = Arc::new(Semaphore::new(ADMIN_CONNECTIONS));
    loop {
        let (mut stream, _) = listener
            .accept()
            .await
            .map_err(|error| format!("can't accept connections on {}: {error}", path.display()))?;
        let Ok(permit) = room.clone().try_acquire_owned() else {
            // Best effort: who floods isn't waited for.
            let _ = stream.try_write(&line(&refuse("too many admin connections: close some, then try again".into())));
            continue;
        };
        let asked = asked.clone();
        tokio::spawn(async move {
            let _permit = permit;
            match allowed(&stream) {
                Ok(()) => {
                    if let Err(error) = converse(stream, &asked).await {
                        debug!("an admin connection ended: {error}");
                    }
                }
                Err(why) => {
                    warn!("an admin connection was refused: {why}");
                    // As above.
                    let _ = stream.write_all(&line(&refuse(why))).await;
                }
            }
        });
    }
}

/// Makes the socket, readable by its owner alone. One that nobody listens on any more is replaced.
fn bind(path: &Path) -> Result<UnixListener, String> {
    let fail = |error: io::Error| {
        format!(
            "can't make the admin socket {}: {error}; check the directory, its owner, and that its path is short",
            path.display()
        )
    };
    let listener = match UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            remove_stale(path)?;
            UnixListener::bind(path).map_err(fail)?
        }
        other => other.map_err(fail)?,
    };
    // Until here others could connect, and are refused by their credentials.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(fail)?;
    Ok(listener)
}

fn remove_stale(path: &Path) -> Result<(), String> {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket());
    if !is_socket {
        return Err(format!("{} is no socket, and in the way of ours: move it away", path.display()));
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path)
            .map_err(|error| format!("can't remove the stale admin socket {}: {error}; remove it", path.display())),
        Err(error) => Err(format!("can't tell whether an agent answers on {}: {error}; remove it", path.display())),
        Ok(_) => Err(format!("another agent answers on {}: stop it, or use another stateDir", path.display())),
    }
}

/// Only this process' own user and root may ask (SO_PEERCRED, unix(7)), whatever the socket's mode has become.
fn allowed(stream: &UnixStream) -> Result<(), String> {
    let peer = stream.peer_cred().map_err(|error| format!("can't tell who asks: {error}"))?;
    let own = rustix::process::geteuid().as_raw();
    if peer.uid() == own || peer.uid() == 0 {
        return Ok(());
    }
    Err(format!("user {} may not ask this agent: run the command as user {own} or as root", peer.uid()))
}

async fn converse(stream: UnixStream, asked: &Asked) -> io::Result<()> {
    let (reading, mut writing) = stream.into_split();
    let mut reading = BufReader::new(reading);
    let mut request = Vec::new();
    loop {
        request.clear();
        let limited = (&mut reading).take(LINE_BYTES as u64);
        let mut limited = std::pin::pin!(limited);
        let read = tokio::time::timeout(ADMIN_IDLE, limited.read_until(b'\n', &mut request)).await??;
        if read == 0 {
            return Ok(());
        }
        if request.last() != Some(&b'\n') && request.len() >= LINE_BYTES {
            writing
                .write_all(&line(&refuse(format!("the request is longer than {LINE_BYTES} bytes: shorten it"))))
                .await?;
            return Ok(());
        }
        let reply = tokio::select! {
            reply = answer(&request, asked) => reply,
            // A wait isn't continued for somebody who has left.
            () = left(&mut reading) => return Ok(()),
        };
        writing.write_all(&reply).await?;
    }
}

/// Returns when the other side closes; never, if it has sent another request already.
async fn left(reading: &mut (impl AsyncBufReadExt + Unpin)) {
    if reading.fill_buf().await.is_ok_and(|bytes| !bytes.is_empty()) {
        std::future::pending::<()>().await;
    }
}

async fn answer(request: &[u8], asked: &Asked) -> Vec<u8> {
    let agent = &asked.agent;
    match serde_json::from_slice(request) {
        Ok(Request::Status {}) => match agent.status().await {
            Ok((mut status, _)) => {
                // Who asks how the node is hears it also while jobs are slow.
                let worst = agent.question(WORST, Ask::Worst).await.unwrap_or_default();
                for (name, paths) in worst {
                    if let Some(volume) = status.volumes.iter_mut().find(|volume| volume.name == name) {
                        volume.worst = paths;
                    }
                }
                line(&status)
            }
            Err(no_answer) => line(&refuse(no_answer.to_string())),
        },
        Ok(Request::Wait { volume, timeout_ms }) => {
            let why = wait::in_sync(agent, volume.as_deref(), Duration::from_millis(timeout_ms)).await.err();
            line(&Waited { ok: why.is_none(), why })
        }
        Ok(Request::Holds { volume }) => reply(agent.question(ANSWER, |to| Ask::Holds(volume, to)).await),
        Ok(Request::Versions(named)) => reply(agent.question(ANSWER, |to| Ask::Versions(named, to)).await),
        Ok(Request::Restore(order)) => reply(agent.question(RESTORE, |to| Ask::Restore(order, to)).await),
        Ok(Request::History(past)) => reply(agent.question(HISTORY, |to| Ask::History(past, to)).await),
        Ok(Request::Forget { node }) => reply(agent.question(HISTORY, |to| Ask::Forget(node, to)).await),
        Ok(Request::Conflicts { volume }) => reply(agent.question(ANSWER, |to| Ask::Conflicts(volume, to)).await),
        Ok(Request::Resolve(order)) => reply(agent.question(ANSWER, |to| Ask::Resolve(order, to)).await),
        Ok(Request::Pause { volume }) => ordered(agent.question(ANSWER, |to| Ask::Pause(volume, to)).await),
        Ok(Request::Resume { volume }) => ordered(agent.question(ANSWER, |to| Ask::Resume(volume, to)).await),
        Ok(Request::Rescan { volume, contents }) => {
            ordered(agent.question(ANSWER, |to| Ask::Rescan(volume, contents, to)).await)
        }
        Ok(Request::ApproveHolds { volume }) => decide(agent, volume, Verdict::Approve).await,
        Ok(Request::RejectHolds { volume }) => decide(agent, volume, Verdict::Reject).await,
        Ok(Request::Orphans {}) => reply(match asked.cluster() {
            Ok(cluster) => cluster.orphans().await,
            Err(why) => Err(why),
        }),
        Ok(Request::PurgeOrphan { volume_id }) => reply(match asked.cluster() {
            Ok(cluster) => cluster.purge_orphan(&volume_id, agent).await,
            Err(why) => Err(why),
        }),
        Ok(Request::HandOverOrphan(order)) => reply(match asked.cluster() {
            Ok(cluster) => cluster.hand_over_orphan(&order, agent).await,
            Err(why) => Err(why),
        }),
        Err(error) => line(&refuse(format!(
            "the request can't be read: {error}; send {{\"status\":{{}}}} or {{\"wait\":{{\"timeoutMs\":60000}}}}, or use \
             the syncmesh-agent of the same release"
        ))),
    }
}

async fn decide(agent: &Loop, volume: Option<String>, verdict: Verdict) -> Vec<u8> {
    let decided = agent.question(ANSWER, |to| Ask::DecideHolds(volume, verdict, to)).await;
    reply(decided.map(|decided| Decided { decided }))
}

fn ordered(answer: Result<Vec<String>, String>) -> Vec<u8> {
    reply(answer.map(|volumes| Ordered { volumes }))
}

fn reply(answer: Result<impl Serialize, String>) -> Vec<u8> {
    match answer {
        Ok(answer) => line(&answer),
        Err(why) => line(&refuse(why)),
    }
}

fn refuse(error: String) -> Refused {
    Refused { error }
}

fn line(reply: &impl Serialize) -> Vec<u8> {
    let mut line = serde_json::to_vec(reply).expect("replies are plain structs with text keys");
    line.push(b'\n');
    line
}

#[cfg(test)]
#[path = "admin_tests.rs"]
mod tests;
