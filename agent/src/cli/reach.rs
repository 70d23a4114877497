//! Finding the running agent, and asking it over its admin socket.

use super::{Failure, Which, read_config};
use crate::control::SOCKET;
use crate::control::admin::{Refused, Request};
use serde::de::DeserializeOwned;
use std::collections::BTreeSet;
use std::fmt;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;
use syncmesh_engine::node::Status;

/// Longest reply that is read, in bytes: the fullest legal status has a thirtieth of it.
const REPLY_BYTES: u64 = 16 << 20;

/// How long a socket that may be an agent's gets to prove it.
const PROBE: Duration = Duration::from_secs(2);

impl Which {
    /// The admin socket of the agent that is meant.
    pub fn socket(&self) -> Result<PathBuf, Failure> {
        if let Some(socket) = &self.socket {
            return Ok(socket.clone());
        }
        if let Some(file) = &self.config {
            let config = read_config(file).map_err(|failure| Failure::unreachable(failure.message))?;
            return Ok(config.state_dir.join(SOCKET));
        }
        let table = std::fs::read_to_string("/proc/net/unix").map_err(|error| {
            Failure::unreachable(format!(
                "can't look for running agents in /proc/net/unix: {error}; give --socket PATH"
            ))
        })?;
        let found = listeners(&table).into_iter().map(|socket| {
            let answer = ask::<Status>(&socket, &Request::Status {}, PROBE);
            (socket, answer.map(|status| status.node).map_err(|error| error.to_string()))
        });
        only(found.collect()).map_err(Failure::unreachable)
    }
}

/// Sockets called `admin.sock` on which somebody listens, from the text of /proc/net/unix (proc_net(5)):
/// `Num RefCount Protocol Flags Type St Inode Path`.
fn listeners(table: &str) -> BTreeSet<PathBuf> {
    /// `__SO_ACCEPTCON`: without it, it is an accepted connection, which bears the listener's path too.
    const LISTENS: u32 = 1 << 16;
    let path = |line: &str| {
        let mut rest = line;
        let mut flags = None;
        for column in 0..7 {
            let (field, behind) = rest.trim_start().split_once(' ')?;
            if column == 3 {
                flags = u32::from_str_radix(field, 16).ok();
            }
            rest = behind;
        }
        // The path is all that is left: it may have blanks in it.
        let path = rest.trim_start_matches(' ');
        let ours = path.starts_with('/') && path.ends_with(&format!("/{SOCKET}"));
        (ours && flags? & LISTENS != 0).then(|| PathBuf::from(path))
    };
    table.lines().filter_map(path).collect()
}

/// The one socket whose agent answered; else who did, and who didn't.
fn only(found: Vec<(PathBuf, Result<String, String>)>) -> Result<PathBuf, String> {
    let answered: Vec<(&PathBuf, &String)> =
        found.iter().filter_map(|(socket, answer)| answer.as_ref().ok().map(|node| (socket, node))).collect();
    match &answered[..] {
        [(socket, _)] => Ok((*socket).clone()),
        [] => {
            let silent: Vec<String> = found
                .iter()
                .filter_map(|(socket, answer)| Some(format!("\n  {}: {}", socket.display(), answer.as_ref().err()?)))
                .collect();
            Err(format!(
                "no agent answers on this machine: start one with \"syncmesh-agent run --config FILE\", or give --socket \
                 PATH{}{}",
                if silent.is_empty() { "" } else { "; these didn't answer:" },
                silent.concat()
            ))
        }
        several => {
            let agents: Vec<String> = several
                .iter()
                .map(|(socket, node)| format!("\n  --socket {}  (node {node})", socket.display()))
                .collect();
            Err(format!("{} agents run on this machine: choose one with{}", several.len(), agents.concat()))
        }
    }
}

/// Why an agent gave no answer, and what to do.
#[derive(Debug)]
pub enum NoReply {
    /// It said no.
    Refused(String),
    /// It couldn't be asked.
    Unreachable(String),
}

impl fmt::Display for NoReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(message) | Self::Unreachable(message) => f.write_str(message),
        }
    }
}

