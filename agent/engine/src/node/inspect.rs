//! What the node says about itself.

use super::{Counters, Node, Peer, PeerState};
use crate::ask::Named;
use crate::connection::Phase;
use crate::guard::State;
use crate::inquiry::Place;
use crate::job::{Job, Look};
use crate::limits::SYNC_NOTED;
use crate::link::Link;
use crate::registry::Counts;
use crate::settings::Role;
use crate::volume::{Reading, Volume};
use crate::worst::{Troubles, Worst};
use serde::{Deserialize, Serialize};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use syncmesh_core::path::RelativePath;
use syncmesh_io::Io;

/// A node's state, as `status -o json` prints it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// Its name.
    pub node: String,
    /// The I/O backend: `io_uring` or `epoll`.
    pub engine: String,
    /// The release and commit; filled in by the control thread.
    pub version: String,
    /// Seconds since the start.
    pub uptime_seconds: u64,
    /// Resident memory; filled in by the control thread.
    pub memory_bytes: u64,
    /// Configured members.
    pub peers: Vec<PeerStatus>,
    /// Volumes.
    pub volumes: Vec<VolumeStatus>,
    /// Volumes that couldn't be opened when the agent started, and are left out.
    #[serde(default)]
    pub left_out: Vec<LeftOut>,
    /// Certificates of this node that begin before this moment, in seconds since 1970, are revoked; none if it isn't on the list.
    #[serde(default)]
    pub revoked_before: Option<u64>,
    /// What is wrong with the node as a whole, and what to do.
    pub warnings: Vec<String>,
}

/// A volume that couldn't be opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LeftOut {
    /// Its name.
    pub name: String,
    /// Why, and what to do.
    pub why: String,
}

/// A peer, as seen from here.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PeerStatus {
    /// Its name.
    pub node: String,
    /// `connected`, `connecting` or `backoff`.
    pub state: String,
    /// Round trip of the last heartbeat.
    pub rtt_micros: Option<u64>,
    /// Bytes on the wire since the start.
    pub sent_bytes: u64,
    /// Bytes on the wire since the start.
    pub received_bytes: u64,
    /// Why the last try or session ended.
    pub last_error: Option<String>,
}

/// A volume, as seen from here.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VolumeStatus {
    /// Its name.
    pub name: String,
    /// `Failed`, `Fenced`, `Held`, `Paused`, `Degraded`, `Syncing` or `InSync`: the first that holds.
    pub state: String,
    /// Every member is connected, and nothing is pending on either side.
    pub in_sync: bool,
    /// Known bytes that are present, rounded down; 100 only if all are.
    pub synced_percent: u64,
    /// Files and links that are published here.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Paths whose known version isn't here yet.
    pub pending_files: u64,
    /// Bytes of those.
    pub pending_bytes: u64,
    /// It isn't being filled for the first time, or has everything that a full copy had.
    #[serde(default)]
    pub filled: bool,
    /// Peers that keep it.
    #[serde(default)]
    pub members: u64,
    /// Everything that the system has reported is recorded.
    #[serde(default)]
    pub recorded: bool,
    /// Up to here a peer has everything of this replica's own sequence, durably.
    #[serde(default)]
    pub copied: u64,
    /// Age of the oldest known version that isn't visible here.
    pub lag_ms: u64,
    /// Age of the oldest recorded change that isn't durable here.
    pub durable_lag_ms: u64,
    /// Versions that lost a conflict, or wait for a person's decision, and weren't superseded since.
    pub conflicts: u64,
    /// Bulk deletions that wait for approval.
    pub holds: u64,
    /// This node may write, and tells what is written.
    #[serde(default)]
    pub writes: bool,
    /// Changes by users here that were taken back since the start, because only another node may write.
    #[serde(default)]
    pub reverted: u64,
    /// The path of the last.
    #[serde(default)]
    pub reverted_path: Option<String>,
    /// When that was, in milliseconds since 1970.
    #[serde(default)]
    pub reverted_at: Option<u64>,
    /// Paths whose known version waits for space, among the pending ones.
    pub no_space_files: u64,
    /// How many bytes files and stored versions may take here; none means any number.
    #[serde(default)]
    pub capacity_bytes: Option<u64>,
    /// What is under names takes more, or paths wait for room within it.
    #[serde(default)]
    pub over_capacity: bool,
    /// Versions in this node's store.
    pub stored_files: u64,
    /// Bytes of the file system that they take.
    pub stored_bytes: u64,
    /// Files that have names which aren't synchronised, outside of the volume or excluded: what is written through those
    /// is found at the next start or `rescan`. Of those with several names the first 16,384 are looked at.
    #[serde(default)]
    pub linked_elsewhere: u64,
    /// When it was last in sync, in milliseconds since 1970.
    pub last_sync: Option<u64>,
    /// What is wrong, or going on, and what to do.
    pub message: String,
    /// The last number of this replica's own sequence: equal numbers mean that nothing was recorded in between.
    pub sequence: u64,
    /// Directories that are watched.
    pub watches: u64,
    /// The ten paths that are worst, and why; filled in by the control thread.
    #[serde(default)]
    pub worst: Vec<Worst>,
    /// The sum over what is known of all paths: nodes that are in sync with each other show the same.
    pub sum: String,
    /// Paths that differed from a peer's since the start although both knew the same. More than none is a bug, or a disk
    /// that forgets.
    pub differences: u64,
}

