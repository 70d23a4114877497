//! Random stories: users write, delete and rename on all nodes, agents are killed, links are cut; at the end everything
//! heals, and the invariants must hold.

mod mishaps;
mod revocations;
mod troubles;
mod twins;
mod users;
mod writers;

use crate::ledger::Ledger;
use crate::mesh::{Mesh, Shape};
use crate::{Cut, Disk, Snapshot};
use mishaps::Mishaps;
use revocations::Revocations;
use std::collections::{BTreeMap, BTreeSet};
use syncmesh_core::entry::{Body, ContentHash, Row};
use syncmesh_core::path::RelativePath;
use syncmesh_core::policy::Policy;
use syncmesh_core::version::Dot;
use syncmesh_engine::epoch::Durability;
use syncmesh_engine::guard::Verdict;
use syncmesh_engine::store::Stored;
use syncmesh_io::FileKind;
use troubles::Troubles;
use twins::Twins;
use writers::Writers;

/// How a story went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// The hash of all that happened.
    pub trace: u64,
    /// Steps.
    pub steps: u64,
    /// Writes of users.
    pub writes: u64,
    /// Edits that followed a rename.
    pub followed: u64,
    /// Files at the end, on each node.
    pub files: usize,
}

const SECOND: u64 = 1_000_000_000;

/// Makes a seed of its own from a story's, so that all other stories stay as they are.
const RENAMING: u64 = 0x51ab_3f0c_77d2_9e15;
/// The volume comes to running agents.
const COMES_LATE: u64 = 0x2c9e_71d4_05b8_6ea3;

struct Teller {
    mesh: Mesh,
    ledger: Ledger,
    nodes: u32,
    writes: u64,
    cuts: Vec<(u32, u32)>,
    /// The only node on which anybody writes, in stories that have one.
    writer: Option<u32>,
    /// Versions that other nodes declared all the same.
    made_up: u64,
    /// Edits that followed a rename.
    followed: u64,
    /// Users rename files all the time, and have few.
    renaming: bool,
    /// Comparisons of replicas that found them different although they knew the same.
    differences: u64,
    /// Some machine lost power at some time, or its disk couldn't take what was written.
    power_lost: bool,
    mishaps: Mishaps,
    writers: Writers,
    /// Programs held files open at some time.
    held_open: bool,
    troubles: Troubles,
    twins: Twins,
    revocations: Revocations,
}

/// Tells the story of a seed. The error names the broken invariant.
pub fn tell(seed: u64, print: bool) -> Result<Told, String> {
    let mut choice = crate::Random::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let nodes = if choice.once_in(12) { 5 } else { choice.between(2, 4) as u32 };
    let policy = if choice.once_in(3) { Policy::LastWriterWins } else { Policy::KeepBoth };
    let durability = if choice.once_in(4) { Durability::Strict } else { Durability::Epoch };
    let shape = Shape { nodes, policy, durability, exclude: vec!["*.tmp".into()], ..Shape::default() };
    let comes_late = crate::Random::new(seed ^ COMES_LATE).once_in(8);
    let mut mesh = if comes_late { Mesh::late(seed, shape) } else { Mesh::new(seed, shape) };
    mesh.print = print;
    let writer = choice.once_in(5).then(|| choice.between(1, u64::from(nodes)) as u32);
    let ledger = Ledger::default();
    let mut teller = Teller {
        mesh,
        ledger,
        nodes,
        writes: 0,
        cuts: Vec::new(),
        writer,
        made_up: 0,
        followed: 0,
        renaming: crate::Random::new(seed ^ RENAMING).once_in(5),
        differences: 0,
        power_lost: false,
        mishaps: Mishaps::default(),
        writers: Writers::default(),
        held_open: false,
        troubles: Troubles::new(&mut choice),
        twins: Twins::new(&mut choice),
        revocations: Revocations::new(seed),
    };
    let calm = choice.once_in(4);
    let actions = choice.between(10, 60);
    for _ in 0..actions {
        let pause = match choice.between(0, 9) {
            0..=4 => choice.between(0, 200),
            5..=8 => choice.between(200, 20_000),
            _ => choice.between(20_000, 60_000),
        };
        let end = teller.mesh.world.now() + choice.between(0, 3 * SECOND);
        for _ in 0..pause {
            if teller.mesh.world.now() > end || !teller.mesh.step() {
                break;
            }
        }
        teller.act(calm);
        teller.mesh.check_revoked()?;
    }
    teller.end()
}

