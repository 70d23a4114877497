//! From one configuration to another, while the agent runs.

use crate::config::Config;

/// What it takes to run by another configuration.
#[derive(Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing: they say the same.
    Nothing,
    /// Members, limits and waits change under a running engine, and nobody notices.
    Live,
    /// The engine ends in order and starts again within the process: a volume comes, goes, or is another one; or what sessions
    /// agree about when they begin.
    Anew,
    /// Only another process can do it. The fields that differ.
    Refused(Vec<&'static str>),
}

impl Config {
    /// What it takes to go on by another configuration.
    pub fn change_to(&self, new: &Self) -> Change {
        let fixed = [
            ("node", self.node == new.node),
            ("stateDir", self.state_dir == new.state_dir),
            ("identity", self.identity == new.identity),
            ("metrics.listen", self.metrics_listen == new.metrics_listen),
            ("log.format", self.log.format == new.log.format),
        ];
        let differing: Vec<&str> = fixed.iter().filter(|(_, same)| !same).map(|(name, _)| *name).collect();
        if !differing.is_empty() {
            return Change::Refused(differing);
        }
        if self == new {
            return Change::Nothing;
        }
        let mut live = self.clone();
        live.peers.clone_from(&new.peers);
        (live.connections, live.max_clock_skew, live.log) = (new.connections, new.max_clock_skew, new.log);
        for (volume, new) in live.volumes.iter_mut().zip(&new.volumes).filter(|(old, new)| old.name == new.name) {
            (volume.settle, volume.open_wait, volume.paused) = (new.settle, new.open_wait, new.paused);
            (volume.versions, volume.reserve, volume.deletion_guard) = (new.versions, new.reserve, new.deletion_guard);
            (volume.members, volume.filling, volume.role) = (new.members.clone(), new.filling, new.role);
            volume.send_limit = new.send_limit;
        }
        if live == *new { Change::Live } else { Change::Anew }
    }
}