impl VolumeStatus {
    /// A peer has everything that is recorded here, durably.
    pub fn is_copied(&self) -> bool {
        self.copied >= self.sequence
    }
}

/// What to do about conflicts under the policy `manual`.
fn undecided(paths: u64) -> String {
    format!(
        "{paths} conflicts wait for a person's decision: `syncmesh-agent conflicts list` shows them, then `conflicts resolve PATH local|remote|both`"
    )
}

/// What a volume says in which this node may not say what it writes.
const FENCED: &str = "nobody has the right to write, or this node can't be sure that it still has it: files stay as they are here, and nothing is exchanged until the API server says who writes";

impl<I: Io> Node<I> {
    /// What the node says about itself now.
    pub fn status(&mut self) -> Status {
        let now = self.io.now();
        let peers: Vec<PeerStatus> = self
            .peers
            .iter()
            .map(|(name, peer)| {
                let connection = match peer.state {
                    PeerState::Session(id) => self.connections.get(&id),
                    _ => None,
                };
                let ready = connection.is_some_and(|connection| connection.phase == Phase::Ready);
                let state = match peer.state {
                    _ if ready => "connected",
                    PeerState::Waiting(_) => "backoff",
                    PeerState::Calling | PeerState::Session(_) => "connecting",
                };
                PeerStatus {
                    node: name.clone(),
                    state: state.into(),
                    rtt_micros: peer.rtt.map(|nanos| nanos / 1_000),
                    sent_bytes: peer.sent_bytes + connection.map_or(0, |connection| connection.sent_bytes),
                    received_bytes: peer.received_bytes + connection.map_or(0, |connection| connection.received_bytes),
                    last_error: if ready { None } else { peer.last_error.clone() },
                }
            })
            .collect();
        let numbers: Vec<u16> = self.volumes.keys().copied().collect();
        let volumes = numbers.into_iter().map(|number| self.volume_status(number, now, &peers)).collect();
        Status {
            node: self.node.clone(),
            engine: self.io.engine().to_owned(),
            version: String::new(),
            uptime_seconds: (now - self.started) / 1_000_000_000,
            memory_bytes: 0,
            peers,
            volumes,
            left_out: self.left_out.clone(),
            revoked_before: self.own_revocation(),
            warnings: self.warnings(now),
        }
    }

