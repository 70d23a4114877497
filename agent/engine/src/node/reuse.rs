//! Contents that this node has already are copied before anybody is asked for them.

use super::Node;
use crate::job::Job;
use crate::reuse::{Copied, Progress, Reuse, Reused, slot};
use crate::volume::FetchWanted;
use syncmesh_io::Io;

impl<I: Io> Node<I> {
    /// Looks for contents here before they are fetched.
    pub(super) fn look_here(&mut self, wanted: FetchWanted) {
        let id = self.next_id;
        self.next_id += 1;
        self.reuses.insert(id, wanted);
        self.go_on_copying(id, Copied::default());
    }

    fn go_on_copying(&mut self, id: u64, copy: Copied) {
        let Some(wanted) = self.reuses.get(&id) else { return };
        let number = wanted.key.volume;
        let (hash, size, sparse) = (wanted.hash, wanted.size, wanted.sparse);
        if let Some(volume) = self.volumes.get_mut(&number) {
            volume.touched = true;
        }
        let from = wanted.from.clone();
        self.start(Job::Reuse(Reuse { volume: number, id, hash, size, sparse, from, copy }));
    }

    pub(super) fn reused(&mut self, reused: Reused) {
        let Reused { id, progress } = reused;
        let Some(wanted) = self.reuses.get(&id) else { return };
        let number = wanted.key.volume;
        let may_go_on = self.stopping.is_none()
            && self.volumes.get(&number).is_some_and(|volume| !volume.stands_still() && volume.failed.is_none());
        match progress {
            Progress::Part(copy) if may_go_on => self.go_on_copying(id, copy),
            Progress::Whole => {
                let Some(wanted) = self.reuses.remove(&id) else { return };
                self.counters.reused_bytes += wanted.size;
                self.fetched(wanted, slot(id));
            }
            // Looked for again when the volume goes on.
            Progress::Part(_) => {
                self.start(Job::DropSlot(number, slot(id)));
                self.queue_again(id, false);
            }
            // The edit was edited again, or is gone: it is looked at once more.
            Progress::Nothing if wanted.from.is_some() => {
                self.reuses.remove(&id);
                let now = self.io.now();
                if let Some(volume) = self.volumes.get_mut(&number) {
                    volume.retry.later(now);
                }
            }
            Progress::Nothing => self.queue_again(id, true),
        }
    }

    fn queue_again(&mut self, id: u64, looked_here: bool) {
        let Some(wanted) = self.reuses.remove(&id) else { return };
        if let Some(volume) = self.volumes.get_mut(&wanted.key.volume) {
            volume.fetch_queue.push_front(FetchWanted { looked_here, ..wanted });
        }
    }
}
