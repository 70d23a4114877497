//! A disk that can't take what it is given: the volume lies in an image on a tmpfs that has less room than the image promises.
//! Its file system learns that only when it writes, long after programs were told that all is well.

#![allow(clippy::disallowed_types, clippy::unwrap_used, reason = "tests: real time, and a failure is a failure")]

mod mesh;

use mesh::{Mesh, noise, wait_until, words};
use rustix::fs::{Advice, fadvise};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const FILES: u64 = 40;
const FILE_BYTES: usize = 1 << 20;

fn run(program: &str, arguments: &[&str]) -> Result<(), String> {
    let output = Command::new(program).args(arguments).output().map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() { Ok(()) } else { Err(format!("{program}: {}", words(&output))) }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A file system that promises 128 MiB, on one that has fewer.
struct Promise {
    beneath: PathBuf,
    place: PathBuf,
}

impl Promise {
    fn new(home: &Path, place: &Path, mib: u64) -> Promise {
        let beneath = home.join("beneath");
        fs::create_dir(&beneath).unwrap();
        let promise = Promise { beneath, place: place.to_owned() };
        run("mount", &["-t", "tmpfs", "-o", &format!("size={mib}m"), "none", text(&promise.beneath)]).unwrap();
        let image = promise.beneath.join("image");
        fs::File::create(&image).unwrap().set_len(128 << 20).unwrap();
        // Without a journal: ext4 stops altogether when that can't be written.
        run("mkfs.ext4", &["-q", "-O", "^has_journal", text(&image)]).unwrap();
        run("mount", &["-o", "loop", text(&image), text(place)]).unwrap();
        fs::remove_dir(place.join("lost+found")).unwrap();
        promise
    }

    fn keep(&self) {
        run("mount", &["-o", "remount,size=256m", text(&self.beneath)]).unwrap();
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        for place in [&self.place, &self.beneath] {
            let _ = Command::new("umount").arg("--lazy").arg(place).output();
        }
    }
}

/// What the disk has of a file, rather than memory.
fn on_disk(path: &Path) -> Vec<u8> {
    let file = fs::File::open(path).unwrap();
    file.sync_all().unwrap();
    fadvise(&file, 0, None, Advice::DontNeed).unwrap();
    drop(file);
    fs::read(path).unwrap()
}

#[test]
fn a_disk_that_can_not_take_what_it_is_given_stops_its_volume_alone_and_everything_comes_again() {
    if !rustix::process::geteuid().is_root() || Command::new("mkfs.ext4").arg("-V").output().is_err() {
        println!("not run: needs root and mkfs.ext4");
        return;
    }
    let mut mesh = Mesh::configured(["a", "b"], "  - name: other\n    path: other\n");
    let home = mesh.home().to_owned();
    mesh.agents.iter().for_each(|agent| fs::create_dir(agent.place.join("other")).unwrap());
    let promise = Promise::new(&home, &mesh.agents[0].volume, 16);
    fs::write(mesh.agents[0].volume.join("first"), "there from the beginning").unwrap();
    mesh.start();
    mesh.converge();
    let (a, b) = mesh.pair();
    for number in 0..FILES {
        fs::write(b.volume.join(format!("f{number}")), noise(number, FILE_BYTES)).unwrap();
    }
    wait_until("a says that its disk can't take everything", || {
        let status = a.volume_status().unwrap_or_default();
        let message = status["message"].as_str().unwrap_or_default();
        if status["state"] == "Failed" && message.contains("couldn't write") { Ok(()) } else { Err(status.to_string()) }
    });
    fs::write(a.place.join("other/beside"), "another volume").unwrap();
    let beside = b.place.join("other/beside");
    wait_until("the other volume goes on", || match fs::read(&beside) {
        Ok(contents) if contents == b"another volume" => Ok(()),
        other => Err(format!("{other:?}")),
    });
    // A restart doesn't take the disk at its word either.
    a.kill();
    a.start();
    promise.keep();
    mesh.converge();
    let (a, b) = mesh.pair();
    for number in 0..FILES {
        let name = format!("f{number}");
        assert!(on_disk(&a.volume.join(&name)) == noise(number, FILE_BYTES), "{name} isn't on the disk");
        assert!(fs::read(b.volume.join(&name)).unwrap() == noise(number, FILE_BYTES), "{name} was changed on b");
    }
    mesh.assert_no_conflicts();
}