impl Teller {
    fn act(&mut self, calm: bool) {
        let node = self.mesh.random.between(1, u64::from(self.nodes)) as u32;
        let author = self.writer.unwrap_or_else(|| self.twins.one_of(&mut self.mesh, node));
        if self.revocations.act(&mut self.mesh, node) {
            return;
        }
        if self.renaming && self.mesh.random.once_in(4) {
            return self.rename_and_edit(node, author);
        }
        match self.mesh.random.between(0, if calm { 79 } else { 99 }) {
            0..=23 => self.write(author),
            24..=27 => self.save_beside(author),
            28..=30 => self.save_with_backup(author),
            31..=32 => self.remove_and_create(author),
            33..=35 => self.rewrite_in_place(author),
            36..=38 => self.append(author),
            39 => self.troubles.begin_or_end(&mut self.mesh, node),
            40..=51 => self.delete(author),
            52..=55 => self.make_directory(author),
            56..=57 => self.second_name(author),
            58 => self.link(author),
            59 => self.unselected(node),
            60..=65 => self.remove_tree(author),
            66..=72 => self.change_mode(author),
            73..=75 => self.rename(author),
            76..=79 => {
                let path = self.path();
                self.held_open = true;
                self.writers.act(&mut self.mesh, &mut self.ledger, author, path);
            }
            80..=86 => {
                if self.mesh.runs(node) {
                    self.count_made_up(node);
                    self.count_differences(node);
                    self.let_note(node);
                    self.count_followed(node);
                    self.mesh.kill(node);
                } else {
                    if !self.power_lost {
                        self.mishaps.befall(&mut self.mesh, &mut self.ledger, node);
                        self.twins.appear(&mut self.mesh, self.writer, node);
                    }
                    self.troubles.end_on(&mut self.mesh, node);
                    self.mesh.start(node);
                }
            }
            87..=89 if !self.mishaps.befell && self.twins.is_empty() => self.lose_power(node),
            90..=92 => self.troubles.begin_or_end(&mut self.mesh, node),
            93..=94 if !self.mishaps.befell && !self.held_open && self.twins.is_empty() => self.fail_sync(node),
            _ => self.cut_or_heal(node),
        }
        self.note_losses();
    }

    /// Like power loss it leaves files of which somebody has to decide; see also [`Mishaps`].
    fn fail_sync(&mut self, node: u32) {
        self.count_differences(node);
        self.mesh.fail_sync(node);
        self.power_lost = true;
    }

    /// A kill between a sync that failed and its note hides what nobody had recorded yet: the price in decision 0032.
    fn let_note(&mut self, node: u32) {
        const STEPS: usize = 1_000;
        for _ in 0..STEPS {
            if self.mesh.has_noted_a_failed_sync(node) || !self.mesh.disk(node).has_lost() {
                return;
            }
            self.mesh.step();
        }
    }

    /// What only a disk was about to have that couldn't take it is excused.
    fn note_losses(&mut self) {
        for at in 0..self.mesh.machines.len() {
            let losses = self.mesh.machines[at].disk.take_losses();
            if losses.is_empty() {
                continue;
            }
            let others = self.mesh.machines.iter().enumerate().filter(|(other, _)| *other != at);
            let others = others.flat_map(|(_, machine)| on_disk(&machine.disk));
            let kept: Vec<Vec<u8>> = others.collect();
            self.ledger.power_lost(losses.iter().map(Vec::as_slice), kept.iter().map(Vec::as_slice));
        }
    }

    /// Where one node alone writes there is nothing to decide, and no other may declare anything.
    fn count_made_up(&mut self, node: u32) {
        if self.writer.is_some_and(|writer| writer != node) {
            self.made_up += self.mesh.activity(node).map_or(0, |(versions, _)| versions);
        }
    }

    /// Whether the agent runs or not. What only this machine had, and hadn't synced, is excused.
    fn lose_power(&mut self, node: u32) {
        self.count_differences(node);
        self.count_followed(node);
        let before = self.contents();
        self.mesh.lose_power(node);
        let after: Vec<Vec<u8>> = self.mesh.machines.iter().flat_map(|machine| on_disk(&machine.disk)).collect();
        self.ledger.power_lost(before.iter().map(Vec::as_slice), after.iter().map(Vec::as_slice));
        self.power_lost = true;
    }

