//! The demo's mesh: its agents, and what their directories have to look like.

use super::report::Screen;
use crate::agents::{self, Agent};
use crate::failure::{Failure, Outcome};
use crate::interrupt;
use crate::tree::{Difference, Tree};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The volume's name.
pub const VOLUME: &str = "demo";

/// How long trees may take to become equal: this much, and time for their bytes.
const PATIENCE: Duration = Duration::from_secs(60);
const SLOWEST_BYTES_PER_S: u64 = 5_000_000;
const SLOWEST_FILES_PER_S: u64 = 200;

/// How many differences are worth reading.
const SHOWN: usize = 20;

/// Agents, and the tree that all of them have to agree on.
pub struct Mesh<'a> {
    /// What all directories have to be like.
    pub expected: Tree,
    /// For progress.
    pub screen: &'a Screen,
    agents: Vec<Agent>,
    home: PathBuf,
    early_claims: u64,
}

impl<'a> Mesh<'a> {
    /// A mesh of agents called a, b, c, ...; none runs yet.
    pub fn create(binary: &Path, home: &Path, nodes: u8, screen: &'a Screen) -> Outcome<Self> {
        let names: Vec<String> = (b'a'..b'a' + nodes).map(|letter| char::from(letter).to_string()).collect();
        Ok(Self {
            expected: Tree::default(),
            screen,
            agents: agents::mesh(binary, home, &names, VOLUME)?,
            home: home.to_path_buf(),
            early_claims: 0,
        })
    }

    /// How many agents.
    pub fn nodes(&self) -> usize {
        self.agents.len()
    }

    /// A node's name.
    pub fn name(&self, node: usize) -> &str {
        &self.agents[node].name
    }

    /// A node's directory.
    pub fn volume(&self, node: usize) -> &Path {
        &self.agents[node].volume
    }

    /// Starts a node's agent.
    pub fn start(&mut self, node: usize) -> Outcome<()> {
        self.agents[node].start()
    }

    /// Kills a node's agent at once.
    pub fn kill(&mut self, node: usize) {
        self.agents[node].kill();
    }

    /// Fails, with the log, if an agent ended by itself.
    pub fn must_run(&mut self) -> Outcome<()> {
        self.agents.iter_mut().try_for_each(Agent::must_run)
    }

    /// Fails when the file system has no room for the input on every node and for what steps add.
    pub fn room_for(&self, bytes: u64) -> Outcome<()> {
        let nodes = self.agents.len() as u64;
        // Everything once per node, again as staged or kept versions, and 200 MB for the steps' own files.
        let needed = nodes * (2 * bytes + 200_000_000);
        let fs = rustix::fs::statvfs(&self.home)
            .map_err(|reason| Failure::new(format!("could not ask {}: {reason}", self.home.display())))?;
        let free = fs.f_bavail * fs.f_frsize;
        if free >= needed {
            return Ok(());
        }
        Err(Failure::new(format!(
            "{} has {} MB free, and {nodes} nodes need about {} MB: choose a smaller tree or fewer --nodes",
            self.home.display(),
            free / 1_000_000,
            needed / 1_000_000
        )))
    }

    /// Takes what stands at `path` on this node for what has to be there on all nodes.
    pub fn observe(&mut self, node: usize, path: &Path) -> Outcome<()> {
        let Self { expected, agents, .. } = self;
        expected.refresh(&agents[node].volume, path)
    }

    /// Takes the whole directory of this node for what has to be there.
    pub fn observe_all(&mut self, node: usize) -> Outcome<()> {
        self.expected = Tree::read(&self.agents[node].volume)?;
        Ok(())
    }

    /// Waits until all agents say that they are in sync and all trees are as expected. Returns how long it took from
    /// `start` until they last said so.
    pub fn converge(&mut self, start: Instant) -> Outcome<Duration> {
        let (files, bytes) = self.expected.size();
        let patience = PATIENCE + Duration::from_secs(bytes / SLOWEST_BYTES_PER_S + files / SLOWEST_FILES_PER_S);
        let deadline = Instant::now() + patience;
        loop {
            let claimed = self.wait_in_sync(deadline);
            let took = start.elapsed();
            interrupt::check()?;
            let differences = self.compare()?;
            match claimed {
                Ok(()) if differences.is_empty() => return Ok(took),
                Ok(()) if Instant::now() < deadline => {
                    // The kernel may not have told them yet; counted, so that a habit of it shows.
                    self.early_claims += 1;
                    interrupt::pause(Duration::from_millis(50))?;
                }
                Ok(()) => {
                    return Err(Failure::new(format!(
                        "all agents say that they are in sync, and {}",
                        listing(&differences)
                    )));
                }
                Err(failure) if differences.is_empty() => return Err(failure),
                Err(failure) => {
                    return Err(Failure::new(format!("{failure}\n{}", listing(&differences))));
                }
            }
        }
    }