    fn volume_status(&mut self, number: u16, now: u64, peers: &[PeerStatus]) -> VolumeStatus {
        let wall = self.wall_millis();
        let away: Vec<&str> =
            peers.iter().filter(|peer| peer.state != "connected").map(|peer| peer.node.as_str()).collect();
        let members = &self.volumes[&number].members;
        let away: Vec<&str> = away.into_iter().filter(|peer| members.has(peer)).collect();
        let waiting = self.waiting_for(number);
        let ready = self.connections.values().filter(|connection| connection.phase == Phase::Ready);
        let paused_there = ready
            .filter(|connection| connection.links.get(&number).is_some_and(|link| link.paused_there))
            .find_map(|connection| connection.peer.clone());
        let durable_lag = if self.epoch.used { (now - self.epoch.opened) / 1_000_000 } else { 0 };
        let volume = &self.volumes[&number];
        let in_sync = away.is_empty() && waiting.is_none();
        let counts = volume.state.counts;
        let total = counts.bytes + counts.wanted_bytes;
        let synced_percent = match (counts.wanted, total) {
            (0, _) if volume.scanned => 100,
            (_, 0) => 0,
            _ => (counts.bytes * 100 / total).min(99),
        };
        let suspects = volume.asks_about_suspects(now);
        let mut message = String::new();
        let state = if let Some(why) = &volume.failed {
            message.clone_from(why);
            "Failed"
        } else if let Some(unsynced) = &volume.unsynced {
            message = unsynced.message();
            "Failed"
        } else if volume.settings.get().role == Role::Fenced {
            message = FENCED.into();
            "Fenced"
        } else if let State::Held { .. } = volume.guard.state {
            message = format!(
                "{} deletions at once are held, and carried out nowhere else: `syncmesh-agent holds list` shows them, then `holds approve` or `holds reject`",
                counts.held_here + counts.held_gone
            );
            "Held"
        } else if suspects > 0 {
            message = format!(
                "{suspects} files may have been damaged when power was lost or the file system couldn't write everything, and are told to nobody: look at them (`syncmesh-agent holds list`), then `holds approve` what is sound, or `holds reject` for what was there before"
            );
            "Held"
        } else if counts.undecided > 0 {
            message = undecided(counts.undecided);
            "Held"
        } else if volume.is_paused() {
            message = paused(volume.settings.get().paused);
            "Paused"
        } else if !away.is_empty() {
            message = format!("no session with {}: see PEERS for the reason", away.join(", "));
            "Degraded"
        } else if let Some(peer) = paused_there {
            message = format!(
                "{peer} has paused this volume, or waits for the right to write it: nothing is exchanged with it until that is over (see `syncmesh-agent status` there)"
            );
            "Degraded"
        } else if in_sync {
            if volume.differences > 0 {
                message = format!(
                    "{} paths differed from a peer's although both knew the same, and were repaired: the log names them, see docs/operations.md",
                    volume.differences
                );
            } else if let Some(path) = &volume.reverted.last {
                message = format!(
                    "{} changes by users of this node were taken back since the start, because only another node may write; the last was {path}: `syncmesh-agent versions` lists what is stored",
                    volume.reverted.count
                );
            }
            "InSync"
        } else {
            message = waiting.unwrap_or_default();
            "Syncing"
        };
        if let Some((path, problem)) = volume.problems.first_key_value() {
            let more = volume.problems.len() - 1;
            message = format!("{path}: {problem}");
            if more > 0 {
                message.push_str(&format!(" (and {more} more)"));
            }
        }
        let capacity = volume.settings.get().limits.capacity;
        let over_capacity = capacity.filter(|&capacity| {
            let stays = counts.bytes + volume.stock.pinned_bytes();
            stays > capacity || (counts.no_space > 0 && volume.usage.is_spent())
        });
        if counts.no_space > 0 || over_capacity.is_some() {
            let space = over_capacity.map_or_else(|| no_space(&counts), |capacity| spent(&counts, capacity));
            message = if message.is_empty() || state == "Syncing" { space } else { format!("{space}; {message}") };
        }
        let last_sync = if in_sync { Some(wall) } else { volume.last_sync };
        VolumeStatus {
            name: volume.name.clone(),
            state: state.into(),
            in_sync,
            synced_percent,
            files: counts.files,
            bytes: counts.bytes,
            pending_files: counts.wanted,
            pending_bytes: counts.wanted_bytes,
            filled: self.is_filled(volume),
            members: peers.iter().filter(|peer| members.has(&peer.node)).count() as u64,
            recorded: volume.scanned
                && volume.dirty.is_empty()
                && volume.busy.len() <= volume.glances
                && !self.io.has_events(volume.watcher),
            copied: volume.copied,
            lag_ms: volume.wanted_since.map_or(0, |since| wall.saturating_sub(since)),
            durable_lag_ms: durable_lag,
            conflicts: counts.conflicts,
            holds: suspects
                + match volume.guard.state {
                    State::Held { .. } => counts.held_here + counts.held_gone,
                    _ => 0,
                },
            writes: volume.settings.get().role == Role::Writer,
            reverted: volume.reverted.count,
            reverted_path: volume.reverted.last.as_ref().map(ToString::to_string),
            reverted_at: volume.reverted.last.as_ref().map(|_| volume.reverted.at_millis),
            no_space_files: counts.no_space,
            capacity_bytes: capacity,
            over_capacity: over_capacity.is_some(),
            stored_files: volume.stock.files(),
            stored_bytes: volume.stock.bytes(),
            linked_elsewhere: volume.second_names.elsewhere(),
            last_sync,
            message,
            sequence: volume.state.sequence,
            watches: volume.watches.len() as u64,
            worst: Vec::new(),
            sum: volume.state.sum.to_string(),
            differences: volume.differences,
        }
    }