    /// Has every version that nobody superseded a name? Losers of conflicts have one; what power loss made doubtful, or a
    /// rebuilt registry recognised as deleted, need not; nor what a program wrote to a file whose directory was deleted.
    fn keeps_both(&self) -> bool {
        let excused = self.power_lost || self.mishaps.rebuilt || self.held_open;
        self.mesh.shape.policy == Policy::KeepBoth && !excused
    }

    /// What users see on each node.
    fn snapshots(&self) -> Vec<BTreeMap<Vec<u8>, Snapshot>> {
        (1..=self.nodes).map(|id| self.mesh.disk(id).snapshot()).collect()
    }

    /// All contents of all disks.
    fn contents(&self) -> Vec<Vec<u8>> {
        self.mesh.machines.iter().flat_map(|machine| contents(&machine.disk)).collect()
    }

    fn cut_or_heal(&mut self, node: u32) {
        if let Some((a, b)) = self.cuts.pop() {
            self.mesh.note(&format!("n{a} and n{b} can talk again"));
            self.mesh.world.heal(a, b);
            return;
        }
        let other = self.mesh.random.between(1, u64::from(self.nodes)) as u32;
        if other == node {
            return;
        }
        let how = [Cut::Reset, Cut::Silent, Cut::SilentOneWay][self.mesh.random.between(0, 2) as usize];
        self.mesh.note(&format!("n{node} and n{other} are cut: {how:?}"));
        self.mesh.world.cut(node, other, how);
        if how != Cut::Reset {
            self.cuts.push((node, other));
        }
    }

    /// All know the same of every path, and nobody was ever found not to.
    fn check_sums(&mut self) -> Result<(), String> {
        let mut sums = Vec::new();
        for id in 1..=self.nodes {
            self.count_differences(id);
            sums.extend(self.mesh.status(id).into_iter().flat_map(|status| status.volumes).map(|volume| volume.sum));
        }
        if self.differences > 0 || sums.windows(2).any(|pair| pair[0] != pair[1]) {
            return Err(format!("I1: sums differ where all know the same, {} times: {sums:?}", self.differences));
        }
        Ok(())
    }

    fn count_followed(&mut self, node: u32) {
        self.followed += self.mesh.counters(node).map_or(0, |counters| counters.followed_edits);
    }

    fn count_differences(&mut self, node: u32) {
        self.differences += self.mesh.counters(node).map_or(0, |counters| counters.sum_differences);
    }

    /// What looks damaged, and nobody knows better, waits for somebody's word. Of what is gone everywhere, although peers
    /// had heard of it, somebody writes the file again.
    fn decide_suspects(&mut self) {
        self.mesh.run_for(60 * SECOND);
        for id in 1..=self.nodes {
            // Most have nothing to decide.
            let _ = self.mesh.decide_holds(id, Verdict::Reject);
        }
        self.mesh.run_for(60 * SECOND);
        let mut again = BTreeSet::new();
        for id in 1..=self.nodes {
            let wanted = self.mesh.wanted(id).into_iter().map(|(key, row)| (key.path(), row));
            let gone: Vec<RelativePath> =
                wanted.filter(|(path, row)| self.is_gone(path, row)).map(|(path, _)| path).collect();
            for path in gone {
                if again.contains(&path) {
                    continue;
                }
                let bytes = path.as_bytes();
                let contents = self.ledger.contents(id, bytes, 100);
                let disk = self.mesh.disk(id).clone();
                let seen = disk.user_read(bytes).unwrap_or_default();
                if disk.user_write(bytes, &contents).is_ok() {
                    self.ledger.supersede(&seen);
                    again.insert(path);
                } else {
                    // Its directory is gone here, too: a user of another node may have it.
                    self.ledger.never_written(&contents);
                }
            }
        }
    }

    /// Is a path wanted whose contents nobody has any more?
    fn is_gone(&self, path: &RelativePath, row: &Row) -> bool {
        let there = self.found_by_agents(path);
        let wanted = row.wanted.iter().flat_map(|wanted| &wanted.entries);
        wanted.filter_map(|entry| entry.content.body.hash()).all(|hash| !there.contains(&hash))
    }