    /// Waits until a node holds deletions.
    pub fn held(&mut self, node: usize) -> Outcome<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.must_run()?;
            let status = self.agents[node].volume_status();
            match status {
                Some(status) if status.state == "Held" => return Ok(()),
                _ if Instant::now() < deadline => interrupt::pause(Duration::from_millis(20))?,
                _ => {
                    let name = self.name(node);
                    return Err(Failure::new(format!("{name} was emptied, and holds no deletions")));
                }
            }
        }
    }

    /// Tells a node to restore a path from its version store.
    pub fn restore(&self, node: usize, path: &Path) -> Outcome<()> {
        self.agents[node].command(&["restore", "--volume", VOLUME, &path.to_string_lossy()])
    }

    /// Waits until all agents say that they are in sync, and all trees are as the first. Returns how long it took from
    /// `start`.
    pub fn agree(&mut self, start: Instant) -> Outcome<Duration> {
        self.wait_in_sync(Instant::now() + PATIENCE)?;
        self.observe_all(0)?;
        self.converge(start)
    }

    /// Tells a node to bring back what it holds as deleted.
    pub fn reject_holds(&self, node: usize) -> Outcome<()> {
        self.agents[node].command(&["holds", "reject", "--volume", VOLUME])
    }

    /// Fails with the differences that there are now on all nodes but one.
    pub fn compare_except(&self, node: usize) -> Outcome<()> {
        let mut differences = self.compare()?;
        differences.retain(|(name, _)| name != self.name(node));
        match differences.as_slice() {
            [] => Ok(()),
            differences => Err(Failure::new(listing(differences))),
        }
    }

    /// How often agents said that they were in sync before the trees were equal.
    pub fn early_claims(&self) -> u64 {
        self.early_claims
    }

    /// Ends all agents politely.
    pub fn stop(mut self) -> Outcome<()> {
        Agent::stop_all(&mut self.agents)
    }

    /// The agents, to be kept.
    pub fn release(self) -> Vec<Agent> {
        self.agents
    }

    fn wait_in_sync(&mut self, deadline: Instant) -> Outcome<()> {
        let screen = self.screen;
        for agent in &mut self.agents {
            agent.wait_in_sync(deadline, &|agent: &Agent| {
                screen.waiting(&agent.name, || agent.volume_status());
            })?;
        }
        Ok(())
    }

    /// Fails with the differences that there are now.
    #[cfg(test)]
    pub fn compare_once(&self) -> Outcome<()> {
        match self.compare()?.as_slice() {
            [] => Ok(()),
            differences => Err(Failure::new(listing(differences))),
        }
    }

    /// Where each node's tree isn't as expected, the nodes read side by side.
    fn compare(&self) -> Outcome<Vec<(String, Difference)>> {
        let expected = &self.expected;
        let found: Vec<Outcome<Vec<(String, Difference)>>> = std::thread::scope(|scope| {
            let readers: Vec<_> = self
                .agents
                .iter()
                .map(|agent| {
                    scope.spawn(move || {
                        let differences = expected.differences(&Tree::read(&agent.volume)?);
                        Ok(differences.into_iter().map(|difference| (agent.name.clone(), difference)).collect())
                    })
                })
                .collect();
            readers.into_iter().map(|reader| reader.join().expect("reading trees doesn't panic")).collect()
        });
        let mut all = Vec::new();
        for differences in found {
            all.extend(differences?);
        }
        Ok(all)
    }
}

fn listing(differences: &[(String, Difference)]) -> String {
    let mut text = format!("the trees differ at {} paths:", differences.len());
    for (node, difference) in differences.iter().take(SHOWN) {
        text.push_str(&format!("\n  {node}: {difference}"));
    }
    if differences.len() > SHOWN {
        text.push_str(&format!("\n  and {} more", differences.len() - SHOWN));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_shows_the_first_and_counts_the_rest() {
        let differences: Vec<(String, Difference)> = (0..23)
            .map(|number| {
                let difference = Difference { path: PathBuf::from(format!("f{number}")), what: "missing file".into() };
                ("b".to_owned(), difference)
            })
            .collect();
        let text = listing(&differences);
        assert!(text.contains("differ at 23 paths"), "{text}");
        assert!(text.contains("  b: f19: missing file") && !text.contains("f20"));
        assert!(text.ends_with("and 3 more"), "{text}");
    }
}
