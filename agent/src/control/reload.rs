//! Reads the configuration again when its file changes or somebody asks, and hands it to the loop as a whole or not at all.

use super::Control;
use super::limits::{ANSWER, CONFIGURATION_POLL};
use super::question::Loop;
use super::stamp::Stamp;
use crate::logging;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use syncmesh_config::Config;
use syncmesh_engine::ask::{Ask, Configured};
use tokio::sync::Notify;
use tokio::time::sleep;
use tracing::{error, info};

/// Keeps the agent at what its configuration says.
#[derive(Clone)]
pub struct Reload {
    file: PathBuf,
    stamp: Stamp,
    agent: Loop,
    /// Somebody asks for a reload whether or not the file looks changed.
    hangup: Arc<Notify>,
}

impl Reload {
    /// For the agent of `control`; `hangup` is notified to read at once.
    pub fn new(control: &Control, file: &Path, hangup: Arc<Notify>) -> Self {
        let stamp = control.stamps.configuration.clone();
        Self { file: file.to_owned(), stamp, agent: control.agent.clone(), hangup }
    }

    /// Looks for as long as the process lives.
    ///
    /// # Errors
    /// None; the type is that of all parts.
    pub async fn run(mut self) -> Result<(), String> {
        loop {
            let asked = tokio::select! {
                () = self.hangup.notified() => true,
                () = sleep(CONFIGURATION_POLL) => false,
            };
            // Before the file is read: what changes meanwhile is seen the next time.
            let stamp = Stamp::of(&[&self.file]);
            if stamp == self.stamp && !asked {
                continue;
            }
            self.stamp = stamp;
            let refused = match self.take_over().await {
                // Whether it can be run says the engine that starts by it.
                Ok(Configured::StartsAgain | Configured::IsStopping) => continue,
                Ok(Configured::AsBefore | Configured::InForce) => None,
                Err(why) => {
                    error!(%why, "the configuration isn't taken over, the agent goes on as it was");
                    Some(why)
                }
            };
            if let Err(why) = self.agent.misconfigured(refused) {
                error!(%why, "the status doesn't say how the configuration is");
            }
        }
    }

    async fn take_over(&self) -> Result<Configured, String> {
        let config = read(&self.file)?;
        let log = config.log;
        let configured = self.agent.question(ANSWER, |reply| Ask::Configure(Box::new(config), reply)).await?;
        logging::set_level(log)?;
        match configured {
            Configured::AsBefore => info!("the configuration says what it said before"),
            Configured::InForce => info!("the configuration was read again and is in force"),
            Configured::IsStopping => info!("the configuration was read again; the agent is stopping"),
            Configured::StartsAgain => {
                info!("the configuration was read again; the engine ends and starts again by it")
            }
        }
        Ok(configured)
    }
}

/// Reads a configuration's file.
///
/// # Errors
/// Everything that is wrong with it, a line each, with the file's name.
pub fn read(file: &Path) -> Result<Config, String> {
    let fail = |error| format!("can't read the configuration {}: {error}; check the path given", file.display());
    let text = std::fs::read_to_string(file).map_err(fail)?;
    let absolute = std::path::absolute(file).map_err(fail)?;
    let base = absolute.parent().unwrap_or(Path::new("/"));
    Config::parse(&text, base).map_err(|problems| {
        let lines: Vec<String> = problems.iter().map(|problem| format!("  {}: {problem}", file.display())).collect();
        let (count, plural) = (problems.len(), if problems.len() == 1 { "" } else { "s" });
        format!("the configuration has {count} problem{plural}:\n{}", lines.join("\n"))
    })
}
