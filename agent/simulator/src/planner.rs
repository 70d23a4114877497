//! The pure rules by themselves: random histories of one path on some replicas that write, delete and hear of each other in any
//! order, and at the end whether all that is joined and decided is the same in whatever order (I5, I7).

use crate::Random;
use syncmesh_core::clock::HlcClock;
use syncmesh_core::decide::{Decision, decide, merge};
use syncmesh_core::entry::{Attributes, Body, Content, ContentHash, Entry, Origin, Stamp};
use syncmesh_core::policy::Policy;
use syncmesh_core::version::{Dot, ReplicaId, Vector};

/// Replicas of a history, and things that happen in it at most.
const REPLICAS: u64 = 4;
const STEPS: u64 = 24;

#[derive(Default)]
struct Replica {
    clock: HlcClock,
    counter: u64,
    entry: Option<Entry>,
}

/// Plays the history of a seed; how often `merge` and `decide` were asked.
///
/// # Errors
/// What differs although it must not.
pub fn play(seed: u64) -> Result<u64, String> {
    let mut random = Random::new(seed ^ 0x0009_1a27);
    let policy = [Policy::KeepBoth, Policy::LastWriterWins][random.between(0, 1) as usize];
    let mut replicas: Vec<Replica> = (0..REPLICAS).map(|_| Replica::default()).collect();
    let mut runs = 0;
    for _ in 0..random.between(4, STEPS) {
        let (to, from) = (random.between(0, REPLICAS - 1) as usize, random.between(0, REPLICAS - 1) as usize);
        if to == from || random.once_in(3) {
            write(&mut random, &mut replicas[to], to as u64 + 1);
            continue;
        }
        let Some(remote) = replicas[from].entry.clone() else { continue };
        let here = replicas[to].entry.clone();
        replicas[to].entry = Some(taken(here.as_ref(), &remote, policy)?);
        runs += 1;
    }
    let known: Vec<Entry> = replicas.into_iter().filter_map(|replica| replica.entry).collect();
    // Everybody hears of everybody, each in an order of its own.
    let mut ends: Vec<Entry> = Vec::new();
    for first in 0..known.len() {
        let mut end = known[first].clone();
        for step in 1..known.len() {
            end = taken(Some(&end), &known[(first * 3 + step * 7 + first) % known.len()], policy)?;
            runs += 1;
        }
        for other in &known {
            end = taken(Some(&end), other, policy)?;
            runs += 1;
        }
        ends.push(end);
    }
    if let Some(pair) = ends.windows(2).find(|pair| pair[0] != pair[1]) {
        return Err(format!("I7: who heard of the same in another order has another entry: {pair:?}"));
    }
    Ok(runs)
}

/// What a replica has after it has decided about a remote entry: what the decision says, which must be the join.
fn taken(here: Option<&Entry>, remote: &Entry, policy: Policy) -> Result<Entry, String> {
    let joined = here.map_or_else(|| remote.clone(), |here| merge(here, remote));
    let decided = match decide(here, remote, policy) {
        Decision::Known => here.cloned().ok_or("nothing is here, and yet it is known")?,
        Decision::Record(entry) | Decision::SetAttributes(entry) | Decision::Publish { entry, .. } => entry,
        Decision::Hold => return Err("a policy that decides held a version".into()),
    };
    if decided != joined {
        return Err(format!("decided isn't joined: {decided:?} and {joined:?}"));
    }
    if let Some(here) = here
        && remote.vector.includes_all(&here.vector)
        && !remote.losers.iter().any(|loser| loser.is_version(&here.content))
        && decided.losers.len() > remote.losers.len()
    {
        return Err(format!("I5: ordered versions conflict: {here:?} and {remote:?}"));
    }
    Ok(decided)
}

fn write(random: &mut Random, replica: &mut Replica, id: u64) {
    let old = replica.entry.take();
    replica.counter += 1;
    let dot = Dot { replica: ReplicaId(id), counter: replica.counter };
    let above = old.as_ref().map(|entry| entry.newest().hlc);
    let stamp = Stamp { hlc: replica.clock.stamp(random.between(0, 50), above), dot };
    let mut vector = old.as_ref().map_or_else(Vector::default, |entry| entry.vector.clone());
    vector.add(dot);
    let named = old.as_ref().and_then(|entry| entry.content.body.recognised_by());
    let file = |number: u64| Body::File {
        size: 1,
        mtime: 0,
        algorithm: 0,
        hash: ContentHash::of(&number.to_le_bytes()),
        sparse: false,
        moved_from: None,
    };
    let body = match random.between(0, 9) {
        0..=1 => Body::tombstone(named),
        2 => Body::Directory,
        _ => file(random.between(0, 5)),
    };
    let origin = match (&old, random.between(0, 3)) {
        (None, 0) => Origin::Returned,
        (None, 1) => Origin::Yielding,
        _ => Origin::Written,
    };
    let mut content = Content { stamp, body, origin };
    let mut losers = Vec::new();
    // Now and then only the mode changes.
    if let (Some(old), true) = (&old, random.once_in(5)) {
        (content, losers) = (old.content.clone(), old.losers.clone());
    }
    let attributes = Attributes { stamp, mode: random.between(0, 3) as u32, owner: None };
    replica.entry = Some(Entry { vector, content, losers, attributes });
}