    /// Is a volume filled? If it is being filled, a peer whose copy is full must have told everything, and all of it be here.
    fn is_filled(&self, volume: &Volume) -> bool {
        let has_all_of = |link: &Link| {
            let incoming = &link.incoming;
            !link.filling_there
                && incoming.has_told
                && incoming.is_idle()
                && incoming.recorded() == incoming.journalled
                && volume.state.knowledge.covers_all(&link.outgoing.knowledge)
        };
        let ready = || self.connections.values().filter(|connection| connection.phase == Phase::Ready);
        let of_full_copy = || ready().any(|connection| connection.links.get(&volume.number).is_some_and(has_all_of));
        !volume.settings.get().filling || (volume.is_settled() && of_full_copy())
    }

    /// What keeps a volume from being in sync with the peers that are connected; `None` if nothing does.
    pub(super) fn waiting_for(&self, number: u16) -> Option<String> {
        let volume = self.volumes.get(&number)?;
        if volume.settings.get().role == Role::Fenced {
            return Some(FENCED.into());
        }
        if volume.is_paused() {
            return Some(paused(volume.settings.get().paused));
        }
        if let Some(unsynced) = &volume.unsynced {
            return Some(unsynced.message());
        }
        if !volume.scanned {
            return Some("the first scan is under way".into());
        }
        if self.io.has_events(volume.watcher) {
            return Some("changes that the system has reported are about to be looked at".into());
        }
        if let Some(suspicion) = &volume.state.suspicion
            && !suspicion.members.is_empty()
        {
            let members: Vec<&str> = suspicion.members.iter().map(String::as_str).collect();
            return Some(format!(
                "power was lost, or the file system couldn't write everything: files that changed shortly before wait until {} was heard",
                members.join(", ")
            ));
        }
        if !volume.is_settled() {
            let wanted = volume.state.counts.wanted;
            if volume.state.counts.undecided == wanted && wanted > 0 {
                return Some(undecided(wanted));
            }
            if volume.state.counts.held == wanted && wanted > 0 {
                return Some(format!("{wanted} deletions wait for others that may come with them, or for approval"));
            }
            return Some(match wanted {
                0 if volume.second_names.seeks() => "names of changed files with several are looked for".into(),
                0 if volume.reading != Reading::Not => "all files are being read again".into(),
                0 => format!("looking at changes in {} directories", volume.dirty.len() + volume.busy.len()),
                _ => format!("{wanted} paths aren't here yet"),
            });
        }
        for connection in self.connections.values().filter(|connection| connection.phase == Phase::Ready) {
            let peer = connection.peer.as_deref().unwrap_or("a peer");
            if !volume.members.has(peer) {
                continue;
            }
            let Some(link) = connection.links.get(&number) else {
                return Some(format!("{peer} doesn't have this volume: add it there, or remove {peer} from `peers`"));
            };
            if link.paused_there {
                return Some(format!("{peer} has paused this volume"));
            }
            if !link.incoming.is_idle() || link.incoming.recorded() != link.incoming.journalled {
                return Some(format!("changes of {peer} are being recorded"));
            }
            let out = &link.outgoing;
            if !volume.state.knowledge.covers_all(&out.knowledge) {
                return Some(format!("{peer} knows changes that aren't here yet"));
            }
            if link.comparing.differs {
                return Some(format!(
                    "{peer} knows the same versions, and yet other files: what differs is looked for"
                ));
            }
            if out.position < volume.state.sequence || out.collecting || out.progress.visible < volume.state.sequence {
                return Some(format!("{peer} hasn't published everything yet"));
            }
        }
        None
    }

