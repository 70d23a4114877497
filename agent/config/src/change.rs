//! From one configuration to another, while the agent runs.

use crate::config::{Config, Volume};
use crate::names::VolumeName;

/// What it takes to run by another configuration.
#[derive(Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing: they say the same.
    Nothing,
    /// Members, limits and waits change under a running engine, volumes come, and nobody notices.
    Live,
    /// The engine ends in order and starts again within the process: a volume goes, or is another one; or what sessions agree about
    /// when they begin.
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
        if self.volumes.iter().any(|old| new.volume(&old.name).is_none()) {
            return Change::Anew;
        }
        let volumes =
            new.volumes.iter().map(|new| self.volume(&new.name).map_or_else(|| new.clone(), |old| old.tuned(new)));
        live.volumes = volumes.collect();
        if live == *new { Change::Live } else { Change::Anew }
    }

    /// The volume with a name.
    pub fn volume(&self, name: &VolumeName) -> Option<&Volume> {
        self.volumes.iter().find(|volume| volume.name == *name)
    }
}

impl Volume {
    /// With what may change while it is open.
    fn tuned(&self, new: &Self) -> Self {
        Self {
            members: new.members.clone(),
            filling: new.filling,
            role: new.role,
            send_limit: new.send_limit,
            versions: new.versions,
            reserve: new.reserve,
            capacity: new.capacity,
            deletion_guard: new.deletion_guard,
            settle: new.settle,
            open_wait: new.open_wait,
            paused: new.paused,
            ..self.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn config(volumes: &[(&str, &str)]) -> Config {
        let mut text = "node: a\nstateDir: s\nidentity: { ca: c, certificate: a, key: k }\nvolumes:\n".to_owned();
        for (name, more) in volumes {
            text += &format!("  - {{ name: {name}, path: /{name}{more} }}\n");
        }
        Config::parse(&text, Path::new("/")).unwrap()
    }

    #[test]
    fn volumes_come_to_a_running_engine_and_go_by_a_new_start() {
        let two = config(&[("a", ""), ("b", "")]);
        let paused = config(&[("aa", ""), ("b", ", paused: true"), ("a", "")]);
        assert_eq!(two.change_to(&two), Change::Nothing);
        assert_eq!(two.change_to(&paused), Change::Live);
        assert_eq!(paused.change_to(&two), Change::Anew);
        assert_eq!(two.change_to(&config(&[("a", ""), ("b", ", durability: strict"), ("c", "")])), Change::Anew);
    }
}
