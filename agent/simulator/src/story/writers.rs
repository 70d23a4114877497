//! Programs that hold files open for writing, in random stories: what they write goes where the file has gone.

use crate::ledger::Ledger;
use crate::mesh::Mesh;
use crate::{Disk, UserFile};

/// Programs at most.
const PROGRAMS: usize = 4;

/// The programs of all machines.
#[derive(Default)]
pub struct Writers(Vec<Program>);

struct Program {
    node: u32,
    file: UserFile,
    path: Vec<u8>,
}

impl Writers {
    /// A program opens a file, writes to one that it has open, or closes it.
    pub fn act(&mut self, mesh: &mut Mesh, ledger: &mut Ledger, node: u32, path: Vec<u8>) {
        let running = self.0.len();
        match mesh.random.between(0, 4) {
            0..=1 if running < PROGRAMS => {
                let disk = disk(mesh, node);
                if disk.user_stat(&path).is_ok()
                    && !disk.has_lost()
                    && let Ok(file) = disk.user_create_open(&path)
                {
                    mesh.note(&format!("a program of n{node} opens {}", String::from_utf8_lossy(&path)));
                    self.0.push(Program { node, file, path });
                }
            }
            2..=3 if running > 0 => {
                let which = mesh.random.between(0, running as u64 - 1) as usize;
                self.0[which].write(mesh, ledger);
            }
            _ if running > 0 => {
                let which = mesh.random.between(0, running as u64 - 1) as usize;
                let program = self.0.swap_remove(which);
                program.close(mesh);
            }
            _ => {}
        }
    }

    /// All programs end.
    pub fn end(&mut self, mesh: &mut Mesh) {
        self.0.drain(..).for_each(|program| program.close(mesh));
    }
}

impl Program {
    fn write(&self, mesh: &mut Mesh, ledger: &mut Ledger) {
        let disk = disk(mesh, self.node);
        // Its machine may have lost power since, or have another disk.
        let Ok(seen) = disk.user_read_open(self.file) else { return };
        let size = mesh.random.between(0, 300) as usize;
        let contents = ledger.contents(self.node, &self.path, size);
        let written = disk.user_truncate(self.file, 0).and_then(|()| disk.user_write_at(self.file, &contents, 0));
        let path = String::from_utf8_lossy(&self.path).into_owned();
        mesh.note(&format!("a program of n{} writes to what was {path}", self.node));
        ledger.supersede(&seen);
        // Of a file that users have deleted nothing is left when it is closed.
        if written.is_err() || disk.user_links(self.file) == Ok(0) {
            ledger.never_written(&contents);
        }
    }

    fn close(self, mesh: &mut Mesh) {
        disk(mesh, self.node).user_close(self.file);
        let path = String::from_utf8_lossy(&self.path).into_owned();
        mesh.note(&format!("a program of n{} closes what was {path}", self.node));
    }
}

fn disk(mesh: &Mesh, node: u32) -> Disk {
    mesh.disk(node).clone()
}