    /// Contents that agents can find for a path: under its name, under those of conflict copies, stored from it.
    fn found_by_agents(&self, path: &RelativePath) -> BTreeSet<ContentHash> {
        let mut found = BTreeSet::new();
        for machine in &self.mesh.machines {
            let is_copy = |name: &[u8]| name.windows(11).any(|part| part == b" (conflict ");
            let shown = machine.disk.snapshot().into_iter();
            let shown = shown.filter(|(name, _)| name == path.as_bytes() || is_copy(name));
            found.extend(shown.map(|(_, shown)| ContentHash::of(&shown.contents)));
            let is_of_path = |place: &[u8]| {
                let name = place.strip_prefix(b"store/").and_then(|name| String::from_utf8(name.to_vec()).ok());
                name.and_then(Stored::parse).is_some_and(|stored| stored.is_of(path))
            };
            let stored = machine.disk.stored_contents().into_iter().filter(|(place, _)| is_of_path(place));
            found.extend(stored.map(|(_, contents)| ContentHash::of(&contents)));
        }
        found
    }

    /// No two contents have one number.
    fn check_dots(&self) -> Result<(), String> {
        let mut bodies: BTreeMap<Dot, Body> = BTreeMap::new();
        for (key, row) in (1..=self.nodes).flat_map(|id| self.mesh.rows(id)) {
            let here = row.here.iter().map(|here| &here.entry);
            let entries = here.chain(row.wanted.iter().flat_map(|wanted| &wanted.entries));
            for content in entries.flat_map(|entry| entry.losers.iter().chain([&entry.content])) {
                let body = bodies.entry(content.stamp.dot).or_insert_with(|| content.body.clone());
                if *body != content.body && !body.same_contents(&content.body) {
                    return Err(format!(
                        "I9: {:?} is {body:?} and, at {}, {:?}",
                        content.stamp.dot,
                        key.path(),
                        content.body
                    ));
                }
            }
        }
        Ok(())
    }

    /// Everything heals; then the invariants.
    fn end(mut self) -> Result<Told, String> {
        // Who was set back to an older image, or lost what wasn't synced, may bring back what it doesn't know to be deleted; of two
        // copies of a machine both make versions until that is noticed.
        let had_twins = !self.twins.is_empty();
        let is_sound = !self.power_lost && !self.mishaps.befell && !had_twins;
        for (a, b) in std::mem::take(&mut self.cuts) {
            self.mesh.world.heal(a, b);
        }
        self.troubles.end(&mut self.mesh);
        self.revocations.end(&mut self.mesh);
        for id in 1..=self.nodes {
            self.mesh.machines[id as usize - 1].disk.fail_sync(None);
            if !self.mesh.runs(id) {
                self.mesh.start(id);
            }
        }
        self.mesh.note("everything heals");
        self.writers.end(&mut self.mesh);
        self.twins.end(&mut self.mesh);
        if self.power_lost {
            self.decide_suspects();
        }
        let healed = self.mesh.run_until_in_sync(300 * SECOND);
        healed.map_err(|why| {
            let disks = selected(self.snapshots());
            let apart = disks.iter().skip(1).filter_map(|disk| difference(&disks[0], disk));
            format!("I1: never in sync: {why}\n  n1 differs: {:?}", apart.collect::<Vec<_>>())
        })?;
        // Epochs end, and peers hear of it. What a disk couldn't take is missed at the latest now.
        self.mesh.run_for(15 * SECOND);
        self.note_losses();
        self.mesh.machines.iter().for_each(|machine| machine.disk.forget_cached());
        let activity: Vec<_> = (1..=self.nodes).map(|id| self.mesh.activity(id)).collect();
        self.mesh.run_for(60 * SECOND);
        let later: Vec<_> = (1..=self.nodes).map(|id| self.mesh.activity(id)).collect();
        if activity != later {
            return Err(format!("I6: nothing is written, and yet versions or frames: {activity:?}, then {later:?}"));
        }
        (1..=self.nodes).for_each(|id| self.count_made_up(id));
        (1..=self.nodes).for_each(|id| self.count_followed(id));
        // A version that only its readers have left, after its writer lost power, is declared by one of them.
        // What a rebuilt registry declares may conflict, and others make the copies.
        if self.made_up > 0 && !self.power_lost && !self.mishaps.rebuilt {
            return Err(format!("I5: nodes on which nobody wrote declared {} versions", self.made_up));
        }
        self.check_sums()?;
        if !had_twins {
            self.check_dots()?;
        }
        let disks = selected(self.snapshots());
        for (number, disk) in disks.iter().enumerate().skip(1) {
            if let Some(difference) = difference(&disks[0], disk) {
                return Err(format!("I1: n1 and n{} differ: {difference}", number + 1));
            }
        }
        let files = disks[0].iter().filter(|(_, shown)| shown.kind == FileKind::File);
        let published = || files.clone().map(|(path, shown)| (path.as_slice(), shown.contents.as_slice()));
        if let Some(back) = self.ledger.resurrected(published()).filter(|_| is_sound) {
            return Err(format!("I4: deleted, and back: {back}"));
        }
        let unpublished = self.ledger.unpublished(files.clone().map(|(_, shown)| shown.contents.as_slice()));
        if self.keeps_both() && !unpublished.is_empty() {
            return Err(format!("I2: under no name any more: {}", unpublished.join(", ")));
        }
        let stored: Vec<_> = self.mesh.machines.iter().map(|machine| machine.disk.stored_contents()).collect();
        let stored = stored.iter().flat_map(BTreeMap::values).map(Vec::as_slice);
        self.ledger.check(published(), stored)?;
        let count = files.count();
        let Self { mesh, writes, followed, .. } = self;
        Ok(Told { trace: mesh.trace, steps: mesh.steps, writes, followed, files: count })
    }
}