/// Asks the agent behind a socket. An error says what was tried and what to do.
pub fn ask<Reply: DeserializeOwned>(socket: &Path, request: &Request, limit: Duration) -> Result<Reply, NoReply> {
    let reply = exchange(socket, request, limit).map_err(|error| {
        let advice = match error.kind() {
            std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused => {
                "is the agent running, and done with starting?"
            }
            std::io::ErrorKind::PermissionDenied => "run this as the agent's user or as root",
            _ => "look at the agent's log",
        };
        NoReply::Unreachable(format!("can't ask the agent on {}: {error}; {advice}", socket.display()))
    })?;
    if let Ok(refused) = serde_json::from_slice::<Refused>(&reply) {
        return Err(NoReply::Refused(refused.error));
    }
    serde_json::from_slice(&reply).map_err(|error| {
        NoReply::Unreachable(format!(
            "the reply on {} can't be read: {error}; is it an agent's socket, and of the same release?",
            socket.display()
        ))
    })
}

fn exchange(socket: &Path, request: &Request, limit: Duration) -> std::io::Result<Vec<u8>> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(limit))?;
    stream.set_write_timeout(Some(limit))?;
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    // An agent that refuses may have closed already: what it said is worth more than that.
    let written = stream.write_all(&line);
    let mut reply = Vec::new();
    BufReader::new(stream.take(REPLY_BYTES)).read_until(b'\n', &mut reply)?;
    if reply.is_empty() {
        written?;
        return Err(std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "it closed without an answer"));
    }
    Ok(reply)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
Num       RefCount Protocol Flags    Type St Inode Path
0000000000000000: 00000002 00000000 00010000 0001 01 29846 /var/lib/syncmesh/admin.sock
0000000000000000: 00000003 00000000 00000000 0001 03 29999 /var/lib/syncmesh/admin.sock
0000000000000000: 00000002 00000000 00010000 0001 01    12 /home/me/my state/admin.sock
0000000000000000: 00000002 00000000 00010000 0001 01 30000 /run/other.sock
0000000000000000: 00000002 00000000 00010000 0001 01 30001 @/abstract/admin.sock
0000000000000000: 00000002 00000000 00010000 0001 01 30002 relative/admin.sock
0000000000000000: 00000002 00000000 00010000 0001 01 30003 /run/notadmin.sock
0000000000000000: 00000002 00000000 00000000 0002 01 30004
0000000000000000: 00000003 00000000 zz 0001 03 30005 /bad/admin.sock
nonsense
";

    #[test]
    fn listening_admin_sockets_are_found_once_each_whatever_their_path() {
        let found: Vec<PathBuf> = listeners(TABLE).into_iter().collect();
        assert_eq!(found, [Path::new("/home/me/my state/admin.sock"), Path::new("/var/lib/syncmesh/admin.sock")]);
        assert!(listeners("").is_empty());
    }

    #[test]
    fn only_one_answering_agent_is_taken() {
        let [one, two] = ["/1/admin.sock", "/2/admin.sock"].map(PathBuf::from);
        let (a, b, no) = (Ok("a".to_owned()), Ok("b".to_owned()), Err("permission denied".to_owned()));
        assert_eq!(only(vec![(one.clone(), no.clone()), (two.clone(), b.clone())]), Ok(two.clone()));
        let none = only(vec![(one.clone(), no)]).unwrap_err();
        assert!(none.contains("/1/admin.sock: permission denied") && none.contains("run --config"), "{none}");
        assert!(only(vec![]).unwrap_err().ends_with("--socket PATH"));
        let both = only(vec![(one, a), (two, b)]).unwrap_err();
        assert!(both.contains("--socket /1/admin.sock  (node a)") && both.contains("(node b)"), "{both}");
    }

    #[test]
    fn a_socket_that_nobody_made_or_answers_is_explained() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join(SOCKET);
        let ask = |limit| ask::<Status>(&socket, &Request::Status {}, limit).unwrap_err().to_string();
        assert!(ask(PROBE).contains("is the agent running"));
        let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        assert!(ask(Duration::from_millis(20)).contains("can't ask the agent"), "nobody answers");
        drop(listener);
        assert!(ask(PROBE).contains("is the agent running"));
    }
}