    /// Remembers which volumes are in sync now. Done once a second at most, and at rest with each heartbeat.
    pub(super) fn note_sync(&mut self, now: u64) {
        if now < self.sync_noted + SYNC_NOTED.as_nanos() as u64 {
            return;
        }
        self.sync_noted = now;
        let is_ready = |peer: &Peer| match peer.state {
            PeerState::Session(id) => self.connections.get(&id).is_some_and(|c| c.phase == Phase::Ready),
            PeerState::Waiting(_) | PeerState::Calling => false,
        };
        let away: Vec<&str> =
            self.peers.iter().filter(|(_, peer)| !is_ready(peer)).map(|(name, _)| name.as_str()).collect();
        let wall = self.wall_millis();
        let all_there = self.volumes.values().filter(|volume| !away.iter().any(|peer| volume.members.has(peer)));
        let in_sync: Vec<u16> =
            all_there.map(|volume| volume.number).filter(|&number| self.waiting_for(number).is_none()).collect();
        for number in in_sync {
            if let Some(volume) = self.volumes.get_mut(&number) {
                volume.last_sync = Some(wall);
            }
        }
    }

    /// The volume of that name, or all: numbers and names. An error says that there is none.
    pub fn volumes_named(&self, name: Option<&str>) -> Result<Vec<(u16, String)>, String> {
        let is_meant = |volume: &&Volume| name.is_none_or(|name| volume.name == name);
        let found: Vec<_> =
            self.volumes.values().filter(is_meant).map(|volume| (volume.number, volume.name.clone())).collect();
        match name {
            Some(name) if found.is_empty() => {
                Err(format!("there is no volume {name} here: `syncmesh-agent status` lists them"))
            }
            _ => Ok(found),
        }
    }

    /// Where a path is that somebody named: below a volume's directory, or in the volume that was named, or in the only one.
    pub fn place(&self, named: &Named) -> Result<Place, String> {
        let volumes = self.volumes_named(named.volume.as_deref())?;
        let volumes: Vec<&Volume> = volumes.iter().filter_map(|(number, _)| self.volumes.get(number)).collect();
        let below = volumes.iter().find_map(|volume| {
            let rest = Path::new(&named.absolute).strip_prefix(&volume.path).ok()?;
            Some((volume.number, rest.as_os_str().as_bytes()))
        });
        let is_relative = Path::new(&named.typed).is_relative();
        let (number, path) = match (below, volumes.as_slice()) {
            (Some(place), _) => place,
            (None, [only]) if is_relative => (only.number, named.typed.trim_end_matches('/').as_bytes()),
            _ => {
                let roots: Vec<String> = volumes.iter().map(|volume| volume.path.display().to_string()).collect();
                return Err(format!(
                    "{} is in none of the volumes' directories ({}): give a path below one, or --volume and a path in it",
                    named.typed,
                    roots.join(", ")
                ));
            }
        };
        let path = if path == b"." { b"" } else { path };
        let path = RelativePath::new(path).map_err(|error| format!("{}: {error}", named.typed))?;
        Ok(Place { number, path })
    }

    /// What keeps each volume from being as it should, as far as the loop knows.
    pub fn troubles(&self) -> Vec<Troubles> {
        let ready = || self.connections.values().filter(|connection| connection.phase == Phase::Ready);
        let of = |volume: &Volume| Troubles {
            number: volume.number,
            name: volume.name.clone(),
            problems: volume.problems.iter().map(|(path, problem)| (path.clone(), problem.clone())).collect(),
            known: ready()
                .filter_map(|connection| connection.links.get(&volume.number))
                .map(|link| Arc::clone(&link.outgoing.knowledge))
                .collect(),
            wall: self.io.wall() / 1_000_000,
        };
        self.volumes.values().map(of).collect()
    }

    /// Has a job answer a question.
    pub fn look(&mut self, look: Look) {
        self.jobs_running += 1;
        self.jobs.push(Job::Look(look));
    }

    /// Sums since the start.
    pub fn counters(&self) -> Counters {
        self.counters
    }
}

/// What waits for space, and what to do.
fn no_space(counts: &Counts) -> String {
    format!(
        "{} paths ({} bytes) wait for space: below `reserve` nothing is fetched, and the version store has given what it may; delete something or enlarge the file system, then it goes on by itself",
        counts.no_space, counts.no_space_bytes
    )
}

/// The same where it is the capacity that is spent.
fn spent(counts: &Counts, capacity: u64) -> String {
    format!(
        "{} paths ({} bytes) wait for room: files take {} bytes of a capacity of {capacity}, and the version store has given what it may; delete something or raise `capacity`, then it goes on by itself",
        counts.no_space, counts.no_space_bytes, counts.bytes
    )
}

/// Why a volume stands still, and what to do.
fn paused(by_configuration: bool) -> String {
    if by_configuration {
        "it is paused by `paused: true` in the configuration".into()
    } else {
        "it is paused: `syncmesh-agent resume` goes on".into()
    }
}