/// All contents of a disk, but for those that are being fetched: nobody has these yet, and a start drops them.
fn contents(disk: &Disk) -> Vec<Vec<u8>> {
    let is_fetched = |path: &[u8]| path.strip_prefix(b"stage/").is_some_and(|slot| slot[0] >= b'8');
    let shown = disk.snapshot().into_values().map(|shown| shown.contents);
    let stored = disk.stored_contents().into_iter().filter(|(path, _)| !is_fetched(path));
    shown.chain(stored.map(|(_, contents)| contents)).collect()
}

/// The same, as the disk has it: where another one has lost the only other copy, it doesn't help that memory still shows this one.
fn on_disk(disk: &Disk) -> Vec<Vec<u8>> {
    let disk = disk.copy();
    disk.forget_cached();
    contents(&disk)
}

/// Without what is excluded, and without directories in which nothing else is and which an excluded file keeps somewhere.
fn selected(mut disks: Vec<BTreeMap<Vec<u8>, Snapshot>>) -> Vec<BTreeMap<Vec<u8>, Snapshot>> {
    let is_excluded = |path: &Vec<u8>| path.ends_with(b".tmp");
    let mut kept: BTreeSet<Vec<u8>> = BTreeSet::new();
    for mut path in disks.iter().flat_map(BTreeMap::keys).filter(|path| is_excluded(path)).cloned() {
        while let Some(at) = path.iter().rposition(|&b| b == b'/') {
            path.truncate(at);
            kept.insert(path.clone());
        }
    }
    for disk in &mut disks {
        disk.retain(|path, _| !is_excluded(path));
        for path in kept.iter().rev() {
            let below = [&path[..], b"/"].concat();
            if disk.range(below.clone()..).next().is_none_or(|(next, _)| !next.starts_with(&below)) {
                disk.remove(path);
            }
        }
    }
    disks
}

fn difference(a: &BTreeMap<Vec<u8>, Snapshot>, b: &BTreeMap<Vec<u8>, Snapshot>) -> Option<String> {
    for path in a.keys().chain(b.keys()) {
        let show = |shown: Option<&Snapshot>| match shown {
            None => "absent".to_owned(),
            Some(s) => format!(
                "{:?} {:o} {} {:?}",
                s.kind,
                s.mode,
                if s.kind == FileKind::Directory { 0 } else { s.mtime },
                String::from_utf8_lossy(&s.contents[..s.contents.len().min(12)])
            ),
        };
        let (left, right) = (a.get(path), b.get(path));
        let same = match (left, right) {
            (Some(l), Some(r)) => {
                let time = |s: &Snapshot| if s.kind == FileKind::Directory { 0 } else { s.mtime };
                (l.kind, &l.contents, l.mode, l.owner, &l.target, time(l))
                    == (r.kind, &r.contents, r.mode, r.owner, &r.target, time(r))
            }
            _ => false,
        };
        if !same {
            return Some(format!("{}: {} and {}", String::from_utf8_lossy(path), show(left), show(right)));
        }
    }
    None
}
