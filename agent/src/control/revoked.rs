//! Hands the revocation list to the loop when its file changes. A list that can't be used changes nothing: it is warned of, and tried
//! again, since the CA that signed it may be about to come.

use super::limits::{ANSWER, REVOKED_POLL};
use super::question::Loop;
use super::stamp::Stamp;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use syncmesh_engine::ask::Ask;
use syncmesh_engine::node::Taken;
use syncmesh_engine::revoked::REVOKED_BYTES;
use tokio::time::sleep;
use tracing::{info, warn};

/// Keeps the loop at what a revocation list says.
#[derive(Clone)]
pub struct Revocations {
    file: PathBuf,
    agent: Loop,
}

impl Revocations {
    /// Of this file, which need not be there yet.
    pub fn new(file: &Path, agent: &Loop) -> Self {
        Self { file: file.to_owned(), agent: agent.clone() }
    }

    /// Looks for as long as the process lives.
    ///
    /// # Errors
    /// None; the type is that of all parts.
    pub async fn run(self) -> Result<(), String> {
        let mut taken: Option<Stamp> = None;
        let mut warned: Option<String> = None;
        loop {
            // Before the file is read: what changes meanwhile is seen the next time.
            let stamp = Stamp::of(&[&self.file]);
            if taken.as_ref() != Some(&stamp) {
                match self.hand_over().await {
                    Ok(()) => (taken, warned) = (Some(stamp), None),
                    Err(why) if warned.as_ref() == Some(&why) => {}
                    Err(why) => {
                        let file = self.file.display();
                        warn!(%file, %why, "the revocation list isn't taken over: what was revoked before stays so");
                        warned = Some(why);
                    }
                }
            }
            sleep(REVOKED_POLL).await;
        }
    }

    async fn hand_over(&self) -> Result<(), String> {
        let Some(list) = read(&self.file)? else { return Ok(()) };
        if self.agent.question(ANSWER, |reply| Ask::Revoke(list, reply)).await? == Taken::Now {
            info!(file = %self.file.display(), "the revocation list was read, and is told to peers");
        }
        Ok(())
    }
}

/// Nothing is revoked where there is no file.
fn read(file: &Path) -> Result<Option<String>, String> {
    let opened = match File::open(file) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(|error| format!("it can't be read: {error}"))?,
    };
    let mut text = String::new();
    let most = REVOKED_BYTES as u64 + 1;
    opened.take(most).read_to_string(&mut text).map_err(|error| format!("it can't be read: {error}"))?;
    if text.len() as u64 == most {
        return Err(format!("it is longer than {REVOKED_BYTES} bytes"));
    }
    Ok(Some(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_missing_revokes_nothing_and_an_odd_one_says_why() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("revoked");
        assert_eq!(read(&file), Ok(None));
        std::fs::write(&file, "list").unwrap();
        assert_eq!(read(&file), Ok(Some("list".into())));
        std::fs::write(&file, [0xff]).unwrap();
        assert!(read(&file).unwrap_err().contains("can't be read"));
        std::fs::write(&file, " ".repeat(REVOKED_BYTES + 1)).unwrap();
        assert!(read(&file).unwrap_err().contains("longer than"));
    }
}
