//! Power loss on real file systems: volume and state lie in an image of a disk, which is copied while both nodes write. The
//! copy is what power loss leaves: what the system had written to the disk, and nothing that it hadn't.

#![allow(clippy::disallowed_types, clippy::unwrap_used, reason = "tests: real time, and a failure is a failure")]

mod mesh;

use mesh::{Agent, Dice, Mesh, noise, replace, wait_until, words};
use rustix::process::Signal;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const ROUNDS: u64 = 25;
/// Fewer with `durability: strict`, on one file system: the machinery is the same.
const STRICT_ROUNDS: u64 = 8;
const FILES: u64 = 12;

/// A file system in an image, mounted where an agent has everything.
struct Disk {
    image: PathBuf,
    place: PathBuf,
}

fn run(program: &str, arguments: &[&Path]) -> Result<(), String> {
    let output = Command::new(program).args(arguments).output().map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() { Ok(()) } else { Err(format!("{program}: {}", words(&output))) }
}

impl Disk {
    /// Moves what the agent has onto a file system of its own.
    fn new(agent: &Agent, home: &Path, make: &str, mib: u64) -> Result<Disk, String> {
        let image = home.join("disk.img");
        fs::File::create(&image).unwrap().set_len(mib << 20).unwrap();
        run(make, &[Path::new("-q"), &image])?;
        let before = home.join("before");
        fs::rename(&agent.place, &before).unwrap();
        fs::create_dir(&agent.place).unwrap();
        let disk = Disk { image, place: agent.place.clone() };
        disk.mount()?;
        run("cp", &[Path::new("-a"), &before.join("."), &disk.place])?;
        run("sync", &[Path::new("-f"), &disk.place])?;
        Ok(disk)
    }

    fn mount(&self) -> Result<(), String> {
        run("mount", &[Path::new("-o"), Path::new("loop"), &self.image, &self.place])
    }

    fn unmount(&self) -> Result<(), String> {
        run("umount", &[&self.place])
    }

    /// What is on the disk now, and what isn't, is what is there after the next mount. Whoever writes must stand still.
    fn lose_power(&self, agent: &mut Agent) {
        let left = self.image.with_extension("left");
        // Power is lost in one moment: a copy during which the system wrote on is none of any.
        let written = || fs::metadata(&self.image).unwrap().modified().unwrap();
        wait_until("nothing is written to the disk for as long as it is copied", || {
            let before = written();
            run("cp", &[Path::new("--sparse=always"), &self.image, &left])?;
            if written() == before { Ok(()) } else { Err("it is written to".to_owned()) }
        });
        agent.kill();
        wait_until("the file system can be taken down", || self.unmount());
        fs::rename(&left, &self.image).unwrap();
        self.mount().unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // It may not be mounted any more; the image goes with the test's directory.
        let _ = Command::new("umount").arg("--lazy").arg(&self.place).output();
    }
}

/// Contents that tell whether they are whole: a number, a hash, and a body of the length and seed that the number gives. All
/// ride along with their announcement.
fn whole(id: u64) -> Vec<u8> {
    let body = noise(id, (id.wrapping_mul(7919) % 40_000) as usize);
    [&id.to_le_bytes()[..], blake3::hash(&body).as_bytes(), &body].concat()
}

fn id_of(contents: &[u8]) -> Option<u64> {
    let (id, _) = contents.split_first_chunk::<8>()?;
    let id = u64::from_le_bytes(*id);
    (whole(id) == contents).then_some(id)
}

/// Whole versions by name. A file that isn't whole has none.
fn versions(volume: &Path) -> BTreeMap<String, Option<u64>> {
    let entries = fs::read_dir(volume).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file());
    let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
    let files = entries.filter_map(|path| Some((name(&path), id_of(&fs::read(&path).ok()?))));
    // What is on its way to its name is nobody's yet.
    files.filter(|(name, _)| !name.starts_with('.')).collect()
}

fn write_until(stop: &AtomicBool, volume: &Path, name: &str, dice: &mut Dice, next: &mut u64) {
    while !stop.load(Ordering::Relaxed) {
        let path = volume.join(format!("{name}{}", dice.below(FILES)));
        *next += 1;
        match dice.below(3) {
            0 => replace(&path, &whole(*next)),
            _ => fs::write(&path, whole(*next)).unwrap(),
        }
        std::thread::sleep(Duration::from_millis(dice.below(20)));
    }
}

fn power_is_lost_again_and_again(make: &str, mib: u64, rounds: u64, durability: &str) {
    if !rustix::process::geteuid().is_root() {
        println!("not run: needs root");
        return;
    }
    if Command::new(make).arg("-V").output().is_err() {
        println!("not run: needs {make}");
        return;
    }
    let mut mesh = Mesh::configured(["a", "b"], &format!("    durability: {durability}\n"));
    let home = mesh.home().to_owned();
    let disk = Disk::new(&mesh.agents[0], &home, make, mib).unwrap();
    mesh.start();
    mesh.in_sync();
    let mut dice = [Dice::new(1), Dice::new(2)];
    let mut next = [0, 1 << 32];
    for round in 0..rounds {
        let stop = AtomicBool::new(false);
        let [a, b] = &mut mesh.agents[..] else { unreachable!("two agents") };
        std::thread::scope(|scope| {
            let [dice_a, dice_b] = &mut dice;
            let [next_a, next_b] = &mut next;
            let (stop, a, b) = (&stop, &a.volume, &b.volume);
            scope.spawn(move || write_until(stop, a, "a", dice_a, next_a));
            scope.spawn(move || write_until(stop, b, "b", dice_b, next_b));
            std::thread::sleep(Duration::from_millis(200 + round * 73));
            stop.store(true, Ordering::Relaxed);
        });
        a.signal(Signal::STOP);
        let seen = versions(&b.volume);
        disk.lose_power(a);
        if durability == "strict" {
            // What came from the other node is whole at once, not only when the agent has recovered.
            for (name, id) in versions(&a.volume).iter().filter(|(name, _)| name.starts_with('b')) {
                assert!(id.is_some(), "round {round}: {name} has its name, and not its contents");
            }
        }
        a.start();
        wait_until("all is in sync, or waits for a word", || {
            let status = a.volume_status().ok_or("it starts")?;
            // What nobody knows better than the disk does: what was there before returns.
            if status["holds"].as_u64() > Some(0) {
                a.ask(&["holds", "reject"]);
            }
            if status["inSync"] == true { Ok(()) } else { Err(status.to_string()) }
        });
        mesh.converge();
        let ends = versions(&mesh.agents[0].volume);
        for (name, id) in &ends {
            assert!(id.is_some(), "round {round}: {name} is torn");
        }
        for (name, id) in seen.iter().filter(|(_, id)| id.is_some()) {
            assert!(ends.get(name) >= Some(id), "round {round}: {name} was {id:?} on b, and is {:?}", ends.get(name));
        }
        mesh.assert_no_conflicts();
    }
}

#[test]
fn power_is_lost_again_and_again_on_ext4_and_nothing_torn_is_told() {
    power_is_lost_again_and_again("mkfs.ext4", 64, ROUNDS, "epoch");
}

#[test]
fn power_is_lost_again_and_again_on_xfs_and_nothing_torn_is_told() {
    power_is_lost_again_and_again("mkfs.xfs", 320, ROUNDS, "epoch");
}

#[test]
fn with_strict_durability_no_reader_finds_what_power_loss_has_torn_of_anothers_files() {
    power_is_lost_again_and_again("mkfs.ext4", 64, STRICT_ROUNDS, "strict");
}
