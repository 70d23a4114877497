//! Room on a volume's file system: what stays free for others, and what gives way to what comes (SYNC 10). Below the reserve
//! the store's oldest versions go first; only when it has nothing more to give is nothing fetched any more.

use crate::job::VolumeContext;
use crate::store;
use syncmesh_core::entry::{Body, Row};

/// Room for what one job brings: looked at when the first asks, counted down from then on, so that many small files in one
/// job can't use the same room.
#[derive(Default)]
pub struct Room {
    left: Option<u64>,
}

impl Room {
    /// Takes so many bytes of what is above the reserve, if need be from the version store. False if there aren't as many.
    pub fn take(&mut self, volume: &VolumeContext, bytes: u64) -> bool {
        if let Some(rest) = self.left.and_then(|left| left.checked_sub(bytes)) {
            self.left = Some(rest);
            return true;
        }
        // A file system that doesn't say is asked by writing to it.
        let Ok(space) = volume.fs.space() else { return true };
        let reserve = volume.settings.get().limits.reserve(space.total_bytes);
        let missing = bytes.saturating_add(reserve).saturating_sub(space.free_bytes);
        if missing == 0 {
            self.left = Some(space.free_bytes - reserve - bytes);
            return true;
        }
        // What wouldn't be enough for this file stays, but for what the reserve itself lacks.
        let given = store::make_room(volume, missing, reserve.saturating_sub(space.free_bytes));
        self.left = Some((space.free_bytes + given).saturating_sub(reserve.saturating_add(bytes)));
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
