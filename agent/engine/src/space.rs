//! Room for a volume: what stays free of its file system for others, what it may take by its capacity, and what gives way to what
//! comes (SYNC 10). Where there isn't enough the store's oldest versions go first; only when it has nothing more to give is nothing
//! fetched any more. What users write here is never refused.

use crate::job::VolumeContext;
use crate::store;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use syncmesh_core::entry::{Body, Row};

/// What a volume's files take, for jobs, and what these found.
#[derive(Debug, Default)]
pub struct Usage {
    shown: AtomicU64,
    spent: AtomicBool,
}

impl Usage {
    /// The loop counts so many bytes under names.
    pub fn show(&self, bytes: u64) {
        self.shown.store(bytes, Ordering::Relaxed);
    }

    /// The last time that something found no room it was the capacity that was spent.
    pub fn is_spent(&self) -> bool {
        self.spent.load(Ordering::Relaxed)
    }
}

/// What is left above a limit, or what is missing below it: one of the two is 0.
#[derive(Clone, Copy)]
struct Left {
    room: u64,
    lacks: u64,
}

impl Left {
    fn between(has: u64, needed: u64) -> Self {
        Self { room: has.saturating_sub(needed), lacks: needed.saturating_sub(has) }
    }

    fn and(self, other: Self) -> Self {
        Self { room: self.room.min(other.room), lacks: self.lacks.max(other.lacks) }
    }
}

/// Of the file system above the reserve. One that doesn't say is asked by writing to it.
fn left_of_disk(volume: &VolumeContext) -> Option<Left> {
    let space = volume.fs.space().ok()?;
    Some(Left::between(space.free_bytes, volume.settings.get().limits.reserve(space.total_bytes)))
}

/// Of the volume's capacity, if it has one.
fn left_of_capacity(volume: &VolumeContext) -> Option<Left> {
    let capacity = volume.settings.get().limits.capacity?;
    let slots = volume.fs.list_slots().unwrap_or_default().into_iter();
    let staged: u64 = slots.filter_map(|slot| volume.fs.stat_slot(slot).ok()).map(|stat| store::takes(&stat)).sum();
    let used = volume.usage.shown.load(Ordering::Relaxed).saturating_add(volume.stock.bytes()).saturating_add(staged);
    Some(Left::between(capacity, used))
}

/// What the store should give back, whatever comes.
pub fn lacks(volume: &VolumeContext) -> u64 {
    [left_of_disk(volume), left_of_capacity(volume)].into_iter().flatten().map(|left| left.lacks).max().unwrap_or(0)
}

/// Room for what one job brings: looked at when the first asks, counted down from then on, so that many small files in one
/// job can't use the same room.
#[derive(Default)]
pub struct Room {
    left: Option<u64>,
}

impl Room {
    /// Takes so many bytes of what is left, if need be from the version store. False if there aren't as many.
    pub fn take(&mut self, volume: &VolumeContext, bytes: u64) -> bool {
        if let Some(rest) = self.left.and_then(|left| left.checked_sub(bytes)) {
            self.left = Some(rest);
            return true;
        }
        let capacity = left_of_capacity(volume);
        let all = [left_of_disk(volume), capacity].into_iter().flatten().reduce(Left::and);
        let Some(Left { room, lacks }) = all else { return true };
        let missing = bytes.saturating_add(lacks).saturating_sub(room);
        if missing == 0 {
            self.left = Some(room - bytes);
            return true;
        }
        // What wouldn't be enough for this file stays, but for what is lacking in any case.
        let given = store::make_room(volume, missing, lacks);
        self.left = Some((room + given).saturating_sub(lacks.saturating_add(bytes)));
        if given < missing {
            let is_spent = |left: Left| bytes.saturating_add(left.lacks) > left.room + given;
            volume.usage.spent.store(capacity.is_some_and(is_spent), Ordering::Relaxed);
        }
        given >= missing
    }
}

/// Bytes that contents will take, as far as that is known before they are here: holes take nothing.
pub fn needs(body: &Body) -> u64 {
    match body {
        Body::File { sparse: true, .. } => 0,
        body => body.size(),
    }
}

/// Bytes that what a row wants will take.
pub fn row_needs(row: &Row) -> u64 {
    row.wanted.iter().flat_map(|wanted| &wanted.entries).map(|entry| needs(&entry.content.body)).max().unwrap_or(0)
}
